//! Allowed before, allowed again: a decision is a pure function of bundle and input, so one that
//! was made for the same values of all that the rules can read need not be made again.
//!
//! What the rules can read is found in their text: every way to the input begins with the word
//! `input`. Where it stands alone, or where a rule reads something that is new in each call,
//! nothing is remembered. Refusals and errors are never remembered.

use std::collections::{BTreeSet, HashMap};

use crate::{BodyValue, Bundle, Question};

/// Most bytes of keys and reasons remembered by one engine; beyond them it begins anew.
const REMEMBERED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What one remembered decision takes beside its key and reasons, in bytes.
const ENTRY_BYTES: usize = 128;
/// Longest key, in bytes; a longer one is not remembered.
const KEY_BYTES_MAX: usize = 2048;
/// Longest list of reason ids, in bytes.
const REASONS_BYTES_MAX: usize = 1024;

/// Fields of `input.peer` and of `input.request`. One that is not here may be made of any other.
const PEER: [&str; 9] =
    ["role", "spiffe", "subject", "issuer", "serial", "expires_ms", "suite", "group", "national"];
const REQUEST: [&str; 5] = ["method", "path", "params", "headers", "body_digest"];
/// Words of functions whose answers differ from call to call. The lint refuses their calls; a
/// decision that so much as names one is never remembered.
const UNREPEATABLE: [&str; 6] =
    ["http.send", "lookup_ip_addr", "intn", "now_ns", "rfc4122", "opa.runtime"];

/// The parts of a [`Question`] that a bundle's rules mention.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Reads {
    /// Fields of `input.peer`; `peer` stands for all of them.
    peer: BTreeSet<String>,
    /// Fields of `input.request`; `request` stands for all of them.
    request: BTreeSet<String>,
    /// Names at the top, flat facts included.
    top: BTreeSet<String>,
}

impl Reads {
    /// What the bundle's rules read, or nothing if a decision cannot be told from an earlier one.
    fn of(bundle: &Bundle) -> Option<Reads> {
        let mut reads = Reads::default();
        for (_, text) in &bundle.modules {
            if UNREPEATABLE.iter().any(|word| text.contains(word)) {
                return None;
            }
            for path in input_paths(text) {
                let mut steps = path.split('.').filter(|step| !step.is_empty());
                let top = steps.next()?;
                let field = steps.next().unwrap_or(top);
                let known = |fields: &[&str]| if fields.contains(&field) { field } else { top };
                match top {
                    "peer" => reads.peer.insert(known(&PEER).to_owned()),
                    "request" => reads.request.insert(known(&REQUEST).to_owned()),
                    _ => false,
                };
                reads.top.insert(top.to_owned());
            }
        }
        let digest = ["request", "body_digest"].iter().any(|part| reads.request.contains(*part));
        (!reads.top.contains("now_ms") && !digest).then_some(reads)
    }

    fn top(&self, name: &str) -> bool {
        self.top.contains(name)
    }

    fn peer(&self, name: &str) -> bool {
        self.peer.contains("peer") || self.peer.contains(name)
    }

    fn request(&self, name: &str) -> bool {
        self.request.contains(name)
    }
}

/// What follows the word `input`, wherever it stands: in code, in text, behind code in a comment.
/// Only lines that are comments from their beginning are left out; one with a backtick may be the
/// end of a raw string, with code behind it.
fn input_paths(text: &str) -> impl Iterator<Item = &str> {
    let is_comment = |line: &&str| line.trim_start().starts_with('#') && !line.contains('`');
    text.lines().filter(move |line| !is_comment(line)).flat_map(input_paths_of)
}

fn input_paths_of(line: &str) -> impl Iterator<Item = &str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices("input").filter_map(move |(at, word)| {
        let (before, after) = (line.get(..at)?, line.get(at + word.len()..)?);
        let inside = before.ends_with(is_word) || after.starts_with(is_word);
        let end = after.find(|c: char| !(is_word(c) || c == '.')).unwrap_or(after.len());
        (!inside).then(|| after.get(..end)).flatten()
    })
}

/// The decisions of one engine.
pub(crate) struct Memo {
    reads: Option<Reads>,
    key: Vec<u8>,
    allowed: HashMap<Box<[u8]>, Vec<String>>,
    bytes: usize,
}

