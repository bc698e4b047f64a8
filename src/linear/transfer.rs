//! The state changes of a handle inside its scope: each keeps the brand, also when it is refused.
#![expect(unsafe_code, reason = "declares `written_on`, whose caller vouches for a kernel")]

use crate::device::stream::Stream;
use crate::error::{Error, Returned};
use crate::handle::DevBox;
use crate::handle::module::Module;
use crate::handle::state::{Evicted, InFlight, Uninit};
use crate::handle::transfer::Landed;
use crate::handle::view::ViewMut;
use crate::heap::data::DeviceData;
use crate::heap::page_locked::PageLocked;
use crate::linear::{Handle, Linear};

/// A copy is under way for it; it owns the page-locked buffer of the copy.
type Flying<T> = DevBox<T, InFlight<PageLocked<T>>>;

/// What [`Linear::try_wait`] found.
#[must_use = "the handle is in here"]
pub enum LandedIn<'id, T: ?Sized + DeviceData> {
    /// The copy is over; both sides are back.
    Yes(Linear<'id, DevBox<T>>, PageLocked<T>),
    /// The copy is still under way.
    NotYet(Linear<'id, Flying<T>>),
}

impl<'id, T: ?Sized + DeviceData> Linear<'id, DevBox<T, Uninit>> {
    /// As [`DevBox::upload_from`].
    ///
    /// # Errors
    /// As there; the handle comes back.
    pub fn upload_from(self, from: &T) -> Result<Linear<'id, DevBox<T>>, Returned<Self>> {
        branded(self.handle.upload_from(from))
    }

    /// As [`DevBox::upload`].
    ///
    /// # Errors
    /// As there; both come back.
    pub fn upload(
        self,
        from: PageLocked<T>,
        stream: &Stream,
    ) -> Result<Linear<'id, Flying<T>>, Returned<(Self, PageLocked<T>)>> {
        branded_with(self.handle.upload(from, stream))
    }

    /// As [`DevBox::zero`].
    ///
    /// # Errors
    /// As there; the handle comes back.
    pub fn zero(self, stream: &Stream) -> Result<Linear<'id, DevBox<T>>, Returned<Self>> {
        branded(self.handle.zero(stream))
    }

    /// As [`DevBox::written_on`].
    ///
    /// # Safety
    /// As there: the work stands on `stream`, or is over; when it has run, all bytes are initialised.
    ///
    /// # Errors
    /// As there; the handle comes back.
    pub unsafe fn written_on(self, stream: &Stream) -> Result<Linear<'id, DevBox<T>>, Returned<Self>> {
        // SAFETY: the caller vouches for the same.
        branded(unsafe { self.handle.written_on(stream) })
    }
}

impl<'id, T: ?Sized + DeviceData> Linear<'id, Flying<T>> {
    /// As [`DevBox::wait`].
    ///
    /// # Errors
    /// As there; the handle comes back, still in flight.
    pub fn wait(self) -> Result<(Linear<'id, DevBox<T>>, PageLocked<T>), Returned<Self>> {
        match self.handle.wait() {
            Ok((handle, operands)) => Ok((Linear::new(handle), operands)),
            Err(refused) => Err(refused.map(Linear::new)),
        }
    }

    /// As [`DevBox::try_wait`].
    ///
    /// # Errors
    /// As there; the handle comes back, still in flight.
    pub fn try_wait(self) -> Result<LandedIn<'id, T>, Returned<Self>> {
        match self.handle.try_wait() {
            Ok(Landed::Yes(handle, operands)) => Ok(LandedIn::Yes(Linear::new(handle), operands)),
            Ok(Landed::NotYet(flying)) => Ok(LandedIn::NotYet(Linear::new(flying))),
            Err(refused) => Err(refused.map(Linear::new)),
        }
    }

    /// As [`DevBox::ready_on`].
    ///
    /// # Errors
    /// As there; the handle comes back, still in flight.
    pub fn ready_on(self, stream: &Stream) -> Result<Linear<'id, DevBox<T>>, Returned<Self>> {
        branded(self.handle.ready_on(stream))
    }
}

impl<'id, T: ?Sized + DeviceData> Linear<'id, DevBox<T>> {
    /// As [`DevBox::download`].
    ///
    /// # Errors
    /// As there; both come back.
    pub fn download(
        self,
        to: PageLocked<T>,
        stream: &Stream,
    ) -> Result<Linear<'id, Flying<T>>, Returned<(Self, PageLocked<T>)>> {
        branded_with(self.handle.download(to, stream))
    }

    /// As [`DevBox::on_mut`].
    ///
    /// # Errors
    /// As there.
    pub fn on_mut<'a>(&'a mut self, stream: &'a Stream) -> Result<ViewMut<'a, T>, Error> {
        self.handle.on_mut(stream)
    }
}

impl<'id> Linear<'id, Module<Evicted>> {
    /// As [`Module::revive`].
    ///
    /// # Errors
    /// As there; the module comes back.
    pub fn revive(self, stream: &Stream) -> Result<Linear<'id, Module>, Returned<Self>> {
        branded(self.handle.revive(stream))
    }
}

impl<'id, T: ?Sized + DeviceData> Linear<'id, DevBox<T, Evicted>> {
    /// As [`DevBox::revive`].
    ///
    /// # Errors
    /// As there; the handle comes back.
    pub fn revive(self, stream: &Stream) -> Result<Linear<'id, DevBox<T>>, Returned<Self>> {
        branded(self.handle.revive(stream))
    }
}

fn branded<'id, A: Handle, B: Handle>(
    done: Result<A, Returned<B>>,
) -> Result<Linear<'id, A>, Returned<Linear<'id, B>>> {
    match done {
        Ok(handle) => Ok(Linear::new(handle)),
        Err(refused) => Err(refused.map(Linear::new)),
    }
}

fn branded_with<'id, A: Handle, B: Handle, O>(
    done: Result<A, Returned<(B, O)>>,
) -> Result<Linear<'id, A>, Returned<(Linear<'id, B>, O)>> {
    match done {
        Ok(handle) => Ok(Linear::new(handle)),
        Err(refused) => Err(refused.map(|(handle, operands)| (Linear::new(handle), operands))),
    }
}
