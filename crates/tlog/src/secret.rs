//! Private keys in the text form of signed notes: `PRIVATE+KEY+name+id+base64`, as
//! golang.org/x/mod/sumdb/note writes them.
//!
//! The form only. What a seed signs with, and whether the id belongs to it, is for whoever has the
//! arithmetic: see [`Ed25519Signer`](crate::sign::Ed25519Signer).

use zeroize::Zeroizing;

use crate::key::{Algorithm, KeyError, KeyId, KeyName};
use crate::text;

/// What every private key begins with.
const PREFIX: &str = "PRIVATE+KEY+";
/// How long a seed is, in bytes, in every scheme there is.
pub const SEED_BYTES: usize = 32;
/// Longest private key in text form, in bytes.
pub const TEXT_BYTES_MAX: usize = 512;

/// A private key as its text has it. The seed is wiped when it is dropped, and never shown.
pub struct SecretKey {
    name: KeyName,
    id: KeyId,
    algorithm: Algorithm,
    seed: Zeroizing<[u8; SEED_BYTES]>,
}

impl SecretKey {
    /// A key from its parts; the id is that of the public key that belongs to the seed.
    #[must_use]
    pub fn new(
        name: KeyName,
        id: KeyId,
        algorithm: Algorithm,
        seed: Zeroizing<[u8; SEED_BYTES]>,
    ) -> SecretKey {
        SecretKey { name, id, algorithm, seed }
    }

    /// Reads a key; one newline at the end is allowed, since keys lie in files.
    ///
    /// # Errors
    /// When the text is none, or has another spelling than a key is written in.
    pub fn parse(key: &str) -> Result<SecretKey, KeyError> {
        if key.len() > TEXT_BYTES_MAX {
            return Err(KeyError::Text);
        }
        let key = key.strip_suffix('\n').unwrap_or(key);
        let rest = key.strip_prefix(PREFIX).ok_or(KeyError::Text)?;
        let (name, rest) = rest.split_once('+').ok_or(KeyError::Text)?;
        // Base64 may have a plus too.
        let (id, material) = rest.split_once('+').ok_or(KeyError::Text)?;
        let material = text::decode_secret(material).ok_or(KeyError::Text)?;
        let known = Algorithm::ALL.iter().find_map(|algorithm| {
            Some((*algorithm, material.strip_prefix(algorithm.type_bytes())?))
        });
        let (algorithm, seed) = known.ok_or(KeyError::Type)?;
        let seed = Zeroizing::new(seed.try_into().map_err(|_| KeyError::Public)?);
        let bytes = data_encoding::HEXLOWER.decode(id.as_bytes()).map_err(|_| KeyError::Text)?;
        let id = KeyId(bytes.try_into().map_err(|_| KeyError::Text)?);
        Ok(SecretKey { name: KeyName::new(name)?, id, algorithm, seed })
    }

    /// The text, without a newline. It is wiped when it is dropped.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<String> {
        let type_bytes = self.algorithm.type_bytes();
        let material = Zeroizing::new([type_bytes, self.seed.as_slice()].concat());
        let encoded = Zeroizing::new(text::encode(&material));
        Zeroizing::new(format!("{PREFIX}{}+{}+{}", self.name, self.id, encoded.as_str()))
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// The id that the text says.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The signature type.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> &[u8; SEED_BYTES] {
        &self.seed
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretKey").field("name", &self.name).field("id", &self.id).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// golang.org/x/mod/sumdb/note, its example.
    const EXAMPLE: &str =
        "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";

    #[test]
    fn a_key_that_others_published() {
        let key = SecretKey::parse(EXAMPLE).unwrap();
        assert_eq!(key.name().as_str(), "PeterNeumann");
        assert_eq!(key.id(), KeyId([0xc7, 0x4f, 0x20, 0xa3]));
        assert_eq!(key.algorithm(), Algorithm::Ed25519);
        assert_eq!(key.encode().as_str(), EXAMPLE);
        assert!(!format!("{key:?}").contains("AYEK"));
    }

    #[test]
    fn a_key_has_one_spelling_and_no_part_may_be_missing() {
        for end in 0..EXAMPLE.len() {
            assert!(SecretKey::parse(&EXAMPLE[..end]).is_err(), "{end}");
        }
        for (key, error) in [
            (format!("{EXAMPLE}\n\n"), KeyError::Text),
            (EXAMPLE.replace("c74f", "C74F"), KeyError::Text),
            (EXAMPLE.replace("+AY", "+/Y"), KeyError::Type),
            (EXAMPLE.replace("PeterNeumann", "Peter Neumann"), KeyError::Name),
            ("a".repeat(TEXT_BYTES_MAX + 1), KeyError::Text),
        ] {
            assert_eq!(SecretKey::parse(&key).map(|key| key.encode()), Err(error), "{key}");
        }
        assert!(SecretKey::parse(&format!("{EXAMPLE}\n")).is_ok());
    }

    proptest! {
        #[test]
        fn a_key_survives_its_text(name in "[!-*,-~]{1,40}", seed: [u8; 32], id: [u8; 4]) {
            let name = KeyName::new(&name).unwrap();
            let key = SecretKey::new(name, KeyId(id), Algorithm::Ed25519, Zeroizing::new(seed));
            let again = SecretKey::parse(&key.encode()).unwrap();
            prop_assert_eq!(again.encode(), key.encode());
        }
    }
}
