//! SM4 on any processor: sixteen blocks at once as bit planes, no table, no branch on data.
//!
//! A word of the state of sixteen blocks is eight planes of 64 bits. Bit `8 m + j` of a plane
//! belongs to byte `m / 2` (from the left) of the word of block `j + 8 (m % 2)`. So a rotate of the
//! words by eight is a rotate of each plane by sixteen, and one by two renames planes.

#![expect(clippy::indexing_slicing, reason = "indices below eight and sixteen into such arrays")]

use zeroize::Zeroize;

use super::{Block, RoundKeys, sbox};

type Planes = [u64; 8];

/// Blocks at once.
const WIDTH: usize = 16;

/// Encrypts, or decrypts with the keys in reverse.
pub(super) fn crypt(keys: &RoundKeys, blocks: &mut [Block]) {
    let mut keys = keys.map(spread);
    let (full, rest) = blocks.as_chunks_mut::<WIDTH>();
    for blocks in full {
        crypt16(&keys, blocks);
    }
    if !rest.is_empty() {
        let mut padded = [[0; 16]; WIDTH];
        padded[..rest.len()].copy_from_slice(rest);
        crypt16(&keys, &mut padded);
        rest.copy_from_slice(&padded[..rest.len()]);
        padded.as_flattened_mut().zeroize();
    }
    keys.as_flattened_mut().zeroize();
}

/// A round key as planes: each bit sixteen times.
fn spread(key: u32) -> Planes {
    let mut planes = [0; 8];
    for (k, plane) in planes.iter_mut().enumerate() {
        let bit = |byte: u32| (u64::from(key >> (24 - 8 * byte)) >> k) & 1;
        *plane = (bit(0) | bit(1) << 16 | bit(2) << 32 | bit(3) << 48) * 0xffff;
    }
    planes
}

fn crypt16(keys: &[Planes; 32], blocks: &mut [Block; WIDTH]) {
    let mut x = [0, 1, 2, 3].map(|word| pack(blocks, word));
    for [k0, k1, k2, k3] in keys.as_chunks::<4>().0 {
        let [a, b, c, d] = x;
        let a = round(a, b, c, d, k0);
        let b = round(b, c, d, a, k1);
        let c = round(c, d, a, b, k2);
        let d = round(d, a, b, c, k3);
        x = [a, b, c, d];
    }
    // GB/T 32907 §7.1: the words leave in reverse.
    for (word, planes) in [3, 2, 1, 0].into_iter().zip(x) {
        unpack(blocks, word, planes);
    }
}

/// GB/T 32907 §6: the S-box, then L: x ^ (x <<< 24) ^ ((x ^ (x <<< 8) ^ (x <<< 16)) <<< 2).
#[inline(always)]
fn round(a: Planes, b: Planes, c: Planes, d: Planes, key: &Planes) -> Planes {
    let mut x = [0; 8];
    for k in 0..8 {
        x[k] = b[k] ^ c[k] ^ d[k] ^ key[k];
    }
    let x = sbox::planes(x);
    let mut out = [0; 8];
    for k in 0..8 {
        // Bit k of the rotate by two is bit k - 2, for k < 2 of the byte to the right.
        let from = x[(k + 6) % 8];
        let three = from ^ from.rotate_right(16) ^ from.rotate_right(32);
        let two = if k < 2 { three.rotate_right(16) } else { three };
        out[k] = a[k] ^ x[k] ^ x[k].rotate_right(48) ^ two;
    }
    out
}

/// One word of each block into planes.
fn pack(blocks: &[Block; WIDTH], word: usize) -> Planes {
    let get = |n: usize| {
        let bytes: &Block = &blocks[n];
        spread_bytes(u32::from_le_bytes(bytes.as_chunks::<4>().0[word]))
    };
    let mut q = [0; 8];
    for (j, q) in q.iter_mut().enumerate() {
        *q = get(j) | get(j + 8) << 8;
    }
    transpose(q)
}

fn unpack(blocks: &mut [Block; WIDTH], word: usize, planes: Planes) {
    for (j, q) in transpose(planes).into_iter().enumerate() {
        blocks[j].as_chunks_mut::<4>().0[word] = gather_bytes(q).to_le_bytes();
        blocks[j + 8].as_chunks_mut::<4>().0[word] = gather_bytes(q >> 8).to_le_bytes();
    }
}

/// Byte `b` goes to byte `2 b`.
fn spread_bytes(x: u32) -> u64 {
    let x = u64::from(x);
    let x = (x | x << 16) & 0x0000_ffff_0000_ffff;
    (x | x << 8) & 0x00ff_00ff_00ff_00ff
}

#[expect(clippy::cast_possible_truncation, reason = "the upper half is empty by then")]
fn gather_bytes(x: u64) -> u32 {
    let x = x & 0x00ff_00ff_00ff_00ff;
    let x = (x | x >> 8) & 0x0000_ffff_0000_ffff;
    (x | x >> 16) as u32
}

/// Bit `k` of byte `m` of word `j` and bit `j` of byte `m` of word `k` change places.
fn transpose(mut q: Planes) -> Planes {
    for (step, mask) in
        [(1, 0x5555_5555_5555_5555), (2, 0x3333_3333_3333_3333), (4, 0x0f0f_0f0f_0f0f_0f0f)]
    {
        for low in (0..8).filter(|j| j & step == 0) {
            let high = low | step;
            let swap = ((q[low] >> step) ^ q[high]) & mask;
            q[low] ^= swap << step;
            q[high] ^= swap;
        }
    }
    q
}
