//! Form fields (WHATWG URL, 5.1): pairs between `&`, names and values percent-encoded.

use super::fields::{Fate, Fields};
use super::{BodyError, Context, PART_BYTES_MAX};
use crate::capture::Captures;

pub(super) struct Form {
    fields: Fields,
    pair: Vec<u8>,
    is_first: bool,
    read: u64,
}

impl Form {
    pub(super) fn new(context: Context) -> Form {
        Form { fields: Fields::new(context), pair: Vec::new(), is_first: true, read: 0 }
    }

    pub(super) fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), BodyError> {
        for part in chunk.split_inclusive(|byte| *byte == b'&') {
            let (text, ends) = match part.split_last() {
                Some((b'&', text)) => (text, true),
                _ => (part, false),
            };
            self.pair.extend_from_slice(text);
            if self.pair.len() > PART_BYTES_MAX {
                return Err(self.broken("a field is too long"));
            }
            self.read += part.len() as u64;
            if ends {
                self.end(out)?;
            }
        }
        Ok(())
    }

    fn broken(&self, rule: &'static str) -> BodyError {
        BodyError::Broken { rule, offset: self.read }
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), BodyError> {
        let pair = core::mem::take(&mut self.pair);
        if pair.is_empty() {
            return Ok(());
        }
        // Some services take it for `&`; whoever means it writes `%3B`.
        if pair.contains(&b';') {
            return Err(self.broken("a semicolon is not percent-encoded"));
        }
        let equals = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let (name, value) = pair.split_at(equals);
        let value = value.get(1..).unwrap_or(&[]);
        let (Some(plain_name), Some(text)) = (decoded(name), decoded(value)) else {
            return Err(self.broken("a field is not percent-encoded UTF-8"));
        };
        let named = self.fields.named(&plain_name);
        let fate = self.fields.value(&named, &text, self.read)?;
        if matches!(fate, Fate::Leaves) {
            return Ok(());
        }
        if !core::mem::replace(&mut self.is_first, false) {
            out.push(b'&');
        }
        match fate {
            Fate::Shown(shown) => {
                out.extend_from_slice(name);
                out.push(b'=');
                encode(&shown, out);
            }
            _ => out.extend_from_slice(&pair),
        }
        Ok(())
    }

    pub(super) fn finish(mut self, out: &mut Vec<u8>) -> Result<Captures, BodyError> {
        self.end(out)?;
        Ok(self.fields.finish())
    }
}

/// The meaning of a name or value; nothing if an escape is broken or the result is not UTF-8.
pub(super) fn decoded(text: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => u8::try_from((digit(bytes.next())? << 4) | digit(bytes.next())?).ok()?,
            other => *other,
        });
    }
    String::from_utf8(out).ok()
}

fn encode(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let hex = |nibble: u8| HEX.get(usize::from(nibble & 15)).copied().unwrap_or(b'0');
    for byte in text.bytes() {
        match byte {
            b' ' => out.push(b'+'),
            b'*' | b'-' | b'.' | b'_' => out.push(byte),
            _ if byte.is_ascii_alphanumeric() => out.push(byte),
            _ => out.extend_from_slice(&[b'%', hex(byte >> 4), hex(byte)]),
        }
    }
}
