//! The kernel role, as far as the supervisor has to do with it: the gateway's cgroup, the list of
//! where it may connect to, and whether what must be in force is.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use moat_admin::messages::ToAdmin;
use moat_config::{Bind, Egress, Restart, TlsRecords};
use moat_gateway::messages::ToGateway;
use moat_kernel::cgroup::{self, Cgroup, unpin};
use moat_kernel::messages::{self, FromKernel, Probe, ToKernel};
use moat_model::code::kernel::{ALLOW_FAILED, PROBE_MISSING};
use moat_model::egress::Rule;
use moat_net::control::Channel;
use serde_json::{Value, json};

use super::child::Child;
use super::supervisor::{Supervisor, note_start};
use crate::role::Settings;

/// How long the services of the configuration before stay allowed, for calls that hold it.
const GRACE: Duration = Duration::from_secs(10);
/// How long the first start may take; then the gateway starts without, or not at all.
const START: Duration = Duration::from_secs(10);
/// How long the role may take to record what is left.
const STOP: Duration = Duration::from_secs(7);
/// Number of the role's link to the auditor: above those of all workers.
const LINK: usize = 1_000;

pub(super) struct Kernel {
    pub(super) child: Option<Child>,
    site: Option<Site>,
    /// Why there is no role.
    why: String,
    required: Vec<String>,
    wire: Option<messages::Wire>,
    latency: Option<messages::Latency>,
    /// Where the gateway that runs tells of its calls' time.
    windows: Option<ToKernel>,
    /// The list of the active configuration.
    pub(super) active: Egress,
    /// Services of the one before, and until when they stay allowed.
    former: Option<(Vec<Rule>, Instant)>,
    probes: Vec<Probe>,
    status: Value,
    /// Until when the first start is waited for.
    until: Instant,
}

/// Where processes and pins go.
struct Site {
    /// The gateway's cgroup, which the guard stands before.
    guarded: Cgroup,
    /// Those of the other roles, by name.
    others: Vec<(&'static str, Cgroup)>,
    pins: PathBuf,
}

impl Site {
    fn of(&self, role: &str) -> &Cgroup {
        let other = self.others.iter().find(|(name, _)| *name == role);
        other.map_or(&self.guarded, |(_, cgroup)| cgroup)
    }

    fn roles(&self) -> Vec<(String, PathBuf)> {
        let all = [("gateway", &self.guarded)].into_iter();
        let all = all.chain(self.others.iter().map(|(name, cgroup)| (*name, cgroup)));
        all.map(|(name, cgroup)| (name.to_owned(), cgroup.path().to_path_buf())).collect()
    }
}

impl Kernel {
    /// Makes cgroup and folder of pins, where that can be.
    pub(super) fn new(restart: &Restart, settings: Settings, egress: Egress) -> Result<Kernel> {
        let required = restart.probes_required.clone();
        let (site, why) = match site(&restart.admin.socket) {
            Ok(site) => (Some(site), String::new()),
            Err(why) => (None, why),
        };
        if site.is_none() && !required.is_empty() {
            let names = required.join(", ");
            bail!("{} {names}: {why}; {}", PROBE_MISSING.id, PROBE_MISSING.en.fix);
        }
        if site.is_none() {
            let code = PROBE_MISSING.id;
            tracing::warn!(
                code,
                why,
                "the kernel watches nothing, and the gateway may connect anywhere"
            );
        }
        Ok(Kernel {
            child: site.is_some().then(|| Child::new("kernel", settings)),
            site,
            why,
            required,
            wire: restart.tls_records.as_ref().map(|wire| wire_of(wire, restart)),
            latency: restart
                .latency_stall_ms
                .map(|stall_ms| messages::Latency { ports: ports_of(restart), stall_ms }),
            windows: None,
            active: egress,
            former: None,
            probes: Vec::new(),
            status: Value::Null,
            until: Instant::now() + START,
        })
    }

    pub(super) fn is_ready(&self) -> bool {
        self.child.as_ref().is_none_or(|child| child.is_ready)
    }

