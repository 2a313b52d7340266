//! GHASH with integer multiplication: every fifth bit of a factor is kept, so that the sums of bits
//! (at most 13, in five bits) do not run into the next kept one.

use super::BLOCK_BYTES;

/// Every fifth bit, from the lowest on.
const MASK: u128 = {
    let mut mask = 0;
    let mut bit = 0;
    while bit < 128 {
        mask |= 1 << bit;
        bit += 5;
    }
    mask
};

pub(super) fn update(key: u128, sum: u128, blocks: &[[u8; BLOCK_BYTES]]) -> u128 {
    blocks.iter().fold(sum, |sum, block| multiply(sum ^ u128::from_be_bytes(*block), key))
}

/// The product divided by x^128, modulo the polynomial.
pub(super) fn multiply(a: u128, b: u128) -> u128 {
    let (a0, a1, b0, b1) = (low(a), high(a), low(b), high(b));
    let lower = carryless(a0, b0);
    let upper = carryless(a1, b1);
    let cross = carryless(a0 ^ a1, b0 ^ b1) ^ lower ^ upper;
    reduce(lower ^ cross << 64, upper ^ cross >> 64)
}

/// Adds the multiples of the polynomial that clear the lower half, 64 bits at a time.
fn reduce(lower: u128, upper: u128) -> u128 {
    // What a multiple adds to the next word, and to the one after it.
    let next = |word: u64| word << 63 ^ word << 62 ^ word << 57;
    let after = |word: u64| u128::from(word ^ word >> 1 ^ word >> 2 ^ word >> 7);
    let first = low(lower);
    let second = high(lower) ^ next(first);
    upper ^ after(first) ^ u128::from(next(second)) ^ after(second) << 64
}

/// The product of two polynomials of degree 63.
fn carryless(a: u64, b: u64) -> u128 {
    let part = |x: u64, shift: u32| u128::from(x) & (MASK << shift);
    let mut product = 0;
    for i in 0..5 {
        let mut sum = 0;
        for j in 0..5 {
            sum ^= part(a, j) * part(b, (5 + i - j) % 5);
        }
        product ^= sum & (MASK << i);
    }
    product
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
fn low(x: u128) -> u64 {
    x as u64
}

fn high(x: u128) -> u64 {
    low(x >> 64)
}
