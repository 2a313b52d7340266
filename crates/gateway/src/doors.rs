//! Who may knock how often: what one source address may have of a listener before it has proved
//! anything, and how much of the log its refusals may fill.
//!
//! A refused connection has a record of its own as long as its source, and all sources together,
//! stay within a rate. Beyond it, it is counted; the counts become summary records. Nothing is
//! dropped: records and counts together are what happened. Shared by all workers and touched once
//! a connection, never by a call.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use moat_model::limit::{
    REFUSAL_SOURCES_MAX, REFUSALS_ALL_BURST, REFUSALS_ALL_PER_S, REFUSALS_SOURCE_BURST,
    REFUSALS_SOURCE_PER_S, SUMMARIES_MAX, SUMMARY_EVERY_S,
};
use moat_model::{Clock, Code, Refusal, Stage};
use tokio::task::JoinSet;

use crate::record;
use crate::worker::Worker;

/// How often a worker looks whether summaries are due.
const LOOK: Duration = Duration::from_secs(1);

/// An address, or for IPv6 the /64 that one subscriber has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Source(IpAddr);

impl Source {
    pub(crate) fn of(remote: SocketAddr) -> Source {
        Source(match remote.ip().to_canonical() {
            IpAddr::V4(four) => IpAddr::V4(four),
            IpAddr::V6(six) => {
                let [a, b, c, d, ..] = six.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        })
    }
}

impl core::fmt::Display for Source {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            IpAddr::V4(four) => write!(f, "{four}"),
            IpAddr::V6(six) => write!(f, "{six}/64"),
        }
    }
}

/// One connection that was refused before it became a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Knock {
    pub(crate) listener: usize,
    pub(crate) source: Source,
    pub(crate) stage: Stage,
    pub(crate) code: &'static Code,
    /// When, in nanoseconds since 1970.
    pub(crate) at_ns: u64,
}

/// Refusals that have no record of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) listener: usize,
    /// None for sources that no summary of their own was left for.
    pub(crate) source: Option<Source>,
    pub(crate) stage: Stage,
    pub(crate) code: &'static Code,
    pub(crate) count: u64,
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
}

impl Tally {
    fn is_like(&self, other: &Tally) -> bool {
        (self.listener, self.source, self.stage) == (other.listener, other.source, other.stage)
            && self.code == other.code
    }
}

/// Adds a tally to others of its kind.
fn add(tallies: &mut Vec<Tally>, more: Tally) {
    match tallies.iter_mut().find(|known| known.is_like(&more)) {
        None => tallies.push(more),
        Some(known) => {
            known.count += more.count;
            known.first_ns = known.first_ns.min(more.first_ns);
            known.last_ns = known.last_ns.max(more.last_ns);
        }
    }
}

/// Tokens, in thousandths.
#[derive(Debug)]
struct Bucket {
    tokens: u64,
    filled: Instant,
}

impl Bucket {
    fn new(burst: u64, now: Instant) -> Bucket {
        Bucket { tokens: burst * 1_000, filled: now }
    }

    fn fill(&mut self, now: Instant, burst: u64, per_s: u64) {
        let passed = now.saturating_duration_since(self.filled).as_millis();
        let fresh = u64::try_from(passed).unwrap_or(u64::MAX).saturating_mul(per_s);
        self.tokens = self.tokens.saturating_add(fresh).min(burst * 1_000);
        self.filled = now;
    }

    fn has(&self) -> bool {
        self.tokens >= 1_000
    }

    fn take(&mut self) {
        self.tokens = self.tokens.saturating_sub(1_000);
    }
}

#[derive(Debug)]
struct Known {
    bucket: Bucket,
    counted: Vec<Tally>,
}

