//! What the backend assumes of any CUDA driver, asked of the one that is loaded: the stand-in in each of its modes, or
//! with `HAPAX_CUDA=card` this machine's own. The calls are cudarc's raw ones (`driver/mod.rs` says why); hapax
//! itself appears only where two views of the same card must agree.
#![expect(unsafe_code, reason = "makes driver calls and reads page-locked memory")]

#[allow(dead_code, reason = "shared with the other suites and the figures")]
mod driver;

use cuda_standin::{Control, Mode, Session};
use cudarc::driver::sys;
use driver::gpu::{self, Gpu, NOT_READY, PORTABLE};
use driver::{Chosen, assert_is_loaded, call, chosen};
use hapax::{CudaDevice, Error, Heap, HeapOptions};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

const INVALID_VALUE: u32 = 1;
const OUT_OF_MEMORY: u32 = 2;
const INVALID_CONTEXT: u32 = 201;
const ILLEGAL_ADDRESS: u32 = 700;

const MODES: [Mode; 4] = [Mode::Plain, Mode::Late(1), Mode::Late(20), Mode::Lazy];

/// A driver under test. What a card may do later, the stand-in's lazy mode does later for certain.
struct Rig<'a> {
    gpu: Gpu,
    stand_in: Option<&'a Session>,
    /// Work that nobody waited for is still pending for certain.
    late: bool,
}

impl std::ops::Deref for Rig<'_> {
    type Target = Gpu;

    fn deref(&self) -> &Gpu {
        &self.gpu
    }
}

impl Rig<'_> {
    /// The stand-in reports what this test does wrong to see what happens; a card says nothing.
    fn forgive(&self, expected: &str) {
        if let Some(stand_in) = self.stand_in {
            let found = stand_in.take_violations();
            assert!(!found.is_empty() && found.iter().all(|text| text.contains(expected)), "{found:#?}");
        }
    }
}

fn on_the_driver(test: impl Fn(&Rig)) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if chosen() == Chosen::Card {
        assert_is_loaded(Chosen::Card);
        return test(&Rig { gpu: Gpu::open(), stand_in: None, late: true });
    }
    for mode in MODES {
        let session = Session::begin().expect("the stand-in was built with this test");
        assert_is_loaded(Chosen::StandIn);
        session.set_mode(mode);
        test(&Rig { gpu: Gpu::open(), stand_in: Some(&session), late: mode == Mode::Lazy });
    }
}

#[test]
fn work_of_one_stream_runs_in_its_order() {
    on_the_driver(|gpu| {
        let stream = gpu.stream();
        let (one, two) = (gpu.alloc(4096), gpu.alloc(4096));
        gpu.busy(stream);
        for value in [1, 2, 3] {
            gpu.fill(one, 1024, value, stream);
        }
        call!(cuMemcpyDtoDAsync_v2(two, one, 4096, stream)).unwrap();
        gpu.fill(one, 1024, 4, stream);
        gpu.sync(stream);
        assert_eq!(gpu.contents(two, 4096), 3u32.to_le_bytes().repeat(1024));
        assert_eq!(gpu.contents(one, 4096), 4u32.to_le_bytes().repeat(1024));
        gpu.end(&[stream]);
        gpu.free(&[one, two]);
    });
}

#[test]
fn an_event_orders_one_stream_behind_another() {
    on_the_driver(|gpu| {
        let (writer, reader) = (gpu.stream(), gpu.stream());
        let (one, two) = (gpu.alloc(64), gpu.alloc(64));
        gpu.busy(writer);
        gpu.fill(one, 16, 7, writer);
        let written = gpu.mark(writer);
        call!(cuStreamWaitEvent(reader, written, 0)).unwrap();
        gpu.forget(written); // what waits for it goes on waiting
        gpu.launch("copy", &[two, one, 64], reader);
        gpu.sync(reader);
        assert_eq!(gpu.contents(two, 64), 7u32.to_le_bytes().repeat(16));
        gpu.end(&[writer, reader]);
        gpu.free(&[one, two]);
    });
}

#[test]
fn an_event_has_passed_when_the_work_before_it_is_over_and_not_earlier() {
    on_the_driver(|gpu| {
        let stream = gpu.stream();
        gpu.busy(stream);
        let event = gpu.mark(stream);
        if gpu.late {
            assert_eq!(call!(cuEventQuery(event)), Err(NOT_READY));
        }
        call!(cuEventSynchronize(event)).unwrap();
        assert_eq!(call!(cuEventQuery(event)), Ok(()));
        gpu.forget(event);
        gpu.end(&[stream]);
    });
}

