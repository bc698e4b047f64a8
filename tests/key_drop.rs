//! Nothing is destroyed under a cache's lock: keys whose drop comes back to the cache would wait for it for ever.

use hapax::{Cache, CacheOptions, DevBox, Heap, HeapOptions, HostDevice, Lookup, Mode, Removed, VramCache};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak, mpsc};
use std::time::Duration;

/// The cache that its keys come back to.
type Home = Arc<OnceLock<Weak<VramCache<Key, [u8]>>>>;

struct Key {
    number: u32,
    home: Home,
    dropped: Arc<AtomicU32>,
}

impl Clone for Key {
    fn clone(&self) -> Self {
        Key { number: self.number, home: self.home.clone(), dropped: self.dropped.clone() }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Key {}

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        if let Some(cache) = self.home.get().and_then(Weak::upgrade) {
            let _ = cache.stats(); // takes the lock
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn keys_are_dropped_outside_of_the_lock_whatever_lets_them_go() {
    for mode in [Mode::Exact, Mode::Relaxed] {
        let (done, ended) = mpsc::channel();
        std::thread::spawn(move || {
            session(mode);
            done.send(()).unwrap();
        });
        ended.recv_timeout(Duration::from_secs(60)).expect("a key was dropped under the lock, or the session failed");
    }
}

fn session(mode: Mode) {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 16).granule_bytes(1)).unwrap();
    let stream = heap.new_stream().unwrap();
    let cache: Arc<VramCache<Key, [u8]>> =
        Arc::new(Cache::with_options(&heap, CacheOptions::new(8).mode(mode)).unwrap());
    let home = Home::default();
    home.set(Arc::downgrade(&cache)).unwrap();
    let dropped = Arc::new(AtomicU32::new(0));
    let key = |number| Key { number, home: home.clone(), dropped: dropped.clone() };
    let value =
        |bytes: usize| -> DevBox<[u8]> { heap.alloc_slice::<u8>(bytes).unwrap().upload_from(&vec![7; bytes]).unwrap() };
    let drops = |what: &str, at_least: u32, work: &dyn Fn()| {
        let before = dropped.load(Ordering::Relaxed);
        work();
        let now = dropped.load(Ordering::Relaxed) - before;
        assert!(now >= at_least, "{what}: {now} keys dropped");
        cache.validate();
    };
    let put = |number| cache.insert(key(number), value(4)).unwrap().free_all().map(drop).unwrap();

    drops("an insert that evicts", 1, &|| (0..3).for_each(put));
    drops("one that replaces", 1, &|| put(2));
    drops("one that is refused", 1, &|| drop(cache.insert(key(9), value(9)).unwrap_err()));
    drops("a miss", 1, &|| drop(cache.get(&key(9), &stream).unwrap()));
    drops("a vacancy that is given up", 2, &|| match cache.lookup(&key(9), &stream).unwrap() {
        Lookup::Miss(vacancy) => drop(vacancy),
        Lookup::Hit(_) => panic!("nobody put it in"),
    });
    drops("a fill that evicts", 2, &|| match cache.lookup(&key(3), &stream).unwrap() {
        Lookup::Miss(vacancy) => drop(vacancy.fill_from(&[1; 4]).unwrap()),
        Lookup::Hit(_) => panic!("nobody put it in"),
    });
    drops("a removal", 2, &|| assert!(matches!(cache.remove(&key(3)), Removed::Taken(..))));
    drops("a retirement, and the collection after its lease", 2, &|| {
        put(4);
        let lease = cache.get(&key(4), &stream).unwrap().expect("it was put in");
        assert!(cache.retire(&key(4)).is_empty());
        drop(lease);
        assert_eq!(cache.collect_retired().len(), 1);
    });
    drops("a smaller budget", 1, &|| {
        (5..7).for_each(put);
        drop(cache.set_budget_bytes(4).unwrap());
        drop(cache.set_budget_bytes(8).unwrap());
    });
    drops("a copy of all keys", 1, &|| drop(cache.keys()));
    drops("a clear", 1, &|| drop(cache.clear()));
}
