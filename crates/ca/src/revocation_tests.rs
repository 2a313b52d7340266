//! Requests, registers, lists and OCSP responses: read back by other parsers, checked by OpenSSL,
//! and wrong ones refused. It is longer than other files since all of it works on the same few
//! authorities and registers.

use std::path::Path;
use std::process::{Command, Output};

use der::{Decode, Encode};
use moat_model::Code;
use moat_model::code::ca as codes;
use rustls_pki_types::CertificateDer;
use x509_ocsp::{BasicOcspResponse, CertStatus, OcspResponse, OcspResponseStatus, ResponderId};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use crate::{
    Authority, Kind, LeafRequest, Level, NameHash, Question, Reason, Register, Request, Responder,
    Revocation, Serial, Status, Window, first_certificate, request, signed_kind,
};

/// 2026-01-01.
const NOW_S: i64 = 1_767_225_600;
const WEEK: Window = Window { from_s: NOW_S, length_s: 7 * 86_400 };
const KINDS: [Kind; 2] = [Kind::P256, Kind::Sm2];

fn authority(kind: Kind) -> Authority {
    match kind {
        Kind::P256 => Authority::create("Test", NOW_S).unwrap(),
        Kind::Sm2 => Authority::create_sm2("Test", NOW_S).unwrap(),
    }
}

fn oid(kind: Kind) -> &'static str {
    match kind {
        Kind::P256 => "1.2.840.10045.4.3.2",
        Kind::Sm2 => "1.2.156.10197.1.501",
    }
}

fn teller() -> LeafRequest {
    let mut wish = LeafRequest::spiffe("spiffe://bank.test/teller", NOW_S);
    wish.names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    wish.organization = Some("测试银行".to_owned());
    wish
}

fn leaf(authority: &Authority) -> CertificateDer<'static> {
    first_certificate(authority.issue(&teller()).unwrap().chain_pem.as_bytes()).unwrap()
}

