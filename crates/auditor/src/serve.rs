//! The auditor's loop: wait, read all that is there, commit it as one frame, answer.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use moat_audit::anchor::AnchorKey;
use moat_audit::committer::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, CommitError, Committer, Recovery};
use moat_audit::fs::RealFs;
use moat_audit::link::{Ack, Nack};
use moat_audit::record::Body;
use moat_model::Clock;
use moat_net::control::Channel;
use rustix::event::{PollFd, PollFlags, Timespec};
use serde_json::{Value, json};

use crate::hsm::HsmLink;
use crate::keeper::Keeper;
use crate::link::Link;
use crate::notary::Notary;
use crate::witness::Herald;
use crate::{AuditorError, AuditorOptions};

/// How long an idle auditor sleeps while the sidecar is behind, in nanoseconds.
const TICK_NS: u64 = 1_000_000_000;
/// How often writing is tried again after it failed, while nobody commits, in nanoseconds.
const AGAIN_NS: u64 = 250_000_000;
/// How long the last acks may take to be sent when stopping, in nanoseconds.
const STOP_NS_MAX: u64 = 1_000_000_000;

/// Longest wait for more bodies, in nanoseconds.
const LINGER_NS_MAX: u64 = 1_000_000;
/// Longest wait for more bodies, in syncs.
const LINGER_SYNCS_MAX: u64 = 4;
/// For how many bodies that were answered last it pays to wait another sync.
const BODIES_A_SYNC: u64 = 8;

/// Whether to wait for more bodies after an ack.
///
/// Callers that were answered together come back together: without waiting, two half batches may
/// alternate, each with its own sync and its own round through the worker that waits for it. A lone
/// writer never waits, and few do not wait long. With 64 calls in flight on a disk that syncs in
/// 0.2 ms, waiting at most one sync saves 5 to 8 % of the CPU of gateway and auditor together, and
/// four syncs 6 % more with as many calls a second; eight save no more and cost 7 % of the calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Linger {
    /// Commit at once whatever is there.
    None,
    /// Until as many wait as were acknowledged the last two times, for groups that alternate should
    /// become one: a sync's time for every eight of them, at most that of four syncs, and never more
    /// than 1 ms.
    #[default]
    ForReturning,
}

/// Who works behind the loop.
pub(crate) struct Helpers {
    pub(crate) notary: Notary,
    /// Where the notary's keys may be.
    pub(crate) hsm: Arc<HsmLink>,
    pub(crate) keeper: Keeper,
}

struct Server<'a> {
    committer: Committer<RealFs>,
    notary: Notary,
    hsm: Arc<HsmLink>,
    keeper: Keeper,
    key: &'a AnchorKey,
    control: &'a Channel,
    clock: &'a dyn Clock,
    linger: Linger,
    links: Vec<Link>,
    /// Links that were given up in this turn; what came over them before is still to be committed.
    ended: Vec<Link>,
    /// INTENTs of links that have ended: nobody will say what became of them.
    orphans: BTreeSet<u64>,
    /// Open INTENTs of the auditor before, whose gateway goes on with this one. They become orphans
    /// with the first link that ends, or when the supervisor says that the gateway has ended.
    heirlooms: BTreeSet<u64>,
    /// Until when to wait for how many bodies.
    wait: Option<(u64, usize)>,
    /// How many were answered last.
    answered: usize,
    trouble: Option<Nack>,
    /// When writing was last tried while nobody committed.
    tried_ns: u64,
    is_stopping: bool,
}

