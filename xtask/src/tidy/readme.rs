//! The two READMEs say the same: the same headings at the same places, the same code.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::Finding;

const ENGLISH: &str = "README.md";
const CHINESE: &str = "README.zh-CN.md";

/// Where the two differ. A pair of which one is missing differs; without both there is no pair.
pub(super) fn compare(root: &Path) -> Result<Vec<Finding>> {
    let read = |name| fs::read_to_string(root.join(name)).ok();
    Ok(match (read(ENGLISH), read(CHINESE)) {
        (Some(english), Some(chinese)) => differences(&english, &chinese),
        (None, None) => Vec::new(),
        (Some(_), None) => vec![finding(CHINESE, 0, format!("missing beside {ENGLISH}"))],
        (None, Some(_)) => vec![finding(ENGLISH, 0, format!("missing beside {CHINESE}"))],
    })
}

fn finding(path: &str, line: usize, what: String) -> Finding {
    Finding { path: path.to_owned(), line, what, fails: true }
}

/// A heading, by its level, or a line of code.
#[derive(Debug, PartialEq)]
enum Part<'a> {
    Heading(usize),
    Code(&'a str),
}

/// Only the first difference: those after it mostly follow from it.
pub(super) fn differences(english: &str, chinese: &str) -> Vec<Finding> {
    let (english, chinese) = (parts(english), parts(chinese));
    let same = english.iter().zip(&chinese).take_while(|((_, a), (_, b))| a == b).count();
    match (english.get(same), chinese.get(same)) {
        (None, None) => Vec::new(),
        (Some((line, part)), None) => {
            vec![finding(CHINESE, 0, format!("lacks {part:?} of {ENGLISH}:{line}"))]
        }
        (None, Some((line, part))) => {
            vec![finding(CHINESE, *line, format!("{part:?} is not in {ENGLISH}"))]
        }
        (Some((there, a)), Some((here, b))) => {
            vec![finding(CHINESE, *here, format!("{b:?}, but {ENGLISH}:{there} has {a:?}"))]
        }
    }
}

/// Headings and code with their lines, in order. Comments in code may be translated.
fn parts(text: &str) -> Vec<(usize, Part<'_>)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            found.push((at + 1, Part::Code(line)));
        } else if in_code {
            let code = line.split_once(" # ").map_or(line, |(code, _)| code).trim_end();
            if !code.trim_start().starts_with('#') {
                found.push((at + 1, Part::Code(code)));
            }
        } else if line.starts_with('#') {
            found.push((at + 1, Part::Heading(line.chars().take_while(|c| *c == '#').count())));
        }
    }
    found
}
