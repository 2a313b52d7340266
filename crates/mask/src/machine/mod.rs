//! The streaming machine behind [`crate::Rewriter`] and [`crate::Extractor`].
//!
//! One pass, one state. Where a rule may match, tokens are read one by one; a container that no
//! rule can match below is skimmed ([`skim`]). Working memory: 65 state sets of at most 128 bytes,
//! the path (64 keys of at most 128 bytes, escaped), two buffers of 4 KiB for a matched scalar, and
//! 4 KiB for a member that may have to be dropped. A key or scalar that stands whole and unescaped
//! in its chunk is not copied. Everything unmatched goes out as slices of the input.

use std::sync::Arc;

use moat_model::limit::JSON_DEPTH_MAX;

use crate::capture::{Capture, Captures};
use crate::discover::Findings;
use crate::error::{MaskError, Syntax};
use crate::plan::{Action, Plan};
use crate::rewriter::Keys;
use crate::strategy::Strategy;

mod buffer;
mod emit;
mod member;
mod skim;
mod string;
mod token;

use crate::scan;
pub(crate) use emit::put_escaped;

use buffer::{KeyBuffer, ScalarBuffer};
use skim::{After, Place, Skim};
use string::{Reader, Reading};
use token::{Literal, Number};

/// State sets that there is room for at first; a deeper match makes more.
const SETS_AT_FIRST: usize = 8;

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

/// One open array or object below which a rule may match.
struct Level {
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
    keys: Option<Arc<dyn Keys>>,
    /// What is found in fields that no rule names.
    findings: Option<Box<Findings>>,
    /// Bytes read in earlier chunks.
    before: u64,
    state: State,
    failed: Option<MaskError>,
    /// A bit for each open container, the innermost lowest: whether it is an object.
    kinds: u64,
    /// How many containers are open.
    depth: usize,
    /// The outer ones, as far as any rule can match below them.
    levels: Vec<Level>,
    /// State sets: that of each of these, then that of the value being read.
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
    /// Up to here nothing is to be had by skimming in this chunk.
    skimmed: usize,
    skims: bool,
    /// The mask being written.
    shown: String,
}

impl Machine {
    pub(crate) fn new(plan: &Plan, rewriting: bool) -> Machine {
        let mut sets = Vec::with_capacity(plan.width() * SETS_AT_FIRST);
        sets.resize(plan.width(), 0);
        let live = plan.start(&mut sets);
        let action = plan.action(&sets);
        Machine {
            plan: plan.clone(),
            rewriting,
            keys: None,
            findings: None,
            before: 0,
            state: State::Value,
            failed: None,
            kinds: 0,
            depth: 0,
            levels: Vec::new(),
            sets,
            path: String::new(),
            live,
            action,
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
            skimmed: 0,
            skims: true,
            shown: String::new(),
        }
    }

    /// Reads every token by itself: what tests compare with.
    #[cfg(test)]
    pub(crate) fn without_skimming(mut self) -> Machine {
        self.skims = false;
        self
    }

    pub(crate) fn set_keys(&mut self, keys: Arc<dyn Keys>) {
        self.keys = Some(keys);
    }

    pub(crate) fn set_findings(&mut self, findings: Box<Findings>) {
        self.findings = Some(findings);
    }

    pub(crate) fn take_findings(&mut self) -> Option<Box<Findings>> {
        self.findings.take()
    }

