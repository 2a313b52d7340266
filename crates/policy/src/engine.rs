//! One compiled bundle for one worker, and the decision.

use core::num::NonZeroU32;
use core::time::Duration;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use moat_model::code::policy as codes;
use moat_model::{Code, Refusal};
use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{LimitError, Value};

use crate::answer::{self, Whole, no};
use crate::decision::{Challenge, Decision, Grant, Permit};
use crate::memo::Memo;
use crate::reads::Reads;
use crate::{Bundle, Problem, Question, lint_data};

/// Longest time one rule may take, in milliseconds.
pub const RULE_TIME_MS_MAX: u64 = 5;
/// Longest time one `test_` rule may take, in milliseconds: it asks several times.
const TEST_TIME_MS_MAX: u64 = 1_000;
/// Units of work between two looks at the clock.
const TIMER_INTERVAL: NonZeroU32 = NonZeroU32::new(64).unwrap();

/// Which of the questions a package answers, as ready rule paths.
#[derive(Clone, Debug, Default)]
struct Package {
    allow: Option<String>,
    deny: Option<String>,
    challenge: Option<String>,
    obligations: Option<String>,
    /// All of it in one object, in place of the four.
    decision: Option<String>,
}

impl Package {
    fn rules(&self) -> impl Iterator<Item = &String> {
        let rules = [&self.allow, &self.deny, &self.challenge, &self.obligations, &self.decision];
        rules.into_iter().flatten()
    }
}

/// What an evaluation came to, refusals apart.
enum Verdict {
    Allow(Grant),
    Challenge(Challenge),
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
            for rule in package.rules() {
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

    /// The bundle that it was made of.
    #[must_use]
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Whether rules may read a part of the input, by its name at the top.
    #[must_use]
    pub fn reads(&self, top: &str) -> bool {
        self.reads.as_ref().is_none_or(|reads| reads.top(top))
    }

    /// Asks `package` about one call. An allowed call has a [`Permit`]; everything but a clear allow
    /// and a clear challenge is denied: an explicit deny, no rule that allows, an undefined answer,
    /// an error, a time-out, a missing package, an answer of a wrong type.
    pub fn decide(&mut self, package: &str, question: &Question<'_>) -> Decision {
        let grant = match self.memo.recall(package, self.reads.as_ref(), question) {
            Some(grant) => grant,
            None => match self.evaluate(package, question) {
                Ok(Verdict::Allow(grant)) => self.memo.remember(grant),
                Ok(Verdict::Challenge(challenge)) => return Decision::Challenge(challenge),
                Err(refusal) => return Decision::Deny(refusal),
            },
        };
        let bundle = Arc::clone(&self.digest);
        Decision::Allow(Permit { route: question.route.to_owned(), grant, bundle })
    }

    /// Decides about an input document that was written down. Nothing is recalled or remembered.
    pub(crate) fn decide_input(&mut self, package: &str, input: Value) -> Decision {
        match self.evaluate_input(package, input) {
            Ok(Verdict::Allow(grant)) => {
                let (grant, bundle) = (Arc::new(grant), Arc::clone(&self.digest));
                // For no route: good for nothing but looking at it.
                Decision::Allow(Permit { route: String::new(), grant, bundle })
            }
            Ok(Verdict::Challenge(challenge)) => Decision::Challenge(challenge),
            Err(refusal) => Decision::Deny(refusal),
        }
    }

    fn evaluate(&mut self, package: &str, question: &Question<'_>) -> Result<Verdict, Refusal> {
        let input = question.to_value(self.reads.as_ref());
        self.evaluate_input(package, input)
    }

    /// Precedence: error, deny, challenge, allow. The order of rules and files never matters.
    fn evaluate_input(&mut self, package: &str, input: Value) -> Result<Verdict, Refusal> {
        let Some(rules) = self.packages.get(package).cloned() else {
            return Err(no(&codes::MISSING_PACKAGE).because(package));
        };
        self.rego.set_input(input);
        if let Some(rule) = &rules.decision {
            return match answer::whole(&self.eval(rule)?)? {
                Whole::Allow(reasons, obligations) => {
                    Ok(Verdict::Allow(Grant { reasons, obligations }))
                }
                Whole::Deny(reasons) => Err(no(&codes::DENIED).with_reasons(reasons)),
                Whole::Challenge(challenge) => Ok(Verdict::Challenge(challenge)),
            };
        }
        if let Some(rule) = &rules.deny {
            let denials = answer::denials(&self.eval(rule)?)?;
            if !denials.is_empty() {
                return Err(no(&codes::DENIED).with_reasons(denials));
            }
        }
        if let Some(rule) = &rules.challenge
            && let Some(challenge) = answer::challenge(&self.eval(rule)?)?
        {
            return Ok(Verdict::Challenge(challenge));
        }
        let Some(rule) = &rules.allow else { return Err(no(&codes::UNDEFINED)) };
        let reasons = answer::allowance(&self.eval(rule)?)?;
        let obligations = match &rules.obligations {
            Some(rule) => answer::obligations(&self.eval(rule)?)?,
            None => Default::default(),
        };
        Ok(Verdict::Allow(Grant { reasons, obligations }))
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
        limit: Duration::from_millis(if with_tests { TEST_TIME_MS_MAX } else { RULE_TIME_MS_MAX }),
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
            ("obligations", &mut package.obligations),
            ("decision", &mut package.decision),
        ] {
            let declared = rego
                .has_declared_rule_rooted_at(&module.source_file, rule)
                .map_err(|e| problem(&codes::BAD_MODULE, &module.source_file, &e))?;
            if declared {
                *slot = Some(format!("data.{name}.{rule}"));
            }
        }
        if package.decision.is_some() && package.rules().count() > 1 {
            let detail = "`decision` stands beside `allow`, `deny`, `challenge` or `obligations`; \
                          a package gives one or the others";
            let place = module.source_file;
            return Err(Problem { code: &codes::BAD_MODULE, place, detail: detail.to_owned() });
        }
    }
    Ok(packages)
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
