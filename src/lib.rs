//! GPU memory for compilers: every allocation is created once, held by exactly one owner, and freed once.
//!
//! - [`DevBox`]: a move-only handle of device memory; its type says whether it can be read, written or freed.
//! - [`VramCache`]: a concurrent cache of handles under a byte budget that is never exceeded. Eviction hands
//!   the handles back; leases keep entries while kernels use them.
//! - [`Heap`]: suballocated device memory with a limit and a ledger, over any [`Device`].
//!
//! ```
//! use hapax::{Heap, HeapOptions, Lookup, VramCache};
//!
//! let heap = Heap::new(&hapax::best_device().device, HeapOptions::new(64 << 20))?;
//! let stream = heap.new_stream()?;
//! let cache: VramCache<u64, [u8]> = VramCache::new(&heap, 16 << 20)?;
//! let lease = match cache.lookup(&42, &stream)? {
//!     Lookup::Hit(lease) => lease,
//!     Lookup::Miss(vacancy) => vacancy.fill_from(b"compiled code")?.lease,
//! };
//! assert_eq!(lease.len(), 13);
//! # drop(lease);
//! # Ok::<(), hapax::Error>(())
//! ```
//!
//! DESIGN.md in the repository has the invariants, what shows each of them, and the reasons.

/// The README's program compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod cache;
mod device;
mod error;
mod handle;
mod heap;
mod stats;
mod suballoc;
mod sync;

pub use crate::cache::evictions::Evictions;
pub use crate::cache::lease::{Lease, OwnedLease};
pub use crate::cache::options::CacheOptions;
pub use crate::cache::policy::Policy;
pub use crate::cache::resident::Resident;
pub use crate::cache::trace::TraceWriter;
pub use crate::cache::vacancy::{Filled, Lookup, Reservation, TryLookup, Vacancy};
pub use crate::cache::{Cache, Peek, Removed, SnapshotEntry, VramCache};
#[cfg(feature = "cuda")]
pub use crate::device::cuda::driver::CudaAbsent;
#[cfg(feature = "cuda")]
pub use crate::device::cuda::{CudaDevice, CudaInfo};
#[cfg(feature = "testing")]
pub use crate::device::dry::DryDevice;
#[cfg(feature = "testing")]
pub use crate::device::fault::{FaultControl, FaultDevice};
pub use crate::device::host::HostDevice;
#[cfg(feature = "testing")]
pub use crate::device::late::{LateControl, LateDevice};
pub use crate::device::stream::{DeviceRef, Stream};
pub use crate::device::{BestDevice, Device, DeviceError, Fault, MemoryInfo, RawEvent, RawStream, best_device};
pub use crate::error::{Error, OrRelease, Returned};
pub use crate::handle::DevBox;
pub use crate::handle::export::Exported;
pub use crate::handle::state::{Evicted, InFlight, Ready, State, Uninit};
pub use crate::handle::transfer::Landed;
pub use crate::handle::view::{View, ViewMut};
pub use crate::heap::Heap;
pub use crate::heap::block::Freed;
pub use crate::heap::data::DeviceData;
pub use crate::heap::options::HeapOptions;
pub use crate::heap::page_locked::PageLocked;
pub use crate::stats::{CacheStats, FillTimes, LeakReport, LeakedBlock, Ledger};
