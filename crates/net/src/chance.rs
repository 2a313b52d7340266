//! Cheap random numbers for choices that guard nothing: which endpoint, how much jitter.

use core::cell::Cell;
use core::hash::{BuildHasher, Hasher};

/// A xorshift generator (Marsaglia 2003), begun with a number that differs each time.
#[derive(Debug)]
pub struct Chance(Cell<u64>);

impl Default for Chance {
    fn default() -> Chance {
        // The standard library's hash keys are random and differ each time.
        let seed = std::hash::RandomState::new().build_hasher().finish();
        Chance(Cell::new(seed | 1))
    }
}

impl Chance {
    /// The next number.
    pub fn next(&self) -> u64 {
        let mut x = self.0.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.set(x);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// One below `bound`; 0 if that is 0.
    pub fn below(&self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ_and_stay_below_their_bound() {
        let (one, other) = (Chance::default(), Chance::default());
        assert_ne!(one.next(), other.next());
        assert!((0..1_000).all(|_| one.below(7) < 7));
        assert_eq!(one.below(0), 0);
        let ones: u32 = (0..1_000).map(|_| one.next().count_ones()).sum();
        assert!((30_000..34_000).contains(&ones), "{ones}");
    }
}
