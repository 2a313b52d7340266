//! The thread that has checkpoints witnessed: asks through the courier, keeps what comes back.
//!
//! Behind the notary, as the notary is behind the log: no ack waits for it. What must wait is said
//! by [`Herald::refusing`]: once records have gone unwitnessed for longer than configured, nothing
//! new may begin. The courier is not believed: each cosignature is verified here.

mod inbox;
mod rounds;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use moat_audit::fs::{RealFs, TreeFs as _};
use moat_audit::store::read_file;
use moat_audit::tiles::{Stored, WITNESSED_FILE};
use moat_model::Clock;
use moat_model::code::audit as codes;
use moat_net::carriage::{self, ASK_BYTES_MAX, Ask, Got};
use moat_net::control::Channel;
use moat_tlog::checkpoint::SignedCheckpoint;
use moat_tlog::note::NOTE_BYTES_MAX;
use moat_tlog::policy::Policy;
use moat_tlog::sign::AwsLc;
use moat_tlog::tree::Tree;
use moat_tlog::{Hash, Sha256};
use serde_json::{Value, json};

pub use inbox::{INBOX, SUFFIX as INBOX_SUFFIX};
use rounds::Rounds;

/// How many signed sizes are remembered with the time at which they were signed.
const MARKS_MAX: usize = 4_096;
/// Most answers that wait for the thread; each witness owes at most one.
const ANSWERS_MAX: usize = 64;
/// How often the inbox is looked at, in nanoseconds.
const INBOX_EVERY_NS: u64 = 1_000_000_000;
/// How long the last checkpoint may take to be witnessed when the auditor stops, in nanoseconds.
const STOP_NS_MAX: u64 = 2_000_000_000;

/// Whom to ask, and how long records may go unwitnessed.
#[derive(Clone)]
pub struct Witnessing {
    /// Witnesses and their quorum; what it says of logs is not looked at.
    pub policy: Policy,
    /// How long the oldest record may be unwitnessed before nothing new may begin, in milliseconds.
    pub unwitnessed_ms_max: u64,
}

/// The thread, as the auditor's loop and the notary have it.
pub(crate) struct Herald {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    bound_ns: u64,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    /// A checkpoint that the thread has not taken yet.
    offered: Option<SignedCheckpoint>,
    courier: Option<Arc<Channel>>,
    /// Counts couriers, so that the end of an old one is not taken for that of the new.
    couriers: u64,
    is_courier_lost: bool,
    answers: VecDeque<Got>,
    /// Sizes that were signed, and when, oldest first.
    marks: VecDeque<(u64, u64)>,
    /// How many records are durable.
    end: u64,
    /// How many a quorum has confirmed.
    witnessed: u64,
    /// When the oldest record that is not witnessed became durable, or a little before.
    since_ns: Option<u64>,
    is_cleared: bool,
    rolled_back: Option<(u64, String)>,
    is_disputed: bool,
    witnesses: Value,
    trouble: Option<String>,
    stopped_ns: Option<u64>,
}

