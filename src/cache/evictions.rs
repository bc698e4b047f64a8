//! What a cache hands back: every value that left it, in order, and nothing dropped silently.

use crate::cache::core::removed::{First, Removed};
use crate::cache::resident::Resident;
use crate::error::Error;
use crate::heap::HeapInner;
use crate::heap::block::Freed;
use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;

/// Entries that left a cache, with their keys: collected retired ones first, then a replaced one, then
/// victims in the order of eviction.
///
/// Iterate to spill or revive them, or free them all at once. Dropped, each is given up like a dropped
/// handle: freed as soon as no stream uses it.
///
/// ```
/// use hapax::{Heap, HeapOptions, HostDevice, VramCache};
///
/// let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
/// let cache: VramCache<u32, [u8]> = VramCache::new(&heap, 512)?;
/// for key in 0..2 {
///     cache.insert(key, heap.alloc_slice(256)?.upload_from(&[key as u8; 256])?)?.free_all()?;
/// }
/// let evicted = cache.insert(2, heap.alloc_slice(256)?.upload_from(&[2; 256])?)?;
/// for (key, handle) in evicted {
///     assert_eq!(key, 0); // the least recently used
///     let mut spilled = [1; 256];
///     handle.download_to(&mut spilled)?;
///     assert_eq!(spilled, [0; 256]);
///     handle.free()?;
/// }
/// # Ok::<(), hapax::Error>(())
/// ```
#[must_use = "these are yours: spill, re-insert or free them"]
pub struct Evictions<K, V: Resident> {
    /// `None` once nothing is in here.
    heap: Option<Arc<HeapInner>>,
    next: First<K, V::Raw>,
    /// The last one first. Empty if there is no next.
    behind: Vec<(K, V::Raw)>,
}

impl<K, V: Resident> Evictions<K, V> {
    #[inline]
    pub(crate) fn new(heap: Arc<HeapInner>, removed: Removed<K, V::Raw>) -> Self {
        let Removed { first: next, rest: mut behind } = removed;
        if !behind.is_empty() {
            behind.reverse();
        }
        Evictions { heap: Some(heap), next, behind }
    }

    /// Nothing evicted, for fillers that freed theirs already.
    pub fn empty() -> Self {
        Evictions { heap: None, next: First::None, behind: Vec::new() }
    }

    /// Entries in here.
    pub fn len(&self) -> usize {
        usize::from(self.next.is_some()) + self.behind.len()
    }

    /// Whether nothing was evicted.
    pub fn is_empty(&self) -> bool {
        !self.next.is_some()
    }

    fn next_raw(&mut self) -> Option<(K, V::Raw, Arc<HeapInner>)> {
        let (key, raw) = self.next.take()?;
        if let Some((key, raw)) = self.behind.pop() {
            self.next = First::Some(key, raw);
        }
        // The last entry takes the share of the heap with it.
        let heap = if !self.next.is_some() { self.heap.take() } else { self.heap.clone() };
        Some((key, raw, heap.expect("entries come with their heap")))
    }

    /// Frees every value.
    ///
    /// # Errors
    /// [`Error::DeviceLost`]; all are consumed all the same.
    pub fn free_all(self) -> Result<Freed, Error> {
        let mut result = Ok(Freed::Now { bytes: 0 });
        for (_, value) in self {
            let freed = V::free(value);
            result = result.and_then(|sum| Ok(sum.and(freed?)));
        }
        result
    }
}

impl<K, V: Resident> Iterator for Evictions<K, V> {
    type Item = (K, V::Evicted);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, raw, heap) = self.next_raw()?;
        Some((key, V::evicted(heap, raw)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl<K, V: Resident> ExactSizeIterator for Evictions<K, V> {}
impl<K, V: Resident> FusedIterator for Evictions<K, V> {}

impl<K, V: Resident> fmt::Debug for Evictions<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evictions").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Gives up what is left, from its raw parts: no handle is dropped on the way, which a strict build would report.
impl<K, V: Resident> Drop for Evictions<K, V> {
    fn drop(&mut self) {
        /// Gives up the rest when the drop of a key panics.
        struct Rest<'a, K, V: Resident>(&'a mut Evictions<K, V>);
        impl<K, V: Resident> Drop for Rest<'_, K, V> {
            fn drop(&mut self) {
                self.give_up();
            }
        }
        impl<K, V: Resident> Rest<'_, K, V> {
            #[cold]
            fn give_up(&mut self) {
                while let Some((_key, raw, heap)) = self.0.next_raw() {
                    V::give_up(heap, raw);
                }
            }
        }
        if self.next.is_some() {
            Rest(self).give_up();
        }
    }
}
