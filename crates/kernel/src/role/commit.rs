//! The kernel role's link to the auditor: bodies go in, and come back when they are durable.
//!
//! Nothing is given up: what a link took with it when it ended goes over the next one. A body may
//! then stand in the log twice, with the same number in its note.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use moat_audit::link::{self, Message};
use moat_audit::record::Body;
use rustix::event::PollFlags;
use rustix::io::Errno;

/// Most records that wait for the auditor at once.
pub(super) const WAITING_MAX: usize = 1024;
/// How much is read at once, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// Pause after the auditor could not write.
const AGAIN: Duration = Duration::from_secs(1);

/// Records on their way. `T` is what the sender wants to know when one is durable.
pub(super) struct Commits<T> {
    link: Option<Link>,
    waiting: VecDeque<Waiting<T>>,
    next_req: u64,
    /// When what was refused is sent again.
    again: Option<Instant>,
}

struct Waiting<T> {
    req_id: u64,
    body: Vec<u8>,
    is_sent: bool,
    what: T,
}

struct Link {
    fd: OwnedFd,
    is_greeted: bool,
    unread: Vec<u8>,
    unsent: Vec<u8>,
}

impl<T> Commits<T> {
    pub(super) fn new() -> Commits<T> {
        Commits { link: None, waiting: VecDeque::new(), next_req: 0, again: None }
    }

    /// Takes a link in place of the one before.
    pub(super) fn attach(&mut self, fd: OwnedFd) -> io::Result<()> {
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?;
        let (unread, unsent) = (Vec::new(), Vec::new());
        self.link = Some(Link { fd, is_greeted: false, unread, unsent });
        self.send_again();
        Ok(())
    }

