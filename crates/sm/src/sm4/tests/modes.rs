//! The modes: known answers of RFC 8998, every length, wrong tags, and another implementation.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use ccm::consts::{U12, U16};
use zeroize::Zeroizing;

use super::super::{BLOCK_BYTES, Block, Sm4, cbc, ccm::Ccm, ctr::Ctr, gcm::Gcm};
use crate::cpu::Cpu;
use crate::error::Error;
use crate::testing::{bytes, cases, hex, hex_array, random};

type OtherGcm = aes_gcm::AesGcm<sm4::Sm4, U12>;
type OtherCcm = ccm::Ccm<sm4::Sm4, U16, U12>;

const KEY: &str = "0123456789abcdeffedcba9876543210";
const NONCE: &str = "00001234567800000000abcd";
const AAD: &str = "feedfacedeadbeeffeedfacedeadbeefabaddad2";
const TEXT: &str = "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd\
                    eeeeeeeeeeeeeeeeffffffffffffffffeeeeeeeeeeeeeeeeaaaaaaaaaaaaaaaa";

/// RFC 8998 A.1.
#[test]
fn the_gcm_example_of_the_rfc() {
    for cpu in Cpu::all() {
        let key = Gcm::with_cpu(&hex_array(KEY), cpu);
        let (nonce, aad, mut text) = (hex_array(NONCE), hex(AAD), hex(TEXT));
        let tag = key.seal(&nonce, &aad, &mut text).expect("short");
        let cipher = "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735\
                      d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d";
        assert_eq!(text, hex(cipher));
        assert_eq!(tag[..], hex("83de3541e4c2b58177e065a9bf7b62ec"));
        assert_eq!(key.open(&nonce, &aad, &mut text, &tag), Ok(()));
        assert_eq!(text, hex(TEXT));
    }
}

/// RFC 8998 A.2.
#[test]
fn the_ccm_example_of_the_rfc() {
    for cpu in Cpu::all() {
        let key = Ccm::with_cpu(&hex_array(KEY), cpu);
        let (nonce, aad, mut text) = (hex_array(NONCE), hex(AAD), hex(TEXT));
        let tag = key.seal(&nonce, &aad, &mut text).expect("short");
        let cipher = "48af93501fa62adbcd414cce6034d895dda1bf8f132f042098661572e7483094\
                      fd12e518ce062c98acee28d95df4416bed31a2f04476c18bb40c84a74b97dc5b";
        assert_eq!(text, hex(cipher));
        assert_eq!(tag[..], hex("16842d4fa186f56ab33256971fa110f4"));
        assert_eq!(key.open(&nonce, &aad, &mut text, &tag), Ok(()));
        assert_eq!(text, hex(TEXT));
    }
}

fn both_agree(seed: u64, text: &[u8], aad: &[u8]) {
    let (key, nonce) = (random::<16>(seed), random::<12>(seed + 1));
    let payload = || Payload { msg: text, aad };
    let gcm = OtherGcm::new(&key.into()).encrypt(&nonce.into(), payload()).expect("short");
    let ccm = OtherCcm::new(&key.into()).encrypt(&nonce.into(), payload()).expect("short");
    for cpu in Cpu::all() {
        let ours = Gcm::with_cpu(&key, cpu);
        let mut out = text.to_vec();
        let tag = ours.seal(&nonce, aad, &mut out).expect("short");
        assert_eq!((&out[..], &tag[..]), gcm.split_at(text.len()), "{cpu:?} {}", text.len());
        assert_eq!(ours.open(&nonce, aad, &mut out, &tag), Ok(()));
        assert_eq!(out, text);
        let ours = Ccm::with_cpu(&key, cpu);
        let tag = ours.seal(&nonce, aad, &mut out).expect("short");
        assert_eq!((&out[..], &tag[..]), ccm.split_at(text.len()), "{cpu:?} {}", text.len());
        assert_eq!(ours.open(&nonce, aad, &mut out, &tag), Ok(()));
        assert_eq!(out, text);
    }
}

#[test]
fn every_length_agrees_with_another_implementation() {
    let text = bytes(3, 4200);
    let lengths = if cfg!(miri) { vec![0, 1, 17, 300] } else { (0..600).collect() };
    for length in lengths {
        both_agree(length as u64, &text[..length], &text[..length % 67]);
    }
    if !cfg!(miri) {
        // Around the passes of 64 and 96 blocks.
        for length in (1000..1060).chain(1500..1560).chain(2540..2580).chain(4090..4110) {
            both_agree(length as u64, &text[..length], b"");
        }
    }
}

#[test]
fn long_associated_data_agrees() {
    if cfg!(miri) {
        return;
    }
    for length in [0xfeff, 0xff00, 0xff01, 0x1_0001] {
        both_agree(1, b"text", &bytes(9, length));
    }
}

#[test]
fn random_texts_agree_with_another_implementation() {
    for seed in 0..cases(50, 4) {
        let [a, b, c] = random::<3>(seed).map(usize::from);
        // Mostly short ones, and some beyond a pass of 96 blocks.
        let blocks = if b < 16 { a } else { a % 12 };
        both_agree(seed, &bytes(seed, blocks * 16 + b % 16), &bytes(seed + 1, c % 70));
    }
}

