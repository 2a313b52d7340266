//! A mirror follows its log, refuses another history, and gives back what rotted.

use std::sync::Arc;

use moat_model::clock::Manual;
use moat_tlog::key::{Algorithm, KeyName, VerifierKey};
use moat_tlog::sign::{CannotSign, Signer, Sm};

use super::*;
use crate::committer::{Committer, Options};
use crate::evidence::{Against, verify_evidence};
use crate::keep::{old_segments, seal};
use crate::record::Body;
use crate::sim::SimFs;
use crate::tree::{Home, LogTree};

const LOG: &str = "log.test/1";

struct Toy(VerifierKey);

impl Signer for Toy {
    fn key(&self) -> &VerifierKey {
        &self.0
    }

    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, CannotSign> {
        Ok(vec![7; 64])
    }
}

/// Appends records and signs them.
fn append(fs: &SimFs, count: u32, word: &str) -> Head {
    let home = Home::new(fs.clone(), LOG);
    home.begin::<Sha256>().unwrap();
    let options = Options { segment_bytes: 9_000, ..Options::new(LOG) };
    let clock = Arc::new(Manual::at(1_000, 1));
    let (mut log, _) = Committer::open(fs.clone(), clock, options).unwrap();
    for n in 0..count {
        log.commit(&[&Body::admin(format!("{word} {n}")).encode().unwrap()]).unwrap();
    }
    let records = log.close().unwrap();
    let key = VerifierKey::new(KeyName::new(LOG).unwrap(), Algorithm::Ed25519, &[7; 32]).unwrap();
    let mut tree =
        LogTree::<_, Sha256>::open(Home::new(fs.clone(), LOG), records, &|| true).unwrap();
    tree.read_to(records, &|| true).unwrap();
    tree.publish(&[&Toy(key)]).unwrap();
    *tree.signed().unwrap()
}

fn is_good(fs: &SimFs) -> bool {
    let found = verify_evidence(fs, &Against::default(), &Sm).unwrap();
    if !found.is_good() {
        eprintln!("{}", found.text());
    }
    found.is_good() && found.covered == found.report.records
}

#[test]
fn a_mirror_follows_its_log_in_every_form_and_is_good_by_itself() {
    let (log, copy) = (SimFs::default(), SimFs::default());
    assert!(matches!(mirror(&log, &copy), Err(MirrorError::Checkpoint("log"))));
    let mut before = 0;
    for (n, count) in [1, 30, 300, 5, 700].into_iter().enumerate() {
        let head = append(&log, count, "entry");
        if n % 2 == 1 {
            for old in old_segments(&log, head.size).unwrap() {
                seal(&log, &old.name, &|| true).unwrap();
            }
        }
        let done = mirror(&log, &copy).unwrap();
        assert_eq!((done.from, done.to), (before, head.size));
        before = head.size;
        assert!(is_good(&copy));
        assert_eq!(mirror(&log, &copy).unwrap().bytes, 0, "nothing twice");
    }
}

#[test]
fn another_history_or_an_older_one_is_never_mirrored() {
    let (log, copy) = (SimFs::default(), SimFs::default());
    append(&log, 300, "entry");
    let older = log.fork();
    let other = log.fork();
    append(&log, 50, "entry");
    mirror(&log, &copy).unwrap();
    let before = copy.names();
    assert!(matches!(mirror(&older, &copy), Err(MirrorError::PutBack { .. })));
    append(&other, 90, "another");
    assert!(matches!(mirror(&other, &copy), Err(MirrorError::Fork(_))));
    assert_eq!(copy.names(), before);
    copy.put(FROZEN_FILE, b"x".to_vec());
    assert!(matches!(mirror(&log, &copy), Err(MirrorError::Frozen)));
}

