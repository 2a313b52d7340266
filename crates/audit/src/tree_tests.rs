//! The tree behind a log on the simulated disk: whatever a crash leaves, no two signed checkpoints
//! contradict each other, none shrinks, and tiles that are missing come back.

use std::collections::BTreeMap;
use std::sync::Arc;

use moat_model::clock::Manual;
use moat_tlog::key::{Algorithm, KeyName, VerifierKey};
use moat_tlog::sign::CannotSign;
use moat_tlog::tree::Tree;

use super::*;
use crate::committer::{Committer, Options};
use crate::hash::sha256;
use crate::record::Body;
use crate::sim::{Fault, SimFs, Unsynced};
use crate::verify::verify_in;

const LOG: &str = "log.test/1";

/// Signs with a hash: what is tested here is when something is signed, not how.
struct Toy {
    key: VerifierKey,
    can_sign: bool,
}

fn toy() -> Toy {
    let name = KeyName::new(LOG).unwrap();
    Toy { key: VerifierKey::new(name, Algorithm::Ed25519, &[7; 32]).unwrap(), can_sign: true }
}

impl Signer for Toy {
    fn key(&self) -> &VerifierKey {
        &self.key
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CannotSign> {
        let half = sha256(message);
        if self.can_sign { Ok([half, half].concat()) } else { Err(CannotSign) }
    }
}

fn commit(fs: &SimFs) -> Option<Committer<SimFs>> {
    let options = Options { segment_bytes: 60_000, keep_hashes: true, ..Options::new(LOG) };
    Committer::open(fs.clone(), Arc::new(Manual::at(1_000, 1)), options).ok().map(|(log, _)| log)
}

fn bodies(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| Body::admin(format!("entry {n}")).encode().unwrap()).collect()
}

/// Checkpoints that somebody may have got, by size.
type Released = BTreeMap<u64, Head>;

/// Commits batches and lets the tree follow; publishes after each. Ends at the first error of the
/// disk, as a crash would.
fn script(fs: &SimFs, batches: &[usize], released: &mut Released) -> Option<()> {
    Home::new(fs.clone(), LOG).begin::<Sha256>().ok()?;
    let mut log = commit(fs)?;
    let mut tree = open_at(fs, log.next_seq()).ok()?;
    tree.read_to(log.next_seq(), &|| true).ok()?;
    log.take_hashes();
    for &count in batches {
        let bodies = bodies(count);
        let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
        log.commit(&bodies).ok()?;
        let (first, hashes) = log.take_hashes();
        assert_eq!(first, tree.size());
        hashes.into_iter().try_for_each(|hash| tree.push(hash)).ok()?;
        let published = tree.publish(&[&toy()]);
        // Out in the world from the moment at which its file is there, whatever came after.
        note(fs, released);
        published.ok()?;
    }
    log.close().ok()?;
    Some(())
}

fn open_at(fs: &SimFs, records: u64) -> Result<LogTree<SimFs>, TreeError> {
    LogTree::<_, Sha256>::open(Home::new(fs.clone(), LOG), records, &|| true)
}

fn note(fs: &SimFs, released: &mut Released) {
    if let Some(checkpoint) = crate::tiles::checkpoint(fs).unwrap() {
        let head = *checkpoint.unwrap().checkpoint().head();
        let before = released.insert(head.size, head);
        assert!(before.is_none_or(|before| before == head), "two checkpoints of one size");
        assert_eq!(released.keys().last(), Some(&head.size), "the checkpoint shrank");
    }
}

/// Every tile that a checkpoint needs is there and right, and every checkpoint ever released is one
/// of this log.
fn assert_consistent(fs: &SimFs, released: &Released, context: &str) {
    let report = verify_in(fs).unwrap();
    assert!(report.is_whole(), "{context}: {:#?}", report.findings);
    let head = *crate::tiles::checkpoint(fs).unwrap().unwrap().unwrap().checkpoint().head();
    let (mut edge, mut full) = (Edge::<Sha256>::new(), Vec::new());
    let mut roots = BTreeMap::new();
    read_hashes::<Sha256>(fs, 0..report.records, &mut Place::default(), |hash| {
        if edge.size() < head.size {
            edge.push(hash, &mut full).unwrap();
            if released.contains_key(&edge.size()) {
                roots.insert(edge.size(), edge.root());
            }
        }
    })
    .unwrap();
    assert_eq!(edge.root(), head.root, "{context}");
    for (tile, bytes) in full.into_iter().chain(edge.partial()) {
        assert!(fs.names().contains(&tile.path()), "{context}: {} is missing", tile.path());
        assert_eq!(fs.bytes(&tile.path()), bytes, "{context}: {}", tile.path());
    }
    for (size, released) in released {
        assert_eq!(roots.get(size), Some(&released.root), "{context}: checkpoint of {size}");
    }
    // And so the tiles prove what the checkpoint says.
    let mut tree = Tree::<Sha256, _>::new(head.size, Stored::new(fs, head.size)).unwrap();
    assert_eq!(tree.root().unwrap(), head.root, "{context}");
}