fn der_of(pem: &str) -> Vec<u8> {
    use rustls_pki_types::CertificateSigningRequestDer;
    use rustls_pki_types::pem::PemObject;
    CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

#[track_caller]
fn assert_code<T>(result: Result<T, crate::Error>, code: &Code) {
    match result {
        Ok(_) => panic!("{} was expected", code.id),
        Err(error) => assert_eq!(error.code.id, code.id, "{error}"),
    }
}

/// `openssl`, or nothing where it is not installed; CI needs it.
fn openssl(dir: &Path, words: &str) -> Option<Output> {
    let run = Command::new("openssl").args(words.split_whitespace()).current_dir(dir).output();
    if run.is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI needs the program openssl");
        eprintln!("SKIPPED: the program openssl is missing");
    }
    run.ok()
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

#[test]
fn a_certificate_is_issued_for_the_key_of_a_request() {
    for kind in KINDS {
        let authority = authority(kind);
        let made = request(kind, &teller()).unwrap();
        let read = Request::read(made.request_pem.as_bytes()).unwrap();
        assert_eq!(read.kind(), kind);
        assert_eq!(read.subject(), "O=测试银行, CN=teller");
        let names = ["localhost", "127.0.0.1", "::1", "spiffe://bank.test/teller"];
        assert_eq!(read.names(), names);
        assert_eq!(Request::read(&der_of(&made.request_pem)).unwrap(), read);

        let chain = authority.issue_for(&read, &teller()).unwrap();
        let der = first_certificate(chain.as_bytes()).unwrap();
        assert_eq!(authority.level_of(&der).unwrap(), Level::Issuing);
        assert_eq!(signed_kind(&der).unwrap(), kind);
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let key = crate::signer::Key::from_pem(kind, &made.key_pem).unwrap();
        assert_eq!(certificate.public_key().raw, key.spki());
        assert_eq!(certificate.signature_algorithm.algorithm.to_id_string(), oid(kind));
        assert!(certificate.signature_algorithm.parameters.is_none());
        assert!(!certificate.is_ca());
        assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
    }
}

#[test]
fn a_request_gets_no_name_that_was_not_granted_and_no_foreign_authority() {
    for (kind, other) in [(Kind::P256, Kind::Sm2), (Kind::Sm2, Kind::P256)] {
        let authority = authority(kind);
        let read = |wish: &LeafRequest| {
            Request::read(request(kind, wish).unwrap().request_pem.as_bytes()).unwrap()
        };
        let wished = read(&teller());
        for granted in [
            LeafRequest::spiffe("spiffe://bank.test/teller", NOW_S),
            LeafRequest { uris: vec!["spiffe://bank.test/clerk".to_owned()], ..teller() },
            LeafRequest { names: vec!["localhost".to_owned()], ..teller() },
        ] {
            assert_code(authority.issue_for(&wished, &granted), &codes::NOT_GRANTED);
        }
        // Whoever wishes nothing gets what was granted.
        let none = LeafRequest { uris: Vec::new(), names: Vec::new(), ..teller() };
        assert_eq!(read(&none).names(), [""; 0]);
        assert!(authority.issue_for(&read(&none), &teller()).is_ok());
        let foreign = request(other, &teller()).unwrap();
        let foreign = Request::read(foreign.request_pem.as_bytes()).unwrap();
        assert_code(authority.issue_for(&foreign, &teller()), &codes::REQUEST);
    }
}

#[test]
fn a_request_that_is_cut_lengthened_or_changed_anywhere_is_refused() {
    for kind in KINDS {
        let der = der_of(&request(kind, &teller()).unwrap().request_pem);
        assert!(Request::from_der(&der).is_ok());
        for length in 0..der.len() {
            assert_code(Request::from_der(&der[..length]), &codes::REQUEST);
        }
        assert_code(Request::from_der(&[&der, &[0][..]].concat()), &codes::REQUEST);
        for at in 0..der.len() {
            for mask in [1, 0x80, 0xff] {
                let mut changed = der.clone();
                changed[at] ^= mask;
                assert!(Request::from_der(&changed).is_err(), "byte {at} by {mask:#x}");
            }
        }
        let long = vec![0x30; crate::REQUEST_BYTES_MAX + 1];
        assert_code(Request::from_der(&long), &codes::REQUEST);
        assert_code(Request::read(b"no request"), &codes::REQUEST);
        assert_code(Request::read(b""), &codes::REQUEST);
    }
}

#[test]
fn a_request_signed_by_another_key_or_under_another_identity_is_refused() {
    use crate::signer::Key;
    use crate::x509::{self, INTEGER, SEQUENCE, tlv};
    use moat_sm::sm2::{SecretKey, TLS13_ID};
    for kind in KINDS {
        let key = Key::generate(kind).unwrap();
        let info = |spki: &[u8]| {
            let name = x509::name("teller", None);
            tlv(SEQUENCE, &[&[INTEGER, 1, 0], &name, spki, &[0xa0, 0]])
        };
        let right = key.signed(&info(&key.spki())).unwrap();
        assert!(Request::from_der(&right).is_ok());
        let other = Key::generate(kind).unwrap();
        let stolen = other.signed(&info(&key.spki())).unwrap();
        assert_code(Request::from_der(&stolen), &codes::REQUEST);
        // Parameters where none belong.
        let signature = key.sign(&info(&key.spki())).unwrap();
        let null = [&[0x30, 12], &key.algorithm()[2..], &[5, 0]].concat();
        let with_null = x509::certificate(&info(&key.spki()), &null, &signature);
        assert_code(Request::from_der(&with_null), &codes::REQUEST);
        // The algorithm of the other kind.
        let foreign = Key::generate(KINDS[usize::from(kind == Kind::P256)]).unwrap();
        let foreign = x509::certificate(&info(&key.spki()), foreign.algorithm(), &signature);
        assert_code(Request::from_der(&foreign), &codes::REQUEST);
    }
    let key = SecretKey::from_bytes(&[7; 32]).unwrap();
    let name = x509::name("teller", None);
    let spki = key.public().to_spki_der();
    let info = tlv(SEQUENCE, &[&[INTEGER, 1, 0], &name, &spki, &[0xa0, 0]]);
    let signature = key.sign(TLS13_ID, &info, &[7; 32]).unwrap().to_der();
    let der = x509::certificate(&info, x509::SM2_WITH_SM3, signature.as_ref());
    assert_code(Request::from_der(&der), &codes::REQUEST);
}

/// A request with those attributes, signed by its own key.
fn with_attributes(kind: Kind, attributes: &[u8]) -> Vec<u8> {
    use crate::x509::{INTEGER, SEQUENCE, name, tlv};
    let key = crate::signer::Key::generate(kind).unwrap();
    let parts = [&[INTEGER, 1, 0], &*name("teller", None), &key.spki(), &tlv(0xa0, &[attributes])];
    key.signed(&tlv(SEQUENCE, &parts)).unwrap()
}

#[test]
fn a_request_that_wishes_names_in_two_places_is_refused() {
    use crate::request::EXTENSION_REQUEST;
    use crate::x509::{Name, SEQUENCE, SET, alternative_name, extension, tlv};
    let names = |name: &str| alternative_name(&[Name::Dns(name.to_owned())]).unwrap();
    let list = |extensions: &[&[u8]]| tlv(SEQUENCE, extensions);
    let attribute = |values: &[&[u8]]| tlv(SEQUENCE, &[EXTENSION_REQUEST, &tlv(SET, values)]);
    let (a, b) = (names("a.test"), names("b.test"));
    for kind in KINDS {
        let read = |attributes: &[u8]| Request::from_der(&with_attributes(kind, attributes));
        let one = attribute(&[&list(&[&a])]);
        assert_eq!(read(&one).unwrap().names(), ["a.test"]);
        assert_eq!(read(&[]).unwrap().names(), [""; 0]);
        // Another attribute beside it: 1.2.840.113549.1.9.7, challengePassword.
        let word = [0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 7];
        let word = tlv(SEQUENCE, &[&word, &tlv(SET, &[&[0x0c, 1, b'x']])]);
        assert_eq!(read(&[word, one.clone()].concat()).unwrap().names(), ["a.test"]);
        for (why, attributes) in [
            ("two values", attribute(&[&list(&[&a]), &list(&[&b])])),
            ("no value", attribute(&[])),
            ("two attributes", [one.clone(), attribute(&[&list(&[&b])])].concat()),
            ("the same twice", [one.clone(), one.clone()].concat()),
            ("two SANs", attribute(&[&list(&[&a, &b])])),
            ("one SAN twice", attribute(&[&list(&[&a, &a])])),
            ("another extension twice", {
                let other = extension(19, true, &[0x30, 0]);
                attribute(&[&list(&[&other, &other])])
            }),
            ("bytes behind the set", tlv(SEQUENCE, &[EXTENSION_REQUEST, &one[13..], &[5, 0]])),
        ] {
            match read(&attributes) {
                Ok(read) => panic!("{why}: {:?}", read.names()),
                Err(error) => assert_eq!(error.code.id, codes::REQUEST.id, "{why}: {error}"),
            }
        }
    }
}

#[test]
fn wishes_that_are_cut_or_changed_are_read_or_refused_but_never_stop_the_program() {
    use x509_parser::prelude::X509CertificationRequest;
    let der = der_of(&request(Kind::P256, &teller()).unwrap().request_pem);
    let (_, read) = X509CertificationRequest::from_der(&der).unwrap();
    let info = read.certification_request_info.raw;
    assert_eq!(crate::wished(info).unwrap().len(), 4);
    for length in 0..info.len() {
        assert_code(crate::wished(&info[..length]), &codes::REQUEST);
    }
    for at in 0..info.len() {
        for mask in 1..=255 {
            let mut changed = info.to_vec();
            changed[at] ^= mask;
            let _ = crate::wished(&changed);
        }
    }
}

#[test]
fn openssl_checks_requests_and_its_own_requests_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let made = request(kind, &teller()).unwrap();
        std::fs::write(dir.path().join("ours.csr"), &made.request_pem).unwrap();
        let id = if kind == Kind::Sm2 { "-vfyopt distid:1234567812345678" } else { "" };
        let words = format!("req -in ours.csr -noout -text -verify {id}");
        let Some(shown) = openssl(dir.path(), &words) else { return };
        let shown = text(&shown);
        assert!(shown.contains("verify OK"), "{shown}");
        assert!(shown.contains("URI:spiffe://bank.test/teller"), "{shown}");

        let (curve, id) = match kind {
            Kind::P256 => ("P-256", "-sha256"),
            Kind::Sm2 => ("SM2", "-sm3 -sigopt distid:1234567812345678"),
        };
        let words = format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:{curve} -out k.pem");
        openssl(dir.path(), &words).unwrap();
        let words = format!(
            "req -new -key k.pem -subj /CN=teller {id} \
             -addext subjectAltName=URI:spiffe://bank.test/teller -out theirs.csr"
        );
        let made = openssl(dir.path(), &words).unwrap();
        assert!(made.status.success(), "{}", text(&made));
        let theirs = Request::read(&std::fs::read(dir.path().join("theirs.csr")).unwrap()).unwrap();
        assert_eq!((theirs.kind(), theirs.subject()), (kind, "CN=teller"));
        assert!(authority(kind).issue_for(&theirs, &teller()).is_ok());
    }
}

