//! Cosignatures: a witness's word that it saw a checkpoint at a time, and that the log only grew
//! up to it (c2sp.org/tlog-cosignature, Ed25519).

use crate::checkpoint::Checkpoint;
use crate::key::{Algorithm, VerifierKey};
use crate::note::{NoteError, Signature};
use crate::sign::{self, NotVerified, Signer, Verifier};

/// Latest time, in seconds since 1970.
pub const TIME_MAX: u64 = (1 << 63) - 1;

/// What is signed: two lines and the text of the checkpoint, without any signature line.
#[must_use]
pub fn message(checkpoint: &Checkpoint, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{checkpoint}")
}

/// Cosigns. Whoever calls this has checked that the log only grew, and has stored the checkpoint;
/// [`witness`](crate::witness) has types for both.
///
/// # Errors
/// When the key is not one of a witness, cannot sign, or the time is 0 or beyond [`TIME_MAX`].
pub fn cosign(
    checkpoint: &Checkpoint,
    signer: &(impl Signer + ?Sized),
    time: u64,
) -> Result<Signature, NoteError> {
    let key = signer.key();
    if key.algorithm() != Algorithm::CosignatureV1 || !is_time(time) {
        return Err(NoteError::Use(key.name().clone()));
    }
    let signature = sign::sign(signer, message(checkpoint, time).as_bytes())?;
    // tlog-cosignature, Format: a timestamped_signature.
    Ok(Signature::new(key, [time.to_be_bytes().as_slice(), &signature].concat()))
}

/// The time of a cosignature that `key` made. A time to come is not refused here.
///
/// # Errors
/// When the key did not make it over this checkpoint, or the time is 0 or beyond [`TIME_MAX`].
pub fn verify(
    checkpoint: &Checkpoint,
    cosignature: &Signature,
    key: &VerifierKey,
    verifier: &impl Verifier,
) -> Result<u64, NotVerified> {
    if key.algorithm() != Algorithm::CosignatureV1 || !cosignature.claims(key) {
        return Err(NotVerified::Wrong);
    }
    let (time, signature) = cosignature.bytes().split_first_chunk().ok_or(NotVerified::Wrong)?;
    let time = u64::from_be_bytes(*time);
    if !is_time(time) {
        return Err(NotVerified::Wrong);
    }
    sign::check(verifier, key, message(checkpoint, time).as_bytes(), signature)?;
    Ok(time)
}

/// 0 says that there is no time, which a witness may not say of a checkpoint (tlog-witness).
fn is_time(time: u64) -> bool {
    (1..=TIME_MAX).contains(&time)
}

#[cfg(test)]
#[cfg(feature = "aws-lc")]
mod tests;
