//! Handles and cache over the stand-in driver, in every mode of its scheduler. At the end of each session it panics if
//! an access was ordered by nothing, or if a byte is left.

#[allow(dead_code, reason = "shared with the other suites and the figures")]
mod driver;

use cuda_standin::{Code, Driver, Mode, Session};
use cudarc::driver::result::stream::{begin_capture, end_capture};
use cudarc::driver::sys::CUstreamCaptureMode;
use driver::call;
use driver::gpu::{NON_BLOCKING, PORTABLE};
use hapax::{
    CudaDevice, DevBox, Device, DeviceError, DeviceRef, Error, FaultDevice, Freed, Heap, HeapOptions, Landed, Lookup,
    Removed, VramCache,
};
use std::ptr::NonNull;

const MODES: [Mode; 4] = [Mode::Plain, Mode::Late(1), Mode::Late(20), Mode::Lazy];

fn in_every_mode(test: impl Fn(&Session, &DeviceRef)) {
    for mode in MODES {
        let session = Session::begin().expect("the stand-in was built with this test");
        assert!(matches!(cuda_standin::driver(), Driver::StandIn(_)), "this suite must not touch a real card");
        session.set_mode(mode);
        test(&session, &DeviceRef::new(CudaDevice::open(0).unwrap()));
    }
}

fn heap(device: &DeviceRef, limit_bytes: u64) -> Heap {
    Heap::new(device, HeapOptions::new(limit_bytes).slab_bytes(1 << 16)).unwrap()
}

fn contents(handle: &DevBox<[u8]>) -> Vec<u8> {
    let mut contents = vec![0; handle.len()];
    handle.download_to(&mut contents).unwrap();
    contents
}

#[test]
fn bytes_come_back_by_every_way_in_and_out() {
    in_every_mode(|_, device| {
        let heap = heap(device, 1 << 20);
        let (a, b) = (heap.new_stream().unwrap(), heap.new_stream().unwrap());
        let sent: Vec<u8> = (0..200).collect();
        let blocking = heap.alloc_slice(200).unwrap().upload_from(&sent).unwrap();
        assert_eq!(contents(&blocking), sent);

        let mut staging = heap.page_locked_slice::<u8>(200).unwrap();
        staging.copy_from_slice(&sent);
        let (flown, staging) = heap.alloc_slice(200).unwrap().upload(staging, &a).unwrap().wait().unwrap();
        let (flown, staging) = flown.download(staging, &b).unwrap().wait().unwrap();
        assert_eq!(*staging, sent[..]);

        let mut staging = staging;
        staging.fill(9);
        let ordered = heap.alloc_slice(200).unwrap().upload(staging, &a).unwrap().ready_on(&b).unwrap();
        assert_eq!(contents(&ordered), [9; 200]);

        let zeroed = heap.alloc_slice::<u8>(200).unwrap().zero(&a).unwrap();
        let to = heap.page_locked_slice::<u8>(200).unwrap();
        let mut flying = zeroed.download(to, &b).unwrap();
        let zeroed = loop {
            match flying.try_wait().unwrap() {
                Landed::Yes(handle, to) => break (handle, to),
                Landed::NotYet(still) => flying = still,
            }
        };
        assert_eq!(*zeroed.1, [0; 200]);

        let empty = heap.alloc_slice::<u8>(0).unwrap().upload_from(&[]).unwrap();
        assert_eq!(empty.free().unwrap(), Freed::Now { bytes: 0 });
        drop((blocking, flown, ordered, zeroed));
        heap.close().unwrap();
    });
}

#[test]
fn dropped_flights_keep_their_operands_until_the_copy_is_over() {
    in_every_mode(|_, device| {
        let heap = heap(device, 1 << 20);
        let stream = heap.new_stream().unwrap();
        for _ in 0..20 {
            let staging = heap.page_locked_slice::<u8>(4096).unwrap();
            drop(heap.alloc_slice::<u8>(4096).unwrap().upload(staging, &stream).unwrap());
            drop(heap.alloc_slice::<u8>(4096).unwrap().zero(&stream).unwrap());
        }
        heap.close().unwrap();
    });
}

