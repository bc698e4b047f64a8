//! Misses: one filler per key, the others wait, and no cycle of them waits for ever.

use crate::cache::flight::Patience;
use crate::cache::index::Found;
use crate::cache::loom_models::{LARGE, Ledger, Looked, SMALL, Switches, Went, World, explore, spawn};
use crate::device::stream::StreamSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

#[test]
fn loom_of_two_lookups_one_fills_and_the_other_hits() {
    explore(Switches::Unbounded, || {
        let world = World::new();
        let other = spawn(&world, |world| world.lookup_or_fill('a', LARGE));
        let went = world.lookup_or_fill('a', LARGE);
        assert!(matches!((went, other.join().unwrap()), (Went::Hit, Went::Filled) | (Went::Filled, Went::Hit)));
        world.finish();
    });
}

#[test]
fn loom_of_three_lookups_one_fills_and_the_others_hit() {
    explore(Switches::AtMost(3), || {
        let world = World::new();
        let others = [0; 2].map(|_| spawn(&world, |world| world.lookup_or_fill('a', LARGE)));
        let mut went = vec![world.lookup_or_fill('a', LARGE)];
        went.extend(others.map(|other| other.join().unwrap()));
        went.sort_by_key(|went| *went == Went::Hit);
        assert_eq!(went, [Went::Filled, Went::Hit, Went::Hit]);
        world.finish();
    });
}

#[test]
fn loom_a_vacancy_given_up_goes_to_who_waits() {
    explore(Switches::Unbounded, || {
        let world = World::new();
        let gives_up = spawn(&world, |world| match world.lookup('a').unwrap() {
            Looked::Miss(slot) => world.index.close(slot),
            Looked::Hit(lease) => world.read_and_release(lease),
        });
        assert_ne!(world.lookup_or_fill('a', LARGE), Went::WouldDeadlock);
        gives_up.join().unwrap();
        assert!(world.read('a'), "it was not given up twice");
        world.finish();
    });
}

#[test]
fn loom_a_panic_of_a_filler_gives_its_vacancy_and_its_bytes_to_who_waits() {
    explore(Switches::Unbounded, || {
        let world = World::with_a(SMALL);
        let panics = spawn(&world, |world| {
            let panicked = catch_unwind(AssertUnwindSafe(|| match world.lookup('b').unwrap() {
                Looked::Miss(slot) => {
                    let _held = Reserved::new(world, slot, LARGE);
                    resume_unwind(Box::new("a compiler panics")); // without the hook's message
                }
                Looked::Hit(lease) => world.read_and_release(lease),
            }));
            panicked.is_err()
        });
        let went = world.lookup_or_fill('b', LARGE);
        let panicked = panics.join().unwrap();
        assert_eq!(went, Went::Filled, "the bytes that were reserved are back");
        assert!(panicked || world.read('b'));
        world.finish();
    });
}

#[test]
fn loom_a_lookup_that_does_not_wait_is_busy_at_most_while_another_fills() {
    explore(Switches::Unbounded, || {
        let world = World::new();
        let fills = spawn(&world, |world| world.lookup_or_fill('a', LARGE));
        match world.index.lookup(&'a', StreamSet::EMPTY, Patience::Never).unwrap() {
            Found::Hit(hit) => world.read_and_release(hit.into()),
            Found::Miss(slot) => world.index.close(slot),
            Found::Busy => {}
        }
        assert_eq!(fills.join().unwrap(), Went::Filled);
        world.finish();
    });
}

#[test]
fn loom_two_fills_that_do_not_fit_together_stay_within_the_budget() {
    explore(Switches::Unbounded, || {
        let world = World::new();
        let other = spawn(&world, |world| world.lookup_or_fill('a', LARGE));
        let went = [world.lookup_or_fill('b', LARGE), other.join().unwrap()];
        assert!(went.contains(&Went::Filled), "one of the two had room");
        world.finish();
    });
}

#[test]
fn loom_a_cycle_of_two_fillers_is_refused_once() {
    explore(Switches::Unbounded, || {
        let world = World::new();
        let other = spawn(&world, |world| fill_needing((world, 'b'), (world, 'a')));
        let went = [fill_needing((&world, 'a'), (&world, 'b')), other.join().unwrap()];
        assert_ne!(went, [Went::WouldDeadlock; 2]);
        assert!(world.read('a') && world.read('b'));
        world.finish();
    });
}

