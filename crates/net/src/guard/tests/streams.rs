//! Streams of many messages: chunking, truncation, work, and a second reading of the rules.

use std::cell::Cell;

use moat_model::code::http::{HEAD_TOO_LONG, TARGET_TOO_LONG};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof};
use proptest::test_runner::{Config, TestRunner};

use super::naive::{Reading, read};
use super::{Limits, feed_all, outcome};
use crate::guard::{Framing, RequestGuard};

const THREE: [&str; 3] = [
    "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n\r\n\r\n",
    "PUT /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
     3;x=y\r\nabc\r\n0\r\nS: 1\r\n\r\n",
    "GET /c HTTP/1.1\r\nHost: a\r\n\r\n",
];

#[test]
fn three_pipelined_messages_pass_unchanged() {
    let input = THREE.concat();
    let seen = outcome(Limits::default(), input.as_bytes());
    assert_eq!((seen.refused, seen.messages, seen.boundary), (None, 3, true));
    assert_eq!(seen.out, input.as_bytes());
}

#[test]
fn a_violation_in_the_third_message_does_not_touch_the_first_two() {
    let good = THREE[..2].concat();
    let input = format!("{good}GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx");
    let seen = outcome(Limits::default(), input.as_bytes());
    assert_eq!(seen.refused, Some(("MOAT-H002", 2, false)));
    assert_eq!((seen.out, seen.messages), (good.into_bytes(), 3));
}

#[test]
fn a_request_hidden_behind_a_body_is_read_as_a_message_of_its_own() {
    // CL.0 as an attacker sends it: the guard sees both, and says so.
    let input = "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(outcome(Limits::default(), input.as_bytes()).messages, 2);
}

#[test]
fn a_truncated_head_never_comes_out() {
    let input = THREE.concat();
    let mut heads = Vec::new();
    let mut start = 0;
    for message in THREE {
        heads.push(start + 1..start + message.find("\r\n\r\n").expect("a head") + 4);
        start += message.len();
    }
    for end in 0..input.len() {
        let seen = feed_all(Limits::default(), [&input.as_bytes()[..end]]);
        let released = seen.out.len();
        assert!(heads.iter().all(|head| !head.contains(&released)), "{released} of {end}");
        assert_eq!(released + seen.held, end, "a byte is either out or held");
        assert_eq!(
            seen.boundary,
            [0, THREE[0].len(), THREE[0].len() + THREE[1].len()].contains(&end)
        );
    }
}

#[test]
fn the_state_tells_which_time_out_applies() {
    let mut guard = RequestGuard::new(Limits::default());
    let mut out = Vec::new();
    assert!(guard.at_message_boundary() && !guard.head_started() && guard.messages() == 0);
    guard.feed(b"P", &mut out).expect("good");
    assert!(!guard.at_message_boundary() && guard.head_started() && guard.messages() == 1);
    guard.feed(b"UT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n", &mut out).expect("good");
    assert!(!guard.at_message_boundary() && !guard.head_started() && guard.in_body());
    assert_eq!(guard.framing(), Framing::Length(2));
    guard.feed(b"hi", &mut out).expect("good");
    assert!(guard.at_message_boundary() && !guard.in_body());
}

fn steps(parts: &[&[u8]]) -> u64 {
    let mut guard = RequestGuard::new(Limits::default());
    let mut out = Vec::new();
    for part in parts {
        out.clear();
        guard.feed(part, &mut out).expect("a good stream");
    }
    guard.steps()
}

#[test]
fn work_grows_with_the_bytes_and_not_faster() {
    let head = |fields: usize, bytes: usize| {
        let field = format!("X: {}\r\n", "v".repeat(bytes));
        format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", field.repeat(fields))
    };
    for input in [head(1, 16_000), head(99, 150), head(99, 1), head(1, 16_000).repeat(20)] {
        let bytes = u64::try_from(input.len()).expect("small");
        let single: Vec<&[u8]> = input.as_bytes().chunks(1).collect();
        assert!(steps(&single) <= 3 * bytes, "{} for {bytes}", steps(&single));
        assert!(steps(&[input.as_bytes()]) <= 3 * bytes);
    }
    let start = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    let input = format!("{start}{}", "x".repeat(1_000_000));
    assert!(steps(&[input.as_bytes()]) < 200, "a body passes in bulk");
    let single: Vec<&[u8]> = input.as_bytes().chunks(1).collect();
    assert!(steps(&single) < 1_000_200, "or at one step a byte");
    let chunks = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()
        + &"1;e=f\r\nx\r\n".repeat(10_000)
        + "0\r\n\r\n";
    let single: Vec<&[u8]> = chunks.as_bytes().chunks(1).collect();
    assert!(steps(&single) <= 3 * u64::try_from(chunks.len()).expect("small"));
}

