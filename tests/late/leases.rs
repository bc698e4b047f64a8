//! A lease is bound to its stream: ordered behind pending writes when it is taken, noted for as long as it takes.

use crate::Rig;
use hapax::{Cache, CacheOptions, DevBox, Error, Freed, Lookup, OwnedLease, VramCache};
use std::sync::Arc;

type Bytes = VramCache<u8, [u8]>;

fn options(budget_bytes: u64) -> CacheOptions {
    CacheOptions::new(budget_bytes).mode(crate::mode(module_path!()))
}

fn cache(rig: &Rig, budget_bytes: u64) -> Bytes {
    Bytes::with_options(&rig.heap, options(budget_bytes)).unwrap()
}

#[test]
fn a_lease_runs_behind_an_upload_that_is_pending_on_another_stream() {
    let rig = Rig::new(64);
    let cache = cache(&rig, 64);
    cache.insert(1, rig.pending(b"hit", &rig.a)).unwrap().free_all().unwrap();
    cache.insert(2, rig.pending(b"look", &rig.a)).unwrap().free_all().unwrap();
    let got = cache.get(&1, &rig.b).unwrap().unwrap();
    let seen = rig.late.reads(&rig.b, got.view().device_address(), 3);
    let Lookup::Hit(found) = cache.lookup(&2, &rig.b).unwrap() else { panic!("it was put in") };
    let seen_too = rig.late.reads(&rig.b, found.view().device_address(), 4);
    drop((got, found)); // the kernels were launched
    rig.late.run_stream(&rig.b);
    assert_eq!((seen.try_recv().unwrap(), seen_too.try_recv().unwrap()), (b"hit".to_vec(), b"look".to_vec()));
}

#[test]
fn the_filler_s_own_lease_runs_behind_an_upload_that_is_pending_on_another_stream() {
    let rig = Rig::new(64);
    let cache = cache(&rig, 64);
    let Lookup::Miss(vacancy) = cache.lookup(&1, &rig.b).unwrap() else { panic!("nothing was put in") };
    let (reservation, evicted) = vacancy.reserve(4).unwrap();
    assert!(evicted.is_empty());
    let lease = reservation.commit(rig.pending(b"made", &rig.a)).unwrap();
    let seen = rig.late.reads(&rig.b, lease.view().device_address(), 4);
    rig.late.run_stream(&rig.b);
    assert_eq!(seen.try_recv().unwrap(), b"made");
}

#[test]
fn a_refused_commit_leaves_no_trace_on_the_value() {
    let rig = Rig::new(64);
    let cache = cache(&rig, 64);
    let Lookup::Miss(vacancy) = cache.lookup(&1, &rig.b).unwrap() else { panic!("nothing was put in") };
    let (reservation, _) = vacancy.reserve(3).unwrap();
    let (settled, pending) = (rig.ready(b"four"), rig.pending(b"late", &rig.a));
    let calls = rig.late.calls();
    let refused = reservation.commit(settled).unwrap_err();
    assert_eq!(*refused.error, Error::OverReservation { charge_bytes: 4, reserved_bytes: 3 });
    let (reservation, settled) = refused.handle;
    let (reservation, pending) = reservation.commit(pending).unwrap_err().handle;
    assert_eq!(rig.late.calls(), calls);
    assert_eq!(settled.free().unwrap(), Freed::Now { bytes: 4 });
    assert_eq!(reservation.reserved_bytes(), 3);
    assert_eq!(crate::contents(&pending), b"late");
}

#[test]
fn every_part_of_a_bundle_is_ordered() {
    let rig = Rig::new(64);
    let cache: Cache<u8, (DevBox<[u8]>, DevBox<[u8]>)> = Cache::with_options(&rig.heap, options(64)).unwrap();
    let parts = (rig.pending(b"code", &rig.a), rig.pending(b"data", &rig.b));
    cache.insert(1, parts).unwrap().free_all().unwrap();
    let third = rig.heap.new_stream().unwrap();
    let lease = cache.get(&1, &third).unwrap().unwrap();
    let (code, data) = lease.view();
    let seen = [code, data].map(|view| rig.late.reads(&third, view.device_address(), 4));
    rig.late.run_stream(&third);
    assert_eq!(seen.map(|seen| seen.try_recv().unwrap()), [*b"code", *b"data"]);
}

