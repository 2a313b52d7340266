//! The authority itself: a root that signs one issuing authority, which signs identities.

use moat_model::code::ca::BAD_REQUEST;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use crate::Error;

/// Years the root is valid.
pub(crate) const ROOT_YEARS: i64 = 10;
/// Years the issuing authority is valid.
pub(crate) const ISSUING_YEARS: i64 = 3;

/// Which keys and signatures an authority has. The two never mix in one chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// P-256, ECDSA with SHA-256.
    P256,
    /// SM2 with SM3.
    Sm2,
}

/// A root and the issuing authority below it, with both keys.
pub struct Authority {
    pub(crate) kind: Kind,
    pub(crate) root_pem: String,
    pub(crate) root_key_pem: Zeroizing<String>,
    pub(crate) issuing_pem: String,
    pub(crate) issuing_key_pem: Zeroizing<String>,
}

impl Authority {
    /// Makes a new authority called `name`, valid from `now_s` (seconds since 1970).
    ///
    /// # Errors
    /// [`BAD_REQUEST`] if the name or the time cannot stand in a certificate.
    pub fn create(name: &str, now_s: i64) -> Result<Authority, Error> {
        let root_key = KeyPair::generate().map_err(bad)?;
        let root = authority_params(&format!("{name} Root"), now_s, ROOT_YEARS, None)?;
        let root_certificate = root.self_signed(&root_key).map_err(bad)?;
        let issuing_key = KeyPair::generate().map_err(bad)?;
        let issuing = authority_params(&format!("{name} Issuing"), now_s, ISSUING_YEARS, Some(0))?;
        let issuing_certificate =
            issuing.signed_by(&issuing_key, &Issuer::from_params(&root, &root_key)).map_err(bad)?;
        Ok(Authority {
            kind: Kind::P256,
            root_pem: root_certificate.pem(),
            root_key_pem: Zeroizing::new(root_key.serialize_pem()),
            issuing_pem: issuing_certificate.pem(),
            issuing_key_pem: Zeroizing::new(issuing_key.serialize_pem()),
        })
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The root certificate in PEM: what others put into their `trust` file.
    #[must_use]
    pub fn trust_pem(&self) -> &str {
        &self.root_pem
    }

    /// The issuing authority's certificate in PEM.
    #[must_use]
    pub fn issuing_pem(&self) -> &str {
        &self.issuing_pem
    }

    pub(crate) fn issuer(&self) -> Result<Issuer<'static, KeyPair>, Error> {
        let key = KeyPair::from_pem(&self.issuing_key_pem).map_err(bad)?;
        Issuer::from_ca_cert_pem(&self.issuing_pem, key).map_err(bad)
    }
}

fn authority_params(
    name: &str,
    now_s: i64,
    years: i64,
    path_len: Option<u8>,
) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(Vec::new()).map_err(bad)?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    params.is_ca =
        IsCa::Ca(path_len.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = validity(now_s, Duration::days(365 * years))?;
    Ok(params)
}

/// From five minutes before `from_s`, so that clocks that run a little behind agree, for `length`.
pub(crate) fn validity(
    from_s: i64,
    length: Duration,
) -> Result<(OffsetDateTime, OffsetDateTime), Error> {
    let from = OffsetDateTime::from_unix_timestamp(from_s).map_err(bad)?;
    let start = from.checked_sub(Duration::minutes(5));
    let end = from.checked_add(length);
    start.zip(end).ok_or_else(|| Error::new(&BAD_REQUEST, "the time is out of range"))
}

pub(crate) fn bad(error: impl core::fmt::Display) -> Error {
    Error::new(&BAD_REQUEST, error)
}