#[test]
fn an_event_never_recorded_has_passed_and_a_wait_for_it_is_none() {
    on_the_driver(|gpu| {
        let (event, stream) = (gpu.event(), gpu.stream());
        assert_eq!(call!(cuEventQuery(event)), Ok(()));
        assert_eq!(call!(cuEventSynchronize(event)), Ok(()));
        assert_eq!(call!(cuStreamWaitEvent(stream, event, 0)), Ok(()));
        gpu.sync(stream);
        gpu.forget(event);
        gpu.end(&[stream]);
    });
}

#[test]
fn a_wait_is_for_the_record_that_stands_when_it_is_asked_for() {
    on_the_driver(|gpu| {
        let (writer, reader, other) = (gpu.stream(), gpu.stream(), gpu.stream());
        let (one, two) = (gpu.alloc(64), gpu.alloc(64));
        gpu.busy(writer);
        gpu.fill(one, 16, 5, writer);
        let event = gpu.mark(writer);
        call!(cuStreamWaitEvent(reader, event, 0)).unwrap();
        // Recorded anew, on a stream that takes longer: the wait above knows nothing of it, in neither direction.
        for _ in 0..4 {
            gpu.busy(other);
        }
        call!(cuEventRecord(event, other)).unwrap();
        gpu.launch("copy", &[two, one, 64], reader);
        gpu.sync(reader);
        if gpu.late {
            assert_eq!(call!(cuEventQuery(event)), Err(NOT_READY), "the reader did not wait for the second record");
        }
        assert_eq!(gpu.contents(two, 64), 5u32.to_le_bytes().repeat(16), "and did wait for the first");
        gpu.forget(event);
        gpu.end(&[writer, reader, other]);
        gpu.free(&[one, two]);
    });
}

#[test]
fn a_non_blocking_stream_does_not_wait_for_the_legacy_one() {
    on_the_driver(|gpu| {
        let (stream, at) = (gpu.stream(), gpu.alloc(64));
        let legacy = std::ptr::null_mut();
        for _ in 0..4 {
            gpu.busy(legacy);
        }
        gpu.fill(at, 16, 9, stream);
        gpu.sync(stream);
        if gpu.late {
            assert_eq!(call!(cuStreamQuery(legacy)), Err(NOT_READY));
        }
        assert_eq!(gpu.contents(at, 64), 9u32.to_le_bytes().repeat(16));
        gpu.end(&[stream]);
        gpu.free(&[at]);
    });
}

/// So hapax's blocking copies wait for their stream before the host side goes back.
#[test]
fn pageable_copies_are_over_once_their_stream_was_waited_for() {
    const BYTES: usize = 1 << 20;
    on_the_driver(|gpu| {
        let (stream, at) = (gpu.stream(), gpu.alloc(BYTES));
        let mut source: Vec<u8> = (0..BYTES).map(|n| n as u8).collect();
        let sent = source.clone();
        gpu.busy(stream);
        call!(cuMemcpyHtoDAsync_v2(at, source.as_ptr().cast(), BYTES, stream)).unwrap();
        gpu.sync(stream);
        source.fill(0);
        let mut back = vec![0; BYTES];
        gpu.busy(stream);
        call!(cuMemcpyDtoHAsync_v2(back.as_mut_ptr().cast(), at, BYTES, stream)).unwrap();
        gpu.sync(stream);
        assert!(back == sent);
        gpu.end(&[stream]);
        gpu.free(&[at]);
    });
}

#[test]
fn page_locked_copies_are_over_once_an_event_behind_them_has_passed() {
    const BYTES: usize = 100_001;
    on_the_driver(|gpu| {
        let (stream, at) = (gpu.stream(), gpu.alloc(BYTES));
        let (from, to) = (gpu.page_locked(BYTES), gpu.page_locked(BYTES));
        // SAFETY: as many bytes as were allocated, of which no copy knows yet.
        unsafe { from.write_bytes(0x5A, BYTES) };
        gpu.busy(stream);
        call!(cuMemcpyHtoDAsync_v2(at, from.cast(), BYTES, stream)).unwrap();
        call!(cuMemcpyDtoHAsync_v2(to.cast(), at, BYTES, stream)).unwrap();
        let event = gpu.mark(stream);
        call!(cuEventSynchronize(event)).unwrap();
        // SAFETY: the copy into it is over, and it was written in full.
        let seen = unsafe { std::slice::from_raw_parts(to, BYTES) };
        assert!(seen.iter().all(|byte| *byte == 0x5A));
        gpu.forget(event);
        gpu.end(&[stream]);
        gpu.free(&[at]);
        gpu.free_page_locked(from);
        gpu.free_page_locked(to);
    });
}

