//! The program of the peers: bench-peers/message, which `cargo xtask peers` builds.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Its name, and what it must say of itself: the crates that it was built with.
const NAME: &str = "moat-peer-message";
const VERSIONS: &str = "iso_8583_rs 0.2.2, asn1 0.24.1, roxmltree 0.21.2";
/// Where it is, seen from a folder above this program.
const PLACE: &str = "peers/bin/moat-peer-message";
/// Longest answer beyond the time that a measurement is given.
const GRACE: Duration = Duration::from_secs(20);

/// A program that runs and waits for work; ended when dropped.
pub(super) struct Peer {
    pub(super) versions: String,
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

pub(super) fn find() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let mut above = program.ancestors().skip(1).map(|folder| folder.join(PLACE));
    above.find(|path| path.is_file()).with_context(|| {
        format!("{NAME} is missing, the crates that are measured beside Moat. In Moat's tree: cargo xtask peers")
    })
}

impl Peer {
    pub(super) fn start(program: &Path, samples: &Path) -> Result<Peer> {
        let mut command = Command::new(program);
        command.arg(samples).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| program.display().to_string())?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (to, from) = pipes.context("the peer has no pipes")?;
        let mut peer = Peer { versions: String::new(), child, to, from: BufReader::new(from) };
        let told = peer.line(GRACE)?;
        let is_this = told.strip_prefix(NAME).map(str::trim) == Some(VERSIONS);
        ensure!(is_this, "{} is of another version: cargo xtask peers", program.display());
        peer.versions = VERSIONS.to_owned();
        Ok(peer)
    }

    /// Runs a second of a work.
    pub(super) fn rate(&mut self, work: &str, time: Duration) -> Result<f64> {
        writeln!(self.to, "{work} {}", time.as_secs_f64()).context("the peer has ended")?;
        let line = self.line(time + GRACE)?;
        let (runs, ns) = line.split_once(' ').context("the peer's answer is no pair")?;
        let (runs, ns): (f64, f64) = (runs.parse()?, ns.parse()?);
        ensure!(runs >= 1.0 && ns >= 1.0, "the peer did nothing");
        Ok(runs / ns * 1e9)
    }

    /// Its next line. It writes one only when it was asked, so nothing else waits in the buffer.
    fn line(&mut self, wait: Duration) -> Result<String> {
        let wait = Timespec::try_from(wait)?;
        let mut ready = [PollFd::new(self.from.get_ref(), PollFlags::IN)];
        let count = poll(&mut ready, Some(&wait)).context("waiting for the peer")?;
        ensure!(count > 0, "the peer does not answer");
        let mut line = String::new();
        if self.from.read_line(&mut line)? == 0 {
            bail!("the peer has ended");
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