/// A register of two leaves, one of them revoked.
fn register(dir: &Path, kind: Kind, good: &[u8], bad: &[u8]) -> Register {
    let mut register = Register::open(dir, kind, Level::Issuing).unwrap();
    register.issued(good).unwrap();
    let serial = register.issued(bad).unwrap();
    let revocation = Revocation { at_s: NOW_S - 60, reason: Reason::KeyCompromise };
    register.revoke(&serial, revocation).unwrap();
    register
}

#[test]
fn a_list_says_what_was_revoked_when_and_why() {
    let dir = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let authority = authority(kind);
        let (good, bad) = (leaf(&authority), leaf(&authority));
        let mut register = register(dir.path(), kind, &good, &bad);
        let list = authority.list(Level::Issuing, &mut register, WEEK).unwrap();
        let (rest, read) = CertificateRevocationList::from_der(&list.der).unwrap();
        assert!(rest.is_empty());
        assert_eq!(read.tbs_cert_list.version.unwrap().0, 1);
        for algorithm in [&read.signature_algorithm, &read.tbs_cert_list.signature] {
            assert_eq!(algorithm.algorithm.to_id_string(), oid(kind));
            assert!(algorithm.parameters.is_none(), "absent, not NULL");
        }
        let issuing = first_certificate(authority.issuing_pem().as_bytes()).unwrap();
        let (_, issuing) = X509Certificate::from_der(&issuing).unwrap();
        assert_eq!(read.issuer().as_raw(), issuing.subject().as_raw());
        let signed = read.tbs_cert_list.as_ref();
        let signature = &read.signature_value.data;
        assert!(crate::signer::verifies(issuing.public_key().raw, signed, signature));
        assert_eq!(read.last_update().timestamp(), NOW_S);
        assert_eq!(read.next_update().unwrap().timestamp(), NOW_S + 7 * 86_400);
        assert_eq!(read.crl_number().unwrap().to_string(), "1");
        let revoked: Vec<_> = read.iter_revoked_certificates().collect();
        let [entry] = revoked.as_slice() else { panic!("one entry") };
        let (_, bad) = X509Certificate::from_der(&bad).unwrap();
        assert_eq!(entry.raw_serial(), bad.raw_serial());
        assert_eq!(entry.revocation_date.timestamp(), NOW_S - 60);
        assert_eq!(entry.reason_code().unwrap().1.0, 1);

        std::fs::write(dir.path().join("crl.pem"), &list.pem).unwrap();
        std::fs::write(dir.path().join("ca.pem"), authority.issuing_pem()).unwrap();
        let words = "crl -in crl.pem -noout -text -verify -CAfile ca.pem";
        let Some(shown) = openssl(dir.path(), words) else { return };
        let shown = text(&shown);
        assert!(shown.contains("Key Compromise") && shown.contains("X509v3 CRL Number"), "{shown}");
        // OpenSSL 3.0 takes no SM2 signature without being told the identity, which this command
        // cannot say. OpenSSL 4 does: `crates/tls/tests/openssl.rs`.
        assert!(kind == Kind::Sm2 || shown.contains("verify OK"), "{shown}");
    }
}

