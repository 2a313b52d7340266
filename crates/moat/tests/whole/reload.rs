//! The configuration changes while calls come in: all of it, or nothing.

use std::time::Duration;

use moat_audit::record::Kind;
use rustix::process::Signal;
use rustix::process::kill_process;
use rustls::pki_types::CertificateDer;

use crate::support::{Client, Gateway, Options, Pki, Service, eventually, moat, request, tls};

async fn bank() -> (Pki, Service, Gateway) {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let gateway = Gateway::start(&pki, service.address, Options::default()).await;
    (pki, service, gateway)
}

const WAIT: Duration = Duration::from_secs(5);

async fn shown_certificate(pki: &Pki, gateway: &Gateway) -> CertificateDer<'static> {
    let stream = tls(pki, gateway.address, Some(&pki.identity("teller")), "h2").await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_shown_to_new_connections_without_a_restart() {
    let (pki, _service, gateway) = bank().await;
    let mut open = Client::http1(&pki, gateway.address, "teller").await;
    let old = shown_certificate(&pki, &gateway).await;
    pki.write(&gateway.dir.path().join("pki"), "gateway");
    let mut shown = old.clone();
    for _ in 0..100 {
        shown = shown_certificate(&pki, &gateway).await;
        if shown != old {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_ne!(shown, old);
    assert_eq!(open.get("/pass/ok").await.status, 200, "an open connection was cut");
    assert!(gateway.generation() > 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_takes_what_was_in_force_before_and_leaves_a_record() {
    let (pki, _service, gateway) = bank().await;
    let rollback = || moat(&["rollback", "--socket", &gateway.socket()]);
    let (code, _, err) = rollback();
    assert_eq!(code, 78, "{err}");
    assert!(err.contains("no generation before"), "{err}");
    let first = gateway.status()["digest"].clone();
    gateway.edit_config("path: \"/pass/", "path: \"/gone/");
    assert_eq!(gateway.reload().0, 0);
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    assert_eq!(client.get("/pass/ok").await.status, 404);
    let (code, out, err) = rollback();
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(client.get("/pass/ok").await.status, 200);
    let status = gateway.status();
    assert_eq!((&status["generation"], &status["digest"]), (&3.into(), &first));
    // Nothing on the disk has changed, so nothing is read from there.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(gateway.generation(), 3);
    let last = gateway.records(Kind::Admin).pop().unwrap();
    let note = format!("reload generation=3 digest={} by=admin:uid=", first.as_str().unwrap());
    assert!(
        last.note.starts_with(&note) && last.note.ends_with(",rollback taken"),
        "{}",
        last.note
    );
    // Once more goes forth again, and what stands on the disk is taken when it is asked for.
    assert_eq!(rollback().0, 0);
    assert_eq!(client.get("/pass/ok").await.status, 404);
    assert_eq!(rollback().0, 0);
    assert_eq!(gateway.reload().0, 0);
    assert_eq!((client.get("/pass/ok").await.status, gateway.generation()), (404, 6));
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_configuration_is_refused_whole_and_said_so() {
    let (pki, _service, gateway) = bank().await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    gateway.edit_config("policy: authz", "policyy: authz");
    let (code, text) = gateway.reload();
    assert_eq!(code, 78, "{text}");
    assert!(text.contains("policyy"), "{text}");
    assert_eq!(gateway.generation(), 1);
    let refusal = gateway.status()["last_refusal"].as_str().unwrap_or_default().to_owned();
    assert!(refusal.contains("policyy"), "{refusal}");
    assert_eq!(client.get("/pass/ok").await.status, 200);
    // Put right again, nothing is wrong any more.
    gateway.edit_config("policyy: authz", "policy: authz");
    let (code, text) = gateway.reload();
    assert_eq!(code, 0, "{text}");
    assert!(gateway.status()["last_refusal"].is_null(), "{}", gateway.status());
    assert!(gateway.is_ready());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_does_not_compile_changes_nothing() {
    let (pki, _service, gateway) = bank().await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    let policy = gateway.dir.path().join("policy/authz.rego");
    let good = std::fs::read_to_string(&policy).unwrap();
    std::fs::write(&policy, "package authz\n\nallow if {").unwrap();
    let (code, text) = gateway.reload();
    assert_eq!(code, 78, "{text}");
    assert!(text.contains("MOAT-P010"), "{text}");
    assert_eq!(client.get("/pass/ok").await.status, 200);
    std::fs::write(&policy, good).unwrap();
    assert_eq!(gateway.reload().0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_policy_decides_the_next_call() {
    let (pki, _service, gateway) = bank().await;
    let mut client = Client::http2(&pki, gateway.address, "teller").await;
    assert_eq!(client.get("/pass/ok").await.status, 200);
    let policy = gateway.dir.path().join("policy/authz.rego");
    let text = std::fs::read_to_string(&policy).unwrap();
    std::fs::write(&policy, text.replace("\"spiffe://bank.test/teller\", ", "")).unwrap();
    assert_eq!(gateway.reload().0, 0);
    let answer = client.get("/pass/ok").await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "MOAT-P002"), "{answer:?}");
    let refusal = gateway.records(Kind::Refusal).pop().unwrap();
    assert_eq!((refusal.generation, refusal.code.as_str()), (2, "MOAT-P002"));
}

/// A caller has the role of the authorities that vouched for it, not of those that came after them;
/// and not that of before either, once its group has another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_role_is_for_those_who_connect_under_it() {
    let (pki, _service, gateway) = bank().await;
    let mut open = Client::http2(&pki, gateway.address, "teller").await;
    assert_eq!(open.get("/pass/ok").await.status, 200);
    let policy = gateway.dir.path().join("policy/authz.rego");
    let text = std::fs::read_to_string(&policy).unwrap();
    let rule = "deny contains \"staff\" if input.peer.role == \"staff\"";
    std::fs::write(&policy, format!("{text}\n{rule}\n")).unwrap();
    gateway.edit_config("role: partners", "role: staff");
    assert_eq!(gateway.reload().0, 0);
    gateway.record("the cut", |body| body.code == "MOAT-I021").await;
    assert!(open.send(request("GET", "/pass/ok", "")).await.is_err());
    let answer = Client::http2(&pki, gateway.address, "teller").await.get("/pass/ok").await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "MOAT-P001"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_a_restart_is_refused_with_its_code() {
    let (_pki, _service, gateway) = bank().await;
    gateway.edit_config("workers: 2", "workers: 1");
    let (code, text) = gateway.reload();
    assert_eq!(code, 78, "{text}");
    assert!(text.contains("MOAT-C017"), "{text}");
    assert_eq!(gateway.generation(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_reloads_fails_no_call_and_ends_with_the_last_configuration() {
    let (pki, _service, mut gateway) = bank().await;
    let (mut one, mut two) = (
        Client::http1(&pki, gateway.address, "teller").await,
        Client::http2(&pki, gateway.address, "teller").await,
    );
    let is_over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let over = std::sync::Arc::clone(&is_over);
    let load = tokio::spawn(async move {
        let mut calls = 0;
        while !over.load(std::sync::atomic::Ordering::Relaxed) {
            for client in [&mut one, &mut two] {
                let answer = client.send(request("GET", "/masked/ok", "")).await.unwrap();
                assert_eq!(answer.status, 200, "{answer:?}");
                calls += 1;
            }
        }
        calls
    });
    let mut last = 1_500;
    for round in 0..100 {
        let next = 2_000 + round;
        gateway.edit_config(&format!("deadline_ms: {last}"), &format!("deadline_ms: {next}"));
        last = next;
        gateway.signal(Signal::HUP);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The last change counts, even if it came while another was being taken.
    let path = gateway.dir.path().join("moat.yaml");
    let wanted = moat_config::load(&path).unwrap().config.digest;
    eventually("the last configuration is active", WAIT, || {
        (gateway.status()["digest"] == wanted.as_str()).then_some(())
    })
    .await;
    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(load.await.unwrap() > 20);
    let status = gateway.status();
    assert!(status["generation"].as_u64() > Some(2), "{status}");
    assert!(status["last_refusal"].is_null(), "{status}");
    assert!(status["roles"].as_array().unwrap().iter().all(|role| role["restarts"] == 0));
    gateway.stop();
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_made_while_another_is_taken_is_not_forgotten() {
    let (_pki, _service, gateway) = bank().await;
    for round in 0..5 {
        let (a, b) = (3_000 + round * 2, 3_001 + round * 2);
        let before = if round == 0 { 1_500 } else { a - 1 };
        gateway.edit_config(&format!("deadline_ms: {before}"), &format!("deadline_ms: {a}"));
        gateway.signal(Signal::HUP);
        tokio::time::sleep(Duration::from_millis(round)).await;
        gateway.edit_config(&format!("deadline_ms: {a}"), &format!("deadline_ms: {b}"));
        // Nobody says anything more: the files are watched.
        let wanted = moat_config::load(&gateway.dir.path().join("moat.yaml")).unwrap();
        eventually("the last configuration is active", WAIT, || {
            (gateway.status()["digest"] == wanted.config.digest.as_str()).then_some(())
        })
        .await;
    }
}

/// What the log says of reloads: code and note of each.
fn reloads(gateway: &Gateway) -> Vec<(String, String)> {
    let records = gateway.records(Kind::Admin).into_iter();
    let reloads = records.filter(|body| body.note.starts_with("reload "));
    reloads.map(|body| (body.code, body.note)).collect()
}

/// Waits for the record of the next reload.
async fn next_reload(gateway: &Gateway, known: usize) -> (String, String) {
    eventually("a record", WAIT, || reloads(gateway).into_iter().nth(known)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_is_on_record_before_it_is_in_force() {
    let (pki, _service, gateway) = bank().await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    assert_eq!(reloads(&gateway), []);
    let digest = gateway.status()["digest"].as_str().unwrap().to_owned();
    let note = format!("gateway start generation=1 digest={digest}");
    gateway.record("the start", |body| body.kind == Kind::Admin && body.note == note).await;
    let uid = rustix::process::geteuid().as_raw();
    gateway.edit_config("deadline_ms: 1500", "deadline_ms: 1600");
    assert_eq!(gateway.reload().0, 0);
    let digest = gateway.status()["digest"].as_str().unwrap().to_owned();
    let note = format!("reload generation=2 digest={digest} by=admin:uid={uid} taken");
    assert_eq!(reloads(&gateway), [(String::new(), note)]);
    assert_eq!(client.get("/masked/ok").await.status, 200);
    let log = gateway.log();
    let of_second: Vec<Kind> =
        log.iter().filter(|l| l.body.generation == 2).map(|l| l.body.kind).collect();
    assert_eq!(of_second, [Kind::Admin, Kind::Read], "the reload comes first");
    gateway.edit_config("deadline_ms: 1600", "deadline_ms: 1700");
    gateway.signal(Signal::HUP);
    let (code, note) = next_reload(&gateway, 1).await;
    assert!(code.is_empty() && note.contains("generation=3 "), "{note}");
    assert!(note.ends_with(" by=SIGHUP taken"), "{note}");
    eventually("it is in force", WAIT, || (gateway.generation() == 3).then_some(())).await;
    // Nothing has changed, so nothing is reloaded.
    assert_eq!(gateway.reload().0, 0);
    assert_eq!(reloads(&gateway).len(), 2);
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_reload_is_on_record_with_its_code() {
    let (_pki, _service, gateway) = bank().await;
    gateway.edit_config("policy: authz", "policyy: authz");
    assert_eq!(gateway.reload().0, 78);
    let (code, note) = next_reload(&gateway, 0).await;
    assert_eq!(code, "MOAT-C002");
    assert!(note.starts_with("reload generation=2 digest=- by=admin"), "{note}");
    assert!(note.ends_with(" refused"), "{note}");
    gateway.edit_config("policyy: authz", "policy: authz");
    assert_eq!(gateway.reload().0, 0);
    let known = reloads(&gateway).len();
    std::fs::write(gateway.dir.path().join("policy/authz.rego"), "package authz\nallow if {")
        .unwrap();
    gateway.signal(Signal::HUP);
    let (code, note) = next_reload(&gateway, known).await;
    assert_eq!(code, "MOAT-P010");
    assert!(note.contains(" by=SIGHUP refused") && !note.contains("digest=-"), "{note}");
    assert_eq!(gateway.generation(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_that_cannot_be_recorded_changes_nothing() {
    let (pki, _service, mut gateway) = bank().await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    assert_eq!(client.get("/masked/ok").await.status, 200);
    let auditor = gateway.role("auditor").unwrap();
    kill_process(auditor, Signal::STOP).unwrap();
    gateway.edit_config("deadline_ms: 1500", "deadline_ms: 1600");
    let (code, text) = gateway.reload();
    assert_eq!(code, 78, "{text}");
    assert!(text.contains("MOAT-A001") && text.contains("tried again"), "{text}");
    assert_eq!(gateway.generation(), 1);
    // The changed file was looked at, too, and in vain: nobody asks for anything any more.
    eventually("two refusals", WAIT, || {
        (gateway.said().matches("generation refused").count() >= 2).then_some(())
    })
    .await;
    let refusal = gateway.status()["last_refusal"].as_str().unwrap_or_default().to_owned();
    assert!(refusal.contains("tried again"), "{refusal}");
    kill_process(auditor, Signal::CONT).unwrap();
    eventually("it is in force", WAIT, || (gateway.generation() == 2).then_some(())).await;
    gateway.wait_ready().await;
    assert!(gateway.status()["last_refusal"].is_null(), "{}", gateway.status());
    // What was late stands in the log, and what comes later says what holds.
    let all = reloads(&gateway);
    let ends: Vec<bool> = all.iter().map(|(_, note)| note.ends_with(" taken")).collect();
    assert!(ends.len() >= 3 && !ends[ends.len() - 2] && ends[ends.len() - 1], "{all:?}");
    assert!(all[ends.len() - 1].1.contains(" by=retry "), "{all:?}");
    assert!(all[1..ends.len() - 1].iter().all(|(code, _)| code == "MOAT-A001"), "{all:?}");
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_of_a_refusal_outlives_the_auditor_that_it_was_meant_for() {
    let (_pki, _service, mut gateway) = bank().await;
    kill_process(gateway.role("auditor").unwrap(), Signal::STOP).unwrap();
    gateway.edit_config("policy: authz", "policyy: authz");
    assert_eq!(gateway.reload().0, 78);
    assert!(gateway.kill_role("auditor"));
    let (code, note) = next_reload(&gateway, 0).await;
    assert!(code == "MOAT-C002" && note.ends_with(" refused"), "{code} {note}");
    gateway.wait_ready().await;
    gateway.assert_whole();
}

/// A gateway whose calls and reloads wait half a minute for their records.
async fn patient_bank() -> (Pki, Service, Gateway) {
    let (pki, service, gateway) = bank().await;
    gateway.edit_config("segment_mib: 16", "segment_mib: 16, deadline_ms: 30000");
    assert_eq!(gateway.reload().0, 0);
    assert_eq!(gateway.generation(), 2);
    (pki, service, gateway)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_without_an_auditor_waits_for_the_next_one_and_holds_up_nothing() {
    let (_pki, _service, gateway) = patient_bank().await;
    assert!(gateway.kill_role("auditor"));
    gateway.edit_config("deadline_ms: 1500", "deadline_ms: 1600");
    gateway.signal(Signal::HUP);
    eventually("it is in force", WAIT, || (gateway.generation() == 3).then_some(())).await;
    let (code, note) = reloads(&gateway).pop().unwrap();
    assert!(code.is_empty() && note.ends_with(" by=SIGHUP taken"), "{code} {note}");
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_that_the_gateway_took_to_its_grave_is_made_again() {
    let (_pki, _service, mut gateway) = patient_bank().await;
    let auditor = gateway.role("auditor").unwrap();
    kill_process(auditor, Signal::STOP).unwrap();
    gateway.edit_config("deadline_ms: 1500", "deadline_ms: 1600");
    gateway.signal(Signal::HUP);
    assert!(gateway.kill_role("gateway"));
    let lost = eventually("it is lost", WAIT, || {
        gateway.status()["last_refusal"].as_str().map(str::to_owned)
    })
    .await;
    assert!(lost.contains("the gateway ended") && lost.contains("tried again"), "{lost}");
    kill_process(auditor, Signal::CONT).unwrap();
    eventually("it is in force", WAIT, || (gateway.generation() == 3).then_some(())).await;
    gateway.wait_ready().await;
    assert!(gateway.status()["last_refusal"].is_null(), "{}", gateway.status());
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_fragments_is_a_configuration_and_a_new_file_in_it_a_change() {
    let (pki, _service, mut gateway) = bank().await;
    gateway.stop();
    let folder = gateway.dir.path().join("moat.yaml");
    let text = std::fs::read_to_string(&folder).unwrap().replace("file:", "file:../");
    std::fs::remove_file(&folder).unwrap();
    std::fs::create_dir(&folder).unwrap();
    let (before, rest) = text.split_once("routes:\n").unwrap();
    let (routes, after) = rest.split_once("policy: {").unwrap();
    std::fs::write(folder.join("10-base.yaml"), format!("{before}policy: {{{after}")).unwrap();
    std::fs::write(folder.join("20-routes.yaml"), format!("routes:\n{routes}")).unwrap();
    gateway.start_again().await;
    let path = folder.display().to_string();
    let (code, out, err) = moat(&["check", &path]);
    assert_eq!(code, 0, "{out}{err}");
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    assert_eq!(client.get("/masked/ok").await.status, 200);
    assert_eq!(client.get("/late/ok").await.status, 404);
    let late = "routes:\n  - { name: late, match: { path: \"/late/{rest...}\" }, upstream: accounts, \
                policy: authz }\n";
    std::fs::write(folder.join("30-late.yaml"), late).unwrap();
    eventually("the new route is in force", WAIT, || (gateway.generation() == 2).then_some(()))
        .await;
    assert_eq!(client.get("/late/ok").await.status, 200);
    let (_, note) = reloads(&gateway).pop().unwrap();
    assert!(note.contains(" by=watch taken"), "{note}");
    std::fs::write(folder.join("30-late.yaml"), late.replace("upstream:", "upstrem:")).unwrap();
    let (code, out, err) = moat(&["check", &path]);
    assert_eq!(code, 78, "{out}{err}");
    assert!(err.contains("30-late.yaml:2:"), "{out}{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_good_configuration_survives_a_restart() {
    let options = Options { has_state: true, ..Options::default() };
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let mut gateway = Gateway::start(&pki, service.address, options).await;
    gateway.edit_config("path: \"/pass/", "path: \"/good/");
    assert_eq!(gateway.reload().0, 0);
    let digest = gateway.status()["digest"].clone();
    // The text, what a reference leads to, or the policy is no good.
    let dir = gateway.dir.path().to_path_buf();
    let spoilt = ["moat.yaml", "pki/root.pem", "policy/authz.rego"];
    for name in spoilt {
        gateway.stop();
        let text = std::fs::read_to_string(dir.join(name)).unwrap();
        std::fs::write(dir.join(name), "package {").unwrap();
        gateway.start_again().await;
        assert!(gateway.said().contains("MOAT-S012"), "{name}: {}", gateway.said());
        let mut client = Client::http1(&pki, gateway.address, "teller").await;
        assert_eq!(client.get("/good/ok").await.status, 200, "{name}");
        let refused = || gateway.status()["last_refusal"].as_str().map(str::to_owned);
        eventually("what stands on the disk is refused", WAIT, refused).await;
        assert_eq!(gateway.status()["digest"], digest, "{name}");
        // Put right, it is taken by itself: the same as what is in force.
        std::fs::write(dir.join(name), text).unwrap();
        eventually("nothing is wrong any more", WAIT, || {
            gateway.status()["last_refusal"].is_null().then_some(())
        })
        .await;
    }
    // No key lies where it was kept.
    let kept = std::fs::read(dir.join("state/last-good-configuration")).unwrap();
    assert!(!String::from_utf8_lossy(&kept).contains("PRIVATE KEY"));
    gateway.stop();
    std::fs::write(dir.join("moat.yaml"), "package {").unwrap();
    std::fs::remove_dir_all(dir.join("state")).unwrap();
    gateway.spawn_again();
    assert!(!gateway.ended_well(), "without one that worked there is no start");
    gateway.assert_whole();
}
