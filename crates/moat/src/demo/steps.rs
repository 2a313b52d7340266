//! The lines of the demo. Each states what must be seen, and looks it up in the log.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use moat_audit::code;
use moat_audit::prove::{ProveError, prove};
use moat_audit::record::{Kind, Outcome};
use moat_audit::search::{Found, leaves};
use moat_audit::store::Dir;
use moat_audit::verify::verify;
use moat_tlog::key::VerifierKey;
use moat_tlog::logproof::LogProof;
use moat_tlog::policy::Policy;
use moat_tlog::sign::AwsLc;
use moat_tlog::{Sha256, TreeHash as _};
use rustix::process::{Pid, Signal, kill_process};

use super::answer;
use super::client::{Reply, get, post};
use super::say::Say;
use super::setup::{STEP_UP_KEY_ID, Setup};

/// Longest wait for something to show up in the log or in the status.
const WAIT: Duration = Duration::from_secs(10);
const READ: &str = "/v1/accounts/1001";
const TRANSFER: &str = "/v1/accounts/1001/transfer";
/// Nobody's address (RFC 5737), where the gateway has no business.
const FORBIDDEN: &str = "203.0.113.7:443";
/// Calls made while the configuration is reloaded.
const LOAD_CALLS: usize = 300;

pub(crate) async fn calls(setup: &mut Setup, say: &mut Say) -> Result<()> {
    read_masked(setup, say).await?;
    national(setup, say).await?;
    transfer(setup, say).await?;
    denied(setup, say).await?;
    challenged(setup, say).await?;
    refused_handshakes(setup, say).await?;
    refused_identities(setup, say).await?;
    spoofed_header(setup, say).await?;
    bad_json(setup, say).await?;
    grpc(setup, say).await?;
    reload_under_load(setup, say).await?;
    egress_refused(setup, say).await?;
    slowest_call(setup, say).await?;
    auditor_killed(setup, say).await
}

/// The record that an answer names.
fn record_of(setup: &Setup, reply: &Reply) -> Result<Found> {
    let seq = reply.record().context("the answer names no record")?;
    find(setup, |found| found.leaf.head.seq == seq).context("the record is not in the log")
}

fn find(setup: &Setup, wanted: impl Fn(&Found) -> bool) -> Option<Found> {
    leaves(&setup.log_dir()).ok()?.filter_map(Result::ok).find(|found| wanted(found))
}

