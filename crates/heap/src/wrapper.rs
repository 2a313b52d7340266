//! The allocator: the only place with unsafe code.
#![expect(unsafe_code, reason = "`GlobalAlloc` is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout};

use crate::sampler::{given, taken_back};

/// Passes everything on to another allocator, and takes samples.
pub struct Sampling<A>(A);

impl<A> Sampling<A> {
    /// Around this allocator.
    pub const fn new(inner: A) -> Sampling<A> {
        Sampling(inner)
    }
}

// SAFETY: every call goes to the inner allocator with the arguments it came with, and what that
// gives is given back unchanged; addresses and sizes alone are looked at, and nothing is read or
// written through a pointer. `given` and `taken_back` do not unwind.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Sampling<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the inner allocator's.
        let place = unsafe { self.0.alloc(layout) };
        given(place.addr(), layout.size());
        place
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let place = unsafe { self.0.alloc_zeroed(layout) };
        given(place.addr(), layout.size());
        place
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // Before it is given back: another thread may get it a moment later.
        taken_back(place.addr());
        // SAFETY: as above.
        unsafe { self.0.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Before, as above. If it fails, the old memory stays and nothing is known of it any more.
        taken_back(place.addr());
        // SAFETY: as above.
        let moved = unsafe { self.0.realloc(place, layout, size) };
        given(moved.addr(), size);
        moved
    }
}
