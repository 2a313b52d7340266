//! Messages of ISO 8583 through the whole gateway: a caller by mutual TLS, a scripted switch behind.
//!
//! The file is longer than others: caller, switch and configuration are used by every test in it, and
//! by no other.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use moat_audit::record::{Body, Kind, Outcome, Value};
use moat_message::frame::{Framing, LengthForm};
use moat_message::session::Assembler;
use moat_message::{Check, Draft, Index, Spec, iso8583, json};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::support::{Client, Gateway, Options, Pki, eventually, free_address, request};

const FRAMING: Framing = Framing { form: LengthForm::Binary2, includes_itself: false };
/// A port that the kernel chooses.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// Longest wait for an answer.
const WAIT: Duration = Duration::from_secs(10);
/// A card number, track data and a PIN block that must stand nowhere.
const PAN: &str = "6222029876543210128";
const TRACK: &str = "6222029876543210128=29122011234567890";
const PIN: &str = "1A2B3C4D5E6F7081";

static SPEC: LazyLock<Spec> = LazyLock::new(|| {
    let (_, yaml) = moat_message::spec::SHIPPED
        .into_iter()
        .find(|(name, _)| *name == "iso8583-1987-ascii")
        .expect("it is shipped");
    Spec::parse(yaml).expect("a spec")
});

/// A message from its type and fields.
fn message(mti: &str, fields: &[(u8, &str)]) -> Vec<u8> {
    let mut draft = Draft::new(&SPEC, mti.parse().unwrap());
    for (number, text) in fields {
        draft.set_text(*number, text).unwrap_or_else(|e| panic!("field {number}: {e}"));
    }
    let mut out = Vec::new();
    draft.write(&mut out).unwrap();
    out
}

/// A purchase at a terminal, whose name says what the switch is to do.
fn purchase(mti: &str, trace: u32, terminal: &str, amount: &str) -> Vec<u8> {
    let trace = format!("{trace:06}");
    let fields = [
        (2, PAN),
        (3, "000000"),
        (4, amount),
        (7, "1123165000"),
        (11, &trace),
        (32, "12345678"),
        (35, TRACK),
        (41, terminal),
        (49, "156"),
        (52, PIN),
    ];
    message(mti, &fields)
}

fn reversal(mti: &str, trace: u32, terminal: &str) -> Vec<u8> {
    let trace = format!("{trace:06}");
    let original = format!("0200{:06}1123165000{:0>22}", 1, "");
    let fields = [
        (2, PAN),
        (3, "000000"),
        (4, "000000001000"),
        (7, "1123165001"),
        (11, trace.as_str()),
        (41, terminal),
        (90, original.as_str()),
    ];
    message(mti, &fields)
}

fn fields_of(message: &[u8]) -> Json {
    let mut index = Index::new();
    let mut view =
        iso8583::decode(&SPEC, Check::Strict, message, &mut index).expect("a good message");
    serde_json::from_str(&json::write(&mut view).unwrap()).unwrap()
}

fn code_of(message: &[u8]) -> String {
    fields_of(message)["fields"]["response_code"].as_str().unwrap_or_default().to_owned()
}

/// A switch that does what the terminal's name says.
struct Switch {
    address: SocketAddr,
    seen: Arc<Seen>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    messages: Mutex<Vec<Vec<u8>>>,
    types: Mutex<HashMap<String, usize>>,
    links: AtomicUsize,
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Switch {
    async fn start(pki: &Pki) -> Switch {
        Switch::start_as(pki, "switch", ANY).await
    }

    async fn start_as(pki: &Pki, name: &str, address: SocketAddr) -> Switch {
        let config = pki.server(&pki.identity(name), &[]);
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let task = tokio::spawn(accept(listener, config, Arc::clone(&seen)));
        Switch { address, seen, task }
    }

    fn types(&self, mti: &str) -> usize {
        self.seen.types.lock().unwrap().get(mti).copied().unwrap_or_default()
    }

    fn messages(&self, mti: &str) -> Vec<Vec<u8>> {
        let all = self.seen.messages.lock().unwrap();
        all.iter().filter(|message| message.starts_with(mti.as_bytes())).cloned().collect()
    }
}

async fn accept(listener: TcpListener, config: Arc<ServerConfig>, seen: Arc<Seen>) {
    let acceptor = TlsAcceptor::from(config);
    let mut tasks = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
        tasks.spawn(async move {
            let Ok(mut tls) = acceptor.accept(stream).await else { return };
            seen.links.fetch_add(1, Ordering::Relaxed);
            let (mut assembler, mut buffer) = (Assembler::new(FRAMING), vec![0; 4096]);
            let mut held: Option<Vec<u8>> = None;
            loop {
                let Ok(length @ 1..) = tls.read(&mut buffer).await else { return };
                assembler.push(&buffer[..length]);
                while let Ok(Some(message)) = assembler.next_message() {
                    let mti = String::from_utf8_lossy(&message[..4]).into_owned();
                    let count = {
                        let mut types = seen.types.lock().unwrap();
                        let count = types.entry(mti.clone()).or_default();
                        *count += 1;
                        *count
                    };
                    seen.messages.lock().unwrap().push(message.to_vec());
                    let form = fields_of(&message);
                    let terminal = form["fields"]["terminal"].as_str().unwrap_or("").to_owned();
                    let answer = |code: &str| answer_to(&message, code);
                    let mut frames = Vec::new();
                    match terminal.trim_end() {
                        "DECLINE" => frames.push(answer("51")),
                        "SILENT" => {}
                        "ONCE" if count == 1 => {}
                        "LATE" => {
                            tokio::time::sleep(Duration::from_millis(1_200)).await;
                            frames.push(answer("00"));
                        }
                        "TWICE" => frames.extend([answer("00"), answer("00")]),
                        "SWAP" => match held.take() {
                            None => held = Some(answer("00")),
                            Some(first) => frames.extend([answer("00"), first]),
                        },
                        "BREAK" => return,
                        "NOCODE" => frames.push(answer_to(&message, "")),
                        "GARBAGE" => frames.push(b"0210 this is no message".to_vec()),
                        "UNSURE" => frames.push(answer("96")),
                        _ => frames.push(answer("00")),
                    }
                    for frame in frames {
                        let mut out = Vec::new();
                        FRAMING.put(&frame, &mut out).unwrap();
                        if tls.write_all(&out).await.is_err() {
                            return;
                        }
                    }
                    let _ = tls.flush().await;
                }
            }
        });
    }
}

