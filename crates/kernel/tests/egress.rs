//! The egress guard in the running kernel: real processes in a real cgroup.
#![cfg(feature = "bpf")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "tests")]

mod support;

use std::net::{IpAddr, TcpListener, UdpSocket};

use moat_kernel::egress::{Counts, Guard, Hook, Refused};
use moat_model::egress::Rule;
use support::{Site, has_bpf};

fn rules(texts: &[&str]) -> Vec<Rule> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn refused(guard: &mut Guard) -> Vec<Refused> {
    std::iter::from_fn(|| guard.take()).map(Option::unwrap).collect()
}

/// Python says more of errors than a shell does.
fn python(site: &Site, script: &str) -> String {
    let out = site.run(&format!("exec python3 -c '{script}'"));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

const TRY: &str = r#"
import socket, errno, sys
def tcp(host, port, family=socket.AF_INET):
    s = socket.socket(family, socket.SOCK_STREAM)
    s.settimeout(2)
    code = s.connect_ex((host, port))
    return errno.errorcode.get(code, "OK")
def udp(host, port, family=socket.AF_INET):
    s = socket.socket(family, socket.SOCK_DGRAM)
    try:
        s.sendto(b"x", (host, port))
        return "OK"
    except OSError as e:
        return errno.errorcode[e.errno]
"#;

#[test]
fn only_what_is_on_the_list_can_be_reached_and_each_refusal_is_told() {
    if !has_bpf() {
        return;
    }
    let site = Site::new();
    let mut guard = Guard::attach(site.cgroup.path(), &site.pins).unwrap();
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = open.local_addr().unwrap().port();
    let six = TcpListener::bind("[::1]:0").unwrap();
    let six_port = six.local_addr().unwrap().port();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp_port = datagrams.local_addr().unwrap().port();
    let tries = format!(
        "{TRY}\nprint(tcp(\"127.0.0.1\", {port}), tcp(\"::1\", {six_port}, socket.AF_INET6), \
         tcp(\"::ffff:127.0.0.1\", {port}, socket.AF_INET6), udp(\"127.0.0.1\", {udp_port}), \
         udp(\"::ffff:127.0.0.1\", {udp_port}, socket.AF_INET6), tcp(\"192.0.2.1\", 443))"
    );
    // Nothing is allowed at first: a guard without a list refuses everything.
    assert_eq!(python(&site, &tries), "EACCES EACCES EACCES EACCES EACCES EACCES");
    let told = refused(&mut guard);
    let wanted: IpAddr = "127.0.0.1".parse().unwrap();
    assert_eq!(told.len(), 6);
    assert_eq!((told[0].address, told[0].port, told[0].protocol), (wanted, port, 6));
    assert_eq!((told[0].hook, told[3].hook), (Hook::Connect, Hook::Send));
    assert_eq!((told[1].address, told[2].address), ("::1".parse().unwrap(), wanted));
    assert_eq!((told[4].address, told[4].protocol), (wanted, 17));
    assert!(told.iter().all(|one| one.comm == "python3" && one.pid > 0), "{told:?}");
    assert_eq!(guard.counts().unwrap(), Counts { allowed: 0, refused: 6, lost: 0 });

    let list = rules(&[
        &format!("127.0.0.0/8:{port}"),
        &format!("[::1]:{six_port}"),
        &format!("udp:127.0.0.1:{udp_port}"),
    ]);
    guard.allow(&list, false).unwrap();
    assert_eq!(python(&site, &tries), "OK OK OK OK OK EACCES");
    // Another port, another protocol, another prefix.
    let others = format!(
        "{TRY}\nprint(tcp(\"127.0.0.1\", {}), udp(\"127.0.0.1\", {port}), tcp(\"::2\", {six_port}, \
         socket.AF_INET6), tcp(\"0.0.0.0\", {port}))",
        port ^ 1
    );
    assert_eq!(python(&site, &others), "EACCES EACCES EACCES EACCES");
    assert_eq!(refused(&mut guard).len(), 5);
    guard.allow(&rules(&["127.0.0.1", "::1", "udp:127.0.0.1"]), false).unwrap();
    assert_eq!(python(&site, &tries), "OK OK OK OK OK EACCES", "every port");
    guard.allow(&[], false).unwrap();
    assert_eq!(python(&site, &tries), "EACCES EACCES EACCES EACCES EACCES EACCES");
}

#[test]
fn an_observing_guard_lets_pass_and_tells() {
    if !has_bpf() {
        return;
    }
    let site = Site::new();
    let mut guard = Guard::attach(site.cgroup.path(), &site.pins).unwrap();
    guard.allow(&[], true).unwrap();
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = open.local_addr().unwrap().port();
    assert_eq!(python(&site, &format!("{TRY}\nprint(tcp(\"127.0.0.1\", {port}))")), "OK");
    assert_eq!(refused(&mut guard).len(), 1);
    let seen: Vec<_> = guard.seen().collect();
    assert_eq!((seen.len(), seen[0].1, seen[0].3.refused), (1, port, 1));
}

#[test]
fn the_guard_outlives_its_process_and_is_taken_over_with_its_counts() {
    if !has_bpf() {
        return;
    }
    let site = Site::new();
    let attempt = format!("{TRY}\nprint(tcp(\"192.0.2.1\", 443))");
    let mut guard = Guard::attach(site.cgroup.path(), &site.pins).unwrap();
    guard.allow(&rules(&["198.51.100.0/24"]), false).unwrap();
    assert_eq!(python(&site, &attempt), "EACCES");
    drop(guard);
    assert_eq!(python(&site, &attempt), "EACCES", "nobody holds it, and it is in force");
    let mut guard = Guard::attach(site.cgroup.path(), &site.pins).unwrap();
    assert_eq!(guard.counts().unwrap().refused, 2);
    assert_eq!(refused(&mut guard).len(), 2, "the events have waited");
    assert_eq!(python(&site, &attempt), "EACCES");
    assert_eq!(refused(&mut guard).len(), 1, "the programs are not attached twice");
}

#[test]
fn another_object_takes_the_place_of_the_old_one_without_a_gap() {
    if !has_bpf() {
        return;
    }
    let site = Site::new();
    drop(Guard::attach(site.cgroup.path(), &site.pins).unwrap());
    let own = std::fs::read_dir(&site.pins).unwrap().next().unwrap().unwrap().path();
    let old = site.pins.join("0123456789abcdef");
    std::fs::rename(&own, &old).unwrap();
    let mut guard = Guard::attach(site.cgroup.path(), &site.pins).unwrap();
    assert!(!old.exists() && own.exists());
    assert_eq!(python(&site, &format!("{TRY}\nprint(tcp(\"192.0.2.1\", 443))")), "EACCES");
    assert_eq!(refused(&mut guard).len(), 1);
}

/// One socket, many attempts: as fast as a program can go.
const STORM: &str = r#"
import socket
s = socket.socket()
for _ in range(100000):
    s.connect_ex(("192.0.2.1", 443))
"#;

#[test]
fn events_that_find_no_room_are_counted() {
    if !has_bpf() {
        return;
    }
    let site = Site::new();
    let mut guard = Guard::attach(site.cgroup.path(), &site.pins).unwrap();
    python(&site, STORM);
    let counts = guard.counts().unwrap();
    assert_eq!(counts.refused, 100_000);
    let told = refused(&mut guard).len() as u64;
    assert!(counts.lost > 0 && told > 10_000, "{told} {counts:?}");
    assert_eq!(told + counts.lost, counts.refused);
}

#[test]
fn a_packet_that_came_by_no_checked_call_is_dropped() {
    if !has_bpf() {
        return;
    }
    let site = Site::new();
    let mut guard = Guard::attach(site.cgroup.path(), &site.pins).unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    datagrams.set_nonblocking(true).unwrap();
    let port = datagrams.local_addr().unwrap().port();
    // Connected before it was in the cgroup: no call is left to be checked.
    let script = format!(
        "exec python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((\"127.0.0.1\", {port}))
open(\"{}/cgroup.procs\", \"w\").write(\"0\")
t = socket.socket(socket.AF_INET, socket.SOCK_RAW, 253)
try:
    t.sendto(b\"x\", (\"127.0.0.1\", 0))
except OSError as e:
    print(e.errno)
'",
        site.cgroup.path().display()
    );
    let out = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "1", "EPERM");
    let told = refused(&mut guard);
    assert_eq!((told.len(), told[0].hook, told[0].protocol), (1, Hook::Packet, 253));
}
