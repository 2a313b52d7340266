//! Counting within a window of time, and what was usual in the windows before.

/// How much of the usual is forgotten with each window that passes: one part in eight.
const FORGOTTEN: u32 = 8;
/// Most windows for which forgetting is worked out; after more the usual is nothing.
const WINDOWS_MAX: u32 = 64;

/// A sliding count, and the highest that came of allowed calls in a window before, which fades.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counter {
    /// Number of the window that runs.
    pub(super) window: u32,
    /// Attempts in the window that runs and in the one before.
    pub(super) taken: u32,
    pub(super) before: u32,
    /// Allowed ones in the window that runs.
    pub(super) allowed: u32,
    pub(super) usual: u32,
}

impl Counter {
    /// Moves on to the window of `now_s`. A clock that goes back changes nothing.
    pub(super) fn roll(&mut self, now_s: u64, length_s: u64) {
        let window = number(now_s, length_s);
        let Some(passed) = window.checked_sub(self.window).filter(|passed| *passed > 0) else {
            return;
        };
        self.before = if passed == 1 { self.taken } else { 0 };
        for _ in 0..passed.min(WINDOWS_MAX) {
            // Rounded up: what is little fades too.
            self.usual -= self.usual.div_ceil(FORGOTTEN);
            self.usual = self.usual.max(std::mem::take(&mut self.allowed));
        }
        if passed > WINDOWS_MAX {
            self.usual = 0;
        }
        (self.window, self.taken) = (window, 0);
    }

    /// How many there were within one window's length from now.
    pub(super) fn count(&self, now_s: u64, length_s: u64) -> u64 {
        let left_s = length_s - now_s % length_s;
        u64::from(self.taken) + u64::from(self.before) * left_s / length_s
    }
}

/// The number of a window.
pub(super) fn number(now_s: u64, length_s: u64) -> u32 {
    u32::try_from(now_s.checked_div(length_s).unwrap_or(0)).unwrap_or(u32::MAX)
}

/// Points for a count above twice the usual, or above what is always granted: 100 for each such
/// amount that it is over.
pub(super) fn excess(count: u64, usual: u32, granted: u64) -> u64 {
    let fine = granted.max(u64::from(usual) * 2);
    count.saturating_sub(fine).saturating_mul(100).checked_div(fine).unwrap_or(0)
}
