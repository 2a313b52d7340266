//! One worker: a thread with its own runtime, sockets, policy engine, pools and link to the
//! auditor. Workers share nothing that is written to on the request path.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use moat_audit::record::Body;
use moat_audit::recorder::Recorder;
use moat_model::clock::{Clock, System};
use moat_model::code::audit::{COMMIT_DEADLINE, PASSING};
use moat_model::{Refusal, Stage};
use moat_net::admission::Admission;
use moat_net::chance::Chance;
use moat_net::date::Dates;
use moat_net::service::Service;
use moat_policy::Engine;
use moat_policy::risk::Memory;
use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio::task::LocalSet;

use crate::accept;
use crate::body::OutBody;
use crate::doors::{self, Doors};
use crate::enforce::{Known, local};
use crate::figures::{Figures, Named};
use crate::generation::Generation;
use crate::inputs::Inputs;
use crate::iso8583::Links;
use crate::live::{self, Live};
use crate::pipeline;
use crate::record;
use crate::sights::Sights;
use crate::standing::Standing;
use crate::step_up::Keys;
use crate::streams::Streams;
use crate::table::Entry;
use crate::tokens::Verified;
use crate::window::{Windows, Words};

/// How long open connections may take to end once the role drains.
const DRAIN: Duration = Duration::from_secs(30);
/// How long the last summaries and records of the gateway's own may take after that.
const LAST: Duration = Duration::from_secs(3);
/// How long a worker rests when `accept` fails, for want of descriptors say.
pub(crate) const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Most records of cut connections that are made at once.
const CUTS_MAX: usize = 256;
/// Most records of the gateway's own that wait to be made.
const NOTES_MAX: usize = 64;
/// How long one try to make such a record may take. Long: another try is another record.
const NOTE: Duration = Duration::from_secs(3_600);
/// Pause before another try.
const NOTE_PAUSE: Duration = Duration::from_millis(250);

/// How long the records under way may take before another auditor takes the place of this one.
const HOLD: Duration = Duration::from_secs(1);

/// How often a worker publishes whether its link is up.
const LINK_LOOK: Duration = Duration::from_millis(20);

/// What the control thread tells a worker.
pub(crate) enum Order {
    /// Take this generation from now on.
    Generation(Arc<Generation>, Box<Engine>),
    /// Take this link to the auditor.
    Link(std::os::unix::net::UnixStream),
    /// Make this record, which no call stands behind, and say how that went.
    Record(Box<Body>, SyncSender<Result<(), Refusal>>),
    /// Make this record, which nobody waits for, as soon as that can be.
    Note(Box<Body>),
    /// Let records wait for the next link, and say when none is under way on this one.
    Hold(SyncSender<()>),
    /// Accept nothing more and finish.
    Drain,
}

/// A counter that one worker adds to and the control thread reads.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.add_many(1);
    }

    pub(crate) fn add_many(&self, many: u64) {
        self.0.fetch_add(many, Ordering::Relaxed);
    }

    fn sub(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a worker counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections: Counter,
    pub(crate) calls: Counter,
    pub(crate) refused: Counter,
    pub(crate) withheld: Counter,
    pub(crate) records: Counter,
    pub(crate) turned_away: Counter,
    pub(crate) cut: Counter,
    pub(crate) spared_bytes: Counter,
    /// 1 while the link to the auditor is up.
    pub(crate) linked: AtomicU64,
    /// When it turned its loop last, in milliseconds of the registry's clock.
    pub(crate) turned_ms: AtomicU64,
    pub(crate) pressure: AtomicU64,
    pub(crate) named: Named,
}

impl Counters {
    /// Counts a refusal.
    pub(crate) fn refuse(&self, refusal: &Refusal) {
        self.refused.add();
        self.named.refuse(refusal);
    }
}

