//! What people write: the YAML of a dialect. docs/messages.md has the keys.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Header, Kind, LengthDigits, Pad, Tertiary, Unit};
use crate::ebcdic::Page;
use crate::frame::LengthForm;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSpec {
    pub(super) spec: String,
    #[serde(default)]
    pub(super) about: String,
    /// Encoding of characters.
    #[serde(default)]
    pub(super) text: RawText,
    /// Encoding of `n` and `z` where a field says none.
    #[serde(default)]
    pub(super) digits: RawDigits,
    /// Encoding of lengths where a field says none.
    #[serde(default)]
    pub(super) lengths: RawLengths,
    #[serde(default)]
    pub(super) mti: RawDigits,
    #[serde(default)]
    pub(super) bitmap: RawBitmap,
    #[serde(default)]
    pub(super) tertiary: Tertiary,
    #[serde(default)]
    pub(super) header: Header,
    pub(super) framing: Option<RawFraming>,
    pub(super) fields: BTreeMap<u8, RawField>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawText {
    #[default]
    Ascii,
    Cp037,
    Cp500,
    Cp1047,
}

impl RawText {
    pub(super) fn page(self) -> Option<Page> {
        match self {
            RawText::Ascii => None,
            RawText::Cp037 => Some(Page::Cp037),
            RawText::Cp500 => Some(Page::Cp500),
            RawText::Cp1047 => Some(Page::Cp1047),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawDigits {
    #[default]
    Text,
    Bcd,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawLengths {
    #[default]
    Text,
    Bcd,
    Binary,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawBitmap {
    #[default]
    Binary,
    Hex,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFraming {
    pub(super) length: LengthForm,
    #[serde(default)]
    pub(super) includes_itself: bool,
}

/// Encoding of one field.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawEnc {
    /// As the spec says for text.
    Text,
    Ascii,
    Cp037,
    Cp500,
    Cp1047,
    Bcd,
    Binary,
    /// Two hexadecimal characters a byte, in the encoding of text.
    Hex,
    /// Chinese text; only ASCII and two-byte characters.
    Gbk,
    /// Chinese text with four-byte characters.
    Gb18030,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawField {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) class: String,
    pub(super) len: RawLen,
    pub(super) enc: Option<RawEnc>,
    pub(super) pad: Option<Pad>,
    /// Decimals of an amount; of a field whose currency another field names, leave it out.
    pub(super) decimals: Option<u8>,
    /// Classes of TLV tags, by tag in hexadecimal.
    #[serde(default)]
    pub(super) tags: BTreeMap<String, String>,
    pub(super) parts: Option<RawParts>,
}

/// A number, or how the length is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum RawLen {
    Fixed(u16),
    Variable(RawVariable),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawVariable {
    pub(super) kind: LengthDigits,
    pub(super) enc: Option<RawLenEnc>,
    #[serde(default)]
    pub(super) unit: Unit,
    pub(super) max: u16,
    #[serde(default)]
    pub(super) includes_itself: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawLenEnc {
    Text,
    Ascii,
    Bcd,
    Binary,
}

impl<'de> Deserialize<'de> for RawLen {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<RawLen, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = RawLen;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or { kind: ll, max: 19 }")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<RawLen, E> {
                let wrong = |_| E::custom("the length is above 65,535");
                u16::try_from(value).map(RawLen::Fixed).map_err(wrong)
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<RawLen, E> {
                let wrong = |_| E::custom("the length is not from 0 to 65,535");
                u16::try_from(value).map(RawLen::Fixed).map_err(wrong)
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<RawLen, M::Error> {
                RawVariable::deserialize(MapAccessDeserializer::new(map)).map(RawLen::Variable)
            }
        }
        from.deserialize_any(Either)
    }
}

/// What is inside a composite field.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawParts {
    pub(super) form: RawForm,
    /// Characters of a tag, when tagged.
    #[serde(default)]
    pub(super) tag: u8,
    /// Digits of the length after a tag.
    #[serde(default)]
    pub(super) length: u8,
    /// Bytes of the bitmap in front, when by bitmap.
    #[serde(default)]
    pub(super) bitmap_bytes: u8,
    /// In order when positional; by tag or by bit otherwise.
    pub(super) items: Vec<RawPart>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawForm {
    Positional,
    Tagged,
    Bitmap,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPart {
    pub(super) name: String,
    pub(super) class: String,
    pub(super) tag: Option<String>,
    pub(super) bit: Option<u8>,
    pub(super) kind: Option<Kind>,
    pub(super) len: Option<RawLen>,
    pub(super) enc: Option<RawEnc>,
    pub(super) pad: Option<Pad>,
}
