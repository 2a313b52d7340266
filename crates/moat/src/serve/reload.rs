//! Reloads: reading the configuration again, offering it to the gateway, and what came of it.

use std::path::PathBuf;
use std::time::Instant;

use moat_admin::messages::ToAdmin;
use moat_config::{Change, Egress, Hot, Loaded, Outline, Problem, Problems};
use moat_gateway::messages::ToGateway;
use moat_model::code::audit::PASSING;
use moat_model::code::config::{NEEDS_RESTART, SYNTAX};
use moat_model::code::policy::BUNDLE_ROLLBACK;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::policy_store::Offered;
use super::retry::Retry;
use super::supervisor::Supervisor;
use super::watch::Watch;

/// What is said to who asks for anything while another program takes over.
const UPGRADING: &str = "another program is taking over; ask that one";
/// Most changes that are listed: a message has 32 KiB.
const CHANGES_MAX: usize = 80;
/// What is said of a reload that failed for a passing reason.
const AGAIN: &str = "it is tried again until it is taken or the files change";

/// Who asked for a reload.
pub(super) enum Asker {
    /// A file has changed.
    Watch,
    /// SIGHUP.
    Signal,
    /// A reload that was asked for while another was under way.
    Earlier,
    /// A reload that failed for a passing reason.
    Retry,
    /// A program at the admin socket.
    Admin { id: u64, uid: Option<u32> },
    /// A program at the admin socket that wants the generation before back.
    Rollback { id: u64, uid: Option<u32> },
    /// A program at the admin socket that wants another program to take over.
    Upgrade { id: u64, uid: Option<u32> },
}

impl core::fmt::Display for Asker {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Asker::Watch => f.write_str("watch"),
            Asker::Signal => f.write_str("SIGHUP"),
            Asker::Earlier => f.write_str("earlier"),
            Asker::Retry => f.write_str("retry"),
            Asker::Admin { uid: Some(uid), .. } => write!(f, "admin:uid={uid}"),
            Asker::Admin { uid: None, .. } => f.write_str("admin"),
            Asker::Upgrade { uid: Some(uid), .. } => write!(f, "admin:uid={uid}"),
            Asker::Upgrade { uid: None, .. } => f.write_str("admin"),
            Asker::Rollback { uid: Some(uid), .. } => write!(f, "admin:uid={uid},rollback"),
            Asker::Rollback { uid: None, .. } => f.write_str("admin,rollback"),
        }
    }
}

/// A generation that the gateway has not answered for yet.
pub(super) struct Candidate {
    pub(super) number: u64,
    pub(super) digest: String,
    pub(super) blob: Zeroizing<Vec<u8>>,
    pub(super) egress: Egress,
    pub(super) outline: Outline,
    /// Files to look at from then on; those of now, if none are given.
    pub(super) watched: Option<Vec<PathBuf>>,
    pub(super) policy: Option<Offered>,
    pub(super) asker: Asker,
    /// Whether the gateway has been given it; before, the egress guard is.
    pub(super) is_offered: bool,
}

/// The generation before the one in force.
pub(super) struct Previous {
    digest: String,
    blob: Zeroizing<Vec<u8>>,
    egress: Egress,
    outline: Outline,
    /// Whether its policy is signed: such a one does not come back this way.
    is_signed: bool,
}

impl Supervisor {
    pub(super) fn activated(&mut self, number: u64) {
        self.known.generation = number;
        if let Some(candidate) = self.candidate.take_if(|c| c.number == number) {
            let blob = std::mem::replace(&mut self.blob, candidate.blob);
            let digest = std::mem::replace(&mut self.known.digest, candidate.digest);
            let egress = self.kernel.active.clone();
            let outline = std::mem::replace(&mut self.outline, candidate.outline);
            let is_signed = self.policy.is_some();
            self.previous = Some(Previous { digest, blob, egress, outline, is_signed });
            self.policy = candidate.policy;
            match candidate.watched {
                Some(watched) => self.watch = Watch::new(watched),
                None => self.watch.rest(),
            }
            self.last_number = number;
            self.retry = Retry::new();
            self.known.last_refusal = None;
            self.egress_activated(candidate.egress);
            self.answer(&candidate.asker, Ok(json!({ "generation": number })));
        }
        if let Some(kept) = self.policy.as_ref().map(|policy| self.policies.keep(policy))
            && let Err(error) = kept
        {
            let error = format!("{error:#}");
            tracing::error!(error, "what was activated could not be kept; the log has its version");
        }
        if let Err(error) = self.last_good.keep(&self.outline) {
            let error = format!("{error:#}");
            tracing::error!(error, "the configuration in force could not be kept");
        }
        tracing::info!(generation = number, digest = self.known.digest, "generation active");
        self.reload_if_stale();
    }