/// One generation as one worker uses it.
pub(crate) struct WorkerGeneration {
    pub(crate) shared: Arc<Generation>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) engine: RefCell<Engine>,
    pub(crate) tokens: Verified,
    /// Callers that others passed on.
    pub(crate) passed_on: Known,
    /// Digest of the policy bundle.
    pub(crate) policy: Arc<str>,
    /// Each service and its authority, in the order of the configuration.
    pub(crate) services: Vec<(Rc<Service<OutBody>>, Arc<str>)>,
    /// What is counted of each route, in the order of the configuration.
    pub(crate) figures: Vec<Arc<Figures>>,
    /// Links of messages, in the order of the services.
    pub(crate) links: Links,
}

impl WorkerGeneration {
    fn new(shared: Arc<Generation>, engine: Engine, counters: &Counters) -> WorkerGeneration {
        let figures = shared.rules.iter().map(|rules| counters.named.route(rules.name())).collect();
        let services = shared
            .upstreams
            .iter()
            .map(|u| {
                let service = Service::new(Arc::clone(&u.cluster), u.terms.clone());
                (Rc::new(service), u.authority.as_str().into())
            })
            .collect();
        let policy = Arc::clone(engine.digest());
        let entries = shared.entries();
        let (engine, tokens) = (RefCell::new(engine), Verified::default());
        let passed_on = Known::default();
        let links = Links::new(&shared);
        WorkerGeneration {
            shared,
            entries,
            engine,
            tokens,
            passed_on,
            policy,
            services,
            figures,
            links,
        }
    }
}

/// See the module.
pub(crate) struct Worker {
    pub(crate) clock: System,
    pub(crate) recorder: Recorder,
    pub(crate) counters: Arc<Counters>,
    /// What is refused while the worker is overrun.
    pub(crate) admission: RefCell<Admission>,
    pub(crate) chance: Chance,
    pub(crate) dates: Dates,
    /// A record that was made, for the memory of its texts.
    pub(crate) spare: Cell<Option<Box<Body>>>,
    /// Shared by all workers.
    pub(crate) doors: Arc<Doors>,
    /// Its open connections.
    pub(crate) live: Rc<Live>,
    /// Places for records of cut connections that are being made.
    pub(crate) cuts: Semaphore,
    /// Shared by all workers.
    /// What is remembered of callers, by all workers; nothing where risk is not configured.
    pub(crate) risk: Option<Arc<Memory>>,
    /// Where inputs of decisions are kept, if they are.
    pub(crate) inputs: Option<Arc<Inputs>>,
    /// Its calls whose bodies stream.
    pub(crate) streams: Streams,
    pub(crate) standing: Arc<Standing>,
    /// Makes and takes the nonces of challenges.
    pub(crate) nonces: RefCell<Keys>,
    /// Where its calls' time goes, for the kernel role.
    pub(crate) windows: Windows,
    /// Shared by all workers.
    pub(crate) sights: Arc<Sights>,
    /// Protections of the kernel that are not in force, for every record.
    pub(crate) unguarded: Arc<str>,
    generation: RefCell<Rc<WorkerGeneration>>,
    open: OpenConnections,
    draining: watch::Receiver<bool>,
    work: Rc<Cell<usize>>,
    /// One record of the gateway's own after the other: a later one tells what holds.
    own: Mutex<()>,
    /// How many of them nobody waits for.
    notes: Cell<usize>,
    has_ended: Cell<bool>,
}

/// Says that the worker has ended, however it did.
struct Ended(Rc<Worker>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.has_ended.set(true);
    }
}

/// Counts one call or closing record that must be finished before the role ends, whether or not
/// its connection still lives.
pub(crate) struct Work(Rc<Cell<usize>>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Open connections of each listener, over all workers: the kernel does not spread connections
/// evenly, so a share for each worker would turn callers away too early.
pub(crate) type OpenConnections = Arc<[AtomicUsize]>;

/// Counts one connection for as long as it lives.
pub(crate) struct Counted {
    open: OpenConnections,
    listener: usize,
    counters: Arc<Counters>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(open) = self.open.get(self.listener) {
            open.fetch_sub(1, Ordering::Relaxed);
        }
        self.counters.connections.sub();
    }
}

impl Worker {
    /// The generation that new calls use.
    pub(crate) fn generation(&self) -> Rc<WorkerGeneration> {
        Rc::clone(&self.generation.borrow())
    }

