//! Groups and suites as the operator orders them.

use moat_model::code::config::BAD_VALUE;

use super::wire::shake;
use super::{GATEWAY, World, material};
use crate::{ALPN_H2, Client, Keys, National, Order, Server};

fn keys(groups: &[&str], suites: &[&str]) -> Keys {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    Keys::with_order(Order::new(&owned(groups), &owned(suites)).unwrap())
}

/// Suite and group of a connection of the first kind of identity.
fn agreed(
    w: &World,
    kind: usize,
    server: &mut Keys,
    client: &mut Keys,
) -> (&'static str, &'static str) {
    let (own, theirs) = (material(&w.gateway[kind], &w.trust), material(&w.teller[kind], &w.trust));
    let server = Server::with_keys(&[own], National::Prefer, server).unwrap();
    let id = GATEWAY.parse().unwrap();
    let client = Client::with_keys(&[theirs], id, &[ALPN_H2], National::Prefer, client).unwrap();
    let seen = shake(&server, client.attempt().config).assert_good();
    (seen.suite, seen.group)
}

#[test]
fn only_what_is_listed_is_used_and_in_that_order() {
    let w = World::new();
    let (aes, chacha) = ("TLS13_AES_128_GCM_SHA256", "TLS13_CHACHA20_POLY1305_SHA256");
    let mut usual = keys(&[], &[]);
    assert_eq!(agreed(&w, 0, &mut usual, &mut keys(&[], &[])).1, "X25519MLKEM768");
    // The listener's order of suites counts where it is set.
    let mut ordered = keys(&[], &[chacha, aes]);
    assert_eq!(agreed(&w, 0, &mut ordered, &mut keys(&[], &[])).0, chacha);
    let mut ordered = keys(&[], &[aes, chacha]);
    assert_eq!(agreed(&w, 0, &mut ordered, &mut keys(&[], &[chacha, aes])).0, aes);
    // A listener that has one group alone asks for it; a service is offered what is listed.
    let mut one = keys(&["secp384r1"], &[]);
    assert_eq!(agreed(&w, 0, &mut one, &mut keys(&[], &[])).1, "secp384r1");
    let mut two = keys(&["secp256r1", "X25519"], &[]);
    assert_eq!(agreed(&w, 0, &mut keys(&[], &[]), &mut two).1, "secp256r1");
}

#[test]
fn the_other_stack_keeps_its_own() {
    let w = World::new();
    let mut listed = keys(&["X25519"], &["TLS13_AES_128_GCM_SHA256"]);
    assert_eq!(agreed(&w, 1, &mut listed, &mut keys(&[], &[])).1, "curveSM2");
    let mut listed = keys(&[], &["TLS_SM4_CCM_SM3"]);
    assert_eq!(agreed(&w, 1, &mut listed, &mut keys(&[], &[])).0, "TLS_SM4_CCM_SM3");
}

#[test]
fn names_that_are_none_or_stand_twice_are_refused() {
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for (groups, suites) in
        [(&["x448"][..], &[][..]), (&["X25519", "X25519"], &[]), (&[], &["TLS_RSA_WITH_NULL_MD5"])]
    {
        let error = Order::new(&names(groups), &names(suites)).unwrap_err();
        assert_eq!(error.code, &BAD_VALUE);
    }
}
