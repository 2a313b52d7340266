//! What is measured, as Moat does it; peer.c beside this file does the same with the peers.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use moat_sm::cpu::Cpu;
use moat_sm::sm2::{DEFAULT_ID, ENTROPY_BYTES, SecretKey, Signature};
use moat_sm::sm3::{Sm3, digest_many};
use moat_sm::sm4::ccm::Ccm;
use moat_sm::sm4::gcm::Gcm;
use moat_tls::Stack;

use super::shake::Sides;

/// The message that is signed: as long as what a CertificateVerify of TLS 1.3 signs.
const MESSAGE: [u8; 130] = [7; 130];
/// As long as the additional data of a TLS 1.3 record.
const AAD: [u8; 5] = [1; 5];
/// Leaves of a tree of hashes.
pub(super) const LEAVES: usize = 1_024;
const LEAF: [u8; 256] = [7; 256];
pub(super) const LEAVES_BYTES: usize = LEAVES * LEAF.len();

/// A work, and how often it runs between two readings of the clock.
pub(super) struct Work<'a> {
    run: Box<dyn FnMut() -> Result<()> + 'a>,
    batch: u32,
}

impl<'a> Work<'a> {
    fn new(batch: u32, run: impl FnMut() -> Result<()> + 'a) -> Work<'a> {
        Work { run: Box::new(run), batch }
    }

    /// Runs a second.
    pub(super) fn rate(&mut self, time: Duration) -> Result<f64> {
        let (begun, mut runs) = (Instant::now(), 0_u32);
        loop {
            for _ in 0..self.batch {
                (self.run)()?;
            }
            runs = runs.saturating_add(self.batch);
            let took = begun.elapsed();
            if took >= time {
                return Ok(f64::from(runs) / took.as_secs_f64());
            }
        }
    }
}

pub(super) fn sm3(size: usize) -> Work<'static> {
    let text = vec![7; size];
    Work::new(16, move || {
        black_box(Sm3::digest(black_box(&text)));
        Ok(())
    })
}

pub(super) fn leaves_one_by_one() -> Work<'static> {
    Work::new(1, || {
        for _ in 0..LEAVES {
            black_box(Sm3::digest(black_box(&LEAF)));
        }
        Ok(())
    })
}

pub(super) fn leaves_together() -> Work<'static> {
    let texts = vec![LEAF.as_slice(); LEAVES];
    let mut digests = vec![[0; 32]; LEAVES];
    Work::new(1, move || Ok(digest_many(black_box(&texts), black_box(&mut digests))?))
}

/// A new nonce each time under one key, in place.
pub(super) fn gcm(cpu: Cpu, size: usize) -> Work<'static> {
    let (gcm, mut text, mut seals) = (Gcm::with_cpu(&[7; 16], cpu), vec![7; size], 0);
    Work::new(16, move || {
        black_box(gcm.seal(&next(&mut seals), &AAD, black_box(&mut text))?);
        Ok(())
    })
}

/// The same with CCM.
pub(super) fn ccm(size: usize) -> Work<'static> {
    let (ccm, mut text, mut seals) = (Ccm::new(&[7; 16]), vec![7; size], 0);
    Work::new(16, move || {
        black_box(ccm.seal(&next(&mut seals), &AAD, black_box(&mut text))?);
        Ok(())
    })
}

/// A nonce that was not there before: how many there were, in its last eight bytes.
fn next(seals: &mut u64) -> [u8; 12] {
    *seals = seals.wrapping_add(1);
    let mut nonce = [0; 12];
    nonce.iter_mut().rev().zip(seals.to_le_bytes()).for_each(|(to, byte)| *to = byte);
    nonce
}

/// Fresh randomness as the TLS layer draws it, and a key of it.
fn entropy() -> Result<[u8; ENTROPY_BYTES]> {
    let mut bytes = [0; ENTROPY_BYTES];
    let drawn = Stack::National.provider().secure_random.fill(&mut bytes);
    ensure!(drawn.is_ok(), "the system gives no randomness");
    Ok(bytes)
}

fn key() -> Result<SecretKey> {
    Ok(SecretKey::generate(&entropy()?)?)
}

/// Z, digest, randomness, signature and its DER.
pub(super) fn sign() -> Result<Work<'static>> {
    let (key, provider) = (key()?, Stack::National.provider());
    Ok(Work::new(4, move || {
        let mut fresh = [0; ENTROPY_BYTES];
        let drawn = provider.secure_random.fill(&mut fresh);
        drawn.ok().context("the system gives no randomness")?;
        let signature = key.sign(DEFAULT_ID, black_box(&MESSAGE), &fresh)?;
        black_box(signature.to_der());
        Ok(())
    }))
}

/// Reading the DER, Z, digest, verification.
pub(super) fn verify() -> Result<Work<'static>> {
    let key = key()?;
    let public = *key.public();
    let signature = key.sign(DEFAULT_ID, &MESSAGE, &entropy()?)?.to_der();
    Ok(Work::new(4, move || {
        let signature = Signature::from_der(black_box(signature.as_ref()))?;
        Ok(public.verify(DEFAULT_ID, black_box(&MESSAGE), &signature)?)
    }))
}

/// The product of a secret number and a peer's point, and its x.
pub(super) fn agree() -> Result<Work<'static>> {
    let (key, peer) = (key()?, key()?);
    Ok(Work::new(4, move || {
        black_box(key.agree(black_box(peer.public())));
        Ok(())
    }))
}

pub(super) fn shake(sides: &Sides) -> Work<'_> {
    Work::new(1, move || sides.shake().map(drop))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use moat_sm::cpu::Cpu;

    #[test]
    fn nonces_do_not_come_again_after_256() {
        let mut seals = 0;
        let all: std::collections::BTreeSet<_> =
            (0..100_000).map(|_| super::next(&mut seals)).collect();
        assert_eq!(all.len(), 100_000);
        assert_eq!(super::next(&mut 0x0102_0304), [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 5]);
    }

    #[test]
    fn every_work_runs() {
        let mut all = vec![super::sm3(64), super::leaves_one_by_one(), super::leaves_together()];
        all.extend(Cpu::all().map(|cpu| super::gcm(cpu, 1024)));
        all.push(super::ccm(1024));
        all.extend([super::sign(), super::verify(), super::agree()].map(Result::unwrap));
        for mut work in all {
            assert!(work.rate(Duration::ZERO).unwrap() > 0.0);
        }
    }
}
