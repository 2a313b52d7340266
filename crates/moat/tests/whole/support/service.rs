//! The service behind the gateway. What it does is said by the last part of the path; an
//! `x-mark` header is counted.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Pki;

/// What the service has seen.
#[derive(Default)]
pub(crate) struct Seen {
    marks: Mutex<HashMap<String, usize>>,
    paths: Mutex<Vec<String>>,
    pub(crate) connections: AtomicUsize,
    open: AtomicUsize,
    mode: AtomicUsize,
}

/// How the service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Does what the path says.
    Good = 0,
    /// Answers 503, whatever is asked.
    Away = 1,
    /// Breaks every connection on which something is asked.
    Broken = 2,
    /// Does what the path says, and calls itself unwell.
    Unwell = 3,
}

impl Seen {
    fn is(&self, mode: Mode) -> bool {
        self.mode.load(Ordering::Relaxed) == mode as usize
    }

    fn note(&self, path: &str, mark: Option<&str>) {
        self.paths.lock().unwrap().push(path.to_owned());
        if let Some(mark) = mark {
            *self.marks.lock().unwrap().entry(mark.to_owned()).or_default() += 1;
        }
    }
}

/// A running service.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Service {
    /// The accounts service, speaking what `alpn` lists.
    pub(crate) async fn start(pki: &Pki, alpn: &[&str]) -> Service {
        Service::start_as(pki, "accounts", alpn).await
    }

    pub(crate) async fn start_as(pki: &Pki, name: &str, alpn: &[&str]) -> Service {
        Service::start_with(pki.server(&pki.identity(name), alpn)).await
    }

    pub(crate) async fn start_with(tls: Arc<rustls::ServerConfig>) -> Service {
        let acceptor = TlsAcceptor::from(tls);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let (acceptor, seen) = (acceptor.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(stream).await else { return };
                    seen.connections.fetch_add(1, Ordering::Relaxed);
                    seen.open.fetch_add(1, Ordering::Relaxed);
                    if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
                        serve_http2(tls, Arc::clone(&seen)).await;
                    } else {
                        let _ = serve_http1(tls, &seen).await;
                    }
                    seen.open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Service { address, seen, task }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.seen.mode.store(mode as usize, Ordering::Relaxed);
    }

    /// How many requests came to paths that begin so.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.seen.paths.lock().unwrap().iter().filter(|p| p.starts_with(path)).count()
    }

    /// How many requests carried this mark.
    pub(crate) fn marked(&self, mark: &str) -> usize {
        self.seen.marks.lock().unwrap().get(mark).copied().unwrap_or(0)
    }

    /// Takes no more connections; those that are open go on.
    pub(crate) async fn close(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    /// Every path that was asked for.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.seen.paths.lock().unwrap().clone()
    }

    /// Connections that are open now.
    pub(crate) fn open(&self) -> usize {
        self.seen.open.load(Ordering::Relaxed)
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Relaxed)
    }
}

struct Head {
    method: String,
    path: String,
    fields: Vec<(String, String)>,
}

impl Head {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

async fn read_head(io: &mut TlsStream<TcpStream>, held: &mut Vec<u8>) -> io::Result<Option<Head>> {
    loop {
        if let Some(at) = held.windows(4).position(|four| four == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&held[..at]).into_owned();
            held.drain(..at + 4);
            let mut lines = text.split("\r\n");
            let mut parts = lines.next().unwrap_or("").split(' ');
            let (method, path) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
            let fields = lines.filter_map(|line| line.split_once(": "));
            let fields = fields.map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned())).collect();
            return Ok(Some(Head { method: method.to_owned(), path: path.to_owned(), fields }));
        }
        let mut part = [0; 16 * 1024];
        match io.read(&mut part).await? {
            0 => return Ok(None),
            read => held.extend_from_slice(&part[..read]),
        }
    }
}

