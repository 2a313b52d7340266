//! How durations are spread: over all of the last seconds, and second by second for a heat map.

use std::collections::VecDeque;

use super::report::Heat;

/// Buckets of a doubling.
const STEPS: u32 = 8;
const BUCKETS: usize = 40 * STEPS as usize;
/// How long one half of the quantiles is, in nanoseconds.
const HALF_NS: u64 = 10_000_000_000;
/// Seconds of the heat map.
const COLUMNS: usize = 60;
/// Shortest duration of its second row, in microseconds: each has twice that of the one before.
const ROW_US: u64 = 64;
const ROWS: usize = 20;

/// See the module.
pub(super) struct Spread {
    now: Vec<u32>,
    before: Vec<u32>,
    turned_ns: u64,
    /// Of each second, oldest first; the first is that of number `first`.
    columns: VecDeque<[u32; ROWS]>,
    last_s: u64,
}

impl Spread {
    pub(super) fn new() -> Spread {
        let (now, before) = (vec![0; BUCKETS], vec![0; BUCKETS]);
        Spread { now, before, turned_ns: 0, columns: VecDeque::new(), last_s: 0 }
    }

    /// A call that ended at `at_ns` after `took_ns`.
    pub(super) fn add(&mut self, at_ns: u64, took_ns: u64) {
        self.turn(at_ns);
        if let Some(count) = self.now.get_mut(bucket(took_ns)) {
            *count = count.saturating_add(1);
        }
        let row = row(took_ns / 1_000);
        let behind = self.last_s.saturating_sub(at_ns / 1_000_000_000);
        let at = u64::try_from(self.columns.len()).unwrap_or(0).checked_sub(behind + 1);
        let column = at.and_then(|at| self.columns.get_mut(usize::try_from(at).ok()?));
        if let Some(count) = column.and_then(|column| column.get_mut(row)) {
            *count = count.saturating_add(1);
        }
    }

    /// Goes on to this moment.
    pub(super) fn turn(&mut self, at_ns: u64) {
        if at_ns.saturating_sub(self.turned_ns) >= HALF_NS {
            let is_long_ago = at_ns.saturating_sub(self.turned_ns) >= 2 * HALF_NS;
            std::mem::swap(&mut self.now, &mut self.before);
            self.now.fill(0);
            if is_long_ago {
                self.before.fill(0);
            }
            self.turned_ns = at_ns;
        }
        let second = at_ns / 1_000_000_000;
        let steps = if self.columns.is_empty() { 1 } else { second.saturating_sub(self.last_s) };
        for _ in 0..steps.min(COLUMNS as u64) {
            if self.columns.len() == COLUMNS {
                self.columns.pop_front();
            }
            self.columns.push_back([0; ROWS]);
        }
        self.last_s = self.last_s.max(second);
    }

    /// How many there are, and the duration that this share of them does not exceed, in
    /// nanoseconds.
    pub(super) fn quantile(&self, share: f64) -> (u64, u64) {
        let both = || self.now.iter().zip(&self.before).map(|(a, b)| u64::from(*a) + u64::from(*b));
        let all: u64 = both().sum();
        if all == 0 {
            return (0, 0);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count that is not negative"
        )]
        let mut left = (all as f64 * share).ceil() as u64;
        for (bucket, count) in both().enumerate() {
            if count >= left {
                return (all, end_of(bucket));
            }
            left -= count;
        }
        (all, 0)
    }

    pub(super) fn heat(&self) -> Heat {
        let from = |row: usize| if row == 0 { 0 } else { ROW_US << (row - 1) };
        Heat {
            rows_us: (0..ROWS).map(from).collect(),
            columns: self.columns.iter().map(|column| column.to_vec()).collect(),
        }
    }
}

fn row(us: u64) -> usize {
    let doublings = (us / ROW_US).checked_ilog2().map_or(0, |log| log + 1);
    usize::try_from(doublings).unwrap_or(ROWS).min(ROWS - 1)
}

/// Eight steps to each doubling, from 1 microsecond on.
fn bucket(ns: u64) -> usize {
    let ns = ns.max(1_024);
    let log = ns.ilog2();
    let step = (ns >> (log - 3)) & 7;
    let at = u64::from((log - 10) * STEPS) + step;
    usize::try_from(at).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The longest duration of a bucket, in nanoseconds.
fn end_of(bucket: usize) -> u64 {
    let bucket = u64::try_from(bucket).unwrap_or(0);
    let (log, step) = (bucket / u64::from(STEPS) + 10, bucket % u64::from(STEPS));
    ((8 + step + 1) << (log - 3)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_lies_in_its_bucket_within_an_eighth() {
        for ns in [1_024, 1_500, 9_999, 123_456, 7_000_000, 3_000_000_000_u64] {
            let end = end_of(bucket(ns));
            assert!(end >= ns && end - ns <= ns / 8, "{ns} {end}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_forget_what_was_long_ago() {
        let mut spread = Spread::new();
        for n in 0..100 {
            spread.add(1_000_000_000, if n < 98 { 100_000 } else { 9_000_000 });
        }
        let (count, p50) = spread.quantile(0.5);
        assert_eq!(count, 100);
        assert!((100_000..115_000).contains(&p50), "{p50}");
        assert!(spread.quantile(0.99).1 >= 9_000_000);
        spread.turn(60_000_000_000);
        assert_eq!(spread.quantile(0.5).0, 0);
    }

    #[test]
    fn a_minute_of_seconds_is_kept_and_a_late_call_stands_in_its_own() {
        let mut spread = Spread::new();
        for second in 0..100_u64 {
            spread.add(second * 1_000_000_000, 100_000);
        }
        spread.add(98_500_000_000, 100_000);
        let heat = spread.heat();
        assert_eq!((heat.columns.len(), heat.rows_us.len()), (COLUMNS, ROWS));
        assert_eq!(&heat.rows_us[..4], &[0, 64, 128, 256]);
        assert_eq!(heat.columns[58][1], 2);
        assert_eq!(heat.columns[59][1], 1);
        spread.add(3, 100_000);
        assert_eq!(row(63), 0);
        assert_eq!(row(64), 1);
        assert_eq!(row(u64::MAX), ROWS - 1);
    }
}
