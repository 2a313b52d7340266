//! Stage 5: the policy decides. Nothing goes on without its [`Permit`].

use std::cell::RefCell;
use std::sync::Arc;

use moat_config::{FactSource, Route};
use moat_identity::VerifiedPeer;
use moat_identity::token::Token;
use moat_model::clock::Clock;
use moat_model::code::http::NO_ROUTE;
use moat_model::code::identity::NO_SPIFFE;
use moat_model::code::policy::{CHALLENGE, NO_PLAN, POLICY_OVER};
use moat_model::{Refusal, Stage};
use moat_policy::risk::{Attempt, Ended, Risk};
use moat_policy::{BodyValue, Decision, Fact, Permit, Question, StepUp};
use moat_tls::Stack;

use crate::call::Call;
use crate::decode::{Decoded, InBody};
use crate::generation::Generation;
use crate::risk::Network;
use crate::session::Session;
use crate::streams::{Matter, Proved, Stream, Streams};
use crate::worker::WorkerGeneration;
use crate::{risk, step_up, tokens};

/// Asks the policy about a decoded request, and does what it obliges to.
///
/// # Errors
/// A refusal at [`Stage::Authorize`]. Where a further proof is asked for, `call` holds what.
pub(crate) fn authorize(call: &Call, decoded: &mut Decoded) -> Result<Permit, Refusal> {
    let token = tokens::of(call, decoded);
    let weighed = weigh(call, decoded, token.as_ref().ok().and_then(Option::as_ref));
    call.risk.set(weighed);
    let proved = RefCell::new(None);
    let done = token.and_then(|token| {
        let permit = decide(call, decoded, token.as_ref(), weighed, &proved)?;
        oblige(call, decoded, &permit)?;
        Ok((permit, token))
    });
    let token = done.as_ref().ok().and_then(|(_, token)| token.as_ref());
    settle(call, decoded, token, done.as_ref().err());
    let (permit, token) = done?;
    if is_stream(decoded) {
        keep(call, decoded, &permit, token, proved.into_inner());
    }
    Ok(permit)
}

fn peer_of(session: &Session) -> Result<&VerifiedPeer, Refusal> {
    // Unreachable by construction of `pipeline::request`; refusing is right all the same.
    session.peer().ok_or_else(|| Refusal::new(Stage::Authorize, &NO_SPIFFE))
}

/// Counts the attempt and compares it with what its subject did before.
fn weigh(call: &Call, decoded: &Decoded, token: Option<&Token>) -> Option<Risk> {
    let memory = call.session.worker.risk.as_ref()?;
    Some(memory.attempt(&attempt_of(call, decoded, token, &mut Parts::default())?))
}

/// Says how the attempt ended, from which what is usual is learnt.
fn settle(call: &Call, decoded: &Decoded, token: Option<&Token>, refusal: Option<&Refusal>) {
    let Some(memory) = call.session.worker.risk.as_ref() else { return };
    let ended = match refusal {
        None => Ended::Allowed,
        Some(refusal) if *refusal.code == CHALLENGE => Ended::Asked,
        Some(_) => Ended::Refused,
    };
    let mut parts = Parts::default();
    if let Some(attempt) = attempt_of(call, decoded, token, &mut parts) {
        memory.settle(&attempt, ended);
    }
}

/// Room for what an [`Attempt`] only refers to.
#[derive(Default)]
struct Parts<'a> {
    subject: [&'a str; 3],
    network: Option<Network<'a>>,
}

fn attempt_of<'a>(
    call: &'a Call,
    decoded: &'a Decoded,
    token: Option<&'a Token>,
    parts: &'a mut Parts<'a>,
) -> Option<Attempt<'a>> {
    let session = &call.session;
    parts.subject = risk::subject(session.peer()?, token);
    let Parts { subject, network } = parts;
    let network = network.insert(Network::of(&call.generation.shared, session.remote.ip()));
    Some(risk::attempt(session, &decoded.rules.route, &decoded.decide_on, subject, network))
}

/// Whether a body of the call passes as it comes.
fn is_stream(decoded: &Decoded) -> bool {
    let is_upload = match &decoded.body {
        InBody::Stream(incoming) => !hyper::body::Body::is_end_stream(incoming),
        InBody::Held { .. } => false,
        // Neither body comes through here.
        InBody::Unseen => return false,
    };
    is_upload || decoded.rules.answer.is_none()
}

fn keep(
    call: &Call,
    decoded: &mut Decoded,
    permit: &Permit,
    token: Option<Token>,
    proved: Option<Proved>,
) {
    let matter = Matter {
        route: decoded.rules.route.name.clone(),
        params: decoded.params.clone(),
        headers: declared_headers(decoded),
        body_digest: digest_of(call),
        body: std::mem::take(&mut decoded.decide_on),
        token,
        proved,
        mask: permit.obligations().mask.clone(),
        risk: call.risk.get(),
    };
    let (method, path) = (call.method.clone(), call.path.clone());
    call.set_stream(Streams::enter(&call.session, method, path, matter));
}

