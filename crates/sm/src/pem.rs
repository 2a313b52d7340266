//! PEM (RFC 7468): one block of a kind, read strictly and without tables, as it may hold a key.

use alloc::string::String;
use alloc::vec::Vec;

use zeroize::Zeroizing;

use crate::error::Error;

/// Longest text that is looked at, in bytes.
pub const PEM_BYTES_MAX: usize = 1 << 20;
/// RFC 7468 §2: characters of a line that is not the last.
const LINE: usize = 64;

/// The label of a PKCS #8 private key.
pub const PRIVATE_KEY: &str = "PRIVATE KEY";
/// The label of a SEC 1 private key.
pub const EC_PRIVATE_KEY: &str = "EC PRIVATE KEY";
/// The label that OpenSSL 3 gives a SEC 1 private key on this curve.
pub const SM2_PRIVATE_KEY: &str = "SM2 PRIVATE KEY";
/// The label of a SubjectPublicKeyInfo.
pub const PUBLIC_KEY: &str = "PUBLIC KEY";
/// The label of an encrypted PKCS #8 private key.
pub const ENCRYPTED_PRIVATE_KEY: &str = "ENCRYPTED PRIVATE KEY";

/// The bytes of the first block with that label. Other text and other blocks are passed over; in
/// the block itself, lines are of 64 characters but for the last.
///
/// # Errors
///
/// [`Error::Pem`].
pub fn decode(label: &str, text: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    if text.len() > PEM_BYTES_MAX {
        return Err(Error::Pem);
    }
    let mut lines = text.lines();
    lines.find(|line| is_mark(line, "-----BEGIN ", label)).ok_or(Error::Pem)?;
    let mut out = Zeroizing::new(Vec::with_capacity(text.len() / 4 * 3));
    let mut is_last = false;
    for line in lines {
        if is_mark(line, "-----END ", label) {
            return if out.is_empty() { Err(Error::Pem) } else { Ok(out) };
        }
        if is_last || line.len() > LINE {
            return Err(Error::Pem);
        }
        is_last = decode_line(line, &mut out)?;
    }
    Err(Error::Pem)
}

/// A block of that label.
pub fn encode(label: &str, bytes: &[u8]) -> Zeroizing<String> {
    // Exactly: a string that grows leaves what it held behind.
    let marks = "-----BEGIN -----\n-----END -----\n".len() + 2 * label.len();
    let lines = bytes.len().div_ceil(3) * 4 + bytes.len().div_ceil(LINE / 4 * 3);
    let mut out = Zeroizing::new(String::with_capacity(marks + lines));
    let mark = |out: &mut String, word: &str| {
        for part in ["-----", word, " ", label, "-----\n"] {
            out.push_str(part);
        }
    };
    mark(&mut out, "BEGIN");
    for line in bytes.chunks(LINE / 4 * 3) {
        for three in line.chunks(3) {
            let word = three.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
            let word = word << (8 * (3 - three.len()));
            for at in 0..4 {
                let six = (word >> (18 - 6 * at)).to_le_bytes()[0] & 63;
                out.push(if at <= three.len() { char::from(letter(six)) } else { '=' });
            }
        }
        out.push('\n');
    }
    mark(&mut out, "END");
    out
}

fn is_mark(line: &str, word: &str, label: &str) -> bool {
    let rest = line.trim_end().strip_prefix(word).and_then(|rest| rest.strip_prefix(label));
    rest == Some("-----")
}

/// Adds the bytes of a line. True if no line may follow.
fn decode_line(line: &str, out: &mut Vec<u8>) -> Result<bool, Error> {
    let (fours, rest) = line.as_bytes().as_chunks::<4>();
    if !rest.is_empty() || fours.is_empty() {
        return Err(Error::Pem);
    }
    for (left, four) in (0..fours.len()).rev().zip(fours) {
        let pads = match four {
            [_, _, b'=', b'='] => 2,
            [_, _, _, b'='] => 1,
            _ => 0,
        };
        if pads > 0 && left > 0 {
            return Err(Error::Pem);
        }
        let (mut word, mut wrong) = (0_u32, 0);
        for (place, byte) in four.iter().enumerate() {
            let is_pad = place + pads >= 4;
            let (six, bad) = value(if is_pad { b'A' } else { *byte });
            word = word << 6 | u32::from(six);
            wrong |= bad;
        }
        let [_, bytes @ ..] = word.to_be_bytes();
        let (bytes, unused) = bytes.split_at_checked(3 - pads).unwrap_or_default();
        // RFC 4648 §3.5: bits that belong to no byte are zero.
        if wrong != 0 || unused.iter().any(|byte| *byte != 0) {
            return Err(Error::Pem);
        }
        out.extend_from_slice(bytes);
    }
    Ok(line.len() < LINE || line.ends_with('='))
}

