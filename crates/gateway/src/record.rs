//! Stage 9: the record becomes durable. Nothing is forwarded that can change state before its
//! INTENT is, and nothing is answered before its record is: success and refusal alike.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use moat_audit::record::{Body, Kind, Op, Outcome};
use moat_audit::recorder::Receipt;
use moat_config::Op as RouteOp;
use moat_mask::Captures;
use moat_model::code::audit::{AUDITOR_AWAY, PASSING};
use moat_model::code::http::PROTOCOL;
use moat_model::code::upstream::STREAM_CUT;
use moat_model::{Code, Refusal, Stage};
use moat_net::endpoint::Event;
use moat_net::service::Service;
use moat_policy::Permit;
use moat_tls::Negotiated;

use crate::body::{Ending, OutBody, sha256};
use crate::call::{Call, Intent, Sent};
use crate::decode::{Decoded, InBody};
use crate::doors::Tally;
use crate::fields::{self, Subject};
use crate::forward::micros;
use crate::generation::RouteRules;
use crate::mask::{Inbound, InboundBody, Outbound};
use crate::session::Session;
use crate::worker::Worker;

/// The tenant of every call, until tenants are configured.
pub(crate) const TENANT: &str = "default";

/// Longest wait for the record of a summary: nobody is answered by it, and a stop waits for it.
const SUMMARY: Duration = Duration::from_secs(2);

/// How often the record of a cut connection is tried, and the pause between.
const CUT_TRIES: usize = 240;
const CUT_PAUSE: Duration = Duration::from_millis(250);

/// Why no record can be made before the first link to the auditor is up.
const NO_ANCHORS: &str = "the auditor has not handed over its anchor key yet";

/// A request that may go to the service: its intent is durable, or it changes nothing. Only
/// [`intent`] makes one.
pub(crate) struct Intended {
    outbound: Box<Outbound>,
}

impl Intended {
    pub(crate) fn into_outbound(self) -> Box<Outbound> {
        self.outbound
    }

    pub(crate) fn rules(&self) -> Arc<RouteRules> {
        Arc::clone(&self.outbound.rules)
    }

    /// A message that may go on, as a request over HTTP.
    pub(crate) fn of_message(
        message: crate::iso8583::Intended,
        (rules, service): (Arc<RouteRules>, Rc<Service<OutBody>>),
        (authority, request): (Arc<str>, http::Request<OutBody>),
    ) -> Intended {
        let permit = message.into_permit();
        let (params, captures, upload) = (Vec::new(), None, None);
        let outbound = Outbound {
            permit,
            rules,
            params,
            service,
            key: 0,
            authority,
            request,
            captures,
            upload,
        };
        Intended { outbound: Box::new(outbound) }
    }
}

/// An answer whose record is durable. Only this module makes one.
pub(crate) struct Answerable {
    pub(crate) inbound: Inbound,
    pub(crate) receipt: Receipt,
}

/// Makes the INTENT of a call that can change state durable; lets a read pass.
///
/// # Errors
/// A refusal at [`Stage::Record`]; nothing was sent.
pub(crate) async fn intent(
    call: &Call,
    outbound: Box<Outbound>,
    before: Option<Captures>,
) -> Result<Intended, Refusal> {
    let rules = &outbound.rules;
    if !rules.changes() {
        return Ok(Intended { outbound });
    }
    let mut fields = Vec::new();
    with_subject(call, |subject| {
        if let (Some(reading), Some(captures)) = (&rules.request, &outbound.captures) {
            fields.extend(fields::recorded(rules, reading, captures, subject));
        }
        if let Some(before) = &before {
            fields.extend(fields::before(rules, before, subject));
        }
    })?;
    let mut body = body_of(call, Kind::Intent);
    body.fields.clone_from(&fields);
    body.reasons = outbound.permit.reasons().to_vec();
    let receipt = commit(call, body).await?;
    call.set_intent(Intent { receipt, fields: Rc::new(fields) });
    Ok(Intended { outbound })
}

