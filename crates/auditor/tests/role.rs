//! The auditor as the supervisor and the gateway see it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use moat_audit::evidence::{Against, verify_evidence};
use moat_audit::link::{self, Message, Nack};
use moat_audit::record::{Body, Kind, Outcome};
use moat_audit::recorder::Recorder;
use moat_audit::store::Dir;
use moat_auditor::{AuditorError, AuditorOptions, LogKeys, RESUME_FILE, make_log_key, run};
use moat_model::code::audit as codes;
use moat_net::control::Channel;
use moat_tlog::checkpoint::SignedCheckpoint;
use moat_tlog::key::{Algorithm, VerifierKey};
use moat_tlog::policy::Policy;
use moat_tlog::sign::{AwsLc, Sm};
use serde_json::Value;

const LONG: Duration = Duration::from_secs(10);

struct Role {
    control: Channel,
    thread: JoinHandle<Result<(), AuditorError>>,
}

fn start(dir: &Path) -> Role {
    let (control, theirs) = Channel::pair().unwrap();
    let options = AuditorOptions::new(dir, "role.test/1");
    let thread = std::thread::spawn(move || run(&options, &Channel::from_fd(theirs)));
    Role { control, thread }
}

impl Role {
    fn hear(&self) -> Value {
        serde_json::from_slice(&self.control.recv().unwrap().unwrap().0).unwrap()
    }

    fn link(&self, worker: u64) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let message = format!(r#"{{"link":{{"worker":{worker}}}}}"#);
        self.control.send(message.as_bytes(), &[theirs.as_fd()]).unwrap();
        ours
    }

