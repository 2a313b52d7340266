//! TLS_SM4_GCM_SM3 and TLS_SM4_CCM_SM3: records of TLS 1.3 (RFC 8446 §5.2).

use moat_sm::backend::{Aead, Mode};
use moat_sm::sm4::{KEY_BYTES, TAG_BYTES};
use rustls::crypto::CipherSuiteCommon;
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter,
    Nonce, OutboundOpaqueMessage, OutboundPlainMessage, PrefixedPayload, Tls13AeadAlgorithm,
    UnsupportedOperationError, make_tls13_aad,
};
use rustls::crypto::tls13::HkdfUsingHmac;
use rustls::{
    CipherSuite, ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion,
    SupportedCipherSuite, Tls13CipherSuite,
};
use zeroize::Zeroizing;

use super::hash::{HmacSm3, Sm3};
use super::{BACKEND, SM4_CCM, SM4_GCM};

/// Records under one key: with blocks of 128 bits the bound of AES holds (RFC 8446 §5.5 for GCM,
/// RFC 9147 §4.5.3 for CCM). rustls changes the key when it is reached.
const GCM_RECORDS_MAX: u64 = 1 << 24;
const CCM_RECORDS_MAX: u64 = 1 << 23;

/// GCM first: CCM is many times slower.
pub(super) static SUITES: [SupportedCipherSuite; 2] =
    [SupportedCipherSuite::Tls13(&GCM), SupportedCipherSuite::Tls13(&CCM)];

static GCM: Tls13CipherSuite = suite(SM4_GCM, GCM_RECORDS_MAX, &Sm4(Mode::Gcm));
static CCM: Tls13CipherSuite = suite(SM4_CCM, CCM_RECORDS_MAX, &Sm4(Mode::Ccm));

const fn suite(
    suite: CipherSuite,
    confidentiality_limit: u64,
    aead_alg: &'static dyn Tls13AeadAlgorithm,
) -> Tls13CipherSuite {
    Tls13CipherSuite {
        common: CipherSuiteCommon { suite, hash_provider: &Sm3, confidentiality_limit },
        hkdf_provider: &HkdfUsingHmac(&HmacSm3),
        aead_alg,
        quic: None,
    }
}

struct Sm4(Mode);

impl Sm4 {
    fn protect(&self, key: &AeadKey, iv: Iv) -> Protection {
        // rustls asks for `key_len()` bytes and so gives as many. Were it otherwise, no record
        // could be sealed or opened.
        let aead = key.as_ref().first_chunk::<KEY_BYTES>().map(|bytes| {
            let key = Zeroizing::new(*bytes);
            BACKEND.aead(self.0, &key)
        });
        Protection { aead, iv }
    }
}

impl Tls13AeadAlgorithm for Sm4 {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(self.protect(&key, iv))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        Box::new(self.protect(&key, iv))
    }

    fn key_len(&self) -> usize {
        KEY_BYTES
    }

    /// No kernel or QUIC stack takes SM4 keys, so they stay here.
    fn extract_keys(
        &self,
        _key: AeadKey,
        _iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        Err(UnsupportedOperationError)
    }
}

/// The keys of one direction.
struct Protection {
    aead: Option<Box<dyn Aead>>,
    iv: Iv,
}

impl MessageEncrypter for Protection {
    fn encrypt(
        &mut self,
        msg: OutboundPlainMessage<'_>,
        seq: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        let aead = self.aead.as_ref().ok_or(Error::EncryptError)?;
        let length = self.encrypted_payload_len(msg.payload.len());
        let mut payload = PrefixedPayload::with_capacity(length);
        payload.extend_from_chunks(&msg.payload);
        payload.extend_from_slice(&msg.typ.to_array());
        let nonce = Nonce::new(&self.iv, seq).0;
        let tag = aead
            .seal(&nonce, &make_tls13_aad(length), payload.as_mut())
            .map_err(|_| Error::EncryptError)?;
        payload.extend_from_slice(&tag);
        Ok(OutboundOpaqueMessage::new(
            ContentType::ApplicationData,
            // RFC 8446 §5.1: the version that every record after the first shows.
            ProtocolVersion::TLSv1_2,
            payload,
        ))
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        payload_len + 1 + TAG_BYTES
    }
}

impl MessageDecrypter for Protection {
    fn decrypt<'a>(
        &mut self,
        mut msg: InboundOpaqueMessage<'a>,
        seq: u64,
    ) -> Result<InboundPlainMessage<'a>, Error> {
        let aead = self.aead.as_ref().ok_or(Error::DecryptError)?;
        let payload = &mut msg.payload;
        let aad = make_tls13_aad(payload.len());
        let length = payload.len().checked_sub(TAG_BYTES).ok_or(Error::DecryptError)?;
        let (text, tag) = payload.split_at_mut_checked(length).ok_or(Error::DecryptError)?;
        let nonce = Nonce::new(&self.iv, seq).0;
        aead.open(&nonce, &aad, text, tag).map_err(|_| Error::DecryptError)?;
        payload.truncate(length);
        msg.into_tls13_unpadded_message()
    }
}
