//! What the core is asked that changes nothing: figures, rows, the order. Lookups are not here.

use crate::cache::core::{Core, Sum};
use crate::cache::count::{Counts, RETIRED};
use crate::cache::policy::Order;
use crate::cache::slot::{Slot, Stored};
use std::borrow::Borrow;

/// One entry as `snapshot` shows it.
pub(crate) struct Row<K> {
    pub(crate) key: K,
    pub(crate) charge_bytes: u64,
    pub(crate) cost_ns: u64,
    pub(crate) leased: bool,
}

impl<K: Eq, S: Stored, P: Order> Core<K, S, P> {
    pub(crate) fn cost_ns(&self, slot: u32, counts: &Counts) -> u64 {
        match self.slots.get(slot) {
            Slot::Resident { cost, .. } if !counts.at(slot).is_flagged(RETIRED) => cost.ns(),
            _ => 0, // retired: nobody will ask what to evict
        }
    }

    pub(crate) fn charge_bytes(&self, slot: u32) -> u64 {
        self.slots.value(slot).charge_bytes(self.granule_bytes)
    }

    pub(crate) fn value(&self, slot: u32) -> &S {
        self.slots.value(slot)
    }

    /// Whether the entry of a held lease, retired or not, is of `key`.
    pub(crate) fn is_key<Q: ?Sized + Eq>(&self, slot: u32, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        matches!(self.slots.get(slot), Slot::Resident { .. } | Slot::Retired { .. })
            && self.slots.key(slot).borrow() == key
    }

    /// Every resident entry, next victim first, the leased in their place.
    pub(crate) fn rows(&self, counts: &Counts) -> Vec<Row<K>>
    where
        K: Clone,
    {
        let row = |slot: u32| Row {
            key: self.slots.key(slot).clone(),
            charge_bytes: self.charge_bytes(slot),
            cost_ns: self.cost_ns(slot, counts),
            leased: counts.at(slot).is_leased(),
        };
        self.in_order(counts).into_iter().map(row).collect()
    }

    /// Resident, retired, reserved.
    pub(crate) fn sums(&self) -> (Sum, Sum, Sum) {
        (self.resident, self.retired, self.reserved)
    }

    pub(crate) fn budget_bytes(&self) -> u64 {
        self.budget_bytes
    }

    /// Resident bytes that are leased. O(entries).
    pub(crate) fn leased_bytes(&self, counts: &Counts) -> u64 {
        let resident = self.slots.iter().filter_map(|(slot, held)| match held {
            Slot::Resident { value, .. } if counts.at(slot).is_leased() && !counts.at(slot).is_flagged(RETIRED) => {
                Some(value.charge_bytes(self.granule_bytes))
            }
            _ => None,
        });
        resident.sum()
    }

    /// Every resident slot in the policy's order. O(n log n) in the passed, O(n) in all.
    pub(super) fn in_order(&self, counts: &Counts) -> Vec<u32> {
        let mut ranked = self.policy.attached();
        let queued = ranked.len();
        let resident = self
            .slots
            .iter()
            .filter(|&(slot, held)| matches!(held, Slot::Resident { .. }) && !counts.at(slot).is_flagged(RETIRED));
        if queued < self.resident.entries {
            let queue: std::collections::HashSet<u32> = ranked.iter().map(|&(_, slot)| slot).collect();
            let detached = resident.map(|(slot, _)| slot).filter(|slot| !queue.contains(slot));
            ranked.extend(detached.map(|slot| (self.policy.rank(slot), slot)));
        }
        ranked.sort_by_key(|&(rank, _)| rank); // stable: the queue keeps its order
        ranked.into_iter().map(|(_, slot)| slot).collect()
    }
}
