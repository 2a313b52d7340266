//! Tokens of persons: a signed JWT (RFC 7519, RFC 8725) that is bound to the caller's certificate
//! (RFC 8705 §3). Encrypted tokens, `none` and keys in the token's own head do not exist here.

use std::collections::BTreeMap;

use data_encoding::BASE64URL_NOPAD;
use moat_model::code::identity::{
    TOKEN_AUDIENCE, TOKEN_EXPIRED, TOKEN_KEY, TOKEN_MALFORMED, TOKEN_SIGNATURE, TOKEN_UNBOUND,
};
use moat_model::{Code, Refusal, Stage};

use crate::NamedKey;
use crate::json::Json;

/// Longest token, in bytes.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// How far the issuer's clock may be from ours, in seconds.
pub const LEEWAY_S: u64 = 30;
/// Longest claim that is handed on, in bytes.
const CLAIM_BYTES_MAX: usize = 256;
/// Most authentication methods in one token.
const METHODS_MAX: usize = 16;

/// One issuer of tokens, and what of them is taken.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// `iss`, to the letter.
    pub name: String,
    /// What `aud` must hold.
    pub audience: String,
    /// Its keys.
    pub keys: Vec<NamedKey>,
    /// Claims of text that are handed on.
    pub claims: Vec<String>,
}

/// What a verified token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// `acr`, or nothing.
    pub acr: String,
    /// `amr`.
    pub amr: Vec<String>,
    /// `auth_time`, in seconds since 1970.
    pub auth_s: Option<u64>,
    /// `iat`, in seconds since 1970.
    pub issued_s: Option<u64>,
    /// `exp`, in seconds since 1970.
    pub expires_s: u64,
    /// `jti`.
    pub id: Option<String>,
    /// The issuer's declared claims; one that the token lacks is empty.
    pub claims: Vec<(String, String)>,
}

impl Token {
    /// Whether it is still good at that time.
    #[must_use]
    pub fn is_good_at(&self, now_s: u64) -> bool {
        now_s <= self.expires_s.saturating_add(LEEWAY_S)
    }
}

/// What a compact token says of its issuer and its key, unverified: good for nothing but to fetch that
/// key.
#[must_use]
pub fn names(compact: &str) -> Option<(String, String)> {
    if compact.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let mut parts = compact.split('.');
    let mut object = || Json::object(&BASE64URL_NOPAD.decode(parts.next()?.as_bytes()).ok()?);
    let (head, claims) = (object()?, object()?);
    Some((text(&claims, "iss")?.to_owned(), text(&head, "kid")?.to_owned()))
}

/// Verifies a compact token (RFC 7515 §3.1) for the caller whose certificate has this SHA-256.
///
/// # Errors
/// A [`Refusal`] at [`Stage::Authorize`] with the code of the first thing that is wrong. It never
/// holds a part of the token.
pub fn verify(
    compact: &str,
    issuers: &[Issuer],
    certificate_sha256: &[u8; 32],
    now_s: u64,
) -> Result<Token, Refusal> {
    let malformed = |why: &str| no(&TOKEN_MALFORMED).because(why);
    if compact.len() > TOKEN_BYTES_MAX {
        return Err(malformed("too long"));
    }
    let (signed, signature) =
        compact.rsplit_once('.').ok_or_else(|| malformed("not three parts"))?;
    let (head, claims) = signed.split_once('.').ok_or_else(|| malformed("not three parts"))?;
    let decode = |part: &str| {
        BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| malformed("a part is no base64url"))
    };
    let object = |part: &str| {
        Json::object(&decode(part)?).ok_or_else(|| malformed("a part is no object of JSON"))
    };
    let (head, claims) = (object(head)?, object(claims)?);
    let key_id = check_head(&head)?;
    let issuer = text(&claims, "iss").ok_or_else(|| malformed("no `iss`"))?;
    let issuer = issuers.iter().find(|known| known.name == issuer);
    let issuer = issuer.ok_or_else(|| no(&TOKEN_KEY).because("unknown issuer"))?;
    let key = issuer.keys.iter().find(|key| key.id == key_id);
    let key = &key.ok_or_else(|| no(&TOKEN_KEY).because("unknown key"))?.key;
    if text(&head, "alg") != Some(key.algorithm().jws()) {
        return Err(no(&TOKEN_SIGNATURE).because("`alg` is not that of the key"));
    }
    if !key.verifies(signed.as_bytes(), &decode(signature)?) {
        return Err(no(&TOKEN_SIGNATURE));
    }
    check_times(&claims, now_s)?;
    if !is_for(&claims, &issuer.audience) {
        return Err(no(&TOKEN_AUDIENCE));
    }
    check_binding(&claims, certificate_sha256)?;
    read(&claims, issuer)
}

