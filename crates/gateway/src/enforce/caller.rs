//! Whose call it is that somebody else received: read from the caller's certificate, whose chain,
//! times and revocation are verified here again. That the caller has the key is the other's word.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use moat_identity::{VerifiedPeer, identify, named};
use moat_model::code::decision::{CALLER_DIFFERS, NO_CALLER};
use moat_model::{Code, Refusal, Stage};
use moat_tls::{Path, Stack};
use rustls_pki_types::UnixTime;

use crate::call::Call;
use crate::generation::Enforcement;

/// Most callers that one worker remembers; beyond them it begins anew.
const KNOWN_MAX: usize = 4_096;

/// Identities that were read out of certificates within this generation, by their bytes.
#[derive(Default)]
pub(crate) struct Known(RefCell<HashMap<Vec<u8>, VerifiedPeer>>);

/// A caller, and what vouches for it.
pub(super) struct Shown {
    pub(super) peer: VerifiedPeer,
    pub(super) path: Arc<Path>,
    pub(super) stack: Stack,
}

/// The caller of a certificate. `principal` is whom the other side says it is, if it says.
///
/// # Errors
/// A [`Refusal`] at [`Stage::Identify`].
pub(super) fn of_certificate(
    call: &Call,
    settings: &Enforcement,
    der: &[u8],
    principal: &str,
) -> Result<Shown, Refusal> {
    if der.is_empty() {
        return Err(no(&NO_CALLER));
    }
    let (stack, path) = settings
        .callers
        .path(der, UnixTime::now())
        .map_err(|refusal| Refusal { stage: Stage::Identify, ..refusal })?;
    let peer = identity(call, der)?;
    if !principal.is_empty() && principal != peer.spiffe().as_str() {
        return Err(no(&CALLER_DIFFERS));
    }
    Ok(Shown { peer, path, stack })
}

/// Remembered: what does not change while a certificate is good is read once.
fn identity(call: &Call, der: &[u8]) -> Result<VerifiedPeer, Refusal> {
    let known = &call.generation.passed_on.0;
    if let Some(peer) = known.borrow().get(der) {
        return Ok(peer.clone());
    }
    let peer = identify(der, &call.generation.shared.trust_domain)?;
    let mut known = known.borrow_mut();
    if known.len() >= KNOWN_MAX {
        known.clear();
    }
    known.insert(der.to_vec(), peer.clone());
    Ok(peer)
}

/// A caller that is only named, where the listener takes the other side's word for it.
///
/// # Errors
/// A [`Refusal`] at [`Stage::Identify`].
pub(super) fn of_name(call: &Call, settings: &Enforcement, spiffe: &str) -> Result<Shown, Refusal> {
    let by = call.session.peer().filter(|_| settings.settings.is_name_enough);
    let peer = named(spiffe, by.ok_or_else(|| no(&NO_CALLER))?)?;
    Ok(Shown { peer, path: Arc::new(Path::of_nobody()), stack: Stack::International })
}

fn no(code: &'static Code) -> Refusal {
    Refusal::new(Stage::Identify, code)
}
