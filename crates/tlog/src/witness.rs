//! The witness protocol, `add-checkpoint` (c2sp.org/tlog-witness), for both sides.
//!
//! A witness goes through types that only the step before can make:
//! [`Request`] → [`Vetted`] → [`Advance`] → [`Stored`] → the answer. There is no way to a
//! cosignature but through [`Advance::store`], which answers only after the new state is stored.
//! Loading the state and storing the new one must be one transaction of the caller.

use crate::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::cosignature;
use crate::hash::{Hash, TreeHash};
use crate::key::{Algorithm, VerifierKey};
use crate::note::{NOTE_BYTES_MAX, NoteError, Signature, parse_signatures};
use crate::proof::{Head, verify_consistency};
use crate::range::SIZE_MAX;
use crate::sign::{Signer, Verifier};
use crate::text;

/// Most hashes of a request: "The client MUST NOT send more than 63".
pub const PROOF_HASHES_MAX: usize = 63;
/// Longest request, in bytes.
pub const REQUEST_BYTES_MAX: usize = NOTE_BYTES_MAX + 4096;
/// Longest answer that is read, in bytes.
pub const ANSWER_BYTES_MAX: usize = NOTE_BYTES_MAX;
/// The type of a body that says a size.
pub const SIZE_CONTENT_TYPE: &str = "text/x.tlog.size";

/// Why a witness does not cosign, as it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The body is no request, or the old size is beyond the new.
    #[error("the request is malformed")]
    Malformed,
    /// No known key of the log signed, or not rightly.
    #[error("the log did not sign the checkpoint")]
    NotSigned,
    /// The origin is none of a known log.
    #[error("the log is not known")]
    UnknownLog,
    /// The old size is not that of the last checkpoint that was cosigned, which is this.
    #[error("the last cosigned checkpoint has {0} leaves")]
    Stale(u64),
    /// Equal size and another root: the log has two histories. The request is the evidence.
    #[error("another checkpoint of this size was cosigned")]
    Fork,
    /// The proof does not verify. The request may be evidence too.
    #[error("the consistency proof does not verify")]
    NotConsistent,
}

impl Refusal {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Refusal::Malformed => 400,
            Refusal::NotSigned => 403,
            Refusal::UnknownLog => 404,
            Refusal::Stale(_) | Refusal::Fork => 409,
            Refusal::NotConsistent => 422,
        }
    }

    /// The type of the answer's body.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        match self {
            Refusal::Stale(_) => SIZE_CONTENT_TYPE,
            _ => "text/plain; charset=utf-8",
        }
    }

    /// The body of the answer.
    #[must_use]
    pub fn body(&self) -> String {
        match self {
            Refusal::Stale(size) => format!("{size}\n"),
            other => format!("{other}\n"),
        }
    }
}

/// What a log asks of a witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    old: u64,
    proof: Vec<Hash>,
    signed: SignedCheckpoint,
}

impl Request {
    /// A request: the log grew from `old` leaves, which the witness knows, to the checkpoint.
    ///
    /// # Errors
    /// When the old size is beyond the new, or the proof is too long, as it can be beyond 2^62.
    pub fn new(old: u64, proof: Vec<Hash>, signed: SignedCheckpoint) -> Result<Request, Refusal> {
        if old > signed.checkpoint().size() || proof.len() > PROOF_HASHES_MAX {
            return Err(Refusal::Malformed);
        }
        Ok(Request { old, proof, signed })
    }

    /// Reads the body of a request.
    ///
    /// # Errors
    /// When it is none, or has another spelling than a request is written in.
    pub fn parse(body: &[u8]) -> Result<Request, Refusal> {
        if body.len() > REQUEST_BYTES_MAX {
            return Err(Refusal::Malformed);
        }
        let mut rest = std::str::from_utf8(body).map_err(|_| Refusal::Malformed)?;
        let old = text::take_line(&mut rest).and_then(|line| line.strip_prefix("old "));
        let old = old.and_then(text::decimal).ok_or(Refusal::Malformed)?;
        let proof = text::take_hashes(&mut rest, PROOF_HASHES_MAX).ok_or(Refusal::Malformed)?;
        let signed = SignedCheckpoint::parse(rest.as_bytes()).map_err(|_| Refusal::Malformed)?;
        Request::new(old, proof, signed)
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> String {
        let mut body = format!("old {}\n", self.old);
        text::put_hashes(&mut body, &self.proof);
        body + &self.signed.to_string()
    }

    /// From which size the log says it grew.
    #[must_use]
    pub fn old(&self) -> u64 {
        self.old
    }

    /// The hashes of the proof.
    #[must_use]
    pub fn proof(&self) -> &[Hash] {
        &self.proof
    }

    /// The checkpoint, with its signatures.
    #[must_use]
    pub fn signed(&self) -> &SignedCheckpoint {
        &self.signed
    }

    /// Whether a known log signed. A key belongs to the log whose origin is the key's name.
    ///
    /// # Errors
    /// 404 when no key has that name, 403 when none of them signed, or one did not sign rightly.
    pub fn vet(self, logs: &[VerifierKey], verifier: &impl Verifier) -> Result<Vetted, Refusal> {
        let origin = self.signed.checkpoint().origin();
        let keys: Vec<VerifierKey> = logs
            .iter()
            .filter(|key| key.name().as_str() == origin)
            .filter(|key| key.algorithm() != Algorithm::CosignatureV1)
            .cloned()
            .collect();
        if keys.is_empty() {
            return Err(Refusal::UnknownLog);
        }
        match self.signed.note().verify(&keys, verifier) {
            Ok(by) if !by.is_empty() => Ok(Vetted(self)),
            _ => Err(Refusal::NotSigned),
        }
    }
}

/// A request that a known log signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vetted(Request);

impl Vetted {
    /// The request: the log's own word, and evidence should it be refused from here on.
    #[must_use]
    pub fn request(&self) -> &Request {
        &self.0
    }

