//! The streaming machine behind [`crate::Rewriter`] and [`crate::Extractor`].
//!
//! One pass, one state, no look-ahead. Working memory: 65 state sets of at most 128 bytes, the path
//! (64 keys of at most 128 bytes, escaped), two buffers of 4 KiB for a matched scalar, and 4 KiB
//! for a member that may have to be dropped. Everything unmatched goes out as slices of the input.

use std::sync::Arc;

use moat_model::limit::JSON_DEPTH_MAX;

use crate::capture::{Capture, Captures};
use crate::error::{MaskError, Syntax};
use crate::plan::{Action, Plan};
use crate::rewriter::Anchors;
use crate::strategy::Strategy;

mod buffer;
mod emit;
mod member;
mod scan;
mod string;
mod token;

use buffer::{KeyBuffer, ScalarBuffer};
use string::Reading;
use token::{Literal, Number};

/// Where output goes.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Output nobody wants.
pub(crate) struct Nowhere;

impl Sink for Nowhere {
    fn put(&mut self, _bytes: &[u8]) {}
}

/// A place in the current chunk; `from..at` has been read and not yet been sent anywhere.
struct Cursor<'a, S> {
    chunk: &'a [u8],
    at: usize,
    from: usize,
    out: &'a mut S,
}

impl<'a, S> Cursor<'a, S> {
    fn peek(&self) -> Option<u8> {
        self.chunk.get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.chunk.get(self.at..).unwrap_or(&[])
    }

    fn pending(&self) -> &'a [u8] {
        self.chunk.get(self.from..self.at).unwrap_or(&[])
    }
}

/// What happens to bytes that have been read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    Forward,
    /// The start of a member that may have to be dropped.
    Hold,
    Discard,
}

/// What may come next.
#[derive(Clone, Copy)]
enum State {
    Value,
    FirstElement,
    FirstKey,
    Key,
    Colon,
    Comma,
    String,
    Number(Number),
    Literal(Literal),
    End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    Array,
    Object,
}

/// One open array or object.
struct Level {
    container: Container,
    /// Whether any rule can match at or below this level.
    live: bool,
    /// Whether a member of this object may have to be dropped.
    may_drop: bool,
    /// Whether a member of this object has been kept.
    kept: bool,
    /// Index of the next element of this array.
    index: u64,
    /// Length of the path of the container itself.
    path: usize,
}

/// See the module's text.
pub(crate) struct Machine {
    plan: Plan,
    rewriting: bool,
    anchors: Option<Arc<dyn Anchors>>,
    /// Bytes read in earlier chunks.
    before: u64,
    state: State,
    failed: Option<MaskError>,
    levels: Vec<Level>,
    /// State sets: that of each open container, then that of the value being read.
    sets: Vec<u64>,
    path: String,
    /// Whether any rule is alive at the value being read, and what those that end there say.
    live: bool,
    action: Action,
    key: KeyBuffer,
    key_resolved: bool,
    reading: Reading,
    scalar: ScalarBuffer,
    collecting: bool,
    replacing: bool,
    route: Route,
    hold: Vec<u8>,
    /// The depth of the value being dropped, if one is.
    dropping: Option<usize>,
    captures: Vec<Capture>,
}

impl Machine {
    pub(crate) fn new(plan: &Plan, rewriting: bool) -> Machine {
        let mut sets = vec![0; plan.width() * (JSON_DEPTH_MAX + 1)];
        let live = plan.start(&mut sets);
        let action = sets.get(..plan.width()).map(|root| plan.action(root));
        Machine {
            plan: plan.clone(),
            rewriting,
            anchors: None,
            before: 0,
            state: State::Value,
            failed: None,
            levels: Vec::with_capacity(JSON_DEPTH_MAX),
            sets,
            path: String::new(),
            live,
            action: action.unwrap_or_default(),
            key: KeyBuffer::default(),
            key_resolved: false,
            reading: Reading::new(),
            scalar: ScalarBuffer::default(),
            collecting: false,
            replacing: false,
            route: Route::Forward,
            hold: Vec::new(),
            dropping: None,
            captures: Vec::new(),
        }
    }

    pub(crate) fn set_anchors(&mut self, anchors: Arc<dyn Anchors>) {
        self.anchors = Some(anchors);
    }

