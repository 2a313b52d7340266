//! Known answers, cuts, and the processor's paths against each other.

use sm3::Digest;

use super::*;
use crate::testing::{bytes, cases, hex, random};

#[test]
fn the_examples_of_the_standard() {
    let one = hex("66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0");
    let two = hex("debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732");
    for cpu in Cpu::all() {
        // GB/T 32905 A.1 and A.2.
        assert_eq!(Sm3::with_cpu(cpu).chain(b"abc").finish()[..], one);
        assert_eq!(Sm3::with_cpu(cpu).chain(&b"abcd".repeat(16)).finish()[..], two);
    }
}

#[test]
fn every_length_and_cut_agrees_with_another_implementation() {
    let text: Vec<u8> = (0_u32..400).map(|n| n.to_le_bytes()[0] ^ 0x5a).collect();
    for length in 0..text.len() {
        let expected = sm3::Sm3::digest(&text[..length]);
        for cpu in Cpu::all() {
            let (head, tail) = text[..length].split_at(length / 3);
            assert_eq!(Sm3::with_cpu(cpu).chain(head).chain(tail).finish()[..], expected[..]);
        }
    }
    let expected = sm3::Sm3::digest(&text);
    for piece in 1..150 {
        let mut hash = Sm3::new();
        text.chunks(piece).for_each(|chunk| hash.update(chunk));
        assert_eq!(hash.finish()[..], expected[..]);
    }
}

#[test]
fn random_texts_agree_with_another_implementation() {
    for seed in 0..cases(200, 1) {
        let [a, b, cut] = random::<3>(seed).map(usize::from);
        let text = bytes(seed, a * 4 + b % 4);
        let expected = sm3::Sm3::digest(&text);
        let (head, tail) = text.split_at(cut.min(text.len()));
        for cpu in Cpu::all() {
            assert_eq!(Sm3::with_cpu(cpu).chain(head).chain(tail).finish()[..], expected[..]);
        }
    }
}

#[test]
fn a_debug_text_shows_no_state() {
    assert_eq!(format!("{:?}", Sm3::new().chain(b"secret")), "Sm3 { .. }");
}
