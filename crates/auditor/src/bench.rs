//! How fast records become durable, measured on the caller's own disk.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moat_audit::anchor::{AnchorKey, Canonical, field_id};
use moat_audit::committer::{Committer, Options};
use moat_audit::fs::RealFs;
use moat_audit::link::{self, Message};
use moat_audit::record::{Body, Field, Kind, Op, Outcome, RecordError, Value};
use moat_model::{Class, Stage};
use moat_net::control::Channel;
use zeroize::Zeroizing;

use crate::{AuditorError, AuditorOptions, Linger, run};

/// One figure, of this log or of anything else that is measured beside a peer.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured.
    pub figure: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// What was measured beside it in the same run, in the same unit.
    pub peer: Option<Peer>,
    /// What it should be.
    pub goal: Option<Goal>,
}

/// The peer of a figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// Its name, with its version if it has one.
    pub name: String,
    /// How much, in the unit of the row.
    pub value: f64,
}

/// A goal of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Not more than this.
    AtMost(f64),
    /// Not less than this.
    AtLeast(f64),
    /// Not more than this many times the peer.
    RatioAtMost(f64),
    /// Not less than this many times the peer.
    RatioAtLeast(f64),
}

impl core::fmt::Display for Goal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Goal::AtMost(most) => write!(f, "at most {most}"),
            Goal::AtLeast(least) => write!(f, "at least {least}"),
            Goal::RatioAtMost(most) => write!(f, "ratio at most {most}"),
            Goal::RatioAtLeast(least) => write!(f, "ratio at least {least}"),
        }
    }
}

impl Row {
    /// A figure without a peer and without a goal.
    #[must_use]
    pub fn new(figure: &str, value: f64, unit: &'static str) -> Row {
        Row { figure: figure.to_owned(), value, unit, peer: None, goal: None }
    }

    /// The same with a peer.
    #[must_use]
    pub fn beside(self, name: &str, value: f64) -> Row {
        Row { peer: Some(Peer { name: name.to_owned(), value }), ..self }
    }

    /// The same with a goal.
    #[must_use]
    pub fn should_be(self, goal: Goal) -> Row {
        Row { goal: Some(goal), ..self }
    }

