//! Borrowed windows into device memory, for kernel launches and partial copies. They own nothing.

use crate::device::stream::Stream;
use crate::error::{Error, Returned};
use crate::handle::{DevBox, bytes_of};
use crate::heap::HeapInner;
use crate::heap::data::DeviceData;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

/// A shared view of device memory, lent to one stream. It cannot outlive its handle or lease.
///
/// ```
/// use hapax::{Heap, HeapOptions, HostDevice};
///
/// let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
/// let stream = heap.new_stream()?;
/// let handle = heap.alloc_slice::<u32>(4)?.upload_from(&[1, 2, 3, 4])?;
/// let view = handle.on(&stream)?; // launch kernels with view.device_address() on `stream`
/// let tail = view.slice(2..4)?;
/// let mut bytes = [0u8; 8];
/// tail.into_bytes().download_to(&mut bytes)?;
/// assert_eq!(bytes[0], 3);
/// # handle.free()?;
/// # Ok::<(), hapax::Error>(())
/// ```
#[must_use = "a view that is not used orders and notes its stream for nothing"]
pub struct View<'a, T: ?Sized + DeviceData> {
    window: Window<'a>,
    of: PhantomData<(&'a (), fn() -> *const T)>,
}

/// An exclusive view of device memory, lent to one stream, for kernels that write.
#[must_use = "a view that is not used orders and notes its stream for nothing"]
pub struct ViewMut<'a, T: ?Sized + DeviceData> {
    window: Window<'a>,
    of: PhantomData<(&'a mut (), fn() -> *const T)>,
}

/// Where a view lies; what both kinds share.
#[derive(Clone, Copy)]
struct Window<'a> {
    heap: &'a Arc<HeapInner>,
    stream: &'a Stream,
    address: u64,
    elements: usize,
}

impl<T: ?Sized + DeviceData> DevBox<T> {
    /// A view for kernels on `stream`, ordered behind the last write elsewhere. The memory is not reused
    /// before `stream` has passed, however long the view lives.
    ///
    /// # Errors
    /// [`Error::WrongDevice`], [`Error::DeviceLost`] or [`Error::Device`].
    pub fn on<'a>(&'a self, stream: &'a Stream) -> Result<View<'a, T>, Error> {
        self.block.lend(stream)?;
        Ok(View::new(self.heap(), stream, self.block.address(), self.elements))
    }

    /// An exclusive view for kernels on `stream`, ordered behind all earlier uses elsewhere.
    ///
    /// # Errors
    /// [`Error::WrongDevice`], [`Error::DeviceLost`] or [`Error::Device`].
    pub fn on_mut<'a>(&'a mut self, stream: &'a Stream) -> Result<ViewMut<'a, T>, Error> {
        self.block.lend_mut(stream)?;
        let window = Window { heap: self.block.heap(), stream, address: self.block.address(), elements: self.elements };
        Ok(ViewMut { window, of: PhantomData })
    }
}

impl<'a, T: ?Sized + DeviceData> View<'a, T> {
    pub(crate) fn new(heap: &'a Arc<HeapInner>, stream: &'a Stream, address: u64, elements: usize) -> Self {
        View { window: Window { heap, stream, address, elements }, of: PhantomData }
    }

    /// The address to pass to kernels on the view's stream.
    pub fn device_address(&self) -> u64 {
        self.window.address
    }

    /// The stream that the view is lent to.
    pub fn stream(&self) -> &'a Stream {
        self.window.stream
    }

    /// Bytes of the contents.
    pub fn bytes(&self) -> u64 {
        bytes_of::<T>(self.window.elements)
    }

    /// Copies the contents to `to`, behind the stream's work, and waits.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`], [`Error::DeviceLost`] or [`Error::Device`].
    pub fn download_to(&self, to: &mut T) -> Result<(), Error> {
        self.window.download_to(to)
    }

    /// The same memory as bytes.
    pub fn into_bytes(self) -> View<'a, [u8]> {
        View { window: self.window.as_bytes::<T>(), of: PhantomData }
    }
}

impl<'a, T> View<'a, [T]>
where
    [T]: DeviceData,
{
    /// Elements in the view.
    pub fn len(&self) -> usize {
        self.window.elements
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.window.elements == 0
    }

    /// A part of the view.
    ///
    /// # Errors
    /// [`Error::OutOfRange`].
    pub fn slice(&self, range: Range<usize>) -> Result<View<'a, [T]>, Error> {
        Ok(View { window: self.window.slice(range, size_of::<T>())?, of: PhantomData })
    }

    /// The same bytes as elements of another type.
    ///
    /// # Errors
    /// [`Error::Misaligned`] if the size or the address does not divide.
    pub fn cast<U>(&self) -> Result<View<'a, [U]>, Error>
    where
        [U]: DeviceData,
    {
        Ok(View { window: self.window.cast(self.bytes(), size_of::<U>(), align_of::<U>())?, of: PhantomData })
    }
}

/// Shared views are copies of each other.
impl<T: ?Sized + DeviceData> Clone for View<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized + DeviceData> Copy for View<'_, T> {}

