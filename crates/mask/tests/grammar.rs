//! Which texts are JSON: a table of our own, and serde_json as a second opinion on arbitrary bytes.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

use moat_mask::{Extractor, MaskError, Plan, Rewriter, Rule, Strategy};
use moat_model::Class;
use proptest::prelude::*;
use serde_json::Value;

fn plan() -> Plan {
    let rule = |pattern: &str, strategy: Strategy| {
        Rule::new(pattern.parse().expect(pattern), Class::C2).masked(strategy).captured(1)
    };
    let rules =
        [rule("/a", Strategy::Fixed), rule("/**/b", Strategy::Drop), rule("/1", Strategy::NAME)];
    Plan::compile(&rules).expect("plan")
}

/// The verdict in chunks of `size`; both machines must agree.
fn verdict(plan: &Plan, text: &[u8], size: usize) -> Result<Vec<u8>, MaskError> {
    let (mut rewriter, mut extractor) = (Rewriter::new(plan), Extractor::new(plan));
    let mut out = Vec::new();
    let mut done = Ok(());
    for chunk in text.chunks(size) {
        done = rewriter.push(chunk, &mut out);
        assert_eq!(done, extractor.push(chunk));
        if done.is_err() {
            break;
        }
    }
    let ended = rewriter.finish(&mut out);
    assert_eq!(ended.is_ok(), extractor.finish().is_ok());
    done.and(ended.map(|_| ())).map(|()| out)
}

const ACCEPTED: [&str; 26] = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "-1.5",
    "1e9",
    "1E+9",
    "0.0e-0",
    "123456789012345678901234567890",
    "\"\"",
    "\"a\"",
    "\" \\\" \\\\ \\/ \\b \\f \\n \\r \\t \"",
    "\"\\u0000\"",
    "\"\\ud83d\\ude00\"",
    "\"\\uD83D\\uDE00\"",
    "\"护城河\u{10ffff}\u{7f}\"",
    "[]",
    "{}",
    " [ ] ",
    "\t\r\n{ }\n",
    "[1,2]",
    "{\"a\":1,\"a\":2}",
    "{\"\":{\"\":[]}}",
    "1e999999999",
];

const REFUSED: [&[u8]; 62] = [
    b"",
    b" ",
    b"nul",
    b"nulll",
    b"True",
    b"NaN",
    b"Infinity",
    b"-",
    b"+1",
    b"01",
    b"-01",
    b"1.",
    b".5",
    b"1.e1",
    b"1e",
    b"1e+",
    b"0x1",
    b"1 2",
    b"1,",
    b"- 1",
    b"\"",
    b"\"a",
    b"'a'",
    b"\"\\x\"",
    b"\"\\u12\"",
    b"\"\\u12g4\"",
    b"\"\\ud800\"",
    b"\"\\udc00\"",
    b"\"\\ud800\\ud800\"",
    b"\"\\ud800x\"",
    b"\"\\ud800\\n\"",
    b"\"\n\"",
    b"\"\t\"",
    b"\"\0\"",
    b"\"\x1f\"",
    b"[",
    b"]",
    b"[1",
    b"[1,",
    b"[1,]",
    b"[,1]",
    b"[1 2]",
    b"{",
    b"}",
    b"{a:1}",
    b"{1:1}",
    b"{\"a\"}",
    b"{\"a\":}",
    b"{\"a\":1",
    b"{\"a\":1,}",
    b"{\"a\" 1}",
    b"{,}",
    b"[}",
    b"{]",
    b"[] []",
    b"// c\n1",
    b"\xef\xbb\xbf1",
    b"\"\xc0\xaf\"",
    b"\"\xed\xa0\x80\"",
    b"\"\xf4\x90\x80\x80\"",
    b"\"\xe4\xb8\"",
    b"\"\xff\"",
];

#[test]
fn the_table_of_accepted_and_refused_texts_holds_in_any_chunking() {
    let plan = plan();
    for size in [1, 2, 3, 7, 1000] {
        for text in ACCEPTED {
            assert!(verdict(&plan, text.as_bytes(), size).is_ok(), "{text} in {size}");
        }
        for text in REFUSED {
            let shown = String::from_utf8_lossy(text);
            let error = verdict(&plan, text, size).expect_err(&shown);
            assert!(error.offset() <= text.len() as u64, "{shown}: {error}");
        }
    }
}

/// Where serde_json and we differ on purpose.
#[test]
fn only_the_listed_texts_are_judged_otherwise_than_by_serde_json() {
    let plan = plan();
    // Nesting: serde_json stops at 128 levels, we at 64.
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    for (depth, ours, theirs) in
        [(64, true, true), (65, false, true), (127, false, true), (128, false, false)]
    {
        let text = nested(depth);
        assert_eq!(verdict(&plan, text.as_bytes(), 9).is_ok(), ours, "{depth}");
        assert_eq!(serde_json::from_str::<Value>(&text).is_ok(), theirs, "{depth}");
    }
    for text in ACCEPTED {
        assert!(serde_json::from_str::<Value>(text).is_ok(), "{text}");
    }
    for text in REFUSED {
        assert!(
            serde_json::from_slice::<Value>(text).is_err(),
            "{}",
            String::from_utf8_lossy(text)
        );
    }
}

#[test]
fn every_truncation_of_a_document_is_refused() {
    let text =
        r#" {"a":[1.5e3,"\ud83d\ude00x",{"b":{"c":true}},null],"ключ":"密码","n":-0.1,"b":"x"}"#;
    let plan = plan();
    assert!(verdict(&plan, text.as_bytes(), 5).is_ok());
    for end in 0..text.len() {
        for size in [1, 1000] {
            assert!(verdict(&plan, &text.as_bytes()[..end], size).is_err(), "cut at {end}");
        }
    }
}

/// Bytes that look like JSON often enough to get deep into the machine.
fn nearly_json() -> impl Strategy_<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\"a\"",
        "\"b\"",
        "\"b\":",
        "1",
        "-",
        "0",
        ".",
        "e",
        "true",
        "null",
        "fal",
        "\\u",
        "d83d",
        "\\ude00",
        "\\",
        "n",
        " ",
        "\n",
        "护",
        "{\"b\":",
        "[\"",
        "\"a\":\"x\",",
    ])
    .prop_map(|text| text.as_bytes().to_vec());
    let any = prop_oneof![9 => piece, 1 => any::<u8>().prop_map(|byte| vec![byte])];
    prop::collection::vec(any, 0..24).prop_map(|parts| parts.concat())
}

use proptest::strategy::Strategy as Strategy_;

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_in_any_chunking_get_serde_jsons_verdict_and_valid_output(text in nearly_json(), size in 1usize..12) {
        let plan = plan();
        let ours = verdict(&plan, &text, size);
        let theirs = serde_json::from_slice::<Value>(&text);
        prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{}", String::from_utf8_lossy(&text));
        prop_assert_eq!(&ours, &verdict(&plan, &text, 1));
        if let Ok(out) = ours {
            prop_assert!(serde_json::from_slice::<Value>(&out).is_ok());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(text in prop::collection::vec(any::<u8>(), 0..200), size in 1usize..50) {
        let _ = verdict(&plan(), &text, size);
    }
}
