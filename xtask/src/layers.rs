//! `cargo xtask layers`: dependencies point down, and heavy ones have few users.
//!
//! The rules are the tables below; the checks are also this package's tests.

use std::fs;

use anyhow::{Result, bail};

use crate::metadata::{Metadata, Package};
use crate::{metadata, progress, shell};

mod unsafe_count;

#[cfg(test)]
mod tests;

/// Check that dependencies between our crates point down only.
///
/// Also checks who may use the TLS library, the policy engine and the sandbox; that the formats
/// of the audit log need no async runtime; and that every crate forbids unsafe code, or has it in
/// a few modules for a reason. What is allowed is written as tables in xtask/src/layers.rs, with
/// reasons.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Our crates, from the programs at the top down to the words everybody shares. A crate may use
/// those of lower layers.
const LAYERS: &[&[&str]] = &[
    &["moat", "moat-verify", "moat-hsm"],
    &["moat-gateway", "moat-auditor", "moat-admin", "moat-witness", "moat-kernel"],
    &["moat-net"],
    &[
        "moat-config",
        "moat-tls",
        "moat-policy",
        "moat-mask",
        "moat-message",
        "moat-audit",
        "moat-ca",
        "moat-rpc",
    ],
    &["moat-identity", "moat-tlog"],
    &["moat-model", "moat-sm", "moat-heap", "moat-mask-derive"],
];

/// Pairs within one layer that are allowed all the same: user, used, reason.
const BESIDE: &[(&str, &str, &str)] = &[
    ("moat-config", "moat-mask", "the strategies that a configuration names are parsed there"),
    ("moat-config", "moat-message", "the specs that a configuration names are checked there"),
    ("moat-message", "moat-mask", "what may be shown of a card is decided there"),
    ("moat-message", "moat-audit", "one value has one canonical form, in every format"),
];

/// Services behind the gateway. They may use any crate but programs and roles.
const SERVICES: &[&str] = &["moat-accounts", "moat-switch"];
/// Layers closed to services: programs and roles.
const LAYERS_CLOSED_TO_SERVICES: usize = 2;

/// Members that use none of our crates and are used by none.
const APART: &[&str] = &["xtask"];

/// A dependency with few users.
struct Reserved {
    dependency: &'static str,
    users: &'static [&'static str],
    why: &'static str,
}

const RESERVED: &[Reserved] = &[
    Reserved {
        dependency: "rustls",
        users: &["moat-tls", "moat-net", "moat-gateway", "moat", "moat-accounts", "moat-switch"],
        why: "whoever configures TLS can weaken it",
    },
    Reserved {
        dependency: "regorus",
        users: &["moat-policy"],
        why: "the engine stands behind one typed question",
    },
    Reserved {
        dependency: "prost",
        users: &["moat-rpc", "moat-accounts"],
        why: "messages of others are read and written in one place",
    },
    Reserved {
        dependency: "aya",
        users: &["moat-kernel"],
        why: "what the kernel is told to run is written in one place",
    },
    Reserved {
        dependency: "landlock",
        users: &["moat-kernel"],
        why: "what a role may do is written in one place",
    },
    Reserved {
        dependency: "seccompiler",
        users: &["moat-kernel"],
        why: "what a role may do is written in one place",
    },
];

/// Members with `unsafe` in modules of their own, and why. Their lints are the workspace's, written
/// out, with `deny` in place of `forbid` for this one, so that each such module must ask for it.
const UNSAFE_MODULES: &[(&str, &str)] = &[
    ("moat-sm", "vector instructions, without which the ciphers are ten times slower"),
    ("moat-heap", "an allocator around another, whose trait is unsafe"),
    ("moat-mask", "vector loads of the scanner, without which masking is several times slower"),
];

/// Trees that must not hold a crate: package, what it must not link, reason. Without features.
const LINKS_NONE_OF: &[(&str, &[&str], &str)] = &[
    (
        "moat-audit",
        &["tokio", "rustls", "hyper"],
        "an offline verifier links it, and links no runtime and no TLS",
    ),
    (
        "moat-sm",
        &["tokio", "rustls", "aws-lc-rs", "rand", "getrandom"],
        "the primitives stand alone: no runtime, no TLS, no source of randomness",
    ),
    (
        "moat-tlog",
        &["tokio", "rustls", "aws-lc-rs", "hyper"],
        "an offline verifier links it, and brings the arithmetic of signatures itself",
    ),
    (
        "moat-message",
        &["tokio", "rustls", "aws-lc-rs", "hyper"],
        "views of messages are functions of their bytes: no runtime, no TLS",
    ),
    (
        "moat-rpc",
        &["tokio", "rustls", "aws-lc-rs", "hyper"],
        "messages are functions of their bytes: no runtime, no TLS",
    ),
    (
        "moat-verify",
        &["tokio", "rustls", "aws-lc-rs", "hyper"],
        "an offline verifier is small and links no runtime and no TLS",
    ),
];

/// The task.
pub(crate) fn run(_: &Args) -> Result<()> {
    let mut steps = progress::Steps::new(1);
    let done = steps.step("layers", check);
    steps.summary();
    done
}

