//! What verification must find, on a small log of several segments and on its files swapped about.

use std::sync::Arc;

use moat_model::Code;
use moat_model::clock::Manual;
use moat_model::code::audit as codes;

use crate::committer::{Committer, Options};
use crate::hash::hex;
use crate::record::{Body, Kind, Outcome};
use crate::sidecar::HEAD_FILE;
use crate::sim::SimFs;
use crate::verify::{Report, verify, verify_in};

fn body(kind: Kind, n: u8, intent_seq: Option<u64>) -> Vec<u8> {
    let outcome = (kind != Kind::Intent).then_some(Outcome::Committed);
    Body { intent_seq, outcome, ..Body::new(kind, [n; 16]) }.encode().unwrap()
}

/// A log of some segments, closed cleanly, with one intent left open.
fn log(log_id: &str) -> SimFs {
    let fs = SimFs::default();
    let options = Options { segment_bytes: 1_700, ..Options::new(log_id) };
    let clock = Arc::new(Manual::at(1_000, 1));
    let (mut committer, _) = Committer::open(fs.clone(), clock, options).unwrap();
    for n in 0..4 {
        let intent = body(Kind::Intent, n, None);
        let acks = committer.commit(&[&intent, &intent]).unwrap();
        committer.commit(&[&body(Kind::Outcome, n, Some(acks[0].seq))]).unwrap();
        if n > 0 {
            committer.commit(&[&body(Kind::Outcome, n, Some(acks[1].seq))]).unwrap();
        }
    }
    committer.close().unwrap();
    fs
}

fn segments(fs: &SimFs) -> Vec<String> {
    fs.names().into_iter().filter(|name| name.ends_with(".seg")).collect()
}

fn assert_found(fs: &SimFs, what: &str) -> Report {
    let report = verify_in(fs).unwrap();
    assert!(!report.is_whole(), "{what} was not found");
    report
}

fn assert_codes(fs: &SimFs, what: &str, expected: &[&'static Code]) {
    let report = assert_found(fs, what);
    let found = report.code().unwrap();
    assert!(expected.contains(&found), "{what}: {:#?}", report.findings);
}

#[test]
fn a_whole_log_is_whole_and_its_open_intent_is_told_apart() {
    let fs = log("log/1");
    let report = verify_in(&fs).unwrap();
    assert!(report.is_whole(), "{:#?}", report.findings);
    assert_eq!(report.log_id.as_deref(), Some("log/1"));
    assert_eq!(report.records, 17);
    assert!(report.segments >= 3, "{}", report.segments);
    assert_eq!(report.unpaired.iter().map(|one| one.seq).collect::<Vec<_>>(), [2]);
    assert!(report.torn.is_none());
    assert_eq!(hex(&report.root).len(), 64);
    assert!(verify_in(&SimFs::default()).unwrap().is_whole(), "an empty directory");
}

#[test]
fn a_flipped_bit_is_found_at_every_offset_of_every_file() {
    let fs = log("log/1");
    let mut names = segments(&fs);
    names.push(HEAD_FILE.to_owned());
    for name in names {
        let bytes = fs.bytes(&name);
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            fs.put(&name, flipped);
            let report = assert_found(&fs, &format!("{name}, byte {at}"));
            let finding = &report.findings.kept()[0];
            assert!(!finding.text.is_empty() && !finding.to_string().is_empty());
        }
        fs.put(&name, bytes);
    }
    assert!(verify_in(&fs).unwrap().is_whole());
}

#[test]
fn a_finding_names_segment_offset_and_record() {
    let fs = log("log/1");
    let name = &segments(&fs)[1];
    let mut bytes = fs.bytes(name);
    let (header, len) = crate::segment::decode_header(&bytes).unwrap();
    bytes[len + 100] ^= 1;
    fs.put(name, bytes);
    let report = assert_found(&fs, "a flip in the first frame of the second segment");
    let finding = &report.findings.kept()[0];
    assert_eq!(&finding.segment, name);
    assert_eq!(finding.offset, len as u64);
    assert_eq!(finding.seq, Some(header.first_seq));
    assert_eq!(finding.code, &codes::DAMAGED);
}

#[test]
fn every_truncation_of_every_file_is_found() {
    let fs = log("log/1");
    for name in segments(&fs) {
        let bytes = fs.bytes(&name);
        for len in 0..bytes.len() {
            fs.put(&name, bytes[..len].to_vec());
            assert_found(&fs, &format!("{name} cut to {len} bytes"));
        }
        fs.put(&name, bytes);
    }
    let head = fs.take(HEAD_FILE);
    assert_codes(&fs, "no head", &[&codes::LOG_CUT]);
    fs.put(HEAD_FILE, Vec::new());
    assert_codes(&fs, "empty head", &[&codes::DAMAGED]);
    fs.put(HEAD_FILE, head);
    assert!(verify_in(&fs).unwrap().is_whole());
}

#[test]
fn missing_segments_are_found() {
    for at in 0..segments(&log("log/1")).len() {
        let fs = log("log/1");
        fs.take(&segments(&fs)[at]);
        let expected = [&codes::RECORDS_MISSING, &codes::LOG_CUT];
        assert_codes(&fs, &format!("segment {at} missing"), &expected);
    }
}

