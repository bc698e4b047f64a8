//! Where entries live: dense slots that never move. Knows no order, no budget and no leases.
//!
//! `Slots` is the core's, under its lock. In relaxed mode lookups read slots without the lock; the core may
//! then ask for `&mut` of a slot only while no such lookup can be reading it, see `front::pin`. That rule is kept by `core` and
//! `front` together: they are the boundary of the unsafe code here.
#![expect(unsafe_code, reason = "lookups of a relaxed index read what they have leased, without its lock")]

use crate::cache::paged::PAGE;
use crate::device::stream::StreamSet;
use crate::sync::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::Arc;

const NIL: u32 = u32::MAX;

/// What a slot holds of a resident: compact, without its heap.
pub trait Stored: Send {
    /// What a lease copies out, so that no slot is read without the lock.
    type View: Copy + Send + Sync;

    fn charge_bytes(&self, granule_bytes: u64) -> u64;
    fn view(&self) -> Self::View;
    /// A stream will use it. Whether a write on another stream may still be pending.
    fn lend(&mut self, stream: StreamSet) -> bool;
    /// Whether `lend` may say so.
    fn write_pending(&self) -> bool {
        false
    }
}

/// Laid out by hand, so that the key stands at one place whatever the slot is, and a lookup need not ask.
#[repr(u8)]
pub(crate) enum Slot<K, S> {
    Free {
        next: u32,
    },
    /// Being filled: the key is taken, nothing is resident.
    Vacant {
        _cost: Cost,
        hash: u32,
        _value: MaybeUninit<S>,
        key: K,
    },
    Resident {
        cost: Cost,
        hash: u32,
        value: S,
        key: K,
    },
    /// No key leads to it any more, and its last lease has ended; it waits for its collection.
    Retired {
        _cost: Cost,
        _hash: u32,
        value: S,
        key: K,
    },
}

/// Chunks of equal size, so that growing copies nothing and takes no long lock.
pub(crate) struct Slots<K, S> {
    chunks: Vec<Arc<Chunk<K, S>>>,
    free: u32,
    made: u32,
}

pub(crate) type Chunk<K, S> = [Cell<K, S>; PAGE];

/// A slot, as lookups without the lock see it.
pub(crate) struct Cell<K, S>(UnsafeCell<Slot<K, S>>);

// SAFETY: the contents are reached by `Slots`, which has one owner at a time, and by `read_pinned`, whose callers read
// what nobody changes meanwhile. Such reads lend `&K` and `&S` to several threads, hence `Sync`; keys and values leave by
// another thread than they came, hence `Send`.
unsafe impl<K: Send + Sync, S: Send + Sync> Sync for Cell<K, S> {}

impl<K, S> Cell<K, S> {
    /// Reads without the lock.
    ///
    /// # Safety
    /// The caller holds a lease of the slot's entry that was taken while the entry was open. Then nobody takes `&mut` of
    /// the slot before that lease has ended.
    #[inline(always)]
    pub(crate) unsafe fn read_pinned<R>(&self, read: impl FnOnce(&Slot<K, S>) -> R) -> R {
        // SAFETY: the caller's lease keeps the slot from being changed, and `Slots` only reads it meanwhile.
        read(unsafe { &*self.0.reading() })
    }

    /// Begins to fetch it from memory, so that it comes while its lease is being counted: an atomic step holds up the
    /// loads behind it.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        #[cfg(all(target_arch = "x86_64", not(any(hapax_loom, miri))))]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let first: *const i8 = std::ptr::from_ref(self).cast();
            // Half of all slots of 48 bytes lie on two lines, with the key on the second.
            let last = first.wrapping_add(size_of::<Self>() - 1);
            // SAFETY: SSE is part of x86-64; a prefetch is no access, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(first) };
            // SAFETY: as above.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(last) };
        }
    }
}

impl<K, S> Slots<K, S> {
    pub(crate) fn new() -> Self {
        Slots { chunks: Vec::new(), free: NIL, made: 0 }
    }

