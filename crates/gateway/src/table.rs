//! The route table: from host, method and path to a route and its parameters.

use std::sync::Arc;

use moat_model::code::http::{METHOD, NO_ROUTE, PATH};
use moat_model::{Refusal, Stage};

/// One segment of a path template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Param(Arc<str>),
    Rest(Arc<str>),
}

/// A compiled path template such as `/v1/accounts/{id}`.
#[derive(Clone, Debug)]
pub(crate) struct Template(Vec<Segment>);

/// Named parts of a path, percent-decoded.
pub(crate) type Params = Vec<(Arc<str>, String)>;

impl Template {
    pub(crate) fn new(path: &str) -> Template {
        Template(path.split('/').skip(1).map(segment).collect())
    }

    /// The parameters if the path fits.
    fn fit(&self, path: &str) -> Option<Params> {
        let mut params = Params::new();
        let mut rest = path.strip_prefix('/')?;
        let mut ended = false;
        for segment in &self.0 {
            if ended {
                return None;
            }
            if let Segment::Rest(name) = segment {
                params.push((Arc::clone(name), percent_decode(rest)?));
                return Some(params);
            }
            let (head, tail) = match rest.split_once('/') {
                Some((head, tail)) => (head, Some(tail)),
                None => (rest, None),
            };
            match segment {
                Segment::Literal(literal) if literal == head => {}
                Segment::Param(name) if !head.is_empty() => {
                    params.push((Arc::clone(name), percent_decode(head)?));
                }
                _ => return None,
            }
            ended = tail.is_none();
            rest = tail.unwrap_or("");
        }
        ended.then_some(params)
    }
}

fn segment(text: &str) -> Segment {
    match text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
        Some(name) => match name.strip_suffix("...") {
            Some(name) => Segment::Rest(name.into()),
            None => Segment::Param(name.into()),
        },
        None => Segment::Literal(text.to_owned()),
    }
}

/// Fills the parameters into a template text such as `account/{id}`.
///
/// One pass: a value that looks like a parameter stays as it is.
pub(crate) fn fill(template: &str, params: &Params) -> String {
    let mut text = String::with_capacity(template.len() + 16);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let Some((name, tail)) = after.split_once('}') else { break };
        let name = name.trim_end_matches("...");
        match params.iter().find(|(known, _)| &**known == name) {
            Some((_, value)) => text.push_str(value),
            None => text.push_str(name),
        }
        rest = tail;
    }
    text.push_str(rest);
    text
}

/// Fills the parameters into a path, percent-encoding each value as one segment.
pub(crate) fn fill_path(template: &str, params: &Params) -> String {
    let encoded: Params =
        params.iter().map(|(name, value)| (Arc::clone(name), percent_encode(value))).collect();
    fill(template, &encoded)
}

fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Decodes `%XX`; refuses what does not decode to UTF-8 text without control characters.
fn percent_decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok().filter(|text| !text.chars().any(char::is_control))
}

/// Refuses a path that a service might read differently than this table does: dot segments, empty
/// segments, backslashes, and percent-encodings of what need not or must not be encoded (slash,
/// backslash, dot, NUL, letters and digits).
pub(crate) fn check_path(path: &str) -> Result<(), Refusal> {
    let refuse = |why| Err(Refusal::new(Stage::Decode, &PATH).because(why));
    let Some(rest) = path.strip_prefix('/') else {
        return refuse("it is not absolute");
    };
    let last = rest.split('/').count();
    for (at, segment) in rest.split('/').enumerate() {
        if segment == "." || segment == ".." {
            return refuse("a dot segment");
        }
        if segment.is_empty() && at + 1 != last {
            return refuse("an empty segment");
        }
    }
    if path.contains('\\') {
        return refuse("a backslash");
    }
    for (at, _) in path.match_indices('%') {
        let byte = path.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            None => return refuse("a malformed percent-encoding"),
            Some(b) if b.is_ascii_alphanumeric() || b.is_ascii_control() => {
                return refuse("a needless percent-encoding");
            }
            Some(b'/' | b'\\' | b'.' | b'-' | b'_' | b'~' | b'%') => {
                return refuse("an ambiguous percent-encoding");
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// One entry of the table.
pub(crate) struct Entry {
    pub(crate) host: Option<String>,
    pub(crate) methods: Vec<http::Method>,
    pub(crate) template: Template,
}

/// The first entry that takes the call, with its parameters.
///
/// # Errors
/// `NO_ROUTE`, or `METHOD` if only the method does not fit.
pub(crate) fn find(
    entries: &[Entry],
    host: &str,
    method: &http::Method,
    path: &str,
) -> Result<(usize, Params), Refusal> {
    let mut code = &NO_ROUTE;
    for (at, entry) in entries.iter().enumerate() {
        if entry.host.as_deref().is_some_and(|wanted| !wanted.eq_ignore_ascii_case(host)) {
            continue;
        }
        let Some(params) = entry.template.fit(path) else { continue };
        if entry.methods.contains(method) {
            return Ok((at, params));
        }
        code = &METHOD;
    }
    Err(Refusal::new(Stage::Decode, code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(template: &str, path: &str) -> Option<Vec<String>> {
        let fitted = Template::new(template).fit(path)?;
        Some(fitted.into_iter().map(|(_, value)| value).collect())
    }

    #[test]
    fn templates_take_whole_segments() {
        assert_eq!(params("/a/{id}", "/a/1"), Some(vec!["1".to_owned()]));
        assert_eq!(params("/a/{id}/t", "/a/1/t"), Some(vec!["1".to_owned()]));
        assert_eq!(params("/a/{id}", "/a/%E6%8A%A4"), Some(vec!["护".to_owned()]));
        assert_eq!(params("/f/{p...}", "/f/x/y"), Some(vec!["x/y".to_owned()]));
        assert_eq!(params("/", "/"), Some(vec![]));
        for (template, path) in [
            ("/a/{id}", "/a"),
            ("/a/{id}", "/a/"),
            ("/a/{id}", "/a/1/"),
            ("/a/{id}", "/a/1/t"),
            ("/a", "/b"),
            ("/a", "/a/"),
            ("/a/{id}", "/a/%FF"),
            ("/a/{id}", "/a/%0A"),
            ("/a/b", "/a"),
        ] {
            assert_eq!(params(template, path), None, "{template} {path}");
        }
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        for good in ["/", "/a", "/a/", "/a/b.c", "/a%20b", "/%E6%8A%A4", "/a..b", "/..."] {
            assert!(check_path(good).is_ok(), "{good}");
        }
        for bad in [
            "", "a", "//", "/a//b", "/./a", "/a/..", "/..", "/a\\b", "/a%2Fb", "/a%2fb", "/%2e",
            "/%5c", "/%61", "/%00", "/%", "/%4", "/%zz", "/%25", "/%+1",
        ] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_go_into_paths_as_one_segment() {
        let params = vec![("id".into(), "a b护".to_owned())];
        assert_eq!(fill_path("/v1/{id}", &params), "/v1/a%20b%E6%8A%A4");
        assert_eq!(fill("account/{id}", &params), "account/a b护");
        let params = vec![("a".into(), "{b}".to_owned()), ("b".into(), "2".to_owned())];
        assert_eq!(fill("{a}/x/{b}", &params), "{b}/x/2");
    }
}
