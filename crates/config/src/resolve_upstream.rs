//! Resolving one service, and the servers that know its name.

use std::net::{IpAddr, SocketAddr};

use moat_model::code::config as codes;

use crate::messages;
use crate::raw::{
    RawBalance, RawBreaker, RawHealth, RawHealthKind, RawOutlier, RawProtocol, RawUpstream, Text,
};
use crate::resolve::{CONNECTIONS_MAX, Resolver, WAIT_MS_MAX, identities, national};
use crate::resolve_trust;
use crate::resolved::{
    Balance, Breaker, Endpoint, Health, HealthAsk, Identity, Outlier, Place, Protocol, RingKey,
    Tls, Upstream,
};

/// Most endpoints that may be listed.
const ENDPOINTS_MAX: usize = 64;
/// Most of an endpoint's weight.
const WEIGHT_MAX: u32 = 100;
/// Most servers that resolve names.
const SERVERS_MAX: usize = 3;
/// Port of a server that resolves names (RFC 1035 §4.2).
const DNS_PORT: u16 = 53;
/// Longest name of a host and longest part of it, in bytes (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
/// Where the system keeps its servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

pub(crate) fn upstream(r: &mut Resolver<'_>, raw: &RawUpstream, first: &[Identity]) -> Upstream {
    let endpoints = endpoints(r, raw);
    let own = match (&raw.tls.identity, raw.tls.identities.as_slice()) {
        (Some(identity), []) => identities(r, &raw.name, core::slice::from_ref(identity)),
        (Some(_), _) => {
            let message = "`identity` and `identities` say the same thing";
            r.bad(&codes::BAD_VALUE, &raw.name, message, "keep one of them");
            Vec::new()
        }
        (None, []) => first.to_vec(),
        (None, several) => identities(r, &raw.name, several),
    };
    let tls = Tls {
        identities: own,
        is_inherited: raw.tls.identity.is_none() && raw.tls.identities.is_empty(),
        trust: resolve_trust::service(r, &raw.tls),
        national: national(raw.tls.national),
    };
    if !raw.tls.spiffe.value.starts_with("spiffe://") {
        let fix = "write the id the service must prove, for example spiffe://bank.test/accounts";
        r.bad(&codes::BAD_VALUE, &raw.tls.spiffe, "this is no SPIFFE id", fix);
    }
    Upstream {
        name: raw.name.value.clone(),
        authority: authority(r, raw),
        endpoints,
        balance: balance(r, raw),
        slow_start_ms: r.bounded(raw.slow_start_ms.as_ref(), 10_000, 0..=WAIT_MS_MAX),
        health: raw.health.as_ref().map(|health| on_health(r, health, raw)),
        outlier: outlier(r, &raw.outlier),
        breaker: breaker(r, &raw.breaker),
        protocol: match raw.protocol {
            RawProtocol::Auto => Protocol::Auto,
            RawProtocol::Http1 => Protocol::Http1,
            RawProtocol::Http2 => Protocol::Http2,
        },
        tls,
        spiffe: raw.tls.spiffe.value.clone(),
        messages: raw.iso8583.as_ref().and_then(|own| messages::messages(r, &raw.name, own, false)),
        caller_chain: raw.caller_chain,
        labels: raw.labels.clone(),
        connections_max: r.bounded32(raw.connections_max.as_ref(), 1_024, CONNECTIONS_MAX),
        waiting_max: r.bounded32(raw.waiting_max.as_ref(), 256, CONNECTIONS_MAX),
        adaptive_max: raw
            .adaptive_max
            .as_ref()
            .map(|most| r.bounded32(Some(most), 1, CONNECTIONS_MAX)),
        idle_max: r.bounded32(raw.idle_max.as_ref(), 5, CONNECTIONS_MAX),
        idle_ms: r.bounded(raw.idle_ms.as_ref(), 180_000, 1..=WAIT_MS_MAX),
        connect_ms: r.bounded(raw.connect_ms.as_ref(), 1_000, 1..=WAIT_MS_MAX),
    }
}

fn endpoints(r: &mut Resolver<'_>, raw: &RawUpstream) -> Vec<Endpoint> {
    if raw.endpoints.is_empty() || raw.endpoints.len() > ENDPOINTS_MAX {
        let fix = format!("list 1 to {ENDPOINTS_MAX} endpoints");
        r.bad(&codes::BAD_VALUE, &raw.name, "a service needs endpoints", fix);
    }
    let scheme = if raw.iso8583.is_some() { "tls" } else { "https" };
    let mut found: Vec<Endpoint> = Vec::new();
    for text in &raw.endpoints {
        let Some(endpoint) = endpoint(r, text, scheme) else { continue };
        if found.iter().any(|other| other.place == endpoint.place) {
            let fix = "remove one, or give it a weight";
            r.bad(&codes::DUPLICATE_KEY, text, "this endpoint stands twice", fix);
        }
        found.push(endpoint);
    }
    found
}

