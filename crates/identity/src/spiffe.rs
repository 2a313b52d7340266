//! SPIFFE ids, parsed strictly.

use core::fmt;
use core::str::FromStr;

/// Longest SPIFFE id, in bytes (SPIFFE-ID §2.3).
const ID_BYTES_MAX: usize = 2048;
/// Longest trust domain, in bytes (SPIFFE-ID §2.3).
const DOMAIN_BYTES_MAX: usize = 255;
const SCHEME: &str = "spiffe://";

/// A SPIFFE id such as `spiffe://bank.test/teller`, in the one spelling the standard allows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    text: Box<str>,
    domain_end: usize,
}

/// The text is no SPIFFE id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSpiffe(&'static str);

impl fmt::Display for NotSpiffe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no SPIFFE id: {}", self.0)
    }
}

impl core::error::Error for NotSpiffe {}

impl SpiffeId {
    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain, for example `bank.test`.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        self.text.get(SCHEME.len()..self.domain_end).unwrap_or("")
    }

    /// The path with its leading slash, or nothing.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text.get(self.domain_end..).unwrap_or("")
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for SpiffeId {
    type Err = NotSpiffe;

    /// Follows SPIFFE-ID §2: lower-case trust domain of letters, digits, `.`, `-`, `_`; path
    /// segments of letters, digits, `.`, `-`, `_`, never empty, `.` or `..`; no query, fragment,
    /// port, user information or percent-encoding.
    fn from_str(text: &str) -> Result<SpiffeId, NotSpiffe> {
        if text.len() > ID_BYTES_MAX {
            return Err(NotSpiffe("longer than 2048 bytes"));
        }
        let rest =
            text.strip_prefix(SCHEME).ok_or(NotSpiffe("it does not begin with spiffe://"))?;
        let (domain, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let domain_byte =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if domain.is_empty() || domain.len() > DOMAIN_BYTES_MAX || !domain.bytes().all(domain_byte)
        {
            return Err(NotSpiffe("the trust domain is malformed"));
        }
        if let Some(segments) = path.strip_prefix('/') {
            let segment_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            let good =
                |s: &str| !s.is_empty() && s != "." && s != ".." && s.bytes().all(segment_byte);
            if !segments.split('/').all(good) {
                return Err(NotSpiffe("a path segment is malformed"));
            }
        }
        Ok(SpiffeId { text: text.into(), domain_end: SCHEME.len() + domain.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_ids_are_taken_apart() {
        let id: SpiffeId = "spiffe://bank.test/pay/teller-1".parse().unwrap();
        assert_eq!((id.trust_domain(), id.path()), ("bank.test", "/pay/teller-1"));
        let id: SpiffeId = "spiffe://bank.test".parse().unwrap();
        assert_eq!((id.trust_domain(), id.path()), ("bank.test", ""));
    }

    #[test]
    fn every_other_spelling_is_refused() {
        for bad in [
            "",
            "spiffe://",
            "spiffe:///a",
            "http://bank.test/a",
            "SPIFFE://bank.test/a",
            "spiffe://Bank.test/a",
            "spiffe://bank.test/",
            "spiffe://bank.test/a/",
            "spiffe://bank.test//a",
            "spiffe://bank.test/./a",
            "spiffe://bank.test/../a",
            "spiffe://bank.test:443/a",
            "spiffe://u@bank.test/a",
            "spiffe://bank.test/a?b",
            "spiffe://bank.test/a#b",
            "spiffe://bank.test/%61",
            "spiffe://bank.test/ä",
            "spiffe://bank.test/a b",
            "spiffe://bank.test/a\0",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad:?}");
        }
        let long = format!("spiffe://bank.test/{}", "a".repeat(ID_BYTES_MAX));
        assert!(long.parse::<SpiffeId>().is_err());
    }
}
