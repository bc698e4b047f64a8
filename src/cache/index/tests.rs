//! What relaxed mode promises and no result shows: that a hit takes no lock, and that what is lent without it is told.

use super::*;
use crate::cache::policy::Policy;

const PENDING: StreamSet = StreamSet::WRITE_PENDING;

/// Its number, and what a handle notes.
struct Token {
    number: u64,
    notes: StreamSet,
}

impl Stored for Token {
    type View = u64;

    fn charge_bytes(&self, _: u64) -> u64 {
        1
    }

    fn view(&self) -> u64 {
        self.number
    }

    fn lend(&mut self, stream: StreamSet) -> bool {
        self.notes = self.notes.union(stream);
        self.write_pending()
    }

    fn write_pending(&self) -> bool {
        self.notes.contains(PENDING)
    }
}

type Relaxed = Index<u64, Token>;

/// In buckets of seven words, two fifths full: if the hashes of keys that are alike lie close together, lookups go from bucket to bucket.
#[test]
fn keys_that_differ_in_any_part_lie_apart() {
    const BUCKETS: u64 = 1760;
    for part in [0, 32, 64, 96] {
        for _ in 0..100 {
            let index: Index<u128, Token> = Index::new(Policy::Lru.into(), 1, 1, 1);
            let mut taken = [0; BUCKETS as usize];
            for number in 0..5000u128 {
                taken[((u64::from(index.hash(&(number << part))) * BUCKETS) >> 32) as usize] += 1;
            }
            let first: u32 = taken.iter().map(|words| 7.min(*words)).sum();
            assert!(first > 4_900, "{first} lie in their first bucket, part {part}");
        }
    }
}

fn stream(number: u32) -> StreamSet {
    StreamSet::from_bits(1 << number)
}

fn token(number: u64) -> Token {
    Token { number, notes: StreamSet::EMPTY }
}

fn relaxed(entries: u64) -> Relaxed {
    let index = Index::relaxed(Policy::Lru.into(), 2 * entries, usize::MAX, 1);
    (0..entries).for_each(|key| assert!(index.insert(key, 1, 0, || token(key)).is_ok_and(|out| out.is_empty())));
    index
}

/// The hasher takes some rows of numbers for what they are and puts them close together.
fn scattered(number: u64) -> u64 {
    let mixed = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9)
}

/// Committed with a write pending, and leased once by that.
fn pending() -> (Relaxed, u32) {
    let index = relaxed(0);
    index.set_budget_bytes(1).expect("it is empty");
    let Ok(Found::Miss(slot)) = index.lookup(&7, StreamSet::EMPTY, Patience::Never) else { panic!("it is empty") };
    assert!(index.reserve(1).is_ok_and(|out| out.is_empty()));
    let hit = index.commit(slot, Token { number: 7, notes: PENDING }, 1, 0, stream(1));
    assert!(hit.write_pending);
    (index, slot)
}

fn is_open(index: &Relaxed, key: u64) -> bool {
    let hit = index.get_at_once(&key, StreamSet::EMPTY);
    hit.inspect(|hit| index.release_counted(hit.slot, hit.count)).is_ok()
}

#[test]
fn what_is_resident_is_leased_while_the_lock_is_held() {
    let index = relaxed(0);
    index.set_budget_bytes(5000).expect("it is empty");
    let keys = || (0..5000).map(scattered);
    keys().for_each(|key| assert!(index.insert(key, 1, 0, || token(key)).is_ok()));
    let front = index.front.as_ref().unwrap();
    let lock = index.state.lock();
    let mut at_once = 0;
    for key in keys() {
        let hit = match index.get_at_once(&key, StreamSet::EMPTY) {
            Ok(hit) => {
                at_once += 1;
                hit
            }
            Err(hash) => front.search(&index, hash, &key, StreamSet::EMPTY).expect("it is there"),
        };
        assert_eq!((hit.view, hit.write_pending, hit.count.release()), (key, false, false));
    }
    assert!(at_once > 4000, "{at_once} of 5000 without a search");
    assert_eq!(front.hits(), 5000);
    drop(lock);
    let figures = index.figures();
    assert_eq!((figures.counters.hits, figures.leased_bytes), (5000, 0));
    index.validate();
}

