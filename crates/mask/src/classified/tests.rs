use super::*;
use crate::Classify;

#[derive(Classify)]
struct Entry {
    #[class(C1)]
    at: Classified<String>,
    #[class(C2, mask = "fixed")]
    amount: Classified<i64>,
}

#[derive(Classify)]
struct Login {
    #[class(C3)]
    password: Classified<String>,
    #[class(SAD, mask = "fixed", name = "pinBlock")]
    pin_block: Classified<Option<String>>,
}

#[derive(Classify)]
struct Account {
    #[class(C1)]
    id: Classified<u64>,
    #[class(PAN)]
    card: Classified<String>,
    #[class(nested)]
    entries: Vec<Entry>,
    #[class(nested, SAD)]
    login: Option<Login>,
    #[class(C2, mask = "mobile")]
    mobile: Classified<Option<String>>,
}

fn account() -> Account {
    let text = |text: &str| Classified::new(text.to_owned());
    Account {
        id: Classified::new(7),
        card: text("4111111111111111"),
        entries: vec![
            Entry { at: text("now"), amount: Classified::new(-5) },
            Entry { at: text("\"then\"\n"), amount: Classified::new(i64::MAX) },
        ],
        login: Some(Login {
            password: text("hunter2"),
            pin_block: Classified::new(Some("0123".into())),
        }),
        mobile: Classified::new(Some("13800138000".into())),
    }
}

fn client(plan: &TypePlan, account: &Account) -> String {
    let mut out = Vec::new();
    plan.client(account, &mut out);
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn each_view_shows_what_its_class_allows() {
    let (plan, account) = (TypePlan::of::<Account>(), account());
    assert_eq!(
        client(&plan, &account),
        r#"{"id":7,"card":"411111******1111","entries":[{"at":"now","amount":"***"},{"at":"\"then\"\u000a","amount":"***"}],"login":{"pinBlock":"******"},"mobile":"138****8000"}"#
    );
    let mut out = Vec::new();
    plan.upstream(&account, &mut out);
    let clear: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
    assert_eq!(clear["login"]["password"], "hunter2");
    assert_eq!(clear["entries"][1]["amount"], i64::MAX);

    let mut audit = Vec::new();
    plan.audit(&account, &mut |pointer, class, view, value| {
        audit.push((pointer.to_owned(), class, view, value.as_text().map(str::to_owned)));
    });
    let seen = |pointer: &str| audit.iter().find(|row| row.0 == pointer).expect(pointer);
    assert!(seen("/id").2 == AuditView::Clear("7".into()));
    assert!(seen("/card").2 == AuditView::AnchorOnly);
    assert!(seen("/entries/1/amount").2 == AuditView::MaskedAndAnchored("***".into()));
    assert!(seen("/login/password").2 == AuditView::AnchorOnly);
    assert!(seen("/login/pinBlock").2 == AuditView::Nothing);
    assert_eq!(seen("/login/pinBlock").3, None, "SAD is not even handed to an anchor");

    let mut policy = Vec::new();
    plan.policy(&account, &["/mobile"], &mut |pointer, view| {
        policy.push((pointer.to_owned(), format!("{view:?}")));
    });
    let seen = |pointer: &str| &policy.iter().find(|row| row.0 == pointer).expect(pointer).1;
    assert_eq!(seen("/mobile"), "Value(..)");
    assert_eq!(seen("/card"), "Card(..)");
    assert_eq!(seen("/entries/0/amount"), "Present");
    assert_eq!(seen("/login/password"), "Present");
}

#[test]
fn plans_change_what_is_shown_and_never_beyond_the_class() {
    let account = account();
    let plan = TypePlan::of::<Account>().revealing("/mobile").expect("C2 may be revealed");
    let plan = plan.with("/card", "bank_card_strict".parse().expect("known")).expect("allowed");
    let plan = plan.with("/entries/*/amount", Strategy::Drop).expect("allowed");
    let shown = client(&plan, &account);
    assert!(shown.contains("13800138000") && shown.contains("************1111"));
    assert!(!shown.contains("amount"));
    for pointer in ["/card", "/login/password", "/login/pinBlock"] {
        let error = TypePlan::of::<Account>().revealing(pointer).map(|_| ()).expect_err(pointer);
        assert!(matches!(error, PlanError::NeverRevealed { .. }));
        assert!(TypePlan::of::<Account>().with(pointer, Strategy::MOBILE).is_err());
    }
    assert!(TypePlan::of::<Account>().revealing("/nothing").is_err());
}

#[test]
fn what_is_absent_is_null_and_values_compare_without_being_seen() {
    let mut account = account();
    account.mobile = Classified::new(None);
    account.login = None;
    assert!(
        client(&TypePlan::of::<Account>(), &account).ends_with(r#""login":null,"mobile":null}"#)
    );
    let text = |text: &str| Classified::new(text.to_owned());
    assert!(text("a").is_same(&text("a")) && !text("a").is_same(&text("b")));
    assert!(!text("a").is_same(&text("aa")) && text("").is_same(&text("")));
}

/// The macro's table says of every mask what the strategy itself says.
#[test]
fn masks_that_compile_are_those_that_a_plan_allows() {
    for (name, strategy) in crate::strategy::names() {
        for class in Class::ALL {
            assert_eq!(may_show(class, name), strategy.allowed_for(class), "{name} {class}");
        }
    }
    assert!(!may_show(Class::C1, "") && !may_show(Class::C1, "md5"));
    assert_eq!(strictest(&[Class::C1, Class::Pan, Class::C2]), Class::Pan);
    assert_eq!(<Account as Classify>::HIGHEST, Class::Sad);
    assert_eq!(<Account as Classify>::COUNT, TypePlan::of::<Account>().rows().len());
}
