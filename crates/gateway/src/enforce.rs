//! Decisions that others ask for and enforce: Envoy by ext_authz, or whoever speaks AuthZEN. Asked is
//! about a call that the other side has received and will carry out.
//!
//! The same routes, policies, tokens, challenges and budgets decide as for calls that go through the
//! gateway, and no answer leaves before its record is durable. Who asks must have proved itself and be
//! listed; whose call it is, is read from the caller's certificate, which is verified here again.
//! Nothing is forwarded from here.

mod authzen;
mod caller;
mod ext_authz;
pub(crate) mod local;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use moat_audit::recorder::Receipt;
use moat_config::Asking;
use moat_model::code::decision::{NOT_ENFORCER, NOT_HERE};
use moat_model::code::http::SLOW_BODY;
use moat_model::{Code, Refusal, Stage};
use moat_net::body::Incoming;
use moat_tls::{Path, Stack};

use crate::authorize::authorize;
use crate::body::ReplyBody;
use crate::call::Call;
use crate::decode::{self, Decoded};
use crate::generation::Enforcement;
use crate::pipeline::still_open;
use crate::record;
use crate::session::{Caller, PassedOnCaller, Session};
use crate::tokens;

pub(crate) use caller::Known;

/// Longest question, in bytes: a body of the default bound, a long head and a certificate.
const QUESTION_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// A call that somebody else has received.
struct Question {
    head: Parts,
    /// All of its body, where that was passed on.
    body: Option<Bytes>,
    caller: Result<caller::Shown, Refusal>,
    remote: SocketAddr,
}

/// What a question came to, with the record of it.
enum Verdict {
    Permitted(Rc<Call>, Receipt),
    Refused(Rc<Call>, Refusal, Receipt),
    /// There is no record, so nothing may be told.
    Unrecorded(Refusal),
}

/// Whether a call comes to a listener for questions.
pub(crate) fn is_asked(call: &Call) -> bool {
    enforcement(call).is_some()
}

fn enforcement(call: &Call) -> Option<&Enforcement> {
    let listener = call.generation.shared.listeners.get(call.session.listener)?;
    listener.enforcement.as_ref()
}

/// Answers a question.
///
/// # Errors
/// A [`Refusal`] of the question itself: who asks may not, or it cannot be read.
pub(crate) async fn answer(
    call: &Rc<Call>,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Refusal> {
    // Only asked for where there is one.
    let settings = enforcement(call).ok_or_else(|| no(&NOT_ENFORCER))?;
    if !may_ask(call, settings) {
        return Err(Refusal::new(Stage::Identify, &NOT_ENFORCER));
    }
    match settings.settings.asking {
        Asking::ExtAuthz => ext_authz::answer(call, settings, request).await,
        Asking::AuthZen => authzen::answer(call, settings, request).await,
    }
}

/// Looked at with each question: a reload may take somebody from the list.
fn may_ask(call: &Call, settings: &Enforcement) -> bool {
    let settings = &settings.settings;
    match (call.session.peer(), call.session.uid) {
        (Some(peer), None) => settings.spiffe.iter().any(|id| id == peer.spiffe().as_str()),
        (None, Some(uid)) => settings.is_local && settings.uids.contains(&uid),
        _ => false,
    }
}

async fn read(call: &Call, incoming: Incoming) -> Result<Bytes, Refusal> {
    let read = decode::read_body(incoming, QUESTION_BYTES_MAX, None);
    let read = tokio::time::timeout_at(call.deadline().into(), read).await;
    Ok(read.map_err(|_| no(&SLOW_BODY))??.0)
}

/// Decides, and records what was decided.
async fn decide(asking: &Rc<Call>, settings: &Enforcement, question: Question) -> Verdict {
    let Question { head, body, caller, remote } = question;
    let (caller, refused) = match caller {
        Ok(shown) => (passed_on(settings, shown), None),
        Err(refusal) => {
            let (path, stack) = (Arc::new(Path::of_nobody()), Stack::International);
            let role = Arc::clone(&settings.role);
            (PassedOnCaller { caller: Caller::Nobody, role, path, stack }, Some(refusal))
        }
    };
    let session = Session::passed_on(&asking.session, caller, remote);
    let request = Request::from_parts(head, ());
    let call = Call::new(&session, &request);
    let verdict = match refused {
        Some(refusal) => refuse(call, refusal).await,
        None => match permit(asking, &call, request.into_parts().0, body).await {
            Ok(receipt) => Verdict::Permitted(call, receipt),
            Err(refusal) => refuse(call, refusal).await,
        },
    };
    count(&verdict);
    verdict
}

fn passed_on(settings: &Enforcement, shown: caller::Shown) -> PassedOnCaller {
    let caller::Shown { peer, path, stack } = shown;
    let role = Arc::clone(&settings.role);
    PassedOnCaller { caller: Caller::Verified(peer), role, path, stack }
}

/// The record of a permit.
async fn permit(
    asking: &Call,
    call: &Rc<Call>,
    head: Parts,
    body: Option<Bytes>,
) -> Result<Receipt, Refusal> {
    let mut decoded: Decoded = decode::passed_on(call, head, body)?;
    tokens::fetch_key(call, &decoded).await;
    let permit = authorize(call, &mut decoded)?;
    if permit.obligations().mask.is_some() {
        return Err(no(&NOT_HERE));
    }
    call.check_time()?;
    // Who asks may have been cut meanwhile.
    still_open(asking)?;
    record::permitted(call, &decoded, &permit).await
}

async fn refuse(call: Rc<Call>, refusal: Refusal) -> Verdict {
    call.session.worker.counters.refuse(&refusal);
    tracing::debug!(trace = call.trace.hex(), %refusal, "a question was answered with no");
    match record::refusal(&call, &refusal).await {
        Ok(receipt) => Verdict::Refused(call, refusal, receipt),
        Err(unrecorded) => Verdict::Unrecorded(unrecorded),
    }
}

/// Among the figures of the route, a permit counts as 200.
fn count(verdict: &Verdict) {
    let (call, status) = match verdict {
        Verdict::Permitted(call, _) => (call, 200),
        Verdict::Refused(call, refusal, _) => (call, status_of(refusal)),
        Verdict::Unrecorded(_) => return,
    };
    if let Some(figures) = call.route().and_then(|at| call.generation.figures.get(at)) {
        figures.add(status, call.started.elapsed());
    }
}

/// The status that a caller is refused with. Codes of handshakes have none: the caller has one with
/// somebody else.
fn status_of(refusal: &Refusal) -> u16 {
    match refusal.code.status {
        status @ 400..600 => status,
        _ => 403,
    }
}

fn no(code: &'static Code) -> Refusal {
    Refusal::new(Stage::Decode, code)
}
