//! CSV with names in its first record (RFC 4180): comma, quotes doubled within quotes, records end
//! with a line feed, with or without a carriage return. A record with more fields than there are
//! names is refused, since nobody could say what they are.

use super::fields::{Fate, Fields, Named};
use super::{BodyError, COLUMNS_MAX, Context, PART_BYTES_MAX};
use crate::capture::Captures;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the start of a field.
    Start,
    Plain,
    Quoted,
    /// After a quote in a quoted field: its end, or the first of two.
    Quote,
    /// After a carriage return outside quotes.
    Return,
}

pub(super) struct Csv {
    fields: Fields,
    columns: Vec<Named>,
    has_names: bool,
    state: State,
    /// The field as it stands, and its meaning.
    raw: Vec<u8>,
    text: Vec<u8>,
    column: usize,
    read: u64,
}

impl Csv {
    pub(super) fn new(context: Context) -> Csv {
        Csv {
            fields: Fields::new(context),
            columns: Vec::new(),
            has_names: false,
            state: State::Start,
            raw: Vec::new(),
            text: Vec::new(),
            column: 0,
            read: 0,
        }
    }

    pub(super) fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), BodyError> {
        for byte in chunk {
            self.byte(*byte, out)?;
            self.read += 1;
        }
        Ok(())
    }

    fn broken(&self, rule: &'static str) -> BodyError {
        BodyError::Broken { rule, offset: self.read }
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), BodyError> {
        self.state = match (self.state, byte) {
            (State::Return, b'\n') => return self.end_record(b"\r\n", out),
            (State::Return, _) => return Err(self.broken("a carriage return without a line feed")),
            (State::Quoted, b'"') => State::Quote,
            (State::Quoted, _) => {
                self.text.push(byte);
                State::Quoted
            }
            (State::Quote, b'"') => {
                self.text.push(b'"');
                State::Quoted
            }
            (_, b',') => return self.end_field(out),
            (_, b'\n') => return self.end_record(b"\n", out),
            (_, b'\r') => {
                self.state = State::Return;
                return Ok(());
            }
            (State::Quote, _) => return Err(self.broken("data after a closing quote")),
            (State::Start, b'"') => State::Quoted,
            (_, b'"') => return Err(self.broken("a quote in a field without quotes")),
            _ => {
                self.text.push(byte);
                State::Plain
            }
        };
        self.raw.push(byte);
        if self.raw.len() > PART_BYTES_MAX {
            return Err(self.broken("a field is too long"));
        }
        Ok(())
    }

    fn end_field(&mut self, out: &mut Vec<u8>) -> Result<(), BodyError> {
        self.field(out)?;
        self.column += 1;
        Ok(())
    }

    fn field(&mut self, out: &mut Vec<u8>) -> Result<(), BodyError> {
        self.state = State::Start;
        let (raw, text) = (core::mem::take(&mut self.raw), core::mem::take(&mut self.text));
        let Ok(text) = String::from_utf8(text) else {
            return Err(self.broken("a field is not UTF-8"));
        };
        let fate = if self.has_names {
            let Some(named) = self.columns.get(self.column) else {
                return Err(self.broken("a record has more fields than there are names"));
            };
            self.fields.value(named, &text, self.read)?
        } else {
            if self.columns.len() >= COLUMNS_MAX {
                return Err(self.broken("there are too many columns"));
            }
            // Another separator would make one column of all, which no rule names.
            if text.contains([';', '\t', '|']) {
                return Err(self.broken("names are not separated by commas"));
            }
            let name = text.trim_start_matches('\u{feff}').trim();
            self.columns.push(self.fields.named(name));
            Fate::Stays
        };
        // A column that leaves stays as an empty field: the others must keep their places.
        if self.column > 0 {
            out.push(b',');
        }
        match fate {
            Fate::Stays => out.extend_from_slice(&raw),
            Fate::Shown(shown) => quoted(&shown, out),
            Fate::Leaves => {}
        }
        Ok(())
    }

    fn end_record(&mut self, end: &[u8], out: &mut Vec<u8>) -> Result<(), BodyError> {
        let is_blank = self.column == 0 && self.raw.is_empty();
        if is_blank && self.has_names {
            self.state = State::Start;
        } else {
            self.field(out)?;
            self.has_names = true;
        }
        out.extend_from_slice(end);
        self.column = 0;
        Ok(())
    }

    pub(super) fn finish(mut self, out: &mut Vec<u8>) -> Result<Captures, BodyError> {
        match self.state {
            State::Quoted => return Err(self.broken("the last field has no closing quote")),
            State::Return => return Err(self.broken("a carriage return without a line feed")),
            State::Start if self.column == 0 && self.raw.is_empty() => {}
            _ => self.end_record(b"", out)?,
        }
        Ok(self.fields.finish())
    }
}

fn quoted(text: &str, out: &mut Vec<u8>) {
    if !text.contains([',', '"', '\n', '\r']) {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}
