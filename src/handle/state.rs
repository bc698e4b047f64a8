//! The states of a handle. Each is sealed, has no public constructor, and carries what it needs.

use crate::error::Error;
use crate::heap::HeapInner;
use crate::heap::sweep::{Mark, Operands};
use std::sync::Arc;

/// A state of a [`DevBox`](crate::DevBox). Sealed: the four below are all there are.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a state of a device handle",
    note = "the states are Uninit, Ready, InFlight and Evicted; the trait is sealed"
)]
pub trait State: sealed::Sealed {}

/// Allocated, contents unknown: it can be written and freed, not read.
#[derive(Debug)]
pub struct Uninit(());

/// Contents valid: it can be read, lent to kernels and put into a cache.
#[derive(Debug)]
pub struct Ready(());

/// Given back by a cache: it can be read back, freed or revived.
#[derive(Debug)]
pub struct Evicted(());

/// A copy is under way. It owns the operands `O` of the copy, so that they can be neither touched nor
/// freed before it is over: dropped, the block and the operands are parked together; forgotten, both leak.
pub struct InFlight<O: Send + 'static>(Option<Flight<O>>);

pub(crate) struct Flight<O> {
    heap: Arc<HeapInner>,
    operands: Box<O>,
    pub(crate) mark: Mark,
    /// The copy wrote the block (an upload), as opposed to reading it.
    pub(crate) wrote: bool,
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

impl State for Uninit {}
impl sealed::Sealed for Uninit {}
impl State for Ready {}
impl sealed::Sealed for Ready {}
impl State for Evicted {}
impl sealed::Sealed for Evicted {}
impl<O: Send + 'static> State for InFlight<O> {}
impl<O: Send + 'static> sealed::Sealed for InFlight<O> {}

impl Uninit {
    pub(crate) const STATE: Self = Uninit(());
}

impl Ready {
    pub(crate) const STATE: Self = Ready(());
}

impl Evicted {
    pub(crate) const STATE: Self = Evicted(());
}

impl<O: Send + 'static> InFlight<O> {
    /// The heap must already expect the operands ([`HeapInner::expect_operands`]).
    pub(crate) fn new(heap: &Arc<HeapInner>, operands: Box<O>, mark: Mark, wrote: bool) -> Self {
        InFlight(Some(Flight { heap: heap.clone(), operands, mark, wrote }))
    }

    pub(crate) fn flight(&mut self) -> &mut Flight<O> {
        self.0.as_mut().expect("a flight ends when its handle does")
    }

    /// The work is over: the operands go back to their owner.
    pub(crate) fn land(mut self) -> O {
        let flight = self.0.take().expect("a flight ends when its handle does");
        flight.heap.operands_returned();
        *flight.operands
    }
}

impl<O: Send + 'static> Flight<O> {
    pub(crate) fn wait(&mut self) -> Result<(), Error> {
        self.mark.event()?.wait()
    }

    pub(crate) fn passed(&mut self) -> Result<bool, Error> {
        self.mark.event()?.passed()
    }
}

/// Parks the operands until the work is over.
impl<O: Send + 'static> Drop for InFlight<O> {
    fn drop(&mut self) {
        if let Some(Flight { heap, operands, mark, .. }) = self.0.take() {
            heap.park_operands(Operands { mark, kept: operands });
        }
    }
}
