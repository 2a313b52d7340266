//! Connections to one service, kept by one worker.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper::body::Body;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use moat_model::code::upstream as codes;
use moat_model::{Code, Refusal, Stage};
use moat_tls::{Attempt, Chosen, Client, Negotiated, upstream_code_of};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::local::LocalExecutor;
use crate::upstream_io::{SharedGuard, UpstreamIo};

/// Longest life of a connection, so that new certificates and addresses take effect.
const AGE_MAX: Duration = Duration::from_secs(3600);
/// Longest wait for a pooled connection to settle after its last answer.
const SETTLE: Duration = Duration::from_millis(100);
/// Most bytes of an answer's head, and HTTP/2 windows, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// How to reach a service, and how much of it to keep.
#[derive(Clone)]
pub struct Settings {
    /// Address.
    pub address: SocketAddr,
    /// TLS with the expected identity; ALPN says which HTTP versions are offered.
    pub tls: Client,
    /// Most connections at once, over all pools that share `open`.
    pub connections_max: usize,
    /// Counts the connections of all pools to this service in this process.
    pub open: Arc<AtomicUsize>,
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
}

struct Http1<B> {
    sender: http1::SendRequest<B>,
    guard: SharedGuard,
    negotiated: Negotiated,
    born: Instant,
    idle_since: Instant,
    /// Where it goes back to, unless a reload has replaced that pool meanwhile.
    home: Weak<Pool<B>>,
    _slot: Slot,
}

struct Http2<B> {
    sender: http2::SendRequest<B>,
    negotiated: Negotiated,
    born: Instant,
    /// When a request was last given to it.
    used: Instant,
    slot: Rc<Slot>,
}

