//! An owned span, and the notes of the streams that used it. Knows no types.
//!
//! A block is the one owner of its span. Dropped, it gives the span up without waiting and without a
//! driver call; the heap frees it once every noted stream has passed.

use crate::device::stream::{Event, Stream, StreamSet};
use crate::error::Error;
use crate::heap::HeapInner;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// No span: an empty block, which takes no memory and makes no driver call.
const NO_SPAN: u32 = u32::MAX;

pub(crate) struct Block {
    /// `None` only while it is taken apart.
    heap: Option<Arc<HeapInner>>,
    span: u32,
    notes: AtomicU32,
    address: u64,
}

/// A block without its heap: what a cache's slot stores. Whoever holds one owes its span to the heap.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RawBlock {
    pub(crate) address: u64,
    span: u32,
    pub(crate) notes: StreamSet,
}

/// How a block's memory was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Freed {
    /// The bytes are free.
    Now {
        /// How many, in whole granules.
        bytes: u64,
    },
    /// Streams still use some of the bytes; they are free once those have passed, which the heap's next
    /// allocations notice and [`Heap::settle`](crate::Heap::settle) waits for.
    WhenStreamsPass {
        /// How many, in whole granules.
        bytes: u64,
    },
}

impl Freed {
    /// Bytes given up, now or later.
    pub fn bytes(self) -> u64 {
        match self {
            Freed::Now { bytes } | Freed::WhenStreamsPass { bytes } => bytes,
        }
    }

    /// Both together: later if either is.
    pub(crate) fn and(self, other: Freed) -> Freed {
        let bytes = self.bytes() + other.bytes();
        match (self, other) {
            (Freed::Now { .. }, Freed::Now { .. }) => Freed::Now { bytes },
            _ => Freed::WhenStreamsPass { bytes },
        }
    }
}

/// The last write of a block, as long as it may be pending.
#[derive(Clone)]
pub(crate) struct Write {
    stream: Stream,
    event: Option<Arc<Event>>,
}

impl Block {
    pub(crate) fn new(heap: &Arc<HeapInner>, span: u32, address: u64) -> Self {
        Block { heap: Some(heap.clone()), span, notes: AtomicU32::new(0), address }
    }

    pub(crate) fn empty(heap: &Arc<HeapInner>) -> Self {
        Block::new(heap, NO_SPAN, 0)
    }

    pub(crate) fn heap(&self) -> &Arc<HeapInner> {
        self.heap.as_ref().expect("a block keeps its heap until it is taken apart")
    }

    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    #[cfg(feature = "cuda")]
    pub(crate) fn span(&self) -> u32 {
        self.span
    }

    /// Bytes that it takes of the heap.
    pub(crate) fn charge_bytes(&self) -> u64 {
        if self.span == NO_SPAN { 0 } else { self.heap().space.lock().bytes(self.span) }
    }

    /// `stream` will read the block: orders it behind a pending write elsewhere, and notes it.
    #[inline]
    pub(crate) fn lend(&self, stream: &Stream) -> Result<(), Error> {
        self.order(stream)?;
        self.note(stream);
        Ok(())
    }

