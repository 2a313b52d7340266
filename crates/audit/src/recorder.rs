//! The gateway's side of the log: a body goes in, a [`Receipt`] comes out once it is durable.
//!
//! One recorder per worker thread, not `Send`: no lock and no channel between threads. It writes
//! no file and decides nothing; without an auditor it refuses, and never keeps a record back to be
//! written later.
//!
//! A [`Receipt`] can be made here only, so a function that asks for one cannot be called before
//! the record is durable:
//!
//! ```compile_fail,E0451
//! let forged = moat_audit::recorder::Receipt { seq: 0, leaf_hash: [0; 32], t_wall_ns: 0 };
//! ```

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use moat_model::limit::LINK_IN_FLIGHT_MAX;
use moat_model::{Code, Refusal, Stage, code::audit as codes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use zeroize::{Zeroize as _, Zeroizing};

use crate::anchor::AnchorKey;
use crate::hash::Hash;
use crate::link::{self, Ack, LinkError, Message, Nack};
use crate::record::{Body, RecordError};

/// Most bytes that may wait to be written to the auditor, in bytes.
pub const QUEUED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How often the writer lets others go first, and how many bytes are enough to write at once.
const GATHER_ROUNDS_MAX: usize = 16;
const GATHER_BYTES: usize = 128 * 1024;
/// How much is read from the link at once, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// Room for one message that has come in part and for one read, in bytes. It never grows, so no
/// copy of a key stays behind in a buffer that was given back.
const UNREAD_BYTES_MAX: usize = 4 + link::MESSAGE_BYTES_MAX + READ_BYTES;

/// How often it is looked whether all commits on a link that is held have their answers.
const HOLD_LOOK: Duration = Duration::from_millis(1);

/// Proof that a record is durable. Has no public constructor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    seq: u64,
    leaf_hash: Hash,
    t_wall_ns: u64,
}

impl Receipt {
    fn from_ack(ack: Ack) -> Receipt {
        Receipt { seq: ack.seq, leaf_hash: ack.leaf_hash, t_wall_ns: ack.t_wall_ns }
    }

    /// Index of the record in the log.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Leaf hash of the record.
    #[must_use]
    pub fn leaf_hash(&self) -> &Hash {
        &self.leaf_hash
    }

    /// The time in the record, in nanoseconds of UTC.
    #[must_use]
    pub fn t_wall_ns(&self) -> u64 {
        self.t_wall_ns
    }
}

type Answer = Result<Receipt, &'static Code>;

/// What the last hello said. Kept when the link goes down, so that bodies can still be made.
struct Greeting {
    log_id: Rc<str>,
    anchors: Arc<AnchorKey>,
}

#[derive(Default)]
struct State {
    /// Counts links, so that the end of an old one does not take down a new one.
    generation: u64,
    pump: Option<AbortHandle>,
    is_up: bool,
    /// Commits wait for the next link.
    is_held: bool,
    greeting: Option<Greeting>,
    waiting: Waiting,
    queued: Vec<u8>,
}

/// Who waits for an answer. Requests are numbered in their order and answered nearly so.
#[derive(Default)]
struct Waiting {
    /// The number of the first place.
    first: u64,
    places: VecDeque<Option<oneshot::Sender<Answer>>>,
    taken: usize,
}

impl Waiting {
    /// Gives the number, and what the answer comes over; none where too many wait.
    fn push(&mut self) -> Option<(u64, oneshot::Receiver<Answer>)> {
        if self.places.len() >= LINK_IN_FLIGHT_MAX {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let req_id = self.first + u64::try_from(self.places.len()).unwrap_or(u64::MAX);
        self.places.push_back(Some(sender));
        self.taken += 1;
        Some((req_id, receiver))
    }

    fn take(&mut self, req_id: u64) -> Option<oneshot::Sender<Answer>> {
        let at = usize::try_from(req_id.checked_sub(self.first)?).ok()?;
        let sender = self.places.get_mut(at)?.take()?;
        self.taken -= 1;
        while let Some(None) = self.places.front() {
            self.places.pop_front();
            self.first += 1;
        }
        Some(sender)
    }

    /// Nobody is answered, and no number comes again.
    fn clear(&mut self) {
        self.first += u64::try_from(self.places.len()).unwrap_or(u64::MAX);
        self.places.clear();
        self.taken = 0;
    }
}

#[derive(Default)]
struct Shared {
    state: RefCell<State>,
    /// Something was queued for the pump.
    queued: Notify,
    /// A buffer for the next body.
    spare: Cell<Vec<u8>>,
    /// A link came up.
    up: Notify,
}

/// The recorder of one worker. Clones are the same recorder.
#[derive(Clone, Default)]
pub struct Recorder {
    shared: Rc<Shared>,
}

impl Recorder {
    /// A recorder without a link: commits wait for one until their deadline.
    #[must_use]
    pub fn new() -> Recorder {
        Recorder::default()
    }

