//! The two faces of the streaming machine.

use core::fmt;
use std::sync::Arc;

use moat_model::Class;

use crate::capture::{Captures, Scalar};
use crate::error::MaskError;
use crate::machine::{Machine, Nowhere};
use crate::plan::Plan;

/// What makes keyed masks: the keyed hash that `hash_anchor` shows, as `H:alg:keyid:base64url`, and
/// the token that `fpe` shows.
///
/// Keys are chosen per request (they belong to the tenant and the data subject), so they are handed
/// to the [`Rewriter`], not to the plan. `None` gives the fixed mask.
pub trait Keys: Send + Sync {
    /// The anchor of the value that stands at `pointer`.
    fn anchor(&self, pointer: &str, class: Class, value: &Scalar) -> Option<String>;

    /// The token of the value that stands at `pointer`.
    fn token(&self, _pointer: &str, _class: Class, _value: &Scalar) -> Option<String> {
        None
    }
}

impl<F> Keys for F
where
    F: Fn(&str, Class, &Scalar) -> Option<String> + Send + Sync,
{
    fn anchor(&self, pointer: &str, class: Class, value: &Scalar) -> Option<String> {
        self(pointer, class, value)
    }
}

/// Masks one JSON document as it arrives.
///
/// Bytes that match no rule leave untouched: white space, key order, spelling of numbers and
/// escapes. A masked string or number becomes a string, a masked boolean the fixed mask; `null`
/// stays, since it holds no value. What has been written before an error must not be used.
///
/// Working memory is below 64 KiB whatever the document, captures apart, which are at most
/// [`moat_model::limit::CAPTURES_MAX`] of at most 4 KiB.
pub struct Rewriter(Machine);

impl Rewriter {
    /// A rewriter for one document.
    #[must_use]
    pub fn new(plan: &Plan) -> Rewriter {
        Rewriter(Machine::new(plan, true))
    }

    /// The same, able to show anchors and tokens.
    #[must_use]
    pub fn with_keys(mut self, keys: Arc<dyn Keys>) -> Rewriter {
        self.0.set_keys(keys);
        self
    }

    /// Reads the next bytes of the document, cut anywhere, and appends what may leave to `out`.
    ///
    /// # Errors
    /// The document is not JSON (RFC 8259), too deep, or has too many captured fields. Every call
    /// after an error gives the same error.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        self.0.push(chunk, out)
    }

    /// Ends the document.
    ///
    /// # Errors
    /// The document is not complete, or was refused before.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<Captures, MaskError> {
        self.0.finish(out)
    }
}

impl fmt::Debug for Rewriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rewriter").finish_non_exhaustive()
    }
}

/// Checks and captures like a [`Rewriter`], and writes nothing.
pub struct Extractor(Machine);

impl Extractor {
    /// An extractor for one document; the plan's strategies are not looked at.
    #[must_use]
    pub fn new(plan: &Plan) -> Extractor {
        Extractor(Machine::new(plan, false))
    }

    /// Reads the next bytes of the document, cut anywhere.
    ///
    /// # Errors
    /// As [`Rewriter::push`].
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), MaskError> {
        self.0.push(chunk, &mut Nowhere)
    }

    /// Ends the document.
    ///
    /// # Errors
    /// As [`Rewriter::finish`].
    pub fn finish(self) -> Result<Captures, MaskError> {
        self.0.finish(&mut Nowhere)
    }
}

impl fmt::Debug for Extractor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extractor").finish_non_exhaustive()
    }
}
