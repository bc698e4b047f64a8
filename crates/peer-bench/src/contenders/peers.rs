//! The peers, with the settings that their documentation gives for this use. All but TinyUFO, which allows no
//! choice, hash with the function that hapax uses.

use crate::contenders::{ENTRY_BYTES, Operations, Payload, payload, read};
use foldhash::fast::RandomState;
use std::sync::Mutex;

/// An LRU under a byte budget as it is usually built.
pub struct MutexLru {
    inner: Mutex<(lru::LruCache<u128, Payload, RandomState>, u64)>,
    budget: u64,
}

impl MutexLru {
    pub fn new(entries: usize) -> Self {
        let cache = lru::LruCache::unbounded_with_hasher(RandomState::default());
        MutexLru { inner: Mutex::new((cache, 0)), budget: entries as u64 * ENTRY_BYTES }
    }
}

impl Operations for MutexLru {
    type Thread = ();

    fn thread(&self) {}

    fn get(&self, key: u128, (): &mut ()) -> bool {
        let found = self.inner.lock().unwrap().0.get(&key).copied();
        found.iter().for_each(read);
        found.is_some()
    }

    fn insert(&self, key: u128, (): &mut ()) {
        let mut inner = self.inner.lock().unwrap();
        let (cache, bytes) = &mut *inner;
        if cache.put(key, payload(key)).is_none() {
            *bytes += ENTRY_BYTES;
        }
        while *bytes > self.budget {
            cache.pop_lru();
            *bytes -= ENTRY_BYTES;
        }
    }
}

#[derive(Clone)]
pub struct EntryBytes;

impl quick_cache::Weighter<u128, Payload> for EntryBytes {
    fn weight(&self, _: &u128, _: &Payload) -> u64 {
        ENTRY_BYTES
    }
}

pub struct QuickCache(quick_cache::sync::Cache<u128, Payload, EntryBytes, RandomState>);

impl QuickCache {
    pub fn new(entries: usize) -> Self {
        let budget = entries as u64 * ENTRY_BYTES;
        QuickCache(quick_cache::sync::Cache::with(
            entries,
            budget,
            EntryBytes,
            RandomState::default(),
            Default::default(),
        ))
    }
}

impl Operations for QuickCache {
    type Thread = ();

    fn thread(&self) {}

    fn get(&self, key: u128, (): &mut ()) -> bool {
        let found = self.0.get(&key);
        found.iter().for_each(read);
        found.is_some()
    }

    fn insert(&self, key: u128, (): &mut ()) {
        self.0.insert(key, payload(key));
    }
}

pub struct Moka(moka::sync::Cache<u128, Payload, RandomState>);

impl Moka {
    pub fn new(entries: usize) -> Self {
        let builder = moka::sync::Cache::builder()
            .max_capacity(entries as u64 * ENTRY_BYTES)
            .initial_capacity(entries)
            .weigher(|_, _| ENTRY_BYTES as u32);
        Moka(builder.build_with_hasher(RandomState::default()))
    }
}

impl Operations for Moka {
    type Thread = ();

    fn thread(&self) {}

    fn get(&self, key: u128, (): &mut ()) -> bool {
        let found = self.0.get(&key);
        found.iter().for_each(read);
        found.is_some()
    }

    fn insert(&self, key: u128, (): &mut ()) {
        self.0.insert(key, payload(key));
    }
}

pub struct Foyer(foyer_memory::Cache<u128, Payload, RandomState>);

impl Foyer {
    pub fn new(entries: usize) -> Self {
        let builder = foyer_memory::CacheBuilder::new(entries * ENTRY_BYTES as usize)
            .with_eviction_config(foyer_memory::LruConfig::default())
            .with_hash_builder(RandomState::default())
            .with_weighter(|_: &u128, _: &Payload| ENTRY_BYTES as usize);
        Foyer(builder.build())
    }
}

impl Operations for Foyer {
    type Thread = ();

    fn thread(&self) {}

    fn get(&self, key: u128, (): &mut ()) -> bool {
        match self.0.get(&key) {
            Some(entry) => {
                read(entry.value());
                true
            }
            None => false,
        }
    }

    fn insert(&self, key: u128, (): &mut ()) {
        drop(self.0.insert(key, payload(key)));
    }
}

/// Its weights have 16 bits, so an entry weighs 1.
pub struct TinyUfo(tinyufo::TinyUfo<u128, Payload>);

impl TinyUfo {
    pub fn new(entries: usize) -> Self {
        TinyUfo(tinyufo::TinyUfo::new(entries, entries))
    }
}

impl Operations for TinyUfo {
    type Thread = ();

    fn thread(&self) {}

    fn get(&self, key: u128, (): &mut ()) -> bool {
        let found = self.0.get(&key);
        found.iter().for_each(read);
        found.is_some()
    }

    fn insert(&self, key: u128, (): &mut ()) {
        drop(self.0.put(key, payload(key), 1));
    }
}
