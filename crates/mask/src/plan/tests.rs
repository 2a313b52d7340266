use super::*;

fn plan(patterns: &[&str]) -> Plan {
    let rules: Vec<Rule> = (0u16..)
        .zip(patterns)
        .map(|(id, text)| Rule::new(text.parse().expect(text), Class::C2).captured(id))
        .collect();
    Plan::compile(&rules).expect("plan")
}

/// The ids of the rules that match at a path.
fn at(plan: &Plan, path: &[&str]) -> Vec<u16> {
    let mut set = vec![0; plan.width()];
    plan.start(&mut set);
    for step in path {
        let mut next = vec![0; plan.width()];
        plan.down(&set, Down::Key(step.as_bytes()), &mut next);
        set = next;
    }
    plan.capture_ids(&set)
}

#[test]
fn steps_wildcards_and_depths_match_as_they_should() {
    let plan = plan(&["/a/b", "/a/*", "/**/b", "/a/**/c", "/**", ""]);
    assert_eq!(at(&plan, &[]), [4, 5]);
    assert_eq!(at(&plan, &["a"]), [4, 5]);
    assert_eq!(at(&plan, &["A", "B"]), [0, 1, 2, 4, 5]);
    assert_eq!(at(&plan, &["b"]), [2, 4, 5]);
    assert_eq!(at(&plan, &["x", "y", "b"]), [2, 4, 5]);
    assert_eq!(at(&plan, &["a", "c"]), [1, 3, 4, 5]);
    assert_eq!(at(&plan, &["a", "x", "y", "c", "z"]), [1, 3, 4, 5]);
}

#[test]
fn sets_wider_than_a_word_carry_over() {
    let texts: Vec<String> = (0..40).map(|n| format!("/**/k{n}/*/end")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let plan = plan(&texts);
    assert!(plan.width() > 2);
    for n in 0..40u16 {
        let key = format!("k{n}");
        assert_eq!(at(&plan, &["x", &key, "y", "END"]), [n]);
        assert_eq!(at(&plan, &["x", &key, "END"]), [0u16; 0]);
    }
}

#[test]
fn array_indexes_are_steps_like_any_other() {
    let plan = plan(&["/list/10/x"]);
    let mut sets = [vec![0; 1], vec![0; 1], vec![0; 1]];
    plan.start(&mut sets[0]);
    let (from, to) = sets.split_at_mut(1);
    assert!(plan.down(&from[0], Down::Key(b"list"), &mut to[0]));
    let mut out = vec![0; 1];
    assert!(plan.down(&to[0], Down::Index(10), &mut out));
    assert!(!plan.down(&to[0], Down::Index(1), &mut out));
    assert_eq!(Digits::default().of(u64::MAX), u64::MAX.to_string().as_bytes());
    assert_eq!(Digits::default().of(0), b"0");
}

#[test]
fn the_strictest_rule_decides_and_its_class_bounds_what_is_shown() {
    let rule = |class, strategy| Rule { strategy, ..Rule::new("/a".parse().expect("a"), class) };
    let action = |rules: &[Rule]| {
        let plan = Plan::compile(rules).expect("plan");
        let (mut start, mut next) = (vec![0; 1], vec![0; 1]);
        plan.start(&mut start);
        plan.down(&start, Down::Key(b"a"), &mut next);
        plan.action(&next)
    };
    let keep = Strategy::KeepFirstLast { first: 9, last: 9 };
    let both = action(&[
        rule(Class::C2, Some(keep)),
        rule(Class::Pan, Some(Strategy::BANK_CARD)),
        rule(Class::C1, Some(Strategy::Drop)),
    ]);
    assert_eq!(both.shown, Some((Strategy::BANK_CARD, Class::Pan)));
    assert_eq!(both.class, Some(Class::Pan));
    let same = action(&[
        rule(Class::C2, Some(Strategy::NAME)),
        rule(Class::C2, Some(Strategy::Fixed)),
        rule(Class::C2, Some(Strategy::MOBILE)),
    ]);
    assert_eq!(same.shown, Some((Strategy::Fixed, Class::C2)));
    let bounded = action(&[rule(Class::C2, Some(keep)), rule(Class::C3, None)]);
    assert_eq!(bounded.shown, Some((Strategy::Fixed, Class::C3)));
}

#[test]
fn plans_that_are_too_big_or_too_open_are_refused() {
    let rule = Rule::new("/a".parse().expect("a"), Class::C3);
    assert_eq!(Plan::compile(&vec![rule.clone(); 257]).map(|_| ()), Err(PlanError::TooManyRules));
    let deep = Rule::new("/a".repeat(60).parse().expect("deep"), Class::C1);
    assert_eq!(Plan::compile(&vec![deep; 17]).map(|_| ()), Err(PlanError::TooManyStates));
    let error = Plan::compile(&[rule.masked(Strategy::MOBILE)]).map(|_| ()).expect_err("C3");
    assert_eq!(error.to_string(), "/a: `mobile` shows more than class C3 allows");
    assert_eq!(error.code().id, "MOAT-M021");
}
