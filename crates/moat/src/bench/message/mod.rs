//! `moat bench message`: messages read and written, beside other crates and ourselves.
//!
//! The other crates are in a program of their own (bench-peers/message), so that the product does not
//! link them. It reads the same samples from a folder. Rounds go from one side to the next.

mod peer;
mod samples;
mod works;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use moat_auditor::bench::{Goal, Row};

use super::process::Interrupt;
use super::{Folder, machine, median};
use peer::Peer;
use samples::Samples;
use works::Work;

/// How long and how often.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) rounds: u32,
    pub(crate) round: Duration,
}

impl Settings {
    pub(crate) const ROUNDS: u32 = 9;
    pub(crate) const ROUND_MS: u32 = 50;
    pub(crate) const USUAL: Settings =
        Settings { rounds: Self::ROUNDS, round: Duration::from_millis(Self::ROUND_MS as u64) };
}

/// Who does a work beside us.
enum Beside<'a> {
    /// Another crate: its name, and the name of the work in the program of the peers.
    Peer(&'static str, &'static str),
    /// Ourselves, in another way.
    Ours(&'static str, Work<'a>),
    /// Nobody: a goal for the figure itself.
    Nobody(Option<Goal>),
}

struct Figure<'a> {
    name: &'static str,
    unit: &'static str,
    /// What one run is in that unit.
    size: f64,
    ours: Work<'a>,
    beside: Beside<'a>,
    at_least: Option<f64>,
}

impl Figure<'_> {
    fn measure(
        mut self,
        settings: Settings,
        peer: &mut Peer,
        interrupt: &Interrupt,
    ) -> Result<Row> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..settings.rounds {
            interrupt.pause(Duration::ZERO)?;
            ours.push(self.ours.rate(settings.round)? * self.size);
            theirs.extend(match &mut self.beside {
                Beside::Peer(_, work) => Some(peer.rate(work, settings.round)? * self.size),
                Beside::Ours(_, work) => Some(work.rate(settings.round)? * self.size),
                Beside::Nobody(_) => None,
            });
        }
        let row = Row::new(self.name, median(ours).context("nothing was measured")?, self.unit);
        let (name, goal) = match self.beside {
            Beside::Nobody(goal) => {
                return Ok(goal.map_or(row.clone(), |goal| row.should_be(goal)));
            }
            Beside::Peer(name, _) | Beside::Ours(name, _) => (name, self.at_least),
        };
        let row = row.beside(name, median(theirs).context("nothing was measured")?);
        Ok(match goal {
            Some(least) => row.should_be(Goal::RatioAtLeast(least)),
            None => row,
        })
    }
}

/// Fails if the program of the peers is missing.
pub(crate) fn find() -> Result<()> {
    peer::find().map(drop)
}

pub(crate) fn run(dir: &Path, settings: Settings, interrupt: &Interrupt) -> Result<Vec<Row>> {
    let program = peer::find()?;
    let folder = Folder::make(dir)?;
    let samples = Samples::make()?;
    samples.write(&folder.0)?;
    machine::describe_machine();
    let mut peer = Peer::start(&program, &folder.0)?;
    eprintln!("peers      {}", peer.versions);
    eprintln!(
        "messages   0200 of 20 fields: {} bytes in ASCII; every character checked but where",
        samples.ascii.len()
    );
    eprintln!("           it says lazy; plans know the shape, `new shape` does without them");
    eprintln!("naive      a map from field to text, each field copied; written for this topic");
    eprintln!(
        "XML        texts of all elements; the peer makes a tree. DER: a certificate of {} bytes",
        samples.certificate.len()
    );
    eprintln!(
        "rounds     {} of {} ms of each side in turn, medians",
        settings.rounds,
        settings.round.as_millis()
    );
    let figures = iso8583(&samples)?.into_iter().chain(others(&samples)?);
    figures.map(|figure| figure.measure(settings, &mut peer, interrupt)).collect()
}

fn iso8583(samples: &Samples) -> Result<Vec<Figure<'_>>> {
    let figure = |name, ours, beside, at_least| Figure {
        name,
        unit: "/s",
        size: 1.0,
        ours,
        beside,
        at_least,
    };
    let (ascii, bcd, ebcdic) = (&samples.ascii, &samples.bcd, &samples.ebcdic);
    let specs = &samples.specs;
    let [a, b, e] = [(&specs.ascii, ascii), (&specs.bcd, bcd), (&specs.ebcdic, ebcdic)];
    let strict = |work| Beside::Peer("iso_8583_rs", work);
    Ok(vec![
        figure("ASCII strict, known shape", works::planned(a)?, strict("iso-strict"), Some(3.0)),
        figure("ASCII strict, new shape", works::general(a)?, strict("iso-strict"), Some(1.2)),
        figure("ASCII lazy, known shape", works::lazy(a)?, strict("iso-lazy"), None),
        figure(
            "ASCII strict, known shape",
            works::planned(a)?,
            Beside::Ours("naive", works::naive(ascii)?),
            None,
        ),
        figure(
            "BCD strict, known shape",
            works::planned(b)?,
            Beside::Ours("ASCII", works::planned(a)?),
            Some(0.5),
        ),
        figure(
            "EBCDIC strict, known shape",
            works::planned(e)?,
            Beside::Ours("ASCII", works::planned(a)?),
            Some(0.5),
        ),
        figure(
            "observer on, 20 fields",
            works::observed(a)?,
            Beside::Ours("observer ()", works::planned(a)?),
            Some(1.0 / 1.1),
        ),
        figure("read and written again", works::again(a)?, Beside::Nobody(None), None),
        figure("one field changed, written", works::changed(a)?, Beside::Nobody(None), None),
    ])
}

fn others(samples: &Samples) -> Result<Vec<Figure<'_>>> {
    let megabytes = |bytes: usize| u32::try_from(bytes).map_or(0.0, f64::from) / 1e6;
    let figure = |name, bytes: usize, ours, beside, at_least| Figure {
        name,
        unit: "MB/s",
        size: megabytes(bytes),
        ours,
        beside,
        at_least,
    };
    let (tlv, der) = (&samples.tlv, &samples.certificate);
    let (one, many) = (&samples.one, &samples.many);
    let at_least = |least| Beside::Nobody(Some(Goal::AtLeast(least)));
    let tree = |work| Beside::Peer("roxmltree", work);
    let walked = works::walk(many)?;
    Ok(vec![
        figure("EMV TLV, 25 tags", tlv.len(), works::tlv(tlv)?, at_least(1_000.0), None),
        figure(
            "DER certificate",
            der.len(),
            works::der(der)?,
            Beside::Peer("asn1", "der"),
            Some(1.0),
        ),
        figure("pacs.008, 1 transaction", one.len(), works::walk(one)?, at_least(400.0), None),
        figure(
            "pacs.008, 1,000 transactions",
            many.len(),
            works::walk(many)?,
            at_least(400.0),
            None,
        ),
        figure("pacs.008, 1 transaction", one.len(), works::walk(one)?, tree("xml-one"), None),
        figure(
            "pacs.008, 1,000 transactions",
            many.len(),
            works::walk(many)?,
            tree("xml-many"),
            None,
        ),
        figure(
            "pacs.008 masked",
            many.len(),
            works::mask(many)?,
            Beside::Ours("read only", walked),
            Some(0.7),
        ),
    ])
}
