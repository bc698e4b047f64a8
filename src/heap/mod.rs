//! Device memory by the slab, handed out as blocks under a limit. Knows no types, no caches, no policies.
//!
//! Invariants:
//! - a span is in exactly one place: free in the suballocator, owned by one [`Block`], parked, or in a sweep;
//! - `live + freeing <= limit` and `slabs <= limit`, at every unlock;
//! - no driver call is made while a lock is held, and none by a block's drop.

pub(crate) mod block;
pub(crate) mod bytes;
pub(crate) mod data;
pub(crate) mod options;
pub(crate) mod outside;
pub(crate) mod page_locked;
mod space;
mod staging;
pub(crate) mod sweep;

use crate::device::Fault;
use crate::device::remains::{self, Remains};
use crate::device::stream::{DeviceRef, Stream};
use crate::error::{Error, Returned};
use crate::heap::block::{Block, Write};
use crate::heap::options::HeapOptions;
use crate::heap::outside::Outside;
use crate::heap::page_locked::Buffers;
use crate::heap::space::{Slab, Space};
use crate::heap::staging::Ring;
use crate::heap::sweep::Sweeps;
use crate::observe;
use crate::stats::{LeakReport, Ledger};
use crate::sync::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::io::Write as _;
use std::panic::Location;
use std::sync::Arc;

/// Device memory under a limit: slabs taken from the device, handed out in spans by best fit.
///
/// Clones share it. Handles keep its memory alive by themselves; when the last `Heap` goes while
/// handles live, each is reported with the line that allocated it. So in a struct that holds both, declare the
/// handles and caches before the heap. [`close`](Heap::close) is the orderly end. What a handle that outlives every
/// `Heap` is the last share of is given back by the next call of any heap that may call the driver.
///
/// ```
/// use hapax::{Heap, HeapOptions, HostDevice};
///
/// let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
/// let handle = heap.alloc_slice::<f32>(100)?;
/// assert_eq!(heap.ledger().live_bytes, 512); // 400 bytes in granules of 256
/// handle.free()?;
/// heap.close()?; // every byte goes back to the device
/// # Ok::<(), hapax::Error>(())
/// ```
#[derive(Clone)]
pub struct Heap(Arc<HeapOwner>);

/// What `Heap` clones share, apart from what handles keep: its drop reports the handles left.
struct HeapOwner(Arc<HeapInner>);

pub struct HeapInner {
    pub(crate) device: DeviceRef,
    /// For copies that block: nobody else's work is on it.
    pub(crate) transfers: Stream,
    options: HeapOptions,
    space: Mutex<Space>,
    /// Held by who takes a slab from the device or gives one back, through the driver call. The room of such a slab is neither
    /// free nor of use meanwhile, so to others memory would look out that is not. Taken before `space`; by no drop of a handle.
    slabs_change: Mutex<()>,
    sweeps: Mutex<Sweeps>,
    writes: Mutex<HashMap<u32, Write>>,
    outside: Mutex<HashMap<u32, Outside>>,
    staging: Mutex<Ring>,
    buffers: Arc<Buffers>,
    /// No handle is left, and what is freed now may be freed by driver calls.
    left_behind: bool,
}

impl Heap {
    /// A heap on `device`. It takes no memory until the first allocation.
    ///
    /// # Errors
    /// [`Error::BadOption`] names the option that cannot work; [`Error::DeviceLost`] or [`Error::Device`].
    pub fn new(device: impl Into<DeviceRef>, options: HeapOptions) -> Result<Heap, Error> {
        remains::clear();
        let device = device.into();
        options.check(&device)?;
        let transfers = device.new_stream()?;
        let inner = HeapInner {
            space: Mutex::new(Space::new(options.limit_bytes)),
            slabs_change: Mutex::new(()),
            sweeps: Mutex::new(Sweeps::default()),
            writes: Mutex::new(HashMap::new()),
            outside: Mutex::new(HashMap::new()),
            staging: Mutex::new(Ring::default()),
            buffers: Arc::new(Buffers::new(&device)),
            device,
            transfers,
            options,
            left_behind: false,
        };
        Ok(Heap(Arc::new(HeapOwner(Arc::new(inner)))))
    }

    /// The device that the memory is on.
    pub fn device(&self) -> &DeviceRef {
        &self.inner().device
    }

    /// A new stream of this heap's device.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or what the driver reports.
    pub fn new_stream(&self) -> Result<Stream, Error> {
        self.device().new_stream()
    }

    /// What `bytes` are charged: rounded up to the granule.
    pub fn charge_bytes(&self, bytes: u64) -> u64 {
        self.inner().charge_bytes(bytes)
    }

