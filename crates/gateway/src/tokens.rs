//! The bearer token of a call, where its route takes one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use http::header::AUTHORIZATION;
use moat_config::TokenUse;
use moat_identity::token::{self, Issuer, Token};
use moat_model::clock::Clock;
use moat_model::code::identity::{TOKEN_MALFORMED, TOKEN_UNBOUND};
use moat_model::{Refusal, Stage};

use crate::body::sha256;
use crate::call::Call;
use crate::decode::Decoded;
use crate::key_sets::KeySet;

/// Most verified tokens that one worker remembers; beyond them it begins anew.
const VERIFIED_MAX: usize = 4_096;

/// Tokens that were verified within this generation, by digest of token and certificate: a signature
/// need not be verified with each call. Gone with the generation, and with each set of keys that is
/// fetched: so with a rotated key.
#[derive(Default)]
pub(crate) struct Verified(RefCell<(u64, HashMap<[u8; 32], Token>)>);

/// Waits for the key that a call's token names, where it has to be fetched: so a key that is new
/// costs no refused call. Says nothing of the token.
pub(crate) async fn fetch_key(call: &Call, decoded: &Decoded) {
    let issuers = &call.generation.shared.issuers;
    if decoded.rules.route.token == TokenUse::Off || issuers.iter().all(|(_, set)| set.is_none()) {
        return;
    }
    let Ok(Some(compact)) = bearer(decoded) else { return };
    let Some((issuer, key_id)) = token::names(compact) else { return };
    let set = issuers.iter().find(|(known, _)| known.name == issuer).map(|(_, set)| set);
    if let Some(Some(set)) = set {
        set.ask_for(&key_id).await;
    }
}

/// The verified token of a call; none where the route takes none, or the caller sends none.
///
/// # Errors
/// A [`Refusal`] at [`Stage::Authorize`] for a token that is not good for this call.
pub(crate) fn of(call: &Call, decoded: &Decoded) -> Result<Option<Token>, Refusal> {
    let r#use = decoded.rules.route.token;
    if r#use == TokenUse::Off {
        return Ok(None);
    }
    let Some(compact) = bearer(decoded)? else { return Ok(None) };
    let token = verified(call, compact)?;
    if r#use == TokenUse::Once {
        call.session.worker.standing.use_once(&token, now_s(call))?;
    }
    Ok(Some(token))
}

/// What stands behind `Bearer`.
fn bearer(decoded: &Decoded) -> Result<Option<&str>, Refusal> {
    let malformed = |why: &str| Refusal::new(Stage::Authorize, &TOKEN_MALFORMED).because(why);
    let mut values = decoded.head.headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(malformed("two Authorization fields"));
    }
    let value = value.to_str().map_err(|_| malformed("Authorization is not ASCII text"))?;
    let Some((scheme, compact)) = value.split_once(' ') else { return Ok(None) };
    Ok(scheme.eq_ignore_ascii_case("bearer").then(|| compact.trim_matches(' ')))
}

fn verified(call: &Call, compact: &str) -> Result<Token, Refusal> {
    let no_peer = || Refusal::new(Stage::Authorize, &moat_model::code::identity::NO_SPIFFE);
    let peer = call.session.peer().ok_or_else(no_peer)?;
    if peer.is_named_only() {
        // A token is bound to a certificate, and there is none here.
        return Err(Refusal::new(Stage::Authorize, &TOKEN_UNBOUND));
    }
    let certificate = peer.certificate_sha256();
    let now_s = now_s(call);
    let known = &call.generation.tokens.0;
    let key = sha256(&[certificate.as_slice(), compact.as_bytes()].concat());
    let (version, issuers) = issuers(call);
    {
        let mut known = known.borrow_mut();
        if known.0 != version {
            *known = (version, HashMap::new());
        }
        if let Some(token) = known.1.get(&key)
            && token.is_good_at(now_s)
        {
            return Ok(token.clone());
        }
    }
    let token = token::verify(compact, &issuers(), certificate, now_s)?;
    let known = &mut known.borrow_mut().1;
    if known.len() >= VERIFIED_MAX {
        known.clear();
    }
    known.insert(key, token.clone());
    Ok(token)
}

/// The issuers with the keys that they have now, and a number that changes with what was fetched or
/// has become too old.
fn issuers(call: &Call) -> (u64, impl Fn() -> Vec<Issuer> + use<'_>) {
    let all = &call.generation.shared.issuers;
    let now = Instant::now();
    let version = all.iter().filter_map(|(_, set)| set.as_ref()).map(|set| {
        // What is too old has a number of its own.
        if set.keys(now).is_some() { set.version().saturating_mul(2) } else { 1 }
    });
    // Counters only grow; what is too old has an odd number that none of them has.
    let version = version.fold(0, |sum: u64, one| sum.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ one);
    let build = move || {
        let one = |(issuer, set): &(Issuer, Option<Arc<KeySet>>)| match set {
            None => issuer.clone(),
            Some(set) => {
                let keys = set.keys(now).map_or_else(Vec::new, |keys| keys.to_vec());
                Issuer { keys, ..issuer.clone() }
            }
        };
        all.iter().map(one).collect()
    };
    (version, build)
}

fn now_s(call: &Call) -> u64 {
    call.session.worker.clock.wall_ns() / 1_000_000_000
}
