//! What the auditor says to those that do for it what it may not: questions to witnesses for the
//! courier, checkpoints to sign for `moat-hsm`.
//!
//! The auditor has no network and the courier no evidence. The courier carries bodies between the
//! auditor and addresses that the supervisor has given it; it can lose them, not make them.

use std::io;

use serde::{Deserialize, Serialize};

use crate::control::Channel;

/// Longest body of an answer that is carried, in bytes: some twenty cosignature lines.
pub const ANSWER_BYTES_MAX: usize = 8 * 1024;
/// Longest body of a question, in bytes: it must fit into a message of the channel.
pub const ASK_BYTES_MAX: usize = 15 * 1024;

/// A question to a witness.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Returned with the answer.
    pub id: u64,
    /// Which witness, counted as in the policy.
    pub witness: usize,
    /// The body of the request.
    pub body: String,
}

/// What came of a question.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Got {
    /// Of the question.
    pub id: u64,
    /// Which witness was asked.
    pub witness: usize,
    /// Its answer, or why there is none, for people.
    pub answer: Result<Answered, String>,
}

/// An answer, as HTTP has it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// The field `Content-Type`; empty without one.
    pub content_type: String,
    /// The body.
    pub body: String,
}

/// What a key in a token is to sign.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sign {
    /// Returned with the answer.
    pub id: u64,
    /// Label of the key.
    pub label: String,
    /// The text of a checkpoint.
    pub message: String,
}

/// What came of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// Of the question.
    pub id: u64,
    /// The signature, hexadecimal, or why there is none, for people.
    pub signature: Result<String, String>,
}

/// Sends a question or an answer.
///
/// # Errors
/// What the channel says; `InvalidInput` when it is too long.
pub fn send(channel: &Channel, message: &impl Serialize) -> io::Result<()> {
    channel.send(&serde_json::to_vec(message)?, &[])
}

/// Receives one; `None` when the peer has gone.
///
/// # Errors
/// What the channel says; `InvalidData` when it is no such message.
pub fn receive<T: for<'de> Deserialize<'de>>(channel: &Channel) -> io::Result<Option<T>> {
    let Some((bytes, _)) = channel.recv()? else { return Ok(None) };
    let read = serde_json::from_slice(&bytes);
    read.map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_question_and_the_longest_answer_fit_into_a_message() {
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel::from_fd(theirs);
        // Newlines take two bytes in JSON; no other byte of these bodies takes more.
        let ask = Ask { id: u64::MAX, witness: 63, body: "\n".repeat(ASK_BYTES_MAX) };
        send(&ours, &ask).unwrap();
        assert_eq!(receive::<Ask>(&theirs).unwrap(), Some(ask));
        let body = "\n".repeat(ANSWER_BYTES_MAX);
        let answer = Ok(Answered { status: 200, content_type: "x".repeat(256), body });
        let got = Got { id: u64::MAX, witness: 63, answer };
        send(&theirs, &got).unwrap();
        assert_eq!(receive::<Got>(&ours).unwrap(), Some(got));
        ours.send(b"{}", &[]).unwrap();
        assert!(receive::<Ask>(&theirs).is_err());
        drop(ours);
        assert_eq!(receive::<Ask>(&theirs).unwrap(), None);
    }
}
