//! What the core does differently behind a front, whose hits it does not see.

use crate::cache::core::{Core, Place};
use crate::cache::count::{Count, Counts, RETIRED};
use crate::cache::policy::Order;
use crate::cache::slot::Stored;
use crate::device::stream::StreamSet;
use std::borrow::Borrow;

/// How many entries one call may let stay because they were used without the lock. Beyond, the next in the order leaves
/// although it was: what bounds the time under the lock when everything was used since the last eviction.
pub(super) const CHANCES: u32 = 256;

impl<K: Eq, S: Stored, P: Order> Core<K, S, P> {
    /// As `Stored::lend`, where others may read the entry at the same time. One with a pending write was never open to them.
    /// A view that came from here, out of line, would go through the stack in exact mode, too, and be waited for there.
    #[cold]
    pub(super) fn lend_beside_lock_free(&mut self, slot: u32, count: &Count, stream: StreamSet) -> bool {
        if self.slots.value(slot).write_pending() {
            return self.slots.value_mut(slot).lend(stream);
        }
        count.note(stream);
        false
    }

    #[inline(never)]
    pub(super) fn find_behind_front<Q: ?Sized + Eq>(&self, hash: u32, key: &Q) -> Place
    where
        K: Borrow<Q>,
    {
        self.find_place(hash, key)
    }

    /// From here on the entry is not changed before it is closed again.
    #[inline]
    pub(super) fn open_for_front(&self, slot: u32, counts: &Counts) {
        if self.is_lock_free() && !self.slots.value(slot).write_pending() {
            counts.at(slot).open();
        }
    }

    /// It was closed to be taken out, and stays.
    #[cold]
    pub(super) fn reopen_for_front(&self, slot: u32, counts: &Counts) {
        if self.is_lock_free() && !self.slots.value(slot).write_pending() {
            counts.at(slot).reopen();
        }
    }

    /// A closed, unleased entry is about to leave: the streams that it was lent to without the lock go with it. In the slot,
    /// so that exact mode need not move the value for it.
    #[inline(always)]
    pub(super) fn take_notes_along(&mut self, slot: u32, counts: &Counts) {
        if self.is_lock_free() {
            self.slots.value_mut(slot).lend(counts.at(slot).take_notes());
        }
    }

    /// Entries that were used without the lock are touched when an eviction meets them, and stay.
    #[inline]
    pub(super) fn let_used_stay(&mut self, chances: &mut u32, counts: &Counts) {
        if self.is_lock_free() {
            let_used_stay(&mut self.policy, chances, counts);
        }
    }

    /// Changes what a leased slot with a pending write holds; without one, nobody may, and there is no need to.
    pub(crate) fn change_pending<R>(&mut self, slot: u32, counts: &Counts, change: impl FnOnce(&mut S) -> R) {
        let count = counts.at(slot);
        if self.is_lock_free() && !self.slots.value(slot).write_pending() {
            return;
        }
        change(self.slots.value_mut(slot));
        let retired = count.is_flagged(RETIRED);
        if !retired {
            self.open_for_front(slot, counts);
        }
    }
}

/// Until the next victim was not used, or all chances are given. A hit sets an entry's mark once until an eviction takes
/// it, so over time this costs no more than one touch for each hit.
pub(super) fn let_used_stay<P: Order>(policy: &mut P, chances: &mut u32, counts: &Counts) {
    while *chances > 0 {
        let Some((_, slot)) = policy.first() else { return };
        if !counts.at(slot).take_used() {
            return;
        }
        policy.touch(slot);
        *chances -= 1;
    }
}
