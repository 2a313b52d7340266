//! Verification against what was signed: the log's own checkpoint and tiles, checkpoints that
//! somebody else kept, and copies of the tiles.
//!
//! [`crate::verify`] alone believes whoever can write the folder. Here the bytes are held against
//! words that he cannot take back. Signatures are checked by the caller's arithmetic, and whose
//! they must be is the caller's policy.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use moat_model::Code;
use moat_model::code::audit as codes;
use moat_tlog::Sha256;
use moat_tlog::checkpoint::{Checkpoint, SignedCheckpoint};
use moat_tlog::growth::Edge;
use moat_tlog::note::NOTE_BYTES_MAX;
use moat_tlog::policy::Policy;
use moat_tlog::sign::Verifier;
use moat_tlog::tile::Tile;
use moat_tlog::tree::TileReader;

use crate::check::{From, Watch, check_bundles, check_with};
use crate::finding::Finding;
use crate::hash::{Hash, hex};
use crate::merkle::Frontier;
use crate::second::verify_second;
use crate::store::{Dir, Store, read_file, segment_names};
use crate::tiles::{CHECKPOINT_FILE, SIGNED_FILE, Stored, WITNESSED_FILE};
use crate::verify::{Report, report};

/// How many records of a log that runs may be under no checkpoint, unless the caller says otherwise:
/// after so many the auditor signs one. Of a log that was stopped, or of an export, none may.
pub const UNSIGNED_RECORDS_MAX: u64 = 10_000;

/// What the log's own tiles are called, for people.
const OWN_TILES: &str = "tile";

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
    /// Which log it must be; any that the policy knows without one.
    pub origin: Option<&'p str>,
    /// How many records may be under no accepted checkpoint; see [`UNSIGNED_RECORDS_MAX`].
    pub unsigned_max: Option<u64>,
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
    /// Whether somebody kept it, apart from the log's own folder.
    pub is_kept: bool,
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
    /// How many are not covered.
    pub unsigned: u64,
    /// How many of those there may be; none without a policy.
    pub unsigned_max: Option<u64>,
    /// The checkpoint of the SM3 tree, if the log has one.
    pub second: Option<Seen>,
    /// Whether signatures were looked at.
    pub is_checked: bool,
    /// Whether the entries were read from segments, or from bundles.
    pub has_segments: bool,
}

impl Evidence {
    /// Whether nothing was found, and the records are signed as far as they must be.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.report.is_whole() && !self.is_tail_unsigned()
    }

    /// Whether too many records are under no accepted checkpoint: whoever can write the folder may
    /// have written them.
    #[must_use]
    pub fn is_tail_unsigned(&self) -> bool {
        self.unsigned_max.is_some_and(|max| self.unsigned > max)
    }
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
    // Before anything else: in a live log it may only be behind what is read later.
    let noted = noted(store, &mut findings)?;
    let (own, mut seen) = own_checkpoints(store, against.policy, verifier, &mut findings)?;
    // The last one of those may still wait for its witnesses; then the tiles go by the other.
    let own_source = seen.iter().find(|seen| seen.is_accepted).cloned();
    for kept in &against.kept {
        let found = look(kept, true, against.policy, verifier, &mut findings);
        if let Some(refused) = found.as_ref().filter(|seen| !seen.is_accepted) {
            let text = "the policy does not accept it".to_owned();
            findings.push(finding(&codes::BAD_CHECKPOINT, &refused.name, None, text));
        }
        seen.extend(found);
    }
    let mut sources = vec![Source::new(OWN_TILES, store, own_source.as_ref())];
    for copy in &against.copies {
        let name = format!("{}/{CHECKPOINT_FILE}", copy.name);
        let Some(bytes) = read_file(&copy.dir, CHECKPOINT_FILE, NOTE_BYTES_MAX + 1)? else {
            let text = "the copy has no checkpoint".to_owned();
            findings.push(finding(&codes::BAD_CHECKPOINT, &name, None, text));
            continue;
        };
        let found = look(&Kept { name, bytes }, true, against.policy, verifier, &mut findings);
        sources.push(Source::new(&copy.name, &copy.dir, found.as_ref()));
        seen.extend(found);
    }
    seen.sort_by_key(|seen| seen.size);

    let mut watch = Beside::new(&seen, own.as_ref(), noted, store, sources);
    let has_segments = !segment_names(store)?.is_empty();
    let checked = match &own {
        Some(own) if !has_segments => check_bundles(store, &own.origin, own.size, &mut watch)?,
        _ => check_with(store, From::Start, &mut watch)?,
    };
    let mut report = report(checked);
    if !has_segments && let Some(own) = &own {
        report.log_id = Some(own.origin.clone());
    }
    if !report.removed.is_empty() && watch.edge.size() == report.records {
        report.root = watch.edge.root();
    }
    let (covered, mut verdict) = watch.judge(&seen, &report);
    verdict.extend(findings);
    verdict.extend(other_log(&report, against.origin));
    let is_signed = seen.iter().any(|seen| seen.is_accepted);
    if against.policy.is_some() && !is_signed {
        let text = "no checkpoint of this log is one that the policy accepts".to_owned();
        verdict.push(finding(&codes::BAD_CHECKPOINT, CHECKPOINT_FILE, None, text));
    }
    let is_ended = !has_segments || report.is_stopped;
    let usual = if is_ended { 0 } else { UNSIGNED_RECORDS_MAX };
    let second = match &report.log_id {
        // The bundles of a copy are not read twice: the copy has no SM3 tree.
        Some(id) if has_segments => {
            verify_second(store, id, report.records, against, verifier, &mut verdict)?
        }
        _ => None,
    };
    report.findings.prepend(verdict);
    Ok(Evidence {
        second,
        unsigned: report.records.saturating_sub(covered),
        unsigned_max: against.policy.map(|_| against.unsigned_max.unwrap_or(usual)),
        is_checked: against.policy.is_some(),
        report,
        seen,
        covered,
        has_segments,
    })
}

