//! Keys in SoftHSM2: made, described, used, pulled and put back. Skipped, and said, where it is not
//! installed (Debian: `softhsm2`); where CI is set it must be.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use moat_audit::store::Dir;
use moat_audit::tiles::checkpoint;
use moat_auditor::{AuditorOptions, LogKeys, run};
use moat_net::carriage::{self, Sign, Signed};
use moat_net::control::Channel;
use moat_tlog::checkpoint::Checkpoint;
use moat_tlog::key::VerifierKey;
use moat_tlog::sign::{AwsLc, Verifier as _};
use moat_tlog::{Head, Sha256};
use serde_json::Value;

const ORIGIN: &str = "hsm.test/1";
const MODULES: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
];
const WAIT: Duration = Duration::from_secs(20);

/// A token of its own, in a folder.
struct Token {
    dir: tempfile::TempDir,
    module: PathBuf,
}

impl Token {
    fn new() -> Option<Token> {
        let module = MODULES.iter().map(PathBuf::from).find(|path| path.is_file());
        let Some(module) = module else {
            assert!(std::env::var_os("CI").is_none(), "SoftHSM2 is not installed");
            eprintln!("SKIPPED: SoftHSM2 is not installed");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tokens")).unwrap();
        let tokens = dir.path().join("tokens").display().to_string();
        std::fs::write(dir.path().join("conf"), format!("directories.tokendir = {tokens}\n"))
            .unwrap();
        std::fs::write(dir.path().join("pin"), "1234\n").unwrap();
        let token = Token { dir, module };
        let made = token
            .command("softhsm2-util")
            .args([
                "--init-token",
                "--free",
                "--label",
                "moat",
                "--pin",
                "1234",
                "--so-pin",
                "5678",
            ])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        Some(token)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SOFTHSM2_CONF", self.path("conf"));
        command
    }

    fn hsm(&self, verb: &str) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_moat-hsm"));
        command.arg(verb).arg("--module").arg(&self.module).args(["--token", "moat"]);
        command.arg("--pin-file").arg(self.path("pin"));
        command
    }

    /// Makes or describes a key; gives the exit and what was said.
    fn key(&self, verb: &str, label: &str, out: &str) -> Result<String, String> {
        let mut command = self.hsm(verb);
        command.args(["--label", label, "--origin", ORIGIN, "--out"]).arg(self.path(out));
        let out = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
    }

    /// Pulls the token, or puts it back.
    fn pull(&self) {
        std::fs::rename(self.path("tokens"), self.path("pulled")).unwrap();
        std::fs::create_dir(self.path("tokens")).unwrap();
    }

    fn put_back(&self) {
        std::fs::remove_dir_all(self.path("tokens")).unwrap();
        std::fs::rename(self.path("pulled"), self.path("tokens")).unwrap();
    }
}

/// The program as the supervisor starts it.
struct Served {
    control: Channel,
    process: Child,
}

