//! Scalars taken out of a document for the policy and for the record.

use core::fmt;

use moat_model::Class;
use zeroize::Zeroizing;

/// One JSON scalar. Wiped when dropped; shows its type and length in `Debug`, never its content.
#[derive(Clone)]
#[non_exhaustive]
pub enum Scalar {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// The number as it was spelled: a 19-digit card does not survive a float.
    Number(Zeroizing<String>),
    /// A string after unescaping.
    Text(Zeroizing<String>),
    /// Longer than [`moat_model::limit::JSON_SCALAR_BYTES_MAX`] as spelled.
    TooLong {
        /// Length in bytes: of the unescaped text, or of the number as spelled.
        len: u64,
        /// SHA-256 over the same bytes, so that an anchor covers the whole value however it was
        /// escaped.
        sha256: [u8; 32],
    },
    /// There is a value, and its class (SAD) forbids keeping it (PCI DSS v4.0.1, 3.3.1).
    Withheld,
}

impl Scalar {
    /// The value as text: the unescaped string, the number's spelling, `true`, `false` or `null`.
    /// Nothing for a value that was not kept.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Scalar::Null => Some("null"),
            Scalar::Bool(true) => Some("true"),
            Scalar::Bool(false) => Some("false"),
            Scalar::Number(text) | Scalar::Text(text) => Some(text),
            Scalar::TooLong { .. } | Scalar::Withheld => None,
        }
    }
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Null => f.write_str("Null"),
            Scalar::Bool(_) => f.write_str("Bool(..)"),
            Scalar::Number(text) => write!(f, "Number({} bytes)", text.len()),
            Scalar::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Scalar::TooLong { len, .. } => write!(f, "TooLong({len} bytes)"),
            Scalar::Withheld => f.write_str("Withheld"),
        }
    }
}

/// One captured field.
#[derive(Clone)]
pub struct Capture {
    /// The rule's capture id.
    pub id: u16,
    /// Where the scalar stands: a JSON pointer (RFC 6901) with the document's own, unescaped keys.
    /// A key longer than 128 bytes is cut and ends in `…`.
    pub pointer: String,
    /// The strictest class of all rules that match the field.
    pub class: Class,
    /// The value.
    pub value: Scalar,
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture")
            .field("id", &self.id)
            .field("pointer", &self.pointer)
            .field("class", &self.class)
            .field("value", &self.value)
            .finish_non_exhaustive()
    }
}

/// All captures of one document, in the order of the document. A field with several capture ids
/// stands once for each.
#[derive(Clone, Debug, Default)]
pub struct Captures(Vec<Capture>);

impl Captures {
    pub(crate) fn new(all: Vec<Capture>) -> Captures {
        Captures(all)
    }

    /// Every capture.
    pub fn iter(&self) -> core::slice::Iter<'_, Capture> {
        self.0.iter()
    }

    /// Every capture of one id.
    pub fn of(&self, id: u16) -> impl Iterator<Item = &Capture> {
        self.0.iter().filter(move |capture| capture.id == id)
    }

    /// The first capture of one id.
    #[must_use]
    pub fn first(&self, id: u16) -> Option<&Capture> {
        self.of(id).next()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was captured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The captures themselves.
    #[must_use]
    pub fn into_vec(self) -> Vec<Capture> {
        self.0
    }
}

impl<'a> IntoIterator for &'a Captures {
    type Item = &'a Capture;
    type IntoIter = core::slice::Iter<'a, Capture>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
