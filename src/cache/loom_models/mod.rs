//! The index inside loom: every interleaving of a few threads, and every value that the memory model lets
//! an atomic load see. Knows tokens instead of handles, and no heap but in `public`.
//!
//! `RUSTFLAGS='--cfg hapax_loom' cargo test --release --lib loom_` runs all of it; with `-- --nocapture` each
//! model tells how many executions it took.
//!
//! What a model checks in each execution:
//! - a token's memory is a cell that its maker writes, holders of a lease read, and whoever gets it back
//!   writes: two of these that nothing orders are a data race, which loom reports;
//! - every token comes out once, or is in the index once; what is inside fits the budget;
//! - every invariant of the index, over the whole structure;
//! - no thread waits for ever, which loom reports as a deadlock.
//!
//! What loom leaves out: it remembers the last seven values of an atomic, it does not see that std's `Arc` and
//! `OnceLock` order anything (here the lock does, or the word of the table that leads there), and nothing takes time.
//!
//! `planted` runs the same tests with bugs planted in the source, and each must be caught.

mod camp;
mod fills;
mod planted;
mod public;
mod relaxed;
mod residents;
mod scripts;

use crate::cache::core::Removed;
use crate::cache::flight::Patience;
use crate::cache::index::{Found, Hit, Index, Take};
use crate::cache::policy::Policy;
use crate::cache::policy::camp::Camp;
use crate::cache::policy::chosen::Chosen;
use crate::cache::slot::Stored;
use crate::device::stream::StreamSet;
use crate::error::Error;
use loom::cell::UnsafeCell;
use loom::thread::JoinHandle;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// How far loom goes: all that these models depend on is set here, whatever the environment says.
#[derive(Debug, Clone, Copy)]
enum Switches {
    /// Any thread may be interrupted anywhere, any number of times.
    Unbounded,
    /// At most so many switches away from a thread that could have gone on. Other switches are free.
    AtMost(usize),
}

/// Checks `model` in all executions, and tells how many there are.
fn explore(switches: Switches, model: impl Fn() + Send + Sync + 'static) {
    tell(switches, || executions(switches, model));
}

/// Says how many executions there were, and how long they took.
fn tell(switches: Switches, check: impl FnOnce() -> usize) {
    let start = Instant::now();
    let executions = check();
    let thread = std::thread::current();
    let name = thread.name().expect("tests run on named threads").trim_start_matches("cache::loom_models::");
    println!("{name}: {executions} executions in {:.1?}, {switches:?}", start.elapsed());
}

/// Checks `model` in all executions; their number.
fn executions(switches: Switches, model: impl Fn() + Send + Sync + 'static) -> usize {
    planted::plant_from_environment();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = match switches {
        Switches::Unbounded => None,
        Switches::AtMost(bound) => Some(bound),
    };
    builder.max_threads = 4;
    builder.max_branches = 10_000;
    builder.max_permutations = None;
    builder.max_duration = None;
    builder.checkpoint_file = None;
    builder.location = false;
    let executions = Arc::new(AtomicUsize::new(0));
    let counted = executions.clone();
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        model();
    });
    executions.load(Relaxed)
}

const BUDGET_BYTES: u64 = 100;
/// Two of these do not fit the budget.
const LARGE: u64 = 60;
/// Two of these do.
const SMALL: u64 = 40;

/// What the index stores in a model.
#[derive(Debug)]
struct Token {
    id: usize,
    bytes: u64,
}

impl Stored for Token {
    type View = usize;

    fn charge_bytes(&self, _granule_bytes: u64) -> u64 {
        self.bytes
    }

    fn view(&self) -> usize {
        self.id
    }

    fn lend(&mut self, _stream: StreamSet) -> bool {
        false
    }
}

/// What is behind the tokens of one execution.
struct Ledger {
    /// Each token's memory. It stands for the device's, so only the order of accesses is looked at.
    memory: Vec<UnsafeCell<()>>,
    /// How often each token came out. std's atomics on purpose, here and below: they add no step to a model
    /// and order nothing.
    out: Vec<AtomicU32>,
    made: AtomicUsize,
}

const MOST_TOKENS: usize = 12;

