//! The auditor as its own process, killed at random moments under load: nothing that was
//! acknowledged may be lost, and what is there must verify.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use moat_audit::hash::Hash;
use moat_audit::link::{self, Message};
use moat_audit::record::{Body, Kind, Outcome};
use moat_audit::store::Dir;
use moat_audit::tiles::Stored;
use moat_auditor::{AuditorOptions, run};
use moat_net::control::Channel;
use moat_tlog::key::VerifierKey;
use moat_tlog::proof::verify_consistency;
use moat_tlog::sign::AwsLc;
use moat_tlog::tree::Tree;
use moat_tlog::{Head, Sha256};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Not a test of its own: the auditor process that the tests below start and kill.
#[test]
#[ignore = "started by the other tests as a process of its own"]
fn child() {
    let Some(dir) = std::env::var_os("MOAT_CHILD_DIR") else { return };
    let control = Channel::from_fd(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    // A checkpoint as often as it can be, so that kills meet every moment of its making.
    let options = AuditorOptions {
        segment_bytes: 512 * 1024,
        checkpoint_every_ms: 1,
        ..AuditorOptions::new(dir, "kill.test/1")
    };
    run(&options, &control).unwrap();
}

struct Auditor {
    child: Child,
    control: Channel,
    link: UnixStream,
}

fn start(dir: &Path) -> Auditor {
    let (control, theirs) = Channel::pair().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"])
        .env("MOAT_CHILD_DIR", dir)
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (link, theirs) = UnixStream::pair().unwrap();
    control.send(br#"{"link":{"worker":0}}"#, &[theirs.as_fd()]).unwrap();
    Auditor { child, control, link }
}

/// Waits until the auditor has greeted: a busy machine may take longer to start it than it lives.
fn wait_until_greeted(auditor: &Auditor) {
    let mut fds = [PollFd::new(&auditor.link, PollFlags::IN)];
    let wait = Timespec { tv_sec: 10, tv_nsec: 0 };
    assert_eq!(poll(&mut fds, Some(&wait)), Ok(1), "no greeting");
}

#[derive(Default)]
struct Driver {
    acked: BTreeMap<u64, Hash>,
    intents: Vec<u64>,
    random: u64,
    nacks: u64,
}

impl Driver {
    fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) % below
    }

    fn body(&mut self) -> Vec<u8> {
        let trace = [self.random(256) as u8; 16];
        let note = "n".repeat(self.random(600) as usize);
        let body = match self.intents.pop() {
            Some(seq) if self.random(4) > 0 => Body {
                intent_seq: Some(seq),
                outcome: Some(Outcome::Committed),
                note,
                ..Body::new(Kind::Outcome, trace)
            },
            _ => Body { note, ..Body::new(Kind::Intent, trace) },
        };
        body.encode().unwrap()
    }

    /// Commits until the time is up, or until the auditor is gone.
    fn drive(&mut self, link: &mut UnixStream, in_flight: usize, until: Option<Instant>) {
        let (mut held, mut credit) = (Vec::new(), 0);
        let mut chunk = vec![0; 64 * 1024];
        let mut greeted = false;
        while until.is_none_or(|until| Instant::now() < until) {
            match link.read(&mut chunk) {
                Ok(0) | Err(_) => return,
                Ok(more) => held.extend_from_slice(&chunk[..more]),
            }
            let mut used = 0;
            while let Ok(Some((message, len))) = link::decode(&held[used..]) {
                used += len;
                match message {
                    Message::Hello { .. } => {
                        greeted = true;
                        credit = in_flight;
                    }
                    Message::Ack { req_id, ack } => {
                        assert!(self.acked.insert(ack.seq, ack.leaf_hash).is_none(), "acked twice");
                        if req_id % 2 == 0 {
                            self.intents.push(ack.seq);
                        }
                        credit += 1;
                    }
                    Message::Nack { .. } => self.nacks += 1,
                    Message::Commit { .. } => panic!("the auditor commits nothing to us"),
                }
            }
            held.drain(..used);
            let mut out = Vec::new();
            for _ in 0..if until.is_none() { 0 } else { std::mem::take(&mut credit) } {
                let body = self.body();
                // Even numbers mark intents, so that the outcomes name one.
                let is_intent = Body::decode(&body).unwrap().kind == Kind::Intent;
                link::push_commit(&mut out, u64::from(!is_intent), &body);
            }
            if greeted && link.write_all(&out).is_err() {
                return;
            }
        }
    }
}

