//! Inside a field: the parts of a composite and the objects of a TLV field, one after the other.

use core::ops::Range;

use super::observe::Observer;
use super::value::extent;
use super::view::{Guarded, Read, Value, View};
use crate::ebcdic;
use crate::error::{MessageError, Reason};
use crate::limit::PARTS_MAX;
use crate::spec::{Field, PartForm, Parts, Spec};
use crate::tlv::{Objects, Tag};

/// What a part is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label<'m> {
    /// A part that the spec names.
    Name(&'m str),
    /// A part by tag that the spec does not name: its place among the parts.
    Unnamed(usize),
    /// An object of a TLV field.
    Tag(Tag),
}

/// A part.
pub struct Item<'m> {
    /// What it is called.
    pub label: Label<'m>,
    /// How many templates it is in.
    pub depth: usize,
    /// Where its value lies, in bytes of the field's value.
    pub place: Range<usize>,
    /// Its value; a template has those of its objects in it.
    pub value: Read<'m>,
}

/// The parts of one field.
pub struct Inside<'m>(Kind<'m>);

enum Kind<'m> {
    Tlv { field: &'m Field, spec: &'m Spec, objects: Objects<'m> },
    Parts(Cursor<'m>),
}

impl<'m, O: Observer> View<'m, O> {
    /// What is inside a composite or TLV field; `None` when it is neither or not there.
    pub fn open(&mut self, number: u8) -> Option<Inside<'m>> {
        let spec = self.spec();
        let field = spec.field(number)?;
        let value = match self.read(number)? {
            Read::Clear(value) => value,
            Read::Guarded(guarded) => guarded.inner(),
        };
        Some(Inside(match (field.kind(), field.parts()) {
            (crate::spec::Kind::Tlv, _) => {
                Kind::Tlv { field, spec, objects: Objects::new(value.bytes) }
            }
            (_, Some(parts)) => Kind::Parts(Cursor::new(parts, value.bytes)),
            _ => return None,
        }))
    }
}

impl<'m> Iterator for Inside<'m> {
    type Item = Result<Item<'m>, MessageError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Kind::Parts(cursor) => {
                let part = match cursor.next()? {
                    Ok(part) => part,
                    Err(wrong) => return Some(Err(wrong)),
                };
                let value = Value { field: part.field, count: part.count, bytes: part.bytes };
                let read = guard(value);
                let place = part.at..part.at + part.bytes.len();
                Some(Ok(Item { label: part.label, depth: 0, place, value: read }))
            }
            Kind::Tlv { field, spec, objects } => {
                let object = match objects.next()? {
                    Ok(object) => object,
                    Err(wrong) => return Some(Err(wrong)),
                };
                let class = field.tag_class(object.tag.number());
                // A template is as strict as the strictest that may be in it.
                let class = if object.tag.is_template() { class.max(field.class) } else { class };
                let field = spec.object(class)?;
                let bytes = object.value;
                let read = guard(Value { field, count: bytes.len(), bytes });
                let place = object.offset..object.offset + bytes.len();
                let (label, depth) = (Label::Tag(object.tag), object.depth);
                Some(Ok(Item { label, depth, place, value: read }))
            }
        }
    }
}

fn guard(value: Value<'_>) -> Read<'_> {
    use moat_model::Class;
    match value.field.class {
        Class::C1 | Class::C2 => Read::Clear(value),
        Class::Pan | Class::C3 | Class::Sad => Read::Guarded(Guarded::new(value)),
    }
}

/// Whether the value consists of its parts.
pub(super) fn check(parts: &Parts, value: &[u8]) -> Result<(), MessageError> {
    for part in Cursor::new(parts, value) {
        let part = part?;
        if let Some(wrong) = super::value::first_wrong(&part.field.rule, part.count, part.bytes) {
            return Err(MessageError::new(Reason::Characters, 0, part.at + wrong));
        }
    }
    Ok(())
}

struct Found<'m> {
    label: Label<'m>,
    field: &'m Field,
    at: usize,
    count: usize,
    bytes: &'m [u8],
}

/// Goes from part to part; after an error there is no next.
struct Cursor<'m> {
    parts: &'m Parts,
    value: &'m [u8],
    at: usize,
    seen: usize,
    /// Bits that are still to come, the next in the highest place.
    bits: u64,
    bit: u8,
    is_done: bool,
}