/// Serves until the supervisor says stop or goes away.
pub(crate) fn serve(
    committer: Committer<RealFs>,
    Helpers { notary, hsm, keeper }: Helpers,
    recovery: &Recovery,
    key: &AnchorKey,
    control: &Channel,
    options: &AuditorOptions,
) -> Result<(), AuditorError> {
    let heirlooms = if options.keep_intents { committer.unpaired() } else { BTreeSet::new() };
    let mut server = Server {
        committer,
        notary,
        hsm,
        keeper,
        key,
        control,
        clock: options.clock.as_ref(),
        linger: options.linger,
        links: Vec::new(),
        ended: Vec::new(),
        orphans: BTreeSet::new(),
        heirlooms,
        wait: None,
        answered: 0,
        trouble: None,
        tried_ns: 0,
        is_stopping: false,
    };
    server.say_ready(recovery);
    while !server.is_stopping {
        if let Err(error) = server.turn() {
            // The thread behind must not outlive the lock.
            server.notary.stop(None);
            server.keeper.stop();
            return Err(AuditorError::Poll(error));
        }
    }
    server.stop()
}

impl Server<'_> {
    /// One wait and what came of it.
    fn turn(&mut self) -> io::Result<()> {
        let (from_control, ready) = self.poll()?;
        let mut ready = ready.into_iter();
        let refusing = self.refusing();
        self.keep_links(|link| {
            let (readable, writable) = ready.next().unwrap_or_default();
            let wrote = if writable { link.flush() } else { Ok(()) };
            // A link that ended or speaks otherwise is dropped.
            wrote.and_then(|()| if readable { link.read(refusing) } else { Ok(false) }).is_ok()
        });
        // Only now, for it may change the links that `ready` speaks of.
        if from_control {
            self.hear();
        }
        if self.is_due() {
            self.commit();
        }
        self.commit_ended();
        self.say_unknown();
        self.hand_over();
        Ok(())
    }

    /// Why nothing new may begin, if it may not.
    fn refusing(&self) -> Option<Nack> {
        if self.keeper.is_frozen() {
            return Some(Nack::Frozen);
        }
        let is_overdue = self.notary.herald().is_some_and(Herald::is_overdue);
        is_overdue.then_some(Nack::Unwitnessed)
    }

    /// Tells the tree what became durable in this turn, now that everybody has their acks.
    fn hand_over(&mut self) {
        let (first, hashes) = self.committer.take_hashes();
        self.notary.offer(first, &hashes);
    }

    /// Drops the links that `keep` gives up.
    fn keep_links(&mut self, mut keep: impl FnMut(&mut Link) -> bool) {
        self.ended.extend(self.links.extract_if(.., |link| !keep(link)));
    }

    /// Commits what came over links before they ended: an OUTCOME among it is worth more than the
    /// UNKNOWN that would be said instead. What they leave open is nobody's from now on.
    fn commit_ended(&mut self) {
        for mut link in std::mem::take(&mut self.ended) {
            // Before and after reading the rest, for it may need the room.
            if self.commit_all_of(&mut link) {
                link.read_rest();
                self.commit_all_of(&mut link);
            }
            self.orphans.extend(link.into_intents());
            self.orphans.append(&mut self.heirlooms);
        }
    }

    /// Whether it worked. What could not be written is tried once: nobody waits for it any more.
    fn commit_all_of(&mut self, link: &mut Link) -> bool {
        while link.waiting() > 0 {
            let taken = fitting(link, &mut 0, &mut 0);
            let bodies: Vec<&[u8]> = link.bodies().take(taken).collect();
            match self.committer.commit(&bodies) {
                Ok(acks) => {
                    self.trouble = None;
                    let answers: Vec<Result<Ack, Nack>> = acks.into_iter().map(Ok).collect();
                    note_intents(&self.committer, link, &answers);
                    // Nobody may be there to read it.
                    let _: io::Result<()> = link.answer(&answers);
                }
                Err(error) => {
                    self.trouble = Some(nack(&error));
                    return false;
                }
            }
        }
        true
    }

    /// Says UNKNOWN of what ended links have left open. If that cannot be written it is tried
    /// again, at the latest when the log is next opened.
    fn say_unknown(&mut self) {
        let now_ns = self.clock.mono_ns();
        let is_early = self.trouble.is_some() && now_ns.saturating_sub(self.tried_ns) < AGAIN_NS;
        if self.orphans.is_empty() || is_early {
            return;
        }
        self.tried_ns = now_ns;
        match self.committer.say_unknown(&self.orphans) {
            Ok(unknown) => {
                self.trouble = None;
                self.orphans.clear();
                if unknown > 0 {
                    self.say(&json!({ "unknown": unknown }));
                }
            }
            Err(error) => self.trouble = Some(nack(&error)),
        }
    }

    /// Waits; says whether the supervisor spoke, and of each link whether it can be read, written.
    fn poll(&mut self) -> io::Result<(bool, Vec<(bool, bool)>)> {
        let timeout = self.timeout().map(|ns| Timespec {
            tv_sec: i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(ns % 1_000_000_000).unwrap_or(0),
        });
        let mut fds = vec![PollFd::from_borrowed_fd(self.control.as_fd(), PollFlags::IN)];
        for link in &self.links {
            let mut events = PollFlags::empty();
            events.set(PollFlags::IN, link.has_room());
            events.set(PollFlags::OUT, link.has_unsent());
            fds.push(PollFd::from_borrowed_fd(link.as_fd(), events));
        }
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ended = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
        let mut seen = fds.iter().map(|fd| {
            let events = fd.revents();
            (events.intersects(PollFlags::IN | ended), events.contains(PollFlags::OUT))
        });
        let from_control = seen.next().is_some_and(|(readable, _)| readable);
        Ok((from_control, seen.collect()))
    }

    fn timeout(&mut self) -> Option<u64> {
        if let Some((until_ns, _)) = self.wait {
            return Some(until_ns.saturating_sub(self.clock.mono_ns()));
        }
        if self.waiting() > 0 {
            return Some(0);
        }
        let is_behind = self.committer.tick();
        if !self.orphans.is_empty() {
            return Some(AGAIN_NS);
        }
        is_behind.then_some(TICK_NS)
    }

    fn waiting(&self) -> usize {
        self.links.iter().map(Link::waiting).sum()
    }

    /// Whether to commit now: there is something, and nothing more is worth waiting for.
    fn is_due(&mut self) -> bool {
        let waiting = self.waiting();
        if let Some((until_ns, enough)) = self.wait
            && waiting < enough
            && self.clock.mono_ns() < until_ns
        {
            return false;
        }
        self.wait = None;
        waiting > 0
    }

    fn commit(&mut self) {
        let (taken, count) = self.take();
        let bodies: Vec<&[u8]> = self
            .links
            .iter()
            .zip(&taken)
            .flat_map(|(link, &taken)| link.bodies().take(taken))
            .collect();
        let answers = match self.committer.commit(&bodies) {
            Ok(acks) => {
                self.trouble = None;
                acks.into_iter().map(Ok).collect()
            }
            Err(error) => {
                let reason = nack(&error);
                self.trouble = Some(reason);
                vec![Err(reason); count]
            }
        };
        self.answer(&taken, &answers);
        if self.linger == Linger::ForReturning && count > 1 {
            // Two groups that alternate become one.
            let enough = count + self.answered;
            let wait_ns = linger_ns(enough, self.committer.stats().last_sync_ns);
            self.wait = Some((self.clock.mono_ns().saturating_add(wait_ns), enough));
        }
        self.answered = count;
    }

    /// How many bodies of each link go into the next frame, within its bounds.
    fn take(&self) -> (Vec<usize>, usize) {
        let (mut count, mut bytes) = (0, 0);
        let taken: Vec<usize> =
            self.links.iter().map(|link| fitting(link, &mut count, &mut bytes)).collect();
        (taken, count)
    }

    fn answer(&mut self, taken: &[usize], answers: &[Result<Ack, Nack>]) {
        let (mut rest, mut taken) = (answers, taken.iter());
        let committer = &self.committer;
        let mut answer = |link: &mut Link| {
            let count = taken.next().copied().unwrap_or(0);
            let (mine, others) = rest.split_at_checked(count).unwrap_or_default();
            rest = others;
            note_intents(committer, link, mine);
            mine.is_empty() || link.answer(mine).is_ok()
        };
        self.ended.extend(self.links.extract_if(.., |link| !answer(link)));
        // Who was served first is served last next time, so that no link starves.
        if !self.links.is_empty() {
            self.links.rotate_left(1);
        }
    }

    /// Takes one message of the supervisor.
    fn hear(&mut self) {
        let Ok(Some((message, fds))) = self.control.recv() else {
            self.is_stopping = true;
            return;
        };
        let message: Value = serde_json::from_slice(&message).unwrap_or_default();
        if let Some(link) = message.get("link") {
            self.take_link(link, fds);
        } else if message.get("courier").is_some() {
            self.take_courier(fds);
        } else if message.get("hsm").is_some() {
            fds.into_iter().for_each(|fd| self.hsm.take(Channel::from_fd(fd)));
        } else if message.get("status").is_some() {
            self.try_again();
            self.say_what_is_kept();
            self.say(&self.status());
        } else if message.get("orphaned").is_some() {
            self.orphans.append(&mut self.heirlooms);
        } else if message.get("stop").is_some() {
            self.is_stopping = true;
        } else {
            self.say(&json!({ "error": "unknown message" }));
        }
    }

    /// Finds out whether writing works again. A gateway that is not ready gets no calls, so the
    /// next commit might never come.
    fn try_again(&mut self) {
        let now_ns = self.clock.mono_ns();
        if self.trouble.is_some() && now_ns.saturating_sub(self.tried_ns) >= AGAIN_NS {
            self.tried_ns = now_ns;
            self.trouble = self.committer.commit(&[]).err().map(|error| nack(&error));
        }
    }

    /// Puts on record what the keeper asks for. It waits for the next time if that fails.
    fn say_what_is_kept(&mut self) {
        let notes = self.keeper.asked();
        let bodies: Result<Vec<Vec<u8>>, _> = notes.iter().map(Body::encode).collect();
        let Ok(bodies) = bodies else { return };
        for batch in bodies.chunks(BATCH_RECORDS_MAX) {
            let batch: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
            if let Err(error) = self.committer.commit(&batch) {
                self.trouble = Some(nack(&error));
                return;
            }
        }
        if !notes.is_empty() {
            self.keeper.grant();
        }
    }

    fn take_link(&mut self, link: &Value, fds: Vec<OwnedFd>) {
        let worker = link.get("worker").and_then(Value::as_u64);
        let (Some(worker), Ok([fd])) = (worker, <[OwnedFd; 1]>::try_from(fds)) else {
            self.say(&json!({ "error": "a link needs a worker and one descriptor" }));
            return;
        };
        self.keep_links(|link| link.worker != worker);
        // Who records no classified field needs no key for anchors, and gets none.
        let has_anchors = link.get("anchors").and_then(Value::as_bool) != Some(false);
        let none = AnchorKey::new("none", zeroize::Zeroizing::new([0; 32]));
        let key = none.as_ref().filter(|_| !has_anchors).unwrap_or(self.key);
        match Link::new(fd, worker, self.committer.log_id(), key) {
            Ok(link) => self.links.push(link),
            Err(error) => {
                self.say(&json!({ "error": format!("link of worker {worker}: {error}") }))
            }
        }
    }

    fn take_courier(&mut self, fds: Vec<OwnedFd>) {
        let (Ok([fd]), Some(herald)) = (<[OwnedFd; 1]>::try_from(fds), self.notary.herald()) else {
            self.say(&json!({ "error": "a courier needs one descriptor and witnesses" }));
            return;
        };
        if let Err(error) = herald.take_courier(Channel::from_fd(fd)) {
            self.say(&json!({ "error": format!("courier: {error}") }));
        }
    }

    fn say_ready(&mut self, recovery: &Recovery) {
        let torn = recovery.torn.as_ref().map(
            |torn| json!({ "segment": torn.segment, "offset": torn.offset, "bytes": torn.bytes }),
        );
        self.say(&json!({ "ready": {
            "seq": self.committer.next_seq(),
            "recovered": {
                "epoch": recovery.epoch,
                "records": recovery.records,
                "torn": torn,
                "unknown": recovery.unknown.len(),
            },
        }}));
    }

    fn status(&self) -> Value {
        let stats = self.committer.stats();
        let state = match self.trouble {
            None => "writing",
            Some(Nack::DiskFull) => "disk_full",
            Some(_) => "write_failed",
        };
        json!({ "status": {
            "state": state,
            "seq": self.committer.next_seq(),
            "root": moat_audit::hash::hex(&self.committer.tree().root()),
            "open_intents": self.committer.open_intents(),
            "links": self.links.len(),
            "waiting": self.waiting(),
            "frames": stats.frames,
            "segments": stats.segments,
            "failures": stats.failures,
            "last_sync_us": stats.last_sync_ns / 1_000,
            "signed": self.notary.status(),
            "witnessed": self.notary.herald().map(Herald::status),
            "kept": self.keeper.status(),
        }})
    }

    fn say(&mut self, message: &Value) {
        // A supervisor that is gone shows at the next poll.
        let _: io::Result<()> = self.control.send(message.to_string().as_bytes(), &[]);
    }

    /// Commits what was read, sends what the peers take, and ends the log cleanly.
    fn stop(mut self) -> Result<(), AuditorError> {
        while self.waiting() > 0 {
            self.commit();
        }
        self.commit_ended();
        self.say_unknown();
        let until_ns = self.clock.mono_ns().saturating_add(STOP_NS_MAX);
        while self.links.iter().any(Link::has_unsent) && self.clock.mono_ns() < until_ns {
            self.links.retain_mut(|link| link.flush().is_ok());
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        self.hand_over();
        // Held until the tree is written: another auditor may not sign before this one has ended.
        let (closed, lock) = self.committer.close_locked();
        self.notary.stop(closed.as_ref().ok().copied());
        self.keeper.stop();
        drop(lock);
        closed.map(drop).map_err(AuditorError::Close)
    }
}

