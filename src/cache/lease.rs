//! Access that forbids eviction. A lease keeps its entry, not the cache's lock.

use crate::cache::Cache;
use crate::cache::count::Count;
use crate::cache::index::Hit;
use crate::cache::resident::Resident;
use crate::cache::resident::sealed::Sealed;
use crate::cache::slot::Stored;
use crate::device::stream::Stream;
use crate::error::{Error, Returned};
use crate::handle::DevBox;
use crate::heap::data::DeviceData;
use std::fmt;
use std::hash::Hash;
use std::mem::ManuallyDrop;
use std::sync::Arc;

type RawView<V> = <<V as Sealed>::Raw as Stored>::View;

/// A borrowed lease: as long as it lives, its entry is neither evicted nor replaced nor handed out.
///
/// It is bound to the stream that it was taken for; its memory is not reused before that stream has
/// passed, however soon the lease ends. Forgotten, it keeps its entry for good.
#[must_use = "the entry can be evicted once the lease is dropped"]
pub struct Lease<'c, K: Hash + Eq, V: Resident> {
    cache: &'c Cache<K, V>,
    stream: &'c Stream,
    slot: u32,
    count: &'c Count,
    view: RawView<V>,
}

/// A lease that owns a share of its cache and its stream, so that it can go wherever it is needed.
///
/// ```
/// use hapax::{Heap, HeapOptions, HostDevice, VramCache};
/// use std::sync::Arc;
///
/// let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
/// let stream = heap.new_stream()?;
/// let cache: Arc<VramCache<&str, [u8]>> = Arc::new(VramCache::new(&heap, 1 << 16)?);
/// cache.insert("kernel", heap.alloc_slice(3)?.upload_from(b"ret")?)?.free_all()?;
/// let lease = cache.get("kernel", &stream)?.expect("resident").into_owned(&cache)?;
/// drop((cache, stream));
/// std::thread::spawn(move || assert_eq!(lease.view().len(), 3)).join().unwrap();
/// # Ok::<(), hapax::Error>(())
/// ```
#[must_use = "the entry can be evicted once the lease is dropped"]
pub struct OwnedLease<K: Hash + Eq, V: Resident> {
    cache: Arc<Cache<K, V>>,
    stream: Stream,
    slot: u32,
    view: RawView<V>,
}

impl<'c, K: Hash + Eq, V: Resident> Lease<'c, K, V> {
    pub(crate) fn new(cache: &'c Cache<K, V>, stream: &'c Stream, hit: Hit<'c, RawView<V>>) -> Self {
        Lease { cache, stream, slot: hit.slot, count: hit.count, view: hit.view }
    }

    /// The entry's memory, for kernels on the lease's stream.
    pub fn view(&self) -> V::View<'_> {
        V::view(self.cache.heap_inner(), self.stream, self.view)
    }

    /// The stream that the lease is bound to.
    pub fn stream(&self) -> &'c Stream {
        self.stream
    }

    /// The same lease with a share of the cache instead of a borrow.
    ///
    /// # Errors
    /// [`Error::WrongCache`] if `cache` is another one; the lease comes back.
    pub fn into_owned(self, cache: &Arc<Cache<K, V>>) -> Result<OwnedLease<K, V>, Returned<Self>> {
        if !std::ptr::eq(&**cache, self.cache) {
            return Err(Returned::new(self, Error::WrongCache));
        }
        let lease = ManuallyDrop::new(self); // its count goes over to the owned lease
        let (stream, slot, view) = (lease.stream.clone(), lease.slot, lease.view);
        Ok(OwnedLease { cache: cache.clone(), stream, slot, view })
    }

    pub(crate) fn is_of<Q>(&self, cache: &Cache<K, V>, stream: &Stream, key: &Q) -> bool
    where
        K: std::borrow::Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        std::ptr::eq(self.cache, cache) && self.stream.same(stream) && cache.index().is_key(self.slot, key)
    }
}

impl<K: Hash + Eq, V: Resident> OwnedLease<K, V> {
    /// The entry's memory, for kernels on the lease's stream.
    pub fn view(&self) -> V::View<'_> {
        V::view(self.cache.heap_inner(), &self.stream, self.view)
    }

    /// The stream that the lease is bound to.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }
}

macro_rules! lease_of_one_handle {
    ([$($life:lifetime)?] $lease:ident) => {
        impl<$($life,)? K: Hash + Eq, T: ?Sized + DeviceData> $lease<$($life,)? K, DevBox<T>> {
            /// Copies the entry's contents to `to`, behind the stream's work, and waits.
            ///
            /// # Errors
            /// [`Error::LengthMismatch`], [`Error::DeviceLost`] or [`Error::Device`].
            pub fn download_to(&self, to: &mut T) -> Result<(), Error> {
                self.view().download_to(to)
            }

            /// Bytes of the contents.
            pub fn bytes(&self) -> u64 {
                self.view().bytes()
            }

            /// Where the lease keeps the entry's device address.
            pub(crate) fn address(&self) -> &u64 {
                self.view.address()
            }
        }

        impl<$($life,)? K: Hash + Eq, T> $lease<$($life,)? K, DevBox<[T]>>
        where
            [T]: DeviceData,
        {
            /// Elements of the entry.
            pub fn len(&self) -> usize {
                self.view().len()
            }

            /// Whether there are none.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Copies the entry's contents to a new vector, behind the stream's work, and waits.
            ///
            /// # Errors
            /// [`Error::DeviceLost`] or [`Error::Device`].
            pub fn to_vec(&self) -> Result<Vec<T>, Error>
            where
                T: bytemuck::Zeroable + Clone,
            {
                let mut contents = vec![T::zeroed(); self.len()];
                self.download_to(&mut contents)?;
                Ok(contents)
            }
        }
    };
}
lease_of_one_handle!(['c] Lease);
lease_of_one_handle!([] OwnedLease);

/// One lease more of the same entry, on the same stream. No lock is taken.
impl<K: Hash + Eq, V: Resident> Clone for Lease<'_, K, V> {
    fn clone(&self) -> Self {
        self.count.share();
        Lease { count: self.count, cache: self.cache, stream: self.stream, slot: self.slot, view: self.view }
    }
}

/// One lease more of the same entry, on the same stream. No lock is taken.
impl<K: Hash + Eq, V: Resident> Clone for OwnedLease<K, V> {
    fn clone(&self) -> Self {
        self.cache.index().share(self.slot);
        OwnedLease { cache: self.cache.clone(), stream: self.stream.clone(), slot: self.slot, view: self.view }
    }
}

impl<K: Hash + Eq, V: Resident> Drop for Lease<'_, K, V> {
    fn drop(&mut self) {
        self.cache.index().release_counted(self.slot, self.count);
    }
}

/// The count goes before the share of the cache.
impl<K: Hash + Eq, V: Resident> Drop for OwnedLease<K, V> {
    fn drop(&mut self) {
        self.cache.index().release(self.slot);
    }
}

impl<K: Hash + Eq, V: Resident> fmt::Debug for Lease<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("slot", &self.slot).finish_non_exhaustive()
    }
}

impl<K: Hash + Eq, V: Resident> fmt::Debug for OwnedLease<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedLease").field("slot", &self.slot).finish_non_exhaustive()
    }
}
