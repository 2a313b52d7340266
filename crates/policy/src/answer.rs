//! Decoding of what a package answers. Strict: an unknown key, effect or type is no answer, and no
//! answer is a refusal.

use std::collections::BTreeSet;

use moat_model::code::policy as codes;
use moat_model::{Code, Refusal, Stage};
use regorus::Value;

use crate::decision::{
    Challenge, DEMANDS_MAX, Demand, Held, LIMITS_MAX, Limit, Obligations, Proof,
};

/// Most reason ids one decision may carry.
const REASONS_MAX: usize = 16;
/// Longest reason id, plan name or name of a budget, in bytes.
const ID_BYTES_MAX: usize = 64;
/// Longest authentication context class, in bytes.
const ACR_BYTES_MAX: usize = 128;
/// Most authentication context classes in one demand.
const ACRS_MAX: usize = 8;
/// Longest age of an authentication that may be asked for, in seconds: a day.
const MAX_AGE_S_MAX: u64 = 86_400;
/// Longest window of a limit, in milliseconds: a day.
const WINDOW_MS_MAX: u64 = 86_400_000;

/// What a package's `decision` object says.
pub(crate) enum Whole {
    Allow(Vec<String>, Obligations),
    Deny(Vec<String>),
    Challenge(Challenge),
}

/// The reason ids of a deny rule: a set or array of text, or a plain boolean.
pub(crate) fn denials(value: &Value) -> Result<Vec<String>, Refusal> {
    match value {
        Value::Undefined | Value::Bool(false) => Ok(Vec::new()),
        Value::Bool(true) => Ok(vec!["denied".to_owned()]),
        value => reasons(value, "deny"),
    }
}

/// The reason ids of an allow rule, or why it does not allow.
pub(crate) fn allowance(value: &Value) -> Result<Vec<String>, Refusal> {
    match value {
        Value::Undefined => Err(no(&codes::UNDEFINED)),
        Value::Bool(true) => Ok(Vec::new()),
        Value::Bool(false) => Err(no(&codes::NOT_ALLOWED)),
        Value::Set(_) => {
            let reasons = reasons(value, "allow")?;
            if reasons.is_empty() { Err(no(&codes::NOT_ALLOWED)) } else { Ok(reasons) }
        }
        _ => Err(bad("allow is neither a boolean nor a set of reason ids")),
    }
}

/// What a challenge rule asks for: nothing, or a set or array of objects.
pub(crate) fn challenge(value: &Value) -> Result<Option<Challenge>, Refusal> {
    let demands = match value {
        Value::Undefined | Value::Bool(false) => return Ok(None),
        value => members(value, "challenge")?,
    };
    if demands.len() > DEMANDS_MAX {
        return Err(bad(&format!("over {DEMANDS_MAX} challenges at once")));
    }
    let demands: Vec<Demand> = demands.into_iter().map(demand).collect::<Result<_, _>>()?;
    Ok((!demands.is_empty()).then_some(Challenge { demands }))
}

fn demand(value: &Value) -> Result<Demand, Refusal> {
    let mut fields = Fields::of(value, "challenge")?;
    let reason = id(fields.take("reason")?, "challenge.reason")?;
    let proof = match text(fields.take("kind")?, "challenge.kind")?.as_str() {
        "person" => Proof::Person {
            acr: acrs(fields.take("acr")?)?,
            max_age_s: number(fields.take("max_age_s")?, "max_age_s", MAX_AGE_S_MAX)?,
        },
        "machine" => Proof::Machine { held_in: held_in(fields.maybe("key"))? },
        _ => return Err(bad("challenge.kind is neither `person` nor `machine`")),
    };
    fields.end()?;
    Ok(Demand { reason, proof })
}

fn acrs(value: &Value) -> Result<Vec<String>, Refusal> {
    let fine = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
    let acrs: Vec<String> = members(value, "challenge.acr")?
        .into_iter()
        .map(|value| text(value, "challenge.acr"))
        .collect::<Result<_, _>>()?;
    let good = |acr: &String| (1..=ACR_BYTES_MAX).contains(&acr.len()) && acr.chars().all(fine);
    if !(1..=ACRS_MAX).contains(&acrs.len()) || !acrs.iter().all(good) {
        return Err(bad("challenge.acr is no list of authentication context classes"));
    }
    Ok(acrs)
}

/// Where nothing is said: any registered key, and not that of the certificate.
fn held_in(value: Option<&Value>) -> Result<Vec<Held>, Refusal> {
    let Some(value) = value else { return Ok(vec![Held::Hsm, Held::Tpm, Held::File]) };
    let held: BTreeSet<Held> = members(value, "challenge.key")?
        .into_iter()
        .map(|value| {
            let name = text(value, "challenge.key")?;
            Held::from_name(&name).ok_or_else(|| bad("challenge.key: not hsm, tpm, file or tls"))
        })
        .collect::<Result<_, _>>()?;
    if held.is_empty() {
        return Err(bad("challenge.key is empty"));
    }
    Ok(held.into_iter().collect())
}

