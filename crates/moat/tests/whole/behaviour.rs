//! What is remembered of callers, and decisions that are made again while a call streams.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use moat_audit::record::{Body, Kind, Outcome};

use crate::support::{Client, Gateway, Options, Pipe, Pki, Service, moat, request};

/// Longest from a change until streams that it concerns are ended.
const SOON: Duration = Duration::from_secs(1);
/// What a machine that does other work beside may add, and the look at files.
const SLACK: Duration = Duration::from_millis(1_000);

/// `learn` is open to all; anything else only to who does as usual.
const BY_RISK: &str = r#"package authz

allow contains "learning" if startswith(input.request.params.rest, "learn")

allow contains "usual" if input.risk.score < 150
"#;

async fn bank(policy: &'static str, protocol: &'static str, more: &'static str) -> Bank {
    let pki = Pki::new();
    let alpn = if protocol == "http2" { "h2" } else { "http/1.1" };
    let service = Service::start(&pki, &[alpn]).await;
    let options = Options { policy, protocol, more, ..Options::default() };
    let gateway = Gateway::start(&pki, service.address, options).await;
    Bank { pki, gateway, _service: service }
}

struct Bank {
    pki: Pki,
    gateway: Gateway,
    _service: Service,
}

impl Bank {
    async fn connect(&self, name: &str, is_http2: bool) -> Client {
        let identity = self.pki.identity(name);
        Client::connect(&self.pki, self.gateway.address, &identity, is_http2).await.unwrap()
    }

