//! Reclaims parked blocks, and drops the operands of work in flight, once their streams have passed.
//! All driver calls are made outside of every lock.

use crate::device::stream::{Event, Stream, StreamSet};
use crate::error::Error;
use crate::heap::HeapInner;
use std::collections::VecDeque;
use std::sync::Arc;

/// How many blocks an allocation sweeps on the way.
const SOME: usize = 8;

#[derive(Default)]
pub(crate) struct Sweeps {
    batches: VecDeque<Batch>,
    operands: VecDeque<Operands>,
    /// Spans outside of the slabs whose streams have passed: they take a driver call each.
    due: Vec<u32>,
    /// Operands in flight or parked: the capacity that parking them needs.
    in_flight: usize,
}

/// Parked spans and one mark behind each stream that they note. A span is free once the marks of its own
/// streams have passed.
struct Batch {
    marks: Vec<(StreamSet, Arc<Event>)>,
    spans: Vec<(u32, StreamSet)>,
}

/// What asynchronous work still reads or writes, given up by its handle.
pub(crate) struct Operands {
    pub(crate) mark: Mark,
    #[expect(dead_code, reason = "kept alive, never read")]
    pub(crate) kept: Box<dyn Send>,
}

/// The point on a stream behind a piece of work. Recorded when the work is put there, or later if the
/// device refused that: then it stands behind more work, which is late but never early.
pub(crate) struct Mark {
    pub(crate) stream: Stream,
    event: Option<Arc<Event>>,
}

impl Sweeps {
    /// Nobody will be there to see their work end.
    pub(crate) fn leak_operands(&mut self) {
        self.operands.drain(..).for_each(std::mem::forget);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.operands.is_empty() && self.due.is_empty()
    }

    pub(crate) fn take_due(&mut self) -> Option<u32> {
        self.due.pop()
    }

    pub(crate) fn add_due(&mut self, span: u32) {
        self.due.insert(0, span); // behind the others
    }
}

impl Mark {
    pub(crate) fn behind(stream: &Stream) -> Self {
        Mark { stream: stream.clone(), event: stream.record().ok().map(Arc::new) }
    }

    pub(crate) fn event(&mut self) -> Result<&Arc<Event>, Error> {
        if self.event.is_none() {
            self.event = Some(Arc::new(self.stream.record()?));
        }
        Ok(self.event.as_ref().expect("recorded just now"))
    }
}

impl HeapInner {
    pub(crate) fn sweep_some(&self) -> Result<(), Error> {
        self.sweep(SOME)
    }

    pub(crate) fn sweep_all(&self) -> Result<(), Error> {
        self.sweep(usize::MAX)
    }

    /// Blocks until nothing that was parked before is; returns the bytes freed. What some stream holds up by not being marked
    /// is told at the end, when all others have been waited for.
    pub(crate) fn settle(&self) -> Result<u64, Error> {
        let marked = self.batch_parked(usize::MAX);
        let marks = self.marks(usize::MAX);
        marks.iter().try_for_each(|event| event.wait())?;
        let freed = self.free_behind(&marks) + self.give_back_due()?;
        while let Some(mut operands) = self.next_operands() {
            match operands.mark.event().and_then(|event| event.wait()) {
                Ok(()) => self.drop_operands(operands),
                Err(error) => {
                    self.sweeps.lock().operands.push_front(operands);
                    return Err(error);
                }
            }
        }
        self.forget_passed_writes()?;
        self.device.retire_streams()?;
        marked.map(|_| freed)
    }

    /// Makes sure that `park_operands` will not allocate, for one more piece of work.
    pub(crate) fn expect_operands(&self) {
        let mut sweeps = self.sweeps.lock();
        sweeps.in_flight += 1;
        let missing = sweeps.in_flight - sweeps.operands.len();
        sweeps.operands.reserve(missing);
    }

    /// The work is over and its operands are back with their owner.
    pub(crate) fn operands_returned(&self) {
        self.sweeps.lock().in_flight -= 1;
    }

    /// Keeps operands until their work is over. Called from drops: no driver call, no allocation.
    pub(crate) fn park_operands(&self, operands: Operands) {
        self.sweeps.lock().operands.push_back(operands);
    }

    /// Frees what has passed, then marks at most so many parked blocks. Waits for nothing. A stream that fails holds up
    /// nothing of the others: the first error is told at the end.
    fn sweep(&self, at_most: usize) -> Result<(), Error> {
        let before = self.free_passed(at_most);
        let marked = match self.batch_parked(at_most) {
            Ok(false) => Ok(()),
            // What a captured stream used waits for the capture to end, as it would for work; the rest is marked.
            Ok(true) | Err(Error::StreamCapturing) => self.free_passed(at_most),
            Err(error) => Err(error),
        };
        let (due, operands) = {
            let sweeps = self.sweeps.lock();
            (!sweeps.due.is_empty(), sweeps.operands.len())
        };
        let given_back = if due { self.give_back_due().map(drop) } else { Ok(()) };
        let dropped = self.drop_passed_operands(operands.min(at_most));
        before.and(marked).and(given_back).and(dropped)
    }

