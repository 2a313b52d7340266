//! A dialect of ISO 8583 as data: read from YAML, checked, and compiled into a flat table.
//!
//! There is no dialect in code. What a spec leaves unclear is refused when it is loaded, so that
//! no message is ever read by a guess.

mod compile;
mod raw;
#[cfg(test)]
mod tests;

use core::fmt;

use moat_model::{Class, Code};
use serde::Deserialize;

pub(crate) use compile::value_bytes;

use crate::ebcdic::Page;
use crate::frame::Framing;
use crate::iso8583::Op;
use crate::limit::FIELD_MAX;

/// Which characters a field may have (ISO 8583-1, 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Digits.
    N,
    /// Letters.
    A,
    /// Letters and digits.
    An,
    /// Letters and signs.
    As,
    /// Digits and signs.
    Ns,
    /// Letters, digits and signs.
    Ans,
    /// Bytes.
    B,
    /// Track 2: digits and `=` or `D`.
    Z,
    /// `C` or `D`, then digits.
    Xn,
    /// BER-TLV objects of EMV.
    Tlv,
    /// Other fields, one after the other, by tag or by a bitmap.
    Composite,
}

/// How a value of an odd number of digits fills its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pad {
    /// A zero before the digits.
    Left0,
    /// An F before the digits.
    LeftF,
    /// A zero after the digits.
    Right0,
    /// An F after the digits.
    RightF,
}

impl Pad {
    pub(crate) const fn is_left(self) -> bool {
        matches!(self, Pad::Left0 | Pad::LeftF)
    }

    pub(crate) const fn nibble(self) -> u8 {
        match self {
            Pad::Left0 | Pad::Right0 => 0,
            Pad::LeftF | Pad::RightF => 0x0f,
        }
    }
}

/// How many digits the length of a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LengthDigits {
    /// One digit, or one byte.
    L,
    /// Two digits, or one byte.
    Ll,
    /// Three digits, or two bytes.
    Lll,
    /// Four digits, or two bytes.
    Llll,
}

/// What the length of a field counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Characters or digits of the value; of `b`, bytes.
    #[default]
    Digits,
    /// Half bytes; the same as digits where a digit is one.
    Nibbles,
    /// Bytes as they are sent.
    Bytes,
}

/// Where fields 129 to 192 are announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tertiary {
    /// Nowhere: field 65 is a field like others.
    #[default]
    None,
    /// In field 65, where that stands.
    Field65,
    /// In a third bitmap behind the second, when bit 65 is set.
    Follows,
}

/// What stands before the message type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Header {
    /// Nothing.
    #[default]
    None,
    /// Five bytes: 60, destination, source.
    Tpdu,
    /// 46 bytes of Chinese card switching.
    Switch46,
    /// Opaque; the first byte is its length, itself included.
    Counted,
}

/// How characters and digits become bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enc {
    /// One byte a character; no page is ASCII.
    Text(Option<Page>),
    /// Two digits a byte.
    Bcd,
    /// As it is.
    Binary,
    /// Two hexadecimal characters a byte.
    Hex(Option<Page>),
    /// GBK.
    Gbk,
    /// GB 18030.
    Gb18030,
}

/// How the length in front of a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LenEnc {
    Text(Option<Page>),
    Bcd,
    Binary,
}

/// The length of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// So many units of the value, so many bytes.
    Fixed { count: u16, bytes: u16 },
    /// Written in front.
    Variable { enc: LenEnc, prefix_bytes: u8, unit: Unit, max: u16, includes_itself: bool },
}

/// How a value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) kind: Kind,
    pub(crate) enc: Enc,
    pub(crate) pad: Pad,
    /// In which the sign of `xn` is written.
    pub(crate) page: Option<Page>,
    pub(crate) length: Length,
}

/// A field of a spec.
#[derive(Debug)]
pub struct Field {
    pub(crate) rule: Rule,
    pub(crate) name: String,
    pub(crate) class: Class,
    pub(crate) decimals: Option<u8>,
    /// Sorted by tag.
    pub(crate) tags: Vec<(u32, Class)>,
    pub(crate) parts: Option<Box<Parts>>,
}

impl Field {
    /// Opaque bytes.
    pub(crate) fn opaque(class: Class) -> Field {
        let length = Length::Fixed { count: 0, bytes: 0 };
        let (kind, enc, pad) = (Kind::B, Enc::Binary, Pad::Left0);
        let rule = Rule { kind, enc, pad, page: None, length };
        let (name, tags) = (String::new(), Vec::new());
        Field { rule, name, class, decimals: None, tags, parts: None }
    }

