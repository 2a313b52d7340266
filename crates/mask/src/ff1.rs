//! Format-preserving encryption: FF1 of NIST SP 800-38G, and no other mode (FF3 is withdrawn).
//!
//! Numerals are bytes below the radix. Only domains of at least a million are taken (SP 800-38G
//! revision 1, 5.1), and only halves of at most 96 bits, so that all arithmetic fits 128 bits: 56
//! decimal digits, 36 of radix 36. Ten rounds cost one block of the cipher each, and two or three
//! before them.

use core::fmt;

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Aes256};

/// Bytes in a block of the cipher.
pub const BLOCK_BYTES: usize = 16;
/// Fewest values that a domain may have (SP 800-38G revision 1).
pub const DOMAIN_MIN: u128 = 1_000_000;
/// Longest tweak, in bytes.
pub const TWEAK_BYTES_MAX: usize = 1024;
/// Most bytes of a half as a number: what is taken from one round must fit one block.
const HALF_BYTES_MAX: usize = 12;
const ROUNDS: u8 = 10;

/// A block cipher with a key.
pub trait BlockCipher {
    /// Encrypts one block in place.
    fn encrypt(&self, block: &mut [u8; BLOCK_BYTES]);
}

/// AES with a key of 128 or 256 bits. The key schedule is wiped when dropped.
#[derive(Clone)]
pub struct Aes(Inner);

#[derive(Clone)]
enum Inner {
    Short(Box<Aes128>),
    Long(Box<Aes256>),
}

impl Aes {
    /// A cipher with a key of 16 or 32 bytes; nothing for another length.
    #[must_use]
    pub fn new(key: &[u8]) -> Option<Aes> {
        match key.len() {
            16 => Some(Aes(Inner::Short(Box::new(Aes128::new_from_slice(key).ok()?)))),
            32 => Some(Aes(Inner::Long(Box::new(Aes256::new_from_slice(key).ok()?)))),
            _ => None,
        }
    }
}

impl BlockCipher for Aes {
    fn encrypt(&self, block: &mut [u8; BLOCK_BYTES]) {
        match &self.0 {
            Inner::Short(cipher) => cipher.encrypt_block(block.into()),
            Inner::Long(cipher) => cipher.encrypt_block(block.into()),
        }
    }
}

impl fmt::Debug for Aes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aes(..)")
    }
}

/// Why numerals cannot be encrypted. Never says what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ff1Error {
    /// Radix^length is below a million, or there are fewer than two numerals.
    DomainTooSmall,
    /// A half does not fit 96 bits.
    TooLong,
    /// A numeral is not below the radix, or the radix is not from 2 to 256.
    Numeral,
    /// The tweak is longer than [`TWEAK_BYTES_MAX`].
    Tweak,
}

impl fmt::Display for Ff1Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ff1Error::DomainTooSmall => "fewer than a million values could be meant",
            Ff1Error::TooLong => "more numerals than can be encrypted",
            Ff1Error::Numeral => "a numeral is not below the radix",
            Ff1Error::Tweak => "the tweak is too long",
        })
    }
}

impl core::error::Error for Ff1Error {}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Encrypt,
    Decrypt,
}

/// Encrypts numerals in place (SP 800-38G, algorithm 7).
///
/// # Errors
/// See [`Ff1Error`]; the numerals are then as they were.
pub fn encrypt(
    cipher: &impl BlockCipher,
    tweak: &[u8],
    radix: u16,
    numerals: &mut [u8],
) -> Result<(), Ff1Error> {
    run(cipher, tweak, radix, numerals, Way::Encrypt)
}

/// Decrypts numerals in place (SP 800-38G, algorithm 8).
///
/// # Errors
/// As [`encrypt`].
pub fn decrypt(
    cipher: &impl BlockCipher,
    tweak: &[u8],
    radix: u16,
    numerals: &mut [u8],
) -> Result<(), Ff1Error> {
    run(cipher, tweak, radix, numerals, Way::Decrypt)
}

/// What stays the same in all rounds.
struct Frame {
    /// The state of the CBC-MAC over all whole blocks that no round changes.
    prefix: [u8; BLOCK_BYTES],
    /// The last block of Q: the end of the tweak and zeros; round and half are written into it.
    last: [u8; BLOCK_BYTES],
    /// Bytes of a half as a number (`b` in the standard), and of what is taken from a round (`d`).
    half_bytes: usize,
    taken_bytes: usize,
}

