//! The rewriter against a masker over a DOM: generated documents and rules, every cut, every
//! spelling of keys and values, duplicate keys. Outputs must be equal as values, captures equal as
//! lists, and no planted value may be left.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

use std::fmt;

use moat_mask::{Extractor, Pattern, Plan, Rewriter, Rule, Strategy as Mask, fixed};
use moat_model::Class;
use proptest::prelude::*;
use serde_json::de::Deserializer;

/// A document that keeps duplicate keys and the spelling of numbers.
#[derive(Clone, PartialEq)]
enum Doc {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    Array(Vec<Doc>),
    Object(Vec<(String, Doc)>),
}

impl fmt::Debug for Doc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&write(self, &mut Dice(0), Spelling::Plain))
    }
}

mod read {
    use super::Doc;
    use serde_json::value::Number;

    pub(super) struct Visitor;

    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = Doc;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("JSON")
        }
        fn visit_unit<E>(self) -> Result<Doc, E> {
            Ok(Doc::Null)
        }
        fn visit_bool<E>(self, value: bool) -> Result<Doc, E> {
            Ok(Doc::Bool(value))
        }
        fn visit_str<E>(self, value: &str) -> Result<Doc, E> {
            Ok(Doc::Text(value.to_owned()))
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut all: A) -> Result<Doc, A::Error> {
            let mut out = Vec::new();
            while let Some(doc) = all.next_element()? {
                out.push(doc);
            }
            Ok(Doc::Array(out))
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut all: A) -> Result<Doc, A::Error> {
            let mut out = Vec::new();
            while let Some(key) = all.next_key::<String>()? {
                // How serde_json hands over a number of arbitrary precision.
                if key == "$serde_json::private::Number" {
                    return Ok(Doc::Number(all.next_value()?));
                }
                out.push((key, all.next_value()?));
            }
            Ok(Doc::Object(out))
        }
        fn visit_u64<E>(self, value: u64) -> Result<Doc, E> {
            Ok(Doc::Number(Number::from(value).to_string()))
        }
    }

    impl<'de> serde::Deserialize<'de> for Doc {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Doc, D::Error> {
            from.deserialize_any(Visitor)
        }
    }
}

fn read(text: &[u8]) -> Doc {
    let mut from = Deserializer::from_slice(text);
    let doc = serde::Deserialize::deserialize(&mut from).expect("JSON");
    from.end().expect("end");
    doc
}

/// A small generator of choices; the seed comes from proptest.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % sides
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Spelling {
    Plain,
    Wild,
}

fn write(doc: &Doc, dice: &mut Dice, how: Spelling) -> String {
    let mut out = String::new();
    put(doc, dice, how, &mut out);
    out
}

fn space(dice: &mut Dice, how: Spelling, out: &mut String) {
    if how == Spelling::Wild {
        out.push_str(["", "", "", " ", "\n  ", "\t\r\n          "][dice.roll(6) as usize]);
    }
}

fn put_text(text: &str, dice: &mut Dice, how: Spelling, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        let escape = how == Spelling::Wild && dice.roll(3) == 0;
        match c {
            '"' | '\\' if !escape => out.extend(['\\', c]),
            '/' if escape && dice.roll(2) == 0 => out.push_str("\\/"),
            '\n' if dice.roll(2) == 0 => out.push_str("\\n"),
            c if escape || c < ' ' => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let hex = if dice.roll(2) == 0 {
                        format!("{unit:04x}")
                    } else {
                        format!("{unit:04X}")
                    };
                    out.push_str("\\u");
                    out.push_str(&hex);
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn put(doc: &Doc, dice: &mut Dice, how: Spelling, out: &mut String) {
    space(dice, how, out);
    match doc {
        Doc::Null => out.push_str("null"),
        Doc::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Doc::Number(text) => out.push_str(text),
        Doc::Text(text) => put_text(text, dice, how, out),
        Doc::Array(all) => {
            out.push('[');
            for (place, doc) in all.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                put(doc, dice, how, out);
            }
            space(dice, how, out);
            out.push(']');
        }
        Doc::Object(all) => {
            out.push('{');
            for (place, (key, doc)) in all.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                space(dice, how, out);
                put_text(key, dice, how, out);
                space(dice, how, out);
                out.push(':');
                put(doc, dice, how, out);
            }
            space(dice, how, out);
            out.push('}');
        }
    }
    space(dice, how, out);
}

