//! Leases against whatever makes room: eviction, removal, retirement, a smaller budget.

use crate::cache::loom_models::{BUDGET_BYTES, LARGE, Leased, SMALL, Switches, World, explore, spawn};
use crate::error::Error;
use std::rc::Rc;

#[test]
fn loom_a_leased_entry_is_not_evicted() {
    explore(Switches::Unbounded, || {
        let world = World::with_a(LARGE);
        let user = spawn(&world, |world| world.read('a'));
        let inserted = world.insert('b', LARGE);
        let found = user.join().unwrap();
        assert!(inserted || found, "refused, but nobody had a lease");
        world.finish();
    });
}

#[test]
fn loom_a_leased_entry_is_not_replaced() {
    explore(Switches::Unbounded, || {
        let world = World::with_a(LARGE);
        let user = spawn(&world, |world| assert!(world.read('a'), "replaced is resident all the same"));
        world.insert('a', LARGE);
        user.join().unwrap();
        world.finish();
    });
}

#[test]
fn loom_a_leased_entry_is_not_removed() {
    explore(Switches::Unbounded, || {
        let world = World::with_a(LARGE);
        let user = spawn(&world, |world| world.read('a'));
        let removed = world.remove('a');
        let found = user.join().unwrap();
        assert!(removed == Some(true) || found, "refused, but nobody had a lease");
        world.finish();
    });
}

#[test]
fn loom_a_lease_shared_between_threads_holds_until_the_last() {
    explore(Switches::Unbounded, || {
        let world = World::with_a(LARGE);
        let lease = world.lease('a').unwrap();
        world.index.share(lease.slot);
        let users = [0; 2].map(|_| spawn(&world, move |world| world.read_and_release(lease)));
        world.insert('b', LARGE);
        users.into_iter().for_each(|user| user.join().unwrap());
        assert!(world.insert('c', LARGE), "all leases have ended");
        world.finish();
    });
}

/// A clone is counted without the lock, whatever another thread takes and gives back meanwhile.
#[test]
fn loom_a_lease_is_shared_while_another_thread_uses_the_entry() {
    explore(Switches::AtMost(3), || {
        let world = World::with_a(LARGE);
        let lease = world.lease('a').unwrap();
        let user = spawn(&world, |world| (0..3).for_each(|_| assert!(world.read('a'))));
        world.index.share(lease.slot);
        world.read_and_release(lease);
        world.read_and_release(lease);
        user.join().unwrap();
        world.finish();
    });
}

#[test]
fn loom_a_retired_entry_comes_out_once_after_its_last_lease() {
    explore(Switches::Unbounded, || {
        let world = World::with_a(LARGE);
        let lease = world.lease('a').unwrap();
        world.index.share(lease.slot);
        let users = [0; 2].map(|_| spawn(&world, move |world| world.read_and_release(lease)));
        world.retire('a');
        assert!(!world.read('a'), "hidden at once");
        users.into_iter().for_each(|user| user.join().unwrap());
        assert!(world.insert('a', LARGE), "its bytes are free, and so is its key");
        world.finish();
    });
}

/// The last release of a passed entry tells the index, and until it has the lock the entry may be leased
/// again, retired, and released again, which tells the index too.
#[test]
fn loom_two_late_releases_queue_a_retired_entry_once() {
    explore(Switches::Unbounded, || {
        let (world, lease) = passed_over(World::with_a(LARGE));
        let first = spawn(&world, move |world| world.read_and_release(lease));
        let again = world.lease('a').expect("passed over, not evicted");
        world.retire('a');
        world.read_and_release(again);
        world.check_sums();
        world.collect();
        first.join().unwrap();
        world.finish();
    });
}

/// As above, but the slot is another entry's by the time.
#[test]
fn loom_a_late_release_leaves_the_next_entry_of_its_slot_alone() {
    explore(Switches::Unbounded, || {
        let (world, lease) = passed_over(World::with_a(LARGE));
        let slot = lease.slot;
        let first = spawn(&world, move |world| world.read_and_release(lease));
        if world.remove('a') == Some(true) {
            assert!(world.insert('b', LARGE));
            let next = world.lease('b').unwrap();
            assert_eq!(next.slot, slot, "the slot is used again");
            assert!(!world.insert('c', LARGE), "leased: passed over");
            world.check_sums();
            world.read_and_release(next);
        }
        first.join().unwrap();
        assert!(world.insert('c', LARGE), "all leases have ended");
        world.finish();
    });
}

#[test]
fn loom_a_passed_entry_is_released_used_and_evicted_at_once() {
    explore(Switches::AtMost(3), || {
        let (world, lease) = passed_over(World::with_a(LARGE));
        let first = spawn(&world, move |world| world.read_and_release(lease));
        let second = spawn(&world, |world| world.read('a'));
        world.insert('b', LARGE);
        first.join().unwrap();
        second.join().unwrap();
        assert!(world.insert('c', LARGE), "all leases have ended");
        world.finish();
    });
}

