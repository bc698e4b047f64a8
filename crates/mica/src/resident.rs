//! Artifacts resident on a device, in front of a store: what hapax's cache is for. Knows bytes and no code.
//!
//! A hit is read back from the device; a miss comes from the store behind, and stays under the budget, where CAMP decides
//! by compile time and bytes what goes.

use hapax::{
    CacheOptions, CacheStats, Collected, DeviceRef, Heap, HeapOptions, HostDevice, Key, Lookup, Meta, Miss, Policy,
    Record, Refusal, Store, StoreStats, StoredEntry, Stream, VramCache,
};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// How long an opening process waits for its device: a card can take longer than a whole warm start, and the store behind
/// does meanwhile.
const PATIENCE: Duration = Duration::from_millis(5);

/// Where the artifacts are resident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The first card if there is one, else the host.
    Best,
    /// Memory of this machine.
    Host,
}

/// A store behind a cache on a device.
pub struct ResidentStore {
    behind: Arc<dyn Store>,
    cache: Arc<OnceLock<Result<DeviceCache, String>>>,
}

struct DeviceCache {
    stream: Stream,
    cache: VramCache<Key, [u8]>,
    reason: String,
}

/// What the cache did.
pub struct ResidentReport {
    /// Where it is, and why there.
    pub device: String,
    /// Its figures.
    pub stats: CacheStats,
}

impl ResidentStore {
    /// Opens the device, and goes on without it where that takes long.
    pub fn open(behind: Arc<dyn Store>, place: Place, budget_bytes: u64) -> ResidentStore {
        let cache = Arc::new(OnceLock::new());
        match place {
            Place::Host => drop(cache.set(DeviceCache::open(place, budget_bytes))),
            Place::Best => {
                let opening = cache.clone();
                thread::spawn(move || opening.set(DeviceCache::open(place, budget_bytes)).is_ok());
                let begun = Instant::now();
                while cache.get().is_none() && begun.elapsed() < PATIENCE {
                    thread::sleep(Duration::from_micros(50));
                }
            }
        }
        ResidentStore { behind, cache }
    }

    /// What the cache did so far, or why there is none.
    pub fn report(&self) -> Result<ResidentReport, String> {
        match self.cache.get() {
            None => Err("the device is not open yet; artifacts came from the store".to_owned()),
            Some(Err(reason)) => Err(reason.clone()),
            Some(Ok(open)) => {
                let device = format!("{}: {}", open.cache.heap().device().name(), open.reason);
                Ok(ResidentReport { device, stats: open.cache.stats() })
            }
        }
    }

    fn ready(&self) -> Option<&DeviceCache> {
        self.cache.get()?.as_ref().ok()
    }
}

impl DeviceCache {
    fn open(place: Place, budget_bytes: u64) -> Result<DeviceCache, String> {
        let (device, reason) = match place {
            Place::Host => (DeviceRef::new(HostDevice::new()), "it was asked for".to_owned()),
            Place::Best => {
                let best = hapax::best_device();
                (best.device, best.reason)
            }
        };
        let open = || -> Result<DeviceCache, hapax::Error> {
            let heap = Heap::new(&device, HeapOptions::new(budget_bytes.max(1 << 20).saturating_mul(2)))?;
            let stream = heap.new_stream()?;
            let cache = VramCache::with_options(&heap, CacheOptions::new(budget_bytes).policy(Policy::Camp))?;
            Ok(DeviceCache { stream, cache, reason })
        };
        open().map_err(|error| error.to_string())
    }

    /// The record that is resident, or that `find` finds. Whatever the device does, the store behind has the last word.
    fn get(&self, key: &Key, find: impl FnOnce() -> Result<Record, Miss>) -> Result<Record, Miss> {
        match self.cache.lookup(key, &self.stream) {
            Ok(Lookup::Hit(lease)) => {
                let mut bytes = vec![0; lease.len()];
                match lease.download_to(&mut bytes).ok().and_then(|()| unpack(bytes)) {
                    Some(record) => Ok(record),
                    None => find(),
                }
            }
            Ok(Lookup::Miss(vacancy)) => {
                let record = find()?;
                // One that the budget has no room for is used from the store: slower, not wrong.
                drop(vacancy.cost_ns(record.meta().compile_ns).fill_from(&pack(record.meta(), &record)));
                Ok(record)
            }
            Err(_) => find(),
        }
    }

    fn put(&self, key: &Key, meta: &Meta, payload: &[u8]) {
        if let Ok(Lookup::Miss(vacancy)) = self.cache.lookup(key, &self.stream) {
            drop(vacancy.cost_ns(meta.compile_ns).fill_from(&pack(meta, payload)));
        }
    }
}

impl Store for ResidentStore {
    fn get(&self, key: &Key) -> Result<Record, Miss> {
        match self.ready() {
            Some(cache) => cache.get(key, || self.behind.get(key)),
            None => self.behind.get(key),
        }
    }

    fn put(&self, key: &Key, meta: &Meta, payload: &[u8]) -> Result<(), Refusal> {
        if let Some(cache) = self.ready() {
            cache.put(key, meta, payload);
        }
        self.behind.put(key, meta, payload)
    }

    fn entries(&self) -> Vec<StoredEntry> {
        self.behind.entries()
    }

    fn sync(&self) -> Result<(), Refusal> {
        self.behind.sync()
    }

    fn clear(&self) -> Result<(), Refusal> {
        if let Some(open) = self.ready() {
            // What does not go now goes with the heap.
            drop(open.cache.clear());
        }
        self.behind.clear()
    }

    fn gc(&self) -> Result<Collected, Refusal> {
        self.behind.gc()
    }

    fn stats(&self) -> StoreStats {
        self.behind.stats()
    }
}

/// Compile time, time of writing, label, and the artifact.
fn pack(meta: &Meta, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20 + meta.label.len() + payload.len());
    bytes.extend_from_slice(&meta.compile_ns.to_le_bytes());
    bytes.extend_from_slice(&meta.written_unix_s.to_le_bytes());
    bytes.extend_from_slice(&(meta.label.len() as u32).to_le_bytes());
    bytes.extend_from_slice(meta.label.as_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn unpack(mut bytes: Vec<u8>) -> Option<Record> {
    let compile_ns = u64::from_le_bytes(*bytes.first_chunk()?);
    let written_unix_s = u64::from_le_bytes(*bytes.get(8..)?.first_chunk()?);
    let label_bytes = u32::from_le_bytes(*bytes.get(16..)?.first_chunk()?) as usize;
    let label = String::from_utf8(bytes.get(20..20 + label_bytes)?.to_vec()).ok()?;
    let payload = bytes.split_off(20 + label_bytes);
    Some(Record::from_vec(payload, Meta { label, compile_ns, written_unix_s }))
}
