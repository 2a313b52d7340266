//! Lists of revoked certificates (CRLs, RFC 5280 §5), and what they say of one certificate.
//!
//! All lists of an authority count together: a certificate is revoked if one of them names it, and
//! good only if one of them is current and none names it. An authority without a list, or with old
//! ones only, makes its own certificates unknown and nobody else's. Lists of a part of the
//! certificates (delta, partitioned, indirect) are refused when they are read, so that none is
//! taken for a whole one. OCSP responses that were fetched ahead speak for single certificates
//! where no list does.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use moat_model::code::tls::REVOCATION_LIST;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject;
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::Error;
use crate::der::{Signed, signed};
use crate::ocsp::{self, Said};

/// Most lists of one group of authorities.
const LISTS_MAX: usize = 256;
/// How far ahead of ours an authority's clock may be, in seconds.
const CLOCK_SKEW_S: i64 = 300;
/// Most verdicts on signatures of lists that are remembered.
const SIGNATURES_MAX: usize = 1_024;
/// Most certificates of which it is remembered what responses said: there are no more responses than
/// a quarter of it.
const SAID_MAX: usize = 1_024;

/// What is asked of the lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// Nothing.
    #[default]
    None,
    /// The end's own certificate.
    Leaf,
    /// Every certificate below the root.
    All,
}

/// Why a certificate cannot be relied on any more, or a list not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A list names it.
    Revoked,
    /// There is no list of its issuer's.
    Unknown,
    /// No list of its issuer's is current; the latest should have been replaced then, in seconds
    /// since 1970.
    Stale(i64),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Lists {
    lists: Vec<List>,
    /// OCSP responses in DER.
    responses: Vec<Vec<u8>>,
    /// Places of those that are about a certificate.
    about: HashMap<ocsp::About, Vec<usize>>,
    /// What responses said of a certificate, as long as that holds.
    said: Mutex<HashMap<Certificate, Said>>,
    /// How often a response was looked into.
    looks: AtomicU64,
    algorithms: WebPkiSupportedAlgorithms,
    /// The key that a list, by its place, is signed with, by the key's digest; none if with another.
    signatures: Mutex<HashMap<(usize, Digest), Option<Key>>>,
}

/// SHA-256.
pub(crate) type Digest = [u8; 32];
/// The content of a SubjectPublicKeyInfo.
type Key = Vec<u8>;
/// A certificate, by its issuer's name, the digest of its issuer's key, and its serial number.
type Certificate = (Vec<u8>, Digest, Vec<u8>);

#[derive(Debug)]
struct List {
    der: Vec<u8>,
    parsed: CertRevocationList<'static>,
    this_update_s: i64,
    next_update_s: i64,
    /// Big endian, without leading zeros.
    number: Vec<u8>,
}

/// A list that was used, whose signature was therefore verified: whoever follows must not have an
/// older one of the same issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The issuer's name in DER, without its tag.
    issuer: Vec<u8>,
    /// The content of its SubjectPublicKeyInfo.
    key: Vec<u8>,
    number: Vec<u8>,
}

/// Numbers are compared without their leading zeros.
fn is_lower(one: &[u8], other: &[u8]) -> bool {
    (one.len(), one) < (other.len(), other)
}

impl Proven {
    /// Whether both are lists of one issuer with one key.
    #[must_use]
    pub fn is_of_issuer_of(&self, other: &Proven) -> bool {
        (&self.issuer, &self.key) == (&other.issuer, &other.key)
    }

    /// Keeps the higher of the two numbers.
    pub fn raise_to(&mut self, other: Proven) {
        if is_lower(&self.number, &other.number) {
            self.number = other.number;
        }
    }
}

