//! Choices without branches. A mask is all ones or all zeros; the optimiser is kept from turning
//! one back into a jump.

use core::hint::black_box;

/// All ones if `bit` is one, zero if it is zero.
#[inline(always)]
pub(crate) fn mask(bit: u64) -> u64 {
    black_box(bit.wrapping_neg())
}

/// All ones if `word` is zero.
#[inline(always)]
pub(crate) fn is_zero(word: u64) -> u64 {
    mask(1 ^ ((word | word.wrapping_neg()) >> 63))
}

/// Whether two texts of equal length are equal, in a time that does not depend on their bytes.
/// Lengths are public.
pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let differ = a.iter().zip(b).fold(0_u8, |sum, (x, y)| black_box(sum | (x ^ y)));
    black_box(differ) == 0
}
