//! AuthZEN 1.0: access evaluations over HTTPS, of whoever enforces what it is told.

use std::rc::Rc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, Uri, Version};
use moat_model::Refusal;
use moat_model::code::decision::{CALLER_DIFFERS, MALFORMED, NO_SUCH_CALL};
use moat_net::body::Incoming;
use moat_rpc::authzen::{
    self as messages, Answer, Context, EVALUATION, EVALUATIONS, Evaluation, Semantic,
};
use moat_rpc::ext_authz::certificate;

use super::{Question, Verdict, caller, decide, ext_authz, no, read};
use crate::body::ReplyBody;
use crate::call::Call;
use crate::generation::Enforcement;
use crate::{headers, reply};

/// What a caller may name its question by, to find it in the answer (Authorization API 1.0, §10.1).
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub(super) async fn answer(
    call: &Rc<Call>,
    settings: &Enforcement,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Refusal> {
    let (head, incoming) = request.into_parts();
    if head.method != Method::POST {
        return Err(no(&NO_SUCH_CALL));
    }
    if !headers::is_json(&head.headers) || headers::is_encoded(&head.headers) {
        return Err(no(&MALFORMED).because("not application/json"));
    }
    let done = match head.uri.path() {
        EVALUATION => {
            let bytes = read(call, incoming).await?;
            let asked = messages::evaluation(&bytes).map_err(malformed)?;
            evaluate(call, settings, asked).await?.map(|one| messages::answer(&one))
        }
        EVALUATIONS => {
            let bytes = read(call, incoming).await?;
            evaluate_all(call, settings, &bytes).await?
        }
        _ => return Err(no(&NO_SUCH_CALL)),
    };
    Ok(match done {
        Ok(text) => answered(call, text, head.headers.get(REQUEST_ID)),
        Err(unrecorded) => reply::withhold(call, &unrecorded),
    })
}

fn malformed(why: moat_rpc::Malformed) -> Refusal {
    no(&MALFORMED).because(why)
}

/// Each is decided and recorded by itself, in order. If one cannot be recorded nothing is told of any.
async fn evaluate_all(
    call: &Rc<Call>,
    settings: &Enforcement,
    bytes: &[u8],
) -> Result<Result<Vec<u8>, Refusal>, Refusal> {
    let asked = messages::evaluations(bytes).map_err(malformed)?;
    let mut answers = Vec::with_capacity(asked.list.len());
    for one in asked.list {
        let answer = match evaluate(call, settings, one).await? {
            Ok(answer) => answer,
            Err(unrecorded) => return Ok(Err(unrecorded)),
        };
        let is_last = match asked.semantic {
            Semantic::ExecuteAll => false,
            Semantic::DenyOnFirstDeny => !answer.decision,
            Semantic::PermitOnFirstPermit => answer.decision,
        };
        answers.push(answer);
        if is_last {
            break;
        }
    }
    Ok(Ok(match answers.first() {
        Some(only) if asked.is_one => messages::answer(only),
        _ => messages::answers(&answers),
    }))
}

async fn evaluate(
    call: &Rc<Call>,
    settings: &Enforcement,
    asked: Evaluation,
) -> Result<Result<Answer, Refusal>, Refusal> {
    let question = question(call, settings, asked)?;
    Ok(Ok(match decide(call, settings, question).await {
        Verdict::Permitted(inner, receipt) => {
            let (trace, record) = (inner.trace.hex(), receipt.seq());
            Answer { decision: true, context: Context { trace, record, ..Context::default() } }
        }
        Verdict::Refused(inner, refusal, receipt) => {
            let (fields, _) = ext_authz::refused(reply::refuse(&inner, &refusal, &receipt));
            let is_told = |name: &str| {
                matches!(name, "www-authenticate" | "accept-signature" | "retry-after")
            };
            let context = Context {
                trace: inner.trace.hex(),
                record: receipt.seq(),
                code: refusal.code.id.to_owned(),
                headers: fields.into_iter().filter(|(name, _)| is_told(name)).collect(),
                reasons: refusal.reasons,
            };
            Answer { decision: false, context }
        }
        Verdict::Unrecorded(unrecorded) => return Ok(Err(unrecorded)),
    }))
}

fn question(call: &Call, settings: &Enforcement, asked: Evaluation) -> Result<Question, Refusal> {
    let head = head(&asked)?;
    let caller = match &asked.certificate {
        Some(pem) => {
            let der = certificate(pem).map_err(malformed)?;
            caller::of_certificate(call, settings, &der, &asked.subject)
        }
        None => caller::of_name(call, settings, &asked.subject),
    };
    let caller = caller.and_then(|shown| {
        let is_same = shown.peer.spiffe().as_str() == asked.subject;
        is_same.then_some(shown).ok_or_else(|| no(&CALLER_DIFFERS))
    });
    let remote = asked.source.map_or_else(|| ([0, 0, 0, 0], 0).into(), |ip| (ip, 0).into());
    let nothing = || settings.settings.has_bodies.then(Bytes::new);
    let body = asked.body.map(Bytes::from).or_else(nothing);
    Ok(Question { head, body, caller, remote })
}

fn head(asked: &Evaluation) -> Result<Parts, Refusal> {
    let bad = |why: &'static str| no(&MALFORMED).because(why);
    let mut parts = http::uri::Parts::default();
    parts.path_and_query =
        Some(asked.path.parse::<PathAndQuery>().map_err(|_| bad("the resource's id"))?);
    let mut request = Request::new(());
    if asked.host.is_empty() {
        // The one version in which a request need not name its host.
        *request.version_mut() = Version::HTTP_10;
    } else {
        parts.scheme = Some(Scheme::HTTPS);
        parts.authority =
            Some(asked.host.parse::<Authority>().map_err(|_| bad("the resource's hostname"))?);
    }
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| bad("the resource"))?;
    *request.method_mut() = asked.method.parse().map_err(|_| bad("the action's name"))?;
    let headers: &mut HeaderMap = request.headers_mut();
    for (name, value) in &asked.headers {
        let name: HeaderName = name.parse().map_err(|_| bad("a header's name"))?;
        headers.append(name, value.parse().map_err(|_| bad("a header's value"))?);
    }
    Ok(request.into_parts().0)
}

fn answered(call: &Call, text: Vec<u8>, id: Option<&HeaderValue>) -> Response<ReplyBody> {
    let length = text.len();
    let body = ReplyBody::full(text.into(), call.reader());
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, length.into());
    headers::put(headers, "cache-control", "no-store");
    if let Some(id) = id {
        headers.insert(REQUEST_ID, id.clone());
    }
    response
}