#[test]
fn copies_and_fills_begin_and_end_at_any_byte() {
    on_the_driver(|gpu| {
        let (stream, at) = (gpu.stream(), gpu.alloc(64));
        call!(cuMemsetD8Async(at, 1, 64, stream)).unwrap();
        call!(cuMemsetD8Async(at + 3, 2, 5, stream)).unwrap();
        let bytes = [9u8; 7];
        call!(cuMemcpyHtoDAsync_v2(at + 17, bytes.as_ptr().cast(), 7, stream)).unwrap();
        gpu.sync(stream);
        let mut expected = [1; 64];
        expected[3..8].fill(2);
        expected[17..24].fill(9);
        assert_eq!(gpu.contents(at, 64), expected);
        gpu.end(&[stream]);
        gpu.free(&[at]);
    });
}

#[test]
fn an_allocation_of_no_bytes_is_refused() {
    on_the_driver(|_| {
        assert_eq!(call!(cuMemAlloc_v2(-> u64, 0)), Err(INVALID_VALUE));
    });
}

#[test]
fn memory_is_aligned_to_256_bytes_at_least() {
    on_the_driver(|gpu| {
        let addresses = [1, 3, 255, 257, 4097, 1 << 20].map(|bytes| gpu.alloc(bytes));
        assert!(addresses.iter().all(|address| address % 256 == 0), "{addresses:x?}");
        gpu.free(&addresses);
        let buffers = [1, 3, 257, 4097].map(|bytes| gpu.page_locked(bytes));
        assert!(buffers.iter().all(|buffer| buffer.addr() % 256 == 0), "{buffers:?}");
        for buffer in buffers {
            gpu.free_page_locked(buffer);
        }
    });
}

#[test]
fn more_memory_than_there_is_is_refused_and_nothing_else_is_after_it() {
    on_the_driver(|gpu| {
        let total = call!(cuDeviceTotalMem_v2(-> usize, 0)).unwrap();
        assert_eq!(call!(cuMemAlloc_v2(-> u64, total + 1)), Err(OUT_OF_MEMORY));
        let at = gpu.alloc(4096);
        gpu.free(&[at]);
    });
}

#[test]
fn free_memory_sinks_by_what_is_allocated_and_rises_again() {
    const BYTES: usize = 256 << 20;
    on_the_driver(|gpu| {
        let info = || {
            let mut total = 0;
            let free = call!(cuMemGetInfo_v2(-> usize, &mut total)).unwrap();
            assert!(free <= total && total > 0);
            free
        };
        // Others may allocate and free on a shared card meanwhile, but not so each time.
        let moved = (0..5).any(|_| {
            let before = info();
            let at = gpu.alloc(BYTES);
            let during = info();
            gpu.free(&[at]);
            before >= during + BYTES && info() >= during + BYTES
        });
        assert!(moved);
    });
}

#[test]
fn memory_is_not_freed_without_a_context_and_can_be_freed_later() {
    on_the_driver(|gpu| {
        let at = gpu.alloc(64);
        call!(cuCtxSetCurrent(std::ptr::null_mut())).unwrap();
        assert_eq!(call!(cuMemFree_v2(at)), Err(INVALID_CONTEXT));
        gpu.forgive("without a current context");
        call!(cuCtxSetCurrent(gpu.context)).unwrap();
        gpu.free(&[at]);
    });
}

#[test]
fn a_context_is_current_on_the_thread_that_bound_it_and_its_handles_serve_every_thread() {
    on_the_driver(|gpu| {
        let (at, stream) = (gpu.alloc(64), gpu.stream());
        let handles = (gpu.context as usize, stream as usize);
        std::thread::spawn(move || {
            assert!(call!(cuCtxGetCurrent(-> sys::CUcontext)).unwrap().is_null());
            call!(cuCtxSetCurrent(handles.0 as sys::CUcontext)).unwrap();
            call!(cuMemsetD8Async(at, 3, 64, handles.1 as gpu::Stream)).unwrap();
            call!(cuStreamSynchronize(handles.1 as gpu::Stream)).unwrap();
        })
        .join()
        .unwrap();
        assert_eq!(gpu.contents(at, 64), [3; 64]);
        gpu.end(&[stream]);
        gpu.free(&[at]);
    });
}

