//! The role's control thread: takes sockets, links and generations from the supervisor, and hands
//! them to the workers.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use moat_audit::record::Body;
use moat_config::Hot;
use moat_model::clock::{Clock, System};
use moat_model::code::audit::{AUDITOR_AWAY, QUEUE_FULL};
use moat_model::code::config::SYNTAX;
use moat_model::{Code, Refusal};
use moat_net::control::{self, Channel};
use moat_policy::Engine;
use moat_policy::risk::Memory;
use moat_tls::Proven;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::doors::Doors;
use crate::figures;
use crate::generation::{Generation, Refused};
use crate::inputs::{Inputs, Writer};
use crate::messages::{FromGateway, Status, ToGateway};
use crate::risk::Keeper;
use crate::sights::Sights;
use crate::standing::Standing;
use crate::upkeep::Upkeep;
use crate::upstream::Kept;
use crate::window::{self, Words};
use crate::worker::{self, Counters, OpenConnections, Order};
use crate::{memory, record};

/// Largest generation, in bytes.
const GENERATION_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Longest wait for the record of a reload; the commit itself has `audit.deadline_ms`.
const RECORD: Duration = Duration::from_secs(31);
/// How often it is looked whether that record was made. Links are taken meanwhile: the record may
/// be waiting for one.
const LOOK: Duration = Duration::from_millis(2);
/// How long a worker may not turn its loop before it counts as standing still, in milliseconds.
const STALLED_MS: u64 = 1_000;
/// Longest wait for the workers before another auditor comes; each waits a second at most.
const HOLD: Duration = Duration::from_secs(2);
/// Most orders that wait for one worker.
const ORDERS_MAX: usize = 64;

/// Why the role ended.
#[derive(Debug)]
pub enum Error {
    /// The control channel failed or spoke nonsense.
    Control(String),
    /// The first generation was refused.
    Refused(Refused),
    /// A thread or socket could not be set up.
    Io(std::io::Error),
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Error::Control(what) => write!(f, "control channel: {what}"),
            Error::Refused(refused) => write!(f, "{refused}"),
            Error::Io(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        Error::Io(error)
    }
}

/// Everything handed over before the role gives up its rights.
pub struct Prepared {
    control: Channel,
    sockets: BTreeMap<usize, Vec<OwnedFd>>,
    links: Vec<(usize, UnixStream)>,
    generation: Option<(u64, String, Zeroizing<Vec<u8>>)>,
    sights: Option<OwnedFd>,
    risk: Option<(OwnedFd, usize)>,
    inputs: Option<(OwnedFd, bool, bool)>,
    unguarded: String,
    /// Whether somebody reads what workers tell of their calls' time.
    tells_time: bool,
    /// Where the program's code lies: begin, end, offset in its file.
    code: Option<(u64, u64, u64)>,
}

impl Prepared {
    /// With the place of the program's code in memory, for the names of what stands still.
    #[must_use]
    pub fn with_code(self, code: Option<(u64, u64, u64)>) -> Prepared {
        Prepared { code, ..self }
    }
}

/// Takes what the supervisor sends before `Begin`. Nothing of it comes from a caller.
///
/// # Errors
/// [`Error::Control`] if the channel ends or speaks nonsense.
pub fn prepare(control: Channel) -> Result<Prepared, Error> {
    let (sockets, links, unguarded) = (BTreeMap::new(), Vec::new(), String::new());
    let mut prepared = Prepared {
        control,
        sockets,
        links,
        generation: None,
        sights: None,
        risk: None,
        inputs: None,
        unguarded,
        tells_time: false,
        code: None,
    };
    loop {
        let Some((message, descriptors)) = receive(&prepared.control)? else {
            return Err(Error::Control("it ended before the start".to_owned()));
        };
        match message {
            ToGateway::Sockets { worker } => {
                prepared.sockets.insert(worker, descriptors.into_iter().collect());
            }
            ToGateway::Link { worker } => {
                for descriptor in descriptors {
                    prepared.links.push((worker, descriptor.into()));
                }
            }
            ToGateway::Generation { number, digest, .. } => {
                prepared.generation = Some((number, digest, blob(&descriptors)?));
            }
            ToGateway::Risk { subjects } => {
                prepared.risk = descriptors.into_iter().next().map(|file| (file, subjects));
            }
            ToGateway::Inputs { keeps_headers, keeps_person } => {
                let file = descriptors.into_iter().next();
                prepared.inputs = file.map(|file| (file, keeps_headers, keeps_person));
            }
            ToGateway::Sights {} => prepared.sights = descriptors.into_iter().next(),
            ToGateway::Begin { unguarded, tells_time } => {
                prepared.unguarded = unguarded;
                prepared.tells_time = tells_time;
                return Ok(prepared);
            }
            ToGateway::Stop {} => return Err(Error::Control("stopped before start".to_owned())),
            ToGateway::Status {}
            | ToGateway::Rows {}
            | ToGateway::Hold {}
            | ToGateway::Upgrade { .. }
            | ToGateway::Heap {}
            | ToGateway::Unreadable { .. } => {}
        }
    }
}

