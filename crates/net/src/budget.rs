//! How many tries may be made beside the first ones: a share of them, so that a service that fails
//! is not also buried under repetitions.

use core::cell::Cell;

/// What one first try adds, in thousandths of a retry.
const DEPOSIT: u32 = 100;
/// What one retry takes.
const COST: u32 = 1_000;
/// Most that can be saved: ten retries.
const SAVED_MAX: u32 = 10 * COST;

/// The retries that one worker may make towards one service.
#[derive(Debug)]
pub struct Budget(Cell<u32>);

impl Default for Budget {
    fn default() -> Budget {
        Budget(Cell::new(SAVED_MAX))
    }
}

impl Budget {
    /// A first try is made.
    pub fn earn(&self) {
        self.0.set((self.0.get() + DEPOSIT).min(SAVED_MAX));
    }

    /// Takes a retry, if there is one.
    #[must_use]
    pub fn spend(&self) -> bool {
        let left = self.0.get().checked_sub(COST);
        if let Some(left) = left {
            self.0.set(left);
        }
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_service_that_always_fails_gets_a_tenth_more_and_ten() {
        let budget = Budget::default();
        let mut tries = 0;
        for _ in 0..1_000 {
            budget.earn();
            tries += 1;
            while budget.spend() {
                tries += 1;
            }
        }
        assert_eq!(tries, 1_000 + 10 + 100 - 1, "the first deposit finds the budget full");
    }

    proptest! {
        #[test]
        fn retries_never_exceed_a_tenth_of_first_tries_and_ten(
            steps in proptest::collection::vec(any::<bool>(), 0..2_000)
        ) {
            let (budget, mut first, mut again) = (Budget::default(), 0_u32, 0_u32);
            for is_first in steps {
                if is_first {
                    budget.earn();
                    first += 1;
                } else if budget.spend() {
                    again += 1;
                }
                prop_assert!(again * 10 <= first + 100);
            }
        }
    }
}
