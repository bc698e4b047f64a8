//! A device without memory: addresses only. For studies of budgets and policies that no host could hold.
#![expect(unsafe_code, reason = "implements the unsafe device trait over nothing at all")]

use crate::device::host::{alloc_zeroed, layout, out_of_memory};
use crate::device::{Device, DeviceError, MemoryInfo, RawEvent, RawStream};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// Addresses without memory behind them: a cache of any budget runs on it, with all its books, and takes no more than
/// those. What is copied in is gone, what is copied out is zeros. Synchronous.
///
/// For trying budgets and policies on requests that were recorded; the example `policy_study` does. Nothing that
/// has contents can be tested on it.
///
/// ```
/// use hapax::{DryDevice, Heap, HeapOptions};
///
/// let heap = Heap::new(DryDevice::new(), HeapOptions::new(80 << 30).slab_bytes(1 << 30))?; // 80 GiB
/// let stream = heap.new_stream()?;
/// let large = heap.alloc_slice::<u8>(40 << 30)?.zero(&stream)?;
/// assert_eq!(heap.ledger().live_bytes, 40 << 30);
/// # drop(large);
/// # Ok::<(), hapax::Error>(())
/// ```
#[derive(Debug)]
pub struct DryDevice {
    next_address: AtomicU64,
    handed_out: AtomicU64,
}

const FIRST_ADDRESS: u64 = 1 << 32;
const LAST_ADDRESS: u64 = 1 << 62;

impl DryDevice {
    /// 4 EiB of addresses.
    pub fn new() -> Self {
        DryDevice { next_address: AtomicU64::new(FIRST_ADDRESS), handed_out: AtomicU64::new(0) }
    }

    fn next_number(&self) -> u64 {
        self.handed_out.fetch_add(1, Ordering::Relaxed)
    }
}

impl Default for DryDevice {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: no two allocations share an address, each is aligned to 256, and copies touch host memory alone, within
// what their callers name. Every call is over when it returns, so each event has passed whenever it is asked about.
unsafe impl Device for DryDevice {
    fn name(&self) -> String {
        "addresses without memory".to_owned()
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
        let next = |from: u64| {
            let end = from.checked_add(bytes)?.checked_next_multiple_of(256)?;
            (end <= LAST_ADDRESS).then_some(end)
        };
        self.next_address.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).map_err(|_| out_of_memory(bytes))
    }

    unsafe fn free(&self, _: u64, _: u64) -> Result<(), DeviceError> {
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

    unsafe fn copy_in(&self, _: u64, _: *const u8, _: usize, _: RawStream) -> Result<(), DeviceError> {
        Ok(())
    }

    unsafe fn copy_out(&self, to: *mut u8, _: u64, bytes: usize, _: RawStream) -> Result<(), DeviceError> {
        // SAFETY: the caller vouches that `to` is writable for `bytes`.
        unsafe { std::ptr::write_bytes(to, 0, bytes) };
        Ok(())
    }

    unsafe fn copy_in_blocking(&self, _: u64, _: *const u8, _: usize, _: RawStream) -> Result<(), DeviceError> {
        Ok(())
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

    unsafe fn zero(&self, _: u64, _: usize, _: RawStream) -> Result<(), DeviceError> {
        Ok(())
    }
}
