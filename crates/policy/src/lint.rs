//! What a policy may not do, found before it is compiled.
//!
//! The engine notices an unknown or absent function only when evaluation reaches the line, and
//! some constructs fail open in it. They are refused here, by a scan over the module's tokens.

use std::collections::BTreeMap;

use moat_model::code::policy::{BAD_MODULE, FORBIDDEN_BUILTIN};

use crate::Problem;

/// Calls that would make a decision depend on something besides its input, or that the engine
/// cannot carry out safely.
const FORBIDDEN: [(&str, &str); 9] = [
    ("http.send", "a decision must not reach the network"),
    ("net.lookup_ip_addr", "a decision must not reach the network"),
    ("rand.intn", "a decision must be repeatable"),
    ("time.now_ns", "take input.now_ms instead"),
    ("uuid.rfc4122", "a decision must be repeatable"),
    ("opa.runtime", "a decision must not read its surroundings"),
    ("print", "a decision has no output but its answer"),
    ("trace", "a decision has no output but its answer"),
    ("strings.count", "the engine fails on an empty needle"),
];
/// Longest line the engine takes, in characters.
const LINE_CHARS_MAX: usize = 1024;

/// A word (a dotted name) or a single other character, with its line number from 1.
#[derive(Debug, PartialEq)]
enum Token<'a> {
    Word(&'a str, usize),
    Mark(char),
}

/// Refuses a module that calls a forbidden function, spells a function's name with brackets (the
/// engine takes `time["now_ns"]()` for the call that it is), uses `walk` with one argument (the engine
/// silently yields nothing for it), or has a line longer than the engine reads.
pub(crate) fn check_calls(path: &str, text: &str) -> Result<(), Problem> {
    let problem = |code, line: usize, detail: String| {
        Err(Problem { code, place: format!("{path}:{line}"), detail })
    };
    for (at, line) in text.lines().enumerate() {
        if line.chars().count() > LINE_CHARS_MAX {
            return problem(&BAD_MODULE, at + 1, format!("over {LINE_CHARS_MAX} characters"));
        }
    }
    let tokens = tokens(text);
    let mut line = 1;
    for (at, token) in tokens.iter().enumerate() {
        if *token == Token::Mark(']') && tokens.get(at + 1) == Some(&Token::Mark('(')) {
            let detail = "write the function's name with dots, not with brackets";
            return problem(&FORBIDDEN_BUILTIN, line, detail.to_owned());
        }
        let Token::Word(name, at_line) = token else { continue };
        line = *at_line;
        if tokens.get(at + 1) != Some(&Token::Mark('(')) {
            continue;
        }
        if let Some((_, why)) = FORBIDDEN.iter().find(|(forbidden, _)| forbidden == name) {
            return problem(&FORBIDDEN_BUILTIN, line, format!("`{name}`: {why}"));
        }
        if *name == "walk" && arguments(tokens.get(at + 2..).unwrap_or(&[])) == 1 {
            let detail = "write `walk(x, [path, value])`: the other form finds nothing";
            return problem(&FORBIDDEN_BUILTIN, line, detail.to_owned());
        }
    }
    Ok(())
}

/// Rules of a package that may be written as a boolean or as a set.
const ANSWERS: [&str; 3] = ["allow", "deny", "challenge"];

/// Refuses a package that gives one answer both as a boolean (`allow if …`) and as a set (`allow
/// contains … if …`), in one file or in several: the engine would take only one of the two, and a
/// denial that is not taken is none. A `default` beside a set stands only where the set is empty, and is let be.
pub(crate) fn check_heads(modules: &[(String, String)]) -> Result<(), Problem> {
    let mut first: BTreeMap<(String, &str), (bool, String)> = BTreeMap::new();
    for (path, text) in modules {
        let (package, heads) = heads(text);
        for (name, is_set, line) in heads {
            let place = format!("{path}:{line}");
            match first.get(&(package.clone(), name)) {
                Some((other, before)) if *other != is_set => {
                    let (one, two) = if is_set { ("set", "boolean") } else { ("boolean", "set") };
                    let detail = format!(
                        "`{name}` is a {one} here and a {two} in {before}; write it as \
                         `{name} contains \"reason\" if …` everywhere, or nowhere"
                    );
                    return Err(Problem { code: &BAD_MODULE, place, detail });
                }
                Some(_) => {}
                None => drop(first.insert((package.clone(), name), (is_set, place))),
            }
        }
    }
    Ok(())
}

