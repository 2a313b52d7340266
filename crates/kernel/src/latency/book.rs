//! What is known of calls' time, kept and summed up. Pure: what came in is an argument.
//!
//! What a worker tells is written by the gateway, which may be taken over: every number is looked
//! at before it is used, and none is used as a size.

use std::collections::{BTreeMap, VecDeque};

use moat_model::window::{KIND_CALL, KIND_CONNECTION, STAGES, WINDOW_WORDS};

use super::join::{Interval, Known, Segment, Track, Tracks, causes};
use super::report::{Cause, Exemplar, Path, Report, Stall};
use super::spread::Spread;

/// Most workers of a gateway; `WORKERS_MAX` in `bpf/moat.h`.
pub const WORKERS_MAX: u32 = 64;
/// Longest call that is believed, in nanoseconds: a day.
const CALL_NS_MAX: u64 = 86_400_000_000_000;
/// Calls before the 99th percentile says anything; each is looked at until then.
const CALLS_MIN: u64 = 100;
/// How many calls may pass until the bound is looked at again.
const LOOK_CALLS: u64 = 64;
/// Of so many calls one is looked at, slow or not.
const USUAL_EVERY: u64 = 8;
/// Most slow calls that are kept whole, and how long, in nanoseconds.
const EXEMPLARS_MAX: usize = 12;
const EXEMPLAR_NS: u64 = 60_000_000_000;
/// Most stalls that are kept.
const STALLS_MAX: usize = 8;
/// Most words of a stack that are told.
const FRAMES_MAX: usize = 24;

/// What the kernel saw of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Ready to run while another thread ran.
    RunQueue,
    /// Running without a pause.
    Busy,
    /// Waiting for a page.
    Fault,
    /// Waiting in a system call.
    Blocked,
}

/// Whose thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A worker of the gateway, by its number.
    Worker(u32),
    /// The auditor's.
    Auditor,
}

/// Sums of one stage and cause.
#[derive(Clone, Debug, Default)]
struct Tally {
    calls: u64,
    ns: u64,
    exemplar: Option<(u128, u64, u64)>,
}

type Paths = BTreeMap<(usize, Cause), Tally>;
/// A stage, a cause, and its nanoseconds.
type Part = (usize, Cause, u64);

/// See the module.
pub struct Book {
    workers: BTreeMap<u32, Tracks>,
    auditor: Tracks,
    retransmits: Track,
    spread: Spread,
    /// From how many nanoseconds on a call is slow.
    slow_ns: u64,
    since_look: u64,
    /// Of slow calls, and of some of all.
    paths: Paths,
    usual: Paths,
    sampled: u64,
    exemplars: Vec<Exemplar>,
    stalls: VecDeque<Stall>,
    calls: u64,
    connections: u64,
    nonsense: u64,
    slow: u64,
    slow_total_ns: u64,
    stalled: u64,
}

impl Default for Book {
    fn default() -> Book {
        Book {
            workers: BTreeMap::new(),
            auditor: Tracks::default(),
            retransmits: Track::default(),
            spread: Spread::new(),
            slow_ns: 0,
            since_look: 0,
            paths: Paths::new(),
            usual: Paths::new(),
            sampled: 0,
            exemplars: Vec::new(),
            stalls: VecDeque::new(),
            calls: 0,
            connections: 0,
            nonsense: 0,
            slow: 0,
            slow_total_ns: 0,
            stalled: 0,
        }
    }
}

/// What the words of a window say.
struct Window {
    is_call: bool,
    status: u16,
    trace: u128,
    from: u64,
    to: u64,
    segments: Vec<Segment>,
}

impl Window {
    fn read(words: &[u64; WINDOW_WORDS]) -> Option<Window> {
        let [head, first, second, from, took, ends @ ..] = words;
        if *took > CALL_NS_MAX || !matches!(head & 0xff, KIND_CALL | KIND_CONNECTION) {
            return None;
        }
        let to = from.checked_add(*took)?;
        let mut segments = Vec::with_capacity(ends.len());
        let mut before = 0;
        for (stage, end) in ends.iter().enumerate().filter(|(_, end)| **end > 0) {
            // Each part ends after the one before it, and within the call.
            if *end < before || *end > *took {
                return None;
            }
            segments.push(Segment { stage, from: from + before, to: from + end });
            before = *end;
        }
        let trace = u128::from(*first) << 64 | u128::from(*second);
        let status = u16::try_from(head >> 16 & 0xffff).ok()?;
        Some(Window { is_call: head & 0xff == KIND_CALL, status, trace, from: *from, to, segments })
    }
}

impl Book {
    /// The kernel saw something of a thread, from and to in nanoseconds of the monotonic clock.
    pub fn saw(&mut self, who: Who, sort: Sort, from: u64, to: u64, detail: u64) {
        let tracks = match who {
            Who::Auditor => &mut self.auditor,
            Who::Worker(number) if number < WORKERS_MAX => self.workers.entry(number).or_default(),
            Who::Worker(_) => return,
        };
        let track = match sort {
            Sort::RunQueue => &mut tracks.run_queue,
            Sort::Busy => &mut tracks.busy,
            Sort::Fault => &mut tracks.fault,
            Sort::Blocked => &mut tracks.blocked,
        };
        if from <= to {
            track.push(Interval { from, to, detail });
        }
    }

