//! 居民身份证号 (GB 11643-1999): region, date of birth, sequence, check character. Also the old
//! form of 15 digits, residence permits for Hong Kong, Macao and Taiwan (81, 82, 83), and permanent
//! residence cards for foreigners (9…).

use super::{fold, keep_into};
use crate::strategy::Show;

const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
const CHECKS: [u8; 11] = *b"10X98765432";
const LENGTH: usize = 18;
const OLD_LENGTH: usize = 15;

/// The number in upper case and half width, if it has at most 18 characters of the right kind.
fn normal(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(LENGTH);
    for c in text.trim().chars().map(fold) {
        let byte = u8::try_from(c.to_ascii_uppercase()).ok()?;
        if out.len() == LENGTH || !(byte.is_ascii_digit() || byte == b'X') {
            return None;
        }
        out.push(byte);
    }
    Some(out)
}

/// The check character over the first 17 digits (ISO 7064 MOD 11-2).
#[must_use]
pub fn check_character(digits: &[u8]) -> Option<u8> {
    let digits = digits.get(..WEIGHTS.len())?;
    let mut sum = 0;
    for (digit, weight) in digits.iter().zip(WEIGHTS) {
        sum += char::from(*digit).to_digit(10)? * weight;
    }
    CHECKS.get((sum % 11) as usize).copied()
}

/// Whether the text is an identity number: known province, real date, right check character.
/// Full-width digits and a lower-case `x` are accepted.
#[must_use]
pub fn is_id_card(text: &str) -> bool {
    let Some(number) = normal(text) else { return false };
    match number.len() {
        LENGTH => {
            known_province(&number)
                && number.get(6..14).is_some_and(is_date)
                && check_character(&number).is_some_and(|check| number.last() == Some(&check))
        }
        OLD_LENGTH => {
            let date = number.get(6..12).map(|short| [b"19", short].concat());
            number.iter().all(u8::is_ascii_digit)
                && known_province(&number)
                && date.is_some_and(|date| is_date(&date))
        }
        _ => false,
    }
}

/// Province codes of GB/T 2260, 81 to 83 for residence permits, 9x for foreigners.
fn known_province(number: &[u8]) -> bool {
    matches!(
        number,
        [b'1', b'1'..=b'5', ..]
            | [b'2', b'1'..=b'3', ..]
            | [b'3', b'1'..=b'7', ..]
            | [b'4', b'1'..=b'6', ..]
            | [b'5', b'0'..=b'4', ..]
            | [b'6', b'1'..=b'5', ..]
            | [b'7', b'1', ..]
            | [b'8', b'1'..=b'3', ..]
            | [b'9', b'0'..=b'9', ..]
    )
}

/// Whether eight digits are a day between 1800 and 2199.
pub(crate) fn is_date(digits: &[u8]) -> bool {
    let number = |range: core::ops::Range<usize>| {
        digits
            .get(range)?
            .iter()
            .try_fold(0u32, |number, digit| Some(number * 10 + char::from(*digit).to_digit(10)?))
    };
    let (Some(year), Some(month), Some(day)) = (number(0..4), number(4..6), number(6..8)) else {
        return false;
    };
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    };
    (1800..2200).contains(&year) && (1..=days).contains(&day)
}

/// First 3 and last 4, or strictly first 1 and last 1. Shorter than the old form: nothing.
pub(crate) fn mask(text: &str, show: Show, out: &mut String) -> bool {
    let text = text.trim();
    if text.chars().count() < OLD_LENGTH {
        return false;
    }
    match show {
        Show::Normal => keep_into(text, 3, 4, out),
        Show::Strict => keep_into(text, 1, 1, out),
    }
}

/// First and last year of the days that are counted.
const YEARS: core::ops::RangeInclusive<u32> = 1900..=2099;

fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days of a month.
fn days_in(year: u32, month: u32) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// How many days after 1 January 1900 a date of eight digits is; none after 2099.
pub(crate) fn days_of(digits: &str) -> Option<u64> {
    let number = |range: core::ops::Range<usize>| digits.get(range)?.parse::<u32>().ok();
    let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
    if digits.len() != 8 || !is_date(digits.as_bytes()) || !YEARS.contains(&year) {
        return None;
    }
    let years: u64 = (*YEARS.start()..year).map(|y| 365 + u64::from(is_leap(y))).sum();
    let months: u64 = (1..month).map(|month| days_in(year, month)).sum();
    Some(years + months + u64::from(day) - 1)
}

/// The date so many days after 1 January 1900.
pub(crate) fn digits_of_day(mut day: u64) -> Option<String> {
    for year in YEARS {
        let days = 365 + u64::from(is_leap(year));
        if day >= days {
            day -= days;
            continue;
        }
        for month in 1..=12 {
            let days = days_in(year, month);
            if day < days {
                return Some(format!("{year:04}{month:02}{:02}", day + 1));
            }
            day -= days;
        }
    }
    None
}