    fn stop(self) {
        self.control.send(br#"{"stop":{}}"#, &[]).unwrap();
        self.thread.join().unwrap().unwrap();
    }
}

/// Reads until `seen` has said enough.
fn read_until(stream: &mut UnixStream, mut seen: impl FnMut(Message<'_>) -> bool) {
    let (mut held, mut chunk) = (Vec::new(), vec![0; 4096]);
    loop {
        let more = stream.read(&mut chunk).unwrap();
        assert!(more > 0, "the link ended");
        held.extend_from_slice(&chunk[..more]);
        while let Ok(Some((message, len))) = link::decode(&held) {
            if seen(message) {
                return;
            }
            held.drain(..len);
        }
    }
}

#[test]
fn a_recorder_and_the_auditor_understand_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let role = start(dir.path());
    assert_eq!(role.hear()["ready"]["seq"], 2);
    let stream = role.link(0);
    stream.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let receipts = tokio::task::LocalSet::new().block_on(&runtime, async {
        let recorder = Recorder::new();
        recorder.attach(tokio::net::UnixStream::from_std(stream).unwrap());
        let intent = recorder.commit(&Body::new(Kind::Intent, [1; 16]), LONG).await.unwrap();
        assert_eq!(recorder.anchors().unwrap().secret().len(), 32);
        let outcome = Body {
            intent_seq: Some(intent.seq()),
            outcome: Some(Outcome::Committed),
            ..Body::new(Kind::Outcome, [1; 16])
        };
        let outcome = recorder.commit(&outcome, LONG).await.unwrap();
        [intent, outcome]
    });
    assert_eq!(receipts.map(|receipt| receipt.seq()), [2, 3]);
    role.stop();
    let report = moat_audit::verify::verify(dir.path()).unwrap();
    assert!(report.is_whole() && report.unpaired.is_empty());
    assert_eq!(report.records, 5, "start, the log's key, intent, outcome, stop");
    let found = moat_audit::search::leaves(dir.path()).unwrap().starting_at(3).next();
    let found = found.unwrap().unwrap();
    assert_eq!(&found.leaf_hash, receipts[1].leaf_hash());
    assert_ne!(found.leaf.head.boot_id, [0; 16]);
}

#[test]
fn a_body_that_is_none_is_refused_alone() {
    let dir = tempfile::tempdir().unwrap();
    let role = start(dir.path());
    let mut link = role.link(0);
    let mut out = Vec::new();
    link::push_commit(&mut out, 1, b"no body");
    link::push_commit(&mut out, 2, &Body::new(Kind::Intent, [1; 16]).encode().unwrap());
    link.write_all(&out).unwrap();
    let (mut refused, mut taken) = (false, false);
    read_until(&mut link, |message| {
        match message {
            Message::Nack { req_id, reason } => refused = (req_id, reason) == (1, Nack::Malformed),
            Message::Ack { req_id, .. } => taken = req_id == 2,
            Message::Hello { .. } | Message::Commit { .. } => {}
        }
        refused && taken
    });
    role.stop();
}

#[test]
fn a_new_link_of_a_worker_replaces_its_old_one_and_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let role = start(dir.path());
    let (mut one, mut other) = (role.link(0), role.link(1));
    let is_hello = |message: Message<'_>| matches!(message, Message::Hello { .. });
    read_until(&mut one, is_hello);
    read_until(&mut other, is_hello);
    let mut two = role.link(0);
    read_until(&mut two, is_hello);
    assert_eq!(one.read(&mut [0; 8]).unwrap(), 0, "the old link has ended");
    let _ready = role.hear();
    role.control.send(br#"{"status":{}}"#, &[]).unwrap();
    let status = role.hear();
    assert_eq!(status["status"]["links"], 2, "{status}");
    assert_eq!(status["status"]["state"], "writing");
    role.control.send(b"nonsense", &[]).unwrap();
    assert!(role.hear()["error"].is_string());
    role.control.send(br#"{"link":{"worker":0}}"#, &[]).unwrap();
    assert!(role.hear()["error"].is_string());
    role.stop();
}

#[test]
fn a_peer_that_does_not_read_or_speaks_otherwise_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let role = start(dir.path());
    let mut wrong = role.link(0);
    let mut out = Vec::new();
    link::push_nack(&mut out, 1, Nack::Stopping);
    wrong.write_all(&out).unwrap();
    let mut rest = Vec::new();
    wrong.read_to_end(&mut rest).unwrap();

    let mut deaf = role.link(1);
    let mut out = Vec::new();
    let body = Body::new(Kind::Intent, [1; 16]).encode().unwrap();
    for req_id in 0..1_000 {
        link::push_commit(&mut out, req_id, &body);
    }
    let ended = (0..200).any(|_| deaf.write_all(&out).is_err());
    assert!(ended, "two hundred thousand unread acks were kept");
    role.stop();
    assert!(moat_audit::verify::verify(dir.path()).unwrap().is_whole());
}

/// Every body of this many, however much of it was read when the link ended.
const BODIES: u64 = 6_000;

/// Writes the bodies and ends the link with `end`; gives how many of them the log has.
fn committed_when(end: impl FnOnce(&Role, UnixStream)) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let role = start(dir.path());
    let mut link = role.link(0);
    read_until(&mut link, |message| matches!(message, Message::Hello { .. }));
    let mut out = Vec::new();
    let body = Body::new(Kind::Admin, [1; 16]).encode().unwrap();
    for req_id in 0..BODIES {
        link::push_commit(&mut out, req_id, &body);
    }
    link.write_all(&out).unwrap();
    end(&role, link);
    role.stop();
    let report = moat_audit::verify::verify(dir.path()).unwrap();
    assert!(report.is_whole());
    report.records - 3
}

#[test]
fn what_came_before_a_link_ended_is_committed() {
    assert_eq!(committed_when(|_, link| drop(link)), BODIES);
}

#[test]
fn what_came_before_a_link_was_replaced_is_committed() {
    let mut next = None;
    assert_eq!(committed_when(|role, _old| next = Some(role.link(0))), BODIES);
}