#[test]
fn an_endless_head_is_refused_and_its_memory_given_back() {
    for (piece, code) in
        [("X: y\r\n", &HEAD_TOO_LONG), ("v", &HEAD_TOO_LONG), ("/", &TARGET_TOO_LONG)]
    {
        let start = if piece == "/" { "GET " } else { "GET / HTTP/1.1\r\nX: y\r\n" };
        let mut guard = RequestGuard::new(Limits::default());
        let mut out = Vec::new();
        let mut fed = guard.feed(start.as_bytes(), &mut out);
        for _ in 0..20_000 {
            assert!(guard.held_bytes() <= 16 * 1024);
            fed = guard.feed(piece.as_bytes(), &mut out);
        }
        assert_eq!(fed.expect_err("endless").code, code);
        assert!(out.is_empty() && guard.held_bytes() == 0);
    }
}

#[test]
fn an_endless_chunk_size_line_is_refused_at_its_bound() {
    let head = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for piece in [b"0", b";", b"a", b" "] {
        let mut guard = RequestGuard::new(Limits::default());
        let mut out = Vec::new();
        guard.feed(head, &mut out).expect("a good head");
        let taken = (0..1_000).take_while(|_| guard.feed(piece, &mut out).is_ok()).count();
        assert_eq!(taken, 16 + 256);
        assert_eq!(out, head);
    }
}

/// One well-formed message, and the length of its head.
fn message() -> impl Strategy<Value = (Vec<u8>, usize)> {
    let head = (
        prop::sample::select(vec!["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "X-1"]),
        "/[!-\"$-~]{0,20}",
        vec(("[a-z!#$%&'*+.^_`|~-]{1,8}", "[ \t]{0,2}", "[ -~]{0,12}"), 0..5),
    );
    let data = vec(any::<u8>(), 0..40);
    let chunk =
        (vec(any::<u8>(), 1..30), prop_oneof![Just(""), Just(";a"), Just(";b=c;d=\"\\\";e\"")]);
    let body = prop_oneof![
        Just(None),
        data.prop_map(|data| Some((format!("Content-Length: {}", data.len()), data))),
        (vec(chunk, 0..4), vec("[a-z]{5}:[ -~]{0,9}", 0..3)).prop_map(|(chunks, trailers)| {
            let mut body = Vec::new();
            for (data, extension) in chunks {
                body.extend(format!("{:x}{extension}\r\n", data.len()).into_bytes());
                body.extend(data);
                body.extend(b"\r\n");
            }
            body.extend(b"0\r\n");
            for trailer in trailers {
                body.extend(format!("x-{trailer}\r\n").into_bytes());
            }
            body.extend(b"\r\n");
            Some(("Transfer-Encoding: chunked".to_owned(), body))
        }),
    ];
    (head, body).prop_map(|((method, target, fields), body)| {
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: a.example:8443\r\n");
        for (name, space, value) in fields {
            text += &format!("x{name}:{space}{value}\r\n");
        }
        let (framing, body) = body.unzip();
        if let Some(framing) = framing {
            text += &format!("{framing}\r\n");
        }
        text += "\r\n";
        let head = text.len();
        (text.into_bytes().into_iter().chain(body.unwrap_or_default()).collect(), head)
    })
}

/// Cuts `input` into pieces of the given sizes, over and over.
fn pieces<'a>(mut input: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for size in sizes.iter().cycle() {
        if input.is_empty() {
            break;
        }
        let (piece, rest) = input.split_at((*size).min(input.len()));
        pieces.push(piece);
        input = rest;
    }
    pieces
}

#[test]
fn well_formed_messages_pass_unchanged_under_any_chunking() {
    let strategy = (vec(message(), 1..5), vec(1_usize..60, 1..6));
    let mut runner =
        TestRunner::new(Config { cases: 1_000, failure_persistence: None, ..Config::default() });
    let run = runner.run(&strategy, |(messages, sizes)| {
        let mut heads = Vec::new();
        let mut stream = Vec::new();
        for (message, head) in &messages {
            heads.push(stream.len() + 1..stream.len() + head);
            stream.extend_from_slice(message);
        }
        let mut guard = RequestGuard::new(Limits::default());
        let (mut out, mut fed) = (Vec::new(), 0);
        for piece in pieces(&stream, &sizes) {
            guard.feed(piece, &mut out).expect("well-formed");
            fed += piece.len();
            assert_eq!(out.len() + guard.held_bytes(), fed);
            assert!(heads.iter().all(|head| !head.contains(&out.len())));
        }
        assert_eq!(out, stream);
        assert_eq!(guard.messages(), u64::try_from(messages.len()).expect("few"));
        assert!(guard.at_message_boundary());
        assert_eq!(read(&stream), Reading::Complete(guard.messages()));
        Ok(())
    });
    run.expect("every stream passes");
}