/// The log's own checkpoints: its last, and all of them.
fn own_checkpoints(
    store: &impl Store,
    policy: Option<&Policy>,
    verifier: &impl Verifier,
    findings: &mut Vec<Finding>,
) -> io::Result<(Option<Seen>, Vec<Seen>)> {
    let mut own = Vec::new();
    for name in [CHECKPOINT_FILE, WITNESSED_FILE] {
        let bytes = read_file(store, name, NOTE_BYTES_MAX + 1)?;
        let kept = bytes.map(|bytes| Kept { name: name.to_owned(), bytes });
        own.extend(kept.and_then(|kept| look(&kept, false, policy, verifier, findings)));
    }
    let last = own.first().filter(|seen| seen.name == CHECKPOINT_FILE);
    Ok((last.cloned(), own))
}

/// What the auditor noted before it signed: unsigned, and no less than what it signed.
fn noted(store: &impl Store, findings: &mut Vec<Finding>) -> io::Result<Option<Checkpoint>> {
    let Some(bytes) = read_file(store, SIGNED_FILE, NOTE_BYTES_MAX + 1)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes);
    let noted = Checkpoint::parse(&text);
    if let Err(error) = &noted {
        findings.push(finding(&codes::BAD_CHECKPOINT, SIGNED_FILE, None, error.to_string()));
    }
    Ok(noted.ok())
}

/// Finds that it is not the log that was asked for.
fn other_log(report: &Report, origin: Option<&str>) -> Option<Finding> {
    let (found, wanted) = (report.log_id.as_deref()?, origin?);
    let text = format!("it is the log {found}, not {wanted}");
    (found != wanted).then(|| finding(&codes::FOREIGN, "log", None, text))
}

fn finding(code: &'static Code, file: &str, seq: Option<u64>, text: String) -> Finding {
    Finding { code, segment: file.to_owned(), offset: 0, seq, text }
}