#[test]
fn an_outcome_that_came_before_its_link_ended_is_the_outcome() {
    let dir = tempfile::tempdir().unwrap();
    let role = start(dir.path());
    let ready = role.hear();
    assert_eq!(ready["ready"]["seq"], 2);
    for round in 0..50 {
        let mut link = role.link(0);
        let mut out = Vec::new();
        let intent = Body::new(Kind::Intent, [1; 16]).encode().unwrap();
        link::push_commit(&mut out, 1, &intent);
        link.write_all(&out).unwrap();
        let mut seq = 0;
        read_until(&mut link, |message| {
            if let Message::Ack { ack, .. } = message {
                seq = ack.seq;
            }
            seq > 0
        });
        let outcome = Body {
            intent_seq: Some(seq),
            outcome: Some(Outcome::Committed),
            ..Body::new(Kind::Outcome, [1; 16])
        };
        out.clear();
        link::push_commit(&mut out, 2, &outcome.encode().unwrap());
        link.write_all(&out).unwrap();
        // Ended by its peer, or replaced by the link of the next round.
        if round % 2 == 0 {
            drop(link);
        }
    }
    role.stop();
    let leaves = moat_audit::search::leaves(dir.path()).unwrap();
    let outcomes = leaves.map(|leaf| leaf.unwrap().leaf.body.outcome);
    let outcomes: Vec<Outcome> = outcomes.flatten().collect();
    assert_eq!(outcomes, [Outcome::Committed; 50]);
}

#[test]
fn without_a_supervisor_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let Role { control, thread } = start(dir.path());
    drop(control);
    thread.join().unwrap().unwrap();
    assert!(moat_audit::verify::verify(dir.path()).unwrap().is_whole());
}

#[test]
fn a_second_auditor_is_refused_and_so_is_a_directory_that_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let role = start(dir.path());
    let _ready = role.hear();
    let error = start(dir.path()).thread.join().unwrap().unwrap_err();
    assert_eq!(error.code(), &codes::LOG_LOCKED);
    role.stop();
    let error = start(Path::new("/proc/self")).thread.join().unwrap().unwrap_err();
    assert_eq!(error.code(), &codes::WRITE_FAILED);
}

/// The checkpoint of a log, which its own key signed.
fn checkpoint(dir: &Path) -> SignedCheckpoint {
    let signed = SignedCheckpoint::parse(&std::fs::read(dir.join("checkpoint")).unwrap()).unwrap();
    let vkeys = std::fs::read_to_string(dir.join("log.vkey")).unwrap();
    let keys: Vec<_> = vkeys.lines().map(|vkey| VerifierKey::parse(vkey).unwrap()).collect();
    let by = signed.note().verify(&keys, &(AwsLc, Sm)).unwrap();
    assert_eq!(by.len(), keys.len(), "{vkeys}");
    signed
}

fn start_with(dir: &Path, change: impl FnOnce(&mut AuditorOptions)) -> Role {
    let (control, theirs) = Channel::pair().unwrap();
    let mut options = AuditorOptions::new(dir, "role.test/1");
    change(&mut options);
    let thread = std::thread::spawn(move || run(&options, &Channel::from_fd(theirs)));
    Role { control, thread }
}

