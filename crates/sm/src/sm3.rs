//! SM3 (GB/T 32905-2016): the hash of the national suites, 256 bits, streaming.
//!
//! A stream is serial, so the speed is that of one dependency chain. The state is wiped on drop,
//! because HMAC and key derivation keep secrets in it.

#![expect(clippy::indexing_slicing, reason = "constant indices into arrays of 8, 16 and 64")]

use core::slice;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::cpu::Cpu;

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[expect(unsafe_code, reason = "functions for instructions that were found at run time")]
mod x86;

mod many;
pub use many::digest_many;

/// Bytes of a digest.
pub const DIGEST_BYTES: usize = 32;
/// Bytes of a block.
pub const BLOCK_BYTES: usize = 64;

/// Where the length stands in the last block.
const LENGTH_AT: usize = BLOCK_BYTES - 8;

/// GB/T 32905 §4.1: the initial value.
const IV: [u32; 8] = [
    0x7380_166f,
    0x4914_b2b9,
    0x1724_42d7,
    0xda8a_0600,
    0xa96f_30bc,
    0x1631_38aa,
    0xe38d_ee4d,
    0xb0fb_0e4e,
];

/// GB/T 32905 §4.2: the constants, each already rotated by its round number.
const T: [u32; 64] = {
    let mut t = [0; 64];
    let mut j = 0;
    while j < 64 {
        let word: u32 = if j < 16 { 0x79cc_4519 } else { 0x7a87_9d8a };
        #[expect(clippy::cast_possible_truncation, reason = "below 64")]
        {
            t[j] = word.rotate_left(j as u32 % 32);
        }
        j += 1;
    }
    t
};

/// A running hash.
#[derive(Clone)]
pub struct Sm3 {
    state: [u32; 8],
    /// Bytes hashed so far. The standard allows 2^61 - 1 of them; no stream gets there.
    bytes: u64,
    partial: [u8; BLOCK_BYTES],
    cpu: Cpu,
}

impl core::fmt::Debug for Sm3 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Sm3").finish_non_exhaustive()
    }
}

impl Drop for Sm3 {
    fn drop(&mut self) {
        self.state.as_mut_slice().zeroize();
        self.partial.as_mut_slice().zeroize();
    }
}

impl ZeroizeOnDrop for Sm3 {}

impl Default for Sm3 {
    fn default() -> Self {
        Self::new()
    }
}

impl Sm3 {
    /// An empty hash.
    pub fn new() -> Self {
        Self::with_cpu(Cpu::current())
    }

    /// An empty hash that uses the given instructions.
    pub const fn with_cpu(cpu: Cpu) -> Self {
        Self { state: IV, bytes: 0, partial: [0; BLOCK_BYTES], cpu }
    }

    /// The digest of one text.
    pub fn digest(data: &[u8]) -> [u8; DIGEST_BYTES] {
        Self::new().chain(data).finish()
    }

    /// Bytes in `partial`.
    fn filled(&self) -> usize {
        (self.bytes % 64) as usize
    }

    /// Hash some more bytes.
    pub fn update(&mut self, mut data: &[u8]) {
        let filled = self.filled();
        self.bytes = self.bytes.wrapping_add(data.len() as u64);
        if filled > 0 {
            let rest = &mut self.partial[filled..];
            let take = rest.len().min(data.len());
            rest[..take].copy_from_slice(&data[..take]);
            data = &data[take..];
            if filled + take < BLOCK_BYTES {
                return;
            }
            compress(self.cpu, &mut self.state, slice::from_ref(&self.partial));
        }
        let (blocks, tail) = data.as_chunks::<BLOCK_BYTES>();
        compress(self.cpu, &mut self.state, blocks);
        self.partial[..tail.len()].copy_from_slice(tail);
    }

    /// The same, for chaining.
    #[must_use]
    pub fn chain(mut self, data: &[u8]) -> Self {
        self.update(data);
        self
    }

    /// GB/T 32905 §5.2: padding, and the digest.
    pub fn finish(mut self) -> [u8; DIGEST_BYTES] {
        self.finish_in_place()
    }

    /// The digest; what remains is to be dropped.
    pub(crate) fn finish_in_place(&mut self) -> [u8; DIGEST_BYTES] {
        let filled = self.filled();
        self.partial[filled] = 0x80;
        self.partial[filled + 1..].fill(0);
        if filled >= LENGTH_AT {
            compress(self.cpu, &mut self.state, slice::from_ref(&self.partial));
            self.partial.fill(0);
        }
        self.partial[LENGTH_AT..].copy_from_slice(&self.bytes.wrapping_mul(8).to_be_bytes());
        compress(self.cpu, &mut self.state, slice::from_ref(&self.partial));
        to_bytes(self.state)
    }
}

