//! The thread that builds the tree behind the log and signs its checkpoints.
//!
//! A thread of its own, because its files are synced one by one and no ack may wait for that. It
//! takes leaf hashes from a bounded queue; when that overflows it reads the segments instead. What
//! goes wrong here never stops a record: it shows in the status and as a log that is not signed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use moat_audit::fs::RealFs;
use moat_audit::hash::Hash;
use moat_audit::tiles::LogHash as _;
use moat_audit::tree::{LogTree, TreeError};
use moat_model::Clock;
use moat_tlog::Sm3;
use moat_tlog::sign::{Renamed, Signer};
use serde_json::{Value, json};

use crate::keys::LogSigner;
use crate::witness::Herald;

/// Most leaf hashes that wait for the thread: 8 MiB.
const QUEUE_HASHES_MAX: usize = 262_144;
/// How many records make a checkpoint due before its time.
const CHECKPOINT_RECORDS: usize = 10_000;
/// How long the last checkpoint may take when the auditor stops, in nanoseconds. What is not signed
/// by then is signed after the next start.
const STOP_NS_MAX: u64 = 3_000_000_000;

/// The thread, as the auditor's loop has it.
pub(crate) struct Notary {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    herald: Option<Arc<Herald>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// When it was told to stop; 0 while it was not.
    stopped_ns: AtomicU64,
}

#[derive(Default)]
struct Queue {
    /// Seq of the first hash.
    first: u64,
    hashes: Vec<Hash>,
    /// How many records are durable.
    end: u64,
    status: Status,
}

/// How signing stands.
#[derive(Clone, Debug, Default)]
struct Status {
    /// Size of the last signed checkpoint.
    size: u64,
    /// What is wrong, if something is: state, code, text.
    trouble: Option<(&'static str, &'static str, String)>,
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stopped_ns.load(Ordering::Acquire) > 0
    }

    /// Whether there is time to go on.
    fn has_time(&self, clock: &dyn Clock) -> bool {
        let stopped_ns = self.stopped_ns.load(Ordering::Acquire);
        stopped_ns == 0 || clock.mono_ns().saturating_sub(stopped_ns) < STOP_NS_MAX
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing in there is left half done by a panic that would matter.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread works with.
pub(crate) struct Work {
    pub(crate) fs: Box<dyn Fn() -> std::io::Result<RealFs> + Send>,
    pub(crate) origin: String,
    pub(crate) signers: Vec<LogSigner>,
    /// Whether there is a tree over SM3 too.
    pub(crate) has_sm3: bool,
    pub(crate) every_ns: u64,
    pub(crate) clock: Arc<dyn Clock>,
    /// Has what is signed witnessed, if the configuration asks for it.
    pub(crate) herald: Option<Arc<Herald>>,
}

impl Notary {
    /// Starts the thread behind a log of so many durable records.
    pub(crate) fn start(work: Work, records: u64) -> std::io::Result<Notary> {
        let shared = Arc::new(Shared::default());
        {
            let mut queue = shared.lock();
            (queue.first, queue.end) = (records, records);
        }
        let (theirs, clock) = (Arc::clone(&shared), Arc::clone(&work.clock));
        let herald = work.herald.clone();
        let thread = std::thread::Builder::new().spawn(move || run(&work, &theirs))?;
        Ok(Notary { shared, clock, herald, thread: Some(thread) })
    }

    /// No thread: there is no key to sign with, and why.
    pub(crate) fn without_key(
        why: String,
        clock: Arc<dyn Clock>,
        herald: Option<Arc<Herald>>,
    ) -> Notary {
        let shared = Arc::new(Shared::default());
        let code = moat_model::code::audit::CANNOT_SIGN.id;
        shared.lock().status.trouble = Some(("cannot_sign", code, why));
        Notary { shared, clock, herald, thread: None }
    }

    /// Who has what is signed witnessed, if anybody has to.
    pub(crate) fn herald(&self) -> Option<&Herald> {
        self.herald.as_deref()
    }

    /// Hands over the hashes of records that are durable now. Waits for nothing but a moment's
    /// lock.
    pub(crate) fn offer(&self, first: u64, hashes: &[Hash]) {
        if hashes.is_empty() {
            return;
        }
        let end = first.saturating_add(u64::try_from(hashes.len()).unwrap_or(0));
        if let Some(herald) = &self.herald {
            herald.grow(end);
        }
        if self.thread.is_none() {
            return;
        }
        let mut queue = self.shared.lock();
        let before = queue.hashes.len();
        if queue.end != first || before + hashes.len() > QUEUE_HASHES_MAX {
            // The thread finds the others in the segments.
            queue.hashes.clear();
            queue.first = first;
        }
        queue.hashes.extend_from_slice(hashes);
        queue.end = end;
        let is_due = queue.hashes.len() >= CHECKPOINT_RECORDS && before < CHECKPOINT_RECORDS;
        drop(queue);
        if before == 0 || is_due {
            self.shared.wake.notify_one();
        }
    }

    /// How signing stands, for the status.
    pub(crate) fn status(&self) -> Value {
        let queue = self.shared.lock();
        let Status { size, trouble } = queue.status.clone();
        let unsigned = queue.end.saturating_sub(size);
        match trouble {
            None => json!({ "state": "signing", "size": size, "unsigned": unsigned }),
            Some((state, code, why)) => json!({
                "state": state, "size": size, "unsigned": unsigned, "code": code, "why": why,
            }),
        }
    }

    /// Signs what is there, the last `records` records included, and ends the thread.
    pub(crate) fn stop(&mut self, records: Option<u64>) {
        if let Some(records) = records {
            let mut queue = self.shared.lock();
            queue.end = queue.end.max(records);
        }
        self.shared.stopped_ns.store(self.clock.mono_ns().max(1), Ordering::Release);
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic in it has been told by the panic itself.
            let _: Result<(), _> = thread.join();
        }
        if let Some(herald) = &self.herald {
            herald.stop();
        }
    }
}

