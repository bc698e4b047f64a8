//! A cache after a restart: what comes back from the code store, in which order, within which room.

use hapax::{
    CodeStore, Collected, DirectoryOptions, Fingerprint, Heap, HeapOptions, HostDevice, Key, Kind, Lookup, MemoryStore,
    Meta, Miss, Record, Refusal, Store, StoreStats, StoredEntry, Stream, VramCache, WarmSet,
};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

const GRANULE: u64 = 256;
const NAME: &str = "test";

/// Keys are numbers; what is stored is under fingerprints.
fn fingerprint(number: &u64) -> Option<Fingerprint> {
    Some(Fingerprint::of("tests/warm").part("unit", number.to_le_bytes()).finish())
}

fn number(fingerprint_of: &Fingerprint) -> Option<u64> {
    (0..1000).find(|candidate| fingerprint(candidate) == Some(*fingerprint_of))
}

fn contents(number: u64) -> Vec<u8> {
    vec![number as u8; 1 + number as usize % GRANULE as usize]
}

struct Process {
    cache: Arc<VramCache<u64, [u8]>>,
    stream: Stream,
}

impl Process {
    fn with_room_for(entries: u64) -> Process {
        let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20)).unwrap();
        let stream = heap.new_stream().unwrap();
        Process { cache: Arc::new(VramCache::new(&heap, entries * GRANULE).unwrap()), stream }
    }

    fn fill(&self, number: u64, cost_ns: u64) {
        let Lookup::Miss(vacancy) = self.cache.lookup(&number, &self.stream).unwrap() else { panic!("it is there") };
        drop(vacancy.cost_ns(cost_ns).fill_from(&contents(number)).unwrap());
    }

    fn refill(&self, code: &CodeStore) -> hapax::Refilled {
        let set = WarmSet::load(code, NAME).unwrap();
        let refilled = set.refill(&self.cache, code, Kind::CODE, &self.stream, number).unwrap();
        self.cache.validate();
        refilled
    }

    fn check_contents(&self) {
        for number in self.cache.keys() {
            let lease = self.cache.get(&number, &self.stream).unwrap().unwrap();
            let mut bytes = vec![0; lease.len()];
            lease.view().download_to(&mut bytes).unwrap();
            assert_eq!(bytes, contents(number));
        }
    }
}

fn stored(code: CodeStore, numbers: std::ops::Range<u64>) -> CodeStore {
    for number in numbers {
        let key = Key::new(Kind::CODE, fingerprint(&number).unwrap());
        code.put(&key, &Meta::default(), &contents(number)).unwrap();
    }
    code
}

fn in_memory(numbers: std::ops::Range<u64>) -> CodeStore {
    stored(CodeStore::over(Arc::new(MemoryStore::new(1 << 20))), numbers)
}

#[test]
fn order_and_costs_are_those_from_before_the_restart() {
    let folder = tempfile::tempdir().unwrap();
    let options = DirectoryOptions::new("warm").dir(folder.path());
    let before = Process::with_room_for(8);
    for number in 0..10 {
        before.fill(number, 1000 + number);
    }
    drop(before.cache.get(&4, &before.stream).unwrap().unwrap());
    let code = stored(CodeStore::open(&options), 0..10);
    WarmSet::of(&before.cache, fingerprint).save(&code, NAME).unwrap();
    drop(code);
    let after = Process::with_room_for(8);
    let refilled = after.refill(&CodeStore::open(&options));
    assert_eq!((refilled.filled, refilled.absent, refilled.no_room, refilled.stopped), (8, 0, 0, false));
    assert_eq!(after.cache.keys(), [2, 3, 5, 6, 7, 8, 9, 4]);
    assert_eq!(after.cache.snapshot(), before.cache.snapshot());
    after.check_contents();
}

#[test]
fn a_smaller_cache_gets_the_hottest_and_evicts_nothing() {
    let code = in_memory(0..10);
    let before = Process::with_room_for(10);
    (0..10).for_each(|number| before.fill(number, 1));
    WarmSet::of(&before.cache, fingerprint).save(&code, NAME).unwrap();
    let after = Process::with_room_for(5);
    after.fill(500, 1);
    let refilled = after.refill(&code);
    assert_eq!((refilled.filled, refilled.no_room), (4, 6));
    assert_eq!(after.cache.keys(), [500, 6, 7, 8, 9]);
    assert_eq!(after.cache.stats().evictions, 0);
}

#[test]
fn what_is_present_unknown_or_gone_is_left_out_and_counted() {
    let code = in_memory(3..6);
    let before = Process::with_room_for(10);
    (0..6).chain(2000..2002).for_each(|number| before.fill(number, 1));
    WarmSet::of(&before.cache, |number| fingerprint(number).filter(|_| *number != 5)).save(&code, NAME).unwrap();
    let after = Process::with_room_for(10);
    after.fill(3, 1);
    let refilled = after.refill(&code);
    assert_eq!((refilled.filled, refilled.present, refilled.absent, refilled.unknown), (1, 1, 3, 2));
    assert_eq!(after.cache.keys(), [3, 4]);
    // Again: what is there stays as it is.
    let again = after.refill(&code);
    assert_eq!((again.filled, again.present), (0, 2));
}