#[test]
fn a_cache_evicts_under_its_budget_while_streams_still_use_what_leaves() {
    in_every_mode(|_, device| {
        let heap = heap(device, 64 << 10);
        let streams = [heap.new_stream().unwrap(), heap.new_stream().unwrap()];
        let cache: VramCache<u32, [u8]> = VramCache::new(&heap, 8 << 10).unwrap();
        for round in 0..60u32 {
            let key = if round % 3 == 0 { 0 } else { round % 12 };
            let stream = &streams[round as usize % 2];
            let lease = match cache.lookup(&key, stream).unwrap() {
                Lookup::Hit(lease) => lease,
                Lookup::Miss(vacancy) => vacancy.fill_from(&vec![key as u8; 1000]).unwrap().lease,
            };
            assert_eq!(lease.to_vec().unwrap(), vec![key as u8; 1000], "round {round}");
            assert!(heap.ledger().live_bytes + heap.ledger().freeing_bytes <= 8 << 10, "round {round}");
            cache.validate();
        }
        assert!(cache.stats().evictions > 0 && cache.stats().hits > 0);
        // An entry written on one stream and read on the other.
        let mut written = heap.alloc_slice::<u8>(500).unwrap().zero(&streams[0]).unwrap();
        let _ = written.on_mut(&streams[1]).unwrap();
        cache.insert(99, written).unwrap().free_all().unwrap();
        assert_eq!(cache.get(&99, &streams[0]).unwrap().unwrap().to_vec().unwrap(), [0; 500]);
        let Removed::Taken(_, taken) = cache.remove(&99) else { panic!("it is resident and unleased") };
        taken.revive(&streams[0]).unwrap().free().unwrap();
        cache.into_handles().free_all().unwrap();
        heap.settle().unwrap();
        heap.close().unwrap();
    });
}

#[test]
fn handles_dropped_on_other_threads_need_no_context_there() {
    in_every_mode(|_, device| {
        let heap = heap(device, 1 << 20);
        let stream = heap.new_stream().unwrap();
        let handle = heap.alloc_slice::<u8>(64).unwrap().zero(&stream).unwrap();
        let other = heap.clone();
        std::thread::spawn(move || {
            drop(handle);
            other.settle().unwrap();
            drop(other.alloc_slice::<u8>(64).unwrap().upload_from(&[1; 64]).unwrap());
        })
        .join()
        .unwrap();
        heap.close().unwrap();
    });
}

/// Each call of the trait on a thread of its own, on which nobody has bound anything.
#[test]
fn every_call_binds_the_context_on_the_thread_that_makes_it() {
    fn alone<T: Send>(call: impl FnOnce() -> Result<T, DeviceError> + Send) -> T {
        std::thread::scope(|scope| scope.spawn(call).join().unwrap().unwrap())
    }
    in_every_mode(|_, _| {
        let card = CudaDevice::open(0).unwrap();
        alone(|| card.memory());
        let at = alone(|| card.alloc(256));
        let buffer = alone(|| card.alloc_page_locked(256).map(|buffer| buffer.as_ptr().expose_provenance()));
        let host = || std::ptr::with_exposed_provenance_mut::<u8>(buffer);
        let mut back = [0_u8; 4];
        let [stream, other] = [(); 2].map(|()| alone(|| card.create_stream()));
        let event = alone(|| card.create_event());
        // SAFETY of all below: memory, streams and events are alive until they are given up, once, at the end; what is
        // copied stays where it is until the event behind it was waited for.
        alone(|| unsafe { card.zero(at, 256, stream) });
        alone(|| unsafe { card.copy_in(at, host(), 4, stream) });
        alone(|| unsafe { card.copy_out(host(), at, 4, stream) });
        alone(|| unsafe { card.copy_in_blocking(at, [1_u8, 2, 3, 4].as_ptr(), 4, stream) });
        alone(|| unsafe { card.copy_out_blocking(back.as_mut_ptr(), at, 4, stream) });
        assert_eq!(back, [1, 2, 3, 4]);
        assert!(!alone(|| unsafe { card.is_capturing(stream) }));
        alone(|| unsafe { card.record_event(event, stream) });
        alone(|| unsafe { card.stream_wait_event(other, event) });
        alone(|| unsafe { card.event_passed(event) });
        alone(|| unsafe { card.wait_event(event) });
        alone(|| unsafe { card.destroy_event(event) });
        alone(|| unsafe { card.destroy_stream(stream) });
        alone(|| unsafe { card.destroy_stream(other) });
        alone(|| unsafe { card.free_page_locked(NonNull::new(host()).unwrap(), 256) });
        alone(|| unsafe { card.free(at, 256) });
    });
}

