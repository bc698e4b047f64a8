//! Memory that comes from cudarc and goes back there: in order, within the limit, by the allocator it came from.

mod rig;

use cuda_standin::{Code, Mode};
use cudarc::driver::CudaContext;
use hapax::{CudaDevice, DeviceRef, Error, Freed, Removed, VramCache};
use rig::{PTX, add_one, begin, heap, in_every_mode};

#[test]
fn a_slice_goes_in_and_out_with_all_its_pending_work() {
    in_every_mode(|session, device| {
        for pools in ["on", "off"] {
            session.set("pools", pools);
            let heap = heap(device, 1 << 20);
            let context = CudaContext::new(0).unwrap();
            let (theirs, beside) = (context.new_stream().unwrap(), context.new_stream().unwrap());
            let own = heap.new_stream().unwrap();
            let mut slice = theirs.alloc_zeros::<u32>(100).unwrap();
            beside.memset_zeros(&mut slice).unwrap(); // pending on another stream than the slice's
            let mut handle = heap.adopt_cuda_slice(slice).unwrap();
            let ledger = heap.ledger();
            assert_eq!((ledger.adopted_bytes, ledger.live_bytes, ledger.slab_bytes), (512, 512, 0));
            assert_eq!(ledger.live_bytes + ledger.freeing_bytes + ledger.free_bytes, ledger.limit_bytes);
            heap.validate();
            let module = heap.load_module(PTX.as_bytes()).unwrap();
            let kernel = module.on(&own).unwrap().function("add_one").unwrap();
            add_one(&kernel, &mut handle.on_mut(&own).unwrap()).unwrap();
            let slice = handle.into_cuda_slice().unwrap();
            assert_eq!(heap.ledger().adopted_bytes, 0);
            let mut copy = beside.clone_dtod(&slice).unwrap(); // a stream that knows nothing of ours
            theirs.memset_zeros(&mut copy).unwrap();
            let mut words = vec![0; 100];
            theirs.memcpy_dtoh(&slice, &mut words).unwrap();
            theirs.synchronize().unwrap(); // cudarc does not wait for copies to a Vec
            assert_eq!(words, [1; 100]);
            drop((slice, copy, module));
            heap.close().unwrap();
            context.synchronize().unwrap();
        }
    });
}

/// A reader needs the order that a writer gets by waiting for every noted stream.
#[test]
fn readers_of_an_adopted_slice_run_behind_what_cudarc_has_pending() {
    in_every_mode(|_, device| {
        let heap = heap(device, 1 << 20);
        let theirs = CudaContext::new(0).unwrap().new_stream().unwrap();
        let own = heap.new_stream().unwrap();
        let module = heap.load_module(PTX.as_bytes()).unwrap();
        let handle = heap.adopt_cuda_slice(theirs.alloc_zeros::<u32>(100).unwrap()).unwrap();
        let kernel = module.on(&own).unwrap().function("read").unwrap();
        rig::read(&kernel, &handle.on(&own).unwrap()).unwrap();
        let again = heap.adopt_cuda_slice(theirs.alloc_zeros::<u32>(100).unwrap()).unwrap();
        let mut words = [1; 100];
        again.download_to(&mut words).unwrap();
        assert_eq!(words, [0; 100]);
        drop((handle, again, module));
        heap.close().unwrap();
    });
}

/// cudarc's own drop would free it without binding a context, and without a wait for our streams.
#[test]
fn an_adopted_handle_is_freed_by_its_own_allocator_after_its_streams_and_never_by_a_drop() {
    in_every_mode(|session, device| {
        for (pools, call) in [("on", "cuMemFreeAsync"), ("off", "cuMemFree_v2")] {
            session.set("pools", pools);
            let heap = heap(device, 1 << 20);
            let theirs = CudaContext::new(0).unwrap().default_stream();
            let streams = [heap.new_stream().unwrap(), heap.new_stream().unwrap()];
            let handle = heap.adopt_cuda_slice(theirs.clone_htod(&[7u8; 300]).unwrap()).unwrap();
            theirs.synchronize().unwrap(); // the literal is pageable
            drop(theirs);
            let mut contents = [0; 300];
            handle.download_to(&mut contents).unwrap();
            assert_eq!(contents, [7; 300]);
            for stream in &streams {
                let _ = handle.on(stream).unwrap();
            }
            let (calls, frees) = (session.counters().calls, session.calls(call));
            let freed = std::thread::spawn(move || handle.free().unwrap()).join().unwrap();
            assert_eq!(freed, Freed::WhenStreamsPass { bytes: 512 });
            assert_eq!(session.counters().calls, calls);
            heap.settle().unwrap();
            assert_eq!((session.calls(call), heap.ledger().adopted_bytes), (frees + 1, 0));
            heap.close().unwrap();
            drop(device.new_stream().unwrap()); // lets go of cudarc's stream
        }
    });
}