impl State {
    /// A quorum has confirmed so many records.
    fn confirm(&mut self, size: u64) {
        if size <= self.witnessed {
            return;
        }
        self.witnessed = size;
        let at = self.marks.iter().rev().find(|(signed, _)| *signed <= size).map(|(_, at)| *at);
        self.since_ns = if self.end > size { at.or(self.since_ns) } else { None };
        self.marks.retain(|(signed, _)| *signed >= size);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in there is left half done by a panic that would matter.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Herald {
    /// Starts the thread behind a log of so many durable records.
    ///
    /// # Errors
    /// When the folder cannot be read, or the system has no thread left.
    pub(crate) fn start(
        witnessing: Witnessing,
        origin: &str,
        fs: RealFs,
        inbox: RealFs,
        clock: Arc<dyn Clock>,
        records: u64,
    ) -> io::Result<Herald> {
        let Witnessing { policy, unwitnessed_ms_max } = witnessing;
        let before = last_witnessed(&fs, &policy, origin)?;
        let shared = Arc::new(Shared::default());
        {
            let mut state = shared.lock();
            (state.end, state.witnessed) = (records, before.min(records));
            state.since_ns = (records > state.witnessed).then(|| clock.mono_ns());
        }
        let rounds = Rounds::new(policy.clone(), before);
        let origin = origin.to_owned();
        let (shared2, clock2) = (Arc::clone(&shared), Arc::clone(&clock));
        let mut work = Work { fs, inbox, policy, origin, rounds, clock: clock2, inbox_ns: 0 };
        let thread = std::thread::Builder::new().spawn(move || work.run(&shared2))?;
        let bound_ns = unwitnessed_ms_max.saturating_mul(1_000_000);
        Ok(Herald { shared, clock, bound_ns, thread: Mutex::new(Some(thread)) })
    }

    /// Takes over the channel to a new courier.
    pub(crate) fn take_courier(&self, channel: Channel) -> io::Result<()> {
        let channel = Arc::new(channel);
        let number = {
            let mut state = self.shared.lock();
            state.couriers += 1;
            state.courier = Some(Arc::clone(&channel));
            state.is_courier_lost = true;
            state.couriers
        };
        let shared = Arc::clone(&self.shared);
        std::thread::Builder::new().spawn(move || hear_courier(&channel, number, &shared))?;
        self.shared.wake.notify_one();
        Ok(())
    }

    /// A checkpoint that the log has signed over records that were durable at `at_ns`.
    pub(crate) fn offer(&self, signed: SignedCheckpoint, at_ns: u64) {
        let mut state = self.shared.lock();
        let size = signed.checkpoint().size();
        if state.marks.back().is_none_or(|(last, _)| *last < size) {
            if state.marks.len() >= MARKS_MAX {
                state.marks.pop_front();
            }
            state.marks.push_back((size, at_ns));
        }
        state.offered = Some(signed);
        drop(state);
        self.shared.wake.notify_one();
    }

    /// So many records are durable now.
    pub(crate) fn grow(&self, end: u64) {
        let mut state = self.shared.lock();
        if end > state.end {
            state.end = end;
            state.since_ns = state.since_ns.or_else(|| Some(self.clock.mono_ns()));
        }
    }

    /// Whether records have been unwitnessed for too long.
    pub(crate) fn is_overdue(&self) -> bool {
        let since_ns = self.shared.lock().since_ns;
        since_ns
            .is_some_and(|since_ns| self.clock.mono_ns().saturating_sub(since_ns) > self.bound_ns)
    }

    /// Whether the log may be signed, as far as witnesses have been heard; an error if it never
    /// may: how many records they know of, and who.
    pub(crate) fn may_sign(&self) -> Result<bool, (u64, String)> {
        let state = self.shared.lock();
        match &state.rolled_back {
            Some(why) => Err(why.clone()),
            None => Ok(state.is_cleared),
        }
    }

    /// How witnessing stands, for the status.
    pub(crate) fn status(&self) -> Value {
        let is_overdue = self.is_overdue();
        let state = self.shared.lock();
        let (name, code) = match &*state {
            State { rolled_back: Some(_), .. } => ("refused", Some(&codes::NOT_SIGNED_AGAIN)),
            _ if is_overdue => ("overdue", Some(&codes::UNWITNESSED)),
            State { is_disputed: true, .. } => ("disputed", Some(&codes::WITNESS_DISAGREES)),
            State { end, witnessed, .. } if end > witnessed => ("behind", None),
            _ => ("witnessed", None),
        };
        let since = state.since_ns.map(|since_ns| self.clock.mono_ns().saturating_sub(since_ns));
        let mut status = json!({
            "state": name,
            "size": state.witnessed,
            "unwitnessed": state.end.saturating_sub(state.witnessed),
            "unwitnessed_ms": since.unwrap_or(0) / 1_000_000,
            "witnesses": state.witnesses.clone(),
        });
        if let Some(map) = status.as_object_mut() {
            map.extend(code.map(|code| ("code".to_owned(), code.id.into())));
            map.extend(state.trouble.clone().map(|why| ("why".to_owned(), why.into())));
        }
        status
    }

    /// Has the last checkpoint witnessed, if that is quick, and ends the thread.
    pub(crate) fn stop(&self) {
        self.shared.lock().stopped_ns = Some(self.clock.mono_ns());
        self.shared.wake.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic in it has been told by the panic itself.
            let _: Result<(), _> = thread.join();
        }
    }
}

/// Of how many records the kept checkpoint has a quorum, by the policy as it is now.
fn last_witnessed(fs: &RealFs, policy: &Policy, origin: &str) -> io::Result<u64> {
    let Some(bytes) = read_file(fs, WITNESSED_FILE, NOTE_BYTES_MAX + 1)? else { return Ok(0) };
    // One that is none counts as none: it will be replaced by a better one.
    let signed = SignedCheckpoint::parse(&bytes).ok();
    let signed = signed.filter(|signed| signed.checkpoint().origin() == origin);
    let signed = signed.filter(|signed| policy.witnessed(signed, &AwsLc).is_ok());
    Ok(signed.map_or(0, |signed| signed.checkpoint().size()))
}

/// Reads the answers of one courier until it ends.
fn hear_courier(channel: &Channel, number: u64, shared: &Shared) {
    loop {
        let got = carriage::receive::<Got>(channel);
        let mut state = shared.lock();
        if state.couriers != number {
            return;
        }
        match got {
            Ok(Some(got)) if state.answers.len() < ANSWERS_MAX => state.answers.push_back(got),
            // Ended, speaks otherwise, or answers what it was not asked.
            _ => {
                (state.courier, state.is_courier_lost) = (None, true);
                drop(state);
                shared.wake.notify_one();
                return;
            }
        }
        drop(state);
        shared.wake.notify_one();
    }
}

/// What the thread works with.
struct Work {
    fs: RealFs,
    inbox: RealFs,
    policy: Policy,
    origin: String,
    rounds: Rounds,
    clock: Arc<dyn Clock>,
    /// When the inbox was last looked at.
    inbox_ns: u64,
}

/// What was taken from the others.
struct Taken {
    courier: Option<Arc<Channel>>,
    is_courier_lost: bool,
    answers: VecDeque<Got>,
    offered: Option<SignedCheckpoint>,
}

impl Work {
    fn run(&mut self, shared: &Shared) {
        while let Some(taken) = self.wait(shared) {
            self.turn(taken, shared);
        }
    }

