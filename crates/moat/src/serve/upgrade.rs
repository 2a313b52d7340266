//! Another program takes over: the one that lies where this one was started from.
//!
//! The supervisor starts it with a channel as standard input and hands over its listening sockets,
//! the same that it goes on accepting from. The successor starts a gateway of its own, which records
//! through this auditor. Only when that gateway works is the old one told to finish what it has.
//! Then the successor lets its gateway wait for the next auditor, this supervisor ends its own, and
//! the successor starts the other roles. Until then, whatever goes wrong leaves everything as it was.
//!
//! The program that is started is never named by who asks: the admin role may be somebody else's.
//!
//! Over 500 lines, for both sides of the handover are read together.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child as Process, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use moat_config::{Egress, Restart};
use moat_gateway::messages::ToGateway;
use moat_model::code::system::{UPGRADE_FAILED, UPGRADE_IMPOSSIBLE, UPGRADE_PLACES};
use moat_net::control::Channel;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::child::Child;
use super::reload::Asker;
use super::supervisor::{
    STOP_AUDITOR, STOP_GATEWAY, Supervisor, note_start, notify_service_manager,
};

/// Version of what the two supervisors say to each other.
const PROTOCOL: u32 = 1;
/// How long the successor may take until its gateway works.
const START: Duration = Duration::from_secs(25);
/// How long the successor may take to let its gateway wait for the next auditor.
const HOLD: Duration = Duration::from_secs(10);
/// How long it may take to ask a process that has ended how it did.
const ASK: Duration = Duration::from_millis(20);
/// Number of the successor's first link to this auditor: above those of all workers, below that of
/// the kernel role.
const LINKS_OF_SUCCESSOR: usize = 800;
/// The same for a gateway that takes the place of one that finishes.
const LINKS_OF_NEXT: usize = 400;
/// Flag of a successor.
const FLAG: &str = "--successor";
/// Who may write a program beside its owner.
const WRITABLE: u32 = 0o022;

/// To the successor.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum ToSuccessor {
    /// Listening sockets of one worker.
    Sockets { worker: usize },
    /// Sockets of probes and administration.
    Admin {},
    /// Everything was sent.
    Begin { protocol: u32, places: Value, number: u64, unguarded: String },
    /// There is another auditor: links are to be made anew.
    Relink {},
    /// The old gateway has ended.
    Drained {},
    /// All roles have ended: everything is the successor's.
    Yours {},
}

/// From the successor.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum FromSuccessor {
    /// One end of a link, for the auditor.
    Link { worker: usize },
    /// Its gateway works and accepts.
    Ready { version: String, number: u64 },
    /// Its gateway waits for the next auditor.
    Held {},
}

/// What listens.
pub(super) struct Sockets {
    /// One row a worker, one column a listener.
    pub(super) rows: Vec<Vec<OwnedFd>>,
    pub(super) probes: TcpListener,
    pub(super) admin: UnixListener,
}

/// What a successor was given.
pub(crate) struct Inherited {
    channel: Channel,
    sockets: Sockets,
    places: Value,
    number: u64,
    unguarded: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The successor starts.
    Starting,
    /// The old gateway finishes what it has.
    Draining,
    /// The new gateway is about to wait for the next auditor.
    Holding,
}

/// A handover under way, seen from either side.
pub(super) enum Handover {
    None,
    /// This supervisor leaves.
    Leaving {
        process: Process,
        channel: Channel,
        asker: Asker,
        phase: Phase,
        until: Instant,
    },
    /// This supervisor takes over.
    Taking {
        channel: Channel,
        unguarded: String,
        is_ready: bool,
    },
    /// This supervisor has given everything away.
    Left,
}

impl Handover {
    pub(super) fn is_taking(&self) -> bool {
        matches!(self, Handover::Taking { .. })
    }

    pub(super) fn has_left(&self) -> bool {
        matches!(self, Handover::Left)
    }

