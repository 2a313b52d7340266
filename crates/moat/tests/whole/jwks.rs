//! Keys of an issuer that are fetched by URL: rotated, missing, away, too old.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use moat_ca::Identity;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::{Answer, Client, Gateway, Options, Pki, Service, eventually, now_s, request};

const POLICY: &str = r#"package authz

default allow := false

allow if input.token.state == "valid"
"#;

const ROUTES: &str = r#"  - name: desk
    match: { path: "/desk/{rest...}", methods: [GET] }
    upstream: accounts
    policy: authz
    token: check
"#;

/// An issuer's server. Answers what it is told to, or closes.
struct Issuer {
    address: SocketAddr,
    set: Arc<Mutex<Option<String>>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    async fn start(pki: &Pki) -> Issuer {
        let acceptor = TlsAcceptor::from(pki.web_server(&pki.identity("idp")));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (set, asked) = (Arc::new(Mutex::new(None)), Arc::new(AtomicUsize::new(0)));
        let (told, count) = (Arc::clone(&set), Arc::clone(&asked));
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let (acceptor, told, count) =
                    (acceptor.clone(), Arc::clone(&told), Arc::clone(&count));
                tokio::spawn(async move {
                    let Ok(mut tls) = acceptor.accept(stream).await else { return };
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = tls.read_u8().await else { return };
                        head.push(byte);
                    }
                    assert!(head.starts_with(b"GET /keys?v=1 HTTP/1.1\r\n"));
                    count.fetch_add(1, Ordering::SeqCst);
                    let set: Option<String> = told.lock().unwrap().clone();
                    let Some(set) = set else { return };
                    let length = set.len();
                    let answer =
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{set}");
                    let _ = tls.write_all(answer.as_bytes()).await;
                    let _ = tls.shutdown().await;
                });
            }
        });
        Issuer { address, set, asked }
    }

    fn tell(&self, keys: &[(&str, &Ed25519KeyPair)]) {
        let jwk = |(id, key): &(&str, &Ed25519KeyPair)| {
            let x = BASE64URL_NOPAD.encode(key.public_key().as_ref());
            json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": x })
        };
        let keys: Vec<_> = keys.iter().map(jwk).collect();
        *self.set.lock().unwrap() = Some(json!({ "keys": keys }).to_string());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    async fn wait_asked(&self, times: usize) {
        let asked = || (self.asked() >= times).then_some(());
        eventually("a fetch", Duration::from_secs(10), asked).await;
    }
}

struct Bank {
    gateway: Gateway,
    _service: Service,
    client: Client,
    teller: Identity,
}

async fn bank(pki: &Pki, issuer: &Issuer, more: &str, trust: &Pki) -> Bank {
    let service = Service::start(pki, &["http/1.1"]).await;
    let tokens = format!(
        "tokens: [{{ issuer: \"https://idp.test\", audience: moat, \
         keys: \"https://{}/keys?v=1\", trust: \"file:idp.pem\"{more} }}]",
        issuer.address
    );
    let options = Options {
        policy: POLICY,
        routes: ROUTES,
        top: tokens,
        files: vec![("idp.pem", trust.trust_pem().to_owned())],
        ..Options::default()
    };
    let gateway = Gateway::start(pki, service.address, options).await;
    let teller = pki.identity("teller");
    let client = Client::connect(pki, gateway.address, &teller, false).await.unwrap();
    Bank { gateway, _service: service, client, teller }
}

impl Bank {
    async fn call(&mut self, key_id: &str, key: &Ed25519KeyPair) -> Answer {
        let leaf = CertificateDer::from_pem_slice(self.teller.chain_pem.as_bytes()).unwrap();
        let bound = BASE64URL_NOPAD.encode(digest(&SHA256, &leaf).as_ref());
        let claims = json!({ "iss": "https://idp.test", "sub": "clerk-7", "aud": "moat",
            "exp": now_s() + 300, "cnf": { "x5t#S256": bound } });
        let head = json!({ "alg": "EdDSA", "kid": key_id });
        let part = |value: &serde_json::Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(&head), part(&claims));
        let signature = BASE64URL_NOPAD.encode(key.sign(signed.as_bytes()).as_ref());
        let mut request = request("GET", "/desk/ok", "");
        let value = format!("Bearer {signed}.{signature}");
        request.headers_mut().insert("authorization", value.parse().unwrap());
        self.client.send(request).await.unwrap()
    }
}

