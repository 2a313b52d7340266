use super::*;
use crate::{Extractor, Rewriter, Rule};
use moat_model::Class;
use sha2::{Digest, Sha256};

fn plan(rules: &[(&str, Class, &str)]) -> Plan {
    let rules: Vec<Rule> = (0u16..)
        .zip(rules)
        .map(|(id, (pattern, class, strategy))| {
            let rule = Rule::new(pattern.parse().expect(pattern), *class).captured(id);
            match *strategy {
                "" => rule,
                name => rule.masked(name.parse().expect(name)),
            }
        })
        .collect();
    Plan::compile(&rules).expect("plan")
}

/// Rewrites in chunks of every size and checks that all give the same.
#[track_caller]
fn rewrite(plan: &Plan, text: &str) -> (String, Captures) {
    let mut whole = None;
    for size in (1..=text.len().min(40)).chain([text.len()]) {
        let mut rewriter = Rewriter::new(plan);
        let mut out = Vec::new();
        for chunk in text.as_bytes().chunks(size.max(1)) {
            rewriter.push(chunk, &mut out).expect("push");
        }
        let captures = rewriter.finish(&mut out).expect("finish");
        let out = String::from_utf8(out).expect("UTF-8");
        let first = whole.get_or_insert_with(|| (out.clone(), captures.clone()));
        assert_eq!(first.0, out, "chunks of {size}");
        assert_eq!(format!("{:?}", first.1), format!("{captures:?}"));
    }
    whole.expect("not empty")
}

#[track_caller]
fn check(rules: &[(&str, Class, &str)], text: &str, wanted: &str) {
    assert_eq!(rewrite(&plan(rules), text).0, wanted);
}

#[test]
fn what_no_rule_names_leaves_as_it_came() {
    let text = " { \"a\" : [ 1.50e+3 , -0 ,\t\"\\u00e9\\/\" , {} , [ ] ] ,\r\n\"b\":true } ";
    check(&[("/c", Class::C2, "fixed")], text, text);
    check(&[], text, text);
}

#[test]
fn keys_are_matched_after_unescaping_in_any_ascii_case_and_each_of_two() {
    check(
        &[("/pan", Class::Pan, "bank_card")],
        r#"{"\u0070an":"4111111111111111", "PAN" : "4111111111111111","pan":"x","pan ":"y"}"#,
        r#"{"\u0070an":"411111******1111", "PAN" : "411111******1111","pan":"***","pan ":"y"}"#,
    );
}

#[test]
fn matched_containers_are_masked_leaf_by_leaf() {
    check(
        &[("/a", Class::C2, "keep_first_n_last_m(1,1)")],
        r#"{"a":{"x":"secret","y":[123,true,null,{},"z"],"":[]},"b":"open"}"#,
        r#"{"a":{"x":"s****t","y":["1*3","***",null,{},"***"],"":[]},"b":"open"}"#,
    );
}

