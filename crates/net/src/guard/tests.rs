//! What the guards accept and refuse, however the bytes are cut.

mod answers;
mod cases;
mod naive;
mod streams;

use super::{Limits, RequestGuard};

/// All that can be seen of a guard after some input.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    /// Id of the code, index of the message, whether in its body.
    refused: Option<(&'static str, u64, bool)>,
    out: Vec<u8>,
    messages: u64,
    boundary: bool,
    head_started: bool,
    persists: bool,
    held: usize,
}

fn feed_all<'a>(limits: Limits, parts: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut guard = RequestGuard::new(limits);
    let mut out = Vec::new();
    let mut refused = None;
    for part in parts {
        let fed = guard.feed(part, &mut out);
        if let Some(before) = refused {
            assert_eq!(fed, Err(before), "a guard that refused stays refused");
        }
        refused = fed.err();
        assert_eq!(refused.as_ref(), guard.refused());
        assert!(guard.held_bytes() <= limits.head_bytes_max);
    }
    Outcome {
        refused: refused.map(|refused| (refused.code.id, refused.message_index, refused.in_body)),
        out,
        messages: guard.messages(),
        boundary: guard.at_message_boundary(),
        head_started: guard.head_started(),
        persists: guard.persists(),
        held: guard.held_bytes(),
    }
}

/// The outcome of `input`, the same whole, byte by byte, and cut in two anywhere.
fn outcome(limits: Limits, input: &[u8]) -> Outcome {
    let whole = feed_all(limits, [input]);
    assert_eq!(whole, feed_all(limits, input.chunks(1)), "byte by byte");
    for cut in 0..=input.len() {
        let (left, right) = input.split_at(cut);
        assert_eq!(whole, feed_all(limits, [left, right]), "cut at {cut}");
    }
    assert!(input.starts_with(&whole.out) || input.starts_with(b"\r\n"), "bytes were changed");
    whole
}

fn position(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
