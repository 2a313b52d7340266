//! `moat bench mask`: bodies masked, beside serde_json, which parses, masks and writes a tree, in the
//! same process. Other peers are in bench-peers/mask, a program that prints a table of its own.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use moat_auditor::bench::{Goal, Row};
use moat_mask::ff1::{self, Aes};
use moat_mask::{Class, Classified, Classify, Plan, Rewriter, Rule, Strategy, TypePlan};
use serde_json::{Value, json};

use super::process::Interrupt;
use super::{machine, median};

/// How long and how often.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) rounds: u32,
    pub(crate) round: Duration,
}

impl Settings {
    pub(crate) const ROUNDS: u32 = 9;
    pub(crate) const ROUND_MS: u32 = 50;
    pub(crate) const USUAL: Settings =
        Settings { rounds: Self::ROUNDS, round: Duration::from_millis(Self::ROUND_MS as u64) };
}

/// Records in the long list.
const RECORDS: u32 = 1_000;
/// Bytes pushed at a time, as they come from a socket.
const CHUNK_BYTES: usize = 16 * 1024;

/// Work that may be done again and again.
type Work<'a> = Box<dyn FnMut() + 'a>;

struct Figure<'a> {
    name: &'static str,
    unit: &'static str,
    /// What one run is in that unit; of a time, what a second is.
    size: f64,
    is_time: bool,
    ours: Work<'a>,
    peer: Option<(&'static str, Work<'a>)>,
    goal: Option<Goal>,
}

pub(crate) fn run(settings: Settings, interrupt: &Interrupt) -> Result<Vec<Row>> {
    machine::describe_machine();
    eprintln!("documents  lists of accounts of 0.5 KB each; one or four fields of each are masked");
    eprintln!("serde_json parses into a tree, masks the same fields with the same code, writes");
    eprintln!(
        "rounds     {} of {} ms of each side in turn, medians",
        settings.rounds,
        settings.round.as_millis()
    );
    let (large, small) = (list(RECORDS), record(7));
    let indented = serde_json::to_string_pretty(&serde_json::from_str::<Value>(&large)?)?;
    let (one, four) = (vec![("/accounts/0/card", Strategy::BANK_CARD)], FIELDS.to_vec());
    let each: Vec<(String, Strategy)> =
        FIELDS.iter().map(|(field, mask)| (format!("/accounts/*{field}"), *mask)).collect();
    let each: Vec<_> = each.iter().map(|(field, mask)| (field.as_str(), *mask)).collect();
    let (one, each, own) = (plan(&one)?, plan(&each)?, plan(&four)?);
    let first: &[(&str, Strategy)] = &[("/accounts/0/card", Strategy::BANK_CARD)];
    let mut figures = vec![
        rewriting("list, one match", &one, &large, first, Goal::RatioAtLeast(10.0)),
        rewriting("list, one match, alone", &one, &large, &[], Goal::AtLeast(2_000.0)),
        rewriting("indented list, one match", &one, &indented, first, Goal::RatioAtLeast(10.0)),
        rewriting("list, four of each", &each, &large, EACH, Goal::RatioAtLeast(2.0)),
        rewriting("one record, four matches", &own, &small, FIELDS, Goal::RatioAtLeast(2.0)),
    ];
    figures.extend(others()?);
    figures.into_iter().map(|figure| figure.measure(settings, interrupt)).collect()
}

impl Figure<'_> {
    fn measure(mut self, settings: Settings, interrupt: &Interrupt) -> Result<Row> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..settings.rounds {
            interrupt.pause(Duration::ZERO)?;
            ours.push(rate(&mut self.ours, settings.round));
            theirs.extend(self.peer.as_mut().map(|(_, work)| rate(work, settings.round)));
        }
        let value = |rate: f64| if self.is_time { self.size / rate } else { self.size * rate };
        let ours = median(ours).context("nothing was measured")?;
        let mut row = Row::new(self.name, value(ours), self.unit);
        if let Some((name, _)) = self.peer {
            row = row.beside(name, value(median(theirs).context("nothing was measured")?));
        }
        Ok(self.goal.map_or(row.clone(), |goal| row.should_be(goal)))
    }
}

/// Runs a second.
fn rate(work: &mut Work<'_>, time: Duration) -> f64 {
    const BATCH: u32 = 4;
    let (begun, mut runs) = (Instant::now(), 0_u32);
    loop {
        (0..BATCH).for_each(|_| work());
        runs = runs.saturating_add(BATCH);
        let took = begun.elapsed();
        if took >= time {
            return f64::from(runs) / took.as_secs_f64();
        }
    }
}

const FIELDS: &[(&str, Strategy)] = &[
    ("/owner/name", Strategy::NAME),
    ("/owner/id_card", Strategy::ID_CARD),
    ("/owner/mobile", Strategy::MOBILE),
    ("/card", Strategy::BANK_CARD),
];
/// The same in every element of the list, for the tree.
const EACH: &[(&str, Strategy)] = &[
    ("*/owner/name", Strategy::NAME),
    ("*/owner/id_card", Strategy::ID_CARD),
    ("*/owner/mobile", Strategy::MOBILE),
    ("*/card", Strategy::BANK_CARD),
];

