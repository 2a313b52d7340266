//! Challenges: what a policy asks for, what answers it, and what is on record of both.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use http::Request;
use moat_audit::record::{Body, Kind, Outcome};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;

use crate::support::{Answer, Client, Gateway, Options, Pki, SendBody, Service, request};

/// Large amounts need a machine's second key; `/pay/tls` takes the certificate's own.
const POLICY: &str = r#"package authz

default allow := false

allow if input.peer.spiffe in {"spiffe://bank.test/teller", "spiffe://bank.test/auditor"}

large if input.body.amount > 100000

large if input.route in {"held", "frames", "stream"}

challenge contains {"reason": "large", "kind": "machine", "key": ["hsm"]} if {
	large
	input.request.params.rest != "tls"
	input.step_up.state != "satisfied"
}

challenge contains {"reason": "large", "kind": "machine", "key": ["tls"]} if {
	large
	input.request.params.rest == "tls"
	input.step_up.state != "satisfied"
}

# A rule that does not look at what was proved asks for ever.
challenge contains {"reason": "always", "kind": "machine"} if input.request.params.rest == "always"

deny contains "suspicious" if {
	input.step_up.state == "failed"
	input.request.params.rest == "strict"
}

obligations contains {"mask": "strict"} if input.request.params.rest == "strict"

obligations contains {"mask": "missing"} if input.request.params.rest == "missing"

obligations contains {"limit": {"name": "few", "most": 2, "per_ms": 3600000}} if {
	input.request.params.rest == "few"
}
"#;

const ROUTES: &str = r#"  - name: pay
    match: { path: "/pay/{rest...}", methods: [POST] }
    upstream: accounts
    policy: authz
    decide_on: { /amount: amount }
    audit: { object: "pay/{rest}", op: UPD, fields: { /amount: C1 } }
    mask: { /secret: name }
  - name: held
    match: { path: "/held/{rest...}", methods: [POST] }
    upstream: accounts
    policy: authz
    hold: true
  - name: stream
    match: { path: "/stream/{rest...}", methods: [POST] }
    upstream: accounts
    policy: authz
  - name: frames
    match: { path: "/held.Frames/{rest}", methods: [POST] }
    upstream: accounts
    policy: authz
    hold: true
    audit: { object: "frames/{rest}", op: SEL }
  - name: shown
    match: { path: "/shown/{rest...}", methods: [GET] }
    upstream: accounts
    policy: authz
    mask: { /n: fixed }
    mask_plans: { strict: { /secret: fixed } }
"#;

const LARGE: &str = r#"{"amount":"5000.00"}"#;

struct Bank {
    pki: Pki,
    service: Service,
    gateway: Gateway,
    /// The teller's second key.
    key: Ed25519KeyPair,
}