    /// A TCP segment was sent again.
    pub fn sent_again(&mut self, at: u64, ports: u64) {
        self.retransmits.push(Interval { from: at, to: at, detail: ports });
    }

    /// A worker stood still. `stack` are offsets into the program's file.
    pub fn stood_still(&mut self, mut stall: Stall) {
        self.stalled += 1;
        stall.stack.truncate(FRAMES_MAX);
        // One that is told while it lasts and once more at its end is one.
        self.stalls.retain(|known| (known.worker, known.at_ms) != (stall.worker, stall.at_ms));
        self.stalls.push_front(stall);
        self.stalls.truncate(STALLS_MAX);
    }

    /// A worker told of a call or a connection.
    pub fn told(&mut self, worker: u32, words: &[u64; WINDOW_WORDS]) {
        let Some(window) = Window::read(words).filter(|_| worker < WORKERS_MAX) else {
            self.nonsense += 1;
            return;
        };
        let took = window.to - window.from;
        if !window.is_call {
            self.connections += 1;
            return;
        }
        self.calls += 1;
        self.look(window.to);
        self.spread.add(window.to, took);
        let is_slow = took >= self.slow_ns;
        let is_usual = self.calls.is_multiple_of(USUAL_EVERY);
        if !is_slow && !is_usual {
            return;
        }
        let parts = self.parts(worker, &window);
        if is_usual {
            self.sampled += 1;
            tally(&mut self.usual, &window, &parts);
        }
        if is_slow {
            self.slow += 1;
            self.slow_total_ns = self.slow_total_ns.saturating_add(took);
            tally(&mut self.paths, &window, &parts);
            self.keep(&window, &parts);
        }
    }

    /// Looks at what is slow now.
    fn look(&mut self, at: u64) {
        self.since_look += 1;
        if self.since_look < LOOK_CALLS {
            return;
        }
        self.since_look = 0;
        self.spread.turn(at);
        let (calls, p99) = self.spread.quantile(0.99);
        self.slow_ns = if calls < CALLS_MIN { 0 } else { p99 };
    }

    /// A call's time, cut into stages and causes.
    fn parts(&self, worker: u32, window: &Window) -> Vec<Part> {
        let none = Tracks::default();
        let known = Known {
            worker: self.workers.get(&worker).unwrap_or(&none),
            auditor: &self.auditor,
            retransmits: &self.retransmits,
        };
        let mut parts = Vec::new();
        let mut told = 0;
        for segment in &window.segments {
            for (cause, ns) in causes(*segment, &known) {
                parts.push((segment.stage, cause, ns));
                told += ns;
            }
        }
        let took = window.to - window.from;
        if took > told {
            // After the last part that ended: sending the answer off.
            parts.push((STAGES.len() - 1, Cause::Cpu, took - told));
        }
        parts
    }

    fn keep(&mut self, window: &Window, parts: &[Part]) {
        let now_ms = window.to / 1_000_000;
        self.exemplars.retain(|one| now_ms.saturating_sub(one.at_ms) < EXEMPLAR_NS / 1_000_000);
        let us = (window.to - window.from) / 1_000;
        let at = self.exemplars.partition_point(|one| one.us >= us);
        if at >= EXEMPLARS_MAX {
            return;
        }
        let part = |(stage, cause, ns): &(usize, Cause, u64)| {
            (stage_name(*stage).to_owned(), cause.name().to_owned(), ns / 1_000)
        };
        let one = Exemplar {
            trace: format!("{:032x}", window.trace),
            at_ms: window.from / 1_000_000,
            us,
            status: window.status,
            parts: parts.iter().map(part).filter(|(_, _, us)| *us > 0).collect(),
        };
        self.exemplars.insert(at, one);
        self.exemplars.truncate(EXEMPLARS_MAX);
    }

    /// Everything, as of now.
    pub fn report(&mut self, now_ns: u64) -> Report {
        self.spread.turn(now_ns);
        Report {
            at_ms: now_ns / 1_000_000,
            calls: self.calls,
            connections: self.connections,
            calls_lost: self.nonsense,
            p50_us: self.spread.quantile(0.5).1 / 1_000,
            p99_us: self.spread.quantile(0.99).1 / 1_000,
            slow: self.slow,
            slow_us: self.slow_total_ns / 1_000,
            paths: shown(&self.paths),
            usual_calls: self.sampled,
            usual: shown(&self.usual),
            exemplars: self.exemplars.clone(),
            heat: self.spread.heat(),
            stalled: self.stalled,
            stalls: self.stalls.iter().cloned().collect(),
            ..Report::default()
        }
    }
}

