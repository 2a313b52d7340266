use std::path::PathBuf;

use super::*;
use crate::metadata::Dependency;

fn package(name: &str, used: &[&str]) -> Package {
    let dependency = |name: &&str| Dependency { name: (*name).to_owned(), kind: None };
    Package {
        name: name.to_owned(),
        manifest_path: PathBuf::new(),
        dependencies: used.iter().map(dependency).collect(),
    }
}

#[test]
fn the_workspace_keeps_its_layers() {
    let found = check().expect("the tables in layers.rs hold");
    assert!(found.contains("crates"), "{found}");
}

#[test]
fn an_arrow_down_is_good_and_every_other_is_not() {
    assert_eq!(arrow("moat", "moat-model"), None);
    assert_eq!(arrow("moat-tls", "moat-identity"), None);
    assert_eq!(arrow("moat-config", "moat-mask"), None);
    assert_eq!(arrow("moat-accounts", "moat-mask"), None);
    for (user, used, word) in [
        ("moat-mask", "moat-config", "same layer"),
        ("moat-auditor", "moat-gateway", "same layer"),
        ("moat-model", "moat-audit", "points up"),
        ("moat-accounts", "moat-gateway", "role"),
        ("moat-gateway", "moat-accounts", "service"),
    ] {
        let wrong = arrow(user, used).unwrap_or_default();
        assert!(wrong.contains(word), "{user} -> {used}: {wrong}");
    }
}

#[test]
fn a_crate_of_no_layer_is_named() {
    let metadata = Metadata { packages: vec![package("moat-new", &[])] };
    assert_eq!(arrows(&metadata), ["moat-new: in no layer; add it to LAYERS or SERVICES"]);
}

#[test]
fn dev_dependencies_may_point_anywhere() {
    let mut user = package("moat-model", &["moat-net"]);
    let used = package("moat-net", &[]);
    let wrong = |user: &Package| arrows(&Metadata { packages: vec![user.clone(), used.clone()] });
    assert_eq!(wrong(&user).len(), 1);
    user.dependencies[0].kind = Some("dev".to_owned());
    assert!(wrong(&user).is_empty());
}

#[test]
fn a_reserved_dependency_has_its_users_and_no_other() {
    let good = package("moat-policy", &["regorus"]);
    let bad = package("moat-config", &["regorus"]);
    let wrong = reserved(&Metadata { packages: vec![good, bad] });
    assert_eq!(wrong.len(), 1);
    assert!(wrong[0].starts_with("moat-config -> regorus: only for moat-policy"), "{wrong:?}");
}

#[test]
fn lints_that_are_written_out_are_those_of_the_workspace() {
    let root = "[workspace.lints.rust]\nunsafe_code = \"forbid\"\n# why\nmissing_docs = \"warn\"\n";
    let good = "[lints.rust]\nunsafe_code = \"deny\"\nmissing_docs = \"warn\"\n";
    assert_eq!(lints_written_out("moat-new", root, good), Vec::<String>::new());
    for bad in [good.replace("deny", "allow"), good.replace("missing", "other"), String::new()] {
        assert_eq!(lints_written_out("moat-new", root, &bad).len(), 1, "{bad}");
    }
}

#[test]
fn every_name_in_the_tables_is_in_a_layer() {
    let users = RESERVED.iter().flat_map(|rule| rule.users);
    let beside = BESIDE.iter().flat_map(|(a, b, _)| [a, b]);
    for name in users.chain(beside).chain(LINKS_NONE_OF.iter().map(|(name, _, _)| name)) {
        assert!(layer(name).is_some() || SERVICES.contains(name), "{name}");
    }
}

#[test]
fn unsafe_is_counted_in_code_only() {
    let text =
        "// unsafe\nlet x = \"unsafe\";\n#![forbid(unsafe_code)]\nunsafe { f() } // unsafe\n";
    assert_eq!(unsafe_count::in_text(text), 1);
}
