//! Both stacks on one port.

use std::sync::Arc;
use std::time::Duration;

use moat_audit::record::Kind;
use moat_tls::Stack;
use rustls::crypto::CryptoProvider;

use crate::support::{Client, Gateway, Options, Pki, Service, tls};

const IDENTITIES: &str =
    r#"identities: [{ certificate: "file:pki/gateway.pem", key: "file:pki/gateway.key" }]"#;
const BOTH: &str = r#"identities:
        - { certificate: "file:pki/gateway.pem", key: "file:pki/gateway.key" }
        - { certificate: "file:pki/gateway-sm2.pem", key: "file:pki/gateway-sm2.key" }"#;

/// A gateway with both identities in front of a service. `policy` and `national` are as they stand
/// in files.
async fn dual(pki: &Pki, sm2: &Pki, service: &Service, national: &str, policy: &str) -> Gateway {
    let gateway = Gateway::start(pki, service.address, Options::default()).await;
    let folder = gateway.dir.path().join("pki");
    moat_ca::write_identity(&sm2.identity("gateway"), &folder, "gateway-sm2").unwrap();
    let trust = format!("{}{}", pki.trust_pem(), sm2.trust_pem());
    std::fs::write(folder.join("root.pem"), trust).unwrap();
    if !policy.is_empty() {
        std::fs::write(gateway.dir.path().join("policy/authz.rego"), policy).unwrap();
    }
    gateway.edit_config(IDENTITIES, &format!("{BOTH}\n      national: {national}"));
    let (code, said) = gateway.reload();
    assert_eq!(code, 0, "{said}");
    gateway
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_kinds_of_callers_reach_both_kinds_of_services_through_one_port() {
    let (pki, sm2) = (Pki::new(), Pki::sm2());
    for (of_service, protocol) in [(&sm2, "http/1.1"), (&pki, "http/1.1"), (&sm2, "h2")] {
        let service = Service::start(of_service, &[protocol]).await;
        let gateway = if protocol == "h2" {
            let gateway = dual(&pki, &sm2, &service, "prefer", "").await;
            gateway.edit_config("protocol: http1", "protocol: http2");
            assert_eq!(gateway.reload().0, 0);
            gateway
        } else {
            dual(&pki, &sm2, &service, "prefer", "").await
        };
        for (pki, suite, group) in [
            (&sm2, "TLS_SM4_GCM_SM3", "curveSM2"),
            (&pki, "TLS13_AES_256_GCM_SHA384", "X25519MLKEM768"),
        ] {
            for is_http2 in [false, true] {
                let identity = pki.identity("teller");
                let client = Client::connect(pki, gateway.address, &identity, is_http2).await;
                let path = format!("/pass/{suite}-{is_http2}");
                let answer = client.unwrap().get(&path).await;
                assert_eq!(answer.status, 200, "{answer:?}");
                let object = path.trim_start_matches('/').to_owned();
                let record = gateway.record("the read", |body| body.object == object).await;
                assert_eq!((record.kind, record.suite.as_str()), (Kind::Read, suite));
                assert_eq!(record.group, group);
                let of_service = of_service.stack() == Stack::National;
                let seen = (record.upstream_suite.as_str(), record.upstream_group.as_str());
                assert_eq!(seen.0.contains("SM4"), of_service, "{seen:?}");
                assert_eq!(seen.1 == "curveSM2", of_service, "{seen:?}");
            }
        }
        assert_eq!(service.paths().len(), 4);
        gateway.assert_whole();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_can_ask_for_national_cryptography() {
    let (pki, sm2) = (Pki::new(), Pki::sm2());
    let service = Service::start(&pki, &["http/1.1"]).await;
    let policy = r#"package authz

default allow := false

allow if {
	input.peer.national
	input.peer.suite == "TLS_SM4_GCM_SM3"
	input.peer.group == "curveSM2"
}
"#;
    let gateway = dual(&pki, &sm2, &service, "prefer", policy).await;
    for (pki, status) in [(&sm2, 200), (&pki, 403)] {
        let answer = Client::http1(pki, gateway.address, "teller").await.get("/pass/a").await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_national_listener_turns_others_away_with_a_record() {
    let (pki, sm2) = (Pki::new(), Pki::sm2());
    let service = Service::start(&pki, &["http/1.1"]).await;
    let gateway = dual(&pki, &sm2, &service, "only", "").await;
    let teller = pki.identity("teller");
    assert!(tls(&pki, gateway.address, Some(&teller), "http/1.1").await.is_err());
    let record = gateway.record("the refusal", |body| body.code == "MOAT-T010").await;
    assert_eq!(record.kind, Kind::Refusal);
    let mut client = Client::http1(&sm2, gateway.address, "teller").await;
    assert_eq!(client.get("/pass/a").await.status, 200);

    // Identities that cannot do what the setting asks for leave what is in force.
    gateway.edit_config(BOTH, IDENTITIES);
    let (code, said) = gateway.reload();
    assert!(code != 0 && said.contains("MOAT-T022"), "{said}");
    assert_eq!(client.get("/pass/b").await.status, 200);
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_to_a_service_that_mixes_the_stacks() {
    let (pki, sm2) = (Pki::new(), Pki::sm2());
    let mixed = CryptoProvider {
        kx_groups: Stack::International.provider().kx_groups.clone(),
        ..CryptoProvider::clone(&Stack::National.provider())
    };
    let config = sm2.server_with(&sm2.identity("accounts"), &["http/1.1"], Arc::new(mixed));
    let service = Service::start_with(Arc::new(config)).await;
    let gateway = dual(&pki, &sm2, &service, "prefer", "").await;
    let answer = Client::http1(&sm2, gateway.address, "teller").await.get("/pass/a").await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "MOAT-U012"));
    let record = gateway.record("the refusal", |body| body.code == "MOAT-U012").await;
    assert_eq!(record.upstream_suite, "TLS_SM4_GCM_SM3");
    assert_eq!(record.upstream_group, "X25519MLKEM768");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(service.paths(), [""; 0]);
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_asks_for_both_kinds_gets_its_calls() {
    let (pki, sm2) = (Pki::new(), Pki::sm2());
    // International, but its request for a certificate names the schemes of both.
    let config = pki.server_asking(&pki.identity("accounts"), &sm2);
    let service = Service::start_with(config).await;
    let gateway = dual(&pki, &sm2, &service, "prefer", "").await;
    let mut client = Client::http1(&sm2, gateway.address, "teller").await;
    assert_eq!(client.get("/pass/a").await.status, 200);
    let record = gateway.record("the read", |body| body.object == "pass/a").await;
    assert_eq!(record.upstream_group, "X25519MLKEM768");
    assert_eq!(service.paths(), ["/pass/a"]);
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_of_an_upstream_that_nobody_vouches_for_is_refused_by_the_check() {
    let (pki, sm2) = (Pki::new(), Pki::sm2());
    let service = Service::start(&pki, &["http/1.1"]).await;
    let gateway = dual(&pki, &sm2, &service, "prefer", "").await;
    let folder = gateway.dir.path().join("pki");
    std::fs::write(folder.join("p256.pem"), pki.trust_pem()).unwrap();
    let config = gateway.dir.path().join("moat.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    let (before, upstream) = text.split_once("upstreams:").unwrap();
    let upstream = upstream.replacen("file:pki/root.pem", "file:pki/p256.pem", 1);
    // The listener's identities: a service of one stack only is nothing unusual.
    std::fs::write(&config, format!("{before}upstreams:{upstream}")).unwrap();
    let path = config.display().to_string();
    let (code, said, warned) = crate::support::moat(&["check", &path]);
    assert_eq!(code, 0, "{said}{warned}");
    assert!(warned.contains("no SM2 authority"), "{said}{warned}");
    // Its own: both are meant.
    let one =
        |stem| format!(r#"{{ certificate: "file:pki/{stem}.pem", key: "file:pki/{stem}.key" }}"#);
    let both = format!("identities: [{}, {}]", one("gateway"), one("gateway-sm2"));
    let upstream = upstream.replacen("trust:", &format!("{both}, trust:"), 1);
    std::fs::write(&config, format!("{before}upstreams:{upstream}")).unwrap();
    let (code, said, warned) = crate::support::moat(&["check", &path]);
    assert_eq!(code, 78, "{said}{warned}");
    assert!(warned.contains("MOAT-T021") || said.contains("MOAT-T021"), "{said}{warned}");
}
