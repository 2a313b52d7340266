//! Messages that two parsers could read differently.

use std::time::Duration;

use moat_audit::record::Kind;

use crate::support::{Client, Gateway, Options, Pki, Raw, Service, eventually, request, statuses};

async fn bank() -> (Pki, Service, Gateway) {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let gateway = Gateway::start(&pki, service.address, Options::default()).await;
    (pki, service, gateway)
}

const HOST: &str = "Host: gateway.test\r\n";

/// Each refused message: its name, its bytes, the status and the code.
fn refused() -> Vec<(&'static str, String, u16, &'static str)> {
    let post =
        |fields: &str, body: &str| format!("POST /post/evil HTTP/1.1\r\n{HOST}{fields}\r\n{body}");
    let chunked = "Transfer-Encoding: chunked\r\n";
    let many = "X-A: 1\r\n".repeat(150);
    vec![
        (
            "length first",
            post(&format!("Content-Length: 5\r\n{chunked}"), "0\r\n\r\n"),
            400,
            "H001",
        ),
        (
            "coding first",
            post(&format!("{chunked}Content-Length: 5\r\n"), "0\r\n\r\n"),
            400,
            "H001",
        ),
        ("two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "aaaaaa"), 400, "H002"),
        (
            "two equal lengths",
            post("Content-Length: 5\r\nContent-Length: 5\r\n", "aaaaa"),
            400,
            "H002",
        ),
        ("signed length", post("Content-Length: +5\r\n", "aaaaa"), 400, "H002"),
        ("list of lengths", post("Content-Length: 5, 5\r\n", "aaaaa"), 400, "H002"),
        (
            "chunked twice",
            post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
            400,
            "H003",
        ),
        ("unknown coding", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 501, "H004"),
        ("bare line feed", format!("GET /pass/evil HTTP/1.1\n{HOST}\r\n"), 400, "H005"),
        (
            "bare line feed in a field",
            format!("GET /pass/evil HTTP/1.1\r\n{HOST}X-A: 1\nX-B: 2\r\n\r\n"),
            400,
            "H005",
        ),
        (
            "folded line",
            format!("GET /pass/evil HTTP/1.1\r\n{HOST}X-A: 1\r\n 2\r\n\r\n"),
            400,
            "H006",
        ),
        (
            "two hosts",
            format!("GET /pass/evil HTTP/1.1\r\n{HOST}Host: other.test\r\n\r\n"),
            400,
            "H007",
        ),
        ("no host", "GET /pass/evil HTTP/1.1\r\nX-A: 1\r\n\r\n".to_owned(), 400, "H007"),
        (
            "host unlike the target",
            "GET https://a.test/pass/evil HTTP/1.1\r\nHost: b.test\r\n\r\n".to_owned(),
            400,
            "H007",
        ),
        (
            "space before the colon",
            format!("GET /pass/evil HTTP/1.1\r\n{HOST}Content-Length : 5\r\n\r\n"),
            400,
            "H011",
        ),
        ("too many fields", format!("GET /pass/evil HTTP/1.1\r\n{HOST}{many}\r\n"), 431, "H009"),
        (
            "a mebibyte of X-Forwarded-For",
            format!(
                "GET /pass/evil HTTP/1.1\r\n{HOST}X-Forwarded-For: {}\r\n\r\n",
                "1.1.1.1, ".repeat(116_509)
            ),
            431,
            "H009",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_head_over_the_limit_is_refused_and_recorded() {
    let (pki, service, gateway) = bank().await;
    let mut client = Client::http2(&pki, gateway.address, "teller").await;
    for length in [17_000, 40_000, 60_000] {
        let mut call = request("GET", "/pass/evil", "");
        call.headers_mut().insert("x-forwarded-for", "1".repeat(length).parse().unwrap());
        let answer = client.send(call).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (431, "MOAT-H009"), "{length}");
        let seq: usize = answer.header("x-moat-record").parse().unwrap();
        assert_eq!(gateway.log()[seq].body.code, "MOAT-H009");
    }
    assert_eq!(client.get("/masked/ok").await.status, 200, "the connection goes on");
    assert_eq!(service.paths(), ["/masked/ok"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_head_that_the_library_refuses_leaves_a_record_and_no_memory_peak() {
    let (pki, service, gateway) = bank().await;
    let mut before = 0;
    // In one field, and in many: over the library's own bound in two ways.
    let heads = [(1, 1 << 20), (64, 1_200)].into_iter().cycle().take(64);
    for (number, (fields, length)) in heads.enumerate() {
        if number == 20 {
            // The kernel picks a worker for each connection: by now both have refused both heads.
            before = gateway.memory_kib("gateway");
        }
        let mut client = Client::http2(&pki, gateway.address, "teller").await;
        assert_eq!(client.get("/masked/ok").await.status, 200);
        let mut call = request("GET", "/pass/evil", "");
        for _ in 0..fields {
            let value = "1".repeat(length).parse().unwrap();
            call.headers_mut().append("x-forwarded-for", value);
        }
        if let Ok(answer) = client.send(call).await {
            assert_eq!(answer.status, 431, "{answer:?}");
        }
        drop(client);
        eventually("a record", Duration::from_secs(5), || {
            let records = gateway.records(Kind::Refusal);
            let mut broken = records.iter().filter(|body| body.code == "MOAT-H023");
            let body = broken.nth(number)?;
            assert_eq!(body.actor, "spiffe://bank.test/teller");
            assert!(body.note.contains("calls=1 streams_refused=1"), "{}", body.note);
            Some(())
        })
        .await;
    }
    // Heads of 22 MiB came in between.
    let grown = gateway.memory_kib("gateway").saturating_sub(before);
    assert!(grown < 11 * 1024, "memory grew by {grown} KiB");
    assert!(service.paths().iter().all(|path| path == "/masked/ok"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ambiguous_message_is_refused_recorded_and_never_forwarded() {
    let (pki, service, gateway) = bank().await;
    let before = gateway.memory_kib("gateway");
    for (name, bytes, status, code) in refused() {
        let mut raw = Raw::new(&pki, gateway.address).await;
        raw.write(bytes.as_bytes()).await;
        let (text, closed) = raw.read_to_end(Duration::from_secs(5)).await;
        assert_eq!(statuses(&text), [status], "{name}: {text}");
        assert!(closed, "{name}: the connection stays open");
        assert!(text.contains(&format!("MOAT-{code}")), "{name}: {text}");
    }
    let mut codes: Vec<_> = gateway.records(Kind::Refusal).into_iter().map(|b| b.code).collect();
    let mut wanted: Vec<_> =
        refused().into_iter().map(|(_, _, _, code)| format!("MOAT-{code}")).collect();
    codes.sort();
    wanted.sort();
    assert_eq!(codes, wanted);
    assert_eq!(service.paths(), [""; 0]);
    let grown = gateway.memory_kib("gateway").saturating_sub(before);
    assert!(grown < 16 * 1024, "memory grew by {grown} KiB");
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_chunk_is_refused_wherever_it_stands() {
    let (pki, service, gateway) = bank().await;
    for (route, body) in [
        ("write", "5\r\n{\"amo\r\nXX\r\n"),
        ("write", "5 \r\n{\"amo\r\n"),
        ("write", "-5\r\n{\"amo\r\n"),
        ("write", "5\n{\"amo\r\n0\r\n\r\n"),
        ("post", "5\r\naaaaa\r\nXX\r\n"),
        ("post", "11111111111111111\r\n"),
    ] {
        let mut raw = Raw::new(&pki, gateway.address).await;
        let head = format!(
            "POST /{route}/bad HTTP/1.1\r\n{HOST}Content-Type: application/json\r\n\
             Transfer-Encoding: chunked\r\n\r\n"
        );
        raw.write(format!("{head}{body}").as_bytes()).await;
        let (text, closed) = raw.read_to_end(Duration::from_secs(5)).await;
        assert_eq!(statuses(&text), [400], "{route} {body:?}: {text}");
        assert!(text.contains("MOAT-H008"), "{route} {body:?}: {text}");
        assert!(closed, "{route} {body:?}");
    }
    assert!(!service.paths().iter().any(|path| path.contains("write")), "{:?}", service.paths());
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_request_before_a_bad_one_is_answered_first() {
    let (pki, service, gateway) = bank().await;
    let mut raw = Raw::new(&pki, gateway.address).await;
    let bytes = format!(
        "GET /pass/good HTTP/1.1\r\n{HOST}\r\nPOST /post/evil HTTP/1.1\r\n{HOST}\
         Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
         GET /pass/smuggled HTTP/1.1\r\n{HOST}\r\n"
    );
    raw.write(bytes.as_bytes()).await;
    let (text, closed) = raw.read_to_end(Duration::from_secs(5)).await;
    assert_eq!(statuses(&text), [200, 400], "{text}");
    assert!(closed && text.contains("MOAT-H001"), "{text}");
    assert_eq!(service.paths(), ["/pass/good"]);
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_line_and_then_nothing_is_a_slow_head() {
    let (pki, service, gateway) = bank().await;
    let mut raw = Raw::new(&pki, gateway.address).await;
    raw.write(format!("GET /pass/good HTTP/1.1\r\n{HOST}\r\n\r\n").as_bytes()).await;
    let (text, closed) = raw.read_to_end(Duration::from_secs(5)).await;
    assert_eq!(statuses(&text), [200, 408], "{text}");
    assert!(closed && text.contains("MOAT-H017"), "{text}");
    assert_eq!(service.paths(), ["/pass/good"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_heads_that_straddle_packets_are_not_slow() {
    let (pki, _service, gateway) = bank().await;
    let mut raw = Raw::new(&pki, gateway.address).await;
    let one = format!("GET /pass/good HTTP/1.1\r\n{HOST}\r\n");
    let (first, second) = one.split_at(20);
    raw.write(first.as_bytes()).await;
    // Every packet ends one head and begins the next, for longer than one head may take.
    for _ in 0..9 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        raw.write(format!("{second}{first}").as_bytes()).await;
    }
    raw.write(second.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes()).await;
    let (text, _) = raw.read_to_end(Duration::from_secs(5)).await;
    assert_eq!(statuses(&text), [200; 10], "{text}");
}
