//! Modules as residents, and misses filled by loading one. Knows how a module is stored, not how it is loaded.

use crate::cache::evictions::Evictions;
use crate::cache::resident::sealed::Sealed;
use crate::cache::resident::{Resident, Spans, Stores};
use crate::cache::slot::Stored;
use crate::cache::vacancy::{Filled, Reservation, Vacancy};
use crate::device::stream::{Stream, StreamSet};
use crate::error::{Error, Returned};
use crate::handle::module::{Module, ModuleView, RawModuleHandle};
use crate::handle::state::Evicted;
use crate::heap::HeapInner;
use crate::heap::block::Freed;
use std::hash::Hash;
use std::sync::Arc;

impl Resident for Module {}

impl Sealed for Module {
    type View<'a> = ModuleView<'a>;
    type Evicted = Module<Evicted>;
    type Raw = RawModuleHandle;
}

impl Stores for Module {
    fn is_of(&self, heap: &Arc<HeapInner>) -> bool {
        Arc::ptr_eq(self.heap(), heap)
    }

    fn charge_bytes(&self) -> u64 {
        self.charge_bytes()
    }

    fn lend(&self, stream: &Stream) -> Result<(), Error> {
        self.lend_to(stream)
    }

    fn into_raw(self) -> (Arc<HeapInner>, RawModuleHandle) {
        self.into_raw()
    }

    fn evicted(heap: Arc<HeapInner>, raw: RawModuleHandle) -> Module<Evicted> {
        raw.into_handle(heap)
    }

    fn give_up(heap: Arc<HeapInner>, raw: RawModuleHandle) {
        raw.give_up(heap);
    }

    fn free(evicted: Module<Evicted>) -> Result<Freed, Error> {
        evicted.free()
    }

    fn view<'a>(heap: &'a Arc<HeapInner>, stream: &'a Stream, module: u64) -> ModuleView<'a> {
        ModuleView::new(heap, stream, module)
    }

    // Code is not written once it is loaded.
    fn pending_spans(_: &RawModuleHandle, _: &mut Spans) {}
    fn writes_passed(_: &mut RawModuleHandle) {}
}

impl Stored for RawModuleHandle {
    /// The module in the device's own terms.
    type View = u64;

    fn charge_bytes(&self, granule_bytes: u64) -> u64 {
        self.image_bytes.next_multiple_of(granule_bytes)
    }

    fn view(&self) -> u64 {
        self.block.address
    }

    fn lend(&mut self, stream: StreamSet) -> bool {
        if !self.block.notes.contains(stream) {
            self.block.notes = self.block.notes.union(stream);
        }
        false
    }
}

impl<'c, K: Hash + Eq> Vacancy<'c, K, Module> {
    /// Fills the key with a module loaded from `image`, as [`fill_from`](Vacancy::fill_from) does with bytes: reserves, frees what that
    /// evicts and waits for the kernels that still run, loads and commits. If the heap or the device has no room, one more round of
    /// eviction is made.
    ///
    /// # Errors
    /// [`Error::Oversize`], [`Error::NoRoom`] or [`Error::NoEntry`] before anything is evicted; else as
    /// [`Heap::load_module`](crate::Heap::load_module). The vacancy comes back.
    #[track_caller]
    pub fn load(self, image: &[u8]) -> Result<Filled<'c, K, Module>, Returned<Self>> {
        let (reservation, evicted) = self.reserve(image.len() as u64)?;
        match reservation.load_in_two_rounds(image, evicted) {
            Ok(module) => match reservation.commit(module) {
                Ok(lease) => Ok(Filled { lease, evicted: Evictions::empty() }),
                Err(refused) => Err(refused.map(|(reservation, module)| {
                    let _ = module.free(); // the refusal is the news
                    reservation.into_vacancy()
                })),
            },
            Err(error) => Err(Returned::new(reservation.into_vacancy(), error)),
        }
    }
}

impl<K: Hash + Eq> Reservation<'_, K, Module> {
    #[track_caller]
    fn load_in_two_rounds(&self, image: &[u8], evicted: Evictions<K, Module>) -> Result<Module, Error> {
        self.free_and_wait(evicted)?;
        let refused = match self.heap().load_module(image) {
            Ok(module) => return Ok(module),
            Err(error) => error,
        };
        if !matches!(refused, Error::OutOfMemory { .. }) {
            return Err(refused);
        }
        let evicted = self.make_room();
        if evicted.is_empty() {
            return Err(refused);
        }
        self.free_and_wait(evicted)?;
        self.heap().load_module(image)
    }
}