#[test]
fn every_flipped_bit_in_a_full_segment_or_a_tile_is_repaired_byte_for_byte() {
    let (log, copy) = (SimFs::default(), SimFs::default());
    let head = append(&log, 600, "entry");
    mirror(&log, &copy).unwrap();
    let old = old_segments(&log, head.size).unwrap();
    let names =
        [old[0].name.clone(), old[3].name.clone(), "tile/0/000".into(), "tile/0/001".into()];
    for name in names {
        let good = log.bytes(&name);
        for at in (0..good.len()).step_by(97) {
            let bad = log.fork();
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            bad.put(&name, bytes.clone());
            let done = repair(&bad, &copy, &[head]).unwrap();
            assert!(bad.bytes(&name) == good, "{name} {at}");
            assert!(is_good(&bad), "{name} {at}");
            assert_eq!(done.segments.len() + done.tiles as usize, 1, "{name} {at}");
            assert!(!bad.bytes(REPAIRED_FILE).is_empty());
            if let Some((_, range, first_bad)) = done.segments.first() {
                assert!(range.start <= *first_bad && *first_bad <= range.end);
                assert!(bad.bytes(&format!("{name}.damaged-0")) == bytes);
            }
        }
    }
    // Nothing is touched where nothing is wrong; a lost file comes back, a cut one too.
    let whole = log.fork();
    assert_eq!(
        repair(&whole, &copy, &[head]).unwrap(),
        Repair { size: head.size, ..Repair::default() }
    );
    assert_eq!(whole.names(), log.names());
    let lost = log.fork();
    lost.take(&old[2].name);
    repair(&lost, &copy, &[head]).unwrap();
    assert!(is_good(&lost));
}

#[test]
fn packed_segments_are_repaired_and_repair_from_packed_ones() {
    let (log, copy) = (SimFs::default(), SimFs::default());
    let head = append(&log, 400, "entry");
    let old = old_segments(&log, head.size).unwrap()[1].clone();
    let plain = log.fork();
    seal(&log, &old.name, &|| true).unwrap();
    mirror(&log, &copy).unwrap();
    let packed = format!("{}{PACKED_SUFFIX}", old.name);
    for at in [5, 4_000, log.bytes(&packed).len() - 3] {
        let bad = log.fork();
        let mut bytes = bad.take(&packed);
        let at = at.min(bytes.len() - 1);
        bytes[at] ^= 64;
        bad.put(&packed, bytes);
        if !is_good(&bad) {
            repair(&bad, &copy, &[head]).unwrap();
        }
        assert!(is_good(&bad), "{at}");
    }
    let mut bytes = plain.take(&old.name);
    bytes[500] ^= 1;
    plain.put(&old.name, bytes);
    repair(&plain, &copy, &[head]).unwrap();
    assert!(is_good(&plain));
}

#[test]
fn what_is_bad_in_both_is_named_and_a_mirror_that_proves_nothing_is_refused() {
    let (log, copy) = (SimFs::default(), SimFs::default());
    let head = append(&log, 400, "entry");
    mirror(&log, &copy).unwrap();
    let old = old_segments(&log, head.size).unwrap()[1].clone();
    for fs in [&log, &copy] {
        let mut bytes = fs.take(&old.name);
        let at = bytes.len() - 400;
        bytes[at] ^= 1;
        fs.put(&old.name, bytes);
    }
    let done = repair(&log, &copy, &[head]).unwrap();
    assert!(done.segments.is_empty());
    let [(name, range)] = done.lost.as_slice() else { panic!("{done:?}") };
    assert!(*name == old.name && range.start >= old.first && range.end == old.end);
    // A root that was signed and that the mirror does not lead to.
    let other = Head { root: [9; 32], ..head };
    assert!(matches!(repair(&log, &copy, &[other]), Err(MirrorError::Fork(_))));
    assert!(matches!(repair(&log, &copy, &[]), Err(MirrorError::Tiles(_))));
    let mut tile = copy.take("tile/0/000");
    tile[40] ^= 1;
    copy.put("tile/0/000", tile);
    assert!(matches!(repair(&log, &copy, &[head]), Err(MirrorError::Tiles(_))));
}
