//! The guard on the caller's side.

use moat_model::code::http;

use super::body::Body;
use super::bytes::Cursor;
use super::fields::Split;
use super::head::RequestHead;
use super::section::{Event, Kind, Section};
use super::{Fault, Framing, Limits, Refused, Sink, fault};

/// Reads the requests of one connection, pipelined ones included.
///
/// An adapter reads from the socket, calls [`feed`](RequestGuard::feed) and gives hyper what was
/// put into `out`, also when `feed` refused: those bytes stand before the violation and belong to
/// messages that may still be answered. After the refusal it gives hyper nothing more, neither
/// bytes nor an end, until the answers to those messages are written; then it may send its own.
#[derive(Debug)]
pub struct RequestGuard {
    limits: Limits,
    state: State,
    section: Section,
    head: RequestHead,
    framing: Framing,
    persists: bool,
    /// A head has just come out, or a message has just ended: `read` stops there.
    paused: bool,
    messages: u64,
    steps: u64,
}

#[derive(Debug)]
enum State {
    Between(Blank),
    Head,
    Body(Body),
    Refused(Refused),
}

/// How much of the one empty line before a request line was read (RFC 9112 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blank {
    None,
    Cr,
    Line,
}

impl RequestGuard {
    /// A guard at the start of a connection.
    #[must_use]
    pub fn new(limits: Limits) -> RequestGuard {
        RequestGuard {
            limits,
            state: State::Between(Blank::None),
            section: Section::new(Kind::Request, limits),
            head: RequestHead::default(),
            framing: Framing::None,
            persists: true,
            paused: false,
            messages: 0,
            steps: 0,
        }
    }

    /// Reads on, and appends to `out` what may be released.
    ///
    /// Input and output are the same bytes, but for one empty line before a request line, which is
    /// swallowed. What is held back comes out of a later call.
    ///
    /// # Errors
    ///
    /// The first violation, and the same again at every further call. `out` then ends with the
    /// last bytes that were accepted before it.
    pub fn feed(&mut self, input: &[u8], out: &mut impl Sink) -> Result<(), Refused> {
        let mut rest = input;
        loop {
            let used = self.read(rest, out)?;
            rest = rest.get(used..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Reads on as [`feed`](RequestGuard::feed) does, but no further than behind the next head, or
    /// behind the end of the message. Gives how many bytes were taken.
    ///
    /// # Errors
    ///
    /// As of `feed`.
    pub fn read(&mut self, input: &[u8], out: &mut impl Sink) -> Result<usize, Refused> {
        let length = input.len();
        let mut input = Cursor::new(input);
        let mut fed = self.refused().map_or(Ok(()), |refused| Err(*refused));
        self.paused = false;
        while fed.is_ok() && !input.is_empty() && !self.paused {
            fed = self.step(&mut input, out).map_err(|fault| self.refuse(fault));
        }
        self.steps = self.steps.saturating_add(input.steps());
        fed.map(|()| length - input.left())
    }

    /// The connection has ended.
    ///
    /// # Errors
    ///
    /// The earlier violation, or that the connection ended within a message.
    pub fn end(&mut self) -> Result<(), Refused> {
        let (code, why) = match &self.state {
            State::Refused(refused) => return Err(*refused),
            State::Between(_) => return Ok(()),
            State::Head => (&http::MALFORMED_HEAD, "connection ended within a head"),
            State::Body(_) => (&http::BODY_BROKEN, "connection ended within a body"),
        };
        Err(self.refuse(Fault { code, why }))
    }

    /// How many messages have begun: those whose request line has its first byte.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Nothing of a further message has come: the idle time-out applies.
    #[must_use]
    pub fn at_message_boundary(&self) -> bool {
        matches!(self.state, State::Between(Blank::None))
    }

    /// A head is under way, be it only the empty line before it: the header time-out applies.
    #[must_use]
    pub fn head_started(&self) -> bool {
        matches!(self.state, State::Head | State::Between(Blank::Cr | Blank::Line))
    }

    /// The number of the message, from 0, that a head under way belongs to.
    #[must_use]
    pub fn head_index(&self) -> Option<u64> {
        match self.state {
            State::Head => Some(self.messages.saturating_sub(1)),
            State::Between(Blank::Cr | Blank::Line) => Some(self.messages),
            State::Between(Blank::None) | State::Body(_) | State::Refused(_) => None,
        }
    }

    /// A body is under way: the body time-outs apply.
    #[must_use]
    pub fn in_body(&self) -> bool {
        matches!(self.state, State::Body(_))
    }

    /// How the message whose head was accepted last ends.
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether another request may follow the one whose head was accepted last.
    #[must_use]
    pub fn persists(&self) -> bool {
        self.persists
    }

    /// The violation, if there was one.
    #[must_use]
    pub fn refused(&self) -> Option<&Refused> {
        match &self.state {
            State::Refused(refused) => Some(refused),
            _ => None,
        }
    }

    /// Bytes held back now.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        match &self.state {
            State::Body(body) => body.held_bytes(),
            _ => self.section.held_bytes(),
        }
    }

    /// Work done so far: looks at single bytes, and copies of whole slices.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    fn step(&mut self, input: &mut Cursor<'_>, out: &mut impl Sink) -> Result<(), Fault> {
        match &mut self.state {
            State::Between(blank) => {
                let blank = *blank;
                self.between(blank, input)
            }
            State::Head => self.read_head(input, out),
            State::Body(body) => {
                if body.feed(input, out)? {
                    self.paused = true;
                    self.state = State::Between(Blank::None);
                }
                Ok(())
            }
            State::Refused(refused) => fault(refused.code, refused.why),
        }
    }

