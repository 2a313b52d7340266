//! The tools that build the libraries, without what the environment would tell them.
//!
//! Configure, make and the compiler take flags from it: a peer built with `CFLAGS=-O0` would be kept,
//! and measured as if it were the library.

use std::env;
use std::process::Command;

use anyhow::{Result, bail};

use crate::shell;

/// The only compiler: it is in the stamps, and `CC` is not looked at.
pub(super) const COMPILER: &str = "cc";
/// All that the tools get: where programs are, and where scratch files go.
const KEPT: [&str; 3] = ["PATH", "HOME", "TMPDIR"];
/// What steers the code of OpenSSL and of Tongsuo while it runs: instructions that it may use, and
/// modules and files of the machine.
pub(super) const PEER_SETTINGS: [&str; 6] = [
    "OPENSSL_ia32cap",
    "OPENSSL_armcap",
    "OPENSSL_MODULES",
    "OPENSSL_ENGINES",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// A command in the environment described above.
pub(super) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").env("CC", COMPILER);
    for name in KEPT {
        if let Some(value) = env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// What the compiler says of itself: the first line, and the machine that it compiles for.
pub(super) fn compiler() -> Result<String> {
    let told = |argument| shell::output(command(COMPILER).arg(argument));
    let (Ok(version), Ok(machine)) = (told("--version"), told("-dumpmachine")) else {
        bail!("a C compiler named cc is missing. {HOW}");
    };
    Ok(format!("{}\n{}", version.lines().next().unwrap_or_default(), machine.trim()))
}

const HOW: &str = "On Debian or Ubuntu, as root: \
                   apt-get install --yes --no-install-recommends gcc libc6-dev make perl";

/// Whether what Configure and make need is there.
pub(super) fn check() -> Result<()> {
    for (program, version) in [("perl", "-v"), ("make", "--version"), (COMPILER, "--version")] {
        if !shell::is_there(program, version) {
            bail!("{program} is missing. {HOW}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_of_the_environment_reaches_the_tools_but_the_paths() {
        let mut command = super::command("sh");
        let told = command.args(["-c", "export -p"]).output().unwrap();
        let text = String::from_utf8(told.stdout).unwrap();
        let names = text.lines().filter_map(|line| line.strip_prefix("export ")?.split('=').next());
        // The shell adds some of its own.
        let known = ["PATH", "HOME", "TMPDIR", "LC_ALL", "CC", "PWD", "OLDPWD", "SHLVL", "_"];
        let others: Vec<&str> = names.filter(|name| !known.contains(name)).collect();
        assert!(others.is_empty(), "{others:?}");
    }
}
