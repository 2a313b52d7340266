//! The supervisor's loop.

use std::ffi::OsString;
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use moat_admin::messages::{FromAdmin, ToAdmin};
use moat_config::{
    Bind, Config, HsmSettings, Loaded, Outline, Profile, Restart, WitnessAddress, WitnessSettings,
};
use moat_gateway::messages::{FromGateway, ToGateway};
use moat_model::code::system::{BIND, LAST_GOOD, NO_USER};
use moat_net::control::Channel;
use moat_net::listen;
use moat_witness::courier::Address;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::child::{Child, Program};
use super::inputs_file::Inputs;
use super::kernel::Kernel;
use super::last_good::LastGood;
use super::policy_store::{Offered, PolicyStore};
use super::reload::{Asker, Candidate, Previous, blob_of, warn_of};
use super::retry::Retry;
use super::state::Known;
use super::upgrade::{self, Handover, Inherited, Sockets};
use super::watch::Watch;
use crate::role::{Entered, Settings};

/// How often files are looked at and roles are asked how they are.
const TICK: Duration = Duration::from_millis(500);
/// The same while something is not ready: starting must not wait for a slow tick.
const TICK_STARTING: Duration = Duration::from_millis(20);
/// How often the gateway is asked for its figures.
const ROWS: Duration = Duration::from_secs(1);
/// How long the gateway may take to finish: it drains 30 s, and has 3 s for its last records.
pub(super) const STOP_GATEWAY: Duration = Duration::from_secs(35);
/// How long the auditor may take after that to make durable what it was sent.
pub(super) const STOP_AUDITOR: Duration = Duration::from_secs(10);
/// Most messages that are read of a gateway that has ended.
const LAST_MESSAGES_MAX: usize = 8;
/// Place of the gateway among the roles, see [`Supervisor::hear`].
const GATEWAY: usize = 1;
/// Signals, each with the byte that stands for it in the pipe.
const SIGNALS: [i32; 5] = [
    signal_hook::consts::SIGHUP,
    signal_hook::consts::SIGUSR2,
    signal_hook::consts::SIGTERM,
    signal_hook::consts::SIGINT,
    signal_hook::consts::SIGCHLD,
];

pub(crate) struct Supervisor {
    pub(super) config_path: PathBuf,
    pub(super) restart: Restart,
    /// Postcard of the active generation's hot part, for a gateway that starts again.
    pub(super) blob: Zeroizing<Vec<u8>>,
    /// One row a worker, one column a listener.
    pub(super) sockets: Vec<Vec<OwnedFd>>,
    pub(super) probes: TcpListener,
    pub(super) admin_socket: UnixListener,
    pub(super) auditor: Child,
    pub(super) gateway: Child,
    pub(super) admin: Child,
    /// Only if witnesses are configured.
    pub(super) courier: Option<Child>,
    /// Only if keys of the log lie in a token.
    pub(super) hsm: Option<Child>,
    pub(super) kernel: Kernel,
    /// Whether the gateway waits for the guard before its first start.
    pub(super) gateway_waits: bool,
    pub(super) policies: PolicyStore,
    /// The signed bundle of the active generation.
    pub(super) policy: Option<Offered>,
    /// The last bundle that was in force before this start, as a generation of its own.
    fallback: Option<(Zeroizing<Vec<u8>>, Offered)>,
    /// Whether the first generation was refused for its policy.
    pub(super) is_policy_refused: bool,
    pub(super) candidate: Option<Candidate>,
    /// Whether a reload was asked for while a candidate was out: then it is made afterwards.
    pub(super) is_stale: bool,
    pub(super) retry: Retry,
    pub(super) last_number: u64,
    pub(super) outline: Outline,
    /// Another program that takes over, or this one from another.
    pub(super) handover: Handover,
    /// A gateway that finishes what it has while another one accepts.
    pub(super) parting: Option<Child>,
    /// Number of the first worker's link to the auditor.
    pub(super) link_base: usize,
    /// Where this program was started from.
    pub(super) program: PathBuf,
    pub(super) last_good: LastGood,
    /// What a rollback goes back to.
    pub(super) previous: Option<Previous>,
    pub(super) watch: Watch,
    pub(super) known: Known,
    was_ready: bool,
    /// When the gateway is asked for its figures again.
    rows_due: Instant,
    signals: Vec<(i32, UnixStream)>,
    pub(super) is_stopping: bool,
    /// Where inputs of decisions are kept, if they are.
    pub(super) inputs: Option<Inputs>,
}

