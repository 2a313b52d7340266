//! Stage 7: fields are masked, towards the service and towards the caller.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts as RequestHead;
use http::response::Parts as AnswerHead;
use http::uri::{PathAndQuery, Uri};
use http::{Method, StatusCode, Version, header};
use http_body::Body;
use http_body_util::BodyExt;
use moat_mask::body::{BodyError, Kind};
use moat_mask::{Captures, Keys, Plan, Scalar};
use moat_model::code::decision::BODY_UNSEEN;
use moat_model::code::{http as codes, mask, upstream};
use moat_model::{Class, Refusal, Stage};
use moat_net::body::Incoming;
use moat_net::pool::Lease;
use moat_net::service::Service;
use moat_policy::Permit;

use crate::body::{OutBody, Upload};
use crate::call::Call;
use crate::decode::InBody;
use crate::forward::Answer;
use crate::generation::{Reading, RouteRules};
use crate::headers;
use crate::reader::{self, Reader};
use crate::route::Routed;
use crate::table::Params;
use crate::tries;

/// A request as the service will see it.
pub(crate) struct Outbound {
    pub(crate) permit: Permit,
    pub(crate) rules: Arc<RouteRules>,
    pub(crate) params: Params,
    pub(crate) service: Rc<Service<OutBody>>,
    pub(crate) key: u64,
    pub(crate) authority: Arc<str>,
    pub(crate) request: http::Request<OutBody>,
    /// Captures of the request, for the record.
    pub(crate) captures: Option<Captures>,
    /// The upload, where the body streams.
    pub(crate) upload: Option<Rc<Upload>>,
}

/// Builds the request for the service: masked body, clean head.
///
/// # Errors
/// A refusal at [`Stage::Mask`] if a body that must be masked is not JSON.
pub(crate) fn outbound(call: &Call, routed: Routed) -> Result<Outbound, Refusal> {
    let Routed { permit, decoded, service, authority, key } = routed;
    let rules = decoded.rules;
    let mut head = decoded.head;
    let (body, captures, upload) = match decoded.body {
        InBody::Held { bytes, captures } => {
            let bytes = mask_request(call, &rules, &head, bytes)?;
            set_length(&mut head, bytes.len());
            let body = OutBody::Full((!bytes.is_empty()).then_some(bytes));
            (body, Some(captures), None)
        }
        // A call that others received does not come here: it is not ours to forward.
        InBody::Unseen => return Err(Refusal::new(Stage::Mask, &BODY_UNSEEN)),
        InBody::Stream(incoming) if incoming.is_end_stream() => (OutBody::Full(None), None, None),
        InBody::Stream(incoming) => {
            let most = rules.route.body_bytes_max;
            let (body, upload) = OutBody::stream(incoming, most, &rules.pace, call.stream());
            (body, None, Some(upload))
        }
    };
    headers::to_upstream(&mut head.headers, call, rules.answer.is_some());
    address(&mut head, &authority)?;
    let request = http::Request::from_parts(head, body);
    Ok(Outbound {
        permit,
        params: decoded.params,
        service,
        key,
        authority,
        request,
        captures,
        upload,
        rules,
    })
}

/// The request's target, written anew for the service: origin form and one Host; for HTTP/2 the
/// pool turns them into scheme and authority.
fn address(head: &mut RequestHead, authority: &str) -> Result<(), Refusal> {
    let is_origin_form = head.uri.authority().is_none() && head.uri.path_and_query().is_some();
    if !is_origin_form {
        let target = core::mem::take(&mut head.uri).into_parts().path_and_query;
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = Some(target.unwrap_or_else(|| PathAndQuery::from_static("/")));
        head.uri = Uri::from_parts(parts).map_err(|_| Refusal::new(Stage::Mask, &codes::PATH))?;
    }
    head.version = Version::HTTP_11;
    headers::put(&mut head.headers, "host", authority);
    Ok(())
}

