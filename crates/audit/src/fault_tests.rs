//! The committer under every fault the simulated disk knows, at every operation.

use std::collections::BTreeMap;
use std::sync::Arc;

use moat_model::clock::Manual;
use moat_model::code::audit as codes;

use crate::committer::{Ack, CommitError, Committer, Options};
use crate::record::{Body, Kind, Outcome};
use crate::recovery::OpenError;
use crate::sim::{Fault, SimFs};
use crate::verify::{Report, verify_in};

const LOG: &str = "log/1";

fn options() -> Options {
    Options { segment_bytes: 1_500, head_every_ns: 2, ..Options::new(LOG) }
}

fn clock() -> Arc<Manual> {
    Arc::new(Manual::at(1_000, 1))
}

type Acked = BTreeMap<u64, Ack>;

fn intent(n: u8) -> Vec<u8> {
    let body = Body { object: format!("account/{n}"), ..Body::new(Kind::Intent, [n; 16]) };
    body.encode().unwrap()
}

fn outcome(n: u8, seq: u64) -> Vec<u8> {
    let body = Body {
        intent_seq: Some(seq),
        outcome: Some(Outcome::Committed),
        note: "x".repeat(usize::from(n) * 7),
        ..Body::new(Kind::Outcome, [n; 16])
    };
    body.encode().unwrap()
}

/// Opens the log and commits some batches; goes on after errors, as the auditor does.
fn script(fs: &SimFs, rounds: u8, acked: &mut Acked) -> Result<(), OpenError> {
    let clock = clock();
    let (mut committer, _) = Committer::open(fs.clone(), clock.clone(), options())?;
    for n in 0..rounds {
        clock.set(1_000 + u64::from(n) * 10, u64::from(n));
        let intents = [intent(n), intent(n + 100)];
        let intents: Vec<&[u8]> = intents.iter().map(Vec::as_slice).collect();
        let Ok(acks) = committer.commit(&intents) else { continue };
        acked.extend(acks.iter().map(|ack| (ack.seq, *ack)));
        // The second intent stays open.
        let Ok(acks) = committer.commit(&[&outcome(n, acks[0].seq)]) else { continue };
        acked.extend(acks.iter().map(|ack| (ack.seq, *ack)));
    }
    let _ = committer.close();
    Ok(())
}

/// Verifies as an outsider, and that every acknowledged record is where its ack said.
fn assert_kept(fs: &SimFs, acked: &Acked, context: &str) -> Report {
    let report = verify_in(fs).unwrap();
    assert!(report.is_whole(), "{context}: {:#?}", report.findings);
    for ack in acked.values() {
        assert!(ack.seq < report.records, "{context}: record {} is lost", ack.seq);
    }
    let mut leaves = crate::search::leaves_in(fs).unwrap();
    let mut hashes = BTreeMap::new();
    for found in &mut leaves {
        let found = found.unwrap();
        hashes.insert(found.leaf.head.seq, found.leaf_hash);
    }
    for ack in acked.values() {
        assert_eq!(hashes.get(&ack.seq), Some(&ack.leaf_hash), "{context}: record {}", ack.seq);
    }
    report
}