/// Waits for a record: a refused handshake has no answer that could name it.
pub(super) async fn await_record(setup: &Setup, wanted: impl Fn(&Found) -> bool) -> Result<Found> {
    let begun = Instant::now();
    loop {
        if let Some(found) = find(setup, &wanted) {
            return Ok(found);
        }
        if begun.elapsed() > WAIT {
            bail!("the record did not appear in the log");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn read_masked(setup: &Setup, say: &mut Say) -> Result<()> {
    let reply = setup.client(Some("teller"))?.call(get(READ)?).await?;
    let body = String::from_utf8_lossy(&reply.body).into_owned();
    let record = record_of(setup, &reply)?;
    let text = |pointer: &str| {
        let json = reply.json();
        json.pointer(pointer).and_then(|v| v.as_str()).unwrap_or("").to_owned()
    };
    let masked = ["/owner/name", "/owner/id_card", "/owner/mobile", "/card"];
    let good = reply.status == 200
        && masked.iter().all(|pointer| text(pointer).contains('*'))
        && text("/balance") == "9876.50"
        && record.leaf.body.kind == Kind::Read;
    let seen = format!("{} {body}\nrecord {}", reply.status, record.leaf.head.seq);
    say.line(
        good,
        "a teller reads an account: allowed, masked",
        "柜员读取账户：允许，已脱敏",
        &seen,
    );
    Ok(())
}

/// The SM2 caller and the ordinary one, on one port; the service has an SM2 certificate only.
async fn national(setup: &Setup, say: &mut Say) -> Result<()> {
    let mut seen = String::new();
    let mut good = true;
    for (stem, is_national) in [("teller-sm2", true), ("teller", false)] {
        let reply = setup.client(Some(stem))?.call(get(READ)?).await?;
        let body = record_of(setup, &reply)?.leaf.body;
        good &= reply.status == 200
            && (body.suite == "TLS_SM4_GCM_SM3" && body.group == "curveSM2") == is_national
            && body.actor == "spiffe://bank.test/teller";
        let (suite, group) = (body.suite, body.group);
        seen.push_str(&format!("{}  {stem}: {suite}, {group}\n", reply.status));
    }
    seen.push_str("gateway to service: SM2 on both sides; the service takes nothing else");
    let (en, zh) = (
        "an SM2 caller and an ordinary one on the same port, an SM2 service behind",
        "同一端口：国密调用方与普通调用方，后端为国密服务",
    );
    say.line(good, en, zh, &seen);
    Ok(())
}

async fn transfer(setup: &Setup, say: &mut Say) -> Result<()> {
    let body = r#"{"amount":"100.00","to":{"account":"1002"},"note":"rent"}"#;
    let reply = setup.client(Some("teller"))?.call(post(TRANSFER, body)?).await?;
    let outcome = record_of(setup, &reply)?;
    let lines = code::lines(&outcome.leaf.body);
    let balance = lines.iter().find(|line| line.contains("#balance$")).cloned().unwrap_or_default();
    let intent = outcome.leaf.body.intent_seq;
    let paired =
        find(setup, |f| Some(f.leaf.head.seq) == intent && f.leaf.body.kind == Kind::Intent);
    let good = reply.status == 200
        && balance.ends_with("#balance$9876.50→9776.50")
        && outcome.leaf.body.outcome == Some(Outcome::Committed)
        && paired.is_some();
    let seen = format!(
        "{}  INTENT {} before the service saw it, OUTCOME {} before the answer\n{balance}",
        reply.status,
        intent.unwrap_or_default(),
        outcome.leaf.head.seq
    );
    let (en, zh) = ("a transfer: balance before and after", "转账：前后余额快照");
    say.line(good, en, zh, &seen);
    Ok(())
}

async fn denied(setup: &Setup, say: &mut Say) -> Result<()> {
    let body = r#"{"amount":"60000.00","to":{"account":"1002"},"note":"car"}"#;
    let reply = setup.client(Some("teller"))?.call(post(TRANSFER, body)?).await?;
    let record = record_of(setup, &reply)?;
    let good = reply.status == 403
        && record.leaf.body.code == "MOAT-P001"
        && record.leaf.body.reasons == ["over_limit"]
        && record.leaf.body.kind == Kind::Refusal;
    let seen = format!("{} {}", reply.status, String::from_utf8_lossy(&reply.body));
    let (en, zh) =
        ("over the limit: denied by policy, with the reason", "超限额：策略拒绝并说明理由");
    say.line(good, en, zh, &seen);
    Ok(())
}

/// A large transfer: challenged, signed with the second key, allowed; the same answer again is not.
async fn challenged(setup: &Setup, say: &mut Say) -> Result<()> {
    let body = r#"{"amount":"4500.00","to":{"account":"1002"},"note":"car, used"}"#;
    let mut kept = setup.client(Some("teller"))?.keep().await?;
    let asked = kept.call(post(TRANSFER, body)?).await?;
    let challenge = record_of(setup, &asked)?.leaf;
    let nonce = asked.header("www-authenticate").and_then(|field| quoted(field, "nonce"));
    let nonce = nonce.context("the challenge has no nonce")?.to_owned();
    let key = setup.step_up_key()?;
    let answer = || answer::signed(TRANSFER, body, &nonce, STEP_UP_KEY_ID, &key);
    let done = kept.call(answer()?).await?;
    let outcome = record_of(setup, &done)?.leaf;
    let again = kept.call(answer()?).await?;
    let replayed = record_of(setup, &again)?.leaf;
    let good = asked.status == 401
        && challenge.body.outcome == Some(Outcome::Challenged)
        && done.status == 200
        && outcome.body.outcome == Some(Outcome::Committed)
        && outcome.body.decision_id == challenge.body.decision_id
        && again.status == 401
        && replayed.body.code == "MOAT-P023";
    let seen = format!(
        "{}  CHALLENGED {}: sign a nonce with a second key\n{}  {} in record {}\n\
         {}  the same answer again: {} in record {}",
        asked.status,
        challenge.head.seq,
        done.status,
        outcome.body.step_up,
        outcome.head.seq,
        again.status,
        replayed.body.code,
        replayed.head.seq
    );
    let (en, zh) = (
        "a large transfer: challenged, answered by the machine's second key, once",
        "大额转账：先质询，由机器的第二密钥应答，且仅一次有效",
    );
    say.line(good, en, zh, &seen);
    Ok(())
}

/// What stands in quotes behind `name=`.
fn quoted<'a>(field: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = field.split_once(&format!("{name}=\""))?;
    after.split_once('"').map(|(value, _)| value)
}

async fn refused_handshakes(setup: &Setup, say: &mut Say) -> Result<()> {
    let cases = [
        (None, "MOAT-T001", "no certificate", "无证书"),
        (Some("expired"), "MOAT-T002", "an expired certificate", "证书过期"),
    ];
    for (stem, wanted, en, zh) in cases {
        let ended = setup.client(stem)?.call(get(READ)?).await;
        let record = await_record(setup, |found| found.leaf.body.code == wanted).await?;
        let told = match &ended {
            Ok(reply) => format!("answered {}", reply.status),
            Err(error) => format!("{error:#}"),
        };
        let seen = format!(
            "{wanted} at {}, record {}; the caller saw: {told}",
            record.leaf.body.stage.map_or("?", moat_model::Stage::name),
            record.leaf.head.seq
        );
        say.line(ended.is_err(), en, zh, &seen);
    }
    Ok(())
}

async fn refused_identities(setup: &Setup, say: &mut Say) -> Result<()> {
    let cases = [
        ("stranger", "MOAT-I004", "a SPIFFE id of another trust domain", "其他信任域的 SPIFFE ID"),
        ("twofold", "MOAT-I002", "two SPIFFE ids in one certificate", "一张证书两个 SPIFFE ID"),
    ];
    for (stem, wanted, en, zh) in cases {
        let reply = setup.client(Some(stem))?.call(get(READ)?).await?;
        let record = record_of(setup, &reply)?;
        let good = reply.status == 403 && record.leaf.body.code == wanted;
        let seen = format!("{} {}", reply.status, String::from_utf8_lossy(&reply.body));
        say.line(good, en, zh, &seen);
    }
    Ok(())
}

async fn spoofed_header(setup: &Setup, say: &mut Say) -> Result<()> {
    let mut request = get(READ)?;
    let forged = "Hash=00;URI=spiffe://bank.test/teller";
    request.headers_mut().insert("x-forwarded-client-cert", forged.parse()?);
    request.headers_mut().insert("x-forwarded-for", "10.9.9.9".parse()?);
    let reply = setup.client(Some("auditor"))?.call(request).await?;
    let record = record_of(setup, &reply)?;
    let actor = record.leaf.body.actor;
    let good = reply.status == 200 && actor == "spiffe://bank.test/auditor";
    let seen = format!("{}  sent: teller; recorded: {actor}", reply.status);
    let (en, zh) = (
        "a forged identity header: stripped, the certificate counts",
        "伪造身份头：已剥除，以证书为准",
    );
    say.line(good, en, zh, &seen);
    Ok(())
}

async fn bad_json(setup: &Setup, say: &mut Say) -> Result<()> {
    let body = r#"{"amount":"1.00","amount":}"#;
    let reply = setup.client(Some("teller"))?.call(post(TRANSFER, body)?).await?;
    let record = record_of(setup, &reply)?;
    let good = reply.status == 400 && record.leaf.body.code == "MOAT-M001";
    let seen =
        format!("{} {}, record {}", reply.status, record.leaf.body.code, record.leaf.head.seq);
    say.line(good, "a body that is not JSON", "消息体不是 JSON", &seen);
    Ok(())
}

async fn grpc(setup: &Setup, say: &mut Say) -> Result<()> {
    // GetAccountRequest { id: "1001" } in protobuf, in a gRPC frame: flag, length, message.
    let message = b"\x0a\x041001";
    let mut frame = vec![0, 0, 0, 0, u8::try_from(message.len())?];
    frame.extend_from_slice(message);
    let request = http::Request::post("/moat.accounts.v1.Accounts/GetAccount")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(http_body_util::Full::from(frame))?;
    let reply = setup.client(Some("teller"))?.call_http2(request).await?;
    let status = reply.header("grpc-status").unwrap_or("none").to_owned();
    let record = record_of(setup, &reply)?;
    let closes = record.leaf.head.seq;
    let closing = await_record(setup, |found| found.leaf.body.parent_seq == Some(closes)).await?;
    let good = status == "0" && reply.body.len() > 5;
    let seen = format!(
        "grpc-status {status}, {} bytes; record {closes} before the first byte, {} closes it",
        reply.body.len(),
        closing.leaf.head.seq
    );
    say.line(good, "a gRPC call", "gRPC 调用", &seen);
    Ok(())
}

async fn reload_under_load(setup: &Setup, say: &mut Say) -> Result<()> {
    let before = setup.state().map_or(0, |state| state.generation);
    let load = {
        let client = setup.client(Some("teller"))?;
        tokio::task::spawn_local(async move {
            let (mut good, mut kept) = (0, client.keep().await?);
            for _ in 0..LOAD_CALLS {
                good += usize::from(kept.call(get(READ)?).await?.status == 200);
            }
            anyhow::Ok(good)
        })
    };
    // The change: tellers may transfer up to 100,000.00 from now on.
    let limits = setup.path("policy/limits.json");
    let changed =
        fs::read_to_string(&limits)?.replace("500000", "10000000").replace("400000", "10000000");
    fs::write(setup.path("policy/.limits.new"), changed)?;
    fs::rename(setup.path("policy/.limits.new"), limits)?;
    let socket = setup.path("admin.sock");
    let reloaded =
        tokio::task::spawn_blocking(move || crate::status::ask(&socket, "POST", "/v1/reload"));
    let (status, told) = reloaded.await??;
    let good_calls = load.await??;
    let after = setup.state().map_or(0, |state| state.generation);
    let body = r#"{"amount":"60000.00","to":{"account":"1002"},"note":"car"}"#;
    let reply = setup.client(Some("teller"))?.call(post(TRANSFER, body)?).await?;
    // The limit no longer denies it; now the service does, for want of money.
    let passes = reply.status == 422;
    let good = status == 200 && good_calls == LOAD_CALLS && after > before && passes;
    let seen = format!(
        "generation {before} → {after} {told}; {good_calls} of {LOAD_CALLS} calls good; \
         the new limit lets 60000.00 pass to the service, which says {}",
        reply.status
    );
    let (en, zh) = ("a reload under load: no failed call", "负载下重载：无一调用失败");
    say.line(good, en, zh, &seen);
    Ok(())
}

/// What a taken-over gateway would do first.
async fn egress_refused(setup: &Setup, say: &mut Say) -> Result<()> {
    let (en, zh) = (
        "a forbidden address tried in the gateway's cgroup: refused by the kernel, recorded",
        "在网关 cgroup 内访问未允许的地址：内核拒绝并记录",
    );
    let kernel = setup.state().context("the gateway does not answer")?.kernel;
    let kernel: moat_kernel::messages::Status = serde_json::from_value(kernel)?;
    let probe = kernel.probes.iter().find(|probe| probe.name == "egress");
    if let Some(probe) = probe.filter(|probe| !probe.is_attached) {
        say.missing(en, zh, &probe.why);
        return Ok(());
    }
    let service = format!("127.0.0.1:{}", setup.ports.accounts);
    let (refused, passed) = (attempt(setup, FORBIDDEN).await?, attempt(setup, &service).await?);
    let wanted = format!("egress/{FORBIDDEN}/tcp");
    let record = await_record(setup, |found| found.leaf.body.object == wanted).await?;
    let good = refused.status.code() == Some(1)
        && passed.status.success()
        && record.leaf.body.code == "MOAT-E001";
    let told = |out: &[u8]| String::from_utf8_lossy(out).trim().to_owned();
    let seen = format!(
        "{}\n{}\nrecord {}: {} {}",
        told(&refused.stdout),
        told(&passed.stdout),
        record.leaf.head.seq,
        record.leaf.body.code,
        record.leaf.body.note
    );
    say.line(good, en, zh, &seen);
    Ok(())
}

/// Where the time of the slowest call went, as gateway and kernel tell it.
async fn slowest_call(setup: &Setup, say: &mut Say) -> Result<()> {
    let (en, zh) = (
        "the slowest call of the last minute: its time by stage and cause, as the kernel saw it",
        "最近一分钟最慢的调用：由内核给出各阶段耗时及原因",
    );
    let kernel = setup.state().context("the gateway does not answer")?.kernel;
    let kernel: moat_kernel::messages::Status = serde_json::from_value(kernel)?;
    let probe = kernel.probes.iter().find(|probe| probe.name == "latency");
    if let Some(probe) = probe.filter(|probe| !probe.is_attached) {
        say.missing(en, zh, &probe.why);
        return Ok(());
    }
    let mut report = crate::latency::fetch(&setup.path("admin.sock"))?;
    // Told once a second, and the calls before this line may have taken less.
    let until = Instant::now() + WAIT;
    while report.exemplars.is_empty() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(100)).await;
        report = crate::latency::fetch(&setup.path("admin.sock"))?;
    }
    let call = report.exemplars.first().context("no call was told")?;
    let mut parts = call.parts.clone();
    parts.sort_by_key(|(_, _, us)| std::cmp::Reverse(*us));
    let shown = parts.iter().take(3).map(|(stage, cause, us)| format!("{stage}/{cause} {us} µs"));
    let shown: Vec<String> = shown.collect();
    let seen = format!("trace {}: {} µs\n{}", call.trace, call.us, shown.join(", "));
    say.line(call.us > 0 && !shown.is_empty(), en, zh, &seen);
    Ok(())
}

