//! Driver calls as safe functions: with the stand-in loaded, no argument does worse than being reported.
#![allow(dead_code, reason = "each test program uses its part")]

use cuda_standin::{Code, Mode, Session};
use cudarc::driver::sys;
use std::ffi::{CString, c_void};

pub const MODES: [Mode; 4] = [Mode::Plain, Mode::Late(1), Mode::Late(5), Mode::Lazy];

pub type Result<T = ()> = std::result::Result<T, Code>;
pub type Stream = sys::CUstream;
pub type Event = sys::CUevent;

pub const LEGACY: Stream = std::ptr::null_mut();
pub const PER_THREAD: Stream = 2 as Stream;

macro_rules! call {
    ($name:ident($($argument:expr),* $(,)?)) => {{
        // SAFETY: the stand-in checks what it is given; out pointers come from references.
        let code = unsafe { cudarc::driver::sys::$name($($argument),*) };
        match code as u32 {
            0 => Ok(()),
            code => Err(cuda_standin::Code(code)),
        }
    }};
    ($name:ident(-> $out:ty $(, $argument:expr)* $(,)?)) => {{
        let mut out = std::mem::MaybeUninit::<$out>::uninit();
        // SAFETY: as above.
        let code = unsafe { cudarc::driver::sys::$name(out.as_mut_ptr() $(, $argument)*) };
        match code as u32 {
            // SAFETY: a call that succeeds has written its result.
            0 => Ok(unsafe { out.assume_init() }),
            code => Err(cuda_standin::Code(code)),
        }
    }};
}
pub(crate) use call;

/// A device with its primary context current on this thread; releases it when dropped.
pub struct Gpu {
    pub context: sys::CUcontext,
    device: i32,
}

impl Gpu {
    /// Takes the session as proof that the stand-in is loaded.
    pub fn new(_session: &Session) -> Gpu {
        Gpu::on(0)
    }

    pub fn on(device: i32) -> Gpu {
        call!(cuInit(0)).unwrap();
        let context = call!(cuDevicePrimaryCtxRetain(-> sys::CUcontext, device)).unwrap();
        let gpu = Gpu { context, device };
        gpu.bind();
        gpu
    }

    pub fn bind(&self) {
        call!(cuCtxSetCurrent(self.context)).unwrap();
    }

    pub fn stream(&self) -> Stream {
        call!(cuStreamCreate(-> Stream, 1)).unwrap()
    }

    pub fn blocking_stream(&self) -> Stream {
        call!(cuStreamCreate(-> Stream, 0)).unwrap()
    }

    pub fn event(&self) -> Event {
        call!(cuEventCreate(-> Event, 2)).unwrap()
    }

    /// An event recorded on a stream now.
    pub fn mark(&self, stream: Stream) -> Event {
        let event = self.event();
        call!(cuEventRecord(event, stream)).unwrap();
        event
    }

    /// Lets `waiter` wait for all that `stream` holds.
    pub fn order(&self, stream: Stream, waiter: Stream) {
        let event = self.mark(stream);
        call!(cuStreamWaitEvent(waiter, event, 0)).unwrap();
        call!(cuEventDestroy_v2(event)).unwrap();
    }

    pub fn sync(&self, stream: Stream) {
        call!(cuStreamSynchronize(stream)).unwrap();
    }

    pub fn alloc(&self, bytes: usize) -> u64 {
        call!(cuMemAlloc_v2(-> u64, bytes)).unwrap()
    }

    pub fn free(&self, address: u64) {
        call!(cuMemFree_v2(address)).unwrap();
    }

    pub fn alloc_host(&self, bytes: usize) -> *mut u8 {
        call!(cuMemHostAlloc(-> *mut c_void, bytes, 0)).unwrap().cast()
    }

    pub fn free_host(&self, address: *mut u8) -> Result {
        call!(cuMemFreeHost(address.cast()))
    }

    pub fn fill(&self, to: u64, bytes: usize, stream: Stream) {
        call!(cuMemsetD8Async(to, 7, bytes, stream)).unwrap();
    }

    /// A kernel that reads.
    pub fn read(&self, at: u64, bytes: u64, stream: Stream) {
        self.launch("read", &[at, bytes], stream).unwrap();
    }

    /// Launches a built-in kernel whose parameters are all of eight bytes, of a module that goes with the context.
    pub fn launch(&self, name: &str, arguments: &[u64], stream: Stream) -> Result {
        self.launch_of(self.module(&[name]), name, arguments, stream)
    }

    pub fn module(&self, kernels: &[&str]) -> sys::CUmodule {
        let lines: String = kernels.iter().map(|name| format!("kernel {name}\n")).collect();
        let image = CString::new(format!("cuda-standin\n{lines}")).unwrap();
        call!(cuModuleLoadData(-> sys::CUmodule, image.as_ptr().cast())).unwrap()
    }

    pub fn launch_of(&self, module: sys::CUmodule, name: &str, arguments: &[u64], stream: Stream) -> Result {
        let name = CString::new(name).unwrap();
        let function = call!(cuModuleGetFunction(-> sys::CUfunction, module, name.as_ptr()))?;
        let mut arguments: Vec<*mut c_void> =
            arguments.iter().map(|value| (&raw const *value).cast_mut().cast()).collect();
        let arguments = arguments.as_mut_ptr();
        call!(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, arguments, std::ptr::null_mut()))
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        let _ = call!(cuCtxSetCurrent(self.context));
        let _ = call!(cuCtxSynchronize());
        let _ = call!(cuDevicePrimaryCtxRelease_v2(self.device));
    }
}

/// Runs a test in every mode.
pub fn in_every_mode(test: impl Fn(&Session, &Gpu)) {
    for mode in MODES {
        let session = Session::begin().unwrap();
        session.set_mode(mode);
        test(&session, &Gpu::new(&session));
    }
}

/// Runs a planted bug in every mode, where it must be reported as `expected`, and its fixed twin, where nothing is.
pub fn planted(expected: &str, program: impl Fn(&Gpu, Fixed)) {
    for mode in MODES {
        for fixed in [false, true] {
            let session = Session::begin().unwrap();
            session.set_mode(mode);
            program(&Gpu::new(&session), Fixed(fixed));
            let found = session.take_violations();
            let as_planted = if fixed { found.is_empty() } else { found.iter().any(|text| text.contains(expected)) };
            assert!(as_planted, "fixed: {fixed}, mode {mode}: {found:#?}");
        }
    }
}

/// Whether the program that runs is the twin without the bug.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fixed(pub bool);
