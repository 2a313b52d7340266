//! The rewriter says the same however a document is cut, and calls JSON what serde_json does.
#![no_main]

use std::fmt;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use moat_fuzz::{pieces, split_seed};
use moat_mask::{Captures, MaskError, Plan, Rewriter, Rule, Strategy};
use moat_model::Class;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

fuzz_target!(|data: &[u8]| {
    let Some((seed, input)) = split_seed(data) else { return };
    let (out, whole) = rewrite(&MASKING, std::iter::once(input));
    let (cut_out, cut) = rewrite(&MASKING, pieces(seed, input));
    assert_eq!(shown(&whole), shown(&cut), "cutting changes nothing");
    assert_eq!(out, cut_out);

    let (unmasked, verdict) = rewrite(&NOTHING, std::iter::once(input));
    if verdict.is_ok() {
        assert_eq!(unmasked, input, "without rules everything leaves as it came");
    }
    match (is_json(input), verdict) {
        (true, Ok(_)) => assert!(whole.is_err() || is_json(&out), "what was masked is still JSON"),
        (true, Err(MaskError::TooDeep { .. })) | (false, Err(_)) => {}
        (theirs, ours) => panic!("serde_json: {theirs}, rewriter: {:?}", shown(&ours)),
    }
});

/// What serde_json accepts. It stops at a depth of 128, the rewriter at 64.
fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<Anything>(text).is_ok()
}

/// Reads every key, string and number, and keeps none; `IgnoredAny` would skip UTF-8 checks, and
/// `Value` gives some keys a meaning.
struct Anything;

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Anything, D::Error> {
        from.deserialize_any(Anything)
    }
}

impl<'de> Visitor<'de> for Anything {
    type Value = Anything;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Anything, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Anything, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Anything, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Anything, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Anything, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Anything, A::Error> {
        while all.next_element::<Anything>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Anything, A::Error> {
        while all.next_key::<Anything>()?.is_some() {
            all.next_value::<Anything>()?;
        }
        Ok(self)
    }
}

static NOTHING: LazyLock<Plan> = LazyLock::new(|| Plan::compile(&[]).expect("no rules"));

static MASKING: LazyLock<Plan> = LazyLock::new(|| {
    let rule = |pointer: &str, class| Rule::new(pointer.parse().expect("a pattern"), class);
    Plan::compile(&[
        rule("/mobile", Class::C2).masked(Strategy::MOBILE).captured(1),
        rule("/owner/*/card", Class::Pan).captured(2),
        rule("/list/*", Class::C2).masked(Strategy::MOBILE),
    ])
    .expect("good rules")
});

type Verdict = Result<Captures, MaskError>;

fn rewrite<'a>(plan: &Plan, parts: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Verdict) {
    let (mut rewriter, mut out) = (Rewriter::new(plan), Vec::new());
    for part in parts {
        if let Err(error) = rewriter.push(part, &mut out) {
            // What was written before an error must not be used, so it is not compared.
            return (Vec::new(), Err(error));
        }
    }
    match rewriter.finish(&mut out) {
        Ok(captures) => (out, Ok(captures)),
        Err(error) => (Vec::new(), Err(error)),
    }
}

/// A verdict that can be compared.
fn shown(verdict: &Verdict) -> Result<Vec<(u16, &str, Option<&str>)>, &MaskError> {
    let captures = verdict.as_ref()?;
    Ok(captures.iter().map(|c| (c.id, c.pointer.as_str(), c.value.as_text())).collect())
}
