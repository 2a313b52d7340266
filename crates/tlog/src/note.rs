//! Signed notes: a text and the signatures under it (c2sp.org/signed-note).

use std::fmt;

use crate::checkpoint::Checkpoint;
use crate::cosignature;
use crate::key::{Algorithm, KeyId, KeyName, VerifierKey};
use crate::sign::{self, CannotSign, NotVerified, Signer, Verifier};
use crate::text;

/// Longest note, in bytes.
pub const NOTE_BYTES_MAX: usize = 256 * 1024;
/// Most signatures of a note; signed-note asks for 16 at least.
pub const SIGNATURES_MAX: usize = 64;

/// Why bytes are no note, or a note says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Too long, not UTF-8, with a control character, or a text that does not end in a newline.
    #[error("no text of a note")]
    Text,
    /// No signature, too many, or a line that is none in its one spelling.
    #[error("the signatures of the note are malformed")]
    Signatures,
    /// A known key's name and id stand before what it did not sign.
    #[error("the signature of {0} is wrong")]
    Wrong(KeyName),
    /// A known key's scheme is not supported by the verifier.
    #[error("the signature of {0} cannot be checked here")]
    Unsupported(KeyName),
    /// A key of a witness was to sign a note, or another a checkpoint with a time.
    #[error("the key of {0} is not for this use")]
    Use(KeyName),
    /// The key cannot sign.
    #[error(transparent)]
    CannotSign(#[from] CannotSign),
}

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Signature {
    name: KeyName,
    id: KeyId,
    bytes: Vec<u8>,
}

impl Signature {
    pub(crate) fn new(key: &VerifierKey, bytes: Vec<u8>) -> Signature {
        Signature { name: key.name().clone(), id: key.id(), bytes }
    }

    /// Reads a line without its newline.
    ///
    /// # Errors
    /// When it is none in its one spelling.
    pub fn parse(line: &str) -> Result<Signature, NoteError> {
        if line.len() > NOTE_BYTES_MAX {
            return Err(NoteError::Signatures);
        }
        let (name, rest) = line
            .strip_prefix("\u{2014} ")
            .and_then(|rest| rest.split_once(' '))
            .ok_or(NoteError::Signatures)?;
        let decoded = text::decode(rest).ok_or(NoteError::Signatures)?;
        let (id, bytes) = decoded.split_first_chunk().ok_or(NoteError::Signatures)?;
        if bytes.is_empty() {
            return Err(NoteError::Signatures);
        }
        let name = KeyName::new(name).map_err(|_| NoteError::Signatures)?;
        Ok(Signature { name, id: KeyId(*id), bytes: bytes.to_vec() })
    }

    /// The name of the key.
    #[must_use]
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// The id of the key.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What stands after the id.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether name and id are those of a key; says nothing of the signature.
    #[must_use]
    pub fn claims(&self, key: &VerifierKey) -> bool {
        self.id == key.id() && self.name == *key.name()
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded = text::encode(&[self.id.0.as_slice(), &self.bytes].concat());
        write!(f, "\u{2014} {} {encoded}", self.name)
    }
}

/// A key that signed, and when, if it is a witness's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed<'k> {
    /// The key.
    pub key: &'k VerifierKey,
    /// The time of a cosignature, in seconds since 1970.
    pub time: Option<u64>,
}

/// A text with signatures, of which nothing is known before [`verify`](Note::verify).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

