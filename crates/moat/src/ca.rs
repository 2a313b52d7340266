//! `moat ca`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use moat_ca::{
    Authority, Kind, LeafRequest, Level, NameHash, Question, RESPONDER_VALID_MAX_S, Reason,
    Request, Responder, Revocation, Serial, Window,
};
use moat_model::Clock;
use moat_model::clock::System;

use crate::cli_ca::{CaCommand, Hash, IssueArgs, Subject};

const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 86_400;
/// Days of validity, where nobody says so.
const IDENTITY_DAYS: i64 = 365;
const RESPONDER_DAYS_MAX: i64 = RESPONDER_VALID_MAX_S / DAY_S;

/// Seconds since 1970.
pub(crate) fn now_s() -> i64 {
    i64::try_from(System::new().wall_ns() / 1_000_000_000).unwrap_or(i64::MAX)
}

pub(crate) fn run(command: &CaCommand) -> Result<ExitCode> {
    match command {
        CaCommand::Init { dir, name, sm2 } => init(dir, name, *sm2)?,
        CaCommand::Issue(args) => issue(args)?,
        CaCommand::Request { subject, out, sm2 } => request(subject, out, kind(*sm2))?,
        CaCommand::Serve(args) => return crate::ca_serve::run(args),
        CaCommand::Revoke { certificate, reason, dir, sm2, root } => {
            revoke(dir, certificate, *reason, kind(*sm2), level(*root))?;
        }
        CaCommand::Crl { dir, out, days, sm2, root, der } => {
            list(dir, out.as_deref(), *days, kind(*sm2), level(*root), *der)?;
        }
        CaCommand::Ocsp { certificates, out, dir, hours, responder, hash } => {
            let window = Window { from_s: now_s(), length_s: hours.saturating_mul(HOUR_S) };
            answer(dir, certificates, out, window, responder.as_deref(), *hash)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn kind(sm2: bool) -> Kind {
    if sm2 { Kind::Sm2 } else { Kind::P256 }
}

fn level(root: bool) -> Level {
    if root { Level::Root } else { Level::Issuing }
}

fn mark(kind: Kind) -> &'static str {
    if kind == Kind::Sm2 { "-sm2" } else { "" }
}

fn init(dir: &Path, name: &str, sm2: bool) -> Result<()> {
    let (authority, root) = if sm2 {
        (Authority::create_sm2(name, now_s())?, "root-sm2.pem")
    } else {
        (Authority::create(name, now_s())?, "root.pem")
    };
    moat_ca::save(&authority, dir)?;
    eprintln!("made {} and its issuing authority", dir.join(root).display());
    Ok(())
}

/// What stands in a certificate or request, from now on for a year.
fn wish(subject: &Subject) -> LeafRequest {
    let first = subject.spiffe.first().map_or("ocsp-responder", String::as_str);
    let mut wish = LeafRequest::spiffe(first, now_s());
    wish.uris.clone_from(&subject.spiffe);
    wish.names.clone_from(&subject.names);
    wish.organization.clone_from(&subject.organization);
    wish
}

fn stem(subject: &Subject, wish: &LeafRequest, kind: Kind) -> Result<String> {
    let usual = || format!("{}{}", wish.common_name, mark(kind));
    let stem = subject.stem.clone().unwrap_or_else(usual);
    // Before anything is signed or entered.
    moat_ca::check_stem(&stem)?;
    Ok(stem)
}

/// What a certificate shall have.
fn granted(args: &IssueArgs) -> Result<LeafRequest> {
    let mut granted = wish(&args.subject);
    let usual = if args.ocsp_responder { RESPONDER_DAYS_MAX } else { IDENTITY_DAYS };
    let days = args.days.unwrap_or(usual);
    anyhow::ensure!(
        !args.ocsp_responder || days <= RESPONDER_DAYS_MAX,
        "an OCSP responder is valid for at most {RESPONDER_DAYS_MAX} days: give fewer by --days"
    );
    granted.valid_s = days.saturating_mul(DAY_S);
    if days < 0 {
        // Ended that long ago, after a day of validity.
        let ago = days.saturating_sub(1).saturating_mul(DAY_S);
        granted.from_s = granted.from_s.saturating_add(ago);
        granted.valid_s = DAY_S;
    }
    Ok(granted)
}

fn issue(args: &IssueArgs) -> Result<()> {
    let granted = granted(args)?;
    let requested = match &args.request {
        Some(path) => Some(Request::read(&moat_ca::read_file(path)?)?),
        None => None,
    };
    let kind = requested.as_ref().map_or(kind(args.sm2), Request::kind);
    let authority = moat_ca::load(&args.dir, kind, Some(Level::Issuing))?;
    let stem = stem(&args.subject, &granted, kind)?;
    let out = args.out.as_ref().unwrap_or(&args.dir);
    let mut register = moat_ca::open_issuing(&args.dir, &authority)?;
    // Entered before it is given out: what is not in the register could not be revoked by number.
    let mut enter = |chain: &str| -> Result<Serial> {
        let serial = register.enter(&moat_ca::first_certificate(chain.as_bytes())?)?;
        register.save()?;
        Ok(serial)
    };
    let (serial, files) = if let Some(requested) = &requested {
        let chain = authority.issue_for(requested, &granted)?;
        let serial = enter(&chain)?;
        moat_ca::write_chain(&chain, out, &stem)?;
        (serial, format!("{stem}.pem"))
    } else {
        let identity = if args.ocsp_responder {
            authority.issue_responder(&granted)?
        } else {
            authority.issue(&granted)?
        };
        let serial = enter(&identity.chain_pem)?;
        moat_ca::write_identity(&identity, out, &stem)?;
        (serial, format!("{stem}.pem and {stem}.key"))
    };
    eprintln!("made {files} in {}, serial {serial}", out.display());
    Ok(())
}

fn request(subject: &Subject, out: &Path, kind: Kind) -> Result<()> {
    let wish = wish(subject);
    let stem = stem(subject, &wish, kind)?;
    moat_ca::write_request(&moat_ca::request(kind, &wish)?, out, &stem)?;
    eprintln!("made {stem}.key, which stays here, and {stem}.csr for the authority");
    Ok(())
}

fn revoke(dir: &Path, certificate: &str, reason: Reason, kind: Kind, level: Level) -> Result<()> {
    let revocation = Revocation { at_s: now_s(), reason };
    let path = Path::new(certificate);
    let (serial, name, kind, level) = if path.exists() {
        let der = moat_ca::first_certificate(&moat_ca::read_file(path)?)?;
        let kind = moat_ca::signed_kind(&der)?;
        let authority = moat_ca::load(dir, kind, None)?;
        let level = authority.level_of(&der)?;
        let mut register = moat_ca::open(dir, &authority, level)?;
        // Also what was issued before there was a register: the signature is ours.
        let serial = register.issued(&der)?;
        let name = register.revoke(&serial, revocation)?.name.clone();
        register.save()?;
        (serial, name, kind, level)
    } else {
        let serial = Serial::from_hex(certificate)
            .with_context(|| format!("there is no file {}", path.display()))?;
        let authority = moat_ca::load(dir, kind, None)?;
        let mut register = moat_ca::open(dir, &authority, level)?;
        let name = register.revoke(&serial, revocation)?.name.clone();
        register.save()?;
        (serial, name, kind, level)
    };
    let sm2 = if kind == Kind::Sm2 { " --sm2" } else { "" };
    let root = if level == Level::Root { " --root" } else { "" };
    eprintln!("revoked {serial} ({name}): {}; now run `moat ca crl{sm2}{root}`", reason.name());
    Ok(())
}

fn list(
    dir: &Path,
    out: Option<&Path>,
    days: i64,
    kind: Kind,
    level: Level,
    der: bool,
) -> Result<()> {
    let authority = moat_ca::load(dir, kind, Some(level))?;
    let mut register = moat_ca::open(dir, &authority, level)?;
    let window = Window { from_s: now_s(), length_s: days.saturating_mul(DAY_S) };
    let (list, out) =
        moat_ca::write_list(&authority, level, &mut register, window, (dir, out), der)?;
    let count = register.revoked().count();
    eprintln!(
        "made {}: number {}, {count} revoked, due in {days} days",
        out.display(),
        list.number
    );
    Ok(())
}

fn answer(
    dir: &Path,
    certificates: &[PathBuf],
    out: &Path,
    window: Window,
    responder: Option<&Path>,
    hash: Option<Hash>,
) -> Result<()> {
    let read = |path: &PathBuf| -> Result<_> {
        Ok(moat_ca::first_certificate(&moat_ca::read_file(path)?)?)
    };
    let ders: Vec<_> = certificates.iter().map(read).collect::<Result<_>>()?;
    let first = ders.first().context("no certificate")?;
    let kind = moat_ca::signed_kind(first)?;
    let signs = responder.is_none().then_some(Level::Issuing);
    let authority = moat_ca::load(dir, kind, signs)?;
    let register = moat_ca::open_issuing(dir, &authority)?;
    let text = |path: &Path, suffix: &str| -> Result<_> {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        Ok(moat_ca::read_text(Path::new(&name))?)
    };
    let pair = match responder {
        Some(path) => Some((text(path, ".pem")?, text(path, ".key")?)),
        None => None,
    };
    let responder = pair.as_ref().map(|(chain_pem, key_pem)| Responder { chain_pem, key_pem });
    let hash = match hash {
        None => authority.usual_hash(),
        Some(Hash::Sha1) => NameHash::Sha1,
        Some(Hash::Sha256) => NameHash::Sha256,
        Some(Hash::Sm3) => NameHash::Sm3,
    };
    let question = Question { certificates: &ders, hash, window, responder };
    let answer = authority.answer(&register, &question)?;
    moat_ca::write_answer(out, &answer)?;
    for (path, (serial, status)) in certificates.iter().zip(&answer.statuses) {
        eprintln!("{}: {serial} {}", path.display(), status.name());
    }
    Ok(())
}
