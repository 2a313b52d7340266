//! AuthZEN 1.0 (Authorization API 1.0, §6 and §7): access evaluations as JSON.
//!
//! A subject is a SPIFFE id, an action an HTTP method, a resource a path: what the routes decide on.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Malformed;

/// Path of one evaluation.
pub const EVALUATION: &str = "/access/v1/evaluation";
/// Path of several.
pub const EVALUATIONS: &str = "/access/v1/evaluations";
/// Most evaluations of one request.
pub const EVALUATIONS_MAX: usize = 32;
/// The one type of subjects.
pub const SUBJECT: &str = "spiffe";
/// The one type of resources.
pub const RESOURCE: &str = "route";

/// One question. No `Debug`: headers and bodies are in here.
#[derive(Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// SPIFFE id of the subject.
    pub subject: String,
    /// The subject's certificate as PEM, where it was sent.
    pub certificate: Option<String>,
    /// Method.
    pub method: String,
    /// Path, with the query if there is one.
    pub path: String,
    /// Host; empty where none was sent.
    pub host: String,
    /// Header fields.
    pub headers: BTreeMap<String, String>,
    /// Body, where it was sent.
    pub body: Option<String>,
    /// Address of the subject, where it was sent.
    pub source: Option<IpAddr>,
}

/// When several evaluations end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Semantic {
    /// After the last.
    #[default]
    ExecuteAll,
    /// After the first that is denied.
    DenyOnFirstDeny,
    /// After the first that is permitted.
    PermitOnFirstPermit,
}

/// Several questions.
pub struct Evaluations {
    /// The questions, in order: 1 to [`EVALUATIONS_MAX`].
    pub list: Vec<Evaluation>,
    /// When to end.
    pub semantic: Semantic,
    /// Whether there was no list, so that the answer is that of one evaluation (§7.1).
    pub is_one: bool,
}

#[derive(Clone, Deserialize)]
struct Entity {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    properties: Map<String, Value>,
}

#[derive(Deserialize)]
struct Raw {
    subject: Option<Entity>,
    action: Option<Entity>,
    resource: Option<Entity>,
    context: Option<Map<String, Value>>,
    evaluations: Option<Vec<Raw>>,
    options: Option<Options>,
}

#[derive(Default, Deserialize)]
struct Options {
    #[serde(default)]
    evaluations_semantic: Semantic,
}

/// Reads the body of a request for one evaluation.
///
/// # Errors
/// [`Malformed`] says what is missing or of another kind.
pub fn evaluation(bytes: &[u8]) -> Result<Evaluation, Malformed> {
    one(&raw(bytes)?, None)
}

/// Reads the body of a request for several. What one of them lacks is that of the whole (§7.1.1).
///
/// # Errors
/// As [`evaluation`], or there are too many.
pub fn evaluations(bytes: &[u8]) -> Result<Evaluations, Malformed> {
    let whole = raw(bytes)?;
    let semantic = whole.options.as_ref().map_or(Semantic::ExecuteAll, |o| o.evaluations_semantic);
    let list = whole.evaluations.as_deref().unwrap_or_default();
    if list.len() > EVALUATIONS_MAX {
        return Err(Malformed("more than 32 evaluations"));
    }
    let is_one = list.is_empty();
    let list = if is_one {
        vec![one(&whole, None)?]
    } else {
        list.iter().map(|raw| one(raw, Some(&whole))).collect::<Result<_, _>>()?
    };
    Ok(Evaluations { list, semantic, is_one })
}

fn raw(bytes: &[u8]) -> Result<Raw, Malformed> {
    serde_json::from_slice(bytes).map_err(|_| Malformed("this is no evaluation"))
}

fn one(raw: &Raw, whole: Option<&Raw>) -> Result<Evaluation, Malformed> {
    let subject = raw.subject.as_ref().or(whole.and_then(|whole| whole.subject.as_ref()));
    let action = raw.action.as_ref().or(whole.and_then(|whole| whole.action.as_ref()));
    let resource = raw.resource.as_ref().or(whole.and_then(|whole| whole.resource.as_ref()));
    let context = raw.context.as_ref().or(whole.and_then(|whole| whole.context.as_ref()));
    let subject = subject.filter(|subject| subject.kind == SUBJECT && !subject.id.is_empty());
    let subject = subject.ok_or(Malformed("`subject` must have the type `spiffe` and an id"))?;
    let action = action.filter(|action| !action.name.is_empty());
    let action = action.ok_or(Malformed("`action` must have a name: the HTTP method"))?;
    let resource = resource.filter(|resource| resource.kind == RESOURCE && !resource.id.is_empty());
    let resource = resource.ok_or(Malformed("`resource` must have the type `route` and an id"))?;
    let none = Map::new();
    let context = context.unwrap_or(&none);
    Ok(Evaluation {
        subject: subject.id.clone(),
        certificate: text(&subject.properties, "certificate")?,
        method: action.name.clone(),
        path: resource.id.clone(),
        host: text(&resource.properties, "hostname")?.unwrap_or_default(),
        headers: headers(context)?,
        body: text(context, "body")?,
        source: match text(context, "ip_address")? {
            Some(address) => {
                Some(address.parse().map_err(|_| Malformed("`ip_address` is no address"))?)
            }
            None => None,
        },
    })
}

