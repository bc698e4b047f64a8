//! What calls promise, and no more: which wait, which order, which do nothing yet.
#![expect(unsafe_code, reason = "makes driver calls")]

mod driver;

use crate::driver::{Fixed, Gpu, LEGACY, call, in_every_mode, planted};
use cuda_standin::{Code, Mode, Pageable, Session};
use cudarc::driver::sys;
use std::ffi::c_void;

const BLOCK: usize = 4096;

#[test]
fn late_work_runs_some_calls_later_without_being_waited_for() {
    let session = Session::begin().unwrap();
    session.set_mode(Mode::Late(2));
    let gpu = Gpu::new(&session);
    let (stream, block) = (gpu.stream(), gpu.alloc(4));
    gpu.fill(block, 4, stream);
    assert_eq!(call!(cuDeviceGetCount(-> i32)), Ok(1));
    assert_eq!((session.peek(block, 1).unwrap(), session.counters().pending), (vec![0xCD], 1));
    assert_eq!(call!(cuDeviceGetCount(-> i32)), Ok(1));
    assert_eq!((session.peek(block, 1).unwrap(), session.counters().pending), (vec![7], 0));
    gpu.free(block);
}

#[test]
fn a_test_can_run_work_step_by_step() {
    let session = Session::begin().unwrap();
    session.set_mode(Mode::Lazy);
    let gpu = Gpu::new(&session);
    let (first, second, block) = (gpu.stream(), gpu.stream(), gpu.alloc(2));
    gpu.fill(block, 1, first);
    gpu.order(first, second);
    gpu.launch("copy", &[block + 1, block, 1], second).unwrap();
    assert_eq!(session.run(1), 1);
    assert_eq!(session.peek(block, 2).unwrap(), [7, 0xCD]);
    assert_eq!(session.run(100), 3);
    assert_eq!(session.peek(block, 2).unwrap(), [7, 7]);
    gpu.free(block);
}

#[test]
fn a_target_holds_nothing_of_use_before_its_copy_has_run() {
    let session = Session::begin().unwrap();
    session.set_mode(Mode::Lazy);
    let gpu = Gpu::new(&session);
    let (stream, block, mut host) = (gpu.stream(), gpu.alloc(8), [1_u8; 8]);
    call!(cuMemcpyDtoHAsync_v2(host.as_mut_ptr().cast(), block, 8, stream)).unwrap();
    assert_eq!(std::hint::black_box(&host), &[0xDB; 8]);
    gpu.sync(stream);
    assert_eq!(std::hint::black_box(&host), &[0xCD; 8]);
    gpu.free(block);
}

#[test]
fn blocking_copies_to_the_host_are_over_when_they_return() {
    in_every_mode(|_, gpu| {
        let (block, mut host) = (gpu.alloc(BLOCK), vec![0_u8; BLOCK]);
        call!(cuMemcpyHtoD_v2(block, vec![5_u8; BLOCK].as_ptr().cast(), BLOCK)).unwrap();
        call!(cuMemcpyDtoH_v2(host.as_mut_ptr().cast(), block, BLOCK)).unwrap();
        assert!(host.iter().all(|byte| *byte == 5));
        let other = gpu.alloc(BLOCK);
        call!(cuMemcpyDtoD_v2(other, block, BLOCK)).unwrap();
        call!(cuMemcpy(host.as_mut_ptr() as u64, other, BLOCK)).unwrap();
        assert!(host.iter().all(|byte| *byte == 5));
        gpu.free(block);
        gpu.free(other);
    });
}

#[test]
fn a_blocking_copy_waits_for_the_legacy_stream_before_it_takes_its_source() {
    planted("race: kernel read", |gpu, Fixed(fixed)| {
        let (block, other, stream) = (gpu.alloc(BLOCK), gpu.alloc(BLOCK), gpu.stream());
        gpu.fill(block, BLOCK, LEGACY);
        if fixed {
            call!(cuMemcpyHtoD_v2(other, [1_u8; 4].as_ptr().cast(), 4)).unwrap();
        }
        gpu.read(block, BLOCK as u64, stream);
        gpu.free(block);
        gpu.free(other);
    });
}

#[test]
fn a_blocking_copy_from_page_locked_memory_has_arrived_when_it_returns() {
    planted("race: kernel read", |gpu, Fixed(fixed)| {
        let (block, host, stream) = (gpu.alloc(BLOCK), gpu.alloc_host(BLOCK), gpu.stream());
        if fixed {
            call!(cuMemcpyHtoD_v2(block, host.cast(), BLOCK)).unwrap();
        } else {
            call!(cuMemcpyHtoDAsync_v2(block, host.cast(), BLOCK, LEGACY)).unwrap();
        }
        gpu.read(block, BLOCK as u64, stream);
        gpu.sync(LEGACY);
        gpu.free_host(host).unwrap();
        gpu.free(block);
    });
}

