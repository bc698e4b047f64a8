//! Sweeps on several threads, on a device that tells of every call it should not get.
#![cfg(hapax_loom)]

use hapax::{Heap, HeapOptions, LateDevice};

/// A sweep marks every stream that parked memory was used on; meanwhile another thread may end those streams.
#[test]
fn loom_a_stream_is_not_ended_while_a_sweep_marks_it() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.max_branches = 10_000;
    builder.check(|| {
        let (device, control) = LateDevice::new();
        let heap = Heap::new(device, HeapOptions::new(8).granule_bytes(1).slab_bytes(8)).unwrap();
        let stream = heap.new_stream().unwrap();
        let block = heap.alloc_slice::<u8>(3).unwrap().upload_from(&[1; 3]).unwrap();
        let _ = block.on(&stream).unwrap();
        drop((block, stream)); // parked; the stream is over once its work is
        drop(heap.new_stream().unwrap()); // looks for streams that are over, and marks this one
        control.run_all();
        let sweeps = heap.clone();
        let thread = loom::thread::spawn(move || sweeps.settle().unwrap());
        drop(heap.new_stream().unwrap()); // finds it over
        thread.join().unwrap();
        assert_eq!(control.violations(), Vec::<String>::new());
    });
}