fn digest_of(call: &Call) -> String {
    call.digest_in.get().map_or_else(String::new, |d| data_encoding::HEXLOWER.encode(&d))
}

fn decide(
    call: &Call,
    decoded: &Decoded,
    token: Option<&Token>,
    risk: Option<Risk>,
    proved: &RefCell<Option<Proved>>,
) -> Result<Permit, Refusal> {
    let session = &call.session;
    in_force(session, &call.generation.shared)?;
    let matter = Asked {
        method: call.method.as_str(),
        path: &call.path,
        params: &decoded.params,
        headers: &declared_headers(decoded),
        facts: &facts(session, &call.generation.shared, decoded.rules.route.upstream),
        body_digest: &digest_of(call),
        body: &decoded.decide_on,
        token,
        step_up: StepUp::default(),
        risk,
    };
    let question = question(session, &call.generation.shared, &decoded.rules.route, &matter)?;
    let package = &decoded.rules.route.policy;
    let ask = |step_up: StepUp<'_>| {
        *proved.borrow_mut() = Some(Proved::of(&step_up));
        let question = Question { step_up, ..question.clone() };
        let decision = call.generation.engine.borrow_mut().decide(package, &question);
        keep_input(call, decoded, &question, &decision);
        decision
    };
    let first = call.generation.engine.borrow_mut().decide(package, &question);
    keep_input(call, decoded, &question, &first);
    match first {
        Decision::Allow(permit) => Ok(permit),
        Decision::Deny(refusal) => Err(refusal),
        Decision::Challenge(asked) => step_up::meet(call, decoded, token, asked, &ask),
    }
}

fn keep_input(call: &Call, decoded: &Decoded, question: &Question<'_>, decision: &Decision) {
    let Some(inputs) = &call.session.worker.inputs else { return };
    let bundle = &call.generation.policy;
    inputs.keep(&decoded.rules.route, question, bundle, &call.trace.hex(), decision);
}

/// Decides about a stream once more, as things are now.
///
/// # Errors
/// Why it would not be allowed: the policy's reasons, a route that is gone, masks that differ.
pub(crate) fn again(stream: &Stream, generation: &WorkerGeneration) -> Result<(), Refusal> {
    let (session, shared) = (&stream.session, &generation.shared);
    in_force(session, shared)?;
    let gone = || Refusal::new(Stage::Authorize, &NO_ROUTE);
    let rules = shared.rules.iter().find(|rules| rules.name() == stream.route).ok_or_else(gone)?;
    let rules = rules.shared();
    let upstream = shared.upstreams.get(rules.route.upstream).ok_or_else(gone)?;
    stream.trusts(&upstream.terms.tls)?;
    let memory = session.worker.risk.as_ref();
    let risk =
        memory.and_then(|memory| with_attempt(stream, generation, |attempt| memory.look(attempt)));
    stream.risk.set(risk);
    let proved = stream.proved.as_ref();
    let matter = Asked {
        method: stream.method.as_str(),
        path: &stream.path,
        params: &stream.params,
        headers: &stream.headers,
        facts: &facts(session, shared, rules.route.upstream),
        body_digest: &stream.body_digest,
        body: &stream.body,
        token: stream.token.as_ref(),
        step_up: proved.map_or_else(StepUp::default, |p| p.step_up(stream.began.elapsed())),
        risk,
    };
    let question = question(session, shared, &rules.route, &matter)?;
    let decision = generation.engine.borrow_mut().decide(&rules.route.policy, &question);
    let permit = decision.permit()?;
    if permit.obligations().mask == stream.mask {
        Ok(())
    } else {
        Err(Refusal::new(Stage::Authorize, &NO_PLAN).because("the stream is masked otherwise"))
    }
}

/// What is compared of a stream's call, with the networks of a generation; nothing if its route is
/// gone.
pub(crate) fn with_attempt<T>(
    stream: &Stream,
    generation: &WorkerGeneration,
    run: impl FnOnce(&Attempt<'_>) -> T,
) -> Option<T> {
    let (session, shared) = (&stream.session, &generation.shared);
    let rules = shared.rules.iter().find(|rules| rules.name() == stream.route)?.shared();
    let subject = risk::subject(session.peer()?, stream.token.as_ref());
    let network = Network::of(shared, session.remote.ip());
    let attempt = risk::attempt(session, &rules.route, &stream.body, &subject, &network);
    Some(run(&attempt))
}

/// A signed bundle has its time; after it nothing is decided any more.
pub(crate) fn in_force(session: &Session, generation: &Generation) -> Result<(), Refusal> {
    let now_s = session.worker.clock.wall_ns() / 1_000_000_000;
    match generation.policy_until_s {
        Some(until_s) if now_s > until_s => Err(Refusal::new(Stage::Authorize, &POLICY_OVER)),
        _ => Ok(()),
    }
}

/// What a question has of the call itself.
struct Asked<'a> {
    method: &'a str,
    path: &'a str,
    params: &'a [(Arc<str>, String)],
    headers: &'a [(Arc<str>, String)],
    facts: &'a [Fact<'a>],
    body_digest: &'a str,
    body: &'a [(String, BodyValue)],
    token: Option<&'a Token>,
    step_up: StepUp<'a>,
    risk: Option<Risk>,
}

