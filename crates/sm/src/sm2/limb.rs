//! Arithmetic on four limbs of 64 bits, the lowest first: what both moduli share. Everything may
//! run in the compiler, which builds the base-point table, and takes the same time for all values.

#![expect(clippy::cast_possible_truncation, reason = "halves of 128 bits")]

use core::hint::black_box;

/// 256 bits, the lowest limb first.
pub(super) type Limbs = [u64; 4];
/// 512 bits.
pub(super) type Wide = [u64; 8];

/// Sum and carry.
#[inline(always)]
pub(super) const fn adc(a: u64, b: u64, carry: u64) -> (u64, u64) {
    let (sum, first) = a.overflowing_add(b);
    let (sum, second) = sum.overflowing_add(carry);
    (sum, (first | second) as u64)
}

/// Difference and borrow.
#[inline(always)]
pub(super) const fn sbb(a: u64, b: u64, borrow: u64) -> (u64, u64) {
    let (difference, first) = a.overflowing_sub(b);
    let (difference, second) = difference.overflowing_sub(borrow);
    (difference, (first | second) as u64)
}

/// `a + b c + carry`, low and high half.
#[inline(always)]
pub(super) const fn mac(a: u64, b: u64, c: u64, carry: u64) -> (u64, u64) {
    let sum = a as u128 + b as u128 * c as u128 + carry as u128;
    (sum as u64, (sum >> 64) as u64)
}

#[inline(always)]
pub(super) const fn add(a: Limbs, b: Limbs) -> (Limbs, u64) {
    let (s0, c) = adc(a[0], b[0], 0);
    let (s1, c) = adc(a[1], b[1], c);
    let (s2, c) = adc(a[2], b[2], c);
    let (s3, c) = adc(a[3], b[3], c);
    ([s0, s1, s2, s3], c)
}

#[inline(always)]
pub(super) const fn sub(a: Limbs, b: Limbs) -> (Limbs, u64) {
    let (d0, c) = sbb(a[0], b[0], 0);
    let (d1, c) = sbb(a[1], b[1], c);
    let (d2, c) = sbb(a[2], b[2], c);
    let (d3, c) = sbb(a[3], b[3], c);
    ([d0, d1, d2, d3], c)
}

/// `b` where the mask is set, else `a`.
#[inline(always)]
pub(super) const fn select(mask: u64, a: Limbs, b: Limbs) -> Limbs {
    [
        a[0] ^ (mask & (a[0] ^ b[0])),
        a[1] ^ (mask & (a[1] ^ b[1])),
        a[2] ^ (mask & (a[2] ^ b[2])),
        a[3] ^ (mask & (a[3] ^ b[3])),
    ]
}

/// All ones if `bit` is one, else zero. The optimiser must not know that there are only two cases:
/// it made jumps of them.
#[inline(always)]
pub(super) fn mask(bit: u64) -> u64 {
    black_box(bit.wrapping_neg())
}

/// Subtracts the modulus once from `carry * 2^256 + a` if that is at least the modulus.
#[inline(always)]
pub(super) fn reduce_once(a: Limbs, carry: u64, modulus: Limbs) -> Limbs {
    let (less, borrow) = sub(a, modulus);
    // Too small exactly if there is a borrow and no carry to pay it.
    select(mask(borrow & (carry ^ 1)), less, a)
}

#[inline(always)]
pub(super) fn add_mod(a: Limbs, b: Limbs, modulus: Limbs) -> Limbs {
    let (sum, carry) = add(a, b);
    reduce_once(sum, carry, modulus)
}

/// 2^512 modulo a modulus between 2^255 and 2^256, for the compiler.
pub(super) const fn two_512(modulus: Limbs) -> Limbs {
    // 2^256 less the modulus, doubled 256 times.
    let (mut x, _) = sub([0; 4], modulus);
    let mut i = 0;
    while i < 256 {
        let (sum, carry) = add(x, x);
        let (less, borrow) = sub(sum, modulus);
        x = if borrow > carry { sum } else { less };
        i += 1;
    }
    x
}

#[inline(always)]
pub(super) fn sub_mod(a: Limbs, b: Limbs, modulus: Limbs) -> Limbs {
    let (difference, borrow) = sub(a, b);
    let mask = mask(borrow);
    let back = [modulus[0] & mask, modulus[1] & mask, modulus[2] & mask, modulus[3] & mask];
    add(difference, back).0
}

