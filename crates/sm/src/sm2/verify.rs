//! Verifying (GB/T 32918.2 §7.1). Everything in it is public, so the time may depend on it.

use super::curve::Jacobian;
use super::field::Fe;
use super::key::PublicKey;
use super::limb;
use super::scalar::{N, Scalar};
use super::sign::Signature;
use crate::error::Error;

impl PublicKey {
    /// Verifies a signature over a message by `id`.
    ///
    /// # Errors
    ///
    /// [`Error::Signature`]; [`Error::Identity`].
    pub fn verify(&self, id: &[u8], message: &[u8], signature: &Signature) -> Result<(), Error> {
        self.verify_digest(&self.identity(id)?.digest(message), signature)
    }

    /// Verifies a signature over the digest e = SM3(Z || message).
    ///
    /// # Errors
    ///
    /// [`Error::Signature`].
    pub fn verify_digest(&self, digest: &[u8; 32], signature: &Signature) -> Result<(), Error> {
        if self.is_right(digest, signature) == Some(true) { Ok(()) } else { Err(Error::Signature) }
    }

    /// None if a number is out of range.
    fn is_right(&self, digest: &[u8; 32], signature: &Signature) -> Option<bool> {
        // B1, B2: 0 < r, s < n. B5: t = r + s is not zero.
        let r = Scalar::from_bytes_not_zero(&signature.r)?;
        let s = Scalar::from_bytes_not_zero(&signature.s)?;
        let t = r.add(s);
        if t.is_zero() {
            return None;
        }
        // B6, B7: x of s G + t P must be r - e modulo n: one of two numbers below p. Infinity has
        // no x.
        let sum = Jacobian::multiply_both_vartime(&s, &t, self.point);
        if sum.is_infinity() {
            return None;
        }
        let x = r.sub(Scalar::reduced_bytes(digest)).limbs();
        let zz = sum.z.square();
        let is_x = |x| Fe::from_limbs(x).mul(zz).equals(sum.x);
        let (above, carry) = limb::add(x, N);
        let is_other = carry == 0 && limb::is_less(above, super::field::P) && is_x(above);
        Some(is_x(x) || is_other)
    }
}
