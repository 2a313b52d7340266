//! `moat bench policy`: decisions with few and with many policies, risk, and decisions asked again.
//!
//! Few and many take turns, round by round, in one process.

use std::time::Duration;

use anyhow::{Context, Result};
use moat_auditor::bench::{Goal, Row};
use moat_policy::measure::{Behaviour, Payments};

use super::median;
use super::process::Interrupt;

/// How many packages are few, and how many are many.
const FEW: usize = 10;
const MANY: usize = 10_000;
/// Decisions of a round.
const DECISIONS: usize = 20_000;
/// Subjects of risk, and attempts of a round.
const SUBJECTS: usize = 1_000;
const ATTEMPTS: u32 = 100_000;
/// Kept decisions that are asked again in a round.
const KEPT: usize = 20_000;
/// The goal of 1,000,000 in a minute.
const KEPT_PER_S: f64 = 1_000_000.0 / 60.0;

pub(crate) fn run(rounds: u32, interrupt: &Interrupt) -> Result<Vec<Row>> {
    let mut rows = decisions(rounds, interrupt)?;
    let mut subjects = Behaviour::of(SUBJECTS);
    let value = over(rounds, interrupt, || Ok(subjects.weigh(ATTEMPTS)))?;
    rows.push(Row::new("risk, score and update", value, "ns").should_be(Goal::AtMost(400.0)));
    let mut payments = Payments::new(FEW)?;
    let lines = payments.keep(KEPT);
    let value = over(rounds, interrupt, || payments.ask_again(&lines).map_err(anyhow::Error::msg))?;
    let row = Row::new("decisions asked again, one core", value, "1/s");
    rows.push(row.should_be(Goal::AtLeast(KEPT_PER_S)));
    Ok(rows)
}

/// The median of so many rounds; the one before them warms up.
fn over(rounds: u32, interrupt: &Interrupt, mut round: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut values = Vec::new();
    for number in 0..=rounds {
        interrupt.pause(Duration::ZERO)?;
        let value = round()?;
        if number > 0 {
            values.push(value);
        }
    }
    median(values).context("nothing was measured")
}

fn decisions(rounds: u32, interrupt: &Interrupt) -> Result<Vec<Row>> {
    let (mut few, mut many) = (Payments::new(FEW)?, Payments::new(MANY)?);
    let (mut of_few, mut of_many) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for number in 0..=rounds {
        interrupt.pause(Duration::ZERO)?;
        for (payments, of) in [(&mut few, &mut of_few), (&mut many, &mut of_many)] {
            let times = payments.decide(DECISIONS)?;
            for (of, share) in of.iter_mut().zip([50, 99]).filter(|_| number > 0) {
                let time = times.get(times.len() * share / 100).copied().unwrap_or(u64::MAX);
                of.push(Duration::from_nanos(time).as_secs_f64() * 1e6);
            }
        }
    }
    let middle = |values: Vec<f64>| median(values).context("nothing was measured");
    let [few_50, few_99] = of_few.map(middle);
    let [many_50, many_99] = of_many.map(middle);
    let (few_50, few_99, beside) = (few_50?, few_99?, format!("{FEW} policies"));
    let row = |name: &str, value| Row::new(name, value, "us");
    Ok(vec![
        row("decision, 10 policies, p50", few_50),
        row("decision, 10 policies, p99", few_99).should_be(Goal::AtMost(20.0)),
        row("decision, 10,000 policies, p50", many_50?).beside(&beside, few_50),
        row("decision, 10,000 policies, p99", many_99?)
            .beside(&beside, few_99)
            .should_be(Goal::RatioAtMost(2.0)),
    ])
}
