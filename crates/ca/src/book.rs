//! What an authority has issued and revoked, as lines of text:
//!
//! ```text
//! moat register 2
//! crl 7
//! issued 4a6f… 1798761600 spiffe://bank.test/teller
//! revoked 4b11… 1798761600 spiffe://bank.test/clerk 1767225600 keyCompromise
//! end 2 9f86…
//! ```
//!
//! The numbers are the last list's number, the end of validity and the time of revocation, in
//! seconds since 1970; at the end how many certificates there are and SHA-256 of all above, so that
//! a text that was cut is not taken for a shorter one. There is one way to write a register, and
//! none but that is read. Files are not touched here.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use moat_model::code::ca::{NOT_ISSUED, REGISTER, REVOKED};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::authority::bad;
use crate::{Error, Serial};

/// Longest register, in bytes: some hundred thousand certificates.
pub(crate) const REGISTER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Up to here certificates are issued, in bytes, each counted as if it were revoked. What is left
/// serves to revoke those that were issued before there was a register.
pub(crate) const ISSUED_BYTES_MAX: usize = REGISTER_BYTES_MAX - 1024 * 1024;
/// By how much the longest revocation lengthens a line, in bytes: a word of one letter more, two
/// spaces, twenty digits and the reason.
const REVOCATION_BYTES_MAX: usize = 1 + 2 + 20 + 20;
/// Head, number of the list and end, in bytes at most.
const FRAME_BYTES_MAX: usize = 160;
/// Longest name that is kept of a certificate, in characters.
const NAME_CHARS_MAX: usize = 256;
const HEAD: &str = "moat register 2";

/// Why a certificate is revoked: CRLReason (RFC 5280 §5.3.1). Holding a certificate back for a time
/// is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No reason is given; lists then name none.
    Unspecified,
    /// The key is known to somebody else, or may be.
    KeyCompromise,
    /// The same of an authority's key.
    CaCompromise,
    /// The subject's name or its standing has changed.
    AffiliationChanged,
    /// Another certificate has taken its place.
    Superseded,
    /// The subject's work has ended.
    CessationOfOperation,
    /// A right that the certificate showed was taken away.
    PrivilegeWithdrawn,
}

impl Reason {
    /// All of them, with number and name.
    pub const ALL: [(Reason, u8, &str); 7] = [
        (Reason::Unspecified, 0, "unspecified"),
        (Reason::KeyCompromise, 1, "keyCompromise"),
        (Reason::CaCompromise, 2, "cACompromise"),
        (Reason::AffiliationChanged, 3, "affiliationChanged"),
        (Reason::Superseded, 4, "superseded"),
        (Reason::CessationOfOperation, 5, "cessationOfOperation"),
        (Reason::PrivilegeWithdrawn, 9, "privilegeWithdrawn"),
    ];

    /// The number in a list.
    pub(crate) fn number(self) -> u8 {
        Self::ALL.iter().find(|(reason, ..)| *reason == self).map_or(0, |(_, number, _)| *number)
    }

    /// The name in RFC 5280.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(reason, ..)| *reason == self).map_or("", |(.., name)| name)
    }

    /// By its name, in any letter case.
    #[must_use]
    pub fn find(name: &str) -> Option<Reason> {
        let found = Self::ALL.iter().find(|(.., own)| own.eq_ignore_ascii_case(name));
        found.map(|(reason, ..)| *reason)
    }
}

/// When and why something was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Seconds since 1970.
    pub at_s: i64,
    /// Why.
    pub reason: Reason,
}

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// End of validity, in seconds since 1970.
    pub not_after_s: i64,
    /// Its first URI, or else its subject.
    pub name: String,
    /// Set if it was revoked.
    pub revoked: Option<Revocation>,
}

/// The content of a register.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    pub(crate) list_number: u64,
    entries: BTreeMap<Serial, Entry>,
}

impl Book {
    /// Reads what [`Book::text`] wrote, and nothing else.
    ///
    /// # Errors
    /// The number of the line that is wrong, from one.
    pub fn read(text: &str) -> Result<Book, usize> {
        let mut book = Book::default();
        let mut lines = text.lines().zip(1_usize..);
        if lines.next().is_none_or(|(head, _)| head != HEAD) {
            return Err(1);
        }
        let number = lines.next().and_then(|(line, _)| line.strip_prefix("crl ")?.parse().ok());
        book.list_number = number.ok_or(2_usize)?;
        let mut last = 2;
        for (line, number) in lines {
            last = number;
            if line.starts_with("end ") {
                break;
            }
            let (serial, entry) = entry(line).ok_or(number)?;
            if book.entries.insert(serial, entry).is_some() {
                return Err(number);
            }
        }
        // Order, letter case, line ends, count, digest, and that nothing is missing or follows.
        if book.text() == text { Ok(book) } else { Err(last) }
    }