/// Whether a pattern, split at its slashes, names the path or something above it.
fn names(pattern: &[&str], path: &[String]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, _) => true,
        (Some((&"**", rest)), _) if names(rest, path) => true,
        (Some((&"**", _)), Some((_, below))) => names(pattern, below),
        (Some((step, rest)), Some((key, below))) => {
            let wanted = step.replace("~1", "/").replace("~0", "~");
            (*step == "*" || wanted.eq_ignore_ascii_case(key)) && names(rest, below)
        }
        (Some(_), None) => false,
    }
}

type Seen = Vec<(u16, String, Option<String>)>;

struct Oracle<'a> {
    rules: &'a [Rule],
    seen: Seen,
    hidden: Vec<String>,
}

impl Oracle<'_> {
    /// The masked document; `None` if it is to be dropped.
    fn mask(&mut self, doc: &Doc, path: &mut Vec<String>, visible: bool) -> Option<Doc> {
        let matching: Vec<&Rule> = self
            .rules
            .iter()
            .filter(|rule| {
                let steps: Vec<&str> = rule.pattern.as_str().split('/').skip(1).collect();
                names(&steps, path)
            })
            .collect();
        let class = matching.iter().map(|rule| rule.class).max();
        let mut shown: Option<(Class, Mask)> = None;
        for rule in &matching {
            let Some(strategy) = rule.strategy else { continue };
            let rank = |mask: Mask| match mask {
                Mask::Drop => 2,
                Mask::Fixed => 1,
                _ => 0,
            };
            if shown.is_none_or(|(class, mask)| (rule.class, rank(strategy)) > (class, rank(mask)))
            {
                shown = Some((rule.class, strategy));
            }
        }
        if let (Some((_, strategy)), Some(class)) = (shown, class)
            && !strategy.allowed_for(class)
        {
            shown = Some((class, Mask::Fixed));
        }
        let dropped = matches!(shown, Some((_, Mask::Drop)));
        let visible = visible && !dropped;
        let masked = match doc {
            Doc::Array(all) => {
                let mut out = Vec::new();
                for (index, doc) in all.iter().enumerate() {
                    path.push(index.to_string());
                    out.push(self.mask(doc, path, visible).unwrap_or(Doc::Null));
                    path.pop();
                }
                Doc::Array(out)
            }
            Doc::Object(all) => {
                let mut out = Vec::new();
                for (key, doc) in all {
                    path.push(key.clone());
                    if let Some(doc) = self.mask(doc, path, visible) {
                        out.push((key.clone(), doc));
                    }
                    path.pop();
                }
                Doc::Object(out)
            }
            scalar => self.scalar(scalar, path, &matching, shown, visible),
        };
        (!dropped).then_some(masked)
    }

    fn scalar(
        &mut self,
        doc: &Doc,
        path: &[String],
        matching: &[&Rule],
        shown: Option<(Class, Mask)>,
        visible: bool,
    ) -> Doc {
        let text = match doc {
            Doc::Number(text) | Doc::Text(text) => text.clone(),
            Doc::Bool(value) => value.to_string(),
            _ => "null".to_owned(),
        };
        let class = matching.iter().map(|rule| rule.class).max();
        let mut ids: Vec<u16> = matching.iter().filter_map(|rule| rule.capture).collect();
        ids.sort_unstable();
        ids.dedup();
        let pointer: String = path
            .iter()
            .map(|key| format!("/{}", key.replace('~', "~0").replace('/', "~1")))
            .collect();
        for id in ids {
            let kept = (class != Some(Class::Sad)).then(|| text.clone());
            self.seen.push((id, pointer.clone(), kept));
        }
        if let Some((class, strategy)) = shown {
            if matches!(doc, Doc::Text(_)) && (!visible || strategy == Mask::Fixed) {
                self.hidden.push(text.clone());
            }
            return match doc {
                Doc::Null => Doc::Null,
                Doc::Bool(_) => Doc::Text(fixed(class).into()),
                _ => Doc::Text(strategy.mask(class, &text)),
            };
        }
        doc.clone()
    }
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "a", "A", "b", "card", "to", "账号", "x/y", "~t", "", "0", "1", "\n\"\\",
    ])
    .prop_map(str::to_owned)
}

fn scalar() -> impl Strategy<Value = Doc> {
    prop_oneof![
        Just(Doc::Null),
        any::<bool>().prop_map(Doc::Bool),
        prop::sample::select(vec![
            "0",
            "-0.0",
            "1.50",
            "6222020200112233445",
            "-1e+9",
            "12345678901234567890123"
        ])
        .prop_map(|text| Doc::Number(text.into())),
        prop::sample::select(vec![
            "",
            "张三",
            "13800138000",
            "6222020200112233445",
            "a\"b\\c\n/\u{1}😀"
        ])
        .prop_map(|text| Doc::Text(text.into())),
        (0u32..1_000_000).prop_map(|n| Doc::Text(format!("planted-{n:06}-值"))),
    ]
}

