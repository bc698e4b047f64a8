//! A cache beside its oracle: every step is done to both, and everything that can be seen must be the same.

use crate::device;
use crate::oracle::{Figures, Found, Left, Oracle, Refusal, Row, Took};
use crate::steps::{LIMIT_BYTES, Setup, Step, Then};
use hapax::{
    CacheOptions, DevBox, Error, Evicted, Evictions, Heap, HeapOptions, Lease, Lookup, Removed, Reservation, Returned,
    Stream, TryLookup, Vacancy, VramCache,
};

type Cache = VramCache<u32, [u8]>;
type Value = DevBox<[u8]>;

/// Handles given back that wait to be put in again.
const MOST_SPARE: usize = 4;

/// Runs the steps, ends the cache, and frees every byte. The figures, and how far the order's clock ran, are those
/// before the end.
pub fn run(setup: &Setup, steps: impl IntoIterator<Item = Step>) -> (Figures, u128) {
    let Setup { policy, mode, granule_bytes, budget_bytes, max_entries } = *setup;
    let _watch = device::watch();
    let heap = Heap::new(device::open(), HeapOptions::new(LIMIT_BYTES).granule_bytes(granule_bytes)).unwrap();
    let stream = heap.new_stream().unwrap();
    let mut options = CacheOptions::new(budget_bytes).policy(policy).mode(mode);
    if let Some(entries) = max_entries {
        options = options.max_entries(entries);
    }
    let cache = Cache::with_options(&heap, options).unwrap();
    let oracle = Oracle::new(setup, LIMIT_BYTES);
    let mut pair = Pair {
        cache: &cache,
        stream: &stream,
        oracle,
        leases: Vec::new(),
        fillers: Vec::new(),
        spare: Vec::new(),
        made: 0,
    };
    for (number, step) in steps.into_iter().enumerate() {
        let telltale = Telltale { number, step: &step };
        pair.step(&step);
        pair.compare();
        drop(telltale);
    }
    let seen = (pair.oracle.figures(), pair.oracle.clock());
    let expected = pair.end();
    assert_eq!(read_all(cache.into_handles()), expected);
    heap.settle().unwrap();
    assert_eq!((heap.ledger().live_bytes, heap.ledger().live_blocks), (0, 0));
    heap.close().unwrap();
    seen
}

/// Names the step that failed.
struct Telltale<'a> {
    number: usize,
    step: &'a Step,
}

impl Drop for Telltale<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in step {}: {:?}", self.number, self.step);
        }
    }
}

