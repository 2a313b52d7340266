//! BER-TLV as EMV uses it (EMV Book 3, Annex B): objects in objects, walked without recursion.

use crate::error::{MessageError, Reason};
use crate::limit::{TLV_DEPTH_MAX, TLV_LENGTH_BYTES_MAX, TLV_OBJECTS_MAX, TLV_TAG_BYTES_MAX};

/// A tag: its one to three bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(u32);

impl Tag {
    /// The bytes as one number: `9F26`.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    fn first(self) -> u32 {
        if self.0 > 0xffff {
            self.0 >> 16
        } else if self.0 > 0xff {
            self.0 >> 8
        } else {
            self.0
        }
    }

    /// Whether its value consists of objects.
    #[must_use]
    pub fn is_template(self) -> bool {
        self.first() & 0x20 != 0
    }

    /// From hexadecimal, as people write it.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Tag> {
        let mut bytes = Vec::with_capacity(TLV_TAG_BYTES_MAX);
        if text.len() > 2 * TLV_TAG_BYTES_MAX {
            return None;
        }
        crate::iso8583::from_hex(text, &mut bytes)?;
        let (tag, used) = read_tag(&bytes).ok()?;
        (used == bytes.len()).then_some(tag)
    }
}

impl core::fmt::Display for Tag {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let width = if self.0 > 0xffff {
            6
        } else if self.0 > 0xff {
            4
        } else {
            2
        };
        write!(f, "{:0width$X}", self.0)
    }
}

impl core::fmt::Debug for Tag {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{self}")
    }
}

/// An object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Object<'a> {
    /// Its tag.
    pub tag: Tag,
    /// How many templates it is in.
    pub depth: usize,
    /// Where its value begins, in bytes of the data.
    pub offset: usize,
    /// Its value; of a template, the objects in it, which come next.
    pub value: &'a [u8],
}

/// The objects of some data, templates before what is in them. After an error there is no next.
pub struct Objects<'a> {
    data: &'a [u8],
    at: usize,
    /// Where the templates that are open end, the outermost first.
    ends: [usize; TLV_DEPTH_MAX],
    depth: usize,
    seen: usize,
}

impl<'a> Objects<'a> {
    /// Begins with the first object.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Objects<'a> {
        Objects { data, at: 0, ends: [0; TLV_DEPTH_MAX], depth: 0, seen: 0 }
    }

    /// Where the innermost template that is open ends.
    #[inline]
    fn end(&self) -> usize {
        let inner = self.depth.checked_sub(1).and_then(|at| self.ends.get(at));
        inner.copied().unwrap_or(self.data.len())
    }

    #[inline]
    fn read(&mut self) -> Result<Option<Object<'a>>, MessageError> {
        loop {
            while self.depth > 0 && self.at == self.end() {
                self.depth -= 1;
            }
            // Zeros may stand between objects (EMV Book 3, Annex B1).
            match self.data.get(self.at) {
                Some(0) => self.at += 1,
                Some(_) => break,
                None => return Ok(None),
            }
        }
        let wrong = |reason, at| MessageError::new(reason, 0, at);
        if self.seen == TLV_OBJECTS_MAX {
            return Err(wrong(Reason::TlvObjects, self.at));
        }
        self.seen += 1;
        let end = self.end();
        let rest = self.data.get(self.at..end).unwrap_or_default();
        let (tag, used) = read_tag(rest).map_err(|reason| wrong(reason, self.at))?;
        let length_at = self.at + used;
        let rest = rest.get(used..).unwrap_or_default();
        let (length, used) = read_length(rest).map_err(|reason| wrong(reason, length_at))?;
        let offset = length_at + used;
        let value = rest.get(used..).and_then(|rest| rest.get(..length));
        let value = value.ok_or_else(|| wrong(Reason::TlvLength, length_at))?;
        let depth = self.depth;
        if tag.is_template() {
            let open =
                self.ends.get_mut(depth).ok_or_else(|| wrong(Reason::TlvDepth, length_at))?;
            *open = offset + length;
            self.depth += 1;
            self.at = offset;
        } else {
            self.at = offset + length;
        }
        Ok(Some(Object { tag, depth, offset, value }))
    }
}

impl<'a> Iterator for Objects<'a> {
    type Item = Result<Object<'a>, MessageError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let next = self.read();
        if next.is_err() {
            (self.at, self.depth) = (self.data.len(), 0);
        }
        next.transpose()
    }
}

