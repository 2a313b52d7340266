//! The whole way, in order: once per connection, once per request. Branches live here, work lives
//! in the stages.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use moat_model::window::Part;
use moat_model::{Refusal, Stage};
use moat_net::activity::Activity;
use moat_net::body::Incoming;
use moat_net::client_io::ClientIo;
use moat_net::frames::{Counting, Opened, broke_protocol};
use moat_net::http1::server::{self, Findings};
use moat_net::local::LocalExecutor;

use crate::accept::Accepted;
use crate::body::ReplyBody;
use crate::call::Call;
use crate::finish::Finishing;
use crate::live::Live;
use crate::session::{CALLS_MAX, Caller, Session};
use crate::window::Marks;
use crate::worker::Worker;
use crate::{
    authorize, decode, doors, enforce, forward, handshake, identify, iso8583, live, mask, record,
    reply, route, tokens,
};

/// Most streams that a caller has reset before they were accepted.
const PENDING_RESETS_MAX: usize = 20;
/// Most streams reset for errors of the caller's.
const ERROR_RESETS_MAX: usize = 128;
/// HTTP/2 receive windows, and the most bytes that wait to be sent on one stream.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// Longest HTTP/2 head that the library hands on, in bytes as RFC 9113 §10.5.1 counts them. Above
/// our own bound, so that what is over that is refused and recorded like any other call; the
/// library answers or ends what is over this one, and the connection's record counts it.
const LIBRARY_HEAD_BYTES_MAX: u32 = 64 * 1024;

/// One connection, from the accepted socket to its end.
pub(crate) async fn connection(worker: Rc<Worker>, accepted: Accepted) {
    // Both places are held until a refusal is recorded: so they also bound what waits for the log.
    let Accepted { stream, remote, listener, counted: _counted, unfinished } = accepted;
    let (marks, started) = (Marks::from(Part::Tls), Instant::now());
    let handshaken = match handshake::handshake(&worker, listener, remote, stream).await {
        Ok(handshaken) => handshaken,
        Err(refusal) => {
            worker.counters.refuse(&refusal);
            worker.windows.end(&marks, started, Part::Tls);
            worker.windows.connected(&marks, started);
            doors::refused(&worker, listener, remote, &refusal).await;
            return;
        }
    };
    drop(unfinished);
    worker.windows.end(&marks, started, Part::Tls);
    let identified = identify::identify(&worker, &handshaken).await;
    worker.windows.end(&marks, started, Part::Identity);
    worker.windows.connected(&marks, started);
    worker.windows.leave();
    match identified {
        Ok(caller) => {
            let generation = worker.generation();
            let dialect = generation.shared.listeners.get(listener).map(|l| l.messages.clone());
            drop(generation);
            match dialect.flatten() {
                Some(dialect) => iso8583::serve(worker, handshaken, caller, dialect).await,
                None => serve(worker, handshaken, caller).await,
            }
        }
        Err(unrecorded) => tracing::error!(%unrecorded, "a refused identity was not recorded"),
    }
}

/// Serves HTTP on an identified connection until it ends or the role drains.
async fn serve(worker: Rc<Worker>, handshaken: handshake::Handshaken, caller: Caller) {
    // Boxed one by one: either would make the state of the other's connections larger.
    if handshaken.is_http2 {
        Box::pin(serve_http2(worker, handshaken, caller)).await;
    } else {
        Box::pin(serve_http1(worker, handshaken, caller)).await;
    }
}

async fn serve_http1(worker: Rc<Worker>, handshaken: handshake::Handshaken, caller: Caller) {
    let findings = Rc::<Findings>::default();
    let session = Session::new(worker, &handshaken, caller, None, Some(Rc::clone(&findings)));
    let _place = Live::enter(&session);
    let service = |request| request_of(Rc::clone(&session), request);
    let (control, dates) = (Rc::clone(&session.control), &session.worker.dates);
    let served = server::serve(handshaken.tls, findings, control, dates, service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection ended with an error");
    }
    if let Some(code) = session.cut.code() {
        record::cut_session(&session, code).await;
    }
}

async fn serve_http2(worker: Rc<Worker>, handshaken: handshake::Handshaken, caller: Caller) {
    let activity = Activity::new(Instant::now());
    let session = Session::new(worker, &handshaken, caller, Some(Rc::clone(&activity)), None);
    let _place = Live::enter(&session);
    let (calls, opened) = (Rc::clone(&session), Opened::default());
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let answered = request_of(Rc::clone(&calls), request.map(Incoming::Http2));
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let counting = Counting::new(handshaken.tls, opened.clone());
    let io = TokioIo::new(ClientIo::new(counting, activity));
    let connection = http2_builder().serve_connection(io, service);
    let ended = until_end(&session, connection, http2::Connection::graceful_shutdown).await;
    let cut = session.cut.code();
    if let Some(code) = cut {
        record::cut_session(&session, code).await;
    }
    let broke = ended.as_ref().is_err_and(broke_protocol) || opened.is_flood();
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
    // Streams that a caller opens while the role drains, or after it was cut, are not its fault.
    let refused = opened.get().saturating_sub(session.begun());
    if broke || (refused > 0 && cut.is_none() && !session.worker.is_draining()) {
        record::broken_session(&session, refused).await;
    }
}

