//! The insider: he can write the log's folder and may hold the log's key. He rewrites one record
//! and recomputes every hash and checksum. What finds him, and what does not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use ed25519_dalek::{Signer as _, SigningKey};
use moat_audit::committer::{Committer, Options};
use moat_audit::fs::RealFs;
use moat_audit::hash::{leaf_hash, sha256};
use moat_audit::merkle::Frontier;
use moat_audit::prove::prove;
use moat_audit::record::{Body, decode_leaf, encode_leaf};
use moat_audit::segment::{Footer, decode_frame, decode_header, encode_frame};
use moat_audit::sidecar::HeadMark;
use moat_audit::store::Dir;
use moat_audit::tree::{Home, LogTree};
use moat_model::clock::Manual;
use moat_tlog::Sha256;
use moat_tlog::checkpoint::SignedCheckpoint;
use moat_tlog::cosignature::cosign;
use moat_tlog::key::{Algorithm, KeyName, VerifierKey};
use moat_tlog::sign::{CannotSign, Signer};
use moat_tlog::tile::put_entry;

#[path = "insider/verdicts.rs"]
mod verdicts;

const LOG: &str = "bank.test/audit/insider";
/// The record that is rewritten.
const K: u64 = 333;

struct Key {
    public: VerifierKey,
    secret: SigningKey,
}

impl Key {
    fn new(name: &str, algorithm: Algorithm, seed: u8) -> Key {
        let secret = SigningKey::from_bytes(&[seed; 32]);
        let public = secret.verifying_key().to_bytes();
        let name = KeyName::new(name).unwrap();
        Key { public: VerifierKey::new(name, algorithm, &public).unwrap(), secret }
    }

    fn log() -> Key {
        Key::new(LOG, Algorithm::Ed25519, 1)
    }

    fn witness() -> Key {
        Key::new("witness.test", Algorithm::CosignatureV1, 2)
    }
}

impl Signer for Key {
    fn key(&self) -> &VerifierKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CannotSign> {
        Ok(self.secret.sign(message).to_bytes().to_vec())
    }
}

/// A log of several segments, signed at 200 records and at its end; gives the first checkpoint.
fn log(dir: &Path) -> SignedCheckpoint {
    let mut log = begin(dir);
    let mut first = None;
    for n in 1..700 {
        if n == 200 {
            sign(dir, log.next_seq());
            first = SignedCheckpoint::parse(&std::fs::read(dir.join("checkpoint")).unwrap()).ok();
        }
        let body = Body::admin(format!("transfer {n}: 100.00")).encode().unwrap();
        log.commit(&[&body]).unwrap();
    }
    let records = log.close().unwrap();
    sign(dir, records);
    first.unwrap()
}

fn begin(dir: &Path) -> Committer<RealFs> {
    home(dir).begin::<Sha256>().unwrap();
    let options = Options { segment_bytes: 40_000, ..Options::new(LOG) };
    let clock = Arc::new(Manual::at(1_000, 1));
    Committer::open(RealFs::open(dir).unwrap(), clock, options).unwrap().0
}

/// What the auditor does behind the log.
fn sign(dir: &Path, records: u64) {
    sign_with(dir, records, &Key::log());
}

fn home(dir: &Path) -> Home<'static, RealFs> {
    Home::new(RealFs::open(dir).unwrap(), LOG)
}

fn sign_with(dir: &Path, records: u64, key: &dyn Signer) {
    let mut tree = LogTree::<_, Sha256>::open(home(dir), records, &|| true).unwrap();
    tree.read_to(records, &|| true).unwrap();
    tree.publish(&[key]).unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(path, to).unwrap();
        }
    }
}

