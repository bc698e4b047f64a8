//! What goes in comes back: values, slices, nothing at all, and types without bytes.

use crate::{device, freed_after_use, heap, watch};
use bytemuck::{Pod, Zeroable};
use hapax::{DeviceData, FaultDevice, Freed, Heap, HeapOptions, Landed, Removed, VramCache};

#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Launch {
    grid: [u32; 3],
    shared_bytes: u32,
}

#[test]
fn a_value_comes_back_as_it_went_in() {
    let _watch = watch();
    let heap = heap();
    let launch = Launch { grid: [1, 2, 3], shared_bytes: 4 };
    let handle = heap.alloc::<Launch>().unwrap().upload_from(&launch).unwrap();
    assert_eq!(handle.bytes(), 16);
    let mut back = Launch::zeroed();
    handle.download_to(&mut back).unwrap();
    assert_eq!(back, launch);
    assert_eq!(handle.free().unwrap(), Freed::Now { bytes: 256 });
}

#[test]
fn a_slice_comes_back_as_it_went_in() {
    let _watch = watch();
    let heap = heap();
    let numbers: Vec<u64> = (0..100).collect();
    let handle = heap.alloc_slice::<u64>(100).unwrap().upload_from(&numbers).unwrap();
    assert_eq!((handle.len(), handle.is_empty(), handle.bytes(), handle.charge_bytes()), (100, false, 800, 1024));
    let mut back = vec![0; 100];
    handle.download_to(&mut back).unwrap();
    assert_eq!(back, numbers);
    assert_eq!(handle.free().unwrap(), Freed::Now { bytes: 1024 });
}

#[test]
fn two_handles_never_share_a_byte() {
    let _watch = watch();
    let heap = heap();
    let handles: Vec<_> =
        (0..50u8).map(|n| heap.alloc_slice(n as usize).unwrap().upload_from(&vec![n; n as usize]).unwrap()).collect();
    for (n, handle) in (0..50u8).zip(&handles) {
        let mut back = vec![0xFF; handle.len()];
        handle.download_to(&mut back).unwrap();
        assert_eq!(back, vec![n; n as usize]);
    }
}

#[test]
fn copies_in_flight_give_both_sides_back() {
    let _watch = watch();
    let heap = heap();
    let stream = heap.new_stream().unwrap();
    let mut staging = heap.page_locked_slice::<u16>(3).unwrap();
    assert_eq!(*staging, [0; 3], "page-locked memory starts zeroed");
    staging.copy_from_slice(&[7, 8, 9]);
    let flying = heap.alloc_slice::<u16>(3).unwrap().upload(staging, &stream).unwrap();
    let (handle, mut staging) = match flying.try_wait().unwrap() {
        Landed::Yes(handle, staging) => (handle, staging),
        Landed::NotYet(_) if device::SYNCHRONOUS => panic!("it is never late"),
        Landed::NotYet(flying) => flying.wait().unwrap(),
    };
    staging.fill(0);
    let (handle, staging) = handle.download(staging, &stream).unwrap().wait().unwrap();
    assert_eq!(*staging, [7, 8, 9]);
    let handle = handle.download(staging, &stream).unwrap().ready_on(&stream).unwrap();
    assert_eq!(handle.free().unwrap(), freed_after_use(256));
    heap.close().unwrap();
}

#[test]
fn a_reused_page_locked_buffer_shows_nothing_of_its_past() {
    let _watch = watch();
    let heap = heap();
    let mut staging = heap.page_locked_slice::<u8>(16).unwrap();
    staging.fill(0xEE);
    drop(staging);
    assert_eq!(*heap.page_locked_slice::<u8>(9).unwrap(), [0; 9]);
    assert_eq!(*heap.page_locked::<[u32; 4]>().unwrap(), [0; 4]);
}

#[test]
fn zero_sets_every_byte() {
    let _watch = watch();
    let heap = heap();
    let stream = heap.new_stream().unwrap();
    let dirty = heap.alloc_slice::<u8>(300).unwrap().upload_from(&[0xAA; 300]).unwrap();
    dirty.free().unwrap();
    let clean = heap.alloc_slice::<u8>(300).unwrap().zero(&stream).unwrap();
    let mut back = [1; 300];
    clean.download_to(&mut back).unwrap();
    assert_eq!(back, [0; 300]);
}

#[test]
fn an_evicted_handle_can_be_read_revived_and_freed() {
    let _watch = watch();
    let heap = heap();
    let stream = heap.new_stream().unwrap();
    let cache: VramCache<u32, [u8]> = VramCache::new(&heap, 1024).unwrap();
    cache.insert(1, heap.alloc_slice(3).unwrap().upload_from(b"abc").unwrap()).unwrap().free_all().unwrap();
    let Removed::Taken(1, evicted) = cache.remove(&1) else { panic!("it is resident and unleased") };
    let mut back = [0; 3];
    evicted.download_to(&mut back).unwrap();
    assert_eq!(&back, b"abc");
    let revived = evicted.revive(&stream).unwrap();
    cache.insert(2, revived).unwrap().free_all().unwrap();
    let Removed::Taken(2, evicted) = cache.remove(&2) else { panic!("it is resident and unleased") };
    assert_eq!(evicted.free().unwrap(), freed_after_use(256));
}

