//! Lists of revoked certificates, as `moat ca crl` signs them, before the judge of each stack; and
//! chains that are too long.

use moat_ca::{Authority, Level, Reason, Register, Revocation, Window, first_certificate};
use moat_model::code::{tls, upstream};
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{GATEWAY, TELLER, World, issue, material, now_s};
use crate::path::{Broken, Judge, Usage};
use crate::revocation::{Depth, Lists, Standing};
use crate::stack::{CHAIN_BYTES_MAX, CHAIN_CERTIFICATES_MAX, check_chain};
use crate::{Stack, code_of, upstream_code_of};

const STACKS: [Stack; 2] = [Stack::International, Stack::National];

fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

fn judge_of(authority: &Authority, stack: Stack, lists: &[Vec<u8>], depth: Depth) -> Judge {
    let mut roots = RootCertStore::empty();
    roots.add(chain(authority.trust_pem()).remove(0)).unwrap();
    let files: Vec<&[u8]> = lists.iter().map(Vec::as_slice).collect();
    let algorithms = stack.provider().signature_verification_algorithms;
    let lists = Lists::read(&files, &[], algorithms).unwrap();
    Judge::new(stack, Usage::Client, roots, lists, depth, false)
}

fn at(now_s: i64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(now_s.try_into().unwrap()))
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
            let judge = judge_of(authority, stack, lists, Depth::All);
            judge.path(&chain[0], &chain[1..], at(at_s)).map(|_| ())
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
        // A list whose signature is another's is as good as none.
        let other = match stack {
            Stack::International => Authority::create("Test", now_s()).unwrap(),
            Stack::National => Authority::create_sm2("Test", now_s()).unwrap(),
        };
        let theirs = other.list(Level::Root, &mut root, window).unwrap().der;
        let of_another = judge(&[lists[0].clone(), theirs.clone()], &good, now_s());
        assert_eq!(of_another, error(CertificateError::UnknownRevocationStatus));
        // Beside a good one of the same name it does no harm, and hides nothing.
        lists.insert(0, theirs);
        assert_eq!(judge(&lists, &good, now_s()), error(CertificateError::Revoked));
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_path_that_was_found_before_is_measured_by_what_is_known_now() {
    let w = World::new();
    let dir = tempfile::tempdir().unwrap();
    for (authority, stack) in [(&w.p256, STACKS[0]), (&w.sm2, STACKS[1])] {
        let chain = chain(&issue(authority, TELLER).chain_pem);
        let before = judge_of(authority, stack, &[], Depth::None);
        let path = before.path(&chain[0], &chain[1..], at(now_s())).unwrap();
        let open = |level| Register::open(dir.path(), authority.kind(), level).unwrap();
        let (mut issuing, mut root) = (open(Level::Issuing), open(Level::Root));
        let window = Window { from_s: now_s(), length_s: 3_600 };
        let root_list = authority.list(Level::Root, &mut root, window).unwrap().der;
        let hold = |issuing: &mut Register, at_s: i64, depth: Depth, with_root: bool| {
            let mut lists = vec![authority.list(Level::Issuing, issuing, window).unwrap().der];
            lists.extend(with_root.then(|| root_list.clone()));
            judge_of(authority, stack, &lists, depth).still_holds(&path, at_s).map(|_| ())
        };
        assert_eq!(hold(&mut issuing, now_s(), Depth::All, true), Ok(()));
        let late = hold(&mut issuing, now_s() + 3_700, Depth::All, true);
        assert!(matches!(late, Err(Broken::Standing(Standing::Stale(_)))), "{late:?}");
        let unknown = hold(&mut issuing, now_s(), Depth::All, false);
        assert_eq!(unknown, Err(Broken::Standing(Standing::Unknown)));
        assert_eq!(hold(&mut issuing, now_s(), Depth::Leaf, false), Ok(()), "its issuer's only");
        let serial = issuing.issued(&chain[0]).unwrap();
        let revocation = Revocation { at_s: now_s(), reason: Reason::KeyCompromise };
        issuing.revoke(&serial, revocation).unwrap();
        let revoked = hold(&mut issuing, now_s(), Depth::Leaf, false);
        assert_eq!(revoked, Err(Broken::Standing(Standing::Revoked)));
        assert_eq!(hold(&mut issuing, now_s(), Depth::None, false), Ok(()), "nobody asks");
        let ended = hold(&mut issuing, path.not_after_s() + 1, Depth::None, false);
        assert_eq!(ended, Err(Broken::Expired));
    }
}

#[test]
fn lists_of_a_part_or_without_a_number_are_refused() {
    let w = World::new();
    let dir = tempfile::tempdir().unwrap();
    let mut register = Register::open(dir.path(), w.p256.kind(), Level::Issuing).unwrap();
    let window = Window { from_s: now_s(), length_s: 3_600 };
    let der = w.p256.list(Level::Issuing, &mut register, window).unwrap().der;
    let algorithms = STACKS[0].provider().signature_verification_algorithms;
    let read = |file: &[u8]| Lists::read(&[file], &[], algorithms).map(|_| ()).map_err(|e| e.code);
    assert_eq!(read(&der), Ok(()));
    for length in 0..der.len() {
        assert_eq!(read(&der[..length]), Err(&tls::REVOCATION_LIST), "cut at {length}");
    }
    // The number's extension becomes that of a delta list (RFC 5280 §5.2.4).
    let number: &[u8] = &[0x55, 0x1d, 20];
    let at = der.windows(3).position(|three| three == number).unwrap();
    let mut delta = der;
    delta[at + 2] = 27;
    assert_eq!(read(&delta), Err(&tls::REVOCATION_LIST));
    delta[at + 2] = 28;
    assert_eq!(read(&delta), Err(&tls::REVOCATION_LIST), "a distribution point");
    assert_eq!(read(b"no list"), Err(&tls::REVOCATION_LIST));
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
