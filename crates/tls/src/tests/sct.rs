//! Certificate transparency: certificates of an authority of our own, logs of our own.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use moat_model::code::{tls, upstream};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, PublicKeyData, SanType,
};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::path::{Judge, Usage};
use crate::revocation::{Depth, Lists};
use crate::sct::Logs;
use crate::{Stack, code_of, upstream_code_of};

const LIST: [u64; 10] = [1, 3, 6, 1, 4, 1, 11129, 2, 4, 2];
const POISON: [u64; 10] = [1, 3, 6, 1, 4, 1, 11129, 2, 4, 3];

enum Log {
    P256(EcdsaKeyPair, Vec<u8>),
    Ed25519(Ed25519KeyPair, Vec<u8>),
}

impl Log {
    fn p256() -> Log {
        let key = KeyPair::generate().unwrap();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &key.serialize_der()).unwrap();
        Log::P256(pair, key.subject_public_key_info())
    }

    fn ed25519() -> Log {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(&key.serialize_der()).unwrap();
        assert_eq!(pair.public_key().as_ref(), key.public_key_raw());
        Log::Ed25519(pair, key.subject_public_key_info())
    }

    fn spki(&self) -> &[u8] {
        match self {
            Log::P256(_, spki) | Log::Ed25519(_, spki) => spki,
        }
    }

    fn pem(&self) -> Vec<u8> {
        let text = data_encoding::BASE64.encode(self.spki());
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n").into_bytes()
    }

    /// A timestamp over a certificate as it was before it had any.
    fn stamp(&self, before: &[u8], issuer_spki: &[u8], at_ms: u64) -> Vec<u8> {
        let mut signed = vec![0, 0];
        signed.extend(at_ms.to_be_bytes());
        signed.extend([0, 1]);
        signed.extend(sha256(issuer_spki));
        signed.extend(&u32::try_from(before.len()).unwrap().to_be_bytes()[1..]);
        signed.extend(before);
        signed.extend([0, 0]);
        let (algorithm, signature) = match self {
            Log::P256(key, _) => {
                let random = SystemRandom::new();
                ([4, 3], key.sign(&random, &signed).unwrap().as_ref().to_vec())
            }
            Log::Ed25519(key, _) => ([8, 7], key.sign(&signed).as_ref().to_vec()),
        };
        let mut stamp = vec![0];
        stamp.extend(sha256(self.spki()));
        stamp.extend(at_ms.to_be_bytes());
        stamp.extend([0, 0]);
        stamp.extend(algorithm);
        stamp.extend(opaque(&signature));
        stamp
    }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec()
}

fn opaque(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn octets(bytes: &[u8]) -> Vec<u8> {
    let mut der = vec![0x04];
    match bytes.len() {
        short @ 0..0x80 => der.push(u8::try_from(short).unwrap()),
        middle @ 0x80..0x100 => der.extend([0x81, u8::try_from(middle).unwrap()]),
        long => {
            der.push(0x82);
            der.extend(u16::try_from(long).unwrap().to_be_bytes());
        }
    }
    der.extend(bytes);
    der
}

/// An authority, and a key for which it issues.
struct Office {
    root: CertificateParams,
    root_key: KeyPair,
    root_der: CertificateDer<'static>,
    leaf_key: KeyPair,
}

impl Office {
    fn new() -> Office {
        let root_key = KeyPair::generate().unwrap();
        let mut root = CertificateParams::default();
        root.distinguished_name.push(DnType::CommonName, "Root");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_der = root.self_signed(&root_key).unwrap().der().clone();
        Office { root, root_key, root_der, leaf_key: KeyPair::generate().unwrap() }
    }

    fn issue(&self, extensions: Vec<CustomExtension>) -> Certificate {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "teller");
        params.serial_number = Some(vec![7; 8].into());
        params.subject_alt_names = vec![SanType::DnsName("teller.bank.test".try_into().unwrap())];
        let both = [ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.extended_key_usages = both.to_vec();
        params.custom_extensions = extensions;
        let issuer = Issuer::from_params(&self.root, &self.root_key);
        params.signed_by(&self.leaf_key, &issuer).unwrap()
    }

    /// What the logs get to see.
    fn before(&self) -> Vec<u8> {
        let whole = self.issue(Vec::new());
        crate::der::signed(whole.der()).unwrap().content.to_vec()
    }

    fn with_list(&self, list: &[u8]) -> CertificateDer<'static> {
        let extension = CustomExtension::from_oid_content(&LIST, octets(list));
        self.issue(vec![extension]).der().clone()
    }

    fn with(&self, stamps: &[Vec<u8>]) -> CertificateDer<'static> {
        let all: Vec<u8> = stamps.iter().flat_map(|stamp| opaque(stamp)).collect();
        self.with_list(&opaque(&all))
    }

    fn stamp(&self, log: &Log, at_ms: u64) -> Vec<u8> {
        log.stamp(&self.before(), &self.root_key.subject_public_key_info(), at_ms)
    }

    fn judge(&self, logs: &[&Log], needed: usize) -> Judge {
        let mut roots = RootCertStore::empty();
        roots.add(self.root_der.clone()).unwrap();
        let stack = Stack::International;
        let algorithms = stack.provider().signature_verification_algorithms;
        let lists = Lists::read(&[], &[], algorithms).unwrap();
        let files: Vec<Vec<u8>> = logs.iter().map(|log| log.pem()).collect();
        let logs = Logs::read(&files, needed).unwrap();
        Judge::new(stack, Usage::Client, roots, lists, Depth::None, false).with_logs(logs)
    }
}