/// Makes the record of an answer durable: OUTCOME after an intent, READ without one.
///
/// # Errors
/// A refusal at [`Stage::Record`]: the answer is withheld.
pub(crate) async fn outcome(call: &Call, inbound: Inbound) -> Result<Answerable, Refusal> {
    let rules = &inbound.rules;
    let intent = call.intent();
    let kind = if intent.is_some() { Kind::Outcome } else { Kind::Read };
    let mut body = body_of(call, kind);
    let (bytes, captures) = match &inbound.body {
        InboundBody::Held { bytes, captures } => (Some(bytes), captures.as_ref()),
        InboundBody::Stream(..) => (None, None),
    };
    body.http_status = Some(inbound.head.status.as_u16());
    body.answered = Some(!call.is_gone.get());
    body.outcome = Some(match (bytes, &intent) {
        (None, _) => Outcome::Streaming,
        (Some(_), Some(_)) => outcome_of(inbound.head.status.as_u16(), grpc_status(&inbound)),
        (Some(_), None) => Outcome::Read,
    });
    if let Some(bytes) = bytes {
        body.bytes_out = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        body.body_digest_out = Some(sha256(bytes));
    }
    let described = with_subject(call, |subject| match &intent {
        Some(intent) => body.fields = fields::after(rules, &intent.fields, captures, subject),
        None => {
            if let (Some(reading), Some(captures)) = (&rules.answer, captures) {
                body.fields = fields::recorded(rules, reading, captures, subject);
            }
        }
    });
    described?;
    // A revealed read says what was revealed and by which plan.
    body.reasons.extend(rules.reveals.iter().cloned());
    body.intent_seq = intent.as_ref().map(|intent| intent.receipt.seq());
    let receipt = commit(call, body).await?;
    // The closing record of a stream still has to say how it ended.
    if let InboundBody::Held { .. } = &inbound.body {
        call.close_intent();
    }
    Ok(Answerable { inbound, receipt })
}

/// Makes the record of a permit durable whose call somebody else carries out.
///
/// # Errors
/// A refusal at [`Stage::Record`]: the permit is withheld.
pub(crate) async fn permitted(
    call: &Call,
    decoded: &Decoded,
    permit: &Permit,
) -> Result<Receipt, Refusal> {
    let mut body = body_of(call, Kind::Read);
    body.outcome = Some(Outcome::Permitted);
    body.reasons = permit.reasons().to_vec();
    let rules = &decoded.rules;
    if let (Some(reading), InBody::Held { captures, .. }) = (&rules.request, &decoded.body) {
        with_subject(call, |subject| {
            body.fields = fields::recorded(rules, reading, captures, subject);
        })?;
    }
    commit(call, body).await
}

/// Makes the record of a question after the gateway's health durable.
///
/// # Errors
/// A refusal at [`Stage::Record`]: it is not healthy.
pub(crate) async fn healthy(call: &Call) -> Result<Receipt, Refusal> {
    let mut body = body_of(call, Kind::Read);
    body.outcome = Some(Outcome::Read);
    commit(call, body).await
}

/// Makes the record of a refusal durable. After an intent it is that intent's outcome: FAILED if
/// nothing was sent, UNKNOWN if something may have been.
///
/// # Errors
/// A refusal at [`Stage::Record`]: not even the refusal could be recorded.
pub(crate) async fn refusal(call: &Call, refusal: &Refusal) -> Result<Receipt, Refusal> {
    let intent = call.intent();
    let mut body = body_of(call, if intent.is_some() { Kind::Outcome } else { Kind::Refusal });
    body.stage = Some(refusal.stage);
    refusal.code.id.clone_into(&mut body.code);
    body.reasons.clone_from(&refusal.reasons);
    body.http_status = Some(refusal.code.status);
    body.answered = Some(!call.is_gone.get());
    let is_challenge = call.asked().is_some();
    body.outcome = Some(match (&intent, call.sent.get()) {
        (None, _) if is_challenge => Outcome::Challenged,
        (None, _) => Outcome::Refused,
        (Some(_), Sent::Nothing) => Outcome::Failed,
        (Some(_), Sent::Perhaps) => Outcome::Unknown,
    });
    if let Some(intent) = intent {
        body.intent_seq = Some(intent.receipt.seq());
        body.fields.clone_from(&intent.fields);
    }
    let receipt = commit(call, body).await?;
    call.close_intent();
    Ok(receipt)
}

