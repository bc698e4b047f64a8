//! Calls that fail as planned, contexts that are lost, and what a presence probe finds.
#![expect(unsafe_code, reason = "makes driver calls")]

mod driver;

use crate::driver::{Gpu, Stream, call};
use cuda_standin::{Code, Mode, Personality, Session};
use cudarc::driver::{CudaContext, sys};

#[test]
fn the_nth_call_of_a_name_fails_and_has_no_effect() {
    let session = Session::begin().unwrap();
    let gpu = Gpu::new(&session);
    session.fail("cuMemAlloc_v2", 2, Code::OUT_OF_MEMORY);
    let first = gpu.alloc(64);
    assert_eq!(call!(cuMemAlloc_v2(-> u64, 64)), Err(Code::OUT_OF_MEMORY));
    let third = gpu.alloc(64);
    assert_eq!(session.counters().live_bytes, 128);
    gpu.free(first);
    gpu.free(third);
}

#[test]
fn every_single_call_of_a_program_can_fail() {
    let program = || -> driver::Result {
        let stream = call!(cuStreamCreate(-> Stream, 1))?;
        let block = call!(cuMemAlloc_v2(-> u64, 64));
        let filled = block.and_then(|block| call!(cuMemsetD8Async(block, 1, 64, stream)));
        let waited = call!(cuStreamSynchronize(stream));
        let freed = block.and_then(|block| call!(cuMemFree_v2(block)).or_else(|_| call!(cuMemFree_v2(block))));
        let destroyed = call!(cuStreamDestroy_v2(stream));
        filled.and(waited).and(freed).and(destroyed)
    };
    let session = Session::begin().unwrap();
    let gpu = Gpu::new(&session);
    let before = session.counters().calls;
    program().unwrap();
    let calls = session.counters().calls - before;
    for nth in 1..=calls {
        session.fail_any(nth, Code::UNKNOWN);
        // The free is tried again, so that its failure is survived.
        assert_eq!(program().is_err(), nth != 5, "call {nth}");
        assert_eq!((session.counters().live_bytes, session.counters().faults), (0, 0), "call {nth}");
    }
    drop(gpu);
}

#[test]
fn after_a_sticky_error_every_call_of_the_context_answers_with_it() {
    let session = Session::begin().unwrap();
    session.set("devices", 2);
    let (gpu, other) = (Gpu::on(0), Gpu::on(1));
    gpu.bind();
    let stream = gpu.stream();
    session.fail_for_good("cuStreamSynchronize", 1, Code::LAUNCH_FAILED);
    assert_eq!(call!(cuStreamSynchronize(stream)), Err(Code::LAUNCH_FAILED));
    assert_eq!(call!(cuMemAlloc_v2(-> u64, 64)), Err(Code::LAUNCH_FAILED));
    assert_eq!(call!(cuStreamQuery(stream)), Err(Code::LAUNCH_FAILED));
    other.bind();
    let block = other.alloc(64);
    other.free(block);
}

#[test]
fn a_kernels_fault_is_told_by_a_later_call() {
    let session = Session::begin().unwrap();
    session.set_mode(Mode::Lazy);
    let gpu = Gpu::new(&session);
    let (stream, event) = (gpu.stream(), gpu.event());
    gpu.launch("trap", &[], stream).unwrap();
    call!(cuEventRecord(event, stream)).unwrap();
    assert_eq!(call!(cuEventSynchronize(event)), Err(Code::ILLEGAL_INSTRUCTION));
    assert_eq!(call!(cuCtxSynchronize()), Err(Code::ILLEGAL_INSTRUCTION));
}

