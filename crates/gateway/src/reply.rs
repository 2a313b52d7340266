//! Stage 10: the answer goes to the caller. Every constructor here takes a [`Receipt`], but one:
//! [`withhold`], for when no record could be made at all.

use std::rc::Rc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use moat_audit::recorder::Receipt;
use moat_model::code::upstream::STREAM_CUT;
use moat_model::{Refusal, Stage};
use moat_net::activity::Reader;
use moat_net::service::Verdict;

use crate::body::{Download, ReplyBody};
use crate::call::{Call, Sent};
use crate::headers::put;
use crate::mask::InboundBody;
use crate::record::{self, Answerable};
use crate::step_up::invalid_token;
use crate::tries;

/// The answer to a call that was carried out.
pub(crate) fn reply(call: &Rc<Call>, answerable: Answerable) -> Response<ReplyBody> {
    let Answerable { inbound, receipt } = answerable;
    let reader = call.reader();
    let body = match inbound.body {
        InboundBody::Held { bytes, .. } => ReplyBody::full(bytes, reader),
        InboundBody::Stream(incoming, lease) => {
            let closing_call = Rc::clone(call);
            let status = inbound.head.status.as_u16();
            let on_end = Box::new(move |ending: crate::body::Ending| {
                if ending.cut.is_none() {
                    lease.finish();
                }
                let is_broken = ending.cut == Some(&STREAM_CUT);
                tries::finish(&closing_call, is_broken.then_some(Verdict::Failed));
                let work = closing_call.session.worker.work();
                drop(tokio::task::spawn_local(async move {
                    record::closing(closing_call, receipt, status, ending).await;
                    drop(work);
                }));
            });
            let download = Download::new(incoming, &inbound.rules, call.stream(), on_end);
            ReplyBody::stream(download, reader)
        }
    };
    let mut response = Response::from_parts(inbound.head, body);
    *response.version_mut() = http::Version::default();
    name_record(&mut response, call, &receipt);
    response
}

/// The answer to a call that was refused.
pub(crate) fn refuse(call: &Call, refusal: &Refusal, receipt: &Receipt) -> Response<ReplyBody> {
    let mut response = problem(call, refusal, Some(receipt.seq()));
    name_record(&mut response, call, receipt);
    ask(&mut response, call, refusal);
    response
}

/// Says what would make the call good: a challenge that the policy asks for, or another token. For
/// gRPC the same fields are metadata.
fn ask(response: &mut Response<ReplyBody>, call: &Call, refusal: &Refusal) {
    let headers = response.headers_mut();
    match call.asked() {
        Some(asked) => headers
            .extend(asked.fields.iter().map(|(name, value)| (Some(name.clone()), value.clone()))),
        None if refusal.code.status == 401 => {
            let (name, value) = invalid_token();
            headers.append(name, value);
        }
        None => {}
    }
}

/// The one answer without a record: that there is none, and so nothing is told. Says nothing of
/// the call but its trace id.
pub(crate) fn withhold(call: &Call, refusal: &Refusal) -> Response<ReplyBody> {
    call.session.worker.counters.withheld.add();
    tracing::warn!(trace = call.trace.hex(), %refusal, "an answer was withheld");
    let mut response = problem(call, refusal, None);
    put(response.headers_mut(), "retry-after", "1");
    response
}

fn name_record(response: &mut Response<ReplyBody>, call: &Call, receipt: &Receipt) {
    let headers = response.headers_mut();
    // HTTP/2 has GOAWAY.
    if call.session.findings.is_some() && call.session.worker.is_draining() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    headers.insert(HeaderName::from_static("x-moat-trace"), call.trace.value());
    headers.insert(HeaderName::from_static("x-moat-record"), receipt.seq().into());
}

