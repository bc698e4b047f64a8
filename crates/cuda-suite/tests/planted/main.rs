//! Bugs planted below hapax: each session runs clean, and is caught when the device, or the caller, has one bug.

#[path = "../rig/mod.rs"]
mod rig;

mod device;

use cuda_standin::{Code, Mode, Session};
use cudarc::driver::result::stream::{begin_capture, end_capture};
use cudarc::driver::sys::CUstreamCaptureMode;
use device::{Bug, Buggy};
use hapax::{CudaDevice, DevBox, DeviceRef, Error, Heap, HeapOptions, Launch, Stream, VramCache};
use rig::{PTX, SHAPE, add_one, begin, fill, read};

/// Runs a session with and without the bug, in the mode in which nothing runs by itself. What the bug leads to is told to
/// begin with `expected`; without it there must be no violation and nothing left.
fn plant(bug: Bug, expected: &str, run: impl Fn(&Session, &Heap)) {
    for planted in [Bug::None, bug] {
        let session = begin(Mode::Lazy);
        let device = DeviceRef::new(Buggy::new(CudaDevice::open(0).unwrap(), planted));
        let options = HeapOptions::new(1 << 20).slab_bytes(1 << 14).staging_bytes(8192).on_leak(|_| {});
        // Copies that are staged are never left to the driver.
        let options = if bug == Bug::NoSynchronise { options.staging_bytes(0) } else { options };
        let heap = Heap::new(&device, options).unwrap();
        run(&session, &heap);
        let closed = heap.close();
        let found = session.take_violations();
        if planted == Bug::None {
            assert!(found.is_empty(), "without a bug: {found:#?}");
            closed.unwrap();
            device.close().unwrap();
        } else {
            assert!(found.iter().any(|what| what.starts_with(expected)), "{expected} is not in {found:#?}");
            // What a bug leaves goes with the session, and must not be given back in the next one.
            std::mem::forget((closed, device));
            session.reset();
        }
    }
}

fn streams(heap: &Heap) -> [Stream; 2] {
    [heap.new_stream().unwrap(), heap.new_stream().unwrap()]
}

fn zeroed(heap: &Heap, stream: &Stream) -> DevBox<[u32]> {
    heap.alloc_slice::<u32>(64).unwrap().zero(stream).unwrap()
}

#[test]
fn a_host_buffer_that_is_used_before_its_copy_ran_is_caught() {
    plant(Bug::EventsPassAtOnce, "host access", |_, heap| {
        let stream = heap.new_stream().unwrap();
        let buffer = heap.page_locked_slice::<u8>(4096).unwrap();
        let (handle, mut buffer) = heap.alloc_slice(4096).unwrap().upload(buffer, &stream).unwrap().wait().unwrap();
        buffer.fill(7);
        drop((handle, buffer));
        stream.synchronize().unwrap();
    });
}

#[test]
fn a_block_that_is_reused_before_another_streams_reader_finished_is_caught() {
    plant(Bug::EventsPassAtOnce, "race", |_, heap| {
        let [a, b] = streams(heap);
        let module = heap.load_module(PTX.as_bytes()).unwrap();
        let old = zeroed(heap, &a);
        let kernel = module.on(&a).unwrap().function("read").unwrap();
        read(&kernel, &old.on(&a).unwrap()).unwrap();
        drop(old);
        heap.settle().unwrap(); // said to have passed
        let mut new = zeroed(heap, &b);
        let kernel = module.on(&b).unwrap().function("fill").unwrap();
        fill(&kernel, &mut new.on_mut(&b).unwrap(), 1).unwrap();
        a.synchronize().unwrap();
        b.synchronize().unwrap();
    });
}

#[test]
fn a_missing_event_wait_is_caught() {
    plant(Bug::NoStreamWaits, "race", |_, heap| {
        let [a, b] = streams(heap);
        let module = heap.load_module(PTX.as_bytes()).unwrap();
        let mut data = zeroed(heap, &a);
        let kernel = module.on(&b).unwrap().function("add_one").unwrap();
        add_one(&kernel, &mut data.on_mut(&b).unwrap()).unwrap();
    });
}

/// Stream `b` is the newest, and the last that reads.
#[test]
fn a_second_reader_that_overwrites_the_note_of_the_first_is_caught() {
    plant(Bug::OneNote, "race", |_, heap| {
        let [a, b] = streams(heap);
        let module = heap.load_module(PTX.as_bytes()).unwrap();
        let old = heap.alloc_slice(64).unwrap().upload_from(&[1u32; 64]).unwrap();
        for stream in [&a, &b] {
            let kernel = module.on(stream).unwrap().function("read").unwrap();
            read(&kernel, &old.on(stream).unwrap()).unwrap();
        }
        b.synchronize().unwrap();
        drop(old);
        heap.settle().unwrap();
        drop(zeroed(heap, &b));
    });
}

