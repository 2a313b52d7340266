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
use moat_audit::tree::{Home, LogTree, TreeError};
use moat_model::Clock;
use moat_tlog::sign::{Renamed, Signer};
use moat_tlog::{Head, Sm3};
use serde_json::{Value, json};

use crate::keys::LogSigner;
use crate::witness::Herald;

/// Most leaf hashes that wait for the thread: 8 MiB.
const QUEUE_HASHES_MAX: usize = 262_144;
/// How many records make a checkpoint due before its time.
const CHECKPOINT_RECORDS: usize = 10_000;
/// How many records are signed first when the tree catches up with the log; then twice as many each
/// time.
const CATCH_UP_RECORDS_MIN: u64 = 2_000;
/// How many at most.
const CATCH_UP_RECORDS_MAX: u64 = 64_000;
/// How long the last checkpoint may take when the auditor stops, in nanoseconds. What is not signed
/// by then is signed after the next start.
const STOP_NS_MAX: u64 = 3_000_000_000;
/// How long records may wait without a checkpoint before that is said to be wrong, in nanoseconds:
/// twice the longest pause between two checkpoints that can be configured.
const STALLED_NS_MAX: u64 = 120_000_000_000;

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
    /// Since when records have waited and none was signed.
    since_ns: Option<u64>,
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
    pub(crate) places: Box<dyn Fn() -> std::io::Result<(RealFs, Option<RealFs>)> + Send>,
    pub(crate) origin: String,
    pub(crate) signers: Vec<LogSigner>,
    /// Whether there is a tree over SM3 too.
    pub(crate) has_sm3: bool,
    pub(crate) every_ns: u64,
    pub(crate) clock: Arc<dyn Clock>,
    /// Has what is signed witnessed, if the configuration asks for it.
    pub(crate) herald: Option<Arc<Herald>>,
}

impl Work {
    fn home(&self, known: Option<Head>) -> std::io::Result<Home<'_, RealFs>> {
        let (fs, second) = (self.places)()?;
        Ok(Home { fs, second, origin: &self.origin, known })
    }
}

