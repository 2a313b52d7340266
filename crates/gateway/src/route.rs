//! Stage 6: a permitted request meets its service.

use std::rc::Rc;
use std::sync::Arc;

use moat_config::RingKey;
use moat_model::code::upstream::CONNECT;
use moat_model::{Refusal, Stage};
use moat_net::ring;
use moat_net::service::Service;
use moat_policy::Permit;

use crate::body::OutBody;
use crate::call::Call;
use crate::decode::Decoded;

/// A permitted request and its service.
pub(crate) struct Routed {
    pub(crate) permit: Permit,
    pub(crate) decoded: Decoded,
    pub(crate) service: Rc<Service<OutBody>>,
    pub(crate) authority: Arc<str>,
    /// What a ring of endpoints goes by; 0 where there is none.
    pub(crate) key: u64,
}

/// Takes the permit, which must be for this very route, and finds the service.
///
/// # Errors
/// A refusal at [`Stage::Route`] if permit and route differ or the service is not configured;
/// neither happens within one generation.
pub(crate) fn route(call: &Call, permit: Permit, decoded: Decoded) -> Result<Routed, Refusal> {
    let route = &decoded.rules.route;
    let no = || Refusal::new(Stage::Route, &CONNECT);
    if permit.route() != route.name {
        return Err(no().because("the permit is for another route"));
    }
    let (service, authority) = call.generation.services.get(route.upstream).ok_or_else(no)?;
    let (service, authority) = (Rc::clone(service), Arc::clone(authority));
    let upstream = call.generation.shared.upstreams.get(route.upstream);
    let ring_key = upstream.and_then(|upstream| upstream.ring_key.as_ref());
    let key = ring_key.map_or(0, |ring_key| key(call, &decoded, ring_key));
    Ok(Routed { permit, decoded, service, authority, key })
}

/// A header that is missing is an empty one: such calls all go to one endpoint.
fn key(call: &Call, decoded: &Decoded, ring_key: &RingKey) -> u64 {
    match ring_key {
        RingKey::Object => ring::hash(call.object().as_bytes()),
        RingKey::Peer => {
            ring::hash(call.session.peer().map_or("", |p| p.spiffe().as_str()).as_bytes())
        }
        RingKey::Header(name) => {
            let value = decoded.head.headers.get(name);
            ring::hash(value.map_or(b"".as_slice(), |value| value.as_bytes()))
        }
    }
}
