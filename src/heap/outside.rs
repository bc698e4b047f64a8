//! What a heap owns outside of its slabs: loaded modules, and memory that another library allocated. Knows no types.
//!
//! Each has a span in the heap's books, without an offset, so that it is owned, noted, parked and swept like any block. When
//! its streams have passed it takes a driver call to give it back, which the sweep makes outside of every lock. So a drop
//! neither calls the driver nor allocates: what is to be given back stands in a table of the heap, filled when it came in.
#![expect(unsafe_code, reason = "loads modules, and gives them and foreign memory back")]

use crate::device::{DeviceError, Fault, ForeignAllocator, RawModule};
use crate::error::Error;
use crate::heap::HeapInner;
use crate::heap::block::Block;
use crate::heap::space::OutsideKind;
use std::any::Any;
use std::panic::Location;
use std::sync::Arc;

/// How to give back what a span outside of the slabs stands for.
pub(crate) enum Outside {
    Module(RawModule),
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "nothing else to adopt from"))]
    Adopted(Adopted),
}

/// Memory of another library, and what belongs to it there. That is dropped where the driver may be called.
pub(crate) struct Adopted {
    pub(crate) address: u64,
    pub(crate) allocator: ForeignAllocator,
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "nothing else to adopt from"))]
    pub(crate) keep_alive: Box<dyn Any + Send + Sync>,
}

impl HeapInner {
    /// A block that stands for a module. `image` is one that [`whole`](crate::device::image::whole) let pass.
    pub(crate) fn load_module(
        self: &Arc<Self>,
        image: &[u8],
        charge: u64,
        loaded_at: &'static Location<'static>,
    ) -> Result<Block, Error> {
        let span = self.admit(OutsideKind::Module, charge, loaded_at)?;
        // SAFETY: the image is whole, so the driver finds its end by itself.
        let load = || self.device.call_raw(|device| unsafe { device.load_module(image) });
        let out_of_memory = |error: &DeviceError| error.fault == Fault::OutOfMemory;
        let mut loaded = load();
        if loaded.as_ref().is_err_and(out_of_memory) && self.give_to_device() {
            loaded = load();
        }
        match loaded {
            Ok(module) => Ok(self.outside_block(span, module.0, Outside::Module(module))),
            Err(error) => {
                let mut space = self.space.lock();
                space.release(span);
                if out_of_memory(&error) { Err(space.out_of_memory(charge, true)) } else { Err(error.into()) }
            }
        }
    }

    /// Gives the device what nobody uses: modules whose kernels are over, and empty slabs. Whether that was anything.
    fn give_to_device(&self) -> bool {
        let taken = || self.space.lock().taken_bytes();
        let before = taken();
        // What cannot be given back now is not the news.
        let _ = self.sweep_all().and_then(|()| self.trim());
        taken() < before
    }

    fn outside_block(self: &Arc<Self>, span: u32, address: u64, outside: Outside) -> Block {
        self.outside.lock().insert(span, outside);
        Block::new(self, span, address)
    }
}

#[cfg(feature = "cuda")]
impl HeapInner {
    /// Accounts for foreign memory before it is taken over by [`adopt`](Self::adopt).
    pub(crate) fn admit_adopted(
        self: &Arc<Self>,
        charge: u64,
        adopted_at: &'static Location<'static>,
    ) -> Result<u32, Error> {
        self.admit(OutsideKind::Adopted, charge, adopted_at)
    }

    pub(crate) fn adopt(self: &Arc<Self>, span: u32, memory: Adopted) -> Block {
        self.outside_block(span, memory.address, Outside::Adopted(memory))
    }

    /// What the block adopted goes to another owner, and the heap knows nothing of it any more. `Err`: it was not adopted.
    pub(crate) fn disown(block: Block) -> Result<Adopted, Block> {
        let removed = {
            let mut outside = block.heap().outside.lock();
            let adopted = matches!(outside.get(&block.span()), Some(Outside::Adopted(_)));
            if adopted { outside.remove(&block.span()) } else { None }
        };
        let Some(Outside::Adopted(memory)) = removed else { return Err(block) };
        let (heap, raw) = block.into_raw();
        heap.writes.lock().remove(&raw.span());
        heap.space.lock().release(raw.span());
        Ok(memory)
    }

    /// What keeps a block's adopted memory company, if it is adopted.
    pub(crate) fn with_adopted<R>(&self, span: u32, look: impl FnOnce(&Adopted) -> R) -> Option<R> {
        match self.outside.lock().get(&span) {
            Some(Outside::Adopted(memory)) => Some(look(memory)),
            _ => None,
        }
    }
}

impl HeapInner {
    /// Makes the driver calls for what sweeps found free. What fails stays, to be tried again.
    pub(crate) fn give_back_due(&self) -> Result<u64, Error> {
        let mut bytes = 0;
        loop {
            let Some(span) = self.sweeps.lock().take_due() else { return Ok(bytes) };
            let outside = self.outside.lock().remove(&span).expect("what is due was not given back");
            if let Err(error) = self.give_back_one(&outside) {
                self.outside.lock().insert(span, outside);
                self.sweeps.lock().add_due(span);
                return Err(error);
            }
            bytes += self.space.lock().free(span);
            drop(outside); // what it kept alive goes outside of the locks
        }
    }

    fn give_back_one(&self, outside: &Outside) -> Result<(), Error> {
        match *outside {
            // SAFETY: the module was loaded here and its handle is gone; every stream that it was lent to has passed.
            Outside::Module(module) => self.device.call(|device| unsafe { device.unload_module(module) }),
            Outside::Adopted(Adopted { address, allocator, .. }) => {
                let stream = self.transfers.raw();
                // SAFETY: whoever adopted the memory vouched for its allocator; its handle is gone, and every stream that
                // it was lent to has passed, so any stream's order will do.
                self.device.call(|device| unsafe { device.free_foreign(address, allocator, stream) })
            }
        }
    }

    /// Tries again after sweeping, and after giving empty slabs back.
    fn admit(&self, kind: OutsideKind, charge: u64, at: &'static Location<'static>) -> Result<u32, Error> {
        if self.device.is_lost() {
            return Err(Error::DeviceLost);
        }
        if let Some(span) = self.try_admit(kind, charge, at)? {
            return Ok(span);
        }
        self.sweep_all()?;
        if let Some(span) = self.try_admit(kind, charge, at)? {
            return Ok(span);
        }
        if self.space.lock().free_bytes() >= charge {
            self.trim()?;
        }
        match self.try_admit(kind, charge, at)? {
            Some(span) => Ok(span),
            None => Err(self.space.lock().out_of_memory(charge, false)),
        }
    }

    fn try_admit(&self, kind: OutsideKind, charge: u64, at: &'static Location<'static>) -> Result<Option<u32>, Error> {
        let mut space = self.space.lock();
        space.check_open()?;
        Ok(space.admit(kind, charge, at))
    }
}
