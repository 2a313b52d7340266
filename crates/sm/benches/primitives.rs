//! Our primitives beside RustCrypto's, in one run on one machine.
//!
//! `cargo bench -p moat-sm` prints a table, best of several rounds; a word after `--` keeps the
//! lines that contain it.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a benchmark may stop at once"
)]

use std::hint::black_box;
use std::time::Instant;

use aes_gcm::aead::{AeadInOut, KeyInit};
use ccm::consts::{U12, U16};
use moat_sm::cpu::Cpu;
use moat_sm::sm2::{DEFAULT_ID, Ephemeral, SecretKey};
use moat_sm::sm3::{Sm3, digest_many};
use moat_sm::sm4::Sm4;
use moat_sm::sm4::ccm::Ccm;
use moat_sm::sm4::ctr::Ctr;
use moat_sm::sm4::gcm::Gcm;
use sm2::dsa::signature::{Signer, Verifier};
use sm3::Digest;

const ROUNDS: usize = 60;
/// How long one round takes, about.
const ROUND_S: f64 = 0.005;

/// Runs a second, best of the rounds.
fn rate(mut work: impl FnMut()) -> f64 {
    let mut repeat = 1_u32;
    let seconds = |repeat: u32, work: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..repeat).for_each(|_| work());
        start.elapsed().as_secs_f64()
    };
    while seconds(repeat, &mut work) < ROUND_S {
        repeat *= 2;
    }
    (0..ROUNDS).map(|_| f64::from(repeat) / seconds(repeat, &mut work)).fold(0.0, f64::max)
}

/// Which lines are wanted.
struct Table(Vec<String>);

impl Table {
    fn wants(&self, name: &str) -> bool {
        self.0.iter().all(|word| name.contains(word.as_str()))
    }

    /// Megabytes a second.
    fn bytes(&self, name: &str, bytes: usize, work: impl FnMut()) {
        if self.wants(name) {
            println!("{name:<44} {:>10.0} MB/s", rate(work) * bytes as f64 / 1e6);
        }
    }

    /// Runs a second.
    fn times(&self, name: &str, work: impl FnMut()) {
        if self.wants(name) {
            println!("{name:<44} {:>10.0} /s", rate(work));
        }
    }
}

fn hashes(table: &Table) {
    for (size, name) in [(64, "64 B"), (1024, "1 KiB"), (16 * 1024, "16 KiB")] {
        let text = vec![7; size];
        for cpu in Cpu::all() {
            table.bytes(&format!("sm3 {name} moat {}", cpu.level().name()), size, || {
                black_box(Sm3::with_cpu(cpu).chain(black_box(&text)).finish());
            });
        }
        table.bytes(&format!("sm3 {name} rustcrypto"), size, || {
            black_box(sm3::Sm3::digest(black_box(&text)));
        });
    }
}

/// What a tree of hashes asks for.
fn leaves(table: &Table) {
    let leaf = [7; 256];
    let texts = vec![&leaf[..]; 1024];
    let mut digests = vec![[0; 32]; texts.len()];
    let bytes = leaf.len() * texts.len();
    table.bytes("sm3 1024 leaves of 256 B moat one by one", bytes, || {
        for (text, digest) in texts.iter().zip(&mut digests) {
            *digest = Sm3::digest(black_box(text));
        }
    });
    table.bytes("sm3 1024 leaves of 256 B moat together", bytes, || {
        digest_many(black_box(&texts), &mut digests).expect("as many");
    });
}