    /// Begins a piece of work that a drain waits for.
    pub(crate) fn work(&self) -> Work {
        self.work.set(self.work.get() + 1);
        Work(Rc::clone(&self.work))
    }

    /// Whether tasks can no longer be begun.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.get()
    }

    /// Whether the role drains.
    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Resolves when the role drains.
    pub(crate) fn draining(&self) -> impl Future<Output = ()> + use<> {
        let mut draining = self.draining.clone();
        async move {
            // The sender lives as long as the worker.
            if draining.wait_for(|draining| *draining).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Takes one of the listener's places.
    pub(crate) fn count_connection(&self, listener: usize) -> Option<Counted> {
        let generation = self.generation();
        let most = generation.shared.listeners.get(listener)?.connections_max;
        let open = self.open.get(listener)?;
        if open.fetch_add(1, Ordering::Relaxed) >= most {
            open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.counters.connections.add();
        let (open, counters) = (Arc::clone(&self.open), Arc::clone(&self.counters));
        Some(Counted { open, listener, counters })
    }
}

/// Everything a worker starts with.
pub(crate) struct Start {
    pub(crate) sockets: Vec<OwnedFd>,
    pub(crate) generation: Arc<Generation>,
    pub(crate) engine: Box<Engine>,
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) open: OpenConnections,
    pub(crate) doors: Arc<Doors>,
    pub(crate) standing: Arc<Standing>,
    pub(crate) risk: Option<Arc<Memory>>,
    pub(crate) inputs: Option<Arc<Inputs>>,
    pub(crate) sights: Arc<Sights>,
    pub(crate) unguarded: Arc<str>,
    /// Nothing where nobody reads them.
    pub(crate) words: Option<Words>,
}

/// Runs a worker on this thread until it has drained.
///
/// # Errors
/// The runtime or a socket cannot be set up.
pub(crate) fn run(start: Start) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, serve(start))
}