#[derive(Debug)]
struct Table {
    /// Connections of each source that have not finished their handshake. No longer than the
    /// listeners' own bounds together.
    unfinished: HashMap<(usize, Source), usize>,
    /// Sources that were refused lately; at most [`REFUSAL_SOURCES_MAX`].
    sources: HashMap<Source, Known>,
    all: Bucket,
    others: Vec<Tally>,
    summed_up: Instant,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Doors(Mutex<Table>);

/// A connection that has not finished its handshake; counts against its source while it lives.
#[derive(Debug)]
pub(crate) struct Unfinished {
    doors: Arc<Doors>,
    key: (usize, Source),
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut table = self.doors.table();
        if let Some(count) = table.unfinished.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                table.unfinished.remove(&self.key);
            }
        }
    }
}

impl Doors {
    pub(crate) fn new(now: Instant) -> Arc<Doors> {
        Arc::new(Doors(Mutex::new(Table {
            unfinished: HashMap::new(),
            sources: HashMap::new(),
            all: Bucket::new(REFUSALS_ALL_BURST, now),
            others: Vec::new(),
            summed_up: now,
        })))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing in here can be half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection begin its handshake, unless its source has `most` of them under way.
    pub(crate) fn enter(
        self: &Arc<Doors>,
        listener: usize,
        remote: SocketAddr,
        most: usize,
    ) -> Option<Unfinished> {
        let key = (listener, Source::of(remote));
        let mut table = self.table();
        let count = table.unfinished.entry(key).or_default();
        // An entry of zero is only there if `most` is zero, which the configuration refuses.
        (*count < most).then(|| {
            *count += 1;
            Unfinished { doors: Arc::clone(self), key }
        })
    }

    /// Whether this refusal gets a record of its own; if not, it has been counted.
    pub(crate) fn may_record(&self, knock: &Knock, now: Instant) -> bool {
        let mut table = self.table();
        table.all.fill(now, REFUSALS_ALL_BURST, REFUSALS_ALL_PER_S);
        let has_room = table.all.has();
        let known = table.known(knock.source, now);
        known.bucket.fill(now, REFUSALS_SOURCE_BURST, REFUSALS_SOURCE_PER_S);
        if has_room && known.bucket.has() {
            known.bucket.take();
            table.all.take();
            return true;
        }
        add(&mut known.counted, tally(knock));
        false
    }

    /// Counts a refusal that was to have a record of its own and got none.
    pub(crate) fn count(&self, knock: &Knock, now: Instant) {
        add(&mut self.table().known(knock.source, now).counted, tally(knock));
    }

    /// Takes what is to be summed up: nothing before the interval is over, unless this is the end.
    /// At most [`SUMMARIES_MAX`] sources have summaries of their own.
    pub(crate) fn sum_up(&self, now: Instant, is_end: bool) -> Vec<Tally> {
        let mut table = self.table();
        let is_due = now.saturating_duration_since(table.summed_up).as_secs() >= SUMMARY_EVERY_S;
        if !is_due && !is_end {
            return Vec::new();
        }
        table.summed_up = now;
        let mut sources = std::mem::take(&mut table.sources);
        let mut own: Vec<Tally> =
            sources.values_mut().flat_map(|known| std::mem::take(&mut known.counted)).collect();
        // A source whose bucket is full again need not be remembered.
        sources.retain(|_, known| {
            known.bucket.fill(now, REFUSALS_SOURCE_BURST, REFUSALS_SOURCE_PER_S);
            known.bucket.tokens < REFUSALS_SOURCE_BURST * 1_000
        });
        table.sources = sources;
        let mut others = std::mem::take(&mut table.others);
        own.sort_by_key(|tally| std::cmp::Reverse(tally.count));
        for rest in own.drain(SUMMARIES_MAX.min(own.len())..) {
            add(&mut others, Tally { source: None, ..rest });
        }
        own.extend(others);
        own
    }

    /// Gives back what could not be recorded, for the next time.
    pub(crate) fn put_back(&self, tally: Tally, now: Instant) {
        let mut table = self.table();
        match tally.source {
            Some(source) => add(&mut table.known(source, now).counted, tally),
            None => add(&mut table.others, tally),
        }
    }
}

impl Table {
    /// The entry of a source. A table that is full is begun anew, its counts kept as those of
    /// "others": buckets are full again then, and the bound over all sources still holds.
    fn known(&mut self, source: Source, now: Instant) -> &mut Known {
        if self.sources.len() >= REFUSAL_SOURCES_MAX && !self.sources.contains_key(&source) {
            for known in std::mem::take(&mut self.sources).into_values() {
                for tally in known.counted {
                    add(&mut self.others, Tally { source: None, ..tally });
                }
            }
        }
        self.sources.entry(source).or_insert_with(|| Known {
            bucket: Bucket::new(REFUSALS_SOURCE_BURST, now),
            counted: Vec::new(),
        })
    }
}

fn tally(knock: &Knock) -> Tally {
    Tally {
        listener: knock.listener,
        source: Some(knock.source),
        stage: knock.stage,
        code: knock.code,
        count: 1,
        first_ns: knock.at_ns,
        last_ns: knock.at_ns,
    }
}

/// Records the refusal of a connection that never became a session, or counts it.
pub(crate) async fn refused(
    worker: &Rc<Worker>,
    listener: usize,
    remote: SocketAddr,
    refusal: &Refusal,
) {
    let knock = Knock {
        listener,
        source: Source::of(remote),
        stage: refusal.stage,
        code: refusal.code,
        at_ns: worker.clock.wall_ns(),
    };
    if !worker.doors.may_record(&knock, Instant::now()) {
        return;
    }
    let recorded = record::connection_refusal(worker, listener, remote, None, refusal).await;
    if let Err(unrecorded) = recorded {
        tracing::error!(%refusal, %unrecorded, "a refused connection was not recorded");
        // It may still become durable. Then it stands there twice; never not at all.
        worker.doors.count(&knock, Instant::now());
    }
}

/// The same without waiting, for a connection that is closed already.
pub(crate) fn turned_away(
    worker: &Rc<Worker>,
    listener: usize,
    remote: SocketAddr,
    code: &'static Code,
) {
    worker.counters.turned_away.add();
    let (worker, work) = (Rc::clone(worker), worker.work());
    drop(tokio::task::spawn_local(async move {
        refused(&worker, listener, remote, &Refusal::new(Stage::Accept, code)).await;
        drop(work);
    }));
}

/// Records summaries when they are due. One worker's turn serves all.
pub(crate) async fn sum_up(worker: Rc<Worker>) {
    loop {
        tokio::time::sleep(LOOK).await;
        sum_up_now(&worker, false).await;
    }
}

/// See [`Doors::sum_up`]. What cannot be recorded is kept for the next time. All at once, so that
/// together they wait no longer than one.
pub(crate) async fn sum_up_now(worker: &Rc<Worker>, is_end: bool) {
    let _work = worker.work();
    let mut under_way = JoinSet::new();
    for tally in worker.doors.sum_up(Instant::now(), is_end) {
        let worker = Rc::clone(worker);
        under_way.spawn_local(async move {
            let made = record::summary(&worker, &tally).await;
            made.err().map(|unrecorded| (tally, unrecorded))
        });
    }
    let (mut count, mut why) = (0, None);
    while let Some(ended) = under_way.join_next().await {
        let Ok(Some((tally, unrecorded))) = ended else { continue };
        count += tally.count;
        why = Some(unrecorded);
        worker.doors.put_back(tally, Instant::now());
    }
    if let Some(unrecorded) = why {
        tracing::error!(count, %unrecorded, "summaries were not recorded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moat_model::code::tls::{BROKEN, SLOW};

    fn from(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn knock(address: &str, code: &'static Code, at_ns: u64) -> Knock {
        let source = Source::of(from(address));
        Knock { listener: 0, source, stage: Stage::Handshake, code, at_ns }
    }

    #[test]
    fn a_source_is_an_address_or_a_64() {
        let same = [("10.0.0.1:1", "10.0.0.1:2"), ("[2001:db8::1]:1", "[2001:db8::ffff:2]:1")];
        for (a, b) in same {
            assert_eq!(Source::of(from(a)), Source::of(from(b)));
        }
        assert_ne!(Source::of(from("[2001:db8::]:1")), Source::of(from("[2001:db8:0:1::]:1")));
        assert_eq!(Source::of(from("[::ffff:10.0.0.1]:1")), Source::of(from("10.0.0.1:1")));
        assert_eq!(Source::of(from("[2001:db8::1]:1")).to_string(), "2001:db8::/64");
    }

    #[test]
    fn a_source_has_so_many_handshakes_under_way_and_gets_its_places_back() {
        let doors = Doors::new(Instant::now());
        let enter = |address: &str| doors.enter(0, from(address), 2);
        let first = enter("10.0.0.1:1").unwrap();
        let second = enter("10.0.0.1:2").unwrap();
        assert!(enter("10.0.0.1:3").is_none());
        assert!(enter("10.0.0.2:1").is_some(), "another source");
        assert!(doors.enter(1, from("10.0.0.1:3"), 2).is_some(), "another listener");
        drop(first);
        assert!(enter("10.0.0.1:4").is_some());
        drop(second);
        assert!(doors.table().unfinished.is_empty(), "nothing is left behind");
    }

    #[test]
    fn records_and_counts_together_are_what_happened() {
        let start = Instant::now();
        let doors = Doors::new(start);
        let (mut recorded, mut summed) = (0, 0);
        let mut longest = 0;
        for step in 0..60_000_u64 {
            let now = start + Duration::from_millis(step);
            let address = format!("10.{}.{}.1:9", (step / 7) % 30, step % 250);
            let code = if step % 3 == 0 { &SLOW } else { &BROKEN };
            recorded += u64::from(doors.may_record(&knock(&address, code, step), now));
            let tallies = doors.sum_up(now, false);
            longest = longest.max(tallies.len());
            summed += tallies.iter().map(|tally| tally.count).sum::<u64>();
        }
        let end = start + Duration::from_secs(61);
        let last = doors.sum_up(end, true);
        assert!(last.iter().all(|tally| tally.first_ns <= tally.last_ns));
        summed += last.iter().map(|tally| tally.count).sum::<u64>();
        assert_eq!(recorded + summed, 60_000);
        assert!(recorded <= REFUSALS_ALL_BURST + 61 * REFUSALS_ALL_PER_S, "{recorded}");
        assert!(longest <= SUMMARIES_MAX + 2, "{longest} summaries at once");
        assert!(doors.sum_up(end + Duration::from_secs(60), true).is_empty());
        assert!(doors.table().sources.is_empty(), "quiet sources are forgotten");
    }

    #[test]
    fn a_full_table_forgets_sources_but_no_count() {
        let now = Instant::now();
        let doors = Doors::new(now);
        let total = REFUSAL_SOURCES_MAX as u64 * 3;
        let mut recorded = 0;
        for number in 0..total {
            let address = format!("[2001:db8:{:x}:{:x}::1]:9", number >> 16, number & 0xffff);
            recorded += u64::from(doors.may_record(&knock(&address, &BROKEN, number), now));
            assert!(doors.table().sources.len() <= REFUSAL_SOURCES_MAX);
        }
        let tallies = doors.sum_up(now, true);
        let summed: u64 = tallies.iter().map(|tally| tally.count).sum();
        assert_eq!(recorded + summed, total);
        let others: Vec<_> = tallies.iter().filter(|tally| tally.source.is_none()).collect();
        assert_eq!(others.len(), 1, "one for each code");
        assert_eq!(recorded, REFUSALS_ALL_BURST);
    }

    #[test]
    fn what_was_not_recorded_is_summed_up_the_next_time() {
        let now = Instant::now();
        let doors = Doors::new(now);
        doors.count(&knock("10.0.0.1:1", &BROKEN, 5), now);
        let [tally] = <[Tally; 1]>::try_from(doors.sum_up(now, true)).unwrap();
        doors.put_back(tally.clone(), now);
        doors.count(&knock("10.0.0.1:2", &BROKEN, 9), now);
        let again = doors.sum_up(now, true);
        assert_eq!(again, [Tally { count: 2, last_ns: 9, ..tally }]);
    }
}
