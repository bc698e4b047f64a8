//! Handles and their heap on host memory: what each call does, what it refuses, and what the books then say.
//! Knows nothing of work in flight (`late`) or of failing devices (`faults`).

mod books;
mod contents;
mod leaks;
mod refusals;
mod views;

use hapax::{Heap, HeapOptions, HostDevice};

fn heap_of(options: HeapOptions) -> Heap {
    Heap::new(HostDevice::new(), options).unwrap()
}

fn heap() -> Heap {
    heap_of(HeapOptions::new(1 << 20))
}