struct Pair<'c> {
    cache: &'c Cache,
    stream: &'c Stream,
    oracle: Oracle,
    /// With the numbers of their entries.
    leases: Vec<(u64, Lease<'c, u32, Value>)>,
    fillers: Vec<(u32, Filler<'c>)>,
    spare: Vec<(Vec<u8>, DevBox<[u8], Evicted>)>,
    made: u64,
}

enum Filler<'c> {
    Vacancy(Vacancy<'c, u32, Value>),
    Reservation(Reservation<'c, u32, Value>),
}

impl<'c> Pair<'c> {
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Insert { key, bytes, cost_ns } => {
                let (contents, value) = self.make(bytes);
                let inserted = match cost_ns {
                    0 => self.cache.insert(key, value),
                    _ => self.cache.insert_with_cost(key, value, cost_ns),
                };
                self.inserted(key, contents, cost_ns, inserted);
            }
            Step::InsertAgain { key, nth } => {
                if self.spare.is_empty() {
                    return;
                }
                let (contents, evicted) = self.spare.swap_remove(nth % self.spare.len());
                let value = evicted.revive(self.stream).unwrap();
                let inserted = self.cache.insert(key, value);
                self.inserted(key, contents, 0, inserted);
            }
            Step::Get { key } => {
                let found = self.oracle.get(key);
                match self.cache.get(&key, self.stream).unwrap() {
                    Some(lease) => self.hit(found, lease),
                    None => assert_eq!(found, Found::Miss),
                }
            }
            Step::Lookup { key, ref then } => {
                let found = self.oracle.lookup(key);
                match self.cache.lookup(&key, self.stream) {
                    Ok(Lookup::Hit(lease)) => self.hit(found, lease),
                    Ok(Lookup::Miss(vacancy)) => self.missed(found, key, vacancy, then),
                    // it would wait for a vacancy that this very thread holds
                    Err(error) => assert_eq!((error, found), (Error::WouldDeadlock, Found::Busy)),
                }
            }
            Step::TryLookup { key, ref then } => {
                let found = self.oracle.lookup(key);
                match self.cache.try_lookup(&key, self.stream).unwrap() {
                    TryLookup::Hit(lease) => self.hit(found, lease),
                    TryLookup::Miss(vacancy) => self.missed(found, key, vacancy, then),
                    TryLookup::Busy => assert_eq!(found, Found::Busy),
                }
            }
            Step::GoOn { nth, ref then } => {
                if self.fillers.is_empty() {
                    return;
                }
                let (key, filler) = self.fillers.swap_remove(nth % self.fillers.len());
                self.go_on(key, filler, then);
            }
            Step::Release { nth } => {
                if self.leases.is_empty() {
                    return;
                }
                let (number, lease) = self.leases.swap_remove(nth % self.leases.len());
                self.check_lease(number, &lease);
                drop(lease);
                self.oracle.release(number);
            }
            Step::Share { nth } => {
                if self.leases.is_empty() {
                    return;
                }
                let (number, lease) = &self.leases[nth % self.leases.len()];
                let shared = (*number, lease.clone());
                self.oracle.share(shared.0);
                self.leases.push(shared);
            }
            Step::Remove { key } => match (self.cache.remove(&key), self.oracle.remove(key)) {
                (Removed::Absent, Took::Absent) | (Removed::Leased, Took::Leased) => {}
                (Removed::Taken(taken, handle), Took::Taken(contents)) => {
                    assert_eq!((taken, read(&handle)), (key, contents.clone()));
                    self.keep(contents, handle);
                }
                both => panic!("removed {both:?}"),
            },
            Step::Retire { key } => {
                let expected = self.oracle.retire(key);
                self.left(self.cache.retire(&key), expected);
            }
            Step::Clear => {
                let expected = self.oracle.clear();
                self.left(self.cache.clear(), expected);
            }
            Step::Collect => {
                let expected = self.oracle.collect();
                self.left(self.cache.collect_retired(), expected);
            }
            Step::SetBudget { bytes } => match (self.cache.set_budget_bytes(bytes), self.oracle.set_budget(bytes)) {
                (Ok(left), Ok(expected)) => self.left(left, expected),
                (Err(error), Err(refusal)) => self.check_refusal(&error, &refusal),
                both => panic!("set the budget: {both:?}"),
            },
            Step::Contains { key } => assert_eq!(self.cache.contains(&key), self.oracle.peek(key).is_some()),
            Step::Peek { key } => {
                let row = |peek: hapax::Peek| (key, peek.charge_bytes, peek.cost_ns, peek.leased);
                assert_eq!(self.cache.peek(&key).map(row), self.oracle.peek(key));
            }
        }
    }

    fn inserted(
        &mut self,
        key: u32,
        contents: Vec<u8>,
        cost_ns: u64,
        inserted: Result<Evictions<u32, Value>, Returned<(u32, Value)>>,
    ) {
        match (inserted, self.oracle.insert(key, &contents, cost_ns)) {
            (Ok(left), Ok(expected)) => self.left(left, expected),
            (Err(Returned { handle: (returned, value), error }), Err(refusal)) => {
                self.check_refusal(&error, &refusal);
                assert_eq!(returned, key);
                self.discard(value, &contents);
            }
            both => panic!("inserted {} bytes: {both:?}", contents.len()),
        }
    }

    fn hit(&mut self, found: Found, lease: Lease<'c, u32, Value>) {
        let Found::Hit(number) = found else { panic!("a hit, but the oracle found {found:?}") };
        self.check_lease(number, &lease);
        self.leases.push((number, lease));
    }

    fn missed(&mut self, found: Found, key: u32, vacancy: Vacancy<'c, u32, Value>, then: &Then) {
        assert_eq!(found, Found::Miss);
        self.go_on(key, Filler::Vacancy(vacancy), then);
    }

    /// Afterwards the filler is held again, or gone because it filled or was dropped.
    fn go_on(&mut self, key: u32, filler: Filler<'c>, then: &Then) {
        let held = match (filler, then) {
            (filler, Then::Drop) => {
                drop(filler);
                self.oracle.close(key);
                None
            }
            (filler, Then::Hold) => Some(filler),
            (Filler::Vacancy(vacancy), &Then::Reserve { bytes }) => Some(self.reserve(key, vacancy, bytes)),
            (Filler::Vacancy(vacancy), &Then::Commit { reserve, bytes, cost_ns }) => {
                match self.reserve(key, vacancy, reserve) {
                    Filler::Reservation(reservation) => self.commit(key, reservation, bytes, cost_ns),
                    refused => Some(refused),
                }
            }
            (Filler::Vacancy(vacancy), &Then::Fill { bytes, cost_ns }) => self.fill(key, vacancy, bytes, cost_ns),
            (Filler::Vacancy(vacancy), Then::Unreserve | Then::MakeRoom) => Some(Filler::Vacancy(vacancy)),
            (Filler::Reservation(reservation), &Then::Commit { bytes, cost_ns, .. }) => {
                self.commit(key, reservation, bytes, cost_ns)
            }
            (Filler::Reservation(reservation), Then::MakeRoom) => {
                let expected = self.oracle.make_more_room(key);
                self.left(reservation.make_room(), expected);
                Some(Filler::Reservation(reservation))
            }
            (Filler::Reservation(reservation), then) => {
                let vacancy = reservation.into_vacancy();
                self.oracle.unreserve(key);
                match *then {
                    Then::Reserve { bytes } => Some(self.reserve(key, vacancy, bytes)),
                    Then::Fill { bytes, cost_ns } => self.fill(key, vacancy, bytes, cost_ns),
                    _ => Some(Filler::Vacancy(vacancy)),
                }
            }
        };
        self.fillers.extend(held.map(|filler| (key, filler)));
    }

    fn reserve(&mut self, key: u32, vacancy: Vacancy<'c, u32, Value>, bytes: usize) -> Filler<'c> {
        match (vacancy.reserve(bytes as u64), self.oracle.reserve(key, bytes)) {
            (Ok((reservation, left)), Ok(expected)) => {
                assert_eq!(reservation.reserved_bytes(), self.oracle.charge(bytes));
                self.left(left, expected);
                Filler::Reservation(reservation)
            }
            (Err(Returned { handle, error }), Err(refusal)) => {
                self.check_refusal(&error, &refusal);
                Filler::Vacancy(handle)
            }
            both => panic!("reserved {bytes} bytes: {both:?}"),
        }
    }

    fn commit(
        &mut self,
        key: u32,
        reservation: Reservation<'c, u32, Value>,
        bytes: usize,
        cost_ns: u64,
    ) -> Option<Filler<'c>> {
        let (contents, value) = self.make(bytes);
        match (reservation.cost_ns(cost_ns).commit(value), self.oracle.commit(key, &contents, cost_ns)) {
            (Ok(lease), Ok(number)) => {
                self.hit(Found::Hit(number), lease);
                None
            }
            (Err(Returned { handle: (reservation, value), error }), Err(refusal)) => {
                self.check_refusal(&error, &refusal);
                self.discard(value, &contents);
                Some(Filler::Reservation(reservation))
            }
            both => panic!("committed {bytes} bytes: {both:?}"),
        }
    }

    /// To the books this is reserve, free what left, and commit.
    fn fill(&mut self, key: u32, vacancy: Vacancy<'c, u32, Value>, bytes: usize, cost_ns: u64) -> Option<Filler<'c>> {
        let contents = self.new_contents(bytes);
        match (vacancy.cost_ns(cost_ns).fill_from(&contents), self.oracle.reserve(key, bytes)) {
            (Ok(filled), Ok(_)) => {
                assert!(filled.evicted.is_empty(), "it frees them itself");
                let number = self.oracle.commit(key, &contents, cost_ns).unwrap();
                self.hit(Found::Hit(number), filled.lease);
                None
            }
            (Err(Returned { handle, error }), Err(refusal)) => {
                self.check_refusal(&error, &refusal);
                Some(Filler::Vacancy(handle))
            }
            (filled, expected) => panic!("filled with {bytes} bytes: {:?}, {expected:?}", filled.err()),
        }
    }

    /// What left must be what the oracle says, in its order and with its contents.
    fn left(&mut self, left: Evictions<u32, Value>, expected: Left) {
        assert_eq!((left.len(), left.is_empty()), (expected.len(), expected.is_empty()));
        let handles: Vec<_> = left.collect();
        let seen: Left = handles.iter().map(|(key, handle)| (*key, read(handle))).collect();
        assert_eq!(seen, expected);
        for ((_, handle), (_, contents)) in handles.into_iter().zip(expected) {
            self.keep(contents, handle);
        }
    }

    fn keep(&mut self, contents: Vec<u8>, handle: DevBox<[u8], Evicted>) {
        if self.spare.len() < MOST_SPARE {
            self.spare.push((contents, handle));
        } else {
            assert_eq!(handle.free().unwrap().bytes(), self.oracle.charge(contents.len()));
        }
    }

    /// A refused value is the caller's again, untouched.
    fn discard(&self, value: Value, contents: &[u8]) {
        let mut back = vec![0; value.len()];
        value.download_to(&mut back).unwrap();
        assert_eq!(back, contents);
        value.free().unwrap();
    }

    fn check_lease(&mut self, number: u64, lease: &Lease<'c, u32, Value>) {
        let mut back = vec![0; lease.len()];
        lease.download_to(&mut back).unwrap();
        assert_eq!(back, self.oracle.contents_of(number));
    }

    fn check_refusal(&self, error: &Error, refusal: &Refusal) {
        let budget = self.oracle.figures().budget_bytes;
        match (error, refusal) {
            (Error::Leased, Refusal::Leased)
            | (Error::BeingFilled, Refusal::BeingFilled)
            | (Error::NoEntry { .. }, Refusal::NoEntry)
            | (Error::BadOption(_), Refusal::BadBudget) => {}
            (Error::Oversize { need_bytes, budget_bytes }, Refusal::Oversize) => {
                assert!(*need_bytes > budget && *budget_bytes == budget, "{error:?}");
            }
            (Error::NoRoom { need_bytes, held_bytes, budget_bytes }, Refusal::NoRoom { held_bytes: held }) => {
                // The cache may know of enough before it knows of all that is held.
                let enough = held_bytes <= held && need_bytes + held_bytes > budget;
                assert!(enough && *budget_bytes == budget, "{error:?}, held: {held}");
            }
            (Error::OverReservation { charge_bytes, reserved_bytes }, Refusal::OverReservation) => {
                assert!(charge_bytes > reserved_bytes, "{error:?}");
            }
            (Error::BudgetHeld { held_bytes, .. }, Refusal::BudgetHeld { held_bytes: held }) => {
                assert_eq!(held_bytes, held);
            }
            both => panic!("refused: {both:?}"),
        }
    }

    /// All that can be seen from outside, and each structure's own word.
    fn compare(&mut self) {
        self.cache.validate();
        self.cache.heap().validate();
        let rows: Vec<Row> = self.cache.snapshot().into_iter().map(row).collect();
        assert_eq!(rows, self.oracle.rows());
        assert_eq!(self.cache.keys(), rows.iter().map(|row| row.0).collect::<Vec<_>>());
        let stats = self.cache.stats();
        let figures = Figures {
            hits: stats.hits,
            misses: stats.misses,
            evictions: stats.evictions,
            rejections: stats.rejections,
            entries: stats.entries,
            resident_bytes: stats.resident_bytes,
            retired_bytes: stats.retired_bytes,
            reserved_bytes: stats.reserved_bytes,
            leased_bytes: stats.leased_bytes,
            budget_bytes: stats.budget_bytes,
        };
        assert_eq!(figures, self.oracle.figures());
        assert!(stats.resident_bytes + stats.retired_bytes + stats.reserved_bytes <= stats.budget_bytes);
        // Each handle is in the cache or given back, and nothing else is alive.
        let ledger = self.cache.heap().ledger();
        let lens: Vec<usize> = self.held().map(<[u8]>::len).collect();
        assert_eq!(ledger.live_bytes, lens.iter().map(|&len| self.oracle.charge(len)).sum());
        assert_eq!(ledger.live_blocks, lens.iter().filter(|&&len| len > 0).count() as u64);
        if device::SYNCHRONOUS {
            assert_eq!(ledger.freeing_bytes, 0);
        } else if ledger.freeing_bytes > LIMIT_BYTES / 2 {
            // The oracle knows no memory that is still in use by a stream, so there is always enough of the other.
            self.cache.heap().settle().unwrap();
        }
    }

    /// Ends leases and vacancies, frees what was given back, and returns what the cache must still hold.
    fn end(mut self) -> Left {
        for (key, filler) in std::mem::take(&mut self.fillers) {
            drop(filler);
            self.oracle.close(key);
        }
        for (number, lease) in std::mem::take(&mut self.leases) {
            self.check_lease(number, &lease);
            drop(lease);
            self.oracle.release(number);
        }
        self.compare();
        for (contents, handle) in self.spare {
            assert_eq!(read(&handle), contents);
            handle.free().unwrap();
        }
        self.oracle.into_all()
    }

    fn make(&mut self, bytes: usize) -> (Vec<u8>, Value) {
        let contents = self.new_contents(bytes);
        let value = self.cache.heap().alloc_slice(bytes).unwrap().upload_from(&contents).unwrap();
        (contents, value)
    }

    /// The first byte is of this value alone among all that are alive, the others of its number.
    fn new_contents(&mut self, bytes: usize) -> Vec<u8> {
        self.made += 1;
        let taken: Vec<u8> = self.held().filter_map(|contents| contents.first().copied()).collect();
        let first = (0..=u8::MAX).map(|byte| byte.wrapping_add(self.made as u8)).find(|byte| !taken.contains(byte));
        let number = self.made.to_le_bytes();
        (0..bytes).map(|at| if at == 0 { first.expect("few are alive") } else { number[(at - 1) % 8] }).collect()
    }

    fn held(&self) -> impl Iterator<Item = &[u8]> {
        self.oracle.contents().chain(self.spare.iter().map(|(contents, _)| &**contents))
    }
}

fn row(entry: hapax::SnapshotEntry<u32>) -> Row {
    (entry.key, entry.charge_bytes, entry.cost_ns, entry.leased)
}

fn read_all(left: Evictions<u32, Value>) -> Left {
    left.map(|(key, handle)| (key, read(&handle))).collect()
}

fn read(handle: &DevBox<[u8], Evicted>) -> Vec<u8> {
    let mut contents = vec![0; handle.len()];
    handle.download_to(&mut contents).unwrap();
    contents
}
