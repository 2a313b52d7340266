//! The authority's folder: `root.pem`, `root.key`, `issuing.pem`, `issuing.key`. A national
//! authority may lie beside it: `root-sm2.pem` and so on. What was issued and revoked stands in
//! `issuing.register` and the like.
//!
//! A file is written beside its place, synced and renamed: a reader sees the old one or the new
//! one.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use moat_model::code::ca::{BAD_REQUEST, EXISTS, ISSUER_REVOKED, REGISTER, UNREADABLE};
use zeroize::Zeroizing;

use crate::book::REGISTER_BYTES_MAX;
use crate::register::is_absent;
use crate::{
    Answer, Authority, Error, Identity, Kind, List, Register, Requested, Window, first_certificate,
};

/// Rights of a file that holds a secret, and of one that does not.
pub(crate) const SECRET: u32 = 0o600;
const PUBLIC: u32 = 0o644;
/// Names of an authority's files: stems, and what stands behind the dot.
const STEMS: [&str; 4] = ["root", "root-sm2", "issuing", "issuing-sm2"];
const SUFFIXES: [&str; 5] = ["key", "pem", "register", "register.lock", "crl"];
/// Longest certificate, request or key file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Spare room behind a file, in bytes, so that its end is seen without a larger buffer.
const READ_AHEAD_BYTES: usize = 64;

/// Which of the two levels signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The root, which signs the issuing authority.
    Root,
    /// The issuing authority, which signs identities.
    Issuing,
}

impl Level {
    fn stem(self) -> &'static str {
        match self {
            Level::Root => "root",
            Level::Issuing => "issuing",
        }
    }
}

/// Writes a new authority and its registers into `dir`, which is made if missing. Nothing is ever
/// overwritten.
///
/// # Errors
/// [`EXISTS`] if one of the files is there already, [`UNREADABLE`] if the folder cannot be written,
/// [`BAD_REQUEST`] if the authority has no keys.
pub fn save(authority: &Authority, dir: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(|e| unreadable(dir, &e))?;
    let path = |level, suffix| dir.join(file(authority.kind, level, suffix));
    // Also a register or list alone: it is of an authority that somebody may put back.
    for level in [Level::Root, Level::Issuing] {
        for path in SUFFIXES.map(|suffix| path(level, suffix)) {
            if !is_absent(&path)? {
                return Err(Error::new(&EXISTS, path.display()));
            }
        }
    }
    let keys = authority.root_key_pem.as_ref().zip(authority.issuing_key_pem.as_ref());
    let (root, issuing) = keys.ok_or_else(|| Error::new(&BAD_REQUEST, "it has no keys"))?;
    write_new(&path(Level::Root, "key"), root.as_bytes(), SECRET)?;
    write_new(&path(Level::Issuing, "key"), issuing.as_bytes(), SECRET)?;
    write_new(&path(Level::Root, "pem"), authority.root_pem.as_bytes(), PUBLIC)?;
    write_new(&path(Level::Issuing, "pem"), authority.issuing_pem.as_bytes(), PUBLIC)?;
    open_issuing(dir, authority).map(drop)
}

/// Opens the register of that level of an authority, and holds it against the list that lies beside
/// it: a register that has less than the list is an old copy.
///
/// # Errors
/// [`REGISTER`] if it is damaged, lost, older than the list, or another process keeps it;
/// [`EXISTS`] if what has the name of the list is something else;
/// [`UNREADABLE`] if the folder cannot be read or written.
pub fn open(dir: &Path, authority: &Authority, level: Level) -> Result<Register, Error> {
    let mut register = Register::open(dir, authority.kind, level)?;
    if level == Level::Root && register.is_new() {
        // So the root can revoke the issuing authority by its number.
        register.issued(&first_certificate(authority.issuing_pem.as_bytes())?)?;
        register.save()?;
    }
    follows(&dir.join(file(authority.kind, level, "crl")), authority, level, &register)?;
    Ok(register)
}

/// Opens the register of the issuing authority, to issue or to answer.
///
/// # Errors
/// [`ISSUER_REVOKED`] if the root has revoked the issuing authority,
/// [`REGISTER`] also if the root's register does not know it; otherwise as [`open`].
pub fn open_issuing(dir: &Path, authority: &Authority) -> Result<Register, Error> {
    let roots = open(dir, authority, Level::Root)?;
    let serial = authority.issuing_serial()?;
    match roots.find(&serial) {
        Some(entry) if entry.revoked.is_none() => open(dir, authority, Level::Issuing),
        Some(_) => Err(Error::new(&ISSUER_REVOKED, serial)),
        None => Err(Error::new(
            &REGISTER,
            format_args!("the root's does not have the issuing authority, {serial}"),
        )),
    }
}

