//! Another program takes over while calls come in; and the two guarantees of an upgrade: no
//! connection is refused, and no call that can end in time is cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use moat_audit::record::{Kind, Outcome};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinHandle;

use crate::support::{Client, Gateway, Options, Pki, Service, eventually, moat, request, say};

const WAIT: Duration = Duration::from_secs(20);
/// Between two calls of a caller.
const BETWEEN: Duration = Duration::from_millis(3);

async fn bank(options: Options) -> (Arc<Pki>, Service, Gateway) {
    let pki = Arc::new(Pki::new());
    let service = Service::start(&pki, &["http/1.1"]).await;
    let gateway = Gateway::start(&pki, service.address, options).await;
    (pki, service, gateway)
}

/// Calls without a pause until it is told to stop: kept connections of both versions, and a new one
/// for each call. A kept connection is made anew where the gateway said that it ends it, and nowhere
/// else.
struct Load {
    is_over: Arc<AtomicBool>,
    callers: Vec<JoinHandle<(u64, Duration)>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    Kept,
    Streams,
    Fresh,
}

impl Load {
    fn start(pki: &Arc<Pki>, gateway: &Gateway) -> Load {
        let is_over = Arc::new(AtomicBool::new(false));
        let kinds = [Caller::Kept, Caller::Streams, Caller::Fresh];
        let callers = kinds.map(|kind| {
            let (pki, to, over) = (Arc::clone(pki), gateway.address, Arc::clone(&is_over));
            tokio::spawn(async move {
                let connect = async || match kind {
                    Caller::Streams => Client::http2(&pki, to, "teller").await,
                    Caller::Kept | Caller::Fresh => Client::http1(&pki, to, "teller").await,
                };
                let (mut client, mut calls, mut longest) = (connect().await, 0, Duration::ZERO);
                while !over.load(Ordering::Relaxed) {
                    if client.is_closed().await {
                        client = connect().await;
                    }
                    let begun = Instant::now();
                    let answer = client.send(request("GET", "/masked/ok", "")).await.unwrap();
                    assert_eq!(answer.status, 200, "{answer:?}");
                    longest = longest.max(begun.elapsed());
                    calls += 1;
                    tokio::time::sleep(BETWEEN).await;
                    if kind == Caller::Fresh || answer.header("connection") == "close" {
                        client = connect().await;
                    }
                }
                (calls, longest)
            })
        });
        Load { is_over, callers: callers.into() }
    }