/// One limb times four.
#[inline(always)]
const fn row(a: u64, b: Limbs) -> [u64; 5] {
    let (r0, h0) = mac(0, a, b[0], 0);
    let (l1, h1) = mac(0, a, b[1], 0);
    let (l2, h2) = mac(0, a, b[2], 0);
    let (l3, h3) = mac(0, a, b[3], 0);
    let (r1, c) = adc(l1, h0, 0);
    let (r2, c) = adc(l2, h1, c);
    let (r3, c) = adc(l3, h2, c);
    [r0, r1, r2, r3, h3 + c]
}

/// Adds a row of products to the four limbs above `t[0]`, which is finished and left out.
#[inline(always)]
const fn add_row(t: Limbs, row: [u64; 5]) -> [u64; 5] {
    let (s0, c) = adc(t[0], row[0], 0);
    let (s1, c) = adc(t[1], row[1], c);
    let (s2, c) = adc(t[2], row[2], c);
    let (s3, c) = adc(t[3], row[3], c);
    [s0, s1, s2, s3, row[4] + c]
}

#[inline(always)]
pub(super) const fn mul_wide(a: Limbs, b: Limbs) -> Wide {
    let [r0, t1, t2, t3, t4] = row(a[0], b);
    let [r1, t2, t3, t4, t5] = add_row([t1, t2, t3, t4], row(a[1], b));
    let [r2, t3, t4, t5, t6] = add_row([t2, t3, t4, t5], row(a[2], b));
    let [r3, r4, r5, r6, r7] = add_row([t3, t4, t5, t6], row(a[3], b));
    [r0, r1, r2, r3, r4, r5, r6, r7]
}

/// Six products twice and four squares.
#[inline(always)]
pub(super) const fn square_wide(a: Limbs) -> Wide {
    let (r1, c) = mac(0, a[0], a[1], 0);
    let (r2, c) = mac(0, a[0], a[2], c);
    let (r3, r4) = mac(0, a[0], a[3], c);
    let (r3, c) = mac(r3, a[1], a[2], 0);
    let (r4, r5) = mac(r4, a[1], a[3], c);
    let (r5, r6) = mac(r5, a[2], a[3], 0);
    let r7 = r6 >> 63;
    let r6 = r6 << 1 | r5 >> 63;
    let r5 = r5 << 1 | r4 >> 63;
    let r4 = r4 << 1 | r3 >> 63;
    let r3 = r3 << 1 | r2 >> 63;
    let r2 = r2 << 1 | r1 >> 63;
    let r1 = r1 << 1;
    let (r0, high) = mac(0, a[0], a[0], 0);
    let (r1, c) = adc(r1, high, 0);
    let (low, high) = mac(0, a[1], a[1], 0);
    let (r2, c) = adc(r2, low, c);
    let (r3, c) = adc(r3, high, c);
    let (low, high) = mac(0, a[2], a[2], 0);
    let (r4, c) = adc(r4, low, c);
    let (r5, c) = adc(r5, high, c);
    let (low, high) = mac(0, a[3], a[3], 0);
    let (r6, c) = adc(r6, low, c);
    let (r7, _) = adc(r7, high, c);
    [r0, r1, r2, r3, r4, r5, r6, r7]
}

/// Big-endian bytes, as the standards write integers.
#[expect(clippy::indexing_slicing, reason = "32 bytes are four words")]
pub(super) const fn from_bytes(bytes: &[u8; 32]) -> Limbs {
    let (words, _) = bytes.as_chunks::<8>();
    [
        u64::from_be_bytes(words[3]),
        u64::from_be_bytes(words[2]),
        u64::from_be_bytes(words[1]),
        u64::from_be_bytes(words[0]),
    ]
}

pub(super) fn to_bytes(limbs: Limbs) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (out, limb) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(limbs.into_iter().rev()) {
        *out = limb.to_be_bytes();
    }
    bytes
}

/// Whether `a < b`, for public values and for secrets alike.
pub(super) const fn is_less(a: Limbs, b: Limbs) -> bool {
    sub(a, b).1 == 1
}

/// One if all limbs are zero, else zero.
#[inline(always)]
pub(super) const fn is_zero(a: Limbs) -> u64 {
    let any = a[0] | a[1] | a[2] | a[3];
    1 ^ ((any | any.wrapping_neg()) >> 63)
}