/// Streams that do not wait for the legacy one, and buffers that every context may copy.
#[test]
fn streams_and_buffers_are_made_as_the_contract_wants_them() {
    in_every_mode(|_, device| {
        let heap = heap(device, 1 << 16);
        let stream = heap.new_stream().unwrap();
        let mut flags = 0;
        let raw = std::ptr::with_exposed_provenance_mut(stream.raw().0 as usize);
        call!(cuStreamGetFlags(raw, &mut flags)).unwrap();
        assert_eq!(flags, NON_BLOCKING);
        let mut buffer = heap.page_locked_slice::<u8>(100).unwrap();
        let flags = call!(cuMemHostGetFlags(-> u32, buffer.as_mut_ptr().cast())).unwrap();
        assert_eq!(flags & PORTABLE, PORTABLE);
        drop((buffer, stream));
        heap.close().unwrap();
    });
}

/// The shared suites count in bytes, on a device in front of the card; a user's heap does not.
#[test]
fn a_heap_on_a_card_has_granules_of_256_bytes_at_least() {
    in_every_mode(|_, device| {
        let refused = Heap::new(device, HeapOptions::new(1 << 16).granule_bytes(128)).unwrap_err();
        assert!(matches!(&refused, Error::BadOption(text) if text.contains("at least 256")), "{refused}");
        let heap = heap(device, 1 << 16);
        assert_eq!((heap.granule_bytes(), heap.charge_bytes(1)), (256, 256));
        let [one, two] = [(); 2].map(|()| heap.alloc::<u8>().unwrap().device_address());
        assert!(one % 256 == 0 && two % 256 == 0);
        heap.close().unwrap();
    });
}

#[test]
fn a_card_without_memory_is_told_from_a_heap_at_its_limit() {
    in_every_mode(|session, device| {
        let heap = heap(device, 1 << 20);
        session.fail("cuMemAlloc_v2", 1, Code::OUT_OF_MEMORY);
        session.fail("cuMemAlloc_v2", 2, Code::OUT_OF_MEMORY); // it is tried again after a sweep
        let refused = heap.alloc_slice::<u8>(100_000).unwrap_err();
        assert!(matches!(refused, Error::OutOfMemory { device_refused: true, freeing_bytes: 0, .. }), "{refused}");
        let refused = heap.alloc_slice::<u8>(2 << 20).unwrap_err();
        assert!(matches!(refused, Error::OutOfMemory { device_refused: false, .. }), "{refused}");
        heap.close().unwrap();
    });
}

#[test]
fn a_lost_card_is_called_no_more_and_says_so() {
    in_every_mode(|session, device| {
        let heap = heap(device, 1 << 20);
        let handle = heap.alloc_slice(64).unwrap().upload_from(&[1; 64]).unwrap();
        session.lose_device(0, Code::ILLEGAL_ADDRESS);
        assert_eq!(handle.download_to(&mut [0; 64]).unwrap_err(), Error::DeviceLost);
        assert!(device.is_lost());
        let calls = session.counters().calls;
        assert_eq!(handle.free().unwrap_err(), Error::DeviceLost);
        assert_eq!(heap.alloc_slice::<u8>(1).map(drop).unwrap_err(), Error::DeviceLost);
        assert_eq!(*heap.close().unwrap_err().error, Error::DeviceLost);
        assert_eq!(session.counters().calls, calls);
        session.reset(); // what was on the card went with it
    });
}

#[test]
fn every_driver_call_of_a_session_may_fail_once() {
    let session_of = |device: &DeviceRef| -> Result<(), Error> {
        let heap = Heap::new(device, HeapOptions::new(1 << 18).slab_bytes(1 << 14))?;
        let stream = heap.new_stream()?;
        let cache: VramCache<u32, [u8]> = VramCache::new(&heap, 4 << 10)?;
        for key in 0..8u32 {
            if let Lookup::Miss(vacancy) = cache.lookup(&key, &stream)? {
                drop(vacancy.fill_from(&[key as u8; 900])?);
            }
        }
        let staging = heap.page_locked_slice::<u8>(256)?;
        let (handle, staging) = heap.alloc_slice(256)?.upload(staging, &stream)?.wait()?;
        drop(handle.download(staging, &stream)?);
        drop(heap.alloc_slice::<u8>(64)?.zero(&stream)?);
        cache.into_handles().free_all()?;
        heap.settle()?;
        Ok(heap.close()?)
    };
    // The last is a code that no driver has yet: it must stay a number.
    for code in [Code::INVALID_VALUE, Code::OUT_OF_MEMORY, Code(12_345)] {
        for mode in [Mode::Lazy, Mode::Late(2)] {
            fail_each_call(session_of, code, mode);
        }
    }
}

