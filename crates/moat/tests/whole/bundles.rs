//! Signed policy bundles: made and signed by the tool, taken or refused by the gateway.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use moat_audit::record::{Body, Kind};

use crate::support::{Client, Gateway, Options, Pki, Service, eventually, moat};

const SIGNED: &str =
    "signed: { keys: \"file:policy-keys.json\", name: pay, algorithms: [EdDSA, SM2-with-SM3] }";

struct Bank {
    pki: Pki,
    _service: Service,
    gateway: Gateway,
}

/// Runs the tool, which must succeed; gives what it printed.
fn run(arguments: &[&str]) -> String {
    let (code, out, err) = moat(arguments);
    assert_eq!(code, 0, "{arguments:?}\n{out}{err}");
    out
}

impl Bank {
    /// A gateway that takes signed bundles from now on, with version 1.0.0 in force.
    async fn new() -> Bank {
        let pki = Pki::new();
        let service = Service::start(&pki, &["http/1.1"]).await;
        let gateway = Gateway::start(&pki, service.address, Options::default()).await;
        let bank = Bank { pki, _service: service, gateway };
        let key = |name: &str, id: &str, more: &[&str]| {
            let out = bank.at(name);
            run(&[&["policy", "bundle", "key", "--out", &out, "--id", id], more].concat())
        };
        let keys = [key("e.key", "e", &[]), key("s.key", "s", &["--sm2"])];
        key("stranger.key", "e", &[]);
        let set = format!("{{\"keys\":[{}]}}", keys.join(","));
        fs::write(bank.at("policy-keys.json"), set).unwrap();
        bank.bundle("1.0.0", "pass", "default");
        bank.gateway.edit_config(
            "bundle: \"file:policy/\"",
            &format!("bundle: \"file:b-1.0.0/\", {SIGNED}"),
        );
        bank.is_taken();
        bank
    }

    fn at(&self, name: &str) -> String {
        self.gateway.dir.path().join(name).display().to_string()
    }

