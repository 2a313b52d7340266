//! `envoy.service.auth.v3.Authorization/Check`: what Envoy asks, and what it is answered.
//!
//! Field numbers are those of Envoy's published API; what is not listed here is not looked at
//! (`context_extensions`, metadata, the destination).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use prost::Message;

use crate::Malformed;

/// Path of the call.
pub const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
/// What Envoy adds to say whether it has all of the body; it drops a caller's own.
const PARTIAL_BODY: &str = "x-envoy-auth-partial-body";
/// Longest certificate, in characters of its URL encoding.
const CERTIFICATE_CHARS_MAX: usize = 64 * 1024;

/// What is known of a request's body.
#[derive(Clone, PartialEq, Eq)]
pub enum Body {
    /// All of it.
    Whole(Vec<u8>),
    /// There is more of it than was sent.
    Partial,
    /// Nothing was sent: there is none, or bodies are not sent.
    NotSent,
}

/// A request as Envoy describes it. No `Debug`: headers and bodies are in here.
pub struct Check {
    /// Method.
    pub method: String,
    /// `Host` or `:authority`.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// Header fields without those of HTTP/2 that begin with a colon.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Body.
    pub body: Body,
    /// Where the caller's connection comes from.
    pub source: Option<SocketAddr>,
    /// Who Envoy says the caller is.
    pub principal: String,
    /// The caller's certificate, DER; empty where Envoy sent none.
    pub certificate: Vec<u8>,
    /// The server that the caller named; empty where that is not told.
    pub sni: String,
}

impl Check {
    /// Reads a `CheckRequest`.
    ///
    /// # Errors
    /// [`Malformed`]: it is no such message, describes no HTTP request, or has a certificate that
    /// cannot be read.
    pub fn decode(bytes: &[u8]) -> Result<Check, Malformed> {
        let request =
            wire::CheckRequest::decode(bytes).map_err(|_| Malformed("this is no CheckRequest"))?;
        let attributes = request.attributes.ok_or(Malformed("no attributes"))?;
        let http = attributes.request.and_then(|request| request.http);
        let http = http.ok_or(Malformed("no HTTP request; only the HTTP filter is served"))?;
        let source = attributes.source.unwrap_or_default();
        let headers = headers(&http);
        Ok(Check {
            body: body(&headers, http.raw_body, &http.body)?,
            headers: headers.into_iter().filter(|(name, _)| name != PARTIAL_BODY).collect(),
            method: http.method,
            host: http.host,
            path: http.path,
            source: address(source.address.as_ref()),
            principal: source.principal,
            certificate: certificate(&source.certificate)?,
            sni: attributes.tls_session.unwrap_or_default().sni,
        })
    }
}

fn headers(http: &wire::HttpRequest) -> Vec<(String, Vec<u8>)> {
    let told = |name: &str| !name.starts_with(':');
    match &http.header_map {
        // With `encode_raw_headers`: one entry a field, in their order.
        Some(map) => {
            let value = |field: &wire::HeaderValue| {
                let raw = !field.raw_value.is_empty();
                if raw { field.raw_value.clone() } else { field.value.clone().into_bytes() }
            };
            let fields = map.headers.iter().filter(|field| told(&field.key));
            fields.map(|field| (field.key.clone(), value(field))).collect()
        }
        None => {
            let fields = http.headers.iter().filter(|(name, _)| told(name));
            let mut fields: Vec<(String, Vec<u8>)> =
                fields.map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect();
            fields.sort();
            fields
        }
    }
}

fn body(headers: &[(String, Vec<u8>)], raw: Vec<u8>, text: &str) -> Result<Body, Malformed> {
    if !text.is_empty() {
        // Bytes that are no UTF-8 were changed on the way into it.
        return Err(Malformed("a body as text: set `pack_as_bytes: true`"));
    }
    let mut said = headers.iter().filter(|(name, _)| name == PARTIAL_BODY);
    match (said.next().map(|(_, value)| value.as_slice()), said.next()) {
        (None, None) if raw.is_empty() => Ok(Body::NotSent),
        (Some(b"false"), None) => Ok(Body::Whole(raw)),
        (Some(b"true"), None) => Ok(Body::Partial),
        _ => Err(Malformed("it is not said whether the body is whole")),
    }
}