    /// All of it, sealed.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{HEAD}\ncrl {}\n", self.list_number);
        for (serial, Entry { not_after_s, name, revoked }) in &self.entries {
            let _ = match revoked {
                None => writeln!(text, "issued {serial} {not_after_s} {name}"),
                Some(Revocation { at_s, reason }) => {
                    let reason = reason.name();
                    writeln!(text, "revoked {serial} {not_after_s} {name} {at_s} {reason}")
                }
            };
        }
        Book::sealed(&text)
    }

    /// A text with the end line that fits it.
    #[must_use]
    pub fn sealed(text: &str) -> String {
        let count = text.lines().count().saturating_sub(2);
        let digest = digest(&SHA256, text.as_bytes());
        let mut sealed = format!("{text}end {count} ");
        for byte in digest.as_ref() {
            let _ = write!(sealed, "{byte:02x}");
        }
        sealed.push('\n');
        sealed
    }

    /// Adds a certificate, given in DER, unless it is there.
    pub(crate) fn issued(&mut self, certificate: &[u8]) -> Result<Serial, Error> {
        let (serial, entry) = entry_of(certificate)?;
        self.entries.entry(serial.clone()).or_insert(entry);
        Ok(serial)
    }

    /// Adds a new certificate, given in DER, if all could still be revoked with it.
    pub(crate) fn enter(&mut self, certificate: &[u8], bytes_max: usize) -> Result<Serial, Error> {
        let (serial, entry) = entry_of(certificate)?;
        if self.entries.contains_key(&serial) {
            return Err(bad(format_args!("the register has number {serial} already")));
        }
        let line = revoked_bytes(&serial, &entry);
        let others = self.entries.iter().map(|(serial, entry)| revoked_bytes(serial, entry));
        if others.sum::<usize>().saturating_add(line + FRAME_BYTES_MAX) > bytes_max {
            let why = "it is full: room is kept to revoke what it has; begin a new authority";
            return Err(Error::new(&REGISTER, why));
        }
        self.entries.insert(serial.clone(), entry);
        Ok(serial)
    }

    pub(crate) fn revoke(
        &mut self,
        serial: &Serial,
        revocation: Revocation,
    ) -> Result<&Entry, Error> {
        let entry = self.entries.get_mut(serial);
        let entry = entry.ok_or_else(|| Error::new(&NOT_ISSUED, serial))?;
        if entry.revoked.is_some() {
            return Err(Error::new(&REVOKED, serial));
        }
        entry.revoked = Some(revocation);
        Ok(entry)
    }

    pub(crate) fn find(&self, serial: &Serial) -> Option<&Entry> {
        self.entries.get(serial)
    }

    pub(crate) fn revoked(&self) -> impl Iterator<Item = (&Serial, Revocation)> {
        self.entries.iter().filter_map(|(serial, entry)| Some((serial, entry.revoked?)))
    }
}

/// Bytes of a line if it tells of a revocation, at most.
fn revoked_bytes(serial: &Serial, entry: &Entry) -> usize {
    let issued = format!("issued {serial} {} {}\n", entry.not_after_s, entry.name);
    issued.len() + REVOCATION_BYTES_MAX
}

fn entry(line: &str) -> Option<(Serial, Entry)> {
    let words: Vec<&str> = line.split(' ').collect();
    let (serial, end, name, revoked) = match words.as_slice() {
        ["issued", serial, end, name] => (serial, end, name, None),
        ["revoked", serial, end, name, at, reason] => {
            let (at_s, reason) = (at.parse().ok()?, Reason::find(reason)?);
            (serial, end, name, Some(Revocation { at_s, reason }))
        }
        _ => return None,
    };
    let not_after_s = end.parse().ok()?;
    let name = (*name).to_owned();
    Some((Serial::from_hex(serial).ok()?, Entry { not_after_s, name, revoked }))
}

fn entry_of(der: &[u8]) -> Result<(Serial, Entry), Error> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(bad)?;
    if !rest.is_empty() {
        return Err(bad("there are bytes after the certificate"));
    }
    let names = certificate.subject_alternative_name().ok().flatten();
    let uri = names.and_then(|names| {
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        })
    });
    let name = uri.unwrap_or_else(|| certificate.subject().to_string());
    // A word of the line: no space, no line feed, not empty.
    let word = |c: char| if c.is_whitespace() || c.is_control() { '_' } else { c };
    let name: String = name.chars().map(word).take(NAME_CHARS_MAX).collect();
    let name = if name.is_empty() { "-".to_owned() } else { name };
    let not_after_s = certificate.validity().not_after.timestamp();
    let serial = Serial::new(certificate.raw_serial())?;
    Ok((serial, Entry { not_after_s, name, revoked: None }))
}