    /// A signed bundle that allows one route only.
    fn bundle(&self, version: &str, route: &str, tenant: &str) -> PathBuf {
        let source = self.gateway.dir.path().join(format!("source-{version}-{route}"));
        fs::create_dir_all(&source).unwrap();
        let rules =
            format!("package authz\ndefault allow := false\nallow if input.route == \"{route}\"\n");
        let test =
            format!("package authz\ntest_it if allow with input as {{\"route\": \"{route}\"}}\n");
        let golden = format!(
            r#"[{{"name":"one","package":"authz","input":{{"route":"{route}"}},"expect":"allow"}},
                {{"name":"other","package":"authz","input":{{"route":"x"}},"expect":"deny"}}]"#
        );
        for (name, text) in
            [("authz.rego", rules), ("authz_test.rego", test), (".golden.json", golden)]
        {
            fs::write(source.join(name), text).unwrap();
        }
        let (from, out) = (source.display().to_string(), self.at(&format!("b-{version}")));
        let _ = fs::remove_dir_all(&out);
        run(&[
            "policy",
            "bundle",
            "build",
            &from,
            "--out",
            &out,
            "--name",
            "pay",
            "--version",
            version,
            "--tenant",
            tenant,
        ]);
        self.sign(&out, "e.key", "e");
        self.sign(&out, "s.key", "s");
        out.into()
    }

    fn sign(&self, bundle: &str, key: &str, id: &str) {
        run(&["policy", "bundle", "sign", bundle, "--key", &self.at(key), "--id", id]);
    }

    /// Names another bundle in the configuration.
    fn switch(&self, from: &str, to: &str) {
        self.gateway.edit_config(&format!("file:{from}/"), &format!("file:{to}/"));
    }

    fn is_taken(&self) {
        let (code, said) = self.gateway.reload();
        assert_eq!(code, 0, "{said}");
    }

    async fn is_refused(&self, code: &str, what: &str) {
        let (exit, said) = self.gateway.reload();
        assert!(exit != 0 && said.contains(code), "{what}: {exit} {said}");
        // Its record is made when that can be: nobody waits for it.
        let is_it = |body: &Body| body.code == code && body.note.ends_with("refused");
        self.gateway.record(what, is_it).await;
    }

    async fn allowed(&self) -> [u16; 2] {
        let mut client = Client::http1(&self.pki, self.gateway.address, "teller").await;
        [client.get("/pass/ok").await.status, client.get("/masked/ok").await.status]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_bundle_is_in_force_and_whatever_was_done_to_one_is_refused() {
    let bank = Bank::new().await;
    assert_eq!(bank.allowed().await, [200, 403]);
    let taken = bank.gateway.records(Kind::Admin).pop().unwrap();
    assert!(taken.note.contains(" policy=default/pay@1.0.0#sha256:"), "{}", taken.note);
    bank.bundle("1.1.0", "masked", "default");
    let whole = bank.gateway.dir.path().join("b-1.1.0");
    let keys = bank.at("policy-keys.json");
    let verify = |folder: &str| {
        moat(&[
            "policy",
            "bundle",
            "verify",
            folder,
            "--keys",
            &keys,
            "--name",
            "pay",
            "--algorithm",
            "EdDSA",
            "--algorithm",
            "SM2-with-SM3",
        ])
    };
    let (code, out, err) = verify(&bank.at("b-1.1.0"));
    assert!(code == 0 && out.contains("default/pay 1.1.0: good, 3 tests passed"), "{out}{err}");
    type Attack = fn(&Bank, &std::path::Path);
    let stripped: Attack = |_, at| fs::remove_file(at.join(".signatures.json")).unwrap();
    let resigned: Attack = |bank, at| {
        fs::remove_file(at.join(".signatures.json")).unwrap();
        bank.sign(&at.display().to_string(), "stranger.key", "e");
    };
    let half_signed: Attack = |bank, at| {
        fs::remove_file(at.join(".signatures.json")).unwrap();
        bank.sign(&at.display().to_string(), "e.key", "e");
    };
    let truncated: Attack = |_, at| {
        let text = fs::read_to_string(at.join("authz.rego")).unwrap();
        fs::write(at.join("authz.rego"), text.get(..text.len() - 20).unwrap()).unwrap();
    };
    let extra: Attack =
        |_, at| fs::write(at.join("more.rego"), "package authz\nallow := true\n").unwrap();
    let unread: Attack = |_, at| fs::write(at.join("note.txt"), "hello").unwrap();
    let mut before = "b-1.0.0".to_owned();
    for (at, (attack, code, what)) in [
        (stripped, "MOAT-P030", "stripped"),
        (resigned, "MOAT-P031", "re-signed"),
        (half_signed, "MOAT-P030", "one signature of two"),
        (truncated, "MOAT-P032", "truncated"),
        (extra, "MOAT-P032", "a file more"),
        (unread, "MOAT-P032", "a file more that nobody reads"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("attacked-{at}");
        let copy = bank.gateway.dir.path().join(&name);
        fs::create_dir(&copy).unwrap();
        for entry in fs::read_dir(&whole).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
        attack(&bank, &copy);
        bank.switch(&before, &name);
        bank.is_refused(code, what).await;
        assert_eq!(verify(&bank.at(&name)).0, 1, "{what}");
        assert_eq!(bank.allowed().await, [200, 403], "{what}: the one before stays");
        before = name;
    }
    bank.bundle("1.2.0", "masked", "other");
    bank.switch(&before, "b-1.2.0");
    bank.is_refused("MOAT-P034", "of another tenant").await;
    bank.switch("b-1.2.0", "b-1.1.0");
    bank.is_taken();
    assert_eq!(bank.allowed().await, [403, 200]);
    bank.gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_version_comes_back_even_when_what_was_kept_is_removed() {
    let mut bank = Bank::new().await;
    bank.bundle("2.0.0", "masked", "default");
    bank.switch("b-1.0.0", "b-2.0.0");
    bank.is_taken();
    bank.switch("b-2.0.0", "b-1.0.0");
    bank.is_refused("MOAT-P035", "replayed").await;
    // The log knows it too.
    fs::remove_dir_all(bank.at("policy-state")).unwrap();
    bank.bundle("1.9.9", "pass", "default");
    bank.switch("b-1.0.0", "b-1.9.9");
    bank.is_refused("MOAT-P035", "replayed without the file").await;
    // Another bundle of the same version is not the same.
    bank.bundle("2.0.0", "pass", "default");
    bank.switch("b-1.9.9", "b-2.0.0");
    bank.is_refused("MOAT-P035", "two bundles of one version").await;
    // The way back is a new version.
    bank.bundle("2.0.1", "pass", "default");
    bank.switch("b-2.0.0", "b-2.0.1");
    bank.is_taken();
    assert_eq!(bank.allowed().await, [200, 403]);
    bank.gateway.stop();
    bank.gateway.start_again().await;
    assert_eq!(bank.allowed().await, [200, 403]);
    bank.gateway.assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_good_bundle_survives_a_restart_with_a_bad_one() {
    let mut bank = Bank::new().await;
    let bad = bank.bundle("1.5.0", "masked", "default");
    fs::write(bad.join("authz.rego"), "package authz\nallow := true\n").unwrap();
    bank.switch("b-1.0.0", "b-1.5.0");
    bank.gateway.stop();
    bank.gateway.start_again().await;
    assert_eq!(bank.allowed().await, [200, 403], "version 1.0.0 is in force");
    let shown = || bank.gateway.status().to_string().contains("MOAT-P032").then_some(());
    eventually("the refusal is shown", Duration::from_secs(15), shown).await;
    bank.is_refused("MOAT-P032", "still bad").await;
    // Mended, it is taken without a restart.
    bank.bundle("1.5.0", "masked", "default");
    bank.is_taken();
    assert_eq!(bank.allowed().await, [403, 200]);
    bank.gateway.assert_whole();
}

#[test]
fn a_bundle_that_does_not_pass_its_own_tests_is_not_built() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("a.rego"), "package a\ndefault allow := false\ntest_it if allow\n")
        .unwrap();
    let (from, out) = (source.display().to_string(), dir.path().join("out"));
    let (code, _, err) = moat(&[
        "policy",
        "bundle",
        "build",
        &from,
        "--out",
        &out.display().to_string(),
        "--name",
        "a",
        "--version",
        "1.0.0",
    ]);
    assert!(code == 1 && err.contains("MOAT-P037"), "{err}");
    assert!(!out.exists());
}
