use super::*;
use crate::tests::{engine, question};
use crate::{BodyValue, BundleFile};

const OLD: &str = "package authz\n\nallow contains \"small\" if input.body.amount < 100\n";

fn bundle(text: &str) -> Bundle {
    let file = BundleFile { path: "a.rego".to_owned(), bytes: text.as_bytes().into() };
    Bundle::new(vec![file]).unwrap()
}

fn kept(amount: i64, absent: &[String]) -> Kept {
    let body = [("/amount".to_owned(), BodyValue::Integer(amount))];
    let mut old = engine(&[("a.rego", OLD)]).unwrap();
    let question = question(&body, &[]);
    let decision = old.decide("authz", &question);
    let line = line(&question, "authz", old.digest(), "0af7", absent, &decision).unwrap();
    assert_eq!(line.matches('\t').count(), 1, "{line}");
    Kept::read(&line).unwrap()
}

#[test]
fn the_bundle_that_decided_gives_the_same_answer_again() {
    let mut old = engine(&[("a.rego", OLD)]).unwrap();
    for amount in [1, 99, 100, 1_000] {
        let kept = kept(amount, &[]);
        assert_eq!(kept.ask(&mut old), Ok(Again::Same), "{amount}");
        assert_eq!((kept.bundle.as_str(), kept.at_ms), (&**old.digest(), 1));
    }
}

#[test]
fn a_change_names_its_rule() {
    let cases = [
        // A new denial, an allowance whose condition fails now, one that is gone, and a new one.
        (format!("{OLD}\ndeny contains \"all\" if input.route\n"), 50, Some("a.rego:5")),
        (OLD.replace("< 100", "< 10"), 50, Some("a.rego:3")),
        ("package authz\n\nallow if input.body.amount < 10\n".to_owned(), 50, Some("a.rego:3")),
        (
            format!("{OLD}\nallow contains \"large\" if input.body.amount > 1\n"),
            500,
            Some("a.rego:5"),
        ),
    ];
    for (text, amount, place) in cases {
        let (new, kept) = (bundle(&text), kept(amount, &[]));
        let mut asked = engine(&[("a.rego", &text)]).unwrap();
        let Ok(Again::Changed(now)) = kept.ask(&mut asked) else { panic!("{text}") };
        let rule = rule_behind(&new, &kept, &now);
        assert_eq!(rule.map(|rule| rule.place).as_deref(), place, "{text}");
    }
}

#[test]
fn what_was_left_out_makes_undecidable_what_reads_it_and_nothing_else() {
    let absent = ["body.card".to_owned()];
    let ask = |rule: &str| {
        let text = format!("{OLD}\ndeny contains \"x\" if {rule}\n");
        kept(50, &absent).ask(&mut engine(&[("a.rego", &text)]).unwrap()).unwrap()
    };
    assert_eq!(ask("input.body.card == \"1\""), Again::Undecidable("body.card".to_owned()));
    assert_eq!(ask("not input.body.card"), Again::Undecidable("body.card".to_owned()));
    assert_eq!(ask("input.body.amount == 1"), Again::Same);
}

#[test]
fn lines_that_broke_off_are_no_decisions() {
    let body = [("/amount".to_owned(), BodyValue::Integer(1))];
    let mut old = engine(&[("a.rego", OLD)]).unwrap();
    let question = question(&body, &[]);
    let decision = old.decide("authz", &question);
    let line = line(&question, "authz", "d", "t", &[], &decision).unwrap();
    for end in 0..line.len() {
        let Some(part) = line.get(..end) else { continue };
        let read = Kept::read(part).and_then(|kept| kept.ask(&mut old));
        assert!(read.is_err(), "{part}");
    }
}
