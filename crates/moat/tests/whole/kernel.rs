//! What the kernel refuses and tells, with the whole program around it.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use moat_audit::record::{Body, Kind};
use serde_json::Value;

use crate::support::{Client, Gateway, Options, Pki, Service, eventually, is_root, moat, say};

/// Nobody's (RFC 5737).
const FORBIDDEN: &str = "203.0.113.7:443";
const WAIT: Duration = Duration::from_secs(30);

/// Whether the guard can be in force here. In CI it must be.
fn has_guard() -> bool {
    if is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "the egress guard needs root");
    say("SKIPPED: the egress guard needs root");
    false
}

async fn start() -> (Pki, Service, Gateway) {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let gateway = Gateway::start(&pki, service.address, Options::default()).await;
    (pki, service, gateway)
}

async fn assert_served(pki: &Pki, gateway: &Gateway) {
    let mut client = Client::http1(pki, gateway.address, "teller").await;
    assert_eq!(client.get("/pass/1").await.status, 200);
}

fn attempt(gateway: &Gateway, address: &str) -> (i32, String) {
    let socket = gateway.socket.display().to_string();
    let (code, out, err) = moat(&["egress", "try", address, "--socket", &socket]);
    (code, out + &err)
}

/// Runs Python in the gateway's cgroup.
fn python(gateway: &Gateway, script: &str) -> Output {
    let cgroup = gateway.status()["kernel"]["cgroup"].as_str().unwrap().to_owned();
    let script = format!("open('{cgroup}/cgroup.procs', 'w').write('0')\n{script}");
    Command::new("python3").args(["-c", &script]).output().unwrap()
}

fn refusals(gateway: &Gateway) -> Vec<Body> {
    let records = gateway.records(Kind::Refusal);
    records.into_iter().filter(|body| body.object.starts_with("egress/")).collect()
}

fn count(egress: &Value, key: &str) -> u64 {
    egress[key].as_u64().unwrap_or(u64::MAX)
}

/// Waits until every refusal that the kernel has counted is on record; gives the guard's state.
async fn settled(gateway: &Gateway, least: u64) -> Value {
    let done = || {
        let egress = gateway.status()["kernel"]["egress"].clone();
        let told = count(&egress, "recorded").saturating_add(count(&egress, "lost"));
        let is_told = told == count(&egress, "refused") && told >= least && told < u64::MAX;
        is_told.then_some(egress)
    };
    eventually("every refusal on record", WAIT, done).await
}

