//! Answers of an upstream, with what the guard must say.

use moat_model::code::upstream::{BAD_ANSWER, BROKEN};

use crate::guard::{Framing, Limits, NotReusable, ResponseGuard};

#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    refused: Option<(&'static str, bool)>,
    out: Vec<u8>,
    complete: bool,
    reusable: bool,
    until_close: bool,
    leftover: bool,
}

fn feed_all<'a>(method: &str, parts: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut guard = ResponseGuard::new(Limits::default());
    let mut out = Vec::new();
    guard.expect(method).expect("a new connection");
    let mut refused = None;
    for part in parts {
        let fed = guard.feed(part, &mut out);
        if let Some(before) = refused {
            assert_eq!(fed, Err(before), "a guard that refused stays refused");
        }
        refused = fed.err();
        assert_eq!(refused.as_ref(), guard.refused());
    }
    Outcome {
        refused: refused.map(|refused| (refused.code.id, refused.in_body)),
        out,
        complete: guard.is_complete(),
        reusable: guard.is_reusable(),
        until_close: guard.until_close(),
        leftover: guard.leftover(),
    }
}

fn outcome(method: &str, input: &[u8]) -> Outcome {
    let whole = feed_all(method, [input]);
    assert_eq!(whole, feed_all(method, input.chunks(1)), "byte by byte");
    for cut in 0..=input.len() {
        let (left, right) = input.split_at(cut);
        assert_eq!(whole, feed_all(method, [left, right]), "cut at {cut}");
    }
    assert!(input.starts_with(&whole.out), "bytes were changed");
    whole
}

