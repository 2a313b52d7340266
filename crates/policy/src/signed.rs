//! Signed bundles: who made them, for whom, in which version, and that nothing was changed since.
//!
//! Three files stand beside modules and data: `.manifest`, `.golden.json` (requests with the answers
//! that they must get) and `.signatures.json`. Keys, algorithms, tenant and name come from the
//! configuration, never from what a bundle happens to contain.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use moat_identity::jws::{self, BadJws};
use moat_identity::{Algorithm, NamedKey};
use moat_model::Code;
use moat_model::code::policy as codes;
use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};

use crate::{Bundle, BundleFile, Engine, Problem, golden, run_tests};

/// Who made a bundle, for whom, in which version.
pub const MANIFEST: &str = ".manifest";
/// Requests with the answers that they must get.
pub const GOLDEN: &str = ".golden.json";
/// Signatures over all other files.
pub const SIGNATURES: &str = ".signatures.json";
/// Most signatures of one bundle.
const SIGNATURES_MAX: usize = 8;
/// Longest path of a file, in bytes.
const PATH_BYTES_MAX: usize = 512;

/// `.manifest`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Whose calls it decides.
    pub tenant: String,
    /// Its name.
    pub name: String,
    /// Its version (Semantic Versioning 2.0).
    pub version: Version,
    /// Until when it may be activated, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after_s: Option<u64>,
    /// Versions of Moat that it is for, for example `>=0.1, <0.3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moat: Option<VersionReq>,
}

impl Manifest {
    /// `tenant/name`: what a signature is for.
    #[must_use]
    pub fn scope(&self) -> String {
        format!("{}/{}", self.tenant, self.name)
    }

    /// Reads the manifest among the files of a bundle, and checks nothing but its form.
    ///
    /// # Errors
    /// [`Problem`] if there is none, or it is malformed.
    pub fn of(files: &[BundleFile]) -> Result<Manifest, Problem> {
        let file = find(files, MANIFEST).ok_or_else(|| {
            problem(&codes::BAD_MANIFEST, MANIFEST, "the bundle has none".to_owned())
        })?;
        let bad = |why: String| problem(&codes::BAD_MANIFEST, MANIFEST, why);
        let manifest: Manifest =
            serde_json::from_slice(&file.bytes).map_err(|e| bad(e.to_string()))?;
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        for text in [&manifest.tenant, &manifest.name] {
            if text.is_empty() || text.len() > 64 || !text.chars().all(fine) {
                return Err(bad("tenant and name have 1 to 64 letters, digits, `-_.`".to_owned()));
            }
        }
        Ok(manifest)
    }
}

/// The highest version that was ever activated.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Floor {
    /// Its version.
    pub version: Version,
    /// Digest of that bundle: no other may have the same version.
    pub digest: String,
}

/// What a bundle must be to be activated.
#[derive(Clone, Debug)]
pub struct Demands {
    /// Whose calls it must be for.
    pub tenant: String,
    /// Its name.
    pub name: String,
    /// Keys that may sign it.
    pub keys: Vec<NamedKey>,
    /// How it must be signed: by one key of each.
    pub algorithms: Vec<Algorithm>,
    /// The highest version that was ever activated.
    pub floor: Option<Floor>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SignatureFile {
    signatures: Vec<String>,
}

/// What is signed: every file but the signatures themselves.
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    scope: String,
    files: Vec<Named>,
}

#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
    hash: String,
    algorithm: String,
}

/// What is to be signed of a bundle: the payload of each signature.
///
/// # Errors
/// The [`Problem`] of the manifest or of a file's name.
pub fn statement(files: &[BundleFile]) -> Result<Vec<u8>, Problem> {
    check_names(files)?;
    let scope = Manifest::of(files)?.scope();
    let statement = Statement { scope, files: named(files) };
    serde_json::to_vec(&statement)
        .map_err(|e| problem(&codes::BAD_MANIFEST, SIGNATURES, e.to_string()))
}