    fn is_guarding(&self) -> bool {
        self.probes.iter().any(|probe| probe.name == "egress" && probe.is_attached)
    }

    /// Puts a role that has not begun into its cgroup.
    pub(super) fn adopt(&self, role: &str, pid: u32) -> Result<()> {
        let Some(cgroup) = self.site.as_ref().map(|site| site.of(role)) else { return Ok(()) };
        match cgroup.add(pid) {
            Ok(()) => Ok(()),
            Err(error) if self.is_guarding() && role == "gateway" => {
                bail!("{}: {}: {error}", PROBE_MISSING.id, cgroup.path().display())
            }
            Err(error) => {
                tracing::warn!(%error, role, "a role could not be put into its cgroup");
                Ok(())
            }
        }
    }

    /// For `moat status`.
    pub(super) fn state(&self) -> Value {
        if self.child.is_some() && !self.status.is_null() {
            return self.status.clone();
        }
        let probe = |name: &&str| {
            let known = self.probes.iter().find(|probe| probe.name == **name);
            let missing = Probe {
                name: (**name).to_owned(),
                is_attached: false,
                why: if self.why.is_empty() { "starting".to_owned() } else { self.why.clone() },
            };
            known.cloned().unwrap_or(missing)
        };
        let looks = |name: &&&str| match **name {
            "tls_records" => self.wire.is_some(),
            "latency" => self.latency.is_some(),
            _ => true,
        };
        let probes: Vec<Probe> = moat_config::PROBES.iter().filter(looks).map(probe).collect();
        json!({ "probes": probes, "cgroup": "", "egress": null, "waiting": 0 })
    }

    /// Protections that are not in force, as records have it.
    pub(super) fn unguarded(&self) -> String {
        if self.is_guarding() { String::new() } else { "egress".to_owned() }
    }

    pub(super) fn ask(&mut self) {
        if let Some(child) = &mut self.child {
            child.ask(&ToKernel::Status {});
        }
    }

    /// Whether workers are to tell of their calls' time.
    pub(super) fn reads_time(&self) -> bool {
        self.child.is_some() && self.latency.is_some()
    }

    /// Asks for a report of calls' time.
    pub(super) fn ask_latency(&self) {
        if let Some(child) = self.child.as_ref().filter(|child| child.is_ready) {
            child.offer(&ToKernel::Latency {});
        }
    }

    /// A gateway has begun that tells of its calls' time there.
    pub(super) fn windows(&mut self, slots: Vec<u64>, code: Option<(u64, u64, u64)>) {
        let windows = ToKernel::Windows { slots, code };
        if let Some(child) = &self.child {
            child.send(&windows, &[]);
        }
        self.windows = Some(windows);
    }

    /// Ends the role after the gateway, and takes down what outlives it.
    pub(super) fn stop(&mut self) {
        if let Some(child) = &mut self.child {
            child.offer(&ToKernel::Stop {});
            child.wait(Instant::now() + STOP);
        }
        if let Some(site) = &self.site {
            unpin(&site.pins);
        }
    }

    /// Ends the role and leaves what it has attached in force, for the one that follows.
    pub(super) fn retire(&mut self) {
        if let Some(child) = &mut self.child {
            child.offer(&ToKernel::Stop {});
            child.wait(Instant::now() + STOP);
        }
    }

