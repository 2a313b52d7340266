//! Header hygiene: what never passes, and what the gateway says itself.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use moat_identity::VerifiedPeer;
use rustls_pki_types::CertificateDer;

use crate::call::Call;
use crate::generation::RouteRules;

/// Whether a field belongs to one connection (RFC 9110 §7.6.1, RFC 9113 §8.2.2).
pub(crate) fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Whether only a gateway may say this: a caller that sends it pretends to be one.
///
/// Services that read headers as environment variables fold `_` into `-`, so both are looked at.
/// Fields that override method or target would make the service do another thing than was permitted.
pub(crate) fn is_gateways_own(name: &str) -> bool {
    let folded = if name.contains('_') { Cow::Owned(name.replace('_', "-")) } else { name.into() };
    let name = &*folded;
    name.starts_with("x-forwarded-")
        || name.starts_with("x-moat-")
        || name.starts_with("x-envoy-")
        || matches!(
            name,
            "forwarded"
                | "x-real-ip"
                | "x-client-cert"
                | "x-ssl-client-cert"
                | "ssl-client-cert"
                | "client-cert"
                | "client-cert-chain"
                | "true-client-ip"
                | "x-client-ip"
                | "x-cluster-client-ip"
                | "x-original-url"
                | "x-rewrite-url"
                | "x-http-method"
                | "x-http-method-override"
                | "x-method-override"
                | "proxy-connection"
                | "via"
        )
}

/// Removes the fields whose names are dropped. One look at each name that is there costs less than
/// one at each that might be.
fn drop_where(headers: &mut HeaderMap, is_dropped: impl Fn(&str) -> bool) {
    let dropped: Vec<HeaderName> =
        headers.keys().filter(|name| is_dropped(name.as_str())).cloned().collect();
    for name in dropped {
        headers.remove(name);
    }
}

/// Removes the fields that `Connection` names.
fn drop_named(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
}

/// Removes what belongs to one connection: the known fields and those that `Connection` names.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    drop_named(headers);
    drop_where(headers, is_hop_by_hop);
}

