//! The project's own automation: `cargo xtask <task>`.
//!
//! One file for each task. A task prints what it is doing on stderr and its findings on stdout,
//! and exits 1 at the first thing that is wrong. Nothing here is part of the product.

mod advisories;
mod ci;
mod deny;
mod dist;
mod docs;
mod elf;
mod envoy;
mod fuzz;
mod interop;
mod layers;
mod libraries;
mod metadata;
mod ops;
mod peers;
mod progress;
mod sbom;
mod shell;
mod tidy;
mod tongsuopy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Checks, fuzzes and packs Moat.
///
/// `cargo xtask ci` runs everything that has to hold before a change is taken; it is exactly what
/// CI runs. The other tasks are its parts, to be run alone while working.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask ci                            everything, in order, up to the first failure
  cargo xtask layers                        after adding a dependency
  cargo xtask tidy                          before asking for a review
  cargo xtask fuzz --seconds 600 http_head  ten minutes on one target
  cargo xtask dist                          one static binary in dist/, with its list of components
  cargo xtask ops                           alerts, dashboards, units, chart
  cargo xtask peers                         before `moat bench`: nginx, oha, OpenSSL, Tongsuo
  cargo xtask interop                       handshakes with OpenSSL 4, Tongsuo, tongsuopy";

#[derive(Subcommand)]
enum Task {
    Advisories(advisories::Args),
    Ci(ci::Args),
    Layers(layers::Args),
    Tidy(tidy::Args),
    Docs(docs::Args),
    Fuzz(fuzz::Args),
    Deny(deny::Args),
    Dist(dist::Args),
    Ops(ops::Args),
    Peers(peers::Args),
    Sbom(sbom::Args),
    Interop(interop::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Advisories(args) => advisories::run(&args),
        Task::Ci(args) => ci::run(&args),
        Task::Layers(args) => layers::run(&args),
        Task::Tidy(args) => tidy::run(&args),
        Task::Docs(args) => docs::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Deny(args) => deny::run(&args),
        Task::Dist(args) => dist::run(&args),
        Task::Ops(args) => ops::run(&args),
        Task::Sbom(args) => sbom::run(&args),
        Task::Peers(args) => peers::run(&args),
        Task::Interop(args) => interop::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