/// Adds a call's parts to sums.
fn tally(paths: &mut Paths, window: &Window, parts: &[Part]) {
    let mut seen: Vec<(usize, Cause)> = Vec::with_capacity(parts.len());
    for (stage, cause, ns) in parts {
        let tally = paths.entry((*stage, *cause)).or_default();
        tally.ns = tally.ns.saturating_add(*ns);
        if !seen.contains(&(*stage, *cause)) {
            seen.push((*stage, *cause));
            tally.calls += 1;
        }
        let is_fresh = |(_, longest, at): &(u128, u64, u64)| {
            longest >= ns && window.to.saturating_sub(*at) < EXEMPLAR_NS
        };
        if !tally.exemplar.as_ref().is_some_and(is_fresh) {
            tally.exemplar = Some((window.trace, *ns, window.to));
        }
    }
}

/// Sums as they are told, longest first. There are no more of them than stages times causes.
fn shown(paths: &Paths) -> Vec<Path> {
    let path = |((stage, cause), tally): (&(usize, Cause), &Tally)| Path {
        stage: stage_name(*stage).to_owned(),
        cause: cause.name().to_owned(),
        calls: tally.calls,
        us: tally.ns / 1_000,
        exemplar: tally.exemplar.map(|(trace, ns, _)| (format!("{trace:032x}"), ns / 1_000)),
    };
    let mut shown: Vec<Path> = paths.iter().map(path).collect();
    shown.sort_by_key(|path| std::cmp::Reverse(path.us));
    shown
}

/// Name of a stage.
#[must_use]
pub fn stage_name(stage: usize) -> &'static str {
    STAGES.get(stage).copied().unwrap_or("none")
}

#[cfg(test)]
mod tests {
    use super::*;
    use moat_model::window::STAGES_AT;
    use proptest::prelude::*;

    /// A call with ends of decode, policy, upstream, outcome and reply.
    fn call(trace: u64, from: u64, ends: [u64; 5]) -> [u64; WINDOW_WORDS] {
        let mut words = [0; WINDOW_WORDS];
        words[..5].copy_from_slice(&[KIND_CALL | 200 << 16, 0, trace, from, ends[4]]);
        for (stage, end) in [2, 3, 7, 9, 10].into_iter().zip(ends) {
            words[STAGES_AT + stage] = end;
        }
        words
    }

    #[test]
    fn a_slow_call_is_told_with_its_causes_and_others_are_not() {
        let mut book = Book::default();
        let ms = 1_000_000;
        for n in 0..2_000 {
            book.told(0, &call(n, n * ms, [10_000, 20_000, 200_000, 400_000, 410_000]));
        }
        let before = book.report(2_000 * ms);
        book.saw(Who::Auditor, Sort::Blocked, 2_001 * ms, 2_050 * ms, 75);
        book.told(0, &call(7, 2_000 * ms, [10_000, 20_000, ms, 51 * ms, 51 * ms]));
        let report = book.report(2_100 * ms).since(&before);
        assert_eq!((report.calls, report.slow, report.calls_lost), (1, 1, 0));
        let first = &report.paths[0];
        assert_eq!((first.stage.as_str(), first.cause.as_str()), ("audit_outcome", "disk"));
        assert_eq!((first.us, first.calls), (49_000, 1));
        assert_eq!(first.exemplar, Some((format!("{:032x}", 7), 49_000)));
        assert_eq!(report.exemplars[0].trace, format!("{:032x}", 7));
        assert_eq!(report.exemplars[0].us, 51_000);
        assert!(before.p99_us < 500 && before.p50_us >= 400, "{before:?}");
    }

    #[test]
    fn what_makes_no_sense_is_counted_and_nothing_else() {
        let mut book = Book::default();
        let good = call(1, 5, [1, 2, 3, 4, 5]);
        for (at, value) in [(0, 9), (4, u64::MAX), (3, u64::MAX), (STAGES_AT + 2, 3)] {
            let mut words = good;
            words[at] = value;
            book.told(0, &words);
        }
        book.told(WORKERS_MAX, &good);
        let report = book.report(0);
        assert_eq!((report.calls, report.calls_lost), (0, 5));
    }

    #[test]
    fn the_slowest_are_kept_for_a_minute() {
        let mut book = Book::default();
        for n in 1..=50 {
            book.told(0, &call(n, n, [1, 2, 3, 4, n * 1_000_000]));
        }
        let report = book.report(0);
        assert_eq!(report.exemplars.len(), EXEMPLARS_MAX);
        assert_eq!(report.exemplars[0].us, 50_000);
        book.told(0, &call(99, 70_000_000_000, [1, 2, 3, 4, 5_000]));
        let report = book.report(0);
        assert_eq!(report.exemplars.len(), 1);
    }

    proptest! {
        #[test]
        fn no_words_break_it(words in prop::array::uniform16(any::<u64>()), small in any::<bool>()) {
            let mut words = words;
            if small {
                words[0] = KIND_CALL;
                words[3..].iter_mut().for_each(|word| *word %= 1_000_000_000_000);
                words[5..].sort_unstable();
            }
            let mut book = Book::default();
            book.saw(Who::Worker(0), Sort::Busy, words[3], words[3].saturating_add(words[6]), words[7]);
            book.told(0, &words);
            let report = book.report(words[3]);
            prop_assert_eq!(report.calls + report.calls_lost, 1);
        }
    }
}
