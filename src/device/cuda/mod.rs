//! NVIDIA cards, through the driver. Binds its context in every call; knows no handles.
#![expect(unsafe_code, reason = "calls the CUDA driver with what the device trait vouches for")]

pub(crate) mod driver;
pub(crate) mod interop;

use crate::device::cuda::driver::{CudaAbsent, Functions, Relaxed, driver, no_device};
use crate::device::{
    Device, DeviceError, Fault, ForeignAllocator, LaunchShape, MemoryInfo, RawContext, RawEvent, RawFunction,
    RawModule, RawStream,
};
use cudarc::driver::sys::{CUcontext, CUdevice, CUevent, CUfunction, CUmodule, CUstream, CUuuid};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;
use std::ptr::NonNull;

/// A card, by the name that stays when others are added: `GPU-` and its UUID, as `nvidia-smi -L` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CudaInfo {
    /// Its number in this process, after `CUDA_VISIBLE_DEVICES`.
    pub ordinal: usize,
    /// The model.
    pub name: String,
    /// `GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
    pub uuid: String,
    /// Memory in all, free or not.
    pub total_bytes: u64,
    /// Compute capability, major and minor.
    pub compute_capability: (u32, u32),
}

/// An NVIDIA card, in its primary context, which is shared with everybody else in the process who uses
/// the runtime or cudarc. [`DeviceRef::close`](crate::DeviceRef::close) gives up its share of the context; without it the share
/// stays for the life of the process, since to release it may wait, and a device may go with the drop of a handle.
///
/// Its calls leave that context bound to the thread that makes them. cudarc binds its own before each call; who uses the CUDA runtime
/// with several cards calls `cudaSetDevice` again afterwards.
///
/// ```no_run
/// use hapax::{CudaDevice, Heap, HeapOptions};
///
/// let device = CudaDevice::open(0)?;
/// println!("{}", device.info().name);
/// let heap = Heap::new(device, HeapOptions::new(1 << 30))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CudaDevice {
    driver: &'static Functions,
    device: CUdevice,
    context: CUcontext,
    info: CudaInfo,
}

// SAFETY: a CUDA context may be used from any thread, once it is bound there, which every call does first.
unsafe impl Send for CudaDevice {}
// SAFETY: as above; the driver locks for itself.
unsafe impl Sync for CudaDevice {}

impl CudaDevice {
    /// The cards that this process may use.
    ///
    /// # Errors
    /// [`CudaAbsent`] says what is missing and what to install. It never panics.
    pub fn list() -> Result<Vec<CudaInfo>, CudaAbsent> {
        let driver = driver()?;
        let mut count = 0;
        // SAFETY: the driver is started and the integer writable.
        let code = unsafe { (driver.device_count)(&mut count) };
        driver.check("cuDeviceGetCount", code).map_err(broken)?;
        if count == 0 {
            return Err(no_device());
        }
        (0..count).map(|ordinal| Ok(describe(driver, ordinal).map_err(broken)?.1)).collect()
    }

    /// Card `ordinal` of those that `CUDA_VISIBLE_DEVICES` leaves.
    ///
    /// # Errors
    /// [`CudaAbsent::NoSuchDevice`] names those that there are; else as [`list`](CudaDevice::list).
    pub fn open(ordinal: usize) -> Result<CudaDevice, CudaAbsent> {
        let cards = Self::list()?;
        match cards.iter().find(|card| card.ordinal == ordinal) {
            Some(card) => Self::open_card(card.clone()),
            None => Err(no_such_device(ordinal.to_string(), &cards)),
        }
    }

    /// The card with this UUID, with or without `GPU-`, or a prefix that only one card has.
    ///
    /// # Errors
    /// As [`open`](CudaDevice::open); also if several cards have the prefix.
    pub fn by_uuid(uuid: &str) -> Result<CudaDevice, CudaAbsent> {
        let wanted = uuid.trim_start_matches("GPU-").to_ascii_lowercase();
        let cards = Self::list()?;
        let mut named = cards.iter().filter(|card| card.uuid["GPU-".len()..].starts_with(&wanted));
        match (named.next(), named.next()) {
            (Some(card), None) if !wanted.is_empty() => Self::open_card(card.clone()),
            _ => Err(no_such_device(uuid.to_owned(), &cards)),
        }
    }

