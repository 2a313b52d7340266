//! The byte scanners: eight bytes a step in plain integer arithmetic, no `unsafe`.
//!
//! In each test below only the lowest flagged byte is certainly right (a borrow may flag bytes
//! above it), and the lowest is the only one asked for.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Flags bytes below `limit` (at most 0x80), among bytes below 0x80.
const fn below(word: u64, limit: u64) -> u64 {
    word.wrapping_sub(ONES.wrapping_mul(limit)) & !word & HIGH
}

/// Flags bytes equal to `byte`.
const fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ ONES.wrapping_mul(byte as u64), 1)
}

/// How many bytes at the start are plain string content: ASCII, no quote, no backslash, no control
/// character (RFC 8259 §7).
pub(crate) fn plain(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (place, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = (word & HIGH) | below(word, 0x20) | equal(word, b'"') | equal(word, b'\\');
        if found != 0 {
            return place * 8 + (found.trailing_zeros() / 8) as usize;
        }
    }
    let special = |byte: &u8| matches!(*byte, b'"' | b'\\' | 0..=0x1f | 0x80..);
    words.len() * 8 + rest.iter().position(special).unwrap_or(rest.len())
}

/// How many bytes at the start are outside ASCII.
pub(crate) fn not_ascii(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (place, word) in words.iter().enumerate() {
        let ascii = !u64::from_le_bytes(*word) & HIGH;
        if ascii != 0 {
            return place * 8 + (ascii.trailing_zeros() / 8) as usize;
        }
    }
    words.len() * 8 + rest.iter().position(u8::is_ascii).unwrap_or(rest.len())
}

/// How many bytes at the start are white space (RFC 8259 §2).
pub(crate) fn space(bytes: &[u8]) -> usize {
    let blank = |byte: &u8| matches!(*byte, b' ' | b'\n' | b'\r' | b'\t');
    if !bytes.first().is_some_and(blank) {
        return 0;
    }
    let start = usize::from(bytes.first() == Some(&b'\n'));
    let (words, _) = bytes.get(start..).unwrap_or(&[]).as_chunks::<8>();
    let spaces = |word: &&[u8; 8]| **word == *b"        ";
    let indent = start + words.iter().take_while(spaces).count() * 8;
    let rest = bytes.get(indent..).unwrap_or(&[]);
    indent + rest.iter().position(|byte| !blank(byte)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place_is_told_as_the_plain_loop_tells_it() {
        for length in [1, 7, 8, 9, 17, 40] {
            for place in 0..length {
                for byte in 0..=255u8 {
                    for filler in [b'a', b'!', 0x7f] {
                        let mut text = vec![filler; length];
                        text[place] = byte;
                        let special = |b: &u8| matches!(b, b'"' | b'\\' | 0..=0x1f | 0x80..);
                        let wanted = text.iter().position(special).unwrap_or(length);
                        assert_eq!(plain(&text), wanted, "{text:?}");
                    }
                    let mut text = vec![0xe4; length];
                    text[place] = byte;
                    let wanted = text.iter().position(u8::is_ascii).unwrap_or(length);
                    assert_eq!(not_ascii(&text), wanted);
                    let mut text = vec![b' '; length];
                    text[place] = byte;
                    let wanted = text.iter().position(|b| !b" \n\r\t".contains(b));
                    assert_eq!(space(&text), wanted.unwrap_or(length));
                }
            }
        }
    }
}
