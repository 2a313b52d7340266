//! Reads the bytes of an HTTP/1 connection, and lets through only what cannot be read in two ways
//! (RFC 9112). The one parser of HTTP/1 here: each head is read once.
//!
//! [`RequestGuard`] stands on the caller's side, [`ResponseGuard`] on the upstream's. Both are
//! state machines without I/O: bytes go in, and come out into a [`Sink`] as heads, data and
//! trailers, or a [`Refused`]. What a verdict is never depends on how the bytes were cut.
//! `docs/http.md` lists what is refused.
//!
//! Deliberately absent: no byte of a head, of a chunk-size line or of a trailer section comes out
//! before the whole of it was accepted; no byte is ever changed; at most one head is held; nothing
//! is scanned twice; a guard that refused once never accepts again.
//!
//! ```
//! use moat_net::guard::{Limits, RequestGuard};
//!
//! let mut guard = RequestGuard::new(Limits::default());
//! let mut out = Vec::new();
//! guard.feed(b"GET / HTTP/1.1\r\nHost: a.exa", &mut out)?;
//! assert!(out.is_empty() && guard.head_started());
//! guard.feed(b"mple\r\n\r\n", &mut out)?;
//! assert_eq!(out, b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
//! assert!(guard.at_message_boundary());
//! # Ok::<(), moat_net::guard::Refused>(())
//! ```

use core::fmt;
use core::ops::Range;

use moat_model::{Code, limit};

mod body;
mod bytes;
mod fields;
mod head;
mod host;
mod request;
mod response;
mod section;
#[cfg(test)]
mod tests;

pub use request::RequestGuard;
pub use response::{NotReusable, ResponseGuard};

/// The bounds of one guard, all in bytes but for the count of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest head, from the start line to the empty line; also the longest trailer section.
    pub head_bytes_max: usize,
    /// Most fields of a head, and of a trailer section.
    pub head_fields_max: usize,
    /// Longest request target.
    pub target_bytes_max: usize,
    /// Longest extension of one chunk.
    pub chunk_extension_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_bytes_max: limit::HEAD_BYTES_MAX,
            head_fields_max: limit::HEAD_FIELDS_MAX,
            target_bytes_max: limit::TARGET_BYTES_MAX,
            chunk_extension_bytes_max: limit::CHUNK_EXTENSION_BYTES_MAX,
        }
    }
}

/// How the end of a message is found (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// The message ends with its head.
    None,
    /// So many bytes follow the head.
    Length(u64),
    /// Chunks follow the head.
    Chunked,
    /// Everything up to the end of the connection; answers only.
    UntilClose,
}

/// Where the name and the value of a field stand in a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name.
    pub name: Range<usize>,
    /// The value, without white space around it.
    pub value: Range<usize>,
}

/// A head or trailer section that was accepted.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    /// All of its bytes, with the empty line at its end.
    pub bytes: &'a [u8],
    /// Where the start line stands, without CR LF; empty for trailers.
    pub start: Range<usize>,
    /// The fields in their order.
    pub places: &'a [Place],
}

/// Takes what a guard lets through, in its order.
pub trait Sink {
    /// The head of a message.
    fn head(&mut self, lines: Lines<'_>);
    /// The head of an interim answer.
    fn interim(&mut self, lines: Lines<'_>);
    /// Bytes that only frame a body: chunk-size lines and the ends of chunks.
    fn framing(&mut self, bytes: &[u8]);
    /// Bytes of a body.
    fn data(&mut self, bytes: &[u8]);
    /// The trailer section of a chunked body, be it empty.
    fn trailers(&mut self, lines: Lines<'_>);
}

/// The bytes as they came.
impl Sink for Vec<u8> {
    fn head(&mut self, lines: Lines<'_>) {
        self.extend_from_slice(lines.bytes);
    }

    fn interim(&mut self, lines: Lines<'_>) {
        self.extend_from_slice(lines.bytes);
    }

    fn framing(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn data(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn trailers(&mut self, lines: Lines<'_>) {
        self.extend_from_slice(lines.bytes);
    }
}

/// Why a guard lets nothing more through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The stable code.
    pub code: &'static Code,
    /// Which message of the connection, counted from 0.
    pub message_index: u64,
    /// Whether that message's head had already been released.
    pub in_body: bool,
    /// What exactly was wrong, for the operator. Never holds a byte of the message.
    pub why: &'static str,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = if self.in_body { "body" } else { "head" };
        write!(f, "{}: {} ({part} of message {})", self.code.id, self.why, self.message_index)
    }
}

impl core::error::Error for Refused {}

/// A violation, before the guard adds where it was.
#[derive(Clone, Copy, Debug)]
struct Fault {
    code: &'static Code,
    why: &'static str,
}

/// Shorthand for a refusal with `code`.
fn fault<T>(code: &'static Code, why: &'static str) -> Result<T, Fault> {
    Err(Fault { code, why })
}