/// Sizes that fill tiles, go beyond one, and leave others partial.
const BATCHES: [usize; 5] = [3, 250, 1, 300, 7];

#[test]
fn a_power_cut_at_any_operation_leaves_a_log_that_goes_on_and_contradicts_nothing() {
    let fs = SimFs::default();
    let mut released = Released::new();
    script(&fs, &BATCHES, &mut released).unwrap();
    assert_consistent(&fs, &released, "no fault");
    let operations = fs.ops();
    for at in 0..operations {
        for torn in [0, 40, usize::MAX] {
            for fate in [Unsynced::Lost, Unsynced::Torn, Unsynced::Kept] {
                let context = format!("power cut at operation {at}, {torn} bytes, {fate:?}");
                let fs = SimFs::default();
                fs.fail(at, Fault::Power(torn), false);
                let mut released = Released::new();
                let ended = script(&fs, &BATCHES, &mut released);
                assert!(ended.is_none() && fs.is_dead(), "{context}");
                let fs = fs.reboot_with(fate);
                assert!(script(&fs, &[5, 260], &mut released).is_some(), "{context}");
                assert_consistent(&fs, &released, &context);
            }
        }
    }
}

#[test]
fn any_operation_may_fail_once_and_the_next_opening_catches_up() {
    let fs = SimFs::default();
    script(&fs, &BATCHES, &mut Released::new()).unwrap();
    for at in 0..fs.ops() {
        for fault in [Fault::Eio, Fault::EioButStored, Fault::Enospc, Fault::Short(70)] {
            let context = format!("{fault:?} at operation {at}");
            let fs = SimFs::default();
            fs.fail(at, fault, false);
            let mut released = Released::new();
            let _ = script(&fs, &BATCHES, &mut released);
            assert!(script(&fs, &[5, 260], &mut released).is_some(), "{context}");
            assert_consistent(&fs, &released, &context);
            // What was signed after the fault was on the disk, not in memory only.
            let fs = fs.reboot_with(Unsynced::Lost);
            assert_consistent(&fs, &released, &format!("{context}, then a power cut"));
        }
    }
}

#[test]
fn a_process_that_dies_before_its_sync_leaves_nothing_that_is_signed_without_one() {
    let fs = SimFs::default();
    script(&fs, &BATCHES, &mut Released::new()).unwrap();
    for at in 0..fs.ops() {
        let context = format!("killed at operation {at}");
        let fs = SimFs::default();
        // Every later operation fails too: it is as if the process were gone.
        fs.fail(at, Fault::EioButStored, true);
        let mut released = Released::new();
        let _ = script(&fs, &BATCHES, &mut released);
        fs.heal();
        assert!(script(&fs, &[], &mut released).is_some(), "{context}");
        if let Ok(mut tree) = opened(&fs) {
            tree.publish(&[&toy()]).unwrap();
            note(&fs, &mut released);
        }
        let fs = fs.reboot_with(Unsynced::Lost);
        assert_consistent(&fs, &released, &format!("{context}, then a power cut"));
    }
}

fn signed_log() -> (SimFs, Released) {
    let (fs, mut released) = (SimFs::default(), Released::new());
    script(&fs, &BATCHES, &mut released).unwrap();
    (fs, released)
}

fn opened(fs: &SimFs) -> Result<LogTree<SimFs>, TreeError> {
    opened_as(Home::new(fs.clone(), LOG))
}

fn opened_as(home: Home<'_, SimFs>) -> Result<LogTree<SimFs>, TreeError> {
    let records = verify_in(&home.fs).unwrap().records;
    let mut tree = LogTree::<_, Sha256>::open(home, records, &|| true)?;
    tree.read_to(records, &|| true)?;
    Ok(tree)
}

#[test]
fn missing_and_damaged_tiles_are_made_anew_and_partial_ones_go_when_they_are_full() {
    let (fs, released) = signed_log();
    let tiles: Vec<String> =
        fs.names().into_iter().filter(|name| name.starts_with("tile/")).collect();
    assert!(tiles.contains(&"tile/0/000".to_owned()), "{tiles:?}");
    assert!(!tiles.iter().any(|name| name.starts_with("tile/0/000.p/")), "{tiles:?}");
    assert!(tiles.iter().any(|name| name.starts_with("tile/0/002.p/")), "{tiles:?}");
    assert!(tiles.contains(&"tile/0/001".to_owned()), "{tiles:?}");
    for damage in ["all gone", "first gone", "second gone", "too long", "edge flipped", "edge cut"]
    {
        let fs = fs.fork();
        for name in &tiles {
            let mut bytes = fs.take(name);
            match damage {
                "all gone" => continue,
                "first gone" if name == "tile/0/000" => continue,
                "second gone" if name == "tile/0/001" => continue,
                "too long" if name == "tile/0/000" => bytes.push(0),
                "edge flipped" if name.contains(".p/") => bytes[0] ^= 1,
                "edge cut" if name.contains(".p/") => bytes.truncate(31),
                _ => {}
            }
            fs.put(name, bytes);
        }
        opened(&fs).unwrap().publish(&[&toy()]).unwrap();
        assert_consistent(&fs, &released, damage);
    }
}