/// Whether a list may be written there.
fn follows(
    path: &Path,
    authority: &Authority,
    level: Level,
    register: &Register,
) -> Result<(), Error> {
    if is_absent(path)? {
        return Ok(());
    }
    let most = u64::try_from(REGISTER_BYTES_MAX).unwrap_or(u64::MAX);
    let old = read_bounded(path, most)?;
    authority.may_follow(level, register, &old).map_err(|e| e.at(path))
}

/// Signs a list of that level and writes it to `out`, or to its usual place in `dir`; gives also the
/// path. The register is saved before the list is written: so no number is used twice.
///
/// # Errors
/// [`EXISTS`] if `out` is anything but an earlier list of that level, [`REGISTER`] if that list has
/// more than the register; otherwise as [`Authority::list`].
pub fn write_list(
    authority: &Authority,
    level: Level,
    register: &mut Register,
    window: Window,
    (dir, out): (&Path, Option<&Path>),
    is_der: bool,
) -> Result<(List, PathBuf), Error> {
    let own = file(authority.kind, level, "crl");
    let out = out.map_or_else(|| dir.join(&own), Path::to_path_buf);
    if out.file_name() != Some(own.as_ref()) {
        not_reserved(&out)?;
    }
    follows(&out, authority, level, register)?;
    let list = authority.list(level, register, window)?;
    register.save()?;
    replace(&out, if is_der { &list.der } else { list.pem.as_bytes() }, PUBLIC)?;
    Ok((list, out))
}

/// Writes an OCSP response. It may take the place of an earlier one, or of an empty file.
///
/// # Errors
/// [`EXISTS`] if anything else is there, or `out` has the name of a file of an authority;
/// [`UNREADABLE`] if it cannot be written.
pub fn write_answer(out: &Path, answer: &Answer) -> Result<(), Error> {
    not_reserved(out)?;
    if !is_absent(out)? {
        let old = read_file(out)?;
        if !old.is_empty() && !is_response(&old) {
            return Err(Error::new(&EXISTS, "it is no OCSP response").at(out));
        }
    }
    replace(out, &answer.der, PUBLIC)
}

/// OCSPResponse begins with its status, an ENUMERATED (RFC 6960 §4.2.1). Nothing else that is
/// written here does.
fn is_response(der: &[u8]) -> bool {
    let skip = match der {
        [0x30, 0..0x80, ..] => 2,
        [0x30, length, ..] => 2 + usize::from(*length & 0x7f),
        _ => return false,
    };
    der.get(skip..).is_some_and(|rest| rest.starts_with(&[0x0a, 1]))
}

/// Whether files may be called `stem.pem`, `stem.key`, `stem.csr`: a plain name, and not that of an
/// authority, in whatever folder, letter case or not.
///
/// # Errors
/// [`EXISTS`] if it is an authority's, [`BAD_REQUEST`] if it is no plain name.
pub fn check_stem(stem: &str) -> Result<(), Error> {
    if stem.is_empty() || stem.starts_with('.') || stem.contains(['/', '\\', '\0']) {
        let why = format_args!("`{}` cannot be a file's name", stem.escape_debug());
        return Err(Error::new(&BAD_REQUEST, why));
    }
    if STEMS.iter().any(|own| own.eq_ignore_ascii_case(stem)) {
        let why = format_args!("the authority's own files are called {stem}");
        return Err(Error::new(&EXISTS, why));
    }
    Ok(())
}

fn not_reserved(path: &Path) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (stem, suffix) = name.split_once('.').unwrap_or((&name, ""));
    let is_one = SUFFIXES.iter().any(|own| own.eq_ignore_ascii_case(suffix));
    if is_one { check_stem(stem).map_err(|e| e.at(path)) } else { Ok(()) }
}

/// Name of a file of an authority.
pub(crate) fn file(kind: Kind, level: Level, suffix: &str) -> String {
    let mark = if kind == Kind::Sm2 { "-sm2" } else { "" };
    format!("{}{mark}.{suffix}", level.stem())
}

