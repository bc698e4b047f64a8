//! Many threads at once: nothing is lost, nothing hangs, and host functions wait for nobody's lock.
#![expect(unsafe_code, reason = "makes driver calls")]

mod driver;

use crate::driver::{Gpu, PER_THREAD, call, in_every_mode};
use cudarc::driver::sys;
use std::ffi::c_void;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn threads_with_streams_of_their_own_do_not_disturb_each_other() {
    in_every_mode(|session, gpu| {
        let context = gpu.context as usize;
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                scope.spawn(move || {
                    call!(cuCtxSetCurrent(context as sys::CUcontext)).unwrap();
                    work(thread);
                });
            }
        });
        assert_eq!(session.counters().live_bytes, 0);
    });
}

fn work(thread: u64) {
    let stream = call!(cuStreamCreate(-> sys::CUstream, 1)).unwrap();
    for turn in 0..20_u8 {
        let block = call!(cuMemAlloc_v2(-> u64, 5000)).unwrap();
        call!(cuMemsetD8Async(block, turn ^ thread as u8, 5000, stream)).unwrap();
        let mut back = vec![0_u8; 5000];
        call!(cuMemcpyDtoHAsync_v2(back.as_mut_ptr().cast(), block, 5000, stream)).unwrap();
        call!(cuStreamSynchronize(stream)).unwrap();
        assert!(back.iter().all(|byte| *byte == turn ^ thread as u8));
        call!(cuMemFree_v2(block)).unwrap();
    }
    call!(cuStreamDestroy_v2(stream)).unwrap();
}

#[test]
fn per_thread_streams_are_one_for_each_thread() {
    in_every_mode(|session, gpu| {
        let block = gpu.alloc(64);
        gpu.fill(block, 64, PER_THREAD);
        let context = gpu.context as usize;
        std::thread::spawn(move || {
            call!(cuCtxSetCurrent(context as sys::CUcontext)).unwrap();
            call!(cuMemsetD8Async(block, 1, 64, PER_THREAD)).unwrap();
        })
        .join()
        .unwrap();
        gpu.free(block);
        let found = session.take_violations();
        assert!(found[0].contains("a per-thread stream"), "{found:#?}");
    });
}

struct Shared {
    lock: Mutex<u64>,
    ran: AtomicU64,
}

unsafe extern "C" fn take_the_lock(shared: *mut c_void) {
    // SAFETY: the caller passed a `Shared` and waits for its streams.
    let shared = unsafe { &*shared.cast::<Shared>() };
    *shared.lock.lock().unwrap() += 1;
    shared.ran.fetch_add(1, Ordering::Relaxed);
}

/// A host function that ran inside a driver call would wait for ever for the lock that its caller holds.
#[test]
fn driver_calls_can_be_made_with_a_lock_held_that_a_host_function_takes() {
    in_every_mode(|_, gpu| {
        let shared = Shared { lock: Mutex::new(0), ran: AtomicU64::new(0) };
        let argument = (&raw const shared).cast_mut().cast();
        let stream = gpu.stream();
        {
            let _held = shared.lock.lock().unwrap();
            for _ in 0..3 {
                call!(cuLaunchHostFunc(stream, Some(take_the_lock), argument)).unwrap();
                let _ = call!(cuStreamQuery(stream));
                let _ = call!(cuMemGetInfo_v2(&mut 0, &mut 0));
            }
        }
        gpu.sync(stream);
        assert_eq!(shared.ran.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn host_functions_see_what_their_stream_has_written() {
    unsafe extern "C" fn check(locked: *mut c_void) {
        // SAFETY: the caller passed 8192 page-locked bytes, written by the copy before this function.
        let bytes = unsafe { std::slice::from_raw_parts_mut(locked.cast::<u8>(), 8192) };
        bytes[0] = if bytes.iter().all(|byte| *byte == 7) { 1 } else { 2 };
    }
    in_every_mode(|_, gpu| {
        let (stream, block, host) = (gpu.stream(), gpu.alloc(8192), gpu.alloc_host(8192));
        gpu.fill(block, 8192, stream);
        call!(cuMemcpyDtoHAsync_v2(host.cast(), block, 8192, stream)).unwrap();
        call!(cuLaunchHostFunc(stream, Some(check), host.cast())).unwrap();
        gpu.sync(stream);
        // SAFETY: mapped, and the stream was waited for.
        assert_eq!(unsafe { host.read_volatile() }, 1);
        gpu.free_host(host).unwrap();
        gpu.free(block);
    });
}

#[test]
fn callbacks_get_the_stream_and_how_things_stand() {
    struct Seen(sys::CUstream, u32);
    unsafe extern "C" fn note(stream: sys::CUstream, status: sys::CUresult, seen: *mut c_void) {
        // SAFETY: the caller passed a `Seen` and waits.
        *unsafe { &mut *seen.cast::<Seen>() } = Seen(stream, status as u32);
    }
    in_every_mode(|_, gpu| {
        let stream = gpu.stream();
        let mut seen = Seen(std::ptr::null_mut(), 1);
        call!(cuStreamAddCallback(stream, Some(note), (&raw mut seen).cast(), 0)).unwrap();
        gpu.sync(stream);
        assert_eq!((seen.0, seen.1), (stream, 0));
    });
}

#[test]
fn a_stream_waits_for_a_host_function_of_another() {
    in_every_mode(|_, gpu: &Gpu| {
        let shared = Shared { lock: Mutex::new(0), ran: AtomicU64::new(0) };
        let argument = (&raw const shared).cast_mut().cast();
        let streams: Vec<_> = (0..6).map(|_| gpu.stream()).collect();
        for pair in streams.windows(2) {
            call!(cuLaunchHostFunc(pair[0], Some(take_the_lock), argument)).unwrap();
            gpu.order(pair[0], pair[1]);
        }
        gpu.sync(streams[5]);
        assert_eq!(shared.ran.load(Ordering::Relaxed), 5);
    });
}
