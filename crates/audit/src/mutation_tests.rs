//! Whatever is done to a file of a signed log is found and located; a log to which nothing was done is
//! never said to be changed.
//!
//! `MOAT_MUTATIONS` says how many mutations are made; the issue asks for a million.
#![allow(clippy::disallowed_methods, reason = "how many are made is told by the environment")]

use std::sync::Arc;

use moat_model::clock::Manual;
use moat_tlog::Sha256;
use moat_tlog::key::{Algorithm, KeyName, VerifierKey};
use moat_tlog::sign::{CannotSign, Signer, Sm};

use crate::committer::{Committer, Options};
use crate::evidence::{Against, Evidence, verify_evidence};
use crate::hash::sha256;
use crate::keep::{old_segments, seal};
use crate::packed::{PACKED_SUFFIX, Packed};
use crate::record::Body;
use crate::sealed::segment_of;
use crate::segment::parse_file_name;
use crate::sidecar::HEAD_FILE;
use crate::sim::SimFs;
use crate::store::read_start;
use crate::tree::{Home, LogTree};

const LOG: &str = "log.test/1";
/// How many are made unless more are asked for.
const MUTATIONS: u64 = 4_000;

struct Toy(VerifierKey);

impl Signer for Toy {
    fn key(&self) -> &VerifierKey {
        &self.0
    }

    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, CannotSign> {
        Ok(vec![7; 64])
    }
}

/// A signed log of some segments, two of them packed.
fn log() -> SimFs {
    let fs = SimFs::default();
    Home::new(fs.clone(), LOG).begin::<Sha256>().unwrap();
    let options = Options { segment_bytes: 3_000, ..Options::new(LOG) };
    let clock = Arc::new(Manual::at(1_000, 1));
    let (mut log, _) = Committer::open(fs.clone(), clock, options).unwrap();
    for n in 0..40 {
        log.commit(&[&Body::admin(format!("entry {n}")).encode().unwrap()]).unwrap();
    }
    let records = log.close().unwrap();
    let key = VerifierKey::new(KeyName::new(LOG).unwrap(), Algorithm::Ed25519, &[7; 32]).unwrap();
    let mut tree =
        LogTree::<_, Sha256>::open(Home::new(fs.clone(), LOG), records, &|| true).unwrap();
    tree.read_to(records, &|| true).unwrap();
    tree.publish(&[&Toy(key)]).unwrap();
    old_segments(&fs, records).unwrap().iter().take(2).for_each(|old| {
        seal(&fs, &old.name, &|| true).unwrap();
    });
    fs
}

/// Numbers that look like chance and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 += 1;
        let hash = sha256(&self.0.to_be_bytes());
        let number = hash.iter().take(8).fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
        (number % below.max(1) as u64) as usize
    }
}

/// One change of a file.
fn mutate(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let (at, len) = (dice.roll(out.len()), 1 + dice.roll(64));
    let end = (at + len).min(out.len());
    match dice.roll(8) {
        0 | 1 => out[at] ^= 1 << dice.roll(8),
        2 => out[at..end].fill(0),
        3 => drop(out.drain(at..end)),
        4 => out.truncate(at),
        5 => {
            let part = out[at..end].to_vec();
            out.splice(at..at, part);
        }
        6 => {
            let other = dice.roll(out.len() - (end - at) + 1);
            let part = out[at..end].to_vec();
            out[other..other + part.len()].copy_from_slice(&part);
        }
        _ => out[at] = out[at].wrapping_add(1 + dice.roll(255) as u8),
    }
    out
}

fn verify(fs: &SimFs) -> Evidence {
    verify_evidence(fs, &Against::default(), &Sm).unwrap()
}

/// What a packed file unpacks to, if it does.
fn unpacked(bytes: &[u8]) -> Option<Vec<u8>> {
    let packed = Packed::open(bytes.to_vec()).ok()?;
    read_start(&packed, 1 << 20).ok()
}

#[test]
fn every_mutation_of_a_signed_log_is_found_and_located_and_a_clean_one_never_is() {
    let count = std::env::var("MOAT_MUTATIONS").ok().and_then(|count| count.parse().ok());
    let (fs, mut dice) = (log(), Dice(0));
    assert!(verify(&fs).is_good(), "{}", verify(&fs).text());
    let names: Vec<String> = fs
        .names()
        .into_iter()
        .filter(|name| name.contains(".seg") || name.starts_with("tile/") || name == HEAD_FILE)
        .collect();
    let last = names.iter().filter(|name| name.ends_with(".seg")).max().cloned();
    let records = verify(&fs).report.records;
    let (mut found, mut same) = (0u64, 0u64);
    while found < count.unwrap_or(MUTATIONS) {
        let name = &names[dice.roll(names.len())];
        let good = fs.take(name);
        let changed = mutate(&good, &mut dice);
        let is_same = changed == good
            || (name.ends_with(PACKED_SUFFIX) && unpacked(&changed) == unpacked(&good));
        let first_at = good.iter().zip(&changed).position(|(a, b)| a != b);
        let shape = (good.len(), changed.len(), first_at.unwrap_or(good.len().min(changed.len())));
        fs.put(name, changed);
        let evidence = verify(&fs);
        fs.put(name, good);
        // Bytes behind the last record are what a power cut leaves of one that nobody was told of.
        let is_tail = Some(name) == last.as_ref() && shape.0 < shape.1 && shape.2 == shape.0;
        if is_tail && evidence.is_good() {
            assert_eq!(evidence.report.records, records, "{name}: {}", evidence.text());
            same += 1;
            continue;
        }
        if is_same {
            assert!(evidence.is_good(), "{name}: {}", evidence.text());
            same += 1;
            continue;
        }
        assert!(!evidence.is_good(), "{name} was changed, {shape:?}, and it is not found");
        let kept = evidence.report.findings.kept();
        let segment = segment_of(name);
        let is_located = kept.iter().any(|one| {
            one.segment == segment || (name.starts_with("tile/") && one.segment.contains("tile"))
        });
        // Of a segment whose header is gone the next one is the first that can be named.
        let is_beside =
            name.contains(".seg") && kept.iter().any(|one| one.segment.contains(".seg"));
        // A tail that looks torn, or never begun, is located by the first record that is gone.
        let first = parse_file_name(segment).map(|(first, _)| first);
        let is_torn = first
            .is_some_and(|first| kept.iter().any(|one| one.seq.is_some_and(|seq| seq >= first)));
        let is_head = name == HEAD_FILE && kept.iter().any(|one| one.segment == HEAD_FILE);
        assert!(is_located || is_beside || is_torn || is_head, "{name}: {}", evidence.text());
        found += 1;
        if found.is_multiple_of(1_000) {
            assert!(verify(&fs).is_good(), "a false alarm after {found}");
        }
    }
    assert!(same < found, "{same} changed nothing");
}
