//! One gateway worker's link: bytes in, checked bodies; acks, bytes out. Never blocks.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use moat_audit::anchor::AnchorKey;
use moat_audit::link::{self, Ack, Message, Nack};
use moat_audit::record::{Body, Kind};

/// How much is read at once, in bytes.
const READ_BYTES: usize = 256 * 1024;
/// When no more is read from a link before something was committed, in bytes.
const HELD_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Most bytes of acks that may wait for their reader, in bytes. A recorder with as many commits
/// in flight as it may have never needs half of it.
const UNSENT_BYTES_MAX: usize = 1024 * 1024;

const _: () = assert!(moat_model::limit::LINK_IN_FLIGHT_MAX * 64 * 2 < UNSENT_BYTES_MAX);

/// A body that waits to be committed.
pub(crate) struct Waiting {
    req_id: u64,
    body: Range<usize>,
}

/// One link.
pub(crate) struct Link {
    fd: OwnedFd,
    /// Which worker is at the other end.
    pub(crate) worker: u64,
    held: Vec<u8>,
    parsed: usize,
    waiting: Vec<Waiting>,
    unsent: Vec<u8>,
    /// INTENTs of this link, those with an outcome among them until they are next looked through.
    intents: Vec<u64>,
}

impl Link {
    /// Takes over a socket and greets.
    pub(crate) fn new(fd: OwnedFd, worker: u64, log_id: &str, key: &AnchorKey) -> io::Result<Link> {
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?;
        let (held, waiting, mut unsent) = (Vec::new(), Vec::new(), Vec::new());
        link::push_hello(&mut unsent, log_id, key);
        let mut link = Link { fd, worker, held, parsed: 0, waiting, unsent, intents: Vec::new() };
        link.flush()?;
        Ok(link)
    }

    /// Whether more may be read.
    pub(crate) fn has_room(&self) -> bool {
        self.held.len() < HELD_BYTES_MAX
    }

    /// Whether acks wait to be sent.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// How many bodies wait to be committed.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Reads what is there and checks each body that is whole. Gives whether there was anything.
    /// `refusing`: why nothing new may begin, if it may not.
    pub(crate) fn read(&mut self, refusing: Option<Nack>) -> io::Result<bool> {
        self.held.reserve(READ_BYTES);
        let free = rustix::buffer::spare_capacity(&mut self.held);
        match rustix::io::read(&self.fd, free) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        self.parse(refusing).map(|()| true)
    }

    /// Reads what came before the end of a link that is given up, as far as there is room.
    pub(crate) fn read_rest(&mut self) {
        while self.has_room() && matches!(self.read(None), Ok(true)) {}
    }

    fn parse(&mut self, refusing: Option<Nack>) -> io::Result<()> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        while let Some((message, len)) =
            link::decode(self.held.get(self.parsed..).unwrap_or_default()).map_err(invalid)?
        {
            let Message::Commit { req_id, body } = message else {
                return Err(invalid(link::LinkError::Malformed));
            };
            let end = self.parsed + len;
            let refused = match (Body::decode(body), refusing) {
                (Err(_), _) => Some(Nack::Malformed),
                (Ok(body), Some(reason)) if begins(&body) => Some(reason),
                (Ok(_), _) => None,
            };
            match refused {
                None => self.waiting.push(Waiting { req_id, body: end - body.len()..end }),
                Some(reason) => link::push_nack(&mut self.unsent, req_id, reason),
            }
            self.parsed = end;
        }
        if self.waiting.is_empty() {
            self.forget(self.parsed);
        }
        Ok(())
    }

    /// The bodies that wait, oldest first.
    pub(crate) fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        self.waiting.iter().map(|one| self.held.get(one.body.clone()).unwrap_or_default())
    }

    /// Answers the oldest `answers.len()` bodies.
    pub(crate) fn answer(&mut self, answers: &[Result<Ack, Nack>]) -> io::Result<()> {
        let mut done = 0;
        for (waiting, answer) in
            self.waiting.drain(..answers.len().min(self.waiting.len())).zip(answers)
        {
            match answer {
                Ok(ack) => link::push_ack(&mut self.unsent, waiting.req_id, ack),
                Err(reason) => link::push_nack(&mut self.unsent, waiting.req_id, *reason),
            }
            done = waiting.body.end;
        }
        self.forget(if self.waiting.is_empty() { self.parsed } else { done });
        self.flush()
    }

    /// Notes an INTENT. `is_open` says of any whether it still has no outcome: what has one is
    /// forgotten now and then, so that no more is kept than twice what was open at once.
    pub(crate) fn note_intent(&mut self, seq: u64, is_open: impl Fn(u64) -> bool) {
        if self.intents.len() == self.intents.capacity() {
            self.intents.retain(|seq| is_open(*seq));
            self.intents.reserve(self.intents.len().max(64));
        }
        self.intents.push(seq);
    }

    /// The INTENTs of this link that are left when it ends.
    pub(crate) fn into_intents(self) -> Vec<u64> {
        self.intents
    }

    /// Drops the first `len` bytes held.
    fn forget(&mut self, len: usize) {
        self.held.drain(..len.min(self.held.len()));
        self.parsed -= len;
        for waiting in &mut self.waiting {
            waiting.body = waiting.body.start - len..waiting.body.end - len;
        }
    }

    /// Sends what the peer takes now. One that does not read its acks is given up.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let flags = rustix::net::SendFlags::NOSIGNAL | rustix::net::SendFlags::DONTWAIT;
            match rustix::io::retry_on_intr(|| rustix::net::send(&self.fd, &self.unsent, flags)) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(rustix::io::Errno::AGAIN) if self.unsent.len() <= UNSENT_BYTES_MAX => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Whether a record begins an exchange or lets one out that has no record yet. What has begun is
/// recorded to its end, and so is every refusal.
fn begins(body: &Body) -> bool {
    match body.kind {
        Kind::Intent => true,
        Kind::Read => body.parent_seq.is_none(),
        _ => false,
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
