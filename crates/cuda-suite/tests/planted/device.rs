//! A CUDA device with one bug, between hapax and the driver.

use cudarc::driver::sys;
use hapax::{
    CudaDevice, Device, DeviceError, Fault, ForeignAllocator, LaunchShape, MemoryInfo, RawContext, RawEvent,
    RawFunction, RawModule, RawStream,
};
use std::ffi::{CStr, c_void};
use std::ptr::NonNull;
use std::sync::Mutex;

/// What the device does wrong.
#[derive(Clone, Copy, PartialEq)]
pub enum Bug {
    None,
    /// Events are said to have passed, and are not waited for.
    EventsPassAtOnce,
    /// No stream waits for an event.
    NoStreamWaits,
    /// Marks are recorded on the newest stream, whichever they are of: as if a block noted its last user alone.
    OneNote,
    /// Memory is freed without a context.
    FreesUnbound,
    /// A lost device is taken for a failed call.
    ForgetsLoss,
    /// Blocking copies do not wait.
    NoSynchronise,
    /// A captured stream is taken for any other.
    IgnoresCapture,
}

pub struct Buggy {
    inner: CudaDevice,
    bug: Bug,
    newest: Mutex<Option<RawStream>>,
}

impl Buggy {
    pub fn new(inner: CudaDevice, bug: Bug) -> Buggy {
        Buggy { inner, bug, newest: Mutex::new(None) }
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == bug
    }

    fn report<R>(&self, result: Result<R, DeviceError>) -> Result<R, DeviceError> {
        result.map_err(|error| match error.fault {
            Fault::Lost if self.has(Bug::ForgetsLoss) => DeviceError { fault: Fault::Failed, ..error },
            _ => error,
        })
    }
}

