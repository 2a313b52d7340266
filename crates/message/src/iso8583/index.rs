//! Where the fields of one message lie. Made once and reused: nothing is allocated for a message.

use super::bitmap::Present;
use super::mti::Mti;
use crate::limit::FIELD_MAX;

/// Offset in the upper half, length in the lower half.
pub(crate) type Slot = u32;

#[inline]
pub(crate) fn slot(offset: usize, bytes: usize) -> Slot {
    // Both are within a message of 65,535 bytes, which is asked before anything is read.
    let narrow = |value: usize| u32::try_from(value).unwrap_or(0) & 0xffff;
    narrow(offset) << 16 | narrow(bytes)
}

#[inline]
pub(crate) fn place(slot: Slot) -> (usize, usize) {
    let wide = |value: u32| usize::try_from(value).unwrap_or(0);
    (wide(slot >> 16), wide(slot & 0xffff))
}

/// The index of a message: one slot for each field that is there, in order. Slots behind the last
/// are left from earlier messages and never read.
#[derive(Clone, Debug)]
pub struct Index {
    pub(crate) slots: [Slot; FIELD_MAX as usize],
    pub(crate) present: Present,
    pub(crate) mti: Option<Mti>,
    /// Where the message type, the first bitmap and the first field begin.
    pub(crate) mti_at: usize,
    pub(crate) bitmap_at: usize,
    pub(crate) body_at: usize,
}

impl Default for Index {
    fn default() -> Index {
        Index {
            slots: [0; FIELD_MAX as usize],
            present: Present::default(),
            mti: None,
            mti_at: 0,
            bitmap_at: 0,
            body_at: 0,
        }
    }
}

impl Index {
    /// An empty index.
    #[must_use]
    pub fn new() -> Index {
        Index::default()
    }

    #[inline]
    pub(crate) fn find(&self, field: u8) -> Option<(usize, usize)> {
        if !self.present.has(field) {
            return None;
        }
        self.slots.get(self.present.rank(field)).map(|slot| place(*slot))
    }
}
