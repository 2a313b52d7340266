//! Certificates in DER (X.690, RFC 5280), as far as the authority needs them: version 3, one common
//! name and organisation, the extensions of a CA, of an identity or of a responder.
//!
//! It only writes; certificates are read by others. Nothing here signs: the signature is an
//! argument, so that tests can make certificates that must be refused.

use time::OffsetDateTime;

use crate::Error;
use crate::authority::bad;

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// 1.2.156.10197.1.501, SM2 with SM3; parameters absent (GB/T 33560).
pub const SM2_WITH_SM3: &[u8] =
    &[SEQUENCE, 10, 0x06, 0x08, 0x2a, 0x81, 0x1c, 0xcf, 0x55, 0x01, 0x83, 0x75];
/// 1.2.840.10045.4.3.2, ECDSA with SHA-256; parameters absent (RFC 5758 §3.2).
pub const ECDSA_WITH_SHA256: &[u8] =
    &[SEQUENCE, 10, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// 2.5.4.3 and 2.5.4.10.
const COMMON_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x0a];
/// 2.5.29.x: the extensions, by their last number.
const SUBJECT_KEY: u8 = 14;
const KEY_USAGE: u8 = 15;
pub(crate) const ALTERNATIVE_NAME: u8 = 17;
const BASIC_CONSTRAINTS: u8 = 19;
pub(crate) const AUTHORITY_KEY: u8 = 35;
const EXTENDED_USAGE: u8 = 37;
/// 1.3.6.1.5.5.7.3.1 and .2: TLS servers and clients.
const SERVER_AUTH: &[u8] = &[0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u8] = &[0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 3, 2];
/// 1.3.6.1.5.5.7.3.9: signs OCSP responses (RFC 6960 §4.2.2.2).
const OCSP_SIGNING: &[u8] = &[0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 3, 9];
/// 1.3.6.1.5.5.7.48.1.5: nobody need ask whether this responder is revoked (RFC 6960 §4.2.2.2.1).
const OCSP_NO_CHECK: &[u8] = &[0x06, 0x09, 0x2b, 6, 1, 5, 5, 7, 48, 1, 5];
/// RFC 5280 §4.1.2.5: the last year of UTCTime.
const UTC_YEAR_MAX: i32 = 2049;
/// RFC 5280 §4.1.2.2: bytes of a serial number, the first of them positive.
pub const SERIAL_BYTES: usize = 16;
/// Bytes of a key identifier.
pub const KEY_ID_BYTES: usize = 20;

/// A part of a certificate's alternative name.
#[derive(Clone, Debug)]
pub enum Name {
    /// URI.
    Uri(String),
    /// DNS name.
    Dns(String),
    /// IP address.
    Ip(std::net::IpAddr),
}

/// What a certificate is for.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// An authority, with the number of authorities that may follow it.
    Authority {
        /// `None` is without bound.
        path_len: Option<u8>,
    },
    /// A TLS server and client.
    Identity {
        /// Its alternative names.
        names: Vec<Name>,
    },
    /// Signs OCSP responses in the authority's place.
    Responder,
}

/// The part of a certificate that is signed.
#[derive(Clone, Debug)]
pub struct ToBeSigned<'a> {
    /// Big-endian; made positive.
    pub serial: [u8; SERIAL_BYTES],
    /// DER of the issuer's name.
    pub issuer: &'a [u8],
    /// DER of the subject's name.
    pub subject: &'a [u8],
    /// Begin and end of validity.
    pub validity: (OffsetDateTime, OffsetDateTime),
    /// SubjectPublicKeyInfo.
    pub spki: &'a [u8],
    /// Identifier of the subject's key.
    pub key_id: [u8; KEY_ID_BYTES],
    /// Identifier of the issuer's key, where it is another one.
    pub issuer_key_id: Option<[u8; KEY_ID_BYTES]>,
    /// What it is for.
    pub purpose: Purpose,
}

