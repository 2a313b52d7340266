//! Which witness is asked what, and what follows from the answers. Does no I/O.
//!
//! A round is one checkpoint: all cosignatures of a quorum must be over the same. Each witness is
//! asked by itself, and one that does not answer holds up no other.

use moat_net::carriage::{Ask, Got};
use moat_tlog::Hash;
use moat_tlog::checkpoint::{Checkpoint, SignedCheckpoint};
use moat_tlog::key::VerifierKey;
use moat_tlog::note::Signature;
use moat_tlog::policy::Policy;
use moat_tlog::sign::AwsLc;
use moat_tlog::witness::{Answer, Request};
use serde_json::{Value, json};

/// How long an answer is waited for, in nanoseconds. The courier gives up before.
const ANSWER_NS_MAX: u64 = 10_000_000_000;
/// First pause before a witness that failed is asked again, in nanoseconds; it doubles.
const PAUSE_NS_MIN: u64 = 200_000_000;
/// Longest such pause, in nanoseconds.
const PAUSE_NS_MAX: u64 = 5_000_000_000;
/// How often in a row a witness may name another size before it is asked only after a pause.
const STALES_MAX: u32 = 3;

/// What a witness said last.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Says {
    Nothing,
    Cosigned,
    /// It could not be asked, or gave no answer of the protocol.
    Unreachable(String),
    Refused(u16),
    /// Its answer has no cosignature by its key over this checkpoint.
    Wrong,
    /// It has another history of this log, by its own word: 409 or 422.
    Disagrees(u16),
    /// It names more records than were ever signed here.
    Ahead(u64),
}

impl Says {
    fn state(&self) -> &'static str {
        match self {
            Says::Nothing => "not_asked",
            Says::Cosigned => "cosigned",
            Says::Unreachable(_) => "unreachable",
            Says::Refused(_) => "refused",
            Says::Wrong => "wrong",
            Says::Disagrees(_) => "disagrees",
            Says::Ahead(_) => "ahead",
        }
    }

    fn why(&self) -> Option<String> {
        match self {
            Says::Nothing | Says::Cosigned => None,
            Says::Unreachable(why) => Some(why.clone()),
            Says::Refused(status) | Says::Disagrees(status) => Some(format!("status {status}")),
            Says::Wrong => Some("no cosignature by its key over this checkpoint".to_owned()),
            Says::Ahead(size) => Some(format!("it says that the log has {size} records")),
        }
    }

    /// Whether log and witness contradict each other.
    fn is_dispute(&self) -> bool {
        matches!(self, Says::Wrong | Says::Disagrees(_) | Says::Ahead(_))
    }
}

/// A question under way.
struct Flight {
    id: u64,
    since_ns: u64,
    checkpoint: Checkpoint,
}

struct Witness {
    key: VerifierKey,
    /// Whether the policy says where it is; others are asked by hand.
    has_url: bool,
    /// How many records it has confirmed, as far as it has said.
    known: Option<u64>,
    /// The largest checkpoint that it has cosigned, as far as this process has seen.
    size: u64,
    flight: Option<Flight>,
    failures: u32,
    again_ns: u64,
    stales: u32,
    has_cosigned: bool,
    /// Whether it has said in this process that it knows no more than there is.
    is_confirmed: bool,
    says: Says,
}

impl Witness {
    fn fail(&mut self, now_ns: u64, says: Says) {
        self.says = says;
        let pause = PAUSE_NS_MIN.checked_shl(self.failures.min(16)).unwrap_or(PAUSE_NS_MAX);
        self.again_ns = now_ns.saturating_add(pause.min(PAUSE_NS_MAX));
        self.failures = self.failures.saturating_add(1);
    }
}

struct Round {
    /// As the log signed it.
    plain: SignedCheckpoint,
    /// The same with what witnesses added.
    cosigned: SignedCheckpoint,
}

/// The witnesses of a policy.
pub(crate) struct Rounds {
    policy: Policy,
    witnesses: Vec<Witness>,
    latest: Option<SignedCheckpoint>,
    round: Option<Round>,
    /// The largest size that was ever offered here.
    signed_max: u64,
    /// What they are supposed to know before they have said.
    guess: u64,
    next_id: u64,
}