    /// Reads a chunk. After an error every further call gives the same error.
    pub(crate) fn push<S: Sink>(&mut self, chunk: &[u8], out: &mut S) -> Result<(), MaskError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut cur = Cursor { chunk, at: 0, from: 0, out };
        let done = self.run(&mut cur);
        if let Err(error) = done {
            self.failed = Some(error);
            self.scalar.wipe();
            return Err(error);
        }
        self.flush(&mut cur);
        self.before += chunk.len() as u64;
        Ok(())
    }

    /// Ends the document.
    pub(crate) fn finish<S: Sink>(mut self, out: &mut S) -> Result<Captures, MaskError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut cur = Cursor { chunk: &[], at: 0, from: 0, out };
        if let State::Number(number) = self.state
            && number.complete()
            && self.levels.is_empty()
        {
            self.end_scalar(&mut cur, buffer::Kind::Number)?;
        }
        match self.state {
            State::End => Ok(Captures::new(core::mem::take(&mut self.captures))),
            _ => Err(self.wrong(&cur, Syntax::Truncated)),
        }
    }

    fn run<S: Sink>(&mut self, cur: &mut Cursor<'_, S>) -> Result<(), MaskError> {
        loop {
            match self.state {
                State::String => self.string(cur)?,
                State::Number(number) => self.number(cur, number)?,
                State::Literal(literal) => self.literal(cur, literal)?,
                _ => {
                    cur.at += scan::space(cur.rest());
                    if let Some(byte) = cur.peek() {
                        self.structure(cur, byte)?;
                    }
                }
            }
            if cur.at >= cur.chunk.len() {
                return Ok(());
            }
        }
    }

    fn structure<S: Sink>(&mut self, cur: &mut Cursor<'_, S>, byte: u8) -> Result<(), MaskError> {
        match (self.state, byte) {
            (State::Comma, b',') => {
                self.comma(cur);
                Ok(())
            }
            (State::Comma | State::FirstElement, b']') => self.close(cur, Container::Array),
            (State::Comma | State::FirstKey, b'}') => self.close(cur, Container::Object),
            (State::Comma, _) => Err(self.wrong(cur, Syntax::Comma)),
            (State::FirstKey | State::Key, b'"') => self.begin_key(cur),
            (State::FirstKey | State::Key, _) => Err(self.wrong(cur, Syntax::Key)),
            (State::Colon, b':') => {
                cur.at += 1;
                self.state = State::Value;
                Ok(())
            }
            (State::Colon, _) => Err(self.wrong(cur, Syntax::Colon)),
            (State::End, _) => Err(self.wrong(cur, Syntax::Trailing)),
            (_, byte) => self.begin_value(cur, byte),
        }
    }

    fn drops(&self) -> bool {
        self.rewriting && matches!(self.action.shown, Some((Strategy::Drop, _)))
    }

    fn begin_value<S: Sink>(&mut self, cur: &mut Cursor<'_, S>, byte: u8) -> Result<(), MaskError> {
        let in_object = self.enter_element();
        if self.drops() && self.dropping.is_none() && !in_object {
            self.flush(cur);
            cur.out.put(b"null");
            self.dropping = Some(self.levels.len());
            self.route = Route::Discard;
        }
        match byte {
            b'{' => self.open(cur, Container::Object),
            b'[' => self.open(cur, Container::Array),
            _ => self.begin_scalar(cur, byte),
        }
    }

    fn open<S: Sink>(
        &mut self,
        cur: &mut Cursor<'_, S>,
        container: Container,
    ) -> Result<(), MaskError> {
        if self.levels.len() >= JSON_DEPTH_MAX {
            return Err(MaskError::TooDeep { offset: self.offset(cur) });
        }
        let width = self.plan.width();
        let start = self.levels.len() * width;
        let set = self.sets.get(start..start + width).unwrap_or(&[]);
        let may_drop = self.rewriting && self.live && self.plan.may_drop(set);
        let path = self.path.len();
        self.levels.push(Level {
            container,
            live: self.live,
            may_drop,
            kept: false,
            index: 0,
            path,
        });
        cur.at += 1;
        if container == Container::Object && may_drop && self.route == Route::Forward {
            self.flush(cur);
            self.route = Route::Hold;
        }
        self.state = match container {
            Container::Array => State::FirstElement,
            Container::Object => State::FirstKey,
        };
        Ok(())
    }

    fn close<S: Sink>(
        &mut self,
        cur: &mut Cursor<'_, S>,
        container: Container,
    ) -> Result<(), MaskError> {
        if self.levels.last().is_none_or(|level| level.container != container) {
            return Err(self.wrong(cur, Syntax::Comma));
        }
        if self.route == Route::Hold {
            self.release_hold(cur);
        }
        cur.at += 1;
        self.levels.pop();
        self.end_value(cur);
        Ok(())
    }

    fn end_value<S: Sink>(&mut self, cur: &mut Cursor<'_, S>) {
        if self.dropping == Some(self.levels.len()) {
            self.dropping = None;
            self.route = Route::Forward;
            cur.from = cur.at;
        }
        self.state = if self.levels.is_empty() { State::End } else { State::Comma };
    }

    fn offset<S>(&self, cur: &Cursor<'_, S>) -> u64 {
        self.before + cur.at as u64
    }

    fn wrong<S>(&self, cur: &Cursor<'_, S>, rule: Syntax) -> MaskError {
        MaskError::Syntax { rule, offset: self.offset(cur) }
    }
}

#[cfg(test)]
mod tests;
