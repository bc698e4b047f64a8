//! The stand-in's other end, for the suite that chooses its schedule itself: kernels that read, write and stand in
//! the way, and running them when the test says so, without the host learning of it.
#![expect(unsafe_code, reason = "makes driver calls")]

use super::driver::{Chosen, call, chosen};
use cudarc::driver::sys::{CUcontext, CUfunction, CUmodule, CUstream};
use hapax::Stream;
use std::ffi::{CStr, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a test does to the late device behind hapax's back.
#[derive(Clone)]
pub struct Control(Arc<Bench>);

struct Bench {
    stand_in: cuda_standin::Control,
    context: CUcontext,
    module: CUmodule,
    copy: CUfunction,
    fill: CUfunction,
    /// Device memory in which kernels leave what they saw, handed out once, from the start.
    scratch: u64,
    used: AtomicU64,
}

// SAFETY: driver handles, which any thread may use once the context is bound there; each use binds it.
unsafe impl Send for Bench {}
// SAFETY: as above; the stand-in locks for itself.
unsafe impl Sync for Bench {}

const SCRATCH_BYTES: u64 = 64 << 10;

pub fn stand_in() -> cuda_standin::Control {
    assert_eq!(chosen(), Chosen::StandIn, "this test chooses when work runs, which only the stand-in lets it");
    cuda_standin::Control::install().expect("a session has begun")
}

impl Control {
    pub fn new(stand_in: cuda_standin::Control) -> Control {
        let context = call!(cuDevicePrimaryCtxRetain(-> CUcontext, 0)).unwrap();
        call!(cuCtxSetCurrent(context)).unwrap();
        let image = c"cuda-standin\nkernel copy\nkernel fill\n";
        let module = call!(cuModuleLoadData(-> CUmodule, image.as_ptr().cast())).unwrap();
        let kernel = |name: &CStr| call!(cuModuleGetFunction(-> CUfunction, module, name.as_ptr())).unwrap();
        let (copy, fill) = (kernel(c"copy"), kernel(c"fill"));
        let scratch = call!(cuMemAlloc_v2(-> u64, SCRATCH_BYTES as usize)).unwrap();
        let used = AtomicU64::new(0);
        Control(Arc::new(Bench { stand_in, context, module, copy, fill, scratch, used }))
    }

    /// Queues a kernel that reads. What it saw can be had once it ran.
    pub fn reads(&self, stream: &Stream, address: u64, len: usize) -> Seen {
        let seen = self.slot(len);
        self.0.launch(self.0.copy, stream, &[seen.at, address, len as u64]);
        seen
    }

    /// Queues a kernel that writes.
    pub fn writes(&self, stream: &Stream, address: u64, contents: &'static [u8; 4]) {
        self.0.launch(self.0.fill, stream, &[address, 1, u32::from_le_bytes(*contents).into()]);
    }

    /// Queues a kernel that stands in the way. There is something to be had once it ran.
    pub fn stands(&self, stream: &Stream) -> Seen {
        let seen = self.slot(4);
        self.0.launch(self.0.fill, stream, &[seen.at, 1, 1]);
        seen
    }

    /// Runs all that is queued.
    pub fn run_all(&self) {
        self.0.stand_in.run(u64::MAX);
    }

    /// Runs what is queued on `stream` now, and what that waits for on other streams.
    pub fn run_stream(&self, stream: &Stream) {
        self.0.stand_in.run_stream(stream.raw().0);
    }

    pub fn pending(&self) -> usize {
        self.0.stand_in.counters().pending as usize
    }

    /// Driver calls made so far, but for those that bind the context and that ask whether a stream is being
    /// captured: these touch no device.
    pub fn calls(&self) -> u64 {
        let without = ["cuCtxSetCurrent", "cuStreamIsCapturing"].map(|call| self.0.stand_in.calls(call));
        self.all_calls() - without.iter().sum::<u64>()
    }

    pub fn all_calls(&self) -> u64 {
        self.0.stand_in.counters().calls
    }

    /// Device memory as it is now.
    pub fn read(&self, address: u64, len: usize) -> Vec<u8> {
        self.0.stand_in.peek(address, len).expect("device memory")
    }

    pub fn memory_bytes(&self) -> u64 {
        self.0.stand_in.counters().live_bytes - SCRATCH_BYTES
    }

    pub fn page_locked_bytes(&self) -> u64 {
        self.0.stand_in.counters().page_locked_bytes
    }

    pub fn violations(&self) -> Vec<String> {
        self.0.stand_in.violations()
    }

    fn slot(&self, len: usize) -> Seen {
        let at = self.0.used.fetch_add(len as u64, Ordering::Relaxed);
        assert!(at + len as u64 <= SCRATCH_BYTES, "a test with more kernels than it has scratch memory");
        Seen { control: self.clone(), at: self.0.scratch + at, len }
    }
}

impl Bench {
    fn launch(&self, kernel: CUfunction, stream: &Stream, arguments: &[u64]) {
        let stream: CUstream = std::ptr::with_exposed_provenance_mut(stream.raw().0 as usize);
        let mut arguments: Vec<*mut c_void> =
            arguments.iter().map(|value| (&raw const *value).cast_mut().cast()).collect();
        call!(cuCtxSetCurrent(self.context)).unwrap();
        let arguments = arguments.as_mut_ptr();
        call!(cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, stream, arguments, std::ptr::null_mut())).unwrap();
    }
}

/// A test may go on with the driver lost, so nothing here insists.
impl Drop for Bench {
    fn drop(&mut self) {
        self.stand_in.run(u64::MAX);
        let _ = call!(cuCtxSetCurrent(self.context));
        let _ = call!(cuCtxSynchronize());
        let _ = call!(cuMemFree_v2(self.scratch));
        let _ = call!(cuModuleUnload(self.module));
        let _ = call!(cuDevicePrimaryCtxRelease_v2(0));
    }
}

/// What a kernel will have seen.
pub struct Seen {
    control: Control,
    at: u64,
    len: usize,
}

#[derive(Debug)]
pub struct HasNotRun;

impl Seen {
    /// No test puts the poison of fresh memory where it looks.
    pub fn try_recv(&self) -> Result<Vec<u8>, HasNotRun> {
        let seen = self.control.read(self.at, self.len);
        if seen.contains(&super::POISON) { Err(HasNotRun) } else { Ok(seen) }
    }
}
