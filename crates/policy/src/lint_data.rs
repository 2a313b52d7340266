//! Data that would hide a rule.

use moat_model::code::policy::{BAD_DATA, BAD_MODULE, SHADOWED_RULE};
use regorus::{Engine, Value};

use crate::Problem;
use crate::engine::problem;

/// Refuses data at a path where a module has a rule: in the engine the data would silently replace
/// the rule, an `allow` included.
pub(crate) fn check_shadow(rego: &Engine, path: &str, data: &Value) -> Result<(), Problem> {
    if !matches!(data, Value::Object(_)) {
        let detail = "the document is not an object".to_owned();
        return Err(Problem { code: &BAD_DATA, place: path.to_owned(), detail });
    }
    let packages =
        rego.get_policy_package_components().map_err(|e| problem(&BAD_MODULE, "bundle", &e))?;
    for module in packages {
        let mut place = Some(data);
        for step in &module.components {
            place = match place {
                Some(Value::Object(object)) => object.get(&Value::String(step.as_str().into())),
                Some(_) => return Err(shadowed(path, &module.components.join("."))),
                None => None,
            };
        }
        let Some(place) = place else { continue };
        let Value::Object(object) = place else {
            return Err(shadowed(path, &module.components.join(".")));
        };
        for key in object.keys() {
            let Ok(name) = key.as_string() else { continue };
            let hides = rego
                .has_declared_rule_rooted_at(&module.source_file, name)
                .map_err(|e| problem(&BAD_MODULE, &module.source_file, &e))?;
            if hides {
                return Err(shadowed(path, &format!("{}.{name}", module.components.join("."))));
            }
        }
    }
    Ok(())
}

fn shadowed(path: &str, rule: &str) -> Problem {
    let detail = format!("it would replace the rule data.{rule}");
    Problem { code: &SHADOWED_RULE, place: path.to_owned(), detail }
}
