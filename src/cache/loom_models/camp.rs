//! Leases under CAMP, where what an eviction passed over need not be the next to leave, and a late release may find
//! that every rank has been changed meanwhile.

use crate::cache::loom_models::{LARGE, Ledger, SMALL, Switches, World, explore, spawn};
use crate::cache::policy::Policy;
use std::rc::Rc;

#[test]
fn loom_under_camp_a_leased_entry_is_not_evicted() {
    explore(Switches::Unbounded, || {
        let world = camp();
        assert!(world.insert_with_cost('a', LARGE, 1));
        let user = spawn(&world, |world| world.read('a'));
        let inserted = world.insert_with_cost('b', LARGE, 1_000);
        let found = user.join().unwrap();
        assert!(inserted || found, "refused, but nobody had a lease");
        world.finish();
    });
}

/// The release of the cheap entry, which an eviction passed over, races with the next eviction: either the cheap one
/// leaves, or the dear one because the cheap one is still leased.
#[test]
fn loom_under_camp_a_passed_entry_competes_by_cost_once_released() {
    explore(Switches::Unbounded, || {
        let world = camp();
        assert!(world.insert_with_cost('a', SMALL, 1));
        assert!(world.insert_with_cost('b', SMALL, 1_000_000));
        let lease = world.lease('a').unwrap();
        assert!(world.insert_with_cost('c', SMALL, 2_000_000), "the dear one leaves for it");
        assert!(!world.read('b'));
        let user = spawn(&world, move |world| world.read_and_release(lease));
        assert!(world.insert_with_cost('d', SMALL, 4_000_000));
        world.check_sums();
        user.join().unwrap();
        let (a, c) = (world.read('a'), world.read('c'));
        assert!(a != c, "one of the two left: a {a}, c {c}");
        world.finish();
    });
}

/// Used, evicted and released by three threads at once.
#[test]
fn loom_under_camp_a_passed_entry_is_released_used_and_evicted_at_once() {
    explore(Switches::AtMost(3), || {
        let world = camp();
        assert!(world.insert_with_cost('a', LARGE, 1));
        let lease = world.lease('a').unwrap();
        assert!(!world.insert_with_cost('b', LARGE, 1), "leased: passed over");
        let first = spawn(&world, move |world| world.read_and_release(lease));
        let second = spawn(&world, |world| world.read('a'));
        world.insert_with_cost('b', LARGE, 1_000);
        first.join().unwrap();
        second.join().unwrap();
        assert!(world.insert_with_cost('c', LARGE, 1), "all leases have ended");
        world.finish();
    });
}

/// The dearest entries there are drive the clock to where ranks are made small, while an entry that was passed
/// over is given back.
#[test]
fn loom_under_camp_a_late_release_finds_its_entry_under_its_new_rank() {
    explore(Switches::Unbounded, || {
        let world = World::rebasing_at(1 << 20, &Rc::new(Ledger::new()));
        assert!(world.insert_with_cost('a', SMALL, 1));
        let lease = world.lease('a').unwrap();
        assert!(world.insert_with_cost('b', SMALL, 1_000_000));
        let user = spawn(&world, move |world| world.read_and_release(lease));
        let inserted = world.insert_with_cost('c', SMALL, 1_000_000);
        assert!(inserted, "one of the two is not leased");
        world.check_sums();
        user.join().unwrap();
        assert!(world.insert_with_cost('d', SMALL, 1_000_000));
        world.finish();
    });
}

fn camp() -> Rc<World> {
    World::under(Policy::Camp, &Rc::new(Ledger::new()))
}
