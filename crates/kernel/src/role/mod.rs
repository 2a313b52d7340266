//! The kernel role: loads and attaches the programs as root, gives up every right, then turns what
//! the kernel says into records.
//!
//! It has no capability while it runs: what needs one was done before. It opens no file and no
//! socket; of bpf(2) it may use what reads and writes the maps that it holds.

mod commit;
mod deeds;
mod latency;
mod refusals;
mod sightings;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use moat_model::egress::Rule;
use moat_net::control::Channel;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::behaviour::Behaviour;
use crate::egress::Guard;
use crate::latency::probe::{self, PORTS_MAX};
use crate::messages::{self, Egress, FromKernel, Probe, Status, ToKernel, Wire};
use crate::wire::View;
use commit::Commits;
use deeds::Deeds;
use latency::Latency;
use refusals::{Refusals, Ticket};
use sightings::Sightings;

/// Longest time between two looks at the counters.
const LOOK: Duration = Duration::from_millis(250);
/// Longest wait for the last records at the end.
const STOP: Duration = Duration::from_secs(5);

/// Longest list, in bytes.
const EGRESS_BYTES_MAX: usize = 1024 * 1024;

/// Why the role ended.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Everything that was loaded and handed over before the role gives up its rights.
pub struct Prepared {
    control: Channel,
    link: Option<OwnedFd>,
    probes: Vec<Probe>,
    cgroup: String,
    guard: Option<(Guard, Egress)>,
    view: Option<View>,
    sights: Option<OwnedFd>,
    deeds: Option<Deeds>,
    latency: Option<Latency>,
}

/// Takes what the supervisor sends before `Begin`, loads the programs and attaches them. What
/// cannot be attached is said, and the rest goes on: whether that is enough is the supervisor's
/// question.
///
/// # Errors
/// The channel ends or speaks nonsense.
pub fn prepare(control: Channel) -> Result<Prepared, Error> {
    let (mut start, mut link, mut sights, mut windows) = (None, None, None, None);
    loop {
        let (message, fds) = receive(&control)?.ok_or("the control channel ended early")?;
        match message {
            ToKernel::Start { cgroup, pins, wire, roles, latency } => {
                start = Some((cgroup, pins, wire, roles, latency, egress_of(&fds)?));
            }
            ToKernel::Sights {} => sights = fds.into_iter().next(),
            ToKernel::Link {} => link = fds.into_iter().next(),
            ToKernel::Windows { slots, code } => windows = Some((slots, code)),
            ToKernel::Begin {} => break,
            _ => {}
        }
    }
    let (cgroup, pins, wire, roles, timing, egress) = start.ok_or("nothing is to be watched")?;
    let (probe, guard) = match attach(&cgroup, &pins, &egress) {
        Ok(guard) => (Ok(()), Some((guard, egress))),
        Err(error) => (Err(error.to_string()), None),
    };
    let mut probes = vec![named("egress", probe)];
    let mut latency = None;
    if let Some(timing) = timing {
        let ports = guard.as_ref().map(|(_, egress)| ports_of(egress)).unwrap_or_default();
        latency = time(&timing, ports, &cgroup, &roles, &mut probes);
    }
    if let Some((latency, (slots, code))) = latency.as_mut().zip(windows) {
        latency.windows(&slots, code)?;
    }
    let mut view = None;
    if let Some(wire) = wire {
        let looked = look(&wire).map_err(|error| error.to_string());
        probes.push(named("tls_records", looked.as_ref().map(drop).map_err(Clone::clone)));
        view = looked.ok();
    }
    let (names, cgroups): (Vec<String>, Vec<PathBuf>) = roles.into_iter().unzip();
    let watched = Behaviour::watch(&cgroups).map_err(|error| error.to_string());
    probes.push(named("behaviour", watched.as_ref().map(drop).map_err(Clone::clone)));
    let deeds = watched.ok().map(|(behaviour, capable)| {
        probes.push(named("behaviour_capability", capable));
        Deeds::new(behaviour, names)
    });
    let cgroup = cgroup.display().to_string();
    Ok(Prepared { control, link, probes, cgroup, guard, view, sights, deeds, latency })
}

