//! How often `unsafe` is written in each crate. The compiler forbids it, or denies it
//! where a few modules need it; this shows the figure.

use anyhow::Result;

use crate::metadata::Metadata;
use crate::tidy::source;

/// Crate and count, for every member.
pub(super) fn in_crates(metadata: &Metadata) -> Result<Vec<(String, usize)>> {
    let mut counts = Vec::new();
    for package in &metadata.packages {
        let folder = package.manifest_path.with_file_name("src");
        let mut count = 0;
        for file in source::files_below(&folder)? {
            if file.extension().is_some_and(|extension| extension == "rs") {
                count += in_text(&std::fs::read_to_string(file)?);
            }
        }
        counts.push((package.name.clone(), count));
    }
    Ok(counts)
}

/// The keyword in code: not in comments, texts or longer words.
pub(super) fn in_text(text: &str) -> usize {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    text.lines()
        .map(source::code_of)
        .map(|line| line.split(|c| !word(c)).filter(|token| *token == "unsafe").count())
        .sum()
}
