//! Bodies: counted bytes, or chunks (RFC 9112 §7.1) read strictly.
//!
//! Data passes in bulk. A chunk-size line and the trailer section are held until they are complete
//! and accepted, the CR after a chunk until its LF is there.

use moat_model::code::http;
use moat_model::limit::{ANNOUNCED_BYTES_MAX, CHUNK_SIZE_DIGITS_MAX};

use super::bytes::{Cursor, is_token_byte};
use super::fields::{Split, check_trailer};
use super::section::{Event, Kind, Section};
use super::{Fault, Framing, Limits, Sink, fault};

/// What of a body is still to come.
#[derive(Debug)]
pub(super) enum Body {
    /// So many bytes, at least one.
    Length(u64),
    /// Chunks.
    Chunked(Chunked),
    /// All that comes.
    UntilClose,
}

impl Body {
    /// The body that `framing` announces, if it is not empty.
    pub(super) fn new(framing: Framing, limits: Limits) -> Option<Body> {
        match framing {
            Framing::None | Framing::Length(0) => None,
            Framing::Length(bytes) => Some(Body::Length(bytes)),
            Framing::Chunked => Some(Body::Chunked(Chunked::new(limits))),
            Framing::UntilClose => Some(Body::UntilClose),
        }
    }

    /// Passes on what is good; true once the body is complete.
    pub(super) fn feed(
        &mut self,
        input: &mut Cursor<'_>,
        out: &mut impl Sink,
    ) -> Result<bool, Fault> {
        match self {
            Body::Length(left) => Ok(pass(left, input, out)),
            Body::Chunked(chunked) => chunked.feed(input, out),
            Body::UntilClose => {
                out.data(input.bulk(u64::MAX));
                Ok(false)
            }
        }
    }

    /// Bytes held back.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Body::Chunked(chunked) => chunked.held_bytes(),
            Body::Length(_) | Body::UntilClose => 0,
        }
    }
}

/// Passes up to `left` bytes; true once none is left.
fn pass(left: &mut u64, input: &mut Cursor<'_>, out: &mut impl Sink) -> bool {
    let data = input.bulk(*left);
    out.data(data);
    *left = left.saturating_sub(u64::try_from(data.len()).unwrap_or(u64::MAX));
    *left == 0
}

/// A chunked body.
#[derive(Debug)]
pub(super) struct Chunked {
    limits: Limits,
    /// The chunk-size line so far, without its CR LF.
    line: Vec<u8>,
    expect: Expect,
}

/// What comes next in a chunked body.
#[derive(Debug)]
enum Expect {
    Size { after_cr: bool },
    Data(u64),
    DataEnd { after_cr: bool },
    Trailers(Section),
}

impl Chunked {
    fn new(limits: Limits) -> Chunked {
        Chunked { limits, line: Vec::new(), expect: Expect::Size { after_cr: false } }
    }

    fn held_bytes(&self) -> usize {
        match &self.expect {
            Expect::Size { after_cr } => self.line.len() + usize::from(*after_cr),
            Expect::Data(_) => 0,
            Expect::DataEnd { after_cr } => usize::from(*after_cr),
            Expect::Trailers(section) => section.held_bytes(),
        }
    }

    fn feed(&mut self, input: &mut Cursor<'_>, out: &mut impl Sink) -> Result<bool, Fault> {
        while !input.is_empty() {
            match &mut self.expect {
                Expect::Size { after_cr } => {
                    let extension_bytes_max = self.limits.chunk_extension_bytes_max;
                    let line_bytes_max = CHUNK_SIZE_DIGITS_MAX + extension_bytes_max;
                    if !size_line(&mut self.line, after_cr, line_bytes_max, input)? {
                        continue;
                    }
                    let size = chunk_size(&self.line, extension_bytes_max)?;
                    out.framing(&self.line);
                    out.framing(b"\r\n");
                    self.line.clear();
                    self.expect = match size {
                        0 => Expect::Trailers(Section::new(Kind::Trailers, self.limits)),
                        _ => Expect::Data(size),
                    };
                }
                Expect::Data(left) => {
                    if pass(left, input, out) {
                        self.expect = Expect::DataEnd { after_cr: false };
                    }
                }
                Expect::DataEnd { after_cr } => {
                    if data_end(after_cr, input)? {
                        out.framing(b"\r\n");
                        self.expect = Expect::Size { after_cr: false };
                    }
                }
                Expect::Trailers(section) => match section.next(input)? {
                    Event::Field => {
                        let Split { name, value, value_at } = check_trailer(section.line())?;
                        let (name, value) = (name.len(), value.len());
                        section.note(name, value_at, value);
                    }
                    Event::End => {
                        section.release(|lines| out.trailers(lines));
                        return Ok(true);
                    }
                    Event::More | Event::Start => {}
                },
            }
        }
        Ok(false)
    }
}