impl Note {
    /// Reads a note.
    ///
    /// # Errors
    /// When the bytes are none, or have another spelling than [`Note`] is written in.
    pub fn parse(bytes: &[u8]) -> Result<Note, NoteError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::Text);
        }
        let note = std::str::from_utf8(bytes).map_err(|_| NoteError::Text)?;
        // The last empty line is the one that counts.
        let (before, lines) = note.rsplit_once("\n\n").ok_or(NoteError::Text)?;
        let text = format!("{before}\n");
        if !is_text(&text) {
            return Err(NoteError::Text);
        }
        let signatures = parse_signatures(lines)?;
        Ok(Note { text, signatures })
    }

    /// A text and its signatures.
    ///
    /// # Errors
    /// When the text is none of a note, there is no signature, or there are too many.
    pub fn new(text: &str, signatures: Vec<Signature>) -> Result<Note, NoteError> {
        if !is_text(text) {
            return Err(NoteError::Text);
        }
        let note = Note { text: text.to_owned(), signatures };
        note.checked()
    }

    /// Signs a text.
    ///
    /// # Errors
    /// As [`new`](Note::new), and when a key is one of a witness or cannot sign.
    pub fn sign(text: &str, signers: &[&dyn Signer]) -> Result<Note, NoteError> {
        let signatures = signers.iter().map(|signer| {
            let key = signer.key();
            if key.algorithm() == Algorithm::CosignatureV1 {
                return Err(NoteError::Use(key.name().clone()));
            }
            Ok(Signature::new(key, sign::sign(*signer, text.as_bytes())?))
        });
        Note::new(text, signatures.collect::<Result<_, _>>()?)
    }

    /// The same note with more signatures at the end. A line that is there already is not added.
    ///
    /// # Errors
    /// When there would be too many.
    pub fn with(&self, signatures: &[Signature]) -> Result<Note, NoteError> {
        let mut note = self.clone();
        for signature in signatures {
            if !note.signatures.contains(signature) {
                note.signatures.push(signature.clone());
            }
        }
        note.checked()
    }

    fn checked(self) -> Result<Note, NoteError> {
        let counted = (1..=SIGNATURES_MAX).contains(&self.signatures.len());
        let short = self.to_string().len() <= NOTE_BYTES_MAX;
        if counted && short { Ok(self) } else { Err(NoteError::Signatures) }
    }

    /// The text, up to and with its last newline.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures, as they stand there.
    #[must_use]
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Which of `keys` signed. Signatures of other keys are ignored; an empty answer means that
    /// the note says nothing.
    ///
    /// # Errors
    /// When one of the keys is named and did not sign: such a note is not to be used at all.
    pub fn verify<'k>(
        &self,
        keys: &'k [VerifierKey],
        verifier: &impl Verifier,
    ) -> Result<Vec<Signed<'k>>, NoteError> {
        let checkpoint = Checkpoint::parse(&self.text).ok();
        let mut signed = Vec::new();
        for signature in &self.signatures {
            let Some(key) = keys.iter().find(|key| signature.claims(key)) else { continue };
            let verdict = match (key.algorithm(), &checkpoint) {
                (Algorithm::CosignatureV1, None) => Err(NotVerified::Wrong),
                (Algorithm::CosignatureV1, Some(checkpoint)) => {
                    cosignature::verify(checkpoint, signature, key, verifier).map(Some)
                }
                _ => sign::check(verifier, key, self.text.as_bytes(), &signature.bytes)
                    .map(|()| None),
            };
            let time = verdict.map_err(|error| match error {
                NotVerified::Wrong => NoteError::Wrong(key.name().clone()),
                NotVerified::Unsupported => NoteError::Unsupported(key.name().clone()),
            })?;
            signed.push(Signed { key, time });
        }
        Ok(signed)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

/// Signature lines, each with its newline: at least one.
pub(crate) fn parse_signatures(mut lines: &str) -> Result<Vec<Signature>, NoteError> {
    let mut signatures = Vec::new();
    while !lines.is_empty() {
        let line = text::take_line(&mut lines).ok_or(NoteError::Signatures)?;
        if signatures.len() >= SIGNATURES_MAX {
            return Err(NoteError::Signatures);
        }
        signatures.push(Signature::parse(line)?);
    }
    if signatures.is_empty() { Err(NoteError::Signatures) } else { Ok(signatures) }
}

/// Ends in a newline and has no other control character.
fn is_text(text: &str) -> bool {
    text.ends_with('\n') && !text.contains(|c: char| c < ' ' && c != '\n')
}

#[cfg(test)]
#[cfg(feature = "aws-lc")]
mod tests;
