//! What a cache tells listeners. Called outside of its lock, since a listener may use the cache.

use crate::cache::evictions::Evictions;
use crate::cache::resident::Resident;
use crate::error::Error;
use crate::observe::{self, event};

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
