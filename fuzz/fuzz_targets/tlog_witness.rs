//! A request to a witness, and its answer, have one spelling each; unsigned, nothing advances.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_tlog::key::{Algorithm, KeyName, Scheme, VerifierKey};
use moat_tlog::sign::{NotVerified, Verifier};
use moat_tlog::witness::{Answer, Request, SIZE_CONTENT_TYPE};
use moat_tlog::{Head, Sha256};

/// Takes every signature, so that what comes after is reached.
struct Credulous;

impl Verifier for Credulous {
    fn verify(&self, _: Scheme, _: &[u8], _: &[u8], _: &[u8]) -> Result<(), NotVerified> {
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    if let Ok(Answer::Cosigned(lines)) = Answer::parse(200, "", data) {
        let again: String = lines.iter().map(|line| format!("{line}\n")).collect();
        assert_eq!(again.as_bytes(), data);
    }
    if let Ok(Answer::Stale(size)) = Answer::parse(409, SIZE_CONTENT_TYPE, data) {
        assert_eq!(format!("{size}\n").as_bytes(), data);
    }
    let Ok(request) = Request::parse(data) else { return };
    assert_eq!(request.body().as_bytes(), data);
    let next = *request.signed().checkpoint().head();
    assert!(request.old() <= next.size);
    let Ok(name) = KeyName::new(request.signed().checkpoint().origin()) else { return };
    let Ok(key) = VerifierKey::new(name, Algorithm::Ed25519, &[7; 32]) else { return };
    let old = Head { size: request.old(), root: [7; 32] };
    let Ok(vetted) = request.vet(&[key], &Credulous) else { return };
    if let Ok(advance) = vetted.compare::<Sha256>(Some(old)) {
        let stored = advance.store(|before, after| {
            assert_eq!((before, after.checkpoint().head()), (&old, &next));
            Err::<(), ()>(())
        });
        assert!(stored.is_err());
    }
});
