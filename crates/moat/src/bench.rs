//! `moat bench`: figures of this machine, each beside its peer and its goal.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use moat_auditor::bench::{Goal, Row, measure};
use serde_json::json;

use crate::cli::{BenchCommand, Output};

pub(crate) fn run(command: &BenchCommand) -> Result<ExitCode> {
    let BenchCommand::Append { dir, seconds, output } = command;
    let is_free = !dir.exists() || std::fs::read_dir(dir)?.next().is_none();
    ensure!(is_free, "{} is not empty; name a new folder", dir.display());
    eprintln!("measuring in {}: about {} s", dir.display(), 8 * seconds);
    let rows = measure(dir, Duration::from_secs(*seconds))?;
    std::fs::remove_dir_all(dir).with_context(|| dir.display().to_string())?;
    for row in &rows {
        print(row, *output);
    }
    let good = rows.iter().all(|row| row.holds() != Some(false));
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(row: &Row, output: Output) {
    let goal = match row.goal {
        None => String::new(),
        Some(Goal::AtMost(most)) => format!("at most {most}"),
        Some(Goal::AtLeast(least)) => format!("at least {least}"),
    };
    if output == Output::Json {
        let (figure, value, unit, holds) = (&row.figure, row.value, row.unit, row.holds());
        println!(
            "{}",
            json!({ "figure": figure, "value": value, "unit": unit, "goal": goal, "holds": holds })
        );
        return;
    }
    let mark = match row.holds() {
        None => " ",
        Some(true) => "√",
        Some(false) => "×",
    };
    println!("{mark} {:<32} {:>12.2} {:<10} {goal}", row.figure, row.value, row.unit);
}
