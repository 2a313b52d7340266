//! The authority's folder: `root.pem`, `root.key`, `issuing.pem`, `issuing.key`. A national
//! authority may lie beside it: `root-sm2.pem` and so on. What was issued and revoked stands in
//! `issuing.register` and the like.
//!
//! A file is written beside its place, synced and renamed: a reader sees the old one or the new
//! one.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use moat_model::code::ca::{EXISTS, UNREADABLE};
use zeroize::Zeroizing;

use crate::{Authority, Error, Identity, Kind};

/// Rights of a file that holds a secret, and of one that does not.
pub(crate) const SECRET: u32 = 0o600;
const PUBLIC: u32 = 0o644;
/// Longest certificate, request or key file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

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

/// Writes a new authority into `dir`, which is made if missing. Nothing is ever overwritten.
///
/// # Errors
/// [`EXISTS`] if one of the files is there already, [`UNREADABLE`] if the folder cannot be written.
pub fn save(authority: &Authority, dir: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(|e| unreadable(dir, &e))?;
    let path = |level, suffix| dir.join(file(authority.kind, level, suffix));
    write_new(&path(Level::Root, "key"), authority.root_key_pem.as_bytes(), SECRET)?;
    write_new(&path(Level::Issuing, "key"), authority.issuing_key_pem.as_bytes(), SECRET)?;
    write_new(&path(Level::Root, "pem"), authority.root_pem.as_bytes(), PUBLIC)?;
    write_new(&path(Level::Issuing, "pem"), authority.issuing_pem.as_bytes(), PUBLIC)
}

/// Name of a file of an authority.
pub(crate) fn file(kind: Kind, level: Level, suffix: &str) -> String {
    let mark = if kind == Kind::Sm2 { "-sm2" } else { "" };
    format!("{}{mark}.{suffix}", level.stem())
}

/// Reads the authority of that kind that [`save`] wrote.
///
/// # Errors
/// [`UNREADABLE`] if a file is missing or unreadable.
pub fn load(dir: &Path, kind: Kind) -> Result<Authority, Error> {
    let read = |level, suffix: &str| {
        let path = dir.join(file(kind, level, suffix));
        let text = String::from_utf8(read_file(&path)?.to_vec());
        text.map_err(|_| Error::new(&UNREADABLE, format_args!("{}: no text", path.display())))
    };
    Ok(Authority {
        kind,
        root_pem: read(Level::Root, "pem")?,
        root_key_pem: Zeroizing::new(read(Level::Root, "key")?),
        issuing_pem: read(Level::Issuing, "pem")?,
        issuing_key_pem: Zeroizing::new(read(Level::Issuing, "key")?),
    })
}

/// Reads a certificate, a request or a key: at most a mebibyte.
///
/// # Errors
/// [`UNREADABLE`] if it is missing, unreadable or too long.
pub fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    read_bounded(path, FILE_BYTES_MAX)
}

pub(crate) fn read_bounded(path: &Path, most: u64) -> Result<Zeroizing<Vec<u8>>, Error> {
    let file = fs::File::open(path).map_err(|e| unreadable(path, &e))?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(most + 1).read_to_end(&mut bytes).map_err(|e| unreadable(path, &e))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        return Err(Error::new(&UNREADABLE, format_args!("{}: over {most} bytes", path.display())));
    }
    Ok(bytes)
}

/// Writes `<stem>.pem` (0644) and `<stem>.key` (0600) into `dir`, replacing an older pair: each
/// file is renamed into place whole, the key first, so that a reader never sees half a file.
///
/// # Errors
/// [`UNREADABLE`] if the folder cannot be written.
pub fn write_identity(identity: &Identity, dir: &Path, stem: &str) -> Result<(), Error> {
    write_secret(&dir.join(format!("{stem}.key")), identity.key_pem.as_bytes())?;
    write_public(&dir.join(format!("{stem}.pem")), identity.chain_pem.as_bytes())
}

/// Writes what everybody may read (0644), whole or not at all. Its folder is made if missing.
///
/// # Errors
/// [`UNREADABLE`] if it cannot be written.
pub fn write_public(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    replace(path, bytes, PUBLIC)
}

/// Writes what only its owner may read (0600), whole or not at all. Its folder is made if missing.
///
/// # Errors
/// [`UNREADABLE`] if it cannot be written.
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    replace(path, bytes, SECRET)
}

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
