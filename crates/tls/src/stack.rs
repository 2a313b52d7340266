//! Two worlds: international and national cryptography. A connection is wholly of one of them.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::sign::SigningKey;
use rustls::{CertificateError, CipherSuite, CommonState, NamedGroup, OtherError};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::der::algorithm;
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

    /// The rustls provider that has this stack and nothing else. Of the international groups the
    /// post-quantum one stands first; a client's first hello has a share of it and one of X25519,
    /// so that a service without it need not ask again.
    #[must_use]
    pub fn provider(self) -> Arc<CryptoProvider> {
        match self {
            Stack::International => {
                let mut provider = rustls::crypto::aws_lc_rs::default_provider();
                provider.kx_groups.sort_by_key(|group| group.name() != NamedGroup::X25519MLKEM768);
                Arc::new(provider)
            }
            Stack::National => national::provider(),
        }
    }

    /// A private key that signs by this stack's schemes. The bytes are borrowed: whoever has them
    /// wipes them.
    pub(crate) fn signing_key(
        self,
        key: &PrivateKeyDer<'_>,
    ) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        match self {
            Stack::International => rustls::crypto::aws_lc_rs::sign::any_supported_type(key),
            Stack::National => national::signing_key(key),
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

/// Suite and group of a finished handshake, whether or not they fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Name of the suite.
    pub suite: &'static str,
    /// Name of the key-agreement group.
    pub group: &'static str,
}

impl Chosen {
    /// Nothing before both are chosen.
    #[must_use]
    pub fn of(connection: &CommonState) -> Option<Chosen> {
        let suite = suite_name(connection.negotiated_cipher_suite()?.suite());
        let group = group_name(connection.negotiated_key_exchange_group()?.name());
        Some(Chosen { suite, group })
    }
}

impl From<Negotiated> for Chosen {
    fn from(Negotiated { suite, group, .. }: Negotiated) -> Chosen {
        Chosen { suite, group }
    }
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
pub(crate) fn suite_name(suite: CipherSuite) -> &'static str {
    match suite {
        SM4_GCM => "TLS_SM4_GCM_SM3",
        SM4_CCM => "TLS_SM4_CCM_SM3",
        other => other.as_str().unwrap_or("unknown"),
    }
}

pub(crate) fn group_name(group: NamedGroup) -> &'static str {
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

/// The error for a certificate of the other stack.
pub(crate) fn foreign() -> rustls::Error {
    let foreign = CertificateError::Other(OtherError(Arc::new(Foreign)));
    rustls::Error::InvalidCertificate(foreign)
}

/// Most certificates that the other side may show, its own included.
pub(crate) const CHAIN_CERTIFICATES_MAX: usize = 8;
/// Most bytes of them together.
pub(crate) const CHAIN_BYTES_MAX: usize = 32 * 1024;

/// A chain over one of the bounds.
#[derive(Debug)]
pub(crate) struct TooLong;

impl core::fmt::Display for TooLong {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "over {CHAIN_CERTIFICATES_MAX} certificates or {CHAIN_BYTES_MAX} bytes")
    }
}

impl core::error::Error for TooLong {}

/// The chain must keep its bounds, and key and signature of every certificate shown must be of this
/// stack.
pub(crate) fn check_chain(
    stack: Stack,
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
) -> Result<(), rustls::Error> {
    let bytes = others.iter().fold(leaf.len(), |sum, one| sum.saturating_add(one.len()));
    if others.len() >= CHAIN_CERTIFICATES_MAX || bytes > CHAIN_BYTES_MAX {
        let too_long = CertificateError::Other(OtherError(Arc::new(TooLong)));
        return Err(rustls::Error::InvalidCertificate(too_long));
    }
    for certificate in std::iter::once(leaf).chain(others) {
        let fits = Stack::of_certificate(certificate)? == stack
            && signed_by(certificate).is_some_and(|by| by == stack);
        if !fits {
            return Err(foreign());
        }
    }
    Ok(())
}

/// By the algorithm in a certificate. With NULL parameters it is the national one too, and refused
/// by the verifier.
fn signed_by(certificate: &[u8]) -> Option<Stack> {
    Some(Stack::of(algorithm(certificate)?.starts_with(SIGNATURE_ALGORITHM)))
}
