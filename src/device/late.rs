//! A device that does nothing until it must, so that tests see work in flight. Knows no handle and no heap,
//! and nothing of the memory that a host function uses before that function asks for it.
#![expect(unsafe_code, reason = "implements the unsafe device trait")]

mod memory;

use crate::device::host::host_pointer;
use crate::device::late::memory::{Kind, Memory, POISON, Span};
use crate::device::stream::Stream;
use crate::device::{Device, DeviceError, Fault, MemoryInfo, RawEvent, RawStream};
use crate::sync::{Condvar, Mutex, MutexGuard, ThreadId, current_thread};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ptr::NonNull;
use std::sync::Arc;

/// Host memory whose work waits until an event, a blocking copy or a [`LateControl`] demands it: a device for tests.
///
/// A stream is a queue of copies, fills, host functions, marks of events and waits for marks. Waiting for an event
/// runs what its mark depends on, across streams, and nothing more; asking whether it passed runs nothing, so an
/// event just recorded has not passed, even on an idle stream. Memory is poisoned before its first and after its
/// last use (page-locked memory starts zeroed), and queued work is checked against live allocations before it
/// touches a byte. Work still queued when the device is dropped never runs.
///
/// ```
/// use hapax::{DeviceRef, LateDevice};
/// use std::sync::mpsc;
///
/// let (device, control) = LateDevice::new();
/// let stream = DeviceRef::new(device).new_stream()?;
/// let (ran, seen) = mpsc::channel();
/// control.launch(&stream, move || ran.send("a kernel").unwrap());
/// assert_eq!(control.pending(), 1);
/// assert!(seen.try_recv().is_err());
/// stream.synchronize()?;
/// assert_eq!(seen.try_recv(), Ok("a kernel"));
/// assert!(control.violations().is_empty());
/// # Ok::<(), hapax::Error>(())
/// ```
pub struct LateDevice(Arc<Shared>);

/// Drives and watches a [`LateDevice`] from a test, as its example shows. Clones drive the same device; all may
/// outlive it.
#[derive(Clone)]
pub struct LateControl(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    host_function_over: Condvar,
}

#[derive(Default)]
struct State {
    memory: Memory,
    streams: BTreeMap<u64, Queue>,
    events: HashMap<RawEvent, Option<Mark>>,
    numbers: u64,
    calls: u64,
    violations: Vec<String>,
}

#[derive(Default)]
struct Queue {
    operations: VecDeque<Operation>,
    /// Operations that have left the queue and are over.
    done: u64,
    /// The thread inside the host function that left the queue last.
    running: Option<ThreadId>,
}

enum Operation {
    /// From nowhere come zeros.
    Copy {
        call: &'static str,
        from: Option<Span>,
        to: Span,
    },
    HostFunction(Box<dyn FnOnce() + Send>),
    Mark,
    WaitFor(Mark),
}

/// A stream with as many operations over as it had been given when the mark was made.
#[derive(Clone, Copy)]
struct Mark {
    stream: RawStream,
    done: u64,
}

impl LateDevice {
    /// A device without a bound of its own, and what drives it.
    pub fn new() -> (LateDevice, LateControl) {
        Self::open(None)
    }

    /// A device of `total_bytes`: beyond them, an allocation fails with [`Fault::OutOfMemory`].
    pub fn with_memory(total_bytes: u64) -> (LateDevice, LateControl) {
        Self::open(Some(total_bytes))
    }

    fn open(total_bytes: Option<u64>) -> (LateDevice, LateControl) {
        let state = Mutex::new(State { memory: Memory::new(total_bytes), ..State::default() });
        let shared = Arc::new(Shared { state, host_function_over: Condvar::new() });
        (LateDevice(shared.clone()), LateControl(shared))
    }

