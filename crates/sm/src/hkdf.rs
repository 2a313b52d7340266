//! HKDF (RFC 5869) over HMAC-SM3: the key schedule of TLS 1.3 with the national suites.

use zeroize::Zeroize;

use crate::error::Error;
use crate::hmac::HmacSm3Key;
use crate::sm3::DIGEST_BYTES;

/// RFC 5869 §2.3: at most 255 blocks, in bytes.
pub const OUTPUT_BYTES_MAX: usize = 255 * DIGEST_BYTES;

/// A pseudo-random key, ready to expand.
#[derive(Clone, Debug)]
pub struct HkdfSm3 {
    key: HmacSm3Key,
}

impl HkdfSm3 {
    /// RFC 5869 §2.2. Without a salt, 32 zero bytes are taken.
    pub fn extract(salt: Option<&[u8]>, secret: &[u8]) -> Self {
        let salt = HmacSm3Key::new(salt.unwrap_or(&[0; DIGEST_BYTES]));
        let mut prk = salt.sign(&[secret]);
        let hkdf = Self::from_prk(&prk);
        prk.zeroize();
        hkdf
    }

    /// A key that was extracted before.
    pub fn from_prk(prk: &[u8]) -> Self {
        Self { key: HmacSm3Key::new(prk) }
    }

    /// RFC 5869 §2.3: fills `out`. The parts of `info` are taken one after the other.
    ///
    /// # Errors
    ///
    /// [`Error::TooLong`] if `out` is longer than [`OUTPUT_BYTES_MAX`].
    pub fn expand(&self, info: &[&[u8]], out: &mut [u8]) -> Result<(), Error> {
        if out.len() > OUTPUT_BYTES_MAX {
            return Err(Error::TooLong);
        }
        let mut before = [0; DIGEST_BYTES];
        for (counter, chunk) in (1..=u8::MAX).zip(out.chunks_mut(DIGEST_BYTES)) {
            let mut hmac = self.key.start();
            if counter > 1 {
                hmac.update(&before);
            }
            info.iter().for_each(|part| hmac.update(part));
            hmac.update(&[counter]);
            before = hmac.finish();
            chunk.iter_mut().zip(before).for_each(|(out, byte)| *out = byte);
        }
        before.zeroize();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_agrees_with_another_implementation() {
        let other = hkdf::SimpleHkdf::<sm3::Sm3>::new(Some(b"salt"), b"secret");
        let ours = HkdfSm3::extract(Some(b"salt"), b"secret");
        for length in (0..200).chain([OUTPUT_BYTES_MAX]) {
            let (mut a, mut b) = (vec![0; length], vec![0; length]);
            ours.expand(&[b"in", b"fo"], &mut a).expect("short enough");
            other.expand(b"info", &mut b).expect("short enough");
            assert_eq!(a, b);
        }
        let mut long = vec![0; OUTPUT_BYTES_MAX + 1];
        assert_eq!(ours.expand(&[], &mut long), Err(Error::TooLong));
    }

    #[test]
    fn no_salt_is_a_salt_of_zeros() {
        let (mut a, mut b) = ([0; 32], [0; 32]);
        HkdfSm3::extract(None, b"secret").expand(&[], &mut a).expect("short");
        HkdfSm3::extract(Some(&[0; 32]), b"secret").expand(&[], &mut b).expect("short");
        assert_eq!(a, b);
    }
}
