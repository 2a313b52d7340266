//! The guards let out nothing but what came in, say the same however it was cut, and name the places
//! of fields where a naive reading finds them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_fuzz::{pieces, split_seed};
use moat_net::guard::{Limits, Lines, RequestGuard, ResponseGuard, Sink};

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

/// What came out: all of it, and the bodies alone.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parts {
    all: Vec<u8>,
    data: Vec<u8>,
    heads: usize,
}

impl Parts {
    fn section(&mut self, lines: &Lines<'_>) {
        self.all.extend_from_slice(lines.bytes);
        let begin = if lines.start.is_empty() { 0 } else { lines.start.end + 2 };
        let mut places = lines.places.iter();
        let mut rest = &lines.bytes[begin..];
        while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
            let (line, after) = (&rest[..end], &rest[end + 2..]);
            if line.is_empty() {
                assert!(after.is_empty(), "an empty line ends a section");
                break;
            }
            let place = places.next().expect("each field has a place");
            let colon = line.iter().position(|byte| *byte == b':').expect("a colon");
            assert_eq!(&lines.bytes[place.name.clone()], &line[..colon]);
            let value = line[colon + 1..].trim_ascii();
            assert_eq!(&lines.bytes[place.value.clone()], value);
            rest = after;
        }
        assert!(places.next().is_none(), "each place has a field");
    }
}

impl Sink for Parts {
    fn head(&mut self, lines: Lines<'_>) {
        self.heads += 1;
        self.section(&lines);
    }

    fn interim(&mut self, lines: Lines<'_>) {
        self.section(&lines);
    }

    fn framing(&mut self, bytes: &[u8]) {
        self.all.extend_from_slice(bytes);
    }

    fn data(&mut self, bytes: &[u8]) {
        self.all.extend_from_slice(bytes);
        self.data.extend_from_slice(bytes);
    }

    fn trailers(&mut self, lines: Lines<'_>) {
        self.section(&lines);
    }
}

fn request(limits: Limits, seed: u8, input: &[u8]) {
    let (mut fed, mut parts) = (RequestGuard::new(limits), Parts::default());
    let _ = fed.feed(input, &mut parts);
    let (mut read, mut stopped) = (RequestGuard::new(limits), Parts::default());
    let mut rest = input;
    while !rest.is_empty() {
        let heads = stopped.heads;
        let Ok(used) = read.read(rest, &mut stopped) else { break };
        assert!(stopped.heads <= heads + 1, "no further than the next head");
        rest = &rest[used..];
    }
    assert_eq!(parts, stopped);

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
    let (mut guard, mut parts) = (ResponseGuard::new(limits), Parts::default());
    assert_eq!(guard.expect(method), Ok(()));
    let _ = guard.feed(input, &mut parts);
    assert!(input.starts_with(&parts.all) && parts.heads <= 1);
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