    /// The granule: every allocation is charged in multiples of it.
    pub fn granule_bytes(&self) -> u64 {
        self.inner().options.granule_bytes
    }

    /// The most that live and freeing bytes together may be.
    pub fn limit_bytes(&self) -> u64 {
        self.inner().options.limit_bytes
    }

    /// Where the bytes are now.
    pub fn ledger(&self) -> Ledger {
        self.inner().space.lock().ledger()
    }

    /// Waits for the streams of every parked block, frees them, and returns how many bytes that gave.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or what the driver reports; blocks not yet freed stay parked.
    pub fn settle(&self) -> Result<u64, Error> {
        remains::clear();
        self.inner().settle()
    }

    /// Gives empty slabs, idle page-locked buffers and idle events back to the device, and returns how many bytes
    /// the slabs were. Waits for nothing.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or what the driver reports; slabs not given back stay.
    pub fn trim(&self) -> Result<u64, Error> {
        remains::clear();
        self.inner().sweep_all()?;
        self.inner().trim()
    }

    /// Waits for all streams, then gives every byte back to the device. Other clones of this heap can
    /// allocate nothing afterwards ([`Error::HeapClosed`]).
    ///
    /// # Errors
    /// [`Error::HeapInUse`] while handles live; [`Error::DeviceLost`], or what the driver reports. The heap comes back.
    pub fn close(self) -> Result<(), Returned<Heap>> {
        remains::clear();
        match self.inner().close() {
            Ok(()) => Ok(()),
            Err(error) => Err(Returned::new(self, error)),
        }
    }

    /// Checks every invariant of the heap's books. For tests.
    ///
    /// # Panics
    /// If one does not hold.
    pub fn validate(&self) {
        self.inner().space.lock().validate();
    }

    pub(crate) fn inner(&self) -> &Arc<HeapInner> {
        &self.0.0
    }
}

impl fmt::Debug for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap").field("device", self.device()).field("ledger", &self.ledger()).finish()
    }
}

/// Reports what is left. If nothing is, the memory goes back here: a heap's drop may call the driver.
impl Drop for HeapOwner {
    fn drop(&mut self) {
        if Arc::strong_count(&self.0) == 1 {
            self.0.give_back();
        }
        let blocks = self.0.space.lock().live_spans();
        if blocks.is_empty() || std::thread::panicking() {
            return;
        }
        let report = LeakReport { device: self.0.device.name(), blocks };
        match &self.0.options.on_leak {
            Some(tell) => tell(&report),
            // Unlike eprintln!, it does not panic when standard error is closed.
            None => drop(writeln!(std::io::stderr(), "{report}")),
        }
    }
}

/// The last share is gone, maybe with a handle. On a device without a driver the memory goes back at once; elsewhere it is
/// left for a call that may give it back. A slab with a leaked block is left to the device, and so are operands
/// whose work nobody saw end: their buffers must not be used again.
impl Drop for HeapInner {
    fn drop(&mut self) {
        if self.left_behind || self.device.is_synchronous() || self.device.is_lost() {
            self.give_back();
            if !self.device.is_lost() {
                self.sweeps.get_mut().leak_operands();
            }
            if !self.left_behind && !self.outside.get_mut().is_empty() {
                remains::leave(Box::new(Forsaken(std::mem::take(self.outside.get_mut()))));
            }
        } else if self.holds_anything() {
            remains::leave(Box::new(HeapInner {
                device: self.device.clone(),
                transfers: self.transfers.clone(),
                options: self.options.clone(),
                space: Mutex::new(std::mem::replace(self.space.get_mut(), Space::new(0))),
                slabs_change: Mutex::new(()),
                sweeps: Mutex::new(std::mem::take(self.sweeps.get_mut())),
                writes: Mutex::new(std::mem::take(self.writes.get_mut())),
                outside: Mutex::new(std::mem::take(self.outside.get_mut())),
                staging: Mutex::new(Ring::default()),
                buffers: self.buffers.clone(),
                left_behind: true,
            }));
        }
    }
}