impl Supervisor {
    pub(crate) fn new(
        path: &Path,
        loaded: Loaded,
        inherited: Option<Inherited>,
        last_good: LastGood,
    ) -> Result<Supervisor> {
        let Loaded { config, watched, warnings, outline } = loaded;
        warn_of(&warnings);
        let Config { restart, mut hot, egress, digest } = config;
        let policies = PolicyStore::new(&restart.audit.dir);
        let policy = policies.prepare(&mut hot)?;
        let blob = blob_of(&hot)?;
        let fallback = match policies.fall_back(&mut hot)? {
            Some(offered) => Some((blob_of(&hot)?, offered)),
            None => None,
        };
        drop(hot);
        let settings = role_settings(&restart)?;
        make_log_folders(&restart, settings.auditor.user.as_ref())?;
        let (Sockets { rows: sockets, probes, admin: admin_socket }, handover, last_number) =
            match inherited {
                Some(inherited) => inherited.take(&restart, &egress)?,
                None => (open_sockets(&restart)?, Handover::None, 1),
            };
        let kernel = Kernel::new(&restart, settings.kernel, egress)?;
        let known = Known {
            generation: 0,
            digest,
            last_refusal: None,
            gateway: Value::Null,
            auditor: Value::Null,
        };
        Ok(Supervisor {
            config_path: path.to_path_buf(),
            blob,
            sockets,
            probes,
            admin_socket,
            auditor: Child::new("auditor", settings.auditor),
            gateway: Child::new("gateway", settings.gateway),
            admin: Child::new("admin", settings.admin),
            hsm: hsm(&restart)?,
            courier: settings.courier.map(|settings| Child::new("courier", settings)),
            kernel,
            gateway_waits: true,
            policies,
            policy,
            fallback,
            is_policy_refused: false,
            candidate: None,
            is_stale: false,
            retry: Retry::new(),
            last_number,
            outline,
            handover,
            parting: None,
            link_base: 0,
            program: upgrade::program()?,
            last_good,
            previous: None,
            watch: Watch::new(watched),
            known,
            was_ready: false,
            rows_due: Instant::now(),
            signals: register_signals()?,
            is_stopping: false,
            inputs: Inputs::new(&restart.audit.dir, restart.replay),
            restart,
        })
    }

    /// Runs until a signal asks for the end.
    pub(crate) fn run(&mut self) -> Result<()> {
        if self.handover.is_taking() {
            self.gateway_waits = false;
            self.start_gateway()?;
        } else {
            self.start_roles()?;
        }
        let mut tick = Instant::now() + TICK_STARTING;
        while !self.is_stopping {
            if self.gateway_waits && self.gateway_may_start()? {
                self.gateway_waits = false;
                self.start_gateway()?;
            }
            self.wait(tick)?;
            self.restart_ended()?;
            self.go_on_leaving();
            if Instant::now() >= tick {
                tick = Instant::now() + if self.was_ready { TICK } else { TICK_STARTING };
                self.every_tick();
            }
        }
        if !self.handover.has_left() {
            self.stop();
        }
        Ok(())
    }

    /// All roles but the gateway.
    pub(super) fn start_roles(&mut self) -> Result<()> {
        self.auditor.start()?;
        self.kernel.adopt("auditor", self.auditor.pid())?;
        self.start_courier()?;
        self.start_hsm()?;
        self.start_kernel()?;
        self.start_admin()
    }

