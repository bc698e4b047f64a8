//! Kernels on own and adopted streams, by our launch and by cudarc's: ordered by what their views and leases note.

mod rig;

use cudarc::driver::result::stream::{StreamKind, begin_capture, create, destroy, end_capture};
use cudarc::driver::sys::CUstreamCaptureMode;
use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg};
use hapax::{DevBox, Error, Launch, LaunchShape, Lookup, Returned, VramCache};
use rig::{PTX, SHAPE, add_one, fill, heap, in_every_mode, read};
use std::sync::Arc;

fn words(handle: &DevBox<[u32]>) -> Vec<u32> {
    let mut words = vec![0; handle.len()];
    handle.download_to(&mut words).unwrap();
    words
}

#[test]
fn kernels_on_two_streams_see_each_others_writes() {
    in_every_mode(|_, device| {
        let heap = heap(device, 1 << 20);
        let (a, b) = (heap.new_stream().unwrap(), heap.new_stream().unwrap());
        let module = heap.load_module(PTX.as_bytes()).unwrap();
        let mut data = heap.alloc_slice::<u32>(100).unwrap().zero(&a).unwrap();
        for round in 0..6 {
            let stream = if round % 2 == 0 { &a } else { &b };
            let kernel = module.on(stream).unwrap().function("add_one").unwrap();
            add_one(&kernel, &mut data.on_mut(stream).unwrap()).unwrap();
        }
        for stream in [&a, &b] {
            let kernel = module.on(stream).unwrap().function("read").unwrap();
            read(&kernel, &data.on(stream).unwrap()).unwrap();
        }
        assert_eq!(words(&data), [6; 100]);
        let kernel = module.on(&b).unwrap().function("fill").unwrap();
        fill(&kernel, &mut data.on_mut(&b).unwrap(), 9).unwrap(); // after both readers
        assert_eq!(words(&data), [9; 100]);
        drop((data, module));
        heap.close().unwrap();
    });
}

#[test]
fn values_arrive_as_the_kernel_declares_them() {
    in_every_mode(|_, device| {
        let heap = heap(device, 1 << 20);
        let stream = heap.new_stream().unwrap();
        let module = heap.load_module(PTX.as_bytes()).unwrap();
        let x = heap.alloc_slice(3).unwrap().upload_from(&[1.0f32, 2.0, 3.0]).unwrap();
        let mut y = heap.alloc_slice(3).unwrap().upload_from(&[0.5f32; 3]).unwrap();
        let saxpy = module.on(&stream).unwrap().function("saxpy").unwrap();
        let (x_view, mut y_view) = (x.on(&stream).unwrap(), y.on_mut(&stream).unwrap());
        let launch = Launch::new(&saxpy, LaunchShape::linear(3, 32).shared_bytes(1024));
        let launch = launch.value(3u64).value(2.0f32).memory(&x_view).memory(&mut y_view);
        // SAFETY: saxpy takes (u64, float, const float *, float *) and stays within 3 elements.
        unsafe { launch.launch() }.unwrap();
        saxpy.allow_shared_bytes(64 << 10).unwrap();
        let mut sum = [0.0; 3];
        y.download_to(&mut sum).unwrap();
        assert_eq!(sum, [2.5, 4.5, 6.5]);
        drop((x, y, module));
        heap.close().unwrap();
    });
}

