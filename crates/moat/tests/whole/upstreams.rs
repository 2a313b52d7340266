//! Several endpoints, some of which fail: calls go where they are answered, what fails is left
//! alone, and every change is recorded.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use moat_audit::record::{Body, Kind, Outcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{
    Client, Gateway, Mode, Options, Pki, Service, eventually, free_address, request,
};

const WAIT: Duration = Duration::from_secs(10);
const PAY: &str = "{\"amount\":\"10.00\",\"secret\":\"张三丰\"}";

fn endpoint(service: &Service) -> String {
    format!("https://{}", service.address)
}

async fn services<const N: usize>(pki: &Pki) -> [Service; N] {
    let mut all = Vec::new();
    for _ in 0..N {
        all.push(Service::start(pki, &["http/1.1"]).await);
    }
    all.try_into().ok().unwrap()
}

fn said(gateway: &Gateway, what: &str) -> Vec<Body> {
    let mut records = gateway.records(Kind::Admin);
    records.retain(|body| body.note.contains(what));
    records
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_to_all_endpoints_and_a_dead_one_costs_no_call() {
    let pki = Pki::new();
    let all: [Service; 2] = services(&pki).await;
    let dead = free_address();
    let endpoints = vec![format!("https://{dead}"), format!("{} weight=3", endpoint(&all[1]))];
    let options = Options { endpoints, ..Options::default() };
    let gateway = Gateway::start(&pki, all[0].address, options).await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    for call in 0..80 {
        let answer = client.get("/masked/ok").await;
        assert_eq!(answer.status, 200, "{call}: {answer:?}");
    }
    let asked = all.each_ref().map(|service| service.asked("/masked"));
    assert!(asked[0] >= 4 && asked[1] >= 30, "{asked:?}");
    let tried = gateway.record("two tries", |body| body.note.contains(", ")).await;
    assert_eq!(tried.outcome, Some(Outcome::Read));
    assert!(tried.note.starts_with(&format!("{dead} MOAT-U001, 127.0.0.1:")), "{}", tried.note);
    let aside = eventually("the dead one is set aside", WAIT, || {
        said(&gateway, "set aside").into_iter().next()
    })
    .await;
    assert_eq!(
        aside.note,
        format!("endpoint {dead} of accounts: set aside for_ms=30000 failures=5")
    );
    assert_eq!(aside.upstream, "accounts");
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_fails_is_left_alone_until_a_probe_goes_well() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let options = Options { upstream: "breaker: { probes: 2 }".to_owned(), ..Options::default() };
    let gateway = Gateway::start(&pki, service.address, options).await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    service.set(Mode::Away);
    let mut refused = None;
    for _ in 0..60 {
        let answer = client.get("/masked/ok").await;
        if answer.code() == "MOAT-U017" {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("the breaker opens");
    assert_eq!(service.asked("/masked"), 20, "as many as it takes to know");
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"), "{refused:?}");
    assert_eq!(refused.json()["sent"], false);
    // A write is refused too, and is known not to have been carried out.
    let answer = client.post("/write/now", PAY).await;
    assert_eq!(answer.code(), "MOAT-U017", "{answer:?}");
    assert_eq!(gateway.outcome("write/now").await, (Outcome::Failed, "MOAT-U017".to_owned()));
    assert_eq!(service.asked("/"), 20, "nobody asks while it is open");
    service.set(Mode::Good);
    let healed = Instant::now();
    loop {
        if client.get("/masked/ok").await.status == 200 {
            break;
        }
        assert!(healed.elapsed() < WAIT, "it does not close");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    eventually("it is closed", WAIT, || said(&gateway, "breaker closed").pop()).await;
    let opened = said(&gateway, "breaker open").remove(0);
    let note = format!("endpoint {} of accounts: breaker open for_ms=", service.address);
    assert!(
        opened.note.starts_with(&note) && opened.note.ends_with("calls=20 bad=20"),
        "{}",
        opened.note
    );
    assert_eq!(client.post("/write/now", PAY).await.status, 200);
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_only_writes_come_the_gateway_probes_by_itself() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let gateway = Gateway::start(&pki, service.address, Options::default()).await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    service.set(Mode::Away);
    eventually_async("the breaker opens", async || {
        (client.post("/write/now", PAY).await.code() == "MOAT-U017").then_some(())
    })
    .await;
    service.set(Mode::Good);
    let before = service.asked("/write");
    eventually("it is closed", WAIT, || said(&gateway, "breaker closed").pop()).await;
    assert_eq!(service.asked("/write"), before, "a write is no probe");
    assert_eq!(client.post("/write/now", PAY).await.status, 200);
}

async fn eventually_async(what: &str, mut done: impl AsyncFnMut() -> Option<()>) {
    let until = Instant::now() + WAIT;
    while done().await.is_none() {
        assert!(Instant::now() < until, "not in time: {what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_breaker_outlives_a_reload() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let upstream = "breaker: { open_ms: 60000, open_ms_max: 60000 }".to_owned();
    let gateway =
        Gateway::start(&pki, service.address, Options { upstream, ..Options::default() }).await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    service.set(Mode::Away);
    for _ in 0..25 {
        client.get("/masked/ok").await;
    }
    assert_eq!(client.get("/masked/ok").await.code(), "MOAT-U017");
    gateway.edit_config("protocol: http1", "protocol: http1\n    idle_ms: 1000");
    assert_eq!(gateway.reload().0, 0);
    assert_eq!(client.get("/masked/ok").await.code(), "MOAT-U017");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_does_no_harm_twice_is_sent_twice_and_the_budget_bounds_it() {
    let pki = Pki::new();
    let all: [Service; 2] = services(&pki).await;
    // Nothing keeps calls away, so that the budget is all that bounds them.
    let upstream = "breaker: { error_percent: 100 }\noutlier: { failures_max: 0 }".to_owned();
    let route = "retry: keyed".to_owned();
    let endpoints = vec![endpoint(&all[1])];
    let options = Options { endpoints, upstream, route, ..Options::default() };
    let gateway = Gateway::start(&pki, all[0].address, options).await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    all[0].set(Mode::Broken);
    all[1].set(Mode::Broken);
    let asked = || all.each_ref().map(|service| service.asked("/write")).iter().sum::<usize>();
    let answer = client.post("/write/plain", PAY).await;
    assert_eq!((answer.status, answer.code().as_str()), (504, "MOAT-U004"), "{answer:?}");
    assert_eq!((asked(), &answer.json()["sent"]), (1, &"unknown".into()), "never twice");
    let keyed = |path: &str| {
        let mut keyed = request("POST", path, PAY);
        keyed.headers_mut().insert("content-type", "application/json".parse().unwrap());
        keyed.headers_mut().insert("idempotency-key", "k1".parse().unwrap());
        keyed
    };
    let answer = client.send(keyed("/write/keyed")).await.unwrap();
    assert_eq!((answer.code().as_str(), asked()), ("MOAT-U004", 4), "three tries");
    let record = gateway
        .record("three tries", |body| body.kind == Kind::Outcome && body.object == "write/keyed")
        .await;
    assert_eq!(record.outcome, Some(Outcome::Unknown));
    assert_eq!(record.note.matches("MOAT-U004").count(), 3, "{}", record.note);
    assert_eq!(gateway.records(Kind::Intent).len(), 2, "one intent a call");
    for _ in 0..100 {
        client.send(keyed("/write/keyed")).await.unwrap();
    }
    let all_tries = asked();
    assert!((102..=124).contains(&all_tries), "{all_tries}: a tenth more, and ten");
    // One that answers makes up for the other, budget or not.
    all[1].set(Mode::Good);
    eventually_async("budget is earned", async || {
        (client.send(keyed("/write/keyed")).await.unwrap().status == 200).then_some(())
    })
    .await;
    gateway.assert_whole();
    assert!(gateway.verify().unpaired.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_that_a_caller_gives_bounds_the_call_and_goes_on_to_the_service() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let gateway = Gateway::start(&pki, service.address, Options::default()).await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    let with = |path: &str, ms: &str| {
        let mut call = request("GET", path, "");
        call.headers_mut().insert("x-request-deadline-ms", ms.parse().unwrap());
        call
    };
    let begun = Instant::now();
    let answer = client.send(with("/masked/hang", "300")).await.unwrap();
    let taken = begun.elapsed();
    assert_eq!((answer.status, answer.code().as_str()), (504, "MOAT-U003"), "{answer:?}");
    assert!(taken > Duration::from_millis(250) && taken < Duration::from_millis(900), "{taken:?}");
    let seen = |answer: crate::support::Answer| -> u64 {
        let fields = answer.json()["fields"].clone();
        fields["x-request-deadline-ms"].as_str().unwrap().parse().unwrap()
    };
    let own = seen(client.send(with("/pass/echo", "400")).await.unwrap());
    assert!((1..=400).contains(&own), "{own}");
    let routes = seen(client.send(with("/pass/echo", "60000")).await.unwrap());
    assert!((1_000..=1_500).contains(&routes), "{routes}");
    let answer = client.send(with("/masked/ok", "0")).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (504, "MOAT-L001"), "{answer:?}");
    assert_eq!(answer.json()["sent"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_calls_itself_unwell_gets_no_calls_until_it_is_well() {
    for (protocol, alpn, health) in [
        ("http1", "http/1.1", "health: { interval_ms: 100, unhealthy_after: 2 }"),
        ("http2", "h2", "health: { kind: grpc, interval_ms: 100, unhealthy_after: 2 }"),
    ] {
        let pki = Pki::new();
        let (one, two) = (Service::start(&pki, &[alpn]).await, Service::start(&pki, &[alpn]).await);
        let endpoints = vec![endpoint(&two)];
        let upstream = health.to_owned();
        let options = Options { protocol, endpoints, upstream, ..Options::default() };
        let gateway = Gateway::start(&pki, one.address, options).await;
        let mut client = Client::http1(&pki, gateway.address, "teller").await;
        one.set(Mode::Unwell);
        let note = format!("endpoint {} of accounts: ", one.address);
        eventually("it is noticed", WAIT, || said(&gateway, &format!("{note}unhealthy")).pop())
            .await;
        let before = one.asked("/masked");
        for _ in 0..20 {
            assert_eq!(client.get("/masked/ok").await.status, 200, "{protocol}");
        }
        assert_eq!((one.asked("/masked"), two.asked("/masked") >= 20), (before, true));
        one.set(Mode::Good);
        eventually("it is noticed", WAIT, || said(&gateway, &format!("{note}healthy")).pop()).await;
        eventually_async("it gets calls again", async || {
            client.get("/masked/ok").await;
            (one.asked("/masked") > before).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_keeps_to_its_endpoint() {
    let pki = Pki::new();
    let all: [Service; 3] = services(&pki).await;
    let endpoints = vec![endpoint(&all[1]), endpoint(&all[2])];
    let options = Options { endpoints, upstream: "balance: ring".to_owned(), ..Options::default() };
    let gateway = Gateway::start(&pki, all[0].address, options).await;
    let mut used = 0;
    for object in 0..12 {
        let path = format!("/masked/{object}/ok");
        for _ in 0..4 {
            // Over new connections, so that both workers are asked.
            let mut client = Client::http1(&pki, gateway.address, "teller").await;
            assert_eq!(client.get(&path).await.status, 200);
        }
        let asked = all.each_ref().map(|service| service.asked(&path));
        assert_eq!(asked.iter().filter(|count| **count > 0).count(), 1, "{asked:?}");
        used |= asked.iter().position(|count| *count > 0).map_or(0, |at| 1 << at);
    }
    assert!(u32::count_ones(used) >= 2, "{used}");
}

/// A server of names, whose answer can be changed; by TCP.
struct Names {
    address: SocketAddr,
    addresses: Arc<Mutex<Vec<[u8; 4]>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Names {
    async fn start() -> Names {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let addresses = Arc::new(Mutex::new(vec![[127, 0, 0, 1]]));
        let own = Arc::clone(&addresses);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                while let Ok(length) = stream.read_u16().await {
                    let mut bytes = vec![0; usize::from(length)];
                    stream.read_exact(&mut bytes).await.unwrap();
                    let list = own.lock().unwrap().clone();
                    (bytes[2], bytes[3]) = (0x81, 0x80);
                    bytes[7] = u8::try_from(list.len()).unwrap();
                    for address in list {
                        bytes.extend([192, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
                        bytes.extend(address);
                    }
                    stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
                    stream.write_all(&bytes).await.unwrap();
                }
            }
        });
        Names { address, addresses, task }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_resolved_again_and_its_last_addresses_are_kept_when_nobody_knows_it() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let names = Names::start().await;
    let named = format!("https://accounts.bank.test:{}", service.address.port());
    // Where a name leads is not known to the egress guard.
    let top = format!(
        "dns: {{ servers: [\"{}\"] }}\negress: {{ allow: [\"127.0.0.0/8\"] }}",
        names.address
    );
    let gateway = Gateway::start_at(&pki, &named, Options { top, ..Options::default() }).await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    let answer = client.get("/pass/echo").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let host = named.strip_prefix("https://").unwrap();
    assert_eq!(answer.json()["fields"]["host"], host, "the service is called by its name");
    let first = said(&gateway, "addresses of accounts.bank.test").remove(0);
    assert!(first.note.ends_with(&service.address.to_string()), "{}", first.note);
    // The name moves to where nobody listens: that is believed, and recorded.
    *names.addresses.lock().unwrap() = vec![[127, 0, 0, 9]];
    eventually("the change is seen", WAIT, || {
        (said(&gateway, "addresses of accounts.bank.test").len() == 2).then_some(())
    })
    .await;
    assert_eq!(client.get("/masked/ok").await.code(), "MOAT-U001");
    *names.addresses.lock().unwrap() = vec![[127, 0, 0, 1], [127, 0, 0, 1]];
    eventually("it is back", WAIT, || {
        (said(&gateway, "addresses of accounts.bank.test").len() == 3).then_some(())
    })
    .await;
    names.task.abort();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(client.get("/masked/ok").await.status, 200, "the last good addresses are kept");
    assert!(gateway.said().contains("the addresses before stay"), "{}", gateway.said());
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_nobody_knows_refuses_calls_and_nothing_else() {
    let pki = Pki::new();
    let top = format!("dns: {{ servers: [\"{}\"] }}", free_address());
    let options = Options { top, ..Options::default() };
    let gateway = Gateway::start_at(&pki, "https://accounts.bank.test:443", options).await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    let answer = client.get("/masked/ok").await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "MOAT-U016"), "{answer:?}");
    gateway.assert_whole();
}
