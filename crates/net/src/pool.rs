//! Connections to one service, kept by one worker.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::Body;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use moat_model::clock::{Clock, System};
use moat_model::code::upstream as codes;
use moat_model::{Code, Refusal, Stage};
use moat_tls::{Attempt, Belief, Chosen, Client, Negotiated, upstream_code_of};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::body::{Error, Incoming};
use crate::chance::Chance;
use crate::http1::client::{Connection, Failed};
use crate::local::LocalExecutor;
use crate::slots::{Slot, Slots, TooMany};

/// Longest life of a connection, so that new certificates and addresses take effect. Each lives up
/// to a tenth shorter, so that those that were opened together are not closed together.
const AGE_MAX: Duration = Duration::from_secs(3600);
/// How often it is looked whether services have closed idle connections.
const LOOK: Duration = Duration::from_secs(1);
/// Most bytes of an answer's head over HTTP/2, and windows, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// Where one endpoint is, and how to reach it.
#[derive(Clone)]
pub struct Settings {
    /// Address.
    pub address: SocketAddr,
    /// Places for connections, shared by all pools to this endpoint in this process.
    pub slots: Arc<Slots>,
    /// What holds for every endpoint of the service.
    pub terms: Terms,
}

/// How to reach a service, and how much of it to keep.
#[derive(Clone)]
pub struct Terms {
    /// TLS with the expected identity; ALPN says which HTTP versions are offered.
    pub tls: Client,
    /// Most idle HTTP/1.1 connections.
    pub idle_max: usize,
    /// Longest idle time.
    pub idle: Duration,
    /// Longest wait for TCP and TLS.
    pub connect: Duration,
}

/// See the module.
pub struct Pool<B> {
    settings: Settings,
    idle: RefCell<VecDeque<Http1<B>>>,
    shared: RefCell<Option<Http2<B>>>,
    /// Whether a task waits to close what is idle for too long.
    is_swept: Cell<bool>,
    /// Calls of this worker that wait for a connection, in the order of arrival.
    waiting: RefCell<VecDeque<oneshot::Sender<Http1<B>>>>,
    chance: Chance,
    clock: System,
}

/// Why a connection's service was believed, and when that must be asked again.
struct Believed {
    belief: Belief,
    /// Seconds since 1970.
    until_s: Cell<i64>,
}

struct Http1<B> {
    connection: Connection<TlsStream<TcpStream>, B>,
    negotiated: Negotiated,
    believed: Rc<Believed>,
    /// When it is too old to be used again.
    ends: Instant,
    idle_since: Instant,
    /// Where it goes back to, unless a reload has replaced that pool meanwhile.
    home: Weak<Pool<B>>,
    _slot: Slot,
}

struct Http2<B> {
    sender: http2::SendRequest<B>,
    negotiated: Negotiated,
    believed: Rc<Believed>,
    /// When it is too old to be used again.
    ends: Instant,
    /// When a request was last given to it.
    used: Instant,
    slot: Rc<Slot>,
}

/// A connection that may carry one request now. Give it back by [`Lease::finish`] once the answer
/// was read to its end; dropped before that, an HTTP/1.1 connection is closed.
pub struct Lease<B>(Kind<B>);

/// What a wait came to.
enum Place<B> {
    New(Slot),
    Kept(Http1<B>),
}

enum Kind<B> {
    One(Http1<B>),
    Two {
        sender: http2::SendRequest<B>,
        negotiated: Negotiated,
        believed: Rc<Believed>,
        _slot: Rc<Slot>,
    },
}

/// Why there is no connection. Nothing was sent.
#[derive(Debug)]
pub struct NoLease {
    /// A refusal at [`Stage::Forward`].
    pub refusal: Refusal,
    /// What the service chose in a handshake that was finished, and refused for it.
    pub chosen: Option<Chosen>,
}

impl NoLease {
    fn after(tls: &TlsStream<TcpStream>, code: &'static Code) -> NoLease {
        let refusal = Refusal::new(Stage::Forward, code);
        NoLease { refusal, chosen: Chosen::of(tls.get_ref().1) }
    }
}

impl From<Refusal> for NoLease {
    fn from(refusal: Refusal) -> NoLease {
        NoLease { refusal, chosen: None }
    }
}

/// A request that failed, and whether any byte of it may have reached the service.
pub struct SendError<B> {
    /// The request, if it was never sent.
    pub unsent: Option<http::Request<B>>,
    /// What went wrong.
    pub error: Error,
}

impl<B> Pool<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn core::error::Error + Send + Sync>>,
{
    /// An empty pool.
    #[must_use]
    pub fn new(settings: Settings) -> Rc<Pool<B>> {
        Rc::new(Pool {
            settings,
            idle: RefCell::new(VecDeque::new()),
            shared: RefCell::new(None),
            is_swept: Cell::new(false),
            waiting: RefCell::default(),
            chance: Chance::default(),
            clock: System::new(),
        })
    }

