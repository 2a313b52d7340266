//! Stage 8: the request goes to the service, and its answer's head comes back.
//!
//! A request is sent again if not a byte of it was sent before; what may have reached the service
//! only where the route says that this does no harm. What has no answer is *unknown*, never
//! *failed*.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::response::Parts as AnswerHead;
use http::{Method, StatusCode, Uri};
use http_body_util::BodyExt;
use moat_mask::{Captures, Extractor};
use moat_model::code::http::SLOW_BODY;
use moat_model::code::limit::{CONCURRENCY, LATE};
use moat_model::code::upstream as codes;
use moat_model::{Refusal, Stage};
use moat_net::admission::Class;
use moat_net::body::{Error, Incoming};
use moat_net::cluster::Nobody;
use moat_net::pool::Lease;
use moat_net::service::{Service, Target, Verdict};

use crate::body::{OutBody, Upload};
use crate::call::{Call, Sent};
use crate::generation::{Images, RouteRules};
use crate::headers;
use crate::mask::Outbound;
use crate::record::Intended;
use crate::table;
use crate::tries;

/// A service's answer, body still to come.
pub(crate) struct Answer {
    pub(crate) rules: Arc<RouteRules>,
    pub(crate) head: AnswerHead,
    pub(crate) incoming: Incoming,
    pub(crate) lease: Lease<OutBody>,
}

/// Sends the request, whose intent is durable where it needs one.
///
/// # Errors
/// A refusal at [`Stage::Forward`]. `call.sent` says whether the service may have seen something.
pub(crate) async fn forward(call: &Call, intended: Intended) -> Result<Answer, Refusal> {
    let Outbound { rules, service, key, request, upload, .. } = *intended.into_outbound();
    if let Some(upload) = &upload {
        call.set_upload(upload);
    }
    let sent_at = Instant::now();
    let way = Way {
        service: &service,
        key,
        class: rules.class,
        is_harmless: !rules.changes(),
        may_repeat: tries::may_repeat(&rules, request.headers()),
        try_wait: rules.try_wait,
    };
    let sending = pin!(send(call, way, request));
    let answered = match &upload {
        None => call.within(call.deadline(), sending).await,
        // Boxed like all that few calls need: its state would make every call's larger.
        Some(upload) => Box::pin(while_uploading(call, &rules, upload, sending)).await,
    };
    call.upstream_us.set(micros(sent_at.elapsed()));
    if let Some(upload) = &upload {
        call.bytes_in.set(upload.bytes.get());
        if let Some(code) = upload.cut.get() {
            tries::finish(call, Some(Verdict::Neutral));
            let found = call.session.findings.as_ref().and_then(|f| f.in_body());
            return Err(Refusal::new(Stage::Decode, found.map_or(code, |found| found.code)));
        }
        if answered.is_none() && upload.is_awaited.get() && !upload.is_done.get() {
            tries::finish(call, Some(Verdict::Neutral));
            return Err(Refusal::new(Stage::Decode, &SLOW_BODY));
        }
    }
    let answered = answered.unwrap_or_else(|| Err(no_time(call)));
    let (response, lease) = answered.inspect_err(|refusal| tries::finish_refused(call, refusal))?;
    let (head, incoming) = response.into_parts();
    Ok(Answer { rules, head, incoming, lease })
}

/// The time is over: what that means depends on whether anything was sent.
fn no_time(call: &Call) -> Refusal {
    let code = if call.sent.get() == Sent::Nothing { &codes::CONNECT } else { &codes::TIMEOUT };
    Refusal::new(Stage::Forward, code).because("the call's time is over")
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Waits for the answer's head while the body is still going up: the clock starts anew with every
/// part that passes.
async fn while_uploading<T>(
    call: &Call,
    rules: &RouteRules,
    upload: &Upload,
    mut sending: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    loop {
        let progress = upload.progress.get();
        let due = if upload.is_done.get() {
            call.deadline().max(progress + rules.deadline)
        } else {
            progress + rules.stream_idle
        };
        let now = Instant::now();
        if due <= now {
            return None;
        }
        // Looked at again in time for the body to have ended meanwhile, which brings it nearer.
        let look = due.min(now + rules.deadline);
        if let Some(done) = call.within(look, sending.as_mut()).await {
            return Some(done);
        }
    }
}

type Sending = Result<(http::Response<Incoming>, Lease<OutBody>), Refusal>;

/// What one try came to.
enum Tried {
    Answered(http::Response<Incoming>, Lease<OutBody>),
    /// Not a byte was sent.
    Unsent(http::Request<OutBody>, Refusal),
    /// Something may have reached the service.
    Lost(Refusal),
}

/// Where a call goes and how often it may.
#[derive(Clone, Copy)]
struct Way<'a> {
    service: &'a Service<OutBody>,
    /// What a ring goes by.
    key: u64,
    class: Class,
    /// Whether it does no harm if its fate stays unknown.
    is_harmless: bool,
    /// Whether it may be sent again once it was sent.
    may_repeat: bool,
    /// Longest wait for one try's answer where there may be another.
    try_wait: Duration,
}

