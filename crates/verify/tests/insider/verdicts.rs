//! What is called whole, what is called signed, and which record is named.

use moat_audit::evidence::{Against, Kept};
use moat_tlog::sign::Sm2Signer;

use super::*;

fn key() -> String {
    Key::log().public.to_string()
}

fn verify(args: &[&str]) -> (i32, Vec<(String, Option<u64>)>, serde_json::Value) {
    let vkey = key();
    let (code, report) = moat_verify(&[&["log"][..], args, &["--key", &vkey]].concat());
    (code, found(&report), report)
}

fn one(code: &str, seq: impl Into<Option<u64>>) -> Vec<(String, Option<u64>)> {
    vec![(code.to_owned(), seq.into())]
}

#[test]
fn a_tail_under_an_older_checkpoint_is_not_called_good() {
    let site = Site::new();
    // The checkpoint of 200, with which somebody covers what he did after it.
    let dir = Path::new(site.of("rewritten"));
    std::fs::copy(site.of("kept-200"), dir.join("checkpoint")).unwrap();
    std::fs::remove_file(dir.join("signed")).unwrap();
    let (code, found, report) = verify(&[site.of("rewritten")]);
    assert_eq!((code, found), (3, Vec::new()), "{report}");
    assert_eq!((&report["whole"], &report["good"]), (&true.into(), &false.into()));
    assert_eq!(
        (report["unsigned"].as_u64(), report["unsigned_max"].as_u64()),
        (Some(501), Some(0))
    );
    let (code, ..) = verify(&[site.of("rewritten"), "--unsigned-max", "501"]);
    assert_eq!(code, 0);
    let (code, ..) = verify(&[site.of("rewritten"), "--unsigned-max", "500"]);
    assert_eq!(code, 3);
    let out = Command::new(env!("CARGO_BIN_EXE_moat-verify"));
    let out = { out }.args(["log", site.of("rewritten"), "--key", &key()]).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.contains("integrity    whole"), "{text}");
    assert!(text.contains("UNSIGNED TAIL: MOAT-A040 501 records"), "{text}");
    // A log that was not stopped runs, or was killed: the last second of it may be unsigned.
    let live = site.folder.path().join("live");
    let mut log = begin(&live);
    sign(&live, log.next_seq());
    let body = Body::admin("after the checkpoint").encode().unwrap();
    log.commit(&[&body]).unwrap();
    let (code, _, report) = verify(&[live.to_str().unwrap()]);
    assert_eq!((code, report["unsigned"].as_u64()), (0, Some(1)), "{report}");
    for _ in 0..3 {
        log.commit(&vec![body.as_slice(); 4_000]).unwrap();
    }
    let (code, _, report) = verify(&[live.to_str().unwrap()]);
    assert_eq!((code, report["unsigned"].as_u64()), (3, Some(12_001)), "{report}");
}

#[test]
fn what_the_auditor_was_about_to_sign_convicts_too() {
    let site = Site::new();
    let dir = Path::new(site.of("rewritten"));
    rewrite(dir);
    std::fs::copy(site.of("kept-200"), dir.join("checkpoint")).unwrap();
    let (code, found, report) = verify(&[site.of("rewritten"), "--unsigned-max", "1000"]);
    assert_eq!((code, found), (3, one("MOAT-A033", 200)), "{report}");
    // And so does the number of records that it noted.
    let noted = std::fs::read_to_string(dir.join("signed")).unwrap();
    std::fs::write(dir.join("signed"), noted.replace("\n701\n", "\n702\n")).unwrap();
    let (code, found, report) = verify(&[site.of("rewritten"), "--unsigned-max", "1000"]);
    assert_eq!((code, found), (3, one("MOAT-A023", 701)), "{report}");
}

#[test]
fn a_log_that_was_deleted_is_not_called_good() {
    let site = Site::new();
    let empty = site.folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let (code, found, report) = verify(&[empty.to_str().unwrap()]);
    assert_eq!((code, found), (3, one("MOAT-A035", None)), "{report}");
    let (code, found, report) =
        verify(&[empty.to_str().unwrap(), "--checkpoint", site.of("kept-last")]);
    assert_eq!((code, found), (3, one("MOAT-A023", 0)), "{report}");
}

#[test]
fn every_checkpoint_counts_however_many_there_are() {
    let site = Site::new();
    rewrite(Path::new(site.of("rewritten")));
    sign_anew(Path::new(site.of("rewritten")));
    let kept =
        |name: &str| Kept { name: name.to_owned(), bytes: std::fs::read(site.of(name)).unwrap() };
    let mut against = Against { kept: vec![kept("kept-200"); 1_000], ..Against::default() };
    let store = Dir::new(Path::new(site.of("rewritten")));
    let verify = |against: &Against<'_>| {
        moat_audit::evidence::verify_evidence(&store, against, &moat_verify::Arithmetic).unwrap()
    };
    assert!(verify(&against).is_good());
    against.kept.push(kept("kept-last"));
    assert_eq!(verify(&against).report.findings.kept()[0].code.id, "MOAT-A033");
}

