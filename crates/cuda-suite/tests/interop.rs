//! What hapax does with kernels, modules and cudarc's objects, on the stand-in in each of its modes or, with `HAPAX_CUDA=card`, on
//! this machine's own card: the same kernels, which are written as PTX that every card takes.

#[allow(dead_code, reason = "shared with the other suites and the figures")]
mod driver;

use cuda_standin::{Mode, Session};
use cudarc::driver::CudaContext;
use driver::{Chosen, assert_is_loaded, chosen};
use hapax::{
    Cache, CudaDevice, DevBox, DeviceRef, Error, Function, Heap, HeapOptions, Launch, Lookup, Module, Returned,
};
use hapax::{KernelMemory, LaunchShape, VramCache};
use std::sync::{Mutex, PoisonError};

const PTX: &[u8] = include_bytes!("driver/kernels.ptx");
const WORDS: usize = 10_000;

fn on_the_driver(test: impl Fn(&DeviceRef)) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let run = || {
        let device = DeviceRef::new(CudaDevice::open(0).unwrap_or_else(|absent| panic!("{absent}")));
        test(&device);
        device.close().unwrap();
    };
    if chosen() == Chosen::Card {
        assert_is_loaded(Chosen::Card);
        return run();
    }
    for mode in [Mode::Plain, Mode::Late(1), Mode::Late(20), Mode::Lazy] {
        let session = Session::begin().expect("the stand-in was built with this test");
        assert_is_loaded(Chosen::StandIn);
        session.set_mode(mode);
        run();
    }
}

fn heap(device: &DeviceRef) -> Heap {
    Heap::new(device, HeapOptions::new(4 << 20).slab_bytes(1 << 20)).unwrap()
}

fn fill<'a>(kernel: &Function<'a>, to: impl KernelMemory<'a>, value: u32) {
    let launch =
        Launch::new(kernel, LaunchShape::linear(WORDS as u64, 128)).memory(to).value(WORDS as u64).value(value);
    // SAFETY: fill takes an address, a count of words and a word, and writes so many words there.
    unsafe { launch.launch() }.unwrap();
}

fn copy<'a>(kernel: &Function<'a>, to: impl KernelMemory<'a>, from: impl KernelMemory<'a>) {
    let shape = LaunchShape::linear(WORDS as u64, 128);
    let launch = Launch::new(kernel, shape).memory(to).memory(from).value(4 * WORDS as u64);
    // SAFETY: copy takes two addresses and a count of bytes, reads so many at the second and writes them at the first.
    unsafe { launch.launch() }.unwrap();
}

fn words(handle: &DevBox<[u32]>) -> Vec<u32> {
    let mut words = vec![0; handle.len()];
    handle.download_to(&mut words).unwrap();
    words
}

#[test]
fn kernels_of_one_module_are_ordered_over_two_streams_by_their_views() {
    on_the_driver(|device| {
        let heap = heap(device);
        let (a, b) = (heap.new_stream().unwrap(), heap.new_stream().unwrap());
        let module = heap.load_module(PTX).unwrap();
        let mut one = heap.alloc_slice::<u32>(WORDS).unwrap().zero(&a).unwrap();
        let mut two = heap.alloc_slice::<u32>(WORDS).unwrap().zero(&b).unwrap();
        for round in 1..20 {
            fill(&module.on(&a).unwrap().function("fill").unwrap(), &mut one.on_mut(&a).unwrap(), round);
            let kernel = module.on(&b).unwrap().function("copy").unwrap();
            copy(&kernel, &mut two.on_mut(&b).unwrap(), &one.on(&b).unwrap());
        }
        assert!(words(&two) == [19; WORDS]);
        let kernel = module.on(&b).unwrap().function("fill").unwrap();
        let view = one.on(&a).unwrap();
        // SAFETY: it is refused.
        let refused = unsafe { Launch::new(&kernel, LaunchShape::linear(1, 32)).memory(&view).launch() };
        assert_eq!(refused.unwrap_err(), Error::WrongStream { argument: 0 });
        assert!(module.on(&a).unwrap().function("none").unwrap_err().to_string().contains("none"));
        drop((one, two, module));
        heap.close().unwrap();
    });
}

