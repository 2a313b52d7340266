//! `moat bench` beside its peers: that it runs, that its rows are whole, that it clears away.
//! No goal is asserted here: a machine that runs tests is busy.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{eventually, moat, say};

const MOAT: &str = env!("CARGO_BIN_EXE_moat");
/// Longest wait for the bench to have started something, or to have ended.
const WAIT: Duration = Duration::from_secs(40);

/// A folder that is not there, on the disk of the build.
fn folder(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

/// Whether the bench ended because a peer is missing; an error where CI promises them.
fn is_skipped(said: &str) -> bool {
    if !said.contains("is missing") {
        return false;
    }
    assert!(std::env::var("CI").is_err(), "CI promises the peers: {said}");
    say(&format!("SKIPPED: {said}"));
    true
}

/// Runs a topic and checks that each row has every key; none when a peer is missing.
fn rows(name: &str, arguments: &[&str]) -> Option<Vec<Value>> {
    let dir = folder(name);
    let shown = dir.display().to_string();
    let (code, out, said) = moat(&[arguments, &["--dir", &shown, "-o", "json"]].concat());
    if is_skipped(&said) {
        return None;
    }
    assert!(code == 0 || code == 1, "{code}\n{said}");
    assert!(!dir.exists(), "the folder stayed");
    let rows: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!rows.is_empty(), "no rows:\n{said}");
    let is_good = rows.iter().all(|row| row["holds"] != false);
    assert_eq!(code == 0, is_good, "the exit code says whether all goals hold\n{out}");
    for row in &rows {
        let keys: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        let wanted = ["figure", "value", "unit", "peer", "peer_value", "ratio", "goal", "holds"];
        assert_eq!(keys, wanted);
        assert!(row["value"].is_number(), "{row}");
        assert_eq!(row["peer"].is_null(), row["ratio"].is_null(), "{row}");
        assert_eq!(row["goal"].is_null(), row["holds"].is_null(), "{row}");
    }
    Some(rows)
}

#[test]
fn the_kernels_programs_are_measured() {
    if !crate::support::is_root() {
        say("SKIPPED: the kernel's programs are loaded by root");
        return;
    }
    let (code, out, said) = moat(&["bench", "kernel", "--rounds", "1", "-o", "json"]);
    assert!(code == 0 || code == 1, "{said}");
    let rows: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(row(&rows, "XDP, packet of an open connection")["goal"], "at most 150");
    let connect = row(&rows, "connect() by TCP, with the guard");
    assert!(connect["peer_value"].as_f64().unwrap() > 0.0, "{connect}");
}

fn row<'a>(rows: &'a [Value], figure: &str) -> &'a Value {
    let found = rows.iter().find(|row| row["figure"] == figure);
    found.unwrap_or_else(|| panic!("no row {figure}: {rows:?}"))
}

#[test]
fn decisions_for_envoy_are_measured_beside_a_server_that_allows_everything() {
    let arguments = ["bench", "ext-authz", "--requests", "50", "--rounds", "1"];
    let Some(rows) = rows("ext-authz", &arguments) else { return };
    assert_eq!(row(&rows, "More than allow-all, p50")["goal"], "at most 30");
    assert_eq!(row(&rows, "Call through Envoy, recorded, p50")["peer"], "allow-all");
}

#[test]
fn new_connections_are_measured_beside_envoy() {
    let arguments = ["bench", "envoy-handshake", "--requests", "50", "--rounds", "1"];
    let Some(rows) = rows("envoy-handshake", &arguments) else { return };
    let row = row(&rows, "CPU a connection, lists and SPIFFE");
    assert_eq!(
        (&row["peer"], &row["goal"]),
        (&"Envoy 1.40.0".into(), &"ratio at most 0.75".into())
    );
}

