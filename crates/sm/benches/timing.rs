//! Does the time depend on secrets? Two classes of inputs, one secret and many, are measured in
//! random order, and Welch's t tells whether their times differ (as in dudect, Reparaz et al.
//! 2017).
//!
//! `cargo bench -p moat-sm --bench timing` prints a line for each operation. Beyond 10 in every of
//! several runs there is a leak; below 4.5 none was seen. Run it on a quiet machine. The last line
//! is a control: verification takes different times by design, and the test must see it.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a benchmark may stop at once"
)]

use std::hint::black_box;
use std::time::Instant;

use moat_sm::cpu::Cpu;
use moat_sm::sm2::{ENTROPY_BYTES, PublicKey, SecretKey, Signature};
use moat_sm::sm3::Sm3;
use moat_sm::sm4::Sm4;
use moat_sm::sm4::gcm::Gcm;

/// Measurements of one operation: how many inputs are ready at once, and how often.
const BATCH: usize = 1000;
const BATCHES: usize = 40;
/// Times above these percentiles are left out: interrupts make long tails.
const KEEP: [usize; 5] = [100, 99, 95, 90, 70];

/// Numbers without end from a seed; SM3 in counter mode.
struct Chance(u64);

impl Chance {
    fn bytes(&mut self) -> [u8; 32] {
        self.0 += 1;
        Sm3::digest(&self.0.to_be_bytes())
    }

    fn bit(&mut self) -> bool {
        self.bytes()[0] & 1 == 1
    }
}

/// Mean, variance, count.
fn moments(times: &[f64]) -> (f64, f64, f64) {
    let count = times.len() as f64;
    let mean = times.iter().sum::<f64>() / count;
    let square = |time: &f64| (time - mean) * (time - mean);
    (mean, times.iter().map(square).sum::<f64>() / (count - 1.0), count)
}

fn welch(a: &[f64], b: &[f64]) -> f64 {
    let ((mean_a, var_a, count_a), (mean_b, var_b, count_b)) = (moments(a), moments(b));
    (mean_a - mean_b) / (var_a / count_a + var_b / count_b).sqrt().max(f64::MIN_POSITIVE)
}

/// Largest t of all the shares kept.
fn worst(classes: &[Vec<f64>; 2]) -> f64 {
    let mut all: Vec<f64> = classes.concat();
    all.sort_by(f64::total_cmp);
    let t = KEEP.map(|keep| {
        let most = all[(all.len() - 1) * keep / 100];
        let [a, b] = [0, 1].map(|class| {
            classes[class].iter().copied().filter(|time| *time <= most).collect::<Vec<_>>()
        });
        welch(&a, &b)
    });
    t.into_iter().fold(0.0, |worst: f64, t| if t.abs() > worst.abs() { t } else { worst })
}

/// `make` gets the secret of the class, 32 bytes: always the same, or another each time.
fn measure<T>(name: &str, make: impl Fn([u8; 32]) -> T, work: impl Fn(&T)) {
    let mut chance = Chance(0);
    let fixed = chance.bytes();
    let mut classes = [Vec::new(), Vec::new()];
    for batch in 0..BATCHES {
        let inputs: Vec<(bool, T)> = (0..BATCH)
            .map(|_| {
                let (class, random) = (chance.bit(), chance.bytes());
                (class, make(if class { random } else { fixed }))
            })
            .collect();
        for (class, input) in &inputs {
            let start = Instant::now();
            work(black_box(input));
            let time = start.elapsed().as_nanos() as f64;
            // The first batch warms up.
            if batch > 0 {
                classes[usize::from(*class)].push(time);
            }
        }
    }
    let [(mean, ..), (other, ..)] = [0, 1].map(|class| moments(&classes[class]));
    let t = worst(&classes);
    let verdict = if t.abs() < 4.5 {
        "no difference seen"
    } else if t.abs() < 10.0 {
        "unclear, run again"
    } else {
        "they differ"
    };
    println!("{name:<44} {mean:>9.0} and {other:>9.0} ns  t {t:>8.2}  {verdict}");
}

fn key(secret: [u8; 32]) -> SecretKey {
    SecretKey::generate(&secret).expect("entropy")
}

fn half(secret: [u8; 32]) -> [u8; 16] {
    *secret.first_chunk().expect("32 bytes")
}

fn main() {
    let digest = [5; 32];
    let entropy: [u8; ENTROPY_BYTES] = [6; ENTROPY_BYTES];
    let sign = |key: &SecretKey| key.sign_digest(&digest, &entropy).expect("entropy");
    measure("sm2 sign, by key", key, |key| {
        black_box(sign(key));
    });
    let one = key([1; 32]);
    measure(
        "sm2 sign, by entropy",
        |secret| secret,
        |entropy| {
            black_box(one.sign_digest(&digest, entropy).expect("entropy"));
        },
    );
    let peer = *one.public();
    measure("sm2 ecdh, by key", key, |key| {
        black_box(key.agree(&peer));
    });
    let small = |secret: [u8; 32]| {
        // Half of them is the key one: mostly zero digits.
        let mut bytes = [0; 32];
        bytes[31] = 1;
        let is_fixed = secret == Chance(0).bytes();
        if is_fixed { SecretKey::from_bytes(&bytes).expect("in range") } else { key(secret) }
    };
    measure("sm2 ecdh, key one or another", small, |key| {
        black_box(key.agree(&peer));
    });
    measure(
        "sm2 new key",
        |secret| secret,
        |secret| {
            black_box(key(*secret));
        },
    );
    for cpu in Cpu::all() {
        let level = cpu.level().name();
        measure(&format!("sm4 new key and a block, {level}"), half, |key| {
            black_box(Sm4::with_cpu(key, cpu).encrypt(*key));
        });
        measure(&format!("sm4-gcm seal 1 KiB, by key, {level}"), half, |key| {
            let mut text = [0; 1024];
            black_box(Gcm::with_cpu(key, cpu).seal(&[1; 12], &[], &mut text).expect("short"));
        });
        let gcm = Gcm::with_cpu(&[1; 16], cpu);
        let text = |secret: [u8; 32]| {
            let mut text = [0; 1024];
            text.iter_mut().zip(secret.iter().cycle()).for_each(|(to, from)| *to = *from);
            text
        };
        measure(&format!("sm4-gcm seal 1 KiB, by text, {level}"), text, |text| {
            let mut text = *text;
            black_box(gcm.seal(&[1; 12], &[], &mut text).expect("short"));
        });
    }
    let signed = |secret| {
        let key = key(secret);
        (*key.public(), sign(&key))
    };
    measure(
        "control: sm2 verify, by key and signature",
        signed,
        |signed: &(PublicKey, Signature)| {
            signed.0.verify_digest(&digest, &signed.1).expect("right");
        },
    );
}