impl core::fmt::Display for Proven {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("0x")?;
        self.number.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Who issued a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issuer {
    /// Its name in DER, without the tag.
    pub(crate) name: Vec<u8>,
    /// The content of its SubjectPublicKeyInfo.
    pub(crate) key: Vec<u8>,
    pub(crate) key_digest: Digest,
    /// Whether its certificate lets it sign lists; a root's need not say.
    pub(crate) may_sign_lists: bool,
}

impl Issuer {
    /// Its name in DER.
    pub(crate) fn name_with_tag(&self) -> Vec<u8> {
        crate::der::sequence_of(&self.name)
    }
}

impl Lists {
    /// Reads files of one or more lists each, PEM or DER.
    ///
    /// # Errors
    /// [`REVOCATION_LIST`], with the place of the file in `files`.
    pub(crate) fn read(
        files: &[&[u8]],
        responses: &[&[u8]],
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<Lists, Error> {
        let mut lists = Vec::new();
        for (at, file) in files.iter().enumerate() {
            let no = |why: &dyn core::fmt::Display| {
                Error::new(&REVOCATION_LIST, format_args!("list {}: {why}", at + 1))
            };
            for der in ders(file).map_err(|why| no(&why))? {
                if lists.len() >= LISTS_MAX {
                    return Err(no(&format_args!("there are more than {LISTS_MAX} lists")));
                }
                lists.push(List::read(der).map_err(|why| no(&why))?);
            }
        }
        let mut about: HashMap<ocsp::About, Vec<usize>> = HashMap::new();
        for (at, response) in responses.iter().enumerate() {
            let why = format_args!("OCSP response {}: it is none that succeeded", at + 1);
            let found = ocsp::about(response).ok_or_else(|| Error::new(&REVOCATION_LIST, why))?;
            for one in found {
                about.entry(one).or_default().push(at);
            }
        }
        let responses = responses.iter().map(|response| response.to_vec()).collect();
        let (signatures, said, looks) = (Mutex::default(), Mutex::default(), AtomicU64::new(0));
        Ok(Lists { lists, responses, about, said, looks, algorithms, signatures })
    }

    /// What is known of a certificate at a time: until when nothing bad, in seconds since 1970, or
    /// why not.
    pub(crate) fn judge(
        &self,
        issuer: &Issuer,
        serial: &[u8],
        now_s: i64,
    ) -> Result<i64, Standing> {
        let by_lists = self.by_lists(issuer, serial, now_s);
        if by_lists == Err(Standing::Revoked) {
            return by_lists;
        }
        match self.by_responses(issuer, serial, now_s) {
            Some(Said::Revoked) => Err(Standing::Revoked),
            Some(Said::Good { until_s }) if now_s < until_s => {
                Ok(by_lists.map_or(until_s, |list_s| list_s.max(until_s)))
            }
            Some(Said::Good { until_s }) => by_lists.map_err(|_| Standing::Stale(until_s)),
            None => by_lists,
        }
    }

    /// Whether a list names the certificate, whatever else is known.
    pub(crate) fn is_revoked(&self, issuer: &Issuer, serial: &[u8]) -> bool {
        self.by_lists(issuer, serial, 0) == Err(Standing::Revoked)
    }

    fn by_responses(&self, issuer: &Issuer, serial: &[u8], now_s: i64) -> Option<Said> {
        if self.responses.is_empty() {
            return None;
        }
        let key = (issuer.name.clone(), issuer.key_digest, serial.to_vec());
        let known = || self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known().get(&key).copied();
        match before {
            Some(Said::Good { until_s }) if now_s >= until_s => {}
            Some(said) => return Some(said),
            None => {}
        }
        let mut found = None;
        for response in self.about(issuer, serial) {
            self.looks.fetch_add(1, Ordering::Relaxed);
            match ocsp::said(response, issuer, serial, self, now_s) {
                Ok(Said::Revoked) => found = Some(Said::Revoked),
                Ok(good) if found != Some(Said::Revoked) => found = found.max(Some(good)),
                _ => {}
            }
        }
        // Silence is not remembered: a response may become current.
        if let Some(said) = found {
            let mut known = known();
            if known.len() < SAID_MAX || known.contains_key(&key) {
                known.insert(key, said);
            }
        }
        found.or(before)
    }

    /// The responses about a certificate.
    fn about(&self, issuer: &Issuer, serial: &[u8]) -> impl Iterator<Item = &Vec<u8>> {
        let of = |(algorithm, name, key)| self.about.get(&(algorithm, name, key, serial.to_vec()));
        let places: Vec<&Vec<usize>> = ocsp::names_of(issuer).into_iter().filter_map(of).collect();
        places.into_iter().flatten().filter_map(|at| self.responses.get(*at))
    }

    /// How often a response was looked into.
    #[cfg(test)]
    pub(crate) fn looked_into(&self) -> u64 {
        self.looks.load(Ordering::Relaxed)
    }

    fn by_lists(&self, issuer: &Issuer, serial: &[u8], now_s: i64) -> Result<i64, Standing> {
        let of_issuer = |(at, list): &(usize, &List)| {
            list.parsed.issuer() == issuer.name
                && issuer.may_sign_lists
                && self.is_signed(*at, list, issuer)
        };
        let (mut latest, mut current) = (None, None);
        for (_, list) in self.lists.iter().enumerate().filter(of_issuer) {
            // A list that cannot be searched must not pass for one that does not name it.
            if !matches!(list.parsed.find_serial(serial), Ok(None)) {
                return Err(Standing::Revoked);
            }
            if list.is_current(now_s) {
                current = current.max(Some(list.next_update_s));
            }
            latest = latest.max(Some(list.next_update_s));
        }
        current.ok_or_else(|| latest.map_or(Standing::Unknown, Standing::Stale))
    }

    pub(crate) fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.algorithms
    }