    fn between(&mut self, blank: Blank, input: &mut Cursor<'_>) -> Result<(), Fault> {
        let Some(byte) = input.peek() else { return Ok(()) };
        self.state = match (blank, byte) {
            (Blank::None, b'\r') => State::Between(Blank::Cr),
            (Blank::Cr, b'\n') => State::Between(Blank::Line),
            (Blank::Cr, _) => return fault(&http::BARE_CR_LF, "CR without LF"),
            (Blank::Line, b'\r') => {
                return fault(&http::MALFORMED_HEAD, "more than one empty line before a request");
            }
            (Blank::None | Blank::Line, _) => return self.begin(),
        };
        input.byte();
        Ok(())
    }

    /// The next byte belongs to a request line.
    fn begin(&mut self) -> Result<(), Fault> {
        if !self.persists {
            // RFC 9112 §9.6: after `close` no further request may be read.
            return fault(&http::AFTER_CLOSE, "bytes after the last message");
        }
        self.messages += 1;
        self.head = RequestHead::default();
        self.state = State::Head;
        Ok(())
    }

    fn read_head(&mut self, input: &mut Cursor<'_>, out: &mut impl Sink) -> Result<(), Fault> {
        match self.section.next(input)? {
            Event::More => Ok(()),
            Event::Start => self.head.start(self.section.line()),
            Event::Field => {
                let Split { name, value, value_at } = self.head.field(self.section.line())?;
                let (name, value) = (name.len(), value.len());
                self.section.note(name, value_at, value);
                Ok(())
            }
            Event::End => {
                let head = self.head.end()?;
                self.section.release(|lines| out.head(lines));
                self.paused = true;
                self.framing = head.framing;
                self.persists = head.persists;
                self.state = match Body::new(head.framing, self.limits) {
                    Some(body) => State::Body(body),
                    None => State::Between(Blank::None),
                };
                Ok(())
            }
        }
    }

    fn refuse(&mut self, fault: Fault) -> Refused {
        let begun = matches!(self.state, State::Head | State::Body(_));
        let refused = Refused {
            code: fault.code,
            message_index: if begun { self.messages.saturating_sub(1) } else { self.messages },
            in_body: matches!(self.state, State::Body(_)),
            why: fault.why,
        };
        self.section.discard();
        self.state = State::Refused(refused);
        refused
    }
}
