//! Between HTTP and ISO 8583: the JSON form of a message, either way.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use moat_message::session::Key;
use moat_message::{Check, Index, iso8583, json};
use moat_model::code::message::JSON;
use moat_model::code::upstream as codes;
use moat_model::{Refusal, Stage};
use zeroize::Zeroizing;

use super::exchange::{Request, Way};
use super::link::Passed;
use super::record::Intended;
use super::rules::Said;
use crate::body::OutBody;
use crate::call::Call;
use crate::mask::{self, Inbound, InboundBody, Outbound};
use crate::{body, forward, headers, record};

/// Longest JSON form of an answer, in bytes: a message is at most 64 KiB, and a byte of it at most
/// a handful of characters.
const JSON_BYTES_MAX: u64 = 1024 * 1024;

/// A call over HTTP that goes to the service as a message.
pub(crate) struct Prepared {
    key: Key,
    message: Zeroizing<Vec<u8>>,
    expected: iso8583::Mti,
    is_repeat: bool,
}

/// Makes the message of a call whose service speaks ISO 8583; nothing for others.
///
/// # Errors
/// A refusal at [`Stage::Decode`]: the body is not the JSON form of a request. Nothing was sent.
pub(crate) fn prepare(call: &Call, outbound: &Outbound) -> Result<Option<Prepared>, Refusal> {
    let Some(link) = call.generation.links.get(outbound.rules.route.upstream) else {
        return Ok(None);
    };
    let no = |why: &dyn core::fmt::Display| Refusal::new(Stage::Decode, &JSON).because(why);
    let OutBody::Full(Some(bytes)) = outbound.request.body() else {
        return Err(no(&"there is no body"));
    };
    let dialect = &link.dialect;
    let message = json::read(&dialect.spec, bytes);
    let message =
        message.map_err(|wrong| Refusal::new(Stage::Decode, wrong.code()).because(wrong))?;
    let mut index = Index::new();
    let read = iso8583::decode(&dialect.spec, Check::Strict, &message, &mut index);
    let mut view = read.map_err(|e| Refusal::new(Stage::Decode, e.code()).because(e))?;
    let mti = view.mti();
    let expected = mti.answer().ok_or_else(|| no(&"this type has no answer"))?;
    let key = Key::of(&mut view, &dialect.match_on);
    Ok(Some(Prepared { key, message, expected, is_repeat: mti.is_repeat() }))
}

/// Sends a call's message, whose intent is durable where it needs one, and makes an answer over HTTP
/// of what comes back: 200 if it was done, 422 if it was declined, and what is unknown is refused.
///
/// # Errors
/// A refusal at [`Stage::Forward`] or [`Stage::Mask`].
pub(crate) async fn exchange(
    call: &Call,
    intended: record::Intended,
    prepared: Prepared,
) -> Result<Inbound, Refusal> {
    let no = |code| Refusal::new(Stage::Forward, code);
    let rules = intended.rules();
    let link = call.generation.links.get(rules.route.upstream).cloned();
    let link = link.ok_or_else(|| no(&codes::CONNECT))?;
    let Prepared { key, message, expected, is_repeat } = prepared;
    let sent_at = std::time::Instant::now();
    let mut ticket = link.ask(call, &Passed::call(&intended), (key, &message, is_repeat)).await?;
    let answer = tokio::time::timeout_at(call.deadline().into(), ticket.answer()).await;
    call.upstream_us.set(forward::micros(sent_at.elapsed()));
    let answer = match answer {
        Ok(Some(answer)) => answer,
        Ok(None) => return Err(no(&codes::BROKEN)),
        Err(_) => return Err(no(&codes::TIMEOUT)),
    };
    let dialect = &link.dialect;
    let mut index = Index::new();
    let bad = |why: &dyn core::fmt::Display| no(&codes::BAD_ANSWER).because(why);
    let read = iso8583::decode(&dialect.spec, Check::Strict, &answer, &mut index);
    let mut view = read.map_err(|e| bad(&e))?;
    if view.mti() != expected {
        return Err(bad(&"another type than that of the answer"));
    }
    let code = super::lately::text_of(&mut view, super::rules::RESPONSE_CODE);
    let status = match dialect.said(&code.ok_or_else(|| bad(&"no response code"))?) {
        Said::Done => StatusCode::OK,
        Said::NotDone => StatusCode::UNPROCESSABLE_ENTITY,
        Said::Unknown => StatusCode::GATEWAY_TIMEOUT,
    };
    let text = json::write(&mut view).map_err(|e| bad(&e))?;
    let (bytes, captures) = mask::answered(call, &rules, text.as_bytes())?;
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = status;
    let json = HeaderValue::from_static("application/json");
    head.headers.insert(header::CONTENT_TYPE, json);
    head.headers.insert(header::CONTENT_LENGTH, bytes.len().into());
    headers::put(&mut head.headers, "cache-control", "no-store");
    let body = InboundBody::Held { bytes, captures: Some(captures.unwrap_or_default()) };
    Ok(Inbound { rules, head, body })
}