#[test]
fn a_log_that_was_rolled_back_or_rewritten_is_signed_no_more() {
    // The same files, but for a later checkpoint and its tiles: the records were put back.
    let (fs, _) = signed_log();
    let (old, mut released) = (SimFs::default(), Released::new());
    script(&old, &BATCHES[..2], &mut released).unwrap();
    for name in [Sha256::SIGNED, Sha256::CHECKPOINT] {
        let old = old.fork();
        old.put(name, fs.bytes(name));
        let error = opened(&old).err().unwrap();
        assert!(matches!(error, TreeError::RolledBack { .. }), "{name}: {error}");
        assert!(error.is_final() && error.code() == &codes::NOT_SIGNED_AGAIN);
    }
    // Other records with the same number: the log was written anew.
    let (other, mut released) = (SimFs::default(), Released::new());
    script(&other, &[600], &mut released).unwrap();
    for name in fs.names().iter().filter(|name| !name.ends_with(".seg")) {
        if name.starts_with("tile/")
            || [Sha256::SIGNED, Sha256::CHECKPOINT].contains(&name.as_str())
        {
            other.put(name, fs.bytes(name));
        }
    }
    let before = other.names();
    let error = opened(&other).err().unwrap();
    assert!(matches!(error, TreeError::OtherHistory { .. }), "{error:?}");
    assert_eq!(other.names(), before, "the tiles that convict are left alone");
    for (name, text) in [
        (Sha256::SIGNED, "nonsense".to_owned()),
        (
            Sha256::SIGNED,
            String::from_utf8(fs.bytes(Sha256::SIGNED)).unwrap().replace(LOG, "other/1"),
        ),
        (Sha256::CHECKPOINT, String::new()),
    ] {
        let fs = fs.fork();
        fs.put(name, text.clone().into_bytes());
        let error = opened(&fs).err().unwrap();
        assert!(matches!(error, TreeError::State { .. }), "{name} {text}: {error}");
    }
}

#[test]
fn a_key_that_cannot_sign_loses_nothing_and_another_may_sign_later() {
    let (fs, mut released) = signed_log();
    let mut tree = opened(&fs).unwrap();
    let gone = Toy { can_sign: false, ..toy() };
    assert!(matches!(tree.publish(&[&gone]), Err(TreeError::Sign(_))));
    assert!(matches!(tree.publish(&[]), Err(TreeError::Sign(_))));
    assert!(tree.publish(&[&toy()]).unwrap());
    assert!(!tree.publish(&[&toy()]).unwrap(), "nothing new");
    // Nor is anything forgotten when the same key fails once.
    let (size, mut log) = (tree.size(), commit(&fs).unwrap());
    log.commit(&[&bodies(1)[0]]).unwrap();
    tree.read_to(log.next_seq(), &|| true).unwrap();
    assert!(matches!(tree.publish(&[&gone]), Err(TreeError::Sign(_))));
    assert!(tree.publish(&[&toy()]).unwrap(), "the same head is still to be signed");
    assert!(tree.published().unwrap().checkpoint().size() > size);
    note(&fs, &mut released);
    assert_consistent(&fs, &released, "signed later");
}

#[test]
fn opening_can_be_broken_off() {
    let (fs, _) = signed_log();
    let error = LogTree::<_, Sha256>::open(Home::new(fs, LOG), 3, &|| false).err().unwrap();
    assert!(matches!(error, TreeError::RolledBack { .. }), "{error}");
    let (fs, _) = signed_log();
    let records = verify_in(&fs).unwrap().records;
    for name in fs.names().into_iter().filter(|name| name.starts_with("tile/")) {
        fs.take(&name);
    }
    let error = LogTree::<_, Sha256>::open(Home::new(fs, LOG), records, &|| false).err().unwrap();
    assert!(matches!(error, TreeError::BrokenOff), "{error}");
}

