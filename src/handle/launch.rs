//! Kernel launches whose memory is checked to be of the launch's stream. Knows no cache and no driver.
#![expect(unsafe_code, reason = "launches kernels, whose caller vouches for them")]

use crate::device::LaunchShape;
use crate::device::stream::Stream;
use crate::error::Error;
use crate::handle::module::Function;
use crate::handle::view::{View, ViewMut};
use crate::heap::data::DeviceData;
use smallvec::SmallVec;
use std::fmt;
use std::marker::PhantomData;

/// A launch of a kernel, to be given its arguments in the order of the kernel's parameters.
///
/// It runs on the stream that the [`Function`] is bound to, be it the device's own or an adopted one. Memory is
/// passed as views and leases, and all of it must be bound to that same stream: that is what orders
/// the kernel behind pending writes, and keeps the memory from reuse before it has run. [`Module`](crate::Module) has an example.
#[must_use = "nothing runs before launch()"]
pub struct Launch<'a> {
    function: Function<'a>,
    shape: LaunchShape,
    /// The values of all arguments, each from a word of its own on.
    words: SmallVec<[u64; 12]>,
    /// Where each argument begins.
    starts: SmallVec<[usize; 12]>,
    /// The first argument that is bound to another stream.
    wrong: Option<usize>,
    memory: PhantomData<&'a mut ()>,
}

/// Device memory that a kernel can be given: `&View`, `&mut ViewMut`, `&Lease` and `&OwnedLease` of one handle. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not memory that is lent to a stream",
    note = "pass `&View`, `&mut ViewMut`, `&Lease` or `&OwnedLease`; numbers go through `Launch::value`"
)]
pub trait KernelMemory<'a>: sealed::Sealed<'a> {}

pub(crate) mod sealed {
    use crate::device::stream::Stream;

    pub trait Sealed<'a> {
        /// The device address, and the stream that may use it.
        fn lent(self) -> (u64, &'a Stream);
    }
}

impl LaunchShape {
    /// As many blocks of `block_threads` as `threads` threads need, one at least, all along x.
    ///
    /// ```
    /// let shape = hapax::LaunchShape::linear(1000, 256);
    /// assert_eq!((shape.grid, shape.block), ([4, 1, 1], [256, 1, 1]));
    /// ```
    ///
    /// # Panics
    /// If `block_threads` is 0, or the blocks are more than `u32` counts.
    pub fn linear(threads: u64, block_threads: u32) -> LaunchShape {
        let blocks = threads.div_ceil(u64::from(block_threads)).max(1);
        let blocks = u32::try_from(blocks).expect("so many blocks are beyond any device");
        LaunchShape { grid: [blocks, 1, 1], block: [block_threads, 1, 1], shared_bytes: 0 }
    }

    /// The same with so much dynamic shared memory for each block.
    #[must_use]
    pub fn shared_bytes(self, bytes: u32) -> LaunchShape {
        LaunchShape { shared_bytes: bytes, ..self }
    }
}

impl<'a> Launch<'a> {
    /// A launch of `function` on the stream that it is bound to, without arguments yet.
    pub fn new(function: &Function<'a>, shape: LaunchShape) -> Self {
        Launch {
            function: *function,
            shape,
            words: SmallVec::new(),
            starts: SmallVec::new(),
            wrong: None,
            memory: PhantomData,
        }
    }

    /// The next argument: device memory, passed as its address.
    pub fn memory(mut self, memory: impl KernelMemory<'a>) -> Self {
        let (address, stream) = memory.lent();
        if !stream.same(self.function.stream) {
            self.wrong.get_or_insert(self.starts.len());
        }
        self.starts.push(self.words.len());
        self.words.push(address);
        self
    }

    /// The next argument, passed by value: a number, or a plain struct laid out as the kernel declares it.
    pub fn value<T: bytemuck::Pod>(mut self, value: T) -> Self {
        const { assert!(size_of::<T>() > 0, "kernels have no parameters without bytes") };
        self.starts.push(self.words.len());
        self.words.extend(bytemuck::bytes_of(&value).chunks(8).map(|bytes| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_ne_bytes(word)
        }));
        self
    }

    /// Puts the kernel on the stream. It may not have run when this returns.
    ///
    /// What is checked: all memory is bound to the function's stream, which is not under capture; the module is
    /// loaded, and stays so until the kernel has run, and so does the memory given here.
    ///
    /// # Safety
    /// - The arguments are as many as the kernel's parameters, in their order, each of its parameter's size and meaning.
    /// - The kernel stays inside the memory that it is given here and that the module owns; whatever else it
    ///   reaches, through addresses that were passed by value or stored in memory, is the caller's to keep alive and ordered.
    /// - What it gets as `&View`, `&Lease` or `&OwnedLease` it only reads; nothing else writes there until it has run, except
    ///   what the stream orders.
    /// - No two of its arguments alias where it needs them not to.
    /// - It writes to each view that is typed only bytes that are valid for the type, which holds for all plain data.
    ///
    /// # Errors
    /// [`Error::WrongStream`] names the first argument that is bound to another stream; [`Error::StreamCapturing`],
    /// [`Error::DeviceLost`] or [`Error::Device`]. Nothing was launched.
    pub unsafe fn launch(mut self) -> Result<(), Error> {
        if let Some(argument) = self.wrong {
            return Err(Error::WrongStream { argument });
        }
        let Function { heap, stream, raw } = self.function;
        stream.check(&heap.device)?;
        let first = self.words.as_mut_ptr();
        let mut arguments: SmallVec<[_; 12]> = self.starts.iter().map(|&at| first.wrapping_add(at).cast()).collect();
        // SAFETY: the function's module is lent to this stream, noted, so it stays loaded until the stream has passed; the
        // stream's handle is borrowed. Each pointer is to the words of one argument, alive through the call. Views and
        // leases of the same stream are noted too, which keeps their memory; the rest is the caller's promise.
        heap.device.call(|device| unsafe { device.launch(raw, self.shape, stream.raw(), &mut arguments) })
    }
}

impl<'a, T: ?Sized + DeviceData> KernelMemory<'a> for &'a View<'_, T> {}
impl<'a, T: ?Sized + DeviceData> sealed::Sealed<'a> for &'a View<'_, T> {
    fn lent(self) -> (u64, &'a Stream) {
        (self.device_address(), self.stream())
    }
}

impl<'a, T: ?Sized + DeviceData> KernelMemory<'a> for &'a mut ViewMut<'_, T> {}
impl<'a, T: ?Sized + DeviceData> sealed::Sealed<'a> for &'a mut ViewMut<'_, T> {
    fn lent(self) -> (u64, &'a Stream) {
        (self.device_address(), self.stream())
    }
}

impl fmt::Debug for Launch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arguments = self.starts.len();
        f.debug_struct("Launch").field("shape", &self.shape).field("arguments", &arguments).finish_non_exhaustive()
    }
}