    /// As `lend`, for a read that is over before the caller goes on.
    #[inline]
    pub(crate) fn order(&self, stream: &Stream) -> Result<(), Error> {
        stream.check(&self.heap().device)?;
        if self.notes().contains(StreamSet::WRITE_PENDING) && self.heap().order_after_write(self.span, stream)? {
            self.notes.fetch_and(!StreamSet::WRITE_PENDING.bits(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// `stream` will write the block, which nobody else uses: orders it behind all earlier uses.
    pub(crate) fn lend_mut(&mut self, stream: &Stream) -> Result<(), Error> {
        stream.check(&self.heap().device)?;
        if self.span == NO_SPAN {
            return Ok(());
        }
        stream.wait_for_streams(self.notes())?;
        self.note(stream);
        self.wrote(stream, None);
        Ok(())
    }

    pub(crate) fn note(&self, stream: &Stream) {
        let note = stream.note();
        // No read-modify-write for a stream that is noted already, or needs no note.
        if !self.notes().contains(note) {
            self.notes.fetch_or(note.bits(), Ordering::Relaxed);
        }
    }

    /// `stream` wrote the block, up to `event` or, without one, up to what it holds when asked.
    pub(crate) fn wrote(&self, stream: &Stream, event: Option<Arc<Event>>) {
        if self.span == NO_SPAN || stream.note().is_empty() {
            return;
        }
        self.heap().writes.lock().insert(self.span, Write { stream: stream.clone(), event });
        self.notes.fetch_or(StreamSet::WRITE_PENDING.bits(), Ordering::Relaxed);
    }

    /// The calling thread has waited for the work that `stream` did with the block, and so for the last write,
    /// which that work was ordered behind.
    pub(crate) fn passed(&mut self, stream: &Stream) {
        if self.notes().contains(StreamSet::WRITE_PENDING) {
            self.heap().writes.lock().remove(&self.span);
        }
        let alone = self.heap().device.is_alone(stream);
        let over = StreamSet::WRITE_PENDING.union(if alone { stream.note() } else { StreamSet::EMPTY });
        let rest = self.notes().minus(over);
        *self.notes.get_mut() = rest.bits();
    }

    /// Gives the memory up. Makes no driver call.
    pub(crate) fn free(mut self) -> Result<Freed, Error> {
        let heap = self.heap.take().expect("whole");
        match (heap.device.is_lost(), give_up(&heap, self.span, self.notes())) {
            (true, _) => Err(Error::DeviceLost),
            (false, (bytes, true)) => Ok(Freed::Now { bytes }),
            (false, (bytes, false)) => Ok(Freed::WhenStreamsPass { bytes }),
        }
    }

    pub(crate) fn into_raw(mut self) -> (Arc<HeapInner>, RawBlock) {
        let heap = self.heap.take().expect("whole"); // its drop then gives nothing up
        (heap, RawBlock { address: self.address, span: self.span, notes: StreamSet::from_bits(*self.notes.get_mut()) })
    }

    pub(crate) fn from_raw(heap: Arc<HeapInner>, raw: RawBlock) -> Self {
        let RawBlock { address, span, notes } = raw;
        Block { heap: Some(heap), span, notes: AtomicU32::new(notes.bits()), address }
    }

    fn notes(&self) -> StreamSet {
        StreamSet::from_bits(self.notes.load(Ordering::Relaxed))
    }
}

impl RawBlock {
    pub(crate) fn span(&self) -> u32 {
        self.span
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(heap) = &self.heap {
            give_up(heap, self.span, self.notes());
        }
    }
}

impl HeapInner {
    /// Orders `stream` behind the span's last write. `true`: it has passed for good.
    pub(crate) fn order_after_write(&self, span: u32, stream: &Stream) -> Result<bool, Error> {
        let Some(write) = self.writes.lock().get(&span).cloned() else { return Ok(true) };
        if write.stream.same(stream) {
            return Ok(false);
        }
        let event = self.event_behind(span, write)?;
        if event.passed()? {
            self.writes.lock().remove(&span);
            return Ok(true);
        }
        stream.wait_for(&event).map(|()| false)
    }

    /// Forgets writes that have passed, so that they do not keep their streams alive. A write without an
    /// event stays: its stream is still lent to a kernel that may not have been launched.
    pub(crate) fn forget_passed_writes(&self) -> Result<(), Error> {
        let marked = |(&span, write): (&u32, &Write)| write.event.clone().map(|event| (span, event));
        let pending: Vec<(u32, Arc<Event>)> = self.writes.lock().iter().filter_map(marked).collect();
        for (span, event) in pending {
            if event.passed()? {
                let mut writes = self.writes.lock();
                // Meanwhile the span may be another block's, with a write of its own.
                let now = writes.get(&span).and_then(|write| write.event.as_ref());
                if now.is_some_and(|now| Arc::ptr_eq(now, &event)) {
                    writes.remove(&span);
                }
            }
        }
        Ok(())
    }

    /// The event behind a write. It is recorded when a reader first asks: by then no view to write through
    /// is left, so the write's kernels are on their stream.
    fn event_behind(&self, span: u32, write: Write) -> Result<Arc<Event>, Error> {
        if let Some(event) = write.event {
            return Ok(event);
        }
        let event = Arc::new(write.stream.record()?);
        let mut writes = self.writes.lock();
        if let Some(current) = writes.get_mut(&span).filter(|current| current.stream.same(&write.stream)) {
            current.event.get_or_insert_with(|| event.clone());
        }
        Ok(event)
    }
}

/// Its bytes, and whether they are free at once.
fn give_up(heap: &HeapInner, span: u32, notes: StreamSet) -> (u64, bool) {
    if span == NO_SPAN { (0, true) } else { heap.space.lock().give_up(span, notes) }
}
