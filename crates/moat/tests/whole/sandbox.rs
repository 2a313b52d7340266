//! What each role may still do once it runs.

use std::collections::HashSet;
use std::time::Duration;

use moat_kernel::{Role, SELDOM, allowed_calls};

use crate::support::{
    Client, Gateway, Options, Pki, Service, eventually, is_root, moat, proc_status, say,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_role_has_given_up_its_rights() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let gateway = Gateway::start(&pki, service.address, Options::default()).await;
    let mut users = HashSet::new();
    let kernel = is_root().then_some("kernel");
    for role in ["gateway", "auditor", "admin"].into_iter().chain(kernel) {
        let pid = gateway.role(role).unwrap();
        let uids = proc_status(pid, "Uid");
        let uids: Vec<&str> = uids.split_whitespace().collect();
        assert!(uids.iter().all(|uid| *uid == uids[0]), "{role}: {uids:?}");
        users.insert(uids[0].to_owned());
        assert_eq!(proc_status(pid, "NoNewPrivs"), "1", "{role}");
        assert_eq!(proc_status(pid, "Seccomp"), "2", "{role}");
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            let rights = u64::from_str_radix(&proc_status(pid, set), 16).unwrap();
            assert!(rights == 0 || !is_root(), "{role}: {set} {rights:x}");
        }
        if is_root() {
            assert_eq!(proc_status(pid, "Groups"), "", "{role} keeps groups");
        }
        // Every thread, not only the first.
        for thread in std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap() {
            let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            assert!(status.contains("Seccomp:\t2\n"), "{role}: {status}");
            assert!(status.contains("NoNewPrivs:\t1\n"), "{role}: {status}");
        }
    }
    if is_root() {
        assert_eq!(users, ["64001", "64002", "64003", "64006"].map(str::to_owned).into());
    }
}

#[test]
fn every_role_can_do_what_the_table_says_and_nothing_else() {
    let (code, out, err) = moat(&["doctor", "--matrix", "-o", "json"]);
    let cells: serde_json::Value = serde_json::from_str(&out).unwrap();
    let cells = cells.as_array().unwrap();
    assert!(cells.len() >= 76, "{out}{err}");
    let wrong: Vec<_> = cells.iter().filter(|cell| cell["holds"] != true).collect();
    // Without Landlock the auditor may read; that is said by `moat status` and the doctor.
    if moat_kernel::try_landlock().is_none() {
        say("SKIPPED: there is no Landlock here");
        return;
    }
    assert!(wrong.is_empty() && code == 0, "{wrong:#?}");
}

