//! How a device ends: in order, lost, or with threads that adopt and let go meanwhile.

mod rig;

use cuda_standin::{Code, Mode};
use cudarc::driver::CudaContext;
use hapax::{CudaDevice, DeviceRef, Error, FaultDevice, Heap, HeapOptions, HostDevice};
use rig::{PTX, add_one, begin, heap, in_every_mode};

#[test]
fn a_device_closes_when_nothing_of_it_is_left_and_gives_its_context_up() {
    in_every_mode(|session, shared| {
        let device = DeviceRef::new(CudaDevice::open(0).unwrap()); // a second share of the same context
        let heap = heap(&device, 1 << 20);
        let stream = heap.new_stream().unwrap();
        let refused = device.close().unwrap_err();
        assert!(matches!(*refused.error, Error::DeviceInUse { shares: 3.. }), "{refused}");
        drop(heap.alloc_slice::<u8>(64).unwrap().zero(&stream).unwrap());
        heap.close().unwrap();
        let refused = refused.handle.close().unwrap_err();
        assert_eq!(*refused.error, Error::DeviceInUse { shares: 1 }); // the stream
        drop(stream);
        session.fail("cuDevicePrimaryCtxRelease_v2", 1, Code::INVALID_VALUE);
        let refused = refused.handle.close().unwrap_err();
        assert!(matches!(*refused.error, Error::Device { call: "cuDevicePrimaryCtxRelease", .. }), "{refused}");
        drop(refused.handle.new_stream().unwrap()); // it goes on
        refused.handle.close().unwrap();
        drop(shared.new_stream().unwrap()); // the context is the other's still
    });
}

/// Nothing can be given back to a lost device; what cudarc kept for it is let go of, and by no drop of ours.
#[test]
fn on_a_lost_device_modules_and_adopted_memory_are_given_up_without_a_call() {
    let session = begin(Mode::Lazy);
    let device = DeviceRef::new(CudaDevice::open(0).unwrap());
    let heap = heap(&device, 1 << 20);
    let theirs = CudaContext::new(0).unwrap().new_stream().unwrap();
    let adopted = heap.adopt_cuda_slice(theirs.alloc_zeros::<u8>(64).unwrap()).unwrap();
    let module = heap.load_module(PTX.as_bytes()).unwrap();
    drop(theirs);
    session.lose_device(0, Code::ILLEGAL_ADDRESS);
    assert_eq!(heap.load_module(PTX.as_bytes()).map(drop).unwrap_err(), Error::DeviceLost);
    let calls = session.counters().calls;
    assert_eq!(module.free().unwrap_err(), Error::DeviceLost);
    let refused = adopted.into_cuda_slice().unwrap_err();
    assert_eq!(*refused.error, Error::DeviceLost);
    drop((refused, heap, device));
    assert_eq!(session.counters().calls, calls);
    drop(Heap::new(HostDevice::new(), HeapOptions::new(1 << 10)).unwrap()); // lets go of cudarc's stream
    assert!(session.counters().calls > calls);
    assert_eq!(session.violations(), Vec::<String>::new());
    session.reset(); // what was on the card went with it
}

/// Each of these says of itself that the context, or the process, is of no use any more: nothing is freed after it.
#[test]
fn a_code_that_ends_the_context_loses_the_device_and_another_does_not() {
    let ends = [201, 214, 220, 226, 700, 709, 714, 719, 721, 810, 911];
    let goes_on = [1, 2, 200, 400, 701, 720, 800, 801, 999];
    for (code, lost) in ends.map(|code| (code, true)).into_iter().chain(goes_on.map(|code| (code, false))) {
        let session = begin(Mode::Plain);
        let device = DeviceRef::new(CudaDevice::open(0).unwrap());
        let heap = heap(&device, 1 << 20);
        session.fail("cuStreamCreate", 1, Code(code));
        let refused = heap.new_stream().unwrap_err();
        assert_eq!(refused == Error::DeviceLost, lost, "{code}: {refused}");
        assert_eq!(device.is_lost(), lost, "{code}");
        drop((heap, device));
        session.reset(); // a lost device gives nothing back
    }
}

#[test]
fn threads_adopt_use_and_let_go_of_one_stream_while_others_sweep() {
    in_every_mode(|_, device| {
        let heap = heap(device, 1 << 20);
        let theirs = CudaContext::new(0).unwrap().new_stream().unwrap();
        let module = heap.load_module(PTX.as_bytes()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let stream = device.adopt_cuda_stream(&theirs).unwrap();
                        let mut data = heap.alloc_slice::<u32>(16).unwrap().zero(&stream).unwrap();
                        let kernel = module.on(&stream).unwrap().function("add_one").unwrap();
                        add_one(&kernel, &mut data.on_mut(&stream).unwrap()).unwrap();
                    }
                });
            }
            scope.spawn(|| {
                for round in 0..20 {
                    if round % 2 == 0 { heap.settle().map(drop).unwrap() } else { drop(device.new_stream().unwrap()) }
                }
            });
        });
        drop((module, theirs));
        heap.close().unwrap();
    });
}

#[test]
fn every_call_of_a_session_with_adopted_memory_may_fail_and_nothing_is_lost() {
    let session_of = |device: &DeviceRef| -> Result<(), Error> {
        let heap = Heap::new(device, HeapOptions::new(1 << 16).slab_bytes(1 << 14))?;
        let theirs = CudaContext::new(0).unwrap().new_stream().unwrap();
        let own = heap.new_stream()?;
        let slice = theirs.alloc_zeros::<u32>(32).unwrap();
        let mut handle = heap.adopt_cuda_slice(slice)?;
        let module = heap.load_module(PTX.as_bytes())?;
        let kernel = module.on(&own)?.function("add_one")?;
        add_one(&kernel, &mut handle.on_mut(&own)?)?;
        let slice = handle.into_cuda_slice()?;
        let again = heap.adopt_cuda_slice(slice)?;
        add_one(&kernel, &mut { again }.on_mut(&own)?)?;
        drop(module);
        heap.settle()?;
        Ok(heap.close()?)
    };
    for nth in 1.. {
        let session = begin(Mode::Lazy);
        let (device, control) = FaultDevice::new(CudaDevice::open(0).unwrap());
        let device = DeviceRef::new(device);
        control.fail_call(nth, hapax::Fault::Failed);
        let ended = session_of(&device);
        let reached = control.calls() >= nth;
        control.disarm();
        let heap = Heap::new(&device, HeapOptions::new(1 << 16)).unwrap(); // gives back what a failed session left
        for _ in 0..4 {
            heap.trim().unwrap();
            session.run(1_000);
        }
        heap.close().unwrap();
        drop(heap_that_clears());
        device.close().unwrap();
        assert_eq!(session.counters().contexts, 0, "call {nth} failed: {ended:?}");
        if !reached {
            assert!(ended.is_ok() && nth > 25, "the whole session of {nth} calls, undisturbed: {ended:?}");
            break;
        }
    }
}

fn heap_that_clears() -> Heap {
    Heap::new(HostDevice::new(), HeapOptions::new(1 << 10)).unwrap()
}
