//! What hapax asks of a device: memory, copies, streams, events. Knows nothing of handles or caches.
#![expect(unsafe_code, reason = "the trait is unsafe: each implementation argues its own case")]

#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(feature = "testing")]
pub(crate) mod dry;
#[cfg(feature = "testing")]
pub(crate) mod fault;
pub(crate) mod host;
pub(crate) mod image;
#[cfg(feature = "testing")]
pub(crate) mod late;
pub(crate) mod remains;
pub(crate) mod stream;

use crate::device::host::HostDevice;
use crate::device::stream::DeviceRef;
use crate::error::Error;
use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

/// A stream in the device's own terms (CUDA: the address of a `CUstream`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawStream(pub u64);

/// An event in the device's own terms (CUDA: the address of a `CUevent`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawEvent(pub u64);

/// A device's context in its own terms (CUDA: the address of a `CUcontext`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawContext(pub u64);

/// A loaded module in the device's own terms (CUDA: the address of a `CUmodule`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawModule(pub u64);

/// A kernel of a loaded module in the device's own terms (CUDA: the address of a `CUfunction`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawFunction(pub u64);

/// How many threads a kernel is launched with, and the memory that each block of them shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaunchShape {
    /// Blocks in x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y and z.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block.
    pub shared_bytes: u32,
}

/// Who allocated memory that hapax adopted, and so how it is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForeignAllocator {
    /// The device's plain allocation (CUDA: `cuMemAlloc`).
    Plain,
    /// Stream-ordered allocation (CUDA: `cuMemAllocAsync`).
    StreamOrdered,
}

/// How a device call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The device has no memory for this now.
    OutOfMemory,
    /// The device is gone; every later call would fail too.
    Lost,
    /// This call failed; the device goes on.
    Failed,
    /// Devices of this kind cannot do it.
    Unsupported,
}

/// A failed device call, in the device's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceError {
    /// What it means for the caller.
    pub fault: Fault,
    /// The call.
    pub call: &'static str,
    /// The device's own code.
    pub code: i64,
    /// The device's own text.
    pub message: String,
}

impl From<DeviceError> for Error {
    fn from(error: DeviceError) -> Error {
        match error.fault {
            Fault::Lost => Error::DeviceLost,
            Fault::Unsupported => Error::Unsupported { call: error.call },
            _ => Error::Device { call: error.call, code: error.code, message: error.message },
        }
    }
}

/// Bytes of a device's memory, all of it and what no process holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryInfo {
    /// Free at this moment; other processes share the card.
    pub free_bytes: u64,
    /// In all.
    pub total_bytes: u64,
}

