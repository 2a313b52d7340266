//! Time-stamp requests and tokens (RFC 3161): a request is written, a token is verified.
//!
//! A token is believed only if a key signed it whose certificate was issued, for time stamping, by an
//! authority that the caller names. Nothing else in it is looked at.

use aws_lc_rs::digest;
use cms::cert::CertificateChoices;
use cms::content_info::ContentInfo;
use cms::signed_data::{SignedData, SignerInfo};
use der::asn1::ObjectIdentifier;
use der::{Decode as _, Encode as _};
use moat_audit::stamps::TOKEN_BYTES_MAX;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, aws_lc_rs as algorithms};

/// id-signedData, RFC 5652 §5.1.
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
/// id-ct-TSTInfo, RFC 3161 §2.4.2.
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
/// id-contentType, RFC 5652 §11.1.
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
/// id-messageDigest, RFC 5652 §11.2.
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
/// id-aa-signingCertificate, RFC 5035 §5.
const SIGNING_CERTIFICATE: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.12");
/// id-aa-signingCertificateV2, RFC 5035 §3.
const SIGNING_CERTIFICATE_V2: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");
/// id-sha256.
const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
/// id-sha384.
const SHA_384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
/// id-sha512.
const SHA_512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
/// id-kp-timeStamping, RFC 3161 §2.3, as the bytes of the OID.
const TIME_STAMPING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 8];

/// What may sign tokens and certificates: no hash that is broken, no key that is too short.
static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
];

/// Why a token says nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadToken {
    #[error("the answer is no time-stamp response")]
    Form,
    #[error("the authority refused: status {0}")]
    Refused(u8),
    #[error("the token is over something else")]
    OtherImprint,
    #[error("the token is signed by nobody who may stamp times for an authority that was named")]
    Signer,
    #[error("the signature does not bind the time to its signer")]
    Attributes,
}

/// What a token that was verified says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// Its time, in nanoseconds of UTC.
    pub(crate) time_ns: u64,
    /// How wrong it may be, in nanoseconds.
    pub(crate) accuracy_ns: u64,
}

/// The request for a token over a SHA-256 digest, with the certificate of whoever signs it.
pub(crate) fn request(imprint: &[u8; 32], nonce: [u8; 8]) -> Vec<u8> {
    let algorithm = [&[0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0][..]].concat();
    let imprint = sequence(&[algorithm, [&[4, 32][..], imprint].concat()].concat());
    // Positive and without a superfluous zero, as DER has integers.
    let mut nonce = nonce;
    if let Some(first) = nonce.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    let nonce = [&[2, 8][..], &nonce].concat();
    sequence(&[vec![2, 1, 1], imprint, nonce, vec![1, 1, 0xff]].concat())
}

/// A SEQUENCE of less than 128 bytes.
fn sequence(content: &[u8]) -> Vec<u8> {
    let len = u8::try_from(content.len()).unwrap_or(0x7f);
    [&[0x30, len][..], content].concat()
}

/// Verifies the answer to a request.
pub(crate) fn verify(
    answer: &[u8],
    imprint: &[u8; 32],
    authorities: &[CertificateDer<'static>],
) -> Result<Token, BadToken> {
    if answer.len() > TOKEN_BYTES_MAX {
        return Err(BadToken::Form);
    }
    let (status, token) = split_response(answer).ok_or(BadToken::Form)?;
    if status > 1 {
        return Err(BadToken::Refused(status));
    }
    let content = ContentInfo::from_der(token).map_err(|_| BadToken::Form)?;
    let signed = content.content.to_der().ok().filter(|_| content.content_type == SIGNED_DATA);
    let signed = signed.and_then(|der| SignedData::from_der(&der).ok()).ok_or(BadToken::Form)?;
    let info = &signed.encap_content_info;
    let info = info.econtent.as_ref().filter(|_| info.econtent_type == TST_INFO);
    let info = info.ok_or(BadToken::Form)?.value();
    let (found, token) = tst_info(info).ok_or(BadToken::Form)?;
    if found != *imprint {
        return Err(BadToken::OtherImprint);
    }
    let [signer] = signed.signer_infos.0.as_slice() else { return Err(BadToken::Form) };
    let certificates = certificates(&signed);
    let own = attributes(signer, info)?;
    let seconds = std::time::Duration::from_secs(token.time_ns / 1_000_000_000);
    let is_signer = |certificate: &CertificateDer<'_>| {
        is_named(&own, certificate)
            && is_signed_by(certificate, signer)
            && may_stamp(
                certificate,
                &certificates,
                authorities,
                UnixTime::since_unix_epoch(seconds),
            )
    };
    if certificates.iter().any(is_signer) { Ok(token) } else { Err(BadToken::Signer) }
}