/// What the policy sees must be what the service sees: everything that belongs to this connection
/// alone, and everything that `Connection` names, goes before the decision. `TE: trailers` stays.
pub(crate) fn from_caller(headers: &mut HeaderMap) {
    let wants_trailers = headers.get(header::TE).is_some_and(|te| te == "trailers");
    strip_hop_by_hop(headers);
    if wants_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Trailers of a request: what may not stand in its head may not follow its body either.
pub(crate) fn clean_trailers(trailers: &mut HeaderMap) {
    drop_named(trailers);
    drop_where(trailers, |name| {
        is_hop_by_hop(name)
            || is_gateways_own(name)
            || matches!(name, "host" | "content-length" | "authorization")
    });
}

/// The head that goes to the service: what [`from_caller`] left, without what must not pass, and
/// the gateway's own statement of who is calling.
pub(crate) fn to_upstream(headers: &mut HeaderMap, call: &Call, is_held: bool) {
    drop_where(headers, |name| {
        is_gateways_own(name)
            || name == "expect"
            || (is_held && matches!(name, "range" | "if-range"))
    });
    if is_held {
        // What is masked or recorded by field must come whole and in clear.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    state_caller(headers, call);
}

/// Characters of a line of PEM (RFC 7468 §2).
const PEM_COLUMNS: usize = 64;

/// What the gateway says of a caller, made once a connection.
pub(crate) struct Statement {
    address: HeaderValue,
    certificate: Option<HeaderValue>,
    /// The same with the certificates themselves; made when a service wants it.
    with_chain: OnceCell<HeaderValue>,
}

impl Statement {
    pub(crate) fn of(address: IpAddr, peer: Option<&VerifiedPeer>) -> Statement {
        let certificate = peer.map(|peer| {
            let hash = data_encoding::HEXLOWER.encode(peer.certificate_sha256());
            let subject = peer.subject().replace('\\', "\\\\").replace('"', "\\\"");
            value_of(&format!("Hash={hash};Subject=\"{subject}\";URI={}", peer.spiffe()))
        });
        let address = value_of(&address.to_string());
        Statement { address, certificate, with_chain: OnceCell::new() }
    }

    /// What stands in `X-Forwarded-Client-Cert`, as Envoy writes it; `chain` is leaf first.
    fn certificate(&self, chain: Option<&[CertificateDer<'_>]>) -> Option<&HeaderValue> {
        let (certificate, Some(chain)) = (self.certificate.as_ref()?, chain) else {
            return self.certificate.as_ref();
        };
        Some(self.with_chain.get_or_init(|| {
            let mut value = certificate.as_bytes().to_vec();
            value.extend_from_slice(b";Chain=\"");
            chain.iter().for_each(|one| value.extend_from_slice(url_encoded_pem(one).as_bytes()));
            value.push(b'"');
            HeaderValue::from_bytes(&value).unwrap_or_else(|_| certificate.clone())
        }))
    }
}

/// A certificate as PEM (RFC 7468) whose bytes that mean something in a URL are written in hex.
fn url_encoded_pem(der: &[u8]) -> String {
    let base64 = data_encoding::BASE64.encode(der);
    let mut text = String::from("-----BEGIN%20CERTIFICATE-----%0A");
    for (at, byte) in base64.bytes().enumerate() {
        if at > 0 && at % PEM_COLUMNS == 0 {
            text.push_str("%0A");
        }
        match byte {
            b'+' => text.push_str("%2B"),
            b'/' => text.push_str("%2F"),
            b'=' => text.push_str("%3D"),
            other => text.push(char::from(other)),
        }
    }
    text.push_str("%0A-----END%20CERTIFICATE-----%0A");
    text
}

/// Says who is calling, as established from the connection.
pub(crate) fn state_caller(headers: &mut HeaderMap, call: &Call) {
    let statement = &call.session.statement;
    let mut say = |name, value| headers.insert(HeaderName::from_static(name), value);
    say("x-forwarded-for", statement.address.clone());
    say("x-forwarded-proto", HeaderValue::from_static("https"));
    if !call.host.is_empty() {
        say("x-forwarded-host", value_of(&call.host));
    }
    let services = &call.generation.shared.upstreams;
    let service = call.rules().and_then(|rules| services.get(rules.route.upstream));
    let chain = service
        .is_some_and(|service| service.caller_chain)
        .then(|| call.session.believed.path.chain());
    if let Some(certificate) = statement.certificate(chain) {
        say("x-forwarded-client-cert", certificate.clone());
    }
    say("traceparent", call.trace.header());
}

/// Fields of an answer that pass where fields of bodies are masked or recorded: those that describe
/// the body, say how it may be kept, or name the call. What a service puts into any other field
/// would pass unmasked and unseen. In the order of the alphabet.
const PASSING: [&str; 22] = [
    "accept-ranges",
    "age",
    "allow",
    "cache-control",
    "content-encoding",
    "content-language",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expires",
    "last-modified",
    "pragma",
    "retry-after",
    "strict-transport-security",
    "traceparent",
    "tracestate",
    "vary",
    "x-content-type-options",
    "x-correlation-id",
    "x-request-id",
];

/// Whether a field describes the bytes that the service sent, which are not those that leave if
/// the answer is rewritten.
fn is_of_bytes(name: &str) -> bool {
    matches!(
        name,
        "content-digest"
            | "content-length"
            | "content-md5"
            | "digest"
            | "etag"
            | "repr-digest"
            | "signature"
    )
}

/// The head of an answer on its way to the caller.
pub(crate) fn to_caller(headers: &mut HeaderMap, rules: &RouteRules, is_rewritten: bool) {
    let added = rules.answer_headers.as_deref();
    drop_named(headers);
    drop_where(headers, |name| {
        is_hop_by_hop(name)
            || added.is_some_and(|added| !passes(name, added))
            || name.starts_with("x-moat-")
            || (is_rewritten && is_of_bytes(name))
    });
    if is_rewritten {
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

/// Whether a field is standard or named by the route.
fn passes(name: &str, added: &[HeaderName]) -> bool {
    PASSING.binary_search(&name).is_ok() || added.iter().any(|added| added == name)
}

/// Sets a header.
pub(crate) fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    headers.insert(HeaderName::from_static(name), value_of(value));
}

/// A header's value; text that cannot stand in one (a subject with unusual characters) is
/// percent-encoded.
fn value_of(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| {
        let mut encoded = String::new();
        for byte in text.bytes() {
            if (0x20..0x7f).contains(&byte) {
                encoded.push(char::from(byte));
            } else {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        }
        // Printable ASCII always is a value.
        HeaderValue::from_str(&encoded).unwrap_or(HeaderValue::from_static(""))
    })
}

/// Whether the content type is JSON: `application/json` or `…+json`.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(header::CONTENT_TYPE).map(HeaderValue::to_str) else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or("").trim().as_bytes();
    let begins =
        |with: &[u8]| essence.get(..with.len()).is_some_and(|b| b.eq_ignore_ascii_case(with));
    let ends = |with: &[u8]| {
        let from = essence.len().checked_sub(with.len());
        from.and_then(|from| essence.get(from..)).is_some_and(|b| b.eq_ignore_ascii_case(with))
    };
    essence.eq_ignore_ascii_case(b"application/json") || (begins(b"application/") && ends(b"+json"))
}

/// Whether the body is encoded by anything but `identity`.
pub(crate) fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_ENCODING).iter().any(|value| value != "identity")
}

/// Whether the message is gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let rest = value.strip_prefix("application/grpc");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_only_a_gateway_may_send_are_known() {
        for name in [
            "x-forwarded-client-cert",
            "x-forwarded-for",
            "x-forwarded-anything",
            "forwarded",
            "x-moat-caller",
            "x_forwarded_client_cert",
            "x_moat-caller",
            "x-http-method-override",
            "x-original-url",
            "x-real-ip",
            "via",
            "client-cert",
        ] {
            assert!(is_gateways_own(name), "{name}");
        }
        assert!(!is_gateways_own("x-forward"));
        assert!(!is_gateways_own("accept"));
    }

    #[test]
    fn only_standard_and_named_fields_pass_where_fields_are_masked() {
        let mut headers = HeaderMap::new();
        for name in PASSING.into_iter().chain(["x-card", "set-cookie", "location", "x-page"]) {
            headers.append(HeaderName::from_static(name), "1".parse().unwrap());
            headers.append(HeaderName::from_static(name), "2".parse().unwrap());
        }
        let added = [HeaderName::from_static("x-page")];
        drop_where(&mut headers, |name| !passes(name, &added));
        assert_eq!(headers.keys_len(), PASSING.len() + 1);
        assert_eq!(headers.get_all("x-page").iter().count(), 2);
        assert!(!headers.contains_key("x-card") && !headers.contains_key("location"));
    }

    #[test]
    fn what_connection_names_goes_with_it() {
        let mut headers = HeaderMap::new();
        headers.insert("connection", "close, x-one ,x-two".parse().unwrap());
        for name in ["x-one", "x-two", "x-three", "te", "keep-alive", "upgrade"] {
            headers.insert(HeaderName::from_static(name), "1".parse().unwrap());
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.len(), 1);
        assert!(headers.contains_key("x-three"));
    }

    #[test]
    fn json_is_known_by_its_type() {
        let typed = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("content-type", value.parse().unwrap());
            headers
        };
        for yes in
            ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"]
        {
            assert!(is_json(&typed(yes)), "{yes}");
        }
        for no in ["text/json", "application/jsonp", "text/plain", "application/grpc+json5", ""] {
            assert!(!is_json(&typed(no)), "{no}");
        }
        assert!(is_grpc(&typed("application/grpc+proto")));
        assert!(!is_grpc(&typed("application/grpc-web")));
    }
}