    pub(super) fn refused(&mut self, number: u64, code: &str, detail: &str) {
        let candidate = self.candidate.take_if(|c| c.number == number);
        let mut why = format!("{code} {detail}");
        let is_rollback =
            candidate.as_ref().is_some_and(|c| matches!(c.asker, Asker::Rollback { .. }));
        // What is tried again is read from the disk, and that is not what was asked for then.
        if candidate.is_some() && !is_rollback && PASSING.iter().any(|passing| passing.id == code) {
            why = format!("{why}; {AGAIN}");
            self.retry.ask(Instant::now());
        }
        self.is_policy_refused = code.starts_with("MOAT-P");
        tracing::error!(generation = number, why, "generation refused");
        self.known.last_refusal = Some(why.clone());
        if let Some(candidate) = candidate {
            self.send_egress(0);
            self.answer(&candidate.asker, Err(why));
        }
        self.reload_if_stale();
    }

    /// The gateway has ended. What was offered to it is offered to the next one.
    pub(super) fn gateway_ended(&mut self) {
        let is_stale = std::mem::take(&mut self.is_stale);
        let Some(candidate) = self.candidate.take() else { return };
        let mut why = "the gateway ended while taking it".to_owned();
        if is_stale {
            // There is another configuration on the disk than the one it ended over.
            self.retry = Retry::new();
        }
        let is_rollback = matches!(candidate.asker, Asker::Rollback { .. });
        if !is_rollback && self.retry.ask_after_end(Instant::now()) {
            why = format!("{why}; {AGAIN}");
        }
        self.known.last_refusal = Some(why.clone());
        self.send_egress(0);
        self.answer(&candidate.asker, Err(why));
    }

    fn reload_if_stale(&mut self) {
        if std::mem::take(&mut self.is_stale) {
            self.reload(Asker::Earlier);
        }
    }

    /// Reads the configuration again and offers it to the gateway: all of it, or nothing.
    pub(super) fn reload(&mut self, asker: Asker) {
        if self.is_handing_over() {
            self.answer(&asker, Err(UPGRADING.to_owned()));
            return;
        }
        if self.candidate.is_some() {
            self.is_stale = true;
            self.answer(&asker, Err("another reload is under way; this one follows it".to_owned()));
            return;
        }
        if !matches!(asker, Asker::Retry) {
            self.retry = Retry::new();
        }
        match self.candidate_from_disk() {
            Err((code, why)) => {
                tracing::error!(%why, "reload refused");
                let (number, code) = (self.last_number + 1, code.to_owned());
                let record = ToGateway::Unreadable { number, code, asker: asker.to_string() };
                self.gateway.send(&record, &[]);
                self.known.last_refusal = Some(why.clone());
                self.answer(&asker, Err(why));
            }
            Ok(None) => {
                // What was refused is no longer on the disk.
                self.known.last_refusal = None;
                self.answer(&asker, Ok(json!({ "generation": self.known.generation })));
            }
            Ok(Some(mut candidate)) => {
                candidate.asker = asker;
                self.offer(candidate);
            }
        }
        self.publish();
    }

    /// Offers the generation before the one in force as a new one. The disk is not read, and what
    /// stands there is taken again as soon as a file changes or somebody asks. A signed policy never
    /// goes back.
    pub(super) fn roll_back(&mut self, asker: Asker) {
        let why = if self.is_handing_over() {
            UPGRADING
        } else if self.candidate.is_some() {
            "a reload is under way; ask again after it"
        } else if self.policy.is_some() || self.previous.as_ref().is_some_and(|p| p.is_signed) {
            "signed policies do not go back: sign the one before with a higher version and reload"
        } else {
            "there is no generation before this one since the start"
        };
        let is_free = self.candidate.is_none() && self.policy.is_none() && !self.is_handing_over();
        let previous = self.previous.as_ref().filter(|previous| is_free && !previous.is_signed);
        let Some(Previous { digest, blob, egress, outline, .. }) = previous else {
            self.answer(&asker, Err(why.to_owned()));
            return;
        };
        let (digest, blob, egress) = (digest.clone(), blob.clone(), egress.clone());
        let outline = outline.clone();
        let (number, watched, policy, is_offered) = (self.last_number + 1, None, None, false);
        self.retry = Retry::new();
        let candidate =
            Candidate { number, digest, blob, egress, outline, watched, policy, asker, is_offered };
        self.offer(candidate);
        self.publish();
    }