impl Notary {
    /// Starts the thread behind a log of so many durable records.
    pub(crate) fn start(work: Work, records: u64) -> std::io::Result<Notary> {
        let shared = Arc::new(Shared::default());
        {
            let mut queue = shared.lock();
            (queue.first, queue.end) = (records, records);
            queue.status.since_ns = (records > 0).then(|| work.clock.mono_ns());
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
        queue.status.since_ns = queue.status.since_ns.or_else(|| Some(self.clock.mono_ns()));
        let is_due = queue.hashes.len() >= CHECKPOINT_RECORDS && before < CHECKPOINT_RECORDS;
        drop(queue);
        if before == 0 || is_due {
            self.shared.wake.notify_one();
        }
    }

    /// How signing stands, for the status.
    pub(crate) fn status(&self) -> Value {
        let queue = self.shared.lock();
        let Status { size, since_ns, mut trouble } = queue.status.clone();
        let unsigned = queue.end.saturating_sub(size);
        let waited_ns = since_ns.map_or(0, |since| self.clock.mono_ns().saturating_sub(since));
        let is_behind = trouble.as_ref().is_none_or(|(state, ..)| *state == "behind");
        let is_ended = self.thread.as_ref().is_some_and(JoinHandle::is_finished);
        if unsigned > 0 && is_behind && (is_ended || waited_ns > STALLED_NS_MAX) {
            let why = match trouble {
                Some((.., why)) => why,
                None if is_ended => "the thread that signs has ended".to_owned(),
                None => format!("no checkpoint for {} s", waited_ns / 1_000_000_000),
            };
            trouble = Some(("stalled", moat_model::code::audit::TREE_BEHIND.id, why));
        }
        match trouble {
            None => json!({ "state": "signing", "size": size, "unsigned": unsigned }),
            Some((state, code, why)) => json!({
                "state": state, "size": size, "unsigned": unsigned, "code": code, "why": why,
            }),
        }
    }

    /// Signs what is there, the last `records` records included, and ends the thread.
    pub(crate) fn stop(&mut self, records: Option<u64>) {
        {
            let mut queue = self.shared.lock();
            queue.end = queue.end.max(records.unwrap_or(0));
            // Under the lock: the thread must not miss it between its look and its wait.
            self.shared.stopped_ns.store(self.clock.mono_ns().max(1), Ordering::Release);
        }
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
    let (mut hand, mut last_ns) = (Hand::default(), 0);
    // What is left over is tried again though no record comes.
    let mut is_waiting = true;
    loop {
        let Some(taken) = wait(work, shared, last_ns, is_waiting) else { return };
        last_ns = work.clock.mono_ns();
        let is_last = shared.is_stopping();
        let mut done = step(work, shared, &mut hand, taken);
        if work.has_sm3
            && let (Ok(Step::Signed), Some(first)) = (&done, &hand.tree)
        {
            let size = first.size();
            done = sm3(work, shared, &mut hand, size).map(|()| Step::Signed);
        }
        is_waiting = !matches!(done, Ok(Step::Signed));
        let is_final = done.as_ref().err().is_some_and(TreeError::is_final);
        say(shared, done);
        if is_last || is_final {
            return;
        }
    }
}

/// What the thread keeps from one step to the next.
#[derive(Default)]
struct Hand {
    tree: Option<LogTree<RealFs>>,
    /// What was signed last, or about to be: it outlives a tree that must be opened anew.
    known: Option<Head>,
    sm3: Option<LogTree<RealFs, Sm3>>,
    sm3_known: Option<Head>,
}

/// What came of a step that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
fn step(work: &Work, shared: &Shared, hand: &mut Hand, taken: Taken) -> Result<Step, TreeError> {
    let mut tree = match hand.tree.take() {
        Some(tree) => tree,
        None => {
            let go_on = || shared.has_time(work.clock.as_ref());
            LogTree::open(work.home(hand.known)?, taken.end, &go_on)?
        }
    };
    let done = grow(work, shared, &mut tree, taken);
    hand.known = tree.signed().copied();
    // If the key alone failed, the tree is as good as before.
    if matches!(done, Ok(_) | Err(TreeError::Sign(_))) {
        hand.tree = Some(tree);
    }
    done
}

fn grow(
    work: &Work,
    shared: &Shared,
    tree: &mut LogTree<RealFs>,
    taken: Taken,
) -> Result<Step, TreeError> {
    let go_on = || shared.has_time(work.clock.as_ref());
    let taken_ns = work.clock.mono_ns();
    let signers: Vec<&dyn Signer> = work.signers.iter().map(|signer| &**signer as _).collect();
    // What was not handed over is in the segments. It is signed on the way, so that a life that is
    // too short for all of it gets nearer.
    let (mut done, mut stretch) = (Step::Signed, CATCH_UP_RECORDS_MIN);
    while tree.size() < taken.first {
        let end = taken.first.min(tree.size().saturating_add(stretch));
        stretch = CATCH_UP_RECORDS_MAX.min(stretch * 2);
        tree.read_to(end, &go_on)?;
        if end < taken.first && done == Step::Signed {
            done = sign(work, shared, tree, &signers, taken_ns)?;
        }
        if !go_on() {
            return Err(TreeError::BrokenOff);
        }
    }
    let known = usize::try_from(tree.size().saturating_sub(taken.first)).unwrap_or(usize::MAX);
    taken.hashes.into_iter().skip(known).try_for_each(|hash| tree.push(hash))?;
    tree.read_to(taken.end, &go_on)?;
    sign(work, shared, tree, &signers, taken_ns)
}

/// Brings the SM3 tree to the size of the first and signs it, under an origin of its own.
fn sm3(work: &Work, shared: &Shared, hand: &mut Hand, size: u64) -> Result<(), TreeError> {
    let go_on = || shared.has_time(work.clock.as_ref());
    let mut tree = match hand.sm3.take() {
        Some(tree) => tree,
        None => LogTree::open(work.home(hand.sm3_known)?, size, &go_on)?,
    };
    let name = format!("{}{}", work.origin, Sm3::ORIGIN);
    let signers = work.signers.iter().map(|signer| Renamed::new(&**signer, &name));
    let signers: Vec<Renamed<'_>> =
        signers.collect::<Result<_, _>>().map_err(std::io::Error::other)?;
    let signers: Vec<&dyn Signer> = signers.iter().map(|signer| signer as _).collect();
    let done = grow_sm3(&mut tree, size, &signers, &go_on);
    hand.sm3_known = tree.signed().copied();
    if matches!(done, Ok(()) | Err(TreeError::Sign(_))) {
        hand.sm3 = Some(tree);
    }
    done
}

fn grow_sm3(
    tree: &mut LogTree<RealFs, Sm3>,
    size: u64,
    signers: &[&dyn Signer],
    go_on: &dyn Fn() -> bool,
) -> Result<(), TreeError> {
    let mut stretch = CATCH_UP_RECORDS_MIN;
    loop {
        tree.read_to(size.min(tree.size().saturating_add(stretch)), go_on)?;
        tree.publish(signers)?;
        if tree.size() >= size {
            return Ok(());
        }
        if !go_on() {
            return Err(TreeError::BrokenOff);
        }
        stretch = CATCH_UP_RECORDS_MAX.min(stretch * 2);
    }
}

/// Publishes the tree, once witnesses have not said that they have seen more of it.
fn sign(
    work: &Work,
    shared: &Shared,
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
    let mut queue = shared.lock();
    let size = tree.signed().map_or(0, |signed| signed.size);
    if size > queue.status.size {
        queue.status.since_ns = (queue.end > size).then(|| work.clock.mono_ns());
        queue.status.size = size;
    }
    Ok(Step::Signed)
}

fn say(shared: &Shared, done: Result<Step, TreeError>) {
    let mut queue = shared.lock();
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use moat_audit::committer::{Committer, Options};
    use moat_audit::record::Body;
    use moat_model::clock::Manual;
    use moat_tlog::Sha256;

    use super::*;
    use crate::keys::{LogKeys, anchor_key, signers};

    const LOG: &str = "notary.test/1";

    /// A log of so many records, its first included, of which nothing is signed.
    fn log(dir: &Path, records: usize) {
        let home = Home::new(RealFs::open(dir).unwrap(), LOG);
        home.begin::<Sha256>().unwrap();
        let clock = Arc::new(Manual::at(1_000, 1));
        let (mut log, _) = Committer::open(home.fs, clock, Options::new(LOG)).unwrap();
        let body = Body::admin("entry").encode().unwrap();
        for batch in vec![body; records - 1].chunks(4_000) {
            log.commit(&batch.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        }
    }

    fn work(dir: &Path, clock: &Arc<Manual>) -> Work {
        anchor_key(dir, 1).unwrap();
        let path = dir.to_owned();
        Work {
            places: Box::new(move || Ok((RealFs::open(&path)?, None))),
            origin: LOG.to_owned(),
            signers: signers(&LogKeys::Make, dir, LOG, &Arc::default()).unwrap(),
            has_sm3: false,
            every_ns: 1_000_000_000,
            clock: Arc::clone(clock) as _,
            herald: None,
        }
    }

    #[test]
    fn a_life_too_short_for_a_long_tail_gets_nearer_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path(), 9_000);
        let clock = Arc::new(Manual::at(1_000, 1));
        let (work, shared) = (work(dir.path(), &clock), Shared::default());
        // Told to stop long ago: there is no time for anything but the first stretch.
        shared.stopped_ns.store(1, Ordering::Release);
        clock.set(1_000, STOP_NS_MAX * 2);
        let signed = [2_000, 4_000, 6_000].map(|expected| {
            let taken = Taken { first: 9_000, hashes: Vec::new(), end: 9_000 };
            let done = step(&work, &shared, &mut Hand::default(), taken);
            assert!(matches!(done, Err(TreeError::BrokenOff)), "{done:?}");
            let signed = moat_audit::tiles::checkpoint(&RealFs::open(dir.path()).unwrap());
            (expected, signed.unwrap().unwrap().unwrap().checkpoint().size())
        });
        assert!(signed.iter().all(|(expected, size)| expected == size), "{signed:?}");
    }

    #[test]
    fn records_that_wait_too_long_for_a_checkpoint_are_said_to() {
        let clock = Arc::new(Manual::at(1_000, 1));
        let shared = Arc::new(Shared::default());
        // A thread that is gone, as after a panic.
        let thread = std::thread::spawn(|| {});
        while !thread.is_finished() {
            std::thread::yield_now();
        }
        let mut notary = Notary {
            shared: Arc::clone(&shared),
            clock: Arc::clone(&clock) as _,
            herald: None,
            thread: Some(thread),
        };
        assert_eq!(notary.status()["state"], "signing", "nothing waits");
        notary.offer(0, &[[1; 32]]);
        assert_eq!(notary.status()["state"], "stalled");
        notary.thread = Some(std::thread::spawn(std::thread::park));
        assert_eq!(notary.status()["state"], "signing");
        shared.lock().status.trouble = Some(("behind", "MOAT-A032", "no space".to_owned()));
        clock.set(1_000, 1 + STALLED_NS_MAX);
        assert_eq!(notary.status()["state"], "behind");
        clock.set(1_000, 2 + STALLED_NS_MAX);
        let status = notary.status();
        assert_eq!((&status["state"], &status["why"]), (&json!("stalled"), &json!("no space")));
        shared.lock().status.trouble = Some(("refused", "MOAT-A030", "put back".to_owned()));
        assert_eq!(notary.status()["state"], "refused");
    }
}
