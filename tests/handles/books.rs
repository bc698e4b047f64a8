//! The ledger: charges in granules, the peak, slabs that come and go, and sums that always add up.

use crate::{device, heap_of, watch};
use hapax::{FaultDevice, Freed, Heap, HeapOptions, Ledger, VramCache};

fn balanced(heap: &Heap) -> Ledger {
    heap.validate();
    let ledger = heap.ledger();
    assert_eq!(ledger.live_bytes + ledger.freeing_bytes + ledger.free_bytes, ledger.limit_bytes);
    assert!(ledger.peak_bytes <= ledger.limit_bytes && ledger.slab_bytes <= ledger.limit_bytes);
    ledger
}

#[test]
fn a_handle_is_charged_its_bytes_in_whole_granules() {
    let _watch = watch();
    for (granule, charges) in [(1, [1, 255, 256, 257]), (256, [256, 256, 256, 512]), (4096, [4096; 4])] {
        let heap = heap_of(HeapOptions::new(1 << 20).granule_bytes(granule));
        assert_eq!(heap.granule_bytes(), granule);
        for (bytes, charge) in [1, 255, 256, 257].into_iter().zip(charges) {
            assert_eq!(heap.charge_bytes(bytes), charge);
            let handle = heap.alloc_slice::<u8>(bytes as usize).unwrap();
            assert_eq!((handle.bytes(), handle.charge_bytes()), (bytes, charge));
            assert_eq!(balanced(&heap).live_bytes, charge);
            assert_eq!(handle.free().unwrap(), Freed::Now { bytes: charge });
        }
        assert_eq!((heap.charge_bytes(0), balanced(&heap).live_bytes), (0, 0));
    }
}

#[test]
fn a_cache_charges_what_its_heap_does() {
    let _watch = watch();
    for (granule, charge) in [(1, 300), (256, 512)] {
        let heap = heap_of(HeapOptions::new(1 << 20).granule_bytes(granule));
        let cache: VramCache<u8, [u8]> = VramCache::new(&heap, 1024).unwrap();
        let handle = heap.alloc_slice(300).unwrap().upload_from(&[1; 300]).unwrap();
        cache.insert(1, handle).unwrap().free_all().unwrap();
        assert_eq!((cache.peek(&1).unwrap().charge_bytes, cache.stats().resident_bytes), (charge, charge));
        assert_eq!(cache.clear().free_all().unwrap(), Freed::Now { bytes: charge });
    }
}

#[test]
fn the_peak_is_the_most_that_ever_was_at_once() {
    let _watch = watch();
    let heap = heap_of(HeapOptions::new(1000).granule_bytes(1));
    let one = heap.alloc_slice::<u8>(300).unwrap();
    let two = heap.alloc_slice::<u8>(200).unwrap();
    one.free().unwrap();
    let three = heap.alloc_slice::<u8>(250).unwrap();
    let ledger = balanced(&heap);
    assert_eq!((ledger.live_bytes, ledger.peak_bytes, ledger.live_blocks), (450, 500, 2));
    drop((two, three));
    let ledger = balanced(&heap);
    assert_eq!((ledger.live_bytes, ledger.peak_bytes, ledger.live_blocks, ledger.free_bytes), (0, 500, 0, 1000));
}

#[test]
fn slabs_are_taken_as_needed_and_never_beyond_the_limit() {
    let _watch = watch();
    let heap = heap_of(HeapOptions::new(1000).granule_bytes(1).slab_bytes(300));
    assert_eq!(balanced(&heap).slab_bytes, 0, "nothing before the first allocation");
    let small = heap.alloc_slice::<u8>(10).unwrap();
    assert_eq!(balanced(&heap).slab_bytes, 300);
    let large = heap.alloc_slice::<u8>(450).unwrap();
    assert_eq!(balanced(&heap).slab_bytes, 750, "a slab of its own");
    let rest = heap.alloc_slice::<u8>(290).unwrap();
    assert_eq!(balanced(&heap).slab_bytes, 750, "it fits beside the first");
    let last = heap.alloc_slice::<u8>(1).unwrap();
    assert_eq!(balanced(&heap).slab_bytes, 1000, "a whole slab would pass the limit, so it is a smaller one");
    drop((small, large, rest, last));
    assert_eq!(balanced(&heap).slab_bytes, 1000);
    heap.alloc_slice::<u8>(1000).expect("empty slabs make place for a larger one").free().unwrap();
    balanced(&heap);
}

#[test]
fn what_is_freed_is_used_again_before_a_new_slab() {
    let _watch = watch();
    let (device, control) = FaultDevice::new(device::open());
    let heap = Heap::new(device, HeapOptions::new(1 << 20).slab_bytes(4096)).unwrap();
    for round in 0..100u64 {
        let handles: Vec<_> = (0..8).map(|n| heap.alloc_slice::<u8>(1 + (round as usize * n) % 512).unwrap()).collect();
        balanced(&heap);
        drop(handles);
    }
    assert_eq!(control.log().iter().filter(|call| **call == "alloc").count(), 1);
    assert_eq!(balanced(&heap).live_bytes, 0);
}

#[test]
fn trim_gives_empty_slabs_back_and_close_everything() {
    let _watch = watch();
    let (device, control) = FaultDevice::new(device::open());
    let heap = Heap::new(device, HeapOptions::new(4096).slab_bytes(1024)).unwrap();
    let stream = heap.new_stream().unwrap();
    let kept = heap.alloc_slice::<u8>(1024).unwrap();
    let gone = heap.alloc_slice::<u8>(1024).unwrap();
    drop(heap.page_locked::<u64>().unwrap());
    gone.free().unwrap();
    assert_eq!((heap.trim().unwrap(), control.live_bytes()), (1024, 1024));
    assert_eq!((heap.trim().unwrap(), control.page_locked_bytes()), (0, 0));
    kept.zero(&stream).unwrap().free().unwrap();
    drop(heap.page_locked::<u64>().unwrap());
    assert_eq!(control.page_locked_bytes(), 4096);
    heap.close().unwrap();
    assert_eq!((control.live_bytes(), control.page_locked_bytes()), (0, 0));
}

/// A heap that is dropped rather than closed gives back what is free, then and when the last handle goes.
#[test]
fn a_dropped_heap_leaves_nothing_behind_once_its_handles_are_gone() {
    let _watch = watch();
    let (device, control) = FaultDevice::new(device::open());
    let heap = Heap::new(device, HeapOptions::new(4096).slab_bytes(1024).on_leak(|_| ())).unwrap();
    let stream = heap.new_stream().unwrap();
    let fly = || heap.alloc_slice::<u8>(5).unwrap().upload(heap.page_locked_slice(5).unwrap(), &stream).unwrap();
    let (landed, parked, outliving) = (fly(), fly(), fly());
    drop(parked);
    let (handle, staging) = landed.wait().unwrap();
    drop(heap);
    drop((staging, handle));
    assert!(control.live_bytes() > 0 && control.page_locked_bytes() > 0, "one copy is in flight still");
    drop(outliving);
    device::give_back(|| control.live_bytes() + control.page_locked_bytes() == 0);
    assert_eq!((control.live_bytes(), control.page_locked_bytes()), (0, 0));
}
