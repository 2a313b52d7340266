//! A link to a service that speaks ISO 8583: one connection of a worker over mutual TLS, on which
//! many messages wait for their answers in any order. It is made when its generation begins, signs
//! on, is asked whether it is there when it is silent, and is made again when it breaks.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moat_message::session::{Full, Key, Waiting};
use moat_message::{Check, Index, iso8583};
use moat_model::clock::Clock;
use moat_model::code::message::{NOT_ASKED, UNMATCHED, WINDOW};
use moat_model::code::{message as codes, upstream};
use moat_model::{Code, Refusal, Stage};
use moat_net::cluster::Cluster;
use moat_tls::{Attempt, Client, Negotiated, upstream_code_of};
use rustls_pki_types::ServerName;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use super::answer;
use super::network::{self, Function};
use super::record::Intended;
use super::rules::Dialect;
use super::wire::{NoMessage, Reading, framed, put};
use crate::call::Call;
use crate::generation::Generation;
use crate::record;
use crate::worker::{self, Worker};

/// Pause before a link is made again; doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Most often that answers without a request are recorded; those between are counted.
const UNMATCHED_EVERY: Duration = Duration::from_secs(1);
/// Longest wait between two looks whether a silent link is still wanted.
const LOOK: Duration = Duration::from_secs(3_600);

type Tls = TlsStream<TcpStream>;
type Message = Zeroizing<Vec<u8>>;

/// The links of one worker in one generation, in the order of the services.
pub(crate) struct Links(Vec<Option<Rc<Link>>>);

impl Links {
    pub(crate) fn new(generation: &Generation) -> Links {
        let link = |upstream: &crate::upstream::Upstream| {
            let dialect = upstream.messages.as_ref()?;
            Some(Rc::new(Link {
                name: upstream.name.clone(),
                generation: generation.number,
                dialect: Arc::clone(dialect),
                cluster: Arc::clone(&upstream.cluster),
                tls: upstream.terms.tls.clone(),
                connect: upstream.terms.connect,
                up: RefCell::default(),
                changed: Notify::new(),
                waiting: RefCell::new(Waiting::new(dialect.in_flight_max)),
                trace: Cell::new(1),
                is_over: Cell::new(false),
                ended: Notify::new(),
                unmatched: Cell::new((0, None)),
                reversals: Cell::new(0),
            }))
        };
        Links(generation.upstreams.iter().map(link).collect())
    }

    /// Begins to make them.
    pub(crate) fn start(&self, worker: &Rc<Worker>) {
        for link in self.0.iter().flatten() {
            let (link, worker) = (Rc::clone(link), Rc::clone(worker));
            drop(tokio::task::spawn_local(async move { link.run(worker).await }));
        }
    }

    pub(crate) fn get(&self, upstream: usize) -> Option<&Rc<Link>> {
        self.0.get(upstream)?.as_ref()
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        // The last call of their generation has ended.
        for link in self.0.iter().flatten() {
            link.is_over.set(true);
            link.ended.notify_one();
        }
    }
}

/// See the module.
pub(crate) struct Link {
    pub(super) name: String,
    generation: u64,
    pub(super) dialect: Arc<Dialect>,
    cluster: Arc<Cluster>,
    tls: Client,
    connect: Duration,
    up: RefCell<Option<Up>>,
    changed: Notify,
    waiting: RefCell<Waiting<oneshot::Sender<Message>>>,
    /// Trace number of the next network message of ours.
    trace: Cell<u32>,
    is_over: Cell<bool>,
    ended: Notify,
    /// Answers without a request since the last record of them, and when that was made.
    unmatched: Cell<(u64, Option<Instant>)>,
    /// Reversals that are sent again until they are answered.
    pub(super) reversals: Cell<usize>,
}

/// A link that takes messages.
#[derive(Clone)]
struct Up {
    queue: mpsc::Sender<Message>,
    negotiated: Negotiated,
}

/// That a message may go on: only what was permitted and, where it can change something, recorded
/// has one.
pub(crate) struct Passed<'a>(PhantomData<&'a ()>);

