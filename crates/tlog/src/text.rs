//! What the text formats share: lines, decimal numbers, base64, each in one spelling.

use data_encoding::BASE64;
use zeroize::Zeroizing;

use crate::hash::Hash;

/// A number without sign, leading zero or space.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let padded = text.len() > 1 && text.starts_with('0');
    if plain && !padded { text.parse().ok() } else { None }
}

/// Takes the first line off, which must end in a newline.
pub(crate) fn take_line<'a>(text: &mut &'a str) -> Option<&'a str> {
    let (line, rest) = text.split_once('\n')?;
    *text = rest;
    Some(line)
}

/// Standard base64 with padding, as [`encode`] writes it.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let bytes = BASE64.decode(text.as_bytes()).ok()?;
    // The decoder also takes several encodings, each with its padding, one after the other.
    (encode(&bytes) == text).then_some(bytes)
}

/// As [`decode`], and leaves no copy of the bytes in memory that is not wiped.
pub(crate) fn decode_secret(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; BASE64.decode_len(text.len()).ok()?]);
    let len = BASE64.decode_mut(text.as_bytes(), &mut bytes).ok()?;
    bytes.truncate(len);
    let again = Zeroizing::new(encode(&bytes));
    (again.as_str() == text).then_some(bytes)
}

/// Standard base64 with padding.
pub(crate) fn encode(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// A hash in base64.
pub(crate) fn decode_hash(text: &str) -> Option<Hash> {
    decode(text)?.try_into().ok()
}

/// Takes lines of one hash each off, up to an empty line, which goes too.
///
/// `None` when one is no hash, there are more than `max`, or there is no empty line.
pub(crate) fn take_hashes(text: &mut &str, max: usize) -> Option<Vec<Hash>> {
    let mut hashes = Vec::new();
    loop {
        match take_line(text)? {
            "" => return Some(hashes),
            _ if hashes.len() >= max => return None,
            line => hashes.push(decode_hash(line)?),
        }
    }
}

/// Writes hashes as lines, and the empty line after them.
pub(crate) fn put_hashes(text: &mut String, hashes: &[Hash]) {
    for hash in hashes {
        text.push_str(&encode(hash));
        text.push('\n');
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_spelling() {
        assert_eq!(decimal("0"), Some(0));
        assert_eq!(decimal("18446744073709551615"), Some(u64::MAX));
        for text in ["", "00", "01", "+1", "-1", " 1", "1 ", "1_0", "٣", "18446744073709551616"] {
            assert_eq!(decimal(text), None, "{text}");
        }
    }

    #[test]
    fn base64_has_one_spelling() {
        assert_eq!(decode("AA=="), Some(vec![0]));
        assert_eq!(decode_secret("AA=="), Some(Zeroizing::new(vec![0])));
        for text in ["AA", "AA=", "AB==", "A A==", "AA==\n", "_w==", "AA==AA==", "A"] {
            assert_eq!(decode(text), None, "{text:?}");
            assert_eq!(decode_secret(text), None, "{text:?}");
        }
    }
}
