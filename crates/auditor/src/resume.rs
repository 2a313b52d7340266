//! The act by which an operator lets a log be signed again of which nothing says what was signed.
//!
//! A file in the log's folder asks for it, with a reason; the auditor puts it on record before it
//! signs. It helps only against a loss: a log that contradicts what was signed is never signed.

use moat_audit::committer::{CommitError, Committer};
use moat_audit::fs::{LogFs as _, RealFs};
use moat_audit::mirror::{REPAIRED_BYTES_MAX, REPAIRED_FILE};
use moat_audit::record::{Body, Kind};
use moat_audit::recovery::OpenError;
use moat_audit::store::read_file;
use moat_audit::tiles::LogHash;
use moat_audit::tree::{Home, TreeError};
use moat_tlog::{Sha256, Sm3};

use crate::{AuditorError, AuditorOptions};

/// Name of the file that asks for it; it holds the reason.
pub const RESUME_FILE: &str = "resume-signing";
/// Longest reason, in bytes.
pub const REASON_BYTES_MAX: usize = 1_000;

/// Does what the file asks for, once, if there is one. Where there is nothing to resume the file is
/// removed all the same, so that it is not there for later.
///
/// An SM3 tree of which nothing says what was signed is begun without being asked, and on record: as
/// a rule it was configured just now, and the tree over SHA-256 vouches for the same records.
pub(crate) fn resume(
    options: &AuditorOptions,
    committer: &mut Committer<RealFs>,
) -> Result<(), AuditorError> {
    // Without the second folder nothing is signed, and nobody can say what was.
    let Ok((fs, second)) = options.places() else { return Ok(()) };
    let home = Home { second, ..Home::new(fs, &options.log_id) };
    let last = committer.next_seq().saturating_sub(1);
    if options.has_sm3 && is_stripped::<Sm3>(&home)? {
        let note = format!(
            "the tree over SM3 begins: nothing said what was signed of it before; records 0 to \
             {last} are signed anew"
        );
        say(committer, note)?;
        home.note_nothing::<Sm3>().map_err(AuditorError::Tree)?;
    }
    say_repairs(&home.fs, committer)?;
    let asked = read_file(&home.fs, RESUME_FILE, REASON_BYTES_MAX).map_err(OpenError::Io)?;
    let Some(reason) = asked else { return Ok(()) };
    let reason = String::from_utf8_lossy(&reason).trim().to_owned();
    if is_stripped::<Sha256>(&home)? {
        let note = format!(
            "signing resumed by an operator: nothing said what was signed before; records 0 to \
             {last} are signed anew; reason: {reason}"
        );
        say(committer, note)?;
        home.note_nothing::<Sha256>().map_err(AuditorError::Tree)?;
    } else {
        let note =
            format!("an operator asked to resume signing, which was not needed; reason: {reason}");
        say(committer, note)?;
    }
    home.fs.remove(RESUME_FILE).map_err(OpenError::Io)?;
    Ok(())
}

/// Puts on record what `moat audit repair` did while nobody wrote.
fn say_repairs(fs: &RealFs, committer: &mut Committer<RealFs>) -> Result<(), AuditorError> {
    let lines = read_file(fs, REPAIRED_FILE, REPAIRED_BYTES_MAX).map_err(OpenError::Io)?;
    let Some(lines) = lines else { return Ok(()) };
    for line in String::from_utf8_lossy(&lines).lines() {
        let body = Body { note: line.to_owned(), ..Body::new(Kind::Repair, [0; 16]) };
        let body = body.encode().map_err(|source| CommitError::Body { index: 0, source });
        committer.commit(&[&body.map_err(OpenError::Commit)?]).map_err(OpenError::Commit)?;
    }
    fs.remove(REPAIRED_FILE).map_err(OpenError::Io)?;
    Ok(())
}

/// Files that contradict the log or each other do say something.
fn is_stripped<H: LogHash>(home: &Home<'_, RealFs>) -> Result<bool, AuditorError> {
    match home.is_stripped::<H>() {
        Err(TreeError::Io(error)) => Err(OpenError::Io(error).into()),
        is_stripped => Ok(is_stripped.unwrap_or(false)),
    }
}

fn say(committer: &mut Committer<RealFs>, note: String) -> Result<(), AuditorError> {
    let body = Body::admin(note).encode();
    let body = body.map_err(|source| CommitError::Body { index: 0, source });
    let body = body.map_err(OpenError::Commit)?;
    committer.commit(&[&body]).map_err(OpenError::Commit)?;
    Ok(())
}
