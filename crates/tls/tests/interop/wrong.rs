//! What the `openssl` program of a peer can be made to do wrong, as a caller and as a service.
//! Mixtures that it refuses to make are in `crates/tls/src/tests/mixed.rs`.

use std::path::Path;
use std::sync::Arc;

use moat_sm::pem;
use moat_tls::National;
use rustls::ClientConnection;
use rustls_pki_types::ServerName;

use super::{TELLER, TELLER_SM2, World, bound, call, connect, run, start_with};

const NATIONAL: &str = "-ciphersuites TLS_SM4_GCM_SM3 -groups curveSM2 -sigalgs sm2sig_sm3";

#[test]
#[ignore = "needs OpenSSL 4 or Tongsuo: cargo xtask interop"]
fn a_caller_without_a_certificate_gets_alert_116() {
    let world = World::new("none");
    let (seen, told) =
        call(&world, National::Prefer, &format!("{NATIONAL} -CAfile root-sm2.pem -alpn http/1.1"));
    assert_eq!(seen.unwrap_err(), "MOAT-T001", "{told}");
    assert!(told.contains("alert number 116"), "{told}");
    // One for P-256 is none: the program looks at what we ask for and shows nothing.
    let words = format!(
        "{NATIONAL}:ecdsa_secp256r1_sha256 -cert teller.pem -cert_chain issuing.pem \
         -key teller.key -CAfile root-sm2.pem -alpn http/1.1"
    );
    let (seen, told) = call(&world, National::Prefer, &words);
    assert_eq!(seen.unwrap_err(), "MOAT-T001", "{told}");
}

#[test]
#[ignore = "needs OpenSSL 4 or Tongsuo: cargo xtask interop"]
fn half_an_offer_is_refused() {
    let world = World::new("half");
    let national = format!("{NATIONAL} {TELLER_SM2}");
    for (right, wrong) in [
        ("-groups curveSM2", "-groups X25519"),
        ("-sigalgs sm2sig_sm3", "-sigalgs ecdsa_secp256r1_sha256"),
    ] {
        let (seen, told) = call(&world, National::Prefer, &national.replace(right, wrong));
        assert_eq!(seen.unwrap_err(), "MOAT-T009", "{wrong}\n{told}");
        assert!(told.contains("alert number 40"), "{told}");
    }
}

/// A certificate for the SM2 teller's key that the program itself issues: by whom, and with which
/// SM2 identity under it.
fn issue(world: &World, issuer: &str, more: &str) {
    let extensions = format!(
        "subjectAltName=URI:{TELLER}\nkeyUsage=critical,digitalSignature\n\
         extendedKeyUsage=clientAuth\nbasicConstraints=critical,CA:FALSE\n"
    );
    std::fs::write(world.dir.join("made.ext"), extensions).unwrap();
    std::fs::write(world.dir.join("request.cnf"), "[req]\ndistinguished_name=dn\n[dn]\n").unwrap();
    for words in [
        "req -new -config request.cnf -key teller-sm2.key -subj /CN=teller -out made.csr"
            .to_owned(),
        format!(
            "x509 -req -in made.csr -CA {issuer}.pem -CAkey {issuer}.key -days 1 \
             -extfile made.ext -out made.pem {more}"
        ),
    ] {
        let (is_good, told) = run(&mut world.openssl(&words));
        assert!(is_good, "{words}\n{told}");
    }
}

fn show(world: &World, chain: &str) -> (Result<(), String>, String) {
    let words = format!(
        "{NATIONAL} -cert made.pem -cert_chain {chain}.pem -key teller-sm2.key \
         -CAfile root-sm2.pem -alpn http/1.1"
    );
    let (seen, told) = call(world, National::Prefer, &words);
    (seen.map(drop), told)
}