/// Records how a streamed answer ended. Runs after the answer, so a failure can only be reported.
///
/// `status` is the HTTP status of the answer's head.
pub(crate) async fn closing(call: Rc<Call>, head: Receipt, status: u16, ending: Ending) {
    let intent = call.intent();
    let mut body = body_of(&call, if intent.is_some() { Kind::Outcome } else { Kind::Read });
    body.parent_seq = Some(head.seq());
    body.http_status = Some(status);
    body.bytes_out = ending.bytes;
    body.body_digest_out = Some(ending.sha256);
    // The service that broke off may have been made to: by a caller that was cut.
    let cut = match ending.cut {
        Some(code) if *code == STREAM_CUT => Some(call.upload_cut().unwrap_or(code)),
        cut => cut,
    };
    body.outcome = Some(match (cut, &intent) {
        (Some(_), Some(_)) => Outcome::Unknown,
        (Some(_), None) => Outcome::Aborted,
        // A gRPC answer without a status says nothing of what became of the call.
        (None, Some(_)) if call.is_grpc && ending.grpc_status.is_none() => Outcome::Unknown,
        (None, Some(_)) => outcome_of(status, ending.grpc_status.filter(|_| call.is_grpc)),
        (None, None) => Outcome::Closed,
    });
    if let Some(code) = cut {
        code.id.clone_into(&mut body.code);
        body.stage = Some(Stage::Reply);
        body.reasons = call.stream().map_or_else(Vec::new, |stream| stream.reasons());
    }
    if let Some(intent) = intent {
        body.intent_seq = Some(intent.receipt.seq());
    }
    match commit(&call, body).await {
        Ok(_) => call.close_intent(),
        Err(refusal) => {
            tracing::error!(trace = call.trace.hex(), %refusal, "a closing record was not made");
        }
    }
}

/// Records a connection that never became a session: a failed handshake, or one that ended well
/// (`negotiated`) for a caller whose identity is refused.
///
/// # Errors
/// A refusal at [`Stage::Record`].
pub(crate) async fn connection_refusal(
    worker: &Worker,
    listener: usize,
    remote: SocketAddr,
    negotiated: Option<Negotiated>,
    refusal: &Refusal,
) -> Result<Receipt, Refusal> {
    let mut body = connection_body(worker, listener, refusal.stage, refusal.code);
    if let Some(negotiated) = negotiated {
        say(&mut body, negotiated);
    }
    body.reasons.clone_from(&refusal.reasons);
    body.note = format!("from {remote}");
    commit_body(worker, body, worker.generation().shared.audit_deadline).await
}

/// Records what no call stands behind.
///
/// # Errors
/// A refusal at [`Stage::Record`].
pub(crate) async fn own(worker: &Worker, body: &Body, most: Duration) -> Result<(), Refusal> {
    worker.recorder.commit(body, most).await?;
    worker.counters.records.add();
    Ok(())
}

/// The record of a start: with what the gateway begins. `policy` is the name of a signed bundle.
pub(crate) fn start(number: u64, digest: &str, policy: Option<&str>) -> Body {
    let policy = policy.map_or_else(String::new, |name| format!(" policy={name}"));
    admin(number, format!("gateway start generation={number} digest={digest}{policy}"))
}

/// The record of a reload: what was asked by whom, and what came of it. `refused` is the code, if
/// the configuration in force stays.
pub(crate) fn reload(
    number: u64,
    digest: &str,
    asker: &str,
    policy: Option<&str>,
    refused: Option<&str>,
) -> Body {
    let ended = if refused.is_some() { "refused" } else { "taken" };
    let digest = if digest.is_empty() { "-" } else { digest };
    let policy = policy.map_or_else(String::new, |name| format!(" policy={name}"));
    let note = format!("reload generation={number} digest={digest}{policy} by={asker} {ended}");
    Body { code: refused.unwrap_or_default().to_owned(), ..admin(number, note) }
}

/// The record of another program that takes over.
pub(crate) fn upgrade(generation: u64, versions: &str, asker: &str) -> Body {
    admin(generation, format!("upgrade {versions} by={asker}"))
}

/// The record of what happened to an endpoint of a service.
pub(crate) fn endpoint(
    generation: u64,
    upstream: &str,
    address: SocketAddr,
    event: &Event,
) -> Body {
    let note = format!("endpoint {address} of {upstream}: {event}");
    Body { upstream: upstream.to_owned(), ..admin(generation, note) }
}

/// The record of what happened to a link of messages.
pub(crate) fn link(generation: u64, upstream: &str, note: &str) -> Body {
    Body { upstream: upstream.to_owned(), ..admin(generation, note.to_owned()) }
}

/// The record of other addresses that a name has now.
pub(crate) fn addresses(generation: u64, name: &str, addresses: &[SocketAddr]) -> Body {
    let list = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    admin(generation, format!("addresses of {name}: {list}"))
}

fn admin(generation: u64, note: String) -> Body {
    let trace = crate::trace::Trace::of(&http::HeaderMap::new());
    Body { tenant: TENANT.to_owned(), generation, note, ..Body::new(Kind::Admin, trace.id) }
}