    /// Which card it is.
    pub fn info(&self) -> &CudaInfo {
        &self.info
    }

    fn open_card(info: CudaInfo) -> Result<CudaDevice, CudaAbsent> {
        let driver = driver()?;
        let (device, _) = describe(driver, info.ordinal as c_int).map_err(broken)?;
        let mut context = std::ptr::null_mut();
        // SAFETY: the device is the driver's own and the pointer writable.
        let code = unsafe { (driver.context_retain)(&mut context, device) };
        driver.check("cuDevicePrimaryCtxRetain", code).map_err(broken)?;
        Ok(CudaDevice { driver, device, context, info })
    }

    /// Binds the context to the calling thread: what every call does first.
    fn bound(&self) -> Result<&'static Functions, DeviceError> {
        // SAFETY: the context was retained, and nobody calls a device that was closed.
        let code = unsafe { (self.driver.context_bind)(self.context) };
        self.driver.check("cuCtxSetCurrent", code).map(|()| self.driver)
    }

    /// As `bound`, for calls that CUDA forbids while a stream is captured.
    fn relaxed(&self) -> Result<Relaxed, DeviceError> {
        Relaxed::new(self.bound()?)
    }
}

impl fmt::Debug for CudaDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CudaDevice").field(&self.info).finish()
    }
}

/// Memory that every context may copy from and to.
const HOST_PORTABLE: u32 = 1;
/// Does not wait for the legacy default stream.
const STREAM_NON_BLOCKING: u32 = 1;
/// Only for ordering: cheaper to record.
const EVENT_NO_TIMING: u32 = 2;

// SAFETY: memory comes from cuMemAlloc, which aligns to 256 bytes at least, and cuMemHostAlloc, which
// aligns to pages and is zeroed here. Copies and fills are stream-ordered and touch what they name; an event
// counts as the driver defines it: one never recorded is complete, and a wait captures its state at the
// call. A failing call has no effect, except that an asynchronous error of earlier work may be reported, which then
// is sticky and makes the device lost. The blocking copies end with a synchronisation of their stream.
unsafe impl Device for CudaDevice {
    fn name(&self) -> String {
        format!("{} ({})", self.info.name, self.info.uuid)
    }

    fn memory(&self) -> Result<Option<MemoryInfo>, DeviceError> {
        let driver = self.bound()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: both are writable, and the context is bound.
        let code = unsafe { (driver.memory_info)(&mut free, &mut total) };
        driver.check("cuMemGetInfo", code)?;
        Ok(Some(MemoryInfo { free_bytes: free as u64, total_bytes: total as u64 }))
    }

    fn alloc(&self, bytes: u64) -> Result<u64, DeviceError> {
        let driver = self.relaxed()?;
        let mut address = 0;
        // SAFETY: the address is writable, and the context is bound.
        let code = unsafe { (driver.alloc)(&mut address, bytes as usize) };
        driver.check("cuMemAlloc", code).map(|()| address)
    }

    unsafe fn free(&self, address: u64, _: u64) -> Result<(), DeviceError> {
        let driver = self.relaxed()?;
        // SAFETY: the caller hands back what `alloc` returned, once, and nothing uses it.
        let code = unsafe { (driver.free)(address) };
        driver.check("cuMemFree", code)
    }

    fn alloc_page_locked(&self, bytes: usize) -> Result<NonNull<u8>, DeviceError> {
        let driver = self.relaxed()?;
        let mut memory = std::ptr::null_mut();
        // SAFETY: the pointer is writable, and the context is bound.
        let code = unsafe { (driver.alloc_host)(&mut memory, bytes.max(1), HOST_PORTABLE) };
        driver.check("cuMemHostAlloc", code)?;
        let memory = NonNull::new(memory.cast::<u8>()).expect("the driver said that it succeeded");
        // SAFETY: the driver allocated so many bytes for us alone.
        unsafe { memory.write_bytes(0, bytes) };
        Ok(memory)
    }

    unsafe fn free_page_locked(&self, memory: NonNull<u8>, _: usize) -> Result<(), DeviceError> {
        let driver = self.relaxed()?;
        // SAFETY: the caller hands back what `alloc_page_locked` returned, once, and nothing uses it.
        let code = unsafe { (driver.free_host)(memory.as_ptr().cast()) };
        driver.check("cuMemFreeHost", code)
    }

