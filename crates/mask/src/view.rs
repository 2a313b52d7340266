//! What the policy and the record may see of a scalar, by its class.

use core::fmt;

use moat_model::Class;

use crate::capture::Scalar;
use crate::formats::bank_card;
use crate::strategy::{Strategy, fixed};

/// What the audit record holds of a field.
#[derive(Clone, PartialEq, Eq)]
pub enum AuditView {
    /// The value itself.
    Clear(String),
    /// This mask, and a keyed anchor over the value.
    MaskedAndAnchored(String),
    /// A keyed anchor only.
    AnchorOnly,
    /// Nothing, not even a hash.
    Nothing,
}

impl fmt::Debug for AuditView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AuditView::Clear(_) => "Clear(..)",
            AuditView::MaskedAndAnchored(_) => "MaskedAndAnchored(..)",
            AuditView::AnchorOnly => "AnchorOnly",
            AuditView::Nothing => "Nothing",
        })
    }
}

/// The audit view of a scalar. C1 is clear (a value too long to be kept is anchored); C2 is masked
/// by the field's strategy, or keeps first and last character without one; of C3 and PAN only an
/// anchor is kept; of SAD nothing (PCI DSS v4.0.1, 3.3.1).
#[must_use]
pub fn audit(class: Class, value: &Scalar, strategy: Option<Strategy>) -> AuditView {
    match (class, value) {
        (Class::Sad, _) | (_, Scalar::Withheld) => AuditView::Nothing,
        (Class::C3 | Class::Pan, _) => AuditView::AnchorOnly,
        (Class::C1, Scalar::TooLong { .. }) => AuditView::AnchorOnly,
        (Class::C1, value) => AuditView::Clear(value.as_text().unwrap_or("").to_owned()),
        (Class::C2, Scalar::Text(text) | Scalar::Number(text)) => {
            AuditView::MaskedAndAnchored(match strategy {
                Some(strategy) => strategy.mask(class, text),
                None => generic(class, text),
            })
        }
        (Class::C2, Scalar::Null) => AuditView::MaskedAndAnchored("null".to_owned()),
        (Class::C2, _) => AuditView::MaskedAndAnchored(fixed(class).to_owned()),
    }
}

/// First and last character of a text of at least four, with the fixed mask between, so that the
/// length does not show.
fn generic(class: Class, text: &str) -> String {
    let ends = text.chars().next().zip(text.chars().next_back());
    match ends {
        Some((first, last)) if text.chars().count() >= 4 => {
            format!("{first}{}{last}", fixed(class))
        }
        _ => fixed(class).to_owned(),
    }
}

/// Whether a route declares a C2 field as input of its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// The policy may see the value.
    Yes,
    /// The policy sees only that there is one.
    No,
}

/// What the policy may see of a field.
#[derive(Clone)]
pub enum PolicyView<'a> {
    /// The value.
    Value(&'a Scalar),
    /// A card: first six and last four digits.
    Card {
        /// The first six digits.
        bin: String,
        /// The last four digits.
        last4: String,
    },
    /// That there is a value.
    Present,
}

impl fmt::Debug for PolicyView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PolicyView::Value(_) => "Value(..)",
            PolicyView::Card { .. } => "Card(..)",
            PolicyView::Present => "Present",
        })
    }
}

/// The policy view of a scalar. What is too long, or calls itself a card and has not its length,
/// is only present.
#[must_use]
pub fn policy(class: Class, value: &Scalar, declared: Declared) -> PolicyView<'_> {
    match (class, value) {
        (_, Scalar::TooLong { .. } | Scalar::Withheld) => PolicyView::Present,
        (Class::C1, value) => PolicyView::Value(value),
        (Class::C2, value) if declared == Declared::Yes => PolicyView::Value(value),
        (Class::Pan, Scalar::Text(text) | Scalar::Number(text)) => bank_card::bin_and_last4(text)
            .map_or(PolicyView::Present, |(bin, last4)| PolicyView::Card { bin, last4 }),
        _ => PolicyView::Present,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn text(text: &str) -> Scalar {
        Scalar::Text(Zeroizing::new(text.to_owned()))
    }

    #[test]
    fn the_record_sees_what_its_class_allows() {
        let card = text("6222020200112233445");
        assert_eq!(audit(Class::C1, &text("rent"), None), AuditView::Clear("rent".into()));
        assert_eq!(audit(Class::C1, &Scalar::Bool(true), None), AuditView::Clear("true".into()));
        let masked = |text: &str| AuditView::MaskedAndAnchored(text.into());
        let mobile = text("13800138000");
        assert_eq!(audit(Class::C2, &mobile, Some(Strategy::MOBILE)), masked("138****8000"));
        assert_eq!(audit(Class::C2, &mobile, None), masked("1***0"));
        assert_eq!(audit(Class::C2, &text("abc"), None), masked("***"));
        assert_eq!(audit(Class::C2, &Scalar::Bool(true), None), masked("***"));
        assert_eq!(audit(Class::Pan, &card, Some(Strategy::BANK_CARD)), AuditView::AnchorOnly);
        assert_eq!(audit(Class::C3, &card, None), AuditView::AnchorOnly);
        assert_eq!(audit(Class::Sad, &card, Some(Strategy::Fixed)), AuditView::Nothing);
        let long = Scalar::TooLong { len: 5000, sha256: [0; 32] };
        assert_eq!(audit(Class::C1, &long, None), AuditView::AnchorOnly);
        assert_eq!(audit(Class::C2, &long, Some(Strategy::NAME)), masked("***"));
    }

    #[test]
    fn the_policy_sees_what_its_class_allows() {
        let card = text("6222 0202 0011 2233 445");
        assert!(matches!(policy(Class::C1, &card, Declared::No), PolicyView::Value(_)));
        assert!(matches!(policy(Class::C2, &card, Declared::No), PolicyView::Present));
        assert!(matches!(policy(Class::C2, &card, Declared::Yes), PolicyView::Value(_)));
        let PolicyView::Card { bin, last4 } = policy(Class::Pan, &card, Declared::Yes) else {
            panic!("a card shows its ends");
        };
        assert_eq!((bin.as_str(), last4.as_str()), ("622202", "3445"));
        for (class, value) in [(Class::Pan, text("622202")), (Class::C3, text("x"))] {
            assert!(matches!(policy(class, &value, Declared::Yes), PolicyView::Present));
        }
    }
}