fn now_ms() -> u64 {
    u64::try_from(super::now_s()).unwrap() * 1_000
}

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_millis(now_ms()))
}

fn passes(judge: &Judge, leaf: &CertificateDer<'_>) -> bool {
    match judge.path(leaf, &[], now()) {
        Ok(_) => true,
        Err(error) => {
            let error = std::io::Error::other(error);
            assert_eq!(code_of(&error), &tls::FEW_LOGS, "{error:?}");
            assert_eq!(upstream_code_of(&error), &upstream::FEW_LOGS);
            false
        }
    }
}

#[test]
fn a_certificate_passes_with_timestamps_of_enough_logs() {
    let office = Office::new();
    let (one, two, three) = (Log::p256(), Log::ed25519(), Log::p256());
    let stamps: Vec<Vec<u8>> =
        [&one, &two, &three].iter().map(|log| office.stamp(log, now_ms())).collect();
    let logs = [&one, &two];
    for (needed, shown, wanted) in [
        (1, &stamps[..1], true),
        (2, &stamps[..1], false),
        (2, &stamps[..2], true),
        // The third log is nobody that is believed; two of one log are one.
        (2, &stamps[1..], false),
        (1, &stamps[1..], true),
        (2, &[stamps[0].clone(), stamps[0].clone()][..], false),
        (1, &[][..], false),
    ] {
        let leaf = office.with(shown);
        assert_eq!(passes(&office.judge(&logs, needed), &leaf), wanted, "{needed} {}", shown.len());
    }
    let plain = office.issue(Vec::new()).der().clone();
    assert!(!passes(&office.judge(&logs, 1), &plain), "without any list");
    assert!(passes(&office.judge(&[], 0), &plain), "where none is needed");
}

#[test]
fn a_timestamp_counts_for_this_certificate_alone() {
    let (office, log) = (Office::new(), Log::p256());
    let judge = office.judge(&[&log], 1);
    let good = office.stamp(&log, now_ms());
    let whole = office.with(std::slice::from_ref(&good));
    assert!(passes(&judge, &whole));
    assert_eq!(crate::embedded_timestamps(&whole), Some((1, office.before())));
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1;
        assert!(!passes(&judge, &office.with(&[changed])), "byte {at}");
    }
    for end in 0..good.len() {
        assert!(!passes(&judge, &office.with(&[good[..end].to_vec()])), "first {end} bytes");
    }
    let future = office.stamp(&log, now_ms() + 3_600_000);
    assert!(!passes(&judge, &office.with(&[future])), "from the future");
    let spki = office.root_key.subject_public_key_info();
    let of_other = log.stamp(&Office::new().before(), &spki, now_ms());
    assert!(!passes(&judge, &office.with(&[of_other])), "of another certificate");
    let by_other_issuer = log.stamp(&office.before(), log.spki(), now_ms());
    assert!(!passes(&judge, &office.with(&[by_other_issuer])), "of another issuer");
}

#[test]
fn lists_that_are_no_lists_count_for_nothing() {
    let (office, log) = (Office::new(), Log::ed25519());
    let judge = office.judge(&[&log], 1);
    let stamp = office.stamp(&log, now_ms());
    let list = opaque(&opaque(&stamp));
    assert!(passes(&judge, &office.with_list(&list)));
    for end in 0..list.len() {
        assert!(!passes(&judge, &office.with_list(&list[..end])), "first {end} bytes");
    }
    assert!(!passes(&judge, &office.with_list(&[list.as_slice(), &[0]].concat())), "a byte more");
    let many: Vec<Vec<u8>> = (0..17).map(|_| stamp.clone()).collect();
    assert!(!passes(&judge, &office.with(&many)), "more than are looked at");
    let extension = |identifier: &[u64], content: Vec<u8>| {
        CustomExtension::from_oid_content(identifier, content)
    };
    let twice = vec![extension(&LIST, octets(&list)), extension(&LIST, octets(&list))];
    assert!(!is_taken(&judge, office.issue(twice).der()), "two lists");
    let poisoned = vec![extension(&LIST, octets(&list)), extension(&POISON, vec![5, 0])];
    assert!(!is_taken(&judge, office.issue(poisoned).der()), "not a certificate yet");
}

/// For what webpki may refuse already.
fn is_taken(judge: &Judge, leaf: &CertificateDer<'_>) -> bool {
    judge.path(leaf, &[], now()).is_ok()
}

#[test]
fn keys_of_logs_must_be_whole_and_enough() {
    let (one, two) = (Log::p256(), Log::ed25519());
    let both = [one.pem(), two.pem()].concat();
    assert!(Logs::read(std::slice::from_ref(&both), 2).unwrap().is_some());
    assert!(Logs::read(&[], 0).unwrap().is_none());
    let (twice, nothing) = (vec![one.pem(), one.pem()], vec![b"nothing".to_vec()]);
    for (files, needed) in [(twice, 1), (vec![both], 3), (nothing, 0)] {
        let refused = Logs::read(&files, needed).expect_err("refused");
        assert_eq!(refused.code, &tls::LOG_KEY);
    }
}