#[test]
fn an_empty_list_and_the_roots_list_are_lists_too() {
    let dir = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let authority = authority(kind);
        let mut register = Register::open(dir.path(), kind, Level::Root).unwrap();
        let list = authority.list(Level::Root, &mut register, WEEK).unwrap();
        let (_, read) = CertificateRevocationList::from_der(&list.der).unwrap();
        assert_eq!(read.iter_revoked_certificates().count(), 0);
        let issuing = first_certificate(authority.issuing_pem().as_bytes()).unwrap();
        assert_eq!(authority.level_of(&issuing).unwrap(), Level::Root);
        let serial = register.issued(&issuing).unwrap();
        let revocation = Revocation { at_s: NOW_S, reason: Reason::Unspecified };
        register.revoke(&serial, revocation).unwrap();
        let list = authority.list(Level::Root, &mut register, WEEK).unwrap();
        let (_, read) = CertificateRevocationList::from_der(&list.der).unwrap();
        let entry = read.iter_revoked_certificates().next().unwrap();
        assert!(entry.extensions().is_empty(), "`unspecified` is left out");
        assert_eq!(read.crl_number().unwrap().to_string(), "2");
        let window = Window { from_s: NOW_S, length_s: 0 };
        assert_code(authority.list(Level::Root, &mut register, window), &codes::BAD_REQUEST);
        let window = Window { from_s: NOW_S, length_s: i64::MAX };
        assert_code(authority.list(Level::Root, &mut register, window), &codes::BAD_REQUEST);
    }
}

