//! SM2 with SM3 by `moat-sm`.

use std::fmt;

use moat_sm::sm2::{DEFAULT_ID, ENTROPY_BYTES, PublicKey, SecretKey as Sm2Key, Signature};
use zeroize::Zeroizing;

use crate::key::{Algorithm, KeyError, KeyName, Scheme, VerifierKey};
use crate::secret::{SEED_BYTES, SecretKey};
use crate::sign::{CannotSign, NotVerified, Signer, Verifier};

/// Verifies SM2 with SM3 (GB/T 32918.2); the signer's identity is `1234567812345678`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sm;

impl Verifier for Sm {
    fn verify(
        &self,
        scheme: Scheme,
        public: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), NotVerified> {
        match scheme {
            Scheme::Ed25519 => Err(NotVerified::Unsupported),
            Scheme::Sm2Sm3 => {
                let key = PublicKey::from_bytes(public).map_err(|_| NotVerified::Wrong)?;
                let signature = signature.try_into().map_err(|_| NotVerified::Wrong)?;
                key.verify(DEFAULT_ID, message, &Signature::from_bytes(signature))
                    .map_err(|_| NotVerified::Wrong)
            }
        }
    }
}

/// Fills with random bytes; false if there are none now. Each signature takes fresh ones.
pub type Entropy = fn(&mut [u8]) -> bool;

/// An SM2 key in memory.
pub struct Sm2Signer {
    key: VerifierKey,
    secret: Sm2Key,
    entropy: Entropy,
}

impl Sm2Signer {
    /// The key of a text, `PRIVATE+KEY+…`, whose seed is the private number d.
    ///
    /// # Errors
    /// When it is none of SM2, or its id is not that of the public key that belongs to it.
    pub fn from_text(text: &str, entropy: Entropy) -> Result<Sm2Signer, KeyError> {
        let secret = SecretKey::parse(text)?;
        let (name, seed) = (secret.name().clone(), secret.seed());
        let signer = Sm2Signer::from_seed(name, secret.algorithm(), seed, entropy)?;
        if signer.key.id() == secret.id() { Ok(signer) } else { Err(KeyError::Id) }
    }

    fn from_seed(
        name: KeyName,
        algorithm: Algorithm,
        seed: &[u8; SEED_BYTES],
        entropy: Entropy,
    ) -> Result<Sm2Signer, KeyError> {
        if algorithm.scheme() != Scheme::Sm2Sm3 {
            return Err(KeyError::Type);
        }
        let secret = Sm2Key::from_bytes(seed).map_err(|_| KeyError::Public)?;
        let key = VerifierKey::new(name, algorithm, secret.public().as_bytes())?;
        Ok(Sm2Signer { key, secret, entropy })
    }

    /// The text of a new key.
    ///
    /// # Errors
    /// When there is no entropy.
    pub fn generate(name: KeyName, entropy: Entropy) -> Result<Zeroizing<String>, KeyError> {
        let mut random = Zeroizing::new([0; ENTROPY_BYTES]);
        if !entropy(random.as_mut_slice()) {
            return Err(KeyError::Public);
        }
        let seed = Sm2Key::generate(&random).map_err(|_| KeyError::Public)?.to_bytes();
        let signer = Sm2Signer::from_seed(name.clone(), Algorithm::Sm2Sm3, &seed, entropy)?;
        Ok(SecretKey::new(name, signer.key.id(), Algorithm::Sm2Sm3, seed).encode())
    }
}

impl Signer for Sm2Signer {
    fn key(&self) -> &VerifierKey {
        &self.key
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CannotSign> {
        let mut random = Zeroizing::new([0; ENTROPY_BYTES]);
        if !(self.entropy)(random.as_mut_slice()) {
            return Err(CannotSign);
        }
        let signature = self.secret.sign(DEFAULT_ID, message, &random).map_err(|_| CannotSign)?;
        Ok(signature.to_bytes().to_vec())
    }
}

impl fmt::Debug for Sm2Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sm2Signer").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::{Note, NoteError};

    fn fixed(bytes: &mut [u8]) -> bool {
        bytes.fill(7);
        true
    }

    fn none(_: &mut [u8]) -> bool {
        false
    }

    #[test]
    fn a_note_signed_by_sm2_verifies_and_no_other() {
        let name = KeyName::new("pay.bank.test/audit").unwrap();
        let text = Sm2Signer::generate(name.clone(), fixed).unwrap();
        let signer = Sm2Signer::from_text(&text, fixed).unwrap();
        let key = signer.key().clone();
        assert_eq!(VerifierKey::parse(&key.to_string()), Ok(key.clone()));
        let note = Note::sign("a text\n", &[&signer]).unwrap();
        assert_eq!(note.verify(std::slice::from_ref(&key), &Sm).unwrap().len(), 1);
        let other = Note::new("another text\n", note.signatures().to_vec()).unwrap();
        assert_eq!(other.verify(&[key], &Sm), Err(NoteError::Wrong(name.clone())));
        assert_eq!(Sm2Signer::generate(name, none).err(), Some(KeyError::Public));
        let dry = Sm2Signer::from_text(&text, none).unwrap();
        assert!(Note::sign("a text\n", &[&dry]).is_err());
        assert!(!format!("{signer:?}").contains("secret"));
    }
}