    /// Takes down the cgroups, once no role is left in them.
    pub(super) fn clear(&self) {
        let Some(site) = &self.site else { return };
        for (_, path) in site.roles() {
            let is_gone = Cgroup::at(&path).remove();
            tracing::debug!(is_gone, path = %path.display(), "a cgroup");
        }
    }
}

fn wire_of(wire: &TlsRecords, restart: &Restart) -> messages::Wire {
    messages::Wire {
        interfaces: wire.interfaces.clone(),
        ports: ports_of(restart),
        admit: wire.admit.clone(),
        drops_other: wire.drops_other,
        syn_max: wire.syn_max,
    }
}

/// Of the listeners, each once.
fn ports_of(restart: &Restart) -> Vec<u16> {
    let port = |bind: &Bind| match bind {
        Bind::Tcp(address) => Some(address.port()),
        Bind::Unix(_) => None,
    };
    let ports: BTreeSet<u16> = restart.binds.iter().filter_map(|(_, bind)| port(bind)).collect();
    ports.into_iter().collect()
}

fn site(socket: &Path) -> Result<Site, String> {
    if cfg!(not(feature = "bpf")) {
        return Err("built without the feature `bpf`".to_owned());
    }
    if !rustix::process::geteuid().is_root() {
        return Err("not started by root".to_owned());
    }
    let name = cgroup::name_of(socket);
    let pins = cgroup::pins().map_err(|error| error.to_string())?.join(&name);
    let make = |name: &str| Cgroup::make(name).map_err(|error| error.to_string());
    let guarded = make(&name)?;
    let other = |role: &'static str| make(&format!("{name}-{role}")).map(|cgroup| (role, cgroup));
    let others = cgroup::OTHER_ROLES.into_iter().map(other).collect::<Result<_, _>>()?;
    Ok(Site { guarded, others, pins })
}

impl Supervisor {
    pub(super) fn start_kernel(&mut self) -> Result<()> {
        let egress = self.egress_now();
        let Some((child, site)) = self.kernel.child.as_mut().zip(self.kernel.site.as_ref()) else {
            return Ok(());
        };
        child.start()?;
        let pid = child.pid();
        let (cgroup, pins) = (site.guarded.path().to_path_buf(), site.pins.clone());
        let (wire, roles) = (self.kernel.wire.clone(), site.roles());
        let latency = self.kernel.latency.clone();
        let start = ToKernel::Start { cgroup, pins, wire, roles, latency };
        child.send_blob(&start, &egress)?;
        self.kernel.adopt("kernel", pid)?;
        self.link_kernel()?;
        self.link_sights()?;
        if let Some(child) = &self.kernel.child {
            if let Some(windows) = &self.kernel.windows {
                child.send(windows, &[]);
            }
            child.send(&ToKernel::Begin {}, &[]);
        }
        Ok(())
    }

    pub(super) fn restart_kernel(&mut self) {
        let Some(child) = &mut self.kernel.child else { return };
        if child.reap() {
            // A first start that fails is not worth waiting for.
            self.kernel.until = Instant::now();
        }
        if child.is_due() {
            child.restarts += 1;
            let started = self.start_kernel();
            note_start("kernel", started);
        }
    }

    /// Joins kernel role and auditor. It gets no key: it records no field of a call.
    pub(super) fn link_kernel(&self) -> Result<()> {
        let child = self.kernel.child.as_ref().filter(|child| child.pid() != 0);
        let Some(child) = child else { return Ok(()) };
        self.join(LINK, false, |fd| child.send(&ToKernel::Link {}, &[fd]))
    }

    /// Joins kernel role and gateway, for what is seen of connections: whoever of the two starts
    /// again, both get fresh ends.
    pub(super) fn link_sights(&self) -> Result<()> {
        let child = self.kernel.child.as_ref().filter(|_| self.kernel.wire.is_some());
        let Some(child) = child else { return Ok(()) };
        let (ours, theirs) = Channel::pair()?;
        child.send(&ToKernel::Sights {}, &[ours.as_fd()]);
        self.gateway.send(&ToGateway::Sights {}, &[theirs.as_fd()]);
        Ok(())
    }

    pub(super) fn hear_kernel(&mut self, message: Value) {
        match serde_json::from_value(message) {
            Ok(FromKernel::Ready { probes }) => self.kernel_ready(probes),
            Ok(FromKernel::Allowed { number, refused }) => self.allowed(number, refused),
            Ok(FromKernel::Latency { part, of, text }) => {
                // For people to read: what the admin role does not take in time is lost.
                if self.admin.is_ready {
                    self.admin.offer(&ToAdmin::Latency { part, of, text });
                }
                return;
            }
            Ok(FromKernel::Status(status)) => {
                self.kernel.status = serde_json::to_value(status).unwrap_or(Value::Null);
                if let Some(child) = &mut self.kernel.child {
                    child.is_asked = false;
                }
            }
            Err(error) => tracing::warn!(%error, "the kernel role said something unknown"),
        }
        self.publish();
    }

