//! Identities: leaf certificates with SPIFFE ids.

use std::net::IpAddr;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::Duration;
use zeroize::Zeroizing;

use crate::authority::{Authority, bad, validity};
use crate::signer::Key;
use crate::x509::{Name, Purpose};
use crate::{Error, Kind};

/// What shall stand in a certificate.
#[derive(Clone, Debug)]
pub struct LeafRequest {
    /// URI names. An identity that Moat accepts has exactly one, its SPIFFE id; the authority
    /// issues any number, so that refusals can be tried.
    pub uris: Vec<String>,
    /// DNS names and IP addresses, for clients that check the server's name.
    pub names: Vec<String>,
    /// Common name of the subject.
    pub common_name: String,
    /// Organisation of the subject, if any.
    pub organization: Option<String>,
    /// Start of validity, in seconds since 1970.
    pub from_s: i64,
    /// Length of validity, in seconds.
    pub valid_s: i64,
}

impl LeafRequest {
    /// A request for one SPIFFE id, valid for a year from `now_s`. The last path segment becomes
    /// the common name.
    #[must_use]
    pub fn spiffe(id: &str, now_s: i64) -> LeafRequest {
        LeafRequest {
            uris: vec![id.to_owned()],
            names: Vec::new(),
            common_name: id.rsplit('/').next().unwrap_or(id).to_owned(),
            organization: None,
            from_s: now_s,
            valid_s: 365 * 86_400,
        }
    }

    /// The alternative names, in the order in which a certificate has them.
    pub(crate) fn alternative_names(&self) -> Vec<Name> {
        let others = self.names.iter().map(|name| match name.parse::<IpAddr>() {
            Ok(ip) => Name::Ip(ip),
            Err(_) => Name::Dns(name.clone()),
        });
        others.chain(self.uris.iter().map(|uri| Name::Uri(uri.clone()))).collect()
    }
}

/// A certificate chain (leaf, issuing authority) and its key.
pub struct Identity {
    /// PEM, leaf first.
    pub chain_pem: String,
    /// PKCS#8 PEM.
    pub key_pem: Zeroizing<String>,
}

impl Authority {
    /// Issues a certificate with a fresh key of the authority's kind, for TLS servers and clients
    /// alike.
    ///
    /// # Errors
    /// [`moat_model::code::ca::BAD_REQUEST`] if a name or a time cannot stand in a certificate.
    pub fn issue(&self, request: &LeafRequest) -> Result<Identity, Error> {
        match self.kind {
            Kind::P256 => self.issue_p256(request),
            Kind::Sm2 => self.issue_sm2(request),
        }
    }

    /// Issues a certificate with a fresh key that may sign OCSP responses in the authority's place,
    /// and nothing else (RFC 6960 §4.2.2.2). Names of the request are not used.
    ///
    /// # Errors
    /// [`moat_model::code::ca::BAD_REQUEST`] if a time cannot stand in a certificate.
    pub fn issue_responder(&self, request: &LeafRequest) -> Result<Identity, Error> {
        let key = Key::generate(self.kind)?;
        let chain_pem = self.chain_of(&key.spki(), request, Purpose::Responder)?;
        Ok(Identity { chain_pem, key_pem: key.to_pem()? })
    }

    fn issue_p256(&self, request: &LeafRequest) -> Result<Identity, Error> {
        let key = KeyPair::generate().map_err(bad)?;
        let mut params = CertificateParams::new(request.names.clone()).map_err(bad)?;
        for uri in &request.uris {
            let uri = uri.as_str().try_into().map_err(bad)?;
            params.subject_alt_names.push(SanType::URI(uri));
        }
        let mut subject = DistinguishedName::new();
        if let Some(organization) = &request.organization {
            subject.push(DnType::OrganizationName, organization.as_str());
        }
        subject.push(DnType::CommonName, request.common_name.as_str());
        params.distinguished_name = subject;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let length = Duration::seconds(request.valid_s);
        (params.not_before, params.not_after) = validity(request.from_s, length)?;
        let leaf = params.signed_by(&key, &self.issuer()?).map_err(bad)?;
        Ok(Identity {
            chain_pem: format!("{}{}", leaf.pem(), self.issuing_pem),
            key_pem: Zeroizing::new(key.serialize_pem()),
        })
    }
}
