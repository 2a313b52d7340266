//! `moat ca` as a person uses it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::moat;

/// Runs `moat ca` with those words; a word may not hold a space.
fn ca(words: &str) -> (i32, String) {
    let words: Vec<&str> = std::iter::once("ca").chain(words.split_whitespace()).collect();
    let (code, stdout, stderr) = moat(&words);
    (code, format!("{stdout}{stderr}"))
}

#[track_caller]
fn good(words: &str) -> String {
    let (code, said) = ca(words);
    assert_eq!(code, 0, "{words}\n{said}");
    said
}

#[track_caller]
fn refused(words: &str, code: &str) {
    let (exit, said) = ca(words);
    assert!(exit != 0 && said.contains(code), "{words}\n{said}");
}

fn rights(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_certificate_is_asked_for_issued_revoked_and_listed() {
    for (sm2, mark) in [("", ""), ("--sm2", "-sm2")] {
        let dir = tempfile::tempdir().unwrap();
        let pki = dir.path().join("pki").display().to_string();
        let there = dir.path().join("there").display().to_string();
        good(&format!("init --dir {pki} {sm2}"));
        let teller = "--spiffe spiffe://bank.test/teller";
        good(&format!("request {teller} --name localhost --out {there} {sm2}"));
        let request = format!("{there}/teller{mark}.csr");
        assert_eq!(rights(Path::new(&format!("{there}/teller{mark}.key"))), 0o600);

        refused(&format!("issue --dir {pki} --request {request} {teller}"), "MOAT-K005");
        let issue = format!("issue --dir {pki} --request {request} {teller} --name localhost");
        let said = good(&issue);
        let serial = said.trim().rsplit(' ').next().unwrap().to_owned();
        assert!(!Path::new(&format!("{pki}/teller{mark}.key")).exists(), "the key stays there");
        let certificate = format!("{pki}/teller{mark}.pem");

        let crl = |wanted: &str| {
            let said = good(&format!("crl --dir {pki} {sm2}"));
            assert!(said.contains(wanted), "{said}");
        };
        crl("number 1, 0 revoked");
        let answer = format!("{pki}/teller.ocsp");
        let ocsp = format!("ocsp --dir {pki} --cert {certificate} --out {answer}");
        assert!(good(&ocsp).contains("good"));
        good(&format!("revoke --dir {pki} {serial} --reason keyCompromise {sm2}"));
        refused(&format!("revoke --dir {pki} {certificate}"), "MOAT-K008");
        crl("number 2, 1 revoked");
        assert!(good(&ocsp).contains("revoked"));
        good(&format!("issue --dir {pki} --ocsp-responder {sm2}"));
        let responder = format!("{pki}/ocsp-responder{mark}");
        assert!(good(&format!("{ocsp} --responder {responder}")).contains("revoked"));
        refused(&format!("{ocsp} --responder {pki}/issuing{mark}"), "MOAT-K009");
        // The issuing authority, by the root.
        good(&format!("revoke --dir {pki} {pki}/issuing{mark}.pem --reason cACompromise"));
        let said = good(&format!("crl --dir {pki} --root --der {sm2}"));
        assert!(said.contains("number 1, 1 revoked"), "{said}");
        assert_eq!(std::fs::read(format!("{pki}/root{mark}.crl")).unwrap()[0], 0x30);

        assert_eq!(rights(Path::new(&format!("{pki}/issuing{mark}.register"))), 0o600);
        let left: Vec<_> =
            std::fs::read_dir(&pki).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".new")), "{left:?}");
    }
}

#[test]
fn what_cannot_be_used_is_refused_with_a_code() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki").display().to_string();
    refused(&format!("crl --dir {pki}"), "MOAT-K002");
    good(&format!("init --dir {pki}"));
    let bad = dir.path().join("bad.csr").display().to_string();
    let issue = format!("issue --dir {pki} --request {bad} --spiffe spiffe://bank.test/x");
    refused(&issue, "MOAT-K002");
    std::fs::write(&bad, "no request").unwrap();
    refused(&issue, "MOAT-K004");
    refused(&format!("revoke --dir {pki} 01"), "MOAT-K007");
    refused(&format!("revoke --dir {pki} nobody"), "MOAT-K007");
    refused(&format!("revoke --dir {pki} 01 --reason because"), "keyCompromise");
    refused(&format!("issue --dir {pki}"), "--spiffe");
    std::fs::write(format!("{pki}/issuing.register"), "moat register 1\nrevoked x\n").unwrap();
    refused(&format!("crl --dir {pki}"), "MOAT-K006");
    // An authority of another folder.
    let other = dir.path().join("other").display().to_string();
    good(&format!("init --dir {other}"));
    good(&format!("issue --dir {other} --spiffe spiffe://bank.test/x"));
    refused(&format!("revoke --dir {pki} {other}/x.pem"), "MOAT-K007");
}