#[test]
fn memory_of_another_stream_is_refused_by_its_position() {
    in_every_mode(|session, device| {
        let heap = heap(device, 1 << 20);
        let (a, b) = (heap.new_stream().unwrap(), heap.new_stream().unwrap());
        let module = heap.load_module(PTX.as_bytes()).unwrap();
        let cache: Arc<VramCache<u32, [u32]>> = Arc::new(VramCache::new(&heap, 1 << 16).unwrap());
        cache.insert(1, heap.alloc_slice(8).unwrap().upload_from(&[1; 8]).unwrap()).unwrap().free_all().unwrap();
        let mut data = heap.alloc_slice::<u32>(8).unwrap().zero(&a).unwrap();
        let kernel = module.on(&b).unwrap().function("saxpy").unwrap();
        let lease = cache.get(&1, &a).unwrap().unwrap();
        let owned = lease.clone().into_owned(&cache).unwrap();
        let right = cache.get(&1, &b).unwrap().unwrap();
        let launches = session.calls("cuLaunchKernel");
        {
            let mut view = data.on_mut(&a).unwrap();
            let launch = Launch::new(&kernel, SHAPE).value(8u64).memory(&right).memory(&mut view).memory(&lease);
            // SAFETY: it is refused.
            let refused = unsafe { launch.launch() }.unwrap_err();
            assert_eq!(refused, Error::WrongStream { argument: 2 });
        }
        // SAFETY: it is refused.
        let refused = unsafe { Launch::new(&kernel, SHAPE).memory(&owned).launch() }.unwrap_err();
        assert_eq!(refused, Error::WrongStream { argument: 0 });
        let shared = data.on(&a).unwrap();
        // SAFETY: it is refused.
        let refused = unsafe { Launch::new(&kernel, SHAPE).memory(&right).memory(&shared).launch() }.unwrap_err();
        assert_eq!(refused, Error::WrongStream { argument: 1 });
        assert_eq!(session.calls("cuLaunchKernel"), launches);
        drop((lease, owned, right, data, module));
        drop(cache);
        heap.close().unwrap();
    });
}

#[test]
fn an_adopted_stream_is_one_of_ours_and_stays_its_owners() {
    in_every_mode(|session, device| {
        let heap = heap(device, 1 << 20);
        let context = CudaContext::new(0).unwrap();
        let theirs = context.new_stream().unwrap();
        let own = heap.new_stream().unwrap();
        let adopted = device.adopt_cuda_stream(&theirs).unwrap();
        let again = device.adopt_cuda_stream(&theirs).unwrap();
        assert_eq!(adopted.raw(), again.raw());
        let module = heap.load_module(PTX.as_bytes()).unwrap();
        let mut data = heap.alloc_slice::<u32>(64).unwrap().zero(&own).unwrap();
        let kernel = module.on(&adopted).unwrap().function("add_one").unwrap();
        add_one(&kernel, &mut data.on_mut(&adopted).unwrap()).unwrap();
        add_one(&kernel, &mut data.on_mut(&again).unwrap()).unwrap(); // the same stream
        let kernel = module.on(&own).unwrap().function("add_one").unwrap();
        add_one(&kernel, &mut data.on_mut(&own).unwrap()).unwrap();
        assert_eq!(words(&data), [3; 64]);
        drop(data);
        drop((adopted, again));
        for _ in 0..4 {
            heap.settle().unwrap(); // lets go of streams whose work is over
            session.run(1_000);
        }
        let destroyed = session.calls("cuStreamDestroy_v2");
        theirs.synchronize().unwrap(); // it is alive
        drop(theirs);
        assert_eq!(session.calls("cuStreamDestroy_v2"), destroyed + 1, "its owner destroys it");
        drop(module);
        heap.close().unwrap();
    });
}

/// Also when the owner's last handle goes first, and a stream that is let go of and adopted anew.
#[test]
fn an_adopted_stream_lives_as_long_as_work_of_ours_needs_it() {
    in_every_mode(|session, device| {
        let heap = heap(device, 1 << 20);
        let theirs = CudaContext::new(0).unwrap().new_stream().unwrap();
        let adopted = device.adopt_cuda_stream(&theirs).unwrap();
        let data = heap.alloc_slice::<u32>(64).unwrap().zero(&adopted).unwrap();
        drop(adopted);
        let _ = heap.trim().unwrap(); // looks whether its work is over
        let adopted = device.adopt_cuda_stream(&theirs).unwrap();
        let data = {
            let mut data = data;
            let module = heap.load_module(PTX.as_bytes()).unwrap();
            let kernel = module.on(&adopted).unwrap().function("add_one").unwrap();
            add_one(&kernel, &mut data.on_mut(&adopted).unwrap()).unwrap();
            data
        };
        let before = session.calls("cuStreamDestroy_v2");
        drop((adopted, theirs, data));
        assert_eq!(session.calls("cuStreamDestroy_v2"), before, "no drop destroys it");
        heap.close().unwrap();
        let _ = device.new_stream().unwrap(); // ends streams that are over
    });
}