impl ToBeSigned<'_> {
    /// The DER to be signed. `algorithm` is the AlgorithmIdentifier of the signature.
    ///
    /// # Errors
    /// [`moat_model::code::ca::BAD_REQUEST`] if a name or a time cannot stand in a certificate.
    pub fn to_der(&self, algorithm: &[u8]) -> Result<Vec<u8>, Error> {
        let (from, to) = self.validity;
        let validity = tlv(SEQUENCE, &[&time(from)?, &time(to)?]);
        let extensions = tlv(0xa3, &[&tlv(SEQUENCE, &[&self.extensions()?])]);
        Ok(tlv(
            SEQUENCE,
            &[
                &[0xa0, 3, INTEGER, 1, 2],
                &tlv(INTEGER, &[&positive(self.serial)]),
                algorithm,
                self.issuer,
                &validity,
                self.subject,
                self.spki,
                &extensions,
            ],
        ))
    }

    fn extensions(&self) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        let key_id = tlv(OCTET_STRING, &[&self.key_id]);
        all.extend(extension(SUBJECT_KEY, false, &key_id));
        if let Some(id) = &self.issuer_key_id {
            all.extend(authority_key(id));
        }
        match &self.purpose {
            Purpose::Authority { path_len } => {
                let path_len = path_len.map(|n| tlv(INTEGER, &[&[n.min(127)]])).unwrap_or_default();
                let content = tlv(SEQUENCE, &[&tlv(BOOLEAN, &[&[0xff]]), &path_len]);
                all.extend(extension(BASIC_CONSTRAINTS, true, &content));
                // keyCertSign (5) and cRLSign (6): one unused bit.
                all.extend(extension(KEY_USAGE, true, &tlv(BIT_STRING, &[&[1, 0b0000_0110]])));
            }
            Purpose::Identity { names } => {
                all.extend(extension(BASIC_CONSTRAINTS, true, &tlv(SEQUENCE, &[])));
                // digitalSignature (0): seven unused bits.
                all.extend(extension(KEY_USAGE, true, &tlv(BIT_STRING, &[&[7, 0b1000_0000]])));
                let usage = tlv(SEQUENCE, &[SERVER_AUTH, CLIENT_AUTH]);
                all.extend(extension(EXTENDED_USAGE, false, &usage));
                all.extend(alternative_name(names)?);
            }
            Purpose::Responder => {
                all.extend(extension(BASIC_CONSTRAINTS, true, &tlv(SEQUENCE, &[])));
                all.extend(extension(KEY_USAGE, true, &tlv(BIT_STRING, &[&[7, 0b1000_0000]])));
                all.extend(extension(EXTENDED_USAGE, true, &tlv(SEQUENCE, &[OCSP_SIGNING])));
                // NULL in an OCTET STRING.
                all.extend(tlv(SEQUENCE, &[OCSP_NO_CHECK, &[OCTET_STRING, 2, 5, 0]]));
            }
        }
        Ok(all)
    }
}

/// The alternative names as an extension; nothing if there are none.
pub(crate) fn alternative_name(names: &[Name]) -> Result<Vec<u8>, Error> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<_> = names.iter().map(general_name).collect::<Result<_, _>>()?;
    Ok(extension(ALTERNATIVE_NAME, false, &tlv(SEQUENCE, &[&names.concat()])))
}

/// Whose key signed: the extension of certificates and of lists (RFC 5280 §4.2.1.1, §5.2.1).
pub(crate) fn authority_key(id: &[u8]) -> Vec<u8> {
    extension(AUTHORITY_KEY, false, &tlv(SEQUENCE, &[&tlv(0x80, &[id])]))
}

/// A whole certificate. Requests, lists and OCSP responses have the same three parts.
#[must_use]
pub fn certificate(to_be_signed: &[u8], algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
    tlv(SEQUENCE, &[to_be_signed, algorithm, &tlv(BIT_STRING, &[&[0], signature])])
}

