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
        // The issuing authority, by the root: from then on it issues and answers no more.
        good(&format!("revoke --dir {pki} {pki}/issuing{mark}.pem --reason cACompromise"));
        let said = good(&format!("crl --dir {pki} --root --der {sm2}"));
        assert!(said.contains("number 1, 1 revoked"), "{said}");
        assert_eq!(std::fs::read(format!("{pki}/root{mark}.crl")).unwrap()[0], 0x30);
        refused(&ocsp, "MOAT-K010");
        refused(&format!("issue --dir {pki} {teller} {sm2}"), "MOAT-K010");

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
    let register = format!("{pki}/issuing.register");
    let whole = std::fs::read(&register).unwrap();
    std::fs::write(&register, "moat register 2\ncrl 0\n").unwrap();
    refused(&format!("crl --dir {pki}"), "MOAT-K006");
    std::fs::remove_file(&register).unwrap();
    for words in ["crl", "issue --spiffe spiffe://bank.test/x", "revoke 01"] {
        refused(&format!("{words} --dir {pki}"), "MOAT-K006");
    }
    std::fs::write(&register, whole).unwrap();
    // An authority of another folder.
    let other = dir.path().join("other").display().to_string();
    good(&format!("init --dir {other}"));
    good(&format!("issue --dir {other} --spiffe spiffe://bank.test/x"));
    refused(&format!("revoke --dir {pki} {other}/x.pem"), "MOAT-K007");
}

#[test]
fn nobodys_files_are_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki").display().to_string();
    good(&format!("init --dir {pki}"));
    good(&format!("issue --dir {pki} --spiffe spiffe://bank.test/teller"));
    let read = |name: &str| std::fs::read(format!("{pki}/{name}")).unwrap();
    let names = ["issuing.key", "issuing.pem", "teller.key", "root.key", "issuing.register"];
    let before = names.map(read);
    for words in ["issue --dir", "request --out"] {
        for id in ["issuing", "root", "issuing-sm2"] {
            refused(&format!("{words} {pki} --spiffe spiffe://bank.test/{id}"), "MOAT-K001");
        }
        let id = "--spiffe spiffe://bank.test/x";
        refused(&format!("{words} {pki} {id} --stem ../pki/issuing"), "MOAT-K003");
    }
    refused(&format!("request --out {pki} --spiffe spiffe://bank.test/teller"), "MOAT-K001");
    for name in names {
        let out = format!("{pki}/{name}");
        refused(&format!("crl --dir {pki} --out {out}"), "MOAT-K001");
        refused(&format!("ocsp --dir {pki} --cert {pki}/teller.pem --out {out}"), "MOAT-K001");
    }
    assert!(before == names.map(read));
    refused(&format!("init --dir {pki}"), "MOAT-K001");
}

#[test]
fn the_root_may_be_offline_and_responders_live_shortly() {
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki").display().to_string();
    good(&format!("init --dir {pki}"));
    std::fs::remove_file(format!("{pki}/root.key")).unwrap();
    good(&format!("issue --dir {pki} --spiffe spiffe://bank.test/teller"));
    let ocsp = format!("ocsp --dir {pki} --cert {pki}/teller.pem --out {pki}/teller.ocsp");
    good(&ocsp);
    refused(&format!("{ocsp} --hours 169"), "168");
    refused(&format!("issue --dir {pki} --ocsp-responder --days 31"), "30 days");
    good(&format!("issue --dir {pki} --ocsp-responder"));
    good(&format!("revoke --dir {pki} {pki}/teller.pem"));
    good(&format!("crl --dir {pki}"));
    refused(&format!("crl --dir {pki} --root"), "MOAT-K002");
    // Neither to revoke nor to answer by a responder the authority's own key is needed.
    std::fs::remove_file(format!("{pki}/issuing.key")).unwrap();
    good(&format!("{ocsp} --responder {pki}/ocsp-responder"));
    good(&format!("revoke --dir {pki} {pki}/ocsp-responder.pem"));
    refused(&format!("{ocsp} --responder {pki}/ocsp-responder"), "MOAT-K009");
    refused(&ocsp, "MOAT-K002");
}