/// Looks at calls' time, and adds what is in force to the probes.
fn time(
    timing: &messages::Latency,
    services: Vec<u16>,
    cgroup: &Path,
    roles: &[(String, PathBuf)],
    probes: &mut Vec<Probe>,
) -> Option<Latency> {
    let auditor = roles.iter().find(|(name, _)| name == "auditor");
    let settings = probe::Settings {
        gateway: cgroup.to_path_buf(),
        auditor: auditor.map(|(_, path)| path.clone()),
        ports: timing.ports.iter().copied().chain(services).collect(),
        stall_ns: timing.stall_ms.saturating_mul(1_000_000),
    };
    match probe::Probe::attach(&settings) {
        Ok((probe, parts)) => {
            probes.push(named("latency", Ok(())));
            probes.extend(parts.into_iter().map(|(name, attached)| named(name, attached)));
            Some(Latency::new(probe))
        }
        Err(error) => {
            probes.push(named("latency", Err(error.to_string())));
            None
        }
    }
}

/// Ports of what a list allows.
fn ports_of(egress: &Egress) -> Vec<u16> {
    let rules = rules_of(egress).unwrap_or_default();
    rules.iter().filter_map(|rule| rule.port).take(PORTS_MAX).collect()
}

/// On every interface that was named, or nowhere.
fn look(wire: &Wire) -> Result<View, Error> {
    let mut view = View::load(wire)?;
    for interface in &wire.interfaces {
        let mode = view.attach(interface)?;
        tracing::info!(interface, ?mode, "the TLS record view is attached");
    }
    Ok(view)
}

fn named(name: &str, attached: Result<(), String>) -> Probe {
    let (is_attached, why) = (attached.is_ok(), attached.err().unwrap_or_default());
    Probe { name: name.to_owned(), is_attached, why }
}

fn attach(cgroup: &Path, pins: &Path, egress: &Egress) -> Result<Guard, Error> {
    let rules = rules_of(egress)?;
    let mut guard = Guard::attach(cgroup, pins)?;
    guard.allow(&rules, egress.is_observing)?;
    Ok(guard)
}

fn egress_of(fds: &[OwnedFd]) -> Result<Egress, Error> {
    let blob = fds.first().ok_or("a list without its blob")?;
    let bytes = moat_net::control::read_blob(blob.as_fd(), EGRESS_BYTES_MAX)?;
    Ok(serde_json::from_slice(&bytes)?)
}

fn rules_of(egress: &Egress) -> Result<Vec<Rule>, Error> {
    let parse = |text: &String| text.parse::<Rule>().map_err(|e| format!("{text}: {e}").into());
    egress.allow.iter().map(parse).collect()
}

/// Serves until the supervisor says stop or goes away.
///
/// # Errors
/// The channel speaks nonsense, or the kernel no longer gives its counters.
pub fn run(prepared: Prepared) -> Result<(), Error> {
    let Prepared { control, link, probes, cgroup, guard, view, sights, deeds, latency } = prepared;
    let mut commits = Commits::new();
    if let Some(link) = link {
        commits.attach(link)?;
    }
    let refusals = match guard {
        Some((guard, egress)) => Some(Refusals::new(guard, egress)?),
        None => None,
    };
    let mut sightings = view.map(Sightings::new);
    if let Some((sightings, fd)) = sightings.as_mut().zip(sights) {
        sightings.attach(fd);
    }
    let mut role =
        Running { control, commits, refusals, sightings, deeds, latency, probes, cgroup };
    role.say(&FromKernel::Ready { probes: role.probes.clone() })?;
    while role.turn(LOOK)? {}
    if let Some(sightings) = &mut role.sightings {
        sightings.sum_up(&mut role.commits)?;
    }
    let until = Instant::now() + STOP;
    while !role.is_done()? && Instant::now() < until {
        role.turn(Duration::from_millis(10))?;
    }
    Ok(())
}

struct Running {
    control: Channel,
    commits: Commits<Ticket>,
    refusals: Option<Refusals>,
    sightings: Option<Sightings>,
    deeds: Option<Deeds>,
    latency: Option<Latency>,
    probes: Vec<Probe>,
    cgroup: String,
}

impl Running {
    /// One wait and what came of it; whether to go on.
    fn turn(&mut self, most: Duration) -> Result<bool, Error> {
        let is_heard = self.wait(most)?;
        let goes_on = !is_heard || self.hear()?;
        if let Some(refusals) = &mut self.refusals {
            refusals.take(&mut self.commits)?;
        }
        if let Some(sightings) = &mut self.sightings {
            sightings.take(&mut self.commits)?;
        }
        if let Some(deeds) = &mut self.deeds {
            deeds.take(&mut self.commits)?;
        }
        if let Some(latency) = &mut self.latency {
            latency.take()?;
        }
        let durable = self.commits.turn();
        if let Some(refusals) = &mut self.refusals {
            refusals.durable(durable)?;
        }
        Ok(goes_on)
    }

