//! Certificate transparency: what logs have signed of a certificate before it was issued (RFC 6962
//! §3.2, §3.3), in the list that is embedded in it.
//!
//! A log has signed the certificate without that list, together with its issuer's key. Nobody is
//! asked: the logs' keys are configured. Lists that come in the handshake or in an OCSP response are
//! not looked into.

use aws_lc_rs::digest::{SHA256, digest};
use moat_model::code::tls::LOG_KEY;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, alg_id};

use crate::der::{Signed, content, element, sequence, sequence_of, signed};
use crate::revocation::{Digest, Issuer, is_signature_good};
use crate::{Error, Stack};

/// Most logs of one group of authorities.
const LOGS_MAX: usize = 64;
/// Most timestamps in a certificate that are looked at.
const TIMESTAMPS_MAX: usize = 16;
/// How far ahead of ours a log's clock may be, in milliseconds.
const CLOCK_SKEW_MS: u64 = 300_000;
/// Object identifiers of the list, and of the mark of what is not yet a certificate: 1.3.6.1.4.1.11129.2.4.2
/// and .3.
const LIST: [u8; 10] = [0x2b, 0x06, 0x01, 0x04, 0x01, 0xd6, 0x79, 0x02, 0x04, 0x02];
const POISON: [u8; 10] = [0x2b, 0x06, 0x01, 0x04, 0x01, 0xd6, 0x79, 0x02, 0x04, 0x03];
/// SM2-with-SM3 (1.2.156.10197.1.501), as an AlgorithmIdentifier without its tag.
const SM2_WITH_SM3: [u8; 10] = [0x06, 0x08, 0x2a, 0x81, 0x1c, 0xcf, 0x55, 0x01, 0x83, 0x75];

/// The logs that are believed, and how many of them must have signed.
#[derive(Debug)]
pub(crate) struct Logs {
    logs: Vec<Log>,
    needed: usize,
}

#[derive(Debug)]
struct Log {
    /// SHA-256 of its SubjectPublicKeyInfo (RFC 6962 §3.2).
    id: Digest,
    /// The content of that.
    key: Vec<u8>,
}

/// A certificate that not enough logs have signed.
#[derive(Debug)]
pub(crate) struct TooFew {
    found: usize,
    needed: usize,
}

impl core::fmt::Display for TooFew {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} of {} logs have signed the certificate", self.found, self.needed)
    }
}

impl core::error::Error for TooFew {}

impl Logs {
    /// Reads public keys in PEM. Nothing where no log is needed.
    ///
    /// # Errors
    /// [`LOG_KEY`]: a file holds no key, a key stands twice, or there are fewer logs than needed.
    pub(crate) fn read(files: &[Vec<u8>], needed: usize) -> Result<Option<Logs>, Error> {
        let no = |why: &str| Error::new(&LOG_KEY, why);
        let mut logs: Vec<Log> = Vec::new();
        for file in files {
            let before = logs.len();
            for key in SubjectPublicKeyInfoDer::pem_slice_iter(file) {
                let der = key.map_err(|e| Error::new(&LOG_KEY, e))?;
                let (key, rest) = sequence(&der).ok_or_else(|| no("a log's key is malformed"))?;
                let id = sha256(&der);
                if !rest.is_empty() || logs.iter().any(|log| log.id == id) {
                    return Err(no("a log's key is malformed, or stands there twice"));
                }
                logs.push(Log { id, key: key.to_vec() });
            }
            if logs.len() == before {
                return Err(no("a log's file holds no PUBLIC KEY in PEM"));
            }
        }
        if logs.len() < needed || logs.len() > LOGS_MAX {
            let why = format!("{} logs, of which {needed} must have signed", logs.len());
            return Err(no(&why));
        }
        Ok((needed > 0).then_some(Logs { logs, needed }))
    }

    /// Whether enough of the logs have signed a certificate of that issuer's.
    pub(crate) fn check(
        &self,
        leaf: &CertificateDer<'_>,
        issuer: &Issuer,
        now_ms: u64,
    ) -> Result<(), TooFew> {
        let found = self.signers(leaf, issuer, now_ms).unwrap_or(0);
        if found >= self.needed { Ok(()) } else { Err(TooFew { found, needed: self.needed }) }
    }

    /// How many logs have signed it; nothing if it has no list, or a malformed one.
    fn signers(&self, leaf: &CertificateDer<'_>, issuer: &Issuer, now_ms: u64) -> Option<usize> {
        let (before, list) = before_logs(signed(leaf)?.content)?;
        let issuer_hash = sha256(&sequence_of(&issuer.key));
        let mut signers: Vec<&Digest> = Vec::new();
        for timestamp in timestamps(list)? {
            let timestamp = Timestamp::read(timestamp)?;
            let is_past = timestamp.at_ms <= now_ms.saturating_add(CLOCK_SKEW_MS);
            let log = self.logs.iter().find(|log| log.id.as_slice() == timestamp.log);
            let Some(log) = log.filter(|log| is_past && !signers.contains(&&log.id)) else {
                continue;
            };
            if timestamp.is_by(&log.key, &issuer_hash, &before) {
                signers.push(&log.id);
            }
        }
        Some(signers.len())
    }
}

