//! What is measured of decisions, for `moat bench policy` and `cargo bench -p moat-policy`.
//!
//! Every decision is made anew: the rules read the time, so none can be recalled.

use core::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use moat_model::Refusal;

use crate::kept::{self, Again, Kept};
use crate::risk::{Attempt, Ended, Memory, Risk};
use crate::{BodyValue, Bundle, BundleFile, Engine, Fact, Problem, Question, StepUp, Wire};

/// A payment's policy: service, environment, caller, tier and amount, and a denial by time.
const PACKAGE: &str = "default allow := false\n\
allow if {\n\
\tinput.service_id == \"payments\"\n\
\tinput.env == \"prod\"\n\
\tinput.caller_cert_subject == \"CN=teller,O=Bank\"\n\
\tinput.tier in {\"gold\", \"silver\"}\n\
\tinput.body.amount <= 5000000\n\
}\n\
deny contains \"before_time\" if input.now_ms < 1\n";

static NO_WIRE: Wire =
    Wire { state: "off", ttl: 0, window: 0, segment_max: 0, options: String::new(), waited_us: 0 };

const FACTS: [Fact<'static>; 4] = [
    Fact { name: "service_id", value: "payments" },
    Fact { name: "env", value: "prod" },
    Fact { name: "tier", value: "gold" },
    Fact { name: "caller_cert_subject", value: "CN=teller,O=Bank" },
];

/// A time in 2023; what is asked at it is allowed.
const BEGIN_MS: u64 = 1_700_000_000_000;
/// A stride through the packages, so that each has its turn in no order: a prime.
const STRIDE: usize = 7_919;

/// One bundle of many packages, all with the rules of a payment.
pub struct Payments {
    engine: Engine,
    names: Vec<String>,
    body: [(String, BodyValue); 1],
    now_ms: u64,
}

impl Payments {
    /// A bundle of so many packages.
    ///
    /// # Errors
    /// There are more packages than a bundle takes.
    pub fn new(packages: usize) -> Result<Payments, Problem> {
        let file = |number: usize| BundleFile {
            path: format!("p/{number}.rego"),
            bytes: format!("package p.n{number}\n{PACKAGE}").into_bytes(),
        };
        let bundle = Bundle::new((0..packages).map(file).collect())?;
        let engine = Engine::compile(&Arc::new(bundle))?;
        let names = (0..packages).map(|number| format!("p.n{number}")).collect();
        let body = [("/amount".to_owned(), BodyValue::Integer(125_000))];
        Ok(Payments { engine, names, body, now_ms: BEGIN_MS })
    }

    /// The times of so many decisions, in nanoseconds, sorted.
    ///
    /// # Errors
    /// A decision is not allow.
    pub fn decide(&mut self, decisions: usize) -> Result<Vec<u64>, Refusal> {
        let Payments { engine, names, body, now_ms } = self;
        let names = names.iter().cycle().step_by(STRIDE % names.len().max(1) + 1);
        let mut times = Vec::with_capacity(decisions);
        for name in names.take(decisions) {
            *now_ms += 1;
            let question = question(*now_ms, body);
            let begun = Instant::now();
            let decision = black_box(engine.decide(name, black_box(&question)));
            times.push(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
            decision.permit()?;
        }
        times.sort_unstable();
        Ok(times)
    }

    /// So many decisions as they are kept.
    #[must_use]
    pub fn keep(&mut self, decisions: usize) -> Vec<String> {
        let mut lines = Vec::with_capacity(decisions);
        for name in self.names.iter().cycle().take(decisions) {
            self.now_ms += 1;
            let question = question(self.now_ms, &self.body);
            let decision = self.engine.decide(name, &question);
            let digest = Arc::clone(self.engine.digest());
            let trace = "0af7651916cd43dd8448eb211c80319c";
            lines.extend(kept::line(&question, name, &digest, trace, &[], &decision));
        }
        lines
    }

    /// How many kept decisions are asked again in a second.
    ///
    /// # Errors
    /// One comes to another answer, or is none.
    pub fn ask_again(&mut self, lines: &[String]) -> Result<f64, String> {
        let begun = Instant::now();
        for line in lines {
            let again = Kept::read(line)?.ask(&mut self.engine)?;
            if again != Again::Same {
                return Err("the same bundle gives another answer".to_owned());
            }
        }
        let asked = u32::try_from(lines.len()).unwrap_or(u32::MAX);
        Ok(f64::from(asked) / begun.elapsed().as_secs_f64())
    }
}

fn question<'a>(now_ms: u64, body: &'a [(String, BodyValue)]) -> Question<'a> {
    Question {
        now_ms,
        tenant: "default",
        listener: "partners",
        route: "pay",
        role: "partners",
        spiffe: "spiffe://bank.test/teller",
        subject: "CN=teller,O=Bank",
        issuer: "CN=Issuing",
        serial: "3f6a9c10b2d4",
        expires_ms: 1_900_000_000_000,
        suite: "TLS13_AES_256_GCM_SHA384",
        group: "X25519MLKEM768",
        national: false,
        ja4: "t13d1516h2_8daaf6152771_e5627efa2ab1",
        wire: &NO_WIRE,
        method: "POST",
        path: "/v1/payments",
        params: &[],
        headers: &[],
        body_digest: "",
        body,
        token: None,
        step_up: StepUp::default(),
        risk: Risk::OFF,
        facts: &FACTS,
    }
}

/// Subjects that are remembered.
pub struct Behaviour {
    memory: Memory,
    names: Vec<String>,
    now_ms: u64,
}

impl Behaviour {
    /// So many subjects in a table of the usual size.
    #[must_use]
    pub fn of(subjects: usize) -> Behaviour {
        let name = |number: usize| format!("spiffe://bank.test/teller/{number}");
        let names = (0..subjects).map(name).collect();
        Behaviour { memory: Memory::new(65_536, [7; 16]), names, now_ms: BEGIN_MS }
    }

    /// Nanoseconds for a score and what is learnt, the mean of so many.
    pub fn weigh(&mut self, attempts: u32) -> f64 {
        let begun = Instant::now();
        for (name, _) in self.names.iter().cycle().zip(0..attempts) {
            self.now_ms += 100;
            let attempt = Attempt {
                now_ms: self.now_ms,
                subject: &[name, "", ""],
                device: "t13d1516h2_8daaf6152771_e5627efa2ab1",
                network: &[4, 10, 1, 2],
                stack: "64 2-4-8-1-3",
                amount: Some(125_000),
                counterparty: "6222020200112233453",
            };
            black_box(self.memory.attempt(black_box(&attempt)));
            self.memory.settle(&attempt, Ended::Allowed);
        }
        begun.elapsed().as_secs_f64() * 1e9 / f64::from(attempts.max(1))
    }
}
