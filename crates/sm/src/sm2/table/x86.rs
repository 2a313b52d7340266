//! The same choice with wide registers: an entry is one of AVX-512 or two of AVX2.
//!
//! The compiler must not know that all words of `wanted` are the same: it made one comparison of
//! secret scalars of it, which might become a jump. So `wanted` passes through a pin.

use core::arch::asm;
use core::arch::x86_64::{
    __m256i, __m512i, _mm256_and_si256, _mm256_cmpeq_epi64, _mm256_loadu_si256, _mm256_or_si256,
    _mm256_set1_epi64x, _mm256_setzero_si256, _mm256_storeu_si256, _mm512_cmpeq_epi64_mask,
    _mm512_loadu_si512, _mm512_mask_mov_epi64, _mm512_set1_epi64, _mm512_setzero_si512,
    _mm512_storeu_si512,
};

use super::{Entry, Window};
use crate::cpu::{Cpu, Level};

/// None if the processor has neither.
#[inline(always)]
pub(super) fn select(cpu: Cpu, window: &Window, magnitude: u64) -> Option<Entry> {
    match cpu.level() {
        // SAFETY: a `Cpu` of this level exists only if the processor has AVX-512 F.
        // JUSTIFICATION: 37 reads of 4 KiB a signature, a fifth of its time without.
        Level::Avx512 => Some(unsafe { select_avx512(window, magnitude) }),
        // SAFETY: a `Cpu` of this level exists only if the processor has AVX2.
        // JUSTIFICATION: as above.
        Level::Avx2 => Some(unsafe { select_avx2(window, magnitude) }),
        Level::Portable => None,
    }
}

/// The value itself, of which the optimiser knows nothing from here on.
#[target_feature(enable = "avx512f")]
#[inline]
fn pin_avx512(mut x: __m512i) -> __m512i {
    // SAFETY: no instruction, only a comment in the assembly.
    // JUSTIFICATION: see above; `black_box` goes through memory.
    unsafe {
        asm!("/* {0} */", inout(zmm_reg) x, options(pure, nomem, nostack, preserves_flags));
    }
    x
}

/// The same.
#[target_feature(enable = "avx2")]
#[inline]
fn pin_avx2(mut x: __m256i) -> __m256i {
    // SAFETY: no instruction, only a comment in the assembly.
    // JUSTIFICATION: see above; `black_box` goes through memory.
    unsafe {
        asm!("/* {0} */", inout(ymm_reg) x, options(pure, nomem, nostack, preserves_flags));
    }
    x
}

#[target_feature(enable = "avx512f")]
fn select_avx512(window: &Window, magnitude: u64) -> Entry {
    let wanted = pin_avx512(_mm512_set1_epi64(magnitude.cast_signed()));
    let mut sum = _mm512_setzero_si512();
    for (number, entry) in (1..).zip(window) {
        let mask = _mm512_cmpeq_epi64_mask(_mm512_set1_epi64(number), wanted);
        let from: *const __m512i = entry.0.as_ptr().cast();
        // SAFETY: 64 bytes are there, and the load needs no alignment.
        // JUSTIFICATION: a vector load.
        sum = _mm512_mask_mov_epi64(sum, mask, unsafe { _mm512_loadu_si512(from) });
    }
    let mut entry = Entry([[0; 4]; 2]);
    // SAFETY: 64 bytes are there, and the store needs no alignment.
    // JUSTIFICATION: a vector store.
    unsafe { _mm512_storeu_si512(entry.0.as_mut_ptr().cast(), sum) };
    entry
}

#[target_feature(enable = "avx2")]
fn select_avx2(window: &Window, magnitude: u64) -> Entry {
    let wanted = pin_avx2(_mm256_set1_epi64x(magnitude.cast_signed()));
    let mut sum = [_mm256_setzero_si256(); 2];
    for (number, entry) in (1..).zip(window) {
        let mask = _mm256_cmpeq_epi64(_mm256_set1_epi64x(number), wanted);
        for (sum, limbs) in sum.iter_mut().zip(&entry.0) {
            // SAFETY: 32 bytes are there, and the load needs no alignment.
            // JUSTIFICATION: a vector load.
            let limbs = unsafe { _mm256_loadu_si256(limbs.as_ptr().cast::<__m256i>()) };
            *sum = _mm256_or_si256(*sum, _mm256_and_si256(limbs, mask));
        }
    }
    let mut entry = Entry([[0; 4]; 2]);
    for (sum, limbs) in sum.into_iter().zip(&mut entry.0) {
        // SAFETY: 32 bytes are there, and the store needs no alignment.
        // JUSTIFICATION: a vector store.
        unsafe { _mm256_storeu_si256(limbs.as_mut_ptr().cast(), sum) };
    }
    entry
}