/// Status and token of a TimeStampResp, RFC 3161 §2.4.2.
fn split_response(answer: &[u8]) -> Option<(u8, &[u8])> {
    let (0x30, response, []) = tlv(answer)? else { return None };
    let (0x30, status, token) = tlv(response)? else { return None };
    let (2, [status], _) = tlv(status)? else { return None };
    Some((*status, token))
}

/// Imprint, time and accuracy of a TSTInfo; only one over SHA-256.
fn tst_info(info: &[u8]) -> Option<([u8; 32], Token)> {
    let (0x30, info, []) = tlv(info)? else { return None };
    let (2, [1], rest) = tlv(info)? else { return None };
    let (6, _, rest) = tlv(rest)? else { return None };
    let (0x30, imprint, rest) = tlv(rest)? else { return None };
    let (0x30, algorithm, digest) = tlv(imprint)? else { return None };
    let (6, algorithm, _) = tlv(algorithm)? else { return None };
    let (4, digest, []) = tlv(digest)? else { return None };
    (algorithm == SHA_256.as_bytes()).then_some(())?;
    let (2, _, rest) = tlv(rest)? else { return None };
    let (0x18, time, rest) = tlv(rest)? else { return None };
    let accuracy_ns = match tlv(rest) {
        Some((0x30, accuracy, _)) => accuracy_ns(accuracy)?,
        _ => 0,
    };
    Some((digest.try_into().ok()?, Token { time_ns: generalized_time(time)?, accuracy_ns }))
}

/// Seconds, milliseconds and microseconds, each optional (RFC 3161 §2.4.2).
fn accuracy_ns(mut accuracy: &[u8]) -> Option<u64> {
    let mut sum_ns = 0u64;
    while !accuracy.is_empty() {
        let (tag, value, rest) = tlv(accuracy)?;
        let unit = match tag {
            2 => 1_000_000_000,
            0x80 => 1_000_000,
            0x81 => 1_000,
            _ => return None,
        };
        let value = value
            .iter()
            .try_fold(0u64, |sum, byte| sum.checked_mul(256)?.checked_add(u64::from(*byte)))?;
        sum_ns = sum_ns.checked_add(value.checked_mul(unit)?)?;
        accuracy = rest;
    }
    Some(sum_ns)
}

/// `YYYYMMDDhhmmss[.f]Z` in nanoseconds of UTC; of the fraction nine digits count.
fn generalized_time(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.len() != 14 || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let part = |from: usize, to: usize| whole.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
    let is_date = (1970..=2500).contains(&year) && (1..=12).contains(&month);
    if !is_date || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days of the civil calendar, counted from March of year 0.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1;
    let seconds = days.checked_sub(719_468)? * 86_400 + hour * 3_600 + minute * 60 + second;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    seconds.checked_mul(1_000_000_000)?.checked_add(digits.parse().ok()?)
}

fn certificates(signed: &SignedData) -> Vec<CertificateDer<'static>> {
    let all = signed.certificates.iter().flat_map(|set| set.0.iter());
    all.filter_map(|choice| match choice {
        CertificateChoices::Certificate(certificate) => certificate.to_der().ok(),
        CertificateChoices::Other(_) => None,
    })
    .map(CertificateDer::from)
    .collect()
}

fn algorithm(oid: &ObjectIdentifier) -> Option<&'static digest::Algorithm> {
    match *oid {
        SHA_256 => Some(&digest::SHA256),
        SHA_384 => Some(&digest::SHA384),
        SHA_512 => Some(&digest::SHA512),
        _ => None,
    }
}

