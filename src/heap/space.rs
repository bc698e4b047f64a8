//! The heap's books: slabs, spans, parked spans and the ledger. All of it runs under one short lock, and
//! none of it touches the device.

use crate::device::stream::StreamSet;
use crate::error::Error;
use crate::stats::{LeakedBlock, Ledger};
use crate::suballoc::Suballoc;
use std::panic::Location;

const NIL: u32 = u32::MAX;
/// Slabs stand this far apart in the space of offsets at least, so that spans of two never merge.
const GAP: u64 = 256;

pub(crate) struct Slab {
    pub(crate) address: u64,
    pub(crate) bytes: u64,
}

pub(crate) struct Space {
    free: Suballoc,
    /// By rising offset of their first byte.
    slabs: Vec<(u64, Slab)>,
    next_offset: u64,
    spans: Vec<Span>,
    unused: u32,
    /// Parked spans, oldest first, linked through `Span::next`.
    parked: (u32, u32),
    parked_count: usize,
    live_bytes: u64,
    freeing_bytes: u64,
    peak_bytes: u64,
    slab_bytes: u64,
    module_bytes: u64,
    adopted_bytes: u64,
    live_blocks: u64,
    limit_bytes: u64,
    closed: bool,
}

/// Bytes that a heap accounts for and that lie in none of its slabs.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum OutsideKind {
    Module,
    Adopted,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// The offset of its first byte.
    Slab(u64),
    Outside(OutsideKind),
}

struct Span {
    place: Place,
    bytes: u64,
    allocated_at: &'static Location<'static>,
    state: SpanState,
    /// The next parked or unused span.
    next: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum SpanState {
    Unused,
    Live,
    Parked(StreamSet),
    /// Taken out by a sweep that waits for its streams, or gives it back to the driver.
    Sweeping,
}

impl Space {
    pub(crate) fn new(limit_bytes: u64) -> Self {
        Space {
            free: Suballoc::new(),
            slabs: Vec::new(),
            next_offset: 0,
            spans: Vec::new(),
            unused: NIL,
            parked: (NIL, NIL),
            parked_count: 0,
            live_bytes: 0,
            freeing_bytes: 0,
            peak_bytes: 0,
            slab_bytes: 0,
            module_bytes: 0,
            adopted_bytes: 0,
            live_blocks: 0,
            limit_bytes,
            closed: false,
        }
    }

    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.closed { Err(Error::HeapClosed) } else { Ok(()) }
    }

    /// As `alloc`, unless the heap was closed.
    pub(crate) fn alloc_if_open(
        &mut self,
        bytes: u64,
        align: u64,
        allocated_at: &'static Location<'static>,
    ) -> Result<Option<(u32, u64)>, Error> {
        self.check_open().map(|()| self.alloc(bytes, align, allocated_at))
    }

    /// A span and its device address, or `None` if the limit or the slabs at hand have no room.
    pub(crate) fn alloc(
        &mut self,
        bytes: u64,
        align: u64,
        allocated_at: &'static Location<'static>,
    ) -> Option<(u32, u64)> {
        if bytes > self.free_bytes() {
            return None;
        }
        let offset = self.free.alloc(bytes, align)?;
        Some((self.add_live(Place::Slab(offset), bytes, allocated_at), self.address(offset)))
    }

    /// Accounts for bytes that lie in no slab, or `None` if the limit has no room beside the slabs.
    pub(crate) fn admit(
        &mut self,
        kind: OutsideKind,
        bytes: u64,
        allocated_at: &'static Location<'static>,
    ) -> Option<u32> {
        if bytes > self.free_bytes() || bytes > self.room_bytes() {
            return None;
        }
        *self.outside_bytes(kind) += bytes;
        Some(self.add_live(Place::Outside(kind), bytes, allocated_at))
    }

    fn add_live(&mut self, place: Place, bytes: u64, allocated_at: &'static Location<'static>) -> u32 {
        self.live_bytes += bytes;
        self.live_blocks += 1;
        self.peak_bytes = self.peak_bytes.max(self.live_bytes + self.freeing_bytes);
        let span = Span { place, bytes, allocated_at, state: SpanState::Live, next: NIL };
        match self.unused {
            NIL => {
                self.spans.push(span);
                (self.spans.len() - 1) as u32
            }
            number => {
                self.unused = self.spans[number as usize].next;
                self.spans[number as usize] = span;
                number
            }
        }
    }

    fn outside_bytes(&mut self, kind: OutsideKind) -> &mut u64 {
        match kind {
            OutsideKind::Module => &mut self.module_bytes,
            OutsideKind::Adopted => &mut self.adopted_bytes,
        }
    }

    /// What the limit leaves for slabs, and for bytes outside of them.
    fn room_bytes(&self) -> u64 {
        self.limit_bytes - self.taken_bytes()
    }

