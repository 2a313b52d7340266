//! Stage 5: the policy decides. Nothing goes on without its [`Permit`].

use std::sync::Arc;

use moat_config::FactSource;
use moat_model::clock::Clock;
use moat_model::{Refusal, Stage};
use moat_policy::{Fact, Permit, Question};
use moat_tls::Stack;

use crate::call::Call;
use crate::decode::Decoded;

/// Asks the policy about a decoded request.
///
/// # Errors
/// The policy's refusal, at [`Stage::Authorize`].
pub(crate) fn authorize(call: &Call, decoded: &Decoded) -> Result<Permit, Refusal> {
    let session = &call.session;
    let peer = session.peer().ok_or_else(|| {
        // Unreachable by construction of `pipeline::request`; refusing is right all the same.
        Refusal::new(Stage::Authorize, &moat_model::code::identity::NO_SPIFFE)
    })?;
    let generation = &call.generation.shared;
    let route = &decoded.rules.route;
    let digest = call.digest_in.get().map(|d| data_encoding::HEXLOWER.encode(&d));
    let question = Question {
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
        method: call.method.as_str(),
        path: &call.path,
        params: &decoded.params,
        headers: &declared_headers(decoded),
        body_digest: digest.as_deref().unwrap_or(""),
        body: &decoded.decide_on,
        facts: &facts(call, decoded),
    };
    call.generation.engine.borrow_mut().decide(&route.policy, &question)
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
