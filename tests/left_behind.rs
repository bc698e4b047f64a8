//! A handle that outlives its heap makes no driver call when it is dropped: what it was the last share of waits for
//! the next heap. Alone in its binary, since that may be any heap of the process.

/// Host memory; or CUDA's driver, in the package `cuda-suite`, which compiles these same files.
#[allow(dead_code, unused_imports, reason = "each suite uses its part")]
mod device {
    include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/device/mod.rs"));
}

use hapax::{Heap, HeapOptions, HostDevice, VramCache};
use std::sync::Arc;

#[test]
fn whoever_is_dropped_last_makes_no_driver_call() {
    let _watch = device::watch().leaks_on_purpose();
    let (device, control) = device::late();
    let heap = Heap::new(device, HeapOptions::new(1 << 16).on_leak(|_| ())).unwrap();
    let device = heap.device().clone();
    let stream = heap.new_stream().unwrap();
    let used = heap.alloc_slice::<u8>(100).unwrap().zero(&stream).unwrap();
    let unused = heap.alloc_slice::<u8>(100).unwrap();
    let flying = heap.alloc_slice::<u8>(8).unwrap().upload(heap.page_locked_slice(8).unwrap(), &stream).unwrap();
    let buffer = heap.page_locked_slice::<u8>(8).unwrap();
    drop(heap);

    let calls = control.all_calls();
    drop((used, unused, flying, buffer, stream));
    assert_eq!(control.all_calls(), calls);
    assert!(control.memory_bytes() > 0 && control.page_locked_bytes() > 0);

    let next = Heap::new(HostDevice::new(), HeapOptions::new(256)).unwrap();
    assert!(control.memory_bytes() > 0, "its streams have not passed");
    control.run_all();
    next.trim().unwrap();
    control.run_all(); // the marks behind them
    next.trim().unwrap();
    assert_eq!((control.memory_bytes(), control.page_locked_bytes()), (0, 0));
    assert_eq!(control.violations(), [""; 0]);

    // An owned lease ends its cache, and with that the heap: a heap's drop may call the driver, and leaves nothing.
    let heap = Heap::new(&device, HeapOptions::new(1 << 16)).unwrap();
    let stream = heap.new_stream().unwrap();
    let cache: Arc<VramCache<u8, [u8]>> = Arc::new(VramCache::new(&heap, 1 << 10).unwrap());
    cache.insert(1, heap.alloc_slice(3).unwrap().upload_from(b"abc").unwrap()).unwrap().free_all().unwrap();
    let lease = cache.get(&1, &stream).unwrap().unwrap().into_owned(&cache).unwrap();
    drop((cache, heap, stream));
    drop(lease);
    control.run_all();
    next.trim().unwrap();
    control.run_all();
    next.trim().unwrap();
    assert_eq!((control.memory_bytes(), control.violations()), (0, vec![]));

    // A leaked block keeps its slab, and no other.
    let heap = Heap::new(&device, HeapOptions::new(1 << 16).slab_bytes(4096).on_leak(|_| ())).unwrap();
    let stream = heap.new_stream().unwrap();
    let cache: VramCache<u8, [u8]> = VramCache::new(&heap, 1 << 10).unwrap();
    cache.insert(1, heap.alloc_slice(3).unwrap().upload_from(b"abc").unwrap()).unwrap().free_all().unwrap();
    std::mem::forget(cache.get(&1, &stream).unwrap().unwrap());
    let outliving = heap.alloc_slice::<u8>(4096).unwrap();
    drop((cache, heap, stream));
    assert_eq!(control.memory_bytes(), 2 * 4096);
    drop(outliving);
    next.trim().unwrap();
    control.run_all();
    next.trim().unwrap();
    assert_eq!((control.memory_bytes(), control.violations()), (4096, vec![]));
}
