//! A JSON document a line.

use super::{BodyError, Context, gather};
use crate::capture::{Capture, Captures};
use crate::machine::Machine;

/// See the module's text. A line feed cannot stand within a JSON string, so lines are cut there.
pub(super) struct Lines {
    context: Context,
    /// The document being read, if the line has anything in it.
    machine: Option<Machine>,
    captures: Vec<Capture>,
    read: u64,
}

impl Lines {
    pub(super) fn new(context: Context) -> Lines {
        Lines { context, machine: None, captures: Vec::new(), read: 0 }
    }

    pub(super) fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), BodyError> {
        for line in chunk.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match line.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (line, false),
            };
            self.part(text, out)?;
            self.read += line.len() as u64;
            if ends {
                self.end(out)?;
                out.push(b'\n');
            }
        }
        Ok(())
    }

    fn part(&mut self, text: &[u8], out: &mut Vec<u8>) -> Result<(), BodyError> {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r');
        if self.machine.is_none() && text.iter().all(is_blank) {
            out.extend_from_slice(text);
            return Ok(());
        }
        let machine = self.machine.get_or_insert_with(|| self.context.machine());
        Ok(machine.push(text, out)?)
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), BodyError> {
        match self.machine.take() {
            Some(machine) => gather(&mut self.captures, machine.finish(out)?, self.read),
            None => Ok(()),
        }
    }

    pub(super) fn finish(mut self, out: &mut Vec<u8>) -> Result<Captures, BodyError> {
        self.end(out)?;
        Ok(Captures::new(self.captures))
    }
}