    fn offer(&mut self, candidate: Candidate) {
        let number = candidate.number;
        self.candidate = Some(candidate);
        // The guard first: what the gateway is to reach must be allowed before it is.
        // A role that is away is given the list when it starts, and then goes on here.
        if self.kernel.child.is_some() {
            self.send_egress(number);
        } else {
            self.offer_candidate();
        }
    }

    /// Gives the gateway the candidate, once.
    pub(super) fn offer_candidate(&mut self) {
        let Some(candidate) = self.candidate.as_mut().filter(|one| !one.is_offered) else { return };
        candidate.is_offered = true;
        let (number, digest) = (candidate.number, candidate.digest.clone());
        let asker = candidate.asker.to_string();
        let message = ToGateway::Generation { number, digest, asker };
        let Err(error) = self.gateway.send_blob(&message, &candidate.blob) else { return };
        let mut why = format!("{error:#}");
        if !matches!(candidate.asker, Asker::Rollback { .. }) {
            why = format!("{why}; {AGAIN}");
            self.retry.ask(Instant::now());
        }
        tracing::error!(why, "reload not offered to the gateway");
        self.known.last_refusal = Some(why.clone());
        if let Some(candidate) = self.candidate.take() {
            self.send_egress(0);
            self.answer(&candidate.asker, Err(why));
        }
    }

    /// `None` if nothing has changed; code and text if it cannot be taken.
    fn candidate_from_disk(&mut self) -> Result<Option<Candidate>, (&'static str, String)> {
        let unreadable = |problems: Problems| {
            let first = problems.list.first().map_or(&SYNTAX, |problem| problem.code);
            (first.id, problems.to_string())
        };
        let Loaded { config, watched, warnings, outline } =
            moat_config::load(&self.config_path).map_err(unreadable)?;
        if config.digest == self.known.digest {
            return Ok(None);
        }
        if config.restart != self.restart {
            let why = format!("{} {}", NEEDS_RESTART.id, NEEDS_RESTART.en.title);
            return Err((NEEDS_RESTART.id, why));
        }
        warn_of(&warnings);
        let mut hot = config.hot;
        let policy = self.policies.prepare(&mut hot).map_err(|e| {
            (
                BUNDLE_ROLLBACK.id,
                format!("{}: what was activated is not known: {e:#}", BUNDLE_ROLLBACK.id),
            )
        })?;
        let blob = blob_of(&hot).map_err(|e| (SYNTAX.id, e.to_string()))?;
        let number = self.last_number + 1;
        let digest = config.digest;
        let watched = Some(watched);
        let (egress, asker, is_offered) = (config.egress, Asker::Watch, false);
        let candidate =
            Candidate { number, digest, blob, egress, outline, watched, policy, asker, is_offered };
        Ok(Some(candidate))
    }

    /// What a reload would change. Nothing is done.
    pub(super) fn diff(&self) -> Result<Value, String> {
        let loaded = moat_config::load(&self.config_path).map_err(|p| p.to_string())?;
        let changes = self.outline.changes_to(&loaded.outline);
        let left_off = changes.len().saturating_sub(CHANGES_MAX);
        let changes = changes.into_iter().take(CHANGES_MAX).map(|change| {
            let Change { key, from, to, effect } = change;
            json!({ "key": key, "from": from, "to": to, "effect": effect.name() })
        });
        let changes: Vec<Value> = changes.collect();
        let restart = loaded.config.restart != self.restart;
        Ok(json!({ "changes": changes, "left_off": left_off, "restart": restart }))
    }

    /// Tells who asked. Status comes first: whoever has the answer finds it there.
    pub(super) fn answer(&mut self, asker: &Asker, result: Result<Value, String>) {
        if let Asker::Admin { id, .. } | Asker::Rollback { id, .. } | Asker::Upgrade { id, .. } =
            asker
        {
            self.publish();
            self.admin.offer(&ToAdmin::Reloaded { id: *id, result });
        }
    }
}

/// What the gateway is to work with, keys included: written at once into as many bytes as it takes,
/// since a buffer that grows leaves what it held behind, and wiped when it is dropped.
pub(super) fn blob_of(hot: &Hot) -> Result<Zeroizing<Vec<u8>>, postcard::Error> {
    let length = postcard::experimental::serialized_size(hot)?;
    let mut blob = Zeroizing::new(vec![0; length]);
    postcard::to_slice(hot, &mut blob)?;
    Ok(blob)
}

/// What is good enough to go on, and should not stay so.
pub(super) fn warn_of(warnings: &[Problem]) {
    for warning in warnings {
        let (code, place) = (warning.code.id, warning.place());
        tracing::warn!(code, place, "{}", warning.message);
    }
}