fn answer_to(request: &[u8], code: &str) -> Vec<u8> {
    let mut index = Index::new();
    let view = iso8583::decode(&SPEC, Check::Strict, request, &mut index).unwrap();
    let mti = view.mti().answer().expect("a request");
    let mut draft = Draft::of(view);
    draft.set_mti(mti);
    for number in [35, 52] {
        draft.remove(number);
    }
    if !code.is_empty() {
        draft.set_text(39, code).unwrap();
        draft.set_text(38, "A1B2C3").unwrap();
    }
    let mut out = Vec::new();
    draft.write(&mut out).unwrap();
    out
}

/// A caller's connection.
struct Caller {
    tls: TlsStream<TcpStream>,
    assembler: Assembler,
}

impl Caller {
    async fn connect(pki: &Pki, to: SocketAddr, name: &str) -> Caller {
        let tcp = TcpStream::connect(to).await.unwrap();
        Caller::over(pki, tcp, &pki.identity(name)).await
    }

    async fn over(pki: &Pki, tcp: TcpStream, identity: &moat_ca::Identity) -> Caller {
        let mut config = ClientConfig::clone(&pki.client(Some(identity), "x"));
        config.alpn_protocols.clear();
        let name = ServerName::try_from("localhost").unwrap();
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        Caller { tls, assembler: Assembler::new(FRAMING) }
    }

    async fn send(&mut self, message: &[u8]) {
        let mut frame = Vec::new();
        FRAMING.put(message, &mut frame).unwrap();
        self.tls.write_all(&frame).await.unwrap();
        self.tls.flush().await.unwrap();
    }

    /// The next answer; none once the gateway has closed.
    async fn next(&mut self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 4096];
        let reading = async {
            loop {
                if let Some(message) = self.assembler.next_message().unwrap() {
                    return Some(message.to_vec());
                }
                match self.tls.read(&mut buffer).await {
                    Ok(length @ 1..) => self.assembler.push(&buffer[..length]),
                    _ => return None,
                }
            }
        };
        tokio::time::timeout(WAIT, reading).await.expect("an answer in time")
    }

    async fn ask(&mut self, message: &[u8]) -> Vec<u8> {
        self.send(message).await;
        self.next().await.expect("an answer")
    }

    /// Whether nothing is said for a while.
    async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(300), self.next()).await.is_err()
    }
}

const POLICY: &str = r#"package authz

default allow := false

allow if input.peer.spiffe == "spiffe://bank.test/teller"

deny contains "over_limit" if {
	input.route == "purchase"
	input.body.amount > 500000
}

deny contains "wrong_input" if {
	input.route == "purchase"
	input.body.pan.bin != "622202"
}

deny contains "sees_too_much" if {
	input.route == "purchase"
	input.body.pin_block != {"present": true}
}
"#;

const ROUTES: &str = r#"  - name: purchase
    match: { listener: cards, messages: ["0100", "0200", "0220"], processing: ["00"] }
    upstream: switch
    policy: authz
    decide_on: { /amount: amount }
    audit:
      object: "terminal/{terminal}"
      fields: { /amount: C2, /pan: PAN, /track2: SAD, /trace_number: C1 }
    mask: { /pan: bank_card, /approval: drop }
    mask_request: { /merchant: drop }
    deadline_ms: 700
  - name: balance
    match: { listener: cards, messages: ["0200"], processing: ["31"] }
    upstream: switch
    policy: authz
    audit: { op: SEL, fields: { /pan: PAN } }
    deadline_ms: 700
  - name: reversal
    match: { listener: cards, messages: ["0400", "0420"] }
    upstream: switch
    policy: authz
    audit: { object: "terminal/{terminal}", fields: { /original: C1 } }
    deadline_ms: 700
  - name: bridge
    match: { path: "/messages/cards", methods: [POST] }
    upstream: switch
    policy: authz
    audit: { object: "bridge", op: UPD, fields: { /fields/pan: PAN } }
    decide_on: { /fields/amount: text }
    mask: { /fields/pan: bank_card }
    deadline_ms: 700
  - name: outside
    match: { listener: cards, messages: ["0300"] }
    upstream: accounts
    policy: authz
    audit: { object: "outside" }
    deadline_ms: 1500
"#;

fn listeners(address: SocketAddr, more: &str) -> String {
    format!(
        r#"  - name: cards
    bind: {address}
    protocol: iso8583
    iso8583:
      spec: iso8583-1987-ascii
      framing: {{ length: binary2 }}
      message_ms: 500
      unread_ms: 700
      codes: {{ over_limit: "61" }}{more}
    tls:
      identities: [{{ certificate: "file:pki/gateway.pem", key: "file:pki/gateway.key" }}]
      clients: [{{ role: acquirers, trust: "file:pki/root.pem" }}]
"#
    )
}

