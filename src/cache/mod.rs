//! The VRAM cache: a byte budget that is never exceeded, and every handle that leaves given back.
//!
//! This file joins three parts that do not know each other: the index (keys, order, leases, waiting), the
//! heap (memory) and streams. It makes driver calls, so never under the index's lock.

pub(crate) mod arguments;
pub(crate) mod core;
pub(crate) mod count;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub(crate) mod evictions;
pub(crate) mod flight;
pub(crate) mod front;
pub(crate) mod index;
pub(crate) mod lease;
pub(crate) mod module;
pub(crate) mod options;
pub(crate) mod paged;
pub(crate) mod planted;
pub(crate) mod policy;
pub(crate) mod published;
pub(crate) mod resident;
pub(crate) mod slot;
mod told;
pub(crate) mod trace;
pub(crate) mod vacancy;

#[cfg(all(test, hapax_loom))]
mod loom_models;

use crate::cache::evictions::Evictions;
use crate::cache::flight::Patience;
use crate::cache::index::{Found, Hit, Index, Take};
use crate::cache::lease::Lease;
use crate::cache::options::{CacheOptions, check_budget};
use crate::cache::resident::{Resident, Spans};
use crate::cache::slot::Stored;
use crate::cache::trace::TraceWriter;
use crate::cache::vacancy::{Filled, Lookup, TryLookup, Vacancy};
use crate::device::stream::Stream;
use crate::error::{Error, Returned};
use crate::handle::DevBox;
use crate::handle::gate::Held;
use crate::heap::{Heap, HeapInner};
use crate::stats::{CacheStats, FillHistogram};
use crate::sync::Mutex;
use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A cache of device handles: `K` to [`DevBox<T>`].
pub type VramCache<K, T> = Cache<K, DevBox<T>>;

/// A concurrent cache of device memory under one byte budget.
///
/// - `resident + retired + reserved <= budget_bytes` holds whenever the lock is free: room is made before
///   anything is admitted, and a refused call changes nothing.
/// - Eviction returns the handles ([`Evictions`]), exactly in the order of the cache's [`Policy`](crate::Policy): least recently used
///   first, if no other is asked for; recency is the last lookup, insert or commit. Leased entries are never evicted.
/// - Each handle goes in once and comes out once.
///
/// All methods take `&self`; share it by reference or in an [`Arc`]: it is `Send` and `Sync` if its keys are both. `K::eq` may run
/// under the lock, so it must not use this cache. A hit takes one short lock and reads no clock; a release is one atomic. With
/// [`Mode::Relaxed`](crate::Mode::Relaxed) a hit takes no lock, the order is approximate, and inserts are slower:
/// [`Mode`](crate::Mode) says when that is worth it.
///
/// # Examples
/// ```
/// use hapax::{Error, Heap, HeapOptions, Lookup, VramCache};
///
/// let device = hapax::best_device().device;
/// let heap = Heap::new(&device, HeapOptions::new(64 << 20))?;
/// let stream = heap.new_stream()?;
/// let cache: VramCache<String, [u8]> = VramCache::new(&heap, 16 << 20)?;
///
/// let lease = match cache.lookup("matmul_f32", &stream)? {
///     Lookup::Hit(lease) => lease,
///     Lookup::Miss(vacancy) => vacancy.fill_from(b"code from your compiler")?.lease,
/// };
/// assert_eq!(lease.to_vec()?, b"code from your compiler");
/// # drop(lease);
/// # Ok::<(), Error>(())
/// ```
pub struct Cache<K: Hash + Eq, V: Resident> {
    heap: Heap,
    index: Index<K, V::Raw>,
    fills: Mutex<FillHistogram>,
    trace: Option<TraceWriter>,
}

/// One resident entry in a [`snapshot`](Cache::snapshot).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotEntry<K> {
    /// The key.
    pub key: K,
    /// Bytes charged.
    pub charge_bytes: u64,
    /// What it costs to make again, to 18 significant bits.
    pub cost_ns: u64,
    /// Whether it is leased now.
    pub leased: bool,
}

