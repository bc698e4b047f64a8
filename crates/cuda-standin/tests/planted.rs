//! Bugs, each with the twin that lacks it. Every bug is reported in every mode, whatever the schedule makes of the
//! data; the twin is not.
#![expect(unsafe_code, reason = "makes driver calls")]

mod driver;

use crate::driver::{Fixed, Gpu, LEGACY, call, planted};
use cuda_standin::{Code, Control, Mode, Session, WatchedAllocator};
use cudarc::driver::sys;

#[global_allocator]
static ALLOCATOR: WatchedAllocator = WatchedAllocator::new();

const BLOCK: usize = 4096;

#[test]
fn a_page_locked_buffer_freed_before_its_copy_is_known_to_be_over() {
    planted("early free: cuMemFreeHost of 4096 bytes", |gpu, Fixed(fixed)| {
        let (stream, device, host) = (gpu.stream(), gpu.alloc(BLOCK), gpu.alloc_host(BLOCK));
        call!(cuMemcpyHtoDAsync_v2(device, host.cast(), BLOCK, stream)).unwrap();
        if fixed {
            gpu.sync(stream);
        }
        gpu.free_host(host).unwrap();
        let _ = call!(cuMemFree_v2(device));
    });
}

#[test]
fn a_vector_dropped_before_its_copy_is_known_to_be_over() {
    ALLOCATOR.watch(Control::install().unwrap());
    planted("early free: the program's free of 100 bytes", |gpu, Fixed(fixed)| {
        let (stream, device) = (gpu.stream(), gpu.alloc(BLOCK));
        let host = vec![1_u8; 100];
        call!(cuMemcpyHtoDAsync_v2(device, host.as_ptr().cast(), 100, stream)).unwrap();
        if fixed {
            gpu.sync(stream);
        }
        drop(host);
        let _ = call!(cuMemFree_v2(device));
    });
}

#[test]
fn a_buffer_overwritten_before_its_copy_is_known_to_be_over() {
    planted("the program changed 100 pageable bytes", |gpu, Fixed(fixed)| {
        let (stream, device) = (gpu.stream(), gpu.alloc(BLOCK));
        let mut host = [1_u8; 100];
        call!(cuMemcpyHtoDAsync_v2(device, host.as_ptr().cast(), 100, stream)).unwrap();
        if fixed {
            gpu.sync(stream);
        }
        host[50] = 2;
        std::hint::black_box(&mut host);
        gpu.sync(stream);
        gpu.free(device);
    });
}

#[test]
fn a_block_of_a_slab_reused_before_another_streams_reader_has_finished() {
    planted("race: cuMemsetD8Async", |gpu, Fixed(fixed)| {
        let (owner, reader, slab) = (gpu.stream(), gpu.stream(), gpu.alloc(4 * BLOCK));
        let block = slab + BLOCK as u64;
        gpu.fill(block, BLOCK, owner);
        gpu.order(owner, reader);
        gpu.read(block, BLOCK as u64, reader);
        if fixed {
            gpu.order(reader, owner);
        }
        gpu.fill(block, BLOCK, owner); // the block's next life
        gpu.free(slab);
    });
}

#[test]
fn neighbours_in_a_slab_do_not_disturb_each_other() {
    planted("bytes 4095..4096 of device block #", |gpu, Fixed(fixed)| {
        let (first, second, slab) = (gpu.stream(), gpu.stream(), gpu.alloc(4 * BLOCK));
        gpu.fill(slab, BLOCK, first);
        let start = if fixed { slab + BLOCK as u64 } else { slab + BLOCK as u64 - 1 };
        gpu.fill(start, BLOCK, second);
        gpu.free(slab);
    });
}

#[test]
fn a_missing_event_wait() {
    planted("race: kernel read (cuLaunchKernel) on stream", |gpu, Fixed(fixed)| {
        let (producer, consumer, block) = (gpu.stream(), gpu.stream(), gpu.alloc(BLOCK));
        gpu.fill(block, BLOCK, producer);
        let event = gpu.mark(producer);
        if fixed {
            call!(cuStreamWaitEvent(consumer, event, 0)).unwrap();
        }
        gpu.read(block, BLOCK as u64, consumer);
        gpu.free(block);
    });
}