impl Role {
    /// Asks until signing stands as wanted.
    fn wait_signed(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = std::time::Instant::now() + LONG;
        loop {
            self.control.send(br#"{"status":{}}"#, &[]).unwrap();
            let signed = loop {
                let message = self.hear();
                if message["status"].is_object() {
                    break message["status"]["signed"].clone();
                }
            };
            if wanted(&signed) {
                return signed;
            }
            assert!(std::time::Instant::now() < until, "{signed}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn records_are_signed_soon_and_the_last_one_when_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    let role = start_with(dir.path(), |options| options.checkpoint_every_ms = 20);
    role.wait_signed(|signed| signed["state"] == "signing" && signed["size"] == 2);
    let mut link = role.link(0);
    let mut out = Vec::new();
    let body = Body::new(Kind::Admin, [1; 16]).encode().unwrap();
    for req_id in 0..1_000 {
        link::push_commit(&mut out, req_id, &body);
    }
    link.write_all(&out).unwrap();
    role.wait_signed(|signed| signed["size"] == 1_002 && signed["unsigned"] == 0);
    assert_eq!(checkpoint(dir.path()).checkpoint().size(), 1_002);
    role.stop();
    let report = moat_audit::verify::verify(dir.path()).unwrap();
    let last = checkpoint(dir.path());
    assert_eq!((last.checkpoint().size(), last.checkpoint().root()), (1_003, &report.root));
    assert_eq!(last.checkpoint().origin(), "role.test/1");
    assert!(dir.path().join("tile/0/002").exists() && !dir.path().join("tile/0/002.p").exists());
}

#[test]
fn a_change_of_keys_is_on_record_and_keys_that_overlap_sign_both() {
    let dir = tempfile::tempdir().unwrap();
    let keys = tempfile::tempdir().unwrap();
    let make = |name: &str, algorithm| {
        let path = keys.path().join(name);
        let key = make_log_key(&path, "role.test/1", algorithm).unwrap();
        (key, zeroize::Zeroizing::new(std::fs::read_to_string(path).unwrap()))
    };
    let ((one, one_text), (two, two_text)) =
        (make("one", Algorithm::Ed25519), make("two", Algorithm::Sm2Sm3));
    for given in [vec![&one_text], vec![&one_text, &two_text], vec![&two_text], vec![&two_text]] {
        let given = LogKeys::Given(given.into_iter().cloned().collect());
        let role = start_with(dir.path(), |options| options.log_keys = given);
        role.wait_signed(|signed| signed["state"] == "signing" && signed["size"] != 0);
        role.stop();
        checkpoint(dir.path());
    }
    let notes: Vec<String> = moat_audit::search::leaves(dir.path())
        .unwrap()
        .map(|found| found.unwrap().leaf.body.note)
        .filter(|note| note.starts_with("log keys"))
        .collect();
    assert_eq!(
        notes,
        [
            format!("log keys changed: {one} begins"),
            format!("log keys changed: {two} begins"),
            format!("log keys changed: {} ends", one.id()),
        ]
    );
}

#[test]
fn what_cannot_be_signed_is_recorded_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let role = start_with(dir.path(), |options| {
        options.log_keys = LogKeys::Unusable("the token is gone".to_owned());
    });
    let signed = role.wait_signed(|_| true);
    assert_eq!(signed["state"], "cannot_sign", "{signed}");
    assert_eq!(signed["code"], codes::CANNOT_SIGN.id);
    role.stop();
    assert!(!dir.path().join("checkpoint").exists());
    // Signed now, and then put back to what it was before: the records are gone, not the signature.
    let role = start(dir.path());
    role.wait_signed(|signed| signed["state"] == "signing" && signed["size"] != 0);
    role.stop();
    let later = checkpoint(dir.path());
    let back = tempfile::tempdir().unwrap();
    let role = start(back.path());
    role.stop();
    for name in ["checkpoint", "signed"] {
        std::fs::copy(dir.path().join(name), back.path().join(name)).unwrap();
    }
    let role = start(back.path());
    let signed = role.wait_signed(|signed| signed["state"] == "refused");
    assert_eq!(signed["code"], codes::NOT_SIGNED_AGAIN.id, "{signed}");
    role.stop();
    assert_eq!(checkpoint_bytes(back.path()), later.to_string());
    assert!(moat_audit::verify::verify(back.path()).unwrap().is_whole());
}

fn checkpoint_bytes(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("checkpoint")).unwrap()
}

/// What whoever can write the folder takes away so that the auditor signs what he wrote.
fn strip(dir: &Path) {
    for name in ["checkpoint", "signed"] {
        let _ = std::fs::remove_file(dir.join(name));
    }
    let _ = std::fs::remove_dir_all(dir.join("tile"));
}

fn notes(dir: &Path, begin: &str) -> Vec<String> {
    let leaves = moat_audit::search::leaves(dir).unwrap();
    let notes = leaves.map(|found| found.unwrap().leaf.body.note);
    notes.filter(|note| note.starts_with(begin)).collect()
}

#[test]
fn a_log_that_was_stripped_is_signed_again_only_by_an_act_on_record() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path()).stop();
    strip(dir.path());
    for _ in 0..2 {
        let role = start(dir.path());
        let signed = role.wait_signed(|signed| signed["state"] == "refused");
        assert_eq!(signed["code"], codes::NOT_SIGNED_AGAIN.id, "{signed}");
        role.stop();
        assert!(!dir.path().join("checkpoint").exists());
    }
    std::fs::write(dir.path().join(RESUME_FILE), "restored from tape 7, ticket 4711\n").unwrap();
    let role = start(dir.path());
    role.wait_signed(|signed| signed["state"] == "signing" && signed["unsigned"] == 0);
    role.stop();
    let report = moat_audit::verify::verify(dir.path()).unwrap();
    assert_eq!(checkpoint(dir.path()).checkpoint().size(), report.records);
    let [note] = &notes(dir.path(), "signing resumed")[..] else { panic!("one record of it") };
    assert!(note.contains("records 0 to 7") && note.ends_with("ticket 4711"), "{note}");
    assert!(!dir.path().join(RESUME_FILE).exists());
    // Asked for in vain, it is on record too, and not kept for later.
    std::fs::write(dir.path().join(RESUME_FILE), "").unwrap();
    start(dir.path()).stop();
    assert_eq!(notes(dir.path(), "an operator asked").len(), 1);
    assert!(!dir.path().join(RESUME_FILE).exists());
}