/// A distinguished name: organisation, if any, and common name.
#[must_use]
pub fn name(common_name: &str, organization: Option<&str>) -> Vec<u8> {
    let one = |oid: &[u8], text: &str| {
        tlv(SET, &[&tlv(SEQUENCE, &[oid, &tlv(UTF8_STRING, &[text.as_bytes()])])])
    };
    let organization = organization.map(|text| one(ORGANIZATION, text)).unwrap_or_default();
    tlv(SEQUENCE, &[&organization, &one(COMMON_NAME, common_name)])
}

fn general_name(name: &Name) -> Result<Vec<u8>, Error> {
    let (tag, bytes) = match name {
        Name::Uri(text) => (0x86, ia5(text)?.to_vec()),
        Name::Dns(text) => (0x82, ia5(text)?.to_vec()),
        Name::Ip(std::net::IpAddr::V4(ip)) => (0x87, ip.octets().to_vec()),
        Name::Ip(std::net::IpAddr::V6(ip)) => (0x87, ip.octets().to_vec()),
    };
    Ok(tlv(tag, &[&bytes]))
}

/// IA5String: ASCII only. An empty name or one with controls is nobody's.
fn ia5(text: &str) -> Result<&[u8], Error> {
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(text.as_bytes()) } else { Err(bad("a name is empty or not plain ASCII")) }
}

/// An extension below 2.5.29.
pub(crate) fn extension(id: u8, is_critical: bool, content: &[u8]) -> Vec<u8> {
    let critical = if is_critical { tlv(BOOLEAN, &[&[0xff]]) } else { Vec::new() };
    tlv(SEQUENCE, &[&[0x06, 3, 0x55, 0x1d, id], &critical, &tlv(OCTET_STRING, &[content])])
}

/// RFC 5280 §4.1.2.5: UTCTime until 2049, GeneralizedTime from 2050.
pub(crate) fn time(at: OffsetDateTime) -> Result<Vec<u8>, Error> {
    let (year, rest) = digits(at)?;
    if year > UTC_YEAR_MAX {
        return generalized(at);
    }
    Ok(tlv(UTC_TIME, &[format!("{:02}{rest}Z", year % 100).as_bytes()]))
}

/// GeneralizedTime in whole seconds.
pub(crate) fn generalized(at: OffsetDateTime) -> Result<Vec<u8>, Error> {
    let (year, rest) = digits(at)?;
    Ok(tlv(GENERALIZED_TIME, &[format!("{year:04}{rest}Z").as_bytes()]))
}

/// The year, and month to second in two digits each.
fn digits(at: OffsetDateTime) -> Result<(i32, String), Error> {
    let at = at.to_offset(time::UtcOffset::UTC);
    let year = at.year();
    if !(1950..=9999).contains(&year) {
        return Err(bad("the time is out of range"));
    }
    let rest = [u8::from(at.month()), at.day(), at.hour(), at.minute(), at.second()];
    Ok((year, rest.iter().map(|number| format!("{number:02}")).collect()))
}

/// Neither negative nor with a superfluous zero: the first byte is 0x40 to 0x7f.
fn positive(mut serial: [u8; SERIAL_BYTES]) -> [u8; SERIAL_BYTES] {
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x7f | 0x40;
    }
    serial
}

/// An INTEGER that is not negative, from big-endian bytes, in its shortest form.
pub(crate) fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let skip = bytes.iter().take_while(|byte| **byte == 0).count();
    let rest = bytes.get(skip..).unwrap_or_default();
    let sign: &[u8] = if rest.first().is_none_or(|first| *first >= 0x80) { &[0] } else { &[] };
    tlv(INTEGER, &[sign, rest])
}

/// Tag, shortest length, and the parts one after the other.
pub(crate) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    let bytes = length.to_be_bytes();
    let skip = bytes.iter().take_while(|byte| **byte == 0).count();
    match bytes.get(skip..).unwrap_or_default() {
        [] => out.push(0),
        [short @ 0..0x80] => out.push(*short),
        long => {
            out.push(0x80 | long.len().to_le_bytes()[0]);
            out.extend_from_slice(long);
        }
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}