/// Sends a message to a service that speaks HTTP: its JSON form by POST, and a message of the same
/// form back.
///
/// # Errors
/// A refusal at [`Stage::Forward`].
pub(super) async fn to_http(
    request: &Request,
    way: &Way,
    intended: Intended,
) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let call = &request.call;
    let no = |code| Refusal::new(Stage::Forward, code);
    let own = way.rules.message.as_ref().ok_or_else(|| no(&codes::CONNECT))?;
    let spec = &own.dialect.spec;
    let upstream = way.rules.route.upstream;
    let (service, authority) =
        call.generation.services.get(upstream).ok_or_else(|| no(&codes::CONNECT))?;
    let mut index = Index::new();
    let read = iso8583::decode(spec, Check::Strict, intended.message(), &mut index);
    let mut view = read.map_err(|e| no(e.code()).because(e))?;
    let text = json::write(&mut view).map_err(|e| no(e.code()).because(e))?;
    let mut outgoing =
        http::Request::new(OutBody::Full(Some(Bytes::copy_from_slice(text.as_bytes()))));
    *outgoing.method_mut() = http::Method::POST;
    let path = http::Uri::try_from(format!("/messages/{}", spec.name()));
    *outgoing.uri_mut() = path.map_err(|e| no(&codes::CONNECT).because(e))?;
    let fields = outgoing.headers_mut();
    headers::state_caller(fields, call);
    headers::put(fields, "host", authority);
    headers::put(fields, "accept", "application/json");
    headers::put(fields, "accept-encoding", "identity");
    headers::put(fields, "content-type", "application/json");
    fields.insert(header::CONTENT_LENGTH, text.len().into());
    let passed = record::Intended::of_message(
        intended,
        (std::sync::Arc::clone(&way.rules), std::rc::Rc::clone(service)),
        (std::sync::Arc::clone(authority), outgoing),
    );
    let answer = forward::forward(call, passed).await?;
    let forward::Answer { head, incoming, lease, .. } = answer;
    let is_json = headers::is_json(&head.headers) && !headers::is_encoded(&head.headers);
    let bad = |why: &dyn core::fmt::Display| no(&codes::BAD_ANSWER).because(why);
    let reading = body::collect(incoming, JSON_BYTES_MAX);
    let read = tokio::time::timeout_at(call.deadline().into(), reading).await;
    let bytes = read.map_err(|_| no(&codes::TIMEOUT))??;
    lease.finish();
    crate::tries::finish(call, None);
    // A service that declines may say so by its status, but always with the message.
    if !is_json || head.status.is_server_error() {
        return Err(bad(&format_args!("status {}", head.status)));
    }
    json::read(spec, &bytes).map_err(|wrong| bad(&wrong))
}
