//! `moat bench sm`: the national algorithms beside OpenSSL 4 and Tongsuo, on one core.
//!
//! Rounds go from one side to the next, so that what slows the machine slows all; the median of
//! each side's rounds counts.

mod peer;
mod shake;
mod works;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use moat_auditor::bench::{Goal, Row};
use moat_sm::cpu::{Cpu, Level};
use moat_tls::Stack;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::process::Interrupt;
use super::{Folder, machine, median};
use peer::{Kind, OPENSSL, Peer, TONGSUO};
use shake::Sides;
use works::Work;

const KIB: usize = 1024;
/// The longest record of TLS 1.3, in bytes.
const RECORD: usize = 16 * KIB;

/// How long, how often, and where the peers are.
pub(crate) struct Settings<'a> {
    pub(crate) rounds: u32,
    pub(crate) round: Duration,
    pub(crate) peers: Option<&'a Path>,
}

impl Settings<'_> {
    pub(crate) const ROUNDS: u32 = 9;
    pub(crate) const ROUND_MS: u32 = 100;
    pub(crate) const USUAL: Settings<'static> = Settings {
        rounds: Self::ROUNDS,
        round: Duration::from_millis(Self::ROUND_MS as u64),
        peers: None,
    };
}

/// Fails if a peer is missing.
pub(crate) fn find(settings: &Settings<'_>) -> Result<()> {
    [OPENSSL, TONGSUO].into_iter().try_for_each(|kind| peer::find(kind, settings.peers).map(drop))
}

/// Who does a work beside us.
enum Beside<'a> {
    /// A peer: the name of the work in peer.c, and a size in bytes.
    Peer(Kind, &'static str, usize),
    /// Ourselves, in another way.
    Ours(&'static str, Work<'a>),
}

/// One work of ours, in a unit, and who does it beside us with which goal for the ratio.
struct Figure<'a> {
    name: String,
    unit: &'static str,
    /// What one run is in that unit.
    size: f64,
    ours: Work<'a>,
    beside: Vec<(Beside<'a>, Option<f64>)>,
}

impl<'a> Figure<'a> {
    fn new(name: &str, ours: Work<'a>) -> Figure<'a> {
        let name = name.to_owned();
        Figure { name, unit: "/s", size: 1.0, ours, beside: Vec::new() }
    }

    /// In megabytes a second.
    fn of_bytes(self, bytes: usize) -> Figure<'a> {
        let megabytes = u32::try_from(bytes).map_or(0.0, f64::from) / 1e6;
        Figure { unit: "MB/s", size: megabytes, ..self }
    }