fn run(
    cipher: &impl BlockCipher,
    tweak: &[u8],
    radix: u16,
    numerals: &mut [u8],
    way: Way,
) -> Result<(), Ff1Error> {
    let radix = u128::from(radix);
    if !(2..=256).contains(&radix) || numerals.iter().any(|n| u128::from(*n) >= radix) {
        return Err(Ff1Error::Numeral);
    }
    let (u, v) = (numerals.len() / 2, numerals.len() - numerals.len() / 2);
    let power = |digits: usize| radix.checked_pow(u32::try_from(digits).ok()?);
    let most = power(v).ok_or(Ff1Error::TooLong)?;
    let least = power(u).ok_or(Ff1Error::TooLong)?;
    if u == 0 || least.saturating_mul(most) < DOMAIN_MIN {
        return Err(Ff1Error::DomainTooSmall);
    }
    let bits = u128::BITS - (most - 1).leading_zeros();
    let half_bytes = usize::try_from(bits.div_ceil(8)).map_err(|_| Ff1Error::TooLong)?;
    if half_bytes > HALF_BYTES_MAX {
        return Err(Ff1Error::TooLong);
    }
    let frame = frame(cipher, tweak, radix, numerals.len(), half_bytes)?;
    let (left, right) = numerals.split_at(u);
    let (mut a, mut b) = (number(left, radix), number(right, radix));
    for step in 0..ROUNDS {
        let round = if way == Way::Encrypt { step } else { ROUNDS - 1 - step };
        let modulus = if round % 2 == 0 { least } else { most };
        if way == Way::Encrypt {
            let c = (a + frame.round(cipher, round, b) % modulus) % modulus;
            (a, b) = (b, c);
        } else {
            let c = (b + modulus - frame.round(cipher, round, a) % modulus) % modulus;
            (a, b) = (c, a);
        }
    }
    let (left, right) = numerals.split_at_mut(u);
    spell(a, radix, left);
    spell(b, radix, right);
    Ok(())
}

/// P and the unchanging part of Q (algorithm 7, steps 5 and 6.i), run through the cipher.
fn frame(
    cipher: &impl BlockCipher,
    tweak: &[u8],
    radix: u128,
    length: usize,
    half_bytes: usize,
) -> Result<Frame, Ff1Error> {
    if tweak.len() > TWEAK_BYTES_MAX {
        return Err(Ff1Error::Tweak);
    }
    let word = |value: usize| u32::try_from(value).map_err(|_| Ff1Error::TooLong);
    let (length, tweak_length) = (word(length)?, word(tweak.len())?);
    let [.., r0, r1, r2] = radix.to_be_bytes();
    let [.., split] = (length / 2).to_be_bytes();
    let mut prefix = [0; BLOCK_BYTES];
    let parts = [1, 2, 1, r0, r1, r2, ROUNDS, split].into_iter();
    let parts = parts.chain(length.to_be_bytes()).chain(tweak_length.to_be_bytes());
    prefix.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    cipher.encrypt(&mut prefix);
    // Q ends with the round and the half, at the end of a block: zeros fill what is between.
    let tail = half_bytes + 1;
    let blocks = (tweak.len() + tail).div_ceil(BLOCK_BYTES);
    let mut bytes = tweak.iter().copied().chain(core::iter::repeat(0));
    let mut last = [0; BLOCK_BYTES];
    for block in 0..blocks {
        last.iter_mut().zip(&mut bytes).for_each(|(to, from)| *to = from);
        if block + 1 < blocks {
            prefix.iter_mut().zip(last).for_each(|(to, from)| *to ^= from);
            cipher.encrypt(&mut prefix);
        }
    }
    Ok(Frame { prefix, last, half_bytes, taken_bytes: 4 * half_bytes.div_ceil(4) + 4 })
}

impl Frame {
    /// The number that a round adds (steps 6.ii to 6.iv).
    fn round(&self, cipher: &impl BlockCipher, round: u8, half: u128) -> u128 {
        // The half has at most 12 bytes, so round and half do not reach the tweak's end.
        let tail = u128::from(round) << (8 * self.half_bytes) | half;
        let chained = u128::from_be_bytes(self.prefix) ^ u128::from_be_bytes(self.last) ^ tail;
        let mut block = chained.to_be_bytes();
        cipher.encrypt(&mut block);
        u128::from_be_bytes(block) >> (8 * (BLOCK_BYTES - self.taken_bytes))
    }
}

/// NUM (algorithm 1).
fn number(numerals: &[u8], radix: u128) -> u128 {
    numerals.iter().fold(0, |number, numeral| number * radix + u128::from(*numeral))
}

/// STR (algorithm 3).
fn spell(mut number: u128, radix: u128, to: &mut [u8]) {
    for numeral in to.iter_mut().rev() {
        *numeral = u8::try_from(number % radix).unwrap_or(0);
        number /= radix;
    }
}

#[cfg(test)]
mod tests;
