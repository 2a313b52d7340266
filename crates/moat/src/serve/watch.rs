//! Notices that a file of the configuration has changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// What tells one state of a file from the next. Links are followed, so a swapped link shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sign {
    modified_ns: i64,
    changed_ns: i64,
    inode: u64,
    length: u64,
}

/// Files and folders behind one configuration.
pub(crate) struct Watch {
    paths: Vec<(PathBuf, Option<Sign>)>,
    /// A change was seen, and may still be going on.
    is_moving: bool,
}

impl Watch {
    pub(crate) fn new(paths: Vec<PathBuf>) -> Watch {
        let paths = paths.into_iter().map(|path| {
            let sign = sign(&path);
            (path, sign)
        });
        // One look is made in any case: a file may have changed between being read and this.
        Watch { paths: paths.collect(), is_moving: true }
    }

    /// Takes everything as it is now: only what changes from here on counts.
    pub(crate) fn rest(&mut self) {
        for (path, known) in &mut self.paths {
            *known = sign(path);
        }
        self.is_moving = false;
    }

    /// Whether something has changed and has come to rest: `true` once, one look after the last
    /// change, so that a file is not read while it is being written.
    pub(crate) fn has_settled(&mut self) -> bool {
        let mut moved = false;
        for (path, known) in &mut self.paths {
            let now = sign(path);
            if now != *known {
                *known = now;
                moved = true;
            }
        }
        let settled = self.is_moving && !moved;
        self.is_moving = moved;
        settled
    }
}

fn sign(path: &PathBuf) -> Option<Sign> {
    let data = fs::metadata(path).ok()?;
    let nanoseconds = |seconds: i64, part: i64| seconds.wrapping_mul(1_000_000_000) + part;
    Some(Sign {
        modified_ns: nanoseconds(data.mtime(), data.mtime_nsec()),
        changed_ns: nanoseconds(data.ctime(), data.ctime_nsec()),
        inode: data.ino(),
        length: data.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_change_is_reported_once_and_only_when_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        fs::write(&file, "1").unwrap();
        let mut watch = Watch::new(vec![file.clone()]);
        assert!(watch.has_settled());
        assert!(!watch.has_settled());
        fs::write(&file, "22").unwrap();
        assert!(!watch.has_settled());
        fs::write(&file, "333").unwrap();
        assert!(!watch.has_settled());
        assert!(watch.has_settled());
        assert!(!watch.has_settled());
    }

    #[test]
    fn a_swapped_link_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["one", "two"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("tls.pem"), "x").unwrap();
        }
        let data = dir.path().join("..data");
        symlink("one", &data).unwrap();
        let mut watch = Watch::new(vec![data.join("tls.pem")]);
        assert!(watch.has_settled());
        symlink("two", dir.path().join("..new")).unwrap();
        fs::rename(dir.path().join("..new"), &data).unwrap();
        assert!(!watch.has_settled());
        assert!(watch.has_settled());
    }
}
