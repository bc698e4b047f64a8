//! Loaded code as a handle: owned once, noted per stream, unloaded once its kernels are over. Knows no cache.
#![expect(unsafe_code, reason = "looks kernels up in modules that are borrowed, hence loaded")]

use crate::device::image::whole;
use crate::device::stream::Stream;
use crate::device::{RawFunction, RawModule};
use crate::error::{Error, Returned};
use crate::handle::gate::Gate;
use crate::handle::state::{Evicted, Ready, State};
use crate::heap::block::{Block, Freed, RawBlock};
use crate::heap::{Heap, HeapInner};
use std::ffi::CString;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

/// The one owner of a loaded module: PTX, a CUBIN or a fat binary that the device has loaded.
///
/// It is a resident like a [`DevBox`](crate::DevBox): cached under the same budget, leased, evicted, freed. It is unloaded once, and
/// not before every stream that it was lent to has passed; a drop only notes it, and the heap's next
/// allocations unload it. Its charge is the bytes of its image in whole granules: an estimate, since the driver does
/// not tell what a module takes on the card.
///
#[cfg_attr(feature = "cuda", doc = "```no_run")]
#[cfg_attr(not(feature = "cuda"), doc = "```ignore")]
/// use hapax::{CudaDevice, Heap, HeapOptions, Launch, LaunchShape};
///
/// let heap = Heap::new(CudaDevice::open(0)?, HeapOptions::new(1 << 20))?;
/// let stream = heap.new_stream()?;
/// let module = heap.load_module(&std::fs::read("module.ptx")?)?;
/// let mut y = heap.alloc_slice::<f32>(1000)?.zero(&stream)?;
/// let x = heap.alloc_slice::<f32>(1000)?.upload_from(&[1.0; 1000])?;
///
/// let saxpy = module.on(&stream)?.function("saxpy")?;
/// let (x_view, mut y_view) = (x.on(&stream)?, y.on_mut(&stream)?);
/// let launch = Launch::new(&saxpy, LaunchShape::linear(1000, 256));
/// let launch = launch.value(1000u64).value(2.0f32).memory(&x_view).memory(&mut y_view);
/// // SAFETY: saxpy takes (u64, float, const float *, float *) and stays within 1000 elements.
/// unsafe { launch.launch() }?;
/// # drop((x, y, module));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a module takes device memory: free it, cache it, or keep it"]
pub struct Module<S: State = Ready> {
    block: Block,
    image_bytes: u64,
    gate: Gate<RawModule, S>,
}

/// A module lent to one stream: kernels are looked up in it, and launched on that stream.
#[derive(Clone, Copy)]
#[must_use = "a view that is not used orders and notes its stream for nothing"]
pub struct ModuleView<'a> {
    heap: &'a Arc<HeapInner>,
    stream: &'a Stream,
    module: RawModule,
}

/// A kernel of a module that is lent to one stream. Keep it as long as the view's handle or lease; to look it up takes a driver call.
#[derive(Clone, Copy)]
pub struct Function<'a> {
    pub(crate) heap: &'a Arc<HeapInner>,
    pub(crate) stream: &'a Stream,
    pub(crate) raw: RawFunction,
}

/// What a cache's slot stores of a module.
pub struct RawModuleHandle {
    pub(crate) block: RawBlock,
    pub(crate) image_bytes: u64,
}

impl Heap {
    /// Loads PTX text, a CUBIN or a fat binary. It takes none of the heap's slabs, but counts against its limit
    /// ([`Ledger::module_bytes`](crate::Ledger::module_bytes)). PTX is compiled for the card here, which takes its time.
    ///
    /// # Errors
    /// [`Error::BadImage`] says why the bytes are none of these, or not all of one; [`Error::Unsupported`] on devices without
    /// modules; [`Error::OutOfMemory`], [`Error::HeapClosed`], [`Error::DeviceLost`], [`Error::Device`].
    #[track_caller]
    pub fn load_module(&self, image: &[u8]) -> Result<Module, Error> {
        let whole = whole(image)?;
        let image_bytes = image.len() as u64;
        let block = self.inner().load_module(&whole, self.charge_bytes(image_bytes), Location::caller())?;
        Ok(Module::new(block, image_bytes))
    }
}

impl<S: State> Module<S> {
    /// Bytes that it is charged: those of its image, in whole granules.
    pub fn charge_bytes(&self) -> u64 {
        self.heap().charge_bytes(self.image_bytes)
    }

    pub(crate) fn heap(&self) -> &Arc<HeapInner> {
        self.block.heap()
    }

    fn new(block: Block, image_bytes: u64) -> Self {
        Module { block, image_bytes, gate: Gate::new() }
    }

    fn into_parts(self) -> (Block, u64) {
        let Module { block, image_bytes, gate } = self;
        gate.open();
        (block, image_bytes)
    }
}

