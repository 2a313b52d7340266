//! Policy: Rego behind one typed question.
//!
//! A [`Bundle`] is text and data with a digest; an [`Engine`] is one compiled bundle for one worker.
//! [`Engine::decide`] is the only way to a [`Permit`]. A decision is a pure function of bundle and
//! input: no rule reads a clock, a network or a random number. Rego names facts and reasons, Rust
//! decides precedence: error, deny, challenge, allow; nothing at all is a refusal.

mod bundle;
mod engine;
mod explain;
mod input;
mod lint;
mod lint_data;
mod memo;
mod reads;

pub use bundle::{Bundle, BundleFile, Problem};
pub use engine::{Engine, Permit, RULE_TIME_MS_MAX};
pub use explain::{Explanation, Line, TestResult, eval, explain, run_tests};
pub use input::{BodyValue, Fact, Question};

#[cfg(test)]
mod tests;
