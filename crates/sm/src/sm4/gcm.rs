//! SM4-GCM (GB/T 36624, RFC 8998 §2): nonce of 12 bytes, tag of 16, in place.
//!
//! Never use one key and one nonce for two texts. An opened text is there only after its tag was
//! found right.

use zeroize::Zeroizing;

use super::{Block, KEY_BYTES, NONCE_BYTES, Sm4, TAG_BYTES, ctr};
use crate::cpu::Cpu;
use crate::ct;
use crate::error::Error;
use crate::ghash::{Ghash, GhashKey};

/// NIST SP 800-38D §5.2.1.1: longest text, in bytes.
pub const TEXT_BYTES_MAX: u64 = (1 << 36) - 32;

/// A key, ready for use.
#[derive(Clone, Debug)]
pub struct Gcm {
    key: Sm4,
    ghash: GhashKey,
}

impl Gcm {
    /// Expands the key.
    pub fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self::with_cpu(key, Cpu::current())
    }

    /// The same, to be used with the given instructions.
    pub fn with_cpu(key: &[u8; KEY_BYTES], cpu: Cpu) -> Self {
        let key = Sm4::with_cpu(key, cpu);
        let ghash = GhashKey::new(cpu, key.encrypt([0; 16]));
        Self { key, ghash }
    }

    /// Encrypts in place and gives the tag over `aad` and the ciphertext.
    ///
    /// # Errors
    ///
    /// [`Error::TooLong`] beyond [`TEXT_BYTES_MAX`].
    pub fn seal(
        &self,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        text: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], Error> {
        if text.len() as u64 > TEXT_BYTES_MAX {
            return Err(Error::TooLong);
        }
        let bytes = text.len();
        let mut ghash = Ghash::new(&self.ghash);
        ghash.update(aad);
        let mask = ctr::add_stream_tagged(&self.key, first(nonce), text, |done| ghash.update(done));
        Ok(tag(ghash, aad.len(), bytes, &mask))
    }

    /// Checks the tag and decrypts in place. With a wrong tag the text stays as it was.
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
        if text.len() as u64 > TEXT_BYTES_MAX {
            return Err(Error::TooLong);
        }
        let mut ghash = Ghash::new(&self.ghash);
        ghash.update(aad);
        ghash.update(text);
        let counter = first(nonce);
        let mask = Zeroizing::new(self.key.encrypt(counter.to_be_bytes()));
        let right = Zeroizing::new(tag(ghash, aad.len(), text.len(), &mask));
        if !ct::equal(&*right, expected) {
            return Err(Error::Tag);
        }
        ctr::add_stream(&self.key, &mut counter.wrapping_add(1), text);
        Ok(())
    }
}

/// NIST SP 800-38D §7.1 step 2: the counter before the first. Its last 32 bits do not overflow
/// within [`TEXT_BYTES_MAX`].
fn first(nonce: &[u8; NONCE_BYTES]) -> u128 {
    nonce.iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte)) << 32 | 1
}

fn tag(mut ghash: Ghash<'_>, aad_bytes: usize, bytes: usize, mask: &Block) -> [u8; TAG_BYTES] {
    let lengths = (aad_bytes as u128) << 67 | (bytes as u128) << 3;
    ghash.update(&lengths.to_be_bytes());
    (u128::from_be_bytes(ghash.finish()) ^ u128::from_be_bytes(*mask)).to_be_bytes()
}
