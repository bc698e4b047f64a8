//! Move-only handles: each device allocation has exactly one owner, and its type says what may be done
//! with it. Knows no cache.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub(crate) mod export;
pub(crate) mod gate;
pub(crate) mod launch;
pub(crate) mod module;
pub(crate) mod state;
pub(crate) mod transfer;
pub(crate) mod view;

use crate::device::stream::Stream;
use crate::error::Error;
use crate::handle::gate::Gate;
use crate::handle::state::{Evicted, Ready, State, Uninit};
use crate::heap::Heap;
use crate::heap::HeapInner;
use crate::heap::block::{Block, Freed, RawBlock};
use crate::heap::data::DeviceData;
use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

/// The one owner of a device allocation that holds a `T`: a value, or a slice `[E]`.
///
/// It can be moved, never copied or cloned, and it is freed once: by [`free`](DevBox::free), which says
/// when the bytes are free, or by its drop, which only notes it. `S` says what may be done:
///
/// ```text
/// alloc          -> Uninit
/// Uninit            upload_from, zero -> Ready      upload -> InFlight      unsafe written_on -> Ready
/// InFlight          wait, try_wait -> (Ready, operands)                     ready_on -> Ready
/// Ready             download_to, on, on_mut         download -> InFlight    export -> Exported
/// Ready             into a cache, and out of it     -> Evicted
/// Evicted           revive -> Ready                 download_to
/// ```
///
/// This is affine typing: a handle that is dropped without `free` is freed all the same and counted;
/// `mem::forget` leaks it, and the heap reports it when it goes.
///
/// # Examples
/// ```
/// use hapax::{DevBox, Freed, Heap, HeapOptions, HostDevice};
///
/// let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
/// let code: DevBox<[u8]> = heap.alloc_slice::<u8>(4)?.upload_from(b"ret\0")?;
/// let mut back = [0; 4];
/// code.download_to(&mut back)?;
/// assert_eq!(&back, b"ret\0");
/// assert_eq!(code.free()?, Freed::Now { bytes: 256 }); // one granule
/// # Ok::<(), hapax::Error>(())
/// ```
#[must_use = "a handle owns device memory: free it, cache it, or keep it"]
pub struct DevBox<T: ?Sized + DeviceData, S: State = Ready> {
    // Dropped in this order: the block is parked before the operands of its work.
    block: Block,
    state: S,
    elements: usize,
    of: PhantomData<fn() -> *const T>,
    gate: Gate<T, S>,
}

impl Heap {
    /// Allocates room for one `T`. A `T` without bytes takes no memory and makes no driver call.
    ///
    /// O(log n) in the free spans of the heap; may take a slab from the device.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] with the figures to act on, [`Error::HeapClosed`], [`Error::DeviceLost`], [`Error::Device`].
    #[track_caller]
    pub fn alloc<T: DeviceData>(&self) -> Result<DevBox<T, Uninit>, Error> {
        let block = self.inner().alloc(1, (size_of::<T>(), align_of::<T>()), Location::caller())?;
        Ok(DevBox::new(block, Uninit::STATE, 1))
    }

    /// Allocates room for `elements` of `T`; 0 of them take no memory and make no driver call.
    ///
    /// O(log n) in the free spans of the heap; may take a slab from the device.
    ///
    /// # Errors
    /// [`Error::SizeOverflow`], else as [`alloc`](Heap::alloc).
    #[track_caller]
    pub fn alloc_slice<T>(&self, elements: usize) -> Result<DevBox<[T], Uninit>, Error>
    where
        [T]: DeviceData,
    {
        let block = self.inner().alloc(elements, (size_of::<T>(), align_of::<T>()), Location::caller())?;
        Ok(DevBox::new(block, Uninit::STATE, elements))
    }
}

impl<T: ?Sized + DeviceData, S: State> DevBox<T, S> {
    /// Bytes of the contents; [`charge_bytes`](DevBox::charge_bytes) is what they take.
    pub fn bytes(&self) -> u64 {
        bytes_of::<T>(self.elements)
    }

    /// Bytes that the handle takes of its heap: its contents in whole granules.
    pub fn charge_bytes(&self) -> u64 {
        self.block.heap().charge_bytes(self.bytes())
    }

    fn new(block: Block, state: S, elements: usize) -> Self {
        DevBox { block, state, elements, of: PhantomData, gate: Gate::new() }
    }

    fn into_state<S2: State>(self, state: S2) -> (S, DevBox<T, S2>) {
        let DevBox { block, state: old, elements, gate, .. } = self;
        gate.open();
        (old, DevBox::new(block, state, elements))
    }

    pub(crate) fn heap(&self) -> &Arc<HeapInner> {
        self.block.heap()
    }
}

impl<T, S: State> DevBox<[T], S>
where
    [T]: DeviceData,
{
    /// Elements of the slice.
    pub fn len(&self) -> usize {
        self.elements
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.elements == 0
    }
}

/// What a cache's slot stores of a handle: 24 bytes, without the heap.
pub struct RawDevBox<T: ?Sized + DeviceData> {
    pub(crate) block: RawBlock,
    pub(crate) elements: usize,
    of: PhantomData<fn() -> *const T>,
}

impl<T: ?Sized + DeviceData> DevBox<T> {
    pub(crate) fn lend_to(&self, stream: &Stream) -> Result<(), Error> {
        self.block.lend(stream)
    }

    pub(crate) fn into_raw(self) -> (Arc<HeapInner>, RawDevBox<T>) {
        let DevBox { block, elements, gate, .. } = self;
        gate.open();
        let (heap, block) = block.into_raw();
        (heap, RawDevBox { elements, block, of: PhantomData })
    }
}

impl<T: ?Sized + DeviceData> RawDevBox<T> {
    pub(crate) fn bytes(&self) -> u64 {
        bytes_of::<T>(self.elements)
    }

    /// Gives the block up as a handle's drop does, without a handle.
    pub(crate) fn give_up(self, heap: Arc<HeapInner>) {
        drop(Block::from_raw(heap, self.block));
    }

    pub(crate) fn into_handle<S: State>(self, heap: Arc<HeapInner>, state: S) -> DevBox<T, S> {
        DevBox::new(Block::from_raw(heap, self.block), state, self.elements)
    }
}

macro_rules! free_in {
    ($($state:ty),*) => {$(
        impl<T: ?Sized + DeviceData> DevBox<T, $state> {
            /// Gives the memory up: at once if no stream may still use it, else as soon as those streams
            /// have passed. Never waits and makes no driver call.
            ///
            /// # Errors
            /// [`Error::DeviceLost`]: the memory went with the device. The handle is consumed all the same, since it
            /// can never be freed.
            pub fn free(self) -> Result<Freed, Error> {
                let DevBox { block, gate, .. } = self;
                gate.open();
                block.free()
            }
        }
    )*};
}
free_in!(Uninit, Ready, Evicted);

impl<T: ?Sized + DeviceData, S: State> fmt::Debug for DevBox<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = std::any::type_name::<S>().rsplit("::").next().unwrap_or_default();
        f.debug_struct("DevBox").field("state", &name).field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

pub(crate) fn bytes_of<T: ?Sized + DeviceData>(elements: usize) -> u64 {
    (elements * size_of::<T::Element>()) as u64
}
