//! Host memory that asynchronous copies may use, kept and reused by its heap.
#![expect(unsafe_code, reason = "owns raw host buffers that the device allocated")]

use crate::device::remains::{self, Remains};
use crate::device::stream::DeviceRef;
use crate::error::Error;
use crate::heap::data::DeviceData;
use crate::heap::{Heap, HeapInner, check_align};
use crate::sync::Mutex;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

/// Owned host memory, page-locked on devices that know the term, so that copies to and from it run
/// beside the host. It derefs to its contents.
///
/// Work in flight takes it by value and gives it back when it is over. Dropped, it goes back to its
/// heap for reuse, without a driver call.
///
/// ```
/// use hapax::{Heap, HeapOptions, HostDevice};
///
/// let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
/// let mut staging = heap.page_locked_slice::<u16>(3)?;
/// staging.copy_from_slice(&[1, 2, 3]);
/// assert_eq!(staging.len(), 3);
/// # Ok::<(), hapax::Error>(())
/// ```
#[must_use = "a buffer that is not used goes back to its heap"]
pub struct PageLocked<T: ?Sized + DeviceData> {
    /// Not the heap itself: operands parked there must not keep it alive.
    pool: Arc<Buffers>,
    /// `None`: no bytes.
    buffer: Option<Buffer>,
    bytes: usize,
    elements: usize,
    of: PhantomData<fn() -> *const T>,
}

struct Buffer {
    memory: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a buffer is the only owner of its memory, which any thread may use.
unsafe impl Send for Buffer {}
// SAFETY: a shared buffer is only read.
unsafe impl Sync for Buffer {}

/// The buffers of a heap, shared with those that are out.
pub(crate) struct Buffers {
    device: DeviceRef,
    idle: Mutex<IdleBuffers>,
    left_behind: bool,
}

/// Buffers at rest. Capacity is reserved when a buffer is made, so that giving one back never allocates.
#[derive(Default)]
struct IdleBuffers {
    idle: Vec<Buffer>,
    made: usize,
}

impl Heap {
    /// Page-locked memory for one `T`, zeroed.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or what the driver reports.
    pub fn page_locked<T: DeviceData>(&self) -> Result<PageLocked<T>, Error> {
        PageLocked::new(self.inner(), size_of::<T>(), 1)
    }

    /// Page-locked memory for `elements` of `T`, zeroed.
    ///
    /// # Errors
    /// [`Error::SizeOverflow`], [`Error::DeviceLost`], or what the driver reports.
    pub fn page_locked_slice<T>(&self, elements: usize) -> Result<PageLocked<[T]>, Error>
    where
        [T]: DeviceData,
    {
        let element_bytes = size_of::<T>();
        let bytes = elements.checked_mul(element_bytes).filter(|&bytes| bytes <= isize::MAX as usize - PAGE);
        let bytes =
            bytes.ok_or(Error::SizeOverflow { elements: elements as u64, element_bytes: element_bytes as u64 })?;
        PageLocked::new(self.inner(), bytes, elements)
    }
}

const PAGE: usize = 4096;

impl<T: ?Sized + DeviceData> PageLocked<T> {
    fn new(heap: &Arc<HeapInner>, bytes: usize, elements: usize) -> Result<Self, Error> {
        check_align(align_of::<T::Element>())?;
        Self::of_pool(heap.buffers.clone(), bytes, elements)
    }

    fn of_pool(pool: Arc<Buffers>, bytes: usize, elements: usize) -> Result<Self, Error> {
        let buffer = if bytes == 0 { None } else { Some(pool.take(bytes)?) };
        let mut new = PageLocked::<T> { pool, buffer, bytes, elements, of: PhantomData };
        new.as_bytes_mut().fill(0); // a reused buffer must not show what it held
        Ok(new)
    }

    pub(crate) fn is_of(&self, heap: &Arc<HeapInner>) -> bool {
        self.pool.device.same(&heap.device)
    }