/// What [`Cache::peek`] tells of a resident entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peek {
    /// Bytes charged.
    pub charge_bytes: u64,
    /// What it costs to make again, to 18 significant bits.
    pub cost_ns: u64,
    /// Whether it is leased now.
    pub leased: bool,
}

/// What [`Cache::remove`] found.
#[derive(Debug)]
#[must_use = "a taken handle is yours: spill, re-insert or free it"]
pub enum Removed<K, E> {
    /// Nothing resident under the key.
    Absent,
    /// Leased, so it stays; [`retire`](Cache::retire) hides it at once.
    Leased,
    /// The entry, now yours.
    Taken(K, E),
}

impl<K: Hash + Eq, V: Resident> Cache<K, V> {
    /// A cache on `heap` with a budget in charged bytes.
    ///
    /// # Errors
    /// [`Error::BadOption`]: a budget of 0, or above the heap's limit.
    pub fn new(heap: &Heap, budget_bytes: u64) -> Result<Self, Error> {
        Self::with_options(heap, CacheOptions::new(budget_bytes))
    }

    /// A cache on `heap`.
    ///
    /// # Errors
    /// [`Error::BadOption`]: a budget of 0 or above the heap's limit, or no entries at all.
    pub fn with_options(heap: &Heap, options: CacheOptions) -> Result<Self, Error> {
        let CacheOptions { budget_bytes, max_entries, policy, mode, trace } = options;
        check_budget(heap, budget_bytes)?;
        if max_entries == 0 {
            return Err(Error::BadOption("max_entries of 0; a cache holds one entry at least".to_owned()));
        }
        Ok(Cache {
            index: Index::in_mode(mode, policy.into(), budget_bytes, max_entries, heap.granule_bytes()),
            heap: heap.clone(),
            fills: Mutex::new(FillHistogram::new()),
            trace,
        })
    }

    /// The heap that every handle in the cache is of.
    pub fn heap(&self) -> &Heap {
        &self.heap
    }