/// All ones if `low <= x <= high`, without a branch.
fn within(x: u8, low: u8, high: u8) -> u8 {
    let (x, low, high) = (i16::from(x), i16::from(low), i16::from(high));
    let outside = (x - low) | (high - x);
    (outside >> 8).to_le_bytes()[0] ^ 0xff
}

/// Six bits of a letter, and whether it is none.
fn value(letter: u8) -> (u8, u8) {
    let ranges = [
        (b'A', b'Z', 0_u8),
        (b'a', b'z', 26),
        (b'0', b'9', 52),
        (b'+', b'+', 62),
        (b'/', b'/', 63),
    ];
    ranges.into_iter().fold((0, 0xff), |(sum, wrong), (low, high, first)| {
        let mask = within(letter, low, high);
        (sum | (mask & letter.wrapping_sub(low).wrapping_add(first)), wrong & !mask)
    })
}

/// The letter of six bits.
fn letter(six: u8) -> u8 {
    let ranges = [(0_u8, 25, b'A'), (26, 51, b'a'), (52, 61, b'0'), (62, 62, b'+'), (63, 63, b'/')];
    ranges.into_iter().fold(0, |sum, (low, high, first)| {
        sum | (within(six, low, high) & six.wrapping_sub(low).wrapping_add(first))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::bytes;

    #[test]
    fn every_length_comes_back() {
        for length in 1..200 {
            let bytes = bytes(1, length);
            let text = encode(PUBLIC_KEY, &bytes);
            assert_eq!(text.len(), text.capacity());
            assert!(text.lines().all(|line| line.len() <= LINE));
            assert_eq!(decode(PUBLIC_KEY, &text).expect("own text")[..], bytes);
            let dos = text.replace('\n', "\r\n");
            assert_eq!(decode(PUBLIC_KEY, &dos).expect("own text")[..], bytes);
            assert_eq!(decode(PRIVATE_KEY, &text), Err(Error::Pem));
            for cut in 0..text.len() - 1 {
                assert!(decode(PUBLIC_KEY, text.split_at(cut).0).is_err(), "{length} {cut}");
            }
        }
    }

    #[test]
    fn every_letter_has_its_value() {
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        for byte in 0..=u8::MAX {
            let place = alphabet.bytes().position(|letter| letter == byte);
            let (six, wrong) = value(byte);
            assert_eq!(wrong == 0, place.is_some());
            if let Some(place) = place {
                assert_eq!(usize::from(six), place);
                assert_eq!(letter(six), byte);
            }
        }
    }

    #[test]
    fn a_block_of_another_kind_before_it_is_passed_over() {
        let first = encode("EC PARAMETERS", b"x");
        let second = encode(EC_PRIVATE_KEY, b"y");
        let text = format!("a note\n{}{}", *first, *second);
        assert_eq!(decode(EC_PRIVATE_KEY, &text).expect("there")[..], *b"y");
    }

    #[test]
    fn what_is_not_canonical_is_refused() {
        let block =
            |body: &str| format!("-----BEGIN PUBLIC KEY-----\n{body}-----END PUBLIC KEY-----\n");
        for body in [
            "",
            "\n",
            "AA\n",
            "AA=\n",
            "A===\n",
            "AB==\n",
            "AAB=\n",
            "AA==AAAA\n",
            "AAAA\nAAAA\n",
            "AA==\nAAAA\n",
            "AA A\n",
            "AAAA \n",
            "äää\n",
            "AAA*\n",
        ] {
            assert_eq!(decode(PUBLIC_KEY, &block(body)), Err(Error::Pem), "{body:?}");
        }
        assert!(decode(PUBLIC_KEY, &block("AA==\n")).is_ok());
    }
}
