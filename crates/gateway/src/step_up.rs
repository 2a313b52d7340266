//! Challenges: what a policy asks for before it can allow a call, and whether the call brings it.
//!
//! A person is asked for a better or fresher token (RFC 9470), a machine for a signature over a
//! nonce (RFC 9421). The call that brings it is decided anew: what was proved is a fact in the
//! policy's input and never an automatic allow.

mod ask;
mod nonce;

use std::rc::Rc;

use moat_identity::signature::{self, Signed};
use moat_identity::token::Token;
use moat_identity::{PublicKey, VerifiedPeer};
use moat_model::clock::Clock;
use moat_model::code::policy as codes;
use moat_model::{Code, Refusal, Stage};
use moat_policy::{Challenge, Decision, Demand, Held, Permit, Proof, StepUp, StepUpState};

use crate::body::sha256;
use crate::call::{Answered, Call};
use crate::decode::{Decoded, InBody};

pub(crate) use ask::{Asked, invalid_token};
pub(crate) use nonce::{
    Bad, Bound, Decision as Numbered, Keys, NoRandomness, PassedOn, Used, UsedNonces,
};

/// Most decisions of one call: each further one must ask for something that was not met yet.
const ROUNDS_MAX: usize = 3;
/// Key id of the certificate's own key in a signature.
const TLS_KEY_ID: &str = "tls";

/// A second key of a caller, as registered.
#[derive(Clone, Debug)]
pub(crate) struct MachineKey {
    pub(crate) spiffe: String,
    pub(crate) held: Held,
    pub(crate) key: PublicKey,
}

/// What one demand came to.
enum Shown {
    /// It is met.
    Proof,
    /// Nothing was shown for it.
    Nothing,
    /// Something was shown that proves nothing.
    Bad(Refusal),
}

/// What was proved so far.
#[derive(Default)]
struct Met {
    demands: Vec<Demand>,
    person: Option<(String, u64)>,
    machine: Option<Machine>,
}

/// A machine's proof.
#[derive(Clone)]
struct Machine {
    held: Held,
    key_id: String,
    age_ms: u64,
    decision: nonce::Decision,
}

impl Met {
    fn step_up(&self) -> StepUp<'_> {
        let machine_s = self.machine.as_ref().map(|machine| machine.age_ms / 1_000);
        let person_s = self.person.as_ref().map(|(_, age_s)| *age_s);
        StepUp {
            state: StepUpState::Satisfied,
            kind: match (&self.person, &self.machine) {
                (Some(_), Some(_)) => "both",
                (Some(_), None) => "person",
                (None, _) => "machine",
            },
            acr: self.person.as_ref().map_or("", |(acr, _)| acr),
            age_s: machine_s.max(person_s).unwrap_or(moat_policy::AGE_UNKNOWN_S),
            key: self.machine.as_ref().map_or("", |machine| machine.held.name()),
        }
    }

    /// What the record says of it.
    fn answered(&self) -> Answered {
        let mut text = "satisfied".to_owned();
        if let Some((acr, age_s)) = &self.person {
            text.push_str(&format!(" person acr={acr} age_s={age_s}"));
        }
        if let Some(Machine { held, key_id, age_ms, .. }) = &self.machine {
            text.push_str(&format!(" machine key={} kid={key_id} age_ms={age_ms}", held.name()));
        }
        Answered { text, decision: self.machine.as_ref().map(|machine| machine.decision) }
    }
}

