//! From a chain that was shown to the path that vouches for it.
//!
//! Before anything is verified the chain is cut down to what could matter: certificates that no
//! name leads to, repeated ones and copies of trusted roots are dropped. What is left is a part of
//! what was shown, so nothing becomes trusted by it; and webpki looks for issuers by name, so
//! nothing that it could have used is missing. The path that it finds is remembered by the bytes of the
//! chain: a caller that comes again costs no signatures but its own. Times and lists of revoked
//! certificates are looked at each time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256, digest};
use moat_model::Code;
use moat_model::code::tls;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::{CertificateError, OtherError, RootCertStore};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{Cert, EndEntityCert, KeyUsage, VerifiedPath};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::der::{sequence, subject};
use crate::ocsp::{self, Said};
use crate::revocation::{Depth, Digest, Issuer, Lists, Standing};
use crate::sct::Logs;
use crate::stack::{Stack, check_chain};

/// Most paths that are remembered of one group of authorities. Each has its chain, 32 KiB at most.
const PATHS_MAX: usize = 1_024;

/// What vouches for a chain: the certificates that were needed, and until when.
#[derive(Debug)]
pub struct Path {
    /// Leaf first, without the root.
    chain: Vec<CertificateDer<'static>>,
    /// What might have been needed too, and may be once another root is trusted.
    spare: Vec<CertificateDer<'static>>,
    links: Vec<Link>,
    anchor: Digest,
    not_before_s: i64,
    not_after_s: i64,
}

/// One certificate of a path, as its issuer knows it.
#[derive(Debug)]
struct Link {
    issuer: Issuer,
    serial: Vec<u8>,
}

/// Why a path does not hold any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The root is none of those trusted.
    Anchor,
    /// A certificate has expired.
    Expired,
    /// A list of revoked certificates speaks against it, or none for it.
    Standing(Standing),
}

impl Broken {
    /// The code of a caller's path.
    #[must_use]
    pub fn code(self) -> &'static Code {
        match self {
            Broken::Anchor => &tls::UNKNOWN_ISSUER,
            Broken::Expired => &tls::EXPIRED,
            Broken::Standing(Standing::Revoked) => &tls::REVOKED,
            Broken::Standing(Standing::Unknown) => &tls::REVOCATION_UNKNOWN,
            Broken::Standing(Standing::Stale(_)) => &tls::REVOCATION_STALE,
        }
    }
}

impl Path {
    /// Of somebody that no certificate vouches for: no judge believes it, and nothing of it expires.
    #[must_use]
    pub fn of_nobody() -> Path {
        Path {
            chain: Vec::new(),
            spare: Vec::new(),
            links: Vec::new(),
            anchor: Digest::default(),
            not_before_s: 0,
            not_after_s: i64::MAX,
        }
    }

    /// The certificates that were needed, leaf first, without the root.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Bytes of the chain as it was shown that were not needed.
    #[must_use]
    pub fn spared_bytes(&self, shown: &[CertificateDer<'_>]) -> usize {
        let bytes = |chain: &[CertificateDer<'_>]| chain.iter().map(|one| one.len()).sum::<usize>();
        bytes(shown).saturating_sub(bytes(&self.chain))
    }

    /// When the first of its certificates expires, in seconds since 1970.
    #[must_use]
    pub fn not_after_s(&self) -> i64 {
        self.not_after_s
    }
}

/// Which side the chain is of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Usage {
    Client,
    Server,
}

impl Usage {
    fn key_usage(self) -> KeyUsage {
        match self {
            Usage::Client => KeyUsage::client_auth(),
            Usage::Server => KeyUsage::server_auth(),
        }
    }
}

/// Whom to trust within one stack, and what is known of revoked certificates.
#[derive(Debug)]
pub(crate) struct Judge {
    stack: Stack,
    usage: Usage,
    anchors: Vec<TrustAnchor<'static>>,
    digests: Vec<Digest>,
    algorithms: WebPkiSupportedAlgorithms,
    lists: Lists,
    depth: Depth,
    must_staple: bool,
    paths: Mutex<HashMap<Digest, Arc<Path>>>,
    /// The logs that must have signed the end's own certificate, if any must.
    logs: Option<Logs>,
    /// Until when the response holds that was stapled last to a certificate, in seconds since 1970.
    staples: Mutex<HashMap<Digest, i64>>,
}

impl Judge {
    pub(crate) fn new(
        stack: Stack,
        usage: Usage,
        roots: RootCertStore,
        lists: Lists,
        depth: Depth,
        must_staple: bool,
    ) -> Judge {
        let anchors = roots.roots;
        let digests = anchors.iter().map(digest_of).collect();
        let algorithms = stack.provider().signature_verification_algorithms;
        let (paths, staples) = Default::default();
        Judge {
            stack,
            usage,
            anchors,
            digests,
            algorithms,
            lists,
            depth,
            must_staple,
            paths,
            staples,
            logs: None,
        }
    }