/// Through every state that a handle can be in without a copy in flight, which takes an event to end.
#[test]
fn an_empty_slice_makes_no_driver_call() {
    let _watch = watch();
    let (plain, control) = FaultDevice::new(device::open());
    without_a_driver_call(&Heap::new(plain, HeapOptions::new(4096)).unwrap(), || control.calls());
    let Some((late, control)) = device::late_if_there_is_one() else { return };
    without_a_driver_call(&Heap::new(late, HeapOptions::new(4096)).unwrap(), || control.calls());
    assert!(control.violations().is_empty());
}

fn without_a_driver_call(heap: &Heap, calls: impl Fn() -> u64) {
    let stream = heap.new_stream().unwrap();
    let cache: VramCache<u32, [u32]> = VramCache::new(heap, 1024).unwrap();
    let before = calls();
    let handle = heap.alloc_slice::<u32>(0).unwrap().upload_from(&[]).unwrap();
    assert!(handle.is_empty());
    assert_eq!((handle.bytes(), handle.charge_bytes(), handle.len()), (0, 0, 0));
    handle.download_to(&mut []).unwrap();
    assert!(handle.on(&stream).unwrap().is_empty());
    cache.insert(1, handle).unwrap().free_all().unwrap();
    assert!(cache.get(&1, &stream).unwrap().unwrap().is_empty());
    let Removed::Taken(1, evicted) = cache.remove(&1) else { panic!("it is resident and unleased") };
    evicted.download_to(&mut []).unwrap();
    let mut revived = evicted.revive(&stream).unwrap();
    assert!(revived.on_mut(&stream).unwrap().is_empty());
    assert_eq!(revived.free().unwrap().bytes(), 0);
    drop(heap.alloc_slice::<u32>(0).unwrap().zero(&stream).unwrap());
    drop(heap.page_locked_slice::<u8>(0).unwrap());
    let ledger = heap.ledger();
    assert_eq!((ledger.live_blocks, ledger.live_bytes, ledger.slab_bytes), (0, 0, 0));
    assert_eq!(calls(), before);
}

#[test]
fn types_without_bytes_take_no_memory() {
    let _watch = watch();
    let heap = heap();
    let unit = heap.alloc::<()>().unwrap().upload_from(&()).unwrap();
    unit.download_to(&mut ()).unwrap();
    let mut five = heap.alloc::<[(); 5]>().unwrap().upload_from(&[(); 5]).unwrap();
    five.download_to(&mut [(); 5]).unwrap();
    let stream = heap.new_stream().unwrap();
    assert_eq!(five.on_mut(&stream).unwrap().into_bytes().len(), 0);
    let many = heap.alloc_slice::<[(); 5]>(usize::MAX).unwrap();
    assert_eq!((many.len(), many.bytes()), (usize::MAX, 0));
    let seven = heap.alloc_slice::<()>(7).unwrap().upload_from(&[(); 7]).unwrap();
    assert_eq!(seven.on(&stream).unwrap().slice(2..6).unwrap().len(), 4);
    seven.download_to(&mut [(); 7]).unwrap();
    assert_eq!((heap.ledger().live_blocks, heap.ledger().slab_bytes), (0, 0));
    assert_eq!(seven.free().unwrap(), Freed::Now { bytes: 0 });
}

#[test]
fn page_locked_memory_without_bytes_can_be_used_like_any_other() {
    let _watch = watch();
    let heap = heap();
    let stream = heap.new_stream().unwrap();
    assert_eq!(*heap.page_locked_slice::<u64>(0).unwrap(), []);
    assert_eq!(*heap.page_locked_slice::<[u64; 0]>(3).unwrap(), [[]; 3]);
    assert_eq!(*heap.page_locked::<[u64; 0]>().unwrap(), []);
    heap.page_locked_slice::<()>(5).unwrap().fill(());
    let mut staging = heap.page_locked_slice::<u32>(0).unwrap();
    staging.copy_from_slice(&[]);
    let (handle, staging) = heap.alloc_slice(0).unwrap().upload(staging, &stream).unwrap().wait().unwrap();
    let (_, staging) = handle.download(staging, &stream).unwrap().wait().unwrap();
    assert!(staging.is_empty());
}

#[test]
fn elements_of_every_size_and_alignment_keep_their_bits() {
    let _watch = watch();
    fn put<T: DeviceData + Pod + PartialEq + std::fmt::Debug>(heap: &Heap, value: T) {
        let handle = heap.alloc::<T>().unwrap().upload_from(&value).unwrap();
        let mut back = T::zeroed();
        handle.download_to(&mut back).unwrap();
        assert_eq!(back, value);
    }
    let heap = heap();
    put(&heap, 1u8);
    put(&heap, -2i16);
    put(&heap, 3.5f64);
    put(&heap, [4u128, 5]);
    put(&heap, [[6u8; 3]; 3]);
    put(&heap, u128::MAX);
    assert_eq!(heap.ledger().live_blocks, 0);
}
