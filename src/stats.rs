//! Figures that heaps and caches report. Plain numbers: no locks, no devices.

use hdrhistogram::Histogram;
use std::fmt;
use std::panic::Location;

/// Where a heap's bytes are. `live_bytes + freeing_bytes + free_bytes == limit_bytes`, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Ledger {
    /// Owned by handles, charged in whole granules.
    pub live_bytes: u64,
    /// Given up by their handles, still in use by streams.
    pub freeing_bytes: u64,
    /// What the limit leaves.
    pub free_bytes: u64,
    /// The most that `live_bytes + freeing_bytes` ever was.
    pub peak_bytes: u64,
    /// Taken from the device, in slabs; never above the limit.
    pub slab_bytes: u64,
    /// Of the live and freeing bytes, those of loaded modules: an estimate, the bytes of their images. In no slab.
    pub module_bytes: u64,
    /// Of the live and freeing bytes, those of memory that another library allocated. In no slab.
    pub adopted_bytes: u64,
    /// The heap's limit.
    pub limit_bytes: u64,
    /// Handles alive, not counting empty ones.
    pub live_blocks: u64,
}

/// What was still alive when the last [`Heap`](crate::Heap) handle went.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LeakReport {
    /// The device's name.
    pub device: String,
    /// Each block alive, in the order of allocation places.
    pub blocks: Vec<LeakedBlock>,
}

/// One block that outlived its heap.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct LeakedBlock {
    /// The line that allocated it.
    pub allocated_at: &'static Location<'static>,
    /// Its bytes, charged in whole granules.
    pub bytes: u64,
}

impl fmt::Display for LeakReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: u64 = self.blocks.iter().map(|block| block.bytes).sum();
        write!(f, "hapax: {} handles still own {bytes} bytes of {}", self.blocks.len(), self.device)?;
        for same_line in self.blocks.chunk_by(|a, b| a.allocated_at == b.allocated_at) {
            let bytes: u64 = same_line.iter().map(|block| block.bytes).sum();
            write!(f, "\n  {}: {} of them, {bytes} bytes", same_line[0].allocated_at, same_line.len())?;
        }
        Ok(())
    }
}

/// A cache's figures since it was made, and its bytes now.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct CacheStats {
    /// Lookups that returned a lease.
    pub hits: u64,
    /// Lookups that found nothing resident.
    pub misses: u64,
    /// Entries evicted to make room, also for a smaller budget; removed, retired and replaced ones do not count.
    pub evictions: u64,
    /// Values refused: oversize, no room, leased, being filled, or above their reservation.
    pub rejections: u64,
    /// Entries resident now.
    pub entries: usize,
    /// Bytes of resident entries.
    pub resident_bytes: u64,
    /// Bytes of retired entries that still await their last lease or their collection.
    pub retired_bytes: u64,
    /// Bytes promised to open reservations.
    pub reserved_bytes: u64,
    /// Bytes of resident entries that are leased now.
    pub leased_bytes: u64,
    /// The budget that the three sums stay within.
    pub budget_bytes: u64,
    /// How long fills took, from the vacancy's opening to its commit.
    pub fill_ns: FillTimes,
}

impl CacheStats {
    /// Hits per lookup, 0 before the first.
    pub fn hit_rate(&self) -> f64 {
        let lookups = self.hits + self.misses;
        if lookups == 0 { 0.0 } else { self.hits as f64 / lookups as f64 }
    }
}

/// Percentiles of fill times in nanoseconds, each within 1 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct FillTimes {
    /// Fills measured.
    pub count: u64,
    /// The median.
    pub p50: u64,
    /// Nine of ten took no longer.
    pub p90: u64,
    /// Ninety-nine of a hundred took no longer.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

/// Collects fill times; its memory is bounded however many there are.
pub(crate) struct FillHistogram(Histogram<u32>);

impl FillHistogram {
    pub(crate) fn new() -> Self {
        const HOUR_NS: u64 = 3_600_000_000_000;
        FillHistogram(Histogram::new_with_bounds(1, HOUR_NS, 2).expect("constant bounds are valid"))
    }

    pub(crate) fn record(&mut self, fill_ns: u64) {
        self.0.saturating_record(fill_ns.max(1));
    }

    pub(crate) fn times(&self) -> FillTimes {
        let at = |quantile| self.0.value_at_quantile(quantile);
        FillTimes { count: self.0.len(), p50: at(0.5), p90: at(0.9), p99: at(0.99), max: self.0.max() }
    }
}
