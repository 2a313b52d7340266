//! Stage 8: the request goes to the service, and its answer's head comes back.
//!
//! A request is sent again only if not a byte of it was sent before. What may have reached the
//! service and has no answer is *unknown*, never *failed*.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::response::Parts as AnswerHead;
use http::{Method, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use moat_mask::{Captures, Extractor};
use moat_model::code::http::SLOW_BODY;
use moat_model::code::upstream as codes;
use moat_model::{Refusal, Stage};
use moat_net::guard;
use moat_net::pool::{Lease, Pool};

use crate::body::{OutBody, Upload};
use crate::call::Call;
use crate::generation::{Images, RouteRules};
use crate::headers;
use crate::mask::Outbound;
use crate::record::Intended;
use crate::table;

/// Most times a request is sent again after it was not sent at all.
const RETRIES_MAX: usize = 2;

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
    let Outbound { rules, pool, request, upload, .. } = intended.into_outbound();
    if let Some(upload) = &upload {
        call.set_upload(upload);
    }
    let sent_at = Instant::now();
    let sending = send(call, &pool, request);
    let answered = match &upload {
        None => tokio::time::timeout_at(call.deadline().into(), sending).await.ok(),
        // Boxed like all that few calls need: its state would make every call's larger.
        Some(upload) => Box::pin(while_uploading(call, &rules, upload, sending)).await,
    };
    call.upstream_us.set(micros(sent_at.elapsed()));
    if let Some(upload) = &upload {
        call.bytes_in.set(upload.bytes.get());
        if let Some(code) = upload.cut.get() {
            let found = call.session.findings.as_ref().and_then(|f| f.in_body());
            return Err(Refusal::new(Stage::Decode, found.map_or(code, |found| found.code)));
        }
        if answered.is_none() && upload.is_awaited.get() && !upload.is_done.get() {
            return Err(Refusal::new(Stage::Decode, &SLOW_BODY));
        }
    }
    let (response, lease) =
        answered.unwrap_or_else(|| Err(Refusal::new(Stage::Forward, &codes::TIMEOUT)))?;
    let (head, incoming) = response.into_parts();
    Ok(Answer { rules, head, incoming, lease })
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
    sending: impl Future<Output = T>,
) -> Option<T> {
    tokio::pin!(sending);
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
        if let Ok(done) = tokio::time::timeout_at(look.into(), &mut sending).await {
            return Some(done);
        }
    }
}

type Sending = Result<(http::Response<Incoming>, Lease<OutBody>), Refusal>;

async fn send(call: &Call, pool: &Rc<Pool<OutBody>>, request: http::Request<OutBody>) -> Sending {
    let mut request = Some(request);
    let mut tries = 0;
    loop {
        let mut lease = pool.lease().await.map_err(|none| {
            call.upstream_tls.set(none.chosen);
            none.refusal
        })?;
        let Some(next) = request.take() else {
            return Err(Refusal::new(Stage::Forward, &codes::BROKEN));
        };
        call.begin_sending(lease.negotiated());
        match lease.send(next).await {
            Ok(response) => return Ok((response, lease)),
            Err(failed) => match failed.unsent {
                Some(unsent) if tries < RETRIES_MAX => {
                    call.note_unsent();
                    tries += 1;
                    request = Some(unsent);
                }
                Some(_) => {
                    call.note_unsent();
                    return Err(Refusal::new(Stage::Forward, &codes::CONNECT).because(failed.error));
                }
                None => return Err(broken(&failed.error)),
            },
        }
    }
}

/// What an error of hyper's client side amounts to: an answer that breaks the protocol is another
/// thing than a connection that broke.
pub(crate) fn broken(error: &hyper::Error) -> Refusal {
    let mut source = core::error::Error::source(error);
    let mut is_malformed = error.is_parse() || error.is_parse_too_large();
    while let Some(inner) = source {
        let found = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let found = found.and_then(|e| e.downcast_ref::<guard::Refused>());
        is_malformed |= found.is_some_and(|refused| *refused.code == codes::BAD_ANSWER);
        source = inner.source();
    }
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
    let reading = async {
        let (response, lease) = send(call, &outbound.pool, request).await?;
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
    call.note_unsent();
    read.map_err(|_| no(&"timed out"))?.map_err(|refusal| no(&refusal))
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
