//! Stage 5: the policy decides. Nothing goes on without its [`Permit`].

use std::sync::Arc;

use moat_config::FactSource;
use moat_identity::VerifiedPeer;
use moat_identity::token::Token;
use moat_model::clock::Clock;
use moat_model::code::policy::NO_PLAN;
use moat_model::{Refusal, Stage};
use moat_policy::{Decision, Fact, Permit, Question, StepUp};
use moat_tls::Stack;

use crate::call::Call;
use crate::decode::Decoded;
use crate::{step_up, tokens};

/// Asks the policy about a decoded request, and does what it obliges to.
///
/// # Errors
/// A refusal at [`Stage::Authorize`]. Where a further proof is asked for, `call` holds what.
pub(crate) fn authorize(call: &Call, decoded: &mut Decoded) -> Result<Permit, Refusal> {
    let permit = decide(call, decoded)?;
    oblige(call, decoded, &permit)?;
    Ok(permit)
}

fn decide(call: &Call, decoded: &Decoded) -> Result<Permit, Refusal> {
    let peer = call.session.peer().ok_or_else(|| {
        // Unreachable by construction of `pipeline::request`; refusing is right all the same.
        Refusal::new(Stage::Authorize, &moat_model::code::identity::NO_SPIFFE)
    })?;
    let token = tokens::of(call, decoded)?;
    let (headers, facts) = (declared_headers(decoded), facts(call, decoded));
    let digest = call.digest_in.get().map(|d| data_encoding::HEXLOWER.encode(&d));
    let question = Question {
        headers: &headers,
        facts: &facts,
        body_digest: digest.as_deref().unwrap_or(""),
        token: token.as_ref().map(told),
        ..question(call, decoded, peer)
    };
    let package = &decoded.rules.route.policy;
    let ask = |step_up: StepUp<'_>| {
        let question = Question { step_up, ..question.clone() };
        call.generation.engine.borrow_mut().decide(package, &question)
    };
    let first = call.generation.engine.borrow_mut().decide(package, &question);
    match first {
        Decision::Allow(permit) => Ok(permit),
        Decision::Deny(refusal) => Err(refusal),
        Decision::Challenge(asked) => step_up::meet(call, decoded, token.as_ref(), asked, &ask),
    }
}

/// What is asked, but for what must be made first.
fn question<'a>(call: &'a Call, decoded: &'a Decoded, peer: &'a VerifiedPeer) -> Question<'a> {
    let session = &call.session;
    let generation = &call.generation.shared;
    Question {
        now_ms: session.worker.clock.wall_ns() / 1_000_000,
        tenant: crate::record::TENANT,
        listener: generation.listeners.get(session.listener).map_or("", |l| l.name.as_str()),
        route: &decoded.rules.route.name,
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
        method: call.method.as_str(),
        path: &call.path,
        params: &decoded.params,
        headers: &[],
        body_digest: "",
        body: &decoded.decide_on,
        token: None,
        step_up: StepUp::default(),
        facts: &[],
    }
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
fn facts<'a>(call: &'a Call, decoded: &Decoded) -> Vec<Fact<'a>> {
    let generation = &call.generation.shared;
    let upstream = generation.upstreams.get(decoded.rules.route.upstream);
    let peer = call.session.peer();
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