/// Decides a call that a policy challenges: `ask` asks it again with what was proved.
///
/// # Errors
/// A [`Refusal`] at [`Stage::Authorize`]; where a proof is still asked for, `call` holds what.
pub(crate) fn meet(
    call: &Call,
    decoded: &Decoded,
    token: Option<&Token>,
    first: Challenge,
    ask: &dyn Fn(StepUp<'_>) -> Decision,
) -> Result<Permit, Refusal> {
    let mut asking = Meeting::new(call, decoded, token)?;
    let mut challenge = first;
    for _ in 0..ROUNDS_MAX {
        let fresh = |demand: &&Demand| !asking.met.demands.contains(demand);
        let fresh: Vec<Demand> = challenge.demands.iter().filter(fresh).cloned().collect();
        if fresh.is_empty() {
            // What was proved is asked for again: nothing the caller does could end that.
            return Err(no(&codes::EXHAUSTED).with_reasons(challenge.reasons()));
        }
        asking.check_possible(&challenge)?;
        match asking.examine(&fresh) {
            Shown::Nothing => return Err(asking.challenge(&challenge, no(&codes::CHALLENGE))),
            Shown::Bad(refusal) => return Err(asking.failed(refusal, ask)),
            Shown::Proof => {}
        }
        asking.met.demands.extend(fresh);
        call.set_answered(asking.met.answered());
        match ask(asking.met.step_up()) {
            Decision::Allow(permit) => return Ok(permit),
            Decision::Deny(refusal) => return Err(refusal),
            Decision::Challenge(another) => challenge = another,
        }
    }
    Err(no(&codes::EXHAUSTED))
}

/// One call and what it is asked for.
struct Meeting<'a> {
    call: &'a Call,
    decoded: &'a Decoded,
    token: Option<&'a Token>,
    peer: &'a VerifiedPeer,
    /// SHA-256 of the body; nothing while it streams.
    body: Option<[u8; 32]>,
    target_uri: String,
    now_ms: u64,
    met: Met,
}

