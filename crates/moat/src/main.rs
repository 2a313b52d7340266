//! `moat`: the supervisor, its roles and everything a person types.
//!
//! stdout carries data, stderr talks. Exit codes: 0 good, 1 failure, 2 usage, 3 tampering or failed
//! verification, 4 warnings of the doctor, 78 bad configuration.

// A record as JSON has more members than the macro takes by default.
#![recursion_limit = "256"]

mod audit;
mod bench;
mod ca;
mod ca_serve;
mod check;
mod cli;
mod cli_ca;
mod cli_mask;
mod cli_message;
mod cli_svid;
mod demo;
mod doctor;
mod egress;
mod evidence;
mod exit;
mod explain;
mod heap;
mod latency;
mod manual;
mod mask;
mod matrix;
mod message;
mod mirror;
mod pack;
mod policy;
mod role;
mod serve;
mod sql;
mod status;
mod svid;
mod timestamp;
mod top;
mod tsp;
mod witness;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

/// A tenth of a call's CPU went into the system's allocator; docs/performance.md has the figures.
#[global_allocator]
static ALLOCATOR: moat_heap::Sampling<mimalloc::MiMalloc> =
    moat_heap::Sampling::new(mimalloc::MiMalloc);

fn main() -> ExitCode {
    let cli = Cli::parse();
    init_log(cli.log.as_deref());
    let done = match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Schema => check::schema(),
        Command::Status(args) => status::status(&args),
        Command::Top(args) => top::run(&args),
        Command::Reload(args) => status::reload(&args),
        Command::Diff(args) => status::diff(&args),
        Command::Upgrade(args) => status::upgrade(&args),
        Command::Rollback(args) => status::rollback(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Policy(args) => policy::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Ca(args) => ca::run(&args),
        Command::Svid(args) => svid::run(&args),
        Command::Mask(args) => mask::run(&args),
        Command::Message(args) => message::run(&args),
        Command::Egress(command) => egress::run(&command),
        Command::Latency(args) => latency::run(&args),
        Command::Heap(args) => heap::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { dir } => manual::pages(&dir),
        Command::Version => {
            println!("moat {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
        Command::Role(args) => role::run(&args),
        Command::Act(args) => matrix::act(&args),
        #[cfg(feature = "bpf")]
        Command::Connects(args) => bench::kernel::connect(&args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("moat: {error:#}");
        exit::code_of(&error)
    })
}

/// Diagnostics go to stderr. They never carry a field's value: classified values have no text form.
fn init_log(filter: Option<&str>) {
    let filter = tracing_subscriber::EnvFilter::builder().parse_lossy(filter.unwrap_or("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
}
