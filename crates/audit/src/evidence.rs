//! Verification against what was signed: the log's own checkpoint and tiles, checkpoints that
//! somebody else kept, and copies of the tiles.
//!
//! [`crate::verify`] alone believes whoever can write the folder. Here the bytes are held against
//! words that he cannot take back. Signatures are checked by the caller's arithmetic, and whose
//! they must be is the caller's policy.

use std::collections::BTreeMap;
use std::io;

use moat_model::Code;
use moat_model::code::audit as codes;
use moat_tlog::Sha256;
use moat_tlog::checkpoint::SignedCheckpoint;
use moat_tlog::growth::Edge;
use moat_tlog::note::NOTE_BYTES_MAX;
use moat_tlog::policy::Policy;
use moat_tlog::sign::Verifier;
use moat_tlog::tile::Tile;
use moat_tlog::tree::TileReader;

use crate::check::{From, check_bundles, check_with};
use crate::finding::Finding;
use crate::hash::Hash;
use crate::merkle::Frontier;
use crate::second::verify_second;
use crate::store::{Dir, Store, read_file, segment_names};
use crate::tiles::{CHECKPOINT_FILE, Stored, WITNESSED_FILE};
use crate::verify::{Report, report};

/// Most checkpoints and copies that a log is held against.
pub const AGAINST_MAX: usize = 1_000;

/// A checkpoint that somebody kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Where it is from, for people.
    pub name: String,
    /// The note.
    pub bytes: Vec<u8>,
}

/// A copy of the tiles, with the checkpoint under which they were copied.
#[derive(Clone, Debug)]
pub struct Copied {
    /// Where it is, for people.
    pub name: String,
    /// The folder that has `checkpoint` and `tile/`.
    pub dir: Dir,
}

/// What a log is held against, beside its own checkpoint and tiles.
#[derive(Default)]
pub struct Against<'p> {
    /// Whom to believe. Without one no signature is looked at.
    pub policy: Option<&'p Policy>,
    /// Checkpoints.
    pub kept: Vec<Kept>,
    /// Copies of tiles.
    pub copies: Vec<Copied>,
    /// Whether a log without an SM3 tree is not accepted.
    pub is_sm3_demanded: bool,
}

/// A checkpoint that the log was held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where it is from.
    pub name: String,
    /// Which log.
    pub origin: String,
    /// How many records.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// The keys that signed, as far as the policy knows them; empty without a policy.
    pub signed_by: Vec<String>,
    /// The witnesses that cosigned, likewise.
    pub witnesses: Vec<String>,
    /// Whether the policy accepts it; true without a policy.
    pub is_accepted: bool,
}

/// What was found.
#[derive(Debug)]
pub struct Evidence {
    /// Of the log itself, with what its checkpoints and tiles convict it of.
    pub report: Report,
    /// The checkpoints, smallest first.
    pub seen: Vec<Seen>,
    /// Records that an accepted checkpoint covers; those after it are only chained.
    pub covered: u64,
    /// The checkpoint of the SM3 tree, if the log has one.
    pub second: Option<Seen>,
    /// Whether signatures were looked at.
    pub is_checked: bool,
    /// Whether the entries were read from segments, or from bundles.
    pub has_segments: bool,
}

