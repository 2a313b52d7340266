//! The log is signed as it grows, and what is signed convicts whoever changes it later.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::{Gateway, Options, Pki, Service, calls, eventually, moat};

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
    // What is exported is verified alike, by anybody who has the key.
    let exported = folder.path().join("exported");
    let (code, out, err) =
        moat(&["audit", "export", "--dir", text(&dir), "--out", text(&exported)]);
    assert_eq!(code, 0, "{out}{err}");
    let args = ["audit", "verify", "--dir", text(&exported), "--key", vkey.trim(), "-o", "json"];
    let (code, out, err) = moat(&args);
    assert_eq!(code, 0, "{out}{err}");
    let copy: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(copy["records"], report["covered"], "{copy}");
    assert_eq!(copy["root_sha256"], report["root_sha256"], "{copy}");
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

/// Takes away what says what was signed.
fn strip(dir: &Path) {
    for name in ["checkpoint", "signed"] {
        std::fs::remove_file(dir.join(name)).unwrap();
    }
    std::fs::remove_dir_all(dir.join("tile")).unwrap();
}

async fn wait_refused(gateway: &Gateway) {
    let refused = || {
        let signed = &gateway.status()["auditor"]["signed"];
        (signed["state"] == "refused" && signed["code"] == "MOAT-A030").then_some(())
    };
    eventually("the auditor signs no more", Duration::from_secs(20), refused).await;
    assert!(!gateway.is_ready());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_was_stripped_is_signed_again_only_by_an_act_on_record() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let mut gateway = Gateway::start(&pki, service.address, Options::default()).await;
    let dir = gateway.audit_dir.clone();
    let record = calls(&pki, &gateway, 5).await;
    wait_signed(&gateway, record).await;
    gateway.stop();
    strip(&dir);
    gateway.spawn_again();
    wait_refused(&gateway).await;
    gateway.stop();
    let resume = ["audit", "resume-signing", "--dir", text(&dir), "--reason"];
    assert_ne!(moat(&[&resume[..], &[" "]].concat()).0, 0, "a reason that is none");
    let (code, out, err) = moat(&[&resume[..], &["ticket 4711"]].concat());
    assert_eq!(code, 0, "{out}{err}");
    gateway.start_again().await;
    let record = calls(&pki, &gateway, 1).await;
    wait_signed(&gateway, record).await;
    let is_resumed = |note: &str| note.starts_with("signing resumed by an operator");
    assert_eq!(gateway.log().iter().filter(|leaf| is_resumed(&leaf.body.note)).count(), 1);
    gateway.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_folder_knows_a_log_that_was_put_back() {
    let (pki, second) = (Pki::new(), tempfile::tempdir().unwrap());
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(second.path(), open).unwrap();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let evidence = format!(", second_dir: \"{}\"", second.path().join("second").display());
    let options = Options { evidence, ..Options::default() };
    let mut gateway = Gateway::start(&pki, service.address, options).await;
    let dir = gateway.audit_dir.clone();
    let record = calls(&pki, &gateway, 5).await;
    wait_signed(&gateway, record).await;
    gateway.stop();
    let copy = second.path().join("copy");
    let copied = |from: &Path, to: &Path| {
        let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(done.success());
    };
    copied(&dir, &copy);
    gateway.start_again().await;
    let record = calls(&pki, &gateway, 5).await;
    wait_signed(&gateway, record).await;
    gateway.stop();
    std::fs::remove_dir_all(&dir).unwrap();
    copied(&copy, &dir);
    gateway.spawn_again();
    wait_refused(&gateway).await;
    gateway.stop();
}

/// SoftHSM2's library and `moat-hsm` beside `moat`: neither is built or installed by this package.
fn softhsm() -> Option<(PathBuf, PathBuf)> {
    let modules =
        ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"];
    let module = modules.iter().map(PathBuf::from).find(|path| path.is_file());
    let program = Path::new(env!("CARGO_BIN_EXE_moat")).with_file_name("moat-hsm");
    match module.filter(|_| program.is_file()) {
        Some(module) => Some((module, program)),
        None => {
            assert!(std::env::var_os("CI").is_none(), "SoftHSM2 or moat-hsm is not there");
            eprintln!("SKIPPED: SoftHSM2 or moat-hsm is not there");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_key_lies_in_a_token_is_recorded_without_it_and_signed_with_it() {
    let Some((module, program)) = softhsm() else { return };
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    };
    let (tokens, conf, pin) =
        (folder.path().join("tokens"), folder.path().join("conf"), folder.path().join("pin"));
    std::fs::create_dir(&tokens).unwrap();
    std::fs::write(&conf, format!("directories.tokendir = {}\n", text(&tokens))).unwrap();
    std::fs::write(&pin, "1234\n").unwrap();
    // Stands for moat-hsm with the setting that SoftHSM takes from the environment only.
    let wrapper = folder.path().join("wrapper");
    let script =
        format!("#!/bin/sh\nSOFTHSM2_CONF={} exec {} \"$@\"\n", text(&conf), text(&program));
    std::fs::write(&wrapper, script).unwrap();
    open(&wrapper);
    let done = |command: &mut Command| {
        let out = command.output().unwrap();
        assert!(out.status.success(), "{out:?}");
    };
    let init = ["--init-token", "--free", "--label", "moat", "--pin", "1234", "--so-pin", "5678"];
    done(Command::new("softhsm2-util").env("SOFTHSM2_CONF", &conf).args(init));
    let key = folder.path().join("log.hsm");
    let token = ["--module", text(&module), "--token", "moat", "--pin-file", text(&pin)];
    let named = ["--label", "moat-log", "--origin", "bank.test/audit/whole", "--out", text(&key)];
    done(Command::new(&wrapper).arg("keygen").args(token).args(named));
    // All of it is for the user of moat-hsm, who is another than that of this test.
    done(Command::new("chmod").args(["-R", "a+rwX", text(folder.path())]));

    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let evidence = format!(
        ", keys: [\"file:{}\"], hsm: {{ module: \"{}\", token: moat, pin: \"file:{}\", program: \"{}\" }}",
        text(&key),
        text(&module),
        text(&pin),
        text(&wrapper)
    );
    let options = Options { evidence, ..Options::default() };
    let mut gateway = Gateway::start(&pki, service.address, options).await;
    let record = calls(&pki, &gateway, 5).await;
    wait_signed(&gateway, record).await;
    // Pulled: records go on, the log is not signed, and readiness says so.
    let pulled = folder.path().join("pulled");
    std::fs::rename(&tokens, &pulled).unwrap();
    std::fs::create_dir(&tokens).unwrap();
    open(&tokens);
    assert!(gateway.kill_role("hsm"));
    let record = calls(&pki, &gateway, 5).await;
    let is_dry = || (gateway.status()["auditor"]["signed"]["state"] == "cannot_sign").then_some(());
    eventually("the log cannot be signed", Duration::from_secs(20), is_dry).await;
    assert!(!gateway.is_ready());
    calls(&pki, &gateway, 5).await;
    assert!(signed(&gateway) <= record);
    // Back: caught up with.
    std::fs::remove_dir_all(&tokens).unwrap();
    std::fs::rename(&pulled, &tokens).unwrap();
    wait_signed(&gateway, record + 5).await;
    gateway.wait_ready().await;
    gateway.stop();
    let dir = gateway.audit_dir.clone();
    let (_, vkey, _) = moat(&["audit", "vkey", "--dir", text(&dir)]);
    let (code, out, err) =
        moat(&["audit", "verify", "--dir", text(&dir), "--key", vkey.trim(), "-o", "json"]);
    assert_eq!(code, 0, "{out}{err}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["covered"], report["records"], "{report}");
}
