//! The keys of the log, kept beside it, never in it: the anchor key, and those it is signed with.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use moat_audit::anchor::AnchorKey;
use moat_audit::committer::{CommitError, Committer};
use moat_audit::fs::{LogFs, RealFs};
use moat_audit::record::Body;
use moat_audit::recovery::OpenError;
use moat_audit::store::read_file;
use moat_audit::tree::VKEY_FILE;
use moat_tlog::key::{Algorithm, KeyError, KeyName, VerifierKey};
use moat_tlog::secret::{SecretKey, TEXT_BYTES_MAX};
use moat_tlog::sign::{Ed25519Signer, Signer, Sm2Signer};
use moat_tlog::token::TokenKey;
use zeroize::Zeroizing;

use crate::hsm::{HsmLink, HsmSigner};

/// Name of the key that is made when none is named, in the folder `keys` of the log.
const MADE_KEY: &str = "log-ed25519.key";
/// Longest file of verifier keys, in bytes.
const VKEY_FILE_BYTES_MAX: usize = 64 * 1024;

/// Longest file of a key, in bytes; what is longer is none.
const KEY_FILE_BYTES_MAX: usize = 2 * TEXT_BYTES_MAX;

/// What the checkpoints are signed with.
#[derive(Clone)]
pub enum LogKeys {
    /// These private keys, in the text form of signed notes, or where they lie in a token.
    Given(Vec<Zeroizing<String>>),
    /// A key of the auditor's own in the folder of the log, made if it is not there.
    Make,
    /// None can be used, and why. Records are made all the same.
    Unusable(String),
}

/// A key that signs the log.
pub type LogSigner = Box<dyn Signer + Send>;

/// The signer of a private key in text form, whichever scheme it is of.
///
/// # Errors
/// When it is no key, or its id is not that of its public half.
pub fn log_signer(text: &str) -> Result<LogSigner, KeyError> {
    Ok(match SecretKey::parse(text)?.algorithm() {
        Algorithm::Ed25519 | Algorithm::CosignatureV1 => Box::new(Ed25519Signer::from_text(text)?),
        Algorithm::Sm2Sm3 => {
            Box::new(Sm2Signer::from_text(text, |bytes| fill_random(bytes).is_ok())?)
        }
    })
}

/// The keys as signers.
///
/// # Errors
/// Why there is none, for people.
pub(crate) fn signers(
    keys: &LogKeys,
    dir: &Path,
    origin: &str,
    hsm: &Arc<HsmLink>,
) -> Result<Vec<LogSigner>, String> {
    let texts = match keys {
        LogKeys::Given(texts) => texts.clone(),
        LogKeys::Make => vec![own_key(dir, origin).map_err(|error| error.to_string())?],
        LogKeys::Unusable(why) => return Err(why.clone()),
    };
    let signers = texts.iter().map(|text| {
        let signer: LogSigner = if TokenKey::is_meant(text) {
            let key = TokenKey::parse(text).map_err(|error| error.to_string())?;
            Box::new(HsmSigner::new(key, Arc::clone(hsm)))
        } else {
            log_signer(text).map_err(|error| error.to_string())?
        };
        let key = signer.key();
        // tlog-policy knows a log by the name of its key.
        if key.name().as_str() != origin {
            return Err(format!("the key is of the log {}, not of {origin}", key.name()));
        }
        if key.algorithm() == Algorithm::CosignatureV1 {
            return Err("the key is one of a witness".to_owned());
        }
        Ok(signer)
    });
    let signers: Vec<LogSigner> = signers.collect::<Result<_, String>>()?;
    if signers.is_empty() { Err("there is no key".to_owned()) } else { Ok(signers) }
}

/// The key in the log's own folder, made now if there is none.
fn own_key(dir: &Path, origin: &str) -> io::Result<Zeroizing<String>> {
    let path = dir.join("keys").join(MADE_KEY);
    match make_log_key(&path, origin, Algorithm::Ed25519) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let invalid = |text| io::Error::new(io::ErrorKind::InvalidData, text);
    let file = File::open(path)?;
    if file.metadata()?.mode() & 0o077 != 0 {
        return Err(invalid("the key of the log may be read by others than its owner"));
    }
    read_key(file)
}

/// Reads a private key in text form, or where one lies in a token, into memory that is wiped and of which no copy is left behind.
///
/// # Errors
/// What the system says.
pub fn read_key(file: impl io::Read) -> io::Result<Zeroizing<String>> {
    // Room for all that is read and more, so that the buffer never grows: what it grew out of would
    // not be wiped.
    let mut text = Zeroizing::new(String::with_capacity(2 * KEY_FILE_BYTES_MAX));
    let bytes_max = u64::try_from(KEY_FILE_BYTES_MAX).unwrap_or(u64::MAX);
    file.take(bytes_max.saturating_add(1)).read_to_string(&mut text)?;
    Ok(text)
}

