//! The guard on the upstream's side.

use core::fmt;

use moat_model::Code;
use moat_model::code::upstream;
use moat_model::limit::INTERIM_ANSWERS_MAX;

use super::body::Body;
use super::bytes::Cursor;
use super::fields::Split;
use super::head::AnswerHead;
use super::section::{Event, Kind, Section};
use super::{Fault, Framing, Limits, Refused, Sink, fault};

/// Reads the answers on one connection to an upstream: one request, one answer, then the next.
///
/// A refusal has the code `MOAT-U006`, whatever was wrong, for to the caller it is the upstream's
/// doing; `why` tells more. An end that comes too early has `MOAT-U004`. An adapter calls
/// [`expect`](ResponseGuard::expect) before it sends a request, and puts the connection back only
/// if it [`is_reusable`](ResponseGuard::is_reusable).
#[derive(Debug)]
pub struct ResponseGuard {
    limits: Limits,
    state: State,
    section: Section,
    head: AnswerHead,
    to_head: bool,
    interim: u8,
    framing: Framing,
    persists: bool,
    /// A head has just come out, or a message has just ended: `read` stops there.
    paused: bool,
    leftover: bool,
    answers: u64,
    steps: u64,
}

/// The connection cannot carry another request: an answer is still awaited or under way, or the
/// last one ended the connection, or was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotReusable;

impl fmt::Display for NotReusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection cannot carry another request")
    }
}

impl core::error::Error for NotReusable {}

#[derive(Debug)]
enum State {
    /// No answer is awaited: whatever comes is left over.
    Quiet,
    Head,
    Body(Body),
    Refused(Refused),
}

impl ResponseGuard {
    /// A guard at the start of a connection, awaiting nothing.
    #[must_use]
    pub fn new(limits: Limits) -> ResponseGuard {
        ResponseGuard {
            limits,
            state: State::Quiet,
            section: Section::new(Kind::Answer, limits),
            head: AnswerHead::default(),
            to_head: false,
            interim: 0,
            framing: Framing::None,
            persists: true,
            paused: false,
            leftover: false,
            answers: 0,
            steps: 0,
        }
    }

    /// A request with this method is about to be sent; its answer comes next.
    ///
    /// # Errors
    ///
    /// The connection cannot carry another request; nothing has changed.
    pub fn expect(&mut self, method: &str) -> Result<(), NotReusable> {
        if !self.is_reusable() {
            return Err(NotReusable);
        }
        self.to_head = method == "HEAD";
        self.interim = 0;
        self.answers += 1;
        self.head = AnswerHead::default();
        self.state = State::Head;
        Ok(())
    }

    /// Reads on, and appends to `out` what may be released.
    ///
    /// # Errors
    ///
    /// The first violation, and the same again at every further call. `out` then ends with the
    /// last bytes that were accepted before it: a complete answer if bytes were left over.
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

    /// Reads on as [`feed`](ResponseGuard::feed) does, but no further than behind the final head,
    /// or behind the end of the answer. Gives how many bytes were taken.
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
            fed = self
                .step(&mut input, out)
                .map_err(|fault| self.refuse(&upstream::BAD_ANSWER, fault.why));
        }
        self.steps = self.steps.saturating_add(input.steps());
        fed.map(|()| length - input.left())
    }

    /// The status of the answer whose head was accepted last; 0 before the first.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    /// The connection has ended, which completes an answer that is read until then.
    ///
    /// # Errors
    ///
    /// The earlier violation, or that the connection ended before or within an answer.
    pub fn end(&mut self) -> Result<(), Refused> {
        let why = match &self.state {
            State::Refused(refused) => return Err(*refused),
            State::Quiet | State::Body(Body::UntilClose) => {
                self.persists = false;
                self.state = State::Quiet;
                return Ok(());
            }
            State::Head if self.section.held_bytes() == 0 => "connection ended before the answer",
            State::Head => "connection ended within a head",
            State::Body(_) => "connection ended within a body",
        };
        Err(self.refuse(&upstream::BROKEN, why))
    }

    /// Whether no answer is awaited or under way.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::Quiet)
    }

    /// Whether the connection may carry another request.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        self.is_complete() && self.persists
    }

    /// Whether the answer ends only with the connection, which is then never reused.
    #[must_use]
    pub fn until_close(&self) -> bool {
        self.framing == Framing::UntilClose
    }

    /// Whether bytes came that belong to no awaited answer.
    #[must_use]
    pub fn leftover(&self) -> bool {
        self.leftover
    }

    /// Whether a final head was accepted whose body is still coming.
    #[must_use]
    pub fn in_body(&self) -> bool {
        matches!(self.state, State::Body(_))
    }

    /// How the answer whose head was accepted last ends.
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.framing
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
            State::Quiet => {
                self.leftover = true;
                fault(&upstream::BAD_ANSWER, "bytes left over after a complete answer")
            }
            State::Head => self.read_head(input, out),
            State::Body(body) => {
                if body.feed(input, out)? {
                    self.paused = true;
                    self.state = State::Quiet;
                }
                Ok(())
            }
            State::Refused(refused) => fault(refused.code, refused.why),
        }
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
                let head = self.head.end(self.to_head)?;
                if self.head.is_interim() {
                    return self.read_interim(out);
                }
                self.section.release(|lines| out.head(lines));
                self.paused = true;
                self.framing = head.framing;
                self.persists = head.persists;
                self.state = match Body::new(head.framing, self.limits) {
                    Some(body) => State::Body(body),
                    None => State::Quiet,
                };
                Ok(())
            }
        }
    }

    /// The final answer is still to come.
    fn read_interim(&mut self, out: &mut impl Sink) -> Result<(), Fault> {
        self.interim = self.interim.saturating_add(1);
        if self.interim > INTERIM_ANSWERS_MAX {
            return fault(&upstream::BAD_ANSWER, "too many interim answers");
        }
        self.section.release(|lines| out.interim(lines));
        self.head = AnswerHead::default();
        Ok(())
    }

    fn refuse(&mut self, code: &'static Code, why: &'static str) -> Refused {
        let refused = Refused {
            code,
            message_index: self.answers.saturating_sub(1),
            in_body: self.in_body(),
            why,
        };
        self.section.discard();
        self.state = State::Refused(refused);
        refused
    }
}
