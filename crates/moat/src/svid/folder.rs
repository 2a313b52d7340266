//! The folder of what was fetched: each identity in a folder of its own, and a link to the last. So
//! certificate, key and bundle change as one.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result};
use moat_rpc::workload::Svid;
use moat_sm::pem;

/// The link to the last.
const CURRENT: &str = "current";
/// How many folders stay: a reader may be in the one before.
const KEPT: usize = 3;

/// Writes an identity and makes it the current one.
pub(super) fn put(dir: &Path, svid: &Svid) -> Result<()> {
    let told = || dir.display().to_string();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(told)?;
    let number = numbers(dir)?.last().map_or(1, |last| last + 1);
    let name = format!("{number:012}");
    let folder = dir.join(&name);
    fs::DirBuilder::new().mode(0o700).create(&folder).with_context(told)?;
    let certificates = |list: &[Vec<u8>]| -> String {
        list.iter().map(|der| pem::encode("CERTIFICATE", der).to_string()).collect()
    };
    write(&folder.join("svid.pem"), certificates(&svid.chain).as_bytes(), 0o644)?;
    write(&folder.join("bundle.pem"), certificates(&svid.bundle).as_bytes(), 0o644)?;
    write(&folder.join("svid.key"), pem::encode(pem::PRIVATE_KEY, &svid.key).as_bytes(), 0o600)?;
    let fresh = dir.join("current.new");
    // One that was left behind by a process that ended in between.
    let _ = fs::remove_file(&fresh);
    symlink(&name, &fresh).with_context(told)?;
    fs::rename(&fresh, dir.join(CURRENT)).with_context(told)?;
    forget(dir)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let told = || path.display().to_string();
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(path).with_context(told)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(told)
}

/// Numbers of the folders, in order.
fn numbers(dir: &Path) -> Result<Vec<u64>> {
    let entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_ours = |name: &String| name.len() == 12 && name.bytes().all(|b| b.is_ascii_digit());
    let mut numbers: Vec<u64> =
        names.filter(is_ours).filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn forget(dir: &Path) -> Result<()> {
    let numbers = numbers(dir)?;
    for number in numbers.iter().take(numbers.len().saturating_sub(KEPT)) {
        let old = dir.join(format!("{number:012}"));
        fs::remove_dir_all(&old).with_context(|| old.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_last_is_current_and_few_before_it_stay() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("svid");
        for key in 1..=5 {
            let svid = Svid {
                spiffe_id: "spiffe://bank.test/a".to_owned(),
                chain: vec![vec![0x30, 1, key], vec![0x30, 0]],
                key: vec![key],
                bundle: vec![vec![0x30, 0]],
            };
            put(&dir, &svid).unwrap();
            let text = fs::read_to_string(dir.join("current/svid.key")).unwrap();
            assert_eq!(*pem::decode(pem::PRIVATE_KEY, &text).unwrap(), [key]);
            let chain = fs::read_to_string(dir.join("current/svid.pem")).unwrap();
            assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
        }
        assert_eq!(numbers(&dir).unwrap(), [3, 4, 5]);
        let key = fs::metadata(dir.join("current/svid.key")).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
