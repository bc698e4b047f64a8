//! Readers run behind the last write, writers behind every reader, and the host waits for neither.

use crate::{Rig, contents, device, lend, lend_mut};
use hapax::{CacheOptions, FaultDevice, Heap, HeapOptions, Removed, VramCache};

fn options(budget_bytes: u64) -> CacheOptions {
    CacheOptions::new(budget_bytes).mode(crate::mode(module_path!()))
}

#[test]
fn a_reader_on_another_stream_runs_behind_a_pending_fill() {
    let rig = Rig::new(64);
    let handle = rig.heap.alloc_slice::<u8>(4).unwrap().zero(&rig.a).unwrap();
    let seen = rig.late.reads(&rig.b, lend(&handle, &rig.b), 4);
    rig.late.run_stream(&rig.b);
    assert_eq!(seen.try_recv().unwrap(), [0; 4]);
}

#[test]
#[expect(unsafe_code, reason = "calls `written_on`")]
fn a_reader_on_another_stream_runs_behind_a_kernel_that_filled_the_memory() {
    let rig = Rig::new(64);
    let memory = rig.heap.alloc_slice::<u8>(4).unwrap();
    rig.late.writes(&rig.a, memory.device_address(), b"made");
    // SAFETY: the kernel that stands on the stream writes all four bytes.
    let handle = unsafe { memory.written_on(&rig.a) }.unwrap();
    let seen = rig.late.reads(&rig.b, lend(&handle, &rig.b), 4);
    rig.late.run_stream(&rig.b);
    assert_eq!(seen.try_recv().unwrap(), b"made");
}

#[test]
fn a_reader_runs_behind_a_write_through_a_mutable_view() {
    let rig = Rig::new(64);
    let mut handle = rig.ready(b"old!");
    for round in [b"one!", b"two!"] {
        let address = lend_mut(&mut handle, &rig.a);
        rig.late.writes(&rig.a, address, round);
        let seen = rig.late.reads(&rig.b, lend(&handle, &rig.b), 4);
        rig.late.run_stream(&rig.b);
        assert_eq!(seen.try_recv().unwrap(), round);
    }
}

#[test]
fn a_writer_waits_for_readers_on_every_other_stream() {
    let rig = Rig::new(64);
    let third = rig.heap.new_stream().unwrap();
    let mut handle = rig.ready(b"old!");
    let address = lend(&handle, &rig.a);
    let seen = [&rig.a, &rig.b].map(|stream| {
        lend(&handle, stream);
        rig.late.reads(stream, address, 4)
    });
    lend_mut(&mut handle, &third);
    rig.late.writes(&third, address, b"new!");
    rig.late.run_stream(&third);
    assert_eq!(seen.map(|seen| seen.try_recv().unwrap()), [*b"old!", *b"old!"]);
    assert_eq!(rig.late.read(address, 4), b"new!");
}

#[test]
fn a_writer_waits_for_a_writer_on_another_stream() {
    let rig = Rig::new(64);
    let mut handle = rig.ready(b"old!");
    let address = lend_mut(&mut handle, &rig.a);
    rig.late.writes(&rig.a, address, b"one!");
    lend_mut(&mut handle, &rig.b);
    rig.late.writes(&rig.b, address, b"two!");
    rig.late.run_stream(&rig.b);
    rig.late.run_stream(&rig.a);
    assert_eq!(contents(&handle), b"two!");
}

#[test]
fn a_writer_needs_no_order_on_its_own_stream() {
    let rig = Rig::new(64);
    let mut handle = rig.ready(b"old!");
    lend(&handle, &rig.a);
    rig.late.stands(&rig.a);
    let calls = rig.late.calls();
    lend_mut(&mut handle, &rig.a);
    assert_eq!(rig.late.calls(), calls);
}

