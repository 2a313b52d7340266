//! The strategies that know no format: places, signs, bands, years.

use core::fmt::Write;

use crate::formats::id_card::is_date;
use crate::formats::{fold, stars};

/// The byte place of a character, or the end.
fn place(text: &str, character: usize) -> usize {
    text.char_indices().nth(character).map_or(text.len(), |(at, _)| at)
}

/// Writes three parts, the hidden ones as stars; not if nothing would be hidden.
fn parts(text: &str, start: usize, end: usize, shows_middle: bool, out: &mut String) -> bool {
    let (Some(front), Some(middle), Some(back)) =
        (text.get(..start), text.get(start..end), text.get(end..))
    else {
        return false;
    };
    for (part, shown) in [(front, !shows_middle), (middle, shows_middle), (back, !shows_middle)] {
        if shown {
            out.push_str(part);
        } else {
            stars(part, out);
        }
    }
    if shows_middle { !(front.is_empty() && back.is_empty()) } else { !middle.is_empty() }
}

/// A text that ends before `to` is too short for its strategy.
pub(super) fn keep_from_to(text: &str, from: u8, to: u8, out: &mut String) -> bool {
    let (start, end) = (place(text, usize::from(from)), place(text, usize::from(to) + 1));
    text.chars().count() > usize::from(to) && parts(text, start, end, true, out)
}

pub(super) fn mask_from_to(text: &str, from: u8, to: u8, out: &mut String) -> bool {
    let (start, end) = (place(text, usize::from(from)), place(text, usize::from(to) + 1));
    text.chars().count() > usize::from(to) && parts(text, start, end, false, out)
}

pub(super) fn mask_first_last(text: &str, first: u8, last: u8, out: &mut String) -> bool {
    let (first, last) = (usize::from(first), usize::from(last));
    let Some(shown) = text.chars().count().checked_sub(first + last).filter(|shown| *shown > 0)
    else {
        return false;
    };
    first + last > 0 && parts(text, place(text, first), place(text, first + shown), true, out)
}

/// Stars for all before the sign. What has no such sign, or nothing before it, is hidden whole.
pub(super) fn mask_before(text: &str, sign: char, out: &mut String) -> bool {
    text.find(sign).is_some_and(|at| parts(text, 0, at, false, out))
}

/// Stars for all behind the sign.
pub(super) fn mask_after(text: &str, sign: char, out: &mut String) -> bool {
    let behind = text.find(sign).map(|at| at + sign.len_utf8());
    behind.is_some_and(|at| parts(text, at, text.len(), false, out))
}

/// The band `low..high` of an amount in decimal; the fraction does not count. A band below zero is
/// mirrored: -1 lies in `-1000..0`.
pub(super) fn range(text: &str, width: u64, out: &mut String) -> bool {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) {
        return false;
    }
    let Ok(whole) = whole.parse::<u64>() else { return false };
    let Some(low) = whole.checked_div(width).and_then(|band| band.checked_mul(width)) else {
        return false;
    };
    let Some(high) = low.checked_add(width) else { return false };
    match (negative, low) {
        (false, _) => write!(out, "{low}..{high}").is_ok(),
        (true, 0) => write!(out, "-{high}..0").is_ok(),
        (true, _) => write!(out, "-{high}..-{low}").is_ok(),
    }
}

/// The year of a date written as `2026-11-23…`, `2026/11/23`, `20261123` or `2026年11月23日`.
pub(super) fn year(text: &str, out: &mut String) -> bool {
    let mut digits = [0u8; 8];
    let mut count = 0;
    for c in text.trim().chars() {
        match (fold(c), digits.get_mut(count)) {
            (digit @ '0'..='9', Some(slot)) => {
                *slot = u8::try_from(digit).unwrap_or(b'0');
                count += 1;
            }
            ('-' | '/' | '.' | '年' | '月', Some(_)) if count == 4 || count == 6 => {}
            _ => break,
        }
    }
    if count < 8 || !is_date(&digits) {
        return false;
    }
    out.push_str(core::str::from_utf8(digits.get(..4).unwrap_or(&[])).unwrap_or(""));
    true
}
