//! The lines of a head or of a trailer section, held until the section is complete.
//!
//! Byte by byte, so that a violation is seen as soon as it stands there and the same however the
//! input was cut. Knows lines and bounds; what a line says is read by `head` and `fields`.

use moat_model::code::http;

use super::bytes::Cursor;
use super::{Fault, Limits, Lines, Place, fault};

/// Most bytes of memory that an idle guard keeps for the next head.
const HELD_IDLE_BYTES_MAX: usize = 2 * 1024;
/// Most places of fields for which it keeps room.
const PLACES_IDLE_MAX: usize = 16;

/// What kind of first line a section has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A request line, whose target has a bound of its own.
    Request,
    /// A status line.
    Answer,
    /// None: fields only.
    Trailers,
}

/// What `next` came upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The input ended first.
    More,
    /// The start line is complete.
    Start,
    /// A field line is complete.
    Field,
    /// The empty line: the section is complete.
    End,
}

/// A head or trailer section in the making.
#[derive(Debug)]
pub(super) struct Section {
    kind: Kind,
    limits: Limits,
    held: Vec<u8>,
    line_start: usize,
    line_done: bool,
    after_cr: bool,
    lines: usize,
    /// Where the start line ends, and where the fields of the lines that were accepted stand.
    start_end: usize,
    places: Vec<Place>,
    /// Spaces seen in the start line, and bytes after the first of them: the target.
    spaces: u8,
    target_bytes: usize,
}

impl Section {
    pub(super) fn new(kind: Kind, limits: Limits) -> Section {
        Section {
            kind,
            limits,
            held: Vec::new(),
            line_start: 0,
            line_done: false,
            after_cr: false,
            lines: 0,
            start_end: 0,
            places: Vec::new(),
            spaces: 0,
            target_bytes: 0,
        }
    }

    /// Bytes held back.
    pub(super) fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Reads on to the end of the next line.
    pub(super) fn next(&mut self, input: &mut Cursor<'_>) -> Result<Event, Fault> {
        if self.line_done {
            self.line_done = false;
            self.line_start = self.held.len();
            self.lines += 1;
        }
        loop {
            self.take_plain(input);
            let Some(byte) = input.byte() else { break };
            self.take(byte)?;
            if self.line_done {
                let event = self.event();
                if event == Event::Start {
                    self.start_end = self.held.len().saturating_sub(2);
                }
                input.count(self.line().len());
                return Ok(event);
            }
        }
        Ok(Event::More)
    }

    /// The line that was just completed, without CR LF.
    pub(super) fn line(&self) -> &[u8] {
        let end = self.held.len().saturating_sub(2);
        self.held.get(self.line_start..end).unwrap_or_default()
    }

    /// Notes that the line that was just completed is this field.
    pub(super) fn note(&mut self, name_bytes: usize, value_at: usize, value_bytes: usize) {
        let name = self.line_start..self.line_start + name_bytes;
        let value_start = self.line_start + value_at;
        self.places.push(Place { name, value: value_start..value_start + value_bytes });
    }

    /// Hands out what was held and starts anew.
    pub(super) fn release(&mut self, take: impl FnOnce(Lines<'_>)) {
        let start = if self.has_start_line() { 0..self.start_end } else { 0..0 };
        take(Lines { bytes: &self.held, start, places: &self.places });
        self.held.clear();
        self.restart();
    }

    /// Forgets what was held.
    pub(super) fn discard(&mut self) {
        self.held.clear();
        self.restart();
    }

    fn restart(&mut self) {
        self.held.shrink_to(HELD_IDLE_BYTES_MAX);
        self.places.clear();
        self.places.shrink_to(PLACES_IDLE_MAX);
        self.start_end = 0;
        self.line_start = 0;
        self.line_done = false;
        self.after_cr = false;
        self.lines = 0;
        self.spaces = 0;
        self.target_bytes = 0;
    }

    fn has_start_line(&self) -> bool {
        self.kind != Kind::Trailers
    }

    fn in_start_line(&self) -> bool {
        self.has_start_line() && self.lines == 0
    }

    fn event(&self) -> Event {
        if self.in_start_line() {
            Event::Start
        } else if self.line().is_empty() {
            Event::End
        } else {
            Event::Field
        }
    }

    /// Takes what needs no look of its own: the rest of a field line up to a control character.
    fn take_plain(&mut self, input: &mut Cursor<'_>) {
        let within_field = self.held.len() > self.line_start && !self.in_start_line();
        if within_field && !self.after_cr {
            let room = self.limits.head_bytes_max.saturating_sub(self.held.len());
            self.held.extend_from_slice(input.plain(room));
        }
    }

    fn take(&mut self, byte: u8) -> Result<(), Fault> {
        if self.held.len() >= self.limits.head_bytes_max {
            return fault(&http::HEAD_TOO_LONG, "section is longer than its bound");
        }
        if self.after_cr {
            if byte != b'\n' {
                return fault(&http::BARE_CR_LF, "CR without LF");
            }
            self.after_cr = false;
            self.line_done = true;
        } else {
            self.check(byte)?;
            self.after_cr = byte == b'\r';
        }
        self.held.push(byte);
        Ok(())
    }

    /// Bytes that no line may hold, and those that none may begin with.
    fn check(&mut self, byte: u8) -> Result<(), Fault> {
        match byte {
            b'\r' => return Ok(()),
            b'\n' => return fault(&http::BARE_CR_LF, "LF without CR"),
            0 => return fault(&http::BARE_CR_LF, "NUL"),
            b'\t' => {}
            ..=0x1f | 0x7f => return fault(&http::MALFORMED_HEAD, "control character"),
            _ => {}
        }
        if self.in_start_line() {
            return self.check_target(byte);
        }
        if self.held.len() == self.line_start {
            if matches!(byte, b' ' | b'\t') {
                // RFC 9112 §5.2, and §2.2 for the line after the start line.
                return fault(&http::FOLDED_LINE, "line begins with white space");
            }
            let fields = self.lines - usize::from(self.has_start_line());
            if fields >= self.limits.head_fields_max {
                return fault(&http::HEAD_TOO_LONG, "more fields than the bound");
            }
        }
        Ok(())
    }

    /// Bounds the target while it arrives: 414 must not wait for a line end that never comes.
    fn check_target(&mut self, byte: u8) -> Result<(), Fault> {
        if self.kind != Kind::Request {
            return Ok(());
        }
        if byte == b' ' {
            self.spaces = self.spaces.saturating_add(1);
        } else if self.spaces == 1 {
            self.target_bytes += 1;
            if self.target_bytes > self.limits.target_bytes_max {
                return fault(&http::TARGET_TOO_LONG, "request target is longer than its bound");
            }
        }
        Ok(())
    }
}
