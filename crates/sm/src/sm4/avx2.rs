//! SM4 with AES-NI and AVX2, for processors without GFNI: eight blocks a register group.
//!
//! The last round of AES has its S-box in it. Before and behind it, affine maps lead into the field
//! of AES and back; a map of eight bits is the sum of two maps of four, which a byte shuffle looks
//! up inside a register, without an address.
//!
//! Between the rounds the words stay as the map before the S-box has them, so that it is taken once
//! for a block and not once a round. The map behind it then leads there again, and takes the shift
//! by two bits of L with it: what is left of L are permutations of bytes.

use core::arch::x86_64::{
    __m128i, __m256i, _mm_aesenclast_si128, _mm_loadu_si128, _mm_setzero_si128, _mm256_and_si256,
    _mm256_broadcastsi128_si256, _mm256_castsi128_si256, _mm256_castsi256_si128,
    _mm256_extracti128_si256, _mm256_inserti128_si256, _mm256_loadu_si256, _mm256_set1_epi8,
    _mm256_set1_epi32, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16,
    _mm256_storeu_si256, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64, _mm256_unpacklo_epi32,
    _mm256_unpacklo_epi64, _mm256_xor_si256,
};

use zeroize::{Zeroize, Zeroizing};

use super::{Block, RoundKeys};
use crate::cpu::{Cpu, Level};

/// An affine map of bytes by register: low half of the index, high half.
struct Map {
    low: [u8; 16],
    high: [u8; 16],
}

#[expect(clippy::indexing_slicing, reason = "the compiler runs it")]
impl Map {
    const fn of(&self, x: u8) -> u8 {
        self.low[(x & 15) as usize] ^ self.high[(x >> 4) as usize]
    }

    /// From all values of an affine map.
    const fn from(values: &[u8; 256]) -> Self {
        let (mut low, mut high) = ([0; 16], [0; 16]);
        let mut i = 0;
        while i < 16 {
            low[i] = values[i];
            high[i] = values[i << 4] ^ values[0];
            i += 1;
        }
        Self { low, high }
    }

    /// This without its constant.
    const fn linear(&self) -> Self {
        let (mut low, high) = (self.low, self.high);
        let mut i = 0;
        while i < 16 {
            low[i] ^= self.of(0);
            i += 1;
        }
        Self { low, high }
    }

    const fn inverse(&self) -> Self {
        let mut values = [0; 256];
        let mut x: u8 = 0;
        loop {
            values[self.of(x) as usize] = x;
            if x == u8::MAX {
                return Self::from(&values);
            }
            x += 1;
        }
    }

    /// What the byte behind the S-box of AES adds to a byte of the word, as [`INTO`] has it: B
    /// itself, its low six bits two to the left, its high two bits to the byte after it.
    const fn added(itself: bool, left: bool, next: bool) -> Self {
        let mut values = [0; 256];
        let mut x: u8 = 0;
        loop {
            let b = AFTER.of(x);
            let itself = if itself { b } else { 0 };
            let left = if left { b << 2 } else { 0 };
            let next = if next { b >> 6 } else { 0 };
            values[x as usize] = INTO.of(itself ^ left ^ next);
            if x == u8::MAX {
                return Self::from(&values);
            }
            x += 1;
        }
    }
}

/// Into the field of AES after the first affine map of the S-box.
const BEFORE: Map = Map {
    low: [
        0x3e, 0xb2, 0x0e, 0x82, 0xbb, 0x37, 0x8b, 0x07, 0xa1, 0x2d, 0x91, 0x1d, 0x24, 0xa8, 0x14,
        0x98,
    ],
    high: [
        0x00, 0xdc, 0x2e, 0xf2, 0xc5, 0x19, 0xeb, 0x37, 0x08, 0xd4, 0x26, 0xfa, 0xcd, 0x11, 0xe3,
        0x3f,
    ],
};
/// Back from the S-box of AES, and the second affine map.
const AFTER: Map = Map {
    low: [
        0x6c, 0xd4, 0xa6, 0x1e, 0x52, 0xea, 0x98, 0x20, 0x0b, 0xb3, 0xc1, 0x79, 0x35, 0x8d, 0xff,
        0x47,
    ],
    high: [
        0x00, 0xe0, 0x50, 0xb0, 0x9d, 0x7d, 0xcd, 0x2d, 0xc0, 0x20, 0x90, 0x70, 0x5d, 0xbd, 0x0d,
        0xed,
    ],
};

/// [`BEFORE`] without its constant, which comes in with the round key: it can be added up.
const INTO: Map = BEFORE.linear();
const OUT_OF: Map = INTO.inverse();

