//! Modules as residents: charged, leased, evicted and unloaded like memory, and never under a kernel.

mod rig;

use cuda_standin::{Code, Mode};
use hapax::{
    Cache, DevBox, DeviceRef, Error, FaultDevice, Freed, Heap, HeapOptions, Lookup, Module, Removed, Returned, Stream,
};
use rig::{PTX, add_one, begin, fill, heap, in_every_mode};

fn spin(module: &Module, stream: &Stream) {
    let kernel = module.on(stream).unwrap().function("spin").unwrap();
    // SAFETY: spin takes a count of turns, and touches nothing.
    unsafe { hapax::Launch::new(&kernel, rig::SHAPE).value(4u64).launch() }.unwrap();
}

#[test]
fn a_module_is_unloaded_only_after_its_kernels() {
    in_every_mode(|session, device| {
        let heap = heap(device, 1 << 20);
        let streams = [heap.new_stream().unwrap(), heap.new_stream().unwrap()];
        let module = heap.load_module(PTX.as_bytes()).unwrap();
        let charge = module.charge_bytes();
        assert_eq!(charge, (PTX.len() as u64).next_multiple_of(256));
        let ledger = heap.ledger();
        assert_eq!((ledger.live_bytes, ledger.module_bytes, ledger.slab_bytes), (charge, charge, 0));
        streams.iter().for_each(|stream| spin(&module, stream));
        assert_eq!(module.free().unwrap(), Freed::WhenStreamsPass { bytes: charge });
        heap.trim().unwrap(); // waits for nothing
        assert_eq!(heap.ledger().freeing_bytes + heap.ledger().free_bytes, heap.limit_bytes());
        heap.validate();
        heap.settle().unwrap();
        assert_eq!((session.counters().modules, heap.ledger().module_bytes), (0, 0));
        heap.validate();
        heap.close().unwrap();
    });
}

#[test]
fn a_drop_makes_no_driver_call_and_the_next_allocation_unloads() {
    in_every_mode(|session, device| {
        let heap = heap(device, 1 << 20);
        let module = heap.load_module(PTX.as_bytes()).unwrap();
        let calls = session.counters().calls;
        std::thread::spawn(move || drop(module)).join().unwrap(); // a thread without a context
        assert_eq!((session.counters().calls, session.counters().modules), (calls, 1));
        drop(heap.alloc_slice::<u8>(1).unwrap());
        assert_eq!(session.counters().modules, 0);
        heap.close().unwrap();
    });
}

#[test]
fn a_heap_without_handles_left_to_drop_unloads_what_a_module_held() {
    in_every_mode(|session, device| {
        let heap = heap(device, 1 << 20);
        let module = heap.load_module(PTX.as_bytes()).unwrap();
        let stream = heap.new_stream().unwrap();
        spin(&module, &stream);
        drop(heap); // it reports the module, which then is the last to hold it
        let calls = session.counters().calls;
        drop((module, stream));
        assert_eq!(session.counters().calls, calls);
        let next = rig::heap(device, 1 << 16);
        for _ in 0..20 {
            next.trim().unwrap();
            session.run(1);
        }
        next.close().unwrap();
    });
}

/// Three modules fit, twelve are wanted.
#[test]
fn a_cache_of_modules_stays_in_its_budget_with_kernels_in_flight() {
    in_every_mode(|session, device| {
        let heap = heap(device, 1 << 20);
        let budget = 3 * heap.charge_bytes(PTX.len() as u64);
        let cache: Cache<u32, Module> = Cache::new(&heap, budget).unwrap();
        let streams: Vec<Stream> = (0..4).map(|_| heap.new_stream().unwrap()).collect();
        let mut data: Vec<DevBox<[u32]>> =
            streams.iter().map(|stream| heap.alloc_slice(32).unwrap().zero(stream).unwrap()).collect();
        let mut launched = [0; 4];
        for round in 0..48_u32 {
            let at = round as usize % 4;
            let stream = &streams[at];
            let key = if round % 5 == 0 { 0 } else { round % 12 };
            let lease = match cache.lookup(&key, stream).unwrap() {
                Lookup::Hit(lease) => lease,
                Lookup::Miss(vacancy) => vacancy.load(PTX.as_bytes()).map_err(Returned::into_error).unwrap().lease,
            };
            let kernel = lease.view().function("add_one").unwrap();
            add_one(&kernel, &mut data[at].on_mut(stream).unwrap()).unwrap();
            launched[at] += 1;
            assert!(heap.ledger().module_bytes <= budget, "round {round}");
            assert!(session.counters().modules <= 3, "round {round}");
            cache.validate();
            heap.validate();
        }
        assert!(cache.stats().evictions > 10 && cache.stats().hits > 0);
        for (data, launched) in data.iter().zip(launched) {
            let mut words = [0; 32];
            data.download_to(&mut words).unwrap();
            assert_eq!(words, [launched; 32]);
        }
        drop((cache, data));
        heap.close().unwrap();
    });
}

