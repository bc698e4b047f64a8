//! The embedded default: host memory as a device. Synchronous, so every stream has always passed.
#![expect(unsafe_code, reason = "implements the unsafe device trait over the global allocator")]

use crate::device::{Device, DeviceError, Fault, MemoryInfo, RawEvent, RawStream};
use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

const ALIGN: usize = 256;

/// Host memory behind the device interface: what a compiler uses where there is no GPU.
///
/// Every copy is over when its call returns. Its memory comes from the global allocator and is zeroed.
///
/// ```
/// use hapax::{Heap, HeapOptions, HostDevice};
///
/// let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20).granule_bytes(1))?;
/// let numbers = heap.alloc_slice::<u32>(3)?.upload_from(&[1, 2, 3])?;
/// let mut back = [0; 3];
/// numbers.download_to(&mut back)?;
/// assert_eq!(back, [1, 2, 3]);
/// numbers.free()?;
/// # Ok::<(), hapax::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct HostDevice {
    handed_out: AtomicU64,
}

impl HostDevice {
    /// Host memory, bounded by nothing but the heap's limit and the machine.
    pub fn new() -> Self {
        Self::default()
    }

    fn next_number(&self) -> u64 {
        self.handed_out.fetch_add(1, Ordering::Relaxed)
    }
}

// SAFETY: memory is the global allocator's, aligned to 256 bytes; every copy is done by the call itself,
// before it returns, so each event has passed whenever it is asked about, and a failing call did nothing.
unsafe impl Device for HostDevice {
    fn name(&self) -> String {
        "host memory".to_owned()
    }

    fn is_synchronous(&self) -> bool {
        true
    }

    fn min_granule_bytes(&self) -> u64 {
        1
    }

    fn memory(&self) -> Result<Option<MemoryInfo>, DeviceError> {
        Ok(None)
    }

    fn alloc(&self, bytes: u64) -> Result<u64, DeviceError> {
        alloc_zeroed(bytes).map(|memory| memory.as_ptr().expose_provenance() as u64)
    }

    unsafe fn free(&self, address: u64, bytes: u64) -> Result<(), DeviceError> {
        // SAFETY: the caller hands back what `alloc(bytes)` returned, once.
        unsafe { std::alloc::dealloc(host_pointer(address), layout(bytes)?) };
        Ok(())
    }

    fn alloc_page_locked(&self, bytes: usize) -> Result<NonNull<u8>, DeviceError> {
        alloc_zeroed(bytes as u64)
    }

    unsafe fn free_page_locked(&self, memory: NonNull<u8>, bytes: usize) -> Result<(), DeviceError> {
        // SAFETY: the caller hands back what `alloc_page_locked(bytes)` returned, once.
        unsafe { std::alloc::dealloc(memory.as_ptr(), layout(bytes as u64)?) };
        Ok(())
    }

    fn create_stream(&self) -> Result<RawStream, DeviceError> {
        Ok(RawStream(self.next_number()))
    }

    unsafe fn destroy_stream(&self, _: RawStream) -> Result<(), DeviceError> {
        Ok(())
    }

    fn create_event(&self) -> Result<RawEvent, DeviceError> {
        Ok(RawEvent(self.next_number()))
    }

    unsafe fn destroy_event(&self, _: RawEvent) -> Result<(), DeviceError> {
        Ok(())
    }

    unsafe fn record_event(&self, _: RawEvent, _: RawStream) -> Result<(), DeviceError> {
        Ok(())
    }

    unsafe fn event_passed(&self, _: RawEvent) -> Result<bool, DeviceError> {
        Ok(true)
    }

    unsafe fn wait_event(&self, _: RawEvent) -> Result<(), DeviceError> {
        Ok(())
    }

    unsafe fn stream_wait_event(&self, _: RawStream, _: RawEvent) -> Result<(), DeviceError> {
        Ok(())
    }

    unsafe fn copy_in(&self, to: u64, from: *const u8, bytes: usize, _: RawStream) -> Result<(), DeviceError> {
        // SAFETY: the caller vouches for both sides; a device span and a host buffer never overlap.
        unsafe { std::ptr::copy_nonoverlapping(from, host_pointer(to), bytes) };
        Ok(())
    }

    unsafe fn copy_out(&self, to: *mut u8, from: u64, bytes: usize, _: RawStream) -> Result<(), DeviceError> {
        // SAFETY: the caller vouches for both sides; a device span and a host buffer never overlap.
        unsafe { std::ptr::copy_nonoverlapping(host_pointer(from), to, bytes) };
        Ok(())
    }

    unsafe fn copy_in_blocking(
        &self,
        to: u64,
        from: *const u8,
        bytes: usize,
        stream: RawStream,
    ) -> Result<(), DeviceError> {
        // SAFETY: the same contract; the copy is over when it returns.
        unsafe { self.copy_in(to, from, bytes, stream) }
    }

    unsafe fn copy_out_blocking(
        &self,
        to: *mut u8,
        from: u64,
        bytes: usize,
        stream: RawStream,
    ) -> Result<(), DeviceError> {
        // SAFETY: the same contract; the copy is over when it returns.
        unsafe { self.copy_out(to, from, bytes, stream) }
    }

    unsafe fn zero(&self, at: u64, bytes: usize, _: RawStream) -> Result<(), DeviceError> {
        // SAFETY: the caller vouches that the span is allocated.
        unsafe { std::ptr::write_bytes(host_pointer(at), 0, bytes) };
        Ok(())
    }
}

/// The pointer behind a device address that a host-backed device handed out.
pub(crate) fn host_pointer(address: u64) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(address as usize)
}

pub(crate) fn alloc_zeroed(bytes: u64) -> Result<NonNull<u8>, DeviceError> {
    // SAFETY: `layout` is never empty.
    let memory = unsafe { std::alloc::alloc_zeroed(layout(bytes)?) };
    NonNull::new(memory).ok_or_else(|| out_of_memory(bytes))
}

pub(crate) fn layout(bytes: u64) -> Result<Layout, DeviceError> {
    let bytes_here = usize::try_from(bytes).map_err(|_| out_of_memory(bytes))?;
    Layout::from_size_align(bytes_here.max(1), ALIGN).map_err(|_| out_of_memory(bytes))
}

pub(crate) fn out_of_memory(bytes: u64) -> DeviceError {
    DeviceError { fault: Fault::OutOfMemory, call: "alloc", code: 0, message: format!("the host has no {bytes} bytes") }
}
