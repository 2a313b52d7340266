//! One role as a child process: its control channel, its restarts.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child as Process, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use moat_net::control::Channel;

use crate::role::{EnteredAs, Settings};

/// First pause before a role is started again; it doubles with every quick end.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A role that ran this long did not end quickly.
const STEADY: Duration = Duration::from_secs(10);

/// What to run.
#[derive(Clone)]
pub(crate) enum Program {
    /// This program, in a role.
    Role(Box<Settings>),
    /// Another, as a user: path, arguments, user id and group id.
    Other(PathBuf, Vec<OsString>, Option<(u32, u32)>),
}

/// The program that runs, even if another one lies in its place by now: roles and supervisor are
/// always of one build.
fn own_program() -> Result<PathBuf> {
    let path = std::env::current_exe().context("own program")?;
    Ok(if path.exists() { path } else { PathBuf::from("/proc/self/exe") })
}

/// A role, running or waiting to be started again.
pub(crate) struct Child {
    pub(crate) name: &'static str,
    program: Program,
    running: Option<Running>,
    pub(crate) restarts: u64,
    pause: Duration,
    due: Option<Instant>,
    /// What it said of its jail.
    pub(crate) entered: Option<EnteredAs>,
    /// Whether it has said that it is ready.
    pub(crate) is_ready: bool,
    /// Whether it was asked how it is and has not said. Asking on and on would fill the channel to
    /// a role that stands still, and then the supervisor would stand still with it.
    pub(crate) is_asked: bool,
}

struct Running {
    process: Process,
    control: Channel,
    since: Instant,
}

impl Child {
    pub(crate) fn new(name: &'static str, settings: Settings) -> Child {
        Child::running(name, Program::Role(Box::new(settings)))
    }

    pub(crate) fn running(name: &'static str, program: Program) -> Child {
        Child {
            name,
            program,
            running: None,
            restarts: 0,
            pause: PAUSE_MIN,
            due: None,
            entered: None,
            is_ready: false,
            is_asked: false,
        }
    }

    /// Starts the process with its control channel as standard input.
    pub(crate) fn start(&mut self) -> Result<()> {
        let (control, theirs) = Channel::pair().context("control channel")?;
        let mut command = match &self.program {
            Program::Role(settings) => {
                let mut command = Command::new(own_program()?);
                command.arg("role").arg(self.name).arg(serde_json::to_string(settings)?);
                command
            }
            Program::Other(path, arguments, user) => {
                let mut command = Command::new(path);
                command.args(arguments);
                if let Some((uid, gid)) = user {
                    command.uid(*uid).gid(*gid);
                }
                command
            }
        };
        let process = command
            .stdin(Stdio::from(theirs))
            .spawn()
            .with_context(|| format!("role {}", self.name))?;
        tracing::info!(role = self.name, pid = process.id(), "started");
        self.running = Some(Running { process, control, since: Instant::now() });
        (self.due, self.is_ready, self.entered) = (None, false, None);
        self.is_asked = false;
        Ok(())
    }

    /// The same role, not started yet.
    pub(crate) fn again(&self) -> Child {
        Child::running(self.name, self.program.clone())
    }

    /// Whether the auditor that is started next goes on with a gateway that lives.
    pub(crate) fn keep_intents(&mut self, keep_intents: bool) {
        if let Program::Role(settings) = &mut self.program {
            settings.keep_intents = keep_intents;
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.as_ref().map_or(0, |running| running.process.id())
    }

    pub(crate) fn control(&self) -> Option<&Channel> {
        self.running.as_ref().map(|running| &running.control)
    }

    pub(crate) fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.control().map(AsFd::as_fd)
    }

    /// Sends a message. A role that cannot be told anything has ended or will be found so.
    pub(crate) fn send(&self, message: &impl serde::Serialize, fds: &[BorrowedFd<'_>]) {
        let Some(control) = self.control() else { return };
        let sent = serde_json::to_vec(message)
            .map_err(std::io::Error::other)
            .and_then(|bytes| control.send(&bytes, fds));
        if let Err(error) = sent {
            tracing::warn!(role = self.name, %error, "a message could not be sent");
        }
    }

    /// Sends a message that may be lost if the role does not listen: it is not waited for.
    pub(crate) fn offer(&self, message: &impl serde::Serialize) {
        let Some(control) = self.control() else { return };
        let sent = serde_json::to_vec(message)
            .map_err(std::io::Error::other)
            .and_then(|bytes| control.offer(&bytes));
        if let Err(error) = sent
            && error.kind() != std::io::ErrorKind::WouldBlock
        {
            tracing::warn!(role = self.name, %error, "a message could not be sent");
        }
    }

    /// Asks how it is, unless it is not ready or still owes an answer.
    pub(crate) fn ask(&mut self, question: &impl serde::Serialize) {
        if self.is_ready && !std::mem::replace(&mut self.is_asked, true) {
            self.send(question, &[]);
        }
    }

    /// Sends a message with a payload of any size.
    pub(crate) fn send_blob(&self, message: &impl serde::Serialize, blob: &[u8]) -> Result<()> {
        let control = self.control().context("the role is away")?;
        Ok(control.send_blob(&serde_json::to_vec(message)?, blob)?)
    }

    /// Whether the process has ended; then it is due to be started again after a pause.
    pub(crate) fn reap(&mut self) -> bool {
        let Some(running) = &mut self.running else { return false };
        let ended = match running.process.try_wait() {
            Ok(None) => return false,
            Ok(Some(status)) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let code = moat_model::code::system::ROLE_DIED.id;
        tracing::error!(code, role = self.name, ended, "a role ended");
        let is_steady = running.since.elapsed() >= STEADY;
        self.pause = if is_steady { PAUSE_MIN } else { (self.pause * 2).min(PAUSE_MAX) };
        self.due = Some(Instant::now() + if is_steady { PAUSE_MIN } else { self.pause / 2 });
        self.running = None;
        self.is_ready = false;
        true
    }

    /// Whether its process has ended; what it said last can still be heard until it is reaped.
    pub(crate) fn has_ended(&mut self) -> bool {
        let running = self.running.as_mut();
        running.is_some_and(|running| !matches!(running.process.try_wait(), Ok(None)))
    }

    /// Whether it is time to start it again.
    pub(crate) fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    /// When it is due, if it waits.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Waits for the end, at most until `deadline`; then the process is killed.
    pub(crate) fn wait(&mut self, deadline: Instant) {
        let Some(mut running) = self.running.take() else { return };
        while Instant::now() < deadline {
            if !matches!(running.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        tracing::warn!(role = self.name, "killed: it did not end in time");
        let _ = running.process.kill();
        let _ = running.process.wait();
    }
}