/// Verifies a log, or a tree of tiles and entry bundles, and holds it against what was signed.
///
/// # Errors
/// When a file cannot be read; what is read and wrong is a finding.
pub fn verify_evidence(
    store: &impl Store,
    against: &Against<'_>,
    verifier: &impl Verifier,
) -> io::Result<Evidence> {
    let mut findings = Vec::new();
    let mut seen = Vec::new();
    let own = read_file(store, CHECKPOINT_FILE, NOTE_BYTES_MAX + 1)?;
    let own = own.map(|bytes| Kept { name: CHECKPOINT_FILE.to_owned(), bytes });
    let own = own.and_then(|kept| look(&kept, against.policy, verifier, &mut findings));
    seen.extend(own.clone());
    if let Some(bytes) = read_file(store, WITNESSED_FILE, NOTE_BYTES_MAX + 1)? {
        let kept = Kept { name: WITNESSED_FILE.to_owned(), bytes };
        seen.extend(look(&kept, against.policy, verifier, &mut findings));
    }
    for kept in against.kept.iter().take(AGAINST_MAX) {
        let found = look(kept, against.policy, verifier, &mut findings);
        if let Some(refused) = found.as_ref().filter(|seen| !seen.is_accepted) {
            let text = "the policy does not accept it".to_owned();
            findings.push(finding(&codes::BAD_CHECKPOINT, &refused.name, None, text));
        }
        seen.extend(found);
    }
    let mut sources = vec![Source::new(CHECKPOINT_FILE, store, own.as_ref())];
    for copy in against.copies.iter().take(AGAINST_MAX) {
        let name = format!("{}/{CHECKPOINT_FILE}", copy.name);
        let Some(bytes) = read_file(&copy.dir, CHECKPOINT_FILE, NOTE_BYTES_MAX + 1)? else {
            let text = "the copy has no checkpoint".to_owned();
            findings.push(finding(&codes::BAD_CHECKPOINT, &name, None, text));
            continue;
        };
        let found = look(&Kept { name, bytes }, against.policy, verifier, &mut findings);
        sources.push(Source::new(&copy.name, &copy.dir, found.as_ref()));
        seen.extend(found);
    }
    seen.sort_by_key(|seen| seen.size);

    let mut watch = Watch::new(&seen, own.as_ref(), store, sources);
    let mut show = |seq, hash: &Hash, tree: &Frontier| watch.see(seq, hash, tree);
    let has_segments = !segment_names(store)?.is_empty();
    let checked = match &own {
        Some(own) if !has_segments => check_bundles(store, &own.origin, own.size, &mut show)?,
        _ => check_with(store, From::Start, &mut show)?,
    };
    let mut report = report(checked);
    if !has_segments && let Some(own) = &own {
        report.log_id = Some(own.origin.clone());
    }
    let covered = watch.judge(&seen, &report, &mut findings)?;
    let is_signed = seen.iter().any(|seen| seen.is_accepted);
    if against.policy.is_some() && !is_signed && report.records > 0 {
        let text = "no checkpoint of this log is one that the policy accepts".to_owned();
        findings.push(finding(&codes::BAD_CHECKPOINT, CHECKPOINT_FILE, None, text));
    }
    let second = match &report.log_id {
        // The bundles of a copy are not read twice: the copy has no SM3 tree.
        Some(id) if has_segments => {
            verify_second(store, id, report.records, against, verifier, &mut findings)?
        }
        _ => None,
    };
    report.findings.extend(findings);
    let is_checked = against.policy.is_some();
    Ok(Evidence { report, seen, covered, second, is_checked, has_segments })
}

fn finding(code: &'static Code, file: &str, seq: Option<u64>, text: String) -> Finding {
    Finding { code, segment: file.to_owned(), offset: 0, seq, text }
}

/// Reads a checkpoint and asks the policy. One that is none, or in whose name somebody else signed,
/// is a finding and is not seen.
fn look(
    kept: &Kept,
    policy: Option<&Policy>,
    verifier: &impl Verifier,
    findings: &mut Vec<Finding>,
) -> Option<Seen> {
    let bad = |text| finding(&codes::BAD_CHECKPOINT, &kept.name, None, text);
    let signed = match SignedCheckpoint::parse(&kept.bytes) {
        Ok(signed) => signed,
        Err(error) => {
            findings.push(bad(error.to_string()));
            return None;
        }
    };
    let checkpoint = signed.checkpoint();
    let mut seen = Seen {
        name: kept.name.clone(),
        origin: checkpoint.origin().to_owned(),
        size: checkpoint.size(),
        root: *checkpoint.root(),
        signed_by: Vec::new(),
        witnesses: Vec::new(),
        is_accepted: policy.is_none(),
    };
    let Some(policy) = policy else { return Some(seen) };
    match policy.accept(&signed, verifier) {
        Ok(accepted) => {
            seen.is_accepted = true;
            let id = |key: &moat_tlog::key::VerifierKey| format!("{}+{}", key.name(), key.id());
            seen.signed_by = accepted.logs.iter().map(|key| id(key)).collect();
            seen.witnesses = accepted.witnesses.iter().map(|(key, _)| id(key)).collect();
            Some(seen)
        }
        // Signed, and not yet witnessed by enough: no lie, and no evidence.
        Err(moat_tlog::policy::PolicyError::Quorum { .. }) => Some(seen),
        Err(error) => {
            findings.push(bad(error.to_string()));
            None
        }
    }
}

