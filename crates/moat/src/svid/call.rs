//! The call `FetchX509SVID`: gRPC over a Unix socket, one message after another.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use moat_rpc::frame;
use moat_rpc::workload::{FETCH_X509_SVID, HEADER, Svid, decode_svids};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

/// Longest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Longest wait for the connection and the head of the answer.
const OPEN: Duration = Duration::from_secs(10);

/// A stream of identities. Its connection ends with it.
pub(super) struct Stream {
    body: Incoming,
    held: BytesMut,
    connection: JoinHandle<()>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Stream {
    pub(super) async fn open(socket: &Path) -> Result<Stream> {
        let opened = tokio::time::timeout(OPEN, open(socket)).await;
        opened.with_context(|| format!("{} does not answer", socket.display()))?
    }

    /// The next identities; nothing at the end of the stream.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Svid>>> {
        loop {
            if let Some((message, rest)) = frame::next(&self.held)? {
                let svids = decode_svids(message)?;
                let taken = self.held.len() - rest.len();
                self.held.advance(taken);
                return Ok(Some(svids));
            }
            let Some(piece) = self.body.frame().await else { return Ok(None) };
            match piece?.into_data() {
                Ok(data) if self.held.len() + data.len() > MESSAGE_BYTES_MAX => {
                    bail!("a message of over {MESSAGE_BYTES_MAX} bytes")
                }
                Ok(data) => self.held.extend_from_slice(&data),
                Err(other) => status(other.trailers_ref())?,
            }
        }
    }
}

async fn open(socket: &Path) -> Result<Stream> {
    let stream = UnixStream::connect(socket).await.with_context(|| socket.display().to_string())?;
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await?;
    let connection = tokio::spawn(async move { drop(connection.await) });
    // The request is empty, as a message.
    let request = Request::post(format!("http://localhost{FETCH_X509_SVID}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header(HEADER.0, HEADER.1)
        .body(Full::new(Bytes::from(frame::framed(&[]))))?;
    let answer = sender.send_request(request).await?;
    if answer.status() != StatusCode::OK {
        bail!("the agent answers with status {}", answer.status());
    }
    status(Some(answer.headers()))?;
    Ok(Stream { body: answer.into_body(), held: BytesMut::new(), connection })
}

/// `grpc-status`, in the head of an answer without messages, or in trailers.
fn status(fields: Option<&HeaderMap>) -> Result<()> {
    let field = |name: &str| fields?.get(name)?.to_str().ok();
    match field("grpc-status") {
        None | Some("0") => Ok(()),
        Some("7") => bail!("the agent has no identity for this user (PermissionDenied)"),
        Some(other) => bail!(
            "the agent refuses: grpc-status {other} {}",
            field("grpc-message").unwrap_or_default()
        ),
    }
}
