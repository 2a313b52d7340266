//! Chinese passports (E or G and eight digits, E with a letter and seven, official ones with D, S or
//! P) and travel permits: C and W, H and M for Hong Kong and Macao, L and T for Taiwan. None of them
//! has a check digit, so a document that only looks like one is no finding of discovery.

use super::{fold, keep_into};
use crate::strategy::Show;

/// Whether the text has the form of a passport's number.
#[must_use]
pub fn is_passport(text: &str) -> bool {
    let (letters, digits) = parts(text);
    match letters.as_str() {
        "E" | "G" | "D" | "S" | "P" => digits == 8,
        "DE" | "SE" | "PE" => digits == 7,
        two => two.len() == 2 && two.starts_with('E') && !two.ends_with(['I', 'O']) && digits == 7,
    }
}

/// Whether the text has the form of a travel permit's number.
#[must_use]
pub fn is_permit(text: &str) -> bool {
    let (letters, digits) = parts(text);
    match letters.as_str() {
        "H" | "M" => digits == 8 || digits == 10,
        "C" | "W" | "T" | "L" => digits == 8,
        two => two.len() == 2 && two.starts_with(['C', 'L', 'T']) && digits == 7,
    }
}

/// At most three leading letters in upper case, and how many digits follow; no digits if anything
/// else does.
fn parts(text: &str) -> (String, usize) {
    let folded = || text.trim().chars().map(|c| fold(c).to_ascii_uppercase());
    let letters: String = folded().take_while(char::is_ascii_uppercase).take(3).collect();
    let rest = folded().skip(letters.len());
    let all_digits = rest.clone().all(|c| c.is_ascii_digit());
    (letters, if all_digits { rest.count() } else { 0 })
}

/// First 1 and last 2; strictly nothing.
pub(crate) fn mask(text: &str, show: Show, out: &mut String) -> bool {
    show == Show::Normal && keep_into(text.trim(), 1, 2, out)
}