fn assert_kept(dir: &Path, acked: &BTreeMap<u64, Hash>) {
    let report = moat_audit::verify::verify(dir).unwrap();
    assert!(report.is_whole(), "{:#?}", report.findings);
    let mut found = BTreeMap::new();
    for leaf in moat_audit::search::leaves(dir).unwrap() {
        let leaf = leaf.unwrap();
        found.insert(leaf.leaf.head.seq, leaf.leaf_hash);
    }
    assert_eq!(found.len() as u64, report.records);
    for (seq, hash) in acked {
        assert_eq!(found.get(seq), Some(hash), "record {seq} is lost");
    }
}

/// The checkpoint on the disk, signed by the log's key.
fn checkpoint(dir: &Path) -> Option<Head> {
    let signed = moat_audit::tiles::checkpoint(&Dir::new(dir)).unwrap()?.unwrap();
    let vkeys = std::fs::read_to_string(dir.join("log.vkey")).unwrap();
    let key = VerifierKey::parse(vkeys.trim_end()).unwrap();
    assert_eq!(signed.note().verify(&[key], &AwsLc).unwrap().len(), 1);
    Some(*signed.checkpoint().head())
}

/// Waits until there is another checkpoint than this one.
fn wait_until_signed(dir: &Path, before: Option<Head>) {
    let until = Instant::now() + Duration::from_secs(60);
    while checkpoint(dir) == before {
        assert!(Instant::now() < until, "nothing more is signed after {before:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn killed_at_any_moment_it_loses_nothing_acknowledged() {
    let kills = std::env::var_os("MOAT_KILLS")
        .map_or(50, |text| text.to_str().unwrap().parse::<u32>().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver { random: 42, ..Driver::default() };
    let mut signed = Vec::new();
    for round in 0..kills {
        let mut auditor = start(dir.path());
        // Every other one may die before it has begun.
        if round % 2 == 0 {
            wait_until_greeted(&auditor);
        }
        let in_flight = [1, 7, 64, 400][driver.random(4) as usize];
        let life = Duration::from_millis(5 + driver.random(60));
        driver.drive(&mut auditor.link, in_flight, Some(Instant::now() + life));
        // Now and then it lives until it has signed more, however busy the machine is.
        if round % 5 == 4 {
            wait_until_signed(dir.path(), signed.last().copied());
            std::thread::sleep(Duration::from_millis(driver.random(20)));
        }
        auditor.child.kill().unwrap();
        auditor.child.wait().unwrap();
        // Acks that were sent before the kill count.
        driver.drive(&mut auditor.link, 0, None);
        driver.intents.clear();
        signed.extend(checkpoint(dir.path()));
        if round % 10 == 9 {
            assert_kept(dir.path(), &driver.acked);
        }
    }
    // A last opening pairs what the kills left open; then it stops as asked.
    let mut auditor = start(dir.path());
    let ready = auditor.control.recv().unwrap().unwrap().0;
    let ready = String::from_utf8(ready).unwrap();
    assert!(ready.contains("\"ready\""), "{ready}");
    auditor.control.send(br#"{"stop":{}}"#, &[]).unwrap();
    assert!(auditor.child.wait().unwrap().success());
    assert_kept(dir.path(), &driver.acked);
    let report = moat_audit::verify::verify(dir.path()).unwrap();
    assert!(report.unpaired.is_empty(), "{} unpaired", report.unpaired.len());
    assert!(report.torn.is_none() && driver.nacks == 0);
    // Every checkpoint that a kill left behind is one of the log as it is now, and the last covers
    // all of it, with tiles from which each of the others is proven.
    let last = checkpoint(dir.path()).unwrap();
    assert_eq!(last, Head { size: report.records, root: report.root });
    let store = Dir::new(dir.path());
    let mut tree = Tree::<Sha256, _>::new(last.size, Stored::new(&store, last.size)).unwrap();
    assert_eq!(tree.root().unwrap(), last.root);
    // However many kills, what is signed grows.
    let sizes: std::collections::BTreeSet<u64> = signed.iter().map(|head| head.size).collect();
    assert!(sizes.len() > usize::try_from(kills).unwrap() / 10, "{sizes:?}");
    for before in signed {
        let proof = tree.consistency(before.size).unwrap();
        verify_consistency::<Sha256>(&before, &last, &proof).unwrap();
    }
    assert!(driver.acked.len() > 1_000, "only {} records", driver.acked.len());
}
