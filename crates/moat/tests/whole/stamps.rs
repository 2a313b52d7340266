//! Time stamps of a real authority (`openssl ts`) bound when records were made.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::{Gateway, Options, Pki, Service, calls, eventually, moat};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn good(arguments: &[&str]) -> String {
    let (code, out, err) = moat(arguments);
    assert_eq!(code, 0, "{arguments:?}: {out}{err}");
    out
}

/// An authority, what it issued for time stamping, and what it issued for something else.
struct Authority(tempfile::TempDir);

const CONFIG: &str = "[tsa]
default_tsa = one
[one]
serial = serial
signer_cert = tsa.pem
certs = ca.pem
signer_key = tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1, millisecs:500
ess_cert_id_alg = sha256
[stamp]
extendedKeyUsage = critical,timeStamping
[web]
extendedKeyUsage = serverAuth
";

impl Authority {
    /// None where openssl is not installed, which is an error in CI.
    fn new() -> Option<Authority> {
        if Command::new("openssl").arg("version").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "openssl is not there");
            eprintln!("SKIPPED: openssl is not there");
            return None;
        }
        let authority = Authority(tempfile::tempdir().unwrap());
        std::fs::write(authority.0.path().join("conf"), CONFIG).unwrap();
        std::fs::write(authority.0.path().join("serial"), "01").unwrap();
        let new =
            ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let named = |name: &str| format!("/CN={name}");
        for (key, cert, name) in
            [("ca.key", "ca.pem", "stamps"), ("other.key", "other.pem", "other")]
        {
            let rest = ["-keyout", key, "-out", cert, "-days", "30", "-subj", &named(name)];
            authority.run(&[&new[..], &rest].concat());
        }
        for (name, key, section) in [("tsa", "rsa:2048", "stamp"), ("web", "rsa:2048", "web")] {
            let (key_file, csr, cert) =
                (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
            let subject = named(name);
            authority.run(&[
                "req", "-new", "-newkey", key, "-nodes", "-keyout", &key_file, "-out", &csr,
                "-subj", &subject,
            ]);
            authority.run(&[
                "x509",
                "-req",
                "-in",
                &csr,
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-days",
                "20",
                "-extfile",
                "conf",
                "-extensions",
                section,
                "-out",
                &cert,
            ]);
        }
        Some(authority)
    }

    fn run(&self, arguments: &[&str]) {
        let out = Command::new("openssl").args(arguments).current_dir(self.0.path()).output();
        let out = out.unwrap();
        assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// Answers the request in a file of its folder.
    fn answer(&self, query: &str, out: &str) {
        self.run(&[
            "ts",
            "-reply",
            "-config",
            "conf",
            "-section",
            "one",
            "-queryfile",
            query,
            "-out",
            out,
        ]);
    }
}

async fn signed_calls(pki: &Pki, gateway: &Gateway, count: usize) -> u64 {
    let last = calls(pki, gateway, count).await;
    let signed =
        || (gateway.status()["auditor"]["signed"]["size"].as_u64() > Some(last)).then_some(());
    eventually("signed", Duration::from_secs(20), signed).await;
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_lie_between_tokens_of_an_authority_and_a_false_token_is_refused() {
    let Some(authority) = Authority::new() else { return };
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let mut gateway = Gateway::start(&pki, service.address, Options::default()).await;
    let dir = gateway.audit_dir.clone();
    let (ca, query) = (authority.path("ca.pem"), authority.path("q"));
    let stamp = |query: &Path| {
        let out = good(&["audit", "timestamp", "--dir", text(&dir), "--out", text(query)]);
        let size = out.split_once("over ").and_then(|(_, rest)| rest.split_once(' ')).unwrap().0;
        size.to_owned()
    };
    let take = |size: &str, answer: &str, ca: &Path| {
        moat(&[
            "audit",
            "timestamped",
            "--dir",
            text(&dir),
            "--size",
            size,
            "--answer",
            text(&authority.path(answer)),
            "--authority",
            text(ca),
        ])
    };
    let first = signed_calls(&pki, &gateway, 5).await;
    let size = stamp(&query);
    authority.run(&["ts", "-query", "-in", "q", "-text"]);
    authority.answer("q", "good.tsr");
    // For another size, of another authority, changed, and of one who may not stamp.
    let (code, _, err) = take("2", "good.tsr", &ca);
    assert!(code == 3 && err.contains("MOAT-A044"), "{err}");
    assert_eq!(take(&size, "good.tsr", &authority.path("other.pem")).0, 3);
    let (code, told, err) = take(&size, "good.tsr", &ca);
    assert_eq!(code, 0, "{err}");
    let bytes = std::fs::read(authority.path("good.tsr")).unwrap();
    let mut refused = 0;
    for at in (0..bytes.len()).step_by(41) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        std::fs::write(authority.path("changed.tsr"), &changed).unwrap();
        let (code, out, err) = take(&size, "changed.tsr", &ca);
        // What nobody signed may be changed: then it says the same.
        assert!(code == 3 || out == told, "byte {at}: {out}{err}");
        refused += i32::from(code == 3);
    }
    assert!(refused > 10, "{refused}");
    assert_eq!(take(&size, "good.tsr", &ca).0, 0);
    let recorded = || {
        let is_stamp = |note: &str| note.starts_with("time stamp over the first");
        gateway.log().iter().find(|leaf| is_stamp(&leaf.body.note)).map(|leaf| leaf.head.seq)
    };
    let at = eventually("the token on record", Duration::from_secs(30), recorded).await;
    assert!(at > first);
    let last = signed_calls(&pki, &gateway, 3).await;
    let size = stamp(&query);
    authority.answer("q", "second.tsr");
    assert_eq!(take(&size, "second.tsr", &ca).0, 0);
    gateway.stop();
    let verify = ["audit", "verify", "--dir", text(&dir), "--tsa", text(&ca), "-o", "json"];
    let told: serde_json::Value = serde_json::from_str(&good(&verify)).unwrap();
    assert_eq!(told["time_stamps"]["good"], 2, "{told}");
    let seq = last.to_string();
    let shown = good(&[
        "audit",
        "show",
        "--dir",
        text(&dir),
        "--from",
        &seq,
        "--limit",
        "1",
        "--tsa",
        text(&ca),
        "-o",
        "json",
    ]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let (least, most) =
        (shown["not_earlier_ns"].as_u64().unwrap(), shown["not_later_ns"].as_u64().unwrap());
    let said = shown["t_wall_ns"].as_u64().unwrap();
    assert!(least <= said && said <= most && most - least < 60_000_000_000, "{shown}");
    // A token that is not of this log is a finding.
    std::fs::copy(authority.path("good.tsr"), dir.join("timestamps/00000000000000000003.tsr"))
        .unwrap();
    let (code, out, _) = moat(&verify);
    assert!(code == 3 && out.contains("MOAT-A044"), "{out}");
}