    /// Its name in the spec.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.rule.kind
    }

    /// How many digits, characters or bytes the value always has; `None` if it varies.
    #[must_use]
    pub fn fixed_count(&self) -> Option<u16> {
        match self.rule.length {
            Length::Fixed { count, .. } => Some(count),
            Length::Variable { .. } => None,
        }
    }

    /// Its class; of a composite, the strictest of its parts.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// Decimals of its amount, if the spec says.
    #[must_use]
    pub fn decimals(&self) -> Option<u8> {
        self.decimals
    }

    /// The class of a TLV object: as the spec says, C2 where it says nothing.
    #[must_use]
    pub fn tag_class(&self, tag: u32) -> Class {
        let found = self.tags.binary_search_by_key(&tag, |(tag, _)| *tag).ok();
        found.and_then(|at| self.tags.get(at)).map_or(Class::C2, |(_, class)| *class)
    }

    /// What is inside, when it is a composite.
    #[must_use]
    pub fn parts(&self) -> Option<&Parts> {
        self.parts.as_deref()
    }
}

/// What is inside a composite field.
#[derive(Debug)]
pub struct Parts {
    pub(crate) form: PartForm,
    pub(crate) items: Vec<Part>,
    /// What a part is that the spec does not name: bytes of class C2.
    pub(crate) unknown: Field,
}

/// How parts follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartForm {
    Positional,
    Tagged { tag_bytes: u8, length_digits: u8, page: Option<Page> },
    Bitmap { bytes: u8 },
}

/// One part of a composite field.
#[derive(Debug)]
pub struct Part {
    /// As it stands in a message.
    pub(crate) tag: Vec<u8>,
    pub(crate) bit: u8,
    pub(crate) field: Field,
}

/// A dialect, compiled.
#[derive(Debug)]
pub struct Spec {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) text: Option<Page>,
    pub(crate) mti: Enc,
    pub(crate) bitmap_hex: bool,
    pub(crate) tertiary: Tertiary,
    pub(crate) header: Header,
    pub(crate) framing: Option<Framing>,
    /// By field number, from 0.
    pub(crate) fields: Vec<Option<Field>>,
    /// The short forms of their rules, by field number.
    pub(crate) ops: Vec<Op>,
    /// What an object of a TLV field is: bytes, of each class.
    pub(crate) objects: Vec<Field>,
}

impl Spec {
    /// Reads a spec from YAML.
    ///
    /// # Errors
    /// The first thing that is no spec or contradicts itself, with its field or place.
    pub fn parse(yaml: &str) -> Result<Spec, SpecError> {
        compile::compile(yaml)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it says of itself.
    #[must_use]
    pub fn about(&self) -> &str {
        &self.about
    }

    /// The framing of its connections, if it says one.
    #[must_use]
    pub fn framing(&self) -> Option<Framing> {
        self.framing
    }

    /// What stands before the message type.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }

    /// The field of that number.
    #[must_use]
    #[inline]
    pub fn field(&self, number: u8) -> Option<&Field> {
        self.fields.get(usize::from(number))?.as_ref()
    }

    /// Number and field of the name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<(u8, &Field)> {
        self.all().find(|(_, field)| field.name == name)
    }

    /// Every field, in order.
    pub fn all(&self) -> impl Iterator<Item = (u8, &Field)> {
        (0..=FIELD_MAX).filter_map(|number| Some((number, self.field(number)?)))
    }

    /// An object of a TLV field, of that class.
    pub(crate) fn object(&self, class: Class) -> Option<&Field> {
        self.objects.iter().find(|field| field.class == class)
    }

    /// Whether the bit announces bitmaps in place of a field.
    pub(crate) fn is_bitmap(&self, number: u8) -> bool {
        number == 1 || (number == 65 && self.tertiary != Tertiary::None)
    }

    /// Bytes of message type and first bitmap.
    pub(crate) fn head_bytes(&self) -> usize {
        self.bitmap_bytes() + if self.mti == Enc::Bcd { 2 } else { 4 }
    }

    pub(crate) fn bitmap_bytes(&self) -> usize {
        if self.bitmap_hex { 16 } else { 8 }
    }
}

/// The specs that come with this crate: name and YAML. They hold what is public; a network's manual
/// decides.
pub const SHIPPED: [(&str, &str); 7] = [
    ("iso8583-1987-ascii", include_str!("../../specs/iso8583-1987-ascii.yaml")),
    ("iso8583-1987-bcd", include_str!("../../specs/iso8583-1987-bcd.yaml")),
    ("iso8583-1987-ebcdic", include_str!("../../specs/iso8583-1987-ebcdic.yaml")),
    ("iso8583-1993-ascii", include_str!("../../specs/iso8583-1993-ascii.yaml")),
    ("iso8583-1993-bcd", include_str!("../../specs/iso8583-1993-bcd.yaml")),
    ("china-domestic", include_str!("../../specs/china-domestic.yaml")),
    ("international-ebcdic", include_str!("../../specs/international-ebcdic.yaml")),
];

/// Why a spec is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError {
    /// The entry of the catalogue.
    pub code: &'static Code,
    /// The field, if it is about one.
    pub field: Option<u8>,
    /// Line and column, if it is about a place; from 1.
    pub place: Option<(u64, u64)>,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.id, self.code.en.title)?;
        if let Some((line, column)) = self.place {
            write!(f, ", line {line}, column {column}")?;
        }
        if let Some(field) = self.field {
            write!(f, ", field {field}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl core::error::Error for SpecError {}
