//! Captures with branches, what they refuse, and graphs that race with themselves.
#![expect(unsafe_code, reason = "makes driver calls")]

mod driver;

use crate::driver::{Fixed, Gpu, LEGACY, Stream, call, in_every_mode, planted};
use cuda_standin::{Code, Session};
use cudarc::driver::sys::{self, CUstreamCaptureMode};

const GLOBAL: CUstreamCaptureMode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL;
const RELAXED: CUstreamCaptureMode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
const BLOCK: usize = 4096;

fn end(stream: Stream) -> driver::Result<sys::CUgraphExec> {
    let mut graph = std::ptr::null_mut();
    call!(cuStreamEndCapture(stream, &mut graph))?;
    let executable = call!(cuGraphInstantiateWithFlags(-> sys::CUgraphExec, graph, 0))?;
    call!(cuGraphDestroy(graph))?;
    Ok(executable)
}

#[test]
fn a_capture_with_two_branches_runs_both_and_joins_them() {
    in_every_mode(|session, gpu| {
        let (first, second, block) = (gpu.stream(), gpu.stream(), gpu.alloc(2 * BLOCK));
        call!(cuStreamBeginCapture_v2(first, GLOBAL)).unwrap();
        gpu.fill(block, BLOCK, first);
        gpu.order(first, second);
        gpu.launch("copy", &[block + BLOCK as u64, block, BLOCK as u64], second).unwrap();
        gpu.read(block, BLOCK as u64, first);
        gpu.order(second, first);
        gpu.launch("add_one", &[block, 1], first).unwrap();
        let graph = end(first).unwrap();
        assert_eq!(session.peek(block, 2).unwrap(), [0xCD; 2], "capturing runs nothing");
        call!(cuGraphLaunch(graph, first)).unwrap();
        gpu.sync(first);
        let left = session.peek(block, 2 * BLOCK).unwrap();
        assert_eq!((left[0], left[1], left[BLOCK]), (8, 7, 7));
        call!(cuGraphExecDestroy(graph)).unwrap();
        gpu.free(block);
    });
}

#[test]
fn a_branch_begins_after_what_the_launching_stream_held_and_ends_before_what_it_gets() {
    in_every_mode(|session, gpu| {
        let (first, second, block) = (gpu.stream(), gpu.stream(), gpu.alloc(8));
        call!(cuStreamBeginCapture_v2(first, RELAXED)).unwrap();
        gpu.order(first, second);
        gpu.launch("add_one", &[block, 2], second).unwrap();
        gpu.order(second, first);
        let graph = end(first).unwrap();
        gpu.fill(block, 8, first);
        call!(cuGraphLaunch(graph, first)).unwrap();
        gpu.launch("add_one", &[block, 2], first).unwrap();
        gpu.sync(first);
        assert_eq!(session.peek(block, 8).unwrap(), [9, 7, 7, 7, 9, 7, 7, 7]);
        call!(cuGraphExecDestroy(graph)).unwrap();
        gpu.free(block);
    });
}

#[test]
fn a_global_capture_binds_other_threads_too() {
    planted("capture: cuMemAlloc_v2 while stream", |gpu, Fixed(fixed)| {
        let stream = gpu.stream();
        call!(cuStreamBeginCapture_v2(stream, if fixed { RELAXED } else { GLOBAL })).unwrap();
        let context = gpu.context as usize;
        let elsewhere = std::thread::spawn(move || {
            call!(cuCtxSetCurrent(context as sys::CUcontext)).unwrap();
            call!(cuMemAlloc_v2(-> u64, 64))
        });
        let allocated = elsewhere.join().unwrap();
        assert_eq!(end(stream).is_ok(), fixed);
        if let Ok(block) = allocated {
            gpu.free(block);
        }
    });
}

#[test]
fn branches_of_a_graph_that_touch_the_same_bytes() {
    planted("race: kernel add_one (cuLaunchKernel) on branch", |gpu, Fixed(fixed)| {
        let (first, second, block) = (gpu.stream(), gpu.stream(), gpu.alloc(BLOCK));
        call!(cuStreamBeginCapture_v2(first, RELAXED)).unwrap();
        if !fixed {
            gpu.order(first, second);
        }
        gpu.fill(block, BLOCK, first);
        if fixed {
            gpu.order(first, second);
        }
        gpu.launch("add_one", &[block, 1], second).unwrap();
        gpu.order(second, first);
        let graph = end(first).unwrap();
        call!(cuGraphLaunch(graph, first)).unwrap();
        gpu.sync(first);
        call!(cuGraphExecDestroy(graph)).unwrap();
        gpu.free(block);
    });
}

#[test]
fn a_graph_is_ordered_with_the_stream_it_is_launched_on_and_no_other() {
    planted("race: kernel read (cuLaunchKernel)", |gpu, Fixed(fixed)| {
        let (first, second, block) = (gpu.stream(), gpu.stream(), gpu.alloc(BLOCK));
        call!(cuStreamBeginCapture_v2(first, RELAXED)).unwrap();
        gpu.fill(block, BLOCK, first);
        let graph = end(first).unwrap();
        call!(cuGraphLaunch(graph, second)).unwrap();
        gpu.read(block, BLOCK as u64, if fixed { second } else { first });
        call!(cuCtxSynchronize()).unwrap();
        call!(cuGraphExecDestroy(graph)).unwrap();
        gpu.free(block);
    });
}

