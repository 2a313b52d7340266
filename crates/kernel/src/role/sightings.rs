//! What the TLS record view tells: hellos go to the gateway, verdicts become records.
//!
//! The first verdicts have records of their own, as many as a rate lets through; the rest is
//! counted, and the counts become summary records. The kernel's counters and the records agree.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use moat_audit::record::{Body, Kind as RecordKind, Outcome};
use moat_model::Code;
use moat_model::code::kernel::{NOT_ADMITTED, NOT_TLS, TOO_FAST};
use moat_model::limit::{REFUSALS_ALL_BURST, REFUSALS_ALL_PER_S, SUMMARY_EVERY_S};
use moat_net::control::Channel;
use moat_net::sight::{OPTIONS_MAX, Sight};

use super::Error;
use super::commit::Commits;
use super::refusals::Ticket;
use crate::messages::WireStatus;
use crate::wire::{Counts, Kind, Seen, View};

/// Most events taken in one turn: the egress guard's must not wait long.
const EVENTS_MAX: usize = 512;
/// How often counts without records of their own are summed up.
const SUMMARY_EVERY: Duration = Duration::from_secs(SUMMARY_EVERY_S);

/// One kind of verdict.
struct Verdict {
    code: &'static Code,
    count: fn(&Counts) -> u64,
    /// How many the records speak of.
    told: u64,
}

pub(super) struct Sightings {
    view: View,
    gateway: Option<Channel>,
    verdicts: [Verdict; 3],
    /// Records of their own that may be made now, and when that was last counted.
    tokens: u64,
    filled: Instant,
    summed_up: Instant,
    /// Hellos that the gateway had no room for, or nobody was there to take.
    untold: u64,
}

impl Sightings {
    pub(super) fn new(view: View) -> Sightings {
        let now = Instant::now();
        let verdict = |code, count| Verdict { code, count, told: 0 };
        let verdicts = [
            verdict(&NOT_TLS, |counts| counts.not_tls),
            verdict(&NOT_ADMITTED, |counts| counts.not_admitted),
            verdict(&TOO_FAST, |counts| counts.too_fast),
        ];
        Sightings {
            view,
            gateway: None,
            verdicts,
            tokens: REFUSALS_ALL_BURST,
            filled: now,
            summed_up: now,
            untold: 0,
        }
    }

    /// Where hellos go from now on.
    pub(super) fn attach(&mut self, fd: OwnedFd) {
        self.gateway = Some(Channel::from_fd(fd));
    }

    pub(super) fn poll_fd(&self) -> BorrowedFd<'_> {
        self.view.poll_fd()
    }

    /// Passes on what has come.
    pub(super) fn take(&mut self, commits: &mut Commits<Ticket>) -> Result<(), Error> {
        self.fill();
        for _ in 0..EVENTS_MAX {
            let Some(event) = self.view.take() else { break };
            let seen = event.ok_or("an event of another form than this program knows")?;
            let Some(at) = verdict_of(seen.kind) else {
                self.tell(&seen);
                continue;
            };
            let Some(verdict) = self.verdicts.get_mut(at) else { continue };
            // What has no record of its own is found in the counters.
            if self.tokens > 0 && commits.room() > 0 {
                self.tokens -= 1;
                verdict.told += 1;
                commits.push(&record(verdict.code, &seen), Ticket::Verdict)?;
            }
        }
        if self.summed_up.elapsed() >= SUMMARY_EVERY {
            self.summed_up = Instant::now();
            self.sum_up(commits)?;
        }
        Ok(())
    }

    fn fill(&mut self) {
        let seconds = self.filled.elapsed().as_secs();
        if seconds > 0 {
            self.filled = Instant::now();
            let fresh = seconds.saturating_mul(REFUSALS_ALL_PER_S);
            self.tokens = self.tokens.saturating_add(fresh).min(REFUSALS_ALL_BURST);
        }
    }

    /// Makes records of what the kernel has counted and no record speaks of.
    pub(super) fn sum_up(&mut self, commits: &mut Commits<Ticket>) -> Result<(), Error> {
        let counts = self.view.counts()?;
        for verdict in &mut self.verdicts {
            let count = (verdict.count)(&counts).saturating_sub(verdict.told);
            if count > 0 && commits.room() > 0 {
                verdict.told += count;
                let note = format!("wire count={count}");
                commits.push(&refusal(verdict.code, note), Ticket::Verdict)?;
            }
        }
        Ok(())
    }

    fn tell(&mut self, seen: &Seen) {
        let sight = Sight {
            source: seen.source,
            port: seen.target.port(),
            is_partial: seen.is_partial,
            ttl: seen.ttl,
            window: seen.window,
            segment_max: seen.options.segment_max,
            window_scale: seen.options.window_scale.unwrap_or(u8::MAX),
            options: seen.options.kinds.iter().take(OPTIONS_MAX).copied().collect(),
            waited_ns: seen.at_ns.saturating_sub(seen.syn_at_ns),
        };
        // Not waited for: a gateway that stands still must not hold up the records.
        let is_told = self.gateway.as_ref().is_some_and(|gw| gw.offer(&sight.encode()).is_ok());
        self.untold += u64::from(!is_told);
    }

    pub(super) fn status(&self) -> Result<WireStatus, Error> {
        let interfaces = self.view.interfaces().iter();
        let interfaces = interfaces.map(|(name, mode)| format!("{name} ({mode:?})").to_lowercase());
        let Counts { hellos, not_tls, not_admitted, too_fast, lost, fragments, unreadable } =
            self.view.counts()?;
        Ok(WireStatus {
            interfaces: interfaces.collect(),
            hellos,
            not_tls,
            not_admitted,
            too_fast,
            lost,
            fragments,
            unreadable,
            untold: self.untold,
        })
    }
}

fn verdict_of(kind: Kind) -> Option<usize> {
    match kind {
        Kind::Hello => None,
        Kind::NotTls => Some(0),
        Kind::NotAdmitted => Some(1),
        Kind::TooFast => Some(2),
    }
}

fn record(code: &Code, seen: &Seen) -> Body {
    let Seen { source, target, ttl, .. } = seen;
    refusal(code, format!("wire from {source} to {target} ttl={ttl}"))
}

fn refusal(code: &Code, note: String) -> Body {
    Body {
        tenant: "default".to_owned(),
        object: "wire".to_owned(),
        outcome: Some(Outcome::Refused),
        code: code.id.to_owned(),
        note,
        ..Body::new(RecordKind::Refusal, [0; 16])
    }
}
