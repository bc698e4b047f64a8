//! Memory is used again only after every stream that was lent it has passed.

use crate::{Rig, lend};
use hapax::{DevBox, Error, Freed, Heap, HeapOptions};

/// Lends the handle to `stream` with a kernel that stays pending.
fn lent(rig: &Rig, handle: &DevBox<[u8]>, streams: &[&hapax::Stream]) -> u64 {
    let mut address = 0;
    for stream in streams {
        address = lend(handle, stream);
        rig.late.stands(stream);
    }
    address
}

fn freeing_at_refusal(heap: &Heap, bytes: usize) -> u64 {
    match heap.alloc_slice::<u8>(bytes) {
        Err(Error::OutOfMemory { need_bytes, free_bytes, freeing_bytes, limit_bytes, .. }) => {
            let ledger = heap.ledger();
            assert_eq!((need_bytes, limit_bytes), (bytes as u64, ledger.limit_bytes));
            assert_eq!((free_bytes, freeing_bytes), (ledger.free_bytes, ledger.freeing_bytes));
            freeing_bytes
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_block_is_used_again_only_after_every_noted_stream_has_passed() {
    for late_one in 0..2 {
        let rig = Rig::new(16);
        let handle = rig.ready(&[1; 16]);
        let address = lent(&rig, &handle, &[&rig.a, &rig.b]);
        assert_eq!(handle.free().unwrap(), Freed::WhenStreamsPass { bytes: 16 });
        assert_eq!(freeing_at_refusal(&rig.heap, 16), 16);
        let (early, late) = if late_one == 0 { (&rig.b, &rig.a) } else { (&rig.a, &rig.b) };
        rig.late.run_stream(early);
        assert_eq!(freeing_at_refusal(&rig.heap, 16), 16, "stream {late_one} has not passed");
        rig.late.run_stream(late);
        assert_eq!(rig.heap.alloc_slice::<u8>(16).unwrap().device_address(), address);
    }
}

#[test]
fn a_handle_that_no_stream_used_is_free_at_once() {
    let rig = Rig::new(16);
    assert_eq!(rig.ready(&[1; 16]).free().unwrap(), Freed::Now { bytes: 16 });
    assert_eq!(rig.heap.alloc_slice::<u8>(16).unwrap().free().unwrap(), Freed::Now { bytes: 16 });
    assert_eq!(rig.freeing_bytes(), 0);
}

#[test]
fn free_says_when_the_bytes_are_free_and_settle_waits_for_them() {
    let rig = Rig::new(64);
    let handle = rig.ready(&[1; 40]);
    lend(&handle, &rig.a);
    let seen = rig.late.stands(&rig.a);
    let freed = handle.free().unwrap();
    assert_eq!((freed, freed.bytes()), (Freed::WhenStreamsPass { bytes: 40 }, 40));
    assert_eq!((rig.freeing_bytes(), rig.heap.ledger().free_bytes), (40, 24));
    assert_eq!(rig.heap.settle().unwrap(), 40);
    assert!(seen.try_recv().is_ok(), "it waited for the kernel");
    assert_eq!((rig.freeing_bytes(), rig.heap.ledger().free_bytes), (0, 64));
    assert_eq!(rig.heap.settle().unwrap(), 0);
}

#[test]
fn an_allocation_sweeps_a_few_blocks_only() {
    let rig = Rig::new(1000);
    let handles: Vec<_> = (0..40).map(|_| rig.ready(&[1; 10])).collect();
    for handle in &handles {
        lent(&rig, handle, &[&rig.a]);
    }
    drop(handles);
    assert_eq!(rig.freeing_bytes(), 400);
    let mut left = 400;
    while left > 0 {
        drop(rig.heap.alloc_slice::<u8>(1).unwrap()); // marks some
        rig.late.run_all(); // the marks pass
        let now = rig.freeing_bytes();
        assert!(now <= left && left - now <= 80, "{} bytes in one sweep", left - now);
        left = now;
    }
}

#[test]
fn everything_that_has_passed_is_swept_before_an_allocation_fails() {
    let rig = Rig::new(400);
    let handles: Vec<_> = (0..40).map(|_| rig.ready(&[1; 10])).collect();
    for handle in &handles {
        lent(&rig, handle, &[&rig.a, &rig.b]);
    }
    drop(handles);
    assert_eq!(freeing_at_refusal(&rig.heap, 400), 400, "nothing has passed");
    rig.late.run_all();
    let whole = rig.heap.alloc_slice::<u8>(400).expect("all 40 have passed");
    assert_eq!((rig.freeing_bytes(), whole.charge_bytes()), (0, 400));
}

#[test]
fn a_stream_that_stands_still_holds_up_its_own_blocks_only() {
    const STILL: usize = 12;
    for apart in [false, true] {
        let rig = Rig::new(8 * (STILL as u64 + 1));
        let still: Vec<_> = (0..STILL).map(|_| rig.ready(&[1; 8])).collect();
        let passing = rig.ready(&[2; 8]);
        lent(&rig, &passing, &[&rig.b]);
        for handle in still {
            lent(&rig, &handle, &[&rig.a]);
            drop(handle);
            if apart {
                rig.sweep(); // marked by itself
            }
        }
        drop(passing);
        assert_eq!(freeing_at_refusal(&rig.heap, 8), 8 * (STILL as u64 + 1));
        rig.late.run_stream(&rig.b);
        drop(rig.heap.alloc_slice::<u8>(8).expect("its stream has passed"));
        assert_eq!(freeing_at_refusal(&rig.heap, 16), 8 * STILL as u64);
    }
}

#[test]
fn trim_gives_back_slabs_that_have_passed_and_waits_for_none() {
    let rig = Rig::with(HeapOptions::new(64).granule_bytes(1).slab_bytes(16));
    let [one, two] = [[1; 16], [2; 16]].map(|contents| rig.ready(&contents));
    lent(&rig, &one, &[&rig.a]);
    drop((one, two));
    assert_eq!(rig.heap.trim().unwrap(), 16, "the one that nobody used");
    assert_eq!((rig.late.memory_bytes(), rig.freeing_bytes()), (16, 16));
    rig.late.run_all();
    assert_eq!(rig.heap.trim().unwrap(), 16);
    assert_eq!((rig.late.memory_bytes(), rig.heap.ledger().slab_bytes), (0, 0));
}

#[test]
fn closing_waits_for_all_work_and_gives_every_byte_back() {
    let rig = Rig::new(64);
    let handle = rig.ready(&[1; 8]);
    let seen = rig.late.reads(&rig.a, lend(&handle, &rig.a), 8);
    drop(handle);
    drop(rig.heap.alloc_slice::<u8>(8).unwrap().upload(rig.heap.page_locked_slice(8).unwrap(), &rig.b).unwrap());
    drop(rig.pending(&[2; 8], &rig.b));
    rig.heap.clone().close().unwrap();
    assert_eq!(seen.try_recv().unwrap(), [1; 8]);
    assert_eq!((rig.late.memory_bytes(), rig.late.page_locked_bytes(), rig.late.pending()), (0, 0, 0));
    assert_eq!(rig.heap.alloc::<u8>().unwrap_err(), Error::HeapClosed);
}

#[test]
fn a_heap_that_refuses_to_close_goes_on() {
    let rig = Rig::new(64);
    let handle = rig.pending(&[1; 8], &rig.a);
    drop(rig.pending(&[2; 8], &rig.b));
    let refused = rig.heap.clone().close().unwrap_err();
    assert_eq!(*refused.error, Error::HeapInUse { live_blocks: 1, live_bytes: 8 });
    assert_eq!(rig.late.read(lend(&handle, &rig.a), 8), [crate::device::POISON; 8], "it waited for nothing");
    assert_eq!(crate::contents(&handle), [1; 8]);
    drop(handle);
    refused.handle.close().unwrap();
}

#[test]
fn a_block_dropped_while_unwinding_is_parked_like_any_other() {
    let rig = Rig::new(16);
    let handle = rig.ready(&[1; 16]);
    lent(&rig, &handle, &[&rig.a]);
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _handle = handle;
        std::panic::resume_unwind(Box::new("a compiler's own panic"));
    }));
    assert!(unwound.is_err());
    assert_eq!(rig.freeing_bytes(), 16);
    assert_eq!(rig.heap.settle().unwrap(), 16);
}

#[test]
fn a_block_of_an_exported_handle_keeps_the_notes_it_had() {
    let rig = Rig::new(16);
    let handle = rig.ready(&[1; 16]);
    lent(&rig, &handle, &[&rig.a]);
    let exported = handle.export();
    assert_eq!(freeing_at_refusal(&rig.heap, 1), 0);
    #[expect(unsafe_code, reason = "that is what is tested")]
    // SAFETY: the only work that touches the memory stands on a stream that was noted.
    let handle = unsafe { exported.reclaim() };
    assert_eq!(handle.free().unwrap(), Freed::WhenStreamsPass { bytes: 16 });
    rig.heap.settle().unwrap();
}
