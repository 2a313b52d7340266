//! Bodies of every kind: cut anywhere they come out alike, and a card that a plan names never passes.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use moat_fuzz::{pieces, split_seed};
use moat_mask::body::{BodyError, Kind, Masker, Mode};
use moat_mask::{Class, Plan, Rule, Strategy};

const KINDS: [Kind; 5] = [Kind::Json, Kind::Ndjson, Kind::Events, Kind::Form, Kind::Csv];

fuzz_target!(|data: &[u8]| {
    let Some((seed, input)) = split_seed(data) else { return };
    let Some((first, input)) = input.split_first() else { return };
    let kind = KINDS[usize::from(*first) % KINDS.len()];
    let whole = run(kind, std::iter::once(input));
    let cut = run(kind, pieces(seed, input));
    match (whole, cut) {
        (Ok(whole), Ok(cut)) => assert_eq!(whole, cut, "cutting changes nothing"),
        (Err(_), Err(_)) => {}
        _ => panic!("cutting changes the verdict"),
    }
});

static PLAN: LazyLock<Plan> = LazyLock::new(|| {
    let rule = |pointer: &str, class| Rule::new(pointer.parse().expect("a pattern"), class);
    Plan::compile(&[
        rule("/card", Class::Pan).masked(Strategy::BANK_CARD).captured(0),
        rule("/a/b", Class::C2).masked(Strategy::MOBILE),
        rule("/pin", Class::Sad).masked(Strategy::Drop),
    ])
    .expect("good rules")
});

type Outcome = Result<(Vec<u8>, usize), BodyError>;

fn run<'a>(kind: Kind, parts: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut masker = Masker::new(kind, &PLAN, Mode::Rewrite, None);
    let mut out = Vec::new();
    for part in parts {
        masker.push(part, &mut out)?;
    }
    let captures = masker.finish(&mut out)?;
    Ok((out, captures.len()))
}
