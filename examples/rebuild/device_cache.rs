//! All that this example does with hapax: one cache of bytes on the device that was asked for.

use crate::Result;
use crate::options::Place;
use hapax::{
    CacheStats, DevBox, DeviceRef, Error, Evictions, Heap, HeapOptions, HostDevice, Lookup, Stream, Vacancy, VramCache,
};

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
    pub fn open(place: Place, budget_bytes: u64) -> Result<DeviceCache> {
        let (device, reason) = device(place)?;
        // The heap could hold more than the cache may: what keeps to the budget is the cache.
        let limit_bytes = budget_bytes.max(1 << 20).saturating_mul(2);
        let heap = Heap::new(&device, HeapOptions::new(limit_bytes).granule_bytes(256))?;
        let stream = heap.new_stream()?;
        let cache = VramCache::new(&heap, budget_bytes)?;
        Ok(DeviceCache { heap, stream, cache, reason })
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

fn device(place: Place) -> Result<(DeviceRef, String)> {
    match place {
        Place::Best => {
            let best = hapax::best_device();
            Ok((best.device, best.reason))
        }
        Place::Host => Ok((DeviceRef::new(HostDevice::new()), "it was asked for".to_owned())),
        Place::Cuda(number) => Ok((card(number)?, "it was asked for".to_owned())),
    }
}

#[cfg(feature = "cuda")]
fn card(number: usize) -> Result<DeviceRef> {
    match hapax::CudaDevice::open(number) {
        Ok(card) => Ok(DeviceRef::new(card)),
        Err(absent) => Err(format!("--device cuda:{number}: {absent}").into()),
    }
}

#[cfg(not(feature = "cuda"))]
fn card(number: usize) -> Result<DeviceRef> {
    let build = "cargo run --release --features cuda --example rebuild --";
    Err(format!("this build knows no NVIDIA cards; build it with them: {build} --device cuda:{number}").into())
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
