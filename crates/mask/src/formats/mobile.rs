//! Mainland mobile numbers: 1, 3 to 9, nine more digits; with or without +86, spaces, dashes.

use super::{digits, fold, keep};
use crate::strategy::Show;

const LENGTH: usize = 11;

/// The national number and whether a country code stood in front.
fn national(text: &str) -> Option<(String, bool)> {
    let text = text.trim();
    let plus = text.chars().next().map(fold) == Some('+');
    let rest = if plus { text.trim_start_matches(['+', '＋']) } else { text };
    let all = digits(rest, 15)?;
    let coded = all.strip_prefix("0086").or_else(|| all.strip_prefix("86"));
    match coded {
        Some(number) if number.len() == LENGTH => Some((number.to_owned(), true)),
        _ if all.len() == LENGTH && !plus => Some((all, false)),
        _ => None,
    }
}

/// Whether the text is a mainland mobile number.
#[must_use]
pub fn is_mobile(text: &str) -> bool {
    national(text).is_some_and(|(number, _)| matches!(number.as_bytes(), [b'1', b'3'..=b'9', ..]))
}

/// First 3 and last 4, or strictly last 2. A number of another country keeps its ends if it has at
/// least 11 characters; anything shorter is hidden.
pub(crate) fn mask(text: &str, show: Show) -> Option<String> {
    let (number, coded) = match national(text) {
        Some(found) => found,
        None if text.chars().count() >= LENGTH => (text.to_owned(), false),
        None => return None,
    };
    let shown = match show {
        Show::Normal => keep(&number, 3, 4)?,
        Show::Strict => keep(&number, 0, 2)?,
    };
    Some(if coded { format!("+86 {shown}") } else { shown })
}