#[test]
fn an_event_that_was_recorded_too_early() {
    planted("not ordered after cuMemsetD8Async", |gpu, Fixed(fixed)| {
        let (producer, consumer, block) = (gpu.stream(), gpu.stream(), gpu.alloc(BLOCK));
        let event = gpu.mark(producer);
        gpu.fill(block, BLOCK, producer);
        if fixed {
            call!(cuEventRecord(event, producer)).unwrap();
        }
        call!(cuStreamWaitEvent(consumer, event, 0)).unwrap();
        gpu.read(block, BLOCK as u64, consumer);
        gpu.free(block);
    });
}

#[test]
fn the_second_readers_note_replaces_the_first_ones() {
    planted("not ordered after kernel read (cuLaunchKernel)", |gpu, Fixed(fixed)| {
        let (first, second, writer) = (gpu.stream(), gpu.stream(), gpu.stream());
        let block = gpu.alloc(BLOCK);
        gpu.read(block, BLOCK as u64, first);
        let mut notes = vec![gpu.mark(first)];
        gpu.read(block, BLOCK as u64, second);
        let note = gpu.mark(second);
        if fixed {
            notes.push(note);
        } else {
            notes[0] = note;
        }
        for note in notes {
            call!(cuStreamWaitEvent(writer, note, 0)).unwrap();
        }
        gpu.fill(block, BLOCK, writer);
        gpu.free(block);
    });
}

#[test]
fn a_lease_used_on_another_stream_than_it_was_lent_to() {
    planted("race: cuMemsetD8Async", |gpu, Fixed(fixed)| {
        let (lent_to, other, block) = (gpu.stream(), gpu.stream(), gpu.alloc(BLOCK));
        gpu.fill(block, BLOCK, lent_to);
        gpu.sync(lent_to);
        gpu.read(block, BLOCK as u64, if fixed { lent_to } else { other });
        // The note says `lent_to`: once that has passed, the memory is given to the next.
        let event = gpu.mark(lent_to);
        let next = gpu.stream();
        call!(cuStreamWaitEvent(next, event, 0)).unwrap();
        gpu.fill(block, BLOCK, next);
        gpu.free(block);
    });
}

#[test]
fn a_lease_taken_on_one_stream_while_the_upload_is_pending_on_another() {
    planted("not ordered after cuMemcpyHtoDAsync_v2", |gpu, Fixed(fixed)| {
        let (upload, hit, block) = (gpu.stream(), gpu.stream(), gpu.alloc(BLOCK));
        let host = gpu.alloc_host(BLOCK);
        call!(cuMemcpyHtoDAsync_v2(block, host.cast(), BLOCK, upload)).unwrap();
        let written = gpu.mark(upload);
        if fixed {
            call!(cuStreamWaitEvent(hit, written, 0)).unwrap();
        }
        gpu.read(block, BLOCK as u64, hit);
        gpu.sync(upload);
        gpu.free_host(host).unwrap();
        gpu.free(block);
    });
}

#[test]
fn a_free_without_a_context() {
    planted("context: cuMemFree_v2 without a current context", |gpu, Fixed(fixed)| {
        let block = gpu.alloc(BLOCK);
        let context = gpu.context as usize;
        std::thread::spawn(move || {
            if fixed {
                call!(cuCtxSetCurrent(context as sys::CUcontext)).unwrap();
            }
            assert_eq!(call!(cuMemFree_v2(block)).is_ok(), fixed);
        })
        .join()
        .unwrap();
        if !fixed {
            gpu.free(block);
        }
    });
}