/// A device that holds memory and runs work in the order of its streams.
///
/// Every method may be called from any thread; an implementation binds whatever context its driver
/// needs, first thing, in each of them. Streams are numbered by the device; work on one stream runs in
/// order, work on two runs in any order unless an event orders it.
///
/// # Safety
///
/// hapax hands out memory on the word of an implementation, which therefore guarantees:
///
/// - [`alloc`](Device::alloc) returns memory that nothing else owns until [`free`](Device::free), aligned
///   to at least 256 bytes, and readable and writable by the device's own copies. The same holds of
///   [`alloc_page_locked`](Device::alloc_page_locked), which returns zeroed host memory, aligned likewise.
/// - A copy or fill touches only the bytes that it names, after all earlier work of its stream, and is
///   over once an event recorded behind it on that stream has passed.
/// - [`event_passed`](Device::event_passed) says `true` and [`wait_event`](Device::wait_event) returns `Ok`
///   only after all work that stood on the stream when the event was last recorded. An event never recorded has passed.
/// - [`stream_wait_event`](Device::stream_wait_event) orders by the event's state at the call; recording it anew later changes nothing.
/// - A call that fails has no effect that the caller must undo.
/// - If [`is_synchronous`](Device::is_synchronous) is `true`, every copy and fill is over when its call returns, and
///   no call waits for anything.
/// - Its drop may come from a handle's drop, so it waits for nothing and makes no call that may. Streams, events and memory
///   that are left with it, and that it cannot take along so, stay taken as long as the process lives.
pub unsafe trait Device: Send + Sync + 'static {
    /// A name for people, such as `host memory` or the card's model.
    fn name(&self) -> String;

    /// Whether work is over when its call returns, so that no stream ever has to be waited for.
    fn is_synchronous(&self) -> bool {
        false
    }

    /// The finest granule in which a heap may hand out this device's memory.
    fn min_granule_bytes(&self) -> u64 {
        256
    }

    /// Free and total memory, or `None` where the device sets no bound of its own.
    ///
    /// # Errors
    /// What the driver reports.
    fn memory(&self) -> Result<Option<MemoryInfo>, DeviceError>;

    /// Allocates `bytes` (more than 0) and returns their device address.
    ///
    /// # Errors
    /// [`Fault::OutOfMemory`], or what the driver reports.
    fn alloc(&self, bytes: u64) -> Result<u64, DeviceError>;

    /// Gives memory back.
    ///
    /// # Safety
    /// `address` came from `alloc(bytes)` of this device, was not freed, and no work that touches it is pending.
    ///
    /// # Errors
    /// What the driver reports; the memory then stays allocated.
    unsafe fn free(&self, address: u64, bytes: u64) -> Result<(), DeviceError>;

    /// Allocates `bytes` (more than 0) of zeroed host memory that asynchronous copies may use.
    ///
    /// # Errors
    /// [`Fault::OutOfMemory`], or what the driver reports.
    fn alloc_page_locked(&self, bytes: usize) -> Result<NonNull<u8>, DeviceError>;

    /// Gives page-locked memory back.
    ///
    /// # Safety
    /// `memory` came from `alloc_page_locked(bytes)` of this device, was not freed, and no copy of it is pending.
    ///
    /// # Errors
    /// What the driver reports; the memory then stays allocated.
    unsafe fn free_page_locked(&self, memory: NonNull<u8>, bytes: usize) -> Result<(), DeviceError>;

    /// A new stream.
    ///
    /// # Errors
    /// What the driver reports.
    fn create_stream(&self) -> Result<RawStream, DeviceError>;

    /// Ends a stream.
    ///
    /// # Safety
    /// `stream` is of this device, alive, has no pending work, and is not used again.
    ///
    /// # Errors
    /// What the driver reports.
    unsafe fn destroy_stream(&self, stream: RawStream) -> Result<(), DeviceError>;

    /// A new event, which counts as passed until it is recorded.
    ///
    /// # Errors
    /// What the driver reports.
    fn create_event(&self) -> Result<RawEvent, DeviceError>;

    /// Ends an event.
    ///
    /// # Safety
    /// `event` is of this device, alive, and not used again.
    ///
    /// # Errors
    /// What the driver reports.
    unsafe fn destroy_event(&self, event: RawEvent) -> Result<(), DeviceError>;

    /// Marks the present end of a stream.
    ///
    /// # Safety
    /// Both are of this device and alive.
    ///
    /// # Errors
    /// What the driver reports.
    unsafe fn record_event(&self, event: RawEvent, stream: RawStream) -> Result<(), DeviceError>;

    /// Whether all work before the mark is over. Never waits.
    ///
    /// # Safety
    /// `event` is of this device and alive.
    ///
    /// # Errors
    /// What the driver reports.
    unsafe fn event_passed(&self, event: RawEvent) -> Result<bool, DeviceError>;

    /// Blocks the calling thread until all work before the mark is over.
    ///
    /// # Safety
    /// `event` is of this device and alive.
    ///
    /// # Errors
    /// What the driver reports.
    unsafe fn wait_event(&self, event: RawEvent) -> Result<(), DeviceError>;

    /// Makes later work of `stream` start after the mark. Never blocks the calling thread.
    ///
    /// # Safety
    /// Both are of this device and alive.
    ///
    /// # Errors
    /// What the driver reports.
    unsafe fn stream_wait_event(&self, stream: RawStream, event: RawEvent) -> Result<(), DeviceError>;

    /// Whether the stream is being captured into a graph. hapax puts nothing on such a stream.
    ///
    /// # Safety
    /// `stream` is of this device and alive.
    ///
    /// # Errors
    /// What the driver reports.
    unsafe fn is_capturing(&self, _stream: RawStream) -> Result<bool, DeviceError> {
        Ok(false)
    }

    /// Copies page-locked host bytes to the device, in stream order; may return before it is done.
    ///
    /// # Safety
    /// `from` stays readable and unchanged, and `to..to + bytes` stays allocated, until the work is over;
    /// `stream` is of this device and alive.
    ///
    /// # Errors
    /// What the driver reports; nothing is then pending.
    unsafe fn copy_in(&self, to: u64, from: *const u8, bytes: usize, stream: RawStream) -> Result<(), DeviceError>;

    /// Copies device bytes to page-locked host memory, in stream order; may return before it is done.
    ///
    /// # Safety
    /// `to` stays writable and unread, and `from..from + bytes` stays allocated, until the work is over;
    /// `stream` is of this device and alive.
    ///
    /// # Errors
    /// What the driver reports; nothing is then pending.
    unsafe fn copy_out(&self, to: *mut u8, from: u64, bytes: usize, stream: RawStream) -> Result<(), DeviceError>;

    /// Copies host bytes of any kind to the device, in stream order, and returns when that is over.
    ///
    /// # Safety
    /// `from` is readable for `bytes`, `to..to + bytes` is allocated, `stream` is of this device and alive.
    ///
    /// # Errors
    /// What the driver reports; nothing is then pending.
    unsafe fn copy_in_blocking(
        &self,
        to: u64,
        from: *const u8,
        bytes: usize,
        stream: RawStream,
    ) -> Result<(), DeviceError>;

    /// Copies device bytes to host memory of any kind, in stream order, and returns when that is over.
    ///
    /// # Safety
    /// `to` is writable for `bytes`, `from..from + bytes` is allocated, `stream` is of this device and alive.
    ///
    /// # Errors
    /// What the driver reports; nothing is then pending.
    unsafe fn copy_out_blocking(
        &self,
        to: *mut u8,
        from: u64,
        bytes: usize,
        stream: RawStream,
    ) -> Result<(), DeviceError>;

    /// Sets device bytes to zero, in stream order; may return before it is done.
    ///
    /// # Safety
    /// `at..at + bytes` stays allocated until the work is over; `stream` is of this device and alive.
    ///
    /// # Errors
    /// What the driver reports; nothing is then pending.
    unsafe fn zero(&self, at: u64, bytes: usize, stream: RawStream) -> Result<(), DeviceError>;

    /// The context that the device's calls bind, if it has such a thing. Streams and memory of other libraries can be
    /// adopted if they are of the same.
    fn context(&self) -> Option<RawContext> {
        None
    }

    /// Loads code. It may wait for the device.
    ///
    /// # Safety
    /// `image` is whole: what its headers describe lies inside of it, or it is text that ends with a zero byte.
    ///
    /// # Errors
    /// What the driver reports; [`Fault::Unsupported`] where there is no code to load.
    unsafe fn load_module(&self, _image: &[u8]) -> Result<RawModule, DeviceError> {
        Err(unsupported("load_module"))
    }

    /// Unloads code. It may wait for the device.
    ///
    /// # Safety
    /// `module` came from [`load_module`](Device::load_module) of this device, was not unloaded, its functions are not used again,
    /// and none of its kernels is pending.
    ///
    /// # Errors
    /// What the driver reports; the module then stays loaded.
    unsafe fn unload_module(&self, _module: RawModule) -> Result<(), DeviceError> {
        Err(unsupported("unload_module"))
    }

    /// The kernel of this name.
    ///
    /// # Safety
    /// `module` is of this device and loaded.
    ///
    /// # Errors
    /// What the driver reports, also if there is no such kernel.
    unsafe fn module_function(&self, _module: RawModule, _name: &CStr) -> Result<RawFunction, DeviceError> {
        Err(unsupported("module_function"))
    }

    /// Lets launches of a kernel ask for up to so much dynamic shared memory; above the device's default it must be told.
    ///
    /// # Safety
    /// `function` is of a module of this device that is loaded.
    ///
    /// # Errors
    /// What the driver reports.
    unsafe fn allow_shared_bytes(&self, _function: RawFunction, _bytes: u32) -> Result<(), DeviceError> {
        Err(unsupported("allow_shared_bytes"))
    }

    /// Puts a kernel on a stream; may return before it has run.
    ///
    /// # Safety
    /// `function` is of a module of this device that stays loaded until the work is over; `stream` is of this device and alive.
    /// `arguments` point to as many values as the kernel has parameters, each of its parameter's size; they are read
    /// before the call returns. What the kernel does with them is as the caller's contract with the kernel says, and
    /// the memory it touches stays allocated until the work is over.
    ///
    /// # Errors
    /// What the driver reports; nothing is then pending.
    unsafe fn launch(
        &self,
        _function: RawFunction,
        _shape: LaunchShape,
        _stream: RawStream,
        _arguments: &mut [*mut c_void],
    ) -> Result<(), DeviceError> {
        Err(unsupported("launch"))
    }

    /// Gives back memory that another library allocated, in the order of `stream`.
    ///
    /// # Safety
    /// `address` came from `allocator` in this device's context, was not freed, and no work that touches it is pending. `stream` is
    /// of this device and alive.
    ///
    /// # Errors
    /// What the driver reports; the memory then stays allocated.
    unsafe fn free_foreign(
        &self,
        _address: u64,
        _allocator: ForeignAllocator,
        _stream: RawStream,
    ) -> Result<(), DeviceError> {
        Err(unsupported("free_foreign"))
    }

    /// The orderly end, which a drop must not make: gives back what the driver keeps for the device. It may wait.
    ///
    /// # Safety
    /// Nothing of the device is left, and no other call is made to it afterwards if this one succeeds.
    ///
    /// # Errors
    /// What the driver reports; the device then goes on.
    unsafe fn close(&self) -> Result<(), DeviceError> {
        Ok(())
    }
}