    /// Waits until there is something to do; `None` at the end.
    fn wait(&self, shared: &Shared) -> Option<Taken> {
        let mut state = shared.lock();
        loop {
            let now_ns = self.clock.mono_ns();
            if let Some(stopped_ns) = state.stopped_ns {
                let is_done = state.end <= state.witnessed || state.courier.is_none();
                if is_done || now_ns.saturating_sub(stopped_ns) > STOP_NS_MAX {
                    return None;
                }
            }
            let has_news =
                state.is_courier_lost || !state.answers.is_empty() || state.offered.is_some();
            let rounds_ns = self.rounds.due_ns().filter(|_| state.courier.is_some());
            let due_ns = self.inbox_ns.saturating_add(INBOX_EVERY_NS);
            let due_ns = rounds_ns.map_or(due_ns, |rounds_ns| rounds_ns.min(due_ns));
            if has_news || due_ns <= now_ns {
                return Some(Taken {
                    courier: state.courier.clone(),
                    is_courier_lost: std::mem::take(&mut state.is_courier_lost),
                    answers: std::mem::take(&mut state.answers),
                    offered: state.offered.take(),
                });
            }
            // Never zero, so that a question that cannot be sent is no busy loop.
            let rest = Duration::from_nanos((due_ns - now_ns).max(1_000_000));
            state = shared.wake.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn turn(&mut self, taken: Taken, shared: &Shared) {
        let now_ns = self.clock.mono_ns();
        if taken.is_courier_lost {
            self.rounds.lose_courier(now_ns);
        }
        let mut is_more = false;
        for got in &taken.answers {
            is_more |= self.rounds.hear(got, now_ns);
        }
        if let Some(signed) = taken.offered {
            self.rounds.offer(signed);
        }
        let mut trouble = None;
        if is_more && let Some(witnessed) = self.rounds.witnessed().cloned() {
            trouble = self.keep(&witnessed, shared).err().map(|error| error.to_string());
        }
        if now_ns.saturating_sub(self.inbox_ns) >= INBOX_EVERY_NS {
            self.inbox_ns = now_ns;
            let read = self.read_inbox(shared);
            trouble = trouble.or(read.err().map(|error| format!("inbox: {error}")));
        }
        if let Some(courier) = taken.courier {
            let fs = &self.fs;
            for ask in self.rounds.ask(now_ns, |old, size| prove(fs, old, size)) {
                send(&courier, &ask);
            }
        }
        let mut state = shared.lock();
        state.is_cleared = self.rounds.is_cleared();
        state.rolled_back = self.rounds.rolled_back();
        state.is_disputed = self.rounds.is_disputed();
        state.witnesses = self.rounds.status();
        state.trouble = trouble;
    }

    /// Keeps a checkpoint that has its quorum.
    fn keep(&self, signed: &SignedCheckpoint, shared: &Shared) -> io::Result<()> {
        // The same size may come again, with more cosignatures.
        if signed.checkpoint().size() < shared.lock().witnessed {
            return Ok(());
        }
        self.fs.replace(WITNESSED_FILE, signed.to_string().as_bytes())?;
        shared.lock().confirm(signed.checkpoint().size());
        Ok(())
    }
}

/// One that cannot be sent gets no answer, and that is seen.
fn send(courier: &Channel, ask: &Ask) {
    if ask.body.len() <= ASK_BYTES_MAX {
        let _: io::Result<()> = carriage::send(courier, ask);
    }
}

/// The consistency proof between two sizes, from the tiles on the disk.
fn prove(fs: &RealFs, old: u64, size: u64) -> Option<Vec<Hash>> {
    // tlog-witness: no proof from nothing, and none between equal trees.
    if old == 0 || old == size {
        return Some(Vec::new());
    }
    Tree::<Sha256, _>::new(size, Stored::new(fs, size)).ok()?.consistency(old).ok()
}
