//! How the core keeps its promises of cost, which no test from outside can see. Its order and its books
//! are compared with a slow oracle by `tests/model.rs`.

use super::*;
use crate::cache::front::pin::Pin;
use crate::cache::policy::camp::Camp;
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

struct Bench<P: Order> {
    core: Core<u32, Token, P>,
    counts: Counts,
}

impl<P: Order> Bench<P> {
    /// Keys `0..entries` of one byte each, the first of them leased.
    fn with_leased(policy: P, entries: u32, leased: u32) -> Self {
        let mut bench = Bench { core: Core::new(policy, u64::from(entries), usize::MAX, 1), counts: Counts::new() };
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
        self.insert_with_cost(key, bytes, 0)
    }

    fn insert_with_cost(&mut self, key: u32, bytes: u64, cost_ns: u64) -> Result<Vec<u32>, Error> {
        let place = self.core.find(key, &key);
        let out = self.core.make_room_for(place, bytes, &self.counts)?;
        self.core.admit(key, key, Token(bytes), cost_ns, &self.counts);
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
        self.core.policy.attached().len()
    }
}

#[test]
fn an_eviction_meets_each_leased_entry_once_per_use() {
    let mut bench = Bench::with_leased(Lru::default(), 10, 4);
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
fn a_victim_that_is_enough_leaves_without_a_plan_and_the_next_one_is_read_ahead() {
    let mut bench = Bench::with_leased(Lru::default(), 10, 0);
    assert_eq!(bench.insert(100, 1).unwrap(), [0]);
    assert_eq!(bench.core.ahead, Some((bench.slot(1), 1)));
}

#[test]
fn a_refusal_leaves_the_order_and_is_known_at_once_when_repeated() {
    let mut bench = Bench::with_leased(Lru::default(), 10, 9);
    let order = |bench: &Bench<Lru>| bench.core.rows(&bench.counts).iter().map(|row| row.key).collect::<Vec<_>>();
    let before = order(&bench);
    let refused = Error::NoRoom { need_bytes: 2, held_bytes: 9, budget_bytes: 10 };
    assert_eq!(bench.insert(100, 2), Err(refused.clone()));
    assert_eq!(order(&bench), before);
    assert_eq!((bench.queued(), bench.core.aside.len()), (0, 1));
    assert_eq!(bench.insert(100, 2), Err(refused), "without a walk: nothing is queued");
    assert_eq!(bench.insert(100, 1).unwrap(), [9]);
}

#[test]
fn a_refusal_for_what_is_known_to_be_held_does_not_walk() {
    let mut bench = Bench::with_leased(Lru::default(), 10, 9);
    assert!(bench.insert(100, 2).is_err(), "and the nine are passed");
    bench.lease(9);
    bench.release(9);
    assert_eq!(bench.insert(100, 2), Err(Error::NoRoom { need_bytes: 2, held_bytes: 9, budget_bytes: 10 }));
    let most = u64::MAX; // with what is held it is more than 64 bits can say
    assert_eq!(bench.insert(100, most), Err(Error::Oversize { need_bytes: most, budget_bytes: 10 }));
    assert_eq!(bench.queued(), 1);
}

#[test]
fn under_camp_what_was_passed_over_competes_by_its_priority() {
    let mut bench = Bench::with_leased(Camp::default(), 0, 0);
    bench.core.budget_bytes = 4;
    for (key, cost_ns) in [(0, 30), (1, 9), (2, 20), (3, 40)] {
        bench.insert_with_cost(key, 1, cost_ns).unwrap();
    }
    [0, 1].into_iter().for_each(|key| bench.lease(key)); // at 60 and 18
    assert_eq!(bench.insert_with_cost(4, 1, 100).unwrap(), [2], "at 20; the one before it is leased");
    bench.release(1);
    bench.release(0);
    assert_eq!((bench.core.aside.len(), bench.queued()), (1, 3), "only what an eviction met was passed");
    assert_eq!(bench.insert_with_cost(5, 1, 100).unwrap(), [1], "released, it leads again");
    assert_eq!(bench.insert_with_cost(6, 1, 100).unwrap(), [3], "at 40, before the one released at 60");
    assert_eq!(bench.insert_with_cost(7, 1, 100).unwrap(), [0]);
}

/// What is aside is filed under its rank, and must be found under its new one.
#[test]
fn what_stands_aside_keeps_its_place_when_numbers_are_made_small() {
    let rebases = 1 << 22;
    let mut bench = Bench::with_leased(Camp::rebasing_at(rebases), 0, 0);
    bench.core.budget_bytes = 4;
    for key in 0..3 {
        bench.insert_with_cost(key, 1, 1).unwrap();
        bench.lease(key);
    }
    bench.insert_with_cost(3, 1, 1 << 30).unwrap(); // far above where numbers are made small
    assert_eq!(bench.insert_with_cost(4, 1, 1).unwrap(), [3]);
    assert_eq!(bench.core.passed.entries, 3, "met on the way");
    assert!(!bench.core.policy.renumber(), "the call that it was due in has done it");
    [2, 0].into_iter().for_each(|key| bench.release(key));
    assert_eq!(bench.core.aside.len(), 2);
    assert_eq!(bench.insert_with_cost(5, 2, 1).unwrap(), [0, 2], "in the order of their places");
}

/// The last release of a passed entry may come late, when the slot is somebody else's.
#[test]
fn a_late_release_does_not_touch_the_slots_next_entry() {
    let mut bench = Bench::with_leased(Lru::default(), 2, 1);
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
    let mut bench = Bench::with_leased(Lru::default(), 1, 1);
    let slot = bench.slot(0);
    let mut out = Removed::new();
    bench.core.retire(slot, &bench.counts, &mut out);
    assert!(out.is_empty() && bench.counts.at(slot).release());
    bench.core.released(slot, &bench.counts);
    bench.core.released(slot, &bench.counts);
    bench.core.validate(&bench.counts);
    bench.core.collect(&bench.counts, &mut out);
    assert!(!out.is_empty());
    assert_eq!(out.into_iter().count(), 1);
}

/// The entry with key 0, all of the budget, was passed over; its lease has ended, and its thread waits for the lock to say so.
fn with_a_release_on_its_way(mut bench: Bench<Lru>) -> Bench<Lru> {
    bench.core.budget_bytes = 8;
    bench.insert(0, 8).unwrap();
    bench.lease(0);
    assert!(matches!(bench.insert(1, 1), Err(Error::NoRoom { .. })), "passed over");
    assert_eq!(bench.insert(0, 8), Err(Error::Leased));
    let slot = bench.slot(0);
    assert!(bench.counts.at(slot).release(), "the index must hear of it");
    bench
}

fn exact_and_relaxed() -> [Bench<Lru>; 2] {
    [Bench::with_leased(Lru::default(), 0, 0), relaxed_with_room_for(0)]
}

fn relaxed_with_room_for(entries: u32) -> Bench<Lru> {
    let core = Core::behind(Some(&Front::new()), Lru::default(), u64::from(entries), usize::MAX, 1);
    Bench { core, counts: Counts::lock_free() }
}

/// Before the release "leased" is true, after it there is room. "No room" never is.
#[test]
fn an_entry_whose_release_is_on_its_way_is_no_obstacle_to_its_own_replacement() {
    for mut bench in exact_and_relaxed().map(with_a_release_on_its_way) {
        let slot = bench.slot(0);
        let replaced = bench.insert(0, 8);
        bench.core.released(slot, &bench.counts);
        bench.core.validate(&bench.counts);
        assert_eq!(replaced, Ok(vec![0]));
    }
}

#[test]
fn a_refused_shrink_names_the_bytes_that_it_was_refused_for() {
    for mut bench in exact_and_relaxed().map(with_a_release_on_its_way) {
        let refused = bench.core.set_budget_bytes(4, &bench.counts).map(|out| out.into_iter().count());
        assert_eq!(refused, Err(Error::BudgetHeld { budget_bytes: 4, held_bytes: 8 }));
        bench.core.released(bench.slot(0), &bench.counts);
        assert_eq!(bench.core.set_budget_bytes(4, &bench.counts).map(|out| out.into_iter().count()), Ok(1));
    }
}

/// Such a lookup finds it closed and gives its lease back unread, then asks the core. Until then its lease is counted.
#[test]
fn a_lookup_that_meets_what_is_being_replaced_is_no_lease() {
    let mut bench = relaxed_with_room_for(8);
    for key in [0, 1] {
        bench.insert(key, 4).unwrap();
    }
    bench.lease(1);
    let slot = bench.slot(0);
    assert!(bench.counts.at(slot).close() && bench.counts.at(slot).pin() == Pin::Closed, "closed");
    let refused = bench.core.make_room(Sum::one(5), Some(slot), &bench.counts).map(|out| out.into_iter().count());
    assert_eq!(refused, Err(Error::NoRoom { need_bytes: 5, held_bytes: 4, budget_bytes: 8 }));
}

/// Otherwise the first eviction after everything was used would touch all of it under the lock.
#[test]
fn an_eviction_lets_a_bounded_number_of_used_entries_stay() {
    let entries = 4 * relaxed::CHANCES;
    let mut bench = relaxed_with_room_for(entries);
    for key in 0..entries {
        bench.insert(key, 1).unwrap();
        let slot = bench.slot(key);
        assert_eq!(bench.counts.at(slot).pin(), Pin::Unmarked);
        bench.counts.at(slot).mark_used();
        bench.release(key);
    }
    let turn = relaxed::CHANCES + 1;
    assert_eq!(bench.insert(entries, 1).unwrap(), [turn - 1], "the first after the bound, although it was used");
    assert_eq!(bench.insert(entries + 1, 1).unwrap(), [2 * turn - 1], "and on from there");
}

/// What a write is pending to.
struct Written {
    pending: bool,
}

impl Stored for Written {
    type View = ();

    fn charge_bytes(&self, _: u64) -> u64 {
        1
    }

    fn view(&self) {}

    fn lend(&mut self, _: StreamSet) -> bool {
        self.pending
    }

    fn write_pending(&self) -> bool {
        self.pending
    }
}

/// Two threads may both have seen the write pass; whoever comes second finds the entry open, and read by others.
#[test]
fn a_write_that_has_passed_is_noted_once_and_opens_what_is_not_retired() {
    for retired in [false, true] {
        let counts = Counts::lock_free();
        let mut core: Core<u32, Written, Lru> = Core::behind(Some(&Front::new()), Lru::default(), 8, usize::MAX, 1);
        core.make_room_for(Place::Absent, 1, &counts).unwrap();
        core.admit(0, 0, Written { pending: true }, 0, &counts);
        let Place::Resident(slot) = core.find(0, &0) else { panic!("it was put in") };
        assert!(core.hit(slot, counts.at(slot), StreamSet::EMPTY).1 && !counts.at(slot).is_open());
        let mut out = Removed::new();
        if retired {
            core.retire(slot, &counts, &mut out);
        }
        core.change_pending(slot, &counts, |held| held.pending = false);
        core.change_pending(slot, &counts, |_| panic!("others may read it"));
        assert_eq!(counts.at(slot).is_open(), !retired);
        core.validate(&counts);
    }
}
