//! Field lines, and the fields that frame a message or steer the connection.

use moat_model::code::http;
use moat_model::limit::ANNOUNCED_BYTES_MAX;

use super::bytes::{is_token, strip_prefix_ignore_case, trim, trim_start};
use super::{Fault, Framing, fault};

/// The two versions served here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http10,
    Http11,
}

/// Fields that `Connection` may not name: dropping one changes where a request goes, where it
/// ends, who sent it, or whether it may be repeated.
const PROTECTED: &[&[u8]] = &[
    b"host",
    b"content-length",
    b"transfer-encoding",
    b"authorization",
    b"cookie",
    b"forwarded",
    b"x-real-ip",
    b"idempotency-key",
];
const PROTECTED_PREFIXES: &[&[u8]] = &[b"x-forwarded-", b"x-moat-"];

/// Fields that no trailer may be, beside the protected ones (RFC 9110 §6.5.1).
const HEAD_ONLY: &[&[u8]] = &[
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"upgrade",
    b"expect",
    b"content-encoding",
    b"content-type",
    b"content-range",
];

/// A field line taken apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Split<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    /// Where in the line the value begins.
    pub(super) value_at: usize,
}

/// Splits `name ":" OWS value OWS`. The section has already refused control characters.
pub(super) fn split(line: &[u8]) -> Result<Split<'_>, Fault> {
    let mut parts = line.splitn(2, |byte| *byte == b':');
    let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
        return fault(&http::MALFORMED_HEAD, "field line without a colon");
    };
    if name.is_empty() {
        return fault(&http::MALFORMED_HEAD, "empty field name");
    }
    if matches!(name, [.., b' ' | b'\t']) {
        // RFC 9112 §5.1: such a request must be refused.
        return fault(&http::MALFORMED_HEAD, "white space before the colon");
    }
    if !is_token(name) {
        return fault(&http::MALFORMED_HEAD, "field name is not a token");
    }
    let begun = trim_start(value);
    let value_at = line.len() - begun.len();
    Ok(Split { name, value: trim(begun), value_at })
}

/// Refuses a trailer that frames, routes, identifies or changes how the body is read.
pub(super) fn check_trailer(line: &[u8]) -> Result<Split<'_>, Fault> {
    let split = split(line)?;
    let name = split.name;
    if is_protected(name) || HEAD_ONLY.iter().any(|field| field.eq_ignore_ascii_case(name)) {
        return fault(&http::TRAILER, "trailer with a field that belongs in the head");
    }
    Ok(split)
}

fn is_protected(name: &[u8]) -> bool {
    PROTECTED.iter().any(|field| field.eq_ignore_ascii_case(name))
        || PROTECTED_PREFIXES.iter().any(|field| strip_prefix_ignore_case(name, field).is_some())
}

/// What the fields of one head say about framing and persistence, line by line.
#[derive(Debug, Default)]
pub(super) struct Fields {
    content_length: Option<u64>,
    codings: Option<Codings>,
    close: bool,
    keep_alive: bool,
    pub(super) upgrade: bool,
}

/// The transfer codings, all lines together.
#[derive(Debug, Default)]
struct Codings {
    chunked: u8,
    others: bool,
    chunked_is_last: bool,
    malformed: bool,
}

impl Fields {
    /// Takes note of one field.
    pub(super) fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        if name.eq_ignore_ascii_case(b"content-length") {
            self.content_length(value)
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.codings.get_or_insert_default().line(value);
            self.check_one_framing()
        } else if name.eq_ignore_ascii_case(b"connection") {
            self.connection(value)
        } else {
            self.upgrade |= name.eq_ignore_ascii_case(b"upgrade");
            Ok(())
        }
    }

    /// What the fields say, all of them read (RFC 9112 §6.3); `None` where they say nothing.
    pub(super) fn framing(&self, version: Version) -> Result<Option<Framing>, Fault> {
        let Some(codings) = &self.codings else {
            return Ok(self.content_length.map(Framing::Length));
        };
        if version == Version::Http10 {
            return fault(&http::TRANSFER_ENCODING, "Transfer-Encoding in HTTP/1.0");
        }
        codings.check()?;
        Ok(Some(Framing::Chunked))
    }

    /// Whether another message may follow on the connection (RFC 9112 §9.3).
    pub(super) fn persists(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Fault> {
        let Some(length) = decimal(value) else {
            return fault(&http::CONTENT_LENGTH, "Content-Length is not a plain number");
        };
        if self.content_length.replace(length).is_some() {
            return fault(&http::CONTENT_LENGTH, "more than one Content-Length");
        }
        self.check_one_framing()
    }

    fn check_one_framing(&self) -> Result<(), Fault> {
        if self.content_length.is_some() && self.codings.is_some() {
            return fault(&http::BOTH_FRAMINGS, "Content-Length beside Transfer-Encoding");
        }
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) -> Result<(), Fault> {
        for option in value.split(|byte| *byte == b',').map(trim) {
            if option.is_empty() {
                continue; // RFC 9110 §5.6.1.2: empty elements are to be ignored.
            }
            if !is_token(option) {
                return fault(&http::MALFORMED_HEAD, "connection option is not a token");
            }
            if is_protected(option) {
                return fault(
                    &http::CONNECTION_NAMES_PROTECTED,
                    "Connection names a protected field",
                );
            }
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
        Ok(())
    }
}

impl Codings {
    fn line(&mut self, value: &[u8]) {
        for coding in value.split(|byte| *byte == b',').map(trim) {
            // Empty elements and parameters are refused: what a parser makes of them varies.
            self.malformed |= !is_token(coding);
            self.chunked_is_last = coding.eq_ignore_ascii_case(b"chunked");
            if self.chunked_is_last {
                self.chunked = self.chunked.saturating_add(1);
            } else {
                self.others = true;
            }
        }
    }

    fn check(&self) -> Result<(), Fault> {
        if self.malformed {
            return fault(&http::TRANSFER_ENCODING, "Transfer-Encoding is not a list of names");
        }
        if !self.chunked_is_last {
            // RFC 9112 §6.3: a request whose final coding is not chunked must get 400.
            return fault(&http::TRANSFER_ENCODING, "the final transfer coding is not chunked");
        }
        if self.chunked > 1 {
            return fault(&http::TRANSFER_ENCODING, "chunked is applied twice");
        }
        if self.others {
            // RFC 9112 §6.1.
            return fault(&http::UNKNOWN_CODING, "a transfer coding beside chunked");
        }
        Ok(())
    }
}

/// 1*DIGIT without leading zeros, which some parsers read as octal.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || (digits.len() > 1 && digits.first() == Some(&b'0')) {
        return None;
    }
    let mut number = 0_u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    (number <= ANNOUNCED_BYTES_MAX).then_some(number)
}
