//! Floods before anybody has proved anything: bounded, and every knock accounted for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use moat_audit::record::{Body, Kind};
use moat_model::Stage;
use rustix::process::{Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{Client, Gateway, Options, Pki, Service, eventually, tls};

async fn bank(options: Options) -> (Pki, Service, Gateway) {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let gateway = Gateway::start(&pki, service.address, options).await;
    (pki, service, gateway)
}

/// The number behind `count=` in a summary.
fn count_of(body: &Body) -> Option<u64> {
    body.note.split(' ').find_map(|part| part.strip_prefix("count=")?.parse().ok())
}

/// Connections that were refused before they were sessions: by code, how many have records of their
/// own, and how many stand in summaries.
fn accounted(gateway: &Gateway) -> BTreeMap<String, (u64, u64)> {
    let mut all = BTreeMap::<_, (u64, u64)>::new();
    for body in gateway.records(Kind::Refusal) {
        if matches!(body.stage, Some(Stage::Accept | Stage::Handshake)) {
            let (own, summed) = all.entry(body.code.clone()).or_default();
            match count_of(&body) {
                None => *own += 1,
                Some(count) => *summed += count,
            }
        }
    }
    all
}

/// A connection from another address of this machine.
async fn connect_from(source: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
    socket.connect(to).await.unwrap()
}

/// Whether the gateway has closed a connection on which nothing was sent.
async fn is_closed(stream: &mut TcpStream, wait: Duration) -> bool {
    tokio::time::timeout(wait, stream.read_u8()).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_knock_of_a_storm_is_recorded_or_counted() {
    let (pki, _service, mut gateway) = bank(Options::default()).await;
    let begun = Instant::now();
    let mut storm = Vec::new();
    for task in 0..8 {
        let to = gateway.address;
        storm.push(tokio::spawn(async move {
            for knock in 0..75 {
                let mut stream = connect_from(&format!("127.0.2.{}", 1 + task % 3), to).await;
                if knock % 5 > 0 {
                    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                }
            }
        }));
    }
    for one in storm {
        one.await.unwrap();
    }
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    assert_eq!(client.get("/masked/ok").await.status, 200);
    eventually("every knock is refused", Duration::from_secs(10), || {
        (gateway.status()["gateway"]["refused"] == 600).then_some(())
    })
    .await;
    drop(client);
    gateway.stop();
    let taken = begun.elapsed().as_secs() + 1;
    let all = accounted(&gateway);
    let (own, summed) = all.values().fold((0, 0), |(a, b), (own, sum)| (a + own, b + sum));
    assert_eq!(own + summed, 600, "{all:?}");
    assert!(own <= 3 * (20 + taken), "{own} records of their own in {taken} s");
    assert!(all.contains_key("MOAT-T006") && all.contains_key("MOAT-T008"), "{all:?}");
    let summary = gateway.records(Kind::Refusal).into_iter().find(|b| count_of(b).is_some());
    let note = summary.unwrap().note;
    assert!(note.starts_with("from 127.0.2.") && note.contains("first_ns="), "{note}");
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_is_summed_up_while_it_lasts() {
    let (_pki, _service, gateway) = bank(Options::default()).await;
    for _ in 0..40 {
        drop(TcpStream::connect(gateway.address).await.unwrap());
    }
    eventually("a summary", Duration::from_secs(15), || {
        let (own, summed) = accounted(&gateway).get("MOAT-T008").copied().unwrap_or_default();
        (own + summed == 40 && summed > 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_has_so_many_unfinished_handshakes_and_harms_no_other() {
    let options = Options { handshakes_max: 16, ..Options::default() };
    let (pki, _service, mut gateway) = bank(options).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(connect_from("127.0.3.1", gateway.address).await);
    }
    let mut closed = 0;
    for stream in &mut silent {
        closed += u64::from(is_closed(stream, Duration::from_millis(50)).await);
    }
    assert_eq!(closed, 4, "the excess is closed at once");
    let mut client = Client::http2(&pki, gateway.address, "teller").await;
    assert_eq!(client.get("/masked/ok").await.status, 200, "another source is served");
    for stream in &mut silent {
        assert!(is_closed(stream, Duration::from_secs(5)).await);
    }
    let status = gateway.status()["gateway"].clone();
    assert_eq!(status["turned_away"], 4, "{status}");
    // What is over makes room again, once its refusal is recorded; who comes before is turned away.
    let mut early = 0;
    let until = Instant::now() + Duration::from_secs(5);
    let again = loop {
        let mut again = connect_from("127.0.3.1", gateway.address).await;
        if !is_closed(&mut again, Duration::from_millis(300)).await {
            break again;
        }
        early += 1;
        assert!(Instant::now() < until, "no room after {early} tries");
    };
    drop((again, client));
    gateway.stop();
    let all = accounted(&gateway);
    let total = |code: &str| all.get(code).map_or(0, |(own, summed)| own + summed);
    assert_eq!((total("MOAT-H029"), total("MOAT-T007")), (4 + early, 16), "{all:?}");
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_a_full_listener_turns_away_is_recorded() {
    let options = Options { connections_max: 3, ..Options::default() };
    let (pki, _service, mut gateway) = bank(options).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(Client::http1(&pki, gateway.address, "teller").await);
    }
    for _ in 0..5 {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        assert!(is_closed(&mut stream, Duration::from_secs(2)).await);
    }
    let body = gateway.record("turned away", |body| body.code == "MOAT-H022").await;
    assert_eq!((body.stage, body.listener.as_str()), (Some(Stage::Accept), "partners"));
    assert!(body.note.contains("127.0.0.1"), "{}", body.note);
    drop(open);
    gateway.stop();
    assert_eq!(accounted(&gateway).get("MOAT-H022"), Some(&(5, 0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_recorded_for_a_while_is_summed_up_later() {
    let (_pki, _service, mut gateway) = bank(Options::default()).await;
    let auditor = gateway.role("auditor").unwrap();
    kill_process(auditor, Signal::STOP).unwrap();
    for _ in 0..60 {
        drop(TcpStream::connect(gateway.address).await.unwrap());
    }
    // Those that had a record coming have waited for it in vain.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    kill_process(auditor, Signal::CONT).unwrap();
    gateway.wait_ready().await;
    gateway.stop();
    let (own, summed) = accounted(&gateway).get("MOAT-T008").copied().unwrap();
    // What was late stands there twice, never not at all.
    assert!(own + summed >= 60 && summed >= 38, "{own} and {summed}");
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_waits_briefly_for_an_auditor_that_stands_still_and_loses_no_count() {
    let (_pki, _service, mut gateway) = bank(Options::default()).await;
    gateway.edit_config("segment_mib: 16", "segment_mib: 16, deadline_ms: 30000");
    assert_eq!(gateway.reload().0, 0);
    for knock in 0..120 {
        drop(connect_from(&format!("127.0.4.{}", 1 + knock % 3), gateway.address).await);
    }
    eventually("every knock is refused", Duration::from_secs(10), || {
        let status = gateway.status()["gateway"].clone();
        (status["refused"] == 120 && status["connections"] == 0).then_some(())
    })
    .await;
    let (auditor, role) = (gateway.role("auditor").unwrap(), gateway.role("gateway").unwrap());
    kill_process(auditor, Signal::STOP).unwrap();
    gateway.signal(Signal::TERM);
    // Three summaries and more, each of which might have waited half a minute.
    eventually("the gateway has ended", Duration::from_secs(8), || {
        (!std::path::Path::new(&format!("/proc/{}", role.as_raw_nonzero())).exists()).then_some(())
    })
    .await;
    kill_process(auditor, Signal::CONT).unwrap();
    gateway.wait_ended();
    let (own, summed) = accounted(&gateway).get("MOAT-T008").copied().unwrap();
    assert!(own + summed >= 120 && summed >= 40, "{own} and {summed}");
    gateway.assert_whole();
    assert_eq!(gateway.log().last().unwrap().body.note, "stop");
}

/// An HTTP/2 frame (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// `GET /pass/hang` of `gateway.test` by HPACK without a table (RFC 7541 §6.2.2).
fn get() -> Vec<u8> {
    let mut block = vec![0x82, 0x87];
    for (index, value) in [(4_u8, "/pass/hang"), (1, "gateway.test")] {
        block.extend([index, u8::try_from(value.len()).unwrap()]);
        block.extend(value.as_bytes());
    }
    block
}

/// Floods one connection until it is closed; gives how many frames were taken and the gateway's
/// greatest growth in KiB.
async fn flood(gateway: &Gateway, pki: &Pki, mut next: impl FnMut(u32) -> Vec<u8>) -> (u32, u64) {
    let identity = pki.identity("teller");
    let stream = tls(pki, gateway.address, Some(&identity), "h2").await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let before = gateway.memory_kib("gateway");
    writer.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    writer.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    let closed = tokio::spawn(async move {
        let mut part = vec![0; 64 * 1024];
        while reader.read(&mut part).await.is_ok_and(|read| read > 0) {}
    });
    let until = Instant::now() + Duration::from_secs(20);
    let mut sent = 0;
    while !closed.is_finished() && Instant::now() < until {
        if writer.write_all(&next(sent)).await.is_err() || writer.flush().await.is_err() {
            break;
        }
        sent += 1;
        // Slow enough that what was sent counts, fast enough to be a flood.
        if sent % 64 == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    let is_closed = eventually("the connection is closed", Duration::from_secs(5), || {
        closed.is_finished().then_some(true)
    })
    .await;
    assert!(is_closed);
    (sent, gateway.memory_kib("gateway").saturating_sub(before))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_http2_frames_end_the_connection_with_a_record_and_cost_little() {
    let (pki, _service, mut gateway) = bank(Options::default()).await;
    // The flood's name, how many frames it may get in, and its frames by number.
    type Next = Box<dyn FnMut(u32) -> Vec<u8>>;
    let stream = |n: u32| n * 2 + 1;
    let floods: Vec<(&str, u32, Next)> = vec![
        ("settings", 3_000, Box::new(|_| frame(4, 0, 0, &[]))),
        ("ping", 3_000, Box::new(|_| frame(6, 0, 0, &[0; 8]))),
        ("priority", 3_000, Box::new(|_| frame(2, 0, 1, &[0, 0, 0, 3, 9]))),
        (
            "empty data",
            3_000,
            Box::new(|n| {
                let head = if n == 0 { frame(1, 4, 1, &get()) } else { Vec::new() };
                [head, frame(0, 0, 1, &[])].concat()
            }),
        ),
        (
            "rapid reset",
            3_000,
            Box::new(move |n| {
                [frame(1, 5, stream(n), &get()), frame(3, 0, stream(n), &[0, 0, 0, 8])].concat()
            }),
        ),
        (
            "continuation",
            3_000,
            Box::new(|n| if n == 0 { frame(1, 0, 1, &get()) } else { frame(9, 0, 1, &[0x40; 64]) }),
        ),
    ];
    for (name, most, next) in floods {
        let (sent, grown) = flood(&gateway, &pki, next).await;
        assert!(sent < most, "{name}: {sent} frames");
        assert!(grown < 16 * 1024, "{name}: {grown} KiB");
        let mut other = Client::http2(&pki, gateway.address, "teller").await;
        assert_eq!(other.get("/masked/ok").await.status, 200, "after {name}");
    }
    gateway.stop();
    let broken = gateway.records(Kind::Refusal).into_iter().filter(|b| b.code == "MOAT-H023");
    assert_eq!(broken.count(), 6, "each has a record");
    gateway.assert_whole();
}
