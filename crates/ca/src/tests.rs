use std::process::Command;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

use crate::x509::{self, Name, Purpose, ToBeSigned};
use crate::{Authority, Kind, LeafRequest, Level, first_certificate};

/// 2026-01-01.
const NOW_S: i64 = 1_767_225_600;

fn identity() -> (Authority, crate::Identity) {
    let authority = Authority::create_sm2("Test", NOW_S).unwrap();
    let mut request = LeafRequest::spiffe("spiffe://bank.test/teller", NOW_S);
    request.names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    request.organization = Some("测试银行".to_owned());
    let identity = authority.issue(&request).unwrap();
    (authority, identity)
}

#[test]
fn another_parser_reads_the_chain_as_it_was_meant() {
    let (authority, identity) = identity();
    let ders: Vec<_> = [identity.chain_pem.as_str(), authority.trust_pem()]
        .iter()
        .flat_map(|pem| CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Vec<_>>())
        .map(Result::unwrap)
        .collect();
    let chain: Vec<_> = ders
        .iter()
        .map(|der| {
            let (rest, certificate) = X509Certificate::from_der(der).unwrap();
            assert!(rest.is_empty());
            certificate
        })
        .collect();
    let [leaf, issuing, root] = chain.as_slice() else { panic!("three certificates") };
    for (certificate, issuer) in [(leaf, issuing), (issuing, root), (root, root)] {
        assert_eq!(certificate.issuer().as_raw(), issuer.subject().as_raw());
        for algorithm in [&certificate.signature_algorithm, &certificate.tbs_certificate.signature]
        {
            assert_eq!(algorithm.algorithm.to_id_string(), "1.2.156.10197.1.501");
            assert!(algorithm.parameters.is_none(), "absent, not NULL");
        }
        let key = &certificate.public_key().algorithm;
        assert_eq!(key.algorithm.to_id_string(), "1.2.840.10045.2.1");
        let curve = key.parameters.as_ref().unwrap().as_oid().unwrap();
        assert_eq!(curve.to_id_string(), "1.2.156.10197.1.301");
        let signer = moat_sm::sm2::PublicKey::from_spki_der(issuer.public_key().raw).unwrap();
        let signature =
            moat_sm::sm2::Signature::from_der(&certificate.signature_value.data).unwrap();
        let signed = certificate.tbs_certificate.as_ref();
        signer.verify(moat_sm::sm2::DEFAULT_ID, signed, &signature).unwrap();
    }
    assert_eq!(leaf.subject().to_string(), "O=测试银行, CN=teller");
    assert!(root.is_ca() && issuing.is_ca() && !leaf.is_ca());
    let path_len =
        |c: &X509Certificate<'_>| c.basic_constraints().unwrap().unwrap().value.path_len_constraint;
    assert_eq!((path_len(root), path_len(issuing)), (None, Some(0)));
    assert!(leaf.key_usage().unwrap().unwrap().value.digital_signature());
    assert!(issuing.key_usage().unwrap().unwrap().value.key_cert_sign());
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && usage.client_auth);
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names.len(), 4);
    let of = |certificate: &X509Certificate<'_>, wanted: &str| {
        let found = certificate.extensions().iter().find_map(|e| match e.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) if wanted == "own" => Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) if wanted == "issuer" => {
                id.key_identifier.as_ref().map(|id| id.0.to_vec())
            }
            _ => None,
        });
        found.unwrap()
    };
    assert_eq!(of(leaf, "issuer"), of(issuing, "own"));
    assert_eq!(of(issuing, "issuer"), of(root, "own"));
}

