//! Counts for keys that have no place of their own: a count-min sketch (Cormode and Muthukrishnan)
//! of this hour and the last. It never counts too little, and at times too much.

use std::sync::atomic::{AtomicU32, Ordering};

use super::counter::number;

/// Rows, each with its own share of the key's hash.
const ROWS: usize = 4;
/// Counters in a row; a power of two.
const COLUMNS: usize = 65_536;
/// Length of a window, in seconds.
const WINDOW_S: u64 = 3_600;

/// See the module. 2 MiB; shared by all workers without a lock. When an hour begins, one worker
/// empties the older half while others may count: a few counts of that moment may be lost.
pub(super) struct Sketch {
    halves: [Box<[AtomicU32]>; 2],
    window: AtomicU32,
}

impl Sketch {
    pub(super) fn new() -> Sketch {
        let half = || (0..ROWS * COLUMNS).map(|_| AtomicU32::new(0)).collect();
        Sketch { halves: [half(), half()], window: AtomicU32::new(0) }
    }

    /// Counts one more, if `is_counted`; gives the counts of this hour and of the last.
    pub(super) fn count(&self, key: u64, now_s: u64, is_counted: bool) -> (u64, u64) {
        let window = number(now_s, WINDOW_S);
        let known = self.window.load(Ordering::Relaxed);
        if window > known
            && self
                .window
                .compare_exchange(known, window, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            for (at, half) in self.halves.iter().enumerate() {
                if window - known > 1 || at == place(window) {
                    half.iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
                }
            }
        }
        let (now, last) = if place(window) == 0 { (0, 1) } else { (1, 0) };
        let least = |half: usize, adds: bool| {
            let rows = (0..ROWS).filter_map(|row| {
                let counter = self.halves.get(half)?.get(row * COLUMNS + column(key, row))?;
                Some(if adds {
                    counter.fetch_add(1, Ordering::Relaxed).saturating_add(1)
                } else {
                    counter.load(Ordering::Relaxed)
                })
            });
            rows.min().map_or(0, u64::from)
        };
        (least(now, is_counted), least(last, false))
    }
}

fn place(window: u32) -> usize {
    usize::from(window % 2 == 1)
}

/// Sixteen bits of the hash for each row.
fn column(key: u64, row: usize) -> usize {
    let bytes = key.to_le_bytes();
    let pair = [bytes.get(row * 2), bytes.get(row * 2 + 1)];
    let [Some(low), Some(high)] = pair else { return 0 };
    usize::from(u16::from_le_bytes([*low, *high]))
}
