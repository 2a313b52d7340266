//! Peers that are slow, on either side: cut in time, and no burden meanwhile.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Frame;
use moat_audit::record::{Kind, Outcome};

use crate::support::{
    Client, Gateway, Options, Pipe, Pki, Raw, Service, eventually, request, statuses,
};

async fn bank(protocol: &'static str) -> (Pki, Service, Gateway) {
    let pki = Pki::new();
    let alpn = if protocol == "http2" { "h2" } else { "http/1.1" };
    let service = Service::start(&pki, &[alpn]).await;
    let options = Options { protocol, ..Options::default() };
    let gateway = Gateway::start(&pki, service.address, options).await;
    (pki, service, gateway)
}

const HOST: &str = "Host: gateway.test\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_drips_is_cut_in_time() {
    let (pki, service, gateway) = bank("http1").await;
    let mut raw = Raw::new(&pki, gateway.address).await;
    let begun = Instant::now();
    let head = format!("GET /pass/ok HTTP/1.1\r\n{HOST}X-A: {}\r\n\r\n", "a".repeat(60));
    for byte in head.as_bytes() {
        if !raw.write(&[*byte]).await || begun.elapsed() > Duration::from_secs(4) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (text, closed) = raw.read_to_end(Duration::from_secs(2)).await;
    assert!(closed, "{text}");
    assert!(begun.elapsed() < Duration::from_millis(6_000), "{:?}", begun.elapsed());
    let record = gateway.record("slow head", |body| body.code == "MOAT-H017").await;
    assert_eq!(record.kind, Kind::Refusal);
    assert_eq!(service.paths(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stops_is_the_callers_fault() {
    let (pki, _service, gateway) = bank("http1").await;
    for (route, wait) in [("write", 2_500), ("post", 5_500)] {
        let mut raw = Raw::new(&pki, gateway.address).await;
        let begun = Instant::now();
        let head = format!(
            "POST /{route}/ok HTTP/1.1\r\n{HOST}Content-Type: application/json\r\n\
             Content-Length: 100\r\n\r\n{{\"amount\""
        );
        raw.write(head.as_bytes()).await;
        let (text, closed) = raw.read_to_end(Duration::from_millis(wait)).await;
        assert_eq!(statuses(&text), [408], "{route}: {text}");
        assert!(closed && text.contains("MOAT-H018"), "{route}: {text}");
        assert!(begun.elapsed() > Duration::from_secs(1));
    }
    gateway.assert_whole();
    assert!(gateway.verify().unpaired.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_off_leaves_a_streamed_write_unknown() {
    let (pki, _service, gateway) = bank("http1").await;
    let mut raw = Raw::new(&pki, gateway.address).await;
    let head = format!("POST /post/ok HTTP/1.1\r\n{HOST}Content-Length: 100\r\n\r\nabc");
    raw.write(head.as_bytes()).await;
    gateway.record("intent", |body| body.kind == Kind::Intent).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(raw);
    assert_eq!(gateway.outcome("post/ok").await.0, Outcome::Unknown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_reset_at_once_buy_no_free_work() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let options = Options { deadline_ms: 10_000, ..Options::default() };
    let gateway = Gateway::start(&pki, service.address, options).await;
    let mut hostile = Client::http2(&pki, gateway.address, "teller").await;
    for _ in 0..600 {
        let call = hostile.begin(request("GET", "/pass/hang", ""));
        assert!(tokio::time::timeout(Duration::from_millis(2), call).await.is_err());
    }
    let forwarded = service.paths().len();
    assert!((50..=101).contains(&forwarded), "{forwarded} calls at once for one connection");
    let mut other = Client::http2(&pki, gateway.address, "teller").await;
    assert_eq!(other.get("/masked/ok").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_expects_100_is_told_to_go_on() {
    let (pki, _service, gateway) = bank("http1").await;
    for route in ["write", "post"] {
        let mut raw = Raw::new(&pki, gateway.address).await;
        let body = "{\"amount\":\"10.00\"}";
        let head = format!(
            "POST /{route}/echo HTTP/1.1\r\n{HOST}Content-Type: application/json\r\n\
             Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        raw.write(head.as_bytes()).await;
        let (text, _) = raw.read_to_end(Duration::from_millis(500)).await;
        assert_eq!(statuses(&text), [100], "{route}: {text}");
        raw.write(body.as_bytes()).await;
        let (text, _) = raw.read_to_end(Duration::from_millis(500)).await;
        assert_eq!(statuses(&text), [200], "{route}: {text}");
        assert!(!text.contains("expect"), "{text}");
    }
}

/// Begins a large answer and stops reading; gives when and how the gateway recorded the end.
async fn stops_reading(is_http2: bool) -> Duration {
    let (pki, _service, gateway) = bank("http1").await;
    let mut client = if is_http2 {
        Client::http2(&pki, gateway.address, "teller").await
    } else {
        Client::http1(&pki, gateway.address, "teller").await
    };
    let answer = client.begin(request("GET", "/pass/big-200000000", "")).await.unwrap();
    let begun = Instant::now();
    eventually("the end is recorded", Duration::from_secs(20), || {
        let log = gateway.log();
        let closing = log.iter().find(|leaf| leaf.body.parent_seq.is_some())?;
        assert_eq!(closing.body.outcome, Some(Outcome::Aborted));
        assert!(closing.body.bytes_out < 100_000_000);
        Some(())
    })
    .await;
    drop((answer, client));
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_stops_reading_is_cut() {
    let (one, two) = tokio::join!(stops_reading(false), stops_reading(true));
    for taken in [one, two] {
        let bounds = Duration::from_secs(9)..Duration::from_secs(15);
        assert!(bounds.contains(&taken), "{one:?}, {two:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_stops_reading_is_given_up_and_holds_no_memory() {
    let (pki, _service, gateway) = bank("http1").await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    let before = gateway.memory_kib("gateway");
    let (sender, pipe) = Pipe::new();
    tokio::spawn(async move {
        let part = Bytes::from(vec![b'u'; 64 * 1024]);
        while sender.send(Frame::data(part.clone())).await.is_ok() {}
    });
    let call = Request::builder().method("POST").uri("/post/unread");
    let begun = Instant::now();
    let answer = client.send(call.body(pipe.boxed()).unwrap()).await;
    let taken = begun.elapsed();
    assert!(taken < Duration::from_secs(7), "{taken:?}");
    // The caller may find its connection closed before it has read the answer.
    if let Ok(answer) = answer {
        assert_eq!((answer.status, answer.code().as_str()), (504, "MOAT-U003"), "{answer:?}");
    }
    assert_eq!(gateway.outcome("post/unread").await, (Outcome::Unknown, "MOAT-U003".to_owned()));
    let grown = gateway.memory_kib("gateway").saturating_sub(before);
    assert!(grown < 16 * 1024, "memory grew by {grown} KiB");
}
