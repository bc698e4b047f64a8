//! The cache as a user meets it, rule by rule. The model test covers the sequences; these name the rules.

/// Host memory; or CUDA's driver, in the package `cuda-suite`, which compiles these same files.
#[allow(dead_code, unused_imports, reason = "each suite uses its part")]
mod device {
    include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/device/mod.rs"));
}

use device::watch;
use hapax::{
    Cache, CacheOptions, DevBox, Error, Evicted, Heap, HeapOptions, Lookup, Mode, Removed, Returned, Stream, TryLookup,
    VramCache,
};
use std::sync::{Arc, Barrier};
use std::time::Duration;

#[test]
fn what_was_inserted_is_found_and_a_miss_counts() {
    let _watch = watch();
    let Room { heap, stream, cache } = room(1, 100);
    assert!(cache.get(&1, &stream).unwrap().is_none());
    cache.insert(1, handle(&heap, b"abc")).unwrap().free_all().unwrap();
    assert_eq!(cache.get(&1, &stream).unwrap().unwrap().to_vec().unwrap(), b"abc");
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.entries, stats.resident_bytes), (1, 1, 1, 3));
    assert_eq!(stats.hit_rate(), 0.5);
}

/// Entries of 5, 5 and 91 evict exactly the oldest under a budget of 100; 5, 5 and 90 evict nothing.
#[test]
fn least_recently_used_goes_by_bytes_not_by_entries() {
    let _watch = watch();
    for granule in [1, 256] {
        for (last, evicted) in [(91, vec![0]), (90, vec![])] {
            let Room { heap, cache, .. } = room(granule, 100 * granule);
            let mut gone = Vec::new();
            for (key, size) in [5, 5, last].into_iter().enumerate() {
                let value = handle(&heap, &vec![key as u8; size * granule as usize]);
                let evictions = cache.insert(key as u32, value).unwrap();
                gone.extend(evictions.map(|(key, handle)| {
                    handle.free().unwrap();
                    key
                }));
            }
            assert_eq!(gone, evicted, "granule {granule}, last {last}");
            cache.validate();
        }
    }
}

#[test]
fn a_use_protects_an_entry_from_the_next_eviction() {
    let _watch = watch();
    let Room { heap, stream, cache } = room(1, 10);
    cache.insert(1, handle(&heap, &[1; 5])).unwrap().free_all().unwrap();
    cache.insert(2, handle(&heap, &[2; 5])).unwrap().free_all().unwrap();
    drop(cache.get(&1, &stream).unwrap().unwrap());
    // In relaxed mode the order hears of the use from the eviction.
    assert_eq!(cache.keys(), if MODE == Mode::Exact { [2, 1] } else { [1, 2] });
    let evicted = cache.insert(3, handle(&heap, &[3; 5])).unwrap();
    assert_eq!(evicted.map(|(key, _)| key).collect::<Vec<_>>(), [2]);
}

#[test]
fn overwriting_returns_the_old_handle_and_never_counts_twice() {
    let _watch = watch();
    let Room { heap, cache, .. } = room(1, 10);
    cache.insert(1, handle(&heap, &[1; 6])).unwrap().free_all().unwrap();
    for round in 0..5u8 {
        let mut back = cache.insert(1, handle(&heap, &[round + 2; 6])).unwrap();
        let (key, old) = back.next().expect("the old handle");
        let mut contents = [0; 6];
        old.download_to(&mut contents).unwrap();
        assert_eq!((key, contents, back.len()), (1, [round + 1; 6], 0));
        assert_eq!((cache.stats().resident_bytes, cache.stats().entries), (6, 1));
        cache.validate();
    }
    assert_eq!(cache.stats().evictions, 0, "a replaced entry is no eviction");
}

#[test]
fn an_entry_of_exactly_the_budget_fits_and_one_byte_more_comes_back() {
    let _watch = watch();
    let Room { heap, cache, .. } = room(1, 100);
    cache.insert(1, handle(&heap, &[1; 100])).unwrap().free_all().unwrap();
    let refused = cache.insert(2, handle(&heap, &[2; 101])).unwrap_err();
    assert_eq!(*refused.error, Error::Oversize { need_bytes: 101, budget_bytes: 100 });
    let (key, value) = refused.handle;
    assert_eq!((key, value.bytes()), (2, 101));
    value.free().unwrap();
    assert!(cache.contains(&1), "a refused call evicts nothing");
    assert_eq!(cache.stats().rejections, 1);
}