#[test]
fn a_free_under_another_devices_context() {
    for fixed in [false, true] {
        let session = Session::begin().unwrap();
        session.set("devices", 2);
        let (first, second) = (Gpu::on(0), Gpu::on(1));
        first.bind();
        let block = first.alloc(BLOCK);
        second.bind();
        if fixed {
            first.bind();
        }
        first.free(block);
        let found = session.take_violations();
        assert_eq!(found.iter().any(|text| text.starts_with("context: cuMemFree_v2 of device block")), !fixed);
    }
}

#[test]
fn a_free_on_a_device_that_is_known_to_be_dead() {
    planted(
        "dead device: cuMemFree_v2 after a call had returned CUDA_ERROR_ILLEGAL_INSTRUCTION",
        |gpu, Fixed(fixed)| {
            let (stream, block) = (gpu.stream(), gpu.alloc(BLOCK));
            gpu.launch("trap", &[], stream).unwrap();
            assert_eq!(call!(cuStreamSynchronize(stream)), Err(Code::ILLEGAL_INSTRUCTION));
            if !fixed {
                assert_eq!(call!(cuMemFree_v2(block)), Err(Code::ILLEGAL_INSTRUCTION));
            }
        },
    );
}

#[test]
fn the_call_that_first_learns_of_a_loss_is_no_bug() {
    let session = Session::begin().unwrap();
    session.set_mode(Mode::Late(1));
    let gpu = Gpu::new(&session);
    let (stream, block) = (gpu.stream(), gpu.alloc(BLOCK));
    gpu.launch("trap", &[], stream).unwrap();
    assert_eq!(call!(cuMemFree_v2(block)), Err(Code::ILLEGAL_INSTRUCTION));
    assert_eq!(session.violations(), [""; 0]);
    assert_eq!(call!(cuMemFree_v2(block)), Err(Code::ILLEGAL_INSTRUCTION));
    assert_eq!(session.take_violations().len(), 1);
}

#[test]
fn a_pageable_copy_read_before_anything_waited_for_it() {
    planted("the program touched 65536 pageable bytes", |gpu, Fixed(fixed)| {
        let (stream, block) = (gpu.stream(), gpu.alloc(1 << 16));
        gpu.fill(block, 1 << 16, stream);
        let mut host = vec![0_u8; 1 << 16];
        call!(cuMemcpyDtoHAsync_v2(host.as_mut_ptr().cast(), block, 1 << 16, stream)).unwrap();
        if fixed {
            gpu.sync(stream);
        }
        let seen = std::hint::black_box(&host)[1 << 15];
        assert!(!fixed || seen == 7);
        gpu.sync(stream);
        gpu.free(block);
    });
}

/// A buffer smaller than a page cannot be guarded: late copies leave wrong bytes, and a test can declare its reads.
#[test]
fn a_small_pageable_copy_read_before_anything_waited_for_it() {
    planted("the program reads 16 bytes", |gpu, Fixed(fixed)| {
        let (stream, block) = (gpu.stream(), gpu.alloc(BLOCK));
        gpu.fill(block, BLOCK, stream);
        let mut host = [0_u8; 16];
        call!(cuMemcpyDtoHAsync_v2(host.as_mut_ptr().cast(), block, 16, stream)).unwrap();
        if fixed {
            gpu.sync(stream);
        }
        Control::open().unwrap().host_reads(&host);
        gpu.sync(stream);
        gpu.free(block);
    });
}

#[test]
fn page_locked_memory_read_before_anything_waited_for_the_copy() {
    planted("the program touched 1000 page-locked bytes", |gpu, Fixed(fixed)| {
        let (stream, block, host) = (gpu.stream(), gpu.alloc(BLOCK), gpu.alloc_host(1000));
        gpu.fill(block, BLOCK, stream);
        call!(cuMemcpyDtoHAsync_v2(host.cast(), block, 1000, stream)).unwrap();
        if fixed {
            gpu.sync(stream);
        }
        // SAFETY: mapped memory; nothing else in this program uses it.
        let seen = unsafe { host.wrapping_add(500).read_volatile() };
        assert!(!fixed || seen == 7);
        gpu.sync(stream);
        gpu.free_host(host).unwrap();
        gpu.free(block);
    });
}

