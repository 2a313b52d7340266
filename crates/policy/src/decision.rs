//! What a decision is: a permit with its obligations, a challenge, or a refusal.

use std::collections::BTreeSet;
use std::sync::Arc;

use moat_model::code::policy::CHALLENGED;
use moat_model::{Refusal, Stage};

/// Most challenges that one decision may ask for.
pub const DEMANDS_MAX: usize = 4;
/// Most limits that one decision may set.
pub const LIMITS_MAX: usize = 4;

/// What a policy came to. Rego names facts and reasons; precedence is decided in Rust: error, deny,
/// challenge, allow; nothing at all is a refusal.
#[derive(Debug)]
pub enum Decision {
    /// The call may go on, under the permit's obligations.
    Allow(Permit),
    /// A further proof is asked for first.
    Challenge(Challenge),
    /// The call is refused.
    Deny(Refusal),
}

impl Decision {
    /// The permit, where a challenge cannot be made and so is a refusal.
    ///
    /// # Errors
    /// The refusal, or `CHALLENGED` at [`Stage::Authorize`].
    pub fn permit(self) -> Result<Permit, Refusal> {
        match self {
            Decision::Allow(permit) => Ok(permit),
            Decision::Deny(refusal) => Err(refusal),
            Decision::Challenge(challenge) => {
                Err(Refusal::new(Stage::Authorize, &CHALLENGED).with_reasons(challenge.reasons()))
            }
        }
    }
}

/// What an allowing decision says besides allowing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) reasons: Vec<String>,
    pub(crate) obligations: Obligations,
}

/// Proof that a policy allowed one operation. Only [`crate::Engine::decide`] makes one:
///
/// ```compile_fail
/// let forged = moat_policy::Permit { route: "transfer".into(), reasons: vec![] };
/// ```
#[derive(Debug)]
pub struct Permit {
    pub(crate) route: String,
    pub(crate) grant: Arc<Grant>,
    pub(crate) bundle: Arc<str>,
}

impl Permit {
    /// The route this permit is for; it is good for no other.
    #[must_use]
    pub fn route(&self) -> &str {
        &self.route
    }

    /// Reason ids of the rules that allowed, where the policy names them.
    #[must_use]
    pub fn reasons(&self) -> &[String] {
        &self.grant.reasons
    }

    /// What must be done with the call, or it may not go on.
    #[must_use]
    pub fn obligations(&self) -> &Obligations {
        &self.grant.obligations
    }

    /// Digest of the bundle that decided.
    #[must_use]
    pub fn bundle(&self) -> &Arc<str> {
        &self.bundle
    }
}

/// What an allowed call is bound to. A closed set: an answer with any other key is a refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Obligations {
    /// Name of a mask plan of the route, which then masks the answer.
    pub mask: Option<String>,
    /// Budgets that the call is counted against.
    pub limits: Vec<Limit>,
}

/// A budget of one caller under one name: at most `most` within `per_ms`, of which this call takes
/// `cost`: 1 for a bound on calls, an amount in minor units for a bound on money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Name of the budget; counted for each caller apart.
    pub name: String,
    /// What this call takes.
    pub cost: u64,
    /// The most that may be taken.
    pub most: u64,
    /// Length of the window, in milliseconds.
    pub per_ms: u64,
}

/// What is asked for before the call can be allowed. All of it must be met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Each thing that is asked for, in the policy's order of values; never empty.
    pub demands: Vec<Demand>,
}

impl Challenge {
    /// The reason ids, without repetition.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let reasons: BTreeSet<&String> = self.demands.iter().map(|demand| &demand.reason).collect();
        reasons.into_iter().cloned().collect()
    }
}

/// One thing that is asked for, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Reason id.
    pub reason: String,
    /// What would meet it.
    pub proof: Proof,
}

/// A further proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A person has been authenticated well and lately (RFC 9470).
    Person {
        /// Authentication context classes, any of which will do; never empty.
        acr: Vec<String>,
        /// Longest time since the authentication, in seconds.
        max_age_s: u64,
    },
    /// A machine signs a nonce with one of its registered keys (RFC 9421).
    Machine {
        /// Where the key may be held; never empty.
        held_in: Vec<Held>,
    },
}

/// Where a machine's second key is held, as it was registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    /// A hardware security module.
    Hsm,
    /// A trusted platform module.
    Tpm,
    /// A file.
    File,
    /// No second key: that of the caller's certificate, which proves freshness only.
    Tls,
}

impl Held {
    /// Every place.
    pub const ALL: [Held; 4] = [Held::Hsm, Held::Tpm, Held::File, Held::Tls];

    /// Its name in policies, registers and records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Held::Hsm => "hsm",
            Held::Tpm => "tpm",
            Held::File => "file",
            Held::Tls => "tls",
        }
    }

    /// The place with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Held> {
        Held::ALL.into_iter().find(|held| held.name() == name)
    }
}