fn ciphers(table: &Table) {
    let key = [7; 16];
    for (size, name) in [(64, "64 B"), (1024, "1 KiB"), (16 * 1024, "16 KiB")] {
        let mut text = vec![7; size];
        for cpu in Cpu::all() {
            let level = cpu.level().name();
            let gcm = Gcm::with_cpu(&key, cpu);
            table.bytes(&format!("sm4-gcm {name} seal moat {level}"), size, || {
                black_box(gcm.seal(&[7; 12], &[1; 5], black_box(&mut text)).expect("short"));
            });
            table.bytes(&format!("sm4-gcm {name} failed open moat {level}"), size, || {
                black_box(gcm.open(&[7; 12], &[1; 5], black_box(&mut text), &[0; 16]).is_ok());
            });
            let ccm = Ccm::with_cpu(&key, cpu);
            table.bytes(&format!("sm4-ccm {name} seal moat {level}"), size, || {
                black_box(ccm.seal(&[7; 12], &[1; 5], black_box(&mut text)).expect("short"));
            });
            let mut ctr = Ctr::new(Sm4::with_cpu(&key, cpu), [0; 16]);
            table.bytes(&format!("sm4-ctr {name} moat {level}"), size, || {
                ctr.apply(black_box(&mut text));
            });
        }
        let gcm = aes_gcm::AesGcm::<sm4::Sm4, U12>::new(&key.into());
        table.bytes(&format!("sm4-gcm {name} seal rustcrypto"), size, || {
            let text = black_box(&mut text[..]).into();
            black_box(gcm.encrypt_inout_detached(&[7; 12].into(), &[1; 5], text).expect("short"));
        });
        let ccm = ccm::Ccm::<sm4::Sm4, U16, U12>::new(&key.into());
        table.bytes(&format!("sm4-ccm {name} seal rustcrypto"), size, || {
            let text = black_box(&mut text[..]).into();
            black_box(ccm.encrypt_inout_detached(&[7; 12].into(), &[1; 5], text).expect("short"));
        });
    }
    for cpu in Cpu::all() {
        let level = cpu.level().name();
        table.times(&format!("sm4-gcm new key moat {level}"), || {
            black_box(Gcm::with_cpu(black_box(&key), cpu));
        });
        let key = Sm4::with_cpu(&key, cpu);
        let mut blocks = vec![[7; 16]; 1024];
        table.bytes(&format!("sm4 16 KiB blocks moat {level}"), 16 * 1024, || {
            key.encrypt_blocks(black_box(&mut blocks));
        });
        table.times(&format!("sm4 1 block moat {level}"), || {
            black_box(key.encrypt(black_box([7; 16])));
        });
    }
}

fn curves(table: &Table) {
    let key = SecretKey::generate(&[7; 32]).expect("entropy");
    let peer = SecretKey::generate(&[8; 32]).expect("entropy");
    let secret = sm2::SecretKey::from_slice(&*key.to_bytes()).expect("in range");
    let identity = key.public().identity(DEFAULT_ID).expect("short");
    let message = [7; 130];
    let digest = identity.digest(&message);
    let signature = key.sign_digest(&digest, &[1; 32]).expect("entropy");
    table.times("sm2 sign digest moat", || {
        black_box(key.sign_digest(black_box(&digest), &[1; 32]).expect("entropy"));
    });
    table.times("sm2 sign message moat", || {
        black_box(key.sign(DEFAULT_ID, black_box(&message), &[1; 32]).expect("entropy"));
    });
    let id = "1234567812345678";
    let signer = sm2::dsa::SigningKey::new(id, &secret).expect("short");
    table.times("sm2 sign message rustcrypto", || {
        black_box(signer.sign(black_box(&message)));
    });
    table.times("sm2 verify digest moat", || {
        key.public().verify_digest(black_box(&digest), &signature).expect("right");
    });
    table.times("sm2 verify message moat", || {
        key.public().verify(DEFAULT_ID, black_box(&message), &signature).expect("right");
    });
    let verifier = sm2::dsa::VerifyingKey::new(id, secret.public_key()).expect("short");
    let other = sm2::dsa::Signature::from_slice(&signature.to_bytes()).expect("in range");
    table.times("sm2 verify message rustcrypto", || {
        verifier.verify(black_box(&message), &other).expect("right");
    });
    table.times("sm2 ecdh agree moat", || {
        black_box(key.agree(black_box(peer.public())));
    });
    table.times("sm2 ecdh share and agree moat", || {
        let side = Ephemeral::generate(black_box(&[3; 32])).expect("entropy");
        black_box(side.agree(peer.public().as_bytes()).expect("a point"));
    });
    let point = sm2::PublicKey::from_sec1_bytes(peer.public().as_bytes()).expect("a point");
    table.times("sm2 ecdh agree rustcrypto", || {
        let product = black_box(&point).to_projective() * *secret.to_nonzero_scalar();
        black_box(product.to_affine());
    });
    table.times("sm2 new key moat", || {
        black_box(SecretKey::generate(black_box(&[3; 32])).expect("entropy"));
    });
    let cipher = key.public().encrypt(&[7; 48], &[1; 32]).expect("entropy");
    table.times("sm2 encrypt 48 B moat", || {
        black_box(key.public().encrypt(&[7; 48], &[1; 32]).expect("entropy"));
    });
    table.times("sm2 decrypt 48 B moat", || {
        black_box(key.decrypt(black_box(&cipher)).expect("own"));
    });
}

fn main() {
    let words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let table = Table(words.collect());
    hashes(&table);
    leaves(&table);
    ciphers(&table);
    curves(&table);
}
