//! What goes through: both protocols on both sides, bodies of any size, gRPC.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Frame;
use moat_audit::record::{Kind, Outcome};
use rustix::process::{Signal, kill_process};

use crate::support::{Answer, Client, Gateway, Options, Pipe, Pki, SendBody, Service, request};

async fn bank(protocol: &'static str, alpn: &[&str]) -> (Pki, Service, Gateway) {
    let pki = Pki::new();
    let service = Service::start(&pki, alpn).await;
    let options = Options { protocol, deadline_ms: 5_000, ..Options::default() };
    let gateway = Gateway::start(&pki, service.address, options).await;
    (pki, service, gateway)
}

const MIB: usize = 1024 * 1024;

async fn clients(pki: &Pki, gateway: &Gateway) -> [Client; 2] {
    [
        Client::http1(pki, gateway.address, "teller").await,
        Client::http2(pki, gateway.address, "teller").await,
    ]
}

/// A POST whose body comes in parts and, over HTTP/1.1, without an announced length.
fn upload(path: &str, size: usize) -> Request<SendBody> {
    let (sender, pipe) = Pipe::new();
    tokio::spawn(async move {
        let part = Bytes::from(vec![b'u'; 64 * 1024]);
        let mut left = size;
        while left > 0 {
            let now = left.min(part.len());
            if sender.send(Frame::data(part.slice(..now))).await.is_err() {
                return;
            }
            left -= now;
        }
    });
    Request::builder().method("POST").uri(path).body(pipe.boxed()).unwrap()
}

