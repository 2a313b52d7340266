use super::*;
use crate::{Rule, Strategy};
use moat_model::Class;

fn plan() -> Plan {
    let rule = |pattern: &str, class| Rule::new(pattern.parse().expect(pattern), class);
    Plan::compile(&[
        rule("/card", Class::Pan).masked(Strategy::BANK_CARD).captured(0),
        rule("/owner/mobile", Class::C2).masked(Strategy::MOBILE).captured(1),
        rule("/pin", Class::Sad).masked(Strategy::Drop),
        rule("/name", Class::C2).masked(Strategy::NAME),
    ])
    .expect("plan")
}

fn run(kind: Kind, text: &[u8], size: usize) -> Result<(String, Vec<String>), BodyError> {
    let mut masker = Masker::new(kind, &plan(), Mode::Rewrite, None);
    let mut out = Vec::new();
    for chunk in text.chunks(size.max(1)) {
        masker.push(chunk, &mut out)?;
    }
    let captures = masker.finish(&mut out)?;
    let captures =
        captures.iter().map(|c| format!("{} {}", c.pointer, c.value.as_text().unwrap_or("")));
    Ok((String::from_utf8(out).expect("UTF-8"), captures.collect()))
}

/// Cut in pieces of every size.
#[track_caller]
fn check(kind: Kind, text: &str, wanted: &str, captured: &[&str]) {
    for size in (1..=text.len().min(50)).chain([text.len()]) {
        let (out, captures) = run(kind, text.as_bytes(), size).expect(text);
        assert_eq!(out, wanted, "pieces of {size}");
        assert_eq!(captures, captured);
    }
}

#[track_caller]
fn refused(kind: Kind, text: &[u8]) {
    for size in [1, 3, text.len().max(1)] {
        let error = run(kind, text, size).expect_err("refused");
        assert!(!error.to_string().contains("4111"), "{error}");
        assert!(error.code().id.starts_with("MOAT-M"));
    }
}

#[test]
fn kinds_are_known_by_their_content_type() {
    for (text, kind) in [
        ("application/json", Some(Kind::Json)),
        ("application/problem+json; charset=gbk", Some(Kind::Json)),
        ("Application/X-NDJSON", Some(Kind::Ndjson)),
        ("text/event-stream;charset=UTF-8", Some(Kind::Events)),
        ("application/x-www-form-urlencoded", Some(Kind::Form)),
        ("text/csv; header=present; charset=\"utf-8\"", Some(Kind::Csv)),
        ("text/csv; header=absent", None),
        ("text/csv; charset=gb18030", None),
        ("text/plain", None),
        ("multipart/form-data; boundary=x", None),
        ("application/octet-stream", None),
        ("", None),
    ] {
        assert_eq!(Kind::of(text), kind, "{text}");
    }
}

#[test]
fn every_line_is_a_document() {
    check(
        Kind::Ndjson,
        "{\"card\":\"4111111111111111\"}\n\n {\"owner\":{\"mobile\":\"13800138000\"},\"pin\":1} \r\n[1]",
        "{\"card\":\"411111******1111\"}\n\n {\"owner\":{\"mobile\":\"138****8000\"}} \r\n[1]",
        &["/card 4111111111111111", "/owner/mobile 13800138000"],
    );
    check(Kind::Ndjson, "", "", &[]);
    refused(Kind::Ndjson, b"{\"card\":\n\"4111111111111111\"}\n");
    refused(Kind::Ndjson, b"{} {}\n");
    refused(Kind::Ndjson, b"{}\n{\"card\":\"4111111111111111");
}

