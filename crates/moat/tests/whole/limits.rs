//! Rates and limits: who asks too often is told when to come again, and nobody else notices.

use moat_audit::record::{Kind, Outcome};
use moat_model::Stage;

use crate::support::{Client, Gateway, Mode, Options, Pki, Service, request};

const PAY: &str = "{\"amount\":\"10.00\",\"secret\":\"张三丰\"}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_over_its_rate_is_told_when_to_come_again_and_others_are_served() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let route = "rates: [{ name: each, calls: 5, every_ms: 60000 }]".to_owned();
    let options = Options { route, ..Options::default() };
    let gateway = Gateway::start(&pki, service.address, options).await;
    let mut refused = None;
    for call in 0..6 {
        // Over connections of their own, so that both workers count.
        let mut client = Client::http1(&pki, gateway.address, "teller").await;
        let answer = client.get("/masked/ok").await;
        assert_eq!(answer.status, if call < 5 { 200 } else { 429 }, "{call}: {answer:?}");
        refused = Some(answer);
    }
    let refused = refused.unwrap();
    assert_eq!((refused.code().as_str(), &refused.json()["sent"]), ("MOAT-L002", &false.into()));
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((10..=12).contains(&wait), "{wait}");
    assert_eq!(refused.header("ratelimit-policy"), "\"each\";q=5;w=60");
    assert_eq!(refused.header("ratelimit"), format!("\"each\";r=0;t={wait}"));
    let mut other = Client::http1(&pki, gateway.address, "auditor").await;
    assert_eq!(other.get("/masked/ok").await.status, 200, "another caller");
    assert_eq!(other.get("/pass/ok").await.status, 200, "and another route");
    // A reload forgives nothing.
    gateway.edit_config("protocol: http1", "protocol: http1\n    idle_ms: 1000");
    assert_eq!(gateway.reload().0, 0);
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    assert_eq!(client.get("/masked/ok").await.status, 429);
    let record = gateway.records(Kind::Refusal).into_iter().find(|b| b.code == "MOAT-L002");
    let record = record.unwrap();
    assert_eq!((record.stage, record.outcome), (Some(Stage::Decode), Some(Outcome::Refused)));
    assert_eq!((record.route.as_str(), record.actor.ends_with("/teller")), ("masked", true));
    assert_eq!(service.asked("/masked"), 6);
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_gets_no_more_calls_at_once_than_it_carries() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let upstream = "adaptive_max: 4".to_owned();
    let options = Options { upstream, ..Options::default() };
    let gateway = Gateway::start(&pki, service.address, options).await;
    // One connection, and so one worker.
    let client = Client::http2(&pki, gateway.address, "teller").await;
    let mut calls = Vec::new();
    for _ in 0..10 {
        let mut client = client.again();
        calls.push(tokio::spawn(async move { client.get("/masked/slow").await }));
    }
    let (mut good, mut over) = (0, 0);
    for call in calls {
        let answer = call.await.unwrap();
        match (answer.status, answer.code().as_str()) {
            (200, _) => good += 1,
            (503, "MOAT-L004") => over += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((good, over), (4, 6));
    let mut client = client;
    // A place is given back however a call ends.
    for path in ["/masked/reset-at-once", "/masked/short", "/pass/big-100000", "/masked/text"] {
        for _ in 0..3 {
            let _ = client.send(request("GET", path, "")).await;
        }
    }
    service.set(Mode::Away);
    for _ in 0..5 {
        client.post("/write/now", PAY).await;
    }
    service.set(Mode::Good);
    let mut calls = Vec::new();
    for _ in 0..4 {
        let mut client = client.again();
        calls.push(tokio::spawn(async move { client.get("/masked/slow").await.status }));
    }
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
    gateway.assert_whole();
}
