//! How often each slot is leased, beside the lock. Knows slots; no keys, no values, no order.
//!
//! A lease is taken under the index's lock, so the number *taken* is written by one thread at a time
//! with a plain store. It is released without the lock, by one atomic addition to the number *released*.
//! An entry is leased while the two differ; both wrap.
//!
//! The low bits of `released` are flags. Two are set and cleared under the lock alone: whoever releases an entry with one
//! of these must tell the index. The others are for leases taken without the lock, see `front::pin`.

use crate::cache::front::pin::{CLOSED, LOCK_FREE, USED};
use crate::cache::paged::PAGE;
use crate::cache::planted::{Bug, planted};
use crate::sync::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

/// An eviction found the entry leased and took it out of the queue.
pub(crate) const PASSED: u32 = 1;
/// The entry was retired while leased.
pub(crate) const RETIRED: u32 = 2;
const TOLD: u32 = PASSED | RETIRED;
pub(crate) const FLAGS: u32 = TOLD | CLOSED | USED | LOCK_FREE;
/// One lease: what is above the flags, so that it may wrap without touching them.
pub(crate) const ONE: u32 = 32;
/// Half of what can be told apart: as with `Arc`, so many leases can only have been forgotten.
pub(crate) const MOST: u32 = 1 << 26;

#[derive(Debug)]
pub(crate) struct Count {
    pub(super) taken: AtomicU32,
    pub(super) released: AtomicU32,
}

impl Count {
    /// One lease more, in exact mode. Under the lock.
    #[inline]
    pub(crate) fn take(&self) {
        let taken = self.taken.load(Ordering::Relaxed);
        let leases = taken.wrapping_sub(self.released.load(Ordering::Acquire) & !FLAGS) / ONE;
        assert!(leases < MOST, "{MOST} leases of one entry: they are being forgotten");
        self.taken.store(taken.wrapping_add(ONE), Ordering::Relaxed);
    }

    /// One lease more, by the holder of one, without the lock; in relaxed mode also under it.
    pub(crate) fn share(&self) {
        // The lease held orders it before every eviction. Acquire is for the check: `taken`, read without the
        // lock, must not miss a lease whose release was counted, or the difference wraps.
        let order = if planted(Bug::RelaxedShare) { Ordering::Relaxed } else { Ordering::Acquire };
        let released = self.released.fetch_sub(ONE, order);
        if self.leases(released) >= MOST {
            self.released.fetch_add(ONE, Ordering::Relaxed);
            panic!("{MOST} leases of one entry: they are being forgotten");
        }
    }

    /// One lease less. `true`: the entry is flagged, so the index must hear of it.
    #[inline]
    pub(crate) fn release(&self) -> bool {
        let order = if planted(Bug::RelaxedRelease) { Ordering::Relaxed } else { Ordering::Release };
        self.released.fetch_add(ONE, order) & TOLD != 0
    }

    /// Under the lock. If not leased, all that its leases did happened before: the load reads from the
    /// last release, and each release but the first continues the release sequence of those before it.
    #[inline]
    pub(crate) fn is_leased(&self) -> bool {
        !planted(Bug::IgnoredLease) && self.leases(self.released.load(Ordering::Acquire)) != 0
    }

    /// Flags a leased entry. `false`: no lease is left, nothing was flagged, and it is closed, as after `close`. Under
    /// the lock.
    pub(crate) fn flag_if_leased(&self, flag: u32) -> bool {
        if self.is_lock_free() {
            return self.close_or(flag);
        }
        if !self.is_leased() {
            return false;
        }
        // The last lease may end between the look and this; then nobody saw the flag.
        let before = self.released.fetch_or(flag, Ordering::AcqRel);
        let leased = self.leases(before) != 0;
        if !leased {
            self.unflag(flag);
        }
        leased
    }

    /// Under the lock.
    pub(crate) fn flag(&self, flag: u32) {
        self.released.fetch_or(flag, Ordering::Relaxed);
    }

    /// Under the lock.
    pub(crate) fn unflag(&self, flag: u32) {
        self.released.fetch_and(!flag, Ordering::Relaxed);
    }

    /// Under the lock.
    #[inline]
    pub(crate) fn is_flagged(&self, flag: u32) -> bool {
        self.released.load(Ordering::Relaxed) & flag != 0
    }

    #[inline]
    fn leases(&self, released: u32) -> u32 {
        let taken = if released & LOCK_FREE != 0 { 0 } else { self.taken.load(Ordering::Relaxed) };
        taken.wrapping_sub(released & !FLAGS) / ONE
    }
}

/// The counts of all slots. Chunk `c` holds `PAGE * 2^c` of them, so that they never move and a count is two loads away.
pub(crate) struct Counts {
    chunks: [OnceLock<Arc<[Count]>>; 32 - FIRST as usize + 1],
    /// What `released` of a new one is.
    new: u32,
}

const FIRST: u32 = PAGE.trailing_zeros();

/// A page of a chunk.
pub(crate) struct CountPage {
    chunk: Arc<[Count]>,
    start: u32,
}

impl Counts {
    pub(crate) fn new() -> Self {
        Self::beginning_with(0)
    }

