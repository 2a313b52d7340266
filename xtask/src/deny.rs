//! `cargo xtask deny`: which crates, licences and sources the tree may have.

use anyhow::Result;

use crate::{progress, shell};

/// The version that deny.toml is written for.
const VERSION: &str = "0.20.2";

/// Check deny.toml: banned crates, licences, sources.
///
/// Uses cargo-deny, and installs it when it is missing (some minutes). Advisories are not looked
/// up here, because the answer would change without the tree changing; a release asks for them
/// with `cargo deny check advisories`.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// The task.
pub(crate) fn run(_: &Args) -> Result<()> {
    let mut steps = progress::Steps::new(1);
    let done = steps.step("deny", || check().map(|()| "bans, licences, sources".to_owned()));
    steps.summary();
    done
}

/// The work, also of `ci`.
pub(crate) fn check() -> Result<()> {
    if !shell::is_there("cargo-deny", "--version") {
        eprintln!("cargo-deny is missing; installing it takes about three minutes on two cores");
        let args = ["install", "cargo-deny", "--locked", "--version", VERSION];
        shell::run(&mut shell::cargo(&args))?;
    }
    let mut cargo = shell::cargo(&["deny", "--all-features", "--locked", "check"]);
    shell::run(cargo.args(["--hide-inclusion-graph", "bans", "licenses", "sources"]))
}
