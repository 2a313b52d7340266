//! Signing by a token: the auditor's end of the channel to `moat-hsm`.
//!
//! No private key is here. An answer is believed only if it verifies under the public half that the
//! configuration names, so that a token that was swapped or fails signs nothing.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use moat_net::carriage::{self, Sign, Signed};
use moat_net::control::Channel;
use moat_tlog::key::VerifierKey;
use moat_tlog::sign::{AwsLc, CannotSign, Signer, Verifier as _};
use moat_tlog::token::TokenKey;

/// Longest wait for a signature. A token that is slower is taken for gone until the next try.
const SIGN: Duration = Duration::from_secs(3);

/// The channel to `moat-hsm`, as it comes and goes.
#[derive(Default)]
pub(crate) struct HsmLink(Mutex<State>);

#[derive(Default)]
struct State {
    channel: Option<Channel>,
    next_id: u64,
}

impl HsmLink {
    /// Takes over the channel to a new `moat-hsm`.
    pub(crate) fn take(&self, channel: Channel) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).channel = Some(channel);
    }

    fn sign(&self, label: &str, message: &[u8]) -> io::Result<Vec<u8>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.next_id += 1;
        let id = state.next_id;
        let Some(channel) = &state.channel else { return Err(io::ErrorKind::NotConnected.into()) };
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let text = std::str::from_utf8(message).map_err(io::Error::other)?;
        let asked = Sign { id, label: label.to_owned(), message: text.to_owned() };
        let answered = ask(channel, &asked);
        if answered.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::TimedOut) {
            // It ended or speaks otherwise; the supervisor brings another.
            state.channel = None;
        }
        let signature = answered?.map_err(io::Error::other)?;
        HEXLOWER.decode(signature.as_bytes()).map_err(|error| invalid(error.to_string()))
    }
}

fn ask(channel: &Channel, asked: &Sign) -> io::Result<Result<String, String>> {
    let until = Instant::now() + SIGN;
    carriage::send(channel, asked)?;
    loop {
        let rest = until.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if !channel.wait(rest)? {
            continue;
        }
        let answer = carriage::receive::<Signed>(channel)?;
        let answer = answer.ok_or(io::ErrorKind::UnexpectedEof)?;
        // Others are late answers to what was given up.
        if answer.id == asked.id {
            return Ok(answer.signature);
        }
    }
}

/// A key in the token.
pub(crate) struct HsmSigner {
    key: TokenKey,
    link: Arc<HsmLink>,
}

impl HsmSigner {
    pub(crate) fn new(key: TokenKey, link: Arc<HsmLink>) -> HsmSigner {
        HsmSigner { key, link }
    }
}

impl Signer for HsmSigner {
    fn key(&self) -> &VerifierKey {
        self.key.key()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CannotSign> {
        let signature = self.link.sign(self.key.label(), message).map_err(|_| CannotSign)?;
        let key = self.key.key();
        let verdict = AwsLc.verify(key.algorithm().scheme(), key.public(), message, &signature);
        verdict.map(|()| signature).map_err(|_| CannotSign)
    }
}
