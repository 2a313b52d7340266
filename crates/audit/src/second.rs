//! Verification of the SM3 tree: the same leaves once more, by another hash function and under a
//! checkpoint of its own. Whoever finds a collision in one has still to find it in the other.

use std::io;
use std::ops::{ControlFlow, Range};

use moat_model::Code;
use moat_model::code::audit as codes;
use moat_tlog::checkpoint::SignedCheckpoint;
use moat_tlog::growth::Edge;
use moat_tlog::key::VerifierKey;
use moat_tlog::note::NOTE_BYTES_MAX;
use moat_tlog::policy::Policy;
use moat_tlog::sign::Verifier;
use moat_tlog::tile::Tile;
use moat_tlog::tree::TileReader as _;
use moat_tlog::{Frontier, Hash, Sm3, TreeHash as _};

use crate::entries::{each_leaf, removed_ranges};
use crate::evidence::{Against, Seen};
use crate::finding::Finding;
use crate::store::{Store, read_file};
use crate::tiles::{LogHash as _, Stored};

/// How many leaves are hashed together.
const LEAVES_AT_ONCE: usize = 64;

/// Holds the records against the SM3 tree, if the log has one. `records` were read well as the log
/// `log_id`.
pub(crate) fn verify_second(
    store: &impl Store,
    log_id: &str,
    records: u64,
    against: &Against<'_>,
    verifier: &impl Verifier,
    findings: &mut Vec<Finding>,
) -> io::Result<Option<Seen>> {
    let (policy, is_demanded) = (against.policy, against.is_sm3_demanded);
    let origin = format!("{log_id}{}", Sm3::ORIGIN);
    let mut find = |code: &'static Code, seq, text| {
        let segment = Sm3::CHECKPOINT.to_owned();
        findings.push(Finding { code, segment, offset: 0, seq, text });
    };
    let Some(bytes) = read_file(store, Sm3::CHECKPOINT, NOTE_BYTES_MAX + 1)? else {
        if is_demanded {
            let text = "the SM3 tree is asked for, and there is no checkpoint of it".to_owned();
            find(&codes::BAD_CHECKPOINT, None, text);
        }
        return Ok(None);
    };
    let signed = match SignedCheckpoint::parse(&bytes) {
        Ok(signed) => signed,
        Err(error) => {
            find(&codes::BAD_CHECKPOINT, None, error.to_string());
            return Ok(None);
        }
    };
    let checkpoint = signed.checkpoint();
    if checkpoint.origin() != origin {
        find(&codes::FOREIGN, None, format!("it is of the log {}", checkpoint.origin()));
        return Ok(None);
    }
    let mut seen = Seen {
        name: Sm3::CHECKPOINT.to_owned(),
        origin,
        size: checkpoint.size(),
        root: *checkpoint.root(),
        signed_by: Vec::new(),
        witnesses: Vec::new(),
        is_accepted: policy.is_none(),
        is_kept: false,
    };
    if let Some(policy) = policy {
        let keys = keys(policy, log_id, &seen.origin);
        match signed.note().verify(&keys, verifier) {
            Ok(by) if !by.is_empty() => {
                let id = |key: &VerifierKey| format!("{}+{}", key.name(), key.id());
                seen.is_accepted = true;
                seen.signed_by = by.iter().map(|signed| id(signed.key)).collect();
            }
            Ok(_) => {
                let text = "no key of the log signed the checkpoint".to_owned();
                find(&codes::BAD_CHECKPOINT, None, text);
                return Ok(None);
            }
            Err(error) => {
                find(&codes::BAD_CHECKPOINT, None, error.to_string());
                return Ok(None);
            }
        }
    }
    if seen.size > records {
        let text = format!("it has {} records, the log {records}", seen.size);
        find(&codes::LOG_CUT, Some(records), text);
        return Ok(Some(seen));
    }
    let mut pass = Pass::new(store, seen.size);
    pass.read()?;
    if pass.edge.root() == seen.root {
        if let Some(tile) = pass.bad_tile {
            let text =
                format!("{}{} is missing or not that of the records", Sm3::FOLDER, tile.path());
            find(&codes::BAD_TILE, Some(tile.first_leaf()), text);
        }
    } else {
        let (seq, text) = match pass.differs_at.filter(|_| pass.tiles.root() == seen.root) {
            Some(seq) => (seq, "the tiles that lead to its root have another hash".to_owned()),
            None => (0, format!("the {} records do not lead to its root", seen.size)),
        };
        find(&codes::NOT_WHAT_WAS_SIGNED, Some(seq), text);
    }
    Ok(Some(seen))
}

