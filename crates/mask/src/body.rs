//! Bodies of any kind that can be masked, and messages within streams.
//!
//! | kind | a pattern names |
//! |---|---|
//! | JSON | members and elements, as in [`crate::Rewriter`] |
//! | NDJSON | the same, in the document of each line |
//! | server-sent events | the same, in the JSON that is the data of each event |
//! | form fields | `/name`; `a[b]` and `a.b` are also `/a/b` |
//! | CSV | `/column`, by the names in the first record |
//!
//! What cannot be read by its kind is refused, as everywhere in this crate; what was written before
//! an error must not be used. A text message of a WebSocket is a JSON document: [`message`].

use core::fmt;
use std::sync::Arc;

use moat_model::Code;
use moat_model::code::mask::NOT_JSON;

use crate::capture::Captures;
use crate::error::MaskError;
use crate::machine::Machine;
use crate::plan::Plan;
use crate::rewriter::Keys;

mod csv;
mod fields;
mod form;
mod lines;
mod sse;

use csv::Csv;
use form::Form;
use lines::Lines;
use sse::Events;

/// Longest name, value or field of forms and CSV, and longest line of an event, in bytes.
pub const PART_BYTES_MAX: usize = 64 * 1024;
/// Longest data of one event, in bytes.
pub const EVENT_BYTES_MAX: usize = 1024 * 1024;
/// Most columns of CSV.
pub const COLUMNS_MAX: usize = 1024;

/// A kind of body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `application/json`, `…+json` (RFC 8259).
    Json,
    /// `application/x-ndjson` and its other names: a JSON document a line.
    Ndjson,
    /// `text/event-stream` (WHATWG HTML, 9.2).
    Events,
    /// `application/x-www-form-urlencoded` (WHATWG URL, 5).
    Form,
    /// `text/csv` with names in its first record (RFC 4180).
    Csv,
}

impl Kind {
    /// The kind of a content type, if it can be masked. Text in another encoding than UTF-8 cannot,
    /// nor can CSV that says it has no names.
    #[must_use]
    pub fn of(content_type: &str) -> Option<Kind> {
        let mut parts = content_type.split(';').map(str::trim);
        let essence = parts.next().unwrap_or("").to_ascii_lowercase();
        let kind = match essence.as_str() {
            "application/json" => Kind::Json,
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonlines"
            | "application/jsonlines" => Kind::Ndjson,
            "text/event-stream" => Kind::Events,
            "application/x-www-form-urlencoded" => Kind::Form,
            "text/csv" => Kind::Csv,
            json if json.starts_with("application/") && json.ends_with("+json") => Kind::Json,
            _ => return None,
        };
        let readable = parts.all(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = value.trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "charset" => kind == Kind::Json || is_utf8(value),
                "header" => !value.eq_ignore_ascii_case("absent"),
                _ => true,
            }
        });
        readable.then_some(kind)
    }
}

fn is_utf8(charset: &str) -> bool {
    ["utf-8", "utf8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known))
}

/// Why a body was refused. Tells the place and the rule, never the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError {
    /// A JSON document is not one. The offset counts from the start of that document.
    Json(MaskError),
    /// The body breaks a rule of its kind.
    Broken {
        /// The rule.
        rule: &'static str,
        /// Byte offset of the part in question.
        offset: u64,
    },
}

impl BodyError {
    /// The stable code of the refusal.
    #[must_use]
    pub fn code(&self) -> &'static Code {
        match self {
            BodyError::Json(error) => error.code(),
            BodyError::Broken { .. } => &NOT_JSON,
        }
    }
}

impl From<MaskError> for BodyError {
    fn from(error: MaskError) -> BodyError {
        BodyError::Json(error)
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::Json(error) => error.fmt(f),
            BodyError::Broken { rule, offset } => write!(f, "{rule}, at byte {offset}"),
        }
    }
}

impl core::error::Error for BodyError {}

/// What is done with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Fields are masked and captured.
    Rewrite,
    /// Fields are captured; what is written is not looked at.
    Extract,
}

/// What all kinds need.
#[derive(Clone)]
struct Context {
    plan: Plan,
    mode: Mode,
    keys: Option<Arc<dyn Keys>>,
}

impl Context {
    fn machine(&self) -> Machine {
        let mut machine = Machine::new(&self.plan, self.mode == Mode::Rewrite);
        if let Some(keys) = &self.keys {
            machine.set_keys(Arc::clone(keys));
        }
        machine
    }
}

/// Masks one body as it arrives, cut anywhere. Working memory is bounded by the constants of this
/// module and of [`crate::Rewriter`].
pub struct Masker {
    inner: Inner,
    failed: Option<BodyError>,
}

enum Inner {
    Json(Box<Machine>),
    Lines(Box<Lines>),
    Events(Box<Events>),
    Form(Box<Form>),
    Csv(Box<Csv>),
}

impl Masker {
    /// A masker for one body of this kind.
    #[must_use]
    pub fn new(kind: Kind, plan: &Plan, mode: Mode, keys: Option<Arc<dyn Keys>>) -> Masker {
        let context = Context { plan: plan.clone(), mode, keys };
        let inner = match kind {
            Kind::Json => Inner::Json(Box::new(context.machine())),
            Kind::Ndjson => Inner::Lines(Box::new(Lines::new(context))),
            Kind::Events => Inner::Events(Box::new(Events::new(context))),
            Kind::Form => Inner::Form(Box::new(Form::new(context))),
            Kind::Csv => Inner::Csv(Box::new(Csv::new(context))),
        };
        Masker { inner, failed: None }
    }

    /// Reads the next bytes, and appends what may leave to `out`.
    ///
    /// # Errors
    /// The body is not of its kind, or over a bound. Every call after an error gives the same error.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), BodyError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let done = match &mut self.inner {
            Inner::Json(machine) => machine.push(chunk, out).map_err(BodyError::from),
            Inner::Lines(lines) => lines.push(chunk, out),
            Inner::Events(events) => events.push(chunk, out),
            Inner::Form(form) => form.push(chunk, out),
            Inner::Csv(csv) => csv.push(chunk, out),
        };
        self.failed = done.err();
        done
    }

    /// Ends the body.
    ///
    /// # Errors
    /// The body is not complete, or was refused before.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<Captures, BodyError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.inner {
            Inner::Json(machine) => Ok(machine.finish(out)?),
            Inner::Lines(lines) => lines.finish(out),
            Inner::Events(events) => events.finish(out),
            Inner::Form(form) => form.finish(out),
            Inner::Csv(csv) => csv.finish(out),
        }
    }
}

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masker").finish_non_exhaustive()
    }
}

/// Masks one message of a WebSocket, or any document that is there whole.
///
/// # Errors
/// It is not JSON, too deep, or has too many captured fields.
pub fn message(plan: &Plan, text: &[u8]) -> Result<(Vec<u8>, Captures), MaskError> {
    let mut machine = Machine::new(plan, true);
    let mut out = Vec::with_capacity(text.len());
    machine.push(text, &mut out)?;
    let captures = machine.finish(&mut out)?;
    Ok((out, captures))
}

/// Captures of several documents, together not more than of one.
fn gather(
    all: &mut Vec<crate::capture::Capture>,
    more: Captures,
    offset: u64,
) -> Result<(), BodyError> {
    if all.len() + more.len() > moat_model::limit::CAPTURES_MAX {
        return Err(MaskError::TooManyFields { offset }.into());
    }
    all.extend(more.into_vec());
    Ok(())
}

#[cfg(test)]
mod tests;
