//! Listeners for decisions that others enforce: who may ask, and about whom.

use moat_model::code::config as codes;

use crate::raw::{RawBodies, RawCertificates, RawEnforcers, RawListener};
use crate::resolve::Resolver;
use crate::resolve_trust;
use crate::resolved::{Asking, Enforcers};

/// Most programs that may ask on one listener.
const ENFORCERS_MAX: usize = 64;
/// Longest path of a Unix socket, in bytes (`sun_path` less its end).
const SOCKET_BYTES_MAX: usize = 107;

/// The Unix socket of a listener, as it is written.
pub(crate) fn socket(raw: &RawListener) -> Option<&str> {
    raw.bind.value.strip_prefix("unix:")
}

pub(crate) fn enforcers(r: &mut Resolver<'_>, raw: &RawListener) -> Option<Enforcers> {
    let protocol = raw.protocol.as_ref().map_or("http", |protocol| &protocol.value);
    let asking = match protocol {
        "ext_authz" => Asking::ExtAuthz,
        "authzen" => Asking::AuthZen,
        _ => {
            without(r, raw, protocol);
            return None;
        }
    };
    let is_local = socket(raw).is_some();
    if is_local {
        local(r, raw, asking);
    }
    let Some(given) = &raw.enforcers else {
        let fix = "say under `enforcers` who may ask, and about whom";
        r.bad(&codes::MISSING_KEY, &raw.name, "`enforcers` is missing", fix);
        return None;
    };
    who(r, raw, given, is_local);
    if asking == Asking::ExtAuthz && given.certificates == RawCertificates::Optional {
        let fix = "leave it out: Envoy passes certificates on with `include_peer_certificate`";
        let message = "only `authzen` can name a caller without its certificate";
        r.bad(&codes::BAD_VALUE, &raw.name, message, fix);
    }
    let callers = resolve_trust::passed_on(r, &given.callers);
    Some(Enforcers {
        asking,
        is_local,
        spiffe: given.spiffe.iter().map(|id| id.value.clone()).collect(),
        uids: given.uids.iter().map(|uid| uid.value).collect(),
        role: callers.role,
        trust: callers.trust,
        intermediates: given.intermediates.as_ref().map_or_else(Vec::new, |pem| r.fetch(pem)),
        has_bodies: given.bodies == RawBodies::Whole,
        is_name_enough: given.certificates == RawCertificates::Optional,
    })
}

fn without(r: &mut Resolver<'_>, raw: &RawListener, protocol: &str) {
    if let Some(named) = raw.protocol.as_ref().filter(|_| !matches!(protocol, "http" | "iso8583")) {
        let message = format!("`{protocol}` is not served");
        r.bad(
            &codes::BAD_VALUE,
            named,
            message,
            "write `http`, `iso8583`, `ext_authz` or `authzen`",
        );
    }
    if raw.enforcers.is_some() {
        let fix = "write `protocol: ext_authz` or `protocol: authzen`, or leave `enforcers` out";
        r.bad(&codes::CONFLICT, &raw.name, "callers of `http` ask for themselves", fix);
    }
    if socket(raw).is_some() {
        let fix = "write an IP address and a port";
        r.bad(&codes::BAD_VALUE, &raw.bind, "only `ext_authz` is served on Unix sockets", fix);
    }
}

fn local(r: &mut Resolver<'_>, raw: &RawListener, asking: Asking) {
    if asking != Asking::ExtAuthz {
        let fix = "write an IP address and a port";
        r.bad(&codes::BAD_VALUE, &raw.bind, "only `ext_authz` is served on Unix sockets", fix);
    }
    let length = socket(raw).map_or(0, str::len);
    if length == 0 || length > SOCKET_BYTES_MAX {
        let message = format!("a socket's path has 1 to {SOCKET_BYTES_MAX} bytes");
        r.bad(&codes::BAD_VALUE, &raw.bind, message, "write `unix:` and a shorter path");
    }
    if raw.tls.is_some() {
        let fix = "leave `tls` out: who asks is told by the kernel";
        r.bad(&codes::CONFLICT, &raw.bind, "a Unix socket has no TLS", fix);
    }
}

fn who(r: &mut Resolver<'_>, raw: &RawListener, given: &RawEnforcers, is_local: bool) {
    let (asking, other) = if is_local {
        (given.uids.len(), given.spiffe.len())
    } else {
        (given.spiffe.len(), given.uids.len())
    };
    if asking == 0 || asking > ENFORCERS_MAX || other > 0 {
        let (key, not) = if is_local { ("uids", "spiffe") } else { ("spiffe", "uids") };
        let message = format!("there must be 1 to {ENFORCERS_MAX} `{key}`, and no `{not}`");
        let fix = format!("list under `enforcers.{key}` who may ask here");
        r.bad(&codes::BAD_VALUE, &raw.name, message, fix);
    }
    for id in &given.spiffe {
        let own = format!("spiffe://{}/", r.raw.trust_domain.value);
        if !id.value.starts_with(&own) {
            let fix = format!("write a whole SPIFFE id: {own}envoy");
            r.bad(&codes::BAD_VALUE, id, "this is no SPIFFE id of the trust domain", fix);
        }
    }
}