    /// Where the connections go.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.settings.address
    }

    /// An idle connection, or a new one. Where all places are taken it waits until `until`, in the
    /// order of arrival.
    ///
    /// # Errors
    /// [`NoLease`].
    pub async fn lease(self: &Rc<Self>, until: Instant) -> Result<Lease<B>, NoLease> {
        if let Some(lease) = self.shared_lease() {
            return Ok(lease);
        }
        if let Some(kept) = self.take_idle() {
            return Ok(Lease(Kind::One(kept)));
        }
        let slot = loop {
            if let Some(slot) = self.settings.slots.try_take() {
                break slot;
            }
            // Boxed: waiting and connecting are rare, and their state would make every call's
            // larger. The loop ends with `until`.
            match Box::pin(self.wait(until)).await? {
                Place::New(slot) => break slot,
                Place::Kept(kept) if !self.is_believed(&kept.believed) => {}
                Place::Kept(kept) => {
                    if kept.connection.is_ready() {
                        return Ok(Lease(Kind::One(kept)));
                    }
                }
            }
        };
        let by = until.min(Instant::now() + self.settings.terms.connect);
        tokio::time::timeout_at(by.into(), Box::pin(self.connect(slot)))
            .await
            .unwrap_or_else(|_| Err(no(&codes::CONNECT, "timed out").into()))
    }

    /// Waits for a place for a new connection, or for a connection that this worker gives back.
    async fn wait(&self, until: Instant) -> Result<Place<B>, Refusal> {
        let (sender, kept) = oneshot::channel();
        self.line_up(sender);
        let place = async {
            tokio::select! {
                slot = self.settings.slots.wait() => slot.map(Place::New),
                Ok(kept) = kept => Ok(Place::Kept(kept)),
            }
        };
        match tokio::time::timeout_at(until.into(), place).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(TooMany)) => Err(no(&codes::BUSY, "too many wait")),
            Err(_) => Err(no(&codes::BUSY, "waited in vain")),
        }
    }

    /// Those who gave up are passed over when their turn comes; at the end they are in the way.
    fn line_up(&self, sender: oneshot::Sender<Http1<B>>) {
        let mut waiting = self.waiting.borrow_mut();
        waiting.retain(|other| !other.is_closed());
        waiting.push_back(sender);
    }

    fn next_waiting(&self) -> Option<oneshot::Sender<Http1<B>>> {
        self.waiting.borrow_mut().pop_front()
    }

    fn now_s(&self) -> i64 {
        i64::try_from(self.clock.wall_ns() / 1_000_000_000).unwrap_or(i64::MAX)
    }

    /// Whether the service would be believed now: its certificate may have expired since, its list or
    /// what it stapled grown old. A look at the clock until one of these is due.
    fn is_believed(&self, believed: &Believed) -> bool {
        let now_s = self.now_s();
        if now_s < believed.until_s.get() {
            return true;
        }
        match self.settings.terms.tls.still_believes(&believed.belief, now_s) {
            Ok(until_s) => {
                believed.until_s.set(until_s);
                true
            }
            Err(_) => false,
        }
    }

    /// When a connection that begins now ends.
    fn end_of_life(&self) -> Instant {
        let tenth = u64::try_from(AGE_MAX.as_millis() / 10).unwrap_or(0);
        Instant::now() + AGE_MAX - Duration::from_millis(self.chance.below(tenth))
    }

    fn shared_lease(&self) -> Option<Lease<B>> {
        let mut shared = self.shared.borrow_mut();
        let usable =
            shared.as_ref().is_some_and(|c| !c.sender.is_closed() && Instant::now() < c.ends);
        let usable = usable && shared.as_ref().is_some_and(|c| self.is_believed(&c.believed));
        if !usable {
            *shared = None;
        }
        shared.as_mut().map(|c| {
            c.used = Instant::now();
            let (negotiated, believed) = (c.negotiated, Rc::clone(&c.believed));
            let (sender, slot) = (c.sender.clone(), Rc::clone(&c.slot));
            Lease(Kind::Two { sender, negotiated, believed, _slot: slot })
        })
    }

    /// The connection used last; those idle too long, too old or closed are dropped on the way.
    fn take_idle(&self) -> Option<Http1<B>> {
        let mut idle = self.idle.borrow_mut();
        while idle.front().is_some_and(|kept| kept.idle_since.elapsed() >= self.settings.terms.idle)
        {
            idle.pop_front();
        }
        while let Some(kept) = idle.pop_back() {
            let is_fresh = Instant::now() < kept.ends && kept.connection.is_ready();
            if is_fresh && self.is_believed(&kept.believed) {
                return Some(kept);
            }
        }
        None
    }

    /// Sees to it that idle connections are closed in time, though nobody asks for one.
    fn sweep(self: &Rc<Self>) {
        if self.is_swept.replace(true) {
            return;
        }
        let (pool, idle) = (Rc::downgrade(self), self.settings.terms.idle);
        let slots = Arc::clone(&self.settings.slots);
        drop(tokio::task::spawn_local(async move {
            let mut next = Instant::now() + idle.min(LOOK);
            loop {
                let is_wanted = tokio::select! {
                    () = tokio::time::sleep_until(next.into()) => false,
                    () = slots.wanted() => true,
                };
                let Some(pool) = pool.upgrade() else { return };
                if is_wanted {
                    // Somebody waits for a place, perhaps another worker: what is idle makes room.
                    let spared = pool.idle.borrow_mut().pop_front();
                    drop(spared);
                    continue;
                }
                let Some(due) = pool.close_idle(Instant::now()) else {
                    pool.is_swept.set(false);
                    return;
                };
                next = due.min(Instant::now() + LOOK);
            }
        }));
    }

    /// Closes what is idle for too long; says when to look again, if anything is left.
    fn close_idle(&self, now: Instant) -> Option<Instant> {
        let mut idle = self.idle.borrow_mut();
        let is_good = |kept: &Http1<B>| {
            kept.idle_since + self.settings.terms.idle > now && kept.connection.is_ready()
        };
        idle.retain(is_good);
        let mut shared = self.shared.borrow_mut();
        // A connection with calls under way is not idle, whenever they began.
        let is_idle = |c: &Http2<B>| Rc::strong_count(&c.slot) == 1;
        if shared.as_ref().is_some_and(|c| is_idle(c) && c.used + self.settings.terms.idle <= now) {
            *shared = None;
        }
        let of_shared = shared.as_ref().map(|c| c.used + self.settings.terms.idle);
        // Calls that are under way are looked at again after another idle time.
        let of_shared =
            of_shared.map(|due| if due <= now { now + self.settings.terms.idle } else { due });
        idle.front()
            .map(|kept| kept.idle_since + self.settings.terms.idle)
            .into_iter()
            .chain(of_shared)
            .min()
    }

    /// TCP and TLS. A service that was shown the wrong one of two identities is called once more.
    async fn secured(&self) -> Result<(TlsStream<TcpStream>, Negotiated), NoLease> {
        let attempt = self.settings.terms.tls.attempt();
        let tls = self.shake(&attempt).await?;
        let refused = match attempt.finish(tls.get_ref().1) {
            Ok(negotiated) => return Ok((tls, negotiated)),
            Err(code) => NoLease::after(&tls, code),
        };
        let Some(again) = attempt.again(tls.get_ref().1) else { return Err(refused) };
        drop(tls);
        let tls = self.shake(&again).await?;
        let negotiated = again.finish(tls.get_ref().1);
        let negotiated = negotiated.map_err(|code| NoLease::after(&tls, code))?;
        Ok((tls, negotiated))
    }

    async fn shake(&self, attempt: &Attempt) -> Result<TlsStream<TcpStream>, Refusal> {
        let tcp =
            TcpStream::connect(self.settings.address).await.map_err(|e| no(&codes::CONNECT, e))?;
        tcp.set_nodelay(true).map_err(|e| no(&codes::CONNECT, e))?;
        let connector = TlsConnector::from(Arc::clone(&attempt.config));
        let name = ServerName::IpAddress(self.settings.address.ip().into());
        connector.connect(name, tcp).await.map_err(|e| no(upstream_code_of(&e), e))
    }

    async fn connect(self: &Rc<Self>, slot: Slot) -> Result<Lease<B>, NoLease> {
        let (tls, negotiated) = self.secured().await?;
        let belief = self.settings.terms.tls.belief(tls.get_ref().1, self.now_s());
        let belief = belief.ok_or_else(|| NoLease::after(&tls, &codes::HANDSHAKE))?;
        // Asked for the first time with the first lease that follows.
        let believed = Rc::new(Believed { belief, until_s: Cell::new(0) });
        let (born, ends) = (Instant::now(), self.end_of_life());
        if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
            let (sender, connection) = http2::Builder::new(LocalExecutor)
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(STREAM_WINDOW_BYTES * 4)
                .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
                .keep_alive_interval(Duration::from_secs(20))
                .keep_alive_timeout(Duration::from_secs(10))
                .handshake(TokioIo::new(tls))
                .await
                .map_err(|e| no(&codes::CONNECT, e))?;
            tokio::task::spawn_local(connection);
            let slot = Rc::new(slot);
            let shared = Http2 {
                sender: sender.clone(),
                negotiated,
                believed: Rc::clone(&believed),
                ends,
                used: born,
                slot: Rc::clone(&slot),
            };
            *self.shared.borrow_mut() = Some(shared);
            self.sweep();
            return Ok(Lease(Kind::Two { sender, negotiated, believed, _slot: slot }));
        }
        Ok(Lease(Kind::One(Http1 {
            connection: Connection::new(tls),
            negotiated,
            believed,
            ends,
            idle_since: born,
            home: Rc::downgrade(self),
            _slot: slot,
        })))
    }
}

