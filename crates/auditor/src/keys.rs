//! The anchor key: made once, kept beside the log, never in it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use moat_audit::anchor::AnchorKey;
use zeroize::Zeroizing;

/// The latest anchor key of the log in `dir`, made now if there is none.
///
/// It lies in `keys/anchor-<id>.key`, 32 bytes, readable by its owner only. Ids sort by the time
/// at which they were made.
///
/// # Errors
/// When the directory cannot be used, or a key file is readable by others or of another length.
pub fn anchor_key(dir: &Path, wall_ns: u64) -> io::Result<AnchorKey> {
    let keys = dir.join("keys");
    match DirBuilder::new().mode(0o700).create(&keys) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    match latest(&keys)? {
        Some(id) => read(&keys, &id),
        None => make(&keys, wall_ns).and_then(|id| {
            File::open(dir)?.sync_all()?;
            read(&keys, &id)
        }),
    }
}

fn latest(keys: &Path) -> io::Result<Option<String>> {
    let mut latest = None;
    for entry in std::fs::read_dir(keys)? {
        let name = entry?.file_name();
        let id = name
            .to_str()
            .and_then(|name| name.strip_prefix("anchor-")?.strip_suffix(".key"))
            .map(str::to_owned);
        latest = latest.max(id);
    }
    Ok(latest)
}

fn make(keys: &Path, wall_ns: u64) -> io::Result<String> {
    let mut key = Zeroizing::new([0; 32]);
    fill_random(key.as_mut_slice())?;
    let mut tag = [0; 4];
    fill_random(&mut tag)?;
    let id = format!("{:09x}-{}", wall_ns / 1_000_000_000, data_encoding::HEXLOWER.encode(&tag));
    let (temporary, path) = (keys.join("new"), keys.join(format!("anchor-{id}.key")));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(key.as_slice())?;
    file.sync_all()?;
    std::fs::rename(&temporary, &path)?;
    File::open(keys)?.sync_all()?;
    Ok(id)
}

fn read(keys: &Path, id: &str) -> io::Result<AnchorKey> {
    let invalid = |text| io::Error::new(io::ErrorKind::InvalidData, text);
    let mut file = File::open(keys.join(format!("anchor-{id}.key")))?;
    let metadata = file.metadata()?;
    if metadata.mode() & 0o077 != 0 {
        return Err(invalid("the anchor key may be read by others than its owner"));
    }
    if metadata.len() != 32 {
        return Err(invalid("the anchor key is not 32 bytes long"));
    }
    let mut key = Zeroizing::new([0; 32]);
    file.read_exact(key.as_mut_slice())?;
    AnchorKey::new(id, key).ok_or_else(|| invalid("the anchor key has no good id"))
}

fn fill_random(mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let flags = rustix::rand::GetRandomFlags::empty();
        let filled = rustix::io::retry_on_intr(|| rustix::rand::getrandom(&mut *bytes, flags))?;
        bytes = bytes.get_mut(filled..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_is_made_once_and_kept_from_others() {
        let dir = tempfile::tempdir().unwrap();
        let made = anchor_key(dir.path(), 1_795_392_000_000_000_000).unwrap();
        let again = anchor_key(dir.path(), 1_895_392_000_000_000_000).unwrap();
        assert_eq!(made.id(), again.id());
        assert_eq!(made.secret(), again.secret());
        assert_ne!(made.secret(), &[0; 32]);
        let path = dir.path().join(format!("keys/anchor-{}.key", made.id()));
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(anchor_key(dir.path(), 1).is_err());
    }
}
