//! The printable characters of ASCII in EBCDIC: code pages 037, 500 and 1047.
//!
//! The three agree on letters, digits and most signs. They differ in where `[ ] ^ ! |` stand. What
//! is no printable character of ASCII has no place in a field of characters, whatever the page.

/// A code page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Page {
    /// 037: USA, Canada.
    Cp037,
    /// 500: international.
    Cp500,
    /// 1047: Latin 1, open systems.
    Cp1047,
}

/// Space to `~` in page 037.
const PRINTABLE_037: [u8; 95] = [
    0x40, 0x5a, 0x7f, 0x7b, 0x5b, 0x6c, 0x50, 0x7d, 0x4d, 0x5d, 0x5c, 0x4e, 0x6b, 0x60, 0x4b, 0x61,
    0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0x7a, 0x5e, 0x4c, 0x7e, 0x6e, 0x6f,
    0x7c, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6,
    0xd7, 0xd8, 0xd9, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xba, 0xe0, 0xbb, 0xb0, 0x6d,
    0x79, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x91, 0x92, 0x93, 0x94, 0x95, 0x96,
    0x97, 0x98, 0x99, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xc0, 0x4f, 0xd0, 0xa1,
];
/// Where page 500 differs from 037: character, place.
const OTHERS_500: [(u8, u8); 5] =
    [(b'[', 0x4a), (b']', 0x5a), (b'!', 0x4f), (b'^', 0x5f), (b'|', 0xbb)];
/// Where page 1047 differs from 037.
const OTHERS_1047: [(u8, u8); 3] = [(b'[', 0xad), (b']', 0xbd), (b'^', 0x5f)];

/// From ASCII; 0, a control character in EBCDIC too, for what is not printable.
pub(crate) const fn from_ascii(page: Page, character: u8) -> u8 {
    let others: &[(u8, u8)] = match page {
        Page::Cp037 => &[],
        Page::Cp500 => &OTHERS_500,
        Page::Cp1047 => &OTHERS_1047,
    };
    let mut rest = others;
    while let [(from, to), after @ ..] = rest {
        if *from == character {
            return *to;
        }
        rest = after;
    }
    let mut rest: &[u8] = &PRINTABLE_037;
    let mut at = b' ';
    while let [to, after @ ..] = rest {
        if at == character {
            return *to;
        }
        at += 1;
        rest = after;
    }
    0
}

#[expect(
    clippy::indexing_slicing,
    reason = "worked out by the compiler, where it cannot fail late"
)]
const fn to_ascii_table(page: Page) -> [u8; 256] {
    let mut table = [0; 256];
    let mut character = b' ';
    while character <= b'~' {
        table[from_ascii(page, character) as usize] = character;
        character += 1;
    }
    table
}

static TO_ASCII_037: [u8; 256] = to_ascii_table(Page::Cp037);
static TO_ASCII_500: [u8; 256] = to_ascii_table(Page::Cp500);
static TO_ASCII_1047: [u8; 256] = to_ascii_table(Page::Cp1047);

/// To ASCII by table; 0 for what is not printable there.
pub(crate) fn to_ascii(page: Page) -> &'static [u8; 256] {
    match page {
        Page::Cp037 => &TO_ASCII_037,
        Page::Cp500 => &TO_ASCII_500,
        Page::Cp1047 => &TO_ASCII_1047,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_printable_character_comes_back_and_no_other() {
        for page in [Page::Cp037, Page::Cp500, Page::Cp1047] {
            let table = to_ascii(page);
            for character in b' '..=b'~' {
                assert_eq!(table[usize::from(from_ascii(page, character))], character, "{page:?}");
            }
            assert_eq!(table.iter().filter(|character| **character != 0).count(), 95);
            assert!(table.iter().all(|c| *c == 0 || (b' '..=b'~').contains(c)));
        }
    }

    #[test]
    fn digits_letters_and_signs_are_where_the_pages_have_them() {
        for (character, p037, p500, p1047) in [
            (b'0', 0xf0, 0xf0, 0xf0),
            (b'9', 0xf9, 0xf9, 0xf9),
            (b'A', 0xc1, 0xc1, 0xc1),
            (b'J', 0xd1, 0xd1, 0xd1),
            (b'S', 0xe2, 0xe2, 0xe2),
            (b'z', 0xa9, 0xa9, 0xa9),
            (b' ', 0x40, 0x40, 0x40),
            (b'=', 0x7e, 0x7e, 0x7e),
            (b'[', 0xba, 0x4a, 0xad),
            (b']', 0xbb, 0x5a, 0xbd),
            (b'^', 0xb0, 0x5f, 0x5f),
            (b'!', 0x5a, 0x4f, 0x5a),
            (b'|', 0x4f, 0xbb, 0x4f),
        ] {
            let places = [Page::Cp037, Page::Cp500, Page::Cp1047].map(|p| from_ascii(p, character));
            assert_eq!(places, [p037, p500, p1047], "{}", char::from(character));
        }
    }
}