/// The package of a module, and each head of an answer: its name, whether it is of a set, its line.
fn heads(text: &str) -> (String, Vec<(&'static str, bool, usize)>) {
    let tokens = tokens(text);
    let (mut package, mut found, mut depth) = (String::new(), Vec::new(), 0_usize);
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Mark('{' | '(' | '[') => depth += 1,
            Token::Mark('}' | ')' | ']') => depth = depth.saturating_sub(1),
            Token::Word("package", _) if package.is_empty() => {
                if let Some(Token::Word(name, _)) = tokens.get(at + 1) {
                    (*name).clone_into(&mut package);
                }
            }
            Token::Word(word, line) if depth == 0 => {
                let Some(name) = ANSWERS.into_iter().find(|name| name == word) else { continue };
                let is_first = text.lines().nth(line - 1).is_some_and(|line| {
                    // Not what stands behind `default`.
                    line.trim_start().starts_with(name)
                });
                let is_set = match tokens.get(at + 1) {
                    Some(Token::Word("contains", _)) => true,
                    // `allow[reason]` of the older form, but not `allow["a"] := …`.
                    Some(Token::Mark('[')) => continue,
                    Some(Token::Word("if", _) | Token::Mark(':' | '=')) => false,
                    _ => continue,
                };
                if is_first {
                    found.push((name, is_set, *line));
                }
            }
            _ => {}
        }
    }
    (package, found)
}

/// Counts the arguments of a call whose opening parenthesis has just been passed.
fn arguments(rest: &[Token<'_>]) -> usize {
    let (mut depth, mut count, mut any) = (0_usize, 1, false);
    for token in rest {
        match token {
            Token::Mark('(' | '[' | '{') => depth += 1,
            Token::Mark(')') if depth == 0 => break,
            Token::Mark(')' | ']' | '}') => depth = depth.saturating_sub(1),
            Token::Mark(',') if depth == 0 => count += 1,
            _ => {}
        }
        any = true;
    }
    if any { count } else { 0 }
}

/// Splits a module into words and marks; strings and comments are left out.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    // Whether the line begins within a raw string.
    let mut is_raw = false;
    for (at, line) in text.lines().enumerate() {
        let mut rest = line;
        if is_raw {
            let Some(end) = rest.find('`') else { continue };
            rest = rest.get(end + 1..).unwrap_or("");
            is_raw = false;
        }
        while let Some(c) = rest.chars().next() {
            let length = match c {
                '#' => rest.len(),
                '`' => match rest.get(1..).and_then(|inner| inner.find('`')) {
                    Some(end) => end + 2,
                    None => {
                        is_raw = true;
                        rest.len()
                    }
                },
                '"' => string_length(rest),
                c if c.is_alphanumeric() || c == '_' => {
                    let end = |c: char| !(c.is_alphanumeric() || c == '_' || c == '.');
                    let length = rest.find(end).unwrap_or(rest.len());
                    found.push(Token::Word(rest.get(..length).unwrap_or(""), at + 1));
                    length
                }
                c if c.is_whitespace() => c.len_utf8(),
                c => {
                    found.push(Token::Mark(c));
                    c.len_utf8()
                }
            };
            rest = rest.get(length..).unwrap_or("");
        }
    }
    found
}

/// Length in bytes of the quoted string that `text` begins with, quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}
