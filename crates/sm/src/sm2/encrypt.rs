//! Public-key encryption (GB/T 32918.4), in the order C1 C3 C2: point, hash, text.

use alloc::vec::Vec;

use zeroize::{Zeroize, Zeroizing};

use super::curve::{Affine, Jacobian, POINT_BYTES};
use super::key::{PublicKey, SecretKey};
use super::scalar::Scalar;
use super::{ENTROPY_BYTES, nonce};
use crate::cpu::Cpu;
use crate::ct;
use crate::error::Error;
use crate::hmac::HmacSm3Key;
use crate::sm3::{DIGEST_BYTES, Sm3};

/// What a ciphertext is longer than its text.
pub const OVERHEAD_BYTES: usize = POINT_BYTES + DIGEST_BYTES;
/// Longest text, in bytes. The standard allows more; keys and small records are what it is for.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

impl PublicKey {
    /// GB/T 32918.4 §6.1. A text of 1 to [`TEXT_BYTES_MAX`] bytes.
    ///
    /// It is as secret as the entropy: no key of ours hedges it, as a signature's nonce is hedged.
    /// Who knows the entropy can try texts.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] for no text, [`Error::TooLong`]; [`Error::Entropy`]: a text of one byte
    /// has a bad mask once in 256 tries, and there are eight tries.
    pub fn encrypt(&self, text: &[u8], entropy: &[u8; ENTROPY_BYTES]) -> Result<Vec<u8>, Error> {
        check(text.len())?;
        let parts: [&[u8]; 3] = [b"moat sm2 encrypt", self.as_bytes(), text];
        let seed = nonce::seed(&HmacSm3Key::new(entropy), &parts);
        nonce::first(&seed, |k| self.encrypt_with(text, k))
    }

    /// Steps A2 to A8 with the nonce k, if it leads to a mask that is not all zeros.
    pub(super) fn encrypt_with(&self, text: &[u8], k: &Scalar) -> Option<Vec<u8>> {
        let c1 = Zeroizing::new(Jacobian::multiply_base(Cpu::current(), k)).to_affine();
        let secret = Coordinates::new(&Zeroizing::new(Jacobian::multiply(self.point, k)));
        let mut out = Vec::with_capacity(OVERHEAD_BYTES + text.len());
        out.extend_from_slice(&c1.to_bytes());
        out.extend_from_slice(&secret.hash(text));
        out.extend_from_slice(text);
        let masked = out.get_mut(OVERHEAD_BYTES..).is_some_and(|text| secret.mask(text));
        if masked {
            return Some(out);
        }
        // A mask of zeros left the text as it is.
        out.zeroize();
        None
    }
}

impl SecretKey {
    /// GB/T 32918.4 §7.1.
    ///
    /// # Errors
    ///
    /// [`Error::Decrypt`], whatever is wrong.
    pub fn decrypt(&self, cipher: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (c1, rest) = cipher.split_at_checked(POINT_BYTES).ok_or(Error::Decrypt)?;
        let (c3, c2) = rest.split_at_checked(DIGEST_BYTES).ok_or(Error::Decrypt)?;
        check(c2.len()).map_err(|_| Error::Decrypt)?;
        let point = Affine::from_bytes(c1).ok_or(Error::Decrypt)?;
        let secret = Coordinates::new(&Zeroizing::new(Jacobian::multiply(point, &self.d)));
        let mut text = Zeroizing::new(c2.to_vec());
        let masked = secret.mask(&mut text);
        let is_right = ct::equal(&secret.hash(&text), c3);
        if masked && is_right { Ok(text) } else { Err(Error::Decrypt) }
    }
}

fn check(bytes: usize) -> Result<(), Error> {
    match bytes {
        0 => Err(Error::Length),
        1..=TEXT_BYTES_MAX => Ok(()),
        _ => Err(Error::TooLong),
    }
}

/// The secret point: x2 || y2.
struct Coordinates([u8; 64]);

impl Drop for Coordinates {
    fn drop(&mut self) {
        self.0.as_mut_slice().zeroize();
    }
}

impl Coordinates {
    fn new(point: &Jacobian) -> Self {
        let point = Zeroizing::new(point.to_affine());
        let bytes = Zeroizing::new(point.to_bytes());
        let [_, xy @ ..] = *bytes;
        Self(xy)
    }

    /// SM3(x2 || text || y2).
    fn hash(&self, text: &[u8]) -> [u8; DIGEST_BYTES] {
        let (x, y) = self.0.split_at(32);
        Sm3::new().chain(x).chain(text).chain(y).finish()
    }

    /// Adds the key stream of GB/T 32918.4 §5.4.3. False if it is all zeros.
    fn mask(&self, text: &mut [u8]) -> bool {
        let start = Sm3::new().chain(&self.0);
        let mut any = 0;
        for (counter, chunk) in (1_u32..).zip(text.chunks_mut(DIGEST_BYTES)) {
            let mut stream = start.clone().chain(&counter.to_be_bytes()).finish();
            for (byte, add) in chunk.iter_mut().zip(stream) {
                *byte ^= add;
                any |= add;
            }
            stream.as_mut_slice().zeroize();
        }
        any != 0
    }
}
