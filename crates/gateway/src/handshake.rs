//! Stage 2: mutual TLS with the caller.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use moat_model::code::tls;
use moat_model::{Refusal, Stage};
use moat_tls::{Negotiated, Path, ja4};
use rustls::server::Acceptor;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

use crate::generation::{Group, Listener};
use crate::sights::View;
use crate::worker::Worker;

/// Longest handshake.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// Label of the exporter that answered challenges are bound to.
const EXPORTER: &[u8] = b"EXPORTER-moat-step-up";

/// A connection whose caller has shown a certificate that some trusted authority issued.
pub(crate) struct Handshaken {
    pub(crate) tls: TlsStream<TcpStream>,
    pub(crate) leaf: CertificateDer<'static>,
    pub(crate) remote: SocketAddr,
    pub(crate) listener: usize,
    /// Role and trust domain of the listener as the chain was verified for it: a reload meanwhile
    /// must not lend them to a caller that other authorities vouched for.
    pub(crate) role: Arc<str>,
    pub(crate) believed: Believed,
    pub(crate) trust_domain: String,
    pub(crate) negotiated: Negotiated,
    /// Keying material that only the two ends of this connection have.
    pub(crate) exporter: [u8; 32],
    /// JA4 of the ClientHello.
    pub(crate) ja4: String,
    /// What the kernel saw of the connection's beginning.
    pub(crate) view: View,
    pub(crate) is_http2: bool,
}

/// Why a caller was let in.
#[derive(Clone)]
pub(crate) struct Believed {
    /// What vouches for its certificate.
    pub(crate) path: Arc<Path>,
    /// The server that it named, in lower case; chooses its group.
    pub(crate) server_name: Option<Arc<str>>,
}

/// A handshake that was finished, by which group of callers, naming which server.
struct Accepted<'a> {
    tls: TlsStream<TcpStream>,
    group: &'a Group,
    server_name: Option<Arc<str>>,
    ja4: String,
}

/// Reads the ClientHello, chooses group and stack by it, and goes on with these alone.
async fn accept(listener: &Listener, stream: TcpStream) -> Result<Accepted<'_>, Refusal> {
    let no = |code| Refusal::new(Stage::Handshake, code);
    let hello = LazyConfigAcceptor::new(Acceptor::default(), Tapped::new(stream));
    let StartHandshake { accepted, io, .. } =
        hello.await.map_err(|error| moat_tls::refusal_of(&error))?;
    let ja4 = ja4::of(&io.heard).unwrap_or_default();
    let started = StartHandshake::from_parts(accepted, io.stream);
    let server_name = started.client_hello().server_name().map(|name| {
        // A name may end in the dot of the root (RFC 6066 forbids it; some write it).
        Arc::from(name.trim_end_matches('.').to_ascii_lowercase())
    });
    let group = listener.group(server_name.as_deref()).ok_or_else(|| no(&tls::SERVER_NAME))?;
    let choice = group.tls.choose(&started.client_hello()).ok_or_else(|| no(&tls::PROTOCOL))?;
    if choice.has_expired(UnixTime::now()) {
        return Err(no(&tls::OWN_EXPIRED));
    }
    let finished = started.into_stream(Arc::clone(&choice.config)).await;
    let tls = finished.map_err(|error| choice.refusal_of(&error))?;
    Ok(Accepted { tls, group, server_name, ja4 })
}

/// A socket whose first bytes are kept: the ClientHello as it was sent.
struct Tapped {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Tapped {
    fn new(stream: TcpStream) -> Tapped {
        Tapped { stream, heard: Vec::new() }
    }
}

impl AsyncRead for Tapped {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let fresh = buf.filled().get(before..).unwrap_or_default();
        let room = ja4::HELLO_BYTES_MAX.saturating_sub(this.heard.len());
        this.heard.extend_from_slice(fresh.get(..room).unwrap_or(fresh));
        polled
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Runs the handshake.
///
/// # Errors
/// A refusal at [`Stage::Handshake`].
pub(crate) async fn handshake(
    worker: &Rc<Worker>,
    listener: usize,
    remote: SocketAddr,
    stream: TcpStream,
) -> Result<Handshaken, Refusal> {
    let generation = worker.generation();
    let no = |code| Refusal::new(Stage::Handshake, code);
    let settings = generation.shared.listeners.get(listener).ok_or_else(|| no(&tls::PROTOCOL))?;
    let port = stream.local_addr().map_or(0, |address| address.port());
    let accepted = tokio::time::timeout(HANDSHAKE, accept(settings, stream)).await;
    let Accepted { tls, group, server_name, ja4 } = accepted.map_err(|_| no(&tls::SLOW))??;
    let connection = tls.get_ref().1;
    // One configuration holds one stack only, so this cannot fail; were it to, nothing goes on.
    let negotiated = Negotiated::of(connection).ok_or_else(|| no(&tls::MIXED))?;
    let path = group
        .tls
        .path(negotiated.stack, connection, UnixTime::now())
        .map_err(|error| moat_tls::refusal_of(&io::Error::other(error)))?;
    let shown = connection.peer_certificates().unwrap_or_default();
    let spared = u64::try_from(path.spared_bytes(shown)).unwrap_or(u64::MAX);
    worker.counters.spared_bytes.add_many(spared);
    let leaf = connection
        .peer_certificates()
        .and_then(|chain| chain.first())
        .ok_or_else(|| no(&tls::NO_CERTIFICATE))?
        .clone()
        .into_owned();
    let exporter = connection
        .export_keying_material([0; 32], EXPORTER, None)
        .map_err(|e| no(&tls::PROTOCOL).because(e))?;
    let is_http2 = connection.alpn_protocol() == Some(moat_tls::ALPN_H2);
    Ok(Handshaken {
        leaf,
        remote,
        listener,
        role: Arc::clone(&group.role),
        believed: Believed { path, server_name },
        trust_domain: generation.shared.trust_domain.clone(),
        negotiated,
        exporter,
        ja4,
        view: worker.sights.take(remote, port, Instant::now()),
        is_http2,
        tls,
    })
}
