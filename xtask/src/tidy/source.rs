//! Reading the tree: which files are ours, and what a line of Rust holds besides comments.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Folders that hold nothing written by hand.
const NOT_OURS: [&str; 5] = [".git", "artifacts", "corpus", "dist", "node_modules"];

/// Every file of ours below `folder`, in order.
pub(crate) fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        if !folder.exists() {
            continue;
        }
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if entry.file_type()?.is_dir() {
                let is_build = name.starts_with("target") || name == ".moat-demo";
                if !is_build && !NOT_OURS.contains(&name.as_ref()) {
                    folders.push(entry.path());
                }
            } else if entry.file_type()?.is_file() && name != "Cargo.lock" {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The file's text, or nothing if it is no text.
pub(super) fn read(path: &Path) -> io::Result<Option<String>> {
    Ok(String::from_utf8(fs::read(path)?).ok())
}

/// The line without its comment and without the inside of its texts.
pub(crate) fn code_of(line: &str) -> String {
    let mut code = String::new();
    let mut chars = line.chars().peekable();
    let mut in_text = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' if in_text => drop(chars.next()),
            '"' => in_text = !in_text,
            '/' if !in_text && chars.peek() == Some(&'/') => break,
            _ if in_text => {}
            c => code.push(c),
        }
    }
    code
}

/// Whether the comment on top says why the file is longer than others.
pub(super) fn says_why_it_is_long(text: &str) -> bool {
    let top = text.lines().take_while(|line| line.starts_with("//"));
    let words: Vec<&str> =
        top.flat_map(str::split_whitespace).filter(|word| !word.starts_with("//")).collect();
    words.join(" ").to_lowercase().contains("longer than")
}

/// Every function: its first line from 1, its name, and how many lines it has.
///
/// Relies on rustfmt: the closing brace stands in the column where the signature begins.
pub(super) fn functions(text: &str) -> Vec<(usize, &str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = line.len() - line.trim_start().len();
        let closes = |line: &&str| {
            let inner = line.trim_start();
            line.len() - inner.len() == indent && (inner.starts_with('}') || inner.ends_with(';'))
        };
        let rest = lines.get(at + 1..).unwrap_or_default();
        let length = if line.ends_with('}') || line.ends_with(';') {
            1
        } else {
            rest.iter().position(closes).map_or(1, |position| position + 2)
        };
        found.push((at + 1, name, length));
    }
    found
}

/// The name, if a signature begins on this line.
fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let modifiers = ["pub", "const", "async", "unsafe", "extern", "\"C\""];
    let is_signature =
        before.split_whitespace().all(|word| modifiers.contains(&word) || word.starts_with("pub("));
    let end = after.find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
    after.get(..end).filter(|name| is_signature && !name.is_empty())
}
