//! Nonces of machines' challenges. A nonce says when and for which decision it was made; a MAC binds
//! it to the caller's certificate, the TLS connection, and the method, target and body of the call.
//! So no table of nonces is needed, but for those that were used on a connection.

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use data_encoding::BASE64URL_NOPAD;

/// How long a nonce is good, in milliseconds.
pub(crate) const LIFE_MS: u64 = 60_000;
/// How long a key makes nonces, in milliseconds. The one before it still verifies.
const KEY_MS: u64 = 3_600_000;
/// Most used nonces that one connection remembers; all of them are younger than [`LIFE_MS`].
const USED_MAX: usize = 32;
/// The same for all calls together that others receive: those have no connection here.
const PASSED_ON_USED_MAX: usize = 4_096;

const VERSION: u8 = 1;
/// version, milliseconds, key number, decision.
const PLAIN_BYTES: usize = 1 + 8 + 8 + DECISION_BYTES;
const DECISION_BYTES: usize = 16;
const MAC_BYTES: usize = 32;

/// Which challenge it was: stands in the record of the challenge and in those of its answer.
pub(crate) type Decision = [u8; DECISION_BYTES];

/// What a nonce is bound to.
#[derive(Clone, Copy)]
pub(crate) struct Bound<'a> {
    /// SHA-256 of the caller's certificate.
    pub(crate) certificate: &'a [u8; 32],
    /// Exporter of the connection (RFC 8446 §7.5).
    pub(crate) exporter: &'a [u8; 32],
    pub(crate) method: &'a str,
    pub(crate) target_uri: &'a str,
    /// SHA-256 of the body.
    pub(crate) body: &'a [u8; 32],
}

/// Why a nonce proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// It was not made here, or for something else.
    Forged,
    /// It is too old.
    Expired,
    /// It was used on this connection.
    Replayed,
}

/// A nonce that was good, and is used now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) decision: Decision,
    /// How long ago it was made, in milliseconds.
    pub(crate) age_ms: u64,
}

/// The MAC keys of one worker, since a connection never leaves its worker, or of [`PassedOn`]. Never written down, so a nonce
/// does not outlive the process.
pub(crate) struct Keys {
    current: (u64, Key),
    previous: Option<(u64, Key)>,
    made_ms: u64,
}

/// There is no randomness.
#[derive(Debug)]
pub(crate) struct NoRandomness;

impl Keys {
    pub(crate) fn new(now_ms: u64) -> Result<Keys, NoRandomness> {
        Ok(Keys { current: (1, fresh()?), previous: None, made_ms: now_ms })
    }

    /// A new nonce and the number of the decision in it. `now_ms` is monotonic.
    pub(crate) fn make(
        &mut self,
        bound: Bound<'_>,
        now_ms: u64,
    ) -> Result<(String, Decision), NoRandomness> {
        if now_ms.saturating_sub(self.made_ms) >= KEY_MS {
            let next = (self.current.0 + 1, fresh()?);
            self.previous = Some(core::mem::replace(&mut self.current, next));
            self.made_ms = now_ms;
        }
        let mut decision = Decision::default();
        SystemRandom::new().fill(&mut decision).map_err(|_| NoRandomness)?;
        let mut bytes = Vec::with_capacity(PLAIN_BYTES + MAC_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&now_ms.to_be_bytes());
        bytes.extend_from_slice(&self.current.0.to_be_bytes());
        bytes.extend_from_slice(&decision);
        let mac = hmac::sign(&self.current.1, &covered(&bytes, bound));
        bytes.extend_from_slice(mac.as_ref());
        Ok((BASE64URL_NOPAD.encode(&bytes), decision))
    }

