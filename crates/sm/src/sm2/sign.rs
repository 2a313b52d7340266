//! Signing (GB/T 32918.2 §6.1), with a nonce from the system's entropy, the key and the message:
//! it is sound if either the entropy or HMAC-SM3 with the key is.

use zeroize::Zeroizing;

use super::ENTROPY_BYTES;
use super::curve::Jacobian;
use super::key::SecretKey;
use super::nonce;
use super::scalar::Scalar;
use crate::cpu::Cpu;
use crate::error::Error;

/// Bytes of a raw signature, r || s.
pub const SIGNATURE_BYTES: usize = 64;

/// A signature. Whether its numbers are in range is found out when it is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    pub(super) r: [u8; 32],
    pub(super) s: [u8; 32],
}

impl Signature {
    /// From r || s, each 32 bytes, big-endian.
    pub fn from_bytes(bytes: &[u8; SIGNATURE_BYTES]) -> Self {
        let mut signature = Self { r: [0; 32], s: [0; 32] };
        let parts = signature.r.iter_mut().chain(&mut signature.s);
        parts.zip(bytes).for_each(|(to, from)| *to = *from);
        signature
    }

    /// r || s.
    pub fn to_bytes(&self) -> [u8; SIGNATURE_BYTES] {
        let mut bytes = [0; SIGNATURE_BYTES];
        bytes.iter_mut().zip(self.r.iter().chain(&self.s)).for_each(|(to, from)| *to = *from);
        bytes
    }
}

impl SecretKey {
    /// Signs a message as `id`. To sign many, keep the [`super::Identity`] and use
    /// [`SecretKey::sign_digest`].
    ///
    /// # Errors
    ///
    /// [`Error::Identity`]; [`Error::Entropy`], about once in 2^256.
    pub fn sign(
        &self,
        id: &[u8],
        message: &[u8],
        entropy: &[u8; ENTROPY_BYTES],
    ) -> Result<Signature, Error> {
        self.sign_digest(&self.public().identity(id)?.digest(message), entropy)
    }

    /// Signs the digest e = SM3(Z || message).
    ///
    /// # Errors
    ///
    /// [`Error::Entropy`], about once in 2^256.
    pub fn sign_digest(
        &self,
        digest: &[u8; 32],
        entropy: &[u8; ENTROPY_BYTES],
    ) -> Result<Signature, Error> {
        let seed = nonce::seed(&self.nonces, &[entropy, digest]);
        nonce::first(&seed, |k| self.sign_with(digest, k))
    }

    /// Steps A3 to A7 with the nonce k, if it leads to a signature.
    pub(super) fn sign_with(&self, digest: &[u8; 32], k: &Scalar) -> Option<Signature> {
        // With its Z, the point tells more of k than r does.
        let point = Zeroizing::new(Jacobian::multiply_base(Cpu::current(), k));
        let x = point.to_affine_x();
        let r = Scalar::reduced_bytes(digest).add(Scalar::reduced(x.to_limbs()));
        // With r, which everybody sees, it would give the nonce away.
        let sum = Zeroizing::new(r.add(*k));
        // (1 + d)^-1 (k - r d), with one product: k - r d = (k + r) - r (1 + d).
        let s = self.inverse.mul(*sum).sub(r);
        let usable = !r.is_zero() && !sum.is_zero() && !s.is_zero();
        usable.then(|| Signature { r: r.to_bytes(), s: s.to_bytes() })
    }
}