/// The page of the probes' port.
fn metrics(gateway: &Gateway) -> String {
    let mut stream = TcpStream::connect(gateway.probes).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn sum_of(page: &str, metric: &str) -> u64 {
    let values = page.lines().filter(|line| line.starts_with(metric));
    values.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_reaches_its_services_and_nothing_else() {
    if !has_guard() {
        return;
    }
    let (pki, service, gateway) = start().await;
    assert_served(&pki, &gateway).await;
    let (code, said) = attempt(&gateway, &service.address.to_string());
    assert_eq!(code, 0, "{said}");
    let (code, said) = attempt(&gateway, FORBIDDEN);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("EACCES"), "{said}");
    settled(&gateway, 1).await;
    let [record] = <[Body; 1]>::try_from(refusals(&gateway)).unwrap();
    assert_eq!(
        (record.code.as_str(), record.object.as_str()),
        ("MOAT-E001", "egress/203.0.113.7:443/tcp")
    );
    for part in ["to=203.0.113.7:443/tcp", "name=-", "hook=connect", "comm=moat", "number=0"] {
        assert!(record.note.contains(part), "{}", record.note);
    }
    let page = metrics(&gateway);
    assert!(page.contains("moat_kernel_probe_attached{probe=\"egress\"} 1"), "{page}");
    eventually("the metric", WAIT, || {
        metrics(&gateway).contains("moat_net_blocked_total{dst=\"203.0.113.7\"} 1").then_some(())
    })
    .await;
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_changes_what_may_be_reached_and_a_bad_list_changes_nothing() {
    if !has_guard() {
        return;
    }
    let (pki, service, gateway) = start().await;
    assert_eq!(attempt(&gateway, "127.0.0.9:1").0, 1);
    gateway.edit_config("kind: Gateway", "kind: Gateway\negress: { allow: [\"127.0.0.8/31:1\"] }");
    let (code, said) = gateway.reload();
    assert_eq!(code, 0, "{said}");
    eventually("the new list", WAIT, || (attempt(&gateway, "127.0.0.9:1").0 == 0).then_some(()))
        .await;
    assert_eq!(attempt(&gateway, "127.0.0.9:2").0, 1);
    let socket = gateway.socket.display().to_string();
    let listed = || {
        let (code, out, _) = moat(&["egress", "list", "--socket", &socket]);
        (code == 0 && out.contains("127.0.0.8/31:1") && out.contains(&service.address.to_string()))
            .then_some(())
    };
    eventually("the list is shown", WAIT, listed).await;
    // A name is refused as a whole, and the list in force stays.
    gateway.edit_config("127.0.0.8/31:1", "ocsp.bank.test:80");
    let (code, said) = gateway.reload();
    assert!(code == 78 && said.contains("names are not looked up"), "{said}");
    assert_eq!(attempt(&gateway, "127.0.0.9:1").0, 0);
    gateway.edit_config("[\"ocsp.bank.test:80\"]", "[]");
    assert_eq!(gateway.reload().0, 0);
    eventually("the list before", WAIT, || (attempt(&gateway, "127.0.0.9:1").0 == 1).then_some(()))
        .await;
    assert_served(&pki, &gateway).await;
}

/// As fast as one program can.
const STORM: &str = "
import socket
s = socket.socket()
for n in range(100000):
    try:
        s.connect((\"203.0.113.%d\" % (n % 3), 443))
    except PermissionError:
        continue
    raise SystemExit(1)
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_attempts_is_counted_measured_and_recorded_alike() {
    if !has_guard() {
        return;
    }
    let (_pki, _service, gateway) = start().await;
    let out = python(&gateway, STORM);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let egress = settled(&gateway, 100_000).await;
    let (refused, lost) = (count(&egress, "refused"), count(&egress, "lost"));
    assert_eq!(refused, 100_000);
    let records = refusals(&gateway);
    let single = records.iter().filter(|body| body.code == "MOAT-E001").count() as u64;
    let told: u64 = records
        .iter()
        .filter(|body| body.code == "MOAT-E002")
        .map(|body| {
            body.note
                .split("lost=")
                .nth(1)
                .unwrap()
                .split(':')
                .next()
                .unwrap()
                .parse::<u64>()
                .unwrap()
        })
        .sum();
    say(&format!("100000 refused: {single} records of their own, {told} summed up as lost"));
    assert_eq!((single, told), (count(&egress, "recorded"), lost));
    assert_eq!(single + told, refused);
    let page = metrics(&gateway);
    assert_eq!(sum_of(&page, "moat_net_blocked_total{"), refused, "{page}");
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kernel_role_that_is_killed_leaves_the_guard_and_no_gap_in_the_records() {
    if !has_guard() {
        return;
    }
    let (pki, _service, gateway) = start().await;
    for _ in 0..3 {
        assert!(gateway.kill_role("kernel"));
        for _ in 0..5 {
            let out = python(
                &gateway,
                "import socket\nprint(socket.socket().connect_ex(('203.0.113.9', 1)))",
            );
            assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "13", "{out:?}");
        }
        eventually("the role is back", WAIT, || gateway.is_ready().then_some(())).await;
    }
    let egress = settled(&gateway, 15).await;
    assert_eq!((count(&egress, "refused"), count(&egress, "recorded")), (15, 15), "{egress}");
    assert_eq!(refusals(&gateway).len(), 15);
    // Its successor can still change the list.
    gateway.edit_config("kind: Gateway", "kind: Gateway\negress: { allow: [\"127.0.0.9\"] }");
    assert_eq!(gateway.reload().0, 0);
    eventually("the new list", WAIT, || (attempt(&gateway, "127.0.0.9:1").0 == 0).then_some(()))
        .await;
    assert_served(&pki, &gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guard_outlives_moat_and_goes_with_a_proper_end() {
    if !has_guard() {
        return;
    }
    let (_pki, _service, mut gateway) = start().await;
    let cgroup = gateway.status()["kernel"]["cgroup"].as_str().unwrap().to_owned();
    let pins = format!("/sys/fs/bpf/{}", Path::new(&cgroup).file_name().unwrap().display());
    let attempt = format!(
        "open('{cgroup}/cgroup.procs', 'w').write('0')\nimport socket\n\
         print(socket.socket().connect_ex(('203.0.113.9', 1)))"
    );
    gateway.kill();
    let out = Command::new("python3").args(["-c", &attempt]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "13", "{out:?}");
    gateway.start_again().await;
    // What was refused while nobody was there is on record all the same.
    let egress = settled(&gateway, 1).await;
    assert_eq!(count(&egress, "recorded"), 1);
    assert!(Path::new(&pins).exists());
    gateway.stop();
    assert!(!Path::new(&pins).exists() && !Path::new(&cgroup).exists(), "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_bears_the_name_that_a_dns_answer_gave() {
    if !has_guard() {
        return;
    }
    let (_pki, _service, gateway) = start().await;
    // Port 53 of an address that no other test has.
    let number = std::process::id();
    let address = format!("127.53.{}.{}", number >> 8 & 0xff, number & 0xff);
    let resolver = UdpSocket::bind((address.as_str(), 53)).unwrap();
    std::thread::spawn(move || {
        let mut question = [0; 512];
        let (length, from) = resolver.recv_from(&mut question).unwrap();
        let mut answer = question[..length].to_vec();
        answer[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1]);
        answer.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xcb\x00\x71\x63");
        resolver.send_to(&answer, from).unwrap();
    });
    let allow = format!("kind: Gateway\negress: {{ allow: [\"udp:{address}:53\"] }}");
    gateway.edit_config("kind: Gateway", &allow);
    assert_eq!(gateway.reload().0, 0);
    let script = format!(
        "import socket\nd = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         d.sendto(b'\\x12\\x34\\x01\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x03163\\x03com\\x00\\x00\\x01\\x00\\x01', ('{address}', 53))\n\
         a = d.recv(512)[-4:]\n\
         print(socket.socket().connect_ex((socket.inet_ntoa(a), 443)))"
    );
    let out = eventually("the resolver is allowed", WAIT, || {
        let out = python(&gateway, &script);
        out.status.success().then_some(out)
    })
    .await;
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "13", "{out:?}");
    let record = gateway.record("the refusal", |body| body.note.contains("name=163.com")).await;
    assert_eq!(record.object, "egress/203.0.113.99:443/tcp");
    eventually("the metric", WAIT, || {
        metrics(&gateway).contains("moat_net_blocked_total{dst=\"163.com\"} 1").then_some(())
    })
    .await;
}

#[test]
fn the_doctor_tries_every_part() {
    if !has_guard() {
        return;
    }
    let (code, out, err) = moat(&["doctor", "-o", "json"]);
    assert!(code == 0 || code == 4, "{code} {out}{err}");
    let lines: Value = serde_json::from_str(&out).unwrap();
    let probes = ["egress", "tls_records", "behaviour", "latency"];
    for name in ["root", "kernel", "btf", "cgroup", "pins"].into_iter().chain(probes) {
        let line = lines.as_array().unwrap().iter().find(|line| line["name"] == name).unwrap();
        assert_eq!(line["holds"], true, "{line}");
    }
}

#[test]
fn without_privilege_the_doctor_says_so() {
    if !has_guard() {
        return;
    }
    let program = env!("CARGO_BIN_EXE_moat");
    let as_nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", program, "doctor"];
    // The folder of the build may be closed to others; then this cannot be tried.
    let Ok(out) = Command::new("setpriv").args(as_nobody).output() else { return };
    if out.status.code() == Some(127) || out.status.code() == Some(126) {
        return;
    }
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(4), "{said}");
    assert!(said.contains("[-] root") && said.contains("MOAT-E003"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policy_and_record_are_told_what_the_wire_showed() {
    if !has_guard() {
        return;
    }
    let (pki, _service, mut gateway) = start().await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    assert_eq!(client.get("/pass/1").await.status, 200);
    let before = gateway.records(Kind::Read).pop().unwrap();
    assert!(before.wire.is_empty() && before.ja4.starts_with("t13"), "{before:?}");
    drop(client);
    gateway.stop();
    // The loopback device is an interface like others; it has no driver, so this is the slow way.
    let wire = "kind: Gateway\nkernel: { require: [egress, tls_records], tls_records: { interfaces: [lo] } }";
    gateway.edit_config("kind: Gateway", wire);
    let rule = "allow if {\n\tinput.peer.spiffe\n\tinput.kernel.state in {\"seen\", \"partial\"}\n\tinput.kernel.ttl == 64\n\tstartswith(input.peer.ja4, \"t13\")\n}";
    let policy = format!("package authz\n\ndefault allow := false\n\n{rule}\n");
    std::fs::write(gateway.dir.path().join("policy/authz.rego"), policy).unwrap();
    gateway.start_again().await;
    // A sight that comes after the handshake is absent, and then the rule denies: most come before.
    let mut allowed = 0;
    for _ in 0..20 {
        let mut client = Client::http1(&pki, gateway.address, "teller").await;
        allowed += u32::from(client.get("/pass/1").await.status == 200);
    }
    assert!(allowed >= 15, "{allowed} of 20");
    let records = gateway.records(Kind::Read);
    let record = records.last().unwrap();
    assert_eq!(record.ja4, before.ja4, "the same client");
    assert!(
        record.wire.contains("ttl=64") && record.wire.contains("options=2-4-8-1-3"),
        "{record:?}"
    );
    assert!(record.unguarded.is_empty());
    eventually("the metric", WAIT, || {
        let page = metrics(&gateway);
        (sum_of(&page, "moat_wire_seen_total{what=\"hello\"}") >= 20).then_some(())
    })
    .await;
    // Something else than TLS is told, and not dropped: that was not asked for.
    let mut plain = TcpStream::connect(gateway.address).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    gateway.record("the verdict", |body| body.code == "MOAT-E006").await;
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_required_look_at_no_interface_stops_the_start() {
    if !has_guard() {
        return;
    }
    let (_pki, _service, mut gateway) = start().await;
    gateway.stop();
    let path = gateway.dir.path().join("moat.yaml").display().to_string();
    gateway.edit_config("kind: Gateway", "kind: Gateway\nkernel: { require: [tls_records] }");
    let (code, out, err) = moat(&["check", &path]);
    assert!(code == 78 && err.contains("MOAT-C004"), "{out}{err}");
    let nowhere = "require: [tls_records], tls_records: { interfaces: [nowhere0] }";
    gateway.edit_config("require: [tls_records]", nowhere);
    let (code, out, err) = moat(&["serve", "--config", &path]);
    assert!(code != 0 && (err.contains("MOAT-E003") || out.contains("MOAT-E003")), "{out}{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_role_has_no_business_doing_is_counted_and_on_record() {
    if !has_guard() {
        return;
    }
    let (pki, _service, gateway) = start().await;
    assert_served(&pki, &gateway).await;
    let evidence = || -> Vec<(String, u64, u64, u64)> {
        let rows = gateway.status()["kernel"]["behaviour"].clone();
        let rows = rows.as_array().cloned().unwrap_or_default();
        let row = |row: &Value| {
            let name = row["role"].as_str().unwrap_or_default().to_owned();
            (name, count(row, "exec"), count(row, "fork"), count(row, "forbidden"))
        };
        rows.iter().map(row).collect()
    };
    let clean = ["gateway", "auditor", "admin", "kernel"].map(|role| (role.to_owned(), 0, 0, 0));
    eventually("evidence of every role", WAIT, || (evidence() == clean).then_some(())).await;
    // Only the auditor opens anything, and only what is in the log's folder.
    let rows = gateway.status()["kernel"]["behaviour"].clone();
    for row in rows.as_array().unwrap() {
        let is_auditor = row["role"] == "auditor";
        assert!(is_auditor || count(row, "open") == 0, "{row}");
        assert_eq!((count(row, "refused"), count(row, "capability")), (0, 0), "{row}");
        for path in row["paths"].as_array().unwrap() {
            let path = path[0].as_str().unwrap();
            assert!(!path.starts_with('/') && !path.contains(".."), "{row}");
        }
    }
    let out = python(&gateway, "import subprocess\nsubprocess.run(['/bin/true'])");
    assert!(out.status.success(), "{out:?}");
    let record = gateway.record("the program", |body| body.note.contains("act=exec")).await;
    assert_eq!((record.code.as_str(), record.object.as_str()), ("MOAT-E009", "role/gateway"));
    assert!(record.note.contains("path=/bin/true"), "{}", record.note);
    gateway.record("the process", |body| body.note.contains("act=fork")).await;
    // One that is no longer root opens a path, and is refused another.
    let opens = "import os\nos.setuid(65534)\nopen('/etc/hostname')\n\
                 try: open('/etc/shadow')\nexcept PermissionError: pass";
    let out = python(&gateway, opens);
    assert!(out.status.success(), "{out:?}");
    let fits = |part: &'static str, path: &'static str| {
        move |body: &Body| body.note.contains(part) && body.note.contains(path)
    };
    gateway.record("the opened path", fits("act=open call=openat", "path=/etc/hostname")).await;
    gateway.record("the refused path", fits("act=refused call=openat", "path=/etc/shadow")).await;
    // A process in the gateway's jail that does what only an intruder would.
    let moat = env!("CARGO_BIN_EXE_moat");
    let act = format!(
        "import os\nos.execv('{moat}', ['moat', 'act', 'gateway', 'execute a program', '/tmp'])"
    );
    let out = python(&gateway, &act);
    assert!(!out.status.success(), "{out:?}");
    gateway.record("the forbidden call", fits("act=forbidden", "call=execve")).await;
    eventually("the counts", WAIT, || {
        let rows = evidence();
        (rows[0] == ("gateway".to_owned(), 2, 1, 1) && rows[1..] == clean[1..]).then_some(())
    })
    .await;
    gateway.assert_whole();
}
