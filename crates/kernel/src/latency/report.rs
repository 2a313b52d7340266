//! What is said of calls' time, as JSON to the supervisor, the admin role and whoever asks it.

use serde::{Deserialize, Serialize};

/// Causes of time, in the order of their numbers.
pub const CAUSES: [&str; 13] = [
    "cpu",
    "run_queue",
    "page_fault",
    "blocked",
    "worker_busy",
    "disk",
    "auditor",
    "auditor_run_queue",
    "retransmit",
    "upstream",
    "caller",
    "auditor_page_fault",
    "unknown",
];

/// Why a part of a call took time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Its own work.
    Cpu = 0,
    /// The worker was ready and another thread had the processor.
    RunQueue = 1,
    /// The worker's memory was not there.
    PageFault = 2,
    /// The worker waited in a system call that is not its loop's.
    Blocked = 3,
    /// The worker did other calls' work.
    WorkerBusy = 4,
    /// The auditor waited for its disk.
    Disk = 5,
    /// The auditor, otherwise.
    Auditor = 6,
    /// The auditor was ready and another thread had the processor.
    AuditorRunQueue = 7,
    /// Segments were lost and sent again.
    Retransmit = 8,
    /// The service.
    Upstream = 9,
    /// The caller.
    Caller = 10,
    /// The auditor's memory was not there.
    AuditorPageFault = 11,
    /// Nothing is known.
    Unknown = 12,
}

impl Cause {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        CAUSES.get(self as usize).copied().unwrap_or("unknown")
    }
}

/// Everything that is known, since the kernel role began unless a member says otherwise.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(default)]
pub struct Report {
    /// When it was made, on the monotonic clock, in milliseconds.
    pub at_ms: u64,
    /// Calls told of.
    pub calls: u64,
    /// Connections told of.
    pub connections: u64,
    /// Calls that found no room, or were told of in a form that makes no sense.
    pub calls_lost: u64,
    /// Events that found no room.
    pub events_lost: u64,
    /// Of the last 10 to 20 s, in microseconds.
    pub p50_us: u64,
    /// The same.
    pub p99_us: u64,
    /// Calls that took longer than the 99th percentile of the seconds before them.
    pub slow: u64,
    /// Their time, in microseconds.
    pub slow_us: u64,
    /// Where that went, longest first.
    pub paths: Vec<Path>,
    /// Calls of which it is known whether they were slow or not: one of some.
    pub usual_calls: u64,
    /// Where their time went, longest first.
    pub usual: Vec<Path>,
    /// The slowest calls of the last minute, slowest first.
    pub exemplars: Vec<Exemplar>,
    /// Calls of the last minute by second and duration.
    pub heat: Heat,
    /// How often a worker stood still.
    pub stalled: u64,
    /// The latest of them, latest first.
    pub stalls: Vec<Stall>,
    /// What threads did.
    pub threads: Vec<Thread>,
    /// Requests to block devices, of the whole machine.
    pub device_requests: u64,
    /// Their time, in microseconds.
    pub device_us: u64,
    /// TCP segments of callers and services sent again.
    pub retransmits: u64,
}

/// A stage and what its time went into.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Path {
    /// Name of the stage.
    pub stage: String,
    /// Name of the cause.
    pub cause: String,
    /// Slow calls that it is part of.
    pub calls: u64,
    /// Time, in microseconds.
    pub us: u64,
    /// The call among them in which it was longest lately: trace id and microseconds.
    pub exemplar: Option<(String, u64)>,
}

/// One slow call.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Exemplar {
    /// Trace id, as in its record.
    pub trace: String,
    /// When it began, on the monotonic clock, in milliseconds.
    pub at_ms: u64,
    /// Time, in microseconds.
    pub us: u64,
    /// Status of the answer.
    pub status: u16,
    /// Stage, cause and microseconds, in the order of work.
    pub parts: Vec<(String, String, u64)>,
}

/// Calls by second and duration.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Heat {
    /// Shortest duration of each row, in microseconds.
    pub rows_us: Vec<u64>,
    /// One column a second, oldest first.
    pub columns: Vec<Vec<u32>>,
}

