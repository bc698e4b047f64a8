//! Memory of the program that the device works with: page-locked blocks, and holds on every host range that a copy
//! in flight reads or writes. Knows no queue; it is told when the host has learnt that an operation is over.

use crate::model::clock::{Clock, Epoch};
use crate::model::shadow::Cause;
use crate::os::guard::{self, Allow};
use crate::os::{self, PAGE, TwoFaced};
use std::collections::BTreeMap;
use std::ops::Range;

/// What the target of a copy holds from the moment the copy is submitted until it runs.
pub const PENDING: u8 = 0xDB;

#[derive(Default)]
pub struct HostMemory {
    locked: BTreeMap<u64, Locked>,
    holds: BTreeMap<u64, Hold>,
    next_hold: u64,
    guards: bool,
}

pub struct Locked {
    pub bytes: u64,
    pub context: u64,
    pub flags: u32,
    /// `None`: registered memory, which belongs to the program.
    pages: Option<TwoFaced>,
}

struct Hold {
    range: Range<u64>,
    epoch: Epoch,
    cause: Cause,
    device_writes: bool,
    locked: bool,
    /// Of the bytes as the device left or will find them.
    checksum: Option<u64>,
    guarded: Range<u64>,
    guard_up: bool,
}

impl HostMemory {
    pub fn set_guards(&mut self, on: bool) {
        self.guards = on;
    }

    /// Hold numbers are never used twice: a guard may still be on its way down when its hold is gone.
    pub fn continue_after(&mut self, before: &HostMemory) {
        self.next_hold = before.next_hold;
    }

    pub fn allocate(&mut self, bytes: u64, context: u64, flags: u32) -> Option<u64> {
        let pages = TwoFaced::new(usize::try_from(bytes).ok()?)?;
        let address = pages.address();
        self.locked.insert(address, Locked { bytes, context, flags, pages: Some(pages) });
        Some(address)
    }

    pub fn register(&mut self, address: u64, bytes: u64, context: u64, flags: u32) {
        self.locked.insert(address, Locked { bytes, context, flags, pages: None });
    }

    /// The bytes of the block that starts at `address`, if it was allocated here (`registered`: registered).
    pub fn starts_at(&self, address: u64, registered: bool) -> Option<u64> {
        let found = self.locked.get(&address)?;
        (found.pages.is_none() == registered).then_some(found.bytes)
    }

    pub fn remove(&mut self, address: u64) {
        self.locked.remove(&address);
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, &Locked)> {
        self.locked.iter().map(|(address, locked)| (*address, locked))
    }

    /// Bytes that were allocated page-locked; registered ones not counted.
    pub fn locked_bytes(&self) -> u64 {
        self.locked.values().filter(|locked| locked.pages.is_some()).map(|locked| locked.bytes).sum()
    }

    /// The page-locked block that all of `range` lies in.
    pub fn find(&self, range: &Range<u64>) -> Option<(u64, &Locked)> {
        let (start, locked) = self.locked.range(..=range.start).next_back()?;
        (range.end <= start + locked.bytes).then_some((*start, locked))
    }

    pub fn overlaps_locked(&self, range: &Range<u64>) -> bool {
        self.locked.range(..range.end).next_back().is_some_and(|(start, locked)| start + locked.bytes > range.start)
    }

    /// Reads host memory; `false` if it is gone.
    pub fn read(&self, address: u64, into: &mut [u8]) -> bool {
        match self.face(address, into.len()) {
            Some((pages, offset)) => pages.read(offset, into),
            None => return os::peek(address, into),
        }
        true
    }

    /// Reads host memory through its guards; `false` if it is gone.
    pub fn read_through(&mut self, address: u64, into: &mut [u8]) -> bool {
        let range = address..address + into.len() as u64;
        self.opened(&range, |memory| memory.read(address, into))
    }