#[test]
fn the_null_stream_can_be_adopted_and_the_per_thread_one_cannot() {
    in_every_mode(|_, device| {
        let heap = heap(device, 1 << 20);
        let context = CudaContext::new(0).unwrap();
        let null = device.adopt_cuda_stream(&context.default_stream()).unwrap();
        let own = heap.new_stream().unwrap();
        let module = heap.load_module(PTX.as_bytes()).unwrap();
        let mut data = heap.alloc_slice::<u32>(64).unwrap().zero(&own).unwrap();
        for stream in [&null, &own, &null] {
            let kernel = module.on(stream).unwrap().function("add_one").unwrap();
            add_one(&kernel, &mut data.on_mut(stream).unwrap()).unwrap();
        }
        assert_eq!(words(&data), [3; 64]);
        let refused = device.adopt_cuda_stream(&context.per_thread_stream()).unwrap_err();
        assert!(matches!(&refused, Error::BadOption(text) if text.contains("each thread")), "{refused}");
        drop((data, module, null));
        heap.close().unwrap();
    });
}

/// Work on it would be ordered with the blocking stream's capture.
#[test]
fn the_null_stream_is_refused_while_a_blocking_stream_is_captured() {
    in_every_mode(|_, device| {
        let heap = heap(device, 1 << 20);
        let context = CudaContext::new(0).unwrap();
        let null = device.adopt_cuda_stream(&context.default_stream()).unwrap();
        let data = heap.alloc_slice::<u32>(64).unwrap().zero(&null).unwrap();
        context.bind_to_thread().unwrap();
        let blocking = create(StreamKind::Default).unwrap();
        // SAFETY: the stream is alive.
        unsafe { begin_capture(blocking, CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED) }.unwrap();
        assert_eq!(data.on(&null).map(drop).unwrap_err(), Error::StreamCapturing);
        drop((data, null));
        drop(device.new_stream().unwrap()); // asks whether the null stream is over
        heap.trim().unwrap();
        assert!(heap.ledger().freeing_bytes > 0, "parked until the capture ends");
        // SAFETY: the capture was begun above, on this thread.
        let graph = unsafe { end_capture(blocking) }.expect("the capture is whole");
        // SAFETY: the graph is ours and was never instantiated.
        unsafe { cudarc::driver::result::graph::destroy(graph) }.unwrap();
        // SAFETY: nothing is on the stream, and it is not used again.
        unsafe { destroy(blocking) }.unwrap();
        heap.close().unwrap();
    });
}

#[test]
fn streams_of_other_devices_are_refused() {
    let session = rig::begin(cuda_standin::Mode::Lazy);
    session.set("devices", 2);
    let device = hapax::DeviceRef::new(hapax::CudaDevice::open(0).unwrap());
    let theirs = CudaContext::new(1).unwrap().new_stream().unwrap();
    assert_eq!(device.adopt_cuda_stream(&theirs).unwrap_err(), Error::WrongContext);
    let host = hapax::DeviceRef::new(hapax::HostDevice::new());
    assert_eq!(host.adopt_cuda_stream(&theirs).unwrap_err(), Error::WrongDevice);
    let heap = hapax::Heap::new(&host, hapax::HeapOptions::new(1 << 20)).unwrap();
    let refused = heap.load_module(PTX.as_bytes()).unwrap_err();
    assert!(matches!(refused, Error::Unsupported { .. }) && refused.to_string().contains("CudaDevice"), "{refused}");
    heap.validate();
}

