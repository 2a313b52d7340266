//! A service that fails in every way there is.

use std::time::{Duration, Instant};

use moat_audit::record::{Body, Kind, Outcome};

use crate::support::{Client, Gateway, Options, Pki, Service, eventually, free_address, request};

async fn bank() -> (Pki, Service, Gateway, Client) {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let gateway = Gateway::start(&pki, service.address, Options::default()).await;
    let client = Client::http1(&pki, gateway.address, "teller").await;
    (pki, service, gateway, client)
}

const PAY: &str = "{\"amount\":\"10.00\",\"secret\":\"张三丰\"}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_hangs_leaves_a_write_unknown_within_the_deadline() {
    let (_pki, _service, gateway, mut client) = bank().await;
    let begun = Instant::now();
    let answer = client.post("/write/hang", PAY).await;
    let taken = begun.elapsed();
    assert_eq!((answer.status, answer.code().as_str()), (504, "MOAT-U003"), "{answer:?}");
    assert!(taken < Duration::from_millis(2_500), "{taken:?}");
    let outcome = gateway.outcome("write/hang").await;
    assert_eq!(outcome, (Outcome::Unknown, "MOAT-U003".to_owned()));
    // A streamed body that is complete is bounded by the same deadline.
    let begun = Instant::now();
    let answer = client.post("/post/hang", PAY).await;
    let taken = begun.elapsed();
    assert_eq!((answer.status, answer.code().as_str()), (504, "MOAT-U003"), "{answer:?}");
    assert!(taken < Duration::from_millis(2_500), "streamed: {taken:?}");
    let answer = client.get("/masked/hang").await;
    assert_eq!((answer.status, answer.code().as_str()), (504, "MOAT-U003"), "{answer:?}");
    let answer = client.get("/masked/drip").await;
    assert!(answer.status == 502 || answer.status == 504, "{answer:?}");
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_leaves_a_write_unknown() {
    let (_pki, service, gateway, mut client) = bank().await;
    for (action, codes) in [
        ("reset-at-once", ["MOAT-U004", "MOAT-U004"]),
        ("reset-in-head", ["MOAT-U004", "MOAT-U006"]),
        ("reset-in-body", ["MOAT-U004", "MOAT-U006"]),
        ("short", ["MOAT-U004", "MOAT-U006"]),
        ("both", ["MOAT-U006", "MOAT-U006"]),
        ("garbage", ["MOAT-U006", "MOAT-U006"]),
        ("bad-chunk", ["MOAT-U006", "MOAT-U006"]),
    ] {
        let mut call = request("POST", &format!("/write/{action}"), PAY);
        call.headers_mut().insert("content-type", "application/json".parse().unwrap());
        call.headers_mut().insert("x-mark", action.parse().unwrap());
        let answer = client.send(call).await.unwrap();
        assert!(codes.contains(&answer.code().as_str()), "{action}: {answer:?}");
        let status = if answer.code() == "MOAT-U004" { 504 } else { 502 };
        assert_eq!(answer.status, status, "{action}");
        let object = format!("write/{action}");
        let outcome = gateway.outcome(&object).await;
        assert_eq!(outcome, (Outcome::Unknown, answer.code()), "{action}");
        assert_eq!(service.marked(action), 1, "{action} was sent more than once");
        // The broken connection is not used again.
        let answer = client.get("/masked/ok").await;
        assert_eq!(answer.status, 200, "after {action}: {answer:?}");
    }
    gateway.assert_whole();
    assert!(gateway.verify().unpaired.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_after_an_answer_reach_nobody() {
    let (_pki, service, gateway, mut client) = bank().await;
    let answer = client.get("/masked/long").await;
    let is_refused = answer.status == 502;
    assert!(is_refused || answer.json()["ok"] == true, "{answer:?}");
    for _ in 0..5 {
        let answer = client.get("/masked/ok").await;
        assert_eq!((answer.status, &answer.json()["n"]), (200, &1.into()), "{answer:?}");
    }
    assert!(service.connections() >= 2, "the connection was used again");
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_away_fails_a_write_and_says_so() {
    let pki = Pki::new();
    let gateway = Gateway::start(&pki, free_address(), Options::default()).await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    let answer = client.post("/write/x", PAY).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "MOAT-U001"), "{answer:?}");
    let outcome = gateway.outcome("write/x").await;
    assert_eq!(outcome, (Outcome::Failed, "MOAT-U001".to_owned()));
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_with_another_identity_gets_nothing() {
    let pki = Pki::new();
    let service = Service::start_as(&pki, "impostor", &["http/1.1"]).await;
    let gateway = Gateway::start(&pki, service.address, Options::default()).await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    let answer = client.post("/write/x", PAY).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "MOAT-U002"), "{answer:?}");
    assert_eq!(gateway.outcome("write/x").await.0, Outcome::Failed);
    assert_eq!(service.paths(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_names_itself_grpc_does_not_escape_the_masks() {
    let (_pki, service, _gateway, mut client) = bank().await;
    let mut call = request("GET", "/masked/ok", "");
    call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let answer = client.send(call).await.unwrap();
    assert_eq!(answer.header("grpc-status"), "3", "refused, not passed");
    assert!(answer.body.is_empty());
    assert_eq!(service.paths(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_decided_on_leaves_no_doubt() {
    let (_pki, service, _gateway, mut client) = bank().await;
    for body in [
        r#"{"AMOUNT":"10.00"}"#,
        r#"{"amount":"1.00","AMOUNT":"999999.00"}"#,
        r#"{"amount":"999999.00","amount":"1.00"}"#,
        r#"{"amount":{"x":"1.00"}}"#,
        r#"{"other":1}"#,
    ] {
        let answer = client.post("/write/x", body).await;
        assert_eq!((answer.status, answer.code().as_str()), (422, "MOAT-H028"), "{body}");
    }
    assert_eq!(service.paths(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_text_on_a_masked_route_is_replaced() {
    let (_pki, _service, _gateway, mut client) = bank().await;
    let answer = client.get("/masked/telling").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "MOAT-U010"));
    assert!(!String::from_utf8_lossy(&answer.body).contains("6222"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_fields_do_not_carry_past_the_masks() {
    let (_pki, _service, gateway, mut client) = bank().await;
    let pan = |answer: &crate::support::Answer| {
        let mut values = answer.headers.values().map(|value| value.to_str().unwrap());
        values.any(|value| value.contains("6222020200112233453"))
    };
    let answer = client.get("/pass/leaky").await;
    assert!(pan(&answer) && answer.header("x-page") == "2", "passed through: {answer:?}");
    let masked = client.get("/masked/leaky").await;
    let written = client.post("/write/leaky", PAY).await;
    for answer in [masked, written] {
        assert_eq!(answer.status, 200);
        assert!(!pan(&answer), "{answer:?}");
        assert_eq!(answer.header("x-page"), "", "{answer:?}");
        assert_eq!(answer.header("x-request-id"), "r1", "{answer:?}");
    }
    gateway.edit_config("answer_bytes_max: 65536", "answer_headers: [X-Page]");
    assert_eq!(gateway.reload().0, 0);
    let answer = client.get("/masked/leaky").await;
    assert!(!pan(&answer) && answer.header("x-page") == "2", "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streamed_error_is_no_commit() {
    let (_pki, _service, gateway, mut client) = bank().await;
    let answer = client.post("/post/failed", "{}").await;
    assert_eq!(answer.status, 500);
    let closes = gateway
        .record("closing", |body| body.kind == Kind::Outcome && body.parent_seq.is_some())
        .await;
    assert_eq!((closes.outcome, closes.http_status), (Some(Outcome::Unknown), Some(500)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_masked_never_passes() {
    let (_pki, _service, gateway, mut client) = bank().await;
    for action in ["text", "gzip", "broken-json"] {
        let answer = client.get(&format!("/masked/{action}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (502, "MOAT-M010"), "{action}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("13800138000"), "{action}");
    }
    let answer = client.get("/masked/endless").await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "MOAT-U005"), "{answer:?}");
    let answer = client.get("/masked/ok").await;
    assert_eq!(answer.status, 200);
    assert!(!String::from_utf8_lossy(&answer.body).contains("张三丰"), "{answer:?}");
    let answer = client.post("/write/x", "{\"amount\":").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "MOAT-M001"), "{answer:?}");
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_before_the_body_was_read_is_passed_on() {
    let (_pki, _service, gateway, mut client) = bank().await;
    let answer = client.post("/write/early", PAY).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = client.post("/post/early", &"x".repeat(3_000_000)).await;
    let is_unknown = answer.status == 504 && answer.code() == "MOAT-U004";
    assert!(answer.status == 200 || is_unknown, "{answer:?}");
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_stream_is_bounded_and_ends_with_its_caller() {
    let (_pki, _service, gateway, mut client) = bank().await;
    let before = gateway.memory_kib("gateway");
    let mut answer = client.begin(request("GET", "/pass/endless", "")).await.unwrap();
    assert_eq!(answer.status(), 200);
    let until = Instant::now() + Duration::from_secs(2);
    let mut read = 0;
    while Instant::now() < until {
        let frame = http_body_util::BodyExt::frame(answer.body_mut()).await.unwrap().unwrap();
        read += frame.data_ref().map_or(0, bytes::Bytes::len);
    }
    let grown = gateway.memory_kib("gateway").saturating_sub(before);
    assert!(grown < 16 * 1024, "memory grew by {grown} KiB");
    drop((answer, client));
    let closing = gateway
        .record("closing record", |b| b.parent_seq.is_some() && b.object == "pass/endless")
        .await;
    assert_eq!(closing.outcome, Some(Outcome::Aborted));
    assert!(closing.bytes_out >= read as u64, "{} of {read}", closing.bytes_out);
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_never_sent_twice_even_when_its_pooled_connection_dies() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    // Half of the calls fail, and all are meant to reach the service.
    let upstream = "breaker: { error_percent: 100 }".to_owned();
    let options = Options { upstream, ..Options::default() };
    let gateway = Gateway::start(&pki, service.address, options).await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    for round in 0..20 {
        // A fresh connection each round: the first call makes it, the second finds it dead.
        let (first, second) = (format!("a{round}"), format!("b{round}"));
        for mark in [&first, &second] {
            let mut call = request("POST", "/write/once", PAY);
            call.headers_mut().insert("content-type", "application/json".parse().unwrap());
            call.headers_mut().insert("x-mark", mark.parse().unwrap());
            let answer = client.send(call).await.unwrap();
            assert!(matches!(answer.status, 200 | 504), "{answer:?}");
            assert!(service.marked(mark) <= 1, "{mark} was sent {} times", service.marked(mark));
            if answer.status == 200 {
                assert_eq!(service.marked(mark), 1);
            }
        }
    }
    drop(Client::http1(&pki, gateway.address, "teller").await);
    gateway.assert_whole();
    let outcomes = gateway.records(Kind::Outcome);
    assert_eq!(outcomes.len(), 40);
    let report = gateway.verify();
    eventually("every intent has its outcome", Duration::from_secs(2), || {
        report.unpaired.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_caller_goes_away_is_finished_and_recorded() {
    let (pki, service, gateway, _client) = bank().await;
    for (at, is_http2) in [false, true].into_iter().enumerate() {
        let teller = pki.identity("teller");
        let mut client = Client::connect(&pki, gateway.address, &teller, is_http2).await.unwrap();
        let mut call = request("POST", &format!("/write/{at}/slow"), PAY);
        call.headers_mut().insert("content-type", "application/json".parse().unwrap());
        let task = tokio::spawn(async move { client.send(call).await });
        eventually("the service has the call", Duration::from_secs(5), || {
            (service.paths().len() > at).then_some(())
        })
        .await;
        task.abort();
        let object = format!("write/{at}/slow");
        let fits = |b: &Body| b.kind == Kind::Outcome && b.object == object;
        let outcome = gateway.record("outcome", fits).await;
        assert_eq!(outcome.outcome, Some(Outcome::Committed), "HTTP/2: {is_http2}");
        assert_eq!(outcome.answered, Some(false), "HTTP/2: {is_http2}");
    }
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_lets_open_calls_end() {
    let (pki, service, mut gateway, mut one) = bank().await;
    let mut two = Client::http2(&pki, gateway.address, "teller").await;
    let idle = Client::http1(&pki, gateway.address, "teller").await;
    let calls = [
        tokio::spawn(async move { one.get("/masked/slow").await.status }),
        tokio::spawn(async move { two.get("/pass/slow").await.status }),
    ];
    eventually("the service has the calls", Duration::from_secs(5), || {
        (service.paths().len() == 2).then_some(())
    })
    .await;
    let begun = Instant::now();
    gateway.stop();
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    drop(idle);
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_upload_is_answered_while_the_caller_still_sends() {
    let (pki, _service, gateway, mut client) = bank().await;
    let teller = pki.identity("teller");
    // Denied, no route, too long: nobody reads these bodies.
    for (path, status) in [("/denied/x", 403), ("/nowhere", 404), ("/write/x", 413)] {
        let body = format!("{{\"amount\":\"1.00\",\"x\":\"{}\"}}", "x".repeat(2_000_000));
        for is_http2 in [false, true] {
            let mut fresh =
                Client::connect(&pki, gateway.address, &teller, is_http2).await.unwrap();
            let mut call = request("POST", path, &body);
            call.headers_mut().insert("content-type", "application/json".parse().unwrap());
            let answer = fresh.send(call).await.unwrap();
            assert_eq!(answer.status, status, "{path}, HTTP/2: {is_http2}: {answer:?}");
        }
    }
    assert_eq!(client.get("/masked/ok").await.status, 200);
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_service_that_hangs_or_breaks_is_bounded_too() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["h2"]).await;
    let options = Options { protocol: "http2", ..Options::default() };
    let gateway = Gateway::start(&pki, service.address, options).await;
    let mut client = Client::http2(&pki, gateway.address, "teller").await;
    let answer = client.post("/write/hang", PAY).await;
    assert_eq!((answer.status, answer.code().as_str()), (504, "MOAT-U003"), "{answer:?}");
    assert_eq!(gateway.outcome("write/hang").await.0, Outcome::Unknown);
    let answer = client.post("/write/reset", PAY).await;
    assert_eq!((answer.status, answer.code().as_str()), (504, "MOAT-U004"), "{answer:?}");
    assert_eq!(gateway.outcome("write/reset").await.0, Outcome::Unknown);
    let answer = client.get("/masked/ok").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streamed_answer_that_breaks_off_is_never_taken_for_whole() {
    let (pki, _service, gateway, _client) = bank().await;
    let teller = pki.identity("teller");
    for (number, is_http2) in [false, true].into_iter().enumerate() {
        for action in ["reset-in-body", "short", "bad-chunk"] {
            let mut client =
                Client::connect(&pki, gateway.address, &teller, is_http2).await.unwrap();
            let path = format!("/pass/{number}/{action}");
            let answer = client.send(request("GET", &path, "")).await;
            assert!(answer.is_err(), "{action}, HTTP/2: {is_http2}: {answer:?}");
            let object = format!("pass/{number}/{action}");
            let fits = |b: &Body| b.parent_seq.is_some() && b.object == object;
            let closing = gateway.record(action, fits).await;
            assert_eq!(closing.outcome, Some(Outcome::Aborted), "{action}");
            assert_eq!(closing.code, "MOAT-U008", "{action}, HTTP/2: {is_http2}");
            // The connection of before may be gone with its answer.
            let mut client =
                Client::connect(&pki, gateway.address, &teller, is_http2).await.unwrap();
            let path = format!("/post/{number}/{action}");
            let answer = client.send(request("POST", &path, PAY)).await;
            assert!(answer.is_err(), "{action}, HTTP/2: {is_http2}: {answer:?}");
            let object = format!("post/{number}/{action}");
            let fits = |b: &Body| b.outcome == Some(Outcome::Unknown) && b.object == object;
            gateway.record(action, fits).await;
        }
    }
    gateway.assert_whole();
    assert!(gateway.verify().unpaired.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_would_take_calls_from_anybody_gets_none() {
    let pki = Pki::new();
    let service = Service::start_with(pki.open_server(&pki.identity("accounts"))).await;
    let gateway = Gateway::start(&pki, service.address, Options::default()).await;
    let answer = Client::http1(&pki, gateway.address, "teller").await.get("/pass/ok").await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "MOAT-U013"), "{answer:?}");
    assert_eq!(service.paths(), [""; 0]);
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_was_not_sent_has_no_connection_in_its_record() {
    let (_pki, mut service, gateway, mut client) = bank().await;
    let said = |body: &Body| !(body.upstream_suite.is_empty() && body.upstream_group.is_empty());
    let of = async |kind: Kind, object: &str| {
        gateway.record(object, |body| body.kind == kind && body.object == object).await
    };
    assert_eq!(client.post("/change/a", PAY).await.status, 200);
    assert!(!said(&of(Kind::Intent, "change/a").await), "the state before was read, no more");
    assert!(said(&of(Kind::Outcome, "change/a").await));

    // The service dies once it has said what the state is.
    let change = client.post("/change/last", PAY);
    let (answer, ()) = tokio::join!(change, async {
        let asked = || service.paths().contains(&"/pass/last".to_owned()).then_some(());
        eventually("the state is read", Duration::from_secs(5), asked).await;
        service.close().await;
    });
    assert_eq!((answer.status, answer.code().as_str()), (503, "MOAT-U001"), "{answer:?}");
    let body = of(Kind::Outcome, "change/last").await;
    assert_eq!((body.outcome, said(&body)), (Some(Outcome::Failed), false), "{body:?}");
    gateway.assert_whole();
}
