//! `moat-verify`: checks an audit log, a copy of its tree, or a proof of one record. Offline, from
//! files, without a runtime and without TLS; it trusts its policy and nothing that the log's
//! machine says.
//!
//! Exit codes: 0 good, 1 could not be read, 2 usage, 3 something is wrong.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use moat_audit::evidence::{Against, Copied, Evidence, Kept, verify_evidence};
use moat_audit::pack::{Verdict, check_pack};
use moat_audit::store::Dir;
use moat_tlog::key::VerifierKey;
use moat_tlog::logproof::{FILE_BYTES_MAX, LogProof};
use moat_tlog::policy::{POLICY_BYTES_MAX, Policy};
use moat_tlog::tile::ENTRY_BYTES_MAX;
use moat_tlog::{Sha256, TreeHash as _};
use moat_verify::Arithmetic;
use serde_json::json;

/// Something is wrong with what was verified.
const WRONG: u8 = 3;
/// Longest checkpoint file, in bytes.
const CHECKPOINT_BYTES_MAX: usize = 1024 * 1024;

/// Verify a Moat audit log offline: its records, its tree, and who signed it.
///
/// Exit 0 when all is as it was signed, 3 when anything is not or the tail is not signed; the first
/// bad record is named.
#[derive(Debug, Parser)]
#[command(name = "moat-verify", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Verify a log's folder, or a copy of its tree with entry bundles (`moat audit export`).
    ///
    /// Integrity and completeness are reported apart. A log that was rewritten by somebody who
    /// holds its key looks good by itself: hold it against checkpoints that were kept elsewhere
    /// (--checkpoint), or cosigned by witnesses (--policy). A copy of the tiles (--tiles) names the
    /// very record.
    Log {
        /// The folder.
        dir: PathBuf,
        #[command(flatten)]
        trust: Trust,
        /// A checkpoint that was kept elsewhere; may be given several times.
        #[arg(long = "checkpoint", value_name = "FILE")]
        checkpoints: Vec<PathBuf>,
        /// Which log it must be, where the policy knows several.
        #[arg(long)]
        origin: Option<String>,
        /// How many records at the end may be under no accepted checkpoint. Default: 10000 while
        /// the log runs, 0 once it was stopped, and for an export.
        #[arg(long, value_name = "RECORDS")]
        unsigned_max: Option<u64>,
        /// A folder with an earlier copy of `checkpoint` and `tile/`; may be given several times.
        #[arg(long = "tiles", value_name = "FOLDER")]
        tiles: Vec<PathBuf>,
        /// The log must have a tree over SM3 too (`audit.sm3_tree`). One that is there is verified in
        /// any case, but not in a copy of the tree.
        #[arg(long)]
        sm3: bool,
        /// `table` for people, `json` for programs.
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// Verify a pack of records (`moat audit pack`): each by its own proof, and that none is missing.
    Pack(PackArgs),
    /// Verify the proof of one record (`moat audit prove SEQ --entry FILE`).
    Proof {
        /// The proof.
        proof: PathBuf,
        /// The record's bytes.
        #[arg(long, value_name = "FILE")]
        entry: PathBuf,
        #[command(flatten)]
        trust: Trust,
        /// `table` for people, `json` for programs.
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
}

/// What `moat audit pack` wrote.
#[derive(Debug, Args)]
struct PackArgs {
    /// The folder.
    dir: PathBuf,
    #[command(flatten)]
    trust: Trust,
    /// `table` for people, `json` for programs.
    #[arg(short, long, default_value = "table")]
    output: Output,
}

/// Whom to believe. It is never asked of the log's machine.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Trust {
    /// Policy file (c2sp.org/tlog-policy): keys of logs, witnesses, and how many of them.
    #[arg(long, value_name = "FILE", conflicts_with = "keys")]
    policy: Option<PathBuf>,
    /// Verifier key of the log, as `moat audit vkey` prints it; no witness is asked for.
    #[arg(long = "key", value_name = "VKEY")]
    keys: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// What could not be read, in words.
type Failure = String;

fn main() -> ExitCode {
    let done = match &Cli::parse().command {
        Command::Log { dir, trust, checkpoints, origin, unsigned_max, tiles, sm3, output } => {
            let demanded = Against {
                origin: origin.as_deref(),
                unsigned_max: *unsigned_max,
                is_sm3_demanded: *sm3,
                ..Against::default()
            };
            log(dir, trust, checkpoints, tiles, demanded, *output)
        }
        Command::Pack(args) => pack(args),
        Command::Proof { proof, entry, trust, output } => self::proof(proof, entry, trust, *output),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(WRONG),
        Err(failure) => {
            eprintln!("moat-verify: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the log is good.
fn log(
    dir: &Path,
    trust: &Trust,
    checkpoints: &[PathBuf],
    tiles: &[PathBuf],
    demanded: Against<'_>,
    output: Output,
) -> Result<bool, Failure> {
    let policy = policy(trust)?;
    if !dir.is_dir() {
        return Err(format!("{} is no folder", dir.display()));
    }
    let kept = checkpoints.iter().map(|path| {
        let bytes = read(path, CHECKPOINT_BYTES_MAX)?;
        Ok(Kept { name: path.display().to_string(), bytes })
    });
    let copies =
        tiles.iter().map(|path| Copied { name: path.display().to_string(), dir: Dir::new(path) });
    let mut against = demanded;
    against.policy = Some(&policy);
    against.kept = kept.collect::<Result<_, Failure>>()?;
    against.copies = copies.collect();
    let evidence: Evidence = verify_evidence(&Dir::new(dir), &against, &Arithmetic)
        .map_err(|error| format!("{} cannot be read: {error}", dir.display()))?;
    match output {
        Output::Json => println!("{}", evidence.json()),
        Output::Table => print!("{}", evidence.text()),
    }
    Ok(evidence.is_good())
}

/// Whether everything in a pack is proven.
fn pack(args: &PackArgs) -> Result<bool, Failure> {
    let policy = policy(&args.trust)?;
    let checked = check_pack(&Dir::new(&args.dir), &policy, &Arithmetic)
        .map_err(|error| format!("{}: {error}", args.dir.display()))?;
    let count = |wanted: fn(&Verdict) -> bool| {
        checked.records.iter().filter(|(_, verdict)| wanted(verdict)).count()
    };
    let proven = count(|verdict| matches!(verdict, Verdict::Proven(_)));
    let hashes = count(|verdict| matches!(verdict, Verdict::HashOnly));
    let wrong = checked.first_wrong();
    match args.output {
        Output::Json => {
            let wrong = wrong.map(|(seq, why)| json!({ "record": seq, "why": why }));
            println!(
                "{}",
                json!({ "log": checked.origin, "proven": proven, "hash_only": hashes,
                "first_wrong": wrong, "good": checked.is_good() })
            );
        }
        Output::Table => {
            println!("log          {}", checked.origin);
            println!("records      {proven} proven");
            if hashes > 0 {
                println!("removed      {hashes} proven by their hashes alone");
            }
            match wrong {
                Some((seq, why)) => println!("pack         WRONG: record {seq}: {why}"),
                None => println!("pack         good"),
            }
        }
    }
    Ok(checked.is_good())
}

/// Whether the proof is good.
fn proof(path: &Path, entry: &Path, trust: &Trust, output: Output) -> Result<bool, Failure> {
    let policy = policy(trust)?;
    let bytes = read(path, FILE_BYTES_MAX)?;
    let entry = read(entry, ENTRY_BYTES_MAX)?;
    let leaf = Sha256::leaf(&entry);
    let verdict = LogProof::parse(&bytes).and_then(|proof| {
        let accepted = proof.verify::<Sha256>(&leaf, &policy, &Arithmetic)?;
        let names = |key: &VerifierKey| format!("{}+{}", key.name(), key.id());
        let logs: Vec<String> = accepted.logs.iter().map(|key| names(key)).collect();
        let witnesses: Vec<String> = accepted.witnesses.iter().map(|(key, _)| names(key)).collect();
        Ok((proof, logs, witnesses))
    });
    match (&verdict, output) {
        (Ok((proof, logs, witnesses)), Output::Json) => {
            let size = proof.signed().checkpoint().size();
            let told = json!({ "proven": true, "record": proof.index(), "size": size,
                "log": proof.signed().checkpoint().origin(), "signed_by": logs,
                "witnesses": witnesses });
            println!("{told}");
        }
        (Ok((proof, logs, witnesses)), Output::Table) => {
            let checkpoint = proof.signed().checkpoint();
            println!("log          {}", checkpoint.origin());
            println!("record       {} of {}", proof.index(), checkpoint.size());
            println!("signed       by {}", [logs.as_slice(), witnesses].concat().join(", "));
            println!("proof        good");
        }
        (Err(error), Output::Json) => {
            println!("{}", json!({ "proven": false, "why": error.to_string() }));
        }
        (Err(error), Output::Table) => println!("proof        WRONG: {error}"),
    }
    Ok(verdict.is_ok())
}

fn policy(trust: &Trust) -> Result<Policy, Failure> {
    if let Some(path) = &trust.policy {
        let bytes = read(path, POLICY_BYTES_MAX)?;
        return Policy::parse(&bytes).map_err(|error| format!("{}: {error}", path.display()));
    }
    let keys = trust
        .keys
        .iter()
        .map(|key| VerifierKey::parse(key).map_err(|error| format!("--key {key}: {error}")));
    Policy::k_of_n(&keys.collect::<Result<Vec<_>, _>>()?, &[], 0).map_err(|e| e.to_string())
}

/// A whole file, which may not be longer than what it should hold.
fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let failure = |what: String| format!("{}: {what}", path.display());
    let file = std::fs::File::open(path).map_err(|error| failure(error.to_string()))?;
    let bytes = moat_audit::store::read_start(&file, bytes_max.saturating_add(1))
        .map_err(|error| failure(error.to_string()))?;
    if bytes.len() > bytes_max {
        return Err(failure(format!("longer than {bytes_max} bytes")));
    }
    Ok(bytes)
}
