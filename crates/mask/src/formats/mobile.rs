//! Mainland mobile numbers: 1, 3 to 9, nine more digits; with or without +86, spaces, dashes.

use super::{Digits, digits, fold, keep_into};
use crate::strategy::Show;

const LENGTH: usize = 11;

/// The digits, where the national number begins in them, and whether a country code stood in front.
fn national(text: &str) -> Option<(Digits, usize)> {
    let text = text.trim();
    let plus = text.chars().next().map(fold) == Some('+');
    let rest = if plus { text.trim_start_matches(['+', '＋']) } else { text };
    let all = digits(rest, 15)?;
    let length = all.as_str().len();
    let code = length.checked_sub(LENGTH)?;
    match all.as_str().get(..code) {
        Some("0086" | "86") => Some((all, code)),
        Some("") if !plus => Some((all, 0)),
        _ => None,
    }
}

/// Whether the text is a mainland mobile number.
#[must_use]
pub fn is_mobile(text: &str) -> bool {
    national(text).is_some_and(|(digits, from)| {
        matches!(digits.as_str().as_bytes().get(from..), Some([b'1', b'3'..=b'9', ..]))
    })
}

/// First 3 and last 4, or strictly last 2. A number of another country keeps its ends if it has at
/// least 11 characters; anything shorter is hidden.
pub(crate) fn mask(text: &str, show: Show, out: &mut String) -> bool {
    let ends = |number: &str, out: &mut String| match show {
        Show::Normal => keep_into(number, 3, 4, out),
        Show::Strict => keep_into(number, 0, 2, out),
    };
    match national(text) {
        Some((digits, from)) => {
            out.push_str(if from > 0 { "+86 " } else { "" });
            ends(digits.as_str().get(from..).unwrap_or(""), out)
        }
        None => text.chars().count() >= LENGTH && ends(text, out),
    }
}
