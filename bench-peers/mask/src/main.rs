//! Peers of Moat's masks that the product does not link: JSON masked through trees, and FF1. Prints one
//! line each: figure, ours, theirs, ratio. All in one process, medians of rounds in turn.

use std::hint::black_box;
use std::time::{Duration, Instant};

use fpe::ff1::{FF1, FlexibleNumeralString};
use moat_mask::ff1::{self, Aes};
use moat_mask::{Class, Plan, Rewriter, Rule, Strategy};
use sonic_rs::{JsonValueMutTrait as _, JsonValueTrait as _};

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(50);

fn record(n: usize) -> String {
    format!(
        r#"{{"id":"acc-{n:06}","owner":{{"name":"欧阳修","mobile":"13800138000"}},"card":"6222020200112233440","currency":"CNY","balance":"{n}.50","entries":[{{"at":"2026-11-23T00:00:00.000Z","text":"salary for the month of November, thank you for your work","amount":"12000.00"}},{{"at":"2026-11-24T08:15:00.000Z","text":"rent","amount":"-4500.00"}}]}}"#
    )
}

fn list(count: usize) -> String {
    format!("{{\"accounts\":[{}]}}", (0..count).map(record).collect::<Vec<_>>().join(","))
}

/// Seconds of one run, in the middle of all rounds.
fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn once(work: &mut dyn FnMut()) -> f64 {
    let (begun, mut runs) = (Instant::now(), 0);
    while begun.elapsed() < ROUND {
        work();
        runs += 1;
    }
    begun.elapsed().as_secs_f64() / f64::from(runs)
}

fn row(
    name: &str,
    unit: &str,
    peer: &str,
    per_run: f64,
    ours: &mut dyn FnMut(),
    theirs: &mut dyn FnMut(),
) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        a.push(once(ours));
        b.push(once(theirs));
    }
    let (a, b) = (median(a), median(b));
    let shown = |seconds: f64| if per_run > 0.0 { per_run / seconds } else { seconds * 1e9 };
    println!(
        "{name:<28} {:>9.0} {unit:<5} {peer:<16} {:>9.0}  {:>6.1} x",
        shown(a),
        shown(b),
        b / a
    );
}

fn main() {
    let plan = |pointer: &str| {
        let rule = Rule::new(pointer.parse().expect("a pattern"), Class::Pan);
        Plan::compile(&[rule.masked(Strategy::BANK_CARD)]).expect("a plan")
    };
    let first = plan("/accounts/0/card");
    for count in [2, 50, 1_000] {
        let text = list(count);
        let mut out = Vec::with_capacity(text.len() * 2);
        let mut ours = || {
            out.clear();
            let mut rewriter = Rewriter::new(&first);
            rewriter.push(black_box(text.as_bytes()), &mut out).expect("JSON");
            black_box(rewriter.finish(&mut out).expect("JSON"));
        };
        let mut sonic = || {
            let mut value: sonic_rs::Value = sonic_rs::from_str(black_box(&text)).expect("JSON");
            if let Some(slot) = value
                .pointer_mut(["accounts"])
                .and_then(|v| v.get_mut(0))
                .and_then(|v| v.get_mut("card"))
            {
                let masked = slot.as_str().map(|card| Strategy::BANK_CARD.mask(Class::Pan, card));
                *slot = sonic_rs::Value::from(masked.as_deref().unwrap_or("***"));
            }
            black_box(sonic_rs::to_vec(&value).expect("JSON"));
        };
        let mut serde = || {
            let mut value: serde_json::Value =
                serde_json::from_str(black_box(&text)).expect("JSON");
            if let Some(slot) = value.pointer_mut("/accounts/0/card") {
                let masked = slot.as_str().map(|card| Strategy::BANK_CARD.mask(Class::Pan, card));
                *slot = masked.unwrap_or_default().into();
            }
            black_box(serde_json::to_vec(&value).expect("JSON"));
        };
        let name = format!("list of {} KB, one match", text.len().div_ceil(1_000));
        let size = text.len() as f64 / 1e6;
        row(&name, "MB/s", "sonic-rs 0.5.10", size, &mut ours, &mut sonic);
        row(&name, "MB/s", "serde_json", size, &mut ours, &mut serde);
    }
    tokens();
}

fn tokens() {
    let cipher = Aes::new(&[7; 16]).expect("a key");
    let peer = FF1::<aes::Aes128>::new(&[7; 16], 10).expect("a radix");
    let digits: Vec<u16> = vec![6, 2, 2, 2, 0, 2, 0, 2, 0, 0, 1, 1, 2, 2, 3, 3];
    let mut token: Vec<u8> = digits.iter().map(|digit| *digit as u8).collect();
    ff1::encrypt(&cipher, b"tweak", 10, &mut token).expect("a token");
    let text = FlexibleNumeralString::from(digits.clone());
    let theirs: Vec<u16> = peer.encrypt(b"tweak", &text).expect("a token").into();
    assert_eq!(
        theirs,
        token.iter().map(|digit| u16::from(*digit)).collect::<Vec<_>>(),
        "both agree"
    );
    let mut ours = || {
        ff1::encrypt(&cipher, b"tweak", 10, black_box(&mut token)).expect("a token");
    };
    let mut fpe = || {
        black_box(peer.encrypt(b"tweak", black_box(&text)).expect("a token"));
    };
    row("FF1, 16 digits, AES-128", "ns", "fpe 0.7.0", 0.0, &mut ours, &mut fpe);
}
