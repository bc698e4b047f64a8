//! A device that fails as it is told, in front of any other, so that tests reach what stands behind a failed call.
//! Knows nothing of what its calls do, only which memory they took and gave back.
#![expect(unsafe_code, reason = "passes the unsafe device trait on to another implementation")]

use crate::device::host::host_pointer;
use crate::device::{
    Device, DeviceError, Fault, ForeignAllocator, LaunchShape, MemoryInfo, RawContext, RawEvent, RawFunction,
    RawModule, RawStream,
};
use crate::sync::Mutex;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_void};
use std::ptr::NonNull;
use std::sync::Arc;

/// Another device, some of whose calls fail as a [`FaultControl`] says. A call that is told to fail never reaches it.
///
/// Memory that was never freed, as on a lost device, is freed when this one is dropped, after its streams have passed.
///
/// ```
/// use hapax::{DeviceRef, Error, Fault, FaultDevice, HostDevice};
///
/// let (device, control) = FaultDevice::new(HostDevice::new());
/// let device = DeviceRef::new(device);
/// control.fail_call(2, Fault::Lost);
/// let stream = device.new_stream()?;
/// assert_eq!(device.new_stream().unwrap_err(), Error::DeviceLost);
/// assert_eq!(stream.synchronize().unwrap_err(), Error::DeviceLost);
/// assert_eq!(control.log(), ["create_stream", "create_stream"]);
/// assert_eq!(control.calls_after_loss(), 0); // hapax remembers the loss
/// # Ok::<(), Error>(())
/// ```
pub struct FaultDevice<D: Device> {
    inner: D,
    state: Arc<Mutex<State>>,
}

/// Tells a [`FaultDevice`] what to fail, and counts; the device's example shows it. Clones speak to the same device,
/// and all may outlive it.
#[derive(Clone)]
pub struct FaultControl(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// By the call's number, counted from 1.
    planned: BTreeMap<u64, Fault>,
    most_live_bytes: Option<u64>,
    refuse_page_locked: bool,
    lost: bool,
    inner_is_lost: bool,
    calls_after_loss: u64,
    log: Vec<&'static str>,
    memory: BTreeMap<u64, u64>,
    page_locked: BTreeMap<u64, usize>,
    streams: Vec<RawStream>,
}

impl<D: Device> FaultDevice<D> {
    /// Puts `inner` behind faults, of which none is planned yet.
    pub fn new(inner: D) -> (FaultDevice<D>, FaultControl) {
        let state = Arc::new(Mutex::new(State::default()));
        (FaultDevice { inner, state: state.clone() }, FaultControl(state))
    }

    fn pass<R>(&self, call: &'static str, on: impl FnOnce(&D) -> Result<R, DeviceError>) -> Result<R, DeviceError> {
        self.state.lock().admit(call)?;
        on(&self.inner).inspect_err(|error| self.state.lock().note_failure(error))
    }

    /// As `pass`, for calls that take or give back: what is held changes with them, under one lock. No host function
    /// runs in such a call, so none can come back for the lock.
    fn pass_held<R>(
        &self,
        call: &'static str,
        on: impl FnOnce(&D, &mut State) -> Result<R, DeviceError>,
    ) -> Result<R, DeviceError> {
        let mut state = self.state.lock();
        state.admit(call)?;
        on(&self.inner, &mut state).inspect_err(|error| state.note_failure(error))
    }
}

impl FaultControl {
    /// Fails the `nth` call from now on (the next one is 1): once, but from then on for ever if `fault` is
    /// [`Fault::Lost`]. Several calls may be planned.
    ///
    /// # Panics
    /// If `nth` is 0.
    pub fn fail_call(&self, nth: u64, fault: Fault) {
        assert!(nth > 0, "calls are counted from 1");
        let mut state = self.0.lock();
        let call = state.calls() + nth;
        state.planned.insert(call, fault);
    }

