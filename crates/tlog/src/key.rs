//! Keys of signed notes: names, types, ids, and the text form of a verifier key.

use std::fmt;

use crate::hash::{Sha256, TreeHash};
use crate::text;

/// Longest key name, in bytes: tlog-cosignature lets no cosigned origin be longer.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest verifier key in text form, in bytes.
pub const VKEY_BYTES_MAX: usize = 512;

/// What follows the type byte 0xff in the id of an SM2 key, so that it is no other's.
const SM2_SM3: &[u8] = b"\xffsm2-with-sm3/v1\n";

/// Why a name or a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Empty, too long, or with a space, a plus or a control character.
    #[error("no name of a key")]
    Name,
    /// Not `name+id+base64`, or not in its one spelling.
    #[error("no verifier key")]
    Text,
    /// The id is not that of the name and the key.
    #[error("the id does not belong to the key")]
    Id,
    /// A signature type that this crate does not know, or that does not fit here.
    #[error("the signature type is not known, or not for this use")]
    Type,
    /// The public key has the wrong length or form.
    #[error("the public key is malformed")]
    Public,
}

/// How a signature line came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// Type 0x01: Ed25519 over the text of the note.
    Ed25519,
    /// Type 0x04: Ed25519 over a checkpoint with a time, by a witness.
    CosignatureV1,
    /// Type 0xff with the identifier `sm2-with-sm3/v1` and a line feed: SM2 with SM3 over the text
    /// of the note (GB/T 32918.2), signer's identity `1234567812345678`. The public key is the
    /// uncompressed point, 65 bytes; the signature is r and s, 32 bytes each.
    Sm2Sm3,
}

/// The arithmetic of a signature, whatever it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// RFC 8032, 32 bytes of public key and 64 of signature.
    Ed25519,
    /// GB/T 32918.2 with SM3, 65 bytes of public key and 64 of signature.
    Sm2Sm3,
}

impl Algorithm {
    /// All there are.
    pub const ALL: [Algorithm; 3] =
        [Algorithm::Ed25519, Algorithm::CosignatureV1, Algorithm::Sm2Sm3];

    /// What says the type, in ids and verifier keys.
    #[must_use]
    pub fn type_bytes(self) -> &'static [u8] {
        match self {
            Algorithm::Ed25519 => &[0x01],
            Algorithm::CosignatureV1 => &[0x04],
            Algorithm::Sm2Sm3 => SM2_SM3,
        }
    }

    /// Its arithmetic.
    #[must_use]
    pub fn scheme(self) -> Scheme {
        match self {
            Algorithm::Ed25519 | Algorithm::CosignatureV1 => Scheme::Ed25519,
            Algorithm::Sm2Sm3 => Scheme::Sm2Sm3,
        }
    }

    /// Whether a public key has the right form; not whether it is a point of the curve.
    fn takes(self, public: &[u8]) -> bool {
        match self.scheme() {
            Scheme::Ed25519 => public.len() == 32,
            Scheme::Sm2Sm3 => public.len() == 65 && public.first() == Some(&4),
        }
    }
}

/// The name of a key: no space, no plus, no control character (signed-note, Format).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