/// How many bodies of a link still fit into a frame that has so many records and bytes.
fn fitting(link: &Link, count: &mut usize, bytes: &mut usize) -> usize {
    let before = *count;
    for body in link.bodies() {
        let is_full = *count == BATCH_RECORDS_MAX || *bytes + body.len() > BATCH_BYTES_MAX;
        if is_full && *count > 0 {
            break;
        }
        *count += 1;
        *bytes += body.len();
    }
    *count - before
}

/// How long to wait for `count` bodies to come back, in nanoseconds.
fn linger_ns(count: usize, sync_ns: u64) -> u64 {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    let in_proportion = sync_ns.saturating_mul(count) / BODIES_A_SYNC;
    in_proportion.min(sync_ns.saturating_mul(LINGER_SYNCS_MAX)).min(LINGER_NS_MAX)
}

/// Notes which of a link's records are INTENTs that wait for their outcome.
fn note_intents(committer: &Committer<RealFs>, link: &mut Link, answers: &[Result<Ack, Nack>]) {
    for ack in answers.iter().flatten().filter(|ack| committer.is_open(ack.seq)) {
        link.note_intent(ack.seq, |seq| committer.is_open(seq));
    }
}

fn nack(error: &CommitError) -> Nack {
    match error {
        CommitError::DiskFull(_) => Nack::DiskFull,
        // Bodies were checked and counted before, so the two others cannot come.
        CommitError::Write(_) | CommitError::Body { .. } | CommitError::TooLarge => {
            Nack::WriteFailed
        }
    }
}