    /// Fails each `alloc` with [`Fault::OutOfMemory`] that would take [`live_bytes`](Self::live_bytes) above `bytes`.
    pub fn out_of_memory_above(&self, bytes: u64) {
        self.0.lock().most_live_bytes = Some(bytes);
    }

    /// Fails each `alloc_page_locked` with [`Fault::OutOfMemory`], until told otherwise.
    pub fn refuse_page_locked(&self, refuse: bool) {
        self.0.lock().refuse_page_locked = refuse;
    }

    /// Forgets what is planned. A lost device stays lost.
    pub fn disarm(&self) {
        let mut state = self.0.lock();
        state.planned.clear();
        state.most_live_bytes = None;
        state.refuse_page_locked = false;
    }

    /// Calls made so far, failed ones too. The device's name, context and two constants are none, nor is whether a stream is captured.
    pub fn calls(&self) -> u64 {
        self.0.lock().calls()
    }

    /// Calls made after the one that found the device lost. Hapax makes none.
    pub fn calls_after_loss(&self) -> u64 {
        self.0.lock().calls_after_loss
    }

    /// Bytes of device memory that the device's user allocated and did not free. What the device frees itself,
    /// when it is dropped, still counts.
    pub fn live_bytes(&self) -> u64 {
        self.0.lock().live_bytes()
    }

    /// As [`live_bytes`](Self::live_bytes), of page-locked memory.
    pub fn page_locked_bytes(&self) -> u64 {
        self.0.lock().page_locked.values().map(|&bytes| bytes as u64).sum()
    }

    /// The names of all calls made so far, failed ones too, in order.
    pub fn log(&self) -> Vec<&'static str> {
        self.0.lock().log.clone()
    }
}

impl State {
    /// Counts a call, and refuses it if it is to fail.
    fn admit(&mut self, call: &'static str) -> Result<(), DeviceError> {
        self.log.push(call);
        if self.lost {
            self.calls_after_loss += 1;
            return Err(told_to_fail(call, Fault::Lost));
        }
        let Some(fault) = self.planned.remove(&self.calls()) else { return Ok(()) };
        self.lost = fault == Fault::Lost;
        Err(told_to_fail(call, fault))
    }

    fn note_failure(&mut self, error: &DeviceError) {
        if error.fault == Fault::Lost {
            self.lost = true;
            self.inner_is_lost = true;
        }
    }

    fn calls(&self) -> u64 {
        self.log.len() as u64
    }

    fn live_bytes(&self) -> u64 {
        self.memory.values().sum()
    }
}

fn told_to_fail(call: &'static str, fault: Fault) -> DeviceError {
    DeviceError { fault, call, code: -1, message: "a FaultControl told it to fail".to_owned() }
}

/// On a lost device hapax may free nothing, but the loss was only played: the memory is real, and a process under a
/// leak checker must end clean. Nobody is left who could use it.
impl<D: Device> Drop for FaultDevice<D> {
    fn drop(&mut self) {
        // out of the lock, since waiting may run host functions that use a control
        let (memory, page_locked, streams) = {
            let state = self.state.lock();
            if state.inner_is_lost || (state.memory.is_empty() && state.page_locked.is_empty()) {
                return;
            }
            (state.memory.clone(), state.page_locked.clone(), state.streams.clone())
        };
        for stream in streams {
            // SAFETY: the inner device made the stream, and nobody destroyed it.
            if unsafe { pass_stream(&self.inner, stream) }.is_err() {
                return; // work may be pending, so all that is left is to leak
            }
        }
        for (address, bytes) in memory {
            // SAFETY: the inner device's `alloc` gave it, it was not freed, and no stream has work left.
            let _ = unsafe { self.inner.free(address, bytes) };
        }
        for (address, bytes) in page_locked {
            let Some(buffer) = NonNull::new(host_pointer(address)) else { continue };
            // SAFETY: the inner device's `alloc_page_locked` gave it, it was not freed, and no stream has work left.
            let _ = unsafe { self.inner.free_page_locked(buffer, bytes) };
        }
    }
}

