//! GHASH with VPCLMULQDQ: sixteen blocks in four registers share one reduction.

use core::arch::x86_64::{
    __m128i, __m512i, _mm_setr_epi8, _mm_xor_si128, _mm512_broadcast_i32x4, _mm512_bslli_epi128,
    _mm512_bsrli_epi128, _mm512_clmulepi64_epi128, _mm512_extracti32x4_epi32, _mm512_loadu_si512,
    _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_ternarylogic_epi32, _mm512_xor_si512,
    _mm512_zextsi128_si512,
};

use super::{BLOCK_BYTES, POWERS, Powers, clmul, portable};
use crate::cpu::{Cpu, Level};

/// Blocks in a register.
const ROW: usize = 4;

pub(super) fn update(cpu: Cpu, powers: &Powers, sum: u128, blocks: &[[u8; BLOCK_BYTES]]) -> u128 {
    if cpu.level() < Level::Avx512 {
        return portable::update(powers.key(), sum, blocks);
    }
    // SAFETY: a `Cpu` of this level exists only if the processor has AVX-512 F, BW and VPCLMULQDQ.
    // JUSTIFICATION: four products an instruction; without it GHASH would take longer than SM4.
    unsafe { run(powers, sum, blocks) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,pclmulqdq,vpclmulqdq")]
fn run(powers: &Powers, sum: u128, blocks: &[[u8; BLOCK_BYTES]]) -> u128 {
    let mut sum = clmul::from_int(sum);
    let rows = powers.0.as_chunks::<ROW>().0;
    let (full, rest) = blocks.as_chunks::<POWERS>();
    for blocks in full {
        sum = sum_of_products(sum, blocks.as_chunks::<ROW>().0, rows);
    }
    if !rest.is_empty() {
        // Zero blocks in front change nothing, but the sum belongs to the first block after them.
        let count = rest.len().div_ceil(ROW);
        let mut padded = [[0; BLOCK_BYTES]; POWERS];
        padded.iter_mut().rev().zip(rest.iter().rev()).for_each(|(to, from)| *to = *from);
        if let Some(first) = padded.get_mut(POWERS - rest.len()) {
            let with = u128::from_be_bytes(*first) ^ clmul::into_int(sum);
            *first = with.to_be_bytes();
        }
        let from = padded.as_chunks::<ROW>().0.len() - count;
        let blocks = padded.as_chunks::<ROW>().0.get(from..).unwrap_or_default();
        sum = sum_of_products(clmul::from_int(0), blocks, rows.get(from..).unwrap_or_default());
    }
    clmul::into_int(sum)
}

/// The sum goes to the first block; each row of blocks is multiplied with its row of powers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,pclmulqdq,vpclmulqdq")]
#[inline]
fn sum_of_products(
    sum: __m128i,
    blocks: &[[[u8; BLOCK_BYTES]; ROW]],
    powers: &[[u128; ROW]],
) -> __m128i {
    let reverse = _mm_setr_epi8(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    let reverse = _mm512_broadcast_i32x4(reverse);
    let mut first = _mm512_zextsi128_si512(sum);
    let mut low = _mm512_setzero_si512();
    let mut cross = _mm512_setzero_si512();
    let mut high = _mm512_setzero_si512();
    for (blocks, powers) in blocks.iter().zip(powers) {
        let (from, power): (*const __m512i, *const __m512i) =
            (blocks.as_ptr().cast(), powers.as_ptr().cast());
        // SAFETY: 64 bytes are behind each, and the loads need no alignment.
        // JUSTIFICATION: vector loads.
        let (x, power) = unsafe { (_mm512_loadu_si512(from), _mm512_loadu_si512(power)) };
        let x = _mm512_xor_si512(_mm512_shuffle_epi8(x, reverse), first);
        first = _mm512_setzero_si512();
        low = _mm512_xor_si512(low, _mm512_clmulepi64_epi128::<0x00>(x, power));
        high = _mm512_xor_si512(high, _mm512_clmulepi64_epi128::<0x11>(x, power));
        cross = _mm512_ternarylogic_epi32::<0x96>(
            cross,
            _mm512_clmulepi64_epi128::<0x01>(x, power),
            _mm512_clmulepi64_epi128::<0x10>(x, power),
        );
    }
    let low = _mm512_xor_si512(low, _mm512_bslli_epi128::<8>(cross));
    let high = _mm512_xor_si512(high, _mm512_bsrli_epi128::<8>(cross));
    clmul::reduce(add_lanes(low), add_lanes(high))
}

/// The sum of the four quarters.
#[target_feature(enable = "avx512f")]
#[inline]
fn add_lanes(x: __m512i) -> __m128i {
    let (a, b) = (_mm512_extracti32x4_epi32::<0>(x), _mm512_extracti32x4_epi32::<1>(x));
    let (c, d) = (_mm512_extracti32x4_epi32::<2>(x), _mm512_extracti32x4_epi32::<3>(x));
    _mm_xor_si128(_mm_xor_si128(a, b), _mm_xor_si128(c, d))
}