/// Reads a body; gives its length and its bytes if there are few.
async fn read_body(
    io: &mut TlsStream<TcpStream>,
    held: &mut Vec<u8>,
    head: &Head,
) -> io::Result<(usize, Vec<u8>)> {
    let mut kept = Vec::new();
    let mut part = vec![0; 64 * 1024];
    if head.field("transfer-encoding").is_some() {
        let mut length = 0;
        loop {
            let size = loop {
                if let Some(at) = held.windows(2).position(|two| two == b"\r\n") {
                    let line = String::from_utf8_lossy(&held[..at]).into_owned();
                    held.drain(..at + 2);
                    break usize::from_str_radix(&line, 16).map_err(io::Error::other)?;
                }
                match io.read(&mut part).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    read => held.extend_from_slice(&part[..read]),
                }
            };
            while held.len() < size + 2 {
                match io.read(&mut part).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    read => held.extend_from_slice(&part[..read]),
                }
            }
            if kept.len() + size < 65_536 {
                kept.extend_from_slice(&held[..size]);
            }
            held.drain(..size + 2);
            length += size;
            if size == 0 {
                return Ok((length, kept));
            }
        }
    }
    let length: usize = head.field("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut read = 0;
    while read < length {
        if held.is_empty() {
            match io.read(&mut part).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                got => held.extend_from_slice(&part[..got]),
            }
        }
        let take = held.len().min(length - read);
        if kept.len() + take < 65_536 {
            kept.extend_from_slice(&held[..take]);
        }
        held.drain(..take);
        read += take;
    }
    Ok((length, kept))
}

fn plain(content_type: &str, more: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n{more}Content-Length: {length}\r\n\r\n{body}"
    )
}

fn json_answer(value: &Value) -> String {
    plain("application/json", "", &value.to_string())
}

fn good() -> Value {
    json!({ "ok": true, "secret": "张三丰", "n": 1 })
}

/// Breaks the connection without a word: no TLS end, a TCP reset.
fn reset(io: TlsStream<TcpStream>) {
    let (stream, _) = io.into_inner();
    let _ = stream.set_zero_linger();
}