/// Room for two: the victim is the older of two entries that were passed over in another order than
/// they are released in.
#[test]
fn loom_entries_passed_over_are_evicted_in_their_old_order() {
    explore(Switches::Unbounded, || {
        let world = World::with_a(SMALL);
        assert!(world.insert('b', SMALL));
        let (a, b) = (world.lease('a').unwrap(), world.lease('b').unwrap());
        assert!(!world.insert('c', LARGE), "both are leased");
        let first = spawn(&world, move |world| world.read_and_release(b));
        world.read_and_release(a);
        first.join().unwrap();
        assert!(world.insert('c', SMALL));
        assert_eq!((world.read('a'), world.read('b')), (false, true), "the older left");
        world.finish();
    });
}

#[test]
fn loom_a_smaller_budget_and_an_insert_never_exceed_it() {
    explore(Switches::Unbounded, || {
        let world = World::with_a(SMALL);
        let shrinks = spawn(&world, |world| {
            let done = world.set_budget_bytes(LARGE);
            world.check_sums();
            done
        });
        world.insert('b', LARGE);
        assert!(shrinks.join().unwrap(), "nothing is leased");
        world.finish();
    });
}

#[test]
fn loom_a_smaller_budget_is_refused_while_leases_forbid_it() {
    explore(Switches::Unbounded, || {
        let world = World::with_a(LARGE);
        let lease = world.lease('a').unwrap();
        let user = spawn(&world, move |world| world.read_and_release(lease));
        let done = world.set_budget_bytes(SMALL);
        world.check_sums();
        user.join().unwrap();
        assert_eq!(world.index.figures().budget_bytes, if done { SMALL } else { BUDGET_BYTES });
        assert!(world.set_budget_bytes(SMALL), "all leases have ended");
        world.finish();
    });
}

#[test]
fn loom_two_inserts_and_an_onlooker_stay_within_the_budget() {
    explore(Switches::AtMost(3), || {
        let world = World::new();
        let first = spawn(&world, |world| assert!(world.insert('a', LARGE)));
        let second = spawn(&world, |world| assert!(world.insert('b', LARGE)));
        world.check_sums();
        first.join().unwrap();
        second.join().unwrap();
        world.finish();
    });
}

/// Owned leases: each thread gives its lease back, then its share of the cache, and the last share drains.
/// loom's `Arc`, which it follows; the public types have std's.
#[test]
fn loom_whoever_has_the_last_share_drains_everything() {
    struct Ending(Rc<World>);

    impl Drop for Ending {
        fn drop(&mut self) {
            self.0.finish();
        }
    }

    explore(Switches::Unbounded, || {
        let world = World::with_a(SMALL);
        assert!(world.insert('b', SMALL));
        let (a, b) = (world.lease('a').unwrap(), world.lease('b').unwrap());
        world.retire('b');
        let share = loom::sync::Arc::new(Ending(world));
        let other = share.clone();
        let user = loom::thread::spawn(move || {
            other.0.read_and_release(a);
            drop(other);
        });
        share.0.read_and_release(b);
        drop(share);
        user.join().unwrap();
    });
}

/// `drain` ends a cache whose leases may go on: what they hold stays.
#[test]
fn loom_draining_leaves_what_is_leased() {
    explore(Switches::Unbounded, || {
        let world = World::with_a(SMALL);
        assert!(world.insert('b', SMALL));
        let user = spawn(&world, |world| world.read('a'));
        world.take_all(world.index.drain());
        user.join().unwrap();
        world.finish();
    });
}

/// The end of a passed entry's lease is counted before the index hears of it. Whoever replaces the entry between the two is told that it is
/// leased, or succeeds: its own bytes are not what is missing.
#[test]
fn loom_replacing_a_passed_entry_is_refused_for_its_lease_or_not_at_all() {
    explore(Switches::Unbounded, || {
        let (world, lease) = passed_over(World::with_a(LARGE));
        let user = spawn(&world, move |world| world.read_and_release(lease));
        replace_passed(&world);
        user.join().unwrap();
        world.finish();
    });
}

/// Likewise a shrink: it succeeds, or names bytes that forbid it.
#[test]
fn loom_a_shrink_beside_a_release_names_what_forbids_it() {
    explore(Switches::Unbounded, || {
        let (world, lease) = passed_over(World::with_a(LARGE));
        let user = spawn(&world, move |world| world.read_and_release(lease));
        shrink_below_passed(&world);
        user.join().unwrap();
        world.finish();
    });
}

/// An entry, leased and passed over by an eviction that was refused.
pub(super) fn passed_over(world: Rc<World>) -> (Rc<World>, Leased) {
    let lease = world.lease('a').unwrap();
    assert!(!world.insert('b', LARGE));
    (world, lease)
}

pub(super) fn replace_passed(world: &World) {
    let mut value = Some(world.ledger.make(LARGE));
    match world.index.insert('a', LARGE, 0, || value.take().expect("taken once")) {
        Ok(removed) => world.take_all(removed),
        Err((_, error)) => {
            assert_eq!(error, Error::Leased);
            world.ledger.take(value.take().expect("refused"));
        }
    }
}

pub(super) fn shrink_below_passed(world: &World) {
    match world.index.set_budget_bytes(LARGE - 1) {
        Ok(removed) => world.take_all(removed),
        Err(error) => {
            assert_eq!(error, Error::BudgetHeld { budget_bytes: LARGE - 1, held_bytes: LARGE });
        }
    }
}
