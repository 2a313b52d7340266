//! Ed25519 by aws-lc-rs, the project's one provider.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::key::{Algorithm, KeyError, KeyName, Scheme, VerifierKey};
use crate::secret::{SEED_BYTES, SecretKey};
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

    /// The key of a text, `PRIVATE+KEY+…`.
    ///
    /// # Errors
    /// When it is none, or its id is not that of the public key that belongs to its seed.
    pub fn from_text(text: &str) -> Result<Ed25519Signer, KeyError> {
        let secret = SecretKey::parse(text)?;
        let signer =
            Ed25519Signer::from_seed(secret.name().clone(), secret.algorithm(), secret.seed())?;
        if signer.key.id() == secret.id() { Ok(signer) } else { Err(KeyError::Id) }
    }

    /// The text of the key that has this seed, for a key that was just drawn.
    ///
    /// # Errors
    /// As [`from_seed`](Ed25519Signer::from_seed).
    pub fn text_of(
        name: KeyName,
        algorithm: Algorithm,
        seed: Zeroizing<[u8; SEED_BYTES]>,
    ) -> Result<Zeroizing<String>, KeyError> {
        let signer = Ed25519Signer::from_seed(name.clone(), algorithm, seed.as_slice())?;
        Ok(SecretKey::new(name, signer.key.id(), algorithm, seed).encode())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_that_others_published_has_the_public_key_that_they_published() {
        // golang.org/x/mod/sumdb/note, its example.
        let text = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
        let signer = Ed25519Signer::from_text(text).unwrap();
        let vkey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        assert_eq!(signer.key().to_string(), vkey);
        let forged = text.replace("c74f20a3", "c74f20a4");
        assert_eq!(Ed25519Signer::from_text(&forged).err(), Some(KeyError::Id));
        let seed = Zeroizing::new(*SecretKey::parse(text).unwrap().seed());
        let name = KeyName::new("PeterNeumann").unwrap();
        let again = Ed25519Signer::text_of(name, Algorithm::Ed25519, seed).unwrap();
        assert_eq!(again.as_str(), text);
    }
}