    fn call(&self) -> MutexGuard<'_, State> {
        let mut state = self.0.state.lock();
        state.calls += 1;
        state
    }

    fn allocate(&self, call: &'static str, kind: Kind, bytes: u64) -> Result<NonNull<u8>, DeviceError> {
        let mut state = self.call();
        if bytes == 0 {
            return Err(state.violation(call, "asked for 0 bytes".to_owned()));
        }
        let message = format!("the device has no {bytes} bytes left");
        let out_of_memory = DeviceError { fault: Fault::OutOfMemory, call, code: 0, message };
        state.memory.allocate(kind, bytes).ok_or(out_of_memory)
    }

    fn release(&self, call: &'static str, kind: Kind, address: u64, bytes: u64) -> Result<(), DeviceError> {
        let mut state = self.call();
        let freed = state.memory.release(kind, address, bytes);
        let number = freed.map_err(|what| state.violation(call, what))?;
        let queued = state.streams.values().flat_map(|queue| &queue.operations);
        let naming = queued.filter(|operation| operation.names(number)).count();
        if naming > 0 {
            state.violation(call, format!("{naming} queued operations still name the {bytes} bytes at {address:#x}"));
        }
        Ok(())
    }

    fn enqueue(
        &self,
        call: &'static str,
        from: Option<(Kind, u64)>,
        to: (Kind, u64),
        bytes: usize,
        stream: RawStream,
    ) -> Result<(), DeviceError> {
        let mut state = self.call();
        let from = from.map(|(kind, from)| state.span(call, kind, from, bytes)).transpose()?;
        let to = state.span(call, to.0, to.1, bytes)?;
        state.queue(call, stream)?.operations.push_back(Operation::Copy { call, from, to });
        Ok(())
    }

    /// Runs the stream to its end, then lets `copy` have the device side, at once.
    fn copy_now(
        &self,
        call: &'static str,
        stream: RawStream,
        address: u64,
        bytes: usize,
        copy: impl FnOnce(*mut u8),
    ) -> Result<(), DeviceError> {
        let end = self.call().queue(call, stream)?.end(stream);
        self.0.run_to(call, end)?;
        let mut state = self.0.state.lock();
        state.span(call, Kind::Device, address, bytes)?;
        copy(host_pointer(address));
        Ok(())
    }
}

/// What is queued ends with the device; a host function that holds a control would otherwise keep both for ever.
impl Drop for LateDevice {
    fn drop(&mut self) {
        let ended = std::mem::take(&mut self.0.state.lock().streams);
        drop(ended); // host functions are the user's: they die outside the lock
    }
}

impl LateControl {
    /// Runs all that is queued, and what that queues.
    pub fn run_all(&self) {
        loop {
            let state = self.0.state.lock();
            let unfinished = state.streams.iter().map(|(&stream, queue)| queue.end(RawStream(stream)));
            let Some(end) = { unfinished }.find(|&end| !state.reached(end)) else { return };
            drop(state);
            if self.0.run_to("run_all", end).is_err() {
                return;
            }
        }
    }

    /// Runs what is queued on `stream` now, and what that waits for on other streams.
    pub fn run_stream(&self, stream: &Stream) {
        let end = self.0.state.lock().queue("run_stream", stream.raw()).map(|queue| queue.end(stream.raw()));
        let _ = end.and_then(|end| self.0.run_to("run_stream", end)); // what is wrong is in `violations`
    }

    /// Runs the first operation of `stream` alone. `false` if there is none, or if it waits for another stream.
    pub fn run_one(&self, stream: &Stream) -> bool {
        let stream = stream.raw();
        let mut state = self.0.state.lock();
        let blocked = state.blocker(stream).is_some();
        let Ok(queue) = state.queue("run_one", stream) else { return false };
        let next = Mark { done: queue.end(stream).done - queue.operations.len() as u64 + 1, stream };
        if blocked || queue.operations.is_empty() {
            return false;
        }
        drop(state);
        self.0.run_to("run_one", next).is_ok()
    }

    /// Operations queued on all streams: copies, fills, host functions, marks of events and waits for marks.
    pub fn pending(&self) -> usize {
        self.0.state.lock().streams.values().map(|queue| queue.operations.len()).sum()
    }

