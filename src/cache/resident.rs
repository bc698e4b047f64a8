//! What a cache can hold: handles, and bundles of them that live and die together.

use crate::cache::slot::Stored;
use crate::device::stream::{Stream, StreamSet};
use crate::error::Error;
use crate::handle::state::Evicted;
use crate::handle::view::View;
use crate::handle::{DevBox, RawDevBox};
use crate::heap::HeapInner;
use crate::heap::block::Freed;
use crate::heap::data::DeviceData;
use smallvec::SmallVec;
use std::sync::Arc;

/// What a [`Cache`](crate::Cache) can hold: a [`DevBox`], a [`Module`](crate::Module), or a tuple of two to four residents, which
/// are admitted, leased and evicted together. Sealed.
///
/// ```
/// use hapax::{Cache, DevBox, Heap, HeapOptions, HostDevice};
///
/// // A compiled unit: its code and its relocations.
/// type Unit = (DevBox<[u8]>, DevBox<[u32]>);
///
/// let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
/// let stream = heap.new_stream()?;
/// let cache: Cache<&str, Unit> = Cache::new(&heap, 1 << 16)?;
/// let code = heap.alloc_slice::<u8>(100)?.upload_from(&[0x90; 100])?;
/// let relocations = heap.alloc_slice::<u32>(3)?.upload_from(&[4, 8, 32])?;
/// cache.insert("main", (code, relocations))?.free_all()?;
///
/// let lease = cache.get("main", &stream)?.expect("resident");
/// let (code, relocations) = lease.view();
/// assert_eq!((code.len(), relocations.len()), (100, 3));
/// # drop(lease);
/// # Ok::<(), hapax::Error>(())
/// ```
///
/// | resident | its lease's view | what eviction hands back |
/// |---|---|---|
/// | `DevBox<T>` | [`View<T>`](View) | `DevBox<T, Evicted>` |
/// | `Module` | [`ModuleView`](crate::ModuleView) | `Module<Evicted>` |
/// | `(A, B)`, `(A, B, C)`, `(A, B, C, D)` | a tuple of their views | a tuple of what they hand back |
#[diagnostic::on_unimplemented(
    message = "a cache cannot hold `{Self}`",
    label = "not a resident",
    note = "a cache holds `DevBox<T>` that is Ready, `Module`, and tuples of two to four residents; the trait is sealed"
)]
#[expect(private_bounds, reason = "how a resident is stored is nobody else's to call")]
pub trait Resident: sealed::Sealed + Stores {}

/// Spans whose last write may be pending.
pub(crate) type Spans = SmallVec<[u32; 4]>;

pub(crate) mod sealed {
    use crate::cache::slot::Stored;

    /// What a resident is to its lease, to its eviction, and in its slot.
    pub trait Sealed: Sized + Send {
        /// What a lease lends.
        type View<'a>;
        /// What eviction hands back.
        type Evicted: Send;
        type Raw: Stored;
    }
}

/// How a resident gets into a slot and out of it.
pub(crate) trait Stores: sealed::Sealed {
    fn is_of(&self, heap: &Arc<HeapInner>) -> bool;
    /// Bytes that it takes of its heap, in whole granules.
    fn charge_bytes(&self) -> u64;
    /// Orders `stream` behind a pending write elsewhere, and notes it.
    fn lend(&self, stream: &Stream) -> Result<(), Error>;
    /// With its share of the heap, which goes on to what it evicts.
    fn into_raw(self) -> (Arc<HeapInner>, Self::Raw);
    fn evicted(heap: Arc<HeapInner>, raw: Self::Raw) -> Self::Evicted;
    /// As the drop of what `evicted` makes, which is not made.
    fn give_up(heap: Arc<HeapInner>, raw: Self::Raw);
    fn free(evicted: Self::Evicted) -> Result<Freed, Error>;
    fn view<'a>(heap: &'a Arc<HeapInner>, stream: &'a Stream, raw: <Self::Raw as Stored>::View) -> Self::View<'a>;
    fn pending_spans(raw: &Self::Raw, spans: &mut Spans);
    fn writes_passed(raw: &mut Self::Raw);
}

impl<T: ?Sized + DeviceData> Resident for DevBox<T> {}

impl<T: ?Sized + DeviceData> sealed::Sealed for DevBox<T> {
    type View<'a> = View<'a, T>;
    type Evicted = DevBox<T, Evicted>;
    type Raw = RawDevBox<T>;
}

impl<T: ?Sized + DeviceData> Stores for DevBox<T> {
    fn is_of(&self, heap: &Arc<HeapInner>) -> bool {
        Arc::ptr_eq(self.heap(), heap)
    }

    fn charge_bytes(&self) -> u64 {
        self.charge_bytes()
    }

    fn lend(&self, stream: &Stream) -> Result<(), Error> {
        self.lend_to(stream)
    }

    fn into_raw(self) -> (Arc<HeapInner>, RawDevBox<T>) {
        self.into_raw()
    }

    fn evicted(heap: Arc<HeapInner>, raw: RawDevBox<T>) -> DevBox<T, Evicted> {
        raw.into_handle(heap, Evicted::STATE)
    }

