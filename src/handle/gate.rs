//! The whole-program gate: built with `--cfg hapax_strict_linear`, a program in which any path drops a handle does
//! not link. Knows nothing of what a handle holds.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;

#[cfg(all(hapax_strict_linear, not(panic = "abort")))]
compile_error!(
    "hapax_strict_linear needs panic = \"abort\": an unwinding program drops handles on its way, which the gate would \
     report; build with: cargo --config 'profile.dev.panic=\"abort\"' build"
);

/// A part of each handle, without size. Dropping it, and so the handle, is an error in strict builds, once the drop is
/// instantiated for the handle's own type.
pub(crate) struct Gate<T: ?Sized, S>(PhantomData<fn() -> (PhantomData<T>, PhantomData<S>)>);

impl<T: ?Sized, S> Gate<T, S> {
    pub(crate) const fn new() -> Self {
        Gate(PhantomData)
    }

    /// The handle is taken apart: its parts go on without it.
    pub(crate) fn open(self) {
        let _ = ManuallyDrop::new(self);
    }
}

#[cfg(hapax_strict_linear)]
impl<T: ?Sized, S> Drop for Gate<T, S> {
    fn drop(&mut self) {
        const { panic!("a device handle is dropped here: free it, cache it, or export it on every path") };
    }
}

/// A value that a fallible call may have to give back. While the call holds it, no drop of it is instantiated in
/// strict builds, which do not unwind; elsewhere an unwinding call drops it.
pub(crate) struct Held<V> {
    #[cfg(hapax_strict_linear)]
    value: ManuallyDrop<V>,
    #[cfg(not(hapax_strict_linear))]
    value: V,
}

impl<V> Held<V> {
    pub(crate) fn new(value: V) -> Self {
        #[cfg(hapax_strict_linear)]
        let value = ManuallyDrop::new(value);
        Held { value }
    }

    pub(crate) fn into_inner(self) -> V {
        #[cfg(hapax_strict_linear)]
        return ManuallyDrop::into_inner(self.value);
        #[cfg(not(hapax_strict_linear))]
        self.value
    }
}
