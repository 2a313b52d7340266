//! When a worker is overrun, some calls are refused at once so that the rest is served in time:
//! those of the least class first.
//!
//! The sign of being overrun is how late the worker comes to what is due (CoDel's idea: the *least*
//! delay over a while, so that a burst is no overload). The part that is refused grows while that
//! lasts and falls when it is over.

/// How long the least delay is taken over, in milliseconds.
pub const INTERVAL_MS: u64 = 100;
/// What the pressure of one class amounts to.
const FULL: u32 = 1_000;
/// Most of a class that is refused, in thousandths: none is starved.
const REFUSED_MAX: u32 = 950;
/// Classes that may be refused at all.
const CLASSES: u32 = 3;
/// By how much the pressure grows and falls in an interval.
const STEP_UP: u32 = 150;
const STEP_DOWN: u32 = 75;

/// What a call is worth, said by its route and never by its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Refused first.
    Batch,
    /// What only reads.
    Query,
    /// What changes something.
    Payment,
    /// Never refused here.
    Settlement,
}

impl Class {
    /// Every class, the least first.
    pub const ALL: [Class; 4] = [Class::Batch, Class::Query, Class::Payment, Class::Settlement];

    /// Its place in [`Class::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Class::Batch => "batch",
            Class::Query => "query",
            Class::Payment => "payment",
            Class::Settlement => "settlement",
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Admission {
    /// From 0 to [`FULL`] for each class that may be refused.
    pressure: u32,
    least_ms: Option<u64>,
    since_ms: u64,
}

impl Admission {
    /// The worker came so late to something, in milliseconds; `target_ms` is what is bearable.
    pub fn lag(&mut self, now_ms: u64, lag_ms: u64, target_ms: u64) {
        self.least_ms = Some(self.least_ms.map_or(lag_ms, |least| least.min(lag_ms)));
        if now_ms.saturating_sub(self.since_ms) < INTERVAL_MS {
            return;
        }
        self.since_ms = now_ms;
        let least_ms = self.least_ms.take().unwrap_or(0);
        self.pressure = if least_ms > target_ms {
            (self.pressure + STEP_UP).min(FULL * CLASSES)
        } else if least_ms <= target_ms / 4 {
            // It is over: whoever comes after a storm must not pay for it.
            (self.pressure / 2).saturating_sub(STEP_DOWN)
        } else {
            self.pressure.saturating_sub(STEP_DOWN)
        };
    }

    /// From 0 to 3,000: what is refused, over all classes.
    #[must_use]
    pub fn pressure(&self) -> u32 {
        self.pressure
    }

    /// The part of a class that is refused now, in thousandths.
    #[must_use]
    pub fn refused(&self, class: Class) -> u32 {
        let before = match class {
            Class::Batch => 0,
            Class::Query => FULL,
            Class::Payment => FULL * 2,
            Class::Settlement => return 0,
        };
        self.pressure.saturating_sub(before).min(REFUSED_MAX)
    }

    /// Whether a call is let in.
    #[must_use]
    pub fn admits(&self, class: Class, chance: u64) -> bool {
        self.pressure == 0 || chance % u64::from(FULL) >= u64::from(self.refused(class))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(intervals: u64, lag_ms: u64) -> Admission {
        let mut admission = Admission::default();
        for step in 1..=intervals * 5 {
            admission.lag(step * 20, lag_ms, 20);
        }
        admission
    }

    fn refused(admission: &Admission) -> [u32; 4] {
        Class::ALL.map(|class| admission.refused(class))
    }

    #[test]
    fn the_least_class_goes_first_and_the_highest_never() {
        assert_eq!(refused(&after(100, 20)), [0; 4], "what is bearable");
        assert_eq!(refused(&after(4, 21)), [600, 0, 0, 0]);
        assert_eq!(refused(&after(10, 21)), [950, 500, 0, 0]);
        assert_eq!(refused(&after(1_000, 500)), [950, 950, 950, 0]);
    }

    #[test]
    fn a_burst_is_no_overload() {
        let mut admission = Admission::default();
        for step in 1..=500_u64 {
            // Late four times of five.
            admission.lag(step * 20, if step % 5 == 0 { 1 } else { 300 }, 20);
        }
        assert_eq!(refused(&admission), [0; 4]);
    }

    #[test]
    fn it_recovers() {
        let mut admission = after(100, 100);
        // Within a second.
        for step in 501..=550 {
            admission.lag(step * 20, 1, 20);
        }
        assert_eq!(refused(&admission), [0; 4]);
        assert!(admission.admits(Class::Batch, 0));
    }

    /// A worker that does so much in an interval, and falls behind by what is more.
    #[test]
    fn a_worker_at_three_times_its_load_serves_what_it_can_and_the_best_of_it() {
        let mut admission = Admission::default();
        let (mut behind_ms, mut served, mut by_class) = (0_i64, 0_u32, [0_u32; 4]);
        for step in 1..=3_000_u64 {
            // Twenty milliseconds; sixty calls of a millisecond each arrive, fifteen of each class.
            for call in 0..60_u64 {
                let class = Class::ALL[usize::try_from(call % 4).unwrap()];
                let chance = crate::ring::hash(&(step * 64 + call).to_be_bytes());
                if admission.admits(class, chance) {
                    behind_ms += 1;
                    if step > 1_000 {
                        by_class[class.index()] += 1;
                    }
                }
            }
            let done = behind_ms.min(20);
            behind_ms -= done;
            served += u32::try_from(done).unwrap();
            admission.lag(step * 20, behind_ms.unsigned_abs(), 20);
        }
        assert!(served >= 3_000 * 20 * 95 / 100, "{served}: it is never idle");
        assert_eq!(by_class[3], 2_000 * 15, "nothing of the highest is refused");
        assert!(by_class[0] < by_class[2] && by_class[1] < by_class[2], "{by_class:?}");
    }
}