/// `https://HOST:PORT`, and perhaps ` weight=N`; `tls` is the scheme of messages.
fn endpoint(r: &mut Resolver<'_>, text: &Text, scheme: &str) -> Option<Endpoint> {
    let (url, weight) = match text.value.split_once(" weight=") {
        Some((url, weight)) => (url, weight.trim().parse().ok()),
        None => (text.value.as_str(), Some(1)),
    };
    let weight = weight.filter(|weight| (1..=WEIGHT_MAX).contains(weight));
    if weight.is_none() {
        let fix = format!("write a number from 1 to {WEIGHT_MAX}");
        r.bad(&codes::BAD_VALUE, text, "the weight is out of range", fix);
    }
    let authority = url.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://"));
    let Some(authority) = authority else {
        let fix = format!("services are reached by mutual TLS only: write {scheme}://address:port");
        r.bad(&codes::BAD_VALUE, text, format!("the endpoint is not {scheme}"), fix);
        return None;
    };
    let Some(place) = place(authority) else {
        let fix = "write an IP address, localhost or a name, and a port: https://10.1.0.5:9443";
        r.bad(&codes::BAD_VALUE, text, "the endpoint is no host and port", fix);
        return None;
    };
    Some(Endpoint { place, weight: weight.unwrap_or(1) })
}

/// What stands behind the scheme.
fn host_of(url: &str) -> Option<&str> {
    url.strip_prefix("https://").or_else(|| url.strip_prefix("tls://"))
}

pub(crate) fn place(authority: &str) -> Option<Place> {
    let numeric = authority.replacen("localhost:", "127.0.0.1:", 1);
    if let Ok(address) = numeric.parse() {
        return Some(Place::Address(address));
    }
    let (name, port) = authority.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let name = name.to_ascii_lowercase();
    is_host_name(&name).then_some(Place::Name(name, port))
}

/// Letters, digits and `-`, in parts between dots (RFC 1123 §2.1); not all digits, which would be
/// an address that is not one.
fn is_host_name(name: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= LABEL_BYTES_MAX
            && label.bytes().all(fine)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= NAME_BYTES_MAX
        && name.split('.').all(label)
        && name.rsplit('.').next().is_some_and(|last| !last.bytes().all(|b| b.is_ascii_digit()))
}

fn authority(r: &mut Resolver<'_>, raw: &RawUpstream) -> String {
    let Some(text) = &raw.authority else {
        let first = raw.endpoints.first().map_or("", |text| text.value.as_str());
        let url = first.split(' ').next().unwrap_or_default();
        return host_of(url).unwrap_or_default().to_owned();
    };
    if place(&text.value).is_none() {
        let fix = "write a host and a port, for example accounts.bank.test:443";
        r.bad(&codes::BAD_VALUE, text, "this is no host and port", fix);
    }
    text.value.clone()
}

fn balance(r: &mut Resolver<'_>, raw: &RawUpstream) -> Balance {
    let key = raw.ring_key.as_ref();
    match (raw.balance, key) {
        (RawBalance::P2c, None) => Balance::TwoChoices,
        (RawBalance::Least, None) => Balance::LeastRequest,
        (RawBalance::Ring, None) => Balance::Ring(RingKey::Object),
        (RawBalance::Ring, Some(text)) => Balance::Ring(ring_key(r, text)),
        (_, Some(text)) => {
            let fix = "write `balance: ring`, or remove `ring_key`";
            r.bad(&codes::CONFLICT, text, "only a ring has a key", fix);
            Balance::TwoChoices
        }
    }
}

fn ring_key(r: &mut Resolver<'_>, text: &Text) -> RingKey {
    match text.value.as_str() {
        "object" => return RingKey::Object,
        "peer" => return RingKey::Peer,
        other => {
            if let Some(name) = other.strip_prefix("header:")
                && !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            {
                return RingKey::Header(name.to_ascii_lowercase());
            }
        }
    }
    let fix = "write `object`, `peer` or `header:NAME`";
    r.bad(&codes::BAD_VALUE, text, "a ring cannot go by this", fix);
    RingKey::Object
}

