//! The cache's algorithm: one table, one budget, one order. Everything runs under `&mut self`; it knows
//! no locks, no devices and no waiting.
//!
//! Where an entry can be, and what counts it:
//! - **queued**: in the policy's queue, leased or not;
//! - **passed**: an eviction found it leased and took it out of the queue, with its rank; its last release puts it
//! - **aside**: passed, and unleased since. The least of the ranks aside and in the queue is the next victim;
//! - **retired**: without a key and flagged so, until its last lease ends and it is collected.
//!
//! So an eviction meets each leased entry once per use, a refusal that is repeated costs O(1), and the
//! victims are the same as if every eviction had walked the whole order and skipped the leased.

pub(crate) use crate::cache::core::reads::Row;
pub(crate) use crate::cache::core::removed::Removed;
use crate::cache::count::{Count, Counts, PASSED, RETIRED};
use crate::cache::front::table::Table;
use crate::cache::front::{Front, Page};
use crate::cache::paged::Paged;
use crate::cache::planted::{Bug, planted};
use crate::cache::policy::{Order, Rank, Weight};
use crate::cache::slot::{Cost, Slot, Slots, Stored};
use crate::device::stream::StreamSet;
use crate::error::Error;
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a hit writes stands first, to share the lock's cache line: with two threads at it, each line that a hit writes
/// crosses from core to core.
#[repr(C)]
pub(crate) struct Core<K, S, P: Order> {
    pub(crate) counters: Counters,
    policy: P,
    table: Table,
    slots: Slots<K, S>,
    aside: BTreeMap<Rank, u32>,
    /// Retired entries whose last lease ended: they lead whatever is handed out next.
    collectable: Vec<u32>,
    resident: Sum,
    /// Of the resident: passed, and leased for all we know.
    passed: Sum,
    aside_sum: Sum,
    retired: Sum,
    collectable_sum: Sum,
    reserved: Sum,
    /// Reserved, and retired but not collectable: what room can neither be made of nor collected from.
    fixed: Sum,
    budget_bytes: u64,
    max_entries: usize,
    granule_bytes: u64,
    /// The hash of the next victim, read while this one is looked for in the table: by the time that it is
    /// evicted, its slot has come from memory. Worth a tenth of an eviction at 100,000 entries.
    ahead: Option<(u32, u32)>,
    /// What a front reads.
    pages: Option<Arc<Paged<Page<K, S>>>>,
}

/// Entries and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) bytes: u64,
    pub(crate) entries: usize,
}

#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Counters {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) evictions: u64,
    pub(crate) rejections: u64,
}

/// What a key leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Absent,
    Vacant(u32),
    Resident(u32),
}

impl Sum {
    fn one(bytes: u64) -> Self {
        Sum { bytes, entries: 1 }
    }

    fn add(&mut self, other: Sum) {
        self.bytes += other.bytes;
        self.entries += other.entries;
    }

    fn sub(&mut self, other: Sum) {
        self.bytes -= other.bytes;
        self.entries -= other.entries;
    }

    fn covers(&self, need: Sum) -> bool {
        self.bytes >= need.bytes && self.entries >= need.entries
    }
}

impl<K: Eq, S: Stored, P: Order> Core<K, S, P> {
    pub(crate) fn new(policy: P, budget_bytes: u64, max_entries: usize, granule_bytes: u64) -> Self {
        Self::behind(None, policy, budget_bytes, max_entries, granule_bytes)
    }

    /// With a front, which takes leases without the lock.
    pub(crate) fn behind(
        front: Option<&Front<K, S>>,
        policy: P,
        budget_bytes: u64,
        max_entries: usize,
        granule_bytes: u64,
    ) -> Self {
        Core {
            table: front.map_or_else(Table::locked, Front::table),
            slots: Slots::new(),
            pages: front.map(Front::pages),
            policy,
            aside: BTreeMap::new(),
            collectable: Vec::new(),
            resident: Sum::default(),
            passed: Sum::default(),
            aside_sum: Sum::default(),
            retired: Sum::default(),
            collectable_sum: Sum::default(),
            reserved: Sum::default(),
            fixed: Sum::default(),
            budget_bytes,
            max_entries,
            granule_bytes,
            ahead: None,
            counters: Counters::default(),
        }
    }

