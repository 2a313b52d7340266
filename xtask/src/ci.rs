//! `cargo xtask ci`: everything that has to hold, in the order of what fails fastest.

use anyhow::Result;

use crate::{deny, docs, fuzz, layers, progress, shell, tidy};

/// Run every check in order and stop at the first that fails.
///
/// This is what CI runs, no more and no less: formatting, lints, layers, tidiness, documentation,
/// tests, the demo, a short fuzzing and the dependency rules. A cold run takes about a
/// quarter of an hour on two cores, a warm one some minutes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long each fuzz target runs, in seconds
    #[arg(long, value_name = "N", default_value_t = fuzz::SECONDS)]
    fuzz_seconds: u32,
}

/// The task.
pub(crate) fn run(args: &Args) -> Result<()> {
    type Work<'a> = Box<dyn Fn() -> Result<String> + 'a>;
    let all: [(&str, Work<'_>); 9] = [
        ("fmt", Box::new(fmt)),
        ("clippy", Box::new(clippy)),
        ("layers", Box::new(layers::check)),
        ("tidy", Box::new(|| tidy::check(true))),
        ("docs", Box::new(|| docs::build(false).map(|()| String::new()))),
        ("test", Box::new(|| make("test", "ARGS=--profile ci"))),
        ("demo", Box::new(|| make("demo", "ARGS=--exit"))),
        ("fuzz", Box::new(|| fuzz::check(args.fuzz_seconds))),
        ("deny", Box::new(|| deny::check().map(|()| String::new()))),
    ];
    let mut steps = progress::Steps::new(all.len());
    let done = all.iter().try_for_each(|(name, work)| steps.step(name, work));
    steps.summary();
    done
}

fn fmt() -> Result<String> {
    shell::run(&mut shell::cargo(&["fmt", "--all", "--check"]))?;
    let args = ["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"];
    shell::run(&mut shell::cargo(&args))?;
    Ok(String::new())
}

fn clippy() -> Result<String> {
    let args = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    shell::run(&mut shell::cargo(&args)).map(|()| String::new())
}

/// Random inputs on which moat-sm is compared with other implementations: a minute's worth.
const SM_CASES: &str = "1000000";

/// What a person would type is what runs here, but for more random inputs.
fn make(target: &str, args: &str) -> Result<String> {
    let mut make = shell::command("make");
    make.env("MOAT_SM_CASES", SM_CASES);
    shell::run(make.arg("--no-print-directory").arg(target).arg(args)).map(|()| String::new())
}