#[test]
fn numbers_and_revocations_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(Kind::Sm2);
    let (good, bad) = (leaf(&authority), leaf(&authority));
    let mut first = register(dir.path(), Kind::Sm2, &good, &bad);
    assert_eq!(authority.list(Level::Issuing, &mut first, WEEK).unwrap().number, 1);
    first.save().unwrap();
    drop(first);
    let mut second = Register::open(dir.path(), Kind::Sm2, Level::Issuing).unwrap();
    assert_eq!(authority.list(Level::Issuing, &mut second, WEEK).unwrap().number, 2);
    let (serial, revocation) = second.revoked().next().unwrap();
    assert_eq!(revocation, Revocation { at_s: NOW_S - 60, reason: Reason::KeyCompromise });
    let serial = serial.clone();
    assert_eq!(second.find(&serial).unwrap().name, "spiffe://bank.test/teller");
    assert_code(second.revoke(&serial, revocation), &codes::REVOKED);
    let stranger = Serial::from_hex("01").unwrap();
    assert_code(second.revoke(&stranger, revocation), &codes::NOT_ISSUED);
    // Issued again under the same number, it stays revoked.
    second.issued(&bad).unwrap();
    assert!(second.find(&serial).unwrap().revoked.is_some());
    use std::os::unix::fs::PermissionsExt;
    let path = dir.path().join("issuing-sm2.register");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!dir.path().join(".issuing-sm2.register.new").exists());
}

