//! The witness itself: its state on the disk, and what it answers. No network.

use std::io;
use std::path::Path;

use data_encoding::HEXLOWER;
use moat_audit::fs::{LogFs, RealFs};
use moat_audit::store::{Store as _, read_file};
use moat_model::Clock;
use moat_tlog::checkpoint::SignedCheckpoint;
use moat_tlog::key::{Algorithm, VerifierKey};
use moat_tlog::note::NOTE_BYTES_MAX;
use moat_tlog::sign::{AwsLc, Signer, Sm};
use moat_tlog::witness::{Refusal, Request};
use moat_tlog::{Sha256, TreeHash as _};

/// Folder of the requests that are evidence against a log.
const EVIDENCE: &str = "evidence";
/// Most requests that are kept as evidence. The first ones convict; a flood adds nothing.
const EVIDENCE_FILES_MAX: usize = 1_000;

/// Why a request has no answer of the protocol.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// It is refused, as the protocol says.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The state cannot be read or stored, or the key cannot sign. Nothing was cosigned.
    #[error("the witness cannot answer now: {0}")]
    Unable(String),
}

/// Why a witness cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be used, or another witness has it.
    #[error("the folder of the witness cannot be used")]
    Io(#[from] io::Error),
    /// A key is not for this use.
    #[error("{0}")]
    Key(String),
}

/// A witness with its state. One at a time answers: comparing, storing and cosigning are one step.
pub struct Witness {
    fs: RealFs,
    evidence: RealFs,
    /// Held while it lives: two witnesses with one state could cosign two histories.
    _lock: <RealFs as LogFs>::Lock,
    logs: Vec<VerifierKey>,
    signers: Vec<Box<dyn Signer + Send>>,
}

impl Witness {
    /// Opens the state in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// When the folder cannot be used or locked, there is no log, or a key is not for its use.
    pub fn open(
        dir: &Path,
        logs: Vec<VerifierKey>,
        signers: Vec<Box<dyn Signer + Send>>,
    ) -> Result<Witness, OpenError> {
        let is_witness = |key: &VerifierKey| key.algorithm() == Algorithm::CosignatureV1;
        if logs.is_empty() || logs.iter().any(is_witness) {
            return Err(OpenError::Key("name the verifier keys of the logs to witness".to_owned()));
        }
        if signers.is_empty() || !signers.iter().all(|signer| is_witness(signer.key())) {
            let text = "the key is none of a witness; `moat audit keygen --witness` makes one";
            return Err(OpenError::Key(text.to_owned()));
        }
        let (fs, evidence) = (RealFs::open(dir)?, RealFs::open(&dir.join(EVIDENCE))?);
        let lock = fs.lock()?;
        Ok(Witness { fs, evidence, _lock: lock, logs, signers })
    }

    /// The keys that it cosigns with.
    pub fn keys(&self) -> impl Iterator<Item = &VerifierKey> {
        self.signers.iter().map(|signer| signer.key())
    }

    /// Answers an add-checkpoint request: the lines of a 200.
    ///
    /// # Errors
    /// Why it does not cosign.
    pub fn answer(&mut self, body: &[u8], clock: &dyn Clock) -> Result<String, WitnessError> {
        let unable = |error: &dyn std::fmt::Display| WitnessError::Unable(error.to_string());
        let vetted = Request::parse(body)?.vet(&self.logs, &(AwsLc, Sm))?;
        let name = state_name(vetted.origin());
        let last = self.last(&name, vetted.origin()).map_err(|error| unable(&error))?;
        let head = last.as_ref().map(|last| *last.checkpoint().head());
        let advance = match vetted.compare::<Sha256>(head) {
            Ok(advance) => advance,
            Err(refusal) => {
                if matches!(refusal, Refusal::Fork | Refusal::NotConsistent) {
                    self.keep_evidence(&name, body).map_err(|error| unable(&error))?;
                }
                return Err(refusal.into());
            }
        };
        let stored = advance
            .store(|_, next| self.fs.replace(&name, next.to_string().as_bytes()))
            .map_err(|error| unable(&error))?;
        let signers: Vec<&dyn Signer> = self.signers.iter().map(|one| &**one as _).collect();
        let seconds = clock.wall_ns() / 1_000_000_000;
        stored.cosign(&signers, seconds).map_err(|error| unable(&error))
    }

    /// What was cosigned last. A state that cannot be read is an error, never "nothing".
    fn last(&self, name: &str, origin: &str) -> io::Result<Option<SignedCheckpoint>> {
        let Some(bytes) = read_file(&self.fs, name, NOTE_BYTES_MAX + 1)? else { return Ok(None) };
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        let last = SignedCheckpoint::parse(&bytes).map_err(|error| invalid(error.to_string()))?;
        if last.checkpoint().origin() == origin {
            Ok(Some(last))
        } else {
            Err(invalid(format!("{name} is of the log {}", last.checkpoint().origin())))
        }
    }

    /// Keeps a request whose checkpoint the log signed and which contradicts what was cosigned:
    /// with the state it shows two histories. The same one is kept once.
    fn keep_evidence(&self, name: &str, body: &[u8]) -> io::Result<()> {
        let digest = HEXLOWER.encode(&Sha256::digest(&[body]));
        let short = digest.get(..16).unwrap_or(&digest);
        let file = format!("{name}-{short}.request");
        let there = self.evidence.list()?;
        if there.len() >= EVIDENCE_FILES_MAX || there.contains(&file) {
            return Ok(());
        }
        self.evidence.replace(&file, body)
    }
}

/// The file of a log: origins may have slashes, and be longer than names of files.
fn state_name(origin: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(&[origin.as_bytes()]))
}
