//! What lets a caller in must stay true while it is connected: lists of revoked certificates,
//! authorities, expiry. And who is told which authorities.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Frame;
use moat_audit::record::{Body, Kind};
use moat_ca::Identity;
use moat_model::Stage;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{Client, Gateway, Lists, Options, Pipe, Pki, Service, eventually, request};

/// Longest from a change until connections that it concerns are cut and recorded.
const SOON: Duration = Duration::from_secs(1);
/// What a machine that does other work beside may add.
const SLACK: Duration = Duration::from_millis(500);

const CLIENTS: &str = "{ role: partners, trust: \"file:pki/root.pem\" }";

struct Bank {
    pki: Pki,
    lists: Lists,
    gateway: Gateway,
    _service: Service,
}

impl Bank {
    /// A gateway whose callers must stand on no list.
    async fn new(protocol: &'static str, alpn: &[&str]) -> Bank {
        let pki = Pki::new();
        let lists = Lists::new(&pki);
        let service = Service::start(&pki, alpn).await;
        let options = Options { protocol, ..Options::default() };
        let gateway = Gateway::start(&pki, service.address, options).await;
        let mut bank = Bank { pki, lists, gateway, _service: service };
        bank.publish(3_600);
        let clients =
            "{ role: partners, trust: \"file:pki/root.pem\", crls: [\"file:pki/lists.pem\"] }";
        bank.gateway.edit_config(CLIENTS, clients);
        let (code, text) = bank.gateway.reload();
        assert_eq!(code, 0, "{text}");
        bank
    }

    /// Puts current lists where the gateway looks for them.
    fn publish(&mut self, length_s: i64) {
        let pem = self.lists.pem(&self.pki, length_s);
        let folder = self.gateway.dir.path().join("pki");
        std::fs::write(folder.join("lists.new"), pem).unwrap();
        std::fs::rename(folder.join("lists.new"), folder.join("lists.pem")).unwrap();
    }

    fn caller(&self, name: &str) -> Identity {
        self.pki.identity(name)
    }

    /// Whether a new connection is served.
    async fn takes(&self, identity: &Identity) -> bool {
        let client = Client::connect(&self.pki, self.gateway.address, identity, true).await;
        let Ok(mut client) = client else { return false };
        client.send(request("GET", "/pass/ok", "")).await.is_ok()
    }

    async fn connect(&self, identity: &Identity, is_http2: bool) -> Client {
        Client::connect(&self.pki, self.gateway.address, identity, is_http2).await.unwrap()
    }
}

/// A handshake whose last flight is not sent yet.
struct HalfDone {
    tls: rustls::ClientConnection,
    stream: std::net::TcpStream,
}

impl HalfDone {
    fn new(pki: &Pki, identity: &Identity, to: SocketAddr) -> HalfDone {
        let name = ServerName::try_from("localhost").unwrap();
        let config = pki.client(Some(identity), "http/1.1");
        let mut tls = rustls::ClientConnection::new(config, name).unwrap();
        let mut stream = std::net::TcpStream::connect(to).unwrap();
        tls.write_tls(&mut stream).unwrap();
        while tls.is_handshaking() {
            tls.read_tls(&mut stream).unwrap();
            tls.process_new_packets().unwrap();
        }
        HalfDone { tls, stream }
    }

    fn finish(&mut self) {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.stream).unwrap();
        }
    }
}

