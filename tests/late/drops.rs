//! A drop makes no driver call and waits for nothing, whatever is dropped and in whatever state; neither does `free`.

use crate::{Late, Rig, lend};
use hapax::{DevBox, Evictions, Freed, Landed, Lookup, OrRelease, VramCache};
use std::sync::Arc;

type Bytes = VramCache<u8, [u8]>;

/// Drops the value, here and on another thread, with work pending everywhere.
fn dropped_without_a_call<T: Send>(late: &Late, what: &str, mut make: impl FnMut() -> T) {
    for on_another_thread in [false, true] {
        let value = make();
        let before = (late.all_calls(), late.pending());
        if on_another_thread {
            std::thread::scope(|scope| scope.spawn(|| drop(value)).join().unwrap());
        } else {
            drop(value);
        }
        assert_eq!((late.all_calls(), late.pending()), before, "{what}, on another thread: {on_another_thread}");
    }
}

/// A handle that both streams use, with a write pending on one of them.
fn in_use(rig: &Rig) -> DevBox<[u8]> {
    let handle = rig.pending(&[1; 8], &rig.a);
    lend(&handle, &rig.b);
    rig.late.stands(&rig.b);
    handle
}

fn evicted(rig: &Rig) -> Evictions<u8, DevBox<[u8]>> {
    let cache = Bytes::new(&rig.heap, 64).unwrap();
    for key in 0..3 {
        cache.insert(key, in_use(rig)).unwrap().free_all().unwrap();
        drop(cache.get(&key, &rig.a).unwrap());
    }
    cache.clear()
}

fn upload(rig: &Rig) -> DevBox<[u8], hapax::InFlight<hapax::PageLocked<[u8]>>> {
    rig.heap.alloc_slice(8).unwrap().upload(rig.heap.page_locked_slice(8).unwrap(), &rig.a).unwrap()
}

#[test]
fn dropping_a_handle_makes_no_driver_call_in_any_state() {
    let rig = Rig::new(4096);
    let Rig { heap, a, late, .. } = &rig;
    dropped_without_a_call(late, "uninit", || heap.alloc_slice::<u8>(8).unwrap());
    dropped_without_a_call(late, "ready", || rig.ready(&[1; 8]));
    dropped_without_a_call(late, "ready, in use", || in_use(&rig));
    dropped_without_a_call(late, "uploading", || upload(&rig));
    let download = || in_use(&rig).download(heap.page_locked_slice(8).unwrap(), a).unwrap();
    dropped_without_a_call(late, "downloading", download);
    dropped_without_a_call(late, "not landed", || match upload(&rig).try_wait().unwrap() {
        Landed::NotYet(flying) => flying,
        Landed::Yes(..) => panic!("nothing ran it"),
    });
    dropped_without_a_call(late, "evicted", || evicted(&rig).next().unwrap().1);
    dropped_without_a_call(late, "page-locked", || heap.page_locked_slice::<u8>(8).unwrap());
    dropped_without_a_call(late, "returned", || {
        let staging = heap.page_locked_slice(9).unwrap();
        heap.alloc_slice::<u8>(8).unwrap().upload(staging, a).unwrap_err()
    });
    let mut lent = in_use(&rig);
    let before = late.all_calls();
    let exclusive = lent.on_mut(a).unwrap();
    let during = late.all_calls();
    drop(exclusive.split_at_mut(4).unwrap());
    assert!(before < during, "the other stream's work was waited for, on the device");
    assert_eq!(late.all_calls(), during);
}

#[test]
fn free_makes_no_driver_call_in_any_state() {
    let rig = Rig::new(4096);
    let uninit = rig.heap.alloc_slice::<u8>(8).unwrap();
    let (used, evicted, more) = (in_use(&rig), evicted(&rig).next().unwrap().1, evicted(&rig));
    let before = (rig.late.all_calls(), rig.late.pending());
    assert_eq!(uninit.free().unwrap(), Freed::Now { bytes: 8 });
    assert_eq!(used.free().unwrap(), Freed::WhenStreamsPass { bytes: 8 });
    assert_eq!(evicted.free().unwrap(), Freed::WhenStreamsPass { bytes: 8 });
    assert_eq!(more.free_all().unwrap(), Freed::WhenStreamsPass { bytes: 24 });
    assert_eq!((rig.late.all_calls(), rig.late.pending()), before);
    rig.heap.settle().unwrap();
    assert_eq!((rig.freeing_bytes(), rig.heap.ledger().live_bytes), (0, 0));
}

#[test]
fn dropping_what_belongs_to_a_cache_makes_no_driver_call() {
    let rig = Rig::new(4096);
    let Rig { heap, a, late, .. } = &rig;
    let filled = || {
        let cache = Bytes::new(heap, 64).unwrap();
        for key in 0..3 {
            cache.insert(key, in_use(&rig)).unwrap().free_all().unwrap();
        }
        cache
    };
    dropped_without_a_call(late, "evictions", || evicted(&rig));
    dropped_without_a_call(late, "cache", filled);
    let cache = Arc::new(filled());
    dropped_without_a_call(late, "owned lease", || {
        cache.get(&1, a).unwrap().unwrap().into_owned(&cache).or_release().unwrap()
    });
    dropped_without_a_call(late, "the cache's last owner", || {
        let cache = Arc::new(filled());
        cache.get(&1, a).unwrap().unwrap().into_owned(&cache).or_release().unwrap()
    });
    let lease = cache.get(&1, a).unwrap().unwrap();
    let passed = cache.get(&2, a).unwrap().unwrap();
    assert!(cache.set_budget_bytes(16).is_ok(), "the third entry goes, the two leased ones are passed");
    let Lookup::Miss(vacancy) = cache.lookup(&9, a).unwrap() else { panic!("nothing was put in") };
    let Lookup::Miss(other) = cache.lookup(&8, a).unwrap() else { panic!("nothing was put in") };
    let (reservation, _) = other.reserve(0).unwrap();
    assert!(cache.retire(&1).is_empty());
    let before = (late.all_calls(), late.pending());
    drop((lease.clone(), lease, passed, vacancy, reservation));
    drop(cache.collect_retired());
    assert_eq!((late.all_calls(), late.pending()), before);
    cache.validate();
}

#[test]
fn dropping_streams_and_shares_makes_no_driver_call() {
    let rig = Rig::new(4096);
    dropped_without_a_call(&rig.late, "stream", || {
        let stream = rig.heap.new_stream().unwrap();
        rig.late.stands(&stream);
        stream
    });
    dropped_without_a_call(&rig.late, "heap", || rig.heap.clone());
    dropped_without_a_call(&rig.late, "device", || rig.heap.device().clone());
}
