//! The authority itself: a root that signs one issuing authority, which signs identities.

use moat_model::code::ca::BAD_REQUEST;
use moat_sm::pem;
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use crate::files::Level;
use crate::leaf::LeafRequest;
use crate::signer::{CERTIFICATE, Issuer, Key, Subject};
use crate::x509::{self, Purpose};
use crate::{Error, Serial};

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

/// A root and the issuing authority below it. A key is there if it was just made, or loaded to sign.
pub struct Authority {
    pub(crate) kind: Kind,
    pub(crate) root_pem: String,
    pub(crate) root_key_pem: Option<Zeroizing<String>>,
    pub(crate) issuing_pem: String,
    pub(crate) issuing_key_pem: Option<Zeroizing<String>>,
}

impl Authority {
    /// Makes a new authority called `name`, valid from `now_s` (seconds since 1970): P-256 keys,
    /// certificates signed by ECDSA with SHA-256.
    ///
    /// # Errors
    /// [`BAD_REQUEST`] if the name or the time cannot stand in a certificate.
    pub fn create(name: &str, now_s: i64) -> Result<Authority, Error> {
        Authority::create_kind(Kind::P256, name, now_s)
    }

    /// Makes a new national authority: SM2 keys, certificates signed by SM2 with SM3. It is called
    /// `name` and SM2.
    ///
    /// # Errors
    /// As [`Authority::create`].
    pub fn create_sm2(name: &str, now_s: i64) -> Result<Authority, Error> {
        Authority::create_kind(Kind::Sm2, &format!("{name} SM2"), now_s)
    }

    fn create_kind(kind: Kind, name: &str, now_s: i64) -> Result<Authority, Error> {
        let days = |years: i64| validity(now_s, Duration::days(365 * years));
        let root = Issuer::fresh(kind, x509::name(&format!("{name} Root"), None))?;
        let purpose = Purpose::Authority { path_len: None };
        let subject = &root.subject;
        let root_der = root.issue(&subject.spki, &subject.name, days(ROOT_YEARS)?, purpose)?;
        let key = Key::generate(kind)?;
        let name = x509::name(&format!("{name} Issuing"), None);
        let purpose = Purpose::Authority { path_len: Some(0) };
        let issuing_der = root.issue(&key.spki(), &name, days(ISSUING_YEARS)?, purpose)?;
        Ok(Authority {
            kind,
            root_pem: pem::encode(CERTIFICATE, &root_der).to_string(),
            root_key_pem: Some(root.key.to_pem()?),
            issuing_pem: pem::encode(CERTIFICATE, &issuing_der).to_string(),
            issuing_key_pem: Some(key.to_pem()?),
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

    /// The number of the issuing authority's certificate, which the root has issued.
    ///
    /// # Errors
    /// [`BAD_REQUEST`] if it is no certificate.
    pub fn issuing_serial(&self) -> Result<Serial, Error> {
        Ok(self.subject(Level::Issuing)?.serial)
    }

    /// A leaf for the owner of `spki` and the issuing authority, in PEM.
    pub(crate) fn chain_for(&self, spki: &[u8], request: &LeafRequest) -> Result<String, Error> {
        let purpose = Purpose::Identity { names: request.alternative_names() };
        self.chain_of(spki, request, purpose)
    }

    pub(crate) fn chain_of(
        &self,
        spki: &[u8],
        request: &LeafRequest,
        purpose: Purpose,
    ) -> Result<String, Error> {
        let subject = x509::name(&request.common_name, request.organization.as_deref());
        let validity = validity(request.from_s, Duration::seconds(request.valid_s))?;
        let issuer = self.issuer(Level::Issuing)?;
        let leaf = issuer.issue(spki, &subject, validity, purpose)?;
        Ok(format!("{}{}", *pem::encode(CERTIFICATE, &leaf), self.issuing_pem))
    }

    /// That level's certificate.
    pub(crate) fn subject(&self, level: Level) -> Result<Subject, Error> {
        Subject::read(self.certificate_pem(level))
    }

    pub(crate) fn certificate_pem(&self, level: Level) -> &str {
        match level {
            Level::Issuing => &self.issuing_pem,
            Level::Root => &self.root_pem,
        }
    }

    /// That level, ready to sign.
    pub(crate) fn issuer(&self, level: Level) -> Result<Issuer, Error> {
        let key = match level {
            Level::Issuing => &self.issuing_key_pem,
            Level::Root => &self.root_key_pem,
        };
        let key = key.as_ref().ok_or_else(|| bad("the key that signs was not loaded"))?;
        Issuer::read(self.kind, self.certificate_pem(level), key)
    }
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