impl Memo {
    pub(crate) fn new(bundle: &Bundle) -> Memo {
        Memo { reads: Reads::of(bundle), key: Vec::new(), allowed: HashMap::new(), bytes: 0 }
    }

    /// The reasons with which an equal question was allowed before.
    pub(crate) fn recall(&mut self, package: &str, question: &Question<'_>) -> Option<Vec<String>> {
        let reads = self.reads.as_ref()?;
        self.key.clear();
        text(&mut self.key, package);
        write(&mut self.key, reads, question);
        if self.key.len() > KEY_BYTES_MAX {
            // Too long to be remembered, and its room is not kept either.
            self.key = Vec::new();
            return None;
        }
        self.allowed.get(self.key.as_slice()).cloned()
    }

    /// Remembers that the question last asked for was allowed.
    pub(crate) fn remember(&mut self, reasons: &[String]) {
        let reasons_bytes: usize = reasons.iter().map(String::len).sum();
        // An empty key is none: a key begins with the package.
        if self.key.is_empty() || reasons_bytes > REASONS_BYTES_MAX {
            return;
        }
        let entry = self.key.len() + reasons_bytes + ENTRY_BYTES;
        if self.bytes + entry > REMEMBERED_BYTES_MAX {
            self.allowed = HashMap::new();
            self.bytes = 0;
        }
        self.bytes += entry;
        self.allowed.insert(self.key.as_slice().into(), reasons.to_vec());
    }
}

/// Writes every part that is read, each with its length, so that two keys are equal only if all
/// parts are.
fn write(key: &mut Vec<u8>, reads: &Reads, question: &Question<'_>) {
    // Taken apart without `..`: a new part of the input cannot be forgotten here.
    let Question {
        now_ms: _,
        tenant,
        listener,
        route,
        role,
        spiffe,
        subject,
        issuer,
        serial,
        expires_ms,
        suite,
        group,
        method,
        path,
        params,
        headers,
        body_digest: _,
        body,
        facts,
    } = question;
    let plain = [
        (reads.top("tenant"), tenant),
        (reads.top("listener"), listener),
        (reads.top("route"), route),
        (reads.peer("role"), role),
        (reads.peer("spiffe"), spiffe),
        (reads.peer("subject"), subject),
        (reads.peer("issuer"), issuer),
        (reads.peer("serial"), serial),
        (reads.peer("suite") || reads.peer("national"), suite),
        (reads.peer("group"), group),
        (reads.request("method"), method),
        (reads.request("path"), path),
    ];
    for (_, value) in plain.iter().filter(|(is_read, _)| *is_read) {
        text(key, value);
    }
    if reads.peer("expires_ms") {
        key.extend_from_slice(&expires_ms.to_be_bytes());
    }
    for (is_read, pairs) in [(reads.request("params"), params), (reads.request("headers"), headers)]
    {
        if is_read {
            number(key, pairs.len());
            pairs.iter().for_each(|(name, value)| {
                text(key, name);
                text(key, value);
            });
        }
    }
    if reads.top("body") {
        number(key, body.len());
        for (pointer, value) in *body {
            text(key, pointer);
            body_value(key, value);
        }
    }
    // A fact overrides whatever else has its name.
    for fact in facts.iter().filter(|fact| reads.top(fact.name)) {
        text(key, fact.name);
        text(key, fact.value);
    }
}

fn body_value(key: &mut Vec<u8>, value: &BodyValue) {
    match value {
        BodyValue::Null => key.push(0),
        BodyValue::Bool(value) => key.extend_from_slice(&[1, u8::from(*value)]),
        BodyValue::Integer(value) => {
            key.push(2);
            key.extend_from_slice(&value.to_be_bytes());
        }
        BodyValue::Number(token) => {
            key.push(3);
            text(key, token);
        }
        BodyValue::Text(value) => {
            key.push(4);
            text(key, value);
        }
        BodyValue::Pan { bin, last4 } => {
            key.push(5);
            text(key, bin);
            text(key, last4);
        }
        BodyValue::Present => key.push(6),
    }
}

fn number(key: &mut Vec<u8>, value: usize) {
    key.extend_from_slice(&u64::try_from(value).unwrap_or(u64::MAX).to_be_bytes());
}

fn text(key: &mut Vec<u8>, value: &str) {
    number(key, value.len());
    key.extend_from_slice(value.as_bytes());
}

#[cfg(test)]
#[path = "memo_tests.rs"]
mod tests;