fn record(n: u32) -> String {
    json!({
        "id": format!("acc-{n:06}"),
        "owner": { "name": "欧阳修", "id_card": "11010519491231002X", "mobile": "13800138000",
            "email": "ou.yang@bank.test", "address": format!("广东省深圳市南山区科技园路{n}号") },
        "card": "6222020200112233440", "currency": "CNY", "balance": format!("{n}.50"),
        "entries": [
            { "at": "2026-11-23T00:00:00.000Z", "amount": "12000.00",
              "text": "salary for the month of November, thank you for your work" },
            { "at": "2026-11-24T08:15:00.000Z", "amount": "-4500.00", "text": "rent" },
        ],
    })
    .to_string()
}

fn list(count: u32) -> String {
    format!("{{\"accounts\":[{}]}}", (0..count).map(record).collect::<Vec<_>>().join(","))
}

fn plan(fields: &[(&str, Strategy)]) -> Result<Plan> {
    let rule = |(pointer, mask): &(&str, Strategy)| {
        Ok(Rule::new(pointer.parse()?, mask.usual_class()).masked(*mask))
    };
    let rules: Vec<Rule> = fields.iter().map(rule).collect::<Result<_>>()?;
    Ok(Plan::compile(&rules)?)
}

fn rewriting<'a>(
    name: &'static str,
    plan: &'a Plan,
    text: &'a str,
    fields: &'static [(&'static str, Strategy)],
    goal: Goal,
) -> Figure<'a> {
    let mut out = Vec::with_capacity(text.len() * 2);
    let ours = move || {
        out.clear();
        let mut rewriter = Rewriter::new(plan);
        for chunk in black_box(text).as_bytes().chunks(CHUNK_BYTES) {
            let _ = rewriter.push(chunk, &mut out);
        }
        let _ = black_box(rewriter.finish(&mut out));
    };
    let peer: Work<'a> = Box::new(move || {
        let Ok(mut value) = serde_json::from_str::<Value>(black_box(text)) else { return };
        for (pointer, mask) in fields {
            match pointer.strip_prefix('*') {
                None => set(&mut value, pointer, *mask),
                Some(pointer) => {
                    let list = value.get_mut("accounts").and_then(Value::as_array_mut);
                    list.into_iter().flatten().for_each(|one| set(one, pointer, *mask));
                }
            }
        }
        let _ = black_box(serde_json::to_vec(&value));
    });
    let peer = (!fields.is_empty()).then_some(("serde_json", peer));
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let size = text.len() as f64 / 1e6;
    Figure {
        name,
        unit: "MB/s",
        size,
        is_time: false,
        ours: Box::new(ours),
        peer,
        goal: Some(goal),
    }
}

fn set(value: &mut Value, pointer: &str, mask: Strategy) {
    if let Some(slot) = value.pointer_mut(pointer) {
        let masked = slot.as_str().map(|text| mask.mask(Class::C2, text));
        *slot = masked.map_or(Value::Null, Value::String);
    }
}

#[derive(Classify)]
struct Account {
    #[class(C1)]
    id: Classified<String>,
    #[class(C2, mask = "name")]
    name: Classified<String>,
    #[class(C2, mask = "mobile")]
    mobile: Classified<String>,
    #[class(PAN)]
    card: Classified<String>,
    #[class(C1)]
    text: Classified<String>,
    #[class(C1)]
    balance: Classified<i64>,
}

/// The same in clear.
#[derive(serde::Serialize)]
struct Plain {
    id: &'static str,
    name: &'static str,
    mobile: &'static str,
    card: &'static str,
    text: &'static str,
    balance: i64,
}

fn others<'a>() -> Result<Vec<Figure<'a>>> {
    let plain = Plain {
        id: "acc-000007",
        name: "欧阳修",
        mobile: "13800138000",
        card: "6222020200112233440",
        text: "salary for the month of November, thank you for your work",
        balance: 987_650,
    };
    let text = |text: &str| Classified::new(text.to_owned());
    let account = Account {
        id: text(plain.id),
        name: text(plain.name),
        mobile: text(plain.mobile),
        card: text(plain.card),
        text: text(plain.text),
        balance: Classified::new(plain.balance),
    };
    let (plan, mut out, mut other) = (TypePlan::of::<Account>(), Vec::new(), Vec::new());
    let client = move || {
        out.clear();
        plan.client(black_box(&account), &mut out);
        black_box(&out);
    };
    let written = move || {
        other.clear();
        let _ = serde_json::to_writer(&mut other, black_box(&plain));
        black_box(&other);
    };
    let cipher = Aes::new(&[7; 16]).context("a key")?;
    let mut digits = [6, 2, 2, 2, 0, 2, 0, 2, 0, 0, 1, 1, 2, 2, 3, 3];
    ensure!(ff1::encrypt(&cipher, b"tweak", 10, &mut digits).is_ok(), "FF1 refuses the sample");
    let token = move || {
        let _ = black_box(ff1::encrypt(&cipher, b"tweak", 10, black_box(&mut digits)));
    };
    Ok(vec![
        Figure {
            name: "client view of a type",
            unit: "ns",
            size: 1e9,
            is_time: true,
            ours: Box::new(client),
            peer: Some(("serde_json, in clear", Box::new(written))),
            goal: None,
        },
        Figure {
            name: "FF1, 16 digits, AES-128",
            unit: "ns",
            size: 1e9,
            is_time: true,
            ours: Box::new(token),
            peer: None,
            goal: Some(Goal::AtMost(2_000.0)),
        },
    ])
}