/// Rewrites record `K` and, from there on, every hash of a leaf, a frame, a header, a footer and
/// the sidecar: all that a chain of plain hashes has.
fn rewrite(dir: &Path) {
    let mut segments: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|ext| ext == "seg"));
    segments.sort();
    let (mut chain, mut prev, mut prev_len) = ([0; 32], [0; 32], 0);
    let mut tree = Frontier::default();
    for path in segments {
        let old = std::fs::read(&path).unwrap();
        let (mut header, len) = decode_header(&old).unwrap();
        (header.prev_hash, header.prev_leaf_hash, header.prev_len) = (chain, prev, prev_len);
        header.frontier = tree.clone();
        let first_seq = header.first_seq;
        let mut new = header.encode().unwrap();
        chain = sha256(&new);
        let mut rest = &old[len..];
        while let Ok(frame) = decode_frame(rest) {
            let bytes = if frame.is_footer {
                let footer = Footer {
                    size: tree.size(),
                    count: tree.size() - first_seq,
                    last_leaf_hash: prev,
                    root_sha256: tree.root(),
                    root_sm3: None,
                };
                footer.encode(&chain).unwrap()
            } else {
                let mut payload = Vec::new();
                for bytes in frame.leaves() {
                    let mut leaf = decode_leaf(bytes).unwrap();
                    leaf.head.prev_hash = prev;
                    if leaf.head.seq == K {
                        leaf.body.note = leaf.body.note.replace("100.00", "1.00");
                    }
                    let bytes = encode_leaf(&leaf.head, &leaf.body.encode().unwrap()).unwrap();
                    prev = leaf_hash(&bytes);
                    tree.push(prev);
                    put_entry(&mut payload, &bytes).unwrap();
                }
                encode_frame(frame.seq_first, frame.count, &chain, &payload).unwrap()
            };
            chain = sha256(&bytes);
            new.extend_from_slice(&bytes);
            rest = &rest[frame.bytes.len()..];
        }
        prev_len = new.len() as u64;
        std::fs::write(path, new).unwrap();
    }
    let mark = HeadMark { number: 0, records: tree.size(), last_leaf_hash: prev };
    let head = [mark.encode().as_slice(), &[0; 512]].concat();
    std::fs::write(dir.join("head"), head).unwrap();
    assert!(moat_audit::verify::verify(dir).unwrap().is_whole(), "the plain chain sees nothing");
}

/// Makes the tree anew over what is there now, and signs it: with the log's key, which was stolen.
fn sign_anew(dir: &Path) {
    std::fs::remove_dir_all(dir.join("tile")).unwrap();
    std::fs::remove_file(dir.join("signed")).unwrap();
    std::fs::remove_file(dir.join("checkpoint")).unwrap();
    home(dir).note_nothing::<Sha256>().unwrap();
    sign(dir, moat_audit::verify::verify(dir).unwrap().records);
}

/// Exit code and report.
fn moat_verify(args: &[&str]) -> (i32, serde_json::Value) {
    let out =
        Command::new(env!("CARGO_BIN_EXE_moat-verify")).args(args).args(["-o", "json"]).output();
    let out = out.unwrap();
    let told = serde_json::from_slice(&out.stdout);
    let code = out.status.code().unwrap();
    (code, told.unwrap_or_else(|_| panic!("{code} {}", String::from_utf8_lossy(&out.stderr))))
}

/// Codes and records of the findings.
fn found(report: &serde_json::Value) -> Vec<(String, Option<u64>)> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings.map(|f| (f["code"].as_str().unwrap().to_owned(), f["seq"].as_u64())).collect()
}

struct Site {
    folder: tempfile::TempDir,
    files: BTreeMap<&'static str, String>,
}

impl Site {
    /// The log, a checkpoint that a witness cosigned and somebody kept, and policies.
    fn new() -> Site {
        let folder = tempfile::tempdir().unwrap();
        let mut site = Site { folder, files: BTreeMap::new() };
        site.path("log");
        let at_200 = log(Path::new(&site.files["log"]));
        let last = std::fs::read(Path::new(&site.files["log"]).join("checkpoint")).unwrap();
        let last = SignedCheckpoint::parse(&last).unwrap();
        let (log, witness) = (Key::log(), Key::witness());
        for (name, signed) in [("kept-200", at_200), ("kept-last", last)] {
            let line = cosign(signed.checkpoint(), &witness, 1_800_000_000).unwrap();
            let path = site.path(name);
            std::fs::write(path, signed.with(&[line]).unwrap().to_string()).unwrap();
        }
        let path = site.path("policy");
        let policy = moat_tlog::policy::Policy::k_of_n(&[log.public], &[witness.public], 1);
        std::fs::write(path, policy.unwrap().to_string()).unwrap();
        for name in ["copy", "rewritten"] {
            let path = site.path(name);
            copy(Path::new(&site.files["log"]), &path);
        }
        site
    }

