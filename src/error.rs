//! What can go wrong, said once: every refusal names the bytes it is about and what to try.
//! Knows no device, no cache, no handle.

use std::error::Error as StdError;
use std::fmt;

/// Everything that hapax refuses or that a device reports.
///
/// Out of memory and a full cache are data, not text: match on the fields and decide.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The heap has no room. `freeing_bytes` come back once the streams that still use them have
    /// passed ([`Heap::settle`](crate::Heap::settle) waits for that); evicting frees more.
    #[error(
        "out of device memory: {need_bytes} bytes needed, {free_bytes} free under the limit of {limit_bytes} \
         (largest free span {largest_free_bytes}), {freeing_bytes} waiting for streams; {}",
        if *device_refused {
            "the device itself has no more: other heaps or processes hold it; evict, or trim other heaps"
        } else {
            "evict, call Heap::settle, or raise the heap's limit"
        }
    )]
    OutOfMemory {
        /// Bytes asked for, rounded up to the heap's granule.
        need_bytes: u64,
        /// Bytes under the limit that are neither live nor freeing.
        free_bytes: u64,
        /// The largest free span in the slabs that the heap holds now.
        largest_free_bytes: u64,
        /// Bytes whose handles are gone but whose streams have not passed.
        freeing_bytes: u64,
        /// The heap's limit.
        limit_bytes: u64,
        /// The limit leaves room, but the device refused a slab.
        device_refused: bool,
    },
    /// `elements * element_bytes` (rounded up to the granule) is more than `isize::MAX`.
    #[error("{elements} elements of {element_bytes} bytes are more than can be addressed")]
    SizeOverflow {
        /// Elements asked for.
        elements: u64,
        /// Bytes of one element.
        element_bytes: u64,
    },
    /// Two sides of a copy differ in length.
    #[error("the device side holds {device_elements} elements, the host side {host_elements}; both must be equal")]
    LengthMismatch {
        /// Elements on the device.
        device_elements: usize,
        /// Elements on the host.
        host_elements: usize,
    },
    /// A range lies outside a view.
    #[error("the range {start}..{end} is outside of a view of {elements} elements")]
    OutOfRange {
        /// First element asked for.
        start: usize,
        /// One past the last element asked for.
        end: usize,
        /// Elements of the view.
        elements: usize,
    },
    /// A cast to elements whose size does not divide the view, or whose alignment its address lacks.
    #[error(
        "a view of {bytes} bytes at {address:#x} cannot be read as elements of {element_bytes} bytes aligned to {align_bytes}; \
         slice it to a multiple and start at an aligned offset"
    )]
    Misaligned {
        /// Device address of the view.
        address: u64,
        /// Bytes of the view.
        bytes: u64,
        /// Size of the element cast to.
        element_bytes: usize,
        /// Alignment of the element cast to.
        align_bytes: usize,
    },
    /// A setting that cannot work. The text says which and what would.
    #[error("{0}")]
    BadOption(String),
    /// The device is gone (reset, unplugged, or a sticky error). No further call is made to it, and its
    /// memory can no longer be freed: drop the handles and open the device anew.
    #[error("the device is lost: its memory is gone with it; drop its handles and open it anew")]
    DeviceLost,
    /// A device call failed; nothing was lost.
    #[error("device call {call} failed with code {code}: {message}")]
    Device {
        /// The call, in the device's own words.
        call: &'static str,
        /// The device's own code.
        code: i64,
        /// The device's own text.
        message: String,
    },
    /// A stream that is being captured into a graph: what is put on it now runs later, and again, when the
    /// memory may be another's.
    #[error("the stream is being captured into a graph; end the capture first, or use another stream")]
    StreamCapturing,
    /// A stream of another device.
    #[error("the stream belongs to another device than the memory; make it with this heap's new_stream()")]
    WrongDevice,
    /// A kernel was to be launched on another stream than what it is given is bound to. Nothing was launched.
    #[error(
        "argument {argument} is bound to another stream than the kernel's function; take its view or lease for the same stream"
    )]
    WrongStream {
        /// Which argument, counted from 0.
        argument: usize,
    },
    /// A stream or memory of another context than the device's own.
    #[error(
        "it belongs to another CUDA context than the device's primary one; make it from CudaContext::new of the same card"
    )]
    WrongContext,
    /// Something that devices of this kind cannot do, such as running kernels on host memory.
    #[error("this device has no {call}; open a device that has, such as a CudaDevice for modules and kernels")]
    Unsupported {
        /// The call, in the words of the [`Device`](crate::Device) trait.
        call: &'static str,
    },
    /// Bytes that cannot be loaded as a module. The text says why.
    #[error("not a module that can be loaded: {0}")]
    BadImage(String),
    /// The memory is a part of a slab, so it cannot be given to another library's owner.
    #[error(
        "the memory was not adopted: it lies inside a slab of the heap, and nobody else may free it; use export() to lend it"
    )]
    NotAdopted,
    /// The device cannot close while heaps or streams use it.
    #[error(
        "{shares} heaps, streams or other shares of the device are left; close the heaps and drop them, then close it"
    )]
    DeviceInUse {
        /// Shares of the device beside the one that was to close it.
        shares: usize,
    },
    /// A handle of another heap.
    #[error("the handle was allocated by another heap than the cache's; allocate it from Cache::heap()")]
    WrongHeap,
    /// A lease of another cache.
    #[error("the lease is of another cache; pass the Arc of the cache that it was taken from")]
    WrongCache,
    /// The heap was closed.
    #[error("the heap is closed")]
    HeapClosed,
    /// The heap cannot close while handles live.
    #[error("{live_blocks} handles still own {live_bytes} bytes of the heap; free them, then close it")]
    HeapInUse {
        /// Handles alive.
        live_blocks: u64,
        /// Bytes that they own.
        live_bytes: u64,
    },
    /// A value larger than the whole budget.
    #[error("{need_bytes} bytes can never fit into a budget of {budget_bytes}; raise it with set_budget_bytes")]
    Oversize {
        /// Bytes that the value is charged.
        need_bytes: u64,
        /// The cache's budget.
        budget_bytes: u64,
    },
    /// What is leased, reserved or retired leaves no room. Nothing was evicted.
    #[error(
        "no room: {need_bytes} bytes needed, but at least {held_bytes} of the budget of {budget_bytes} are leased, retired or reserved; \
         drop leases, or give up reservations"
    )]
    NoRoom {
        /// Bytes that the value is charged.
        need_bytes: u64,
        /// Bytes that no eviction can free now, at least: leased entries that no eviction has met yet are not in it.
        held_bytes: u64,
        /// The cache's budget.
        budget_bytes: u64,
    },
    /// What is leased, reserved or retired leaves no entry free under `max_entries`. Nothing was evicted.
    #[error("no room: all {max_entries} entries are leased, retired or reserved; drop leases, or give up reservations")]
    NoEntry {
        /// The cache's bound on entries.
        max_entries: usize,
    },
    /// The committed value is charged more than was reserved for it.
    #[error(
        "the value is charged {charge_bytes} bytes, but {reserved_bytes} were reserved; reserve as much as is allocated"
    )]
    OverReservation {
        /// Bytes that the value is charged.
        charge_bytes: u64,
        /// Bytes reserved.
        reserved_bytes: u64,
    },
    /// A budget that leases, retired entries and reservations forbid. Nothing was evicted.
    #[error(
        "a budget of {budget_bytes} bytes cannot hold the {held_bytes} that are leased, retired or reserved now; \
         drop leases, give up reservations, or ask for {held_bytes} at least"
    )]
    BudgetHeld {
        /// The budget asked for.
        budget_bytes: u64,
        /// Bytes that no eviction can free now.
        held_bytes: u64,
    },
    /// The key's entry is leased, so it cannot be replaced; `retire` hides it at once.
    #[error("the key's entry is leased; retire it, or wait until its leases end")]
    Leased,
    /// The key has an open vacancy, so only its filler may give it a value.
    #[error("the key is being filled; use lookup to wait for it")]
    BeingFilled,
    /// Waiting for this key would wait for the calling thread itself, directly or through other fillers.
    #[error("waiting for this key would deadlock: its filler waits, directly or through others, for this thread")]
    WouldDeadlock,
    /// A filler returned a lease of another key, cache or stream.
    #[error("the filler returned a lease of another entry, or on another stream, than it was asked to fill")]
    ForeignFill,
}