fn run(work: &Work, shared: &Shared) {
    let (mut tree, mut second, mut last_ns) = (None, None, 0);
    // What is left over is tried again though no record comes.
    let mut is_waiting = true;
    loop {
        let Some(taken) = wait(work, shared, last_ns, is_waiting) else { return };
        last_ns = work.clock.mono_ns();
        let is_last = shared.is_stopping();
        let mut done = step(work, shared, &mut tree, taken);
        if work.has_sm3
            && let (Ok(Step::Signed), Some(first)) = (&done, &tree)
        {
            done = sm3(work, shared, &mut second, first.size()).map(|()| Step::Signed);
        }
        is_waiting = !matches!(done, Ok(Step::Signed));
        let is_final = done.as_ref().err().is_some_and(TreeError::is_final);
        say(shared, tree.as_ref(), done);
        if is_last || is_final {
            return;
        }
    }
}

/// What came of a step that did not fail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Everything is signed.
    Signed,
    /// Nothing is signed before witnesses have said that they know of no more.
    Waits,
}

/// What was taken from the queue.
struct Taken {
    first: u64,
    hashes: Vec<Hash>,
    end: u64,
}

/// Waits until there is something to do and it is time for it. `is_waiting`: there is, whatever the
/// queue holds.
fn wait(work: &Work, shared: &Shared, last_ns: u64, is_waiting: bool) -> Option<Taken> {
    let mut queue = shared.lock();
    loop {
        let is_due = work.clock.mono_ns().saturating_sub(last_ns) >= work.every_ns || last_ns == 0;
        let has_work = is_waiting || !queue.hashes.is_empty();
        if shared.is_stopping() || queue.hashes.len() >= CHECKPOINT_RECORDS || (has_work && is_due)
        {
            let hashes = std::mem::take(&mut queue.hashes);
            let taken = Taken { first: queue.first, hashes, end: queue.end };
            queue.first = queue.end;
            return Some(taken);
        }
        let waited = work.clock.mono_ns().saturating_sub(last_ns);
        let rest = Duration::from_nanos(work.every_ns.saturating_sub(waited));
        queue = if has_work {
            shared.wake.wait_timeout(queue, rest).unwrap_or_else(PoisonError::into_inner).0
        } else {
            shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner)
        };
    }
}

