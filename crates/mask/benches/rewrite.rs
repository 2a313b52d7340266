//! Rewriting against serde_json (parse to a DOM, mask, write), in one run on one machine.
//!
//! `cargo bench -p moat-mask` prints a table: megabytes of input a second, best of several rounds.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a benchmark may stop at once"
)]

use std::hint::black_box;
use std::time::Instant;

use moat_mask::{Extractor, Plan, Rewriter, Rule, Strategy};
use moat_model::Class;
use serde_json::Value;

const ROUNDS: usize = 9;

fn record(n: usize) -> String {
    format!(
        r#"{{"id":"acc-{n:06}","owner":{{"name":"欧阳修","id_card":"11010519491231002X","mobile":"13800138000","email":"ou.yang@bank.test","address":"广东省深圳市南山区科技园路{n}号"}},"card":"6222020200112233440","currency":"CNY","balance":"{n}.50","entries":[{{"at":"2026-11-23T00:00:00.000Z","text":"salary for the month of November, thank you for your work","amount":"12000.00"}},{{"at":"2026-11-24T08:15:00.000Z","text":"rent","amount":"-4500.00"}}]}}"#
    )
}

fn list(count: usize) -> String {
    format!("{{\"accounts\":[{}]}}", (0..count).map(record).collect::<Vec<_>>().join(","))
}

/// The same bytes with line breaks and indents.
fn pretty(text: &str) -> String {
    let value: Value = serde_json::from_str(text).expect("JSON");
    serde_json::to_string_pretty(&value).expect("JSON")
}

fn plan(rules: &[(&str, Class, Strategy)]) -> Plan {
    let rules: Vec<Rule> = rules
        .iter()
        .map(|(pattern, class, mask)| {
            Rule::new(pattern.parse().expect("pattern"), *class).masked(*mask)
        })
        .collect();
    Plan::compile(&rules).expect("plan")
}

/// Megabytes a second, best of the rounds.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn speed(bytes: usize, mut work: impl FnMut()) -> f64 {
    let repeat = (4_000_000 / bytes).max(1);
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..repeat {
            work();
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    (bytes * repeat) as f64 / best / 1e6
}

fn rewrite(plan: &Plan, text: &str) -> f64 {
    let mut out = Vec::with_capacity(text.len() * 2);
    speed(text.len(), || {
        out.clear();
        let mut rewriter = Rewriter::new(plan);
        for chunk in text.as_bytes().chunks(16 * 1024) {
            rewriter.push(chunk, &mut out).expect("push");
        }
        black_box(rewriter.finish(&mut out).expect("finish"));
    })
}

fn extract(plan: &Plan, text: &str) -> f64 {
    speed(text.len(), || {
        let mut extractor = Extractor::new(plan);
        for chunk in text.as_bytes().chunks(16 * 1024) {
            extractor.push(chunk).expect("push");
        }
        black_box(extractor.finish().expect("finish"));
    })
}

fn set(value: &mut Value, pointer: &str, mask: Strategy) {
    if let Some(slot) = value.pointer_mut(pointer) {
        let masked = slot.as_str().map(|text| mask.mask(Class::C2, text));
        *slot = masked.map_or(Value::Null, Value::String);
    }
}

fn dom(text: &str, fields: &[(&str, Strategy)], each: bool) -> f64 {
    speed(text.len(), || {
        let mut value: Value = serde_json::from_str(text).expect("JSON");
        if each {
            for account in value["accounts"].as_array_mut().expect("list") {
                fields.iter().for_each(|(pointer, mask)| set(account, pointer, *mask));
            }
        } else {
            fields.iter().for_each(|(pointer, mask)| set(&mut value, pointer, *mask));
        }
        black_box(serde_json::to_vec(&value).expect("JSON"));
    })
}

fn main() {
    let many = [
        ("/owner/name", Strategy::NAME),
        ("/owner/id_card", Strategy::ID_CARD),
        ("/owner/mobile", Strategy::MOBILE),
        ("/card", Strategy::BANK_CARD),
    ];
    let few = [("/accounts/0/card", Strategy::BANK_CARD)];
    let class = |mask| if mask == Strategy::BANK_CARD { Class::Pan } else { Class::C2 };
    let of = |prefix: &str, fields: &[(&str, Strategy)]| {
        let named: Vec<_> =
            fields.iter().map(|(p, mask)| (format!("{prefix}{p}"), *mask)).collect();
        plan(&named.iter().map(|(p, mask)| (p.as_str(), class(*mask), *mask)).collect::<Vec<_>>())
    };
    println!(
        "{:<34}{:>9}{:>12}{:>12}{:>8}",
        "document, plan", "KB", "moat MB/s", "DOM MB/s", "ratio"
    );
    let row = |name: &str, text: &str, moat: f64, peer: f64| {
        println!("{name:<34}{:>9}{moat:>12.0}{peer:>12.0}{:>8.1}", text.len() / 1000, moat / peer);
    };
    let large = list(1000);
    let spaced = pretty(&large);
    let small = record(7);
    let prose = format!(
        r#"{{"card":"6222020200112233440","text":"{}"}}"#,
        "plain words and more ".repeat(30_000)
    );
    let all = of("/accounts/*", &many);
    row("list, one match", &large, rewrite(&of("", &few), &large), dom(&large, &few, false));
    row("list, four matches a record", &large, rewrite(&all, &large), dom(&large, &many, true));
    row(
        "list, ** rule",
        &large,
        rewrite(&plan(&[("/**/card", Class::Pan, Strategy::BANK_CARD)]), &large),
        dom(&large, &many[3..], true),
    );
    row(
        "list, extract (one match)",
        &large,
        extract(&of("", &few), &large),
        dom(&large, &few, false),
    );
    row(
        "indented list, one match",
        &spaced,
        rewrite(&of("", &few), &spaced),
        dom(&spaced, &few, false),
    );
    row(
        "one record, four matches",
        &small,
        rewrite(&of("", &many), &small),
        dom(&small, &many, false),
    );
    row(
        "prose, one match",
        &prose,
        rewrite(&of("", &many[3..]), &prose),
        dom(&prose, &many[3..], false),
    );
}