    /// Whether the end of the gateway is as it should be.
    pub(super) fn is_draining(&self) -> bool {
        matches!(self, Handover::Leaving { phase: Phase::Draining | Phase::Holding, .. })
    }

    pub(super) fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Handover::Leaving { channel, .. } | Handover::Taking { channel, .. } => {
                Some(channel.as_fd())
            }
            Handover::None | Handover::Left => None,
        }
    }

    /// What the kernel does not guard, as the supervisor before knows it.
    pub(super) fn unguarded(&self) -> Option<String> {
        match self {
            Handover::Taking { unguarded, .. } => Some(unguarded.clone()),
            _ => None,
        }
    }

    /// Gives one end of a link to the auditor of the supervisor before, if it is still that one's.
    pub(super) fn link(&self, worker: usize, end: BorrowedFd<'_>) -> bool {
        let Handover::Taking { channel, .. } = self else { return false };
        if let Err(error) = send(channel, &FromSuccessor::Link { worker }, &[end]) {
            tracing::warn!(%error, "a link was not given to the supervisor before");
        }
        true
    }

    /// Tells the successor that there is another auditor.
    pub(super) fn relink(&self) {
        if let Handover::Leaving { channel, .. } = self {
            // One that is gone is found out by the end of its channel.
            let _ = send(channel, &ToSuccessor::Relink {}, &[]);
        }
    }

    /// Ends a successor; its roles end with it.
    pub(super) fn kill(&mut self) {
        if let Handover::Leaving { process, .. } = self {
            let _ = process.kill();
            let _ = process.wait();
            *self = Handover::None;
        }
    }
}

/// Where this program was started from, links unresolved: a successor may be put there by changing a
/// link.
pub(super) fn program() -> Result<PathBuf> {
    let named = std::env::args_os().next().map(PathBuf::from);
    let named = named.filter(|path| path.components().count() > 1);
    let path = match named {
        Some(path) => std::path::absolute(path)?,
        None => std::env::current_exe()?,
    };
    Ok(path)
}

/// What a handover leaves in its place: the successor must want the same.
fn places(restart: &Restart, egress: &Egress) -> Value {
    let binds: BTreeMap<&str, String> =
        restart.binds.iter().map(|(name, at)| (name.as_str(), at.to_string())).collect();
    let allowed: Vec<String> =
        egress.services.iter().chain(&egress.allow).map(ToString::to_string).collect();
    json!({
        "listeners": binds,
        "workers": restart.workers,
        "probes": restart.admin.probes.to_string(),
        "socket": restart.admin.socket,
        "log": restart.audit.dir,
        "egress": allowed,
        "observing": egress.is_observing,
    })
}

/// Takes what the supervisor before hands over. It comes from nobody else: stdin is its channel.
///
/// # Errors
/// The channel ends, or speaks another version.
pub(crate) fn inherit() -> Result<Inherited> {
    let channel = std::io::stdin().as_fd().try_clone_to_owned().context("channel")?;
    let channel = Channel::from_fd(channel);
    let mut rows = BTreeMap::new();
    let mut admin = None;
    loop {
        let Some((bytes, fds)) = channel.recv()? else { bail!("the supervisor before is gone") };
        match serde_json::from_slice(&bytes)? {
            ToSuccessor::Sockets { worker } => {
                rows.insert(worker, fds.into_iter().collect::<Vec<OwnedFd>>());
            }
            ToSuccessor::Admin {} => admin = <[OwnedFd; 2]>::try_from(fds).ok(),
            ToSuccessor::Begin { protocol, .. } if protocol != PROTOCOL => {
                bail!("the supervisor before speaks version {protocol}, this one {PROTOCOL}")
            }
            ToSuccessor::Begin { places, number, unguarded, .. } => {
                let [probes, socket] = admin.context("no sockets of the admin role")?;
                let rows = rows.into_values().collect();
                let sockets = Sockets { rows, probes: probes.into(), admin: socket.into() };
                return Ok(Inherited { channel, sockets, places, number, unguarded });
            }
            other => bail!("unexpected: {other:?}"),
        }
    }
}

