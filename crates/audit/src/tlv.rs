//! Deterministic tag-length-value: one byte of tag, two of length, big-endian, tags ascending.
//!
//! One value has one encoding: a tag that is unknown, repeated or out of order is refused, and so
//! is an empty text or a zero count, which is written by leaving the tag out.

use crate::hash::Hash;

/// Why bytes are no canonical encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlvError {
    /// The bytes end inside a tag, a length or a value.
    #[error("cut off")]
    CutOff,
    /// A tag that is unknown, repeated or out of order.
    #[error("tag {0:#04x} is unknown, repeated or out of order")]
    Tag(u8),
    /// A tag that must be there is missing.
    #[error("tag {0:#04x} is missing")]
    Missing(u8),
    /// A value of the wrong length, of no known meaning, or not in its one canonical form.
    #[error("tag {0:#04x} has no canonical value")]
    Value(u8),
    /// A value longer than its length prefix can say.
    #[error("tag {0:#04x} is too long")]
    TooLong(u8),
}

/// Appends tags to a buffer.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    too_long: Option<u8>,
}

impl Writer {
    /// Writes into a buffer that is emptied first.
    pub(crate) fn within(mut bytes: Vec<u8>) -> Writer {
        bytes.clear();
        Writer { bytes, too_long: None }
    }

    pub(crate) fn put(&mut self, tag: u8, value: &[u8]) {
        let Ok(len) = u16::try_from(value.len()) else {
            self.too_long.get_or_insert(tag);
            return;
        };
        self.bytes.push(tag);
        self.bytes.extend_from_slice(&len.to_be_bytes());
        self.bytes.extend_from_slice(value);
    }

    pub(crate) fn text(&mut self, tag: u8, text: &str) {
        if !text.is_empty() {
            self.put(tag, text.as_bytes());
        }
    }

    pub(crate) fn count(&mut self, tag: u8, count: u64) {
        if count != 0 {
            self.put(tag, &count.to_be_bytes());
        }
    }

    pub(crate) fn optional<const N: usize>(&mut self, tag: u8, value: Option<[u8; N]>) {
        if let Some(value) = value {
            self.put(tag, &value);
        }
    }

    pub(crate) fn finish(self) -> Result<Vec<u8>, TlvError> {
        self.too_long.map_or(Ok(self.bytes), |tag| Err(TlvError::TooLong(tag)))
    }
}

/// Reads tags in the order in which they must stand.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// The value of `tag` when it stands next; `None` when a later tag or the end does.
    pub(crate) fn take(&mut self, tag: u8) -> Result<Option<&'a [u8]>, TlvError> {
        let Some((&next, after)) = self.rest.split_first() else { return Ok(None) };
        if next > tag {
            return Ok(None);
        }
        if next < tag {
            return Err(TlvError::Tag(next));
        }
        let (len, after) = after.split_first_chunk::<2>().ok_or(TlvError::CutOff)?;
        let (value, after) = after
            .split_at_checked(usize::from(u16::from_be_bytes(*len)))
            .ok_or(TlvError::CutOff)?;
        self.rest = after;
        Ok(Some(value))
    }

    pub(crate) fn array<const N: usize>(&mut self, tag: u8) -> Result<Option<[u8; N]>, TlvError> {
        self.take(tag)?.map(|value| value.try_into().map_err(|_| TlvError::Value(tag))).transpose()
    }

    pub(crate) fn must<const N: usize>(&mut self, tag: u8) -> Result<[u8; N], TlvError> {
        self.array(tag)?.ok_or(TlvError::Missing(tag))
    }

    pub(crate) fn hash(&mut self, tag: u8) -> Result<Option<Hash>, TlvError> {
        self.array(tag)
    }

    pub(crate) fn number(&mut self, tag: u8) -> Result<Option<u64>, TlvError> {
        Ok(self.array(tag)?.map(u64::from_be_bytes))
    }

    /// A count, zero when the tag is left out.
    pub(crate) fn count(&mut self, tag: u8) -> Result<u64, TlvError> {
        match self.number(tag)? {
            Some(0) => Err(TlvError::Value(tag)),
            count => Ok(count.unwrap_or(0)),
        }
    }

    /// A text, empty when the tag is left out.
    pub(crate) fn text(&mut self, tag: u8) -> Result<&'a str, TlvError> {
        let Some(value) = self.take(tag)? else { return Ok("") };
        match std::str::from_utf8(value) {
            Ok(text) if !text.is_empty() => Ok(text),
            _ => Err(TlvError::Value(tag)),
        }
    }

    /// A byte that stands for one of a closed set.
    pub(crate) fn one_of<T>(
        &mut self,
        tag: u8,
        from_byte: impl Fn(u8) -> Option<T>,
    ) -> Result<Option<T>, TlvError> {
        let Some([byte]) = self.array(tag)? else { return Ok(None) };
        from_byte(byte).map(Some).ok_or(TlvError::Value(tag))
    }

    pub(crate) fn finish(self) -> Result<(), TlvError> {
        self.rest.first().map_or(Ok(()), |&tag| Err(TlvError::Tag(tag)))
    }

    /// What has not been read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// Splits a value with a 16-bit length prefix off the front of `bytes`.
pub(crate) fn split_u16(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))
}

/// Appends a value with a 16-bit length prefix; `None` when it is too long for one.
pub(crate) fn push_u16(out: &mut Vec<u8>, value: &[u8]) -> Option<()> {
    out.extend_from_slice(&u16::try_from(value.len()).ok()?.to_be_bytes());
    out.extend_from_slice(value);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_come_back_in_order_and_in_no_other() {
        let mut writer = Writer::default();
        writer.put(1, &[9]);
        writer.text(2, "");
        writer.text(3, "abc");
        writer.count(4, 7);
        let bytes = writer.finish().unwrap();
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.must::<1>(1), Ok([9]));
        assert_eq!(reader.text(2), Ok(""));
        assert_eq!(reader.text(3), Ok("abc"));
        assert_eq!(reader.count(4), Ok(7));
        assert_eq!(reader.finish(), Ok(()));
        // Asking past a tag that is there means it is unknown.
        assert_eq!(Reader::new(&bytes).take(2), Err(TlvError::Tag(1)));
    }

    #[test]
    fn what_is_left_out_must_not_be_written_as_empty() {
        assert_eq!(Reader::new(&[3, 0, 0]).text(3), Err(TlvError::Value(3)));
        assert_eq!(
            Reader::new(&[4, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0]).count(4),
            Err(TlvError::Value(4))
        );
        assert_eq!(Reader::new(&[3, 0, 1, 0xff]).text(3), Err(TlvError::Value(3)));
        assert_eq!(Reader::new(&[3, 0]).take(3), Err(TlvError::CutOff));
        assert_eq!(Reader::new(&[3, 0, 2, 0]).take(3), Err(TlvError::CutOff));
    }

    #[test]
    fn a_value_too_long_for_its_prefix_is_an_error_not_a_cut() {
        let mut writer = Writer::default();
        writer.put(5, &vec![0; 65_536]);
        assert_eq!(writer.finish(), Err(TlvError::TooLong(5)));
    }
}
