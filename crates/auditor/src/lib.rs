//! The auditor role: takes record bodies from the gateway's workers, makes them durable, says so.
//!
//! One thread for the records of one log, another that signs behind it, no network. It sees no
//! clear value of class C2, C3 or PAN: masking and anchoring happened before. It waits in `poll`
//! for its links and for the supervisor, commits whatever is there as one frame, and never
//! acknowledges what is not on the disk.
#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_possible_wrap,
        clippy::string_slice,
        reason = "tests"
    )
)]

pub mod bench;
mod hsm;
mod keeper;
mod keys;
mod link;
mod notary;
mod resume;
mod serve;
mod witness;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use moat_audit::committer::{CommitError, Committer, Options};
use moat_audit::fs::{LogFs as _, RealFs};
use moat_audit::recovery::OpenError;
use moat_audit::tree::{Home, TreeError};
use moat_model::code::audit as codes;
use moat_model::{Clock, Code};
use moat_net::control::Channel;
use moat_tlog::{Sha256, Sm3};

pub use keeper::Keeping;
pub use keys::{LogKeys, LogSigner, anchor_key, log_signer, make_log_key, read_key};
pub use moat_audit::tree::VKEY_FILE;
pub use resume::{REASON_BYTES_MAX, RESUME_FILE};
pub use serve::Linger;
pub use witness::{INBOX, INBOX_SUFFIX, Witnessing};

use hsm::HsmLink;
use keeper::Keeper;
use notary::{Notary, Work};
use serve::Helpers;
use witness::Herald;

/// What the auditor needs to know.
#[derive(Clone)]
pub struct AuditorOptions {
    /// The log directory; made when it is not there.
    pub dir: PathBuf,
    /// The origin of the log.
    pub log_id: String,
    /// When a segment is full, in bytes.
    pub segment_bytes: u64,
    /// Whether to wait a moment for more bodies after an ack.
    pub linger: Linger,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Which boot this is; read from the kernel when none is given.
    pub boot_id: Option<[u8; 16]>,
    /// How wrong the wall clock may be, in microseconds; `u32::MAX` when unknown.
    pub clock_err_us: u32,
    /// What the checkpoints are signed with.
    pub log_keys: LogKeys,
    /// How often a checkpoint is signed at most, in milliseconds, unless there are many records.
    pub checkpoint_every_ms: u64,
    /// Whether there is a tree over SM3 beside that over SHA-256.
    pub has_sm3: bool,
    /// Who must witness the checkpoints, if anybody must.
    pub witnessing: Option<Witnessing>,
    /// A second folder that says what was signed last.
    pub second_dir: Option<PathBuf>,
    /// Whether the gateway that made the open intents still runs: it goes on with this auditor, and
    /// nothing is said UNKNOWN at the start.
    pub keep_intents: bool,
    /// What is done with segments that are full.
    pub keeping: Keeping,
}

impl AuditorOptions {
    /// The defaults for a log in a directory.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, log_id: impl Into<String>) -> AuditorOptions {
        let defaults = Options::new(log_id);
        AuditorOptions {
            dir: dir.into(),
            log_id: defaults.log_id,
            segment_bytes: defaults.segment_bytes,
            linger: Linger::default(),
            clock: Arc::new(moat_model::clock::System::new()),
            boot_id: None,
            clock_err_us: defaults.clock_err_us,
            log_keys: LogKeys::Make,
            checkpoint_every_ms: 1_000,
            has_sm3: false,
            witnessing: None,
            second_dir: None,
            keep_intents: false,
            keeping: Keeping::default(),
        }
    }

    /// The folder of the log, and the second one if there is one.
    fn places(&self) -> io::Result<(RealFs, Option<RealFs>)> {
        Ok((RealFs::open(&self.dir)?, self.second()?))
    }

    fn second(&self) -> io::Result<Option<RealFs>> {
        self.second_dir.as_deref().map(RealFs::open).transpose()
    }

    fn for_committer(&self) -> Options {
        Options {
            segment_bytes: self.segment_bytes,
            boot_id: self.boot_id.or_else(boot_id).unwrap_or_default(),
            clock_err_us: self.clock_err_us,
            keep_hashes: true,
            keep_intents: self.keep_intents,
            ..Options::new(self.log_id.clone())
        }
    }
}

