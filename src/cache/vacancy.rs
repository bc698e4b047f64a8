//! Filling a miss: the vacancy is the right to do it, the reservation the bytes for it.

use crate::cache::Cache;
use crate::cache::evictions::Evictions;
use crate::cache::lease::Lease;
use crate::cache::resident::Resident;
use crate::cache::slot::Stored;
use crate::cache::told;
use crate::device::stream::Stream;
use crate::error::{Error, Returned};
use crate::handle::DevBox;
use crate::handle::state::Uninit;
use crate::heap::Heap;
use crate::heap::block::Freed;
use crate::heap::data::DeviceData;
use std::fmt;
use std::hash::Hash;
use std::num::NonZeroU64;
use std::time::Instant;

/// What [`Cache::lookup`] found.
#[must_use = "a miss holds the key's vacancy: fill it, or drop it for the next"]
pub enum Lookup<'c, K: Hash + Eq, V: Resident> {
    /// The entry, leased.
    Hit(Lease<'c, K, V>),
    /// The right to fill the key, which nobody else has meanwhile.
    Miss(Vacancy<'c, K, V>),
}

/// What [`Cache::try_lookup`] or [`Cache::lookup_for`] found.
#[must_use = "a miss holds the key's vacancy: fill it, or drop it for the next"]
pub enum TryLookup<'c, K: Hash + Eq, V: Resident> {
    /// The entry, leased.
    Hit(Lease<'c, K, V>),
    /// The right to fill the key, which nobody else has meanwhile.
    Miss(Vacancy<'c, K, V>),
    /// Another filler has the vacancy, still.
    Busy,
}

/// The new entry's lease, and what had to leave for it.
#[must_use = "it holds the lease, and evicted handles that are yours"]
pub struct Filled<'c, K: Hash + Eq, V: Resident> {
    /// The new entry, leased.
    pub lease: Lease<'c, K, V>,
    /// What the filler's reservation evicted and did not free itself.
    pub evicted: Evictions<K, V>,
}

/// The right to fill one key. While it is open, other lookups of the key wait for it.
///
/// Dropped unfilled, also by a panic or an error on the way, it passes to the next waiter. Forgotten,
/// its key stays taken for good: lookups of it wait for ever, `try_lookup` says `Busy`, and a `lookup` by
/// the same thread is refused with [`Error::WouldDeadlock`].
///
/// It stays on the thread that opened it, so that waiting can be checked for deadlocks.
#[must_use = "fill it, or drop it for the next"]
pub struct Vacancy<'c, K: Hash + Eq, V: Resident> {
    hold: Hold<'c, K, V>,
}

/// A vacancy with bytes of the budget set aside for its value. Dropped, it gives both back.
#[must_use = "commit a value, or drop it to give the bytes back"]
pub struct Reservation<'c, K: Hash + Eq, V: Resident> {
    hold: Hold<'c, K, V>,
}

/// An open vacancy, and what was reserved for it. Its drop gives up both.
struct Hold<'c, K: Hash + Eq, V: Resident> {
    cache: &'c Cache<K, V>,
    stream: &'c Stream,
    slot: u32,
    /// In charged bytes.
    reserved: Option<u64>,
    opened: Instant,
    cost_ns: Option<u64>,
    /// The key's in the cache's trace, if it writes one.
    traced: Option<NonZeroU64>,
    _bound: OneThread,
}

/// Keeps a vacancy on the thread that others wait for: a raw pointer, of which there is none, is not `Send`.
struct OneThread([*const (); 0]);

impl<'c, K: Hash + Eq, V: Resident> Vacancy<'c, K, V> {
    pub(crate) fn new(cache: &'c Cache<K, V>, stream: &'c Stream, slot: u32, traced: Option<NonZeroU64>) -> Self {
        let (opened, _bound) = (Instant::now(), OneThread([]));
        Vacancy { hold: Hold { cache, stream, slot, reserved: None, opened, cost_ns: None, traced, _bound } }
    }

    /// What the value costs to make again; measured from the miss to the commit if not given. `peek` and `snapshot` tell it.
    pub fn cost_ns(mut self, ns: u64) -> Self {
        self.hold.cost_ns = Some(ns);
        self
    }