/// `moat egress try`.
async fn attempt(setup: &Setup, address: &str) -> Result<std::process::Output> {
    let mut moat = std::process::Command::new(&setup.program);
    moat.args(["egress", "try", address, "--socket"]).arg(setup.path("admin.sock"));
    Ok(tokio::task::spawn_blocking(move || moat.output()).await??)
}

async fn auditor_killed(setup: &Setup, say: &mut Say) -> Result<()> {
    let state = setup.state().context("the gateway does not answer")?;
    let auditor = state.roles.iter().find(|role| role.name == "auditor").context("no auditor")?;
    let pid = i32::try_from(auditor.pid).ok().and_then(Pid::from_raw).context("no process id")?;
    kill_process(pid, Signal::KILL)?;
    let begun = Instant::now();
    let client = setup.client(Some("teller"))?;
    let mut withheld = 0;
    let back = loop {
        let reply = client.call(get(READ)?).await?;
        match reply.status.as_u16() {
            200 => break reply,
            503 => withheld += 1,
            other => bail!("status {other} while the auditor was away"),
        }
        if begun.elapsed() > WAIT {
            bail!("the auditor did not come back");
        }
    };
    let took = begun.elapsed().as_millis();
    let record = record_of(setup, &back)?;
    let restarted = find(setup, |found| {
        found.leaf.body.kind == Kind::Admin && found.leaf.body.note.contains("epoch=2")
    });
    let seen = format!(
        "{withheld} calls got 503, then 200 after {took} ms with record {}; nothing was answered \
         unrecorded",
        record.leaf.head.seq
    );
    let (en, zh) = ("the auditor killed (-9) and back", "审计进程被杀（-9）后恢复");
    say.line(restarted.is_some(), en, zh, &seen);
    Ok(())
}

