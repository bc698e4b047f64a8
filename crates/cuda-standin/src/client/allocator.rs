//! A global allocator that tells the stand-in what the program frees. Knows no copy; the library decides.
#![expect(unsafe_code, reason = "implements the global allocator")]

use crate::client::Control;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicPtr, Ordering};

/// The system's allocator, which reports memory that is freed while a copy of it is in flight.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: cuda_standin::WatchedAllocator = cuda_standin::WatchedAllocator::new();
/// ```
///
/// It watches from [`WatchedAllocator::watch`] on.
pub struct WatchedAllocator {
    watcher: AtomicPtr<()>,
}

type Freed = extern "C" fn(u64, u64);

impl WatchedAllocator {
    /// An allocator that does not watch yet.
    pub const fn new() -> WatchedAllocator {
        WatchedAllocator { watcher: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// Reports to this stand-in from now on.
    pub fn watch(&self, control: Control) {
        self.watcher.store(control.0.host_freed as *mut (), Ordering::Release);
    }

    fn freed(&self, at: *mut u8, bytes: usize) {
        let watcher = self.watcher.load(Ordering::Acquire);
        if !watcher.is_null() {
            // SAFETY: `watch` stored a function of this type, of a library that is never unloaded.
            let freed = unsafe { std::mem::transmute::<*mut (), Freed>(watcher) };
            freed(at as u64, bytes as u64);
        }
    }
}

impl Default for WatchedAllocator {
    fn default() -> WatchedAllocator {
        WatchedAllocator::new()
    }
}

// SAFETY: passes everything on to the system's allocator. The library that hears of a free allocates with its own
// copy of that, not with this one, so that nothing recurses.
unsafe impl GlobalAlloc for WatchedAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        self.freed(at, layout.size());
        // SAFETY: the caller's promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        self.freed(at, layout.size());
        // SAFETY: the caller's promises.
        unsafe { System.realloc(at, layout, bytes) }
    }
}
