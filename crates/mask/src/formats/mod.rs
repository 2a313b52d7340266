//! Chinese and payment formats: one file each, with its validator and its mask.
//!
//! A mask takes any text, appends what may be shown, and says `false` where the text does not fit the
//! format, so that the caller hides it whole. Lengths and positions count characters.

pub mod address;
pub mod bank_card;
pub mod email;
pub mod geo;
pub mod id_card;
pub mod ip;
pub mod mobile;
pub mod name;
pub mod passport;
pub mod plate;
pub mod uscc;

/// A full-width digit, Latin letter or sign (U+FF01 to U+FF5E) as its ASCII twin, the ideographic
/// space as a space; any other character as it is.
#[must_use]
pub fn fold(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        '\u{3000}' => ' ',
        other => other,
    }
}

/// The first `first` and last `last` characters with stars between, as long as the original;
/// `None` if nothing would be hidden.
#[must_use]
pub fn keep(text: &str, first: usize, last: usize) -> Option<String> {
    let mut shown = String::with_capacity(text.len());
    keep_into(text, first, last, &mut shown).then_some(shown)
}

/// [`keep`], appended.
pub(crate) fn keep_into(text: &str, first: usize, last: usize, out: &mut String) -> bool {
    let Some((start, end)) = ends(text, first, last) else { return false };
    // Nothing between the ends, or ends that overlap: the slice is empty or does not exist.
    let Some(hidden) = text.get(start..end).filter(|hidden| !hidden.is_empty()) else {
        return false;
    };
    out.push_str(text.get(..start).unwrap_or(""));
    stars(hidden, out);
    out.push_str(text.get(end..).unwrap_or(""));
    true
}

/// The byte places behind the first `first` characters and before the last `last`.
fn ends(text: &str, first: usize, last: usize) -> Option<(usize, usize)> {
    if text.is_ascii() {
        return Some((first, text.len().checked_sub(last)?)).filter(|(start, end)| start < end);
    }
    let start = text.char_indices().nth(first)?.0;
    let end = match last.checked_sub(1) {
        Some(back) => text.char_indices().nth_back(back)?.0,
        None => text.len(),
    };
    Some((start, end))
}

/// A star for each character.
pub(crate) fn stars(text: &str, out: &mut String) {
    const MANY: &str = "********************************";
    let mut left = text.chars().count();
    while left > 0 {
        let some = left.min(MANY.len());
        out.push_str(MANY.get(..some).unwrap_or(MANY));
        left -= some;
    }
}

/// Most digits that [`Digits`] holds.
const DIGITS_MAX: usize = 20;

/// The digits of a number, without a place on the heap to be wiped.
#[derive(zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub(crate) struct Digits {
    bytes: [u8; DIGITS_MAX],
    length: usize,
}

impl Digits {
    pub(crate) fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.length).unwrap_or(&[]);
        core::str::from_utf8(bytes).unwrap_or("")
    }
}

/// The digits of a number written with spaces and dashes, folded; `None` if anything else is in
/// it or there are more than `max`, at most 20.
pub(crate) fn digits(text: &str, max: usize) -> Option<Digits> {
    let mut digits = Digits { bytes: [0; DIGITS_MAX], length: 0 };
    for c in text.chars().map(fold) {
        match c {
            '0'..='9' if digits.length < max => {
                *digits.bytes.get_mut(digits.length)? = u8::try_from(c).ok()?;
                digits.length += 1;
            }
            ' ' | '-' => {}
            _ => return None,
        }
    }
    Some(digits)
}

/// Whether the character is a Chinese ideograph (Unified, Extension A, Compatibility, and the
/// supplementary planes, where rare surnames live).
fn is_han(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}' | '〇')
}

#[cfg(test)]
mod tests;