    pub(super) fn start_gateway(&mut self) -> Result<()> {
        self.gateway.start()?;
        if let Err(error) = self.kernel.adopt("gateway", self.gateway.pid()) {
            self.gateway.wait(Instant::now());
            return Err(error);
        }
        for (worker, sockets) in self.sockets.iter().enumerate() {
            let fds: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
            self.gateway.send(&ToGateway::Sockets { worker }, &fds);
            self.link(worker)?;
        }
        let number = self.last_number;
        let (digest, asker) = (self.known.digest.clone(), String::new());
        self.gateway.send_blob(&ToGateway::Generation { number, digest, asker }, &self.blob)?;
        self.link_sights()?;
        self.link_risk()?;
        self.link_inputs()?;
        let unguarded = self.handover.unguarded().unwrap_or_else(|| self.kernel.unguarded());
        let tells_time = self.kernel.reads_time();
        self.gateway.send(&ToGateway::Begin { unguarded, tells_time }, &[]);
        Ok(())
    }

    pub(super) fn start_admin(&mut self) -> Result<()> {
        self.admin.start()?;
        self.kernel.adopt("admin", self.admin.pid())?;
        let fds = [self.probes.as_fd(), self.admin_socket.as_fd()];
        self.admin.send(&ToAdmin::Sockets {}, &fds);
        self.admin.send(&ToAdmin::Begin {}, &[]);
        Ok(())
    }

    pub(super) fn start_courier(&mut self) -> Result<()> {
        if let Some(courier) = &mut self.courier {
            courier.start()?;
        }
        self.link_courier()
    }

    /// Joins courier and auditor by a fresh channel.
    fn link_courier(&self) -> Result<()> {
        let Some(courier) = &self.courier else { return Ok(()) };
        let (ours, theirs) = Channel::pair().context("channel of the courier")?;
        courier.send(&json!({ "auditor": {} }), &[ours.as_fd()]);
        self.auditor.send(&json!({ "courier": {} }), &[theirs.as_fd()]);
        Ok(())
    }

    pub(super) fn start_hsm(&mut self) -> Result<()> {
        if let Some(hsm) = &mut self.hsm {
            hsm.start()?;
        }
        self.link_hsm()
    }

    /// Joins `moat-hsm` and auditor by a fresh channel.
    fn link_hsm(&self) -> Result<()> {
        let Some(hsm) = &self.hsm else { return Ok(()) };
        let (ours, theirs) = Channel::pair().context("channel of the token")?;
        hsm.send(&json!({ "auditor": {} }), &[ours.as_fd()]);
        self.auditor.send(&json!({ "hsm": {} }), &[theirs.as_fd()]);
        Ok(())
    }

    /// All roles, in the order that [`hear`](Supervisor::hear) counts them in.
    fn children(&self) -> impl Iterator<Item = &Child> {
        let first = [&self.auditor, &self.gateway, &self.admin];
        first.into_iter().chain(&self.courier).chain(&self.hsm).chain(&self.kernel.child)
    }

    /// Joins one worker of the gateway with the auditor by a fresh pair of sockets.
    pub(super) fn link(&self, worker: usize) -> Result<()> {
        self.join(self.link_base + worker, true, |fd| {
            self.gateway.send(&ToGateway::Link { worker }, &[fd])
        })
    }

