//! A circuit breaker for one endpoint, shared by all workers without a lock.
//!
//! Closed it counts; open it lets nothing through; half-open it lets single calls through that do
//! no harm, and closes when enough of them went well. While it is open nobody asks the service
//! anything: a service that is down is not kept down by its callers.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::window::{Sum, Window};

/// Longest wait for a probe's outcome, in milliseconds; after it another may go.
const PROBE_MS_MAX: u64 = 30_000;

/// When a breaker opens and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Opens when more than this part of the calls failed or were left unknown; 100 is never.
    pub error_percent: u32,
    /// Opens when more than this part of the calls took longer than `slow_ms`; 100 is never.
    pub slow_percent: u32,
    /// See `slow_percent`, in milliseconds until the answer's head.
    pub slow_ms: u64,
    /// Fewest calls in the window before it may open.
    pub calls_min: u64,
    /// Fewest failed or slow ones of them.
    pub failures_min: u64,
    /// How long it stays open for the first time, in milliseconds; doubles each time in a row.
    pub open_ms: u64,
    /// Longest time that it stays open.
    pub open_ms_max: u64,
    /// Probes that must go well, one after the other, before it closes.
    pub probes: u8,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            error_percent: 5,
            slow_percent: 100,
            slow_ms: 2_000,
            calls_min: 20,
            failures_min: 5,
            open_ms: 1_000,
            open_ms_max: 30_000,
            probes: 3,
        }
    }
}

/// Whether a call may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Pass,
    /// It may, and its outcome decides what becomes of the breaker.
    Probe,
    /// It may not; worth another try after so many milliseconds.
    Refused {
        /// In milliseconds, at least 1.
        retry_ms: u64,
    },
}

/// How a call ended, as far as its endpoint is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A full answer, whatever it says, after so many milliseconds.
    Answered {
        /// Until the answer's head.
        took_ms: u64,
    },
    /// No answer, half of one, or one that says that the service failed.
    Failed,
}

/// A change of state; each becomes a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It lets nothing through for a while.
    Opened {
        /// How long, in milliseconds.
        for_ms: u64,
        /// What stood in the window.
        seen: Sum,
    },
    /// It lets everything through.
    Closed,
}

/// The states, as `moat status` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything passes.
    Closed,
    /// Nothing passes.
    Open,
    /// Probes pass.
    HalfOpen,
}

impl State {
    /// For people and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half-open",
        }
    }
}

/// The state as one word: kind 2 bits, times opened in a row 6, probes that went well 7, whether
/// one is out 1, and 48 bits of a time in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word {
    state: State,
    opens: u64,
    good: u64,
    is_probing: bool,
    /// Open: until when. Half-open: since when the probe is out.
    time_ms: u64,
}

const TIME_MASK: u64 = (1 << 48) - 1;
const OPENS_MAX: u64 = 63;

impl Word {
    const CLOSED: Word =
        Word { state: State::Closed, opens: 0, good: 0, is_probing: false, time_ms: 0 };

    const fn pack(self) -> u64 {
        let kind = match self.state {
            State::Closed => 0,
            State::Open => 1,
            State::HalfOpen => 2,
        };
        kind | (self.opens << 2)
            | (self.good << 8)
            | ((self.is_probing as u64) << 15)
            | ((self.time_ms & TIME_MASK) << 16)
    }

    const fn unpack(word: u64) -> Word {
        let state = match word & 3 {
            0 => State::Closed,
            1 => State::Open,
            _ => State::HalfOpen,
        };
        Word {
            state,
            opens: (word >> 2) & OPENS_MAX,
            good: (word >> 8) & 127,
            is_probing: (word >> 15) & 1 == 1,
            time_ms: word >> 16,
        }
    }

    /// Whether a probe may go now.
    const fn is_due(self, now_ms: u64) -> bool {
        match self.state {
            State::Closed => false,
            State::Open => now_ms >= self.time_ms,
            State::HalfOpen => {
                !self.is_probing || now_ms.saturating_sub(self.time_ms) >= PROBE_MS_MAX
            }
        }
    }

    /// How long to wait before another try, in milliseconds.
    const fn wait_ms(self, now_ms: u64) -> u64 {
        let left = match self.state {
            State::Open => self.time_ms.saturating_sub(now_ms),
            State::Closed | State::HalfOpen => 0,
        };
        // Due, but this call may not be the probe.
        if left == 0 { 1_000 } else { left }
    }
}

/// See the module. Times are milliseconds of a clock that never steps back.
#[derive(Debug, Default)]
pub struct Breaker {
    word: AtomicU64,
    errors: Window,
    slow: Window,
}

impl Breaker {
    /// Whether a call would be let through; takes nothing.
    #[must_use]
    pub fn lets_through(&self, now_ms: u64, may_probe: bool) -> bool {
        let word = self.load();
        word.state == State::Closed || (may_probe && word.is_due(now_ms))
    }