#[test]
fn evicting_a_leased_entry_is_refused_and_its_neighbour_goes_instead() {
    let _watch = watch();
    let Room { heap, stream, cache } = room(1, 10);
    for key in [1, 2] {
        cache.insert(key, handle(&heap, &[key as u8; 5])).unwrap().free_all().unwrap();
    }
    let one = cache.get(&1, &stream).unwrap().unwrap();
    drop(cache.get(&2, &stream).unwrap());
    let evicted = cache.insert(3, handle(&heap, &[3; 5])).unwrap();
    assert_eq!(evicted.map(|(key, _)| key).collect::<Vec<_>>(), [2], "1 is older, but leased");
    let three = cache.get(&3, &stream).unwrap().unwrap();
    let refused = cache.insert(4, handle(&heap, &[4; 5])).unwrap_err();
    assert_eq!(*refused.error, Error::NoRoom { need_bytes: 5, held_bytes: 10, budget_bytes: 10 });
    assert_eq!(one.to_vec().unwrap(), [1; 5]);
    drop((one, three));
    // Released after it was passed over, the oldest entry is still the oldest.
    let evicted = cache.insert(4, refused.handle.1).unwrap();
    assert_eq!(evicted.map(|(key, _)| key).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_leased_key_can_be_neither_replaced_nor_removed_but_retired() {
    let _watch = watch();
    let Room { heap, stream, cache } = room(1, 10);
    cache.insert(1, handle(&heap, &[1; 4])).unwrap().free_all().unwrap();
    let lease = cache.get(&1, &stream).unwrap().unwrap();
    let refused = cache.insert(1, handle(&heap, &[9; 4])).unwrap_err();
    assert_eq!(*refused.error, Error::Leased);
    assert!(matches!(cache.remove(&1), Removed::Leased));

    assert!(cache.retire(&1).is_empty(), "its lease still holds it");
    assert!(!cache.contains(&1) && cache.get(&1, &stream).unwrap().is_none());
    assert_eq!((cache.stats().retired_bytes, cache.stats().resident_bytes), (4, 0));
    cache.insert(1, refused.handle.1).unwrap().free_all().unwrap();
    assert_eq!(lease.to_vec().unwrap(), [1; 4], "the retired entry lives as long as its lease");
    assert!(cache.collect_retired().is_empty());
    drop(lease);
    // The retired one leads the next evictions.
    let out = cache.insert(2, handle(&heap, &[2; 10])).unwrap();
    let contents = |evicted: DevBox<[u8], Evicted>| {
        let mut contents = vec![0; evicted.len()];
        evicted.download_to(&mut contents).unwrap();
        contents[0]
    };
    assert_eq!(out.map(|(key, evicted)| (key, contents(evicted))).collect::<Vec<_>>(), [(1, 1), (1, 9)]);
    cache.validate();
}

#[test]
fn reserved_bytes_count_against_the_budget_until_they_are_committed_or_dropped() {
    let _watch = watch();
    let Room { heap, stream, cache } = room(1, 10);
    let Lookup::Miss(vacancy) = cache.lookup(&1, &stream).unwrap() else { panic!("nothing is resident") };
    let (reservation, evicted) = vacancy.reserve(8).unwrap();
    assert!(evicted.is_empty());
    assert_eq!(cache.stats().reserved_bytes, 8);
    let refused = cache.insert(2, handle(&heap, &[2; 3])).unwrap_err();
    assert!(refused.error.is_refusal());

    let large = heap.alloc_slice(9).unwrap().upload_from(&[1; 9]).unwrap();
    let Returned { handle: (reservation, large), error } = reservation.commit(large).unwrap_err();
    assert_eq!(*error, Error::OverReservation { charge_bytes: 9, reserved_bytes: 8 });
    large.free().unwrap();
    let lease = reservation.cost_ns(1_000).commit(handle(&heap, &[1; 5])).unwrap();
    assert_eq!(lease.len(), 5);
    let peek = cache.peek(&1).unwrap();
    assert_eq!((peek.charge_bytes, peek.cost_ns, peek.leased), (5, 1_000, true));
    assert_eq!((cache.stats().reserved_bytes, cache.stats().resident_bytes), (0, 5));
    drop(lease);
    cache.insert(2, refused.handle.1).unwrap().free_all().unwrap();

    let Lookup::Miss(vacancy) = cache.lookup(&3, &stream).unwrap() else { panic!("nothing is resident") };
    drop(vacancy.reserve(2).unwrap());
    assert_eq!(cache.stats().reserved_bytes, 0);
    cache.validate();
}

#[test]
fn the_budget_shrinks_by_evicting_and_refuses_what_leases_forbid() {
    let _watch = watch();
    let Room { heap, stream, cache } = room(1, 12);
    for key in 1..=3 {
        cache.insert(key, handle(&heap, &[key as u8; 4])).unwrap().free_all().unwrap();
    }
    let lease = cache.get(&3, &stream).unwrap().unwrap();
    assert_eq!(cache.set_budget_bytes(3).unwrap_err(), Error::BudgetHeld { budget_bytes: 3, held_bytes: 4 });
    assert_eq!(cache.keys(), [1, 2, 3], "a refused shrink changes nothing");
    let evicted = cache.set_budget_bytes(5).unwrap();
    assert_eq!(evicted.map(|(key, _)| key).collect::<Vec<_>>(), [1, 2]);
    assert!(matches!(cache.set_budget_bytes(0).unwrap_err(), Error::BadOption(_)));
    assert!(matches!(cache.set_budget_bytes(1 << 40).unwrap_err(), Error::BadOption(_)));
    drop(lease);
    cache.set_budget_bytes(100).unwrap().free_all().unwrap();
    assert_eq!(cache.stats().budget_bytes, 100);
}

#[test]
fn entries_are_bounded_beside_bytes() {
    let _watch = watch();
    let Room { heap, stream, .. } = room(1, 100);
    let cache: VramCache<u32, [u8]> = VramCache::with_options(&heap, cache_options(100).max_entries(2)).unwrap();
    for key in 0..3 {
        cache.insert(key, handle(&heap, &[key as u8])).unwrap().free_all().unwrap();
    }
    assert_eq!(cache.keys(), [1, 2]);
    let leases = (cache.get(&1, &stream).unwrap(), cache.get(&2, &stream).unwrap());
    let refused = cache.insert(3, handle(&heap, &[3])).unwrap_err();
    assert_eq!(*refused.error, Error::NoEntry { max_entries: 2 });
    drop(leases);
    cache.validate();
    let none = CacheOptions::new(100).max_entries(0);
    assert!(matches!(VramCache::<u32, [u8]>::with_options(&heap, none), Err(Error::BadOption(_))));
}

#[test]
fn clear_hides_everything_and_hands_out_what_is_free() {
    let _watch = watch();
    let Room { heap, stream, cache } = room(1, 10);
    for key in 1..=3 {
        cache.insert(key, handle(&heap, &[key as u8; 2])).unwrap().free_all().unwrap();
    }
    let lease = cache.get(&2, &stream).unwrap().unwrap();
    let out = cache.clear();
    assert_eq!(out.map(|(key, _)| key).collect::<Vec<_>>(), [1, 3]);
    assert!(cache.keys().is_empty());
    drop(lease);
    assert_eq!(cache.collect_retired().map(|(key, _)| key).collect::<Vec<_>>(), [2]);
    assert_eq!(cache.stats().retired_bytes, 0);
}

#[test]
fn a_bundle_lives_and_dies_together() {
    let _watch = watch();
    let Room { heap, stream, .. } = room(256, 4096);
    let cache: Cache<u32, (DevBox<[u8]>, DevBox<[u32]>, DevBox<u64>)> =
        Cache::with_options(&heap, cache_options(1024)).unwrap();
    let bundle = |tag: u8| {
        let table = heap.alloc_slice::<u32>(2).unwrap().upload_from(&[tag.into(), 7]).unwrap();
        let size = heap.alloc::<u64>().unwrap().upload_from(&99).unwrap();
        (handle(&heap, &[tag; 3]), table, size)
    };
    cache.insert(1, bundle(1)).unwrap().free_all().unwrap();
    assert_eq!(cache.stats().resident_bytes, 3 * 256);
    let lease = cache.get(&1, &stream).unwrap().unwrap();
    let (code, table, size) = lease.view();
    let (mut code_bytes, mut table_back, mut size_back) = ([0; 3], [0; 2], 0);
    code.download_to(&mut code_bytes).unwrap();
    table.download_to(&mut table_back).unwrap();
    size.download_to(&mut size_back).unwrap();
    assert_eq!((code_bytes, table_back, size_back), ([1; 3], [1, 7], 99));
    drop(lease);
    let evicted = cache.insert(2, bundle(2)).unwrap();
    assert_eq!(evicted.len(), 1);
    assert_eq!(evicted.free_all().unwrap().bytes(), 3 * 256);
    assert_eq!(heap.ledger().live_blocks, 3);
}

#[test]
fn handles_of_another_heap_and_streams_of_another_device_are_refused() {
    let _watch = watch();
    let Room { heap, stream, cache } = room(1, 100);
    let other = room(1, 100);
    let refused = cache.insert(1, handle(&other.heap, b"abc")).unwrap_err();
    assert_eq!(*refused.error, Error::WrongHeap);
    assert_eq!(refused.handle.1.len(), 3);
    assert_eq!(cache.get(&1, &other.stream).unwrap_err(), Error::WrongDevice);
    let Lookup::Miss(vacancy) = cache.lookup(&1, &stream).unwrap() else { panic!("nothing is resident") };
    let (reservation, _) = vacancy.reserve(3).unwrap();
    let refused = reservation.commit(handle(&other.heap, b"abc")).unwrap_err();
    assert_eq!(*refused.error, Error::WrongHeap);
    drop(refused);
    let lease = other.cache.lookup(&1, &other.stream).unwrap();
    let Lookup::Miss(vacancy) = lease else { panic!("nothing is resident") };
    let lease = vacancy.fill_from(b"abc").unwrap().lease;
    let shared = Arc::new(room(1, 100).cache);
    assert_eq!(*lease.into_owned(&shared).unwrap_err().error, Error::WrongCache);
    assert!(matches!(VramCache::<u32, [u8]>::new(&heap, 0), Err(Error::BadOption(_))));
    assert!(matches!(VramCache::<u32, [u8]>::new(&heap, u64::MAX), Err(Error::BadOption(_))));
}

#[test]
fn a_filler_that_fails_gives_its_vacancy_and_its_bytes_to_the_next() {
    let _watch = watch();
    let Room { stream, cache, .. } = room(1, 10);
    let failed = cache.get_or_try_insert_with(&1, &stream, |vacancy| {
        let (_reservation, _) = vacancy.reserve(8)?;
        Err(Error::DeviceLost)
    });
    assert_eq!(failed.unwrap_err(), Error::DeviceLost);
    assert_eq!(cache.stats().reserved_bytes, 0);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        cache.get_or_try_insert_with(&1, &stream, |vacancy| -> Result<_, Error> {
            let (_reservation, _) = vacancy.reserve(8)?;
            panic!("the compiler crashed");
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(cache.stats().reserved_bytes, 0);
    let filled = cache.get_or_try_insert_with(&1, &stream, |vacancy| Ok::<_, Error>(vacancy.fill_from(&[1; 10])?));
    assert_eq!(filled.unwrap().lease.len(), 10);
    cache.validate();
}

#[test]
fn a_filler_cannot_pass_off_another_entry() {
    let _watch = watch();
    let Room { stream, cache, .. } = room(1, 10);
    let swapped = cache.get_or_try_insert_with(&1, &stream, |vacancy| {
        drop(vacancy);
        cache.get_or_try_insert_with(&2, &stream, |vacancy| Ok::<_, Error>(vacancy.fill_from(b"two")?))
    });
    assert_eq!(swapped.unwrap_err(), Error::ForeignFill);
    assert!(cache.contains(&2) && !cache.contains(&1));
}

#[test]
fn a_thread_never_waits_for_itself() {
    let _watch = watch();
    let Room { heap, stream, cache } = room(1, 10);
    let Lookup::Miss(vacancy) = cache.lookup(&1, &stream).unwrap() else { panic!("nothing is resident") };
    assert_eq!(cache.lookup(&1, &stream).map(drop).unwrap_err(), Error::WouldDeadlock);
    assert!(matches!(cache.lookup_for(&1, &stream, Duration::from_secs(60)), Err(Error::WouldDeadlock)));
    assert!(matches!(cache.try_lookup(&1, &stream).unwrap(), TryLookup::Busy));
    assert!(cache.get(&1, &stream).unwrap().is_none(), "being filled is not resident");
    let refused = cache.insert(1, handle(&heap, b"x")).unwrap_err();
    assert_eq!(*refused.error, Error::BeingFilled);
    assert!(matches!(cache.remove(&1), Removed::Absent));
    assert!(cache.retire(&1).is_empty());
    drop(vacancy.fill_from(b"abc").unwrap());
    assert!(cache.contains(&1));
}

/// Two threads each fill one key and look the other's up: one of them is told, none waits for ever.
#[test]
fn a_cycle_of_fillers_over_two_caches_is_refused_once() {
    let _watch = watch();
    let (left, right) = (room(1, 10), room(1, 10));
    let barrier = Barrier::new(2);
    let fill = |mine: &Room, other: &Room| {
        let Lookup::Miss(vacancy) = mine.cache.lookup(&1, &mine.stream).unwrap() else { panic!("mine to fill") };
        barrier.wait();
        let refused = matches!(other.cache.lookup(&1, &other.stream), Err(Error::WouldDeadlock));
        drop(vacancy.fill_from(b"abc").unwrap());
        refused
    };
    let refused = std::thread::scope(|scope| {
        let one = scope.spawn(|| fill(&left, &right));
        let two = scope.spawn(|| fill(&right, &left));
        u8::from(one.join().unwrap()) + u8::from(two.join().unwrap())
    });
    assert_eq!(refused, 1);
}

#[test]
fn one_thread_fills_and_the_others_hit() {
    let _watch = watch();
    let Room { stream, cache, .. } = room(1, 10);
    let fills = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let filled = cache.get_or_try_insert_with(&1, &stream, |vacancy| {
                    fills.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    std::thread::sleep(std::time::Duration::from_millis(2));
                    Ok::<_, Error>(vacancy.fill_from(b"once")?)
                });
                assert_eq!(filled.unwrap().lease.to_vec().unwrap(), b"once");
            });
        }
    });
    assert_eq!(fills.into_inner(), 1);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.fill_ns.count), (7, 1, 1));
    assert!(stats.fill_ns.p50 > 0 && stats.fill_ns.p50 <= stats.fill_ns.max);
    assert!(cache.peek(&1).unwrap().cost_ns >= 1_990_000, "measured from the miss to the commit, if not given");
}