/// A problem document (RFC 9457), or for gRPC an answer of trailers only.
fn problem(call: &Call, refusal: &Refusal, record: Option<u64>) -> Response<ReplyBody> {
    let reader = call.reader();
    if call.is_grpc {
        return grpc_problem(refusal, reader);
    }
    let mut text = serde_json::json!({
        "type": "about:blank",
        "title": refusal.code.en.title,
        "status": refusal.code.status,
        "detail": refusal.code.en.fix,
        "code": refusal.code.id,
        "stage": refusal.stage.name(),
        "trace": call.trace.hex(),
    });
    if let Some(fields) = text.as_object_mut() {
        if !refusal.reasons.is_empty() {
            fields.insert("reasons".to_owned(), refusal.reasons.clone().into());
        }
        if let Some(sent) = sent(call, refusal) {
            fields.insert("sent".to_owned(), sent);
        }
        if let Some(seq) = record {
            fields.insert("record".to_owned(), seq.into());
        }
    }
    let bytes = Bytes::from(text.to_string());
    let length = bytes.len();
    let mut response = Response::new(ReplyBody::full(bytes, reader));
    // A code without a status never reaches a caller over HTTP; if one does, say no more than 400.
    *response.status_mut() =
        StatusCode::from_u16(refusal.code.status).unwrap_or(StatusCode::BAD_REQUEST);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CONTENT_LENGTH, length.into());
    put(headers, "cache-control", "no-store");
    if let Some(seconds) = retry_after(call, refusal) {
        put(headers, "retry-after", &seconds.to_string());
    }
    if let Some(exceeded) = call.exceeded() {
        put(headers, "ratelimit-policy", &exceeded.policy);
        put(headers, "ratelimit", &exceeded.state);
    }
    if closes(refusal) && !call.is_http2 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Whether the service may have seen something of the call: `false` or `"unknown"`. What the
/// service itself answered says more than that.
fn sent(call: &Call, refusal: &Refusal) -> Option<serde_json::Value> {
    match (refusal.code.status, call.sent.get()) {
        (429 | 503 | 504, Sent::Nothing) => Some(false.into()),
        (_, Sent::Perhaps) if refusal.stage == Stage::Forward => Some("unknown".into()),
        _ => None,
    }
}

/// When the call may be repeated, in seconds: only what was not sent.
fn retry_after(call: &Call, refusal: &Refusal) -> Option<u64> {
    let may_repeat = matches!(refusal.code.status, 429 | 503) && call.sent.get() == Sent::Nothing;
    may_repeat.then(|| call.tries.retry_ms.get().div_ceil(1_000).max(1))
}

/// Whether the connection cannot go on: its framing is in doubt, or its caller was refused.
fn closes(refusal: &Refusal) -> bool {
    use moat_model::code::http;
    let framing = [
        &http::BOTH_FRAMINGS,
        &http::CONTENT_LENGTH,
        &http::TRANSFER_ENCODING,
        &http::UNKNOWN_CODING,
        &http::BARE_CR_LF,
        &http::FOLDED_LINE,
        &http::HOST,
        &http::BAD_CHUNK,
        &http::HEAD_TOO_LONG,
        &http::TARGET_TOO_LONG,
        &http::MALFORMED_HEAD,
        &http::VERSION,
        &http::BODY_TOO_LONG,
        &http::BODY_BROKEN,
        &http::SLOW_HEAD,
        &http::SLOW_BODY,
        &http::BODY_RATE,
    ];
    refusal.stage == Stage::Identify || framing.contains(&refusal.code)
}

fn grpc_problem(refusal: &Refusal, reader: Option<Rc<Reader>>) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::full(Bytes::new(), reader));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    put(headers, "grpc-status", &refusal.code.grpc_status().to_string());
    let mut message = format!("{} {}", refusal.code.id, refusal.code.en.title);
    if !refusal.reasons.is_empty() {
        message = format!("{message}: {}", refusal.reasons.join(", "));
    }
    // grpc-message is percent-encoded ASCII.
    put(headers, "grpc-message", &message.replace('%', "%25"));
    response
}