#[test]
fn calls_are_measured_beside_nginx_and_each_has_its_record() {
    let arguments = ["bench", "gateway", "--requests", "2000", "--rounds", "1"];
    let Some(rows) = rows("bench-gateway", &arguments) else { return };
    for figure in ["CPU a call", "p50 of a call", "p99 of a call", "calls a second"] {
        let row = row(&rows, figure);
        assert!(row["value"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["peer_value"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["peer"].as_str().unwrap().starts_with("nginx "), "{row}");
    }
    assert_eq!(row(&rows, "CPU a call")["goal"], "ratio at most 1.6");
    // The round, a call on each connection, a thousand before, one that shows masked fields.
    assert_eq!(row(&rows, "records in the verified log")["value"], 3065.0);
    row(&rows, "gateway memory");
    row(&rows, "gateway memory growth");
}

#[test]
fn handshakes_are_measured_beside_nginx() {
    let arguments = ["bench", "handshake", "--requests", "100", "--rounds", "1"];
    let Some(rows) = rows("bench-handshake", &arguments) else { return };
    assert_eq!(row(&rows, "CPU a connection")["goal"], "ratio at most 0.7");
    // By callers that have it; nginx may not.
    let hybrid = row(&rows, "CPU a connection, X25519MLKEM768");
    assert!(hybrid["value"].as_f64().unwrap() > 0.0 && hybrid["peer"].is_null(), "{hybrid}");
    // A round of each group, a thousand before, one that shows masked fields.
    assert_eq!(row(&rows, "records in the verified log")["value"], 1201.0);
    assert_eq!(row(&rows, "records in the verified log")["ratio"], 1.0);
}

#[test]
fn the_start_is_measured_beside_nginx() {
    let Some(rows) = rows("bench-start", &["bench", "start", "--rounds", "2"]) else { return };
    assert_eq!(row(&rows, "start to ready, median")["goal"], "at most 300");
}

#[test]
fn messages_are_measured_beside_other_crates() {
    let arguments = ["bench", "message", "--rounds", "1", "--round-ms", "5"];
    let Some(rows) = rows("bench-message", &arguments) else { return };
    for (figure, peer, goal) in [
        ("ASCII strict, known shape", "iso_8583_rs", "ratio at least 3"),
        ("ASCII strict, new shape", "iso_8583_rs", "ratio at least 1.2"),
        ("BCD strict, known shape", "ASCII", "ratio at least 0.5"),
        ("DER certificate", "asn1", "ratio at least 1"),
        ("pacs.008 masked", "read only", "ratio at least 0.7"),
    ] {
        let row = row(&rows, figure);
        assert_eq!((&row["peer"], &row["goal"]), (&peer.into(), &goal.into()), "{row}");
    }
    assert_eq!(row(&rows, "EMV TLV, 25 tags")["goal"], "at least 1000");
}

#[test]
fn national_algorithms_are_measured_beside_openssl_and_tongsuo() {
    let arguments = ["bench", "sm", "--rounds", "1", "--round-ms", "5"];
    let Some(rows) = rows("bench-sm", &arguments) else { return };
    for (figure, peer, goal) in [
        ("SM2 sign a message", "Tongsuo 8.5.0", "ratio at least 4"),
        ("SM2 verify a message", "Tongsuo 8.5.0", "ratio at least 1.5"),
        ("SM2 ECDH", "Tongsuo 8.5.0", "ratio at least 1.5"),
        ("SM3 16 KiB", "OpenSSL 4.0.3", "ratio at least 1.1"),
        ("SM3 1,024 leaves of 256 bytes", "one by one", "ratio at least 3"),
        ("national mutual handshakes", "moat international", "ratio at least 0.5"),
    ] {
        let row = row(&rows, figure);
        assert_eq!((&row["peer"], &row["goal"]), (&peer.into(), &goal.into()), "{row}");
    }
    assert!(rows.iter().all(|row| row["ratio"].as_f64().unwrap() > 0.0), "{rows:?}");
}

#[test]
fn missing_libraries_are_an_error_that_says_what_builds_them() {
    let place = tempfile::tempdir().unwrap();
    let (cache, dir) = (place.path().display(), place.path().join("new"));
    let shown = dir.display().to_string();
    let arguments = ["bench", "sm", "--peers", &cache.to_string(), "--dir", &shown];
    let (code, out, said) = moat(&arguments);
    assert_eq!((code, out.as_str()), (1, ""), "{said}");
    let is_told = said.contains("OpenSSL 4.0.3 is missing") && said.contains("cargo xtask peers");
    assert!(is_told && !dir.exists(), "{said}");
}

#[test]
fn a_missing_peer_is_an_error_that_says_what_to_install() {
    // Far from target/peers, with nothing on the path.
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("moat");
    std::fs::copy(MOAT, &program).unwrap();
    let mut command = Command::new(&program);
    command.args(["bench", "gateway", "--dir"]).arg(place.path().join("new"));
    let out = command.env("PATH", place.path()).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("oha is missing") && said.contains("cargo xtask peers"), "{said}");
    assert!(!place.path().join("new").exists());
}

#[tokio::test]
async fn an_interrupted_bench_leaves_no_process_and_no_folder() {
    let dir = folder("bench-interrupted");
    let mut command = Command::new(MOAT);
    command.args(["bench", "gateway", "--requests", "1000000", "--dir"]).arg(&dir);
    let log = tempfile::NamedTempFile::new().unwrap();
    let errors = log.reopen().unwrap();
    let mut bench = command.stdout(Stdio::null()).stderr(errors).spawn().unwrap();
    let said = || std::fs::read_to_string(log.path()).unwrap_or_default();
    let mut ended = None;
    eventually("load", WAIT, || {
        ended = bench.try_wait().unwrap();
        (ended.is_some() || dir.join("oha.log").exists()).then_some(())
    })
    .await;
    if ended.is_some() {
        assert!(is_skipped(&said()), "{}", said());
        return;
    }
    let pids: Vec<String> = ["upstream.pid", "proxy.pid"]
        .iter()
        .map(|name| std::fs::read_to_string(dir.join(name)).unwrap().trim().to_owned())
        .collect();
    kill_process(Pid::from_child(&bench), Signal::TERM).unwrap();
    let status = eventually("its end", WAIT, || bench.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(1), "{}", said());
    assert!(said().contains("interrupted"), "{}", said());
    assert!(!dir.exists(), "the folder stayed");
    for pid in pids {
        assert!(!Path::new("/proc").join(&pid).exists(), "nginx {pid} stayed");
    }
}

#[test]
fn every_proxy_is_measured_beside_the_gateway_and_drawn() {
    let plots = folder("e2e-plots");
    let shown = plots.display().to_string();
    let numbers = ["--requests", "1000", "--rounds", "1", "--idle", "20", "--plots", &shown];
    let Some(rows) = rows("e2e", &[&["bench", "e2e"], numbers.as_slice()].concat()) else { return };
    for peer in ["nginx", "haproxy", "caddy", "envoy", "envoy-asking"] {
        for scene in ["HTTP/1.1 kept", "HTTP/2 kept", "1 MiB kept", "HTTP/1.1 new"] {
            let figure = format!("{scene}: CPU a call");
            let is_it = |row: &&Value| {
                let name = row["peer"].as_str().and_then(|name| name.split(' ').next());
                row["figure"] == figure.as_str() && name == Some(peer)
            };
            let row = rows.iter().find(is_it).unwrap_or_else(|| panic!("{figure} of {peer}"));
            assert!(row["peer_value"].as_f64() > Some(0.0), "{row}");
        }
    }
    let svg = std::fs::read_to_string(plots.join("e2e-http-2-kept-cpu.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("envoy-asking"), "{svg}");
    let _ = std::fs::remove_dir_all(plots);
}