    /// Bytes of slabs, modules and adopted memory: what the device has less.
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.slab_bytes + self.module_bytes + self.adopted_bytes
    }

    pub(crate) fn is_outside(&self, span: u32) -> bool {
        matches!(self.spans[span as usize].place, Place::Outside(_))
    }

    /// A live span outside of the slabs that becomes somebody else's, or never became ours.
    pub(crate) fn release(&mut self, span: u32) {
        let bytes = self.spans[span as usize].bytes;
        debug_assert!(self.spans[span as usize].state == SpanState::Live && self.is_outside(span));
        self.live_bytes -= bytes;
        self.live_blocks -= 1;
        self.freeing_bytes += bytes;
        self.free(span);
    }

    /// The handle of a live span is gone. Frees it at once, or parks it until its streams have passed; what lies outside
    /// of the slabs takes a driver call to free, so it is always parked. Returns its bytes, and whether they are free.
    pub(crate) fn give_up(&mut self, span: u32, notes: StreamSet) -> (u64, bool) {
        let bytes = self.spans[span as usize].bytes;
        debug_assert!(self.spans[span as usize].state == SpanState::Live);
        self.live_bytes -= bytes;
        self.live_blocks -= 1;
        self.freeing_bytes += bytes;
        let now = notes.is_empty() && !self.is_outside(span);
        if now {
            self.free(span);
        } else {
            self.park(span, notes);
        }
        (bytes, now)
    }

    /// Takes the oldest parked spans, at most so many, and the union of their notes.
    pub(crate) fn take_parked(&mut self, at_most: usize) -> (Vec<(u32, StreamSet)>, StreamSet) {
        let mut taken = Vec::new();
        let mut union = StreamSet::EMPTY;
        while taken.len() < at_most && self.parked.0 != NIL {
            let number = self.parked.0;
            let span = &mut self.spans[number as usize];
            let SpanState::Parked(notes) = span.state else { unreachable!("only parked spans are linked") };
            span.state = SpanState::Sweeping;
            self.parked.0 = span.next;
            if self.parked.0 == NIL {
                self.parked.1 = NIL;
            }
            self.parked_count -= 1;
            union = union.union(notes);
            taken.push((number, notes));
        }
        (taken, union)
    }

    /// Puts a span whose sweep failed back among the parked.
    pub(crate) fn park(&mut self, number: u32, notes: StreamSet) {
        let span = &mut self.spans[number as usize];
        span.state = SpanState::Parked(notes);
        span.next = NIL;
        match self.parked.1 {
            NIL => self.parked.0 = number,
            last => self.spans[last as usize].next = number,
        }
        self.parked.1 = number;
        self.parked_count += 1;
    }

    /// Its streams have passed, and what lay outside of the slabs has been given back.
    pub(crate) fn free(&mut self, number: u32) -> u64 {
        let span = &mut self.spans[number as usize];
        span.state = SpanState::Unused;
        span.next = self.unused;
        self.unused = number;
        let (place, bytes) = (span.place, span.bytes);
        self.freeing_bytes -= bytes;
        match place {
            Place::Slab(offset) => self.free.free(offset, bytes),
            Place::Outside(kind) => *self.outside_bytes(kind) -= bytes,
        }
        bytes
    }

    pub(crate) fn bytes(&self, span: u32) -> u64 {
        self.spans[span as usize].bytes
    }

    pub(crate) fn has_parked(&self) -> bool {
        self.parked.0 != NIL
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        self.limit_bytes - self.live_bytes - self.freeing_bytes
    }

    /// `device_refused`: the limit leaves room, but the device has none.
    pub(crate) fn out_of_memory(&self, need_bytes: u64, device_refused: bool) -> Error {
        Error::OutOfMemory {
            need_bytes,
            free_bytes: self.free_bytes(),
            largest_free_bytes: self.free.largest_free_bytes(),
            freeing_bytes: self.freeing_bytes,
            limit_bytes: self.limit_bytes,
            device_refused,
        }
    }

    /// Promises a slab for `charge` bytes, of about `preferred_bytes`; followed by `add_slab` or `cancel_slab`.
    pub(crate) fn plan_slab(&mut self, charge: u64, preferred_bytes: u64) -> Result<u64, Error> {
        let room = self.room_bytes();
        if charge > room || charge > self.free_bytes() {
            return Err(self.out_of_memory(charge, false));
        }
        let bytes = preferred_bytes.clamp(charge, room);
        self.slab_bytes += bytes;
        Ok(bytes)
    }

    /// The device did not give a slab that was planned, or took one back.
    pub(crate) fn cancel_slab(&mut self, bytes: u64) {
        self.slab_bytes -= bytes;
    }

    pub(crate) fn add_slab(&mut self, slab: Slab) {
        let offset = self.next_offset;
        self.next_offset = (offset + slab.bytes + 1).next_multiple_of(GAP);
        self.free.free(offset, slab.bytes);
        self.slabs.push((offset, slab));
    }

    /// Takes out a slab of which every byte is free. The limit counts it until the device has taken it back and `cancel_slab`
    /// says so: if the device refuses, `add_slab` must find its room still there.
    pub(crate) fn take_empty_slab(&mut self) -> Option<Slab> {
        let free = &mut self.free;
        let at = self.slabs.iter().position(|(offset, slab)| free.withdraw(*offset, slab.bytes))?;
        Some(self.slabs.remove(at).1)
    }

    /// Refuses while handles live; afterwards nothing can be allocated.
    pub(crate) fn close(&mut self) -> Result<(), Error> {
        if self.live_blocks > 0 {
            return Err(Error::HeapInUse { live_blocks: self.live_blocks, live_bytes: self.live_bytes });
        }
        self.closed = true;
        Ok(())
    }

    pub(crate) fn reopen(&mut self) {
        self.closed = false;
    }

    pub(crate) fn ledger(&self) -> Ledger {
        Ledger {
            live_bytes: self.live_bytes,
            freeing_bytes: self.freeing_bytes,
            free_bytes: self.free_bytes(),
            peak_bytes: self.peak_bytes,
            slab_bytes: self.slab_bytes,
            module_bytes: self.module_bytes,
            adopted_bytes: self.adopted_bytes,
            limit_bytes: self.limit_bytes,
            live_blocks: self.live_blocks,
        }
    }

    /// Every live span, sorted by the line that allocated it.
    pub(crate) fn live_spans(&self) -> Vec<LeakedBlock> {
        let live = self.spans.iter().filter(|span| span.state == SpanState::Live);
        let mut blocks: Vec<LeakedBlock> =
            live.map(|span| LeakedBlock { allocated_at: span.allocated_at, bytes: span.bytes }).collect();
        blocks.sort_by_key(|block| block.allocated_at);
        blocks
    }

    /// Spans and free spans tile the slabs exactly; the ledger is their sum.
    pub(crate) fn validate(&self) {
        self.free.validate();
        let total = |wanted: fn(SpanState) -> bool| -> u64 {
            self.spans.iter().filter(|span| wanted(span.state)).map(|span| span.bytes).sum()
        };
        assert_eq!(total(|state| state == SpanState::Live), self.live_bytes, "live bytes");
        assert_eq!(
            total(|state| matches!(state, SpanState::Parked(_) | SpanState::Sweeping)),
            self.freeing_bytes,
            "freeing bytes"
        );
        let outside = |wanted: OutsideKind| -> u64 {
            let of_kind = |span: &&Span| span.state != SpanState::Unused && span.place == Place::Outside(wanted);
            self.spans.iter().filter(of_kind).map(|span| span.bytes).sum()
        };
        assert_eq!(outside(OutsideKind::Module), self.module_bytes, "module bytes");
        assert_eq!(outside(OutsideKind::Adopted), self.adopted_bytes, "adopted bytes");
        let outside = self.module_bytes + self.adopted_bytes;
        let taken: u64 = self.slabs.iter().map(|(_, slab)| slab.bytes).sum();
        let tiled = self.live_bytes + self.freeing_bytes - outside + self.free.free_bytes();
        assert_eq!(tiled, taken, "spans tile the slabs");
        assert!(taken <= self.slab_bytes, "every slab is counted");
        assert!(self.slab_bytes + outside <= self.limit_bytes, "what is taken from the device is within the limit");
        assert!(self.live_bytes + self.freeing_bytes <= self.peak_bytes && self.peak_bytes <= self.limit_bytes);
        let mut used: Vec<(u64, u64)> = self
            .spans
            .iter()
            .filter(|span| span.state != SpanState::Unused)
            .filter_map(|span| match span.place {
                Place::Slab(offset) => Some((offset, span.bytes)),
                Place::Outside(_) => None,
            })
            .collect();
        used.sort_unstable();
        assert!(used.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "spans overlap");
        assert_eq!(self.parked_numbers().count(), self.parked_count, "parked list");
    }

    fn parked_numbers(&self) -> impl Iterator<Item = u32> + '_ {
        let some = |number: u32| (number != NIL).then_some(number);
        std::iter::successors(some(self.parked.0), move |&number| some(self.spans[number as usize].next))
    }

    fn address(&self, offset: u64) -> u64 {
        let after = self.slabs.partition_point(|&(start, _)| start <= offset);
        let (start, slab) = &self.slabs[after - 1];
        slab.address + (offset - start)
    }
}

#[cfg(all(test, not(hapax_loom)))]
mod tests {
    use super::*;

    /// Between the two the lock is free, and another thread allocates.
    #[test]
    fn a_slab_that_the_device_does_not_take_back_still_has_its_room_under_the_limit() {
        let mut space = Space::new(1024);
        let bytes = space.plan_slab(1024, 1024).unwrap();
        space.add_slab(Slab { address: 4096, bytes });
        let slab = space.take_empty_slab().unwrap();
        assert!(matches!(space.plan_slab(256, 256), Err(Error::OutOfMemory { .. })));
        assert_eq!(space.admit(OutsideKind::Module, 256, Location::caller()), None);
        space.validate();
        space.add_slab(slab);
        space.validate();
        let slab = space.take_empty_slab().unwrap();
        space.cancel_slab(slab.bytes);
        assert_eq!((space.plan_slab(256, 512), space.ledger().slab_bytes), (Ok(512), 512));
    }
}
