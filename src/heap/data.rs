//! Which types can live in device memory: plain bytes, as values or slices. Knows no device.

use bytemuck::Pod;

/// What a device can hold: any `T: bytemuck::Pod + Send + Sync`, or a slice of it.
///
/// Plain old data only: bytes that mean the same after a copy to the device and back, without padding,
/// pointers or forbidden values. The trait is sealed.
///
/// ```
/// use hapax::{Heap, HeapOptions, HostDevice};
///
/// #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
/// #[repr(C)]
/// struct Launch {
///     grid: [u32; 3],
///     shared_bytes: u32,
/// }
///
/// let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
/// let one = heap.alloc::<Launch>()?.upload_from(&Launch { grid: [1, 2, 3], shared_bytes: 0 })?;
/// let many = heap.alloc_slice::<Launch>(16)?;
/// # let (_, _) = (one.free()?, many.free()?);
/// # Ok::<(), hapax::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot live in device memory",
    label = "not plain old data",
    note = "device memory holds `bytemuck::Pod` types that are Send and Sync, and slices of them: no references, no `bool`, no `String`, no padding"
)]
#[expect(private_bounds, reason = "how bytes are seen is nobody else's to call")]
pub trait DeviceData: sealed::Sealed + Bytes + 'static {}

impl<T: Pod + Send + Sync> DeviceData for T {}
impl<T: Pod + Send + Sync> DeviceData for [T] {}

pub(crate) mod sealed {
    use bytemuck::Pod;

    pub trait Sealed {
        /// Itself, or the element of a slice.
        type Element: Pod + Send + Sync;
    }

    impl<T: Pod + Send + Sync> Sealed for T {
        type Element = T;
    }

    impl<T: Pod + Send + Sync> Sealed for [T] {
        type Element = T;
    }
}

/// Values and slices as bytes.
pub(crate) trait Bytes {
    fn elements(&self) -> usize;
    fn as_bytes(&self) -> &[u8];
    fn as_bytes_mut(&mut self) -> &mut [u8];
    /// `bytes` holds exactly `elements`, aligned.
    fn of_bytes(bytes: &[u8], elements: usize) -> &Self;
    fn of_bytes_mut(bytes: &mut [u8], elements: usize) -> &mut Self;
}

impl<T: Pod + Send + Sync> Bytes for T {
    fn elements(&self) -> usize {
        1
    }

    fn as_bytes(&self) -> &[u8] {
        bytemuck::bytes_of(self)
    }

    fn as_bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::bytes_of_mut(self)
    }

    fn of_bytes(bytes: &[u8], _: usize) -> &Self {
        if bytes.is_empty() { &zero_sized(1)[0] } else { bytemuck::from_bytes(bytes) }
    }

    fn of_bytes_mut(bytes: &mut [u8], _: usize) -> &mut Self {
        if bytes.is_empty() { &mut zero_sized(1)[0] } else { bytemuck::from_bytes_mut(bytes) }
    }
}

impl<T: Pod + Send + Sync> Bytes for [T] {
    fn elements(&self) -> usize {
        self.len()
    }

    fn as_bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self)
    }

    fn as_bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(self)
    }

    fn of_bytes(bytes: &[u8], elements: usize) -> &Self {
        if bytes.is_empty() { zero_sized(elements) } else { bytemuck::cast_slice(bytes) }
    }

    fn of_bytes_mut(bytes: &mut [u8], elements: usize) -> &mut Self {
        if bytes.is_empty() { zero_sized(elements) } else { bytemuck::cast_slice_mut(bytes) }
    }
}

/// No bytes tell how many elements there are, nor are they aligned. A box of them allocates nothing, so
/// leaking it leaks nothing.
fn zero_sized<T: Pod>(elements: usize) -> &'static mut [T] {
    debug_assert!(elements == 0 || size_of::<T>() == 0);
    Box::leak(vec![T::zeroed(); elements].into_boxed_slice())
}
