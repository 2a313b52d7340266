//! How a challenge is asked: header fields of a 401, the same for gRPC.

use http::header::{HeaderName, HeaderValue, WWW_AUTHENTICATE};
use moat_identity::signature::STEP_UP_TAG;
use moat_model::{Code, Refusal, Stage};
use moat_policy::{Challenge, Held, Proof};

use super::nonce::{Decision, LIFE_MS, NoRandomness};

const ACCEPT_SIGNATURE: HeaderName = HeaderName::from_static("accept-signature");

/// A challenge as it is sent.
pub(crate) struct Asked {
    pub(crate) fields: Vec<(HeaderName, HeaderValue)>,
    /// Which challenge it is. Stands in its record, and in that of a machine's answer.
    pub(crate) decision: Decision,
}

impl Asked {
    /// `made` is a nonce and its number, where there can be one.
    pub(super) fn new(
        challenge: &Challenge,
        held_in: &[Held],
        made: Option<Result<(String, Decision), NoRandomness>>,
    ) -> Result<Asked, Refusal> {
        let no_chance = |_| no(&moat_model::code::system::INTERNAL).because("no randomness");
        let (nonce, decision) = match made {
            Some(made) => {
                made.map_err(no_chance).map(|(nonce, decision)| (Some(nonce), decision))?
            }
            None => (None, random().map_err(no_chance)?),
        };
        let mut fields = Vec::new();
        for demand in &challenge.demands {
            if let Proof::Person { acr, max_age_s } = &demand.proof {
                fields.push((WWW_AUTHENTICATE, value(&person(acr, *max_age_s))?));
            }
        }
        let is_of_machines = |proof: &Proof| matches!(proof, Proof::Machine { .. });
        if challenge.demands.iter().any(|demand| is_of_machines(&demand.proof)) {
            let nonce = nonce.ok_or_else(|| no(&moat_model::code::policy::UNBINDABLE))?;
            fields.push((WWW_AUTHENTICATE, value(&machine(&nonce, held_in))?));
            fields.push((ACCEPT_SIGNATURE, value(&accept_signature(&nonce))?));
        }
        Ok(Asked { fields, decision })
    }
}

/// RFC 9470 §3.
fn person(acr: &[String], max_age_s: u64) -> String {
    format!(
        "Bearer error=\"insufficient_user_authentication\", \
         error_description=\"A stronger or fresher authentication is required\", \
         acr_values=\"{}\", max_age=\"{max_age_s}\"",
        acr.join(" ")
    )
}

fn machine(nonce: &str, held_in: &[Held]) -> String {
    let keys: Vec<&str> = held_in.iter().map(|held| held.name()).collect();
    format!(
        "MoatNonce nonce=\"{nonce}\", max_age=\"{}\", key=\"{}\"",
        LIFE_MS / 1_000,
        keys.join(" ")
    )
}

/// RFC 9421 §5.1: what the signature must cover, and the parameters it must have.
fn accept_signature(nonce: &str) -> String {
    format!(
        "moat=(\"@method\" \"@target-uri\" \"content-digest\");created;keyid;nonce=\"{nonce}\";\
         tag=\"{STEP_UP_TAG}\""
    )
}

/// The challenge beside a 401 for a token that is no good (RFC 6750 §3.1).
pub(crate) fn invalid_token() -> (HeaderName, HeaderValue) {
    (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""))
}

fn value(text: &str) -> Result<HeaderValue, Refusal> {
    // Classes and nonces are ASCII without quotes, so this cannot fail.
    HeaderValue::from_str(text).map_err(|e| no(&moat_model::code::system::INTERNAL).because(e))
}

fn random() -> Result<Decision, NoRandomness> {
    use aws_lc_rs::rand::{SecureRandom, SystemRandom};
    let mut decision = Decision::default();
    SystemRandom::new().fill(&mut decision).map_err(|_| NoRandomness)?;
    Ok(decision)
}

fn no(code: &'static Code) -> Refusal {
    Refusal::new(Stage::Authorize, code)
}