#[inline]
fn read_tag(bytes: &[u8]) -> Result<(Tag, usize), Reason> {
    match bytes {
        [0, ..] | [] => Err(Reason::TlvTag),
        [one, ..] if one & 0x1f != 0x1f => Ok((Tag(u32::from(*one)), 1)),
        [one, two, ..] if two & 0x80 == 0 => Ok((Tag(u32::from_be_bytes([0, 0, *one, *two])), 2)),
        [one, two, three, ..] if three & 0x80 == 0 => {
            Ok((Tag(u32::from_be_bytes([0, *one, *two, *three])), 3))
        }
        _ => Err(Reason::TlvTag),
    }
}

#[inline]
fn read_length(bytes: &[u8]) -> Result<(usize, usize), Reason> {
    let (first, rest) = bytes.split_first().ok_or(Reason::TlvLength)?;
    if *first < 0x80 {
        return Ok((usize::from(*first), 1));
    }
    let count = usize::from(first & 0x7f);
    // 80 would be the indefinite form, which EMV does not have.
    if count == 0 || count > TLV_LENGTH_BYTES_MAX {
        return Err(Reason::TlvLength);
    }
    let bytes = rest.get(..count).ok_or(Reason::TlvLength)?;
    Ok((bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), count + 1))
}

/// Whether the data are objects, to the last byte.
///
/// # Errors
/// What is wrong first, and where.
pub fn check(data: &[u8]) -> Result<(), MessageError> {
    Objects::new(data).try_for_each(|object| object.map(drop))
}

/// Where each object lies, found once and asked often.
#[derive(Clone)]
pub struct Table {
    entries: [(u32, u32, u32); TLV_OBJECTS_MAX],
    count: usize,
}

impl Table {
    /// The table of some data.
    ///
    /// # Errors
    /// As [`check`].
    pub fn new(data: &[u8]) -> Result<Table, MessageError> {
        let mut table = Table { entries: [(0, 0, 0); TLV_OBJECTS_MAX], count: 0 };
        let narrow = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        for object in Objects::new(data) {
            let object = object?;
            if let Some(entry) = table.entries.get_mut(table.count) {
                *entry = (object.tag.0, narrow(object.offset), narrow(object.value.len()));
                table.count += 1;
            }
        }
        Ok(table)
    }

    /// The value of the first object with this tag, in the data that the table was made of.
    #[must_use]
    pub fn find<'a>(&self, tag: Tag, data: &'a [u8]) -> Option<&'a [u8]> {
        let found = self.entries.iter().take(self.count).find(|entry| entry.0 == tag.0)?;
        let wide = |value: u32| usize::try_from(value).ok();
        data.get(wide(found.1)?..)?.get(..wide(found.2)?)
    }

    /// How many objects there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }
}

