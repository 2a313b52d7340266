//! Calls by the libssl inside PyPI's tongsuopy: Tongsuo 8.3, another branch of the code than 8.5.

use std::process::Command;

use moat_tls::{National, Stack};
use rustls::HandshakeKind;

use super::{SUITES, Seen, World, answer};

fn call(world: &World, suite: &str, groups: &str, name: &str) -> (Seen, String) {
    let python =
        std::env::var_os("MOAT_TONGSUOPY").expect("MOAT_TONGSUOPY, by cargo xtask interop");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/client.py");
    answer(world, National::Prefer, |port| {
        let mut command = Command::new(python);
        command.args([script, &port.to_string(), suite, groups, name]).current_dir(&world.dir);
        command.env("OPENSSL_CONF", "empty.cnf");
        command
    })
}

#[test]
#[ignore = "needs tongsuopy: cargo xtask interop"]
fn tongsuopy_calls_in_both_suites_and_after_a_retry() {
    let world = World::new("tongsuopy");
    for suite in SUITES {
        for (groups, kind) in
            [("SM2", HandshakeKind::Full), ("X25519:SM2", HandshakeKind::FullWithHelloRetryRequest)]
        {
            let (seen, told) = call(&world, suite, groups, "teller-sm2");
            let (seen, seen_kind, line) = seen.unwrap_or_else(|code| panic!("{code}\n{told}"));
            assert_eq!((seen.suite, seen.group, seen.stack), (suite, "curveSM2", Stack::National));
            assert_eq!((seen_kind, line.as_str()), (kind, "hello\n"), "{told}");
            for wanted in [&format!("{suite} verify 0"), "answered"] {
                assert!(told.contains(wanted), "{wanted} is missing:\n{told}");
            }
        }
    }
}

#[test]
#[ignore = "needs tongsuopy: cargo xtask interop"]
fn what_tongsuopy_does_wrong_is_refused_by_its_code() {
    let world = World::new("tongsuopy-wrong");
    let [suite, _] = SUITES;
    // RFC 8446 §6: alert 116, alert 40. The library gives the reason of each a name of its own.
    for (groups, name, code, alert) in [
        ("SM2", "-", "MOAT-T001", "certificate required"),
        ("X25519", "teller-sm2", "MOAT-T009", "alert handshake failure"),
    ] {
        let (seen, told) = call(&world, suite, groups, name);
        assert_eq!(seen.unwrap_err(), code, "{told}");
        assert!(told.contains(alert), "{alert} is missing:\n{told}");
    }
}
