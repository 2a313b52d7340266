//! Public keys: from a JWK (RFC 7517, RFC 7518, RFC 8037) or from a certificate, and what they
//! verify. A key has one algorithm; what a message says of it can only agree or be refused.

use std::collections::BTreeMap;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use data_encoding::BASE64URL_NOPAD;
use moat_sm::sm2;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::json::Json;

/// Most keys in one set.
const KEYS_MAX: usize = 10_000;
/// Longest key id, in bytes.
pub(crate) const KEY_ID_BYTES_MAX: usize = 256;
/// Bytes of a coordinate of P-256 and SM2, and of an Ed25519 key.
const FIELD_BYTES: usize = 32;
/// Bytes of a modulus of RSA: 2048 to 8192 bits.
const MODULUS_BYTES: core::ops::RangeInclusive<usize> = 256..=1024;

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256, keys of 2048 bits and more.
    Rsa,
    /// ECDSA on P-256 with SHA-256, r and s of 32 bytes each.
    EcdsaP256,
    /// Ed25519.
    Ed25519,
    /// SM2 with SM3 and the identity of GB/T 35276 (`1234567812345678`), r and s of 32 bytes each.
    Sm2Sm3,
}

impl Algorithm {
    /// Every way.
    pub const ALL: [Algorithm; 4] =
        [Algorithm::Rsa, Algorithm::EcdsaP256, Algorithm::Ed25519, Algorithm::Sm2Sm3];

    /// Its name in a JWS (RFC 7518 §3.1, RFC 8037 §3.1). SM2 has no registered one; this is ours.
    #[must_use]
    pub const fn jws(self) -> &'static str {
        match self {
            Algorithm::Rsa => "RS256",
            Algorithm::EcdsaP256 => "ES256",
            Algorithm::Ed25519 => "EdDSA",
            Algorithm::Sm2Sm3 => "SM2-with-SM3",
        }
    }

    /// Its name in an HTTP message signature (RFC 9421 §6.2.2); SM2 has none.
    #[must_use]
    pub const fn http(self) -> Option<&'static str> {
        match self {
            Algorithm::Rsa => Some("rsa-v1_5-sha256"),
            Algorithm::EcdsaP256 => Some("ecdsa-p256-sha256"),
            Algorithm::Ed25519 => Some("ed25519"),
            Algorithm::Sm2Sm3 => None,
        }
    }
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(Inner);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Inner {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    EcdsaP256(Vec<u8>),
    Ed25519(Vec<u8>),
    Sm2(sm2::PublicKey),
}

impl PublicKey {
    /// How it signs.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            Inner::Rsa { .. } => Algorithm::Rsa,
            Inner::EcdsaP256(_) => Algorithm::EcdsaP256,
            Inner::Ed25519(_) => Algorithm::Ed25519,
            Inner::Sm2(_) => Algorithm::Sm2Sm3,
        }
    }

    /// Whether `signature` is this key's over `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Inner::Rsa { n, e } => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
            Inner::EcdsaP256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(message, signature)
                .is_ok(),
            Inner::Ed25519(key) => {
                UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
            }
            Inner::Sm2(key) => signature.try_into().is_ok_and(|bytes| {
                let signature = sm2::Signature::from_bytes(bytes);
                key.verify(sm2::DEFAULT_ID, message, &signature).is_ok()
            }),
        }
    }

    /// The key of a certificate; nothing if it is of a kind that is not known here.
    pub(crate) fn of_certificate(spki: &SubjectPublicKeyInfo<'_>) -> Option<PublicKey> {
        use x509_parser::oid_registry as oid;
        if spki.algorithm.algorithm == oid::OID_SIG_ED25519 {
            let key = spki.subject_public_key.data.to_vec();
            return (key.len() == FIELD_BYTES).then_some(PublicKey(Inner::Ed25519(key)));
        }
        if let Ok(key) = sm2::PublicKey::from_spki_der(spki.raw) {
            return Some(PublicKey(Inner::Sm2(key)));
        }
        match spki.parsed().ok()? {
            x509_parser::public_key::PublicKey::RSA(key) => {
                let trim = |bytes: &[u8]| -> Vec<u8> {
                    bytes.iter().copied().skip_while(|byte| *byte == 0).collect()
                };
                let n = trim(key.modulus);
                let e = trim(key.exponent);
                MODULUS_BYTES.contains(&n.len()).then_some(PublicKey(Inner::Rsa { n, e }))
            }
            x509_parser::public_key::PublicKey::EC(point) => {
                let curve = spki.algorithm.parameters.as_ref()?.as_oid().ok()?;
                let point = point.data().to_vec();
                let is_p256 = curve == oid::OID_EC_P256 && point.len() == 2 * FIELD_BYTES + 1;
                is_p256.then_some(PublicKey(Inner::EcdsaP256(point)))
            }
            _ => None,
        }
    }
}

