//! The order in which entries are evicted. An order knows slots, and what an entry costs and weighs; it knows
//! no keys, no handles and no leases.

pub(crate) mod camp;
pub(crate) mod chosen;
mod heads;
pub(crate) mod lru;

/// Which entries a cache evicts first: [`CacheOptions::policy`](crate::CacheOptions::policy).
///
/// ```
/// use hapax::{Cache, CacheOptions, DevBox, Heap, HeapOptions, HostDevice, Policy};
///
/// let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20).granule_bytes(1))?;
/// let options = CacheOptions::new(2).policy(Policy::Camp);
/// let cache: Cache<&str, DevBox<u8>> = Cache::with_options(&heap, options)?;
/// let byte = || -> Result<DevBox<u8>, hapax::Error> { Ok(heap.alloc()?.upload_from(&7)?) };
/// cache.insert_with_cost("dear", byte()?, 9_000_000)?.free_all()?;
/// cache.insert_with_cost("cheap", byte()?, 1_000)?.free_all()?;
/// let evicted = cache.insert_with_cost("next", byte()?, 1_000)?;
/// assert_eq!(evicted.map(|(key, _)| key).collect::<Vec<_>>(), ["cheap"]); // although it is the newer one
/// # Ok::<(), hapax::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Policy {
    /// The least recently used, whatever it costs to make again: exactly, in [`Mode::Exact`](crate::Mode::Exact). O(1).
    #[default]
    Lru,
    /// What is cheapest to make again for the bytes that it takes, and not used lately: for caches of compiled code,
    /// whose entries differ in what they cost by orders of magnitude. An entry's cost is what it was committed or
    /// inserted with, or measured from the miss to the commit.
    ///
    /// CAMP, after Ghandeharizadeh, Irani, Lam and Yap, "CAMP: a cost adaptive multi-queue eviction policy for
    /// key-value stores" (Middleware 2014), in integers: the least of *H* leaves first, where *H = L + r* as of the
    /// entry's last use. *r* is the cost in ns per byte, times 2^16 and between 1 and 2^44, kept to five significant
    /// bits, and doubled from the second use on; *L* is the greatest *H* that was evicted so far. Of equal *H* the lesser *r*
    /// leaves first, and then the one used longer ago. No sampling, and exact in [`Mode::Exact`](crate::Mode::Exact).
    ///
    /// O(1): at most ten comparisons more where the head of a queue changes. There is one queue for each *r*.
    Camp,
}

/// A place in an order: the least is evicted first. Unique among the detached, and all attached ones of
/// one place are younger than the detached ones there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub(crate) place: u64,
    pub(crate) age: u64,
}

/// What an order may know of an entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weight {
    pub(crate) cost_ns: u64,
    pub(crate) bytes: u64,
}

/// An order over slots.
///
/// The index guarantees: a slot is admitted once before anything else is said of it; after `detach` only
/// `rank`, `evict` and `readmit` are called for it until it is readmitted or gone for good; after
/// `remove`, or when it is gone as a detached one, it is unknown again.
///
/// An order guarantees: `first` is the next victim among the attached, and detached slots keep their
/// place: evicting always the least of all ranks, attached or detached, is the policy's own order.
pub(crate) trait Order {
    /// A new entry, which counts as its first use.
    fn admit(&mut self, slot: u32, weight: Weight);

    /// An attached entry was used again.
    fn touch(&mut self, slot: u32);

    /// An attached entry leaves.
    fn remove(&mut self, slot: u32);

    /// The next victim among the attached, and its rank.
    fn first(&self) -> Option<(Rank, u32)>;

    /// The first of the attached leaves the queue but keeps its rank, which is remembered in its links.
    fn detach(&mut self, slot: u32) -> Rank;

    /// The rank of a detached entry.
    fn rank(&self, slot: u32) -> Rank;

    /// An entry is about to leave as a victim, attached (then it is removed next) or detached.
    fn evict(&mut self, slot: u32);

    /// Called when all victims of one call have left. `true`: every rank may have changed, though no two of them
    /// their order.
    fn renumber(&mut self) -> bool;

    /// A detached entry was used again: attached, as after `touch`.
    fn readmit(&mut self, slot: u32);

    /// The attached with their ranks, those of one place in their order. O(entries).
    fn attached(&self) -> Vec<(Rank, u32)>;
}
