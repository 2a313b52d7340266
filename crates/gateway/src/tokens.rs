//! The bearer token of a call, where its route takes one.

use std::cell::RefCell;
use std::collections::HashMap;

use http::header::AUTHORIZATION;
use moat_config::TokenUse;
use moat_identity::token::{self, Token};
use moat_model::clock::Clock;
use moat_model::code::identity::{TOKEN_MALFORMED, TOKEN_UNBOUND};
use moat_model::{Refusal, Stage};

use crate::body::sha256;
use crate::call::Call;
use crate::decode::Decoded;

/// Most verified tokens that one worker remembers; beyond them it begins anew.
const VERIFIED_MAX: usize = 4_096;

/// Tokens that were verified within this generation, by digest of token and certificate: a signature
/// need not be verified with each call. Gone with the generation, so with a rotated key.
#[derive(Default)]
pub(crate) struct Verified(RefCell<HashMap<[u8; 32], Token>>);

/// The verified token of a call; none where the route takes none, or the caller sends none.
///
/// # Errors
/// A [`Refusal`] at [`Stage::Authorize`] for a token that is not good for this call.
pub(crate) fn of(call: &Call, decoded: &Decoded) -> Result<Option<Token>, Refusal> {
    let r#use = decoded.rules.route.token;
    if r#use == TokenUse::Off {
        return Ok(None);
    }
    let malformed = |why: &str| Refusal::new(Stage::Authorize, &TOKEN_MALFORMED).because(why);
    let mut values = decoded.head.headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(malformed("two Authorization fields"));
    }
    let value = value.to_str().map_err(|_| malformed("Authorization is not ASCII text"))?;
    let Some((scheme, compact)) = value.split_once(' ') else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(None);
    }
    let token = verified(call, compact.trim_matches(' '))?;
    if r#use == TokenUse::Once {
        call.session.worker.standing.use_once(&token, now_s(call))?;
    }
    Ok(Some(token))
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
    if let Some(token) = known.borrow().get(&key)
        && token.is_good_at(now_s)
    {
        return Ok(token.clone());
    }
    let token = token::verify(compact, &call.generation.shared.issuers, certificate, now_s)?;
    let mut known = known.borrow_mut();
    if known.len() >= VERIFIED_MAX {
        known.clear();
    }
    known.insert(key, token.clone());
    Ok(token)
}

fn now_s(call: &Call) -> u64 {
    call.session.worker.clock.wall_ns() / 1_000_000_000
}