/// The obligations: an object, or a set of objects that are taken together.
pub(crate) fn obligations(value: &Value) -> Result<Obligations, Refusal> {
    let objects = match value {
        Value::Undefined => return Ok(Obligations::default()),
        Value::Object(_) => vec![value],
        value => members(value, "obligations")?,
    };
    let mut all = Obligations::default();
    for object in objects {
        let mut fields = Fields::of(object, "obligations")?;
        if let Some(plan) = fields.maybe("mask") {
            let plan = id(plan, "obligations.mask")?;
            if all.mask.as_ref().is_some_and(|other| *other != plan) {
                return Err(bad("two different mask plans"));
            }
            all.mask = Some(plan);
        }
        if let Some(limits) = fields.maybe("limit") {
            let several = matches!(limits, Value::Set(_) | Value::Array(_));
            let limits = if several { members(limits, "limit")? } else { vec![limits] };
            for value in limits {
                all.limits.push(limit(value)?);
            }
        }
        fields.end()?;
    }
    let names: BTreeSet<&String> = all.limits.iter().map(|limit| &limit.name).collect();
    if all.limits.len() > LIMITS_MAX || names.len() != all.limits.len() {
        return Err(bad(&format!("over {LIMITS_MAX} limits, or two of one name")));
    }
    Ok(all)
}

fn limit(value: &Value) -> Result<Limit, Refusal> {
    let mut fields = Fields::of(value, "obligations.limit")?;
    let limit = Limit {
        name: id(fields.take("name")?, "limit.name")?,
        cost: match fields.maybe("cost") {
            Some(cost) => number(cost, "limit.cost", u64::MAX)?,
            None => 1,
        },
        most: number(fields.take("most")?, "limit.most", u64::MAX)?,
        per_ms: number(fields.take("per_ms")?, "limit.per_ms", WINDOW_MS_MAX)?,
    };
    fields.end()?;
    if limit.per_ms == 0 { Err(bad("limit.per_ms is 0")) } else { Ok(limit) }
}

/// A whole answer in one object: `effect`, `reasons`, and what belongs to the effect.
pub(crate) fn whole(value: &Value) -> Result<Whole, Refusal> {
    if matches!(value, Value::Undefined) {
        return Err(no(&codes::UNDEFINED));
    }
    let mut fields = Fields::of(value, "decision")?;
    let effect = text(fields.take("effect")?, "decision.effect")?;
    let named =
        fields.maybe("reasons").map_or(Ok(Vec::new()), |value| reasons(value, "reasons"))?;
    let answer = match effect.as_str() {
        "allow" => {
            let owed =
                fields.maybe("obligations").map_or(Ok(Obligations::default()), obligations)?;
            Whole::Allow(named, owed)
        }
        "deny" if named.is_empty() => Whole::Deny(vec!["denied".to_owned()]),
        "deny" => Whole::Deny(named),
        "challenge" => {
            let asked = challenge(fields.take("challenge")?)?;
            Whole::Challenge(asked.ok_or_else(|| bad("decision.challenge asks for nothing"))?)
        }
        _ => return Err(bad("decision.effect is not allow, deny or challenge")),
    };
    fields.end()?;
    Ok(answer)
}

fn reasons(value: &Value, what: &str) -> Result<Vec<String>, Refusal> {
    members(value, what)?.into_iter().take(REASONS_MAX).map(|value| id(value, what)).collect()
}

fn members<'a>(value: &'a Value, what: &str) -> Result<Vec<&'a Value>, Refusal> {
    match value {
        Value::Set(set) => Ok(set.iter().collect()),
        Value::Array(array) => Ok(array.iter().collect()),
        _ => Err(bad(&format!("{what} is neither a set nor an array"))),
    }
}

fn text(value: &Value, what: &str) -> Result<String, Refusal> {
    value.as_string().map(|text| text.to_string()).map_err(|_| bad(&format!("{what} is no text")))
}

/// A name that may stand in a header, a record and a message.
fn id(value: &Value, what: &str) -> Result<String, Refusal> {
    let text = text(value, what)?;
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"_.:-".contains(&b);
    if (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(fine) {
        Ok(text)
    } else {
        Err(bad(&format!("{what} is no id of 1 to {ID_BYTES_MAX} letters, digits, `_.:-`")))
    }
}

fn number(value: &Value, what: &str, most: u64) -> Result<u64, Refusal> {
    let number = value.as_u64().map_err(|_| bad(&format!("{what} is no whole number")))?;
    if number <= most { Ok(number) } else { Err(bad(&format!("{what} is over {most}"))) }
}

/// The keys of an object, each to be taken once.
struct Fields<'a> {
    object: &'a Value,
    left: BTreeSet<&'a str>,
    what: &'static str,
}

impl<'a> Fields<'a> {
    fn of(object: &'a Value, what: &'static str) -> Result<Fields<'a>, Refusal> {
        let Value::Object(fields) = object else {
            return Err(bad(&format!("{what} is no object")));
        };
        let mut left = BTreeSet::new();
        for key in fields.keys() {
            let Value::String(key) = key else {
                return Err(bad(&format!("a key of {what} is no text")));
            };
            left.insert(key.as_ref());
        }
        Ok(Fields { object, left, what })
    }

    fn maybe(&mut self, name: &str) -> Option<&'a Value> {
        let Value::Object(fields) = self.object else { return None };
        self.left.remove(name).then(|| fields.get(&Value::String(name.into()))).flatten()
    }

    fn take(&mut self, name: &str) -> Result<&'a Value, Refusal> {
        self.maybe(name).ok_or_else(|| bad(&format!("{} has no `{name}`", self.what)))
    }

    /// Whatever is left was not understood, and so cannot be met.
    fn end(self) -> Result<(), Refusal> {
        match self.left.first() {
            None => Ok(()),
            // The key's name is the policy's text, not the caller's.
            Some(key) => Err(bad(&format!("{} has the unknown key `{key}`", self.what))),
        }
    }
}

pub(crate) fn bad(why: &str) -> Refusal {
    no(&codes::BAD_ANSWER).because(why)
}

pub(crate) fn no(code: &'static Code) -> Refusal {
    Refusal::new(Stage::Authorize, code)
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
