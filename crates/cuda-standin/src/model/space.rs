//! Device memory: blocks at addresses that are handed out once, and their bytes, kept where the host finds no
//! pointer to them. Knows no stream and no context beyond their numbers.

use crate::os;
use std::collections::BTreeMap;
use std::ops::Range;

/// What a byte of device memory holds before anything wrote it.
pub const FRESH: u8 = 0xCD;

const REGION_BYTES: u64 = 1 << 40;
const SMALLEST_REGION_BYTES: u64 = 1 << 30;
const GAP_BYTES: u64 = 1 << 16;
const GRANULE_BYTES: u64 = 512;
const REMEMBERED: usize = 1 << 16;

#[derive(Default)]
pub struct Space {
    blocks: BTreeMap<u64, Block>,
    freed: BTreeMap<u64, Freed>,
    free: Range<u64>,
    allocated: u64,
}

pub struct Block {
    /// As asked for; the device is charged [`charged_bytes`].
    pub bytes: u64,
    pub context: u64,
    pub device: u32,
    pub call: &'static str,
    /// Counts from 1 in order of allocation, for reports.
    pub ordinal: u64,
    /// A stream-ordered free was submitted and has not run.
    pub freeing: bool,
    /// Holds a module's global variables: never freed by the program.
    pub of_module: bool,
    pages: BTreeMap<u64, Box<[u8; os::PAGE]>>,
}

struct Freed {
    bytes: u64,
    ordinal: u64,
    by: &'static str,
}

/// Why an address names no memory.
#[derive(Debug, PartialEq, Eq)]
pub enum Stray {
    Freed { ordinal: u64, by: &'static str },
    PastTheEnd { ordinal: u64, bytes: u64 },
    Nowhere,
}

impl Space {
    /// Where a new block of `bytes` begins; 512-byte aligned, never used before, far from any other block.
    pub fn allocate(
        &mut self,
        bytes: u64,
        context: u64,
        device: u32,
        call: &'static str,
        of_module: bool,
    ) -> Option<u64> {
        let stride = bytes.checked_add(GAP_BYTES)?.checked_next_multiple_of(GAP_BYTES)?;
        if self.free.end - self.free.start < stride {
            self.free = fresh_region(stride)?;
        }
        let address = self.free.start;
        self.free.start += stride;
        self.allocated += 1;
        let ordinal = self.allocated;
        let block =
            Block { bytes, context, device, call, ordinal, freeing: false, of_module, pages: BTreeMap::default() };
        self.blocks.insert(address, block);
        Some(address)
    }

    pub fn free(&mut self, address: u64, by: &'static str) -> Option<Block> {
        let block = self.blocks.remove(&address)?;
        if self.freed.len() == REMEMBERED {
            self.freed.pop_first();
        }
        self.freed.insert(address, Freed { bytes: block.bytes, ordinal: block.ordinal, by });
        Some(block)
    }

    /// The block that starts at `address`.
    pub fn block_mut(&mut self, address: u64) -> Option<&mut Block> {
        self.blocks.get_mut(&address)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, &Block)> {
        self.blocks.iter().map(|(address, block)| (*address, block))
    }

    /// The block that all of `range` lies in, and where it starts.
    pub fn find(&self, range: &Range<u64>) -> Option<(u64, &Block)> {
        let (start, block) = self.blocks.range(..=range.start).next_back()?;
        (range.end <= start + block.bytes && range.start <= range.end).then_some((*start, block))
    }

    /// Why [`Space::find`] found nothing.
    pub fn stray(&self, range: &Range<u64>) -> Stray {
        if let Some((start, block)) = self.blocks.range(..=range.start).next_back() {
            if range.start < start + block.bytes {
                return Stray::PastTheEnd { ordinal: block.ordinal, bytes: block.bytes };
            }
        }
        match self.freed.range(..=range.start).next_back() {
            Some((start, freed)) if range.start < start + freed.bytes.max(1) => {
                Stray::Freed { ordinal: freed.ordinal, by: freed.by }
            }
            _ => Stray::Nowhere,
        }
    }