// SAFETY: none. It breaks the contract on purpose, on a stand-in that has no real memory to corrupt.
unsafe impl Device for Buggy {
    fn name(&self) -> String {
        self.inner.name()
    }
    fn memory(&self) -> Result<Option<MemoryInfo>, DeviceError> {
        self.report(self.inner.memory())
    }
    fn alloc(&self, bytes: u64) -> Result<u64, DeviceError> {
        self.report(self.inner.alloc(bytes))
    }
    unsafe fn free(&self, address: u64, bytes: u64) -> Result<(), DeviceError> {
        if self.has(Bug::FreesUnbound) {
            // SAFETY: no context is a context that can be bound.
            let _ = unsafe { sys::cuCtxSetCurrent(std::ptr::null_mut()) };
            // SAFETY: the address is the caller's; that there is no context is the bug.
            let _ = unsafe { sys::cuMemFree_v2(address) };
        }
        // SAFETY: the caller's contract is the inner device's.
        self.report(unsafe { self.inner.free(address, bytes) })
    }
    fn alloc_page_locked(&self, bytes: usize) -> Result<NonNull<u8>, DeviceError> {
        self.report(self.inner.alloc_page_locked(bytes))
    }
    unsafe fn free_page_locked(&self, memory: NonNull<u8>, bytes: usize) -> Result<(), DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.report(unsafe { self.inner.free_page_locked(memory, bytes) })
    }
    fn create_stream(&self) -> Result<RawStream, DeviceError> {
        let stream = self.report(self.inner.create_stream())?;
        *self.newest.lock().unwrap() = Some(stream);
        Ok(stream)
    }
    unsafe fn destroy_stream(&self, stream: RawStream) -> Result<(), DeviceError> {
        let mut newest = self.newest.lock().unwrap();
        *newest = newest.filter(|newest| *newest != stream);
        // SAFETY: the caller's contract is the inner device's.
        self.report(unsafe { self.inner.destroy_stream(stream) })
    }
    fn create_event(&self) -> Result<RawEvent, DeviceError> {
        self.report(self.inner.create_event())
    }
    unsafe fn destroy_event(&self, event: RawEvent) -> Result<(), DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.report(unsafe { self.inner.destroy_event(event) })
    }
    unsafe fn record_event(&self, event: RawEvent, stream: RawStream) -> Result<(), DeviceError> {
        let newest = self.newest.lock().unwrap().filter(|_| self.has(Bug::OneNote));
        // SAFETY: both streams are alive.
        self.report(unsafe { self.inner.record_event(event, newest.unwrap_or(stream)) })
    }
    unsafe fn event_passed(&self, event: RawEvent) -> Result<bool, DeviceError> {
        if self.has(Bug::EventsPassAtOnce) {
            return Ok(true);
        }
        // SAFETY: the caller's contract is the inner device's.
        self.report(unsafe { self.inner.event_passed(event) })
    }
    unsafe fn wait_event(&self, event: RawEvent) -> Result<(), DeviceError> {
        if self.has(Bug::EventsPassAtOnce) {
            return Ok(());
        }
        // SAFETY: the caller's contract is the inner device's.
        self.report(unsafe { self.inner.wait_event(event) })
    }
    unsafe fn stream_wait_event(&self, stream: RawStream, event: RawEvent) -> Result<(), DeviceError> {
        if self.has(Bug::NoStreamWaits) {
            return Ok(());
        }
        // SAFETY: the caller's contract is the inner device's.
        self.report(unsafe { self.inner.stream_wait_event(stream, event) })
    }
    unsafe fn is_capturing(&self, stream: RawStream) -> Result<bool, DeviceError> {
        if self.has(Bug::IgnoresCapture) {
            return Ok(false);
        }
        // SAFETY: the caller's contract is the inner device's.
        self.report(unsafe { self.inner.is_capturing(stream) })
    }
    unsafe fn copy_in(&self, to: u64, from: *const u8, bytes: usize, stream: RawStream) -> Result<(), DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.report(unsafe { self.inner.copy_in(to, from, bytes, stream) })
    }
    unsafe fn copy_out(&self, to: *mut u8, from: u64, bytes: usize, stream: RawStream) -> Result<(), DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.report(unsafe { self.inner.copy_out(to, from, bytes, stream) })
    }
    unsafe fn copy_in_blocking(
        &self,
        to: u64,
        from: *const u8,
        bytes: usize,
        stream: RawStream,
    ) -> Result<(), DeviceError> {
        if self.has(Bug::NoSynchronise) {
            // SAFETY: that `from` goes back to its owner before the copy has run is the bug.
            return unsafe { self.inner.copy_in(to, from, bytes, stream) };
        }
        // SAFETY: the caller's contract is the inner device's.
        self.report(unsafe { self.inner.copy_in_blocking(to, from, bytes, stream) })
    }
    unsafe fn copy_out_blocking(
        &self,
        to: *mut u8,
        from: u64,
        bytes: usize,
        stream: RawStream,
    ) -> Result<(), DeviceError> {
        if self.has(Bug::NoSynchronise) {
            // SAFETY: that `to` goes back to its owner before the copy has run is the bug.
            return unsafe { self.inner.copy_out(to, from, bytes, stream) };
        }
        // SAFETY: the caller's contract is the inner device's.
        self.report(unsafe { self.inner.copy_out_blocking(to, from, bytes, stream) })
    }
    unsafe fn zero(&self, at: u64, bytes: usize, stream: RawStream) -> Result<(), DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.report(unsafe { self.inner.zero(at, bytes, stream) })
    }
    fn context(&self) -> Option<RawContext> {
        self.inner.context()
    }
    unsafe fn load_module(&self, image: &[u8]) -> Result<RawModule, DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.report(unsafe { self.inner.load_module(image) })
    }
    unsafe fn unload_module(&self, module: RawModule) -> Result<(), DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.report(unsafe { self.inner.unload_module(module) })
    }
    unsafe fn module_function(&self, module: RawModule, name: &CStr) -> Result<RawFunction, DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.report(unsafe { self.inner.module_function(module, name) })
    }
    unsafe fn launch(
        &self,
        function: RawFunction,
        shape: LaunchShape,
        stream: RawStream,
        arguments: &mut [*mut c_void],
    ) -> Result<(), DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.report(unsafe { self.inner.launch(function, shape, stream, arguments) })
    }
    unsafe fn free_foreign(
        &self,
        address: u64,
        allocator: ForeignAllocator,
        stream: RawStream,
    ) -> Result<(), DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.report(unsafe { self.inner.free_foreign(address, allocator, stream) })
    }
    unsafe fn close(&self) -> Result<(), DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.report(unsafe { self.inner.close() })
    }
}