impl<'a> Meeting<'a> {
    fn new(
        call: &'a Call,
        decoded: &'a Decoded,
        token: Option<&'a Token>,
    ) -> Result<Meeting<'a>, Refusal> {
        // A session without a peer never gets here; refusing is right all the same.
        let peer = call.session.peer();
        let peer = peer.ok_or_else(|| no(&moat_model::code::identity::NO_SPIFFE))?;
        let now_ms = call.session.worker.clock.mono_ns() / 1_000_000;
        if call.session.worker.standing.is_struck_out(peer.spiffe().as_str(), now_ms) {
            return Err(no(&codes::STRUCK_OUT));
        }
        Ok(Meeting {
            call,
            decoded,
            token,
            peer,
            body: body_digest(call, decoded),
            target_uri: target_uri(decoded),
            now_ms,
            met: Met::default(),
        })
    }

    /// A challenge that nobody could meet is a refusal, and says so to the operator.
    fn check_possible(&self, challenge: &Challenge) -> Result<(), Refusal> {
        let cannot =
            |why: &str| no(&codes::CHALLENGED).with_reasons(challenge.reasons()).because(why);
        let rules = &self.decoded.rules;
        for demand in &challenge.demands {
            match &demand.proof {
                Proof::Person { .. } if rules.route.token == moat_config::TokenUse::Off => {
                    return Err(cannot("a person is asked for, and the route takes no tokens"));
                }
                Proof::Person { .. } => {}
                Proof::Machine { .. } if self.body.is_none() => {
                    return Err(no(&codes::UNBINDABLE).with_reasons(challenge.reasons()));
                }
                Proof::Machine { .. } => {
                    let held = held_in(challenge);
                    if !held.iter().any(|held| self.has_key(*held)) {
                        return Err(cannot("the caller has no key that would do"));
                    }
                }
            }
        }
        Ok(())
    }

    fn has_key(&self, held: Held) -> bool {
        let keys = &self.call.generation.shared.machine_keys;
        let caller = self.peer.spiffe().as_str();
        match held {
            Held::Tls => self.peer.key().is_some(),
            held => keys.values().any(|key| key.held == held && key.spiffe == caller),
        }
    }

    /// Persons first: a nonce is used up by looking at it, and must not be for nothing.
    fn examine(&mut self, demands: &[Demand]) -> Shown {
        let mut held_in: Option<Vec<Held>> = None;
        for demand in demands {
            match &demand.proof {
                Proof::Person { acr, max_age_s } => match self.person(acr, *max_age_s) {
                    Some(proof) => self.met.person = Some(proof),
                    None => return Shown::Nothing,
                },
                Proof::Machine { held_in: more } => {
                    let both = |held: &Held| held_in.as_ref().is_none_or(|few| few.contains(held));
                    held_in = Some(more.iter().copied().filter(both).collect());
                }
            }
        }
        match held_in {
            None => Shown::Proof,
            Some(held_in) => self.machine(&held_in),
        }
    }

    /// RFC 9470 §4: `acr` is one of those asked for, and `auth_time` is there and not too long ago.
    fn person(&self, acrs: &[String], max_age_s: u64) -> Option<(String, u64)> {
        let token = self.token?;
        let age_s = self.now_s().saturating_sub(token.auth_s?);
        let is_met = acrs.contains(&token.acr) && age_s <= max_age_s;
        is_met.then(|| (token.acr.clone(), age_s))
    }

    fn now_s(&self) -> u64 {
        self.call.session.worker.clock.wall_ns() / 1_000_000_000
    }

    fn machine(&mut self, held_in: &[Held]) -> Shown {
        if let Some(machine) = &self.met.machine {
            // One signature answers all that is asked of a machine.
            let fits = held_in.contains(&machine.held);
            return if fits { Shown::Proof } else { Shown::Nothing };
        }
        let input = match self.field("signature-input") {
            Ok(Some(input)) => input,
            Ok(None) => return Shown::Nothing,
            Err(refusal) => return Shown::Bad(refusal),
        };
        match self.verify(&input, held_in) {
            Ok(None) => Shown::Nothing,
            Ok(Some(machine)) => {
                self.met.machine = Some(machine);
                Shown::Proof
            }
            Err(refusal) => Shown::Bad(refusal),
        }
    }

    /// All values of a header, as one.
    fn field(&self, name: &str) -> Result<Option<String>, Refusal> {
        let values: Result<Vec<&str>, _> =
            self.decoded.head.headers.get_all(name).iter().map(|value| value.to_str()).collect();
        let values = values.map_err(|_| failed("a field is not ASCII text"))?;
        Ok((!values.is_empty()).then(|| values.join(", ")))
    }

    fn verify(&self, input: &str, held_in: &[Held]) -> Result<Option<Machine>, Refusal> {
        let signature = self.field("signature")?.unwrap_or_default();
        let found = signature::step_up(input, &signature).map_err(failed)?;
        let Some(found) = found else { return Ok(None) };
        let content_digest = self.field("content-digest")?.unwrap_or_default();
        let body = self.body.ok_or_else(|| no(&codes::UNBINDABLE))?;
        if signature::sha256_of(&content_digest).map_err(failed)? != body {
            return Err(failed("Content-Digest is not that of the body"));
        }
        let bound = self.bound(&body);
        let taken = self.call.session.take_nonce(&found.nonce, bound, self.now_ms);
        let used = taken.map_err(|bad| match bad {
            Bad::Forged => failed("the nonce was not made for this"),
            Bad::Expired => no(&codes::CHALLENGE_EXPIRED),
            Bad::Replayed => no(&codes::CHALLENGE_REPLAYED),
        })?;
        if found.expires_s.is_some_and(|at| at < self.now_s()) {
            return Err(no(&codes::CHALLENGE_EXPIRED).because("the signature says so"));
        }
        let (held, key) = self.key(&found.key_id)?;
        if !held_in.contains(&held) {
            return Err(failed("the key is held elsewhere than was asked for"));
        }
        let signed = Signed {
            method: self.call.method.as_str(),
            target_uri: &self.target_uri,
            content_digest: &content_digest,
        };
        if !found.is_by(key, signed) {
            return Err(failed("the signature is wrong"));
        }
        let (key_id, age_ms, decision) = (found.key_id, used.age_ms, used.decision);
        Ok(Some(Machine { held, key_id, age_ms, decision }))
    }

    fn bound<'b>(&'b self, body: &'b [u8; 32]) -> Bound<'b> {
        Bound {
            certificate: self.peer.certificate_sha256(),
            exporter: &self.call.session.exporter,
            method: self.call.method.as_str(),
            target_uri: &self.target_uri,
            body,
        }
    }

    /// A key that is registered for this caller, or that of its certificate.
    fn key(&self, id: &str) -> Result<(Held, &PublicKey), Refusal> {
        if id == TLS_KEY_ID {
            let key = self.peer.key().ok_or_else(|| failed("the certificate's key cannot sign"))?;
            return Ok((Held::Tls, key));
        }
        let key = self.call.generation.shared.machine_keys.get(id);
        let own = key.filter(|key| key.spiffe == self.peer.spiffe().as_str());
        own.map(|key| (key.held, &key.key)).ok_or_else(|| failed("no such key of this caller"))
    }

    /// A wrong answer: it is counted, and the policy is told. It never lets a call pass.
    fn failed(&self, refusal: Refusal, ask: &dyn Fn(StepUp<'_>) -> Decision) -> Refusal {
        let text = format!("failed {}", refusal.code.id);
        self.call.set_answered(Answered { text, decision: None });
        if *refusal.code != codes::CHALLENGE_EXPIRED {
            let caller = self.peer.spiffe().as_str();
            self.call.session.worker.standing.strike(caller, self.now_ms);
        }
        match ask(StepUp { state: StepUpState::Failed, ..StepUp::default() }) {
            Decision::Deny(denied) => denied,
            Decision::Allow(_) => refusal,
            Decision::Challenge(again) => match self.check_possible(&again) {
                Ok(()) => self.challenge(&again, refusal),
                Err(impossible) => impossible,
            },
        }
    }

    /// Makes the challenge, for the answer and the record.
    fn challenge(&self, challenge: &Challenge, refusal: Refusal) -> Refusal {
        let session = &self.call.session;
        let made = self.body.map(|body| session.make_nonce(self.bound(&body), self.now_ms));
        match Asked::new(challenge, &held_in(challenge), made) {
            Ok(asked) => {
                self.call.set_asked(Rc::new(asked));
                refusal.with_reasons(challenge.reasons())
            }
            Err(impossible) => impossible,
        }
    }
}

