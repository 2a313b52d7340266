//! Packed and removed segments read as the log that they are, through every crash and every change.

use std::ops::ControlFlow;
use std::sync::Arc;

use moat_model::clock::Manual;
use moat_model::code::audit as codes;
use moat_tlog::key::{Algorithm, KeyName, VerifierKey};
use moat_tlog::sign::{CannotSign, Signer, Sm};
use moat_tlog::{Sha256, Sm3};

use super::*;
use crate::committer::{Committer, Options};
use crate::entries::{each_leaf, leaf, removed_ranges};
use crate::evidence::{Against, Evidence, verify_evidence};
use crate::prove::prove;
use crate::sealed::removal_note;
use crate::search::leaves_in;
use crate::sim::{Fault, SimFs};
use crate::tree::{Home, LogTree};
use crate::verify::verify_in;

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

fn commit(fs: &SimFs) -> Committer<SimFs> {
    let options = Options { segment_bytes: 9_000, ..Options::new(LOG) };
    Committer::open(fs.clone(), Arc::new(Manual::at(1_000, 1)), options).unwrap().0
}

/// Signs what is there in both trees.
fn sign(fs: &SimFs, records: u64) {
    fn one<H: crate::tiles::LogHash>(fs: &SimFs, records: u64) {
        let origin = format!("{LOG}{}", H::ORIGIN);
        let key = VerifierKey::new(KeyName::new(&origin).unwrap(), Algorithm::Ed25519, &[7; 32]);
        let mut tree =
            LogTree::<_, H>::open(Home::new(fs.clone(), LOG), records, &|| true).unwrap();
        tree.read_to(records, &|| true).unwrap();
        tree.publish(&[&Toy(key.unwrap())]).unwrap();
    }
    one::<Sha256>(fs, records);
    one::<Sm3>(fs, records);
}

/// A log of many segments, signed.
fn log() -> (SimFs, u64) {
    let fs = SimFs::default();
    let home = Home::new(fs.clone(), LOG);
    home.begin::<Sha256>().unwrap();
    home.begin::<Sm3>().unwrap();
    let mut log = commit(&fs);
    for n in 0..700 {
        let body = Body::admin(format!("entry {n}")).encode().unwrap();
        log.commit(&[&body]).unwrap();
    }
    let records = log.close().unwrap();
    sign(&fs, records);
    (fs, records)
}

fn evidence(fs: &SimFs) -> Evidence {
    verify_evidence(fs, &Against { is_sm3_demanded: true, ..Against::default() }, &Sm).unwrap()
}

fn all(fs: &SimFs) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    each_leaf(fs, 0..u64::MAX, |_, leaf| {
        all.push(leaf.to_vec());
        ControlFlow::Continue(())
    })
    .unwrap();
    all
}

/// Puts the removal of the first segments on record, signs that, and removes them.
fn retire_some(fs: &SimFs, count: usize) -> u64 {
    let old: Vec<Old> = old_segments(fs, u64::MAX).unwrap().into_iter().take(count).collect();
    let end = old.last().unwrap().end;
    let mut log = commit(fs);
    log.commit(&[&Body::admin(removal_note(0, end, "test")).encode().unwrap()]).unwrap();
    let records = log.close().unwrap();
    sign(fs, records);
    old.iter().for_each(|old| retire(fs, &old.name).unwrap());
    end
}

