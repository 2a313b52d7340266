//! Stage 2: mutual TLS with the caller.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use moat_model::code::tls;
use moat_model::{Refusal, Stage};
use moat_tls::{Negotiated, Server};
use rustls::server::Acceptor;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::worker::Worker;

/// Longest handshake.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// A connection whose caller has shown a certificate that some trusted authority issued.
pub(crate) struct Handshaken {
    pub(crate) tls: TlsStream<TcpStream>,
    pub(crate) leaf: CertificateDer<'static>,
    pub(crate) remote: SocketAddr,
    pub(crate) listener: usize,
    /// Role and trust domain of the listener as the chain was verified for it: a reload meanwhile
    /// must not lend them to a caller that other authorities vouched for.
    pub(crate) role: Arc<str>,
    pub(crate) trust_domain: String,
    pub(crate) negotiated: Negotiated,
    pub(crate) is_http2: bool,
}

/// Reads the ClientHello, chooses the stack by it, and goes on with that one alone.
async fn accept(server: &Server, stream: TcpStream) -> Result<TlsStream<TcpStream>, Refusal> {
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
    let started = hello.await.map_err(|error| moat_tls::refusal_of(&error))?;
    let choice = server.choose(&started.client_hello());
    let choice = choice.ok_or_else(|| Refusal::new(Stage::Handshake, &tls::PROTOCOL))?;
    let finished = started.into_stream(Arc::clone(&choice.config)).await;
    finished.map_err(|error| choice.refusal_of(&error))
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
    let tls = tokio::time::timeout(HANDSHAKE, accept(&settings.tls, stream))
        .await
        .map_err(|_| no(&tls::SLOW))??;
    let connection = tls.get_ref().1;
    // One configuration holds one stack only, so this cannot fail; were it to, nothing goes on.
    let negotiated = Negotiated::of(connection).ok_or_else(|| no(&tls::MIXED))?;
    let leaf = connection
        .peer_certificates()
        .and_then(|chain| chain.first())
        .ok_or_else(|| no(&tls::NO_CERTIFICATE))?
        .clone()
        .into_owned();
    let is_http2 = connection.alpn_protocol() == Some(moat_tls::ALPN_H2);
    Ok(Handshaken {
        leaf,
        remote,
        listener,
        role: Arc::clone(&settings.role),
        trust_domain: generation.shared.trust_domain.clone(),
        negotiated,
        is_http2,
        tls,
    })
}