/// Where a key may be held that meets every demand on machines.
fn held_in(challenge: &Challenge) -> Vec<Held> {
    let demands = challenge.demands.iter().filter_map(|demand| match &demand.proof {
        Proof::Machine { held_in } => Some(held_in),
        Proof::Person { .. } => None,
    });
    let demands: Vec<&Vec<Held>> = demands.collect();
    Held::ALL.into_iter().filter(|held| demands.iter().all(|few| few.contains(held))).collect()
}

fn body_digest(call: &Call, decoded: &Decoded) -> Option<[u8; 32]> {
    match &decoded.body {
        InBody::Held { bytes, .. } => Some(call.digest_in.get().unwrap_or_else(|| sha256(bytes))),
        InBody::Stream(incoming) => hyper::body::Body::is_end_stream(incoming).then(|| sha256(b"")),
        InBody::Unseen => None,
    }
}

/// RFC 9421 §2.2.2: scheme, authority in lower case without the default port, path and query.
fn target_uri(decoded: &Decoded) -> String {
    let head = &decoded.head;
    let host = head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    let authority = head.uri.authority().map(|authority| authority.as_str()).or(host).unwrap_or("");
    let authority = authority.to_ascii_lowercase();
    let authority = authority.strip_suffix(":443").unwrap_or(&authority);
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    format!("https://{authority}{path}")
}

fn failed(why: impl core::fmt::Display) -> Refusal {
    no(&codes::CHALLENGE_FAILED).because(why)
}

fn no(code: &'static Code) -> Refusal {
    Refusal::new(Stage::Authorize, code)
}
