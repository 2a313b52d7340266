//! Processes that are measured: started in a group of their own, always ended, waits bounded.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Longest polite end.
const END: Duration = Duration::from_secs(10);
/// How much of a log is told when a process ended by itself, in lines.
const TAIL_LINES: usize = 5;
/// Signals that end the bench; its children are in other groups and would stay.
const SIGNALS: [i32; 3] =
    [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP];

/// Whether somebody wants the bench to end. Looked at in every wait, so that all is cleared away.
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    pub(crate) fn new() -> Result<Interrupt> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in SIGNALS {
            // A second one ends at once.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&flag))?;
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(Interrupt(flag))
    }

    /// Waits for a moment; an error when it is time to end.
    pub(crate) fn pause(&self, moment: Duration) -> Result<()> {
        std::thread::sleep(moment);
        ensure!(!self.0.load(Ordering::Relaxed), "interrupted");
        Ok(())
    }
}

/// A process with its children. Ended when dropped.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    out: PathBuf,
    log: PathBuf,
}

impl Process {
    /// Starts it with stdout in `dir/NAME.out` and stderr in `dir/NAME.log`.
    pub(crate) fn start(
        name: &'static str,
        command: &mut Command,
        dir: &Path,
        interrupt: &Interrupt,
    ) -> Result<Process> {
        interrupt.pause(Duration::ZERO)?;
        let (out, log) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.log")));
        let create = |path: &Path| File::create(path).with_context(|| path.display().to_string());
        let child = command
            .stdin(Stdio::null())
            .stdout(create(&out)?)
            .stderr(create(&log)?)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        Ok(Process { name, child, out, log })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error with the end of its log when it has ended.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}):\n{}", self.name, self.tail()),
        }
    }

    /// Waits until `is_so`; an error when the process ends before, or after `most`.
    pub(crate) fn wait_until(
        &mut self,
        what: &str,
        most: Duration,
        step: Duration,
        interrupt: &Interrupt,
        mut is_so: impl FnMut() -> bool,
    ) -> Result<()> {
        let begun = Instant::now();
        while !is_so() {
            self.check_alive()?;
            let is_late = begun.elapsed() > most;
            ensure!(!is_late, "{}: not {what} in {most:?}:\n{}", self.name, self.tail());
            interrupt.pause(step)?;
        }
        Ok(())
    }

    /// Waits for its end, at most `most`; calls `meanwhile` at every `step`.
    pub(crate) fn wait_end(
        &mut self,
        most: Duration,
        step: Duration,
        interrupt: &Interrupt,
        mut meanwhile: impl FnMut() -> Result<()>,
    ) -> Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(begun.elapsed() <= most, "{} takes longer than {most:?}", self.name);
            meanwhile()?;
            interrupt.pause(step)?;
        }
    }

    /// What it has written to stdout.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.out).unwrap_or_default()
    }

    /// The last lines of its stderr.
    pub(crate) fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n")
    }

    /// Ends it: politely, then with everything it started.
    pub(crate) fn stop(&mut self) {
        let pid = Pid::from_child(&self.child);
        let begun = Instant::now();
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process(pid, Signal::TERM);
        }
        while begun.elapsed() < END && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::{Interrupt, Process};

    const STEP: Duration = Duration::from_millis(5);
    const MOST: Duration = Duration::from_secs(10);

    fn shell(script: &str, dir: &std::path::Path, interrupt: &Interrupt) -> Process {
        Process::start("shell", Command::new("sh").args(["-c", script]), dir, interrupt).unwrap()
    }

    #[test]
    fn what_a_process_started_ends_with_it() {
        let (dir, interrupt) = (tempfile::tempdir().unwrap(), Interrupt::new().unwrap());
        let script = "sleep 1000 & echo $!; trap 'exit 0' TERM; while :; do sleep 0.01; done";
        let mut process = shell(script, dir.path(), &interrupt);
        let out = dir.path().join("shell.out");
        let read = || std::fs::read_to_string(&out).unwrap_or_default();
        process.wait_until("up", MOST, STEP, &interrupt, || read().ends_with('\n')).unwrap();
        let status = format!("/proc/{}/status", read().trim());
        let is_alive = || {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            text.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
        };
        assert!(is_alive());
        drop(process);
        let until = Instant::now() + MOST;
        while is_alive() {
            assert!(Instant::now() < until, "it stayed");
            std::thread::sleep(STEP);
        }
    }

    #[test]
    fn an_early_end_is_told_with_what_was_said() {
        let (dir, interrupt) = (tempfile::tempdir().unwrap(), Interrupt::new().unwrap());
        let mut process = shell("echo no such port >&2; exit 3", dir.path(), &interrupt);
        let error = process.wait_until("ready", MOST, STEP, &interrupt, || false).unwrap_err();
        assert!(error.to_string().contains("no such port"), "{error}");
    }

    #[test]
    fn a_wait_has_an_end() {
        let (dir, interrupt) = (tempfile::tempdir().unwrap(), Interrupt::new().unwrap());
        let mut process = shell("sleep 1000", dir.path(), &interrupt);
        let error = process.wait_end(STEP, STEP, &interrupt, || Ok(())).unwrap_err();
        assert!(error.to_string().contains("longer"), "{error}");
    }
}
