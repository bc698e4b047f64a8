//! The ways of a handle into a cache, and of what a cache evicts into scopes of its own.

use crate::cache::Cache;
use crate::cache::evictions::Evictions;
use crate::cache::lease::Lease;
use crate::cache::resident::Resident;
use crate::cache::vacancy::Reservation;
use crate::error::{Error, Returned};
use crate::linear::{Free, Handle, Linear, Spent};
use std::hash::Hash;

impl<'id, V: Resident + Handle> Linear<'id, V>
where
    V::Evicted: Handle,
{
    /// As [`Cache::insert`]. What that hands back goes to `evict` one by one, which must spend it.
    ///
    /// `evict` runs when the entry is in and the cache is unlocked, so it may use the cache. If it panics, the handles
    /// it has not seen are freed by their drop.
    ///
    /// # Errors
    /// As [`Cache::insert`]; both come back, and `evict` was not called.
    pub fn insert<K: Hash + Eq>(
        self,
        cache: &Cache<K, V>,
        key: K,
        evict: impl for<'e> FnMut(K, Linear<'e, V::Evicted>) -> Spent<'e>,
    ) -> Result<Spent<'id>, Returned<(K, Self)>> {
        self.insert_with_cost(cache, key, 0, evict)
    }

    /// As [`insert`](Linear::insert), with what the value costs to make again.
    ///
    /// # Errors
    /// As [`Cache::insert`]; both come back, and `evict` was not called.
    pub fn insert_with_cost<K: Hash + Eq>(
        self,
        cache: &Cache<K, V>,
        key: K,
        cost_ns: u64,
        evict: impl for<'e> FnMut(K, Linear<'e, V::Evicted>) -> Spent<'e>,
    ) -> Result<Spent<'id>, Returned<(K, Self)>> {
        match cache.insert_with_cost(key, self.handle, cost_ns) {
            Ok(evicted) => {
                evicted.spend_each(evict);
                Ok(Spent::new())
            }
            Err(refused) => Err(refused.map(|(key, handle)| (key, Linear::new(handle)))),
        }
    }
}

impl<'id, V: Resident + Handle> Linear<'id, V> {
    /// As [`Reservation::commit`].
    ///
    /// # Errors
    /// As there; both come back.
    pub fn commit<'c, K: Hash + Eq>(
        self,
        reservation: Reservation<'c, K, V>,
    ) -> Result<(Spent<'id>, Lease<'c, K, V>), Returned<(Reservation<'c, K, V>, Self)>> {
        match reservation.commit(self.handle) {
            Ok(lease) => Ok((Spent::new(), lease)),
            Err(refused) => Err(refused.map(|(reservation, handle)| (reservation, Linear::new(handle)))),
        }
    }
}

impl<K, V: Resident> Evictions<K, V>
where
    V::Evicted: Handle,
{
    /// Gives every value to `spend` in a scope of its own, in order; it cannot return without spending it. The linear
    /// counterpart of iterating.
    ///
    /// ```
    /// use hapax::{Heap, HeapOptions, HostDevice, VramCache};
    ///
    /// let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    /// let cache: VramCache<u32, [u8]> = VramCache::new(&heap, 1024)?;
    /// for key in 0..4 {
    ///     cache.insert(key, heap.alloc_slice(256)?.upload_from(&[key as u8; 256])?)?.free_all()?;
    /// }
    /// let mut spilled = Vec::new();
    /// cache.set_budget_bytes(512)?.spend_each(|key, handle| {
    ///     let mut contents = vec![0; handle.len()];
    ///     let read = handle.download_to(&mut contents);
    ///     spilled.push((key, read.map(|()| contents)));
    ///     handle.free().0
    /// });
    /// assert_eq!(spilled, [(0, Ok(vec![0; 256])), (1, Ok(vec![1; 256]))]);
    /// # Ok::<(), hapax::Error>(())
    /// ```
    pub fn spend_each(self, mut spend: impl for<'e> FnMut(K, Linear<'e, V::Evicted>) -> Spent<'e>) {
        for (key, handle) in self {
            let Spent(_) = spend(key, Linear::new(handle));
        }
    }
}

impl<'id, X, H: Free> Returned<(X, Linear<'id, H>)> {
    /// Ends a scope after a refused insert or commit: frees the handle, drops what came with it, and passes the reason
    /// on.
    pub fn free<R>(self) -> (Spent<'id>, Result<R, Error>) {
        self.map(|(_, handle)| handle).free()
    }
}