    /// Ends it; gives the calls and the longest of them. One that failed has failed the test.
    async fn stop(self) -> (u64, Duration) {
        self.is_over.store(true, Ordering::Relaxed);
        let (mut calls, mut longest) = (0, Duration::ZERO);
        for caller in self.callers {
            let (more, slowest) = caller.await.unwrap();
            (calls, longest) = (calls + more, longest.max(slowest));
        }
        (calls, longest)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_refuses_no_connection_and_cuts_no_call() {
    let (pki, _service, mut gateway) = bank(Options::default()).await;
    let load = Load::start(&pki, &gateway);
    let roles_before = ["gateway", "auditor", "admin"].map(|name| gateway.role(name).unwrap());
    for round in 0..2_u64 {
        // Under way when the new gateway comes, and to be finished by the old one.
        let mut slow = Client::http1(&pki, gateway.address, "teller").await;
        let slow = tokio::spawn(async move { slow.get("/masked/slow").await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (code, text) = gateway.upgrade();
        assert_eq!(code, 0, "{text}\n{}", gateway.said());
        gateway.wait_taken_over().await;
        assert_eq!(slow.await.unwrap().status, 200);
        assert_eq!(gateway.generation(), 2 + round, "{}", gateway.status());
    }
    let (calls, longest) = load.stop().await;
    say(&format!("{calls} calls during two upgrades, the longest took {longest:?}"));
    assert!(calls > 50, "{calls}");
    let roles_after = ["gateway", "auditor", "admin"].map(|name| gateway.role(name).unwrap());
    assert!(roles_before.iter().zip(&roles_after).all(|(before, after)| before != after));
    let upgrades: Vec<String> = gateway.records(Kind::Admin).into_iter().map(|b| b.note).collect();
    let count = upgrades.iter().filter(|note| note.starts_with("upgrade from=")).count();
    assert_eq!(count, 2, "{upgrades:?}");
    assert!(gateway.log().iter().all(|leaf| leaf.body.outcome != Some(Outcome::Unknown)));
    // The new supervisor is one like the old.
    gateway.edit_config("deadline_ms: 1500", "deadline_ms: 1600");
    assert_eq!(gateway.reload().0, 0);
    gateway.stop();
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_under_way_while_the_auditor_changes_has_one_end_and_it_is_the_true_one() {
    let (pki, _service, mut gateway) = bank(Options::default()).await;
    // The old gateway drains until this one has ended.
    let mut first = Client::http1(&pki, gateway.address, "teller").await;
    let first = tokio::spawn(async move { first.post("/write/slow", "{\"amount\":1}").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (code, text) = gateway.upgrade();
    assert_eq!(code, 0, "{text}");
    // These are the new gateway's, and one after the other spans the change of auditors.
    let mut later = Vec::new();
    for _ in 0..12 {
        let mut client = Client::http1(&pki, gateway.address, "teller").await;
        later.push(tokio::spawn(async move {
            client.post("/write/slow", "{\"amount\":2}").await.status
        }));
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    gateway.wait_taken_over().await;
    assert_eq!(first.await.unwrap().status, 200);
    for call in later {
        assert_eq!(call.await.unwrap(), 200);
    }
    let ends: Vec<_> =
        gateway.records(Kind::Outcome).into_iter().filter_map(|body| body.outcome).collect();
    assert_eq!(ends, vec![Outcome::Committed; 13]);
    gateway.stop();
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_does_not_work_takes_nothing_over() {
    let options = Options { is_copied: true, ..Options::default() };
    let (pki, _service, mut gateway) = bank(options).await;
    let load = Load::start(&pki, &gateway);
    let folder = gateway.dir.path().to_path_buf();
    let put = |from: &str| {
        let fresh = folder.join("moat.new");
        std::fs::copy(from, &fresh).unwrap();
        std::fs::rename(fresh, folder.join("moat")).unwrap();
    };
    put("/bin/false");
    let (code, text) = gateway.upgrade();
    assert!(code == 78 && text.contains("MOAT-S009"), "{code} {text}");
    // The supervisor's roles are of its own build, whatever lies in its place.
    assert!(gateway.kill_role("admin"));
    gateway.wait_ready().await;
    put(env!("CARGO_BIN_EXE_moat"));
    // A listener elsewhere needs a restart.
    gateway.edit_config("workers: 2", "workers: 1");
    let (code, text) = gateway.upgrade();
    assert!(code == 78 && text.contains("MOAT-S009"), "{code} {text}");
    assert!(gateway.said().contains("MOAT-S010 workers"), "{}", gateway.said());
    gateway.edit_config("workers: 1", "workers: 2");
    let writable = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(gateway.dir.path().join("moat"), writable).unwrap();
    let (code, text) = gateway.upgrade();
    assert!(code == 78 && text.contains("MOAT-S011"), "{code} {text}");
    assert_eq!(gateway.generation(), 1);
    let (calls, _) = load.stop().await;
    assert!(calls > 20, "{calls}");
    gateway.stop();
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_dies_on_the_way_leaves_the_gateway_serving() {
    let (pki, _service, mut gateway) = bank(Options::default()).await;
    let known = gateway.children();
    let mut slow = Client::http1(&pki, gateway.address, "teller").await;
    let slow = tokio::spawn(async move { slow.get("/masked/slow").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (code, text) = gateway.upgrade();
    assert_eq!(code, 0, "{text}");
    // The old gateway was told to finish; its successor goes before it has.
    let fresh = gateway.children().into_iter().find(|pid| !known.contains(pid)).unwrap();
    kill_process(Pid::from_raw(fresh.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    eventually("it is said", WAIT, || gateway.said().contains("MOAT-S009").then_some(())).await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    assert_eq!(client.get("/masked/ok").await.status, 200);
    assert_eq!(slow.await.unwrap().status, 200, "what was under way is finished");
    gateway.wait_ready().await;
    assert_eq!(gateway.reload().0, 0);
    // And the next one may.
    assert_eq!(gateway.upgrade().0, 0, "{}", gateway.said());
    gateway.wait_taken_over().await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    assert_eq!(client.get("/masked/ok").await.status, 200);
    gateway.stop();
    gateway.assert_whole();
}

/// How many reloads, and in what time: 136 in ten minutes with `MOAT_RELOADS=full`.
fn storm() -> (u32, Duration) {
    match std::env::var("MOAT_RELOADS").as_deref() {
        Ok("full") => (136, Duration::from_mins(10)),
        _ => (68, Duration::from_secs(7)),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_load_fail_no_call_and_leave_no_memory_behind() {
    let (pki, _service, mut gateway) = bank(Options::default()).await;
    let load = Load::start(&pki, &gateway);
    let (reloads, time) = storm();
    let (mut last, mut settled) = (1_500, 0);
    let begun = Instant::now();
    for round in 1..=reloads {
        let next = 2_000 + round;
        gateway.edit_config(&format!("deadline_ms: {last}"), &format!("deadline_ms: {next}"));
        last = next;
        let (code, text) = gateway.reload();
        assert_eq!(code, 0, "{text}");
        if round == reloads / 4 {
            settled = gateway.memory_kib("gateway");
        }
        tokio::time::sleep((time * round / reloads).saturating_sub(begun.elapsed())).await;
    }
    let (calls, longest) = load.stop().await;
    let now = gateway.memory_kib("gateway");
    say(&format!(
        "{reloads} reloads, {calls} calls, the longest {longest:?}; {settled} to {now} KiB"
    ));
    // Each generation has a policy engine for each worker: 50 kept ones would show.
    assert!(now < settled + settled / 4 + 8 * 1024, "{settled} KiB, then {now} KiB");
    assert!(gateway.generation() > u64::from(reloads));
    gateway.stop();
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_difference_is_told_by_key_with_what_it_would_do_and_not_done() {
    let (_pki, _service, gateway) = bank(Options::default()).await;
    let diff = || moat(&["diff", "--socket", &gateway.socket()]);
    let (code, out, err) = diff();
    assert_eq!((code, out.trim()), (0, "nothing changes"), "{err}");
    gateway.edit_config("body_bytes_max: 0", "body_bytes_max: 9");
    let root = gateway.dir.path().join("pki/root.pem");
    let text = std::fs::read_to_string(&root).unwrap();
    // Not long enough to settle: the watch takes it otherwise.
    std::fs::write(&root, text + "\n").unwrap();
    let (code, out, err) = diff();
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("calls    routes[post].body_bytes_max: 0 -> 9"), "{out}");
    let trust = "cuts     listeners[partners].tls.clients[0].trust: content -> changed content";
    assert!(out.contains(trust), "{out}");
    gateway.edit_config("workers: 2", "workers: 1");
    let (code, out, err) = diff();
    assert_eq!(code, 78, "{out}{err}");
    assert!(out.contains("restart  workers: 2 -> 1") && err.contains("MOAT-C017"), "{out}{err}");
    gateway.edit_config("workers: 1", "worrkers: 1");
    let (code, out, err) = diff();
    assert!(code == 78 && err.contains("MOAT-C002"), "{code} {out}{err}");
}

/// What the kubelet does with a volume of files: links by way of `..data`, which is swapped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_of_links_as_the_kubelet_does_it_is_a_reload() {
    use std::os::unix::fs::symlink;
    let (pki, _service, mut gateway) = bank(Options::default()).await;
    gateway.stop();
    let path = gateway.dir.path().join("moat.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let volume = gateway.dir.path().to_path_buf();
    let put = |stamp: &str, text: &str| {
        std::fs::create_dir(volume.join(stamp)).unwrap();
        std::fs::write(volume.join(stamp).join("moat.yaml"), text).unwrap();
        symlink(stamp, volume.join("..data_tmp")).unwrap();
        std::fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    };
    std::fs::remove_file(&path).unwrap();
    put("..2026_01_01", &text);
    symlink("..data/moat.yaml", &path).unwrap();
    gateway.start_again().await;
    for (round, stamp) in ["..2026_01_02", "..2026_01_03"].into_iter().enumerate() {
        let late = format!("path: \"/late{round}/");
        put(stamp, &text.replace("path: \"/pass/", &late));
        let wanted = 2 + round as u64;
        eventually("the swap is taken", WAIT, || (gateway.generation() == wanted).then_some(()))
            .await;
        let mut client = Client::http1(&pki, gateway.address, "teller").await;
        assert_eq!(client.get(&format!("/late{round}/ok")).await.status, 200);
    }
    gateway.assert_whole();
}