impl Rounds {
    /// `guess`: of how many records a quorum has been seen before.
    pub(crate) fn new(policy: Policy, guess: u64) -> Rounds {
        let witness = |(key, url): (&VerifierKey, Option<&str>)| Witness {
            key: key.clone(),
            has_url: url.is_some(),
            known: None,
            size: 0,
            flight: None,
            failures: 0,
            again_ns: 0,
            stales: 0,
            has_cosigned: false,
            is_confirmed: false,
            says: Says::Nothing,
        };
        let witnesses = policy.witnesses().map(witness).collect();
        let (latest, round, signed_max, next_id) = (None, None, 0, 0);
        Rounds { policy, witnesses, latest, round, signed_max, guess, next_id }
    }

    /// A checkpoint that the log has signed. Only the last one is asked for.
    pub(crate) fn offer(&mut self, signed: SignedCheckpoint) {
        self.signed_max = self.signed_max.max(signed.checkpoint().size());
        self.latest = Some(signed);
    }

    /// What to ask now. `prove` gives the consistency proof between two sizes, if it can.
    pub(crate) fn ask(
        &mut self,
        now_ns: u64,
        mut prove: impl FnMut(u64, u64) -> Option<Vec<Hash>>,
    ) -> Vec<Ask> {
        self.give_up(now_ns);
        self.begin();
        let Some(round) = &self.round else { return Vec::new() };
        let mut asks = Vec::new();
        for (index, witness) in self.witnesses.iter_mut().enumerate() {
            let is_idle = witness.has_url && witness.flight.is_none() && !witness.has_cosigned;
            let size = round.plain.checkpoint().size();
            let old = witness.known.unwrap_or(self.guess.min(size));
            if !is_idle || witness.again_ns > now_ns || old > size {
                continue;
            }
            let request = prove(old, size)
                .and_then(|proof| Request::new(old, proof, round.plain.clone()).ok());
            let Some(request) = request else {
                let why = "the tiles for the proof cannot be read".to_owned();
                witness.fail(now_ns, Says::Unreachable(why));
                continue;
            };
            let (id, checkpoint) = (self.next_id, round.plain.checkpoint().clone());
            self.next_id += 1;
            witness.flight = Some(Flight { id, since_ns: now_ns, checkpoint });
            asks.push(Ask { id, witness: index, body: request.body() });
        }
        asks
    }

    /// Takes the last checkpoint up, unless the one before may still get its quorum.
    fn begin(&mut self) {
        let Some(latest) = &self.latest else { return };
        if let Some(round) = &self.round {
            let head = round.plain.checkpoint().head();
            let is_open = self.witnesses.iter().any(|witness| {
                witness.flight.as_ref().is_some_and(|flight| flight.checkpoint.head() == head)
            });
            if head == latest.checkpoint().head() || (is_open && self.witnessed().is_none()) {
                return;
            }
        }
        self.round = Some(Round { plain: latest.clone(), cosigned: latest.clone() });
        for witness in &mut self.witnesses {
            (witness.has_cosigned, witness.stales) = (false, 0);
        }
    }

    fn give_up(&mut self, now_ns: u64) {
        for witness in &mut self.witnesses {
            let is_late = |flight: &Flight| now_ns.saturating_sub(flight.since_ns) > ANSWER_NS_MAX;
            if witness.flight.as_ref().is_some_and(is_late) {
                witness.flight = None;
                witness.fail(now_ns, Says::Unreachable("no answer in time".to_owned()));
            }
        }
    }

    /// The courier has gone, and what it was asked with it.
    pub(crate) fn lose_courier(&mut self, now_ns: u64) {
        for witness in &mut self.witnesses {
            if witness.flight.take().is_some() {
                witness.fail(now_ns, Says::Unreachable("the courier has gone".to_owned()));
            }
        }
    }

    /// When something is to be done by itself, in nanoseconds.
    pub(crate) fn due_ns(&self) -> Option<u64> {
        self.round.as_ref()?;
        let due = |witness: &Witness| match &witness.flight {
            Some(flight) => Some(flight.since_ns.saturating_add(ANSWER_NS_MAX + 1)),
            None if witness.has_url && !witness.has_cosigned => Some(witness.again_ns),
            None => None,
        };
        self.witnesses.iter().filter_map(due).min()
    }

