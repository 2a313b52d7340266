//! One call's time, cut into causes. What is exact and what is shared out stands in docs/kernel.md.

use std::collections::VecDeque;

use moat_model::window::Part;

use super::report::Cause;

/// What a page fault is taken to cost, in nanoseconds: one that found its page in memory, and one
/// that had to read it and did not pause for that.
const FAULT_NS: u64 = 1_000;
const READ_NS: u64 = 6_000;
/// Most intervals of each kind that are remembered.
const INTERVALS_MAX: usize = 4_096;

/// Something that lasted, on the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) detail: u64,
}

/// The latest of one kind, in the order in which they ended.
#[derive(Debug, Default)]
pub(super) struct Track(VecDeque<Interval>);

impl Track {
    pub(super) fn push(&mut self, interval: Interval) {
        if self.0.len() == INTERVALS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(interval);
    }

    /// Those that share time with `from..to`, latest first.
    fn within(&self, from: u64, to: u64) -> impl Iterator<Item = &Interval> {
        let latest = self.0.iter().rev().take_while(move |interval| interval.to > from);
        latest.filter(move |interval| interval.from < to)
    }
}

/// What is known of one thread.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    pub(super) run_queue: Track,
    pub(super) fault: Track,
    pub(super) blocked: Track,
    pub(super) busy: Track,
}

/// A part of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) stage: usize,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// What a call's time is cut with.
pub(super) struct Known<'a> {
    pub(super) worker: &'a Tracks,
    pub(super) auditor: &'a Tracks,
    /// Segments sent again.
    pub(super) retransmits: &'a Track,
}

/// The time of a segment that has no cause yet.
struct Left(Vec<(u64, u64)>);

impl Left {
    /// Takes away what `from..to` covers; how much that was.
    fn take(&mut self, from: u64, to: u64) -> u64 {
        let mut taken = 0;
        let mut rest = Vec::with_capacity(self.0.len() + 1);
        for (start, end) in self.0.drain(..) {
            let (a, b) = (start.max(from), end.min(to));
            if a >= b {
                rest.push((start, end));
                continue;
            }
            taken += b - a;
            rest.extend([(start, a), (b, end)].into_iter().filter(|(a, b)| a < b));
        }
        self.0 = rest;
        taken
    }

    fn sum(&self) -> u64 {
        self.0.iter().map(|(from, to)| to - from).sum()
    }
}

/// Causes of a segment's time, in nanoseconds. Together they are its length.
pub(super) fn causes(segment: Segment, known: &Known<'_>) -> Vec<(Cause, u64)> {
    let Segment { stage, from, to } = segment;
    let mut left = Left(vec![(from, to)]);
    let mut found = Vec::new();
    let mut cut = |left: &mut Left, track: &Track, cause: Cause| {
        let taken: u64 = track.within(from, to).map(|i| left.take(i.from, i.to)).sum();
        found.push((cause, taken));
    };
    cut(&mut left, &known.worker.run_queue, Cause::RunQueue);
    cut(&mut left, &known.worker.fault, Cause::PageFault);
    cut(&mut left, &known.worker.blocked, Cause::Blocked);
    let waits_for = waits_for(stage);
    if waits_for == Cause::Auditor {
        cut(&mut left, &known.auditor.blocked, Cause::Disk);
        cut(&mut left, &known.auditor.run_queue, Cause::AuditorRunQueue);
        cut(&mut left, &known.auditor.fault, Cause::AuditorPageFault);
    }
    if matches!(waits_for, Cause::Upstream | Cause::Caller) {
        // What is sent again was not there since the segment began, as far as anybody knows.
        let last = known.retransmits.within(from, to).map(|i| i.to).max();
        found.push((Cause::Retransmit, last.map_or(0, |last| left.take(from, last))));
    }
    for busy in known.worker.busy.within(from, to) {
        let length = (busy.to - busy.from).max(1);
        let (faults, reads) = (busy.detail & 0xffff_ffff, busy.detail >> 32);
        let cost = faults.saturating_mul(FAULT_NS).saturating_add(reads.saturating_mul(READ_NS));
        let own = waits_for == Cause::Cpu;
        let taken = left.take(busy.from, busy.to);
        let share = u128::from(taken) * u128::from(cost.min(length)) / u128::from(length);
        let share = u64::try_from(share).unwrap_or(0);
        found.push((Cause::PageFault, share));
        found.push((if own { Cause::Cpu } else { Cause::WorkerBusy }, taken - share));
    }
    found.push((waits_for, left.sum()));
    merge(found)
}

fn merge(found: Vec<(Cause, u64)>) -> Vec<(Cause, u64)> {
    let mut merged: Vec<(Cause, u64)> = Vec::new();
    for (cause, ns) in found.into_iter().filter(|(_, ns)| *ns > 0) {
        match merged.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, sum)) => *sum += ns,
            None => merged.push((cause, ns)),
        }
    }
    merged
}