/// A request on its way, by the version of HTTP.
enum Sending<O, T> {
    One(O),
    Two(Pin<Box<T>>),
}

impl<B> Lease<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn core::error::Error + Send + Sync>>,
{
    /// Whether the connection speaks HTTP/2.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        matches!(self.0, Kind::Two { .. })
    }

    /// What the connection's handshake came to.
    #[must_use]
    pub fn negotiated(&self) -> Negotiated {
        match &self.0 {
            Kind::One(one) => one.negotiated,
            Kind::Two { negotiated, .. } => *negotiated,
        }
    }

    /// Why the service was believed.
    #[must_use]
    pub fn belief(&self) -> &Belief {
        match &self.0 {
            Kind::One(one) => &one.believed.belief,
            Kind::Two { believed, .. } => &believed.belief,
        }
    }

    /// Sends a request and waits for the answer's head.
    ///
    /// # Errors
    /// [`SendError`], which holds the request if no byte of it was sent.
    pub fn send(
        &mut self,
        mut request: http::Request<B>,
    ) -> impl Future<Output = Result<http::Response<Incoming>, SendError<B>>> {
        // Taken over now, so that the future does not hold the request; what HTTP/2 needs is boxed,
        // for it would make the state of every call larger.
        let sending = match &mut self.0 {
            Kind::One(one) => {
                to_origin_form(&mut request);
                Sending::One(one.connection.send(request))
            }
            Kind::Two { sender, .. } => {
                to_absolute_form(&mut request);
                Sending::Two(Box::pin(sender.try_send_request(request)))
            }
        };
        async move {
            match sending {
                Sending::One(answered) => {
                    answered.await.map_err(|Failed { unsent, error }| SendError { unsent, error })
                }
                Sending::Two(answered) => {
                    let answered = answered.await.map(|answer| answer.map(Incoming::from));
                    answered.map_err(|mut failed| SendError {
                        unsent: failed.take_message(),
                        error: Error::Http2(failed.into_error()),
                    })
                }
            }
        }
    }

    /// Gives the connection back after an answer that was read to its end.
    pub fn finish(self) {
        let Kind::One(mut one) = self.0 else { return };
        // One whose last exchange left something behind is closed.
        if !one.connection.has_ended() {
            return;
        }
        let Some(pool) = one.home.upgrade() else { return };
        one.idle_since = Instant::now();
        while let Some(first) = pool.next_waiting() {
            match first.send(one) {
                Ok(()) => return,
                Err(back) => one = back,
            }
        }
        // Somebody of another worker waits: closing it frees its place.
        if pool.settings.slots.is_wanted() {
            return;
        }
        let mut idle = pool.idle.borrow_mut();
        idle.push_back(one);
        if idle.len() > pool.settings.terms.idle_max {
            idle.pop_front();
        }
        drop(idle);
        pool.sweep();
    }
}

