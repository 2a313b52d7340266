//! Which characters a kind of field allows, many at a time where that is a comparison of ranges.

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

/// A set of characters with a quick way to ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quick {
    /// Everything is good.
    Any,
    Digits,
    Printable,
    LettersOrDigits,
    Track,
    EbcdicDigits,
    /// Says no of signs, which the table must look at.
    EbcdicLettersOrDigits,
    /// Every half byte is a decimal digit.
    Packed,
    /// There is none: the table decides.
    Never,
}

impl Quick {
    /// The quick way for a kind; what it says no of may still be good.
    pub(crate) const fn of(kind: Kind, page: Option<Page>) -> Quick {
        match (kind, page) {
            (Kind::B | Kind::Tlv | Kind::Composite, _) => Quick::Any,
            (Kind::N | Kind::Xn, None) => Quick::Digits,
            (Kind::N | Kind::Xn, Some(_)) => Quick::EbcdicDigits,
            (Kind::Ans, None) => Quick::Printable,
            (Kind::An, None) => Quick::LettersOrDigits,
            (Kind::An | Kind::Ans, Some(_)) => Quick::EbcdicLettersOrDigits,
            (Kind::Z, None) => Quick::Track,
            (Kind::Z, Some(_)) => Quick::EbcdicDigits,
            (Kind::A | Kind::As | Kind::Ns, _) => Quick::Never,
        }
    }

    /// Whether all of it is good.
    #[inline]
    pub(crate) fn is_good(self, text: &[u8]) -> bool {
        match self {
            Quick::Any => true,
            Quick::Digits => every(text, b'0', |c| c.wrapping_sub(b'0') <= 9, word::digits),
            Quick::Printable => {
                every(text, b' ', |c| c.wrapping_sub(b' ') <= b'~' - b' ', word::printable)
            }
            Quick::LettersOrDigits => every(text, b' ', letter_or_digit, word::letters_or_digits),
            Quick::Track => every(
                text,
                b'0',
                |c| (c.wrapping_sub(b'0') <= 9) | (c == b'=') | (c == b'D'),
                word::track,
            ),
            Quick::EbcdicDigits => {
                every(text, 0xf0, |c| c.wrapping_sub(0xf0) <= 9, word::ebcdic_digits)
            }
            Quick::EbcdicLettersOrDigits => {
                every(text, 0x40, ebcdic_letter_or_digit, word::ebcdic_letters_or_digits)
            }
            Quick::Packed => every(text, 0, |c| (c <= 0x99) & (c & 0x0f <= 9), word::packed_digits),
            Quick::Never => false,
        }
    }
}

#[inline(always)]
fn letter_or_digit(c: u8) -> bool {
    let is_letter = (c | 0x20).wrapping_sub(b'a') <= b'z' - b'a';
    (c.wrapping_sub(b'0') <= 9) | is_letter | (c == b' ')
}

#[inline(always)]
fn ebcdic_letter_or_digit(c: u8) -> bool {
    // Small letters are 40 (hexadecimal) below great ones.
    let great = c | 0x40;
    let is_letter = (great.wrapping_sub(0xc1) <= 8)
        | (great.wrapping_sub(0xd1) <= 8)
        | (great.wrapping_sub(0xe2) <= 7);
    is_letter | (c.wrapping_sub(0xf0) <= 9) | (c == 0x40)
}

/// Bytes that are looked at together: what the vectors of every processor of this kind hold.
const LANES: usize = 16;