    fn create_stream(&self) -> Result<RawStream, DeviceError> {
        let driver = self.bound()?;
        let mut stream = std::ptr::null_mut();
        // SAFETY: the pointer is writable, and the context is bound.
        let code = unsafe { (driver.stream_create)(&mut stream, STREAM_NON_BLOCKING) };
        driver.check("cuStreamCreate", code)?;
        Ok(RawStream(stream.expose_provenance() as u64))
    }

    unsafe fn destroy_stream(&self, stream: RawStream) -> Result<(), DeviceError> {
        let driver = self.bound()?;
        // SAFETY: the caller vouches that the stream is alive and not used again.
        let code = unsafe { (driver.stream_destroy)(stream_of(stream)) };
        driver.check("cuStreamDestroy", code)
    }

    fn create_event(&self) -> Result<RawEvent, DeviceError> {
        let driver = self.bound()?;
        let mut event = std::ptr::null_mut();
        // SAFETY: the pointer is writable, and the context is bound.
        let code = unsafe { (driver.event_create)(&mut event, EVENT_NO_TIMING) };
        driver.check("cuEventCreate", code)?;
        Ok(RawEvent(event.expose_provenance() as u64))
    }

    unsafe fn destroy_event(&self, event: RawEvent) -> Result<(), DeviceError> {
        let driver = self.bound()?;
        // SAFETY: the caller vouches that the event is alive and not used again.
        let code = unsafe { (driver.event_destroy)(event_of(event)) };
        driver.check("cuEventDestroy", code)
    }

    unsafe fn record_event(&self, event: RawEvent, stream: RawStream) -> Result<(), DeviceError> {
        let driver = self.bound()?;
        // SAFETY: the caller vouches that both are alive.
        let code = unsafe { (driver.event_record)(event_of(event), stream_of(stream)) };
        driver.check("cuEventRecord", code)
    }

    unsafe fn event_passed(&self, event: RawEvent) -> Result<bool, DeviceError> {
        let driver = self.relaxed()?;
        // SAFETY: the caller vouches that the event is alive.
        let code = unsafe { (driver.event_query)(event_of(event)) };
        driver.check_ready("cuEventQuery", code)
    }

    unsafe fn wait_event(&self, event: RawEvent) -> Result<(), DeviceError> {
        let driver = self.relaxed()?;
        // SAFETY: the caller vouches that the event is alive.
        let code = unsafe { (driver.event_synchronize)(event_of(event)) };
        driver.check("cuEventSynchronize", code)
    }

    unsafe fn stream_wait_event(&self, stream: RawStream, event: RawEvent) -> Result<(), DeviceError> {
        let driver = self.bound()?;
        // SAFETY: the caller vouches that both are alive; flags must be 0.
        let code = unsafe { (driver.stream_wait_event)(stream_of(stream), event_of(event), 0) };
        driver.check("cuStreamWaitEvent", code)
    }

    unsafe fn is_capturing(&self, stream: RawStream) -> Result<bool, DeviceError> {
        let driver = self.bound()?;
        let mut status: c_int = 0;
        // SAFETY: the caller vouches that the stream is alive; the status is writable.
        let code = unsafe { (driver.stream_is_capturing)(stream_of(stream), &mut status) };
        // The null stream while a blocking stream is captured: what is put on it would be ordered with the capture.
        const CAPTURED_IMPLICITLY: c_int = 906;
        if code == CAPTURED_IMPLICITLY {
            return Ok(true);
        }
        driver.check("cuStreamIsCapturing", code).map(|()| status != 0)
    }

    unsafe fn copy_in(&self, to: u64, from: *const u8, bytes: usize, stream: RawStream) -> Result<(), DeviceError> {
        let driver = self.bound()?;
        // SAFETY: the caller vouches for both sides until the work is over, and for the stream.
        let code = unsafe { (driver.copy_in)(to, from.cast(), bytes, stream_of(stream)) };
        driver.check("cuMemcpyHtoDAsync", code)
    }

    unsafe fn copy_out(&self, to: *mut u8, from: u64, bytes: usize, stream: RawStream) -> Result<(), DeviceError> {
        let driver = self.bound()?;
        // SAFETY: the caller vouches for both sides until the work is over, and for the stream.
        let code = unsafe { (driver.copy_out)(to.cast(), from, bytes, stream_of(stream)) };
        driver.check("cuMemcpyDtoHAsync", code)
    }