#[test]
fn page_locked_memory_goes_out_and_comes_back_on_one_stream() {
    in_every_mode(|_, gpu| {
        let (stream, block, host) = (gpu.stream(), gpu.alloc(BLOCK), gpu.alloc_host(BLOCK));
        call!(cuMemcpyHtoDAsync_v2(block, host.cast(), BLOCK, stream)).unwrap();
        gpu.fill(block, BLOCK, stream);
        call!(cuMemcpyDtoHAsync_v2(host.cast(), block, BLOCK, stream)).unwrap();
        gpu.sync(stream);
        // SAFETY: mapped, and the stream was waited for.
        assert_eq!(unsafe { host.read_volatile() }, 7);
        gpu.free_host(host).unwrap();
        gpu.free(block);
    });
}

#[test]
fn a_target_overwritten_by_the_program_after_the_copy_ran() {
    for fixed in [false, true] {
        let session = Session::begin().unwrap();
        let gpu = Gpu::new(&session);
        let (stream, block, mut host) = (gpu.stream(), gpu.alloc(8), [1_u8; 8]);
        call!(cuMemcpyDtoHAsync_v2(host.as_mut_ptr().cast(), block, 8, stream)).unwrap();
        if fixed {
            gpu.sync(stream);
        }
        host[0] = 2;
        std::hint::black_box(&mut host);
        gpu.sync(stream);
        gpu.free(block);
        let found = session.take_violations();
        assert_eq!(found.iter().any(|text| text.contains("the target of cuMemcpyDtoHAsync_v2")), !fixed);
    }
}

#[test]
fn page_locked_memory_that_a_kernel_works_on_by_address() {
    planted("early free: cuMemFreeHost", |gpu, Fixed(fixed)| {
        let (stream, host) = (gpu.stream(), gpu.alloc_host(BLOCK));
        let address = call!(cuMemHostGetDevicePointer_v2(-> u64, host.cast(), 0)).unwrap();
        gpu.launch("fill", &[address, 4, 9], stream).unwrap();
        if fixed {
            gpu.sync(stream);
            // SAFETY: mapped, and the stream was waited for.
            assert_eq!(unsafe { host.wrapping_add(12).read_volatile() }, 9);
        }
        gpu.free_host(host).unwrap();
    });
}

#[test]
fn registered_memory_is_late_like_page_locked_memory() {
    planted("early free: cuMemHostUnregister", |gpu, Fixed(fixed)| {
        let (stream, block, mut host) = (gpu.stream(), gpu.alloc(64), vec![3_u8; 64]);
        let address: *mut c_void = host.as_mut_ptr().cast();
        call!(cuMemHostRegister_v2(address, 64, 0)).unwrap();
        assert_eq!(call!(cuMemHostRegister_v2(address, 1, 0)), Err(Code::HOST_MEMORY_ALREADY_REGISTERED));
        call!(cuMemcpyHtoDAsync_v2(block, address, 64, stream)).unwrap();
        if fixed {
            gpu.sync(stream);
        }
        call!(cuMemHostUnregister(address)).unwrap();
        let _ = call!(cuMemFree_v2(block));
    });
}

#[test]
fn staged_pageable_memory_is_the_programs_again_at_once() {
    for mode in driver::MODES {
        let session = Session::begin().unwrap();
        session.set_mode(mode);
        session.set_pageable(Pageable::Staged);
        let gpu = Gpu::new(&session);
        let (stream, block, mut host) = (gpu.stream(), gpu.alloc(8), vec![3_u8; 8]);
        call!(cuMemcpyHtoDAsync_v2(block, host.as_ptr().cast(), 8, stream)).unwrap();
        host.fill(0);
        call!(cuMemcpyDtoHAsync_v2(host.as_mut_ptr().cast(), block, 8, stream)).unwrap();
        assert_eq!(host, [3; 8]);
        gpu.free(block);
    }
}

#[test]
fn memory_given_back_at_a_point_of_a_stream_is_not_used_after_it() {
    planted("cuMemFreeAsync", |gpu, Fixed(fixed)| {
        let stream = gpu.stream();
        let block = call!(cuMemAllocAsync(-> u64, BLOCK, stream)).unwrap();
        call!(cuMemFreeAsync(block, stream)).unwrap();
        let again = if fixed { call!(cuMemAllocAsync(-> u64, BLOCK, stream)).unwrap() } else { block };
        assert_eq!(call!(cuMemsetD8Async(again, 1, 4, stream)).is_ok(), fixed);
        if fixed {
            call!(cuMemFreeAsync(again, stream)).unwrap();
        }
    });
}