    /// A short sweep asks for one batch, which then goes to the back, so that it does not hide those behind
    /// it for good. A whole one asks for all. The batches stay in reach of other sweeps meanwhile.
    fn free_passed(&self, at_most: usize) -> Result<(), Error> {
        let batches = if at_most == SOME { 1 } else { usize::MAX };
        let mut passed = Vec::new();
        let mut result = Ok(());
        for event in self.marks(batches) {
            match event.passed() {
                Ok(true) => passed.push(event),
                Ok(false) => {}
                Err(error) => result = Err(error),
            }
        }
        self.free_behind(&passed);
        if batches == 1 {
            let mut sweeps = self.sweeps.lock();
            if sweeps.batches.len() > 1 {
                sweeps.batches.rotate_left(1);
            }
        }
        result
    }

    /// The marks of the oldest batches.
    fn marks(&self, batches: usize) -> Vec<Arc<Event>> {
        let sweeps = self.sweeps.lock();
        sweeps.batches.iter().take(batches).flat_map(|batch| &batch.marks).map(|(_, event)| event.clone()).collect()
    }

    /// Takes out marks that have passed, and frees the spans that no mark is left for. Returns their bytes.
    fn free_behind(&self, passed: &[Arc<Event>]) -> u64 {
        let mut sweeps = self.sweeps.lock();
        let (mut freed, mut due) = (0, Vec::new());
        for batch in &mut sweeps.batches {
            batch.marks.retain(|(_, mark)| !passed.iter().any(|event| Arc::ptr_eq(event, mark)));
            // Under the lock: to whoever finds no batch, the spans must be free.
            freed += self.free_spans(&batch.take_unmarked_spans(), &mut due);
        }
        sweeps.due.append(&mut due);
        sweeps.batches.retain(|batch| !batch.spans.is_empty());
        freed
    }

    /// Records one event per stream behind parked blocks. Returns whether there were any. Blocks of a stream that could not be
    /// marked stay parked, and hold up no others.
    fn batch_parked(&self, at_most: usize) -> Result<bool, Error> {
        if !self.space.lock().has_parked() {
            return Ok(false);
        }
        let (spans, notes) = self.space.lock().take_parked(at_most);
        let (marks, unmarked) = self.device.record_each(notes.streams());
        let (failed, result) = match unmarked {
            None => (StreamSet::EMPTY, Ok(true)),
            Some((classes, error)) => (classes, Err(error)),
        };
        let (left, spans): (Vec<_>, Vec<_>) = spans.into_iter().partition(|(_, notes)| notes.intersects(failed));
        if !spans.is_empty() {
            let marks = marks.into_iter().map(|(class, event)| (class, Arc::new(event))).collect();
            self.sweeps.lock().batches.push_back(Batch { marks, spans });
        }
        let mut space = self.space.lock();
        left.into_iter().for_each(|(span, notes)| space.park(span, notes));
        result
    }

    /// Frees spans in slabs and returns their bytes; what lies outside is due.
    fn free_spans(&self, spans: &[(u32, StreamSet)], due: &mut Vec<u32>) -> u64 {
        {
            let mut writes = self.writes.lock();
            let written = spans.iter().filter(|(_, notes)| notes.contains(StreamSet::WRITE_PENDING));
            written.for_each(|(span, _)| drop(writes.remove(span)));
        }
        let mut space = self.space.lock();
        let mut freed = 0;
        for &(span, _) in spans {
            if space.is_outside(span) { due.push(span) } else { freed += space.free(span) }
        }
        freed
    }

    fn drop_passed_operands(&self, at_most: usize) -> Result<(), Error> {
        let mut result = Ok(());
        for _ in 0..at_most {
            let Some(mut operands) = self.next_operands() else { break };
            match operands.mark.event().and_then(|event| event.passed()) {
                Ok(true) => self.drop_operands(operands),
                Ok(false) => self.park_operands(operands),
                Err(error) => {
                    self.park_operands(operands);
                    result = result.and(Err(error));
                }
            }
        }
        result
    }

    fn drop_operands(&self, operands: Operands) {
        self.sweeps.lock().in_flight -= 1;
        drop(operands); // outside of the lock: a page-locked buffer goes back to this heap
    }

    fn next_operands(&self) -> Option<Operands> {
        self.sweeps.lock().operands.pop_front()
    }
}

impl Batch {
    fn take_unmarked_spans(&mut self) -> Vec<(u32, StreamSet)> {
        let pending = self.marks.iter().fold(StreamSet::EMPTY, |all, &(class, _)| all.union(class));
        let spans = std::mem::take(&mut self.spans);
        let (waiting, passed) = spans.into_iter().partition(|(_, notes)| notes.intersects(pending));
        self.spans = waiting;
        passed
    }
}