/// Collects a chunk-size line without its CR LF; true once it is complete.
fn size_line(
    line: &mut Vec<u8>,
    after_cr: &mut bool,
    line_bytes_max: usize,
    input: &mut Cursor<'_>,
) -> Result<bool, Fault> {
    while let Some(byte) = input.byte() {
        match byte {
            b'\n' if *after_cr => {
                input.count(line.len());
                return Ok(true);
            }
            _ if *after_cr => return fault(&http::BAD_CHUNK, "CR without LF in a chunk-size line"),
            b'\r' => *after_cr = true,
            b'\t' => line.push(byte),
            ..=0x1f | 0x7f => return fault(&http::BAD_CHUNK, "control in a chunk-size line"),
            _ => line.push(byte),
        }
        if line.len() > line_bytes_max {
            return fault(&http::BAD_CHUNK, "chunk-size line is longer than its bound");
        }
    }
    Ok(false)
}

/// Awaits exactly CR LF; true once both are there.
fn data_end(after_cr: &mut bool, input: &mut Cursor<'_>) -> Result<bool, Fault> {
    match (input.byte(), *after_cr) {
        (None, _) => Ok(false),
        (Some(b'\r'), false) => {
            *after_cr = true;
            Ok(false)
        }
        (Some(b'\n'), true) => Ok(true),
        _ => fault(&http::BAD_CHUNK, "chunk is longer than its size"),
    }
}

/// `1*HEXDIG [ chunk-ext ]`: the size, if the line is well-formed.
fn chunk_size(line: &[u8], extension_bytes_max: usize) -> Result<u64, Fault> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let Some((digits, extension)) = line.split_at_checked(digits) else {
        return fault(&http::BAD_CHUNK, "chunk without a size");
    };
    let size = core::str::from_utf8(digits)
        .ok()
        .filter(|digits| digits.len() <= CHUNK_SIZE_DIGITS_MAX)
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .filter(|size| *size <= ANNOUNCED_BYTES_MAX);
    let Some(size) = size else {
        return fault(&http::BAD_CHUNK, "chunk size is missing or too great");
    };
    if extension.len() > extension_bytes_max {
        return fault(&http::BAD_CHUNK, "chunk extension is longer than its bound");
    }
    if !is_extension(extension) {
        return fault(&http::BAD_CHUNK, "chunk extension is malformed");
    }
    Ok(size)
}

/// `*( ";" token [ "=" ( token / quoted-string ) ] )` (RFC 9112 §7.1.1), without the bad white
/// space that the grammar forbids senders to write.
fn is_extension(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(after) = rest.strip_prefix(b";").and_then(skip_token) else { return false };
        rest = after;
        let Some(value) = rest.strip_prefix(b"=") else { continue };
        let after = match value.strip_prefix(b"\"") {
            Some(quoted) => skip_quoted(quoted),
            None => skip_token(value),
        };
        let Some(after) = after else { return false };
        rest = after;
    }
    true
}

/// What follows a token of at least one character.
fn skip_token(bytes: &[u8]) -> Option<&[u8]> {
    let length = bytes.iter().take_while(|byte| is_token_byte(**byte)).count();
    if length == 0 { None } else { bytes.get(length..) }
}

/// What follows the closing quote (RFC 9110 §5.6.4).
fn skip_quoted(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        bytes = match bytes {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', _, rest @ ..] => rest,
            [b'\\'] | [] => return None,
            [_, rest @ ..] => rest,
        };
    }
}
