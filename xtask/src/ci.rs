//! `cargo xtask ci`: everything that has to hold, in the order of what fails fastest.

use anyhow::Result;

use crate::{advisories, deny, docs, fuzz, interop, layers, ops, peers, progress, shell, tidy};

/// Run every check in order and stop at the first that fails.
///
/// This is what CI runs, no more and no less: formatting, lints, layers, tidiness, documentation,
/// advisories, what is for operators,
/// the peers of the benchmarks, tests, handshakes with OpenSSL and Tongsuo, the demo, a short
/// fuzzing and the dependency rules. A cold run takes about half an hour on two cores, a warm one
/// some minutes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long each fuzz target runs, in seconds
    #[arg(long, value_name = "N", default_value_t = fuzz::SECONDS)]
    fuzz_seconds: u32,
}

/// The task.
pub(crate) fn run(args: &Args) -> Result<()> {
    type Work<'a> = Box<dyn Fn() -> Result<String> + 'a>;
    let all: [(&str, Work<'_>); 13] = [
        ("fmt", Box::new(fmt)),
        ("clippy", Box::new(clippy)),
        ("layers", Box::new(layers::check)),
        ("tidy", Box::new(|| tidy::check(true))),
        ("docs", Box::new(|| docs::build(false).map(|()| String::new()))),
        ("advisories", Box::new(advisories::check)),
        ("ops", Box::new(ops::check)),
        // Before the tests, because one of them measures beside the peers.
        ("peers", Box::new(peers::check)),
        ("test", Box::new(tests)),
        ("interop", Box::new(interop::check)),
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

/// Each role is killed this often under load; by hand it is ten times, to be quick. Two hundred
/// take about a minute for each role on two cores.
const KILLS: &str = "200";
/// Random inputs on which moat-sm is compared with other implementations: a minute's worth.
const SM_CASES: &str = "1000000";

fn tests() -> Result<String> {
    let mut make = shell::command("make");
    make.args(["--no-print-directory", "test", "ARGS=--profile ci"]);
    make.env("MOAT_KILLS", KILLS).env("MOAT_SM_CASES", SM_CASES);
    shell::run(&mut make).map(|()| String::new())
}

/// What a person would type is what runs here.
fn make(target: &str, args: &str) -> Result<String> {
    let mut make = shell::command("make");
    shell::run(make.arg("--no-print-directory").arg(target).arg(args)).map(|()| String::new())
}
