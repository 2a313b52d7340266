//! SM2 signatures as webpki sees them: one algorithm, under two identities.

use moat_sm::sm2::{DEFAULT_ID, TLS13_ID};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};

use super::{BACKEND, KEY_ALGORITHM, SIGNATURE_ALGORITHM, SM2SIG_SM3};

/// Chains are signed under the default identity, handshakes under that of RFC 8998 §3.2.1. There
/// is no way for one to pass as the other.
pub(crate) const SUPPORTED: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[&Sm2 { id: DEFAULT_ID }],
    mapping: &[(SM2SIG_SM3, &[&Sm2 { id: TLS13_ID }])],
};

#[derive(Debug)]
struct Sm2 {
    id: &'static [u8],
}

impl SignatureVerificationAlgorithm for Sm2 {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        BACKEND.verify(public_key, self.id, message, signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        AlgorithmIdentifier::from_slice(KEY_ALGORITHM)
    }

    /// Parameters are absent. A certificate that says NULL there is refused.
    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        AlgorithmIdentifier::from_slice(SIGNATURE_ALGORITHM)
    }
}