impl Inherited {
    /// The sockets, if the configuration on the disk wants these, and the number of the generation
    /// to begin with.
    pub(super) fn take(
        self,
        restart: &Restart,
        egress: &Egress,
    ) -> Result<(Sockets, Handover, u64)> {
        let Inherited { channel, sockets, places: theirs, number, unguarded } = self;
        let ours = places(restart, egress);
        let names: Vec<String> = ours
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, value)| theirs.get(name) != Some(value))
            .map(|(name, _)| name.clone())
            .collect();
        if !names.is_empty() {
            bail!("{} {}: {}", UPGRADE_PLACES.id, names.join(", "), UPGRADE_PLACES.en.title);
        }
        let handover = Handover::Taking { channel, unguarded, is_ready: false };
        Ok((sockets, handover, number + 1))
    }
}

impl Supervisor {
    /// Whether another program is taking over, or this one from another.
    pub(super) fn is_handing_over(&self) -> bool {
        !matches!(self.handover, Handover::None)
    }

    /// Lets the program that lies where this one was started from take over.
    pub(super) fn upgrade(&mut self, asker: Asker) {
        match self.begin_upgrade() {
            Ok((process, channel)) => {
                tracing::info!(pid = process.id(), "another program starts to take over");
                let (phase, until) = (Phase::Starting, Instant::now() + START);
                self.handover = Handover::Leaving { process, channel, asker, phase, until };
            }
            Err(error) => {
                let why = format!("{error:#}");
                tracing::error!(why, "no upgrade");
                self.answer(&asker, Err(why));
            }
        }
    }

    fn begin_upgrade(&mut self) -> Result<(Process, Channel)> {
        if self.is_handing_over() || self.candidate.is_some() || !self.gateway.is_ready {
            bail!("{}: a reload, a start or an upgrade is under way; ask again", UPGRADE_FAILED.id);
        }
        if std::process::id() == 1 {
            bail!("{} {}", UPGRADE_IMPOSSIBLE.id, UPGRADE_IMPOSSIBLE.en.fix);
        }
        check_program(&self.program)?;
        let (channel, theirs) = Channel::pair().context("channel")?;
        let arguments: Vec<OsString> =
            std::env::args_os().skip(1).filter(|argument| argument != FLAG).collect();
        let mut process = Command::new(&self.program)
            .args(arguments)
            .arg(FLAG)
            .stdin(Stdio::from(theirs))
            .spawn()
            .with_context(|| format!("{} {}", UPGRADE_IMPOSSIBLE.id, self.program.display()))?;
        if let Err(error) = self.give(&channel) {
            let _ = process.kill();
            let _ = process.wait();
            return Err(error.context(UPGRADE_FAILED.id));
        }
        Ok((process, channel))
    }

    fn give(&self, channel: &Channel) -> Result<()> {
        for (worker, sockets) in self.sockets.iter().enumerate() {
            let fds: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
            send(channel, &ToSuccessor::Sockets { worker }, &fds)?;
        }
        let fds = [self.probes.as_fd(), self.admin_socket.as_fd()];
        send(channel, &ToSuccessor::Admin {}, &fds)?;
        let places = places(&self.restart, &self.kernel.active);
        let (number, unguarded) = (self.last_number, self.kernel.unguarded());
        send(channel, &ToSuccessor::Begin { protocol: PROTOCOL, places, number, unguarded }, &[])
    }

