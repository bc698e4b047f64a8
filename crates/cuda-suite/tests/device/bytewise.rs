//! `CudaDevice` with a granule of one byte. The suites count in bytes, so that every size and every bound is met;
//! CUDA's own least, 256, is what a user's heap is held to, and `backend.rs` uses it.
#![expect(unsafe_code, reason = "passes the unsafe device trait on to another implementation")]

use hapax::{CudaDevice, Device, DeviceError, ForeignAllocator, LaunchShape, MemoryInfo};
use hapax::{RawContext, RawEvent, RawFunction, RawModule, RawStream};
use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

type Done<T> = Result<T, DeviceError>;

pub struct Bytewise(pub CudaDevice);

// SAFETY: every call is the card's own, with the caller's own arguments. A granule says where blocks may begin, and
// CUDA's copies and fills begin and end at any byte.
#[rustfmt::skip]
unsafe impl Device for Bytewise {
    fn name(&self) -> String { self.0.name() }
    fn is_synchronous(&self) -> bool { self.0.is_synchronous() }
    fn min_granule_bytes(&self) -> u64 { 1 }
    fn memory(&self) -> Done<Option<MemoryInfo>> { self.0.memory() }
    fn alloc(&self, bytes: u64) -> Done<u64> { self.0.alloc(bytes) }
    fn alloc_page_locked(&self, bytes: usize) -> Done<NonNull<u8>> { self.0.alloc_page_locked(bytes) }
    fn create_stream(&self) -> Done<RawStream> { self.0.create_stream() }
    fn create_event(&self) -> Done<RawEvent> { self.0.create_event() }
    fn context(&self) -> Option<RawContext> { self.0.context() }

    // SAFETY of all below: the caller's contract is the card's.
    unsafe fn free(&self, address: u64, bytes: u64) -> Done<()> { unsafe { self.0.free(address, bytes) } }
    unsafe fn free_page_locked(&self, memory: NonNull<u8>, bytes: usize) -> Done<()> { unsafe { self.0.free_page_locked(memory, bytes) } }
    unsafe fn destroy_stream(&self, stream: RawStream) -> Done<()> { unsafe { self.0.destroy_stream(stream) } }
    unsafe fn destroy_event(&self, event: RawEvent) -> Done<()> { unsafe { self.0.destroy_event(event) } }
    unsafe fn record_event(&self, event: RawEvent, stream: RawStream) -> Done<()> { unsafe { self.0.record_event(event, stream) } }
    unsafe fn event_passed(&self, event: RawEvent) -> Done<bool> { unsafe { self.0.event_passed(event) } }
    unsafe fn wait_event(&self, event: RawEvent) -> Done<()> { unsafe { self.0.wait_event(event) } }
    unsafe fn stream_wait_event(&self, stream: RawStream, event: RawEvent) -> Done<()> { unsafe { self.0.stream_wait_event(stream, event) } }
    unsafe fn is_capturing(&self, stream: RawStream) -> Done<bool> { unsafe { self.0.is_capturing(stream) } }
    unsafe fn copy_in(&self, to: u64, from: *const u8, bytes: usize, stream: RawStream) -> Done<()> { unsafe { self.0.copy_in(to, from, bytes, stream) } }
    unsafe fn copy_out(&self, to: *mut u8, from: u64, bytes: usize, stream: RawStream) -> Done<()> { unsafe { self.0.copy_out(to, from, bytes, stream) } }
    unsafe fn copy_in_blocking(&self, to: u64, from: *const u8, bytes: usize, stream: RawStream) -> Done<()> { unsafe { self.0.copy_in_blocking(to, from, bytes, stream) } }
    unsafe fn copy_out_blocking(&self, to: *mut u8, from: u64, bytes: usize, stream: RawStream) -> Done<()> { unsafe { self.0.copy_out_blocking(to, from, bytes, stream) } }
    unsafe fn zero(&self, at: u64, bytes: usize, stream: RawStream) -> Done<()> { unsafe { self.0.zero(at, bytes, stream) } }
    unsafe fn load_module(&self, image: &[u8]) -> Done<RawModule> { unsafe { self.0.load_module(image) } }
    unsafe fn unload_module(&self, module: RawModule) -> Done<()> { unsafe { self.0.unload_module(module) } }
    unsafe fn module_function(&self, module: RawModule, name: &CStr) -> Done<RawFunction> { unsafe { self.0.module_function(module, name) } }
    unsafe fn allow_shared_bytes(&self, function: RawFunction, bytes: u32) -> Done<()> { unsafe { self.0.allow_shared_bytes(function, bytes) } }
    unsafe fn launch(&self, function: RawFunction, shape: LaunchShape, stream: RawStream, arguments: &mut [*mut c_void]) -> Done<()> { unsafe { self.0.launch(function, shape, stream, arguments) } }
    unsafe fn free_foreign(&self, address: u64, allocator: ForeignAllocator, stream: RawStream) -> Done<()> { unsafe { self.0.free_foreign(address, allocator, stream) } }
    unsafe fn close(&self) -> Done<()> { unsafe { self.0.close() } }
}