/// How many timestamps are embedded in a certificate, and what its logs saw of it: the part that is
/// signed without them. Nothing if it has no whole list.
#[must_use]
pub fn embedded_timestamps(certificate: &[u8]) -> Option<(usize, Vec<u8>)> {
    let (before, list) = before_logs(signed(certificate)?.content)?;
    let timestamps = timestamps(list)?;
    let all = timestamps.iter().all(|one| Timestamp::read(one).is_some());
    all.then_some((timestamps.len(), before))
}

fn sha256(bytes: &[u8]) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// A to-be-signed certificate without its list of timestamps, as the logs saw it, and the list
/// (RFC 6962 §3.2). Nothing if there is not exactly one list, or it is marked as no certificate.
fn before_logs(to_be_signed: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (mut rest, _) = sequence(to_be_signed)?;
    let mut kept = Vec::with_capacity(to_be_signed.len());
    let mut list = None;
    while let Some(tag) = rest.first().copied() {
        let (inner, after) = element(rest, tag)?;
        if tag == 0xa3 {
            let (fewer, found) = without_list(inner)?;
            list = Some(found);
            if !fewer.is_empty() {
                let mut explicit = sequence_of(&sequence_of(&fewer));
                *explicit.first_mut()? = 0xa3;
                kept.extend_from_slice(&explicit);
            }
        } else {
            kept.extend_from_slice(content(rest, after)?);
        }
        rest = after;
    }
    Some((sequence_of(&kept), list?))
}

/// Extensions without the list, and what is in the list.
fn without_list(explicit: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (mut rest, end) = sequence(explicit)?;
    let (mut kept, mut list) = (Vec::new(), None);
    while !rest.is_empty() {
        let (extension, after) = sequence(rest)?;
        let (identifier, value) = element(extension, 0x06)?;
        if identifier == POISON {
            return None;
        }
        if identifier == LIST {
            // Critical or not: FALSE must not be written (X.690 §11.5), TRUE would be strange.
            let octets = element(value, 0x04)?;
            let inner = element(octets.0, 0x04)?;
            let is_whole = octets.1.is_empty() && inner.1.is_empty();
            if !is_whole || list.replace(inner.0).is_some() {
                return None;
            }
        } else {
            kept.extend_from_slice(content(rest, after)?);
        }
        rest = after;
    }
    end.is_empty().then_some((kept, list?))
}

/// What stands behind a length of two bytes, and what follows it (RFC 8446 §3.4).
fn opaque(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// The timestamps of a list; nothing if it is not exactly filled by them.
fn timestamps(list: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut rest, end) = opaque(list)?;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (one, after) = opaque(rest)?;
        if one.is_empty() || found.len() >= TIMESTAMPS_MAX {
            return None;
        }
        found.push(one);
        rest = after;
    }
    end.is_empty().then_some(found)
}

/// A signed certificate timestamp (RFC 6962 §3.2).
#[derive(Debug)]
struct Timestamp<'a> {
    log: &'a [u8],
    at_ms: u64,
    extensions: &'a [u8],
    /// SignatureAndHashAlgorithm (RFC 5246 §7.4.1.4.1).
    algorithm: [u8; 2],
    signature: &'a [u8],
}

impl<'a> Timestamp<'a> {
    fn read(bytes: &'a [u8]) -> Option<Timestamp<'a>> {
        let (version, rest) = bytes.split_first()?;
        let (log, rest) = rest.split_at_checked(32)?;
        let (at_ms, rest) = rest.split_first_chunk::<8>()?;
        let (extensions, rest) = opaque(rest)?;
        let (algorithm, rest) = rest.split_first_chunk::<2>()?;
        let (signature, rest) = opaque(rest)?;
        let at_ms = u64::from_be_bytes(*at_ms);
        let is_known = *version == 0 && rest.is_empty();
        is_known.then_some(Timestamp { log, at_ms, extensions, algorithm: *algorithm, signature })
    }

    fn is_by(&self, key: &[u8], issuer_hash: &Digest, before: &[u8]) -> bool {
        let Some(content) = self.content(issuer_hash, before) else { return false };
        let algorithm: &[u8] = match self.algorithm {
            [4, 3] => &alg_id::ECDSA_SHA256,
            [4, 1] => &alg_id::RSA_PKCS1_SHA256,
            [8, 7] => &alg_id::ED25519,
            [7, 8] => &SM2_WITH_SM3,
            _ => return false,
        };
        let signed = Signed { content: &content, algorithm, signature: self.signature };
        // A log need not be of the stack of the chain.
        [Stack::International, Stack::National].into_iter().any(|stack| {
            let algorithms = stack.provider().signature_verification_algorithms;
            is_signature_good(&algorithms, &signed, key)
        })
    }

    /// What the log has signed: version, kind, time, kind of the entry, the entry, extensions.
    fn content(&self, issuer_hash: &Digest, before: &[u8]) -> Option<Vec<u8>> {
        let mut content = Vec::with_capacity(before.len() + 64);
        content.extend_from_slice(&[0, 0]);
        content.extend_from_slice(&self.at_ms.to_be_bytes());
        content.extend_from_slice(&[0, 1]);
        content.extend_from_slice(issuer_hash);
        let length = u32::try_from(before.len()).ok().filter(|length| *length < 1 << 24)?;
        content.extend_from_slice(length.to_be_bytes().get(1..)?);
        content.extend_from_slice(before);
        let length = u16::try_from(self.extensions.len()).ok()?;
        content.extend_from_slice(&length.to_be_bytes());
        content.extend_from_slice(self.extensions);
        Some(content)
    }
}
