//! One compiled bundle for one worker, and the decision.

use core::num::NonZeroU32;
use core::time::Duration;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use moat_model::code::policy as codes;
use moat_model::{Code, Refusal, Stage};
use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{LimitError, Value};

use crate::memo::Memo;
use crate::reads::Reads;
use crate::{Bundle, Problem, Question, lint_data};

/// Longest time one rule may take, in milliseconds.
pub const RULE_TIME_MS_MAX: u64 = 5;
/// Units of work between two looks at the clock.
const TIMER_INTERVAL: NonZeroU32 = NonZeroU32::new(64).unwrap();
/// Most reason ids one decision may carry.
const REASONS_MAX: usize = 16;

/// Proof that a policy allowed one operation. Only [`Engine::decide`] makes one:
///
/// ```compile_fail
/// let forged = moat_policy::Permit { route: "transfer".into(), reasons: vec![] };
/// ```
#[derive(Debug)]
pub struct Permit {
    route: String,
    reasons: Vec<String>,
    bundle: Arc<str>,
}

impl Permit {
    /// The route this permit is for; it is good for no other.
    #[must_use]
    pub fn route(&self) -> &str {
        &self.route
    }

    /// Reason ids of the rules that allowed, where the policy names them.
    #[must_use]
    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }

    /// Digest of the bundle that decided.
    #[must_use]
    pub fn bundle(&self) -> &Arc<str> {
        &self.bundle
    }
}

/// Which of the questions a package answers, as ready rule paths.
#[derive(Clone, Debug, Default)]
struct Package {
    allow: Option<String>,
    deny: Option<String>,
    challenge: Option<String>,
}

/// A compiled bundle. Belongs to one worker: decisions need `&mut self`, and nothing is shared with
/// another engine.
pub struct Engine {
    rego: regorus::Engine,
    packages: BTreeMap<String, Package>,
    bundle: Arc<Bundle>,
    digest: Arc<str>,
    /// What the rules can read of the input; nothing if that may be all of it.
    reads: Option<Reads>,
    pub(crate) memo: Memo,
}

impl Engine {
    /// Compiles a bundle.
    ///
    /// # Errors
    /// The first [`Problem`]: a module that does not parse, data that is no object or hides a rule.
    pub fn compile(bundle: &Arc<Bundle>) -> Result<Engine, Problem> {
        let mut rego = new_rego(bundle, false)?;
        let packages = packages_of(&rego)?;
        // Force the analysis of all modules now, so that a fault shows at load and not at a call.
        rego.set_input(Value::new_object());
        for package in packages.values() {
            for rule in [&package.allow, &package.deny, &package.challenge].into_iter().flatten() {
                if let Err(error) = rego.eval_rule(rule.clone())
                    && is_load_error(&error)
                {
                    return Err(problem(&codes::BAD_MODULE, rule, &error));
                }
            }
        }
        let reads = Reads::of(bundle);
        let (digest, memo) = (bundle.digest().into(), Memo::new(bundle, reads.as_ref()));
        Ok(Engine { rego, packages, bundle: Arc::clone(bundle), digest, reads, memo })
    }

    /// Digest of the bundle.
    #[must_use]
    pub fn digest(&self) -> &Arc<str> {
        &self.digest
    }

    /// Whether the bundle has the package, for example `authz` or `pay.authz`.
    #[must_use]
    pub fn has_package(&self, package: &str) -> bool {
        self.packages.contains_key(package)
    }

    /// Asks `package` about one call.
    ///
    /// # Errors
    /// A [`Refusal`] at [`Stage::Authorize`] for everything but a clear allow: an explicit deny, no
    /// rule that allows, an undefined answer, an error, a time-out, a missing package, an answer of
    /// a wrong type, a challenge.
    pub fn decide(&mut self, package: &str, question: &Question<'_>) -> Result<Permit, Refusal> {
        let reasons = match self.memo.recall(package, self.reads.as_ref(), question) {
            Some(reasons) => reasons,
            None => {
                let reasons = self.evaluate(package, question)?;
                self.memo.remember(&reasons);
                reasons
            }
        };
        Ok(Permit { route: question.route.to_owned(), reasons, bundle: Arc::clone(&self.digest) })
    }

    /// The reason ids of a clear allow.
    fn evaluate(&mut self, package: &str, question: &Question<'_>) -> Result<Vec<String>, Refusal> {
        let Some(rules) = self.packages.get(package).cloned() else {
            return Err(no(&codes::MISSING_PACKAGE).because(package));
        };
        self.rego.set_input(question.to_value(self.reads.as_ref()));
        if let Some(rule) = &rules.deny {
            let denials = reasons(self.eval(rule)?)?;
            if !denials.is_empty() {
                return Err(no(&codes::DENIED).with_reasons(denials));
            }
        }
        if let Some(rule) = &rules.challenge
            && is_asked_for(self.eval(rule)?)?
        {
            return Err(no(&codes::CHALLENGED));
        }
        let Some(rule) = &rules.allow else { return Err(no(&codes::UNDEFINED)) };
        allowing_reasons(self.eval(rule)?)
    }

    /// Evaluates one rule; an engine that panicked is thrown away and built anew, since its state
    /// can no longer be relied on.
    fn eval(&mut self, rule: &str) -> Result<Value, Refusal> {
        let rego = &mut self.rego;
        match catch_unwind(AssertUnwindSafe(|| rego.eval_rule(rule.to_owned()))) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(no(code_of(&error)).because(error)),
            Err(_panic) => {
                if let Ok(fresh) = new_rego(&self.bundle, false) {
                    self.rego = fresh;
                }
                Err(no(&codes::ERROR).because("the engine panicked"))
            }
        }
    }
}

