//! `moat audit pack`: records with a proof of each, for somebody who has nothing else.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use moat_audit::hash::leaf_hash;
use moat_audit::pack::{LIST_FILE, Packed, RECORDS_MAX, encode_list};
use moat_audit::prove::{Proven, prove};
use moat_audit::search::leaves;
use moat_audit::store::Dir;
use moat_tlog::Sha256;
use moat_tlog::tree::Tree;

use crate::evidence::write;

/// Name of the policy file in a pack.
const POLICY_FILE: &str = "policy";

/// Which records.
pub(crate) struct Wanted<'a> {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) object: Option<&'a str>,
}

pub(crate) fn run(
    dir: &Path,
    wanted: &Wanted<'_>,
    policy: Option<&Path>,
    out: &Path,
) -> Result<ExitCode> {
    let store = Dir::new(dir);
    let seqs = choose(dir, wanted)?;
    if seqs.is_empty() {
        bail!("no record fits; nothing was written");
    }
    std::fs::create_dir(out)
        .with_context(|| format!("{} must be a folder that is not there yet", out.display()))?;
    let (mut records, mut origin) = (Vec::new(), String::new());
    for seq in seqs {
        let Proven { proof, entry } =
            prove(&store, seq).with_context(|| format!("record {seq} is not proven"))?;
        proof.signed().checkpoint().origin().clone_into(&mut origin);
        let hash = match &entry {
            Some(entry) => {
                write(&out.join(Packed::entry_file(seq)), entry)?;
                leaf_hash(entry)
            }
            None => hash_in_tiles(&store, &proof, seq)?,
        };
        write(&out.join(Packed::proof_file(seq)), proof.to_string().as_bytes())?;
        records.push(Packed { seq, hash, has_entry: entry.is_some() });
    }
    if let Some(policy) = policy {
        let bytes = std::fs::read(policy).with_context(|| policy.display().to_string())?;
        write(&out.join(POLICY_FILE), &bytes)?;
    }
    // Last, so that a pack that was not finished has none.
    write(&out.join(LIST_FILE), encode_list(&origin, &records).as_bytes())?;
    println!("{} records of {origin} in {}", records.len(), out.display());
    println!("check it with: moat-verify pack {} --policy FILE", out.display());
    Ok(ExitCode::SUCCESS)
}

/// The hash of a record that was removed, as the tiles have it: the proof is of that one.
fn hash_in_tiles(
    store: &Dir,
    proof: &moat_tlog::logproof::LogProof,
    seq: u64,
) -> Result<moat_tlog::Hash> {
    let size = proof.signed().checkpoint().size();
    let stored = moat_audit::tiles::Stored::new(store, size);
    let leaf = Tree::<Sha256, _>::new(size, stored).and_then(|mut tree| tree.leaf(seq));
    leaf.ok().with_context(|| format!("no tile has the hash of record {seq}"))
}

/// The records that are wanted; with an object those of it, and what its intents came to.
fn choose(dir: &Path, wanted: &Wanted<'_>) -> Result<BTreeSet<u64>> {
    let Wanted { from, to, object } = *wanted;
    let too_many = || format!("more than {RECORDS_MAX} records; take fewer");
    let Some(object) = object else {
        let count = to.checked_sub(from).context("--to is before --from")?;
        if usize::try_from(count).map_or(true, |count| count >= RECORDS_MAX) {
            bail!(too_many());
        }
        return Ok((from..=to).collect());
    };
    let mut chosen = BTreeSet::new();
    for found in leaves(dir)?.starting_at(from) {
        let leaf = found?.leaf;
        if leaf.head.seq > to.max(from) && to != from {
            break;
        }
        let is_outcome = leaf.body.intent_seq.is_some_and(|intent| chosen.contains(&intent));
        if leaf.body.object == object || is_outcome {
            chosen.insert(leaf.head.seq);
        }
        if chosen.len() > RECORDS_MAX {
            bail!(too_many());
        }
    }
    Ok(chosen)
}
