//! Envoy's ext_authz v3 over gRPC: `Check`, and `grpc.health.v1.Health/Check` beside it.
//!
//! Envoy refuses its caller whenever this does not answer, as long as `failure_mode_allow` is false;
//! so whatever cannot be decided and recorded is answered with an error of gRPC.

use std::rc::Rc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, Response, Uri};
use moat_audit::recorder::Receipt;
use moat_model::Refusal;
use moat_model::code::decision::{MALFORMED, NO_SUCH_CALL};
use moat_net::body::Incoming;
use moat_rpc::ext_authz::{self as messages, Body, CHECK, Check, Told};
use moat_rpc::frame;

use super::{Question, Verdict, caller, decide, no, read, status_of};
use crate::body::ReplyBody;
use crate::call::Call;
use crate::generation::Enforcement;
use crate::{headers, record, reply};

/// Path of the health check of gRPC.
const HEALTH: &str = "/grpc.health.v1.Health/Check";
/// A `HealthCheckResponse` whose status is SERVING.
const SERVING: [u8; 2] = [0x08, 0x01];

pub(super) async fn answer(
    call: &Rc<Call>,
    settings: &Enforcement,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Refusal> {
    if !call.is_grpc || request.method() != Method::POST {
        return Err(no(&NO_SUCH_CALL));
    }
    match request.uri().path() {
        CHECK => check(call, settings, request.into_body()).await,
        // Good is what can record that it is.
        HEALTH => record::healthy(call).await.map(|_| answered(call, &SERVING)),
        _ => Err(no(&NO_SUCH_CALL)),
    }
}

async fn check(
    call: &Rc<Call>,
    settings: &Enforcement,
    incoming: Incoming,
) -> Result<Response<ReplyBody>, Refusal> {
    let bytes = read(call, incoming).await?;
    let malformed = |why| no(&MALFORMED).because(why);
    let check = frame::only(&bytes).and_then(Check::decode).map_err(malformed)?;
    let question = question(call, settings, check)?;
    let said = Said::of(&question.head.headers);
    Ok(match decide(call, settings, question).await {
        Verdict::Permitted(inner, receipt) => allowed(call, &inner, &receipt, &said),
        Verdict::Refused(inner, refusal, receipt) => denied(call, &inner, &refusal, &receipt),
        Verdict::Unrecorded(unrecorded) => reply::withhold(call, &unrecorded),
    })
}

fn question(call: &Call, settings: &Enforcement, check: Check) -> Result<Question, Refusal> {
    let caller = caller::of_certificate(call, settings, &check.certificate, &check.principal);
    let head = head(&check)?;
    let body = match check.body {
        Body::Whole(bytes) => Some(Bytes::from(bytes)),
        Body::Partial => None,
        Body::NotSent => settings.settings.has_bodies.then(Bytes::new),
    };
    // Of a caller on a Unix socket there is no address.
    let remote = check.source.unwrap_or_else(|| ([0, 0, 0, 0], 0).into());
    Ok(Question { head, body, caller, remote })
}

/// The head as this gateway would have read it from the caller.
fn head(check: &Check) -> Result<Parts, Refusal> {
    let malformed = |why: &'static str| move || no(&MALFORMED).because(why);
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTPS);
    parts.authority = Some(check.host.parse().map_err(|_| malformed("the host")())?);
    parts.path_and_query =
        Some(check.path.parse::<PathAndQuery>().map_err(|_| malformed("the path")())?);
    let mut request = Request::new(());
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| malformed("the target")())?;
    *request.method_mut() = check.method.parse().map_err(|_| malformed("the method")())?;
    let headers = request.headers_mut();
    for (name, value) in &check.headers {
        let name: HeaderName = name.parse().map_err(|_| malformed("a header's name")())?;
        let value = HeaderValue::from_bytes(value).map_err(|_| malformed("a header's value")())?;
        headers.append(name, value);
    }
    Ok(request.into_parts().0)
}

/// Names of the fields that the caller sent and that must not reach the service.
struct Said(Vec<String>);

impl Said {
    /// What only a gateway may say, and what `Connection` names: the policy does not see that, so
    /// neither must the service.
    fn of(all: &HeaderMap) -> Said {
        let mut left = all.clone();
        headers::from_caller(&mut left);
        let is_dropped = |name: &HeaderName| {
            let is_named = !left.contains_key(name) && !headers::is_hop_by_hop(name.as_str());
            is_named || headers::is_gateways_own(name.as_str())
        };
        Said(all.keys().filter(|name| is_dropped(name)).map(|n| n.as_str().to_owned()).collect())
    }
}

fn allowed(call: &Call, inner: &Rc<Call>, receipt: &Receipt, said: &Said) -> Response<ReplyBody> {
    let mut set = HeaderMap::new();
    headers::state_caller(&mut set, inner);
    let remove = said.0.iter().filter(|name| !set.contains_key(name.as_str()));
    let named = [
        ("x-moat-trace".to_owned(), inner.trace.hex()),
        ("x-moat-record".to_owned(), receipt.seq().to_string()),
    ];
    let verdict = messages::Verdict::Allow {
        remove: remove.cloned().collect(),
        set: fields(&set).chain(named.clone()).collect(),
        answer: named.to_vec(),
    };
    let told = told(inner, receipt, "allow", "");
    answered(call, &messages::answer(verdict, told))
}

fn denied(
    call: &Call,
    inner: &Rc<Call>,
    refusal: &Refusal,
    receipt: &Receipt,
) -> Response<ReplyBody> {
    let decision = if inner.asked().is_some() { "challenge" } else { "deny" };
    let told = told(inner, receipt, decision, refusal.code.id);
    let (status, grpc) = (status_of(refusal), refusal.code.grpc_status());
    let (headers, body) = refused(reply::refuse(inner, refusal, receipt));
    let verdict = messages::Verdict::Deny { status, grpc, headers, body };
    answered(call, &messages::answer(verdict, told))
}

/// The answer that the caller would have got from this gateway. Envoy makes one of gRPC of it where
/// the caller speaks that.
pub(super) fn refused(response: Response<ReplyBody>) -> (Vec<(String, String)>, String) {
    let (mut head, body) = response.into_parts();
    let is_grpc = head.headers.remove("grpc-status").is_some();
    let message = head.headers.remove("grpc-message");
    for name in [CONTENT_LENGTH, CONNECTION] {
        head.headers.remove(name);
    }
    let body = match message.filter(|_| is_grpc) {
        Some(message) => {
            head.headers.remove(CONTENT_TYPE);
            message.to_str().unwrap_or_default().to_owned()
        }
        None => String::from_utf8_lossy(&body.into_held()).into_owned(),
    };
    (fields(&head.headers).collect(), body)
}

/// Each name once: Envoy sets what it is told, and keeps the last of several. Lists may be joined
/// by commas (RFC 9110 §5.3).
fn fields(headers: &HeaderMap) -> impl Iterator<Item = (String, String)> {
    headers.keys().map(|name| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        (name.as_str().to_owned(), values.collect::<Vec<_>>().join(", "))
    })
}

fn told(inner: &Call, receipt: &Receipt, decision: &str, code: &str) -> Told {
    Told {
        decision: decision.to_owned(),
        policy: inner.generation.policy.to_string(),
        record: receipt.seq().to_string(),
        trace: inner.trace.hex(),
        code: code.to_owned(),
    }
}

fn answered(call: &Call, message: &[u8]) -> Response<ReplyBody> {
    let framed = Bytes::from(frame::framed(message));
    let mut response = Response::new(ReplyBody::message(framed, call.reader()));
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, grpc);
    response
}