    unsafe fn copy_in_blocking(
        &self,
        to: u64,
        from: *const u8,
        bytes: usize,
        stream: RawStream,
    ) -> Result<(), DeviceError> {
        // SAFETY: the caller vouches for both sides until this returns, which is after the work.
        unsafe { self.copy_in(to, from, bytes, stream) }?;
        self.synchronize(stream)
    }

    unsafe fn copy_out_blocking(
        &self,
        to: *mut u8,
        from: u64,
        bytes: usize,
        stream: RawStream,
    ) -> Result<(), DeviceError> {
        // SAFETY: the caller vouches for both sides until this returns, which is after the work.
        unsafe { self.copy_out(to, from, bytes, stream) }?;
        self.synchronize(stream)
    }

    unsafe fn zero(&self, at: u64, bytes: usize, stream: RawStream) -> Result<(), DeviceError> {
        let driver = self.bound()?;
        // SAFETY: the caller vouches for the bytes until the work is over, and for the stream.
        let code = unsafe { (driver.fill_bytes)(at, 0, bytes, stream_of(stream)) };
        driver.check("cuMemsetD8Async", code)
    }

    fn context(&self) -> Option<RawContext> {
        Some(RawContext(self.context.expose_provenance() as u64))
    }

    unsafe fn load_module(&self, image: &[u8]) -> Result<RawModule, DeviceError> {
        let driver = self.relaxed()?;
        let mut module = std::ptr::null_mut();
        // SAFETY: the caller vouches that the driver will find the image's end by itself; the pointer is writable.
        let code = unsafe { (driver.module_load)(&mut module, image.as_ptr().cast()) };
        driver.check("cuModuleLoadData", code)?;
        Ok(RawModule(module.expose_provenance() as u64))
    }

    unsafe fn unload_module(&self, module: RawModule) -> Result<(), DeviceError> {
        let driver = self.relaxed()?;
        // SAFETY: the caller vouches that the module is loaded and none of its kernels pending.
        let code = unsafe { (driver.module_unload)(module_of(module)) };
        driver.check("cuModuleUnload", code)
    }

    unsafe fn module_function(&self, module: RawModule, name: &CStr) -> Result<RawFunction, DeviceError> {
        let driver = self.bound()?;
        let mut function = std::ptr::null_mut();
        // SAFETY: the caller vouches for the module; the name ends with 0, and the pointer is writable.
        let code = unsafe { (driver.module_function)(&mut function, module_of(module), name.as_ptr()) };
        driver.check("cuModuleGetFunction", code)?;
        Ok(RawFunction(function.expose_provenance() as u64))
    }

    unsafe fn allow_shared_bytes(&self, function: RawFunction, bytes: u32) -> Result<(), DeviceError> {
        const MAX_DYNAMIC_SHARED_BYTES: c_int = 8;
        let driver = self.bound()?;
        let bytes = c_int::try_from(bytes).unwrap_or(c_int::MAX);
        // SAFETY: the caller vouches for the function.
        let code = unsafe { (driver.function_set)(function_of(function), MAX_DYNAMIC_SHARED_BYTES, bytes) };
        driver.check("cuFuncSetAttribute", code)
    }

