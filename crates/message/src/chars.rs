//! Which characters a kind of field allows, eight at a time where that is a comparison of ranges.

use crate::ebcdic::{self, Page};
use crate::spec::Kind;

const DIGIT: u8 = 1;
const LETTER: u8 = 2;
const SIGN: u8 = 4;
const SPACE: u8 = 8;
const TRACK: u8 = 16;

const fn class_of(character: u8) -> u8 {
    match character {
        b'0'..=b'9' => DIGIT,
        b' ' => SPACE,
        b'D' => LETTER | TRACK,
        b'=' => SIGN | TRACK,
        b'A'..=b'Z' | b'a'..=b'z' => LETTER,
        b'!'..=b'~' => SIGN,
        _ => 0,
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "worked out by the compiler, where it cannot fail late"
)]
const fn classes(page: Option<Page>) -> [u8; 256] {
    let mut table = [0; 256];
    let mut character = b' ';
    while character <= b'~' {
        let place = match page {
            None => character,
            Some(page) => ebcdic::from_ascii(page, character),
        };
        table[place as usize] = class_of(character);
        character += 1;
    }
    table
}

static ASCII: [u8; 256] = classes(None);
static CP037: [u8; 256] = classes(Some(Page::Cp037));
static CP500: [u8; 256] = classes(Some(Page::Cp500));
static CP1047: [u8; 256] = classes(Some(Page::Cp1047));

/// Spaces fill up text, so every kind with letters or signs has them.
const fn allowed(kind: Kind) -> u8 {
    match kind {
        Kind::N | Kind::Xn => DIGIT,
        Kind::A => LETTER | SPACE,
        Kind::An => LETTER | DIGIT | SPACE,
        Kind::As => LETTER | SIGN | SPACE,
        Kind::Ns => DIGIT | SIGN | SPACE,
        Kind::Ans => LETTER | DIGIT | SIGN | SPACE,
        Kind::Z => DIGIT | TRACK,
        Kind::B | Kind::Tlv | Kind::Composite => u8::MAX,
    }
}

/// The first character that the kind does not allow. No page is ASCII.
#[inline]
pub(crate) fn first_bad(kind: Kind, page: Option<Page>, text: &[u8]) -> Option<usize> {
    let good = match (kind, page) {
        (Kind::B | Kind::Tlv | Kind::Composite, _) => true,
        (Kind::N | Kind::Xn, None) => every_word(text, 0x30, |word| are_digits(word, b'0')),
        (Kind::N | Kind::Xn, Some(_)) => every_word(text, 0xf0, |word| are_digits(word, 0xf0)),
        (Kind::Ans, None) => every_word(text, 0x20, are_printable),
        (Kind::An, None) => every_word(text, 0x20, are_letters_or_digits),
        _ => false,
    };
    if good { None } else { by_table(kind, page, text) }
}

fn by_table(kind: Kind, page: Option<Page>, text: &[u8]) -> Option<usize> {
    let table = match page {
        None => &ASCII,
        Some(Page::Cp037) => &CP037,
        Some(Page::Cp500) => &CP500,
        Some(Page::Cp1047) => &CP1047,
    };
    let allowed = allowed(kind);
    let class = |byte: &u8| table.get(usize::from(*byte)).copied().unwrap_or(0);
    text.iter().position(|byte| class(byte) & allowed == 0)
}

/// Whether every eight bytes are good. The last eight overlap those before; a shorter text is
/// filled up with `fill`, which is good.
#[inline]
fn every_word(text: &[u8], fill: u8, good: impl Fn(u64) -> bool) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    let whole = words.iter().all(|word| good(u64::from_le_bytes(*word)));
    if rest.is_empty() || !whole {
        return whole;
    }
    if let Some(last) = text.last_chunk::<8>() {
        return good(u64::from_le_bytes(*last));
    }
    let mut word = u64::from(fill) * ONES;
    if let (Some(head), Some(tail)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        word = u64::from(u32::from_le_bytes(*head)) | u64::from(u32::from_le_bytes(*tail)) << 32;
    } else {
        for byte in rest {
            word = word << 8 | u64::from(*byte);
        }
    }
    good(word)
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// No byte below the first bad one carries into another, so that a sum is right up to there.
#[inline]
fn are_digits(word: u64, zero: u8) -> bool {
    let digits = word ^ (u64::from(zero) * ONES);
    (digits | digits.wrapping_add(0x76 * ONES)) & HIGH == 0
}

/// Whether every half byte is a decimal digit.
#[inline]
pub(crate) fn are_packed_digits(bytes: &[u8]) -> bool {
    every_word(bytes, 0, |word| {
        let (low, high) = (word & (0x0f * ONES), word >> 4 & (0x0f * ONES));
        ((low + 6 * ONES) | (high + 6 * ONES)) & (0x10 * ONES) == 0
    })
}

/// Letters, digits and spaces.
#[inline]
fn are_letters_or_digits(word: u64) -> bool {
    // With all bytes below 0x80 no sum carries.
    let at_least = |word: u64, least: u8| word.wrapping_add(u64::from(0x80 - least) * ONES);
    let digit = at_least(word, b'0') & !at_least(word, b'9' + 1);
    let folded = word | (0x20 * ONES);
    let letter = at_least(folded, b'a') & !at_least(folded, b'z' + 1);
    let space = at_least(word, b' ') & !at_least(word, b' ' + 1);
    word & HIGH == 0 && (digit | letter | space) & HIGH == HIGH
}

#[inline]
fn are_printable(word: u64) -> bool {
    let from_space = word.wrapping_add(0x60 * ONES) & HIGH;
    let deleted = word.wrapping_add(ONES) & HIGH;
    word & HIGH == 0 && from_space == HIGH && deleted == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 8] =
        [Kind::N, Kind::A, Kind::An, Kind::As, Kind::Ns, Kind::Ans, Kind::Z, Kind::Xn];
    const PAGES: [Option<Page>; 4] =
        [None, Some(Page::Cp037), Some(Page::Cp500), Some(Page::Cp1047)];

    #[test]
    fn the_fast_way_and_the_table_say_the_same_of_every_byte_at_every_place() {
        for kind in KINDS {
            for page in PAGES {
                let good = if matches!(kind, Kind::A | Kind::As) { b'A' } else { b'0' };
                let good = page.map_or(good, |page| ebcdic::from_ascii(page, good));
                for length in 1..=20 {
                    for byte in 0..=255 {
                        for at in [0, length / 2, length - 1] {
                            let mut text = vec![good; length];
                            text[at] = byte;
                            let found = first_bad(kind, page, &text);
                            assert_eq!(found, by_table(kind, page, &text), "{kind:?} {byte}");
                            assert!(found.is_none() || found == Some(at));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn kinds_allow_what_the_standard_says() {
        for (kind, good, bad) in [
            (Kind::N, "0123456789", "a =-"),
            (Kind::A, "AZaz ", "0-="),
            (Kind::An, "AZaz09 ", "-=~"),
            (Kind::As, "AZaz -~", "09"),
            (Kind::Ns, "09 -=", "Az"),
            (Kind::Ans, " !09AZaz~", "\n\u{7f}"),
            (Kind::Z, "0123456789=D", "A ;?F"),
        ] {
            assert_eq!(first_bad(kind, None, good.as_bytes()), None, "{kind:?}");
            for character in bad.bytes() {
                assert_eq!(first_bad(kind, None, &[character]), Some(0), "{kind:?} {character}");
            }
        }
    }
}
