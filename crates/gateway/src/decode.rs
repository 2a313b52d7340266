//! Stage 4: the request's head is checked, its route found, its body read where it is looked into.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header;
use http::request::Parts;
use http::{Method, Request, Version};
use http_body::Body;
use http_body_util::BodyExt;
use moat_mask::body::BodyError;
use moat_mask::{Captures, Plan};
use moat_model::code::decision::{BODY_UNSEEN, NOT_HERE};
use moat_model::code::{http as codes, mask};
use moat_model::limit::TARGET_BYTES_MAX;
use moat_model::{Code, Refusal, Stage};
use moat_net::body::Incoming;
use moat_policy::BodyValue;

use crate::call::Call;
use crate::generation::RouteRules;
use crate::reader::{self, Looker};
use crate::table::{self, Params};
use crate::{body, fields, headers, limits};

/// How long a call may take whose route is not known yet.
pub(crate) const UNROUTED: Duration = Duration::from_secs(5);

/// The body of a request.
pub(crate) enum InBody {
    /// Read to its end.
    Held { bytes: Bytes, captures: Captures },
    /// Nobody looks into it.
    Stream(Incoming),
    /// Somebody else has it, and did not pass it on.
    Unseen,
}

/// A request whose meaning is settled.
pub(crate) struct Decoded {
    pub(crate) head: Parts,
    pub(crate) rules: Arc<RouteRules>,
    pub(crate) params: Params,
    /// Declared body fields as the policy sees them.
    pub(crate) decide_on: Vec<(String, BodyValue)>,
    pub(crate) body: InBody,
}

/// Checks and reads a request.
///
/// # Errors
/// A refusal at [`Stage::Decode`]; at [`Stage::Mask`] where the body had to be JSON and is not.
pub(crate) async fn decode(
    call: &Call,
    request: Box<Request<Incoming>>,
) -> Result<Decoded, Refusal> {
    let (mut head, incoming) = (*request).into_parts();
    let (rules, params) = matched(call, &mut head)?;
    let Some(reading) = &rules.request else {
        let body = match &rules.mask_request {
            Some(_) => held(call, &rules, &head, incoming, None).await?,
            None if rules.route.hold => take(call, &rules, incoming, None).await?,
            None => InBody::Stream(incoming),
        };
        return Ok(Decoded { head, rules, params, decide_on: Vec::new(), body });
    };
    let body = held(call, &rules, &head, incoming, Some(&reading.plan)).await?;
    let decide_on = match &body {
        InBody::Held { captures, .. } => {
            fields::decided_on(reading, captures, &rules.route.decide_on)?
        }
        InBody::Stream(_) | InBody::Unseen => Vec::new(),
    };
    Ok(Decoded { head, rules, params, decide_on, body })
}

/// Checks a request that somebody else received and will carry out, with its body as far as that was
/// passed on.
///
/// # Errors
/// As [`decode`]; and where the route needs a body that was not passed on, or is only good for
/// calls that go through this gateway.
pub(crate) fn passed_on(
    call: &Call,
    mut head: Parts,
    body: Option<Bytes>,
) -> Result<Decoded, Refusal> {
    let (rules, params) = matched(call, &mut head)?;
    if rules.answer.is_some() || rules.images.is_some() || rules.mask_request.is_some() {
        return Err(no(&NOT_HERE));
    }
    let Some(bytes) = body else {
        if rules.request.is_some() {
            return Err(no(&BODY_UNSEEN));
        }
        let (decide_on, body) = (Vec::new(), InBody::Unseen);
        return Ok(Decoded { head, rules, params, decide_on, body });
    };
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if rules.route.body_bytes_max > 0 && length > rules.route.body_bytes_max {
        return Err(no(&codes::BODY_TOO_LONG));
    }
    call.bytes_in.set(length);
    call.digest_in.set(Some(body::sha256(&bytes)));
    let captures = match &rules.request {
        Some(reading) if !bytes.is_empty() || has_content(&head.method) => {
            let Some(kind) = reader::kind(&head.headers, &rules) else {
                return Err(Refusal::new(Stage::Mask, &mask::CONTENT_TYPE));
            };
            let mut looker = Looker::new(kind, &reading.plan);
            looker.push(&bytes).map_err(|e| not_json(&e))?;
            looker.finish().map_err(|e| not_json(&e))?
        }
        _ => Captures::default(),
    };
    let decide_on = match &rules.request {
        Some(reading) => fields::decided_on(reading, &captures, &rules.route.decide_on)?,
        None => Vec::new(),
    };
    Ok(Decoded { head, rules, params, decide_on, body: InBody::Held { bytes, captures } })
}

/// Checks the head and finds the route that takes the call.
fn matched(call: &Call, head: &mut Parts) -> Result<(Arc<RouteRules>, Params), Refusal> {
    check_head(head)?;
    headers::from_caller(&mut head.headers);
    let shared = &call.generation;
    let (at, params) = table::find(&shared.entries, &call.host, &head.method, head.uri.path())?;
    let rules = shared.shared.rules.get(at).ok_or_else(|| no(&codes::NO_ROUTE))?.shared();
    call.set_place(at);
    call.set_route(&rules, &params);
    call.check_time()?;
    limits::admit(call, &rules)?;
    let unreadable = |name: &Arc<str>| {
        head.headers.get_all(name.as_ref()).iter().any(|value| value.to_str().is_err())
    };
    if rules.headers.iter().any(unreadable) {
        return Err(no(&codes::MALFORMED_HEAD).because("a declared header is not ASCII text"));
    }
    if call.is_grpc && rules.looks_into_bodies() {
        // gRPC messages cannot be looked into; the caller's word for one must not skip the masks.
        return Err(Refusal::new(Stage::Mask, &mask::CONTENT_TYPE));
    }
    Ok((rules, params))
}