    /// The slots beside this one, for lookups without the lock.
    pub(crate) fn chunk(&self, slot: u32) -> &Arc<Chunk<K, S>> {
        &self.chunks[slot as usize / PAGE]
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> &Slot<K, S> {
        // SAFETY: `get_mut` is not running, since it borrows `self` for writing; lookups without the lock only read.
        unsafe { &*self.chunks[slot as usize / PAGE][slot as usize % PAGE].0.reading() }
    }

    /// In relaxed mode only of a slot that is closed and whose leases from while it was open have ended; so it is with
    /// everything below that changes a slot.
    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> &mut Slot<K, S> {
        // SAFETY: `self` is borrowed for writing, so no other reference is from here; and none is from
        // `read_pinned`, whose callers do not read what is closed.
        unsafe { &mut *self.chunks[slot as usize / PAGE][slot as usize % PAGE].0.writing() }
    }

    /// A free slot that was used before. It is the caller's to `put` something in.
    #[inline]
    pub(crate) fn free(&mut self) -> Option<u32> {
        if self.free == NIL {
            return None;
        }
        let slot = self.free;
        let Slot::Free { next } = *self.get(slot) else { unreachable!("the free list holds free slots") };
        self.free = next;
        Some(slot)
    }

    /// A free slot that was never used. It is the caller's to `put` something in.
    #[cold]
    pub(crate) fn new_slot(&mut self) -> u32 {
        let slot = self.made;
        assert!(slot < NIL, "a cache holds fewer than 2^32 entries");
        if slot as usize % PAGE == 0 {
            let chunk: Arc<[Cell<K, S>]> = (0..PAGE).map(|_| Cell(UnsafeCell::new(Slot::Free { next: NIL }))).collect();
            let Ok(chunk) = chunk.try_into() else { unreachable!("it has the length of a chunk") };
            self.chunks.push(chunk);
        }
        self.made += 1;
        slot
    }

    /// Fills a free slot. Inlined, so that the content is built where it stays: copied there in wide words right after it
    /// was written in narrow ones, it would wait for each of them.
    #[inline(always)]
    pub(crate) fn put(&mut self, slot: u32, content: Slot<K, S>) {
        *self.get_mut(slot) = content;
    }

    /// Empties a slot and returns what it held.
    #[inline(always)]
    pub(crate) fn take(&mut self, slot: u32) -> Slot<K, S> {
        let next = self.free;
        self.free = slot;
        std::mem::replace(self.get_mut(slot), Slot::Free { next })
    }

    /// Changes what a slot holds, in place.
    pub(crate) fn change(&mut self, slot: u32, change: impl FnOnce(Slot<K, S>) -> Slot<K, S>) {
        let held = self.get_mut(slot);
        let old = std::mem::replace(held, Slot::Free { next: NIL });
        *held = change(old);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Slot<K, S>)> {
        (0..self.made).map(|slot| (slot, self.get(slot)))
    }

    /// The hash that the table knows the slot's key by.
    #[inline(always)]
    pub(crate) fn hash(&self, slot: u32) -> u32 {
        match self.get(slot) {
            Slot::Vacant { hash, .. } | Slot::Resident { hash, .. } => *hash,
            Slot::Free { .. } | Slot::Retired { .. } => unreachable!("the table holds keys only"),
        }
    }

    #[inline]
    pub(crate) fn key(&self, slot: u32) -> &K {
        self.get(slot).key()
    }

    /// The value of a resident or retired entry.
    #[inline]
    pub(crate) fn value(&self, slot: u32) -> &S {
        self.get(slot).value()
    }

    #[inline]
    pub(crate) fn value_mut(&mut self, slot: u32) -> &mut S {
        match self.get_mut(slot) {
            Slot::Resident { value, .. } | Slot::Retired { value, .. } => value,
            Slot::Free { .. } | Slot::Vacant { .. } => unreachable!("nothing is stored there"),
        }
    }
}

impl<K, S> Slot<K, S> {
    pub(crate) fn vacant(hash: u32, key: K) -> Self {
        Slot::Vacant { _cost: Cost::new(0), hash, _value: MaybeUninit::uninit(), key }
    }

    #[inline]
    pub(crate) fn key(&self) -> &K {
        match self {
            Slot::Vacant { key, .. } | Slot::Resident { key, .. } | Slot::Retired { key, .. } => key,
            Slot::Free { .. } => unreachable!("a free slot has no key"),
        }
    }

    #[inline]
    pub(crate) fn value(&self) -> &S {
        match self {
            Slot::Resident { value, .. } | Slot::Retired { value, .. } => value,
            Slot::Free { .. } | Slot::Vacant { .. } => unreachable!("nothing is stored there"),
        }
    }

    pub(crate) fn retired(key: K, value: S) -> Self {
        Slot::Retired { _cost: Cost::new(0), _hash: 0, value, key }
    }
}

/// What an entry costs to make again, in nanoseconds: 18 bits of it and where they stand, so that it fits
/// beside the hash. Exact below 262 us, and never off by more than one part in 2^17 above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost([u8; 3]);

impl Cost {
    const BITS: u32 = 18;

    pub(crate) fn new(ns: u64) -> Self {
        let shift = (u64::BITS - ns.leading_zeros()).saturating_sub(Self::BITS);
        let [low, middle, high, _] = (shift << Self::BITS | (ns >> shift) as u32).to_le_bytes();
        Cost([low, middle, high])
    }

    pub(crate) fn ns(self) -> u64 {
        let Cost([low, middle, high]) = self;
        let packed = u32::from_le_bytes([low, middle, high, 0]);
        u64::from(packed & ((1 << Self::BITS) - 1)) << (packed >> Self::BITS)
    }
}

/// Slots keep 32 bits of a hash; the table wants 64, spread over both ends.
pub(crate) fn expand(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

#[cfg(all(test, not(hapax_loom)))]
mod tests {
    use super::*;

    #[test]
    fn freed_slots_are_used_again_and_keep_what_they_are_given() {
        let mut slots: Slots<&str, u8> = Slots::new();
        let (a, b) = (slots.new_slot(), slots.new_slot());
        slots.put(a, Slot::vacant(1, "a"));
        slots.put(b, Slot::vacant(2, "b"));
        assert_eq!(slots.free(), None);
        assert!(matches!(slots.take(a), Slot::Vacant { key: "a", .. }));
        assert_eq!(slots.free(), Some(a));
        slots.put(a, Slot::Resident { hash: 3, cost: Cost::new(0), key: "c", value: 9 });
        assert_eq!((*slots.key(b), *slots.value(a)), ("b", 9));
    }

    #[test]
    fn a_cost_keeps_its_leading_bits() {
        for exact in [0, 1, 1000, (1 << 18) - 1, 1 << 18, 1 << 63] {
            assert_eq!(Cost::new(exact).ns(), exact);
        }
        for ns in [123_456_789_012_345u64, u64::MAX, (1 << 40) + 1] {
            let kept = Cost::new(ns).ns();
            assert!(kept <= ns && ns - kept <= ns >> 17, "{ns} became {kept}");
        }
    }

    /// 16 bytes of key, 24 of a handle, 4 of hash, 3 of cost and one that tells what the slot is.
    #[test]
    fn a_slot_of_a_handle_with_a_128_bit_key_takes_48_bytes() {
        assert_eq!(size_of::<Slot<u128, [u64; 3]>>(), 48);
    }
}