impl Module {
    /// A view for kernels on `stream`. The module stays loaded until `stream` has passed, however long the view lives.
    ///
    /// # Errors
    /// [`Error::WrongDevice`], [`Error::StreamCapturing`], [`Error::DeviceLost`] or [`Error::Device`].
    pub fn on<'a>(&'a self, stream: &'a Stream) -> Result<ModuleView<'a>, Error> {
        self.lend_to(stream)?;
        Ok(ModuleView::new(self.heap(), stream, self.block.address()))
    }

    pub(crate) fn lend_to(&self, stream: &Stream) -> Result<(), Error> {
        self.block.lend(stream)
    }

    pub(crate) fn into_raw(self) -> (Arc<HeapInner>, RawModuleHandle) {
        let (block, image_bytes) = self.into_parts();
        let (heap, block) = block.into_raw();
        (heap, RawModuleHandle { block, image_bytes })
    }
}

impl Module<Evicted> {
    /// Makes the module usable again, on `stream` first.
    ///
    /// # Errors
    /// [`Error::WrongDevice`], [`Error::StreamCapturing`], [`Error::DeviceLost`] or [`Error::Device`]; the module comes back.
    pub fn revive(self, stream: &Stream) -> Result<Module, Returned<Self>> {
        match self.block.lend(stream) {
            Ok(()) => {
                let (block, image_bytes) = self.into_parts();
                Ok(Module::new(block, image_bytes))
            }
            Err(error) => Err(Returned::new(self, error)),
        }
    }
}

macro_rules! free_in {
    ($($state:ty),*) => {$(
        impl Module<$state> {
            /// Gives the module up. It is unloaded by the heap's next allocation or
            /// [`settle`](Heap::settle) after its streams have passed. Never waits and makes no driver call.
            ///
            /// # Errors
            /// [`Error::DeviceLost`]: the module went with the device, and is consumed all the same.
            pub fn free(self) -> Result<Freed, Error> {
                self.into_parts().0.free()
            }
        }
    )*};
}
free_in!(Ready, Evicted);

impl RawModuleHandle {
    pub(crate) fn into_handle(self, heap: Arc<HeapInner>) -> Module<Evicted> {
        Module::new(Block::from_raw(heap, self.block), self.image_bytes)
    }

    /// Gives the module up as its handle's drop does, without a handle.
    pub(crate) fn give_up(self, heap: Arc<HeapInner>) {
        drop(Block::from_raw(heap, self.block));
    }
}

impl<'a> ModuleView<'a> {
    pub(crate) fn new(heap: &'a Arc<HeapInner>, stream: &'a Stream, module: u64) -> Self {
        ModuleView { heap, stream, module: RawModule(module) }
    }

    /// The stream that the module is lent to.
    pub fn stream(&self) -> &'a Stream {
        self.stream
    }

    /// The module in the device's own terms. Kernels of it may run on this view's stream only.
    pub fn raw(&self) -> RawModule {
        self.module
    }

    /// The kernel of this name, as the image spells it (C++ names are mangled, unless `extern "C"`).
    ///
    /// # Errors
    /// [`Error::Device`] with the name if there is none; [`Error::DeviceLost`].
    pub fn function(&self, name: &str) -> Result<Function<'a>, Error> {
        let Ok(text) = CString::new(name) else {
            return Err(Error::BadOption(format!("no kernel is called {name:?}: names hold no zero byte")));
        };
        // SAFETY: the handle or lease that lends the module is borrowed, so it is loaded.
        let raw = self.heap.device.call_raw(|device| unsafe { device.module_function(self.module, &text) });
        match raw {
            Ok(raw) => Ok(Function { heap: self.heap, stream: self.stream, raw }),
            Err(mut error) => {
                error.message = format!("kernel {name:?}: {}", error.message);
                Err(error.into())
            }
        }
    }
}

impl<'a> Function<'a> {
    /// The stream that it may be launched on.
    pub fn stream(&self) -> &'a Stream {
        self.stream
    }

    /// The kernel in the device's own terms.
    pub fn raw(&self) -> RawFunction {
        self.raw
    }

    /// Lets its launches ask for up to so much dynamic shared memory. CUDA wants to be told above 48 KiB.
    ///
    /// # Errors
    /// [`Error::Device`] if the card has less; [`Error::DeviceLost`].
    pub fn allow_shared_bytes(&self, bytes: u32) -> Result<(), Error> {
        // SAFETY: what lends the module is borrowed, so it is loaded.
        self.heap.device.call(|device| unsafe { device.allow_shared_bytes(self.raw, bytes) })
    }
}

impl<S: State> fmt::Debug for Module<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("image_bytes", &self.image_bytes).finish_non_exhaustive()
    }
}

impl fmt::Debug for ModuleView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ModuleView").field(&self.module).finish()
    }
}

impl fmt::Debug for Function<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Function").field(&self.raw).finish()
    }
}