    /// The same, where logs must have signed the end's own certificate.
    pub(crate) fn with_logs(self, logs: Option<Logs>) -> Judge {
        Judge { logs, ..self }
    }

    pub(crate) fn must_staple(&self) -> bool {
        self.must_staple
    }

    pub(crate) fn stack(&self) -> Stack {
        self.stack
    }

    pub(crate) fn lists(&self) -> &Lists {
        &self.lists
    }

    pub(crate) fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.algorithms
    }

    /// The path of a chain that was shown.
    ///
    /// # Errors
    /// What webpki has against it, or a list of revoked certificates.
    pub(crate) fn path(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Arc<Path>, rustls::Error> {
        check_chain(self.stack, leaf, others)?;
        let kept = trim(leaf, others, &self.anchors);
        let name = digest_of_chain(leaf, &kept);
        let known = self.known().get(&name).map(Arc::clone);
        if let Some(path) = known
            && seconds(now) >= path.not_before_s
            && self.still_holds(&path, seconds(now)).is_ok()
        {
            return Ok(path);
        }
        let path = Arc::new(self.find(leaf, &kept, now)?);
        let mut known = self.known();
        if known.len() >= PATHS_MAX {
            known.clear();
        }
        known.insert(name, Arc::clone(&path));
        Ok(path)
    }

    /// Whether a path that was found before, by this judge or the one before it, holds now; and the
    /// first second in which that must be asked again.
    pub(crate) fn still_holds(&self, path: &Path, now_s: i64) -> Result<i64, Broken> {
        if !self.digests.contains(&path.anchor) {
            return Err(Broken::Anchor);
        }
        if now_s > path.not_after_s {
            return Err(Broken::Expired);
        }
        let until_s = self.stand(&path.links, now_s).map_err(Broken::Standing)?;
        Ok(until_s.min(path.not_after_s.saturating_add(1)))
    }

    /// The same, and where it does not: whether another way leads to a root from what was shown.
    pub(crate) fn believes(&self, path: &Path, now_s: i64) -> Result<i64, Broken> {
        self.still_holds(path, now_s).or_else(|broken| {
            let (leaf, others) = path.chain.split_first().ok_or(broken)?;
            let others: Vec<_> = others.iter().chain(&path.spare).cloned().collect();
            let seconds = std::time::Duration::from_secs(u64::try_from(now_s).unwrap_or(0));
            let other = self.path(leaf, &others, UnixTime::since_unix_epoch(seconds));
            other.map_err(|_| broken).and_then(|path| self.still_holds(&path, now_s))
        })
    }

    /// Looks into the OCSP response that a service stapled, if it must.
    ///
    /// # Errors
    /// It stapled none, or none that says that its certificate is good now; or one that says that it
    /// was revoked.
    pub(crate) fn staple(
        &self,
        path: &Path,
        response: &[u8],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        if response.is_empty() && !self.must_staple {
            return Ok(());
        }
        let none = CertificateError::InvalidOcspResponse;
        let Some(link) = path.links.first() else { return Err(none.into()) };
        match ocsp::said(response, &link.issuer, &link.serial, &self.lists, seconds(now)) {
            Ok(Said::Good { until_s }) => {
                self.remember_staple(path, until_s);
                Ok(())
            }
            Ok(Said::Revoked) => Err(CertificateError::Revoked.into()),
            Err(_) if !self.must_staple => Ok(()),
            Err(_) => Err(none.into()),
        }
    }

    /// A path whose end is in enough logs. Asked for when it is found, not when it is looked at
    /// again: what a log has signed stays signed.
    fn is_logged(
        &self,
        leaf: &CertificateDer<'_>,
        path: Path,
        now: UnixTime,
    ) -> Result<Path, rustls::Error> {
        let Some(logs) = &self.logs else { return Ok(path) };
        let now_ms = now.as_secs().saturating_mul(1_000);
        let issuer = path.links.first().map(|link| &link.issuer);
        let issuer = issuer.ok_or(CertificateError::UnknownIssuer)?;
        match logs.check(leaf, issuer, now_ms) {
            Ok(()) => Ok(path),
            Err(few) => Err(CertificateError::Other(OtherError(Arc::new(few))).into()),
        }
    }

    fn remember_staple(&self, path: &Path, until_s: i64) {
        let Some(leaf) = path.chain.first() else { return };
        let mut staples = self.staples.lock().unwrap_or_else(PoisonError::into_inner);
        if staples.len() >= PATHS_MAX {
            staples.clear();
        }
        staples.insert(bytes_of(digest(&SHA256, leaf)), until_s);
    }

    /// Until when what was stapled to a path holds; for ever where nothing must be.
    pub(crate) fn staple_until_s(&self, path: &Path) -> i64 {
        if !self.must_staple {
            return i64::MAX;
        }
        let Some(leaf) = path.chain.first() else { return 0 };
        let staples = self.staples.lock().unwrap_or_else(PoisonError::into_inner);
        staples.get(&bytes_of(digest(&SHA256, leaf))).copied().unwrap_or(0)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Arc<Path>>> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until when nothing bad is known of what is to be looked at.
    fn stand(&self, links: &[Link], now_s: i64) -> Result<i64, Standing> {
        let looked_at = match self.depth {
            Depth::None => 0,
            Depth::Leaf => 1,
            Depth::All => links.len(),
        };
        links.iter().take(looked_at).try_fold(i64::MAX, |until_s, link| {
            Ok(self.lists.judge(&link.issuer, &link.serial, now_s)?.min(until_s))
        })
    }

    fn find(
        &self,
        leaf: &CertificateDer<'_>,
        kept: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Path, rustls::Error> {
        let end = EndEntityCert::try_from(leaf).map_err(error_of)?;
        let (found, against) = (RefCell::new(None), RefCell::new(None));
        let look = |path: &VerifiedPath<'_>| {
            let path = read(path, kept)?;
            if let Err(standing) = self.stand(&path.links, seconds(now)) {
                against.replace(Some(standing));
                return Err(error_for(standing, now));
            }
            found.replace(Some(path));
            Ok(())
        };
        let verified = end.verify_for_usage(
            self.algorithms.all,
            &self.anchors,
            kept,
            now,
            self.usage.key_usage(),
            None,
            Some(&look),
        );
        match (verified, found.into_inner(), against.into_inner()) {
            (Ok(_), Some(path), _) => self.is_logged(leaf, path, now),
            // Of several ways to a root, one may be spoken against and the next lead nowhere.
            (Err(_), _, Some(standing)) => Err(error_of(error_for(standing, now))),
            (Err(error), _, None) => Err(error_of(error)),
            (Ok(_), None, _) => Err(CertificateError::UnknownIssuer.into()),
        }
    }
}

/// An issuer as its certificate tells.
pub(crate) fn issuer(certificate: &CertificateDer<'_>) -> Result<Issuer, webpki::Error> {
    issuer_of(&*EndEntityCert::try_from(certificate)?)
}

/// The serial number of a certificate.
pub(crate) fn serial(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, webpki::Error> {
    Ok(EndEntityCert::try_from(certificate)?.serial().to_vec())
}

pub(crate) fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

fn digest_of_chain(leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Digest {
    let mut context = Context::new(&SHA256);
    for one in std::iter::once(leaf).chain(others) {
        context.update(&one.len().to_be_bytes());
        context.update(one);
    }
    bytes_of(context.finish())
}

fn digest_of(anchor: &TrustAnchor<'_>) -> Digest {
    let constraints = anchor.name_constraints.as_deref().unwrap_or_default();
    let parts = [&*anchor.subject, &*anchor.subject_public_key_info, constraints];
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    bytes_of(context.finish())
}

fn bytes_of(digest: aws_lc_rs::digest::Digest) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

/// The certificates that names lead to from the leaf, each once and none that is a trusted root.
fn trim<'a>(
    leaf: &CertificateDer<'_>,
    others: &'a [CertificateDer<'a>],
    anchors: &[TrustAnchor<'_>],
) -> Vec<CertificateDer<'a>> {
    let mut kept: Vec<CertificateDer<'a>> = Vec::new();
    let mut wanted: Vec<&[u8]> = crate::der::issuer(leaf).into_iter().collect();
    let mut at = 0;
    while let Some(name) = wanted.get(at).copied() {
        at += 1;
        for one in others.iter().filter(|one| subject(one) == Some(name)) {
            if kept.contains(one) || is_anchor(one, anchors) {
                continue;
            }
            wanted.extend(crate::der::issuer(one).filter(|next| !wanted.contains(next)));
            kept.push(one.clone());
        }
    }
    kept
}

/// Whether a certificate is a copy of a trusted root: the same name and the same key. One that is
/// trusted for some names only may be needed for others, by another root.
fn is_anchor(certificate: &CertificateDer<'_>, anchors: &[TrustAnchor<'_>]) -> bool {
    let Some(name) = subject(certificate).and_then(|name| Some(sequence(name)?.0)) else {
        return false;
    };
    let Ok(parsed) = EndEntityCert::try_from(certificate) else { return false };
    let key = parsed.subject_public_key_info();
    let key = sequence(&key).map(|(content, _)| content);
    anchors
        .iter()
        .filter(|one| one.name_constraints.is_none())
        .any(|one| &*one.subject == name && Some(&*one.subject_public_key_info) == key)
}

/// What must be known of a path later.
fn read(path: &VerifiedPath<'_>, kept: &[CertificateDer<'_>]) -> Result<Path, webpki::Error> {
    let certificates: Vec<&Cert<'_>> =
        std::iter::once(&**path.end_entity()).chain(path.intermediate_certificates()).collect();
    let (mut links, mut not_before_s, mut not_after_s) = (Vec::new(), i64::MIN, i64::MAX);
    for (at, certificate) in certificates.iter().enumerate() {
        let issuer = match certificates.get(at + 1) {
            Some(issuer) => issuer_of(issuer)?,
            None => root_of(path.anchor()),
        };
        links.push(Link { issuer, serial: certificate.serial().to_vec() });
        let der = certificate.der();
        let (_, times) = X509Certificate::from_der(&der).map_err(|_| webpki::Error::BadDer)?;
        not_before_s = not_before_s.max(times.validity().not_before.timestamp());
        not_after_s = not_after_s.min(times.validity().not_after.timestamp());
    }
    let chain: Vec<_> = certificates.iter().map(|one| one.der().into_owned()).collect();
    let spare = kept.iter().filter(|one| !chain.contains(one));
    Ok(Path {
        spare: spare.map(|one| one.clone().into_owned()).collect(),
        chain,
        links,
        anchor: digest_of(path.anchor()),
        not_before_s,
        not_after_s,
    })
}

