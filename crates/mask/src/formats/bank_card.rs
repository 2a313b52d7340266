//! Primary account numbers (ISO/IEC 7812): 13 to 19 digits, the last a Luhn check digit. Some
//! legacy debit cards fail Luhn and are masked all the same.

use super::{Digits, digits, keep_into};
use crate::strategy::Show;

const SHORTEST: usize = 13;
const LONGEST: usize = 19;

/// Whether the last digit is the Luhn check digit of the others (ISO/IEC 7812-1, annex B).
/// Anything but ASCII digits fails.
#[must_use]
pub fn luhn(digits: &str) -> bool {
    let mut sum = 0;
    for (place, byte) in digits.bytes().rev().enumerate() {
        let Some(digit) = char::from(byte).to_digit(10) else { return false };
        sum += match (place % 2, digit) {
            (0, digit) => digit,
            (_, digit) => digit * 2 % 10 + digit / 5,
        };
    }
    digits.len() > 1 && sum % 10 == 0
}

/// The digits of a card number, without spaces and dashes, full-width digits folded.
#[must_use]
pub fn card_digits(text: &str) -> Option<String> {
    card(text).map(|digits| digits.as_str().to_owned())
}

pub(crate) fn card(text: &str) -> Option<Digits> {
    digits(text, LONGEST).filter(|digits| digits.as_str().len() >= SHORTEST)
}

/// Whether the text is a card number with a right check digit.
#[must_use]
pub fn is_bank_card(text: &str) -> bool {
    card(text).is_some_and(|digits| luhn(digits.as_str()))
}

/// The first 6 digits and the last 4, all that the policy may see of a card (PCI DSS v4.0.1, 3.4.1).
#[must_use]
pub fn bin_and_last4(text: &str) -> Option<(String, String)> {
    let digits = card(text)?;
    let digits = digits.as_str();
    let last4 = digits.get(digits.len().checked_sub(4)?..)?;
    Some((digits.get(..6)?.to_owned(), last4.to_owned()))
}

/// First 6 and last 4, or strictly last 4. What has not the length of a card is hidden.
pub(crate) fn mask(text: &str, show: Show, out: &mut String) -> bool {
    let Some(digits) = card(text) else { return false };
    match show {
        Show::Normal => keep_into(digits.as_str(), 6, 4, out),
        Show::Strict => keep_into(digits.as_str(), 0, 4, out),
    }
}
