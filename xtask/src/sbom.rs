//! `cargo xtask sbom`: what the program consists of, as CycloneDX 1.5.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use data_encoding::HEXLOWER;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{progress, shell};

/// Write the list of components of a program (CycloneDX 1.5, JSON).
///
/// Every crate that is linked into it or runs while it is built, with version, licence, digest of its
/// archive as Cargo.lock has it, and what it depends on. The same tree gives the same bytes: there is
/// no date in it, and its number is a digest of the rest.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Package of the program
    #[arg(long, value_name = "NAME", default_value = "moat")]
    package: String,
    /// File to write
    #[arg(long, value_name = "FILE", default_value = "dist/moat.cdx.json")]
    out: PathBuf,
}

/// The task.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut steps = progress::Steps::new(1);
    let done = steps.step("sbom", || write(&args.package, &args.out));
    steps.summary();
    done
}

/// The work, also of `dist`.
pub(crate) fn write(package: &str, out: &PathBuf) -> Result<String> {
    let out = shell::root().join(out);
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder)?;
    }
    let host = shell::host_triple()?;
    let args = ["metadata", "--format-version", "1", "--locked", "--filter-platform", &host];
    let metadata = serde_json::from_str(&shell::output(&mut shell::cargo(&args))?)?;
    let lock = fs::read_to_string(shell::root().join("Cargo.lock"))?;
    let bom = bom(&metadata, &checksums(&lock), package)?;
    let count = bom.pointer("/components").and_then(Value::as_array).map_or(0, Vec::len);
    fs::write(&out, serde_json::to_string_pretty(&bom)? + "\n")?;
    Ok(format!("{}, {count} components", out.display()))
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    description: Option<String>,
    repository: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dep>,
}

#[derive(Deserialize)]
struct Dep {
    pkg: String,
    dep_kinds: Vec<DepKind>,
}

#[derive(Deserialize)]
struct DepKind {
    kind: Option<String>,
}

/// Digests of archives by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    for part in lock.split("[[package]]") {
        let value = |key: &str| {
            let line = part.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
            line.map(|rest| rest.trim_end_matches('"').to_owned())
        };
        if let (Some(name), Some(version), Some(sum)) =
            (value("name"), value("version"), value("checksum"))
        {
            found.insert((name, version), sum);
        }
    }
    found
}

fn bom(
    metadata: &Metadata,
    sums: &BTreeMap<(String, String), String>,
    program: &str,
) -> Result<Value> {
    let root = metadata.packages.iter().find(|p| p.name == program && p.source.is_none());
    let root = root.with_context(|| format!("there is no package {program}"))?;
    let edges: BTreeMap<&str, BTreeSet<&str>> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| {
            // Tests bring nothing into the program.
            let kept = node
                .deps
                .iter()
                .filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind.as_deref() != Some("dev")));
            (node.id.as_str(), kept.map(|dep| dep.pkg.as_str()).collect())
        })
        .collect();
    let (mut reached, mut next) = (BTreeSet::new(), vec![root.id.as_str()]);
    while let Some(id) = next.pop() {
        if reached.insert(id) {
            next.extend(edges.get(id).into_iter().flatten());
        }
    }
    let by_id: BTreeMap<&str, &Package> =
        metadata.packages.iter().map(|package| (package.id.as_str(), package)).collect();
    let mut packages: Vec<&Package> =
        reached.iter().filter_map(|id| by_id.get(id).copied()).collect();
    packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    if packages.len() != reached.len() {
        bail!("a dependency is no package");
    }
    let components: Vec<Value> =
        packages.iter().filter(|p| p.id != root.id).map(|p| component(p, sums)).collect();
    let dependencies: Vec<Value> = packages
        .iter()
        .map(|package| {
            let on = edges.get(package.id.as_str()).into_iter().flatten();
            let on: BTreeSet<String> = on.filter_map(|id| by_id.get(id)).map(|p| purl(p)).collect();
            json!({ "ref": purl(package), "dependsOn": on })
        })
        .collect();
    let mut bom = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": component(root, sums) },
        "components": components,
        "dependencies": dependencies,
    });
    let serial = serial(&serde_json::to_vec(&bom)?);
    if let Some(fields) = bom.as_object_mut() {
        fields.insert("serialNumber".to_owned(), serial.into());
    }
    Ok(bom)
}