/// # Safety
/// `stream` is of `device` and alive.
unsafe fn pass_stream(device: &impl Device, stream: RawStream) -> Result<(), DeviceError> {
    let event = device.create_event()?;
    // SAFETY: the event was just made, and the caller vouches for the stream.
    let marked = unsafe { device.record_event(event, stream) };
    // SAFETY: the event is alive.
    let passed = marked.and_then(|()| unsafe { device.wait_event(event) });
    // SAFETY: the event is alive, and this is its last use.
    passed.and(unsafe { device.destroy_event(event) })
}

// SAFETY: each call either reaches the inner device with the caller's own arguments, whose implementation answers for
// it, or fails before it had any effect; so memory, order and events are the inner device's:
// - memory is freed behind the user's back only when this device is dropped, after its streams have passed;
// - an event that failed to be recorded keeps its mark, and one never recorded has passed, as inside;
// - whether it is synchronous is the inner device's word, and a call that returns `Ok` was made on it.
unsafe impl<D: Device> Device for FaultDevice<D> {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn is_synchronous(&self) -> bool {
        self.inner.is_synchronous()
    }

    fn min_granule_bytes(&self) -> u64 {
        self.inner.min_granule_bytes()
    }

    fn memory(&self) -> Result<Option<MemoryInfo>, DeviceError> {
        self.pass("memory", |inner| inner.memory())
    }

    fn alloc(&self, bytes: u64) -> Result<u64, DeviceError> {
        self.pass_held("alloc", |inner, state| {
            if state.most_live_bytes.is_some_and(|most| state.live_bytes().saturating_add(bytes) > most) {
                return Err(told_to_fail("alloc", Fault::OutOfMemory));
            }
            let address = inner.alloc(bytes)?;
            state.memory.insert(address, bytes);
            Ok(address)
        })
    }

    unsafe fn free(&self, address: u64, bytes: u64) -> Result<(), DeviceError> {
        self.pass_held("free", |inner, state| {
            // SAFETY: the caller's contract is the inner device's.
            unsafe { inner.free(address, bytes) }?;
            state.memory.remove(&address);
            Ok(())
        })
    }

    fn alloc_page_locked(&self, bytes: usize) -> Result<NonNull<u8>, DeviceError> {
        self.pass_held("alloc_page_locked", |inner, state| {
            if state.refuse_page_locked {
                return Err(told_to_fail("alloc_page_locked", Fault::OutOfMemory));
            }
            let buffer = inner.alloc_page_locked(bytes)?;
            state.page_locked.insert(buffer.as_ptr().expose_provenance() as u64, bytes);
            Ok(buffer)
        })
    }

    unsafe fn free_page_locked(&self, memory: NonNull<u8>, bytes: usize) -> Result<(), DeviceError> {
        self.pass_held("free_page_locked", |inner, state| {
            // SAFETY: the caller's contract is the inner device's.
            unsafe { inner.free_page_locked(memory, bytes) }?;
            state.page_locked.remove(&(memory.addr().get() as u64));
            Ok(())
        })
    }

    fn create_stream(&self) -> Result<RawStream, DeviceError> {
        self.pass_held("create_stream", |inner, state| {
            inner.create_stream().inspect(|&stream| state.streams.push(stream))
        })
    }

    unsafe fn destroy_stream(&self, stream: RawStream) -> Result<(), DeviceError> {
        self.pass_held("destroy_stream", |inner, state| {
            // SAFETY: the caller's contract is the inner device's.
            unsafe { inner.destroy_stream(stream) }?;
            state.streams.retain(|&one| one != stream);
            Ok(())
        })
    }

    fn create_event(&self) -> Result<RawEvent, DeviceError> {
        self.pass("create_event", |inner| inner.create_event())
    }

