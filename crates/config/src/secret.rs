//! References to files and secrets: `file:`, `env:`, `credential:`.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use moat_model::Code;
use moat_model::code::config::{BAD_VALUE, LITERAL_SECRET, TOO_LARGE, UNREADABLE};
use zeroize::Zeroizing;

/// Longest file that a reference may name, in bytes.
pub(crate) const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What a reference gave, and the file behind it, which a reload watches.
pub(crate) struct Fetched {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) path: Option<PathBuf>,
    /// Rights of group and others to the file; 0 where there is no file.
    pub(crate) open_to: u32,
}

/// What a file holds.
pub(crate) struct Read {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    /// See [`Fetched::open_to`].
    pub(crate) open_to: u32,
}

/// Rights to read and to write, of the group and of others: who writes a key has one that is known.
pub(crate) const OPEN: u32 = 0o066;

pub(crate) type Failure = (&'static Code, String, String);

/// Fetches what `reference` names. Relative paths start at `base`, the folder of the file that
/// holds the reference.
pub(crate) fn fetch(reference: &str, base: &Path, secret: bool) -> Result<Fetched, Failure> {
    if let Some(path) = reference.strip_prefix("file:") {
        let path = base.join(path);
        let Read { bytes, open_to } = read_bounded(&path)?;
        return Ok(Fetched { bytes, path: Some(path), open_to });
    }
    if let Some(name) = reference.strip_prefix("credential:") {
        // systemd puts LoadCredential= files into this folder.
        let folder = variable("CREDENTIALS_DIRECTORY").ok_or_else(|| {
            let fix = "start Moat by systemd with LoadCredential=, or use file:";
            (&UNREADABLE, "there is no credentials directory".to_owned(), fix.to_owned())
        })?;
        let path = Path::new(&folder).join(name);
        let Read { bytes, .. } = read_bounded(&path)?;
        // The folder is this service's alone, and the access list by which its user may read shows
        // as a right of the group.
        return Ok(Fetched { bytes, path: Some(path), open_to: 0 });
    }
    if let Some(name) = reference.strip_prefix("env:") {
        let value = variable(name).filter(|value| !value.is_empty()).ok_or_else(|| {
            let what = format!("the environment variable {name} is not set or empty");
            (&UNREADABLE, what, String::new())
        })?;
        return Ok(Fetched { bytes: Zeroizing::new(value.into_bytes()), path: None, open_to: 0 });
    }
    if secret || reference.contains("-----BEGIN") {
        let what = "this is no reference but, it seems, the secret itself".to_owned();
        return Err((&LITERAL_SECRET, what, String::new()));
    }
    let what = format!("`{reference}` is no reference");
    Err((&BAD_VALUE, what, format!("write `file:{reference}`")))
}

/// Reads a whole file of at most [`FILE_BYTES_MAX`] bytes; an empty one is an error.
pub(crate) fn read_bounded(path: &Path) -> Result<Read, Failure> {
    let unreadable =
        |e: std::io::Error| (&UNREADABLE, format!("{}: {e}", path.display()), String::new());
    let file = fs::File::open(path).map_err(unreadable)?;
    // Of the file that is read, whatever the path names a moment later.
    let metadata = file.metadata().map_err(unreadable)?;
    let open_to = metadata.permissions().mode() & 0o077;
    // Made as long as the file at once: a buffer that grows leaves what it held behind.
    let length = usize::try_from(metadata.len().min(FILE_BYTES_MAX)).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(length + 1));
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        let what = format!("{} is over {FILE_BYTES_MAX} bytes", path.display());
        return Err((&TOO_LARGE, what, String::new()));
    }
    if bytes.is_empty() {
        return Err((&BAD_VALUE, format!("{} is empty", path.display()), String::new()));
    }
    Ok(Read { bytes, open_to })
}

#[expect(clippy::disallowed_methods, reason = "the one place where references are resolved")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
