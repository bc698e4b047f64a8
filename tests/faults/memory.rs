//! A device that runs out of memory at a bound: the refusal's figures are right, and fills make room where they can.

use crate::{Bench, late, plain};
use hapax::{Error, Heap, HeapOptions, Ledger, Lookup, VramCache};

const LIMIT_BYTES: u64 = 1024;
const SLAB_BYTES: u64 = 128;

fn heap(bench: &Bench) -> Heap {
    Heap::new(&bench.device, HeapOptions::new(LIMIT_BYTES).granule_bytes(16).slab_bytes(SLAB_BYTES)).unwrap()
}

/// Whether it was refused for memory, with figures that add up.
fn refused<T>(result: &Result<T, Error>, need: u64, ledger: Ledger) -> bool {
    match result {
        Ok(_) => false,
        Err(Error::OutOfMemory { need_bytes, free_bytes, largest_free_bytes, freeing_bytes, limit_bytes, .. }) => {
            assert_eq!((*need_bytes, *limit_bytes), (need, LIMIT_BYTES));
            assert_eq!((*free_bytes, *freeing_bytes), (ledger.free_bytes, ledger.freeing_bytes));
            assert_eq!(ledger.live_bytes + free_bytes + freeing_bytes, LIMIT_BYTES);
            assert!(*largest_free_bytes < need && *largest_free_bytes <= ledger.slab_bytes);
            true
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn an_allocation_ends_where_the_device_does_and_says_so() {
    for open in [plain, late] {
        for most in (0..=LIMIT_BYTES + SLAB_BYTES).step_by(16) {
            let Some(bench) = open() else { continue };
            let heap = heap(&bench);
            bench.control.out_of_memory_above(most);
            let mut handles = Vec::new();
            for bytes in [16u64, 48, 100, 128, 200, 16, 300, 64, 32, 16, 16, 16] {
                let handle = heap.alloc_slice::<u8>(bytes as usize);
                heap.validate();
                let need = heap.charge_bytes(bytes);
                if !refused(&handle, need, heap.ledger()) {
                    handles.push(handle);
                }
                let slab_bytes = heap.ledger().slab_bytes;
                assert_eq!(slab_bytes, bench.control.live_bytes());
                assert!(slab_bytes <= most.min(LIMIT_BYTES));
            }
            // What fits is not refused.
            handles.extend(std::iter::from_fn(|| heap.alloc_slice::<u8>(16).ok()).map(Ok));
            let ledger = heap.ledger();
            assert_eq!(ledger.live_bytes, ledger.slab_bytes, "a free span was refused");
            assert!(ledger.slab_bytes + 16 > most.min(LIMIT_BYTES), "a slab was refused");
            handles.clear();
            if (300..=LIMIT_BYTES).contains(&most) {
                let large = heap.alloc_slice::<u8>(most as usize / 16 * 16).expect("empty slabs make place");
                assert_eq!(large.charge_bytes(), bench.control.live_bytes());
            }
            bench.control.disarm();
            drop(heap.alloc_slice::<u8>(LIMIT_BYTES as usize).expect("the device has memory again"));
            heap.close().unwrap();
            assert_eq!(bench.control.live_bytes(), 0);
        }
    }
}

/// The budget has room, the device has not: what a fill needs, others must give.
#[test]
fn a_fill_evicts_once_more_where_the_device_has_less_than_the_budget() {
    for open in [plain, late] {
        for most in (0..=4 * SLAB_BYTES).step_by(16) {
            let Some(bench) = open() else { continue };
            let heap = heap(&bench);
            let stream = heap.new_stream().unwrap();
            let cache: VramCache<u32, [u8]> = VramCache::new(&heap, LIMIT_BYTES).unwrap();
            bench.control.out_of_memory_above(most);
            let mut filled = 0;
            for key in 0..12u32 {
                let Lookup::Miss(vacancy) = cache.lookup(&key, &stream).unwrap() else { panic!("key {key} is new") };
                let evictions = cache.stats().evictions;
                match vacancy.fill_from(&[key as u8; 64]) {
                    Ok(fill) => {
                        filled += 1;
                        let mut back = [0xEE; 64];
                        fill.lease.download_to(&mut back).unwrap();
                        assert_eq!(back, [key as u8; 64]);
                        assert!(cache.stats().evictions <= evictions + 1, "one of 64 bytes makes place for another");
                    }
                    Err(failed) => {
                        let error: Result<(), Error> = Err((*failed.error).clone());
                        assert!(refused(&error, 64, heap.ledger()));
                        assert_eq!(cache.stats().reserved_bytes, 0, "the bytes went back");
                    }
                }
                cache.validate();
                heap.validate();
                assert!(bench.control.live_bytes() <= most);
            }
            // One that fits an empty device fits after one more round.
            assert_eq!(filled, if most >= 64 { 12 } else { 0 }, "with {most} bytes");
            assert_eq!(cache.stats().resident_bytes, 64 * (most / 64).min(12));
            cache.clear().free_all().unwrap();
            drop(cache);
            heap.close().unwrap();
            assert_eq!(bench.control.live_bytes(), 0);
        }
    }
}

#[test]
fn bytes_that_wait_for_their_streams_are_named_and_come_back() {
    let Some(bench) = late() else { return };
    let heap = heap(&bench);
    let stream = heap.new_stream().unwrap();
    bench.control.out_of_memory_above(256);
    let handle = heap.alloc_slice::<u8>(200).unwrap().zero(&stream).unwrap();
    handle.free().unwrap();
    let refusal = heap.alloc_slice::<u8>(200).map(drop);
    assert!(refused(&refusal, 208, heap.ledger()));
    assert!(matches!(refusal, Err(Error::OutOfMemory { freeing_bytes: 208, .. })));
    assert_eq!(heap.settle().unwrap(), 208);
    drop(heap.alloc_slice::<u8>(200).expect("the stream has passed"));
    heap.close().unwrap();
}
