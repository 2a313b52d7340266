//! Tokens of persons: verified, bound to the certificate, taken once, asked for where a policy wants
//! a better one.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use moat_audit::record::{Body, Outcome};
use moat_ca::Identity;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::support::{Answer, Client, Gateway, Options, Pki, Service, now_s, request};

/// A strong and fresh authentication for what `/strong` names; tokens say who the person is.
const POLICY: &str = r#"package authz

allow contains "free" if input.route == "free"

allow contains "known" if {
	input.token.state == "valid"
	input.token.claims.branch == "12"
	input.token.iss == "https://idp.test"
}

challenge contains {"reason": "strong", "kind": "person", "acr": ["urn:mfa", "urn:hsm"], "max_age_s": 120} if {
	input.request.params.rest == "strong"
	input.step_up.state != "satisfied"
}

deny contains "wrong_fact" if {
	input.step_up.state == "satisfied"
	not input.step_up.kind == "person"
}

challenge contains {"reason": "person", "kind": "person", "acr": ["urn:mfa"], "max_age_s": 120} if {
	input.request.params.rest == "untaken"
}
"#;

const ROUTES: &str = r#"  - name: free
    match: { path: "/free/{rest...}", methods: [GET] }
    upstream: accounts
    policy: authz
  - name: desk
    match: { path: "/desk/{rest...}", methods: [GET] }
    upstream: accounts
    policy: authz
    token: check
  - name: once
    match: { path: "/once/{rest...}", methods: [GET] }
    upstream: accounts
    policy: authz
    token: once
  - name: frames
    match: { path: "/desk.Frames/{rest}", methods: [POST] }
    upstream: accounts
    policy: authz
    token: check
    audit: { object: "frames/{rest}", op: SEL }
"#;

const TOKENS: &str = r#"tokens:
  - { issuer: "https://idp.test", audience: moat, keys: "file:idp.json", claims: [branch] }"#;

fn key_set(keys: &[(&str, &Ed25519KeyPair)]) -> String {
    let jwk = |(id, key): &(&str, &Ed25519KeyPair)| {
        let x = BASE64URL_NOPAD.encode(key.public_key().as_ref());
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": x })
    };
    json!({ "keys": keys.iter().map(jwk).collect::<Vec<_>>() }).to_string()
}

struct Bank {
    pki: Pki,
    service: Service,
    gateway: Gateway,
    key: Ed25519KeyPair,
    teller: Identity,
}

async fn bank(alpn: &'static [&'static str], protocol: &'static str) -> Bank {
    let pki = Pki::new();
    let service = Service::start(&pki, alpn).await;
    let key = Ed25519KeyPair::generate().unwrap();
    let options = Options {
        protocol,
        policy: POLICY,
        routes: ROUTES,
        more: TOKENS,
        files: vec![("idp.json", key_set(&[("k1", &key)]))],
        ..Options::default()
    };
    let gateway = Gateway::start(&pki, service.address, options).await;
    let teller = pki.identity("teller");
    Bank { pki, service, gateway, key, teller }
}

impl Bank {
    async fn client(&self, is_http2: bool) -> Client {
        Client::connect(&self.pki, self.gateway.address, &self.teller, is_http2).await.unwrap()
    }

    /// The claims of a good token.
    fn claims(&self) -> Value {
        let leaf = CertificateDer::from_pem_slice(self.teller.chain_pem.as_bytes()).unwrap();
        let bound = BASE64URL_NOPAD.encode(digest(&SHA256, &leaf).as_ref());
        json!({ "iss": "https://idp.test", "sub": "clerk-7", "aud": "moat", "exp": now_s() + 300,
            "iat": now_s(), "auth_time": now_s() - 5, "acr": "urn:pwd", "amr": ["pwd"],
            "branch": "12", "cnf": { "x5t#S256": bound } })
    }

    fn with(&self, more: &Value) -> Value {
        let mut claims = self.claims();
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    }

    fn record(&self, answer: &Answer) -> Body {
        let seq: u64 = answer.header("x-moat-record").parse().unwrap();
        self.gateway.log().into_iter().find(|leaf| leaf.head.seq == seq).unwrap().body
    }
}