#[test]
fn memory_of_a_pool_is_freed_by_a_blocking_call_only_when_nothing_uses_it() {
    planted("early free: cuMemFree_v2 of device block #", |gpu, Fixed(fixed)| {
        let stream = gpu.stream();
        let block = call!(cuMemAllocAsync(-> u64, BLOCK, stream)).unwrap();
        gpu.fill(block, BLOCK, stream);
        if fixed {
            gpu.sync(stream);
        }
        call!(cuMemFree_v2(block)).unwrap();
    });
}

#[test]
fn a_vector_that_came_back_is_sent_again_on_the_same_stream() {
    in_every_mode(|session, gpu| {
        let (stream, block) = (gpu.stream(), gpu.alloc(4 * BLOCK));
        gpu.fill(block, 2 * BLOCK, stream);
        let mut host = vec![0_u8; 2 * BLOCK];
        call!(cuMemcpyDtoHAsync_v2(host.as_mut_ptr().cast(), block, 2 * BLOCK, stream)).unwrap();
        call!(cuMemcpyHtoDAsync_v2(block + 2 * BLOCK as u64, host.as_ptr().cast(), 2 * BLOCK, stream)).unwrap();
        gpu.sync(stream);
        assert!(session.peek(block, 4 * BLOCK).unwrap().iter().all(|byte| *byte == 7));
        gpu.free(block);
    });
}

#[test]
fn a_vector_staged_before_it_has_come_back() {
    planted("the program reads 8192 bytes", |gpu, Fixed(fixed)| {
        let (stream, block, mut host) = (gpu.stream(), gpu.alloc(2 * BLOCK), vec![0_u8; 2 * BLOCK]);
        let other = gpu.alloc(2 * BLOCK);
        call!(cuMemcpyDtoHAsync_v2(host.as_mut_ptr().cast(), block, 2 * BLOCK, stream)).unwrap();
        if fixed {
            gpu.sync(stream);
        }
        call!(cuMemcpyHtoD_v2(other, host.as_ptr().cast(), 2 * BLOCK)).unwrap();
        gpu.sync(stream);
        gpu.free(block);
        gpu.free(other);
    });
}

#[test]
fn contexts_nest_and_end() {
    let session = Session::begin().unwrap();
    let gpu = Gpu::new(&session);
    let inner = call!(cuCtxCreate_v2(-> sys::CUcontext, 0, 0)).unwrap();
    assert_eq!(call!(cuCtxGetCurrent(-> sys::CUcontext)), Ok(inner));
    call!(cuCtxPushCurrent_v2(gpu.context)).unwrap();
    assert_eq!(call!(cuCtxPopCurrent_v2(-> sys::CUcontext)), Ok(gpu.context));
    let leaked = gpu.alloc(64);
    call!(cuCtxDestroy_v2(inner)).unwrap();
    assert_eq!(call!(cuCtxGetCurrent(-> sys::CUcontext)), Ok(gpu.context));
    assert!(session.take_violations()[0].starts_with("leak: cuCtxDestroy_v2 ends a context"));
    assert_eq!((session.counters().live_bytes, session.peek(leaked, 1)), (0, None));
    assert_eq!(call!(cuCtxSetCurrent(inner)), Err(Code::CONTEXT_IS_DESTROYED));
    assert_eq!(session.take_violations().len(), 1);
}

#[test]
fn strict_frees_do_not_wait() {
    for strict in ["strict", "syncs"] {
        let session = Session::begin().unwrap();
        session.set("free", strict);
        let gpu = Gpu::new(&session);
        let (stream, block) = (gpu.stream(), gpu.alloc(BLOCK));
        gpu.fill(block, BLOCK, stream);
        gpu.free(block);
        assert_eq!(session.take_violations().len(), usize::from(strict == "strict"));
    }
}

#[test]
fn kernels_reach_no_other_device() {
    for fixed in [false, true] {
        let session = Session::begin().unwrap();
        session.set("devices", 2);
        let (first, second) = (Gpu::on(0), Gpu::on(1));
        let block = second.alloc(BLOCK);
        if !fixed {
            first.bind();
        }
        let stream = second.stream();
        let filled = call!(cuMemsetD8Async(block, 1, BLOCK, stream));
        assert_eq!(filled.is_ok(), fixed);
        second.bind();
        second.free(block);
        let found = session.take_violations();
        assert_eq!(found.iter().any(|text| text.contains("which is on device 1")), !fixed, "{found:#?}");
        drop(first);
    }
}

#[test]
fn streams_are_used_under_their_own_context() {
    let session = Session::begin().unwrap();
    session.set("devices", 2);
    let (first, second) = (Gpu::on(0), Gpu::on(1));
    first.bind();
    let stream = first.stream();
    second.bind();
    assert_eq!(call!(cuStreamSynchronize(stream)), Err(Code::INVALID_CONTEXT));
    first.bind();
    call!(cuStreamSynchronize(stream)).unwrap();
    assert!(session.take_violations()[0].starts_with("context: cuStreamSynchronize on stream"));
    drop(second);
}