    /// Fills `into` from device memory. The range lies in one block.
    pub fn read(&self, address: u64, into: &mut [u8]) {
        let (start, block) = self.find(&(address..address + into.len() as u64)).expect("the caller found the block");
        for (offset, piece) in pieces(address - start, into.len()) {
            let into = &mut into[piece];
            match block.pages.get(&(offset / os::PAGE as u64)) {
                Some(page) => into.copy_from_slice(&page[(offset % os::PAGE as u64) as usize..][..into.len()]),
                None => into.fill(FRESH),
            }
        }
    }

    /// Writes device memory. The range lies in one block.
    pub fn write(&mut self, address: u64, bytes: &[u8]) {
        let (start, _) = self.find(&(address..address + bytes.len() as u64)).expect("the caller found the block");
        let block = self.blocks.get_mut(&start).expect("just found");
        for (offset, piece) in pieces(address - start, bytes.len()) {
            let page = block.pages.entry(offset / os::PAGE as u64).or_insert_with(|| Box::new([FRESH; os::PAGE]));
            let bytes = &bytes[piece];
            page[(offset % os::PAGE as u64) as usize..][..bytes.len()].copy_from_slice(bytes);
        }
    }
}

/// What a device gives up for a block.
pub fn charged_bytes(bytes: u64) -> u64 {
    bytes.saturating_add(GRANULE_BYTES - 1) / GRANULE_BYTES * GRANULE_BYTES
}

/// Cuts a range of a block at page borders: the offset of each piece in the block, and where it lies in the buffer.
fn pieces(offset: u64, bytes: usize) -> impl Iterator<Item = (u64, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == bytes {
            return None;
        }
        let at = offset + done as u64;
        let room = os::PAGE - (at % os::PAGE as u64) as usize;
        let piece = done..done + room.min(bytes - done);
        done = piece.end;
        Some((at, piece))
    })
}

/// Old regions are kept, so that no address is ever a device address twice.
fn fresh_region(at_least: u64) -> Option<Range<u64>> {
    let mut bytes = REGION_BYTES.max(at_least.checked_add(GAP_BYTES * 2)?);
    loop {
        if let Some(start) = os::reserve(usize::try_from(bytes).ok()?) {
            os::guard::name_device_memory(start..start + bytes);
            return Some((start + GAP_BYTES).next_multiple_of(GAP_BYTES)..start + bytes);
        }
        bytes /= 4; // the address space of this process is limited
        if bytes < SMALLEST_REGION_BYTES.max(at_least) {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_memory_is_poisoned_and_sparse_memory_reads_back() {
        let mut space = Space::default();
        let at = space.allocate(1 << 36, 1, 0, "cuMemAlloc_v2", false).unwrap();
        let mut seen = [0; 9000];
        space.read(at + 5, &mut seen);
        assert_eq!(seen, [FRESH; 9000]);
        let written: Vec<u8> = (0..9000).map(|i| i as u8).collect();
        space.write(at + (1 << 35) + 4090, &written);
        space.read(at + (1 << 35) + 4090, &mut seen);
        assert_eq!(&seen[..], &written[..]);
        space.read(at + (1 << 35) + 4089, &mut seen[..2]);
        assert_eq!(seen[..2], [FRESH, 0]);
    }

    #[test]
    fn addresses_are_not_reused_and_strays_are_explained() {
        let mut space = Space::default();
        let first = space.allocate(100, 1, 0, "cuMemAlloc_v2", false).unwrap();
        space.free(first, "cuMemFree_v2").unwrap();
        let second = space.allocate(100, 1, 0, "cuMemAlloc_v2", false).unwrap();
        assert_ne!(first, second);
        assert_eq!(space.stray(&(first..first + 4)), Stray::Freed { ordinal: 1, by: "cuMemFree_v2" });
        assert_eq!(space.stray(&(second + 90..second + 110)), Stray::PastTheEnd { ordinal: 2, bytes: 100 });
        assert_eq!(space.stray(&(second + 100..second + 110)), Stray::Nowhere);
        assert!(space.find(&(second..second + 100)).is_some());
    }
}
