//! What the egress guard refused, as records: one for each refusal, and one that counts those whose
//! events were lost. Nothing the kernel counts goes without a record.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use moat_audit::record::{Body, Kind, Outcome};
use moat_model::Code;
use moat_model::code::kernel::{EGRESS_OBSERVED, EGRESS_REFUSED, EVENTS_LOST};
use moat_model::egress::Rule;

use super::Error;
use super::commit::Commits;
use crate::egress::names::Names;
use crate::egress::{Guard, Ledger, Refused};
use crate::messages::{Egress, EgressStatus, Seen};

/// Most destinations that are counted apart, by who came first, so that no count ever falls; the
/// rest is `other`. Like the next two such that three tables and everything else fit into one
/// message of the control channel.
const BLOCKED_MAX: usize = 40;
/// Most rows of destinations in a status, and the longest name, in characters.
const ROWS_MAX: usize = 40;
const NAME_CHARS_MAX: usize = 64;
/// Most entries of the list in a status.
const ENTRIES_SHOWN_MAX: usize = 128;
/// How often losses are recorded while refusals go on.
const LOSSES_EVERY: Duration = Duration::from_secs(1);
/// How long refusals without an event must have stood before they count as missed: one that has
/// been counted this moment may have its event in the next.
const SETTLED: Duration = Duration::from_millis(400);
/// The label of refusals without an event.
const LOST: &str = "lost";
/// The label of destinations beyond the bound.
const OTHER: &str = "other";

/// What a record on its way stands for.
pub(super) enum Ticket {
    /// A refusal, by the label that it is counted under.
    Refusal(String),
    /// So many without room for their events.
    Lost(u64),
    /// So many whose events were read by nobody who is still there.
    Missed(u64),
    /// Something the TLS record view has told.
    Verdict,
}

pub(super) struct Refusals {
    guard: Guard,
    egress: Egress,
    names: Names,
    ledger: Ledger,
    /// Recorded refusals by name or address.
    blocked: BTreeMap<String, u64>,
    /// Number of the next refusal, for its record.
    next: u64,
    /// Whether a record of losses is on its way: the next one waits for it.
    is_counting: bool,
    counted: Instant,
    /// How many refusals have no event, and since when that is so.
    gap: (u64, Instant),
}

impl Refusals {
    pub(super) fn new(guard: Guard, egress: Egress) -> Result<Refusals, Error> {
        let ledger = guard.ledger()?;
        let now = Instant::now();
        let mut blocked = BTreeMap::new();
        if ledger.total() > 0 {
            // Recorded before this process began, which does not know where to.
            blocked.insert(OTHER.to_owned(), ledger.recorded);
            blocked.insert(LOST.to_owned(), ledger.lost + ledger.missed);
        }
        let names = Names::default();
        let next = ledger.recorded;
        let (is_counting, gap) = (false, (0, now));
        Ok(Refusals { guard, egress, names, ledger, blocked, next, is_counting, counted: now, gap })
    }