#[test]
fn dropped_members_take_the_right_comma_with_them() {
    let rules: &[(&str, Class, &str)] = &[("/d", Class::C3, "drop"), ("/l/*", Class::C2, "drop")];
    check(rules, r#"{"d":1}"#, "{}");
    check(rules, r#"{ "d" : 1 }"#, "{ }");
    check(rules, r#"{"d":{"a":[1,{}]},"b":2}"#, r#"{"b":2}"#);
    check(rules, r#"{"a":1 , "d" : "x" , "b":2}"#, r#"{"a":1  , "b":2}"#);
    check(rules, r#"{"a":1,"d":[[]]}"#, r#"{"a":1}"#);
    check(rules, r#"{"d":1,"D":2,"\u0064":3,"e":4,"d":5}"#, r#"{"e":4}"#);
    check(rules, r#"{"l":[1, "x" ,{"a":1}], "l":{}}"#, r#"{"l":[null, null ,null], "l":{}}"#);
    check(rules, "{ \n}", "{ \n}");
    check(&[("", Class::C3, "drop")], "[1,2] ", "null ");
    check(&[("/*", Class::C3, "drop")], r#"{"a":1,"b":{"c":[]}}"#, "{}");
    check(
        &[("/**/d", Class::C3, "drop")],
        r#"[{"d":1},{"a":{"d":2},"c":{"d":3,"e":4}}]"#,
        r#"[{},{"a":{},"c":{"e":4}}]"#,
    );
}

#[test]
fn long_keys_are_dropped_or_kept_without_being_held() {
    let key = "k".repeat(5000);
    let text = format!(r#"{{"{key}":1,"d":2,"{key}":3}}"#);
    check(&[("/d", Class::C3, "drop")], &text, &format!(r#"{{"{key}":1,"{key}":3}}"#));
    check(&[("/*", Class::C3, "drop")], &text, "{}");
    let spaces = " ".repeat(9000);
    let text = format!(r#"{{{spaces}"{}":1,{spaces}"d":2}}"#, "\\u006b".repeat(128));
    let (out, _) = rewrite(&plan(&[("/d", Class::C3, "drop")]), &text);
    assert_eq!(out.replace(' ', ""), text.replace(' ', "").replace(r#","d":2"#, ""));
    let (_, captures) = rewrite(&plan(&[("/*", Class::C1, "")]), &format!(r#"{{"{key}":1}}"#));
    assert_eq!(
        captures.first(0).map(|c| c.pointer.clone()),
        Some(format!("/{}…", "k".repeat(128)))
    );
}

#[test]
fn captures_carry_pointer_class_and_value() {
    let rules: &[(&str, Class, &str)] = &[
        ("/to/*", Class::C2, "fixed"),
        ("/**/account", Class::Pan, ""),
        ("/list", Class::C1, ""),
        ("/cvv", Class::Sad, "fixed"),
    ];
    let text = r#"{"to":{"Account":"62\u00320"},"list":[1.50,{"a/b~":null},false],"cvv":"123"}"#;
    let (out, captures) = rewrite(&plan(rules), text);
    assert_eq!(out, text.replace(r#""62\u00320""#, r#""***""#).replace(r#""123""#, r#""******""#));
    let seen: Vec<_> =
        captures.iter().map(|c| (c.id, c.pointer.as_str(), c.class, c.value.as_text())).collect();
    assert_eq!(
        seen,
        [
            (0, "/to/Account", Class::Pan, Some("6220")),
            (1, "/to/Account", Class::Pan, Some("6220")),
            (2, "/list/0", Class::C1, Some("1.50")),
            (2, "/list/1/a~1b~0", Class::C1, Some("null")),
            (2, "/list/2", Class::C1, Some("false")),
            (3, "/cvv", Class::Sad, None),
        ]
    );
    let debug = format!("{captures:?}");
    assert!(!debug.contains("6220") && !debug.contains("1.50") && debug.contains("/list/0"));
}

#[test]
fn a_captured_field_without_a_strategy_is_forwarded_and_a_dropped_one_still_captured() {
    let (out, captures) = rewrite(
        &plan(&[("/a", Class::C2, ""), ("/b", Class::C3, "drop")]),
        r#"{"a":"x","b":{"c":"y"}}"#,
    );
    assert_eq!(out, r#"{"a":"x"}"#);
    let seen: Vec<_> = captures.iter().map(|c| (c.pointer.as_str(), c.value.as_text())).collect();
    assert_eq!(seen, [("/a", Some("x")), ("/b/c", Some("y"))]);
}

#[test]
fn a_scalar_longer_than_the_bound_gets_the_fixed_mask_and_a_hash_of_the_whole() {
    for (length, long) in [(4096, false), (4097, true), (100_000, true)] {
        let value = "密".repeat(length / 3) + &"x".repeat(length % 3);
        let text = format!(r#"{{"a":"{value}","n":{}}}"#, "1".repeat(length));
        let rules: &[(&str, Class, &str)] =
            &[("/a", Class::C2, "keep_first_n_last_m(1,1)"), ("/n", Class::C1, "")];
        let mut rewriter = Rewriter::new(&plan(rules));
        let mut out = Vec::new();
        for chunk in text.as_bytes().chunks(777) {
            rewriter.push(chunk, &mut out).expect("push");
        }
        let captures = rewriter.finish(&mut out).expect("finish");
        let masked = String::from_utf8(out).expect("UTF-8");
        assert_eq!(masked.starts_with(r#"{"a":"***","n":111"#), long, "{length}");
        for (id, wanted) in [(0, value.clone()), (1, "1".repeat(length))] {
            match &captures.first(id).expect("captured").value {
                crate::Scalar::TooLong { len, sha256 } => {
                    assert!(long);
                    assert_eq!(*len, wanted.len() as u64);
                    assert_eq!(sha256[..], Sha256::digest(&wanted)[..]);
                }
                value => assert_eq!((value.as_text(), long), (Some(wanted.as_str()), false)),
            }
        }
    }
}

#[test]
fn anchors_are_shown_where_a_key_is_given_and_the_fixed_mask_elsewhere() {
    let plan = plan(&[("/pan", Class::Pan, "hash_anchor")]);
    let run = |rewriter: Rewriter| {
        let (mut rewriter, mut out) = (rewriter, Vec::new());
        rewriter.push(br#"{"pan":4111111111111111}"#, &mut out).expect("push");
        rewriter.finish(&mut out).expect("finish");
        String::from_utf8(out).expect("UTF-8")
    };
    assert_eq!(run(Rewriter::new(&plan)), r#"{"pan":"***"}"#);
    let anchors = |pointer: &str, class: Class, value: &crate::Scalar| {
        Some(format!("H:{pointer}:{class}:{}", value.as_text().map_or(0, str::len)))
    };
    let rewriter = Rewriter::new(&plan).with_keys(Arc::new(anchors));
    assert_eq!(run(rewriter), r#"{"pan":"H:/pan:PAN:16"}"#);
}

#[test]
fn masks_are_escaped_as_json() {
    check(
        &[("/a", Class::C2, "keep_first_n_last_m(3,2)")],
        r#"{"a":"\"\\\u0001middle\n\u0000"}"#,
        r#"{"a":"\"\\\u0001******\u000a\u0000"}"#,
    );
}

#[test]
fn bounds_are_kept_and_the_error_stays() {
    let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
    let empty = plan(&[]);
    assert_eq!(rewrite(&empty, &nested(64)).0, nested(64));
    let mut rewriter = Rewriter::new(&empty);
    let mut out = Vec::new();
    let error = rewriter.push(nested(65).as_bytes(), &mut out).expect_err("too deep");
    assert_eq!(error, MaskError::TooDeep { offset: 64 });
    assert_eq!(error.code().id, "MOAT-M002");
    assert_eq!(rewriter.push(b"", &mut out), Err(error));
    assert_eq!(rewriter.finish(&mut out).map(|_| ()), Err(error));

    let all = plan(&[("/*", Class::C1, "")]);
    let list = |count: usize| format!("[{}]", vec!["1"; count].join(","));
    assert_eq!(rewrite(&all, &list(256)).1.len(), 256);
    let error = Extractor::new(&all).push(list(257).as_bytes()).expect_err("too many");
    assert_eq!(error.code().id, "MOAT-M003");
}

#[test]
fn working_memory_stays_below_64_kib() {
    let mut rules: Vec<(&str, Class, &str)> = vec![("/**", Class::C2, "drop")];
    let long: Vec<String> = (0..15).map(|n| format!("/**/z{n}{}", "/*".repeat(61))).collect();
    rules.extend(long.iter().map(|text| (text.as_str(), Class::C1, "")));
    rules.push(("/**/deep/**", Class::C1, ""));
    rules.remove(0);
    let plan = plan(&rules);
    assert!(plan.width() >= 15);
    let mut machine = Machine::new(&plan, true);
    let key = "~".repeat(200);
    let text = format!(r#"{{"{key}":"#).repeat(64) + &format!("\"{}\"", "v".repeat(50_000));
    let mut out = Vec::new();
    for chunk in text.as_bytes().chunks(1000) {
        machine.push(chunk, &mut out).expect("push");
    }
    let bytes = size_of::<Machine>()
        + machine.levels.capacity() * size_of::<Level>()
        + machine.sets.capacity() * 8
        + machine.path.capacity()
        + machine.hold.capacity()
        + 2 * (4096 + 2)
        + 128;
    assert!(bytes <= 64 * 1024, "{bytes}");
    assert!(machine.path.len() >= 64 * 256, "{}", machine.path.len());
}