    /// Takes an answer. Says whether the round has a cosignature more.
    pub(crate) fn hear(&mut self, got: &Got, now_ns: u64) -> bool {
        let signed_max = self.signed_max;
        let Some(witness) = self.witnesses.get_mut(got.witness) else { return false };
        let Some(flight) = witness.flight.take_if(|flight| flight.id == got.id) else {
            return false;
        };
        let answer = match &got.answer {
            Err(why) => {
                witness.fail(now_ns, Says::Unreachable(why.clone()));
                return false;
            }
            Ok(answer) => {
                Answer::parse(answer.status, &answer.content_type, answer.body.as_bytes())
            }
        };
        match answer {
            Err(error) => witness.fail(now_ns, Says::Unreachable(error.to_string())),
            Ok(Answer::Stale(size)) if size > signed_max => {
                witness.fail(now_ns, Says::Ahead(size));
            }
            Ok(Answer::Stale(size)) => {
                (witness.known, witness.is_confirmed) = (Some(size), true);
                witness.stales += 1;
                if witness.stales > STALES_MAX {
                    witness.fail(now_ns, Says::Refused(409));
                }
            }
            Ok(Answer::Refused(status @ (409 | 422))) => {
                witness.fail(now_ns, Says::Disagrees(status));
            }
            Ok(Answer::Refused(status)) => witness.fail(now_ns, Says::Refused(status)),
            Ok(cosigned) => {
                let keys = [witness.key.clone()];
                let lines = cosigned.accept(&flight.checkpoint, &keys, &AwsLc);
                let Some((line, _)) = lines.into_iter().max_by_key(|(_, time)| *time) else {
                    witness.fail(now_ns, Says::Wrong);
                    return false;
                };
                let size = flight.checkpoint.size();
                (witness.known, witness.is_confirmed) = (Some(size), true);
                (witness.says, witness.failures) = (Says::Cosigned, 0);
                witness.size = size;
                return self.add(got.witness, &flight.checkpoint, line);
            }
        }
        false
    }

    fn add(&mut self, index: usize, checkpoint: &Checkpoint, line: Signature) -> bool {
        let Some(round) = &mut self.round else { return false };
        if round.plain.checkpoint() != checkpoint {
            return false;
        }
        let Ok(cosigned) = round.cosigned.with(&[line]) else { return false };
        round.cosigned = cosigned;
        if let Some(witness) = self.witnesses.get_mut(index) {
            witness.has_cosigned = true;
        }
        true
    }

    /// The round's checkpoint with its cosignatures, if they are enough.
    pub(crate) fn witnessed(&self) -> Option<&SignedCheckpoint> {
        let has = |key: &VerifierKey| {
            self.witnesses.iter().any(|witness| witness.has_cosigned && witness.key == *key)
        };
        let round = self.round.as_ref()?;
        self.policy.has_quorum(has).then_some(&round.cosigned)
    }

    fn count(&self, fits: impl Fn(&Witness) -> bool) -> bool {
        self.policy.has_quorum(|key| {
            self.witnesses.iter().any(|witness| witness.key == *key && fits(witness))
        })
    }

    /// Whether enough witnesses have said, since this process began, that they know of no more
    /// records than there are. Where too few can be asked, nobody can say it.
    pub(crate) fn is_cleared(&self) -> bool {
        self.count(|witness| witness.is_confirmed) || !self.count(|witness| witness.has_url)
    }

    /// Which witnesses know of more records than there are, if the others are not enough without
    /// them: then the log was put back. A few liars cannot make this true.
    pub(crate) fn rolled_back(&self) -> Option<(u64, String)> {
        let ahead = |witness: &Witness| match witness.says {
            Says::Ahead(size) => Some(size),
            _ => None,
        };
        if self.count(|witness| ahead(witness).is_none()) {
            return None;
        }
        let by: Vec<String> = self
            .witnesses
            .iter()
            .filter_map(|witness| Some(format!("{} ({})", witness.key.name(), ahead(witness)?)))
            .collect();
        Some((self.witnesses.iter().filter_map(ahead).max()?, by.join(", ")))
    }

    /// Whether any witness and the log contradict each other.
    pub(crate) fn is_disputed(&self) -> bool {
        self.witnesses.iter().any(|witness| witness.says.is_dispute())
    }

    /// Each witness, for people.
    pub(crate) fn status(&self) -> Value {
        let one = |witness: &Witness| {
            let mut one = json!({
                "name": witness.key.name().as_str(),
                "state": witness.says.state(),
                "size": witness.size,
            });
            if let (Some(why), Some(map)) = (witness.says.why(), one.as_object_mut()) {
                map.insert("why".to_owned(), why.into());
            }
            one
        };
        self.witnesses.iter().map(one).collect()
    }
}

#[cfg(test)]
#[path = "rounds_tests.rs"]
mod tests;