/// Reads an answer without keeping it; gives its length.
async fn drain(client: &mut Client, call: Request<SendBody>) -> usize {
    let mut answer = client.begin(call).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut length = 0;
    while let Some(frame) = answer.body_mut().frame().await {
        length += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    length
}

async fn every_size_passes(protocol: &'static str, alpn: &[&str]) {
    let (pki, _service, gateway) = bank(protocol, alpn).await;
    for (at, client) in clients(&pki, &gateway).await.iter_mut().enumerate() {
        let name = format!("{protocol}, caller {at}");
        let answer = client.send(request("HEAD", "/pass/big-1000", "")).await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{name}");
        let answer = client.send(request("HEAD", "/masked/ok", "")).await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{name}");
        for route in ["pass", "masked"] {
            let answer = client.get(&format!("/{route}/nothing")).await;
            assert_eq!((answer.status, answer.body.len()), (204, 0), "{name}: {answer:?}");
        }
        for size in [0, 1, MIB] {
            let read = drain(client, request("GET", &format!("/pass/big-{size}"), "")).await;
            assert_eq!(read, size, "{name}");
            let answer = client.send(upload("/post/echo", size)).await.unwrap();
            assert_eq!(answer.json()["length"], size, "{name}: {answer:?}");
            let answer = client.post("/post/echo", &"s".repeat(size)).await;
            assert_eq!(answer.json()["length"], size, "{name}: {answer:?}");
        }
        let before = gateway.memory_kib("gateway");
        let read = drain(client, request("GET", &format!("/pass/big-{}", 50 * MIB), "")).await;
        assert_eq!(read, 50 * MIB, "{name}");
        let answer = client.send(upload("/post/echo", 50 * MIB)).await.unwrap();
        assert_eq!(answer.json()["length"], 50 * MIB, "{name}");
        let grown = gateway.memory_kib("gateway").saturating_sub(before);
        assert!(grown < 32 * 1024, "{name}: memory grew by {grown} KiB");
    }
    gateway.assert_whole();
    let closings = gateway.log().into_iter().filter(|leaf| leaf.body.parent_seq.is_some());
    assert!(closings.count() >= 16);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_every_size_pass_to_an_http1_service() {
    every_size_passes("http1", &["http/1.1"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_every_size_pass_to_an_http2_service() {
    every_size_passes("http2", &["h2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_protocol_towards_a_service_is_found_by_itself() {
    for alpn in [&["http/1.1"][..], &["h2", "http/1.1"], &["h2"]] {
        let (pki, service, gateway) = bank("auto", alpn).await;
        for client in &mut clients(&pki, &gateway).await {
            let answer = client.get("/pass/ok").await;
            assert_eq!((answer.status, &answer.json()["ok"]), (200, &true.into()), "{alpn:?}");
        }
        assert_eq!(service.paths().len(), 2);
    }
}

/// A call that pretends to be a gateway and names fields in `Connection`.
fn spoofing(is_http2: bool) -> Request<SendBody> {
    let mut call = request("GET", "/pass/echo", "");
    for (name, value) in [
        ("x-forwarded-client-cert", "URI=spiffe://bank.test/boss"),
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-host", "evil.test"),
        ("x-forwarded-proto", "http"),
        ("forwarded", "for=6.6.6.6"),
        ("x-real-ip", "6.6.6.6"),
        ("x-moat-caller", "boss"),
        ("x_forwarded_client_cert", "URI=spiffe://bank.test/boss"),
        ("x-http-method-override", "DELETE"),
        ("x-original-url", "/admin"),
        ("x-kept", "kept"),
    ] {
        call.headers_mut().insert(name, value.parse().unwrap());
    }
    if !is_http2 {
        call.headers_mut().insert("connection", "x-secret-hop".parse().unwrap());
        call.headers_mut().insert("x-secret-hop", "1".parse().unwrap());
        call.headers_mut().insert("keep-alive", "timeout=5".parse().unwrap());
        call.headers_mut().insert("proxy-authorization", "Basic x".parse().unwrap());
    }
    call
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_learns_who_calls_from_the_gateway_alone() {
    for (protocol, alpn) in [("http1", "http/1.1"), ("http2", "h2")] {
        let (pki, _service, gateway) = bank(protocol, &[alpn]).await;
        for (at, client) in clients(&pki, &gateway).await.iter_mut().enumerate() {
            let answer = client.send(spoofing(at == 1)).await.unwrap();
            let json = answer.json();
            let field = |name: &str| json["fields"][name].as_str().map(str::to_owned);
            assert_eq!(field("x-kept").as_deref(), Some("kept"), "{json}");
            assert_eq!(field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
            assert_eq!(field("x-forwarded-host").as_deref(), Some("gateway.test"));
            assert_eq!(field("x-forwarded-proto").as_deref(), Some("https"));
            let who = field("x-forwarded-client-cert").unwrap();
            assert!(who.ends_with("URI=spiffe://bank.test/teller"), "{who}");
            for name in [
                "forwarded",
                "x-real-ip",
                "x-moat-caller",
                "x_forwarded_client_cert",
                "x-http-method-override",
                "x-original-url",
                "x-secret-hop",
                "keep-alive",
                "connection",
                "proxy-authorization",
            ] {
                assert_eq!(field(name), None, "{protocol}, caller {at}");
            }
            assert!(field("traceparent").unwrap().contains(answer.header("x-moat-trace")));
        }
    }
}

/// One gRPC message in its frame.
fn frame(text: &str) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes.into()
}

fn grpc(path: &str, body: SendBody) -> Request<SendBody> {
    let call = Request::builder().method("POST").uri(path);
    let call = call.header("content-type", "application/grpc").header("te", "trailers");
    call.body(body).unwrap()
}

fn grpc_status(answer: &Answer) -> &str {
    let found = answer.trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
    found.map_or(answer.header("grpc-status"), |value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_grpc_call_passes_with_its_trailers() {
    let (pki, _service, gateway) = bank("http2", &["h2"]).await;
    let mut client = Client::http2(&pki, gateway.address, "teller").await;
    let one = || Full::new(frame("one")).boxed();
    let unary = client.send(grpc("/test.Frames/Echo", one())).await.unwrap();
    assert_eq!((unary.status, grpc_status(&unary)), (200, "0"), "{unary:?}");
    assert_eq!(unary.body, frame("one"));
    let many = client.send(grpc("/test.Frames/Many", one())).await.unwrap();
    assert_eq!((grpc_status(&many), many.body.len()), ("0", 5 * frame("one").len()));
    let (sender, pipe) = Pipe::new();
    for text in ["one", "two", "three"] {
        sender.try_send(Frame::data(frame(text))).unwrap();
    }
    drop(sender);
    let all = client.send(grpc("/test.Frames/Collect", pipe.boxed())).await.unwrap();
    assert_eq!(grpc_status(&all), "0");
    assert_eq!(all.body, [frame("one"), frame("two"), frame("three")].concat());
    // Both ways: each message is answered before the next is sent.
    let (sender, pipe) = Pipe::new();
    sender.try_send(Frame::data(frame("0"))).unwrap();
    let mut answer = client.begin(grpc("/test.Frames/Echo", pipe.boxed())).await.unwrap();
    for round in 0..20 {
        let got = answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(got, frame(&round.to_string()));
        sender.send(Frame::data(frame(&(round + 1).to_string()))).await.unwrap();
    }
    drop(sender);
    let rest = answer.into_body().collect().await.unwrap();
    assert_eq!(rest.trailers().unwrap()["grpc-status"], "0");
    gateway.assert_whole();
    let closing = gateway.record("closing", |b| b.parent_seq.is_some()).await;
    assert_eq!(closing.outcome, Some(Outcome::Closed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_refusals_carry_a_status_that_grpc_callers_understand() {
    let (pki, _service, gateway) = bank("http2", &["h2"]).await;
    let mut client = Client::http2(&pki, gateway.address, "teller").await;
    let mut nobody = Client::http2(&pki, gateway.address, "nobody").await;
    let call = |path: &str| grpc(path, Full::new(frame("x")).boxed());
    let denied = nobody.send(call("/test.Frames/Echo")).await.unwrap();
    assert_eq!((denied.status, grpc_status(&denied)), (200, "7"), "{denied:?}");
    let unknown = client.send(call("/test.Other/Echo")).await.unwrap();
    assert_eq!((unknown.status, grpc_status(&unknown)), (200, "12"), "{unknown:?}");
    let auditor = gateway.role("auditor").unwrap();
    kill_process(auditor, Signal::STOP).unwrap();
    let away = client.send(call("/test.Frames/Echo")).await.unwrap();
    assert_eq!((away.status, grpc_status(&away)), (200, "14"), "{away:?}");
    kill_process(auditor, Signal::CONT).unwrap();
    let refusals = gateway.records(Kind::Refusal);
    assert!(refusals.iter().any(|body| body.code == "MOAT-P002"), "{refusals:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denied_call_reaches_no_service_and_says_why() {
    let (pki, service, gateway) = bank("http1", &["http/1.1"]).await;
    for client in &mut clients(&pki, &gateway).await {
        let answer = client.get("/denied/x").await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "MOAT-P001"), "{answer:?}");
        assert_eq!(answer.json()["reasons"][0], "blocked");
    }
    assert_eq!(service.paths(), [""; 0]);
    assert_eq!(gateway.records(Kind::Refusal).len(), 2);
}