/// A fresh engine with modules and data loaded and every limit set.
pub(crate) fn new_rego(bundle: &Bundle, with_tests: bool) -> Result<regorus::Engine, Problem> {
    let mut rego = regorus::Engine::new();
    // A failing builtin must be an error: as undefined it would make `not f(x)` true.
    rego.set_strict_builtin_errors(true);
    rego.set_execution_timer_config(ExecutionTimerConfig {
        limit: Duration::from_millis(RULE_TIME_MS_MAX),
        check_interval: TIMER_INTERVAL,
    });
    let tests = if with_tests { bundle.tests.as_slice() } else { &[] };
    for (path, text) in bundle.modules.iter().chain(tests) {
        rego.add_policy(path.clone(), text.clone())
            .map_err(|e| problem(&codes::BAD_MODULE, path, &e))?;
    }
    for (path, text) in &bundle.data {
        let value = Value::from_json_str(text).map_err(|e| problem(&codes::BAD_DATA, path, &e))?;
        lint_data::check_shadow(&rego, path, &value)?;
        rego.add_data(value).map_err(|e| problem(&codes::BAD_DATA, path, &e))?;
    }
    Ok(rego)
}

fn packages_of(rego: &regorus::Engine) -> Result<BTreeMap<String, Package>, Problem> {
    let mut packages: BTreeMap<String, Package> = BTreeMap::new();
    let named = rego
        .get_policy_package_components()
        .map_err(|e| problem(&codes::BAD_MODULE, "bundle", &e))?;
    for module in named {
        let name = module.components.join(".");
        let package = packages.entry(name.clone()).or_default();
        for (rule, slot) in [
            ("allow", &mut package.allow),
            ("deny", &mut package.deny),
            ("challenge", &mut package.challenge),
        ] {
            let declared = rego
                .has_declared_rule_rooted_at(&module.source_file, rule)
                .map_err(|e| problem(&codes::BAD_MODULE, &module.source_file, &e))?;
            if declared {
                *slot = Some(format!("data.{name}.{rule}"));
            }
        }
    }
    Ok(packages)
}

/// The reason ids of a deny rule: a set or array of text, or a plain boolean.
fn reasons(value: Value) -> Result<Vec<String>, Refusal> {
    match value {
        Value::Undefined | Value::Bool(false) => Ok(Vec::new()),
        Value::Bool(true) => Ok(vec!["denied".to_owned()]),
        Value::Set(set) => texts(set.iter()),
        Value::Array(array) => texts(array.iter()),
        _ => Err(no(&codes::BAD_ANSWER).because("deny")),
    }
}

/// The reason ids of an allow rule, or why it does not allow.
fn allowing_reasons(value: Value) -> Result<Vec<String>, Refusal> {
    match value {
        Value::Undefined => Err(no(&codes::UNDEFINED)),
        Value::Bool(true) => Ok(Vec::new()),
        Value::Bool(false) => Err(no(&codes::NOT_ALLOWED)),
        Value::Set(set) => {
            let reasons = texts(set.iter())?;
            if reasons.is_empty() { Err(no(&codes::NOT_ALLOWED)) } else { Ok(reasons) }
        }
        _ => Err(no(&codes::BAD_ANSWER).because("allow")),
    }
}

fn is_asked_for(value: Value) -> Result<bool, Refusal> {
    match value {
        Value::Undefined | Value::Bool(false) => Ok(false),
        Value::Bool(true) => Ok(true),
        Value::Set(set) => Ok(set.iter().next().is_some()),
        Value::Array(array) => Ok(array.iter().next().is_some()),
        _ => Err(no(&codes::BAD_ANSWER).because("challenge")),
    }
}

fn texts<'a>(values: impl Iterator<Item = &'a Value>) -> Result<Vec<String>, Refusal> {
    let wrong = || no(&codes::BAD_ANSWER).because("a reason is no text");
    values
        .take(REASONS_MAX)
        .map(|value| value.as_string().map(|text| text.to_string()).map_err(|_| wrong()))
        .collect()
}

fn code_of(error: &anyhow::Error) -> &'static Code {
    let timed_out = |limit: &LimitError| matches!(limit, LimitError::TimeLimitExceeded { .. });
    let is_timeout = error.chain().any(|e| e.downcast_ref::<LimitError>().is_some_and(timed_out));
    if is_timeout || error.to_string().contains("execution exceeded time limit") {
        &codes::TIMEOUT
    } else {
        &codes::ERROR
    }
}

/// Whether an error of the trial run on an empty input is one of the module itself. Errors of
/// evaluation (a missing field in arithmetic, say) are the call's business.
fn is_load_error(error: &anyhow::Error) -> bool {
    let text = error.to_string();
    ["could not find function", "unsafe variable", "recursion", "use of undefined variable"]
        .iter()
        .any(|sign| text.contains(sign))
}

pub(crate) fn problem(code: &'static Code, place: &str, error: &anyhow::Error) -> Problem {
    Problem { code, place: place.to_owned(), detail: error.to_string() }
}

fn no(code: &'static Code) -> Refusal {
    Refusal::new(Stage::Authorize, code)
}