#[test]
fn a_log_that_is_killed_before_its_first_checkpoint_is_signed_later() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        // Recorded and not signed, as after a kill right after the first record.
        start_with(dir.path(), |options| options.log_keys = LogKeys::Given(Vec::new())).stop();
    }
    let role = start(dir.path());
    role.wait_signed(|signed| signed["state"] == "signing" && signed["unsigned"] == 0);
    role.stop();
}

#[test]
fn an_error_does_not_make_the_auditor_forget_what_it_signed() {
    let dir = tempfile::tempdir().unwrap();
    let role = start_with(dir.path(), |options| options.checkpoint_every_ms = 20);
    role.wait_signed(|signed| signed["state"] == "signing" && signed["size"] == 2);
    strip(dir.path());
    std::fs::write(dir.path().join("tile"), "").unwrap();
    let mut link = role.link(0);
    let mut out = Vec::new();
    link::push_commit(&mut out, 1, &Body::new(Kind::Admin, [1; 16]).encode().unwrap());
    link.write_all(&out).unwrap();
    let signed = role.wait_signed(|signed| signed["state"] != "signing");
    assert!(signed["state"] == "behind" || signed["state"] == "refused", "{signed}");
    std::fs::remove_file(dir.path().join("tile")).unwrap();
    role.wait_signed(|signed| signed["state"] == "refused");
    role.stop();
    assert!(!dir.path().join("checkpoint").exists());
}

