//! After a run full of card numbers, identity numbers, security codes and passwords no file of the
//! gateway holds one of them: not as text, not in base64, not in hexadecimal, not in UTF-16, and not
//! in a packed segment either.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderValue;
use moat_audit::sealed::open_segment;
use moat_audit::store::{Dir, Readable as _, read_start, segment_names};

use crate::support::{Client, Gateway, Options, Pki, Service, eventually, request};

/// What must be in no file.
const CANARIES: [&str; 7] = [
    "4556737586899855",
    "110105194912310021",
    "CVV8731Q",
    "correct-horse-battery-7",
    "pin-block-91af55",
    "张三丰测试人",
    "track2-4556737586899855D2512",
];

const ROUTES: &str = r#"  - name: cards
    match: { path: "/cards/{rest...}", methods: [POST] }
    upstream: accounts
    policy: authz
    decide_on: { /amount: amount }
    audit:
      object: "cards/{rest}"
      op: UPD
      fields: { /card: PAN, /person: C3, /cvv: SAD, /pin: SAD, /name: C2, /amount: C1 }
    mask: { /name: name }
    deadline_ms: 1500
"#;

/// A canary as it may stand in a file.
fn forms(canary: &str) -> Vec<Vec<u8>> {
    let bytes = canary.as_bytes();
    let utf16: Vec<u16> = canary.encode_utf16().collect();
    let mut forms = vec![
        bytes.to_vec(),
        data_encoding::HEXLOWER.encode(bytes).into_bytes(),
        data_encoding::HEXUPPER.encode(bytes).into_bytes(),
        utf16.iter().flat_map(|unit| unit.to_le_bytes()).collect(),
        utf16.iter().flat_map(|unit| unit.to_be_bytes()).collect(),
    ];
    for before in 0..3 {
        let shifted = [vec![0; before], bytes.to_vec()].concat();
        for encoding in [data_encoding::BASE64_NOPAD, data_encoding::BASE64URL_NOPAD] {
            let text = encoding.encode(&shifted).into_bytes();
            // The digits at either end depend on what stands beside it.
            let (start, end) = (before * 8_usize.div_ceil(6), (bytes.len() + before) * 8 / 6);
            forms.push(text[start..end].to_vec());
        }
    }
    forms
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            files(&path, out);
        } else if kind.is_file() {
            out.push(path);
        }
    }
}

fn holds(bytes: &[u8], forms: &[Vec<u8>]) -> bool {
    forms.iter().any(|form| memchr::memmem::find(bytes, form).is_some())
}

/// Which file holds which canary.
fn found(dir: &Path, log: &Path) -> Vec<String> {
    let (mut paths, mut found) = (Vec::new(), Vec::new());
    files(dir, &mut paths);
    files(log, &mut paths);
    let mut contents: Vec<(String, Vec<u8>)> = paths
        .iter()
        .map(|path| (path.display().to_string(), std::fs::read(path).unwrap()))
        .collect();
    // As they are, and unpacked.
    for name in segment_names(&Dir::new(log)).unwrap() {
        let segment = open_segment(&Dir::new(log), &name).unwrap();
        let size = usize::try_from(segment.size().unwrap()).unwrap();
        contents.push((name, read_start(&segment, size).unwrap()));
    }
    for canary in CANARIES {
        let forms = forms(canary);
        let held = contents.iter().filter(|(_, bytes)| holds(bytes, &forms));
        found.extend(held.map(|(name, _)| format!("{canary} in {name}")));
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_file_holds_a_canary_after_a_run_full_of_them() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let options = Options { routes: ROUTES, segment_mib: 1, ..Options::default() };
    let mut gateway = Gateway::start(&pki, service.address, options).await;
    let [pan, id, cvv, password, pin, name, track] = CANARIES;
    let body = serde_json::json!({
        "amount": 12, "card": pan, "person": id, "cvv": cvv, "pin": pin, "name": name,
        // Not declared, so not recorded.
        "password": password, "track": track, "nested": { "card": [pan, track] },
    })
    .to_string();
    let identity = pki.identity("teller");
    let mut client = Client::connect(&pki, gateway.address, &identity, false).await.unwrap();
    let mut recorded = 0u64;
    for n in 0..2_000 {
        // Taken, refused, malformed, and with canaries where no one should put them.
        let (method, path, body) = match n % 200 {
            0 => ("POST", format!("/nowhere/{n}"), body.clone()),
            1 => ("POST", "/cards/bad".to_owned(), format!("{body}}}")),
            2 => ("POST", "/denied/x".to_owned(), body.clone()),
            3 => ("POST", "/cards/telling".to_owned(), body.clone()),
            _ => ("POST", "/cards/echo".to_owned(), body.clone()),
        };
        let mut call = request(method, &path, &body);
        let headers = call.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        let secret = HeaderValue::from_str(&format!("Basic {password}")).unwrap();
        headers.insert("authorization", secret.clone());
        headers.insert("cookie", HeaderValue::from_str(&format!("s={pan}; p={password}")).unwrap());
        headers.insert("x-pin", HeaderValue::from_str(pin).unwrap());
        match client.send(call).await {
            Ok(answer) => recorded += u64::from(!answer.header("x-moat-record").is_empty()),
            // What cannot be framed ends the connection.
            Err(_) => {
                client = Client::connect(&pki, gateway.address, &identity, false).await.unwrap();
            }
        }
    }
    assert!(recorded > 1_000, "{recorded}");
    // The full segments are packed while it lives.
    let packed = || {
        let kept = &gateway.status()["auditor"]["kept"];
        (kept["packed"].as_u64() > Some(0)).then_some(())
    };
    eventually("a packed segment", Duration::from_secs(30), packed).await;
    gateway.stop();
    let (dir, log) = (gateway.dir.path().to_owned(), gateway.audit_dir.clone());
    assert_eq!(found(&dir, &log), Vec::<String>::new());
    // There were records of these fields, and the search finds what is there.
    let fields = |leaf: &moat_audit::record::Leaf| leaf.body.fields.len();
    assert!(gateway.log().iter().any(|leaf| fields(leaf) >= 6), "no field was recorded");
    let planted = dir.join("planted");
    for form in forms(pan) {
        std::fs::write(&planted, [b"xx", form.as_slice(), b"yy"].concat()).unwrap();
        assert!(holds(&std::fs::read(&planted).unwrap(), &forms(pan)));
    }
    assert_eq!(found(&dir, &log).len(), 1);
}
