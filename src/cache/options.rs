//! Settings of a cache. Knows no cache.

use crate::cache::policy::Policy;
use crate::cache::trace::TraceWriter;
use crate::error::Error;
use crate::heap::Heap;

/// Settings of a [`Cache`](crate::Cache).
///
/// ```
/// use hapax::CacheOptions;
///
/// let options = CacheOptions::new(256 << 20).max_entries(10_000);
/// # let _ = options;
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct CacheOptions {
    pub(crate) budget_bytes: u64,
    pub(crate) max_entries: usize,
    pub(crate) policy: Policy,
    pub(crate) mode: Mode,
    pub(crate) trace: Option<TraceWriter>,
}

impl CacheOptions {
    /// At most `budget_bytes`, counted as the heap charges them, any number of entries, [`Policy::Lru`] and [`Mode::Exact`].
    pub fn new(budget_bytes: u64) -> Self {
        CacheOptions { budget_bytes, max_entries: usize::MAX, policy: Policy::Lru, mode: Mode::Exact, trace: None }
    }

    /// At most so many entries beside the byte budget: resident, retired and reserved together.
    pub fn max_entries(mut self, entries: usize) -> Self {
        self.max_entries = entries;
        self
    }

    /// What is evicted first.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// How exactly the order of eviction is kept.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Writes down what the cache is asked for. Without it a hit pays one branch for the possibility; with it, a second
    /// look at the entry under the lock, and the line's own lock.
    pub fn trace(mut self, writer: TraceWriter) -> Self {
        self.trace = Some(writer);
        self
    }
}

/// How exactly a cache keeps its order of eviction: [`CacheOptions::mode`].
///
/// | | `Exact` | `Relaxed` |
/// |---|---|---|
/// | a hit | one short lock | no lock: one atomic step on a word of its entry |
/// | order of eviction | the policy's, request by request | the policy's with second chances |
/// | budget, leases, returned handles, single flight | as promised | the same |
/// | a refused call | changes nothing | changes nothing but marks: which entries stay at the next eviction |
/// | everything but a hit | one short lock | the same lock, and held longer |
/// | insert + evict, 1,000 entries | 1 | about 1.5 times the time |
/// | an eviction after all entries were used | as any other | touches 256 of them: 2 to 4 us instead of 0.1 |
/// | heap bytes per entry, [`Policy::Lru`] | 75 to 85 | 92 to 121 |
///
/// Take `Relaxed` when several threads hit one cache and the lock shows in a profile: more hits than misses, more cores than
/// one. Everything else that they do, misses above all, still goes through the lock. Take `Exact`, the default, for one
/// thread or where misses are many, where the order has to be the same in every run or is compared with another's, and where
/// the time of each insert counts. What the approximate order does to the misses of your own requests is shown by the
/// example `policy_study`, in rows of its own: for the made-up compiler of `tests/traces`, 0.94 to 1.05 times as many as `Exact` under
/// LRU, and 0.97 to 1.08 times the cost under CAMP, on budgets of 1 to 50 % of all keys.
///
/// ```
/// use hapax::{CacheOptions, Heap, HeapOptions, HostDevice, Mode, VramCache};
///
/// let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20).granule_bytes(1))?;
/// let options = CacheOptions::new(2).mode(Mode::Relaxed);
/// let cache: VramCache<&str, u8> = VramCache::with_options(&heap, options)?;
/// for key in ["used", "unused"] {
///     cache.insert(key, heap.alloc()?.upload_from(&7)?)?.free_all()?;
/// }
/// std::thread::scope(|scope| {
///     for _ in 0..4 {
///         scope.spawn(|| {
///             let stream = heap.new_stream().unwrap();
///             assert!(cache.get("used", &stream).unwrap().is_some());
///         });
///     }
/// });
/// let evicted = cache.insert("new", heap.alloc()?.upload_from(&7)?)?;
/// assert_eq!(evicted.map(|(key, _)| key).collect::<Vec<_>>(), ["unused"]);
/// # Ok::<(), hapax::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Mode {
    /// Every hit is told to the policy at once.
    #[default]
    Exact,
    /// A hit marks its entry. When an eviction comes to a marked one, it takes the mark, tells the policy of one use, as of now,
    /// and goes on to the next: under [`Policy::Lru`] this is the CLOCK algorithm (Corbató, "A paging experiment with the Multics
    /// system", 1968); under [`Policy::Camp`] a use raises *H* from the *L* of the eviction that met it. So of two
    /// entries the one not used since the last eviction came by leaves first. A call lets at most 256 entries stay
    /// so, then it takes the next: a bound on its time under the lock, and each mark was paid for by a hit.
    ///
    /// [`keys`](crate::Cache::keys), [`snapshot`](crate::Cache::snapshot) and [`into_handles`](crate::Cache::into_handles) tell the
    /// order without the marks. A refused call may have taken marks. An entry may be seen as leased for a moment
    /// by a lookup that is about to ask again under the lock, or of another key that had its place just before:
    /// [`remove`](crate::Cache::remove) and [`insert`](crate::Cache::insert) may then refuse it as leased; try again. `K::eq` runs without the lock, on several
    /// threads at once: a cache, in either mode, crosses threads only if `K` is `Sync`.
    ///
    /// An entry with a write pending on its stream is hit under the lock until a hit on another stream has seen the write pass; one that was filled
    /// by a blocking upload never is.
    ///
    /// With a [`trace`](CacheOptions::trace) each hit takes the lock after all, to read what the line says of its entry.
    ///
    /// Memory, in heap bytes per entry with 128-bit keys and [`Policy::Lru`]: 121, 105, 94 and 109 at 10,000, 100,000, 1,000,000
    /// and 1,500,000 entries, where exact mode takes 85, 76, 75 and 77 (CAMP adds 8 to 15 in either). It depends on how full the
    /// table is, which doubles, and includes the tables that were outgrown, which are kept until the cache goes. A cache
    /// with nothing in it takes 40 KiB, 18 in exact mode.
    Relaxed,
}

pub(crate) fn check_budget(heap: &Heap, budget_bytes: u64) -> Result<(), Error> {
    let limit_bytes = heap.limit_bytes();
    if budget_bytes == 0 {
        return Err(Error::BadOption("a budget of 0 bytes can hold nothing".to_owned()));
    }
    if budget_bytes > limit_bytes {
        let text =
            format!("a budget of {budget_bytes} bytes is above the heap's limit of {limit_bytes}; raise the limit");
        return Err(Error::BadOption(text));
    }
    Ok(())
}