#[test]
fn a_lost_device_does_no_more_work() {
    let session = Session::begin().unwrap();
    session.set_mode(Mode::Lazy);
    let gpu = Gpu::new(&session);
    let (stream, block) = (gpu.stream(), gpu.alloc(4));
    gpu.launch("trap", &[], stream).unwrap();
    gpu.fill(block, 4, stream);
    assert_eq!(call!(cuStreamSynchronize(stream)), Err(Code::ILLEGAL_INSTRUCTION));
    assert_eq!(session.peek(block, 4).unwrap(), [0xCD; 4]);
}

#[test]
fn an_event_recorded_again_forgets_the_first_time() {
    let session = Session::begin().unwrap();
    session.set_mode(Mode::Lazy);
    let gpu = Gpu::new(&session);
    let (first, second) = (gpu.stream(), gpu.stream());
    let event = call!(cuEventCreate(-> driver::Event, 0)).unwrap();
    call!(cuEventRecord(event, first)).unwrap();
    call!(cuEventRecord(event, second)).unwrap();
    gpu.sync(first);
    assert_eq!(call!(cuEventElapsedTime(-> f32, event, event)), Err(Code::NOT_READY));
    gpu.sync(second);
    assert_eq!(call!(cuEventElapsedTime(-> f32, event, event)), Ok(0.0));
    let untimed = gpu.mark(first);
    gpu.sync(first);
    assert_eq!(call!(cuEventElapsedTime(-> f32, event, untimed)), Err(Code::INVALID_HANDLE));
}

#[test]
fn kernel_arguments_come_one_by_one_or_packed() {
    in_every_mode(|session, gpu| {
        let (stream, block) = (gpu.stream(), gpu.alloc(8));
        let module = gpu.module(&["fill"]);
        let function = call!(cuModuleGetFunction(-> sys::CUfunction, module, c"fill".as_ptr())).unwrap();
        let mut packed = [block.to_le_bytes().as_slice(), &2_u64.to_le_bytes(), &9_u32.to_le_bytes()].concat();
        let mut bytes = packed.len();
        let mut extra: [*mut c_void; 5] =
            [1 as _, packed.as_mut_ptr().cast(), 2 as _, (&raw mut bytes).cast(), std::ptr::null_mut()];
        let extra = extra.as_mut_ptr();
        call!(cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, stream, std::ptr::null_mut(), extra)).unwrap();
        gpu.sync(stream);
        assert_eq!(session.peek(block, 8).unwrap(), [9, 0, 0, 0, 9, 0, 0, 0]);
        gpu.free(block);
    });
}

#[test]
fn a_module_has_the_kernels_and_globals_that_its_image_names() {
    let session = Session::begin().unwrap();
    let gpu = Gpu::new(&session);
    let image = c".version 8.0\n.global .align 8 .b8 table[24];\n.entry spin(.param .u64 n) {}\n.entry mine() {}";
    let module = call!(cuModuleLoadData(-> sys::CUmodule, image.as_ptr().cast())).unwrap();
    let (mut address, mut bytes) = (0, 0);
    call!(cuModuleGetGlobal_v2(&mut address, &mut bytes, module, c"table".as_ptr())).unwrap();
    assert_eq!((bytes, session.peek(address, 24).unwrap()), (24, vec![0; 24]));
    assert_eq!(call!(cuModuleGetFunction(-> sys::CUfunction, module, c"fill".as_ptr())), Err(Code::NOT_FOUND));
    assert_eq!(gpu.launch_of(module, "mine", &[], LEGACY), Err(Code::NOT_SUPPORTED));
    let broken = call!(cuModuleLoadData(-> sys::CUmodule, c"not an image".as_ptr().cast()));
    assert_eq!(broken, Err(Code::INVALID_IMAGE));
    call!(cuModuleUnload(module)).unwrap();
    assert_eq!((session.counters().modules, session.counters().live_bytes), (0, 0));
}

#[test]
fn a_pointer_says_what_it_points_to() {
    let session = Session::begin().unwrap();
    let gpu = Gpu::new(&session);
    let (block, host) = (gpu.alloc(100), gpu.alloc_host(100));
    let ask = |attribute: sys::CUpointer_attribute, address: u64| {
        let mut value = 0_u64;
        call!(cuPointerGetAttribute((&raw mut value).cast(), attribute, address)).map(|()| value)
    };
    let kind = sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE;
    let start = sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_RANGE_START_ADDR;
    assert_eq!((ask(kind, block), ask(kind, host as u64)), (Ok(2), Ok(1)));
    assert_eq!(ask(start, block + 50), Ok(block));
    assert_eq!(ask(kind, block + 100), Err(Code::INVALID_VALUE));
    gpu.free(block);
    gpu.free_host(host).unwrap();
}
