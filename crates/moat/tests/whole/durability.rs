//! Roles die, disks fill: no answer without its record, no lost record, and recovery by itself.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use moat_audit::record::{Kind, Outcome};
use rustix::process::{Signal, kill_process, test_kill_process};

use crate::support::{Answer, Client, Gateway, Options, Pki, Service, eventually, request, say};

const PAY: &str = "{\"amount\":\"10.00\"}";

/// What a caller saw: record and trace of each 200.
type Seen = HashSet<(u64, String)>;

fn seen(answer: &Answer) -> (u64, String) {
    (answer.header("x-moat-record").parse().unwrap(), answer.header("x-moat-trace").to_owned())
}

/// Every 200 that a caller saw stands in the log where the answer said.
fn assert_recorded(gateway: &Gateway, seen: &Seen) {
    let log = gateway.log();
    for (seq, trace) in seen {
        let leaf = log.get(usize::try_from(*seq).unwrap());
        let leaf = leaf.unwrap_or_else(|| panic!("record {seq} is not in the log"));
        assert_eq!(leaf.head.seq, *seq);
        assert_eq!(&moat_audit::hash::hex(&leaf.body.trace_id), trace, "record {seq}");
        assert!(matches!(leaf.body.kind, Kind::Read | Kind::Outcome), "record {seq}");
    }
}

/// Callers that read and write, over new connections when old ones break, until told to stop.
struct Load {
    is_over: Arc<AtomicBool>,
    good: Arc<AtomicUsize>,
    /// Calls refused, and connections that broke.
    bad: Arc<AtomicUsize>,
    callers: Vec<tokio::task::JoinHandle<Seen>>,
}

