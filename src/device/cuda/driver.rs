//! The CUDA driver's functions: loaded by name, their results as plain integers. Knows no device.
//!
//! cudarc declares results as a Rust enum, and a code that the enum lacks, from a newer driver, must
//! not become one. So the functions that hapax calls are loaded here, with the types of cudarc's
//! `sys`. A missing library is an error to read, not a panic.
#![expect(unsafe_code, reason = "loads and calls foreign functions")]

use crate::device::{DeviceError, Fault};
use cudarc::driver::sys::{CUcontext, CUdevice, CUdeviceptr, CUevent, CUfunction, CUmodule, CUstream, CUuuid};
use libloading::Library;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ops::Deref;
use std::sync::OnceLock;

/// Why there is no CUDA here, and what would help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaAbsent {
    /// No driver library.
    #[error(
        "no CUDA driver: {library} could not be loaded ({reason}); install NVIDIA's driver, \
         or in a container run with the NVIDIA runtime"
    )]
    NoLibrary {
        /// What was looked for.
        library: &'static str,
        /// The loader's words.
        reason: String,
    },
    /// A driver, but no card that this process may use.
    #[error("the CUDA driver sees no device; check nvidia-smi, and CUDA_VISIBLE_DEVICES{visible}")]
    NoDevice {
        /// What the variable says, for the message.
        visible: String,
    },
    /// There are cards, but not this one.
    #[error(
        "no one CUDA device is called {wanted:?}; this process may use {present}; see nvidia-smi -L and CUDA_VISIBLE_DEVICES"
    )]
    NoSuchDevice {
        /// The number or UUID that was asked for.
        wanted: String,
        /// Number and UUID of each that there is.
        present: String,
    },
    /// A driver without a function that hapax needs, or older than it can use.
    #[error("the CUDA driver is too old ({found}); install one for CUDA {needed} or later")]
    DriverTooOld {
        /// The version found, or the function that is missing.
        found: String,
        /// The CUDA version that suffices.
        needed: &'static str,
    },
    /// The driver refused to start.
    #[error("the CUDA driver does not start: code {code} ({message}); check nvidia-smi and the kernel module")]
    Broken {
        /// The driver's code.
        code: i64,
        /// The driver's text.
        message: String,
    },
}

/// In the order in which cudarc looks, so that both find the same library.
const LIBRARIES: [&str; 2] = if cfg!(windows) { ["nvcuda.dll", "nvcuda.dll"] } else { ["libcuda.so", "libcuda.so.1"] };
const NEEDED: &str = "11.4";
const NEEDED_VERSION: c_int = 11_040;

const NOT_READY: c_int = 600;

macro_rules! functions {
    ($($name:ident = $symbol:literal ($($arg:ty),* $(,)?);)*) => {
        pub(crate) struct Functions {
            $(pub(crate) $name: unsafe extern "C" fn($($arg),*) -> c_int,)*
        }

        impl Functions {
            /// # Safety
            /// `library` is a CUDA driver, or a stand-in with the same interface, and is never unloaded.
            unsafe fn load(library: &Library) -> Result<Self, &'static str> {
                Ok(Functions {
                    $($name: {
                        // SAFETY: the symbol has the type that the driver's interface gives it.
                        let found = unsafe { library.get::<unsafe extern "C" fn($($arg),*) -> c_int>(concat!($symbol, "\0").as_bytes()) };
                        *found.map_err(|_| $symbol)?
                    },)*
                })
            }
        }
    };
}

