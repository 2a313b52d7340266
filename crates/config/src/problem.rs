//! What is wrong with a configuration: code, place, the line itself, and the fix.

use core::fmt;
use std::fmt::Write;

use moat_model::Code;

/// One problem.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The code for `moat explain`.
    pub code: &'static Code,
    /// File as it was named.
    pub file: String,
    /// Line from 1; 0 if the problem has no line.
    pub line: usize,
    /// Column in characters from 1.
    pub column: usize,
    /// What was found.
    pub message: String,
    /// What to write instead, where that is known.
    pub fix: String,
}

/// All problems of one configuration, never empty.
#[derive(Debug)]
pub struct Problems {
    /// In order of their place.
    pub list: Vec<Problem>,
    /// Each file's name and text, for snippets.
    pub texts: Vec<(String, String)>,
}

impl Problem {
    /// `file:line:column`, as far as it is known.
    #[must_use]
    pub fn place(&self) -> String {
        match self.line {
            0 => self.file.clone(),
            line => format!("{}:{line}:{}", self.file, self.column),
        }
    }

    /// `CODE file:line:column: message`, the source line with a mark, and the fix.
    #[must_use]
    pub fn render(&self, text: &str) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "{} {}: {}", self.code.id, self.place(), self.message);
        if let Some(source) = self.line.checked_sub(1).and_then(|at| text.lines().nth(at)) {
            let mark = " ".repeat(self.column.saturating_sub(1));
            let _ = writeln!(out, "{:>5} | {source}\n      | {mark}^", self.line);
        }
        let fix = if self.fix.is_empty() { self.code.en.fix } else { &self.fix };
        let _ = writeln!(out, "  fix: {fix}");
        out
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.list {
            let text = self.texts.iter().find(|(file, _)| *file == problem.file);
            f.write_str(&problem.render(text.map_or("", |(_, text)| text)))?;
        }
        Ok(())
    }
}

impl core::error::Error for Problems {}

/// The candidate nearest to `word`, if it is near at all.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let scored = candidates.into_iter().map(|candidate| (distance(word, candidate), candidate));
    let (distance, best) = scored.min()?;
    (distance <= 1 + word.chars().count() / 3).then_some(best)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, x) in a.chars().enumerate() {
        let mut next = vec![at + 1];
        let mut left = at + 1;
        for (y, pair) in b.iter().zip(row.windows(2)) {
            let [diagonal, above] = pair else { continue };
            left = (diagonal + usize::from(x != *y)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_offered_and_nothing_far_away() {
        let keys = ["listeners", "upstreams", "routes"];
        assert_eq!(nearest("listner", keys), Some("listeners"));
        assert_eq!(nearest("route", keys), Some("routes"));
        assert_eq!(nearest("zzz", keys), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
