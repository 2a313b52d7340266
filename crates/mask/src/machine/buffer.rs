//! The two buffers of the machine: the key being read and the scalar being read.

use moat_model::limit::JSON_SCALAR_BYTES_MAX;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::capture::Scalar;
use crate::pointer::KEY_BYTES_MAX;

/// The unescaped key, as far as any rule could name it.
#[derive(Default)]
pub(super) struct KeyBuffer {
    bytes: Vec<u8>,
    over: bool,
}

impl KeyBuffer {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.over = false;
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = KEY_BYTES_MAX - self.bytes.len().min(KEY_BYTES_MAX);
        let kept = bytes.get(..room).unwrap_or(bytes);
        self.over |= kept.len() < bytes.len();
        self.bytes.extend_from_slice(kept);
    }

    /// The key, or nothing if it is longer than any rule's.
    pub(super) fn known(&self) -> Option<&[u8]> {
        (!self.over).then_some(&self.bytes)
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// As much of it as was kept.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// What a token turned out to be.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Number,
    Text,
}

/// A matched scalar: its unescaped text, or a running hash once its spelling is longer than a rule
/// may look at.
#[derive(Default)]
pub(super) struct ScalarBuffer {
    text: Vec<u8>,
    /// Bytes of the token as sent, quotes included.
    spelled: usize,
    /// Whether the token is a string: its two quotes do not count.
    is_quoted: bool,
    long: Option<(u64, Sha256)>,
}

impl ScalarBuffer {
    /// The quote in front of a string.
    pub(super) fn quote(&mut self) {
        self.is_quoted = true;
        self.spelling(1);
    }

    /// Bytes that mean themselves.
    pub(super) fn plain(&mut self, bytes: &[u8]) {
        self.spelling(bytes.len());
        self.decoded(bytes);
    }

    /// This many bytes of the spelling only: quotes, escapes, literals.
    pub(super) fn spelling(&mut self, bytes: usize) {
        self.spelled += bytes;
        let quotes = if self.is_quoted { 2 } else { 0 };
        if self.long.is_none() && self.spelled > JSON_SCALAR_BYTES_MAX + quotes {
            self.spill();
        }
    }

    /// Bytes of the meaning only.
    pub(super) fn decoded(&mut self, bytes: &[u8]) {
        match &mut self.long {
            None => {
                if self.text.capacity() == 0 {
                    // Room for the longest: growth would leave an unwiped copy behind.
                    self.text.reserve_exact(JSON_SCALAR_BYTES_MAX);
                }
                self.text.extend_from_slice(bytes);
            }
            Some((len, hash)) => {
                *len += bytes.len() as u64;
                hash.update(bytes);
            }
        }
    }

    fn spill(&mut self) {
        let mut hash = Sha256::new();
        hash.update(&self.text);
        let read = self.text.len() as u64;
        self.wipe();
        self.long = Some((read, hash));
    }

    /// The text of a string or number, unless it is too long.
    pub(super) fn text(&self) -> Option<&str> {
        if self.long.is_some() {
            return None;
        }
        // Checked while it was read, so this never fails.
        core::str::from_utf8(&self.text).ok()
    }

    /// A copy of the value read. `whole` is its text, if it was not buffered.
    pub(super) fn value(&self, kind: Kind, whole: Option<&str>) -> Scalar {
        let text = || Zeroizing::new(whole.or_else(|| self.text()).unwrap_or("").to_owned());
        match (&self.long, kind) {
            (Some((len, hash)), _) => {
                Scalar::TooLong { len: *len, sha256: hash.clone().finalize().into() }
            }
            (None, Kind::Null) => Scalar::Null,
            (None, Kind::Bool(value)) => Scalar::Bool(value),
            (None, Kind::Number) => Scalar::Number(text()),
            (None, Kind::Text) => Scalar::Text(text()),
        }
    }

    /// Forgets the scalar. What was used is overwritten; wiping the whole room each time would cost microseconds.
    pub(super) fn wipe(&mut self) {
        self.text.as_mut_slice().zeroize();
        self.text.clear();
        self.spelled = 0;
        self.is_quoted = false;
        self.long = None;
    }
}

impl Drop for ScalarBuffer {
    fn drop(&mut self) {
        self.wipe();
    }
}