/// The signatures that a bundle has, and one more, as the bytes of [`SIGNATURES`].
///
/// # Errors
/// [`Problem`] if those that it has cannot be read.
pub fn with_signature(files: &[BundleFile], compact: String) -> Result<Vec<u8>, Problem> {
    let bad = |e: serde_json::Error| problem(&codes::BAD_SIGNATURE, SIGNATURES, e.to_string());
    let mut signatures = match find(files, SIGNATURES) {
        Some(file) => serde_json::from_slice::<SignatureFile>(&file.bytes).map_err(bad)?.signatures,
        None => Vec::new(),
    };
    signatures.push(compact);
    serde_json::to_vec_pretty(&SignatureFile { signatures }).map_err(bad)
}

/// Verifies a bundle's signatures, scope, version and time. `moat` is this program's version.
///
/// # Errors
/// The first [`Problem`], each with a code of its own.
pub fn verify(
    files: &[BundleFile],
    demands: &Demands,
    now_s: u64,
    moat: &str,
) -> Result<Manifest, Problem> {
    check_names(files)?;
    let statement = verify_signatures(files, demands)?;
    let manifest = Manifest::of(files)?;
    if statement.files != named(files) {
        let detail = "a file was changed, added or removed since it was signed".to_owned();
        return Err(problem(&codes::BUNDLE_FILES, &differing(&statement.files, files), detail));
    }
    let scope = format!("{}/{}", demands.tenant, demands.name);
    if statement.scope != scope || manifest.scope() != scope {
        let detail = format!("it is for {}, and {scope} is wanted", manifest.scope());
        return Err(problem(&codes::BUNDLE_SCOPE, MANIFEST, detail));
    }
    if manifest.not_after_s.is_some_and(|until_s| now_s > until_s) {
        return Err(problem(&codes::BUNDLE_FROZEN, MANIFEST, "its time is over".to_owned()));
    }
    if let Some(wanted) = &manifest.moat
        && !moat.parse().is_ok_and(|moat| wanted.matches(&moat))
    {
        let detail = format!("it is for Moat {wanted}, and this is {moat}");
        return Err(problem(&codes::BUNDLE_REQUIRES, MANIFEST, detail));
    }
    check_floor(&manifest, &digest_of(files), demands.floor.as_ref())?;
    Ok(manifest)
}

/// A version below one that was in force is a way back to rules that were given up; the same version
/// with another content is two bundles under one name.
fn check_floor(manifest: &Manifest, digest: &str, floor: Option<&Floor>) -> Result<(), Problem> {
    let Some(floor) = floor else { return Ok(()) };
    // Build metadata has no order (Semantic Versioning §10), so it must not make a way around it.
    let detail = match manifest.version.cmp_precedence(&floor.version) {
        core::cmp::Ordering::Less => {
            format!("{} is below {}, which was in force", manifest.version, floor.version)
        }
        core::cmp::Ordering::Equal if digest != floor.digest => {
            format!("another bundle was in force as {}", floor.version)
        }
        _ => return Ok(()),
    };
    Err(problem(&codes::BUNDLE_ROLLBACK, MANIFEST, detail))
}

fn verify_signatures(files: &[BundleFile], demands: &Demands) -> Result<Statement, Problem> {
    let no = |code, detail: &str| problem(code, SIGNATURES, detail.to_owned());
    let file = find(files, SIGNATURES)
        .ok_or_else(|| no(&codes::BUNDLE_UNSIGNED, "the bundle has no signatures"))?;
    let list: SignatureFile = serde_json::from_slice(&file.bytes)
        .map_err(|e| no(&codes::BAD_SIGNATURE, &e.to_string()))?;
    if list.signatures.len() > SIGNATURES_MAX {
        return Err(no(&codes::BAD_SIGNATURE, &format!("over {SIGNATURES_MAX} signatures")));
    }
    let mut payloads: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for compact in &list.signatures {
        match jws::verify(compact, &demands.keys) {
            Ok((payload, algorithm)) => {
                payloads.insert(algorithm.jws(), payload);
            }
            // Signatures by others may stand beside those that are asked for.
            Err(BadJws::UnknownKey) => {}
            Err(_) => return Err(no(&codes::BAD_SIGNATURE, "a signature is wrong")),
        }
    }
    let mut statements = Vec::new();
    for algorithm in &demands.algorithms {
        let payload = payloads.get(algorithm.jws()).ok_or_else(|| {
            let detail = format!("no {} signature by a key that may sign it", algorithm.jws());
            no(&codes::BUNDLE_UNSIGNED, &detail)
        })?;
        let statement: Statement = serde_json::from_slice(payload)
            .map_err(|e| no(&codes::BAD_SIGNATURE, &e.to_string()))?;
        statements.push(statement);
    }
    let first = statements.pop();
    let first = first.ok_or_else(|| no(&codes::BUNDLE_UNSIGNED, "no algorithm is asked for"))?;
    if statements.iter().any(|other| *other != first) {
        return Err(no(&codes::BAD_SIGNATURE, "two signatures are over different files"));
    }
    Ok(first)
}