    /// Takes a nonce, once. One that was made for exactly this is used up, whatever comes after.
    pub(crate) fn take(
        &self,
        nonce: &str,
        bound: Bound<'_>,
        used: &mut UsedNonces,
        now_ms: u64,
    ) -> Result<Used, Bad> {
        let bytes = BASE64URL_NOPAD.decode(nonce.as_bytes()).map_err(|_| Bad::Forged)?;
        let (plain, mac) = bytes.split_at_checked(PLAIN_BYTES).ok_or(Bad::Forged)?;
        let (made_ms, number, decision) = read(plain).ok_or(Bad::Forged)?;
        let known = core::iter::once(&self.current).chain(&self.previous);
        let key = known.into_iter().find(|(known, _)| *known == number);
        let Some((_, key)) = key else {
            // A key that is gone was gone for longer than a nonce lives; one to come was never made.
            return Err(if number < self.current.0 { Bad::Expired } else { Bad::Forged });
        };
        if mac.len() != MAC_BYTES || hmac::verify(key, &covered(plain, bound), mac).is_err() {
            return Err(Bad::Forged);
        }
        let age_ms = now_ms.checked_sub(made_ms).ok_or(Bad::Forged)?;
        if age_ms > LIFE_MS {
            return Err(Bad::Expired);
        }
        used.add(decision, made_ms, now_ms)?;
        Ok(Used { decision, age_ms })
    }
}

fn fresh() -> Result<Key, NoRandomness> {
    Key::generate(HMAC_SHA256, &SystemRandom::new()).map_err(|_| NoRandomness)
}

/// Milliseconds, number of the key, decision.
fn read(plain: &[u8]) -> Option<(u64, u64, Decision)> {
    let (version, rest) = plain.split_first()?;
    let (made_ms, rest) = rest.split_first_chunk::<8>()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let decision = rest.try_into().ok()?;
    let read = (u64::from_be_bytes(*made_ms), u64::from_be_bytes(*number), decision);
    (*version == VERSION).then_some(read)
}

/// What the MAC covers: every part with its length before it.
fn covered(plain: &[u8], bound: Bound<'_>) -> Vec<u8> {
    let Bound { certificate, exporter, method, target_uri, body } = bound;
    let mut bytes = Vec::with_capacity(256 + target_uri.len());
    let parts: [&[u8]; 7] = [
        b"moat/step-up/v1",
        plain,
        certificate,
        exporter,
        method.as_bytes(),
        target_uri.as_bytes(),
        body,
    ];
    for part in parts {
        bytes.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// The nonces that one connection has used and that would still be good; and how many may be.
pub(crate) struct UsedNonces(Vec<(Decision, u64)>, usize);

impl Default for UsedNonces {
    fn default() -> UsedNonces {
        UsedNonces(Vec::new(), USED_MAX)
    }
}

/// Nonces of calls that others receive. A repeated call may be asked about at any worker, so all
/// share these.
#[derive(Default)]
pub(crate) struct PassedOn(Option<(Keys, UsedNonces)>);

impl PassedOn {
    /// As [`Keys::make`].
    pub(crate) fn make(
        &mut self,
        bound: Bound<'_>,
        now_ms: u64,
    ) -> Result<(String, Decision), NoRandomness> {
        if let Some((keys, _)) = &mut self.0 {
            return keys.make(bound, now_ms);
        }
        let mut keys = Keys::new(now_ms)?;
        let made = keys.make(bound, now_ms);
        self.0 = Some((keys, UsedNonces(Vec::new(), PASSED_ON_USED_MAX)));
        made
    }

    /// As [`Keys::take`].
    pub(crate) fn take(&mut self, nonce: &str, bound: Bound<'_>, now_ms: u64) -> Result<Used, Bad> {
        let (keys, used) = self.0.as_mut().ok_or(Bad::Forged)?;
        keys.take(nonce, bound, used, now_ms)
    }
}

impl UsedNonces {
    fn add(&mut self, decision: Decision, made_ms: u64, now_ms: u64) -> Result<(), Bad> {
        self.0.retain(|(_, made_ms)| now_ms.saturating_sub(*made_ms) <= LIFE_MS);
        // With no room left to remember it, a nonce could be used twice: it counts as used.
        if self.0.len() >= self.1 || self.0.iter().any(|(known, _)| *known == decision) {
            return Err(Bad::Replayed);
        }
        self.0.push((decision, made_ms));
        Ok(())
    }
}

#[cfg(test)]
#[path = "nonce_tests.rs"]
mod tests;
