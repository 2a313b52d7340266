//! Packed segments, mirrors, repair, comparison and packs, with the real programs.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use moat_audit::record::Kind;

use crate::support::{Client, Gateway, Options, Pki, Service, calls, eventually, moat, request};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

/// Runs a command that must succeed, and gives what it printed.
fn good(arguments: &[&str]) -> String {
    let (code, out, err) = moat(arguments);
    assert_eq!(code, 0, "{arguments:?}: {out}{err}");
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_log_is_packed_mirrored_and_repaired_and_the_repair_is_on_record() {
    let (pki, folder) = (Pki::new(), tempfile::tempdir().unwrap());
    let service = Service::start(&pki, &["http/1.1"]).await;
    let options =
        Options { segment_mib: 1, evidence: ", sm3_tree: true".to_owned(), ..Options::default() };
    let mut gateway = Gateway::start(&pki, service.address, options).await;
    let dir = gateway.audit_dir.clone();
    let record = calls(&pki, &gateway, 3_500).await;
    let kept = || (gateway.status()["auditor"]["kept"]["packed"].as_u64() > Some(0)).then_some(());
    eventually("a packed segment", Duration::from_secs(30), kept).await;
    let vkey = good(&["audit", "vkey", "--dir", text(&dir)]);
    let vkey = vkey.trim();
    // From the live log, twice, and once more when it was stopped.
    let mirror = folder.path().join("mirror");
    let args = ["audit", "mirror", text(&dir), "--to", text(&mirror), "--key", vkey];
    good(&args);
    calls(&pki, &gateway, 20).await;
    good(&args);
    gateway.stop();
    good(&args);
    for place in [&dir, &mirror] {
        good(&["audit", "verify", "--dir", text(place), "--key", vkey]);
    }
    let seq = (record - 5).to_string();
    good(&["audit", "prove", "40", "--dir", text(&dir), "--out", "-"]);
    let shown = good(&["audit", "show", "--dir", text(&dir), "--from", "40", "--limit", "1"]);
    assert!(shown.contains("READ"), "{shown}");
    let found = ["audit", "search", "--dir", text(&dir), "--object", "masked/ok", "--limit", "2"];
    assert!(good(&found).contains("masked/ok"));
    good(&["audit", "export", "--dir", text(&dir), "--out", text(&folder.path().join("copy"))]);
    let out = Command::new("sh")
        .arg("-c")
        .arg(format!(
            "{} audit sql --dir {} | sqlite3 {} && sqlite3 {} \"select count(*), count(distinct \
             trace) > 3000, min(kind) from record; select count(*) from field where class = 'C2'\"",
            env!("CARGO_BIN_EXE_moat"),
            text(&dir),
            text(&folder.path().join("db")),
            text(&folder.path().join("db"))
        ))
        .output()
        .unwrap();
    if Command::new("sqlite3").arg("-version").output().is_ok() {
        let told = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success() && told.contains("|1|ADMIN\n"), "{out:?}");
        assert!(told.ends_with("\n3520\n"), "{told}");
    }
    // A pack of a few records, for somebody else.
    let pack = folder.path().join("pack");
    let args = ["audit", "pack", "--dir", text(&dir), "--from", "40", "--to", &seq];
    let (code, ..) = moat(&[&args[..5], &["39", "--to", "3", "--out", text(&pack)]].concat());
    assert_ne!(code, 0, "backwards");
    let args = ["audit", "pack", "--dir", text(&dir), "--from", "40", "--to", "49", "--out"];
    good(&[&args[..], &[text(&pack)]].concat());
    let policy = moat_tlog::policy::Policy::k_of_n(
        &[moat_tlog::key::VerifierKey::parse(vkey).unwrap()],
        &[],
        0,
    );
    let check = || {
        let (dir, policy) = (moat_audit::store::Dir::new(&pack), policy.as_ref().unwrap());
        moat_audit::pack::check_pack(&dir, policy, &moat_tlog::sign::AwsLc).unwrap()
    };
    assert!(check().is_good() && check().records.len() == 10);
    std::fs::write(pack.join("record-44.entry"), b"another").unwrap();
    assert_eq!(check().first_wrong().map(|(seq, _)| seq), Some(44));

    // A bit rots in a packed segment, one in a tile.
    let packed = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "zst"))
        .unwrap();
    for path in [&packed, &dir.join("tile/0/003")] {
        let mut bytes = std::fs::read(path).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
    assert_eq!(moat(&["audit", "verify", "--dir", text(&dir), "--key", vkey]).0, 3);
    let args = ["audit", "repair", "--dir", text(&dir), "--from", text(&mirror), "--key", vkey];
    let told = good(&args);
    assert!(told.contains("restored") && told.contains("1 tiles made anew"), "{told}");
    good(&["audit", "verify", "--dir", text(&dir), "--key", vkey]);
    gateway.start_again().await;
    calls(&pki, &gateway, 3).await;
    let (code, _, err) = moat(&args);
    assert!(code != 0 && err.contains("stop the gateway"), "{err}");
    let repairs = gateway.log().into_iter().filter(|leaf| leaf.body.kind == Kind::Repair);
    assert_eq!(repairs.count(), 2);
    gateway.stop();
    good(&["audit", "verify", "--dir", text(&dir), "--key", vkey]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cloned_node_is_convicted_by_two_proofs_and_frozen() {
    let (pki, folder) = (Pki::new(), tempfile::tempdir().unwrap());
    let service = Service::start(&pki, &["http/1.1"]).await;
    let mut gateway = Gateway::start(&pki, service.address, Options::default()).await;
    let dir = gateway.audit_dir.clone();
    let first = calls(&pki, &gateway, 30).await;
    gateway.stop();
    // Both machines go on with the same folder and the same key.
    let (clone, one) = (folder.path().join("clone"), folder.path().join("one"));
    copy(&dir, &clone);
    gateway.start_again().await;
    calls(&pki, &gateway, 10).await;
    gateway.stop();
    std::fs::rename(&dir, &one).unwrap();
    copy(&clone, &dir);
    gateway.start_again().await;
    calls(&pki, &gateway, 25).await;
    gateway.stop();
    let vkey = good(&["audit", "vkey", "--dir", text(&dir)]);
    let proofs = folder.path().join("proofs");
    let compare = |one: &Path, other: &Path, out: &Path| {
        moat(&["audit", "compare", text(one), text(other), "--proofs", text(out)])
    };
    let (code, out, err) = compare(&clone, &dir, &proofs);
    assert_eq!(code, 0, "one continues the other: {out}{err}");
    let (code, out, err) = compare(&one, &dir, &proofs);
    assert_eq!(code, 3, "{out}{err}");
    assert!(out.contains("MOAT-A025"), "{out}");
    let key = moat_tlog::key::VerifierKey::parse(vkey.trim()).unwrap();
    let policy = moat_tlog::policy::Policy::k_of_n(&[key], &[], 0).unwrap();
    let mut leaves = Vec::new();
    for name in ["one", "other"] {
        let proof = std::fs::read(proofs.join(format!("{name}.tlog-proof"))).unwrap();
        let entry = std::fs::read(proofs.join(format!("{name}.entry"))).unwrap();
        let proof = moat_tlog::logproof::LogProof::parse(&proof).unwrap();
        let leaf = moat_audit::hash::leaf_hash(&entry);
        proof.verify::<moat_tlog::Sha256>(&leaf, &policy, &moat_tlog::sign::AwsLc).unwrap();
        assert!(proof.index() > first);
        leaves.push((proof.index(), leaf));
    }
    assert!(leaves[0].0 == leaves[1].0 && leaves[0].1 != leaves[1].1);
    // A mirror of the one refuses the other, and the daily comparison freezes the node.
    let mirrors = folder.path().join("mirrors");
    std::fs::create_dir(&mirrors).unwrap();
    let mirror = mirrors.join(dir.file_name().unwrap());
    good(&["audit", "mirror", text(&one), "--to", text(&mirror)]);
    // 128 nodes are compared with their mirrors in one run.
    let fleet = [folder.path().join("fleet"), folder.path().join("fleet-mirrors")];
    for (place, log) in fleet.iter().zip([&one, &mirror]) {
        std::fs::create_dir(place).unwrap();
        for n in 0..128 {
            std::os::unix::fs::symlink(log, place.join(format!("edge-{n:03}"))).unwrap();
        }
    }
    let told = good(&["audit", "compare-all", text(&fleet[0]), text(&fleet[1])]);
    assert!(told.contains("128 logs compared") && told.contains("0 not good"), "{told}");
    let (code, _, err) = moat(&["audit", "mirror", text(&dir), "--to", text(&mirror)]);
    assert!(code == 3 && err.contains("MOAT-A025"), "{err}");
    let logs = folder.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    std::fs::rename(&dir, logs.join(dir.file_name().unwrap())).unwrap();
    let found = folder.path().join("found");
    let all = [
        "audit",
        "compare-all",
        text(&logs),
        text(&mirrors),
        "--proofs",
        text(&found),
        "-o",
        "json",
    ];
    let (code, out, err) = moat(&all);
    assert_eq!(code, 3, "{out}{err}");
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["bad"], 1, "{told}");
    assert!(found.join(dir.file_name().unwrap()).join("one.tlog-proof").exists());
    let (code, _, err) = moat(&["audit", "mirror", text(&one), "--to", text(&mirror)]);
    assert!(code == 3 && err.contains("MOAT-A043"), "{err}");
    std::fs::rename(logs.join(dir.file_name().unwrap()), &dir).unwrap();
    gateway.start_again().await;
    let identity = pki.identity("teller");
    let mut client = Client::connect(&pki, gateway.address, &identity, false).await.unwrap();
    let answer = client.send(request("GET", "/masked/ok", "")).await.unwrap();
    assert_eq!(answer.status, 503, "{answer:?}");
    let refused = gateway.log().into_iter().rfind(|leaf| leaf.body.kind == Kind::Refusal).unwrap();
    assert_eq!(refused.body.code, "MOAT-A043");
    // When the file is gone it goes on by itself.
    std::fs::remove_file(dir.join("frozen")).unwrap();
    let thawed = || (gateway.status()["auditor"]["kept"]["frozen"] == false).then_some(());
    eventually("thawed", Duration::from_secs(20), thawed).await;
    calls(&pki, &gateway, 1).await;
    gateway.stop();
}
