//! Two worlds: international and national cryptography. A connection is wholly of one of them.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, CipherSuite, CommonState, NamedGroup, OtherError};
use rustls_pki_types::CertificateDer;

use crate::national::{self, CURVE_SM2, KEY_ALGORITHM, SIGNATURE_ALGORITHM, SM4_CCM, SM4_GCM};

/// One of the two worlds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    /// ECDSA or RSA, AES or ChaCha20, X25519 and its kin.
    International,
    /// SM2, SM3, SM4 (RFC 8998).
    National,
}

impl Stack {
    fn of(is_national: bool) -> Stack {
        if is_national { Stack::National } else { Stack::International }
    }

    /// The stack of a certificate, by its key.
    ///
    /// # Errors
    /// If it is no certificate.
    pub fn of_certificate(der: &CertificateDer<'_>) -> Result<Stack, rustls::Error> {
        let spki = ParsedCertificate::try_from(der)?.subject_public_key_info();
        // SEQUENCE of 89 bytes; a key of another length is no SM2 key.
        let content = spki.as_ref().strip_prefix(&[0x30, 89]);
        Ok(content.map_or(Stack::International, Stack::of_key))
    }

    /// By the content of a SubjectPublicKeyInfo.
    pub(crate) fn of_key(content: &[u8]) -> Stack {
        Stack::of(content.strip_prefix(&[0x30, 19]).is_some_and(|c| c.starts_with(KEY_ALGORITHM)))
    }

    pub(crate) fn of_suite(suite: CipherSuite) -> Stack {
        Stack::of(suite == SM4_GCM || suite == SM4_CCM)
    }

    fn of_group(group: NamedGroup) -> Stack {
        Stack::of(group == CURVE_SM2)
    }

    /// The rustls provider that has this stack and nothing else.
    #[must_use]
    pub fn provider(self) -> Arc<CryptoProvider> {
        match self {
            Stack::International => Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            Stack::National => national::provider(),
        }
    }
}

/// What a finished handshake came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// Name of the suite.
    pub suite: &'static str,
    /// Name of the key-agreement group.
    pub group: &'static str,
    /// The stack of suite, group and the other side's key.
    pub stack: Stack,
}

impl Negotiated {
    /// Nothing if suite, group and the other side's key are not all of one stack.
    #[must_use]
    pub fn of(connection: &CommonState) -> Option<Negotiated> {
        let suite = connection.negotiated_cipher_suite()?.suite();
        let group = connection.negotiated_key_exchange_group()?.name();
        let leaf = connection.peer_certificates()?.first()?;
        let stack = Stack::of_suite(suite);
        let agree = Stack::of_group(group) == stack && Stack::of_certificate(leaf) == Ok(stack);
        let (suite, group) = (suite_name(suite), group_name(group));
        agree.then_some(Negotiated { suite, group, stack })
    }
}

/// RFC 8998 names what rustls has no name for.
fn suite_name(suite: CipherSuite) -> &'static str {
    match suite {
        SM4_GCM => "TLS_SM4_GCM_SM3",
        SM4_CCM => "TLS_SM4_CCM_SM3",
        other => other.as_str().unwrap_or("unknown"),
    }
}

fn group_name(group: NamedGroup) -> &'static str {
    if group == CURVE_SM2 { "curveSM2" } else { group.as_str().unwrap_or("unknown") }
}

/// A certificate of the other world.
#[derive(Debug)]
pub(crate) struct Foreign;

impl core::fmt::Display for Foreign {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("a certificate of the chain has a key or signature of the other stack")
    }
}

impl core::error::Error for Foreign {}

/// Key and signature of every certificate shown must be of this stack.
pub(crate) fn check_chain(
    stack: Stack,
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
) -> Result<(), rustls::Error> {
    for certificate in std::iter::once(leaf).chain(others) {
        let fits = Stack::of_certificate(certificate)? == stack
            && signed_by(certificate).is_some_and(|by| by == stack);
        if !fits {
            let foreign = CertificateError::Other(OtherError(Arc::new(Foreign)));
            return Err(rustls::Error::InvalidCertificate(foreign));
        }
    }
    Ok(())
}

/// By the algorithm that stands between the signed part and the signature (RFC 5280 §4.1).
fn signed_by(certificate: &[u8]) -> Option<Stack> {
    let (content, _) = sequence(certificate)?;
    let (_, rest) = sequence(content)?;
    let (algorithm, _) = sequence(rest)?;
    // With NULL parameters it is the national algorithm too, and refused by the verifier.
    Some(Stack::of(algorithm.starts_with(SIGNATURE_ALGORITHM)))
}

/// The content of a SEQUENCE, and what follows it. webpki has judged the whole before.
fn sequence(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = der.strip_prefix(&[0x30])?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..0x80 => (usize::from(*first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        0x80 | 0x84.. => return None,
    };
    rest.split_at_checked(length)
}