    /// The entry of `key`, leased for `stream`, if it is resident. Waits for no filler.
    ///
    /// O(1). The driver is asked whether `stream` is being captured, which touches no device (on the host it is not asked). No other
    /// driver call, unless another stream's write to the entry is still pending: then `stream` is made to wait for it.
    ///
    /// # Errors
    /// [`Error::WrongDevice`], [`Error::DeviceLost`] or [`Error::Device`].
    #[inline]
    pub fn get<'c, Q>(&'c self, key: &Q, stream: &'c Stream) -> Result<Option<Lease<'c, K, V>>, Error>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        stream.check(self.heap.device())?;
        let number = self.trace_number(key);
        let hash = match self.index.get_at_once(key, stream.note()) {
            Ok(hit) => return self.lend(hit, stream, number).map(Some),
            Err(hash) => hash,
        };
        match self.index.get_hashed(hash, key, stream.note()) {
            Some(hit) => self.lend(hit, stream, number).map(Some),
            None => {
                told::missed();
                Ok(None)
            }
        }
    }

    /// The entry of `key`, leased for `stream`, or the right to fill it. If another thread is filling it,
    /// waits until that is done.
    ///
    /// # Errors
    /// [`Error::WouldDeadlock`] if the filler is the calling thread, or waits for it, directly or through
    /// others; [`Error::WrongDevice`], [`Error::DeviceLost`] or [`Error::Device`].
    pub fn lookup<'c, Q>(&'c self, key: &Q, stream: &'c Stream) -> Result<Lookup<'c, K, V>, Error>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        match self.find(key, stream, Patience::Forever)? {
            TryLookup::Hit(lease) => Ok(Lookup::Hit(lease)),
            TryLookup::Miss(vacancy) => Ok(Lookup::Miss(vacancy)),
            TryLookup::Busy => unreachable!("an endless wait ends with a hit or a miss"),
        }
    }

    /// As [`lookup`](Cache::lookup), waiting for another filler at most so long.
    ///
    /// # Errors
    /// As [`lookup`](Cache::lookup).
    pub fn lookup_for<'c, Q>(
        &'c self,
        key: &Q,
        stream: &'c Stream,
        time: Duration,
    ) -> Result<TryLookup<'c, K, V>, Error>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        // A time beyond the clock's end is no limit.
        let patience = Instant::now().checked_add(time).map_or(Patience::Forever, Patience::Until);
        self.find(key, stream, patience)
    }

    /// As [`lookup`](Cache::lookup), waiting for nobody.
    ///
    /// # Errors
    /// [`Error::WrongDevice`], [`Error::DeviceLost`] or [`Error::Device`].
    pub fn try_lookup<'c, Q>(&'c self, key: &Q, stream: &'c Stream) -> Result<TryLookup<'c, K, V>, Error>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        self.find(key, stream, Patience::Never)
    }

    /// The entry of `key`, filled by `fill` if it is missing. One thread fills, others wait for it. An
    /// error or a panic of `fill` gives the vacancy and its bytes to the next.
    ///
    /// ```
    /// use hapax::{Error, Heap, HeapOptions, HostDevice, OrRelease, VramCache};
    ///
    /// #[derive(Debug)]
    /// enum CompileError {
    ///     Syntax,
    ///     Memory(Error),
    /// }
    /// impl From<Error> for CompileError {
    ///     fn from(error: Error) -> Self {
    ///         CompileError::Memory(error)
    ///     }
    /// }
    /// fn compile(source: &str) -> Result<Vec<u8>, CompileError> {
    ///     if source.is_empty() { Err(CompileError::Syntax) } else { Ok(source.as_bytes().to_vec()) }
    /// }
    ///
    /// let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    /// let stream = heap.new_stream()?;
    /// let cache: VramCache<u64, [u8]> = VramCache::new(&heap, 1 << 16)?;
    /// let filled = cache.get_or_try_insert_with(&7, &stream, |vacancy| -> Result<_, CompileError> {
    ///     Ok(vacancy.fill_from(&compile("main")?).or_release()?)
    /// })?;
    /// assert_eq!(filled.lease.len(), 4);
    /// # Ok::<(), CompileError>(())
    /// ```
    ///
    /// # Errors
    /// What `fill` returns; [`Error::ForeignFill`] if it returns another entry's lease; else as [`lookup`](Cache::lookup).
    pub fn get_or_try_insert_with<'c, Q, E>(
        &'c self,
        key: &Q,
        stream: &'c Stream,
        fill: impl FnOnce(Vacancy<'c, K, V>) -> Result<Filled<'c, K, V>, E>,
    ) -> Result<Filled<'c, K, V>, E>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
        E: From<Error>,
    {
        match self.lookup(key, stream)? {
            Lookup::Hit(lease) => Ok(Filled { lease, evicted: Evictions::empty() }),
            Lookup::Miss(vacancy) => {
                let filled = fill(vacancy)?;
                if !filled.lease.is_of(self, stream, key) {
                    return Err(Error::ForeignFill.into());
                }
                Ok(filled)
            }
        }
    }

    /// Puts `value` in as the most recent entry of `key`, at cost 0. An unleased entry of the same key is replaced
    /// and handed back before the victims.
    ///
    /// O(1) for each entry evicted, and for each leased one met for the first time since its last use.
    ///
    /// # Errors
    /// [`Error::Oversize`], [`Error::NoRoom`], [`Error::NoEntry`], [`Error::Leased`], [`Error::BeingFilled`] or
    /// [`Error::WrongHeap`]; both come back and nothing was evicted.
    pub fn insert(&self, key: K, value: V) -> Result<Evictions<K, V>, Returned<(K, V)>> {
        self.insert_with_cost(key, value, 0)
    }

    /// As [`insert`](Cache::insert), with what the value costs to make again.
    ///
    /// # Errors
    /// As [`insert`](Cache::insert).
    pub fn insert_with_cost(&self, key: K, value: V, cost_ns: u64) -> Result<Evictions<K, V>, Returned<(K, V)>> {
        if !value.is_of(self.heap_inner()) {
            self.index.reject();
            return Err(Returned::new((key, value), Error::WrongHeap));
        }
        let charge = value.charge_bytes();
        let (mut whole, mut heap) = (Some(Held::new(value)), None);
        let take_apart = || {
            let (share, raw) = whole.take().expect("taken once").into_inner().into_raw();
            heap = Some(share); // goes on to what is evicted
            raw
        };
        let number = self.trace_number(&key);
        match self.index.insert(key, charge, cost_ns, take_apart) {
            Ok(removed) => {
                let heap = heap.expect("what was put in was taken apart");
                if number.is_none() {
                    return Ok(told::evicted(Evictions::new(heap, removed))); // straight to the caller, without a copy
                }
                let evicted = told::evicted(Evictions::new(heap, removed)); // before the user's writer runs, which may panic
                self.trace_fill(number, charge, cost_ns);
                Ok(evicted)
            }
            Err((key, error)) => {
                told::refused(&error);
                Err(Returned::new((key, whole.expect("what was refused is whole").into_inner()), error))
            }
        }
    }

    /// Takes the entry of `key` out, unless it is leased.
    pub fn remove<Q>(&self, key: &Q) -> Removed<K, V::Evicted>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        match self.index.remove(key) {
            Take::Absent => Removed::Absent,
            Take::Leased => Removed::Leased,
            Take::Taken(key, raw) => Removed::Taken(key, V::evicted(self.heap_inner().clone(), raw)),
        }
    }

    /// Hides the entry of `key` at once: no lookup finds it any more, and the key is free for a new one.
    /// An unleased entry comes back here; a leased one leads a later [`Evictions`], once its leases have ended.
    pub fn retire<Q>(&self, key: &Q) -> Evictions<K, V>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        self.evictions(self.index.retire(key))
    }

    /// Hands out retired entries whose last lease has ended.
    pub fn collect_retired(&self) -> Evictions<K, V> {
        self.evictions(self.index.collect())
    }

    /// Retires every entry. Open vacancies stay.
    pub fn clear(&self) -> Evictions<K, V> {
        self.evictions(self.index.clear())
    }

    /// Changes the budget, evicting what no longer fits.
    ///
    /// # Errors
    /// [`Error::BudgetHeld`] if leased, retired and reserved bytes forbid it; [`Error::BadOption`] if it is 0 or
    /// above the heap's limit. Nothing changed.
    pub fn set_budget_bytes(&self, budget_bytes: u64) -> Result<Evictions<K, V>, Error> {
        check_budget(&self.heap, budget_bytes)?;
        match self.index.set_budget_bytes(budget_bytes) {
            Ok(removed) => Ok(told::evicted(self.evictions(removed))),
            Err(error) => Err(told::refusing(error)),
        }
    }

    /// Whether `key` is resident. Not a use: it changes no order and no figures.
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        self.peek(key).is_some()
    }

    /// What is known of the entry of `key`. Not a use: it changes no order and no figures.
    pub fn peek<Q>(&self, key: &Q) -> Option<Peek>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        let (charge_bytes, cost_ns, leased) = self.index.peek(key)?;
        Some(Peek { charge_bytes, cost_ns, leased })
    }

    /// The figures now. O(entries), since leased bytes are counted on demand.
    pub fn stats(&self) -> CacheStats {
        let figures = self.index.figures();
        CacheStats {
            hits: figures.counters.hits,
            misses: figures.counters.misses,
            evictions: figures.counters.evictions,
            rejections: figures.counters.rejections,
            entries: figures.resident.entries,
            resident_bytes: figures.resident.bytes,
            retired_bytes: figures.retired.bytes,
            reserved_bytes: figures.reserved.bytes,
            leased_bytes: figures.leased_bytes,
            budget_bytes: figures.budget_bytes,
            fill_ns: self.fills.lock().times(),
        }
    }

    /// Ends the cache and hands out every value, next victim first. An entry whose lease was forgotten stays
    /// out, allocated, and the heap reports it.
    pub fn into_handles(self) -> Evictions<K, V> {
        self.evictions(self.index.drain())
    }

    /// Checks every invariant of the index. For tests; O(entries log entries).
    ///
    /// # Panics
    /// If one does not hold.
    pub fn validate(&self) {
        self.index.validate();
    }

    pub(crate) fn index(&self) -> &Index<K, V::Raw> {
        &self.index
    }

    pub(crate) fn heap_inner(&self) -> &Arc<HeapInner> {
        self.heap.inner()
    }

    pub(crate) fn record_fill(&self, fill_ns: u64) {
        self.fills.lock().record(fill_ns);
    }

    fn find<'c, Q>(&'c self, key: &Q, stream: &'c Stream, patience: Patience) -> Result<TryLookup<'c, K, V>, Error>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        stream.check(self.heap.device())?;
        let number = self.trace_number(key);
        match self.index.lookup(key, stream.note(), patience)? {
            Found::Hit(hit) => self.lend(hit, stream, number).map(TryLookup::Hit),
            Found::Miss(slot) => {
                told::missed();
                Ok(TryLookup::Miss(Vacancy::new(self, stream, slot, number)))
            }
            Found::Busy => Ok(TryLookup::Busy),
        }
    }

    #[inline]
    fn lend<'c>(
        &'c self,
        hit: Hit<'c, <V::Raw as Stored>::View>,
        stream: &'c Stream,
        number: Option<NonZeroU64>,
    ) -> Result<Lease<'c, K, V>, Error> {
        let write_pending = hit.write_pending;
        let slot = hit.slot;
        told::hit();
        let lease = Lease::new(self, stream, hit); // from here on its drop gives the count back
        if write_pending {
            self.order_after_writes(slot, stream)?;
        }
        if let Some(number) = number {
            self.trace_hit(number, slot);
        }
        Ok(lease)
    }

    /// Orders `stream` behind the pending writes of a leased slot; the driver calls are made without the lock.
    #[cold]
    fn order_after_writes(&self, slot: u32, stream: &Stream) -> Result<(), Error> {
        let mut spans = Spans::new();
        self.index.with_value(slot, |raw| V::pending_spans(raw, &mut spans));
        let mut all_passed = true;
        for span in spans {
            all_passed &= self.heap_inner().order_after_write(span, stream)?;
        }
        if all_passed {
            self.index.change_value(slot, V::writes_passed);
        }
        Ok(())
    }

    pub(crate) fn evictions(&self, removed: core::Removed<K, V::Raw>) -> Evictions<K, V> {
        if removed.is_empty() { Evictions::empty() } else { Evictions::new(self.heap_inner().clone(), removed) }
    }
}

impl<K: Hash + Eq + Clone, V: Resident> Cache<K, V> {
    /// The resident keys, next victim first. `K::clone` runs under the lock and must not use this cache.
    pub fn keys(&self) -> Vec<K> {
        self.index.rows().into_iter().map(|row| row.key).collect()
    }

    /// Every resident entry, next victim first. `K::clone` runs under the lock and must not use this cache.
    pub fn snapshot(&self) -> Vec<SnapshotEntry<K>> {
        let entry = |row: core::Row<K>| SnapshotEntry {
            key: row.key,
            charge_bytes: row.charge_bytes,
            cost_ns: row.cost_ns,
            leased: row.leased,
        };
        self.index.rows().into_iter().map(entry).collect()
    }
}

/// Gives up every value, as [`Evictions`] does. An entry whose lease was forgotten stays allocated, and
/// the heap reports it.
impl<K: Hash + Eq, V: Resident> Drop for Cache<K, V> {
    fn drop(&mut self) {
        drop(self.evictions(self.index.drain()));
    }
}

impl<K: Hash + Eq, V: Resident> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
