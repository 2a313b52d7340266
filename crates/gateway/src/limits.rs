//! What is refused so that the rest can be served: by rate, and by what a call is worth when the
//! worker is overrun. Both before the body is read and before the policy is asked.

use std::sync::Arc;

use moat_config::{Per, Route};
use moat_model::code::limit::{RATE, SHED};
use moat_model::{Refusal, Stage};
use moat_net::admission::Class;
use moat_net::rate::{Decision, Limiter, Rate};

use crate::call::Call;
use crate::generation::RouteRules;
use crate::record::TENANT;
use crate::upstream::Kept;

/// One rate of a route.
pub(crate) struct Limit {
    name: String,
    per: Per,
    limiter: Arc<Limiter>,
    /// `RateLimit-Policy`: the name, its calls and its time in seconds.
    policy: String,
}

/// A rate that a call exceeds, as its caller is told.
#[derive(Clone)]
pub(crate) struct Exceeded {
    pub(crate) policy: String,
    /// `RateLimit`: nothing is left until then.
    pub(crate) state: String,
}

pub(crate) fn class(raw: moat_config::CallClass) -> Class {
    match raw {
        moat_config::CallClass::Batch => Class::Batch,
        moat_config::CallClass::Query => Class::Query,
        moat_config::CallClass::Payment => Class::Payment,
        moat_config::CallClass::Settlement => Class::Settlement,
    }
}

/// The rates of a route. What was counted under the same rate before counts on.
pub(crate) fn limits(route: &Route, kept: &Kept) -> Vec<Limit> {
    let limit = |raw: &moat_config::Rate| {
        let every_ns = raw.every_ms.saturating_mul(1_000_000);
        let rate = Rate::new(raw.calls.into(), every_ns, raw.burst.into());
        let seconds = raw.every_ms.div_ceil(1_000);
        Limit {
            name: raw.name.clone(),
            per: raw.per,
            limiter: kept.limiter(&route.name, &raw.name, rate),
            policy: format!("\"{}\";q={};w={seconds}", raw.name, raw.calls),
        }
    };
    route.rates.iter().map(limit).collect()
}

/// Lets a call in, or refuses it.
///
/// # Errors
/// `SHED` or `RATE` at [`Stage::Decode`]; nothing was sent.
pub(crate) fn admit(call: &Call, rules: &RouteRules) -> Result<(), Refusal> {
    let worker = &call.session.worker;
    if !worker.admission.borrow().admits(rules.class, worker.chance.next()) {
        return Err(Refusal::new(Stage::Decode, &SHED));
    }
    for limit in &rules.limits {
        let caller = match limit.per {
            Per::Subject => call.session.peer().map_or("", |peer| peer.spiffe().as_str()),
            Per::Tenant => TENANT,
            Per::Route => "",
        };
        let now_ns = call.generation.shared.registry.now_ns();
        if let Decision::Refused { wait_ns } = limit.limiter.take(caller, now_ns) {
            let wait_ms = wait_ns.div_ceil(1_000_000);
            call.tries.retry_ms.set(wait_ms);
            let state = format!("\"{}\";r=0;t={}", limit.name, wait_ms.div_ceil(1_000));
            call.set_exceeded(Exceeded { policy: limit.policy.clone(), state });
            return Err(Refusal::new(Stage::Decode, &RATE).because(&limit.name));
        }
    }
    Ok(())
}
