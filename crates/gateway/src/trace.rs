//! Trace ids: the caller's, if it sent a well-formed `traceparent` (W3C Trace Context §3.2), or a
//! fresh random one.

use std::cell::RefCell;

use aws_lc_rs::rand;
use http::{HeaderMap, HeaderValue};

/// A trace id and this gateway's own span id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trace {
    pub(crate) id: [u8; 16],
    span: [u8; 8],
    sampled: bool,
}

impl Trace {
    /// The trace of a request with these headers.
    pub(crate) fn of(headers: &HeaderMap) -> Trace {
        let fresh = random();
        let [span @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = fresh;
        let [_, _, _, _, _, _, _, _, id @ ..] = fresh;
        let parent = headers.get("traceparent").and_then(|value| parse(value.as_bytes()));
        match parent {
            Some((id, sampled)) => Trace { id, span, sampled },
            None => Trace { id, span, sampled: false },
        }
    }

    /// The trace id in lower-case hexadecimal.
    pub(crate) fn hex(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.id)
    }

    /// The trace id as the value of a field.
    pub(crate) fn value(&self) -> HeaderValue {
        let mut text = [0; 32];
        data_encoding::HEXLOWER.encode_mut(&self.id, &mut text);
        value(&text)
    }

    /// The `traceparent` for the service.
    pub(crate) fn header(&self) -> HeaderValue {
        let mut text = *b"00-iiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii-ssssssssssssssss-00";
        let [_, _, _, rest @ .., flags] = &mut text;
        let (id, rest) = rest.split_at_mut(32);
        data_encoding::HEXLOWER.encode_mut(&self.id, id);
        let [_, span @ .., _, _] = rest else { return value(b"") };
        data_encoding::HEXLOWER.encode_mut(&self.span, span);
        *flags = b'0' + u8::from(self.sampled);
        value(&text)
    }
}

/// Hexadecimal digits and dashes are a value, always.
fn value(text: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(text).unwrap_or(HeaderValue::from_static(""))
}

/// Bytes of randomness drawn at once: ids for 64 calls.
const DRAWN_BYTES: usize = 64 * 24;

thread_local! {
    /// Random bytes not used yet.
    static DRAWN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Random bytes for one trace. They name records and guard nothing, so a failing source, which
/// makes ids repeat, is no reason to refuse a call.
fn random() -> [u8; 24] {
    DRAWN.with_borrow_mut(|drawn| {
        if drawn.is_empty() {
            drawn.resize(DRAWN_BYTES, 0);
            let _ = rand::fill(drawn);
        }
        let rest = drawn.len().saturating_sub(24);
        let fresh = drawn.get(rest..).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
        drawn.truncate(rest);
        fresh
    })
}

/// Trace id and sampled flag of a version 00 header; ids of zeros are invalid.
fn parse(text: &[u8]) -> Option<([u8; 16], bool)> {
    if text.len() != 55 || !text.starts_with(b"00-") {
        return None;
    }
    let hex = data_encoding::HEXLOWER;
    let id: [u8; 16] = hex.decode(text.get(3..35)?).ok()?.try_into().ok()?;
    let span = hex.decode(text.get(36..52)?).ok()?;
    let flags = hex.decode(text.get(53..55)?).ok()?;
    let dashes = text.get(35) == Some(&b'-') && text.get(52) == Some(&b'-');
    let zero = id == [0; 16] || span.iter().all(|byte| *byte == 0);
    (dashes && !zero).then(|| (id, flags.first().is_some_and(|f| f & 1 == 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_parent_is_taken_over_and_a_bad_one_is_not() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", good.parse().unwrap());
        let trace = Trace::of(&headers);
        assert_eq!(trace.hex(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(trace.value(), "0af7651916cd43dd8448eb211c80319c");
        let span = data_encoding::HEXLOWER.encode(&trace.span);
        let header = trace.header();
        assert_eq!(header, &format!("00-0af7651916cd43dd8448eb211c80319c-{span}-01"));
        assert_eq!(parse(header.as_bytes()), Some((trace.id, true)));
        for bad in [
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
        assert_ne!(Trace::of(&HeaderMap::new()).id, Trace::of(&HeaderMap::new()).id);
    }
}
