//! The service over real TLS, in one process.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Authority, GATEWAY, call};
use moat_accounts::account::seed;
use moat_accounts::proto::accounts_client::AccountsClient;
use moat_accounts::proto::reconciled::Verdict;
use moat_accounts::proto::{DepositEntry, ExpectedBalance, GetAccountRequest, WatchRequest};
use moat_accounts::store::Store;
use moat_accounts::{serve, tls};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::codegen::tokio_stream;

const JSON: (&str, &str) = ("content-type", "application/json");

struct Running {
    authority: Authority,
    port: u16,
    store: Arc<Store>,
    stop: oneshot::Sender<()>,
    done: JoinHandle<std::io::Result<()>>,
    _dir: tempfile::TempDir,
}

async fn start() -> Running {
    let dir = tempfile::tempdir().expect("dir");
    let store = Arc::new(Store::open(&dir.path().join("book.redb")).expect("open"));
    store.add(&seed()).expect("seed");
    let authority = Authority::new();
    let leaf = authority.leaf(&["spiffe://bank.test/accounts"]);
    let config = tls::build(authority.roots(), vec![leaf.der.clone()], leaf.key()).expect("tls");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let port = listener.local_addr().expect("address").port();
    let (stop, stopped) = oneshot::channel();
    let stop_when = async {
        let _ = stopped.await;
    };
    let serving = serve::serve(listener, config, GATEWAY.to_owned(), Arc::clone(&store), stop_when);
    Running { authority, port, store, stop, done: tokio::spawn(serving), _dir: dir }
}

#[tokio::test]
async fn accounts_are_read_and_money_is_moved_over_json() {
    let running = start().await;
    let gateway = running.authority.leaf(&[GATEWAY]);
    let mut client = running.authority.http1(running.port, &gateway).await;
    let client = &mut client;
    let (status, account) = call(client, "GET", "/v1/accounts/1001", &[], "").await;
    assert_eq!((status, &account["balance"]), (200, &"9876.50".into()));
    assert_eq!(account["owner"]["name"], "欧阳明月");
    let path = "/v1/accounts/1001/transfer";
    let body = r#"{"amount":"100.00","to":{"account":"1002"},"note":"rent"}"#;
    let (status, done) = call(client, "POST", path, &[JSON, ("idempotency-key", "a")], body).await;
    assert_eq!((status, &done["from"]["balance"]), (200, &"9776.50".into()));
    assert_eq!((&done["to"]["account"], &done["amount"]), (&"1002".into(), &"100.00".into()));
    let again = call(client, "POST", path, &[JSON, ("idempotency-key", "a")], body).await;
    assert_eq!(again, (200, done));
    let other = body.replace("100.00", "100.01");
    let (status, _) = call(client, "POST", path, &[JSON, ("idempotency-key", "a")], &other).await;
    assert_eq!(status, 409);
    assert_eq!(call(client, "GET", "/v1/accounts/1001", &[], "").await.1["balance"], "9776.50");
}

#[tokio::test]
async fn bad_demands_are_problems_and_change_nothing() {
    let running = start().await;
    let before = running.store.total_minor().expect("total");
    let gateway = running.authority.leaf(&[GATEWAY]);
    let mut client = running.authority.http1(running.port, &gateway).await;
    let transfer =
        |amount: &str, to: &str| format!(r#"{{"amount":"{amount}","to":{{"account":"{to}"}}}}"#);
    let long = transfer("1", &"1".repeat(70_000));
    let post = "/v1/accounts/1001/transfer";
    for (method, path, body, status, kind) in [
        ("GET", "/v1/accounts/9999", String::new(), 404, "not-found"),
        ("GET", "/v1/accounts/..%2f", String::new(), 404, "not-found"),
        ("GET", "/v2", String::new(), 404, "not-found"),
        ("DELETE", "/v1/accounts/1001", String::new(), 405, "method"),
        ("POST", "/v1/accounts/9999/transfer", transfer("1", "1002"), 404, "not-found"),
        ("POST", post, transfer("1", "9999"), 404, "not-found"),
        ("POST", post, transfer("99999", "1002"), 422, "insufficient-funds"),
        ("POST", post, transfer("0.00", "1002"), 400, "bad-amount"),
        ("POST", post, transfer("-1", "1002"), 400, "bad-amount"),
        ("POST", post, transfer("1.001", "1002"), 400, "bad-amount"),
        ("POST", post, transfer("1", "1001"), 400, "bad-request"),
        ("POST", post, r#"{"amount":1,"to":{"account":"1002"}}"#.into(), 400, "bad-request"),
        (
            "POST",
            post,
            r#"{"amount":"1","to":{"account":"1002"},"x":1}"#.into(),
            400,
            "bad-request",
        ),
        ("POST", post, long, 413, "too-large"),
    ] {
        if client.is_closed() {
            client = running.authority.http1(running.port, &gateway).await;
        }
        let (got, problem) = call(&mut client, method, path, &[JSON], &body).await;
        assert_eq!(got, status, "{method} {path}");
        assert_eq!(problem["type"], format!("urn:moat:accounts:{kind}"));
        assert_eq!(problem["status"], status);
    }
    let mut client = running.authority.http1(running.port, &gateway).await;
    let (status, _) = call(&mut client, "POST", post, &[], &transfer("1", "1002")).await;
    assert_eq!(status, 415);
    assert_eq!(running.store.total_minor().expect("total"), before);
    assert_eq!(running.store.account("1001").expect("read").expect("there").balance_minor, 987_650);
}

#[tokio::test]
async fn only_the_gateway_is_served() {
    let running = start().await;
    let (authority, port) = (&running.authority, running.port);
    for uris in [vec!["spiffe://bank.test/other"], vec![], vec![GATEWAY, "spiffe://bank.test/x"]] {
        let other = authority.leaf(&uris);
        let mut client = authority.http1(port, &other).await;
        let (status, problem) = call(&mut client, "GET", "/v1/accounts/1001", &[], "").await;
        assert_eq!((status, &problem["type"]), (403, &"urn:moat:accounts:caller".into()));
        let mut client = AccountsClient::new(authority.grpc(port, &other).await);
        let refused = client.get_account(GetAccountRequest { id: "1001".into() }).await;
        assert_eq!(refused.expect_err("refused").code(), Code::PermissionDenied);
    }
    // Without a certificate, or with a stranger's, there is no connection at all. The client's
    // side of a TLS 1.3 handshake ends before the server refuses, so it shows on the first read.
    let stranger = Authority::new().leaf(&[GATEWAY]);
    for leaf in [None, Some(&stranger)] {
        let mut stream = match authority.connect(port, leaf, "http/1.1").await {
            Ok(stream) => stream,
            Err(_) => continue,
        };
        let read = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 16]).await;
        assert!(matches!(read, Err(_) | Ok(0)), "{read:?}");
    }
}

