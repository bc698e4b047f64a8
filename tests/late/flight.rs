//! Copies in flight own both their sides: waited for, asked about, ordered, dropped or forgotten.

use crate::device::{self, POISON};
use crate::{Rig, contents, lend};
use hapax::{DeviceRef, Freed, Heap, HeapOptions, Landed};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn waiting_runs_the_copy_and_nothing_on_other_streams() {
    let rig = Rig::new(64);
    let Rig { heap, a, b, late, .. } = &rig;
    late.stands(b);
    let mut staging = heap.page_locked_slice::<u8>(4).unwrap();
    staging.copy_from_slice(&[1, 2, 3, 4]);
    let flying = heap.alloc_slice(4).unwrap().upload(staging, a).unwrap();
    assert_eq!(late.pending(), 3, "the copy, its mark, and the other stream's work");
    let (handle, staging) = flying.wait().unwrap();
    assert_eq!((late.pending(), &*staging), (1, &[1, 2, 3, 4][..]));
    assert_eq!(contents(&handle), [1, 2, 3, 4]);
}

#[test]
fn asking_never_runs_the_copy() {
    let rig = Rig::new(64);
    let Rig { heap, a, late, .. } = &rig;
    let flying = heap.alloc_slice::<u8>(4).unwrap().upload(heap.page_locked_slice(4).unwrap(), a).unwrap();
    let Landed::NotYet(flying) = flying.try_wait().unwrap() else { panic!("nothing ran it") };
    late.run_stream(a);
    let Landed::Yes(handle, staging) = flying.try_wait().unwrap() else { panic!("it ran") };
    let flying = handle.download(staging, a).unwrap();
    let Landed::NotYet(flying) = flying.try_wait().unwrap() else { panic!("nothing ran it") };
    let (handle, _) = flying.wait().unwrap();
    assert_eq!(contents(&handle), [0; 4]);
}

#[test]
fn once_waited_for_a_copy_holds_its_memory_no_longer() {
    let rig = Rig::new(64);
    let Rig { heap, a, late, .. } = &rig;
    let flying = heap.alloc_slice::<u8>(4).unwrap().upload(heap.page_locked_slice(4).unwrap(), a).unwrap();
    let (handle, _) = flying.wait().unwrap();
    assert_eq!(handle.free().unwrap(), Freed::Now { bytes: 4 });
    assert_eq!(late.pending(), 0);
}

#[test]
fn a_download_that_blocks_leaves_no_stream_to_wait_for() {
    let rig = Rig::new(64);
    let handle = rig.ready(&[1; 16]);
    assert_eq!(contents(&handle), [1; 16]);
    assert_eq!(handle.free().unwrap(), Freed::Now { bytes: 16 });
}

#[test]
fn a_dropped_upload_parks_block_and_operands_until_the_copy_ran() {
    let rig = Rig::new(16);
    let Rig { heap, a, late, .. } = &rig;
    let memory = heap.alloc_slice::<u8>(16).unwrap();
    let address = memory.device_address();
    let mut staging = heap.page_locked_slice(16).unwrap();
    staging.fill(7);
    drop(memory.upload(staging, a).unwrap());
    assert_eq!((rig.freeing_bytes(), heap.ledger().live_bytes), (16, 0));
    // Another buffer must be another memory: the copy has yet to read its own.
    let one_buffer = late.page_locked_bytes();
    let mut other = heap.page_locked_slice::<u8>(16).unwrap();
    other.fill(9);
    assert_eq!(late.page_locked_bytes(), 2 * one_buffer);
    assert!(heap.alloc_slice::<u8>(1).is_err(), "the copy has yet to write there");
    late.run_stream(a);
    assert_eq!(late.read(address, 16), [7; 16]);
    rig.sweep();
    assert_eq!(rig.freeing_bytes(), 0);
    let again = heap.page_locked_slice::<u8>(16).unwrap();
    assert_eq!((late.page_locked_bytes(), &*again), (2 * one_buffer, &[0; 16][..]));
    assert_eq!(heap.alloc_slice::<u8>(16).unwrap().free().unwrap(), Freed::Now { bytes: 16 });
}

