//! Relaxed mode: hits without the lock beside everything that takes an entry out, puts another into its slot, or moves
//! the table. Slots are cells that loom follows, so a read that is not ordered with a change of the slot is reported.

use crate::cache::loom_models::residents::{passed_over, replace_passed, shrink_below_passed};
use crate::cache::loom_models::{LARGE, Ledger, SMALL, Switches, World, explore, spawn};
use std::rc::Rc;

fn relaxed_with_a(bytes: u64) -> Rc<World> {
    let world = World::relaxed(&Rc::new(Ledger::new()));
    assert!(world.insert('a', bytes));
    world
}

#[test]
fn loom_relaxed_a_leased_entry_is_not_evicted() {
    explore(Switches::Unbounded, || {
        let world = relaxed_with_a(LARGE);
        let user = spawn(&world, |world| world.read('a'));
        let inserted = world.insert('b', LARGE);
        let found = user.join().unwrap();
        assert!(inserted || found, "refused, but nobody had a lease");
        world.finish();
    });
}

#[test]
fn loom_relaxed_two_hits_and_an_eviction() {
    explore(Switches::AtMost(2), || {
        let world = relaxed_with_a(LARGE);
        let first = spawn(&world, |world| world.read('a'));
        let second = spawn(&world, |world| world.read('a'));
        let inserted = world.insert('b', LARGE);
        let found = [first.join().unwrap(), second.join().unwrap()].contains(&true);
        assert!(inserted || found, "refused, but nobody had a lease");
        world.finish();
    });
}

/// Whoever holds a lease uses it after the entry is hidden; whoever comes later does not find it.
#[test]
fn loom_relaxed_a_retired_entry_comes_out_once_and_after_its_leases() {
    explore(Switches::Unbounded, || {
        let world = relaxed_with_a(LARGE);
        let user = spawn(&world, |world| world.read('a'));
        world.retire('a');
        assert!(!world.read('a'), "hidden");
        user.join().unwrap();
        world.collect();
        world.finish();
    });
}

/// The slot of what is removed is the next one's, whose key is another: a hit that was on its way must not take it
/// for its own.
#[test]
fn loom_relaxed_a_hit_does_not_take_the_slots_next_entry_for_its_own() {
    explore(Switches::Unbounded, || {
        let world = relaxed_with_a(SMALL);
        let user = spawn(&world, |world| {
            if let Some(lease) = world.lease('a') {
                assert_eq!(lease.id, 0, "the entry of another key");
                world.read_and_release(lease);
            }
        });
        if world.remove('a') == Some(true) {
            assert!(world.insert('b', SMALL));
        }
        user.join().unwrap();
        world.finish();
    });
}

/// The same key again, in the same slot: either entry may be found, and is whole.
#[test]
fn loom_relaxed_an_entry_replaced_beside_a_hit_is_one_or_the_other() {
    explore(Switches::Unbounded, || {
        let world = relaxed_with_a(SMALL);
        let user = spawn(&world, |world| world.read('a'));
        let replaced = world.insert('a', SMALL);
        assert!(user.join().unwrap(), "the key was there all the time");
        assert!(replaced || world.read('a'));
        world.finish();
    });
}

/// With the fifth entry the table goes to a larger array; here with the first four of them being small.
#[test]
fn loom_relaxed_a_hit_beside_a_table_that_grows_is_a_hit() {
    explore(Switches::Unbounded, || {
        let world = relaxed_with_a(1);
        for key in ['b', 'c', 'd'] {
            assert!(world.insert(key, 1));
        }
        let user = spawn(&world, |world| world.read('a'));
        assert!(world.insert('e', 1));
        assert!(user.join().unwrap(), "it was there all the time");
        world.finish();
    });
}

/// The release of an entry that is being collected races with the collection.
#[test]
fn loom_relaxed_a_release_beside_a_collection() {
    explore(Switches::Unbounded, || {
        let world = relaxed_with_a(LARGE);
        let lease = world.lease('a').unwrap();
        world.retire('a');
        let user = spawn(&world, move |world| world.read_and_release(lease));
        world.collect();
        user.join().unwrap();
        world.collect();
        assert!(world.insert('b', LARGE), "collected");
        world.finish();
    });
}

