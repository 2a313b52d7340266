//! The wire between recorder and auditor: length-prefixed messages over a stream socket pair.
//!
//! Sans-IO: bytes in, messages out. `len:u32 | type:u8 | fields`, big-endian, `len` counts what
//! follows it. A length beyond the bound is refused before anything is stored.

use crate::anchor::AnchorKey;
use crate::hash::Hash;
use crate::record::{BODY_BYTES_MAX, is_log_id};
use crate::value::is_key_id;

/// The version said in the hello.
pub const VERSION: u8 = 1;
/// Longest message after its length prefix, in bytes: a commit with the longest body.
pub const MESSAGE_BYTES_MAX: usize = BODY_BYTES_MAX + 9;

/// The auditor's word that a record is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Index of the record in the log.
    pub seq: u64,
    /// Its leaf hash.
    pub leaf_hash: Hash,
    /// The time in the record.
    pub t_wall_ns: u64,
}

/// Why the auditor did not make a record durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Nack {
    /// The volume is full.
    DiskFull = 1,
    /// Writing failed, and so did the new segment.
    WriteFailed = 2,
    /// The body is not canonical.
    Malformed = 3,
    /// The auditor is stopping.
    Stopping = 4,
    /// Too few witnesses have confirmed the log for too long: nothing new may begin.
    Unwitnessed = 5,
    /// Two histories of the log were signed: nothing new may begin.
    Frozen = 6,
}

impl Nack {
    fn from_byte(byte: u8) -> Option<Nack> {
        let all = [
            Nack::DiskFull,
            Nack::WriteFailed,
            Nack::Malformed,
            Nack::Stopping,
            Nack::Unwitnessed,
            Nack::Frozen,
        ];
        all.into_iter().find(|reason| *reason as u8 == byte)
    }
}

/// One message. Has no `Debug`: a hello carries a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Auditor to recorder, first of all.
    Hello {
        /// The log that is written.
        log_id: &'a str,
        /// Id of the anchor key.
        key_id: &'a str,
        /// The anchor key.
        key: &'a [u8; 32],
    },
    /// Recorder to auditor: make this durable.
    Commit {
        /// Chosen by the recorder, returned with the answer.
        req_id: u64,
        /// Canonical bytes of a body.
        body: &'a [u8],
    },
    /// Auditor to recorder: it is durable.
    Ack {
        /// Of the commit.
        req_id: u64,
        /// Where it is.
        ack: Ack,
    },
    /// Auditor to recorder: it is not durable.
    Nack {
        /// Of the commit.
        req_id: u64,
        /// Why.
        reason: Nack,
    },
}

/// The peer does not speak this protocol; the link must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// A message longer than any may be.
    #[error("a message longer than the bound")]
    TooLong,
    /// A message of no known type or form.
    #[error("a malformed message")]
    Malformed,
    /// A hello of another version.
    #[error("another version of the link protocol")]
    Version,
}

const HELLO: u8 = 1;
const COMMIT: u8 = 2;
const ACK: u8 = 3;
const NACK: u8 = 4;

/// The next message in `bytes` and how many bytes it took; `None` when more bytes are needed.
///
/// # Errors
/// When the bytes can never become a message.
pub fn decode(bytes: &[u8]) -> Result<Option<(Message<'_>, usize)>, LinkError> {
    let Some((len, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let len = usize::try_from(u32::from_be_bytes(*len)).map_err(|_| LinkError::TooLong)?;
    if len > MESSAGE_BYTES_MAX {
        return Err(LinkError::TooLong);
    }
    let Some((&kind, _)) = rest.split_first() else { return Ok(None) };
    if len == 0 || !(HELLO..=NACK).contains(&kind) {
        return Err(LinkError::Malformed);
    }
    let Some(message) = rest.get(1..len) else { return Ok(None) };
    let message = match kind {
        HELLO => decode_hello(message)?,
        COMMIT => decode_commit(message).ok_or(LinkError::Malformed)?,
        ACK => decode_ack(message).ok_or(LinkError::Malformed)?,
        _ => decode_nack(message).ok_or(LinkError::Malformed)?,
    };
    Ok(Some((message, len + 4)))
}

fn decode_hello(bytes: &[u8]) -> Result<Message<'_>, LinkError> {
    let (&version, rest) = bytes.split_first().ok_or(LinkError::Malformed)?;
    if version != VERSION {
        return Err(LinkError::Version);
    }
    let parts = || {
        let (log_id, rest) = split_u8(rest)?;
        let (key_id, key) = split_u8(rest)?;
        Some(Message::Hello {
            log_id: std::str::from_utf8(log_id).ok().filter(|text| is_log_id(text))?,
            key_id: std::str::from_utf8(key_id).ok().filter(|text| is_key_id(text))?,
            key: key.try_into().ok()?,
        })
    };
    parts().ok_or(LinkError::Malformed)
}

fn split_u8(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(len))
}

fn split_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), rest))
}

