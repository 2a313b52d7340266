//! Integers modulo the order n of the curve's group (GB/T 32918.5 §2), always below n.

#![expect(clippy::indexing_slicing, reason = "constant indices into arrays of four to eight")]

use zeroize::Zeroize;

use super::limb::{self, Limbs, Wide, adc, mac};

pub(super) const N: Limbs =
    [0x53bb_f409_39d5_4123, 0x7203_df6b_21c6_052b, 0xffff_ffff_ffff_ffff, 0xffff_fffe_ffff_ffff];

/// -1 / n modulo 2^64, by Newton's iteration.
const N_INVERSE: u64 = {
    let mut x: u64 = 1;
    let mut i = 0;
    while i < 6 {
        x = x.wrapping_mul(2_u64.wrapping_sub(N[0].wrapping_mul(x)));
        i += 1;
    }
    x.wrapping_neg()
};

/// 2^512 modulo n.
const R2: Limbs = limb::two_512(N);

/// Bits in a window of [`Scalar::digit`], at most.
const WIDTH_MAX: u32 = 7;

/// An integer below n.
#[derive(Clone, Copy)]
pub(super) struct Scalar(Limbs);

impl Zeroize for Scalar {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

/// A digit from -2^(w-1) to 2^(w-1).
#[derive(Clone, Copy)]
pub(super) struct Digit {
    pub(super) magnitude: u64,
    /// All ones or zero.
    pub(super) negative: u64,
}

impl Scalar {
    pub(super) const ONE: Self = Self([1, 0, 0, 0]);

    /// From 32 bytes, if the integer is below n.
    pub(super) fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let limbs = limb::from_bytes(bytes);
        limb::is_less(limbs, N).then_some(Self(limbs))
    }

    /// From 32 bytes, if the integer is from 1 to n - 1.
    pub(super) fn from_bytes_not_zero(bytes: &[u8; 32]) -> Option<Self> {
        Self::from_bytes(bytes).filter(|scalar| !scalar.is_zero())
    }

    /// From any 256 bits, which are less than 2 n.
    pub(super) fn reduced(limbs: Limbs) -> Self {
        Self(limb::reduce_once(limbs, 0, N))
    }

    pub(super) fn reduced_bytes(bytes: &[u8; 32]) -> Self {
        Self::reduced(limb::from_bytes(bytes))
    }

    pub(super) fn to_bytes(self) -> [u8; 32] {
        limb::to_bytes(self.0)
    }

    pub(super) const fn limbs(&self) -> Limbs {
        self.0
    }

    pub(super) const fn is_zero(&self) -> bool {
        limb::is_zero(self.0) == 1
    }

    pub(super) fn add(self, other: Self) -> Self {
        Self(limb::add_mod(self.0, other.0, N))
    }

    pub(super) fn sub(self, other: Self) -> Self {
        Self(limb::sub_mod(self.0, other.0, N))
    }

    pub(super) fn mul(self, other: Self) -> Self {
        let halfway = reduce(limb::mul_wide(self.0, other.0));
        Self(reduce(limb::mul_wide(halfway, R2)))
    }

    /// The inverse, by raising to n - 2; zero gives zero. The exponent is public.
    pub(super) fn invert(self) -> Self {
        let base = reduce(limb::mul_wide(self.0, R2));
        let (exponent, _) = limb::sub(N, [2, 0, 0, 0]);
        let mut power = reduce(limb::mul_wide([1, 0, 0, 0], R2));
        let mut bit = 256;
        while bit > 0 {
            bit -= 1;
            power = reduce(limb::square_wide(power));
            if exponent[bit / 64] >> (bit % 64) & 1 == 1 {
                power = reduce(limb::mul_wide(power, base));
            }
        }
        let [a, b, c, d] = power;
        Self(reduce([a, b, c, d, 0, 0, 0, 0]))
    }

    /// Digit `index` of signed windows of `width` bits (Booth): the sum of `digit 2^(width index)`
    /// is the scalar. There are `256 / width + 1` of them.
    #[inline(always)]
    pub(super) fn digit(&self, index: u32, width: u32) -> Digit {
        debug_assert!(width <= WIDTH_MAX);
        // The bits of the window, and the one below it. Where they stand is public.
        let low = (index * width).wrapping_sub(1);
        let limb = |at: u32| self.0.get(at as usize).copied().unwrap_or(0);
        let bits = if index == 0 {
            self.0[0] << 1
        } else if low % 64 + width < 64 {
            limb(low / 64) >> (low % 64)
        } else {
            limb(low / 64) >> (low % 64) | limb(low / 64 + 1) << 1 << (63 - low % 64)
        };
        let bits = bits & ((2 << width) - 1);
        let negative = limb::mask(bits >> width);
        let bits = bits ^ (negative & ((2 << width) - 1));
        Digit { magnitude: (bits >> 1) + (bits & 1), negative }
    }

    /// Non-adjacent form of width 5: odd digits from -15 to 15, or zero. For public scalars, as
    /// the time depends on the value.
    pub(super) fn naf_vartime(&self) -> [i8; 257] {
        let mut digits = [0; 257];
        let mut carry = 0;
        let mut at = 0_u32;
        while at < 257 {
            let limb = |at: u32| self.0.get(at as usize).copied().unwrap_or(0);
            let (word, shift) = (at / 64, at % 64);
            let bits = limb(word) >> shift | limb(word + 1) << 1 << (63 - shift);
            let window = (bits & 31) + carry;
            if window & 1 == 0 {
                at += 1;
                continue;
            }
            carry = u64::from(window > 16);
            #[expect(clippy::cast_possible_truncation, reason = "at most 32")]
            if let Some(digit) = digits.get_mut(at as usize) {
                *digit = window as i8 - 32 * carry as i8;
            }
            at += 5;
        }
        digits
    }
}

/// `t / 2^256` modulo n, for t below n 2^256.
#[inline(always)]
fn reduce(t: Wide) -> Limbs {
    let (s, above) = step([t[0], t[1], t[2], t[3]], t[4], 0);
    let (s, above) = step(s, t[5], above);
    let (s, above) = step(s, t[6], above);
    let (s, above) = step(s, t[7], above);
    limb::reduce_once(s, above, N)
}

/// Adds the multiple of n that clears the lowest limb, and drops that limb. `next` is the limb
/// above, `carry` what was carried into it.
#[inline(always)]
const fn step(t: Limbs, next: u64, carry: u64) -> (Limbs, u64) {
    let m = t[0].wrapping_mul(N_INVERSE);
    let (_, c) = mac(t[0], m, N[0], 0);
    let (s0, c) = mac(t[1], m, N[1], c);
    let (s1, c) = mac(t[2], m, N[2], c);
    let (s2, c) = mac(t[3], m, N[3], c);
    let (s3, c) = adc(next, c, carry);
    ([s0, s1, s2, s3], c)
}
