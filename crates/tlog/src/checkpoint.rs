//! Checkpoints: origin, size and root, signed as a note (c2sp.org/tlog-checkpoint).

use std::fmt;

use crate::hash::Hash;
use crate::key::NAME_BYTES_MAX;
use crate::note::{Note, NoteError};
use crate::proof::Head;
use crate::range::SIZE_MAX;
use crate::sign::Signer;
use crate::text;

/// Most extension lines, which tlog-checkpoint advises against; this crate writes none.
pub const EXTENSIONS_MAX: usize = 16;

/// Why a text is no checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The origin is empty, too long, or not one line.
    #[error("no origin")]
    Origin,
    /// The size has another spelling, or is beyond [`SIZE_MAX`].
    #[error("no size of a tree")]
    Size,
    /// The root is no base64 of 32 bytes.
    #[error("no root of a tree")]
    Root,
    /// Too many lines after the root, or an empty one.
    #[error("the extension lines are malformed")]
    Extension,
    /// It is no note.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    head: Head,
    extensions: Vec<String>,
}

impl Checkpoint {
    /// A checkpoint without extension lines.
    ///
    /// # Errors
    /// When the origin or the size is none.
    pub fn new(origin: &str, head: Head) -> Result<Checkpoint, CheckpointError> {
        if !is_origin(origin) {
            return Err(CheckpointError::Origin);
        }
        if head.size > SIZE_MAX {
            return Err(CheckpointError::Size);
        }
        Ok(Checkpoint { origin: origin.to_owned(), head, extensions: Vec::new() })
    }

    /// Reads the text of a note.
    ///
    /// # Errors
    /// When it is no checkpoint in its one spelling.
    pub fn parse(mut note_text: &str) -> Result<Checkpoint, CheckpointError> {
        let origin = text::take_line(&mut note_text).ok_or(CheckpointError::Origin)?;
        let size = text::take_line(&mut note_text).and_then(text::decimal);
        let size = size.ok_or(CheckpointError::Size)?;
        let root = text::take_line(&mut note_text).and_then(text::decode_hash);
        let root = root.ok_or(CheckpointError::Root)?;
        let mut checkpoint = Checkpoint::new(origin, Head { size, root })?;
        while !note_text.is_empty() {
            let line = text::take_line(&mut note_text).ok_or(CheckpointError::Extension)?;
            if !is_line(line) || checkpoint.extensions.len() >= EXTENSIONS_MAX {
                return Err(CheckpointError::Extension);
            }
            checkpoint.extensions.push(line.to_owned());
        }
        Ok(checkpoint)
    }

    /// Which log.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Size and root.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// How many leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.head.size
    }

    /// The root over them.
    #[must_use]
    pub fn root(&self) -> &Hash {
        &self.head.root
    }

    /// Lines after the root, which nobody audits.
    #[must_use]
    pub fn extensions(&self) -> &[String] {
        &self.extensions
    }

    /// Signs it with the keys of the log.
    ///
    /// # Errors
    /// When a key is one of a witness or cannot sign.
    pub fn sign(self, signers: &[&dyn Signer]) -> Result<SignedCheckpoint, NoteError> {
        let note = Note::sign(&self.to_string(), signers)?;
        Ok(SignedCheckpoint { checkpoint: self, note })
    }
}

impl fmt::Display for Checkpoint {
    /// The text of the note.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = text::encode(&self.head.root);
        write!(f, "{}\n{}\n{root}\n", self.origin, self.head.size)?;
        self.extensions.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// A note whose text is a checkpoint. Parsed is not verified: see [`Note::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: Note,
}

impl SignedCheckpoint {
    /// Reads a note.
    ///
    /// # Errors
    /// When the bytes are no note, or its text is no checkpoint.
    pub fn parse(bytes: &[u8]) -> Result<SignedCheckpoint, CheckpointError> {
        let note = Note::parse(bytes)?;
        Ok(SignedCheckpoint { checkpoint: Checkpoint::parse(note.text())?, note })
    }

    /// What it says.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note, with the signatures.
    #[must_use]
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// The same with cosignatures, which should have been verified.
    ///
    /// # Errors
    /// When there would be too many signatures.
    pub fn with(&self, signatures: &[crate::note::Signature]) -> Result<Self, NoteError> {
        Ok(SignedCheckpoint {
            checkpoint: self.checkpoint.clone(),
            note: self.note.with(signatures)?,
        })
    }
}

impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.note.fmt(f)
    }
}

fn is_origin(origin: &str) -> bool {
    is_line(origin) && origin.len() <= NAME_BYTES_MAX
}

fn is_line(line: &str) -> bool {
    !line.is_empty() && !line.contains(|c: char| c < ' ')
}

#[cfg(test)]
mod tests;