fn issuer_of(certificate: &Cert<'_>) -> Result<Issuer, webpki::Error> {
    let spki = certificate.subject_public_key_info();
    let (key, _) = sequence(&spki).ok_or(webpki::Error::BadDer)?;
    let der = certificate.der();
    let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| webpki::Error::BadDer)?;
    let usage = parsed.key_usage().map_err(|_| webpki::Error::BadDer)?;
    Ok(Issuer {
        name: certificate.subject().to_vec(),
        key: key.to_vec(),
        key_digest: bytes_of(digest(&SHA256, key)),
        may_sign_lists: usage.is_none_or(|usage| usage.value.crl_sign()),
    })
}

fn root_of(anchor: &TrustAnchor<'_>) -> Issuer {
    let key = anchor.subject_public_key_info.to_vec();
    Issuer {
        name: anchor.subject.to_vec(),
        key_digest: bytes_of(digest(&SHA256, &key)),
        key,
        may_sign_lists: true,
    }
}

fn error_for(standing: Standing, now: UnixTime) -> webpki::Error {
    match standing {
        Standing::Revoked => webpki::Error::CertRevoked,
        Standing::Unknown => webpki::Error::UnknownRevocationStatus,
        Standing::Stale(next_s) => {
            let next = std::time::Duration::from_secs(u64::try_from(next_s).unwrap_or(0));
            let next_update = UnixTime::since_unix_epoch(next);
            webpki::Error::CrlExpired { time: now, next_update }
        }
    }
}

/// webpki's errors as rustls names them, so that the peer gets the alert that belongs to each.
fn error_of(error: webpki::Error) -> rustls::Error {
    use webpki::Error as E;
    let error = match error {
        E::BadDer | E::BadDerTime | E::TrailingData(_) => CertificateError::BadEncoding,
        E::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        E::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        E::InvalidCertValidity => CertificateError::Expired,
        E::UnknownIssuer => CertificateError::UnknownIssuer,
        E::CertRevoked => CertificateError::Revoked,
        E::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        E::CrlExpired { time, next_update } => {
            CertificateError::ExpiredRevocationListContext { time, next_update }
        }
        E::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        E::UnsupportedSignatureAlgorithmContext(context) => {
            CertificateError::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: context.signature_algorithm_id,
                supported_algorithms: context.supported_algorithms,
            }
        }
        E::UnsupportedSignatureAlgorithmForPublicKeyContext(context) => {
            CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: context.signature_algorithm_id,
                public_key_algorithm_id: context.public_key_algorithm_id,
            }
        }
        E::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    error.into()
}
