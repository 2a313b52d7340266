//! `POST /add-checkpoint` over HTTP/1.1. One thread: requests are answered one after the other.
//!
//! Plain HTTP: what comes in is signed by the log, what goes out by the witness, and neither holds
//! a record. Put a TLS server before it if sizes and roots are not for everybody.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use moat_model::Clock;
use moat_tlog::witness::REQUEST_BYTES_MAX;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use crate::witness::{Witness, WitnessError};

/// The path, below the submission prefix, which is empty here.
pub const PATH: &str = "/add-checkpoint";
/// Most connections at once.
const CONNECTIONS_MAX: usize = 64;
/// Longest time for a request's head.
const HEAD: Duration = Duration::from_secs(5);
/// Longest time for a request's body.
const BODY: Duration = Duration::from_secs(5);
/// Longest life of a connection.
const CONNECTION: Duration = Duration::from_secs(60);
/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Pause after the system had no descriptor for a connection.
const NO_DESCRIPTOR: Duration = Duration::from_millis(50);

/// Serves until the process ends.
///
/// # Errors
/// When the listener cannot be used.
pub fn serve(witness: Witness, listener: TcpListener, clock: Arc<dyn Clock>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, accept(witness, listener, clock))
}

async fn accept(witness: Witness, listener: TcpListener, clock: Arc<dyn Clock>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let witness = Rc::new(RefCell::new(witness));
    let limit = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(NO_DESCRIPTOR).await;
            continue;
        };
        // Beyond the bound a connection is closed: whoever asks comes again.
        let Ok(place) = Arc::clone(&limit).try_acquire_owned() else { continue };
        let (witness, clock) = (Rc::clone(&witness), Arc::clone(&clock));
        let service = service_fn(move |request| {
            let (witness, clock) = (Rc::clone(&witness), Arc::clone(&clock));
            async move { Ok::<_, Infallible>(answer(&witness, &*clock, request).await) }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES_MAX);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        drop(tokio::task::spawn_local(async move {
            let _place = place;
            if let Ok(Err(error)) = tokio::time::timeout(CONNECTION, connection).await {
                tracing::debug!(%error, "a connection ended with an error");
            }
        }));
    }
}

async fn answer(
    witness: &RefCell<Witness>,
    clock: &dyn Clock,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    if request.uri().path() != PATH {
        return response(404, TEXT, "POST /add-checkpoint\n".to_owned());
    }
    if request.method() != Method::POST {
        return response(405, TEXT, "POST only\n".to_owned());
    }
    let body = Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect();
    let body = match tokio::time::timeout(BODY, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return response(400, TEXT, "the request is too long or broken\n".to_owned()),
        Err(_) => return response(408, TEXT, "the request came too slowly\n".to_owned()),
    };
    // No wait within: comparing and storing are one step for every other connection.
    match witness.borrow_mut().answer(&body, clock) {
        Ok(lines) => response(200, TEXT, lines),
        Err(WitnessError::Refused(refusal)) => {
            tracing::info!(status = refusal.status(), %refusal, "a checkpoint was refused");
            response(refusal.status(), refusal.content_type(), refusal.body())
        }
        Err(error @ WitnessError::Unable(_)) => {
            tracing::error!(%error, "a checkpoint was not cosigned");
            response(500, TEXT, "the witness cannot answer now\n".to_owned())
        }
    }
}

fn response(status: u16, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
