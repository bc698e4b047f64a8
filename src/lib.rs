//! GPU memory for compilers: every allocation is created once, held by exactly one owner, and freed once.
//!
//! - [`DevBox`]: a move-only handle of device memory; its type says whether it can be read, written or freed.
//! - [`VramCache`]: a concurrent cache of handles under a byte budget that is never exceeded. Eviction hands
//!   the handles back; leases keep entries while kernels use them.
//! - [`Heap`]: suballocated device memory with a limit and a ledger, over any [`Device`].
//! - `CodeStore`, with the feature `persist`: compiled code that outlives the process, safe under crashes, many processes and
//!   bad bytes.
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
//! The packages `hapax-cranelift` and `hapax-wasmtime` keep code of those compilers; the first one's README is a guide to what belongs
//! in a fingerprint.
//!
//! DESIGN.md in the repository has the invariants, what shows each of them, and the reasons.

/// The README's program compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(all(feature = "persist", not(target_os = "linux")))]
compile_error!("the feature `persist` is for Linux: its locks, syncs and checks of file systems are Linux's");

mod cache;
#[cfg(feature = "persist")]
mod code;
mod device;
mod error;
#[cfg(all(test, not(hapax_loom)))]
mod golden;
mod handle;
mod heap;
#[cfg(feature = "persist")]
mod hints;
pub mod linear;
#[cfg(feature = "nvrtc")]
pub mod nvrtc;
mod observe;
#[cfg(feature = "persist")]
mod persist;
mod stats;
mod suballoc;
mod sync;
#[cfg(feature = "persist")]
mod warm;

pub use crate::cache::evictions::Evictions;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub use crate::cache::index::words::WordIndex;
pub use crate::cache::lease::{Lease, OwnedLease};
pub use crate::cache::options::{CacheOptions, Mode};
pub use crate::cache::policy::Policy;
pub use crate::cache::resident::Resident;
pub use crate::cache::trace::TraceWriter;
pub use crate::cache::vacancy::{Filled, Lookup, Reservation, TryLookup, Vacancy};
pub use crate::cache::{Cache, Peek, Removed, SnapshotEntry, VramCache};
#[cfg(feature = "persist")]
pub use crate::code::error::{CodeError, Difference, Missing};
#[cfg(feature = "persist")]
pub use crate::code::{CodeMode, CodeStats, CodeStore, Compiled, Source, Unit};
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
pub use crate::device::{
    BestDevice, Device, DeviceError, Fault, ForeignAllocator, LaunchShape, MemoryInfo, RawContext, RawEvent,
    RawFunction, RawModule, RawStream, best_device,
};
pub use crate::error::{Error, OrRelease, Returned};
pub use crate::handle::DevBox;
pub use crate::handle::export::Exported;
pub use crate::handle::launch::{KernelMemory, Launch};
pub use crate::handle::module::{Function, Module, ModuleView};
pub use crate::handle::state::{Evicted, InFlight, Ready, State, Uninit};
pub use crate::handle::transfer::Landed;
pub use crate::handle::view::{View, ViewMut};
pub use crate::heap::Heap;
pub use crate::heap::block::Freed;
pub use crate::heap::data::DeviceData;
pub use crate::heap::options::HeapOptions;
pub use crate::heap::page_locked::PageLocked;
#[cfg(feature = "persist")]
pub use crate::hints::HintStore;
#[cfg(feature = "persist")]
pub use crate::hints::options::HintOptions;
#[cfg(feature = "persist")]
pub use crate::hints::records::{HintRecord, HintRecords};
#[cfg(feature = "persist")]
pub use crate::hints::report::{Hint, HintStats, RankedHint};
#[cfg(feature = "persist")]
pub use crate::persist::envelope::{Damage, Key, Kind, Meta};
#[cfg(all(feature = "persist", feature = "testing"))]
pub use crate::persist::envelope::{Envelope, decode, encode};
#[cfg(feature = "persist")]
pub use crate::persist::fingerprint::{Fingerprint, FingerprintBuilder};
#[cfg(all(feature = "persist", feature = "testing"))]
pub use crate::persist::store::crash::{CrashDisk, PowerLoss};
#[cfg(feature = "persist")]
pub use crate::persist::store::directory::DirectoryStore;
#[cfg(feature = "persist")]
pub use crate::persist::store::directory::journal::DirectoryJournal;
#[cfg(feature = "persist")]
pub use crate::persist::store::directory::options::DirectoryOptions;
#[cfg(feature = "persist")]
pub use crate::persist::store::directory::root::Distrust;
#[cfg(all(feature = "persist", feature = "testing"))]
pub use crate::persist::store::directory::root::Surroundings;
#[cfg(all(feature = "persist", feature = "testing"))]
pub use crate::persist::store::directory::segment::read_any_file;
#[cfg(all(feature = "persist", feature = "testing"))]
pub use crate::persist::store::disk::{Disk, DiskFile};
#[cfg(all(feature = "persist", feature = "testing"))]
pub use crate::persist::store::fault::{DiskFault, DiskFaults, FaultDisk};
#[cfg(feature = "persist")]
pub use crate::persist::store::layered::LayeredStore;
#[cfg(feature = "persist")]
pub use crate::persist::store::memory::{MemoryJournal, MemoryStore};
#[cfg(feature = "persist")]
pub use crate::persist::store::{
    Collected, Compacted, ENTRY_BYTES_AT_MOST, Journal, JournalEntry, Miss, Record, Refusal, Replay, Store, StoreStats,
    StoredEntry,
};
pub use crate::stats::{CacheStats, FillTimes, LeakReport, LeakedBlock, Ledger};
#[cfg(feature = "persist")]
pub use crate::warm::{Refilled, Refilling, WarmEntry, WarmSet};
/// The cudarc that hapax takes CUDA's types from, for those who use both.
#[cfg(feature = "cuda")]
pub use cudarc;
