//! What several tests need: hexadecimal texts, the count of random cases, a generator for them.

use std::vec::Vec;

/// Bytes of a text of hexadecimal digits; spaces are left out.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| u8::try_from(c.to_digit(16).expect("a digit")).expect("below 16"))
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The same as an array.
pub(crate) fn hex_array<const N: usize>(text: &str) -> [u8; N] {
    hex(text).try_into().expect("length")
}

/// Some bytes that a number leads to, spread well.
pub(crate) fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ x >> 31).to_le_bytes()[0]
    };
    (0..count).map(|_| next()).collect()
}

/// The same as an array.
pub(crate) fn random<const N: usize>(seed: u64) -> [u8; N] {
    bytes(seed, N).try_into().expect("length")
}

/// How many random cases to try: one in `share` of `MOAT_SM_CASES`, where one case costs that much
/// more than the cheapest; without the variable, `few`.
pub(crate) fn cases(few: u64, share: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a setting of the test machine")]
    let set = std::env::var("MOAT_SM_CASES").ok();
    let count = set.map(|text| text.parse().expect("MOAT_SM_CASES is a number"));
    if cfg!(miri) { 1 } else { count.map_or(few, |count: u64| count.div_ceil(share)) }
}
