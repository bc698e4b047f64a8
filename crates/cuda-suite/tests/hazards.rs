//! What cudarc does that hapax must not inherit: one test for each hazard that DESIGN.md lists, with cudarc's own behaviour beside
//! ours where it can be shown.

mod rig;

use cuda_standin::{Code, Mode};
use cudarc::driver::CudaContext;
use cudarc::driver::sys::CUstreamCaptureMode;
use hapax::{CudaDevice, DeviceRef, Error, Freed, Heap, HeapOptions};
use rig::{begin, heap, in_every_mode};

/// cudarc would make an enum of it that has no such value.
#[test]
fn a_code_that_no_header_knows_is_an_error_to_read() {
    let session = begin(Mode::Plain);
    let device = DeviceRef::new(CudaDevice::open(0).unwrap());
    let heap = heap(&device, 1 << 20);
    session.fail("cuMemAlloc_v2", 1, Code(77_777));
    let error = heap.alloc_slice::<u8>(64).map(drop).unwrap_err();
    let Error::Device { code, call, message } = &error else { panic!("{error:?}") };
    assert_eq!((*code, *call), (77_777, "cuMemAlloc"));
    assert!(!message.is_empty() && error.to_string().contains("77777"), "{error}");
    drop(heap.alloc_slice::<u8>(64).unwrap()); // the device goes on
    heap.close().unwrap();
    device.close().unwrap();
}

/// Its drop frees in whatever context is bound to the thread, and hides the error; a handle binds its own first.
#[test]
fn memory_dropped_on_a_thread_without_a_context_is_freed_all_the_same() {
    for (pools, adopted) in [("on", false), ("on", true), ("off", true)] {
        let session = begin(Mode::Lazy);
        session.set("pools", pools);
        let device = DeviceRef::new(CudaDevice::open(0).unwrap());
        let heap = heap(&device, 1 << 20);
        let theirs = CudaContext::new(0).unwrap().default_stream(); // beside one stream only it records no events
        let slice = theirs.alloc_zeros::<u8>(256).unwrap();
        if adopted {
            let handle = heap.adopt_cuda_slice(slice).unwrap();
            let other = heap.clone();
            let thread = std::thread::spawn(move || {
                assert_eq!(handle.free().unwrap(), Freed::WhenStreamsPass { bytes: 256 });
                other.settle().unwrap();
            });
            thread.join().unwrap();
        } else {
            std::thread::spawn(move || drop(slice)).join().unwrap();
            let found = session.take_violations();
            assert!(found.iter().any(|what| what.starts_with("context:")), "cudarc binds its context now: {found:#?}");
        }
        let _ = theirs.context().check_err(); // of its drop, if that failed
        theirs.synchronize().unwrap();
        drop(theirs);
        heap.close().unwrap();
        device.close().unwrap();
        if !adopted {
            session.reset(); // what cudarc could not free
        }
    }
}

/// Its copies from pageable memory return while the driver may still read it.
#[test]
fn a_vector_may_be_written_as_soon_as_its_upload_has_returned() {
    let session = begin(Mode::Lazy);
    let device = DeviceRef::new(CudaDevice::open(0).unwrap());
    let heap = heap(&device, 1 << 20);
    let theirs = CudaContext::new(0).unwrap().new_stream().unwrap();
    let mut contents = vec![1u8; 8192];
    let handle = heap.alloc_slice(8192).unwrap().upload_from(&contents).unwrap();
    session.host_writes(&mut contents);
    assert_eq!(session.violations(), Vec::<String>::new());
    let slice = theirs.clone_htod(&contents).unwrap();
    session.host_writes(&mut contents);
    let found = session.take_violations();
    assert!(found.iter().any(|what| what.starts_with("host access:")), "cudarc waits now: {found:#?}");
    theirs.synchronize().unwrap();
    drop((slice, handle));
    theirs.synchronize().unwrap();
    drop(theirs);
    heap.close().unwrap();
    device.close().unwrap();
}

/// It checks that a wait was recorded only at the next call; a slice that skipped its waits is then in nobody's order.
#[test]
fn cudarcs_hidden_errors_are_asked_for_before_memory_changes_hands() {
    let session = begin(Mode::Lazy);
    let device = DeviceRef::new(CudaDevice::open(0).unwrap());
    let heap = heap(&device, 1 << 20);
    let context = CudaContext::new(0).unwrap();
    let (theirs, beside) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let mut slice = theirs.alloc_zeros::<u8>(64).unwrap();
    beside.memset_zeros(&mut slice).unwrap();
    context.record_err(Err::<(), _>(cudarc::driver::result::DriverError(
        cudarc::driver::sys::CUresult::CUDA_ERROR_INVALID_VALUE,
    )));
    let handle = heap.adopt_cuda_slice(slice).unwrap();
    context.record_err(Err::<(), _>(cudarc::driver::result::DriverError(
        cudarc::driver::sys::CUresult::CUDA_ERROR_INVALID_VALUE,
    )));
    let slice = handle.into_cuda_slice().unwrap();
    context.check_err().unwrap();
    drop(slice);
    context.synchronize().unwrap();
    drop((theirs, beside, context));
    heap.close().unwrap();
    device.close().unwrap();
    assert_eq!(session.violations(), Vec::<String>::new());
}

/// CUDA forbids allocations, frees and questions to events while a thread captures. None of ours touches the captured stream.
#[test]
fn a_capture_on_the_same_thread_forbids_no_memory() {
    use CUstreamCaptureMode::{CU_STREAM_CAPTURE_MODE_GLOBAL, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL};
    in_every_mode(|_, device| {
        for mode in [CU_STREAM_CAPTURE_MODE_GLOBAL, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL] {
            let theirs = CudaContext::new(0).unwrap().new_stream().unwrap();
            theirs.begin_capture(mode).unwrap();
            let heap = Heap::new(device, HeapOptions::new(1 << 20).slab_bytes(4096)).unwrap();
            let stream = heap.new_stream().unwrap();
            let module = heap.load_module(rig::PTX.as_bytes()).unwrap();
            let handle = heap.alloc_slice(5000).unwrap().upload_from(&[7u8; 5000]).unwrap();
            let mut back = [0; 5000];
            handle.on(&stream).unwrap().download_to(&mut back).unwrap();
            assert_eq!(back, [7; 5000]);
            drop((handle, module));
            heap.settle().unwrap();
            heap.close().unwrap();
            // SAFETY: the capture was begun above, on this thread.
            let graph = unsafe { cudarc::driver::result::stream::end_capture(theirs.cu_stream()) };
            // SAFETY: the graph is ours and was never instantiated.
            unsafe { cudarc::driver::result::graph::destroy(graph.expect("the capture is whole")) }.unwrap();
        }
    });
}
