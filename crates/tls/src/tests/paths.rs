//! Chains that were cut down before they are verified come to the same verdict as whole ones, over
//! random authorities: several certificates of one authority by different issuers, loops, copies of
//! roots, name constraints, strangers, repetitions.

use std::sync::{Arc, OnceLock};

use proptest::collection::vec;
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, NameConstraints, SanType,
};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::{TELLER, World, issue};
use crate::Stack;
use crate::path::{Judge, Path, Usage};
use crate::revocation::{Depth, Lists};

/// How many authorities there are to choose from.
const AUTHORITIES: usize = 5;

/// Keys are slow to make and need not be fresh.
fn keys() -> &'static [KeyPair] {
    static KEYS: OnceLock<Vec<KeyPair>> = OnceLock::new();
    KEYS.get_or_init(|| (0..=AUTHORITIES).map(|_| KeyPair::generate().unwrap()).collect())
}

/// One certificate of an authority, or of the leaf (the last number).
#[derive(Clone, Debug)]
struct Issued {
    subject: usize,
    issuer: usize,
    /// Whether it lets only names of another domain pass.
    is_constrained: bool,
}

fn params(subject: usize) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("Authority {subject}"));
    params
}

fn certificate(issued: &Issued) -> Certificate {
    let mut params = params(issued.subject);
    if issued.subject == AUTHORITIES {
        params.subject_alt_names = vec![SanType::DnsName("teller.bank.test".try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    } else {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        if issued.is_constrained {
            params.name_constraints = Some(NameConstraints {
                permitted_subtrees: vec![GeneralSubtree::DnsName("other.test".to_owned())],
                excluded_subtrees: Vec::new(),
            });
        }
    }
    let mut of_issuer = self::params(issued.issuer);
    of_issuer.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = Issuer::from_params(&of_issuer, &keys()[issued.issuer]);
    params.signed_by(&keys()[issued.subject], &issuer).unwrap()
}

fn issued(subject: impl Strategy<Value = usize>) -> impl Strategy<Value = Issued> {
    (subject, 0..AUTHORITIES, prop::bool::weighted(0.15))
        .prop_map(|(subject, issuer, is_constrained)| Issued { subject, issuer, is_constrained })
}

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(super::now_s().try_into().unwrap()))
}

fn judge(roots: RootCertStore) -> Judge {
    let stack = Stack::International;
    let lists = Lists::read(&[], &[], stack.provider().signature_verification_algorithms).unwrap();
    Judge::new(stack, Usage::Client, roots, lists, Depth::None, false)
}

/// What webpki says of the chain as it was shown.
fn untrimmed(
    roots: &RootCertStore,
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
) -> bool {
    let algorithms = Stack::International.provider().signature_verification_algorithms;
    let leaf = EndEntityCert::try_from(leaf).unwrap();
    let usage = KeyUsage::client_auth();
    leaf.verify_for_usage(algorithms.all, &roots.roots, others, now(), usage, None, None).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_chain_that_was_cut_down_has_the_verdict_of_the_whole(
        leaf in issued(Just(AUTHORITIES)),
        others in vec(issued(0..AUTHORITIES), 0..7),
        trusted in vec((0..AUTHORITIES, prop::bool::weighted(0.2)), 1..3),
        repeated in prop::option::of(0..7_usize),
    ) {
        let leaf = certificate(&leaf).der().clone();
        let mut others: Vec<_> = others.iter().map(|one| certificate(one).der().clone()).collect();
        if let Some(again) = repeated.and_then(|at| others.get(at).cloned()) {
            others.push(again);
        }
        let mut roots = RootCertStore::empty();
        for (of, is_constrained) in trusted {
            let root = Issued { subject: of, issuer: of, is_constrained };
            let root = certificate(&root).der().clone();
            // Whoever shows a copy of the root changes nothing either.
            if others.len() < 7 {
                others.push(root.clone());
            }
            roots.add(root).unwrap();
        }
        let whole = untrimmed(&roots, &leaf, &others);
        let found = judge(roots).path(&leaf, &others, now());
        prop_assert_eq!(found.is_ok(), whole, "{:?}", found);
        if let Ok(path) = found {
            let needed: usize = path.chain().iter().map(|one| one.len()).sum();
            let shown: Vec<_> = std::iter::once(&leaf).chain(&others).cloned().collect();
            let bytes: usize = shown.iter().map(|one| one.len()).sum();
            prop_assert_eq!(path.spared_bytes(&shown), bytes - needed);
            prop_assert_eq!(&path.chain()[0], &leaf);
            prop_assert!(path.chain()[1..].iter().all(|one| others.contains(one)));
        }
    }
}

fn shown(pem: &str) -> Vec<CertificateDer<'static>> {
    use rustls_pki_types::pem::PemObject;
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

#[test]
fn a_chain_that_comes_again_is_not_verified_again_but_looked_at() {
    let w = World::new();
    let trust = shown(w.p256.trust_pem());
    let mut roots = RootCertStore::empty();
    roots.add(trust[0].clone()).unwrap();
    let judge = judge(roots);
    let mut chain = shown(&issue(&w.p256, TELLER).chain_pem);
    chain.push(trust[0].clone());
    chain.push(shown(&issue(&w.p256, super::GATEWAY).chain_pem)[0].clone());
    let path = |at: UnixTime| judge.path(&chain[0], &chain[1..], at);
    let first = path(now()).unwrap();
    assert_eq!(first.chain(), &chain[..2], "the root and the stranger are spared");
    assert_eq!(first.spared_bytes(&chain), chain[2].len() + chain[3].len());
    assert!(Arc::ptr_eq(&first, &path(now()).unwrap()));
    let end = u64::try_from(first.not_after_s()).unwrap();
    let after = UnixTime::since_unix_epoch(std::time::Duration::from_secs(end + 1));
    assert!(path(after).is_err(), "remembered, and expired all the same");
    let before = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_000));
    assert!(path(before).is_err(), "remembered, and not valid yet all the same");
}

#[test]
fn a_path_is_of_its_root() {
    fn holds(judge: &Judge, path: &Path) -> bool {
        judge.still_holds(path, super::now_s()).is_ok()
    }
    let (w, other) = (World::new(), World::new());
    let judges = [&w, &other].map(|world| {
        let mut roots = RootCertStore::empty();
        roots.add(shown(world.p256.trust_pem()).remove(0)).unwrap();
        judge(roots)
    });
    let chain = shown(&w.teller[0].chain_pem);
    let path = judges[0].path(&chain[0], &chain[1..], now()).unwrap();
    assert!(holds(&judges[0], &path));
    assert!(!holds(&judges[1], &path), "of the same name, and another key");
}