    /// Whether the supervisor has said something.
    fn wait(&self, most: Duration) -> Result<bool, Error> {
        let timeout = Timespec {
            tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(most.subsec_nanos()),
        };
        let mut fds = vec![PollFd::new(&self.control, PollFlags::IN)];
        if let Some((fd, events)) = self.commits.poll_fd() {
            fds.push(PollFd::from_borrowed_fd(fd, events));
        }
        // What there is no room for stays in the ring.
        if let Some(refusals) = self.refusals.as_ref().filter(|_| self.commits.room() > 0) {
            fds.push(PollFd::from_borrowed_fd(refusals.poll_fd(), PollFlags::IN));
        }
        if let Some(sightings) = &self.sightings {
            fds.push(PollFd::from_borrowed_fd(sightings.poll_fd(), PollFlags::IN));
        }
        if let Some(deeds) = self.deeds.as_ref().filter(|_| self.commits.room() > 0) {
            fds.push(PollFd::from_borrowed_fd(deeds.poll_fd(), PollFlags::IN));
        }
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(fds.first().is_some_and(|fd| !fd.revents().is_empty()))
    }

    /// Takes one message; whether to go on.
    fn hear(&mut self) -> Result<bool, Error> {
        let Some((message, fds)) = receive(&self.control)? else { return Ok(false) };
        match message {
            ToKernel::Link {} => {
                if let Some(fd) = fds.into_iter().next() {
                    self.commits.attach(fd)?;
                }
            }
            ToKernel::Sights {} => {
                if let (Some(sightings), Some(fd)) = (&mut self.sightings, fds.into_iter().next()) {
                    sightings.attach(fd);
                }
            }
            ToKernel::Allow { number } => {
                let allowed = egress_of(&fds).and_then(|egress| self.allow(egress));
                let refused = allowed.err().map(|error| error.to_string());
                self.say(&FromKernel::Allowed { number, refused })?;
            }
            ToKernel::Windows { slots, code } => {
                if let Some(latency) = &mut self.latency {
                    latency.windows(&slots, code)?;
                }
            }
            ToKernel::Latency {} => self.say_latency()?,
            ToKernel::Status {} => {
                let status = self.status()?;
                self.say(&FromKernel::Status(Box::new(status)))?;
            }
            ToKernel::Stop {} => return Ok(false),
            ToKernel::Start { .. } | ToKernel::Begin {} => {}
        }
        Ok(true)
    }

    fn say_latency(&mut self) -> Result<(), Error> {
        let Some(latency) = &mut self.latency else { return Ok(()) };
        let parts = latency.parts()?;
        let of = parts.len();
        parts
            .into_iter()
            .enumerate()
            .try_for_each(|(part, text)| self.say(&FromKernel::Latency { part, of, text }))
    }

    fn allow(&mut self, egress: Egress) -> Result<(), Error> {
        let rules = rules_of(&egress)?;
        if let Some(latency) = &mut self.latency {
            latency.add_ports(rules.iter().filter_map(|rule| rule.port))?;
        }
        match &mut self.refusals {
            Some(refusals) => refusals.allow(&rules, egress),
            // Without a guard nothing is refused; that was said at the start.
            None => Ok(()),
        }
    }

    fn status(&mut self) -> Result<Status, Error> {
        Ok(Status {
            probes: self.probes.clone(),
            cgroup: self.cgroup.clone(),
            egress: self.refusals.as_ref().map(Refusals::status).transpose()?,
            wire: self.sightings.as_ref().map(Sightings::status).transpose()?,
            behaviour: self.deeds.as_ref().map_or(Ok(Vec::new()), Deeds::status)?,
            latency: self.latency.as_mut().map(Latency::status).transpose()?,
            waiting: self.commits.waiting(),
        })
    }

    fn is_done(&mut self) -> Result<bool, Error> {
        let is_told = self.refusals.as_mut().map_or(Ok(true), Refusals::is_told)?;
        Ok(is_told && self.commits.waiting() == 0)
    }

    fn say(&self, message: &FromKernel) -> Result<(), Error> {
        Ok(self.control.send(&serde_json::to_vec(message)?, &[])?)
    }
}

fn receive(control: &Channel) -> Result<Option<(ToKernel, Vec<OwnedFd>)>, Error> {
    let Some((bytes, fds)) = control.recv()? else { return Ok(None) };
    Ok(Some((serde_json::from_slice(&bytes)?, fds)))
}
