//! What is made to happen, and undone again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use moat_kernel::loss::Loss;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::bench::cpu;
use crate::bench::process::Process;
use crate::bench::site::Site;
use crate::status;

/// Rules that take some milliseconds and change nothing: no sum of positive numbers is negative.
/// A policy may take 5 ms: a build without optimization is given less to do.
const HEAVY: &str = "\ndeny contains \"heavy\" if {\n\
    \txs := @NUMBERS@\n\
    \tsome a in xs\n\tsome b in xs\n\tsome c in xs\n\ta + b + c + input.now_ms < 0\n}\n";
/// Takes memory away from a process; see there.
const STORM: &str = include_str!("../storm.py");
/// Size of the file that is a disk, and of the swap, in bytes.
const DISK_BYTES: u64 = 256 * 1024 * 1024;
/// How long something stands still each time, and how long it goes on in between.
const STILL: Duration = Duration::from_millis(30);
const BETWEEN: Duration = Duration::from_millis(150);
/// Processes that want the worker's processor.
const HOGS: usize = 2;
/// Packets lost of a thousand.
const LOST: u32 = 30;

/// A cause, what it is called in reports, and at which stage if only there.
pub(super) struct Injection {
    pub(super) name: &'static str,
    pub(super) cause: &'static str,
    pub(super) stage: Option<&'static str>,
    pub(super) begin: fn(&Scene<'_>) -> Result<Ongoing>,
}

pub(super) const INJECTIONS: [Injection; 6] = [
    Injection { name: "slow disk", cause: "disk", stage: None, begin: slow_disk },
    Injection { name: "CPU hog", cause: "run_queue", stage: None, begin: hog },
    Injection {
        name: "slow upstream",
        cause: "upstream",
        stage: Some("upstream"),
        begin: slow_upstream,
    },
    Injection { name: "heavy policy", cause: "cpu", stage: Some("policy"), begin: heavy_policy },
    Injection { name: "page faults", cause: "page_fault", stage: None, begin: page_faults },
    Injection {
        name: "lossy link",
        cause: "retransmit",
        stage: Some("upstream"),
        begin: lossy_link,
    },
];

/// What there is to disturb.
pub(super) struct Scene<'a> {
    pub(super) site: &'a Site,
    disk: &'a Disk,
    service: u32,
    gateway: u32,
    worker: u32,
}

impl<'a> Scene<'a> {
    pub(super) fn find(site: &'a Site, disk: &'a Disk, upstream: &Process) -> Result<Scene<'a>> {
        let service = *cpu::children(upstream.pid())?.first().context("nginx has no worker")?;
        let state = site.state()?;
        let gateway = state.roles.iter().find(|role| role.name == "gateway");
        let gateway = gateway.context("there is no gateway")?.pid;
        let mut worker = None;
        for entry in fs::read_dir(format!("/proc/{gateway}/task"))?.flatten() {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if name.trim() == "worker-0" {
                worker = entry.file_name().to_string_lossy().parse().ok();
            }
        }
        let worker = worker.context("the gateway has no worker")?;
        Ok(Scene { site, disk, service, gateway, worker })
    }
}

fn pid(number: u32) -> Result<Pid> {
    Pid::from_raw(i32::try_from(number)?).context("no process has the number 0")
}

/// Something that happens until it is ended.
pub(super) struct Ongoing(Option<Box<dyn FnOnce() -> Result<()>>>);

impl Ongoing {
    fn until(end: impl FnOnce() -> Result<()> + 'static) -> Ongoing {
        Ongoing(Some(Box::new(end)))
    }

    pub(super) fn end(mut self) -> Result<()> {
        self.0.take().map_or(Ok(()), |end| end())
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.take().map(|end| end()) {
            eprintln!("moat: it cannot be undone: {error:#}");
        }
    }
}

/// Does something, and undoes it a little later, again and again.
fn pulses(
    on: impl Fn() -> Result<()> + Send + 'static,
    off: impl Fn() -> Result<()> + Send + 'static,
) -> Ongoing {
    let is_over = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_over);
    let thread: JoinHandle<Result<()>> = std::thread::spawn(move || {
        while !seen.load(Ordering::Relaxed) {
            let done = on();
            std::thread::sleep(STILL);
            off()?;
            done?;
            std::thread::sleep(BETWEEN);
        }
        Ok(())
    });
    Ongoing::until(move || {
        is_over.store(true, Ordering::Relaxed);
        thread.join().map_err(|_| anyhow!("it panicked"))?
    })
}

fn command(program: &str, arguments: &[&str]) -> Result<()> {
    let out = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let out = out.with_context(|| format!("{program} is missing"))?;
    let said = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "{program} {}: {said}", arguments.join(" "));
    Ok(())
}

/// A disk of its own for the log: a file with a file system in it.
pub(super) struct Disk(PathBuf);

