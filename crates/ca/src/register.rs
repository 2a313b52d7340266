//! What an authority has issued and revoked: `issuing.register` in its folder, lines of text.
//!
//! ```text
//! moat register 1
//! crl 7
//! issued 4a6f… 1798761600 spiffe://bank.test/teller
//! revoked 4b11… 1798761600 spiffe://bank.test/clerk 1767225600 keyCompromise
//! ```
//!
//! The numbers are the last list's number, the end of validity and the time of revocation, in
//! seconds since 1970. One process at a time has it open. A line that is not understood stops all
//! work with it: whoever revoked something must not find it issued again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use moat_model::code::ca::{NOT_ISSUED, REGISTER, REVOKED};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::authority::bad;
use crate::files::{self, Level, SECRET};
use crate::{Error, Kind, x509};

/// Longest register, in bytes: some hundred thousand certificates.
const REGISTER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// RFC 5280 §4.1.2.2: bytes of a serial number.
const SERIAL_BYTES_MAX: usize = 20;
/// Longest name that is kept of a certificate, in characters.
const NAME_CHARS_MAX: usize = 256;
/// How often, and how long apart, another process is waited for: five seconds in all.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(50);
const HEAD: &str = "moat register 1";

/// A certificate's number, big-endian, without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Serial(Vec<u8>);

impl Serial {
    /// From the content of an INTEGER.
    ///
    /// # Errors
    /// [`moat_model::code::ca::BAD_REQUEST`] if it is empty, zero, negative or longer than 20
    /// bytes.
    pub fn new(bytes: &[u8]) -> Result<Serial, Error> {
        let skip = bytes.iter().take_while(|byte| **byte == 0).count();
        let rest = bytes.get(skip..).unwrap_or_default();
        let is_negative = bytes.first().is_some_and(|first| *first >= 0x80);
        if rest.is_empty() || is_negative || bytes.len() > SERIAL_BYTES_MAX + 1 {
            return Err(bad("this is no serial number"));
        }
        if rest.len() > SERIAL_BYTES_MAX {
            return Err(bad("the serial number is longer than 20 bytes"));
        }
        Ok(Serial(rest.to_vec()))
    }

    /// From hexadecimal digits, with or without colons between the bytes.
    ///
    /// # Errors
    /// [`NOT_ISSUED`] if it is no serial number.
    pub fn from_hex(text: &str) -> Result<Serial, Error> {
        let no = |text: &str| {
            let text: String = text.chars().take(2 * SERIAL_BYTES_MAX).collect();
            let why = format!("`{}` is no serial number", text.escape_debug());
            Error::new(&NOT_ISSUED, why)
        };
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
        // An odd number of digits has a zero in front.
        let pad: &[u8] = if digits.len() % 2 == 1 { b"0" } else { b"" };
        let padded = [pad, &digits].concat();
        if padded.len() > 2 * SERIAL_BYTES_MAX {
            return Err(no(text));
        }
        let bytes = padded.chunks_exact(2).map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        });
        let bytes = bytes.collect::<Option<Vec<u8>>>();
        let bytes = bytes.ok_or_else(|| no(text))?;
        Serial::new(&[&[0], bytes.as_slice()].concat()).map_err(|_| no(text))
    }

    /// As an INTEGER in DER.
    pub(crate) fn to_der(&self) -> Vec<u8> {
        x509::unsigned(&self.0)
    }
}

impl core::fmt::Display for Serial {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

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

/// See the module. [`Register::save`] writes it; dropped without that, nothing has changed.
#[derive(Debug)]
pub struct Register {
    path: PathBuf,
    _lock: File,
    list_number: u64,
    entries: BTreeMap<Serial, Entry>,
}

impl Register {
    /// Opens the register of one authority; an empty one if there is none yet.
    ///
    /// # Errors
    /// [`REGISTER`] if it is damaged or another process keeps it,
    /// [`moat_model::code::ca::UNREADABLE`] if it cannot be read.
    pub fn open(dir: &Path, kind: Kind, level: Level) -> Result<Register, Error> {
        let lock = locked(&dir.join(files::file(kind, level, "register.lock")))?;
        let path = dir.join(files::file(kind, level, "register"));
        let mut register = Register { path, _lock: lock, list_number: 0, entries: BTreeMap::new() };
        if register.path.exists() {
            let most = u64::try_from(REGISTER_BYTES_MAX).unwrap_or(u64::MAX);
            let bytes = files::read_bounded(&register.path, most)?;
            let text = core::str::from_utf8(&bytes).map_err(|_| register.damaged(0))?;
            register.read(text)?;
        }
        Ok(register)
    }