/// Waits until a connection answers nothing more, and says how long that took.
async fn until_cut(client: &mut Client) -> Duration {
    let begun = Instant::now();
    loop {
        match client.send(request("GET", "/pass/ok", "")).await {
            Err(_) => return begun.elapsed(),
            Ok(answer) if answer.status == 200 => {
                assert!(begun.elapsed() < Duration::from_secs(10), "it is still served");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // What was asked in the last moment may be refused in words.
            Ok(answer) => assert!(answer.code().starts_with("MOAT-I0"), "{answer:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_caller_is_cut_within_a_second_and_others_notice_nothing() {
    let mut bank = Bank::new("http1", &["http/1.1"]).await;
    let (bad, good) = (bank.caller("teller"), bank.caller("teller"));
    let (mut cut, mut others) = (Vec::new(), Vec::new());
    for is_http2 in [false, true] {
        cut.push(bank.connect(&bad, is_http2).await);
        others.push(bank.connect(&good, is_http2).await);
    }
    for client in cut.iter_mut().chain(&mut others) {
        assert_eq!(client.get("/pass/ok").await.status, 200);
    }
    bank.lists.revoke(&bad);
    // The gateway watches its files; nobody tells it.
    bank.publish(3_600);
    let begun = Instant::now();
    for client in &mut cut {
        until_cut(client).await;
    }
    assert!(begun.elapsed() < SOON + SLACK, "{:?}", begun.elapsed());
    let is_cut = |body: &Body| body.code == "MOAT-I020" && body.note.contains("cut");
    let record = bank.gateway.record("the cut", is_cut).await;
    assert_eq!((record.kind, record.stage), (Kind::Refusal, Some(Stage::Identify)));
    assert_eq!(record.actor, "spiffe://bank.test/teller");
    let count = || bank.gateway.records(Kind::Refusal).iter().filter(|body| is_cut(body)).count();
    eventually("one record a connection", SOON, || (count() == 2).then_some(())).await;
    for client in &mut others {
        assert_eq!(client.get("/pass/ok").await.status, 200);
    }
    assert!(!bank.takes(&bad).await, "it cannot come back");
    let record = bank.gateway.record("the handshake", |body| body.code == "MOAT-T015").await;
    assert_eq!(record.stage, Some(Stage::Handshake));
    bank.gateway.assert_whole();
}

fn frame(text: &str) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_stream_of_a_revoked_caller_is_cut_too() {
    let mut bank = Bank::new("http2", &["h2"]).await;
    let (bad, good) = (bank.caller("teller"), bank.caller("teller"));
    let mut streams = Vec::new();
    for identity in [&bad, &good] {
        let mut client = bank.connect(identity, true).await;
        let (sender, pipe) = Pipe::new();
        sender.try_send(Frame::data(frame("0"))).unwrap();
        let call = Request::builder().method("POST").uri("/test.Frames/Echo");
        let call = call.header("content-type", "application/grpc").header("te", "trailers");
        let mut answer = client.begin(call.body(pipe.boxed()).unwrap()).await.unwrap();
        answer.body_mut().frame().await.unwrap().unwrap();
        streams.push((client, sender, answer));
    }
    bank.lists.revoke(&bad);
    bank.publish(3_600);
    let begun = Instant::now();
    let (_client, _sender, answer) = &mut streams[0];
    let ended = tokio::time::timeout(Duration::from_secs(10), answer.body_mut().frame()).await;
    assert!(matches!(ended.expect("it ends"), Some(Err(_))), "not as if it were done");
    assert!(begun.elapsed() < SOON + SLACK, "{:?}", begun.elapsed());
    bank.gateway.record("the cut", |body| body.code == "MOAT-I020").await;
    let (_client, sender, answer) = &mut streams[1];
    sender.send(Frame::data(frame("1"))).await.unwrap();
    let got = answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(got, frame("1"), "the other stream goes on");
    drop(streams);
    let closed = || {
        let log = bank.gateway.log();
        (log.iter().filter(|leaf| leaf.body.parent_seq.is_some()).count() == 2).then_some(())
    };
    eventually("both calls have their closing record", SOON * 5, closed).await;
    bank.gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_expires_and_an_authority_that_goes_end_connections() {
    let bank = Bank::new("http1", &["http/1.1"]).await;
    let uri = ["spiffe://bank.test/teller"];
    let brief = bank.pki.issue(&uri, 0, 3);
    let mut ending = bank.connect(&brief, true).await;
    let mut open = bank.connect(&bank.caller("teller"), true).await;
    for client in [&mut ending, &mut open] {
        assert_eq!(client.get("/pass/ok").await.status, 200);
    }
    // Quiet, so that no call finds it out.
    let ended = bank.gateway.record("the expiry", |body| body.code == "MOAT-I006").await;
    assert_eq!(ended.kind, Kind::Refusal);
    assert!(ending.send(request("GET", "/pass/ok", "")).await.is_err());
    assert_eq!(open.get("/pass/ok").await.status, 200);
    let other = Pki::named("Other");
    std::fs::write(bank.gateway.dir.path().join("pki/other.pem"), other.trust_pem()).unwrap();
    let from = "role: partners, trust: \"file:pki/root.pem\"";
    bank.gateway.edit_config(from, "role: partners, trust: \"file:pki/other.pem\"");
    let taken = until_cut(&mut open).await;
    assert!(taken < SOON + SLACK, "{taken:?}");
    bank.gateway.record("the authority's end", |body| body.code == "MOAT-I021").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_revoked_during_its_handshake_does_not_stay() {
    let mut bank = Bank::new("http1", &["http/1.1"]).await;
    let bad = bank.caller("teller");
    let mut half = HalfDone::new(&bank.pki, &bad, bank.gateway.address);
    bank.lists.revoke(&bad);
    bank.publish(3_600);
    assert_eq!(bank.gateway.reload().0, 0);
    half.finish();
    let record = bank.gateway.record("the cut", |body| body.code == "MOAT-I020").await;
    assert_eq!(record.actor, "spiffe://bank.test/teller");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_held_back_until_its_caller_was_revoked_is_not_done() {
    let mut bank = Bank::new("http1", &["http/1.1"]).await;
    let bad = bank.caller("teller");
    let mut client = bank.connect(&bad, true).await;
    assert_eq!(client.get("/pass/ok").await.status, 200);
    let (sender, pipe) = Pipe::new();
    sender.try_send(Frame::data(Bytes::from_static(b"{\"amount\": \"1.00\""))).unwrap();
    let call = Request::builder().method("POST").uri("/write/held");
    let call = call.header("content-type", "application/json").body(pipe.boxed()).unwrap();
    let held = tokio::spawn(async move { client.begin(call).await.map(|answer| answer.status()) });
    tokio::time::sleep(Duration::from_millis(200)).await;
    bank.lists.revoke(&bad);
    bank.publish(3_600);
    assert_eq!(bank.gateway.reload().0, 0);
    // Within the grace that calls under way have, or after it: neither lets it through.
    let _ = sender.try_send(Frame::data(Bytes::from_static(b"}")));
    drop(sender);
    let answer = tokio::time::timeout(Duration::from_secs(10), held).await.unwrap().unwrap();
    assert!(answer.is_err() || answer.is_ok_and(|status| status == 403));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(bank.gateway.records(Kind::Intent).len(), 0, "nothing was begun");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_grows_old_ends_what_it_vouched_for_until_the_next_one_comes() {
    let mut bank = Bank::new("http1", &["http/1.1"]).await;
    bank.gateway.stop();
    bank.publish(4);
    // Nothing is reloaded, so that nothing but the time makes it look.
    bank.gateway.start_again().await;
    let mut open = bank.connect(&bank.caller("teller"), true).await;
    assert_eq!(open.get("/pass/ok").await.status, 200, "a fresh list harms nobody");
    let record = bank.gateway.record("the old list", |body| body.code == "MOAT-I022").await;
    assert_eq!(record.actor, "spiffe://bank.test/teller");
    assert!(open.send(request("GET", "/pass/ok", "")).await.is_err());
    assert!(!bank.takes(&bank.caller("teller")).await);
    bank.gateway.record("the handshake", |body| body.code == "MOAT-T017").await;
    bank.publish(3_600);
    assert_eq!(bank.gateway.reload().0, 0);
    assert!(bank.takes(&bank.caller("teller")).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_do_not_go_back_and_none_is_no_good() {
    let mut bank = Bank::new("http1", &["http/1.1"]).await;
    let path = bank.gateway.dir.path().join("pki/lists.pem");
    let old = std::fs::read(&path).unwrap();
    bank.publish(3_600);
    assert_eq!(bank.gateway.reload().0, 0);
    assert!(bank.takes(&bank.caller("teller")).await, "a list that was used is one in force");
    // Not even by way of no list at all.
    let other = Pki::named("Other");
    std::fs::write(&path, Lists::new(&other).pem(&other, 3_600)).unwrap();
    assert_eq!(bank.gateway.reload().0, 0);
    std::fs::write(&path, old).unwrap();
    let (code, text) = bank.gateway.reload();
    assert_eq!(code, 78, "{text}");
    assert!(text.contains("MOAT-T024"), "{text}");
    std::fs::write(&path, "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n").unwrap();
    let (code, text) = bank.gateway.reload();
    assert_eq!(code, 78, "{text}");
    assert!(text.contains("MOAT-T023"), "{text}");
    // The lists of another authority say nothing of ours.
    std::fs::write(&path, Lists::new(&other).pem(&other, 3_600)).unwrap();
    assert_eq!(bank.gateway.reload().0, 0);
    assert!(!bank.takes(&bank.caller("teller")).await);
    bank.gateway.record("the handshake", |body| body.code == "MOAT-T016").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_to_a_service_that_was_revoked() {
    let pki = Pki::new();
    let mut lists = Lists::new(&pki);
    let identity = pki.identity("accounts");
    let service = Service::start_with(pki.server(&identity, &["http/1.1"])).await;
    let gateway = Gateway::start(&pki, service.address, Options::default()).await;
    let path = gateway.dir.path().join("pki/lists.pem");
    std::fs::write(&path, lists.pem(&pki, 3_600)).unwrap();
    let spiffe = "spiffe: \"spiffe://bank.test/accounts\"";
    gateway.edit_config(spiffe, &format!("{spiffe}, crls: [\"file:pki/lists.pem\"]"));
    assert_eq!(gateway.reload().0, 0);
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    assert_eq!(client.get("/pass/ok").await.status, 200);
    lists.revoke(&identity);
    std::fs::write(&path, lists.pem(&pki, 3_600)).unwrap();
    assert_eq!(gateway.reload().0, 0);
    let before = service.paths().len();
    let answer = client.get("/pass/ok").await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "MOAT-U020"), "{answer:?}");
    assert_eq!(service.paths().len(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_wants_it_is_told_the_callers_chain_and_nothing_that_was_not_needed() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let gateway = Gateway::start(&pki, service.address, Options::default()).await;
    gateway.edit_config("    protocol: http1", "    protocol: http1\n    caller_chain: true");
    assert_eq!(gateway.reload().0, 0);
    let plain = pki.identity("teller");
    let stranger = Pki::named("Other").identity("teller");
    let chain_pem = [&plain.chain_pem, pki.trust_pem(), &stranger.chain_pem].concat();
    let shown = Identity { chain_pem, key_pem: plain.key_pem.clone() };
    let mut client = Client::connect(&pki, gateway.address, &shown, false).await.unwrap();
    let answer = client.get("/pass/echo").await;
    let header =
        answer.json()["fields"]["x-forwarded-client-cert"].as_str().unwrap_or_default().to_owned();
    let (_, chain) = header.split_once("Chain=\"").unwrap_or_else(|| panic!("{answer:?}"));
    let pem = chain.trim_end_matches('"').replace("%0A", "\n").replace("%20", " ");
    let pem = pem.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
    let ders = |pem: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
    };
    assert_eq!(ders(&pem), ders(&plain.chain_pem));
    let needless = [ders(pki.trust_pem()), ders(&stranger.chain_pem)].concat();
    let bytes: usize = needless.iter().map(|one| one.len()).sum();
    let told = || gateway.status()["gateway"]["spared_bytes"].as_u64().filter(|spared| *spared > 0);
    let spared = eventually("what was spared", SOON, told).await;
    assert_eq!(spared, bytes as u64, "{}", gateway.status());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_must_staple_where_it_is_told_so_and_the_gateway_does_too() {
    let pki = Pki::new();
    let mut lists = Lists::new(&pki);
    let identity = pki.identity("accounts");
    let response = lists.answer(&pki, &identity);
    let other = lists.answer(&pki, &pki.identity("other"));
    let require = (
        "spiffe: \"spiffe://bank.test/accounts\"",
        "ocsp: require, spiffe: \"spiffe://bank.test/accounts\"",
    );
    for (response, status) in [(Some(response), 200), (Some(other), 503), (None, 503)] {
        let tls = match response {
            Some(response) => pki.stapling(&identity, response),
            None => pki.server(&identity, &["http/1.1"]),
        };
        let service = Service::start_with(tls).await;
        let gateway = Gateway::start(&pki, service.address, Options::default()).await;
        gateway.edit_config(require.0, require.1);
        assert_eq!(gateway.reload().0, 0);
        let mut client = Client::http1(&pki, gateway.address, "teller").await;
        let answer = client.get("/pass/ok").await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(status == 200 || answer.code() == "MOAT-U022", "{answer:?}");
        assert_eq!(service.paths().len(), usize::from(status == 200));
        if status != 200 {
            continue;
        }
        // A response for another certificate is no reload; one for its own is stapled.
        let folder = gateway.dir.path().join("pki");
        std::fs::write(folder.join("gateway.ocsp"), "no response").unwrap();
        let key = "key: \"file:pki/gateway.key\"";
        gateway.edit_config(key, &format!("{key}, ocsp: \"file:pki/gateway.ocsp\""));
        let (code, text) = gateway.reload();
        assert_eq!(code, 78, "{text}");
        assert!(text.contains("MOAT-T025"), "{text}");
        let chain_pem = std::fs::read_to_string(folder.join("gateway.pem")).unwrap();
        let own = Identity { chain_pem, key_pem: String::new().into() };
        std::fs::write(folder.join("gateway.ocsp"), lists.answer(&pki, &own)).unwrap();
        assert_eq!(gateway.reload().0, 0);
        let stapled = pki.stapled(&pki.identity("teller"), gateway.address).await;
        assert_eq!(stapled, std::fs::read(folder.join("gateway.ocsp")).unwrap());
    }
}

/// Shows its certificate to whoever asks, and keeps whom they say they trust.
#[derive(Debug)]
struct Keeping {
    key: Arc<CertifiedKey>,
    hints: Mutex<Vec<Vec<u8>>>,
}

impl ResolvesClientCert for Keeping {
    fn resolve(&self, hints: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        *self.hints.lock().unwrap() = hints.iter().map(|hint| hint.to_vec()).collect();
        Some(Arc::clone(&self.key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Calls a server by name; gives whom it trusts, and whether it takes the caller.
async fn named(pki: &Pki, of: &Pki, gateway: &Gateway, name: &str) -> (Vec<Vec<u8>>, bool) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let keeping =
        Arc::new(Keeping { key: of.certified(&of.identity("teller")), hints: Mutex::default() });
    let config = pki.naming(Arc::clone(&keeping) as Arc<dyn ResolvesClientCert>);
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let tls = TlsConnector::from(config).connect(name, stream).await;
    let is_taken = match tls {
        Err(_) => false,
        Ok(mut tls) => {
            let _ = tls.write_all(b"GET /pass/ok HTTP/1.1\r\nHost: gateway.test\r\n\r\n").await;
            tls.read_u8().await.is_ok()
        }
    };
    let hints = keeping.hints.lock().unwrap().clone();
    (hints, is_taken)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_told_the_authorities_of_their_own_group_and_measured_by_them() {
    let (pki, devices) = (Pki::new(), Pki::named("Devices"));
    let service = Service::start(&pki, &["http/1.1"]).await;
    let gateway = Gateway::start(&pki, service.address, Options::default()).await;
    let folder = gateway.dir.path().join("pki");
    std::fs::write(folder.join("devices.pem"), devices.trust_pem()).unwrap();
    let both = format!("{}{}", pki.trust_pem(), devices.trust_pem());
    std::fs::write(folder.join("both.pem"), both).unwrap();
    let groups = "{ role: device, server_names: [POS.bank.test], trust: \"file:pki/devices.pem\" }, \
                  { role: terminal, server_names: [desk.bank.test], trust: \"file:pki/both.pem\" }";
    gateway.edit_config(CLIENTS, groups);
    let (code, text) = gateway.reload();
    assert_eq!(code, 0, "{text}");
    let (hints, taken) = named(&pki, &devices, &gateway, "pos.bank.test").await;
    assert_eq!((hints.len(), taken), (1, true), "an embedded device is told one authority");
    let (hints, taken) = named(&pki, &pki, &gateway, "desk.bank.test").await;
    assert_eq!((hints.len(), taken), (2, true), "a terminal is told all");
    let (_, taken) = named(&pki, &pki, &gateway, "pos.bank.test").await;
    assert!(!taken, "a terminal's certificate is none of a device");
    gateway.record("the stranger", |body| body.code == "MOAT-T004").await;
    let (_, taken) = named(&pki, &pki, &gateway, "other.bank.test").await;
    assert!(!taken);
    let record = gateway.record("the name", |body| body.code == "MOAT-T018").await;
    assert_eq!(record.stage, Some(Stage::Handshake));
}

/// With `MOAT_CONNECTIONS=10000` the number that figures are given for; a few where nobody asks.
fn connections() -> usize {
    std::env::var("MOAT_CONNECTIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

/// Descriptors for both sides of so many connections; processes that are started inherit them.
fn raise_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ =
        setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_connections_those_of_the_revoked_are_cut_within_a_second() {
    raise_descriptors();
    let mut bank = Bank::new("http1", &["http/1.1"]).await;
    bank.gateway.edit_config("connections_max: 10000", "connections_max: 20000");
    let (bad, good) = (bank.caller("teller"), bank.caller("teller"));
    let (all, many) = (connections(), connections() / 10);
    let mut open = Vec::new();
    let begun = Instant::now();
    while open.len() < all {
        // Not more at once than one source may have under way.
        let batch = (open.len()..all.min(open.len() + 32)).map(|at| {
            let identity = if at < many { &bad } else { &good };
            Client::connect(&bank.pki, bank.gateway.address, identity, false)
        });
        let batch: Vec<_> = futures_of(batch).await;
        open.extend(batch.into_iter().map(Result::unwrap));
    }
    eprintln!("{all} connections in {:?}", begun.elapsed());
    let others = open.split_off(many);
    let cut = async |open: &[Client]| {
        let begun = Instant::now();
        while open.iter().any(|client| !client.has_ended()) {
            assert!(begun.elapsed() < Duration::from_secs(20), "some are still open");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        begun.elapsed()
    };
    for (revoked, open, left) in [(&bad, &open, others.as_slice()), (&good, &others, &[][..])] {
        bank.lists.revoke(revoked);
        bank.publish(3_600);
        let took = cut(open).await;
        eprintln!(
            "{} of {} cut {took:?} after their list lay there",
            open.len(),
            open.len() + left.len()
        );
        assert!(took < SOON + SLACK, "{took:?}");
        assert!(left.iter().all(|client| !client.has_ended()), "others notice nothing");
    }
    let count = || {
        let records = bank.gateway.records(Kind::Refusal);
        (records.iter().filter(|body| body.code == "MOAT-I020").count() == all).then_some(())
    };
    eventually("one record a connection", Duration::from_secs(30), count).await;
    bank.gateway.assert_whole();
}

/// All of them at once.
async fn futures_of<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (one, done) in all.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(output) = one.as_mut().poll(cx)
            {
                *done = Some(output);
            }
        }
        if done.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}
