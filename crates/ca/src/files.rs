//! The authority's folder: `root.pem`, `root.key`, `issuing.pem`, `issuing.key`. A national
//! authority may lie beside it: `root-sm2.pem` and so on.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use moat_model::code::ca::{EXISTS, UNREADABLE};

use crate::{Authority, Error, Identity, Kind};

/// Writes a new authority into `dir`, which is made if missing. Nothing is ever overwritten.
///
/// # Errors
/// [`EXISTS`] if one of the files is there already, [`UNREADABLE`] if the folder cannot be written.
pub fn save(authority: &Authority, dir: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(|e| unreadable(dir, &e))?;
    let path = |stem, suffix| dir.join(file(authority.kind, stem, suffix));
    write_new(&path("root", "key"), &authority.root_key_pem, 0o600)?;
    write_new(&path("issuing", "key"), &authority.issuing_key_pem, 0o600)?;
    write_new(&path("root", "pem"), &authority.root_pem, 0o644)?;
    write_new(&path("issuing", "pem"), &authority.issuing_pem, 0o644)
}

/// Name of a file of an authority.
fn file(kind: Kind, stem: &str, suffix: &str) -> String {
    let mark = if kind == Kind::Sm2 { "-sm2" } else { "" };
    format!("{stem}{mark}.{suffix}")
}

/// Reads the authority of that kind that [`save`] wrote.
///
/// # Errors
/// [`UNREADABLE`] if a file is missing or unreadable.
pub fn load(dir: &Path, kind: Kind) -> Result<Authority, Error> {
    let read = |stem: &str, suffix: &str| {
        let path = dir.join(file(kind, stem, suffix));
        fs::read_to_string(&path).map_err(|e| unreadable(&path, &e))
    };
    Ok(Authority {
        kind,
        root_pem: read("root", "pem")?,
        root_key_pem: read("root", "key")?,
        issuing_pem: read("issuing", "pem")?,
        issuing_key_pem: read("issuing", "key")?,
    })
}

/// Writes `<stem>.pem` (0644) and `<stem>.key` (0600) into `dir`, replacing an older pair: each
/// file is renamed into place whole, the key first, so that a reader never sees half a file.
///
/// # Errors
/// [`UNREADABLE`] if the folder cannot be written.
pub fn write_identity(identity: &Identity, dir: &Path, stem: &str) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(|e| unreadable(dir, &e))?;
    for (suffix, text, mode) in
        [("key", &identity.key_pem, 0o600), ("pem", &identity.chain_pem, 0o644)]
    {
        let path = dir.join(format!("{stem}.{suffix}"));
        let fresh = dir.join(format!(".{stem}.{suffix}.new"));
        let _ = fs::remove_file(&fresh);
        write_new(&fresh, text, mode)?;
        fs::rename(&fresh, &path).map_err(|e| unreadable(&path, &e))?;
    }
    Ok(())
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = file.map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => Error::new(&EXISTS, path.display()),
        _ => unreadable(path, &e),
    })?;
    file.write_all(text.as_bytes()).map_err(|e| unreadable(path, &e))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(&UNREADABLE, format_args!("{}: {error}", path.display()))
}
