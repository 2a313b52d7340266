//! Many texts at once, one in each lane of a vector register: for trees and chains of hashes, where
//! one stream would leave most of the processor idle.
//!
//! The lanes are plain arrays; with AVX-512 or AVX2 allowed, the compiler makes vectors of them.

#![expect(clippy::indexing_slicing, reason = "constant indices into arrays of 8, 16 and 64")]

use super::{BLOCK_BYTES, DIGEST_BYTES, IV, LENGTH_AT, Sm3, T, to_bytes};
use crate::cpu::Cpu;
use crate::error::Error;

/// Texts at once: 32 bits each in a register of AVX-512.
const LANES: usize = 16;

/// One word of each text.
type Lanes = [u32; LANES];

/// The digest of each text. Fastest if the texts are of like length: sixteen go together, and the
/// longest of them decides. Meant for public texts: the lanes are not wiped.
///
/// # Errors
///
/// [`Error::Length`], and nothing done, if there are not as many digests as texts.
pub fn digest_many(texts: &[&[u8]], digests: &mut [[u8; DIGEST_BYTES]]) -> Result<(), Error> {
    if texts.len() != digests.len() {
        return Err(Error::Length);
    }
    digest_many_with(Cpu::current(), texts, digests);
    Ok(())
}

/// The same for slices of one length.
fn digest_many_with(cpu: Cpu, texts: &[&[u8]], digests: &mut [[u8; DIGEST_BYTES]]) {
    for (texts, digests) in texts.chunks(LANES).zip(digests.chunks_mut(LANES)) {
        if cpu == Cpu::PORTABLE || texts.len() < LANES / 4 {
            // Without wide registers, the lanes are slower than one text after the other.
            for (text, digest) in texts.iter().zip(digests) {
                *digest = Sm3::with_cpu(cpu).chain(text).finish();
            }
        } else {
            group(cpu, texts, digests);
        }
    }
}

/// Up to sixteen texts.
fn group(cpu: Cpu, texts: &[&[u8]], digests: &mut [[u8; DIGEST_BYTES]]) {
    let mut state = IV.map(|word| [word; LANES]);
    let blocks = texts.iter().map(|text| blocks(text)).max().unwrap_or(0);
    for index in 0..blocks {
        let mut w = [[0; LANES]; 16];
        for (lane, text) in texts.iter().enumerate() {
            let block = block(text, index);
            for (word, bytes) in w.iter_mut().zip(block.as_chunks::<4>().0) {
                word[lane] = u32::from_be_bytes(*bytes);
            }
        }
        compress(cpu, &mut state, &mut w);
        for (lane, (text, digest)) in texts.iter().zip(&mut *digests).enumerate() {
            if index + 1 == self::blocks(text) {
                *digest = to_bytes(state.each_ref().map(|word| word[lane]));
            }
        }
    }
}

/// How many blocks a text has with its padding.
fn blocks(text: &[u8]) -> usize {
    (text.len() + BLOCK_BYTES - LENGTH_AT) / BLOCK_BYTES + 1
}

/// Block `index` of the padded text; behind its end, zeros.
fn block(text: &[u8], index: usize) -> [u8; BLOCK_BYTES] {
    let rest = text.get(index * BLOCK_BYTES..).unwrap_or_default();
    if let Some(block) = rest.first_chunk() {
        return *block;
    }
    let mut block = [0; BLOCK_BYTES];
    block[..rest.len()].copy_from_slice(rest);
    if text.len() / BLOCK_BYTES == index {
        block[rest.len()] = 0x80;
    }
    if index + 1 == blocks(text) {
        block[LENGTH_AT..].copy_from_slice(&(text.len() as u64).wrapping_mul(8).to_be_bytes());
    }
    block
}

fn compress(cpu: Cpu, state: &mut [Lanes; 8], w: &mut [Lanes; 16]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if super::x86::compress_lanes(cpu, state, w) {
        return;
    }
    let _ = cpu;
    compress_lanes(state, w);
}

