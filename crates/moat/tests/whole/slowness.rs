//! Peers that are slow, on either side: cut in time, and no burden meanwhile.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Frame;
use moat_audit::record::{Kind, Outcome};
use tokio::io::AsyncReadExt;

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

/// A gateway whose streams must bring a thousand bytes a second.
async fn brisk_bank() -> (Pki, Service, Gateway) {
    let (pki, service, gateway) = bank("http1").await;
    let brisk = "stream_rate_min: 1000\n    stream_window_ms: 2000";
    gateway.edit_config("stream_idle_ms: 4000", &format!("stream_idle_ms: 4000\n    {brisk}"));
    let object = "audit: { object: \"pass/{rest}\" }";
    gateway.edit_config(object, &format!("{object}\n    {brisk}"));
    let (code, text) = gateway.reload();
    assert_eq!(code, 0, "{text}");
    (pki, service, gateway)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_drips_is_cut_though_it_is_never_silent() {
    let (pki, _service, gateway) = brisk_bank().await;
    let mut raw = Raw::new(&pki, gateway.address).await;
    let begun = Instant::now();
    let head = format!("POST /post/ok HTTP/1.1\r\n{HOST}Content-Length: 100000\r\n\r\n");
    raw.write(head.as_bytes()).await;
    while begun.elapsed() < Duration::from_secs(5) && raw.write(b"0123456789").await {
        let (text, closed) = raw.read_to_end(Duration::from_millis(100)).await;
        if !text.is_empty() {
            assert_eq!(statuses(&text), [408], "{text}");
            assert!(closed || text.contains("MOAT-H030"), "{text}");
            break;
        }
    }
    let taken = begun.elapsed();
    assert!((1_900..4_000).contains(&taken.as_millis()), "{taken:?}");
    assert_eq!(gateway.outcome("post/ok").await, (Outcome::Unknown, "MOAT-H030".to_owned()));
    // As much, a little faster.
    let (sender, pipe) = Pipe::new();
    tokio::spawn(async move {
        for _ in 0..25 {
            let _ = sender.send(Frame::data(Bytes::from(vec![b'u'; 300]))).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    let call = Request::builder().method("POST").uri("/post/fine/echo");
    let answer = client.send(call.body(pipe.boxed()).unwrap()).await.unwrap();
    assert_eq!((answer.status, &answer.json()["length"]), (200, &7_500.into()), "{answer:?}");
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_drips_is_cut_though_it_is_never_silent() {
    let (pki, _service, gateway) = brisk_bank().await;
    for is_http2 in [false, true] {
        let teller = pki.identity("teller");
        let mut client = Client::connect(&pki, gateway.address, &teller, is_http2).await.unwrap();
        let begun = Instant::now();
        let path = format!("/pass/{is_http2}/drip");
        assert!(client.send(request("GET", &path, "")).await.is_err());
        let taken = begun.elapsed();
        assert!((1_900..4_000).contains(&taken.as_millis()), "{taken:?}");
        let object = format!("pass/{is_http2}/drip");
        let closing = gateway
            .record("closing", |body| body.parent_seq.is_some() && body.object == object)
            .await;
        assert_eq!(closing.outcome, Some(Outcome::Aborted));
        assert_eq!(closing.code, "MOAT-U011");
    }
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_read_slowly_is_cut_though_its_reader_never_stops() {
    let (pki, _service, gateway) = brisk_bank().await;
    gateway.edit_config("stream_rate_min: 1000", "stream_rate_min: 1000000");
    assert_eq!(gateway.reload().0, 0);
    let mut raw = Raw::new(&pki, gateway.address).await;
    raw.write(format!("GET /pass/big-200000000 HTTP/1.1\r\n{HOST}\r\n").as_bytes()).await;
    let begun = Instant::now();
    let mut part = [0; 4096];
    let until = Duration::from_secs(15);
    while begun.elapsed() < until && matches!(raw.0.read(&mut part).await, Ok(1..)) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if gateway.log().iter().any(|leaf| leaf.body.parent_seq.is_some()) {
            break;
        }
    }
    let closing = gateway.record("closing", |body| body.parent_seq.is_some()).await;
    assert_eq!((closing.outcome, closing.code.as_str()), (Some(Outcome::Aborted), "MOAT-H031"));
    assert!(begun.elapsed() < until, "{:?}", begun.elapsed());
    gateway.assert_whole();
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
    let mut resets = 0;
    for _ in 0..600 {
        let call = hostile.begin(request("GET", "/pass/hang", ""));
        if tokio::time::timeout(Duration::from_millis(2), call).await.is_ok() {
            break;
        }
        resets += 1;
    }
    assert!((190..400).contains(&resets), "cut after {resets}");
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