    /// Reads a chunk. After an error every further call gives the same error.
    pub(crate) fn push<S: Sink>(&mut self, chunk: &[u8], out: &mut S) -> Result<(), MaskError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut cur = Cursor { chunk, at: 0, from: 0, out };
        self.skimmed = 0;
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
            && self.depth == 0
        {
            self.end_scalar(&mut cur, buffer::Kind::Number, None)?;
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
                    if self.is_dead() && self.skims && cur.at >= self.skimmed {
                        self.skim(cur);
                    } else {
                        cur.at += scan::space(cur.rest());
                        if let Some(byte) = cur.peek() {
                            self.structure(cur, byte)?;
                        }
                    }
                }
            }
            if cur.at >= cur.chunk.len() {
                return Ok(());
            }
        }
    }

    /// Whether no rule can match in the innermost container.
    fn is_dead(&self) -> bool {
        self.depth > self.levels.len()
    }

    /// Goes on to the end of the container that no rule can match in, or as far as all is clear.
    fn skim<S: Sink>(&mut self, cur: &mut Cursor<'_, S>) {
        let after = match self.state {
            State::FirstKey | State::FirstElement => After::Open,
            State::Key => After::Comma,
            // In an array a value follows a comma; in an object, a colon.
            State::Value if self.in_object() => After::Colon,
            State::Value => After::Comma,
            State::Colon => After::Key,
            _ => After::Value,
        };
        let from = Place { at: cur.at, kinds: self.kinds, depth: self.depth, after };
        let done = scan::fastest(Skim::new(cur.chunk, self.levels.len() + 1, from));
        self.skimmed = done.tried;
        let Place { at, kinds, depth, after } = done.place;
        (cur.at, self.kinds, self.depth) = (at, kinds, depth);
        self.state = match after {
            After::Open if self.in_object() => State::FirstKey,
            After::Open => State::FirstElement,
            After::Comma if self.in_object() => State::Key,
            After::Comma | After::Colon => State::Value,
            After::Key => State::Colon,
            After::Value => State::Comma,
            After::Close => return self.end_value(cur),
            After::String { is_key } => {
                self.reading.begin(Reader::Nobody, is_key);
                State::String
            }
        };
        self.live = false;
        self.action = Action::default();
        self.collecting = false;
    }

    /// Whether the innermost container is an object.
    fn in_object(&self) -> bool {
        self.kinds & 1 == 1
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
            self.dropping = Some(self.depth);
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
        if self.depth >= JSON_DEPTH_MAX {
            return Err(MaskError::TooDeep { offset: self.offset(cur) });
        }
        let is_object = container == Container::Object;
        self.depth += 1;
        self.kinds = (self.kinds << 1) | u64::from(is_object);
        cur.at += 1;
        if self.live {
            let may_drop = self.rewriting && self.plan.may_drop(self.set());
            let path = self.path.len();
            self.levels.push(Level { may_drop, kept: false, index: 0, path });
            if is_object && may_drop && self.route == Route::Forward {
                self.flush(cur);
                self.route = Route::Hold;
            }
        }
        self.state = if is_object { State::FirstKey } else { State::FirstElement };
        Ok(())
    }

    /// The states at the value being read, where a rule may match.
    fn set(&self) -> &[u64] {
        let width = self.plan.width();
        let start = self.levels.len() * width;
        self.sets.get(start..start + width).unwrap_or(&[])
    }

    fn close<S: Sink>(
        &mut self,
        cur: &mut Cursor<'_, S>,
        container: Container,
    ) -> Result<(), MaskError> {
        if self.in_object() != (container == Container::Object) {
            return Err(self.wrong(cur, Syntax::Comma));
        }
        if self.route == Route::Hold {
            self.release_hold(cur);
        }
        cur.at += 1;
        self.depth = self.depth.saturating_sub(1);
        self.kinds >>= 1;
        self.levels.truncate(self.depth);
        self.end_value(cur);
        Ok(())
    }

    fn end_value<S: Sink>(&mut self, cur: &mut Cursor<'_, S>) {
        if self.dropping == Some(self.depth) {
            self.dropping = None;
            self.route = Route::Forward;
            cur.from = cur.at;
        }
        self.state = if self.depth == 0 { State::End } else { State::Comma };
    }

    fn offset<S>(&self, cur: &Cursor<'_, S>) -> u64 {
        self.before + cur.at as u64
    }

    fn wrong<S>(&self, cur: &Cursor<'_, S>, rule: Syntax) -> MaskError {
        MaskError::Syntax { rule, offset: self.offset(cur) }
    }
}

#[cfg(test)]
mod skim_tests;
#[cfg(test)]
mod tests;
