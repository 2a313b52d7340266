//! Strings: content, escapes, surrogate pairs, UTF-8 across chunk borders.

use super::{Cursor, Machine, Sink, State};
use crate::error::{MaskError, Syntax};
use crate::scan;
use moat_model::limit::JSON_SCALAR_BYTES_MAX;

/// Who wants the content of the string being read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    Nobody,
    Key,
    Scalar,
}

/// Where in an escape the machine stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escape {
    No,
    /// After a backslash; with a high surrogate in front only `u` may follow.
    Slash {
        high: Option<u16>,
    },
    /// Within the four digits of `\u`.
    Hex {
        high: Option<u16>,
        value: u16,
        count: u8,
    },
    /// After a high surrogate: a backslash must follow.
    Pair {
        high: u16,
    },
}

/// A UTF-8 sequence cut by the end of a chunk: bytes still missing, bounds of the next one
/// (RFC 3629 §4; the bounds refuse overlong forms, surrogates and what lies above U+10FFFF).
#[derive(Clone, Copy)]
struct Cut {
    read: u8,
    missing: u8,
    low: u8,
    high: u8,
}

/// The state of the string being read.
pub(super) struct Reading {
    pub(super) reader: Reader,
    pub(super) is_key: bool,
    escape: Escape,
    cut: Cut,
}

impl Reading {
    pub(super) fn new() -> Reading {
        Reading {
            reader: Reader::Nobody,
            is_key: false,
            escape: Escape::No,
            cut: Cut { read: 0, missing: 0, low: 0x80, high: 0xbf },
        }
    }

    /// A string begins, or its part that is read one byte after the other.
    pub(super) fn begin(&mut self, reader: Reader, is_key: bool) {
        self.reader = reader;
        self.is_key = is_key;
    }
}

impl Machine {
    /// Starts a string; the cursor stands on its quote. Most strings are whole in their chunk and
    /// have no escapes: they end here as well, and are not copied.
    pub(super) fn begin_string<S: Sink>(
        &mut self,
        cur: &mut Cursor<'_, S>,
        reader: Reader,
        is_key: bool,
    ) -> Result<(), MaskError> {
        self.reading.begin(reader, is_key);
        if let Some(text) = whole(cur.chunk.get(cur.at + 1..).unwrap_or(&[])) {
            let is_short = text.len() <= JSON_SCALAR_BYTES_MAX;
            if is_key || is_short || reader == Reader::Nobody {
                cur.at += text.len() + 2;
                if is_key {
                    self.end_key(cur, Some(text.as_bytes()));
                    return Ok(());
                }
                return self.end_scalar(cur, super::buffer::Kind::Text, Some(text));
            }
        }
        if reader == Reader::Scalar {
            self.scalar.quote();
        }
        cur.at += 1;
        self.state = State::String;
        Ok(())
    }

    /// Reads on in a string until its end or the end of the chunk.
    pub(super) fn string<S: Sink>(&mut self, cur: &mut Cursor<'_, S>) -> Result<(), MaskError> {
        while let Some(byte) = cur.peek() {
            if self.reading.escape != Escape::No {
                self.escaped(cur, byte)?;
                continue;
            }
            if self.reading.cut.missing > 0 {
                self.continue_cut(cur, byte)?;
                continue;
            }
            let run = scan::plain(cur.rest());
            if run > 0 {
                self.content(cur, run);
                continue;
            }
            match byte {
                b'"' => return self.end_string(cur),
                b'\\' => {
                    self.spelling();
                    self.reading.escape = Escape::Slash { high: None };
                    cur.at += 1;
                }
                0x80.. => self.not_ascii(cur)?,
                _ => return Err(self.wrong(cur, Syntax::Control)),
            }
        }
        Ok(())
    }

    fn end_string<S: Sink>(&mut self, cur: &mut Cursor<'_, S>) -> Result<(), MaskError> {
        self.spelling();
        cur.at += 1;
        if self.reading.is_key {
            self.end_key(cur, None);
            Ok(())
        } else {
            self.end_scalar(cur, super::buffer::Kind::Text, None)
        }
    }

    /// Takes the next `count` bytes as content that means itself.
    fn content<S: Sink>(&mut self, cur: &mut Cursor<'_, S>, count: usize) {
        let bytes = cur.rest().get(..count).unwrap_or(&[]);
        match self.reading.reader {
            Reader::Nobody => {}
            Reader::Key => self.key.push(bytes),
            Reader::Scalar => self.scalar.plain(bytes),
        }
        cur.at += count;
        self.check_long_key(cur);
    }

    /// A byte of an escape or a quote.
    fn spelling(&mut self) {
        if self.reading.reader == Reader::Scalar {
            self.scalar.spelling(1);
        }
    }

    /// A character that an escape stands for.
    fn meaning<S: Sink>(&mut self, cur: &mut Cursor<'_, S>, c: char) {
        let mut room = [0; 4];
        let bytes = c.encode_utf8(&mut room).as_bytes();
        match self.reading.reader {
            Reader::Nobody => {}
            Reader::Key => self.key.push(bytes),
            Reader::Scalar => self.scalar.decoded(bytes),
        }
        self.check_long_key(cur);
    }

