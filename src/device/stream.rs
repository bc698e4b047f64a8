//! One opened device shared by heaps, its streams, and its events. Knows nothing of memory's owners.
#![expect(unsafe_code, reason = "calls the device with streams and events that this file keeps alive")]

mod ends;
#[cfg(all(test, feature = "testing", not(hapax_loom)))]
mod tests;

#[cfg(feature = "cuda")]
use crate::device::RawContext;
use crate::device::{Device, DeviceError, Fault, RawEvent, RawStream};
use crate::error::Error;
use crate::observe::{self, event};
use crate::sync::{AtomicBool, Mutex, Ordering};
use std::any::Any;
use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::Arc;

/// How many classes of streams a [`StreamSet`] tells apart. Streams beyond share a class: a wait for
/// one is then a wait for all of its class, which is late at worst, never early.
const CLASSES: u32 = 31;

/// Bits of a block's notes: which classes of streams may still use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamSet(u32);

impl StreamSet {
    pub(crate) const EMPTY: StreamSet = StreamSet(0);
    /// Beside the classes: the last write may be pending, so a reader on another stream must be ordered.
    pub(crate) const WRITE_PENDING: StreamSet = StreamSet(1 << CLASSES);

    pub(crate) fn from_bits(bits: u32) -> Self {
        StreamSet(bits)
    }

    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    pub(crate) fn union(self, other: StreamSet) -> Self {
        StreamSet(self.0 | other.0)
    }

    pub(crate) fn minus(self, other: StreamSet) -> Self {
        StreamSet(self.0 & !other.0)
    }

    /// The noted streams alone.
    pub(crate) fn streams(self) -> Self {
        self.minus(Self::WRITE_PENDING)
    }

    pub(crate) fn contains(self, other: StreamSet) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) fn intersects(self, other: StreamSet) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// An opened device. Clones share it; heaps on the same device share its streams.
///
/// ```
/// use hapax::{DeviceRef, Heap, HeapOptions, HostDevice};
///
/// let device = DeviceRef::new(HostDevice::new());
/// let weights = Heap::new(&device, HeapOptions::new(1 << 20))?;
/// let code = Heap::new(&device, HeapOptions::new(1 << 16))?;
/// let stream = device.new_stream()?; // may be used with both
/// # Ok::<(), hapax::Error>(())
/// ```
#[derive(Clone)]
pub struct DeviceRef(Arc<Hub>);

struct Hub {
    device: Box<dyn Device>,
    synchronous: bool,
    lost: AtomicBool,
    streams: Mutex<Vec<Option<StreamEntry>>>,
    /// Events at rest. Capacity is reserved when an event is made, so that giving one back never allocates.
    events: Mutex<Events>,
}

struct StreamEntry {
    raw: RawStream,
    /// What keeps another library's stream alive; `None` if the stream is ours to destroy. Its drop may call the
    /// driver, so it happens outside of every lock, and never in a handle's drop.
    keep_alive: Option<Box<dyn Any + Send + Sync>>,
    /// `Stream`s made for it, clones counted once. A stream that is adopted again has more than one.
    users: u32,
    /// Set when the user's handles are gone: no new work of ours can come, so the stream ends once its work has passed.
    orphan: Option<Orphan>,
    /// A sweep has taken the orphan and finds out whether the stream is over; no other may meanwhile.
    ending: bool,
    /// How many sweeps began to mark it, and how many of them are at it: they do so without the lock, and
    /// meanwhile it must not end.
    marks: u32,
    marking: u32,
}

/// The mark behind a stream's last work, once it could be recorded.
#[derive(Clone, Copy, Default)]
struct Orphan {
    last: Option<RawEvent>,
    /// The stream's `marks` when `last` was recorded: if there are more now, `last` is not behind all of them.
    marks: u32,
}

#[derive(Default)]
struct Events {
    idle: Vec<RawEvent>,
    made: usize,
}

