//! Who may come in.

use std::time::Duration;

use moat_audit::record::{Body, Kind};
use moat_ca::Identity;
use moat_model::Stage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Client, Gateway, Options, Pki, Service, request, tls};

async fn bank() -> (Pki, Service, Gateway) {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let gateway = Gateway::start(&pki, service.address, Options::default()).await;
    (pki, service, gateway)
}

/// Whether the gateway ends the connection; in TLS 1.3 a caller learns that when it reads.
async fn is_turned_away(pki: &Pki, gateway: &Gateway, identity: Option<&Identity>) -> bool {
    let Ok(mut stream) = tls(pki, gateway.address, identity, "http/1.1").await else { return true };
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_u8()).await;
    read.expect("the connection ends").is_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_without_a_good_certificate_is_turned_away_with_a_record() {
    let (pki, service, gateway) = bank().await;
    let teller = ["spiffe://bank.test/teller"];
    let expired = pki.issue(&teller, -10_000, 100);
    let early = pki.issue(&teller, 10_000, 100);
    let stranger = Pki::named("Other").identity("teller");
    let namesake = Pki::new().identity("teller");
    for (name, identity, code) in [
        ("no certificate", None, "MOAT-T001"),
        ("expired", Some(&expired), "MOAT-T002"),
        ("not yet valid", Some(&early), "MOAT-T003"),
        ("another authority", Some(&stranger), "MOAT-T004"),
        ("another authority of the same name", Some(&namesake), "MOAT-T011"),
    ] {
        assert!(is_turned_away(&pki, &gateway, identity).await, "{name}");
        let record = gateway.record(name, |body| body.code == code).await;
        assert_eq!((record.kind, record.stage), (Kind::Refusal, Some(Stage::Handshake)), "{name}");
        assert_eq!(record.listener, "partners");
        assert!(record.note.contains("127.0.0.1"), "{}", record.note);
    }
    assert_eq!(service.paths(), [""; 0]);
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_does_not_go_on_is_ended_with_a_record() {
    let (_pki, _service, gateway) = bank().await;
    let mut silent = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let mut plain = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let gone = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    drop(gone);
    let begun = std::time::Instant::now();
    let mut bytes = Vec::new();
    let _ = plain.read_to_end(&mut bytes).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let _ = silent.read_to_end(&mut bytes).await;
    let taken = begun.elapsed();
    assert!((2_500..4_500).contains(&taken.as_millis()), "{taken:?}");
    for code in ["MOAT-T006", "MOAT-T007", "MOAT-T008"] {
        let record = gateway.record(code, |body| body.code == code).await;
        assert_eq!(record.stage, Some(Stage::Handshake));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_without_one_good_identity_gets_403_and_one_record() {
    let (pki, service, gateway) = bank().await;
    let two = ["spiffe://bank.test/teller", "spiffe://bank.test/boss"];
    for (uris, code) in [
        (&[][..], "MOAT-I001"),
        (&two[..], "MOAT-I002"),
        (&["https://bank.test/teller"][..], "MOAT-I003"),
        (&["spiffe://other.test/teller"][..], "MOAT-I004"),
    ] {
        for is_http2 in [false, true] {
            let identity = pki.issue(uris, 0, 1_000);
            let mut client =
                Client::connect(&pki, gateway.address, &identity, is_http2).await.unwrap();
            let answer = client.send(request("GET", "/pass/ok", "")).await.unwrap();
            assert_eq!((answer.status, answer.code().as_str()), (403, code), "{answer:?}");
            assert_eq!(answer.json()["stage"], "identify");
        }
        let records = gateway.records(Kind::Refusal);
        let records: Vec<_> = records.iter().filter(|body| body.code == code).collect();
        assert_eq!(records.len(), 2, "{code}");
        assert!(records.iter().all(|r| r.stage == Some(Stage::Identify) && r.actor.is_empty()));
        // The handshake was finished, so it is known what it came to.
        let is_told = |r: &Body| r.suite.starts_with("TLS13_") && r.group == "X25519MLKEM768";
        assert!(records.iter().all(|r| is_told(r)), "{code}");
    }
    assert_eq!(service.paths(), [""; 0]);
    gateway.assert_whole();
}