#[test]
fn a_second_folder_remembers_what_the_first_has_lost() {
    let (dir, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let old = tempfile::tempdir().unwrap();
    let with =
        |dir: &Path| start_with(dir, |options| options.second_dir = Some(second.path().to_owned()));
    with(dir.path()).stop();
    // The whole folder as it was then.
    let copied = std::process::Command::new("cp").arg("-a").args([dir.path(), old.path()]).status();
    assert!(copied.unwrap().success());
    with(dir.path()).stop();
    let role = with(&old.path().join(dir.path().file_name().unwrap()));
    let signed = role.wait_signed(|signed| signed["state"] != "signing");
    assert_eq!(signed["state"], "refused", "{signed}");
    role.stop();
}

#[test]
fn the_sm3_tree_follows_the_first_and_convicts_a_rewrite_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    // Twice, so that the tree is taken up again; the second time with enough for full tiles.
    for count in [3, 600] {
        let role = start_with(dir.path(), |options| options.has_sm3 = true);
        let mut link = role.link(0);
        let body = Body::new(Kind::Intent, [1; 16]).encode().unwrap();
        let mut out = Vec::new();
        (0..count).for_each(|n| link::push_commit(&mut out, n, &body));
        link.write_all(&out).unwrap();
        let is_last = |message: Message<'_>| matches!(message, Message::Ack { req_id, .. } if req_id + 1 == count);
        read_until(&mut link, is_last);
        role.stop();
    }
    let vkey = std::fs::read_to_string(dir.path().join("log.vkey")).unwrap();
    let policy = Policy::k_of_n(&[VerifierKey::parse(vkey.trim()).unwrap()], &[], 0).unwrap();
    let verify = || {
        let against =
            Against { policy: Some(&policy), is_sm3_demanded: true, ..Against::default() };
        verify_evidence(&Dir::new(dir.path()), &against, &(AwsLc, Sm)).unwrap()
    };
    let found = verify();
    assert!(found.report.is_whole(), "{:#?}", found.report.findings);
    let second = found.second.as_ref().unwrap();
    assert_eq!((second.size, second.is_accepted), (found.report.records, true));
    assert_eq!(second.signed_by.len(), 1);
    assert!(found.text().contains("SM3 tree     "), "{}", found.text());

    let codes = || -> Vec<(&str, Option<u64>)> {
        verify().report.findings.kept().iter().map(|found| (found.code.id, found.seq)).collect()
    };
    let file = |name: &str| dir.path().join(name);
    let kept = |name: &str| std::fs::read(file(name)).unwrap();
    let put = |name: &str, bytes: &[u8]| std::fs::write(file(name), bytes).unwrap();
    // A tile alone.
    let (tile, checkpoint) = (kept("sm3/tile/0/000"), kept("checkpoint.sm3"));
    let mut bad = tile.clone();
    bad[32 * 9] ^= 1;
    put("sm3/tile/0/000", &bad);
    assert_eq!(codes(), [("MOAT-A034", Some(0))]);
    put("sm3/tile/0/000", &tile);
    // No checkpoint, that of the other tree, one that says other than was signed.
    std::fs::remove_file(file("checkpoint.sm3")).unwrap();
    assert_eq!(codes(), [("MOAT-A035", None)]);
    put("checkpoint.sm3", &kept("checkpoint"));
    assert_eq!(codes(), [("MOAT-A024", None)]);
    let text = String::from_utf8(checkpoint).unwrap();
    put("checkpoint.sm3", text.replacen(&found.report.records.to_string(), "9", 1).as_bytes());
    assert_eq!(codes(), [("MOAT-A035", None)]);
}

/// A tree over SM3 of other records: as if somebody had found a way past SHA-256 alone.
#[test]
fn other_records_than_the_sm3_tree_has_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    for (dir, trace) in [(&dir, 2), (&other, 3)] {
        let role = start_with(dir.path(), |options| options.has_sm3 = true);
        let mut link = role.link(0);
        let mut out = Vec::new();
        for (n, trace) in [1, trace].into_iter().enumerate() {
            let body = Body::new(Kind::Intent, [trace; 16]);
            link::push_commit(&mut out, n as u64, &body.encode().unwrap());
        }
        link.write_all(&out).unwrap();
        read_until(&mut link, |message| matches!(message, Message::Ack { req_id: 1, .. }));
        role.stop();
    }
    for name in ["checkpoint.sm3", "sm3/tile/0/000.p/5"] {
        std::fs::copy(other.path().join(name), dir.path().join(name)).unwrap();
    }
    let found = verify_evidence(&Dir::new(dir.path()), &Against::default(), &(AwsLc, Sm)).unwrap();
    let found = &found.report.findings.kept()[0];
    // The first record has the time of the start in it.
    assert_eq!((found.code.id, found.seq), ("MOAT-A033", Some(0)), "{found}");
}

