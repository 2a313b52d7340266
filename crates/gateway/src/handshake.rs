//! Stage 2: mutual TLS with the caller.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use moat_model::code::tls;
use moat_model::{Refusal, Stage};
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
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
    pub(crate) suite: &'static str,
    pub(crate) group: &'static str,
    pub(crate) is_http2: bool,
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
    let acceptor = TlsAcceptor::from(Arc::clone(&settings.tls));
    let tls = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream))
        .await
        .map_err(|_| no(&tls::SLOW))?
        .map_err(|error| moat_tls::refusal_of(&error))?;
    let connection = tls.get_ref().1;
    let leaf = connection
        .peer_certificates()
        .and_then(|chain| chain.first())
        .ok_or_else(|| no(&tls::NO_CERTIFICATE))?
        .clone()
        .into_owned();
    let suite = connection.negotiated_cipher_suite().and_then(|s| s.suite().as_str());
    let group = connection.negotiated_key_exchange_group().and_then(|g| g.name().as_str());
    let is_http2 = connection.alpn_protocol() == Some(moat_tls::ALPN_H2);
    Ok(Handshaken {
        leaf,
        remote,
        listener,
        suite: suite.unwrap_or("unknown"),
        group: group.unwrap_or("unknown"),
        is_http2,
        tls,
    })
}