/// Tiles of level 0 beside the records, and where the two part.
struct Source<'s> {
    name: String,
    size: u64,
    root: Hash,
    is_accepted: bool,
    reader: Box<dyn TileReader<Error = io::Error> + 's>,
    /// The tile that was read last, by its index.
    here: Option<(u64, Vec<Hash>)>,
    differs_at: Option<u64>,
}

impl<'s> Source<'s> {
    fn new<S: Store>(name: &str, store: &'s S, seen: Option<&Seen>) -> Source<'s> {
        let size = seen.map_or(0, |seen| seen.size);
        Source {
            name: name.to_owned(),
            size,
            root: seen.map_or([0; 32], |seen| seen.root),
            is_accepted: seen.is_some_and(|seen| seen.is_accepted),
            reader: Box::new(Stored::new(store, size)),
            here: None,
            differs_at: None,
        }
    }

    /// The hash that the tiles have for a record; `None` if they have none that can be read.
    fn hash(&mut self, seq: u64) -> Option<Hash> {
        let index = seq / 256;
        if self.here.as_ref().is_none_or(|(here, _)| *here != index) {
            let tile = Tile::in_tree(0, index, self.size)?;
            let bytes = self.reader.read(tile).ok()?;
            self.here = Some((index, tile.decode(&bytes).ok()?));
        }
        let at = usize::try_from(seq % 256).ok()?;
        self.here.as_ref().and_then(|(_, hashes)| hashes.get(at).copied())
    }

    fn compare(&mut self, seq: u64, hash: &Hash) {
        if seq < self.size && self.differs_at.is_none() && self.hash(seq).as_ref() != Some(hash) {
            self.differs_at = Some(seq);
        }
    }

    /// Whether its tiles of level 0 lead to its checkpoint's root: then they are what was signed.
    fn is_authentic(&mut self) -> bool {
        let mut tree = moat_tlog::Frontier::<Sha256>::new();
        while tree.size() < self.size {
            let Some(hash) = self.hash(tree.size()) else { return false };
            if tree.push(hash).is_err() {
                return false;
            }
        }
        tree.root() == self.root
    }
}

/// What is gathered while the records are read.
struct Watch<'s, S> {
    store: &'s S,
    /// The roots at the sizes of the checkpoints.
    roots: BTreeMap<u64, Option<Hash>>,
    /// The tree up to the log's own checkpoint, to compare every tile with.
    edge: Edge<Sha256>,
    own_size: u64,
    full: Vec<(Tile, Vec<u8>)>,
    bad_tile: Option<Tile>,
    bad_tiles: u64,
    sources: Vec<Source<'s>>,
}

