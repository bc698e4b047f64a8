//! How a heap is set up. Checks itself against a device, touches no memory.

use crate::device::stream::DeviceRef;
use crate::error::Error;
use crate::stats::LeakReport;
use std::fmt;
use std::sync::Arc;

/// Settings of a [`Heap`](crate::Heap): its limit, granule and slab size.
///
/// ```
/// use hapax::HeapOptions;
///
/// let options = HeapOptions::new(2 << 30) // 2 GiB
///     .granule_bytes(512)
///     .slab_bytes(256 << 20)
///     .on_leak(|report| eprintln!("{report}"));
/// # let _ = options;
/// ```
#[derive(Clone)]
#[must_use]
pub struct HeapOptions {
    pub(crate) limit_bytes: u64,
    pub(crate) granule_bytes: u64,
    pub(crate) slab_bytes: u64,
    pub(crate) staging_bytes: usize,
    pub(crate) on_leak: Option<Arc<dyn Fn(&LeakReport) + Send + Sync>>,
}

impl HeapOptions {
    /// At most `limit_bytes` are taken from the device. Other settings: granules of 256 bytes, slabs of 64 MiB, 2 MiB to stage
    /// copies in.
    ///
    /// Give a heap more than the budgets of the caches on it, so that fragments do not force extra evictions.
    pub fn new(limit_bytes: u64) -> Self {
        HeapOptions { limit_bytes, granule_bytes: 256, slab_bytes: 64 << 20, staging_bytes: 2 << 20, on_leak: None }
    }

    /// Every allocation is charged in multiples of this: a power of two, at least the device's own
    /// (256 on CUDA, 1 on the host).
    pub fn granule_bytes(mut self, bytes: u64) -> Self {
        self.granule_bytes = bytes;
        self
    }

    /// How much is taken from the device at a time. Larger allocations get a slab of their own.
    pub fn slab_bytes(mut self, bytes: u64) -> Self {
        self.slab_bytes = bytes;
        self
    }

    /// Page-locked host memory that blocking copies go through, in two halves, so that one is copied by the device while the
    /// host fills or empties the other. Taken with the first such copy, given back by [`trim`](crate::Heap::trim). 0:
    /// they are left to the driver. On the host, and for copies in flight, nothing is staged.
    pub fn staging_bytes(mut self, bytes: usize) -> Self {
        self.staging_bytes = bytes;
        self
    }

    /// Called instead of printing to standard error when the last heap handle goes while blocks live.
    pub fn on_leak(mut self, tell: impl Fn(&LeakReport) + Send + Sync + 'static) -> Self {
        self.on_leak = Some(Arc::new(tell));
        self
    }

    pub(crate) fn check(&self, device: &DeviceRef) -> Result<(), Error> {
        let bad = |text: String| Err(Error::BadOption(text));
        let least = device.min_granule_bytes();
        if self.limit_bytes == 0 {
            return bad("the heap's limit is 0 bytes; give it at least one granule".to_owned());
        }
        if self.limit_bytes > isize::MAX as u64 {
            return bad(format!("a limit of {} bytes is more than can be addressed", self.limit_bytes));
        }
        if !self.granule_bytes.is_power_of_two() || self.granule_bytes < least {
            let granule = self.granule_bytes;
            return bad(format!("a granule of {granule} bytes; it must be a power of two, at least {least} here"));
        }
        if self.limit_bytes < self.granule_bytes {
            let (limit, granule) = (self.limit_bytes, self.granule_bytes);
            return bad(format!("a limit of {limit} bytes holds no granule of {granule}"));
        }
        if self.slab_bytes == 0 {
            return bad("slabs of 0 bytes; the default is 64 MiB".to_owned());
        }
        if let Some(memory) = device.call(|device| device.memory())? {
            if self.limit_bytes > memory.free_bytes {
                let (limit, free) = (self.limit_bytes, memory.free_bytes);
                return bad(format!("a limit of {limit} bytes, but the device has {free} free now; cards are shared"));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for HeapOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeapOptions")
            .field("limit_bytes", &self.limit_bytes)
            .field("granule_bytes", &self.granule_bytes)
            .field("slab_bytes", &self.slab_bytes)
            .field("staging_bytes", &self.staging_bytes)
            .finish_non_exhaustive()
    }
}
