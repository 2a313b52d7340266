//! The port: accepts connections, tells gRPC from JSON, drains at the end.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service as _;

use crate::grpc::{self, Service};
use crate::problem::Problem;
use crate::proto::accounts_server::AccountsServer;
use crate::rest;
use crate::store::Store;
use crate::tls::is_caller;

/// Most connections at one time; more wait in the listen queue.
const CONNECTIONS_MAX: usize = 1024;
/// Most requests at one time on one connection.
const STREAMS_MAX: u32 = 128;
/// Longest request head, in bytes.
const HEAD_BYTES_MAX: u32 = 16 * 1024;
/// Longest handshake.
const HANDSHAKE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Longest wait for a request head, and so the longest rest of an HTTP/1.1 connection.
const HEAD_WAIT_MAX: Duration = Duration::from_secs(60);
/// How often a silent HTTP/2 peer is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// Longest drain.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(10);

/// What every connection needs.
struct Shared {
    store: Arc<Store>,
    grpc: AccountsServer<Service>,
    acceptor: TlsAcceptor,
    allow_spiffe: String,
}

/// Whether the caller of a connection is the allowed one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    Allowed,
    Other,
}

/// Serves until `stop` is ready, then drains.
///
/// # Errors
/// The listening socket fails for good.
pub async fn serve(
    listener: TcpListener,
    tls: rustls::ServerConfig,
    allow_spiffe: String,
    store: Arc<Store>,
    stop: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let (stopping, watched) = watch::channel(false);
    let shared = Arc::new(Shared {
        grpc: grpc::service(Arc::clone(&store), watched),
        store,
        acceptor: TlsAcceptor::from(Arc::new(tls)),
        allow_spiffe,
    });
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted?,
            () = &mut stop => break,
        };
        if let Some((stream, permit)) = accepted {
            tokio::spawn(connection(Arc::clone(&shared), stream, permit, graceful.watcher()));
        }
    }
    drop(listener);
    let _ = stopping.send(true);
    // Whoever is still there after the longest drain is cut off.
    let _ = tokio::time::timeout(DRAIN_WAIT_MAX, graceful.shutdown()).await;
    Ok(())
}

/// The next connection, once there is room for it; nothing if it was gone before we took it.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<Option<(TcpStream, OwnedSemaphorePermit)>> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(std::io::Error::other)?;
    match listener.accept().await {
        Ok((stream, _)) => {
            stream.set_nodelay(true)?;
            Ok(Some((stream, permit)))
        }
        Err(_) => {
            // Out of descriptors, or the peer reset: wait a little instead of spinning.
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(None)
        }
    }
}

async fn connection(
    shared: Arc<Shared>,
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    watcher: Watcher,
) {
    let handshake = tokio::time::timeout(HANDSHAKE_WAIT_MAX, shared.acceptor.accept(stream));
    let Ok(Ok(stream)) = handshake.await else { return };
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let allowed = is_caller(leaf, &shared.allow_spiffe);
    let caller = if allowed { Caller::Allowed } else { Caller::Other };
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(dispatch(&shared, caller, request).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT_MAX)
        .max_buf_size(HEAD_BYTES_MAX as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX);
    let served = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    // A connection that breaks concerns only its two ends.
    let _ = watcher.watch(served).await;
    drop(permit);
}

async fn dispatch(shared: &Shared, caller: Caller, request: Request<Incoming>) -> Response<Body> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let is_grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let refusal = "Your certificate does not name the caller of this service";
    match (caller, is_grpc) {
        (Caller::Other, true) => Status::permission_denied(refusal).into_http(),
        (Caller::Other, false) => {
            let problem = Problem::new(StatusCode::FORBIDDEN, "caller", refusal);
            problem.into_response().map(Body::new)
        }
        (Caller::Allowed, true) if request.version() != Version::HTTP_2 => {
            let problem = Problem::new(StatusCode::BAD_REQUEST, "version", "gRPC needs HTTP/2");
            problem.into_response().map(Body::new)
        }
        (Caller::Allowed, true) => {
            let answered = shared.grpc.clone().call(request).await;
            answered.unwrap_or_else(|never| match never {})
        }
        (Caller::Allowed, false) => rest::handle(&shared.store, request).await.map(Body::new),
    }
}