/// Why a set of keys is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadKeys(String);

impl core::fmt::Display for BadKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for BadKeys {}

/// A key of a set, with its id and the other members that are text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedKey {
    /// `kid`.
    pub id: String,
    /// The key.
    pub key: PublicKey,
    /// Members of the JWK whose values are text, those of the key itself included.
    pub members: BTreeMap<String, String>,
}

/// Reads a JWK set (RFC 7517 §5).
///
/// Keys that are not for signatures, and kinds that are not known here, are left out: what they
/// sign is refused. Everything else must be right: each key has a `kid` of its own, and no private
/// part.
///
/// # Errors
/// [`BadKeys`], with the key's place in the set; never with a part of a key.
pub fn read_keys(text: &[u8]) -> Result<Vec<NamedKey>, BadKeys> {
    let bad = |what: &str| BadKeys(what.to_owned());
    let set = Json::object(text).ok_or_else(|| bad("no JSON object without repeated keys"))?;
    let Some(Json::List(list)) = set.get("keys") else { return Err(bad("`keys` is no list")) };
    if list.len() > KEYS_MAX {
        return Err(bad(&format!("over {KEYS_MAX} keys")));
    }
    let mut keys: Vec<NamedKey> = Vec::new();
    let mut ids = std::collections::BTreeSet::new();
    for (at, entry) in list.iter().enumerate() {
        let Json::Object(members) = entry else {
            return Err(BadKeys(format!("key {at} is no object")));
        };
        let key = read_key(members).map_err(|why| BadKeys(format!("key {at}: {why}")))?;
        let Some(key) = key else { continue };
        if !ids.insert(key.id.clone()) {
            return Err(BadKeys(format!("key {at}: its `kid` stands twice")));
        }
        keys.push(key);
    }
    if keys.is_empty() { Err(bad("it has no key that can be used")) } else { Ok(keys) }
}

fn read_key(members: &BTreeMap<String, Json>) -> Result<Option<NamedKey>, &'static str> {
    let text = |name: &str| members.get(name).and_then(Json::text);
    if members.contains_key("d") || members.contains_key("k") {
        return Err("it has a private or secret part");
    }
    if text("use").is_some_and(|r#use| r#use != "sig") {
        return Ok(None);
    }
    let kind = (text("kty").ok_or("`kty` is missing")?, text("crv"));
    let coordinate = |name: &str| -> Result<Vec<u8>, &'static str> {
        let bytes = number(members, name)?;
        if bytes.len() == FIELD_BYTES { Ok(bytes) } else { Err("a coordinate has not 32 bytes") }
    };
    let point = || -> Result<Vec<u8>, &'static str> {
        Ok([&[4], coordinate("x")?.as_slice(), coordinate("y")?.as_slice()].concat())
    };
    let key = match kind {
        ("RSA", _) => {
            let (n, e) = (number(members, "n")?, number(members, "e")?);
            if !MODULUS_BYTES.contains(&n.len()) {
                return Err("the modulus has not 2048 to 8192 bits");
            }
            Inner::Rsa { n, e }
        }
        ("EC", Some("P-256")) => Inner::EcdsaP256(point()?),
        ("EC", Some("SM2")) => {
            let key = sm2::PublicKey::from_bytes(&point()?);
            Inner::Sm2(key.map_err(|_| "it is no point of the curve")?)
        }
        ("OKP", Some("Ed25519")) => Inner::Ed25519(coordinate("x")?),
        _ => return Ok(None),
    };
    let key = PublicKey(key);
    if text("alg").is_some_and(|alg| alg != key.algorithm().jws()) {
        return Ok(None);
    }
    let id = text("kid").filter(|id| (1..=KEY_ID_BYTES_MAX).contains(&id.len()));
    let id = id.ok_or("`kid` is missing, empty or too long")?.to_owned();
    let members = members
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), value.text()?.to_owned())))
        .collect();
    Ok(Some(NamedKey { id, key, members }))
}

/// A number in base64url without padding, and without zeros before it where it is one of RSA.
fn number(members: &BTreeMap<String, Json>, name: &str) -> Result<Vec<u8>, &'static str> {
    let text = members.get(name).and_then(Json::text).ok_or("a part of the key is missing")?;
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| "a part of the key is no base64url")
}

#[cfg(test)]
#[path = "key_tests.rs"]
pub(crate) mod tests;
