//! Decisions as they are kept and asked again: a line of two JSON documents with a tab between them,
//! first the answer and the names of what was left out, then the input.

use regorus::Value;
use serde::{Deserialize, Serialize};

use crate::{Bundle, Decision, Engine, Question};

/// What a decision came to, as it is compared.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Outcome {
    /// `allow`, `challenge` or `deny`.
    pub effect: String,
    /// Code of a refusal; nothing otherwise.
    #[serde(default)]
    pub code: String,
    /// Reason ids, in order.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// The mask plan that is obliged to.
    #[serde(default)]
    pub mask: Option<String>,
}

impl Outcome {
    /// Of a decision.
    #[must_use]
    pub fn of(decision: &Decision) -> Outcome {
        let (effect, code, mut reasons, mask) = match decision {
            Decision::Allow(permit) => {
                let mask = permit.obligations().mask.clone();
                ("allow", "", permit.reasons().to_vec(), mask)
            }
            Decision::Challenge(challenge) => ("challenge", "", challenge.reasons(), None),
            Decision::Deny(refusal) => ("deny", refusal.code.id, refusal.reasons.clone(), None),
        };
        reasons.sort();
        Outcome { effect: effect.to_owned(), code: code.to_owned(), reasons, mask }
    }
}

/// One line.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Kept {
    /// When it was decided, milliseconds since 1970.
    pub at_ms: u64,
    /// Trace of the call, as in its record.
    pub trace: String,
    /// Package that was asked.
    pub package: String,
    /// Digest of the bundle that answered.
    pub bundle: String,
    /// The answer.
    pub outcome: Outcome,
    /// Paths of the input that were left out.
    #[serde(default)]
    pub absent: Vec<String>,
    /// The input.
    #[serde(skip)]
    pub input: String,
}

/// The line of one decision; nothing if it cannot be written.
#[must_use]
pub fn line(
    question: &Question<'_>,
    package: &str,
    bundle: &str,
    trace: &str,
    absent: &[String],
    decision: &Decision,
) -> Option<String> {
    let kept = Kept {
        at_ms: question.now_ms,
        trace: trace.to_owned(),
        package: package.to_owned(),
        bundle: bundle.to_owned(),
        outcome: Outcome::of(decision),
        absent: absent.to_vec(),
        input: question.to_json().ok()?,
    };
    // No tab stands in JSON but as `\\t`, and none between its parts as it is written here.
    Some(format!("{}\t{}", serde_json::to_string(&kept).ok()?, kept.input))
}

/// What becomes of a kept decision under another bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Again {
    /// The same answer.
    Same,
    /// Another one.
    Changed(Outcome),
    /// The rules may read something that was left out: the path of it.
    Undecidable(String),
}

impl Kept {
    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(line: &str) -> Result<Kept, String> {
        let (head, input) = line.split_once('\t').ok_or("the line has no input")?;
        let kept: Kept = serde_json::from_str(head).map_err(|e| e.to_string())?;
        Ok(Kept { input: input.to_owned(), ..kept })
    }

    /// Asks the same again.
    ///
    /// # Errors
    /// The input is no document.
    pub fn ask(&self, engine: &mut Engine) -> Result<Again, String> {
        let needed = self.absent.iter().find(|path| engine.bundle().may_read(path));
        if let Some(path) = needed {
            return Ok(Again::Undecidable(path.clone()));
        }
        let input = Value::from_json_str(&self.input).map_err(|e| e.to_string())?;
        let now = Outcome::of(&engine.decide_input(&self.package, input));
        Ok(if now == self.outcome { Again::Same } else { Again::Changed(now) })
    }
}

/// A rule that stands behind a change, as far as its text tells.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Rule {
    /// File and line.
    pub place: String,
    /// The line.
    pub text: String,
}

/// The rule of a bundle that made an answer another one: the head that gives a reason which is new,
/// or the first condition that no longer holds of a rule which allowed.
#[must_use]
pub fn rule_behind(bundle: &Bundle, kept: &Kept, now: &Outcome) -> Option<Rule> {
    let told = crate::explain(bundle, &kept.package, &kept.input).ok()?;
    let rule = |line: &crate::Line| Rule {
        place: format!("{}:{}", line.file, line.line),
        text: line.text.clone(),
    };
    let is_new = |reason: &&String| !kept.outcome.reasons.contains(reason);
    for reason in now.reasons.iter().filter(is_new) {
        let quoted = format!("\"{reason}\"");
        let gives = |line: &&crate::Line| line.reached && line.text.contains(&quoted);
        if let Some(line) = told.lines.iter().find(gives) {
            return Some(rule(line));
        }
    }
    // A boolean, or nothing that allows any more: the condition behind which it stops.
    let head = |line: &crate::Line, name: &str| {
        let text = line.text.strip_prefix("default ").unwrap_or(&line.text);
        text.starts_with(name)
    };
    let first = match now.effect.as_str() {
        "deny" if now.code == "MOAT-P001" => "deny",
        "challenge" => "challenge",
        _ => "allow",
    };
    let gone = kept.outcome.reasons.iter().find(|reason| !now.reasons.contains(reason));
    let quoted = gone.map(|reason| format!("\"{reason}\""));
    let named =
        quoted.and_then(|quoted| told.lines.iter().position(|line| line.text.contains(&quoted)));
    let at = named.or_else(|| told.lines.iter().position(|line| head(line, first)))?;
    let behind = told.lines.iter().skip(at);
    let stop = if now.effect == "deny" { behind.clone().find(|line| !line.reached) } else { None };
    stop.or_else(|| behind.clone().next()).map(rule)
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