fn doc() -> impl Strategy<Value = Doc> {
    scalar().prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            2 => prop::collection::vec((key(), inner.clone()), 0..5).prop_map(Doc::Object),
            1 => prop::collection::vec(inner, 0..4).prop_map(Doc::Array),
        ]
    })
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let step = prop::sample::select(vec![
        "a", "b", "CARD", "to", "账号", "x~1y", "~0t", "", "0", "1", "*", "**",
    ]);
    let pattern = prop::collection::vec(step, 0..4)
        .prop_map(|steps| steps.iter().map(|step| format!("/{step}")).collect::<String>());
    let strategy = prop::sample::select(vec![
        None,
        Some(Mask::Fixed),
        Some(Mask::Drop),
        Some(Mask::BANK_CARD),
        Some(Mask::KeepFirstLast { first: 1, last: 2 }),
    ]);
    let rule =
        (pattern, prop::sample::select(Class::ALL.to_vec()), strategy, prop::option::of(0u16..4))
            .prop_map(|(pattern, class, strategy, capture)| {
                let pattern: Pattern = pattern.parse().expect("pattern");
                let strategy = strategy.filter(|strategy| strategy.allowed_for(class));
                let mut rule = Rule::new(pattern, class);
                (rule.strategy, rule.capture) = (strategy, capture);
                rule
            });
    prop::collection::vec(rule, 0..5)
}

fn seen(captures: &moat_mask::Captures) -> Seen {
    captures
        .iter()
        .map(|c| (c.id, c.pointer.clone(), c.value.as_text().map(str::to_owned)))
        .collect()
}

fn run<'a>(plan: &Plan, chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Seen) {
    let (mut rewriter, mut extractor) = (Rewriter::new(plan), Extractor::new(plan));
    let mut out = Vec::new();
    for chunk in chunks {
        rewriter.push(chunk, &mut out).expect("push");
        extractor.push(chunk).expect("push");
    }
    let captures = seen(&rewriter.finish(&mut out).expect("finish"));
    assert_eq!(captures, seen(&extractor.finish().expect("finish")));
    (out, captures)
}

fn check(doc: &Doc, rules: &[Rule], seed: u64, how: Spelling) -> Result<(), TestCaseError> {
    let plan = Plan::compile(rules).expect("plan");
    let text = write(doc, &mut Dice(seed), how);
    let text = text.as_bytes();
    prop_assert_eq!(&read(text), doc);
    let mut oracle = Oracle { rules, seen: Vec::new(), hidden: Vec::new() };
    let masked = oracle.mask(doc, &mut Vec::new(), true).unwrap_or(Doc::Null);

    let (out, captures) = run(&plan, [text].into_iter());
    prop_assert_eq!(&read(&out), &masked, "{}", String::from_utf8_lossy(text));
    prop_assert_eq!(&captures, &oracle.seen);
    if masked == *doc {
        prop_assert_eq!(&out, text, "unmatched bytes leave as they came");
    }
    for value in oracle.hidden.iter().filter(|value| value.starts_with("planted")) {
        let elsewhere = format!("{masked:?}").contains(value.as_str());
        prop_assert!(elsewhere || !String::from_utf8_lossy(&out).contains(value.as_str()));
    }
    let one_by_one = run(&plan, text.chunks(1));
    prop_assert_eq!(&one_by_one, &(out.clone(), captures.clone()));
    // Every cut of small documents, some cuts of others.
    let stride = text.len() / 200 + 1;
    for cut in (0..text.len()).step_by(stride) {
        let (left, right) = text.split_at(cut);
        let halves = run(&plan, [left, right].into_iter());
        prop_assert_eq!(&halves.0, &out, "cut at {}", cut);
        prop_assert_eq!(&halves.1, &captures, "cut at {}", cut);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_rewriter_agrees_with_the_dom_masker(
        doc in doc(), rules in rules(), seed in any::<u64>(), wild in any::<bool>(),
    ) {
        check(&doc, &rules, seed, if wild { Spelling::Wild } else { Spelling::Plain })?;
    }

    #[test]
    fn depth_is_no_obstacle(doc in doc(), rules in rules(), depth in 1usize..50, seed in any::<u64>()) {
        let deep = (0..depth).fold(doc, |doc, level| match level % 3 {
            0 => Doc::Array(vec![Doc::Null, doc]),
            1 => Doc::Object(vec![("a".into(), Doc::Null), ("to".into(), doc)]),
            _ => Doc::Object(vec![("b".into(), doc)]),
        });
        check(&deep, &rules, seed, Spelling::Plain)?;
    }
}
