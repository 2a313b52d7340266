//! What is kept of signed policy bundles beside the log: the highest version that was ever in force,
//! and the last bundle that was. So no version comes back, and a bundle that is no good leaves the
//! last good one in force, over a restart too.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use moat_audit::record::Kind;
use moat_config::Hot;
use moat_policy::BundleFile;
use moat_policy::signed::{Floor, Manifest, digest_of};

/// Folder beside that of the log.
const FOLDER: &str = "policy-state";
const HIGHEST: &str = "highest.json";
const LAST_GOOD: &str = "last-good";

type Files = Vec<(String, Vec<u8>)>;

/// See the module.
pub(super) struct PolicyStore {
    dir: PathBuf,
    log: PathBuf,
}

/// A signed bundle that is offered to the gateway: kept once it is in force.
pub(super) struct Offered {
    scope: String,
    floor: Floor,
    files: Files,
}

impl PolicyStore {
    pub(super) fn new(log: &Path) -> PolicyStore {
        PolicyStore { dir: log.parent().unwrap_or(log).join(FOLDER), log: log.to_path_buf() }
    }

    /// Tells the generation which version was the highest, and gives what to keep of its bundle.
    /// Nothing where bundles are not signed.
    ///
    /// # Errors
    /// What is kept cannot be read: then it is not known what may not come back.
    pub(super) fn prepare(&self, hot: &mut Hot) -> Result<Option<Offered>> {
        let Some(signed) = &mut hot.policy_signed else { return Ok(None) };
        let scope = format!("{}/{}", signed.tenant, signed.name);
        let floor = self.floor(&scope)?;
        signed.floor = floor.map(|floor| (floor.version.to_string(), floor.digest));
        Ok(offered(&scope, &hot.policy))
    }

    /// The bundle that was in force last, in place of the generation's own.
    pub(super) fn fall_back(&self, hot: &mut Hot) -> Result<Option<Offered>> {
        let Some(signed) = &hot.policy_signed else { return Ok(None) };
        let scope = format!("{}/{}", signed.tenant, signed.name);
        let path = self.dir.join(LAST_GOOD);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        let files: Files =
            postcard::from_bytes(&bytes).with_context(|| path.display().to_string())?;
        // Its signatures, scope and version are judged like those of any other.
        let offered = offered(&scope, &files);
        hot.policy = files;
        Ok(offered)
    }

    /// Keeps a bundle that came into force.
    pub(super) fn keep(&self, offered: &Offered) -> Result<()> {
        let mut highest = self.highest()?.unwrap_or_default();
        let known = highest.get(&offered.scope);
        let is_higher = known.is_none_or(|known| offered.floor.version > known.version);
        if is_higher {
            highest.insert(offered.scope.clone(), offered.floor.clone());
            self.write(HIGHEST, &serde_json::to_vec_pretty(&highest)?)?;
        }
        self.write(LAST_GOOD, &postcard::to_stdvec(&offered.files)?)
    }

    /// From the file, or where that is gone from the log: removing the file does not help.
    fn floor(&self, scope: &str) -> Result<Option<Floor>> {
        match self.highest()? {
            Some(highest) => Ok(highest.get(scope).cloned()),
            None => Ok(self.floor_in_log(scope)),
        }
    }

    fn highest(&self) -> Result<Option<BTreeMap<String, Floor>>> {
        let path = self.dir.join(HIGHEST);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let highest = serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?;
        Ok(Some(highest))
    }

    fn floor_in_log(&self, scope: &str) -> Option<Floor> {
        let leaves = moat_audit::search::leaves(&self.log).ok()?;
        let bodies = leaves.filter_map(Result::ok).map(|found| found.leaf.body);
        let admin = bodies.filter(|body| body.kind == Kind::Admin && body.code.is_empty());
        admin.filter_map(|body| named(&body.note, scope)).max_by(|a, b| a.version.cmp(&b.version))
    }

    /// Writes a file whole or not at all.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let (path, fresh) = (self.dir.join(name), self.dir.join(format!("{name}.new")));
        let written = || -> std::io::Result<()> {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
            let mut options = fs::File::options();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            fs::File::open(&self.dir)?.sync_all()
        };
        written().with_context(|| path.display().to_string())
    }
}

fn offered(scope: &str, files: &Files) -> Option<Offered> {
    let bundle: Vec<BundleFile> = files
        .iter()
        .map(|(path, bytes)| BundleFile { path: path.clone(), bytes: bytes.clone() })
        .collect();
    // Without a manifest the gateway will not take it.
    let version = Manifest::of(&bundle).ok()?.version;
    let floor = Floor { version, digest: digest_of(&bundle) };
    Some(Offered { scope: scope.to_owned(), floor, files: files.clone() })
}

/// What a note of the gateway says of a bundle that came into force: `… policy=scope@version#digest …`.
fn named(note: &str, scope: &str) -> Option<Floor> {
    if !(note.starts_with("gateway start ") || note.ends_with(" taken")) {
        return None;
    }
    let name = note.split(' ').find_map(|part| part.strip_prefix("policy="))?;
    let (version, digest) = name.strip_prefix(scope)?.strip_prefix('@')?.split_once('#')?;
    Some(Floor { version: version.parse().ok()?, digest: digest.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_of_what_was_in_force_are_found_and_others_are_not() {
        let good = "reload generation=2 digest=d policy=a/b@1.2.3#sha256:x by=watch taken";
        assert_eq!(named(good, "a/b").unwrap().version.to_string(), "1.2.3");
        let start = "gateway start generation=1 digest=d policy=a/b@1.0.0#sha256:x";
        assert_eq!(named(start, "a/b").unwrap().digest, "sha256:x");
        for other in [
            good.replace("taken", "refused"),
            good.replace("a/b", "a/c"),
            good.replace("a/b@", "a/bc@"),
            good.replace("1.2.3", "x"),
            format!("something else {start}"),
        ] {
            assert_eq!(named(&other, "a/b"), None, "{other}");
        }
    }

    #[test]
    fn the_highest_stays_though_an_older_one_is_kept_later() {
        let dir = tempfile::tempdir().unwrap();
        let store = PolicyStore::new(&dir.path().join("audit"));
        let of = |version: &str| Offered {
            scope: "a/b".to_owned(),
            floor: Floor { version: version.parse().unwrap(), digest: "d".to_owned() },
            files: vec![(version.to_owned(), Vec::new())],
        };
        for version in ["1.0.0", "2.0.0", "1.5.0"] {
            store.keep(&of(version)).unwrap();
        }
        assert_eq!(store.floor("a/b").unwrap().unwrap().version.to_string(), "2.0.0");
        assert_eq!(store.floor("a/c").unwrap(), None);
        fs::write(store.dir.join(HIGHEST), "{").unwrap();
        assert!(store.floor("a/b").is_err(), "what cannot be read is not nothing");
    }
}
