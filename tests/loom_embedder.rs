//! How to model-check code around a cache: your threads and hapax's locks in every interleaving.
//!
//! In your crate, with the loom that hapax builds with (0.7):
//!
//! ```toml
//! [target.'cfg(hapax_loom)'.dev-dependencies]
//! loom = "0.7.2"
//!
//! [lints.rust]
//! unexpected_cfgs = { level = "warn", check-cfg = ['cfg(hapax_loom)'] }
//! ```
//!
//! ```sh
//! RUSTFLAGS='--cfg hapax_loom' cargo test --release --test loom_embedder
//! ```
//!
//! The cfg puts loom's locks and atomics into hapax itself, so that a test file like this one needs it as a
//! whole (`#![cfg(hapax_loom)]`), and in such a build hapax works inside models only. There:
//! - take threads, locks and atomics from loom; a `std::sync::Arc` works, but orders nothing that loom knows;
//! - make heap, streams and caches anew in each execution, and join every thread: nothing outlives a model;
//! - use a `HostDevice`; loom does not see what a device does with its memory;
//! - set the bounds in the source. Bytes of a few granules and two or three threads of one or two calls are
//!   what can be explored; with more, `preemption_bound` keeps it finite;
//! - time stands still: `lookup_for` gives up at once if another thread fills.
#![cfg(hapax_loom)]

use hapax::{Error, Heap, HeapOptions, HostDevice, OrRelease, Stream, VramCache};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What an embedder might have: kernels, compiled once and kept on the device.
struct Kernels {
    cache: VramCache<u32, [u8]>,
    stream: Stream,
    compiled: AtomicUsize,
}

const KERNEL_BYTES: usize = 3;

impl Kernels {
    /// With room for one kernel.
    fn new(heap: &Heap) -> Arc<Self> {
        let cache = VramCache::new(heap, KERNEL_BYTES as u64).unwrap();
        Arc::new(Kernels { cache, stream: heap.new_stream().unwrap(), compiled: AtomicUsize::new(0) })
    }

    /// Runs kernel `number`, compiling it if it is not there.
    fn run(&self, number: u32) -> Result<[u8; KERNEL_BYTES], Error> {
        let filled = self.cache.get_or_try_insert_with(&number, &self.stream, |vacancy| {
            self.compiled.fetch_add(1, Relaxed);
            vacancy.fill_from(&[number as u8; KERNEL_BYTES]).or_release()
        })?;
        let mut code = [0; KERNEL_BYTES];
        filled.lease.download_to(&mut code)?;
        Ok(code)
    }
}

fn small_heap() -> Heap {
    Heap::new(HostDevice::new(), HeapOptions::new(8).granule_bytes(1).slab_bytes(8)).unwrap()
}

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 10_000;
    builder.check(model);
}

#[test]
fn loom_two_threads_that_need_one_kernel_compile_it_once() {
    check(|| {
        let heap = small_heap();
        let kernels = Kernels::new(&heap);
        let other = kernels.clone();
        let thread = loom::thread::spawn(move || assert_eq!(other.run(7), Ok([7; KERNEL_BYTES])));
        assert_eq!(kernels.run(7), Ok([7; KERNEL_BYTES]));
        thread.join().unwrap();
        assert_eq!(kernels.compiled.load(Relaxed), 1);
        finish(kernels, &heap);
    });
}

#[test]
fn loom_a_kernel_that_is_evicted_meanwhile_is_run_whole_or_compiled_again() {
    check(|| {
        let heap = small_heap();
        let kernels = Kernels::new(&heap);
        let threads = [7, 8].map(|number| {
            let kernels = kernels.clone();
            loom::thread::spawn(move || run_or_no_room(&kernels, number))
        });
        run_or_no_room(&kernels, 7);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        finish(kernels, &heap);
    });
}

/// There is room for one kernel, and another thread may be running the other one.
fn run_or_no_room(kernels: &Kernels, number: u32) {
    match kernels.run(number) {
        Ok(code) => assert_eq!(code, [number as u8; KERNEL_BYTES]),
        Err(error) => assert!(matches!(error, Error::NoRoom { .. }), "{error}"),
    }
}

/// Every thread is joined: nothing is leased, and every byte goes back.
fn finish(kernels: Arc<Kernels>, heap: &Heap) {
    kernels.cache.validate();
    let stats = kernels.cache.stats();
    assert!(stats.resident_bytes <= stats.budget_bytes);
    assert_eq!((stats.leased_bytes, stats.reserved_bytes), (0, 0));
    drop(kernels);
    assert_eq!(heap.ledger().live_bytes, 0);
}