    unsafe fn launch(
        &self,
        function: RawFunction,
        shape: LaunchShape,
        stream: RawStream,
        arguments: &mut [*mut c_void],
    ) -> Result<(), DeviceError> {
        let driver = self.bound()?;
        let LaunchShape { grid, block, shared_bytes } = shape;
        let (function, stream) = (function_of(function), stream_of(stream));
        // SAFETY: the caller vouches for function, stream and arguments; the last pointer may be null beside them.
        let code = unsafe {
            (driver.launch)(
                function,
                grid[0],
                grid[1],
                grid[2],
                block[0],
                block[1],
                block[2],
                shared_bytes,
                stream,
                arguments.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        driver.check("cuLaunchKernel", code)
    }

    unsafe fn free_foreign(
        &self,
        address: u64,
        allocator: ForeignAllocator,
        stream: RawStream,
    ) -> Result<(), DeviceError> {
        let driver = self.relaxed()?;
        match allocator {
            ForeignAllocator::Plain => {
                // SAFETY: the caller hands back, once, what cuMemAlloc gave, and nothing uses it.
                let code = unsafe { (driver.free)(address) };
                driver.check("cuMemFree", code)
            }
            ForeignAllocator::StreamOrdered => {
                // SAFETY: as above, of cuMemAllocAsync; the caller vouches for the stream.
                let code = unsafe { (driver.free_on)(address, stream_of(stream)) };
                driver.check("cuMemFreeAsync", code)
            }
        }
    }

    unsafe fn close(&self) -> Result<(), DeviceError> {
        // SAFETY: the caller vouches that nothing of the device is left; the context was retained once.
        let code = unsafe { (self.driver.context_release)(self.device) };
        self.driver.check("cuDevicePrimaryCtxRelease", code)
    }
}

impl CudaDevice {
    /// A pageable copy may return before it is done, so the blocking ones end with this. While the copy may be
    /// pending, its host side must not go back to its owner: a wait that fails is tried again, until it succeeds or
    /// the device is gone, and nothing is copied any more.
    fn synchronize(&self, stream: RawStream) -> Result<(), DeviceError> {
        const TRIES: usize = 16;
        let mut last = None;
        for _ in 0..TRIES {
            // SAFETY: called with the stream of a copy that was just put there.
            let code = unsafe { (self.driver.stream_synchronize)(stream_of(stream)) };
            match self.driver.check("cuStreamSynchronize", code) {
                Err(error) if error.fault != Fault::Lost => last = Some(error),
                done => return done,
            }
        }
        let error = last.expect("each try failed");
        Err(DeviceError { fault: Fault::Lost, ..error }) // a driver that cannot wait for its stream is of no use
    }
}

fn no_such_device(wanted: String, cards: &[CudaInfo]) -> CudaAbsent {
    let present: Vec<String> = cards.iter().map(|card| format!("{} ({})", card.ordinal, card.uuid)).collect();
    CudaAbsent::NoSuchDevice { wanted, present: present.join(", ") }
}

fn describe(driver: &Functions, ordinal: c_int) -> Result<(CUdevice, CudaInfo), DeviceError> {
    const MAJOR: c_int = 75;
    const MINOR: c_int = 76;
    let mut device = 0;
    // SAFETY: the integer is writable.
    driver.check("cuDeviceGet", unsafe { (driver.device_get)(&mut device, ordinal) })?;
    let mut name: [c_char; 256] = [0; 256];
    // SAFETY: the buffer has the length that is told; the driver ends it with 0.
    driver.check("cuDeviceGetName", unsafe { (driver.device_name)(name.as_mut_ptr(), 256, device) })?;
    let mut uuid = CUuuid { bytes: [0; 16] };
    // SAFETY: the identifier is writable.
    driver.check("cuDeviceGetUuid", unsafe { (driver.device_uuid)(&mut uuid, device) })?;
    let mut total = 0;
    // SAFETY: the size is writable.
    driver.check("cuDeviceTotalMem", unsafe { (driver.device_total_bytes)(&mut total, device) })?;
    let attribute = |which| {
        let mut value = 0;
        // SAFETY: the integer is writable.
        let code = unsafe { (driver.device_attribute)(&mut value, which, device) };
        driver.check("cuDeviceGetAttribute", code).map(|()| value as u32)
    };
    // SAFETY: the buffer ends with 0.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
    let info = CudaInfo {
        ordinal: ordinal as usize,
        name,
        uuid: uuid_text(uuid.bytes.map(|byte| byte as u8)),
        total_bytes: total as u64,
        compute_capability: (attribute(MAJOR)?, attribute(MINOR)?),
    };
    Ok((device, info))
}

fn uuid_text(bytes: [u8; 16]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("GPU-{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn broken(error: DeviceError) -> CudaAbsent {
    CudaAbsent::Broken { code: error.code, message: format!("{}: {}", error.call, error.message) }
}

fn stream_of(stream: RawStream) -> CUstream {
    std::ptr::with_exposed_provenance_mut(stream.0 as usize)
}

fn module_of(module: RawModule) -> CUmodule {
    std::ptr::with_exposed_provenance_mut(module.0 as usize)
}

fn function_of(function: RawFunction) -> CUfunction {
    std::ptr::with_exposed_provenance_mut(function.0 as usize)
}

fn event_of(event: RawEvent) -> CUevent {
    std::ptr::with_exposed_provenance_mut(event.0 as usize)
}
