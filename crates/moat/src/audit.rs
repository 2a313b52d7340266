//! `moat audit`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use moat_audit::code;
use moat_audit::evidence::{Against, verify_evidence};
use moat_audit::record::{Body, Kind, Leaf};
use moat_audit::search::{Found, leaves};
use moat_audit::stamps::{Bracket, Stamp};
use moat_audit::store::Dir;
use moat_model::clock::rfc3339_ms;
use moat_tlog::key::Algorithm;
use moat_tlog::policy::Policy;
use moat_tlog::sign::{AwsLc, Sm};
use serde_json::json;

use crate::cli::{AuditCommand, Output};
use crate::exit::TAMPERED;
use crate::{evidence, mirror, pack, sql, timestamp, witness};

pub(crate) fn run(command: &AuditCommand) -> Result<ExitCode> {
    match command {
        AuditCommand::Show { dir, from, limit, tsa, output } => {
            let stamps = tsa.as_deref().map(|tsa| timestamp::stamps(dir, tsa)).transpose()?;
            let stamps = stamps.map(|stamps| stamps.good);
            print_all(dir, *from, *limit, *output, stamps.as_deref(), |_| true)
        }
        AuditCommand::Search { dir, actor, object, trace, code, kind, field, limit, output } => {
            let kind = kind.as_deref().map(parse_kind).transpose()?;
            let fits = |body: &Body| {
                let text = |wanted: &Option<String>, found: &str| {
                    wanted.as_deref().is_none_or(|wanted| wanted == found)
                };
                text(actor, &body.actor)
                    && text(object, &body.object)
                    && text(code, &body.code)
                    && text(trace, &moat_audit::hash::hex(&body.trace_id))
                    && kind.is_none_or(|kind| kind == body.kind)
                    && field
                        .as_deref()
                        .is_none_or(|name| body.fields.iter().any(|f| f.name() == name))
            };
            print_all(dir, 0, *limit, *output, None, fits)
        }
        AuditCommand::Verify { dir, keys, policy, unsigned_max, tsa, output } => {
            let policy = evidence::policy(policy.as_deref(), keys)?;
            verify_dir(dir, policy.as_ref(), *unsigned_max, tsa.as_deref(), *output)
        }
        AuditCommand::Prove { seq, dir, out, entry } => {
            evidence::write_proof(dir, *seq, out.as_deref(), entry.as_deref())
        }
        AuditCommand::Export { dir, out } => evidence::export(dir, out),
        AuditCommand::Keygen { origin, out, sm2, witness } => {
            let algorithm = match (sm2, witness) {
                (true, _) => Algorithm::Sm2Sm3,
                (_, true) => Algorithm::CosignatureV1,
                _ => Algorithm::Ed25519,
            };
            evidence::keygen(origin, out, algorithm)
        }
        AuditCommand::Compare { one, other, proofs } => {
            evidence::compare_copies(one, other, proofs.as_deref())
        }
        AuditCommand::Mirror { dir, to, keys, policy } => {
            mirror::run_mirror(dir, to, evidence::policy(policy.as_deref(), keys)?.as_ref())
        }
        AuditCommand::Repair { dir, from, keys, policy } => {
            mirror::run_repair(dir, from, evidence::policy(policy.as_deref(), keys)?.as_ref())
        }
        AuditCommand::CompareAll { logs, mirrors, proofs, policy, output } => {
            let policy = evidence::policy(policy.as_deref(), &[])?;
            mirror::run_compare_all(logs, mirrors, proofs.as_deref(), policy.as_ref(), *output)
        }
        AuditCommand::Sql { dir, from, to } => sql::run(dir, *from, *to),
        AuditCommand::Timestamp { dir, out } => timestamp::request(dir, out),
        AuditCommand::Timestamped { dir, size, answer, authority } => {
            timestamp::take(dir, *size, answer, authority)
        }
        AuditCommand::Pack { dir, from, to, object, policy, out } => {
            let wanted =
                pack::Wanted { from: *from, to: to.unwrap_or(*from), object: object.as_deref() };
            pack::run(dir, &wanted, policy.as_deref(), out)
        }
        AuditCommand::Checkpoint { dir, old, out } => witness::request(dir, *old, out),
        AuditCommand::Cosigned { request, answers, dir, policy } => {
            witness::cosigned(request, answers, dir, policy)
        }
        AuditCommand::Witness { dir, key, logs, listen, user, request, out } => {
            let asked = request.as_deref().map(|request| (request, out.as_path()));
            witness::run(dir, key, logs, *listen, user.as_deref(), asked)
        }
        AuditCommand::ResumeSigning { dir, reason } => evidence::resume_signing(dir, reason),
        AuditCommand::Vkey { dir, key } => evidence::vkey(dir, key.as_deref()),
    }
}

fn parse_kind(name: &str) -> Result<Kind> {
    let wanted = name.to_ascii_uppercase();
    match Kind::ALL.iter().find(|kind| kind.name() == wanted) {
        Some(kind) => Ok(*kind),
        None => bail!("there is no kind {name}; see `moat audit search --help`"),
    }
}