    /// Whose entries can be leased without the lock, once they are opened.
    pub(crate) fn lock_free() -> Self {
        Self::beginning_with(LOCK_FREE | CLOSED)
    }

    fn beginning_with(new: u32) -> Self {
        Counts { chunks: [const { OnceLock::new() }; 32 - FIRST as usize + 1], new }
    }

    /// Makes the count of a new slot. Under the lock.
    #[inline]
    pub(crate) fn grow(&self, slot: u32) {
        let (chunk, _) = place(slot);
        if self.chunks[chunk].get().is_none() {
            self.add_chunk(chunk);
        }
    }

    #[cold]
    fn add_chunk(&self, chunk: usize) {
        let new = |_| Count { taken: AtomicU32::new(0), released: AtomicU32::new(self.new) };
        self.chunks[chunk].get_or_init(|| (0..PAGE << chunk).map(new).collect());
    }

    #[inline(always)]
    pub(crate) fn at(&self, slot: u32) -> &Count {
        let (chunk, offset) = place(slot);
        &self.chunks[chunk].get().expect("every slot in use has a count")[offset]
    }

    /// The counts of the slots on this one's page.
    pub(crate) fn page(&self, slot: u32) -> CountPage {
        let (chunk, offset) = place(slot);
        let counts = self.chunks[chunk].get().expect("every slot in use has a count");
        CountPage { chunk: counts.clone(), start: slot - offset as u32 }
    }
}

impl CountPage {
    /// Of a slot on this page.
    #[inline(always)]
    pub(crate) fn at(&self, slot: u32) -> &Count {
        &self.chunk[(slot - self.start) as usize]
    }
}

#[inline]
fn place(slot: u32) -> (usize, usize) {
    let shifted = u64::from(slot) + (1 << FIRST);
    let chunk = 63 - shifted.leading_zeros() - FIRST;
    (chunk as usize, (shifted - (1 << (FIRST + chunk))) as usize)
}

#[cfg(all(test, not(hapax_loom)))]
mod tests {
    use super::*;

    fn count() -> Count {
        Count { taken: AtomicU32::new(0), released: AtomicU32::new(0) }
    }

    #[test]
    fn chunks_follow_each_other_without_gap() {
        let mut expected = (0, 0);
        for slot in 0..1 << 14 {
            assert_eq!(place(slot), expected);
            expected.1 += 1;
            if expected.1 == 1 << (FIRST as usize + expected.0) {
                expected = (expected.0 + 1, 0);
            }
        }
        assert!(place(u32::MAX).0 < Counts::new().chunks.len());
    }

    #[test]
    fn more_leases_than_can_be_counted_are_refused_without_the_lock_too() {
        for flags in [LOCK_FREE, LOCK_FREE | USED, LOCK_FREE | CLOSED, LOCK_FREE | PASSED] {
            let released = 0u32.wrapping_sub((MOST - 1) * ONE) | flags;
            let count = Count { taken: AtomicU32::new(0), released: AtomicU32::new(released) };
            let _ = count.pin(); // the last
            for _ in 0..2 {
                let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| count.pin()));
                assert!(refused.is_err(), "flags {flags}");
                assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| count.share())).is_err());
            }
            let leases = (count.released.load(Ordering::Relaxed) & !FLAGS).wrapping_neg() / ONE;
            assert_eq!(leases, MOST, "what was refused is not counted");
        }
    }

    #[test]
    fn a_page_leads_to_the_counts_of_its_slots() {
        let counts = Counts::new();
        (0..5 * PAGE as u32).for_each(|slot| counts.grow(slot));
        for slot in 0..5 * PAGE as u32 {
            assert!(std::ptr::eq(counts.page(slot).at(slot), counts.at(slot)));
        }
    }

    #[test]
    fn an_entry_is_leased_until_every_lease_and_every_share_is_released() {
        let count = count();
        count.take();
        count.share();
        assert!(!count.release() && count.is_leased());
        assert!(!count.release() && !count.is_leased());
    }

    #[test]
    fn only_a_leased_entry_can_be_passed_and_its_releases_report_themselves() {
        let count = count();
        assert!(!count.flag_if_leased(PASSED) && !count.is_flagged(PASSED));
        count.take();
        assert!(count.flag_if_leased(PASSED) && count.is_flagged(PASSED) && !count.is_flagged(RETIRED));
        assert!(count.release() && !count.is_leased());
        count.unflag(PASSED);
        assert!(!count.is_flagged(PASSED | RETIRED) && !count.is_leased());
    }

    #[test]
    fn both_numbers_wrap_without_touching_the_flags() {
        let near = 0u32.wrapping_sub(2 * ONE);
        let count = Count { taken: AtomicU32::new(near), released: AtomicU32::new(near | RETIRED) };
        for _ in 0..5 {
            count.take();
            assert!(count.is_leased() && count.is_flagged(RETIRED) && !count.is_flagged(PASSED));
            assert!(count.release() && !count.is_leased());
        }
    }

    #[test]
    #[should_panic(expected = "they are being forgotten")]
    fn more_leases_than_can_be_counted_are_refused() {
        let count = Count { taken: AtomicU32::new(MOST.wrapping_mul(ONE)), released: AtomicU32::new(0) };
        count.take();
    }
}