fn fail_each_call(session_of: impl Fn(&DeviceRef) -> Result<(), Error>, code: Code, mode: Mode) {
    for nth in 1.. {
        let session = Session::begin().unwrap();
        session.set_mode(mode);
        let device = DeviceRef::new(CudaDevice::open(0).unwrap());
        let before = session.counters().calls;
        session.fail_any(nth, code);
        let ended = session_of(&device);
        if session.counters().faults > 0 {
            assert!(ended.is_ok() && session.counters().calls - before > 100, "the whole session, undisturbed");
            session.reset();
            break;
        }
        if let Err(Error::Device { code: told, .. }) = ended {
            assert_eq!(told, i64::from(code.0), "at call {nth}, in mode {mode}");
        }
        // What a failed session left behind is given back by the next heap.
        let heap = Heap::new(&device, HeapOptions::new(1 << 16)).unwrap();
        for _ in 0..4 {
            heap.trim().unwrap();
            session.run(1_000);
        }
        heap.close().unwrap();
    }
}

/// A device in front of another must pass the question on.
#[test]
fn a_capture_is_seen_through_a_device_that_fails() {
    in_every_mode(|_, _| {
        let (device, control) = FaultDevice::new(CudaDevice::open(0).unwrap());
        let heap = Heap::new(device, HeapOptions::new(1 << 16)).unwrap();
        let stream = heap.new_stream().unwrap();
        let handle = heap.alloc_slice(3).unwrap().upload_from(b"abc").unwrap();
        let raw = std::ptr::with_exposed_provenance_mut(stream.raw().0 as usize);
        let calls = control.calls();
        // SAFETY: the stream is alive, and its context is bound to this thread by the calls above.
        unsafe { begin_capture(raw, CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL) }.unwrap();
        assert_eq!(handle.on(&stream).map(drop).unwrap_err(), Error::StreamCapturing);
        assert_eq!(control.calls(), calls, "it is none that a plan counts");
        // SAFETY: the capture was begun above, on this thread.
        let graph = unsafe { end_capture(raw) }.unwrap();
        // SAFETY: the graph is ours and was never instantiated.
        unsafe { cudarc::driver::result::graph::destroy(graph) }.unwrap();
        handle.free().unwrap();
        heap.close().unwrap();
    });
}

/// What is captured runs later, and again, when the memory may be another's.
#[test]
fn a_stream_under_capture_is_refused_and_nothing_of_ours_touches_it() {
    in_every_mode(|_, device| {
        let heap = heap(device, 1 << 20);
        let (captured, other) = (heap.new_stream().unwrap(), heap.new_stream().unwrap());
        let cache: VramCache<u32, [u8]> = VramCache::new(&heap, 1 << 12).unwrap();
        cache.insert(1, heap.alloc_slice(3).unwrap().upload_from(b"abc").unwrap()).unwrap().free_all().unwrap();
        let parked = heap.alloc_slice::<u8>(64).unwrap().zero(&captured).unwrap();

        let raw = std::ptr::with_exposed_provenance_mut(captured.raw().0 as usize);
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is alive, and its context is bound to this thread by the calls above.
        unsafe { begin_capture(raw, mode) }.unwrap();
        assert_eq!(cache.get(&1, &captured).unwrap_err(), Error::StreamCapturing);
        assert_eq!(cache.lookup(&2, &captured).map(drop).unwrap_err(), Error::StreamCapturing);
        assert_eq!(parked.on(&captured).map(drop).unwrap_err(), Error::StreamCapturing);
        let refused = heap.alloc_slice::<u8>(8).unwrap().zero(&captured).unwrap_err();
        assert_eq!(*refused.error, Error::StreamCapturing);
        drop((refused, parked));
        // Other streams go on, and what the captured one used stays parked.
        let handle = heap.alloc_slice::<u8>(64).unwrap().upload_from(&[1; 64]).unwrap();
        drop(cache.get(&1, &other).unwrap().unwrap());
        assert_eq!(heap.settle().unwrap_err(), Error::StreamCapturing);
        assert!(heap.ledger().freeing_bytes > 0);
        // SAFETY: the capture was begun above, on this thread.
        let graph = unsafe { end_capture(raw) }.unwrap();
        // SAFETY: the graph is ours and was never instantiated.
        unsafe { cudarc::driver::result::graph::destroy(graph) }.unwrap();

        drop(handle);
        cache.into_handles().free_all().unwrap();
        heap.settle().unwrap();
        heap.close().unwrap();
    });
}

