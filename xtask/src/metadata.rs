//! What `cargo metadata` says of the workspace's own packages.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::shell;

/// The answer, as far as it is used here.
#[derive(Deserialize)]
pub(crate) struct Metadata {
    /// The members of the workspace.
    pub(crate) packages: Vec<Package>,
}

/// One member.
#[derive(Clone, Deserialize)]
pub(crate) struct Package {
    /// For example `moat-net`.
    pub(crate) name: String,
    /// Its `Cargo.toml`.
    pub(crate) manifest_path: PathBuf,
    /// What it names in its manifest, all kinds.
    pub(crate) dependencies: Vec<Dependency>,
}

/// One dependency.
#[derive(Clone, Deserialize)]
pub(crate) struct Dependency {
    /// The package's name.
    pub(crate) name: String,
    /// `None` for a normal one, else `dev` or `build`.
    pub(crate) kind: Option<String>,
}

impl Package {
    /// The dependencies that end up in the program.
    pub(crate) fn normal(&self) -> impl Iterator<Item = &Dependency> {
        self.dependencies.iter().filter(|dependency| dependency.kind.is_none())
    }
}

/// Asks cargo; needs no network, since only manifests are read.
pub(crate) fn read() -> Result<Metadata> {
    let args = ["metadata", "--no-deps", "--format-version", "1"];
    let text = shell::output(&mut shell::cargo(&args))?;
    serde_json::from_str(&text).context("cannot read the answer of `cargo metadata`")
}