    fn escaped<S: Sink>(&mut self, cur: &mut Cursor<'_, S>, byte: u8) -> Result<(), MaskError> {
        let next = match self.reading.escape {
            Escape::No => Escape::No,
            Escape::Pair { high } if byte == b'\\' => Escape::Slash { high: Some(high) },
            Escape::Pair { .. } => return Err(self.wrong(cur, Syntax::Surrogate)),
            Escape::Slash { high } if byte == b'u' => Escape::Hex { high, value: 0, count: 0 },
            Escape::Slash { high: Some(_) } => return Err(self.wrong(cur, Syntax::Surrogate)),
            Escape::Slash { high: None } => {
                let c = simple(byte).ok_or_else(|| self.wrong(cur, Syntax::Escape))?;
                self.meaning(cur, c);
                Escape::No
            }
            Escape::Hex { high, value, count } => {
                let digit =
                    char::from(byte).to_digit(16).and_then(|digit| u16::try_from(digit).ok());
                let digit = digit.ok_or_else(|| self.wrong(cur, Syntax::Escape))?;
                let value = value << 4 | digit;
                if count < 3 {
                    Escape::Hex { high, value, count: count + 1 }
                } else {
                    self.unit(cur, high, value)?
                }
            }
        };
        self.reading.escape = next;
        self.spelling();
        cur.at += 1;
        Ok(())
    }

    /// A whole UTF-16 unit has been read.
    fn unit<S: Sink>(
        &mut self,
        cur: &mut Cursor<'_, S>,
        high: Option<u16>,
        value: u16,
    ) -> Result<Escape, MaskError> {
        let c = match (high, value) {
            (None, 0xd800..=0xdbff) => return Ok(Escape::Pair { high: value }),
            (Some(high), 0xdc00..=0xdfff) => char::from_u32(
                0x1_0000 + ((u32::from(high) & 0x3ff) << 10) + (u32::from(value) & 0x3ff),
            ),
            (Some(_), _) => None,
            (None, value) => char::from_u32(u32::from(value)),
        };
        let c = c.ok_or_else(|| self.wrong(cur, Syntax::Surrogate))?;
        self.meaning(cur, c);
        Ok(Escape::No)
    }

    fn not_ascii<S: Sink>(&mut self, cur: &mut Cursor<'_, S>) -> Result<(), MaskError> {
        let rest = cur.rest();
        let run = scan::not_ascii(rest);
        let (valid, cut) = match core::str::from_utf8(rest.get(..run).unwrap_or(&[])) {
            Ok(text) => (text.len(), false),
            // Only a sequence cut by the end of the chunk may go on in the next one.
            Err(error) if error.error_len().is_none() && run == rest.len() => {
                (error.valid_up_to(), true)
            }
            Err(error) => {
                cur.at += error.valid_up_to();
                return Err(self.wrong(cur, Syntax::Utf8));
            }
        };
        self.content(cur, valid);
        if cut && let Some(lead) = cur.peek() {
            self.reading.cut = lead_of(lead);
            self.content(cur, 1);
        }
        Ok(())
    }

    fn continue_cut<S: Sink>(
        &mut self,
        cur: &mut Cursor<'_, S>,
        byte: u8,
    ) -> Result<(), MaskError> {
        let cut = self.reading.cut;
        if !(cut.low..=cut.high).contains(&byte) {
            // The sequence is at fault from its lead byte on, wherever the chunk was cut.
            let offset = self.offset(cur) - u64::from(cut.read);
            return Err(MaskError::Syntax { rule: Syntax::Utf8, offset });
        }
        self.reading.cut =
            Cut { read: cut.read + 1, missing: cut.missing - 1, low: 0x80, high: 0xbf };
        self.content(cur, 1);
        Ok(())
    }
}

/// The string at the start up to its quote, if it ends there, is UTF-8 and has no escape.
fn whole(bytes: &[u8]) -> Option<&str> {
    let mut end = scan::plain(bytes);
    while let Some(byte) = bytes.get(end) {
        match byte {
            b'"' => return core::str::from_utf8(bytes.get(..end)?).ok(),
            0x80.. => {
                end += scan::not_ascii(bytes.get(end..)?);
                end += scan::plain(bytes.get(end..)?);
            }
            _ => return None,
        }
    }
    None
}

/// What must follow a lead byte that the standard library found to start a valid sequence.
fn lead_of(lead: u8) -> Cut {
    let (missing, low, high) = match lead {
        0xe0 => (2, 0xa0, 0xbf),
        0xed => (2, 0x80, 0x9f),
        0xe1..=0xef => (2, 0x80, 0xbf),
        0xf0 => (3, 0x90, 0xbf),
        0xf4 => (3, 0x80, 0x8f),
        0xf1..=0xf3 => (3, 0x80, 0xbf),
        _ => (1, 0x80, 0xbf),
    };
    Cut { read: 1, missing, low, high }
}

/// The two-character escapes of RFC 8259 §7.
fn simple(byte: u8) -> Option<char> {
    Some(match byte {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        _ => return None,
    })
}
