//! The program itself: killed in the middle of transfers, no money is made or lost; a signal to
//! end drains.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Authority, GATEWAY, call};
use moat_accounts::account::seed;
use moat_accounts::store::Store;

/// Starts the program on a free port.
fn start(dir: &Path, authority: &Authority) -> (Child, u16) {
    let leaf = authority.leaf(&["spiffe://bank.test/accounts"]);
    for (name, text) in
        [("ca.pem", &authority.pem), ("cert.pem", &leaf.cert_pem), ("key.pem", &leaf.key_pem)]
    {
        std::fs::write(dir.join(name), text).expect("write");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_moat-accounts"));
    for (option, value) in [
        ("--cert", "cert.pem"),
        ("--key", "key.pem"),
        ("--trust", "ca.pem"),
        ("--data", "book.redb"),
    ] {
        command.arg(option).arg(dir.join(value));
    }
    command.args(["--listen", "127.0.0.1:0", "--seed", "--allow-spiffe", GATEWAY]);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("start");
    let mut line = String::new();
    let stderr = child.stderr.take().expect("stderr");
    BufReader::new(stderr).read_line(&mut line).expect("line");
    let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
    (child, port.expect("a port is told"))
}

async fn pay(authority: &Authority, port: u16, number: usize) {
    let gateway = authority.leaf(&[GATEWAY]);
    let mut client = authority.http1(port, &gateway).await;
    let ids = ["1001", "1002", "1003", "1004"];
    for round in 0.. {
        let (from, to) = (ids[(number + round) % 4], ids[(number + round / 3 + 1) % 4]);
        let path = format!("/v1/accounts/{from}/transfer");
        let body = format!(r#"{{"amount":"{round}.01","to":{{"account":"{to}"}}}}"#);
        call(&mut client, "POST", &path, &[("content-type", "application/json")], &body).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_money_is_made_or_lost_when_the_program_is_killed() {
    let dir = tempfile::tempdir().expect("dir");
    let wanted: i128 = seed().iter().map(|account| i128::from(account.balance_minor)).sum();
    let authority = std::sync::Arc::new(Authority::new());
    let mut moved = false;
    for life in 0..3 {
        let (mut child, port) = start(dir.path(), &authority);
        let payers: Vec<_> = (0..3)
            .map(|number| {
                let authority = std::sync::Arc::clone(&authority);
                tokio::spawn(async move { pay(&authority, port, number).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(150 + 70 * life)).await;
        child.kill().expect("kill");
        child.wait().expect("wait");
        for payer in payers {
            payer.abort();
            // It ended by the abort or by the broken connection.
            let _ = payer.await;
        }
        let store = Store::open(&dir.path().join("book.redb")).expect("reopen");
        assert_eq!(store.total_minor().expect("total"), wanted);
        for account in seed() {
            let now = store.account(&account.id).expect("read").expect("there").balance_minor;
            assert!(now >= 0);
            moved |= now != account.balance_minor;
        }
    }
    assert!(moved, "no transfer was made before the program was killed");
}

#[tokio::test]
async fn a_signal_to_end_is_obeyed() {
    let dir = tempfile::tempdir().expect("dir");
    let authority = Authority::new();
    let (mut child, port) = start(dir.path(), &authority);
    let gateway = authority.leaf(&[GATEWAY]);
    let mut client = authority.http1(port, &gateway).await;
    assert_eq!(call(&mut client, "GET", "/livez", &[], "").await.0, 200);
    let kill = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status();
    assert!(kill.expect("kill").success());
    let ended = tokio::task::spawn_blocking(move || child.wait());
    let ended = tokio::time::timeout(Duration::from_secs(8), ended).await.expect("in time");
    assert!(ended.expect("task").expect("wait").success());
}