#[test]
fn serial_numbers_are_read_as_people_write_them() {
    for (text, shown) in [("01", "01"), ("1", "01"), ("00ff", "ff"), ("4A:6f:00", "4a6f00")] {
        assert_eq!(Serial::from_hex(text).unwrap().to_string(), shown);
    }
    for text in ["", "0", "0000", "xy", "-1", &"f".repeat(41), "柜员"] {
        assert_code(Serial::from_hex(text), &codes::NOT_ISSUED);
    }
    assert_eq!(Serial::from_hex("80").unwrap().to_der(), [2, 2, 0, 0x80]);
    assert_eq!(Serial::from_hex("7f").unwrap().to_der(), [2, 1, 0x7f]);
    assert_code(Serial::new(&[0x80]), &codes::BAD_REQUEST);
}

/// The response, taken apart by another parser, and whether its signature is the key's.
fn taken_apart(der: &[u8], spki: &[u8]) -> BasicOcspResponse {
    let response = OcspResponse::from_der(der).unwrap();
    assert_eq!(response.response_status, OcspResponseStatus::Successful);
    let bytes = response.response_bytes.unwrap();
    assert_eq!(bytes.response_type.to_string(), "1.3.6.1.5.5.7.48.1.1");
    let basic = BasicOcspResponse::from_der(bytes.response.as_bytes()).unwrap();
    let signed = basic.tbs_response_data.to_der().unwrap();
    let signature = basic.signature.as_bytes().unwrap();
    assert!(crate::signer::verifies(spki, &signed, signature));
    assert!(basic.signature_algorithm.parameters.is_none(), "absent, not NULL");
    basic
}

fn spki(certificate: &[u8]) -> Vec<u8> {
    X509Certificate::from_der(certificate).unwrap().1.public_key().raw.to_vec()
}

#[test]
fn a_response_says_good_revoked_and_unknown() {
    let dir = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let authority = authority(kind);
        let (good, bad, unknown) = (leaf(&authority), leaf(&authority), leaf(&authority));
        let register = register(dir.path(), kind, &good, &bad);
        let all = [good, bad, unknown];
        let issuing = first_certificate(authority.issuing_pem().as_bytes()).unwrap();
        let hashes = [
            (NameHash::Sha1, "1.3.14.3.2.26", 20),
            (NameHash::Sha256, "2.16.840.1.101.3.4.2.1", 32),
            (NameHash::Sm3, "1.2.156.10197.1.401", 32),
        ];
        for (hash, hash_oid, length) in hashes {
            let question = Question { certificates: &all, hash, window: WEEK, responder: None };
            let answer = authority.answer(&register, &question).unwrap();
            let revocation = Revocation { at_s: NOW_S - 60, reason: Reason::KeyCompromise };
            let statuses: Vec<_> = answer.statuses.iter().map(|(_, status)| *status).collect();
            assert_eq!(statuses, [Status::Good, Status::Revoked(revocation), Status::Unknown]);
            let basic = taken_apart(&answer.der, &spki(&issuing));
            assert_eq!(basic.signature_algorithm.oid.to_string(), oid(kind));
            assert!(basic.certs.is_none());
            let data = basic.tbs_response_data;
            assert!(matches!(data.responder_id, ResponderId::ByName(_)));
            for (single, certificate) in data.responses.iter().zip(&all) {
                let (_, certificate) = X509Certificate::from_der(certificate).unwrap();
                assert_eq!(single.cert_id.serial_number.as_bytes(), certificate.raw_serial());
                assert_eq!(single.cert_id.hash_algorithm.oid.to_string(), hash_oid);
                assert_eq!(single.cert_id.issuer_key_hash.as_bytes().len(), length);
                let at = |time: &x509_ocsp::OcspGeneralizedTime| {
                    i64::try_from(time.0.to_unix_duration().as_secs()).unwrap()
                };
                assert_eq!(at(&single.this_update), NOW_S);
                assert_eq!(at(single.next_update.as_ref().unwrap()), NOW_S + 7 * 86_400);
            }
            let statuses: Vec<_> = data.responses.iter().map(|s| &s.cert_status).collect();
            assert!(matches!(
                statuses.as_slice(),
                [CertStatus::Good(_), CertStatus::Revoked(_), CertStatus::Unknown(_)]
            ));
        }
    }
}

