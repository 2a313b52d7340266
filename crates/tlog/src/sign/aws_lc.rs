//! Ed25519 by aws-lc-rs, the project's one provider.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::key::{Algorithm, KeyError, KeyName, Scheme, VerifierKey};
use crate::sign::{CannotSign, NotVerified, Signer, Verifier};

/// Verifies Ed25519.
#[derive(Clone, Copy, Debug, Default)]
pub struct AwsLc;

impl Verifier for AwsLc {
    fn verify(
        &self,
        scheme: Scheme,
        public: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), NotVerified> {
        match scheme {
            Scheme::Ed25519 => UnparsedPublicKey::new(&ED25519, public)
                .verify(message, signature)
                .map_err(|_| NotVerified::Wrong),
            Scheme::Sm2Sm3 => Err(NotVerified::Unsupported),
        }
    }
}

/// An Ed25519 key in memory.
pub struct Ed25519Signer {
    key: VerifierKey,
    pair: Ed25519KeyPair,
}

impl Ed25519Signer {
    /// The key of a seed (RFC 8032 §5.1.5, the 32 bytes of the private key).
    ///
    /// # Errors
    /// When the algorithm is not one of Ed25519, or the seed is not 32 bytes.
    pub fn from_seed(
        name: KeyName,
        algorithm: Algorithm,
        seed: &[u8],
    ) -> Result<Ed25519Signer, KeyError> {
        if algorithm.scheme() != Scheme::Ed25519 {
            return Err(KeyError::Type);
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::Public)?;
        let key = VerifierKey::new(name, algorithm, pair.public_key().as_ref())?;
        Ok(Ed25519Signer { key, pair })
    }
}

impl Signer for Ed25519Signer {
    fn key(&self) -> &VerifierKey {
        &self.key
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CannotSign> {
        Ok(self.pair.sign(message).as_ref().to_vec())
    }
}

impl fmt::Debug for Ed25519Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ed25519Signer").field("key", &self.key).finish_non_exhaustive()
    }
}