    fn read(&mut self, text: &str) -> Result<(), Error> {
        let mut lines = text.lines().zip(1_usize..);
        if lines.next().is_none_or(|(head, _)| head != HEAD) || !text.ends_with('\n') {
            return Err(self.damaged(1));
        }
        for (line, number) in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let read = match words.as_slice() {
                ["crl", value] if number == 2 => {
                    value.parse().map(|value| self.list_number = value).ok()
                }
                ["issued", serial, end, name] => entry(serial, end, name, None)
                    .and_then(|(serial, entry)| self.add_once(serial, entry)),
                ["revoked", serial, end, name, at, reason] => {
                    let reason = Reason::find(reason);
                    let revoked = at.parse().ok().zip(reason);
                    revoked.and_then(|(at_s, reason)| {
                        let (serial, entry) =
                            entry(serial, end, name, Some(Revocation { at_s, reason }))?;
                        self.add_once(serial, entry)
                    })
                }
                _ => None,
            };
            read.ok_or_else(|| self.damaged(number))?;
        }
        Ok(())
    }

    fn add_once(&mut self, serial: Serial, entry: Entry) -> Option<()> {
        self.entries.insert(serial, entry).is_none().then_some(())
    }

    fn damaged(&self, line: usize) -> Error {
        Error::new(&REGISTER, format_args!("{}: line {line}", self.path.display()))
    }

    /// Adds a certificate, given in DER.
    ///
    /// # Errors
    /// [`moat_model::code::ca::BAD_REQUEST`] if it is no certificate.
    pub fn issued(&mut self, certificate: &[u8]) -> Result<Serial, Error> {
        let (serial, entry) = entry_of(certificate)?;
        self.entries.entry(serial.clone()).or_insert(entry);
        Ok(serial)
    }

    /// Marks a certificate as revoked.
    ///
    /// # Errors
    /// [`NOT_ISSUED`] if it is not in the register, [`REVOKED`] if it was revoked before: time and
    /// reason of a revocation do not change.
    pub fn revoke(&mut self, serial: &Serial, revocation: Revocation) -> Result<&Entry, Error> {
        let entry = self.entries.get_mut(serial);
        let entry = entry.ok_or_else(|| Error::new(&NOT_ISSUED, serial))?;
        if entry.revoked.is_some() {
            return Err(Error::new(&REVOKED, serial));
        }
        entry.revoked = Some(revocation);
        Ok(entry)
    }

    /// The certificate with that number.
    #[must_use]
    pub fn find(&self, serial: &Serial) -> Option<&Entry> {
        self.entries.get(serial)
    }

    /// Everything that was revoked, by serial number.
    pub fn revoked(&self) -> impl Iterator<Item = (&Serial, Revocation)> {
        self.entries.iter().filter_map(|(serial, entry)| Some((serial, entry.revoked?)))
    }

    /// A number for the next list. It is above those of all lists before once the register is
    /// saved.
    pub fn next_list_number(&mut self) -> u64 {
        self.list_number = self.list_number.saturating_add(1);
        self.list_number
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// [`REGISTER`] if it became too long, [`moat_model::code::ca::UNREADABLE`] if it cannot be
    /// written.
    pub fn save(&self) -> Result<(), Error> {
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
        if text.len() > REGISTER_BYTES_MAX {
            let why = format!("{}: over {REGISTER_BYTES_MAX} bytes", self.path.display());
            return Err(Error::new(&REGISTER, why));
        }
        files::replace(&self.path, text.as_bytes(), SECRET)
    }
}

fn entry(
    serial: &str,
    end: &str,
    name: &str,
    revoked: Option<Revocation>,
) -> Option<(Serial, Entry)> {
    let not_after_s = end.parse().ok()?;
    Some((Serial::from_hex(serial).ok()?, Entry { not_after_s, name: name.to_owned(), revoked }))
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

/// The lock is on a file of its own: the register is replaced while it is held.
fn locked(path: &Path) -> Result<File, Error> {
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(SECRET).open(path);
    let file = open.map_err(|e| files::unreadable(path, &e))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(e)) => return Err(files::unreadable(path, &e)),
        }
    }
    Err(Error::new(&REGISTER, format_args!("{}: another process keeps it", path.display())))
}
