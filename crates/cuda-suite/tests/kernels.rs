//! Kernels from CUDA C++ to a launch: compiled by the real NVRTC, kept in a store, resident under a budget on the stand-in
//! driver, which finds the kernels in the real CUBIN.
//!
//! Skips where there is no libnvrtc, unless HAPAX_REQUIRE_NVRTC is set.

mod rig;

use hapax::nvrtc::{Kernel, KernelCache, KernelCompiler, KernelError, Nvrtc, NvrtcError};
use hapax::{CodeStore, Error, Heap, Launch, LaunchShape, MemoryStore, Stream};
use rig::{heap, in_every_mode};
use std::sync::Arc;

const SAXPY: &str = r#"
extern "C" __global__ void saxpy(unsigned long long n, float a, const float *x, float *y) {
    unsigned long long i = blockIdx.x * (unsigned long long)blockDim.x + threadIdx.x;
    if (i < n) y[i] += a * x[i];
}
"#;

fn nvrtc() -> Option<Nvrtc> {
    match Nvrtc::find() {
        Ok(nvrtc) => Some(nvrtc),
        Err(absent) => {
            assert!(std::env::var_os("HAPAX_REQUIRE_NVRTC").is_none(), "{absent}");
            println!("skipped: {absent}");
            None
        }
    }
}

fn kernel(name: &str) -> Kernel {
    Kernel::new(name, SAXPY, "sm_90".parse().unwrap())
}

fn kernels(nvrtc: Nvrtc, store: &MemoryStore, heap: &Heap, budget_bytes: u64) -> KernelCache {
    let compiler = KernelCompiler::new(nvrtc, CodeStore::over(Arc::new(store.clone())));
    KernelCache::new(compiler, heap, budget_bytes).unwrap()
}

/// y += 2 x over 256 numbers, all 1 and all 3.
fn run(kernels: &KernelCache, kernel: &Kernel, heap: &Heap, stream: &Stream) -> Vec<f32> {
    let lease = kernels.get(kernel, stream).unwrap();
    let x = heap.alloc_slice::<f32>(256).unwrap().upload_from(&[1.0; 256]).unwrap();
    let mut y = heap.alloc_slice::<f32>(256).unwrap().upload_from(&[3.0; 256]).unwrap();
    let (x_view, mut y_view) = (x.on(stream).unwrap(), y.on_mut(stream).unwrap());
    let saxpy = lease.function("saxpy").unwrap();
    let launch = Launch::new(&saxpy, LaunchShape::linear(256, 64)).value(256u64).value(2.0f32);
    // SAFETY: saxpy takes (u64, float, const float *, float *) and stays within 256 elements.
    unsafe { launch.memory(&x_view).memory(&mut y_view).launch() }.unwrap();
    let mut result = vec![0.0; 256];
    y.download_to(&mut result).unwrap();
    x.free().unwrap();
    y.free().unwrap();
    result
}

#[test]
fn a_kernel_is_compiled_once_a_machine_and_loaded_once_a_process() {
    if nvrtc().is_none() {
        return;
    }
    let store = MemoryStore::new(64 << 20);
    in_every_mode(|session, device| {
        let heap = heap(device, 1 << 20);
        let stream = heap.new_stream().unwrap();
        let kernels = kernels(nvrtc().unwrap(), &store, &heap, 1 << 18);
        for _ in 0..3 {
            assert_eq!(run(&kernels, &kernel("saxpy.cu"), &heap, &stream), [5.0; 256]);
        }
        assert_eq!(session.counters().modules, 1);
        let stats = kernels.modules().stats();
        assert_eq!((stats.hits, stats.misses, stats.entries), (2, 1, 1));
        drop((kernels, stream));
        heap.settle().unwrap();
        heap.close().unwrap();
    });
    let last = KernelCompiler::new(nvrtc().unwrap(), CodeStore::over(Arc::new(store)));
    last.image(&kernel("saxpy.cu")).unwrap();
    assert!(!last.nvrtc().is_loaded(), "the image is stored");
}

#[test]
fn kernels_in_flight_keep_their_modules_while_others_push_them_out() {
    if nvrtc().is_none() {
        return;
    }
    let store = MemoryStore::new(64 << 20);
    let sources = ["a.cu", "b.cu", "c.cu", "d.cu"].map(kernel);
    let image_bytes = {
        let compiler = KernelCompiler::new(nvrtc().unwrap(), CodeStore::over(Arc::new(store.clone())));
        sources.iter().map(|kernel| compiler.image(kernel).unwrap().len() as u64).max().unwrap()
    };
    in_every_mode(|session, device| {
        let heap = heap(device, 1 << 20);
        let stream = heap.new_stream().unwrap();
        let budget_bytes = 2 * heap.charge_bytes(image_bytes);
        let kernels = kernels(nvrtc().unwrap(), &store, &heap, budget_bytes);
        for round in 0..3 {
            for kernel in &sources {
                assert_eq!(run(&kernels, kernel, &heap, &stream), [5.0; 256], "round {round}");
                assert!(session.counters().modules <= 2, "two images fill the budget");
            }
        }
        let stats = kernels.modules().stats();
        assert_eq!((stats.misses, stats.evictions), (12, 10));
        drop((kernels, stream));
        heap.settle().unwrap();
        heap.close().unwrap();
    });
}

#[test]
fn a_kernel_beyond_the_budget_is_refused_and_one_that_does_not_compile_says_why() {
    if nvrtc().is_none() {
        return;
    }
    in_every_mode(|_, device| {
        let heap = heap(device, 1 << 20);
        let stream = heap.new_stream().unwrap();
        let kernels = kernels(nvrtc().unwrap(), &MemoryStore::new(64 << 20), &heap, 256);
        let refused = kernels.get(&kernel("saxpy.cu"), &stream).unwrap_err();
        assert!(matches!(&refused, KernelError::Device(error) if error.is_refusal()), "{refused}");
        let broken = Kernel::new("broken.cu", "__global__ void k() { x; }", "sm_90".parse().unwrap());
        let error = kernels.get(&broken, &stream).unwrap_err();
        assert!(matches!(&error, KernelError::Compile(NvrtcError::Compile { .. })), "{error}");
        assert!(error.to_string().starts_with("broken.cu:1: error"), "{error}");
        // Neither left its vacancy behind.
        assert!(kernels.get(&broken, &stream).is_err());
        drop((kernels, stream));
        heap.close().unwrap();
    });
}

#[test]
fn templates_are_found_by_their_name_expressions_also_after_eviction() {
    if nvrtc().is_none() {
        return;
    }
    in_every_mode(|_, device| {
        let heap = heap(device, 1 << 20);
        let stream = heap.new_stream().unwrap();
        let kernels = kernels(nvrtc().unwrap(), &MemoryStore::new(64 << 20), &heap, 1 << 18);
        let source = "template <class T> __global__ void twice(T *x) { x[threadIdx.x] *= 2; }";
        let twice = Kernel::new("twice.cu", source, "sm_90".parse().unwrap()).name_expression("twice<float>");
        for _ in 0..2 {
            let lease = kernels.get(&twice, &stream).unwrap();
            lease.function("twice<float>").unwrap();
            lease.function("_Z5twiceIfEvPT_").unwrap();
            assert!(matches!(lease.function("twice<int>"), Err(Error::Device { .. })));
            drop(lease);
            kernels.modules().clear().free_all().unwrap();
        }
        drop((kernels, stream));
        heap.settle().unwrap();
        heap.close().unwrap();
    });
}
