//! Mail addresses: the first character and the domain.

use super::fold;
use crate::strategy::Show;

/// Local part and domain of an address of the usual form (a dot-atom on both sides, RFC 5321
/// §4.1.2 without quoted strings and address literals). Full-width signs are folded.
fn parts(text: &str) -> Option<(String, String)> {
    let folded: String = text.trim().chars().map(fold).collect();
    let (local, domain) = folded.split_once('@')?;
    let labels = || domain.split('.');
    let label_ok =
        |label: &str| !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-');
    let local_ok = !local.is_empty()
        && local.chars().all(|c| c.is_alphanumeric() || ".!#$%&'*+-/=?^_`{|}~".contains(c));
    (local_ok && labels().count() > 1 && labels().all(label_ok))
        .then(|| (local.to_owned(), domain.to_owned()))
}

/// Whether the text is a mail address of the usual form.
#[must_use]
pub fn is_email(text: &str) -> bool {
    parts(text).is_some()
}

/// First character, `***`, domain; strictly the domain alone. The only character of a short local
/// part is hidden too.
pub(crate) fn mask(text: &str, show: Show, out: &mut String) -> bool {
    let Some((local, domain)) = parts(text) else { return false };
    let mut chars = local.chars();
    let first = chars.next().filter(|_| chars.next().is_some() && show == Show::Normal);
    out.extend(first);
    out.push_str("***@");
    out.push_str(&domain);
    true
}