/// Brings the tree up to what is durable and signs it.
fn step(
    work: &Work,
    shared: &Shared,
    tree: &mut Option<LogTree<RealFs>>,
    taken: Taken,
) -> Result<Step, TreeError> {
    let go_on = || shared.has_time(work.clock.as_ref());
    let taken_ns = work.clock.mono_ns();
    let mut at = match tree.take() {
        Some(tree) => tree,
        None => LogTree::open((work.fs)()?, &work.origin, taken.first, &go_on)?,
    };
    at.read_to(taken.first, &go_on)?;
    let known = usize::try_from(at.size().saturating_sub(taken.first)).unwrap_or(usize::MAX);
    taken.hashes.into_iter().skip(known).try_for_each(|hash| at.push(hash))?;
    at.read_to(taken.end, &go_on)?;
    let signers: Vec<&dyn Signer> = work.signers.iter().map(|signer| &**signer as _).collect();
    let done = sign(work, &mut at, &signers, taken_ns);
    // If the key alone failed, the tree is as good as before.
    if matches!(done, Ok(_) | Err(TreeError::Sign(_))) {
        *tree = Some(at);
    }
    done
}

/// Brings the SM3 tree to the size of the first and signs it, under an origin of its own.
fn sm3(
    work: &Work,
    shared: &Shared,
    tree: &mut Option<LogTree<RealFs, Sm3>>,
    size: u64,
) -> Result<(), TreeError> {
    let go_on = || shared.has_time(work.clock.as_ref());
    let mut at = match tree.take() {
        Some(tree) => tree,
        None => LogTree::open((work.fs)()?, &work.origin, size, &go_on)?,
    };
    at.read_to(size, &go_on)?;
    let name = format!("{}{}", work.origin, Sm3::ORIGIN);
    let signers = work.signers.iter().map(|signer| Renamed::new(&**signer, &name));
    let signers: Vec<Renamed<'_>> =
        signers.collect::<Result<_, _>>().map_err(std::io::Error::other)?;
    let signers: Vec<&dyn Signer> = signers.iter().map(|signer| signer as _).collect();
    let published = at.publish(&signers);
    if matches!(published, Ok(_) | Err(TreeError::Sign(_))) {
        *tree = Some(at);
    }
    published.map(drop)
}

/// Publishes the tree, once witnesses have not said that they have seen more of it.
fn sign(
    work: &Work,
    tree: &mut LogTree<RealFs>,
    signers: &[&dyn Signer],
    taken_ns: u64,
) -> Result<Step, TreeError> {
    if let Some(herald) = &work.herald {
        let may_sign = herald.may_sign().map_err(|(seen, by)| {
            let signed = tree.signed().map_or(0, |signed| signed.size);
            TreeError::Ahead { seen, signed, by }
        })?;
        if !may_sign {
            herald.offer(tree.sign_again(signers)?, taken_ns);
            return Ok(Step::Waits);
        }
    }
    if tree.publish(signers)?
        && let (Some(herald), Some(signed)) = (&work.herald, tree.published())
    {
        herald.offer(signed.clone(), taken_ns);
    }
    Ok(Step::Signed)
}

fn say(shared: &Shared, tree: Option<&LogTree<RealFs>>, done: Result<Step, TreeError>) {
    let mut queue = shared.lock();
    if let Some(signed) = tree.and_then(LogTree::signed)
        && done.is_ok()
    {
        queue.status.size = signed.size;
    }
    queue.status.trouble = match done {
        Ok(Step::Signed) => None,
        Ok(Step::Waits) => {
            let why = "witnesses have not yet said how much of the log they know".to_owned();
            Some(("waiting", moat_model::code::audit::UNWITNESSED.id, why))
        }
        Err(error) => {
            let state = match &error {
                error if error.is_final() => "refused",
                TreeError::Sign(_) => "cannot_sign",
                _ => "behind",
            };
            Some((state, error.code().id, chain(&error)))
        }
    };
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