functions! {
    init = "cuInit"(c_uint);
    driver_version = "cuDriverGetVersion"(*mut c_int);
    error_name = "cuGetErrorName"(c_int, *mut *const c_char);
    error_string = "cuGetErrorString"(c_int, *mut *const c_char);
    device_count = "cuDeviceGetCount"(*mut c_int);
    device_get = "cuDeviceGet"(*mut CUdevice, c_int);
    device_name = "cuDeviceGetName"(*mut c_char, c_int, CUdevice);
    device_uuid = "cuDeviceGetUuid_v2"(*mut CUuuid, CUdevice);
    device_total_bytes = "cuDeviceTotalMem_v2"(*mut usize, CUdevice);
    device_attribute = "cuDeviceGetAttribute"(*mut c_int, c_int, CUdevice);
    context_retain = "cuDevicePrimaryCtxRetain"(*mut CUcontext, CUdevice);
    context_release = "cuDevicePrimaryCtxRelease_v2"(CUdevice);
    context_bind = "cuCtxSetCurrent"(CUcontext);
    memory_info = "cuMemGetInfo_v2"(*mut usize, *mut usize);
    alloc = "cuMemAlloc_v2"(*mut CUdeviceptr, usize);
    free = "cuMemFree_v2"(CUdeviceptr);
    free_on = "cuMemFreeAsync"(CUdeviceptr, CUstream);
    alloc_host = "cuMemHostAlloc"(*mut *mut c_void, usize, c_uint);
    free_host = "cuMemFreeHost"(*mut c_void);
    stream_create = "cuStreamCreate"(*mut CUstream, c_uint);
    stream_destroy = "cuStreamDestroy_v2"(CUstream);
    stream_synchronize = "cuStreamSynchronize"(CUstream);
    stream_wait_event = "cuStreamWaitEvent"(CUstream, CUevent, c_uint);
    exchange_capture_mode = "cuThreadExchangeStreamCaptureMode"(*mut c_int);
    stream_is_capturing = "cuStreamIsCapturing"(CUstream, *mut c_int);
    event_create = "cuEventCreate"(*mut CUevent, c_uint);
    event_destroy = "cuEventDestroy_v2"(CUevent);
    event_record = "cuEventRecord"(CUevent, CUstream);
    event_query = "cuEventQuery"(CUevent);
    event_synchronize = "cuEventSynchronize"(CUevent);
    copy_in = "cuMemcpyHtoDAsync_v2"(CUdeviceptr, *const c_void, usize, CUstream);
    copy_out = "cuMemcpyDtoHAsync_v2"(*mut c_void, CUdeviceptr, usize, CUstream);
    fill_bytes = "cuMemsetD8Async"(CUdeviceptr, u8, usize, CUstream);
    module_load = "cuModuleLoadData"(*mut CUmodule, *const c_void);
    module_unload = "cuModuleUnload"(CUmodule);
    module_function = "cuModuleGetFunction"(*mut CUfunction, CUmodule, *const c_char);
    function_set = "cuFuncSetAttribute"(CUfunction, c_int, c_int);
    launch = "cuLaunchKernel"(
        CUfunction, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, CUstream, *mut *mut c_void, *mut *mut c_void,
    );
}

/// The driver of this process: loaded once, and asked each time whether it works. A failure is not remembered.
pub(crate) fn driver() -> Result<&'static Functions, CudaAbsent> {
    static DRIVER: OnceLock<Functions> = OnceLock::new();
    let driver = match DRIVER.get() {
        Some(driver) => driver,
        None => load().map(|driver| DRIVER.get_or_init(|| driver))?,
    };
    driver.start().map(|()| driver)
}

fn load() -> Result<Functions, CudaAbsent> {
    let library: &'static Library = Box::leak(Box::new(open()?)); // the driver stays for the process
    // SAFETY: the library answers to the driver's name, and it is never unloaded.
    unsafe { Functions::load(library) }.map_err(|symbol| too_old(format!("it lacks {symbol}")))
}

const NO_DEVICE: c_int = 100;

pub(crate) fn no_device() -> CudaAbsent {
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").map_or(String::new(), |value| format!(" (it is {value:?})"));
    CudaAbsent::NoDevice { visible }
}

fn too_old(found: String) -> CudaAbsent {
    CudaAbsent::DriverTooOld { found, needed: NEEDED }
}

fn open() -> Result<Library, CudaAbsent> {
    let mut reason = String::new();
    for name in LIBRARIES {
        // SAFETY: loading NVIDIA's driver runs its initialisers, which is what every CUDA program does.
        match unsafe { Library::new(name) } {
            Ok(library) => return Ok(library),
            Err(error) => reason = error.to_string(),
        }
    }
    Err(CudaAbsent::NoLibrary { library: LIBRARIES[0], reason })
}

/// While it lives, the calling thread may allocate, free, and ask events, although somebody captures a stream: CUDA forbids that
/// by default (driver API, `cuThreadExchangeStreamCaptureMode`), since it might order the captured stream. Nothing of ours
/// touches a captured one.
pub(crate) struct Relaxed {
    driver: &'static Functions,
    before: c_int,
}