/// An eviction passed the entry while it was leased. Its release, a hit and the next eviction meet.
#[test]
fn loom_relaxed_a_passed_entry_is_released_used_and_evicted_at_once() {
    explore(Switches::AtMost(2), || {
        let (world, lease) = passed_over(relaxed_with_a(LARGE));
        let first = spawn(&world, move |world| world.read_and_release(lease));
        let second = spawn(&world, |world| world.read('a'));
        world.insert('b', LARGE);
        first.join().unwrap();
        second.join().unwrap();
        assert!(world.insert('c', LARGE), "all leases have ended");
        world.finish();
    });
}

/// A miss is only what the core says: a lookup beside a fill waits for it and hits, or fills itself.
#[test]
fn loom_relaxed_of_two_lookups_one_fills_and_the_other_hits() {
    explore(Switches::Unbounded, || {
        let world = World::relaxed(&Rc::new(Ledger::new()));
        let other = spawn(&world, |world| world.lookup_or_fill('a', LARGE));
        let mine = world.lookup_or_fill('a', LARGE);
        let theirs = other.join().unwrap();
        assert_ne!(mine, theirs, "one filled");
        world.finish();
    });
}

/// A lease that was shared beside hits and an eviction holds until its last share ends.
#[test]
fn loom_relaxed_a_shared_lease_holds_until_the_last() {
    explore(Switches::Unbounded, || {
        let world = relaxed_with_a(LARGE);
        let lease = world.lease('a').unwrap();
        world.index.share(lease.slot);
        let user = spawn(&world, move |world| world.read_and_release(lease));
        assert!(!world.insert('b', LARGE), "this thread's share is left");
        world.read_and_release(lease);
        user.join().unwrap();
        assert!(world.insert('b', LARGE));
        world.finish();
    });
}

/// The refusal walked past an unleased entry, closed it and lets it stay: aside, where the next eviction takes it. A hit may
/// lease it at no moment between.
#[test]
fn loom_relaxed_a_hit_beside_a_refusal_and_what_it_set_aside() {
    explore(Switches::AtMost(3), || {
        let world = relaxed_with_a(SMALL);
        assert!(world.insert('b', SMALL));
        let lease = world.lease('b').unwrap();
        let user = spawn(&world, |world| world.read('a'));
        assert!(!world.insert('c', 2 * SMALL), "b is leased");
        world.insert('d', SMALL);
        user.join().unwrap();
        world.read_and_release(lease);
        world.finish();
    });
}

/// Who met another key in the slot gives its lease back as anybody does: a retirement may wait for it.
#[test]
fn loom_relaxed_a_retired_entry_met_by_a_lookup_of_another_key_comes_out() {
    explore(Switches::AtMost(3), || {
        let world = relaxed_with_a(SMALL);
        let user = spawn(&world, |world| world.read('a'));
        if world.remove('a') == Some(true) {
            assert!(world.insert('b', SMALL));
            world.retire('b');
        }
        user.join().unwrap();
        world.collect();
        assert_eq!(world.index.figures().retired.entries, 0, "no lease is left");
        world.finish();
    });
}

/// As in exact mode: refused for the lease, or not at all.
#[test]
fn loom_relaxed_replacing_a_passed_entry_beside_its_release() {
    explore(Switches::Unbounded, || {
        let (world, lease) = passed_over(relaxed_with_a(LARGE));
        let user = spawn(&world, move |world| world.read_and_release(lease));
        replace_passed(&world);
        user.join().unwrap();
        world.finish();
    });
}

#[test]
fn loom_relaxed_a_shrink_beside_a_release_names_what_forbids_it() {
    explore(Switches::Unbounded, || {
        let (world, lease) = passed_over(relaxed_with_a(LARGE));
        let user = spawn(&world, move |world| world.read_and_release(lease));
        shrink_below_passed(&world);
        user.join().unwrap();
        world.finish();
    });
}