async fn serve(start: Start) -> std::io::Result<()> {
    let Start { sockets, generation, engine, mut orders, counters, open, doors, .. } = start;
    let first = WorkerGeneration::new(generation, *engine, &counters);
    let (drain, draining) = watch::channel(false);
    let clock = System::new();
    let nonces = Keys::new(clock.mono_ns() / 1_000_000)
        .map_err(|_| std::io::Error::other("no randomness for challenges"))?;
    let worker = Rc::new(Worker {
        clock,
        recorder: Recorder::new(),
        admission: RefCell::default(),
        chance: Chance::default(),
        dates: Dates::default(),
        spare: Cell::default(),
        counters,
        generation: RefCell::new(Rc::new(first)),
        doors,
        live: Rc::default(),
        streams: Streams::default(),
        risk: start.risk,
        inputs: start.inputs,
        cuts: Semaphore::new(CUTS_MAX),
        standing: start.standing,
        nonces: RefCell::new(nonces),
        windows: Windows::new(start.words),
        sights: start.sights,
        unguarded: start.unguarded,
        open,
        draining,
        work: Rc::default(),
        own: Mutex::new(()),
        notes: Cell::new(0),
        has_ended: Cell::new(false),
    });
    let _ended = Ended(Rc::clone(&worker));
    worker.generation().links.start(&worker);
    for (listener, socket) in sockets.into_iter().enumerate() {
        if worker.generation().shared.is_local(listener) {
            let socket = tokio::net::UnixListener::from_std(socket.into())?;
            drop(tokio::task::spawn_local(local::listen(Rc::clone(&worker), listener, socket)));
        } else {
            let socket = tokio::net::TcpListener::from_std(socket.into())?;
            drop(tokio::task::spawn_local(listen(Rc::clone(&worker), listener, socket)));
        }
    }
    drop(tokio::task::spawn_local(watch_link(Rc::clone(&worker))));
    drop(tokio::task::spawn_local(doors::sum_up(Rc::clone(&worker))));
    drop(tokio::task::spawn_local(live::watch(Rc::clone(&worker))));
    while let Some(order) = orders.recv().await {
        match order {
            Order::Generation(shared, engine) => {
                let fresh = Rc::new(WorkerGeneration::new(shared, *engine, &worker.counters));
                fresh.links.start(&worker);
                *worker.generation.borrow_mut() = fresh;
                worker.live.has_changed();
            }
            Order::Link(stream) => {
                stream.set_nonblocking(true)?;
                worker.recorder.attach(tokio::net::UnixStream::from_std(stream)?);
            }
            Order::Record(body, done) => {
                let worker = Rc::clone(&worker);
                drop(tokio::task::spawn_local(async move {
                    // Whoever asked may have given up.
                    let _ = done.send(record_own(&worker, &body).await);
                }));
            }
            Order::Note(body) => note(&worker, *body),
            Order::Hold(done) => {
                let worker = Rc::clone(&worker);
                drop(tokio::task::spawn_local(async move {
                    if !worker.recorder.hold(HOLD).await {
                        tracing::warn!("records are under way to an auditor that is about to end");
                    }
                    let _ = done.send(());
                }));
            }
            Order::Drain => break,
        }
    }
    let _ = drain.send(true);
    worker.live.retire();
    let emptied = async {
        while worker.counters.connections.get() > 0 || worker.work.get() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(DRAIN, emptied).await;
    let last = async {
        doors::sum_up_now(&worker, true).await;
        while worker.notes.get() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(LAST, last).await;
    Ok(())
}

/// Accepts connections on one socket until the role drains.
async fn listen(worker: Rc<Worker>, listener: usize, socket: tokio::net::TcpListener) {
    let draining = worker.draining();
    tokio::pin!(draining);
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = &mut draining => return,
        };
        match accepted {
            Ok((stream, remote)) => {
                let Some(accepted) = accept::accept(&worker, listener, stream, remote) else {
                    continue;
                };
                let connection = pipeline::connection(Rc::clone(&worker), accepted);
                drop(tokio::task::spawn_local(connection));
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

/// Tries once to make a record of the gateway's own, behind those that were asked for before.
async fn record_own(worker: &Worker, body: &Body) -> Result<(), Refusal> {
    let deadline = worker.generation().shared.audit_deadline;
    let late = |_| Refusal::new(Stage::Record, &COMMIT_DEADLINE);
    let _turn = tokio::time::timeout(deadline, worker.own.lock()).await.map_err(late)?;
    record::own(worker, body, deadline).await
}

/// Makes a record that nobody waits for, and tries until it is made. What a lost link leaves in
/// doubt may stand there twice; never not at all.
pub(crate) fn note(worker: &Rc<Worker>, body: Body) {
    if worker.notes.get() >= NOTES_MAX {
        tracing::error!(note = body.note, "a record of the gateway's own has no place to wait");
        return;
    }
    worker.notes.set(worker.notes.get() + 1);
    let worker = Rc::clone(worker);
    drop(tokio::task::spawn_local(async move {
        let _turn = worker.own.lock().await;
        while let Err(unrecorded) = record::own(&worker, &body, NOTE).await {
            tracing::error!(%unrecorded, "a record of the gateway's own was not made");
            if !PASSING.contains(&unrecorded.code) {
                break;
            }
            tokio::time::sleep(NOTE_PAUSE).await;
        }
        worker.notes.set(worker.notes.get() - 1);
    }));
}

/// Publishes whether the link is up, for readiness, and watches how late the worker comes to it.
async fn watch_link(worker: Rc<Worker>) {
    loop {
        let is_up = worker.recorder.is_up();
        worker.counters.linked.store(u64::from(is_up), Ordering::Relaxed);
        let due = tokio::time::Instant::now() + LINK_LOOK;
        tokio::time::sleep_until(due).await;
        let shared = &worker.generation().shared;
        worker.counters.turned_ms.store(shared.registry.now_ms(), Ordering::Relaxed);
        let target_ms = shared.overload_lag_ms;
        if target_ms > 0 {
            let lag_ms = u64::try_from(due.elapsed().as_millis()).unwrap_or(u64::MAX);
            let now_ms = shared.registry.now_ms();
            let mut admission = worker.admission.borrow_mut();
            admission.lag(now_ms, lag_ms, target_ms);
            worker.counters.pressure.store(admission.pressure().into(), Ordering::Relaxed);
        }
    }
}