/// A text; nothing if it is not there.
fn text(of: &Map<String, Value>, name: &str) -> Result<Option<String>, Malformed> {
    match of.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Malformed("a value that must be a text is none")),
    }
}

fn headers(context: &Map<String, Value>) -> Result<BTreeMap<String, String>, Malformed> {
    let Some(fields) = context.get("headers") else { return Ok(BTreeMap::new()) };
    let fields = fields.as_object().ok_or(Malformed("`headers` is no object"))?;
    let mut headers = BTreeMap::new();
    for (name, value) in fields {
        let value = value.as_str().ok_or(Malformed("a header's value is no text"))?;
        // Two spellings of one name could be read in two ways.
        if headers.insert(name.to_ascii_lowercase(), value.to_owned()).is_some() {
            return Err(Malformed("a header stands twice"));
        }
    }
    Ok(headers)
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Whether it is permitted.
    pub decision: bool,
    /// What else is told.
    pub context: Context,
}

/// What is told beside a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Context {
    /// Trace id.
    pub trace: String,
    /// Number of the record.
    pub record: u64,
    /// Code of a refusal.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// Reason ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Header fields that the subject must be answered with: a challenge, or when to come again.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// The answer to one evaluation, as JSON.
#[must_use]
pub fn answer(answer: &Answer) -> Vec<u8> {
    serde_json::to_vec(answer).unwrap_or_default()
}

/// The answer to several, as JSON.
#[must_use]
pub fn answers(answers: &[Answer]) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({ "evaluations": answers })).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: &str = r#"{"subject":{"type":"spiffe","id":"spiffe://bank.test/teller"},
        "action":{"name":"POST"},
        "resource":{"type":"route","id":"/pay/1?x=2","properties":{"hostname":"pay.test"}},
        "context":{"headers":{"X-A":"1"},"body":"{}","ip_address":"10.1.2.3","time":5}}"#;

    #[test]
    fn an_evaluation_names_subject_action_and_resource() {
        let read = evaluation(ONE.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            (read.subject.as_str(), read.method.as_str()),
            ("spiffe://bank.test/teller", "POST")
        );
        assert_eq!((read.path.as_str(), read.host.as_str()), ("/pay/1?x=2", "pay.test"));
        assert_eq!(read.headers["x-a"], "1");
        assert_eq!((read.body.as_deref(), read.source), (Some("{}"), Some([10, 1, 2, 3].into())));
    }

    #[test]
    fn what_is_missing_or_of_another_kind_is_refused() {
        for (from, to) in [
            ("\"spiffe\"", "\"user\""),
            ("\"route\"", "\"account\""),
            ("\"name\":\"POST\"", "\"name\":\"\""),
            ("\"body\":\"{}\"", "\"body\":{}"),
            ("\"X-A\":\"1\"", "\"X-A\":1"),
            ("\"X-A\":\"1\"", "\"X-A\":\"1\",\"x-a\":\"2\""),
            ("10.1.2.3", "ten"),
            ("\"subject\"", "\"object\""),
            ("\"action\":", "\"action\":{\"name\":\"GET\"},\"action\":"),
        ] {
            let text = ONE.replacen(from, to, 1);
            assert_ne!(text, ONE);
            assert!(evaluation(text.as_bytes()).is_err(), "{to}");
        }
    }

    #[test]
    fn what_one_of_several_lacks_is_that_of_the_whole() {
        let text = ONE.trim_end_matches('}').to_owned()
            + r#"},"evaluations":[{"action":{"name":"GET"}},{"resource":{"type":"route","id":"/b"}}],
                "options":{"evaluations_semantic":"deny_on_first_deny"}}"#;
        let read = evaluations(text.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((read.list.len(), read.semantic), (2, Semantic::DenyOnFirstDeny));
        assert_eq!((read.list[0].method.as_str(), read.list[1].method.as_str()), ("GET", "POST"));
        assert_eq!((read.list[0].path.as_str(), read.list[1].path.as_str()), ("/pay/1?x=2", "/b"));
        let read = evaluations(ONE.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
        assert!(read.is_one && read.list.len() == 1);
        let many = vec!["{}"; EVALUATIONS_MAX + 1].join(",");
        let text = ONE.trim_end_matches('}').to_owned() + "},\"evaluations\":[" + &many + "]}";
        assert!(evaluations(text.as_bytes()).is_err());
    }

    #[test]
    fn no_truncation_is_an_evaluation() {
        assert!((0..ONE.len()).all(|cut| evaluation(&ONE.as_bytes()[..cut]).is_err()));
    }

    #[test]
    fn an_answer_leaves_out_what_there_is_not() {
        let context = Context { trace: "ab".to_owned(), record: 7, ..Context::default() };
        let permitted = Answer { decision: true, context };
        let text = String::from_utf8(answer(&permitted)).unwrap_or_default();
        assert_eq!(text, r#"{"decision":true,"context":{"trace":"ab","record":7}}"#);
        let text = String::from_utf8(answers(&[permitted])).unwrap_or_default();
        assert!(text.starts_with(r#"{"evaluations":[{"decision":true"#));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _ = evaluation(text.as_bytes());
            let _ = evaluations(text.as_bytes());
        }
    }
}
