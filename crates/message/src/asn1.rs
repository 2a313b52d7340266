//! ASN.1 in DER and BER (ITU-T X.690), value after value, without recursion.
//!
//! A cursor checks as it goes. In DER it refuses what has a shorter or another form: lengths,
//! integers, booleans, sets out of order, bytes behind the value. Types that need a schema are not
//! looked into: a field of a message is found by its path of tags ([`Layout`]).

use moat_audit::anchor::Canonical;
use moat_model::Class;
use moat_model::code::message as codes;
use serde::Deserialize;

use crate::amount::Decimal;
use crate::error::{MessageError, Reason};
use crate::limit::{ASN1_BYTES_MAX, ASN1_DEPTH_MAX, ASN1_TAG_MAX, SPEC_BYTES_MAX, SPEC_PARTS_MAX};
use crate::spec::SpecError;

/// Which encodings are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rules {
    /// X.690 clause 10 and 11: one form for each value.
    Der,
    /// X.690 clause 8: indefinite lengths too.
    Ber,
}

/// An identifier (X.690, 8.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    /// 0 universal, 1 application, 2 context, 3 private.
    pub class: u8,
    /// The number.
    pub number: u32,
    /// Whether values are inside.
    pub is_constructed: bool,
}

const BOOLEAN: (u8, u32) = (0, 1);
const INTEGER: (u8, u32) = (0, 2);
const NULL: (u8, u32) = (0, 5);
const ENUMERATED: (u8, u32) = (0, 10);
const SEQUENCE: (u8, u32) = (0, 16);
const SET: (u8, u32) = (0, 17);

/// A value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    /// Its identifier.
    pub tag: Tag,
    /// How many values it is in.
    pub depth: usize,
    /// Where its identifier begins, in bytes of the data.
    pub offset: usize,
    /// Where its contents begin.
    pub start: usize,
    /// Its contents; `None` when their end is not known yet (BER, indefinite).
    pub contents: Option<&'a [u8]>,
}

impl<'a> Item<'a> {
    fn is(&self, (class, number): (u8, u32)) -> bool {
        self.tag.class == class && self.tag.number == number
    }

    fn primitive(&self) -> Option<&'a [u8]> {
        if self.tag.is_constructed { None } else { self.contents }
    }

    /// An INTEGER or ENUMERATED of at most 16 bytes. With an implicit tag too.
    #[must_use]
    pub fn integer(&self) -> Option<i128> {
        let bytes = self.primitive()?;
        let (first, rest) = bytes.split_first()?;
        if rest.len() > 15 {
            return None;
        }
        let start = i128::from(i8::from_be_bytes([*first]));
        Some(rest.iter().fold(start, |value, byte| value << 8 | i128::from(*byte)))
    }

    /// A text of ASCII or UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&'a str> {
        core::str::from_utf8(self.primitive()?).ok()
    }

    /// An OBJECT IDENTIFIER with its dots (X.690, 8.19).
    #[must_use]
    pub fn oid(&self) -> Option<String> {
        /// Most arcs; real ones have a dozen.
        const ARCS_MAX: usize = 64;
        let mut out = String::new();
        let mut rest = self.primitive()?;
        if rest.is_empty() {
            return None;
        }
        for at in 0..ARCS_MAX {
            if rest.is_empty() {
                return Some(out);
            }
            let (arc, used) = base128(rest)?;
            rest = rest.get(used..)?;
            match at {
                0 => {
                    let first = (arc / 40).min(2);
                    out = format!("{first}.{}", arc - first * 40);
                }
                _ => out.push_str(&format!(".{arc}")),
            }
        }
        None
    }
}