    fn path(&mut self, name: &'static str) -> PathBuf {
        let path = self.folder.path().join(name);
        self.files.insert(name, path.display().to_string());
        path
    }

    fn of(&self, name: &str) -> &str {
        &self.files[name]
    }
}

#[test]
fn a_rewrite_passes_the_plain_chain_and_its_own_checkpoint_convicts_it() {
    let site = Site::new();
    let vkey = Key::log().public.to_string();
    let (code, report) = moat_verify(&["log", site.of("log"), "--key", &vkey]);
    assert_eq!((code, report["covered"].as_u64()), (0, report["records"].as_u64()), "{report}");
    rewrite(Path::new(site.of("rewritten")));
    // Tiles and checkpoint are still those that were signed: they name the very record.
    let (code, report) = moat_verify(&["log", site.of("rewritten"), "--key", &vkey]);
    assert_eq!(code, 3, "{report}");
    assert_eq!(found(&report), [("MOAT-A033".to_owned(), Some(K))], "{report}");
}

#[test]
fn whoever_stole_the_log_key_too_is_convicted_by_what_a_witness_saw() {
    let site = Site::new();
    let (dir, vkey) = (site.of("rewritten"), Key::log().public.to_string());
    rewrite(Path::new(dir));
    sign_anew(Path::new(dir));
    // The signature of the log alone proves nothing against whoever has its key.
    let (code, report) = moat_verify(&["log", dir, "--key", &vkey]);
    assert_eq!((code, found(&report)), (0, Vec::new()), "{report}");
    // The policy asks for a witness, and none saw this history.
    let policy = ["--policy", site.of("policy")];
    let (code, report) = moat_verify(&[&["log", dir][..], &policy].concat());
    assert_eq!((code, found(&report)), (3, vec![("MOAT-A035".to_owned(), None)]), "{report}");
    // Checkpoints that were kept say between which records it parts.
    let kept = ["--checkpoint", site.of("kept-200"), "--checkpoint", site.of("kept-last")];
    let (code, report) = moat_verify(&[&["log", dir][..], &policy, &kept].concat());
    assert_eq!(code, 3, "{report}");
    assert_eq!(found(&report), [("MOAT-A033".to_owned(), Some(200))], "{report}");
    assert_eq!(report["covered"], 200, "{report}");
    // A copy of the tiles names the record.
    let copy = Path::new(site.of("copy"));
    std::fs::copy(site.of("kept-last"), copy.join("checkpoint")).unwrap();
    let tiles = ["--tiles", site.of("copy")];
    let (code, report) = moat_verify(&[&["log", dir][..], &policy, &tiles].concat());
    assert_eq!(code, 3, "{report}");
    assert_eq!(found(&report), [("MOAT-A033".to_owned(), Some(K))], "{report}");
    // Tiles that do not lead to the root that was signed name nobody.
    let tile = copy.join("tile/0/001");
    let mut bytes = std::fs::read(&tile).unwrap();
    bytes[0] ^= 1;
    std::fs::write(tile, bytes).unwrap();
    let (code, report) = moat_verify(&[&["log", dir][..], &policy, &tiles, &kept].concat());
    assert_eq!(code, 3, "{report}");
    assert_eq!(found(&report), [("MOAT-A033".to_owned(), Some(200))], "{report}");
}

