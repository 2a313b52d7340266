//! Why a decision came out as it did, and the bundle's own tests. Not on the request path.

use moat_model::code::policy::{BAD_MODULE, ERROR};
use regorus::Value;

use crate::engine::{new_rego, problem};
use crate::{Bundle, Problem};

/// One line of a module and whether evaluation reached and satisfied it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Module.
    pub file: String,
    /// Line number from 1.
    pub line: usize,
    /// Its text, trimmed.
    pub text: String,
    /// Whether it was evaluated.
    pub reached: bool,
}

/// What `moat policy why` shows.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Each rule of the package that decides, with its value as JSON or `undefined`.
    pub answers: Vec<(String, String)>,
    /// The lines of the package's modules that hold conditions.
    pub lines: Vec<Line>,
}

/// One `test_` rule and its result.
#[derive(Clone, Debug)]
pub struct TestResult {
    /// Full rule path.
    pub name: String,
    /// Whether it was true.
    pub passed: bool,
    /// The error or value where it was not.
    pub detail: String,
}

/// Evaluates one rule, given as `package.rule`, against an input document in JSON.
///
/// # Errors
/// The [`Problem`] of bundle, input or evaluation.
pub fn eval(bundle: &Bundle, rule: &str, input_json: &str) -> Result<String, Problem> {
    let mut rego = new_rego(bundle, false)?;
    set_input(&mut rego, input_json)?;
    let path = format!("data.{}", rule.trim_start_matches("data."));
    let value = rego.eval_rule(path.clone()).map_err(|e| problem(&ERROR, &path, &e))?;
    render(&value)
}

/// Decides once more with line coverage on.
///
/// # Errors
/// The [`Problem`] of bundle or input. An error of evaluation is part of the explanation.
pub fn explain(bundle: &Bundle, package: &str, input_json: &str) -> Result<Explanation, Problem> {
    let mut rego = new_rego(bundle, false)?;
    rego.set_enable_coverage(true);
    set_input(&mut rego, input_json)?;
    let mut answers = Vec::new();
    for rule in ["decision", "deny", "challenge", "allow", "obligations"] {
        let path = format!("data.{package}.{rule}");
        match rego.eval_rule(path) {
            Ok(value) => answers.push((rule.to_owned(), render(&value)?)),
            Err(error) if error.to_string().contains("not a valid rule path") => {}
            Err(error) => answers.push((rule.to_owned(), format!("error: {error}"))),
        }
    }
    let report = rego.get_coverage_report().map_err(|e| problem(&BAD_MODULE, "coverage", &e))?;
    let mut lines = Vec::new();
    for file in report.files {
        for (at, text) in file.code.lines().enumerate() {
            let number = u32::try_from(at + 1).unwrap_or(u32::MAX);
            let reached = file.covered.contains(&number);
            if reached || file.not_covered.contains(&number) {
                lines.push(Line {
                    file: file.path.clone(),
                    line: at + 1,
                    text: text.trim().to_owned(),
                    reached,
                });
            }
        }
    }
    Ok(Explanation { answers, lines })
}

/// Runs every rule whose name begins with `test_`, in modules and in `*_test.rego` files.
///
/// # Errors
/// The [`Problem`] of a bundle that does not load.
pub fn run_tests(bundle: &Bundle) -> Result<Vec<TestResult>, Problem> {
    let mut rego = new_rego(bundle, true)?;
    let packages =
        rego.get_policy_package_components().map_err(|e| problem(&BAD_MODULE, "bundle", &e))?;
    let mut results = Vec::new();
    for (path, text) in bundle.modules.iter().chain(&bundle.tests) {
        let Some(package) = packages.iter().find(|p| p.source_file == *path) else { continue };
        for name in test_names(text) {
            let rule = format!("data.{}.{name}", package.components.join("."));
            rego.set_input(Value::new_object());
            let (passed, detail) = match rego.eval_rule(rule.clone()) {
                Ok(Value::Bool(true)) => (true, String::new()),
                Ok(value) => (false, render(&value)?),
                Err(error) => (false, error.to_string()),
            };
            results.push(TestResult { name: rule, passed, detail });
        }
    }
    Ok(results)
}

/// Names of rules that begin with `test_` at the start of a line.
fn test_names(text: &str) -> Vec<&str> {
    let name = |line: &'_ str| -> usize {
        line.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(line.len())
    };
    let mut names: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("test_"))
        .filter_map(|line| line.get(..name(line)))
        .collect();
    names.dedup();
    names
}

fn set_input(rego: &mut regorus::Engine, input_json: &str) -> Result<(), Problem> {
    let input = Value::from_json_str(input_json).map_err(|e| problem(&ERROR, "input", &e))?;
    rego.set_input(input);
    Ok(())
}

fn render(value: &Value) -> Result<String, Problem> {
    match value {
        Value::Undefined => Ok("undefined".to_owned()),
        value => value.to_json_str().map_err(|e| problem(&ERROR, "answer", &e)),
    }
}