fn purl(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version.replace('+', "%2B"))
}

fn component(package: &Package, sums: &BTreeMap<(String, String), String>) -> Value {
    let mut component = json!({
        "type": if package.source.is_some() { "library" } else { "application" },
        "bom-ref": purl(package),
        "name": package.name,
        "version": package.version,
        "purl": purl(package),
    });
    let Some(fields) = component.as_object_mut() else { return component };
    if let Some(licence) = &package.license {
        // The older way of writing an alternative is no SPDX expression.
        let licence = licence.replace('/', " OR ");
        fields.insert("licenses".to_owned(), json!([{ "expression": licence }]));
    }
    if let Some(text) = &package.description {
        fields.insert("description".to_owned(), text.trim().into());
    }
    if let Some(url) = &package.repository {
        fields.insert("externalReferences".to_owned(), json!([{ "type": "vcs", "url": url }]));
    }
    if let Some(sum) = sums.get(&(package.name.clone(), package.version.clone())) {
        fields.insert("hashes".to_owned(), json!([{ "alg": "SHA-256", "content": sum }]));
    }
    component
}

/// A number that is a digest, in the form of a UUID of version 8 (RFC 9562 §5.8).
fn serial(bytes: &[u8]) -> String {
    let digest = HEXLOWER.encode(&Sha256::digest(bytes));
    let part = |from: usize, to: usize| digest.get(from..to).unwrap_or_default();
    let (a, b, c) = (part(0, 8), part(8, 12), part(13, 16));
    format!("urn:uuid:{a}-{b}-8{c}-8{}-{}", part(17, 20), part(20, 32))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"r\"\nchecksum = \"00ff\"\n\n[[package]]\nname = \"p\"\nversion = \"0.1.0\"\n";

    fn metadata() -> Metadata {
        let package = |name: &str, source: Option<&str>| {
            json!({ "id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0",
                    "description": null, "repository": null, "source": source })
        };
        let dep =
            |to: &str, kind: Option<&str>| json!({ "pkg": to, "dep_kinds": [{ "kind": kind }] });
        serde_json::from_value(json!({
            "packages": [package("p", None), package("a", Some("r")), package("b", Some("r")), package("t", Some("r"))],
            "resolve": { "nodes": [
                { "id": "p", "deps": [dep("a", None), dep("t", Some("dev"))] },
                { "id": "a", "deps": [dep("b", Some("build"))] },
                { "id": "b", "deps": [] },
                { "id": "t", "deps": [] },
            ] },
        }))
        .unwrap()
    }

    #[test]
    fn what_only_tests_need_is_no_component_and_what_builds_it_is() {
        let bom = bom(&metadata(), &checksums(LOCK), "p").unwrap();
        let named = |at: &str| {
            let list = bom.pointer(at).and_then(Value::as_array).unwrap();
            list.iter().map(|one| one["name"].as_str().unwrap_or_default()).collect::<Vec<_>>()
        };
        assert_eq!(named("/components"), ["a", "b"]);
        assert_eq!(bom.pointer("/components/0/hashes/0/content"), Some(&json!("00ff")));
        let licence = bom.pointer("/components/0/licenses/0/expression");
        assert_eq!(licence, Some(&json!("MIT OR Apache-2.0")));
        assert_eq!(bom.pointer("/dependencies/0/dependsOn/0"), Some(&json!("pkg:cargo/b@1.0.0")));
        assert!(super::bom(&metadata(), &BTreeMap::new(), "q").is_err());
    }

    #[test]
    fn the_same_tree_gives_the_same_number_and_another_one_another() {
        let one = serial(b"one");
        assert_eq!(one, serial(b"one"));
        assert_ne!(one, serial(b"two"));
        assert_eq!(one.len(), "urn:uuid:".len() + 36);
    }
}