/// Runs the role until the supervisor stops it or goes away.
///
/// # Errors
/// [`Error`]: the first generation does not work, or threads cannot be set up.
pub fn run(prepared: Prepared) -> Result<(), Error> {
    let Prepared { control, sockets, links, generation, sights: fed, .. } = prepared;
    let Prepared { risk, inputs, unguarded, tells_time, code, .. } = prepared;
    let (number, digest, bytes) =
        generation.ok_or_else(|| Error::Control("no generation".to_owned()))?;
    let workers = sockets.len();
    let kept = Arc::new(Kept::default());
    let (shared, engines) = match compile(&bytes, number, workers, &kept) {
        Ok(compiled) => compiled,
        Err(refused) => {
            let report = refusal_of(number, &refused);
            send(&control, &report)?;
            return Err(Error::Refused(refused));
        }
    };
    drop(bytes);
    let policy_name = shared.policy_name.clone();
    let in_force = Arc::clone(&shared);
    let sights = Arc::new(Sights::default());
    if let Some(fd) = fed {
        sights.feed(fd)?;
    }
    let keeper = risk.map(|(file, subjects)| Keeper::start(file, subjects)).transpose()?;
    let writer = inputs.map(|(file, headers, person)| Writer::start(file, headers, person));
    let writer = writer.transpose()?;
    let unguarded: Arc<str> = unguarded.into();
    let (workers, lists, candidate, upkeep) = (Vec::new(), Vec::new(), None, None);
    let mut role = Role {
        control,
        workers,
        number,
        lists,
        in_force,
        candidate,
        sights,
        kept,
        upkeep,
        code,
        keeper,
        writer,
    };
    let open: OpenConnections = shared.listeners.iter().map(|_| AtomicUsize::new(0)).collect();
    let doors = Doors::new(Instant::now());
    let standing = Arc::new(Standing::new(System::new().wall_ns() / 1_000_000_000));
    let words: Vec<Option<Words>> =
        sockets.iter().map(|_| tells_time.then(window::words)).collect();
    let slots = words.iter().flatten().map(window::address).collect();
    for ((sockets, engine), words) in sockets.into_values().zip(engines).zip(words) {
        let common = Common {
            generation: Arc::clone(&shared),
            open: Arc::clone(&open),
            doors: Arc::clone(&doors),
            standing: Arc::clone(&standing),
            inputs: role.writer.as_ref().map(|writer| Arc::clone(&writer.inputs)),
            risk: role.keeper.as_ref().map(|keeper| Arc::clone(&keeper.memory)),
            sights: Arc::clone(&role.sights),
            unguarded: Arc::clone(&unguarded),
            words,
        };
        role.start(sockets, engine, common)?;
    }
    for (worker, link) in links {
        role.order(worker, Order::Link(link));
    }
    // Nobody waits for it: a gateway that starts must not depend on the auditor's start.
    role.note(record::start(number, &digest, policy_name.as_deref()));
    role.look_after(&shared)?;
    send(&role.control, &FromGateway::Windows { slots, code })?;
    send(&role.control, &FromGateway::Active { number })?;
    send(&role.control, &FromGateway::Ready {})?;
    role.serve()
}

struct Role {
    control: Channel,
    workers: Vec<Handle>,
    number: u64,
    /// The latest lists of revoked certificates that were used in any generation.
    lists: Vec<Proven>,
    in_force: Arc<Generation>,
    candidate: Option<Candidate>,
    sights: Arc<Sights>,
    /// What is known of endpoints and names, over generations.
    kept: Arc<Kept>,
    upkeep: Option<Upkeep>,
    code: Option<(u64, u64, u64)>,
    /// What is remembered of callers.
    keeper: Option<Keeper>,
    /// Where inputs of decisions are kept.
    writer: Option<Writer>,
}

