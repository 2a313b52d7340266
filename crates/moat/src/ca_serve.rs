//! `moat ca serve`: a SPIFFE Workload API for development, on a Unix socket.
//!
//! Who asks is told by the kernel, and what its user is given stands on the command line. Identities
//! live for minutes, each with a fresh key, and are given anew at half of their life. There is no
//! attestation of anything but the user, so this is no SPIRE.

use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as Waker, Poll};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use moat_ca::{Authority, Kind, LeafRequest, Level};
use moat_net::local::LocalExecutor;
use moat_rpc::frame;
use moat_rpc::workload::{
    FETCH_X509_BUNDLES, FETCH_X509_SVID, HEADER, Svid, encode_bundles, encode_svids,
};
use moat_sm::pem;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::LocalSet;

use crate::ca::now_s;
use crate::cli_ca::ServeArgs;

/// Most connections at once, and most streams of one.
const CONNECTIONS_MAX: usize = 256;
const STREAMS_MAX: u32 = 16;
/// Codes of gRPC.
const INVALID_ARGUMENT: u8 = 3;
const PERMISSION_DENIED: u8 = 7;
const UNIMPLEMENTED: u8 = 12;
const INTERNAL: u8 = 13;

/// What a user is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    uid: u32,
    spiffe: String,
}

/// `uid:UID=SPIFFE_ID`.
pub(crate) fn entry(text: &str) -> Result<Entry, String> {
    let (selector, id) = text.split_once('=').ok_or("write uid:1000=spiffe://bank.test/teller")?;
    let uid = selector.strip_prefix("uid:").and_then(|uid| uid.parse().ok());
    let uid = uid.ok_or_else(|| format!("`{selector}` is no selector: write uid:1000"))?;
    if id.parse::<moat_identity::SpiffeId>().is_err() {
        return Err(format!("`{id}` is no SPIFFE id"));
    }
    Ok(Entry { uid, spiffe: id.to_owned() })
}

struct Server {
    dir: PathBuf,
    authority: Authority,
    entries: Vec<Entry>,
    /// Names beside each id.
    names: Vec<String>,
    ttl_s: u32,
}

pub(crate) fn run(args: &ServeArgs) -> Result<ExitCode> {
    let authority = moat_ca::load(&args.dir, Kind::P256, Some(Level::Issuing))?;
    // That it can be written is found out now, not when somebody asks.
    drop(moat_ca::open_issuing(&args.dir, &authority)?);
    let (dir, entries, names) = (args.dir.clone(), args.entries.clone(), args.names.clone());
    let server = Rc::new(Server { dir, authority, entries, names, ttl_s: args.ttl_s });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, listen(server, &args.socket))?;
    Ok(ExitCode::SUCCESS)
}

async fn listen(server: Rc<Server>, path: &Path) -> Result<()> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        bail!("{}: something listens there already", path.display());
    }
    let _ = std::fs::remove_file(path);
    let socket = UnixListener::bind(path).with_context(|| path.display().to_string())?;
    // Anybody may ask: what is given goes by who the kernel says it is.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    tracing::info!(socket = %path.display(), entries = server.entries.len(), "the Workload API listens");
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let (stream, _) = socket.accept().await?;
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let server = Rc::clone(&server);
        drop(tokio::task::spawn_local(async move {
            if let Err(error) = connection(server, stream).await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(place);
        }));
    }
}

async fn connection(server: Rc<Server>, stream: UnixStream) -> Result<()> {
    let uid = stream.peer_cred()?.uid();
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(&server, uid, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut builder = http2::Builder::new(LocalExecutor);
    builder.max_concurrent_streams(STREAMS_MAX);
    builder.serve_connection(TokioIo::new(stream), service).await?;
    Ok(())
}

fn answer(server: &Rc<Server>, uid: u32, request: &Request<Incoming>) -> Response<Reply> {
    if request.headers().get(HEADER.0).is_none_or(|value| value != HEADER.1) {
        return refused(INVALID_ARGUMENT, "the security header is missing");
    }
    let given: Vec<Entry> =
        server.entries.iter().filter(|entry| entry.uid == uid).cloned().collect();
    let make = match request.uri().path() {
        FETCH_X509_SVID => svids,
        FETCH_X509_BUNDLES => bundles,
        _ => return refused(UNIMPLEMENTED, "only X.509 identities and bundles are given"),
    };
    if given.is_empty() {
        tracing::warn!(uid, "nothing is given to this user");
        return refused(PERMISSION_DENIED, "no identity is given to this user");
    }
    let first = match make(server, &given) {
        Ok(first) => first,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "no identity can be issued");
            return refused(INTERNAL, "no identity can be issued");
        }
    };
    let (sender, pieces) = mpsc::channel(1);
    let server = Rc::clone(server);
    drop(tokio::task::spawn_local(async move {
        let half = Duration::from_millis(u64::from(server.ttl_s) * 500);
        let mut message = first;
        while sender.send(message).await.is_ok() {
            tokio::select! {
                () = tokio::time::sleep(half) => {}
                () = sender.closed() => return,
            }
            message = match make(&server, &given) {
                Ok(next) => next,
                Err(error) => {
                    // The stream ends; whoever asks calls again.
                    tracing::error!(error = format!("{error:#}"), "no identity can be issued");
                    return;
                }
            };
        }
    }));
    let mut response = Response::new(Reply::Stream(pieces));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