    /// Runs `K::eq`, the only code of the user's that runs here, before anything changes.
    #[inline]
    pub(crate) fn find<Q: ?Sized + Eq>(&self, hash: u32, key: &Q) -> Place
    where
        K: Borrow<Q>,
    {
        if self.is_lock_free() { self.find_behind_front(hash, key) } else { self.find_place(hash, key) }
    }

    /// Inlined, and `find_behind_front` is not: what exact mode looks for then stays in registers. Worth 1.5 ns of 17.
    #[inline(always)]
    fn find_place<Q: ?Sized + Eq>(&self, hash: u32, key: &Q) -> Place
    where
        K: Borrow<Q>,
    {
        let mut resident = false;
        let found = self.table.find(hash, |slot| {
            let held = self.slots.get(slot);
            resident = matches!(held, Slot::Resident { .. });
            held.key().borrow() == key
        });
        match found {
            None => Place::Absent,
            Some(slot) if resident => Place::Resident(slot),
            Some(slot) => Place::Vacant(slot),
        }
    }

    /// Leases a resident entry, as its most recent use. Its view, and whether a write may be pending.
    #[inline(always)]
    pub(crate) fn hit(&mut self, slot: u32, count: &Count, stream: StreamSet) -> (S::View, bool) {
        self.counters.hits += 1;
        self.used_again(slot, count);
        let lent = self.lend(slot, count, stream);
        // Last: an atomic read-modify-write holds up the loads behind it.
        if !planted(Bug::LeaseOutsideLock) {
            self.count_lease(count);
        }
        lent
    }

    /// Asked here and not of a count, which may have to come from memory first.
    #[inline(always)]
    fn is_lock_free(&self) -> bool {
        self.table.is_lock_free()
    }

    #[inline(always)]
    fn count_lease(&self, count: &Count) {
        if self.is_lock_free() { count.share() } else { count.take() }
    }

    #[inline]
    fn lend(&mut self, slot: u32, count: &Count, stream: StreamSet) -> (S::View, bool) {
        let view = self.slots.value(slot).view();
        if self.is_lock_free() {
            return (view, self.lend_beside_lock_free(slot, count, stream));
        }
        (view, self.slots.value_mut(slot).lend(stream))
    }

    #[inline]
    fn used_again(&mut self, slot: u32, count: &Count) {
        if count.is_flagged(PASSED) {
            self.used_though_passed(slot, count);
        } else {
            self.policy.touch(slot);
        }
    }

    #[cold]
    fn used_though_passed(&mut self, slot: u32, count: &Count) {
        self.leave_passed(slot, count);
        self.policy.readmit(slot);
    }

    /// Opens the vacancy of an absent key.
    pub(crate) fn open(&mut self, hash: u32, key: K, counts: &Counts) -> u32 {
        self.counters.misses += 1;
        let slot = self.free_slot(counts);
        self.slots.put(slot, Slot::vacant(hash, key));
        self.know_key(hash, slot);
        slot
    }

    /// Closes a vacancy that was not filled.
    pub(crate) fn close(&mut self, slot: u32) -> K {
        self.forget_key(slot);
        match self.slots.take(slot) {
            Slot::Vacant { key, .. } => key,
            _ => unreachable!("a vacancy stays until its holder closes it"),
        }
    }

    /// Promises `charge` bytes, and one entry, to a vacancy. Refused, it changes nothing.
    pub(crate) fn reserve(&mut self, charge: u64, counts: &Counts) -> Result<Removed<K, S>, Error> {
        let removed = self.make_room(Sum::one(charge), None, counts)?;
        self.reserved.add(Sum::one(charge));
        self.fixed.add(Sum::one(charge));
        Ok(removed)
    }

    pub(crate) fn unreserve(&mut self, charge: u64) {
        self.reserved.sub(Sum::one(charge));
        self.fixed.sub(Sum::one(charge));
    }

    /// Fills a reserved vacancy, with one lease. The charge fits the reservation.
    pub(crate) fn commit(
        &mut self,
        slot: u32,
        value: S,
        reserved_bytes: u64,
        cost_ns: u64,
        counts: &Counts,
        stream: StreamSet,
    ) -> (S::View, bool) {
        self.unreserve(reserved_bytes);
        self.slots.change(slot, |held| match held {
            Slot::Vacant { hash, key, .. } => Slot::Resident { hash, cost: Cost::new(cost_ns), key, value },
            _ => unreachable!("a vacancy stays until its holder commits"),
        });
        self.admitted(slot, self.sum_of(slot), cost_ns);
        let count = counts.at(slot);
        self.count_lease(count);
        let lent = self.lend(slot, count, stream);
        self.open_for_front(slot, counts);
        lent
    }

