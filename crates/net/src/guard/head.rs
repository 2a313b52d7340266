//! Start lines, and what a whole head says: how its message ends and whether the connection
//! persists.

use moat_model::code::{http, upstream};

use super::bytes::{is_token, strip_prefix_ignore_case};
use super::fields::{Fields, Split, Version, split};
use super::host::is_authority;
use super::{Fault, Framing, fault};

/// A head that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) framing: Framing,
    pub(super) persists: bool,
}

/// The head of a request, line by line.
#[derive(Debug, Default)]
pub(super) struct RequestHead {
    version: Option<Version>,
    /// The authority of an absolute target (RFC 9112 §3.2.2).
    authority: Option<Vec<u8>>,
    host: Option<Vec<u8>>,
    fields: Fields,
}

impl RequestHead {
    /// `method SP target SP version` (RFC 9112 §3).
    pub(super) fn start(&mut self, line: &[u8]) -> Result<(), Fault> {
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return fault(&http::MALFORMED_HEAD, "request line is not method, target, version");
        };
        if !is_token(method) {
            return fault(&http::MALFORMED_HEAD, "method is not a token");
        }
        self.version = Some(request_version(version)?);
        if [&b"CONNECT"[..], b"TRACE"].iter().any(|refused| refused.eq_ignore_ascii_case(method)) {
            return fault(&http::METHOD, "CONNECT and TRACE are never served");
        }
        self.target(method, target)
    }

    /// One field line.
    pub(super) fn field<'a>(&mut self, line: &'a [u8]) -> Result<Split<'a>, Fault> {
        let split = split(line)?;
        self.take(split.name, split.value)?;
        Ok(split)
    }

    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        if !name.eq_ignore_ascii_case(b"host") {
            return self.fields.take(name, value);
        }
        if self.host.is_some() {
            return fault(&http::HOST, "more than one Host");
        }
        if !is_authority(value) {
            return fault(&http::HOST, "Host is not a name or address with an optional port");
        }
        self.host = Some(value.to_vec());
        Ok(())
    }

    /// The empty line: judges the head as a whole.
    pub(super) fn end(&self) -> Result<Head, Fault> {
        let Some(version) = self.version else {
            return fault(&http::MALFORMED_HEAD, "no request line");
        };
        let framing = self.fields.framing(version)?.unwrap_or(Framing::None);
        let Some(host) = &self.host else {
            return fault(&http::HOST, "no Host");
        };
        if self.authority.as_ref().is_some_and(|target| !target.eq_ignore_ascii_case(host)) {
            return fault(&http::HOST, "Host differs from the target");
        }
        if self.fields.upgrade {
            // With or without `Connection: upgrade`: hyper looks at this field alone.
            return fault(&http::UPGRADE, "upgrades are not served");
        }
        Ok(Head { framing, persists: self.fields.persists(version) })
    }

    /// Origin form, absolute form, or `*` with OPTIONS (RFC 9112 §3.2).
    fn target(&mut self, method: &[u8], target: &[u8]) -> Result<(), Fault> {
        if !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
            return fault(&http::MALFORMED_HEAD, "request target with a character it may not have");
        }
        if target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS") {
            return Ok(());
        }
        let rest = [&b"http://"[..], b"https://"]
            .iter()
            .find_map(|scheme| strip_prefix_ignore_case(target, scheme));
        let Some(rest) = rest else {
            return fault(&http::MALFORMED_HEAD, "request target in no form that is served");
        };
        let authority = rest.split(|byte| matches!(byte, b'/' | b'?')).next().unwrap_or_default();
        if !is_authority(authority) {
            return fault(&http::HOST, "absolute target without a proper authority");
        }
        self.authority = Some(authority.to_vec());
        Ok(())
    }
}

fn request_version(version: &[u8]) -> Result<Version, Fault> {
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', number @ ..]
            if !number.is_empty()
                && number.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') =>
        {
            fault(&http::VERSION, "neither HTTP/1.1 nor HTTP/1.0")
        }
        _ => fault(&http::MALFORMED_HEAD, "request line does not end in a version"),
    }
}

/// The head of an answer, line by line.
#[derive(Debug, Default)]
pub(super) struct AnswerHead {
    version: Option<Version>,
    status: u16,
    fields: Fields,
}

impl AnswerHead {
    /// `version SP status SP [ reason ]` (RFC 9112 §4): the second space is not optional.
    pub(super) fn start(&mut self, line: &[u8]) -> Result<(), Fault> {
        let (version, rest) = match line {
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b' ', rest @ ..] => {
                (Version::Http11, rest)
            }
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0', b' ', rest @ ..] => {
                (Version::Http10, rest)
            }
            _ => return fault(&upstream::BAD_ANSWER, "status line without a served version"),
        };
        let [hundreds @ b'1'..=b'5', tens @ b'0'..=b'9', ones @ b'0'..=b'9', b' ', ..] = rest
        else {
            return fault(&upstream::BAD_ANSWER, "status is not a number from 100 to 599");
        };
        self.version = Some(version);
        self.status = [hundreds, tens, ones]
            .iter()
            .fold(0, |status, digit| status * 10 + u16::from(**digit - b'0'));
        Ok(())
    }

    /// One field line.
    pub(super) fn field<'a>(&mut self, line: &'a [u8]) -> Result<Split<'a>, Fault> {
        let split = split(line)?;
        self.fields.take(split.name, split.value)?;
        Ok(split)
    }

    /// The status.
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// An interim answer, after which the final one is still to come (RFC 9110 §15.2).
    pub(super) fn is_interim(&self) -> bool {
        self.status < 200
    }

    /// The empty line: judges the head as a whole. `to_head` says that the request was HEAD.
    pub(super) fn end(&self, to_head: bool) -> Result<Head, Fault> {
        let Some(version) = self.version else {
            return fault(&upstream::BAD_ANSWER, "no status line");
        };
        if self.status == 101 {
            return fault(&upstream::BAD_ANSWER, "a switch of protocols that nobody asked for");
        }
        let announced = self.fields.framing(version)?;
        let framing = match announced {
            // RFC 9110 §8.6, RFC 9112 §6.1: neither field may stand here. A zero is harmless.
            Some(Framing::Length(1..) | Framing::Chunked)
                if self.is_interim() || self.status == 204 =>
            {
                return fault(&upstream::BAD_ANSWER, "1xx or 204 that announces a body");
            }
            _ if to_head || self.is_interim() || matches!(self.status, 204 | 304) => Framing::None,
            Some(framing) => framing,
            None => Framing::UntilClose,
        };
        let persists = framing != Framing::UntilClose && self.fields.persists(version);
        Ok(Head { framing, persists })
    }
}
