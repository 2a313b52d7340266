//! Field values as they may stand in a record, and the class rules that bind them.
//!
//! A [`Field`] cannot be made, nor decoded, with a value that its class forbids: a card number in
//! clear text is no representable record.

use moat_model::Class;

use crate::hash::Hash;
use crate::tlv::{push_u16, split_u16};

/// Longest clear or shown text, in bytes. A longer one is cut and its anchor covers the whole.
pub const SHOWN_BYTES_MAX: usize = 4 * 1024;
/// Longest key id, in bytes.
pub const KEY_ID_BYTES_MAX: usize = 32;

/// How an anchor was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AnchorAlg {
    /// HMAC-SHA-256.
    HmacSha256 = 1,
}

impl AnchorAlg {
    /// The name in a text code.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            AnchorAlg::HmacSha256 => "hs256",
        }
    }
}

/// A keyed hash of a value: equal values of one field and object have equal anchors, and without
/// the key nothing can be guessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    alg: AnchorAlg,
    key_id: String,
    mac: Hash,
}

impl Anchor {
    /// An anchor computed elsewhere; `None` when `key_id` is no key id.
    #[must_use]
    pub fn new(alg: AnchorAlg, key_id: &str, mac: Hash) -> Option<Anchor> {
        is_key_id(key_id).then(|| Anchor::with_checked_id(alg, key_id, mac))
    }

    /// For a key, whose id was checked when it was made.
    pub(crate) fn with_checked_id(alg: AnchorAlg, key_id: &str, mac: Hash) -> Anchor {
        Anchor { alg, key_id: key_id.to_owned(), mac }
    }

    /// The algorithm.
    #[must_use]
    pub fn alg(&self) -> AnchorAlg {
        self.alg
    }

    /// Which key it was computed with.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The keyed hash itself.
    #[must_use]
    pub fn mac(&self) -> &Hash {
        &self.mac
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.alg as u8);
        // A key id has at most 32 bytes, by its constructor.
        out.push(u8::try_from(self.key_id.len()).unwrap_or(0));
        out.extend_from_slice(self.key_id.as_bytes());
        out.extend_from_slice(&self.mac);
    }

    fn decode(bytes: &[u8]) -> Option<Anchor> {
        let (&[alg, len], rest) = bytes.split_first_chunk::<2>()?;
        let (key_id, mac) = rest.split_at_checked(usize::from(len))?;
        if alg != AnchorAlg::HmacSha256 as u8 {
            return None;
        }
        Anchor::new(AnchorAlg::HmacSha256, std::str::from_utf8(key_id).ok()?, mac.try_into().ok()?)
    }
}

/// Whether `text` may name a key: letters, digits and hyphens, 1 to 32 of them.
#[must_use]
pub fn is_key_id(text: &str) -> bool {
    (1..=KEY_ID_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// What a record says of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// There was no such member or row.
    Absent,
    /// JSON or SQL null.
    Null,
    /// The text itself.
    Clear(String),
    /// A masked or cut text to show, and the anchor of the whole value.
    Masked {
        /// What people may read.
        shown: String,
        /// The anchor of the whole value.
        anchor: Anchor,
    },
    /// The anchor alone.
    Anchor(Anchor),
    /// There was a value, and nothing of it may be kept.
    Dropped,
}

impl Value {
    /// Whether a field of `class` may have this value in a record.
    #[must_use]
    pub fn is_allowed(&self, class: Class) -> bool {
        let short = match self {
            Value::Clear(text) | Value::Masked { shown: text, .. } => text.len() <= SHOWN_BYTES_MAX,
            _ => true,
        };
        short
            && match class {
                Class::C1 => !matches!(self, Value::Anchor(_) | Value::Dropped),
                Class::C2 => matches!(self, Value::Absent | Value::Null | Value::Masked { .. }),
                Class::Pan | Class::C3 => {
                    matches!(self, Value::Absent | Value::Null | Value::Anchor(_))
                }
                Class::Sad => matches!(self, Value::Absent | Value::Dropped),
            }
    }

    fn encode(&self) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(80);
        match self {
            Value::Absent => out.push(0),
            Value::Null => out.push(1),
            Value::Clear(text) => {
                out.push(2);
                out.extend_from_slice(text.as_bytes());
            }
            Value::Masked { shown, anchor } => {
                out.push(3);
                push_u16(&mut out, shown.as_bytes())?;
                anchor.encode(&mut out);
            }
            Value::Anchor(anchor) => {
                out.push(4);
                anchor.encode(&mut out);
            }
            Value::Dropped => out.push(5),
        }
        Some(out)
    }

    fn decode(bytes: &[u8]) -> Option<Value> {
        let text = |bytes| std::str::from_utf8(bytes).ok().map(str::to_owned);
        match bytes.split_first()? {
            (0, []) => Some(Value::Absent),
            (1, []) => Some(Value::Null),
            (2, rest) => text(rest).map(Value::Clear),
            (3, rest) => {
                let (shown, rest) = split_u16(rest)?;
                Some(Value::Masked { shown: text(shown)?, anchor: Anchor::decode(rest)? })
            }
            (4, rest) => Anchor::decode(rest).map(Value::Anchor),
            (5, []) => Some(Value::Dropped),
            _ => None,
        }
    }
}

