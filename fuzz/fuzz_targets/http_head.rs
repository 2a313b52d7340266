//! The guards let out nothing but what came in, and say the same however it was cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_fuzz::{pieces, split_seed};
use moat_net::guard::{Limits, RequestGuard, ResponseGuard};

fuzz_target!(|data: &[u8]| {
    let Some((seed, input)) = split_seed(data) else { return };
    let limits = limits(seed);
    request(limits, seed, input);
    answer(limits, seed, input);
});

/// Every fourth input meets bounds that a short message reaches.
fn limits(seed: u8) -> Limits {
    if seed % 4 != 3 {
        return Limits::default();
    }
    Limits {
        head_bytes_max: 64,
        head_fields_max: 3,
        target_bytes_max: 8,
        chunk_extension_bytes_max: 4,
    }
}

fn request(limits: Limits, seed: u8, input: &[u8]) {
    let (mut whole, mut cut) = (RequestGuard::new(limits), RequestGuard::new(limits));
    let (mut out, mut cut_out) = (Vec::new(), Vec::new());
    let verdict = whole.feed(input, &mut out);
    let cut_verdict = pieces(seed, input).try_for_each(|piece| cut.feed(piece, &mut cut_out));
    assert_eq!((&verdict, &out), (&cut_verdict, &cut_out), "cutting changes nothing");
    assert_eq!(
        (whole.messages(), whole.held_bytes(), whole.framing(), whole.persists()),
        (cut.messages(), cut.held_bytes(), cut.framing(), cut.persists())
    );
    assert!(is_copy(input, &out), "what comes out went in");
    assert_eq!(verdict.is_err(), whole.refused().is_some());
    if let Err(refused) = verdict {
        assert_eq!(whole.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &mut out), Err(refused));
        assert_eq!(out, cut_out, "a guard that refused stays shut");
    }
    assert_eq!(whole.end(), cut.end());
}

/// `out` is `input` up to some byte, but for empty lines before requests.
fn is_copy(input: &[u8], out: &[u8]) -> bool {
    let mut input = input;
    for byte in out {
        if input.first() != Some(byte)
            && let Some(rest) = input.strip_prefix(b"\r\n")
        {
            input = rest;
        }
        match input.split_first() {
            Some((first, rest)) if first == byte => input = rest,
            _ => return false,
        }
    }
    true
}

fn answer(limits: Limits, seed: u8, input: &[u8]) {
    let method = if seed % 8 < 4 { "GET" } else { "HEAD" };
    let (mut whole, mut cut) = (ResponseGuard::new(limits), ResponseGuard::new(limits));
    assert_eq!((whole.expect(method), cut.expect(method)), (Ok(()), Ok(())));
    let (mut out, mut cut_out) = (Vec::new(), Vec::new());
    let verdict = whole.feed(input, &mut out);
    let cut_verdict = pieces(seed, input).try_for_each(|piece| cut.feed(piece, &mut cut_out));
    assert_eq!((&verdict, &out), (&cut_verdict, &cut_out), "cutting changes nothing");
    assert_eq!(
        (whole.is_complete(), whole.held_bytes(), whole.framing(), whole.leftover()),
        (cut.is_complete(), cut.held_bytes(), cut.framing(), cut.leftover())
    );
    assert!(input.starts_with(&out), "what comes out went in");
    assert!(!(verdict.is_err() && whole.is_reusable()));
    assert_eq!(whole.end(), cut.end());
}
