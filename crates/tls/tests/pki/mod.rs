//! What `moat ca` signs besides certificates, judged by OpenSSL 4 and Tongsuo: requests, lists, responses.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use moat_ca::{
    Authority, LeafRequest, Level, NameHash, Question, Reason, Register, Request, Responder,
    Revocation, Window, first_certificate,
};

struct Bank {
    dir: tempfile::TempDir,
}

impl Bank {
    /// Both streams of the program, and whether it was content.
    fn openssl(&self, words: &str) -> (bool, String) {
        let program =
            std::env::var_os("MOAT_OPENSSL").expect("MOAT_OPENSSL, by cargo xtask interop");
        let mut command = Command::new(program);
        command.args(words.split_whitespace()).current_dir(self.dir.path());
        super::run(command.env("OPENSSL_CONF", "empty.cnf"))
    }

    #[track_caller]
    fn good(&self, words: &str, wanted: &[&str]) {
        let (is_good, said) = self.openssl(words);
        assert!(is_good, "{words}\n{said}");
        for wanted in wanted {
            assert!(said.contains(wanted), "{words}: {wanted} is missing\n{said}");
        }
    }

    #[track_caller]
    fn bad(&self, words: &str, wanted: &str) {
        let (is_good, said) = self.openssl(words);
        assert!(!is_good && said.contains(wanted), "{words}\n{said}");
    }
}

fn now_s() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap()
}

#[test]
#[ignore = "needs OpenSSL 4 or Tongsuo: cargo xtask interop"]
fn openssl_takes_requests_lists_and_responses_of_both_kinds() {
    for authority in [Authority::create("Test", now_s()), Authority::create_sm2("Test", now_s())] {
        let bank = Bank { dir: tempfile::tempdir().unwrap() };
        check(&bank, &authority.unwrap());
    }
}

fn check(bank: &Bank, authority: &Authority) {
    let dir = bank.dir.path();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.join(name), bytes).unwrap();
    write("empty.cnf", b"");
    write("root.pem", authority.trust_pem().as_bytes());
    write("issuing.pem", authority.issuing_pem().as_bytes());
    let wish = LeafRequest::spiffe("spiffe://bank.test/teller", now_s());

    let made = moat_ca::request(authority.kind(), &wish).unwrap();
    write("teller.csr", made.request_pem.as_bytes());
    bank.good("req -in teller.csr -noout -verify", &["verify OK"]);
    let request = Request::read(made.request_pem.as_bytes()).unwrap();
    let good = authority.issue_for(&request, &wish).unwrap();
    let bad = authority.issue(&wish).unwrap().chain_pem;
    let responder = authority.issue_responder(&wish).unwrap();
    write("good.pem", good.as_bytes());
    write("bad.pem", bad.as_bytes());

    let mut register = Register::open(dir, authority.kind(), Level::Issuing).unwrap();
    let ders = [&good, &bad].map(|pem| first_certificate(pem.as_bytes()).unwrap());
    let serials = ders.each_ref().map(|der| register.issued(der).unwrap());
    register.issued(&first_certificate(responder.chain_pem.as_bytes()).unwrap()).unwrap();
    let revocation = Revocation { at_s: now_s(), reason: Reason::Superseded };
    register.revoke(&serials[1], revocation).unwrap();

    let window = Window { from_s: now_s() - 1, length_s: 3_600 };
    let list = authority.list(Level::Issuing, &mut register, window).unwrap();
    let mut roots = Register::open(dir, authority.kind(), Level::Root).unwrap();
    let of_root = authority.list(Level::Root, &mut roots, window).unwrap();
    write("issuing.crl", list.pem.as_bytes());
    write("root.crl", of_root.pem.as_bytes());
    write("both.crl", format!("{}{}", list.pem, of_root.pem).as_bytes());
    bank.good("crl -in issuing.crl -noout -verify -CAfile issuing.pem", &["verify OK"]);
    bank.good("crl -in root.crl -noout -verify -CAfile root.pem", &["verify OK"]);
    let verify = "verify -CAfile root.pem -untrusted issuing.pem -CRLfile both.crl -crl_check_all";
    bank.good(&format!("{verify} good.pem"), &["OK"]);
    bank.bad(&format!("{verify} bad.pem"), "certificate revoked");

    let pair = Responder { chain_pem: &responder.chain_pem, key_pem: &responder.key_pem };
    for responder in [None, Some(pair)] {
        ask(bank, dir, authority, &register, &ders, responder);
    }
}

fn ask(
    bank: &Bank,
    dir: &Path,
    authority: &Authority,
    register: &Register,
    certificates: &[rustls_pki_types::CertificateDer<'_>],
    responder: Option<Responder<'_>>,
) {
    let window = Window { from_s: now_s() - 1, length_s: 3_600 };
    let question = Question { certificates, hash: NameHash::Sha1, window, responder };
    let answer = authority.answer(register, &question).unwrap();
    std::fs::write(dir.join("answer.der"), &answer.der).unwrap();
    std::fs::write(dir.join("all.pem"), [authority.issuing_pem(), authority.trust_pem()].concat())
        .unwrap();
    let words = "ocsp -respin answer.der -CAfile all.pem -verify_other issuing.pem \
                 -issuer issuing.pem -cert good.pem -cert bad.pem";
    bank.good(words, &["Response verify OK", "good.pem: good", "bad.pem: revoked", "superseded"]);
    // A changed byte of the answer's last signature or certificate.
    let mut changed = answer.der;
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(dir.join("changed.der"), &changed).unwrap();
    let (is_good, said) = bank.openssl(&words.replace("answer.der", "changed.der"));
    assert!(!is_good || !said.contains("Response verify OK"), "{said}");
}
