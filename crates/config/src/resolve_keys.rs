//! Keys of issuers that are fetched by URL.

use moat_model::code::config as codes;

use crate::raw::RawIssuer;
use crate::resolve::{Resolver, WAIT_MS_MAX};
use crate::resolve_upstream::place;
use crate::resolved::KeyUrl;

/// Port of `https` (RFC 9110 §4.2.2).
const PORT: &str = ":443";
/// How often a set is fetched, in milliseconds, unless somebody says otherwise.
const REFRESH_MS: u64 = 300_000;
/// For how long the last set is used, in milliseconds: a day, and a week at most.
const KEEP_MS: u64 = 86_400_000;
const KEEP_MS_MAX: u64 = 7 * KEEP_MS;

/// Where an issuer's keys are fetched from; nothing if they are a file.
pub(crate) fn url(r: &mut Resolver<'_>, raw: &RawIssuer) -> Option<KeyUrl> {
    let Some(rest) = raw.keys.value.strip_prefix("https://") else {
        if raw.trust.is_some() || raw.refresh_ms.is_some() || raw.keep_ms.is_some() {
            let fix = "leave `trust`, `refresh_ms` and `keep_ms` out";
            r.bad(&codes::CONFLICT, &raw.keys, "a file is not fetched", fix);
        }
        return None;
    };
    let refresh_ms = r.bounded(raw.refresh_ms.as_ref(), REFRESH_MS, 1_000..=WAIT_MS_MAX);
    let keep_ms = r.bounded(raw.keep_ms.as_ref(), KEEP_MS, 1_000..=KEEP_MS_MAX);
    let Some(trust) = &raw.trust else {
        let fix = "name the authorities of the server under `trust`";
        r.bad(&codes::MISSING_KEY, &raw.keys, "nobody says whom to believe there", fix);
        return None;
    };
    let trust_pem = r.fetch(trust);
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, format!("/{path}")),
        None => (rest, "/".to_owned()),
    };
    let fine = |b: u8| b.is_ascii_graphic() && b != b'#';
    let is_numbered = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    let whole = if is_numbered { authority.to_owned() } else { format!("{authority}{PORT}") };
    let Some(place) = place(&whole).filter(|_| path.bytes().all(fine)) else {
        let fix = "write https://HOST/PATH, or https://HOST:PORT/PATH";
        r.bad(&codes::BAD_VALUE, &raw.keys, "this is no URL of a set of keys", fix);
        return None;
    };
    Some(KeyUrl { place, path, trust_pem, refresh_ms, keep_ms })
}
