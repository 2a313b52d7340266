//! Many connections at once.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::ServerName;
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

use crate::support::{Client, Gateway, Options, Pki, Service, eventually, say, tls};

/// Most bytes that one idle connection may cost the gateway.
const BYTES_EACH_MAX: u64 = 64 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_cost_little_and_harm_nobody() {
    let is_full = std::env::var("MOAT_FULL").is_ok_and(|value| value == "1");
    // `MOAT_IDLE=100000` for a machine that allows as many descriptors.
    let asked = std::env::var("MOAT_IDLE").ok().and_then(|count| count.parse().ok());
    let wanted: usize = asked.unwrap_or(if is_full { 10_000 } else { 2_000 });
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let needed = wanted as u64 + 500;
    if maximum.is_some_and(|maximum| maximum < needed) {
        assert!(
            std::env::var("CI").is_err() || asked.is_some(),
            "CI promises {needed} descriptors"
        );
        say(&format!("SKIPPED: {needed} descriptors are not allowed here"));
        return;
    }
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let options = Options {
        connections_max: wanted as u32 + 1_000,
        handshakes_max: 1_000,
        ..Options::default()
    };
    let gateway = Gateway::start(&pki, service.address, options).await;
    let connector = TlsConnector::from(pki.client(Some(&pki.identity("teller")), "http/1.1"));
    let before = gateway.memory_kib("gateway");
    let places = Arc::new(tokio::sync::Semaphore::new(64));
    let mut dialling = Vec::new();
    for number in 0..wanted {
        let (connector, places, to) = (connector.clone(), Arc::clone(&places), gateway.address);
        dialling.push(tokio::spawn(async move {
            let _place = places.acquire_owned().await.unwrap();
            let socket = TcpSocket::new_v4().unwrap();
            // A few thousand ports for each address.
            let from = format!("127.0.1.{}:0", 1 + number / 4_000);
            socket.bind(from.parse().unwrap()).unwrap();
            let stream = socket.connect(to).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            connector.connect(name, stream).await.unwrap()
        }));
    }
    let mut open = Vec::new();
    for one in dialling {
        open.push(one.await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    let status = gateway.status();
    let counted = status["gateway"]["connections"].as_u64().unwrap();
    assert_eq!(counted, wanted as u64, "{status}");
    let grown = gateway.memory_kib("gateway").saturating_sub(before) * 1024;
    let each = grown / wanted as u64;
    say(&format!("{wanted} idle connections cost {each} bytes each"));
    assert!(each < BYTES_EACH_MAX, "{each} bytes each");
    let mut client = Client::http2(&pki, gateway.address, "teller").await;
    // So many handshakes at once are an overload, after which calls may be refused for a second.
    let mut tries = 0;
    while client.get("/masked/ok").await.status == 503 {
        tries += 1;
        assert!(tries < 20, "nobody is served");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(client.get("/masked/ok").await.status, 200);
    drop(open);
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_workers_together_open_as_many_connections_to_a_service_as_they_may() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let options = Options { deadline_ms: 4_000, ..Options::default() };
    let gateway = Gateway::start(&pki, service.address, options).await;
    let keys = "protocol: http1\n    connections_max: 5\n    waiting_max: 9";
    gateway.edit_config("protocol: http1", keys);
    assert_eq!(gateway.reload().0, 0);
    // Enough callers that both workers have some.
    let mut calls = Vec::new();
    for _ in 0..24 {
        let mut client = Client::http1(&pki, gateway.address, "teller").await;
        calls.push(tokio::spawn(async move { client.get("/masked/slow").await }));
    }
    let (mut good, mut busy) = (0, 0);
    for call in calls {
        let answer = call.await.unwrap();
        match (answer.status, answer.code().as_str()) {
            (200, _) => good += 1,
            (503, "MOAT-U009") => busy += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((good, busy), (14, 10), "five at once, nine behind them, and no more");
    assert!(service.connections() <= 14 && service.open() <= 5, "{}", service.connections());
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    assert_eq!(client.get("/masked/ok").await.status, 200, "places are given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_to_a_service_are_closed_in_time_though_nobody_calls() {
    for (protocol, alpn) in [("http1", "http/1.1"), ("http2", "h2")] {
        let pki = Pki::new();
        let service = Service::start(&pki, &[alpn]).await;
        let options = Options { protocol, ..Options::default() };
        let gateway = Gateway::start(&pki, service.address, options).await;
        let (from, to) = (format!("protocol: {protocol}"), "idle_ms: 400".to_owned());
        gateway.edit_config(&from, &format!("{from}\n    {to}"));
        assert_eq!(gateway.reload().0, 0);
        let mut client = Client::http1(&pki, gateway.address, "teller").await;
        assert_eq!(client.get("/masked/ok").await.status, 200);
        assert_eq!(client.get("/masked/ok").await.status, 200);
        assert_eq!((service.open(), service.connections()), (1, 1), "{protocol}");
        eventually("the connection is closed", Duration::from_secs(2), || {
            (service.open() == 0).then_some(())
        })
        .await;
        assert_eq!(client.get("/masked/ok").await.status, 200, "{protocol}");
        assert_eq!(service.connections(), 2, "{protocol}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_holds_as_many_connections_as_it_may_and_no_more() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let options = Options { connections_max: 21, ..Options::default() };
    let gateway = Gateway::start(&pki, service.address, options).await;
    let teller = pki.identity("teller");
    let mut open = Vec::new();
    for _ in 0..21 {
        open.push(tls(&pki, gateway.address, Some(&teller), "http/1.1").await.unwrap());
    }
    assert!(tls(&pki, gateway.address, Some(&teller), "http/1.1").await.is_err());
    open.pop();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut client = Client::connect(&pki, gateway.address, &teller, false).await.unwrap();
    assert_eq!(client.get("/masked/ok").await.status, 200);
}