    /// Queues `function` behind the work of `stream`, as a kernel would be. It runs on the thread that demands it,
    /// at most once, and must not wait for this device; [`read`](Self::read) and [`write`](Self::write) are its
    /// access to device memory.
    pub fn launch(&self, stream: &Stream, function: impl FnOnce() + Send + 'static) {
        let function = Operation::HostFunction(Box::new(function));
        let mut state = self.0.state.lock();
        // a refused function dies after the guard, which is younger
        if let Ok(queue) = state.queue("launch", stream.raw()) {
            queue.operations.push_back(function);
        }
    }

    /// Copies device memory as it is now. What does not lie in one live allocation is a violation, and reads as poison.
    pub fn read(&self, address: u64, len: usize) -> Vec<u8> {
        let mut state = self.0.state.lock();
        match state.memory.read(address, len) {
            Ok(bytes) => bytes,
            Err(what) => {
                state.violation("read", what);
                vec![POISON; len]
            }
        }
    }

    /// Changes device memory now. What does not lie in one live allocation is a violation, and changes nothing.
    pub fn write(&self, address: u64, bytes: &[u8]) {
        let mut state = self.0.state.lock();
        if let Err(what) = state.memory.write(address, bytes) {
            state.violation("write", what);
        }
    }

    /// Bytes of device memory allocated and not freed.
    pub fn memory_bytes(&self) -> u64 {
        self.0.state.lock().memory.live_bytes(Kind::Device)
    }

    /// Bytes of page-locked memory allocated and not freed.
    pub fn page_locked_bytes(&self) -> u64 {
        self.0.state.lock().memory.live_bytes(Kind::PageLocked)
    }

    /// Driver calls made so far; the device's name and its two constants are none.
    pub fn calls(&self) -> u64 {
        self.0.state.lock().calls
    }

    /// Every breach of [`Device`]'s contract so far, in order. Such a call fails or is skipped; it never touches
    /// memory that is not allocated.
    pub fn violations(&self) -> Vec<String> {
        self.0.state.lock().violations.clone()
    }
}

impl Shared {
    /// Runs what `mark` depends on, and nothing more. A mark depends on earlier marks only, so this ends.
    fn run_to(&self, call: &'static str, mark: Mark) -> Result<(), DeviceError> {
        let mut state = self.state.lock();
        let mut goals = vec![mark];
        while let Some(&goal) = goals.last() {
            if state.reached(goal) {
                goals.pop();
                continue;
            }
            if state.streams.values().any(|queue| queue.running == Some(current_thread())) {
                return Err(state.violation(call, "a host function waits for its device".to_owned()));
            }
            let blocker = state.blocker(goal.stream);
            let queue = state.queue(call, goal.stream)?;
            if queue.running.is_some() {
                state = self.host_function_over.wait(state);
                continue;
            }
            if let Some(mark) = blocker {
                goals.push(mark);
                continue;
            }
            match queue.operations.pop_front() {
                Some(Operation::HostFunction(function)) => {
                    queue.running = Some(current_thread());
                    drop(state);
                    let over = HostFunctionOver { shared: self, stream: goal.stream };
                    function();
                    drop(over);
                    state = self.state.lock();
                    continue;
                }
                Some(Operation::Copy { call, from, to }) => {
                    if let Err(what) = state.memory.copy(from, to) {
                        state.violation(call, what);
                    }
                }
                Some(Operation::Mark | Operation::WaitFor(_)) | None => {}
            }
            state.one_is_over(goal.stream);
        }
        Ok(())
    }
}

/// Says that a host function is over, also when it panicked.
struct HostFunctionOver<'a> {
    shared: &'a Shared,
    stream: RawStream,
}

impl Drop for HostFunctionOver<'_> {
    fn drop(&mut self) {
        self.shared.state.lock().one_is_over(self.stream);
        self.shared.host_function_over.notify_all();
    }
}

