//! Makes each call of a session, and makes it again if it was told to fail. After each attempt the books must add up.

use crate::device::Control;
use hapax::{DevBox, DeviceRef, Error, Evicted, Fault, Heap, InFlight, PageLocked, Ready, Reservation, Returned};
use hapax::{DeviceData, Uninit, Vacancy, VramCache};
use std::cell::RefCell;
use std::sync::Arc;

pub type Cache = VramCache<u32, [u8]>;

/// The device is lost: the session ends here.
#[derive(Debug)]
pub struct Lost;

pub struct Witness {
    device: DeviceRef,
    late: Option<Control>,
    /// What some call of the session is told.
    fault: Option<Fault>,
    heap: RefCell<Option<Heap>>,
    cache: RefCell<Option<Arc<Cache>>>,
}

impl Witness {
    pub fn new(device: DeviceRef, late: Option<Control>, fault: Option<Fault>) -> Self {
        Witness { device, late, fault, heap: RefCell::default(), cache: RefCell::default() }
    }

    /// From here on these books are checked after each attempt.
    pub fn watch(&self, heap: &Heap, cache: Option<&Arc<Cache>>) {
        *self.heap.borrow_mut() = Some(heap.clone());
        *self.cache.borrow_mut() = cache.cloned();
    }

    /// Makes a call that takes nothing.
    pub fn call<T>(&self, mut attempt: impl FnMut() -> Result<T, Error>) -> Result<T, Lost> {
        let first = attempt();
        self.check_books();
        match first {
            Ok(done) => Ok(done),
            Err(error) => {
                self.refused(&error)?;
                Ok(attempt().expect("one call is told to fail, once"))
            }
        }
    }

    /// Makes a call that takes `given` and returns it when it fails.
    pub fn take<G: Given, T>(&self, given: G, attempt: impl Fn(G) -> Result<T, Returned<G>>) -> Result<T, Lost> {
        let first = attempt(given);
        self.check_books();
        match first {
            Ok(done) => Ok(done),
            Err(Returned { handle, error }) => match self.refused(&error) {
                Ok(()) => Ok(attempt(handle).map_err(|again| again.error).expect("one call is told to fail, once")),
                Err(Lost) => {
                    handle.give_up();
                    self.check_books();
                    Err(Lost)
                }
            },
        }
    }

    /// Lets all work of a late device pass.
    pub fn run_all(&self) {
        if let Some(late) = &self.late {
            late.run_all();
        }
    }

    pub fn check_books(&self) {
        if let Some(heap) = &*self.heap.borrow() {
            heap.validate();
            let ledger = heap.ledger();
            assert_eq!(ledger.live_bytes + ledger.freeing_bytes + ledger.free_bytes, ledger.limit_bytes);
        }
        if let Some(cache) = &*self.cache.borrow() {
            cache.validate();
        }
    }

    fn refused(&self, error: &Error) -> Result<(), Lost> {
        match (error, self.fault) {
            (Error::DeviceLost, Some(Fault::Lost)) => {
                // It is remembered: nothing new is begun, and the device is not asked again.
                assert!(self.device.is_lost());
                assert_eq!(self.device.new_stream().err(), Some(Error::DeviceLost));
                if let Some(heap) = &*self.heap.borrow() {
                    assert_eq!(heap.alloc_slice::<u8>(1).err(), Some(Error::DeviceLost));
                }
                Err(Lost)
            }
            (Error::Device { code: -1, .. }, Some(Fault::Failed | Fault::OutOfMemory)) => Ok(()),
            _ => panic!("{error:?}, but the fault was {:?}", self.fault),
        }
    }
}

/// What a by-value call takes, and what becomes of it on a lost device.
pub trait Given {
    fn give_up(self);
}

macro_rules! handles_in {
    ($($state:ty),*) => {$(
        impl<T: ?Sized + DeviceData> Given for DevBox<T, $state> {
            fn give_up(self) {
                assert_eq!(self.free(), Err(Error::DeviceLost));
            }
        }
    )*};
}
handles_in!(Uninit, Ready, Evicted);

macro_rules! dropped {
    ($([$($generics:tt)*] $given:ty),*) => {$(
        impl<$($generics)*> Given for $given {
            fn give_up(self) {}
        }
    )*};
}
dropped!(
    [] Heap,
    [T: ?Sized + DeviceData] PageLocked<T>,
    [T: ?Sized + DeviceData] DevBox<T, InFlight<PageLocked<T>>>,
    ['c] Vacancy<'c, u32, DevBox<[u8]>>,
    ['c] Reservation<'c, u32, DevBox<[u8]>>
);

impl<A: Given, B: Given> Given for (A, B) {
    fn give_up(self) {
        self.0.give_up();
        self.1.give_up();
    }
}