fn refused(status: u8, why: &'static str) -> Response<Reply> {
    let mut response = Response::new(Reply::Empty);
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", u16::from(status).into());
    headers.insert("grpc-message", HeaderValue::from_static(why));
    response
}

fn svids(server: &Server, entries: &[Entry]) -> Result<Bytes> {
    let svids: Vec<Svid> = entries.iter().map(|one| issue(server, one)).collect::<Result<_>>()?;
    Ok(frame::framed(&encode_svids(&svids)).into())
}

fn bundles(server: &Server, entries: &[Entry]) -> Result<Bytes> {
    let bundle = certificates(server.authority.trust_pem())?;
    let mut domains: Vec<String> = entries
        .iter()
        .filter_map(|entry| Some(format!("spiffe://{}", domain(&entry.spiffe)?)))
        .collect();
    domains.dedup();
    let all: Vec<_> = domains.into_iter().map(|domain| (domain, bundle.clone())).collect();
    Ok(frame::framed(&encode_bundles(&all)).into())
}

fn domain(spiffe: &str) -> Option<&str> {
    spiffe.strip_prefix("spiffe://")?.split('/').next()
}

/// A fresh key and certificate, entered into the register before it is given out.
fn issue(server: &Server, entry: &Entry) -> Result<Svid> {
    let mut wish = LeafRequest::spiffe(&entry.spiffe, now_s());
    wish.valid_s = server.ttl_s.into();
    wish.names.clone_from(&server.names);
    let identity = server.authority.issue(&wish)?;
    let mut register = moat_ca::open_issuing(&server.dir, &server.authority)?;
    let serial = register.enter(&moat_ca::first_certificate(identity.chain_pem.as_bytes())?)?;
    register.save()?;
    tracing::info!(id = entry.spiffe, uid = entry.uid, %serial, "issued");
    Ok(Svid {
        spiffe_id: entry.spiffe.clone(),
        chain: certificates(&identity.chain_pem)?,
        key: pem::decode(pem::PRIVATE_KEY, &identity.key_pem)
            .map_err(|_| anyhow::anyhow!("the key that was made cannot be read"))?
            .to_vec(),
        bundle: certificates(server.authority.trust_pem())?,
    })
}

fn certificates(text: &str) -> Result<Vec<Vec<u8>>> {
    let all = CertificateDer::pem_slice_iter(text.as_bytes());
    all.map(|one| Ok(one?.to_vec())).collect()
}

/// The body of an answer: messages in their frames, and trailers when there are no more.
enum Reply {
    Empty,
    Stream(mpsc::Receiver<Bytes>),
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Waker<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let Reply::Stream(pieces) = this else { return Poll::Ready(None) };
        pieces.poll_recv(cx).map(|piece| match piece {
            Some(piece) => Some(Ok(Frame::data(piece))),
            None => {
                *this = Reply::Empty;
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                Some(Ok(Frame::trailers(trailers)))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Reply::Empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_user_and_an_id() {
        let read = entry("uid:1000=spiffe://bank.test/teller").unwrap();
        assert_eq!((read.uid, read.spiffe.as_str()), (1000, "spiffe://bank.test/teller"));
        for bad in
            ["", "uid:1000", "uid:x=spiffe://bank.test/a", "gid:1=spiffe://bank.test/a", "uid:1=a"]
        {
            assert!(entry(bad).is_err(), "{bad}");
        }
    }
}
