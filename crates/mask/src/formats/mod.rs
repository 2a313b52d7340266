//! Chinese and payment formats: one file each, with its validator and its mask.
//!
//! A mask takes any text and gives `None` where the text does not fit the format, so that the
//! caller hides it whole. Lengths and positions count characters.

pub mod address;
pub mod bank_card;
pub mod email;
pub mod id_card;
pub mod mobile;
pub mod name;

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
    let start = text.char_indices().nth(first)?.0;
    let end = match last.checked_sub(1) {
        Some(back) => text.char_indices().nth_back(back)?.0,
        None => text.len(),
    };
    // Nothing between the ends, or ends that overlap: the slice is empty or does not exist.
    let hidden = text.get(start..end)?.chars().count();
    let mut shown = String::with_capacity(text.len());
    shown.push_str(text.get(..start)?);
    shown.extend(core::iter::repeat_n('*', hidden));
    shown.push_str(text.get(end..)?);
    (hidden > 0).then_some(shown)
}

/// The digits of a number written with spaces and dashes, folded; `None` if anything else is in
/// it or there are more than `max`.
fn digits(text: &str, max: usize) -> Option<String> {
    let mut digits = String::with_capacity(max);
    for c in text.chars().map(fold) {
        match c {
            '0'..='9' if digits.len() < max => digits.push(c),
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
