//! How often each slot is leased, beside the lock. Knows slots; no keys, no values, no order.
//!
//! A lease is taken under the index's lock, so the number *taken* is written by one thread at a time
//! with a plain store. It is released without the lock, by one atomic addition to the number *released*.
//! An entry is leased while the two differ; both wrap.
//!
//! The low bits of `released` are flags. Two are set and cleared under the lock alone: whoever releases an entry with one
//! of these must tell the index. The others are for leases taken without the lock, see `front::pin`.

use crate::cache::front::pin::{CLOSED, LOCK_FREE, USED};
use crate::cache::paged::{PAGE, Paged};
use crate::cache::planted::{Bug, planted};
use crate::sync::{AtomicU32, Ordering};
use std::sync::Arc;

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
    /// One lease more. Under the lock.
    #[inline]
    pub(crate) fn take(&self) {
        let released = self.released.load(Ordering::Acquire);
        if released & LOCK_FREE != 0 {
            return self.share();
        }
        let taken = self.taken.load(Ordering::Relaxed);
        let leases = taken.wrapping_sub(released & !FLAGS) / ONE;
        assert!(leases < MOST, "{MOST} leases of one entry: they are being forgotten");
        self.taken.store(taken.wrapping_add(ONE), Ordering::Relaxed);
    }

    /// One lease more, by the holder of one, without the lock; or under it.
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

/// The counts of all slots.
pub(crate) struct Counts {
    pages: Paged<Arc<[Count; PAGE]>>,
    /// What `released` of a new one is.
    new: u32,
}

impl Counts {
    pub(crate) fn new() -> Self {
        Counts { pages: Paged::new(), new: 0 }
    }

    /// Whose entries can be leased without the lock, once they are opened.
    pub(crate) fn lock_free() -> Self {
        Counts { pages: Paged::new(), new: LOCK_FREE | CLOSED }
    }

    /// Makes the count of a new slot. Under the lock.
    #[inline]
    pub(crate) fn grow(&self, slot: u32) {
        if self.pages.page(slot as usize / PAGE).is_none() {
            let new = |_| Count { taken: AtomicU32::new(0), released: AtomicU32::new(self.new) };
            self.pages.add(Arc::new(std::array::from_fn(new)));
        }
    }

    #[inline(always)]
    pub(crate) fn at(&self, slot: u32) -> &Count {
        &self.pages.of(slot)[slot as usize % PAGE]
    }

    /// The counts of the slots beside this one.
    pub(crate) fn page(&self, slot: u32) -> &Arc<[Count; PAGE]> {
        self.pages.of(slot)
    }
}

#[cfg(all(test, not(hapax_loom)))]
mod tests {
    use super::*;

    fn count() -> Count {
        Count { taken: AtomicU32::new(0), released: AtomicU32::new(0) }
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