impl<'a, T: ?Sized + DeviceData> ViewMut<'a, T> {
    /// The address to pass to kernels on the view's stream.
    pub fn device_address(&mut self) -> u64 {
        self.window.address
    }

    /// The stream that the view is lent to.
    pub fn stream(&self) -> &'a Stream {
        self.window.stream
    }

    /// Bytes of the contents.
    pub fn bytes(&self) -> u64 {
        bytes_of::<T>(self.window.elements)
    }

    /// Copies the contents to `to`, behind the stream's work, and waits.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`], [`Error::DeviceLost`] or [`Error::Device`].
    pub fn download_to(&self, to: &mut T) -> Result<(), Error> {
        self.window.download_to(to)
    }

    /// The same memory as bytes.
    pub fn into_bytes(self) -> ViewMut<'a, [u8]> {
        ViewMut { window: self.window.as_bytes::<T>(), of: PhantomData }
    }
}

impl<'a, T> ViewMut<'a, [T]>
where
    [T]: DeviceData,
{
    /// Elements in the view.
    pub fn len(&self) -> usize {
        self.window.elements
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.window.elements == 0
    }

    /// A part of the view, which lends it for as long.
    ///
    /// # Errors
    /// [`Error::OutOfRange`].
    pub fn slice_mut(&mut self, range: Range<usize>) -> Result<ViewMut<'_, [T]>, Error> {
        Ok(ViewMut { window: self.window.slice(range, size_of::<T>())?, of: PhantomData })
    }

    /// Two disjoint parts, before and from `mid`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; the view comes back.
    pub fn split_at_mut(self, mid: usize) -> Result<(ViewMut<'a, [T]>, ViewMut<'a, [T]>), Returned<Self>> {
        let part = |range| self.window.slice(range, size_of::<T>());
        match (part(0..mid), part(mid..self.window.elements)) {
            (Ok(head), Ok(tail)) => {
                Ok((ViewMut { window: head, of: PhantomData }, ViewMut { window: tail, of: PhantomData }))
            }
            (Err(error), _) | (_, Err(error)) => Err(Returned::new(self, error)),
        }
    }

    /// The same bytes as elements of another type.
    ///
    /// # Errors
    /// [`Error::Misaligned`] if the size or the address does not divide; the view comes back.
    pub fn cast<U>(self) -> Result<ViewMut<'a, [U]>, Returned<Self>>
    where
        [U]: DeviceData,
    {
        match self.window.cast(self.bytes(), size_of::<U>(), align_of::<U>()) {
            Ok(window) => Ok(ViewMut { window, of: PhantomData }),
            Err(error) => Err(Returned::new(self, error)),
        }
    }
}

impl<T: ?Sized + DeviceData> View<'_, T> {
    /// Where the view keeps its device address.
    #[cfg(feature = "cuda")]
    pub(crate) fn address(&self) -> &u64 {
        &self.window.address
    }
}

impl<T: ?Sized + DeviceData> ViewMut<'_, T> {
    /// As for a shared view.
    #[cfg(feature = "cuda")]
    pub(crate) fn address(&self) -> &u64 {
        &self.window.address
    }
}

impl<'a> Window<'a> {
    fn slice(self, range: Range<usize>, element_bytes: usize) -> Result<Self, Error> {
        let Range { start, end } = range;
        if start > end || end > self.elements {
            return Err(Error::OutOfRange { start, end, elements: self.elements });
        }
        Ok(Window { address: self.address + (start * element_bytes) as u64, elements: end - start, ..self })
    }

    fn as_bytes<T: ?Sized + DeviceData>(self) -> Self {
        Window { elements: bytes_of::<T>(self.elements) as usize, ..self }
    }

    fn cast(self, bytes: u64, element_bytes: usize, align: usize) -> Result<Self, Error> {
        let divides = match element_bytes {
            0 => bytes == 0,
            _ => bytes % element_bytes as u64 == 0 && self.address % align as u64 == 0,
        };
        if !divides {
            return Err(Error::Misaligned { address: self.address, bytes, element_bytes, align_bytes: align });
        }
        let elements = (bytes as usize).checked_div(element_bytes).unwrap_or(0);
        Ok(Window { elements, ..self })
    }

    fn fmt_as(&self, name: &str, bytes: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = format_args!("{:#x}", self.address);
        f.debug_struct(name).field("device_address", &address).field("bytes", &bytes).finish_non_exhaustive()
    }

    fn download_to<T: ?Sized + DeviceData>(self, to: &mut T) -> Result<(), Error> {
        if to.elements() != self.elements {
            return Err(Error::LengthMismatch { device_elements: self.elements, host_elements: to.elements() });
        }
        self.heap.read_blocking(self.address, to.as_bytes_mut(), self.stream)
    }
}

impl<T: ?Sized + DeviceData> fmt::Debug for View<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.window.fmt_as("View", self.bytes(), f)
    }
}

impl<T: ?Sized + DeviceData> fmt::Debug for ViewMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.window.fmt_as("ViewMut", self.bytes(), f)
    }
}