    /// Writes host memory through its guards; `false` if it is gone.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> bool {
        if let Some((pages, offset)) = self.face(address, bytes.len()) {
            pages.write(offset, bytes);
            return true;
        }
        let range = address..address + bytes.len() as u64;
        self.opened(&range, |_| os::poke(address, bytes))
    }

    /// For as long as `work` takes, no guard is up on memory of the program in `range`.
    fn opened<T>(&mut self, range: &Range<u64>, work: impl FnOnce(&HostMemory) -> T) -> T {
        let up = self.holds.iter().filter(|(_, hold)| hold.guard_up && !hold.locked && overlap(&hold.range, range));
        let up: Vec<u64> = up.map(id).collect();
        self.lower(&up);
        let result = work(self);
        self.raise(&up);
        result
    }

    /// Notes that an operation in flight uses `range`, and shuts the program out of the pages that are its alone.
    pub fn hold(&mut self, range: Range<u64>, epoch: Epoch, cause: Cause, device_writes: bool, poison: bool) -> u64 {
        if device_writes {
            self.written_by_device(&range);
            if poison {
                self.write(range.start, &vec![PENDING; (range.end - range.start) as usize]);
            }
        }
        let block = self.find(&range).map(|(start, locked)| (start + locked.bytes, locked.pages.is_some()));
        let checksum = if device_writes { None } else { self.checksum(&range) };
        // The rest of a block's last page is nobody's; pageable sources may be constants, which are never writable.
        let guarded = match block {
            Some((end, true)) if end == range.end => {
                guard::whole_pages(range.start..range.end.next_multiple_of(PAGE as u64))
            }
            Some((_, true)) => guard::whole_pages(range.clone()),
            _ if device_writes => guard::whole_pages(range.clone()),
            _ => range.start..range.start,
        };
        self.next_hold += 1;
        let id = self.next_hold;
        let locked = block.is_some_and(|(_, owned)| owned);
        let hold = Hold { range, epoch, cause, device_writes, locked, checksum, guarded, guard_up: false };
        self.holds.insert(id, hold);
        self.raise(&[id]);
        id
    }

    /// A device write reached `range`: what was there before cannot be told from what the program wrote.
    pub fn written_by_device(&mut self, range: &Range<u64>) {
        for hold in self.holds.values_mut().filter(|hold| overlap(&hold.range, range)) {
            hold.checksum = None;
        }
    }

    /// The operation behind a hold has run: from here on only the program can change the bytes.
    pub fn ran(&mut self, hold: u64) {
        let Some(range) = self.holds.get(&hold).filter(|hold| hold.device_writes).map(|hold| hold.range.clone()) else {
            return;
        };
        self.written_by_device(&range);
        let checksum = self.checksum(&range);
        if let Some(hold) = self.holds.get_mut(&hold) {
            hold.checksum = checksum;
        }
    }

    /// Whether the range behind a hold may still be used: the program may have said that it is gone.
    pub fn is_held(&self, hold: u64) -> bool {
        self.holds.contains_key(&hold)
    }

    /// Ends the holds whose operations the host knows to be over; returns what the program did to them meanwhile.
    pub fn release(&mut self, known: &Clock) -> Vec<String> {
        let mut found = self.take_hits();
        let over: Vec<u64> = self.holds.iter().filter(|(_, hold)| known.knows(hold.epoch)).map(id).collect();
        self.lower(&over);
        for id in &over {
            let hold = self.holds.remove(id).expect("just listed");
            if hold.checksum.is_some() && self.checksum(&hold.range) != hold.checksum {
                found.push(format!(
                    "host access: the program changed {} before anything showed that the work was over",
                    hold.describe()
                ));
            }
        }
        found
    }

    /// What the guards saw since the last call, one text for each hold.
    pub fn take_hits(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        if !self.guards {
            return found;
        }
        for hit in guard::take_hits() {
            let Some(hold) = self.holds.get(&hit.tag) else { continue };
            let verb = if hold.device_writes { "touched" } else { "wrote to" };
            let text = format!(
                "host access: the program {verb} {} before anything showed that the work was over",
                hold.describe()
            );
            if !found.contains(&text) {
                found.push(text);
            }
        }
        found
    }

    /// What in flight still uses `range`: for a free, or for an access that the program declares.
    pub fn in_use(&self, range: &Range<u64>, known: &Clock, device_writes_only: bool) -> Vec<String> {
        let uses = self.holds.values().filter(|hold| overlap(&hold.range, range) && !known.knows(hold.epoch));
        uses.filter(|hold| hold.device_writes || !device_writes_only).map(Hold::describe).collect()
    }

    /// The program's memory is gone: no operation may touch it any more.
    pub fn abandon(&mut self, range: &Range<u64>) {
        let gone: Vec<u64> = self.holds.iter().filter(|(_, hold)| overlap(&hold.range, range)).map(id).collect();
        self.lower(&gone);
        for id in gone {
            self.holds.remove(&id);
        }
    }

    /// Opens what `known` covers for as long as a host function runs; [`HostMemory::shut_again`] undoes it.
    pub fn open_for(&mut self, known: &Clock) -> Vec<u64> {
        let up = self.holds.iter().filter(|(_, hold)| hold.guard_up && known.knows(hold.epoch));
        let open: Vec<u64> = up.map(id).collect();
        self.lower(&open);
        open
    }

    /// A host function may have changed what it was let in to.
    pub fn shut_again(&mut self, opened: &[u64]) {
        for id in opened {
            let Some(range) = self.holds.get(id).map(|hold| hold.range.clone()) else { continue };
            let checksum = self.checksum(&range);
            if let Some(hold) = self.holds.get_mut(id) {
                hold.checksum = hold.checksum.and(checksum);
            }
        }
        self.raise(opened);
    }

    pub fn holds(&self) -> usize {
        self.holds.len()
    }

    fn face(&self, address: u64, bytes: usize) -> Option<(&TwoFaced, u64)> {
        let (start, locked) = self.find(&(address..address + bytes as u64))?;
        locked.pages.as_ref().map(|pages| (pages, address - start))
    }

    fn checksum(&self, range: &Range<u64>) -> Option<u64> {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).ok()?];
        self.read(range.start, &mut bytes).then(|| checksum(&bytes))
    }

    fn raise(&mut self, ids: &[u64]) {
        for id in ids {
            let Some(hold) = self.holds.get_mut(id).filter(|_| self.guards) else { continue };
            let allow = if hold.device_writes { Allow::Nothing } else { Allow::Reads };
            hold.guard_up = guard::raise(&hold.guarded, allow, *id);
        }
    }

    fn lower(&mut self, ids: &[u64]) {
        for id in ids {
            let Some(hold) = self.holds.get_mut(id).filter(|hold| hold.guard_up) else { continue };
            guard::lower(&hold.guarded, *id, hold.locked);
            hold.guard_up = false;
        }
    }
}

