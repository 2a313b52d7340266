//! A Unix socket for programs on this machine that ask for decisions: HTTP/2 without TLS. Who asks is
//! the user that the kernel tells; whether it may, is looked at with each question.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Instant;

use http::Request;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use moat_model::code::http::TOO_MANY_CONNECTIONS;
use moat_net::activity::Activity;
use moat_net::body::Incoming;
use moat_net::client_io::ClientIo;
use moat_net::frames::{Counting, Opened, broke_protocol};
use tokio::net::{UnixListener, UnixStream};

use crate::doors;
use crate::pipeline::{http2_builder, request_of, until_end};
use crate::record;
use crate::session::Session;
use crate::worker::{ACCEPT_REST, Worker};

/// Accepts connections on one socket until the role drains.
pub(crate) async fn listen(worker: Rc<Worker>, listener: usize, socket: UnixListener) {
    let draining = worker.draining();
    tokio::pin!(draining);
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = &mut draining => return,
        };
        match accepted {
            Ok((stream, _)) => {
                drop(tokio::task::spawn_local(serve(Rc::clone(&worker), listener, stream)));
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

async fn serve(worker: Rc<Worker>, listener: usize, stream: UnixStream) {
    let nowhere = ([0, 0, 0, 0], 0).into();
    let Some(_counted) = worker.count_connection(listener) else {
        doors::turned_away(&worker, listener, nowhere, &TOO_MANY_CONNECTIONS);
        return;
    };
    let uid = match stream.peer_cred() {
        Ok(credentials) => credentials.uid(),
        Err(error) => {
            tracing::error!(%error, "the kernel does not tell who connects");
            return;
        }
    };
    let activity = Activity::new(Instant::now());
    let session = Session::local(worker, listener, uid, &activity);
    let (calls, opened) = (Rc::clone(&session), Opened::default());
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let answered = request_of(Rc::clone(&calls), request.map(Incoming::Http2));
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let io = TokioIo::new(ClientIo::new(Counting::new(stream, opened.clone()), activity));
    let connection = http2_builder().serve_connection(io, service);
    let ended = until_end(&session, connection, http2::Connection::graceful_shutdown).await;
    let broke = ended.as_ref().is_err_and(broke_protocol) || opened.is_flood();
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
    let refused = opened.get().saturating_sub(session.begun());
    if broke || (refused > 0 && !session.worker.is_draining()) {
        record::broken_session(&session, refused).await;
    }
}