/// HTTP/1.1 sends the path alone and names the authority in Host (RFC 9112 §3.2.1).
fn to_origin_form<B>(request: &mut http::Request<B>) {
    if let Some(authority) = request.uri().authority()
        && let Ok(host) = authority.as_str().parse()
    {
        request.headers_mut().insert(http::header::HOST, host);
        let target = request.uri().path_and_query().map_or("/", |p| p.as_str()).parse();
        *request.uri_mut() = target.unwrap_or_default();
    }
    *request.version_mut() = http::Version::HTTP_11;
}

/// HTTP/2 names scheme and authority in pseudo-fields (RFC 9113 §8.3.1), which hyper takes from an
/// absolute target.
fn to_absolute_form<B>(request: &mut http::Request<B>) {
    let host = request.headers_mut().remove(http::header::HOST);
    if request.uri().authority().is_none()
        && let Some(host) = host.and_then(|h| h.to_str().map(str::to_owned).ok())
    {
        let target = request.uri().path_and_query().map_or("/", |p| p.as_str());
        let uri = http::Uri::builder().scheme("https").authority(host).path_and_query(target);
        *request.uri_mut() = uri.build().unwrap_or_default();
    }
    *request.version_mut() = http::Version::HTTP_2;
}

fn no(code: &'static Code, why: impl core::fmt::Display) -> Refusal {
    Refusal::new(Stage::Forward, code).because(why)
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