#[test]
fn a_responder_of_the_authority_may_sign_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let authority = authority(kind);
        let leaf = leaf(&authority);
        let mut register = register(dir.path(), kind, &leaf, &self::leaf(&authority));
        let certificates = [leaf];
        let mut wish = teller();
        wish.common_name = "responder".to_owned();
        let identity = authority.issue_responder(&wish).unwrap();
        let serial =
            register.issued(&first_certificate(identity.chain_pem.as_bytes()).unwrap()).unwrap();
        let ask = |register: &Register, chain_pem: &str, key_pem: &str, window| {
            let responder = Some(Responder { chain_pem, key_pem });
            let hash = authority.usual_hash();
            let question = Question { certificates: &certificates, hash, window, responder };
            authority.answer(register, &question)
        };
        let answer = ask(&register, &identity.chain_pem, &identity.key_pem, WEEK).unwrap();
        let own = first_certificate(identity.chain_pem.as_bytes()).unwrap();
        let basic = taken_apart(&answer.der, &spki(&own));
        assert_eq!(basic.certs.unwrap()[0].to_der().unwrap(), own.to_vec());

        let no = |chain: &str, key: &str| {
            assert_code(ask(&register, chain, key, WEEK), &codes::RESPONDER);
        };
        let ordinary = authority.issue(&teller()).unwrap();
        no(&ordinary.chain_pem, &ordinary.key_pem);
        let stranger = self::authority(kind).issue_responder(&wish).unwrap();
        no(&stranger.chain_pem, &stranger.key_pem);
        let unknown = authority.issue_responder(&wish).unwrap();
        no(&unknown.chain_pem, &unknown.key_pem);
        no(&identity.chain_pem, &unknown.key_pem);
        no("", "");
        let late = Window { from_s: NOW_S + 31 * 86_400, ..WEEK };
        let late = ask(&register, &identity.chain_pem, &identity.key_pem, late);
        assert_code(late, &codes::RESPONDER);
        let revocation = Revocation { at_s: NOW_S, reason: Reason::Superseded };
        register.revoke(&serial, revocation).unwrap();
        let revoked = ask(&register, &identity.chain_pem, &identity.key_pem, WEEK);
        assert_code(revoked, &codes::RESPONDER);
    }
}

fn next_update_s(answer: &[u8], spki: &[u8]) -> i64 {
    let basic = taken_apart(answer, spki);
    let next = basic.tbs_response_data.responses[0].next_update.as_ref().unwrap();
    i64::try_from(next.0.to_unix_duration().as_secs()).unwrap()
}

