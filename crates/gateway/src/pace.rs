//! The least rate of a streamed body.
//!
//! Only the time that one side made the other wait is counted, so a slow service is not taken for
//! a slow caller, and bytes that came in one go are not lost to the clock. What pauses for long but
//! sends much is cut by its silence, not here.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// Bytes against time waited for them.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// In bytes a second; 0 is no bound.
    rate_min: u64,
    /// How much waiting is judged at once.
    window: Duration,
    bytes: u64,
    waited: Duration,
    since: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(rate_min: u64, window: Duration) -> Pace {
        Pace { rate_min, window, bytes: 0, waited: Duration::ZERO, since: None }
    }

    /// The other side is waited for from now on.
    pub(crate) fn waits(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// What was waited for has come.
    pub(crate) fn comes(&mut self, now: Instant, bytes: u64) {
        if let Some(since) = self.since.take() {
            self.waited += now.saturating_duration_since(since);
        }
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn waited(&self, now: Instant) -> Duration {
        self.waited + self.since.map_or(Duration::ZERO, |s| now.saturating_duration_since(s))
    }

    /// Whether a whole window of waiting brought too little. Begins the next one.
    pub(crate) fn is_slow(&mut self, now: Instant) -> bool {
        let waited = self.waited(now);
        if self.rate_min == 0 || waited < self.window {
            return false;
        }
        let wanted = u128::from(self.rate_min) * waited.as_millis();
        let is_slow = u128::from(self.bytes) * 1_000 < wanted;
        self.bytes = 0;
        self.waited = Duration::ZERO;
        self.since = self.since.map(|_| now);
        is_slow
    }

    /// When the window ends if nothing comes.
    fn due(&self, now: Instant) -> Option<Instant> {
        (self.rate_min > 0).then(|| now + self.window.saturating_sub(self.waited(now)))
    }
}

/// A pace that wakes its task at the end of a window.
pub(crate) struct Paced {
    pub(crate) pace: Pace,
    alarm: Pin<Box<Sleep>>,
}

impl Paced {
    pub(crate) fn new(pace: Pace) -> Paced {
        let alarm = Box::pin(tokio::time::sleep(pace.window));
        Paced { pace, alarm }
    }

    /// Nothing is there yet: whether that has gone on for too long. If not, the task is woken when
    /// it will have.
    pub(crate) fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            let now = Instant::now();
            self.pace.waits(now);
            if self.pace.is_slow(now) {
                return true;
            }
            let Some(due) = self.pace.due(now) else { return false };
            self.alarm.as_mut().reset(due.into());
            // If it is over already, the window has ended and the next look begins another.
            if self.alarm.as_mut().poll(cx) == Poll::Pending {
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn drip(bytes: u64, every: Duration, times: u32) -> bool {
        let start = Instant::now();
        let mut pace = Pace::new(100, WINDOW);
        (0..times).any(|time| {
            let now = start + every * time;
            pace.waits(now);
            pace.comes(now + every, bytes);
            pace.is_slow(now + every)
        })
    }

    #[test]
    fn a_rate_is_judged_over_a_window() {
        let second = Duration::from_secs(1);
        assert!(!drip(100, second, 1_000));
        assert!(drip(99, second, 1_000));
        assert!(!drip(1, second, 9), "not before the window ends");
        assert!(drip(1, second, 10));
        assert!(!drip(1_000, 10 * second, 100), "all at once is as good");
    }

    #[test]
    fn time_that_nobody_was_waited_for_does_not_count() {
        let start = Instant::now();
        let mut pace = Pace::new(100, WINDOW);
        for step in 0..1_000 {
            let now = start + WINDOW * step;
            pace.waits(now);
            pace.comes(now + Duration::from_millis(1), 1);
            assert!(!pace.is_slow(now + Duration::from_millis(2)));
        }
    }

    #[test]
    fn zero_is_no_bound() {
        let mut pace = Pace::new(0, WINDOW);
        let start = Instant::now();
        pace.waits(start);
        assert!(!pace.is_slow(start + WINDOW * 100));
        assert_eq!(pace.due(start), None);
    }
}
