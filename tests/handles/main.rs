//! Handles and their heap: what each call does, what it refuses, and what the books then say.
//! Knows nothing of work in flight (`late`) or of failing devices (`faults`).

/// Host memory; or CUDA's driver, in the package `cuda-suite`, which compiles these same files.
#[allow(dead_code, unused_imports, reason = "each suite uses its part")]
mod device {
    include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/device/mod.rs"));
}

mod books;
mod contents;
mod leaks;
mod refusals;
mod views;

use device::watch;
use hapax::{Freed, Heap, HeapOptions};

fn heap_of(options: HeapOptions) -> Heap {
    Heap::new(device::open(), options).unwrap()
}

fn heap() -> Heap {
    heap_of(HeapOptions::new(1 << 20))
}

/// What giving up a block says that a stream has used.
fn freed_after_use(bytes: u64) -> Freed {
    if device::SYNCHRONOUS { Freed::Now { bytes } } else { Freed::WhenStreamsPass { bytes } }
}
