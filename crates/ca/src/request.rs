//! Certificate requests (PKCS #10, RFC 2986): made here by whoever keeps a key, read here by the
//! authority.
//!
//! A request shows who holds a key: its signature is checked. Who somebody is, the authority says.
//! So of a request's wishes only alternative names count, and only to refuse those not granted.

use std::collections::BTreeSet;

use moat_model::code::ca::{NOT_GRANTED, REQUEST};
use moat_sm::pem;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Extension, X509Version};
use zeroize::Zeroizing;

use crate::authority::Authority;
use crate::leaf::LeafRequest;
use crate::signer::{self, Key};
use crate::x509::{self, ECDSA_WITH_SHA256, INTEGER, SEQUENCE, SET, SM2_WITH_SM3, tlv};
use crate::{Error, Kind};

/// Label of a request in PEM (RFC 7468 §7).
const CERTIFICATE_REQUEST: &str = "CERTIFICATE REQUEST";
/// Longest request, in bytes of DER.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Most alternative names of a request.
const NAMES_MAX: usize = 64;
/// 1.2.840.113549.1.9.14, extensionRequest (RFC 2985 §5.4.2).
pub(crate) const EXTENSION_REQUEST: &[u8] =
    &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];

/// A key and the request that shows who holds it.
pub struct Requested {
    /// The request in PEM.
    pub request_pem: String,
    /// PKCS#8 PEM.
    pub key_pem: Zeroizing<String>,
}

/// Makes a fresh key and a request for the subject and the names of `wish`; its times are not used.
///
/// # Errors
/// [`moat_model::code::ca::BAD_REQUEST`] if a name cannot stand in a certificate.
pub fn request(kind: Kind, wish: &LeafRequest) -> Result<Requested, Error> {
    let key = Key::generate(kind)?;
    let names = x509::alternative_name(&wish.alternative_names())?;
    let attribute = if names.is_empty() {
        Vec::new()
    } else {
        tlv(SEQUENCE, &[EXTENSION_REQUEST, &tlv(SET, &[&tlv(SEQUENCE, &[&names])])])
    };
    let subject = x509::name(&wish.common_name, wish.organization.as_deref());
    let info = tlv(SEQUENCE, &[&[INTEGER, 1, 0], &subject, &key.spki(), &tlv(0xa0, &[&attribute])]);
    let der = key.signed(&info)?;
    Ok(Requested {
        request_pem: pem::encode(CERTIFICATE_REQUEST, &der).to_string(),
        key_pem: key.to_pem()?,
    })
}

/// A request whose sender holds the key: its signature is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    kind: Kind,
    spki: Vec<u8>,
    /// Alternative names that it wishes, as texts.
    names: Vec<String>,
    /// Its subject, for people.
    subject: String,
}

impl Request {
    /// Reads PEM or DER.
    ///
    /// # Errors
    /// [`REQUEST`] if it is malformed, of another kind than ours, or not signed by its own key.
    pub fn read(bytes: &[u8]) -> Result<Request, Error> {
        if bytes.first() == Some(&SEQUENCE) {
            return Request::from_der(bytes);
        }
        let der = CertificateSigningRequestDer::from_pem_slice(bytes).map_err(|e| no(&e))?;
        Request::from_der(&der)
    }

    /// Reads DER: the whole of `der`, and nothing after it.
    ///
    /// # Errors
    /// As [`Request::read`].
    pub fn from_der(der: &[u8]) -> Result<Request, Error> {
        if der.len() > REQUEST_BYTES_MAX {
            return Err(no(&format_args!("it is longer than {REQUEST_BYTES_MAX} bytes")));
        }
        let (rest, read) = X509CertificationRequest::from_der(der).map_err(|e| no(&e))?;
        let info = &read.certification_request_info;
        if !rest.is_empty() || info.version != X509Version::V1 {
            return Err(no(&"bytes follow it, or it is not of version 1"));
        }
        let spki = info.subject_pki.raw;
        let kind = signer::kind_of(spki);
        let kind = kind.ok_or_else(|| no(&"its key is neither SM2 nor P-256"))?;
        // Written again it must be the same bytes: the parser below is looser than DER, and what is
        // around the signed part has no signature of its own.
        let algorithm = match kind {
            Kind::Sm2 => SM2_WITH_SM3,
            Kind::P256 => ECDSA_WITH_SHA256,
        };
        if x509::certificate(info.raw, algorithm, &read.signature_value.data) != der {
            return Err(no(
                &"it is not DER, or its signature is of another algorithm than its key",
            ));
        }
        let signature = &read.signature_value;
        if !signer::verifies(spki, info.raw, &signature.data) {
            return Err(no(&"it is not signed by the key that it shows"));
        }
        let names = wished(info.raw)?;
        Ok(Request { kind, spki: spki.to_vec(), names, subject: info.subject.to_string() })
    }