async fn serve_http1(mut io: TlsStream<TcpStream>, seen: &Seen) -> io::Result<()> {
    let mut held = Vec::new();
    let mut served = 0;
    while let Some(head) = read_head(&mut io, &mut held).await? {
        seen.note(&head.path, head.field("x-mark"));
        served += 1;
        let action = head.path.rsplit('/').next().unwrap_or("").to_owned();
        match action.as_str() {
            "early" => {
                io.write_all(json_answer(&good()).as_bytes()).await?;
                io.flush().await?;
                tokio::time::sleep(Duration::from_millis(300)).await;
                return Ok(());
            }
            "unread" => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                return Ok(());
            }
            _ => {}
        }
        let (length, body) = read_body(&mut io, &mut held, &head).await?;
        if seen.is(Mode::Broken) {
            reset(io);
            return Ok(());
        }
        if seen.is(Mode::Away) || (seen.is(Mode::Unwell) && action == "healthz") {
            let answer = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
            io.write_all(answer.as_bytes()).await?;
            io.flush().await?;
            continue;
        }
        let answer = match action.as_str() {
            "echo" => {
                let mut fields = Map::new();
                for (name, value) in &head.fields {
                    fields.insert(name.clone(), value.clone().into());
                }
                let body = String::from_utf8_lossy(&body);
                json_answer(&json!({ "fields": fields, "length": length, "body": body,
                    "method": head.method, "path": head.path }))
            }
            // What was sent comes back, called what the caller wants it called.
            "mirror" => {
                let content_type = head.field("x-type").unwrap_or("application/json");
                plain(content_type, "", &String::from_utf8_lossy(&body))
            }
            "hang" => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                return Ok(());
            }
            "slow" => {
                tokio::time::sleep(Duration::from_millis(800)).await;
                json_answer(&good())
            }
            // Answers after a while, and closes.
            "last" => {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let end = "Connection: close\r\n";
                let answer = plain("application/json", end, &good().to_string());
                io.write_all(answer.as_bytes()).await?;
                io.shutdown().await?;
                return Ok(());
            }
            "reset-at-once" => {
                reset(io);
                return Ok(());
            }
            "reset-in-head" => {
                io.write_all(b"HTTP/1.1 200 OK\r\nContent-Ty").await?;
                io.flush().await?;
                reset(io);
                return Ok(());
            }
            "reset-in-body" => {
                io.write_all(&json_answer(&good()).as_bytes()[..90]).await?;
                io.flush().await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
                reset(io);
                return Ok(());
            }
            // The second request of a connection finds it dead.
            "once" if served > 1 => {
                reset(io);
                return Ok(());
            }
            "short" => {
                let text = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                            Content-Length: 900\r\n\r\n{\"ok\":true}";
                io.write_all(text.as_bytes()).await?;
                io.shutdown().await?;
                return Ok(());
            }
            "long" => "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                       Content-Length: 11\r\n\r\n{\"ok\":true}HTTP/1.1 200 OK\r\n\
                       Content-Length: 5\r\n\r\nfalse"
                .to_owned(),
            "both" => "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\
                       Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
                .to_owned(),
            "garbage" => "\u{1}\u{2}nonsense\r\n\r\n\r\n".to_owned(),
            "bad-chunk" => "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                            Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nZZ\r\n\r\n"
                .to_owned(),
            "leaky" => plain(
                "application/json",
                "X-Card: 6222020200112233453\r\nX-Page: 2\r\nX-Request-Id: r1\r\n\
                 Set-Cookie: card=6222020200112233453\r\nLocation: /6222020200112233453\r\n",
                &good().to_string(),
            ),
            "gzip" => plain("application/json", "Content-Encoding: gzip\r\n", "{\"secret\":\"x\"}"),
            "text" => plain("text/plain", "", "secret 13800138000"),
            "broken-json" => plain("application/json", "", "{\"secret\":\"13800138000\""),
            "nothing" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            "empty" => plain("application/octet-stream", "", ""),
            "failed" => {
                plain("application/json", "", "{}").replace("200 OK", "500 Internal Server Error")
            }
            "telling" => plain("application/json", "", "{\"why\":\"card 6222020200112233453\"}")
                .replace("200 OK", "400 Bad Request"),
            "endless" => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                            Transfer-Encoding: chunked\r\n\r\n1\r\n[\r\n";
                io.write_all(head.as_bytes()).await?;
                let chunk = format!("{:x}\r\n{}\r\n", 65_536, "1,".repeat(32_768));
                loop {
                    io.write_all(chunk.as_bytes()).await?;
                }
            }
            "drip" => {
                io.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await?;
                loop {
                    io.write_all(b"x").await?;
                    io.flush().await?;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            other => match other.strip_prefix("big-").and_then(|n| n.parse::<usize>().ok()) {
                Some(size) => {
                    let answer_head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
                    io.write_all(answer_head.as_bytes()).await?;
                    let part = vec![b'x'; 64 * 1024];
                    let mut left = if head.method == "HEAD" { 0 } else { size };
                    while left > 0 {
                        let now = left.min(part.len());
                        io.write_all(&part[..now]).await?;
                        left -= now;
                    }
                    io.flush().await?;
                    continue;
                }
                None => json_answer(&good()),
            },
        };
        let whole = answer.as_bytes();
        let end = whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(0) + 4;
        let part = if head.method == "HEAD" { &whole[..end] } else { whole };
        io.write_all(part).await?;
        io.flush().await?;
    }
    Ok(())
}

/// Frames that a task sends one by one.
pub(crate) struct Pipe(mpsc::Receiver<Frame<Bytes>>);

impl Pipe {
    pub(crate) fn new() -> (mpsc::Sender<Frame<Bytes>>, Pipe) {
        let (sender, receiver) = mpsc::channel(4);
        (sender, Pipe(receiver))
    }
}

impl Body for Pipe {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

type AnswerBody = BoxBody<Bytes, std::convert::Infallible>;

async fn serve_http2(tls: TlsStream<TcpStream>, seen: Arc<Seen>) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let seen = Arc::clone(&seen);
        async move {
            let mark = request.headers().get("x-mark").and_then(|v| v.to_str().ok());
            seen.note(request.uri().path(), mark);
            if request.uri().path().ends_with("/reset") {
                return Err(io::Error::other("reset"));
            }
            if request.uri().path() == "/grpc.health.v1.Health/Check" {
                let status = if seen.is(Mode::Unwell) { 2 } else { 1 };
                let (sender, pipe) = Pipe::new();
                let _ = sender.try_send(Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 8, status])));
                let _ = sender.try_send(grpc_end("0"));
                return Ok(typed("application/grpc", pipe.boxed()));
            }
            Ok(answer_http2(request).await)
        }
    });
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ = builder.serve_connection(TokioIo::new(tls), service).await;
}