fn upstreams(address: SocketAddr, more: &str) -> String {
    format!(
        r#"
  - name: switch
    endpoints: ["tls://{address}"]
    iso8583: {{ spec: iso8583-1987-ascii, framing: {{ length: binary2 }}{more} }}
    tls: {{ trust: "file:pki/root.pem", spiffe: "spiffe://bank.test/switch" }}"#
    )
}

struct Bank {
    pki: Pki,
    gateway: Gateway,
    cards: SocketAddr,
}

impl Bank {
    async fn before(pki: Pki, switch: SocketAddr) -> Bank {
        Bank::with(pki, switch, free_address(), "", "").await
    }

    async fn with(
        pki: Pki,
        switch: SocketAddr,
        service: SocketAddr,
        listener: &str,
        upstream: &str,
    ) -> Bank {
        let cards = free_address();
        let options = Options {
            policy: POLICY,
            routes: ROUTES,
            listeners: listeners(cards, listener),
            upstreams: upstreams(switch, upstream),
            ..Options::default()
        };
        let gateway = Gateway::start(&pki, service, options).await;
        Bank { pki, gateway, cards }
    }

    async fn caller(&self) -> Caller {
        Caller::connect(&self.pki, self.cards, "teller").await
    }

    async fn outcome(&self, object: &str) -> Body {
        let fits = |body: &Body| body.kind == Kind::Outcome && body.object == object;
        self.gateway.record(object, fits).await
    }