    pub(crate) fn elements(&self) -> usize {
        self.elements
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match &self.buffer {
            None => &[],
            // SAFETY: the buffer is ours, initialised, at least `bytes` long, and lent for as long as `self` is.
            Some(buffer) => unsafe { std::slice::from_raw_parts(buffer.memory.as_ptr(), self.bytes) },
        }
    }

    pub(crate) fn as_bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.buffer {
            None => &mut [],
            // SAFETY: as above, and `self` is borrowed mutably.
            Some(buffer) => unsafe { std::slice::from_raw_parts_mut(buffer.memory.as_ptr(), self.bytes) },
        }
    }
}

impl PageLocked<[u8]> {
    /// A chunk to stage in.
    pub(crate) fn of_bytes(heap: &HeapInner, bytes: usize) -> Result<Self, Error> {
        Self::of_pool(heap.buffers.clone(), bytes, bytes)
    }
}

impl<T: ?Sized + DeviceData> Deref for PageLocked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        T::of_bytes(self.as_bytes(), self.elements)
    }
}

impl<T: ?Sized + DeviceData> DerefMut for PageLocked<T> {
    fn deref_mut(&mut self) -> &mut T {
        let elements = self.elements;
        T::of_bytes_mut(self.as_bytes_mut(), elements)
    }
}

impl<T: ?Sized + DeviceData> Drop for PageLocked<T> {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.pool.idle.lock().idle.push(buffer);
        }
    }
}

impl Buffers {
    pub(crate) fn new(device: &DeviceRef) -> Self {
        Buffers { device: device.clone(), idle: Mutex::new(IdleBuffers::default()), left_behind: false }
    }

    /// The smallest idle buffer that fits, or a new one.
    fn take(&self, bytes: usize) -> Result<Buffer, Error> {
        let mut buffers = self.idle.lock();
        let fitting = buffers.idle.iter().enumerate().filter(|(_, buffer)| buffer.bytes >= bytes);
        let best = fitting.min_by_key(|(_, buffer)| buffer.bytes).map(|(at, _)| at);
        if let Some(at) = best {
            return Ok(buffers.idle.swap_remove(at));
        }
        buffers.made += 1;
        let missing = buffers.made - buffers.idle.len();
        buffers.idle.reserve(missing);
        drop(buffers);
        let bytes = bytes.next_multiple_of(PAGE);
        match self.device.call(|device| device.alloc_page_locked(bytes)) {
            Ok(memory) => Ok(Buffer { memory, bytes }),
            Err(error) => {
                self.idle.lock().made -= 1;
                Err(error)
            }
        }
    }

    /// Gives idle buffers back to the device.
    pub(crate) fn free_idle(&self) -> Result<(), Error> {
        loop {
            let Some(buffer) = self.idle.lock().idle.pop() else { return Ok(()) };
            // SAFETY: the buffer came from this device with these bytes and is idle: copies in flight own theirs.
            let freed = self.device.call(|device| unsafe { device.free_page_locked(buffer.memory, buffer.bytes) });
            let mut buffers = self.idle.lock();
            match freed {
                Ok(()) => buffers.made -= 1,
                Err(error) => {
                    buffers.idle.push(buffer);
                    return Err(error);
                }
            }
        }
    }
}

impl<T: ?Sized + DeviceData> fmt::Debug for PageLocked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageLocked").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// The heap is gone, and the last buffer is back, maybe by its drop, which must not call a driver.
impl Drop for Buffers {
    fn drop(&mut self) {
        if self.left_behind || self.device.is_synchronous() || self.device.is_lost() {
            let _ = self.free_idle();
        } else if !self.idle.get_mut().idle.is_empty() {
            let idle = Mutex::new(std::mem::take(self.idle.get_mut()));
            remains::leave(Box::new(Buffers { device: self.device.clone(), idle, left_behind: true }));
        }
    }
}

impl Remains for Buffers {
    fn give_back(&self) -> bool {
        self.free_idle().is_ok() || self.device.is_lost()
    }
}