    /// How many times the peer it is; none without a peer.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        self.peer.as_ref().map(|peer| self.value / peer.value)
    }

    /// Whether the goal holds; none when there is no goal. What is no number holds nothing, and
    /// neither does a ratio to a peer that is not there.
    #[must_use]
    pub fn holds(&self) -> Option<bool> {
        self.goal.map(|goal| match goal {
            Goal::AtMost(most) => self.value <= most,
            Goal::AtLeast(least) => self.value >= least,
            Goal::RatioAtMost(most) => self.ratio().is_some_and(|ratio| ratio <= most),
            Goal::RatioAtLeast(least) => {
                self.ratio().is_some_and(|ratio| ratio.is_finite() && ratio >= least)
            }
        })
    }
}

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The system failed.
    #[error("the directory cannot be used for measuring")]
    Io(#[from] io::Error),
    /// The auditor failed.
    #[error("the auditor failed")]
    Auditor(#[from] AuditorError),
    /// The committer failed.
    #[error("the log could not be written")]
    Commit(#[from] moat_audit::committer::CommitError),
    /// The log could not be opened.
    #[error("the log could not be opened")]
    Open(#[from] moat_audit::recovery::OpenError),
    /// The sample record is none.
    #[error("the sample record cannot be encoded")]
    Record(#[from] RecordError),
    /// The auditor's thread or the link broke.
    #[error("the auditor went away while it was measured")]
    Away,
}

/// Measures in `dir`, which must be empty or not there, for `each` per figure.
///
/// # Errors
/// When the directory cannot be used or the auditor fails.
pub fn measure(dir: &Path, each: Duration) -> Result<Vec<Row>, BenchError> {
    std::fs::create_dir_all(dir)?;
    let body = sample()?;
    let leaf_bytes = body.len() + 300;
    let raw_us = raw_write(dir, leaf_bytes, each)?;
    let commit_us = committer(dir, &body, each)?;
    let one = Row::new("commit of one record, p50", commit_us, "us")
        .beside("raw O_DSYNC write", raw_us)
        .should_be(Goal::RatioAtMost(1.3));
    let mut rows = vec![one];
    for linger in [Linger::None, Linger::ForReturning] {
        for in_flight in [1, 64, 1024] {
            let rate = through_auditor(dir, &body, in_flight, linger, each)?;
            let name =
                if linger == Linger::None { "no wait" } else { "waiting for those that return" };
            let row = Row::new(&format!("{in_flight} in flight, {name}"), rate, "records/s");
            let is_full = in_flight == 1024;
            rows.push(if is_full { row.should_be(Goal::AtLeast(50_000.0)) } else { row });
        }
    }
    Ok(rows)
}

/// A record of a transfer with three fields.
fn sample() -> Result<Vec<u8>, RecordError> {
    let key = AnchorKey::new("bench", Zeroizing::new([7; 32])).ok_or(RecordError::LogId)?;
    let object = "account/123456";
    let anchor = |name: &str, text: &str| {
        key.anchor("bank", object, &field_id("transfer", name, 1), &Canonical::text(text))
    };
    let masked = Value::Masked { shown: "1*.**".to_owned(), anchor: anchor("amount", "12.50") };
    let fields = [
        ("amount", Class::C2, masked),
        ("to/account", Class::Pan, Value::Anchor(anchor("to/account", "4000056655665556"))),
        ("note", Class::C1, Value::Clear("rent for May".to_owned())),
    ];
    let fields = fields.into_iter().filter_map(|(name, class, value)| {
        Field::new(field_id("transfer", name, 1), name, class, Value::Absent, value).ok()
    });
    let body = Body {
        tenant: "bank".to_owned(),
        route: "transfer".to_owned(),
        actor: "spiffe://bank.test/teller".to_owned(),
        method: "POST".to_owned(),
        op: Some(Op::Ins),
        object: object.to_owned(),
        fields: fields.collect(),
        outcome: Some(Outcome::Read),
        answered: Some(true),
        stage: Some(Stage::Reply),
        http_status: Some(200),
        duration_us: 1_500,
        ..Body::new(Kind::Read, [1; 16])
    };
    body.encode()
}

/// Times a call until `each` has passed, at least 20 times; the median in microseconds.
fn median_us(
    each: Duration,
    mut call: impl FnMut() -> Result<(), BenchError>,
) -> Result<f64, BenchError> {
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < each || times.len() < 20 {
        let one = Instant::now();
        call()?;
        times.push(one.elapsed());
    }
    times.sort_unstable();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    Ok(middle.as_secs_f64() * 1e6)
}

fn raw_write(dir: &Path, bytes: usize, each: Duration) -> Result<f64, BenchError> {
    let path = dir.join("raw");
    let flags = i32::try_from(rustix::fs::OFlags::DSYNC.bits()).unwrap_or(0);
    let mut options = OpenOptions::new();
    let mut file = options.append(true).create_new(true).custom_flags(flags).open(&path)?;
    let keep_size = rustix::fs::FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(file.as_fd(), keep_size, 0, 64 * 1024 * 1024).map_err(io::Error::from)?;
    let block = vec![0x5a; bytes];
    let median = median_us(each, || Ok(file.write_all(&block)?))?;
    std::fs::remove_file(&path)?;
    Ok(median)
}

fn committer(dir: &Path, body: &[u8], each: Duration) -> Result<f64, BenchError> {
    let path = dir.join("committer");
    let clock = Arc::new(moat_model::clock::System::new());
    let fs = RealFs::open(&path)?;
    let (mut committer, _) = Committer::open(fs, clock, Options::new("bench"))?;
    let median = median_us(each, || Ok(committer.commit(&[body]).map(drop)?))?;
    committer.close()?;
    std::fs::remove_dir_all(&path)?;
    Ok(median)
}

fn through_auditor(
    dir: &Path,
    body: &[u8],
    in_flight: usize,
    linger: Linger,
    each: Duration,
) -> Result<f64, BenchError> {
    let path = dir.join("auditor");
    let (control, theirs) = Channel::pair()?;
    let options = AuditorOptions { linger, ..AuditorOptions::new(&path, "bench") };
    let auditor = std::thread::spawn(move || run(&options, &Channel::from_fd(theirs)));
    let (ours, theirs) = UnixStream::pair()?;
    control.send(br#"{"link":{"worker":0}}"#, &[theirs.as_fd()])?;
    drop(theirs);
    let rate = drive(ours, body, in_flight, each);
    control.send(br#"{"stop":{}}"#, &[])?;
    auditor.join().map_err(|_| BenchError::Away)??;
    std::fs::remove_dir_all(&path)?;
    rate
}

/// Keeps as many commits in flight as said, and counts acks a second.
fn drive(
    mut stream: UnixStream,
    body: &[u8],
    in_flight: usize,
    each: Duration,
) -> Result<f64, BenchError> {
    let (mut held, mut out) = (Vec::new(), Vec::new());
    let mut chunk = vec![0; 64 * 1024];
    let (mut start, mut acked, mut credit) = (None, 0u32, in_flight);
    loop {
        let mut used = 0;
        while let Ok(Some((message, len))) = link::decode(held.get(used..).unwrap_or_default()) {
            used += len;
            match message {
                Message::Hello { .. } => start = Some(Instant::now()),
                Message::Ack { .. } => {
                    acked += 1;
                    credit += 1;
                }
                Message::Commit { .. } | Message::Nack { .. } => return Err(BenchError::Away),
            }
        }
        held.drain(..used);
        if let Some(start) = start {
            let elapsed = start.elapsed();
            if elapsed >= each {
                return Ok(f64::from(acked) / elapsed.as_secs_f64());
            }
            for _ in 0..std::mem::take(&mut credit) {
                link::push_commit(&mut out, u64::from(acked), body);
            }
            stream.write_all(&out)?;
            out.clear();
        }
        match stream.read(&mut chunk)? {
            0 => return Err(BenchError::Away),
            more => held.extend_from_slice(chunk.get(..more).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Goal, Row};

    #[test]
    fn a_ratio_is_the_value_over_its_peer() {
        let row = Row::new("CPU a call", 40.0, "us").beside("nginx", 25.0);
        assert_eq!(row.ratio(), Some(1.6));
        assert_eq!(row.holds(), None);
        assert_eq!(row.clone().should_be(Goal::RatioAtMost(1.6)).holds(), Some(true));
        assert_eq!(row.clone().should_be(Goal::RatioAtMost(1.5)).holds(), Some(false));
        assert_eq!(row.clone().should_be(Goal::RatioAtLeast(1.6)).holds(), Some(true));
        assert_eq!(row.should_be(Goal::RatioAtLeast(1.7)).holds(), Some(false));
    }

    #[test]
    fn goals_on_the_value_ignore_the_peer() {
        let row = Row::new("start", 300.0, "ms").beside("nginx", 1.0);
        assert_eq!(row.clone().should_be(Goal::AtMost(300.0)).holds(), Some(true));
        assert_eq!(row.clone().should_be(Goal::AtMost(299.0)).holds(), Some(false));
        assert_eq!(row.clone().should_be(Goal::AtLeast(300.0)).holds(), Some(true));
        assert_eq!(row.should_be(Goal::AtLeast(301.0)).holds(), Some(false));
    }

    #[test]
    fn a_ratio_to_nothing_never_holds() {
        let row = Row::new("CPU a call", 40.0, "us").should_be(Goal::RatioAtMost(1.6));
        assert_eq!(row.holds(), Some(false));
        let least = row.clone().should_be(Goal::RatioAtLeast(1.6));
        assert_eq!(least.holds(), Some(false));
        assert_eq!(least.beside("nginx", 0.0).holds(), Some(false));
        for value in [0.0, 40.0, f64::NAN] {
            let row = Row { value, ..row.clone() };
            assert_eq!(row.beside("nginx", 0.0).holds(), Some(false), "{value} / 0");
        }
    }
}
