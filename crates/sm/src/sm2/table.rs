//! Multiples of the base point, made by the build script: 37 windows of seven bits, in each one to
//! 64 times 2^(7 w) G, 148 KiB. The test works every entry out again in another way.

use super::curve::Affine;
use super::field::Fe;
use super::limb::Limbs;
use crate::cpu::Cpu;
use crate::ct;

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[expect(unsafe_code, reason = "functions for instructions that were found at run time")]
mod x86;

/// Bits of a window.
pub(super) const WIDTH: u32 = 7;
/// Windows in 256 bits and a carry.
const COUNT: usize = 37;
/// Entries of a window.
const ENTRIES: usize = 1 << (WIDTH - 1);

/// The raw limbs of x and y: a cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Entry([Limbs; 2]);

impl Entry {
    pub(super) const fn get(&self) -> Affine {
        let [x, y] = self.0;
        Affine { x: Fe::from_raw(x), y: Fe::from_raw(y) }
    }
}

pub(super) type Window = [Entry; ENTRIES];

/// What build.rs wrote.
pub(super) static WINDOWS: [Window; COUNT] = include!(concat!(env!("OUT_DIR"), "/sm2_table.rs"));

/// Entry `magnitude` of the window, counted from one; for zero, (0, 0). Reads every entry.
#[inline(always)]
pub(super) fn select(cpu: Cpu, window: &Window, magnitude: u64) -> Affine {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if let Some(entry) = x86::select(cpu, window, magnitude) {
        return entry.get();
    }
    let _ = cpu;
    let mut sum = [[0; 4]; 2];
    for (number, entry) in (1..).zip(window) {
        let mask = ct::is_zero(number ^ magnitude);
        for (sum, limb) in sum.as_flattened_mut().iter_mut().zip(entry.0.as_flattened()) {
            *sum |= limb & mask;
        }
    }
    Entry(sum).get()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sm2::curve::{G, Jacobian};

    #[test]
    fn every_entry_is_that_multiple_of_the_base_point() {
        let mut expected = Jacobian::INFINITY;
        let mut base = G;
        let windows = if cfg!(miri) { 1 } else { COUNT };
        for window in &WINDOWS[..windows] {
            for entry in window {
                let point = entry.get();
                expected = expected.add_affine_vartime(base);
                assert!(point.is_on_curve());
                let affine = expected.to_affine();
                assert!(affine.x.equals(point.x) && affine.y.equals(point.y));
            }
            base = expected.double().to_affine();
            expected = Jacobian::INFINITY;
        }
    }

    #[test]
    fn every_entry_is_found_on_every_path() {
        for cpu in Cpu::all() {
            for window in &WINDOWS[..2] {
                let none = select(cpu, window, 0);
                assert!(none.x.raw() == [0; 4] && none.y.raw() == [0; 4]);
                for (number, entry) in (1..).zip(window) {
                    let found = select(cpu, window, number);
                    assert!([found.x.raw(), found.y.raw()] == entry.0, "{number}");
                }
            }
        }
    }
}