#[test]
fn a_packed_log_is_the_same_log() {
    let (fs, records) = log();
    let (before, plain) = (evidence(&fs), all(&fs));
    let old = old_segments(&fs, records).unwrap();
    assert!(old.len() > 10, "{}", old.len());
    assert_eq!(old_segments(&fs, old[3].end).unwrap().len(), 4, "what is not signed stays");
    for old in &old {
        assert!(seal(&fs, &old.name, &|| true).unwrap());
        assert!(!seal(&fs, &old.name, &|| true).unwrap(), "once");
    }
    assert_eq!(fs.names().iter().filter(|name| name.ends_with(".seg")).count(), 1);
    let after = evidence(&fs);
    assert!(after.is_good(), "{}", after.text());
    assert_eq!((after.report.root, after.covered), (before.report.root, before.covered));
    assert_eq!(all(&fs), plain);
    assert_eq!(leaves_in(&fs).unwrap().count() as u64, records);
    for seq in [0, 255, 256, records - 1] {
        assert_eq!(prove(&fs, seq).unwrap().entry, Some(plain[seq as usize].clone()));
    }
    // It goes on as if nothing had been.
    let mut log = commit(&fs);
    log.commit(&[&Body::admin("more").encode().unwrap()]).unwrap();
    let records = log.close().unwrap();
    sign(&fs, records);
    assert!(evidence(&fs).is_good());
}

#[test]
fn no_crash_while_packing_or_removing_loses_a_record_or_its_mark() {
    let (fs, _) = log();
    let name = old_segments(&fs, u64::MAX).unwrap()[2].name.clone();
    let before = all(&fs);
    for at in 0.. {
        let disk = fs.fork();
        disk.fail(at, Fault::Power(10), false);
        let done = seal(&disk, &name, &|| true).is_ok();
        for keep_names in [false, true] {
            let after = disk.reboot(keep_names);
            assert_eq!(all(&after), before, "{at} {keep_names}");
            assert!(evidence(&after).is_good(), "{at} {keep_names}");
            seal(&after, &name, &|| true).unwrap();
            assert!(evidence(&after).is_good(), "{at} {keep_names}");
        }
        if done && !disk.is_dead() {
            break;
        }
    }
    let end = retire_some(&fs, 2);
    let third = old_segments(&fs, u64::MAX).unwrap()[2].clone();
    let mut log = commit(&fs);
    let note = removal_note(0, third.end, "test");
    log.commit(&[&Body::admin(note).encode().unwrap()]).unwrap();
    sign(&fs, log.close().unwrap());
    for at in 0.. {
        let disk = fs.fork();
        disk.fail(at, Fault::Power(0), false);
        let done = retire(&disk, &name).is_ok();
        let after = disk.reboot(true);
        let found = evidence(&after);
        assert!(found.is_good(), "{at} {}", found.text());
        let removed = removed_ranges(&after).unwrap();
        assert!(
            matches!(removed.as_slice(), [one] if *one == (0..end) || *one == (0..third.end)),
            "{at} {removed:?}"
        );
        if done && !disk.is_dead() {
            break;
        }
    }
}

#[test]
fn a_change_in_a_packed_segment_is_found_or_changes_nothing() {
    let (fs, records) = log();
    let before = all(&fs);
    let name = old_segments(&fs, records).unwrap()[1].name.clone();
    seal(&fs, &name, &|| true).unwrap();
    let packed = format!("{name}{PACKED_SUFFIX}");
    let len = fs.bytes(&packed).len();
    for at in (0..len).step_by(7).chain(len - 60..len) {
        let changed = fs.fork();
        let mut bytes = changed.take(&packed);
        bytes[at] ^= 1 << (at % 8);
        changed.put(&packed, bytes);
        if verify_in(&changed).unwrap().is_whole() {
            assert_eq!(all(&changed), before, "{at}");
        }
    }
    for keep in [0, 8, len / 2, len - 1] {
        let cut = fs.fork();
        let bytes = cut.take(&packed)[..keep].to_vec();
        cut.put(&packed, bytes);
        assert!(!verify_in(&cut).unwrap().is_whole(), "{keep}");
    }
}

