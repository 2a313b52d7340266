//! Identities: leaf certificates with SPIFFE ids.

use std::net::IpAddr;

use zeroize::Zeroizing;

use crate::Error;
use crate::authority::Authority;
use crate::signer::Key;
use crate::x509::{Name, Purpose};

/// Longest validity of a certificate that may sign OCSP responses, in seconds: 30 days. It cannot
/// usefully be revoked (RFC 6960 §4.2.2.2.1), so its life is short.
pub const RESPONDER_VALID_MAX_S: i64 = 30 * 86_400;

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
        let key = Key::generate(self.kind)?;
        Ok(Identity { chain_pem: self.chain_for(&key.spki(), request)?, key_pem: key.to_pem()? })
    }

    /// Issues a certificate with a fresh key that may sign OCSP responses in the authority's place,
    /// and nothing else (RFC 6960 §4.2.2.2). Names of the request are not used. It is valid for at
    /// most [`RESPONDER_VALID_MAX_S`]; a longer wish is cut.
    ///
    /// # Errors
    /// [`moat_model::code::ca::BAD_REQUEST`] if a time cannot stand in a certificate.
    pub fn issue_responder(&self, request: &LeafRequest) -> Result<Identity, Error> {
        let key = Key::generate(self.kind)?;
        let mut request = request.clone();
        request.valid_s = request.valid_s.min(RESPONDER_VALID_MAX_S);
        let chain_pem = self.chain_of(&key.spki(), &request, Purpose::Responder)?;
        Ok(Identity { chain_pem, key_pem: key.to_pem()? })
    }
}
