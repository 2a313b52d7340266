//! Opening a log for writing: find the end, refuse what no crash can have caused, say UNKNOWN.
//!
//! Cuts nothing: a torn tail stays where it is, and the next segment's header says how much of the
//! file counts. The same walk as verification decides what is torn and what is damage.

use std::io;
use std::sync::Arc;

use moat_model::code::audit as codes;
use moat_model::{Clock, Code};

use crate::active::Active;
use crate::check::{Checked, From, Last, check};
use crate::committer::{BATCH_RECORDS_MAX, CommitError, Committer, Options, encode_own};
use crate::finding::{Finding, Torn, Unpaired};
use crate::fs::LogFs;
use crate::record::{Body, is_log_id};
use crate::sidecar::{HEAD_FILE, HeadMark, SLOT_BYTES};
use crate::store::read_start;

/// Name of the file that counts how often the log was opened.
pub const EPOCH_FILE: &str = "epoch";

/// What was found when the log was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// How often the log has been opened.
    pub epoch: u64,
    /// How many records were there.
    pub records: u64,
    /// What a crash left at the end.
    pub torn: Option<Torn>,
    /// Intents that got an UNKNOWN now.
    pub unknown: Vec<Unpaired>,
}

/// Why a log cannot be opened for writing.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("another process holds the log directory")]
    Locked,
    /// The log id is none.
    #[error("the log id must be 1 to 128 printable ASCII characters")]
    LogId,
    /// The directory holds another log.
    #[error("the directory holds the log {0}")]
    OtherLog(String),
    /// The log is damaged where no crash can damage it.
    #[error("the log is damaged: {}", first(.0))]
    Corrupt(Vec<Finding>),
    /// The system failed.
    #[error("the log directory cannot be used")]
    Io(#[from] io::Error),
    /// The first records could not be written.
    #[error("the log cannot be written")]
    Commit(#[from] CommitError),
}

fn first(findings: &[Finding]) -> String {
    findings.first().map(ToString::to_string).unwrap_or_default()
}

impl OpenError {
    /// The code for `moat explain`.
    #[must_use]
    pub fn code(&self) -> &'static Code {
        match self {
            OpenError::Locked => &codes::LOG_LOCKED,
            OpenError::LogId | OpenError::OtherLog(_) => &codes::OTHER_LOG,
            OpenError::Corrupt(_) => &codes::CORRUPT,
            OpenError::Commit(CommitError::DiskFull(_)) => &codes::DISK_FULL,
            OpenError::Io(_) | OpenError::Commit(_) => &codes::WRITE_FAILED,
        }
    }
}

impl<F: LogFs> Committer<F> {
    /// Opens a log for writing, or begins one in an empty directory.
    ///
    /// # Errors
    /// When another process has it, it is another log, it is damaged, or it cannot be written.
    pub fn open(
        fs: F,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Result<(Committer<F>, Recovery), OpenError> {
        if !is_log_id(&options.log_id) {
            return Err(OpenError::LogId);
        }
        let lock = fs.lock().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked,
            _ => OpenError::Io(error),
        })?;
        let checked = check(&fs, From::Tail)?;
        accept(&checked, &options)?;
        let epoch = raise_epoch(&fs, checked.epoch_max)?;
        if checked.mark.is_none() {
            begin_head(&fs)?;
        }
        let unknown = if options.keep_intents { Vec::new() } else { checked.tail.unpaired() };
        let mut committer = Committer::new(fs, lock, clock, options, epoch);
        let recovery =
            Recovery { epoch, records: checked.tail.next_seq, torn: checked.torn.clone(), unknown };
        committer.go_on(checked)?;
        committer.say_what_was_found(&recovery)?;
        Ok((committer, recovery))
    }

    /// Takes the end that was found as the place to go on.
    fn go_on(&mut self, checked: Checked) -> Result<(), OpenError> {
        self.tail = checked.tail;
        self.mark = checked.mark.unwrap_or(HeadMark::EMPTY);
        self.marked_ns = self.clock.mono_ns();
        let Some(last) = checked.last else { return Ok(()) };
        let may_go_on = checked.torn.is_none() && !last.sealed;
        let file = if may_go_on {
            let mut file = self.fs.append(&last.name)?;
            // What was read may still be in memory only, if the last writer died in its write.
            crate::fs::Append::sync(&mut file)?;
            Some(file)
        } else {
            None
        };
        let Last { name, header, valid_len, chain, sealed, .. } = last;
        let (index, first_seq) = (header.index, header.first_seq);
        self.active = Some(Active { file, name, index, first_seq, valid_len, chain, sealed });
        Ok(())
    }

    /// ADMIN for the start, UNKNOWN for each intent whose end nobody saw.
    fn say_what_was_found(&mut self, recovery: &Recovery) -> Result<(), CommitError> {
        let torn = recovery.torn.as_ref().map_or(String::new(), |torn| {
            format!(" torn={} at {} of {}", torn.bytes, torn.offset, torn.segment)
        });
        let unknown = recovery.unknown.len();
        let start = format!("start epoch={} unknown={unknown}{torn}", recovery.epoch);
        let mut bodies = vec![encode_own(&start)?];
        for intent in &recovery.unknown {
            let body = Body::unknown(intent.seq, intent.trace_id, intent.tx_id);
            bodies.push(body.encode().map_err(|source| CommitError::Body { index: 0, source })?);
        }
        for batch in bodies.chunks(BATCH_RECORDS_MAX) {
            let batch: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
            self.commit(&batch)?;
        }
        self.write_mark(true).map_err(|error| crate::committer::write_error(&error))
    }
}

fn accept(checked: &Checked, options: &Options) -> Result<(), OpenError> {
    if let Some(last) = &checked.last
        && last.header.log_id != options.log_id
    {
        return Err(OpenError::OtherLog(last.header.log_id.clone()));
    }
    // One of the two marks may be torn: it is written without a sync, and the other one serves.
    let is_torn_mark = |finding: &Finding| {
        finding.segment == HEAD_FILE && finding.code == &codes::DAMAGED && checked.mark.is_some()
    };
    if checked.findings.kept().iter().all(is_torn_mark) {
        Ok(())
    } else {
        Err(OpenError::Corrupt(checked.findings.kept().to_vec()))
    }
}

/// Counts this opening, durably, before anything is written.
fn raise_epoch(fs: &impl LogFs, in_headers: u64) -> io::Result<u64> {
    let stored = match fs.open(EPOCH_FILE) {
        Ok(file) => read_start(&file, 32)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let stored = std::str::from_utf8(&stored).ok().and_then(|text| text.trim().parse().ok());
    let epoch = stored.unwrap_or(0u64).max(in_headers) + 1;
    fs.replace(EPOCH_FILE, format!("{epoch}\n").as_bytes())?;
    Ok(epoch)
}

/// The sidecar is there before the first segment, so that its absence is a finding.
fn begin_head(fs: &impl LogFs) -> io::Result<()> {
    let mut bytes = HeadMark::EMPTY.encode().to_vec();
    bytes.resize(2 * SLOT_BYTES, 0);
    fs.replace(HEAD_FILE, &bytes)
}
