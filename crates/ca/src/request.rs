//! Certificate requests (PKCS #10, RFC 2986): made here by whoever keeps a key, read here by the
//! authority.
//!
//! A request shows who holds a key: its signature is checked. Who somebody is, the authority says.
//! So of a request's wishes only alternative names count, and only to refuse those not granted.

use moat_model::code::ca::{NOT_GRANTED, REQUEST};
use moat_sm::pem;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Version};
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
const EXTENSION_REQUEST: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];

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
        let names = wished(&read)?;
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

/// The alternative names of a request. What cannot be read is refused, not left out.
fn wished(read: &X509CertificationRequest<'_>) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    let attributes = read.certification_request_info.iter_attributes();
    let extensions = attributes.filter_map(|attribute| match attribute.parsed_attribute() {
        ParsedCriAttribute::ExtensionRequest(wish) => Some(wish.extensions.iter()),
        _ => None,
    });
    for extension in extensions.flatten() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(wish) => {
                for name in &wish.general_names {
                    names
                        .push(name_text(name).ok_or_else(|| no(&"it has a name of another kind"))?);
                }
            }
            ParsedExtension::ParseError { .. } => return Err(no(&"an extension is malformed")),
            _ => {}
        }
    }
    if names.len() > NAMES_MAX {
        return Err(no(&format_args!("it has more than {NAMES_MAX} names")));
    }
    Ok(names)
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
