//! What tests of the kernel's part need of the machine, and saying so where it is missing.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::disallowed_methods, reason = "tests read their environment")]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use moat_kernel::cgroup::{self, Cgroup, unpin};

/// Says that a test was skipped, visibly; in CI that is a failure.
pub(crate) fn skip(why: &str) -> bool {
    assert!(std::env::var_os("CI").is_none(), "skipped in CI: {why}");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
    false
}

/// Whether a program is there; else the test is skipped.
pub(crate) fn has_program(name: &str) -> bool {
    let found = Command::new(name).arg("version").output().is_ok();
    found || skip(&format!("{name} is missing: apt-get install --yes {name}"))
}

/// Whether BPF programs can be loaded and attached here; else the test is skipped.
pub(crate) fn has_bpf() -> bool {
    if !rustix::process::geteuid().is_root() {
        return skip("BPF programs need root");
    }
    match cgroup::pins() {
        Ok(_) if cgroup::mounted().is_some() => true,
        Ok(_) => skip("cgroup version 2 is not mounted"),
        Err(error) => skip(&error.to_string()),
    }
}

/// A cgroup and a folder for pins of one test, removed at its end.
pub(crate) struct Site {
    pub(crate) cgroup: Cgroup,
    pub(crate) pins: PathBuf,
}

impl Site {
    pub(crate) fn new() -> Site {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("moat-test-{}-{number}", std::process::id());
        let cgroup = Cgroup::make(&name).unwrap();
        Site { cgroup, pins: cgroup::pins().unwrap().join(name) }
    }

    /// Runs a shell script within the cgroup.
    pub(crate) fn run(&self, script: &str) -> Output {
        self.spawn(script).wait_with_output().unwrap()
    }

    pub(crate) fn spawn(&self, script: &str) -> Child {
        let join = format!("echo $$ > {}/cgroup.procs && ", self.cgroup.path().display());
        Command::new("bash")
            .args(["-c", &(join + script)])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        unpin(&self.pins);
        self.cgroup.remove();
    }
}
