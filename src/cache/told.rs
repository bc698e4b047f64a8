//! What a cache tells listeners. Called outside of its lock, since a listener may use the cache.

use crate::cache::Cache;
use crate::cache::evictions::Evictions;
use crate::cache::resident::Resident;
use crate::cache::trace::TraceWriter;
use crate::error::Error;
use crate::observe::{self, event};
use std::hash::Hash;
use std::num::NonZeroU64;

#[inline(always)]
pub(crate) fn hit() {
    observe::count("hapax.cache.hits", 1);
}

#[inline(always)]
pub(crate) fn missed() {
    event!(TRACE, "not resident");
    observe::count("hapax.cache.misses", 1);
}

/// Entries left so that others fit: victims, a replaced one, and retired ones that came with them.
#[inline(always)]
pub(crate) fn made_room(entries: usize) {
    if entries > 0 {
        event!(DEBUG, "made room", entries = entries);
    }
    observe::count("hapax.cache.evictions", entries as u64);
}

#[inline(always)]
pub(crate) fn evicted<K, V: Resident>(evicted: Evictions<K, V>) -> Evictions<K, V> {
    made_room(evicted.len());
    evicted
}

#[inline(always)]
pub(crate) fn refused(error: &Error) {
    event!(DEBUG, "refused", why = observe::display(error));
    observe::count("hapax.cache.refusals", 1);
}

#[inline(always)]
pub(crate) fn refusing(error: Error) -> Error {
    refused(&error);
    error
}

/// What it writes into its trace.
impl<K: Hash + Eq, V: Resident> Cache<K, V> {
    /// What a trace calls the key: found before anything is taken, since it runs `K::hash`.
    #[inline]
    pub(super) fn trace_number<Q: ?Sized + Hash>(&self, key: &Q) -> Option<NonZeroU64> {
        self.trace.as_ref().map(|_| TraceWriter::number(key))
    }

    /// A line for a leased slot. The lock is taken once more, for the entry's figures, and let go before anything is
    /// written.
    #[cold]
    pub(super) fn trace_hit(&self, number: NonZeroU64, slot: u32) {
        let (charge_bytes, cost_ns) = self.index.weight(slot);
        self.trace_fill(Some(number), charge_bytes, cost_ns);
    }

    /// A line for an entry put in.
    pub(crate) fn trace_fill(&self, number: Option<NonZeroU64>, charge_bytes: u64, cost_ns: u64) {
        if let (Some(trace), Some(number)) = (&self.trace, number) {
            trace.record(number, charge_bytes, cost_ns);
        }
    }
}
