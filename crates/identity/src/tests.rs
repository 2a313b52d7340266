use moat_ca::{Authority, LeafRequest};
use moat_model::code::identity;
use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;

use crate::{identify, rfc4514};

const NOW_S: i64 = 1_795_392_000;

fn leaf(uris: &[&str]) -> Vec<u8> {
    let authority = Authority::create("Test", NOW_S).unwrap();
    let mut request = LeafRequest::spiffe("spiffe://bank.test/teller", NOW_S);
    request.uris = uris.iter().map(|u| (*u).to_owned()).collect();
    request.organization = Some("Bank, Ltd".to_owned());
    let issued = authority.issue(&request).unwrap();
    parse_x509_pem(issued.chain_pem.as_bytes()).unwrap().1.contents
}

#[test]
fn one_spiffe_id_of_the_right_domain_is_an_identity() {
    let peer = identify(&leaf(&["spiffe://bank.test/teller"]), "bank.test").unwrap();
    assert_eq!(peer.spiffe().as_str(), "spiffe://bank.test/teller");
    assert_eq!(peer.subject(), r"CN=teller,O=Bank\, Ltd");
    assert_eq!(peer.issuer(), "CN=Test Issuing");
    assert!(!peer.serial().is_empty());
    assert_eq!(peer.not_after_s(), NOW_S + 365 * 86_400);
}

#[test]
fn every_other_certificate_is_refused_with_its_own_code() {
    let code = |uris: &[&str]| identify(&leaf(uris), "bank.test").unwrap_err().code;
    assert_eq!(code(&[]), &identity::NO_SPIFFE);
    assert_eq!(code(&["spiffe://bank.test/a", "spiffe://bank.test/b"]), &identity::TWO_SPIFFE);
    assert_eq!(code(&["spiffe://bank.test/a", "https://x.test/"]), &identity::TWO_SPIFFE);
    assert_eq!(code(&["https://bank.test/a"]), &identity::BAD_SPIFFE);
    assert_eq!(code(&["spiffe://bank.test/a//b"]), &identity::BAD_SPIFFE);
    assert_eq!(code(&["spiffe://other.test/a"]), &identity::TRUST_DOMAIN);
    assert_eq!(identify(b"junk", "bank.test").unwrap_err().code, &identity::UNREADABLE);
}

/// One who holds only the key for encryption, as a key centre does, is nobody.
#[test]
fn a_key_that_is_not_for_signatures_is_no_identity() {
    use rcgen::KeyUsagePurpose::{
        CrlSign, DataEncipherment, DigitalSignature, KeyAgreement, KeyCertSign, KeyEncipherment,
    };
    let read = |usages: &[rcgen::KeyUsagePurpose]| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let uri = "spiffe://bank.test/teller".try_into().unwrap();
        params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
        params.key_usages = usages.to_vec();
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        identify(certificate.der(), "bank.test").map_err(|refusal| refusal.code)
    };
    for good in [&[][..], &[DigitalSignature], &[DigitalSignature, KeyEncipherment]] {
        assert!(read(good).is_ok(), "{good:?}");
    }
    for bad in [
        &[KeyEncipherment, DataEncipherment, KeyAgreement][..],
        &[KeyAgreement],
        &[DigitalSignature, KeyCertSign],
        &[DigitalSignature, CrlSign],
    ] {
        assert_eq!(read(bad).unwrap_err(), &identity::KEY_USAGE, "{bad:?}");
    }
}

#[test]
fn a_certificate_cut_anywhere_is_refused() {
    let whole = leaf(&["spiffe://bank.test/teller"]);
    for length in 0..whole.len() {
        assert!(identify(&whole[..length], "bank.test").is_err(), "{length}");
    }
    let mut longer = whole;
    longer.push(0);
    assert_eq!(identify(&longer, "bank.test").unwrap_err().code, &identity::UNREADABLE);
}

fn subject_text(build: impl Fn(&mut DistinguishedName)) -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    let mut name = DistinguishedName::new();
    build(&mut name);
    params.distinguished_name = name;
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let (_, parsed) = X509Certificate::from_der(certificate.der()).unwrap();
    rfc4514(parsed.subject())
}

#[test]
fn names_follow_rfc_4514() {
    let text = subject_text(|name| {
        name.push(DnType::CountryName, "CN");
        name.push(DnType::OrganizationName, "# A+B; \"C\" ");
        name.push(DnType::CommonName, "护城河");
    });
    assert_eq!(text, r#"CN=护城河,O=\# A\+B\; \"C\"\ ,C=CN"#);
    let text = subject_text(|name| {
        name.push(DnType::CommonName, "line\nfeed\0");
    });
    assert_eq!(text, r"CN=line\0Afeed\00");
    let text = subject_text(|name| {
        name.push(DnType::CustomDnType(vec![1, 2, 3, 4]), DnValue::Utf8String("x".to_owned()));
    });
    assert_eq!(text, "1.2.3.4=#0c0178");
}