/// Reads a checkpoint and asks the policy. One that is none, or in whose name somebody else signed,
/// is a finding and is not seen.
fn look(
    kept: &Kept,
    is_kept: bool,
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
        is_kept,
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

    /// Where it parts from the records, if its tiles are what was signed.
    fn convicts(&mut self) -> Option<u64> {
        let differs_at = self.differs_at.filter(|_| self.is_accepted)?;
        self.is_authentic().then_some(differs_at)
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
struct Beside<'s, S> {
    store: &'s S,
    /// The roots at the sizes of the checkpoints.
    roots: BTreeMap<u64, Option<Hash>>,
    /// The tree of the records that were seen, from the first one on. What headers and footers say
    /// of it is not believed. It ends at the first record that is missing.
    edge: Edge<Sha256>,
    own_size: u64,
    noted: Option<Checkpoint>,
    full: Vec<(Tile, Vec<u8>)>,
    bad_tile: Option<Tile>,
    bad_tiles: u64,
    /// Of records that were removed: the first of which no tile has the hash, and the first behind
    /// which the tiles lead to another tree than the next segment's header.
    bad_skip: Option<(u64, &'static str)>,
    sources: Vec<Source<'s>>,
}

/// How the checkpoints stand to the records.
#[derive(Default)]
struct Standing<'a> {
    /// Those with the root of the records, smallest first.
    matched: Vec<&'a Seen>,
    /// Those with another.
    wrong: Vec<&'a Seen>,
    /// Those with more records than there are.
    longer: Vec<&'a Seen>,
}

impl Standing<'_> {
    /// Up to where the records are what was signed.
    ///
    /// Where a checkpoint that somebody kept is contradicted, the log's own ones prove nothing:
    /// whoever made the other history signed them.
    fn covered(&self) -> u64 {
        let contradicted = || self.wrong.iter().chain(&self.longer);
        let is_kept_contradicted = contradicted().any(|seen| seen.is_kept);
        let end = contradicted().map(|seen| seen.size).min().unwrap_or(u64::MAX);
        let proves = |seen: &&&Seen| {
            seen.is_accepted && (seen.is_kept || !is_kept_contradicted) && seen.size < end
        };
        self.matched.iter().filter(proves).map(|seen| seen.size).max().unwrap_or(0)
    }

    /// Two accepted checkpoints that no one log can have.
    fn fork(&self) -> Option<(&Seen, &Seen)> {
        self.wrong.iter().filter(|wrong| wrong.is_accepted).find_map(|wrong| {
            let others = self.matched.iter().chain(&self.wrong).filter(|other| other.is_accepted);
            let contradicts = |other: &&Seen| {
                let is_twin = other.size == wrong.size && other.root != wrong.root;
                let is_matched = self.matched.iter().any(|matched| std::ptr::eq(*matched, *other));
                is_twin || (is_matched && other.size > wrong.size)
            };
            others.copied().find(contradicts).map(|other| (*wrong, other))
        })
    }
}

impl<S: Store> Watch for Beside<'_, S> {
    fn see(&mut self, seq: u64, hash: &Hash) {
        self.push(seq, hash);
    }

    /// What was removed is in the tree by its hash. Whether that is the hash that was signed shows at
    /// the root, as for every other record.
    fn skip(&mut self, removed: Range<u64>, after: Option<&Frontier>) -> Option<Hash> {
        let mut last = None;
        for seq in removed.clone() {
            let Some(hash) = self.hash_of_removed(seq) else {
                let why = "no tile has the hash of this record, which was removed";
                self.bad_skip.get_or_insert((seq, why));
                return None;
            };
            self.push(seq, &hash);
            last = Some(hash);
        }
        let is_here = self.edge.size() == removed.end;
        if is_here && after.is_some_and(|after| after.root() != self.edge.root()) {
            let why = "the next segment's header says other of what was removed than the tiles";
            self.bad_skip.get_or_insert((removed.start, why));
        }
        last
    }
}