    /// Puts another policy where the gateway looks for it.
    fn publish(&self, policy: &str) {
        let folder = self.gateway.dir.path();
        std::fs::write(folder.join("authz.new"), policy).unwrap();
        std::fs::rename(folder.join("authz.new"), folder.join("policy/authz.rego")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_is_compared_with_its_history_over_a_restart() {
    let mut bank = bank(BY_RISK, "http1", "risk: { subjects_max: 1024 }").await;
    let mut client = bank.connect("teller", false).await;
    let refused = client.get("/pass/usual").await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "MOAT-P002"));
    let record = bank.gateway.record("the refusal", |body| body.code == "MOAT-P002").await;
    assert_eq!(record.risk, "cold 500 cold=500");
    for _ in 0..8 {
        assert_eq!(client.get("/pass/learn").await.status, 200);
    }
    assert_eq!(client.get("/pass/usual").await.status, 200);
    bank.gateway.record("what is usual", |body| body.risk == "known 0").await;
    // Another protocol is another hello, and so another device.
    let mut other = bank.connect("teller", true).await;
    assert_eq!(other.get("/pass/usual").await.status, 403);
    bank.gateway.record("the device", |body| body.risk == "known 200 new_device=200").await;
    assert_eq!(bank.connect("auditor", false).await.get("/pass/usual").await.status, 403);
    bank.gateway.stop();
    bank.gateway.start_again().await;
    let mut client = bank.connect("teller", false).await;
    assert_eq!(client.get("/pass/usual").await.status, 200, "it is still known");
    // A gateway that ends without a word knows what was a second ago.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(bank.gateway.kill_role("gateway"));
    tokio::time::sleep(Duration::from_millis(200)).await;
    bank.gateway.wait_ready().await;
    assert_eq!(bank.connect("teller", false).await.get("/pass/usual").await.status, 200);
    bank.gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_memory_a_policy_on_risk_refuses() {
    let bank = bank(BY_RISK, "http1", "").await;
    let mut client = bank.connect("teller", false).await;
    for _ in 0..10 {
        assert_eq!(client.get("/pass/learn").await.status, 200);
    }
    assert_eq!(client.get("/pass/usual").await.status, 403);
    let record = bank.gateway.record("the refusal", |body| body.code == "MOAT-P002").await;
    assert_eq!(record.risk, "");
}

fn frame(text: &str) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes.into()
}

const OPEN: &str = "package authz\nallow if input.peer.spiffe\n";
const NO_TELLER: &str = r#"package authz
allow if input.peer.spiffe
deny contains "teller_gone" if input.peer.spiffe == "spiffe://bank.test/teller"
"#;

/// Waits until a stream breaks off; gives how long it took.
async fn until_broken(answer: &mut Response<Incoming>) -> Duration {
    let begun = Instant::now();
    loop {
        let next = tokio::time::timeout(Duration::from_secs(10), answer.body_mut().frame()).await;
        match next.expect("it ends") {
            Some(Ok(_)) => {}
            Some(Err(_)) => return begun.elapsed(),
            None => panic!("it ends as if it were done"),
        }
    }
}

fn is_ended(body: &Body) -> bool {
    body.code == "MOAT-P039" && body.parent_seq.is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_changes_ends_the_streams_that_it_would_not_allow() {
    let bank = bank(OPEN, "http2", "").await;
    let mut streams = Vec::new();
    for name in ["teller", "auditor"] {
        let mut client = bank.connect(name, true).await;
        let (sender, pipe) = Pipe::new();
        sender.try_send(Frame::data(frame("0"))).unwrap();
        let call = Request::builder().method("POST").uri("/test.Frames/Echo");
        let call = call.header("content-type", "application/grpc").header("te", "trailers");
        let mut answer = client.begin(call.body(pipe.boxed()).unwrap()).await.unwrap();
        answer.body_mut().frame().await.unwrap().unwrap();
        streams.push((client, sender, answer));
    }
    bank.publish(NO_TELLER);
    let (_client, _sender, answer) = &mut streams[0];
    let took = until_broken(answer).await;
    assert!(took < SOON + SLACK, "{took:?}");
    let record = bank.gateway.record("the end", is_ended).await;
    assert_eq!((record.kind, record.outcome), (Kind::Read, Some(Outcome::Aborted)));
    assert_eq!(record.reasons, ["teller_gone"]);
    // The connection stays, and says what its caller is told from now on.
    let (client, ..) = &mut streams[0];
    let answer = client.get("/pass/ok").await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "MOAT-P001"));
    let (_client, sender, answer) = &mut streams[1];
    sender.send(Frame::data(frame("1"))).await.unwrap();
    let got = answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(got, frame("1"), "the other stream goes on");
    drop(streams);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_1_a_stream_ends_with_its_connection() {
    let bank = bank(OPEN, "http1", "").await;
    let (mut client, mut other) =
        (bank.connect("teller", false).await, bank.connect("auditor", false).await);
    let mut answer = client.begin(request("GET", "/pass/drip", "")).await.unwrap();
    let mut kept = other.begin(request("GET", "/pass/drip", "")).await.unwrap();
    answer.body_mut().frame().await.unwrap().unwrap();
    bank.publish(NO_TELLER);
    let took = until_broken(&mut answer).await;
    assert!(took < SOON + SLACK, "{took:?}");
    assert_eq!(bank.gateway.record("the end", is_ended).await.reasons, ["teller_gone"]);
    for _ in 0..3 {
        kept.body_mut().frame().await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_subject_becomes_a_risk_is_ended() {
    let bank = bank(BY_RISK, "http1", "risk: {}").await;
    let mut client = bank.connect("teller", false).await;
    for _ in 0..8 {
        assert_eq!(client.get("/pass/learn").await.status, 200);
    }
    let mut answer = client.begin(request("GET", "/pass/drip", "")).await.unwrap();
    answer.body_mut().frame().await.unwrap().unwrap();
    // Somebody else with the same identity is refused again and again.
    let mut thief = bank.connect("teller", true).await;
    for _ in 0..8 {
        assert_eq!(thief.get("/pass/usual").await.status, 403);
    }
    let took = until_broken(&mut answer).await;
    assert!(took < SOON + SLACK, "{took:?}");
    let record = bank.gateway.record("the end", is_ended).await;
    assert_eq!(record.reasons, ["MOAT-P002"]);
}

/// As the usual one, but for amounts.
const NEW: &str = r#"package authz

default allow := false

allow if input.peer.spiffe in {"spiffe://bank.test/teller", "spiffe://bank.test/auditor"}

deny contains "blocked" if input.route == "denied"

deny contains "too_much" if {
	input.route == "write"
	input.body.amount > 5000
}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_decided_is_asked_again_of_another_bundle() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let options = Options { more: "replay: {}", ..Options::default() };
    let mut gateway = Gateway::start(&pki, service.address, options).await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    let (small, large) = ("{\"amount\":10,\"secret\":\"Zhang San\"}", "{\"amount\":60}");
    for body in [small, small, large] {
        let answer = client.post("/write/ok", body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(client.get("/pass/ok").await.status, 200);
    assert_eq!(client.get("/denied/ok").await.status, 403);
    gateway.stop();
    let folder = gateway.dir.path();
    let inputs = folder.join("replay-inputs");
    let text = std::fs::read_dir(&inputs)
        .unwrap()
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    let text: String = text.collect();
    assert_eq!(text.lines().count(), 5, "{text}");
    assert!(!text.contains("Zhang"), "no field but what is decided on, and C1");
    std::fs::create_dir(folder.join("new")).unwrap();
    let replay = |policy: &str, more: &[&str]| {
        std::fs::write(folder.join("new/authz.rego"), policy).unwrap();
        let (bundle, inputs) = (folder.join("new"), inputs.display().to_string());
        let bundle = bundle.display().to_string();
        let first = ["policy", "replay", "--bundle", &bundle, "--inputs", &inputs];
        moat(&[first.as_slice(), more].concat())
    };
    let old = folder.join("policy").display().to_string();
    let (code, out, err) = replay(NEW, &["-o", "json", "--since", "1h", "--old", &old]);
    assert_eq!(code, 0, "{out}{err}");
    let lines: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{out}");
    let changed = &lines[0];
    assert_eq!(changed["route"], "write");
    assert_eq!(changed["caller"], "spiffe://bank.test/teller");
    assert_eq!(
        (&changed["was"]["effect"], &changed["is"]["effect"]),
        (&"allow".into(), &"deny".into())
    );
    assert_eq!(changed["rule"]["place"], "authz.rego:9");
    let trace = changed["trace"].as_str().unwrap();
    let leaf = gateway.log().into_iter().find(|leaf| hex(&leaf.body.trace_id) == trace);
    assert_eq!(leaf.unwrap().body.object, "write/ok");
    let sums = &lines[1]["sums"];
    assert_eq!(
        (&sums["asked"], &sums["same"], &sums["changed"]),
        (&5.into(), &4.into(), &1.into())
    );
    assert_eq!(sums["not_reproduced"], 0);
    let (code, out, err) = moat(&[
        "policy",
        "why",
        "--bundle",
        &old,
        "--inputs",
        &inputs.display().to_string(),
        "--trace",
        trace,
    ]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("allow = true") && out.contains("risk = off 1000"), "{out}");
    // A bound on changes; nobody's answers but one's own are given again; people read it too.
    let (code, out, _) = replay(NEW, &["--changed-max", "0"]);
    assert_eq!(code, 1);
    assert!(out.contains("allow -> deny (too_much)"), "{out}");
    assert!(out.contains("5 asked") && out.contains("authz.rego:9"), "{out}");
    // What was left out for its class is undecidable for a bundle that reads it.
    let reads = NEW.replace("input.body.amount > 5000", "input.request.headers[\"x\"] == \"y\"");
    let (_, out, _) = replay(&reads, &[]);
    assert!(out.contains("5 the same, 0 changed"), "no route declares a header: {out}");
    gateway.assert_whole();
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[test]
fn without_kept_inputs_replay_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().display().to_string();
    std::fs::write(folder.path().join("authz.rego"), NEW).unwrap();
    let (code, _, err) = moat(&["policy", "replay", "--bundle", &bundle, "--inputs", &bundle]);
    assert_ne!(code, 0);
    assert!(err.contains("set `replay` in the configuration"), "{err}");
}