#[test]
fn the_primary_context_is_one_for_everybody() {
    on_the_driver(|gpu| {
        let again = call!(cuDevicePrimaryCtxRetain(-> sys::CUcontext, 0)).unwrap();
        assert_eq!(again, gpu.context);
        call!(cuDevicePrimaryCtxRelease_v2(0)).unwrap();
        gpu.free(&[gpu.alloc(1)]); // it is kept by the first
    });
}

#[test]
fn a_stream_that_ends_with_work_pending_finishes_it() {
    on_the_driver(|gpu| {
        let (stream, at) = (gpu.stream(), gpu.alloc(64));
        gpu.busy(stream);
        gpu.fill(at, 16, 6, stream);
        gpu.end(&[stream]);
        assert_eq!(gpu.contents(at, 64), 6u32.to_le_bytes().repeat(16));
        gpu.free(&[at]);
    });
}

#[test]
fn page_locked_memory_is_portable_as_it_was_asked_for() {
    on_the_driver(|gpu| {
        let buffer = gpu.page_locked(100);
        let flags = call!(cuMemHostGetFlags(-> u32, buffer.cast())).unwrap();
        assert_eq!(flags & PORTABLE, PORTABLE);
        gpu.free_page_locked(buffer);
    });
}

#[test]
fn a_module_is_loaded_launched_and_unloaded_while_others_stay() {
    on_the_driver(|gpu| {
        let (stream, at) = (gpu.stream(), gpu.alloc(64));
        for value in [1, 2] {
            let module = gpu::load();
            let arguments = vec![at, 16, value];
            gpu::launch(gpu::function(module, "fill"), 2, &arguments, stream).unwrap();
            drop(arguments); // they were taken by the launch
            gpu.sync(stream);
            call!(cuModuleUnload(module)).unwrap();
            assert_eq!(gpu.contents(at, 64), (value as u32).to_le_bytes().repeat(16));
        }
        gpu.fill(at, 16, 3, stream);
        gpu.sync(stream);
        gpu.end(&[stream]);
        gpu.free(&[at]);
    });
}

/// Which is why hapax asks first, and records nothing on such a stream.
#[test]
fn an_event_of_a_captured_stream_marks_no_point_in_time() {
    on_the_driver(|gpu| {
        let (stream, other, event) = (gpu.stream(), gpu.stream(), gpu.event());
        let at = gpu.alloc(64);
        let status = |stream| {
            let mut status = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
            call!(cuStreamIsCapturing(stream, &mut status)).unwrap();
            status as u32
        };
        assert_eq!(status(stream), 0);
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        call!(cuStreamBeginCapture_v2(stream, mode)).unwrap();
        assert_eq!((status(stream), status(other)), (1, 0));
        // Other streams go on meanwhile.
        gpu.fill(at, 16, 8, other);
        gpu.sync(other);
        call!(cuEventRecord(event, stream)).unwrap();
        let asked = call!(cuEventQuery(event)).expect_err("what is captured has not run");
        assert_ne!(asked, NOT_READY, "and waiting for it would not help");
        // The question may have spoilt the capture: what comes of it is the user's, and here nobody's.
        let mut graph = std::ptr::null_mut();
        let _ = call!(cuStreamEndCapture(stream, &mut graph));
        if !graph.is_null() {
            call!(cuGraphDestroy(graph)).unwrap();
        }
        assert_eq!(status(stream), 0);
        gpu.forgive("capture");
        assert_eq!(gpu.contents(at, 64), 8u32.to_le_bytes().repeat(16));
        gpu.forget(event);
        gpu.end(&[stream, other]);
        gpu.free(&[at]);
    });
}

