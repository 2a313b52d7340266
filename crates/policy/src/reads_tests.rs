use super::*;
use crate::BundleFile;

fn reads(module: &str) -> Option<Reads> {
    let file = BundleFile { path: "a.rego".to_owned(), bytes: module.as_bytes().into() };
    Reads::of(&Bundle::new(vec![file]).unwrap())
}

const HEAD: &str = "package authz\ndefault allow := false\n";

#[test]
fn what_a_bundle_reads_is_found_in_its_text() {
    let rule = "allow if { input.route == \"a\"; input.peer.spiffe == \"b\"; input.env == \"c\" }";
    let found = reads(&format!("{HEAD}{rule}")).unwrap();
    assert_eq!(Vec::from_iter(&found.top), ["env", "peer", "route"]);
    assert_eq!(Vec::from_iter(&found.peer), ["spiffe"]);
    // An index, an alias and a text come out as the whole of what stands before them.
    let found = reads(&format!("{HEAD}allow if input.peer[\"subject\"] == \"b\"")).unwrap();
    assert!(found.peer("subject") && found.peer("serial"));
    let found = reads(&format!("{HEAD}import input.body as body\nallow if body.x")).unwrap();
    assert!(found.top("body"));
    let found = reads(&format!("{HEAD}allow if input.peer.other == \"b\"")).unwrap();
    assert!(found.peer("subject") && found.peer("serial"));
    // A comment reads nothing; what looks like one may be the end of a raw string.
    assert!(reads(&format!("{HEAD}# the input as it came\nallow if input.a")).is_some());
    assert!(reads(&format!("{HEAD}allow if {{ x := `\n#` ; input == x }}")).is_none());
}

#[test]
fn what_was_left_out_is_needed_where_a_rule_names_it_or_what_holds_it() {
    let may = |rule: &str, path: &str| {
        let text = format!("{HEAD}{rule}");
        let file = BundleFile { path: "a.rego".to_owned(), bytes: text.into_bytes() };
        Bundle::new(vec![file]).unwrap().may_read(path)
    };
    for rule in [
        "allow if input.body.card == 1",
        "allow if input.body",
        "allow if input.body[\"card\"] == 1",
        "allow if { x := input; x.body.card }",
        "allow if input.body.card.number == 1",
    ] {
        assert!(may(rule, "body.card"), "{rule}");
    }
    for rule in ["allow if input.body.amount == 1", "allow if input.route == \"body.card\""] {
        assert!(!may(rule, "body.card"), "{rule}");
    }
}