impl<'a> Passed<'a> {
    /// Of a message that came as one.
    pub(super) fn message(_: &'a Intended) -> Passed<'a> {
        Passed(PhantomData)
    }

    /// Of a message that came as a call over HTTP.
    pub(super) fn call(_: &'a record::Intended) -> Passed<'a> {
        Passed(PhantomData)
    }
}

/// A message that was sent. Dropped, it waits no more.
pub(super) struct Ticket {
    link: Rc<Link>,
    key: Key,
    number: u64,
    answer: oneshot::Receiver<Message>,
}

impl Ticket {
    /// The answer; nothing if the link broke.
    pub(super) async fn answer(&mut self) -> Option<Message> {
        (&mut self.answer).await.ok()
    }

    /// The time is over, and the answer would still be welcome.
    pub(super) fn note_late(&self) {
        self.link.waiting.borrow_mut().note_late(&self.key, self.number);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.link.waiting.borrow_mut().leave(&self.key, self.number);
    }
}

impl Link {
    /// Sends a message that was permitted and whose intent is durable.
    ///
    /// # Errors
    /// A refusal at [`Stage::Forward`]; nothing was sent.
    pub(super) async fn ask(
        self: &Rc<Self>,
        call: &Call,
        _: &Passed<'_>,
        (key, message, is_repeat): (Key, &[u8], bool),
    ) -> Result<Ticket, Refusal> {
        let up = self.wait_until_up(call.deadline()).await?;
        let ticket = self.enqueue(&up, key, message, is_repeat)?;
        call.begin_sending(up.negotiated);
        Ok(ticket)
    }

    fn enqueue(
        self: &Rc<Self>,
        up: &Up,
        key: Key,
        message: &[u8],
        is_repeat: bool,
    ) -> Result<Ticket, Refusal> {
        let no = |code: &'static Code| Refusal::new(Stage::Forward, code);
        let frame = framed(self.dialect.framing, message).map_err(|e| no(e.code()))?;
        let (sender, answer) = oneshot::channel();
        let entered = self.waiting.borrow_mut().enter(key.clone(), is_repeat, sender);
        let number = entered.map_err(|(full, _)| match full {
            Full::Collision => no(&codes::DUPLICATE).because("its key is in flight"),
            Full::Window => no(&WINDOW),
        })?;
        // Leaves the table if anything below fails.
        let ticket = Ticket { link: Rc::clone(self), key, number, answer };
        up.queue.try_send(frame).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => no(&WINDOW),
            mpsc::error::TrySendError::Closed(_) => no(&upstream::CONNECT),
        })?;
        Ok(ticket)
    }

    /// The same for what is sent again after its time is over.
    ///
    /// # Errors
    /// As [`Link::ask`].
    pub(super) async fn ask_late(
        self: &Rc<Self>,
        _: &Passed<'_>,
        (key, message, is_repeat): (Key, &[u8], bool),
    ) -> Result<Ticket, Refusal> {
        let up = self.wait_until_up(Instant::now() + self.connect).await?;
        self.enqueue(&up, key, message, is_repeat)
    }

    /// A link that is being made is waited for as long as making one may take.
    async fn wait_until_up(&self, deadline: Instant) -> Result<Up, Refusal> {
        let until = deadline.min(Instant::now() + self.connect);
        let up = async {
            loop {
                let changed = self.changed.notified();
                if let Some(up) = self.up.borrow().clone() {
                    return up;
                }
                changed.await;
            }
        };
        tokio::time::timeout_at(until.into(), up)
            .await
            .map_err(|_| Refusal::new(Stage::Forward, &upstream::CONNECT).because("no link"))
    }

