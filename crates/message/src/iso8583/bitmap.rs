//! Which fields are present: three words of 64 bits, field 1 in the highest bit of the first.

use crate::ebcdic::{self, Page};

/// The fields of a message, 1 to 192.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Present(pub(crate) [u64; 3]);

impl Present {
    fn place(field: u8) -> Option<(usize, u64)> {
        let index = field.checked_sub(1)?;
        Some((usize::from(index / 64), 1 << (63 - index % 64)))
    }

    /// Whether the field is there.
    #[must_use]
    #[inline]
    pub fn has(&self, field: u8) -> bool {
        let at = Present::place(field);
        at.is_some_and(|(word, bit)| self.0.get(word).is_some_and(|word| word & bit != 0))
    }

    pub(crate) fn set(&mut self, field: u8, there: bool) {
        if let Some((word, bit)) = Present::place(field)
            && let Some(word) = self.0.get_mut(word)
        {
            *word = if there { *word | bit } else { *word & !bit };
        }
    }

    /// How many fields are there before this one.
    #[inline]
    pub(crate) fn rank(&self, field: u8) -> usize {
        let [a, b, c] = self.0;
        let below = |word: u64, bits: u8| (word & !(u64::MAX >> bits)).count_ones();
        let count = match field.saturating_sub(1) {
            bits @ 0..64 => below(a, bits),
            bits @ 64..128 => a.count_ones() + below(b, bits - 64),
            bits @ 128..192 => a.count_ones() + b.count_ones() + below(c, bits - 128),
            _ => a.count_ones() + b.count_ones() + c.count_ones(),
        };
        usize::try_from(count).unwrap_or(0)
    }

    /// How many fields are there.
    #[must_use]
    pub fn count(&self) -> usize {
        self.rank(u8::MAX)
    }

    /// The fields, in order.
    pub fn iter(&self) -> impl Iterator<Item = u8> + use<> {
        let words = self.0;
        [1_u8, 65, 129].into_iter().zip(words).flat_map(|(first, word)| Bits { first, word })
    }
}

/// The set bits of one word, as field numbers.
struct Bits {
    first: u8,
    word: u64,
}

impl Iterator for Bits {
    type Item = u8;

    #[inline]
    fn next(&mut self) -> Option<u8> {
        if self.word == 0 {
            return None;
        }
        let bit = self.word.leading_zeros();
        self.word &= !(1 << (63 - bit));
        Some(self.first + u8::try_from(bit).unwrap_or(0))
    }
}

/// Reads 8 bytes.
#[inline]
pub(crate) fn read_binary(bytes: [u8; 8]) -> u64 {
    u64::from_be_bytes(bytes)
}

/// Reads 16 hexadecimal characters.
#[inline]
pub(crate) fn read_hex(characters: &[u8; 16], page: Option<Page>) -> Option<u64> {
    let mut ascii = *characters;
    if let Some(page) = page {
        let table = ebcdic::to_ascii(page);
        ascii = ascii.map(|byte| table.get(usize::from(byte)).copied().unwrap_or(0));
    }
    let ([high, low], []) = ascii.as_chunks::<8>() else { return None };
    Some(eight_digits(*high)? << 32 | eight_digits(*low)?)
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Eight hexadecimal digits, side by side in a word.
#[inline]
fn eight_digits(characters: [u8; 8]) -> Option<u64> {
    let word = u64::from_be_bytes(characters);
    // All below 0x80, or no sum below says anything.
    let at_least = |word: u64, least: u8| word.wrapping_add(u64::from(0x80 - least) * ONES);
    let digit = at_least(word, b'0') & !at_least(word, b'9' + 1);
    let folded = word | (0x20 * ONES);
    let letter = at_least(folded, b'a') & !at_least(folded, b'f' + 1);
    if word & HIGH != 0 || (digit | letter) & HIGH != HIGH {
        return None;
    }
    let nibbles = (word & (0x0f * ONES)) + (word >> 6 & ONES) * 9;
    let pairs = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    Some((fours | fours >> 16) & 0xffff_ffff)
}

/// Writes a word as the spec has it.
pub(crate) fn write(word: u64, hex: bool, page: Option<Page>, out: &mut Vec<u8>) {
    if !hex {
        out.extend_from_slice(&word.to_be_bytes());
        return;
    }
    for byte in word.to_be_bytes() {
        out.extend(
            super::value::hex_pair(byte).map(|c| page.map_or(c, |p| ebcdic::from_ascii(p, c))),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_bit_is_one_field() {
        for field in 1..=192 {
            let mut present = Present::default();
            present.set(field, true);
            assert!(present.has(field) && present.count() == 1);
            assert_eq!(present.iter().collect::<Vec<_>>(), [field]);
            assert_eq!((present.rank(field), present.rank(field + 1)), (0, 1));
            present.set(field, false);
            assert_eq!(present, Present::default());
        }
        let mut present = Present::default();
        present.set(0, true);
        present.set(193, true);
        assert_eq!(present, Present::default());
    }

    #[test]
    fn no_other_character_is_a_hexadecimal_digit() {
        for byte in 0..=255_u8 {
            for at in 0..16 {
                let mut text = *b"0123456789abCDEF";
                text[at] = byte;
                let expected = u64::from_str_radix(&String::from_utf8_lossy(&text), 16).ok();
                let expected = expected.filter(|_| byte.is_ascii_hexdigit());
                assert_eq!(read_hex(&text, None), expected, "{byte} {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_word_comes_back_in_every_form(word: u64) {
            for page in [None, Some(Page::Cp037), Some(Page::Cp1047)] {
                let mut out = Vec::new();
                write(word, true, page, &mut out);
                prop_assert_eq!(read_hex(out[..].try_into().unwrap(), page), Some(word));
            }
            let mut out = Vec::new();
            write(word, false, None, &mut out);
            prop_assert_eq!(read_binary(out[..].try_into().unwrap()), word);
        }

        #[test]
        fn ranks_count_what_comes_before(words: [u64; 3], field in 1_u8..=192) {
            let present = Present(words);
            prop_assert_eq!(present.rank(field), present.iter().filter(|f| *f < field).count());
        }
    }
}