/// GB/T 32905 §5.3 in every lane.
#[inline(always)]
pub(super) fn compress_lanes(state: &mut [Lanes; 8], w: &mut [Lanes; 16]) {
    let mut v = *state;
    for j in 0..64 {
        round(j, &mut v, w[j % 16], w[(j + 4) % 16]);
        // Word j + 16, in the place of word j.
        if j < 52 {
            let (a, b, c) = (w[(j + 7) % 16], w[(j + 13) % 16], w[(j + 3) % 16]);
            let d = w[(j + 10) % 16];
            for (lane, word) in w[j % 16].iter_mut().enumerate() {
                let x = *word ^ a[lane] ^ b[lane].rotate_left(15);
                let p1 = x ^ x.rotate_left(15) ^ x.rotate_left(23);
                *word = p1 ^ c[lane].rotate_left(7) ^ d[lane];
            }
        }
    }
    for (word, add) in state.as_flattened_mut().iter_mut().zip(v.as_flattened()) {
        *word ^= add;
    }
}

#[inline(always)]
fn round(j: usize, v: &mut [Lanes; 8], w: Lanes, w4: Lanes) {
    let [a, b, c, d, e, f, g, h] = *v;
    let (mut tt1, mut tt2) = ([0; LANES], [0; LANES]);
    for i in 0..LANES {
        let turned = a[i].rotate_left(12);
        let ss1 = turned.wrapping_add(e[i]).wrapping_add(T[j]).rotate_left(7);
        let (ff, gg) = if j < 16 {
            (a[i] ^ b[i] ^ c[i], e[i] ^ f[i] ^ g[i])
        } else {
            ((a[i] & b[i]) | ((a[i] | b[i]) & c[i]), (e[i] & f[i]) | (!e[i] & g[i]))
        };
        tt1[i] = ff.wrapping_add(d[i]).wrapping_add(ss1 ^ turned).wrapping_add(w[i] ^ w4[i]);
        let x = gg.wrapping_add(h[i]).wrapping_add(ss1).wrapping_add(w[i]);
        tt2[i] = x ^ x.rotate_left(9) ^ x.rotate_left(17);
    }
    *v = [tt1, a, b.map(|x| x.rotate_left(9)), c, tt2, e, f.map(|x| x.rotate_left(19)), g];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::bytes;

    #[test]
    fn every_count_and_length_is_as_one_by_one() {
        let text = bytes(1, 400);
        for cpu in Cpu::all() {
            for count in [0, 1, 3, 4, 15, 16, 17, 40] {
                // Lengths around the edges of blocks, all different.
                for shift in 0..200 {
                    let length = |n: usize| (n * 37 + shift) % text.len();
                    let texts: Vec<&[u8]> = (0..count).map(|n| &text[..length(n)]).collect();
                    let mut digests = vec![[0; DIGEST_BYTES]; count];
                    digest_many_with(cpu, &texts, &mut digests);
                    for (text, digest) in texts.iter().zip(digests) {
                        assert_eq!(digest, Sm3::digest(text), "{cpu:?} {count} {}", text.len());
                    }
                }
            }
        }
    }

    #[test]
    fn there_must_be_as_many_digests_as_texts() {
        let texts = [&b"a"[..], b"b", b"c", b"d", b"e"];
        for count in [0, 4, 6, 40] {
            let mut digests = vec![[7; DIGEST_BYTES]; count];
            assert_eq!(digest_many(&texts, &mut digests), Err(Error::Length));
            assert!(digests.iter().all(|digest| *digest == [7; DIGEST_BYTES]));
        }
        let mut digests = [[0; DIGEST_BYTES]; 5];
        assert_eq!(digest_many(&texts, &mut digests), Ok(()));
        assert_eq!(digests, texts.map(Sm3::digest));
        assert_eq!(digest_many(&[], &mut []), Ok(()));
    }
}