impl State {
    fn violation(&mut self, call: &'static str, what: String) -> DeviceError {
        self.violations.push(format!("{call}: {what}"));
        DeviceError { fault: Fault::Failed, call, code: -1, message: what }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn span(&mut self, call: &'static str, kind: Kind, address: u64, bytes: usize) -> Result<Span, DeviceError> {
        self.memory.span(kind, address, bytes).map_err(|what| self.violation(call, what))
    }

    fn queue(&mut self, call: &'static str, stream: RawStream) -> Result<&mut Queue, DeviceError> {
        match self.streams.get_mut(&stream.0) {
            Some(queue) => Ok(queue),
            None => {
                let message = format!("stream {} is not alive", stream.0);
                self.violations.push(format!("{call}: {message}"));
                Err(DeviceError { fault: Fault::Failed, call, code: -1, message })
            }
        }
    }

    fn event(&mut self, call: &'static str, event: RawEvent) -> Result<Option<Mark>, DeviceError> {
        let mark = self.events.get(&event).copied();
        mark.ok_or_else(|| self.violation(call, format!("event {} is not alive", event.0)))
    }

    /// The mark that the first operation of the stream still waits for.
    fn blocker(&self, stream: RawStream) -> Option<Mark> {
        match self.streams.get(&stream.0)?.operations.front()? {
            Operation::WaitFor(mark) if !self.reached(*mark) => Some(*mark),
            _ => None,
        }
    }

    fn reached(&self, mark: Mark) -> bool {
        self.streams.get(&mark.stream.0).is_none_or(|queue| queue.done >= mark.done)
    }

    fn one_is_over(&mut self, stream: RawStream) {
        if let Some(queue) = self.streams.get_mut(&stream.0) {
            queue.done += 1;
            queue.running = None;
        }
    }
}

impl Queue {
    fn end(&self, stream: RawStream) -> Mark {
        let unfinished = self.operations.len() + usize::from(self.running.is_some());
        Mark { stream, done: self.done + unfinished as u64 }
    }
}

impl Operation {
    fn names(&self, number: u64) -> bool {
        match self {
            Operation::Copy { from, to, .. } => from.iter().chain([to]).any(|span| span.allocation == number),
            Operation::HostFunction(_) | Operation::Mark | Operation::WaitFor(_) => false,
        }
    }
}

// SAFETY: point by point as the trait lists it.
// - Memory is the global allocator's, aligned to 256 bytes, in the table until it is freed; page-locked memory is zeroed.
// - An operation touches only its spans, after everything that was queued before it on its stream: queues are
//   first in, first out, and one operation of a queue runs at a time. A mark stands behind all of them.
// - An event has passed once as many operations of its stream are over as stood there at the mark; `wait_event`
//   returns `Ok` only then. Without a mark it has passed.
// - `stream_wait_event` copies the mark into the queue, so a later one changes nothing.
// - Calls are checked before they change anything, so a failing one has done nothing; a blocking copy that fails
//   may have run earlier work of its stream, which nobody must undo.
// - It does not claim to be synchronous.
unsafe impl Device for LateDevice {
    fn name(&self) -> String {
        "late host memory".to_owned()
    }

    fn min_granule_bytes(&self) -> u64 {
        1
    }

    fn memory(&self) -> Result<Option<MemoryInfo>, DeviceError> {
        let memory = &self.call().memory;
        let live_bytes = memory.live_bytes(Kind::Device);
        Ok(memory.total_bytes.map(|total_bytes| MemoryInfo { free_bytes: total_bytes - live_bytes, total_bytes }))
    }

    fn alloc(&self, bytes: u64) -> Result<u64, DeviceError> {
        self.allocate("alloc", Kind::Device, bytes).map(|memory| memory.addr().get() as u64)
    }

    unsafe fn free(&self, address: u64, bytes: u64) -> Result<(), DeviceError> {
        self.release("free", Kind::Device, address, bytes)
    }

    fn alloc_page_locked(&self, bytes: usize) -> Result<NonNull<u8>, DeviceError> {
        self.allocate("alloc_page_locked", Kind::PageLocked, bytes as u64)
    }

    unsafe fn free_page_locked(&self, memory: NonNull<u8>, bytes: usize) -> Result<(), DeviceError> {
        self.release("free_page_locked", Kind::PageLocked, memory.addr().get() as u64, bytes as u64)
    }

    fn create_stream(&self) -> Result<RawStream, DeviceError> {
        let mut state = self.call();
        let number = state.number();
        state.streams.insert(number, Queue::default());
        Ok(RawStream(number))
    }

