//! Every pair of short scripts, and some triples: interleavings that nobody thought of.

use crate::cache::loom_models::{BUDGET_BYTES, LARGE, SMALL, Switches, Went, World, explore, spawn};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    /// Lease, read and release the first entry.
    Read,
    /// Use another entry, filling it if it is missing: the first has to leave for it.
    Fill,
    /// Put another entry in: again the first has to leave.
    Insert,
    Remove,
    Retire,
    /// No room for the first any more.
    Shrink,
    /// Room for it again.
    Grow,
}

const OPS: [Op; 7] = [Op::Read, Op::Fill, Op::Insert, Op::Remove, Op::Retire, Op::Shrink, Op::Grow];

fn run(world: &World, script: &[Op]) {
    for op in script {
        match op {
            Op::Read => drop(world.read('a')),
            Op::Fill => assert_ne!(world.lookup_or_fill('b', LARGE), Went::WouldDeadlock),
            Op::Insert => drop(world.insert('c', LARGE)),
            Op::Remove => drop(world.remove('a')),
            Op::Retire => world.retire('a'),
            Op::Shrink => drop(world.set_budget_bytes(SMALL)),
            Op::Grow => drop(world.set_budget_bytes(BUDGET_BYTES)),
        }
    }
}

#[test]
fn loom_two_threads_of_two_operations() {
    let scripts: Vec<[Op; 2]> = OPS.iter().flat_map(|&first| OPS.map(|second| [first, second])).collect();
    for (at, &one) in scripts.iter().enumerate() {
        for &other in &scripts[at..] {
            print!("{one:?} | {other:?} ");
            explore(Switches::Unbounded, move || {
                let world = World::with_a(LARGE);
                let thread = spawn(&world, move |world| run(world, &other));
                run(&world, &one);
                thread.join().unwrap();
                world.finish();
            });
        }
    }
}

#[test]
fn loom_three_threads_of_up_to_three_operations() {
    use Op::*;
    const TRIPLES: [[&[Op]; 3]; 4] = [
        [&[Read, Read, Read], &[Insert, Fill], &[Retire, Insert]],
        [&[Read, Remove, Fill], &[Read, Insert], &[Shrink, Grow]],
        [&[Fill, Read], &[Fill, Retire, Read], &[Insert, Insert]],
        [&[Read, Retire], &[Read, Retire], &[Insert, Remove]],
    ];
    for scripts in TRIPLES {
        explore(Switches::AtMost(3), move || {
            let world = World::with_a(LARGE);
            let [first, second, third] = scripts;
            let threads = [second, third].map(|script| spawn(&world, move |world| run(world, script)));
            run(&world, first);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            world.finish();
        });
    }
}