impl DeviceRef {
    /// Opens a device for sharing.
    pub fn new(device: impl Device) -> Self {
        DeviceRef(Arc::new(Hub {
            synchronous: device.is_synchronous(),
            device: Box::new(device),
            lost: AtomicBool::new(false),
            streams: Mutex::new(Vec::new()),
            events: Mutex::new(Events::default()),
        }))
    }

    /// The device's name for people.
    pub fn name(&self) -> String {
        self.0.device.name()
    }

    /// A driver that cannot even wait is of no use, and what it was doing cannot be known to be over.
    pub(crate) fn declare_lost(&self) {
        self.0.lost.store(true, Ordering::Relaxed);
    }

    /// Whether the device was lost; no call is made to it any more.
    pub fn is_lost(&self) -> bool {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// A new stream: work on it runs in order, and beside the work of other streams.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or what the driver reports.
    pub fn new_stream(&self) -> Result<Stream, Error> {
        self.retire_streams()?;
        let raw = self.call(|device| device.create_stream())?;
        let index = StreamEntry::add(&mut self.0.streams.lock(), raw, None);
        Ok(self.stream(raw, index))
    }

    /// For an entry that counts it among its users.
    fn stream(&self, raw: RawStream, index: usize) -> Stream {
        let note = if self.0.synchronous { StreamSet::EMPTY } else { class_of(index) };
        Stream(Arc::new(StreamInner { device: self.clone(), raw, index, note }))
    }

    /// Makes one driver call, unless the device is lost; remembers if this call finds that it is.
    pub(crate) fn call<R>(&self, call: impl FnOnce(&dyn Device) -> Result<R, DeviceError>) -> Result<R, Error> {
        self.call_raw(call).map_err(Error::from)
    }

    /// As `call`, with the device's own error.
    pub(crate) fn call_raw<R>(
        &self,
        call: impl FnOnce(&dyn Device) -> Result<R, DeviceError>,
    ) -> Result<R, DeviceError> {
        self.0.call(call)
    }

    #[cfg(feature = "cuda")]
    pub(crate) fn context(&self) -> Option<RawContext> {
        self.0.device.context()
    }

    pub(crate) fn is_synchronous(&self) -> bool {
        self.0.synchronous
    }

    pub(crate) fn min_granule_bytes(&self) -> u64 {
        self.0.device.min_granule_bytes()
    }

    #[inline]
    pub(crate) fn same(&self, other: &DeviceRef) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// One event for each stream of the noted classes, recorded now, with its class; and, if some could not be marked, the
    /// classes of those and the first reason.
    pub(crate) fn record_each(&self, notes: StreamSet) -> (Vec<(StreamSet, Event)>, Option<(StreamSet, Error)>) {
        let mut noted: Vec<(usize, RawStream)> = Vec::new();
        for (index, entry) in self.0.streams.lock().iter_mut().enumerate() {
            if let Some(entry) = entry.as_mut().filter(|_| notes.contains(class_of(index))) {
                entry.marks = entry.marks.wrapping_add(1);
                entry.marking += 1;
                noted.push((index, entry.raw));
            }
        }
        let (mut events, mut unmarked) = (Vec::new(), None);
        for &(index, raw) in &noted {
            let class = class_of(index);
            match self.record(raw) {
                Ok(event) => events.push((class, event)),
                Err(error) => {
                    let (classes, _) = unmarked.get_or_insert((StreamSet::EMPTY, error));
                    *classes = classes.union(class);
                }
            }
        }
        let mut streams = self.0.streams.lock();
        for (index, _) in noted {
            streams[index].as_mut().expect("no stream ends while it is marked").marking -= 1;
        }
        (events, unmarked)
    }

    /// Whether `stream` is the only one of its class, so that its bit speaks of it alone.
    pub(crate) fn is_alone(&self, stream: &Stream) -> bool {
        let streams = self.0.streams.lock();
        let mut class = streams
            .iter()
            .enumerate()
            .filter(|(index, entry)| entry.is_some() && class_of(*index) == class_of(stream.0.index));
        class.next().is_some() && class.next().is_none()
    }

    fn check_not_capturing(&self, stream: RawStream) -> Result<(), Error> {
        // SAFETY: the caller holds a handle of the stream, or found it in the table and is marking it.
        match self.call(|device| unsafe { device.is_capturing(stream) })? {
            false => Ok(()),
            true => Err(Error::StreamCapturing),
        }
    }

    fn record(&self, stream: RawStream) -> Result<Event, Error> {
        if !self.0.synchronous {
            self.check_not_capturing(stream)?; // an event would become part of the graph
        }
        let event = self.event()?;
        // SAFETY: the event is ours and alive; the stream is in the table, hence not destroyed, or the
        // caller holds its handle, which keeps it in the table.
        self.call(|device| unsafe { device.record_event(event.raw, stream) })?;
        if !self.0.synchronous {
            // If another thread began a capture in between, the event marks nothing, and whoever waits for it joins the capture.
            self.check_not_capturing(stream)?;
        }
        Ok(event)
    }

    fn event(&self) -> Result<Event, Error> {
        if let Some(raw) = self.0.events.lock().idle.pop() {
            return Ok(Event { device: self.clone(), raw });
        }
        let raw = self.call(|device| device.create_event())?;
        let mut events = self.0.events.lock();
        events.made += 1;
        let missing = events.made - events.idle.len();
        events.idle.reserve(missing);
        drop(events);
        Ok(Event { device: self.clone(), raw })
    }

    pub(crate) fn destroy_idle_events(&self) -> Result<(), Error> {
        loop {
            let Some(raw) = self.0.events.lock().idle.pop() else { return Ok(()) };
            // SAFETY: the event was idle, and is out of reach now.
            let destroyed = self.call(|device| unsafe { device.destroy_event(raw) });
            let mut events = self.0.events.lock();
            match destroyed {
                Ok(()) => events.made -= 1,
                Err(error) => {
                    events.idle.push(raw);
                    return Err(error);
                }
            }
        }
    }
}

impl StreamEntry {
    /// Puts a stream with one user into a free place of the table.
    fn add(
        streams: &mut Vec<Option<StreamEntry>>,
        raw: RawStream,
        keep_alive: Option<Box<dyn Any + Send + Sync>>,
    ) -> usize {
        let entry = Some(StreamEntry { raw, keep_alive, users: 1, orphan: None, ending: false, marks: 0, marking: 0 });
        match streams.iter().position(Option::is_none) {
            Some(free) => {
                streams[free] = entry;
                free
            }
            None => {
                streams.push(entry);
                streams.len() - 1
            }
        }
    }
}

impl fmt::Debug for DeviceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DeviceRef").field(&self.name()).finish()
    }
}

