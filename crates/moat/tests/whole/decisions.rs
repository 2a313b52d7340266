//! Decisions for others: a real Envoy in front of the service that asks by ext_authz, and AuthZEN.

use std::path::Path;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use http::Request;
use moat_audit::record::{Body, Kind, Outcome};
use moat_ca::Identity;
use serde_json::{Value, json};

use crate::step_up::{nonce_of, signed};
use crate::support::{
    Answer, Client, Envoy, Gateway, Options, Pki, SendBody, Service, envoy_program, eventually,
    free_address, request,
};

const POLICY: &str = include_str!("../../../../examples/envoy/policy/authz.rego");
const ENVOY: &str = include_str!("../../../../examples/envoy/envoy.yaml");

const ROUTES: &str = r#"  - name: pay
    match: { path: "/pay/{rest...}", methods: [POST] }
    upstream: accounts
    policy: authz
    decide_on: { /amount: amount }
    audit: { object: "pay/{rest}", op: UPD, fields: { /amount: C1 } }
"#;

const SMALL: &str = r#"{"amount":"5.00"}"#;
const LARGE: &str = r#"{"amount":"5000.00"}"#;

/// How Envoy asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Socket,
    Tls,
}

struct Bank {
    pki: Pki,
    service: Service,
    gateway: Gateway,
    envoy: Envoy,
    key: Ed25519KeyPair,
}

fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn listeners(address: std::net::SocketAddr, uid: u32, spiffe: &str) -> String {
    let callers = r#"intermediates: "file:pki/issuing.pem"
      callers: { role: partners, trust: "file:pki/root.pem" }"#;
    format!(
        r#"  - name: envoy
    bind: unix:envoy.sock
    protocol: ext_authz
    enforcers:
      uids: [{uid}]
      bodies: whole
      {callers}
  - name: envoys
    bind: {address}
    protocol: ext_authz
    tls:
      identities: [{{ certificate: "file:pki/gateway.pem", key: "file:pki/gateway.key" }}]
      clients: [{{ role: envoys, trust: "file:pki/root.pem" }}]
    enforcers:
      spiffe: ["{spiffe}"]
      bodies: whole
      {callers}
"#
    )
}

async fn start(way: Way, uid: u32, spiffe: &str, more: &str) -> Option<Bank> {
    envoy_program()?;
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let key = Ed25519KeyPair::generate().unwrap();
    let x = BASE64URL_NOPAD.encode(key.public_key().as_ref());
    let keys = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "hsm-1", "x": x,
        "held_in": "hsm", "spiffe": "spiffe://bank.test/teller" }] });
    let asking = free_address();
    let options = Options {
        policy: POLICY,
        routes: ROUTES,
        more: "step_up: { keys: \"file:keys.json\" }",
        files: vec![("keys.json", keys.to_string()), ("pki/issuing.pem", pki.issuing_pem())],
        listeners: listeners(asking, uid, spiffe) + more,
        ..Options::default()
    };
    let gateway = Gateway::start(&pki, service.address, options).await;
    pki.write(&gateway.dir.path().join("pki"), "envoy");
    let address = free_address();
    let port = |port: u16| format!("port_value: {port} ");
    let config = ENVOY
        .replace("port_value: 8443 ", &port(address.port()))
        .replace("port_value: 8444 ", &port(service.address.port()))
        .replace("port_value: 8445 ", &port(asking.port()));
    let config = match way {
        Way::Socket => config,
        Way::Tls => config.replace("cluster_name: moat }", "cluster_name: moat-tls }"),
    };
    let envoy = Envoy::start(gateway.dir.path(), &config, address).await;
    Some(Bank { pki, service, gateway, envoy, key })
}

async fn bank(way: Way) -> Option<Bank> {
    start(way, uid(), "spiffe://bank.test/envoy", "").await
}

impl Bank {
    async fn client(&self, identity: &Identity, is_http2: bool) -> Client {
        Client::connect(&self.pki, self.envoy.address, identity, is_http2).await.unwrap()
    }

