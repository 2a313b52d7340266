//! `cargo xtask docs`: the API documentation, without a single broken link.

use anyhow::Result;

use crate::{progress, shell};

/// Build the API documentation with every warning an error.
///
/// Broken links, bare URLs and unclosed HTML in doc comments stop the build. The result is in
/// target/doc.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Open the result in a browser
    #[arg(long)]
    open: bool,
}

/// The task.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut steps = progress::Steps::new(1);
    let done = steps.step("docs", || {
        build(args.open)?;
        Ok(format!("{}", shell::target_dir().join("doc").display()))
    });
    steps.summary();
    done
}

/// The work, also of `ci`.
pub(crate) fn build(open: bool) -> Result<()> {
    let mut cargo = shell::cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
    if open {
        cargo.arg("--open");
    }
    shell::run(cargo.env("RUSTDOCFLAGS", "-D warnings"))
}
