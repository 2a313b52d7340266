//! The national authority: the same three levels with SM2 keys and SM2-with-SM3 signatures.

use moat_sm::pem;
use time::Duration;

use crate::authority::{Authority, ISSUING_YEARS, ROOT_YEARS, validity};
use crate::leaf::{Identity, LeafRequest};
use crate::signer::{CERTIFICATE, Issuer, Key};
use crate::x509::{self, Purpose};
use crate::{Error, Kind};

impl Authority {
    /// Makes a new national authority called `name`, valid from `now_s` (seconds since 1970): SM2
    /// keys, certificates signed by SM2 with SM3.
    ///
    /// # Errors
    /// [`moat_model::code::ca::BAD_REQUEST`] if the name or the time cannot stand in a certificate.
    pub fn create_sm2(name: &str, now_s: i64) -> Result<Authority, Error> {
        let days = |years: i64| validity(now_s, Duration::days(365 * years));
        let root = Issuer::fresh(Kind::Sm2, x509::name(&format!("{name} SM2 Root"), None))?;
        let purpose = Purpose::Authority { path_len: None };
        let root_der = root.issue(&root.key.spki(), &root.name, days(ROOT_YEARS)?, purpose)?;
        let key = Key::generate(Kind::Sm2)?;
        let subject = x509::name(&format!("{name} SM2 Issuing"), None);
        let purpose = Purpose::Authority { path_len: Some(0) };
        let issuing_der = root.issue(&key.spki(), &subject, days(ISSUING_YEARS)?, purpose)?;
        Ok(Authority {
            kind: Kind::Sm2,
            root_pem: pem::encode(CERTIFICATE, &root_der).to_string(),
            root_key_pem: root.key.to_pem()?,
            issuing_pem: pem::encode(CERTIFICATE, &issuing_der).to_string(),
            issuing_key_pem: key.to_pem()?,
        })
    }

    pub(crate) fn issue_sm2(&self, request: &LeafRequest) -> Result<Identity, Error> {
        let key = Key::generate(Kind::Sm2)?;
        Ok(Identity { chain_pem: self.chain_for(&key.spki(), request)?, key_pem: key.to_pem()? })
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
        let leaf = self.issuing()?.issue(spki, &subject, validity, purpose)?;
        Ok(format!("{}{}", *pem::encode(CERTIFICATE, &leaf), self.issuing_pem))
    }

    /// The issuing authority, ready to sign.
    pub(crate) fn issuing(&self) -> Result<Issuer, Error> {
        Issuer::read(self.kind, &self.issuing_pem, &self.issuing_key_pem)
    }
}