impl<'m> Cursor<'m> {
    fn new(parts: &'m Parts, value: &'m [u8]) -> Cursor<'m> {
        Cursor { parts, value, at: 0, seen: 0, bits: 0, bit: 0, is_done: false }
    }

    fn wrong(&self, reason: Reason) -> MessageError {
        MessageError::new(reason, 0, self.at)
    }

    fn found(&mut self, label: Label<'m>, field: &'m Field) -> Result<Found<'m>, MessageError> {
        let rest = self.value.get(self.at..).unwrap_or_default();
        let extent = extent(&field.rule, rest).map_err(|_| self.wrong(Reason::Parts))?;
        let at = self.at + extent.prefix;
        let bytes = self.value.get(at..at + extent.bytes).unwrap_or_default();
        self.at = at + extent.bytes;
        Ok(Found { label, field, at, count: extent.count, bytes })
    }

    fn positional(&mut self) -> Result<Option<Found<'m>>, MessageError> {
        let Some(part) = self.parts.items.get(self.seen) else {
            let is_end = self.at == self.value.len();
            return if is_end { Ok(None) } else { Err(self.wrong(Reason::Parts)) };
        };
        // A composite may end after any of its parts.
        if self.at == self.value.len() && self.seen > 0 {
            return Ok(None);
        }
        self.found(Label::Name(&part.field.name), &part.field).map(Some)
    }

    fn tagged(
        &mut self,
        tag_bytes: u8,
        length_digits: u8,
        zero: u8,
    ) -> Result<Option<Found<'m>>, MessageError> {
        let rest = self.value.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let wrong = self.wrong(Reason::Parts);
        let (tag, rest) = rest.split_at_checked(usize::from(tag_bytes)).ok_or(wrong)?;
        let (digits, rest) = rest.split_at_checked(usize::from(length_digits)).ok_or(wrong)?;
        let bytes = digits.iter().try_fold(0_usize, |number, byte| {
            let digit = byte.wrapping_sub(zero);
            (digit <= 9).then(|| number * 10 + usize::from(digit))
        });
        let bytes = rest.get(..bytes.ok_or(wrong)?).ok_or(wrong)?;
        let at = self.at + tag.len() + digits.len();
        self.at = at + bytes.len();
        let part = self.parts.items.iter().find(|part| part.tag == tag);
        let (label, field) = match part {
            Some(part) => (Label::Name(&part.field.name), &part.field),
            None => (Label::Unnamed(self.seen), &self.parts.unknown),
        };
        let halves = if field.rule.enc == crate::spec::Enc::Bcd { 2 } else { 1 };
        Ok(Some(Found { label, field, at, count: bytes.len() * halves, bytes }))
    }

    fn by_bitmap(&mut self, bytes: u8) -> Result<Option<Found<'m>>, MessageError> {
        if self.at == 0 {
            let map = self.value.get(..usize::from(bytes));
            let map = map.ok_or_else(|| self.wrong(Reason::Parts))?;
            let word = map.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.bits = word << (64 - u32::from(bytes) * 8);
            self.at = map.len();
        }
        if self.bits == 0 {
            let is_end = self.at == self.value.len();
            return if is_end { Ok(None) } else { Err(self.wrong(Reason::Parts)) };
        }
        let skipped = self.bits.leading_zeros();
        self.bits &= !(1 << (63 - skipped));
        self.bit = u8::try_from(skipped + 1).unwrap_or(0);
        let part = self.parts.items.iter().find(|part| part.bit == self.bit);
        let part = part.ok_or_else(|| self.wrong(Reason::Parts))?;
        self.found(Label::Name(&part.field.name), &part.field).map(Some)
    }
}

impl<'m> Iterator for Cursor<'m> {
    type Item = Result<Found<'m>, MessageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let next = if self.seen >= PARTS_MAX {
            Err(self.wrong(Reason::Parts))
        } else {
            match self.parts.form {
                PartForm::Positional => self.positional(),
                PartForm::Tagged { tag_bytes, length_digits, page } => {
                    let zero = page.map_or(b'0', |page| ebcdic::from_ascii(page, b'0'));
                    self.tagged(tag_bytes, length_digits, zero)
                }
                PartForm::Bitmap { bytes } => self.by_bitmap(bytes),
            }
        };
        self.seen += 1;
        self.is_done = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}