/// Appends an object, with the shortest length.
///
/// # Errors
/// When the value is longer than three length bytes can say.
pub fn put(tag: Tag, value: &[u8], out: &mut Vec<u8>) -> Result<(), MessageError> {
    let length = u32::try_from(value.len()).ok().filter(|length| *length < 1 << 24);
    let length = length.ok_or_else(|| MessageError::new(Reason::TooLong, 0, 0))?;
    let significant = |bytes: [u8; 4]| bytes.into_iter().skip_while(|byte| *byte == 0);
    out.extend(significant(tag.0.to_be_bytes()));
    let bytes = length.to_be_bytes();
    match length {
        0..0x80 => out.extend(bytes.last()),
        _ => {
            out.push(0x80 | u8::try_from(significant(bytes).count()).unwrap_or(0));
            out.extend(significant(bytes));
        }
    }
    out.extend_from_slice(value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wrong(data: &[u8]) -> (Reason, u32) {
        let wrong = check(data).expect_err("refused");
        (wrong.reason, wrong.offset)
    }

    fn walk(data: &[u8]) -> Vec<(String, usize, usize)> {
        let objects = Objects::new(data).map(|object| object.expect("good"));
        objects.map(|object| (object.tag.to_string(), object.depth, object.value.len())).collect()
    }

    #[test]
    fn objects_are_found_in_templates_and_between_zeros() {
        let data = b"\x00\x82\x02\x19\x80\x00\x70\x09\x5a\x02\x12\x34\xe1\x03\x9f\x36\x00\x9f\x26\x81\x01\xab";
        let found = walk(data);
        let found: Vec<_> =
            found.iter().map(|(tag, depth, len)| (tag.as_str(), *depth, *len)).collect();
        assert_eq!(
            found,
            [
                ("82", 0, 2),
                ("70", 0, 9),
                ("5A", 1, 2),
                ("E1", 1, 3),
                ("9F36", 2, 0),
                ("9F26", 0, 1)
            ]
        );
        assert_eq!(walk(b"\xdf\x81\x01\x00"), [("DF8101".to_owned(), 0, 0)]);
        assert!(walk(b"\x00\x00").is_empty() && walk(b"").is_empty());
    }

    #[test]
    fn what_has_broken_other_parsers_is_refused() {
        for (data, reason) in [
            // 2^63 in long form, and all ones.
            (&b"\x9f\x26\x88\x80\x00\x00\x00\x00\x00\x00\x00"[..], Reason::TlvLength),
            (b"\x5a\xff", Reason::TlvLength),
            (b"\x5a\x83\xff\xff\xff", Reason::TlvLength),
            (b"\x5a\x84\x00\x00\x00\x01\x00", Reason::TlvLength),
            (b"\x5a\x82\x01", Reason::TlvLength),
            // Indefinite form, a length that is not there, a value that is cut.
            (b"\x70\x80\x00\x00", Reason::TlvLength),
            (b"\x5a", Reason::TlvLength),
            (b"\x5a\x02\x01", Reason::TlvLength),
            // A tag longer than the data, and one longer than three bytes.
            (b"\x9f", Reason::TlvTag),
            (b"\x9f\x81", Reason::TlvTag),
            (b"\x9f\x81\x81\x01\x00", Reason::TlvTag),
            // An object that leaves its template.
            (b"\x70\x02\x5a\x02\x01\x02", Reason::TlvLength),
            // Five templates in each other.
            (b"\x70\x08\x70\x06\x70\x04\x70\x02\x70\x00", Reason::TlvDepth),
        ] {
            assert_eq!(wrong(data).0, reason, "{data:02x?}");
        }
        assert_eq!(walk(b"\x70\x06\x70\x04\x70\x02\x70\x00").len(), 4);
        let many = b"\x5a\x00".repeat(TLV_OBJECTS_MAX + 1);
        assert_eq!(wrong(&many), (Reason::TlvObjects, 128));
        assert!(check(&many[2..]).is_ok());
        // After an error there is nothing more.
        let mut objects = Objects::new(b"\x9f");
        assert!(objects.next().is_some_and(|object| object.is_err()) && objects.next().is_none());
    }

    #[test]
    fn tags_are_read_as_people_write_them() {
        for text in ["5A", "9F26", "DF8101"] {
            let tag = Tag::from_hex(text).expect("a tag");
            assert_eq!(
                (tag.to_string(), Tag::from_hex(&text.to_lowercase())),
                (text.to_owned(), Some(tag))
            );
        }
        for text in ["", "0", "00", "9F", "5A5A", "9F8181", "xx", "9F818101", "é"] {
            assert_eq!(Tag::from_hex(text), None, "{text}");
        }
        let is_template = |text| Tag::from_hex(text).expect("a tag").is_template();
        assert!(is_template("70") && is_template("BF0C") && !is_template("9F26"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_objects_or_refused(data in prop::collection::vec(any::<u8>(), 0..300)) {
            let table = Table::new(&data);
            prop_assert_eq!(table.is_ok(), check(&data).is_ok());
            for object in Objects::new(&data).map_while(Result::ok) {
                prop_assert_eq!(&data[object.offset..object.offset + object.value.len()], object.value);
                prop_assert!(object.depth <= TLV_DEPTH_MAX);
            }
        }

        #[test]
        fn what_is_put_is_found(values in prop::collection::vec((0_usize..5, prop::collection::vec(any::<u8>(), 0..300)), 0..20)) {
            let tags = ["5A", "9F26", "DF8101", "82", "9F1F"].map(|tag| Tag::from_hex(tag).unwrap());
            let mut data = Vec::new();
            for (tag, value) in &values {
                put(tags[*tag], value, &mut data).unwrap();
            }
            let found: Vec<_> = Objects::new(&data).map(|o| o.unwrap()).collect();
            prop_assert_eq!(found.len(), values.len());
            let table = Table::new(&data).unwrap();
            for (tag, value) in &values {
                let first = values.iter().find(|(other, _)| other == tag).map(|(_, value)| &value[..]);
                prop_assert_eq!(table.find(tags[*tag], &data), first);
                prop_assert!(found.iter().any(|o| o.tag == tags[*tag] && o.value == &value[..]));
            }
        }
    }
}
