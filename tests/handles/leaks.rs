//! What is still alive when a heap goes is reported with the line that allocated it; what was exported comes back.
#![expect(unsafe_code, reason = "calls `reclaim`")]

use crate::{device, heap_of, watch};
use hapax::{DevBox, HeapOptions, LeakReport, Lookup, Stream, VramCache};
use std::sync::{Arc, Mutex};

/// Where each leaked block was allocated, and its bytes.
type Seen = Arc<Mutex<Vec<(&'static str, u32, u64)>>>;

fn watched(options: HeapOptions) -> (HeapOptions, Seen) {
    let seen = Seen::default();
    let (tell, name) = (seen.clone(), device::name());
    let note = move |report: &LeakReport| {
        assert_eq!(report.device, name);
        let block = |block: &hapax::LeakedBlock| (block.allocated_at.file(), block.allocated_at.line(), block.bytes);
        tell.lock().unwrap().extend(report.blocks.iter().map(block));
    };
    (options.on_leak(note), seen)
}

#[test]
fn every_block_alive_is_reported_with_the_line_that_allocated_it() {
    let _watch = watch();
    let (options, seen) = watched(HeapOptions::new(1 << 20));
    let heap = heap_of(options);
    let stream = heap.new_stream().unwrap();
    let first = line!() + 1;
    let value = heap.alloc::<u64>().unwrap();
    let loop_line = line!() + 1;
    let slices: Vec<DevBox<[u8]>> = (0..2).map(|_| heap.alloc_slice(300).unwrap().zero(&stream).unwrap()).collect();
    let freed = heap.alloc::<u8>().unwrap();
    freed.free().unwrap();
    drop(heap.alloc_slice::<u8>(0).unwrap());
    drop(heap);
    let expected = [(file!(), first, 256), (file!(), loop_line, 512), (file!(), loop_line, 512)];
    assert_eq!(*seen.lock().unwrap(), expected);
    // They are alive all the same, and are freed as ever.
    let mut back = [1; 300];
    slices[0].download_to(&mut back).unwrap();
    assert_eq!(back, [0; 300]);
    drop((value, slices));
    assert_eq!(seen.lock().unwrap().len(), 3, "one report");
}

#[test]
fn only_the_last_clone_of_a_heap_reports() {
    let _watch = watch();
    let (options, seen) = watched(HeapOptions::new(1 << 20));
    let heap = heap_of(options);
    let clone = heap.clone();
    let cache: VramCache<u8, u8> = VramCache::new(&heap, 1024).unwrap();
    let _handle = heap.alloc::<u8>().unwrap();
    drop(heap);
    drop(clone);
    assert!(seen.lock().unwrap().is_empty(), "the cache has the heap still");
    drop(cache);
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[test]
fn a_heap_without_live_blocks_reports_nothing() {
    let _watch = watch();
    let (options, seen) = watched(HeapOptions::new(1 << 20));
    let heap = heap_of(options);
    let cache: VramCache<u8, u8> = VramCache::new(&heap, 1024).unwrap();
    let handle = heap.alloc::<u8>().unwrap().upload_from(&1).unwrap();
    cache.insert(1, handle).unwrap().free_all().unwrap();
    drop(cache);
    drop(heap);
    assert!(seen.lock().unwrap().is_empty());
}

/// `fill_from` and a reservation allocate on the caller's behalf, so the caller's line is what helps.
#[test]
fn the_entry_of_a_forgotten_lease_is_reported_with_the_line_that_filled_it() {
    let _watch = watch().leaks_on_purpose();
    let (options, seen) = watched(HeapOptions::new(1 << 20));
    let heap = heap_of(options);
    let stream = heap.new_stream().unwrap();
    let cache: VramCache<u32, [u8]> = VramCache::new(&heap, 4096).unwrap();
    let [fill_line, reserve_line] = forget_two_leases(&cache, &stream);
    assert_eq!(cache.stats().entries, 3);
    cache.validate();
    drop(cache);
    assert_eq!(heap.ledger().live_blocks, 2);
    drop(heap);
    assert_eq!(*seen.lock().unwrap(), [(file!(), fill_line, 256), (file!(), reserve_line, 512)]);
}

fn forget_two_leases(cache: &VramCache<u32, [u8]>, stream: &Stream) -> [u32; 2] {
    let vacancy = |key| match cache.lookup(&key, stream).unwrap() {
        Lookup::Miss(vacancy) => vacancy,
        Lookup::Hit(_) => panic!("nothing was put in"),
    };
    let fill_line = line!() + 1;
    let filled = vacancy(1).fill_from(b"abc").unwrap();
    std::mem::forget(filled.lease);
    let (reservation, _) = vacancy(2).reserve(300).unwrap();
    let reserve_line = line!() + 1;
    let memory = reservation.alloc_slice(300).unwrap();
    std::mem::forget(reservation.commit(memory.upload_from(&[7; 300]).unwrap()).unwrap());
    drop(vacancy(3).fill_from(b"gone with the cache").unwrap());
    [fill_line, reserve_line]
}

#[test]
fn a_forgotten_handle_is_reported_and_harms_nothing() {
    let _watch = watch().leaks_on_purpose();
    let (options, seen) = watched(HeapOptions::new(1 << 20));
    let heap = heap_of(options);
    std::mem::forget(heap.alloc_slice::<u8>(10).unwrap());
    let handle = heap.alloc_slice::<u8>(10).unwrap().upload_from(&[5; 10]).unwrap();
    heap.validate();
    drop(handle);
    drop(heap);
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[test]
fn the_report_reads_as_one_line_for_each_place() {
    let _watch = watch();
    let text = Arc::new(Mutex::new(String::new()));
    let written = text.clone();
    let options = HeapOptions::new(1 << 20).on_leak(move |report| *written.lock().unwrap() = report.to_string());
    let heap = heap_of(options);
    let handles: Vec<_> = (0..3).map(|_| heap.alloc::<u8>().unwrap()).collect();
    drop(heap);
    let text = text.lock().unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], format!("hapax: 3 handles still own 768 bytes of {}", device::name()));
    assert!(lines.len() == 2 && lines[1].contains(file!()) && lines[1].contains("3 of them, 768 bytes"), "{text}");
    drop(handles);
}

#[test]
fn exported_memory_is_the_same_when_it_is_reclaimed() {
    let _watch = watch();
    let heap = heap_of(HeapOptions::new(1 << 20));
    let stream = heap.new_stream().unwrap();
    let handle = heap.alloc_slice::<u8>(4).unwrap().upload_from(b"kept").unwrap();
    let address = handle.on(&stream).unwrap().device_address();
    let exported = handle.export();
    assert_eq!((exported.device_address(), exported.bytes()), (address, 4));
    assert_eq!((heap.ledger().live_blocks, heap.ledger().live_bytes), (1, 256));
    // SAFETY: nobody outside touched the memory, and its contents are valid.
    let handle = unsafe { exported.reclaim() };
    let mut back = [0; 4];
    handle.download_to(&mut back).unwrap();
    assert_eq!(&back, b"kept");
    handle.free().unwrap();
    heap.close().unwrap();
}

#[test]
fn exported_memory_is_as_good_as_forgotten_until_it_is_reclaimed() {
    let _watch = watch().leaks_on_purpose();
    let (options, seen) = watched(HeapOptions::new(1 << 20));
    let heap = heap_of(options);
    let line = line!() + 1;
    drop(heap.alloc_slice::<u8>(4).unwrap().upload_from(b"kept").unwrap().export());
    assert_eq!(heap.ledger().live_blocks, 1);
    assert!(heap.clone().close().is_err());
    drop(heap);
    assert_eq!(*seen.lock().unwrap(), [(file!(), line, 256)]);
}
