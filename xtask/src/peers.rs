//! `cargo xtask peers`: what `moat bench` measures beside Moat.

use std::env::consts::EXE_SUFFIX;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::{libraries, progress, shell};

/// The version of oha whose output `moat bench` is tried with.
const OHA: &str = "1.16.0";
/// Only its TLS: neither HTTP/3 nor vsock.
const OHA_FEATURES: &str = "rustls";
/// Where nginx lies when the path of a person who is not root does not name it.
const NGINX: [&str; 3] = ["nginx", "/usr/sbin/nginx", "/usr/local/sbin/nginx"];

/// Bring the peers of `moat bench`: nginx must be there, the others are built.
///
/// For `moat bench sm` OpenSSL 4 and Tongsuo are built as `cargo xtask interop` does, and a
/// small program with each that measures it. oha makes the load of the other topics. It is built from crates.io with a lock file of its own, at the version
/// written in xtask/src/peers.rs, into target/peers; about five minutes on two cores, once. Moat's
/// own lock file does not know it. An oha of that version on the path is taken as it is.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// The task.
pub(crate) fn run(_: &Args) -> Result<()> {
    let mut steps = progress::Steps::new(1);
    let done = steps.step("peers", check);
    steps.summary();
    done
}

/// The work, also of `ci`. Returns what is there.
pub(crate) fn check() -> Result<String> {
    let served = nginx_and_oha()?;
    let mut all = vec![served];
    for library in &libraries::ALL {
        library.bench()?;
        all.push(format!("{} {}", library.name, library.version));
    }
    Ok(all.join(", "))
}

fn nginx_and_oha() -> Result<String> {
    if !NGINX.iter().any(|program| shell::is_there(program, "-v")) {
        bail!(
            "nginx is missing. On Debian or Ubuntu, as root: \
             apt-get install --yes --no-install-recommends nginx-light"
        );
    }
    let root = shell::target_dir().join("peers");
    let ours = root.join("bin").join(format!("oha{EXE_SUFFIX}"));
    for program in [ours.as_path(), Path::new("oha")] {
        if version(program).as_deref() == Some(OHA) {
            return Ok(format!("nginx, oha {OHA}"));
        }
    }
    install(&root)?;
    Ok(format!("nginx, oha {OHA} in {}", root.display()))
}

fn install(root: &PathBuf) -> Result<()> {
    eprintln!("oha {OHA} is missing; building it takes about five minutes on two cores, once");
    let args = ["install", "oha", "--version", OHA, "--locked", "--force", "--no-default-features"];
    let mut cargo = shell::cargo(&args);
    cargo.args(["--features", OHA_FEATURES]).arg("--root").arg(root);
    // Built in a folder of its own that cargo removes: a gigabyte that nobody uses again.
    cargo.env_remove("CARGO_TARGET_DIR");
    shell::run(&mut cargo)
}

/// What a program says of its version; none when it cannot be run.
fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.strip_prefix("oha ")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn a_program_that_is_not_there_has_no_version() {
        assert_eq!(super::version(Path::new("/nowhere/oha")), None);
    }
}