    /// Sets `bytes` of the budget aside, rounded up to the heap's granule, and hands back what that evicts.
    ///
    /// For a bundle, reserve the sum of what [`Heap::charge_bytes`](crate::Heap::charge_bytes) says of its parts.
    /// Memory stays inside the budget too if the evictions are freed before the value is allocated.
    ///
    /// # Errors
    /// [`Error::Oversize`], [`Error::NoRoom`] or [`Error::NoEntry`]; the vacancy comes back and nothing was evicted.
    pub fn reserve(mut self, bytes: u64) -> Result<(Reservation<'c, K, V>, Evictions<K, V>), Returned<Self>> {
        let cache = self.hold.cache;
        let charge = cache.heap().charge_bytes(bytes);
        match cache.index().reserve(charge) {
            Ok(removed) => {
                self.hold.reserved = Some(charge);
                let evicted = cache.evictions(removed);
                let reservation = Reservation { hold: self.hold };
                Ok((reservation, told::evicted(evicted)))
            }
            Err(error) => Err(Returned::new(self, told::refusing(error))),
        }
    }
}

impl<'c, K, T> Vacancy<'c, K, DevBox<[T]>>
where
    K: Hash + Eq,
    [T]: DeviceData,
{
    /// Fills the key with a copy of `contents`: reserves, frees what that evicts and waits for the streams
    /// that still use it, allocates, uploads and commits. If the heap has no room, for fragments or
    /// because others share it, one more round of eviction is made.
    ///
    /// # Errors
    /// [`Error::Oversize`], [`Error::NoRoom`] or [`Error::NoEntry`] before anything is evicted;
    /// [`Error::OutOfMemory`], [`Error::DeviceLost`] or [`Error::Device`]. The vacancy comes back.
    #[track_caller]
    pub fn fill_from(self, contents: &[T]) -> Result<Filled<'c, K, DevBox<[T]>>, Returned<Self>> {
        let bytes = size_of_val(contents) as u64;
        let (reservation, evicted) = self.reserve(bytes)?;
        match reservation.fill_with(contents, evicted) {
            Ok(handle) => match reservation.commit(handle) {
                Ok(lease) => Ok(Filled { lease, evicted: Evictions::empty() }),
                Err(refused) => Err(refused.map(|(reservation, handle)| {
                    let _ = handle.free(); // the refusal is the news
                    reservation.into_vacancy()
                })),
            },
            Err(error) => Err(Returned::new(reservation.into_vacancy(), error)),
        }
    }
}

impl<'c, K: Hash + Eq, V: Resident> Reservation<'c, K, V> {
    /// Bytes set aside, in whole granules.
    pub fn reserved_bytes(&self) -> u64 {
        self.hold.reserved.expect("a reservation has reserved")
    }

    /// What the value costs to make again; measured from the miss to the commit if not given. `peek` and `snapshot` tell it.
    pub fn cost_ns(mut self, ns: u64) -> Self {
        self.hold.cost_ns = Some(ns);
        self
    }

    /// Evicts once more: the shortest prefix of the unleased that frees as many bytes as are reserved,
    /// or all of them. For when the heap has no room although the budget does: fragments, or other users.
    pub fn make_room(&self) -> Evictions<K, V> {
        let cache = self.hold.cache;
        told::evicted(cache.evictions(cache.index().evict_bytes(self.reserved_bytes())))
    }

    /// Gives the bytes back and keeps the vacancy.
    pub fn into_vacancy(mut self) -> Vacancy<'c, K, V> {
        if let Some(charge) = self.hold.reserved.take() {
            self.hold.cache.index().unreserve(charge);
        }
        Vacancy { hold: self.hold }
    }

    /// Makes `value` the key's entry and leases it. Reserved bytes that it does not need go back.
    ///
    /// # Errors
    /// [`Error::OverReservation`] or [`Error::WrongHeap`]; both come back.
    pub fn commit(self, value: V) -> Result<Lease<'c, K, V>, Returned<(Self, V)>> {
        let cache = self.hold.cache;
        if !value.is_of(cache.heap_inner()) {
            cache.index().reject();
            return Err(Returned::new((self, value), Error::WrongHeap));
        }
        let (charge_bytes, reserved_bytes) = (value.charge_bytes(), self.reserved_bytes());
        if charge_bytes > reserved_bytes {
            cache.index().reject();
            return Err(Returned::new((self, value), Error::OverReservation { charge_bytes, reserved_bytes }));
        }
        if let Err(error) = value.lend(self.hold.stream) {
            return Err(Returned::new((self, value), error));
        }
        let (_, raw) = value.into_raw();
        Ok(self.hold.commit(raw, reserved_bytes))
    }
}