fn typed(content_type: &str, body: AnswerBody) -> Response<AnswerBody> {
    Response::builder().header("content-type", content_type).body(body).unwrap()
}

fn grpc_end(status: &str) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    Frame::trailers(trailers)
}

async fn answer_http2(request: Request<Incoming>) -> Response<AnswerBody> {
    let (head, mut body) = request.into_parts();
    let action = head.uri.path().rsplit('/').next().unwrap_or("").to_owned();
    match action.as_str() {
        // Sends every frame back as it comes: unary and bidirectional.
        "Echo" => {
            let (sender, pipe) = Pipe::new();
            tokio::spawn(async move {
                while let Some(Ok(frame)) = body.frame().await {
                    let Ok(data) = frame.into_data() else { continue };
                    if sender.send(Frame::data(data)).await.is_err() {
                        return;
                    }
                }
                let _ = sender.send(grpc_end("0")).await;
            });
            typed("application/grpc", pipe.boxed())
        }
        // Many in, one out.
        "Collect" => {
            let all = body.collect().await.map(|all| all.to_bytes()).unwrap_or_default();
            let (sender, pipe) = Pipe::new();
            let _ = sender.try_send(Frame::data(all));
            let _ = sender.try_send(grpc_end("0"));
            typed("application/grpc", pipe.boxed())
        }
        // One in, many out.
        "Many" => {
            let one = body.collect().await.map(|all| all.to_bytes()).unwrap_or_default();
            let (sender, pipe) = Pipe::new();
            tokio::spawn(async move {
                for _ in 0..5 {
                    let _ = sender.send(Frame::data(one.clone())).await;
                }
                let _ = sender.send(grpc_end("0")).await;
            });
            typed("application/grpc", pipe.boxed())
        }
        "hang" => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            typed("application/json", Full::default().boxed())
        }
        "nothing" => Response::builder().status(204).body(Full::default().boxed()).unwrap(),
        "echo" => {
            let mut length = 0;
            while let Some(Ok(frame)) = body.frame().await {
                length += frame.data_ref().map_or(0, Bytes::len);
            }
            let fields: Map<String, Value> = head
                .headers
                .iter()
                .map(|(n, v)| (n.to_string(), v.to_str().unwrap_or("?").into()))
                .collect();
            let text = json!({ "fields": fields, "length": length, "method": head.method.as_str(),
                "path": head.uri.path() });
            typed("application/json", Full::from(text.to_string()).boxed())
        }
        other => match other.strip_prefix("big-").and_then(|n| n.parse::<usize>().ok()) {
            Some(size) => {
                let (sender, pipe) = Pipe::new();
                tokio::spawn(async move {
                    let part = Bytes::from(vec![b'x'; 64 * 1024]);
                    let mut left = size;
                    while left > 0 {
                        let now = left.min(part.len());
                        if sender.send(Frame::data(part.slice(..now))).await.is_err() {
                            return;
                        }
                        left -= now;
                    }
                });
                typed("application/octet-stream", pipe.boxed())
            }
            None => typed("application/json", Full::from(good().to_string()).boxed()),
        },
    }
}