impl<D: Device> From<D> for DeviceRef {
    fn from(device: D) -> Self {
        DeviceRef::new(device)
    }
}

impl From<&DeviceRef> for DeviceRef {
    fn from(device: &DeviceRef) -> Self {
        device.clone()
    }
}

impl Hub {
    fn call<R>(&self, call: impl FnOnce(&dyn Device) -> Result<R, DeviceError>) -> Result<R, DeviceError> {
        if self.lost.load(Ordering::Relaxed) {
            return Err(DeviceError { fault: Fault::Lost, call: "none", code: 0, message: String::new() });
        }
        call(&*self.device).inspect_err(|error| {
            if error.fault == Fault::Lost {
                self.lost.store(true, Ordering::Relaxed);
            }
            let why = observe::display(&error.message);
            event!(WARN, "device call failed", call = error.call, code = error.code, why = why);
            observe::count("hapax.device.faults", 1);
        })
    }
}

/// A queue of work on a device: what is put on it runs in order. Clones share it, any thread may use it.
///
/// It ends when its last clone is gone and its work is over; a stream that was adopted is then let go of.
#[derive(Clone)]
pub struct Stream(Arc<StreamInner>);

struct StreamInner {
    device: DeviceRef,
    raw: RawStream,
    index: usize,
    note: StreamSet,
}

