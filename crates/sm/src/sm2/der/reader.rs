//! Tag, length, value, and what is left.

use super::{BIT_STRING, INTEGER};
use crate::error::Error;

/// Bytes that a length may have: bounded by the input anyhow.
const LENGTH_BYTES_MAX: u8 = 4;

/// What is left to read.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Refuses what is longer than a bound.
    pub(super) fn new(der: &'a [u8], bytes_max: usize) -> Result<Self, Error> {
        if der.len() > bytes_max { Err(Error::Der) } else { Ok(Self { rest: der }) }
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(Error::Der) }
    }

    /// These bytes come next.
    pub(super) fn exactly(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.rest = self.rest.strip_prefix(bytes).ok_or(Error::Algorithm)?;
        Ok(())
    }

    /// The content of the next value, which must have this tag.
    pub(super) fn value(&mut self, tag: u8) -> Result<&'a [u8], Error> {
        let rest = self.rest.strip_prefix(&[tag]).ok_or(Error::Der)?;
        let (len, rest) = length(rest)?;
        let (value, rest) = rest.split_at_checked(len).ok_or(Error::Der)?;
        self.rest = rest;
        Ok(value)
    }

    /// The same, to be read.
    pub(super) fn nested(&mut self, tag: u8) -> Result<Self, Error> {
        Ok(Self { rest: self.value(tag)? })
    }

    /// The same, if it is there.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Error> {
        if self.rest.first() == Some(&tag) { self.value(tag).map(Some) } else { Ok(None) }
    }

    pub(super) fn optional_nested(&mut self, tag: u8) -> Result<Option<Self>, Error> {
        Ok(self.optional(tag)?.map(|rest| Self { rest }))
    }

    /// A BIT STRING of whole bytes.
    pub(super) fn bit_string(&mut self) -> Result<&'a [u8], Error> {
        self.value(BIT_STRING)?.strip_prefix(&[0]).ok_or(Error::Der)
    }

    /// An INTEGER from 0 to 2^256 - 1, X.690 §8.3: not negative, no superfluous zero.
    pub(super) fn integer(&mut self) -> Result<[u8; 32], Error> {
        let value = self.value(INTEGER)?;
        let value = match value {
            [0, unsigned @ ..] if matches!(unsigned, [0x80..=0xff, ..]) => unsigned,
            [0] | [0x01..0x80, ..] => value,
            _ => return Err(Error::Der),
        };
        let skip = 32_usize.checked_sub(value.len()).ok_or(Error::Der)?;
        let mut bytes = [0; 32];
        bytes.iter_mut().skip(skip).zip(value).for_each(|(to, from)| *to = *from);
        Ok(bytes)
    }
}

/// X.690 §10.1: a length in as few bytes as it needs.
fn length(rest: &[u8]) -> Result<(usize, &[u8]), Error> {
    let (first, rest) = rest.split_first().ok_or(Error::Der)?;
    if *first < 0x80 {
        return Ok((usize::from(*first), rest));
    }
    let count = first & 0x7f;
    if count == 0 || count > LENGTH_BYTES_MAX {
        return Err(Error::Der);
    }
    let (bytes, rest) = rest.split_at_checked(usize::from(count)).ok_or(Error::Der)?;
    let len = bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
    let is_short = len < 0x80 || bytes.first() == Some(&0);
    if is_short { Err(Error::Der) } else { Ok((len, rest)) }
}
