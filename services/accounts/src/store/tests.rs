use super::*;
use crate::account::seed;
use proptest::prelude::*;

fn book() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("dir");
    let store = Store::open(&dir.path().join("book.redb")).expect("open");
    assert_eq!(store.add(&seed()).expect("seed"), 4);
    assert_eq!(store.add(&seed()).expect("seed again"), 0);
    (dir, store)
}

fn demand(from: &str, to: &str, minor: i64) -> Transfer {
    let amount = Money::from_minor(minor).expect("amount");
    Transfer { from: from.into(), to: to.into(), amount }
}

fn ruled(store: &Store, from: &str, to: &str, minor: i64) -> Ruling {
    match store.transfer(&demand(from, to, minor), None).expect("transfer") {
        Reply::Ruled(ruling) => ruling,
        Reply::KeyReused => panic!("no key was given"),
    }
}

#[test]
fn a_transfer_moves_money_by_account_or_card_or_says_why_not() {
    let (_dir, store) = book();
    let card = seed()[1].card.clone();
    let before = store.total_minor().expect("total");
    let Ruling::Done { transfer_id, balance_minor } = ruled(&store, "1001", &card, 10_000) else {
        panic!("refused");
    };
    assert_eq!((transfer_id.as_str(), balance_minor), ("t-000000000001", 977_650));
    assert_eq!(store.account("1002").expect("read").expect("there").balance_minor, 1_244_500);
    assert_eq!(ruled(&store, "9", "1001", 1), Ruling::UnknownPayer);
    assert_eq!(ruled(&store, "1001", "9", 1), Ruling::UnknownPayee);
    assert_eq!(ruled(&store, "1002", &card, 1), Ruling::SameAccount);
    assert_eq!(ruled(&store, "1004", "1001", 1), Ruling::InsufficientFunds);
    assert_eq!(store.total_minor().expect("total"), before);
}

#[test]
fn the_same_key_gives_the_same_answer_once_and_another_body_is_refused() {
    let (_dir, store) = book();
    let once = |digest| Once { key: "k".into(), digest: [digest; 32] };
    let first = store.transfer(&demand("1001", "1002", 5), Some(&once(1))).expect("first");
    let again = store.transfer(&demand("1001", "1002", 5), Some(&once(1))).expect("again");
    assert_eq!(first, again);
    let other = store.transfer(&demand("1001", "1002", 6), Some(&once(2))).expect("other");
    assert_eq!(other, Reply::KeyReused);
    assert_eq!(store.account("1001").expect("read").expect("there").balance_minor, 987_645);
}

#[test]
fn a_deposit_is_all_or_nothing_and_changes_are_told_in_order() {
    let (_dir, store) = book();
    let mut changes = store.watch();
    let entry = |id: &str, minor| (id.to_owned(), Money::from_minor(minor).expect("amount"));
    let total = store.deposit(&[entry("1004", 5), entry("1004", 6)]).expect("deposit");
    assert_eq!(total.map(Money::minor), Some(11));
    assert_eq!(store.deposit(&[entry("1004", 7), entry("nobody", 1)]).expect("deposit"), None);
    ruled(&store, "1004", "1003", 1);
    let seen: Vec<_> = std::iter::from_fn(|| changes.try_recv().ok()).collect();
    let seen: Vec<_> = seen.iter().map(|c| (c.id.as_str(), c.balance_minor, c.sequence)).collect();
    assert_eq!(seen, [("1004", 5, 1), ("1004", 11, 2), ("1004", 10, 3), ("1003", 50_001, 4)]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_sum_of_balances_is_constant_over_concurrent_transfers_and_reopening(
        moves in prop::collection::vec((0usize..4, 0usize..4, 1i64..2_000_000), 1..40),
    ) {
        let (dir, store) = book();
        let before = store.total_minor().expect("total");
        let ids = ["1001", "1002", "1003", "1004"];
        std::thread::scope(|scope| {
            for part in moves.chunks(moves.len().div_ceil(4)) {
                let store = &store;
                scope.spawn(move || {
                    for (from, to, minor) in part {
                        ruled(store, ids[*from], ids[*to], *minor);
                    }
                });
            }
        });
        prop_assert_eq!(store.total_minor().expect("total"), before);
        let balances = |store: &Store| ids.map(|id| {
            store.account(id).expect("read").expect("there").balance_minor
        });
        let last = balances(&store);
        prop_assert!(last.iter().all(|balance| *balance >= 0));
        // The file as a crash would leave it: copied while the store is open.
        let image = dir.path().join("image.redb");
        std::fs::copy(dir.path().join("book.redb"), &image).expect("copy");
        let crashed = Store::open(&image).expect("reopen");
        prop_assert_eq!(balances(&crashed), last);
    }
}
