//! Whatever is done to a log, `moat audit verify` says so and names the place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use moat_audit::committer::{Committer, Options};
use moat_audit::fs::RealFs;
use moat_audit::record::Body;

use crate::support::moat;

/// A log of several sealed segments.
fn log(dir: &Path) -> Vec<PathBuf> {
    let clock = Arc::new(moat_model::clock::System::new());
    let mut options = Options::new("bank.test/audit/tampering");
    options.segment_bytes = 16 * 1024;
    let (mut committer, _) = Committer::open(RealFs::open(dir).unwrap(), clock, options).unwrap();
    for number in 0..150 {
        let text = format!("entry {number} {}", "x".repeat(300));
        committer.commit(&[&Body::admin(&text).encode().unwrap()]).unwrap();
    }
    committer.close().unwrap();
    segments(dir)
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "seg" || ext == "moat"))
        .collect();
    found.sort();
    found
}

/// Exit code and report of `moat audit verify`.
fn verify(dir: &Path) -> (i32, serde_json::Value) {
    let (code, out, err) = moat(&["audit", "verify", "--dir", dir.to_str().unwrap(), "-o", "json"]);
    (code, serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}")))
}

/// Copies the log, changes the copy, and expects to be told.
fn is_found(whole: &Path, name: &str, change: impl FnOnce(&[PathBuf])) {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(whole).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    change(&segments(copy.path()));
    let (code, report) = verify(copy.path());
    assert_eq!(code, 3, "{name}: {report}");
    let finding = &report["findings"][0];
    assert!(
        finding["code"].as_str().is_some_and(|c| c.starts_with("MOAT-A02")),
        "{name}: {report}"
    );
    assert!(finding["segment"].is_string(), "{name}: {finding}");
    assert!(finding["offset"].is_u64(), "{name}: {finding}");
    let (code, text, _) = moat(&["audit", "verify", "--dir", copy.path().to_str().unwrap()]);
    assert_eq!(code, 3);
    assert!(text.contains("FOUND") && text.contains("TAMPERED"), "{name}: {text}");
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn every_kind_of_tampering_is_found_and_its_place_named() {
    let dir = tempfile::tempdir().unwrap();
    let segments = log(dir.path());
    assert!(segments.len() >= 4, "{segments:?}");
    let (code, report) = verify(dir.path());
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["whole"], true);
    let length = std::fs::metadata(&segments[1]).unwrap().len();
    let length = usize::try_from(length).unwrap();
    for offset in [0, 9, 40, 200, 300, 700, length / 2, length - 2_000] {
        is_found(dir.path(), &format!("bit at {offset}"), |s| flip(&s[1], offset));
    }
    is_found(dir.path(), "first segment flipped", |s| flip(&s[0], 500));
    is_found(dir.path(), "truncated", |s| {
        let bytes = std::fs::read(&s[1]).unwrap();
        std::fs::write(&s[1], &bytes[..bytes.len() / 2]).unwrap();
    });
    is_found(dir.path(), "emptied", |s| std::fs::write(&s[2], "").unwrap());
    is_found(dir.path(), "exchanged", |s| {
        let (one, two) = (std::fs::read(&s[1]).unwrap(), std::fs::read(&s[2]).unwrap());
        std::fs::write(&s[1], two).unwrap();
        std::fs::write(&s[2], one).unwrap();
    });
    is_found(dir.path(), "one in the place of another", |s| {
        std::fs::copy(&s[1], &s[2]).unwrap();
    });
    is_found(dir.path(), "missing in the middle", |s| std::fs::remove_file(&s[1]).unwrap());
    is_found(dir.path(), "missing at the start", |s| std::fs::remove_file(&s[0]).unwrap());
    is_found(dir.path(), "missing at the end", |s| {
        std::fs::remove_file(s.last().unwrap()).unwrap();
    });
}