#[test]
fn answers_that_pass_say_whether_the_connection_may_be_used_again() {
    let cases: &[(&str, &str, bool)] = &[
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", true),
        ("GET", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", true),
        (
            "GET",
            "HTTP/1.1 404 Not Found, sorry\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            true,
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n",
            true,
        ),
        ("GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", false),
        ("GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", false),
        ("GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi", true),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", true),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true),
        ("HEAD", "HTTP/1.1 200 OK\r\n\r\n", true),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", true),
        ("PUT", "HTTP/1.1 204 No Content\r\n\r\n", true),
        ("PUT", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", true),
        (
            "PUT",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
            true,
        ),
        ("PUT", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", true),
        ("GET", "HTTP/1.1 426 Upgrade Required\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n", true),
    ];
    for (method, input, reusable) in cases {
        let seen = outcome(method, input.as_bytes());
        assert_eq!(seen.refused, None, "{input}");
        assert_eq!(seen.out, input.as_bytes(), "{input}");
        assert!(seen.complete && !seen.until_close && !seen.leftover, "{input}");
        assert_eq!(seen.reusable, *reusable, "{input}");
        // One byte more than the answer is refused, and the answer itself is out by then.
        let more = outcome(method, format!("{input}H").as_bytes());
        assert_eq!(more.refused, Some((BAD_ANSWER.id, false)), "{input}");
        assert_eq!(more.out, input.as_bytes(), "{input}");
        assert!(more.leftover && !more.reusable, "{input}");
    }
}

#[test]
fn bad_heads_are_refused_before_a_byte_comes_out() {
    let cases: &[&str] = &[
        "HTTP/1.1 200\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 X\r\n\r\n",
        "HTTP/1.1 600 X\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 +20 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/0.9 200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        " HTTP/1.1 200 OK\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "\nHTTP/1.1 200 OK\r\n\r\n",
        "<html>hello</html>\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 O\0K\r\n\r\n",
        "HTTP/1.1 200 O\x01K\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 2\r\n\r\nhi",
    ];
    for input in cases {
        let seen = outcome("GET", input.as_bytes());
        assert_eq!(seen.refused, Some((BAD_ANSWER.id, false)), "{input}");
        assert!(seen.out.is_empty() && !seen.complete && !seen.reusable, "{input}");
    }
    let seen =
        outcome("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(seen.refused, Some((BAD_ANSWER.id, false)));
}

#[test]
fn bad_chunks_are_refused_in_the_body() {
    for body in ["x\r\n", "1\r\nab\r\n", "1\nx\r\n", "0\r\nContent-Length: 1\r\n\r\n", "0\r\n\n"] {
        let input = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        assert_eq!(outcome("GET", input.as_bytes()).refused, Some((BAD_ANSWER.id, true)), "{body}");
    }
}

#[test]
fn an_answer_without_framing_is_read_until_close_and_never_reused() {
    let input = b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nall\r\n\r\nthat comes";
    let seen = outcome("GET", input);
    assert_eq!((seen.refused, seen.out.as_slice()), (None, &input[..]));
    assert!(seen.until_close && !seen.complete && !seen.reusable);

    let mut guard = ResponseGuard::new(Limits::default());
    guard.expect("GET").expect("a new connection");
    guard.feed(input, &mut Vec::new()).expect("nothing wrong");
    assert_eq!(guard.framing(), Framing::UntilClose);
    assert_eq!(guard.expect("GET"), Err(NotReusable));
    assert_eq!(guard.end(), Ok(()));
    assert!(guard.is_complete() && !guard.is_reusable());
    assert_eq!(guard.expect("GET"), Err(NotReusable));
}

#[test]
fn one_connection_carries_answer_after_answer() {
    let mut guard = ResponseGuard::new(Limits::default());
    let mut out = Vec::new();
    for (method, input) in [
        ("HEAD", &b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"[..]),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"),
        ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
    ] {
        guard.expect(method).expect("reusable");
        assert_eq!(guard.expect(method), Err(NotReusable), "one answer is awaited already");
        guard.feed(input, &mut out).expect("a good answer");
        assert!(guard.is_reusable());
    }
    // Nobody asked for this one: the next caller would get it.
    let refused = guard.feed(b"HTTP/1.1 200 OK\r\n", &mut out).expect_err("unasked");
    assert_eq!((refused.code, refused.message_index), (&BAD_ANSWER, 2));
    assert!(guard.leftover());
    assert_eq!(guard.expect("GET"), Err(NotReusable));
}

#[test]
fn an_end_before_the_answer_is_complete_leaves_its_fate_unknown() {
    for (input, in_body) in [
        ("", false),
        ("HTTP/1.1 2", false),
        ("HTTP/1.1 100 Continue\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", true),
    ] {
        let mut guard = ResponseGuard::new(Limits::default());
        guard.expect("GET").expect("a new connection");
        guard.feed(input.as_bytes(), &mut Vec::new()).expect("nothing wrong so far");
        let refused = guard.end().expect_err("not complete");
        assert_eq!((refused.code, refused.in_body), (&BROKEN, in_body), "{input}");
        assert_eq!(guard.end(), Err(refused));
    }
}

#[test]
fn a_connection_that_ended_while_idle_is_not_used_again() {
    let mut guard = ResponseGuard::new(Limits::default());
    assert!(guard.is_reusable());
    assert_eq!(guard.end(), Ok(()));
    assert_eq!(guard.expect("GET"), Err(NotReusable));
}

#[test]
fn an_interim_answer_leaves_nothing_behind_for_the_final_one() {
    let interim = "HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let seen = outcome(
        "GET",
        format!("{interim}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").as_bytes(),
    );
    assert!(seen.refused.is_none() && seen.reusable);
}

#[test]
fn interim_answers_are_bounded() {
    let interim = "HTTP/1.1 102 Processing\r\n\r\n";
    let last = "HTTP/1.1 204 No Content\r\n\r\n";
    assert_eq!(outcome("GET", (interim.repeat(8) + last).as_bytes()).refused, None);
    let seen = outcome("GET", (interim.repeat(9) + last).as_bytes());
    assert_eq!(seen.refused, Some((BAD_ANSWER.id, false)));

    // For each answer anew.
    let mut guard = ResponseGuard::new(Limits::default());
    for _ in 0..3 {
        guard.expect("GET").expect("reusable");
        let fed = guard.feed((interim.repeat(8) + last).as_bytes(), &mut Vec::new());
        assert_eq!(fed, Ok(()));
    }
}