/// What all workers have in common.
struct Common {
    generation: Arc<Generation>,
    open: OpenConnections,
    doors: Arc<Doors>,
    standing: Arc<Standing>,
    risk: Option<Arc<Memory>>,
    inputs: Option<Arc<Inputs>>,
    sights: Arc<Sights>,
    unguarded: Arc<str>,
    words: Option<Words>,
}

/// A generation that works, and whose record is awaited.
struct Candidate {
    number: u64,
    digest: String,
    asker: String,
    shared: Arc<Generation>,
    engines: Vec<Engine>,
    recorded: Receiver<Result<(), Refusal>>,
    until: Instant,
}

struct Handle {
    orders: mpsc::Sender<Order>,
    counters: Arc<Counters>,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Role {
    fn start(
        &mut self,
        sockets: Vec<OwnedFd>,
        engine: Engine,
        common: Common,
    ) -> Result<(), Error> {
        let Common { generation, open, doors, standing, risk, inputs, .. } = common;
        let (sights, unguarded, words) = (common.sights, common.unguarded, common.words);
        let (orders, received) = mpsc::channel(ORDERS_MAX);
        let counters = Arc::new(Counters::default());
        let start = worker::Start {
            sockets,
            generation,
            engine: Box::new(engine),
            orders: received,
            counters: Arc::clone(&counters),
            open,
            doors,
            standing,
            risk,
            inputs,
            sights,
            unguarded,
            words,
        };
        let name = format!("worker-{}", self.workers.len());
        let thread = std::thread::Builder::new().name(name).spawn(move || worker::run(start))?;
        self.workers.push(Handle { orders, counters, thread });
        Ok(())
    }

    /// Begins to look after the endpoints of a generation.
    fn look_after(&mut self, generation: &Arc<Generation>) -> Result<(), Error> {
        if self.upkeep.is_none()
            && let Some(first) = self.workers.first()
        {
            self.upkeep = Some(Upkeep::start(Arc::clone(&self.kept), first.orders.clone())?);
        }
        if let Some(upkeep) = &self.upkeep {
            upkeep.take(generation, &self.kept);
        }
        Ok(())
    }

    fn order(&self, worker: usize, order: Order) {
        if let Some(handle) = self.workers.get(worker)
            && handle.orders.blocking_send(order).is_err()
        {
            tracing::error!(worker, "a worker no longer takes orders");
        }
    }

    fn serve(mut self) -> Result<(), Error> {
        loop {
            if let Some(answer) = self.finish() {
                send(&self.control, &answer)?;
            }
            if self.candidate.is_some() && !self.control.wait(LOOK)? {
                continue;
            }
            let Some((message, descriptors)) = receive(&self.control)? else {
                // Nothing can be recorded any more, so there is nothing to drain for.
                return Err(Error::Control("the supervisor is gone".to_owned()));
            };
            match message {
                ToGateway::Link { worker } => {
                    for descriptor in descriptors {
                        self.order(worker, Order::Link(descriptor.into()));
                    }
                }
                ToGateway::Generation { number, digest, asker } => {
                    let taken = self.take(number, digest, asker, &blob(&descriptors)?);
                    if let Err(answer) = taken {
                        send(&self.control, &answer)?;
                    }
                }
                ToGateway::Unreadable { number, code, asker } => {
                    self.note(record::reload(number, "", &asker, None, Some(&code)));
                }
                ToGateway::Upgrade { versions, asker } => {
                    self.note(record::upgrade(self.number, &versions, &asker));
                }
                ToGateway::Hold {} => {
                    self.hold();
                    send(&self.control, &FromGateway::Held {})?;
                }
                ToGateway::Status {} => {
                    send(&self.control, &FromGateway::Status(self.status()))?;
                }
                ToGateway::Sights {} => {
                    for descriptor in descriptors {
                        self.sights.feed(descriptor)?;
                    }
                }
                ToGateway::Inputs { .. } => {
                    if let (Some(writer), Some(file)) =
                        (&self.writer, descriptors.into_iter().next())
                    {
                        writer.turn_to(file);
                    }
                }
                ToGateway::Rows {} => {
                    let named = self.workers.iter().map(|worker| &worker.counters.named);
                    let parts = figures::parts(&figures::rows(named, &self.in_force));
                    let of = parts.len();
                    for (part, rows) in parts.into_iter().enumerate() {
                        send(&self.control, &FromGateway::Rows { part, of, rows })?;
                    }
                }
                ToGateway::Heap {} => {
                    for report in memory::parts(self.code) {
                        send(&self.control, &report)?;
                    }
                }
                ToGateway::Stop {} => break,
                ToGateway::Sockets { .. } | ToGateway::Begin { .. } | ToGateway::Risk { .. } => {}
            }
            if self.workers.iter().any(|w| w.thread.is_finished()) {
                return Err(Error::Control("a worker ended by itself".to_owned()));
            }
        }
        for worker in 0..self.workers.len() {
            self.order(worker, Order::Drain);
        }
        for handle in self.workers {
            if let Ok(ended) = handle.thread.join() {
                ended?;
            }
        }
        if let Some(keeper) = self.keeper {
            keeper.stop();
        }
        if let Some(writer) = self.writer {
            writer.stop();
        }
        Ok(())
    }

    /// Waits until no worker has a record under way, at most a little longer than they may wait.
    fn hold(&self) {
        let (sender, held) = sync_channel(self.workers.len().max(1));
        for worker in 0..self.workers.len() {
            self.order(worker, Order::Hold(sender.clone()));
        }
        let until = Instant::now() + HOLD;
        for _ in &self.workers {
            let left = until.saturating_duration_since(Instant::now());
            if held.recv_timeout(left).is_err() {
                tracing::warn!("a worker did not say that its records are made");
            }
        }
    }

    /// Begins to take a new generation: it is compiled, and its record is asked for.
    ///
    /// The record stands before the generation is in force. Without a record nothing changes.
    fn take(
        &mut self,
        number: u64,
        digest: String,
        asker: String,
        bytes: &[u8],
    ) -> Result<(), FromGateway> {
        let compiled = if self.candidate.is_some() {
            // The supervisor offers one after the other.
            let detail = "another generation waits for its record".to_owned();
            Err(Refused { code: &QUEUE_FULL, detail })
        } else {
            compile(bytes, number, self.workers.len(), &self.kept)
        };
        self.remember_lists();
        let compiled = compiled.and_then(|(shared, engines)| {
            shared.may_follow(&self.lists)?;
            Ok((shared, engines))
        });
        let (shared, engines) = compiled.map_err(|refused| {
            self.note(record::reload(number, &digest, &asker, None, Some(refused.code.id)));
            refusal_of(number, &refused)
        })?;
        let (sender, recorded) = sync_channel(1);
        let policy = shared.policy_name.as_deref();
        let body = record::reload(number, &digest, &asker, policy, None);
        self.order(0, Order::Record(Box::new(body), sender));
        let until = Instant::now() + RECORD;
        self.candidate =
            Some(Candidate { number, digest, asker, shared, engines, recorded, until });
        Ok(())
    }

    /// Puts the candidate in force in every worker, or in none, once it is known whether its record
    /// was made.
    fn finish(&mut self) -> Option<FromGateway> {
        let waiting = self.candidate.as_ref()?;
        let recorded = match waiting.recorded.try_recv() {
            Ok(recorded) => recorded.map_err(|unrecorded| unrecorded.code),
            Err(TryRecvError::Empty) if Instant::now() < waiting.until => return None,
            Err(_) => Err(&AUDITOR_AWAY),
        };
        let candidate = self.candidate.take()?;
        Some(match recorded {
            Ok(()) => self.activate(candidate),
            Err(code) => self.give_up(&candidate, code),
        })
    }

    /// Adds the lists that the generation in force has used. There are no more of them than
    /// issuers that ever vouched for anybody.
    fn remember_lists(&mut self) {
        for fresh in self.in_force.proven() {
            let is_of = |one: &&mut Proven| one.is_of_issuer_of(&fresh);
            match self.lists.iter_mut().find(is_of) {
                Some(known) => known.raise_to(fresh),
                None => self.lists.push(fresh),
            }
        }
    }

    fn activate(&mut self, candidate: Candidate) -> FromGateway {
        let Candidate { number, shared, engines, .. } = candidate;
        if let Err(error) = self.look_after(&shared) {
            tracing::error!(%error, "endpoints are not looked after");
        }
        for (worker, engine) in engines.into_iter().enumerate() {
            self.order(worker, Order::Generation(Arc::clone(&shared), Box::new(engine)));
        }
        self.number = number;
        self.in_force = shared;
        FromGateway::Active { number }
    }

    fn give_up(&self, candidate: &Candidate, code: &'static Code) -> FromGateway {
        let Candidate { number, digest, asker, .. } = candidate;
        // What was not durable in time may still become so: then this comes after it.
        self.note(record::reload(*number, digest, asker, None, Some(code.id)));
        let detail = "the reload could not be recorded".to_owned();
        refusal_of(*number, &Refused { code, detail })
    }

    /// Makes a record through the first worker, as soon as that can be.
    fn note(&self, body: Body) {
        self.order(0, Order::Note(Box::new(body)));
    }

    fn status(&self) -> Status {
        let sum = |read: fn(&Counters) -> u64| self.workers.iter().map(|w| read(&w.counters)).sum();
        Status {
            generation: self.number,
            connections: sum(|c| c.connections.get()),
            calls: sum(|c| c.calls.get()),
            refused: sum(|c| c.refused.get()),
            withheld: sum(|c| c.withheld.get()),
            records: sum(|c| c.records.get()),
            turned_away: sum(|c| c.turned_away.get()),
            cut: sum(|c| c.cut.get()),
            spared_bytes: sum(|c| c.spared_bytes.get()),
            stalled: {
                let now_ms = self.in_force.registry.now_ms();
                let turned = |w: &&Handle| w.counters.turned_ms.load(Ordering::Relaxed);
                let still = |w: &&Handle| now_ms.saturating_sub(turned(w)) > STALLED_MS;
                u64::try_from(self.workers.iter().filter(still).count()).unwrap_or(u64::MAX)
            },
            pressure: {
                let pressure = |w: &Handle| w.counters.pressure.load(Ordering::Relaxed);
                self.workers.iter().map(pressure).max().unwrap_or(0)
            },
            has_expired: {
                let now_s = i64::try_from(System::new().wall_ns() / 1_000_000_000);
                let now_s = now_s.unwrap_or(i64::MAX);
                self.in_force.listeners.iter().any(|listener| listener.not_after_s < now_s)
            },
            inputs_lost: self.writer.as_ref().map_or(0, |writer| writer.inputs.lost()),
            linked: self.workers.iter().all(|w| w.counters.linked.load(Ordering::Relaxed) == 1),
        }
    }
}

fn compile(
    bytes: &[u8],
    number: u64,
    workers: usize,
    kept: &Kept,
) -> Result<(Arc<Generation>, Vec<Engine>), Refused> {
    let hot: Hot = postcard::from_bytes(bytes)
        .map_err(|e| Refused { code: &SYNTAX, detail: e.to_string() })?;
    let now_s = System::new().wall_ns() / 1_000_000_000;
    let (generation, engines) = Generation::compile_with(hot, number, workers, now_s, kept)?;
    Ok((Arc::new(generation), engines))
}

fn refusal_of(number: u64, refused: &Refused) -> FromGateway {
    let (code, detail) = (refused.code.id.to_owned(), refused.detail.clone());
    FromGateway::Refused { number, code, detail }
}

fn blob(descriptors: &[OwnedFd]) -> Result<Zeroizing<Vec<u8>>, Error> {
    use std::os::fd::AsFd;
    let file = descriptors.first().ok_or_else(|| Error::Control("no blob".to_owned()))?;
    control::read_blob(file.as_fd(), GENERATION_BYTES_MAX).map_err(Error::Io)
}

fn receive(control: &Channel) -> Result<Option<(ToGateway, Vec<OwnedFd>)>, Error> {
    let Some((bytes, descriptors)) = control.recv()? else { return Ok(None) };
    let message = serde_json::from_slice(&bytes).map_err(|e| Error::Control(e.to_string()))?;
    Ok(Some((message, descriptors)))
}

fn send(control: &Channel, message: &FromGateway) -> Result<(), Error> {
    let bytes = serde_json::to_vec(message).map_err(|e| Error::Control(e.to_string()))?;
    Ok(control.send(&bytes, &[])?)
}