/// What went with a lost device. No call can give it back, but what other libraries kept for it can be let go of.
struct Forsaken(#[expect(dead_code, reason = "kept until it is dropped")] HashMap<u32, Outside>);

impl Remains for Forsaken {
    fn give_back(&self) -> bool {
        true
    }
}

impl Remains for HeapInner {
    fn give_back(&self) -> bool {
        let swept = self.sweep_all().is_ok();
        let trimmed = self.trim().is_ok(); // of the slabs, leaked blocks keep theirs
        let parked = self.space.lock().ledger().freeing_bytes > 0 || !self.sweeps.lock().is_empty();
        swept && trimmed && !parked || self.device.is_lost()
    }
}

impl HeapInner {
    fn holds_anything(&mut self) -> bool {
        let ledger = self.space.get_mut().ledger();
        let outside = !self.outside.get_mut().is_empty();
        ledger.slab_bytes > 0 || outside || !self.sweeps.get_mut().is_empty()
    }

    pub(crate) fn charge_bytes(&self, bytes: u64) -> u64 {
        // The granule is a power of two; sizes are checked to stay below isize::MAX when allocated.
        let mask = self.options.granule_bytes - 1;
        bytes.saturating_add(mask) & !mask
    }

    /// A block of `elements * element_bytes`, aligned. Nothing is evicted to make room: that is the caller's.
    pub(crate) fn alloc(
        self: &Arc<Self>,
        elements: usize,
        (element_bytes, align): (usize, usize),
        allocated_at: &'static Location<'static>,
    ) -> Result<Block, Error> {
        let too_large = || Error::SizeOverflow { elements: elements as u64, element_bytes: element_bytes as u64 };
        let bytes = elements.checked_mul(element_bytes).ok_or_else(too_large)? as u64;
        let most = isize::MAX as u64 & !(self.options.granule_bytes - 1);
        if bytes > most {
            return Err(too_large());
        }
        check_align(align)?;
        if self.device.is_lost() {
            return Err(Error::DeviceLost);
        }
        if bytes == 0 {
            return self.space.lock().check_open().map(|()| Block::empty(self));
        }
        let charge = self.charge_bytes(bytes);
        // A sweep that fails leaves its blocks parked; only a device that is gone forbids to go on.
        if self.sweep_some() == Err(Error::DeviceLost) {
            return Err(Error::DeviceLost);
        }
        self.alloc_span(charge, align as u64, allocated_at)
    }

    /// Tries, in this order: the slabs at hand or a new one; again after sweeping all that streams have
    /// passed; and at last a new slab in place of empty ones.
    fn alloc_span(
        self: &Arc<Self>,
        charge: u64,
        align: u64,
        allocated_at: &'static Location<'static>,
    ) -> Result<Block, Error> {
        let swept = match self.try_alloc(charge, align, allocated_at) {
            Err(Error::OutOfMemory { .. }) => self.sweep_all(),
            done => return done,
        };
        match self.try_alloc(charge, align, allocated_at) {
            Err(refused @ Error::OutOfMemory { .. }) => {
                swept?; // what it could not reclaim may be what is missing
                if self.space.lock().free_bytes() < charge || self.trim()? == 0 {
                    return Err(refused);
                }
            }
            done => return done,
        }
        self.try_alloc(charge, align, allocated_at)
    }

    fn try_alloc(
        self: &Arc<Self>,
        charge: u64,
        align: u64,
        allocated_at: &'static Location<'static>,
    ) -> Result<Block, Error> {
        if let Some((span, address)) = self.space.lock().alloc_if_open(charge, align, allocated_at)? {
            return Ok(Block::new(self, span, address));
        }
        // Whoever needs a slab while another thread is asking for one waits for that, and looks there first.
        let _told_after = observe::after();
        let _one_at_a_time = self.slabs_change.lock();
        let mut want_bytes = {
            let mut space = self.space.lock();
            if let Some((span, address)) = space.alloc_if_open(charge, align, allocated_at)? {
                return Ok(Block::new(self, span, address));
            }
            space.plan_slab(charge, self.options.slab_bytes)?
        };
        loop {
            match self.device.call_raw(|device| device.alloc(want_bytes)) {
                Ok(address) => {
                    let mut space = self.space.lock();
                    space.add_slab(Slab { address, bytes: want_bytes });
                    space.check_open()?;
                    // The slab fits; only the limit can refuse now, if other threads reached it meanwhile.
                    return match space.alloc(charge, align, allocated_at) {
                        Some((span, address)) => Ok(Block::new(self, span, address)),
                        None => Err(space.out_of_memory(charge, false)),
                    };
                }
                Err(error) => {
                    self.space.lock().cancel_slab(want_bytes);
                    if error.fault != Fault::OutOfMemory {
                        return Err(error.into());
                    }
                    // The card has less than a whole slab left: ask for no more than this allocation.
                    let mut space = self.space.lock();
                    if want_bytes == charge {
                        return Err(space.out_of_memory(charge, true));
                    }
                    want_bytes = space.plan_slab(charge, charge)?;
                }
            }
        }
    }
}

/// What every device aligns its memory to, and its page-locked memory.
const MAX_ALIGN: usize = 256;

fn check_align(align: usize) -> Result<(), Error> {
    if align <= MAX_ALIGN {
        return Ok(());
    }
    Err(Error::BadOption(format!("device memory is aligned to {MAX_ALIGN} bytes, the type asks for {align}")))
}
