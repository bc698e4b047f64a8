//! The memory of a `LateDevice`: allocations that are checked before a byte of them is touched. Knows no streams.
#![expect(unsafe_code, reason = "allocates and copies raw memory")]

use crate::device::host::host_pointer;
use std::alloc::Layout;
use std::collections::BTreeMap;
use std::ptr::NonNull;

const ALIGN: usize = 256;
/// What device memory holds before anything was written to it, and once it is freed.
pub(super) const POISON: u8 = 0xA5;

/// The allocations that live now.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) total_bytes: Option<u64>,
    live: BTreeMap<u64, Allocation>,
    made: u64,
}

struct Allocation {
    kind: Kind,
    layout: Layout,
    /// Never used twice, unlike the address.
    number: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Device,
    PageLocked,
}

/// Bytes inside one allocation.
#[derive(Clone, Copy)]
pub(super) struct Span {
    kind: Kind,
    address: u64,
    bytes: usize,
    pub(super) allocation: u64,
}

impl Memory {
    pub(super) fn new(total_bytes: Option<u64>) -> Self {
        Memory { total_bytes, live: BTreeMap::new(), made: 0 }
    }

    pub(super) fn live_bytes(&self, kind: Kind) -> u64 {
        let of_kind = self.live.values().filter(|allocation| allocation.kind == kind);
        of_kind.map(|allocation| allocation.layout.size() as u64).sum()
    }

    pub(super) fn allocate(&mut self, kind: Kind, bytes: u64) -> Option<NonNull<u8>> {
        let total_bytes = self.total_bytes.filter(|_| kind == Kind::Device);
        if total_bytes.is_some_and(|total_bytes| bytes > total_bytes - self.live_bytes(kind)) {
            return None;
        }
        let layout = Layout::from_size_align(usize::try_from(bytes).ok()?, ALIGN).ok()?;
        if layout.size() == 0 {
            return None;
        }
        // SAFETY: the layout is not empty.
        let memory = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) })?;
        if kind == Kind::Device {
            // SAFETY: `memory` was just allocated with this layout, and nobody else knows it.
            unsafe { memory.write_bytes(POISON, layout.size()) };
        }
        self.made += 1;
        let address = memory.as_ptr().expose_provenance() as u64;
        self.live.insert(address, Allocation { kind, layout, number: self.made });
        Some(memory)
    }

    /// Frees an allocation and returns its number.
    pub(super) fn release(&mut self, kind: Kind, address: u64, bytes: u64) -> Result<u64, String> {
        let is_it = |one: &Allocation| one.kind == kind && one.layout.size() as u64 == bytes;
        if !self.live.get(&address).is_some_and(is_it) {
            return Err(format!("{bytes} bytes at {address:#x} are no such allocation; freed before?"));
        }
        let allocation = self.live.remove(&address).expect("found a line above");
        allocation.give_back(address);
        Ok(allocation.number)
    }

    /// Finds the live allocation that holds the whole range.
    pub(super) fn span(&self, kind: Kind, address: u64, bytes: usize) -> Result<Span, String> {
        let holder = self.live.range(..=address).next_back().filter(|(start, allocation)| {
            let room = (allocation.layout.size() as u64).checked_sub(address - **start);
            allocation.kind == kind && room.is_some_and(|room| bytes as u64 <= room)
        });
        match holder {
            Some((_, allocation)) => Ok(Span { kind, address, bytes, allocation: allocation.number }),
            None => Err(format!("{bytes} bytes at {address:#x} are not inside a live allocation of their kind")),
        }
    }

    /// Fails if the allocation that the span was found in is gone, even if another now stands there.
    fn check_live(&self, span: Span) -> Result<(), String> {
        let Span { kind, address, bytes, allocation } = span;
        match self.span(kind, address, bytes) {
            Ok(now) if now.allocation == allocation => Ok(()),
            _ => Err(format!("ran after the memory of its {bytes} bytes at {address:#x} was freed")),
        }
    }

    /// Copies page-locked to device memory or back; from nowhere come zeros.
    pub(super) fn copy(&mut self, from: Option<Span>, to: Span) -> Result<(), String> {
        self.check_live(to)?;
        let to_pointer = host_pointer(to.address);
        let Some(from) = from else {
            // SAFETY: the span lies in a live device allocation, which is only touched through `&mut self`.
            unsafe { to_pointer.write_bytes(0, to.bytes) };
            return Ok(());
        };
        self.check_live(from)?;
        // SAFETY: both spans have the same length and lie in live allocations of different kinds, so they are
        // disjoint; who queued the copy leaves the page-locked side alone until it has run.
        unsafe { std::ptr::copy_nonoverlapping(host_pointer(from.address), to_pointer, to.bytes) };
        Ok(())
    }

    pub(super) fn read(&mut self, address: u64, len: usize) -> Result<Vec<u8>, String> {
        self.span(Kind::Device, address, len)?;
        let mut bytes = vec![0; len];
        // SAFETY: the span lies in a live device allocation, which was initialised when it was made and is only
        // touched through `&mut self`; `bytes` is a new vector of the same length.
        unsafe { std::ptr::copy_nonoverlapping(host_pointer(address), bytes.as_mut_ptr(), len) };
        Ok(bytes)
    }

    pub(super) fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), String> {
        self.span(Kind::Device, address, bytes.len())?;
        // SAFETY: the span lies in a live device allocation, which is only touched through `&mut self` and to
        // which no reference exists, so `bytes` is elsewhere.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), host_pointer(address), bytes.len()) };
        Ok(())
    }
}

/// With device and controls gone, what was never freed goes too, so that a process under test ends clean.
impl Drop for Memory {
    fn drop(&mut self) {
        self.live.iter().for_each(|(&address, allocation)| allocation.give_back(address));
    }
}

impl Allocation {
    /// The allocation must leave the table at once.
    fn give_back(&self, address: u64) {
        // SAFETY: the allocation was in the table until now, hence it is not freed and has that many bytes.
        unsafe { host_pointer(address).write_bytes(POISON, self.layout.size()) };
        // SAFETY: `address` was allocated with this layout, and leaving the table is what makes this happen once.
        unsafe { std::alloc::dealloc(host_pointer(address), self.layout) };
    }
}
