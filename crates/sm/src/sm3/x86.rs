//! The compression of SM3 with the message expanded in vector registers and three-operand rotates.
//!
//! The chain of rounds decides the speed, six cycles each at best: after `e` is known come an
//! addition, a rotate and an addition, then the three steps of P0. Written as the standard has it,
//! `choose(e, f, g)` would make it seven. So the last two parts `t` and `r` of `e = t ^ r` go into
//! `choose` one by one: `((f ^ g) & r) ^ g` is ready before `e` is. `pin` keeps the compiler from
//! putting such sums back into its own order.

use core::arch::asm;
use core::arch::x86_64::{
    __m128i, _mm_alignr_epi8, _mm_loadu_si128, _mm_or_si128, _mm_setr_epi8, _mm_shuffle_epi8,
    _mm_slli_epi32, _mm_slli_si128, _mm_srli_epi32, _mm_srli_si128, _mm_storeu_si128,
    _mm_xor_si128,
};

use super::{BLOCK_BYTES, T, many};
use crate::cpu::{Cpu, Level};

/// Whole blocks. False, and nothing done, if the processor lacks the instructions.
pub(super) fn compress(cpu: Cpu, state: &mut [u32; 8], blocks: &[[u8; BLOCK_BYTES]]) -> bool {
    if cpu.level() < Level::Avx2 {
        return false;
    }
    // SAFETY: a `Cpu` of this level exists only if the processor has AVX2, BMI1 and BMI2.
    // JUSTIFICATION: 15 % faster than the portable path, on the one hash of every handshake.
    unsafe { compress_avx2(state, blocks) };
    true
}

/// Sixteen lanes at once. False, and nothing done, if the processor lacks the instructions.
pub(super) fn compress_lanes(
    cpu: Cpu,
    state: &mut [[u32; 16]; 8],
    w: &mut [[u32; 16]; 16],
) -> bool {
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
    fn avx512(state: &mut [[u32; 16]; 8], w: &mut [[u32; 16]; 16]) {
        many::compress_lanes(state, w);
    }
    #[target_feature(enable = "avx2")]
    fn avx2(state: &mut [[u32; 16]; 8], w: &mut [[u32; 16]; 16]) {
        many::compress_lanes(state, w);
    }
    match cpu.level() {
        // SAFETY: a `Cpu` of this level exists only if the processor has AVX-512 F, VL, BW and DQ.
        // JUSTIFICATION: the same code as without, for registers of sixteen words.
        Level::Avx512 => unsafe { avx512(state, w) },
        // SAFETY: a `Cpu` of this level exists only if the processor has AVX2.
        // JUSTIFICATION: the same for registers of eight words.
        Level::Avx2 => unsafe { avx2(state, w) },
        Level::Portable => return false,
    }
    true
}

/// The value itself, which the optimiser must have at this point.
#[inline(always)]
fn pin(mut x: u32) -> u32 {
    // SAFETY: no instruction, only a comment in the assembly.
    // JUSTIFICATION: it fixes the order of additions, see above; `black_box` goes through memory.
    unsafe {
        asm!("/* {0:e} */", inout(reg) x, options(pure, nomem, nostack, preserves_flags));
    }
    x
}

/// Four words of the message and four of W', as the rounds read them.
struct Words([u32; 8]);

