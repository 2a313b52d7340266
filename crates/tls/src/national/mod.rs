//! RFC 8998 for rustls: two suites, one group, one signature scheme, all from `moat-sm`.
//!
//! A configuration made of this provider can negotiate nothing else: rustls chooses suite, group
//! and certificate independently, so a configuration with both stacks would allow mixtures.

mod cipher;
mod group;
mod hash;
mod key;
mod verify;

use std::sync::{Arc, LazyLock};

use moat_sm::backend::{Backend, Native};
use rustls::crypto::{CryptoProvider, GetRandomFailed, SecureRandom};
use rustls::{CipherSuite, NamedGroup, SignatureScheme};

pub(crate) use key::signing_key;
pub(crate) use verify::SUPPORTED;

/// The implementation of the algorithms. A certified module takes its place here.
static BACKEND: &dyn Backend = &Native;

/// TLS_SM4_GCM_SM3, RFC 8998 §2.
pub(crate) const SM4_GCM: CipherSuite = CipherSuite::Unknown(0x00c6);
/// TLS_SM4_CCM_SM3, RFC 8998 §2.
pub(crate) const SM4_CCM: CipherSuite = CipherSuite::Unknown(0x00c7);
/// curveSM2, RFC 8998 §2.
pub(crate) const CURVE_SM2: NamedGroup = NamedGroup::Unknown(41);
/// sm2sig_sm3, RFC 8998 §2.
pub(crate) const SM2SIG_SM3: SignatureScheme = SignatureScheme::Unknown(0x0708);

/// id-ecPublicKey with the SM2 curve: the content of a key's AlgorithmIdentifier.
pub(crate) const KEY_ALGORITHM: &[u8] = &[
    0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, //
    0x06, 0x08, 0x2a, 0x81, 0x1c, 0xcf, 0x55, 0x01, 0x82, 0x2d,
];
/// SM2 with SM3, parameters absent: the content of a signature's AlgorithmIdentifier.
pub(crate) const SIGNATURE_ALGORITHM: &[u8] =
    &[0x06, 0x08, 0x2a, 0x81, 0x1c, 0xcf, 0x55, 0x01, 0x83, 0x75];

/// The source of randomness is that of the international provider: the operating system's.
static RANDOM: LazyLock<&'static dyn SecureRandom> =
    LazyLock::new(|| rustls::crypto::aws_lc_rs::default_provider().secure_random);

/// Fresh bytes for keys, nonces and hedging.
fn entropy<const N: usize>() -> Result<zeroize::Zeroizing<[u8; N]>, GetRandomFailed> {
    let mut bytes = zeroize::Zeroizing::new([0; N]);
    RANDOM.fill(&mut *bytes)?;
    Ok(bytes)
}

/// The national provider.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: cipher::SUITES.to_vec(),
        kx_groups: vec![&group::CurveSm2],
        signature_verification_algorithms: SUPPORTED,
        secure_random: *RANDOM,
        key_provider: &key::Keys,
    })
}