/// The work, also of `ci`. Returns what was looked at.
pub(crate) fn check() -> Result<String> {
    let metadata = metadata::read()?;
    let mut wrong = arrows(&metadata);
    wrong.extend(reserved(&metadata));
    wrong.extend(lints(&metadata)?);
    wrong.extend(trees(&metadata)?);
    for line in &wrong {
        println!("{line}");
    }
    if !wrong.is_empty() {
        bail!("{} dependencies or lints are not as xtask/src/layers.rs has them", wrong.len());
    }
    let counts = unsafe_count::in_crates(&metadata)?;
    let total: usize = counts.iter().map(|(_, count)| count).sum();
    for (name, count) in counts.iter().filter(|(_, count)| *count > 0) {
        println!("{name}: `unsafe` {count} times");
    }
    Ok(format!("{} crates, `unsafe` {total} times", metadata.packages.len()))
}

/// Dependencies that do not point down.
fn arrows(metadata: &Metadata) -> Vec<String> {
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        if APART.contains(&package.name.as_str()) {
            continue;
        }
        if layer(&package.name).is_none() && !SERVICES.contains(&package.name.as_str()) {
            wrong.push(format!("{}: in no layer; add it to LAYERS or SERVICES", package.name));
            continue;
        }
        let ours = package.normal().filter(|used| is_ours(metadata, &used.name));
        wrong.extend(ours.filter_map(|used| arrow(&package.name, &used.name)));
    }
    wrong
}

fn is_ours(metadata: &Metadata, name: &str) -> bool {
    metadata.packages.iter().any(|package| package.name == name)
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

/// Why `user` must not use `used`, if it must not.
fn arrow(user: &str, used: &str) -> Option<String> {
    let Some(below) = layer(used) else {
        return Some(format!("{user} -> {used}: a service or tool, which no crate may use"));
    };
    let Some(above) = layer(user) else {
        let closed = below < LAYERS_CLOSED_TO_SERVICES;
        return closed.then(|| format!("{user} -> {used}: a service must not use a role"));
    };
    let beside = BESIDE.iter().any(|(a, b, _)| (*a, *b) == (user, used));
    match above.cmp(&below) {
        std::cmp::Ordering::Less => None,
        std::cmp::Ordering::Equal if beside => None,
        std::cmp::Ordering::Equal => Some(format!(
            "{user} -> {used}: in the same layer; if it has to be, add it to BESIDE with a reason"
        )),
        std::cmp::Ordering::Greater => Some(format!("{user} -> {used}: points up")),
    }
}

/// Uses of a reserved dependency by others.
fn reserved(metadata: &Metadata) -> Vec<String> {
    let uses = metadata
        .packages
        .iter()
        .flat_map(|package| package.normal().map(move |used| (&package.name, &used.name)));
    uses.filter_map(|(user, used)| {
        let rule = RESERVED.iter().find(|rule| rule.dependency == used)?;
        let allowed = rule.users.contains(&user.as_str());
        (!allowed)
            .then(|| format!("{user} -> {used}: only for {}: {}", rule.users.join(", "), rule.why))
    })
    .collect()
}

/// Members that do not take over the workspace's lints, of which `unsafe_code` is forbidden.
fn lints(metadata: &Metadata) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let root = fs::read_to_string(shell::root().join("Cargo.toml"))?;
    if section(&root, "[workspace.lints.rust]").all(|line| line != r#"unsafe_code = "forbid""#) {
        wrong.push(r#"Cargo.toml: [workspace.lints.rust] lacks unsafe_code = "forbid""#.to_owned());
    }
    for Package { name, manifest_path, .. } in &metadata.packages {
        let manifest = fs::read_to_string(manifest_path)?;
        if UNSAFE_MODULES.iter().any(|(with, _)| with == name) {
            wrong.extend(lints_written_out(name, &root, &manifest));
        } else if section(&manifest, "[lints]").all(|line| line != "workspace = true") {
            wrong.push(format!("{name}: its Cargo.toml lacks [lints] workspace = true"));
        }
    }
    Ok(wrong)
}

/// What differs between the workspace's lints and those of a member that writes them out.
fn lints_written_out(name: &str, root: &str, manifest: &str) -> Vec<String> {
    let lines = |text: &str, title: &str| -> Vec<String> {
        let lines = section(text, title).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines
            .map(|line| line.replace(r#"unsafe_code = "forbid""#, r#"unsafe_code = "deny""#))
            .collect()
    };
    ["rust", "clippy"]
        .into_iter()
        .filter(|tool| {
            let ours = lines(manifest, &format!("[lints.{tool}]"));
            ours != lines(root, &format!("[workspace.lints.{tool}]"))
        })
        .map(|tool| format!("{name}: [lints.{tool}] is not the workspace's but for unsafe_code"))
        .collect()
}

/// The lines of one section of a manifest.
fn section<'a>(manifest: &'a str, title: &'a str) -> impl Iterator<Item = &'a str> {
    let from_title = manifest.lines().map(str::trim).skip_while(move |line| *line != title);
    from_title.skip(1).take_while(|line| !line.starts_with('['))
}

/// What stands in a tree that must not.
fn trees(metadata: &Metadata) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (package, banned, why) in LINKS_NONE_OF {
        if !is_ours(metadata, package) {
            continue;
        }
        let args = ["tree", "--edges", "normal", "--prefix", "none", "--format", "{lib}"];
        let mut cargo = shell::cargo(&args);
        cargo.args(["--no-default-features", "--offline", "--package", package]);
        let tree = shell::output(&mut cargo)?.replace('_', "-");
        let found = banned.iter().filter(|banned| tree.lines().any(|line| line == **banned));
        wrong.extend(found.map(|found| format!("{package} links {found}: {why}")));
    }
    Ok(wrong)
}