#[test]
fn readers_of_settled_contents_make_no_driver_call() {
    let rig = Rig::new(64);
    let handle = rig.ready(b"done");
    rig.late.stands(&rig.a);
    let calls = rig.late.calls();
    lend(&handle, &rig.a);
    lend(&handle, &rig.b);
    assert_eq!(rig.late.calls(), calls);
}

#[test]
fn every_way_to_the_host_runs_behind_a_pending_write() {
    let rig = Rig::new(64);
    let mut back = [0; 4];
    let handle = rig.pending(b"work", &rig.a);
    handle.download_to(&mut back).unwrap();
    assert_eq!(&back, b"work");
    let handle = rig.pending(b"view", &rig.a);
    handle.on(&rig.b).unwrap().download_to(&mut back).unwrap();
    assert_eq!(&back, b"view");
    let handle = rig.pending(b"copy", &rig.a);
    let (_, staging) = handle.download(rig.heap.page_locked_slice(4).unwrap(), &rig.b).unwrap().wait().unwrap();
    assert_eq!(*staging, *b"copy");
    let cache: VramCache<u8, [u8]> = VramCache::with_options(&rig.heap, options(16)).unwrap();
    cache.insert(1, rig.pending(b"gone", &rig.a)).unwrap().free_all().unwrap();
    let Removed::Taken(1, evicted) = cache.remove(&1) else { panic!("it is resident and unleased") };
    evicted.download_to(&mut back).unwrap();
    assert_eq!(&back, b"gone");
}

#[test]
fn a_revived_handle_is_ordered_behind_what_was_pending_when_it_left() {
    let rig = Rig::new(64);
    let cache: VramCache<u8, [u8]> = VramCache::with_options(&rig.heap, options(16)).unwrap();
    cache.insert(1, rig.pending(b"back", &rig.a)).unwrap().free_all().unwrap();
    let address = cache.get(&1, &rig.a).unwrap().unwrap().view().device_address();
    let (_, evicted) = cache.clear().next().unwrap();
    let mut handle = evicted.revive(&rig.b).unwrap();
    let seen = rig.late.reads(&rig.b, address, 4);
    lend_mut(&mut handle, &rig.a);
    rig.late.writes(&rig.a, address, b"over");
    rig.late.run_stream(&rig.a);
    assert_eq!(seen.try_recv().unwrap(), b"back", "read behind the upload, before the next write");
}

/// The calls by name, on a device that keeps a log.
#[test]
fn a_pending_write_costs_its_reader_one_wait_on_the_device_and_none_on_the_host() {
    let _watch = device::watch();
    let (inner, late) = device::late();
    let (device, control) = FaultDevice::new(inner);
    let heap = Heap::new(device, HeapOptions::new(64).granule_bytes(1)).unwrap();
    let [a, b] = [(); 2].map(|()| heap.new_stream().unwrap());
    let cache: VramCache<u8, [u8]> = VramCache::with_options(&heap, options(64)).unwrap();
    let staging = heap.page_locked_slice(4).unwrap();
    let handle = heap.alloc_slice::<u8>(4).unwrap().upload(staging, &a).unwrap().ready_on(&a).unwrap();
    cache.insert(1, handle).unwrap().free_all().unwrap();
    let since = |calls: u64| control.log()[calls as usize..].to_vec();
    let calls = control.calls();
    drop(cache.get(&1, &a).unwrap());
    assert_eq!(since(calls), [""; 0], "the writer's own stream is in order");
    drop(cache.get(&1, &b).unwrap());
    assert_eq!(since(calls), ["event_passed", "stream_wait_event"]);
    b.synchronize().unwrap();
    let calls = control.calls();
    drop(cache.get(&1, &b).unwrap());
    assert_eq!(since(calls), ["event_passed"], "this finds that the write has passed");
    let calls = control.calls();
    for stream in [&a, &b] {
        drop(cache.get(&1, stream).unwrap());
    }
    assert_eq!(since(calls), [""; 0]);
    assert!(late.violations().is_empty());
}
