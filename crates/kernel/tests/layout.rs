//! The mirrors of `bpf/moat.h` against the BTF of the compiled objects, read by bpftool.
#![cfg(feature = "bpf")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::process::Command;

use moat_kernel::{layout, object};
use serde_json::Value;

/// Structures of an object: size, and members with offset and size in bytes.
type Structures = BTreeMap<String, (usize, Vec<(String, usize, usize)>)>;

fn structures(object: &[u8]) -> Structures {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), object).unwrap();
    let out = Command::new("bpftool")
        .args(["--json", "btf", "dump", "file"])
        .arg(file.path())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let json: Value = serde_json::from_slice(&out.stdout).unwrap();
    let types: BTreeMap<u64, &Value> =
        json["types"].as_array().unwrap().iter().map(|t| (t["id"].as_u64().unwrap(), t)).collect();
    let structures = types.values().filter(|t| t["kind"] == "STRUCT" && t["name"] != "(anon)");
    structures
        .map(|t| {
            let members = t["members"].as_array().unwrap().iter().map(|member| {
                let name = member["name"].as_str().unwrap().to_owned();
                let offset = member["bits_offset"].as_u64().unwrap() as usize / 8;
                (name, offset, size_of(&types, member["type_id"].as_u64().unwrap()))
            });
            let size = t["size"].as_u64().unwrap() as usize;
            (t["name"].as_str().unwrap().to_owned(), (size, members.collect()))
        })
        .collect()
}

fn size_of(types: &BTreeMap<u64, &Value>, id: u64) -> usize {
    let t = types[&id];
    match t["kind"].as_str().unwrap() {
        "ARRAY" => {
            t["nr_elems"].as_u64().unwrap() as usize
                * size_of(types, t["type_id"].as_u64().unwrap())
        }
        "PTR" => 8,
        "INT" | "STRUCT" | "UNION" | "ENUM" => t["size"].as_u64().unwrap() as usize,
        _ => size_of(types, t["type_id"].as_u64().unwrap()),
    }
}

#[test]
fn every_structure_is_the_same_on_both_sides() {
    if !support::has_program("bpftool") {
        return;
    }
    let mut in_c = Structures::new();
    for (_, bytes) in object::ALL {
        in_c.extend(structures(bytes));
    }
    for (name, size, members) in layout::ALL {
        let members: Vec<(String, usize, usize)> =
            members.iter().map(|(name, at, size)| ((*name).to_owned(), *at, *size)).collect();
        let found = in_c.get(*name).unwrap_or_else(|| panic!("{name} is in no object's BTF"));
        assert_eq!(found, &(*size, members), "{name}");
    }
}
