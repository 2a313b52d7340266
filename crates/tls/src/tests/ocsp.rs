//! OCSP responses, as `moat ca ocsp` signs them: stapled by our listeners, demanded from services,
//! and read ahead for callers.

use moat_ca::{
    Authority, Identity, LeafRequest, Level, NameHash, Question, Reason, Register, Responder,
    Revocation, Window, first_certificate,
};
use moat_model::code::{tls, upstream};
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::wire::shake;
use super::{GATEWAY, TELLER, World, issue, material, now_s};
use crate::ocsp::{Mute, Said, said};
use crate::path::{Broken, Judge, Usage, issuer, serial};
use crate::revocation::{Depth, Lists, Standing};
use crate::{ALPN_H2, Client, Material, National, Server, Stack, Trust, upstream_code_of};

const STACKS: [Stack; 2] = [Stack::International, Stack::National];
const HOUR: i64 = 3_600;

fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

/// A register of what one authority has issued, and the responses of it.
struct Office<'a> {
    authority: &'a Authority,
    register: Register,
    _dir: tempfile::TempDir,
}

impl<'a> Office<'a> {
    fn new(authority: &'a Authority) -> Office<'a> {
        let dir = tempfile::tempdir().unwrap();
        let register = Register::open(dir.path(), authority.kind(), Level::Issuing).unwrap();
        Office { authority, register, _dir: dir }
    }

    fn enter(&mut self, identity: &Identity) {
        self.register.enter(&chain(&identity.chain_pem)[0]).unwrap();
    }

    fn revoke(&mut self, identity: &Identity) {
        let serial = self.register.enter(&chain(&identity.chain_pem)[0]).unwrap();
        let revocation = Revocation { at_s: now_s(), reason: Reason::Superseded };
        self.register.revoke(&serial, revocation).unwrap();
    }

    fn answer(&self, identity: &Identity, hash: NameHash, responder: Option<&Identity>) -> Vec<u8> {
        let certificates = [first_certificate(identity.chain_pem.as_bytes()).unwrap()];
        let responder =
            responder.map(|one| Responder { chain_pem: &one.chain_pem, key_pem: &one.key_pem });
        let window = Window { from_s: now_s(), length_s: HOUR };
        let question = Question { certificates: &certificates, hash, window, responder };
        self.authority.answer(&self.register, &question).unwrap().der
    }

    /// Somebody whom the authority lets sign responses.
    fn responder(&mut self) -> Identity {
        let mut wish = LeafRequest::spiffe("spiffe://bank.test/responder", now_s());
        wish.valid_s = 2 * HOUR;
        let identity = self.authority.issue_responder(&wish).unwrap();
        self.enter(&identity);
        identity
    }
}

/// What a response says of an identity, at a time.
fn read(response: &[u8], of: &Identity, stack: Stack, at_s: i64) -> Result<Said, Mute> {
    let chain = chain(&of.chain_pem);
    let (issuer, serial) = (issuer(&chain[1]).unwrap(), serial(&chain[0]).unwrap());
    let algorithms = stack.provider().signature_verification_algorithms;
    let lists = Lists::read(&[], &[], algorithms).unwrap();
    said(response, &issuer, &serial, &lists, at_s)
}

#[test]
fn a_response_speaks_for_its_own_certificate_while_it_is_current() {
    let w = World::new();
    for (kind, stack) in STACKS.into_iter().enumerate() {
        let authority = [&w.p256, &w.sm2][kind];
        let mut office = Office::new(authority);
        let (good, bad, unknown) =
            (issue(authority, TELLER), issue(authority, TELLER), issue(authority, TELLER));
        office.enter(&good);
        office.revoke(&bad);
        let responder = office.responder();
        let ordinary = issue(authority, "spiffe://bank.test/ordinary");
        office.enter(&ordinary);
        for hash in [NameHash::Sha1, NameHash::Sha256, NameHash::Sm3] {
            for by in [None, Some(&responder)] {
                let response = office.answer(&good, hash, by);
                let said = read(&response, &good, stack, now_s());
                assert!(matches!(said, Ok(Said::Good { .. })), "{said:?}");
                for at_s in [now_s() + 3 * HOUR, now_s() - HOUR] {
                    // The responder's own certificate may be out of date first.
                    let mute = if by.is_some() { Mute::Unsigned } else { Mute::Old };
                    assert_eq!(read(&response, &good, stack, at_s), Err(mute));
                }
                assert_eq!(read(&response, &bad, stack, now_s()), Err(Mute::Silent));
                let response = office.answer(&bad, hash, by);
                assert_eq!(read(&response, &bad, stack, now_s()), Ok(Said::Revoked));
                let response = office.answer(&unknown, hash, by);
                assert_eq!(read(&response, &unknown, stack, now_s()), Err(Mute::Silent));
            }
        }
        // The same names and numbers under another key.
        let stranger = match stack {
            Stack::International => Authority::create("Test", now_s()).unwrap(),
            Stack::National => Authority::create_sm2("Test", now_s()).unwrap(),
        };
        let mut theirs = Office::new(&stranger);
        let namesake = issue(&stranger, TELLER);
        theirs.enter(&namesake);
        let response = theirs.answer(&namesake, authority.usual_hash(), None);
        assert_eq!(read(&response, &good, stack, now_s()), Err(Mute::Silent));
    }
}

#[test]
fn a_response_with_any_byte_changed_or_cut_says_nothing_good() {
    let w = World::new();
    for (kind, stack) in STACKS.into_iter().enumerate() {
        let authority = [&w.p256, &w.sm2][kind];
        let mut office = Office::new(authority);
        let good = issue(authority, TELLER);
        office.enter(&good);
        let response = office.answer(&good, authority.usual_hash(), None);
        for at in 0..response.len() {
            assert!(read(&response[..at], &good, stack, now_s()).is_err(), "cut at {at}");
            let mut changed = response.clone();
            changed[at] ^= 1;
            assert!(read(&changed, &good, stack, now_s()).is_err(), "changed at {at}");
        }
        let responder = office.responder();
        let whole = office.answer(&good, authority.usual_hash(), Some(&responder));
        // The responder's certificate gives way to one that is not for that.
        let own = first_certificate(responder.chain_pem.as_bytes()).unwrap();
        let at = whole.windows(own.len()).position(|part| part == own.as_ref()).unwrap();
        let purpose: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 9];
        let purpose_at = own.windows(8).position(|part| part == purpose).unwrap();
        let mut other = whole;
        other[at + purpose_at + 7] = 2;
        assert_eq!(read(&other, &good, stack, now_s()), Err(Mute::Unsigned));
    }
}

