//! `cargo xtask interop`: RFC 8998 against other implementations.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::{libraries, progress, shell, tongsuopy};

/// Make handshakes with OpenSSL 4, Tongsuo and tongsuopy, in both directions.
///
/// Builds OpenSSL and Tongsuo from the crates openssl-src and tongsuo-src at the versions and
/// hashes written in xtask/src/libraries.rs, once, into $XDG_CACHE_HOME/moat or ~/.cache/moat: one
/// to three minutes each on two cores. Installs PyPI's tongsuopy there too. Then runs those tests of
/// moat-tls that need them, once for each; the former two also judge requests, lists and responses
/// of `moat ca`. A peer that cannot be had, or without a test, is a failure. Needs perl, make, a C
/// compiler and python3 with venv.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// The tests of a peer: by the names of their modules.
struct Set<'a> {
    peer: String,
    /// The variable in which the tests look for the program.
    variable: &'static str,
    program: &'a Path,
    /// Arguments of the test program that choose.
    choice: &'static [&'static str],
}

/// Handshakes by the program `openssl`.
const HANDSHAKES: &[&str] = &["--skip", "tongsuopy::", "--skip", "pki::"];
/// What `moat ca` signs besides certificates, judged by the same program.
const PKI: &[&str] = &["pki::"];
const TONGSUOPY: &[&str] = &["tongsuopy::"];

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
        let peer = format!("{} {}", library.name, library.version);
        eprintln!("{peer} in {}", program.display());
        for choice in [HANDSHAKES, PKI] {
            let (peer, variable) = (peer.clone(), "MOAT_OPENSSL");
            used.push(Set { peer, variable, program: &program, choice }.run()?);
        }
    }
    let (peer, python) = (format!("tongsuopy {}", tongsuopy::VERSION), tongsuopy::python()?);
    let variable = "MOAT_TONGSUOPY";
    used.push(Set { peer, variable, program: &python, choice: TONGSUOPY }.run()?);
    Ok(used.join(", "))
}

impl Set<'_> {
    /// Runs them and tells how many. That there are some is seen before: a program that chooses
    /// none of its tests ends well.
    fn run(&self) -> Result<String> {
        let list = shell::output(self.tests().arg("--list"))?;
        let (count, peer) = (listed(&list), &self.peer);
        ensure!(count > 0, "no test of {peer} is chosen by `{}`", self.choice.join(" "));
        shell::run(&mut self.tests())?;
        Ok(format!("{peer}: {count}"))
    }

    fn tests(&self) -> Command {
        let args = ["test", "-p", "moat-tls", "--test", "interop", "--locked", "--", "--ignored"];
        let mut cargo = shell::cargo(&args);
        libraries::untouched(&mut cargo).args(self.choice).env(self.variable, self.program);
        cargo
    }
}

/// How many tests a list of the test program names.
fn listed(text: &str) -> usize {
    text.lines().filter(|line| line.ends_with(": test")).count()
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_tests_of_a_list_are_counted() {
        assert_eq!(super::listed("a::b: test\nc: test\nd: benchmark\n\n2 tests, 1 benchmark\n"), 2);
        assert_eq!(super::listed("\n0 tests, 0 benchmarks\n"), 0);
    }
}