/// Records refused connections that have no records of their own.
///
/// # Errors
/// A refusal at [`Stage::Record`].
pub(crate) async fn summary(worker: &Worker, tally: &Tally) -> Result<Receipt, Refusal> {
    let mut body = connection_body(worker, tally.listener, tally.stage, tally.code);
    let Tally { count, first_ns, last_ns, .. } = tally;
    let source = tally.source.map_or_else(|| "others".to_owned(), |source| source.to_string());
    body.note = format!("from {source} count={count} first_ns={first_ns} last_ns={last_ns}");
    commit_body(worker, body, worker.generation().shared.audit_deadline.min(SUMMARY)).await
}

/// Records that a session broke the protocol, or that streams of it were refused before they
/// became calls. Runs after the connection, so a failure can only be reported.
pub(crate) async fn broken_session(session: &Session, streams_refused: u64) {
    let (remote, calls) = (session.remote, session.begun());
    let note = format!("from {remote} calls={calls} streams_refused={streams_refused}");
    told(of_session(session, Stage::Decode, &PROTOCOL, note).await);
}

/// Records why a connection of messages was ended. Runs after it, so a failure can only be reported.
pub(crate) async fn ended_session(session: &Session, code: &'static Code, note: String) {
    told(of_session(session, Stage::Decode, code, note).await);
}

fn told(done: Result<Receipt, Refusal>) {
    if let Err(refusal) = done {
        tracing::error!(%refusal, "the end of a connection was not recorded");
    }
}

/// Records how a session was refused.
async fn of_session(
    session: &Session,
    stage: Stage,
    code: &'static Code,
    note: String,
) -> Result<Receipt, Refusal> {
    let worker = &session.worker;
    let mut body = connection_body(worker, session.listener, stage, code);
    if let Some(peer) = session.peer() {
        peer.spiffe().as_str().clone_into(&mut body.actor);
        peer.subject().clone_into(&mut body.actor_subject);
        body.peer_cert_hash = Some(*peer.certificate_sha256());
    }
    say(&mut body, session.negotiated);
    body.note = note;
    commit_body(worker, body, worker.generation().shared.audit_deadline).await
}

/// Records that a session was cut, since its caller would not be let in any more. Runs after the
/// connection, so a failure can only be reported.
pub(crate) async fn cut_session(session: &Session, code: &'static Code) {
    let note = format!("from {} calls={} cut", session.remote, session.begun());
    // Many may be cut at once; the callers that stay must not wait behind them all.
    let _turn = session.worker.cuts.acquire().await;
    for _ in 0..CUT_TRIES {
        match of_session(session, Stage::Identify, code, note.clone()).await {
            Err(unrecorded) if PASSING.contains(&unrecorded.code) => {
                tokio::time::sleep(CUT_PAUSE).await;
            }
            done => return told(done),
        }
    }
    tracing::error!(note, "a cut was not recorded");
}

/// What records of connections without a session have in common.
fn connection_body(worker: &Worker, listener: usize, stage: Stage, code: &Code) -> Body {
    let generation = worker.generation();
    let trace = crate::trace::Trace::of(&http::HeaderMap::new());
    let mut body = Body::new(Kind::Refusal, trace.id);
    TENANT.clone_into(&mut body.tenant);
    body.listener =
        generation.shared.listeners.get(listener).map_or_else(String::new, |l| l.name.clone());
    body.generation = generation.shared.number;
    body.outcome = Some(Outcome::Refused);
    body.stage = Some(stage);
    code.id.clone_into(&mut body.code);
    body.unguarded = worker.unguarded.to_string();
    body
}

/// What the caller's handshake came to.
fn say(body: &mut Body, negotiated: Negotiated) {
    negotiated.suite.clone_into(&mut body.suite);
    negotiated.group.clone_into(&mut body.group);
}