#[test]
fn loom_a_cycle_of_two_fillers_over_two_caches_is_refused_once() {
    explore(Switches::Unbounded, || {
        let (here, there) = two_worlds();
        let other = {
            let (here, there) = (here.clone(), there.clone());
            loom::thread::spawn(move || fill_needing((&there, 'a'), (&here, 'a')))
        };
        let went = [fill_needing((&here, 'a'), (&there, 'a')), other.join().unwrap()];
        assert_ne!(went, [Went::WouldDeadlock; 2]);
        assert!(here.read('a') && there.read('a'));
        here.check_sums();
        there.check_sums();
        here.drain();
        there.drain();
        assert_eq!(here.ledger.still_in(), 0);
    });
}

/// The one that waited is still on its way out, but its filler is done and may wait for it in turn.
#[test]
fn loom_who_has_filled_may_wait_for_who_waited() {
    explore(Switches::Unbounded, || {
        let world = World::new();
        let other = spawn(&world, |world| fill_needing((world, 'b'), (world, 'a')));
        let first = world.lookup_or_fill('a', SMALL / 2);
        let second = world.lookup_or_fill('b', SMALL / 2);
        assert!(![first, second, other.join().unwrap()].contains(&Went::WouldDeadlock));
        world.finish();
    });
}

/// Who waited once, and went on, is in the graph no more.
#[test]
fn loom_a_cycle_of_fillers_that_waited_before_is_refused_once() {
    explore(Switches::AtMost(3), || {
        let world = World::new();
        let other = spawn(&world, |world| {
            assert_ne!(world.lookup_or_fill('c', SMALL / 2), Went::WouldDeadlock);
            fill_needing((world, 'b'), (world, 'a'))
        });
        assert_ne!(world.lookup_or_fill('c', SMALL / 2), Went::WouldDeadlock);
        let went = [fill_needing((&world, 'a'), (&world, 'b')), other.join().unwrap()];
        assert_ne!(went, [Went::WouldDeadlock; 2]);
        world.finish();
    });
}

#[test]
fn loom_a_cycle_of_three_fillers_is_refused_once() {
    explore(Switches::AtMost(2), || {
        let world = World::new();
        let second = spawn(&world, |world| fill_needing((world, 'b'), (world, 'c')));
        let third = spawn(&world, |world| fill_needing((world, 'c'), (world, 'a')));
        let first = fill_needing((&world, 'a'), (&world, 'b'));
        let went = [first, second.join().unwrap(), third.join().unwrap()];
        let refused = went.iter().filter(|went| **went == Went::WouldDeadlock).count();
        assert!(refused <= 1, "{went:?}");
        world.finish();
    });
}

/// Fills `one`, and while it has the vacancy needs `other`; without that it fills all the same.
fn fill_needing(one: (&World, char), other: (&World, char)) -> Went {
    match one.0.lookup(one.1).unwrap() {
        Looked::Miss(slot) => {
            let went = other.0.lookup_or_fill(other.1, SMALL / 2);
            let lease = one.0.fill(slot, SMALL / 2).expect("all of them fit");
            one.0.read_and_release(lease);
            went
        }
        Looked::Hit(lease) => {
            one.0.read_and_release(lease);
            other.0.lookup_or_fill(other.1, SMALL / 2)
        }
    }
}

fn two_worlds() -> (Rc<World>, Rc<World>) {
    let ledger = Rc::new(Ledger::new());
    (World::with_ledger(&ledger), World::with_ledger(&ledger))
}

/// What a filler holds, given up in the order of the public `Reservation`.
struct Reserved<'w> {
    world: &'w World,
    slot: u32,
    bytes: u64,
}

impl<'w> Reserved<'w> {
    fn new(world: &'w World, slot: u32, bytes: u64) -> Self {
        let removed = world.index.reserve(bytes).unwrap_or_else(|error| panic!("{error}"));
        world.take_all(removed);
        Reserved { world, slot, bytes }
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.world.index.unreserve(self.bytes);
        self.world.index.close(self.slot);
    }
}