impl Words {
    #[inline(always)]
    fn put(&mut self, w: __m128i, w_xor: __m128i) {
        let to: *mut __m128i = self.0.as_mut_ptr().cast();
        // SAFETY: 32 bytes are there, and the stores need no alignment.
        // JUSTIFICATION: vector stores; the comment keeps them stores, as the compiler would
        // otherwise extract every word with two instructions.
        unsafe {
            _mm_storeu_si128(to, w);
            _mm_storeu_si128(to.add(1), w_xor);
            asm!("/* {0} */", in(reg) to, options(nostack, preserves_flags));
        }
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(bytes: &[u8; 16]) -> __m128i {
    let swap = _mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
    // SAFETY: 16 bytes are there, and the load needs no alignment.
    // JUSTIFICATION: a vector load.
    _mm_shuffle_epi8(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }, swap)
}

#[target_feature(enable = "avx2")]
#[inline]
fn rotate<const LEFT: i32, const RIGHT: i32>(x: __m128i) -> __m128i {
    const { assert!(LEFT + RIGHT == 32) };
    _mm_or_si128(_mm_slli_epi32::<LEFT>(x), _mm_srli_epi32::<RIGHT>(x))
}

#[target_feature(enable = "avx2")]
#[inline]
fn xor3(a: __m128i, b: __m128i, c: __m128i) -> __m128i {
    _mm_xor_si128(_mm_xor_si128(a, b), c)
}

/// GB/T 32905 §5.3.2: the next four words after these sixteen. The last waits for the first, which
/// is mended afterwards: P1 and the rotate are linear.
#[target_feature(enable = "avx2")]
#[inline]
fn expand(w0: __m128i, w1: __m128i, w2: __m128i, w3: __m128i) -> __m128i {
    let back13 = _mm_alignr_epi8::<12>(w1, w0);
    let back9 = _mm_alignr_epi8::<12>(w2, w1);
    let back6 = _mm_alignr_epi8::<8>(w3, w2);
    let back3 = _mm_srli_si128::<4>(w3);
    let x = xor3(w0, back9, rotate::<15, 17>(back3));
    let p1 = xor3(x, rotate::<15, 17>(x), rotate::<23, 9>(x));
    let four = xor3(p1, rotate::<7, 25>(back13), back6);
    let first = _mm_slli_si128::<12>(four);
    // P1(first <<< 15): rotates by 15, by 15 + 15 and by 15 + 23.
    let mend = xor3(rotate::<15, 17>(first), rotate::<30, 2>(first), rotate::<6, 26>(first));
    _mm_xor_si128(four, mend)
}

macro_rules! round {
    ($j:expr, $words:ident, $at:literal, $t:ident $r:ident,
     $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident) => {
        let turned = $a.rotate_left(12);
        let ss1 = pin(pin(turned.wrapping_add(T[$j])).wrapping_add($e)).rotate_left(7);
        let (ff, gg) = if $j < 16 {
            ($a ^ $b ^ $c, $e ^ $f ^ $g)
        } else {
            let m = $f ^ $g;
            (pin($a & pin($b ^ $c)) ^ ($b & $c), pin(pin(m & $r) ^ $g) ^ pin(m & $t))
        };
        let tt1 = pin(ff.wrapping_add(pin($d.wrapping_add($words.0[$at + 4]))))
            .wrapping_add(ss1 ^ turned);
        let tt2 = pin(gg.wrapping_add(pin($h.wrapping_add($words.0[$at])))).wrapping_add(ss1);
        $b = $b.rotate_left(9);
        $d = tt1;
        $f = $f.rotate_left(19);
        $r = pin(tt2.rotate_left(17));
        $t = pin(tt2 ^ tt2.rotate_left(9));
        $h = $t ^ $r;
    };
}

/// Four rounds, beside the expansion for the rounds twelve later. The names move, not the values.
macro_rules! rounds4 {
    ($j:expr, $words:ident, $t:ident $r:ident, $w0:ident $w1:ident $w2:ident $w3:ident,
     $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident) => {
        $words.put($w0, _mm_xor_si128($w0, $w1));
        if $j < 52 {
            $w0 = expand($w0, $w1, $w2, $w3);
        }
        round!($j, $words, 0, $t $r, $a $b $c $d $e $f $g $h);
        round!($j + 1, $words, 1, $t $r, $d $a $b $c $h $e $f $g);
        round!($j + 2, $words, 2, $t $r, $c $d $a $b $g $h $e $f);
        round!($j + 3, $words, 3, $t $r, $b $c $d $a $f $g $h $e);
    };
}

#[target_feature(enable = "avx2,bmi1,bmi2")]
#[expect(unused_assignments, reason = "the macro also ends the last turn")]
fn compress_avx2(state: &mut [u32; 8], blocks: &[[u8; BLOCK_BYTES]]) {
    let (mut even, mut odd) = (Words([0; 8]), Words([0; 8]));
    for block in blocks {
        let Some([w0, w1, w2, w3]) = block.as_chunks::<16>().0.as_array::<4>() else { return };
        let (mut w0, mut w1, mut w2, mut w3) = (load(w0), load(w1), load(w2), load(w3));
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
        let (mut t, mut r) = (0, 0);
        macro_rules! sixteen {
            ($j:expr) => {
                rounds4!($j, even, t r, w0 w1 w2 w3, a b c d e f g h);
                rounds4!($j + 4, odd, t r, w1 w2 w3 w0, a b c d e f g h);
                rounds4!($j + 8, even, t r, w2 w3 w0 w1, a b c d e f g h);
                rounds4!($j + 12, odd, t r, w3 w0 w1 w2, a b c d e f g h);
            };
        }
        sixteen!(0);
        sixteen!(16);
        sixteen!(32);
        sixteen!(48);
        for (word, add) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *word ^= add;
        }
    }
}