/// The part that every record of a call has in common.
pub(crate) fn body_of(call: &Call, kind: Kind) -> Box<Body> {
    let session = &call.session;
    let generation = &call.generation.shared;
    let spare = session.worker.spare.take();
    let mut body = spare.unwrap_or_else(|| Box::new(Body::new(kind, call.trace.id)));
    body.renew(kind, call.trace.id);
    TENANT.clone_into(&mut body.tenant);
    if let Some(listener) = generation.listeners.get(session.listener) {
        body.listener.clone_from(&listener.name);
    }
    body.generation = generation.number;
    (*call.generation.policy).clone_into(&mut body.policy_ver);
    call.method.as_str().clone_into(&mut body.method);
    body.user_agent.clone_from(&call.user_agent);
    body.ja4.clone_from(&session.ja4);
    body.wire.clone_from(&session.view.note);
    (*session.worker.unguarded).clone_into(&mut body.unguarded);
    say(&mut body, session.negotiated);
    if let Some(peer) = session.peer() {
        peer.spiffe().as_str().clone_into(&mut body.actor);
        peer.subject().clone_into(&mut body.actor_subject);
        body.peer_cert_hash = (!peer.is_named_only()).then(|| *peer.certificate_sha256());
    }
    let rules = call.rules();
    let upstream = rules.as_ref().and_then(|rules| generation.upstreams.get(rules.route.upstream));
    if let Some(rules) = &rules {
        body.route.clone_from(&rules.route.name);
        body.op = Some(op(rules));
        (*call.object()).clone_into(&mut body.object);
    } else {
        body.object = call.path.trim_start_matches('/').chars().take(256).collect();
    }
    if let Some(upstream) = upstream {
        body.upstream.clone_from(&upstream.name);
    }
    let is_only = || upstream.is_none_or(|u| u.cluster.members().list().len() <= 1);
    body.note = match &session.via {
        Some(via) => format!("asked by {via}"),
        None => call.tries.note(is_only),
    };
    body.bytes_in = call.bytes_in.get();
    body.body_digest_in = call.digest_in.get();
    body.duration_us = micros(call.started.elapsed());
    body.upstream_us = call.upstream_us.get();
    if let Some(answered) = call.answered() {
        body.step_up = answered.text;
        body.decision_id = answered.decision.map_or_else(String::new, hex);
    }
    body.risk = crate::risk::note(call.risk.get());
    if let Some(asked) = call.asked() {
        body.decision_id = hex(asked.decision);
    }
    if let Some(tls) = call.upstream_tls.get() {
        tls.suite.clone_into(&mut body.upstream_suite);
        tls.group.clone_into(&mut body.upstream_group);
    }
    body
}

fn hex(decision: [u8; 16]) -> String {
    data_encoding::HEXLOWER.encode(&decision)
}

fn op(rules: &RouteRules) -> Op {
    match rules.route.audit.op {
        RouteOp::Sel => Op::Sel,
        RouteOp::Ins => Op::Ins,
        RouteOp::Upd => Op::Upd,
        RouteOp::Del => Op::Del,
    }
}

/// What a complete answer to a change means. A service that refused has changed nothing; one that
/// failed, or a proxy on the way, leaves it unknown.
fn outcome_of(status: u16, grpc: Option<u8>) -> Outcome {
    match (status, grpc) {
        // CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, ABORTED, INTERNAL, UNAVAILABLE, DATA_LOSS
        (200, Some(1 | 2 | 4 | 10 | 13 | 14 | 15)) => Outcome::Unknown,
        (200, Some(status)) if status != 0 => Outcome::Failed,
        (200..=399, _) => Outcome::Committed,
        (400..=499 | 501 | 503, _) => Outcome::Failed,
        _ => Outcome::Unknown,
    }
}

/// `grpc-status` of an answer that has no body.
fn grpc_status(inbound: &Inbound) -> Option<u8> {
    inbound.head.headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

pub(crate) fn with_subject(call: &Call, run: impl FnOnce(&Subject<'_>)) -> Result<(), Refusal> {
    let key = call.session.worker.recorder.anchors();
    let key = key.ok_or_else(|| Refusal::new(Stage::Record, &AUDITOR_AWAY).because(NO_ANCHORS))?;
    let object = call.object();
    run(&Subject { key: &key, tenant: TENANT, object: &object });
    Ok(())
}

/// Gives the body back, so that no future holds it while the log is written.
pub(crate) fn commit(
    call: &Call,
    body: Box<Body>,
) -> impl Future<Output = Result<Receipt, Refusal>> + use<'_> {
    let worker = &call.session.worker;
    let until = Instant::now() + call.generation.shared.audit_deadline;
    let late = poll_fn(move |cx| match call.is_over(cx, until) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    });
    let committing = worker.recorder.commit_unless(&body, late);
    worker.spare.set(Some(body));
    async move {
        let receipt = committing.await?;
        worker.counters.records.add();
        Ok(receipt)
    }
}

/// Takes the body, so that no future holds it while the log is written.
fn commit_body(
    worker: &Worker,
    body: Body,
    deadline: Duration,
) -> impl Future<Output = Result<Receipt, Refusal>> + use<'_> {
    let committing = worker.recorder.commit(&body, deadline);
    drop(body);
    async move {
        let receipt = committing.await?;
        worker.counters.records.add();
        Ok(receipt)
    }
}
