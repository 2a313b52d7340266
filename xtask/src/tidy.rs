//! `cargo xtask tidy`: what a reviewer should look at, and what must not be in the tree.
//!
//! Sizes are norms with reasons (CONTRIBUTING.md), so they are printed and fail nothing. Only
//! placeholders, leftovers of a merge and READMEs that say different things do.

use std::fmt;

use anyhow::{Result, bail};

use crate::{progress, shell};

mod readme;
pub(crate) mod source;

#[cfg(test)]
mod tests;

/// Print outliers for the reviewer: long files, long functions, long lines, open notes.
///
/// These fail nothing. The task fails on what must not be in the tree: placeholders such as an
/// unimplemented body, leftovers of a merge, and a README.zh-CN.md whose headings or code blocks
/// differ from README.md.
///
/// A file over 500 lines is not printed if the comment on top says "longer than" others are, and
/// why.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print only what makes the task fail
    #[arg(long)]
    quiet: bool,
}

/// Longest file without a reason on top, in lines.
const FILE_LINES_MAX: usize = 500;
/// Longest function, in lines.
const FUNCTION_LINES_MAX: usize = 70;
/// Widest line of code, in characters.
const LINE_CHARS_MAX: usize = 100;

/// What must not be in the tree. Written in pieces, so that this file does not hold it.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("todo", "!("), "a body that was left out"),
    (concat!("unimplemented", "!("), "a body that was left out"),
    (concat!("dbg", "!("), "a trace of debugging"),
    (concat!("<<<<", "<<< "), "a leftover of a merge"),
    (concat!(">>>>", ">>> "), "a leftover of a merge"),
    (concat!("lorem", " ipsum"), "a placeholder"),
    (concat!("coming", " soon"), "a placeholder"),
];
/// Notes of open work.
const NOTES: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];

/// One thing that was found.
struct Finding {
    path: String,
    /// From 1; 0 for the whole file.
    line: usize,
    what: String,
    fails: bool,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.fails { "FORBIDDEN " } else { "" };
        match self.line {
            0 => write!(f, "{mark}{}: {}", self.path, self.what),
            line => write!(f, "{mark}{}:{line}: {}", self.path, self.what),
        }
    }
}

/// The task.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut steps = progress::Steps::new(1);
    let done = steps.step("tidy", || check(args.quiet));
    steps.summary();
    done
}

/// The work, also of `ci`. Returns what was looked at.
pub(crate) fn check(quiet: bool) -> Result<String> {
    let root = shell::root();
    let mut findings = readme::compare(&root)?;
    let mut files = 0;
    for path in source::files_below(&root)? {
        let name = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
        let Some(text) = source::read(&path)? else { continue };
        files += 1;
        findings.extend(look(&name, &text));
    }
    for finding in findings.iter().filter(|finding| finding.fails || !quiet) {
        println!("{finding}");
    }
    let forbidden = findings.iter().filter(|finding| finding.fails).count();
    if forbidden > 0 {
        bail!("{forbidden} things must not be in the tree, marked FORBIDDEN above");
    }
    Ok(format!("{files} files, {} outliers", findings.len()))
}

/// Everything there is to say of one file.
fn look(path: &str, text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |line, what: String, fails| {
        found.push(Finding { path: path.to_owned(), line, what, fails });
    };
    for (at, line) in text.lines().enumerate() {
        for (word, why) in FORBIDDEN.iter().filter(|(word, _)| line.contains(word)) {
            add(at + 1, format!("`{word}`: {why}"), true);
        }
        for note in NOTES.iter().filter(|note| line.contains(**note)) {
            add(at + 1, format!("{note} {}", after(line, note)), false);
        }
    }
    if path.ends_with(".rs") {
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX && !source::says_why_it_is_long(text) {
            add(0, format!("{lines} lines, and no reason on top"), false);
        }
        for (line, name, lines) in source::functions(text) {
            if lines > FUNCTION_LINES_MAX {
                add(line, format!("function {name} has {lines} lines"), false);
            }
        }
        let wide = |(_, line): &(usize, &str)| line.chars().count() > LINE_CHARS_MAX;
        let mut wide = text.lines().enumerate().filter(wide);
        if let Some((first, _)) = wide.next() {
            let count = wide.count() + 1;
            add(first + 1, format!("lines over {LINE_CHARS_MAX} columns: {count}"), false);
        }
    }
    found
}

/// What a note says.
fn after<'a>(line: &'a str, note: &str) -> &'a str {
    line.split_once(note).map_or("", |(_, rest)| rest.trim_start_matches([':', ' ']))
}