/// Pieces of which good, bad and borderline streams are put together.
fn dubious_stream() -> impl Strategy<Value = Vec<u8>> {
    let starts = vec![
        "GET / HTTP/1.1",
        "POST /a HTTP/1.1",
        "GET / HTTP/1.0",
        "OPTIONS * HTTP/1.1",
        "GET * HTTP/1.1",
        "GET http://a/ HTTP/1.1",
        "GET http://b HTTP/1.1",
        "CONNECT a:1 HTTP/1.1",
        "GET /#",
        "GET  / HTTP/1.1",
    ];
    let fields = vec![
        "Host: a",
        "Host: b",
        "Host:",
        "Host: a:80",
        "Host: [::1]",
        "X: y",
        "X:",
        "X : y",
        " X: y",
        ": y",
        "Content-Length: 5",
        "Content-Length: 0",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: 05",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: Chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: ,chunked",
        "Connection: close",
        "Connection: keep-alive, x",
        "Connection: host",
        "Connection: ,",
        "Upgrade: h2c",
    ];
    let bodies = vec![
        "",
        "",
        "",
        "hello",
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "5;a=\"b\"\r\nhello\r\n0\r\nX: y\r\n\r\n",
        "5;a=\"b\"c\r\nhello\r\n0\r\n\r\n",
        "05\r\nhello\r\n00\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "0\r\nHost: a\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "5\nhello\n0\n\n",
        "\r\n",
    ];
    let ends = || {
        prop::sample::select(
            vec!["\r\n"; 30]
                .into_iter()
                .chain(["\n", "\r", "\r\r\n", "\0\r\n", "\r\n "])
                .collect::<Vec<_>>(),
        )
    };
    let good = prop::sample::select(vec![
        "Host: a",
        "X: y",
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
    ]);
    let field = prop_oneof![3 => good, 1 => prop::sample::select(fields)];
    let start = prop_oneof![4 => Just("POST / HTTP/1.1"), 1 => prop::sample::select(starts)];
    let message =
        (start, any::<bool>(), vec((field, ends()), 0..4), ends(), prop::sample::select(bodies))
            .prop_map(|(start, host, fields, end, body)| {
                let host = if host { "Host: a\r\n" } else { "" };
                let fields: String =
                    fields.iter().map(|(field, end)| format!("{field}{end}")).collect();
                format!("{start}\r\n{host}{fields}{end}{body}")
            });
    // Messages that are good by themselves, so that streams get beyond their first one.
    let sound = prop::sample::select(vec![
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET http://a/ HTTP/1.1\r\nHost: A\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "PUT / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
         a;b=c;d=\"e\"\r\n0123456789\r\n1\r\nx\r\n0\r\nX: y\r\nZ: \r\n\r\n",
    ]);
    let message = prop_oneof![2 => sound.prop_map(str::to_owned), 1 => message];
    let edits = vec((any::<prop::sample::Index>(), any::<u8>(), 0..12_u8), 0..3);
    (vec(message, 1..4), edits).prop_map(|(messages, edits)| {
        let mut stream = messages.concat().into_bytes();
        for (at, byte, kind) in edits {
            if stream.is_empty() {
                break;
            }
            let at = at.index(stream.len());
            match kind {
                0 => stream[at] = byte,
                1 => stream.insert(at, byte),
                2 => drop(stream.remove(at)),
                3 => stream.truncate(at),
                4 => stream.insert(at, b" \t\r\n\0:;,"[usize::from(byte) % 8]),
                _ => {}
            }
        }
        stream
    })
}

#[test]
fn half_an_empty_line_behind_the_last_message_decides_nothing() {
    let last = "GET / HTTP/1.0\r\nHost: a\r\n\r\n";
    for (more, is_refused) in [("\r", false), ("\r\n", false), ("\rG", true), ("G", true)] {
        let stream = format!("{last}{more}");
        let seen = feed_all(Limits::default(), [stream.as_bytes()]);
        assert_eq!(seen.refused.is_some(), is_refused, "{more:?}: {seen:?}");
        assert!(!seen.boundary, "{more:?}");
    }
}

#[test]
fn a_naive_whole_message_parser_comes_to_the_same_verdict() {
    let (complete, open, bad) = (Cell::new(0_u32), Cell::new(0_u32), Cell::new(0_u32));
    let strategy = (dubious_stream(), vec(1_usize..40, 1..5));
    let mut runner =
        TestRunner::new(Config { cases: 20_000, failure_persistence: None, ..Config::default() });
    let run = runner.run(&strategy, |(stream, sizes)| {
        let seen = feed_all(Limits::default(), [&stream[..]]);
        assert_eq!(seen, feed_all(Limits::default(), pieces(&stream, &sizes)));
        let reading = read(&stream);
        match reading {
            Reading::Complete(messages) => {
                complete.set(complete.get() + 1);
                assert_eq!((seen.refused, seen.messages, seen.boundary), (None, messages, true));
            }
            Reading::Bad(index, in_body) => {
                bad.set(bad.get() + 1);
                assert_eq!(seen.refused.map(|seen| (seen.1, seen.2)), Some((index, in_body)));
            }
            // The guard may see a violation before the naive parser has a whole line or head.
            Reading::Open => {
                open.set(open.get() + 1);
                assert!(seen.refused.is_some() || !seen.boundary);
            }
        }
        Ok(())
    });
    run.expect("both agree");
    let seen = (complete.get(), open.get(), bad.get());
    assert!(seen.0 > 1_000 && seen.1 > 500 && seen.2 > 1_000, "one-sided streams: {seen:?}");
}
