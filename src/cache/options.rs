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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Mode {
    /// Every hit is told to the policy at once, under one short lock.
    #[default]
    Exact,
    /// A hit takes no lock.
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
