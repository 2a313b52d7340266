//! What a configuration says, key by key, so that two of them can be compared: `moat diff`.
//!
//! Of secrets it holds a digest, and it is never shown whole.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::kept::Kept;
use crate::sources::Sources;

/// Most levels of the document that are told apart.
const LEVELS_MAX: usize = 32;
/// Most characters of a value that a change shows.
const SHOWN_CHARS_MAX: usize = 80;

/// A SHA-256 digest.
type Digest = [u8; 32];

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// Each value by its path, such as `routes[pay].deadline_ms`; lists of named things by name.
    values: BTreeMap<String, String>,
    /// What each reference led to.
    fetched: BTreeMap<String, Digest>,
    /// The files of the policy bundle.
    policy: BTreeMap<String, Digest>,
    /// The configuration itself, without secrets.
    kept: Kept,
}

/// What a change would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// New calls follow it; what is open stays open.
    Calls,
    /// As [`Effect::Calls`], and a connection whose caller would not be let in any more is cut.
    Cuts,
    /// A reload with it is refused.
    Restart,
}

impl Effect {
    /// `calls`, `cuts` or `restart`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Effect::Calls => "calls",
            Effect::Cuts => "cuts",
            Effect::Restart => "restart",
        }
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Path of the key.
    pub key: String,
    /// What stood there; nothing if the key is new.
    pub from: Option<String>,
    /// What stands there; nothing if the key is gone.
    pub to: Option<String>,
    /// What it would do.
    pub effect: Effect,
}

impl Outline {
    pub(crate) fn of(sources: &Sources) -> Outline {
        let mut outline = Outline::default();
        outline.kept.is_folder = sources.is_folder;
        for source in &sources.list {
            let name = source.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            outline.kept.texts.push((name, source.text.clone()));
            // It was parsed before: what cannot be read again has no keys to compare.
            if let Ok(value) = serde_saphyr::from_str::<Value>(&source.text) {
                flatten(&mut outline.values, String::new(), &value, 0);
            }
        }
        outline
    }

    pub(crate) fn fetched(&mut self, reference: &str, bytes: &[u8], is_secret: bool) {
        if !is_secret {
            self.kept.fetched.insert(reference.to_owned(), bytes.to_vec());
        }
        self.fetched.insert(reference.to_owned(), digest(bytes));
    }

    pub(crate) fn policy(&mut self, name: &str, bytes: &[u8]) {
        self.kept.policy.push((name.to_owned(), bytes.to_vec()));
        self.policy.insert(name.to_owned(), digest(bytes));
    }

    /// What is to be kept of it.
    #[must_use]
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// What changes from this one to `next`, by key.
    #[must_use]
    pub fn changes_to(&self, next: &Outline) -> Vec<Change> {
        let mut changes = Vec::new();
        for key in keys(&self.values, &next.values) {
            let (from, to) = (self.values.get(key), next.values.get(key));
            if from != to {
                let (from, to) = (from.map(|text| shown(text)), to.map(|text| shown(text)));
                changes.push(Change { key: key.clone(), from, to, effect: effect_of(key) });
            }
        }
        for (key, reference) in &next.values {
            let (before, after) = (self.fetched.get(reference), next.fetched.get(reference));
            // A reference that is new shows as a changed value.
            if self.values.get(key) == Some(reference) && before != after {
                changes.push(content(key.clone(), effect_of(key)));
            }
        }
        for name in keys(&self.policy, &next.policy) {
            if self.policy.get(name) != next.policy.get(name) {
                changes.push(content(format!("policy/{name}"), Effect::Calls));
            }
        }
        changes
    }
}

fn content(key: String, effect: Effect) -> Change {
    let text = |text: &str| Some(text.to_owned());
    Change { key, from: text("content"), to: text("changed content"), effect }
}

fn keys<'a, T>(one: &'a BTreeMap<String, T>, two: &'a BTreeMap<String, T>) -> BTreeSet<&'a String> {
    one.keys().chain(two.keys()).collect()
}

fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

fn digest(bytes: &[u8]) -> Digest {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().try_into().unwrap_or_default()
}