    fn and(mut self, beside: Beside<'a>, at_least: Option<f64>) -> Figure<'a> {
        self.beside.push((beside, at_least));
        self
    }

    /// Rounds of every side in turn.
    fn measure(
        mut self,
        settings: &Settings<'_>,
        peers: &mut [Peer],
        interrupt: &Interrupt,
    ) -> Result<Vec<Row>> {
        let mut ours = Vec::new();
        let mut theirs = vec![Vec::new(); self.beside.len()];
        for _ in 0..settings.rounds {
            interrupt.pause(Duration::ZERO)?;
            ours.push(self.ours.rate(settings.round)? * self.size);
            for ((beside, _), rates) in self.beside.iter_mut().zip(&mut theirs) {
                let rate = match beside {
                    Beside::Ours(_, work) => work.rate(settings.round)?,
                    Beside::Peer(kind, work, size) => {
                        let peer = peers.iter_mut().find(|peer| peer.kind == *kind);
                        peer.context("no such peer")?.rate(work, *size, settings.round)?
                    }
                };
                rates.push(rate * self.size);
            }
        }
        let ours = median(ours).context("nothing was measured")?;
        let rows = self.beside.iter().zip(theirs).map(|((beside, at_least), theirs)| {
            let name = match beside {
                Beside::Peer(kind, ..) => kind.name,
                Beside::Ours(name, _) => name,
            };
            let row = Row::new(&self.name, ours, self.unit);
            let row = row.beside(name, median(theirs).context("nothing was measured")?);
            Ok(match at_least {
                Some(least) => row.should_be(Goal::RatioAtLeast(*least)),
                None => row,
            })
        });
        rows.collect()
    }
}

pub(crate) fn run(dir: &Path, settings: &Settings<'_>, interrupt: &Interrupt) -> Result<Vec<Row>> {
    find(settings)?;
    let cpu = match Cpu::check() {
        Ok(cpu) => cpu,
        Err(error) => bail!("{error}"),
    };
    let folder = Folder::make(dir)?;
    let now = crate::ca::now_s();
    let national = Sides::make(Stack::National, &folder.0, now)?;
    let international = Sides::make(Stack::International, &folder.0, now)?;
    machine::describe_machine();
    let pinned = Pinned::here()?;
    let start = |kind| Peer::start(kind, settings.peers, &folder.0);
    let mut peers = [start(OPENSSL)?, start(TONGSUO)?];
    describe(settings, cpu, pinned.core, &peers, [&national, &international])?;
    let mut rows = Vec::new();
    let figures =
        signatures()?.into_iter().chain(bulk(cpu)).chain(shakes(&national, &international));
    for figure in figures {
        rows.extend(figure.measure(settings, &mut peers, interrupt)?);
    }
    Ok(rows)
}

fn describe(
    settings: &Settings<'_>,
    cpu: Cpu,
    core: usize,
    peers: &[Peer],
    sides: [&Sides; 2],
) -> Result<()> {
    for peer in peers {
        eprintln!("peer       {} ({})", peer.kind.name, peer.path.display());
        eprintln!("           {}", peer.compiled);
    }
    let [national, international] = sides;
    eprintln!(
        "paths      moat uses {}, of what this processor has; MOAT_CPU names one",
        cpu.level().name()
    );
    eprintln!(
        "messages   130 bytes; Z, randomness and DER counted on all sides. ECDH: product and x"
    );
    eprintln!(
        "records    sealed in place, a new nonce each under one key, 5 bytes beside the text"
    );
    eprintln!("handshakes mutual, in memory, both sides counted; root, issuing authority, leaf;");
    eprintln!(
        "           no tickets; moat's side with the choice of the stack and the SPIFFE ids;"
    );
    eprintln!(
        "           moat remembers the path of a chain that comes again, the peers verify it"
    );
    let told = |sides: &Sides| sides.shake().map(|seen| format!("{}, {}", seen.suite, seen.group));
    eprintln!("           moat: {}; {}", told(national)?, told(international)?);
    eprintln!("           peers: TLS_SM4_GCM_SM3, curveSM2; OpenSSL: TLS_AES_256_GCM_SHA384,");
    eprintln!("           X25519MLKEM768; P-256 keys");
    let (rounds, round) = (settings.rounds, settings.round.as_millis());
    eprintln!(
        "rounds     {rounds} of {round} ms of each side in turn, medians, all on core {core}"
    );
    Ok(())
}

fn signatures() -> Result<[Figure<'static>; 3]> {
    let [tongsuo, openssl] =
        [TONGSUO, OPENSSL].map(|kind| move |work: &'static str| Beside::Peer(kind, work, 0));
    let figure = |name, ours, work, least| {
        Figure::new(name, ours).and(tongsuo(work), Some(least)).and(openssl(work), None)
    };
    Ok([
        figure("SM2 sign a message", works::sign()?, "sm2-sign", 4.0),
        figure("SM2 verify a message", works::verify()?, "sm2-verify", 1.5),
        figure("SM2 ECDH", works::agree()?, "sm2-ecdh", 1.5),
    ])
}

/// Goals of SM4-GCM on a path, at 16 KiB and at 1 KiB.
fn gcm_goals(level: Level) -> Option<[f64; 2]> {
    match level {
        Level::Avx512 => Some([15.0, 8.0]),
        Level::Avx2 => Some([4.0, 4.0]),
        Level::Portable => None,
    }
}

fn bulk(best: Cpu) -> Vec<Figure<'static>> {
    let sized = |name: &str, ours, work, size: usize, least| {
        let figure = Figure::new(name, ours).of_bytes(size);
        figure.and(Beside::Peer(OPENSSL, work, size), least)
    };
    let mut all = Vec::new();
    for cpu in Cpu::all().filter(|cpu| *cpu <= best) {
        let (level, goals) = (cpu.level(), gcm_goals(cpu.level()));
        if goals.is_none() && cpu != best {
            continue;
        }
        for (at, size) in [RECORD, KIB].into_iter().enumerate() {
            let name = format!("SM4-GCM seal {} KiB, {}", size / KIB, level.name());
            let least = goals.and_then(|goals| goals.get(at).copied());
            let figure = sized(&name, works::gcm(cpu, size), "sm4-gcm", size, least);
            all.push(figure.and(Beside::Peer(TONGSUO, "sm4-gcm", size), None));
        }
    }
    all.push(sized("SM4-CCM seal 16 KiB", works::ccm(RECORD), "sm4-ccm", RECORD, None));
    let sm3 = sized("SM3 16 KiB", works::sm3(RECORD), "sm3", RECORD, Some(1.1));
    all.push(sm3.and(Beside::Peer(TONGSUO, "sm3", RECORD), None));
    let one_by_one = Beside::Ours("one by one", works::leaves_one_by_one());
    let together = Figure::new("SM3 1,024 leaves of 256 bytes", works::leaves_together());
    all.push(together.of_bytes(works::LEAVES_BYTES).and(one_by_one, Some(3.0)));
    all
}

fn shakes<'a>(national: &'a Sides, international: &'a Sides) -> [Figure<'a>; 2] {
    let peer = |kind, work| Beside::Peer(kind, work, 0);
    let ours = Beside::Ours("moat international", works::shake(international));
    [
        Figure::new("national mutual handshakes", works::shake(national))
            .and(ours, Some(0.5))
            .and(peer(OPENSSL, "national"), Some(3.0))
            .and(peer(TONGSUO, "national"), None),
        Figure::new("international mutual handshakes", works::shake(international))
            .and(peer(OPENSSL, "international"), None),
    ]
}

/// This thread, and what it starts, on one core; where it was before, when dropped.
struct Pinned {
    core: usize,
    before: CpuSet,
}

impl Pinned {
    fn here() -> Result<Pinned> {
        let before = sched_getaffinity(None).context("which cores may be used")?;
        // Not the first, to which a machine with few cores sends its interrupts.
        let core = (0..CpuSet::MAX_CPU).rev().find(|core| before.is_set(*core));
        let core = core.context("no core may be used")?;
        let mut one = CpuSet::new();
        one.set(core);
        sched_setaffinity(None, &one).context("staying on one core")?;
        Ok(Pinned { core, before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // What comes after is slower on one core, and not wrong.
        let _ = sched_setaffinity(None, &self.before);
    }
}
