//! What is kept of a configuration that worked, so that a start finds it when what stands on the disk
//! is no good: its texts, and what its references led to, but for secrets. Those are read again from
//! where they are.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::load::{Loaded, parse_as};
use crate::problem::Problems;
use crate::sources::Sources;
use crate::{fragment, resolve};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub(crate) is_folder: bool,
    /// Files by name, in order.
    pub(crate) texts: Vec<(String, String)>,
    /// What references led to that are no secrets.
    pub(crate) fetched: BTreeMap<String, Vec<u8>>,
    /// Files of the policy bundle.
    pub(crate) policy: Vec<(String, Vec<u8>)>,
}

/// Resolves what was kept of the configuration in `path`, with secrets read again.
///
/// # Errors
/// As [`crate::load`].
pub fn load_kept(path: &Path, kept: &Kept) -> Result<Loaded, Problems> {
    let sources = Sources::of_kept(path, kept);
    let raw = match sources.list.as_slice() {
        [one] if !sources.is_folder => {
            parse_as(&sources, &one.text).map_err(|problem| vec![*problem])
        }
        _ => fragment::join(&sources),
    };
    match raw.and_then(|raw| resolve::resolve(&raw, &sources, Some(kept))) {
        Ok(loaded) => Ok(loaded),
        Err(list) => Err(sources.problems(list)),
    }
}
