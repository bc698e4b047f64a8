//! Where entries and their lease counts live: dense slots that never move. Knows no order and no budget.

use crate::cache::planted::{Bug, planted};
use crate::device::stream::StreamSet;
use crate::sync::{AtomicU32, Ordering};
use std::sync::OnceLock;

const NIL: u32 = u32::MAX;

/// What a slot holds of a resident: compact, without its heap.
pub trait Stored: Send {
    /// What a lease copies out, so that no slot is read without the lock.
    type View: Copy + Send + Sync;

    fn charge_bytes(&self, granule_bytes: u64) -> u64;
    fn view(&self) -> Self::View;
    /// A stream will use it. Whether a write on another stream may still be pending.
    fn lend(&mut self, stream: StreamSet) -> bool;
}

pub(crate) enum Slot<K, S> {
    Free {
        next: u32,
    },
    /// Being filled: the key is taken, nothing is resident.
    Vacant {
        hash: u32,
        key: K,
    },
    Resident {
        hash: u32,
        key: K,
        value: S,
    },
    /// No key leads to it any more; it waits for its last lease, then (`queued`) for its collection.
    Retired {
        queued: bool,
        key: K,
        value: S,
    },
}

/// Chunks of equal size, so that growing copies nothing and takes no long lock.
pub(crate) struct Slots<K, S> {
    chunks: Vec<Vec<Slot<K, S>>>,
    free: u32,
    made: u32,
}

const CHUNK: usize = 4096;

impl<K, S> Slots<K, S> {
    pub(crate) fn new() -> Self {
        Slots { chunks: Vec::new(), free: NIL, made: 0 }
    }

    pub(crate) fn get(&self, slot: u32) -> &Slot<K, S> {
        &self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> &mut Slot<K, S> {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    pub(crate) fn add(&mut self, content: Slot<K, S>) -> u32 {
        if self.free != NIL {
            let slot = self.free;
            let Slot::Free { next } = *self.get(slot) else { unreachable!("the free list holds free slots") };
            self.free = next;
            *self.get_mut(slot) = content;
            return slot;
        }
        let slot = self.made;
        assert!(slot < NIL, "a cache holds fewer than 2^32 entries");
        let first_chunk = if cfg!(hapax_loom) { 8 } else { CHUNK };
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(content),
            _ => {
                let mut chunk = Vec::with_capacity(if slot == 0 { first_chunk } else { CHUNK });
                chunk.push(content);
                self.chunks.push(chunk);
            }
        }
        self.made += 1;
        slot
    }

    /// Empties a slot and returns what it held.
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
        (0..).zip(self.chunks.iter().flatten())
    }

    /// The hash that the table knows the slot's key by.
    pub(crate) fn hash(&self, slot: u32) -> u64 {
        match self.get(slot) {
            Slot::Vacant { hash, .. } | Slot::Resident { hash, .. } => expand(*hash),
            Slot::Free { .. } | Slot::Retired { .. } => unreachable!("the table holds keys only"),
        }
    }

    pub(crate) fn key(&self, slot: u32) -> &K {
        match self.get(slot) {
            Slot::Vacant { key, .. } | Slot::Resident { key, .. } | Slot::Retired { key, .. } => key,
            Slot::Free { .. } => unreachable!("a free slot has no key"),
        }
    }

    /// The value of a resident or retired entry.
    pub(crate) fn value(&self, slot: u32) -> &S {
        match self.get(slot) {
            Slot::Resident { value, .. } | Slot::Retired { value, .. } => value,
            Slot::Free { .. } | Slot::Vacant { .. } => unreachable!("nothing is stored there"),
        }
    }

    pub(crate) fn value_mut(&mut self, slot: u32) -> &mut S {
        match self.get_mut(slot) {
            Slot::Resident { value, .. } | Slot::Retired { value, .. } => value,
            Slot::Free { .. } | Slot::Vacant { .. } => unreachable!("nothing is stored there"),
        }
    }
}