impl Hold {
    fn describe(&self) -> String {
        let memory = if self.locked { "page-locked" } else { "pageable" };
        let role = if self.device_writes { "target" } else { "source" };
        let bytes = self.range.end - self.range.start;
        format!("{bytes} {memory} bytes at {:#x}, the {role} of {}", self.range.start, self.cause)
    }
}

fn id<T>((id, _): (&u64, T)) -> u64 {
    *id
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

/// Tells buffers apart that a program confused, not ones an enemy made.
fn checksum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(8);
    let mut sum = bytes.len() as u64;
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
        sum = (sum.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
    words
        .remainder()
        .iter()
        .fold(sum, |sum, byte| (sum.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAUSE: Cause = Cause { call: "cuMemcpyHtoDAsync_v2", kernel: None };
    const EPOCH: Epoch = Epoch { stream: 1, number: 1 };

    fn over() -> Clock {
        let mut clock = Clock::default();
        clock.learn(EPOCH);
        clock
    }

    #[test]
    fn a_source_that_changes_in_flight_is_reported_when_the_copy_is_known_to_be_over() {
        let mut memory = HostMemory::default();
        let mut source = [1_u8; 100];
        let at = source.as_ptr() as u64;
        memory.hold(at..at + 100, EPOCH, CAUSE, false, false);
        assert!(memory.release(&Clock::default()).is_empty());
        source[99] = 2;
        std::hint::black_box(&mut source);
        let found = memory.release(&over());
        assert!(found[0].contains("100 pageable bytes") && found[0].contains("source of cuMemcpyHtoDAsync_v2"));
        assert_eq!(memory.holds(), 0);
    }

    #[test]
    fn page_locked_memory_in_use_is_named_when_it_is_freed() {
        let mut memory = HostMemory::default();
        let at = memory.allocate(4096, 1, 0).unwrap();
        memory.hold(at + 8..at + 16, EPOCH, CAUSE, true, true);
        let mut seen = [0; 3];
        assert!(memory.read(at + 14, &mut seen));
        assert_eq!(seen, [PENDING, PENDING, 0]);
        assert!(memory.in_use(&(at..at + 8), &Clock::default(), false).is_empty());
        assert_eq!(memory.in_use(&(at..at + 9), &Clock::default(), false).len(), 1);
        assert!(memory.in_use(&(at..at + 9), &over(), false).is_empty());
    }
}