    fn give_up(heap: Arc<HeapInner>, raw: RawDevBox<T>) {
        raw.give_up(heap);
    }

    fn free(evicted: DevBox<T, Evicted>) -> Result<Freed, Error> {
        evicted.free()
    }

    fn view<'a>(heap: &'a Arc<HeapInner>, stream: &'a Stream, raw: RawView) -> View<'a, T> {
        View::new(heap, stream, raw.address, raw.elements)
    }

    fn pending_spans(raw: &RawDevBox<T>, spans: &mut Spans) {
        if raw.block.notes.contains(StreamSet::WRITE_PENDING) {
            spans.push(raw.block.span());
        }
    }

    fn writes_passed(raw: &mut RawDevBox<T>) {
        raw.block.notes = raw.block.notes.minus(StreamSet::WRITE_PENDING);
    }
}

/// What a lease keeps of a handle.
#[derive(Debug, Clone, Copy)]
pub struct RawView {
    address: u64,
    elements: usize,
}

impl RawView {
    pub(crate) fn address(&self) -> &u64 {
        &self.address
    }
}

impl<T: ?Sized + DeviceData> Stored for RawDevBox<T> {
    type View = RawView;

    fn charge_bytes(&self, granule_bytes: u64) -> u64 {
        let mask = granule_bytes - 1;
        (self.bytes() + mask) & !mask
    }

    fn view(&self) -> RawView {
        RawView { address: self.block.address, elements: self.elements }
    }

    fn lend(&mut self, stream: StreamSet) -> bool {
        if !self.block.notes.contains(stream) {
            self.block.notes = self.block.notes.union(stream); // the slot's line stays clean otherwise
        }
        self.write_pending()
    }

    fn write_pending(&self) -> bool {
        self.block.notes.contains(StreamSet::WRITE_PENDING)
    }
}

macro_rules! bundle {
    ($($part:ident $at:tt),*) => {
        #[diagnostic::do_not_recommend]
        impl<$($part: Resident),*> Resident for ($($part,)*) {}

        #[diagnostic::do_not_recommend]
        impl<$($part: Resident),*> sealed::Sealed for ($($part,)*) {
            type View<'a> = ($($part::View<'a>,)*);
            type Evicted = ($($part::Evicted,)*);
            type Raw = ($($part::Raw,)*);
        }

        #[diagnostic::do_not_recommend]
        impl<$($part: Resident),*> Stores for ($($part,)*) {
            fn is_of(&self, heap: &Arc<HeapInner>) -> bool {
                $(self.$at.is_of(heap))&&*
            }

            fn charge_bytes(&self) -> u64 {
                0 $(+ self.$at.charge_bytes())*
            }

            fn lend(&self, stream: &Stream) -> Result<(), Error> {
                $(self.$at.lend(stream)?;)*
                Ok(())
            }

            fn into_raw(self) -> (Arc<HeapInner>, Self::Raw) {
                let parts = ($(self.$at.into_raw(),)*);
                let raw = ($(parts.$at.1,)*);
                (parts.0.0, raw)
            }

            fn evicted(heap: Arc<HeapInner>, raw: Self::Raw) -> Self::Evicted {
                ($($part::evicted(heap.clone(), raw.$at),)*)
            }

            fn give_up(heap: Arc<HeapInner>, raw: Self::Raw) {
                $($part::give_up(heap.clone(), raw.$at);)*
            }

            fn free(evicted: Self::Evicted) -> Result<Freed, Error> {
                // Every part is freed, whatever becomes of the others.
                let parts = [$($part::free(evicted.$at)),*];
                parts.into_iter().try_fold(Freed::Now { bytes: 0 }, |sum, part| Ok(sum.and(part?)))
            }

            fn view<'a>(
                heap: &'a Arc<HeapInner>,
                stream: &'a Stream,
                raw: <Self::Raw as Stored>::View,
            ) -> Self::View<'a> {
                ($($part::view(heap, stream, raw.$at),)*)
            }

            fn pending_spans(raw: &Self::Raw, spans: &mut Spans) {
                $($part::pending_spans(&raw.$at, spans);)*
            }

            fn writes_passed(raw: &mut Self::Raw) {
                $($part::writes_passed(&mut raw.$at);)*
            }
        }

        #[diagnostic::do_not_recommend]
        impl<$($part: Stored),*> Stored for ($($part,)*) {
            type View = ($($part::View,)*);

            fn charge_bytes(&self, granule_bytes: u64) -> u64 {
                0 $(+ self.$at.charge_bytes(granule_bytes))*
            }

            fn view(&self) -> Self::View {
                ($(self.$at.view(),)*)
            }

            fn lend(&mut self, stream: StreamSet) -> bool {
                // Each part is noted, whatever the others say.
                [$(self.$at.lend(stream)),*].contains(&true)
            }

            fn write_pending(&self) -> bool {
                $(self.$at.write_pending())||*
            }
        }
    };
}
bundle!(A 0, B 1);
bundle!(A 0, B 1, C 2);
bundle!(A 0, B 1, C 2, D 3);