    /// Makes room for an entry, unleased, in place of an unleased one with the same key. What leaves: collected ones,
    /// the one replaced, victims. Refused, it changes nothing and the caller still has the value.
    #[inline(always)]
    pub(crate) fn make_room_for(&mut self, place: Place, charge: u64, counts: &Counts) -> Result<Removed<K, S>, Error> {
        let replaced = match place {
            Place::Absent => None,
            Place::Vacant(_) => return Err(Error::BeingFilled),
            Place::Resident(slot) if !counts.at(slot).close() => return Err(Error::Leased),
            Place::Resident(slot) => {
                self.ended(slot, counts); // the end of its last lease may still be on its way here
                Some(slot)
            }
        };
        let room = self.make_room(Sum::one(charge), replaced, counts);
        if let (Err(_), Some(slot)) = (&room, replaced) {
            self.reopen_for_front(slot, counts);
        }
        room
    }

    /// Puts in what `make_room_for` made room for.
    #[inline(always)]
    pub(crate) fn admit(&mut self, hash: u32, key: K, value: S, cost_ns: u64, counts: &Counts) {
        let sum = Sum::one(value.charge_bytes(self.granule_bytes));
        let slot = self.free_slot(counts);
        self.slots.put(slot, Slot::Resident { hash, cost: Cost::new(cost_ns), key, value });
        self.know_key(hash, slot);
        self.admitted(slot, sum, cost_ns);
        self.open_for_front(slot, counts);
    }

    /// Takes an unleased, closed resident entry out.
    pub(crate) fn remove(&mut self, slot: u32, counts: &Counts) -> (K, S) {
        if counts.at(slot).is_flagged(PASSED) {
            self.leave_passed(slot, counts.at(slot));
        } else {
            self.policy.remove(slot);
        }
        self.take(slot, counts)
    }

    /// Hides a resident entry: taken out at once if unleased, else when its last lease has ended.
    pub(crate) fn retire(&mut self, slot: u32, counts: &Counts, out: &mut Removed<K, S>) {
        if !counts.at(slot).flag_if_leased(RETIRED) {
            let entry = self.remove(slot, counts);
            out.push(entry);
            return;
        }
        if counts.at(slot).is_flagged(PASSED) {
            self.leave_passed(slot, counts.at(slot));
        } else {
            self.policy.remove(slot);
        }
        self.forget_key(slot);
        let sum = self.sum_of(slot);
        self.resident.sub(sum);
        self.retired.add(sum);
        self.fixed.add(sum);
    }

    /// The last lease of a flagged entry ended. By now the slot may have been leased again, or be
    /// another entry's: what is found decides.
    pub(crate) fn released(&mut self, slot: u32, counts: &Counts) {
        if !counts.at(slot).is_leased() || planted(Bug::SlotReused) {
            self.ended(slot, counts);
        }
    }

    /// As `released`, of an entry that is known to be unleased: in relaxed mode a lookup may count a lease of a closed
    /// entry for a moment, and give it back.
    fn ended(&mut self, slot: u32, counts: &Counts) {
        match self.slots.get(slot) {
            Slot::Resident { .. } => {}
            Slot::Retired { .. } if planted(Bug::DoubleReturn) => {}
            Slot::Free { .. } | Slot::Vacant { .. } | Slot::Retired { .. } => return,
        }
        let sum = self.sum_of(slot);
        if counts.at(slot).is_flagged(RETIRED) {
            self.slots.change(slot, |held| match held {
                Slot::Resident { key, value, .. } | Slot::Retired { key, value, .. } => Slot::retired(key, value),
                _ => unreachable!("it has a value"),
            });
            self.collectable.push(slot);
            self.collectable_sum.add(sum);
            self.fixed.sub(sum);
            return;
        }
        if planted(Bug::SlotReused) || counts.at(slot).is_flagged(PASSED) && !self.is_aside(slot) {
            self.aside.insert(self.policy.rank(slot), slot);
            self.aside_sum.add(sum);
            self.passed.sub(sum);
        }
    }

    /// Hands out retired entries whose last lease has ended.
    pub(crate) fn collect(&mut self, counts: &Counts, out: &mut Removed<K, S>) {
        if !self.collectable.is_empty() {
            self.collect_some(counts, out);
        }
    }

