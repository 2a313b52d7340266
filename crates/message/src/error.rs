//! Why a message is refused: a reason, the field, the offset. Never a byte of the message.

use core::fmt;

use moat_model::Code;
use moat_model::code::message as codes;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// A length in front of a message is no number, or shorter than itself.
    FrameLength,
    /// The message, or a message to be written, is longer than it may be.
    TooLong,
    /// The bytes end before what was announced.
    Truncated,
    /// Bytes are left after the last field.
    Trailing,
    /// The header is not the one that the spec names, or contradicts the message.
    Header,
    /// The message type is not of ISO 8583.
    Mti,
    /// A bitmap in hexadecimal has a character that is none.
    Bitmap,
    /// The spec has no such field.
    UnknownField,
    /// A length of a field is no number, shorter than itself, or above the maximum.
    FieldLength,
    /// A character, digit or padding that the kind of the field does not allow.
    Characters,
    /// A value has the wrong kind or length for its field, or does not fit the type asked for.
    Value,
    /// A field is not there that was to be read, or stands out of order when packing.
    Order,
    /// The bitmaps are kept by the writer and cannot be set.
    Reserved,
    /// The JSON is not the form of a message.
    Json,
    /// A composite does not consist of its parts.
    Parts,
    /// A tag longer than three bytes, or zero where none may be.
    TlvTag,
    /// A length of indefinite form, of more than three bytes, or that leads out of the data.
    TlvLength,
    /// Templates are nested too deep.
    TlvDepth,
    /// There are too many objects.
    TlvObjects,
    /// The document is no XML, or not in UTF-8.
    Xml,
    /// The document has a document type, an entity, a processing instruction, or a comment in a
    /// value.
    XmlRefused,
    /// The document is longer, deeper or fuller than it may be.
    XmlLimit,
    /// A value does not look as its type says.
    Facet,
    /// The data are no ASN.1 in the encoding that is asked for.
    Asn1,
    /// The data are longer or deeper than they may be.
    Asn1Limit,
}

impl Reason {
    /// The entry of the catalogue.
    #[must_use]
    pub fn code(self) -> &'static Code {
        match self {
            Reason::FrameLength => &codes::FRAME,
            Reason::TooLong => &codes::TOO_LONG,
            Reason::Truncated => &codes::TRUNCATED,
            Reason::Trailing => &codes::TRAILING,
            Reason::Header => &codes::HEADER,
            Reason::Mti => &codes::MTI,
            Reason::Bitmap => &codes::BITMAP,
            Reason::UnknownField => &codes::UNKNOWN_FIELD,
            Reason::FieldLength => &codes::FIELD_LENGTH,
            Reason::Characters => &codes::CHARACTERS,
            Reason::Value | Reason::Order | Reason::Reserved => &codes::VALUE,
            Reason::TlvTag | Reason::TlvLength => &codes::TLV,
            Reason::Json => &codes::JSON,
            Reason::Parts => &codes::PARTS,
            Reason::Xml => &codes::XML,
            Reason::XmlRefused => &codes::XML_REFUSED,
            Reason::Facet => &codes::FACET,
            Reason::XmlLimit => &codes::XML_LIMIT,
            Reason::Asn1 => &codes::ASN1,
            Reason::Asn1Limit => &codes::ASN1_LIMIT,
            Reason::TlvDepth | Reason::TlvObjects => &codes::TLV_LIMIT,
        }
    }
}

/// A refusal of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageError {
    /// What is wrong.
    pub reason: Reason,
    /// The field; 0 is what stands before the fields: framing, message type, bitmaps.
    pub field: u8,
    /// Where, in bytes from the start of what was read.
    pub offset: u32,
}

impl MessageError {
    pub(crate) fn new(reason: Reason, field: u8, offset: usize) -> MessageError {
        MessageError { reason, field, offset: u32::try_from(offset).unwrap_or(u32::MAX) }
    }

    /// The entry of the catalogue.
    #[must_use]
    pub fn code(&self) -> &'static Code {
        self.reason.code()
    }
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code();
        write!(f, "{}: {} (", code.id, code.en.title)?;
        if self.field > 0 {
            write!(f, "field {}, ", self.field)?;
        }
        write!(f, "offset {})", self.offset)
    }
}

impl core::error::Error for MessageError {}
