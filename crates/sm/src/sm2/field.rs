//! The field of the curve: integers modulo p = 2^256 - 2^224 - 2^96 + 2^64 - 1 (GB/T 32918.5 §2),
//! in Montgomery form. An element is stored as any number below 2^256 that is right modulo p: there
//! are two such numbers for the least values. A carry out of the top is cheap to take in again; a
//! comparison with p would not be.
//!
//! p is -1 modulo 2^64, so a step of the reduction needs no product: its multiplier is the lowest
//! limb itself, and p times a limb is shifts.

use core::hint::black_box;

use super::limb::{self, Limbs, Wide, adc, sbb};

pub(super) const P: Limbs =
    [0xffff_ffff_ffff_ffff, 0xffff_ffff_0000_0000, 0xffff_ffff_ffff_ffff, 0xffff_fffe_ffff_ffff];

/// 2^512 modulo p.
const R2: Limbs = limb::two_512(P);

/// An element.
#[derive(Clone, Copy, Default)]
pub(super) struct Fe(Limbs);

impl Fe {
    pub(super) const ZERO: Self = Self([0; 4]);
    pub(super) const ONE: Self = Self(limb::sub([0; 4], P).0);

    /// From an integer below p.
    pub(super) const fn from_limbs(limbs: Limbs) -> Self {
        Self(reduce(limb::mul_wide(limbs, R2)))
    }

    /// From 32 bytes, if the integer is below p.
    pub(super) fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let limbs = limb::from_bytes(bytes);
        limb::is_less(limbs, P).then(|| Self::from_limbs(limbs))
    }

    /// The integer below p.
    pub(super) fn to_limbs(self) -> Limbs {
        let [a, b, c, d] = self.0;
        limb::reduce_once(reduce([a, b, c, d, 0, 0, 0, 0]), 0, P)
    }

    pub(super) fn to_bytes(self) -> [u8; 32] {
        limb::to_bytes(self.to_limbs())
    }

    /// As it is stored.
    #[allow(dead_code, reason = "the build script and tests use it")]
    pub(super) const fn raw(self) -> Limbs {
        self.0
    }

    /// What [`Fe::raw`] gave.
    pub(super) const fn from_raw(limbs: Limbs) -> Self {
        Self(limbs)
    }

    #[inline(always)]
    pub(super) const fn add(self, other: Self) -> Self {
        let (sum, carry) = limb::add(self.0, other.0);
        let (sum, carry) = add_if(sum, carry);
        Self(add_if(sum, carry).0)
    }

    #[inline(always)]
    pub(super) const fn sub(self, other: Self) -> Self {
        let (difference, borrow) = limb::sub(self.0, other.0);
        let (difference, borrow) = sub_if(difference, borrow);
        Self(sub_if(difference, borrow).0)
    }

    #[inline(always)]
    pub(super) const fn double(self) -> Self {
        self.add(self)
    }

    #[inline(always)]
    pub(super) const fn neg(self) -> Self {
        Self::ZERO.sub(self)
    }

    #[inline(always)]
    pub(super) const fn mul(self, other: Self) -> Self {
        Self(reduce(limb::mul_wide(self.0, other.0)))
    }

    #[inline(always)]
    pub(super) const fn square(self) -> Self {
        Self(reduce(limb::square_wide(self.0)))
    }

    /// `other` where the mask is set, else this.
    #[inline(always)]
    pub(super) const fn select(mask: u64, this: Self, other: Self) -> Self {
        Self(limb::select(mask, this.0, other.0))
    }

    /// All ones if it is zero, else zero.
    #[inline(always)]
    pub(super) fn is_zero(self) -> u64 {
        let [a, b, c, d] = self.0;
        let is_p = limb::is_zero([a ^ P[0], b ^ P[1], c ^ P[2], d ^ P[3]]);
        limb::mask(limb::is_zero(self.0) | is_p)
    }

    #[inline(always)]
    pub(super) fn equals(self, other: Self) -> bool {
        self.sub(other).is_zero() != 0
    }

    const fn square_times(mut self, times: u32) -> Self {
        let mut i = 0;
        while i < times {
            self = self.square();
            i += 1;
        }
        self
    }

    /// The inverse, by raising to p - 2; zero gives zero.
    pub(super) const fn invert(self) -> Self {
        // Named by how many ones the exponent has.
        let x1 = self;
        let x2 = x1.square_times(1).mul(x1);
        let x4 = x2.square_times(2).mul(x2);
        let x6 = x4.square_times(2).mul(x2);
        let x12 = x6.square_times(6).mul(x6);
        let x24 = x12.square_times(12).mul(x12);
        let x30 = x24.square_times(6).mul(x6);
        let x31 = x30.square_times(1).mul(x1);
        let x32 = x31.square_times(1).mul(x1);
        // p - 2 = fffffffe ffffffff ffffffff ffffffff ffffffff 00000000 ffffffff fffffffd
        let e = x31.square_times(33).mul(x32);
        let e = e.square_times(32).mul(x32);
        let e = e.square_times(32).mul(x32);
        let e = e.square_times(32).mul(x32);
        let e = e.square_times(64).mul(x32);
        let e = e.square_times(30).mul(x30);
        e.square_times(2).mul(x1)
    }
}

/// Adds the multiple of p that clears the lowest limb, and drops that limb: with the multiplier
/// `m`, the rest of `m p` is `m (2^192 - 2^160 - 2^32 + 1)`. The sum fits; on the way to it, a
/// carry and a borrow out of the top cancel.
#[inline(always)]
const fn step(t: Limbs) -> Limbs {
    let m = t[0];
    let (low, high) = (m << 32, m >> 32);
    let (s0, c) = adc(t[1], m, 0);
    let (s1, c) = adc(t[2], 0, c);
    let (s2, c) = adc(t[3], 0, c);
    let (s3, _) = adc(m, 0, c);
    let (s0, b) = sbb(s0, low, 0);
    let (s1, b) = sbb(s1, high, b);
    let (s2, b) = sbb(s2, low, b);
    let (s3, _) = sbb(s3, high, b);
    [s0, s1, s2, s3]
}

/// `t / 2^256` modulo p, below 2^256.
#[inline(always)]
const fn reduce(t: Wide) -> Limbs {
    // The lower half and its multiple of p: below 2^256 + 2^256 p, so at most p when divided.
    let s = step(step(step(step([t[0], t[1], t[2], t[3]]))));
    let (sum, carry) = limb::add(s, [t[4], t[5], t[6], t[7]]);
    // Below p + 2^256, so once is enough.
    add_if(sum, carry).0
}

/// Adds 2^256 - p if `carry` is one: that is, a carry out of the top becomes what it is modulo p.
/// The optimiser must not know that there are only two cases, as in [`limb::mask`].
#[inline(always)]
const fn add_if(a: Limbs, carry: u64) -> (Limbs, u64) {
    let carry = black_box(carry);
    let mask = carry.wrapping_neg();
    limb::add(a, [carry, mask >> 32, 0, carry << 32])
}

#[inline(always)]
const fn sub_if(a: Limbs, borrow: u64) -> (Limbs, u64) {
    let borrow = black_box(borrow);
    let mask = borrow.wrapping_neg();
    limb::sub(a, [borrow, mask >> 32, 0, borrow << 32])
}
