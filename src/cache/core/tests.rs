//! How the core keeps its promises of cost, which no test from outside can see. Its order and its books
//! are compared with a slow oracle by `tests/model.rs`.

use super::*;
use crate::cache::policy::lru::Lru;

struct Token(u64);

impl Stored for Token {
    type View = u64;

    fn charge_bytes(&self, _: u64) -> u64 {
        self.0
    }

    fn view(&self) -> u64 {
        self.0
    }

    fn lend(&mut self, _: StreamSet) -> bool {
        false
    }
}

struct Bench {
    core: Core<u32, Token, Lru>,
    counts: Counts,
}

impl Bench {
    /// Keys `0..entries` of one byte each, the first of them leased.
    fn with_leased(entries: u32, leased: u32) -> Self {
        let mut bench = Bench { core: Core::new(u64::from(entries), usize::MAX, 1), counts: Counts::new() };
        for key in 0..entries {
            bench.insert(key, 1).unwrap();
        }
        for key in 0..leased {
            bench.lease(key);
        }
        for key in leased..entries {
            bench.lease(key);
            bench.release(key);
        }
        bench
    }

    fn insert(&mut self, key: u32, bytes: u64) -> Result<Vec<u32>, Error> {
        let mut out = Removed::new();
        let place = self.core.find(key, &key);
        self.core.make_room_for(place, bytes, &self.counts, &mut out)?;
        self.core.admit(key, key, Token(bytes), 0, &self.counts);
        self.core.validate(&self.counts);
        Ok(out.into_iter().map(|(key, _)| key).collect())
    }

    fn slot(&self, key: u32) -> u32 {
        match self.core.find(key, &key) {
            Place::Resident(slot) => slot,
            place => panic!("key {key} is {place:?}"),
        }
    }

    fn lease(&mut self, key: u32) {
        let slot = self.slot(key);
        self.core.hit(slot, self.counts.at(slot), StreamSet::EMPTY);
    }

    fn release(&mut self, key: u32) {
        let slot = self.slot(key);
        if self.counts.at(slot).release() {
            self.core.released(slot, &self.counts);
        }
    }

    fn queued(&self) -> usize {
        self.core.policy.attached().count()
    }
}

#[test]
fn an_eviction_meets_each_leased_entry_once_per_use() {
    let mut bench = Bench::with_leased(10, 4);
    assert_eq!(bench.insert(100, 1).unwrap(), [4], "four leased ones are passed over");
    assert_eq!(bench.queued(), 6, "and stand in the queue no more");
    assert_eq!(bench.core.passed.entries, 4);
    assert_eq!(bench.insert(101, 1).unwrap(), [5]);
    bench.lease(0);
    assert_eq!(bench.queued(), 7, "a use brings it back");
    bench.release(0);
    bench.release(0);
    bench.release(2);
    assert_eq!(bench.insert(102, 1).unwrap(), [2], "released, it is the oldest unleased again");
    bench.core.validate(&bench.counts);
}

#[test]
fn a_refusal_leaves_the_order_and_is_known_at_once_when_repeated() {
    let mut bench = Bench::with_leased(10, 9);
    let order = |bench: &Bench| bench.core.rows(&bench.counts).iter().map(|row| row.key).collect::<Vec<_>>();
    let before = order(&bench);
    let refused = Error::NoRoom { need_bytes: 2, held_bytes: 9, budget_bytes: 10 };
    assert_eq!(bench.insert(100, 2), Err(refused.clone()));
    assert_eq!(order(&bench), before);
    assert_eq!((bench.queued(), bench.core.aside.len()), (0, 1));
    assert_eq!(bench.insert(100, 2), Err(refused), "without a walk: nothing is queued");
    assert_eq!(bench.insert(100, 1).unwrap(), [9]);
}

/// The last release of a passed entry may come late, when the slot is somebody else's.
#[test]
fn a_late_release_does_not_touch_the_slots_next_entry() {
    let mut bench = Bench::with_leased(2, 1);
    assert_eq!(bench.insert(100, 1).unwrap(), [1]);
    let slot = bench.slot(0);
    assert!(bench.counts.at(slot).release(), "it was passed over, so the index must hear of it");
    // Before it does, the entry is used, evicted and its slot filled again.
    bench.lease(0);
    bench.release(0);
    bench.lease(100);
    bench.release(100);
    assert_eq!(bench.insert(101, 1).unwrap(), [0]);
    assert_eq!(bench.slot(101), slot);
    bench.core.released(slot, &bench.counts);
    bench.core.validate(&bench.counts);
}

#[test]
fn a_retired_entry_is_queued_for_collection_once() {
    let mut bench = Bench::with_leased(1, 1);
    let slot = bench.slot(0);
    let mut out = Removed::new();
    bench.core.retire(slot, &bench.counts, &mut out);
    assert!(out.is_empty() && bench.counts.at(slot).release());
    bench.core.released(slot, &bench.counts);
    bench.core.released(slot, &bench.counts);
    bench.core.validate(&bench.counts);
    bench.core.collect(&bench.counts, &mut out);
    assert_eq!(out.len(), 1);
}
