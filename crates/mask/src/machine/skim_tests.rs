//! Skimming changes nothing: not what leaves, not what is refused, not where.

use super::*;
use crate::{Rule, Strategy};
use moat_model::Class;
use proptest::prelude::*;

fn plan() -> Plan {
    let rule = |pattern: &str| Rule::new(pattern.parse().expect(pattern), Class::C2);
    Plan::compile(&[
        rule("/a/card").masked(Strategy::Fixed).captured(0),
        rule("/list/1/*").masked(Strategy::Drop),
    ])
    .expect("plan")
}

type Outcome = (Vec<u8>, Result<String, MaskError>);

fn run(machine: Machine, text: &[u8], cuts: &[usize]) -> Outcome {
    let (mut machine, mut out, mut from) = (machine, Vec::new(), 0);
    for cut in cuts.iter().copied().chain([text.len()]) {
        let cut = cut.clamp(from, text.len());
        if let Err(error) = machine.push(&text[from..cut], &mut out) {
            return (Vec::new(), Err(error));
        }
        from = cut;
    }
    match machine.finish(&mut out) {
        Ok(captures) => (out, Ok(format!("{captures:?}"))),
        Err(error) => (Vec::new(), Err(error)),
    }
}

#[track_caller]
fn agree(text: &[u8], cuts: &[usize]) {
    let plan = plan();
    let wanted = run(Machine::new(&plan, true).without_skimming(), text, &[]);
    let shown = || String::from_utf8_lossy(text);
    assert_eq!(run(Machine::new(&plan, true), text, cuts), wanted, "{cuts:?} of {}", shown());
    let is_json = serde_json::from_slice::<serde_json::Value>(text).is_ok();
    if !matches!(wanted.1, Err(MaskError::TooDeep { .. } | MaskError::TooManyFields { .. })) {
        assert_eq!(wanted.1.is_ok(), is_json, "{}", shown());
    }
}

/// Documents whose parts no rule names, at every place in a block, good and spoilt.
#[test]
fn parts_that_no_rule_names_are_judged_alike_at_every_place_of_a_block() {
    let parts = [
        "1",
        "-0",
        "01",
        "1.",
        "1.5e+3",
        "1e",
        "-",
        "truex",
        "tru",
        "null",
        "[1,2]",
        "[1,]",
        "[,]",
        "[1 2]",
        "[\"a\":1]",
        "{\"a\":1}",
        "{\"a\",1}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{1:2}",
        "{}",
        "{\"a\":1 \"b\":2}",
        "{\"a\" \"b\"}",
        "{\"a\"::1}",
        "[}",
        "{]",
        "[[]]",
        "{\"a\":{\"b\":[{}]}}",
        "\"\\n\\\\\\\"\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83d\"",
        "\"\\ude00\"",
        "\"\\ud83dx\"",
        "\"护城河\"",
        "护",
        "\"\u{1}\"",
        "\u{1}",
        "\"a\"1",
        "1\"a\"",
        "\"a\"\"b\"",
        "[1]2",
        "[]]",
        "tr ue",
        "[true false]",
        "[\"\\\\\"]",
        "[\"\\\\\\\"\",\"\\\\\"]",
        "\u{7f}",
        "'a'",
        "[1,[2,[3,{\"x\":[]}]],\"]\"]",
        ":",
        ",",
        "\\",
        "\"\\",
        "{\"\\u0061\":[\"\\/\"]}",
    ];
    for part in parts {
        for pad in (0..70).chain([126, 127, 128]) {
            let text = format!(r#"{{"x":{{"p":"{}","q":{part},"r":1}},"a":2}}"#, "k".repeat(pad));
            agree(text.as_bytes(), &[]);
            agree(text.as_bytes(), &[text.len() / 2]);
        }
        let text = format!(r#"{{"x":[{part} ,{{"s":[{part}]}}],"list":[0,{{"d":{part}}}]}}"#);
        for cut in 0..text.len() {
            agree(text.as_bytes(), &[cut]);
        }
    }
}

#[test]
fn depth_is_counted_across_blocks() {
    for depth in [60, 61, 62, 63, 64] {
        for (open, close) in [("[", "]"), ("{\"k\":", "}")] {
            let inner = if open == "[" { "" } else { "1" };
            let text = format!("{{\"x\":{}{inner}{}}}", open.repeat(depth), close.repeat(depth));
            agree(text.as_bytes(), &[]);
        }
    }
}

#[test]
fn bytes_that_are_not_utf8_are_refused_at_the_same_place() {
    for bad in
        [&b"\xff"[..], b"\xc0\x80", b"\xe4\xbd", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\x80"]
    {
        for pad in 0..70 {
            let mut text = format!("{{\"x\":[\"{}护", "城".repeat(pad)).into_bytes();
            text.extend_from_slice(bad);
            text.extend_from_slice(b"\", 1]}");
            let plan = plan();
            let wanted = run(Machine::new(&plan, true).without_skimming(), &text, &[]);
            assert!(wanted.1.is_err());
            for cuts in [vec![], vec![text.len() / 2], vec![text.len() - 8]] {
                assert_eq!(run(Machine::new(&plan, true), &text, &cuts), wanted, "{bad:?} {pad}");
            }
        }
    }
}

/// JSON of any shape, with white space, escapes and numbers of every spelling.
fn json() -> impl Strategy_<Value = String> {
    let space = || prop_oneof![6 => Just(""), 1 => Just(" "), 1 => Just("\n  ")];
    let text = || {
        let piece = prop_oneof![
            "[a-z ,:{}\\[\\]]{0,12}".prop_map(|s| s),
            Just("护城河".to_owned()),
            Just("\\\"".to_owned()),
            Just("\\\\".to_owned()),
            Just("\\u00e9".to_owned()),
            Just("\\ud83d\\ude00".to_owned()),
            Just("x".repeat(70)),
        ];
        proptest::collection::vec(piece, 0..4).prop_map(|all| format!("\"{}\"", all.concat()))
    };
    let leaf = prop_oneof![
        text(),
        prop_oneof![Just("true"), Just("false"), Just("null"), Just("0"), Just("-1.50e+7")]
            .prop_map(str::to_owned),
        any::<i64>().prop_map(|n| n.to_string()),
    ];
    let value = leaf.prop_recursive(5, 40, 5, move |inner| {
        let key = prop_oneof![
            text(),
            Just("\"a\"".to_owned()),
            Just("\"card\"".to_owned()),
            Just("\"list\"".to_owned())
        ];
        let spaced = move |inner: BoxedStrategy<String>| {
            (space(), inner, space()).prop_map(|(a, b, c)| format!("{a}{b}{c}"))
        };
        let items = spaced(inner.clone().boxed());
        let members = (key, spaced(inner.boxed())).prop_map(|(k, v)| format!("{k}:{v}"));
        prop_oneof![
            proptest::collection::vec(items, 0..5).prop_map(|all| format!("[{}]", all.join(","))),
            proptest::collection::vec(members, 0..5)
                .prop_map(|all| format!("{{{}}}", all.join(","))),
        ]
    });
    (value.clone(), value).prop_map(|(a, b)| format!("{{\"x\":{a},\"list\":[1,{b}],\"y\":{b}}}"))
}

use proptest::strategy::Strategy as Strategy_;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn documents_cut_anywhere_and_spoilt_anywhere_come_out_alike(
        text in json(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
        spoil in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut text = text.into_bytes();
        if let Some((at, byte)) = spoil {
            let at = at.index(text.len());
            text[at] = byte;
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len())).collect();
        cuts.sort_unstable();
        agree(&text, &cuts);
    }
}
