//! GHASH (NIST SP 800-38D §6.4), the hash inside GCM.
//!
//! The standard numbers bits from the left. With each block's bytes in reverse and the key times x,
//! the same sum is a plain product of polynomials divided by x^128, modulo
//! x^128 + x^127 + x^126 + x^121 + 1 (RFC 8452 appendix A). Elements here are of that kind, as
//! integers of 128 bits. Constant time on every path.

mod portable;

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[expect(unsafe_code, reason = "functions for instructions that were found at run time")]
mod clmul;
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[expect(unsafe_code, reason = "functions for instructions that were found at run time")]
mod vclmul;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::cpu::Cpu;
#[cfg(all(target_arch = "x86_64", not(miri)))]
use crate::cpu::Level;

const BLOCK_BYTES: usize = 16;

/// Powers of the key at hand, so that as many blocks share one reduction.
const POWERS: usize = 16;

/// Powers of the hash key, the highest first, down to the key itself.
#[derive(Clone)]
struct Powers([u128; POWERS]);

impl Powers {
    fn key(&self) -> u128 {
        self.0[POWERS - 1]
    }
}

/// A hash key.
#[derive(Clone)]
pub(crate) struct GhashKey {
    powers: Powers,
    cpu: Cpu,
}

impl Drop for GhashKey {
    fn drop(&mut self) {
        self.powers.0.zeroize();
    }
}

impl ZeroizeOnDrop for GhashKey {}

impl core::fmt::Debug for GhashKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("GhashKey").finish_non_exhaustive()
    }
}

impl GhashKey {
    /// From the encrypted zero block.
    pub(crate) fn new(cpu: Cpu, key: [u8; BLOCK_BYTES]) -> Self {
        // Times x: shift, and what leaves above comes back as x^127 + x^126 + x^121 + 1.
        let key = u128::from_be_bytes(key);
        let carry = (key >> 127).wrapping_neg();
        let key = key << 1 ^ (carry & (0xc2 << 120 | 1));
        let mut powers = Powers([0; POWERS]);
        let mut power = key;
        for slot in powers.0.iter_mut().rev() {
            *slot = power;
            if cpu == Cpu::PORTABLE {
                break;
            }
            power = multiply(cpu, power, key);
        }
        Self { powers, cpu }
    }
}

fn multiply(cpu: Cpu, a: u128, b: u128) -> u128 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if cpu != Cpu::PORTABLE {
        return clmul::multiply(cpu, a, b);
    }
    let _ = cpu;
    portable::multiply(a, b)
}

fn update(cpu: Cpu, powers: &Powers, sum: u128, blocks: &[[u8; BLOCK_BYTES]]) -> u128 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    match cpu.level() {
        Level::Avx512 => return vclmul::update(cpu, powers, sum, blocks),
        Level::Avx2 => return clmul::update(cpu, powers, sum, blocks),
        Level::Portable => {}
    }
    let _ = cpu;
    portable::update(powers.key(), sum, blocks)
}

/// A running hash. Each update is padded with zeros to whole blocks.
pub(crate) struct Ghash<'a> {
    key: &'a GhashKey,
    sum: u128,
}

impl Drop for Ghash<'_> {
    fn drop(&mut self) {
        self.sum.zeroize();
    }
}

impl<'a> Ghash<'a> {
    pub(crate) const fn new(key: &'a GhashKey) -> Self {
        Self { key, sum: 0 }
    }

    pub(crate) fn update(&mut self, data: &[u8]) {
        let (blocks, tail) = data.as_chunks::<BLOCK_BYTES>();
        self.blocks(blocks);
        if !tail.is_empty() {
            let mut last = [0; BLOCK_BYTES];
            last.iter_mut().zip(tail).for_each(|(to, from)| *to = *from);
            self.blocks(&[last]);
        }
    }

    fn blocks(&mut self, blocks: &[[u8; BLOCK_BYTES]]) {
        self.sum = update(self.key.cpu, &self.key.powers, self.sum, blocks);
    }

    pub(crate) fn finish(self) -> [u8; BLOCK_BYTES] {
        self.sum.to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{hex, hex_array};

    /// NIST SP 800-38D's hash for AES-128 key zero and one zero block: the second example of
    /// the GCM specification.
    #[test]
    fn the_example_of_the_specification() {
        let key = hex_array("66e94bd4ef8a2c3b884cfa59ca342b2e");
        let text = hex("0388dace60b6a392f328c2b971b2fe78 00000000000000000000000000000080");
        for cpu in Cpu::all() {
            let key = GhashKey::new(cpu, key);
            let mut ghash = Ghash::new(&key);
            ghash.update(&text);
            assert_eq!(ghash.finish()[..], hex("f38cbb1ad69223dcc3457ae5b6b0f885"));
        }
    }

    #[test]
    fn every_length_is_the_same_on_every_path() {
        let text: Vec<u8> = (0..1200_u32).map(|n| ((n * n) >> 3).to_le_bytes()[0]).collect();
        for key in [[0xff; 16], hex_array("66e94bd4ef8a2c3b884cfa59ca342b2e"), [0; 16]] {
            let portable = GhashKey::new(Cpu::PORTABLE, key);
            for cpu in Cpu::all() {
                let key = GhashKey::new(cpu, key);
                for length in 0..text.len() {
                    let (mut a, mut b) = (Ghash::new(&portable), Ghash::new(&key));
                    a.update(&text[..length]);
                    b.update(&text[..length / 32 * 16]);
                    b.update(&text[length / 32 * 16..length]);
                    assert_eq!(a.finish(), b.finish(), "{cpu:?} {length}");
                }
            }
        }
    }
}