#[test]
fn a_log_that_lost_what_was_signed_is_signed_no_more_until_a_person_says_so() {
    let (fs, mut released) = signed_log();
    let stripped = fs.fork();
    for name in fs.names() {
        if name.starts_with("tile/")
            || [Sha256::SIGNED, Sha256::CHECKPOINT].contains(&name.as_str())
        {
            stripped.take(&name);
        }
    }
    let error = opened(&stripped).err().unwrap();
    assert!(matches!(error, TreeError::Stripped { .. }), "{error}");
    assert!(error.is_final() && error.code() == &codes::NOT_SIGNED_AGAIN);
    // Not by another start either, nor when the segments are gone too.
    let home = || Home::new(stripped.clone(), LOG);
    home().begin::<Sha256>().unwrap();
    assert!(home().is_stripped::<Sha256>().unwrap());
    for name in stripped.names().into_iter().filter(|name| name.ends_with(".seg")) {
        let bytes = stripped.take(&name);
        home().begin::<Sha256>().unwrap();
        assert!(home().is_stripped::<Sha256>().unwrap());
        stripped.put(&name, bytes);
    }
    home().note_nothing::<Sha256>().unwrap();
    opened(&stripped).unwrap().publish(&[&toy()]).unwrap();
    assert_consistent(&stripped, &released, "resumed");
    // A second place remembers what the first has lost.
    let second = SimFs::default();
    second.put(Sha256::SIGNED, fs.bytes(Sha256::SIGNED));
    let (rolled, mut before) = (SimFs::default(), Released::new());
    script(&rolled, &BATCHES[..2], &mut before).unwrap();
    let error = opened_as(Home { second: Some(second.clone()), ..Home::new(rolled, LOG) });
    assert!(matches!(error.err().unwrap(), TreeError::RolledBack { .. }));
    let mut tree = opened_as(Home { second: Some(second.clone()), ..home() }).unwrap();
    tree.publish(&[&toy()]).unwrap();
    note(&stripped, &mut released);
    let head = head_in::<Sha256>(&second, Sha256::SIGNED, LOG).unwrap().unwrap();
    assert_eq!(head.size, tree.size(), "both places are kept");
}

#[test]
fn a_log_that_was_never_signed_is_signed_whenever_its_first_start_was_cut_short() {
    let fs = SimFs::default();
    Home::new(fs.clone(), LOG).begin::<Sha256>().unwrap();
    for _ in 0..3 {
        let mut log = commit(&fs).unwrap();
        log.commit(&[&bodies(1)[0]]).unwrap();
        drop(log);
        Home::new(fs.clone(), LOG).begin::<Sha256>().unwrap();
        assert_eq!(opened(&fs).unwrap().signed().map(|head| head.size), Some(0));
    }
    opened(&fs).unwrap().publish(&[&toy()]).unwrap();
    let mut released = Released::new();
    note(&fs, &mut released);
    assert_consistent(&fs, &released, "signed at last");
}

#[test]
fn what_this_process_signed_is_not_taken_back_by_the_folder() {
    let (fs, _) = signed_log();
    let known = *opened(&fs).unwrap().signed().unwrap();
    let with = |fs: &SimFs| opened_as(Home { known: Some(known), ..Home::new(fs.clone(), LOG) });
    assert!(with(&fs).is_ok());
    let (older, mut released) = (fs.fork(), Released::new());
    let mut tree = LogTree::<_, Sha256>::open(
        Home { known: Some(known), ..Home::new(fs.clone(), LOG) },
        verify_in(&fs).unwrap().records,
        &|| true,
    );
    tree.as_mut().unwrap().publish(&[&toy()]).unwrap();
    note(&fs, &mut released);
    for head in [Head::empty::<Sha256>(), Head { size: 3, root: [1; 32] }] {
        let text = Checkpoint::new(LOG, head).unwrap().to_string();
        older.put(Sha256::SIGNED, text.into_bytes());
        older.put(Sha256::CHECKPOINT, fs.bytes(Sha256::CHECKPOINT));
        assert!(with(&older).is_ok(), "one of the two still says it");
        older.take(Sha256::CHECKPOINT);
        assert!(matches!(with(&older).err().unwrap(), TreeError::State { .. }));
    }
    older.take(Sha256::SIGNED);
    assert!(matches!(with(&older).err().unwrap(), TreeError::State { .. }));
}

#[test]
fn a_signed_record_that_is_gone_is_final() {
    let (fs, _) = signed_log();
    let records = verify_in(&fs).unwrap().records;
    let segments: Vec<String> =
        fs.names().into_iter().filter(|name| name.ends_with(".seg")).collect();
    let last = segments.last().unwrap();
    let mut bytes = fs.take(last);
    bytes.truncate(bytes.len() - 400);
    fs.put(last, bytes);
    let error = open_at(&fs, records).err().unwrap();
    assert!(matches!(error, TreeError::Gone { .. }) && error.is_final(), "{error:?}");
}