#[test]
fn two_histories_under_one_key_are_told_and_the_forged_one_proves_nothing() {
    let site = Site::new();
    let dir = Path::new(site.of("rewritten"));
    rewrite(dir);
    sign_anew(dir);
    // The same size, so that both cannot be true; what is common is what was kept and fits.
    let kept = ["--checkpoint", site.of("kept-last")];
    let (code, found, report) = verify(&[&[site.of("rewritten")][..], &kept].concat());
    let fork = |seq| vec![("MOAT-A033".to_owned(), Some(seq)), ("MOAT-A025".to_owned(), None)];
    assert_eq!((code, found), (3, fork(0)), "{report}");
    assert_eq!(report["covered"], 0, "{report}");
    // The forged side has grown: its own checkpoint still proves nothing of what is common.
    let mut log = begin(dir);
    log.commit(&[&Body::admin("more").encode().unwrap()]).unwrap();
    let records = log.close().unwrap();
    sign(dir, records);
    let kept = [&kept[..], &["--checkpoint", site.of("kept-200")]].concat();
    let (code, found, report) = verify(&[&[site.of("rewritten")][..], &kept].concat());
    assert_eq!((code, found), (3, fork(200)), "{report}");
    assert_eq!(report["covered"], 200, "{report}");
    // The true side has more records than the forged one: cut or forked, its own word is not asked.
    let (dir, true_side) = (Path::new(site.of("log")), records);
    let mut log = begin(dir);
    for _ in 0..9 {
        log.commit(&[&Body::admin("more").encode().unwrap()]).unwrap();
    }
    let records = log.close().unwrap();
    assert!(records > true_side);
    sign(dir, records);
    let longer = dir.join("checkpoint").display().to_string();
    let kept = ["--checkpoint", &longer, "--checkpoint", site.of("kept-200")];
    let (code, found, report) = verify(&[&[site.of("rewritten")][..], &kept].concat());
    assert_eq!((code, found), (3, one("MOAT-A023", true_side)), "{report}");
    assert_eq!(report["covered"], 200, "{report}");
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut segments: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|ext| ext == "seg"));
    segments.sort();
    segments
}

/// Rewrites record `K` in its segment alone: the frame's checksum, and with `and_footer` all that
/// follows in the segment.
fn rewrite_in_the_middle(dir: &Path, and_footer: bool) {
    let segments = segments(dir);
    let first = |path: &PathBuf| decode_header(&std::fs::read(path).unwrap()).unwrap().0.first_seq;
    let at = segments.iter().rposition(|path| first(path) <= K).unwrap();
    assert!(at > 0 && at + 1 < segments.len(), "a middle one of {}", segments.len());
    let old = std::fs::read(&segments[at]).unwrap();
    let (header, len) = decode_header(&old).unwrap();
    let (mut new, mut rest) = (old[..len].to_vec(), &old[len..]);
    let (mut chain, mut prev) = (sha256(&new), header.prev_leaf_hash);
    let mut tree = header.frontier.clone();
    while let Ok(frame) = decode_frame(rest) {
        let bytes = if frame.is_footer && and_footer {
            let footer = Footer {
                size: tree.size(),
                count: tree.size() - header.first_seq,
                last_leaf_hash: prev,
                root_sha256: tree.root(),
                root_sm3: None,
            };
            footer.encode(&chain).unwrap()
        } else if frame.is_footer {
            frame.bytes.to_vec()
        } else {
            let mut payload = Vec::new();
            for bytes in frame.leaves() {
                let mut leaf = decode_leaf(bytes).unwrap();
                if and_footer {
                    leaf.head.prev_hash = prev;
                }
                if leaf.head.seq == K {
                    leaf.body.note = leaf.body.note.replace("100.00", "1.00");
                }
                let bytes = encode_leaf(&leaf.head, &leaf.body.encode().unwrap()).unwrap();
                prev = leaf_hash(&bytes);
                tree.push(prev);
                put_entry(&mut payload, &bytes).unwrap();
            }
            let before = if and_footer { chain } else { frame.prev_frame_hash };
            encode_frame(frame.seq_first, frame.count, &before, &payload).unwrap()
        };
        chain = sha256(&bytes);
        new.extend_from_slice(&bytes);
        rest = &rest[frame.bytes.len()..];
    }
    std::fs::write(&segments[at], new).unwrap();
}