#[tokio::test]
async fn the_four_grpc_shapes_work() {
    let running = start().await;
    let gateway = running.authority.leaf(&[GATEWAY]);
    let mut client = AccountsClient::new(running.authority.grpc(running.port, &gateway).await);
    let asked = GetAccountRequest { id: "1003".into() };
    let account = client.get_account(asked).await.expect("account").into_inner();
    assert_eq!((account.balance_minor, account.currency.as_str()), (50_000, "CNY"));
    let missing = client.get_account(GetAccountRequest { id: "9".into() }).await;
    assert_eq!(missing.expect_err("missing").code(), Code::NotFound);

    let asked = WatchRequest { id: "1003".into() };
    let mut watch = client.watch(asked).await.expect("watch").into_inner();
    let first = watch.message().await.expect("first").expect("one");
    assert_eq!((first.balance_minor, first.sequence), (50_000, 0));

    let entry = |id: &str, amount_minor| DepositEntry { id: id.into(), amount_minor };
    let entries = tokio_stream::iter([entry("1003", 10), entry("1004", 5), entry("1003", 1)]);
    let summary = client.deposit(entries).await.expect("deposit").into_inner();
    assert_eq!((summary.entries, summary.total_minor), (3, 16));
    for balance in [50_010, 50_011] {
        let change = watch.message().await.expect("change").expect("one");
        assert_eq!((change.id.as_str(), change.balance_minor), ("1003", balance));
    }
    let bad = client.deposit(tokio_stream::iter([entry("1003", 1), entry("9", 1)])).await;
    assert_eq!(bad.expect_err("unknown").code(), Code::FailedPrecondition);
    let bad = client.deposit(tokio_stream::iter([entry("1003", 0)])).await;
    assert_eq!(bad.expect_err("nothing").code(), Code::InvalidArgument);

    let expected = |id: &str, balance_minor| ExpectedBalance { id: id.into(), balance_minor };
    let asked = [expected("1003", 50_011), expected("1004", 0), expected("9", 0)];
    let mut answers =
        client.reconcile(tokio_stream::iter(asked)).await.expect("reconcile").into_inner();
    for (verdict, balance) in
        [(Verdict::Match, 50_011), (Verdict::Mismatch, 5), (Verdict::UnknownAccount, 0)]
    {
        let answer = answers.message().await.expect("answer").expect("one");
        assert_eq!((answer.verdict(), answer.balance_minor), (verdict, balance));
    }
    assert!(answers.message().await.expect("end").is_none());
}

#[tokio::test]
async fn a_stop_ends_watches_and_drains() {
    let running = start().await;
    let gateway = running.authority.leaf(&[GATEWAY]);
    let mut client = AccountsClient::new(running.authority.grpc(running.port, &gateway).await);
    let asked = WatchRequest { id: String::new() };
    let mut watch = client.watch(asked).await.expect("watch").into_inner();
    running.stop.send(()).expect("stop");
    let ended = watch.message().await.expect_err("ends");
    assert_eq!(ended.code(), Code::Unavailable);
    let drained = tokio::time::timeout(Duration::from_secs(5), running.done).await;
    drained.expect("in time").expect("task").expect("served");
    assert!(running.authority.connect(running.port, Some(&gateway), "h2").await.is_err());
}