/// Tries until there is an answer, or no other try may be made: for want of time, of budget, or
/// because the service may have carried it out already.
async fn send(call: &Call, way: Way<'_>, request: http::Request<OutBody>) -> Sending {
    let mut next = request;
    let full = |_| Refusal::new(Stage::Forward, &CONCURRENCY);
    call.tries.enter(way.service.enter(way.class).map_err(full)?);
    way.service.budget().earn();
    let before = call.tries.count();
    loop {
        if Instant::now() >= call.deadline() {
            let is_unsent = call.sent.get() == Sent::Nothing;
            let code = if is_unsent { &LATE } else { &codes::TIMEOUT };
            return Err(Refusal::new(Stage::Forward, code));
        }
        let is_last = call.tries.count() - before >= tries::RETRIES_MAX;
        let spare = (way.may_repeat && !is_last).then(|| tries::copy(&next)).flatten();
        let has_spare = spare.is_some();
        let (refused, again) = match one_try(call, way, next, has_spare).await? {
            Tried::Answered(response, lease) => {
                let is_away = matches!(response.status().as_u16(), 502..=504);
                match spare {
                    Some(spare) if is_away && way.service.budget().spend() => {
                        tries::land(call, None);
                        call.note_lost();
                        drop((response, lease));
                        next = spare;
                        pause(call, way).await;
                        continue;
                    }
                    _ => return Ok((response, lease)),
                }
            }
            Tried::Unsent(request, refused) => (refused, (!is_last).then_some(request)),
            Tried::Lost(refused) => {
                call.note_lost();
                (refused, spare)
            }
        };
        tries::land_refused(call, &refused);
        match again {
            Some(again) if way.service.budget().spend() => next = again,
            _ => return Err(refused),
        }
        pause(call, way).await;
    }
}

/// Waits before an endpoint is tried again. Another one is tried at once.
async fn pause(call: &Call, way: Way<'_>) {
    let tried = call.tries.endpoints();
    let others = way.service.others(&tried);
    if others == 0 {
        let until = Instant::now() + tries::pause(way.service.chance().next());
        tokio::time::sleep_until(until.min(call.deadline()).into()).await;
    }
}

async fn one_try(
    call: &Call,
    way: Way<'_>,
    mut request: http::Request<OutBody>,
    has_spare: bool,
) -> Result<Tried, Refusal> {
    let tried = call.tries.endpoints();
    let target = way.service.target(way.key, way.is_harmless, &tried);
    let Target { pool, flight } = target.map_err(|nobody| no_target(call, nobody))?;
    call.tries.board(flight);
    let mut lease = match pool.lease(call.deadline()).await {
        Ok(lease) => lease,
        Err(none) => {
            call.upstream_tls.set(none.chosen);
            return Ok(Tried::Unsent(request, none.refusal));
        }
    };
    tries::state_time(request.headers_mut(), call);
    call.begin_sending(lease.negotiated());
    if let Some(stream) = call.stream() {
        stream.goes_to(lease.belief());
    }
    call.tries.depart();
    let sending = lease.send(request);
    let answered = if has_spare {
        let until = call.deadline().min(Instant::now() + way.try_wait);
        match call.within(until, pin!(sending)).await {
            Some(answered) => answered,
            None => return Ok(Tried::Lost(Refusal::new(Stage::Forward, &codes::TIMEOUT))),
        }
    } else {
        sending.await
    };
    Ok(match answered {
        Ok(response) => {
            call.tries.head(&response, call.is_grpc);
            Tried::Answered(response, lease)
        }
        Err(failed) => match failed.unsent {
            Some(unsent) => {
                call.note_unsent();
                let refusal = Refusal::new(Stage::Forward, &codes::CONNECT);
                Tried::Unsent(unsent, refusal.because(failed.error))
            }
            None => Tried::Lost(broken(&failed.error)),
        },
    })
}

