//! A caller: mutual TLS, HTTP/1.1 or HTTP/2, one connection a call unless kept.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use moat_net::local::LocalExecutor;
use moat_tls::Stack;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, NamedGroup, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longest wait for an answer.
const WAIT: Duration = Duration::from_secs(10);

/// An answer, read to its end.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Reply {
    /// Number of the record, as the gateway names it.
    pub(crate) fn record(&self) -> Option<u64> {
        self.header("x-moat-record")?.parse().ok()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let value = self.headers.get(name).or_else(|| self.trailers.get(name))?;
        value.to_str().ok()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A caller with or without a certificate.
pub(crate) struct Client {
    port: u16,
    config: Arc<ClientConfig>,
}

impl Client {
    /// `identity` is chain and key in PEM.
    pub(crate) fn new(
        port: u16,
        trust_pem: &[u8],
        identity: Option<(&[u8], &[u8])>,
    ) -> Result<Client> {
        Client::offering(port, trust_pem, identity, None)
    }

    /// The same, where the only key-agreement group on offer may be named.
    pub(crate) fn offering(
        port: u16,
        trust_pem: &[u8],
        identity: Option<(&[u8], &[u8])>,
        group: Option<NamedGroup>,
    ) -> Result<Client> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(trust_pem)?;
        // With an SM2 authority the caller speaks national cryptography, and nothing else.
        let stack = Stack::of_certificate(&root)?;
        roots.add(root)?;
        let mut provider = CryptoProvider::clone(&stack.provider());
        provider.kx_groups.retain(|one| group.is_none_or(|group| one.name() == group));
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain: Vec<_> =
                    CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>()?;
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key)?)?
            }
        };
        Ok(Client { port, config: Arc::new(config) })
    }

    /// A connection after its handshake, with nothing asked.
    pub(crate) async fn connect(&self, alpn: &[u8]) -> Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).await.context("connect")?;
        tcp.set_nodelay(true)?;
        let mut config = ClientConfig::clone(&self.config);
        // Messages have no protocol by name.
        config.alpn_protocols = if alpn.is_empty() { Vec::new() } else { vec![alpn.to_vec()] };
        let name = ServerName::try_from("localhost")?;
        Ok(TlsConnector::from(Arc::new(config)).connect(name, tcp).await?)
    }

    /// A connection that is kept for several calls.
    pub(crate) async fn keep(&self) -> Result<Kept> {
        let stream = self.connect(moat_tls::ALPN_HTTP1).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(connection);
        Ok(Kept { sender })
    }

    /// One call over HTTP/1.1 on a connection of its own.
    pub(crate) async fn call(&self, request: Request<Full<Bytes>>) -> Result<Reply> {
        tokio::time::timeout(WAIT, async { self.keep().await?.call(request).await }).await?
    }

    /// One call over HTTP/2 on a connection of its own.
    pub(crate) async fn call_http2(&self, mut request: Request<Full<Bytes>>) -> Result<Reply> {
        let target = request.uri().path_and_query().map_or("/", |p| p.as_str());
        *request.uri_mut() = format!("https://localhost:{}{target}", self.port).parse()?;
        request.headers_mut().remove(http::header::HOST);
        tokio::time::timeout(WAIT, async {
            let stream = self.connect(moat_tls::ALPN_H2).await?;
            let (mut sender, connection) =
                http2::handshake(LocalExecutor, TokioIo::new(stream)).await?;
            tokio::task::spawn_local(connection);
            read(sender.send_request(request).await?).await
        })
        .await?
    }
}

/// A kept HTTP/1.1 connection.
pub(crate) struct Kept {
    sender: http1::SendRequest<Full<Bytes>>,
}

impl Kept {
    pub(crate) async fn call(&mut self, request: Request<Full<Bytes>>) -> Result<Reply> {
        self.sender.ready().await?;
        read(self.sender.send_request(request).await?).await
    }
}

async fn read(response: http::Response<hyper::body::Incoming>) -> Result<Reply> {
    let (head, body) = response.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let (status, headers) = (head.status, head.headers);
    Ok(Reply { status, headers, body: collected.to_bytes(), trailers })
}

/// `GET path`.
pub(crate) fn get(path: &str) -> Result<Request<Full<Bytes>>> {
    Ok(Request::get(path).header("host", "localhost").body(Full::default())?)
}

/// `POST path` with a JSON body, as it is.
pub(crate) fn post(path: &str, body: &str) -> Result<Request<Full<Bytes>>> {
    Ok(Request::post(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::from(body.to_owned()))?)
}