/// Runs a connection of HTTP/2 until it ends: by itself, or soon after the role drains or the caller
/// is no longer believed.
pub(crate) async fn until_end<C>(
    session: &Session,
    connection: C,
    shut_down: fn(Pin<&mut C>),
) -> Result<(), hyper::Error>
where
    C: Future<Output = Result<(), hyper::Error>>,
{
    tokio::pin!(connection);
    tokio::select! {
        ended = &mut connection => return ended,
        () = session.worker.draining() => {}
        () = session.cut.come() => {}
    }
    shut_down(connection.as_mut());
    let cut = async {
        session.cut.come().await;
        tokio::time::sleep(live::GRACE).await;
    };
    tokio::select! {
        ended = &mut connection => ended,
        () = cut => Ok(()),
    }
}

pub(crate) fn http2_builder() -> http2::Builder<LocalExecutor> {
    let mut builder = http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(u32::from(CALLS_MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(ERROR_RESETS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(LIBRARY_HEAD_BYTES_MAX)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

/// One request of a session. A caller that goes away does not undo what was begun.
pub(crate) async fn request_of(
    session: Rc<Session>,
    request: Request<Incoming>,
) -> Response<ReplyBody> {
    let open = session.activity.as_ref().map(Activity::open);
    let place = session.place().await;
    let index = session.next_index();
    session.worker.counters.calls.add();
    let call = Call::new(&session, &request);
    let work = session.worker.work();
    // Boxed: an argument stands twice in the state of each stage that it goes through.
    let begun = exchange(Rc::clone(&call), index, Box::new(request));
    Finishing::new(call, (place, work), begun).await.map(|body| body.holding(open))
}

/// One request, from its head to its answer.
async fn exchange(
    call: Rc<Call>,
    index: u64,
    request: Box<Request<Incoming>>,
) -> Response<ReplyBody> {
    if let Caller::Refused(refusal, receipt) = &call.session.caller {
        return reply::refuse(&call, refusal, receipt);
    }
    if let Err(refusal) = still_open(&call) {
        return Box::pin(refuse(&call, refusal)).await;
    }
    let found = call.session.findings.as_ref().and_then(|findings| findings.refusal_of(index));
    let done = match found {
        Some(found) => Err(Refusal::new(Stage::Decode, found.code).because(found.why)),
        // Boxed: calls for services must not carry its state.
        None if enforce::is_asked(&call) => Box::pin(enforce::answer(&call, *request)).await,
        None => stages(&call, request).await,
    };
    let response = match done {
        Ok(response) => response,
        Err(refusal) => {
            call.end_refused();
            let response = Box::pin(refuse(&call, refusal)).await;
            call.end(Part::AuditOutcome);
            response
        }
    };
    call.finish(response.status().as_u16());
    if let Some(figures) = call.route().and_then(|at| call.generation.figures.get(at)) {
        figures.add(response.status().as_u16(), call.started.elapsed());
    }
    response
}

/// A caller may have been cut while its body came, or the state before was read: what has not begun
/// to change anything does not begin.
pub(crate) fn still_open(call: &Call) -> Result<(), Refusal> {
    match call.session.closed() {
        Some(code) => Err(Refusal::new(Stage::Identify, code)),
        None => Ok(()),
    }
}

async fn stages(
    call: &Rc<Call>,
    request: Box<Request<Incoming>>,
) -> Result<Response<ReplyBody>, Refusal> {
    let mut decoded = decode::decode(call, request).await?;
    tokens::fetch_key(call, &decoded).await;
    call.end(Part::Decode);
    let permit = authorize::authorize(call, &mut decoded)?;
    call.end(Part::Policy);
    let routed = route::route(call, permit, decoded)?;
    let outbound = Box::new(mask::outbound(call, routed)?);
    call.end(Part::Mask);
    still_open(call)?;
    let before = match &outbound.rules.images {
        // Boxed: few calls need it, and its state would make every call's larger.
        Some(images) => {
            let before = Box::pin(forward::read_before(call, &outbound, images)).await?;
            still_open(call)?;
            Some(before)
        }
        None => None,
    };
    if before.is_some() {
        call.end(Part::ReadBefore);
    }
    call.check_time()?;
    let prepared = iso8583::prepare(call, &outbound)?;
    call.begin(Part::AuditIntent);
    let intended = record::intent(call, outbound, before).await?;
    call.end(Part::AuditIntent);
    let inbound = match prepared {
        // Boxed like all that few calls need.
        Some(prepared) => {
            let inbound = Box::pin(iso8583::bridged(call, intended, prepared)).await?;
            call.end(Part::Upstream);
            inbound
        }
        None => {
            let answer = forward::forward(call, intended).await?;
            call.end(Part::Upstream);
            mask::inbound(call, answer).await?
        }
    };
    call.end(Part::MaskBack);
    let answerable = record::outcome(call, inbound).await?;
    call.end(Part::AuditOutcome);
    Ok(reply::reply(call, answerable))
}

/// A refusal takes the same way: recorded, then answered.
pub(crate) async fn refuse(call: &Rc<Call>, refusal: Refusal) -> Response<ReplyBody> {
    call.session.worker.counters.refuse(&refusal);
    tracing::debug!(trace = call.trace.hex(), %refusal, "refused");
    match record::refusal(call, &refusal).await {
        Ok(receipt) => reply::refuse(call, &refusal, &receipt),
        Err(unrecorded) => reply::withhold(call, &unrecorded),
    }
}
