//! A refusal: which stage said no, with which code, and what may be told to whom.

use core::fmt;

use crate::{Code, Stage};

/// Why a call was not carried out. Takes the same road through the record as a success.
///
/// The public text may be read by the caller; the private one goes to the operator's log only.
/// Neither ever carries a field's value.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The stage that refused.
    pub stage: Stage,
    /// The stable code of the reason.
    pub code: &'static Code,
    /// Reason ids given by the policy, for example `over_limit`. Empty for other stages.
    pub reasons: Vec<String>,
    /// What the operator may read beside the code; never sent to the caller.
    pub private: String,
}

impl Refusal {
    /// A refusal without private text.
    #[must_use]
    pub fn new(stage: Stage, code: &'static Code) -> Refusal {
        Refusal { stage, code, reasons: Vec::new(), private: String::new() }
    }

    /// The same refusal with a text for the operator.
    #[must_use]
    pub fn because(mut self, private: impl fmt::Display) -> Refusal {
        self.private = private.to_string();
        self
    }

    /// The same refusal with the policy's reason ids.
    #[must_use]
    pub fn with_reasons(mut self, reasons: Vec<String>) -> Refusal {
        self.reasons = reasons;
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.code.id, self.stage, self.code.en.title)?;
        if !self.reasons.is_empty() {
            write!(f, " [{}]", self.reasons.join(", "))?;
        }
        if !self.private.is_empty() {
            write!(f, ": {}", self.private)?;
        }
        Ok(())
    }
}

impl core::error::Error for Refusal {}