fn unsupported(call: &'static str) -> DeviceError {
    DeviceError { fault: Fault::Unsupported, call, code: 0, message: String::new() }
}

/// The device that [`best_device`] took, and why.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BestDevice {
    /// The device, ready for [`Heap::new`](crate::Heap::new).
    pub device: DeviceRef,
    /// Why this one, as a sentence for people.
    pub reason: String,
}

/// The best device that this build can reach. It never fails: where there is no GPU it is host memory.
/// Call it once: two calls give two devices, whose heaps and streams do not mix.
///
/// ```
/// let best = hapax::best_device();
/// println!("{}: {}", best.device.name(), best.reason);
/// ```
pub fn best_device() -> BestDevice {
    #[cfg(feature = "cuda")]
    let why_not = match cuda::CudaDevice::open(0) {
        Ok(card) => {
            let reason = format!("the first NVIDIA card that this process may use, {}", card.info().uuid);
            return BestDevice { device: DeviceRef::new(card), reason };
        }
        Err(absent) => absent.to_string(),
    };
    #[cfg(not(feature = "cuda"))]
    let why_not = "this build of hapax has no GPU backend (feature `cuda`)";
    let reason = format!("memory comes from the host: {why_not}");
    BestDevice { device: DeviceRef::new(HostDevice::new()), reason }
}
