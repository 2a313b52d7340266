//! The national authority: the same three levels with SM2 keys and SM2-with-SM3 signatures.

use std::net::IpAddr;

use moat_sm::pem;
use moat_sm::sm2::{DEFAULT_ID, ENTROPY_BYTES, SecretKey};
use moat_sm::sm3::Sm3;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::authority::{Authority, ISSUING_YEARS, ROOT_YEARS, bad, validity};
use crate::leaf::{Identity, LeafRequest};
use crate::x509::{self, KEY_ID_BYTES, Name, Purpose, SERIAL_BYTES, SM2_WITH_SM3, ToBeSigned};
use crate::{Error, Kind};

/// Label of a certificate in PEM.
const CERTIFICATE: &str = "CERTIFICATE";

/// An SM2 key and the name under which it issues.
struct Issuer {
    key: SecretKey,
    name: Vec<u8>,
}

impl Authority {
    /// Makes a new national authority called `name`, valid from `now_s` (seconds since 1970): SM2
    /// keys, certificates signed by SM2 with SM3.
    ///
    /// # Errors
    /// [`moat_model::code::ca::BAD_REQUEST`] if the name or the time cannot stand in a certificate.
    pub fn create_sm2(name: &str, now_s: i64) -> Result<Authority, Error> {
        let days = |years: i64| validity(now_s, Duration::days(365 * years));
        let root = Issuer { key: generate()?, name: x509::name(&format!("{name} SM2 Root"), None) };
        let purpose = Purpose::Authority { path_len: None };
        let root_der =
            root.issue(&root.key, &root.name.clone(), days(ROOT_YEARS)?, purpose, false)?;
        let key = generate()?;
        let subject = x509::name(&format!("{name} SM2 Issuing"), None);
        let purpose = Purpose::Authority { path_len: Some(0) };
        let issuing_der = root.issue(&key, &subject, days(ISSUING_YEARS)?, purpose, true)?;
        Ok(Authority {
            kind: Kind::Sm2,
            root_pem: pem::encode(CERTIFICATE, &root_der).to_string(),
            root_key_pem: key_pem(&root.key),
            issuing_pem: pem::encode(CERTIFICATE, &issuing_der).to_string(),
            issuing_key_pem: key_pem(&key),
        })
    }

    pub(crate) fn issue_sm2(&self, request: &LeafRequest) -> Result<Identity, Error> {
        let names = request.uris.iter().map(|uri| Name::Uri(uri.clone()));
        let others = request.names.iter().map(|name| match name.parse::<IpAddr>() {
            Ok(ip) => Name::Ip(ip),
            Err(_) => Name::Dns(name.clone()),
        });
        let purpose = Purpose::Identity { names: others.chain(names).collect() };
        let subject = x509::name(&request.common_name, request.organization.as_deref());
        let validity = validity(request.from_s, Duration::seconds(request.valid_s))?;
        let key = generate()?;
        let leaf = self.sm2_issuer()?.issue(&key, &subject, validity, purpose, true)?;
        Ok(Identity {
            chain_pem: format!("{}{}", *pem::encode(CERTIFICATE, &leaf), self.issuing_pem),
            key_pem: key_pem(&key),
        })
    }

    /// The issuing authority from its files: the key must be the certificate's.
    fn sm2_issuer(&self) -> Result<Issuer, Error> {
        let der = pem::decode(pem::PRIVATE_KEY, &self.issuing_key_pem).map_err(bad)?;
        let key = SecretKey::from_pkcs8_der(&der).map_err(bad)?;
        let der = CertificateDer::from_pem_slice(self.issuing_pem.as_bytes()).map_err(bad)?;
        let (rest, certificate) = X509Certificate::from_der(&der).map_err(bad)?;
        let spki = certificate.public_key().raw;
        if !rest.is_empty() || spki != key.public().to_spki_der() {
            return Err(bad("the issuing authority's key is not that of its certificate"));
        }
        Ok(Issuer { key, name: certificate.subject().as_raw().to_vec() })
    }
}

impl Issuer {
    fn issue(
        &self,
        key: &SecretKey,
        subject: &[u8],
        validity: (time::OffsetDateTime, time::OffsetDateTime),
        purpose: Purpose,
        names_issuer_key: bool,
    ) -> Result<Vec<u8>, Error> {
        let to_be_signed = ToBeSigned {
            serial: entropy::<SERIAL_BYTES>()?,
            issuer: &self.name,
            subject,
            validity,
            spki: &key.public().to_spki_der(),
            key_id: key_id(key),
            issuer_key_id: names_issuer_key.then(|| key_id(&self.key)),
            purpose,
        };
        let to_be_signed = to_be_signed.to_der(SM2_WITH_SM3)?;
        let fresh = Zeroizing::new(entropy::<ENTROPY_BYTES>()?);
        let signature = self.key.sign(DEFAULT_ID, &to_be_signed, &fresh).map_err(bad)?;
        Ok(x509::certificate(&to_be_signed, SM2_WITH_SM3, signature.to_der().as_ref()))
    }
}

/// RFC 7093 §2 with SM3 as the hash: the first 160 bits over the public key.
fn key_id(key: &SecretKey) -> [u8; KEY_ID_BYTES] {
    let digest = Sm3::digest(key.public().as_bytes());
    digest.first_chunk().copied().unwrap_or_default()
}

fn key_pem(key: &SecretKey) -> String {
    pem::encode(pem::PRIVATE_KEY, &*key.to_pkcs8_der()).to_string()
}

fn generate() -> Result<SecretKey, Error> {
    SecretKey::generate(&Zeroizing::new(entropy::<ENTROPY_BYTES>()?)).map_err(bad)
}

/// From the operating system, as rcgen takes it for P-256.
fn entropy<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| bad("the system gave no randomness"))?;
    Ok(bytes)
}