impl Error {
    /// Whether a cache refused a value for want of room: [`Oversize`](Error::Oversize), [`NoRoom`](Error::NoRoom) or
    /// [`NoEntry`](Error::NoEntry). Nothing was evicted; use the value uncached, or try again when leases have ended.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Error::Oversize { .. } | Error::NoRoom { .. } | Error::NoEntry { .. })
    }
}

/// A by-value call that failed, and what it took: nothing is lost, so it can be tried again.
///
/// `?` turns it into an [`Error`] in a function that returns one (the handle is then released); in a
/// function with an error type of its own, write [`.or_release()?`](OrRelease::or_release).
///
/// ```
/// use hapax::{Error, Heap, HeapOptions, HostDevice};
///
/// let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
/// let handle = heap.alloc_slice::<u32>(4)?;
/// let refused = handle.upload_from(&[1, 2, 3]).unwrap_err();
/// assert!(matches!(*refused.error, Error::LengthMismatch { .. }));
/// let handle = refused.handle.upload_from(&[1, 2, 3, 4])?; // the same memory
/// # handle.free()?;
/// # Ok::<(), Error>(())
/// ```
#[must_use = "the handle that the call took is in here"]
pub struct Returned<H> {
    /// What the call took.
    pub handle: H,
    /// Why it was refused.
    pub error: Box<Error>,
}

impl<H> Returned<H> {
    pub(crate) fn new(handle: H, error: Error) -> Self {
        Returned { handle, error: Box::new(error) }
    }

    /// The reason alone; what was returned is released.
    pub fn into_error(self) -> Error {
        *self.error
    }

    /// Changes what is returned, keeping the reason.
    pub fn map<H2>(self, change: impl FnOnce(H) -> H2) -> Returned<H2> {
        Returned { handle: change(self.handle), error: self.error }
    }
}

impl<H> From<Returned<H>> for Error {
    fn from(returned: Returned<H>) -> Error {
        returned.into_error()
    }
}

impl<H> fmt::Debug for Returned<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Returned").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<H> fmt::Display for Returned<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<H> StdError for Returned<H> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}

/// Turns a refused by-value call into its [`Error`], releasing what it returned.
pub trait OrRelease<T>: sealed::Sealed {
    /// `Ok` passes through; on `Err` the returned handle is dropped and its reason remains, ready for `?`.
    fn or_release(self) -> Result<T, Error>;
}

impl<T, H> OrRelease<T> for Result<T, Returned<H>> {
    fn or_release(self) -> Result<T, Error> {
        self.map_err(Error::from)
    }
}

mod sealed {
    pub trait Sealed {}
    impl<T, H> Sealed for Result<T, super::Returned<H>> {}
}