fn token(key: &Ed25519KeyPair, id: &str, claims: &Value) -> String {
    let head = json!({ "alg": "EdDSA", "kid": id, "typ": "at+jwt" });
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(&head), part(claims));
    let signature = BASE64URL_NOPAD.encode(key.sign(signed.as_bytes()).as_ref());
    format!("{signed}.{signature}")
}

async fn get(client: &mut Client, path: &str, token: &str) -> Answer {
    let mut sent = request("GET", path, "");
    sent.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    client.send(sent).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_asked_for_a_better_token_and_the_call_goes_on_with_it() {
    let bank = bank(&["http/1.1"], "http1").await;
    let mut client = bank.client(false).await;
    let weak = token(&bank.key, "k1", &bank.claims());
    assert_eq!(get(&mut client, "/desk/ok", &weak).await.status, 200, "good enough here");
    for held in [Some(&weak), None] {
        let asked = match held {
            Some(token) => get(&mut client, "/desk/strong", token).await,
            None => client.get("/desk/strong").await,
        };
        assert_eq!((asked.status, asked.code().as_str()), (401, "MOAT-P020"));
        let field = asked.header("www-authenticate");
        for part in [
            "Bearer error=\"insufficient_user_authentication\"",
            "acr_values=\"urn:mfa urn:hsm\"",
            "max_age=\"120\"",
        ] {
            assert!(field.contains(part), "{field}");
        }
        let record = bank.record(&asked);
        assert_eq!(record.outcome, Some(Outcome::Challenged));
        assert_eq!((record.reasons, record.decision_id.len()), (vec!["strong".to_owned()], 32));
    }
    for stale in [
        json!({ "acr": "urn:mfa", "auth_time": now_s() - 121 }),
        json!({ "acr": "urn:mfa", "auth_time": null }),
    ] {
        let mut claims = bank.with(&stale);
        if claims["auth_time"].is_null() {
            claims.as_object_mut().unwrap().remove("auth_time");
        }
        let refused = get(&mut client, "/desk/strong", &token(&bank.key, "k1", &claims)).await;
        assert_eq!(refused.status, 401, "{stale}");
    }
    let strong = token(&bank.key, "k1", &bank.with(&json!({ "acr": "urn:mfa" })));
    let done = get(&mut client, "/desk/strong", &strong).await;
    assert_eq!(done.status, 200, "{done:?}");
    let record = bank.record(&done);
    assert!(
        record.step_up.starts_with("satisfied person acr=urn:mfa age_s="),
        "{}",
        record.step_up
    );
    assert_eq!(bank.service.paths(), ["/desk/ok", "/desk/strong"]);
    bank.gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_no_good_is_refused_with_a_record_even_where_none_is_needed() {
    let bank = bank(&["http/1.1"], "http1").await;
    let mut client = bank.client(false).await;
    let stranger = Ed25519KeyPair::generate().unwrap();
    let good = bank.claims();
    for (text, code) in [
        ("nonsense".to_owned(), "MOAT-I010"),
        (token(&bank.key, "k2", &good), "MOAT-I011"),
        (token(&bank.key, "k1", &bank.with(&json!({ "iss": "https://evil.test" }))), "MOAT-I011"),
        (token(&stranger, "k1", &good), "MOAT-I012"),
        (token(&bank.key, "k1", &bank.with(&json!({ "exp": now_s() - 31 }))), "MOAT-I013"),
        (token(&bank.key, "k1", &bank.with(&json!({ "aud": ["other"] }))), "MOAT-I014"),
        (token(&bank.key, "k1", &bank.with(&json!({ "cnf": {} }))), "MOAT-I015"),
    ] {
        let refused = get(&mut client, "/desk/ok", &text).await;
        assert_eq!((refused.status, refused.code().as_str()), (401, code), "{refused:?}");
        assert_eq!(refused.header("www-authenticate"), "Bearer error=\"invalid_token\"");
        let record = bank.record(&refused);
        assert_eq!((record.outcome, record.code.as_str()), (Some(Outcome::Refused), code));
        assert_eq!(
            get(&mut client, "/free/ok", &text).await.status,
            200,
            "there it is the service's"
        );
    }
    // The same token shown by another caller.
    let mut other = Client::http1(&bank.pki, bank.gateway.address, "auditor").await;
    let stolen = get(&mut other, "/desk/ok", &token(&bank.key, "k1", &good)).await;
    assert_eq!((stolen.status, stolen.code().as_str()), (401, "MOAT-I015"));
    let two = {
        let mut sent = request("GET", "/desk/ok", "");
        for _ in 0..2 {
            let text = token(&bank.key, "k1", &good);
            sent.headers_mut().append("authorization", format!("Bearer {text}").parse().unwrap());
        }
        client.send(sent).await.unwrap()
    };
    assert_eq!((two.status, two.code().as_str()), (401, "MOAT-I010"));
    assert_eq!(client.get("/desk/untaken").await.status, 401);
    assert_eq!(client.get("/free/untaken").await.code(), "MOAT-P008", "no tokens are taken there");
    bank.gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_may_take_each_token_once() {
    let bank = bank(&["http/1.1"], "http1").await;
    let mut client = bank.client(false).await;
    // A little later than the gateway's start.
    let one = bank.with(&json!({ "jti": "t-1", "iat": now_s() + 1 }));
    assert_eq!(get(&mut client, "/once/ok", &token(&bank.key, "k1", &one)).await.status, 200);
    // Other bytes, the same token: over another connection, perhaps another worker.
    let again = token(&bank.key, "k1", &{
        let mut again = one.clone();
        again["sub"] = json!("clerk-8");
        again
    });
    for _ in 0..4 {
        let replayed = get(&mut bank.client(true).await, "/once/ok", &again).await;
        assert_eq!((replayed.status, replayed.code().as_str()), (401, "MOAT-I016"));
        assert_eq!(bank.record(&replayed).code, "MOAT-I016");
    }
    for bad in [json!({ "iat": now_s() + 1 }), json!({ "jti": "t-2", "iat": now_s() - 3600 })] {
        let refused = get(&mut client, "/once/ok", &token(&bank.key, "k1", &bank.with(&bad))).await;
        assert_eq!((refused.status, refused.code().as_str()), (401, "MOAT-I017"), "{bad}");
    }
    assert_eq!(bank.service.paths(), ["/once/ok"]);
    bank.gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_an_issuer_are_rotated_without_a_restart() {
    let bank = bank(&["http/1.1"], "http1").await;
    let mut client = bank.client(false).await;
    let next = Ed25519KeyPair::generate().unwrap();
    let (old, new) = (token(&bank.key, "k1", &bank.claims()), token(&next, "k2", &bank.claims()));
    let statuses = async |client: &mut Client| {
        [get(client, "/desk/ok", &old).await.status, get(client, "/desk/ok", &new).await.status]
    };
    assert_eq!(statuses(&mut client).await, [200, 401]);
    let rotate = |keys: &[(&str, &Ed25519KeyPair)]| {
        let path = bank.gateway.dir.path().join("idp.json");
        std::fs::write(path, key_set(keys)).unwrap();
        let (code, said) = bank.gateway.reload();
        assert_eq!(code, 0, "{said}");
    };
    rotate(&[("k1", &bank.key), ("k2", &next)]);
    assert_eq!(statuses(&mut client).await, [200, 200]);
    rotate(&[("k2", &next)]);
    // What was verified before is not remembered beyond its key.
    assert_eq!(statuses(&mut client).await, [401, 200]);
    std::fs::write(bank.gateway.dir.path().join("idp.json"), "{\"keys\":[]}").unwrap();
    let (code, said) = bank.gateway.reload();
    assert!(code != 0 && said.contains("tokens: keys of https://idp.test"), "{said}");
    assert_eq!(statuses(&mut client).await, [401, 200], "the last good keys stay");
    bank.gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_asks_persons_in_the_same_way() {
    let bank = bank(&["h2"], "http2").await;
    let mut client = bank.client(true).await;
    let mut frame = request("POST", "/desk.Frames/strong", "\0\0\0\0\0");
    frame.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let asked = client.send(frame).await.unwrap();
    assert_eq!((asked.status, asked.header("grpc-status")), (200, "16"));
    assert!(asked.header("www-authenticate").contains("acr_values=\"urn:mfa urn:hsm\""));
    let mut frame = request("POST", "/desk.Frames/strong", "\0\0\0\0\0");
    frame.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    frame.headers_mut().insert("authorization", "Bearer x.y.z".parse().unwrap());
    let refused = client.send(frame).await.unwrap();
    assert!(refused.header("grpc-message").starts_with("MOAT-I010"), "{refused:?}");
    assert_eq!(refused.header("grpc-status"), "16");
}