fn operations(rounds: u8) -> u64 {
    let fs = SimFs::default();
    let mut acked = Acked::new();
    script(&fs, rounds, &mut acked).unwrap();
    assert!(acked.len() == usize::from(rounds) * 3);
    let report = assert_kept(&fs, &acked, "no fault");
    assert!(report.segments > 2, "the script must begin segments, not only {}", report.segments);
    fs.ops()
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_acknowledged() {
    for at in 0..operations(6) {
        for torn in [0, 1, 100, 512, 1024, usize::MAX] {
            for names in [false, true] {
                let context = format!("power cut at operation {at}, {torn} bytes, names {names}");
                let fs = SimFs::default();
                fs.fail(at, Fault::Power(torn), false);
                let mut acked = Acked::new();
                let _ = script(&fs, 6, &mut acked);
                assert!(fs.is_dead(), "{context}");
                let fs = fs.reboot(names);
                let second = script(&fs, 2, &mut acked);
                assert!(second.is_ok(), "{context}: {}", second.unwrap_err());
                // Each run leaves its second intents open; the next opening says UNKNOWN.
                let (committer, _) = Committer::open(fs.clone(), clock(), options()).unwrap();
                assert_eq!(committer.open_intents(), 0, "{context}");
                committer.close().unwrap();
                let report = assert_kept(&fs, &acked, &context);
                assert!(report.unpaired.is_empty(), "{context}");
            }
        }
    }
}

#[test]
fn a_second_power_cut_during_recovery_loses_nothing_either() {
    let first = operations(3);
    for at in (0..first).step_by(5) {
        let fs = SimFs::default();
        fs.fail(at, Fault::Power(300), false);
        let mut acked = Acked::new();
        let _ = script(&fs, 3, &mut acked);
        for again in 0..12 {
            let context = format!("power cuts at operation {at} and then {again}");
            let fs = fs.reboot(again % 2 == 0);
            fs.fail(again, Fault::Power(60), false);
            let mut acked = acked.clone();
            let _ = script(&fs, 1, &mut acked);
            let fs = fs.reboot(true);
            let third = script(&fs, 1, &mut acked);
            assert!(third.is_ok(), "{context}: {}", third.unwrap_err());
            assert_kept(&fs, &acked, &context);
        }
    }
}

#[test]
fn any_operation_may_fail_once() {
    for at in 0..operations(6) {
        for fault in
            [Fault::Eio, Fault::EioButStored, Fault::Enospc, Fault::Short(70), Fault::Eintr]
        {
            let context = format!("{fault:?} at operation {at}");
            let fs = SimFs::default();
            fs.fail(at, fault, false);
            let mut acked = Acked::new();
            let opened = script(&fs, 6, &mut acked);
            if fault == Fault::Eintr && opened.is_ok() {
                assert!(acked.len() >= 15, "{context}");
            }
            let second = script(&fs, 2, &mut acked);
            assert!(second.is_ok(), "{context}: {}", second.unwrap_err());
            assert_kept(&fs, &acked, &context);
        }
    }
}

#[test]
fn a_disk_that_fails_for_good_acknowledges_nothing_and_loses_nothing() {
    for at in 0..operations(4) {
        for fault in [Fault::Eio, Fault::EioButStored, Fault::Enospc, Fault::Short(70)] {
            let context = format!("{fault:?} from operation {at} on");
            let fs = SimFs::default();
            fs.fail(at, fault, true);
            let mut acked = Acked::new();
            let _ = script(&fs, 4, &mut acked);
            fs.heal();
            let second = script(&fs, 2, &mut acked);
            assert!(second.is_ok(), "{context}: {}", second.unwrap_err());
            assert_kept(&fs, &acked, &context);
        }
    }
}

#[test]
fn a_full_volume_refuses_and_recovers_by_itself() {
    let fs = SimFs::default();
    let (mut committer, _) = Committer::open(fs.clone(), clock(), options()).unwrap();
    let one = committer.commit(&[&intent(1)]).unwrap()[0];
    fs.set_full(true);
    for _ in 0..3 {
        let error = committer.commit(&[&intent(2)]).unwrap_err();
        assert!(matches!(error, CommitError::DiskFull(_)), "{error}");
    }
    let segments = fs.names().len();
    fs.set_full(false);
    let two = committer.commit(&[&intent(3)]).unwrap()[0];
    // The first refused body was on its way: it stands before, and so does the word about it.
    assert_eq!((one.seq, two.seq), (1, 4));
    assert_eq!(fs.names().len(), segments + 1, "no litter");
    committer.close().unwrap();
    assert_kept(&fs, &[(1, one), (4, two)].into(), "after the disk was full");
}

#[test]
fn the_wall_clock_of_the_log_never_steps_back() {
    let (fs, clock) = (SimFs::default(), clock());
    let (mut committer, _) = Committer::open(fs.clone(), clock.clone(), options()).unwrap();
    clock.set(5_000, 2);
    let before = committer.commit(&[&intent(1)]).unwrap()[0];
    clock.set(4_000, 3);
    let behind = committer.commit(&[&intent(2)]).unwrap()[0];
    let still = committer.commit(&[&intent(3)]).unwrap()[0];
    clock.set(6_000, 5);
    let after = committer.commit(&[&intent(4)]).unwrap()[0];
    let times = [before, behind, still, after].map(|ack| ack.t_wall_ns);
    assert_eq!(times, [5_000, 5_000, 5_000, 6_000]);
    // One ADMIN record tells of the step.
    assert_eq!([behind.seq, still.seq, after.seq].map(|seq| seq - before.seq), [2, 3, 4]);
    drop(committer);
    assert_kept(&fs, &Acked::new(), "clock");
}

#[test]
fn a_clock_that_steps_forward_is_told_once_and_time_that_passes_is_not() {
    let (fs, clock) = (SimFs::default(), clock());
    let (mut committer, _) = Committer::open(fs.clone(), clock.clone(), options()).unwrap();
    let second = 1_000_000_000;
    clock.set(100 * second, 2 * second);
    let first = committer.commit(&[&intent(1)]).unwrap()[0];
    // An hour by both clocks, slewed by a little.
    clock.set(3_701 * second, 3_602 * second);
    let hour = committer.commit(&[&intent(2)]).unwrap()[0];
    clock.set(3_704 * second, 3_603 * second);
    let stepped = committer.commit(&[&intent(3)]).unwrap()[0];
    let after = committer.commit(&[&intent(4)]).unwrap()[0];
    assert_eq!([hour.seq, stepped.seq, after.seq].map(|seq| seq - first.seq), [1, 3, 4]);
    drop(committer);
    let notes: Vec<String> = crate::search::leaves_in(&fs)
        .unwrap()
        .map(|found| found.unwrap().leaf.body.note)
        .filter(|note| note.starts_with("clock stepped forward by 2000000000 ns"))
        .collect();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert_kept(&fs, &Acked::new(), "clock");
}

#[test]
fn two_writers_are_one_too_many_and_another_log_is_refused() {
    let fs = SimFs::default();
    let (committer, _) = Committer::open(fs.clone(), clock(), options()).unwrap();
    let error = Committer::open(fs.clone(), clock(), options()).err().unwrap();
    assert_eq!(error.code(), &codes::LOG_LOCKED);
    committer.close().unwrap();
    let other = Options { log_id: "log/2".into(), ..options() };
    let error = Committer::open(fs.clone(), clock(), other).err().unwrap();
    assert_eq!(error.code(), &codes::OTHER_LOG);
    let none = Options { log_id: String::new(), ..options() };
    assert!(Committer::open(fs, clock(), none).is_err());
}

#[test]
fn bad_batches_leave_the_log_as_it_was() {
    let fs = SimFs::default();
    let (mut committer, _) = Committer::open(fs.clone(), clock(), options()).unwrap();
    let seq = committer.next_seq();
    let error = committer.commit(&[&intent(1), b"no body"]).unwrap_err();
    assert!(matches!(error, CommitError::Body { index: 1, .. }), "{error}");
    let many = vec![b"".as_slice(); 5_000];
    assert!(matches!(committer.commit(&many), Err(CommitError::TooLarge)));
    assert!(committer.commit(&[]).unwrap().is_empty());
    assert_eq!(committer.next_seq(), seq);
    drop(committer);
    assert_kept(&fs, &Acked::new(), "bad batches");
}

#[test]
fn recovery_pairs_intents_once() {
    let fs = SimFs::default();
    let mut acked = Acked::new();
    script(&fs, 3, &mut acked).unwrap();
    let (committer, recovery) = Committer::open(fs.clone(), clock(), options()).unwrap();
    assert_eq!(recovery.unknown.len(), 3);
    assert_eq!(recovery.unknown[0].trace_id, [100; 16]);
    assert_eq!(recovery.epoch, 2);
    drop(committer);
    let (committer, recovery) = Committer::open(fs.clone(), clock(), options()).unwrap();
    assert!(recovery.unknown.is_empty());
    committer.close().unwrap();
    assert!(assert_kept(&fs, &acked, "twice opened").unpaired.is_empty());
}

#[test]
fn recovery_refuses_what_no_crash_can_do() {
    let fs = SimFs::default();
    script(&fs, 6, &mut Acked::new()).unwrap();
    let names: Vec<_> = fs.names().into_iter().filter(|name| name.ends_with(".seg")).collect();
    let last = names.last().unwrap();
    // A flip in the last segment before its last frame, a cut below the mark, a missing mark.
    let mut flipped = fs.bytes(last);
    let at = flipped.len() / 3;
    flipped[at] ^= 1;
    let mut cut = fs.bytes(last);
    cut.truncate(cut.len() - 40);
    for damage in [Some(flipped), Some(cut), None] {
        let fs = fs.fork();
        match damage {
            Some(bytes) => fs.put(last, bytes),
            None => drop(fs.take("head")),
        }
        let error = Committer::open(fs, clock(), options()).err().unwrap();
        assert_eq!(error.code(), &codes::CORRUPT, "{error}");
    }
}