#[test]
fn peeking_is_no_use() {
    let _watch = watch();
    let Room { heap, cache, .. } = room(1, 10);
    for key in 1..=2 {
        let cost = u64::from(key) * 10;
        cache.insert_with_cost(key, handle(&heap, &[0; 4]), cost).unwrap().free_all().unwrap();
    }
    assert!(cache.contains(&1) && cache.peek(&1).is_some_and(|peek| peek.cost_ns == 10 && !peek.leased));
    let order: Vec<_> = cache.snapshot().into_iter().map(|row| (row.key, row.charge_bytes, row.cost_ns)).collect();
    assert_eq!(order, [(1, 4, 10), (2, 4, 20)]);
    assert_eq!((cache.stats().hits, cache.stats().misses), (0, 0));
}

#[test]
fn the_last_owned_lease_ends_the_cache_and_nothing_stays_allocated() {
    let _watch = watch();
    let Room { heap, stream, cache } = room(1, 10);
    let cache = Arc::new(cache);
    cache.insert(1, handle(&heap, &[1; 4])).unwrap().free_all().unwrap();
    let lease = cache.get(&1, &stream).unwrap().unwrap().into_owned(&cache).unwrap();
    let copy = lease.clone();
    drop((cache, stream, lease));
    std::thread::spawn(move || assert_eq!(copy.to_vec().unwrap(), [1; 4])).join().unwrap();
    assert_eq!(heap.ledger().live_bytes, 0);
    heap.close().unwrap();
}

