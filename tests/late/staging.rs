//! Blocking copies in pieces, through two page-locked chunks.

use crate::Rig;
use hapax::{DeviceRef, Error, Fault, FaultDevice, Heap, HeapOptions, LateDevice};

const PAGE: usize = 4096;

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 7 + at / 256) as u8).collect()
}

#[test]
fn copies_of_any_length_come_back_whole() {
    let rig = Rig::with(HeapOptions::new(1 << 20).granule_bytes(1).staging_bytes(2 * PAGE));
    for bytes in [1, 100, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 2 * PAGE + 1, 5 * PAGE, 9 * PAGE + 17] {
        let contents = pattern(bytes);
        let handle = rig.ready(&contents);
        let mut back = vec![0; bytes];
        handle.download_to(&mut back).unwrap();
        assert_eq!(back, contents, "{bytes} bytes");
        let mut back = vec![0; bytes];
        handle.on(&rig.a).unwrap().download_to(&mut back).unwrap();
        assert_eq!(back, contents, "{bytes} bytes, from a view");
        handle.free().unwrap();
    }
    assert_eq!(rig.late.page_locked_bytes(), 2 * PAGE as u64, "two chunks, for all of them");
    rig.heap.trim().unwrap();
    assert_eq!(rig.late.page_locked_bytes(), 0);
}

#[test]
fn chunks_are_made_when_they_are_needed() {
    let rig = Rig::with(HeapOptions::new(1 << 20).granule_bytes(1).staging_bytes(2 * PAGE));
    assert_eq!(rig.late.page_locked_bytes(), 0);
    let small = rig.ready(&[1; 100]);
    assert_eq!(rig.late.page_locked_bytes(), PAGE as u64);
    let large = rig.ready(&[1; PAGE + 1]);
    assert_eq!(rig.late.page_locked_bytes(), 2 * PAGE as u64);
    drop((small, large));
}

/// A kernel on the view's stream writes first.
#[test]
fn a_view_is_read_behind_its_streams_work() {
    let rig = Rig::with(HeapOptions::new(1 << 20).granule_bytes(1).staging_bytes(2 * PAGE));
    let handle = rig.pending(&pattern(3 * PAGE), &rig.a);
    let mut back = vec![0; 3 * PAGE];
    handle.on(&rig.a).unwrap().download_to(&mut back).unwrap();
    assert_eq!(back, pattern(3 * PAGE));
    let handle = rig.pending(&pattern(2 * PAGE), &rig.b);
    let mut back = vec![0; 2 * PAGE];
    handle.download_to(&mut back).unwrap(); // ordered behind the pending write
    assert_eq!(back, pattern(2 * PAGE));
}

#[test]
fn uploads_and_downloads_of_many_threads_do_not_mix() {
    let rig = Rig::with(HeapOptions::new(1 << 20).granule_bytes(1).staging_bytes(2 * PAGE));
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let rig = &rig;
            scope.spawn(move || {
                for round in 0..8u8 {
                    let contents = vec![thread * 16 + round; 3 * PAGE + usize::from(round)];
                    let handle = rig.ready(&contents);
                    let mut back = vec![0; contents.len()];
                    handle.download_to(&mut back).unwrap();
                    assert_eq!(back, contents);
                }
            });
        }
    });
}

/// Whatever fails, nothing of the copy is pending when the handle is back, and the memory can be freed at once.
#[test]
fn a_copy_that_fails_in_the_middle_leaves_nothing_pending() {
    let copies = |heap: &Heap, late: &hapax::LateControl| -> Result<(), Error> {
        let contents = pattern(5 * PAGE);
        let handle = match heap.alloc_slice(contents.len())?.upload_from(&contents) {
            Ok(handle) => handle,
            Err(refused) => {
                assert_eq!(late.pending(), 0, "an upload that failed is still under way");
                refused.handle.free()?;
                return Err(*refused.error);
            }
        };
        let mut back = vec![0; contents.len()];
        let read = handle.download_to(&mut back);
        assert_eq!(late.pending(), 0, "a download that failed is still under way");
        handle.free()?;
        read.map(|()| assert_eq!(back, contents))
    };
    for nth in 1.. {
        let (late, control) = LateDevice::new();
        let (device, faults) = FaultDevice::new(late);
        let device = DeviceRef::new(device);
        let options = HeapOptions::new(1 << 20).granule_bytes(1).slab_bytes(1 << 16).staging_bytes(2 * PAGE);
        let heap = Heap::new(&device, options).unwrap();
        let before = faults.calls();
        faults.fail_call(nth, Fault::Failed);
        let copied = copies(&heap, &control);
        let reached = faults.calls() >= before + nth;
        faults.disarm();
        copies(&heap, &control).unwrap_or_else(|error| panic!("after call {nth} failed: {error}"));
        heap.close().unwrap();
        assert!(control.violations().is_empty(), "call {nth}: {:?}", control.violations());
        assert_eq!((control.memory_bytes(), control.page_locked_bytes()), (0, 0));
        if !reached {
            assert!(copied.is_ok() && nth > 30, "the whole of it, undisturbed, after {nth} calls");
            break;
        }
    }
}

/// With one chunk, or none, copies are slower and as right.
#[test]
fn too_little_page_locked_memory_is_no_error() {
    for chunks in 0..2 {
        let (late, control) = LateDevice::new();
        let (device, faults) = FaultDevice::new(late);
        let heap = Heap::new(device, HeapOptions::new(1 << 20).granule_bytes(1).staging_bytes(2 * PAGE)).unwrap();
        let first = heap.alloc_slice(3 * PAGE).unwrap();
        if chunks == 1 {
            drop(heap.alloc_slice(1).unwrap().upload_from(&[1u8]).unwrap());
        }
        faults.refuse_page_locked(true);
        let contents = pattern(3 * PAGE);
        let handle = first.upload_from(&contents).unwrap();
        let mut back = vec![0; contents.len()];
        handle.download_to(&mut back).unwrap();
        assert_eq!((back, faults.page_locked_bytes()), (contents, chunks as u64 * PAGE as u64));
        drop(handle);
        heap.close().unwrap();
        assert!(control.violations().is_empty(), "{:?}", control.violations());
    }
}
