//! Verification: reads every byte of a log again and says what is not as it was written.
//!
//! Streaming and without keys. What it cannot find without signed checkpoints stands in
//! `docs/record.md`: whoever may write the directory can rewrite all of it consistently.

use std::io;
use std::ops::Range;
use std::path::Path;

use moat_model::Code;

use crate::check::{Checked, From, check};
pub use crate::finding::{FINDINGS_MAX, Finding, Findings, Torn, Unpaired};
use crate::hash::Hash;
use crate::store::{Dir, Store};

/// What verification found.
#[derive(Debug)]
pub struct Report {
    /// The log; none when the directory holds no segment.
    pub log_id: Option<String>,
    /// How many records were read.
    pub records: u64,
    /// How many segments.
    pub segments: u64,
    /// How many bytes.
    pub bytes: u64,
    /// Leaf hash of the last record.
    pub last_leaf_hash: Hash,
    /// RFC 6962 root over all records.
    pub root: Hash,
    /// The time in the last record, in nanoseconds of UTC.
    pub last_wall_ns: u64,
    /// What is not as it was written. Empty when the log is whole.
    pub findings: Findings,
    /// Intents without an outcome: completeness, not tampering.
    pub unpaired: Vec<Unpaired>,
    /// What a crash left at the end; harmless.
    pub torn: Option<Torn>,
    /// Records that retention removed, and left in the tree: completeness, not tampering. A removal
    /// of which no record speaks is a finding besides.
    pub removed: Vec<Range<u64>>,
    /// Whether the log was ended in good order: its last record says so.
    pub is_stopped: bool,
}

impl Report {
    /// Whether every byte is as it was written, as far as that can be told.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    /// The code of the first finding.
    #[must_use]
    pub fn code(&self) -> Option<&'static Code> {
        self.findings.kept().first().map(|finding| finding.code)
    }
}

/// Verifies the log in a directory, which may be a live one.
///
/// # Errors
/// When the directory or a file cannot be read; what is read and wrong is no error but a finding.
pub fn verify(dir: &Path) -> io::Result<Report> {
    verify_in(&Dir::new(dir))
}

/// As [`verify`], over any store.
///
/// # Errors
/// As [`verify`].
pub fn verify_in(store: &impl Store) -> io::Result<Report> {
    check(store, From::Start).map(report)
}

/// What a walk found, for people.
pub(crate) fn report(checked: Checked) -> Report {
    let unpaired = checked.tail.unpaired();
    Report {
        log_id: checked.last.map(|last| last.header.log_id),
        records: checked.tail.next_seq,
        segments: checked.segments,
        bytes: checked.bytes,
        last_leaf_hash: checked.tail.prev_leaf_hash,
        root: checked.tail.frontier.root(),
        last_wall_ns: checked.tail.last_wall_ns,
        findings: checked.findings,
        unpaired,
        torn: checked.torn,
        removed: checked.removed,
        is_stopped: checked.is_stopped,
    }
}