/// `moat serve`, which is to end by itself with this code.
fn assert_refuses_to_start(gateway: &Gateway, code: &str) {
    let path = gateway.dir.path().join("moat.yaml").display().to_string();
    let (status, out, err) = moat(&["serve", "--config", &path]);
    assert_ne!(status, 0);
    assert!(err.contains(code) || out.contains(code), "{out}{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prod_wants_all_of_landlock_or_a_word_that_less_is_enough() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let mut gateway = Gateway::start(&pki, service.address, Options::default()).await;
    let roles = gateway.status()["roles"].clone();
    let landlock = roles[0]["landlock"].as_str().unwrap().to_owned();
    gateway.stop();
    gateway.make_prod();
    say(&format!("Landlock is enforced here: {landlock}"));
    if landlock == "none" {
        assert_refuses_to_start(&gateway, "MOAT-S003");
    }
    if landlock == "partial" {
        assert_refuses_to_start(&gateway, "MOAT-S008");
    }
    gateway.edit_config("kind: Gateway", "kind: Gateway\nsandbox: { landlock: partial }");
    if landlock == "none" {
        assert_refuses_to_start(&gateway, "MOAT-S003");
    } else {
        gateway.start_again().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prod_does_not_start_with_a_key_that_others_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let mut gateway = Gateway::start(&pki, service.address, Options::default()).await;
    gateway.stop();
    let key = gateway.dir.path().join("pki/gateway.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let path = gateway.dir.path().join("moat.yaml").display().to_string();
    let (code, out, err) = moat(&["check", &path]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(err.contains("MOAT-C018") && err.contains("chmod 600"), "{err}");
    gateway.start_again().await;
    assert!(gateway.said().contains("MOAT-C018"), "{}", gateway.said());
    gateway.stop();
    gateway.make_prod();
    let (code, out, err) = moat(&["check", &path]);
    assert_eq!(code, 78, "{out}{err}");
    assert!(err.contains("MOAT-C018"), "{err}");
    assert_refuses_to_start(&gateway, "MOAT-C018");
}

/// A cgroup of each of these roles, beside the gateway's own.
const WATCHED: [&str; 4] = ["gateway", "auditor", "admin", "kernel"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_system_call_is_on_a_roles_list_without_need() {
    if !is_root() {
        assert!(std::env::var_os("CI").is_none(), "system calls are watched by root");
        return say("SKIPPED: system calls are watched by root");
    }
    let pki = Pki::new();
    let service = Service::start(&pki, &["h2", "http/1.1"]).await;
    let options = Options { protocol: "auto", segment_mib: 1, ..Options::default() };
    let gateway = Gateway::start(&pki, service.address, options).await;
    let own = gateway.status()["kernel"]["cgroup"].as_str().unwrap().to_owned();
    let others = WATCHED[1..].iter().map(|role| format!("{own}-{role}").into());
    let cgroups: Vec<_> = [own.clone().into()].into_iter().chain(others).collect();
    let calls = moat_kernel::observe::Calls::watch(&cgroups).unwrap();
    // What roles do at their start is seen too: each begins again. A role is put into its cgroup just
    // after its start, so on a busy machine its first calls may be missed: then it begins once more.
    let mut idle = vec![String::new()];
    for _ in 0..5 {
        if idle.is_empty() {
            break;
        }
        use_every_role(&gateway, &pki).await;
        idle = calls_not_made(&calls);
    }
    assert!(idle.is_empty(), "allowed and not made: {}", idle.join(", "));
}

/// Starts each role again and lets it do what it does in a day.
async fn use_every_role(gateway: &Gateway, pki: &Pki) {
    for role in WATCHED {
        let before = gateway.role(role).unwrap();
        assert!(gateway.kill_role(role));
        let is_back = || {
            let is_another = gateway.role(role).is_some_and(|now| now != before);
            (is_another && gateway.is_ready()).then_some(())
        };
        eventually("the role is back", Duration::from_secs(30), is_back).await;
    }
    for _ in 0..30 {
        let mut client = Client::http1(pki, gateway.address, "teller").await;
        assert_eq!(client.get("/pass/1").await.status, 200);
    }
    let _ = moat(&["egress", "try", "203.0.113.7:443", "--socket", &gateway.socket()]);
    let (code, said) = gateway.reload();
    assert_eq!(code, 0, "{said}");
    let _ = moat(&["heap", "--socket", &gateway.socket()]);
    let _ = gateway.probe("/metrics");
    tokio::time::sleep(Duration::from_secs(3)).await;
}

/// Allowed and neither made since the watch began nor known to be seldom.
fn calls_not_made(calls: &moat_kernel::observe::Calls) -> Vec<String> {
    let roles = [Role::Gateway, Role::Auditor, Role::Admin, Role::Kernel];
    let mut idle = Vec::new();
    for (number, role) in (0..).zip(roles) {
        let made = calls.made(number).unwrap();
        for call in allowed_calls(role).unwrap() {
            let is_seldom = SELDOM.iter().any(|(seldom, _)| *seldom == call);
            if !made.contains(&call) && !is_seldom {
                idle.push(format!("{}: {call}", WATCHED[number as usize]));
            }
        }
    }
    idle
}