fn print_all(
    dir: &Path,
    from: u64,
    limit: usize,
    output: Output,
    stamps: Option<&[Stamp]>,
    fits: impl Fn(&Body) -> bool,
) -> Result<ExitCode> {
    let found = leaves(dir).with_context(|| format!("{} cannot be read", dir.display()))?;
    let mut printed = 0;
    for found in found.starting_at(from) {
        let found = found.context("the log cannot be read any further; `moat audit verify`")?;
        if !fits(&found.leaf.body) {
            continue;
        }
        if printed == limit {
            eprintln!("moat: stopped after {limit} records; --limit shows more");
            break;
        }
        printed += 1;
        match output {
            Output::Table => {
                print!("{}", table(&found));
                if let Some(stamps) = stamps {
                    let bracket = Bracket::of(stamps, found.leaf.head.seq);
                    println!("        made {}", timestamp::words(&bracket));
                }
            }
            Output::Json => {
                let mut told = as_json(&found);
                if let (Some(stamps), Some(told)) = (stamps, told.as_object_mut()) {
                    let bracket = Bracket::of(stamps, found.leaf.head.seq);
                    told.insert("not_earlier_ns".into(), json!(bracket.not_earlier_ns));
                    told.insert("not_later_ns".into(), json!(bracket.not_later_ns));
                }
                println!("{told}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One record for people: a head line, then a line for each field in the text code.
pub(crate) fn table(found: &Found) -> String {
    let Leaf { head, body } = &found.leaf;
    let outcome = body.outcome.map_or("", |outcome| outcome.name());
    let mut parts = vec![
        format!("{:>6}", head.seq),
        rfc3339_ms(head.t_wall_ns),
        format!("{:<8}", body.kind.name()),
        format!("{outcome:<10}"),
    ];
    let texts = [&body.actor, &body.method, &body.object, &body.code, &body.note];
    parts.extend(texts.into_iter().filter(|text| !text.is_empty()).cloned());
    if let Some(intent) = body.intent_seq {
        parts.push(format!("of intent {intent}"));
    }
    if let Some(parent) = body.parent_seq {
        parts.push(format!("closes {parent}"));
    }
    if !body.reasons.is_empty() {
        parts.push(format!("[{}]", body.reasons.join(", ")));
    }
    let mut text = parts.join("  ");
    text.push('\n');
    for line in code::lines(body) {
        text.push_str("        ");
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn as_json(found: &Found) -> serde_json::Value {
    let Leaf { head, body } = &found.leaf;
    let hex = |hash: &moat_audit::hash::Hash| moat_audit::hash::hex(hash);
    json!({
        "seq": head.seq,
        "time": rfc3339_ms(head.t_wall_ns),
        "t_wall_ns": head.t_wall_ns,
        "leaf_hash": hex(&found.leaf_hash),
        "prev_hash": hex(&head.prev_hash),
        "segment": found.segment,
        "offset": found.offset,
        "kind": body.kind.name(),
        "outcome": body.outcome.map(|o| o.name()),
        "answered": body.answered,
        "stage": body.stage.map(|s| s.name()),
        "code": body.code,
        "reasons": body.reasons,
        "trace": moat_audit::hash::hex(&body.trace_id),
        "intent_seq": body.intent_seq,
        "parent_seq": body.parent_seq,
        "tenant": body.tenant,
        "listener": body.listener,
        "route": body.route,
        "actor": body.actor,
        "actor_subject": body.actor_subject,
        "peer_cert_sha256": body.peer_cert_hash.as_ref().map(hex),
        "method": body.method,
        "op": body.op.map(|op| op.name()),
        "object": body.object,
        "fields": code::lines(body),
        "policy": body.policy_ver,
        "generation": body.generation,
        "http_status": body.http_status,
        "upstream": body.upstream,
        "bytes_in": body.bytes_in,
        "bytes_out": body.bytes_out,
        "duration_us": body.duration_us,
        "upstream_us": body.upstream_us,
        "note": body.note,
        "suite": body.suite,
        "group": body.group,
        "upstream_suite": body.upstream_suite,
        "upstream_group": body.upstream_group,
        "step_up": body.step_up,
        "ja4": body.ja4,
        "wire": body.wire,
        "unguarded": body.unguarded,
        "risk": body.risk,
    })
}

fn verify_dir(
    dir: &Path,
    policy: Option<&Policy>,
    unsigned_max: Option<u64>,
    tsa: Option<&Path>,
    output: Output,
) -> Result<ExitCode> {
    if !dir.is_dir() {
        bail!("{} is no folder; name the log with --dir", dir.display());
    }
    let against = Against { policy, unsigned_max, ..Against::default() };
    let evidence = verify_evidence(&Dir::new(dir), &against, &(AwsLc, Sm))
        .with_context(|| format!("{} cannot be read", dir.display()))?;
    let stamps = tsa.map(|tsa| timestamp::stamps(dir, tsa)).transpose()?;
    let wrong = match &stamps {
        Some(stamps) => timestamp::check(dir, stamps)?,
        None => Vec::new(),
    };
    let count = stamps.as_ref().map(|stamps| stamps.good.len());
    match output {
        Output::Json => {
            let mut told = evidence.json();
            if let (Some(count), Some(told)) = (count, told.as_object_mut()) {
                told.insert("time_stamps".into(), json!({ "good": count, "findings": wrong }));
            }
            println!("{told}");
        }
        Output::Table => {
            print!("{}", evidence.text());
            if let Some(count) = count {
                println!("time stamps  {count} tokens");
                wrong.iter().for_each(|text| println!("FOUND        {text}"));
            }
        }
    }
    let is_good = evidence.is_good() && wrong.is_empty();
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::from(TAMPERED) })
}
