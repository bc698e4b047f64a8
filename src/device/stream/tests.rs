//! What another thread does while a stream is being marked, or ended: a driver call is where it can come in between.
#![expect(unsafe_code, reason = "passes the unsafe device trait on to another implementation")]
#![expect(clippy::undocumented_unsafe_blocks, reason = "the caller's contract is the inner device's")]

use crate::device::late::{LateControl, LateDevice};
use crate::device::stream::{DeviceRef, StreamSet};
use crate::device::{Device, DeviceError, MemoryInfo, RawEvent, RawStream};
use crate::error::Error;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

type Done<T> = Result<T, DeviceError>;

/// The other thread, and what it sees.
#[derive(Default)]
struct Thread {
    begins_a_capture: AtomicBool,
    captures: AtomicBool,
    /// Comes in when the next event is asked whether it has passed.
    comes_in: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    streams_that_waited: AtomicU32,
    streams_destroyed: AtomicU32,
}

struct Beside(LateDevice, Arc<Thread>);

// SAFETY: every call is the inner device's, with the caller's own arguments.
#[rustfmt::skip]
unsafe impl Device for Beside {
    fn name(&self) -> String { self.0.name() }
    fn memory(&self) -> Done<Option<MemoryInfo>> { self.0.memory() }
    fn alloc(&self, bytes: u64) -> Done<u64> { self.0.alloc(bytes) }
    fn alloc_page_locked(&self, bytes: usize) -> Done<NonNull<u8>> { self.0.alloc_page_locked(bytes) }
    fn create_stream(&self) -> Done<RawStream> { self.0.create_stream() }
    fn create_event(&self) -> Done<RawEvent> { self.0.create_event() }

    unsafe fn record_event(&self, event: RawEvent, stream: RawStream) -> Done<()> {
        if self.1.begins_a_capture.load(Relaxed) {
            self.1.captures.store(true, Relaxed);
        }
        unsafe { self.0.record_event(event, stream) }
    }
    unsafe fn is_capturing(&self, _: RawStream) -> Done<bool> { Ok(self.1.captures.load(Relaxed)) }
    unsafe fn stream_wait_event(&self, stream: RawStream, event: RawEvent) -> Done<()> {
        self.1.streams_that_waited.fetch_add(1, Relaxed);
        unsafe { self.0.stream_wait_event(stream, event) }
    }

    unsafe fn destroy_stream(&self, stream: RawStream) -> Done<()> {
        self.1.streams_destroyed.fetch_add(1, Relaxed);
        unsafe { self.0.destroy_stream(stream) }
    }
    unsafe fn event_passed(&self, event: RawEvent) -> Done<bool> {
        let comes_in = self.1.comes_in.lock().unwrap().take();
        comes_in.into_iter().for_each(|act| act());
        unsafe { self.0.event_passed(event) }
    }

    unsafe fn free(&self, address: u64, bytes: u64) -> Done<()> { unsafe { self.0.free(address, bytes) } }
    unsafe fn free_page_locked(&self, memory: NonNull<u8>, bytes: usize) -> Done<()> { unsafe { self.0.free_page_locked(memory, bytes) } }
    unsafe fn destroy_event(&self, event: RawEvent) -> Done<()> { unsafe { self.0.destroy_event(event) } }
    unsafe fn wait_event(&self, event: RawEvent) -> Done<()> { unsafe { self.0.wait_event(event) } }
    unsafe fn copy_in(&self, to: u64, from: *const u8, bytes: usize, stream: RawStream) -> Done<()> { unsafe { self.0.copy_in(to, from, bytes, stream) } }
    unsafe fn copy_out(&self, to: *mut u8, from: u64, bytes: usize, stream: RawStream) -> Done<()> { unsafe { self.0.copy_out(to, from, bytes, stream) } }
    unsafe fn copy_in_blocking(&self, to: u64, from: *const u8, bytes: usize, stream: RawStream) -> Done<()> { unsafe { self.0.copy_in_blocking(to, from, bytes, stream) } }
    unsafe fn copy_out_blocking(&self, to: *mut u8, from: u64, bytes: usize, stream: RawStream) -> Done<()> { unsafe { self.0.copy_out_blocking(to, from, bytes, stream) } }
    unsafe fn zero(&self, at: u64, bytes: usize, stream: RawStream) -> Done<()> { unsafe { self.0.zero(at, bytes, stream) } }
}

/// To wait for such an event is an error of the driver; a stream that waits for it joins the capture.
#[test]
fn an_event_of_a_stream_whose_capture_began_meanwhile_is_not_used() {
    let (late, _control) = LateDevice::new();
    let thread = Arc::new(Thread::default());
    let device = DeviceRef::new(Beside(late, thread.clone()));
    let (captured, other) = (device.new_stream().unwrap(), device.new_stream().unwrap());
    thread.begins_a_capture.store(true, Relaxed);
    assert_eq!(captured.synchronize(), Err(Error::StreamCapturing));
    thread.captures.store(false, Relaxed);
    assert_eq!(other.wait_for_streams(captured.note()), Err(Error::StreamCapturing));
    assert_eq!(thread.streams_that_waited.load(Relaxed), 0);
    thread.begins_a_capture.store(false, Relaxed);
    thread.captures.store(false, Relaxed);
    other.wait_for_streams(captured.note()).unwrap();
    assert_eq!(thread.streams_that_waited.load(Relaxed), 1);
    captured.synchronize().unwrap();
}

/// A stream whose handles are gone, on a device beside a thread, with what its end goes through.
fn let_go() -> (DeviceRef, LateControl, Arc<Thread>, RawStream, StreamSet) {
    let (late, control) = LateDevice::new();
    let thread = Arc::new(Thread::default());
    let device = DeviceRef::new(Beside(late, thread.clone()));
    let stream = device.new_stream().unwrap();
    let (raw, note) = (stream.raw(), stream.note());
    drop(stream);
    (device, control, thread, raw, note)
}

fn destroyed(thread: &Thread) -> u32 {
    thread.streams_destroyed.load(Relaxed)
}

#[test]
fn a_stream_adopted_while_it_is_found_over_goes_on() {
    let (device, control, thread, raw, _) = let_go();
    let adopted = Arc::new(Mutex::new(None));
    let (other, at, to) = (device.clone(), control.clone(), adopted.clone());
    *thread.comes_in.lock().unwrap() = Some(Box::new(move || {
        at.run_all(); // so it is over
        *to.lock().unwrap() = Some(unsafe { other.adopt_stream(raw, ()) }.unwrap());
    }));
    for _ in 0..3 {
        device.retire_streams().unwrap();
        control.run_all();
    }
    let adopted = adopted.lock().unwrap().take().expect("the thread came in");
    assert_eq!(destroyed(&thread), 0);
    adopted.synchronize().unwrap();
    drop(adopted);
    for _ in 0..2 {
        device.retire_streams().unwrap();
        control.run_all();
    }
    assert_eq!(destroyed(&thread), 1);
}

#[test]
fn a_stream_marked_while_it_is_found_over_stays_until_that_mark_has_passed() {
    let (device, control, thread, _, note) = let_go();
    let (other, at) = (device.clone(), control.clone());
    *thread.comes_in.lock().unwrap() = Some(Box::new(move || {
        at.run_all();
        drop(other.record_each(note)); // the mark stands behind what was found over
    }));
    device.retire_streams().unwrap();
    assert_eq!(destroyed(&thread), 0);
    device.retire_streams().unwrap();
    assert_eq!(destroyed(&thread), 0, "its mark has not passed");
    control.run_all();
    device.retire_streams().unwrap();
    assert_eq!(destroyed(&thread), 1);
}
