//! A card's primary context and what the contract suite and the figures do in it. Knows nothing of hapax.

use super::{Chosen, call, chosen};
use cudarc::driver::sys;
use std::ffi::{CString, c_void};

pub type Stream = sys::CUstream;
pub type Event = sys::CUevent;

pub const NON_BLOCKING: u32 = 1;
pub const NO_TIMING: u32 = 2;
pub const PORTABLE: u32 = 1;

pub const NOT_READY: u32 = 600;

/// The first card, its context current on the thread that made it. Dropped, it waits and releases.
pub struct Gpu {
    pub context: sys::CUcontext,
    pub module: sys::CUmodule,
}

// SAFETY: driver handles, which serve every thread that has bound the context.
unsafe impl Send for Gpu {}
// SAFETY: as above; the driver locks for itself.
unsafe impl Sync for Gpu {}

impl Gpu {
    pub fn open() -> Gpu {
        call!(cuInit(0)).unwrap();
        let context = call!(cuDevicePrimaryCtxRetain(-> sys::CUcontext, 0)).unwrap();
        call!(cuCtxSetCurrent(context)).unwrap();
        let gpu = Gpu { context, module: load() };
        // CUDA loads a kernel when it is first asked for, unless told otherwise, and may wait for all that runs then. Now
        // nothing runs; later a test would take that wait for one of its own.
        for kernel in ["fill", "copy", "read", "spin"] {
            function(gpu.module, kernel);
        }
        gpu
    }

    pub fn stream(&self) -> Stream {
        call!(cuStreamCreate(-> Stream, NON_BLOCKING)).unwrap()
    }

    pub fn end(&self, streams: &[Stream]) {
        for stream in streams {
            call!(cuStreamDestroy_v2(*stream)).unwrap();
        }
    }

    pub fn event(&self) -> Event {
        call!(cuEventCreate(-> Event, NO_TIMING)).unwrap()
    }

    /// An event recorded on a stream now.
    pub fn mark(&self, stream: Stream) -> Event {
        let event = self.event();
        call!(cuEventRecord(event, stream)).unwrap();
        event
    }

    pub fn forget(&self, event: Event) {
        call!(cuEventDestroy_v2(event)).unwrap();
    }

    pub fn sync(&self, stream: Stream) {
        call!(cuStreamSynchronize(stream)).unwrap();
    }

    pub fn alloc(&self, bytes: usize) -> u64 {
        call!(cuMemAlloc_v2(-> u64, bytes)).unwrap()
    }

    pub fn free(&self, addresses: &[u64]) {
        for address in addresses {
            call!(cuMemFree_v2(*address)).unwrap();
        }
    }

    pub fn page_locked(&self, bytes: usize) -> *mut u8 {
        call!(cuMemHostAlloc(-> *mut c_void, bytes, PORTABLE)).unwrap().cast()
    }

    pub fn free_page_locked(&self, memory: *mut u8) {
        call!(cuMemFreeHost(memory.cast())).unwrap();
    }

    pub fn fill(&self, to: u64, words: u64, value: u32, stream: Stream) {
        self.launch("fill", &[to, words, value.into()], stream);
    }

    /// Keeps a stream busy: on a card for some tens of milliseconds, on the stand-in for some calls.
    pub fn busy(&self, stream: Stream) {
        let turns = if chosen() == Chosen::Card { 2_000_000 } else { 3 };
        self.launch("spin", &[turns], stream);
    }

    pub fn launch(&self, kernel: &str, arguments: &[u64], stream: Stream) {
        launch(function(self.module, kernel), 1, arguments, stream).unwrap();
    }

    /// What device memory holds, once everything is over.
    pub fn contents(&self, at: u64, bytes: usize) -> Vec<u8> {
        call!(cuCtxSynchronize()).unwrap();
        let mut back = vec![0; bytes];
        call!(cuMemcpyDtoH_v2(back.as_mut_ptr().cast(), at, bytes)).unwrap();
        call!(cuCtxSynchronize()).unwrap();
        back
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        let _ = call!(cuCtxSetCurrent(self.context));
        let _ = call!(cuCtxSynchronize());
        let _ = call!(cuModuleUnload(self.module));
        let _ = call!(cuDevicePrimaryCtxRelease_v2(0));
    }
}

pub fn load() -> sys::CUmodule {
    let text = CString::new(include_str!("kernels.ptx")).expect("text");
    call!(cuModuleLoadData(-> sys::CUmodule, text.as_ptr().cast())).expect("the driver takes the kernels' PTX")
}

pub fn function(module: sys::CUmodule, kernel: &str) -> sys::CUfunction {
    let name = CString::new(kernel).expect("a name");
    call!(cuModuleGetFunction(-> sys::CUfunction, module, name.as_ptr())).unwrap()
}

/// Launches in blocks of one warp. Arguments are passed as the lower bytes of 64 bits, which fits every width.
#[inline]
pub fn launch(kernel: sys::CUfunction, blocks: u32, arguments: &[u64], stream: Stream) -> Result<(), u32> {
    let mut pointers = [std::ptr::null_mut::<c_void>(); 4];
    for (pointer, value) in pointers.iter_mut().zip(arguments) {
        *pointer = (&raw const *value).cast_mut().cast();
    }
    call!(cuLaunchKernel(kernel, blocks, 1, 1, 32, 1, 1, 0, stream, pointers.as_mut_ptr(), std::ptr::null_mut()))
}