/// Slots keep 32 bits of a hash; the table wants 64, spread over both ends.
pub(crate) fn expand(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Lease counts, outside of the lock: a lease is taken under it and released without it.
///
/// The upper bits are flags, set under the lock, that make the last release take the lock.
pub(crate) struct LeaseCounts([OnceLock<Box<[AtomicU32]>>; 23]);

/// An eviction found the entry leased and took it out of the queue.
pub(crate) const PASSED: u32 = 1 << 31;
/// The entry was retired while leased.
pub(crate) const RETIRED: u32 = 1 << 30;
const COUNT: u32 = RETIRED - 1;
/// Half of what the count can hold: as with `Arc`, so many leases can only have been forgotten.
const MOST_LEASES: u32 = COUNT / 2;
/// Chunk `c` holds `2^(FIRST + c)` counts, so that chunks never move and there are few of them.
const FIRST: u32 = if cfg!(hapax_loom) { 2 } else { 10 };

impl LeaseCounts {
    pub(crate) fn new() -> Self {
        LeaseCounts([const { OnceLock::new() }; 23])
    }

    /// Makes the count of a new slot. Called under the lock.
    pub(crate) fn grow(&self, slot: u32) {
        let (chunk, _) = place(slot);
        self.0[chunk].get_or_init(|| (0..1u32 << (FIRST + chunk as u32)).map(|_| AtomicU32::new(0)).collect());
    }

    /// One lease more. Under the lock, so that no eviction is looking; whether the entry was passed.
    pub(crate) fn acquire(&self, slot: u32) -> bool {
        // Relaxed is enough: the lock orders it before every eviction.
        let before = self.at(slot).fetch_add(1, Ordering::Relaxed);
        self.check(slot, before);
        before & PASSED != 0
    }

    /// One more of an entry that the caller holds a lease of.
    pub(crate) fn share(&self, slot: u32) {
        let before = self.at(slot).fetch_add(1, Ordering::Relaxed);
        self.check(slot, before);
    }

    /// One lease less. `true`: it was the last of a flagged entry, so the index must hear of it.
    pub(crate) fn release(&self, slot: u32) -> bool {
        let order = if planted(Bug::RelaxedRelease) { Ordering::Relaxed } else { Ordering::Release };
        let before = self.at(slot).fetch_sub(1, order);
        before & COUNT == 1 && before & !COUNT != 0
    }

    /// Whether the entry is leased. If not, all that its leases did happened before.
    pub(crate) fn is_leased(&self, slot: u32) -> bool {
        !planted(Bug::IgnoredLease) && self.at(slot).load(Ordering::Acquire) & COUNT != 0
    }

    /// Flags a leased entry. `false`: no lease is left, and nothing was flagged.
    pub(crate) fn flag_if_leased(&self, slot: u32, flag: u32) -> bool {
        if !self.is_leased(slot) {
            return false;
        }
        // The last lease may end between the look and this.
        if self.at(slot).fetch_or(flag, Ordering::AcqRel) & COUNT == 0 {
            self.unflag(slot, flag);
            return false;
        }
        true
    }

    /// Flags an entry that has no lease.
    pub(crate) fn flag(&self, slot: u32, flag: u32) {
        self.at(slot).fetch_or(flag, Ordering::Relaxed);
    }

    pub(crate) fn unflag(&self, slot: u32, flag: u32) {
        self.at(slot).fetch_and(!flag, Ordering::Relaxed);
    }

    pub(crate) fn is_flagged(&self, slot: u32, flag: u32) -> bool {
        self.at(slot).load(Ordering::Relaxed) & flag != 0
    }

    fn check(&self, slot: u32, before: u32) {
        if before & COUNT >= MOST_LEASES {
            self.at(slot).fetch_sub(1, Ordering::Relaxed);
            panic!("more than {MOST_LEASES} leases of one entry: they are being forgotten");
        }
    }

    fn at(&self, slot: u32) -> &AtomicU32 {
        let (chunk, offset) = place(slot);
        &self.0[chunk].get().expect("every slot in use has a count")[offset]
    }
}

fn place(slot: u32) -> (usize, usize) {
    let shifted = u64::from(slot) + (1 << FIRST);
    let chunk = 63 - shifted.leading_zeros() - FIRST;
    (chunk as usize, (shifted - (1 << (FIRST + chunk))) as usize)
}

#[cfg(all(test, not(hapax_loom)))]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_counts_follow_each_other_without_gap() {
        let mut expected = (0, 0);
        for slot in 0..1 << 14 {
            assert_eq!(place(slot), expected);
            expected.1 += 1;
            if expected.1 == 1 << (FIRST as usize + expected.0) {
                expected = (expected.0 + 1, 0);
            }
        }
        assert!(place(NIL - 1).0 < 23);
    }

    #[test]
    fn freed_slots_are_used_again_and_keep_what_they_are_given() {
        let mut slots: Slots<&str, u8> = Slots::new();
        let a = slots.add(Slot::Vacant { hash: 1, key: "a" });
        let b = slots.add(Slot::Vacant { hash: 2, key: "b" });
        assert!(matches!(slots.take(a), Slot::Vacant { key: "a", .. }));
        assert_eq!(slots.add(Slot::Resident { hash: 3, key: "c", value: 9 }), a);
        assert_eq!((*slots.key(b), *slots.value(a)), ("b", 9));
    }

    #[test]
    fn the_last_release_reports_itself_only_when_flagged() {
        let counts = LeaseCounts::new();
        counts.grow(0);
        assert!(!counts.acquire(0));
        counts.share(0);
        assert!(!counts.release(0) && counts.is_leased(0));
        assert!(!counts.release(0) && !counts.is_leased(0));
        assert!(!counts.flag_if_leased(0, PASSED) && !counts.is_flagged(0, PASSED));
        counts.acquire(0);
        assert!(counts.flag_if_leased(0, PASSED));
        assert!(counts.release(0));
        assert!(counts.acquire(0), "it says that it was passed");
    }
}
