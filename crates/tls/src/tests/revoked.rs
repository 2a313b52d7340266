//! Lists of revoked certificates, as `moat ca crl` signs them, before webpki with each provider;
//! and chains that are too long.

use std::sync::Arc;

use moat_ca::{Authority, Level, Reason, Register, Revocation, Window, first_certificate};
use moat_model::code::{tls, upstream};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};

use super::{GATEWAY, TELLER, World, issue, material, now_s};
use crate::stack::{CHAIN_BYTES_MAX, CHAIN_CERTIFICATES_MAX, check_chain};
use crate::{Stack, code_of, upstream_code_of};

const STACKS: [Stack; 2] = [Stack::International, Stack::National];

fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

fn verifier(
    authority: &Authority,
    stack: Stack,
    lists: Vec<Vec<u8>>,
) -> Arc<dyn ClientCertVerifier> {
    let mut roots = RootCertStore::empty();
    roots.add(chain(authority.trust_pem()).remove(0)).unwrap();
    let lists = lists.into_iter().map(CertificateRevocationListDer::from);
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), stack.provider())
        .with_crls(lists)
        .enforce_revocation_expiration()
        .build()
        .unwrap()
}

#[test]
fn a_revoked_caller_is_refused_and_a_good_one_taken() {
    let w = World::new();
    let dir = std::env::temp_dir().join(format!("moat-tls-revoked-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for (authority, stack) in [(&w.p256, STACKS[0]), (&w.sm2, STACKS[1])] {
        let kind = authority.kind();
        let [good, bad] = [TELLER, TELLER].map(|id| chain(&issue(authority, id).chain_pem));
        let mut issuing = Register::open(&dir, kind, Level::Issuing).unwrap();
        issuing.issued(&good[0]).unwrap();
        let serial = issuing.issued(&bad[0]).unwrap();
        let revocation = Revocation { at_s: now_s(), reason: Reason::KeyCompromise };
        issuing.revoke(&serial, revocation).unwrap();
        let mut root = Register::open(&dir, kind, Level::Root).unwrap();
        let window = Window { from_s: now_s(), length_s: 3_600 };
        let mut lists = vec![
            authority.list(Level::Issuing, &mut issuing, window).unwrap().der,
            authority.list(Level::Root, &mut root, window).unwrap().der,
        ];
        let judge = |lists: &[Vec<u8>], chain: &[CertificateDer<'_>], at_s: i64| {
            let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(
                at_s.try_into().unwrap(),
            ));
            let verifier = verifier(authority, stack, lists.to_vec());
            verifier.verify_client_cert(&chain[0], &chain[1..], at).map(|_| ())
        };
        assert_eq!(judge(&lists, &good, now_s()), Ok(()));
        let error = |error: CertificateError| Err(rustls::Error::InvalidCertificate(error));
        assert_eq!(judge(&lists, &bad, now_s()), error(CertificateError::Revoked));
        // Past its time a list says nothing more.
        let late = judge(&lists, &good, now_s() + 7_200);
        assert!(matches!(
            late,
            Err(rustls::Error::InvalidCertificate(
                CertificateError::ExpiredRevocationListContext { .. }
            ))
        ));
        // Without the root's list nobody knows of the issuing authority.
        let unknown = judge(&lists[..1], &good, now_s());
        assert_eq!(unknown, error(CertificateError::UnknownRevocationStatus));
        // The issuing authority itself, by the root.
        let serial = root.issued(&first_certificate(authority.issuing_pem().as_bytes()).unwrap());
        root.revoke(&serial.unwrap(), revocation).unwrap();
        lists[1] = authority.list(Level::Root, &mut root, window).unwrap().der;
        assert_eq!(judge(&lists, &good, now_s()), error(CertificateError::Revoked));
        // A list whose signature is wrong, or another's.
        let other = match stack {
            Stack::International => Authority::create("Test", now_s()).unwrap(),
            Stack::National => Authority::create_sm2("Test", now_s()).unwrap(),
        };
        lists[1] = other.list(Level::Root, &mut root, window).unwrap().der;
        assert!(judge(&lists, &good, now_s()).is_err());
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn chains_have_a_bound_in_number_and_in_bytes() {
    let w = World::new();
    for (kind, stack) in STACKS.into_iter().enumerate() {
        let good = chain(&w.teller[kind].chain_pem);
        let judge = |others: &[CertificateDer<'_>]| {
            let error = check_chain(stack, &good[0], others).err()?;
            let error = std::io::Error::other(error);
            Some((code_of(&error), upstream_code_of(&error)))
        };
        let most = vec![good[1].clone(); CHAIN_CERTIFICATES_MAX - 1];
        assert_eq!(judge(&most), None);
        let one_more = vec![good[1].clone(); CHAIN_CERTIFICATES_MAX];
        assert_eq!(judge(&one_more), Some((&tls::CHAIN, &upstream::CHAIN)));
        let large = CertificateDer::from(vec![0; CHAIN_BYTES_MAX]);
        assert_eq!(judge(&[large]), Some((&tls::CHAIN, &upstream::CHAIN)));
    }
}

#[test]
fn a_caller_and_a_service_that_show_too_much_are_refused_in_a_handshake() {
    let w = World::new();
    for kind in 0..2 {
        let padded = |identity: &moat_ca::Identity| {
            let issuing = [&w.p256, &w.sm2][kind].issuing_pem();
            let chain_pem = format!("{}{}", identity.chain_pem, issuing.repeat(7));
            moat_ca::Identity { chain_pem, key_pem: identity.key_pem.clone() }
        };
        let (teller, gateway) = (padded(&w.teller[kind]), padded(&w.gateway[kind]));
        let ours = material(&w.gateway[kind], &w.trust);
        let ended = super::shake_one(ours, material(&teller, &w.trust), GATEWAY);
        ended.assert_refused(&tls::CHAIN);
        let ours = material(&w.teller[kind], &w.trust);
        let ended = super::shake_one(material(&gateway, &w.trust), ours, GATEWAY);
        let error = std::io::Error::other(ended.client_error.unwrap());
        assert_eq!(upstream_code_of(&error), &upstream::CHAIN);
    }
}

#[test]
fn services_that_cannot_be_talked_to_have_their_codes() {
    use rustls::{AlertDescription as Alert, Error, PeerIncompatible};
    let code = |error: Error| upstream_code_of(&std::io::Error::other(error)).id;
    for alert in [Alert::HandshakeFailure, Alert::ProtocolVersion, Alert::InsufficientSecurity] {
        assert_eq!(code(Error::AlertReceived(alert)), upstream::NOTHING_IN_COMMON.id);
    }
    let old = Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13);
    assert_eq!(code(old), upstream::NOTHING_IN_COMMON.id);
    assert_eq!(code(crate::stack::foreign()), upstream::MIXED.id);
    let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
    assert_eq!(code(unknown), upstream::HANDSHAKE.id);
    let gone = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    assert_eq!(upstream_code_of(&gone), &upstream::CONNECT);
}