/// What a stage waits for, if for anything but the processor.
fn waits_for(stage: usize) -> Cause {
    const TLS: usize = Part::Tls.place();
    const IDENTITY: usize = Part::Identity.place();
    const DECODE: usize = Part::Decode.place();
    const BEFORE: usize = Part::ReadBefore.place();
    const INTENT: usize = Part::AuditIntent.place();
    const UPSTREAM: usize = Part::Upstream.place();
    const OUTCOME: usize = Part::AuditOutcome.place();
    match stage {
        TLS | DECODE => Cause::Caller,
        IDENTITY | INTENT | OUTCOME => Cause::Auditor,
        BEFORE | UPSTREAM => Cause::Upstream,
        _ => Cause::Cpu,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn track(intervals: &[(u64, u64, u64)]) -> Track {
        let mut track = Track::default();
        intervals.iter().for_each(|(from, to, detail)| {
            track.push(Interval { from: *from, to: *to, detail: *detail });
        });
        track
    }

    fn cut(stage: Part, worker: &Tracks, auditor: &Tracks, again: &Track) -> Vec<(Cause, u64)> {
        let segment = Segment { stage: stage.place(), from: 1_000, to: 11_000 };
        causes(segment, &Known { worker, auditor, retransmits: again })
    }

    #[test]
    fn a_stage_is_its_own_cause_where_nothing_else_is_known() {
        let none = Tracks::default();
        for (stage, cause) in [
            (Part::Policy, Cause::Cpu),
            (Part::Upstream, Cause::Upstream),
            (Part::AuditIntent, Cause::Auditor),
            (Part::Decode, Cause::Caller),
        ] {
            assert_eq!(cut(stage, &none, &none, &Track::default()), [(cause, 10_000)]);
        }
    }

    #[test]
    fn each_cause_takes_its_time_and_none_takes_it_twice() {
        let worker = Tracks {
            run_queue: track(&[(0, 2_000, 0)]),
            fault: track(&[(1_500, 3_000, 0)]),
            busy: track(&[(2_500, 5_000, 0)]),
            ..Tracks::default()
        };
        let auditor = Tracks { blocked: track(&[(4_000, 9_000, 75)]), ..Tracks::default() };
        let found = cut(Part::AuditOutcome, &worker, &auditor, &Track::default());
        assert_eq!(
            found,
            [
                (Cause::RunQueue, 1_000),
                (Cause::PageFault, 1_000),
                (Cause::Disk, 5_000),
                (Cause::WorkerBusy, 1_000),
                (Cause::Auditor, 2_000),
            ]
        );
    }

    #[test]
    fn what_was_sent_again_explains_the_time_before() {
        let again = track(&[(7_000, 7_000, 0), (8_000, 8_000, 0), (99_000, 99_000, 0)]);
        let none = Tracks::default();
        let found = cut(Part::Upstream, &none, &none, &again);
        assert_eq!(found, [(Cause::Retransmit, 7_000), (Cause::Upstream, 3_000)]);
        assert_eq!(cut(Part::Policy, &none, &none, &again), [(Cause::Cpu, 10_000)]);
    }

    #[test]
    fn faults_take_their_share_of_work() {
        let busy = track(&[(1_000, 11_000, 5)]);
        let (worker, none) = (Tracks { busy, ..Tracks::default() }, Tracks::default());
        let found = cut(Part::Mask, &worker, &none, &Track::default());
        assert_eq!(found, [(Cause::PageFault, 5_000), (Cause::Cpu, 5_000)]);
    }

    proptest! {
        #[test]
        fn causes_add_up_to_the_segment(
            intervals in prop::collection::vec((0_u64..20_000, 0_u64..5_000, any::<u64>(), 0..8), 0..40),
            stage in 0_usize..11,
        ) {
            let (mut worker, mut auditor) = (Tracks::default(), Tracks::default());
            let mut again = Track::default();
            let mut ordered = intervals;
            ordered.sort_by_key(|(from, length, ..)| from + length);
            for (from, length, detail, kind) in ordered {
                let interval = Interval { from, to: from + length, detail };
                match kind {
                    0 => worker.run_queue.push(interval),
                    1 => worker.fault.push(interval),
                    2 => worker.blocked.push(interval),
                    3 => worker.busy.push(interval),
                    4 => auditor.run_queue.push(interval),
                    5 => auditor.blocked.push(interval),
                    6 => auditor.fault.push(interval),
                    _ => again.push(Interval { from: interval.to, ..interval }),
                }
            }
            let known = Known { worker: &worker, auditor: &auditor, retransmits: &again };
            let found = causes(Segment { stage, from: 5_000, to: 12_000 }, &known);
            prop_assert_eq!(found.iter().map(|(_, ns)| ns).sum::<u64>(), 7_000);
        }
    }
}
