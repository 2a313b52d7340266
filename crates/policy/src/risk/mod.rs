//! Risk: how a call compares with what its subject did before, as points with names.
//!
//! A [`Memory`] has one profile of fixed size for each subject and never grows.
//! The score is the sum of its parts, at most [`SCORE_MAX`]: what is not known counts as dangerous,
//! and no part ever lowers it. All arithmetic is of integers and time is an argument, so a history
//! that is played again gives the same points.
//!
//! Every attempt is counted. What is *usual* is learnt only from calls that were allowed: somebody
//! who is refused does not train his own profile.

mod counter;
mod memory;
mod profile;
mod sketch;

pub use memory::{Key, Memory, SLOT_BYTES};

/// The highest score.
pub const SCORE_MAX: u32 = 1_000;

/// How well a subject is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RiskState {
    /// Nothing is remembered: risk is not configured.
    Off,
    /// Too few of its calls were allowed so far, or it was forgotten.
    Cold,
    /// There is a history to compare with.
    Known,
}

impl RiskState {
    /// Its name in the input.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            RiskState::Off => "off",
            RiskState::Cold => "cold",
            RiskState::Known => "known",
        }
    }
}

/// A closed set of reasons for points, in the order of the table in `docs/policy.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Part {
    /// Risk is not configured.
    Off,
    /// The subject is not known.
    Cold,
    /// A device that this subject has not used.
    NewDevice,
    /// No device can be told.
    NoDevice,
    /// A network or place that this subject has not called from.
    NewNetwork,
    /// The caller's TCP looks different from all that were seen.
    NewStack,
    /// More calls than usual within a minute, ten minutes, an hour or a day.
    Velocity,
    /// More counterparties than usual within an hour.
    Spread,
    /// A counterparty to which many subjects turn at once.
    Crowd,
    /// An hour of the week in which this subject does not call.
    OddHour,
    /// An amount far above the usual.
    Amount,
    /// Refusals of this subject within an hour.
    Failures,
    /// Refusals from this network, of any subject, within an hour.
    NetworkFailures,
}

impl Part {
    /// Every part.
    pub const ALL: [Part; 13] = [
        Part::Off,
        Part::Cold,
        Part::NewDevice,
        Part::NoDevice,
        Part::NewNetwork,
        Part::NewStack,
        Part::Velocity,
        Part::Spread,
        Part::Crowd,
        Part::OddHour,
        Part::Amount,
        Part::Failures,
        Part::NetworkFailures,
    ];

    /// Its name in `input.risk.parts` and `input.risk.reasons`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Part::Off => "off",
            Part::Cold => "cold",
            Part::NewDevice => "new_device",
            Part::NoDevice => "no_device",
            Part::NewNetwork => "new_network",
            Part::NewStack => "new_stack",
            Part::Velocity => "velocity",
            Part::Spread => "spread",
            Part::Crowd => "crowd",
            Part::OddHour => "odd_hour",
            Part::Amount => "amount",
            Part::Failures => "failures",
            Part::NetworkFailures => "network_failures",
        }
    }
}

/// What a call came to in comparison with its subject's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Risk {
    /// How well the subject is known.
    pub state: RiskState,
    points: [u16; Part::ALL.len()],
}

impl Risk {
    /// Where nothing is remembered: as dangerous as can be.
    pub const OFF: Risk =
        Risk { state: RiskState::Off, points: [1_000, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] };

    fn of(state: RiskState) -> Risk {
        Risk { state, points: [0; Part::ALL.len()] }
    }

    fn add(&mut self, part: Part, points: u64, most: u16) {
        if let Some(place) = self.points.get_mut(part as usize) {
            *place = u16::try_from(points).unwrap_or(u16::MAX).min(most);
        }
    }

    /// The sum of all points, at most [`SCORE_MAX`].
    #[must_use]
    pub fn score(&self) -> u32 {
        self.points.iter().map(|points| u32::from(*points)).sum::<u32>().min(SCORE_MAX)
    }

    /// The parts that have points.
    pub fn parts(&self) -> impl Iterator<Item = (Part, u16)> {
        Part::ALL.into_iter().zip(self.points).filter(|(_, points)| *points > 0)
    }

    /// The same as one line, for a record: `known 350 new_device=200 new_network=150`.
    #[must_use]
    pub fn note(&self) -> String {
        let mut note = format!("{} {}", self.state.name(), self.score());
        for (part, points) in self.parts() {
            note.push_str(&format!(" {}={points}", part.name()));
        }
        note
    }
}

/// What is compared. Texts are only hashed, under a key of the [`Memory`].
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// Who calls: the caller, and for whom where a token says so.
    pub subject: &'a [&'a str],
    /// What tells one device from another, as JA4; nothing if that is not known.
    pub device: &'a str,
    /// Where it calls from: a place of the operator's, or a network.
    pub network: &'a [u8],
    /// What the network card saw of the caller's TCP; nothing if nobody looks.
    pub stack: &'a str,
    /// The amount, in minor units, where the route has one.
    pub amount: Option<u64>,
    /// To whom the amount goes; nothing where the route does not say.
    pub counterparty: &'a str,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The policy allowed it.
    Allowed,
    /// A proof was asked for and none was shown.
    Asked,
    /// It was refused, or a wrong proof was shown.
    Refused,
}

#[cfg(test)]
mod tests;
