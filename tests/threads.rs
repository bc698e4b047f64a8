//! Threads of the system's on one cache, in both modes: what loom cannot have, many operations and a real heap. The checks
//! are those that hold whatever comes first.

use hapax::{CacheOptions, DevBox, Error, Heap, HeapOptions, HostDevice, Lookup, Mode, Policy, Removed, VramCache};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

type Cache = VramCache<u64, [u8]>;

const THREADS: u64 = 4;
const KEYS: u64 = 48;
/// Room for about half of the keys.
const BUDGET_BYTES: u64 = 24 * 48;

#[test]
fn each_handle_comes_out_once_and_leases_read_their_own_entry() {
    for (mode, policy) in [(Mode::Exact, Policy::Lru), (Mode::Relaxed, Policy::Lru), (Mode::Relaxed, Policy::Camp)] {
        let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20).granule_bytes(1)).unwrap();
        let cache: Cache =
            Cache::with_options(&heap, CacheOptions::new(BUDGET_BYTES).policy(policy).mode(mode)).unwrap();
        let (cache, hits, over) = (Arc::new(cache), AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let (cache, hits) = (&cache, &hits);
                    scope.spawn(move || hits.fetch_add(work(cache, thread), Relaxed))
                })
                .collect();
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    let stats = cache.stats();
                    let used = stats.resident_bytes + stats.retired_bytes + stats.reserved_bytes;
                    assert!(used <= stats.budget_bytes, "{stats:?}");
                    cache.validate();
                }
            });
            let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
            over.store(true, Relaxed);
            ended.into_iter().for_each(|ended| assert!(ended.is_ok()));
        });
        cache.validate();
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.leased_bytes, stats.reserved_bytes), (hits.into_inner(), 0, 0), "{mode:?}");
        assert_eq!(heap.ledger().live_bytes, stats.resident_bytes + stats.retired_bytes, "{mode:?}");
        for (key, handle) in Arc::into_inner(cache).unwrap().into_handles() {
            let mut contents = vec![0; handle.len()];
            handle.download_to(&mut contents).unwrap();
            assert_eq!(contents, contents_of(key));
            handle.free().unwrap();
        }
        assert_eq!(heap.ledger().live_bytes, 0, "{mode:?}");
    }
}

/// What the key's entry always holds, so that a lease of another's would show.
fn contents_of(key: u64) -> Vec<u8> {
    vec![key as u8 + 1; 16 + key as usize % 64]
}

/// Random calls; the number of hits.
fn work(cache: &Cache, thread: u64) -> u64 {
    let stream = cache.heap().new_stream().unwrap();
    let mut random = thread + 1;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut hits = 0;
    let mut held = Vec::new();
    for _ in 0..if cfg!(debug_assertions) { 20_000 } else { 200_000 } {
        let key = next(KEYS).min(next(KEYS)); // some more often than others
        match next(20) {
            0..=12 => {
                if let Some(lease) = cache.get(&key, &stream).unwrap() {
                    hits += 1;
                    assert_eq!(lease.to_vec().unwrap(), contents_of(key));
                    if next(4) == 0 {
                        held.push(lease.clone()); // beside other calls, for a while
                    }
                }
            }
            13 | 14 => match cache.lookup(&key, &stream).unwrap() {
                Lookup::Hit(lease) => {
                    hits += 1;
                    assert_eq!(lease.to_vec().unwrap(), contents_of(key));
                }
                Lookup::Miss(vacancy) => match vacancy.fill_from(&contents_of(key)) {
                    Ok(filled) => assert_eq!(filled.lease.to_vec().unwrap(), contents_of(key)),
                    Err(refused) => assert!(matches!(*refused.error, Error::NoRoom { .. }), "{}", refused.error),
                },
            },
            15..=17 => {
                let value: DevBox<[u8]> = {
                    let contents = contents_of(key);
                    cache.heap().alloc_slice(contents.len()).unwrap().upload_from(&contents).unwrap()
                };
                match cache.insert_with_cost(key, value, key * 1000) {
                    Ok(left) => drop(left.free_all().unwrap()),
                    Err(refused) => drop(refused.handle.1.free().unwrap()),
                }
            }
            18 => match cache.remove(&key) {
                Removed::Taken(of, handle) => {
                    assert_eq!(of, key);
                    handle.free().unwrap();
                }
                Removed::Absent | Removed::Leased => {}
            },
            _ => drop(cache.retire(&key).free_all().unwrap()),
        }
        if held.len() > 3 {
            held.clear();
            cache.collect_retired().free_all().unwrap();
        }
    }
    hits
}