/// Why the auditor ended otherwise than asked.
#[derive(Debug, thiserror::Error)]
pub enum AuditorError {
    /// The log cannot be opened for writing.
    #[error("the audit log cannot be opened")]
    Open(#[from] OpenError),
    /// What was signed of the log cannot be looked up or noted.
    #[error("the folder of the log does not say what was signed of it")]
    Tree(#[source] TreeError),
    /// The key directory cannot be used.
    #[error("the anchor key cannot be read or made")]
    Keys(#[source] io::Error),
    /// Waiting for the links failed.
    #[error("the auditor cannot wait for its links")]
    Poll(#[source] io::Error),
    /// The log was not closed cleanly; it is whole all the same.
    #[error("the audit log was not closed cleanly")]
    Close(#[source] CommitError),
}

impl AuditorError {
    /// The code for `moat explain`.
    #[must_use]
    pub fn code(&self) -> &'static Code {
        match self {
            AuditorError::Open(error) => error.code(),
            AuditorError::Tree(error) => error.code(),
            AuditorError::Close(CommitError::DiskFull(_)) => &codes::DISK_FULL,
            AuditorError::Keys(_) | AuditorError::Poll(_) | AuditorError::Close(_) => {
                &codes::WRITE_FAILED
            }
        }
    }
}

/// Runs the auditor until the supervisor says stop or goes away.
///
/// # Errors
/// When the log cannot be opened, or was not closed cleanly.
pub fn run(options: &AuditorOptions, control: &Channel) -> Result<(), AuditorError> {
    let open = |dir: &Path| RealFs::open(dir).map_err(OpenError::Io);
    let clock = Arc::clone(&options.clock);
    begin(options)?;
    let (mut committer, recovery) =
        Committer::open(open(&options.dir)?, clock, options.for_committer())?;
    let key = anchor_key(&options.dir, options.clock.wall_ns()).map_err(AuditorError::Keys)?;
    let hsm = Arc::new(HsmLink::default());
    let signers = keys::signers(&options.log_keys, &options.dir, &options.log_id, &hsm);
    if let Ok(signers) = &signers {
        keys::record(&mut committer, &open(&options.dir)?, signers)?;
    }
    resume::resume(options, &mut committer)?;
    let herald = herald(options, committer.next_seq()).map_err(OpenError::Io)?.map(Arc::new);
    let notary = match signers {
        Ok(signers) => {
            notary(options, signers, herald, &mut committer).map_err(AuditorError::Keys)?
        }
        Err(why) => Notary::without_key(why, Arc::clone(&options.clock), herald),
    };
    let keeper = Keeper::start(options).map_err(AuditorError::Keys)?;
    let helpers = Helpers { notary, hsm, keeper };
    serve::serve(committer, helpers, &recovery, &key, control, options)
}

/// Notes of a new log that nothing of it is signed. What cannot be looked up here shows when it is
/// to be signed, and stops no record.
fn begin(options: &AuditorOptions) -> Result<(), AuditorError> {
    let fs = RealFs::open(&options.dir).map_err(OpenError::Io)?;
    let second = options.second().ok().flatten();
    let lock = fs.lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked,
        _ => OpenError::Io(error),
    })?;
    let home = Home { second, ..Home::new(fs, &options.log_id) };
    let mut begun = home.begin::<Sha256>();
    if options.has_sm3 {
        begun = begun.and_then(|()| home.begin::<Sm3>());
    }
    drop(lock);
    match begun {
        // Without the second folder nothing is signed, but all is recorded.
        Err(TreeError::Io(error)) if options.second_dir.is_none() => {
            Err(OpenError::Io(error).into())
        }
        _ => Ok(()),
    }
}

fn herald(options: &AuditorOptions, records: u64) -> io::Result<Option<Herald>> {
    let Some(witnessing) = options.witnessing.clone() else { return Ok(None) };
    let (fs, inbox) = (RealFs::open(&options.dir)?, RealFs::open(&options.dir.join(INBOX))?);
    let clock = Arc::clone(&options.clock);
    Herald::start(witnessing, &options.log_id, fs, inbox, clock, records).map(Some)
}

fn notary(
    options: &AuditorOptions,
    signers: Vec<LogSigner>,
    herald: Option<Arc<Herald>>,
    committer: &mut Committer<RealFs>,
) -> io::Result<Notary> {
    let places = options.clone();
    let work = Work {
        places: Box::new(move || places.places()),
        origin: options.log_id.clone(),
        signers,
        has_sm3: options.has_sm3,
        every_ns: options.checkpoint_every_ms.saturating_mul(1_000_000),
        clock: Arc::clone(&options.clock),
        herald,
    };
    // What was written so far is read from the segments.
    committer.take_hashes();
    Notary::start(work, committer.next_seq())
}

/// The kernel's id of this boot.
fn boot_id() -> Option<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits = text.trim().replace('-', "");
    data_encoding::HEXLOWER.decode(digits.as_bytes()).ok()?.try_into().ok()
}