#[test]
fn views_and_leases_go_into_cudarcs_builder() {
    in_every_mode(|_, device| {
        let heap = heap(device, 1 << 20);
        let context = CudaContext::new(0).unwrap();
        let theirs = context.new_stream().unwrap();
        let (stream, other) = (device.adopt_cuda_stream(&theirs).unwrap(), heap.new_stream().unwrap());
        let module = context.load_module(cudarc_ptx()).unwrap();
        let (copy, add) = (module.load_function("copy").unwrap(), module.load_function("add_one").unwrap());
        let cache: Arc<VramCache<u32, [u32]>> = Arc::new(VramCache::new(&heap, 1 << 16).unwrap());
        for key in 0..2 {
            let Lookup::Miss(vacancy) = cache.lookup(&key, &other).unwrap() else { panic!("it is new") };
            drop(vacancy.fill_from(&[key; 16]).map_err(Returned::into_error).unwrap());
        }
        let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (32, 1, 1), shared_mem_bytes: 0 };
        let mut to = heap.alloc_slice::<u32>(32).unwrap().zero(&other).unwrap();
        {
            let lease = cache.get(&0, &stream).unwrap().unwrap();
            let owned = cache.get(&1, &stream).unwrap().unwrap().into_owned(&cache).unwrap();
            let (mut low, mut high) = to.on_mut(&stream).unwrap().split_at_mut(16).unwrap();
            let bytes = 64u64;
            // SAFETY: copy takes two addresses and a count of bytes; all three are of `theirs`.
            unsafe { theirs.launch_builder(&copy).arg(&mut low).arg(&lease).arg(&bytes).launch(config) }.unwrap();
            // SAFETY: as above.
            unsafe { theirs.launch_builder(&copy).arg(&mut high).arg(&owned).arg(&bytes).launch(config) }.unwrap();
            let shared = cache.get(&1, &stream).unwrap().unwrap();
            let view = shared.view();
            // SAFETY: as above.
            unsafe { theirs.launch_builder(&copy).arg(&mut low).arg(&view).arg(&bytes).launch(config) }.unwrap();
            let words = 16u64;
            // SAFETY: add_one takes an address and a count of words.
            unsafe { theirs.launch_builder(&add).arg(&mut high).arg(&words).launch(config) }.unwrap();
        }
        let mut expected = vec![1; 16];
        expected.extend([2; 16]);
        assert_eq!(words(&to), expected);
        drop((to, cache));
        heap.close().unwrap();
        drop((add, copy, module));
    });
}

fn cudarc_ptx() -> cudarc::nvrtc::Ptx {
    cudarc::nvrtc::Ptx::from_src(format!(
        "{PTX}.visible .entry copy(.param .u64 to, .param .u64 from, .param .u64 bytes) {{ ret; }}"
    ))
}

#[test]
fn a_capture_begun_after_the_views_were_lent_is_still_refused() {
    in_every_mode(|_, device| {
        let heap = heap(device, 1 << 20);
        let theirs = CudaContext::new(0).unwrap().new_stream().unwrap();
        let stream = device.adopt_cuda_stream(&theirs).unwrap();
        let module = heap.load_module(PTX.as_bytes()).unwrap();
        let mut data = heap.alloc_slice::<u32>(64).unwrap().zero(&stream).unwrap();
        let kernel = module.on(&stream).unwrap().function("add_one").unwrap();
        let mut view = data.on_mut(&stream).unwrap();
        theirs.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
        assert_eq!(add_one(&kernel, &mut view).unwrap_err(), Error::StreamCapturing);
        assert_eq!(device.adopt_cuda_stream(&theirs).unwrap().synchronize().unwrap_err(), Error::StreamCapturing);
        drop(heap.new_stream().unwrap()); // a stream under capture does not keep others from being made
        // SAFETY: the capture was begun above, on this thread.
        let graph = unsafe { cudarc::driver::result::stream::end_capture(theirs.cu_stream()) }.unwrap();
        // SAFETY: the graph is ours and was never instantiated.
        unsafe { cudarc::driver::result::graph::destroy(graph) }.unwrap();
        add_one(&kernel, &mut view).unwrap();
        drop((data, module));
        heap.close().unwrap();
    });
}
