//! Stores in layers: what is found in any is found, what is put goes into the topmost. For artifacts that were compiled
//! in advance and are part of an image, below those that this machine compiles. Knows stores, no files.

use crate::persist::envelope::{Key, Meta};
use crate::persist::store::{Collected, Miss, Record, Refusal, Store, StoreStats, StoredEntry};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A writable [`Store`] over others that are only read.
///
/// ```
/// use hapax::{Fingerprint, Key, Kind, LayeredStore, MemoryStore, Meta, Store};
/// use std::sync::Arc;
///
/// let key = Key::new(Kind::CODE, Fingerprint::of("example").finish());
/// let pack = MemoryStore::new(1 << 20);
/// pack.put(&key, &Meta::default(), b"compiled in advance")?;
/// let own = MemoryStore::new(1 << 20);
/// let store = LayeredStore::new(Arc::new(own.clone()), vec![Arc::new(pack)]);
/// assert_eq!(*store.get(&key)?, *b"compiled in advance");
/// store.put(&key, &Meta::default(), b"compiled here")?;
/// assert_eq!((&*store.get(&key)?, own.stats().entries), (&b"compiled here"[..], 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct LayeredStore {
    top: Arc<dyn Store>,
    below: Vec<Arc<dyn Store>>,
    hits_below: AtomicU64,
}

impl LayeredStore {
    /// Looks in `top` first and then in those below, in order.
    pub fn new(top: Arc<dyn Store>, below: Vec<Arc<dyn Store>>) -> LayeredStore {
        LayeredStore { top, below, hits_below: AtomicU64::new(0) }
    }
}

impl Store for LayeredStore {
    /// The reason of a miss is the topmost store's.
    fn get(&self, key: &Key) -> Result<Record, Miss> {
        let miss = match self.top.get(key) {
            Err(miss) => miss,
            hit => return hit,
        };
        // Not copied upwards: a pack is as near as the store above it, and copies would evict what only that has.
        let found = self.below.iter().find_map(|store| store.get(key).ok()).ok_or(miss)?;
        self.hits_below.fetch_add(1, Ordering::Relaxed);
        Ok(found)
    }

    fn get_each(&self, keys: &[Key], found: &mut dyn FnMut(usize, Result<Record, Miss>)) {
        let mut missing = Vec::new();
        self.top.get_each(keys, &mut |at, record| match record {
            Ok(record) => found(at, Ok(record)),
            Err(miss) => missing.push((at, miss)),
        });
        for store in &self.below {
            if missing.is_empty() {
                break;
            }
            let wanted: Vec<Key> = missing.iter().map(|(at, _)| keys[*at]).collect();
            let mut still = Vec::new();
            store.get_each(&wanted, &mut |which, record| {
                let (at, miss) = &missing[which];
                match record {
                    Ok(record) => {
                        self.hits_below.fetch_add(1, Ordering::Relaxed);
                        found(*at, Ok(record));
                    }
                    Err(_) => still.push((*at, *miss)), // the top's own says what is wrong there
                }
            });
            missing = still;
        }
        missing.into_iter().for_each(|(at, miss)| found(at, Err(miss)));
    }

    fn put(&self, key: &Key, meta: &Meta, payload: &[u8]) -> Result<(), Refusal> {
        self.top.put(key, meta, payload)
    }

    /// Those of the lowest store come first; one that is hidden by another is left out.
    fn entries(&self) -> Vec<StoredEntry> {
        let mut seen = HashSet::new();
        let mut layers = Vec::new();
        for store in std::iter::once(&self.top).chain(&self.below) {
            let mut entries = store.entries();
            entries.retain(|entry| seen.insert(entry.key));
            layers.push(entries);
        }
        layers.into_iter().rev().flatten().collect()
    }

    fn sync(&self) -> Result<(), Refusal> {
        self.top.sync()
    }

    /// Clears the topmost store. What is below is still found.
    fn clear(&self) -> Result<(), Refusal> {
        self.top.clear()
    }

    fn gc(&self) -> Result<Collected, Refusal> {
        self.top.gc()
    }

    /// The topmost store's, with what was found below counted as hits.
    fn stats(&self) -> StoreStats {
        let top = self.top.stats();
        let hits_below = self.hits_below.load(Ordering::Relaxed);
        StoreStats { hits: top.hits + hits_below, misses: top.misses.saturating_sub(hits_below), ..top }
    }
}