#[test]
fn a_rewrite_within_a_middle_segment_is_named_first_and_no_tile_is_blamed() {
    for and_footer in [false, true] {
        let site = Site::new();
        rewrite_in_the_middle(Path::new(site.of("rewritten")), and_footer);
        let (code, found, report) = verify(&[site.of("rewritten")]);
        assert_eq!((code, &found[0]), (3, &one("MOAT-A033", K)[0]), "{report}");
        assert!(found.iter().any(|(code, _)| code == "MOAT-A021"), "{report}");
        assert!(!found.iter().any(|(code, _)| code == "MOAT-A034"), "{report}");
        assert_eq!(report["covered"], 0, "{report}");
        let kept = ["--checkpoint", site.of("kept-200"), "--tiles", site.of("copy")];
        let (code, found, report) = verify(&[&[site.of("rewritten")][..], &kept].concat());
        assert_eq!((code, &found[0]), (3, &one("MOAT-A033", K)[0]), "{report}");
        assert_eq!(report["covered"], 200, "{report}");
    }
}

#[test]
fn records_that_are_missing_are_not_covered() {
    let site = Site::new();
    let dir = Path::new(site.of("rewritten"));
    let segments = segments(dir);
    let middle = segments.len() / 2;
    let bytes = std::fs::read(&segments[middle]).unwrap();
    let gap = decode_header(&bytes).unwrap().0.first_seq;
    std::fs::remove_file(&segments[middle]).unwrap();
    let kept = ["--checkpoint", site.of("kept-200")];
    let (code, found, report) = verify(&[&[site.of("rewritten")][..], &kept].concat());
    assert_eq!((code, &found[0]), (3, &one("MOAT-A022", gap)[0]), "{report}");
    assert!(gap > 200 && report["covered"] == 200, "{gap} {report}");
    assert!(!found.iter().any(|(code, _)| code == "MOAT-A034"), "{report}");
}

#[test]
fn a_tile_that_is_too_long_and_one_that_is_no_file_are_seen() {
    let site = Site::new();
    let tile = Path::new(site.of("rewritten")).join("tile/0/000");
    let mut bytes = std::fs::read(&tile).unwrap();
    bytes.extend_from_slice(b"8 bytes!");
    std::fs::write(&tile, bytes).unwrap();
    let (code, found, report) = verify(&[site.of("rewritten")]);
    assert_eq!((code, found), (3, one("MOAT-A034", 0)), "{report}");
    for name in ["checkpoint", "SEGMENT", "tile/0/001"] {
        let site = Site::new();
        let mut path = Path::new(site.of("copy")).join(name);
        if name == "SEGMENT" {
            path = segments(Path::new(site.of("copy"))).remove(1);
        }
        let _ = std::fs::remove_file(&path);
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let mut verify = Command::new(env!("CARGO_BIN_EXE_moat-verify"));
        let mut running = verify.args(["log", site.of("copy"), "--key", &key()]).spawn().unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let status = loop {
            if let Some(status) = running.try_wait().unwrap() {
                break status;
            }
            if std::time::Instant::now() > until {
                running.kill().unwrap();
                panic!("it waits for {name}");
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        };
        assert!([1, 3].contains(&status.code().unwrap()), "{name}: {status}");
    }
}

#[test]
fn a_log_signed_by_sm2_is_verified_and_the_origin_may_be_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("log");
    // As good as any other number, for a test.
    let entropy = |bytes: &mut [u8]| {
        bytes.fill(7);
        true
    };
    let text = Sm2Signer::generate(KeyName::new(LOG).unwrap(), entropy).unwrap();
    let signer = Sm2Signer::from_text(&text, entropy).unwrap();
    let mut log = begin(&dir);
    log.commit(&[&Body::admin("one").encode().unwrap()]).unwrap();
    let records = log.close().unwrap();
    sign_with(&dir, records, &signer);
    let (dir, vkey) = (dir.to_str().unwrap(), signer.key().to_string());
    let (code, report) = moat_verify(&["log", dir, "--key", &vkey]);
    assert_eq!((code, report["covered"].as_u64()), (0, Some(records)), "{report}");
    let (code, report) = moat_verify(&["log", dir, "--key", &key()]);
    assert_eq!(code, 3, "{report}");
    let asked = |origin| moat_verify(&["log", dir, "--key", &vkey, "--origin", origin]);
    assert_eq!(asked(LOG).0, 0);
    let (code, report) = asked("bank.test/audit/another");
    assert_eq!((code, found(&report)), (3, one("MOAT-A024", None)), "{report}");
}
