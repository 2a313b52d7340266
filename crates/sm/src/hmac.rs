//! HMAC (RFC 2104, GB/T 15852.2) over SM3. The two padded key blocks are hashed once, so a key that
//! is used often costs two compressions less each time.

use zeroize::Zeroize;

use crate::ct;
use crate::error::Error;
use crate::sm3::{BLOCK_BYTES, DIGEST_BYTES, Sm3};

/// A key for many messages.
#[derive(Clone)]
pub struct HmacSm3Key {
    inner: Sm3,
    outer: Sm3,
}

impl core::fmt::Debug for HmacSm3Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("HmacSm3Key").finish_non_exhaustive()
    }
}

impl HmacSm3Key {
    /// A key of any length. Longer than 64 bytes, its digest is taken (RFC 2104 §2).
    pub fn new(key: &[u8]) -> Self {
        let mut block = [0; BLOCK_BYTES];
        if let Some(head) = block.get_mut(..key.len()) {
            head.copy_from_slice(key);
        } else if let Some(head) = block.get_mut(..DIGEST_BYTES) {
            let mut digest = Sm3::digest(key);
            head.copy_from_slice(&digest);
            digest.as_mut_slice().zeroize();
        }
        let padded = |pad: u8, mut block: [u8; BLOCK_BYTES]| {
            block.iter_mut().for_each(|byte| *byte ^= pad);
            let hash = Sm3::new().chain(&block);
            block.as_mut_slice().zeroize();
            hash
        };
        let key = Self { inner: padded(0x36, block), outer: padded(0x5c, block) };
        block.as_mut_slice().zeroize();
        key
    }

    /// Begin a message.
    pub fn start(&self) -> HmacSm3 {
        HmacSm3 { inner: self.inner.clone(), outer: self.outer.clone() }
    }

    /// The tag over the parts, one after the other.
    pub fn sign(&self, parts: &[&[u8]]) -> [u8; DIGEST_BYTES] {
        let mut hmac = self.start();
        parts.iter().for_each(|part| hmac.update(part));
        hmac.finish()
    }
}

/// A running HMAC.
#[derive(Clone)]
pub struct HmacSm3 {
    inner: Sm3,
    outer: Sm3,
}

impl core::fmt::Debug for HmacSm3 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("HmacSm3").finish_non_exhaustive()
    }
}

impl HmacSm3 {
    /// Begin with a key of any length.
    pub fn new(key: &[u8]) -> Self {
        HmacSm3Key::new(key).start()
    }

    /// Some more bytes of the message.
    pub fn update(&mut self, data: &[u8]) {
        self.inner.update(data);
    }

    /// The tag, 32 bytes.
    pub fn finish(mut self) -> [u8; DIGEST_BYTES] {
        let mut digest = self.inner.finish_in_place();
        self.outer.update(&digest);
        digest.as_mut_slice().zeroize();
        self.outer.finish_in_place()
    }

    /// Compares with a tag of 32 bytes in constant time.
    ///
    /// # Errors
    ///
    /// [`Error::Tag`] if it is another one, of whatever length.
    pub fn verify(self, tag: &[u8]) -> Result<(), Error> {
        if ct::equal(&self.finish(), tag) { Ok(()) } else { Err(Error::Tag) }
    }
}

#[cfg(test)]
mod tests {
    use hmac::{KeyInit, Mac};

    use super::*;

    #[test]
    fn every_length_of_key_agrees_with_another_implementation() {
        for length in 0..200 {
            let key: Vec<u8> = (0..length).collect();
            let mut other = hmac::SimpleHmac::<sm3::Sm3>::new_from_slice(&key).expect("any length");
            other.update(b"message");
            let tag = HmacSm3Key::new(&key).sign(&[b"mess", b"age"]);
            assert_eq!(tag[..], other.finalize().into_bytes()[..], "{length}");
            let mut hmac = HmacSm3::new(&key);
            hmac.update(b"message");
            assert_eq!(hmac.clone().verify(&tag), Ok(()));
            assert_eq!(hmac.verify(&tag[..31]), Err(Error::Tag));
        }
    }
}
