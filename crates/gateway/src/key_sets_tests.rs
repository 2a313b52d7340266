use super::*;

const SET: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

fn raw(keep_ms: u64) -> KeyUrl {
    let authority = moat_ca::Authority::create("Test", 1_700_000_000).unwrap();
    KeyUrl {
        place: Place::Address(([127, 0, 0, 1], 1).into()),
        path: "/jwks.json".to_owned(),
        trust_pem: authority.trust_pem().into(),
        refresh_ms: 60_000,
        keep_ms,
    }
}

#[test]
fn a_set_that_is_too_old_is_none() {
    let set = KeySet::new(&raw(1_000)).unwrap();
    let now = Instant::now();
    assert!(set.keys(now).is_none() && set.version() == 0);
    set.take(moat_identity::read_keys(SET.as_bytes()).unwrap());
    assert_eq!((set.keys(now).unwrap().len(), set.version()), (1, 1));
    assert!(set.keys(now + Duration::from_secs(5)).is_none());
}

#[test]
fn generations_that_name_the_same_place_share_a_set() {
    let (sets, one) = (KeySets::default(), raw(1_000));
    let first = sets.set(&one).unwrap();
    assert!(Arc::ptr_eq(&first, &sets.set(&one).unwrap()));
    let other = sets.set(&KeyUrl { keep_ms: 2_000, ..one.clone() }).unwrap();
    assert!(!Arc::ptr_eq(&first, &other));
    drop(first);
    assert!(sets.set(&one).unwrap().keys(Instant::now()).is_none(), "begun anew");
}

#[tokio::test]
async fn calls_ask_for_a_key_that_is_missing_and_not_too_often() {
    let set = Arc::new(KeySet::new(&raw(1_000)).unwrap());
    let own = Arc::clone(&set);
    let upkeep = tokio::spawn(async move {
        own.wanted.notified().await;
        own.take(moat_identity::read_keys(SET.as_bytes()).unwrap());
        own.wanted.notified().await;
    });
    set.ask_for("k1").await;
    assert_eq!(set.version(), 1);
    let begun = Instant::now();
    set.ask_for("k1").await;
    set.ask_for("made-up").await;
    assert!(begun.elapsed() < WAIT, "there is nothing to wait for");
    assert!(!upkeep.is_finished(), "nobody was asked a second time");
    upkeep.abort();
}