#[test]
fn a_module_unloaded_with_its_kernel_in_flight() {
    planted("early free: cuModuleUnload", |gpu, Fixed(fixed)| {
        let (stream, block) = (gpu.stream(), gpu.alloc(BLOCK));
        let module = gpu.module(&["read"]);
        gpu.launch_of(module, "read", &[block, BLOCK as u64], stream).unwrap();
        if fixed {
            gpu.sync(stream);
        }
        call!(cuModuleUnload(module)).unwrap();
        gpu.free(block);
    });
}

#[test]
fn an_event_recorded_on_a_capturing_stream() {
    planted("was recorded on a capturing stream", |gpu, Fixed(fixed)| {
        let (capturing, other, block) = (gpu.stream(), gpu.stream(), gpu.alloc(BLOCK));
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        call!(cuStreamBeginCapture_v2(capturing, mode)).unwrap();
        gpu.fill(block, BLOCK, capturing);
        let event = gpu.mark(if fixed { other } else { capturing });
        let graph = call!(cuStreamEndCapture(capturing, &mut std::ptr::null_mut()));
        assert_eq!(graph, Ok(()));
        let _ = call!(cuEventSynchronize(event));
        gpu.free(block);
    });
}

#[test]
fn a_query_of_an_event_that_a_capture_took() {
    planted("capture: cuEventQuery of event", |gpu, Fixed(fixed)| {
        let (capturing, event) = (gpu.stream(), gpu.event());
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        call!(cuStreamBeginCapture_v2(capturing, mode)).unwrap();
        if !fixed {
            call!(cuEventRecord(event, capturing)).unwrap();
        }
        let expected = if fixed { Ok(()) } else { Err(Code::CAPTURED_EVENT) };
        assert_eq!(call!(cuEventQuery(event)), expected);
        let ended = call!(cuStreamEndCapture(capturing, &mut std::ptr::null_mut()));
        assert_eq!(ended, if fixed { Ok(()) } else { Err(Code::STREAM_CAPTURE_INVALIDATED) });
    });
}

#[test]
fn an_allocation_while_a_stream_captures() {
    planted("capture: cuMemAlloc_v2 while stream", |gpu, Fixed(fixed)| {
        let (capturing, block) = (gpu.stream(), gpu.alloc(BLOCK));
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL;
        call!(cuStreamBeginCapture_v2(capturing, mode)).unwrap();
        if !fixed {
            assert_eq!(call!(cuMemAlloc_v2(-> u64, BLOCK)), Err(Code::STREAM_CAPTURE_UNSUPPORTED));
        }
        let ended = call!(cuStreamEndCapture(capturing, &mut std::ptr::null_mut()));
        assert_eq!(ended.is_ok(), fixed);
        gpu.free(block);
    });
}

#[test]
fn memory_used_after_it_was_freed() {
    planted("which cuMemFree_v2 freed", |gpu, Fixed(fixed)| {
        let (stream, block) = (gpu.stream(), gpu.alloc(BLOCK));
        if !fixed {
            gpu.free(block);
        }
        let filled = call!(cuMemsetD8Async(block, 1, BLOCK, stream));
        assert_eq!(filled.is_ok(), fixed);
        if fixed {
            gpu.free(block);
        }
    });
}

#[test]
fn a_kernel_past_the_end_of_its_block() {
    planted("past the end of device block #", |gpu, Fixed(fixed)| {
        let (stream, block) = (gpu.stream(), gpu.alloc(BLOCK));
        gpu.read(block + 1, if fixed { BLOCK as u64 - 1 } else { BLOCK as u64 }, stream);
        let passed = call!(cuStreamSynchronize(stream));
        assert_eq!(passed, if fixed { Ok(()) } else { Err(Code::ILLEGAL_ADDRESS) });
        if fixed {
            gpu.free(block);
        }
    });
}

