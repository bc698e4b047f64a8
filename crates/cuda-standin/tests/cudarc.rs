//! cudarc's safe layer on the stand-in: unchanged, unaware, in every mode. cudarc does not wait for a copy into a
//! `Vec`, so pageable memory is staged here.
#![expect(unsafe_code, reason = "cudarc's launches and raw handles are unsafe")]

use cuda_standin::{Control, Driver, Mode, Pageable, Session};
use cudarc::driver::result::stream::launch_host_function;
use cudarc::driver::sys::{CUevent_flags, CUgraphInstantiate_flags, CUstreamCaptureMode, CUstreamCaptureStatus};
use cudarc::driver::{CudaContext, CudaFunction, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;
use std::ffi::{CStr, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const MODES: [Mode; 4] = [Mode::Plain, Mode::Late(1), Mode::Late(20), Mode::Lazy];

const PTX: &str = "
    .version 8.0
    .target sm_90
    .visible .entry fill(.param .u64 to, .param .u64 words, .param .u32 value) { ret; }
    .visible .entry add_one(.param .u64 at, .param .u64 words) { ret; }
    .visible .entry saxpy(.param .u64 n, .param .f32 a, .param .u64 x, .param .u64 y) { ret; }
    .visible .entry spin(.param .u64 turns) { ret; }
    .visible .global .align 4 .u32 counter;
";

fn in_every_mode(test: impl Fn(&Session, &Arc<CudaContext>)) {
    for mode in MODES {
        let session = Session::begin().unwrap();
        session.set_mode(mode);
        session.set_pageable(Pageable::Staged);
        test(&session, &CudaContext::new(0).unwrap());
    }
}

fn function(context: &Arc<CudaContext>, name: &str) -> CudaFunction {
    context.load_module(Ptx::from_src(PTX)).unwrap().load_function(name).unwrap()
}

fn one() -> LaunchConfig {
    LaunchConfig::for_num_elems(1)
}

#[test]
fn cudarc_finds_the_stand_in_without_any_environment_variable() {
    let session = Session::begin().unwrap();
    assert!(session.marker().starts_with("cuda-standin "));
    assert!(matches!(cuda_standin::driver(), Driver::StandIn(_)));
    assert_eq!(Control::open().unwrap().marker(), session.marker());
    // SAFETY: opens libraries by their names.
    assert!(unsafe { cudarc::driver::sys::is_culib_present() });
    assert_eq!(CudaContext::device_count(), Ok(1));
    assert_eq!(session.calls("cuDeviceGetCount"), 1);
    assert!(is_the_stand_in(c"libcuda.so") && is_the_stand_in(c"libcuda.so.1"));
}

/// Whether the loaded library of this name has the marker.
fn is_the_stand_in(name: &CStr) -> bool {
    // SAFETY: a C string; the library is loaded already.
    let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    // SAFETY: null is refused by the loader, anything else was just opened.
    !library.is_null() && !unsafe { libc::dlsym(library, c"cuda_standin_marker".as_ptr()) }.is_null()
}

#[test]
fn bytes_come_back_as_they_went_in() {
    in_every_mode(|_, context| {
        let stream = context.default_stream();
        let sent: Vec<u32> = (0..10_000).collect();
        let device = stream.clone_htod(&sent).unwrap();
        let copy = stream.clone_dtod(&device).unwrap();
        assert_eq!(stream.clone_dtoh(&copy).unwrap(), sent);
        let zeros = stream.alloc_zeros::<u32>(100).unwrap();
        assert_eq!(stream.clone_dtoh(&zeros).unwrap(), [0; 100]);
    });
}

#[test]
fn fresh_device_memory_is_poisoned_and_out_of_reach() {
    in_every_mode(|session, context| {
        let stream = context.default_stream();
        // SAFETY: only looked at.
        let device = unsafe { stream.alloc::<u8>(64) }.unwrap();
        assert_eq!(stream.clone_dtoh(&device).unwrap(), [0xCD; 64]);
        assert_eq!(session.counters().live_bytes, 64);
    });
}

#[test]
fn kernels_work_on_what_they_are_given() {
    in_every_mode(|_, context| {
        let stream = context.new_stream().unwrap();
        let mut x = stream.alloc_zeros::<f32>(8).unwrap();
        let mut y = stream.clone_htod(&[1.0_f32; 8]).unwrap();
        let (fill, saxpy) = (function(context, "fill"), function(context, "saxpy"));
        // SAFETY: the built-in kernel takes these arguments.
        unsafe { stream.launch_builder(&fill).arg(&mut x).arg(&8_u64).arg(&2.0_f32.to_bits()).launch(one()) }.unwrap();
        // SAFETY: as above.
        unsafe { stream.launch_builder(&saxpy).arg(&8_u64).arg(&3.0_f32).arg(&x).arg(&mut y).launch(one()) }.unwrap();
        assert_eq!(stream.clone_dtoh(&y).unwrap(), [7.0; 8]);
    });
}

#[test]
fn cudarcs_own_event_tracking_orders_two_streams() {
    in_every_mode(|_, context| {
        let (first, second) = (context.new_stream().unwrap(), context.new_stream().unwrap());
        let add_one = function(context, "add_one");
        let mut words = first.clone_htod(&[0_u32; 1000]).unwrap();
        for turn in 0..10 {
            let stream = if turn % 2 == 0 { &second } else { &first };
            // SAFETY: the built-in kernel takes these arguments.
            unsafe { stream.launch_builder(&add_one).arg(&mut words).arg(&1000_u64).launch(one()).unwrap() };
        }
        assert_eq!(second.clone_dtoh(&words).unwrap(), [10; 1000]);
    });
}

#[test]
fn events_order_and_measure() {
    in_every_mode(|session, context| {
        let timing = Some(CUevent_flags::CU_EVENT_DEFAULT);
        let (start, end) = (context.new_event(timing).unwrap(), context.new_event(timing).unwrap());
        let (stream, other) = (context.new_stream().unwrap(), context.new_stream().unwrap());
        start.record(&stream).unwrap();
        let spin = function(context, "spin");
        // SAFETY: the built-in kernel takes this argument.
        unsafe { stream.launch_builder(&spin).arg(&50_u64).launch(one()).unwrap() };
        end.record(&stream).unwrap();
        other.wait(&end).unwrap();
        other.synchronize().unwrap();
        assert!(start.elapsed_ms(&end).unwrap() >= 0.05);
        assert_eq!(session.counters().events, 2);
    });
}

#[test]
fn a_query_says_not_ready_until_lazy_work_has_been_demanded() {
    let session = Session::begin().unwrap();
    session.set_mode(Mode::Lazy);
    let context = CudaContext::new(0).unwrap();
    let stream = context.new_stream().unwrap();
    let event = stream.record_event(None).unwrap();
    assert_eq!(event.try_is_complete(), Ok(false));
    assert_eq!(event.try_is_complete(), Ok(true));
    let spin = function(&context, "spin");
    // SAFETY: the built-in kernel takes this argument.
    unsafe { stream.launch_builder(&spin).arg(&3_u64).launch(one()).unwrap() };
    event.record(&stream).unwrap();
    let polls = std::iter::repeat_with(|| event.try_is_complete().unwrap()).take_while(|done| !done).count();
    assert_eq!(polls, 3 + 2);
}

struct Ran {
    count: AtomicU32,
    caller: std::thread::ThreadId,
}

unsafe extern "C" fn count(ran: *mut c_void) {
    // SAFETY: the caller passed a `Ran`, shared.
    let ran = unsafe { &*ran.cast::<Ran>() };
    if std::thread::current().id() != ran.caller {
        ran.count.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn host_functions_run_in_stream_order_on_another_thread() {
    in_every_mode(|_, context| {
        let stream = context.new_stream().unwrap();
        let ran = Ran { count: AtomicU32::new(0), caller: std::thread::current().id() };
        for _ in 0..3 {
            let argument = &raw const ran;
            // SAFETY: `ran` lives until the stream has been waited for.
            unsafe { launch_host_function(stream.cu_stream(), count, argument.cast_mut().cast()) }.unwrap();
        }
        stream.synchronize().unwrap();
        assert_eq!(ran.count.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn a_captured_graph_runs_as_often_as_it_is_launched() {
    in_every_mode(|session, context| {
        let stream = context.new_stream().unwrap();
        let add_one = function(context, "add_one");
        let words = stream.alloc_zeros::<u32>(16).unwrap();
        // cudarc's tracking would record its events into the capture.
        // SAFETY: everything is on one stream.
        unsafe { context.disable_event_tracking() };
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL).unwrap();
        // SAFETY: the built-in kernel takes these arguments.
        unsafe { stream.launch_builder(&add_one).arg(&words).arg(&16_u64).launch(one()).unwrap() };
        assert_eq!(stream.capture_status(), Ok(CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE));
        let graph = stream.end_capture(CUgraphInstantiate_flags(0)).unwrap().unwrap();
        for _ in 0..3 {
            graph.launch().unwrap();
        }
        assert_eq!(stream.clone_dtoh(&words).unwrap(), [3; 16]);
        assert_eq!(session.counters().graphs, 2);
    });
}

#[test]
fn page_locked_memory_is_copied_late_and_seen_in_time() {
    in_every_mode(|session, context| {
        let stream = context.new_stream().unwrap();
        // SAFETY: written before it is read.
        let mut locked = unsafe { context.alloc_pinned::<u32>(3000) }.unwrap();
        locked.as_mut_slice().unwrap().copy_from_slice(&[9; 3000]);
        let device = stream.clone_htod(&locked).unwrap();
        locked.as_mut_slice().unwrap().fill(0);
        stream.memcpy_dtoh(&device, &mut locked).unwrap();
        assert_eq!(session.counters().page_locked_bytes, 12_000);
        assert_eq!(locked.as_slice().unwrap(), [9; 3000]);
    });
}

#[test]
fn what_the_device_says_about_itself_is_what_it_was_told_to() {
    let session = Session::begin().unwrap();
    session.set("devices", 2);
    session.set("vram", 1 << 20);
    session.set("compute", "8.6");
    session.set("name", "Pretend 1000");
    session.set("uuid.1", "00112233445566778899aabbccddeeff");
    let context = CudaContext::new(1).unwrap();
    assert_eq!(CudaContext::device_count(), Ok(2));
    assert_eq!(context.compute_capability(), Ok((8, 6)));
    assert_eq!(context.name().as_deref(), Ok("Pretend 1000"));
    assert_eq!(context.uuid().unwrap().bytes[15] as u8, 0xff);
    let stream = context.default_stream();
    // SAFETY: never looked at.
    let held = unsafe { stream.alloc::<u8>(1 << 19) }.unwrap();
    assert_eq!(context.mem_get_info(), Ok((1 << 19, 1 << 20)));
    // SAFETY: fails.
    let refused = unsafe { stream.alloc::<u8>((1 << 19) + 1) };
    assert_eq!(refused.unwrap_err().error_name().unwrap(), c"CUDA_ERROR_OUT_OF_MEMORY");
    drop(held);
    assert!(CudaContext::new(2).is_err());
}