#[test]
fn into_handles_hands_out_everything_next_victim_first() {
    let _watch = watch();
    let Room { heap, stream, cache } = room(1, 10);
    for key in 1..=3 {
        cache.insert(key, handle(&heap, &[key as u8; 2])).unwrap().free_all().unwrap();
    }
    drop(cache.get(&1, &stream).unwrap());
    let out = cache.into_handles();
    let order = if MODE == Mode::Exact { [2, 3, 1] } else { [1, 2, 3] };
    assert_eq!(out.map(|(key, _)| key).collect::<Vec<_>>(), order);
    assert_eq!(heap.ledger().live_bytes, 0);
}

/// Panics on demand wherever a cache runs its key's code, and counts how often it is compared.
#[derive(Debug)]
struct Touchy(u32);

thread_local! {
    static PANICS: std::cell::Cell<&'static str> = const { std::cell::Cell::new("nowhere") };
    static COMPARED: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

fn panic_in(place: &'static str) {
    if PANICS.get() == place {
        PANICS.set("nowhere"); // once
        panic!("a key panics in {place}");
    }
}

impl PartialEq for Touchy {
    fn eq(&self, other: &Self) -> bool {
        panic_in("eq");
        COMPARED.set(COMPARED.get() + 1);
        self.0 == other.0
    }
}

impl Eq for Touchy {}

impl std::hash::Hash for Touchy {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        panic_in("hash");
        self.0.hash(state);
    }
}