    async fn teller(&self) -> Client {
        self.client(&self.pki.identity("teller"), false).await
    }

    fn record(&self, answer: &Answer) -> Body {
        let seq: u64 = answer.header("x-moat-record").parse().unwrap();
        self.gateway.log().into_iter().find(|leaf| leaf.head.seq == seq).unwrap().body
    }
}

fn post(path: &str, body: &str) -> Request<SendBody> {
    let mut request = request("POST", path, body);
    request.headers_mut().insert("content-type", "application/json".parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_asks_and_what_it_is_told_is_on_record() {
    for way in [Way::Socket, Way::Tls] {
        let Some(bank) = bank(way).await else { return };
        let mut client = bank.teller().await;
        // Allowed: the service sees who calls, as Moat says it, and nothing that pretends to be that.
        let mut asked = request("GET", "/pass/echo", "");
        for (name, value) in [
            ("x-forwarded-client-cert", "URI=spiffe://bank.test/boss"),
            ("x-real-ip", "10.9.9.9"),
            ("x-custom", "stays"),
        ] {
            asked.headers_mut().insert(name, value.parse().unwrap());
        }
        let answer = client.send(asked).await.unwrap();
        assert_eq!(answer.status, 200, "{way:?} {answer:?}");
        let fields = &answer.json()["fields"];
        let said = fields["x-forwarded-client-cert"].as_str().unwrap();
        assert!(said.ends_with("URI=spiffe://bank.test/teller"), "{said}");
        assert!(fields["x-real-ip"].is_null() && fields["x-custom"] == "stays", "{fields}");
        assert_eq!(fields["x-moat-record"], answer.header("x-moat-record"));
        let record = bank.record(&answer);
        assert_eq!((record.kind, record.outcome), (Kind::Read, Some(Outcome::Permitted)));
        assert_eq!(record.actor, "spiffe://bank.test/teller");
        assert_eq!((record.route.as_str(), record.object.as_str()), ("pass", "pass/echo"));
        let (listener, via) = match way {
            Way::Socket => ("envoy", format!("asked by uid {}", uid())),
            Way::Tls => ("envoys", "asked by spiffe://bank.test/envoy".to_owned()),
        };
        assert_eq!((record.listener.as_str(), record.note), (listener, via));
        // By a field of the body, which is on record.
        let paid = client.send(post("/pay/ok", SMALL)).await.unwrap();
        assert_eq!(paid.status, 200, "{paid:?}");
        assert_eq!(bank.record(&paid).fields.len(), 1);
        // Denied: the answer is that of Moat.
        let calls = bank.service.paths().len();
        let denied = client.send(post("/pay/refused", SMALL)).await.unwrap();
        assert_eq!((denied.status, denied.code().as_str()), (403, "MOAT-P001"), "{denied:?}");
        assert_eq!(denied.header("content-type"), "application/problem+json");
        assert_eq!(denied.json()["reasons"], json!(["refused"]));
        let record = bank.record(&denied);
        assert_eq!((record.kind, record.code.as_str()), (Kind::Refusal, "MOAT-P001"));
        // Nobody's route, and a caller that no rule allows.
        let none = client.get("/nowhere").await;
        assert_eq!((none.status, none.code().as_str()), (404, "MOAT-H015"));
        let mut boss = bank.client(&bank.pki.identity("boss"), true).await;
        let refused = boss.get("/pass/ok").await;
        assert_eq!((refused.status, refused.code().as_str()), (403, "MOAT-P002"), "{refused:?}");
        assert_eq!(bank.service.paths().len(), calls, "nothing went to the service");
        bank.gateway.assert_whole();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_challenge_comes_through_envoy_and_its_answer_goes_back() {
    let Some(bank) = bank(Way::Socket).await else { return };
    let teller = bank.pki.identity("teller");
    let mut client = bank.client(&teller, false).await;
    let asked = client.send(post("/pay/ok", LARGE)).await.unwrap();
    assert_eq!((asked.status, asked.code().as_str()), (401, "MOAT-P020"), "{asked:?}");
    let challenged = bank.record(&asked);
    assert_eq!(challenged.outcome, Some(Outcome::Challenged));
    let nonce = nonce_of(&asked);
    let answer = || signed(post("/pay/ok", LARGE), LARGE, "hsm-1", &nonce, &bank.key);
    // Another connection: whoever asks for Envoy may be another worker.
    let done = bank.client(&teller, true).await.send(answer()).await.unwrap();
    assert_eq!(done.status, 200, "{done:?}");
    let record = bank.record(&done);
    assert_eq!(
        (record.outcome, record.decision_id),
        (Some(Outcome::Permitted), challenged.decision_id)
    );
    let replayed = client.send(answer()).await.unwrap();
    assert_eq!((replayed.status, replayed.code().as_str()), (401, "MOAT-P023"), "{replayed:?}");
    let other = signed(post("/pay/ok", LARGE), SMALL, "hsm-1", &nonce_of(&replayed), &bank.key);
    assert_eq!(client.send(other).await.unwrap().code(), "MOAT-P021");
    assert_eq!(bank.service.asked("/pay/ok"), 1);
    bank.gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_moat_or_its_record_envoy_refuses() {
    let Some(mut bank) = bank(Way::Socket).await else { return };
    let mut client = bank.teller().await;
    assert_eq!(client.get("/pass/ok").await.status, 200);
    // The auditor is away: nothing can be recorded, so nothing is told.
    let auditor = bank.gateway.role("auditor").unwrap();
    rustix::process::kill_process(auditor, rustix::process::Signal::STOP).unwrap();
    let calls = bank.service.paths().len();
    let refused = client.get("/pass/ok").await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.header("x-moat-record"), "");
    rustix::process::kill_process(auditor, rustix::process::Signal::CONT).unwrap();
    let again = async || bank.teller().await.get("/pass/ok").await.status == 200;
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    while !again().await {
        assert!(tokio::time::Instant::now() < until, "it does not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let calls_now = bank.service.paths().len();
    assert!(calls_now > calls);
    // The whole gateway is gone.
    bank.gateway.kill();
    let refused = bank.teller().await.get("/pass/ok").await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(bank.service.paths().len(), calls_now, "nothing went to the service");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_not_listed_may_not_ask() {
    for way in [Way::Socket, Way::Tls] {
        let Some(bank) = start(way, 4_000_000, "spiffe://bank.test/other", "").await else {
            return;
        };
        let refused = bank.teller().await.get("/pass/ok").await;
        assert_eq!(refused.status, 503, "{way:?} {refused:?}");
        let record = bank.gateway.record("refusal", |body| body.code == "MOAT-D001").await;
        match way {
            Way::Socket => assert_eq!(record.note, format!("asked by uid {}", uid())),
            Way::Tls => assert_eq!(record.actor, "spiffe://bank.test/envoy"),
        }
        assert_eq!(bank.service.paths(), [""; 0]);
        bank.gateway.assert_whole();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_is_a_good_configuration() {
    let pki = Pki::new();
    let dir = tempfile::tempdir().unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/envoy");
    std::fs::create_dir_all(dir.path().join("pki")).unwrap();
    std::fs::create_dir_all(dir.path().join("policy")).unwrap();
    for name in ["moat.yaml", "keys.json", "policy/authz.rego"] {
        std::fs::copy(example.join(name), dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("pki/root.pem"), pki.trust_pem()).unwrap();
    std::fs::write(dir.path().join("pki/issuing.pem"), pki.issuing_pem()).unwrap();
    pki.write(&dir.path().join("pki"), "gateway");
    let config = dir.path().join("moat.yaml").display().to_string();
    let (code, out, said) = crate::support::moat(&["check", &config]);
    assert_eq!(code, 0, "{out}{said}");
}

/// A listener for AuthZEN.
fn authzen(address: std::net::SocketAddr, certificates: &str) -> String {
    format!(
        r#"  - name: points
    bind: {address}
    protocol: authzen
    tls:
      identities: [{{ certificate: "file:pki/gateway.pem", key: "file:pki/gateway.key" }}]
      clients: [{{ role: points, trust: "file:pki/root.pem" }}]
    enforcers:
      spiffe: ["spiffe://bank.test/point"]
      certificates: {certificates}
      intermediates: "file:pki/issuing.pem"
      callers: {{ role: partners, trust: "file:pki/root.pem" }}
"#
    )
}

fn evaluation(
    subject: &str,
    certificate: Option<&str>,
    method: &str,
    path: &str,
    body: Option<&str>,
) -> Value {
    let mut asked = json!({
        "subject": { "type": "spiffe", "id": subject },
        "action": { "name": method },
        "resource": { "type": "route", "id": path },
        "context": { "headers": { "content-type": "application/json" } },
    });
    if let Some(pem) = certificate {
        asked["subject"]["properties"] = json!({ "certificate": pem });
    }
    if let Some(body) = body {
        asked["context"]["body"] = body.into();
    }
    asked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authzen_evaluations_are_decided_and_recorded() {
    let (pki, address) = (Pki::new(), free_address());
    let service = Service::start(&pki, &["http/1.1"]).await;
    let options = Options {
        policy: POLICY,
        routes: ROUTES,
        files: vec![("pki/issuing.pem", pki.issuing_pem())],
        listeners: authzen(address, "optional"),
        ..Options::default()
    };
    let gateway = Gateway::start(&pki, service.address, options).await;
    let teller = "spiffe://bank.test/teller";
    let pem = pki.identity("teller").chain_pem;
    let leaf = pem.split_inclusive("-----END CERTIFICATE-----").next().unwrap().to_owned();
    for is_http2 in [false, true] {
        let identity = pki.identity("point");
        let mut client = Client::connect(&pki, address, &identity, is_http2).await.unwrap();
        let mut ask = async |path: &str, asked: &Value| {
            let mut request = post(path, &asked.to_string());
            request.headers_mut().insert("x-request-id", "q-7".parse().unwrap());
            client.send(request).await.unwrap()
        };
        let one = "/access/v1/evaluation";
        for certificate in [None, Some(leaf.as_str())] {
            let asked = evaluation(teller, certificate, "GET", "/pass/ok", None);
            let answer = ask(one, &asked).await;
            assert_eq!((answer.status, answer.header("x-request-id")), (200, "q-7"), "{answer:?}");
            assert_eq!(answer.json()["decision"], true, "{answer:?}");
            let seq = answer.json()["context"]["record"].as_u64().unwrap();
            let record = gateway.log().into_iter().find(|leaf| leaf.head.seq == seq).unwrap().body;
            assert_eq!((record.outcome, record.actor.as_str()), (Some(Outcome::Permitted), teller));
            assert_eq!(record.peer_cert_hash.is_some(), certificate.is_some());
            assert_eq!(record.note, "asked by spiffe://bank.test/point");
        }
        let paid = ask(one, &evaluation(teller, None, "POST", "/pay/ok", Some(SMALL))).await;
        assert_eq!(paid.json()["decision"], true, "{paid:?}");
        for (asked, code) in [
            (evaluation(teller, None, "POST", "/pay/refused", Some(SMALL)), "MOAT-P001"),
            (evaluation("spiffe://bank.test/boss", None, "GET", "/pass/ok", None), "MOAT-P002"),
            (evaluation(teller, None, "GET", "/nowhere", None), "MOAT-H015"),
            (evaluation(teller, None, "POST", "/pay/ok", None), "MOAT-D006"),
            (
                evaluation("spiffe://bank.test/boss", Some(&leaf), "GET", "/pass/ok", None),
                "MOAT-D005",
            ),
            (evaluation("spiffe://other.test/teller", None, "GET", "/pass/ok", None), "MOAT-I004"),
        ] {
            let answer = ask(one, &asked).await;
            let told = answer.json();
            assert_eq!((answer.status, &told["decision"]), (200, &json!(false)), "{told}");
            assert_eq!(told["context"]["code"], code, "{told}");
            let seq = told["context"]["record"].as_u64().unwrap();
            let record = gateway.log().into_iter().find(|leaf| leaf.head.seq == seq).unwrap().body;
            assert_eq!((record.kind, record.code.as_str()), (Kind::Refusal, code));
        }
        let mut several = evaluation(teller, None, "GET", "/pass/ok", None);
        several["evaluations"] =
            json!([{}, { "resource": { "type": "route", "id": "/nowhere" } }, {}]);
        let told = ask("/access/v1/evaluations", &several).await.json();
        let decisions = |told: &Value| -> Vec<bool> {
            let list = told["evaluations"].as_array().unwrap();
            list.iter().map(|one| one["decision"].as_bool().unwrap()).collect()
        };
        assert_eq!(decisions(&told), [true, false, true]);
        several["options"] = json!({ "evaluations_semantic": "deny_on_first_deny" });
        let told = ask("/access/v1/evaluations", &several).await.json();
        assert_eq!(decisions(&told), [true, false]);
        for (path, asked, status) in [
            (one, json!({ "subject": teller }), 400),
            (one, json!([]), 400),
            ("/pass/ok", json!({}), 404),
        ] {
            let answer = ask(path, &asked).await;
            assert_eq!(answer.status, status, "{answer:?}");
        }
    }
    // Whoever is not listed is told nothing.
    let mut stranger = Client::http2(&pki, address, "teller").await;
    let asked = evaluation(teller, None, "GET", "/pass/ok", None);
    let answer = stranger.send(post("/access/v1/evaluation", &asked.to_string())).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (403, "MOAT-D001"));
    assert_eq!(service.paths(), [""; 0], "nothing is sent from here");
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_not_enough_unless_the_listener_says_so() {
    let (pki, address) = (Pki::new(), free_address());
    let service = Service::start(&pki, &["http/1.1"]).await;
    let options = Options {
        files: vec![("pki/issuing.pem", pki.issuing_pem())],
        listeners: authzen(address, "required"),
        ..Options::default()
    };
    let gateway = Gateway::start(&pki, service.address, options).await;
    let mut client = Client::http2(&pki, address, "point").await;
    let teller = "spiffe://bank.test/teller";
    let first = |identity: &Identity| {
        let end = "-----END CERTIFICATE-----";
        identity.chain_pem.split_inclusive(end).next().unwrap().to_owned()
    };
    let expired = first(&pki.issue(&[teller], -10_000, 100));
    let stranger = first(&Pki::named("Other").identity("teller"));
    for (certificate, code) in [
        (None, "MOAT-D004"),
        (Some(expired.as_str()), "MOAT-T002"),
        (Some(stranger.as_str()), "MOAT-T004"),
    ] {
        let asked = evaluation(teller, certificate, "GET", "/pass/ok", None);
        let answer = client.send(post("/access/v1/evaluation", &asked.to_string())).await.unwrap();
        assert_eq!(answer.json()["decision"], false, "{answer:?}");
        assert_eq!(answer.json()["context"]["code"], code, "{answer:?}");
    }
    // Nothing is told that cannot be recorded.
    assert!(gateway.kill_role("auditor"));
    let good = first(&pki.identity("teller"));
    let asked = evaluation(teller, Some(&good), "GET", "/pass/ok", None);
    let withheld = client.send(post("/access/v1/evaluation", &asked.to_string())).await.unwrap();
    assert!(withheld.status == 503 || withheld.status == 200, "{withheld:?}");
    assert_eq!(withheld.status == 200, withheld.json()["decision"].is_boolean());
    let until = || gateway.is_ready().then_some(());
    eventually("ready again", Duration::from_secs(10), until).await;
    gateway.assert_whole();
}