    /// How many more records may wait.
    pub(super) fn room(&self) -> usize {
        WAITING_MAX.saturating_sub(self.waiting.len())
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a record to be made durable.
    pub(super) fn push(
        &mut self,
        body: &Body,
        what: T,
    ) -> Result<(), moat_audit::record::RecordError> {
        let body = body.encode()?;
        let req_id = self.next_req;
        self.next_req += 1;
        self.waiting.push_back(Waiting { req_id, body, is_sent: false, what });
        Ok(())
    }

    /// What to wait for on the link.
    pub(super) fn poll_fd(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let link = self.link.as_ref()?;
        let mut events = PollFlags::IN;
        events.set(PollFlags::OUT, !link.unsent.is_empty());
        Some((link.fd.as_fd(), events))
    }

    /// Sends and receives as much as goes without waiting; gives what is durable now, oldest
    /// first. A link that ends or speaks otherwise is dropped.
    pub(super) fn turn(&mut self) -> Vec<T> {
        if self.again.is_some_and(|again| again <= Instant::now()) {
            self.send_again();
        }
        let mut done = Vec::new();
        if self.exchange(&mut done).is_err() {
            self.link = None;
            self.send_again();
        }
        done
    }

    fn send_again(&mut self) {
        self.again = None;
        self.waiting.iter_mut().for_each(|waiting| waiting.is_sent = false);
    }

    fn exchange(&mut self, done: &mut Vec<T>) -> io::Result<()> {
        let Some(link) = &mut self.link else { return Ok(()) };
        while link.read()? {
            let mut used = 0;
            while let Some((message, length)) =
                link::decode(link.unread.get(used..).unwrap_or_default()).map_err(invalid)?
            {
                used += length;
                match message {
                    Message::Hello { .. } if !link.is_greeted => link.is_greeted = true,
                    Message::Ack { req_id, .. } => {
                        let at = self.waiting.iter().position(|waiting| waiting.req_id == req_id);
                        done.extend(at.and_then(|at| self.waiting.remove(at)).map(|one| one.what));
                    }
                    Message::Nack { .. } => self.again = Some(Instant::now() + AGAIN),
                    Message::Hello { .. } | Message::Commit { .. } => {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                }
            }
            link.unread.drain(..used);
        }
        if link.is_greeted && self.again.is_none() {
            for waiting in self.waiting.iter_mut().filter(|waiting| !waiting.is_sent) {
                link::push_commit(&mut link.unsent, waiting.req_id, &waiting.body);
                waiting.is_sent = true;
            }
        }
        link.flush()
    }
}

fn invalid(error: link::LinkError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Link {
    /// Reads what is there; whether there was anything.
    fn read(&mut self) -> io::Result<bool> {
        self.unread.reserve(READ_BYTES);
        match rustix::io::read(&self.fd, rustix::buffer::spare_capacity(&mut self.unread)) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match rustix::io::write(&self.fd, &self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn body(note: &str) -> Body {
        Body::admin(note)
    }

    fn link_of(commits: &mut Commits<u32>) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        commits.attach(ours.into()).unwrap();
        theirs
    }

    fn greet(peer: &mut UnixStream) {
        let zeros = [0; 32];
        let key = moat_audit::anchor::AnchorKey::new("none", zeros.into()).unwrap();
        let mut bytes = Vec::new();
        link::push_hello(&mut bytes, "log", &key);
        peer.write_all(&bytes).unwrap();
    }

    /// The request ids that have come.
    fn commits_at(peer: &mut UnixStream) -> Vec<u64> {
        peer.set_nonblocking(true).unwrap();
        let mut bytes = Vec::new();
        let _ = peer.read_to_end(&mut bytes);
        let (mut ids, mut used) = (Vec::new(), 0);
        while let Ok(Some((Message::Commit { req_id, .. }, length))) = link::decode(&bytes[used..])
        {
            ids.push(req_id);
            used += length;
        }
        ids
    }

    fn ack(peer: &mut UnixStream, req_id: u64) {
        let ack = link::Ack { seq: 1, leaf_hash: [0; 32], t_wall_ns: 1 };
        let mut bytes = Vec::new();
        link::push_ack(&mut bytes, req_id, &ack);
        peer.write_all(&bytes).unwrap();
    }

    #[test]
    fn nothing_is_sent_before_the_greeting_and_an_ack_gives_back_what_was_asked_for() {
        let mut commits = Commits::new();
        commits.push(&body("one"), 1).unwrap();
        commits.push(&body("two"), 2).unwrap();
        assert!(commits.turn().is_empty(), "no link");
        let mut peer = link_of(&mut commits);
        assert!(commits.turn().is_empty());
        assert!(commits_at(&mut peer).is_empty());
        greet(&mut peer);
        commits.turn();
        assert_eq!(commits_at(&mut peer), [0, 1]);
        ack(&mut peer, 1);
        assert_eq!(commits.turn(), [2]);
        assert_eq!((commits.waiting(), commits.room()), (1, WAITING_MAX - 1));
    }

    #[test]
    fn what_a_link_took_with_it_goes_over_the_next() {
        let mut commits = Commits::new();
        let mut peer = link_of(&mut commits);
        greet(&mut peer);
        commits.push(&body("one"), 1).unwrap();
        commits.turn();
        assert_eq!(commits_at(&mut peer), [0]);
        drop(peer);
        commits.turn();
        let mut peer = link_of(&mut commits);
        greet(&mut peer);
        commits.turn();
        assert_eq!(commits_at(&mut peer), [0]);
        ack(&mut peer, 0);
        assert_eq!(commits.turn(), [1]);
    }

    #[test]
    fn a_full_disk_is_tried_again_after_a_pause() {
        let mut commits = Commits::new();
        let mut peer = link_of(&mut commits);
        greet(&mut peer);
        commits.push(&body("one"), 1).unwrap();
        commits.turn();
        commits_at(&mut peer);
        let mut bytes = Vec::new();
        link::push_nack(&mut bytes, 0, link::Nack::DiskFull);
        peer.write_all(&bytes).unwrap();
        commits.turn();
        commits.turn();
        assert!(commits_at(&mut peer).is_empty(), "not at once");
        commits.again = Some(Instant::now());
        commits.turn();
        assert_eq!(commits_at(&mut peer), [0]);
    }
}