#[test]
fn openssl_reads_certificate_and_key() {
    let dir = std::env::temp_dir().join(format!("moat-ca-sm2-{}", std::process::id()));
    let (authority, identity) = identity();
    crate::save(&authority, &dir).unwrap();
    crate::write_identity(&identity, &dir, "teller").unwrap();
    let run = |args: &[&str]| Command::new("openssl").args(args).current_dir(&dir).output();
    if let Ok(shown) = run(&["x509", "-in", "teller.pem", "-noout", "-text"]) {
        let text = String::from_utf8_lossy(&shown.stdout);
        assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
        assert!(text.contains("Signature Algorithm: SM2-with-SM3"), "{text}");
        assert!(text.contains("ASN1 OID: SM2"), "{text}");
        assert!(text.contains("URI:spiffe://bank.test/teller"), "{text}");
        let of_key = run(&["pkey", "-in", "teller.key", "-pubout"]).unwrap();
        let of_certificate = run(&["x509", "-in", "teller.pem", "-noout", "-pubkey"]).unwrap();
        assert!(of_key.status.success());
        assert_eq!(of_key.stdout, of_certificate.stdout);
    } else {
        // Not everybody has it; the other tests read the same bytes.
        assert!(std::env::var_os("CI").is_none(), "CI needs the program openssl");
        eprintln!("SKIPPED: the program openssl is missing");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn both_authorities_fit_into_one_folder_and_issue_after_a_restart() {
    let dir = std::env::temp_dir().join(format!("moat-ca-both-{}", std::process::id()));
    crate::save(&Authority::create("Test", NOW_S).unwrap(), &dir).unwrap();
    crate::save(&Authority::create_sm2("Test", NOW_S).unwrap(), &dir).unwrap();
    assert!(crate::save(&Authority::create_sm2("Test", NOW_S).unwrap(), &dir).is_err());
    for (kind, oid) in [(Kind::Sm2, "1.2.156.10197.1.501"), (Kind::P256, "1.2.840.10045.4.3.2")] {
        let authority = crate::load(&dir, kind, Some(Level::Issuing)).unwrap();
        let request = LeafRequest::spiffe("spiffe://bank.test/teller", NOW_S);
        let identity = authority.issue(&request).unwrap();
        let der = CertificateDer::from_pem_slice(identity.chain_pem.as_bytes()).unwrap();
        let (_, leaf) = X509Certificate::from_der(&der).unwrap();
        assert_eq!(leaf.signature_algorithm.algorithm.to_id_string(), oid);
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn what_cannot_stand_in_a_certificate_is_refused() {
    let authority = Authority::create_sm2("Test", NOW_S).unwrap();
    for uri in ["", "spiffe://bank.test/柜员", "spiffe://bank.test/a b", "a\nb"] {
        assert!(authority.issue(&LeafRequest::spiffe(uri, NOW_S)).is_err(), "{uri:?}");
    }
    let mut request = LeafRequest::spiffe("spiffe://bank.test/teller", NOW_S);
    request.valid_s = 400 * 365 * 86_400;
    assert!(authority.issue(&request).is_ok(), "a GeneralizedTime");
    request.valid_s = i64::MAX;
    assert!(authority.issue(&request).is_err());
}

fn authority(kind: Kind) -> Authority {
    match kind {
        Kind::P256 => Authority::create("Test", NOW_S).unwrap(),
        Kind::Sm2 => Authority::create_sm2("Test", NOW_S).unwrap(),
    }
}

#[test]
fn a_key_of_another_authority_issues_nothing() {
    let wish = LeafRequest::spiffe("spiffe://bank.test/teller", NOW_S);
    for kind in [Kind::P256, Kind::Sm2] {
        let mut mixed = authority(kind);
        mixed.issuing_key_pem = authority(kind).issuing_key_pem;
        let error = mixed.issue(&wish).err().unwrap();
        assert!(error.detail.contains("not that of its certificate"), "{kind:?}: {error}");
        assert!(mixed.issue_responder(&wish).is_err());
    }
}

#[test]
fn a_certificate_that_is_no_authority_issues_nothing() {
    let wish = LeafRequest::spiffe("spiffe://bank.test/teller", NOW_S);
    for kind in [Kind::P256, Kind::Sm2] {
        let mut wrong = authority(kind);
        let leaf = wrong.issue(&wish).unwrap();
        // Its key is right.
        wrong.issuing_pem = leaf.chain_pem;
        wrong.issuing_key_pem = Some(leaf.key_pem);
        let error = wrong.issue(&wish).err().unwrap();
        assert!(error.detail.contains("not one of an authority"), "{kind:?}: {error}");
    }
}

#[test]
fn both_kinds_of_chain_say_the_same() {
    let wish = LeafRequest::spiffe("spiffe://bank.test/teller", NOW_S);
    for kind in [Kind::P256, Kind::Sm2] {
        let authority = authority(kind);
        let leaf = authority.issue(&wish).unwrap();
        let ders = [leaf.chain_pem.as_str(), authority.issuing_pem(), authority.trust_pem()]
            .map(|pem| first_certificate(pem.as_bytes()).unwrap());
        let [leaf, issuing, root] =
            ders.each_ref().map(|der| X509Certificate::from_der(der).unwrap().1);
        for (certificate, issuer) in [(&leaf, &issuing), (&issuing, &root), (&root, &root)] {
            assert_eq!(certificate.issuer().as_raw(), issuer.subject().as_raw());
            let spki = issuer.public_key().raw;
            let signed = certificate.tbs_certificate.as_ref();
            assert!(crate::signer::verifies(spki, signed, &certificate.signature_value.data));
            assert!(certificate.signature_algorithm.parameters.is_none());
        }
        let mark = if kind == Kind::Sm2 { " SM2" } else { "" };
        assert_eq!(root.subject().to_string(), format!("CN=Test{mark} Root"));
        assert_eq!(issuing.subject().to_string(), format!("CN=Test{mark} Issuing"));
        assert!(root.is_ca() && issuing.is_ca() && !leaf.is_ca());
        assert!(issuing.key_usage().unwrap().unwrap().value.crl_sign());
    }
}

#[test]
fn a_responder_lives_for_a_month_at_most() {
    let authority = authority(Kind::P256);
    let mut wish = LeafRequest::spiffe("responder", NOW_S);
    for (asked_s, got_s) in [(365 * 86_400, 30 * 86_400), (86_400, 86_400)] {
        wish.valid_s = asked_s;
        let made = authority.issue_responder(&wish).unwrap();
        let der = first_certificate(made.chain_pem.as_bytes()).unwrap();
        let (_, made) = X509Certificate::from_der(&der).unwrap();
        assert_eq!(made.validity().not_after.timestamp(), NOW_S + got_s);
    }
}

#[test]
fn lengths_and_serials_are_canonical() {
    for (length, head) in [
        (0, vec![4, 0]),
        (127, vec![4, 127]),
        (128, vec![4, 0x81, 128]),
        (255, vec![4, 0x81, 255]),
        (256, vec![4, 0x82, 1, 0]),
        (70_000, vec![4, 0x83, 1, 0x11, 0x70]),
    ] {
        let der = x509::tlv(4, &[&vec![0; length]]);
        assert_eq!(der[..head.len()], head);
        assert_eq!(der.len(), head.len() + length);
    }
    let at = time::OffsetDateTime::from_unix_timestamp(NOW_S).unwrap();
    for first in [0, 1, 0x7f, 0x80, 0xff] {
        let name = x509::name("x", None);
        let key = Authority::create_sm2("Test", NOW_S).unwrap();
        let spki = CertificateDer::from_pem_slice(key.trust_pem().as_bytes()).unwrap();
        let (_, root) = X509Certificate::from_der(&spki).unwrap();
        let der = ToBeSigned {
            serial: [first; x509::SERIAL_BYTES],
            issuer: &name,
            subject: &name,
            validity: (at, at),
            spki: root.public_key().raw,
            key_id: [0; x509::KEY_ID_BYTES],
            issuer_key_id: None,
            purpose: Purpose::Identity { names: vec![Name::Dns("a".to_owned())] },
        };
        let der = der.to_der(x509::SM2_WITH_SM3).unwrap();
        let der = x509::certificate(&der, x509::SM2_WITH_SM3, &[0x30, 0]);
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        assert_eq!(certificate.raw_serial().len(), x509::SERIAL_BYTES);
        assert!((0x40..0x80).contains(&certificate.raw_serial()[0]));
    }
}