/// Whether every byte is good. Lanes are asked without a branch between them, so that the compiler
/// makes vectors of them; the last ones overlap those before. A shorter text is one or two words,
/// filled up with `fill`, which is good.
#[inline(always)]
fn every(text: &[u8], fill: u8, good: impl Fn(u8) -> bool, bad: impl Fn(u64) -> u64) -> bool {
    if let Some(last) = text.last_chunk::<LANES>() {
        let all = |lanes: &[u8; LANES]| lanes.iter().fold(true, |all, byte| all & good(*byte));
        let (chunks, _) = text.as_chunks::<LANES>();
        return chunks.iter().fold(all(last), |so_far, lanes| so_far & all(lanes));
    }
    if let (Some(a), Some(b)) = (text.first_chunk(), text.last_chunk()) {
        return bad(u64::from_le_bytes(*a)) | bad(u64::from_le_bytes(*b)) == 0;
    }
    if let (Some(a), Some(b)) = (text.first_chunk(), text.last_chunk()) {
        let both = u64::from(u32::from_le_bytes(*a)) | u64::from(u32::from_le_bytes(*b)) << 32;
        return bad(both) == 0;
    }
    let start = u64::from_le_bytes([fill; 8]);
    bad(text.iter().fold(start, |word, byte| word << 8 | u64::from(*byte))) == 0
}

/// The same questions of eight bytes in a word: not 0 when one of them is bad.
mod word {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;

    /// The high bit of each byte that is at least so great; all must be below 80 (hexadecimal).
    #[inline(always)]
    fn least(word: u64, least: u8) -> u64 {
        word.wrapping_add(u64::from(0x80 - least) * ONES)
    }

    #[inline(always)]
    fn within(word: u64, first: u8, last: u8) -> u64 {
        least(word, first) & !least(word, last + 1)
    }

    /// No byte below the first bad one carries into another, so that a sum is right up to there.
    #[inline(always)]
    pub(super) fn digits(word: u64) -> u64 {
        let digits = word ^ (u64::from(b'0') * ONES);
        (digits | digits.wrapping_add(0x76 * ONES)) & HIGH
    }

    #[inline(always)]
    pub(super) fn ebcdic_digits(word: u64) -> u64 {
        let digits = word ^ (0xf0 * ONES);
        (digits | digits.wrapping_add(0x76 * ONES)) & HIGH
    }

    #[inline(always)]
    pub(super) fn printable(word: u64) -> u64 {
        (word | !within(word & !HIGH, b' ', b'~')) & HIGH
    }

    #[inline(always)]
    pub(super) fn letters_or_digits(word: u64) -> u64 {
        let low = word & !HIGH;
        let letter = within(low | (0x20 * ONES), b'a', b'z');
        (word | !(within(low, b'0', b'9') | letter | within(low, b' ', b' '))) & HIGH
    }

    #[inline(always)]
    pub(super) fn track(word: u64) -> u64 {
        let low = word & !HIGH;
        let sign = within(low, b'=', b'=') | within(low, b'D', b'D');
        (word | !(within(low, b'0', b'9') | sign)) & HIGH
    }

    #[inline(always)]
    pub(super) fn ebcdic_letters_or_digits(word: u64) -> u64 {
        let low = word & !HIGH;
        let great = low | (0x40 * ONES);
        let letter =
            within(great, 0x41, 0x49) | within(great, 0x51, 0x59) | within(great, 0x62, 0x69);
        let upper = (letter | within(low, 0x70, 0x79)) & word;
        !(upper | within(low, 0x40, 0x40) & !word) & HIGH
    }

    #[inline(always)]
    pub(super) fn packed_digits(word: u64) -> u64 {
        let (low, high) = (word & (0x0f * ONES), word >> 4 & (0x0f * ONES));
        ((low + 6 * ONES) | (high + 6 * ONES)) & (0x10 * ONES)
    }
}

/// The first character that the kind does not allow. No page is ASCII.
#[inline]
pub(crate) fn first_bad(kind: Kind, page: Option<Page>, text: &[u8]) -> Option<usize> {
    if Quick::of(kind, page).is_good(text) { None } else { by_table(kind, page, text) }
}

/// Whether every half byte is a decimal digit.
#[inline]
pub(crate) fn are_packed_digits(bytes: &[u8]) -> bool {
    Quick::Packed.is_good(bytes)
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
                for length in 1..=40 {
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
    fn packed_digits_are_half_bytes_up_to_nine() {
        for byte in 0..=255_u8 {
            for length in [1, 3, 7, 16, 20] {
                let mut bytes = vec![0x12; length];
                bytes[length / 2] = byte;
                assert_eq!(are_packed_digits(&bytes), byte >> 4 <= 9 && byte & 15 <= 9, "{byte}");
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
