//! Golden requests: inputs with the answers that they must get, run before a bundle is activated.

use moat_model::code::policy::SELF_TEST;
use regorus::Value;
use serde::Deserialize;

use crate::signed::GOLDEN;
use crate::{Decision, Engine, Problem};

/// Most requests of one bundle.
const REQUESTS_MAX: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    name: String,
    package: String,
    input: serde_json::Value,
    expect: Effect,
    /// Reason ids that must be among those of the answer.
    #[serde(default)]
    reasons: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Effect {
    Allow,
    Deny,
    Challenge,
}

/// Asks each request; gives how many there were.
pub(crate) fn run(text: &[u8], engine: &mut Engine) -> Result<usize, Problem> {
    let bad = |place: &str, detail: String| Problem {
        code: &SELF_TEST,
        place: format!("{GOLDEN}: {place}"),
        detail,
    };
    let requests: Vec<Request> =
        serde_json::from_slice(text).map_err(|e| bad("list", e.to_string()))?;
    if requests.len() > REQUESTS_MAX {
        return Err(bad("list", format!("over {REQUESTS_MAX} requests")));
    }
    for request in &requests {
        let input = Value::from_json_str(&request.input.to_string())
            .map_err(|e| bad(&request.name, e.to_string()))?;
        let (effect, reasons) = match engine.decide_input(&request.package, input) {
            Decision::Allow(permit) => (Effect::Allow, permit.reasons().to_vec()),
            Decision::Challenge(challenge) => (Effect::Challenge, challenge.reasons()),
            Decision::Deny(refusal) => (Effect::Deny, refusal.reasons),
        };
        let has = |wanted: &String| reasons.contains(wanted);
        if effect != request.expect || !request.reasons.iter().all(has) {
            let detail = format!("it came to {effect:?} {reasons:?}");
            return Err(bad(&request.name, detail));
        }
    }
    Ok(requests.len())
}
