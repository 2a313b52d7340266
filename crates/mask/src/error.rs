//! Why a document is refused. Tells the place and the rule, never the content.

use core::fmt;

use moat_model::Code;
use moat_model::code::mask::{NOT_JSON, TOO_DEEP, TOO_MANY_FIELDS};

/// Which rule of RFC 8259 a document breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Syntax {
    /// A value was expected (§3).
    Value,
    /// A key in quotes, or the end of the object, was expected (§4).
    Key,
    /// A colon was expected (§4).
    Colon,
    /// A comma or the end of the array or object was expected (§4, §5).
    Comma,
    /// A number is misspelled, for example with a leading zero (§6).
    Number,
    /// A literal is neither `true`, `false` nor `null` (§3).
    Literal,
    /// A control character stands unescaped in a string (§7).
    Control,
    /// An escape is unknown (§7).
    Escape,
    /// A `\u` escape is half of a surrogate pair (§8.2).
    Surrogate,
    /// The bytes are not UTF-8 (§8.1, RFC 3629).
    Utf8,
    /// A byte order mark stands in front (§8.1).
    ByteOrderMark,
    /// Something follows the document (§2).
    Trailing,
    /// The document ends in the middle.
    Truncated,
}

impl Syntax {
    fn text(self) -> &'static str {
        match self {
            Syntax::Value => "a value was expected",
            Syntax::Key => "a key in quotes was expected",
            Syntax::Colon => "a colon was expected",
            Syntax::Comma => "a comma or a closing bracket was expected",
            Syntax::Number => "misspelled number",
            Syntax::Literal => "misspelled literal",
            Syntax::Control => "unescaped control character",
            Syntax::Escape => "unknown escape",
            Syntax::Surrogate => "lone surrogate escape",
            Syntax::Utf8 => "not UTF-8",
            Syntax::ByteOrderMark => "byte order mark",
            Syntax::Trailing => "data after the document",
            Syntax::Truncated => "the document ends too early",
        }
    }
}

/// Why a document was refused, and at which byte (from 0, over all chunks).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskError {
    /// The text is not JSON.
    Syntax {
        /// The rule it breaks.
        rule: Syntax,
        /// Byte offset.
        offset: u64,
    },
    /// Arrays and objects are nested deeper than [`moat_model::limit::JSON_DEPTH_MAX`].
    TooDeep {
        /// Byte offset.
        offset: u64,
    },
    /// More fields match capture rules than [`moat_model::limit::CAPTURES_MAX`].
    TooManyFields {
        /// Byte offset.
        offset: u64,
    },
}

impl MaskError {
    /// The stable code of the refusal. In an answer of an upstream the gateway uses
    /// `ANSWER_NOT_JSON` instead: there the fault is not the caller's.
    #[must_use]
    pub fn code(&self) -> &'static Code {
        match self {
            MaskError::Syntax { .. } => &NOT_JSON,
            MaskError::TooDeep { .. } => &TOO_DEEP,
            MaskError::TooManyFields { .. } => &TOO_MANY_FIELDS,
        }
    }

    /// The byte at which the document was refused, from 0.
    #[must_use]
    pub fn offset(&self) -> u64 {
        match *self {
            MaskError::Syntax { offset, .. }
            | MaskError::TooDeep { offset }
            | MaskError::TooManyFields { offset } => offset,
        }
    }
}

impl fmt::Display for MaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            MaskError::Syntax { rule, .. } => rule.text(),
            MaskError::TooDeep { .. } => "nested too deeply",
            MaskError::TooManyFields { .. } => "too many captured fields",
        };
        write!(f, "{what} at byte {}", self.offset())
    }
}

impl core::error::Error for MaskError {}