fn on_health(r: &mut Resolver<'_>, raw: &RawHealth, of: &RawUpstream) -> Health {
    let ask = match raw.kind {
        RawHealthKind::Grpc => HealthAsk::Grpc(raw.service.clone()),
        RawHealthKind::Http => {
            let path = raw.path.as_ref().map_or("/healthz", |path| path.value.as_str());
            if let Some(text) = &raw.path
                && (!path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_graphic()))
            {
                let fix = "write a path such as /healthz";
                r.bad(&codes::BAD_VALUE, text, "this is no path", fix);
            }
            HealthAsk::Http(path.to_owned())
        }
    };
    if matches!(ask, HealthAsk::Grpc(_)) && matches!(of.protocol, RawProtocol::Http1) {
        let fix = "write `protocol: http2`";
        r.bad(&codes::CONFLICT, &of.name, "gRPC needs HTTP/2", fix);
    }
    Health {
        ask,
        interval_ms: r.bounded(raw.interval_ms.as_ref(), 5_000, 100..=WAIT_MS_MAX),
        timeout_ms: r.bounded(raw.timeout_ms.as_ref(), 1_000, 1..=60_000),
        healthy_after: r.bounded32(raw.healthy_after.as_ref(), 2, 100),
        unhealthy_after: r.bounded32(raw.unhealthy_after.as_ref(), 3, 100),
    }
}

fn outlier(r: &mut Resolver<'_>, raw: &RawOutlier) -> Outlier {
    Outlier {
        failures_max: match &raw.failures_max {
            Some(never) if never.value == 0 => 0,
            some => r.bounded32(some.as_ref(), 5, 10_000),
        },
        ejection_ms: r.bounded(raw.ejection_ms.as_ref(), 30_000, 1..=WAIT_MS_MAX),
        ejection_ms_max: r.bounded(raw.ejection_ms_max.as_ref(), 300_000, 1..=WAIT_MS_MAX),
    }
}

fn breaker(r: &mut Resolver<'_>, raw: &RawBreaker) -> Breaker {
    Breaker {
        error_percent: r.bounded32(raw.error_percent.as_ref(), 5, 100),
        slow_percent: r.bounded32(raw.slow_percent.as_ref(), 100, 100),
        slow_ms: r.bounded(raw.slow_ms.as_ref(), 2_000, 1..=WAIT_MS_MAX),
        calls_min: r.bounded32(raw.calls_min.as_ref(), 20, 1_000_000),
        failures_min: r.bounded32(raw.failures_min.as_ref(), 5, 1_000_000),
        open_ms: r.bounded(raw.open_ms.as_ref(), 1_000, 1..=WAIT_MS_MAX),
        open_ms_max: r.bounded(raw.open_ms_max.as_ref(), 30_000, 1..=WAIT_MS_MAX),
        probes: u8::try_from(r.bounded32(raw.probes.as_ref(), 3, 100)).unwrap_or(u8::MAX),
    }
}

/// The servers that are asked for names: those that are written, or the system's. Only where a
/// name is written are there any.
pub(crate) fn dns(r: &mut Resolver<'_>) -> Vec<SocketAddr> {
    let raw = r.raw;
    if raw.dns.servers.len() > SERVERS_MAX
        && let Some(text) = raw.dns.servers.get(SERVERS_MAX)
    {
        let fix = format!("list at most {SERVERS_MAX}");
        r.bad(&codes::BAD_VALUE, text, "too many servers", fix);
    }
    let servers: Vec<SocketAddr> = raw.dns.servers.iter().map(|text| r.address(text)).collect();
    let named = raw.upstreams.iter().flat_map(|u| &u.endpoints).find(|text| {
        let url = text.value.split(' ').next().and_then(host_of);
        matches!(url.and_then(place), Some(Place::Name(..)))
    });
    let Some(named) = named else { return servers };
    if !servers.is_empty() {
        return servers;
    }
    let system = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    let found: Vec<SocketAddr> = nameservers(&system).take(SERVERS_MAX).collect();
    if found.is_empty() {
        let fix = "list servers under `dns`, or write an IP address";
        r.bad(&codes::MISSING_KEY, named, "there is no server that knows this name", fix);
    }
    found
}

/// The servers of a `resolv.conf` (resolv.conf(5)).
fn nameservers(text: &str) -> impl Iterator<Item = SocketAddr> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = (words.next() == Some("nameserver")).then(|| words.next()).flatten()?;
        Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, DNS_PORT))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_or_names() {
        let address = |text: &str| Some(Place::Address(text.parse().unwrap()));
        assert_eq!(place("10.1.0.5:9443"), address("10.1.0.5:9443"));
        assert_eq!(place("[::1]:9443"), address("[::1]:9443"));
        assert_eq!(place("localhost:1"), address("127.0.0.1:1"));
        let name = Some(Place::Name("a-b.bank.test".to_owned(), 443));
        assert_eq!(place("A-b.Bank.test:443"), name);
        for bad in
            ["a", "a:0", "a:b", ":1", "a..b:1", "-a.b:1", "1.2.3:4", "a b:1", "a/b:1", "a@b:1"]
        {
            assert_eq!(place(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_systems_servers_are_read() {
        let text = "# c\nsearch x\nnameserver 10.0.0.2\nnameserver ::1 # d\nnameserver fe80::1%1\n";
        let found: Vec<String> = nameservers(text).map(|a| a.to_string()).collect();
        assert_eq!(found, ["10.0.0.2:53", "[::1]:53"]);
    }
}