#[test]
fn adopted_memory_can_be_cached_evicted_and_taken_back() {
    in_every_mode(|_, device| {
        let heap = heap(device, 1 << 20);
        let theirs = CudaContext::new(0).unwrap().new_stream().unwrap();
        let own = heap.new_stream().unwrap();
        let cache: VramCache<u32, [u32]> = VramCache::new(&heap, 512).unwrap();
        for key in 0..4u32 {
            let words = vec![key; 64];
            let handle = heap.adopt_cuda_slice(theirs.clone_htod(&words).unwrap()).unwrap();
            theirs.synchronize().unwrap(); // cudarc does not wait for copies from pageable memory
            drop(words);
            cache.insert(key, handle).unwrap().free_all().unwrap();
            assert_eq!(cache.get(&key, &own).unwrap().unwrap().to_vec().unwrap(), [key; 64]);
        }
        let Removed::Taken(3, evicted) = cache.remove(&3) else { panic!("it is resident and unleased") };
        let slice = evicted.revive(&own).unwrap().into_cuda_slice().unwrap();
        let words = theirs.clone_dtoh(&slice).unwrap();
        theirs.synchronize().unwrap();
        assert_eq!(words, [3; 64]);
        drop((slice, cache));
        heap.close().unwrap();
    });
}

#[test]
fn what_cannot_be_adopted_or_given_back_returns_to_its_owner() {
    let session = begin(Mode::Lazy);
    session.set("devices", 2);
    let device = DeviceRef::new(CudaDevice::open(0).unwrap());
    let heap = heap(&device, 4096);
    let (near, far) = (CudaContext::new(0).unwrap().default_stream(), CudaContext::new(1).unwrap().default_stream());
    let refused = heap.adopt_cuda_slice(far.alloc_zeros::<u8>(64).unwrap()).unwrap_err();
    assert_eq!(*refused.error, Error::WrongContext);
    drop(refused.handle);
    far.synchronize().unwrap();
    let refused = heap.adopt_cuda_slice(near.alloc_zeros::<u8>(5000).unwrap()).unwrap_err();
    assert!(matches!(*refused.error, Error::OutOfMemory { device_refused: false, .. }));
    drop(refused.handle);
    let in_a_slab = heap.alloc_slice(8).unwrap().upload_from(&[5u8; 8]).unwrap();
    let refused = in_a_slab.into_cuda_slice().unwrap_err();
    assert_eq!(*refused.error, Error::NotAdopted);
    let mut contents = [0; 8];
    refused.handle.download_to(&mut contents).unwrap();
    assert_eq!(contents, [5; 8]);
    drop(refused);
    near.synchronize().unwrap();
    heap.close().unwrap();
    device.close().unwrap(); // lets go of cudarc's streams while the session lasts
}

/// cudarc keeps an error of its stream waits for a later call; adoption looks, and waits for everything.
#[test]
fn an_error_that_cudarc_hides_does_not_unorder_the_slice() {
    in_every_mode(|session, device| {
        let heap = heap(device, 1 << 20);
        let context = CudaContext::new(0).unwrap();
        let (theirs, beside) = (context.new_stream().unwrap(), context.new_stream().unwrap());
        let mut slice = theirs.alloc_zeros::<u32>(64).unwrap();
        beside.memset_zeros(&mut slice).unwrap();
        session.fail("cuStreamWaitEvent", 1, Code::INVALID_VALUE);
        let handle = heap.adopt_cuda_slice(slice).unwrap();
        let mut words = [1; 64];
        handle.download_to(&mut words).unwrap();
        assert_eq!(words, [0; 64]);
        handle.free().unwrap();
        heap.close().unwrap();
        context.synchronize().unwrap();
    });
}

#[test]
fn events_that_cudarc_cannot_make_leave_the_memory_with_its_handle() {
    let session = begin(Mode::Plain);
    let device = DeviceRef::new(CudaDevice::open(0).unwrap());
    let heap = heap(&device, 1 << 20);
    let theirs = CudaContext::new(0).unwrap().new_stream().unwrap();
    let handle = heap.adopt_cuda_slice(theirs.alloc_zeros::<u8>(64).unwrap()).unwrap();
    session.fail("cuEventCreate", 2, Code::OUT_OF_MEMORY);
    let refused = handle.into_cuda_slice().unwrap_err();
    assert!(matches!(*refused.error, Error::Device { .. }), "{refused}");
    drop(refused.handle.into_cuda_slice().unwrap());
    heap.close().unwrap();
    device.close().unwrap(); // lets go of cudarc's stream while the session lasts
}