fn no(code: &'static Code) -> Refusal {
    Refusal::new(Stage::Decode, code)
}

fn check_head(head: &Parts) -> Result<(), Refusal> {
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return Err(no(&codes::METHOD));
    }
    if !matches!(head.version, Version::HTTP_11 | Version::HTTP_2 | Version::HTTP_10) {
        return Err(no(&codes::VERSION));
    }
    if head.headers.contains_key(header::UPGRADE) {
        return Err(no(&codes::UPGRADE));
    }
    let target = head.uri.path_and_query().map_or(0, |p| p.as_str().len());
    if target > TARGET_BYTES_MAX {
        return Err(no(&codes::TARGET_TOO_LONG));
    }
    let bytes: usize = head.headers.iter().map(|(n, v)| n.as_str().len() + v.len() + 4).sum();
    if bytes > moat_model::limit::HEAD_BYTES_MAX
        || head.headers.len() > moat_model::limit::HEAD_FIELDS_MAX
    {
        return Err(no(&codes::HEAD_TOO_LONG));
    }
    // Two content types, or a declared header that is not text, could be read in two ways.
    if head.headers.get_all(header::CONTENT_TYPE).iter().count() > 1 {
        return Err(no(&codes::MALFORMED_HEAD).because("two Content-Type fields"));
    }
    check_host(head)?;
    table::check_path(head.uri.path())
}

/// HTTP/2 names the host in `:authority`; a Host beside it must say the same (RFC 9113 §8.3.1).
fn check_host(head: &Parts) -> Result<(), Refusal> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    let authority = head.uri.authority().map(|a| a.as_str());
    let agrees = match (authority, host) {
        (Some(authority), Some(host)) => host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()),
        (None, None) => head.version == Version::HTTP_10,
        _ => true,
    };
    if second.is_some() || !agrees || authority.is_some_and(|a| a.contains('@')) {
        return Err(no(&codes::HOST));
    }
    Ok(())
}

/// Reads the whole body, at most what the route allows, within the call's deadline. Without an
/// extractor its fields are not looked at, but it must be JSON all the same.
async fn held(
    call: &Call,
    rules: &RouteRules,
    head: &Parts,
    incoming: Incoming,
    plan: Option<&Plan>,
) -> Result<InBody, Refusal> {
    if incoming.is_end_stream() && !has_content(&head.method) {
        return Ok(InBody::Held { bytes: Bytes::new(), captures: Captures::default() });
    }
    let Some(kind) = reader::kind(&head.headers, rules) else {
        return Err(Refusal::new(Stage::Mask, &mask::CONTENT_TYPE));
    };
    take(call, rules, incoming, plan.map(|plan| Looker::new(kind, plan))).await
}

/// Reads the whole body, whatever it is.
async fn take(
    call: &Call,
    rules: &RouteRules,
    incoming: Incoming,
    looker: Option<Looker>,
) -> Result<InBody, Refusal> {
    let most = rules.route.body_bytes_max;
    let announced = incoming.size_hint().lower();
    if announced > most {
        return Err(no(&codes::BODY_TOO_LONG));
    }
    let read = pin!(read_body(incoming, most, looker));
    let (bytes, captures) = call
        .within(call.deadline(), read)
        .await
        .ok_or_else(|| no(&codes::SLOW_BODY))?
        .map_err(|refusal| guard_finding(call, refusal))?;
    call.bytes_in.set(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    call.digest_in.set(Some(body::sha256(&bytes)));
    Ok(InBody::Held { bytes, captures })
}

/// Methods whose requests carry content (RFC 9110 §9.3).
fn has_content(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// A body that hyper calls broken may have been refused by the guard, which knows better why.
fn guard_finding(call: &Call, refusal: Refusal) -> Refusal {
    if *refusal.code != codes::BODY_BROKEN {
        return refusal;
    }
    match call.session.findings.as_ref().and_then(|findings| findings.in_body()) {
        Some(found) => no(found.code).because(found.why),
        None => refusal,
    }
}

pub(crate) async fn read_body(
    mut incoming: Incoming,
    most: u64,
    mut looker: Option<Looker>,
) -> Result<(Bytes, Captures), Refusal> {
    let mut held = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|e| no(&codes::BODY_BROKEN).because(e))?;
        // Trailers of a held request are dropped: nothing that is recorded may arrive in them.
        let Ok(data) = frame.into_data() else { continue };
        let length = u64::try_from(held.len() + data.len()).unwrap_or(u64::MAX);
        if length > most {
            return Err(no(&codes::BODY_TOO_LONG));
        }
        if let Some(looker) = &mut looker {
            looker.push(&data).map_err(|e| not_json(&e))?;
        }
        held.extend_from_slice(&data);
    }
    let captures = match looker {
        Some(looker) => looker.finish().map_err(|e| not_json(&e))?,
        None => Captures::default(),
    };
    Ok((held.freeze(), captures))
}

fn not_json(error: &BodyError) -> Refusal {
    Refusal::new(Stage::Mask, error.code()).because(error)
}