/// The class of a field forbids this value. Carries no value itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a field of class {class} must not have such a value in a record")]
pub struct ClassRule {
    /// The class.
    pub class: Class,
}

/// One field that was read or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    field_id: Hash,
    name: String,
    class: Class,
    before: Value,
    after: Value,
}

impl Field {
    /// A field; for a read, `after` is what was read and `before` is [`Value::Absent`].
    ///
    /// `name` is the column, or the JSON pointer less its first slash.
    ///
    /// # Errors
    /// When `class` forbids one of the values, or a shown text is longer than [`SHOWN_BYTES_MAX`].
    pub fn new(
        field_id: Hash,
        name: impl Into<String>,
        class: Class,
        before: Value,
        after: Value,
    ) -> Result<Field, ClassRule> {
        if before.is_allowed(class) && after.is_allowed(class) {
            Ok(Field { field_id, name: name.into(), class, before, after })
        } else {
            Err(ClassRule { class })
        }
    }

    /// The index key of the field, from [`crate::anchor::field_id`].
    #[must_use]
    pub fn field_id(&self) -> &Hash {
        &self.field_id
    }

    /// The column, or the JSON pointer less its first slash.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The class under which it was recorded.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// The value before.
    #[must_use]
    pub fn before(&self) -> &Value {
        &self.before
    }

    /// The value after, or the value read.
    #[must_use]
    pub fn after(&self) -> &Value {
        &self.after
    }

    /// `None` when a part does not fit its length prefix.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Option<()> {
        let mut one = Vec::with_capacity(128);
        one.extend_from_slice(&self.field_id);
        one.push(self.class.to_byte());
        push_u16(&mut one, self.name.as_bytes())?;
        push_u16(&mut one, &self.before.encode()?)?;
        push_u16(&mut one, &self.after.encode()?)?;
        push_u16(out, &one)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Field> {
        let (field_id, rest) = bytes.split_first_chunk::<32>()?;
        let (&class, rest) = rest.split_first()?;
        let (name, rest) = split_u16(rest)?;
        let (before, rest) = split_u16(rest)?;
        let (after, rest) = split_u16(rest)?;
        if !rest.is_empty() {
            return None;
        }
        let (before, after) = (Value::decode(before)?, Value::decode(after)?);
        Field::new(
            *field_id,
            std::str::from_utf8(name).ok()?,
            Class::from_byte(class)?,
            before,
            after,
        )
        .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchor() -> Anchor {
        Anchor::new(AnchorAlg::HmacSha256, "k1", [7; 32]).unwrap()
    }

    fn values() -> Vec<Value> {
        vec![
            Value::Absent,
            Value::Null,
            Value::Clear("12.50".into()),
            Value::Masked { shown: "1*".into(), anchor: anchor() },
            Value::Anchor(anchor()),
            Value::Dropped,
        ]
    }

    #[test]
    fn a_class_admits_its_values_and_no_other() {
        let allowed = |class| {
            values().iter().map(|value| if value.is_allowed(class) { '+' } else { '.' }).collect()
        };
        let table: Vec<String> = Class::ALL.into_iter().map(allowed).collect();
        //           absent, null, clear, masked, anchor, dropped
        assert_eq!(table, ["++++..", "++.+..", "++..+.", "++..+.", "+....+"]);
    }

    #[test]
    fn a_clear_card_number_can_be_neither_made_nor_decoded() {
        let clear = Value::Clear("4000056655665556".into());
        for class in [Class::C2, Class::Pan, Class::C3, Class::Sad] {
            let made = Field::new([1; 32], "card", class, Value::Absent, clear.clone());
            assert_eq!(made, Err(ClassRule { class }));
            let mut bytes = Vec::new();
            let field = Field {
                field_id: [1; 32],
                name: "card".into(),
                class,
                before: Value::Absent,
                after: clear.clone(),
            };
            field.encode(&mut bytes).unwrap();
            assert_eq!(Field::decode(&bytes[2..]), None, "{class}");
        }
    }

    #[test]
    fn values_survive_encoding_and_every_cut_is_refused_or_another_value() {
        for value in values() {
            let bytes = value.encode().unwrap();
            assert_eq!(Value::decode(&bytes), Some(value.clone()));
            for len in 0..bytes.len() {
                assert_ne!(Value::decode(&bytes[..len]), Some(value.clone()));
            }
        }
        assert_eq!(Value::decode(&[1, 0]), None);
        assert_eq!(Value::decode(&[6]), None);
    }
}
