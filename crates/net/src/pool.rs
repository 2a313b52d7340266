//! Connections to one service, kept by one worker.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Body;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use moat_model::code::upstream as codes;
use moat_model::{Code, Refusal, Stage};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

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
    pub tls: Arc<ClientConfig>,
    /// Most connections at once.
    pub connections_max: usize,
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
    open: Rc<Cell<usize>>,
}

struct Http1<B> {
    sender: http1::SendRequest<B>,
    guard: SharedGuard,
    born: Instant,
    idle_since: Instant,
    /// Where it goes back to, unless a reload has replaced that pool meanwhile.
    home: Weak<Pool<B>>,
    _slot: Slot,
}

struct Http2<B> {
    sender: http2::SendRequest<B>,
    born: Instant,
    slot: Rc<Slot>,
}

/// Counts one open connection for as long as it lives.
struct Slot(Rc<Cell<usize>>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// A connection that may carry one request now. Give it back by [`Lease::finish`] once the answer
/// was read to its end; dropped before that, an HTTP/1.1 connection is closed.
pub struct Lease<B>(Kind<B>);

enum Kind<B> {
    One(Http1<B>),
    Two { sender: http2::SendRequest<B>, _slot: Rc<Slot> },
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
            open: Rc::default(),
        })
    }

    /// An idle connection, or a new one.
    ///
    /// # Errors
    /// A refusal at [`Stage::Forward`]; nothing was sent.
    pub async fn lease(self: &Rc<Self>) -> Result<Lease<B>, Refusal> {
        if let Some(lease) = self.shared_lease() {
            return Ok(lease);
        }
        while let Some(mut kept) = self.take_idle() {
            let settled = tokio::time::timeout(SETTLE, kept.sender.ready()).await;
            if matches!(settled, Ok(Ok(()))) && kept.guard.borrow().is_reusable() {
                return Ok(Lease(Kind::One(kept)));
            }
        }
        if self.open.get() >= self.settings.connections_max {
            return Err(Refusal::new(Stage::Forward, &codes::BUSY));
        }
        self.open.set(self.open.get() + 1);
        let slot = Slot(Rc::clone(&self.open));
        tokio::time::timeout(self.settings.connect, self.connect(slot))
            .await
            .unwrap_or_else(|_| Err(no(&codes::CONNECT, "timed out")))
    }

    fn shared_lease(&self) -> Option<Lease<B>> {
        let mut shared = self.shared.borrow_mut();
        let usable =
            shared.as_ref().is_some_and(|c| !c.sender.is_closed() && c.born.elapsed() < AGE_MAX);
        if !usable {
            *shared = None;
        }
        shared
            .as_ref()
            .map(|c| Lease(Kind::Two { sender: c.sender.clone(), _slot: Rc::clone(&c.slot) }))
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

    async fn connect(self: &Rc<Self>, slot: Slot) -> Result<Lease<B>, Refusal> {
        let tcp =
            TcpStream::connect(self.settings.address).await.map_err(|e| no(&codes::CONNECT, e))?;
        tcp.set_nodelay(true).map_err(|e| no(&codes::CONNECT, e))?;
        let connector = TlsConnector::from(Arc::clone(&self.settings.tls));
        let name = ServerName::IpAddress(self.settings.address.ip().into());
        let tls = connector.connect(name, tcp).await.map_err(|e| no(handshake_code(&e), e))?;
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
            let shared = Http2 { sender: sender.clone(), born, slot: Rc::clone(&slot) };
            *self.shared.borrow_mut() = Some(shared);
            return Ok(Lease(Kind::Two { sender, _slot: slot }));
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

fn handshake_code(error: &io::Error) -> &'static Code {
    let is_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    if is_tls { &codes::HANDSHAKE } else { &codes::CONNECT }
}

fn no(code: &'static Code, why: impl core::fmt::Display) -> Refusal {
    Refusal::new(Stage::Forward, code).because(why)
}
