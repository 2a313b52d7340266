//! Allowed before, allowed again: a decision is a pure function of bundle and input, so one that
//! was made for the same values of all that the rules can read need not be made again.
//!
//! Where the rules may read the whole input, or something that is new in each call, nothing is
//! remembered. Refusals and errors are never remembered.

use std::collections::HashMap;
use std::sync::Arc;

use crate::decision::Grant;
use crate::input::{StepUp, Token};
use crate::reads::Reads;
use crate::{BodyValue, Bundle, Question, Wire};

/// Most bytes of keys and reasons remembered by one engine; beyond them it begins anew.
const REMEMBERED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What one remembered decision takes beside its key and reasons, in bytes.
const ENTRY_BYTES: usize = 128;
/// Longest key, in bytes; a longer one is not remembered.
const KEY_BYTES_MAX: usize = 2048;
/// Longest reason ids and obligations, in bytes.
const GRANT_BYTES_MAX: usize = 1024;

/// Words of functions whose answers differ from call to call. The lint refuses their calls; a
/// decision that so much as names one is never remembered.
const UNREPEATABLE: [&str; 6] =
    ["http.send", "lookup_ip_addr", "intn", "now_ns", "rfc4122", "opa.runtime"];

/// The decisions of one engine.
pub(crate) struct Memo {
    is_on: bool,
    key: Vec<u8>,
    allowed: HashMap<Box<[u8]>, Arc<Grant>>,
    bytes: usize,
}

impl Memo {
    pub(crate) fn new(bundle: &Bundle, reads: Option<&Reads>) -> Memo {
        let changes = |reads: &Reads| reads.top("now_ms") || reads.request("body_digest");
        let named = |text: &str| UNREPEATABLE.iter().any(|word| text.contains(word));
        let is_on = reads.is_some_and(|reads| !changes(reads))
            && !bundle.modules.iter().any(|(_, text)| named(text));
        Memo { is_on, key: Vec::new(), allowed: HashMap::new(), bytes: 0 }
    }

    /// With what an equal question was allowed before.
    pub(crate) fn recall(
        &mut self,
        package: &str,
        reads: Option<&Reads>,
        question: &Question<'_>,
    ) -> Option<Arc<Grant>> {
        let reads = reads.filter(|_| self.is_on)?;
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
    pub(crate) fn remember(&mut self, grant: Grant) -> Arc<Grant> {
        let grant_bytes = bytes_of(&grant);
        let grant = Arc::new(grant);
        // An empty key is none: a key begins with the package.
        if self.key.is_empty() || grant_bytes > GRANT_BYTES_MAX {
            return grant;
        }
        let entry = self.key.len() + grant_bytes + ENTRY_BYTES;
        if self.bytes + entry > REMEMBERED_BYTES_MAX {
            self.allowed = HashMap::new();
            self.bytes = 0;
        }
        self.bytes += entry;
        self.allowed.insert(self.key.as_slice().into(), Arc::clone(&grant));
        grant
    }
}

fn bytes_of(grant: &Grant) -> usize {
    let obligations = &grant.obligations;
    let names = obligations.limits.iter().map(|limit| limit.name.len() + size_of_val(limit));
    grant.reasons.iter().map(String::len).sum::<usize>()
        + obligations.mask.as_ref().map_or(0, String::len)
        + names.sum::<usize>()
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
        national,
        ja4,
        wire,
        method,
        path,
        params,
        headers,
        body_digest: _,
        body,
        token,
        step_up,
        risk,
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
        (reads.peer("suite"), suite),
        (reads.peer("group"), group),
        (reads.peer("ja4"), ja4),
        (reads.request("method"), method),
        (reads.request("path"), path),
    ];
    for (_, value) in plain.iter().filter(|(is_read, _)| *is_read) {
        text(key, value);
    }
    if reads.peer("national") {
        key.push(u8::from(*national));
    }
    if reads.top("kernel") {
        let Wire { state, ttl, window, segment_max, options, waited_us } = wire;
        text(key, state);
        text(key, options);
        for number in [ttl, window, segment_max, waited_us] {
            key.extend_from_slice(&number.to_be_bytes());
        }
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
    if reads.top("token") {
        write_token(key, token.as_ref());
    }
    if reads.top("step_up") {
        write_step_up(key, step_up);
    }
    if reads.top("risk") {
        text(key, &risk.note());
    }
    // A fact overrides whatever else has its name.
    for fact in facts.iter().filter(|fact| reads.top(fact.name)) {
        text(key, fact.name);
        text(key, fact.value);
    }
}

fn write_token(key: &mut Vec<u8>, token: Option<&Token<'_>>) {
    let Some(Token { issuer, subject, acr, amr, auth_ms, issued_ms, claims }) = token else {
        key.push(0);
        return;
    };
    key.push(1);
    for part in [issuer, subject, acr] {
        text(key, part);
    }
    number(key, amr.len());
    amr.iter().for_each(|method| text(key, method));
    for time in [auth_ms, issued_ms] {
        key.extend_from_slice(&time.to_be_bytes());
    }
    number(key, claims.len());
    for (name, value) in *claims {
        text(key, name);
        text(key, value);
    }
}

fn write_step_up(key: &mut Vec<u8>, step_up: &StepUp<'_>) {
    let StepUp { state, kind, acr, age_s, key: held } = step_up;
    for part in [state.name(), kind, acr, held] {
        text(key, part);
    }
    key.extend_from_slice(&age_s.to_be_bytes());
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
