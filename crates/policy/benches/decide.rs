//! What one decision of the demo's policy costs: recalled, and made anew.
//!
//! `cargo bench -p moat-policy` prints microseconds a decision, best of several rounds.

#![allow(clippy::expect_used, reason = "a benchmark may stop at once")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use moat_policy::measure::{Behaviour, Payments};
use moat_policy::{Bundle, BundleFile, Engine, Fact, Question, StepUp, Wire};

const ROUNDS: usize = 9;
const DECISIONS: u32 = 20_000;

const RULES: &str = include_str!("../../../examples/demo/policy/authz.rego");
const DATA: &str = include_str!("../../../examples/demo/policy/limits.json");
/// Reads the time, so that no decision can be recalled.
const ANEW: &str = "\ndeny contains \"before_time\" if input.now_ms < 0\n";

fn engine(rules: &str) -> Engine {
    let files = [("authz.rego", rules), ("limits.json", DATA)];
    let files = files.map(|(path, text)| BundleFile { path: path.into(), bytes: text.into() });
    Engine::compile(&Arc::new(Bundle::new(files.into()).expect("a bundle"))).expect("an engine")
}

/// Nobody looks.
static NO_WIRE: Wire =
    Wire { state: "off", ttl: 0, window: 0, segment_max: 0, options: String::new(), waited_us: 0 };

fn question<'a>(facts: &'a [Fact<'a>], params: &'a [(Arc<str>, String)]) -> Question<'a> {
    Question {
        now_ms: 1_700_000_000_000,
        tenant: "default",
        listener: "partners",
        route: "read-account",
        role: "partners",
        spiffe: "spiffe://bank.test/teller",
        subject: "CN=teller,O=Bank",
        issuer: "CN=Moat Demo Issuing CA",
        serial: "3f6a9c10b2d4",
        expires_ms: 1_800_000_000_000,
        suite: "TLS13_AES_256_GCM_SHA384",
        group: "X25519",
        national: false,
        ja4: "t13d1516h2_8daaf6152771_e5627efa2ab1",
        wire: &NO_WIRE,
        method: "GET",
        path: "/v1/accounts/1001",
        params,
        headers: &[],
        body_digest: "",
        body: &[],
        token: None,
        step_up: StepUp::default(),
        risk: moat_policy::risk::Risk::OFF,
        facts,
    }
}

fn main() {
    let facts = [("service_id", "accounts"), ("env", "prod"), ("tier", "gold")];
    let facts = facts.map(|(name, value)| Fact { name, value });
    let params = [("id".into(), "1001".to_owned())];
    let question = question(&facts, &params);
    for (name, rules) in [("recalled", RULES.to_owned()), ("made anew", format!("{RULES}{ANEW}"))] {
        let mut engine = engine(&rules);
        let round = |_| {
            let begun = Instant::now();
            for _ in 0..DECISIONS {
                let decision = engine.decide("authz", black_box(&question));
                black_box(decision.permit().expect("allowed"));
            }
            begun.elapsed().as_secs_f64() * 1e6 / f64::from(DECISIONS)
        };
        let best = (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min);
        println!("{name:<12} {best:>7.2} us a decision");
    }
    many();
}

/// Few and many packages in turns, risk, and kept decisions asked again.
fn many() {
    let (mut few, mut many) =
        (Payments::new(10).expect("a bundle"), Payments::new(10_000).expect("a bundle"));
    for _ in 0..5 {
        for (name, payments) in [("10 packages", &mut few), ("10,000 packages", &mut many)] {
            let times = payments.decide(20_000).expect("allowed");
            let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or(0);
            println!("{name:<16} p50 {:>6} ns, p99 {:>6} ns", at(50), at(99));
        }
    }
    let mut subjects = Behaviour::of(1_000);
    let lines = few.keep(20_000);
    for _ in 0..5 {
        let (weighed, asked) = (subjects.weigh(100_000), few.ask_again(&lines).expect("the same"));
        println!("risk {weighed:>6.0} ns, asked again {asked:>8.0} a second");
    }
}