    pub(super) fn poll_fd(&self) -> BorrowedFd<'_> {
        self.guard.poll_fd()
    }

    pub(super) fn allow(&mut self, rules: &[Rule], egress: Egress) -> Result<(), Error> {
        self.guard.allow(rules, egress.is_observing)?;
        self.egress = egress;
        Ok(())
    }

    /// Makes records of what has come, as far as there is room.
    pub(super) fn take(&mut self, commits: &mut Commits<Ticket>) -> Result<(), Error> {
        let mut refused = Vec::new();
        while refused.len() < commits.room()
            && let Some(event) = self.guard.take()
        {
            refused.push(event.ok_or("an event of another form than this program knows")?);
        }
        // After the refusals: an answer that led to one of them has come before it.
        let names = &mut self.names;
        self.guard.answers(|answer| names.hear(answer));
        for event in refused {
            let body = self.record(&event);
            let label = self.label(&event);
            commits.push(&body, Ticket::Refusal(label))?;
            self.next += 1;
        }
        self.take_losses(commits)
    }

    fn take_losses(&mut self, commits: &mut Commits<Ticket>) -> Result<(), Error> {
        if self.is_counting || commits.room() == 0 || self.counted.elapsed() < LOSSES_EVERY {
            return Ok(());
        }
        let counts = self.guard.counts()?;
        let lost = counts.lost.saturating_sub(self.ledger.lost);
        if lost > 0 {
            commits.push(&losses(lost, "no room for their events"), Ticket::Lost(lost))?;
            self.is_counting = true;
            return Ok(());
        }
        if commits.waiting() > 0 {
            self.gap = (0, Instant::now());
            return Ok(());
        }
        let gap = counts.refused.saturating_sub(self.ledger.total());
        if gap != self.gap.0 {
            self.gap = (gap, Instant::now());
        } else if gap > 0 && self.gap.1.elapsed() >= SETTLED {
            let why = "their reader ended before it had recorded them";
            commits.push(&losses(gap, why), Ticket::Missed(gap))?;
            self.is_counting = true;
        }
        Ok(())
    }

    /// Notes what is durable.
    pub(super) fn durable(&mut self, durable: Vec<Ticket>) -> Result<(), Error> {
        if durable.is_empty() {
            return Ok(());
        }
        for ticket in durable {
            let (label, count) = match ticket {
                Ticket::Verdict => continue,
                Ticket::Refusal(label) => {
                    self.ledger.recorded += 1;
                    (label, 1)
                }
                Ticket::Lost(count) => {
                    self.ledger.lost += count;
                    self.losses_recorded();
                    (LOST.to_owned(), count)
                }
                Ticket::Missed(count) => {
                    self.ledger.missed += count;
                    self.losses_recorded();
                    (LOST.to_owned(), count)
                }
            };
            let is_full = self.blocked.len() >= BLOCKED_MAX && !self.blocked.contains_key(&label);
            let label = if is_full { OTHER.to_owned() } else { label };
            *self.blocked.entry(label).or_default() += count;
        }
        self.guard.note(&self.ledger)
    }

    fn losses_recorded(&mut self) {
        self.is_counting = false;
        self.counted = Instant::now();
    }

    /// Whether every refusal that the kernel has counted has been recorded.
    pub(super) fn is_told(&mut self) -> Result<bool, Error> {
        Ok(self.guard.counts()?.refused <= self.ledger.total())
    }

    fn label(&self, event: &Refused) -> String {
        let name = self.names.of(event.address).map(cut);
        name.unwrap_or_else(|| event.address.to_string())
    }

    fn record(&self, event: &Refused) -> Body {
        let code: &Code = if self.egress.is_observing { &EGRESS_OBSERVED } else { &EGRESS_REFUSED };
        let name = self.names.of(event.address).unwrap_or("-");
        let Refused { pid, uid, comm, hook, .. } = event;
        let note = format!(
            "egress role=gateway to={} name={name} hook={} pid={pid} uid={uid} comm={comm} \
             number={}",
            event.destination(),
            hook.name(),
            self.next,
        );
        refusal(code, format!("egress/{}", event.destination()), note)
    }

    pub(super) fn status(&self) -> Result<EgressStatus, Error> {
        let counts = self.guard.counts()?;
        let blocked = self.blocked.iter().map(|(name, count)| (name.clone(), *count)).collect();
        let mut seen: Vec<_> = self.guard.seen().collect();
        seen.sort_by_key(|(.., attempts)| std::cmp::Reverse(attempts.last_ns));
        let seen =
            seen.into_iter().take(ROWS_MAX).map(|(address, port, protocol, attempts)| Seen {
                destination: crate::egress::destination(address, port, protocol),
                name: self.names.of(address).map(cut).unwrap_or_default(),
                allowed: attempts.allowed,
                refused: attempts.refused,
            });
        Ok(EgressStatus {
            is_observing: self.egress.is_observing,
            entries: self.egress.allow.len(),
            allow: self.egress.allow.iter().take(ENTRIES_SHOWN_MAX).cloned().collect(),
            allowed: counts.allowed,
            refused: counts.refused,
            recorded: self.ledger.recorded,
            lost: self.ledger.lost + self.ledger.missed,
            blocked,
            seen: seen.collect(),
        })
    }
}

fn cut(name: &str) -> String {
    name.chars().take(NAME_CHARS_MAX).collect()
}

fn losses(count: u64, why: &str) -> Body {
    let note = format!("egress role=gateway lost={count}: {why}");
    refusal(&EVENTS_LOST, "egress/lost".to_owned(), note)
}

fn refusal(code: &Code, object: String, note: String) -> Body {
    Body {
        tenant: "default".to_owned(),
        object,
        outcome: Some(Outcome::Refused),
        code: code.id.to_owned(),
        note,
        ..Body::new(Kind::Refusal, [0; 16])
    }
}