    /// Reads one message of the other supervisor.
    pub(super) fn hear_other(&mut self) {
        let heard = match &self.handover {
            Handover::Leaving { channel, .. } | Handover::Taking { channel, .. } => channel.recv(),
            Handover::None | Handover::Left => return,
        };
        let Ok(Some((bytes, fds))) = heard else {
            self.other_is_gone();
            return;
        };
        if self.handover.is_taking() {
            match serde_json::from_slice(&bytes) {
                Ok(ToSuccessor::Drained {}) => self.gateway.send(&ToGateway::Hold {}, &[]),
                Ok(ToSuccessor::Yours {}) => self.take_over(),
                Ok(ToSuccessor::Relink {}) => {
                    let linked = (0..self.sockets.len()).try_for_each(|worker| self.link(worker));
                    note_start("link", linked);
                }
                other => tracing::warn!(?other, "the supervisor before said something else"),
            }
            return;
        }
        match serde_json::from_slice(&bytes) {
            Ok(FromSuccessor::Link { worker }) => {
                for fd in &fds {
                    self.give_link(LINKS_OF_SUCCESSOR + worker, true, fd.as_fd());
                }
            }
            Ok(FromSuccessor::Ready { version, number }) => self.drain_for(&version, number),
            Ok(FromSuccessor::Held {}) => self.leave(),
            Err(error) => tracing::warn!(%error, "the successor said something unknown"),
        }
    }

    fn other_is_gone(&mut self) {
        match &self.handover {
            Handover::Taking { is_ready: false, .. } => {
                tracing::error!("the supervisor before has ended during the handover");
                self.is_stopping = true;
            }
            // Its roles end with it, and the gateway here works: go on alone.
            Handover::Taking { .. } => self.take_over(),
            Handover::Leaving { .. } => self.abandon("the new program has ended"),
            Handover::None | Handover::Left => {}
        }
    }

    /// The successor's gateway accepts from the same sockets: the old one finishes.
    fn drain_for(&mut self, version: &str, number: u64) {
        let own = env!("CARGO_PKG_VERSION");
        let Handover::Leaving { phase, until, asker, .. } = &mut self.handover else { return };
        if *phase != Phase::Starting {
            return;
        }
        (*phase, *until) = (Phase::Draining, Instant::now() + STOP_GATEWAY);
        let asker = std::mem::replace(asker, Asker::Earlier);
        let versions = format!("from={own} to={version}");
        let note = ToGateway::Upgrade { versions, asker: asker.to_string() };
        self.gateway.send(&note, &[]);
        self.gateway.send(&ToGateway::Stop {}, &[]);
        tracing::info!(version, "the new gateway accepts; the old one finishes what it has");
        self.answer(&asker, Ok(json!({ "generation": number, "version": version })));
    }

    /// What is next in a handover that this supervisor leaves by.
    pub(super) fn go_on_leaving(&mut self) {
        if self.parting.as_mut().is_some_and(Child::has_ended) {
            self.parting = None;
        }
        let Handover::Leaving { phase, until, .. } = &self.handover else { return };
        let (phase, is_late) = (*phase, Instant::now() >= *until);
        match phase {
            Phase::Starting if is_late => self.abandon("the new program was not ready in time"),
            Phase::Holding if is_late => self.abandon("the new gateway does not wait"),
            Phase::Draining if is_late || self.gateway.has_ended() => {
                // One that has ended needs only to be asked.
                self.gateway.wait(Instant::now() + ASK);
                self.kernel.retire();
                let Handover::Leaving { channel, phase, until, .. } = &mut self.handover else {
                    return;
                };
                (*phase, *until) = (Phase::Holding, Instant::now() + HOLD);
                if send(channel, &ToSuccessor::Drained {}, &[]).is_err() {
                    self.abandon("the new program has ended");
                }
            }
            _ => {}
        }
    }

    /// The successor did not take over: this supervisor goes on.
    fn abandon(&mut self, why: &str) {
        let handover = std::mem::replace(&mut self.handover, Handover::None);
        let Handover::Leaving { mut process, phase, asker, .. } = handover else { return };
        let _ = process.kill();
        let _ = process.wait();
        let why = format!("{} {}: {why}", UPGRADE_FAILED.id, UPGRADE_FAILED.en.title);
        tracing::error!(why, "no upgrade");
        self.known.last_refusal = Some(why.clone());
        self.answer(&asker, Err(why));
        if phase != Phase::Starting {
            self.start_after_all();
        }
        self.publish();
    }