#[test]
fn after_a_reset_old_handles_are_refused_and_a_new_context_works() {
    let session = Session::begin().unwrap();
    let gpu = Gpu::new(&session);
    let (stream, block) = (gpu.stream(), gpu.alloc(64));
    call!(cuDevicePrimaryCtxReset_v2(0)).unwrap();
    assert_eq!(call!(cuStreamSynchronize(stream)), Err(Code::CONTEXT_IS_DESTROYED));
    assert_eq!(call!(cuMemFree_v2(block)), Err(Code::CONTEXT_IS_DESTROYED));
    assert!(session.take_violations().iter().all(|text| text.contains("is destroyed")));
    assert_eq!(session.counters().live_bytes, 0);
    let fresh = Gpu::new(&session);
    let block = fresh.alloc(64);
    fresh.free(block);
    drop(fresh);
    std::mem::forget(gpu); // its reference went with the reset
}

#[test]
fn a_lost_device_gives_no_new_context() {
    let session = Session::begin().unwrap();
    let gpu = Gpu::new(&session);
    session.lose_device(0, Code::DEVICE_UNAVAILABLE);
    assert_eq!(call!(cuMemAlloc_v2(-> u64, 64)), Err(Code::DEVICE_UNAVAILABLE));
    drop(gpu);
    assert_eq!(CudaContext::new(0).unwrap_err().0 as u32, Code::DEVICE_UNAVAILABLE.0);
}

#[test]
fn a_probe_finds_what_it_is_meant_to_find() {
    let probe = |personality, init, version| {
        let session = Session::begin().unwrap();
        session.set_personality(personality);
        assert_eq!(call!(cuInit(0)).err().unwrap_or(Code::SUCCESS), init);
        assert_eq!(call!(cuDriverGetVersion(-> i32)), Ok(version));
        if init != Code::SUCCESS {
            assert_eq!(call!(cuDeviceGetCount(-> i32)), Err(Code::NOT_INITIALIZED));
            assert!(CudaContext::new(0).is_err());
        }
    };
    probe(Personality::Gpu, Code::SUCCESS, 13_000);
    probe(Personality::NoDevice, Code::NO_DEVICE, 13_000);
    probe(Personality::Stub, Code::STUB_LIBRARY, 13_000);
    probe(Personality::Mismatch, Code::SYSTEM_DRIVER_MISMATCH, 13_000);
    probe(Personality::TooOld, Code::SUCCESS, 10_020);
}

#[test]
fn a_device_gives_out_no_more_than_it_has() {
    let session = Session::begin().unwrap();
    session.set_vram_bytes(4096);
    let gpu = Gpu::new(&session);
    let first = gpu.alloc(4000);
    assert_eq!(call!(cuMemAlloc_v2(-> u64, 1)), Err(Code::OUT_OF_MEMORY));
    gpu.free(first);
    // What a stream frees before is there for what it allocates after.
    let stream = gpu.stream();
    session.set_mode(Mode::Lazy);
    let first = call!(cuMemAllocAsync(-> u64, 4096, stream)).unwrap();
    call!(cuMemFreeAsync(first, stream)).unwrap();
    assert_eq!(call!(cuMemAlloc_v2(-> u64, 1)), Err(Code::OUT_OF_MEMORY));
    let second = call!(cuMemAllocAsync(-> u64, 4096, stream)).unwrap();
    call!(cuMemFreeAsync(second, stream)).unwrap();
}

#[test]
fn pools_can_be_absent() {
    let session = Session::begin().unwrap();
    session.set("pools", "off");
    let context = CudaContext::new(0).unwrap();
    assert!(!context.has_async_alloc());
    let stream = context.new_stream().unwrap();
    drop(stream.alloc_zeros::<u8>(16).unwrap());
    assert_eq!((session.calls("cuMemAlloc_v2"), session.calls("cuMemAllocAsync")), (1, 0));
    assert_eq!(call!(cuMemAllocAsync(-> u64, 16, stream.cu_stream())), Err(Code::NOT_SUPPORTED));
}

#[test]
fn errors_have_names() {
    let _session = Session::begin().unwrap();
    let error = cudarc::driver::DriverError(sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_eq!(error.error_name().unwrap(), c"CUDA_ERROR_ILLEGAL_ADDRESS");
    assert!(error.to_string().contains("an illegal memory access was encountered"));
}