/// The bug is the caller's: an address passed by value is not checked, and that is said in `launch`'s contract.
#[test]
fn a_lease_used_on_another_stream_is_refused_and_past_the_check_caught() {
    for planted in [false, true] {
        let session = begin(Mode::Lazy);
        let device = DeviceRef::new(CudaDevice::open(0).unwrap());
        let heap = rig::heap(&device, 1 << 20);
        let [a, b] = streams(&heap);
        let module = heap.load_module(PTX.as_bytes()).unwrap();
        let cache: VramCache<u32, [u32]> = VramCache::new(&heap, 1 << 12).unwrap();
        cache.insert(1, heap.alloc_slice(64).unwrap().upload_from(&[1; 64]).unwrap()).unwrap().free_all().unwrap();
        {
            let lease = cache.get(&1, &a).unwrap().unwrap();
            let kernel = module.on(&b).unwrap().function("read").unwrap();
            // SAFETY: it is refused.
            let refused = unsafe { Launch::new(&kernel, SHAPE).memory(&lease).value(256u64).launch() };
            assert_eq!(refused.unwrap_err(), Error::WrongStream { argument: 0 });
            if planted {
                let address = lease.view().device_address();
                // SAFETY: none: the memory is lent to `a`. That is the bug.
                unsafe { Launch::new(&kernel, SHAPE).value(address).value(256u64).launch() }.unwrap();
            }
        }
        cache.into_handles().free_all().unwrap();
        a.synchronize().unwrap();
        heap.settle().unwrap_or_default();
        drop(zeroed(&heap, &a));
        drop((module, a, b));
        heap.close().unwrap();
        device.close().unwrap();
        let found = session.take_violations();
        assert_eq!(found.iter().any(|what| what.starts_with("race")), planted, "{found:#?}");
    }
}

#[test]
fn a_lease_taken_on_one_stream_while_anothers_upload_is_pending_is_caught() {
    plant(Bug::NoStreamWaits, "race", |_, heap| {
        let [a, b] = streams(heap);
        let module = heap.load_module(PTX.as_bytes()).unwrap();
        let cache: VramCache<u32, [u32]> = VramCache::new(heap, 1 << 12).unwrap();
        let buffer = heap.page_locked_slice::<u32>(64).unwrap();
        let pending = heap.alloc_slice(64).unwrap().upload(buffer, &a).unwrap().ready_on(&a).unwrap();
        cache.insert(1, pending).unwrap().free_all().unwrap();
        let lease = cache.get(&1, &b).unwrap().unwrap();
        let kernel = module.on(&b).unwrap().function("read").unwrap();
        read(&kernel, &lease.view()).unwrap();
    });
}

#[test]
fn a_free_without_a_context_is_caught() {
    plant(Bug::FreesUnbound, "context", |_, heap| {
        drop(heap.alloc_slice(64).unwrap().upload_from(&[1u8; 64]).unwrap());
        heap.trim().unwrap_or_default();
    });
}

#[test]
fn a_free_on_a_dead_device_is_caught() {
    // Without the bug the device is lost, and nothing can be closed: so it is not `plant`'s kind of session.
    for planted in [Bug::None, Bug::ForgetsLoss] {
        let session = begin(Mode::Lazy);
        let device = DeviceRef::new(Buggy::new(CudaDevice::open(0).unwrap(), planted));
        // Unstaged: a staged copy that cannot be waited for tells hapax of the loss by itself.
        let options = HeapOptions::new(1 << 20).slab_bytes(1 << 14).staging_bytes(0);
        let heap = Heap::new(&device, options).unwrap();
        let handle = heap.alloc_slice(64).unwrap().upload_from(&[1u8; 64]).unwrap();
        session.lose_device(0, Code::ILLEGAL_ADDRESS);
        handle.download_to(&mut [0; 64]).unwrap_err();
        drop(handle);
        heap.trim().unwrap_err();
        let found = session.take_violations();
        let caught = found.iter().any(|what| what.starts_with("dead device"));
        assert_eq!(caught, planted != Bug::None, "{found:#?}");
        std::mem::forget((heap, device)); // as above
        session.reset();
    }
}

#[test]
fn a_pageable_copy_that_is_used_before_it_is_over_is_caught() {
    plant(Bug::NoSynchronise, "host access", |session, heap| {
        let mut contents = vec![3u8; 8192];
        let handle = heap.alloc_slice(8192).unwrap().upload_from(&contents).unwrap();
        session.host_writes(&mut contents);
        handle.download_to(&mut contents).unwrap();
        session.host_reads(&contents);
        heap.new_stream().unwrap().synchronize().unwrap();
        drop(handle);
        session.run(100);
    });
}

#[test]
fn a_staging_chunk_that_is_refilled_before_its_copy_ran_is_caught() {
    plant(Bug::EventsPassAtOnce, "host access", |_, heap| {
        drop(heap.alloc_slice(40_000).unwrap().upload_from(&[3u8; 40_000]).unwrap());
        heap.new_stream().unwrap().synchronize().unwrap();
    });
}

#[test]
fn a_module_that_is_unloaded_under_its_kernel_is_caught() {
    plant(Bug::EventsPassAtOnce, "early free: cuModuleUnload", |_, heap| {
        let stream = heap.new_stream().unwrap();
        let module = heap.load_module(PTX.as_bytes()).unwrap();
        let mut data = zeroed(heap, &stream);
        let kernel = module.on(&stream).unwrap().function("add_one").unwrap();
        add_one(&kernel, &mut data.on_mut(&stream).unwrap()).unwrap();
        drop(module);
        heap.settle().unwrap();
        stream.synchronize().unwrap();
    });
}

#[test]
fn an_event_recorded_on_a_capturing_stream_is_caught() {
    plant(Bug::IgnoresCapture, "capture", |_, heap| {
        let stream = heap.new_stream().unwrap();
        let data = zeroed(heap, &stream);
        let raw = std::ptr::with_exposed_provenance_mut(stream.raw().0 as usize);
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is alive, and its context is bound to this thread by the calls above.
        unsafe { begin_capture(raw, mode) }.unwrap();
        drop(data);
        let _ = heap.trim(); // a sweep marks the streams of what is parked
        // SAFETY: the capture was begun above, on this thread.
        if let Ok(graph) = unsafe { end_capture(raw) } {
            // SAFETY: the graph is ours and was never instantiated.
            unsafe { cudarc::driver::result::graph::destroy(graph) }.unwrap();
        }
    });
}
