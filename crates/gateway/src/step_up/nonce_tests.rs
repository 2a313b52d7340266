use super::*;

const BOUND: Bound<'static> = Bound {
    certificate: &[1; 32],
    exporter: &[2; 32],
    method: "POST",
    target_uri: "https://gateway.test/pay",
    body: &[3; 32],
};

fn keys() -> Keys {
    Keys::new(0).unwrap()
}

#[test]
fn a_nonce_is_good_once_and_for_a_minute() {
    let mut keys = keys();
    let (nonce, decision) = keys.make(BOUND, 1_000).unwrap();
    let mut used = UsedNonces::default();
    assert_eq!(keys.take(&nonce, BOUND, &mut used, 61_001), Err(Bad::Expired));
    assert_eq!(keys.take(&nonce, BOUND, &mut used, 999), Err(Bad::Forged), "from the future");
    let taken = keys.take(&nonce, BOUND, &mut used, 61_000);
    assert_eq!(taken, Ok(Used { decision, age_ms: 60_000 }));
    assert_eq!(keys.take(&nonce, BOUND, &mut used, 1_001), Err(Bad::Replayed));
}

#[test]
fn a_nonce_is_good_for_nothing_else() {
    let mut keys = keys();
    let (nonce, _) = keys.make(BOUND, 5).unwrap();
    let mut used = UsedNonces::default();
    for (other, what) in [
        (Bound { certificate: &[9; 32], ..BOUND }, "another caller"),
        (Bound { exporter: &[9; 32], ..BOUND }, "another connection"),
        (Bound { method: "PUT", ..BOUND }, "another method"),
        (Bound { target_uri: "https://gateway.test/pay2", ..BOUND }, "another target"),
        (Bound { body: &[9; 32], ..BOUND }, "another body"),
    ] {
        assert_eq!(keys.take(&nonce, other, &mut used, 6), Err(Bad::Forged), "{what}");
    }
    let stranger = Keys::new(0).unwrap();
    assert_eq!(stranger.take(&nonce, BOUND, &mut used, 6), Err(Bad::Forged), "another worker");
    assert!(keys.take(&nonce, BOUND, &mut used, 6).is_ok(), "and none of these has used it up");
}

#[test]
fn every_changed_bit_and_every_cut_is_forged() {
    let mut keys = keys();
    let (nonce, _) = keys.make(BOUND, 5).unwrap();
    let bytes = BASE64URL_NOPAD.decode(nonce.as_bytes()).unwrap();
    let take = |bytes: &[u8]| {
        keys.take(&BASE64URL_NOPAD.encode(bytes), BOUND, &mut UsedNonces::default(), 6)
    };
    for at in 0..bytes.len() {
        assert!(take(&bytes[..at]).is_err(), "cut at {at}");
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            assert!(take(&flipped).is_err(), "byte {at} bit {bit}");
        }
    }
    assert!(take(&[bytes.as_slice(), &[0]].concat()).is_err());
    for text in ["", "=", "!", &format!("{nonce}=")] {
        let taken = keys.take(text, BOUND, &mut UsedNonces::default(), 6);
        assert_eq!(taken, Err(Bad::Forged), "{text}");
    }
}

#[test]
fn keys_are_changed_each_hour_and_the_one_before_still_verifies() {
    let mut keys = keys();
    let (first, _) = keys.make(BOUND, KEY_MS - 1).unwrap();
    let (second, _) = keys.make(BOUND, KEY_MS).unwrap();
    assert_eq!(keys.current.0, 2);
    let mut used = UsedNonces::default();
    assert!(keys.take(&first, BOUND, &mut used, KEY_MS + 1).is_ok());
    assert!(keys.take(&second, BOUND, &mut used, KEY_MS + 1).is_ok());
    keys.make(BOUND, 2 * KEY_MS).unwrap();
    assert_eq!(keys.take(&first, BOUND, &mut used, 2 * KEY_MS), Err(Bad::Expired));
}

#[test]
fn a_connection_remembers_so_many_and_refuses_what_it_cannot_remember() {
    let mut keys = keys();
    let mut used = UsedNonces::default();
    for at in 0..USED_MAX {
        let (nonce, _) = keys.make(BOUND, 10).unwrap();
        assert!(keys.take(&nonce, BOUND, &mut used, 10).is_ok(), "{at}");
    }
    let (one_more, _) = keys.make(BOUND, 10).unwrap();
    assert_eq!(keys.take(&one_more, BOUND, &mut used, 10), Err(Bad::Replayed));
    let (later, _) = keys.make(BOUND, 11 + LIFE_MS).unwrap();
    assert!(keys.take(&later, BOUND, &mut used, 11 + LIFE_MS).is_ok(), "old ones make room");
    assert_eq!(used.0.len(), 1);
}