    /// Nothing planted stands in any file of the gateway, in its metrics or in its status.
    fn assert_secret(&self) {
        let mut texts = vec![
            ("metrics".to_owned(), self.gateway.probe("/metrics").1.into_bytes()),
            ("status".to_owned(), self.gateway.status().to_string().into_bytes()),
        ];
        let mut folders = vec![self.gateway.dir.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                let (path, kind) = (entry.path(), entry.file_type().unwrap());
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_file() {
                    // What is gone since was written under another name for a moment.
                    let Ok(text) = std::fs::read(&path) else { continue };
                    texts.push((path.display().to_string(), text));
                }
            }
        }
        let pin: Vec<u8> =
            (0..8).map(|at| u8::from_str_radix(&PIN[at * 2..at * 2 + 2], 16).unwrap()).collect();
        for (name, text) in texts {
            let has = |needle: &[u8]| text.windows(needle.len()).any(|part| part == needle);
            assert!(!has(PAN.as_bytes()), "the card number stands in {name}");
            assert!(!has(&TRACK.as_bytes()[19..]), "track data stand in {name}");
            assert!(!has(PIN.as_bytes()) && !has(&pin), "the PIN block stands in {name}");
        }
    }

    fn assert_good(&self) {
        self.gateway.assert_whole();
        self.assert_secret();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_decided_recorded_passed_on_and_answered() {
    let pki = Pki::new();
    let switch = Switch::start(&pki).await;
    let bank = Bank::before(pki, switch.address).await;
    let mut caller = bank.caller().await;
    let asked = purchase("0200", 1, "TERM0001", "000000001000");
    let answer = caller.ask(&asked).await;
    let form = fields_of(&answer);
    assert_eq!((&form["mti"], &form["fields"]["response_code"]), (&"0210".into(), &"00".into()));
    // Masked towards the caller, and as it came towards the switch.
    assert_eq!(form["fields"]["pan"], "6222020000000128");
    assert_eq!(form["fields"]["approval"], Json::Null);
    assert_eq!(switch.messages("0200"), [asked]);
    let outcome = bank.outcome("terminal/TERM0001").await;
    assert_eq!((outcome.outcome, outcome.method.as_str()), (Some(Outcome::Committed), "0200"));
    assert_eq!(outcome.actor, "spiffe://bank.test/teller");
    assert!(outcome.note.contains("stan=000001 rc=00"), "{}", outcome.note);
    let value = |name: &str| {
        outcome.fields.iter().find(|field| field.name() == name).map(|field| field.after().clone())
    };
    assert!(matches!(value("pan"), Some(Value::Anchor(_))));
    assert!(matches!(value("track2"), Some(Value::Dropped)));
    assert!(matches!(value("amount"), Some(Value::Masked { .. })));
    assert!(matches!(value("trace_number"), Some(Value::Clear(text)) if text == "000001"));

    let declined = caller.ask(&purchase("0200", 2, "DECLINE ", "000000001000")).await;
    assert_eq!(code_of(&declined), "51");
    assert_eq!(bank.outcome("terminal/DECLINE").await.outcome, Some(Outcome::Failed));
    let unsure = caller.ask(&purchase("0200", 3, "UNSURE  ", "000000001000")).await;
    assert_eq!(code_of(&unsure), "96");
    assert_eq!(bank.outcome("terminal/UNSURE").await.outcome, Some(Outcome::Unknown));

    let before = switch.types("0200");
    let denied = caller.ask(&purchase("0200", 4, "TERM0009", "000000500001")).await;
    assert_eq!(code_of(&denied), "61");
    let refused = bank.gateway.record("a refusal", |body| body.code == "MOAT-P001").await;
    assert_eq!((refused.kind, refused.reasons), (Kind::Refusal, vec!["over_limit".to_owned()]));
    assert_eq!(switch.types("0200"), before, "what is denied is not sent");

    let balance = [(2, PAN), (3, "310000"), (7, "1123165000"), (11, "000005"), (41, "TERM0001")];
    assert_eq!(code_of(&caller.ask(&message("0200", &balance)).await), "00");
    let read = |body: &Body| body.kind == Kind::Read && body.route == "balance";
    let read = bank.gateway.record("a balance", read).await;
    assert_eq!(read.fields.len(), 1);
    bank.assert_good();
    assert!(bank.gateway.verify().unpaired.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_about_the_connection_are_answered_and_recorded() {
    let pki = Pki::new();
    let switch = Switch::start(&pki).await;
    let bank = Bank::before(pki, switch.address).await;
    let mut caller = bank.caller().await;
    for (trace, function, name) in
        [(1, "001", "sign-on"), (2, "301", "echo"), (3, "002", "sign-off")]
    {
        let trace = format!("{trace:06}");
        let fields = [(7, "1123165000"), (11, trace.as_str()), (70, function)];
        let answer = fields_of(&caller.ask(&message("0800", &fields)).await);
        assert_eq!(
            (&answer["mti"], &answer["fields"]["trace_number"]),
            (&"0810".into(), &trace.into())
        );
        bank.gateway.record(name, |body| body.note.contains(name)).await;
    }
    // Keys are exchanged with a switch: no route takes that here.
    let keys = [(7, "1123165000"), (11, "000004"), (70, "161")];
    assert_eq!(code_of(&caller.ask(&message("0800", &keys)).await), "12");
    bank.gateway.record("a refusal", |body| body.code == "MOAT-F050").await;
    // The gateway itself signed on to the switch, once for each worker.
    assert_eq!(switch.types("0800"), 2);
    bank.assert_good();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_in_time_is_unknown_and_a_late_one_settles_it() {
    let pki = Pki::new();
    let switch = Switch::start(&pki).await;
    let bank = Bank::before(pki, switch.address).await;
    let mut caller = bank.caller().await;
    let begun = Instant::now();
    let answer = caller.ask(&purchase("0200", 1, "SILENT  ", "000000001000")).await;
    assert_eq!(code_of(&answer), "68", "never declined");
    assert!(begun.elapsed() < Duration::from_millis(2_500), "{:?}", begun.elapsed());
    let outcome = bank.outcome("terminal/SILENT").await;
    assert_eq!((outcome.outcome, outcome.code.as_str()), (Some(Outcome::Unknown), "MOAT-U003"));

    let late = purchase("0200", 2, "LATE    ", "000000001000");
    assert_eq!(code_of(&caller.ask(&late).await), "68");
    let settled =
        |body: &Body| body.object == "terminal/LATE" && body.outcome == Some(Outcome::Committed);
    let settled = bank.gateway.record("a late answer", settled).await;
    assert!(settled.note.contains("late") && settled.answered == Some(false), "{settled:?}");
    // The repeat gets the answer that came late, and the switch nothing.
    let repeat = purchase("0201", 2, "LATE    ", "000000001000");
    let again = caller.ask(&repeat).await;
    assert_eq!(code_of(&again), "00");
    assert_eq!(switch.types("0201"), 0);
    bank.gateway.record("again", |body| body.note.contains("again, as in record")).await;
    bank.assert_good();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_is_not_carried_out_again_and_a_key_is_used_once() {
    let pki = Pki::new();
    let switch = Switch::start(&pki).await;
    let bank = Bank::before(pki, switch.address).await;
    let mut caller = bank.caller().await;
    let first = caller.ask(&purchase("0200", 1, "TERM0001", "000000001000")).await;
    // On another connection, so perhaps by another worker.
    let mut other = bank.caller().await;
    let again = other.ask(&purchase("0201", 1, "TERM0001", "000000001000")).await;
    assert_eq!(again, first);
    let changed = other.ask(&purchase("0201", 1, "TERM0001", "000000002000")).await;
    assert_eq!(code_of(&changed), "94");
    let unmarked = other.ask(&purchase("0200", 1, "TERM0001", "000000001000")).await;
    assert_eq!(code_of(&unmarked), "94");
    assert_eq!((switch.types("0200"), switch.types("0201")), (1, 0));
    // Under way at the same time: the second is told so.
    caller.send(&purchase("0200", 2, "SILENT  ", "000000001000")).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    let twin = other.ask(&purchase("0201", 2, "SILENT  ", "000000001000")).await;
    assert_eq!(code_of(&twin), "09");
    assert_eq!(code_of(&caller.next().await.unwrap()), "68");
    // What was left unknown may be repeated, and goes on marked as that.
    let repeat = other.ask(&purchase("0201", 2, "SILENT  ", "000000001000")).await;
    assert_eq!(code_of(&repeat), "68");
    assert_eq!(switch.types("0201"), 1);
    bank.assert_good();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_in_any_order_go_to_those_who_asked() {
    let pki = Pki::new();
    let switch = Switch::start(&pki).await;
    let bank = Bank::before(pki, switch.address).await;
    let mut caller = bank.caller().await;
    caller.send(&purchase("0200", 1, "SWAP    ", "000000001000")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    caller.send(&purchase("0200", 2, "SWAP    ", "000000001000")).await;
    let trace = |message: &[u8]| fields_of(message)["fields"]["trace_number"].clone();
    let (one, two) = (caller.next().await.unwrap(), caller.next().await.unwrap());
    let mut traces = [trace(&one), trace(&two)].map(|trace| trace.to_string());
    traces.sort();
    assert_eq!(traces, ["\"000001\"", "\"000002\""]);
    // A second answer belongs to nobody: recorded and dropped.
    assert_eq!(code_of(&caller.ask(&purchase("0200", 3, "TWICE   ", "000000001000")).await), "00");
    bank.gateway.record("unmatched", |body| body.code == "MOAT-F053").await;
    assert!(caller.is_silent().await);
    // What is no message is dropped too, and the exchange is unknown.
    assert_eq!(code_of(&caller.ask(&purchase("0200", 4, "GARBAGE ", "000000001000")).await), "68");
    assert_eq!(code_of(&caller.ask(&purchase("0200", 5, "NOCODE  ", "000000001000")).await), "68");
    let outcome = bank.outcome("terminal/NOCODE").await;
    assert_eq!((outcome.outcome, outcome.code.as_str()), (Some(Outcome::Unknown), "MOAT-U006"));
    bank.assert_good();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_bytes_are_refused_on_record_and_harm_nobody_else() {
    let pki = Pki::new();
    let switch = Switch::start(&pki).await;
    let bank = Bank::before(pki, switch.address).await;
    let mut caller = bank.caller().await;
    // A letter in the amount: the answer says that the format is wrong.
    let mut bad = purchase("0200", 1, "TERM0001", "000000001000");
    let at = bad.windows(12).position(|part| part == b"000000001000").unwrap();
    bad[at] = b'x';
    let answer = fields_of(&caller.ask(&bad).await);
    assert_eq!(
        (&answer["mti"], &answer["fields"]["response_code"]),
        (&"0210".into(), &"30".into())
    );
    bank.gateway.record("characters", |body| body.code == "MOAT-F009").await;
    // Cut short, of no type, an answer nobody asked for: on record, and without a word.
    caller.send(&purchase("0200", 2, "TERM0001", "000000001000")[..60]).await;
    bank.gateway.record("cut short", |body| body.code == "MOAT-F003").await;
    caller.send(b"9999 nothing of this is a message").await;
    bank.gateway.record("no type", |body| body.code == "MOAT-F005").await;
    caller.send(&answer_to(&purchase("0200", 3, "TERM0001", "000000001000"), "00")).await;
    bank.gateway.record("not asked", |body| body.code == "MOAT-F055").await;
    assert!(caller.is_silent().await);
    // A reversal of nothing, a type of no route.
    let fields = [(7, "1123165000"), (11, "000004"), (41, "TERM0001")];
    assert_eq!(code_of(&caller.ask(&message("0400", &fields)).await), "30");
    assert_eq!(code_of(&caller.ask(&message("0600", &fields)).await), "12");
    // The connection still serves.
    let good = caller.ask(&purchase("0200", 5, "TERM0001", "000000001000")).await;
    assert_eq!(code_of(&good), "00");
    assert_eq!(switch.types("0200"), 1);
    // More of what cannot be read ends it.
    for _ in 0..70 {
        let mut frame = Vec::new();
        FRAMING.put(b"junk", &mut frame).unwrap();
        if caller.tls.write_all(&frame).await.is_err() {
            break;
        }
    }
    assert!(caller.next().await.is_none());
    bank.gateway.record("unreadable", |body| body.note.contains("unreadable=")).await;
    bank.assert_good();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_too_long_and_one_that_never_ends_cost_the_connection() {
    let pki = Pki::new();
    let switch = Switch::start(&pki).await;
    let idle = "\n      idle_ms: 1500";
    let bank = Bank::with(pki, switch.address, free_address(), idle, "").await;
    // One byte of a message, and then nothing.
    let mut slow = bank.caller().await;
    slow.tls.write_all(&[0]).await.unwrap();
    slow.tls.flush().await.unwrap();
    let begun = Instant::now();
    assert!(slow.next().await.is_none());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    bank.gateway.record("slow", |body| body.code == "MOAT-F057").await;
    // Nothing at all.
    let mut idle = bank.caller().await;
    let begun = Instant::now();
    assert!(idle.next().await.is_none());
    assert!(begun.elapsed() > Duration::from_millis(1_000), "{:?}", begun.elapsed());
    // A length that is longer than any message.
    let four = "framing: { length: binary4 }";
    bank.gateway.edit_config(
        "framing: { length: binary2 }\n      message_ms",
        &format!("{four}\n      message_ms"),
    );
    let (code, said) = bank.gateway.reload();
    assert_eq!(code, 0, "{said}");
    let mut long = bank.caller().await;
    long.tls.write_all(&[0, 1, 0, 0]).await.unwrap();
    long.tls.flush().await.unwrap();
    assert!(long.next().await.is_none());
    bank.gateway.record("too long", |body| body.code == "MOAT-F002").await;
    bank.assert_good();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_does_not_read_loses_its_connection_and_no_record() {
    let pki = Pki::new();
    let switch = Switch::start(&pki).await;
    let bank = Bank::before(pki, switch.address).await;
    // A small window, so that it is soon full.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let tcp = socket.connect(bank.cards).await.unwrap();
    let mut caller = Caller::over(&bank.pki, tcp, &bank.pki.identity("teller")).await;
    let mut other = bank.caller().await;
    // Answers that nobody reads fill the socket; the gateway gives up after `unread_ms`.
    let mut frame = Vec::new();
    let fields = [(7, "1123165000"), (11, "000001"), (70, "301")];
    FRAMING.put(&message("0800", &fields), &mut frame).unwrap();
    let many = frame.repeat(2_000);
    let sending = async {
        while caller.tls.write_all(&many).await.is_ok() {
            if caller.tls.flush().await.is_err() {
                return;
            }
        }
    };
    let sent = tokio::time::timeout(Duration::from_secs(40), sending).await;
    assert!(sent.is_ok(), "the connection goes on");
    bank.gateway.record("unread", |body| body.note.ends_with("unread")).await;
    let answer = other.ask(&purchase("0200", 9, "TERM0001", "000000001000")).await;
    assert_eq!(code_of(&answer), "00", "others are served");
    bank.assert_good();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_that_is_away_fails_what_was_not_sent_and_is_found_again() {
    let pki = Pki::new();
    let address = free_address();
    let bank = Bank::before(pki, address).await;
    let mut caller = bank.caller().await;
    let answer = caller.ask(&purchase("0200", 1, "TERM0001", "000000001000")).await;
    assert_eq!(code_of(&answer), "91");
    let outcome = bank.outcome("terminal/TERM0001").await;
    assert_eq!((outcome.outcome, outcome.code.as_str()), (Some(Outcome::Failed), "MOAT-U001"));
    let switch = Switch::start_as(&bank.pki, "switch", address).await;
    let until = Instant::now() + WAIT;
    let mut trace = 2;
    loop {
        // Nothing was sent, so even the same message may come again; here each is new.
        let answer = caller.ask(&purchase("0200", trace, "TERM0001", "000000001000")).await;
        trace += 1;
        if code_of(&answer) == "00" {
            break;
        }
        assert!(Instant::now() < until, "the switch is not found again");
    }
    // A link that breaks under a message leaves it unknown, and comes back.
    let broken = caller.ask(&purchase("0200", trace, "BREAK   ", "000000001000")).await;
    assert_eq!(code_of(&broken), "68");
    assert_eq!(bank.outcome("terminal/BREAK").await.outcome, Some(Outcome::Unknown));
    let until = Instant::now() + WAIT;
    while code_of(&caller.ask(&purchase("0200", trace + 1, "TERM0001", "000000001000")).await)
        != "00"
    {
        trace += 1;
        assert!(Instant::now() < until, "the link does not come back");
    }
    assert!(switch.seen.links.load(Ordering::Relaxed) >= 3);
    bank.gateway.record("up", |body| body.note.ends_with("switch: up")).await;
    bank.assert_good();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_an_impostor_nor_a_stranger_gets_a_message() {
    let pki = Pki::new();
    let impostor = Switch::start_as(&pki, "impostor", ANY).await;
    let bank = Bank::before(pki, impostor.address).await;
    let mut caller = bank.caller().await;
    let answer = caller.ask(&purchase("0200", 1, "TERM0001", "000000001000")).await;
    assert_eq!(code_of(&answer), "91");
    assert_eq!(impostor.types("0200") + impostor.types("0800"), 0);
    bank.gateway.record("not made", |body| body.note.contains("not made: MOAT-U002")).await;
    // Known, but nobody whom the policy allows.
    let mut other = Caller::connect(&bank.pki, bank.cards, "auditor").await;
    let answer = other.ask(&purchase("0200", 2, "TERM0001", "000000001000")).await;
    assert_eq!(code_of(&answer), "57");
    // Of another trust domain: not a word.
    let stranger = bank.pki.issue(&["spiffe://other.test/teller"], 0, 86_400);
    let tcp = TcpStream::connect(bank.cards).await.unwrap();
    let mut stranger = Caller::over(&bank.pki, tcp, &stranger).await;
    assert!(stranger.next().await.is_none());
    bank.gateway.record("a stranger", |body| body.code == "MOAT-I004").await;
    bank.assert_good();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reversal_is_sent_again_until_it_is_answered() {
    let pki = Pki::new();
    let switch = Switch::start(&pki).await;
    let bank = Bank::before(pki, switch.address).await;
    let mut caller = bank.caller().await;
    let answer = caller.ask(&reversal("0400", 7, "ONCE    ")).await;
    assert_eq!(code_of(&answer), "68");
    assert_eq!(bank.outcome("terminal/ONCE").await.outcome, Some(Outcome::Unknown));
    // While it is pending, a repeat is told so.
    assert_eq!(code_of(&caller.ask(&reversal("0401", 7, "ONCE    ")).await), "09");
    // `ONCE` is silent to the first message of each type, so to the first repeat too.
    let settled = || {
        let fits = |body: &Body| {
            body.object == "terminal/ONCE" && body.outcome == Some(Outcome::Committed)
        };
        bank.gateway.log().into_iter().map(|leaf| leaf.body).find(|body| fits(body))
    };
    let settled = eventually("an answer", Duration::from_secs(40), settled).await;
    assert!(settled.note.contains("late tries=") && settled.intent_seq.is_some(), "{settled:?}");
    assert!(switch.types("0401") >= 2);
    // The record is durable a moment before the gateway hears of it.
    let mut again = caller.ask(&reversal("0401", 7, "ONCE    ")).await;
    let until = Instant::now() + Duration::from_secs(5);
    while code_of(&again) == "09" && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(50)).await;
        again = caller.ask(&reversal("0401", 7, "ONCE    ")).await;
    }
    assert_eq!(code_of(&again), "00");
    bank.assert_good();
    assert!(bank.gateway.verify().unpaired.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_a_role_is_killed() {
    let pki = Pki::new();
    let switch = Switch::start(&pki).await;
    let bank = Bank::before(pki, switch.address).await;
    let (mut acknowledged, mut trace) = (Vec::new(), 0_u32);
    for role in ["auditor", "gateway", "auditor"] {
        let mut caller = bank.caller().await;
        let mut killed = false;
        let until = Instant::now() + Duration::from_millis(1_500);
        while Instant::now() < until {
            trace += 1;
            let terminal = format!("T{trace:07}");
            let asked = purchase("0200", trace, &terminal, "000000001000");
            let mut frame = Vec::new();
            FRAMING.put(&asked, &mut frame).unwrap();
            if caller.tls.write_all(&frame).await.is_err() {
                break;
            }
            if trace % 40 == 20 && !killed {
                killed = bank.gateway.kill_role(role);
            }
            let Some(answer) = caller.next().await else { break };
            match code_of(&answer).as_str() {
                "00" => acknowledged.push(format!("terminal/{terminal}")),
                // Without a record nothing is told but that.
                "96" | "68" | "91" => {}
                other => panic!("{other}"),
            }
        }
        let ready = || bank.gateway.is_ready().then_some(());
        eventually("readiness", Duration::from_secs(20), ready).await;
    }
    assert!(acknowledged.len() > 20, "{}", acknowledged.len());
    let outcomes = bank.gateway.records(Kind::Outcome);
    for object in &acknowledged {
        let found = outcomes
            .iter()
            .any(|body| body.object == *object && body.outcome == Some(Outcome::Committed));
        assert!(found, "{object} was acknowledged and is not in the log");
    }
    bank.assert_good();
    assert!(bank.gateway.verify().unpaired.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_storm_of_connections_every_message_has_its_answer_and_its_record() {
    let pki = Pki::new();
    let switch = Switch::start(&pki).await;
    let bank = Arc::new(Bank::before(pki, switch.address).await);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..40_u32 {
        let bank = Arc::clone(&bank);
        tasks.spawn(async move {
            let mut caller = storm_caller(&bank).await;
            let terminal = format!("S{number:07}");
            for trace in 1..=20 {
                caller.send(&purchase("0200", trace, &terminal, "000000001000")).await;
            }
            let mut good = 0;
            for _ in 0..20 {
                match code_of(&caller.next().await.unwrap()).as_str() {
                    "00" => good += 1,
                    // A machine that is overrun refuses before it sends, or waits in vain.
                    "91" | "68" => {}
                    other => panic!("{other}"),
                }
            }
            good
        });
    }
    let mut good = 0;
    while let Some(done) = tasks.join_next().await {
        good += done.unwrap();
    }
    let outcomes = bank.gateway.records(Kind::Outcome);
    let committed =
        |body: &&Body| body.outcome == Some(Outcome::Committed) && body.answered == Some(true);
    assert_eq!(outcomes.iter().filter(committed).count(), good);
    assert!(good > 100, "{good}");
    assert!(bank.gateway.verify().unpaired.is_empty());
    bank.assert_good();
}

/// A connection that has proved that it serves. On a busy machine a handshake may take too long.
async fn storm_caller(bank: &Bank) -> Caller {
    let echo = [(7, "1123165000"), (11, "000001"), (70, "301")];
    let mut frame = Vec::new();
    FRAMING.put(&message("0800", &echo), &mut frame).unwrap();
    for _ in 0..20 {
        let Ok(tcp) = TcpStream::connect(bank.cards).await else { continue };
        let mut config =
            ClientConfig::clone(&bank.pki.client(Some(&bank.pki.identity("teller")), "x"));
        config.alpn_protocols.clear();
        let name = ServerName::try_from("localhost").unwrap();
        let connected = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
        let Ok(tls) = connected else { continue };
        let mut caller = Caller { tls, assembler: Assembler::new(FRAMING) };
        if caller.tls.write_all(&frame).await.is_ok() && caller.next().await.is_some() {
            return caller;
        }
    }
    panic!("no connection in twenty tries");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_over_http_becomes_a_message_and_back() {
    let pki = Pki::new();
    let switch = Switch::start(&pki).await;
    let bank = Bank::before(pki, switch.address).await;
    let mut client = Client::http1(&bank.pki, bank.gateway.address, "teller").await;
    let body = |trace: &str, terminal: &str| {
        format!(
            r#"{{"mti":"0200","fields":{{"pan":"{PAN}","processing_code":"000000",
            "amount":"000000001000","transmission_time":"1123165000","trace_number":"{trace}",
            "terminal":"{terminal}","pin_block":"{PIN}"}}}}"#
        )
    };
    let answer = client.post("/messages/cards", &body("000001", "TERM0001")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let form = answer.json();
    assert_eq!((&form["mti"], &form["fields"]["response_code"]), (&"0210".into(), &"00".into()));
    assert_eq!(form["fields"]["pan"], "622202*********0128");
    assert_eq!(fields_of(&switch.messages("0200")[0])["fields"]["pan"], PAN);
    for (trace, terminal, status, outcome) in [
        ("000002", "DECLINE ", 422, Outcome::Failed),
        ("000003", "SILENT  ", 504, Outcome::Unknown),
        ("000004", "UNSURE  ", 504, Outcome::Unknown),
    ] {
        let before = bank.gateway.records(Kind::Outcome).len();
        let answer = client.post("/messages/cards", &body(trace, terminal)).await;
        assert_eq!(answer.status, status, "{terminal} {answer:?}");
        let outcomes = bank.gateway.records(Kind::Outcome);
        assert_eq!(outcomes[before].outcome, Some(outcome), "{terminal}");
    }
    for bad in [
        r#"{"mti":"0200"}"#,
        r#"{"mti":"0210","fields":{"amount":"000000001000"}}"#,
        r#"{"mti":"0200","fields":{"amount":"x"}}"#,
        r#"{"mti":"0200","fields":{"nothing":"1","amount":"000000001000"}}"#,
    ] {
        let answer = client.post("/messages/cards", bad).await;
        assert!(answer.status == 422 || answer.status == 400, "{bad} {answer:?}");
    }
    assert_eq!(switch.types("0200"), 4);
    let get = client.send(request("GET", "/messages/cards", "")).await.unwrap();
    assert_eq!(get.status, 405);
    bank.assert_good();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_becomes_a_call_over_http_and_back() {
    let pki = Pki::new();
    let switch = Switch::start(&pki).await;
    let service = plain_http(&pki).await;
    let bank = Bank::with(pki, switch.address, service, "", "").await;
    let mut caller = bank.caller().await;
    let fields = [(7, "1123165000"), (11, "000001"), (41, "TERM0001"), (52, PIN)];
    let answer = fields_of(&caller.ask(&message("0300", &fields)).await);
    assert_eq!(
        (&answer["mti"], &answer["fields"]["response_code"]),
        (&"0310".into(), &"00".into())
    );
    assert_eq!(bank.outcome("outside").await.outcome, Some(Outcome::Committed));
    assert_eq!(switch.types("0300"), 0);
    bank.assert_good();
}

/// A service that answers the JSON form of a request with that of its answer.
async fn plain_http(pki: &Pki) -> SocketAddr {
    let config = pki.server(&pki.identity("accounts"), &["http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = TlsAcceptor::from(Arc::clone(&config));
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(stream).await else { return };
                let (mut held, mut buffer) = (Vec::new(), vec![0; 4096]);
                loop {
                    let Ok(length @ 1..) = tls.read(&mut buffer).await else { return };
                    held.extend_from_slice(&buffer[..length]);
                    let text = String::from_utf8_lossy(&held).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let Ok(form) = serde_json::from_str::<Json>(body) else { continue };
                    assert!(head.starts_with("POST /messages/iso8583-1987-ascii "), "{head}");
                    let bytes = json::read(&SPEC, form.to_string().as_bytes()).unwrap();
                    let answer = fields_of(&answer_to(&bytes, "00")).to_string();
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                         content-length: {}\r\n\r\n{answer}",
                        answer.len()
                    );
                    let _ = tls.write_all(answer.as_bytes()).await;
                    let _ = tls.flush().await;
                    held.clear();
                }
            });
        }
    });
    address
}

#[test]
fn a_configuration_that_does_not_fit_its_spec_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new();
    std::fs::create_dir(dir.path().join("pki")).unwrap();
    std::fs::create_dir(dir.path().join("policy")).unwrap();
    std::fs::write(dir.path().join("pki/root.pem"), pki.trust_pem()).unwrap();
    pki.write(&dir.path().join("pki"), "gateway");
    std::fs::write(dir.path().join("policy/authz.rego"), POLICY).unwrap();
    let address: SocketAddr = "127.0.0.1:9445".parse().unwrap();
    let good = format!(
        "apiVersion: moat/v1\nkind: Gateway\ntrust_domain: bank.test\nlisteners:\n{}\
         upstreams:{}\nroutes:\n{}policy: {{ bundle: \"file:policy/\" }}\naudit: {{ dir: audit }}\n",
        listeners(address, ""),
        upstreams(address, ""),
        ROUTES.split("  - name: bridge").next().unwrap()
    );
    let file = dir.path().join("moat.yaml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        crate::support::moat(&["check", file.to_str().unwrap()])
    };
    let (code, out, err) = check(&good);
    assert_eq!(code, 0, "{out}{err}");
    for (from, to, told) in [
        ("/amount: amount", "/amonut: amount", "write `/amount`"),
        ("/amount: amount", "/pin_block: amount", "cannot be read so"),
        ("/pan: PAN", "/pan: C1", "which is stricter"),
        ("{terminal}", "{pan}", "has no parameter `pan`"),
        ("[\"0400\", \"0420\"]", "[\"0410\"]", "no type of a request"),
        (
            "listener: cards, messages: [\"0400\"",
            "listener: card, messages: [\"0400\"",
            "write `cards`",
        ),
        ("over_limit: \"61\"", "over_limit: \"6100\"", "does not fit field 39"),
        (
            "      spec: iso8583-1987-ascii",
            "      spec: iso8583-1987-bcd",
            "dialects are not translated",
        ),
        (
            "      spec: iso8583-1987-ascii",
            "      spec: iso8583-1987-acsii",
            "write `iso8583-1987-ascii`",
        ),
        ("tls://", "https://", "write tls://"),
        ("protocol: iso8583", "protocol: http", "does not speak ISO 8583"),
    ] {
        assert!(good.contains(from), "{from}");
        let (code, out, err) = check(&good.replacen(from, to, 1));
        let said = out + &err;
        assert!(code != 0 && said.contains(told), "{to}: {said}");
        assert!(said.contains("moat.yaml:"), "{to}: {said}");
    }
    // A spec of one's own: the place in it is told too.
    std::fs::write(dir.path().join("my.yaml"), "spec: mine\nfields:\n  2: { nmae: pan }\n")
        .unwrap();
    let own = good.replacen("      spec: iso8583-1987-ascii", "      spec: file:my.yaml", 1);
    let (code, out, err) = check(&own);
    let said = out + &err;
    assert!(code != 0 && said.contains("my.yaml:3:"), "{said}");
}

#[test]
fn the_example_of_a_card_switch_is_a_good_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new();
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/cards");
    for folder in ["pki", "policy"] {
        std::fs::create_dir(dir.path().join(folder)).unwrap();
    }
    for file in ["moat.yaml", "policy/cards.rego", "policy/acquirers.json"] {
        std::fs::copy(example.join(file), dir.path().join(file)).unwrap();
    }
    std::fs::write(dir.path().join("pki/root.pem"), pki.trust_pem()).unwrap();
    pki.write(&dir.path().join("pki"), "gateway");
    let file = dir.path().join("moat.yaml").display().to_string();
    let (code, out, err) = crate::support::moat(&["check", &file]);
    assert_eq!(code, 0, "{out}{err}");
}