impl<'s, S: Store> Watch<'s, S> {
    fn new(
        seen: &[Seen],
        own: Option<&Seen>,
        store: &'s S,
        sources: Vec<Source<'s>>,
    ) -> Watch<'s, S> {
        Watch {
            store,
            roots: seen.iter().map(|seen| (seen.size, None)).collect(),
            edge: Edge::new(),
            own_size: own.map_or(0, |own| own.size),
            full: Vec::new(),
            bad_tile: None,
            bad_tiles: 0,
            sources,
        }
    }

    fn see(&mut self, seq: u64, hash: &Hash, tree: &Frontier) {
        if let Some(root) = self.roots.get_mut(&(seq + 1)) {
            *root = Some(tree.root());
        }
        for source in &mut self.sources {
            source.compare(seq, hash);
        }
        if seq < self.own_size && self.edge.size() == seq {
            let mut full = std::mem::take(&mut self.full);
            // Refused beyond 2^63 leaves only.
            if self.edge.push(*hash, &mut full).is_ok() && self.edge.size() == self.own_size {
                full.extend(self.edge.partial());
            }
            full.drain(..).for_each(|(tile, bytes)| self.tile(tile, &bytes));
            self.full = full;
        }
    }

    /// Compares a tile with the one on the disk.
    fn tile(&mut self, tile: Tile, bytes: &[u8]) {
        let found = Stored::new(self.store, self.own_size).read(tile);
        if found.ok().as_deref() != Some(bytes) {
            self.bad_tiles += 1;
            self.bad_tile.get_or_insert(tile);
        }
    }

    /// Says what the checkpoints convict the records of, and how many records are covered.
    fn judge(
        &mut self,
        seen: &[Seen],
        report: &Report,
        findings: &mut Vec<Finding>,
    ) -> io::Result<u64> {
        let (mut covered, mut wrong) = (0, None);
        for one in seen {
            if report.log_id.as_ref().is_some_and(|log_id| *log_id != one.origin) {
                let text = format!("it is of the log {}", one.origin);
                findings.push(finding(&codes::FOREIGN, &one.name, None, text));
                continue;
            }
            let root = match one.size {
                0 => Some(Frontier::default().root()),
                size => self.roots.get(&size).copied().flatten(),
            };
            match root {
                None => {
                    let text = format!("it has {} records, the log {}", one.size, report.records);
                    let at = Some(report.records);
                    findings.push(finding(&codes::LOG_CUT, &one.name, at, text));
                    wrong = wrong.or(Some((one, covered)));
                }
                Some(root) if root == one.root => {
                    if one.is_accepted && wrong.is_none() {
                        covered = one.size;
                    }
                }
                Some(_) => wrong = wrong.or(Some((one, covered))),
            }
        }
        match wrong {
            Some((one, good)) => self.convict(one, good, report.records, findings),
            None => self.blame_tiles(findings),
        }
        Ok(covered)
    }

    /// The records are not those that were signed: which is the first?
    fn convict(&mut self, one: &Seen, good: u64, records: u64, findings: &mut Vec<Finding>) {
        let mut named = None;
        for source in self.sources.iter_mut().filter(|source| source.is_accepted) {
            if source.differs_at.is_some() && source.is_authentic() {
                let seq = source.differs_at;
                if named.as_ref().is_none_or(|(before, _)| seq < *before) {
                    named = Some((seq, source.name.clone()));
                }
            }
        }
        let (seq, text) = match named {
            Some((seq, name)) => (
                seq,
                format!("the tiles under {name}, which lead to its signed root, have another hash"),
            ),
            // A log that was cut has said so already.
            None if one.size > records => return,
            None => (
                Some(good),
                format!(
                    "one of the records {good} to {} is another than the {} records that {} has; \
                     a copy of the tiles names it",
                    one.size.saturating_sub(1),
                    one.size,
                    one.name
                ),
            ),
        };
        findings.push(finding(&codes::NOT_WHAT_WAS_SIGNED, &one.name, seq, text));
    }

    /// The records are right: then the tiles must be theirs.
    fn blame_tiles(&mut self, findings: &mut Vec<Finding>) {
        if let Some(tile) = self.bad_tile {
            let text = format!("{} tiles are missing or not those of the records", self.bad_tiles);
            let at = Some(tile.first_leaf());
            findings.push(finding(&codes::BAD_TILE, &tile.path(), at, text));
        }
    }
}
