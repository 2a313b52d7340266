//! A policy bundle in memory: Rego modules, data documents, one digest.

use core::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use moat_model::Code;
use moat_model::code::policy::{BAD_DATA, BAD_MODULE};

use crate::lint;

/// Most bytes in one bundle.
const BUNDLE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most files in one bundle.
const FILES_MAX: usize = 10_000;

/// One file of a bundle, by its path below the bundle's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleFile {
    /// Path with `/`, for example `pay/authz.rego`.
    pub path: String,
    /// Content.
    pub bytes: Vec<u8>,
}

/// What is wrong with a bundle and where.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The code for `moat explain`.
    pub code: &'static Code,
    /// File and, where known, line.
    pub place: String,
    /// What was found.
    pub detail: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code.id, self.place, self.detail)
    }
}

impl core::error::Error for Problem {}

/// Modules and data, checked for size, names and forbidden calls, not yet compiled.
#[derive(Clone, Debug)]
pub struct Bundle {
    pub(crate) modules: Vec<(String, String)>,
    pub(crate) tests: Vec<(String, String)>,
    pub(crate) data: Vec<(String, String)>,
    digest: String,
}

impl Bundle {
    /// Takes the files of a bundle: `*.rego` are modules, `*_test.rego` are tests and are never
    /// loaded for serving, `*.json` are data; others are ignored.
    ///
    /// # Errors
    /// The first [`Problem`]: too large, not UTF-8, or a module that calls what it must not.
    pub fn new(mut files: Vec<BundleFile>) -> Result<Bundle, Problem> {
        // What begins with a dot is about the bundle, and no part of it.
        let is_of_it = |f: &BundleFile| !f.path.starts_with('.');
        files.retain(|f| is_of_it(f) && (f.path.ends_with(".rego") || f.path.ends_with(".json")));
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let total: usize = files.iter().map(|f| f.bytes.len()).sum();
        if total > BUNDLE_BYTES_MAX || files.len() > FILES_MAX {
            return Err(Problem {
                code: &BAD_MODULE,
                place: "bundle".to_owned(),
                detail: format!("over {BUNDLE_BYTES_MAX} bytes or {FILES_MAX} files"),
            });
        }
        let digest = digest(&files);
        let mut bundle =
            Bundle { modules: Vec::new(), tests: Vec::new(), data: Vec::new(), digest };
        for file in files {
            bundle.take(file)?;
        }
        lint::check_heads(&bundle.modules)?;
        Ok(bundle)
    }

    fn take(&mut self, file: BundleFile) -> Result<(), Problem> {
        let is_data = file.path.ends_with(".json");
        let code = if is_data { &BAD_DATA } else { &BAD_MODULE };
        let text = String::from_utf8(file.bytes).map_err(|e| Problem {
            code,
            place: file.path.clone(),
            detail: e.to_string(),
        })?;
        if is_data {
            self.data.push((file.path, text));
        } else {
            lint::check_calls(&file.path, &text)?;
            let is_test = file.path.ends_with("_test.rego");
            let list = if is_test { &mut self.tests } else { &mut self.modules };
            list.push((file.path, text));
        }
        Ok(())
    }

    /// `sha256:` and 64 hexadecimal digits over every file's path and bytes, each with its length.
    /// Stands in every record as the policy's version.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

fn digest(files: &[BundleFile]) -> String {
    let mut context = Context::new(&SHA256);
    for file in files {
        for part in [file.path.as_bytes(), &file.bytes] {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
    }
    format!("sha256:{}", data_encoding::HEXLOWER.encode(context.finish().as_ref()))
}