/// The key's id. What a head may say besides is a closed set: `crit` names extensions that must be
/// understood, and none is; a key in the head would vouch for itself.
fn check_head(head: &BTreeMap<String, Json>) -> Result<&str, Refusal> {
    let malformed = |why: &str| no(&TOKEN_MALFORMED).because(why);
    if ["crit", "jwk", "jku", "x5u", "b64", "zip", "enc"]
        .iter()
        .any(|name| head.contains_key(*name))
    {
        return Err(malformed("the head says what is not taken"));
    }
    let is_known = |typ: &str| ["jwt", "at+jwt", "application/at+jwt"].contains(&typ);
    match head.get("typ") {
        None => {}
        Some(Json::Text(typ)) if is_known(&typ.to_ascii_lowercase()) => {}
        Some(_) => return Err(malformed("`typ` is not that of an access token")),
    }
    text(head, "kid").ok_or_else(|| malformed("no `kid`"))
}

fn check_times(claims: &BTreeMap<String, Json>, now_s: u64) -> Result<(), Refusal> {
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => value
            .seconds()
            .map(Some)
            .ok_or_else(|| no(&TOKEN_MALFORMED).because(format_args!("`{name}` is no time"))),
    };
    let expires = time("exp")?.ok_or_else(|| no(&TOKEN_MALFORMED).because("no `exp`"))?;
    if now_s > expires.saturating_add(LEEWAY_S) {
        return Err(no(&TOKEN_EXPIRED));
    }
    for name in ["nbf", "iat", "auth_time"] {
        if time(name)?.is_some_and(|at| at > now_s.saturating_add(LEEWAY_S)) {
            return Err(no(&TOKEN_EXPIRED).because(format_args!("`{name}` is in the future")));
        }
    }
    Ok(())
}

fn is_for(claims: &BTreeMap<String, Json>, audience: &str) -> bool {
    match claims.get("aud") {
        Some(Json::Text(one)) => one == audience,
        Some(Json::List(list)) => list.iter().any(|one| one.text() == Some(audience)),
        _ => false,
    }
}

/// RFC 8705 §3.1: `cnf` holds the SHA-256 of the certificate. Without it anybody could show the token.
fn check_binding(claims: &BTreeMap<String, Json>, sha256: &[u8; 32]) -> Result<(), Refusal> {
    let thumbprint = match claims.get("cnf") {
        Some(Json::Object(cnf)) => text(cnf, "x5t#S256"),
        _ => None,
    };
    let thumbprint = thumbprint.and_then(|text| BASE64URL_NOPAD.decode(text.as_bytes()).ok());
    if thumbprint.as_deref() == Some(sha256) { Ok(()) } else { Err(no(&TOKEN_UNBOUND)) }
}

fn read(claims: &BTreeMap<String, Json>, issuer: &Issuer) -> Result<Token, Refusal> {
    let malformed = |name: &str| no(&TOKEN_MALFORMED).because(format_args!("`{name}` is unusable"));
    let short = |name: &str| -> Result<Option<String>, Refusal> {
        match claims.get(name) {
            None => Ok(None),
            Some(Json::Text(text)) if text.len() <= CLAIM_BYTES_MAX => Ok(Some(text.clone())),
            Some(_) => Err(malformed(name)),
        }
    };
    let amr = match claims.get("amr") {
        None => Vec::new(),
        Some(Json::List(list)) if list.len() <= METHODS_MAX => list
            .iter()
            .map(|one| {
                let one = one.text().filter(|text| text.len() <= CLAIM_BYTES_MAX);
                one.map(str::to_owned).ok_or_else(|| malformed("amr"))
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(malformed("amr")),
    };
    let seconds = |name: &str| claims.get(name).and_then(Json::seconds);
    let declared = |name: &String| Ok((name.clone(), short(name)?.unwrap_or_default()));
    Ok(Token {
        issuer: issuer.name.clone(),
        subject: short("sub")?.filter(|s| !s.is_empty()).ok_or_else(|| malformed("sub"))?,
        acr: short("acr")?.unwrap_or_default(),
        amr,
        auth_s: seconds("auth_time"),
        issued_s: seconds("iat"),
        expires_s: seconds("exp").ok_or_else(|| malformed("exp"))?,
        id: short("jti")?.filter(|id| !id.is_empty()),
        claims: issuer.claims.iter().map(declared).collect::<Result<_, Refusal>>()?,
    })
}

fn text<'a>(fields: &'a BTreeMap<String, Json>, name: &str) -> Option<&'a str> {
    fields.get(name).and_then(Json::text)
}

fn no(code: &'static Code) -> Refusal {
    Refusal::new(Stage::Authorize, code)
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