    unsafe fn destroy_event(&self, event: RawEvent) -> Result<(), DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.pass("destroy_event", |inner| unsafe { inner.destroy_event(event) })
    }

    unsafe fn record_event(&self, event: RawEvent, stream: RawStream) -> Result<(), DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.pass("record_event", |inner| unsafe { inner.record_event(event, stream) })
    }

    unsafe fn event_passed(&self, event: RawEvent) -> Result<bool, DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.pass("event_passed", |inner| unsafe { inner.event_passed(event) })
    }

    unsafe fn wait_event(&self, event: RawEvent) -> Result<(), DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.pass("wait_event", |inner| unsafe { inner.wait_event(event) })
    }

    unsafe fn stream_wait_event(&self, stream: RawStream, event: RawEvent) -> Result<(), DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.pass("stream_wait_event", |inner| unsafe { inner.stream_wait_event(stream, event) })
    }

    unsafe fn copy_in(&self, to: u64, from: *const u8, bytes: usize, stream: RawStream) -> Result<(), DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.pass("copy_in", |inner| unsafe { inner.copy_in(to, from, bytes, stream) })
    }

    unsafe fn copy_out(&self, to: *mut u8, from: u64, bytes: usize, stream: RawStream) -> Result<(), DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.pass("copy_out", |inner| unsafe { inner.copy_out(to, from, bytes, stream) })
    }

    unsafe fn copy_in_blocking(
        &self,
        to: u64,
        from: *const u8,
        bytes: usize,
        stream: RawStream,
    ) -> Result<(), DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.pass("copy_in_blocking", |inner| unsafe { inner.copy_in_blocking(to, from, bytes, stream) })
    }

    unsafe fn copy_out_blocking(
        &self,
        to: *mut u8,
        from: u64,
        bytes: usize,
        stream: RawStream,
    ) -> Result<(), DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.pass("copy_out_blocking", |inner| unsafe { inner.copy_out_blocking(to, from, bytes, stream) })
    }

    /// No call that a [`FaultControl`] counts: it changes nothing, and on most devices it is not even a call.
    unsafe fn is_capturing(&self, stream: RawStream) -> Result<bool, DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        unsafe { self.inner.is_capturing(stream) }.inspect_err(|error| self.state.lock().note_failure(error))
    }

    unsafe fn zero(&self, at: u64, bytes: usize, stream: RawStream) -> Result<(), DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.pass("zero", |inner| unsafe { inner.zero(at, bytes, stream) })
    }

    fn context(&self) -> Option<RawContext> {
        self.inner.context()
    }

    unsafe fn load_module(&self, image: &[u8]) -> Result<RawModule, DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.pass("load_module", |inner| unsafe { inner.load_module(image) })
    }

    unsafe fn unload_module(&self, module: RawModule) -> Result<(), DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.pass("unload_module", |inner| unsafe { inner.unload_module(module) })
    }

    unsafe fn module_function(&self, module: RawModule, name: &CStr) -> Result<RawFunction, DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.pass("module_function", |inner| unsafe { inner.module_function(module, name) })
    }

    unsafe fn allow_shared_bytes(&self, function: RawFunction, bytes: u32) -> Result<(), DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.pass("allow_shared_bytes", |inner| unsafe { inner.allow_shared_bytes(function, bytes) })
    }

    unsafe fn launch(
        &self,
        function: RawFunction,
        shape: LaunchShape,
        stream: RawStream,
        arguments: &mut [*mut c_void],
    ) -> Result<(), DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.pass("launch", |inner| unsafe { inner.launch(function, shape, stream, arguments) })
    }

    unsafe fn free_foreign(
        &self,
        address: u64,
        allocator: ForeignAllocator,
        stream: RawStream,
    ) -> Result<(), DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.pass("free_foreign", |inner| unsafe { inner.free_foreign(address, allocator, stream) })
    }

    unsafe fn close(&self) -> Result<(), DeviceError> {
        // SAFETY: the caller's contract is the inner device's.
        self.pass("close", |inner| unsafe { inner.close() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::host::HostDevice;
    use crate::device::late::LateDevice;

    fn fault<R>(result: Result<R, DeviceError>) -> Option<Fault> {
        result.err().map(|error| error.fault)
    }

    #[test]
    fn the_nth_call_from_now_fails_once_and_does_not_reach_the_device() {
        let (inner, late) = LateDevice::new();
        let (device, control) = FaultDevice::new(inner);
        device.create_event().unwrap();
        control.fail_call(2, Fault::Failed);
        control.fail_call(4, Fault::OutOfMemory);
        let faults: Vec<_> = (0..5).map(|_| fault(device.create_event())).collect();
        assert_eq!(faults, [None, Some(Fault::Failed), None, Some(Fault::OutOfMemory), None]);
        assert_eq!((control.calls(), late.calls()), (6, 4));
        assert_eq!(control.log(), ["create_event"; 6]);
        control.fail_call(1, Fault::Lost);
        control.disarm();
        assert_eq!(fault(device.memory()), None);
        assert_eq!((device.name(), control.calls()), ("late host memory".to_owned(), 7));
    }

    #[test]
    fn memory_ends_at_the_bound_and_counts_until_it_is_freed() {
        let (device, control) = FaultDevice::new(HostDevice::new());
        control.out_of_memory_above(100);
        let address = device.alloc(60).unwrap();
        let buffer = device.alloc_page_locked(1000).unwrap(); // not device memory
        assert_eq!(fault(device.alloc(41)), Some(Fault::OutOfMemory));
        assert_eq!((control.live_bytes(), control.page_locked_bytes()), (60, 1000));
        control.fail_call(1, Fault::Failed);
        // SAFETY: this `alloc(60)` gave it; a call that fails does not free.
        assert_eq!(fault(unsafe { device.free(address, 60) }), Some(Fault::Failed));
        assert_eq!(control.live_bytes(), 60);
        // SAFETY: this `alloc(60)` gave it, and it is freed this once.
        unsafe { device.free(address, 60) }.unwrap();
        // SAFETY: this `alloc_page_locked(1000)` gave it, and it is freed this once.
        unsafe { device.free_page_locked(buffer, 1000) }.unwrap();
        assert_eq!((control.live_bytes(), control.page_locked_bytes()), (0, 0));
        assert_eq!(fault(device.alloc(101)), Some(Fault::OutOfMemory));
        control.disarm();
        assert_eq!(fault(device.alloc(101)), None);
    }

    #[test]
    fn a_lost_device_stays_lost_and_frees_what_it_holds_when_it_is_dropped() {
        let (inner, late) = LateDevice::new();
        let (device, control) = FaultDevice::new(inner);
        let stream = device.create_stream().unwrap();
        let address = device.alloc(64).unwrap();
        let buffer = device.alloc_page_locked(64).unwrap();
        // SAFETY: both sides stay allocated, and untouched, until the device is dropped.
        unsafe { device.copy_in(address, buffer.as_ptr(), 64, stream) }.unwrap();
        control.fail_call(1, Fault::Lost);
        assert_eq!(fault(device.memory()), Some(Fault::Lost));
        assert_eq!(control.calls_after_loss(), 0);
        control.disarm();
        // SAFETY: `alloc(64)` gave it; the call fails, and the queued copy keeps it.
        assert_eq!(fault(unsafe { device.free(address, 64) }), Some(Fault::Lost));
        assert_eq!((control.calls_after_loss(), control.calls(), late.calls()), (1, 6, 4));
        drop(device);
        assert_eq!((control.live_bytes(), control.page_locked_bytes()), (64, 64));
        assert_eq!((late.memory_bytes(), late.page_locked_bytes()), (0, 0));
        assert!(late.violations().is_empty(), "the copy ran before its memory went");
    }
}