fn must_staple<'a>(identity: &'a Identity, trust: &'a str) -> Material<'a> {
    let plain = material(identity, trust);
    Material { trust: Trust { must_staple: true, ..plain.trust }, ..plain }
}

#[test]
fn a_service_that_must_staple_and_does_not_is_refused() {
    let w = World::new();
    for (kind, authority) in [&w.p256, &w.sm2].into_iter().enumerate() {
        let mut office = Office::new(authority);
        office.enter(&w.gateway[kind]);
        let response = office.answer(&w.gateway[kind], authority.usual_hash(), None);
        let stapling = Material { staple: Some(&response), ..material(&w.gateway[kind], &w.trust) };
        let plain = material(&w.gateway[kind], &w.trust);
        let client = || {
            let own = must_staple(&w.teller[kind], &w.trust);
            let id = GATEWAY.parse().unwrap();
            Client::new(&[own], id, &[ALPN_H2], National::Prefer).unwrap().attempt().config
        };
        let server = Server::new(&[stapling], National::Prefer).unwrap();
        shake(&server, client()).assert_good();
        let ended = shake(&Server::new(&[plain], National::Prefer).unwrap(), client());
        let error = ended.client_error.unwrap();
        let none = rustls::Error::from(CertificateError::InvalidOcspResponse);
        assert_eq!(error, none);
        let code = upstream_code_of(&std::io::Error::other(error));
        assert_eq!(code, &upstream::NO_STAPLE);
    }
}