#[test]
fn the_data_of_events_is_masked_and_comments_are_left_out() {
    check(
        Kind::Events,
        ": card 4111111111111111\nevent: paid\nid: 7\ndata: {\"card\":\ndata: \"4111111111111111\"}\r\n\r\n\ndata:{\"pin\":1}\n\ndata: {\"card\":\"411",
        "event: paid\nid: 7\ndata: {\"card\":\ndata: \"411111******1111\"}\n\n\ndata: {}\n\n",
        &["/card 4111111111111111"],
    );
    refused(Kind::Events, b"data: card 4111111111111111\n\n");
    refused(Kind::Events, b"id: 4111111111111111\n\n");
    refused(Kind::Events, b"card: 4111111111111111\n\n");
    refused(Kind::Events, b"event: \xe6\x8a\xa4\n\n");
}

#[test]
fn form_fields_are_known_however_they_are_spelled() {
    check(
        Kind::Form,
        "c%61rd=4111+1111+1111+1111&x=%2B&pin=1234&owner%5Bmobile%5D=13800138000&owner.mobile=13800138000&CARD=&name=%E6%AC%A7%E9%98%B3%E4%BF%AE&flag",
        "c%61rd=411111******1111&x=%2B&owner%5Bmobile%5D=138****8000&owner.mobile=138****8000&CARD=&name=%E6%AC%A7%E9%98%B3*&flag",
        &[
            "/card 4111 1111 1111 1111",
            "/owner[mobile] 13800138000",
            "/owner.mobile 13800138000",
            "/CARD ",
        ],
    );
    check(Kind::Form, "pin=1", "", &[]);
    check(Kind::Form, "", "", &[]);
    refused(Kind::Form, b"x=1;card=4111111111111111");
    refused(Kind::Form, b"card=%4");
    refused(Kind::Form, b"card=%ff");
    refused(Kind::Form, &[b'a'; PART_BYTES_MAX + 1]);
}

#[test]
fn columns_are_masked_by_their_names() {
    check(
        Kind::Csv,
        "id, Card ,pin,name\r\n1,4111111111111111,99,\"欧阳\"\"修\"\r\n2,\"4111 1111\n1111 1111\",\"a,b\",欧阳修",
        "id, Card ,pin,name\r\n1,411111******1111,,***\r\n2,***,,欧阳*",
        &["/Card 4111111111111111", "/Card 4111 1111\n1111 1111"],
    );
    check(
        Kind::Csv,
        "\u{feff}card\n4111111111111111\n\n",
        "\u{feff}card\n411111******1111\n\n",
        &["/card 4111111111111111"],
    );
    check(Kind::Csv, "", "", &[]);
    refused(Kind::Csv, b"id;card\n1;4111111111111111\n");
    refused(Kind::Csv, b"card\n1,4111111111111111\n");
    refused(Kind::Csv, b"card\n\"4111111111111111\n");
    refused(Kind::Csv, b"card\n\"4111111111111111\"x\n");
    refused(Kind::Csv, b"card\n4111\"111111111111\n");
    refused(Kind::Csv, b"card\n4111111111111111\rx\n");
    refused(Kind::Csv, b"card\n\xff4111111111111111\n");
}

#[test]
fn extracting_leaves_everything_and_messages_are_documents() {
    let text = b"card,name\n4111111111111111,x\n";
    let mut masker = Masker::new(Kind::Csv, &plan(), Mode::Extract, None);
    let mut out = Vec::new();
    masker.push(text, &mut out).expect("CSV");
    let captures = masker.finish(&mut out).expect("CSV");
    assert_eq!((out.as_slice(), captures.len()), (&text[..], 1));
    let (masked, _) = message(&plan(), br#"{"pin":1,"card":4111111111111111}"#).expect("JSON");
    assert_eq!(masked, br#"{"card":"411111******1111"}"#);
    assert!(message(&plan(), b"pin").is_err());
}

#[test]
fn captures_of_all_documents_together_are_bounded() {
    let lines = "{\"card\":\"1\"}\n".repeat(257);
    let error = run(Kind::Ndjson, lines.as_bytes(), 1000).expect_err("too many");
    assert_eq!(error.code().id, "MOAT-M003");
}
