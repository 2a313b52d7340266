//! The log is signed as it grows, and what is signed convicts whoever changes it later.

use std::path::Path;
use std::time::Duration;

use crate::support::{Client, Gateway, Options, Pki, Service, eventually, moat, request};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Size of the last checkpoint, by the gateway's own word.
fn signed(gateway: &Gateway) -> u64 {
    gateway.status()["auditor"]["signed"]["size"].as_u64().unwrap_or(0)
}

/// Waits until a record is under a checkpoint.
async fn wait_signed(gateway: &Gateway, record: u64) {
    let wait = Duration::from_secs(20);
    eventually("the checkpoint", wait, || (signed(gateway) > record).then_some(())).await;
}

async fn calls(pki: &Pki, gateway: &Gateway, count: usize) -> u64 {
    let identity = pki.identity("teller");
    let mut client = Client::connect(pki, gateway.address, &identity, false).await.unwrap();
    let mut last = 0;
    for _ in 0..count {
        let answer = client.send(request("GET", "/masked/ok", "")).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        last = answer.header("x-moat-record").parse().unwrap();
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_proven_soon_after_it_was_answered_and_kills_change_nothing() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let mut gateway = Gateway::start(&pki, service.address, Options::default()).await;
    let dir = gateway.audit_dir.clone();
    let record = calls(&pki, &gateway, 300).await;
    wait_signed(&gateway, record).await;
    let folder = tempfile::tempdir().unwrap();
    let (proof, entry) = (folder.path().join("proof"), folder.path().join("entry"));
    let seq = record.to_string();
    let args = ["audit", "prove", &seq, "--dir", text(&dir), "--out", text(&proof)];
    let (code, out, err) = moat(&[&args[..], &["--entry", text(&entry)]].concat());
    assert_eq!(code, 0, "{out}{err}");
    assert!(std::fs::read_to_string(&proof).unwrap().starts_with("c2sp.org/tlog-proof@v1\n"));
    // Killed, it goes on with the same tree; what was signed before is part of what is signed now.
    let before = std::fs::read(dir.join("checkpoint")).unwrap();
    for _ in 0..3 {
        assert!(gateway.kill_role("auditor"));
        tokio::time::sleep(Duration::from_millis(50)).await;
        gateway.wait_ready().await;
        let record = calls(&pki, &gateway, 20).await;
        wait_signed(&gateway, record).await;
    }
    gateway.stop();
    let (_, vkey, _) = moat(&["audit", "vkey", "--dir", text(&dir)]);
    let verify =
        |key: &str| moat(&["audit", "verify", "--dir", text(&dir), "--key", key, "-o", "json"]);
    let (code, out, err) = verify(vkey.trim());
    assert_eq!(code, 0, "{out}{err}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["covered"], report["records"], "{report}");
    assert_eq!(report["checkpoints"][0]["accepted"], true, "{report}");
    let kept = moat_tlog::checkpoint::SignedCheckpoint::parse(&before).unwrap();
    assert!(report["covered"].as_u64().unwrap() > kept.checkpoint().size());
    // Another key in the name of the log did not sign it.
    let other = folder.path().join("other.key");
    let args = ["audit", "keygen", "--origin", "bank.test/audit/whole", "--out", text(&other)];
    let (code, other, err) = moat(&args);
    assert_eq!(code, 0, "{err}");
    let (code, out, _) = verify(other.trim());
    assert_eq!(code, 3, "{out}");
    assert!(out.contains("MOAT-A035"), "{out}");
    // A tile that is damaged is told apart from a record that is.
    let tile = dir.join("tile/0/000");
    let mut bytes = std::fs::read(&tile).unwrap();
    bytes[32 * 7] ^= 1;
    std::fs::write(&tile, bytes).unwrap();
    let (code, out, _) = verify(vkey.trim());
    assert_eq!(code, 3, "{out}");
    assert!(out.contains("MOAT-A034") && out.contains("tile/0/000"), "{out}");
    let (code, _, err) = moat(&["audit", "prove", "8", "--dir", text(&dir), "--out", "-"]);
    assert_eq!(code, 3, "{err}");
}
