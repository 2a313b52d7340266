//! The role's control thread: takes sockets, links and generations from the supervisor, and hands
//! them to the workers.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use moat_audit::record::Body;
use moat_config::Hot;
use moat_model::code::audit::AUDITOR_AWAY;
use moat_model::code::config::SYNTAX;
use moat_model::{Refusal, Stage};
use moat_net::control::{self, Channel};
use moat_policy::Engine;
use tokio::sync::mpsc;

use crate::doors::Doors;
use crate::generation::{Generation, Refused};
use crate::messages::{FromGateway, Status, ToGateway};
use crate::record;
use crate::worker::{self, Counters, OpenConnections, Order};

/// Largest generation, in bytes.
const GENERATION_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Longest wait for the record of a reload; the commit itself has `audit.deadline_ms`.
const RECORD: Duration = Duration::from_secs(31);
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
    sockets: BTreeMap<usize, Vec<TcpListener>>,
    links: Vec<(usize, UnixStream)>,
    generation: Option<(u64, String, Vec<u8>)>,
}

/// Takes what the supervisor sends before `Begin`. Nothing of it comes from a caller.
///
/// # Errors
/// [`Error::Control`] if the channel ends or speaks nonsense.
pub fn prepare(control: Channel) -> Result<Prepared, Error> {
    let (sockets, links) = (BTreeMap::new(), Vec::new());
    let mut prepared = Prepared { control, sockets, links, generation: None };
    loop {
        let Some((message, descriptors)) = receive(&prepared.control)? else {
            return Err(Error::Control("it ended before the start".to_owned()));
        };
        match message {
            ToGateway::Sockets { worker } => {
                let sockets = descriptors.into_iter().map(TcpListener::from).collect();
                prepared.sockets.insert(worker, sockets);
            }
            ToGateway::Link { worker } => {
                for descriptor in descriptors {
                    prepared.links.push((worker, descriptor.into()));
                }
            }
            ToGateway::Generation { number, digest, .. } => {
                prepared.generation = Some((number, digest, blob(&descriptors)?));
            }
            ToGateway::Begin {} => return Ok(prepared),
            ToGateway::Stop {} => return Err(Error::Control("stopped before start".to_owned())),
            ToGateway::Status {} | ToGateway::Unreadable { .. } => {}
        }
    }
}

/// Runs the role until the supervisor stops it or goes away.
///
/// # Errors
/// [`Error`]: the first generation does not work, or threads cannot be set up.
pub fn run(prepared: Prepared) -> Result<(), Error> {
    let Prepared { control, sockets, links, generation } = prepared;
    let (number, digest, bytes) =
        generation.ok_or_else(|| Error::Control("no generation".to_owned()))?;
    let workers = sockets.len();
    let (shared, engines) = match compile(&bytes, number, workers) {
        Ok(compiled) => compiled,
        Err(refused) => {
            let report = refusal_of(number, &refused);
            send(&control, &report)?;
            return Err(Error::Refused(refused));
        }
    };
    drop(bytes);
    let mut role = Role { control, workers: Vec::new(), number };
    let open: OpenConnections = shared.listeners.iter().map(|_| AtomicUsize::new(0)).collect();
    let doors = Doors::new(Instant::now());
    for (sockets, engine) in sockets.into_values().zip(engines) {
        let (open, doors) = (Arc::clone(&open), Arc::clone(&doors));
        role.start(sockets, Arc::clone(&shared), engine, open, doors)?;
    }
    for (worker, link) in links {
        role.order(worker, Order::Link(link));
    }
    // Nobody waits for it: a gateway that starts must not depend on the auditor's start.
    role.order(0, Order::Record(Box::new(record::start(number, &digest)), None));
    send(&role.control, &FromGateway::Active { number })?;
    send(&role.control, &FromGateway::Ready {})?;
    role.serve()
}

struct Role {
    control: Channel,
    workers: Vec<Handle>,
    number: u64,
}

struct Handle {
    orders: mpsc::Sender<Order>,
    counters: Arc<Counters>,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Role {
    fn start(
        &mut self,
        sockets: Vec<TcpListener>,
        generation: Arc<Generation>,
        engine: Engine,
        open: OpenConnections,
        doors: Arc<Doors>,
    ) -> Result<(), Error> {
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
        };
        let name = format!("worker-{}", self.workers.len());
        let thread = std::thread::Builder::new().name(name).spawn(move || worker::run(start))?;
        self.workers.push(Handle { orders, counters, thread });
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
                    let answer = self.take(number, &digest, &asker, &blob(&descriptors)?);
                    send(&self.control, &answer)?;
                }
                ToGateway::Unreadable { number, code, asker } => {
                    let record = record::reload(number, "", &asker, Some(&code));
                    // The worker says so if it cannot be made.
                    let _ = self.record(record);
                }
                ToGateway::Status {} => {
                    send(&self.control, &FromGateway::Status(self.status()))?;
                }
                ToGateway::Stop {} => break,
                ToGateway::Sockets { .. } | ToGateway::Begin {} => {}
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
        Ok(())
    }

    /// Takes a new generation in every worker, or in none.
    ///
    /// The record stands before the generation is in force. Without a record nothing changes.
    fn take(&mut self, number: u64, digest: &str, asker: &str, bytes: &[u8]) -> FromGateway {
        match compile(bytes, number, self.workers.len()) {
            Err(refused) => {
                let record = record::reload(number, digest, asker, Some(refused.code.id));
                let _ = self.record(record);
                refusal_of(number, &refused)
            }
            Ok((shared, engines)) => {
                if let Err(unrecorded) = self.record(record::reload(number, digest, asker, None)) {
                    // What was not durable in time may still become so: then this comes after it.
                    let code = unrecorded.code;
                    let record = record::reload(number, digest, asker, Some(code.id));
                    let _ = self.record(record);
                    let detail = "the reload could not be recorded".to_owned();
                    return refusal_of(number, &Refused { code, detail });
                }
                for (worker, engine) in engines.into_iter().enumerate() {
                    let order = Order::Generation(Arc::clone(&shared), Box::new(engine));
                    self.order(worker, order);
                }
                self.number = number;
                FromGateway::Active { number }
            }
        }
    }

    /// Makes a record through the first worker, and waits for it.
    fn record(&self, body: Body) -> Result<(), Refusal> {
        let away = || Refusal::new(Stage::Record, &AUDITOR_AWAY);
        let (sender, done) = std::sync::mpsc::sync_channel(1);
        self.order(0, Order::Record(Box::new(body), Some(sender)));
        done.recv_timeout(RECORD).unwrap_or_else(|_| Err(away()))
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
            linked: self.workers.iter().all(|w| w.counters.linked.load(Ordering::Relaxed) == 1),
        }
    }
}

fn compile(
    bytes: &[u8],
    number: u64,
    workers: usize,
) -> Result<(Arc<Generation>, Vec<Engine>), Refused> {
    let hot: Hot = postcard::from_bytes(bytes)
        .map_err(|e| Refused { code: &SYNTAX, detail: e.to_string() })?;
    let (generation, engines) = Generation::compile(hot, number, workers)?;
    Ok((Arc::new(generation), engines))
}

fn refusal_of(number: u64, refused: &Refused) -> FromGateway {
    let (code, detail) = (refused.code.id.to_owned(), refused.detail.clone());
    FromGateway::Refused { number, code, detail }
}

fn blob(descriptors: &[OwnedFd]) -> Result<Vec<u8>, Error> {
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
