//! Server-sent events whose data is JSON (WHATWG HTML, 9.2.6). Comments are left out. The other fields
//! of an event pass if they are short labels without many digits; what else they are is refused, since
//! no rule can name them.

use super::{BodyError, Context, EVENT_BYTES_MAX, PART_BYTES_MAX, gather};
use crate::capture::{Capture, Captures};

/// Longest label, in bytes, and most digits in it: fewer than a card or an identity number has.
const LABEL_BYTES_MAX: usize = 64;
const LABEL_DIGITS_MAX: usize = 10;

pub(super) struct Events {
    context: Context,
    line: Vec<u8>,
    /// Whether the last byte was a carriage return, so that a line feed belongs to it.
    after_return: bool,
    data: Vec<u8>,
    has_data: bool,
    captures: Vec<Capture>,
    read: u64,
}

impl Events {
    pub(super) fn new(context: Context) -> Events {
        Events {
            context,
            line: Vec::new(),
            after_return: false,
            data: Vec::new(),
            has_data: false,
            captures: Vec::new(),
            read: 0,
        }
    }

    pub(super) fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), BodyError> {
        let mut rest = chunk;
        while let Some(first) = rest.first() {
            if core::mem::take(&mut self.after_return) && *first == b'\n' {
                rest = rest.get(1..).unwrap_or(&[]);
                self.read += 1;
                continue;
            }
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (part, after) = rest.split_at(end.unwrap_or(rest.len()));
            self.line.extend_from_slice(part);
            self.read += part.len() as u64;
            if self.line.len() > PART_BYTES_MAX.max(EVENT_BYTES_MAX) {
                return Err(self.broken("a line is too long"));
            }
            if let Some((end, after)) = after.split_first() {
                self.after_return = *end == b'\r';
                self.read += 1;
                self.end_line(out)?;
                rest = after;
            } else {
                rest = after;
            }
        }
        Ok(())
    }

    fn broken(&self, rule: &'static str) -> BodyError {
        BodyError::Broken { rule, offset: self.read }
    }

    fn end_line(&mut self, out: &mut Vec<u8>) -> Result<(), BodyError> {
        let line = core::mem::take(&mut self.line);
        let line = line.as_slice();
        if line.is_empty() {
            return self.end_event(out);
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or(&[]);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"" => {}
            b"data" => {
                if core::mem::replace(&mut self.has_data, true) {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
                if self.data.len() > EVENT_BYTES_MAX {
                    return Err(self.broken("the data of an event is too long"));
                }
            }
            b"event" | b"id" | b"retry" if is_label(value) => {
                out.extend_from_slice(name);
                out.extend_from_slice(b": ");
                out.extend_from_slice(value);
                out.push(b'\n');
            }
            _ => return Err(self.broken("a field of an event is no short label")),
        }
        Ok(())
    }

    fn end_event(&mut self, out: &mut Vec<u8>) -> Result<(), BodyError> {
        if core::mem::take(&mut self.has_data) {
            let data = core::mem::take(&mut self.data);
            let mut masked = Vec::with_capacity(data.len());
            let mut machine = self.context.machine();
            machine.push(&data, &mut masked)?;
            gather(&mut self.captures, machine.finish(&mut masked)?, self.read)?;
            for line in masked.split(|byte| matches!(byte, b'\n' | b'\r')) {
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(line);
                out.push(b'\n');
            }
        }
        out.push(b'\n');
        Ok(())
    }

    /// What follows the last blank line is no event, and is left out (WHATWG HTML, 9.2.6).
    pub(super) fn finish(self, _out: &mut [u8]) -> Result<Captures, BodyError> {
        Ok(Captures::new(self.captures))
    }
}

fn is_label(value: &[u8]) -> bool {
    let fine = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/ ".contains(byte);
    let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
    value.len() <= LABEL_BYTES_MAX && digits <= LABEL_DIGITS_MAX && value.iter().all(fine)
}