/// Names that could stand for another file, or for two, on some system.
fn check_names(files: &[BundleFile]) -> Result<(), Problem> {
    let mut seen = std::collections::BTreeSet::new();
    for file in files {
        let path = &file.path;
        let is_plain = |part: &str| !matches!(part, "" | "." | "..");
        let good = path.len() <= PATH_BYTES_MAX
            && path.split('/').all(is_plain)
            && !path.contains(['\\', '\0', ':'])
            && !path.chars().any(char::is_control);
        if !good || !seen.insert(path.to_lowercase()) {
            let detail = "its name is ambiguous, or differs from another's by case only".to_owned();
            return Err(problem(&codes::BUNDLE_FILES, path, detail));
        }
    }
    Ok(())
}

fn named(files: &[BundleFile]) -> Vec<Named> {
    let mut named: Vec<Named> = files
        .iter()
        .filter(|file| file.path != SIGNATURES)
        .map(|file| Named {
            name: file.path.clone(),
            hash: HEXLOWER.encode(digest(&SHA256, &file.bytes).as_ref()),
            algorithm: "SHA-256".to_owned(),
        })
        .collect();
    named.sort_by(|a, b| a.name.cmp(&b.name));
    named
}

fn differing(signed: &[Named], files: &[BundleFile]) -> String {
    let found = named(files);
    let of = |list: &[Named], one: &Named| list.contains(one);
    let first = found.iter().find(|one| !of(signed, one));
    let first = first.or_else(|| signed.iter().find(|one| !of(&found, one)));
    first.map_or_else(|| "bundle".to_owned(), |one| one.name.clone())
}

/// Digest over all files but the signatures: a bundle that is signed once more stays the same.
#[must_use]
pub fn digest_of(files: &[BundleFile]) -> String {
    let listed = serde_json::to_vec(&named(files)).unwrap_or_default();
    format!("sha256:{}", HEXLOWER.encode(digest(&SHA256, &listed).as_ref()))
}

/// Runs a bundle's own tests and its golden requests.
///
/// # Errors
/// `SELF_TEST` with the name of the first that does not come out as it must; or the [`Problem`] of
/// loading.
pub fn self_test(files: &[BundleFile], bundle: &Arc<Bundle>) -> Result<usize, Problem> {
    let results = run_tests(bundle)?;
    if let Some(failed) = results.iter().find(|result| !result.passed) {
        let detail = format!("it failed: {}", failed.detail);
        return Err(problem(&codes::SELF_TEST, &failed.name, detail));
    }
    let mut engine = Engine::compile(bundle)?;
    let golden = match find(files, GOLDEN) {
        Some(file) => golden::run(&file.bytes, &mut engine)?,
        None => 0,
    };
    Ok(results.len() + golden)
}

fn find<'a>(files: &'a [BundleFile], path: &str) -> Option<&'a BundleFile> {
    files.iter().find(|file| file.path == path)
}

fn problem(code: &'static Code, place: &str, detail: String) -> Problem {
    Problem { code, place: place.to_owned(), detail }
}

#[cfg(test)]
#[path = "signed_tests.rs"]
mod tests;
