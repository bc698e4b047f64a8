//! Work that runs as late as it can: copies in flight, stream notes, and memory that waits for its streams.
//!
//! On a late device nothing runs before an event or a blocking copy demands it, so whatever hapax takes for over
//! too early shows: in wrong bytes, or in the device's list of violations, which every test here ends with.

#![allow(clippy::duplicate_mod, reason = "the cache's files once for each mode")]

/// Host memory; or CUDA's driver, in the package `cuda-suite`, which compiles these same files.
#[allow(dead_code, unused_imports, reason = "each suite uses its part")]
mod device {
    include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/device/mod.rs"));
}

mod cache;
/// The same in relaxed mode: [`mode`] reads the module's name.
#[path = "cache.rs"]
mod cache_relaxed;
mod drops;
mod flight;
mod leases;
#[path = "leases.rs"]
mod leases_relaxed;
mod order;
#[path = "order.rs"]
mod order_relaxed;
mod reuse;
mod staging;
mod streams;
mod threads;

use device::{Control, Watch};
use hapax::{DevBox, Heap, HeapOptions, Mode, Ready, Stream};
use std::time::{Duration, Instant};

/// The mode of the caches of a test in this module.
fn mode(module: &str) -> Mode {
    if module.ends_with("_relaxed") { Mode::Relaxed } else { Mode::Exact }
}

/// A heap on a late device, and two streams.
struct Rig {
    heap: Heap,
    a: Stream,
    b: Stream,
    late: Late,
    _watch: Watch,
}

/// The device's other end. Dropped last, it asserts that no call broke the device's contract.
struct Late(Control);

impl Rig {
    fn new(limit_bytes: u64) -> Rig {
        // Page-locked bytes are counted here, and staged copies take some: tests/late/staging.rs has those.
        Rig::with(HeapOptions::new(limit_bytes).granule_bytes(1).staging_bytes(0))
    }

    fn with(options: HeapOptions) -> Rig {
        Rig::watched(options, device::watch())
    }

    /// For a test that forgets something which owns memory; the heap does not print it.
    fn leaking(limit_bytes: u64) -> Rig {
        let options = HeapOptions::new(limit_bytes).granule_bytes(1).on_leak(|_| ());
        Rig::watched(options, device::watch().leaks_on_purpose())
    }

    fn watched(options: HeapOptions, watch: Watch) -> Rig {
        let (device, control) = device::late();
        let heap = Heap::new(device, options).unwrap();
        let [a, b] = [(); 2].map(|()| heap.new_stream().unwrap());
        Rig { heap, a, b, late: Late(control), _watch: watch }
    }

    /// A handle whose contents are there already, and which no stream has used.
    fn ready(&self, contents: &[u8]) -> DevBox<[u8]> {
        self.heap.alloc_slice(contents.len()).unwrap().upload_from(contents).unwrap()
    }

    /// A handle whose contents are still to be written, by a copy that waits on `stream`.
    fn pending(&self, contents: &[u8], stream: &Stream) -> DevBox<[u8], Ready> {
        let mut staging = self.heap.page_locked_slice(contents.len()).unwrap();
        staging.copy_from_slice(contents);
        self.heap.alloc_slice(contents.len()).unwrap().upload(staging, stream).unwrap().ready_on(stream).unwrap()
    }

    fn freeing_bytes(&self) -> u64 {
        self.heap.validate();
        let ledger = self.heap.ledger();
        assert_eq!(ledger.live_bytes + ledger.freeing_bytes + ledger.free_bytes, ledger.limit_bytes);
        ledger.freeing_bytes
    }

    /// Notices what has passed, without allocating and without waiting.
    fn sweep(&self) {
        self.heap.trim().unwrap();
    }
}

/// What is parked when a heap goes would be left to the device.
impl Drop for Rig {
    fn drop(&mut self) {
        self.late.run_all();
        let settled = self.heap.settle();
        assert!(settled.is_ok() || std::thread::panicking());
    }
}

impl std::ops::Deref for Late {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.0
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.0.violations(), [""; 0]);
        }
    }
}

/// Lends the handle for a kernel that reads; returns where.
fn lend(handle: &DevBox<[u8]>, stream: &Stream) -> u64 {
    handle.on(stream).unwrap().device_address()
}

/// Lends the handle for a kernel that writes; returns where.
fn lend_mut(handle: &mut DevBox<[u8]>, stream: &Stream) -> u64 {
    handle.on_mut(stream).unwrap().device_address()
}

fn contents(handle: &DevBox<[u8]>) -> Vec<u8> {
    let mut back = vec![0; handle.len()];
    handle.download_to(&mut back).unwrap();
    back
}

/// What was left behind may be in the hands of another test's heap for a moment.
fn until(done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never came true");
        std::thread::yield_now();
    }
}
