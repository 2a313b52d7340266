//! Where calls' time goes: what comes out of the ring, into the book; and what is said of it.

use std::time::Duration;

use moat_model::code::kernel::STALLED;
use moat_model::window::WINDOW_WORDS;
use rustix::time::{ClockId, clock_gettime};

use super::Error;
use crate::calls;
use crate::latency::book::{Book, Sort, Who, stage_name};
use crate::latency::probe::{Event, Probe};
use crate::latency::report::{Report, Stall};
use crate::layout::LatencyEvent;
use crate::messages::LatencyStatus;

/// Most events taken in one turn: the egress guard's must not wait long.
const EVENTS_MAX: usize = 65_536;
/// Bytes of a report in one message: less than its bound, since quotes are escaped once more.
const PART_BYTES: usize = 12 * 1024;
/// Number of a stall that is no system call.
const RUNNING: u64 = u64::MAX;

pub(super) struct Latency {
    probe: Probe,
    book: Book,
    /// Where the gateway's code lies: begin, end, offset in the file.
    code: Option<(u64, u64, u64)>,
}

impl Latency {
    pub(super) fn new(probe: Probe) -> Latency {
        Latency { probe, book: Book::default(), code: None }
    }

    /// A gateway that has begun.
    pub(super) fn windows(
        &mut self,
        slots: &[u64],
        code: Option<(u64, u64, u64)>,
    ) -> Result<(), Error> {
        self.code = code;
        self.probe.set_slots(slots)
    }

    pub(super) fn add_ports(&mut self, ports: impl Iterator<Item = u16>) -> Result<(), Error> {
        self.probe.add_ports(ports)
    }

    /// Takes what has come.
    pub(super) fn take(&mut self) -> Result<(), Error> {
        for _ in 0..EVENTS_MAX {
            let Some(event) = self.probe.take() else { break };
            match event.ok_or("an event of another form than this program knows")? {
                Event::Window(worker, words) => self.told(worker, &words),
                Event::Seen(event) => self.saw(&event),
                Event::Stall(event, stack) => self.stalled(&event, &stack),
            }
        }
        Ok(())
    }

    fn told(&mut self, worker: u32, words: &[u64; WINDOW_WORDS]) {
        self.book.told(worker, words);
    }

    fn saw(&mut self, event: &LatencyEvent) {
        let sort = match event.kind {
            1 => Sort::RunQueue,
            2 => Sort::Busy,
            3 => Sort::Fault,
            4 => Sort::Blocked,
            6 => return self.book.sent_again(event.to_ns, event.detail),
            // A device that took long is told by its count.
            _ => return,
        };
        let who = if event.role == 0 { Who::Worker(event.number) } else { Who::Auditor };
        self.book.saw(who, sort, event.from_ns, event.to_ns, event.detail);
    }

    fn stalled(&mut self, event: &LatencyEvent, stack: &[u64]) {
        let ms = event.to_ns.saturating_sub(event.from_ns) / 1_000_000;
        let doing =
            if event.detail == RUNNING { "running".into() } else { calls::name(event.detail) };
        let stage = usize::try_from(event.stage).unwrap_or(0);
        let stage = stage.checked_sub(1).map_or("none", stage_name);
        let trace = if event.stage > 0 { format!("{:016x}", event.trace) } else { String::new() };
        let (code, worker) = (STALLED.id, event.number);
        tracing::warn!(code, worker, ms, doing, stage, trace, "a worker stands still");
        self.book.stood_still(Stall {
            at_ms: event.from_ns / 1_000_000,
            worker,
            ms,
            doing,
            stage: stage.to_owned(),
            trace,
            stack: self.places(stack),
        });
    }

    /// Those words of a stack that point into the gateway's code, as offsets into its file.
    fn places(&self, stack: &[u64]) -> Vec<u64> {
        let Some((begin, end, offset)) = self.code else { return Vec::new() };
        let inside = stack.iter().filter(|word| (begin..end).contains(*word));
        inside.map(|word| (word - begin).saturating_add(offset)).collect()
    }

    fn report(&mut self) -> Result<Report, Error> {
        let counts = self.probe.counts()?;
        let mut report = self.book.report(now_ns());
        report.calls_lost = report.calls_lost.saturating_add(counts.windows_lost);
        report.events_lost = counts.events_lost;
        report.device_requests = counts.device_requests;
        report.device_us = counts.device_ns / 1_000;
        report.retransmits = counts.retransmits;
        report.threads = self.probe.threads();
        Ok(report)
    }

    /// A report in parts that each fit into a message.
    pub(super) fn parts(&mut self) -> Result<Vec<String>, Error> {
        let text = serde_json::to_string(&self.report()?)?;
        // Every name is ASCII, so that it can be cut anywhere.
        let parts = text.as_bytes().chunks(PART_BYTES);
        Ok(parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect())
    }

    pub(super) fn status(&mut self) -> Result<LatencyStatus, Error> {
        let Report { calls, calls_lost, events_lost, slow, stalled, p99_us, .. } = self.report()?;
        Ok(LatencyStatus { calls, calls_lost, events_lost, slow, stalled, p99_us })
    }
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let now = Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    );
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
