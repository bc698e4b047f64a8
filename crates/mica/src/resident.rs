//! Artifacts resident on a device, in front of a store: what hapax's cache is for. Knows bytes and no code.
//!
//! A hit is read back from the device; a miss comes from the store behind, and stays under the budget, where CAMP decides
//! by compile time and bytes what goes.

use hapax::{
    CacheOptions, CacheStats, Collected, DeviceRef, Fingerprint, Heap, HeapOptions, HostDevice, Key, Lookup, Meta,
    Miss, Policy, Record, Refusal, Store, StoreStats, StoredEntry, Stream, VramCache,
};
use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock};
use std::thread;

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
    /// What passed by before the device was open, no more of it than the budget.
    early: Mutex<Early>,
    place: Place,
    budget_bytes: u64,
    opens: Once,
}

#[derive(Default)]
struct Early {
    /// With what was put; what was found can be found again.
    entries: Vec<(Key, Option<Record>)>,
    bytes: u64,
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
    /// In front of that store. No device is open yet, and the store behind does alone.
    pub fn new(behind: Arc<dyn Store>, place: Place, budget_bytes: u64) -> ResidentStore {
        let cache = Arc::new(OnceLock::new());
        ResidentStore { behind, cache, early: Mutex::default(), place, budget_bytes, opens: Once::new() }
    }

    /// Opens the device, on a thread of its own: a card can take longer than a whole warm start. What has passed by is
    /// resident then, too.
    pub fn open_device(&self) {
        self.opens.call_once(|| {
            let (opening, place, budget_bytes) = (self.cache.clone(), self.place, self.budget_bytes);
            thread::spawn(move || opening.set(DeviceCache::open(place, budget_bytes)).is_ok());
        });
    }

    /// What the cache did so far, or why there is none. Opens the device if that has not been done, and waits for it.
    pub fn report(&self) -> Result<ResidentReport, String> {
        self.open_device();
        self.cache.wait();
        match self.open_cache() {
            Ok(open) => {
                let device = format!("{}: {}", open.cache.heap().device().name(), open.reason);
                Ok(ResidentReport { device, stats: open.cache.stats() })
            }
            Err(reason) => Err(reason.unwrap_or_default().to_owned()),
        }
    }

    /// The cache, if it is open: with what came before it was.
    fn open_cache(&self) -> Result<&DeviceCache, Option<&str>> {
        let cache = self.cache.get().ok_or(None)?.as_ref().map_err(|reason| Some(reason.as_str()))?;
        for (key, put) in std::mem::take(&mut *self.early()).entries {
            match put {
                Some(record) => cache.put(&key, record.meta(), &record),
                None => drop(cache.get(&key, || self.behind.get(&key))),
            }
        }
        Ok(cache)
    }

    fn came_early(&self, key: &Key, bytes: usize, put: Option<Record>) {
        let mut early = self.early();
        if early.bytes + bytes as u64 <= self.budget_bytes {
            early.bytes += bytes as u64;
            early.entries.push((*key, put));
        }
    }

    fn early(&self) -> MutexGuard<'_, Early> {
        self.early.lock().expect("nothing panics under this lock")
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

    /// In place of what is resident: who puts has compiled it anew.
    fn put(&self, key: &Key, meta: &Meta, payload: &[u8]) {
        drop(self.cache.retire(key));
        if let Ok(Lookup::Miss(vacancy)) = self.cache.lookup(key, &self.stream) {
            drop(vacancy.cost_ns(meta.compile_ns).fill_from(&pack(meta, payload)));
        }
    }
}

impl Store for ResidentStore {
    fn get(&self, key: &Key) -> Result<Record, Miss> {
        match self.open_cache() {
            Ok(cache) => cache.get(key, || self.behind.get(key)),
            Err(_) => {
                let record = self.behind.get(key)?;
                self.came_early(key, record.len(), None);
                Ok(record)
            }
        }
    }

    fn get_each(&self, keys: &[Key], found: &mut dyn FnMut(usize, Result<Record, Miss>)) {
        if self.open_cache().is_ok() {
            return keys.iter().enumerate().for_each(|(at, key)| found(at, self.get(key)));
        }
        self.behind.get_each(keys, &mut |at, record| {
            if let Ok(record) = &record {
                self.came_early(&keys[at], record.len(), None);
            }
            found(at, record);
        });
    }

    fn put(&self, key: &Key, meta: &Meta, payload: &[u8]) -> Result<(), Refusal> {
        match self.open_cache() {
            Ok(cache) => cache.put(key, meta, payload),
            Err(_) => {
                let record = Record::from_vec(payload.to_vec(), meta.clone());
                self.came_early(key, payload.len(), Some(record));
            }
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
        if let Ok(open) = self.open_cache() {
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

/// A digest of all that follows: compile time, time of writing, label, and the artifact. It becomes machine code, so it is checked
/// wherever it has been.
fn pack(meta: &Meta, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(DIGEST_BYTES + 20 + meta.label.len() + payload.len());
    bytes.resize(DIGEST_BYTES, 0);
    bytes.extend_from_slice(&meta.compile_ns.to_le_bytes());
    bytes.extend_from_slice(&meta.written_unix_s.to_le_bytes());
    bytes.extend_from_slice(&(meta.label.len() as u32).to_le_bytes());
    bytes.extend_from_slice(meta.label.as_bytes());
    bytes.extend_from_slice(payload);
    let digest = digest(&bytes[DIGEST_BYTES..]);
    bytes[..DIGEST_BYTES].copy_from_slice(&digest);
    bytes
}

const DIGEST_BYTES: usize = 32;

fn digest(bytes: &[u8]) -> [u8; DIGEST_BYTES] {
    *Fingerprint::of("mica resident").part("bytes", bytes).finish().as_bytes()
}

fn unpack(mut bytes: Vec<u8>) -> Option<Record> {
    let mut bytes = match bytes.split_off(bytes.len().min(DIGEST_BYTES)) {
        rest if bytes == digest(&rest) => rest,
        _ => return None,
    };
    let compile_ns = u64::from_le_bytes(*bytes.first_chunk()?);
    let written_unix_s = u64::from_le_bytes(*bytes.get(8..)?.first_chunk()?);
    let label_bytes = u32::from_le_bytes(*bytes.get(16..)?.first_chunk()?) as usize;
    let label = String::from_utf8(bytes.get(20..20 + label_bytes)?.to_vec()).ok()?;
    let payload = bytes.split_off(20 + label_bytes);
    Some(Record::from_vec(payload, Meta { label, compile_ns, written_unix_s, hinted_as: None }))
}