    /// The state as it is now.
    #[must_use]
    pub fn state(&self) -> State {
        self.load().state
    }

    /// How long until another try is worth while, in milliseconds; 0 while it is closed.
    #[must_use]
    pub fn wait_ms(&self, now_ms: u64) -> u64 {
        let word = self.load();
        if word.state == State::Closed { 0 } else { word.wait_ms(now_ms) }
    }

    /// Whether it waits for a probe that no call has been, for `idle_ms` already.
    #[must_use]
    pub fn needs_probe(&self, now_ms: u64, idle_ms: u64) -> bool {
        self.load().is_due(now_ms.saturating_sub(idle_ms))
    }

    /// Asks for a call. What is let through must be reported or withdrawn.
    pub fn admit(&self, now_ms: u64, may_probe: bool) -> Admission {
        let before = self.load();
        if before.state == State::Closed {
            return Admission::Pass;
        }
        let refused = Admission::Refused { retry_ms: before.wait_ms(now_ms) };
        if !may_probe || !before.is_due(now_ms) {
            return refused;
        }
        let good = if before.state == State::HalfOpen { before.good } else { 0 };
        let next =
            Word { state: State::HalfOpen, good, is_probing: true, time_ms: now_ms, ..before };
        // Of several workers one is the probe.
        if self.swap(before, next) { Admission::Probe } else { refused }
    }

    /// Takes the outcome of a call that was let through. `chance` spreads the time of being open.
    pub fn report(
        &self,
        settings: &Settings,
        now_ms: u64,
        was_probe: bool,
        outcome: Outcome,
        chance: u32,
    ) -> Option<Change> {
        let word = self.load();
        if was_probe {
            return self.probed(settings, word, now_ms, outcome, chance);
        }
        // What was let through before it opened says nothing new.
        if word.state != State::Closed {
            return None;
        }
        let now_s = now_ms / 1_000;
        let (is_bad, is_slow) = match outcome {
            Outcome::Answered { took_ms } => (false, took_ms > settings.slow_ms),
            Outcome::Failed => (true, false),
        };
        self.errors.add(now_s, is_bad);
        self.slow.add(now_s, is_slow);
        if !is_bad && !is_slow {
            return None;
        }
        let (errors, slow) = (self.errors.sum(now_s), self.slow.sum(now_s));
        let opens = |sum: Sum, percent| {
            sum.all >= settings.calls_min
                && sum.bad >= settings.failures_min
                && sum.is_over(percent)
        };
        if opens(errors, settings.error_percent) {
            return self.open(settings, word, now_ms, errors, chance);
        }
        if opens(slow, settings.slow_percent) {
            return self.open(settings, word, now_ms, slow, chance);
        }
        None
    }

    /// A call that was let through ended without saying anything about its endpoint.
    pub fn withdraw(&self, was_probe: bool) {
        if was_probe {
            let before = self.load();
            if before.state == State::HalfOpen {
                let _ = self.swap(before, Word { is_probing: false, ..before });
            }
        }
    }

    fn probed(
        &self,
        settings: &Settings,
        word: Word,
        now_ms: u64,
        outcome: Outcome,
        chance: u32,
    ) -> Option<Change> {
        if word.state != State::HalfOpen {
            return None;
        }
        match outcome {
            Outcome::Failed => {
                self.open(settings, word, now_ms, Sum { all: word.good + 1, bad: 1 }, chance)
            }
            Outcome::Answered { .. } if word.good + 1 >= u64::from(settings.probes) => {
                self.errors.clear();
                self.slow.clear();
                self.swap(word, Word::CLOSED).then_some(Change::Closed)
            }
            Outcome::Answered { .. } => {
                let _ = self.swap(word, Word { good: word.good + 1, is_probing: false, ..word });
                None
            }
        }
    }

    fn open(
        &self,
        settings: &Settings,
        word: Word,
        now_ms: u64,
        seen: Sum,
        chance: u32,
    ) -> Option<Change> {
        let doubled = settings.open_ms.saturating_mul(1 << word.opens.min(20));
        let longest = doubled.min(settings.open_ms_max).max(1);
        // Between three quarters and all of it: breakers of a fleet must not close together.
        let for_ms = longest - longest / 4 * u64::from(chance % 1_024) / 1_024;
        let next = Word {
            state: State::Open,
            opens: (word.opens + 1).min(OPENS_MAX),
            good: 0,
            is_probing: false,
            time_ms: now_ms + for_ms,
        };
        self.swap(word, next).then_some(Change::Opened { for_ms, seen })
    }

    fn load(&self) -> Word {
        Word::unpack(self.word.load(Ordering::Relaxed))
    }

    fn swap(&self, before: Word, next: Word) -> bool {
        let (before, next) = (before.pack(), next.pack());
        self.word.compare_exchange(before, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
