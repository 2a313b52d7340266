//! Plates of vehicles (GA 36-2018): province, letter, five signs, or six for new energy; no I, no O.

use super::{fold, stars};
use crate::strategy::Show;

const PROVINCES: &str = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼";
/// What may stand at the end in place of a letter or digit.
const ENDS: &str = "挂学警港澳";

/// Whether the text is a plate of a usual form. A dot or space behind the letter is accepted.
#[must_use]
pub fn is_plate(text: &str) -> bool {
    let mut signs = text
        .trim()
        .chars()
        .map(|c| fold(c).to_ascii_uppercase())
        .filter(|c| !matches!(c, '·' | '•' | ' ' | '.'));
    let sign = |c: char| (c.is_ascii_uppercase() || c.is_ascii_digit()) && !"IO".contains(c);
    let starts = signs.next().is_some_and(|c| PROVINCES.contains(c))
        && signs.next().is_some_and(|c| sign(c) && c.is_ascii_uppercase());
    let rest: Vec<char> = signs.collect();
    let Some((last, front)) = rest.split_last() else { return false };
    starts
        && matches!(rest.len(), 5 | 6)
        && front.iter().all(|c| sign(*c))
        && (sign(*last) || (rest.len() == 5 && ENDS.contains(*last)))
}

/// First 2 and last 1, or strictly first 2, of at least six characters.
pub(crate) fn mask(text: &str, show: Show, out: &mut String) -> bool {
    let text = text.trim();
    if text.chars().count() < 6 {
        return false;
    }
    let Some((start, _)) = text.char_indices().nth(2) else { return false };
    let last = text.chars().next_back().filter(|_| show == Show::Normal);
    let end = text.len() - last.map_or(0, char::len_utf8);
    out.push_str(text.get(..start).unwrap_or(""));
    stars(text.get(start..end).unwrap_or(""), out);
    out.extend(last);
    true
}