#[test]
fn an_evicted_module_comes_back_and_can_be_revived_or_freed() {
    in_every_mode(|session, device| {
        let heap = heap(device, 1 << 20);
        let stream = heap.new_stream().unwrap();
        let cache: Cache<u32, Module> = Cache::new(&heap, heap.charge_bytes(PTX.len() as u64)).unwrap();
        cache.insert(1, heap.load_module(PTX.as_bytes()).unwrap()).unwrap().free_all().unwrap();
        let mut evicted = cache.insert(2, heap.load_module(PTX.as_bytes()).unwrap()).unwrap();
        let (key, module) = evicted.next().unwrap();
        assert_eq!(key, 1);
        let module = module.revive(&stream).unwrap();
        spin(&module, &stream);
        module.free().unwrap();
        let Removed::Taken(2, module) = cache.remove(&2) else { panic!("it is resident and unleased") };
        module.free().unwrap();
        heap.settle().unwrap();
        assert_eq!(session.counters().modules, 0);
        drop(cache);
        heap.close().unwrap();
    });
}

/// A unit of code and its constants, admitted, leased and evicted together.
#[test]
fn a_module_and_its_memory_are_one_resident() {
    in_every_mode(|_, device| {
        let heap = heap(device, 1 << 20);
        let stream = heap.new_stream().unwrap();
        let charge = heap.charge_bytes(PTX.len() as u64) + 256;
        let cache: Cache<u32, (Module, DevBox<[u32]>)> = Cache::new(&heap, 2 * charge).unwrap();
        for key in 0..5 {
            let Lookup::Miss(vacancy) = cache.lookup(&key, &stream).unwrap() else { panic!("it is new") };
            let (reservation, evicted) = vacancy.reserve(charge).map_err(Returned::into_error).unwrap();
            evicted.free_all().unwrap();
            let module = heap.load_module(PTX.as_bytes()).unwrap();
            let mut data = heap.alloc_slice::<u32>(8).unwrap().zero(&stream).unwrap();
            let kernel = module.on(&stream).unwrap().function("fill").unwrap();
            fill(&kernel, &mut data.on_mut(&stream).unwrap(), key).unwrap();
            let lease = reservation.commit((module, data)).map_err(Returned::into_error).unwrap();
            let (code, data) = lease.view();
            code.function("read").unwrap();
            let mut words = [9; 8];
            data.download_to(&mut words).unwrap();
            assert_eq!(words, [key; 8]);
        }
        drop(cache);
        heap.close().unwrap();
    });
}

#[test]
fn what_is_no_module_is_refused_before_the_driver_sees_it() {
    let session = begin(Mode::Plain);
    let heap = heap(&DeviceRef::new(hapax::CudaDevice::open(0).unwrap()), 4096);
    for bad in [&b""[..], b"\x7fELF\x02\x01", &[0x90; 64], b".version\x00 7.0", &[0x50, 0xed, 0x55, 0xba, 1, 0]] {
        let refused = heap.load_module(bad).unwrap_err();
        assert!(matches!(refused, Error::BadImage(_)), "{refused}");
    }
    let large = heap.load_module(&[b' '; 5000]).unwrap_err();
    assert!(matches!(large, Error::OutOfMemory { device_refused: false, .. }), "{large}");
    assert_eq!(session.calls("cuModuleLoadData"), 0);
    session.fail("cuModuleLoadData", 1, Code::OUT_OF_MEMORY);
    let refused = heap.load_module(PTX.as_bytes()).unwrap_err();
    assert!(matches!(refused, Error::OutOfMemory { device_refused: true, .. }), "{refused}");
    let module = heap.load_module(PTX.as_bytes()).unwrap();
    let stream = heap.new_stream().unwrap();
    let refused = module.on(&stream).unwrap().function("no_such_kernel").map(drop).unwrap_err();
    assert!(refused.to_string().contains("no_such_kernel"), "{refused}");
    assert!(matches!(module.on(&stream).unwrap().function("a\0b").map(drop).unwrap_err(), Error::BadOption(_)));
    drop((module, stream));
    heap.close().unwrap();
}

