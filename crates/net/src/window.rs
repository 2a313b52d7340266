//! Good and bad outcomes of the last ten seconds, counted by all workers without a lock.

use core::sync::atomic::{AtomicU64, Ordering};

/// Length of the window, in buckets of one second.
pub const SECONDS: u64 = 10;
const BUCKETS: usize = 10;
/// Bits of each count in a bucket's word; what is over is no longer counted, so the ratio stays.
const COUNT_BITS: u32 = 20;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
/// Bits of the second that a bucket stands for: half a year before a number comes again.
const SECOND_MASK: u64 = (1 << (64 - 2 * COUNT_BITS)) - 1;

/// See the module. A bucket is one word: its second, all outcomes, bad outcomes.
#[derive(Debug, Default)]
pub struct Window([AtomicU64; BUCKETS]);

/// What a window holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// All outcomes.
    pub all: u64,
    /// Those that were bad.
    pub bad: u64,
}

impl Sum {
    /// Whether more than `percent` of the outcomes are bad.
    #[must_use]
    pub const fn is_over(self, percent: u32) -> bool {
        // Counts have 24 bits at most, so nothing overflows.
        self.bad * 100 > self.all * percent as u64
    }
}

const fn pack(second: u64, sum: Sum) -> u64 {
    ((second & SECOND_MASK) << (2 * COUNT_BITS)) | (sum.all << COUNT_BITS) | sum.bad
}

const fn unpack(word: u64) -> (u64, Sum) {
    let sum = Sum { all: (word >> COUNT_BITS) & COUNT_MAX, bad: word & COUNT_MAX };
    (word >> (2 * COUNT_BITS), sum)
}

impl Window {
    /// Counts one outcome at `now_s`, in seconds of a clock that never steps back.
    pub fn add(&self, now_s: u64, is_bad: bool) {
        let Some(bucket) = usize::try_from(now_s % SECONDS).ok().and_then(|at| self.0.get(at))
        else {
            return;
        };
        let second = now_s & SECOND_MASK;
        // A failed update is one that has nothing to change: the bucket is full.
        let _ = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let (of, sum) = unpack(word);
            let sum = if of == second { sum } else { Sum::default() };
            let next = Sum { all: sum.all + 1, bad: sum.bad + u64::from(is_bad) };
            (sum.all < COUNT_MAX).then(|| pack(second, next))
        });
    }

    /// What was counted in the ten seconds that end with `now_s`.
    #[must_use]
    pub fn sum(&self, now_s: u64) -> Sum {
        let mut total = Sum::default();
        for bucket in &self.0 {
            let (second, sum) = unpack(bucket.load(Ordering::Relaxed));
            if (now_s & SECOND_MASK).wrapping_sub(second) & SECOND_MASK < SECONDS {
                total.all += sum.all;
                total.bad += sum.bad;
            }
        }
        total
    }

    /// Forgets everything.
    pub fn clear(&self) {
        for bucket in &self.0 {
            bucket.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_older_than_ten_seconds_no_longer_counts() {
        let window = Window::default();
        window.add(100, true);
        window.add(105, false);
        assert_eq!(window.sum(109), Sum { all: 2, bad: 1 });
        assert_eq!(window.sum(110), Sum { all: 1, bad: 0 });
        assert_eq!(window.sum(115), Sum::default());
        window.add(116, true);
        window.clear();
        assert_eq!(window.sum(116), Sum::default());
    }

    #[test]
    fn a_full_bucket_keeps_its_ratio() {
        let window = Window::default();
        window.0[7].store(pack(7, Sum { all: COUNT_MAX, bad: COUNT_MAX / 2 }), Ordering::Relaxed);
        window.add(7, true);
        assert_eq!(window.sum(7), Sum { all: COUNT_MAX, bad: COUNT_MAX / 2 });
    }

    #[test]
    fn workers_lose_no_count() {
        let window = Window::default();
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let window = &window;
                scope.spawn(move || {
                    for call in 0..5_000_u64 {
                        window.add(50 + call / 1_000, worker == 0);
                    }
                });
            }
        });
        assert_eq!(window.sum(54), Sum { all: 20_000, bad: 5_000 });
    }

    proptest! {
        #[test]
        fn a_window_agrees_with_a_list(
            steps in proptest::collection::vec((0_u64..4, any::<bool>()), 0..200),
            start in 0_u64..(1 << 25),
        ) {
            let window = Window::default();
            let (mut list, mut now) = (VecDeque::new(), start + SECONDS);
            for (pause, is_bad) in steps {
                now += pause;
                window.add(now, is_bad);
                list.push_back((now, is_bad));
                while list.front().is_some_and(|(at, _)| *at + SECONDS <= now) {
                    list.pop_front();
                }
                let bad = list.iter().filter(|(_, bad)| *bad).count() as u64;
                prop_assert_eq!(window.sum(now), Sum { all: list.len() as u64, bad });
            }
        }
    }
}