fn address(address: Option<&wire::Address>) -> Option<SocketAddr> {
    let socket = address?.socket_address.as_ref()?;
    let ip: IpAddr = socket.address.parse().ok()?;
    Some(SocketAddr::new(ip, u16::try_from(socket.port_value).ok()?))
}

/// One certificate as PEM whose special characters are written as in URLs.
///
/// # Errors
/// [`Malformed`]: not one certificate.
pub fn certificate(text: &str) -> Result<Vec<u8>, Malformed> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    if text.is_empty() {
        return Ok(Vec::new());
    }
    if text.len() > CERTIFICATE_CHARS_MAX {
        return Err(Malformed("a certificate that is too long"));
    }
    let plain = percent_decoded(text).ok_or(Malformed("a certificate that is not URL-encoded"))?;
    let inner = plain.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
    let base64: String = inner
        .ok_or(Malformed("not one PEM certificate"))?
        .chars()
        .filter(|c| !matches!(c, '\r' | '\n'))
        .collect();
    data_encoding::BASE64
        .decode(base64.as_bytes())
        .map_err(|_| Malformed("a certificate that is not base64"))
}

/// RFC 3986 §2.1; nothing if a percent sign is followed by anything but two hexadecimal digits, or
/// what comes out is no text.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (hex, after) = rest.split_first_chunk::<2>()?;
        if !hex.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        bytes.push(u8::from_str_radix(core::str::from_utf8(hex).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

/// What is told of a decision beside its verdict, as dynamic metadata of the filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// `allow`, `deny` or `challenge`.
    pub decision: String,
    /// Digest of the policy bundle.
    pub policy: String,
    /// Number of the record.
    pub record: String,
    /// Trace id.
    pub trace: String,
    /// The code of a refusal.
    pub code: String,
}

/// An answer to a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request may go on.
    Allow {
        /// Fields that are set in the request, in place of those of the same name.
        set: Vec<(String, String)>,
        /// Fields that are taken out of it.
        remove: Vec<String>,
        /// Fields that the answer to the caller gets, whatever the service says there.
        answer: Vec<(String, String)>,
    },
    /// It may not; this is the answer to the caller.
    Deny {
        /// HTTP status.
        status: u16,
        /// Code of `google.rpc.Status`.
        grpc: u8,
        /// Header fields.
        headers: Vec<(String, String)>,
        /// Body.
        body: String,
    },
}

/// A `CheckResponse`.
#[must_use]
pub fn answer(verdict: Verdict, told: Told) -> Vec<u8> {
    let metadata = metadata(told);
    let response = match verdict {
        Verdict::Allow { set, remove, answer } => wire::CheckResponse {
            status: Some(wire::Status { code: 0, message: String::new() }),
            denied_response: None,
            ok_response: Some(wire::OkHttpResponse {
                headers: options(set),
                headers_to_remove: remove,
                response_headers_to_add: options(answer),
            }),
            dynamic_metadata: Some(metadata),
        },
        Verdict::Deny { status, grpc, headers, body } => wire::CheckResponse {
            status: Some(wire::Status { code: grpc.into(), message: String::new() }),
            denied_response: Some(wire::DeniedHttpResponse {
                status: Some(wire::HttpStatus { code: status.into() }),
                headers: options(headers),
                body,
            }),
            ok_response: None,
            dynamic_metadata: Some(metadata),
        },
    };
    response.encode_to_vec()
}

fn options(fields: Vec<(String, String)>) -> Vec<wire::HeaderValueOption> {
    const OVERWRITE_IF_EXISTS_OR_ADD: i32 = 2;
    let option = |(key, value)| wire::HeaderValueOption {
        header: Some(wire::HeaderValue { key, value, raw_value: Vec::new() }),
        append_action: OVERWRITE_IF_EXISTS_OR_ADD,
    };
    fields.into_iter().map(option).collect()
}

fn metadata(told: Told) -> wire::Struct {
    let Told { decision, policy, record, trace, code } = told;
    let text = |text: String| wire::Value { string_value: Some(text), struct_value: None };
    let fields = [
        ("decision", decision),
        ("policy", policy),
        ("record", record),
        ("trace", trace),
        ("code", code),
    ];
    let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
    let fields = fields.map(|(name, value)| (name.to_owned(), text(value))).collect();
    let moat = wire::Value { string_value: None, struct_value: Some(wire::Struct { fields }) };
    wire::Struct { fields: HashMap::from([("moat".to_owned(), moat)]) }
}