impl Drop for Touchy {
    fn drop(&mut self) {
        panic_in("drop");
    }
}

fn panics(place: &'static str, work: impl FnOnce()) {
    PANICS.set(place);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    assert!(caught.is_err(), "nothing panicked in {place}");
    PANICS.set("nowhere");
}

#[test]
fn a_key_that_panics_loses_no_handle_and_breaks_nothing() {
    let _watch = watch();
    let Room { heap, stream, .. } = room(1, 100);
    let cache: VramCache<Touchy, [u8]> = VramCache::with_options(&heap, cache_options(100)).unwrap();
    for key in 1..=4 {
        cache.insert(Touchy(key), handle(&heap, b"a")).unwrap().free_all().unwrap();
    }
    for place in ["hash", "eq"] {
        panics(place, || drop(cache.get(&Touchy(1), &stream)));
        let value = handle(&heap, b"b");
        panics(place, || drop(cache.insert(Touchy(1), value)));
        assert_eq!((cache.stats().entries, heap.ledger().live_blocks), (4, 4), "{place}");
        cache.validate();
    }
    let all = cache.into_handles();
    panics("drop", || drop(all));
    assert_eq!(heap.ledger().live_blocks, 0, "the other entries were given up");
}

#[test]
fn a_lookup_compares_hardly_any_key_but_its_own() {
    let _watch = watch();
    let Room { heap, stream, .. } = room(1, 1);
    let cache: VramCache<Touchy, [u8]> = VramCache::new(&heap, 1000).unwrap();
    for key in 0..1000 {
        cache.insert(Touchy(key), handle(&heap, b"a")).unwrap().free_all().unwrap();
    }
    COMPARED.set(0);
    assert!((0..1000).all(|key| cache.get(&Touchy(key), &stream).unwrap().is_some()));
    assert!(COMPARED.get() < 2000, "{} comparisons", COMPARED.get());
}