impl Load {
    fn start(pki: &Arc<Pki>, gateway: &Gateway, callers: usize) -> Load {
        let (is_over, good) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let bad = Arc::new(AtomicUsize::new(0));
        let address = gateway.address;
        let one = |number: usize| {
            let (pki, is_over, good) = (Arc::clone(pki), Arc::clone(&is_over), Arc::clone(&good));
            let bad = Arc::clone(&bad);
            tokio::spawn(async move {
                let identity = pki.identity("teller");
                let (mut all, mut client) = (Seen::new(), None);
                while !is_over.load(Ordering::Relaxed) {
                    let Some(mut caller) = client.take() else {
                        let is_http2 = number.is_multiple_of(2);
                        client = Client::connect(&pki, address, &identity, is_http2).await.ok();
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        continue;
                    };
                    let call = if number.is_multiple_of(3) {
                        let mut call = request("POST", "/write/ok", PAY);
                        let json = "application/json".parse().unwrap();
                        call.headers_mut().insert("content-type", json);
                        call
                    } else {
                        request("GET", "/masked/ok", "")
                    };
                    let Ok(answer) = caller.send(call).await else {
                        bad.fetch_add(1, Ordering::Relaxed);
                        continue;
                    };
                    match answer.status {
                        200 => {
                            assert!(all.insert(seen(&answer)), "one record for two answers");
                            good.fetch_add(1, Ordering::Relaxed);
                        }
                        503 => {
                            bad.fetch_add(1, Ordering::Relaxed);
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                        other => panic!("{other}: {answer:?}"),
                    }
                    client = Some(caller);
                }
                all
            })
        };
        let callers = (0..callers).map(one).collect();
        Load { is_over, good, bad, callers }
    }

    fn good(&self) -> usize {
        self.good.load(Ordering::Relaxed)
    }

    async fn stop(self) -> Seen {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Seen::new();
        for caller in self.callers {
            all.extend(caller.await.unwrap());
        }
        all
    }
}

fn kills() -> usize {
    std::env::var("MOAT_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(10)
}

/// Gateways that one test kills roles of at the same time.
const LANES: usize = 2;
/// Kills between two starts of a gateway: a role that ends again and again is started after ever
/// longer pauses, so many kills in a row would mostly test waiting.
const KILLS_IN_A_ROW: usize = 4;

/// Kills a role again and again under load; checks the log against what callers saw.
async fn survives_kills_of(role: &'static str) {
    let share = |lane| kills() / LANES + usize::from(lane < kills() % LANES);
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| tokio::spawn(async move { one_lane(role, lane, share(lane)).await }))
        .collect();
    for lane in lanes {
        lane.await.unwrap();
    }
}

async fn one_lane(role: &'static str, lane: usize, kills: usize) {
    let pki = Arc::new(Pki::new());
    let service = Service::start(&pki, &["http/1.1"]).await;
    let mut gateway = Gateway::start(&pki, service.address, Options::default()).await;
    let (mut all, mut killed) = (Seen::new(), 0);
    while killed < kills {
        let load = Load::start(&pki, &gateway, 6);
        let row = killed..(killed + KILLS_IN_A_ROW).min(kills);
        killed = row.end;
        for round in row {
            let before = load.good();
            answered_again(&load, before).await;
            let rest = (round * 7_919 + lane * 53 + 13) % 97;
            tokio::time::sleep(Duration::from_millis(rest as u64)).await;
            let wait = Duration::from_secs(10);
            eventually("the role is there", wait, || gateway.kill_role(role).then_some(())).await;
        }
        gateway.wait_ready().await;
        let before = load.good();
        answered_again(&load, before).await;
        let bad = load.bad.load(Ordering::Relaxed);
        assert!(role != "admin" || bad == 0, "{bad} calls suffered");
        all.extend(load.stop().await);
        gateway.stop();
        gateway.start_again().await;
    }
    gateway.assert_whole();
    assert_recorded(&gateway, &all);
    let report = gateway.verify();
    assert!(report.is_whole() && report.unpaired.is_empty(), "{:?}", report.unpaired);
}

async fn answered_again(load: &Load, before: usize) {
    eventually("calls are answered again", Duration::from_secs(20), || {
        (load.good() > before + 3).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_auditor_loses_no_record_and_no_call_goes_unrecorded() {
    survives_kills_of("auditor").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_gateway_loses_no_record() {
    survives_kills_of("gateway").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_admin_role_is_noticed_by_no_caller() {
    survives_kills_of("admin").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_auditor_means_no_answer_but_503() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let mut gateway = Gateway::start(&pki, service.address, Options::default()).await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    assert_eq!(client.get("/masked/ok").await.status, 200);
    let auditor = gateway.role("auditor").unwrap();
    kill_process(auditor, Signal::STOP).unwrap();
    for path in ["/masked/ok", "/pass/ok", "/nowhere"] {
        let begun = Instant::now();
        let answer = client.get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "MOAT-A001"), "{answer:?}");
        assert!(begun.elapsed() < Duration::from_millis(1_200), "{:?}", begun.elapsed());
    }
    let asked = service.paths().len();
    let answer = client.post("/write/ok", PAY).await;
    assert_eq!(answer.status, 503);
    assert_eq!(service.paths().len(), asked, "a write went out without its intent");
    kill_process(auditor, Signal::CONT).unwrap();
    gateway.wait_ready().await;
    let answer = client.get("/masked/ok").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_under_way_when_the_gateway_dies_becomes_unknown() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let options = Options { deadline_ms: 4_000, ..Options::default() };
    let mut gateway = Gateway::start(&pki, service.address, options).await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    let mut pay = request("POST", "/write/hang", PAY);
    pay.headers_mut().insert("content-type", "application/json".parse().unwrap());
    let call = tokio::spawn(async move { client.send(pay).await });
    eventually("the service has the call", Duration::from_secs(5), || {
        (!service.paths().is_empty()).then_some(())
    })
    .await;
    assert!(gateway.kill_role("gateway"));
    assert!(call.await.unwrap().is_err(), "an answer from a dead gateway");
    gateway.stop();
    gateway.start_again().await;
    let log = gateway.log();
    let intent = log.iter().find(|l| l.body.kind == Kind::Intent).unwrap();
    let outcome = log.iter().find(|l| l.body.intent_seq == Some(intent.head.seq)).unwrap();
    assert_eq!(outcome.body.outcome, Some(Outcome::Unknown));
    gateway.assert_whole();
    assert!(gateway.verify().unpaired.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_gateway_left_open_becomes_unknown_without_a_new_auditor() {
    let pki = Arc::new(Pki::new());
    let service = Service::start(&pki, &["http/1.1"]).await;
    let options = Options { deadline_ms: 4_000, ..Options::default() };
    let mut gateway = Gateway::start(&pki, service.address, options).await;
    let auditor = gateway.role("auditor").unwrap();
    let load = Load::start(&pki, &gateway, 6);
    answered_again(&load, 0).await;
    let mut hanging = Vec::new();
    for number in 0..5 {
        let mut client = Client::http1(&pki, gateway.address, "teller").await;
        let mut pay = request("POST", &format!("/write/{number}/hang"), PAY);
        pay.headers_mut().insert("content-type", "application/json".parse().unwrap());
        hanging.push(tokio::spawn(async move { client.send(pay).await }));
    }
    eventually("the service has the calls", Duration::from_secs(5), || {
        (service.paths().iter().filter(|path| path.ends_with("hang")).count() == 5).then_some(())
    })
    .await;
    assert!(gateway.kill_role("gateway"));
    for number in 0..5 {
        let outcome = eventually("an outcome", Duration::from_secs(5), || {
            let (log, object) = (gateway.log(), format!("write/{number}/hang"));
            let intent = log.iter().find(|leaf| leaf.body.object == object)?;
            let seq = Some(intent.head.seq);
            log.iter().find(|leaf| leaf.body.intent_seq == seq).map(|leaf| leaf.body.outcome)
        })
        .await;
        assert_eq!(outcome, Some(Outcome::Unknown));
    }
    gateway.wait_ready().await;
    let all = load.stop().await;
    eventually("no intent is open", Duration::from_secs(5), || {
        gateway.verify().unpaired.is_empty().then_some(())
    })
    .await;
    assert_eq!(gateway.role("auditor"), Some(auditor), "the auditor was not to start again");
    gateway.assert_whole();
    assert_recorded(&gateway, &all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_end_by_themselves_when_the_supervisor_is_killed() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let options = Options { deadline_ms: 30_000, ..Options::default() };
    let gateway = Gateway::start(&pki, service.address, options).await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    let idle = Client::http2(&pki, gateway.address, "teller").await;
    let call = tokio::spawn(async move { client.send(request("GET", "/pass/hang", "")).await });
    eventually("the service has the call", Duration::from_secs(5), || {
        (!service.paths().is_empty()).then_some(())
    })
    .await;
    let roles: Vec<_> =
        ["auditor", "gateway", "admin"].iter().filter_map(|name| gateway.role(name)).collect();
    assert_eq!(roles.len(), 3);
    gateway.signal(Signal::KILL);
    eventually("every role has ended", Duration::from_secs(2), || {
        roles.iter().all(|pid| is_gone(*pid)).then_some(())
    })
    .await;
    assert!(call.await.unwrap().is_err());
    drop(idle);
    gateway.assert_whole();
}

/// Ended, or ended and not yet waited for by whoever inherited it.
fn is_gone(pid: rustix::process::Pid) -> bool {
    test_kill_process(pid).is_err()
        || std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))
            .is_ok_and(|stat| stat.contains(") Z "))
}

/// A small file system of its own; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None without the right to mount; then the test says so and, in CI, fails.
    fn mount(at: &Path, options: &str) -> Option<SmallDisk> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(at)
            .output()
            .is_ok_and(|out| out.status.success());
        if mounted {
            return Some(SmallDisk(at.to_path_buf()));
        }
        assert!(std::env::var("CI").is_err(), "CI promises the right to mount");
        say("SKIPPED: no right to mount a small file system here");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_calls_and_freed_space_is_found_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("disk");
    let Some(_disk) = SmallDisk::mount(&at, "size=8m") else { return };
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let audit_dir = Some(at.join("audit"));
    let options = Options { segment_mib: 1, audit_dir, ..Options::default() };
    let mut gateway = Gateway::start(&pki, service.address, options).await;
    let mut client = Client::http2(&pki, gateway.address, "teller").await;
    let mut all = Seen::new();
    let filler = at.join("filler");
    for round in 0..2 {
        let answer = client.get("/masked/ok").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        // Everything but what the log has reserved.
        let written = std::fs::write(&filler, vec![0; 16 << 20]);
        assert!(written.is_err(), "the disk is larger than it should be");
        let refused = loop {
            // Long refusals fill the reserved rest soon.
            let path = format!("/nowhere/{}", "x".repeat(250));
            let mut call = request("GET", &path, "");
            let agent = "a".repeat(250).parse().unwrap();
            call.headers_mut().insert("user-agent", agent);
            let begun = Instant::now();
            let answer = client.send(call).await.unwrap();
            if answer.status != 404 {
                assert!(begun.elapsed() < Duration::from_millis(1_200), "{:?}", begun.elapsed());
                break answer;
            }
        };
        assert_eq!((refused.status, refused.code().as_str()), (503, "MOAT-A003"), "{refused:?}");
        let answer = client.get("/masked/ok").await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "MOAT-A003"), "{answer:?}");
        eventually("readiness falls", Duration::from_secs(3), || {
            (!gateway.is_ready()).then_some(())
        })
        .await;
        std::fs::remove_file(&filler).unwrap();
        // Nobody calls a gateway that is not ready: it must find out by itself.
        gateway.wait_ready().await;
        let answer = client.get("/masked/ok").await;
        assert_eq!(answer.status, 200, "round {round}: {answer:?}");
        all.insert(seen(&answer));
    }
    let roles = gateway.status()["roles"].clone();
    assert!(roles.as_array().unwrap().iter().all(|role| role["restarts"] == 0), "{roles}");
    gateway.assert_whole();
    assert_recorded(&gateway, &all);
    gateway.stop();
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_auditor_that_dies_while_the_disk_is_full_comes_back_when_there_is_space() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("disk");
    let Some(_disk) = SmallDisk::mount(&at, "size=8m") else { return };
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let audit_dir = Some(at.join("audit"));
    let options = Options { segment_mib: 1, audit_dir, ..Options::default() };
    let mut gateway = Gateway::start(&pki, service.address, options).await;
    let mut client = Client::http2(&pki, gateway.address, "teller").await;
    assert_eq!(client.get("/masked/ok").await.status, 200);
    let filler = at.join("filler");
    assert!(std::fs::write(&filler, vec![0; 16 << 20]).is_err());
    assert!(gateway.kill_role("auditor"));
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    let answer = client.get("/masked/ok").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(matches!(answer.code().as_str(), "MOAT-A002" | "MOAT-A003"), "{answer:?}");
    assert!(!gateway.is_ready());
    std::fs::remove_file(&filler).unwrap();
    gateway.wait_ready().await;
    assert_eq!(client.get("/masked/ok").await.status, 200);
    gateway.stop();
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_may_only_be_read_refuses_calls_until_it_may_be_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("disk");
    let Some(_disk) = SmallDisk::mount(&at, "size=16m") else { return };
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let audit_dir = Some(at.join("audit"));
    let options = Options { segment_mib: 1, audit_dir, ..Options::default() };
    let mut gateway = Gateway::start(&pki, service.address, options).await;
    let mut client = Client::http2(&pki, gateway.address, "teller").await;
    assert_eq!(client.get("/masked/ok").await.status, 200);
    let remount = |how: &str| {
        let done = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&at).output();
        done.unwrap().status.success()
    };
    // The kernel refuses while the auditor holds a segment open for writing: only between two
    // auditors can that happen.
    assert!(!remount("ro"));
    let auditor = gateway.role("auditor").unwrap();
    eventually("the file system is read-only", Duration::from_secs(5), || {
        gateway.kill_role("auditor");
        remount("ro").then_some(())
    })
    .await;
    let answer = client.get("/masked/ok").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(!gateway.is_ready());
    assert!(remount("rw"));
    gateway.wait_ready().await;
    assert_ne!(gateway.role("auditor"), Some(auditor));
    assert_eq!(client.get("/masked/ok").await.status, 200);
    gateway.stop();
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_under_way_when_the_auditor_dies_keeps_one_true_outcome() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let mut gateway = Gateway::start(&pki, service.address, Options::default()).await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    let mut pay = request("POST", "/write/slow", PAY);
    pay.headers_mut().insert("content-type", "application/json".parse().unwrap());
    let call = tokio::spawn(async move { client.send(pay).await.unwrap() });
    eventually("the service has the call", Duration::from_secs(5), || {
        (!service.paths().is_empty()).then_some(())
    })
    .await;
    assert!(gateway.kill_role("auditor"));
    let answer = call.await.unwrap();
    // The auditor came back, found an intent without outcome, and called it UNKNOWN; then the
    // gateway learnt what became of it.
    assert_eq!(answer.status, 200, "{answer:?}");
    let outcomes = gateway.records(Kind::Outcome);
    let outcomes: Vec<_> = outcomes.iter().filter_map(|body| body.outcome).collect();
    assert_eq!(outcomes, [Outcome::Unknown, Outcome::Committed]);
    gateway.stop();
    gateway.assert_whole();
    assert!(gateway.verify().unpaired.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_stands_still_does_not_hold_up_the_supervisor() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let mut gateway = Gateway::start(&pki, service.address, Options::default()).await;
    let (admin, role) = (gateway.role("admin").unwrap(), gateway.role("gateway").unwrap());
    kill_process(admin, Signal::STOP).unwrap();
    // Each is news for the admin role, which reads none of it.
    for _ in 0..400 {
        gateway.signal(Signal::HUP);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    gateway.signal(Signal::TERM);
    eventually("the gateway has ended", Duration::from_secs(10), || is_gone(role).then_some(()))
        .await;
    gateway.wait_ended();
    gateway.assert_whole();
}