#[test]
fn evicted_memory_is_not_used_again_while_a_kernel_on_a_leased_stream_is_pending() {
    let rig = Rig::new(16);
    let cache = cache(&rig, 16);
    cache.insert(1, rig.ready(&[1; 16])).unwrap().free_all().unwrap();
    let lease = cache.get(&1, &rig.a).unwrap().unwrap();
    let address = lease.view().device_address();
    let seen = rig.late.reads(&rig.a, address, 16);
    drop(lease); // long before the kernel runs
    let evicted = cache.set_budget_bytes(1).unwrap();
    assert_eq!(evicted.free_all().unwrap(), Freed::WhenStreamsPass { bytes: 16 });
    cache.set_budget_bytes(16).unwrap().free_all().unwrap();
    let refused = rig.heap.alloc_slice::<u8>(16).unwrap_err();
    assert!(matches!(refused, Error::OutOfMemory { freeing_bytes: 16, free_bytes: 0, .. }), "{refused:?}");
    rig.late.run_stream(&rig.a);
    let next = rig.ready(&[2; 16]);
    assert_eq!(rig.late.read(address, 16), [2; 16], "the same memory");
    assert_eq!(seen.try_recv().unwrap(), [1; 16]);
    drop(next);
}

#[test]
fn a_lease_notes_its_stream_when_it_is_taken_and_its_clones_share_the_note() {
    let rig = Rig::new(16);
    let cache = cache(&rig, 16);
    cache.insert(1, rig.ready(&[1; 16])).unwrap().free_all().unwrap();
    let lease = cache.get(&1, &rig.a).unwrap().unwrap();
    let clone = lease.clone();
    drop(lease);
    assert!(matches!(cache.remove(&1), hapax::Removed::Leased));
    let seen = rig.late.reads(clone.stream(), clone.view().device_address(), 16);
    drop(clone);
    assert_eq!(cache.clear().free_all().unwrap(), Freed::WhenStreamsPass { bytes: 16 });
    assert_eq!(rig.heap.settle().unwrap(), 16);
    assert_eq!(seen.try_recv().unwrap(), [1; 16]);
}

#[test]
fn an_owned_lease_keeps_entry_cache_and_stream_on_any_thread() {
    let rig = Rig::new(64);
    let cache = Arc::new(cache(&rig, 16));
    cache.insert(1, rig.pending(b"owned", &rig.a)).unwrap().free_all().unwrap();
    let stream = rig.heap.new_stream().unwrap();
    let lease = cache.get(&1, &stream).unwrap().unwrap().into_owned(&cache).unwrap();
    let borrowed = cache.clone();
    drop((cache, stream));
    let late = rig.late.0.clone();
    let use_it = move |lease: OwnedLease<u8, DevBox<[u8]>>| {
        let seen = late.reads(lease.stream(), lease.view().device_address(), 5);
        late.run_stream(lease.stream());
        seen.try_recv().unwrap()
    };
    let seen = std::thread::spawn(move || use_it(lease)).join().unwrap();
    assert_eq!(seen, b"owned");
    assert_eq!(borrowed.clear().len(), 1, "the thread's end was the lease's");
}

#[test]
fn a_retired_entry_is_handed_out_after_its_last_lease_and_freed_after_its_stream() {
    let rig = Rig::new(64);
    let cache = cache(&rig, 16);
    cache.insert(1, rig.ready(&[1; 16])).unwrap().free_all().unwrap();
    let lease = cache.get(&1, &rig.a).unwrap().unwrap();
    assert!(cache.retire(&1).is_empty());
    let seen = rig.late.reads(&rig.a, lease.view().device_address(), 16);
    assert!(cache.collect_retired().is_empty());
    drop(lease);
    assert_eq!(cache.collect_retired().free_all().unwrap(), Freed::WhenStreamsPass { bytes: 16 });
    rig.heap.settle().unwrap();
    assert_eq!(seen.try_recv().unwrap(), [1; 16]);
}

/// In relaxed mode such a hit goes through the lock.
#[test]
fn a_hit_on_an_entry_that_an_eviction_passed_over_notes_its_stream() {
    let rig = Rig::new(64);
    let cache = cache(&rig, 16);
    cache.insert(1, rig.ready(&[1; 16])).unwrap().free_all().unwrap();
    let lease = cache.get(&1, &rig.a).unwrap().unwrap();
    assert!(cache.set_budget_bytes(1).is_err(), "passed over");
    drop(lease);
    let lease = cache.get(&1, &rig.b).unwrap().unwrap();
    let seen = rig.late.reads(&rig.b, lease.view().device_address(), 16);
    drop(lease);
    assert_eq!(cache.clear().free_all().unwrap(), Freed::WhenStreamsPass { bytes: 16 });
    rig.heap.settle().unwrap();
    assert_eq!(seen.try_recv().unwrap(), [1; 16]);
}