#[test]
#[ignore = "needs OpenSSL 4 or Tongsuo: cargo xtask interop"]
fn certificates_made_by_the_peer_are_taken_only_if_they_are_right() {
    let world = World::new("made");
    // The same way with everything right, so that what follows fails for its own reason.
    issue(
        &world,
        "issuing-sm2",
        "-sm3 -vfyopt distid:1234567812345678 -sigopt distid:1234567812345678",
    );
    let (seen, told) = show(&world, "issuing-sm2");
    assert_eq!(seen, Ok(()), "{told}");

    lengthen_signature(&world.dir.join("made.pem"));
    let (seen, told) = show(&world, "issuing-sm2");
    assert_eq!(seen.unwrap_err(), "MOAT-T011", "a byte after the signature\n{told}");

    issue(&world, "issuing-sm2", "-sm3 -sigopt distid:somebody@else.test");
    let (seen, told) = show(&world, "issuing-sm2");
    assert_eq!(seen.unwrap_err(), "MOAT-T011", "another SM2 identity\n{told}");

    issue(&world, "issuing", "-sha256");
    for chain in ["issuing", "issuing-sm2"] {
        let (seen, told) = show(&world, chain);
        assert_eq!(seen.unwrap_err(), "MOAT-T012", "SM2 under ECDSA\n{told}");
    }
}

/// Puts a byte behind the signature inside its BIT STRING, and lengthens what is around it.
fn lengthen_signature(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut der = pem::decode("CERTIFICATE", &text).unwrap().to_vec();
    // BIT STRING, no unused bits, SEQUENCE of two numbers of 31 to 33 bytes, to the very end.
    let at = (der.len() - 80..der.len() - 60)
        .find(|at| der[*at] == 3 && usize::from(der[at + 1]) == der.len() - at - 2)
        .expect("the signature's BIT STRING");
    der[at + 1] += 1;
    assert_eq!(der[..2], [0x30, 0x82], "two bytes of length");
    let length = u16::from_be_bytes([der[2], der[3]]) + 1;
    der[2..4].copy_from_slice(&length.to_be_bytes());
    der.push(0);
    std::fs::write(path, pem::encode("CERTIFICATE", &der)).unwrap();
}

/// What our client makes of a service: nothing, the code of a mixture, or why the handshake ended.
fn judge(world: &World, words: &str) -> Result<(), String> {
    let (_running, port) = start_with(world, words);
    let mut stream = connect(&world.dir, port);
    bound(&stream);
    let attempt = world.client(National::Prefer).attempt();
    let name = ServerName::try_from("gateway.test").unwrap();
    let mut client = ClientConnection::new(Arc::clone(&attempt.config), name).unwrap();
    while client.is_handshaking() {
        client.complete_io(&mut stream).map_err(|error| error.to_string())?;
    }
    attempt.finish(&client).map(drop).map_err(|code| code.id.to_owned())
}

#[test]
#[ignore = "needs OpenSSL 4 or Tongsuo: cargo xtask interop"]
fn a_service_that_mixes_the_stacks_is_refused() {
    let world = World::new("mixing");
    let sm2 = "-cert gateway-sm2.pem -cert_chain issuing-sm2.pem -key gateway-sm2.key";
    let p256 = "-cert gateway.pem -cert_chain issuing.pem -key gateway.key";
    let asking = "-Verify 3 -CAfile root-sm2.pem";
    for (suite, group, certificate, verdict) in [
        ("TLS_SM4_GCM_SM3", "curveSM2", sm2, Ok(())),
        ("TLS_SM4_GCM_SM3", "X25519", sm2, Err("MOAT-U012")),
        ("TLS_SM4_GCM_SM3", "curveSM2", p256, Err("MOAT-U012")),
        ("TLS_AES_256_GCM_SHA384", "curveSM2", sm2, Err("MOAT-U012")),
        ("TLS_AES_256_GCM_SHA384", "X25519", sm2, Err("MOAT-U012")),
    ] {
        let words = format!("-ciphersuites {suite} -groups {group} {certificate} {asking}");
        assert_eq!(judge(&world, &words), verdict.map_err(str::to_owned), "{words}");
    }
    // One that asks for no certificate of ours.
    let words = format!("{NATIONAL} {sm2}");
    assert_eq!(judge(&world, &words), Err("MOAT-U013".to_owned()));
}
