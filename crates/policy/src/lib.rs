//! Policy: Rego behind one typed question.
//!
//! A [`Bundle`] is text and data with a digest; an [`Engine`] is one compiled bundle for one worker.
//! [`Engine::decide`] gives a [`Decision`] and is the only way to a [`Permit`]. A decision is a pure function of bundle and
//! input: no rule reads a clock, a network or a random number. Rego names facts and reasons, Rust
//! decides precedence: error, deny, challenge, allow; nothing at all is a refusal.

mod answer;
mod bundle;
mod decision;
mod engine;
mod explain;
mod golden;
mod input;
pub mod kept;
mod lint;
mod lint_data;
pub mod measure;
mod memo;
mod reads;
pub mod risk;
pub mod signed;

pub use bundle::{Bundle, BundleFile, Problem};
pub use decision::{
    Challenge, DEMANDS_MAX, Decision, Demand, Held, LIMITS_MAX, Limit, Obligations, Permit, Proof,
};
pub use engine::{Engine, RULE_TIME_MS_MAX};
pub use explain::{Explanation, Line, TestResult, eval, explain, run_tests};
pub use input::{AGE_UNKNOWN_S, BodyValue, Fact, Question, StepUp, StepUpState, Token, Wire};

#[cfg(test)]
mod tests;