impl<'s, S: Store> Beside<'s, S> {
    fn new(
        seen: &[Seen],
        own: Option<&Seen>,
        noted: Option<Checkpoint>,
        store: &'s S,
        sources: Vec<Source<'s>>,
    ) -> Beside<'s, S> {
        let sizes = seen.iter().map(|seen| seen.size);
        Beside {
            store,
            roots: sizes.chain(noted.as_ref().map(Checkpoint::size)).map(|s| (s, None)).collect(),
            edge: Edge::new(),
            own_size: own.map_or(0, |own| own.size),
            noted,
            full: Vec::new(),
            bad_tile: None,
            bad_tiles: 0,
            bad_skip: None,
            sources,
        }
    }

    fn push(&mut self, seq: u64, hash: &Hash) {
        for source in &mut self.sources {
            source.compare(seq, hash);
        }
        let mut full = std::mem::take(&mut self.full);
        // Refused beyond 2^63 leaves only.
        if seq == self.edge.size() && self.edge.push(*hash, &mut full).is_ok() {
            if self.edge.size() == self.own_size {
                full.extend(self.edge.partial());
            }
            if seq < self.own_size {
                full.iter().for_each(|(tile, bytes)| self.tile(*tile, bytes));
            }
            if let Some(root) = self.roots.get_mut(&self.edge.size()) {
                *root = Some(self.edge.root());
            }
        }
        full.clear();
        self.full = full;
    }

    /// The hash of a record that was removed, as the log's own tiles have it.
    fn hash_of_removed(&mut self, seq: u64) -> Option<Hash> {
        let own = self.sources.first_mut().filter(|own| seq < own.size)?;
        own.hash(seq)
    }

    /// Compares a tile with the one on the disk.
    fn tile(&mut self, tile: Tile, bytes: &[u8]) {
        let found = Stored::new(self.store, self.own_size).read(tile);
        if found.ok().as_deref() != Some(bytes) {
            self.bad_tiles += 1;
            self.bad_tile.get_or_insert(tile);
        }
    }

    /// The root of so many records, if they are all there.
    fn root(&self, size: u64) -> Option<Hash> {
        match size {
            0 => Some(Frontier::default().root()),
            size => self.roots.get(&size).copied().flatten(),
        }
    }

    /// How many records are covered, and what the checkpoints convict the rest of.
    fn judge(&mut self, seen: &[Seen], report: &Report) -> (u64, Vec<Finding>) {
        let (mut standing, mut findings) = (Standing::default(), Vec::new());
        for one in seen {
            if report.log_id.as_ref().is_some_and(|log_id| *log_id != one.origin) {
                let text = format!("it is of the log {}", one.origin);
                findings.push(finding(&codes::FOREIGN, &one.name, None, text));
                continue;
            }
            match self.root(one.size) {
                Some(root) if root == one.root => standing.matched.push(one),
                Some(_) => standing.wrong.push(one),
                None if one.size > report.records => standing.longer.push(one),
                // Records are missing in between, and that was found.
                None => {}
            }
        }
        let covered = standing.covered();
        let mut verdict: Vec<Finding> = self.convict(&standing, covered).into_iter().collect();
        verdict.extend(standing.fork().map(|(one, other)| fork(one, other)));
        verdict.extend(standing.longer.iter().map(|one| cut(one, report.records, covered)));
        if verdict.is_empty() {
            verdict.extend(self.contradicted_note(report, covered));
        }
        if let Some((seq, why)) = self.bad_skip {
            verdict.push(finding(&codes::BAD_TILE, OWN_TILES, Some(seq), why.to_owned()));
        }
        // Only where the records are right must the tiles be theirs.
        if standing.matched.iter().any(|seen| seen.name == CHECKPOINT_FILE) {
            verdict.extend(self.bad_tiles());
        }
        verdict.extend(findings);
        (covered, verdict)
    }

    /// The records are not those that were signed: which is the first?
    fn convict(&mut self, standing: &Standing<'_>, covered: u64) -> Option<Finding> {
        let named = self.sources.iter_mut().filter_map(|source| {
            let seq = source.convicts()?;
            Some((seq, source.name.clone()))
        });
        let code = &codes::NOT_WHAT_WAS_SIGNED;
        if let Some((seq, name)) = named.min() {
            let text =
                format!("the tiles of {name}, which lead to a signed root, have another hash");
            return Some(finding(code, &name, Some(seq), text));
        }
        let one = standing.wrong.first()?;
        let text = format!(
            "one of the records {covered} to {} is another than the {} records that {} has; a copy \
             of the tiles names it",
            one.size.saturating_sub(1),
            one.size,
            one.name
        );
        Some(finding(code, &one.name, Some(covered), text))
    }

    /// The records contradict what the auditor noted before it signed.
    fn contradicted_note(&self, report: &Report, covered: u64) -> Option<Finding> {
        let noted = self.noted.as_ref()?;
        let (size, records) = (noted.size(), report.records);
        match self.root(size) {
            Some(root) if root == *noted.root() => None,
            Some(_) => {
                let text = format!(
                    "the auditor was about to sign {size} records with another root; one of the \
                     records {covered} to {} was changed",
                    size.saturating_sub(1)
                );
                let code = &codes::NOT_WHAT_WAS_SIGNED;
                Some(finding(code, SIGNED_FILE, Some(covered), text))
            }
            None if size > records => {
                let text =
                    format!("the auditor was about to sign {size} records, there are {records}");
                Some(finding(&codes::LOG_CUT, SIGNED_FILE, Some(records), text))
            }
            None => None,
        }
    }

    fn bad_tiles(&self) -> Option<Finding> {
        let tile = self.bad_tile?;
        let text = format!("{} tiles are missing or not those of the records", self.bad_tiles);
        let at = Some(tile.first_leaf());
        Some(finding(&codes::BAD_TILE, &tile.path(), at, text))
    }
}

fn cut(one: &Seen, records: u64, covered: u64) -> Finding {
    let text = format!(
        "it has {} records, the log {records}; that the log began as it did is shown for {covered}",
        one.size
    );
    finding(&codes::LOG_CUT, &one.name, Some(records), text)
}

fn fork(one: &Seen, other: &Seen) -> Finding {
    let side = |seen: &Seen| format!("{} ({} records, {})", seen.name, seen.size, hex(&seen.root));
    let text = format!(
        "{} and {} are both signed by keys that are accepted, and no log can have both: keep both \
         files, they prove that its key signed two histories",
        side(one),
        side(other)
    );
    finding(&codes::TWO_HISTORIES, &one.name, None, text)
}