    /// The gateway was told to finish: another one accepts in its place.
    fn start_after_all(&mut self) {
        let fresh = self.gateway.again();
        self.parting = Some(std::mem::replace(&mut self.gateway, fresh));
        self.link_base = if self.link_base == 0 { LINKS_OF_NEXT } else { 0 };
        if self.kernel.child.as_ref().is_some_and(|child| child.pid() == 0) {
            note_start("kernel", self.start_kernel());
        }
        note_start("gateway", self.start_gateway());
    }

    /// Ends what only one may have, and gives everything away.
    fn leave(&mut self) {
        let handover = std::mem::replace(&mut self.handover, Handover::None);
        let Handover::Leaving { process, channel, .. } = handover else { return };
        self.auditor.offer(&json!({ "stop": {} }));
        self.auditor.wait(Instant::now() + STOP_AUDITOR);
        notify_service_manager(&format!("MAINPID={}", process.id()));
        if send(&channel, &ToSuccessor::Yours {}, &[]).is_err() {
            tracing::error!(code = UPGRADE_FAILED.id, "the new program has ended at the last step");
            notify_service_manager(&format!("MAINPID={}", std::process::id()));
            note_start("auditor", self.start_auditor());
            self.start_after_all();
            return;
        }
        for child in self.courier.iter_mut().chain(&mut self.hsm) {
            child.offer(&json!({ "stop": {} }));
            child.wait(Instant::now() + Duration::from_secs(1));
        }
        self.admin.offer(&moat_admin::messages::ToAdmin::Stop {});
        self.admin.wait(Instant::now() + Duration::from_secs(1));
        tracing::info!(pid = process.id(), "the new program has taken over");
        (self.handover, self.is_stopping) = (Handover::Left, true);
    }

    /// Tells the supervisor before that the gateway here works.
    pub(super) fn say_ready_to_predecessor(&mut self) {
        let number = self.known.generation;
        let Handover::Taking { channel, is_ready, .. } = &mut self.handover else { return };
        *is_ready = true;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        if let Err(error) = send(channel, &FromSuccessor::Ready { version, number }, &[]) {
            tracing::warn!(error = format!("{error:#}"), "the supervisor before does not hear");
        }
    }

    pub(super) fn say_held_to_predecessor(&mut self) {
        let Handover::Taking { channel, .. } = &self.handover else { return };
        if let Err(error) = send(channel, &FromSuccessor::Held {}, &[]) {
            tracing::warn!(error = format!("{error:#}"), "the supervisor before does not hear");
        }
    }

    /// Everything is here: the roles that only one may have are started.
    fn take_over(&mut self) {
        self.handover = Handover::None;
        // The gateway lives and says itself what becomes of its calls.
        self.auditor.keep_intents(true);
        let started = self.start_auditor();
        self.auditor.keep_intents(false);
        note_start("auditor", started);
        let others = [self.start_courier(), self.start_hsm(), self.start_kernel()];
        for started in others.into_iter().chain([self.start_admin()]) {
            note_start("role", started);
        }
        tracing::info!("taken over from the program before");
    }
}

/// A program that others than its owner may write must not be started with the supervisor's rights.
fn check_program(path: &Path) -> Result<()> {
    let data = std::fs::metadata(path)
        .with_context(|| format!("{} {}", UPGRADE_IMPOSSIBLE.id, path.display()))?;
    if !data.is_file() || data.permissions().mode() & WRITABLE != 0 {
        bail!("{} {}: {}", UPGRADE_IMPOSSIBLE.id, path.display(), UPGRADE_IMPOSSIBLE.en.fix);
    }
    Ok(())
}

fn send(channel: &Channel, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> Result<()> {
    channel.send(&serde_json::to_vec(message)?, fds).context("the other supervisor")
}