#[test]
fn a_branch_that_never_joins() {
    planted("capture: cuMemsetD8Async on stream", |gpu, Fixed(fixed)| {
        let (first, second, block) = (gpu.stream(), gpu.stream(), gpu.alloc(BLOCK));
        call!(cuStreamBeginCapture_v2(first, RELAXED)).unwrap();
        gpu.order(first, second);
        gpu.fill(block, BLOCK, second);
        if fixed {
            gpu.order(second, first);
        }
        match end(first) {
            Ok(graph) => call!(cuGraphExecDestroy(graph)).unwrap(),
            Err(code) => assert_eq!(code, Code::STREAM_CAPTURE_UNJOINED),
        }
        gpu.free(block);
    });
}

#[test]
fn waiting_for_a_capturing_stream() {
    planted("capture: cuStreamSynchronize on capturing stream", |gpu, Fixed(fixed)| {
        let stream = gpu.stream();
        call!(cuStreamBeginCapture_v2(stream, RELAXED)).unwrap();
        if !fixed {
            assert_eq!(call!(cuStreamSynchronize(stream)), Err(Code::STREAM_CAPTURE_UNSUPPORTED));
        }
        assert_eq!(end(stream).is_ok(), fixed);
    });
}

#[test]
fn the_legacy_stream_used_while_a_blocking_stream_captures() {
    planted("capture: cuMemsetD8Async on the legacy stream", |gpu, Fixed(fixed)| {
        let (stream, block) = (if fixed { gpu.stream() } else { gpu.blocking_stream() }, gpu.alloc(BLOCK));
        call!(cuStreamBeginCapture_v2(stream, RELAXED)).unwrap();
        let filled = call!(cuMemsetD8Async(block, 1, BLOCK, LEGACY));
        assert_eq!(filled, if fixed { Ok(()) } else { Err(Code::STREAM_CAPTURE_IMPLICIT) });
        assert_eq!(end(stream).is_ok(), fixed);
        gpu.free(block);
    });
}

#[test]
fn a_capturing_stream_that_waits_for_an_event_from_outside() {
    planted("wait for an event that is not of its capture", |gpu, Fixed(fixed)| {
        let (stream, other) = (gpu.stream(), gpu.stream());
        let event = gpu.mark(other);
        call!(cuStreamBeginCapture_v2(stream, RELAXED)).unwrap();
        if !fixed {
            assert_eq!(call!(cuStreamWaitEvent(stream, event, 0)), Err(Code::STREAM_CAPTURE_ISOLATION));
        }
        assert_eq!(end(stream).is_ok(), fixed);
    });
}

/// Unlike work on it: CUDA's documentation of cuStreamIsCapturing says that the capture goes on.
#[test]
fn asking_the_legacy_stream_harms_no_capture() {
    let session = Session::begin().unwrap();
    let gpu = Gpu::new(&session);
    let stream = gpu.blocking_stream();
    call!(cuStreamBeginCapture_v2(stream, RELAXED)).unwrap();
    let mut status = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
    assert_eq!(call!(cuStreamIsCapturing(LEGACY, &mut status)), Err(Code::STREAM_CAPTURE_IMPLICIT));
    call!(cuGraphExecDestroy(end(stream).unwrap())).unwrap();
    assert_eq!(session.violations(), Vec::<String>::new());
}

#[test]
fn the_state_of_a_capture_can_be_asked_for() {
    let session = Session::begin().unwrap();
    let gpu = Gpu::new(&session);
    let stream = gpu.stream();
    let status = || {
        let mut status = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
        call!(cuStreamIsCapturing(stream, &mut status)).unwrap();
        status as u32
    };
    assert_eq!(status(), 0);
    assert_eq!(end(stream), Err(Code::ILLEGAL_STATE));
    call!(cuStreamBeginCapture_v2(stream, GLOBAL)).unwrap();
    assert_eq!(call!(cuStreamBeginCapture_v2(stream, GLOBAL)), Err(Code::ILLEGAL_STATE));
    assert_eq!(status(), 1);
    assert_eq!(call!(cuStreamQuery(stream)), Err(Code::STREAM_CAPTURE_UNSUPPORTED));
    assert_eq!(status(), 2);
    assert_eq!(end(stream), Err(Code::STREAM_CAPTURE_INVALIDATED));
    assert_eq!(session.take_violations().len(), 1);
    assert_eq!(call!(cuStreamBeginCapture_v2(LEGACY, GLOBAL)), Err(Code::STREAM_CAPTURE_UNSUPPORTED));
}

#[test]
fn only_the_thread_that_began_it_ends_a_thread_local_capture() {
    let session = Session::begin().unwrap();
    let gpu = Gpu::new(&session);
    let (stream, context) = (gpu.stream() as usize, gpu.context as usize);
    call!(cuStreamBeginCapture_v2(stream as Stream, CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)).unwrap();
    let elsewhere = std::thread::spawn(move || {
        call!(cuCtxSetCurrent(context as sys::CUcontext)).unwrap();
        let block = call!(cuMemAlloc_v2(-> u64, 64)).unwrap(); // a thread-local capture binds its own thread only
        call!(cuMemFree_v2(block)).unwrap();
        end(stream as Stream).map(drop)
    });
    assert_eq!(elsewhere.join().unwrap(), Err(Code::STREAM_CAPTURE_WRONG_THREAD));
    call!(cuGraphExecDestroy(end(stream as Stream).unwrap())).unwrap();
}