    fn kernel_ready(&mut self, probes: Vec<Probe>) {
        for probe in probes.iter().filter(|probe| !probe.is_attached) {
            let code = PROBE_MISSING.id;
            tracing::warn!(code, probe = probe.name, why = probe.why, "a probe is not in force");
        }
        self.kernel.probes = probes;
        if let Some(child) = &mut self.kernel.child {
            child.is_ready = true;
        }
        self.kernel.ask();
        // A role that starts is given the list as it is to be by now.
        self.offer_candidate();
    }

    /// Why the gateway must not start, if it must not; whether it may start now otherwise.
    pub(super) fn gateway_may_start(&self) -> Result<bool> {
        let kernel = &self.kernel;
        if !kernel.is_ready() && Instant::now() < kernel.until {
            return Ok(false);
        }
        for name in &kernel.required {
            let probe = kernel.probes.iter().find(|probe| probe.name == *name);
            let why = match probe {
                Some(probe) if probe.is_attached => continue,
                Some(probe) => probe.why.as_str(),
                None => "the kernel role did not start in time",
            };
            bail!("{} {name}: {why}; {}", PROBE_MISSING.id, PROBE_MISSING.en.fix);
        }
        Ok(true)
    }

    /// What is to be allowed now: of the active configuration, of the one that is being taken, and
    /// the services of the one before for calls that still hold it.
    fn egress_now(&self) -> Vec<u8> {
        let kernel = &self.kernel;
        let candidate = self.candidate.as_ref().map(|candidate| &candidate.egress);
        let lists = [Some(&kernel.active), candidate].into_iter().flatten();
        let mut rules: BTreeSet<Rule> = lists
            .clone()
            .flat_map(|list| list.services.iter().chain(&list.allow))
            .copied()
            .collect();
        rules.extend(kernel.former.iter().flat_map(|(rules, _)| rules));
        let egress = messages::Egress {
            allow: rules.iter().map(ToString::to_string).collect(),
            is_observing: lists.clone().any(|list| list.is_observing),
        };
        serde_json::to_vec(&egress).unwrap_or_default()
    }

    /// Sends the list. The answer to `number` that is the candidate's lets it go on.
    pub(super) fn send_egress(&mut self, number: u64) {
        let egress = self.egress_now();
        let Some(child) = self.kernel.child.as_ref().filter(|child| child.is_ready) else { return };
        if let Err(error) = child.send_blob(&ToKernel::Allow { number }, &egress) {
            // It has ended, or will be found so; the next one is given the list at its start.
            tracing::warn!(error = format!("{error:#}"), "a list was not given to the kernel role");
        }
    }

    fn allowed(&mut self, number: u64, refused: Option<String>) {
        let is_candidates = self.candidate.as_ref().is_some_and(|c| c.number == number);
        match refused {
            None if is_candidates => self.offer_candidate(),
            None => {}
            Some(why) if is_candidates => self.refused(number, ALLOW_FAILED.id, &why),
            Some(why) => {
                tracing::error!(code = ALLOW_FAILED.id, why, "the egress guard keeps its list");
            }
        }
    }

    /// The candidate is in force: its list alone counts from now on, but for the grace.
    pub(super) fn egress_activated(&mut self, egress: Egress) {
        let before = std::mem::replace(&mut self.kernel.active, egress);
        self.kernel.former = Some((before.services, Instant::now() + GRACE));
        self.send_egress(0);
    }

    pub(super) fn end_grace(&mut self) {
        if self.kernel.former.take_if(|(_, until)| *until <= Instant::now()).is_some() {
            self.send_egress(0);
        }
    }
}
