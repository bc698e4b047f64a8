//! All that this example does with hapax: one cache of bytes on the best device there is.

use crate::Result;
use hapax::{CacheStats, DevBox, Error, Evictions, Heap, HeapOptions, Lookup, Stream, Vacancy, VramCache};

/// A unit as it was compiled from one text, by one compiler, with one set of flags.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UnitKey {
    pub unit: String,
    pub content: u128,
}

pub struct DeviceCache {
    heap: Heap,
    stream: Stream,
    cache: VramCache<UnitKey, [u8]>,
    /// Why this device was taken.
    pub reason: String,
}

pub enum Found<'c> {
    /// What the device holds.
    Resident(Vec<u8>),
    Missing(Slot<'c>),
}

pub enum Stored {
    /// What the device holds now, read back.
    Resident(Vec<u8>),
    Refused {
        kind: &'static str,
        reason: String,
    },
}

/// The right to give one missing unit its bytes.
pub struct Slot<'c>(Vacancy<'c, UnitKey, DevBox<[u8]>>);

impl DeviceCache {
    pub fn open(budget_bytes: u64) -> Result<DeviceCache> {
        let best = hapax::best_device();
        // The heap could hold more than the cache may: what keeps to the budget is the cache.
        let limit_bytes = budget_bytes.max(1 << 20).saturating_mul(2);
        let heap = Heap::new(&best.device, HeapOptions::new(limit_bytes).granule_bytes(256))?;
        let stream = heap.new_stream()?;
        let cache = VramCache::new(&heap, budget_bytes)?;
        Ok(DeviceCache { heap, stream, cache, reason: best.reason })
    }

    pub fn contains(&self, key: &UnitKey) -> bool {
        self.cache.contains(key)
    }

    pub fn look_up(&self, key: &UnitKey) -> Result<Found<'_>> {
        Ok(match self.cache.lookup(key, &self.stream)? {
            Lookup::Hit(lease) => {
                let mut bytes = vec![0; lease.len()];
                lease.download_to(&mut bytes)?;
                Found::Resident(bytes)
            }
            Lookup::Miss(vacancy) => Found::Missing(Slot(vacancy)),
        })
    }

    /// Hides what an edit made stale and frees it; returns how many entries that were.
    pub fn retire(&self, stale: &UnitKey) -> Result<usize> {
        free(self.cache.retire(stale))
    }

    /// Frees what a lower budget evicts; returns how many entries that were.
    pub fn set_budget(&self, budget_bytes: u64) -> Result<usize> {
        free(self.cache.set_budget_bytes(budget_bytes)?)
    }

    pub fn charge_bytes(&self, bytes: usize) -> u64 {
        self.heap.charge_bytes(bytes as u64)
    }

    pub fn granule_bytes(&self) -> u64 {
        self.heap.granule_bytes()
    }

    pub fn live_bytes(&self) -> u64 {
        self.heap.ledger().live_bytes
    }

    pub fn stats(&self) -> CacheStats {
        self.cache.stats()
    }

    pub fn device_name(&self) -> String {
        self.heap.device().name()
    }

    /// Frees everything and returns what the heap still counts as live.
    pub fn close(self) -> Result<u64> {
        free(self.cache.into_handles())?;
        self.heap.settle()?;
        let live_bytes = self.heap.ledger().live_bytes;
        if live_bytes == 0 {
            self.heap.close().map_err(Error::from)?;
        }
        Ok(live_bytes)
    }
}

impl Slot<'_> {
    /// Uploads the bytes, evicting what must go to make room, and reads them back.
    pub fn put(self, bytes: &[u8], cost_ns: u64) -> Result<Stored> {
        let filled = match self.0.cost_ns(cost_ns).fill_from(bytes).map_err(Error::from) {
            Ok(filled) => filled,
            // A unit that the cache cannot take is used uncached: slower, not wrong.
            Err(error @ Error::Oversize { .. }) => {
                return Ok(Stored::Refused { kind: "oversize", reason: error.to_string() });
            }
            Err(error @ Error::NoRoom { .. }) => {
                return Ok(Stored::Refused { kind: "no room", reason: error.to_string() });
            }
            Err(error) => return Err(error.into()),
        };
        let mut back = vec![0; filled.lease.len()];
        filled.lease.download_to(&mut back)?;
        Ok(Stored::Resident(back))
    }
}

fn free(evictions: Evictions<UnitKey, DevBox<[u8]>>) -> Result<usize> {
    let entries = evictions.len();
    evictions.free_all()?;
    Ok(entries)
}