fn flatten(into: &mut BTreeMap<String, String>, path: String, value: &Value, level: usize) {
    let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(fields) if level < LEVELS_MAX && !fields.is_empty() => {
            for (key, value) in fields {
                flatten(into, join(key), value, level + 1);
            }
        }
        Value::Array(list) if level < LEVELS_MAX && !list.is_empty() => {
            for (at, value) in list.iter().enumerate() {
                let name = value.get("name").and_then(Value::as_str);
                let at = name.map_or_else(|| at.to_string(), str::to_owned);
                flatten(into, format!("{path}[{at}]"), value, level + 1);
            }
        }
        Value::String(text) => drop(into.insert(path, text.clone())),
        other => drop(into.insert(path, other.to_string())),
    }
}

/// What a change of the key does. `Restart` here must be what [`crate::Restart`] holds.
fn effect_of(key: &str) -> Effect {
    let (top, rest) = key.split_once(['.', '[']).unwrap_or((key, ""));
    let field = rest.split_once("].").map_or("", |(_, field)| field);
    match top {
        "profile" | "workers" | "admin" | "users" | "sandbox" | "kernel" => Effect::Restart,
        "audit" if rest != "deadline_ms" => Effect::Restart,
        "listeners" if field == "bind" || field == "name" => Effect::Restart,
        "listeners" if field.starts_with("tls.clients") || field.starts_with("tls.national") => {
            Effect::Cuts
        }
        // Where `audit.origin` is not given it needs a restart too, which `moat diff` says besides.
        "trust_domain" => Effect::Cuts,
        _ => Effect::Calls,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline(text: &str) -> Outline {
        let mut outline = Outline::default();
        flatten(&mut outline.values, String::new(), &serde_saphyr::from_str(text).unwrap(), 0);
        outline
    }

    #[test]
    fn named_things_are_compared_by_name_whatever_their_order() {
        let one = outline("routes: [{name: a, deadline_ms: 1}, {name: b, deadline_ms: 2}]");
        let two = outline("routes: [{name: b, deadline_ms: 3}, {name: a, deadline_ms: 1}]");
        let changes = one.changes_to(&two);
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!(changes[0].key, "routes[b].deadline_ms");
        assert_eq!((changes[0].from.as_deref(), changes[0].to.as_deref()), (Some("2"), Some("3")));
        assert_eq!(changes[0].effect, Effect::Calls);
        assert!(one.changes_to(&one).is_empty());
    }

    #[test]
    fn what_a_reference_leads_to_is_said_to_have_changed_and_nothing_more() {
        let text = "listeners: [{name: l, tls: {clients: [{role: r, trust: 'file:root.pem'}]}}]";
        let (mut one, mut two) = (outline(text), outline(text));
        one.fetched("file:root.pem", b"before", false);
        two.fetched("file:root.pem", b"after", false);
        let changes = one.changes_to(&two);
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!(changes[0].key, "listeners[l].tls.clients[0].trust");
        assert_eq!(changes[0].effect, Effect::Cuts);
        assert!(!format!("{changes:?}").contains("after"));
        one.fetched("file:key.pem", b"secret", true);
        assert!(!format!("{:?}", one.kept()).contains("key.pem"), "a secret is not kept");
    }

    #[test]
    fn keys_that_only_a_restart_changes_say_so() {
        let cases = [
            ("workers", Effect::Restart),
            ("listeners[l].bind", Effect::Restart),
            ("listeners[l].connections_max", Effect::Calls),
            ("audit.dir", Effect::Restart),
            ("audit.deadline_ms", Effect::Calls),
            ("upstreams[u].endpoints[0]", Effect::Calls),
        ];
        for (key, effect) in cases {
            assert_eq!(effect_of(key), effect, "{key}");
        }
    }

    #[test]
    fn a_key_that_comes_and_one_that_goes_are_told() {
        let changes = outline("a: 1").changes_to(&outline("b: x"));
        assert_eq!((changes[0].from.as_deref(), changes[0].to.as_deref()), (Some("1"), None));
        assert_eq!((changes[1].from.as_deref(), changes[1].to.as_deref()), (None, Some("x")));
    }
}