impl Ledger {
    fn new() -> Self {
        Ledger {
            memory: (0..MOST_TOKENS).map(|_| UnsafeCell::new(())).collect(),
            out: (0..MOST_TOKENS).map(|_| AtomicU32::new(0)).collect(),
            made: AtomicUsize::new(0),
        }
    }

    /// A new token, its memory written.
    fn make(&self, bytes: u64) -> Token {
        let id = self.made.fetch_add(1, Relaxed);
        self.memory[id].with_mut(|_| ());
        Token { id, bytes }
    }

    /// Uses a leased token's memory.
    fn read(&self, id: usize) {
        self.memory[id].with(|_| ());
        assert_eq!(self.out[id].load(Relaxed), 0, "token {id} is leased, and was handed back");
    }

    /// Takes what came out of the index, and frees its memory.
    fn take(&self, token: Token) {
        self.memory[token.id].with_mut(|_| ());
        let before = self.out[token.id].fetch_add(1, Relaxed);
        assert_eq!(before, 0, "token {} came out twice", token.id);
    }

    fn still_in(&self) -> usize {
        self.out[..self.made.load(Relaxed)].iter().filter(|out| out.load(Relaxed) == 0).count()
    }
}

/// A lease that can go to another thread of the model, as an `OwnedLease` does.
#[derive(Debug, Clone, Copy)]
struct Leased {
    slot: u32,
    id: usize,
}

/// What a lookup that waits found.
enum Looked {
    Hit(Leased),
    Miss(u32),
}

/// How a `lookup_or_fill` went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Went {
    Hit,
    Filled,
    /// The vacancy was given up for want of room.
    Refused,
    WouldDeadlock,
}

/// An index and its ledger. Threads of a model share it through an `Rc`: loom runs them all on one thread
/// of the system's, and what it does not see orders nothing.
struct World {
    index: Index<char, Token>,
    ledger: Rc<Ledger>,
}

impl World {
    fn new() -> Rc<Self> {
        World::with_ledger(&Rc::new(Ledger::new()))
    }

    fn with_ledger(ledger: &Rc<Ledger>) -> Rc<Self> {
        World::under(Policy::Lru, ledger)
    }

    fn under(policy: Policy, ledger: &Rc<Ledger>) -> Rc<Self> {
        World::ordered_by(policy.into(), ledger)
    }

    /// Under CAMP, whose numbers are made small when the clock comes to `clock`.
    fn rebasing_at(clock: u64, ledger: &Rc<Ledger>) -> Rc<Self> {
        World::ordered_by(Chosen::Camp(Box::new(Camp::rebasing_at(clock))), ledger)
    }

    fn ordered_by(order: Chosen, ledger: &Rc<Ledger>) -> Rc<Self> {
        Rc::new(World { index: Index::new(order, BUDGET_BYTES, usize::MAX, 1), ledger: ledger.clone() })
    }

    /// In relaxed mode.
    fn relaxed(ledger: &Rc<Ledger>) -> Rc<Self> {
        let index = Index::relaxed(Policy::Lru.into(), BUDGET_BYTES, usize::MAX, 1);
        Rc::new(World { index, ledger: ledger.clone() })
    }

    /// With one entry, under the key that most models are about.
    fn with_a(bytes: u64) -> Rc<Self> {
        let world = World::new();
        assert!(world.insert('a', bytes));
        world
    }

    /// A lease of a resident entry, which `read_and_release` ends.
    fn lease(&self, key: char) -> Option<Leased> {
        self.index.get(&key, StreamSet::EMPTY).map(Leased::from)
    }

    fn read_and_release(&self, lease: Leased) {
        self.ledger.read(lease.id);
        self.index.release(lease.slot);
    }

    /// Leases, reads and releases, if the key is resident.
    fn read(&self, key: char) -> bool {
        let lease = self.lease(key);
        lease.into_iter().for_each(|lease| self.read_and_release(lease));
        lease.is_some()
    }

    fn insert(&self, key: char, bytes: u64) -> bool {
        self.insert_with_cost(key, bytes, 0)
    }

    fn insert_with_cost(&self, key: char, bytes: u64, cost_ns: u64) -> bool {
        let mut value = Some(self.ledger.make(bytes));
        match self.index.insert(key, bytes, cost_ns, || value.take().expect("taken once")) {
            Ok(removed) => {
                self.take_all(removed);
                true
            }
            Err(_) => {
                self.ledger.take(value.take().expect("refused"));
                false
            }
        }
    }

