//! The measuring programs of the peers: peer.c beside this file, compiled with each library by
//! `cargo xtask peers` into its cache folder.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The source that a program must be of, so that both sides do the same work.
const SOURCE: &str = include_str!("peer.c");
/// Longest answer beyond the time that a measurement is given.
const GRACE: Duration = Duration::from_secs(20);

/// A peer: what its program calls itself, and the folder of the cache it lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    folder: &'static str,
}

pub(crate) const OPENSSL: Kind = Kind { name: "OpenSSL 4.0.3", folder: "openssl-src-400.0.2" };
pub(crate) const TONGSUO: Kind = Kind { name: "Tongsuo 8.5.0", folder: "tongsuo-src-850.1.1" };

/// A program that runs and waits for work; ended when dropped.
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    pub(crate) path: PathBuf,
    /// How its library was compiled.
    pub(crate) compiled: String,
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts the program of a peer, which reads its certificates in `pki`.
    pub(crate) fn start(kind: Kind, cache: Option<&Path>, pki: &Path) -> Result<Peer> {
        let path = find(kind, cache)?;
        let mut command = Command::new(&path);
        // No configuration of the machine, and nothing of the environment: a variable could forbid
        // instructions. A group of its own, because an interrupt is for the bench to clear away.
        command.arg(pki).env_clear().env("OPENSSL_CONF", "/dev/null").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| shown(&path))?;
        let (to, from) =
            child.stdin.take().zip(child.stdout.take()).context("the peer has no pipes")?;
        let (compiled, from) = (String::new(), BufReader::new(from));
        let mut peer = Peer { kind, path, compiled, child, to, from };
        let told = peer.line(GRACE)?;
        let (name, compiled) = told.split_once('\t').unwrap_or((&told, ""));
        ensure!(name == kind.name, "{} is {name}, not {}", shown(&peer.path), kind.name);
        compiled.clone_into(&mut peer.compiled);
        Ok(peer)
    }

    /// Runs a second of a work named in peer.c.
    pub(crate) fn rate(&mut self, work: &str, size: usize, time: Duration) -> Result<f64> {
        let told = writeln!(self.to, "{work} {size} {}", time.as_secs_f64());
        told.with_context(|| format!("{} has ended", self.kind.name))?;
        let line = self.line(time + GRACE)?;
        let (runs, ns) = line.split_once(' ').context("the peer's answer is no pair")?;
        let (runs, ns): (f64, f64) = (runs.parse()?, ns.parse()?);
        ensure!(runs >= 1.0 && ns >= 1.0, "{} did nothing", self.kind.name);
        Ok(runs / ns * 1e9)
    }

    /// Its next line. It writes one only when it was asked, so nothing else waits in the buffer.
    fn line(&mut self, wait: Duration) -> Result<String> {
        let wait = Timespec::try_from(wait)?;
        let mut ready = [PollFd::new(self.from.get_ref(), PollFlags::IN)];
        let count = poll(&mut ready, Some(&wait)).context("waiting for the peer")?;
        ensure!(count > 0, "{} does not answer", self.kind.name);
        let mut line = String::new();
        if self.from.read_line(&mut line)? == 0 {
            bail!("{} has ended: {}", self.kind.name, shown(&self.path));
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The program, if it is there and of the source that this one was built with.
pub(crate) fn find(kind: Kind, cache: Option<&Path>) -> Result<PathBuf> {
    let default = cache_dir();
    let cache = cache.or(default.as_deref()).context("neither XDG_CACHE_HOME nor HOME is set")?;
    let folder = cache.join(kind.folder);
    let program = folder.join("bench");
    if !program.is_file() {
        bail!(
            "{} is missing, a peer that is measured beside Moat (no {}). In Moat's tree: \
             cargo xtask peers",
            kind.name,
            shown(&program)
        );
    }
    let source = std::fs::read_to_string(folder.join("bench.c")).unwrap_or_default();
    ensure!(
        source == SOURCE,
        "{} of this version of Moat is missing; {} is of another. In Moat's tree: \
         cargo xtask peers",
        kind.name,
        shown(&program)
    );
    Ok(program)
}

/// Where `cargo xtask peers` puts them.
fn cache_dir() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    Some(cache.or_else(home)?.join("moat"))
}

#[cfg(test)]
mod tests {
    use super::{OPENSSL, Peer, SOURCE, find};

    /// A stand-in for the program, which is a script.
    fn program(dir: &std::path::Path, source: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = dir.join(OPENSSL.folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("bench.c"), source).unwrap();
        std::fs::write(folder.join("bench"), format!("#!/bin/sh\n{script}\n")).unwrap();
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.join("bench"), executable).unwrap();
    }

    #[test]
    fn a_program_that_is_missing_or_of_another_source_is_told_with_what_makes_it() {
        let dir = tempfile::tempdir().unwrap();
        let told = |dir: &std::path::Path| find(OPENSSL, Some(dir)).unwrap_err().to_string();
        assert!(told(dir.path()).contains("cargo xtask peers"), "{}", told(dir.path()));
        program(dir.path(), "another", "");
        assert!(told(dir.path()).contains("of another"), "{}", told(dir.path()));
        program(dir.path(), SOURCE, "");
        assert!(find(OPENSSL, Some(dir.path())).is_ok());
    }

    #[test]
    fn an_early_end_a_wrong_name_and_an_empty_answer_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let start = |script: &str| {
            program(dir.path(), SOURCE, script);
            Peer::start(OPENSSL, Some(dir.path()), dir.path())
        };
        assert!(start("exit 1").err().unwrap().to_string().contains("has ended"));
        assert!(start("echo OpenSSL 3.0.0").err().unwrap().to_string().contains("not OpenSSL 4"));
        let moment = std::time::Duration::from_millis(1);
        let answers = [("2000 1000000", Some(2e6)), ("0 5", None), ("x", None), ("1 x", None)];
        for (answer, rate) in answers {
            let script = format!("echo {}; read a; echo {answer}", OPENSSL.name);
            let mut peer = start(&script).unwrap();
            assert_eq!(peer.rate("sm3", 1, moment).ok(), rate, "{answer}");
        }
    }

    #[test]
    fn it_tells_how_it_was_compiled_and_gets_nothing_of_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        // Every test has a HOME or a PATH; the shell's own default for PATH is not exported.
        let script = format!("printf '%s\\tcc -O3 %s\\n' '{}' \"$HOME\"; read a", OPENSSL.name);
        program(dir.path(), SOURCE, &script);
        let peer = Peer::start(OPENSSL, Some(dir.path()), dir.path()).unwrap();
        assert_eq!(peer.compiled, "cc -O3");
    }
}