/// Reads the authority of that kind that [`save`] wrote, and the key of the level that shall sign.
/// Both certificates must be there, other keys need not.
///
/// # Errors
/// [`UNREADABLE`] if a file is missing or unreadable.
pub fn load(dir: &Path, kind: Kind, signs: Option<Level>) -> Result<Authority, Error> {
    let read = |level, suffix: &str| read_text(&dir.join(file(kind, level, suffix)));
    let key = |level| match signs {
        Some(signer) if signer == level => read(level, "key").map(Some),
        _ => Ok(None),
    };
    Ok(Authority {
        kind,
        root_pem: read(Level::Root, "pem")?.to_string(),
        root_key_pem: key(Level::Root)?,
        issuing_pem: read(Level::Issuing, "pem")?.to_string(),
        issuing_key_pem: key(Level::Issuing)?,
    })
}

/// Reads a certificate, a request or a key: at most a mebibyte.
///
/// # Errors
/// [`UNREADABLE`] if it is missing, unreadable or too long.
pub fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    read_bounded(path, FILE_BYTES_MAX)
}

/// The same, as a text.
///
/// # Errors
/// [`UNREADABLE`] also if it is no text.
pub fn read_text(path: &Path) -> Result<Zeroizing<String>, Error> {
    let mut bytes = read_file(path)?;
    // Taken out, not copied: there is one place to wipe.
    match String::from_utf8(core::mem::take(&mut *bytes)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(Error::new(&UNREADABLE, format_args!("{}: no text", path.display())))
        }
    }
}

/// Room for all of it is made at once: a buffer that grows leaves copies that nobody wipes.
pub(crate) fn read_bounded(path: &Path, most: u64) -> Result<Zeroizing<Vec<u8>>, Error> {
    let no = |e: std::io::Error| unreadable(path, &e);
    let long = || Error::new(&UNREADABLE, format_args!("{}: over {most} bytes", path.display()));
    let file = fs::File::open(path).map_err(no)?;
    let length = file.metadata().map_err(no)?.len();
    if length > most {
        return Err(long());
    }
    // A pipe has no length, and no secrets come by one.
    let room = usize::try_from(length).map_err(|_| long())?.saturating_add(READ_AHEAD_BYTES);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(most + 1).read_to_end(&mut bytes).map_err(no)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        return Err(long());
    }
    Ok(bytes)
}

/// Writes `<stem>.pem` (0644) and `<stem>.key` (0600) into `dir`, replacing an older pair: each
/// file is renamed into place whole, the key first, so that a reader never sees half a file.
///
/// # Errors
/// As [`check_stem`], or [`UNREADABLE`] if the folder cannot be written.
pub fn write_identity(identity: &Identity, dir: &Path, stem: &str) -> Result<(), Error> {
    check_stem(stem)?;
    replace(&dir.join(format!("{stem}.key")), identity.key_pem.as_bytes(), SECRET)?;
    write_chain(&identity.chain_pem, dir, stem)
}

/// Writes `<stem>.pem` (0644) into `dir`, whole or not at all, replacing an older one.
///
/// # Errors
/// As [`write_identity`].
pub fn write_chain(chain_pem: &str, dir: &Path, stem: &str) -> Result<(), Error> {
    check_stem(stem)?;
    replace(&dir.join(format!("{stem}.pem")), chain_pem.as_bytes(), PUBLIC)
}

/// Writes `<stem>.key` (0600), which must not be there, and `<stem>.csr` (0644) into `dir`, which is
/// made if missing.
///
/// # Errors
/// [`EXISTS`] if there is such a key; otherwise as [`write_identity`].
pub fn write_request(requested: &Requested, dir: &Path, stem: &str) -> Result<(), Error> {
    check_stem(stem)?;
    fs::create_dir_all(dir).map_err(|e| unreadable(dir, &e))?;
    write_new(&dir.join(format!("{stem}.key")), requested.key_pem.as_bytes(), SECRET)?;
    replace(&dir.join(format!("{stem}.csr")), requested.request_pem.as_bytes(), PUBLIC)
}

/// Writes a file whole or not at all. Its folder is made if missing.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(dir).map_err(|e| unreadable(dir, &e))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = dir.join(format!(".{name}.new"));
    let _ = fs::remove_file(&fresh);
    write_new(&fresh, bytes, mode)?;
    fs::rename(&fresh, path).map_err(|e| unreadable(path, &e))?;
    // The new name is durable once the folder is.
    let synced = fs::File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|e| unreadable(dir, &e))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = file.map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => Error::new(&EXISTS, path.display()),
        _ => unreadable(path, &e),
    })?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| unreadable(path, &e))
}

pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(&UNREADABLE, format_args!("{}: {error}", path.display()))
}
