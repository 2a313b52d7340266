//! `moat audit timestamp | timestamped`: a request for a time-stamping authority goes out as a file,
//! its answer comes in as one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use moat_audit::hash::{Hash, hex, sha256};
use moat_audit::record::Kind;
use moat_audit::search::leaves;
use moat_audit::stamps::{Bracket, STAMPS_FOLDER, Stamp, TOKEN_BYTES_MAX, TOKEN_SUFFIX, stamp_in};
use moat_audit::store::{Dir, read_file};
use moat_audit::tiles::{Stored, checkpoint, witnessed};
use moat_model::clock::rfc3339_ms;
use moat_model::code::audit as codes;
use moat_tlog::checkpoint::Checkpoint;
use moat_tlog::tree::Tree;
use moat_tlog::{Head, Sha256};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::evidence::write;
use crate::exit::TAMPERED;
use crate::tsp::{self, BadToken};

/// Most findings that are printed.
const FINDINGS_MAX: usize = 20;

/// What is stamped: the text of a checkpoint, which holds origin, size and root.
fn imprint(origin: &str, head: Head) -> Result<Hash> {
    Ok(sha256(Checkpoint::new(origin, head)?.to_string().as_bytes()))
}

/// Writes a request over the last checkpoint.
pub(crate) fn request(dir: &Path, out: &Path) -> Result<ExitCode> {
    let store = Dir::new(dir);
    let signed = checkpoint(&store)?.context("the log has no checkpoint; nothing is signed")?;
    let signed = signed.map_err(|error| anyhow!("the checkpoint cannot be read: {error}"))?;
    let signed = witnessed(&store)?.and_then(Result::ok).unwrap_or(signed);
    let checkpoint = signed.checkpoint();
    let mut nonce = [0; 8];
    SystemRandom::new().fill(&mut nonce).map_err(|_| anyhow!("the kernel gives no randomness"))?;
    let imprint = imprint(checkpoint.origin(), *checkpoint.head())?;
    write(out, &tsp::request(&imprint, nonce))?;
    let size = checkpoint.size();
    println!("a request over {size} records in {}; when the answer is there:", out.display());
    println!("moat audit timestamped --size {size} --answer FILE --authority ca.pem");
    Ok(ExitCode::SUCCESS)
}

/// Certificates of authorities, from a PEM file.
pub(crate) fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).with_context(|| path.display().to_string())?.collect();
    let all = all.with_context(|| path.display().to_string())?;
    if all.is_empty() {
        bail!("{} has no certificate", path.display());
    }
    Ok(all)
}

/// The head of the log at a size, if it is signed.
fn head_at(dir: &Path, size: u64) -> Result<(String, Head)> {
    let store = Dir::new(dir);
    let signed = checkpoint(&store)?.and_then(Result::ok).context("the log has no checkpoint")?;
    let known = signed.checkpoint().size();
    if size == 0 || size > known {
        bail!("{known} records are signed; --size must be from 1 to {known}");
    }
    let tree = Tree::<Sha256, _>::new(size, Stored::new(&store, known));
    let root = tree.and_then(|mut tree| tree.root()).map_err(|error| anyhow!("tiles: {error}"))?;
    Ok((signed.checkpoint().origin().to_owned(), Head { size, root }))
}

/// Takes the answer of an authority.
pub(crate) fn take(dir: &Path, size: u64, answer: &Path, authority: &Path) -> Result<ExitCode> {
    let (origin, head) = head_at(dir, size)?;
    let bytes = std::fs::read(answer).with_context(|| answer.display().to_string())?;
    let token = match tsp::verify(&bytes, &imprint(&origin, head)?, &authorities(authority)?) {
        Ok(token) => token,
        Err(error) => {
            eprintln!("moat: {} {}: {error}", codes::BAD_STAMP.id, answer.display());
            return Ok(ExitCode::from(TAMPERED));
        }
    };
    let folder = dir.join(STAMPS_FOLDER);
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let path = folder.join(format!("{size:020}{TOKEN_SUFFIX}"));
    // Under its name only when it is whole.
    let fresh = path.with_extension("new");
    write(&fresh, &bytes)?;
    std::fs::rename(&fresh, &path)?;
    crate::mirror::give(dir, &[folder, path])?;
    println!(
        "the first {size} records were there at {}; the auditor puts that on record",
        rfc3339_ms(token.time_ns)
    );
    Ok(ExitCode::SUCCESS)
}

/// The tokens of a log, verified; and what is wrong with others.
pub(crate) struct Stamps {
    pub(crate) good: Vec<Stamp>,
    pub(crate) bad: Vec<String>,
}

/// Reads and verifies all tokens of a log.
pub(crate) fn stamps(dir: &Path, authority: &Path) -> Result<Stamps> {
    let (authorities, folder) = (authorities(authority)?, dir.join(STAMPS_FOLDER));
    let mut stamps = Stamps { good: Vec::new(), bad: Vec::new() };
    if !folder.is_dir() {
        return Ok(stamps);
    }
    let mut recorded = BTreeMap::new();
    for found in leaves(dir)? {
        let leaf = found?.leaf;
        if leaf.body.kind == Kind::Check
            && let Some((_, digest)) = stamp_in(&leaf.body.note)
        {
            recorded.entry(digest.to_owned()).or_insert(leaf.head.seq);
        }
    }
    let mut names: Vec<PathBuf> = std::fs::read_dir(&folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "tsr"))
        .collect();
    names.sort();
    let store = Dir::new(&folder);
    for path in names {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = read_file(&store, &name, TOKEN_BYTES_MAX + 1)?.unwrap_or_default();
        let size = name.strip_suffix(TOKEN_SUFFIX).and_then(|size| size.parse().ok());
        let verified = size.context("no size").and_then(|size| {
            let (origin, head) = head_at(dir, size)?;
            let token = tsp::verify(&bytes, &imprint(&origin, head)?, &authorities)
                .map_err(|error: BadToken| anyhow!("{error}"))?;
            let recorded_at = recorded.get(&hex(&sha256(&bytes))).copied();
            Ok(Stamp { size, time_ns: token.time_ns, accuracy_ns: token.accuracy_ns, recorded_at })
        });
        match verified {
            Ok(stamp) => stamps.good.push(stamp),
            Err(error) => stamps.bad.push(format!("{name}: {error}")),
        }
    }
    Ok(stamps)
}

/// Holds the time in every record against the tokens around it. Gives what is wrong.
pub(crate) fn check(dir: &Path, stamps: &Stamps) -> Result<Vec<String>> {
    let mut wrong: Vec<String> =
        stamps.bad.iter().map(|text| format!("{} {text}", codes::BAD_STAMP.id)).collect();
    for found in leaves(dir)? {
        let head = found?.leaf.head;
        let error_ns = match head.clock_err_us {
            u32::MAX => 0,
            error_us => u64::from(error_us) * 1_000,
        };
        let bracket = Bracket::of(&stamps.good, head.seq);
        if !bracket.allows(head.t_wall_ns, error_ns) && wrong.len() < FINDINGS_MAX {
            wrong.push(format!(
                "{} record {}: it says {}, tokens say {}",
                codes::TIME_BRACKET.id,
                head.seq,
                rfc3339_ms(head.t_wall_ns),
                words(&bracket)
            ));
        }
    }
    Ok(wrong)
}

/// A bracket for people.
pub(crate) fn words(bracket: &Bracket) -> String {
    let time = |ns: Option<u64>| ns.map_or_else(|| "…".to_owned(), rfc3339_ms);
    format!("{} to {}", time(bracket.not_earlier_ns), time(bracket.not_later_ns))
}