fn key() -> Ed25519KeyPair {
    Ed25519KeyPair::generate().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_new_is_fetched_when_a_token_names_it_and_one_that_is_gone_is_no_good() {
    let (pki, one, two) = (Pki::new(), key(), key());
    let issuer = Issuer::start(&pki).await;
    issuer.tell(&[("k1", &one)]);
    let mut bank = bank(&pki, &issuer, "", &pki).await;
    issuer.wait_asked(1).await;
    assert_eq!(bank.call("k1", &one).await.status, 200);
    assert_eq!(bank.call("k1", &one).await.status, 200, "remembered");
    // The issuer has another key now, and no word of it.
    issuer.tell(&[("k2", &two)]);
    let answer = bank.call("k2", &two).await;
    assert_eq!(answer.status, 200, "not one call is refused for it: {answer:?}");
    let gone = bank.call("k1", &one).await;
    assert_eq!((gone.status, gone.code().as_str()), (401, "MOAT-I011"), "{gone:?}");
    // Names of keys that somebody makes up are not worth as many fetches.
    let asked = issuer.asked();
    for at in 0..20 {
        assert_eq!(bank.call(&format!("made-up-{at}"), &one).await.status, 401);
    }
    assert!(issuer.asked() <= asked + 1, "{} fetches", issuer.asked() - asked);
    assert_eq!(bank.call("k2", &two).await.status, 200);
    bank.gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_good_set_is_used_while_the_issuer_is_away_but_not_for_ever() {
    let (pki, one) = (Pki::new(), key());
    let issuer = Issuer::start(&pki).await;
    issuer.tell(&[("k1", &one)]);
    let mut bank = bank(&pki, &issuer, ", refresh_ms: 1000, keep_ms: 4000", &pki).await;
    issuer.wait_asked(1).await;
    assert_eq!(bank.call("k1", &one).await.status, 200);
    for broken in [Some("{}".to_owned()), Some("x".repeat(300_000)), None] {
        let asked = issuer.asked();
        *issuer.set.lock().unwrap() = broken;
        issuer.wait_asked(asked + 1).await;
        assert_eq!(bank.call("k1", &one).await.status, 200);
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    let refused = bank.call("k1", &one).await;
    assert_eq!((refused.status, refused.code().as_str()), (401, "MOAT-I011"), "{refused:?}");
    // A reload does not make it young again, and the issuer's return does.
    bank.gateway.edit_config("keep_ms: 4000", "keep_ms: 4000 ");
    assert_eq!(bank.gateway.reload().0, 0);
    assert_eq!(bank.call("k1", &one).await.status, 401);
    let asked = issuer.asked();
    issuer.tell(&[("k1", &one)]);
    issuer.wait_asked(asked + 1).await;
    let until = tokio::time::Instant::now() + Duration::from_secs(5);
    while bank.call("k1", &one).await.status != 200 {
        assert!(tokio::time::Instant::now() < until, "it does not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bank.gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_another_authority_is_not_believed() {
    let (pki, one) = (Pki::new(), key());
    let issuer = Issuer::start(&pki).await;
    issuer.tell(&[("k1", &one)]);
    let mut bank = bank(&pki, &issuer, "", &Pki::named("Other")).await;
    let refused = bank.call("k1", &one).await;
    assert_eq!((refused.status, refused.code().as_str()), (401, "MOAT-I011"), "{refused:?}");
    assert_eq!(issuer.asked(), 0);
    assert!(bank.gateway.is_ready(), "others are served");
    bank.gateway.assert_whole();
}