/// A leak that is counted: the forgotten lease's entry survives the cache and is reported by the heap.
#[test]
fn a_forgotten_lease_keeps_its_entry_and_is_reported() {
    let _watch = watch().leaks_on_purpose();
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let listener = told.clone();
    let options = HeapOptions::new(1 << 16).granule_bytes(1);
    let options = options.on_leak(move |report| listener.lock().unwrap().push(report.to_string()));
    let heap = Heap::new(device::open(), options).unwrap();
    let stream = heap.new_stream().unwrap();
    let cache: VramCache<u32, [u8]> = VramCache::with_options(&heap, cache_options(10)).unwrap();
    let line = line!() + 1;
    cache.insert(1, heap.alloc_slice(4).unwrap().upload_from(&[1; 4]).unwrap()).unwrap().free_all().unwrap();
    cache.insert(2, handle(&heap, &[2; 4])).unwrap().free_all().unwrap();
    std::mem::forget(cache.get(&1, &stream).unwrap());
    assert!(matches!(cache.remove(&1), Removed::Leased));
    assert_eq!(cache.into_handles().map(|(key, _)| key).collect::<Vec<_>>(), [2]);
    assert_eq!(heap.ledger().live_bytes, 4);
    drop((heap, stream));
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 1);
    assert!(told[0].contains(&format!("{}:{line}:", file!())) && told[0].contains("4 bytes"), "{}", told[0]);
}

fn handle(heap: &Heap, contents: &[u8]) -> DevBox<[u8]> {
    heap.alloc_slice(contents.len()).unwrap().upload_from(contents).unwrap()
}

struct Room {
    cache: VramCache<u32, [u8]>,
    stream: Stream,
    heap: Heap,
}

/// `cache_relaxed.rs` has all of this as a module of that name.
const MODE: Mode = if matches!(module_path!().as_bytes(), [.., b'r', b'e', b'l', b'a', b'x', b'e', b'd']) {
    Mode::Relaxed
} else {
    Mode::Exact
};

fn cache_options(budget_bytes: u64) -> CacheOptions {
    CacheOptions::new(budget_bytes).mode(MODE)
}

/// A cache on a heap of its own, which is large enough for fragments.
fn room(granule_bytes: u64, budget_bytes: u64) -> Room {
    let options = HeapOptions::new(1 << 20).granule_bytes(granule_bytes);
    let heap = Heap::new(device::open(), options).unwrap();
    let stream = heap.new_stream().unwrap();
    Room { cache: VramCache::with_options(&heap, cache_options(budget_bytes)).unwrap(), stream, heap }
}