fn question<'a>(
    session: &'a Session,
    generation: &'a Generation,
    route: &'a Route,
    asked: &Asked<'a>,
) -> Result<Question<'a>, Refusal> {
    let peer = peer_of(session)?;
    Ok(Question {
        now_ms: session.worker.clock.wall_ns() / 1_000_000,
        tenant: crate::record::TENANT,
        listener: generation.listeners.get(session.listener).map_or("", |l| l.name.as_str()),
        route: &route.name,
        role: &session.role,
        spiffe: peer.spiffe().as_str(),
        subject: peer.subject(),
        issuer: peer.issuer(),
        serial: peer.serial(),
        expires_ms: peer.not_after_s().saturating_mul(1000),
        suite: session.negotiated.suite,
        group: session.negotiated.group,
        national: session.negotiated.stack == Stack::National,
        ja4: &session.ja4,
        wire: &session.view.wire,
        method: asked.method,
        path: asked.path,
        params: asked.params,
        headers: asked.headers,
        body_digest: asked.body_digest,
        body: asked.body,
        token: asked.token.map(told),
        step_up: asked.step_up,
        risk: asked.risk.unwrap_or(Risk::OFF),
        facts: asked.facts,
    })
}

fn told(token: &Token) -> moat_policy::Token<'_> {
    let ms = |seconds: Option<u64>| seconds.unwrap_or(0).saturating_mul(1000);
    moat_policy::Token {
        issuer: &token.issuer,
        subject: &token.subject,
        acr: &token.acr,
        amr: &token.amr,
        auth_ms: ms(token.auth_s),
        issued_ms: ms(token.issued_s),
        claims: &token.claims,
    }
}

/// What cannot be done is a refusal: an obligation is part of the permit.
fn oblige(call: &Call, decoded: &mut Decoded, permit: &Permit) -> Result<(), Refusal> {
    let obligations = permit.obligations();
    if let Some(name) = &obligations.mask {
        let plan = decoded.rules.plans.iter().find(|(known, _)| known == name);
        // Messages of gRPC cannot be looked into, so they cannot be masked.
        let plan = plan.filter(|_| !call.is_grpc);
        let no_plan = || Refusal::new(Stage::Authorize, &NO_PLAN).because(name);
        let (_, rules) = plan.ok_or_else(no_plan)?;
        let rules = Arc::clone(rules);
        call.set_route(&rules, &decoded.params);
        decoded.rules = rules;
    }
    let caller = call.session.peer().map_or("", |peer| peer.spiffe().as_str());
    let now_ms = call.session.worker.clock.mono_ns() / 1_000_000;
    call.session.worker.standing.spend(caller, &obligations.limits, now_ms)
}

fn declared_headers(decoded: &Decoded) -> Vec<(Arc<str>, String)> {
    let value = |name: &Arc<str>| {
        let values = decoded.head.headers.get_all(name.as_ref());
        let texts: Vec<&str> = values.iter().filter_map(|v| v.to_str().ok()).collect();
        (Arc::clone(name), texts.join(","))
    };
    decoded.rules.headers.iter().map(value).collect()
}

/// The flat facts of this call. A label that does not exist gives an empty text: never nothing,
/// since a missing key would make its negation true.
fn facts<'a>(session: &'a Session, generation: &'a Generation, upstream: usize) -> Vec<Fact<'a>> {
    let upstream = generation.upstreams.get(upstream);
    let peer = session.peer();
    let value = |source: &FactSource| match source {
        FactSource::PeerSubject => peer.map(|p| p.subject()),
        FactSource::PeerSpiffe => peer.map(|p| p.spiffe().as_str()),
        FactSource::PeerSpiffePath(at) => {
            peer.and_then(|p| p.spiffe().path().split('/').skip(1).nth(*at))
        }
        FactSource::UpstreamName => upstream.map(|u| u.name.as_str()),
        FactSource::UpstreamLabel(name) => {
            upstream.and_then(|u| u.labels.get(name)).map(String::as_str)
        }
        FactSource::Label(name) => generation.labels.get(name).map(String::as_str),
    };
    generation
        .facts
        .iter()
        .map(|(name, source)| Fact { name, value: value(source).unwrap_or("") })
        .collect()
}
