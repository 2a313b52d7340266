//! Requests, one line each, with what the guard must say.

use moat_model::Code;
use moat_model::code::http::{
    AFTER_CLOSE, BAD_CHUNK, BARE_CR_LF, BODY_BROKEN, BOTH_FRAMINGS, CONNECTION_NAMES_PROTECTED,
    CONTENT_LENGTH, FOLDED_LINE, HEAD_TOO_LONG, HOST, MALFORMED_HEAD, METHOD, TARGET_TOO_LONG,
    TRAILER, TRANSFER_ENCODING, UNKNOWN_CODING, UPGRADE, VERSION,
};

use super::{Limits, feed_all, outcome, position};
use crate::guard::RequestGuard;

/// What the guard must say.
#[derive(Clone, Copy)]
enum Expected {
    /// Released to the last byte, at a message boundary.
    Pass,
    /// Refused in the head of the first message.
    Head(&'static Code),
    /// Refused in the body of the first message.
    Body(&'static Code),
}
use Expected::{Body, Head, Pass};

fn check(name: &str, input: &[u8], expected: Expected) {
    let seen = outcome(Limits::default(), input);
    match expected {
        Pass => {
            assert_eq!(seen.refused, None, "{name}");
            assert_eq!(seen.out, input, "{name}");
            assert!(seen.boundary && !seen.head_started && seen.held == 0, "{name}");
        }
        Head(code) => {
            assert_eq!(seen.refused, Some((code.id, 0, false)), "{name}");
            assert!(seen.out.is_empty(), "{name}: a byte of a refused head came out");
        }
        Body(code) => {
            assert_eq!(seen.refused, Some((code.id, 0, true)), "{name}");
            let head = position(input, b"\r\n\r\n").expect("a head") + 4;
            assert!(seen.out.len() >= head && seen.out.len() < input.len(), "{name}");
        }
    }
}

#[test]
fn request_lines() {
    let cases: &[(&str, Expected)] = &[
        ("GET / HTTP/1.1", Pass),
        ("GET / HTTP/1.0", Pass),
        ("DELETE /a/b?c=d%20e&f={g}|h HTTP/1.1", Pass),
        ("M-SEARCH /x HTTP/1.1", Pass),
        ("get / HTTP/1.1", Pass),
        ("OPTIONS * HTTP/1.1", Pass),
        ("GET http://a.example/ HTTP/1.1", Pass),
        ("GET HTTPS://A.EXAMPLE?x HTTP/1.1", Pass),
        ("GET http://a.example HTTP/1.1", Pass),
        ("GET http://b.example/ HTTP/1.1", Head(&HOST)),
        ("GET http://a.example:80/ HTTP/1.1", Head(&HOST)),
        ("GET http://u@a.example/ HTTP/1.1", Head(&HOST)),
        ("GET http:///x HTTP/1.1", Head(&HOST)),
        ("GET ftp://a.example/ HTTP/1.1", Head(&MALFORMED_HEAD)),
        ("GET a.example HTTP/1.1", Head(&MALFORMED_HEAD)),
        ("GET * HTTP/1.1", Head(&MALFORMED_HEAD)),
        ("GET /a#b HTTP/1.1", Head(&MALFORMED_HEAD)),
        ("GET  / HTTP/1.1", Head(&MALFORMED_HEAD)),
        ("GET /  HTTP/1.1", Head(&MALFORMED_HEAD)),
        ("GET / HTTP/1.1 ", Head(&MALFORMED_HEAD)),
        (" GET / HTTP/1.1", Head(&MALFORMED_HEAD)),
        ("GET\t/ HTTP/1.1", Head(&MALFORMED_HEAD)),
        ("GET /\t HTTP/1.1", Head(&MALFORMED_HEAD)),
        ("GET /a b HTTP/1.1", Head(&MALFORMED_HEAD)),
        ("GET /\x01 HTTP/1.1", Head(&MALFORMED_HEAD)),
        ("GET /\x7f HTTP/1.1", Head(&MALFORMED_HEAD)),
        ("GET /\u{e9} HTTP/1.1", Head(&MALFORMED_HEAD)),
        ("GET /\0 HTTP/1.1", Head(&BARE_CR_LF)),
        ("GET /\r HTTP/1.1", Head(&BARE_CR_LF)),
        ("GET /\nX: y HTTP/1.1", Head(&BARE_CR_LF)),
        ("GET /", Head(&MALFORMED_HEAD)),
        ("GET", Head(&MALFORMED_HEAD)),
        ("/ HTTP/1.1", Head(&MALFORMED_HEAD)),
        (" / HTTP/1.1", Head(&MALFORMED_HEAD)),
        ("G(T / HTTP/1.1", Head(&MALFORMED_HEAD)),
        ("GET: / HTTP/1.1", Head(&MALFORMED_HEAD)),
        ("GET / http/1.1", Head(&MALFORMED_HEAD)),
        ("GET / HTTPS/1.1", Head(&MALFORMED_HEAD)),
        ("GET / HTTP/", Head(&MALFORMED_HEAD)),
        ("GET / HTTP/1.1x", Head(&MALFORMED_HEAD)),
        ("GET / HTTP/0.9", Head(&VERSION)),
        ("GET / HTTP/1.2", Head(&VERSION)),
        ("GET / HTTP/1.10", Head(&VERSION)),
        ("GET / HTTP/3", Head(&VERSION)),
        ("PRI * HTTP/2.0", Head(&VERSION)),
        ("CONNECT a.example:443 HTTP/1.1", Head(&METHOD)),
        ("TRACE / HTTP/1.1", Head(&METHOD)),
        ("trace / HTTP/1.1", Head(&METHOD)),
        ("\x16\x03\x01\x02", Head(&MALFORMED_HEAD)),
    ];
    for (line, expected) in cases {
        check(line, format!("{line}\r\nHost: a.example\r\n\r\n").as_bytes(), *expected);
    }
}

#[test]
fn field_lines() {
    let cases: &[(&str, Expected)] = &[
        ("Accept: */*\r\n", Pass),
        ("X-Empty:\r\n", Pass),
        ("X-Tabs:\t \ta\tb \t\r\n", Pass),
        ("X-Text: caf\u{e9}\r\n", Pass),
        ("!#$%&'*+-.^_`|~09aZ: x\r\n", Pass),
        ("X: a:b: c\r\n", Pass),
        ("X: 1\r\nX: 2\r\n", Pass),
        ("X : a\r\n", Head(&MALFORMED_HEAD)),
        ("X\t: a\r\n", Head(&MALFORMED_HEAD)),
        ("Content-Length : 5\r\n", Head(&MALFORMED_HEAD)),
        ("Transfer-Encoding : chunked\r\n", Head(&MALFORMED_HEAD)),
        (": a\r\n", Head(&MALFORMED_HEAD)),
        ("X\r\n", Head(&MALFORMED_HEAD)),
        ("X Y: a\r\n", Head(&MALFORMED_HEAD)),
        ("X(: a\r\n", Head(&MALFORMED_HEAD)),
        ("\u{fc}: a\r\n", Head(&MALFORMED_HEAD)),
        ("X: a\x0bb\r\n", Head(&MALFORMED_HEAD)),
        ("X: a\x0cb\r\n", Head(&MALFORMED_HEAD)),
        ("X: a\x1bb\r\n", Head(&MALFORMED_HEAD)),
        ("X: a\x7fb\r\n", Head(&MALFORMED_HEAD)),
        ("X\x08: a\r\n", Head(&MALFORMED_HEAD)),
        ("X: a\0b\r\n", Head(&BARE_CR_LF)),
        ("X: a\nY: b\r\n", Head(&BARE_CR_LF)),
        ("X: a\rY: b\r\n", Head(&BARE_CR_LF)),
        ("X: a\r\r\n", Head(&BARE_CR_LF)),
        ("X: a\n\r\n", Head(&BARE_CR_LF)),
        ("\n", Head(&BARE_CR_LF)),
        ("\rX: a\r\n", Head(&BARE_CR_LF)),
        (" X: a\r\n", Head(&FOLDED_LINE)),
        ("X: a\r\n b\r\n", Head(&FOLDED_LINE)),
        ("X: a\r\n\tb\r\n", Head(&FOLDED_LINE)),
        ("X: a\r\n \r\n", Head(&FOLDED_LINE)),
        ("Transfer-Encoding:\r\n chunked\r\n", Head(&FOLDED_LINE)),
        // Fields that steer the connection.
        ("Connection: keep-alive\r\n", Pass),
        ("Connection: close\r\n", Pass),
        ("Connection: TE, , X-Hop,\r\nTE: trailers\r\n", Pass),
        ("Connection: upgrade\r\n", Pass),
        ("Upgrade-Insecure-Requests: 1\r\n", Pass),
        ("Connection: a b\r\n", Head(&MALFORMED_HEAD)),
        ("Connection: \"close\"\r\n", Head(&MALFORMED_HEAD)),
        ("Connection: Host\r\n", Head(&CONNECTION_NAMES_PROTECTED)),
        ("Connection: close, content-length\r\n", Head(&CONNECTION_NAMES_PROTECTED)),
        ("Connection: Transfer-Encoding\r\n", Head(&CONNECTION_NAMES_PROTECTED)),
        ("Connection: X-Forwarded-For\r\n", Head(&CONNECTION_NAMES_PROTECTED)),
        ("Connection: x\r\nConnection: forwarded\r\n", Head(&CONNECTION_NAMES_PROTECTED)),
        ("Connection: X-MOAT-Subject\r\n", Head(&CONNECTION_NAMES_PROTECTED)),
        ("Connection: authorization\r\n", Head(&CONNECTION_NAMES_PROTECTED)),
        ("Connection: Cookie\r\n", Head(&CONNECTION_NAMES_PROTECTED)),
        ("Connection: idempotency-key\r\n", Head(&CONNECTION_NAMES_PROTECTED)),
        ("Connection: Upgrade\r\nUpgrade: websocket\r\n", Head(&UPGRADE)),
        ("Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n", Head(&UPGRADE)),
        ("Upgrade: h2c\r\n", Head(&UPGRADE)),
        // A second Host.
        ("Host: a.example\r\n", Head(&HOST)),
        ("host: b.example\r\n", Head(&HOST)),
        ("HOST:\r\n", Head(&HOST)),
    ];
    for (lines, expected) in cases {
        let head = |fields: String| {
            // Beyond ASCII the tables mean Latin-1, one byte a character.
            fields
                .chars()
                .map(|c| u8::try_from(u32::from(c)).expect("Latin-1"))
                .collect::<Vec<u8>>()
        };
        let after = head(format!("GET / HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n"));
        check(lines, &after, *expected);
        let before = head(format!("GET / HTTP/1.1\r\n{lines}Host: a.example\r\n\r\n"));
        check(lines, &before, *expected);
    }
}

#[test]
fn every_byte_of_a_value_is_either_text_or_refused() {
    for byte in 0..=u8::MAX {
        let mut input = b"GET / HTTP/1.1\r\nHost: a\r\nX: a".to_vec();
        input.push(byte);
        input.extend_from_slice(b"b\r\n\r\n");
        let expected = match byte {
            b'\r' | b'\n' | 0 => Head(&BARE_CR_LF),
            b'\t' | b' '..=b'~' | 0x80.. => Pass,
            _ => Head(&MALFORMED_HEAD),
        };
        check(&format!("{byte:#x}"), &input, expected);
    }
}

#[test]
fn every_byte_of_a_name_is_either_of_a_token_or_refused() {
    for byte in (0..=u8::MAX).filter(|byte| *byte != b':') {
        let mut input = b"GET / HTTP/1.1\r\nHost: a\r\nX".to_vec();
        input.push(byte);
        input.extend_from_slice(b"Y: b\r\n\r\n");
        let expected = match byte {
            b'\r' | b'\n' | 0 => Head(&BARE_CR_LF),
            _ if byte.is_ascii_alphanumeric() => Pass,
            // RFC 9110 §5.6.2: the delimiters, and what is no visible character.
            b'!'..=b'~' if !b"\"(),/:;<=>?@[\\]{}".contains(&byte) => Pass,
            _ => Head(&MALFORMED_HEAD),
        };
        check(&format!("{byte:#x}"), &input, expected);
    }
}

#[test]
fn hosts() {
    let cases: &[(&str, Expected)] = &[
        ("Host: a\r\n", Pass),
        ("hOsT:a.example.:8443 \r\n", Pass),
        ("Host: my_host-1.b\r\n", Pass),
        ("Host: 192.0.2.1:1\r\n", Pass),
        ("Host: [2001:db8::1]\r\n", Pass),
        ("Host: [::1]:65535\r\n", Pass),
        ("", Head(&HOST)),
        ("Host:\r\n", Head(&HOST)),
        ("Host: \r\n", Head(&HOST)),
        ("Host: a b\r\n", Head(&HOST)),
        ("Host: a, b\r\n", Head(&HOST)),
        ("Host: a/b\r\n", Head(&HOST)),
        ("Host: a\\b\r\n", Head(&HOST)),
        ("Host: u@a\r\n", Head(&HOST)),
        ("Host: a?b\r\n", Head(&HOST)),
        ("Host: a#b\r\n", Head(&HOST)),
        ("Host: a%2eb\r\n", Head(&HOST)),
        ("Host: a..b\r\n", Head(&HOST)),
        ("Host: .a\r\n", Head(&HOST)),
        ("Host: .\r\n", Head(&HOST)),
        ("Host: a:\r\n", Head(&HOST)),
        ("Host: a:0\r\n", Head(&HOST)),
        ("Host: a:65536\r\n", Head(&HOST)),
        ("Host: a:000080\r\n", Head(&HOST)),
        ("Host: a:8o\r\n", Head(&HOST)),
        ("Host: a:80:80\r\n", Head(&HOST)),
        ("Host: :80\r\n", Head(&HOST)),
        ("Host: http://a\r\n", Head(&HOST)),
        ("Host: 2001:db8::1\r\n", Head(&HOST)),
        ("Host: [::1\r\n", Head(&HOST)),
        ("Host: [::1]x\r\n", Head(&HOST)),
        ("Host: [fe80::1%eth0]\r\n", Head(&HOST)),
        ("Host: [a]\r\n", Head(&HOST)),
        ("Host: []\r\n", Head(&HOST)),
        ("Host: a\r\nHost: a\r\n", Head(&HOST)),
        ("Host : a\r\n", Head(&MALFORMED_HEAD)),
    ];
    for (lines, expected) in cases {
        for version in ["1.0", "1.1"] {
            check(lines, format!("GET / HTTP/{version}\r\n{lines}\r\n").as_bytes(), *expected);
        }
    }
    let long = format!("Host: {}a", "a.".repeat(127));
    check("255", format!("GET / HTTP/1.1\r\n{long}\r\n\r\n").as_bytes(), Pass);
    check("256", format!("GET / HTTP/1.1\r\n{long}b\r\n\r\n").as_bytes(), Head(&HOST));
}

#[test]
fn framing_fields() {
    let both = Head(&BOTH_FRAMINGS);
    let length = Head(&CONTENT_LENGTH);
    let coding = Head(&TRANSFER_ENCODING);
    let last = "0\r\n\r\n";
    let cases: &[(&str, &str, Expected)] = &[
        ("", "", Pass),
        ("Content-Length: 0\r\n", "", Pass),
        ("Content-Length: 5\r\n", "hello", Pass),
        ("content-LENGTH:\t5\t\r\n", "\r\n\0\n\r", Pass),
        ("Content-Length: 23\r\n", "GET / HTTP/1.1\r\nX: y\r\n\r", Pass),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", "hello", length),
        ("Content-Length: 5\r\nX: y\r\ncontent-length: 6\r\n", "hello", length),
        ("Content-Length: 5, 5\r\n", "hello", length),
        ("Content-Length: 5,\r\n", "hello", length),
        ("Content-Length:\r\n", "", length),
        ("Content-Length: +5\r\n", "hello", length),
        ("Content-Length: -5\r\n", "hello", length),
        ("Content-Length: -0\r\n", "", length),
        ("Content-Length: 0x5\r\n", "hello", length),
        ("Content-Length: 5a\r\n", "hello", length),
        ("Content-Length: 5 5\r\n", "hello", length),
        ("Content-Length: 5.0\r\n", "hello", length),
        ("Content-Length: 5;q\r\n", "hello", length),
        ("Content-Length: \"5\"\r\n", "hello", length),
        ("Content-Length: 1_0\r\n", "hello", length),
        ("Content-Length: 05\r\n", "hello", length),
        ("Content-Length: 00\r\n", "", length),
        ("Content-Length: 9223372036854775808\r\n", "", length),
        ("Content-Length: 18446744073709551616\r\n", "", length),
        ("Content-Length: 18446744073709551621\r\n", "hello", length),
        ("Content-Length: 99999999999999999999999999\r\n", "", length),
        ("Transfer-Encoding: chunked\r\n", last, Pass),
        ("transfer-encoding:Chunked \r\n", last, Pass),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", last, both),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", last, both),
        ("Content-Length: 0\r\nTransfer-Encoding: x\r\n", last, both),
        ("Transfer-Encoding: identity\r\nContent-Length: 5\r\n", "hello", both),
        ("Transfer-Encoding:\r\nContent-Length: 5\r\n", "hello", both),
        ("Transfer-Encoding: chunked\r\nContent-Length: x\r\n", last, length),
        ("Transfer-Encoding:\r\n", last, coding),
        ("Transfer-Encoding: identity\r\n", last, coding),
        ("Transfer-Encoding: gzip\r\n", last, coding),
        ("Transfer-Encoding: xchunked\r\n", last, coding),
        ("Transfer-Encoding: chunkedx\r\n", last, coding),
        ("Transfer-Encoding: \"chunked\"\r\n", last, coding),
        ("Transfer-Encoding: chunked;q=1\r\n", last, coding),
        ("Transfer-Encoding: chunked, gzip\r\n", last, coding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", last, coding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", last, coding),
        ("Transfer-Encoding: chunked, chunked\r\n", last, coding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", last, coding),
        ("Transfer-Encoding: gzip, chunked, chunked\r\n", last, coding),
        ("Transfer-Encoding: chunked,\r\n", last, coding),
        ("Transfer-Encoding: ,chunked\r\n", last, coding),
        ("Transfer-Encoding: chunked chunked\r\n", last, coding),
        ("Transfer-Encoding: gzip;a=b, chunked\r\n", last, coding),
        ("Transfer-Encoding: gzip, chunked\r\n", last, Head(&UNKNOWN_CODING)),
        ("Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n", last, Head(&UNKNOWN_CODING)),
        ("Transfer-Encoding: identity, chunked\r\n", last, Head(&UNKNOWN_CODING)),
        ("Transfer-Encoding: \x0bchunked\r\n", last, Head(&MALFORMED_HEAD)),
        ("Transfer-Encoding\x0b: chunked\r\n", last, Head(&MALFORMED_HEAD)),
        ("Transfer-Encoding: chunked\0\r\n", last, Head(&BARE_CR_LF)),
        ("X: y\nTransfer-Encoding: chunked\r\n", last, Head(&BARE_CR_LF)),
        ("X: y\rTransfer-Encoding: chunked\r\n", last, Head(&BARE_CR_LF)),
        ("Content_Length: 5\r\n", "", Pass),
    ];
    for (lines, body, expected) in cases {
        let input = format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n{body}");
        check(lines, input.as_bytes(), *expected);
    }
    let old = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    check("chunked in 1.0", old.as_bytes(), coding);
    let old = "POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    check("length in 1.0", old.as_bytes(), Pass);
}

#[test]
fn chunked_bodies() {
    let bad = Body(&BAD_CHUNK);
    let extension = |bytes: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(bytes - 1));
    let (longest, too_long) = (extension(256), extension(257));
    let cases: &[(&str, Expected)] = &[
        ("0\r\n\r\n", Pass),
        ("5\r\nhello\r\n0\r\n\r\n", Pass),
        ("A\r\n\r\n0\r\n\r\n0\r\n\r\n0\r\n\r\n", Pass),
        ("1\r\na\r\n1\r\nb\r\n000\r\n\r\n", Pass),
        ("0000000000000005\r\nhello\r\n0\r\n\r\n", Pass),
        ("aB\r\n.", Body(&BODY_BROKEN)),
        ("5;a\r\nhello\r\n0;b=c;d=\"e;\\\"\tf\"\r\n\r\n", Pass),
        (&longest, Pass),
        (&too_long, bad),
        ("\r\n\r\n", bad),
        ("x\r\n\r\n", bad),
        ("5\nhello\r\n0\r\n\r\n", bad),
        ("5\rhello\r\n0\r\n\r\n", bad),
        ("5\r\r\nhello\r\n0\r\n\r\n", bad),
        (" 5\r\nhello\r\n0\r\n\r\n", bad),
        ("5 \r\nhello\r\n0\r\n\r\n", bad),
        ("5\t;a\r\nhello\r\n0\r\n\r\n", bad),
        ("5; a\r\nhello\r\n0\r\n\r\n", bad),
        ("+5\r\nhello\r\n0\r\n\r\n", bad),
        ("-5\r\nhello\r\n0\r\n\r\n", bad),
        ("-0\r\n\r\n", bad),
        ("0x5\r\nhello\r\n0\r\n\r\n", bad),
        ("5h\r\nhello\r\n0\r\n\r\n", bad),
        ("5,\r\nhello\r\n0\r\n\r\n", bad),
        ("5_0\r\nhello\r\n0\r\n\r\n", bad),
        ("8000000000000000\r\nhello\r\n0\r\n\r\n", bad),
        ("FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n", bad),
        ("10000000000000005\r\nhello\r\n0\r\n\r\n", bad),
        ("00000000000000005\r\nhello\r\n0\r\n\r\n", bad),
        ("5;\r\nhello\r\n0\r\n\r\n", bad),
        ("5;a=\r\nhello\r\n0\r\n\r\n", bad),
        ("5;=b\r\nhello\r\n0\r\n\r\n", bad),
        ("5;a=\"b\r\nhello\r\n0\r\n\r\n", bad),
        ("5;a=\"b\\\r\nhello\r\n0\r\n\r\n", bad),
        ("5;a\nhello\r\n0\r\n\r\n", bad),
        ("5;a=\"\n\"\r\nhello\r\n0\r\n\r\n", bad),
        ("5;a\0\r\nhello\r\n0\r\n\r\n", bad),
        ("5\r\nhello0\r\n\r\n", bad),
        ("5\r\nhello!\r\n0\r\n\r\n", bad),
        ("5\r\nhello\n0\r\n\r\n", bad),
        ("5\r\nhello\r0\r\n\r\n", bad),
        ("5\r\nhello\r\r\n0\r\n\r\n", bad),
        ("5\r\nhello\r\n\r\n0\r\n\r\n", bad),
        ("5\r\nhell\r\n0\r\n\r\n", bad),
        // Trailers.
        ("0\r\nX-Sum: 1\r\nY:\r\n\r\n", Pass),
        ("0\r\nContent-Length: 5\r\n\r\n", Body(&TRAILER)),
        ("0\r\ntransfer-encoding: chunked\r\n\r\n", Body(&TRAILER)),
        ("0\r\nX: 1\r\nHost: b\r\n\r\n", Body(&TRAILER)),
        ("0\r\nConnection: close\r\n\r\n", Body(&TRAILER)),
        ("0\r\nTrailer: x\r\n\r\n", Body(&TRAILER)),
        ("0\r\nAuthorization: x\r\n\r\n", Body(&TRAILER)),
        ("0\r\nX-Forwarded-For: x\r\n\r\n", Body(&TRAILER)),
        ("0\r\nX-Moat-Subject: x\r\n\r\n", Body(&TRAILER)),
        ("0\r\nX : 1\r\n\r\n", Body(&MALFORMED_HEAD)),
        ("0\r\nGET / HTTP/1.1\r\n\r\n", Body(&MALFORMED_HEAD)),
        ("0\r\nX: 1\r\n 2\r\n\r\n", Body(&FOLDED_LINE)),
        ("0\r\n \r\n\r\n", Body(&FOLDED_LINE)),
        ("0\r\nX: 1\nY: 2\r\n\r\n", Body(&BARE_CR_LF)),
        ("0\r\n\n", Body(&BARE_CR_LF)),
        ("0\r\n\rX", Body(&BARE_CR_LF)),
        ("0\r\nX: \0\r\n\r\n", Body(&BARE_CR_LF)),
    ];
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (body, expected) in cases {
        let input = format!("{head}{body}");
        if let Body(code) = expected
            && *code == &BODY_BROKEN
        {
            ended_early(input.as_bytes());
            continue;
        }
        check(body, input.as_bytes(), *expected);
    }
}

fn ended_early(input: &[u8]) {
    let mut guard = RequestGuard::new(Limits::default());
    guard.feed(input, &mut Vec::new()).expect("nothing wrong so far");
    assert!(guard.in_body());
    let refused = guard.end().expect_err("the body is not complete");
    assert_eq!((refused.code, refused.in_body), (&BODY_BROKEN, true));
    assert_eq!(guard.feed(b"x", &mut Vec::new()), Err(refused));
}

#[test]
fn an_end_within_a_head_is_an_error_and_between_messages_is_none() {
    let mut guard = RequestGuard::new(Limits::default());
    assert_eq!(guard.end(), Ok(()));
    guard.feed(b"GET / HT", &mut Vec::new()).expect("a good start");
    let refused = guard.end().expect_err("the head is not complete");
    assert_eq!((refused.code, refused.message_index), (&MALFORMED_HEAD, 0));
    assert_eq!(
        refused.to_string(),
        "MOAT-H011: connection ended within a head (head of message 0)"
    );
}

#[test]
fn bounds_hold_to_the_byte() {
    let limits = Limits {
        head_bytes_max: 120,
        head_fields_max: 3,
        target_bytes_max: 40,
        chunk_extension_bytes_max: 8,
    };
    let code = |input: String| outcome(limits, input.as_bytes()).refused.map(|refused| refused.0);
    let target =
        |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "t".repeat(bytes - 1));
    assert_eq!(code(target(40)), None);
    assert_eq!(code(target(41)), Some(TARGET_TOO_LONG.id));
    assert_eq!(code(format!("GET /{}", "t".repeat(40))), Some(TARGET_TOO_LONG.id));
    let head = |bytes: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        format!("{start}{}\r\n\r\n", "v".repeat(bytes - start.len() - 4))
    };
    assert_eq!(code(head(120)), None);
    assert_eq!(code(head(121)), Some(HEAD_TOO_LONG.id));
    assert_eq!(code("M".repeat(121)), Some(HEAD_TOO_LONG.id));
    let fields =
        |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    assert_eq!(code(fields(3)), None);
    assert_eq!(code(fields(4)), Some(HEAD_TOO_LONG.id));
    let trailers = |lines: &str| {
        format!("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{lines}\r\n")
    };
    assert_eq!(code(trailers(&"X: y\r\n".repeat(3))), None);
    assert_eq!(code(trailers(&"X: y\r\n".repeat(4))), Some(HEAD_TOO_LONG.id));
    assert_eq!(code(trailers(&format!("X: {}\r\n", "v".repeat(113)))), None);
    assert_eq!(code(trailers(&format!("X: {}\r\n", "v".repeat(114)))), Some(HEAD_TOO_LONG.id));
}