fn set_length(head: &mut RequestHead, length: usize) {
    head.headers.remove(header::CONTENT_LENGTH);
    if length > 0 || head.method == Method::POST || head.method == Method::PUT {
        head.headers.insert(header::CONTENT_LENGTH, length.into());
    }
}

fn mask_request(
    call: &Call,
    rules: &RouteRules,
    head: &RequestHead,
    bytes: Bytes,
) -> Result<Bytes, Refusal> {
    let Some(plan) = &rules.mask_request else { return Ok(bytes) };
    if bytes.is_empty() {
        return Ok(bytes);
    }
    let no = |e: BodyError| Refusal::new(Stage::Mask, e.code()).because(e);
    let kind = reader::kind(&head.headers, rules);
    let kind = kind.ok_or_else(|| Refusal::new(Stage::Mask, &mask::CONTENT_TYPE))?;
    let mut reader = Reader::rewriting(kind, plan, keys(plan, call, rules));
    reader.push(&bytes).map_err(no)?;
    let (bytes, _) = reader.finish().map_err(no)?;
    Ok(bytes)
}

/// What makes the anchors of this call's object, if any rule shows them.
fn keys(plan: &Plan, call: &Call, rules: &RouteRules) -> Option<Arc<dyn Keys>> {
    if !plan.needs_keys() {
        return None;
    }
    let key = call.session.worker.recorder.anchors()?;
    let (table, object) = (rules.table.clone(), call.object().to_string());
    Some(Arc::new(move |pointer: &str, class: Class, value: &Scalar| {
        crate::fields::shown_anchor(&key, &table, &object, pointer, class, value)
    }))
}

/// An answer as the caller will see it.
pub(crate) struct Inbound {
    pub(crate) rules: Arc<RouteRules>,
    pub(crate) head: AnswerHead,
    pub(crate) body: InboundBody,
}

/// Its body.
pub(crate) enum InboundBody {
    /// Complete, masked, with what the record needs.
    Held { bytes: Bytes, captures: Option<Captures> },
    /// Passed through as it comes; the connection is given back at its end.
    Stream(Incoming, Lease<OutBody>),
}

/// Reads and masks an answer where its route says so.
///
/// # Errors
/// A refusal at [`Stage::Mask`] or [`Stage::Forward`]: not JSON, too long, too slow, broken off.
pub(crate) async fn inbound(call: &Call, answer: Answer) -> Result<Inbound, Refusal> {
    let inbound = read_inbound(call, answer).await;
    match &inbound {
        // What streams is on its way until it ends.
        Ok(Inbound { body: InboundBody::Stream(..), .. }) => {}
        Ok(_) => tries::finish(call, None),
        Err(refusal) => tries::finish_refused(call, refusal),
    }
    inbound
}

async fn read_inbound(call: &Call, answer: Answer) -> Result<Inbound, Refusal> {
    let Answer { rules, mut head, mut incoming, lease } = answer;
    let has_body = !incoming.is_end_stream()
        && call.method != Method::HEAD
        && head.status != StatusCode::NO_CONTENT
        && head.status != StatusCode::NOT_MODIFIED;
    let Some(reading) = &rules.answer else {
        headers::to_caller(&mut head.headers, &rules, false);
        if !has_body {
            return Ok(empty(rules, head, lease));
        }
        return Ok(Inbound { rules, head, body: InboundBody::Stream(incoming, lease) });
    };
    if !has_body {
        headers::to_caller(&mut head.headers, &rules, reading.masks);
        return Ok(empty(rules, head, lease));
    }
    let is_error = head.status.is_client_error() || head.status.is_server_error();
    let kind = reader::kind(&head.headers, &rules);
    if head.status == StatusCode::PARTIAL_CONTENT {
        let why = "a part of an answer cannot be masked";
        return Err(Refusal::new(Stage::Mask, &mask::ANSWER_NOT_JSON).because(why));
    }
    let read = {
        let reading = pin!(read_answer(call, &rules, reading, &mut incoming, kind));
        call.within(call.deadline(), reading).await
    };
    let read = read.ok_or_else(|| Refusal::new(Stage::Forward, &upstream::TIMEOUT))?;
    let (bytes, captures) = match read {
        // An error text is replaced where answers are masked: its fields are not declared, and it
        // may quote what must not be seen.
        Ok((_, captures)) if is_error && reading.masks => {
            lease.finish();
            (service_error(&mut head), captures)
        }
        Ok(read) => {
            lease.finish();
            read
        }
        Err(refusal) if is_error && refusal.stage == Stage::Mask => {
            (service_error(&mut head), Captures::default())
        }
        Err(refusal) => return Err(refusal),
    };
    headers::to_caller(&mut head.headers, &rules, reading.masks);
    head.headers.insert(header::CONTENT_LENGTH, bytes.len().into());
    let body = InboundBody::Held { bytes, captures: Some(captures) };
    Ok(Inbound { rules, head, body })
}