    #[cold]
    fn collect_some(&mut self, counts: &Counts, out: &mut Removed<K, S>) {
        for slot in std::mem::take(&mut self.collectable) {
            counts.at(slot).unflag(RETIRED);
            self.take_notes_along(slot, counts);
            match self.slots.take(slot) {
                Slot::Retired { key, value, .. } => {
                    let sum = Sum::one(value.charge_bytes(self.granule_bytes));
                    self.retired.sub(sum);
                    self.collectable_sum.sub(sum);
                    out.push((key, value));
                }
                _ => unreachable!("a retired entry stays until it is collected"),
            }
        }
    }

    /// Retires everything, in the order of eviction.
    pub(crate) fn clear(&mut self, counts: &Counts, out: &mut Removed<K, S>) {
        self.collect(counts, out);
        for slot in self.in_order(counts) {
            self.retire(slot, counts, out);
        }
    }

    /// Takes out every entry that has no lease, in the order of eviction.
    pub(crate) fn drain(&mut self, counts: &Counts, out: &mut Removed<K, S>) {
        self.collect(counts, out);
        for slot in self.in_order(counts) {
            if counts.at(slot).close() {
                let entry = self.remove(slot, counts);
                out.push(entry);
            }
        }
    }

    /// Refused, it changes nothing.
    pub(crate) fn set_budget_bytes(&mut self, budget_bytes: u64, counts: &Counts) -> Result<Removed<K, S>, Error> {
        let before = std::mem::replace(&mut self.budget_bytes, budget_bytes);
        self.make_room(Sum::default(), None, counts).map_err(|_| {
            self.budget_bytes = before;
            Error::BudgetHeld { budget_bytes, held_bytes: self.held_bytes(counts) }
        })
    }

    #[inline]
    fn free_slot(&mut self, counts: &Counts) -> u32 {
        self.slots.free().unwrap_or_else(|| {
            let slot = self.slots.new_slot();
            counts.grow(slot);
            if let Some(pages) = &self.pages {
                Front::show(pages, slot, counts, &self.slots);
            }
            slot
        })
    }

    #[inline]
    fn know_key(&mut self, hash: u32, slot: u32) {
        let slots = &self.slots;
        self.table.insert(hash, slot, |slot| slots.hash(slot));
    }

    #[inline]
    fn admitted(&mut self, slot: u32, sum: Sum, cost_ns: u64) {
        self.resident.add(sum);
        self.policy.admit(slot, Weight { cost_ns, bytes: sum.bytes });
    }

    /// Removes an entry that is in no queue any more.
    fn take(&mut self, slot: u32, counts: &Counts) -> (K, S) {
        self.take_charged(slot, self.sum_of(slot), counts)
    }

    /// As `take`, with the entry's charge at hand.
    #[inline(always)]
    fn take_charged(&mut self, slot: u32, sum: Sum, counts: &Counts) -> (K, S) {
        self.resident.sub(sum);
        self.forget_key(slot);
        self.take_notes_along(slot, counts);
        match self.slots.take(slot) {
            Slot::Resident { key, value, .. } => (key, value),
            _ => unreachable!("only resident entries are taken"),
        }
    }

    #[inline]
    fn forget_key(&mut self, slot: u32) {
        let ahead = self.ahead.take_if(|(next, _)| *next == slot); // it may be another key's soon
        let hash = ahead.map_or_else(|| self.slots.hash(slot), |(_, hash)| hash);
        self.table.remove(hash, slot);
    }

    fn sum_of(&self, slot: u32) -> Sum {
        Sum::one(self.charge_bytes(slot))
    }

    fn is_aside(&self, slot: u32) -> bool {
        self.aside.get(&self.policy.rank(slot)) == Some(&slot)
    }

    /// A passed entry is used again, replaced, removed or retired.
    fn leave_passed(&mut self, slot: u32, count: &Count) {
        let sum = self.sum_of(slot);
        if self.is_aside(slot) {
            self.aside.remove(&self.policy.rank(slot));
            self.aside_sum.sub(sum);
        } else {
            self.passed.sub(sum);
        }
        count.unflag(PASSED);
    }
}

mod reads;
mod relaxed;
pub(crate) mod removed;
mod room;
mod validate;

#[cfg(all(test, not(hapax_loom)))]
mod tests;