impl Stream {
    /// The device that runs it.
    pub fn device(&self) -> &DeviceRef {
        &self.0.device
    }

    /// The stream in the device's own terms, to launch kernels on it.
    pub fn raw(&self) -> RawStream {
        self.0.raw
    }

    /// Blocks until all work put on the stream so far is over.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or what the driver reports.
    pub fn synchronize(&self) -> Result<(), Error> {
        self.record()?.wait()
    }

    /// The mark that a use on this stream leaves on a block; empty on a synchronous device.
    #[inline]
    pub(crate) fn note(&self) -> StreamSet {
        self.0.note
    }

    pub(crate) fn same(&self, other: &Stream) -> bool {
        self.0.index == other.0.index && self.0.device.same(&other.0.device)
    }

    /// Whether memory of `device` may be used on this stream now.
    #[inline]
    pub(crate) fn check(&self, device: &DeviceRef) -> Result<(), Error> {
        if !self.0.device.same(device) {
            return Err(Error::WrongDevice);
        }
        let synchronous = self.0.note.is_empty();
        if synchronous { Ok(()) } else { self.0.device.check_not_capturing(self.0.raw) }
    }

    /// An event behind all work put on the stream so far.
    pub(crate) fn record(&self) -> Result<Event, Error> {
        self.0.device.record(self.0.raw)
    }

    /// Later work on this stream starts after the event.
    pub(crate) fn wait_for(&self, event: &Event) -> Result<(), Error> {
        // SAFETY: `self` keeps the stream alive and `event` the event; the caller checked that both are of one device.
        self.0.device.call(|device| unsafe { device.stream_wait_event(self.0.raw, event.raw) })
    }

    /// Later work on this stream starts after all that the noted streams hold now.
    pub(crate) fn wait_for_streams(&self, notes: StreamSet) -> Result<(), Error> {
        let others = if self.0.device.is_alone(self) { notes.streams().minus(self.note()) } else { notes.streams() };
        if others.is_empty() {
            return Ok(());
        }
        match self.0.device.record_each(others) {
            (events, None) => events.iter().try_for_each(|(_, event)| self.wait_for(event)),
            (_, Some((_, error))) => Err(error),
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("raw", &self.0.raw).finish_non_exhaustive()
    }
}

impl Drop for StreamInner {
    fn drop(&mut self) {
        if let Some(entry) = &mut self.device.0.streams.lock()[self.index] {
            entry.users -= 1;
            if entry.users == 0 {
                entry.orphan = Some(Orphan::default());
            }
        }
    }
}

/// A mark on a stream. Dropped, it goes back to the device's idle events, without a driver call.
pub(crate) struct Event {
    device: DeviceRef,
    raw: RawEvent,
}

impl Event {
    pub(crate) fn passed(&self) -> Result<bool, Error> {
        // SAFETY: the event is ours and alive.
        self.device.call(|device| unsafe { device.event_passed(self.raw) })
    }

    /// Keeps the event from the idle ones; whoever has it makes it an `Event` again.
    fn into_raw(self) -> RawEvent {
        let raw = self.raw;
        let kept = ManuallyDrop::new(self);
        // SAFETY: the field is read once, and `kept` is never dropped.
        drop(unsafe { std::ptr::read(&kept.device) });
        raw
    }

    /// Blocks the calling thread.
    pub(crate) fn wait(&self) -> Result<(), Error> {
        // SAFETY: the event is ours and alive.
        self.device.call(|device| unsafe { device.wait_event(self.raw) })
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        self.device.0.events.lock().idle.push(self.raw);
    }
}

fn class_of(index: usize) -> StreamSet {
    StreamSet(1 << (index as u32 % CLASSES))
}