#[test]
fn an_answer_or_list_ends_with_the_first_certificate_that_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let authority = authority(kind);
        let issuing = first_certificate(authority.issuing_pem().as_bytes()).unwrap();
        let issuing_spki = spki(&issuing);
        let mut wish = teller();
        wish.valid_s = 3_600;
        let short = authority.issue(&wish).unwrap().chain_pem;
        let short = [first_certificate(short.as_bytes()).unwrap()];
        wish.valid_s = 20 * 365 * 86_400;
        let long = authority.issue(&wish).unwrap().chain_pem;
        let long = [first_certificate(long.as_bytes()).unwrap()];
        let mut register = register(dir.path(), kind, &short[0], &long[0]);
        let responder = authority.issue_responder(&wish).unwrap();
        let own = first_certificate(responder.chain_pem.as_bytes()).unwrap();
        register.issued(&own).unwrap();
        let always = Window { from_s: NOW_S, length_s: 10 * 365 * 86_400 };
        let ask = |certificates: &[CertificateDer<'_>], window, is_delegated: bool| {
            let pair = Responder { chain_pem: &responder.chain_pem, key_pem: &responder.key_pem };
            let responder = is_delegated.then_some(pair);
            let hash = NameHash::Sha1;
            let question = Question { certificates, hash, window, responder };
            authority.answer(&register, &question)
        };
        let end = |certificates: &[CertificateDer<'_>], is_delegated| {
            let answer = ask(certificates, always, is_delegated).unwrap();
            let spki = if is_delegated { spki(&own) } else { issuing_spki.clone() };
            next_update_s(&answer.der, &spki)
        };
        assert_eq!(end(&short, false), NOW_S + 3_600, "the leaf");
        assert_eq!(end(&long, false), NOW_S + 3 * 365 * 86_400, "the issuing authority");
        assert_eq!(end(&long, true), NOW_S + 30 * 86_400, "the responder");
        let late = Window { from_s: NOW_S + 3_600, length_s: 60 };
        assert_code(ask(&short, late, false), &codes::BAD_REQUEST);
        let list = authority.list(Level::Issuing, &mut register, always).unwrap();
        let (_, list) = CertificateRevocationList::from_der(&list.der).unwrap();
        assert_eq!(list.next_update().unwrap().timestamp(), NOW_S + 3 * 365 * 86_400);
    }
}

#[test]
fn nothing_is_said_of_other_authorities_certificates() {
    let dir = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let authority = authority(kind);
        let own = leaf(&authority);
        let register = register(dir.path(), kind, &own, &leaf(&authority));
        let stranger = leaf(&self::authority(kind));
        let issuing = first_certificate(authority.issuing_pem().as_bytes()).unwrap();
        let ask = |certificates: &[CertificateDer<'_>]| {
            let hash = NameHash::Sha1;
            let question = Question { certificates, hash, window: WEEK, responder: None };
            authority.answer(&register, &question)
        };
        // Of the same name, but another key.
        assert_code(ask(std::slice::from_ref(&stranger)), &codes::NOT_ISSUED);
        assert_code(ask(&[own.clone(), stranger]), &codes::NOT_ISSUED);
        assert_code(ask(&[issuing]), &codes::NOT_ISSUED);
        assert_code(ask(&[]), &codes::BAD_REQUEST);
        let many = vec![own.clone(); crate::CERTIFICATES_MAX + 1];
        assert_code(ask(&many), &codes::BAD_REQUEST);
        for length in 0..own.len() {
            assert!(authority.level_of(&own[..length]).is_err(), "{length}");
        }
    }
}

#[test]
fn openssl_checks_a_response() {
    let dir = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let authority = authority(kind);
        let (good, bad) = (leaf(&authority), leaf(&authority));
        let register = register(dir.path(), kind, &good, &bad);
        let certificates = [good, bad];
        let hash = NameHash::Sha1;
        let question =
            Question { certificates: &certificates, hash, window: WEEK, responder: None };
        let answer = authority.answer(&register, &question).unwrap();
        std::fs::write(dir.path().join("resp.der"), &answer.der).unwrap();
        let pem = [authority.issuing_pem(), authority.trust_pem()].concat();
        std::fs::write(dir.path().join("ca.pem"), authority.issuing_pem()).unwrap();
        std::fs::write(dir.path().join("all.pem"), pem).unwrap();
        let words = "ocsp -respin resp.der -resp_text -CAfile all.pem -verify_other ca.pem \
                     -attime 1767225660";
        let Some(shown) = openssl(dir.path(), words) else { return };
        let shown = text(&shown);
        for wanted in ["Cert Status: good", "Cert Status: revoked", "keyCompromise"] {
            assert!(shown.contains(wanted), "{wanted}\n{shown}");
        }
        // As with lists.
        assert!(kind == Kind::Sm2 || shown.contains("Response verify OK"), "{shown}");
    }
}