    /// Keeps the link up until its generation is over.
    async fn run(self: Rc<Self>, worker: Rc<Worker>) {
        let (mut pause, mut turn, mut was_told) = (PAUSE, 0_usize, false);
        while !self.is_over.get() && !worker.is_draining() {
            let members = self.cluster.members();
            let count = members.list().len().max(1);
            let address = members.list().get(turn % count).map(|m| m.endpoint.address());
            turn = turn.wrapping_add(1);
            let made = match address {
                Some(address) => self.make(&worker, address).await,
                None => Err(Refusal::new(Stage::Forward, &upstream::NO_ENDPOINT)),
            };
            match made {
                Ok(talk) => {
                    let Some(address) = address else { continue };
                    self.tell(&worker, address, "up");
                    (pause, was_told) = (PAUSE, true);
                    self.talk(&worker, talk).await;
                    self.take_down();
                    if !self.is_over.get() {
                        self.tell(&worker, address, "down");
                    }
                }
                Err(refusal) => {
                    tracing::warn!(upstream = self.name, %refusal, "a link was not made");
                    if !was_told && let Some(address) = address {
                        was_told = true;
                        self.tell(&worker, address, &format!("not made: {}", refusal.code.id));
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.ended.notified() => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
        self.take_down();
    }

    fn tell(&self, worker: &Rc<Worker>, address: SocketAddr, what: &str) {
        let (number, name) = (self.generation, &self.name);
        let body = record::link(number, name, &format!("link {address} of {name}: {what}"));
        worker::note(worker, body);
    }

    fn take_down(&self) {
        *self.up.borrow_mut() = None;
        // Whoever waits learns that nothing is known.
        self.waiting.borrow_mut().clear();
    }

    /// TCP, TLS and sign-on.
    async fn make(&self, worker: &Worker, address: SocketAddr) -> Result<Talk, Refusal> {
        let late = |_| Refusal::new(Stage::Forward, &upstream::CONNECT).because("timed out");
        let making = async {
            let (tls, negotiated) = self.secured(address).await?;
            let (read, write) = tokio::io::split(tls);
            let reading = Reading::new(read, self.dialect.framing, self.dialect.message);
            let mut talk = Talk { reading, write, negotiated };
            if self.dialect.sign_on {
                self.sign_on(worker, &mut talk).await?;
            }
            Ok(talk)
        };
        tokio::time::timeout(self.connect, making).await.map_err(late)?
    }

    async fn secured(&self, address: SocketAddr) -> Result<(Tls, Negotiated), Refusal> {
        let no = |code| Refusal::new(Stage::Forward, code);
        let attempt = self.tls.attempt();
        let tls = shake(address, &attempt).await?;
        let refused = match attempt.finish(tls.get_ref().1) {
            Ok(negotiated) => return Ok((tls, negotiated)),
            Err(code) => no(code),
        };
        let again = attempt.again(tls.get_ref().1).ok_or(refused)?;
        drop(tls);
        let tls = shake(address, &again).await?;
        let negotiated = again.finish(tls.get_ref().1).map_err(no)?;
        Ok((tls, negotiated))
    }

    /// Signs on, and reads what comes until that is answered.
    async fn sign_on(&self, worker: &Worker, talk: &mut Talk) -> Result<(), Refusal> {
        let no = |why: &str| Refusal::new(Stage::Forward, &upstream::CONNECT).because(why);
        let (key, message) =
            self.own_message(worker, Function::SignOn).ok_or_else(|| no("no sign-on"))?;
        let frame = framed(self.dialect.framing, &message).map_err(|_| no("no sign-on"))?;
        if !put(&mut talk.write, &frame, self.dialect.unread).await {
            return Err(no("the sign-on was not taken"));
        }
        loop {
            let message = talk.reading.next(LOOK).await.map_err(|_| no("no answer to sign-on"))?;
            let mut index = Index::new();
            let read = iso8583::decode(&self.dialect.spec, Check::Strict, &message, &mut index);
            let Ok(mut view) = read else { continue };
            if !view.mti().function().is_answer()
                || Key::of(&mut view, &self.dialect.match_on) != key
            {
                continue;
            }
            let code = super::lately::text_of(&mut view, super::rules::RESPONSE_CODE);
            return match self.dialect.said(&code.unwrap_or_default()) {
                super::rules::Said::Done => Ok(()),
                _ => Err(no("the sign-on was declined")),
            };
        }
    }

    /// A network message of ours and its key.
    fn own_message(&self, worker: &Worker, function: Function) -> Option<(Key, Message)> {
        let trace = self.trace.replace(self.trace.get().wrapping_add(1));
        let wall_s = worker.clock.wall_ns() / 1_000_000_000;
        let message = network::ask(&self.dialect, function, trace, wall_s)?;
        let mut index = Index::new();
        let read = iso8583::decode(&self.dialect.spec, Check::Lazy, &message, &mut index);
        let key = Key::of(&mut read.ok()?, &self.dialect.match_on);
        Some((key, message))
    }

    /// Reads and writes until the link breaks or is not wanted any more.
    async fn talk(self: &Rc<Self>, worker: &Rc<Worker>, talk: Talk) {
        let Talk { mut reading, write, negotiated } = talk;
        let (queue, queued) = mpsc::channel(self.dialect.in_flight_max);
        let mut writing = tokio::task::spawn_local(write_all(write, queued, self.dialect.unread));
        *self.up.borrow_mut() = Some(Up { queue: queue.clone(), negotiated });
        self.changed.notify_waiters();
        let mut echo: Option<Ticket> = None;
        loop {
            let message = tokio::select! {
                message = reading.next(self.dialect.echo.unwrap_or(LOOK)) => message,
                _ = &mut writing => break,
                () = self.ended.notified() => break,
            };
            match message {
                Ok(message) => {
                    // Whatever comes says that it is there.
                    echo = None;
                    self.heard(worker, &queue, message);
                }
                Err(NoMessage::Idle) if self.dialect.echo.is_none() => {}
                Err(NoMessage::Idle) if echo.is_none() => {
                    echo = self.send_echo(worker, &queue);
                    if echo.is_none() {
                        break;
                    }
                }
                Err(_) => break,
            }
        }
        drop(echo);
        writing.abort();
    }

    fn send_echo(
        self: &Rc<Self>,
        worker: &Worker,
        queue: &mpsc::Sender<Message>,
    ) -> Option<Ticket> {
        let (key, message) = self.own_message(worker, Function::Echo)?;
        let (sender, answer) = oneshot::channel();
        let number = self.waiting.borrow_mut().enter(key.clone(), false, sender).ok()?;
        let ticket = Ticket { link: Rc::clone(self), key, number, answer };
        queue.try_send(framed(self.dialect.framing, &message).ok()?).ok()?;
        Some(ticket)
    }

    /// A message of the service: an answer, or a question about the connection.
    fn heard(&self, worker: &Rc<Worker>, queue: &mpsc::Sender<Message>, message: Message) {
        let mut index = Index::new();
        let read = iso8583::decode(&self.dialect.spec, Check::Strict, &message, &mut index);
        let mut view = match read {
            Ok(view) => view,
            Err(wrong) => return self.tell_unmatched(worker, wrong.code()),
        };
        let mti = view.mti();
        if mti.function().is_answer() {
            let key = Key::of(&mut view, &self.dialect.match_on);
            let waiter = self.waiting.borrow_mut().answered(&key);
            // One that is gone in the same moment is as good as none.
            let told = waiter.map(|waiter| waiter.send(message));
            if !matches!(told, Some(Ok(()))) {
                self.tell_unmatched(worker, &UNMATCHED);
            }
            return;
        }
        if mti.class() != iso8583::MessageClass::Network {
            return self.tell_unmatched(worker, &NOT_ASKED);
        }
        let code = answer::approved(&self.dialect);
        let frame = answer::answer_of(&self.dialect, view, code)
            .and_then(|message| framed(self.dialect.framing, &message).ok());
        if let Some(frame) = frame {
            // A queue that is full has enough to say.
            let _ = queue.try_send(frame);
        }
    }

    /// Records what belongs to nothing, at most once a second; the others are counted with it.
    fn tell_unmatched(&self, worker: &Rc<Worker>, code: &'static Code) {
        let (count, last) = self.unmatched.get();
        let count = count + 1;
        if last.is_some_and(|last| last.elapsed() < UNMATCHED_EVERY) {
            self.unmatched.set((count, last));
            return;
        }
        self.unmatched.set((0, Some(Instant::now())));
        let name = &self.name;
        let mut body = record::link(self.generation, name, &format!("of {name}: dropped {count}"));
        code.id.clone_into(&mut body.code);
        worker::note(worker, body);
    }
}

/// A link that was made and says nothing yet.
struct Talk {
    reading: Reading<ReadHalf<Tls>>,
    write: WriteHalf<Tls>,
    negotiated: Negotiated,
}

async fn shake(address: SocketAddr, attempt: &Attempt) -> Result<Tls, Refusal> {
    let no = |code, why: &dyn core::fmt::Display| Refusal::new(Stage::Forward, code).because(why);
    let tcp = TcpStream::connect(address).await.map_err(|e| no(&upstream::CONNECT, &e))?;
    tcp.set_nodelay(true).map_err(|e| no(&upstream::CONNECT, &e))?;
    let connector = TlsConnector::from(Arc::clone(&attempt.config));
    let name = ServerName::IpAddress(address.ip().into());
    connector.connect(name, tcp).await.map_err(|e| no(upstream_code_of(&e), &e))
}

async fn write_all(
    mut write: WriteHalf<Tls>,
    mut queued: mpsc::Receiver<Message>,
    unread: Duration,
) {
    while let Some(frame) = queued.recv().await {
        if !put(&mut write, &frame, unread).await {
            return;
        }
    }
}