#[test]
fn the_shipped_bounds_are_those_of_the_model() {
    let code = |input: String| {
        let whole = feed_all(Limits::default(), [input.as_bytes()]);
        assert_eq!(whole, feed_all(Limits::default(), input.as_bytes().chunks(1)));
        assert_eq!(whole, feed_all(Limits::default(), input.as_bytes().chunks(1013)));
        whole.refused.map(|refused| refused.0)
    };
    let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    let head = |bytes: usize| format!("{start}{}\r\n\r\n", "v".repeat(bytes - start.len() - 4));
    assert_eq!(code(head(16 * 1024)), None);
    assert_eq!(code(head(16 * 1024 + 1)), Some(HEAD_TOO_LONG.id));
    let target =
        |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "t".repeat(bytes - 1));
    assert_eq!(code(target(8 * 1024)), None);
    assert_eq!(code(target(8 * 1024 + 1)), Some(TARGET_TOO_LONG.id));
    let fields =
        |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    assert_eq!(code(fields(100)), None);
    assert_eq!(code(fields(101)), Some(HEAD_TOO_LONG.id));
}

#[test]
fn one_empty_line_before_a_request_is_swallowed_and_a_second_is_refused() {
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let seen = outcome(Limits::default(), format!("\r\n{get}").as_bytes());
    assert_eq!((seen.refused, seen.out), (None, get.as_bytes().to_vec()));
    let seen = outcome(Limits::default(), b"\r\n");
    assert!(seen.head_started && !seen.boundary && seen.messages == 0);
    for (blank, code) in [("\r\n\r\n", &MALFORMED_HEAD), ("\n", &BARE_CR_LF), ("\rG", &BARE_CR_LF)]
    {
        let seen = outcome(Limits::default(), format!("{blank}{get}").as_bytes());
        assert_eq!(seen.refused, Some((code.id, 0, false)));
        assert!(seen.out.is_empty());
    }
    // Between two messages; `outcome` compares input and output, so it is fed by hand.
    let input = format!("{get}\r\n{get}");
    let seen = feed_all(Limits::default(), input.as_bytes().chunks(1));
    assert_eq!((seen.refused, seen.out), (None, get.repeat(2).into_bytes()));
}

#[test]
fn nothing_may_follow_the_last_message() {
    for (input, persists) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\nConnection: keep-alive\r\n\r\n",
            false,
        ),
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n", true),
        ("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive, x\r\n\r\n", true),
        ("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n", false),
        ("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", false),
    ] {
        let seen = outcome(Limits::default(), input.as_bytes());
        assert_eq!((seen.refused, seen.persists), (None, persists), "{input}");
        let seen = outcome(Limits::default(), format!("{input}{input}").as_bytes());
        let refused = (!persists).then_some((AFTER_CLOSE.id, 1, false));
        assert_eq!(seen.refused, refused, "{input}");
        assert_eq!(seen.out.len(), input.len() * (1 + usize::from(persists)), "{input}");
    }
}
