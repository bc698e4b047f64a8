//! What a linear scope does at run time: nothing, but that its handle ends where it says, also by panics.
//! That misuse does not compile is shown in `ui-tests`.

use hapax::linear::{self, LandedIn, Linear, Spent};
use hapax::{DevBox, Error, Evicted, Heap, HeapOptions, HostDevice, LateDevice, Lookup, Uninit, VramCache};
use std::panic::{AssertUnwindSafe, catch_unwind};

fn heap() -> Heap {
    Heap::new(HostDevice::new(), HeapOptions::new(1 << 20)).unwrap()
}

fn resident(heap: &Heap, cache: &VramCache<u32, [u8]>, keys: std::ops::Range<u32>) {
    for key in keys {
        let handle = heap.alloc_slice(256).unwrap().upload_from(&[key as u8; 256]).unwrap();
        cache.insert(key, handle).unwrap().free_all().unwrap();
    }
}

fn free<'e>(evicted: Linear<'e, DevBox<[u8], Evicted>>) -> Spent<'e> {
    let (spent, freed) = evicted.free();
    freed.unwrap();
    spent
}

#[test]
fn a_scope_that_returns_has_freed_its_handle() {
    let heap = heap();
    let freed = linear::scope(heap.alloc_slice::<u8>(1000).unwrap(), |handle| {
        assert_eq!(heap.ledger().live_bytes, 1024);
        handle.free()
    });
    assert_eq!(freed.unwrap().bytes(), 1024);
    assert_eq!(heap.ledger().live_bytes, 0);
}

#[test]
fn a_scope_that_panics_frees_its_handle_once() {
    let heap = heap();
    let handle = heap.alloc_slice::<u8>(1000).unwrap();
    let unwound = catch_unwind(AssertUnwindSafe(|| linear::scope::<_, ()>(handle, |_handle| panic!("on the way"))));
    assert!(unwound.is_err());
    assert_eq!(heap.ledger().live_bytes, 0);
    heap.validate();
}

/// What no grade catches: nobody is left to free it. The heap tells of it at its end.
#[test]
fn a_handle_forgotten_before_a_panic_stays_allocated() {
    let heap = heap();
    let handle = heap.alloc_slice::<u8>(1000).unwrap();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        linear::scope::<_, ()>(handle, |handle| {
            std::mem::forget(handle);
            panic!("on the way")
        })
    }));
    assert!(unwound.is_err());
    assert_eq!(heap.ledger().live_bytes, 1024);
    heap.validate();
}

#[test]
fn what_an_insert_evicts_is_spent_in_the_order_of_eviction() {
    let heap = heap();
    let cache = VramCache::new(&heap, 1024).unwrap();
    resident(&heap, &cache, 0..4);
    let mut spent_keys = Vec::new();
    linear::scope(heap.alloc_slice::<u8>(512).unwrap(), |handle| {
        let handle = handle.upload_from(&[9; 512]).unwrap();
        let inserted = handle.insert(&cache, 9, |key, evicted| {
            spent_keys.push(key);
            free(evicted)
        });
        (inserted.unwrap(), ())
    });
    assert_eq!(spent_keys, [0, 1]);
    assert_eq!(cache.keys(), [2, 3, 9]);
    assert_eq!(heap.ledger().live_bytes, 1024);
}

#[test]
fn a_panic_while_evicted_handles_are_spent_frees_the_rest() {
    let heap = heap();
    let cache = VramCache::new(&heap, 1024).unwrap();
    resident(&heap, &cache, 0..4);
    let mut seen = 0;
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        cache.clear().spend_each(|_, evicted| {
            seen += 1;
            assert!(seen < 2, "on the way");
            free(evicted)
        });
    }));
    assert!(unwound.is_err());
    assert_eq!((seen, heap.ledger().live_bytes), (2, 0));
    cache.validate();
}

#[test]
fn a_refused_insert_gives_the_handle_back_into_its_scope() {
    let heap = heap();
    let cache: VramCache<u32, [u8]> = VramCache::new(&heap, 256).unwrap();
    let inserted: Result<(), Error> = linear::scope(heap.alloc_slice::<u8>(512).unwrap(), |handle| {
        let handle = handle.upload_from(&[1; 512]).unwrap();
        match handle.insert(&cache, 1, |_, evicted| free(evicted)) {
            Ok(spent) => (spent, Ok(())),
            Err(refused) => {
                assert_eq!(refused.handle.1.len(), 512);
                refused.free()
            }
        }
    });
    assert_eq!(inserted.unwrap_err(), Error::Oversize { need_bytes: 512, budget_bytes: 256 });
    assert_eq!(heap.ledger().live_bytes, 0);
}

#[test]
fn a_vacancy_is_filled_from_inside_a_scope() {
    let heap = heap();
    let stream = heap.new_stream().unwrap();
    let cache: VramCache<u32, [u8]> = VramCache::new(&heap, 512).unwrap();
    resident(&heap, &cache, 0..2);
    let Lookup::Miss(vacancy) = cache.lookup(&7, &stream).unwrap() else { panic!("not resident") };
    let (reservation, evicted) = vacancy.reserve(256).unwrap();
    evicted.spend_each(|_, evicted| free(evicted));
    let lease = linear::scope(reservation.alloc_slice(256).unwrap(), |handle| {
        handle.upload_from(&[7; 256]).unwrap().commit(reservation).unwrap()
    });
    let mut contents = [0; 256];
    lease.download_to(&mut contents).unwrap();
    assert_eq!((contents, cache.keys()), ([7; 256], vec![1, 7]));
}

#[test]
fn a_handle_in_flight_stays_in_its_scope_until_it_lands() {
    let (device, late) = LateDevice::new();
    let heap = Heap::new(device, HeapOptions::new(1 << 20)).unwrap();
    let stream = heap.new_stream().unwrap();
    let staging = heap.page_locked_slice::<u8>(4).unwrap();
    let landed = linear::scope(heap.alloc_slice::<u8>(4).unwrap(), |handle| {
        let flying = handle.upload(staging, &stream).unwrap();
        let LandedIn::NotYet(flying) = flying.try_wait().unwrap() else { panic!("nothing has run yet") };
        late.run_all();
        let LandedIn::Yes(handle, staging) = flying.try_wait().unwrap() else { panic!("all has run") };
        (handle.free().0, staging.len())
    });
    assert_eq!(landed, 4);
    heap.settle().unwrap();
    assert_eq!(heap.ledger().live_bytes, 0);
}

#[test]
fn a_bundle_is_spent_as_one() {
    let heap = heap();
    let pair = (heap.alloc_slice::<u8>(300).unwrap(), heap.alloc::<u32>().unwrap());
    let freed = linear::scope(pair, |bundle: Linear<'_, (DevBox<[u8], Uninit>, DevBox<u32, Uninit>)>| bundle.free());
    assert_eq!(freed.unwrap().bytes(), 512 + 256);
}

#[test]
fn a_handle_may_be_spent_on_another_thread() {
    let heap = heap();
    linear::scope(heap.alloc_slice::<u8>(4).unwrap(), |handle| {
        (std::thread::scope(|threads| threads.spawn(move || handle.free().0).join().unwrap()), ())
    });
    assert_eq!(heap.ledger().live_bytes, 0);
}

#[test]
fn an_affine_handle_leaves_its_scope_alive() {
    let heap = heap();
    let handle = linear::scope(heap.alloc_slice::<u8>(4).unwrap(), |handle| handle.into_affine());
    assert_eq!(heap.ledger().live_bytes, 256);
    handle.free().unwrap();
    assert_eq!(heap.ledger().live_bytes, 0);
}
