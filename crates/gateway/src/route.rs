//! Stage 6: a permitted request meets its service.

use std::rc::Rc;
use std::sync::Arc;

use moat_model::code::upstream::CONNECT;
use moat_model::{Refusal, Stage};
use moat_net::pool::Pool;
use moat_policy::Permit;

use crate::body::OutBody;
use crate::call::Call;
use crate::decode::Decoded;

/// A permitted request and the connections to its service.
pub(crate) struct Routed {
    pub(crate) permit: Permit,
    pub(crate) decoded: Decoded,
    pub(crate) pool: Rc<Pool<OutBody>>,
    pub(crate) authority: Arc<str>,
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
    let (pool, authority) = call.generation.services.get(route.upstream).ok_or_else(no)?;
    let (pool, authority) = (Rc::clone(pool), Arc::clone(authority));
    Ok(Routed { permit, decoded, pool, authority })
}
