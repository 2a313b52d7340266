//! Masks, from body to body, and where classified values may not be found afterwards.

use std::path::Path;

use moat_audit::record::Kind;

use crate::support::{Answer, Client, Gateway, Options, Pki, Service, moat, request};

const PAN: &str = "6222020200112233453";
const NAME: &str = "欧阳修竹";
const PASSWORD: &str = "correct-horse-battery";
const CVV: &str = "91-73-55-canary";

const ROUTES: &str = r#"  - name: mirror
    match: { path: "/mirror/{rest...}", methods: [POST] }
    upstream: accounts
    policy: authz
    bodies: [json, ndjson, events, form, csv]
    audit:
      object: "mirror/{rest}"
      op: UPD
      fields: { /card: PAN, /name: C2, /password: C3, /cvv: SAD }
    mask: { /card: bank_card, /name: name, /password: fixed, /cvv: drop }
    mask_plans:
      strict: { /card: bank_card_strict }
      dispute: { /name: reveal }
  - name: json-only
    match: { path: "/json-only/{rest...}", methods: [POST] }
    upstream: accounts
    policy: authz
    audit: { object: "json-only/{rest}", op: UPD }
    mask: { /card: bank_card }
"#;

async fn bank() -> (Pki, Service, Gateway, Client) {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let options = Options { routes: ROUTES, ..Options::default() };
    let gateway = Gateway::start(&pki, service.address, options).await;
    let client = Client::http1(&pki, gateway.address, "teller").await;
    (pki, service, gateway, client)
}

async fn mirror(client: &mut Client, path: &str, sent: &str, called: &str, body: &str) -> Answer {
    let mut call = request("POST", path, body);
    call.headers_mut().insert("content-type", sent.parse().unwrap());
    call.headers_mut().insert("x-type", called.parse().unwrap());
    client.send(call).await.unwrap()
}

