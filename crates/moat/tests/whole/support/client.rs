//! Callers: hyper over HTTP/1.1 or HTTP/2, and raw bytes.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use moat_ca::Identity;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Pki;

/// Longest wait for anything.
const WAIT: Duration = Duration::from_secs(20);

pub(crate) type SendBody = BoxBody<Bytes, std::convert::Infallible>;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The code of a refusal.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

enum Sender {
    One(http1::SendRequest<SendBody>),
    Two(http2::SendRequest<SendBody>),
}

/// One connection of a caller.
pub(crate) struct Client(Sender);

impl Client {
    /// Connects as `name` with HTTP/1.1.
    pub(crate) async fn http1(pki: &Pki, to: SocketAddr, name: &str) -> Client {
        Client::connect(pki, to, &pki.identity(name), false).await.unwrap()
    }

    /// Connects as `name` with HTTP/2.
    pub(crate) async fn http2(pki: &Pki, to: SocketAddr, name: &str) -> Client {
        Client::connect(pki, to, &pki.identity(name), true).await.unwrap()
    }

    pub(crate) async fn connect(
        pki: &Pki,
        to: SocketAddr,
        identity: &Identity,
        is_http2: bool,
    ) -> std::io::Result<Client> {
        let alpn = if is_http2 { "h2" } else { "http/1.1" };
        let tls = TokioIo::new(tls(pki, to, Some(identity), alpn).await?);
        if is_http2 {
            let handshake = http2::handshake(TokioExecutor::new(), tls).await;
            let (sender, connection) = handshake.map_err(std::io::Error::other)?;
            tokio::spawn(connection);
            return Ok(Client(Sender::Two(sender)));
        }
        let (sender, connection) = http1::handshake(tls).await.map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(Client(Sender::One(sender)))
    }

    /// Whether the connection has ended.
    pub(crate) fn has_ended(&self) -> bool {
        match &self.0 {
            Sender::One(sender) => sender.is_closed(),
            Sender::Two(sender) => sender.is_closed(),
        }
    }

    /// The same HTTP/2 connection for another call at the same time.
    pub(crate) fn again(&self) -> Client {
        match &self.0 {
            Sender::Two(sender) => Client(Sender::Two(sender.clone())),
            Sender::One(_) => panic!("HTTP/1.1 carries one call at a time"),
        }
    }

    /// Whether the other side has ended it, or says that it takes no further call.
    pub(crate) async fn is_closed(&mut self) -> bool {
        match &mut self.0 {
            Sender::One(sender) => sender.ready().await.is_err(),
            Sender::Two(sender) => sender.ready().await.is_err() || sender.is_closed(),
        }
    }

    /// Sends a request; gives the head of its answer, body still to come.
    pub(crate) async fn begin(
        &mut self,
        mut request: Request<SendBody>,
    ) -> hyper::Result<Response<Incoming>> {
        let path = request.uri().path_and_query().unwrap().as_str().to_owned();
        match &mut self.0 {
            Sender::One(sender) => {
                *request.uri_mut() = path.parse().unwrap();
                if !request.headers().contains_key("host") {
                    request.headers_mut().insert("host", "gateway.test".parse().unwrap());
                }
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Two(sender) => {
                *request.uri_mut() = format!("https://gateway.test{path}").parse().unwrap();
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(&mut self, request: Request<SendBody>) -> hyper::Result<Answer> {
        let whole = async {
            let (head, body) = self.begin(request).await?.into_parts();
            let collected = body.collect().await?;
            let trailers = collected.trailers().cloned();
            let (status, headers) = (head.status.as_u16(), head.headers);
            Ok(Answer { status, headers, body: collected.to_bytes(), trailers })
        };
        tokio::time::timeout(WAIT, whole).await.expect("an answer in time")
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(request("GET", path, "")).await.unwrap()
    }

    /// A POST of JSON.
    pub(crate) async fn post(&mut self, path: &str, body: &str) -> Answer {
        let mut request = request("POST", path, body);
        request.headers_mut().insert("content-type", "application/json".parse().unwrap());
        self.send(request).await.unwrap()
    }
}

/// A request with a body that is there already.
pub(crate) fn request(method: &str, path: &str, body: &str) -> Request<SendBody> {
    let body = Full::new(Bytes::from(body.to_owned())).boxed();
    Request::builder().method(method).uri(path).body(body).unwrap()
}

/// A TLS connection as `identity`, or as nobody.
pub(crate) async fn tls(
    pki: &Pki,
    to: SocketAddr,
    identity: Option<&Identity>,
    alpn: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let connector = TlsConnector::from(pki.client(identity, alpn));
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").unwrap();
    tokio::time::timeout(WAIT, connector.connect(name, stream)).await.expect("a handshake in time")
}

/// A connection that carries whatever bytes a test likes.
pub(crate) struct Raw(pub(crate) TlsStream<TcpStream>);

impl Raw {
    pub(crate) async fn new(pki: &Pki, to: SocketAddr) -> Raw {
        Raw(tls(pki, to, Some(&pki.identity("teller")), "http/1.1").await.unwrap())
    }

    /// Writes bytes; a peer that has closed is no error here.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok() && self.0.flush().await.is_ok()
    }

    /// Everything until the peer closes, or `wait` is over; says whether it closed.
    pub(crate) async fn read_to_end(&mut self, wait: Duration) -> (String, bool) {
        let mut bytes = Vec::new();
        let mut part = vec![0; 64 * 1024];
        let until = tokio::time::Instant::now() + wait;
        loop {
            match tokio::time::timeout_at(until, self.0.read(&mut part)).await {
                Err(_) => return (String::from_utf8_lossy(&bytes).into_owned(), false),
                Ok(Ok(0) | Err(_)) => return (String::from_utf8_lossy(&bytes).into_owned(), true),
                Ok(Ok(read)) => bytes.extend_from_slice(&part[..read]),
            }
        }
    }
}

/// Statuses of the answers in a text, in order.
pub(crate) fn statuses(text: &str) -> Vec<u16> {
    let after = text.match_indices("HTTP/1.1 ").map(|(at, found)| at + found.len());
    after.filter_map(|at| text.get(at..at + 3)?.parse().ok()).collect()
}
