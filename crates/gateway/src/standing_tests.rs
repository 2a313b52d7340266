use super::*;

fn limit(cost: u64, most: u64, per_ms: u64) -> [Limit; 1] {
    [Limit { name: "out".to_owned(), cost, most, per_ms }]
}

fn token(id: &str, issued_s: u64) -> Token {
    Token {
        issuer: "i".to_owned(),
        subject: "s".to_owned(),
        acr: String::new(),
        amr: Vec::new(),
        auth_s: None,
        issued_s: Some(issued_s),
        expires_s: issued_s + 60,
        id: (!id.is_empty()).then(|| id.to_owned()),
        claims: Vec::new(),
    }
}

#[test]
fn three_wrong_answers_within_five_minutes_are_too_many() {
    let standing = Standing::new(0);
    for at in [0, 200_000, 299_999] {
        assert!(!standing.is_struck_out("a", at));
        standing.strike("a", at);
    }
    assert!(standing.is_struck_out("a", 299_999));
    assert!(!standing.is_struck_out("b", 299_999));
    assert!(!standing.is_struck_out("a", 300_000), "the first no longer counts");
    standing.strike("a", 300_001);
    assert!(standing.is_struck_out("a", 300_001));
}

#[test]
fn strikers_are_bounded_and_the_latest_are_kept() {
    let standing = Standing::new(0);
    for at in 0..STRIKERS_MAX + 10 {
        for _ in 0..3 {
            standing.strike(&format!("caller-{at}"), at as u64);
        }
        assert!(lock(&standing.strikes).len() <= STRIKERS_MAX);
    }
    let now = (STRIKERS_MAX + 10) as u64;
    assert!(standing.is_struck_out(&format!("caller-{}", STRIKERS_MAX + 9), now));
    assert!(!standing.is_struck_out("caller-0", now));
}

#[test]
fn a_budget_is_never_overdrawn_within_any_window() {
    let standing = Standing::new(0);
    let (most, per_ms) = (10, 1_000);
    let mut taken: Vec<u64> = Vec::new();
    for now in (0..20_000).step_by(37) {
        if standing.spend("a", &limit(1, most, per_ms), now).is_ok() {
            taken.push(now);
        }
        let counted = taken.iter().filter(|at| **at / per_ms == now / per_ms).count();
        assert!(counted as u64 <= most, "at {now}");
    }
    assert!((100..=200).contains(&taken.len()), "{} of 541", taken.len());
    assert!(standing.spend("b", &limit(10, most, per_ms), 20_000).is_ok(), "another caller");
    let refused = standing.spend("b", &limit(1, most, per_ms), 20_000).unwrap_err();
    assert_eq!((refused.code, refused.reasons), (&OVER_BUDGET, vec!["budget:out".to_owned()]));
    assert!(standing.spend("c", &limit(u64::MAX, u64::MAX, 1), u64::MAX).is_ok());
    assert!(standing.spend("c", &limit(1, u64::MAX, 1), u64::MAX).is_err(), "no overflow");
}

#[test]
fn a_call_takes_from_all_its_budgets_or_from_none() {
    let standing = Standing::new(0);
    let two = |first: u64, second: u64| {
        let [one] = limit(first, 10, 1_000);
        [one.clone(), Limit { name: "in".to_owned(), cost: second, ..one }]
    };
    assert!(standing.spend("a", &two(1, 11), 0).is_err());
    assert!(standing.spend("a", &two(10, 10), 0).is_ok(), "nothing was taken before");
}

#[test]
fn budgets_are_bounded_and_old_ones_make_room() {
    let standing = Standing::new(0);
    for at in 0..BUDGETS_MAX {
        standing.spend(&format!("{at}"), &limit(1, 1, 1_000), 0).unwrap();
    }
    let refused = standing.spend("one more", &limit(1, 1, 1_000), 0).unwrap_err();
    assert_eq!(refused.code, &BUDGETS_FULL);
    assert!(standing.spend("one more", &limit(1, 1, 1_000), 2_000).is_ok());
}

#[test]
fn a_token_is_taken_once_and_only_if_it_can_be_known_as_new() {
    let standing = Standing::new(100);
    let code = |token: Token| standing.use_once(&token, 100).map_err(|refusal| refusal.code).err();
    assert_eq!(code(token("a", 100)), None);
    assert_eq!(code(token("a", 100)), Some(&TOKEN_REPLAYED));
    assert_eq!(code(token("b", 99)), Some(&TOKEN_NOT_ONCE), "from before the start");
    assert_eq!(code(token("", 100)), Some(&TOKEN_NOT_ONCE));
    assert_eq!(code(Token { issued_s: None, ..token("c", 100) }), Some(&TOKEN_NOT_ONCE));
    assert_eq!(code(Token { issuer: "j".to_owned(), ..token("a", 100) }), None, "another issuer");
}

#[test]
fn used_tokens_are_bounded_and_expired_ones_make_room() {
    let standing = Standing::new(0);
    for at in 0..TOKENS_MAX {
        standing.use_once(&token(&at.to_string(), 0), 0).unwrap();
    }
    assert_eq!(standing.use_once(&token("x", 0), 0).unwrap_err().code, &TOKENS_FULL);
    assert!(standing.use_once(&token("x", 100), 91).is_ok());
}
