//! Reading the file and making sense of what the YAML parser says about it.

use std::path::{Path, PathBuf};

use moat_model::Code;
use moat_model::code::config as codes;
use serde::de::DeserializeOwned;
use serde_saphyr::Error as Yaml;

use crate::problem::nearest;
use crate::raw::Raw;
use crate::sources::Sources;
use crate::{Config, Outline, Problem, Problems, fragment, resolve};

/// A configuration and every file that it refers to, which a reload watches.
pub struct Loaded {
    /// The resolved configuration.
    pub config: Config,
    /// The file itself, or the folder and its files; and every file and folder behind a reference.
    pub watched: Vec<PathBuf>,
    /// What `profile: prod` would refuse.
    pub warnings: Vec<Problem>,
    /// What it says, key by key.
    pub outline: Outline,
}

/// Reads, resolves and checks the configuration in `path`: a file, or a folder whose `*.yaml` are
/// fragments of one document.
///
/// # Errors
/// All [`Problems`] that were found, each with its place.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let sources = Sources::read(path)?;
    let raw = match sources.list.as_slice() {
        [one] if !sources.is_folder => {
            parse_as(&sources, &one.text).map_err(|problem| vec![*problem])
        }
        _ => fragment::join(&sources),
    };
    match raw.and_then(|raw| resolve::resolve(&raw, &sources, None)) {
        Ok(loaded) => Ok(loaded),
        Err(list) => Err(sources.problems(list)),
    }
}

/// Parses the raw form of one file. `file` is its name in messages.
///
/// # Errors
/// The first problem of syntax, key or type.
pub fn parse(file: &str, text: &str) -> Result<Raw, Box<Problem>> {
    serde_saphyr::from_str::<Raw>(text).map_err(|error| {
        let problem = explain(text, &error);
        Box::new(Problem { file: file.to_owned(), ..problem })
    })
}

/// Parses one of several files, with its places in the file it is.
pub(crate) fn parse_as<T: DeserializeOwned>(
    sources: &Sources,
    text: &str,
) -> Result<T, Box<Problem>> {
    serde_saphyr::from_str(text).map_err(|error| {
        let problem = explain(text, &error);
        let (file, line) = sources.locate(problem.line);
        Box::new(Problem { file: file.to_owned(), line, ..problem })
    })
}

/// A message of the YAML parser as one of ours; which file it is in must still be said.
fn explain(text: &str, error: &Yaml) -> Problem {
    let error = error.without_snippet();
    let place = error.location().map_or((0, 0), |l| (as_usize(l.line()), as_usize(l.column())));
    let (code, message, fix): (&'static Code, String, String) = match error {
        Yaml::SerdeUnknownField { field, expected, .. } => {
            let fix = match nearest(field, expected.iter().copied()) {
                Some(near) => format!("write `{near}`"),
                None => format!("remove it; the keys here are {}", expected.join(", ")),
            };
            (&codes::UNKNOWN_KEY, format!("there is no key `{field}`"), fix)
        }
        Yaml::SerdeUnknownVariant { variant, expected, .. } => {
            let fix = format!("write one of {}", expected.join(", "));
            (&codes::WRONG_TYPE, format!("`{variant}` is not possible here"), fix)
        }
        Yaml::SerdeMissingField { field, .. } => (
            &codes::MISSING_KEY,
            format!("the key `{field}` is missing"),
            format!("add `{field}:`"),
        ),
        Yaml::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("?");
            (&codes::DUPLICATE_KEY, format!("the key `{key}` stands twice"), String::new())
        }
        Yaml::SerdeInvalidType { unexpected, expected, .. }
        | Yaml::SerdeInvalidValue { unexpected, expected, .. } => {
            (&codes::WRONG_TYPE, format!("found {unexpected}, expected {expected}"), String::new())
        }
        Yaml::InvalidScalar { ty, .. } => {
            (&codes::WRONG_TYPE, format!("this is no {ty}"), String::new())
        }
        other => (&codes::SYNTAX, first_line(&other.to_string()), String::new()),
    };
    let place = if place.0 > text.lines().count() { (text.lines().count(), 1) } else { place };
    problem("", code, place, message, fix)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or("").to_owned()
}

pub(crate) fn as_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(0)
}

pub(crate) fn problem(
    file: &str,
    code: &'static Code,
    (line, column): (usize, usize),
    message: String,
    fix: String,
) -> Problem {
    Problem { code, file: file.to_owned(), line, column, message, fix }
}