async fn bank(alpn: &'static [&'static str], protocol: &'static str) -> Bank {
    let pki = Pki::new();
    let service = Service::start(&pki, alpn).await;
    let key = Ed25519KeyPair::generate().unwrap();
    let register = |id: &str, held: &str, spiffe: &str, key: &Ed25519KeyPair| {
        let x = BASE64URL_NOPAD.encode(key.public_key().as_ref());
        format!(
            r#"{{"kty":"OKP","crv":"Ed25519","kid":"{id}","x":"{x}","held_in":"{held}",
                "spiffe":"spiffe://bank.test/{spiffe}"}}"#
        )
    };
    let other = Ed25519KeyPair::generate().unwrap();
    let keys = [
        register("hsm-1", "hsm", "teller", &key),
        register("file-1", "file", "teller", &key),
        register("hsm-2", "hsm", "auditor", &other),
    ];
    let options = Options {
        protocol,
        policy: POLICY,
        routes: ROUTES,
        more: "step_up: { keys: \"file:keys.json\" }",
        files: vec![("keys.json", format!(r#"{{"keys":[{}]}}"#, keys.join(",")))],
        ..Options::default()
    };
    let gateway = Gateway::start(&pki, service.address, options).await;
    Bank { pki, service, gateway, key }
}

impl Bank {
    async fn teller(&self) -> Client {
        Client::http1(&self.pki, self.gateway.address, "teller").await
    }

    /// The record that an answer names.
    async fn record(&self, answer: &Answer) -> Body {
        let seq: u64 = answer.header("x-moat-record").parse().unwrap();
        self.gateway.log().into_iter().find(|leaf| leaf.head.seq == seq).unwrap().body
    }
}

/// What stands in quotes behind `name=`.
fn parameter(field: &str, name: &str) -> String {
    let after = field.split_once(&format!("{name}=\"")).unwrap_or_else(|| panic!("{field}")).1;
    after.split_once('"').unwrap().0.to_owned()
}

pub(crate) fn nonce_of(answer: &Answer) -> String {
    let asked = answer.header("www-authenticate");
    assert!(asked.starts_with("MoatNonce "), "{asked}");
    assert!(answer.header("accept-signature").contains(&parameter(asked, "nonce")));
    parameter(asked, "nonce")
}

fn json(path: &str, body: &str) -> Request<SendBody> {
    let mut request = request("POST", path, body);
    request.headers_mut().insert("content-type", "application/json".parse().unwrap());
    request
}

/// A request that answers a challenge, signed over what its arguments say.
pub(crate) fn signed(
    sent: Request<SendBody>,
    body: &str,
    key_id: &str,
    nonce: &str,
    key: &Ed25519KeyPair,
) -> Request<SendBody> {
    let named = format!("keyid=\"{key_id}\"");
    signed_by(sent, body, &named, nonce, |base| key.sign(base).as_ref().to_vec())
}

/// The same by any key: RFC 9421, written out by hand.
fn signed_by(
    mut sent: Request<SendBody>,
    body: &str,
    named: &str,
    nonce: &str,
    sign: impl Fn(&[u8]) -> Vec<u8>,
) -> Request<SendBody> {
    let target = format!("https://gateway.test{}", sent.uri());
    let sha256 = BASE64.encode(digest(&SHA256, body.as_bytes()).as_ref());
    let content_digest = format!("sha-256=:{sha256}:");
    let parameters = format!(
        "(\"@method\" \"@target-uri\" \"content-digest\");created=1700000000;{named};\
         nonce=\"{nonce}\";tag=\"moat-step-up\""
    );
    let base = format!(
        "\"@method\": {}\n\"@target-uri\": {target}\n\"content-digest\": {content_digest}\n\
         \"@signature-params\": {parameters}",
        sent.method()
    );
    let signature = BASE64.encode(&sign(base.as_bytes()));
    for (name, value) in [
        ("content-digest", content_digest),
        ("signature-input", format!("moat={parameters}")),
        ("signature", format!("moat=:{signature}:")),
    ] {
        sent.headers_mut().insert(name, value.parse().unwrap());
    }
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_answers_a_challenge_with_its_second_key_and_both_are_on_record() {
    let bank = bank(&["http/1.1"], "http1").await;
    for is_http2 in [false, true] {
        let identity = bank.pki.identity("teller");
        let address = bank.gateway.address;
        let mut client = Client::connect(&bank.pki, address, &identity, is_http2).await.unwrap();
        let asked = client.send(json("/pay/ok", LARGE)).await.unwrap();
        assert_eq!((asked.status, asked.code().as_str()), (401, "MOAT-P020"), "{asked:?}");
        assert_eq!(asked.json()["reasons"], serde_json::json!(["large"]));
        assert_eq!(parameter(asked.header("www-authenticate"), "key"), "hsm");
        let challenged = bank.record(&asked).await;
        assert_eq!(
            (challenged.kind, challenged.outcome),
            (Kind::Refusal, Some(Outcome::Challenged))
        );
        assert_eq!((challenged.code.as_str(), challenged.reasons.len()), ("MOAT-P020", 1));
        assert_eq!(challenged.decision_id.len(), 32);
        let answer = signed(json("/pay/ok", LARGE), LARGE, "hsm-1", &nonce_of(&asked), &bank.key);
        let done = client.send(answer).await.unwrap();
        assert_eq!(done.status, 200, "{done:?}");
        let record = bank.record(&done).await;
        assert_eq!((record.kind, record.outcome), (Kind::Outcome, Some(Outcome::Committed)));
        assert_eq!(record.decision_id, challenged.decision_id, "the answer names its challenge");
        assert!(
            record.step_up.starts_with("satisfied machine key=hsm kid=hsm-1 age_ms="),
            "{}",
            record.step_up
        );
        let intent = bank.gateway.records(Kind::Intent).pop().unwrap();
        assert_eq!((intent.step_up.is_empty(), &intent.decision_id), (false, &record.decision_id));
        // A small amount needs no answer.
        assert_eq!(client.send(json("/pay/ok", r#"{"amount":"1.00"}"#)).await.unwrap().status, 200);
    }
    assert_eq!(bank.service.paths().len(), 4, "nothing went there before it was proved");
    bank.gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nonce_is_for_one_call_on_one_connection() {
    let bank = bank(&["http/1.1"], "http1").await;
    let mut client = bank.teller().await;
    let nonce = nonce_of(&client.post("/pay/ok", LARGE).await);
    // Used, then replayed.
    let answer = || signed(json("/pay/ok", LARGE), LARGE, "hsm-1", &nonce, &bank.key);
    assert_eq!(client.send(answer()).await.unwrap().status, 200);
    let replayed = client.send(answer()).await.unwrap();
    assert_eq!((replayed.status, replayed.code().as_str()), (401, "MOAT-P023"));
    let record = bank.record(&replayed).await;
    assert_eq!(
        (record.outcome, record.step_up.as_str()),
        (Some(Outcome::Challenged), "failed MOAT-P023")
    );
    // The refusal brought a new one, and that one is good on its own connection only.
    let fresh = nonce_of(&replayed);
    let mut elsewhere = bank.teller().await;
    let moved = signed(json("/pay/ok", LARGE), LARGE, "hsm-1", &fresh, &bank.key);
    let refused = elsewhere.send(moved).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (401, "MOAT-P021"), "another connection");
    let here = signed(json("/pay/ok", LARGE), LARGE, "hsm-1", &fresh, &bank.key);
    assert_eq!(client.send(here).await.unwrap().status, 200);
    bank.gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_over_anything_else_is_refused_and_three_are_too_many() {
    let larger = r#"{"amount":"9999.00"}"#;
    type Wrong = fn(&Bank, &str, &str) -> Request<SendBody>;
    let other_body: Wrong =
        |bank, nonce, larger| signed(json("/pay/ok", larger), larger, "hsm-1", nonce, &bank.key);
    let other_target: Wrong =
        |bank, nonce, _| signed(json("/pay/ok?x=1", LARGE), LARGE, "hsm-1", nonce, &bank.key);
    let other_digest: Wrong =
        |bank, nonce, larger| signed(json("/pay/ok", LARGE), larger, "hsm-1", nonce, &bank.key);
    let wrong_place: Wrong =
        |bank, nonce, _| signed(json("/pay/ok", LARGE), LARGE, "file-1", nonce, &bank.key);
    let others_key: Wrong =
        |bank, nonce, _| signed(json("/pay/ok", LARGE), LARGE, "hsm-2", nonce, &bank.key);
    let other_key: Wrong = |_, nonce, _| {
        let key = Ed25519KeyPair::generate().unwrap();
        signed(json("/pay/ok", LARGE), LARGE, "hsm-1", nonce, &key)
    };
    let malformed: Wrong = |bank, nonce, _| {
        let mut request = signed(json("/pay/ok", LARGE), LARGE, "hsm-1", nonce, &bank.key);
        let input =
            request.headers()["signature-input"].to_str().unwrap().replace("\"@method\" ", "");
        request.headers_mut().insert("signature-input", input.parse().unwrap());
        request
    };
    for wrongs in [
        [other_body, other_target, other_digest],
        [wrong_place, others_key, other_key],
        [malformed, malformed, malformed],
    ] {
        let bank = bank(&["http/1.1"], "http1").await;
        let mut client = bank.teller().await;
        let mut nonce = nonce_of(&client.post("/pay/ok", LARGE).await);
        for (at, wrong) in wrongs.into_iter().enumerate() {
            let refused = client.send(wrong(&bank, &nonce, larger)).await.unwrap();
            assert_eq!((refused.status, refused.code().as_str()), (401, "MOAT-P021"), "{at}");
            assert_eq!(bank.record(&refused).await.step_up, "failed MOAT-P021");
            nonce = nonce_of(&refused);
        }
        let right = signed(json("/pay/ok", LARGE), LARGE, "hsm-1", &nonce, &bank.key);
        let struck = client.send(right).await.unwrap();
        assert_eq!((struck.status, struck.code().as_str()), (403, "MOAT-P024"));
        assert_eq!(struck.header("www-authenticate"), "");
        assert_eq!(
            client.post("/pay/ok", r#"{"amount":"1.00"}"#).await.status,
            200,
            "all else goes on"
        );
        assert_eq!(bank.service.paths(), ["/pay/ok"]);
        bank.gateway.assert_whole();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_met_is_refused_at_once() {
    let bank = bank(&["http/1.1"], "http1").await;
    let mut client = bank.teller().await;
    let nonce = nonce_of(&client.post("/pay/always", r#"{"amount":"1.00"}"#).await);
    let small = r#"{"amount":"1.00"}"#;
    let again = signed(json("/pay/always", small), small, "hsm-1", &nonce, &bank.key);
    let exhausted = client.send(again).await.unwrap();
    assert_eq!((exhausted.status, exhausted.code().as_str()), (403, "MOAT-P026"));
    assert!(
        bank.record(&exhausted).await.step_up.starts_with("satisfied machine"),
        "it was proved"
    );
    let streaming = client.post("/stream/ok", LARGE).await;
    assert_eq!((streaming.status, streaming.code().as_str()), (403, "MOAT-P025"));
    // The certificate's own key is asked for by name, and is of no use otherwise.
    let mut client = bank.teller().await;
    assert_eq!(
        parameter(client.post("/pay/tls", LARGE).await.header("www-authenticate"), "key"),
        "tls"
    );
    let identity = bank.pki.identity("teller");
    let mut client =
        Client::connect(&bank.pki, bank.gateway.address, &identity, false).await.unwrap();
    let nonce = nonce_of(&client.post("/pay/tls", LARGE).await);
    let pkcs8 = PrivatePkcs8KeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
    let pkcs8 = pkcs8.secret_pkcs8_der();
    let own = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).unwrap();
    let sign = |base: &[u8]| own.sign(&SystemRandom::new(), base).unwrap().as_ref().to_vec();
    let named = "keyid=\"tls\"";
    let answer = signed_by(json("/pay/tls", LARGE), LARGE, named, &nonce, sign);
    let done = client.send(answer).await.unwrap();
    assert_eq!(done.status, 200, "{done:?}");
    assert!(bank.record(&done).await.step_up.contains("machine key=tls kid=tls"));
    // Whoever has no such key cannot be asked.
    let mut auditor = Client::http1(&bank.pki, bank.gateway.address, "auditor").await;
    assert_eq!(auditor.post("/pay/ok", LARGE).await.status, 401);
    bank.gateway.edit_config("file:keys.json", "file:fewer.json");
    let one = std::fs::read_to_string(bank.gateway.dir.path().join("keys.json")).unwrap();
    let fewer = one.replace("spiffe://bank.test/auditor", "spiffe://bank.test/nobody");
    std::fs::write(bank.gateway.dir.path().join("fewer.json"), fewer).unwrap();
    let (code, said) = bank.gateway.reload();
    assert_eq!(code, 0, "{said}");
    let refused = auditor.post("/pay/ok", LARGE).await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "MOAT-P008"));
    assert_eq!(bank.service.paths(), ["/pay/tls"]);
    bank.gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_says_it_is_over_is_expired_and_no_strike() {
    let bank = bank(&["http/1.1"], "http1").await;
    let mut client = bank.teller().await;
    let mut asked = client.post("/pay/ok", LARGE).await;
    for _ in 0..4 {
        let named = "keyid=\"hsm-1\";expires=1700000000";
        let sign = |base: &[u8]| bank.key.sign(base).as_ref().to_vec();
        let late = signed_by(json("/pay/ok", LARGE), LARGE, named, &nonce_of(&asked), sign);
        asked = client.send(late).await.unwrap();
        assert_eq!((asked.status, asked.code().as_str()), (401, "MOAT-P022"));
        let record = bank.record(&asked).await;
        assert_eq!(record.outcome, Some(Outcome::Challenged));
        assert_eq!(record.step_up, "failed MOAT-P022");
    }
    let right = signed(json("/pay/ok", LARGE), LARGE, "hsm-1", &nonce_of(&asked), &bank.key);
    assert_eq!(client.send(right).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_may_deny_who_answered_wrongly() {
    let bank = bank(&["http/1.1"], "http1").await;
    let mut client = bank.teller().await;
    let nonce = nonce_of(&client.post("/pay/strict", LARGE).await);
    let wrong = signed(json("/pay/strict", LARGE), LARGE, "hsm-2", &nonce, &bank.key);
    let denied = client.send(wrong).await.unwrap();
    assert_eq!((denied.status, denied.code().as_str()), (403, "MOAT-P001"));
    let record = bank.record(&denied).await;
    assert_eq!(
        (record.outcome, record.reasons.as_slice()),
        (Some(Outcome::Refused), &["suspicious".to_owned()][..])
    );
    assert_eq!(record.step_up, "failed MOAT-P021");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_nobody_looks_into_is_held_where_the_route_says_so() {
    let bank = bank(&["http/1.1"], "http1").await;
    let mut client = bank.teller().await;
    let bytes = "\u{1}\u{2} not JSON";
    let asked = client.send(request("POST", "/held/echo", bytes)).await.unwrap();
    let right =
        signed(request("POST", "/held/echo", bytes), bytes, "hsm-1", &nonce_of(&asked), &bank.key);
    let done = client.send(right).await.unwrap();
    assert_eq!((done.status, done.json()["body"].as_str()), (200, Some(bytes)));
    let record = bank.record(&done).await;
    assert_eq!(
        record.body_digest_in.unwrap().as_slice(),
        digest(&SHA256, bytes.as_bytes()).as_ref()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_is_asked_as_unauthenticated_with_the_same_metadata() {
    let bank = bank(&["h2"], "http2").await;
    let mut client = Client::http2(&bank.pki, bank.gateway.address, "teller").await;
    let message = "\0\0\0\0\u{3}abc";
    let frame = || {
        let mut request = request("POST", "/held.Frames/Collect", message);
        request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        request
    };
    let asked = client.send(frame()).await.unwrap();
    assert_eq!((asked.status, asked.header("grpc-status")), (200, "16"), "{asked:?}");
    assert!(asked.header("grpc-message").starts_with("MOAT-P020"));
    let right = signed(frame(), message, "hsm-1", &nonce_of(&asked), &bank.key);
    let done = client.send(right).await.unwrap();
    let status = done.trailers.unwrap()["grpc-status"].clone();
    assert_eq!((done.body.as_ref(), status.to_str().unwrap()), (message.as_bytes(), "0"));
    bank.gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn obligations_are_met_or_the_call_is_refused() {
    let bank = bank(&["http/1.1"], "http1").await;
    let mut client = bank.teller().await;
    let plain = client.get("/shown/ok").await.json();
    assert_eq!((plain["secret"].as_str(), plain["n"].as_str()), (Some("张三丰"), Some("******")));
    let masked = client.get("/shown/strict").await.json();
    assert_eq!(
        (masked["secret"].as_str(), masked["n"].as_str()),
        (Some("******"), Some("******")),
        "both"
    );
    let missing = client.get("/shown/missing").await;
    assert_eq!((missing.status, missing.code().as_str()), (403, "MOAT-P028"));
    for wanted in [200, 200, 429] {
        assert_eq!(client.get("/shown/few").await.status, wanted);
    }
    let over = client.get("/shown/few").await;
    assert_eq!(
        (over.code().as_str(), &over.json()["reasons"][0]),
        ("MOAT-P027", &"budget:few".into())
    );
    let mut other = Client::http1(&bank.pki, bank.gateway.address, "auditor").await;
    assert_eq!(other.get("/shown/few").await.status, 200, "each caller has its own");
    bank.gateway.assert_whole();
}