/// A record proven by inclusion in the checkpoint that the auditor signed, as a stranger would see
/// it: the proof, the record's bytes and the log's public key.
pub(crate) async fn proven(setup: &Setup, say: &mut Say) -> Result<()> {
    let dir = setup.log_dir();
    let wanted = find(setup, |found| found.leaf.body.kind == Kind::Outcome);
    let seq = wanted.context("there is no outcome in the log")?.leaf.head.seq;
    let begun = Instant::now();
    let proven = loop {
        match prove(&Dir::new(&dir), seq) {
            Ok(proven) => break proven,
            Err(ProveError::NotYet(_) | ProveError::NotSigned) if begun.elapsed() < WAIT => {}
            Err(error) => return Err(error).context("the record cannot be proven"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let vkey = fs::read_to_string(dir.join(moat_auditor::VKEY_FILE))?;
    let key = VerifierKey::parse(vkey.trim_end())?;
    let policy = Policy::k_of_n(std::slice::from_ref(&key), &[], 0)?;
    let proof = LogProof::parse(proven.proof.to_string().as_bytes())?;
    let leaf = Sha256::leaf(proven.entry.as_deref().unwrap_or_default());
    let good = proof.verify::<Sha256>(&leaf, &policy, &AwsLc).is_ok()
        && proof.verify::<Sha256>(&Sha256::leaf(b"another record"), &policy, &AwsLc).is_err();
    let seen = format!(
        "record {seq} proven by inclusion in the signed checkpoint of size {}\n{} hashes, \
         signed by {vkey}",
        proof.signed().checkpoint().size(),
        proof.hashes().len()
    );
    let (en, zh) = ("a record proven in the signed log", "记录的包含证明与已签名的 checkpoint");
    say.line(good, en, zh, seen.trim_end());
    Ok(())
}

/// Verifies the log, then a copy with one bit flipped.
pub(crate) fn log(setup: &Setup, say: &mut Say) -> Result<()> {
    let dir = setup.log_dir();
    let report = verify(&dir)?;
    let good = report.is_whole() && report.unpaired.is_empty();
    let seen = format!(
        "{} records in {} segments, root sha256:{}",
        report.records,
        report.segments,
        moat_audit::hash::hex(&report.root)
    );
    say.line(
        good,
        "the log verifies, every intent has its outcome",
        "日志验证通过，意图皆有结果",
        &seen,
    );

    let copy = setup.path("audit-with-one-bit-flipped");
    fs::create_dir(&copy)?;
    let mut flipped = None;
    for entry in fs::read_dir(&dir)? {
        let entry = entry?;
        if !entry.file_type()?.is_file() {
            continue;
        }
        let mut bytes = fs::read(entry.path())?;
        let name = entry.file_name();
        if flipped.is_none() && name.to_string_lossy().ends_with(".seg") {
            let at = written_length(&dir, &name.to_string_lossy())? / 2;
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 0x10;
                flipped = Some((name.clone(), at));
            }
        }
        fs::write(copy.join(name), bytes)?;
    }
    let (name, at) = flipped.context("there is no segment")?;
    let report = verify(&copy)?;
    let finding = report.findings.kept().first();
    let seen = format!(
        "flipped byte {at} of {}\nfound: {}",
        name.to_string_lossy(),
        finding.map_or_else(|| "nothing".to_owned(), ToString::to_string)
    );
    say.line(
        finding.is_some(),
        "one bit flipped in a copy: found and named",
        "副本中翻转一位：已发现并指明",
        &seen,
    );
    Ok(())
}

/// Where the last record of a segment begins: everything before it was written.
fn written_length(dir: &std::path::Path, name: &str) -> Result<usize> {
    let last = leaves(dir)?.filter_map(Result::ok).filter(|found| found.segment == name).last();
    Ok(usize::try_from(last.map_or(0, |found| found.offset))?)
}
