//! A planted leak in a process with the sampling allocator is found by its name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::alloc::System;
use std::hint::black_box;

use moat_heap::{Profile, Sampling, Site, begin, profile};

#[global_allocator]
static ALLOCATOR: Sampling<System> = Sampling::new(System);

/// Keeps what it should not.
#[inline(never)]
fn planted_leak(kept: &mut Vec<Vec<u8>>) {
    for _ in 0..20_000 {
        kept.push(black_box(vec![1; 2_000]));
    }
}

/// Asks for as much and gives it back.
#[inline(never)]
fn honest_work() {
    for _ in 0..20_000 {
        drop(black_box(vec![1_u8; 2_000]));
    }
}

/// The innermost function of a stack that is this test's own.
fn name(site: &Site) -> String {
    let mut found = String::new();
    for address in &site.stack {
        backtrace::resolve(
            std::ptr::without_provenance_mut(usize::try_from(*address).unwrap()),
            |symbol| {
                let name = symbol.name().map(|name| format!("{name:#}")).unwrap_or_default();
                if found.is_empty()
                    && (name.contains("planted_leak") || name.contains("honest_work"))
                {
                    found = name;
                }
            },
        );
    }
    found
}

#[test]
fn a_leak_is_named_and_its_size_is_about_right() {
    assert_eq!(profile(), None, "nothing is remembered before the begin");
    begin();
    let mut kept = Vec::with_capacity(100_000);
    honest_work();
    let before = profile().unwrap();
    honest_work();
    planted_leak(&mut kept);
    honest_work();
    let after = profile().unwrap();
    let grown: Profile = after.grown_since(&before);
    let first = &grown.sites[0];
    assert!(name(first).contains("planted_leak"), "{}: {grown:?}", name(first));
    let wanted = 40_000_000.0;
    let ratio = first.held_bytes as f64 / wanted;
    assert!((0.6..1.6).contains(&ratio), "{} bytes", first.held_bytes);
    assert!(grown.sites.iter().all(|site| !name(site).contains("honest_work")), "{grown:?}");
    drop(kept);
    let freed = profile().unwrap().grown_since(&before);
    let is_leak = |site: &&Site| name(site).contains("planted_leak");
    assert_eq!(freed.sites.iter().find(is_leak), None, "what is given back is held no longer");
    assert_eq!(after.missed, 0);
}

#[test]
fn threads_that_allocate_and_free_each_others_memory_agree() {
    begin();
    let (sender, receiver) = std::sync::mpsc::sync_channel::<Vec<u8>>(64);
    let frees =
        std::thread::spawn(move || receiver.into_iter().map(|piece| piece.len()).sum::<usize>());
    let gives: Vec<_> = (0..4)
        .map(|_| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for n in 0..3_000 {
                    sender.send(vec![0; 1_000 + n]).unwrap();
                }
            })
        })
        .collect();
    drop(sender);
    gives.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(frees.join().unwrap() > 12_000_000);
    assert!(profile().unwrap().sites.iter().all(|site| site.held_bytes <= 1 << 30));
}