/// L(B) = B ^ B <<< 2 ^ B <<< 10 ^ B <<< 18 ^ B <<< 24 of one byte: what comes to its own place, to
/// the next two, and to the last.
const OWN: Map = Map::added(true, true, false);
const NEXT: Map = Map::added(false, true, true);
const LAST: Map = Map::added(true, false, true);

/// Bytes of each word in reverse.
const SWAP: [u8; 16] = [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12];
/// Undoes the row shift that comes with the last round of AES.
const UNSHIFT: [u8; 16] = [0, 13, 10, 7, 4, 1, 14, 11, 8, 5, 2, 15, 12, 9, 6, 3];
/// The same, and then rotates words by 8, 16 and 24 to the left.
const ROTATE_8: [u8; 16] = unshifted([3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14]);
const ROTATE_16: [u8; 16] = unshifted([2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13]);
const ROTATE_24: [u8; 16] = unshifted([1, 2, 3, 0, 5, 6, 7, 4, 9, 10, 11, 8, 13, 14, 15, 12]);

/// One shuffle for [`UNSHIFT`] and then another.
#[expect(clippy::indexing_slicing, reason = "the compiler runs it")]
const fn unshifted(mut shuffle: [u8; 16]) -> [u8; 16] {
    let mut i = 0;
    while i < shuffle.len() {
        shuffle[i] = UNSHIFT[shuffle[i] as usize];
        i += 1;
    }
    shuffle
}

/// Blocks in one group of four registers.
const GROUP: usize = 8;
/// Groups in flight: a round waits for the one before it, so one group alone leaves most of the
/// processor idle.
const GROUPS: usize = 4;

/// Encrypts, or decrypts with the keys in reverse.
pub(super) fn crypt(cpu: Cpu, keys: &RoundKeys, blocks: &mut [Block]) {
    if cpu.level() < Level::Avx2 {
        return super::portable::crypt(keys, blocks);
    }
    // SAFETY: a `Cpu` of this level exists only if the processor has AVX2 and AES-NI.
    // JUSTIFICATION: several times the speed of the portable path.
    unsafe { run(keys, blocks) }
}

#[target_feature(enable = "avx2,aes")]
fn run(keys: &RoundKeys, blocks: &mut [Block]) {
    // As few passes as possible, and each of about as many groups: a pass of one group takes
    // nearly as long as one of several.
    let count = blocks.len().div_ceil(GROUP);
    let passes = count.div_ceil(GROUPS).max(1);
    for blocks in blocks.chunks_mut(count.div_ceil(passes).max(1) * GROUP) {
        match blocks.len().div_ceil(GROUP) {
            1 => groups::<1>(keys, blocks),
            2 => groups::<2>(keys, blocks),
            3 => groups::<3>(keys, blocks),
            _ => groups::<GROUPS>(keys, blocks),
        }
    }
}

/// At most `8 G` blocks.
#[target_feature(enable = "avx2,aes")]
fn groups<const G: usize>(keys: &RoundKeys, blocks: &mut [Block]) {
    let mut state = [[_mm256_setzero_si256(); 4]; G];
    for (x, blocks) in state.iter_mut().zip(blocks.chunks(GROUP)) {
        *x = read(blocks).map(|word| map(word, &INTO));
    }
    let keys = prepared(keys);
    for [k0, k1, k2, k3] in keys.as_chunks::<4>().0 {
        for [a, b, c, d] in &mut state {
            let cd = _mm256_xor_si256(*c, *d);
            *a = round(*a, *b, cd, *k0);
            *b = round(*b, *a, cd, *k1);
            let ab = _mm256_xor_si256(*a, *b);
            *c = round(*c, *d, ab, *k2);
            *d = round(*d, *c, ab, *k3);
        }
    }
    for (x, blocks) in state.into_iter().zip(blocks.chunks_mut(GROUP)) {
        write(x.map(|word| map(word, &OUT_OF)), blocks);
    }
}

/// The round keys as [`BEFORE`] has them.
#[target_feature(enable = "avx2")]
#[inline]
fn prepared(keys: &RoundKeys) -> Zeroizing<RoundKeys> {
    let mut prepared = Zeroizing::new([0; 32]);
    let (from, to): (*const __m256i, *mut __m256i) =
        (keys.as_ptr().cast(), prepared.as_mut_ptr().cast());
    for row in 0..4 {
        // SAFETY: 128 bytes are there and there, and neither needs alignment.
        // JUSTIFICATION: vector loads and stores; keys must not choose an address.
        unsafe { _mm256_storeu_si256(to.add(row), map(_mm256_loadu_si256(from.add(row)), &BEFORE)) }
    }
    prepared
}

