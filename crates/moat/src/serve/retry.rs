//! When a reload that failed for a passing reason is made again.
//!
//! It is made until it is taken, or something else is asked for. Nothing here decides what a
//! passing reason is, beyond a gateway that ends whenever it is offered the configuration.

use std::time::{Duration, Instant};

/// First pause; it doubles with every failure.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How often a configuration may be offered that the gateway ended over before.
const ENDS_MAX: u32 = 2;

/// See the module.
pub(super) struct Retry {
    due: Option<Instant>,
    pause: Duration,
    /// Whether the auditor has said since the failure that it writes: before, it would be in vain.
    is_hopeful: bool,
    /// How often the gateway has ended while taking it.
    ends: u32,
}

impl Retry {
    pub(super) fn new() -> Retry {
        Retry { due: None, pause: PAUSE_MIN, is_hopeful: false, ends: 0 }
    }

    /// Asks for another try.
    pub(super) fn ask(&mut self, now: Instant) {
        self.due = Some(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.is_hopeful = false;
    }

    /// Asks for another try after the gateway ended, which may be the fault of what it was offered.
    /// Gives whether there will be one.
    pub(super) fn ask_after_end(&mut self, now: Instant) -> bool {
        self.ends += 1;
        if self.ends > ENDS_MAX {
            self.due = None;
            return false;
        }
        self.ask(now);
        true
    }

    /// The auditor has said whether it writes.
    pub(super) fn hear(&mut self, is_writing: bool) {
        self.is_hopeful = is_writing;
    }

    /// Whether to try now. Says so once.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        self.is_hopeful && self.due.take_if(|due| *due <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_try_follows_a_pause_and_a_word_of_the_auditor_and_comes_once() {
        let now = Instant::now();
        let mut retry = Retry::new();
        retry.hear(true);
        assert!(!retry.take_due(now + PAUSE_MAX), "nobody has asked");
        retry.ask(now);
        assert!(!retry.take_due(now + PAUSE_MIN), "what the auditor said before does not count");
        retry.hear(false);
        assert!(!retry.take_due(now + PAUSE_MIN));
        retry.hear(true);
        assert!(!retry.take_due(now));
        assert!(retry.take_due(now + PAUSE_MIN));
        assert!(!retry.take_due(now + PAUSE_MAX));
    }

    #[test]
    fn pauses_grow_to_a_bound_and_tries_do_not_end() {
        let mut now = Instant::now();
        let mut retry = Retry::new();
        for _ in 0..100 {
            retry.ask(now);
            retry.hear(true);
            now += PAUSE_MAX;
            assert!(retry.take_due(now));
        }
        retry.ask(now);
        retry.hear(true);
        assert!(!retry.take_due(now + PAUSE_MAX / 2));
    }

    #[test]
    fn what_the_gateway_ends_over_is_not_offered_for_ever() {
        let now = Instant::now();
        let mut retry = Retry::new();
        let offered = (0..10).filter(|_| retry.ask_after_end(now)).count();
        assert_eq!(offered, ENDS_MAX as usize);
        retry.hear(true);
        assert!(!retry.take_due(now + PAUSE_MAX));
    }
}