    /// Takes a link to the auditor in place of the one before; what waited there fails with
    /// `AUDITOR_AWAY`. The link is up when the auditor's hello has come.
    ///
    /// Must be called within a `LocalSet`: the link is served by a local task.
    pub fn attach(&self, stream: UnixStream) {
        let generation = {
            let mut state = self.shared.state.borrow_mut();
            state.generation += 1;
            if let Some(pump) = state.pump.take() {
                pump.abort();
            }
            state.take_down();
            state.is_held = false;
            state.generation
        };
        let shared = Rc::clone(&self.shared);
        let task = tokio::task::spawn_local(async move {
            // Whatever ended the link, the supervisor will hand over another or end this process.
            let _: io::Result<()> = pump(&shared, stream).await;
            let mut state = shared.state.borrow_mut();
            if state.generation == generation {
                state.take_down();
            }
        });
        self.shared.state.borrow_mut().pump = Some(task.abort_handle());
    }

    /// Makes one record durable.
    ///
    /// If the future is dropped or the deadline passes the record may still become durable; it
    /// then stands in the log and remains true.
    ///
    /// # Errors
    /// A refusal at [`Stage::Record`]: no auditor, deadline passed, queue full, disk full, write
    /// failed, or a body that is none.
    pub fn commit<'a>(
        &'a self,
        body: &Body,
        deadline: Duration,
    ) -> impl Future<Output = Result<Receipt, Refusal>> + use<'a> {
        self.commit_unless(body, tokio::time::sleep(deadline))
    }

    /// The same, with the deadline as a future that ends then. It is asked only while nothing else
    /// has come, so it may be one that many use in turn.
    ///
    /// # Errors
    /// As [`Recorder::commit`].
    pub fn commit_unless<'a, L: Future<Output = ()>>(
        &'a self,
        body: &Body,
        late: L,
    ) -> impl Future<Output = Result<Receipt, Refusal>> + use<'a, L> {
        // Encoded now, so that the future holds the bytes and not the body too.
        let buffer = self.shared.spare.take();
        let encoded = body.encode_within(buffer).map_err(|error| refuse_body(&error));
        async move { self.commit_encoded(encoded?, late).await }
    }

    async fn commit_encoded(
        &self,
        body: Vec<u8>,
        late: impl Future<Output = ()>,
    ) -> Result<Receipt, Refusal> {
        let queued = Cell::new(false);
        let answer = async {
            self.wait_until_up().await;
            let answer = self.queue(&body)?;
            self.shared.spare.set(body);
            queued.set(true);
            // A sender dropped without an answer means that its link went down.
            answer.await.unwrap_or(Err(&codes::AUDITOR_AWAY))
        };
        let (mut answer, mut late) = (pin!(answer), pin!(late));
        let answered = poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => late.as_mut().poll(cx).map(|()| None),
        })
        .await;
        let code = if queued.get() { &codes::COMMIT_DEADLINE } else { &codes::AUDITOR_AWAY };
        answered.unwrap_or(Err(code)).map_err(|code| Refusal::new(Stage::Record, code))
    }

    /// Lets new commits wait for the next link, and gives whether all that were begun on this one
    /// have their answers within `most`. So an auditor can follow another and no call notices.
    pub async fn hold(&self, most: Duration) -> bool {
        self.shared.state.borrow_mut().is_held = true;
        let answered = async {
            while self.in_flight() > 0 {
                tokio::time::sleep(HOLD_LOOK).await;
            }
        };
        tokio::time::timeout(most, answered).await.is_ok()
    }

    fn takes(&self) -> bool {
        let state = self.shared.state.borrow();
        state.is_up && !state.is_held
    }

    /// Waits until a link is up. Has no deadline of its own.
    pub async fn wait_until_up(&self) {
        loop {
            if self.takes() {
                return;
            }
            let up = self.shared.up.notified();
            up.await;
        }
    }

    fn queue(&self, body: &[u8]) -> Result<oneshot::Receiver<Answer>, &'static Code> {
        let mut state = self.shared.state.borrow_mut();
        if state.queued.len() >= QUEUED_BYTES_MAX {
            return Err(&codes::QUEUE_FULL);
        }
        let (req_id, receiver) = state.waiting.push().ok_or(&codes::QUEUE_FULL)?;
        link::push_commit(&mut state.queued, req_id, body);
        self.shared.queued.notify_one();
        Ok(receiver)
    }

    /// The anchor key, once an auditor has handed it over; kept while the link is down.
    #[must_use]
    pub fn anchors(&self) -> Option<Arc<AnchorKey>> {
        self.shared.state.borrow().greeting.as_ref().map(|said| Arc::clone(&said.anchors))
    }

    /// The id of the log that is written.
    #[must_use]
    pub fn log_id(&self) -> Option<Rc<str>> {
        self.shared.state.borrow().greeting.as_ref().map(|said| Rc::clone(&said.log_id))
    }

    /// Whether a link is up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.shared.state.borrow().is_up
    }

    /// How many records wait for their receipts.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.state.borrow().waiting.taken
    }
}