/// The state as a digest.
fn to_bytes(state: [u32; 8]) -> [u8; DIGEST_BYTES] {
    let mut digest = [0; DIGEST_BYTES];
    for (out, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *out = word.to_be_bytes();
    }
    digest
}

/// GB/T 32905 §5.3: the compression of whole blocks.
fn compress(cpu: Cpu, state: &mut [u32; 8], blocks: &[[u8; BLOCK_BYTES]]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if x86::compress(cpu, state, blocks) {
        return;
    }
    let _ = cpu;
    compress_portable(state, blocks);
}

/// The first 16 rounds use exclusive or, GB/T 32905 §4.3.
#[inline(always)]
fn early(x: u32, y: u32, z: u32) -> u32 {
    x ^ y ^ z
}

#[inline(always)]
fn majority(x: u32, y: u32, z: u32) -> u32 {
    (x & y) | ((x | y) & z)
}

#[inline(always)]
fn choose(x: u32, y: u32, z: u32) -> u32 {
    ((y ^ z) & x) ^ z
}

/// GB/T 32905 §4.4.
#[inline(always)]
fn p0(x: u32) -> u32 {
    x ^ x.rotate_left(9) ^ x.rotate_left(17)
}

#[inline(always)]
fn p1(x: u32) -> u32 {
    x ^ x.rotate_left(15) ^ x.rotate_left(23)
}

/// One round. The names move instead of the values, so eight rounds make a turn. What does not
/// wait for the round before is added first: the chain is the speed.
macro_rules! round {
    ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident,
     $ff:ident, $gg:ident, $j:expr, $w:expr, $w4:expr) => {
        let turned = $a.rotate_left(12);
        let ss1 = $e.wrapping_add(T[$j]).wrapping_add(turned).rotate_left(7);
        let tt1 =
            $ff($a, $b, $c).wrapping_add($d.wrapping_add($w ^ $w4)).wrapping_add(ss1 ^ turned);
        let tt2 = $gg($e, $f, $g).wrapping_add($h.wrapping_add($w)).wrapping_add(ss1);
        $b = $b.rotate_left(9);
        $d = tt1;
        $f = $f.rotate_left(19);
        $h = p0(tt2);
    };
}

/// Word `j + 4` of the expanded message, in the ring of 16 words, and the round that waits for it.
macro_rules! expand {
    ($w:ident, $j:expr) => {
        let at = ($j + 4) % 16;
        $w[at] = p1($w[at] ^ $w[($j + 11) % 16] ^ $w[($j + 1) % 16].rotate_left(15))
            ^ $w[($j + 7) % 16].rotate_left(7)
            ^ $w[($j + 14) % 16];
    };
}

macro_rules! rounds4 {
    ($w:ident, $j:expr, $ff:ident, $gg:ident, $grow:ident,
     $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident) => {
        $grow!($w, $j);
        round!($a $b $c $d $e $f $g $h, $ff, $gg, $j, $w[$j % 16], $w[($j + 4) % 16]);
        $grow!($w, $j + 1);
        round!($d $a $b $c $h $e $f $g, $ff, $gg, $j + 1, $w[($j + 1) % 16], $w[($j + 5) % 16]);
        $grow!($w, $j + 2);
        round!($c $d $a $b $g $h $e $f, $ff, $gg, $j + 2, $w[($j + 2) % 16], $w[($j + 6) % 16]);
        $grow!($w, $j + 3);
        round!($b $c $d $a $f $g $h $e, $ff, $gg, $j + 3, $w[($j + 3) % 16], $w[($j + 7) % 16]);
    };
}

macro_rules! keep {
    ($w:ident, $j:expr) => {};
}

fn compress_portable(state: &mut [u32; 8], blocks: &[[u8; BLOCK_BYTES]]) {
    for block in blocks {
        let mut w = [0_u32; 16];
        for (word, bytes) in w.iter_mut().zip(block.as_chunks::<4>().0) {
            *word = u32::from_be_bytes(*bytes);
        }
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
        macro_rules! four {
            ($j:expr, $ff:ident, $gg:ident, $grow:ident) => {
                rounds4!(w, $j, $ff, $gg, $grow, a b c d e f g h);
            };
        }
        four!(0, early, early, keep);
        four!(4, early, early, keep);
        four!(8, early, early, keep);
        four!(12, early, early, expand);
        four!(16, majority, choose, expand);
        four!(20, majority, choose, expand);
        four!(24, majority, choose, expand);
        four!(28, majority, choose, expand);
        four!(32, majority, choose, expand);
        four!(36, majority, choose, expand);
        four!(40, majority, choose, expand);
        four!(44, majority, choose, expand);
        four!(48, majority, choose, expand);
        four!(52, majority, choose, expand);
        four!(56, majority, choose, expand);
        four!(60, majority, choose, expand);
        for (word, add) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *word ^= add;
        }
    }
}

#[cfg(test)]
mod tests;