#[test]
fn a_set_that_is_absent_or_damaged_is_a_miss() {
    let code = in_memory(0..1);
    assert_eq!(WarmSet::load(&code, NAME), Err(Miss::Absent));
    let before = Process::with_room_for(2);
    before.fill(0, 1);
    let set = WarmSet::of(&before.cache, fingerprint);
    set.save(&code, NAME).unwrap();
    assert_eq!(WarmSet::load(&code, NAME).as_ref(), Ok(&set));
    assert_eq!(WarmSet::load(&code, "another"), Err(Miss::Absent));
    let place = code.entries().last().unwrap().key;
    for bytes in [&b""[..], &[2], &[1, 7]] {
        code.put(&place, &Meta::default(), bytes).unwrap();
        assert!(matches!(WarmSet::load(&code, NAME), Err(Miss::Damaged(_))));
    }
    WarmSet::default().save(&code, NAME).unwrap();
    assert_eq!(before.refill(&code), hapax::Refilled::default());
}

#[test]
fn a_refill_in_the_background_lets_others_in_and_stays_within_the_budget() {
    let code = Arc::new(in_memory(0..200));
    let before = Process::with_room_for(200);
    (0..200).for_each(|number| before.fill(number, 1));
    let set = WarmSet::of(&before.cache, fingerprint);
    let after = Process::with_room_for(100);
    let refilling = set.refill_in_background(after.cache.clone(), code, Kind::CODE, number).unwrap();
    for number in 300..330 {
        after.fill(number, 1);
        assert!(after.cache.stats().resident_bytes <= 100 * GRANULE);
    }
    let refilled = refilling.wait().unwrap();
    after.cache.validate();
    assert!((70..=100).contains(&refilled.filled), "{refilled:?}");
    assert_eq!(refilled.filled + refilled.no_room, 200);
    after.check_contents();
    assert!(after.cache.contains(&199), "the hottest is in");
}

/// A store that lets others use the cache at its first lookup.
struct Intruded {
    store: MemoryStore,
    intrude: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Store for Intruded {
    fn get(&self, key: &Key) -> Result<Record, Miss> {
        let intrude = self.intrude.lock().unwrap().take();
        if let Some(intrude) = intrude {
            intrude();
        }
        self.store.get(key)
    }

    fn put(&self, key: &Key, meta: &Meta, payload: &[u8]) -> Result<(), Refusal> {
        self.store.put(key, meta, payload)
    }

    fn entries(&self) -> Vec<StoredEntry> {
        self.store.entries()
    }

    fn sync(&self) -> Result<(), Refusal> {
        self.store.sync()
    }

    fn clear(&self) -> Result<(), Refusal> {
        self.store.clear()
    }

    fn gc(&self) -> Result<Collected, Refusal> {
        self.store.gc()
    }

    fn stats(&self) -> StoreStats {
        self.store.stats()
    }
}

#[test]
fn what_others_put_in_meanwhile_is_not_evicted_the_coldest_stay_out_instead() {
    let before = Process::with_room_for(200);
    (0..200).for_each(|number| before.fill(number, 1));
    let set = WarmSet::of(&before.cache, fingerprint);
    let after = Arc::new(Process::with_room_for(100));
    let others = after.clone();
    let intrude = move || (300..330).for_each(|number| others.fill(number, 1));
    let store = Intruded { store: MemoryStore::new(1 << 20), intrude: Mutex::new(Some(Box::new(intrude))) };
    let code = stored(CodeStore::over(Arc::new(store)), 0..200);
    let refilled = set.refill(&after.cache, &code, Kind::CODE, &after.stream, number).unwrap();
    after.cache.validate();
    // One was on its way in already: the 30 others of the 100 coldest chosen make the room.
    assert_eq!((refilled.filled, refilled.no_room, after.cache.stats().evictions), (70, 130, 0));
    let expected: Vec<u64> = (300..330).chain([100]).chain(131..200).collect();
    assert_eq!(after.cache.keys(), expected);
}

#[test]
fn dropping_a_refill_stops_it_and_waits_for_its_thread() {
    let code = Arc::new(in_memory(0..100));
    let before = Process::with_room_for(100);
    (0..100).for_each(|number| before.fill(number, 1));
    let set = WarmSet::of(&before.cache, fingerprint);
    let after = Process::with_room_for(100);
    let (reached, at) = mpsc::channel();
    let (go_on, waiting) = mpsc::channel::<()>();
    let refilling = set
        .refill_in_background(after.cache.clone(), code, Kind::CODE, move |fingerprint| {
            reached.send(()).unwrap();
            // Held at each, until the test lets it go on.
            let _ = waiting.recv();
            number(fingerprint)
        })
        .unwrap();
    at.recv().unwrap();
    assert!(!refilling.is_finished());
    let dropping = std::thread::spawn(move || drop(refilling));
    let mut wait = Duration::from_millis(1);
    while !dropping.is_finished() {
        // It must be asked to stop while it is held. Each time it has longer for that: a minute and a half in all, if need be.
        std::thread::sleep(wait);
        let _ = go_on.send(());
        wait = (wait * 2).min(Duration::from_secs(1));
    }
    dropping.join().unwrap();
    assert_eq!(Arc::strong_count(&after.cache), 1, "the thread is gone");
    assert!(after.cache.stats().entries < 100, "it was stopped on its way");
}

#[test]
fn a_refill_never_waits_for_a_filler() {
    let code = in_memory(0..3);
    let before = Process::with_room_for(3);
    (0..3).for_each(|number| before.fill(number, 1));
    WarmSet::of(&before.cache, fingerprint).save(&code, NAME).unwrap();
    let after = Process::with_room_for(3);
    let Lookup::Miss(open) = after.cache.lookup(&1, &after.stream).unwrap() else { panic!("a new cache is empty") };
    let refilled = after.refill(&code);
    assert_eq!((refilled.filled, refilled.present), (2, 1));
    drop(open);
}