/// The slabs hold all of the limit, but nothing lives in them.
#[test]
fn empty_slabs_make_room_for_a_module() {
    let session = begin(Mode::Plain);
    let device = DeviceRef::new(hapax::CudaDevice::open(0).unwrap());
    let heap = Heap::new(&device, HeapOptions::new(4096).slab_bytes(4096)).unwrap();
    drop(heap.alloc_slice::<u8>(4096).unwrap());
    assert_eq!(heap.ledger().slab_bytes, 4096);
    let module = heap.load_module(PTX.as_bytes()).unwrap();
    assert_eq!(heap.ledger().slab_bytes, 0);
    let refused = heap.alloc_slice::<u8>(4096).unwrap_err();
    assert!(matches!(refused, Error::OutOfMemory { .. }), "{refused}");
    heap.validate();
    drop(module);
    drop(heap.alloc_slice::<u8>(4096).unwrap());
    heap.close().unwrap();
    assert_eq!(session.counters().live_bytes, 0);
}

/// Neither the limit nor anything that lives is in the way, but the heap holds what the card lacks.
#[test]
fn what_a_heap_holds_for_nothing_makes_room_on_the_card_for_a_module() {
    let session = begin(Mode::Plain);
    let heap = heap(&DeviceRef::new(hapax::CudaDevice::open(0).unwrap()), 1 << 20);
    drop(heap.alloc_slice::<u8>(4096).unwrap());
    assert!(heap.ledger().slab_bytes > 0);
    session.fail("cuModuleLoadData", 1, Code::OUT_OF_MEMORY);
    let module = heap.load_module(PTX.as_bytes()).unwrap();
    assert_eq!(heap.ledger().slab_bytes, 0);
    drop(module); // not unloaded yet
    session.fail("cuModuleLoadData", 1, Code::OUT_OF_MEMORY);
    let module = heap.load_module(PTX.as_bytes()).unwrap();
    assert_eq!(session.counters().modules, 1);
    session.fail("cuModuleLoadData", 1, Code::OUT_OF_MEMORY);
    let refused = heap.load_module(PTX.as_bytes()).unwrap_err();
    assert!(matches!(refused, Error::OutOfMemory { device_refused: true, .. }), "{refused}");
    drop(module);
    heap.close().unwrap();
}

#[test]
fn every_call_of_a_session_with_modules_may_fail_and_nothing_is_lost() {
    let session_of = |device: &DeviceRef| -> Result<(), Error> {
        let heap = Heap::new(device, HeapOptions::new(1 << 16).slab_bytes(1 << 14))?;
        let stream = heap.new_stream()?;
        let cache: Cache<u32, Module> = Cache::new(&heap, 2 * heap.charge_bytes(PTX.len() as u64))?;
        let mut data = heap.alloc_slice::<u32>(32)?.zero(&stream)?;
        for key in 0..4 {
            let lease = match cache.lookup(&key, &stream)? {
                Lookup::Hit(lease) => lease,
                Lookup::Miss(vacancy) => vacancy.load(PTX.as_bytes())?.lease,
            };
            let kernel = lease.view().function("add_one")?;
            kernel.allow_shared_bytes(1024)?;
            add_one(&kernel, &mut data.on_mut(&stream)?)?;
        }
        drop((cache, data));
        heap.settle()?;
        Ok(heap.close()?)
    };
    for nth in 1.. {
        let session = begin(Mode::Lazy);
        let (device, control) = FaultDevice::new(hapax::CudaDevice::open(0).unwrap());
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
        assert_eq!(session.counters().modules, 0, "call {nth} failed: {ended:?}");
        if !reached {
            assert!(ended.is_ok() && nth > 30, "the whole session of {nth} calls, undisturbed: {ended:?}");
            break;
        }
    }
}