    /// The kind of its key.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its subject as a text; nobody has checked it.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The alternative names that it wishes.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

impl Authority {
    /// Issues a certificate for the key of a request, under the names of `granted`, and gives the
    /// chain in PEM, leaf first.
    ///
    /// # Errors
    /// [`NOT_GRANTED`] if the request wishes a name that `granted` has not,
    /// [`REQUEST`] if its key is of another kind than the authority's,
    /// [`moat_model::code::ca::BAD_REQUEST`] if a name or a time cannot stand in a certificate.
    pub fn issue_for(&self, request: &Request, granted: &LeafRequest) -> Result<String, Error> {
        if request.kind != self.kind {
            return Err(no(&"its key is of another kind than the authority's"));
        }
        let is_granted = |wish: &&String| {
            granted.uris.contains(wish)
                || granted.names.iter().any(|name| name.eq_ignore_ascii_case(wish))
        };
        if let Some(wish) = request.names.iter().find(|wish| !is_granted(wish)) {
            return Err(Error::new(&NOT_GRANTED, wish.escape_debug()));
        }
        self.chain_for(&request.spki, granted)
    }
}

/// The alternative names that a CertificationRequestInfo (RFC 2986 §4.1) in DER wishes, as texts.
/// What cannot be read is refused, not left out; so is what stands there twice, of which another
/// reader could take the other. Its signature is not looked at.
///
/// # Errors
/// [`REQUEST`] if it is malformed, has more than one extensionRequest, one with not exactly one
/// value (RFC 2985 §5.4.2), an extension twice (RFC 5280 §4.2), or too many names.
pub fn wished(info: &[u8]) -> Result<Vec<String>, Error> {
    let malformed = || no(&"an attribute is malformed");
    let mut wishes = Vec::new();
    let mut rest = attributes(info).ok_or_else(malformed)?;
    while !rest.is_empty() {
        let attribute;
        (attribute, rest) = element(rest, SEQUENCE).ok_or_else(malformed)?;
        let Some(values) = attribute.strip_prefix(EXTENSION_REQUEST) else { continue };
        let (values, nothing) = element(values, SET).ok_or_else(malformed)?;
        let (extensions, others) = element(values, SEQUENCE).ok_or_else(malformed)?;
        if !nothing.is_empty() || !others.is_empty() {
            return Err(no(&"its extensionRequest has not exactly one value"));
        }
        wishes.push(extensions);
    }
    match wishes.as_slice() {
        [] => Ok(Vec::new()),
        [extensions] => names_of(extensions),
        _ => Err(no(&"it has more than one extensionRequest")),
    }
}

/// Content of the attributes of a CertificationRequestInfo.
fn attributes(info: &[u8]) -> Option<&[u8]> {
    let (content, []) = element(info, SEQUENCE)? else { return None };
    let (_version, rest) = element(content, INTEGER)?;
    let (_subject, rest) = element(rest, SEQUENCE)?;
    let (_key, rest) = element(rest, SEQUENCE)?;
    let (attributes, []) = element(rest, 0xa0)? else { return None };
    Some(attributes)
}

fn names_of(extensions: &[u8]) -> Result<Vec<String>, Error> {
    let malformed = || no(&"an extension is malformed");
    let (mut names, mut seen) = (Vec::new(), BTreeSet::new());
    let mut rest = extensions;
    while !rest.is_empty() {
        let (_, after) = element(rest, SEQUENCE).ok_or_else(malformed)?;
        let length = rest.len().saturating_sub(after.len());
        let one = rest.get(..length).ok_or_else(malformed)?;
        rest = after;
        let (nothing, extension) = X509Extension::from_der(one).map_err(|_| malformed())?;
        if !nothing.is_empty() {
            return Err(malformed());
        }
        if !seen.insert(extension.oid.as_bytes().to_vec()) {
            return Err(no(&"it has an extension twice"));
        }
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(wish) => {
                let texts = wish.general_names.iter().map(name_text).collect::<Option<Vec<_>>>();
                names = texts.ok_or_else(|| no(&"it has a name of another kind"))?;
            }
            ParsedExtension::ParseError { .. } => return Err(malformed()),
            _ => {}
        }
    }
    if names.len() > NAMES_MAX {
        return Err(no(&format_args!("it has more than {NAMES_MAX} names")));
    }
    Ok(names)
}

/// Content of the element of that tag at the beginning, and what follows it. Lengths are DER's
/// (X.690 §10.1): definite, and as short as can be.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(&[tag])?;
    let (length, rest) = match rest {
        [short @ 0..=0x7f, rest @ ..] => (usize::from(*short), rest),
        [0x81, one @ 0x80..=0xff, rest @ ..] => (usize::from(*one), rest),
        [0x82, high @ 1..=0xff, low, rest @ ..] => {
            (usize::from(u16::from_be_bytes([*high, *low])), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

fn name_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::URI(text) | GeneralName::DNSName(text) => Some((*text).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from).ok();
            let v6 = <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from).ok();
            v4.or(v6).map(|ip| ip.to_string())
        }
        _ => None,
    }
}

fn no(why: &dyn core::fmt::Display) -> Error {
    Error::new(&REQUEST, why)
}
