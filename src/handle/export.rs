//! Handles that leave Rust's ownership and come back. Whatever happens meanwhile is the borrower's.
#![expect(unsafe_code, reason = "declares `reclaim`, whose caller vouches for the borrower")]

use crate::handle::DevBox;
use crate::heap::data::DeviceData;
use std::fmt;
use std::mem::ManuallyDrop;

/// A handle as raw parts, for code that hapax cannot see. It is never freed by itself: dropped, the
/// memory stays allocated and is reported when the heap goes. [`reclaim`](Exported::reclaim) takes it back.
///
/// The address lies inside a slab: it must not be freed by anybody else, and there is other memory
/// beside it.
///
/// ```
/// use hapax::{Heap, HeapOptions, HostDevice};
///
/// let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
/// let handle = heap.alloc_slice::<u8>(3)?.upload_from(b"abc")?;
/// let exported = handle.export();
/// let (address, bytes) = (exported.device_address(), exported.bytes()); // hand these to foreign code
/// # assert!(address != 0 && bytes == 3);
/// // SAFETY: the foreign code is done with the memory.
/// let handle = unsafe { exported.reclaim() };
/// handle.free()?;
/// # Ok::<(), hapax::Error>(())
/// ```
#[must_use = "exported memory is never freed by itself: reclaim it"]
pub struct Exported<T: ?Sized + DeviceData>(ManuallyDrop<DevBox<T>>);

impl<T: ?Sized + DeviceData> DevBox<T> {
    /// Takes the handle apart into raw parts that are never freed by themselves.
    pub fn export(self) -> Exported<T> {
        Exported(ManuallyDrop::new(self))
    }
}

impl<T: ?Sized + DeviceData> Exported<T> {
    /// The device address of the contents, interior to a slab.
    pub fn device_address(&self) -> u64 {
        self.0.block.address()
    }

    /// Bytes of the contents.
    pub fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    /// Takes the memory back.
    ///
    /// # Safety
    /// The contents are valid, and nothing outside uses the memory any more: all foreign work that
    /// touches it is over, or stands on streams that were noted with [`DevBox::on`] before the export.
    pub unsafe fn reclaim(self) -> DevBox<T> {
        ManuallyDrop::into_inner(self.0)
    }
}

impl<T: ?Sized + DeviceData> fmt::Debug for Exported<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = format_args!("{:#x}", self.device_address());
        f.debug_struct("Exported").field("device_address", &address).field("bytes", &self.bytes()).finish()
    }
}