#[target_feature(enable = "avx2")]
#[inline]
fn constant(bytes: &[u8; 16]) -> __m256i {
    // SAFETY: 16 bytes are there, and the load needs no alignment.
    // JUSTIFICATION: a vector load.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// The halves of each byte.
#[target_feature(enable = "avx2")]
#[inline]
fn halves(x: __m256i) -> [__m256i; 2] {
    let mask = _mm256_set1_epi8(0x0f);
    [_mm256_and_si256(x, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(x), mask)]
}

#[target_feature(enable = "avx2")]
#[inline]
fn look_up([low, high]: [__m256i; 2], map: &Map) -> __m256i {
    _mm256_xor_si256(
        _mm256_shuffle_epi8(constant(&map.low), low),
        _mm256_shuffle_epi8(constant(&map.high), high),
    )
}

#[target_feature(enable = "avx2")]
#[inline]
fn map(x: __m256i, map: &Map) -> __m256i {
    look_up(halves(x), map)
}

#[target_feature(enable = "avx2,aes")]
#[inline]
fn aes_sbox(x: __m256i) -> __m256i {
    let half = |x: __m128i| _mm_aesenclast_si128(x, _mm_setzero_si128());
    let low = half(_mm256_castsi256_si128(x));
    let high = half(_mm256_extracti128_si256::<1>(x));
    _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), high)
}

/// GB/T 32907 §6: a ^ L(S(b ^ cd ^ key)), all of it as [`INTO`] has it.
#[target_feature(enable = "avx2,aes")]
#[inline]
fn round(a: __m256i, b: __m256i, cd: __m256i, key: u32) -> __m256i {
    let key = _mm256_set1_epi32(key.cast_signed());
    let x = halves(aes_sbox(_mm256_xor_si256(_mm256_xor_si256(b, cd), key)));
    // Each shuffle also puts the bytes back to where they were before the row shift.
    let turn = |x, by: &[u8; 16]| _mm256_shuffle_epi8(x, constant(by));
    let next = look_up(x, &NEXT);
    let one = _mm256_xor_si256(turn(next, &ROTATE_8), turn(next, &ROTATE_16));
    let two =
        _mm256_xor_si256(turn(look_up(x, &OWN), &UNSHIFT), turn(look_up(x, &LAST), &ROTATE_24));
    _mm256_xor_si256(_mm256_xor_si256(a, one), two)
}

/// Words of four blocks a half register into blocks of one word a register, and back.
#[target_feature(enable = "avx2")]
#[inline]
fn transpose([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
    let (ab_high, cd_high) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
    [
        _mm256_unpacklo_epi64(ab, cd),
        _mm256_unpackhi_epi64(ab, cd),
        _mm256_unpacklo_epi64(ab_high, cd_high),
        _mm256_unpackhi_epi64(ab_high, cd_high),
    ]
}

/// Up to eight blocks; the missing ones are zero.
#[target_feature(enable = "avx2")]
#[inline]
fn read(blocks: &[Block]) -> [__m256i; 4] {
    let mut padded = [[0; 16]; GROUP];
    let full = blocks.as_array::<GROUP>();
    let is_full = full.is_some();
    let blocks = full.unwrap_or_else(|| {
        padded.iter_mut().zip(blocks).for_each(|(to, from)| *to = *from);
        &padded
    });
    let from: *const __m256i = blocks.as_ptr().cast();
    // SAFETY: 128 bytes are there, and the loads need no alignment.
    // JUSTIFICATION: vector loads.
    let rows = unsafe { [0, 1, 2, 3].map(|row| _mm256_loadu_si256(from.add(row))) };
    if !is_full {
        padded.as_flattened_mut().zeroize();
    }
    let swap = |x| _mm256_shuffle_epi8(x, constant(&SWAP));
    let [a, b, c, d] = transpose(rows);
    [swap(a), swap(b), swap(c), swap(d)]
}

/// GB/T 32907 §7.1: the words leave in reverse.
#[target_feature(enable = "avx2")]
#[inline]
fn write([a, b, c, d]: [__m256i; 4], blocks: &mut [Block]) {
    let swap = |x| _mm256_shuffle_epi8(x, constant(&SWAP));
    let rows = transpose([swap(d), swap(c), swap(b), swap(a)]);
    let mut padded = [[0; 16]; GROUP];
    let full = blocks.as_mut_array::<GROUP>();
    let is_full = full.is_some();
    let to: *mut __m256i = full.unwrap_or(&mut padded).as_mut_ptr().cast();
    // SAFETY: 128 bytes are there, and the stores need no alignment.
    // JUSTIFICATION: vector stores.
    unsafe {
        for (row, x) in rows.into_iter().enumerate() {
            _mm256_storeu_si256(to.add(row), x);
        }
    }
    if !is_full {
        blocks.iter_mut().zip(&padded).for_each(|(to, from)| *to = *from);
        padded.as_flattened_mut().zeroize();
    }
}