    /// The lists that were used.
    pub(crate) fn proven(&self) -> Vec<Proven> {
        let signatures = self.signatures.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |((at, _), key): (&(usize, Digest), &Option<Key>)| {
            let (list, key) = (self.lists.get(*at)?, key.clone()?);
            let issuer = list.parsed.issuer().to_vec();
            Some(Proven { issuer, key, number: list.number.clone() })
        };
        signatures.iter().filter_map(of).collect()
    }

    /// Whether there are lists of that issuer, and none as late as that one.
    pub(crate) fn is_behind(&self, proven: &Proven) -> bool {
        let is_of = |list: &&List| {
            list.parsed.issuer() == proven.issuer
                && signed(&list.der)
                    .is_some_and(|parts| is_signature_good(&self.algorithms, &parts, &proven.key))
        };
        let mut lists = self.lists.iter().filter(is_of).peekable();
        lists.peek().is_some() && lists.all(|list| is_lower(&list.number, &proven.number))
    }

    fn is_signed(&self, at: usize, list: &List, issuer: &Issuer) -> bool {
        let key = (at, issuer.key_digest);
        let known = || self.signatures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known().get(&key) {
            return key.is_some();
        }
        let is_good = signed(&list.der)
            .is_some_and(|parts| is_signature_good(&self.algorithms, &parts, &issuer.key));
        let mut known = known();
        if known.len() < SIGNATURES_MAX {
            known.insert(key, is_good.then(|| issuer.key.clone()));
        }
        is_good
    }
}

/// Whether a key, the content of a SubjectPublicKeyInfo, made a signature.
pub(crate) fn is_signature_good(
    algorithms: &WebPkiSupportedAlgorithms,
    signed: &Signed<'_>,
    spki: &[u8],
) -> bool {
    let Some((algorithm, bits)) = crate::der::sequence(spki) else { return false };
    let Some(key) = crate::der::bits(bits) else { return false };
    algorithms.all.iter().any(|one| {
        one.public_key_alg_id().as_ref() == algorithm
            && one.signature_alg_id().as_ref() == signed.algorithm
            && one.verify_signature(key, signed.content, signed.signature).is_ok()
    })
}

impl List {
    fn read(der: Vec<u8>) -> Result<List, String> {
        let parsed = OwnedCertRevocationList::from_der(&der).map_err(|e| match e {
            webpki::Error::UnsupportedDeltaCrl => {
                "it is a delta list; give whole ones only".to_owned()
            }
            e => format!("it cannot be read: {e}"),
        })?;
        let parsed = CertRevocationList::Owned(parsed);
        if parsed.issuing_distribution_point().is_some() {
            return Err("it covers a part of the authority's certificates only (issuing \
                        distribution point); give a list of all of them"
                .to_owned());
        }
        let (_, times) = CertificateRevocationList::from_der(&der).map_err(|e| e.to_string())?;
        let inner = times.tbs_cert_list.signature.algorithm.as_bytes();
        if times.signature_algorithm.algorithm.as_bytes() != inner || signed(&der).is_none() {
            return Err("its two algorithms differ".to_owned());
        }
        let next = times.next_update().ok_or("it does not say when the next one comes")?;
        let number = times.crl_number().ok_or("it has no number")?.to_bytes_be();
        Ok(List {
            parsed,
            this_update_s: times.last_update().timestamp(),
            next_update_s: next.timestamp(),
            number,
            der,
        })
    }

    fn is_current(&self, now_s: i64) -> bool {
        self.this_update_s <= now_s.saturating_add(CLOCK_SKEW_S) && now_s < self.next_update_s
    }
}

/// The lists in a file: one in DER, or any number in PEM.
fn ders(file: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    if file.first() == Some(&0x30) {
        return Ok(vec![file.to_vec()]);
    }
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(file).collect();
    let lists = lists.map_err(|e| e.to_string())?;
    if lists.is_empty() {
        return Err("the file holds no list, neither DER nor PEM (X509 CRL)".to_owned());
    }
    Ok(lists.iter().map(|list| list.to_vec()).collect())
}