#[test]
fn a_dropped_download_parks_block_and_operands_until_the_copy_ran() {
    let rig = Rig::new(16);
    let Rig { heap, a, late, .. } = &rig;
    let handle = rig.ready(&[5; 16]);
    drop(handle.download(heap.page_locked_slice(16).unwrap(), a).unwrap());
    let one_buffer = late.page_locked_bytes();
    let other = heap.page_locked_slice::<u8>(16).unwrap();
    assert_eq!((rig.freeing_bytes(), late.page_locked_bytes()), (16, 2 * one_buffer));
    assert_eq!(heap.settle().unwrap(), 16);
    assert_eq!((rig.freeing_bytes(), late.pending()), (0, 0));
    assert_eq!(*other, [0; 16], "the copy wrote into its own buffer");
    drop(heap.page_locked_slice::<u8>(16).unwrap());
    assert_eq!(late.page_locked_bytes(), 2 * one_buffer);
}

#[test]
fn a_copy_made_ready_parks_its_buffer_alone() {
    let rig = Rig::new(16);
    let Rig { heap, a, late, .. } = &rig;
    let handle = rig.pending(&[3; 16], a);
    let one_buffer = late.page_locked_bytes();
    drop(heap.page_locked_slice::<u8>(1).unwrap());
    assert_eq!((late.page_locked_bytes(), rig.freeing_bytes()), (2 * one_buffer, 0));
    let handle = handle.download(heap.page_locked_slice(16).unwrap(), a).unwrap().ready_on(a).unwrap();
    assert_eq!(late.read(lend(&handle, a), 1), [POISON], "still nothing ran");
    assert_eq!(contents(&handle), [3; 16]);
    heap.settle().unwrap();
    drop([(); 2].map(|()| heap.page_locked_slice::<u8>(1).unwrap()));
    assert_eq!(late.page_locked_bytes(), 2 * one_buffer, "both buffers are back");
}

#[test]
fn ready_on_orders_another_stream_behind_the_copy_without_waiting() {
    let rig = Rig::new(64);
    let Rig { heap, a, b, late, .. } = &rig;
    let mut staging = heap.page_locked_slice(4).unwrap();
    staging.copy_from_slice(b"late");
    let memory = heap.alloc_slice::<u8>(4).unwrap();
    let address = memory.device_address();
    let handle = memory.upload(staging, a).unwrap().ready_on(b).unwrap();
    assert_eq!(late.read(address, 4), [POISON; 4], "nothing ran on the host's account");
    let seen = late.reads(b, address, 4);
    late.run_stream(b);
    assert_eq!(seen.try_recv().unwrap(), b"late");
    drop(handle);
}

#[test]
fn ready_on_leaves_a_third_stream_to_be_ordered_when_it_is_lent_to() {
    let rig = Rig::new(64);
    let Rig { heap, a, b, late, .. } = &rig;
    let third = heap.new_stream().unwrap();
    let mut staging = heap.page_locked_slice(4).unwrap();
    staging.copy_from_slice(b"late");
    let handle = heap.alloc_slice::<u8>(4).unwrap().upload(staging, a).unwrap().ready_on(b).unwrap();
    let seen = late.reads(&third, lend(&handle, &third), 4);
    late.run_stream(&third);
    assert_eq!(seen.try_recv().unwrap(), b"late");
}

#[test]
fn copies_of_one_stream_run_in_order() {
    let rig = Rig::new(64);
    let Rig { heap, a, late, .. } = &rig;
    let mut staging = heap.page_locked_slice(3).unwrap();
    staging.copy_from_slice(b"abc");
    let first = heap.alloc_slice::<u8>(3).unwrap().upload(staging, a).unwrap().ready_on(a).unwrap();
    let flying = first.download(heap.page_locked_slice(3).unwrap(), a).unwrap();
    let copies_and_marks = 4;
    assert_eq!(late.pending(), copies_and_marks);
    let (_, back) = flying.wait().unwrap();
    assert_eq!(*back, *b"abc");
}