#[test]
fn what_cannot_be_stapled_is_refused_before_it_is_used() {
    let w = World::new();
    for (kind, authority) in [&w.p256, &w.sm2].into_iter().enumerate() {
        let mut office = Office::new(authority);
        office.enter(&w.teller[kind]);
        office.revoke(&w.gateway[kind]);
        let hash = authority.usual_hash();
        let refused = |response: &[u8]| {
            let plain = material(&w.gateway[kind], &w.trust);
            let stapling = Material { staple: Some(response), ..plain };
            Server::new(&[stapling], National::Prefer).unwrap_err().code
        };
        assert_eq!(refused(b"no response"), &tls::OWN_STAPLE);
        let of_another = office.answer(&w.teller[kind], hash, None);
        assert_eq!(refused(&of_another), &tls::OWN_STAPLE);
        let revoked = office.answer(&w.gateway[kind], hash, None);
        assert_eq!(refused(&revoked), &tls::OWN_STAPLE);
    }
}

#[test]
fn responses_read_ahead_speak_for_single_callers() {
    let w = World::new();
    for (kind, stack) in STACKS.into_iter().enumerate() {
        let authority = [&w.p256, &w.sm2][kind];
        let mut office = Office::new(authority);
        let (good, bad, unknown) =
            (issue(authority, TELLER), issue(authority, TELLER), issue(authority, TELLER));
        office.enter(&good);
        office.revoke(&bad);
        let responses = [&good, &bad].map(|of| office.answer(of, authority.usual_hash(), None));
        let responses: Vec<&[u8]> = responses.iter().map(Vec::as_slice).collect();
        let mut roots = RootCertStore::empty();
        roots.add(chain(authority.trust_pem()).remove(0)).unwrap();
        let algorithms = stack.provider().signature_verification_algorithms;
        let lists = Lists::read(&[], &responses, algorithms).unwrap();
        let judge = Judge::new(stack, Usage::Client, roots, lists, Depth::Leaf, false);
        let at = |at_s: i64| {
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(at_s.try_into().unwrap()))
        };
        let verdict = |of: &Identity, at_s| {
            let chain = chain(&of.chain_pem);
            judge.path(&chain[0], &chain[1..], at(at_s)).map(|_| ())
        };
        let error = |error: CertificateError| Err(rustls::Error::InvalidCertificate(error));
        assert_eq!(verdict(&good, now_s()), Ok(()));
        assert_eq!(verdict(&bad, now_s()), error(CertificateError::Revoked));
        let of_unknown = verdict(&unknown, now_s());
        assert_eq!(of_unknown, error(CertificateError::UnknownRevocationStatus));
        let chain_of_good = chain(&good.chain_pem);
        let path = judge.path(&chain_of_good[0], &chain_of_good[1..], at(now_s())).unwrap();
        let until_s = judge.still_holds(&path, now_s()).unwrap();
        assert!((now_s() + 1..=now_s() + HOUR).contains(&until_s), "asked again when it ends");
        let late = verdict(&good, now_s() + 2 * HOUR);
        let is_stale = matches!(
            late,
            Err(rustls::Error::InvalidCertificate(
                CertificateError::ExpiredRevocationListContext { .. }
            ))
        );
        assert!(is_stale, "{late:?}");
    }
}

