//! Filling a cache whose evictions are still in use: live memory stays within the budget all the same.

use crate::Rig;
use crate::device::Seen;
use hapax::{CacheOptions, Error, HeapOptions, Lookup, VramCache};

const BUDGET_BYTES: u64 = 64;

fn options(budget_bytes: u64) -> CacheOptions {
    CacheOptions::new(budget_bytes).mode(crate::mode(module_path!()))
}

/// Fills `key` on stream a and leaves a kernel behind that reads the entry. What it will see comes back.
fn fill_and_use(rig: &Rig, cache: &VramCache<u32, [u8]>, key: u32, bytes: usize) -> Seen {
    let Lookup::Miss(vacancy) = cache.lookup(&key, &rig.a).unwrap() else { panic!("key {key} is new") };
    let filled = vacancy.fill_from(&vec![key as u8; bytes]).unwrap();
    assert!(filled.evicted.is_empty(), "freed already");
    rig.late.reads(&rig.a, filled.lease.view().device_address(), bytes)
}

#[test]
fn fill_from_keeps_live_and_freeing_bytes_within_the_budget() {
    let rig = Rig::new(1024);
    let cache = VramCache::with_options(&rig.heap, options(BUDGET_BYTES)).unwrap();
    let sizes = [16, 16, 16, 16, 40, 7, 64, 1, 33, 30, 64, 13, 13, 13, 13, 13];
    let mut kernels = Vec::new();
    for (key, &bytes) in (0..).zip(&sizes) {
        kernels.push((key, bytes, fill_and_use(&rig, &cache, key, bytes)));
        let ledger = rig.heap.ledger();
        assert!(ledger.live_bytes + ledger.freeing_bytes <= BUDGET_BYTES, "{ledger:?}");
        assert_eq!(ledger.live_bytes, cache.stats().resident_bytes);
    }
    // The peak has seen what happened within the calls, too.
    assert_eq!(rig.heap.ledger().peak_bytes, BUDGET_BYTES);
    rig.late.run_all();
    for (key, bytes, seen) in kernels {
        assert_eq!(
            seen.try_recv().unwrap(),
            vec![key as u8; bytes],
            "entry {key} was overwritten before its kernel ran"
        );
    }
}

#[test]
fn fill_from_waits_for_nobody_while_nothing_is_freed() {
    let rig = Rig::new(1024);
    let cache = VramCache::with_options(&rig.heap, options(BUDGET_BYTES)).unwrap();
    let _kernels = [1, 2, 3].map(|key| fill_and_use(&rig, &cache, key, 20));
    assert_eq!(rig.late.pending(), 3);
}

#[test]
fn fill_from_evicts_once_more_when_fragments_leave_no_room() {
    let rig = Rig::with(HeapOptions::new(BUDGET_BYTES).granule_bytes(1).slab_bytes(BUDGET_BYTES));
    let cache = VramCache::with_options(&rig.heap, options(BUDGET_BYTES)).unwrap();
    for key in 0..8 {
        drop(fill_and_use(&rig, &cache, key, 8));
    }
    // The second is kept, so that what the first round frees lies on both sides of it.
    rig.late.run_all();
    let held = cache.get(&1, &rig.b).unwrap().unwrap();
    drop(fill_and_use(&rig, &cache, 100, 16));
    assert_eq!((cache.stats().evictions, cache.contains(&1), cache.stats().resident_bytes), (4, true, 64 - 16));
    cache.validate();
    rig.heap.validate();
    drop(held);
    rig.late.run_all();
}

#[test]
fn fill_from_gives_up_with_figures_when_another_user_of_the_heap_holds_the_memory() {
    let rig = Rig::new(BUDGET_BYTES);
    let cache: VramCache<u32, [u8]> = VramCache::with_options(&rig.heap, options(BUDGET_BYTES)).unwrap();
    drop(fill_and_use(&rig, &cache, 1, 10));
    let other = rig.ready(&[0xEE; 50]);
    let Lookup::Miss(vacancy) = cache.lookup(&2, &rig.a).unwrap() else { panic!("the key is new") };
    let refused = vacancy.fill_from(&[2; 20]).unwrap_err();
    let expected = Error::OutOfMemory {
        need_bytes: 20,
        free_bytes: 14,
        largest_free_bytes: 10,
        freeing_bytes: 0,
        limit_bytes: BUDGET_BYTES,
        device_refused: false,
    };
    assert_eq!(*refused.error, expected);
    assert_eq!(
        (cache.stats().reserved_bytes, cache.stats().evictions),
        (0, 1),
        "the second round took the other entry"
    );
    drop(other);
    let filled = refused.handle.fill_from(&[2; 20]).expect("the vacancy came back");
    assert_eq!(filled.lease.len(), 20);
}

#[test]
fn evictions_that_are_dropped_are_parked_until_their_streams_pass() {
    let rig = Rig::new(1024);
    let cache = VramCache::with_options(&rig.heap, options(BUDGET_BYTES)).unwrap();
    let seen = fill_and_use(&rig, &cache, 1, 64);
    drop(cache.insert(2, rig.ready(&[2; 64])).unwrap());
    assert_eq!(rig.freeing_bytes(), 64);
    assert_eq!(rig.heap.settle().unwrap(), 64);
    assert_eq!(seen.try_recv().unwrap(), [1; 64]);
}

#[test]
fn a_dropped_cache_parks_what_is_in_use_and_frees_the_rest() {
    let rig = Rig::new(1024);
    let cache = VramCache::with_options(&rig.heap, options(BUDGET_BYTES)).unwrap();
    let seen = fill_and_use(&rig, &cache, 1, 20);
    cache.insert(2, rig.ready(&[2; 20])).unwrap().free_all().unwrap();
    drop(cache);
    assert_eq!((rig.freeing_bytes(), rig.heap.ledger().live_bytes), (20, 0));
    rig.late.run_stream(&rig.a);
    assert_eq!(seen.try_recv().unwrap(), [1; 20]);
    rig.heap.settle().unwrap();
    assert_eq!(rig.freeing_bytes(), 0);
}

#[test]
fn a_fill_that_evicts_nothing_waits_for_nobody() {
    let rig = Rig::new(BUDGET_BYTES);
    let cache: VramCache<u32, [u8]> = VramCache::with_options(&rig.heap, options(BUDGET_BYTES)).unwrap();
    let unrelated = rig.ready(&[7; 4]);
    let _ = unrelated.on(&rig.b).unwrap();
    let ran = rig.late.stands(&rig.b);
    drop(unrelated);
    let Lookup::Miss(vacancy) = cache.lookup(&1, &rig.a).unwrap() else { panic!("the key is new") };
    drop(vacancy.fill_from(&[1, 2, 3]).unwrap());
    assert!(ran.try_recv().is_err(), "the fill waited for the other stream");
}

#[test]
fn a_filler_cannot_return_a_lease_for_another_stream() {
    let rig = Rig::new(BUDGET_BYTES);
    let cache: VramCache<u32, [u8]> = VramCache::with_options(&rig.heap, options(BUDGET_BYTES)).unwrap();
    let swapped = cache.get_or_try_insert_with(&1, &rig.a, |vacancy| -> Result<_, Error> {
        drop(vacancy);
        match cache.lookup(&1, &rig.b)? {
            Lookup::Miss(vacancy) => Ok(vacancy.fill_from(&[1])?),
            Lookup::Hit(_) => unreachable!("the key is new"),
        }
    });
    assert_eq!(swapped.unwrap_err(), Error::ForeignFill);
}
