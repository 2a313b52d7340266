use proptest::prelude::*;

use super::*;

const PEM: &str = "-----BEGIN%20CERTIFICATE-----%0AAQID%0A-----END%20CERTIFICATE-----%0A";

fn request() -> wire::HttpRequest {
    let fields = [(":method", "POST"), ("content-type", "application/json"), ("a", "1")];
    wire::HttpRequest {
        method: "POST".to_owned(),
        path: "/a?b=c".to_owned(),
        host: "bank.test".to_owned(),
        headers: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ..Default::default()
    }
}

fn encoded(http: wire::HttpRequest, certificate: &str) -> Vec<u8> {
    let socket = wire::SocketAddress { address: "10.0.0.7".to_owned(), port_value: 4711 };
    let source = wire::Peer {
        address: Some(wire::Address { socket_address: Some(socket) }),
        principal: "spiffe://bank.test/teller".to_owned(),
        certificate: certificate.to_owned(),
    };
    let attributes = wire::AttributeContext {
        source: Some(source),
        request: Some(wire::Request { http: Some(http) }),
        tls_session: Some(wire::TlsSession { sni: "pos.bank.test".to_owned() }),
    };
    wire::CheckRequest { attributes: Some(attributes) }.encode_to_vec()
}

#[test]
fn a_check_says_what_envoy_saw() {
    let check = Check::decode(&encoded(request(), PEM)).unwrap();
    assert_eq!((check.method.as_str(), check.path.as_str()), ("POST", "/a?b=c"));
    assert_eq!((check.host.as_str(), check.sni.as_str()), ("bank.test", "pos.bank.test"));
    assert_eq!(check.source, Some("10.0.0.7:4711".parse().unwrap()));
    assert_eq!(check.certificate, [1, 2, 3]);
    let names: Vec<&str> = check.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "content-type"]);
    assert!(check.body == Body::NotSent);
}

#[test]
fn raw_headers_keep_their_order_and_number() {
    let field = |key: &str, raw: &[u8]| wire::HeaderValue {
        key: key.to_owned(),
        value: String::new(),
        raw_value: raw.to_vec(),
    };
    let map = vec![field("b", b"2"), field("a", &[0xff]), field("b", b"1"), field(":path", b"/")];
    let http =
        wire::HttpRequest { header_map: Some(wire::HeaderMap { headers: map }), ..request() };
    let check = Check::decode(&encoded(http, "")).unwrap();
    let expected: [(&str, &[u8]); 3] = [("b", b"2"), ("a", &[0xff]), ("b", b"1")];
    assert_eq!(check.headers, expected.map(|(name, value)| (name.to_owned(), value.to_vec())));
}

#[test]
fn a_body_is_whole_only_if_envoy_says_so() {
    let with = |said: Option<&str>, raw: &[u8], text: &str| {
        let mut http = request();
        http.headers.extend(said.map(|said| (PARTIAL_BODY.to_owned(), said.to_owned())));
        (http.raw_body, http.body) = (raw.to_vec(), text.to_owned());
        Check::decode(&encoded(http, "")).map(|check| check.body).ok()
    };
    assert!(with(Some("false"), b"{}", "") == Some(Body::Whole(b"{}".to_vec())));
    assert!(with(Some("false"), b"", "") == Some(Body::Whole(Vec::new())));
    assert!(with(Some("true"), b"{", "") == Some(Body::Partial));
    assert!(with(None, b"", "") == Some(Body::NotSent));
    for (said, raw, text) in
        [(None, &b"{}"[..], ""), (Some("no"), b"", ""), (Some("false"), b"", "{}")]
    {
        assert!(with(said, raw, text).is_none());
    }
}

#[test]
fn a_certificate_is_one_pem_block() {
    assert_eq!(certificate(""), Ok(Vec::new()));
    assert_eq!(certificate(PEM), Ok(vec![1, 2, 3]));
    let twice = PEM.repeat(2);
    for bad in ["x", "%", "%4", "%zz", "-----BEGIN%20CERTIFICATE-----%0A", &twice] {
        assert!(certificate(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_describes_no_http_request_is_refused() {
    assert!(Check::decode(b"").is_err());
    let none = wire::AttributeContext::default();
    let bytes = wire::CheckRequest { attributes: Some(none) }.encode_to_vec();
    assert!(Check::decode(&bytes).is_err());
}

#[test]
fn an_answer_has_its_status_fields_and_metadata() {
    let told = Told { decision: "deny".to_owned(), record: "7".to_owned(), ..Told::default() };
    let headers = vec![("www-authenticate".to_owned(), "Bearer".to_owned())];
    let deny = Verdict::Deny { status: 401, grpc: 16, headers, body: "no".to_owned() };
    let read = wire::CheckResponse::decode(answer(deny, told.clone()).as_slice()).unwrap();
    assert_eq!(read.status.unwrap().code, 16);
    let denied = read.denied_response.unwrap();
    assert_eq!((denied.status.unwrap().code, denied.body.as_str()), (401, "no"));
    assert_eq!(denied.headers[0].header.as_ref().unwrap().key, "www-authenticate");
    let moat = &read.dynamic_metadata.unwrap().fields["moat"];
    let fields = &moat.struct_value.as_ref().unwrap().fields;
    assert_eq!(fields["record"].string_value.as_deref(), Some("7"));
    assert!(!fields.contains_key("code"));
    let allow =
        Verdict::Allow { set: Vec::new(), remove: vec!["via".to_owned()], answer: Vec::new() };
    let read = wire::CheckResponse::decode(answer(allow, told).as_slice()).unwrap();
    assert_eq!(read.status.unwrap().code, 0);
    assert_eq!(read.ok_response.unwrap().headers_to_remove, ["via"]);
    assert!(read.denied_response.is_none());
}

#[test]
fn every_truncation_is_read_or_refused_but_never_as_the_whole() {
    let whole = encoded(request(), PEM);
    for cut in 0..whole.len() {
        if let Ok(check) = Check::decode(&whole[..cut]) {
            let is_whole = check.certificate == [1, 2, 3] && check.sni == "pos.bank.test";
            assert!(!is_whole || check.path.is_empty(), "{cut}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = Check::decode(&bytes);
    }

    #[test]
    fn certificates_survive_their_encoding(der in proptest::collection::vec(any::<u8>(), 1..200)) {
        let base64 = data_encoding::BASE64.encode(&der);
        let text: String = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")
            .bytes()
            .map(|b| format!("%{b:02X}"))
            .collect();
        prop_assert_eq!(certificate(&text), Ok(der));
    }
}