#[test]
fn duplicated_swapped_and_renamed_segments_are_found() {
    let fs = log("log/1");
    let names = segments(&fs);
    let (one, two) = (fs.bytes(&names[1]), fs.bytes(&names[2]));

    let copied = fs.fork();
    copied.put(&names[1].replace(".seg", ".1.seg"), one.clone());
    assert_codes(&copied, "a copy beside it", &[&codes::RECORDS_MISSING]);

    let copied = fs.fork();
    copied.put("00000000000000000999.seg", one.clone());
    assert_codes(&copied, "a copy at the end", &[&codes::FOREIGN]);

    let swapped = fs.fork();
    swapped.put(&names[1], two.clone());
    swapped.put(&names[2], one);
    assert_codes(&swapped, "two swapped", &[&codes::FOREIGN]);

    let renamed = fs.fork();
    renamed.take(&names[2]);
    renamed.put("00000000000000000006.seg", two);
    assert_found(&renamed, "a renamed segment");
}

#[test]
fn segments_and_records_of_another_log_are_found() {
    let (fs, other) = (log("log/1"), log("log/2"));
    let names = segments(&fs);
    fs.put(&names[1], other.bytes(&segments(&other)[1]));
    assert_codes(&fs, "a segment of another log", &[&codes::FOREIGN]);
}

#[test]
fn bytes_after_the_end_are_found() {
    let fs = log("log/1");
    for name in segments(&fs) {
        let changed = fs.fork();
        let mut bytes = fs.bytes(&name);
        bytes.extend_from_slice(b"more");
        changed.put(&name, bytes);
        let report = verify_in(&changed).unwrap();
        // At the very end it is what a crash may leave, and said as that.
        assert!(!report.is_whole() || report.torn.is_some(), "{name}");
    }
}

#[test]
fn frames_exchanged_within_a_segment_or_cut_out_of_it_are_found() {
    let fs = log("log/1");
    let name = &segments(&fs)[0];
    let bytes = fs.bytes(name);
    let (_, start) = crate::segment::decode_header(&bytes).unwrap();
    let one = crate::segment::decode_frame(&bytes[start..]).unwrap().bytes;
    let two = crate::segment::decode_frame(&bytes[start + one.len()..]).unwrap().bytes;
    let rest = &bytes[start + one.len() + two.len()..];
    for (what, parts) in [
        ("exchanged", vec![&bytes[..start], two, one, rest]),
        ("cut out", vec![&bytes[..start], one, rest]),
        ("repeated", vec![&bytes[..start], one, two, two, rest]),
    ] {
        fs.put(name, parts.concat());
        assert_found(&fs, what);
    }
}

#[test]
fn a_record_written_differently_after_a_failure_is_two_histories() {
    use crate::sim::Fault;
    let fs = SimFs::default();
    let options = Options { segment_bytes: 100_000, ..Options::new("log/1") };
    let clock = Arc::new(Manual::at(1_000, 1));
    let (mut committer, _) = Committer::open(fs.clone(), clock, options).unwrap();
    fs.fail(0, Fault::EioButStored, false);
    committer.commit(&[&body(Kind::Intent, 1, None)]).unwrap();
    committer.close().unwrap();
    assert!(verify_in(&fs).unwrap().is_whole());
    // Put another, well-formed frame into the tail that does not count.
    let name = &segments(&fs)[0];
    let bytes = fs.bytes(name);
    let (_, start) = crate::segment::decode_header(&bytes).unwrap();
    let first = crate::segment::decode_frame(&bytes[start..]).unwrap();
    let keep = start + first.bytes.len();
    let other = crate::segment::encode_frame(1, 1, &first.hash(), &[0, 1, 9]).unwrap();
    fs.put(name, [&bytes[..keep], &other].concat());
    assert_codes(&fs, "another record in the tail", &[&codes::TWO_HISTORIES]);
}

#[test]
fn a_directory_that_is_not_there_is_an_error_and_not_a_whole_log() {
    let dir = tempfile::tempdir().unwrap();
    assert!(verify(&dir.path().join("none")).is_err());
    assert!(verify(dir.path()).unwrap().is_whole());
}

#[test]
fn a_live_log_is_read_up_to_its_last_whole_frame_and_from_any_record() {
    let fs = log("log/1");
    let seqs = |fs: &SimFs, from| -> Vec<u64> {
        let leaves = crate::search::leaves_in(fs).unwrap().starting_at(from);
        leaves.map(|found| found.unwrap().leaf.head.seq).collect()
    };
    for from in 0..=17 {
        assert_eq!(seqs(&fs, from), (from..17).collect::<Vec<_>>());
    }
    let last = segments(&fs).pop().unwrap();
    let mut bytes = fs.bytes(&last);
    bytes.truncate(bytes.len() - 1);
    fs.put(&last, bytes);
    assert_eq!(seqs(&fs, 0), (0..16).collect::<Vec<_>>());
}
