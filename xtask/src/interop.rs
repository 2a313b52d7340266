//! `cargo xtask interop`: RFC 8998 against other implementations.

use anyhow::Result;

use crate::{libraries, progress, shell, tongsuopy};

/// Make handshakes with OpenSSL 4, Tongsuo and tongsuopy, in both directions.
///
/// Builds OpenSSL and Tongsuo from the crates openssl-src and tongsuo-src at the versions written
/// in xtask/src/libraries.rs, once, into $XDG_CACHE_HOME/moat or ~/.cache/moat: one to three
/// minutes each on two cores. Installs PyPI's tongsuopy there too. Then runs those tests of
/// moat-tls that need them, once for each. A peer that cannot be had is a failure. Needs perl,
/// make, a C compiler and python3 with venv.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// The task.
pub(crate) fn run(_: &Args) -> Result<()> {
    let mut steps = progress::Steps::new(1);
    let done = steps.step("interop", check);
    steps.summary();
    done
}

/// The work, also of `ci`. Returns what was used.
pub(crate) fn check() -> Result<String> {
    let mut used = Vec::new();
    for library in &libraries::ALL {
        let program = library.program()?;
        eprintln!("{} {} in {}", library.name, library.version, program.display());
        let mut cargo = tests();
        shell::run(cargo.args(["--skip", "tongsuopy::"]).env("MOAT_OPENSSL", &program))?;
        used.push(format!("{} {}", library.name, library.version));
    }
    let python = tongsuopy::python()?;
    shell::run(tests().arg("tongsuopy::").env("MOAT_TONGSUOPY", &python))?;
    used.push(format!("tongsuopy {}", tongsuopy::VERSION));
    Ok(used.join(", "))
}

fn tests() -> std::process::Command {
    shell::cargo(&["test", "-p", "moat-tls", "--test", "interop", "--locked", "--", "--ignored"])
}