    /// Gives one end of a fresh pair of sockets to the auditor and the other away.
    pub(super) fn join(
        &self,
        worker: usize,
        has_anchors: bool,
        give: impl FnOnce(BorrowedFd<'_>),
    ) -> Result<()> {
        let (ours, theirs) = UnixStream::pair().context("link")?;
        give(ours.as_fd());
        if !self.handover.link(worker, theirs.as_fd()) {
            self.give_link(worker, has_anchors, theirs.as_fd());
        }
        Ok(())
    }

    /// Gives the auditor one end of a link.
    pub(super) fn give_link(&self, worker: usize, has_anchors: bool, end: BorrowedFd<'_>) {
        let link = json!({ "link": { "worker": worker, "anchors": has_anchors } });
        self.auditor.send(&link, &[end]);
    }

    /// Waits for a message, a signal or the next thing that is due.
    fn wait(&mut self, tick: Instant) -> Result<()> {
        let dues = self.children().filter_map(Child::due);
        let until = dues.chain([tick]).min().unwrap_or(tick);
        let wait = until.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(0),
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        let mut fds: Vec<PollFd<'_>> =
            self.signals.iter().map(|(_, pipe)| PollFd::new(pipe, PollFlags::IN)).collect();
        let mut order = Vec::new();
        for (at, child) in self.children().enumerate() {
            if let Some(fd) = child.poll_fd() {
                order.push(at);
                fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
            }
        }
        let other = self.handover.poll_fd();
        fds.extend(other.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let has_other = other.is_some();
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        let readable: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let (signals, channels) = readable.split_at(self.signals.len().min(readable.len()));
        let messages: Vec<usize> =
            order.iter().zip(channels).filter(|(_, ready)| **ready).map(|(at, _)| *at).collect();
        let signals: Vec<i32> = self
            .signals
            .iter_mut()
            .zip(signals)
            .filter(|(_, ready)| **ready)
            .map(|((number, pipe), _)| {
                let _ = pipe.read(&mut [0; 64]);
                *number
            })
            .collect();
        let other_spoke = has_other && readable.last() == Some(&true);
        for at in messages {
            self.hear(at);
        }
        if other_spoke {
            self.hear_other();
        }
        for number in signals {
            self.signal(number);
        }
        Ok(())
    }

    fn signal(&mut self, number: i32) {
        match number {
            signal_hook::consts::SIGHUP => self.reload(Asker::Signal),
            signal_hook::consts::SIGUSR2 => self.upgrade(Asker::Signal),
            signal_hook::consts::SIGTERM | signal_hook::consts::SIGINT => self.is_stopping = true,
            _ => {}
        }
    }

    /// Reads one message of a role.
    fn hear(&mut self, at: usize) {
        let children = [&mut self.auditor, &mut self.gateway, &mut self.admin];
        let others = self.courier.iter_mut().chain(&mut self.hsm).chain(&mut self.kernel.child);
        // Collected, so that what is borrowed here is given back once one is chosen.
        let all: Vec<&mut Child> = children.into_iter().chain(others).collect();
        let Some(child) = all.into_iter().nth(at) else { return };
        let Some(Ok(Some((bytes, _)))) = child.control().map(|control| control.recv()) else {
            // The end of the channel is the end of the role; `restart_ended` sees to it.
            std::thread::sleep(Duration::from_millis(1));
            return;
        };
        let message: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if let Ok(entered) = serde_json::from_value::<Entered>(message.clone()) {
            child.entered = Some(entered.entered);
            return;
        }
        match at {
            0 => self.hear_auditor(&message),
            1 => self.hear_gateway(message),
            2 => self.hear_admin(message),
            _ if child.name == "kernel" => self.hear_kernel(message),
            _ => child.is_ready |= message.get("ready").is_some(),
        }
    }

    fn hear_auditor(&mut self, message: &Value) {
        if let Some(ready) = message.get("ready") {
            tracing::info!(%ready, "the log is open");
            self.auditor.is_ready = true;
        } else if let Some(status) = message.get("status") {
            self.auditor.is_asked = false;
            self.known.auditor = status.clone();
            self.retry.hear(self.known.is_writing());
        } else {
            tracing::warn!(%message, "the auditor reports");
        }
        self.publish();
    }

    fn hear_gateway(&mut self, message: Value) {
        match serde_json::from_value(message) {
            Ok(FromGateway::Ready {}) => {
                self.gateway.is_ready = true;
                self.gateway.ask(&ToGateway::Status {});
                self.say_ready_to_predecessor();
            }
            Ok(FromGateway::Held {}) => self.say_held_to_predecessor(),
            Ok(FromGateway::Active { number }) => self.activated(number),
            Ok(FromGateway::Refused { number, code, detail }) => {
                self.refused(number, &code, &detail);
            }
            Ok(FromGateway::Status(status)) => {
                self.gateway.is_asked = false;
                self.known.gateway = serde_json::to_value(status).unwrap_or(Value::Null);
            }
            Ok(FromGateway::Heap { part, of, text }) => {
                if self.admin.is_ready {
                    self.admin.offer(&ToAdmin::Heap { part, of, text });
                }
                return;
            }
            Ok(FromGateway::Windows { slots, code }) => {
                self.kernel.windows(slots, code);
                return;
            }
            Ok(FromGateway::Rows { part, of, rows }) => {
                // Numbers for people: what the admin role does not take in time is lost.
                if self.admin.is_ready {
                    self.admin.offer(&json!({ "rows": { "part": part, "of": of, "rows": rows } }));
                }
                return;
            }
            Err(error) => tracing::warn!(%error, "the gateway said something unknown"),
        }
        self.publish();
    }

    fn hear_admin(&mut self, message: Value) {
        match serde_json::from_value(message) {
            Ok(FromAdmin::Ready {}) => self.admin.is_ready = true,
            Ok(FromAdmin::Heap {}) => {
                if self.gateway.is_ready {
                    self.gateway.offer(&ToGateway::Heap {});
                }
                return;
            }
            Ok(FromAdmin::Reload { id, uid }) => self.reload(Asker::Admin { id, uid }),
            Ok(FromAdmin::Upgrade { id, uid }) => self.upgrade(Asker::Upgrade { id, uid }),
            Ok(FromAdmin::Diff { id }) => {
                let result = self.diff();
                self.admin.send(&ToAdmin::Reloaded { id, result }, &[]);
            }
            Ok(FromAdmin::Rollback { id, uid }) => self.roll_back(Asker::Rollback { id, uid }),
            Err(error) => tracing::warn!(%error, "the admin role said something unknown"),
        }
        self.publish();
    }

    /// Starts again what has ended, and joins it with the others.
    fn restart_ended(&mut self) -> Result<()> {
        if self.auditor.reap() {
            self.known.auditor = Value::Null;
            self.publish();
        }
        if self.known.generation == 0 && self.gateway.has_ended() {
            self.hear_last_of_gateway();
        }
        if !self.handover.is_draining() && self.gateway.reap() {
            self.known.gateway = Value::Null;
            self.auditor.send(&json!({ "orphaned": {} }), &[]);
            if self.known.generation == 0 && !self.falls_back() && !self.falls_back_whole() {
                bail!("the first generation does not work: see above");
            }
            self.gateway_ended();
            self.publish();
        }
        self.admin.reap();
        if let Some(courier) = &mut self.courier {
            courier.reap();
            if courier.is_due() {
                courier.restarts += 1;
                let started = self.start_courier();
                note_start("courier", started);
            }
        }
        if let Some(hsm) = &mut self.hsm {
            hsm.reap();
            if hsm.is_due() {
                hsm.restarts += 1;
                let started = self.start_hsm();
                note_start("hsm", started);
            }
        }
        self.restart_kernel();
        if self.auditor.is_due() {
            self.auditor.restarts += 1;
            let started = self.start_auditor();
            note_start("auditor", started);
        }
        if self.gateway.is_due() {
            self.gateway.restarts += 1;
            let started = self.start_gateway();
            note_start("gateway", started);
        }
        if self.admin.is_due() {
            self.admin.restarts += 1;
            let started = self.start_admin();
            note_start("admin", started);
        }
        Ok(())
    }

    /// Why the first generation was refused may still lie in the channel of the gateway that ended.
    fn hear_last_of_gateway(&mut self) {
        for _ in 0..LAST_MESSAGES_MAX {
            let Some(control) = self.gateway.control() else { return };
            if !control.wait(Duration::ZERO).unwrap_or(false) || self.is_policy_refused {
                return;
            }
            self.hear(GATEWAY);
        }
    }

    /// Whether the last good policy takes the place of one that was refused at the start.
    fn falls_back(&mut self) -> bool {
        let Some((blob, policy)) = self.fallback.take_if(|_| self.is_policy_refused) else {
            return false;
        };
        tracing::error!("the policy bundle was refused: the last good one stays in force");
        self.blob = blob;
        self.policy = Some(policy);
        // So that the configuration on the disk still counts as another one.
        self.known.digest = format!("last-good-policy:{}", self.known.digest);
        true
    }

    /// Whether the last good configuration takes the place of one that the gateway refused at the
    /// start.
    fn falls_back_whole(&mut self) -> bool {
        let Some(Loaded { config, outline, .. }) = self.last_good.load(&self.config_path) else {
            return false;
        };
        // What was refused may be what was kept.
        if config.digest == self.known.digest || config.restart != self.restart {
            return false;
        }
        let mut hot = config.hot;
        let blob = self.policies.prepare(&mut hot).and_then(|policy| Ok((policy, blob_of(&hot)?)));
        let Ok((policy, blob)) = blob else { return false };
        tracing::error!(code = LAST_GOOD.id, "{}", LAST_GOOD.en.title);
        (self.policy, self.blob) = (policy, blob);
        (self.known.digest, self.outline) = (config.digest, outline);
        true
    }

    pub(super) fn start_auditor(&mut self) -> Result<()> {
        self.auditor.start()?;
        self.link_courier()?;
        self.link_hsm()?;
        self.kernel.adopt("auditor", self.auditor.pid())?;
        self.link_kernel()?;
        self.handover.relink();
        (0..self.sockets.len()).try_for_each(|worker| self.link(worker))
    }

    fn every_tick(&mut self) {
        if self.is_handing_over() {
            self.gateway.ask(&ToGateway::Status {});
            self.publish();
            return;
        }
        self.turn_inputs();
        if self.watch.has_settled() {
            self.reload(Asker::Watch);
        }
        if self.gateway.is_ready && self.retry.take_due(Instant::now()) {
            self.reload(Asker::Retry);
        }
        self.end_grace();
        self.gateway.ask(&ToGateway::Status {});
        if self.gateway.is_ready && self.rows_due <= Instant::now() {
            self.rows_due = Instant::now() + ROWS;
            self.gateway.offer(&ToGateway::Rows {});
            self.kernel.ask_latency();
        }
        self.auditor.ask(&json!({ "status": {} }));
        self.kernel.ask();
        self.publish();
    }

    /// Tells the admin role how things stand, and the world when everything is ready.
    pub(super) fn publish(&mut self) {
        let state = self.known.state(self.children(), self.kernel.state());
        let is_ready = state.is_ready();
        if self.admin.is_ready {
            self.admin.offer(&ToAdmin::State(Box::new(state)));
        }
        if is_ready && !self.was_ready {
            let binds: Vec<String> =
                self.restart.binds.iter().map(|(name, at)| format!("{name} {at}")).collect();
            tracing::info!(listeners = binds.join(", "), "moat is ready");
            notify_service_manager("READY=1");
        } else if !is_ready && self.was_ready {
            tracing::warn!("moat is not ready");
        }
        self.was_ready = is_ready;
    }

    /// Gateway first, so that what is open can still be recorded.
    fn stop(&mut self) {
        self.handover.kill();
        let is_taking = self.handover.is_taking();
        if !is_taking {
            notify_service_manager("STOPPING=1");
        }
        // One that does not listen is killed when its time is over.
        self.gateway.offer(&ToGateway::Stop {});
        self.gateway.wait(Instant::now() + STOP_GATEWAY);
        if is_taking {
            // The rest belongs to the supervisor before.
            return;
        }
        if let Some(parting) = &mut self.parting {
            parting.wait(Instant::now());
        }
        self.kernel.stop();
        self.auditor.offer(&json!({ "stop": {} }));
        self.auditor.wait(Instant::now() + STOP_AUDITOR);
        for child in self.courier.iter_mut().chain(&mut self.hsm) {
            child.offer(&json!({ "stop": {} }));
            child.wait(Instant::now() + Duration::from_secs(1));
        }
        self.admin.offer(&ToAdmin::Stop {});
        self.admin.wait(Instant::now() + Duration::from_secs(1));
        self.kernel.clear();
        let _ = std::fs::remove_file(&self.restart.admin.socket);
        tracing::info!("moat has ended");
    }
}

/// A role that could not be started again must not take the others with it: it stays due, and the
/// next turn tries once more.
pub(super) fn note_start(role: &str, started: Result<()>) {
    if let Err(error) = started {
        tracing::error!(role, error = format!("{error:#}"), "a role could not be started again");
    }
}

struct RoleSettings {
    auditor: Settings,
    gateway: Settings,
    admin: Settings,
    courier: Option<Settings>,
    kernel: Settings,
}

/// A user by name, for a start by root; otherwise none.
fn find_user(name: &str) -> Result<Option<(String, u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    match moat_kernel::find_user(name)? {
        Some(user) => Ok(Some((user.name, user.uid, user.gid))),
        None => bail!("{} `{name}`: {}", NO_USER.id, NO_USER.en.fix),
    }
}

/// As root every role gets its own user; otherwise all run as the caller, and that is said.
fn role_settings(restart: &Restart) -> Result<RoleSettings> {
    let user = find_user;
    if !rustix::process::geteuid().is_root() {
        tracing::warn!("not started by root: every role runs as the same user");
    }
    if restart.audit.keys.is_empty() {
        let text = "no audit.keys: the auditor signs the log with a key that it makes in the log's \
                    folder; whoever can write that folder can sign";
        tracing::warn!("{text}");
    }
    let witnesses = restart.audit.witnesses.as_ref();
    let address = |at: &WitnessAddress| Address { address: at.address, prefix: at.prefix.clone() };
    let settings = |user| Settings {
        user,
        strict: restart.profile == Profile::Prod,
        is_partial_landlock_enough: restart.is_partial_landlock_enough,
        dir: restart.audit.dir.clone(),
        second_dir: restart.audit.second_dir.clone(),
        origin: restart.audit.origin.clone(),
        segment_bytes: restart.audit.segment_bytes,
        log_keys: restart.audit.keys.clone(),
        checkpoint_every_ms: restart.audit.checkpoint_every_ms,
        has_sm3: restart.audit.has_sm3,
        is_packing: restart.audit.is_packing,
        retention: restart
            .audit
            .retention
            .map(|days| [days.any, days.c1, days.c2, days.pan, days.c3]),
        policy: witnesses.map(|witnesses| witnesses.policy.to_string()),
        unwitnessed_ms_max: witnesses.map_or(0, |witnesses| witnesses.unwitnessed_ms_max),
        witnesses: witnesses.map_or_else(Vec::new, |witnesses| {
            witnesses.addresses.iter().map(|at| at.as_ref().map(address)).collect()
        }),
        keep_intents: false,
    };
    let is_asked = |witnesses: &&WitnessSettings| witnesses.addresses.iter().any(Option::is_some);
    let courier = match witnesses.filter(is_asked) {
        Some(_) => Some(settings(user(&restart.users.courier)?)),
        None => None,
    };
    Ok(RoleSettings {
        courier,
        auditor: settings(user(&restart.users.auditor)?),
        gateway: settings(user(&restart.users.gateway)?),
        admin: settings(user(&restart.users.admin)?),
        kernel: settings(user(&restart.users.kernel)?),
    })
}

/// `moat-hsm`, beside this program unless the configuration says where.
fn hsm(restart: &Restart) -> Result<Option<Child>> {
    let Some(HsmSettings { module, token, pin, program }) = &restart.audit.hsm else {
        return Ok(None);
    };
    let program = match program {
        Some(program) => program.clone(),
        None => std::env::current_exe().context("own program")?.with_file_name("moat-hsm"),
    };
    let user = find_user(&restart.users.hsm)?.map(|(_, uid, gid)| (uid, gid));
    let arguments = [
        OsString::from("serve"),
        "--module".into(),
        module.into(),
        "--token".into(),
        token.into(),
        "--pin-file".into(),
        pin.into(),
    ];
    Ok(Some(Child::running("hsm", Program::Other(program, arguments.into(), user))))
}

/// Makes the log's folder, and the second one if there is one, for nobody but the auditor.
fn make_log_folders(restart: &Restart, auditor: Option<&(String, u32, u32)>) -> Result<()> {
    let folders = [Some(&restart.audit.dir), restart.audit.second_dir.as_ref()];
    folders.into_iter().flatten().try_for_each(|dir| make_log_folder(dir, auditor))
}

fn make_log_folder(dir: &Path, auditor: Option<&(String, u32, u32)>) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    if let Some((_, uid, gid)) = auditor {
        std::os::unix::fs::chown(dir, Some(*uid), Some(*gid))
            .with_context(|| dir.display().to_string())?;
    }
    let only_owner = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(dir, only_owner).with_context(|| dir.display().to_string())
}

/// All that listens.
fn open_sockets(restart: &Restart) -> Result<Sockets> {
    let rows = open_listeners(restart)?;
    let probes = TcpListener::bind(restart.admin.probes)
        .map_err(|e| anyhow!("{} {}: {e}", BIND.id, restart.admin.probes))?;
    let admin = open_admin_socket(&restart.admin.socket)?;
    Ok(Sockets { rows, probes, admin })
}

/// One socket for each worker and listener, sharing the listener's address.
fn open_listeners(restart: &Restart) -> Result<Vec<Vec<OwnedFd>>> {
    let mut local = Vec::new();
    for (name, bind) in &restart.binds {
        let address = match bind {
            Bind::Tcp(address) => address,
            Bind::Unix(path) => {
                let socket = open_local(path).with_context(|| format!("{} {name}", BIND.id))?;
                local.push((path, socket));
                continue;
            }
        };
        let taken = listen::is_taken(*address)
            .map_err(|e| anyhow!("{} listener {name} at {address}: {e}", BIND.id))?;
        if taken {
            bail!("{} listener {name}: {address} is taken by another program", BIND.id);
        }
    }
    let row = |_| {
        let open = |(name, bind): &(String, Bind)| match bind {
            Bind::Tcp(address) => listen::listen(*address)
                .map(OwnedFd::from)
                .map_err(|e| anyhow!("{} listener {name} at {address}: {e}", BIND.id)),
            // One socket for all workers: the kernel does not spread those of a path over several.
            Bind::Unix(path) => {
                let opened = local.iter().find(|(opened, _)| *opened == path);
                let socket = opened.context("a socket that was not opened")?.1.try_clone()?;
                Ok(socket.into())
            }
        };
        restart.binds.iter().map(open).collect()
    };
    (0..restart.workers).map(row).collect()
}

/// The socket of programs on this machine. Anybody may connect: the gateway asks the kernel who it is.
fn open_local(path: &Path) -> Result<UnixListener> {
    let socket = bind_socket(path)?;
    socket.set_nonblocking(true)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(socket)
}

/// The admin socket, for its owner and group only. A socket file that nobody listens on is a
/// leftover and is replaced.
fn open_admin_socket(path: &Path) -> Result<UnixListener> {
    let socket = bind_socket(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(socket)
}

fn bind_socket(path: &Path) -> Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    if UnixStream::connect(path).is_ok() {
        bail!("{} {}: another moat listens there", BIND.id, path.display());
    }
    let _ = std::fs::remove_file(path);
    UnixListener::bind(path).with_context(|| path.display().to_string())
}

/// A pipe for each signal, so that signals are read like everything else.
fn register_signals() -> Result<Vec<(i32, UnixStream)>> {
    let mut pipes = Vec::new();
    for number in SIGNALS {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(number, theirs)?;
        pipes.push((number, ours));
    }
    Ok(pipes)
}

/// Tells systemd, if it started us (sd_notify(3)).
#[expect(clippy::disallowed_methods, reason = "the service manager speaks by environment")]
pub(super) fn notify_service_manager(state: &str) {
    let Ok(path) = std::env::var("NOTIFY_SOCKET") else { return };
    if let Ok(socket) = UnixDatagram::unbound() {
        let _ = socket.send_to(state.as_bytes(), path);
    }
}