/// Seven bits a byte, the highest first, in the shortest form.
fn base128(bytes: &[u8]) -> Option<(u32, usize)> {
    if bytes.first() == Some(&0x80) {
        return None;
    }
    let mut value = 0_u32;
    for (at, byte) in bytes.iter().enumerate() {
        value = value.checked_mul(128)?.checked_add(u32::from(byte & 0x7f))?;
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

/// A value that is open.
#[derive(Clone, Copy)]
struct Open {
    /// Where it ends; none when it ends with two zeros.
    end: Option<u32>,
    is_set: bool,
    /// The value before, in a set: where it begins and ends.
    before: (u32, u32),
}

/// Places are below [`ASN1_BYTES_MAX`], which is asked before anything is read.
#[inline]
fn narrow(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

#[inline]
fn wide(place: u32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

/// Goes through one value and everything in it; a value before what is in it. After an error there
/// is no next.
pub struct Cursor<'a> {
    data: &'a [u8],
    rules: Rules,
    at: usize,
    open: [Open; ASN1_DEPTH_MAX],
    depth: usize,
    is_done: bool,
}

impl<'a> Cursor<'a> {
    /// Begins with the value, which must be all of the data.
    #[must_use]
    pub fn new(data: &'a [u8], rules: Rules) -> Cursor<'a> {
        let none = Open { end: None, is_set: false, before: (0, 0) };
        Cursor { data, rules, at: 0, open: [none; ASN1_DEPTH_MAX], depth: 0, is_done: false }
    }

    fn wrong(&self, reason: Reason) -> MessageError {
        MessageError::new(reason, 0, self.at)
    }

    /// Whether there is a next value. Closes what ends here.
    fn close(&mut self) -> Result<bool, MessageError> {
        if self.at == 0 {
            return Ok(true);
        }
        while let Some(open) = self.depth.checked_sub(1).and_then(|at| self.open.get(at)) {
            match open.end {
                Some(end) if self.at < wide(end) => return Ok(true),
                Some(_) => {}
                None => match self.data.get(self.at..self.at + 2) {
                    Some([0, 0]) => self.at += 2,
                    Some(_) => return Ok(true),
                    None => return Err(self.wrong(Reason::Asn1)),
                },
            }
            self.depth -= 1;
        }
        if self.at < self.data.len() {
            return Err(self.wrong(Reason::Asn1));
        }
        Ok(false)
    }

    fn read(&mut self) -> Result<Option<Item<'a>>, MessageError> {
        if self.data.len() > ASN1_BYTES_MAX {
            return Err(MessageError::new(Reason::Asn1Limit, 0, ASN1_BYTES_MAX));
        }
        if !self.close()? {
            return Ok(None);
        }
        let outer = self.depth.checked_sub(1).and_then(|at| self.open.get(at)).copied();
        let end = outer.and_then(|open| open.end).map_or_else(|| self.limit(), wide);
        let offset = self.at;
        let rest = self.data.get(offset..end).unwrap_or_default();
        let head = head(rest, self.rules).map_err(|reason| self.wrong(reason))?;
        let start = offset + head.bytes;
        let contents = match head.length {
            None => None,
            Some(length) => {
                let contents = rest.get(head.bytes..).and_then(|rest| rest.get(..length));
                Some(contents.ok_or_else(|| self.wrong(Reason::Asn1))?)
            }
        };
        let item = Item { tag: head.tag, depth: self.depth, offset, start, contents };
        if self.rules == Rules::Der {
            self.check(&item)?;
        }
        if head.tag.is_constructed {
            let end = head.length.map(|length| narrow(start + length));
            let is_set = item.is(SET);
            let place = self.open.get_mut(self.depth);
            let place = place.ok_or(MessageError::new(Reason::Asn1Limit, 0, offset))?;
            *place = Open { end, is_set, before: (0, 0) };
            self.depth += 1;
            self.at = start;
        } else {
            self.at = start + head.length.unwrap_or(0);
        }
        Ok(Some(item))
    }

    /// Where the innermost value with a known end ends.
    fn limit(&self) -> usize {
        let open = self.open.get(..self.depth).unwrap_or_default();
        open.iter().rev().find_map(|open| open.end).map_or(self.data.len(), wide)
    }

    /// The one form that DER has for a value (X.690, 8.2, 8.3, 8.8, 10, 11.1, 11.6).
    fn check(&mut self, item: &Item<'_>) -> Result<(), MessageError> {
        let contents = item.contents.unwrap_or_default();
        let is_universal = item.tag.class == 0;
        let must_be_open = item.is(SEQUENCE) || item.is(SET);
        let is_good = if is_universal && item.tag.is_constructed != must_be_open {
            // EXTERNAL and EMBEDDED PDV have values inside too.
            item.tag.is_constructed && matches!(item.tag.number, 8 | 11)
        } else if item.is(BOOLEAN) {
            matches!(contents, [0 | 0xff])
        } else if item.is(INTEGER) || item.is(ENUMERATED) {
            !matches!(contents, [] | [0, 0..=0x7f, ..] | [0xff, 0x80..=0xff, ..])
        } else if item.is(NULL) {
            contents.is_empty()
        } else {
            !(is_universal && item.tag.number == 0)
        };
        if !is_good {
            return Err(self.wrong(Reason::Asn1));
        }
        let end = item.start + contents.len();
        let Some(open) = self.depth.checked_sub(1).and_then(|at| self.open.get_mut(at)) else {
            return Ok(());
        };
        if open.is_set {
            let (from, to) = (wide(open.before.0), wide(open.before.1));
            open.before = (narrow(item.offset), narrow(end));
            let before = self.data.get(from..to).unwrap_or_default();
            let this = self.data.get(item.offset..end).unwrap_or_default();
            if to > from && !in_order(before, this) {
                return Err(self.wrong(Reason::Asn1));
            }
        }
        Ok(())
    }
}

/// SET OF goes by encodings, SET by tags (X.690, 11.6 and 10.3); which of them it is, only a schema
/// says.
fn in_order(before: &[u8], this: &[u8]) -> bool {
    let key = |bytes: &[u8]| {
        let head = head(bytes, Rules::Der).ok();
        head.map_or((0, 0), |head| (head.tag.class, head.tag.number))
    };
    before <= this || key(before) < key(this)
}

impl<'a> Iterator for Cursor<'a> {
    type Item = Result<Item<'a>, MessageError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let next = self.read();
        self.is_done = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}

struct Head {
    tag: Tag,
    /// None when indefinite.
    length: Option<usize>,
    bytes: usize,
}

#[inline]
fn head(bytes: &[u8], rules: Rules) -> Result<Head, Reason> {
    let (first, rest) = bytes.split_first().ok_or(Reason::Asn1)?;
    let (class, is_constructed) = (first >> 6, first & 0x20 != 0);
    let (number, used) = match first & 0x1f {
        0x1f => {
            let (number, used) = base128(rest).ok_or(Reason::Asn1)?;
            // Numbers that fit into the first byte must stand there (X.690, 8.1.2.4).
            if number < 31 {
                return Err(Reason::Asn1);
            }
            (number, used)
        }
        number => (u32::from(number), 0),
    };
    if number > ASN1_TAG_MAX {
        return Err(Reason::Asn1Limit);
    }
    let tag = Tag { class, number, is_constructed };
    let (first, rest) = rest.get(used..).and_then(<[u8]>::split_first).ok_or(Reason::Asn1)?;
    let bytes = used + 2;
    match (*first, rules) {
        (length @ 0..0x80, _) => Ok(Head { tag, length: Some(usize::from(length)), bytes }),
        (0x80, Rules::Ber) if is_constructed => Ok(Head { tag, length: None, bytes }),
        (0x80 | 0xff, _) => Err(Reason::Asn1),
        (form, _) => {
            let count = usize::from(form & 0x7f);
            let written = rest.get(..count).ok_or(Reason::Asn1)?;
            let zeros = written.iter().take_while(|byte| **byte == 0).count();
            let digits = written.get(zeros..).unwrap_or_default();
            if digits.len() > 4 {
                return Err(Reason::Asn1);
            }
            let length =
                digits.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
            if rules == Rules::Der && (zeros > 0 || length < 0x80) {
                return Err(Reason::Asn1);
            }
            Ok(Head { tag, length: Some(length), bytes: bytes + count })
        }
    }
}

/// Whether the data are one value, to the last byte.
///
/// # Errors
/// What is wrong first, and where.
pub fn check(data: &[u8], rules: Rules) -> Result<(), MessageError> {
    Cursor::new(data, rules).try_for_each(|item| item.map(drop))
}

/// Where the fields of a message are: paths of tags, from YAML.
///
/// ```yaml
/// asn1: clearing
/// rules: der
/// fields:
///   - { name: amount, class: C2, type: integer, decimals: 2, path: 30/A0/02 }
///   - { name: text, class: C2, type: text, path: 30/0C.1 }
/// ```
///
/// Each step is the first byte of an identifier; `.1` takes the second of its kind, and so on.
#[derive(Debug)]
pub struct Layout {
    rules: Rules,
    fields: Vec<LayoutField>,
}

/// A field of a layout.
#[derive(Debug)]
pub struct LayoutField {
    /// Its name: the same as in JSON and ISO 8583.
    pub name: String,
    /// Its class.
    pub class: Class,
    kind: LayoutType,
    decimals: u8,
    /// Identifier, and how many of its kind come before.
    path: Vec<(u8, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LayoutType {
    Integer,
    Text,
    Bytes,
    Oid,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLayout {
    #[serde(rename = "asn1")]
    _name: String,
    rules: Rules,
    fields: Vec<RawLayoutField>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLayoutField {
    name: String,
    class: String,
    #[serde(rename = "type")]
    kind: LayoutType,
    #[serde(default)]
    decimals: u8,
    path: String,
}

impl Layout {
    /// Reads a layout.
    ///
    /// # Errors
    /// The first thing that is no layout.
    pub fn parse(yaml: &str) -> Result<Layout, SpecError> {
        let wrong = |message: String| SpecError {
            code: &codes::SPEC_SYNTAX,
            field: None,
            place: None,
            message,
        };
        if yaml.len() > SPEC_BYTES_MAX {
            return Err(wrong(format!("it is longer than {SPEC_BYTES_MAX} bytes")));
        }
        let raw: RawLayout = serde_saphyr::from_str(yaml).map_err(|error| {
            let text = error.without_snippet().to_string();
            wrong(text.lines().next().unwrap_or_default().to_owned())
        })?;
        if raw.fields.len() > SPEC_PARTS_MAX {
            return Err(wrong(format!("it has more than {SPEC_PARTS_MAX} fields")));
        }
        let field = |raw: RawLayoutField| {
            let path: Option<Vec<_>> = raw.path.split('/').map(step).collect();
            let path = path.filter(|path| path.len() <= ASN1_DEPTH_MAX);
            let path = path.ok_or_else(|| wrong(format!("{}: `path` is no path", raw.name)))?;
            let class = raw.class.parse();
            let class = class.map_err(|error| wrong(format!("{}: {error}", raw.name)))?;
            if raw.decimals > 9 || (raw.decimals > 0 && raw.kind != LayoutType::Integer) {
                return Err(wrong(format!("{}: integers have up to 9 `decimals`", raw.name)));
            }
            let (kind, decimals) = (raw.kind, raw.decimals);
            Ok(LayoutField { name: raw.name, class, kind, decimals, path })
        };
        let fields = raw.fields.into_iter().map(field).collect::<Result<_, _>>()?;
        Ok(Layout { rules: raw.rules, fields })
    }

    /// Every field that is there, in the order of the layout.
    ///
    /// # Errors
    /// When the data are not one good value.
    pub fn read<'a, 'l>(
        &'l self,
        data: &'a [u8],
    ) -> Result<Vec<(&'l LayoutField, Item<'a>)>, MessageError> {
        let mut found = vec![None; self.fields.len()];
        // Of each value that is open: its first byte, and how many of its kind came before.
        let mut path: Vec<(u8, usize)> = Vec::with_capacity(ASN1_DEPTH_MAX);
        let mut counts: Vec<Vec<(u8, usize)>> = vec![Vec::new()];
        for item in Cursor::new(data, self.rules) {
            let item = item?;
            path.truncate(item.depth);
            counts.truncate(item.depth + 1);
            let first = data.get(item.offset).copied().unwrap_or(0);
            let Some(kinds) = counts.last_mut() else { continue };
            let nth = match kinds.iter_mut().find(|(kind, _)| *kind == first) {
                Some((_, nth)) => {
                    *nth += 1;
                    *nth
                }
                None => {
                    kinds.push((first, 0));
                    0
                }
            };
            path.push((first, nth));
            counts.push(Vec::new());
            for (field, place) in self.fields.iter().zip(&mut found) {
                if field.path == path {
                    *place = Some(item);
                }
            }
        }
        let pairs = self.fields.iter().zip(found);
        Ok(pairs.filter_map(|(field, item)| Some((field, item?))).collect())
    }
}

fn step(text: &str) -> Option<(u8, usize)> {
    let (hex, nth) = text.split_once('.').unwrap_or((text, "0"));
    let good = hex.len() == 2 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    let byte = u8::from_str_radix(hex, 16).ok().filter(|byte| good && byte & 0x1f != 0x1f)?;
    Some((byte, nth.parse().ok()?))
}

impl LayoutField {
    /// The amount of an integer, in the decimals of the layout.
    #[must_use]
    pub fn amount(&self, item: &Item<'_>) -> Option<Decimal> {
        let is_number = self.kind == LayoutType::Integer;
        let value = if is_number { item.integer() } else { None };
        value.map(|value| Decimal::from_integer(value, self.decimals))
    }

    /// The value for the record; of SAD there is none.
    #[must_use]
    pub fn canonical(&self, item: &Item<'_>) -> Option<Canonical> {
        if self.class == Class::Sad {
            return None;
        }
        match self.kind {
            LayoutType::Integer => self.amount(item)?.canonical(),
            LayoutType::Text => item.text().map(Canonical::text),
            LayoutType::Bytes => item.contents.map(Canonical::bytes),
            LayoutType::Oid => item.oid().map(|oid| Canonical::text(&oid)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn walk(data: &[u8], rules: Rules) -> Result<Vec<(u32, usize)>, Reason> {
        let items: Result<Vec<_>, _> = Cursor::new(data, rules).collect();
        let items = items.map_err(|wrong| wrong.reason)?;
        Ok(items.iter().map(|item| (item.tag.number, item.depth)).collect())
    }

    #[test]
    fn values_come_before_what_is_in_them() {
        let data = b"\x30\x0b\x02\x01\x05\xa1\x03\x01\x01\xff\x0c\x01a";
        let expected = vec![(16, 0), (2, 1), (1, 1), (1, 2), (12, 1)];
        assert_eq!(walk(data, Rules::Der), Ok(expected.clone()));
        let open = b"\x30\x80\x02\x01\x05\xa1\x80\x01\x01\xff\x00\x00\x0c\x01a\x00\x00";
        assert_eq!(walk(open, Rules::Ber), Ok(expected));
        assert_eq!(walk(open, Rules::Der), Err(Reason::Asn1));
    }

    #[test]
    fn der_has_one_form_for_each_value() {
        for data in [
            &b"\x02\x81\x01\x05"[..],
            b"\x02\x82\x00\x81",
            b"\x02\x02\x00\x05",
            b"\x02\x02\xff\x80",
            b"\x02\x00",
            b"\x01\x01\x01",
            b"\x01\x02\x00\x00",
            b"\x05\x01\x00",
            b"\x02\x01\x05\x00",
            b"\x24\x03\x04\x01a",
            b"\x10\x00",
            b"\x31\x06\x02\x01\x02\x02\x01\x01",
            b"\x00\x00",
            b"",
            b"\x30",
            b"\x30\x02\x02",
            b"\x30\x80",
            b"\x1f\x80\x01\x00",
            b"\x1f\x1e\x00",
            b"\x04\x85\x01\x00\x00\x00\x00",
            b"\x04\xff",
        ] {
            assert!(check(data, Rules::Der).is_err(), "{data:02x?}");
        }
        for data in [
            &b"\x31\x06\x02\x01\x01\x02\x01\x02"[..],
            b"\x31\x05\x30\x00\x13\x01a",
            b"\x9f\x1f\x00",
            b"\x9f\x87\xff\xff\xff\x7f\x00",
            b"\x02\x02\x00\x80",
            b"\x02\x01\x00",
        ] {
            assert!(check(data, Rules::Der).is_ok(), "{data:02x?}");
        }
        // 2^31 and one more.
        assert!(check(b"\x9f\x88\x80\x80\x80\x00\x00", Rules::Der).is_ok());
        assert!(check(b"\x9f\x88\x80\x80\x80\x01\x00", Rules::Der).is_err());
        assert!(check(b"\x02\x81\x01\x05", Rules::Ber).is_ok());
    }

    #[test]
    fn depth_is_bounded_in_both() {
        let open = |depth| [b"\x30\x80".repeat(depth), b"\x00\x00".repeat(depth)].concat();
        assert!(check(&open(ASN1_DEPTH_MAX), Rules::Ber).is_ok());
        assert_eq!(walk(&open(ASN1_DEPTH_MAX + 1), Rules::Ber), Err(Reason::Asn1Limit));
        let mut deep = vec![0x30, 0];
        for _ in 0..ASN1_DEPTH_MAX {
            let length = u8::try_from(deep.len()).unwrap();
            deep = [vec![0x30, length], deep].concat();
        }
        assert_eq!(walk(&deep, Rules::Der), Err(Reason::Asn1Limit));
        assert!(check(&deep[2..], Rules::Der).is_ok());
    }

    #[test]
    fn values_are_what_they_stand_for() {
        let one = |data: &'static [u8]| Cursor::new(data, Rules::Der).next().unwrap().unwrap();
        for (data, value) in [
            (&b"\x02\x01\x7f"[..], 127),
            (b"\x02\x01\x80", -128),
            (b"\x02\x02\x00\x80", 128),
            (b"\x02\x03\x12\xd6\x87", 1_234_567),
        ] {
            assert_eq!(one(data).integer(), Some(value));
        }
        assert_eq!(
            one(b"\x06\x06\x2a\x86\x48\x86\xf7\x0d").oid().as_deref(),
            Some("1.2.840.113549")
        );
        assert_eq!(one(b"\x06\x03\x88\x37\x03").oid().as_deref(), Some("2.999.3"));
        assert_eq!(one(b"\x06\x02\x2a\x86").oid(), None);
        assert_eq!(one(b"\x0c\x02\xc3\xa9").text(), Some("é"));
    }

    #[test]
    fn fields_are_found_by_their_path() {
        let layout = Layout::parse(
            "asn1: t\nrules: der\nfields:\n  - { name: amount, class: C2, type: integer, decimals: 2, path: 30/A0/02 }\n  - { name: second, class: C1, type: text, path: 30/0C.1 }\n  - { name: none, class: C1, type: text, path: 30/0C.2 }\n",
        )
        .unwrap();
        let data = b"\x30\x0d\xa0\x04\x02\x02\x04\xe2\x0c\x01a\x0c\x02bc";
        let found = layout.read(data).unwrap();
        assert_eq!(found.len(), 2);
        let (field, item) = &found[0];
        assert_eq!(field.amount(item).unwrap().to_json().as_str(), "12.50");
        assert_eq!(found[1].1.text(), Some("bc"));
        for bad in ["path: 3", "path: 1F", "path: ''", "path: 30/0C.x"] {
            let yaml = format!(
                "asn1: t\nrules: der\nfields:\n  - {{ name: a, class: C1, type: text, {bad} }}\n"
            );
            assert!(Layout::parse(&yaml).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_values_or_refused(data in prop::collection::vec(any::<u8>(), 0..200)) {
            let der = check(&data, Rules::Der).is_ok();
            prop_assert!(!der || check(&data, Rules::Ber).is_ok());
            for item in Cursor::new(&data, Rules::Ber).map_while(Result::ok) {
                let contents = item.contents.unwrap_or_default();
                prop_assert_eq!(&data[item.start..item.start + contents.len()], contents);
            }
        }
    }
}