#[test]
fn a_block_freed_twice() {
    planted("invalid free: cuMemFree_v2", |gpu, Fixed(fixed)| {
        let block = gpu.alloc(BLOCK);
        gpu.free(block);
        if !fixed {
            assert_eq!(call!(cuMemFree_v2(block)), Err(Code::INVALID_VALUE));
        }
    });
}

#[test]
fn a_stream_ordered_free_that_another_streams_reader_does_not_know_of() {
    planted("race: cuMemFreeAsync", |gpu, Fixed(fixed)| {
        let (owner, reader) = (gpu.stream(), gpu.stream());
        let block = call!(cuMemAllocAsync(-> u64, BLOCK, owner)).unwrap();
        gpu.order(owner, reader);
        gpu.read(block, BLOCK as u64, reader);
        if fixed {
            gpu.order(reader, owner);
        }
        call!(cuMemFreeAsync(block, owner)).unwrap();
    });
}

#[test]
fn a_stream_ordered_allocation_used_where_it_does_not_exist_yet() {
    planted("not ordered after cuMemAllocAsync", |gpu, Fixed(fixed)| {
        let (owner, user) = (gpu.stream(), gpu.stream());
        let block = call!(cuMemAllocAsync(-> u64, BLOCK, owner)).unwrap();
        if fixed {
            gpu.order(owner, user);
        }
        gpu.fill(block, BLOCK, user);
        gpu.order(user, owner);
        call!(cuMemFreeAsync(block, owner)).unwrap();
    });
}

/// "Synchronous" says that the source may be reused, not that the bytes have arrived.
#[test]
fn a_blocking_copy_from_pageable_memory_orders_no_other_stream() {
    planted("not ordered after cuMemcpyHtoD_v2 on the legacy stream", |gpu, Fixed(fixed)| {
        let (reader, block) = (if fixed { gpu.blocking_stream() } else { gpu.stream() }, gpu.alloc(BLOCK));
        call!(cuMemcpyHtoD_v2(block, [1_u8; 16].as_ptr().cast(), 16)).unwrap();
        gpu.read(block, 16, reader);
        gpu.free(block);
    });
}

#[test]
fn a_host_function_that_calls_the_driver() {
    unsafe extern "C" fn call_it(outcome: *mut std::ffi::c_void) {
        // SAFETY: the caller passed an `i32`, and waits.
        let outcome = unsafe { &mut *outcome.cast::<u32>() };
        *outcome = call!(cuCtxSynchronize()).err().map_or(0, |code| code.0);
    }
    unsafe extern "C" fn do_nothing(_: *mut std::ffi::c_void) {}
    planted("host function: it called cuCtxSynchronize", |gpu, Fixed(fixed)| {
        let (stream, mut outcome) = (gpu.stream(), 0_u32);
        let function = if fixed { do_nothing } else { call_it };
        call!(cuLaunchHostFunc(stream, Some(function), (&raw mut outcome).cast())).unwrap();
        gpu.sync(stream);
        assert_eq!(outcome, if fixed { 0 } else { Code::NOT_PERMITTED.0 });
    });
}

#[test]
fn a_block_that_is_never_freed() {
    planted(
        "leak: cuDevicePrimaryCtxRelease_v2 ends a context with 1 live device blocks of 4096 bytes",
        |gpu, Fixed(fixed)| {
            let block = gpu.alloc(BLOCK);
            if fixed {
                gpu.free(block);
            }
        },
    );
}

#[test]
fn work_of_the_legacy_stream_is_ordered_with_blocking_streams_only() {
    planted("race: cuMemsetD8Async on the legacy stream", |gpu, Fixed(fixed)| {
        let (stream, block) = (if fixed { gpu.blocking_stream() } else { gpu.stream() }, gpu.alloc(BLOCK));
        gpu.fill(block, BLOCK, stream);
        gpu.fill(block, BLOCK, LEGACY);
        gpu.fill(block, BLOCK, stream);
        gpu.free(block);
    });
}
