//! What a bundle's rules can read of the input, found in their text: every way to the input begins
//! with the word `input`. Where it stands alone they may read all of it.

use std::collections::BTreeSet;

use crate::Bundle;

/// Fields of `input.peer` and of `input.request`. One that is not here may be made of any other.
const PEER: [&str; 10] = [
    "role",
    "spiffe",
    "subject",
    "issuer",
    "serial",
    "expires_ms",
    "suite",
    "group",
    "national",
    "ja4",
];
const REQUEST: [&str; 5] = ["method", "path", "params", "headers", "body_digest"];
/// The parts of a [`crate::Question`] that a bundle's rules mention.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    /// Fields of `input.peer`; `peer` stands for all of them.
    peer: BTreeSet<String>,
    /// Fields of `input.request`; `request` stands for all of them.
    request: BTreeSet<String>,
    /// Names at the top, flat facts included.
    top: BTreeSet<String>,
}

impl Reads {
    /// What the bundle's rules read, or nothing if they may read all.
    pub(crate) fn of(bundle: &Bundle) -> Option<Reads> {
        let mut reads = Reads::default();
        for (_, text) in &bundle.modules {
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
        Some(reads)
    }

    pub(crate) fn top(&self, name: &str) -> bool {
        self.top.contains(name)
    }

    pub(crate) fn peer(&self, name: &str) -> bool {
        self.peer.contains("peer") || self.peer.contains(name)
    }

    pub(crate) fn request(&self, name: &str) -> bool {
        self.request.contains("request") || self.request.contains(name)
    }
}

impl Bundle {
    /// Whether rules may read a path of the input, such as `body.card`: they name it, something above
    /// it or something in it. What is named by a computed part counts as all of it.
    #[must_use]
    pub fn may_read(&self, path: &str) -> bool {
        let steps = |path: &'_ str| -> Vec<String> {
            path.split('.').filter(|step| !step.is_empty()).map(str::to_owned).collect()
        };
        let wanted = steps(path);
        let mut named = self.modules.iter().flat_map(|(_, text)| input_paths(text));
        named.any(|named| steps(named).iter().zip(&wanted).all(|(one, other)| one == other))
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

#[cfg(test)]
#[path = "reads_tests.rs"]
mod tests;
