//! Heads and bodies as they are written. What is written is made anew, never copied.

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame};

use super::queue::Queue;
use crate::body::Error;

const END_OF_CHUNK: &[u8] = b"\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoder {
    /// So many bytes are still to be written.
    Length(u64),
    Chunked,
    /// To the end of the connection: for callers of HTTP/1.0, which know no chunks.
    UntilClose,
}

impl Encoder {
    /// Whether nothing more may be written.
    pub(super) fn is_done(self) -> bool {
        self == Encoder::Length(0)
    }

    /// Queues a part of a body. Trailers are dropped: nobody here announces them, and so nobody
    /// has to expect them (RFC 9110 §6.5.1).
    pub(super) fn part(&mut self, frame: Frame<Bytes>, queue: &mut Queue) -> Result<(), Error> {
        let Ok(data) = frame.into_data() else { return Ok(()) };
        if data.is_empty() {
            return Ok(());
        }
        match self {
            Encoder::Length(left) => {
                let length = u64::try_from(data.remaining()).unwrap_or(u64::MAX);
                *left = left.checked_sub(length).ok_or(Error::Unsendable)?;
            }
            Encoder::Chunked => {
                hex(&mut queue.head, data.remaining());
                queue.head.extend_from_slice(END_OF_CHUNK);
                queue.tail = END_OF_CHUNK;
            }
            Encoder::UntilClose => {}
        }
        queue.data = data;
        Ok(())
    }

    /// Queues the end of a body, behind its last part, which may be queued still.
    pub(super) fn end(&mut self, queue: &mut Queue) -> Result<(), Error> {
        match self {
            Encoder::Length(0) | Encoder::UntilClose => {}
            Encoder::Length(_) => return Err(Error::Unsendable),
            Encoder::Chunked if queue.tail.is_empty() => queue.tail = LAST_CHUNK,
            Encoder::Chunked => queue.tail = b"\r\n0\r\n\r\n",
        }
        *self = Encoder::Length(0);
        Ok(())
    }
}

fn hex(out: &mut Vec<u8>, number: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for at in (0..nibbles).rev() {
        out.push(DIGITS.get((number >> (4 * at)) & 15).copied().unwrap_or(b'0'));
    }
}

fn decimal(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0_u8; 20];
    let mut rest = number;
    let mut length = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        length += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(20 - length..).unwrap_or_default());
}

fn fields(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

fn length(out: &mut Vec<u8>, bytes: u64) {
    out.extend_from_slice(b"content-length: ");
    decimal(out, bytes);
    out.extend_from_slice(b"\r\n");
}

/// The length that a body will have, if it is known.
fn exact<B: Body>(body: &B) -> Option<u64> {
    if body.is_end_stream() { Some(0) } else { body.size_hint().exact() }
}

/// Queues the head of a request; its target is in origin form.
pub(super) fn request<B: Body>(request: &mut Request<B>, queue: &mut Queue) -> Encoder {
    let exact = exact(request.body());
    // What frames the message is said by who writes it.
    let headers = request.headers_mut();
    headers.remove(TRANSFER_ENCODING);
    headers.remove(CONNECTION);
    let has_length = headers.remove(CONTENT_LENGTH).is_some();
    let out = &mut queue.head;
    out.extend_from_slice(request.method().as_str().as_bytes());
    out.push(b' ');
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    fields(out, request.headers());
    let encoder = match exact {
        Some(0) => {
            // Nothing, or nothing that was announced (RFC 9110 §8.6).
            let method = request.method();
            if has_length || *method == Method::POST || *method == Method::PUT {
                length(out, 0);
            }
            Encoder::Length(0)
        }
        Some(bytes) => {
            length(out, bytes);
            Encoder::Length(bytes)
        }
        None => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Encoder::Chunked
        }
    };
    out.extend_from_slice(b"\r\n");
    encoder
}

/// What an answer is written for.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) is_head: bool,
    pub(super) version: Version,
    /// Whether another request may follow.
    pub(super) persists: bool,
}

/// Queues the head of an answer; says how its body is written, and whether another request may
/// follow.
pub(super) fn answer<B: Body>(
    response: &mut Response<B>,
    asked: Asked,
    date: &[u8],
    queue: &mut Queue,
) -> (Encoder, bool) {
    let exact = exact(response.body());
    let status = response.status();
    let headers = response.headers_mut();
    let says_close = headers.remove(CONNECTION).is_some_and(|value| value == "close");
    headers.remove(TRANSFER_ENCODING);
    let has_no_body = asked.is_head
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    // What an answer without a body says of the length is that of the body which it would have.
    let announced = headers.remove(CONTENT_LENGTH).filter(|_| status != StatusCode::NO_CONTENT);
    let has_date = headers.contains_key(DATE);
    let out = &mut queue.head;
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or("").as_bytes());
    out.extend_from_slice(b"\r\n");
    fields(out, response.headers());
    let is_old = asked.version == Version::HTTP_10;
    let encoder = match exact {
        _ if has_no_body => {
            if let Some(announced) = announced {
                out.extend_from_slice(b"content-length: ");
                out.extend_from_slice(announced.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
            Encoder::Length(0)
        }
        Some(bytes) => {
            length(out, bytes);
            Encoder::Length(bytes)
        }
        None if is_old => Encoder::UntilClose,
        None => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Encoder::Chunked
        }
    };
    let persists = asked.persists && !says_close && encoder != Encoder::UntilClose;
    if !persists {
        out.extend_from_slice(b"connection: close\r\n");
    } else if is_old {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
    if !has_date {
        out.extend_from_slice(b"date: ");
        out.extend_from_slice(date);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    (encoder, persists)
}