impl State {
    /// Fails whatever waits: dropping a sender is its answer.
    fn take_down(&mut self) {
        self.is_up = false;
        self.waiting.clear();
        self.queued.clear();
    }

    fn answer(&mut self, req_id: u64, answer: Answer) {
        if let Some(sender) = self.waiting.take(req_id) {
            // The one who asked may have gone at its deadline.
            let _: Result<(), Answer> = sender.send(answer);
        }
    }

    fn take(&mut self, message: Message<'_>) -> Result<bool, LinkError> {
        match message {
            Message::Hello { log_id, key_id, key } if !self.is_up => {
                let key = AnchorKey::new(key_id, Zeroizing::new(*key));
                let anchors = Arc::new(key.ok_or(LinkError::Malformed)?);
                self.greeting = Some(Greeting { log_id: log_id.into(), anchors });
                self.is_up = true;
                return Ok(true);
            }
            Message::Ack { req_id, ack } => self.answer(req_id, Ok(Receipt::from_ack(ack))),
            Message::Nack { req_id, reason } => self.answer(req_id, Err(nack_code(reason))),
            Message::Hello { .. } | Message::Commit { .. } => return Err(LinkError::Malformed),
        }
        Ok(false)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // The pump holds the other reference; it must not outlive the last recorder.
        if Rc::strong_count(&self.shared) <= 2
            && let Some(pump) = self.shared.state.borrow_mut().pump.take()
        {
            pump.abort();
        }
    }
}

/// Serves one link until it ends.
async fn pump(shared: &Shared, stream: UnixStream) -> io::Result<()> {
    let (reader, writer) = stream.into_split();
    tokio::select! {
        ended = read_answers(shared, reader) => ended,
        ended = write_commits(shared, writer) => ended,
    }
}

/// Lets the other tasks of the worker run for as long as they queue more: what is written together
/// is committed together, and wakes the auditor once.
async fn gather(shared: &Shared) {
    let mut before = 0;
    for _ in 0..GATHER_ROUNDS_MAX {
        let queued = shared.state.borrow().queued.len();
        if queued == before || queued >= GATHER_BYTES {
            return;
        }
        before = queued;
        tokio::task::yield_now().await;
    }
}

/// One write takes all that was queued since the last.
async fn write_commits(shared: &Shared, mut writer: OwnedWriteHalf) -> io::Result<()> {
    let mut writing: Vec<u8> = Vec::new();
    loop {
        gather(shared).await;
        std::mem::swap(&mut writing, &mut shared.state.borrow_mut().queued);
        if writing.is_empty() {
            shared.queued.notified().await;
        } else {
            writer.write_all(&writing).await?;
            writing.clear();
        }
    }
}

/// Gives each answer to whom it belongs.
async fn read_answers(shared: &Shared, mut reader: OwnedReadHalf) -> io::Result<()> {
    // Wiped however this ends: a hello carries a key.
    let mut unread = Zeroizing::new(Vec::with_capacity(UNREAD_BYTES_MAX));
    loop {
        if reader.read_buf(&mut *unread).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut used = 0;
        let mut state = shared.state.borrow_mut();
        while let Some((message, len)) =
            link::decode(unread.get(used..).unwrap_or_default()).map_err(invalid)?
        {
            used += len;
            if state.take(message).map_err(invalid)? {
                shared.up.notify_waiters();
            }
        }
        forget(&mut unread, used);
    }
}

/// Drops the first `used` bytes and leaves no copy of them behind.
fn forget(unread: &mut Vec<u8>, used: usize) {
    let left = unread.len().saturating_sub(used);
    unread.copy_within(used.., 0);
    unread.get_mut(left..).unwrap_or_default().zeroize();
    unread.truncate(left);
}

fn invalid(error: LinkError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn nack_code(reason: Nack) -> &'static Code {
    match reason {
        Nack::DiskFull => &codes::DISK_FULL,
        Nack::WriteFailed => &codes::WRITE_FAILED,
        Nack::Malformed => &codes::BAD_RECORD,
        Nack::Stopping => &codes::AUDITOR_AWAY,
        Nack::Unwitnessed => &codes::UNWITNESSED,
        Nack::Frozen => &codes::FROZEN,
    }
}

fn refuse_body(error: &RecordError) -> Refusal {
    let too_long =
        matches!(error, RecordError::TooLong | RecordError::Tlv(crate::TlvError::TooLong(_)));
    let code = if too_long { &codes::LEAF_TOO_LONG } else { &codes::BAD_RECORD };
    Refusal::new(Stage::Record, code).because(error)
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;
