//! The scanner for AVX2 and carry-less multiplication.
#![expect(unsafe_code, reason = "vector loads, and calls that the processor was asked about")]

use core::arch::asm;
use core::arch::x86_64::{
    __m256i, _mm_clmulepi64_si128, _mm_cvtsi128_si64, _mm_set_epi64x, _mm_set1_epi8,
    _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_max_epu8, _mm256_movemask_epi8, _mm256_or_si256,
    _mm256_set1_epi8, _mm256_slli_epi16,
};

use super::{BLOCK_BYTES, Masks, Scanner, Walk};

/// Does the work with AVX2, or gives it back where the processor lacks it.
pub(super) fn walk<W: Walk>(work: W) -> Result<W::Out, W> {
    let able = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("pclmulqdq")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2");
    if !able {
        return Err(work);
    }
    // SAFETY: the processor has just been asked for all that `walk_avx2` is compiled for.
    // JUSTIFICATION: this is the detected call; the plain path is several times slower.
    Ok(unsafe { walk_avx2(work) })
}

#[target_feature(enable = "avx2,pclmulqdq,bmi1,bmi2")]
fn walk_avx2<W: Walk>(work: W) -> W::Out {
    work.walk(Avx2(()))
}

/// Exists only in what [`walk`] calls.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Scanner for Avx2 {
    #[inline(always)]
    fn masks(self, block: &[u8; BLOCK_BYTES]) -> Masks {
        // SAFETY: an `Avx2` exists only below `walk`, which has asked the processor.
        // JUSTIFICATION: see `walk`.
        unsafe { masks(block) }
    }

    #[inline(always)]
    fn parity(self, bits: u64) -> u64 {
        // SAFETY: an `Avx2` exists only below `walk`, which has asked the processor.
        // JUSTIFICATION: one instruction in place of twelve, on the way of every block.
        unsafe { parity(bits) }
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn masks(block: &[u8; BLOCK_BYTES]) -> Masks {
    let (halves, _) = block.as_chunks::<32>();
    let [low, high] = halves else { return Masks::default() };
    let (low, high) = (load(low), load(high));
    let bit5 = _mm256_set1_epi8(0x20);
    let folded = (_mm256_or_si256(low, bit5), _mm256_or_si256(high, bit5));
    let same = |(low, high): (__m256i, __m256i), byte: u8| {
        let byte = _mm256_set1_epi8(byte.cast_signed());
        join(_mm256_cmpeq_epi8(low, byte), _mm256_cmpeq_epi8(high, byte))
    };
    let equal = |half, byte: u8| _mm256_cmpeq_epi8(half, _mm256_set1_epi8(byte.cast_signed()));
    let either = |a, b| _mm256_or_si256(a, b);
    let blank = |half| {
        let line = either(equal(half, b'\n'), equal(half, b'\r'));
        either(line, either(equal(half, b' '), equal(half, b'\t')))
    };
    let last = _mm256_set1_epi8(0x1f);
    let control = |half| _mm256_cmpeq_epi8(_mm256_max_epu8(half, last), last);
    Masks {
        quote: same((low, high), b'"'),
        slash: same((low, high), b'\\'),
        open: same(folded, b'{'),
        close: same(folded, b'}'),
        curly: join(_mm256_slli_epi16::<2>(low), _mm256_slli_epi16::<2>(high)),
        colon: same((low, high), b':'),
        comma: same((low, high), b','),
        space: join(blank(low), blank(high)),
        control: join(control(low), control(high)),
        high: join(low, high),
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(half: &[u8; 32]) -> __m256i {
    // SAFETY: the array has 32 bytes, and the load asks for no alignment.
    // JUSTIFICATION: there is no safe load from memory.
    unsafe { _mm256_loadu_si256(half.as_ptr().cast()) }
}

/// The top bits of 64 bytes.
#[target_feature(enable = "avx2")]
#[inline]
fn join(low: __m256i, high: __m256i) -> u64 {
    let bits = |half| u64::from(_mm256_movemask_epi8(half).cast_unsigned());
    pin(bits(low) | (bits(high) << 32))
}

/// The value itself, in a register. Without it the compiler, which knows where the bits are from,
/// does their arithmetic on vectors that it puts together from single bits.
#[inline(always)]
fn pin(mut bits: u64) -> u64 {
    // SAFETY: no instruction, only a comment in the assembly.
    // JUSTIFICATION: the walk is twice as fast; `black_box` goes through memory.
    unsafe {
        asm!("/* {} */", inout(reg) bits, options(pure, nomem, nostack, preserves_flags));
    }
    bits
}

#[target_feature(enable = "pclmulqdq")]
#[inline]
fn parity(bits: u64) -> u64 {
    let product =
        _mm_clmulepi64_si128::<0>(_mm_set_epi64x(0, bits.cast_signed()), _mm_set1_epi8(-1));
    _mm_cvtsi128_si64(product).cast_unsigned()
}