#[test]
fn a_log_that_was_cut_or_put_back_is_shorter_than_what_was_kept() {
    let site = Site::new();
    let old = site.folder.path().join("old");
    let mut log = begin(&old);
    for n in 1..300 {
        log.commit(&[&Body::admin(format!("transfer {n}: 100.00")).encode().unwrap()]).unwrap();
    }
    let records = log.next_seq();
    drop(log);
    sign(&old, records);
    let policy = ["--policy", site.of("policy")];
    let kept = ["--checkpoint", site.of("kept-200"), "--checkpoint", site.of("kept-last")];
    let args = [&["log", old.to_str().unwrap()][..], &policy, &kept].concat();
    let (code, report) = moat_verify(&args);
    assert_eq!(code, 3, "{report}");
    assert_eq!(found(&report), [("MOAT-A023".to_owned(), Some(records))], "{report}");
    assert_eq!(report["covered"], 200, "{report}");
}

#[test]
fn a_proof_convinces_whoever_has_the_record_and_the_key_and_nobody_of_another_record() {
    let site = Site::new();
    let proven = prove(&Dir::new(Path::new(site.of("log"))), K).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = site.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let proof = write("proof", proven.proof.to_string().as_bytes());
    let entry = write("entry", proven.entry.as_ref().unwrap());
    let other = write("other", &[proven.entry.as_deref().unwrap(), b"!"].concat());
    let vkey = Key::log().public.to_string();
    let stranger = Key::new(LOG, Algorithm::Ed25519, 9).public.to_string();
    for (entry, key, good) in
        [(&entry, &vkey, true), (&other, &vkey, false), (&entry, &stranger, false)]
    {
        let (code, told) = moat_verify(&["proof", &proof, "--entry", entry, "--key", key]);
        assert_eq!(
            (code, told["proven"].as_bool()),
            (if good { 0 } else { 3 }, Some(good)),
            "{told}"
        );
    }
    let policy = ["--policy", site.of("policy")];
    let (code, told) = moat_verify(&[&["proof", &proof, "--entry", &entry][..], &policy].concat());
    assert_eq!(code, 3, "no witness saw it: {told}");
}

/// What `moat audit export` writes, by its parts.
fn export(dir: &Path, out: &Path) {
    use moat_tlog::growth::bundles;
    copy(&dir.join("tile"), &out.join("tile"));
    std::fs::copy(dir.join("checkpoint"), out.join("checkpoint")).unwrap();
    let size = moat_audit::verify::verify(dir).unwrap().records;
    for bundle in bundles(0, size).unwrap() {
        let mut bytes = Vec::new();
        let range = bundle.tile().first_leaf()..bundle.tile().end_leaf();
        moat_audit::entries::each_leaf(&Dir::new(dir), range, |_, leaf| {
            put_entry(&mut bytes, leaf).unwrap();
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
        let path = out.join(bundle.path());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_copy_of_the_tree_without_segments_is_verified_alike() {
    let site = Site::new();
    let (vkey, out) = (Key::log().public.to_string(), site.folder.path().join("exported"));
    export(Path::new(site.of("log")), &out);
    let tree = out.to_str().unwrap();
    let (code, report) = moat_verify(&["log", tree, "--key", &vkey]);
    assert_eq!((code, report["records"].as_u64()), (0, Some(701)), "{report}");
    // The rewritten history in the bundles, under the tiles of the true one.
    rewrite(Path::new(site.of("rewritten")));
    let forged = site.folder.path().join("forged");
    export(Path::new(site.of("rewritten")), &forged);
    let (code, report) = moat_verify(&["log", forged.to_str().unwrap(), "--key", &vkey]);
    assert_eq!(code, 3, "{report}");
    assert_eq!(found(&report), [("MOAT-A033".to_owned(), Some(K))], "{report}");
    // A bundle that is gone, and one with a flipped bit.
    let bundle = out.join("tile/entries/001");
    let mut bytes = std::fs::read(&bundle).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&bundle, bytes).unwrap();
    let (code, report) = moat_verify(&["log", tree, "--key", &vkey]);
    assert_eq!(code, 3, "{report}");
    assert!(found(&report)[0].1.is_some_and(|seq| (256..512).contains(&seq)), "{report}");
    std::fs::remove_file(bundle).unwrap();
    let (code, report) = moat_verify(&["log", tree, "--key", &vkey]);
    // Gone, and no record says that they were to go.
    let gone = [("MOAT-A041".to_owned(), Some(256))];
    assert_eq!((code, found(&report)), (3, gone.to_vec()), "{report}");
}