/// In the first slot of a page as in any other, however many pages there are.
#[test]
fn an_entry_is_found_without_the_lock_as_soon_as_it_is_in() {
    let index = relaxed(0);
    index.set_budget_bytes(10_000).expect("it is empty");
    for key in 0..10_000 {
        assert!(index.insert(key, 1, 0, || token(key)).is_ok());
        let hit = index.get(&key, StreamSet::EMPTY).expect("it is in");
        index.release(hit.slot);
        assert_eq!(index.front.as_ref().unwrap().hits(), key + 1);
    }
}

#[test]
fn what_was_used_without_the_lock_is_not_the_next_victim() {
    let index = relaxed(3);
    index.set_budget_bytes(3).expect("they fit");
    (0..2).for_each(|_| assert!(is_open(&index, 0)));
    let out = index.insert(3, 1, 0, || token(3)).expect("an entry can leave");
    assert_eq!(out.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_lookup_of_what_is_absent_leases_nothing() {
    let index = relaxed(2000);
    (2000..40_000).for_each(|key| assert!(index.get(&key, StreamSet::EMPTY).is_none()));
    assert_eq!(index.figures().leased_bytes, 0);
}

#[test]
fn the_streams_that_an_entry_was_lent_to_leave_with_it() {
    type Leaves = fn(&Relaxed, &[u32]) -> Removed<u64, Token>;
    let ways: [(&str, Leaves); 4] = [
        ("evicted", |index, _| index.evict_bytes(3)),
        ("drained", |index, _| index.drain()),
        ("retired", |index, _| index.clear()),
        ("collected", |index, slots| {
            (0..3).for_each(|key| index.share(slots[key]));
            assert!(index.clear().is_empty());
            (0..3).for_each(|key| index.release(slots[key]));
            index.collect()
        }),
    ];
    for (way, leave) in ways {
        let index = relaxed(3);
        let slots = [0, 1, 2].map(|key| {
            let unlocked = index.get_at_once(&key, stream(1)).expect("open");
            let again = index.get_at_once(&key, stream(2)).expect("open");
            let lock = index.state.lock();
            let locked = index.hit(lock, unlocked.slot, stream(3));
            assert!(!locked.write_pending);
            [unlocked, again, locked].iter().for_each(|hit| index.release(hit.slot));
            unlocked.slot
        });
        let left: Vec<_> = leave(&index, &slots).into_iter().map(|(key, token)| (key, token.notes)).collect();
        let streams = stream(1).union(stream(2)).union(stream(3));
        assert_eq!(left, [(0, streams), (1, streams), (2, streams)], "{way}");
        // And not with the next one of its slot.
        assert!(index.insert(9, 1, 0, || token(9)).is_ok());
        assert_eq!(index.drain().into_iter().map(|(_, token)| token.notes).collect::<Vec<_>>(), [StreamSet::EMPTY]);
    }
}

#[test]
fn an_entry_is_not_leased_without_the_lock_before_its_write_has_passed() {
    let (index, slot) = pending();
    assert!(!is_open(&index, 7));
    let hit = index.get(&7, stream(2)).expect("the core knows it");
    assert!(hit.write_pending);
    index.release(hit.slot);
    let mut notes = StreamSet::EMPTY;
    index.change_value(slot, |token| notes = token.notes);
    assert_eq!(notes, PENDING.union(stream(1)).union(stream(2)));
    assert!(!is_open(&index, 7), "still pending");
    index.change_value(slot, |token| token.notes = token.notes.minus(PENDING));
    assert!(is_open(&index, 7));
    index.change_value(slot, |_| panic!("others may be reading it"));
    index.release(slot);
    index.validate();
}

/// A refusal opens again what it had closed, but not what was not open.
#[test]
fn a_refused_replacement_leaves_a_pending_entry_closed_and_another_open() {
    let (index, slot) = pending();
    index.release(slot);
    assert!(matches!(index.insert(7, 2, 0, || token(8)), Err((7, Error::Oversize { .. }))));
    assert!(!is_open(&index, 7));
    index.validate();

    let index = relaxed(1);
    assert!(matches!(index.insert(0, 3, 0, || token(8)), Err((0, Error::Oversize { .. }))));
    assert!(is_open(&index, 0));
    index.validate();
}

#[test]
fn a_retired_entry_is_not_opened_when_its_write_has_passed() {
    let (index, slot) = pending();
    assert!(index.retire(&7).is_empty(), "leased");
    index.change_value(slot, |token| token.notes = token.notes.minus(PENDING));
    index.validate();
    index.release(slot);
    let left: Vec<_> = index.collect().into_iter().map(|(key, token)| (key, token.number)).collect();
    assert_eq!(left, [(7, 7)]);
}