impl Relaxed {
    pub(crate) fn new(driver: &'static Functions) -> Result<Self, DeviceError> {
        const RELAXED: c_int = 2;
        let mut mode = RELAXED;
        // SAFETY: the mode is writable; the call changes this thread's mode only.
        let code = unsafe { (driver.exchange_capture_mode)(&mut mode) };
        driver.check("cuThreadExchangeStreamCaptureMode", code)?;
        Ok(Relaxed { driver, before: mode })
    }
}

impl Deref for Relaxed {
    type Target = Functions;

    fn deref(&self) -> &Functions {
        self.driver
    }
}

impl Drop for Relaxed {
    fn drop(&mut self) {
        const TRIES: usize = 4;
        // SAFETY: as above. If it fails for good, the thread stays relaxed, which forbids nothing.
        let _ = (0..TRIES).any(|_| unsafe { (self.driver.exchange_capture_mode)(&mut self.before) } == 0);
    }
}

impl Functions {
    fn start(&self) -> Result<(), CudaAbsent> {
        let mut version = 0;
        // SAFETY: `version` is writable; the call needs no initialised driver.
        let code = unsafe { (self.driver_version)(&mut version) };
        if code == 0 && version < NEEDED_VERSION {
            return Err(too_old(format!("CUDA {}.{}", version / 1000, version % 1000 / 10)));
        }
        // SAFETY: flags must be 0; to start it again does nothing.
        match unsafe { (self.init)(0) } {
            0 => Ok(()),
            NO_DEVICE => Err(no_device()),
            code => Err(CudaAbsent::Broken { code: code.into(), message: self.text(code) }),
        }
    }

    /// The result of a call, with what it means and the driver's own text.
    pub(crate) fn check(&self, call: &'static str, code: c_int) -> Result<(), DeviceError> {
        if code == 0 { Ok(()) } else { Err(self.error(call, code)) }
    }

    /// As `check` for a query: `false` while the work is under way.
    pub(crate) fn check_ready(&self, call: &'static str, code: c_int) -> Result<bool, DeviceError> {
        if code == NOT_READY { Ok(false) } else { self.check(call, code).map(|()| true) }
    }

    #[cold]
    fn error(&self, call: &'static str, code: c_int) -> DeviceError {
        DeviceError { fault: fault_of(code), call, code: code.into(), message: self.text(code) }
    }

    pub(crate) fn text(&self, code: c_int) -> String {
        let (mut name, mut text) = (std::ptr::null(), std::ptr::null());
        // SAFETY: any integer may be asked for, and the pointer is writable.
        let named = unsafe { (self.error_name)(code, &mut name) } == 0;
        // SAFETY: as above.
        let told = unsafe { (self.error_string)(code, &mut text) } == 0;
        if !named || !told || name.is_null() || text.is_null() {
            return "a code that this driver does not explain".to_owned();
        }
        // SAFETY: on success the driver points to a constant string.
        let name = unsafe { CStr::from_ptr(name) };
        // SAFETY: as above.
        let text = unsafe { CStr::from_ptr(text) };
        format!("{}: {}", name.to_string_lossy(), text.to_string_lossy())
    }
}

/// Codes after which the context is of no use, and every later call fails alike: CUDA's *sticky* errors, which the driver API
/// reference (`CUresult`) describes as such, a lost device, and a driver that is shutting down.
fn fault_of(code: c_int) -> Fault {
    match code {
        2 => Fault::OutOfMemory,
        // deinitialized; device unavailable; ECC, NVLink and link errors that cannot be corrected
        4 | 46 | 214 | 220 | 226 => Fault::Lost,
        // invalid context: each call binds the device's own first, so somebody has destroyed or reset that
        201 => Fault::Lost,
        // illegal address, launch timeout, context destroyed, assertion, stack, instruction, alignment,
        // address space, program counter, launch failure, leaked tensor memory
        700 | 702 | 709 | 710 | 714..=719 | 721 => Fault::Lost,
        // client ended by the MPS server; an error of a device outside of CUDA
        810 | 911 => Fault::Lost,
        _ => Fault::Failed,
    }
}
