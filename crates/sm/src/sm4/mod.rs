//! SM4 (GB/T 32907-2016): the block cipher, 128-bit key and block, 32 rounds.
//!
//! There is no table of the S-box outside tests: each path computes it, so no address depends on
//! a key or a text. The modes are in their own modules; a lone block is for tests and for them.

mod portable;
pub(crate) mod sbox;

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[expect(unsafe_code, reason = "functions for instructions that were found at run time")]
mod avx2;
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[expect(unsafe_code, reason = "functions for instructions that were found at run time")]
mod avx512;

pub mod cbc;
pub mod ccm;
pub mod ctr;
pub mod gcm;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::cpu::Cpu;
#[cfg(all(target_arch = "x86_64", not(miri)))]
use crate::cpu::Level;

/// Bytes of a key.
pub const KEY_BYTES: usize = 16;
/// Bytes of a block.
pub const BLOCK_BYTES: usize = 16;
/// Bytes of the tag of GCM and CCM, RFC 8998 §2.
pub const TAG_BYTES: usize = 16;
/// Bytes of the nonce of GCM and CCM, RFC 8998 §2.
pub const NONCE_BYTES: usize = 12;

/// One block.
pub type Block = [u8; BLOCK_BYTES];

/// The keys of 32 rounds.
pub(crate) type RoundKeys = [u32; 32];

/// GB/T 32907 §7.3: the system parameter.
const FK: [u32; 4] = [0xa3b1_bac6, 0x56aa_3350, 0x677d_9197, 0xb270_22dc];

/// GB/T 32907 §7.3: byte `j` of constant `i` is `(4 i + j) * 7`.
const CK: RoundKeys = {
    let mut ck = [0; 32];
    let mut i = 0;
    while i < 32 {
        let byte = (i as u32 * 28) & 0xff;
        #[expect(clippy::indexing_slicing, reason = "i < 32")]
        {
            ck[i as usize] = byte << 24
                | ((byte + 7) & 0xff) << 16
                | ((byte + 14) & 0xff) << 8
                | ((byte + 21) & 0xff);
        }
        i += 1_u8;
    }
    ck
};

/// A key, ready for use.
#[derive(Clone)]
pub struct Sm4 {
    encrypt: RoundKeys,
    cpu: Cpu,
}

impl Drop for Sm4 {
    fn drop(&mut self) {
        self.encrypt.zeroize();
    }
}

impl ZeroizeOnDrop for Sm4 {}

impl core::fmt::Debug for Sm4 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Sm4").finish_non_exhaustive()
    }
}

impl Sm4 {
    /// GB/T 32907 §7.3: expands the key.
    pub fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self::with_cpu(key, Cpu::current())
    }

    /// The same, to be used with the given instructions.
    pub fn with_cpu(key: &[u8; KEY_BYTES], cpu: Cpu) -> Self {
        let words = u128::from_be_bytes(*key);
        let word = |shift: u32, fk: u32| low_word(words >> shift) ^ fk;
        let [f0, f1, f2, f3] = FK;
        let (mut a, mut b, mut c, mut d) = (word(96, f0), word(64, f1), word(32, f2), word(0, f3));
        let mut encrypt = [0; 32];
        for (rk, ck) in encrypt.iter_mut().zip(CK) {
            let x = sbox::word(b ^ c ^ d ^ ck);
            let next = a ^ x ^ x.rotate_left(13) ^ x.rotate_left(23);
            (a, b, c, d) = (b, c, d, next);
            *rk = next;
        }
        Self { encrypt, cpu }
    }

    /// GB/T 32907 §7.1: encrypts blocks one by one (ECB). For modes and tests.
    pub fn encrypt_blocks(&self, blocks: &mut [Block]) {
        crypt(self.cpu, &self.encrypt, blocks);
    }

    /// GB/T 32907 §7.2: the same with the round keys in reverse.
    pub fn decrypt_blocks(&self, blocks: &mut [Block]) {
        let mut decrypt = self.encrypt;
        decrypt.reverse();
        crypt(self.cpu, &decrypt, blocks);
        decrypt.zeroize();
    }

    /// One block.
    pub fn encrypt(&self, block: Block) -> Block {
        let mut blocks = [block];
        self.encrypt_blocks(&mut blocks);
        let [block] = blocks;
        block
    }

    /// One block.
    pub fn decrypt(&self, block: Block) -> Block {
        let mut blocks = [block];
        self.decrypt_blocks(&mut blocks);
        let [block] = blocks;
        block
    }
}

fn crypt(cpu: Cpu, keys: &RoundKeys, blocks: &mut [Block]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    match cpu.level() {
        Level::Avx512 => return avx512::crypt(cpu, keys, blocks),
        Level::Avx2 => return avx2::crypt(cpu, keys, blocks),
        Level::Portable => {}
    }
    let _ = cpu;
    portable::crypt(keys, blocks);
}

/// The lower 32 bits.
#[expect(clippy::cast_possible_truncation, reason = "it is meant")]
fn low_word(x: u128) -> u32 {
    x as u32
}

#[cfg(test)]
mod tests;