#[test]
fn a_service_that_was_believed_is_asked_for_again_in_time() {
    let w = World::new();
    let (mut office, kind) = (Office::new(&w.p256), 0);
    office.enter(&w.gateway[kind]);
    let response = office.answer(&w.gateway[kind], NameHash::Sha256, None);
    let stapling = Material { staple: Some(&response), ..material(&w.gateway[kind], &w.trust) };
    let server = Server::new(&[stapling], National::Prefer).unwrap();
    let client = |own: &Material<'_>, id: &str| {
        let own = Material { trust: own.trust, ..material(&w.teller[kind], &w.trust) };
        Client::new(&[own], id.parse().unwrap(), &[ALPN_H2], National::Prefer).unwrap()
    };
    let (plain, strict) =
        (material(&w.teller[kind], &w.trust), must_staple(&w.teller[kind], &w.trust));
    for (own, staple_counts) in [(&plain, false), (&strict, true)] {
        let first = client(own, GATEWAY);
        let ended = shake(&server, first.attempt().config);
        ended.assert_good();
        let belief = first.belief(&ended.client, now_s()).unwrap();
        let until_s = first.still_believes(&belief, now_s()).unwrap();
        assert!(until_s > now_s());
        assert_eq!(until_s < now_s() + 2 * HOUR, staple_counts, "the response is for an hour");
        let later = first.still_believes(&belief, now_s() + 2 * HOUR);
        assert_eq!(later.is_err(), staple_counts, "{later:?}");
        assert_eq!(first.still_believes(&belief, i64::MAX / 2), Err(Broken::Expired));
        // The next generation trusts somebody else, or expects another service.
        let stranger = Authority::create("Other", now_s()).unwrap();
        let trust = stranger.trust_pem().to_owned();
        let other =
            Material { trust: Trust { pem: trust.as_bytes(), ..own.trust }, ..plain_of(&w) };
        let other = client(&other, GATEWAY);
        assert_eq!(other.still_believes(&belief, now_s()), Err(Broken::Anchor));
        let another = client(own, TELLER);
        assert_eq!(another.still_believes(&belief, now_s()), Err(Broken::Anchor));
        assert!(client(own, GATEWAY).still_believes(&belief, now_s()).is_ok());
    }
}

fn plain_of(w: &World) -> Material<'_> {
    material(&w.teller[0], &w.trust)
}

#[test]
fn of_many_responses_only_those_about_a_certificate_are_looked_into() {
    let w = World::new();
    let mut office = Office::new(&w.p256);
    let callers: Vec<Identity> = (0..40).map(|_| issue(&w.p256, TELLER)).collect();
    let mut numbers = Vec::new();
    for one in &callers {
        numbers.push(office.register.enter(&chain(&one.chain_pem)[0]).unwrap());
    }
    let hashes = [NameHash::Sha1, NameHash::Sha256, NameHash::Sm3];
    let mut responses: Vec<Vec<u8>> = callers
        .iter()
        .zip(hashes.into_iter().cycle())
        .map(|(one, hash)| office.answer(one, hash, None))
        .collect();
    let revocation = Revocation { at_s: now_s(), reason: Reason::Superseded };
    office.register.revoke(&numbers[7], revocation).unwrap();
    responses.push(office.answer(&callers[7], NameHash::Sha256, None));
    let files: Vec<&[u8]> = responses.iter().map(Vec::as_slice).collect();
    let algorithms = Stack::International.provider().signature_verification_algorithms;
    let lists = Lists::read(&[], &files, algorithms).unwrap();
    for (at, one) in callers.iter().enumerate() {
        let chain = chain(&one.chain_pem);
        let (issuer, serial) = (issuer(&chain[1]).unwrap(), serial(&chain[0]).unwrap());
        let judged = lists.judge(&issuer, &serial, now_s());
        if at == 7 {
            assert_eq!(judged, Err(Standing::Revoked), "one of two says so");
        } else {
            assert!(judged.is_ok(), "{at}: {judged:?}");
        }
        // Another name on the same key is another issuer.
        let mut other = issuer.clone();
        other.name.push(0);
        assert_eq!(lists.judge(&other, &serial, now_s()), Err(Standing::Unknown));
    }
    assert!(lists.looked_into() <= 41, "{} responses were looked into", lists.looked_into());
    // What was not current at first is heard once it is.
    let chain = chain(&callers[0].chain_pem);
    let (issuer, serial) = (issuer(&chain[1]).unwrap(), serial(&chain[0]).unwrap());
    let fresh = Lists::read(&[], &files, algorithms).unwrap();
    assert_eq!(fresh.judge(&issuer, &serial, now_s() - HOUR), Err(Standing::Unknown));
    assert!(fresh.judge(&issuer, &serial, now_s()).is_ok());
}