/// One module fits into the budget, and each is pushed out while its kernel may still run.
#[test]
fn modules_are_loaded_launched_and_pushed_out_with_kernels_in_flight() {
    on_the_driver(|device| {
        let heap = heap(device);
        let streams = [heap.new_stream().unwrap(), heap.new_stream().unwrap()];
        let cache: Cache<u32, Module> = Cache::new(&heap, heap.charge_bytes(PTX.len() as u64)).unwrap();
        let mut data = heap.alloc_slice::<u32>(WORDS).unwrap().zero(&streams[0]).unwrap();
        for key in 0..12 {
            let stream = &streams[key as usize % 2];
            let Lookup::Miss(vacancy) = cache.lookup(&key, stream).unwrap() else { panic!("it is new") };
            let lease = vacancy.load(PTX).map_err(Returned::into_error).unwrap().lease;
            fill(&lease.view().function("fill").unwrap(), &mut data.on_mut(stream).unwrap(), key);
        }
        assert!(words(&data) == [11; WORDS]);
        assert_eq!(cache.stats().evictions, 11);
        drop((cache, data));
        heap.close().unwrap();
    });
}

#[test]
fn leases_read_what_another_stream_wrote_and_outlive_no_reuse() {
    on_the_driver(|device| {
        let heap = heap(device);
        let (a, b) = (heap.new_stream().unwrap(), heap.new_stream().unwrap());
        let module = heap.load_module(PTX).unwrap();
        let cache: VramCache<u32, [u32]> = VramCache::new(&heap, 2 * heap.charge_bytes(4 * WORDS as u64)).unwrap();
        let mut to = heap.alloc_slice::<u32>(WORDS).unwrap().zero(&a).unwrap();
        for key in 0..12 {
            let mut value = heap.alloc_slice::<u32>(WORDS).unwrap().zero(&a).unwrap();
            fill(&module.on(&a).unwrap().function("fill").unwrap(), &mut value.on_mut(&a).unwrap(), key);
            cache.insert(key, value).map_err(Returned::into_error).unwrap().free_all().unwrap();
            let lease = cache.get(&key, &b).unwrap().expect("just put in");
            copy(&module.on(&b).unwrap().function("copy").unwrap(), &mut to.on_mut(&b).unwrap(), &lease);
            drop(lease);
            assert!(words(&to) == [key; WORDS], "entry {key}");
        }
        drop((cache, to, module));
        heap.close().unwrap();
    });
}

#[test]
fn cudarcs_streams_and_slices_come_in_and_go_back() {
    on_the_driver(|device| {
        let heap = heap(device);
        let context = CudaContext::new(0).unwrap();
        let (theirs, own) = (context.new_stream().unwrap(), heap.new_stream().unwrap());
        let adopted = device.adopt_cuda_stream(&theirs).unwrap();
        let module = heap.load_module(PTX).unwrap();
        let slice = theirs.alloc_zeros::<u32>(WORDS).unwrap();
        let mut handle = heap.adopt_cuda_slice(slice).unwrap();
        fill(&module.on(&own).unwrap().function("fill").unwrap(), &mut handle.on_mut(&own).unwrap(), 3);
        let mut beside = heap.alloc_slice::<u32>(WORDS).unwrap().zero(&own).unwrap();
        let kernel = module.on(&adopted).unwrap().function("copy").unwrap();
        copy(&kernel, &mut beside.on_mut(&adopted).unwrap(), &handle.on(&adopted).unwrap());
        assert!(words(&beside) == [3; WORDS]);
        let slice = handle.into_cuda_slice().unwrap();
        let back = theirs.clone_dtoh(&slice).unwrap();
        theirs.synchronize().unwrap(); // cudarc does not wait for copies to a Vec
        assert!(back == [3; WORDS]);
        drop(heap.adopt_cuda_slice(slice).unwrap()); // and freed by us
        drop((beside, module, adopted, own));
        heap.close().unwrap();
        context.synchronize().unwrap();
    });
}
