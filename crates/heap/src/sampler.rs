//! When a sample is taken, and of whom.

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::EVERY_BYTES;
use crate::table::{Profile, Table};

/// Most frames of a stack; those of whoever asked last come first.
const FRAMES_MAX: usize = 40;
/// Bytes of the look-up that most addresses end at: a power of two.
const SIEVE: usize = 64 * 1024;

static IS_ON: AtomicBool = AtomicBool::new(false);
static TABLE: Mutex<Option<Table>> = Mutex::new(None);
/// How many sampled addresses share each place, up to 255, from where it does not come down again.
static MAYBE: [AtomicU8; SIEVE] = [const { AtomicU8::new(0) }; SIEVE];

thread_local! {
    /// Bytes until the next sample.
    static LEFT: Cell<i64> = const { Cell::new(0) };
    /// State of the random distances.
    static CHANCE: Cell<u64> = const { Cell::new(0) };
    /// Whether this thread is taking a sample: what it allocates for that is none.
    static IS_BUSY: Cell<bool> = const { Cell::new(false) };
}

/// Begins to take samples, of everything that is allocated from now on.
pub fn begin() {
    if let Ok(mut table) = TABLE.lock() {
        table.get_or_insert_with(Table::new);
    }
    IS_ON.store(true, Ordering::Relaxed);
}

/// What is held now and what was ever allocated, as far as it was sampled; nothing before
/// [`begin`].
#[must_use]
pub fn profile() -> Option<Profile> {
    let _busy = Busy::enter()?;
    TABLE.lock().ok()?.as_ref().map(Table::profile)
}

/// This thread allocates for itself.
struct Busy;

impl Busy {
    /// Nothing if it does already, or is about to end.
    fn enter() -> Option<Busy> {
        let was_busy = IS_BUSY.try_with(|busy| busy.replace(true)).unwrap_or(true);
        // Made only if it was not: one that is dropped ends the other.
        if was_busy { None } else { Some(Busy) }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = IS_BUSY.try_with(|busy| busy.set(false));
    }
}

/// Memory was given out.
#[inline]
pub(crate) fn given(place: usize, bytes: usize) {
    if !IS_ON.load(Ordering::Relaxed) {
        return;
    }
    let size = i64::try_from(bytes).unwrap_or(i64::MAX);
    let is_due = LEFT.try_with(|left| {
        let rest = left.get().saturating_sub(size);
        left.set(rest);
        rest < 0
    });
    if is_due == Ok(true) && place != 0 {
        sample(place, bytes);
    }
}

/// Memory is given back.
#[inline]
pub(crate) fn taken_back(place: usize) {
    let is_maybe = MAYBE.get(sieve(place)).is_some_and(|count| count.load(Ordering::Relaxed) > 0);
    if is_maybe {
        forget(place);
    }
}

/// Fibonacci hashing; the lowest bits of addresses are alike.
fn sieve(place: usize) -> usize {
    let place = u64::try_from(place).unwrap_or(0) >> 4;
    let hash = place.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(hash >> 48).unwrap_or(0) % SIEVE
}

#[cold]
#[inline(never)]
fn sample(place: usize, bytes: usize) {
    let Some(_busy) = Busy::enter() else { return };
    // What a thread asks for first is no more worth a sample than the rest.
    let is_first = CHANCE.try_with(Cell::get) == Ok(0);
    let _ = LEFT.try_with(|left| left.set(distance()));
    if is_first {
        return;
    }
    let mut stack = Vec::with_capacity(FRAMES_MAX);
    backtrace::trace(|frame| {
        stack.push(u64::try_from(frame.ip().addr()).unwrap_or(0));
        stack.len() < FRAMES_MAX
    });
    let Ok(mut table) = TABLE.lock() else { return };
    let Some(table) = table.as_mut() else { return };
    if table.add(place, u64::try_from(bytes).unwrap_or(u64::MAX), &stack)
        && let Some(count) = MAYBE.get(sieve(place))
    {
        let more = |count: u8| Some(count.saturating_add(1));
        let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }
}

#[cold]
#[inline(never)]
fn forget(place: usize) {
    // What this thread frees while it takes a sample was allocated for that.
    let Some(_busy) = Busy::enter() else { return };
    let Ok(mut table) = TABLE.lock() else { return };
    let Some(table) = table.as_mut() else { return };
    if table.remove(place)
        && let Some(count) = MAYBE.get(sieve(place))
    {
        let less = |count: u8| (count < u8::MAX).then(|| count.saturating_sub(1));
        let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

/// Bytes until the next sample: from nothing to twice the mean, so that no pattern of the program's
/// own hides behind it.
fn distance() -> i64 {
    let random = CHANCE.try_with(|chance| {
        // xorshift (Marsaglia 2003): good enough for distances. A thread begins somewhere else than
        // others, by where its own variable lies.
        let mut x = chance.get();
        if x == 0 {
            x = u64::try_from(std::ptr::from_ref(chance).addr()).unwrap_or(0) | 1;
        }
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        chance.set(x);
        x
    });
    let random = random.unwrap_or(EVERY_BYTES);
    i64::try_from(random % (2 * EVERY_BYTES)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::Busy;

    #[test]
    fn nobody_samples_within_a_sample() {
        let outer = Busy::enter();
        assert!(outer.is_some());
        // Twice: one that is refused must not end the one that is under way.
        assert!(Busy::enter().is_none());
        assert!(Busy::enter().is_none());
        drop(outer);
        assert!(Busy::enter().is_some());
    }
}
