//! Every pair of short scripts and many triples: interleavings that nobody thought of. What must hold is what
//! every model checks; what each operation returns is left open.

use crate::cache::loom_models::{BUDGET_BYTES, LARGE, Ledger, SMALL, Switches, Went, World, executions, spawn, tell};
use std::rc::Rc;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    /// Lease the first entry, read and release it.
    Read,
    /// The same, but the lease ends only with the script.
    Lease,
    /// Use another entry, filling it if it is missing: the first has to leave for it.
    Fill,
    /// Put a third entry in: the others have to leave.
    Insert,
    /// Replace the first entry.
    Replace,
    Remove,
    Retire,
    /// No room for any of them any more.
    Shrink,
    /// Room for one again.
    Grow,
}

use Op::{Fill, Grow, Insert, Lease, Read, Remove, Replace, Retire, Shrink};

fn run(world: &World, script: &[Op]) {
    let mut leases = Vec::new();
    for op in script {
        match op {
            Read => drop(world.read('a')),
            Lease => leases.extend(world.lease('a')),
            Fill => assert_ne!(world.lookup_or_fill('b', LARGE), Went::WouldDeadlock),
            Insert => drop(world.insert('c', LARGE)),
            Replace => drop(world.insert('a', LARGE)),
            Remove => drop(world.remove('a')),
            Retire => world.retire('a'),
            Shrink => drop(world.set_budget_bytes(SMALL)),
            Grow => drop(world.set_budget_bytes(BUDGET_BYTES)),
        }
    }
    leases.into_iter().for_each(|lease| world.read_and_release(lease));
}

#[test]
fn loom_two_threads_of_two_operations() {
    const OPS: [Op; 8] = [Read, Lease, Fill, Insert, Remove, Retire, Shrink, Grow];
    let scripts: Vec<[Op; 2]> = OPS.iter().flat_map(|&first| OPS.map(|second| [first, second])).collect();
    let pairs = scripts.iter().enumerate().flat_map(|(at, one)| scripts[at..].iter().map(move |other| [one, other]));
    let check = |pair: [&[Op; 2]; 2]| check(exact, Switches::Unbounded, pair.map(|script| script.to_vec()));
    tell(Switches::Unbounded, || pairs.map(check).sum());
}

#[test]
fn loom_three_threads_of_one_operation() {
    const OPS: [Op; 8] = [Read, Fill, Insert, Replace, Remove, Retire, Shrink, Grow];
    let check = |triple: [&Op; 3]| check(exact, Switches::AtMost(3), triple.map(|op| vec![*op]));
    tell(Switches::AtMost(3), || triples(&OPS).map(check).sum());
}

#[test]
fn loom_three_threads_of_up_to_three_operations() {
    const TRIPLES: [[&[Op]; 3]; 10] = [
        [&[Lease, Insert], &[Lease, Retire], &[Insert, Remove, Replace]],
        [&[Lease, Insert, Read], &[Retire, Replace, Lease], &[Fill, Read]],
        [&[Fill, Read], &[Fill, Remove, Fill], &[Shrink, Grow, Insert]],
        [&[Read, Retire, Insert], &[Lease, Insert, Read], &[Lease, Insert, Read]],
        [&[Read, Read], &[Lease, Shrink], &[Retire, Grow, Insert]],
        [&[Replace, Read, Replace], &[Retire, Read, Remove], &[Lease, Insert]],
        [&[Fill, Read], &[Fill, Read], &[Insert, Fill]],
        [&[Lease, Insert, Fill], &[Lease, Fill, Retire], &[Read, Shrink, Grow]],
        [&[Read, Read], &[Insert, Read], &[Insert, Fill, Retire]],
        [&[Read, Read, Read], &[Lease, Replace], &[Insert, Remove]],
    ];
    let check = |triple: [&[Op]; 3]| check(exact, Switches::AtMost(3), triple.map(|script| script.to_vec()));
    tell(Switches::AtMost(3), || TRIPLES.into_iter().map(check).sum());
}

/// A hit without the lock has many more steps, so there are fewer scripts.
#[test]
fn loom_relaxed_two_threads_one_of_which_reads() {
    const OPS: [Op; 8] = [Read, Fill, Insert, Replace, Remove, Retire, Shrink, Lease];
    const READERS: [[Op; 2]; 3] = [[Read, Read], [Lease, Read], [Read, Insert]];
    let scripts = OPS.iter().flat_map(|&first| OPS.map(|second| [first, second]));
    let pairs = scripts.flat_map(|script| READERS.map(|reader| [reader, script]));
    let check = |pair: [[Op; 2]; 2]| check(relaxed, Switches::AtMost(2), pair.map(|script| script.to_vec()));
    tell(Switches::AtMost(2), || pairs.map(check).sum());
}

#[test]
fn loom_relaxed_three_threads_of_one_operation() {
    const OPS: [Op; 7] = [Read, Fill, Insert, Replace, Remove, Retire, Shrink];
    let check = |triple: [&Op; 3]| check(relaxed, Switches::AtMost(1), triple.map(|op| vec![*op]));
    tell(Switches::AtMost(1), || triples(&OPS).map(check).sum());
}

fn exact() -> Rc<World> {
    World::with_a(LARGE)
}

fn relaxed() -> Rc<World> {
    let world = World::relaxed(&Rc::new(Ledger::new()));
    assert!(world.insert('a', LARGE));
    world
}

/// Without order, since the threads are alike.
fn triples<T>(of: &[T]) -> impl Iterator<Item = [&T; 3]> {
    let pairs = of
        .iter()
        .enumerate()
        .flat_map(move |(at, one)| of[at..].iter().enumerate().map(move |(by, other)| (at + by, one, other)));
    pairs.flat_map(move |(at, one, other)| of[at..].iter().map(move |third| [one, other, third]))
}

/// The number of executions.
fn check<const THREADS: usize>(new: fn() -> Rc<World>, switches: Switches, scripts: [Vec<Op>; THREADS]) -> usize {
    let _named = NamedOnPanic(scripts.to_vec());
    executions(switches, move || {
        let world = new();
        let (mine, others) = scripts.split_first().expect("one thread at least");
        let others: Vec<_> =
            others.iter().cloned().map(|script| spawn(&world, move |world| run(world, &script))).collect();
        run(&world, mine);
        others.into_iter().for_each(|thread| thread.join().unwrap());
        world.finish();
    })
}

/// Loom's report does not say which of the many scripts failed.
struct NamedOnPanic(Vec<Vec<Op>>);

impl Drop for NamedOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the scripts were {:?}", self.0);
        }
    }
}