fn empty(rules: Arc<RouteRules>, head: AnswerHead, lease: Lease<OutBody>) -> Inbound {
    lease.finish();
    Inbound { rules, head, body: InboundBody::Held { bytes: Bytes::new(), captures: None } }
}

fn service_error(head: &mut AnswerHead) -> Bytes {
    head.headers
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/problem+json"));
    head.headers.remove(header::CONTENT_ENCODING);
    let code = &upstream::SERVICE_ERROR;
    let status = head.status.as_u16();
    let text = serde_json::json!({
        "type": "about:blank", "title": code.en.title, "status": status, "code": code.id,
    });
    text.to_string().into()
}

async fn read_answer(
    call: &Call,
    rules: &RouteRules,
    reading: &Reading,
    incoming: &mut Incoming,
    kind: Option<Kind>,
) -> Result<(Bytes, Captures), Refusal> {
    let unmaskable = |why: &dyn core::fmt::Display| {
        Refusal::new(Stage::Mask, &mask::ANSWER_NOT_JSON).because(why)
    };
    let Some(kind) = kind else {
        return Err(unmaskable(&"of no kind that the route reads, or encoded"));
    };
    let mut machine = match reading.masks {
        true => Reader::rewriting(kind, &reading.plan, keys(&reading.plan, call, rules)),
        false => Reader::reading(kind, &reading.plan),
    };
    let mut length = 0_u64;
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|e| crate::forward::broken(&e))?;
        let Ok(data) = frame.into_data() else { continue };
        length += u64::try_from(data.len()).unwrap_or(u64::MAX);
        if length > rules.route.answer_bytes_max {
            return Err(Refusal::new(Stage::Forward, &upstream::ANSWER_TOO_LONG));
        }
        machine.push(&data).map_err(|e| unmaskable(&e))?;
    }
    machine.finish().map_err(|e| unmaskable(&e))
}

/// Masks and reads an answer that is whole and JSON, as its route says.
///
/// # Errors
/// A refusal at [`Stage::Mask`].
pub(crate) fn answered(
    call: &Call,
    rules: &RouteRules,
    bytes: &[u8],
) -> Result<(Bytes, Option<Captures>), Refusal> {
    let Some(reading) = &rules.answer else { return Ok((Bytes::copy_from_slice(bytes), None)) };
    let no = |e: BodyError| Refusal::new(Stage::Mask, &mask::ANSWER_NOT_JSON).because(e);
    let mut machine = match reading.masks {
        true => Reader::rewriting(Kind::Json, &reading.plan, keys(&reading.plan, call, rules)),
        false => Reader::reading(Kind::Json, &reading.plan),
    };
    machine.push(bytes).map_err(no)?;
    let (bytes, captures) = machine.finish().map_err(no)?;
    Ok((bytes, Some(captures)))
}