/// What the signer says of his certificate: an algorithm and its digest.
type Named = (&'static digest::Algorithm, Vec<u8>);

/// Checks that the signed attributes speak of this content, and gives whose they say they are.
fn attributes(signer: &SignerInfo, info: &[u8]) -> Result<Named, BadToken> {
    let attributes = signer.signed_attrs.as_ref().ok_or(BadToken::Attributes)?;
    let value = |oid: ObjectIdentifier| {
        let attribute = attributes.iter().find(|attribute| attribute.oid == oid)?;
        let [value] = attribute.values.as_slice() else { return None };
        value.to_der().ok()
    };
    let is_time = value(CONTENT_TYPE) == TST_INFO.to_der().ok();
    let wanted = algorithm(&signer.digest_alg.oid).ok_or(BadToken::Attributes)?;
    let said = value(MESSAGE_DIGEST).ok_or(BadToken::Attributes)?;
    let is_this = matches!(tlv(&said), Some((4, said, []))
        if said == digest::digest(wanted, info).as_ref());
    if !is_time || !is_this {
        return Err(BadToken::Attributes);
    }
    let v2 = value(SIGNING_CERTIFICATE_V2).and_then(|der| certificate_id(&der, &digest::SHA256));
    let v1 = || {
        let der = value(SIGNING_CERTIFICATE)?;
        certificate_id(&der, &digest::SHA1_FOR_LEGACY_USE_ONLY)
    };
    v2.or_else(v1).ok_or(BadToken::Attributes)
}

/// The first certificate that a SigningCertificate or its second version names, RFC 5035.
fn certificate_id(der: &[u8], default: &'static digest::Algorithm) -> Option<Named> {
    let (0x30, content, []) = tlv(der)? else { return None };
    let (0x30, ids, _) = tlv(content)? else { return None };
    let (0x30, id, _) = tlv(ids)? else { return None };
    match tlv(id)? {
        (4, hash, _) => Some((default, hash.to_vec())),
        (0x30, named, rest) => {
            let (6, oid, _) = tlv(named)? else { return None };
            let (4, hash, _) = tlv(rest)? else { return None };
            Some((algorithm(&ObjectIdentifier::from_bytes(oid).ok()?)?, hash.to_vec()))
        }
        _ => None,
    }
}

fn is_named((algorithm, hash): &Named, certificate: &CertificateDer<'_>) -> bool {
    digest::digest(algorithm, certificate).as_ref() == hash.as_slice()
}

fn is_signed_by(certificate: &CertificateDer<'_>, signer: &SignerInfo) -> bool {
    // RFC 5652 §5.4: the attributes are signed as a SET OF.
    let attributes = signer.signed_attrs.as_ref().and_then(|attributes| attributes.to_der().ok());
    let (Some(message), Ok(key)) = (attributes, EndEntityCert::try_from(certificate)) else {
        return false;
    };
    let signature = signer.signature.as_bytes();
    ALGORITHMS.iter().any(|one| key.verify_signature(*one, &message, signature).is_ok())
}

/// Whether an authority issued it for time stamping, and it was valid at that time.
fn may_stamp(
    certificate: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    authorities: &[CertificateDer<'static>],
    time: UnixTime,
) -> bool {
    let anchors: Vec<_> =
        authorities.iter().filter_map(|one| anchor_from_trusted_cert(one).ok()).collect();
    let Ok(end) = EndEntityCert::try_from(certificate) else { return false };
    let usage = KeyUsage::required(TIME_STAMPING);
    end.verify_for_usage(ALGORITHMS, &anchors, others, time, usage, None, None).is_ok()
}

/// The first element of DER: its tag, its content, and what follows. Definite lengths only.
fn tlv(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, len], rest) = bytes.split_first_chunk::<2>()?;
    let (len, rest) = match len {
        0..=0x7f => (usize::from(len), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(len - 0x80))?;
            (digits.iter().fold(0, |sum, digit| sum * 256 + usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_to_the_nanosecond_or_not_at_all() {
        let ns = |text: &str| generalized_time(text.as_bytes());
        assert_eq!(ns("19700101000000Z"), Some(0));
        assert_eq!(ns("20230607112626Z"), Some(1_686_137_186_000_000_000));
        assert_eq!(ns("20240229235959.25Z"), Some(1_709_251_199_250_000_000));
        for bad in ["20230607112626", "2023060711262Z", "20231307112626Z", "2023-607112626Z", "Z"] {
            assert_eq!(ns(bad), None, "{bad}");
        }
    }

    #[test]
    fn no_answer_makes_the_reader_panic() {
        let answer = request(&[7; 32], [0xff; 8]);
        assert_eq!(answer.len(), 69);
        for len in 0..answer.len() {
            assert!(verify(&answer[..len], &[7; 32], &[]).is_err());
        }
        assert_eq!(accuracy_ns(&[2, 1, 1, 0x80, 2, 1, 0xf4, 0x81, 1, 100]), Some(1_500_100_000));
    }
}