fn decode_commit(bytes: &[u8]) -> Option<Message<'_>> {
    let (req_id, body) = split_u64(bytes)?;
    Some(Message::Commit { req_id, body })
}

fn decode_ack(bytes: &[u8]) -> Option<Message<'_>> {
    let (req_id, rest) = split_u64(bytes)?;
    let (seq, rest) = split_u64(rest)?;
    let (leaf_hash, rest) = rest.split_first_chunk()?;
    let (t_wall_ns, rest) = split_u64(rest)?;
    let ack = Ack { seq, leaf_hash: *leaf_hash, t_wall_ns };
    rest.is_empty().then_some(Message::Ack { req_id, ack })
}

fn decode_nack(bytes: &[u8]) -> Option<Message<'_>> {
    let (req_id, rest) = split_u64(bytes)?;
    let &[reason] = rest else { return None };
    Some(Message::Nack { req_id, reason: Nack::from_byte(reason)? })
}

/// Appends a message to a buffer that is to be written.
fn push(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let len = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    // Callers keep to the bound, which is far below 32 bits.
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    out.push(kind);
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Appends a hello.
pub fn push_hello(out: &mut Vec<u8>, log_id: &str, key: &AnchorKey) {
    // Both texts have at most 128 bytes, by their checks.
    let len = |text: &str| [u8::try_from(text.len()).unwrap_or(0)];
    let (log_len, key_len) = (len(log_id), len(key.id()));
    let parts: [&[u8]; 6] =
        [&[VERSION], &log_len, log_id.as_bytes(), &key_len, key.id().as_bytes(), key.secret()];
    push(out, HELLO, &parts);
}

/// Appends a commit; the body must have at most `BODY_BYTES_MAX` bytes.
pub fn push_commit(out: &mut Vec<u8>, req_id: u64, body: &[u8]) {
    push(out, COMMIT, &[&req_id.to_be_bytes(), body]);
}

/// Appends an ack.
pub fn push_ack(out: &mut Vec<u8>, req_id: u64, ack: &Ack) {
    let (req_id, seq, t) =
        (req_id.to_be_bytes(), ack.seq.to_be_bytes(), ack.t_wall_ns.to_be_bytes());
    push(out, ACK, &[&req_id, &seq, &ack.leaf_hash, &t]);
}

/// Appends a nack.
pub fn push_nack(out: &mut Vec<u8>, req_id: u64, reason: Nack) {
    push(out, NACK, &[&req_id.to_be_bytes(), &[reason as u8]]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    fn samples() -> Vec<Vec<u8>> {
        let key = AnchorKey::new("k1", Zeroizing::new([6; 32])).unwrap();
        let ack = Ack { seq: 7, leaf_hash: [8; 32], t_wall_ns: 9 };
        let mut out = vec![Vec::new(); 4];
        push_hello(&mut out[0], "log/1", &key);
        push_commit(&mut out[1], 5, b"body");
        push_ack(&mut out[2], 5, &ack);
        push_nack(&mut out[3], 5, Nack::DiskFull);
        out
    }

    #[test]
    fn messages_survive_and_every_truncation_waits_for_more() {
        let ack = Ack { seq: 7, leaf_hash: [8; 32], t_wall_ns: 9 };
        let expected = [
            Message::Hello { log_id: "log/1", key_id: "k1", key: &[6; 32] },
            Message::Commit { req_id: 5, body: b"body" },
            Message::Ack { req_id: 5, ack },
            Message::Nack { req_id: 5, reason: Nack::DiskFull },
        ];
        for (bytes, message) in samples().iter().zip(expected) {
            assert!(decode(bytes) == Ok(Some((message, bytes.len()))));
            for len in 0..bytes.len() {
                assert!(decode(&bytes[..len]) == Ok(None));
            }
        }
    }

    #[test]
    fn what_can_never_become_a_message_is_refused_at_once() {
        let too_long = (MESSAGE_BYTES_MAX as u32 + 1).to_be_bytes();
        assert!(decode(&too_long) == Err(LinkError::TooLong));
        assert!(decode(&[0, 0, 0, 0, 1]) == Err(LinkError::Malformed));
        assert!(decode(&[0, 0, 0, 5, 9]) == Err(LinkError::Malformed));
        assert!(decode(&[0, 0, 0, 2, HELLO, 2]) == Err(LinkError::Version));
        let mut nack = samples().remove(3);
        *nack.last_mut().unwrap() = 99;
        assert!(decode(&nack) == Err(LinkError::Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn messages_in_a_row_come_apart_wherever_they_are_cut(cut in 0usize..200) {
            let all = samples().concat();
            let cut = cut % all.len();
            let mut seen = 0;
            let mut held: Vec<u8> = Vec::new();
            for part in [&all[..cut], &all[cut..]] {
                held.extend_from_slice(part);
                while let Ok(Some((_, used))) = decode(&held) {
                    held.drain(..used);
                    seen += 1;
                }
            }
            prop_assert_eq!((seen, held.len()), (4, 0));
        }
    }
}