#[test]
fn what_retention_removed_is_told_and_the_rest_stays_proven() {
    let (fs, _) = log();
    old_segments(&fs, u64::MAX).unwrap().iter().take(5).for_each(|old| {
        seal(&fs, &old.name, &|| true).unwrap();
    });
    let kept = all(&fs)[100].clone();
    let end = retire_some(&fs, 4);
    let found = evidence(&fs);
    assert!(found.is_good(), "{}", found.text());
    assert_eq!(found.report.removed.as_slice(), std::slice::from_ref(&(0..end)));
    assert_eq!(found.covered, found.report.records);
    assert!(found.text().contains("were removed"), "{}", found.text());
    assert_eq!(leaf(&fs, 5).unwrap(), None);
    // The proof of a record that is gone is good for whoever has kept it.
    let proven = prove(&fs, 5).unwrap();
    assert_eq!(proven.entry, None);
    assert!(prove(&fs, end).unwrap().entry.is_some());
    assert_ne!(crate::hash::leaf_hash(&kept), [0; 32]);
    let shown: Vec<u64> =
        leaves_in(&fs).unwrap().map(|found| found.unwrap().leaf.head.seq).collect();
    assert_eq!(shown.first(), Some(&end));
    // It is opened and goes on.
    let mut log = commit(&fs);
    log.commit(&[&Body::admin("more").encode().unwrap()]).unwrap();
    sign(&fs, log.close().unwrap());
    assert!(evidence(&fs).is_good());
}

#[test]
fn a_removal_that_no_record_speaks_of_is_found() {
    let (fs, _) = log();
    let first = old_segments(&fs, u64::MAX).unwrap()[0].clone();
    retire(&fs, &first.name).unwrap();
    assert_eq!(evidence(&fs).report.code(), Some(&codes::REMOVED_UNSAID));
    // On record, and then one more by hand.
    let (fs, _) = log();
    let end = retire_some(&fs, 2);
    let third = old_segments(&fs, u64::MAX).unwrap()[2].clone();
    assert_eq!(third.first, end);
    retire(&fs, &third.name).unwrap();
    let found = evidence(&fs);
    assert_eq!(found.report.code(), Some(&codes::REMOVED_UNSAID), "{}", found.text());
    // A segment taken away with nothing left of it is what it always was.
    let (fs, _) = log();
    fs.take(&first.name);
    assert!(evidence(&fs).report.findings.kept().iter().any(|f| f.code == &codes::RECORDS_MISSING));
}

#[test]
fn hashes_of_removed_records_are_held_against_what_was_signed() {
    let (fs, _) = log();
    retire_some(&fs, 6);
    let tile = "tile/0/000";
    let changed = fs.fork();
    let mut bytes = changed.take(tile);
    bytes[32 * 7 + 1] ^= 1;
    changed.put(tile, bytes);
    assert!(!evidence(&changed).is_good());
    changed.take(tile);
    assert!(!evidence(&changed).is_good());
    // The header that is left is held against the chain.
    let removed = fs.names().into_iter().find(|name| name.ends_with(REMOVED_SUFFIX)).unwrap();
    for at in 0..fs.bytes(&removed).len() {
        let changed = fs.fork();
        let mut bytes = changed.take(&removed);
        bytes[at] ^= 4;
        changed.put(&removed, bytes);
        assert!(!evidence(&changed).is_good(), "{at}");
    }
}

#[test]
fn a_segment_is_kept_as_long_as_the_strictest_field_in_it_asks() {
    let (fs, records) = log();
    let retention = Retention { any_ns: 10, c1_ns: 20, c2_ns: 30, pan_ns: 40, c3_ns: 50 };
    let old = &old_segments(&fs, records).unwrap()[0];
    assert_eq!(keep_until(&fs, old, &retention).unwrap(), Some(1_010));
    assert_eq!(first_needed(&fs).unwrap(), old_segments(&fs, records).unwrap().last().unwrap().end);
    let mut body = Body::admin("x");
    assert_eq!(retention.of(&body), 10);
    let field = |class| {
        let none = crate::record::Value::Null;
        crate::record::Field::new([3; 32], "x", class, crate::record::Value::Absent, none).unwrap()
    };
    body.fields.push(field(Class::C2));
    assert_eq!(retention.of(&body), 30);
    body.fields.push(
        crate::record::Field::new(
            [3; 32],
            "y",
            Class::Sad,
            crate::record::Value::Absent,
            crate::record::Value::Dropped,
        )
        .unwrap(),
    );
    assert_eq!(retention.of(&body), 30);
}
