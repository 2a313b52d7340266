//! `moat audit witness | checkpoint | cosigned`: the witness itself, and the way to one that is not
//! on the network.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use moat_audit::store::Dir;
use moat_audit::tiles::{CHECKPOINT_FILE, Stored, checkpoint, witnessed};
use moat_auditor::{INBOX, INBOX_SUFFIX};
use moat_kernel::{Jail, Role, User, enter};
use moat_model::clock::System;
use moat_tlog::Sha256;
use moat_tlog::key::VerifierKey;
use moat_tlog::policy::Policy;
use moat_tlog::sign::AwsLc;
use moat_tlog::tree::Tree;
use moat_tlog::witness::{ANSWER_BYTES_MAX, Answer, REQUEST_BYTES_MAX, Request};
use moat_witness::server;
use moat_witness::witness::{Witness, WitnessError};

use crate::evidence::write;
use crate::exit::TAMPERED;

/// Runs a witness, or lets it answer one request from a file.
pub(crate) fn run(
    dir: &Path,
    key: &Path,
    logs: &[String],
    listen: SocketAddr,
    user: Option<&str>,
    asked: Option<(&Path, &Path)>,
) -> Result<ExitCode> {
    let logs = logs.iter().map(|vkey| {
        VerifierKey::parse(vkey).with_context(|| format!("--log-key {vkey} is no verifier key"))
    });
    let logs: Vec<VerifierKey> = logs.collect::<Result<_>>()?;
    let text = std::fs::File::open(key).and_then(moat_auditor::read_key);
    let text = text.with_context(|| key.display().to_string())?;
    let signer = moat_auditor::log_signer(&text)
        .with_context(|| format!("{} is no key of a witness", key.display()))?;
    // All that needs the rights of whoever started it comes before the jail.
    let request = asked.map(|(file, _)| read(file, REQUEST_BYTES_MAX)).transpose()?;
    let listener = match request {
        Some(_) => None,
        None => Some(TcpListener::bind(listen).with_context(|| listen.to_string())?),
    };
    if asked.is_none() {
        jail(dir, user)?;
    }
    let mut witness =
        Witness::open(dir, logs, vec![signer]).with_context(|| format!("{}", dir.display()))?;
    if let (Some(request), Some((_, out))) = (&request, asked) {
        return answer(&mut witness, request, out);
    }
    let Some(listener) = listener else { bail!("there is nothing to listen on") };
    let keys: Vec<String> = witness.keys().map(ToString::to_string).collect();
    tracing::info!(address = %listener.local_addr()?, keys = keys.join(", "), "the witness listens");
    server::serve(witness, listener, Arc::new(System::new()))?;
    Ok(ExitCode::SUCCESS)
}

/// Gives up every right but the folder and the socket.
fn jail(dir: &Path, user: Option<&str>) -> Result<()> {
    let user: Option<User> = match user {
        None => None,
        Some(name) => {
            Some(moat_kernel::find_user(name)?.with_context(|| format!("no user {name}"))?)
        }
    };
    if user.is_none() && rustix::process::geteuid().is_root() {
        tracing::warn!("the witness stays root; --user names another user");
    }
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let report = enter(&Jail { role: Role::Witness, user, writable: vec![dir.to_path_buf()] })?;
    if report.landlock.is_none() || !report.seccomp {
        tracing::warn!(?report, "the kernel does not enforce all of the sandbox");
    }
    Ok(())
}

fn answer(witness: &mut Witness, request: &[u8], out: &Path) -> Result<ExitCode> {
    match witness.answer(request, &System::new()) {
        Ok(lines) => {
            put(out, lines.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(WitnessError::Refused(refusal)) => {
            eprintln!("moat: refused, as status {}: {refusal}", refusal.status());
            Ok(ExitCode::from(TAMPERED))
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes the last checkpoint as a request.
pub(crate) fn request(dir: &Path, old: Option<u64>, out: &Path) -> Result<ExitCode> {
    let store = Dir::new(dir);
    let signed = checkpoint(&store)?.context("the log has no checkpoint; nothing is signed")?;
    let signed = signed.map_err(|error| anyhow!("{CHECKPOINT_FILE}: {error}"))?;
    let size = signed.checkpoint().size();
    let seen = witnessed(&store)?.and_then(Result::ok).map_or(0, |seen| seen.checkpoint().size());
    let old = old.unwrap_or(seen);
    if old > size {
        bail!("the last checkpoint has {size} records; --old cannot be {old}");
    }
    let proof = if old == 0 || old == size {
        Vec::new()
    } else {
        let mut tree = Tree::<Sha256, _>::new(size, Stored::new(&store, size))?;
        tree.consistency(old).context("the tiles cannot be read; `moat audit verify` says why")?
    };
    let request = Request::new(old, proof, signed)?;
    put(out, request.body().as_bytes())?;
    if out != Path::new("-") {
        println!("from {old} to {size} records: {}", out.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts a checkpoint and what witnesses answered into the inbox of the auditor.
pub(crate) fn cosigned(
    request: &Path,
    answers: &[PathBuf],
    dir: &Path,
    policy: &Path,
) -> Result<ExitCode> {
    let asked = Request::parse(&read(request, REQUEST_BYTES_MAX)?)
        .with_context(|| request.display().to_string())?;
    let bytes = std::fs::read(policy).with_context(|| policy.display().to_string())?;
    let policy = Policy::parse(&bytes).with_context(|| policy.display().to_string())?;
    let keys: Vec<VerifierKey> = policy.witnesses().map(|(key, _)| key.clone()).collect();
    let mut signed = asked.signed().clone();
    for path in answers {
        let answer = Answer::parse(200, "", &read(path, ANSWER_BYTES_MAX)?)
            .with_context(|| path.display().to_string())?;
        let lines = answer.accept(signed.checkpoint(), &keys, &AwsLc);
        if lines.is_empty() {
            bail!("{}: no witness of the policy cosigned this checkpoint", path.display());
        }
        let lines: Vec<_> = lines.into_iter().map(|(line, _)| line).collect();
        signed = signed.with(&lines)?;
    }
    policy.witnessed(&signed, &AwsLc)?;
    let (size, inbox) = (signed.checkpoint().size(), dir.join(INBOX));
    let name = inbox.join(format!("{size}{INBOX_SUFFIX}"));
    // Under its name only when it is whole, and readable for the auditor's user, who is another.
    let fresh = inbox.join(format!("{size}.new"));
    write(&fresh, signed.to_string().as_bytes())
        .context("the folder is made by an auditor that runs with `audit.policy`")?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o644))?;
    std::fs::rename(&fresh, &name)?;
    println!("{size} records are cosigned by enough witnesses: {}", name.display());
    Ok(ExitCode::SUCCESS)
}

fn put(out: &Path, bytes: &[u8]) -> Result<()> {
    if out == Path::new("-") {
        std::io::stdout().write_all(bytes)?;
        return Ok(());
    }
    write(out, bytes)
}

fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>> {
    let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    let mut bytes = Vec::new();
    let most = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
    if bytes.len() > bytes_max {
        bail!("{} is longer than {bytes_max} bytes", path.display());
    }
    Ok(bytes)
}
