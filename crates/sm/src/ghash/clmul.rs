//! GHASH with PCLMULQDQ: up to eight blocks share one reduction.

use core::arch::x86_64::{
    __m128i, _mm_clmulepi64_si128, _mm_loadu_si128, _mm_set_epi64x, _mm_setr_epi8,
    _mm_setzero_si128, _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_slli_si128, _mm_srli_si128,
    _mm_storeu_si128, _mm_xor_si128,
};

use super::{BLOCK_BYTES, Powers, portable};
use crate::cpu::{Cpu, Level};

/// Blocks that share a reduction.
const BLOCKS: usize = 8;

pub(super) fn multiply(cpu: Cpu, a: u128, b: u128) -> u128 {
    #[target_feature(enable = "sse2,ssse3,pclmulqdq")]
    fn inner(a: u128, b: u128) -> u128 {
        let mut sum = Product::zero();
        sum.add(from_int(a), from_int(b));
        into_int(sum.reduce())
    }
    if cpu.level() < Level::Avx2 {
        return portable::multiply(a, b);
    }
    // SAFETY: a `Cpu` of this level exists only if the processor has PCLMULQDQ and SSSE3.
    // JUSTIFICATION: an order of magnitude faster than the portable product.
    unsafe { inner(a, b) }
}

pub(super) fn update(cpu: Cpu, powers: &Powers, sum: u128, blocks: &[[u8; BLOCK_BYTES]]) -> u128 {
    if cpu.level() < Level::Avx2 {
        return portable::update(powers.key(), sum, blocks);
    }
    // SAFETY: a `Cpu` of this level exists only if the processor has PCLMULQDQ and SSSE3.
    // JUSTIFICATION: an order of magnitude faster than the portable product.
    unsafe { run(powers, sum, blocks) }
}

#[target_feature(enable = "sse2,ssse3,pclmulqdq")]
fn run(powers: &Powers, sum: u128, blocks: &[[u8; BLOCK_BYTES]]) -> u128 {
    let reverse = _mm_setr_epi8(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    let mut sum = from_int(sum);
    for blocks in blocks.chunks(BLOCKS) {
        let mut product = Product::zero();
        let from = powers.0.len() - blocks.len();
        for (block, power) in blocks.iter().zip(powers.0.iter().skip(from)) {
            let block = _mm_shuffle_epi8(load(block), reverse);
            product.add(_mm_xor_si128(block, sum), from_int(*power));
            sum = _mm_setzero_si128();
        }
        sum = product.reduce();
    }
    into_int(sum)
}

/// A sum of products before the reduction.
struct Product {
    low: __m128i,
    cross: __m128i,
    high: __m128i,
}

impl Product {
    #[target_feature(enable = "sse2")]
    #[inline]
    fn zero() -> Self {
        let zero = _mm_setzero_si128();
        Self { low: zero, cross: zero, high: zero }
    }

    #[target_feature(enable = "sse2,pclmulqdq")]
    #[inline]
    fn add(&mut self, a: __m128i, b: __m128i) {
        let cross =
            _mm_xor_si128(_mm_clmulepi64_si128::<0x01>(a, b), _mm_clmulepi64_si128::<0x10>(a, b));
        self.low = _mm_xor_si128(self.low, _mm_clmulepi64_si128::<0x00>(a, b));
        self.high = _mm_xor_si128(self.high, _mm_clmulepi64_si128::<0x11>(a, b));
        self.cross = _mm_xor_si128(self.cross, cross);
    }

    #[target_feature(enable = "sse2,pclmulqdq")]
    #[inline]
    fn reduce(self) -> __m128i {
        let low = _mm_xor_si128(self.low, _mm_slli_si128::<8>(self.cross));
        let high = _mm_xor_si128(self.high, _mm_srli_si128::<8>(self.cross));
        reduce(low, high)
    }
}

/// Adds the multiples of the polynomial that clear the lower half, 64 bits at a time: a product
/// with x^63 + x^62 + x^57, and the two halves change places.
#[target_feature(enable = "sse2,pclmulqdq")]
#[inline]
pub(super) fn reduce(low: __m128i, high: __m128i) -> __m128i {
    let polynomial = _mm_set_epi64x(0, (0xc2_u64 << 56).cast_signed());
    let fold = |x| {
        _mm_xor_si128(_mm_shuffle_epi32::<0x4e>(x), _mm_clmulepi64_si128::<0x00>(x, polynomial))
    };
    _mm_xor_si128(high, fold(fold(low)))
}

#[target_feature(enable = "sse2")]
#[inline]
fn load(block: &[u8; BLOCK_BYTES]) -> __m128i {
    // SAFETY: 16 bytes are there, and the load needs no alignment.
    // JUSTIFICATION: a vector load.
    unsafe { _mm_loadu_si128(block.as_ptr().cast()) }
}

#[target_feature(enable = "sse2")]
#[inline]
pub(super) fn from_int(x: u128) -> __m128i {
    load(&x.to_le_bytes())
}

#[target_feature(enable = "sse2")]
#[inline]
pub(super) fn into_int(x: __m128i) -> u128 {
    let mut bytes = [0; BLOCK_BYTES];
    // SAFETY: 16 bytes are there, and the store needs no alignment.
    // JUSTIFICATION: a vector store.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), x) };
    u128::from_le_bytes(bytes)
}
