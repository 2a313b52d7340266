//! Rates, kept by GCRA in whole nanoseconds: one number for each caller says when its next call is
//! due, and how far it may run ahead of that is the burst. No timer, no drift.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

/// Parts of the table, each behind a lock of its own.
const SHARDS: usize = 16;
/// Most callers that are counted apart in one part; all others together are one.
const KEYS_MAX: usize = 4_096;
/// The key of those others.
const OTHERS: u64 = 0;

/// How many calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Time from one call to the next, in nanoseconds.
    interval_ns: u64,
    /// How far a caller may run ahead, in nanoseconds.
    ahead_ns: u64,
}

/// What a rate says of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may go; so many more may follow at once.
    Pass {
        /// In calls.
        left: u64,
    },
    /// It may not; the next one may after this time.
    Refused {
        /// In nanoseconds, at least 1.
        wait_ns: u64,
    },
}

impl Rate {
    /// So many calls in so many nanoseconds, and so many at once, at least one.
    #[must_use]
    pub fn new(calls: u64, every_ns: u64, burst: u64) -> Rate {
        // Rounded up: never more than was allowed.
        let interval_ns = every_ns.div_ceil(calls.max(1)).max(1);
        Rate { interval_ns, ahead_ns: interval_ns.saturating_mul(burst.max(1)) }
    }

    /// Decides a call at `now_ns`, given when the next one is due; gives the new due time if it
    /// may go.
    #[must_use]
    pub fn decide(self, due_ns: u64, now_ns: u64) -> (u64, Decision) {
        let next = due_ns.max(now_ns).saturating_add(self.interval_ns);
        let ahead = next - now_ns.min(next);
        match self.ahead_ns.checked_sub(ahead) {
            Some(left) => (next, Decision::Pass { left: left / self.interval_ns }),
            None => (due_ns, Decision::Refused { wait_ns: ahead - self.ahead_ns }),
        }
    }
}

/// A rate for each of many callers, over all workers.
#[derive(Debug)]
pub struct Limiter {
    rate: Rate,
    hash: RandomState,
    shards: [Mutex<HashMap<u64, u64>>; SHARDS],
}

impl Limiter {
    /// With nobody counted yet.
    #[must_use]
    pub fn new(rate: Rate) -> Limiter {
        Limiter { rate, hash: RandomState::new(), shards: Default::default() }
    }

    /// The rate.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Decides a call of `caller` at `now_ns` of a clock that never steps back, and counts it if it
    /// may go. The lock is held for a look into a map.
    #[must_use]
    pub fn take(&self, caller: &str, now_ns: u64) -> Decision {
        // 64 bits of a keyed hash: two callers that share one would share a rate.
        let key = self.hash.hash_one(caller).max(OTHERS + 1);
        let at = usize::try_from(key % 16).unwrap_or(0);
        let Some(shard) = self.shards.get(at) else { return Decision::Refused { wait_ns: 1 } };
        let mut due = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let key = if due.len() >= KEYS_MAX && !due.contains_key(&key) {
            // Whose next call is due is as good as new.
            due.retain(|_, due_ns| *due_ns > now_ns);
            if due.len() >= KEYS_MAX { OTHERS } else { key }
        } else {
            key
        };
        let (next, decision) = self.rate.decide(due.get(&key).copied().unwrap_or(0), now_ns);
        if matches!(decision, Decision::Pass { .. }) {
            due.insert(key, next);
        }
        decision
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let limiter = Limiter::new(Rate::new(10, SECOND, 3));
        let left = |now| limiter.take("a", now);
        assert_eq!(left(SECOND), Decision::Pass { left: 2 });
        assert_eq!(left(SECOND), Decision::Pass { left: 1 });
        assert_eq!(left(SECOND), Decision::Pass { left: 0 });
        assert_eq!(left(SECOND), Decision::Refused { wait_ns: SECOND / 10 });
        assert_eq!(limiter.take("b", SECOND), Decision::Pass { left: 2 }, "another caller");
        assert_eq!(left(SECOND + SECOND / 10), Decision::Pass { left: 0 });
        assert_eq!(
            left(60 * SECOND),
            Decision::Pass { left: 2 },
            "no more than the burst is saved"
        );
    }

    #[test]
    fn strangers_beyond_the_bound_share_one_rate_and_memory_is_bounded() {
        let limiter = Limiter::new(Rate::new(1, 3_600 * SECOND, 1));
        let passed = (0..200_000)
            .filter(|n| matches!(limiter.take(&n.to_string(), SECOND), Decision::Pass { .. }));
        assert_eq!(
            passed.count(),
            SHARDS * KEYS_MAX + SHARDS,
            "each part has one place for others"
        );
        let held: usize = limiter.shards.iter().map(|s| s.lock().unwrap().len()).sum();
        assert_eq!(held, SHARDS * KEYS_MAX + SHARDS);
        let later = 7_300 * SECOND;
        assert!(
            matches!(limiter.take("new", later), Decision::Pass { .. }),
            "what is over is let go"
        );
    }

    #[test]
    fn workers_together_have_the_rate_of_one() {
        let limiter = Limiter::new(Rate::new(100, SECOND, 10));
        let (clock, passed) = (AtomicU64::new(SECOND), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        let now = clock.fetch_add(SECOND / 10_000, Ordering::Relaxed);
                        if matches!(limiter.take("a", now), Decision::Pass { .. }) {
                            passed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let passed = passed.load(Ordering::Relaxed);
        assert!((195..=211).contains(&passed), "{passed} in two seconds");
    }

    proptest! {
        #[test]
        fn it_agrees_with_exact_arithmetic(
            calls in 1_u64..1_000, every_ms in 1_u64..100_000, burst in 1_u64..50,
            pauses in proptest::collection::vec(0_u64..2_000_000_000, 1..300),
        ) {
            let every = every_ms * 1_000_000;
            let rate = Rate::new(calls, every, burst);
            // A bucket that leaks, in units of which a call is exactly one interval.
            let interval = u128::from(every.div_ceil(calls));
            let (mut level, mut due, mut now, mut last) = (0_u128, 0_u64, SECOND, SECOND);
            for pause in pauses {
                now += pause;
                level = level.saturating_sub(u128::from(now - last));
                last = now;
                let fits = level + interval <= interval * u128::from(burst);
                let (next, decision) = rate.decide(due, now);
                prop_assert_eq!(matches!(decision, Decision::Pass { .. }), fits);
                if fits {
                    level += interval;
                } else if let Decision::Refused { wait_ns } = decision {
                    prop_assert_eq!(u128::from(wait_ns), level + interval - interval * u128::from(burst));
                }
                due = next;
            }
        }
    }
}