impl Disk {
    pub(super) fn make(dir: &Path) -> Result<Disk> {
        let (image, folder) = (dir.join("disk.img"), dir.join("disk"));
        fs::File::create(&image)?.set_len(DISK_BYTES)?;
        fs::create_dir(&folder)?;
        let shown = |path: &Path| path.display().to_string();
        command("mkfs.ext4", &["-q", "-F", &shown(&image)])?;
        command("mount", &["-o", "loop", &shown(&image), &shown(&folder)])?;
        Ok(Disk(folder))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let folder = self.0.display().to_string();
        // A role that has just ended may hold it a moment longer.
        for _ in 0..50 {
            if command("umount", &[&folder]).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        eprintln!("moat: {folder} cannot be unmounted");
    }
}

/// The log's file system stands still for moments.
fn slow_disk(scene: &Scene<'_>) -> Result<Ongoing> {
    let folder = scene.disk.0.display().to_string();
    let other = folder.clone();
    Ok(pulses(
        move || command("fsfreeze", &["--freeze", &folder]),
        move || command("fsfreeze", &["--unfreeze", &other]),
    ))
}

/// Others want the worker's processor, and are preferred.
fn hog(scene: &Scene<'_>) -> Result<Ongoing> {
    let mut first = CpuSet::new();
    first.set(0);
    let worker = pid(scene.worker)?;
    let before = sched_getaffinity(Some(worker))?;
    sched_setaffinity(Some(worker), &first)?;
    let mut hogs: Vec<Child> = Vec::new();
    for _ in 0..HOGS {
        let hog = Command::new("nice")
            .args(["-n", "-10", "sh", "-c", "while :; do :; done"])
            .stdin(Stdio::null())
            .spawn();
        let hog = hog.context("nice is missing")?;
        sched_setaffinity(Some(pid(hog.id())?), &first)?;
        hogs.push(hog);
    }
    Ok(Ongoing::until(move || {
        for mut hog in hogs {
            hog.kill()?;
            hog.wait()?;
        }
        Ok(sched_setaffinity(Some(worker), &before)?)
    }))
}

/// The service stands still for moments.
fn slow_upstream(scene: &Scene<'_>) -> Result<Ongoing> {
    let service = pid(scene.service)?;
    Ok(pulses(
        move || Ok(kill_process(service, Signal::STOP)?),
        move || Ok(kill_process(service, Signal::CONT)?),
    ))
}

/// A rule that takes long.
fn heavy_policy(scene: &Scene<'_>) -> Result<Ongoing> {
    let path = scene.site.dir().join("policy/authz.rego");
    let socket = scene.site.dir().join("admin.sock");
    let before = fs::read_to_string(&path)?;
    let most = if cfg!(debug_assertions) { 9 } else { 15 };
    let numbers: Vec<u32> = (1..=most).collect();
    let heavy = HEAVY.replace("@NUMBERS@", &format!("{numbers:?}"));
    fs::write(&path, format!("{before}{heavy}"))?;
    reload(&socket)?;
    Ok(Ongoing::until(move || {
        fs::write(&path, before)?;
        reload(&socket)
    }))
}

fn reload(socket: &Path) -> Result<()> {
    let (status, body) = status::ask(socket, "POST", "/v1/reload")?;
    ensure!(status == 200, "the reload was refused: {body}");
    Ok(())
}

/// The gateway's memory is taken away again and again, into swap that lies in memory.
fn page_faults(scene: &Scene<'_>) -> Result<Ongoing> {
    let number = fs::read_to_string("/sys/class/zram-control/hot_add");
    let number = number.context("the kernel has no zram to swap into")?.trim().to_owned();
    let swap = Swap { device: format!("/dev/zram{number}"), number };
    fs::write(format!("/sys/block/zram{}/disksize", swap.number), DISK_BYTES.to_string())?;
    command("mkswap", &[&swap.device])?;
    command("swapon", &[&swap.device])?;
    // It must not take the worker's processor too: that would be another cause.
    let storm = Command::new("nice")
        .args(["-n", "19", "python3", "-c", STORM, &scene.gateway.to_string()])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let storm = storm.context("nice is missing")?;
    Ok(Ongoing::until(move || {
        // Its standard input ends when its output is waited for.
        let out = storm.wait_with_output()?;
        drop(swap);
        ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        Ok(())
    }))
}

/// Swap that lies in memory.
struct Swap {
    device: String,
    number: String,
}

impl Drop for Swap {
    fn drop(&mut self) {
        let off = command("swapoff", &[&self.device]).and_then(|()| {
            fs::write(format!("/sys/block/zram{}/reset", self.number), "1")?;
            Ok(fs::write("/sys/class/zram-control/hot_remove", &self.number)?)
        });
        if let Err(error) = off {
            eprintln!("moat: {}: {error:#}", self.device);
        }
    }
}

/// Packets between gateway and service are lost.
fn lossy_link(scene: &Scene<'_>) -> Result<Ongoing> {
    let loss = Loss::begin("lo", scene.site.upstream(), LOST);
    let loss = loss.map_err(|error| anyhow!("the link: {error}"))?;
    Ok(Ongoing::until(move || {
        drop(loss);
        Ok(())
    }))
}