impl Served {
    fn start(token: &Token) -> Served {
        let (control, theirs) = Channel::pair().unwrap();
        let process = token.hsm("serve").stdin(Stdio::from(theirs)).spawn().unwrap();
        assert_eq!(control.recv().unwrap().unwrap().0, br#"{"ready":{}}"#);
        Served { control, process }
    }

    /// A channel for an auditor.
    fn link(&self) -> Channel {
        let (ours, theirs) = Channel::pair().unwrap();
        self.control.send(br#"{"auditor":{}}"#, &[theirs.as_fd()]).unwrap();
        ours
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn sign(link: &Channel, id: u64, label: &str, message: &str) -> Result<String, String> {
    let message = message.to_owned();
    carriage::send(link, &Sign { id, label: label.to_owned(), message }).unwrap();
    let signed = carriage::receive::<Signed>(link).unwrap().unwrap();
    assert_eq!(signed.id, id);
    signed.signature
}

fn text(size: u64, root: u8) -> String {
    let head = if size == 0 { Head::empty::<Sha256>() } else { Head { size, root: [root; 32] } };
    Checkpoint::new(ORIGIN, head).unwrap().to_string()
}

#[test]
fn a_key_in_the_token_signs_checkpoints_that_go_on_and_nothing_else() {
    let Some(token) = Token::new() else { return };
    let vkey = token.key("keygen", "moat-log", "log.hsm").unwrap();
    let again = token.key("keygen", "moat-log", "other.hsm").unwrap_err();
    assert!(again.contains("already"), "{again}");
    assert_eq!(token.key("describe", "moat-log", "other.hsm").unwrap(), vkey);
    assert!(token.key("describe", "nobody", "third.hsm").is_err());
    assert!(token.key("describe", "moat log", "third.hsm").is_err());
    let key = VerifierKey::parse(&vkey).unwrap();
    let served = Served::start(&token);
    let link = served.link();
    let signature = sign(&link, 1, "moat-log", &text(5, 1)).unwrap();
    let signature = data_encoding::HEXLOWER.decode(signature.as_bytes()).unwrap();
    let message = text(5, 1);
    AwsLc.verify(key.algorithm().scheme(), key.public(), message.as_bytes(), &signature).unwrap();
    assert!(sign(&link, 2, "moat-log", "pay 1000 to me\n").is_err(), "no checkpoint");
    assert!(sign(&link, 3, "moat-log", &text(5, 2)).is_err(), "another root of this size");
    assert!(sign(&link, 4, "moat-log", &text(4, 1)).is_err(), "a smaller one");
    assert!(sign(&link, 5, "nobody", &text(6, 1)).is_err(), "no such key");
    assert!(sign(&link, 6, "moat-log", &text(6, 1)).is_ok());
    // A second auditor, as after a restart of the first.
    assert!(sign(&served.link(), 7, "moat-log", &text(7, 1)).is_ok());
}

#[test]
fn a_wrong_pin_and_a_wrong_token_are_said() {
    let Some(token) = Token::new() else { return };
    std::fs::write(token.path("pin"), "9999\n").unwrap();
    let said = token.key("keygen", "moat-log", "log.hsm").unwrap_err();
    assert!(said.contains("PIN") && !said.contains("9999"), "{said}");
    token.pull();
    let said = token.key("keygen", "moat-log", "log.hsm").unwrap_err();
    assert!(said.contains("no token `moat`"), "{said}");
}

/// The auditor in a thread, with its key in the token.
struct Auditor {
    control: Channel,
    thread: std::thread::JoinHandle<()>,
}

impl Auditor {
    fn start(dir: &Path, key: &Path) -> Auditor {
        let (control, theirs) = Channel::pair().unwrap();
        let mut options = AuditorOptions::new(dir, ORIGIN);
        let text = std::fs::read_to_string(key).unwrap();
        options.log_keys = LogKeys::Given(vec![text.into()]);
        options.checkpoint_every_ms = 50;
        options.has_sm3 = true;
        let thread = std::thread::spawn(move || run(&options, &Channel::from_fd(theirs)).unwrap());
        Auditor { control, thread }
    }

    fn link(&self, served: &Served) {
        let (ours, theirs) = Channel::pair().unwrap();
        served.control.send(br#"{"auditor":{}}"#, &[ours.as_fd()]).unwrap();
        self.control.send(br#"{"hsm":{}}"#, &[theirs.as_fd()]).unwrap();
    }

    fn wait(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + WAIT;
        loop {
            self.control.send(br#"{"status":{}}"#, &[]).unwrap();
            let (bytes, _) = self.control.recv().unwrap().unwrap();
            let status: Value = serde_json::from_slice(&bytes).unwrap();
            let status = &status["status"];
            if !status.is_null() && fits(&status["signed"]) {
                return status.clone();
            }
            assert!(Instant::now() < until, "{what}: {status}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop(self) {
        self.control.send(br#"{"stop":{}}"#, &[]).unwrap();
        self.thread.join().unwrap();
    }
}

#[test]
fn a_token_that_is_pulled_leaves_records_durable_and_unsigned_until_it_is_back() {
    let Some(token) = Token::new() else { return };
    let vkey = token.key("keygen", "moat-log", "log.hsm").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let auditor = Auditor::start(dir.path(), &token.path("log.hsm"));
    // Before there is a channel at all.
    let status = auditor.wait("no token yet", |signed| signed["state"] == "cannot_sign");
    assert_eq!(
        (&status["state"], &status["signed"]["code"]),
        (&"writing".into(), &"MOAT-A031".into())
    );
    let served = Served::start(&token);
    auditor.link(&served);
    auditor.wait("signed", |signed| signed["state"] == "signing" && signed["unsigned"] == 0);
    auditor.stop();
    drop(served);

    // A start with the token pulled: records are made, nothing is signed.
    token.pull();
    let before = checkpoint(&Dir::new(dir.path())).unwrap().unwrap().unwrap();
    let served = Served::start(&token);
    let auditor = Auditor::start(dir.path(), &token.path("log.hsm"));
    auditor.link(&served);
    let status = auditor.wait("pulled", |signed| signed["state"] == "cannot_sign");
    assert!(status["seq"].as_u64().unwrap() > before.checkpoint().size(), "{status}");
    let now = checkpoint(&Dir::new(dir.path())).unwrap().unwrap().unwrap();
    assert_eq!(now, before);
    // Back: it is caught up with, without a record or a restart.
    token.put_back();
    auditor.wait("caught up", |signed| signed["state"] == "signing" && signed["unsigned"] == 0);
    // The program dies; the supervisor brings another.
    drop(served);
    let served = Served::start(&token);
    auditor.link(&served);
    auditor.stop();
    let last = checkpoint(&Dir::new(dir.path())).unwrap().unwrap().unwrap();
    let key = VerifierKey::parse(&vkey).unwrap();
    assert_eq!(last.note().verify(&[key], &AwsLc).unwrap().len(), 1);
    let report = moat_audit::verify::verify(dir.path()).unwrap();
    assert!(report.is_whole());
    assert_eq!(last.checkpoint().size(), report.records, "the last records are signed too");
}