/// Makes a key for the log or the witness `origin` in a new file, mode 0600, and gives the public half.
///
/// # Errors
/// When the origin is no name of a key, the file is there already (it is never overwritten), or the
/// system fails.
pub fn make_log_key(path: &Path, origin: &str, algorithm: Algorithm) -> io::Result<VerifierKey> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
    let name = KeyName::new(origin).map_err(invalid)?;
    let text = match algorithm {
        Algorithm::Sm2Sm3 => Sm2Signer::generate(name, |bytes| fill_random(bytes).is_ok()),
        Algorithm::Ed25519 | Algorithm::CosignatureV1 => {
            let mut seed = Zeroizing::new([0; 32]);
            fill_random(seed.as_mut_slice())?;
            Ed25519Signer::text_of(name, algorithm, seed)
        }
    };
    let text = text.map_err(invalid)?;
    if path.try_exists()? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // Under another name until it is whole: a part of a key would stand in the way of every later
    // start. One that an earlier try left there goes.
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    match std::fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(temporary)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n"));
    let named = written.and_then(|()| file.sync_all()).and_then(|()| name_new(temporary, path));
    if let Err(error) = named {
        let _: io::Result<()> = std::fs::remove_file(temporary);
        return Err(error);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(log_signer(&text).map_err(invalid)?.key().clone())
}

/// Gives a file its name, which nothing may have yet.
fn name_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // File systems that know no such rename: that there is none was seen a moment ago.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => std::fs::rename(from, to),
        renamed => Ok(renamed?),
    }
}

/// Puts a change of the signing keys on record before anything is signed by a new one, and notes
/// which they are.
pub(crate) fn record(
    committer: &mut Committer<RealFs>,
    fs: &RealFs,
    signers: &[LogSigner],
) -> Result<(), OpenError> {
    let now: Vec<String> = signers.iter().map(|signer| signer.key().to_string()).collect();
    let stored = read_file(fs, VKEY_FILE, VKEY_FILE_BYTES_MAX)?.unwrap_or_default();
    let stored = String::from_utf8_lossy(&stored).into_owned();
    let before: Vec<&str> = stored.lines().collect();
    if before == now {
        return Ok(());
    }
    let mut note = String::from("log keys changed:");
    for vkey in before.iter().filter(|vkey| !now.iter().any(|now| now == *vkey)) {
        let id =
            VerifierKey::parse(vkey).map_or_else(|_| "?".to_owned(), |key| key.id().to_string());
        note.push_str(&format!(" {id} ends;"));
    }
    for vkey in now.iter().filter(|now| !before.contains(&now.as_str())) {
        note.push_str(&format!(" {vkey} begins;"));
    }
    let body = Body::admin(note.trim_end_matches(';')).encode();
    let body = body.map_err(|source| CommitError::Body { index: 0, source })?;
    committer.commit(&[&body])?;
    LogFs::replace(fs, VKEY_FILE, format!("{}\n", now.join("\n")).as_bytes())?;
    Ok(())
}

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
    fn a_log_key_is_made_once_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.key");
        let key = make_log_key(&path, "bank.test/audit/1", Algorithm::Ed25519).unwrap();
        assert_eq!(key.name().as_str(), "bank.test/audit/1");
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("PRIVATE+KEY+bank.test/audit/1+"));
        let again = make_log_key(&path, "bank.test/audit/1", Algorithm::Ed25519).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "untouched");
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing else is left: {left:?}");
        // What a kill left of an earlier try does no harm.
        let (cut, next) = (dir.path().join("next.key.new"), dir.path().join("next.key"));
        std::fs::write(&cut, &text[..20]).unwrap();
        make_log_key(&next, "bank.test/audit/1", Algorithm::Ed25519).unwrap();
        assert!(log_signer(&std::fs::read_to_string(&next).unwrap()).is_ok() && !cut.exists());
        assert!(make_log_key(&dir.path().join("other"), "two words", Algorithm::Sm2Sm3).is_err());
        let given = LogKeys::Given(vec![Zeroizing::new(text)]);
        let signers_of = |origin| signers(&given, dir.path(), origin, &Arc::default());
        assert_eq!(signers_of("bank.test/audit/1").unwrap()[0].key(), &key);
        assert!(signers_of("bank.test/audit/2").err().unwrap().contains("not of"));
        let none = LogKeys::Given(Vec::new());
        assert!(signers(&none, dir.path(), "bank.test/audit/1", &Arc::default()).is_err());
    }

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
