//! How many calls a service carries at once, found out by watching its latency: what is more is
//! refused at once instead of queueing where nobody can see it.
//!
//! A gradient limiter, kept by one worker for one service and class. What is over the limit is
//! refused, never queued. Time-outs lower it at once; without that a limit grows while everything
//! times out. The latency of an idle service is measured anew every half minute, for one window with
//! few calls; a minimum that is only kept would be wrong for ever after the service has changed.

/// A window ends with so many samples or after so long.
const SAMPLES_MAX: usize = 50;
const WINDOW_MS: u64 = 100;
/// Where a limit begins, and its floor.
const START: u64 = 20;
const FLOOR: u64 = 4;
/// How often the latency of an idle service is measured anew, in milliseconds.
const MEASURE_MS: u64 = 30_000;
/// Limits are kept in thousandths of a call.
const MILLI: u64 = 1_000;
/// Latency may be so many hundredths of that of an idle service before the limit falls.
const TOLERANCE_PERCENT: u64 = 150;

/// What became of a call that was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// A whole answer, also a refusal of the service's, after so many microseconds.
    Done(u64),
    /// No answer in time.
    Late,
    /// An error. That it came fast must not look like speed.
    Failed,
}

/// See the module. Times are milliseconds of a clock that never steps back.
#[derive(Debug)]
pub struct Adaptive {
    limit_milli: u64,
    ceiling: u64,
    in_flight: u64,
    /// Most calls in flight in this window.
    peak: u64,
    samples: Vec<u64>,
    is_late: bool,
    window_ms: u64,
    /// Latency of the idle service in microseconds; 0 is unknown.
    base_us: u64,
    measure_ms: u64,
    /// Whether this window is one with few calls, for the latency.
    is_measuring: bool,
    is_starting: bool,
}

impl Adaptive {
    /// A limit that never exceeds `ceiling`. `jitter_ms` spreads the measuring of many limits.
    #[must_use]
    pub fn new(ceiling: u64, now_ms: u64, jitter_ms: u64) -> Adaptive {
        let ceiling = ceiling.max(FLOOR);
        Adaptive {
            limit_milli: START.min(ceiling) * MILLI,
            ceiling,
            in_flight: 0,
            peak: 0,
            samples: Vec::with_capacity(SAMPLES_MAX),
            is_late: false,
            window_ms: now_ms,
            base_us: 0,
            measure_ms: now_ms + MEASURE_MS + jitter_ms % (MEASURE_MS / 10),
            is_measuring: false,
            is_starting: true,
        }
    }

    /// The limit now, in calls.
    #[must_use]
    pub fn limit(&self) -> u64 {
        if self.is_measuring { FLOOR } else { self.limit_milli / MILLI }
    }

    /// Calls that were let in and have not left.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Lets a call in, if there is room. It must leave by [`Adaptive::leave`].
    #[must_use]
    pub fn enter(&mut self) -> bool {
        if self.in_flight >= self.limit() {
            return false;
        }
        self.in_flight += 1;
        self.peak = self.peak.max(self.in_flight);
        true
    }

    /// A call that was let in has ended. None: it says nothing of the service.
    pub fn leave(&mut self, now_ms: u64, sample: Option<Sample>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match sample {
            Some(Sample::Done(us)) => self.samples.push(us.max(1)),
            Some(Sample::Late) => self.is_late = true,
            Some(Sample::Failed) | None => {}
        }
        let is_over = now_ms.saturating_sub(self.window_ms) >= WINDOW_MS;
        if self.samples.len() >= SAMPLES_MAX || is_over {
            self.close(now_ms);
        }
    }

    fn close(&mut self, now_ms: u64) {
        self.window_ms = now_ms;
        let p50 = median(&mut self.samples);
        self.samples.clear();
        let (peak, is_late) = (self.peak, core::mem::take(&mut self.is_late));
        self.peak = self.in_flight;
        if is_late {
            self.limit_milli = (self.limit_milli * 9 / 10).max(FLOOR * MILLI);
            self.is_starting = false;
            self.is_measuring = false;
            return;
        }
        let Some(p50) = p50 else { return };
        if self.is_measuring {
            // Calls from before the window still end in it; those that began in it are few.
            if peak > FLOOR {
                return;
            }
            self.base_us = p50;
            self.is_measuring = false;
            self.measure_ms = now_ms + MEASURE_MS;
            return;
        }
        self.base_us = if self.base_us == 0 { p50 } else { self.base_us.min(p50) };
        if now_ms >= self.measure_ms {
            self.is_measuring = true;
        }
        self.adjust(p50, peak);
    }

    fn adjust(&mut self, p50: u64, peak: u64) {
        let limit = self.limit_milli;
        let gradient = (self.base_us * TOLERANCE_PERCENT * 10 / p50).clamp(MILLI / 2, MILLI);
        // Else the callers are the limit, not the service.
        let is_used = peak * 2 * MILLI >= limit;
        if gradient == MILLI && !is_used {
            return;
        }
        self.is_starting &= gradient == MILLI;
        let next = if self.is_starting {
            limit * 3 / 2
        } else {
            // √limit, in thousandths: room to find out whether more would do.
            let room = (limit * MILLI).isqrt();
            limit * 8 / 10 + (limit * gradient / MILLI + room) * 2 / 10
        };
        self.limit_milli = next.clamp(FLOOR * MILLI, self.ceiling * MILLI);
    }
}

fn median(samples: &mut [u64]) -> Option<u64> {
    if samples.is_empty() {
        return None;
    }
    let middle = samples.len() / 2;
    Some(*samples.select_nth_unstable(middle).1)
}

#[cfg(test)]
#[path = "adaptive_tests.rs"]
mod tests;
