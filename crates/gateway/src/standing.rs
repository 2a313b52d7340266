//! What all workers remember of callers: wrong answers to challenges, budgets, tokens that were used.
//! Each table is bounded, and touched only by calls that need it. A restart forgets it all.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use moat_identity::token::{LEEWAY_S, Token};
use moat_model::code::identity::{TOKEN_NOT_ONCE, TOKEN_REPLAYED, TOKENS_FULL};
use moat_model::code::policy::{BUDGETS_FULL, OVER_BUDGET};
use moat_model::{Code, Refusal, Stage};
use moat_policy::Limit;

use crate::step_up::PassedOn;

/// Wrong answers to challenges within [`STRIKES_MS`], after which none is taken any more.
const STRIKES_MAX: usize = 3;
/// For how long a wrong answer counts, in milliseconds.
const STRIKES_MS: u64 = 300_000;
/// Most callers whose wrong answers are counted. When one more comes, the one whose last wrong
/// answer is the oldest is forgotten.
const STRIKERS_MAX: usize = 4_096;
/// Most budgets in use.
const BUDGETS_MAX: usize = 65_536;
/// Most used tokens that have not expired.
const TOKENS_MAX: usize = 262_144;

/// See the module. Times are monotonic milliseconds unless they say otherwise.
pub(crate) struct Standing {
    strikes: Mutex<HashMap<String, Vec<u64>>>,
    budgets: Mutex<HashMap<(String, String), Budget>>,
    tokens: Mutex<HashMap<(String, String), u64>>,
    /// Nonces of calls that others receive.
    passed_on: Mutex<PassedOn>,
    /// When it began, in seconds since 1970: tokens from before may have been used before.
    began_s: u64,
}

/// What was taken in the window that runs and in the one before.
#[derive(Clone, Copy, Debug, Default)]
struct Budget {
    window_ms: u64,
    /// Number of the window that runs.
    window: u64,
    taken: u128,
    before: u128,
}

impl Standing {
    pub(crate) fn new(began_s: u64) -> Standing {
        let (strikes, budgets, tokens, passed_on) = Default::default();
        Standing { strikes, budgets, tokens, passed_on, began_s }
    }

    /// Nonces of calls that others receive.
    pub(crate) fn passed_on(&self) -> MutexGuard<'_, PassedOn> {
        lock(&self.passed_on)
    }

    /// Counts a wrong answer to a challenge.
    pub(crate) fn strike(&self, caller: &str, now_ms: u64) {
        let mut strikes = lock(&self.strikes);
        strikes.retain(|_, times| times.iter().any(|at| now_ms.saturating_sub(*at) < STRIKES_MS));
        if strikes.len() >= STRIKERS_MAX && !strikes.contains_key(caller) {
            let oldest = strikes.iter().min_by_key(|(_, times)| times.last().copied());
            let oldest = oldest.map(|(caller, _)| caller.clone());
            oldest.and_then(|caller| strikes.remove(&caller));
        }
        let times = strikes.entry(caller.to_owned()).or_default();
        times.retain(|at| now_ms.saturating_sub(*at) < STRIKES_MS);
        times.push(now_ms);
        let more = times.len().saturating_sub(STRIKES_MAX);
        times.drain(..more);
    }

    /// Whether a caller has given as many wrong answers as it may.
    pub(crate) fn is_struck_out(&self, caller: &str, now_ms: u64) -> bool {
        let strikes = lock(&self.strikes);
        let counts = |at: &&u64| now_ms.saturating_sub(**at) < STRIKES_MS;
        strikes.get(caller).is_some_and(|times| times.iter().filter(counts).count() >= STRIKES_MAX)
    }

    /// Takes a call's cost from each of its budgets, or from none.
    ///
    /// # Errors
    /// `OVER_BUDGET` with the budget's name as reason; `BUDGETS_FULL` if it cannot be counted.
    pub(crate) fn spend(&self, caller: &str, limits: &[Limit], now_ms: u64) -> Result<(), Refusal> {
        if limits.is_empty() {
            return Ok(());
        }
        let mut budgets = lock(&self.budgets);
        if budgets.len() + limits.len() > BUDGETS_MAX {
            budgets.retain(|_, budget| !budget.is_over(now_ms));
        }
        let key = |limit: &Limit| (caller.to_owned(), limit.name.clone());
        let mut after = Vec::with_capacity(limits.len());
        for limit in limits {
            let budget = budgets.get(&key(limit)).copied().unwrap_or_default();
            let spent = budget.spend(limit, now_ms);
            let spent = spent.ok_or_else(|| {
                no(&OVER_BUDGET).with_reasons(vec![format!("budget:{}", limit.name)])
            })?;
            after.push((key(limit), spent));
        }
        let fresh = after.iter().filter(|(key, _)| !budgets.contains_key(key)).count();
        if budgets.len() + fresh > BUDGETS_MAX {
            return Err(no(&BUDGETS_FULL));
        }
        budgets.extend(after);
        Ok(())
    }

    /// Takes a token that may be used once.
    ///
    /// # Errors
    /// It was used before, cannot be told from one that was, or cannot be remembered.
    pub(crate) fn use_once(&self, token: &Token, now_s: u64) -> Result<(), Refusal> {
        let Some(id) = &token.id else { return Err(no(&TOKEN_NOT_ONCE).because("no `jti`")) };
        if token.issued_s.is_none_or(|issued_s| issued_s < self.began_s) {
            let why = "`iat` is missing or before the gateway's start";
            return Err(no(&TOKEN_NOT_ONCE).because(why));
        }
        let mut tokens = lock(&self.tokens);
        let key = (token.issuer.clone(), id.clone());
        if tokens.contains_key(&key) {
            return Err(no(&TOKEN_REPLAYED));
        }
        if tokens.len() >= TOKENS_MAX {
            tokens.retain(|_, until_s| *until_s >= now_s);
            if tokens.len() >= TOKENS_MAX {
                return Err(no(&TOKENS_FULL));
            }
        }
        tokens.insert(key, token.expires_s.saturating_add(LEEWAY_S));
        Ok(())
    }
}

impl Budget {
    /// Whether nothing of it counts any more.
    fn is_over(&self, now_ms: u64) -> bool {
        now_ms.checked_div(self.window_ms).is_none_or(|window| window > self.window + 1)
    }

    /// The budget after the call, if it has room: what was taken in this window, and as much of the
    /// one before as still lies within one window's length from now. A budget whose window was
    /// changed by a new policy begins anew.
    fn spend(self, limit: &Limit, now_ms: u64) -> Option<Budget> {
        let window = now_ms.checked_div(limit.per_ms)?;
        let (taken, before) =
            match (self.window_ms == limit.per_ms, window.checked_sub(self.window)) {
                (true, Some(0)) => (self.taken, self.before),
                (true, Some(1)) => (0, self.taken),
                _ => (0, 0),
            };
        let left_ms = u128::from(limit.per_ms - now_ms % limit.per_ms);
        // Rounded up, so that rounding never makes room.
        let still = before.checked_mul(left_ms)?.div_ceil(u128::from(limit.per_ms));
        let taken = taken.checked_add(u128::from(limit.cost))?;
        let fits = still.checked_add(taken)? <= u128::from(limit.most);
        fits.then_some(Budget { window_ms: limit.per_ms, window, taken, before })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here can be half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn no(code: &'static Code) -> Refusal {
    Refusal::new(Stage::Authorize, code)
}

#[cfg(test)]
#[path = "standing_tests.rs"]
mod tests;