/// A worker that stood still.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Stall {
    /// When it began, on the monotonic clock, in milliseconds.
    pub at_ms: u64,
    /// Number of the worker.
    pub worker: u32,
    /// How long when it was told, in milliseconds.
    pub ms: u64,
    /// `running`, or the name of the system call that it waited in.
    pub doing: String,
    /// Stage of the call that it was at.
    pub stage: String,
    /// First half of that call's trace id; empty if it was at none.
    pub trace: String,
    /// Places in the program's code that its stack named, as offsets into the file: callers of
    /// callers further on, with some among them that are left over from before.
    pub stack: Vec<u64>,
}

/// What a thread did since it was seen first.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Thread {
    /// `worker-N` or `auditor`.
    pub name: String,
    /// Running, in microseconds, and so on.
    pub run_us: u64,
    /// Ready to run.
    pub ready_us: u64,
    /// Waiting for pages.
    pub fault_us: u64,
    /// Waiting for something to do.
    pub idle_us: u64,
    /// Waiting in other system calls.
    pub blocked_us: u64,
}

impl Report {
    /// What happened between an earlier report and this one. What the other does not have is kept.
    #[must_use]
    pub fn since(&self, earlier: &Report) -> Report {
        let mut rest = self.clone();
        rest.calls = self.calls.saturating_sub(earlier.calls);
        rest.connections = self.connections.saturating_sub(earlier.connections);
        rest.calls_lost = self.calls_lost.saturating_sub(earlier.calls_lost);
        rest.events_lost = self.events_lost.saturating_sub(earlier.events_lost);
        rest.slow = self.slow.saturating_sub(earlier.slow);
        rest.slow_us = self.slow_us.saturating_sub(earlier.slow_us);
        rest.stalled = self.stalled.saturating_sub(earlier.stalled);
        rest.device_requests = self.device_requests.saturating_sub(earlier.device_requests);
        rest.device_us = self.device_us.saturating_sub(earlier.device_us);
        rest.retransmits = self.retransmits.saturating_sub(earlier.retransmits);
        rest.usual_calls = self.usual_calls.saturating_sub(earlier.usual_calls);
        rest.paths = paths_since(&self.paths, &earlier.paths);
        rest.usual = paths_since(&self.usual, &earlier.usual);
        rest.exemplars.retain(|call| call.at_ms >= earlier.at_ms);
        rest.stalls.retain(|stall| stall.at_ms + stall.ms >= earlier.at_ms);
        rest
    }
}

fn paths_since(now: &[Path], earlier: &[Path]) -> Vec<Path> {
    let mut rest = now.to_vec();
    for path in &mut rest {
        let is_same = |other: &&Path| other.stage == path.stage && other.cause == path.cause;
        if let Some(before) = earlier.iter().find(is_same) {
            path.calls = path.calls.saturating_sub(before.calls);
            path.us = path.us.saturating_sub(before.us);
        }
    }
    rest.retain(|path| path.us > 0);
    rest.sort_by_key(|path| std::cmp::Reverse(path.us));
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(stage: &str, us: u64) -> Path {
        Path {
            stage: stage.to_owned(),
            cause: "cpu".to_owned(),
            calls: us / 10,
            us,
            exemplar: None,
        }
    }

    #[test]
    fn a_difference_has_what_came_between_longest_first() {
        let before = Report {
            at_ms: 5,
            calls: 7,
            paths: vec![path("policy", 100), path("reply", 50)],
            ..Report::default()
        };
        let after = Report {
            at_ms: 9,
            calls: 10,
            paths: vec![path("policy", 110), path("reply", 50), path("mask", 30)],
            exemplars: vec![Exemplar { at_ms: 4, ..Exemplar::default() }],
            ..Report::default()
        };
        let since = after.since(&before);
        assert_eq!((since.calls, since.exemplars.len()), (3, 0));
        let left: Vec<_> = since.paths.iter().map(|p| (p.stage.as_str(), p.us)).collect();
        assert_eq!(left, [("mask", 30), ("policy", 10)]);
    }

    #[test]
    fn every_cause_has_its_name() {
        assert_eq!(Cause::Cpu.name(), "cpu");
        assert_eq!(Cause::AuditorPageFault.name(), "auditor_page_fault");
        assert_eq!(Cause::Unknown as usize + 1, CAUSES.len());
    }
}
