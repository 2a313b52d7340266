//! The files of a configuration, and which line of which file a place is.
//!
//! The lines of all files are numbered through, in order: each file is parsed behind as many empty
//! lines as stand before it, so every place that the parser names is one of all files.

use std::path::{Path, PathBuf};

use moat_model::code::config as codes;

use crate::kept::Kept;
use crate::problem::{Problem, Problems};
use crate::secret::{Failure, read_bounded};

/// Most files of a folder.
const FILES_MAX: usize = 256;

/// One file.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    /// Its name in messages.
    pub(crate) file: String,
    pub(crate) text: String,
    /// How many lines stand before it in the files before.
    lines_before: usize,
}

impl Source {
    /// The text as it is to be parsed.
    pub(crate) fn to_parse(&self) -> String {
        "\n".repeat(self.lines_before) + &self.text
    }

    /// Whether there is nothing in it but comments.
    pub(crate) fn is_empty(&self) -> bool {
        self.text.lines().all(|line| line.trim().is_empty() || line.trim().starts_with('#'))
    }

    /// Where a key of the top level stands: line and column in this file.
    pub(crate) fn place_of(&self, key: &str) -> (usize, usize) {
        let is_it = |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'));
        let at = self.text.lines().position(is_it).unwrap_or(0);
        (at + 1, 1)
    }
}

/// All of them, in order.
pub(crate) struct Sources {
    /// What was named: a file or a folder.
    pub(crate) name: String,
    /// Where relative paths begin.
    pub(crate) base: PathBuf,
    pub(crate) is_folder: bool,
    pub(crate) list: Vec<Source>,
}

impl Sources {
    /// Reads a file, or all `*.yaml` of a folder in the order of their names.
    pub(crate) fn read(path: &Path) -> Result<Sources, Problems> {
        let is_folder = path.is_dir();
        let base = if is_folder { path } else { path.parent().unwrap_or(Path::new(".")) };
        let mut sources = Sources {
            name: path.display().to_string(),
            base: base.to_path_buf(),
            is_folder,
            list: Vec::new(),
        };
        let paths = if is_folder { files_of(path) } else { Ok(vec![path.to_path_buf()]) };
        let paths = paths.map_err(|failure| fail(&sources.name, failure))?;
        for path in paths {
            let file = path.display().to_string();
            let text = read_text(&path).map_err(|failure| fail(&file, failure))?;
            let lines_before =
                sources.list.last().map_or(0, |s| s.lines_before + s.text.lines().count());
            sources.list.push(Source { path, file, text, lines_before });
        }
        Ok(sources)
    }

    /// The same of what was kept of them.
    pub(crate) fn of_kept(path: &Path, kept: &Kept) -> Sources {
        let base = if kept.is_folder { path } else { path.parent().unwrap_or(Path::new(".")) };
        let mut list: Vec<Source> = Vec::new();
        for (name, text) in &kept.texts {
            let path = if kept.is_folder { path.join(name) } else { path.to_path_buf() };
            let lines_before =
                list.last().map_or(0, |one| one.lines_before + one.text.lines().count());
            let (file, text) = (path.display().to_string(), text.clone());
            list.push(Source { path, file, text, lines_before });
        }
        let (name, base) = (path.display().to_string(), base.to_path_buf());
        Sources { name, base, is_folder: kept.is_folder, list }
    }

    /// The file that a line of all files is in, and which line of it that is.
    pub(crate) fn locate(&self, line: usize) -> (&str, usize) {
        let source = self.list.iter().rev().find(|source| source.lines_before < line);
        source.map_or((self.name.as_str(), 0), |s| (s.file.as_str(), line - s.lines_before))
    }

    /// Problems in the order of their places, with what is needed to show them.
    pub(crate) fn problems(self, mut list: Vec<Problem>) -> Problems {
        list.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        let texts = self.list.into_iter().map(|source| (source.file, source.text)).collect();
        Problems { list, texts }
    }
}

fn fail(file: &str, (code, message, fix): Failure) -> Problems {
    let problem = Problem { code, file: file.to_owned(), line: 0, column: 0, message, fix };
    Problems { list: vec![problem], texts: Vec::new() }
}

fn read_text(path: &Path) -> Result<String, Failure> {
    let mut bytes = read_bounded(path)?.bytes;
    String::from_utf8(core::mem::take(&mut *bytes))
        .map_err(|e| (&codes::SYNTAX, e.to_string(), String::new()))
}

/// The `*.yaml` of a folder, by name. Hidden ones are none.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |e: std::io::Error| {
        (&codes::UNREADABLE, format!("{}: {e}", folder.display()), String::new())
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let is_hidden =
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && path.extension().is_some_and(|e| e == "yaml") && path.is_file() {
            files.push(path);
        }
        if files.len() > FILES_MAX {
            let what = format!("{} has over {FILES_MAX} files", folder.display());
            return Err((&codes::TOO_LARGE, what, String::new()));
        }
    }
    if files.is_empty() {
        let what = format!("{} has no *.yaml", folder.display());
        return Err((&codes::UNREADABLE, what, String::new()));
    }
    files.sort();
    Ok(files)
}