fn bodies() -> Vec<(&'static str, String, String)> {
    let json = format!(
        r#"{{"card":"{PAN}","name":"{NAME}","password":"{PASSWORD}","cvv":"{CVV}","n":1}}"#
    );
    let shown = r#"{"card":"622202*********3453","name":"欧阳*","password":"******","n":1}"#;
    vec![
        ("application/json", json.clone(), shown.to_owned()),
        ("application/x-ndjson", format!("{json}\n"), format!("{shown}\n")),
        ("text/event-stream", format!("data: {json}\n\n"), format!("data: {shown}\n\n")),
        (
            "application/x-www-form-urlencoded",
            format!("card={PAN}&password={PASSWORD}&cvv={CVV}&n=1"),
            "card=622202*********3453&password=******&n=1".to_owned(),
        ),
        (
            "text/csv",
            format!("card,name,password,cvv\r\n{PAN},{NAME},{PASSWORD},{CVV}\r\n"),
            "card,name,password,cvv\r\n622202*********3453,欧阳*,******,\r\n".to_owned(),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_every_declared_kind_are_masked_and_others_refused() {
    let (_pki, service, gateway, mut client) = bank().await;
    for (kind, body, shown) in bodies() {
        let answer = mirror(&mut client, "/mirror/mirror", kind, kind, &body).await;
        assert_eq!(answer.status, 200, "{kind}: {answer:?}");
        assert_eq!(String::from_utf8_lossy(&answer.body), shown, "{kind}");
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    let asked = service.asked("/mirror/mirror");
    let (json, ndjson) = ("application/json", "application/x-ndjson");
    for (sent, called, status, code) in [
        ("text/plain", json, 415, "MOAT-M004"),
        ("multipart/form-data; boundary=x", json, 415, "MOAT-M004"),
        ("text/csv; header=absent", json, 415, "MOAT-M004"),
        ("text/csv", json, 400, "MOAT-M001"),
        (json, "text/plain", 502, "MOAT-M010"),
        (json, "text/csv", 502, "MOAT-M010"),
    ] {
        let (_, body, _) = &bodies()[0];
        let answer = mirror(&mut client, "/mirror/mirror", sent, called, body).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{sent} {called}");
    }
    assert_eq!(service.asked("/mirror/mirror"), asked + 2, "what is refused does not go on");
    // A route reads JSON alone unless it declares more, whatever a service calls its answer.
    let (_, body, _) = &bodies()[1];
    let answer = mirror(&mut client, "/json-only/mirror", json, ndjson, body).await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "MOAT-M010"));
    gateway.assert_whole();
}

/// A value as it might be written: as it is, in base64 at each of three offsets, percent-encoded,
/// as JSON escapes, reversed.
fn spellings(secret: &str) -> Vec<Vec<u8>> {
    let percent: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let escapes: String = secret.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    let reversed: String = secret.chars().rev().collect();
    let mut all: Vec<Vec<u8>> =
        [secret, &percent, &escapes, &reversed].map(|text| text.as_bytes().to_vec()).to_vec();
    for offset in 0..3 {
        let padded = [vec![b'x'; offset], secret.as_bytes().to_vec()].concat();
        let encoded = data_encoding::BASE64.encode(&padded);
        // Without the ends, which depend on what is beside the value.
        let inner = encoded.trim_end_matches('=').as_bytes();
        all.push(inner[4..inner.len() - 3].to_vec());
    }
    all
}

#[track_caller]
fn scan(place: &str, bytes: &[u8]) {
    for secret in [PAN, NAME, PASSWORD, CVV] {
        for spelled in spellings(secret) {
            let found = bytes.windows(spelled.len()).any(|window| window == spelled);
            assert!(!found, "{secret} as {} in {place}", String::from_utf8_lossy(&spelled));
        }
    }
}

fn scan_folder(folder: &Path) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files += scan_folder(&entry.path());
        } else if kind.is_file() {
            scan(&entry.path().display().to_string(), &std::fs::read(entry.path()).unwrap());
            files += 1;
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_planted_value_is_in_any_answer_error_log_metric_or_file() {
    let (pki, _service, mut gateway, mut client) = bank().await;
    let (_, json, _) = bodies().swap_remove(0);
    for (kind, body, _) in bodies() {
        for cut in [body.len(), body.len() / 2, body.len() - 2] {
            // Some cuts fall into a character: then it is not even UTF-8 that is asked about.
            let cut = (0..=cut).rev().find(|at| body.is_char_boundary(*at)).unwrap();
            let paths = ["/mirror/mirror", "/mirror/reset-in-body", "/mirror/hang"];
            let last = if cut + 2 > body.len() { 3 } else { 2 };
            for path in &paths[..last] {
                let answer = mirror(&mut client, path, kind, kind, &body[..cut]).await;
                scan("an answer", &answer.body);
                if answer.status >= 500 {
                    client = Client::http1(&pki, gateway.address, "teller").await;
                }
            }
        }
        for called in ["text/plain", "text/html", "application/octet-stream"] {
            let answer = mirror(&mut client, "/mirror/mirror", kind, called, &body).await;
            assert_eq!(answer.status, 502);
            scan("an error", &answer.body);
        }
        let answer = mirror(&mut client, "/json-only/x", "text/plain", kind, &body).await;
        scan("a refusal", &answer.body);
    }
    let mut call = request("POST", "/mirror/mirror", &json);
    call.headers_mut().insert("content-type", "application/json".parse().unwrap());
    call.headers_mut().insert("x-card", PAN.parse().unwrap());
    call.headers_mut().insert("cookie", format!("session={PASSWORD}").parse().unwrap());
    let answer = client.send(call).await.unwrap();
    assert_eq!(answer.status, 200);
    for value in answer.headers.values() {
        scan("a header field", value.as_bytes());
    }
    scan("metrics", gateway.probe("/metrics").1.as_bytes());
    scan("status", gateway.status().to_string().as_bytes());
    gateway.assert_whole();
    gateway.stop();
    scan("what the roles said", gateway.said().as_bytes());
    assert!(scan_folder(gateway.dir.path()) > 5);
    assert!(scan_folder(&gateway.audit_dir) > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_permit_reveals_is_shown_and_recorded_and_never_more_than_c2() {
    const POLICY: &str = r#"package authz
import rego.v1
default decision := {"effect": "allow", "reasons": ["usual"]}
decision := {"effect": "allow", "reasons": ["dispute"], "obligations": {"mask": "dispute"}} if {
    input.request.path == "/mirror/dispute/mirror"
}
"#;
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let options = Options { routes: ROUTES, policy: POLICY, ..Options::default() };
    let gateway = Gateway::start(&pki, service.address, options).await;
    let mut client = Client::http1(&pki, gateway.address, "teller").await;
    let (kind, body, shown) = bodies().swap_remove(0);
    for (path, name, reasons) in [
        ("/mirror/usual/mirror", "欧阳*", vec![]),
        ("/mirror/dispute/mirror", NAME, vec!["reveal:dispute:/name"]),
    ] {
        let answer = mirror(&mut client, path, kind, kind, &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(String::from_utf8_lossy(&answer.body), shown.replace("欧阳*", name));
        let object = path.trim_start_matches('/').to_owned();
        let record = gateway
            .record("outcome", |body| body.kind == Kind::Outcome && body.object == object)
            .await;
        assert_eq!(record.reasons, reasons);
    }
    for (from, to, wanted) in [
        ("/name: reveal", "/card: reveal", "never revealed"),
        ("/card: reveal", "/other: reveal", "not recorded"),
        ("mask: { /card: bank_card, ", "mask: { /card: reveal, ", "only in a plan"),
    ] {
        gateway.edit_config(from, to);
        let config = gateway.dir.path().join("moat.yaml").display().to_string();
        let (code, _, said) = moat(&["check", &config]);
        assert!(code != 0 && said.contains(wanted) && said.contains("moat.yaml:"), "{said}");
    }
    gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn masks_can_be_tried_and_what_no_mask_names_is_found() {
    let (_pki, _service, gateway, _client) = bank().await;
    let write = |name: &str, text: &str| {
        let path = gateway.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let config = gateway.dir.path().join("moat.yaml").display().to_string();
    let say = |words: &[&str]| moat(&[&["mask"], words].concat());
    for (kind, body, shown) in bodies() {
        let kind = match kind {
            "application/json" => "json",
            "application/x-ndjson" => "ndjson",
            "text/event-stream" => "events",
            "text/csv" => "csv",
            _ => "form",
        };
        let file = write("body", &body);
        let (code, out, said) =
            say(&["try", "-c", &config, "--route", "mirror", "--kind", kind, &file]);
        assert_eq!(code, 0, "{kind}: {said}");
        scan("what is shown", format!("{out}{said}").as_bytes());
        assert!(out.contains(shown.trim_end()) && out.contains("not shown"), "{kind}\n{out}");
        assert!(out.contains("an anchor") && out.contains("nothing"), "{kind}\n{out}");
        let strict =
            ["try", "-c", &config, "--route", "mirror", "--plan", "strict", "--kind", kind];
        let (_, out, _) = say(&[&strict[..], &["-o", "json", &file]].concat());
        assert!(out.contains("***************3453") && !out.contains("622202*"), "{kind}\n{out}");
    }
    let json = &bodies()[0].1;
    let file = write("answers", &format!("{json}\n{{\"memo\":\"card {PAN} paid\"}}\n"));
    let (code, out, said) = say(&["discover", "-c", &config, "--route", "mirror", &file]);
    assert_eq!(code, 1, "{out}{said}");
    assert!(out.contains("/memo") && out.contains("bank_card") && !out.contains("/card"), "{out}");
    scan("discovery", format!("{out}{said}").as_bytes());
    for (words, wanted) in [
        (vec!["try", "--route", "none"], "there is no route none"),
        (vec!["try", "--route", "mirror", "--plan", "none"], "there is no plan none"),
        (vec!["try", "--route", "mirror", "--kind", "csv"], "refused"),
    ] {
        let (code, _, said) = say(&[&words[..], &["-c", &config, &file]].concat());
        assert!(code != 0 && said.contains(wanted), "{said}");
        scan("an error", said.as_bytes());
    }
}
