//! One value of a document.

use std::borrow::Cow;
use std::ops::Range;

use moat_audit::anchor::Canonical;
use moat_mask::Scalar;
use moat_mask::view::{AuditView, audit};
use moat_model::Class;
use zeroize::Zeroizing;

use super::facet;
use super::table::{Entry, Type};
use super::walk::UNNAMED;
use crate::amount::Decimal;
use crate::error::{MessageError, Reason};

/// The text of an element that has no elements in it.
pub struct Leaf<'a, 'w> {
    pub(super) entry: Option<&'static Entry>,
    pub(super) path: &'w dyn Fn() -> String,
    pub(super) range: Range<usize>,
    pub(super) raw: &'a str,
    pub(super) is_plain: bool,
    pub(super) currency: Option<&'a str>,
}

impl<'a> Leaf<'a, '_> {
    /// What the tables say of it; `None` if they do not name it.
    #[must_use]
    pub fn entry(&self) -> Option<&'static Entry> {
        self.entry
    }

    /// Its class; C2 if no table names it.
    #[must_use]
    pub fn class(&self) -> Class {
        self.entry.map_or(UNNAMED, |entry| entry.class)
    }

    /// The local names of the elements that it is in, with `/` between. Made when asked for.
    #[must_use]
    pub fn path(&self) -> String {
        (self.path)()
    }

    /// Where its text is, in bytes of the document.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// The currency beside an amount.
    #[must_use]
    pub fn currency(&self) -> Option<&'a str> {
        self.currency
    }

    /// The value, with references and CDATA resolved. Borrowed when there are none.
    ///
    /// # Errors
    /// When the text is none, which [`super::walk`] has already asked.
    pub fn text(&self) -> Result<Cow<'a, str>, MessageError> {
        if self.is_plain && !self.raw.contains('\r') {
            return Ok(Cow::Borrowed(self.raw));
        }
        let wrong = || MessageError::new(Reason::Xml, 0, self.range.start);
        resolve(self.raw).map(Cow::Owned).ok_or_else(wrong)
    }

    fn wrong(&self) -> MessageError {
        MessageError::new(Reason::Facet, 0, self.range.start)
    }

    /// Whether the value looks as its type says; what no table names may be anything.
    ///
    /// # Errors
    /// With `MOAT-F032` and the place.
    pub fn check(&self) -> Result<(), MessageError> {
        let Some(entry) = self.entry else { return Ok(()) };
        if entry.kind == Type::Text {
            return Ok(());
        }
        let text = self.text()?;
        let good = match entry.kind {
            Type::Text => true,
            Type::Amount => facet::amount(&text, self.currency.unwrap_or("")).is_some(),
            Type::Decimal => facet::decimal(&text).is_some(),
            Type::Count => {
                (1..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
            }
            Type::Date => facet::date(&text),
            Type::DateTime => facet::date_time(&text),
            Type::Bic => facet::bic(&text),
            Type::Iban => facet::iban(&text),
            Type::Lei => facet::lei(&text),
            Type::Uetr => facet::uetr(&text),
        };
        if good { Ok(()) } else { Err(self.wrong()) }
    }

    /// The amount, exact: at most 18 digits, and as many decimals as its currency has.
    ///
    /// # Errors
    /// When it is none.
    pub fn amount(&self) -> Result<Decimal, MessageError> {
        let text = self.text()?;
        let kind = self.entry.map(|entry| entry.kind);
        let amount = match kind {
            Some(Type::Amount) => facet::amount(&text, self.currency.unwrap_or("")),
            Some(Type::Decimal | Type::Count) => facet::decimal(&text),
            _ => None,
        };
        amount.ok_or_else(|| self.wrong())
    }

    /// The value for the record: a number where it is one, otherwise text.
    #[must_use]
    pub fn canonical(&self) -> Option<Canonical> {
        match self.entry.map(|entry| entry.kind) {
            Some(Type::Amount | Type::Decimal | Type::Count) => self.amount().ok()?.canonical(),
            _ => Some(Canonical::text(&self.text().ok()?)),
        }
    }

    /// What the record would show of it: C1 as it is, C2 masked.
    #[must_use]
    pub fn masked(&self) -> Zeroizing<String> {
        let Ok(text) = self.text() else { return Zeroizing::new(String::new()) };
        let scalar = Scalar::Text(Zeroizing::new(text.into_owned()));
        Zeroizing::new(match audit(self.class(), &scalar, None) {
            AuditView::Clear(text) | AuditView::MaskedAndAnchored(text) => text,
            AuditView::AnchorOnly | AuditView::Nothing => moat_mask::fixed(self.class()).to_owned(),
        })
    }
}

/// References, CDATA and line ends (XML 1.0 §2.11) as what they stand for.
fn resolve(raw: &str) -> Option<String> {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find(['&', '<', '\r']) {
        let (before, from) = rest.split_at_checked(at)?;
        out.push_str(before);
        if let Some(after) = from.strip_prefix("<![CDATA[") {
            let (inside, after) = after.split_once("]]>")?;
            out.push_str(&inside.replace("\r\n", "\n").replace('\r', "\n"));
            rest = after;
        } else if let Some(after) = from.strip_prefix('\r') {
            out.push('\n');
            rest = after.strip_prefix('\n').unwrap_or(after);
        } else {
            let (name, after) = from.strip_prefix('&')?.split_once(';')?;
            out.push(reference(name)?);
            rest = after;
        }
    }
    out.push_str(rest);
    Some(out)
}

fn reference(name: &str) -> Option<char> {
    let number = match name {
        "lt" => return Some('<'),
        "gt" => return Some('>'),
        "amp" => return Some('&'),
        "quot" => return Some('"'),
        "apos" => return Some('\''),
        _ => name.strip_prefix('#')?,
    };
    let number = match number.strip_prefix('x') {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => number.parse(),
    };
    char::from_u32(number.ok()?)
}

/// Appends text as it may stand between tags.
pub(super) fn escape(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'&' => out.extend_from_slice(b"&amp;"),
            b'\r' => out.extend_from_slice(b"&#13;"),
            // Other control characters cannot stand in XML at all.
            0..0x20 if !matches!(byte, b'\t' | b'\n') => out.push(b' '),
            _ => out.push(byte),
        }
    }
}
