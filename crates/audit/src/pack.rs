//! Evidence packs: records with a proof of each, in one folder, for somebody who has nothing else.
//!
//! `pack` lists what must be there, so that a pack from which something was taken is not taken for a
//! whole one. It is no evidence itself: each record is proven by its own file.

use std::fmt::Write as _;
use std::io;

use moat_tlog::logproof::{FILE_BYTES_MAX, LogProof, LogProofError};
use moat_tlog::policy::Policy;
use moat_tlog::sign::Verifier;
use moat_tlog::tile::ENTRY_BYTES_MAX;
use moat_tlog::{Hash, Sha256};

use crate::hash::{hex, leaf_hash};
use crate::record::{Leaf, decode_leaf};
use crate::store::{Store, read_file};

/// Name of the list.
pub const LIST_FILE: &str = "pack";
/// Its first line.
const FIRST_LINE: &str = "moat/pack@v1";
/// Most records of a pack.
pub const RECORDS_MAX: usize = 100_000;
/// Longest list, in bytes.
const LIST_BYTES_MAX: usize = RECORDS_MAX * 96 + 1_024;

/// One record of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Its number.
    pub seq: u64,
    /// Its leaf hash.
    pub hash: Hash,
    /// Whether the record itself is in the pack.
    pub has_entry: bool,
}

impl Packed {
    /// Name of the file with its bytes.
    #[must_use]
    pub fn entry_file(seq: u64) -> String {
        format!("record-{seq}.entry")
    }

    /// Name of the file with its proof.
    #[must_use]
    pub fn proof_file(seq: u64) -> String {
        format!("record-{seq}.tlog-proof")
    }
}

/// The list of a pack of records of one log.
#[must_use]
pub fn encode_list(origin: &str, records: &[Packed]) -> String {
    let mut text = format!("{FIRST_LINE}\n{origin}\n");
    for record in records {
        let what = if record.has_entry { "entry" } else { "removed" };
        // Writing into a text does not fail.
        let _: std::fmt::Result = writeln!(text, "{} {} {what}", record.seq, hex(&record.hash));
    }
    text
}

/// Reads a list; `None` if it is none, or is spelt otherwise than one is written.
#[must_use]
pub fn decode_list(text: &str) -> Option<(String, Vec<Packed>)> {
    let mut lines = text.strip_suffix('\n')?.split('\n');
    if lines.next() != Some(FIRST_LINE) {
        return None;
    }
    let origin = lines.next()?.to_owned();
    let mut records: Vec<Packed> = Vec::new();
    for line in lines {
        let mut parts = line.split(' ');
        let (seq, hash, what) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
        let hash = data_encoding::HEXLOWER.decode(hash.as_bytes()).ok()?.try_into().ok()?;
        let has_entry = match what {
            "entry" => true,
            "removed" => false,
            _ => return None,
        };
        if records.len() >= RECORDS_MAX || records.last().is_some_and(|last| last.seq >= seq) {
            return None;
        }
        records.push(Packed { seq, hash, has_entry });
    }
    (encode_list(&origin, &records) == text).then_some((origin, records))
}

/// What one record of a pack came to.
#[derive(Debug)]
pub enum Verdict {
    /// It is proven, and here it is.
    Proven(Box<Leaf>),
    /// Its hash is proven; the record was removed before the pack was made.
    HashOnly,
    /// It is not what it says.
    Wrong(String),
}

/// What a pack came to.
#[derive(Debug)]
pub struct Checked {
    /// The log.
    pub origin: String,
    /// Each record with its verdict.
    pub records: Vec<(u64, Verdict)>,
}

impl Checked {
    /// Whether everything is proven that the list names.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.records.iter().all(|(_, verdict)| !matches!(verdict, Verdict::Wrong(_)))
    }

    /// The first record that is not.
    #[must_use]
    pub fn first_wrong(&self) -> Option<(u64, &str)> {
        self.records.iter().find_map(|(seq, verdict)| match verdict {
            Verdict::Wrong(why) => Some((*seq, why.as_str())),
            _ => None,
        })
    }
}

/// Verifies a pack: every record that the list names, by its own proof and the caller's policy.
///
/// # Errors
/// What the system says, and `InvalidData` when there is no list.
pub fn check_pack(
    store: &impl Store,
    policy: &Policy,
    verifier: &impl Verifier,
) -> io::Result<Checked> {
    let list = read_file(store, LIST_FILE, LIST_BYTES_MAX + 1)?;
    let list = list.and_then(|bytes| decode_list(&String::from_utf8(bytes).ok()?));
    let Some((origin, records)) = list else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the folder has no list of a pack"));
    };
    let mut checked = Checked { origin, records: Vec::new() };
    for record in records {
        let verdict = check_one(store, &checked.origin, &record, policy, verifier)?;
        checked.records.push((record.seq, verdict));
    }
    Ok(checked)
}

fn check_one(
    store: &impl Store,
    origin: &str,
    record: &Packed,
    policy: &Policy,
    verifier: &impl Verifier,
) -> io::Result<Verdict> {
    let wrong = |why: &str| Ok(Verdict::Wrong(why.to_owned()));
    let Some(proof) = read_file(store, &Packed::proof_file(record.seq), FILE_BYTES_MAX + 1)? else {
        return wrong("its proof is not there");
    };
    let proven: Result<LogProof, LogProofError> = LogProof::parse(&proof).and_then(|proof| {
        proof.verify::<Sha256>(&record.hash, policy, verifier)?;
        Ok(proof)
    });
    match proven {
        Err(error) => return Ok(Verdict::Wrong(error.to_string())),
        Ok(proof) if proof.index() != record.seq => return wrong("its proof is of another record"),
        Ok(proof) if proof.signed().checkpoint().origin() != origin => {
            return wrong("its proof is of another log");
        }
        Ok(_) => {}
    }
    if !record.has_entry {
        return Ok(Verdict::HashOnly);
    }
    let entry = read_file(store, &Packed::entry_file(record.seq), ENTRY_BYTES_MAX + 1)?;
    let Some(entry) = entry else { return wrong("the record is not there") };
    if leaf_hash(&entry) != record.hash {
        return wrong("the record is not the one that is proven");
    }
    match decode_leaf(&entry) {
        Ok(leaf) if leaf.head.seq == record.seq => Ok(Verdict::Proven(Box::new(leaf))),
        Ok(_) => wrong("the record says that it is another one"),
        Err(error) => Ok(Verdict::Wrong(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_one_spelling() {
        let record = |seq, has_entry| Packed { seq, hash: [7; 32], has_entry };
        let text = encode_list("log.test/1", &[record(0, true), record(7, false)]);
        let (origin, records) = decode_list(&text).unwrap();
        assert_eq!((origin.as_str(), records.len()), ("log.test/1", 2));
        assert!(records[0].has_entry && !records[1].has_entry);
        for cut in 0..text.len() {
            let Some((_, found)) = decode_list(&text[..cut]) else { continue };
            assert!(found.len() < 2, "{cut}");
        }
        for (from, to) in [("entry", "Entry"), ("7 07", "07 07"), ("\n7 ", "\n0 "), ("v1", "v2")] {
            assert!(decode_list(&text.replacen(from, to, 1)).is_none(), "{from}");
        }
    }
}