/// The messages as they are on the wire: the fields that are read or written.
mod wire {
    use std::collections::HashMap;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct CheckRequest {
        #[prost(message, optional, tag = "1")]
        pub(super) attributes: Option<AttributeContext>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct AttributeContext {
        #[prost(message, optional, tag = "1")]
        pub(super) source: Option<Peer>,
        #[prost(message, optional, tag = "4")]
        pub(super) request: Option<Request>,
        #[prost(message, optional, tag = "12")]
        pub(super) tls_session: Option<TlsSession>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Peer {
        #[prost(message, optional, tag = "1")]
        pub(super) address: Option<Address>,
        #[prost(string, tag = "4")]
        pub(super) principal: String,
        #[prost(string, tag = "5")]
        pub(super) certificate: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Address {
        #[prost(message, optional, tag = "1")]
        pub(super) socket_address: Option<SocketAddress>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct SocketAddress {
        #[prost(string, tag = "2")]
        pub(super) address: String,
        #[prost(uint32, tag = "3")]
        pub(super) port_value: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Request {
        #[prost(message, optional, tag = "2")]
        pub(super) http: Option<HttpRequest>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct HttpRequest {
        #[prost(string, tag = "2")]
        pub(super) method: String,
        #[prost(map = "string, string", tag = "3")]
        pub(super) headers: HashMap<String, String>,
        #[prost(string, tag = "4")]
        pub(super) path: String,
        #[prost(string, tag = "5")]
        pub(super) host: String,
        #[prost(string, tag = "11")]
        pub(super) body: String,
        #[prost(bytes = "vec", tag = "12")]
        pub(super) raw_body: Vec<u8>,
        #[prost(message, optional, tag = "13")]
        pub(super) header_map: Option<HeaderMap>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct HeaderMap {
        #[prost(message, repeated, tag = "1")]
        pub(super) headers: Vec<HeaderValue>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct HeaderValue {
        #[prost(string, tag = "1")]
        pub(super) key: String,
        #[prost(string, tag = "2")]
        pub(super) value: String,
        #[prost(bytes = "vec", tag = "3")]
        pub(super) raw_value: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct TlsSession {
        #[prost(string, tag = "1")]
        pub(super) sni: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct CheckResponse {
        #[prost(message, optional, tag = "1")]
        pub(super) status: Option<Status>,
        #[prost(message, optional, tag = "2")]
        pub(super) denied_response: Option<DeniedHttpResponse>,
        #[prost(message, optional, tag = "3")]
        pub(super) ok_response: Option<OkHttpResponse>,
        #[prost(message, optional, tag = "4")]
        pub(super) dynamic_metadata: Option<Struct>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Status {
        #[prost(int32, tag = "1")]
        pub(super) code: i32,
        #[prost(string, tag = "2")]
        pub(super) message: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct HttpStatus {
        #[prost(int32, tag = "1")]
        pub(super) code: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct DeniedHttpResponse {
        #[prost(message, optional, tag = "1")]
        pub(super) status: Option<HttpStatus>,
        #[prost(message, repeated, tag = "2")]
        pub(super) headers: Vec<HeaderValueOption>,
        #[prost(string, tag = "3")]
        pub(super) body: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct OkHttpResponse {
        #[prost(message, repeated, tag = "2")]
        pub(super) headers: Vec<HeaderValueOption>,
        #[prost(string, repeated, tag = "5")]
        pub(super) headers_to_remove: Vec<String>,
        #[prost(message, repeated, tag = "6")]
        pub(super) response_headers_to_add: Vec<HeaderValueOption>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct HeaderValueOption {
        #[prost(message, optional, tag = "1")]
        pub(super) header: Option<HeaderValue>,
        #[prost(int32, tag = "3")]
        pub(super) append_action: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Struct {
        #[prost(map = "string, message", tag = "1")]
        pub(super) fields: HashMap<String, Value>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Value {
        #[prost(string, optional, tag = "3")]
        pub(super) string_value: Option<String>,
        #[prost(message, optional, tag = "5")]
        pub(super) struct_value: Option<Struct>,
    }
}

#[cfg(test)]
#[path = "ext_authz_tests.rs"]
mod tests;
