//! Signing and verifying: what this crate asks of whoever has the arithmetic and the keys.
//!
//! No private key is in a type of this crate: a [`Signer`] may be a file, a token or a machine
//! elsewhere.

use crate::key::{KeyError, Scheme, VerifierKey};

#[cfg(feature = "aws-lc")]
mod aws_lc;
#[cfg(feature = "sm")]
mod sm;

#[cfg(feature = "aws-lc")]
pub use aws_lc::{AwsLc, Ed25519Signer};
#[cfg(feature = "sm")]
pub use sm::{Entropy, Sm, Sm2Signer};

/// How long a signature is, in bytes, in every scheme there is.
pub const SIGNATURE_BYTES: usize = 64;

/// The signer could not sign: the token is gone, or its answer is no signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key cannot sign now")]
pub struct CannotSign;

/// Why a signature was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotVerified {
    /// It is not by this key over this message.
    #[error("the signature is wrong")]
    Wrong,
    /// This verifier has not the scheme.
    #[error("the signature scheme is not supported here")]
    Unsupported,
}

/// Holds a private key.
pub trait Signer {
    /// The public half, with the name and the type that its signatures have.
    fn key(&self) -> &VerifierKey;

    /// The bare signature over a message, [`SIGNATURE_BYTES`] long.
    ///
    /// # Errors
    /// When it cannot be made now.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CannotSign>;
}

/// A signer under another name. The origin in what is signed keeps the two apart.
pub struct Renamed<'s> {
    key: VerifierKey,
    signer: &'s dyn Signer,
}

impl<'s> Renamed<'s> {
    /// The signer under the name of another log.
    ///
    /// # Errors
    /// When the name is none.
    pub fn new(signer: &'s dyn Signer, name: &str) -> Result<Renamed<'s>, KeyError> {
        Ok(Renamed { key: signer.key().renamed(name)?, signer })
    }
}

impl Signer for Renamed<'_> {
    fn key(&self) -> &VerifierKey {
        &self.key
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CannotSign> {
        self.signer.sign(message)
    }
}

/// Has the arithmetic of one or more schemes.
pub trait Verifier {
    /// Whether `signature` is by `public` over `message`.
    ///
    /// # Errors
    /// When it is not, or the scheme is not supported.
    fn verify(
        &self,
        scheme: Scheme,
        public: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), NotVerified>;
}

impl<V: Verifier + ?Sized> Verifier for &V {
    fn verify(
        &self,
        scheme: Scheme,
        public: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), NotVerified> {
        (**self).verify(scheme, public, message, signature)
    }
}

/// Two verifiers as one: the second is asked what the first does not support.
impl<A: Verifier, B: Verifier> Verifier for (A, B) {
    fn verify(
        &self,
        scheme: Scheme,
        public: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), NotVerified> {
        match self.0.verify(scheme, public, message, signature) {
            Err(NotVerified::Unsupported) => self.1.verify(scheme, public, message, signature),
            verdict => verdict,
        }
    }
}

/// Verifies for a key: what has the wrong length is wrong in every scheme.
pub(crate) fn check(
    verifier: &impl Verifier,
    key: &VerifierKey,
    message: &[u8],
    signature: &[u8],
) -> Result<(), NotVerified> {
    if signature.len() != SIGNATURE_BYTES {
        return Err(NotVerified::Wrong);
    }
    verifier.verify(key.algorithm().scheme(), key.public(), message, signature)
}

/// Signs, and refuses what is no signature.
pub(crate) fn sign(signer: &(impl Signer + ?Sized), message: &[u8]) -> Result<Vec<u8>, CannotSign> {
    let signature = signer.sign(message)?;
    if signature.len() == SIGNATURE_BYTES { Ok(signature) } else { Err(CannotSign) }
}