impl<'c, K, T> Reservation<'c, K, DevBox<[T]>>
where
    K: Hash + Eq,
    [T]: DeviceData,
{
    /// Allocates `elements` from the cache's heap, within what is reserved.
    ///
    /// # Errors
    /// [`Error::OverReservation`] if they need more than is reserved, else as [`Heap::alloc_slice`](crate::Heap::alloc_slice).
    #[track_caller]
    pub fn alloc_slice(&self, elements: usize) -> Result<DevBox<[T], Uninit>, Error> {
        let heap = self.hold.cache.heap();
        let bytes = (elements as u64).saturating_mul(size_of::<T>() as u64);
        let (charge_bytes, reserved_bytes) = (heap.charge_bytes(bytes), self.reserved_bytes());
        if charge_bytes > reserved_bytes {
            return Err(Error::OverReservation { charge_bytes, reserved_bytes });
        }
        heap.alloc_slice(elements)
    }

    // No closure stands between the caller and the allocation: the leak report names the caller's line.
    #[track_caller]
    fn fill_with(&self, contents: &[T], evicted: Evictions<K, DevBox<[T]>>) -> Result<DevBox<[T]>, Error> {
        self.free_and_wait(evicted)?;
        let memory = self.alloc_in_two_rounds(contents.len())?;
        memory.upload_from(contents).map_err(|refused| {
            let _ = refused.handle.free(); // the refusal is the news
            *refused.error
        })
    }

    #[track_caller]
    fn alloc_in_two_rounds(&self, elements: usize) -> Result<DevBox<[T], Uninit>, Error> {
        let refused = match self.alloc_slice(elements) {
            Ok(memory) => return Ok(memory),
            Err(error) => error,
        };
        if !matches!(refused, Error::OutOfMemory { .. }) {
            return Err(refused);
        }
        let evicted = self.make_room();
        if evicted.is_empty() {
            return Err(refused);
        }
        self.free_and_wait(evicted)?;
        self.alloc_slice(elements)
    }
}

impl<K: Hash + Eq, V: Resident> Reservation<'_, K, V> {
    pub(crate) fn heap(&self) -> &Heap {
        self.hold.cache.heap()
    }

    /// Frees what left, and waits for the streams that still use it, so that it does not stand beside the new value.
    pub(crate) fn free_and_wait(&self, evicted: Evictions<K, V>) -> Result<(), Error> {
        let heap = self.heap();
        let freeing_bytes = heap.ledger().freeing_bytes;
        if let Freed::WhenStreamsPass { .. } = evicted.free_all()? {
            match heap.settle() {
                // What another's captured stream used waits for the end of the capture; what left here is free.
                Err(Error::StreamCapturing) if heap.ledger().freeing_bytes <= freeing_bytes => {}
                settled => settled.map(drop)?,
            }
        }
        Ok(())
    }
}

impl<'c, K: Hash + Eq, V: Resident> Hold<'c, K, V> {
    fn commit(mut self, raw: V::Raw, reserved_bytes: u64) -> Lease<'c, K, V> {
        let (cache, stream) = (self.cache, self.stream);
        let elapsed_ns = self.opened.elapsed().as_nanos().try_into().unwrap_or(u64::MAX);
        let cost_ns = self.cost_ns.unwrap_or(elapsed_ns);
        self.reserved = None;
        let (traced, charge_bytes) = (self.traced, raw.charge_bytes(cache.heap().granule_bytes()));
        let hit = cache.index().commit(self.slot, raw, reserved_bytes, cost_ns, stream.note());
        std::mem::forget(self); // the vacancy is filled; nothing else is owned
        cache.record_fill(elapsed_ns);
        let lease = Lease::new(cache, stream, hit);
        cache.trace_fill(traced, charge_bytes, cost_ns);
        lease
    }
}

impl<K: Hash + Eq, V: Resident> Drop for Hold<'_, K, V> {
    fn drop(&mut self) {
        if let Some(charge) = self.reserved {
            self.cache.index().unreserve(charge);
        }
        self.cache.index().close(self.slot);
    }
}

impl<K: Hash + Eq, V: Resident> fmt::Debug for Vacancy<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vacancy").finish_non_exhaustive()
    }
}

impl<K: Hash + Eq, V: Resident> fmt::Debug for Reservation<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("reserved_bytes", &self.hold.reserved).finish_non_exhaustive()
    }
}

impl<K: Hash + Eq, V: Resident> fmt::Debug for Filled<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filled").field("lease", &self.lease).field("evicted", &self.evicted).finish()
    }
}

impl<K: Hash + Eq, V: Resident> fmt::Debug for Lookup<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lookup::Hit(lease) => f.debug_tuple("Hit").field(lease).finish(),
            Lookup::Miss(vacancy) => f.debug_tuple("Miss").field(vacancy).finish(),
        }
    }
}

impl<K: Hash + Eq, V: Resident> fmt::Debug for TryLookup<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryLookup::Hit(lease) => f.debug_tuple("Hit").field(lease).finish(),
            TryLookup::Miss(vacancy) => f.debug_tuple("Miss").field(vacancy).finish(),
            TryLookup::Busy => f.write_str("Busy"),
        }
    }
}
