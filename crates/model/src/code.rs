//! Stable codes: one for every error a person can meet, in English and Chinese.
//!
//! A code is `MOAT-`, an area letter and three digits. Each area has a file of its own below
//! `code/`; [`all`] is the catalogue behind `moat explain` and `docs/codes.md`.

use core::fmt;

pub mod audit;
pub mod ca;
pub mod config;
pub mod decision;
pub mod http;
pub mod identity;
pub mod kernel;
pub mod limit;
pub mod mask;
pub mod message;
pub mod policy;
pub mod system;
pub mod tls;
pub mod upstream;

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The caller.
    Peer,
    /// The service behind the gateway.
    Upstream,
    /// Whoever configured or runs Moat.
    Operator,
    /// Moat itself.
    Moat,
}

/// What a code says in one language.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// One line: what happened. Safe to show to the caller.
    pub title: &'static str,
    /// What to do about it.
    pub fix: &'static str,
}

/// One entry of the catalogue.
#[derive(Debug)]
pub struct Code {
    /// For example `MOAT-H001`.
    pub id: &'static str,
    /// The HTTP status of a refusal with this code (RFC 9110 §15); 0 where no answer is possible.
    pub status: u16,
    /// Whose fault it is.
    pub blame: Blame,
    /// English text.
    pub en: Text,
    /// Chinese text.
    pub zh: Text,
}

impl Code {
    /// The `grpc-status` of a refusal with this code.
    ///
    /// Follows the mapping of HTTP statuses in the gRPC specification, refined where the status
    /// alone says too little (429 is RESOURCE_EXHAUSTED, 504 is DEADLINE_EXCEEDED).
    #[must_use]
    pub const fn grpc_status(&self) -> u8 {
        match self.status {
            400 | 411 | 413 | 414 | 415 | 422 | 431 => 3,
            401 => 16,
            403 => 7,
            // A call that no route takes is to gRPC a method that nobody implements.
            404 | 405 | 501 => 12,
            408 | 504 => 4,
            429 => 8,
            500 => 13,
            _ => 14,
        }
    }
}

impl PartialEq for Code {
    fn eq(&self, other: &Code) -> bool {
        self.id == other.id
    }
}

impl Eq for Code {}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id, self.en.title)
    }
}

/// Declares the codes of one area and the list `ALL` of them.
macro_rules! codes {
    ($($name:ident = $id:literal, $status:literal, $blame:ident,
        en: $en_title:literal, $en_fix:literal,
        zh: $zh_title:literal, $zh_fix:literal;)*) => {
        $(
            #[doc = concat!("`", $id, "`: ", $en_title, ".")]
            pub static $name: $crate::code::Code = $crate::code::Code {
                id: $id,
                status: $status,
                blame: $crate::code::Blame::$blame,
                en: $crate::code::Text { title: $en_title, fix: $en_fix },
                zh: $crate::code::Text { title: $zh_title, fix: $zh_fix },
            };
        )*
        /// Every code of this area.
        pub static ALL: &[&$crate::code::Code] = &[$(&$name),*];
    };
}
pub(crate) use codes;

/// The whole catalogue, in order of area and number.
pub fn all() -> impl Iterator<Item = &'static Code> {
    [
        audit::ALL,
        ca::ALL,
        config::ALL,
        decision::ALL,
        http::ALL,
        identity::ALL,
        kernel::ALL,
        limit::ALL,
        mask::ALL,
        message::ALL,
        policy::ALL,
        system::ALL,
        tls::ALL,
        upstream::ALL,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// The code with the given id, in any letter case and with or without `MOAT-`.
#[must_use]
pub fn find(id: &str) -> Option<&'static Code> {
    let wanted = id.trim().to_ascii_uppercase();
    let wanted = wanted.strip_prefix("MOAT-").unwrap_or(&wanted);
    all().find(|code| code.id.strip_prefix("MOAT-") == Some(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_is_unique_well_formed_and_told_in_both_languages() {
        let mut seen = BTreeSet::new();
        for code in all() {
            assert!(seen.insert(code.id), "{} stands twice", code.id);
            let rest = code.id.strip_prefix("MOAT-").expect("prefix");
            assert_eq!(rest.len(), 4, "{}", code.id);
            assert!(rest.chars().take(1).all(|c| c.is_ascii_uppercase()), "{}", code.id);
            assert!(rest.chars().skip(1).all(|c| c.is_ascii_digit()), "{}", code.id);
            for text in [code.en, code.zh] {
                assert!(!text.title.is_empty() && !text.fix.is_empty(), "{}", code.id);
            }
            let han = |c: char| ('\u{4e00}'..='\u{9fff}').contains(&c);
            assert!(code.zh.title.chars().any(han), "{} has no Chinese title", code.id);
            assert!(!code.en.title.chars().any(han), "{}", code.id);
        }
    }

    #[test]
    fn codes_are_found_however_they_are_typed() {
        assert_eq!(find("moat-h001").map(|c| c.id), Some("MOAT-H001"));
        assert_eq!(find(" H001 ").map(|c| c.id), Some("MOAT-H001"));
        assert!(find("H999").is_none());
    }
}