    unsafe fn destroy_stream(&self, stream: RawStream) -> Result<(), DeviceError> {
        let mut state = self.call();
        let queue = state.queue("destroy_stream", stream)?;
        let unfinished = queue.end(stream).done - queue.done;
        if unfinished > 0 {
            let what = format!("stream {} has {unfinished} operations pending", stream.0);
            return Err(state.violation("destroy_stream", what));
        }
        state.streams.remove(&stream.0);
        Ok(())
    }

    fn create_event(&self) -> Result<RawEvent, DeviceError> {
        let mut state = self.call();
        let event = RawEvent(state.number());
        state.events.insert(event, None);
        Ok(event)
    }

    unsafe fn destroy_event(&self, event: RawEvent) -> Result<(), DeviceError> {
        let mut state = self.call();
        state.event("destroy_event", event)?;
        state.events.remove(&event);
        Ok(())
    }

    unsafe fn record_event(&self, event: RawEvent, stream: RawStream) -> Result<(), DeviceError> {
        let mut state = self.call();
        state.event("record_event", event)?;
        let queue = state.queue("record_event", stream)?;
        queue.operations.push_back(Operation::Mark);
        let mark = queue.end(stream);
        state.events.insert(event, Some(mark));
        Ok(())
    }

    unsafe fn event_passed(&self, event: RawEvent) -> Result<bool, DeviceError> {
        let mut state = self.call();
        let mark = state.event("event_passed", event)?;
        Ok(mark.is_none_or(|mark| state.reached(mark)))
    }

    unsafe fn wait_event(&self, event: RawEvent) -> Result<(), DeviceError> {
        let mark = self.call().event("wait_event", event)?;
        mark.map_or(Ok(()), |mark| self.0.run_to("wait_event", mark))
    }

    unsafe fn stream_wait_event(&self, stream: RawStream, event: RawEvent) -> Result<(), DeviceError> {
        let mut state = self.call();
        let mark = state.event("stream_wait_event", event)?;
        let queue = state.queue("stream_wait_event", stream)?;
        queue.operations.extend(mark.map(Operation::WaitFor));
        Ok(())
    }

    unsafe fn copy_in(&self, to: u64, from: *const u8, bytes: usize, stream: RawStream) -> Result<(), DeviceError> {
        let from = from.expose_provenance() as u64;
        self.enqueue("copy_in", Some((Kind::PageLocked, from)), (Kind::Device, to), bytes, stream)
    }

    unsafe fn copy_out(&self, to: *mut u8, from: u64, bytes: usize, stream: RawStream) -> Result<(), DeviceError> {
        let to = to.expose_provenance() as u64;
        self.enqueue("copy_out", Some((Kind::Device, from)), (Kind::PageLocked, to), bytes, stream)
    }

    unsafe fn copy_in_blocking(
        &self,
        to: u64,
        from: *const u8,
        bytes: usize,
        stream: RawStream,
    ) -> Result<(), DeviceError> {
        self.copy_now("copy_in_blocking", stream, to, bytes, |device_side| {
            // SAFETY: the device side was just found live; the caller vouches for `bytes` at `from`, which is not
            // device memory, so the two are disjoint.
            unsafe { std::ptr::copy_nonoverlapping(from, device_side, bytes) };
        })
    }

    unsafe fn copy_out_blocking(
        &self,
        to: *mut u8,
        from: u64,
        bytes: usize,
        stream: RawStream,
    ) -> Result<(), DeviceError> {
        self.copy_now("copy_out_blocking", stream, from, bytes, |device_side| {
            // SAFETY: the device side was just found live; the caller vouches for `bytes` at `to`, which is not
            // device memory, so the two are disjoint.
            unsafe { std::ptr::copy_nonoverlapping(device_side, to, bytes) };
        })
    }

    unsafe fn zero(&self, at: u64, bytes: usize, stream: RawStream) -> Result<(), DeviceError> {
        self.enqueue("zero", None, (Kind::Device, at), bytes, stream)
    }
}

#[cfg(test)]
mod tests;