    /// Whose state to load.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.0.signed.checkpoint().origin()
    }

    /// Compares with what was cosigned last for this origin, if anything was.
    ///
    /// # Errors
    /// 409 when it is not what the log says, 422 when the log did not only grow.
    pub fn compare<H: TreeHash>(self, last: Option<Head>) -> Result<Advance, Refusal> {
        let last = last.unwrap_or_else(Head::empty::<H>);
        let next = *self.0.signed.checkpoint().head();
        if self.0.old != last.size {
            return Err(Refusal::Stale(last.size));
        }
        if next.size == last.size && next.root != last.root {
            return Err(Refusal::Fork);
        }
        verify_consistency::<H>(&last, &next, &self.0.proof).map_err(|_| Refusal::NotConsistent)?;
        Ok(Advance { last, signed: self.0.signed })
    }
}

/// A step that may be taken, once it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advance {
    last: Head,
    signed: SignedCheckpoint,
}

impl Advance {
    /// Stores the new state. `store` gets what must still be stored for this origin and what is
    /// to replace it, and answers once the latter is durable. With an equal size both are equal.
    ///
    /// # Errors
    /// What `store` answers; then nothing may be cosigned.
    pub fn store<E>(
        self,
        store: impl FnOnce(&Head, &SignedCheckpoint) -> Result<(), E>,
    ) -> Result<Stored, E> {
        store(&self.last, &self.signed)?;
        Ok(Stored { signed: self.signed })
    }
}

/// A checkpoint that is stored and may be cosigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    signed: SignedCheckpoint,
}

impl Stored {
    /// The body of the answer, status 200: a line for each key of the witness.
    ///
    /// # Errors
    /// When there is no key, one is not of a witness or cannot sign, or the time is none.
    pub fn cosign(&self, signers: &[&dyn Signer], time: u64) -> Result<String, NoteError> {
        if signers.is_empty() {
            return Err(NoteError::Signatures);
        }
        let checkpoint: &Checkpoint = self.signed.checkpoint();
        let lines = signers.iter().map(|signer| {
            cosignature::cosign(checkpoint, *signer, time).map(|line| format!("{line}\n"))
        });
        lines.collect()
    }
}

/// What a witness answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200: lines in the name of witnesses. Which of them to believe, [`Answer::accept`] says.
    Cosigned(Vec<Signature>),
    /// 409: the witness knows this size. More leaves than the log has are a log rolled back.
    Stale(u64),
    /// Any other status.
    Refused(u16),
}

/// The answer of a witness is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer of the witness is malformed")]
pub struct BadAnswer;

impl Answer {
    /// Reads an answer.
    ///
    /// # Errors
    /// When it is none, or has another spelling.
    pub fn parse(status: u16, content_type: &str, body: &[u8]) -> Result<Answer, BadAnswer> {
        if body.len() > ANSWER_BYTES_MAX {
            return Err(BadAnswer);
        }
        match (status, content_type) {
            (200, _) => {
                let lines = std::str::from_utf8(body).map_err(|_| BadAnswer)?;
                parse_signatures(lines).map(Answer::Cosigned).map_err(|_| BadAnswer)
            }
            (409, SIZE_CONTENT_TYPE) => {
                let line = std::str::from_utf8(body).map_err(|_| BadAnswer)?;
                let size = line.strip_suffix('\n').and_then(text::decimal);
                size.filter(|size| *size <= SIZE_MAX).map(Answer::Stale).ok_or(BadAnswer)
            }
            (status, _) => Ok(Answer::Refused(status)),
        }
    }

    /// The cosignatures of known witnesses over the checkpoint. Lines of unknown keys are left
    /// out, and so are wrong ones: a line that a witness did not make spoils no other.
    #[must_use]
    pub fn accept(
        &self,
        checkpoint: &Checkpoint,
        witnesses: &[VerifierKey],
        verifier: &impl Verifier,
    ) -> Vec<(Signature, u64)> {
        let Answer::Cosigned(lines) = self else { return Vec::new() };
        let verified = lines.iter().filter_map(|line| {
            let key = witnesses.iter().find(|key| line.claims(key))?;
            let time = cosignature::verify(checkpoint, line, key, verifier).ok()?;
            Some((line.clone(), time))
        });
        verified.collect()
    }
}

#[cfg(test)]
#[cfg(feature = "aws-lc")]
mod tests;
