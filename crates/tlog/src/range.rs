//! Arithmetic of indices: how a range of leaves falls apart into complete subtrees.

/// The largest tree, in leaves.
///
/// The paths of such a tree have 63 hashes, as many as tlog-witness lets a request carry.
pub const SIZE_MAX: u64 = 1 << 63;

/// A size beyond [`SIZE_MAX`], an index beyond the size, or sizes in the wrong order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such size, or no such index in a tree of this size")]
pub struct BadSize;

/// Leaves from `start` to before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// A complete subtree of 2^`level` leaves, the `index`-th of its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subtree {
    pub(crate) level: u32,
    pub(crate) index: u64,
}

impl Range {
    /// Where RFC 9162 §2.1.1 splits: at the largest power of two that is smaller than the number.
    fn split(self) -> Option<u64> {
        let last = self.end.checked_sub(self.start)?.checked_sub(1)?;
        self.start.checked_add(1_u64.checked_shl(last.checked_ilog2()?)?)
    }

    /// The complete subtrees, largest first. Holds for ranges that splitting yields, which begin
    /// at a multiple of their largest subtree.
    pub(crate) fn subtrees(self) -> impl DoubleEndedIterator<Item = Subtree> {
        let count = self.end.saturating_sub(self.start);
        (0..u64::BITS).rev().filter(move |level| count >> level & 1 == 1).map(move |level| {
            // The bits above `level` are those of the larger subtrees, which come before.
            let before = count.checked_shr(level + 1).unwrap_or(0);
            let before = before.checked_shl(level + 1).unwrap_or(0);
            Subtree { level, index: self.start.saturating_add(before) >> level }
        })
    }
}

/// What an inclusion proof is made of, from the leaf up (RFC 9162 §2.1.3.1).
pub(crate) fn inclusion(index: u64, size: u64) -> Result<Vec<Range>, BadSize> {
    if index >= size || size > SIZE_MAX {
        return Err(BadSize);
    }
    let mut here = Range { start: 0, end: size };
    let mut ranges = Vec::new();
    // Every turn halves what is left: at most 63 turns.
    while let Some(middle) = here.split() {
        let (left, right) =
            (Range { start: here.start, end: middle }, Range { start: middle, end: here.end });
        let (inside, beside) = if index < middle { (left, right) } else { (right, left) };
        ranges.push(beside);
        here = inside;
    }
    ranges.reverse();
    Ok(ranges)
}

/// What a consistency proof is made of, in its order (RFC 9162 §2.1.4.1).
///
/// Between equal sizes, and from nothing, there is nothing to prove.
pub(crate) fn consistency(old: u64, new: u64) -> Result<Vec<Range>, BadSize> {
    if old > new || new > SIZE_MAX {
        return Err(BadSize);
    }
    let mut ranges = Vec::new();
    if old == 0 {
        return Ok(ranges);
    }
    let mut here = Range { start: 0, end: new };
    // Every turn halves what is left: at most 63 turns.
    while old != here.end {
        let Some(middle) = here.split() else { break };
        if old <= middle {
            ranges.push(Range { start: middle, end: here.end });
            here.end = middle;
        } else {
            ranges.push(Range { start: here.start, end: middle });
            here.start = middle;
        }
    }
    if here.start != 0 {
        ranges.push(here);
    }
    ranges.reverse();
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_falls_apart_into_its_binary_digits() {
        let parts: Vec<Subtree> = Range { start: 16, end: 16 + 13 }.subtrees().collect();
        let want = [(3, 2), (2, 6), (0, 28)];
        assert_eq!(parts, want.map(|(level, index)| Subtree { level, index }));
        assert_eq!(Range { start: 4, end: 4 }.subtrees().count(), 0);
    }

    #[test]
    fn the_largest_tree_has_paths_of_63_hashes() {
        assert_eq!(inclusion(0, SIZE_MAX).unwrap().len(), 63);
        assert_eq!(inclusion(SIZE_MAX - 1, SIZE_MAX).unwrap().len(), 63);
        let whole = Range { start: 0, end: SIZE_MAX };
        let parts: Vec<Subtree> = whole.subtrees().collect();
        assert_eq!(parts, [Subtree { level: 63, index: 0 }]);
        assert_eq!(consistency(SIZE_MAX - 1, SIZE_MAX).unwrap().len(), 64);
        assert_eq!(consistency(1 << 62, SIZE_MAX).unwrap().len(), 1);
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        assert_eq!(inclusion(0, 0), Err(BadSize));
        assert_eq!(inclusion(5, 5), Err(BadSize));
        assert_eq!(inclusion(0, SIZE_MAX + 1), Err(BadSize));
        assert_eq!(consistency(3, 2), Err(BadSize));
        assert_eq!(consistency(3, u64::MAX), Err(BadSize));
    }
}
