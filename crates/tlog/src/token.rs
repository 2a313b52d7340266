//! Keys that lie in a token: where to find one, and its public half. Not secret.

use std::fmt;

use crate::key::{Algorithm, KeyError, VKEY_BYTES_MAX, VerifierKey};

/// What the text begins with.
const PREFIX: &str = "pkcs11 ";
/// Longest label, in bytes.
pub const LABEL_BYTES_MAX: usize = 64;

/// The label of a private key in a token, and its verifier key.
///
/// As text: `pkcs11 LABEL VKEY`, one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenKey {
    label: String,
    key: VerifierKey,
}

impl TokenKey {
    /// A key in a token.
    ///
    /// # Errors
    /// When the label is empty, too long, or has other characters than letters, digits, `-`, `_`
    /// and `.`; or the algorithm is one that no token is asked for.
    pub fn new(label: &str, key: VerifierKey) -> Result<TokenKey, KeyError> {
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if label.is_empty() || label.len() > LABEL_BYTES_MAX || !label.chars().all(fine) {
            return Err(KeyError::Name);
        }
        if key.algorithm() != Algorithm::Ed25519 {
            return Err(KeyError::Type);
        }
        Ok(TokenKey { label: label.to_owned(), key })
    }

    /// Whether a text means a key in a token, rightly or not.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Reads the text; one newline at the end is allowed, since it lies in a file.
    ///
    /// # Errors
    /// When it is none, or has another spelling than is written.
    pub fn parse(text: &str) -> Result<TokenKey, KeyError> {
        if text.len() > PREFIX.len() + LABEL_BYTES_MAX + VKEY_BYTES_MAX + 2 {
            return Err(KeyError::Text);
        }
        let line = text.strip_suffix('\n').unwrap_or(text);
        let rest = line.strip_prefix(PREFIX).ok_or(KeyError::Text)?;
        let (label, vkey) = rest.split_once(' ').ok_or(KeyError::Text)?;
        TokenKey::new(label, VerifierKey::parse(vkey)?)
    }

    /// The label.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The public half.
    #[must_use]
    pub fn key(&self) -> &VerifierKey {
        &self.key
    }
}

impl fmt::Display for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{} {}", self.label, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    #[test]
    fn a_key_in_a_token_survives_its_text_and_nothing_else_is_one() {
        let text = format!("pkcs11 moat-log {VKEY}");
        let key = TokenKey::parse(&text).unwrap();
        assert_eq!((key.label(), key.to_string().as_str()), ("moat-log", text.as_str()));
        assert_eq!(TokenKey::parse(&format!("{text}\n")), Ok(key));
        for cut in 0..text.len() {
            assert!(TokenKey::parse(&text[..cut]).is_err(), "{cut}");
        }
        let witness = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";
        for bad in [
            format!("pkcs11 a b {VKEY}"),
            format!("pkcs11  {VKEY}"),
            format!("pkcs11 ä {VKEY}"),
            format!("pkcs11 a {witness}"),
            format!("{text}\n\n"),
            format!(" {text}"),
        ] {
            assert!(TokenKey::parse(&bad).is_err(), "{bad}");
        }
    }
}