#[test]
fn the_card_has_the_same_uuid_and_size_by_the_driver_and_by_hapax() {
    on_the_driver(|_| {
        let uuid = call!(cuDeviceGetUuid_v2(-> sys::CUuuid, 0)).unwrap();
        let hex: String = uuid.bytes.iter().map(|byte| format!("{:02x}", *byte as u8)).collect();
        let card = CudaDevice::open(0).unwrap();
        assert_eq!(card.info().uuid.replace("GPU-", "").replace('-', ""), hex);
        assert_eq!(card.info().total_bytes, call!(cuDeviceTotalMem_v2(-> usize, 0)).unwrap() as u64);
        assert_eq!(CudaDevice::by_uuid(&card.info().uuid).unwrap().info(), card.info());
    });
}

const CHILD: &str = "HAPAX_CONTRACT_CHILD";

/// An illegal access ends the context for the whole process, so that a card is asked in a process of its own.
#[test]
fn after_an_illegal_access_every_call_says_so_and_hapax_calls_the_device_lost() {
    let run =
        this_program(&["--exact", "in_a_process_of_its_own_a_context_ends_for_good"], |child| child.env(CHILD, "1"));
    assert!(run.status.success() && text(&run).contains("1 passed"), "{}", text(&run));
}

#[test]
fn in_a_process_of_its_own_a_context_ends_for_good() {
    if std::env::var_os(CHILD).is_none() {
        return; // the test above runs this one
    }
    on_the_driver(|gpu| {
        let heap = Heap::new(CudaDevice::open(0).unwrap(), HeapOptions::new(1 << 20).on_leak(|_| ())).unwrap();
        let handle = heap.alloc_slice(3).unwrap().upload_from(b"abc").unwrap();
        let (stream, at, event) = (gpu.stream(), gpu.alloc(64), gpu.event());
        gpu.fill(8, 1, 1, stream); // no memory begins there
        let recorded = call!(cuEventRecord(event, stream));
        assert!(matches!(recorded, Ok(()) | Err(ILLEGAL_ADDRESS)), "it may be known already");
        assert_eq!(call!(cuStreamSynchronize(stream)), Err(ILLEGAL_ADDRESS));
        assert_eq!(call!(cuMemAlloc_v2(-> u64, 64)), Err(ILLEGAL_ADDRESS));
        assert_eq!(call!(cuEventQuery(event)), Err(ILLEGAL_ADDRESS));
        assert_eq!(call!(cuCtxSynchronize()), Err(ILLEGAL_ADDRESS));
        assert_eq!(call!(cuMemFree_v2(at)), Err(ILLEGAL_ADDRESS));
        assert_eq!(handle.download_to(&mut [0; 3]), Err(Error::DeviceLost));
        assert!(heap.device().is_lost());
        assert_eq!(handle.free(), Err(Error::DeviceLost));
        if let Some(stand_in) = gpu.stand_in {
            assert!(stand_in.take_violations().iter().any(|text| text.contains("invalid access")));
        }
        drop(heap);
        if let Some(stand_in) = gpu.stand_in {
            stand_in.reset(); // what was on the card went with it
        }
    });
}

/// Where the driver that is found is the stand-in, and where there is none.
#[test]
fn a_run_that_asks_for_a_card_and_has_none_fails() {
    if chosen() == Chosen::Card {
        return; // this is such a run, and there is one
    }
    let one = ["--exact", "an_allocation_of_no_bytes_is_refused"];
    let disguised = Control::search_dir().expect("the stand-in was built with this test");
    let run = this_program(&one, |child| child.env("HAPAX_CUDA", "card").env("LD_LIBRARY_PATH", disguised));
    assert!(
        !run.status.success() && text(&run).contains("HAPAX_CUDA=card, but libcuda.so is StandIn"),
        "{}",
        text(&run)
    );
    let run = this_program(&one, |child| child.env("HAPAX_CUDA", "card"));
    match run.status.success() {
        true => println!("this machine has a card"),
        false => assert!(text(&run).contains("HAPAX_CUDA=card, but this machine has no CUDA driver"), "{}", text(&run)),
    }
    let run = this_program(&one, |child| child.env("HAPAX_CUDA", "cuda"));
    assert!(!run.status.success() && text(&run).contains("`stand-in` or `card`"), "{}", text(&run));
}

fn this_program<'a>(arguments: &[&str], set_up: impl FnOnce(&'a mut Command) -> &'a mut Command) -> Output {
    let child = Box::leak(Box::new(Command::new(std::env::current_exe().expect("a test knows where it is"))));
    set_up(child.args(arguments)).output().expect("it ran once")
}

fn text(run: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr))
}