#[test]
fn an_sm3_tree_that_is_configured_later_begins_on_record() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path()).stop();
    for _ in 0..2 {
        let role = start_with(dir.path(), |options| options.has_sm3 = true);
        role.wait_signed(|signed| signed["state"] == "signing" && signed["unsigned"] == 0);
        role.stop();
        assert_eq!(notes(dir.path(), "the tree over SM3 begins").len(), 1);
    }
    let found = verify_evidence(&Dir::new(dir.path()), &Against::default(), &(AwsLc, Sm)).unwrap();
    assert_eq!(found.second.unwrap().size, found.report.records);
    assert!(found.report.is_whole(), "{:?}", found.report.findings);
}

/// Commits so many records with a class C1 field, one frame each.
fn commit_many(role: &Role, count: u64) {
    let mut link = role.link(0);
    for n in 1..=count {
        let mut out = Vec::new();
        let body = Body { note: format!("{n:0400}"), ..Body::new(Kind::Check, [1; 16]) };
        link::push_commit(&mut out, n, &body.encode().unwrap());
        link.write_all(&out).unwrap();
        read_until(
            &mut link,
            |message| matches!(message, Message::Ack { req_id, .. } if req_id == n),
        );
    }
}

/// Asks for the status, as the supervisor does each second, until it has what is waited for.
fn wait_status(role: &Role, what: &str, mut is_so: impl FnMut(&Value) -> bool) {
    let begun = std::time::Instant::now();
    loop {
        role.control.send(br#"{"status":{}}"#, &[]).unwrap();
        let heard = role.hear();
        if is_so(&heard["status"]) {
            return;
        }
        assert!(begun.elapsed() < 2 * LONG, "{what}: {heard}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn files(dir: &Path, suffix: &str) -> usize {
    let names = std::fs::read_dir(dir).unwrap();
    names
        .filter(|name| name.as_ref().unwrap().file_name().to_string_lossy().ends_with(suffix))
        .count()
}

#[test]
fn full_segments_are_packed_and_old_ones_removed_on_record() {
    let dir = tempfile::tempdir().unwrap();
    let is_good = |what: &str| {
        let against = Against::default();
        let found = verify_evidence(&Dir::new(dir.path()), &against, &(AwsLc, Sm)).unwrap();
        assert!(found.is_good(), "{what}: {}", found.text());
        found
    };
    let keeping = |options: &mut AuditorOptions| {
        options.segment_bytes = 20_000;
        options.checkpoint_every_ms = 20;
        options.keeping.rest_ms = 20;
    };
    let role = start_with(dir.path(), keeping);
    role.hear();
    commit_many(&role, 200);
    wait_status(&role, "packed", |status| status["kept"]["packed"].as_u64() >= Some(4));
    role.stop();
    assert!(files(dir.path(), ".seg.zst") >= 4);
    let before = is_good("packed").report.records;
    // Another life, and everything is too old.
    let role = start_with(dir.path(), |options| {
        keeping(options);
        let retention =
            moat_audit::keep::Retention { any_ns: 0, c1_ns: 0, c2_ns: 0, pan_ns: 0, c3_ns: 0 };
        options.keeping.retention = Some(retention);
    });
    role.hear();
    wait_status(&role, "removed", |status| status["kept"]["removed"].as_u64() >= Some(4));
    role.stop();
    assert!(files(dir.path(), ".seg.removed") >= 4);
    let found = is_good("removed");
    assert!(found.report.records > before && found.report.removed[0].start == 0);
    assert!(!notes(dir.path(), "retention removed records 0 to ").is_empty());
    // Without the records that say so the same folder convicts whoever removed them: see
    // `keep_tests.rs` of the crate audit. A third life goes on.
    let role = start_with(dir.path(), keeping);
    role.hear();
    commit_many(&role, 20);
    role.stop();
    is_good("gone on");
}