/// The keys of the log under the name of its SM3 tree. A policy cannot name them: tlog-policy takes
/// the same key under two names for a mistake. Witnesses do not know this tree.
fn keys(policy: &Policy, log_id: &str, origin: &str) -> Vec<VerifierKey> {
    let keys = policy.logs().filter(|(key, _)| key.name().as_str() == log_id);
    keys.filter_map(|(key, _)| key.renamed(origin).ok()).collect()
}

/// What is gathered while the records are read.
struct Pass<'s, S> {
    store: &'s S,
    size: u64,
    /// The tree over the records.
    edge: Edge<Sm3>,
    /// The tree over what the tiles of level 0 have, as far as they are whole.
    tiles: Frontier<Sm3>,
    differs_at: Option<u64>,
    bad_tile: Option<Tile>,
}

impl<'s, S: Store> Pass<'s, S> {
    fn new(store: &'s S, size: u64) -> Pass<'s, S> {
        let (edge, tiles) = (Edge::new(), Frontier::new());
        Pass { store, size, edge, tiles, differs_at: None, bad_tile: None }
    }

    fn read(&mut self) -> io::Result<()> {
        let mut from = 0;
        for removed in removed_ranges(self.store)? {
            let end = removed.end.min(self.size);
            self.read_leaves(from..removed.start.min(self.size))?;
            self.take_tiles(removed.start..end);
            from = end;
        }
        self.read_leaves(from..self.size)?;
        let partial: Vec<(Tile, Vec<u8>)> = self.edge.partial().collect();
        partial.iter().for_each(|(tile, bytes)| self.compare(*tile, bytes));
        Ok(())
    }

    /// Records that were removed are in the tree by their hashes alone.
    fn take_tiles(&mut self, range: Range<u64>) {
        let (mut full, mut here) = (Vec::new(), None::<(u64, Vec<Hash>)>);
        for seq in range {
            let index = seq / 256;
            if here.as_ref().is_none_or(|(at, _)| *at != index) {
                let Some(tile) = Tile::in_tree(0, index, self.size) else { return };
                let bytes = Stored::of::<Sm3>(self.store, self.size).read(tile);
                here = Some((index, tile.decode(&bytes.unwrap_or_default()).unwrap_or_default()));
            }
            let at = usize::try_from(seq % 256).unwrap_or(usize::MAX);
            // Without its hash the roots differ.
            let Some(hash) = here.as_ref().and_then(|(_, hashes)| hashes.get(at)) else { return };
            let _: Result<(), _> = self.edge.push(*hash, &mut full);
        }
        full.iter().for_each(|(tile, bytes)| self.compare(*tile, bytes));
    }

    fn read_leaves(&mut self, range: Range<u64>) -> io::Result<()> {
        let mut held: Vec<Vec<u8>> = Vec::with_capacity(LEAVES_AT_ONCE);
        // Records that are missing or unreadable are findings of the first tree.
        let read = each_leaf(self.store, range, |_, leaf| {
            held.push(leaf.to_vec());
            if held.len() >= LEAVES_AT_ONCE {
                self.push(&held);
                held.clear();
            }
            ControlFlow::Continue(())
        });
        match read {
            Err(error) if error.kind() != io::ErrorKind::InvalidData => return Err(error),
            _ => {}
        }
        self.push(&held);
        Ok(())
    }

    fn push(&mut self, leaves: &[Vec<u8>]) {
        let entries: Vec<&[u8]> = leaves.iter().map(Vec::as_slice).collect();
        let mut full = Vec::new();
        for hash in Sm3::leaves(&entries) {
            // Refused beyond 2^63 leaves only; then the roots differ.
            let _: Result<(), _> = self.edge.push(hash, &mut full);
        }
        full.iter().for_each(|(tile, bytes)| self.compare(*tile, bytes));
    }

    /// Compares a tile with the one on the disk.
    fn compare(&mut self, tile: Tile, bytes: &[u8]) {
        let stored = Stored::of::<Sm3>(self.store, self.size).read(tile).unwrap_or_default();
        if stored != bytes {
            self.bad_tile.get_or_insert(tile);
        }
        if tile.level() > 0 {
            return;
        }
        let hashes = |bytes: &[u8]| tile.decode(bytes).unwrap_or_default();
        let (theirs, ours): (Vec<Hash>, Vec<Hash>) = (hashes(&stored), hashes(bytes));
        let differs = theirs.iter().zip(&ours).position(|(theirs, ours)| theirs != ours);
        if let Some(at) = differs {
            let at = u64::try_from(at).unwrap_or(0);
            self.differs_at.get_or_insert(tile.first_leaf().saturating_add(at));
        }
        for hash in theirs {
            let _: Result<(), _> = self.tiles.push(hash);
        }
    }
}