#[test]
fn a_forgotten_flight_leaks_both_sides_and_nothing_else() {
    let reports = Arc::new(AtomicUsize::new(0));
    let counted = reports.clone();
    let options = HeapOptions::new(64).granule_bytes(1).on_leak(move |report| {
        assert_eq!((report.blocks.len(), report.blocks[0].bytes), (1, 16));
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let rig = Rig::watched(options, device::watch().leaks_on_purpose());
    let Rig { heap, a, late, .. } = &rig;
    let memory = heap.alloc_slice::<u8>(16).unwrap();
    let address = memory.device_address();
    let mut staging = heap.page_locked_slice(16).unwrap();
    staging.fill(7);
    std::mem::forget(memory.upload(staging, a).unwrap());
    let neighbours = [rig.ready(&[1; 16]), rig.ready(&[2; 16])];
    late.run_all();
    assert_eq!(late.read(address, 16), [7; 16], "the copy found both sides where it left them");
    heap.settle().unwrap();
    assert_eq!(neighbours.each_ref().map(contents), [[1; 16], [2; 16]]);
    drop(neighbours);
    heap.settle().unwrap();
    assert_eq!((rig.freeing_bytes(), heap.ledger().live_bytes), (0, 16));
    let refused = heap.clone().close().unwrap_err();
    assert!(matches!(*refused.error, hapax::Error::HeapInUse { live_blocks: 1, live_bytes: 16 }));
    drop((refused, rig));
    assert_eq!(reports.load(Ordering::Relaxed), 1);
}

#[test]
fn a_forgotten_download_never_writes_into_a_buffer_of_another() {
    let rig = Rig::leaking(64);
    let handle = rig.ready(&[7; 16]);
    std::mem::forget(handle.download(rig.heap.page_locked_slice(16).unwrap(), &rig.a).unwrap());
    let other = rig.heap.page_locked_slice::<u8>(16).unwrap();
    rig.late.run_all();
    assert_eq!(*other, [0; 16]);
}

#[test]
fn a_flight_dropped_on_another_thread_is_parked_like_any_other() {
    let rig = Rig::new(64);
    let flying = rig.heap.alloc_slice::<u8>(8).unwrap().upload(rig.heap.page_locked_slice(8).unwrap(), &rig.a).unwrap();
    let ready = rig.pending(&[1; 8], &rig.b);
    std::thread::spawn(move || drop((flying, ready))).join().unwrap();
    assert_eq!(rig.freeing_bytes(), 16);
    assert_eq!(rig.heap.settle().unwrap(), 16);
    assert_eq!(rig.freeing_bytes(), 0);
}

#[test]
fn a_flight_that_outlives_its_heap_gives_its_buffer_back() {
    let _watch = device::watch();
    let (device, control) = device::late();
    let heap = Heap::new(device, HeapOptions::new(64).granule_bytes(1).on_leak(|_| ())).unwrap();
    let stream = heap.new_stream().unwrap();
    let fly = || heap.alloc_slice::<u8>(8).unwrap().upload(heap.page_locked_slice(8).unwrap(), &stream).unwrap();
    let (landed, dropped) = (fly(), fly());
    drop(heap);
    drop(landed.wait().unwrap());
    assert!(control.memory_bytes() > 0 && control.page_locked_bytes() > 0, "the other one keeps them");
    control.run_all();
    drop(dropped); // the last that knows the heap: it leaves the memory for the next heap to give back
    crate::until(|| {
        drop(Heap::new(hapax::HostDevice::new(), HeapOptions::new(256)).unwrap());
        control.run_all(); // the marks behind what was parked
        (control.memory_bytes(), control.page_locked_bytes()) == (0, 0)
    });
    assert_eq!(control.violations(), [""; 0]);
}

/// What a pending copy uses is neither freed nor used again, not even by the heap that the buffer came from.
#[test]
fn a_heap_that_goes_with_work_in_flight_leaks_its_operands_as_if_forgotten() {
    let _watch = device::watch().leaks_on_purpose();
    let (device, control) = device::late();
    let device = DeviceRef::new(device);
    let [going, staying] = [(); 2].map(|()| Heap::new(&device, HeapOptions::new(64).granule_bytes(1)).unwrap());
    let stream = device.new_stream().unwrap();
    let handle = going.alloc_slice::<u8>(8).unwrap().upload_from(&[7; 8]).unwrap();
    let buffer = staying.page_locked_slice::<u8>(8).unwrap();
    drop(handle.download(buffer, &stream).unwrap());
    drop(going);
    let other = staying.page_locked_slice::<u8>(8).unwrap();
    control.run_all();
    assert_eq!(*other, [0; 8]);
    drop(other);
    staying.close().unwrap();
    assert_eq!(control.violations(), [""; 0]);
}

/// The landed copy stood behind the write, so nothing of either is pending.
#[test]
fn a_landed_download_ends_the_write_before_it() {
    let rig = Rig::new(256);
    let zeroed = rig.heap.alloc_slice::<u8>(16).unwrap().zero(&rig.a).unwrap();
    let to = rig.heap.page_locked_slice::<u8>(16).unwrap();
    let (handle, _) = zeroed.download(to, &rig.a).unwrap().wait().unwrap();
    assert_eq!(handle.free().unwrap(), Freed::Now { bytes: 16 });
}