#[test]
fn an_entry_is_not_kept_back_for_the_streams_of_the_one_before_it() {
    let rig = Rig::new(64);
    let cache = cache(&rig, 16);
    cache.insert(1, rig.ready(&[1; 16])).unwrap().free_all().unwrap();
    drop(cache.get(&1, &rig.a).unwrap().unwrap());
    assert_eq!(cache.clear().free_all().unwrap(), Freed::WhenStreamsPass { bytes: 16 });
    cache.insert(2, rig.ready(&[2; 16])).unwrap().free_all().unwrap();
    assert_eq!(cache.clear().free_all().unwrap(), Freed::Now { bytes: 16 });
}

/// The refusal must not open it in relaxed mode.
#[test]
fn an_entry_whose_replacement_was_refused_is_ordered_still() {
    let rig = Rig::new(64);
    let cache = cache(&rig, 16);
    cache.insert(1, rig.pending(b"late", &rig.a)).unwrap().free_all().unwrap();
    cache.insert(2, rig.ready(&[2; 4])).unwrap().free_all().unwrap();
    let held = cache.get(&2, &rig.b).unwrap().unwrap();
    drop(cache.insert(1, rig.ready(&[3; 13])).unwrap_err());
    cache.validate();
    let lease = cache.get(&1, &rig.b).unwrap().unwrap();
    let seen = rig.late.reads(&rig.b, lease.view().device_address(), 4);
    drop((lease, held));
    rig.late.run_stream(&rig.b);
    assert_eq!(seen.try_recv().unwrap(), b"late");
}

/// As one without a write: no call of the driver is made for it any more, and in relaxed mode no lock is taken.
#[test]
fn an_entry_whose_write_is_seen_to_have_passed_is_as_any_other() {
    let rig = Rig::new(64);
    let cache = cache(&rig, 16);
    cache.insert(1, rig.pending(b"late", &rig.a)).unwrap().free_all().unwrap();
    drop(cache.get(&1, &rig.b).unwrap().unwrap());
    rig.late.run_all();
    drop(cache.get(&1, &rig.b).unwrap().unwrap());
    cache.validate();
    let calls = rig.late.calls();
    drop(cache.get(&1, &rig.b).unwrap().unwrap());
    assert_eq!(rig.late.calls(), calls);
}

#[test]
fn a_forgotten_lease_keeps_its_entry_and_its_memory() {
    let rig = Rig::leaking(64);
    let cache = cache(&rig, 16);
    cache.insert(1, rig.ready(&[1; 10])).unwrap().free_all().unwrap();
    std::mem::forget(cache.get(&1, &rig.a).unwrap().unwrap());
    let refused = cache.insert(2, rig.ready(&[2; 7])).unwrap_err();
    assert_eq!(*refused.error, Error::NoRoom { need_bytes: 7, held_bytes: 10, budget_bytes: 16 });
    drop(refused);
    cache.insert(3, rig.ready(&[3; 6])).unwrap().free_all().unwrap();
    assert_eq!(cache.get(&1, &rig.b).unwrap().unwrap().len(), 10, "it can be leased still");
    assert_eq!(cache.clear().len(), 1, "the other one");
    assert!(!cache.contains(&1) && cache.collect_retired().is_empty());
    cache.validate();
    let late = rig.late.0.clone();
    let address = rig.ready(&[4; 10]);
    drop(cache);
    assert_eq!(rig.heap.ledger().live_blocks, 2, "the entry stays allocated beside the new block");
    drop(address);
    late.run_all();
}

#[test]
fn a_forgotten_vacancy_takes_its_key_and_nothing_else() {
    let rig = Rig::with(hapax::HeapOptions::new(64).granule_bytes(1));
    let cache = cache(&rig, 16);
    let Lookup::Miss(vacancy) = cache.lookup(&1, &rig.a).unwrap() else { panic!("nothing was put in") };
    let (reservation, _) = vacancy.reserve(6).unwrap();
    std::mem::forget(reservation);
    assert!(matches!(cache.try_lookup(&1, &rig.a).unwrap(), hapax::TryLookup::Busy));
    assert!(matches!(cache.lookup(&1, &rig.a), Err(Error::WouldDeadlock)));
    let refused = cache.insert(1, rig.ready(&[1; 1])).unwrap_err();
    assert_eq!(*refused.error, Error::BeingFilled);
    drop(refused);
    cache.insert(2, rig.ready(&[2; 10])).unwrap().free_all().unwrap();
    assert_eq!(cache.insert(3, rig.ready(&[3; 10])).unwrap().len(), 1);
    assert_eq!((cache.stats().reserved_bytes, cache.stats().resident_bytes), (6, 10));
    cache.validate();
}
