//! SM4-CCM (NIST SP 800-38C, RFC 8998 §2): nonce of 12 bytes, tag of 16, in place.
//!
//! Never use one key and one nonce for two texts. The chained MAC is serial, so GCM is many times
//! faster; CCM is here because the suite 0x00C7 asks for it.

use zeroize::{Zeroize, Zeroizing};

use super::{Block, KEY_BYTES, NONCE_BYTES, Sm4, TAG_BYTES, ctr};
use crate::cpu::Cpu;
use crate::ct;
use crate::error::Error;

/// With a nonce of 12 bytes three are left for the length: longest text, in bytes.
pub const TEXT_BYTES_MAX: usize = (1 << 24) - 1;
/// Longest associated data, in bytes: what six bytes of length can tell.
pub const AAD_BYTES_MAX: u64 = 0xffff_ffff;

/// A key, ready for use.
#[derive(Clone, Debug)]
pub struct Ccm {
    key: Sm4,
}

impl Ccm {
    /// Expands the key.
    pub fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self::with_cpu(key, Cpu::current())
    }

    /// The same, to be used with the given instructions.
    pub fn with_cpu(key: &[u8; KEY_BYTES], cpu: Cpu) -> Self {
        Self { key: Sm4::with_cpu(key, cpu) }
    }

    /// Encrypts in place and gives the tag over `aad` and the plaintext.
    ///
    /// # Errors
    ///
    /// [`Error::TooLong`] beyond [`TEXT_BYTES_MAX`] or [`AAD_BYTES_MAX`].
    pub fn seal(
        &self,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        text: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], Error> {
        let mac = self.mac(nonce, aad, text)?;
        let mask = ctr::add_stream_tagged(&self.key, first(nonce), text, |_| {});
        Ok(add(*mac, *mask))
    }

    /// Decrypts in place and checks the tag. With a wrong tag the text is wiped.
    ///
    /// # Errors
    ///
    /// [`Error::Tag`], also for a tag that is not 16 bytes long; [`Error::TooLong`].
    pub fn open(
        &self,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        text: &mut [u8],
        expected: &[u8],
    ) -> Result<(), Error> {
        check(aad, text)?;
        let mask = ctr::add_stream_tagged(&self.key, first(nonce), text, |_| {});
        let mac = self.mac(nonce, aad, text)?;
        let right = Zeroizing::new(add(*mac, *mask));
        if ct::equal(&*right, expected) {
            return Ok(());
        }
        text.zeroize();
        Err(Error::Tag)
    }

    /// NIST SP 800-38C §6.1 and A.2: the chained MAC.
    fn mac(
        &self,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        text: &[u8],
    ) -> Result<Zeroizing<Block>, Error> {
        check(aad, text)?;
        let length = text.len() as u128;
        let flags: u8 = if aad.is_empty() { 0x3a } else { 0x7a };
        let begin = u128::from(flags) << 120 | whole(nonce) << 24 | length;
        let mut mac = Mac { key: &self.key, sum: [0; 16], filled: 0 };
        mac.update(&begin.to_be_bytes());
        if let Ok(short) = u16::try_from(aad.len())
            && (1..0xff00).contains(&short)
        {
            mac.update(&short.to_be_bytes());
        } else if let Ok(long) = u32::try_from(aad.len())
            && long > 0
        {
            mac.update(&[0xff, 0xfe]);
            mac.update(&long.to_be_bytes());
        }
        mac.update(aad);
        mac.pad();
        mac.update(text);
        mac.pad();
        Ok(Zeroizing::new(mac.sum))
    }
}

struct Mac<'a> {
    key: &'a Sm4,
    sum: Block,
    /// Bytes added since the last encryption.
    filled: usize,
}

impl Drop for Mac<'_> {
    fn drop(&mut self) {
        self.sum.as_mut_slice().zeroize();
    }
}

impl Mac<'_> {
    fn update(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let free = self.sum.get_mut(self.filled..).unwrap_or_default();
            let (now, later) = data.split_at(free.len().min(data.len()));
            free.iter_mut().zip(now).for_each(|(sum, byte)| *sum ^= byte);
            self.filled += now.len();
            if self.filled == self.sum.len() {
                self.pad();
            }
            data = later;
        }
    }

    /// Zeros up to the end of the block.
    fn pad(&mut self) {
        if self.filled > 0 {
            self.sum = self.key.encrypt(self.sum);
            self.filled = 0;
        }
    }
}

fn check(aad: &[u8], text: &[u8]) -> Result<(), Error> {
    let fits = text.len() <= TEXT_BYTES_MAX && aad.len() as u64 <= AAD_BYTES_MAX;
    if fits { Ok(()) } else { Err(Error::TooLong) }
}

fn whole(nonce: &[u8; NONCE_BYTES]) -> u128 {
    nonce.iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

/// NIST SP 800-38C A.3: counter block zero, which masks the tag.
fn first(nonce: &[u8; NONCE_BYTES]) -> u128 {
    2 << 120 | whole(nonce) << 24
}

fn add(a: Block, b: Block) -> Block {
    (u128::from_ne_bytes(a) ^ u128::from_ne_bytes(b)).to_ne_bytes()
}