/// There is no endpoint for a try. What was sent before stays sent.
fn no_target(call: &Call, nobody: Nobody) -> Refusal {
    let code = match nobody {
        Nobody::Unknown => &codes::NO_ENDPOINT,
        Nobody::Broken { retry_ms } => {
            call.tries.retry_ms.set(retry_ms);
            &codes::BROKEN_CIRCUIT
        }
    };
    match call.sent.get() {
        Sent::Nothing => Refusal::new(Stage::Forward, code),
        Sent::Perhaps => Refusal::new(Stage::Forward, &codes::BROKEN).because(code.id),
    }
}

/// What an error of the way to a service amounts to: an answer that breaks the protocol is another
/// thing than a connection that broke.
pub(crate) fn broken(error: &Error) -> Refusal {
    let is_malformed = match error {
        Error::Refused(refused) => *refused.code == codes::BAD_ANSWER,
        Error::Http2(error) => error.is_parse() || error.is_parse_too_large(),
        Error::Io(_) | Error::Unsendable | Error::Gone => false,
    };
    let code = if is_malformed { &codes::BAD_ANSWER } else { &codes::BROKEN };
    Refusal::new(Stage::Forward, code).because(error)
}

/// Reads the state before a change.
///
/// # Errors
/// `BEFORE_IMAGE` at [`Stage::Forward`]; the change itself was not sent.
pub(crate) async fn read_before(
    call: &Call,
    outbound: &Outbound,
    images: &Images,
) -> Result<Captures, Refusal> {
    let no = |why: &dyn core::fmt::Display| {
        Refusal::new(Stage::Forward, &codes::BEFORE_IMAGE).because(why)
    };
    let path = table::fill_path(&images.read, &outbound.params);
    let uri = Uri::builder().scheme("https").authority(&*outbound.authority).path_and_query(path);
    let mut request = http::Request::new(OutBody::Full(None));
    *request.method_mut() = Method::GET;
    *request.uri_mut() = uri.build().map_err(|e| no(&e))?;
    headers::state_caller(request.headers_mut(), call);
    headers::put(request.headers_mut(), "host", &outbound.authority);
    headers::put(request.headers_mut(), "accept", "application/json");
    headers::put(request.headers_mut(), "accept-encoding", "identity");
    // It may be read as often as the budget allows: it changes nothing.
    let way = Way {
        service: &outbound.service,
        key: outbound.key,
        class: outbound.rules.class,
        is_harmless: true,
        may_repeat: true,
        try_wait: outbound.rules.try_wait,
    };
    let reading = async {
        let (response, lease) = send(call, way, request).await?;
        if response.status() != StatusCode::OK || !headers::is_json(response.headers()) {
            return Err(no(&format_args!("status {}", response.status())));
        }
        let most = outbound.rules.route.answer_bytes_max;
        let captures = extract(response.into_body(), Extractor::new(&images.plan), most).await?;
        lease.finish();
        Ok(captures)
    };
    let read = tokio::time::timeout_at(call.deadline().into(), reading).await;
    // Only the reading went out: whatever fails now, the change itself was not sent.
    call.forget_sending();
    let read = read.unwrap_or_else(|_| Err(Refusal::new(Stage::Forward, &codes::TIMEOUT)));
    match &read {
        Ok(_) => tries::finish(call, None),
        Err(refusal) => tries::finish_refused(call, refusal),
    }
    read.map_err(|refusal| no(&refusal))
}

async fn extract(
    mut incoming: Incoming,
    mut extractor: Extractor,
    most: u64,
) -> Result<Captures, Refusal> {
    let mut length = 0_u64;
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|e| broken(&e))?;
        let Ok(data) = frame.into_data() else { continue };
        length += u64::try_from(data.len()).unwrap_or(u64::MAX);
        if length > most {
            return Err(Refusal::new(Stage::Forward, &codes::ANSWER_TOO_LONG));
        }
        extractor.push(&data).map_err(|e| Refusal::new(Stage::Mask, e.code()).because(e))?;
    }
    extractor.finish().map_err(|e| Refusal::new(Stage::Mask, e.code()).because(e))
}