/// Counts one open connection for as long as it lives.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    /// A place for one more connection, if there is one.
    fn take(settings: &Settings) -> Option<Slot> {
        let slot = Slot(Arc::clone(&settings.open));
        // Counted first, so that two workers cannot take the last place both; the drop undoes it.
        (slot.0.fetch_add(1, Ordering::Relaxed) < settings.connections_max).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that may carry one request now. Give it back by [`Lease::finish`] once the answer
/// was read to its end; dropped before that, an HTTP/1.1 connection is closed.
pub struct Lease<B>(Kind<B>);

enum Kind<B> {
    One(Http1<B>),
    Two { sender: http2::SendRequest<B>, negotiated: Negotiated, _slot: Rc<Slot> },
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
    pub error: hyper::Error,
}

impl<B> Pool<B>
where
    B: Body + Unpin + 'static,
    B::Data: Send,
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
        })
    }

    /// An idle connection, or a new one.
    ///
    /// # Errors
    /// [`NoLease`].
    pub async fn lease(self: &Rc<Self>) -> Result<Lease<B>, NoLease> {
        if let Some(lease) = self.shared_lease() {
            return Ok(lease);
        }
        while let Some(mut kept) = self.take_idle() {
            let is_settled = kept.sender.is_ready()
                || matches!(tokio::time::timeout(SETTLE, kept.sender.ready()).await, Ok(Ok(())));
            if is_settled && kept.guard.borrow().is_reusable() {
                return Ok(Lease(Kind::One(kept)));
            }
        }
        let slot = Slot::take(&self.settings);
        let slot = slot.ok_or_else(|| Refusal::new(Stage::Forward, &codes::BUSY))?;
        // Boxed: connecting is rare, and its state would make every call's larger.
        tokio::time::timeout(self.settings.connect, Box::pin(self.connect(slot)))
            .await
            .unwrap_or_else(|_| Err(no(&codes::CONNECT, "timed out").into()))
    }

    fn shared_lease(&self) -> Option<Lease<B>> {
        let mut shared = self.shared.borrow_mut();
        let usable =
            shared.as_ref().is_some_and(|c| !c.sender.is_closed() && c.born.elapsed() < AGE_MAX);
        if !usable {
            *shared = None;
        }
        shared.as_mut().map(|c| {
            c.used = Instant::now();
            let negotiated = c.negotiated;
            Lease(Kind::Two { sender: c.sender.clone(), negotiated, _slot: Rc::clone(&c.slot) })
        })
    }

    /// The connection used last; those idle too long, too old or closed are dropped on the way.
    fn take_idle(&self) -> Option<Http1<B>> {
        let mut idle = self.idle.borrow_mut();
        while idle.front().is_some_and(|kept| kept.idle_since.elapsed() >= self.settings.idle) {
            idle.pop_front();
        }
        while let Some(kept) = idle.pop_back() {
            if !kept.sender.is_closed() && kept.born.elapsed() < AGE_MAX {
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
        let (pool, idle) = (Rc::downgrade(self), self.settings.idle);
        drop(tokio::task::spawn_local(async move {
            let mut next = Instant::now() + idle;
            loop {
                tokio::time::sleep_until(next.into()).await;
                let Some(pool) = pool.upgrade() else { return };
                let Some(due) = pool.close_idle(Instant::now()) else {
                    pool.is_swept.set(false);
                    return;
                };
                next = due;
            }
        }));
    }

    /// Closes what is idle for too long; says when to look again, if anything is left.
    fn close_idle(&self, now: Instant) -> Option<Instant> {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|kept| kept.idle_since + self.settings.idle > now);
        let mut shared = self.shared.borrow_mut();
        // A connection with calls under way is not idle, whenever they began.
        let is_idle = |c: &Http2<B>| Rc::strong_count(&c.slot) == 1;
        if shared.as_ref().is_some_and(|c| is_idle(c) && c.used + self.settings.idle <= now) {
            *shared = None;
        }
        let of_shared = shared.as_ref().map(|c| c.used + self.settings.idle);
        // Calls that are under way are looked at again after another idle time.
        let of_shared =
            of_shared.map(|due| if due <= now { now + self.settings.idle } else { due });
        idle.front()
            .map(|kept| kept.idle_since + self.settings.idle)
            .into_iter()
            .chain(of_shared)
            .min()
    }

    /// TCP and TLS. A service that was shown the wrong one of two identities is called once more.
    async fn secured(&self) -> Result<(TlsStream<TcpStream>, Negotiated), NoLease> {
        let attempt = self.settings.tls.attempt();
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
        let born = Instant::now();
        if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
            let (sender, connection) = http2::Builder::new(LocalExecutor)
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(STREAM_WINDOW_BYTES * 4)
                .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
                .keep_alive_interval(Duration::from_secs(20))
                .keep_alive_timeout(Duration::from_secs(10))
                .handshake(TokioIo::new(UpstreamIo::http2(tls)))
                .await
                .map_err(|e| no(&codes::CONNECT, e))?;
            tokio::task::spawn_local(connection);
            let slot = Rc::new(slot);
            let shared = Http2 {
                sender: sender.clone(),
                negotiated,
                born,
                used: born,
                slot: Rc::clone(&slot),
            };
            *self.shared.borrow_mut() = Some(shared);
            self.sweep();
            return Ok(Lease(Kind::Two { sender, negotiated, _slot: slot }));
        }
        let (io, guard) = UpstreamIo::http1(tls);
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|e| no(&codes::CONNECT, e))?;
        tokio::task::spawn_local(connection);
        Ok(Lease(Kind::One(Http1 {
            sender,
            guard,
            negotiated,
            born,
            idle_since: born,
            home: Rc::downgrade(self),
            _slot: slot,
        })))
    }
}

impl<B> Lease<B>
where
    B: Body + Unpin + 'static,
    B::Data: Send,
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

    /// Sends a request and waits for the answer's head.
    ///
    /// # Errors
    /// [`SendError`], which holds the request if no byte of it was sent.
    pub async fn send(
        &mut self,
        mut request: http::Request<B>,
    ) -> Result<http::Response<hyper::body::Incoming>, SendError<B>> {
        let answer = match &mut self.0 {
            Kind::One(one) => {
                to_origin_form(&mut request);
                // A connection whose guard does not agree is closed by hyper's own error below.
                let _ = one.guard.borrow_mut().expect(request.method().as_str());
                one.sender.try_send_request(request).await
            }
            Kind::Two { sender, .. } => {
                to_absolute_form(&mut request);
                sender.try_send_request(request).await
            }
        };
        answer.map_err(|mut failed| SendError {
            unsent: failed.take_message(),
            error: failed.into_error(),
        })
    }

    /// Gives the connection back after an answer that was read to its end.
    pub fn finish(self) {
        let Kind::One(mut one) = self.0 else { return };
        let Some(pool) = one.home.upgrade() else { return };
        one.idle_since = Instant::now();
        let mut idle = pool.idle.borrow_mut();
        idle.push_back(one);
        if idle.len() > pool.settings.idle_max {
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
