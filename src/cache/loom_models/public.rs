//! What only the public types do: owned leases end their cache, fillers panic. On host memory, whose driver
//! calls loom does not see; the locks and atomics of heap, streams and cache it does.

use crate::cache::VramCache;
use crate::cache::loom_models::{Switches, explore};
use crate::cache::vacancy::Filled;
use crate::device::host::HostDevice;
use crate::device::stream::Stream;
use crate::error::Error;
use crate::heap::Heap;
use crate::heap::options::HeapOptions;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

type Cache = VramCache<char, [u8]>;

const CONTENTS: [u8; 3] = *b"ret";

#[test]
fn loom_the_last_owned_lease_ends_its_cache() {
    explore(Switches::Unbounded, || {
        let (heap, stream, cache) = small_cache();
        let lease = lookup_or_fill(&cache, 'a', &stream).unwrap().lease.into_owned(&cache).unwrap();
        let other = lease.clone();
        drop(cache);
        let user = loom::thread::spawn(move || {
            let mut contents = [0; 3];
            other.download_to(&mut contents).unwrap();
            assert_eq!(contents, CONTENTS);
        });
        drop(lease);
        user.join().unwrap();
        assert_eq!(heap.ledger().live_bytes, 0, "the cache gave up its entry");
    });
}

/// Flagged, so that both leases take the lock of a cache that is about to end.
#[test]
fn loom_the_last_owned_lease_of_a_retired_entry_ends_its_cache() {
    explore(Switches::Unbounded, || {
        let (heap, stream, cache) = small_cache();
        let lease = lookup_or_fill(&cache, 'a', &stream).unwrap().lease.into_owned(&cache).unwrap();
        let other = lease.clone();
        assert!(cache.retire(&'a').is_empty());
        drop(cache);
        let user = loom::thread::spawn(move || drop(other));
        drop(lease);
        user.join().unwrap();
        assert_eq!(heap.ledger().live_bytes, 0, "the cache gave up what was retired");
    });
}

#[test]
fn loom_a_filler_that_panics_leaves_its_vacancy_to_who_waits() {
    explore(Switches::Unbounded, || {
        let (heap, stream, cache) = small_cache();
        let thread = {
            let (cache, stream) = (cache.clone(), stream.clone());
            loom::thread::spawn(move || {
                let filled = catch_unwind(AssertUnwindSafe(|| {
                    cache.get_or_try_insert_with(&'a', &stream, |vacancy| -> Result<_, Error> {
                        let _reserved = vacancy.reserve(3)?;
                        resume_unwind(Box::new("a compiler panics")); // without the hook's message
                    })
                }));
                drop(filled.map(|filled| filled.unwrap().lease));
            })
        };
        drop(lookup_or_fill(&cache, 'a', &stream).unwrap());
        thread.join().unwrap();
        assert!(cache.contains(&'a'));
        let stats = cache.stats();
        assert_eq!((stats.resident_bytes, stats.reserved_bytes, stats.leased_bytes), (3, 0, 0));
        cache.validate();
        drop(cache);
        assert_eq!(heap.ledger().live_bytes, 0);
    });
}

/// Room for one entry.
fn small_cache() -> (Heap, Stream, Arc<Cache>) {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(8).granule_bytes(1).slab_bytes(8)).unwrap();
    let stream = heap.new_stream().unwrap();
    let cache = Arc::new(Cache::new(&heap, 4).unwrap());
    (heap, stream, cache)
}

fn lookup_or_fill<'c>(
    cache: &'c Cache,
    key: char,
    stream: &'c Stream,
) -> Result<Filled<'c, char, crate::handle::DevBox<[u8]>>, Error> {
    cache.get_or_try_insert_with(&key, stream, |vacancy| Ok(vacancy.fill_from(&CONTENTS)?))
}