impl KeyName {
    /// A name.
    ///
    /// # Errors
    /// When the text is none.
    pub fn new(name: &str) -> Result<KeyName, KeyError> {
        let bad = |c: char| c.is_whitespace() || c == '+' || c < ' ';
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(bad) {
            return Err(KeyError::Name);
        }
        Ok(KeyName(name.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of a key: with its name, a hint which key it is, and no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 4]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

/// A public key with its name and its type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VerifierKey {
    name: KeyName,
    id: KeyId,
    algorithm: Algorithm,
    public: Vec<u8>,
}

impl VerifierKey {
    /// A key.
    ///
    /// # Errors
    /// When the public key has not the form that the algorithm asks for.
    pub fn new(
        name: KeyName,
        algorithm: Algorithm,
        public: &[u8],
    ) -> Result<VerifierKey, KeyError> {
        if !algorithm.takes(public) {
            return Err(KeyError::Public);
        }
        // signed-note, Signatures: SHA-256(key name || 0x0A || signature type || public key)[:4].
        let parts = [name.0.as_bytes(), b"\n", algorithm.type_bytes(), public];
        let [a, b, c, d, ..] = Sha256::digest(&parts);
        Ok(VerifierKey { name, id: KeyId([a, b, c, d]), algorithm, public: public.to_vec() })
    }

    /// Reads `name+id+base64`, the id as 8 small hexadecimal digits.
    ///
    /// # Errors
    /// When the text is no such key, or its id is not the one that follows from the rest.
    pub fn parse(vkey: &str) -> Result<VerifierKey, KeyError> {
        if vkey.len() > VKEY_BYTES_MAX {
            return Err(KeyError::Text);
        }
        let (name, rest) = vkey.split_once('+').ok_or(KeyError::Text)?;
        // Base64 may have a plus too.
        let (id, material) = rest.split_once('+').ok_or(KeyError::Text)?;
        let name = KeyName::new(name)?;
        let material = text::decode(material).ok_or(KeyError::Text)?;
        let known = Algorithm::ALL.iter().find_map(|algorithm| {
            Some((*algorithm, material.strip_prefix(algorithm.type_bytes())?))
        });
        let (algorithm, public) = known.ok_or(KeyError::Type)?;
        let key = VerifierKey::new(name, algorithm, public)?;
        if key.id.to_string() == id { Ok(key) } else { Err(KeyError::Id) }
    }

    /// The same key under another name; its id is another too.
    ///
    /// # Errors
    /// When the name is none.
    pub fn renamed(&self, name: &str) -> Result<VerifierKey, KeyError> {
        VerifierKey::new(KeyName::new(name)?, self.algorithm, &self.public)
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The signature type.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.public
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let material = [self.algorithm.type_bytes(), &self.public].concat();
        write!(f, "{}+{}+{}", self.name, self.id, text::encode(&material))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// signed-note, Verifier keys.
    const EXAMPLE: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

    #[test]
    fn keys_that_others_published() {
        for vkey in [
            EXAMPLE,
            // golang.org/x/mod/sumdb/note, its example.
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop",
            // github.com/transparency-dev/formats: a plus in the base64, and a witness.
            "TEST+7997405c+AQcC+FTVKf0jlTdHDY3rbevmnKxxPjigCXlVtGe6RIr6",
            "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
        ] {
            assert_eq!(VerifierKey::parse(vkey).unwrap().to_string(), vkey);
        }
        let key = VerifierKey::parse(EXAMPLE).unwrap();
        assert_eq!((key.name().as_str(), key.algorithm()), ("example.com/foo", Algorithm::Ed25519));
        assert_eq!(key.id(), KeyId([0x53, 0x0d, 0x90, 0x3a]));
    }

    #[test]
    fn a_key_has_one_spelling() {
        let (head, tail) = EXAMPLE.split_once("+530d903a+").unwrap();
        for (vkey, error) in [
            (format!("{head}+530D903A+{tail}"), KeyError::Id),
            (format!("{head}+530d903b+{tail}"), KeyError::Id),
            (format!("{head}+0530d903a+{tail}"), KeyError::Id),
            (format!("{head} +530d903a+{tail}"), KeyError::Name),
            (format!("+530d903a+{tail}"), KeyError::Name),
            (format!("{head}+530d903a+{tail}\n"), KeyError::Text),
            (format!("{head}+530d903a"), KeyError::Text),
            (format!("{head}+12345678+AwEB"), KeyError::Type),
            (format!("{head}+12345678+"), KeyError::Type),
            (format!("{head}+12345678+AQEB"), KeyError::Public),
            (format!("{}+530d903a+{tail}", "a".repeat(256)), KeyError::Name),
            ("a".repeat(VKEY_BYTES_MAX + 1), KeyError::Text),
        ] {
            assert_eq!(VerifierKey::parse(&vkey), Err(error), "{vkey}");
        }
    }

    #[test]
    fn every_truncation_of_a_key_is_refused() {
        for end in 0..EXAMPLE.len() {
            assert!(VerifierKey::parse(&EXAMPLE[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn one_public_key_has_another_id_for_each_use() {
        let name = KeyName::new("pay.bank.test/audit").unwrap();
        let log = VerifierKey::new(name.clone(), Algorithm::Ed25519, &[7; 32]).unwrap();
        let witness = VerifierKey::new(name.clone(), Algorithm::CosignatureV1, &[7; 32]).unwrap();
        assert_ne!(log.id(), witness.id());
        let mut point = [7; 65];
        assert_eq!(
            VerifierKey::new(name.clone(), Algorithm::Sm2Sm3, &point),
            Err(KeyError::Public)
        );
        point[0] = 4;
        let sm2 = VerifierKey::new(name, Algorithm::Sm2Sm3, &point).unwrap();
        assert_eq!(VerifierKey::parse(&sm2.to_string()), Ok(sm2));
    }

    #[test]
    fn the_id_of_an_sm2_key_is_computed_over_the_long_type() {
        // Computed by Python's hashlib over the parts that the type's comment names.
        let public = [[0x04].as_slice(), &[0x11; 32], &[0x22; 32]].concat();
        let name = KeyName::new("pay.bank.test/audit").unwrap();
        let key = VerifierKey::new(name, Algorithm::Sm2Sm3, &public).unwrap();
        let wanted = "pay.bank.test/audit+a7fa5553+/3NtMi13aXRoLXNtMy92MQoEERERERERERERERERERERERERERERERERERER\
            EREREREiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIg==";
        assert_eq!(key.to_string(), wanted);
    }

    #[test]
    fn names_have_no_space_of_any_script_and_no_plus() {
        for name in ["a", "例え.test/日誌", "-", "\u{2014}"] {
            assert!(KeyName::new(name).is_ok(), "{name}");
        }
        for name in ["", "a b", "a\u{a0}b", "a\u{3000}", "a+b", "a\n", "a\0", "\u{85}"] {
            assert_eq!(KeyName::new(name), Err(KeyError::Name), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn a_key_survives_its_text(name in "[!-*,-~]{1,40}", public: [u8; 32], witness: bool) {
            let algorithm = if witness { Algorithm::CosignatureV1 } else { Algorithm::Ed25519 };
            let key = VerifierKey::new(KeyName::new(&name).unwrap(), algorithm, &public).unwrap();
            prop_assert_eq!(VerifierKey::parse(&key.to_string()), Ok(key));
        }

        #[test]
        fn what_parses_as_a_key_is_written_so(
            vkey in "[a-z]{1,3}\\+[0-9a-f]{8}\\+[A-Za-z0-9+/]{44}",
        ) {
            if let Ok(key) = VerifierKey::parse(&vkey) {
                prop_assert_eq!(key.to_string(), vkey);
            }
        }
    }
}