    /// `None`: absent; `false`: leased.
    fn remove(&self, key: char) -> Option<bool> {
        match self.index.remove(&key) {
            Take::Absent => None,
            Take::Leased => Some(false),
            Take::Taken(_, token) => {
                self.ledger.take(token);
                Some(true)
            }
        }
    }

    fn retire(&self, key: char) {
        self.take_all(self.index.retire(&key));
    }

    fn collect(&self) {
        self.take_all(self.index.collect());
    }

    fn set_budget_bytes(&self, budget_bytes: u64) -> bool {
        let set = self.index.set_budget_bytes(budget_bytes);
        let done = set.is_ok();
        set.into_iter().for_each(|removed| self.take_all(removed));
        done
    }

    /// The key's vacancy, if nothing is resident and nobody fills it. Waits for other fillers.
    fn lookup(&self, key: char) -> Result<Looked, Error> {
        match self.index.lookup(&key, StreamSet::EMPTY, Patience::Forever)? {
            Found::Hit(hit) => Ok(Looked::Hit(hit.into())),
            Found::Miss(slot) => Ok(Looked::Miss(slot)),
            Found::Busy => panic!("an endless wait ended without a hit or a miss"),
        }
    }

    /// Uses the entry, filling it if it is missing.
    fn lookup_or_fill(&self, key: char, bytes: u64) -> Went {
        match self.lookup(key) {
            Ok(Looked::Hit(lease)) => {
                self.read_and_release(lease);
                Went::Hit
            }
            Ok(Looked::Miss(slot)) => match self.fill(slot, bytes) {
                Some(lease) => {
                    self.read_and_release(lease);
                    Went::Filled
                }
                None => Went::Refused,
            },
            Err(Error::WouldDeadlock) => Went::WouldDeadlock,
            Err(error) => panic!("{error}"),
        }
    }

    /// Reserves, allocates and commits as a filler does; without room it gives the vacancy up.
    fn fill(&self, slot: u32, bytes: u64) -> Option<Leased> {
        match self.index.reserve(bytes) {
            Ok(removed) => {
                self.take_all(removed);
                let token = self.ledger.make(bytes);
                Some(self.index.commit(slot, token, bytes, 0, StreamSet::EMPTY).into())
            }
            Err(_) => {
                self.index.close(slot);
                None
            }
        }
    }

    fn take_all(&self, removed: Removed<char, Token>) {
        removed.into_iter().for_each(|(_, token)| self.ledger.take(token));
    }

    /// Run by the last thread once the others are joined and every lease has ended.
    fn finish(&self) {
        self.check_sums();
        let figures = self.index.figures();
        assert_eq!(figures.leased_bytes, 0, "leases are left");
        assert_eq!(figures.reserved.entries, 0, "reservations are left");
        let inside = figures.resident.entries + figures.retired.entries;
        assert_eq!(inside, self.ledger.still_in(), "tokens that did not come out are inside");
        self.drain();
        assert_eq!(self.ledger.still_in(), 0, "a token never came out");
    }

    /// Every invariant, at any time.
    fn check_sums(&self) {
        self.index.validate();
        let figures = self.index.figures();
        let used = figures.resident.bytes + figures.retired.bytes + figures.reserved.bytes;
        assert!(used <= figures.budget_bytes, "{used} bytes used of a budget of {}", figures.budget_bytes);
    }

    fn drain(&self) {
        self.take_all(self.index.drain());
        self.index.validate();
        let figures = self.index.figures();
        assert_eq!((figures.resident.entries, figures.retired.entries), (0, 0), "entries are left");
    }
}

impl From<Hit<'_, usize>> for Leased {
    fn from(hit: Hit<'_, usize>) -> Self {
        Leased { slot: hit.slot, id: hit.view }
    }
}

/// Runs `work` on a thread of the model.
fn spawn<R: 'static>(world: &Rc<World>, work: impl FnOnce(&World) -> R + 'static) -> JoinHandle<R> {
    let world = world.clone();
    loom::thread::spawn(move || work(&world))
}
