//! Every invariant of the core, checked over the whole structure. For tests; O(entries log entries).

use crate::cache::core::{Core, Place, Sum};
use crate::cache::count::{Counts, PASSED, RETIRED};
use crate::cache::policy::Order;
use crate::cache::slot::{Slot, Stored};
use std::collections::HashSet;

impl<K: Eq, S: Stored, P: Order> Core<K, S, P> {
    pub(crate) fn validate(&self, counts: &Counts) {
        self.check_sums(counts);
        self.check_order(counts);
        self.check_table(counts);
        let used = self.resident.bytes + self.retired.bytes + self.reserved.bytes;
        assert!(used <= self.budget_bytes, "{used} bytes used of a budget of {}", self.budget_bytes);
        let entries = self.resident.entries + self.retired.entries + self.reserved.entries;
        assert!(entries <= self.max_entries, "{entries} entries of at most {}", self.max_entries);
    }

    fn check_sums(&self, counts: &Counts) {
        let (mut resident, mut retired, mut collectable) = (Sum::default(), Sum::default(), Sum::default());
        for (slot, held) in self.slots.iter() {
            let count = counts.at(slot);
            // Without the lock, a lookup may be about to give a lease back that it should not have taken.
            let leased = count.is_leased() && !count.is_lock_free();
            match held {
                Slot::Resident { value, .. } if count.is_flagged(RETIRED) => {
                    retired.add(Sum::one(value.charge_bytes(self.granule_bytes)));
                    assert!(!count.is_open(), "slot {slot} is retired and open");
                }
                Slot::Resident { value, .. } => {
                    resident.add(Sum::one(value.charge_bytes(self.granule_bytes)));
                    let open = count.is_lock_free() && !value.write_pending();
                    assert_eq!(count.is_open(), open, "slot {slot} is to be open: {open}");
                }
                Slot::Retired { value, .. } => {
                    let sum = Sum::one(value.charge_bytes(self.granule_bytes));
                    retired.add(sum);
                    collectable.add(sum);
                    assert!(!leased, "slot {slot} is collectable and leased");
                    assert!(count.is_flagged(RETIRED), "retired slot {slot} is not flagged");
                    assert!(!count.is_open(), "retired slot {slot} is open");
                }
                Slot::Free { .. } | Slot::Vacant { .. } => {
                    assert!(!leased, "slot {slot} is leased but holds nothing");
                    assert!(!count.is_flagged(PASSED | RETIRED), "slot {slot} is flagged but holds nothing");
                    assert!(!count.is_open(), "slot {slot} is open but holds nothing");
                }
            }
        }
        assert_eq!(resident, self.resident, "resident");
        assert_eq!(retired, self.retired, "retired");
        assert_eq!(collectable, self.collectable_sum, "collectable");
        let mut fixed = self.reserved;
        fixed.add(retired);
        fixed.sub(collectable);
        assert_eq!(fixed, self.fixed, "fixed");
        let queued: HashSet<u32> = self.collectable.iter().copied().collect();
        assert_eq!(queued.len(), self.collectable.len(), "a slot is collectable twice");
        assert_eq!(queued.len(), self.collectable_sum.entries, "collectable list");
    }

    /// Each resident slot is queued, passed or aside, and flagged accordingly.
    fn check_order(&self, counts: &Counts) {
        let queue: HashSet<u32> = self.policy.attached().into_iter().map(|(_, slot)| slot).collect();
        let aside: HashSet<u32> = self.aside.values().copied().collect();
        let (mut passed_sum, mut aside_sum) = (Sum::default(), Sum::default());
        for (slot, held) in self.slots.iter() {
            if !matches!(held, Slot::Resident { .. }) || counts.at(slot).is_flagged(RETIRED) {
                assert!(!queue.contains(&slot) && !aside.contains(&slot), "slot {slot} is ordered but not resident");
                continue;
            }
            match (queue.contains(&slot), aside.contains(&slot), counts.at(slot).is_flagged(PASSED)) {
                (true, false, false) => {}
                (false, true, true) => {
                    let leased = counts.at(slot).is_leased() && !counts.at(slot).is_lock_free();
                    assert!(!leased, "slot {slot} is aside and leased");
                    assert!(self.is_aside(slot), "slot {slot} is aside under another rank");
                    aside_sum.add(self.sum_of(slot));
                }
                (false, false, true) => passed_sum.add(self.sum_of(slot)),
                place => panic!("slot {slot} is at (queued, aside, passed) = {place:?}"),
            }
        }
        assert_eq!(passed_sum, self.passed, "passed");
        assert_eq!(aside_sum, self.aside_sum, "aside");
        assert_eq!(queue.len() + aside.len() + passed_sum.entries, self.resident.entries, "order");
    }

    fn check_table(&self, counts: &Counts) {
        let mut keyed = 0;
        for (slot, held) in self.slots.iter() {
            if counts.at(slot).is_flagged(RETIRED) {
                continue;
            }
            let (hash, key) = match held {
                Slot::Vacant { hash, key, .. } | Slot::Resident { hash, key, .. } => (*hash, key),
                Slot::Free { .. } | Slot::Retired { .. } => continue,
            };
            keyed += 1;
            let found = self.find(hash, key);
            assert!(
                matches!(found, Place::Vacant(other) | Place::Resident(other) if other == slot),
                "the key of slot {slot} leads to {found:?}"
            );
        }
        assert_eq!(keyed, self.table.len(), "table");
        if let Some((slot, hash)) = self.ahead {
            assert_eq!(hash, self.slots.hash(slot), "the hash read ahead");
        }
    }
}