#[test]
fn what_was_changed_does_not_open() {
    let (nonce, aad) = (random::<12>(1), bytes(2, 21));
    for cpu in Cpu::all() {
        let key = Gcm::with_cpu(&random(3), cpu);
        let mut text = bytes(4, 85);
        let tag = key.seal(&nonce, &aad, &mut text).expect("short");
        for bit in 0..text.len() * 8 {
            let mut wrong = text.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            let before = wrong.clone();
            assert_eq!(key.open(&nonce, &aad, &mut wrong, &tag), Err(Error::Tag));
            assert_eq!(wrong, before, "nothing of the text is given away");
        }
        for bit in 0..128 {
            let mut wrong = tag;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(&nonce, &aad, &mut text.clone(), &wrong), Err(Error::Tag));
        }
        for length in 0..16 {
            let cut = &tag[..length];
            assert_eq!(key.open(&nonce, &aad, &mut text.clone(), cut), Err(Error::Tag));
        }
        for length in 0..text.len() {
            let cut = &mut text[..length].to_vec();
            assert_eq!(key.open(&nonce, &aad, cut, &tag), Err(Error::Tag));
        }
        assert_eq!(key.open(&nonce, &aad[1..], &mut text.clone(), &tag), Err(Error::Tag));
        assert_eq!(key.open(&random(9), &aad, &mut text.clone(), &tag), Err(Error::Tag));
    }
}

#[test]
fn a_ccm_text_that_does_not_open_is_wiped() {
    let key = Ccm::new(&random(3));
    let mut text = bytes(4, 85);
    let tag = key.seal(&random(1), b"", &mut text).expect("short");
    assert_eq!(key.open(&random(1), b"x", &mut text, &tag), Err(Error::Tag));
    assert_eq!(text, vec![0; 85]);
    let mut long = vec![0; 1 << 24];
    assert_eq!(key.seal(&random(1), b"", &mut long), Err(Error::TooLong));
    assert_eq!(key.open(&random(1), b"", &mut long, &tag), Err(Error::TooLong));
}

#[test]
fn a_counter_stream_is_the_same_however_it_is_cut() {
    let text = bytes(5, 3000);
    for first in [[0; 16], [0xff; 16], hex_array("000000000000000000000000fffffff0")] {
        let one_by_one = {
            let key = Sm4::with_cpu(&random(6), Cpu::PORTABLE);
            let counter = u128::from_be_bytes(first);
            let stream = (0..).flat_map(|n| key.encrypt(counter.wrapping_add(n).to_be_bytes()));
            text.iter().zip(stream).map(|(a, b)| a ^ b).collect::<Vec<u8>>()
        };
        for cpu in Cpu::all() {
            for piece in [1, 15, 16, 17, 100, 1024, 1537, 3000] {
                let mut stream = Ctr::new(Sm4::with_cpu(&random(6), cpu), first);
                let mut out = text.clone();
                out.chunks_mut(piece).for_each(|piece| stream.apply(piece));
                assert!(out == one_by_one, "{cpu:?} {piece}");
            }
        }
    }
}

#[test]
fn chained_blocks_come_back_and_so_do_padded_texts() {
    for cpu in Cpu::all() {
        let key = Sm4::with_cpu(&random(7), cpu);
        let iv: Block = random(8);
        for length in 0..130 {
            let text = bytes(9, length);
            let cipher = cbc::encrypt_padded(&key, &iv, &text);
            assert_eq!(cipher.len(), (length / BLOCK_BYTES + 1) * BLOCK_BYTES);
            assert_eq!(cbc::decrypt_padded(&key, &iv, &cipher), Ok(Zeroizing::new(text)));
        }
        // The definition, block by block.
        let text: [Block; 150] = core::array::from_fn(|n| random(n as u64));
        let mut ours = text;
        cbc::encrypt(&key, &mut iv.clone(), &mut ours);
        let mut chain = u128::from_be_bytes(iv);
        for (plain, cipher) in text.iter().zip(&ours) {
            let block = key.encrypt((u128::from_be_bytes(*plain) ^ chain).to_be_bytes());
            assert_eq!(block, *cipher);
            chain = u128::from_be_bytes(block);
        }
        cbc::decrypt(&key, &mut iv.clone(), &mut ours);
        assert_eq!(ours, text);
    }
}

#[test]
fn wrong_padding_is_refused() {
    let key = Sm4::new(&random(1));
    let iv = [0; 16];
    for (length, pad) in [(15, 0), (15, 17), (15, 2), (14, 3), (0, 255)] {
        let mut block = [0; 16];
        block[length..].fill(pad);
        let cipher = key.encrypt(block);
        assert_eq!(cbc::decrypt_padded(&key, &iv, &cipher), Err(Error::Padding), "{pad}");
    }
    for length in (0..40).filter(|length| *length == 0 || length % 16 != 0) {
        assert_eq!(cbc::decrypt_padded(&key, &iv, &vec![0; length]), Err(Error::Length));
    }
}