/// Marking the streams of what is parked stops at none of them.
#[test]
fn a_captured_stream_holds_up_its_own_blocks_alone() {
    in_every_mode(|_, device| {
        let heap = heap(device, 4096);
        let (captured, other) = (heap.new_stream().unwrap(), heap.new_stream().unwrap());
        let [held, free] =
            [&captured, &other].map(|stream| heap.alloc_slice::<u8>(2048).unwrap().zero(stream).unwrap());
        let raw = std::ptr::with_exposed_provenance_mut(captured.raw().0 as usize);
        // SAFETY: the stream is alive, and its context is bound to this thread by the calls above.
        unsafe { begin_capture(raw, CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED) }.unwrap();
        drop((held, free));
        let _ = heap.trim().unwrap(); // a sweep, which waits for nothing
        assert_eq!(heap.settle().unwrap_err(), Error::StreamCapturing); // after it waited for the other
        assert_eq!(heap.ledger().freeing_bytes, 2048);
        drop(heap.alloc_slice::<u8>(2048).unwrap());
        heap.validate();
        // SAFETY: the capture was begun above, on this thread.
        let graph = unsafe { end_capture(raw) }.unwrap();
        // SAFETY: the graph is ours and was never instantiated.
        unsafe { cudarc::driver::result::graph::destroy(graph) }.unwrap();
        heap.close().unwrap();
    });
}

#[test]
fn a_fill_that_evicts_goes_on_beside_anothers_capture() {
    in_every_mode(|_, device| {
        let heap = heap(device, 1 << 16);
        let (captured, other) = (heap.new_stream().unwrap(), heap.new_stream().unwrap());
        let cache: VramCache<u32, [u8]> = VramCache::new(&heap, 1024).unwrap();
        let held = heap.alloc_slice::<u8>(2048).unwrap().zero(&captured).unwrap();
        let fill = |key: u32, stream| match cache.lookup(&key, stream).unwrap() {
            Lookup::Miss(vacancy) => vacancy.fill_from(&[key as u8; 1024]).map(drop).map_err(|refused| *refused.error),
            Lookup::Hit(_) => panic!("it is new"),
        };
        fill(0, &other).unwrap();
        let raw = std::ptr::with_exposed_provenance_mut(captured.raw().0 as usize);
        // SAFETY: the stream is alive, and its context is bound to this thread by the calls above.
        unsafe { begin_capture(raw, CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED) }.unwrap();
        drop(held);
        for key in 1..4 {
            fill(key, &other).unwrap();
            assert_eq!(heap.ledger().live_bytes + heap.ledger().freeing_bytes, 1024 + 2048);
        }
        // SAFETY: the capture was begun above, on this thread.
        let graph = unsafe { end_capture(raw) }.unwrap();
        // SAFETY: the graph is ours and was never instantiated.
        unsafe { cudarc::driver::result::graph::destroy(graph) }.unwrap();
        // An entry that the captured stream itself used would stand beside its successor.
        drop(cache.get(&3, &captured).unwrap().unwrap());
        // SAFETY: as above.
        unsafe { begin_capture(raw, CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED) }.unwrap();
        assert_eq!(fill(4, &other), Err(Error::StreamCapturing));
        // SAFETY: as above.
        let graph = unsafe { end_capture(raw) }.unwrap();
        // SAFETY: as above.
        unsafe { cudarc::driver::result::graph::destroy(graph) }.unwrap();
        fill(5, &other).unwrap();
        cache.into_handles().free_all().unwrap();
        heap.close().unwrap();
    });
}
