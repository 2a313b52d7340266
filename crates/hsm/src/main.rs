//! `moat-hsm`: signs checkpoints with keys in a token, by PKCS#11.
//!
//! A program of its own, because the token's library is loaded into it: neither the auditor, which
//! must have no network and no foreign code, nor the static `moat` can do that. The supervisor
//! starts it and gives it the channel to the auditor. It signs checkpoints only, and none that goes
//! back behind one that it has signed.

mod serve;
mod token;

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use moat_tlog::key::{Algorithm, KeyName, VerifierKey};
use moat_tlog::token::TokenKey;
use zeroize::Zeroizing;

use token::{Access, Token};

/// Sign an audit log with a key in a token (PKCS#11).
///
/// `keygen` makes an Ed25519 key in the token; `describe` takes one that is there. Both write a small
/// file, not secret, that `audit.keys` names; `audit.hsm` says where the token is.
#[derive(Debug, Parser)]
#[command(name = "moat-hsm", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an Ed25519 key that never leaves the token, and write the file for `audit.keys`.
    Keygen(KeyArgs),
    /// Write the file for `audit.keys` for a key that is in the token.
    Describe(KeyArgs),
    /// Sign for the auditor; only the supervisor does this.
    #[command(hide = true)]
    Serve(TokenArgs),
}

#[derive(Debug, Args)]
struct TokenArgs {
    /// The library of the token's maker.
    #[arg(long, value_name = "FILE")]
    module: PathBuf,
    /// Label of the token.
    #[arg(long)]
    token: String,
    /// File with the user's PIN, for its owner only.
    #[arg(long, value_name = "FILE")]
    pin_file: PathBuf,
}

#[derive(Debug, Args)]
struct KeyArgs {
    #[command(flatten)]
    token: TokenArgs,
    /// Label of the key: letters, digits, `-`, `_` and `.`.
    #[arg(long)]
    label: String,
    /// Origin of the log: `audit.origin` of the configuration.
    #[arg(long)]
    origin: String,
    /// File to write; nothing is overwritten.
    #[arg(long, value_name = "FILE", default_value = "log.hsm")]
    out: PathBuf,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Keygen(args) => key(&args, true),
        Command::Describe(args) => key(&args, false),
        Command::Serve(args) => pin(&args.pin_file)
            .and_then(|pin| serve::run(&args.module, &args.token, &pin).map_err(Into::into)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("moat-hsm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn pin(path: &Path) -> Result<Zeroizing<String>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let text = Zeroizing::new(text);
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn key(args: &KeyArgs, is_new: bool) -> Result<()> {
    let KeyArgs { token: TokenArgs { module, token, pin_file }, label, origin, out } = args;
    let pin = pin(pin_file)?;
    let name = KeyName::new(origin)?;
    // The label is checked before anything is made with it.
    let blank = VerifierKey::new(name.clone(), Algorithm::Ed25519, &[0; 32])?;
    TokenKey::new(label, blank).with_context(|| format!("--label {label}"))?;
    let token = Token::open(&Access { module, token, pin: &pin }, is_new)?;
    if is_new {
        token.generate(label)?;
    }
    let key = VerifierKey::new(name, Algorithm::Ed25519, &token.public(label)?)?;
    token.close();
    let described = TokenKey::new(label, key)?;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(out);
    let mut file = file.with_context(|| out.display().to_string())?;
    writeln!(file, "{described}")?;
    println!("{}", described.key());
    Ok(())
}
