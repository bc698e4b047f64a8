//! Handles that must be spent: forgetting to free one, or to hand it on, does not compile.
//!
//! A [`DevBox`] is affine: it cannot be used twice, but it can be dropped, which frees it, or forgotten, which leaks
//! it. In here a handle lives in a [`scope`]. The scope's closure has to return the handle's [`Spent`], which only
//! the handle's end of life gives out: [`free`](Linear::free), [`insert`](Linear::insert), [`commit`](Linear::commit),
//! or, for all to see, [`into_affine`](Linear::into_affine). A path that returns without it is a type error, under
//! `cargo check` as in an editor.
//!
//! ```
//! use hapax::{Error, Heap, HeapOptions, HostDevice, VramCache, linear};
//!
//! fn compile_into(cache: &VramCache<u64, [u8]>, key: u64, code: &[u8]) -> Result<(), Error> {
//!     linear::scope(cache.heap().alloc_slice(code.len())?, |room| {
//!         let compiled = match room.upload_from(code) {
//!             Ok(compiled) => compiled,
//!             Err(refused) => return refused.free(), // without it: a type error
//!         };
//!         match compiled.insert(cache, key, |_, evicted| evicted.free().0) {
//!             Ok(spent) => (spent, Ok(())),
//!             Err(refused) => refused.free(),
//!         }
//!     })
//! }
//!
//! let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
//! let cache = VramCache::new(&heap, 512)?;
//! for key in 0..3 {
//!     compile_into(&cache, key, &[0x90; 200])?; // the third evicts the first, which is freed
//! }
//! assert_eq!(heap.ledger().live_bytes, 512);
//! # Ok::<(), Error>(())
//! ```
//!
//! # Three grades
//!
//! | grade | how | a handle that a path does not consume |
//! |---|---|---|
//! | affine | [`DevBox`], always | is freed by its drop; `#[must_use]` warns of results that are ignored at once |
//! | linear scopes | this module | is a type error, under `cargo check` |
//! | whole-program gate | `--cfg hapax_strict_linear` | is a build error (E0080) wherever the program has a drop of a [`DevBox`] or a [`Module`], unwinding aside |
//!
//! What each does not catch:
//!
//! - *affine*: drops anywhere, and whatever forgets: `mem::forget`, `ManuallyDrop`, leaked boxes, cycles of `Rc`. The heap
//!   reports at its end what was forgotten, with the line that allocated it.
//! - *linear scopes*: a scope that does not return. After a panic the handle is freed by its drop, or stays allocated if it
//!   was forgotten before, whoever catches the panic; an endless loop and `process::exit` spend nothing either. So a proof in an
//!   `Option`, unwrapped at the end, is asked for when the program runs and not before. And what happens between scopes: a
//!   handle that enters none, a cache, or a handle from [`into_affine`](Linear::into_affine), is affine, and
//!   [`Evictions`](crate::Evictions) that are dropped instead of spent free their entries, unseen.
//! - *whole-program gate*: what leaks without a drop: `mem::forget`, `ManuallyDrop`, `MaybeUninit`, unions, an
//!   [`Exported`](crate::Exported) that nobody reclaims, a slice handed to cudarc, a handle alive at `process::exit`, at `abort`,
//!   at a panic or in a loop without end. Dropped `Evictions` and caches, which free their entries. Code that the program
//!   does not use; `cargo check`, which instantiates nothing.
//!
//! None sees what `unsafe` code does with a handle, or with a proof that it makes up.
//!
//! The gate asks whether the program *has* a drop of a handle, not whether it comes to it. So it also refuses programs that leak
//! nothing, for what a container would do with a handle that were still in it: a `Vec` whose handles are all taken out and
//! freed, an `Option` that is emptied by `take`, a `Box` (so leaked ones are refused, too), a `Box<dyn Any>`, an `Rc` (so cycles
//! are), a channel, the closure of a thread, a `Mutex` or `OnceLock` in a static, though it is never dropped. Such containers
//! are not for programs that are checked with it.
//!
//! What a scope promises is this: each scope that returns has spent its handle, and each handle that
//! [`Evictions::spend_each`](crate::Evictions::spend_each) or [`insert`](Linear::insert) evicts is spent by the callback that gets it.
//!
//! # The whole-program gate
//! ```toml
//! [profile.linear]    # in the program's Cargo.toml
//! inherits = "dev"
//! panic = "abort"
//! ```
//! ```text
//! RUSTFLAGS='--cfg hapax_strict_linear' cargo build --profile linear
//! ```
//! It needs panics that abort, since unwinding drops what it meets; a build without them is refused. The compiler names
//! the type of the handle that is dropped, and often not the line: look for `?` and early returns while a handle is
//! held, for results of by-value calls passed to `?`, for `if let` and `let else` on a result that may hold one, and for a
//! `match` with an arm that leaves a result whole, by binding it to one name, by `Ok(_)` or by `Err(_)`: the compiler does not
//! know it to be empty-handed. `Err(_refused)` tells it. To hear of `mem::forget`, list it in clippy's
//! `disallowed-methods`. It is a check: the program that runs is built without it.
//!
//! # How it works
//! Every scope has a lifetime of its own, its *brand*, which the handle and its `Spent` carry. The closure must accept
//! any brand (a rank-2 type, as in Launchbury and Peyton Jones, *Lazy Functional State Threads*, 1994), so neither value
//! can leave its scope or stand in for another's. At run time nothing of it is left.

mod cache;
mod transfer;

pub use crate::linear::transfer::LandedIn;

use crate::error::{Error, Returned};
use crate::handle::DevBox;
use crate::handle::module::Module;
use crate::handle::state::{Evicted, Ready, State, Uninit};
use crate::heap::block::Freed;
use crate::heap::data::DeviceData;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

/// Invariant, so that no brand can pass for another.
type Brand<'id> = PhantomData<fn(&'id ()) -> &'id ()>;

/// A handle that its scope must spend. It lends what `H` lends by reference; what consumes it is below.
#[must_use = "the scope must return the `Spent` of this handle: free it, cache it, or make it affine"]
pub struct Linear<'id, H: Handle> {
    handle: H,
    brand: Brand<'id>,
}

/// Proof that the handle of the scope `'id` was consumed. Only consuming it makes one.
///
/// ```compile_fail,E0603
/// let forged = hapax::linear::Spent(std::marker::PhantomData);
/// ```
#[must_use = "the scope must return it"]
pub struct Spent<'id>(Brand<'id>);

/// What a scope can hold: a [`DevBox`] in any state, a [`Module`], or a tuple of them that live and die together. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handle that a linear scope can hold",
    note = "a scope holds `DevBox<T, S>`, `Module`, and tuples of two to four handles; the trait is sealed"
)]
pub trait Handle: sealed::Sealed {}

/// A [`Handle`] whose memory can be given up now: one that no copy is under way for.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be freed",
    note = "while a copy is under way, wait for it first"
)]
pub trait Free: Handle + sealed::Free {}

mod sealed {
    use crate::error::Error;
    use crate::heap::block::Freed;

    pub trait Sealed {}

    pub trait Free: Sized {
        fn free(self) -> Result<Freed, Error>;
    }
}

/// Runs `body` with the handle, which it must spend: its `Spent` is half of what it returns. The other half is
/// yours.
///
/// If `body` panics, the handle is dropped like any [`DevBox`], so its memory is freed all the same.
///
/// ```
/// use hapax::{Error, Heap, HeapOptions, HostDevice, linear};
///
/// let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
/// let freed = linear::scope(heap.alloc_slice::<u8>(16)?, |handle| handle.free())?;
/// assert_eq!(freed.bytes(), 256); // one granule
/// # Ok::<(), Error>(())
/// ```
pub fn scope<H: Handle, R>(handle: H, body: impl for<'id> FnOnce(Linear<'id, H>) -> (Spent<'id>, R)) -> R {
    let (Spent(_), result) = body(Linear::new(handle));
    result
}

impl<'id, H: Handle> Linear<'id, H> {
    fn new(handle: H) -> Self {
        Linear { handle, brand: PhantomData }
    }

    /// The affine handle, for code that knows no scopes. From here on a drop frees it and `mem::forget` leaks it,
    /// and no compiler says so: search for this name to find every such place.
    pub fn into_affine(self) -> (Spent<'id>, H) {
        (Spent::new(), self.handle)
    }
}

impl<'id, H: Free> Linear<'id, H> {
    /// Gives the memory up: at once if no stream may still use it, else as soon as those streams have passed. Never
    /// waits and makes no driver call.
    ///
    /// # Errors
    /// [`Error::DeviceLost`]: the memory went with the device. The handle is spent all the same, since it can never be
    /// freed.
    pub fn free(self) -> (Spent<'id>, Result<Freed, Error>) {
        (Spent::new(), self.handle.free())
    }
}

impl<'id, H: Free> Returned<Linear<'id, H>> {
    /// Ends a scope after a refused call: frees the handle and passes the reason on.
    pub fn free<R>(self) -> (Spent<'id>, Result<R, Error>) {
        let Returned { handle, error } = self;
        let (spent, _) = handle.free(); // the refusal is the news, not the loss of a device that follows it
        (spent, Err(*error))
    }
}

impl Spent<'_> {
    fn new() -> Self {
        Spent(PhantomData)
    }
}

/// What `H` does by reference: its sizes, blocking downloads, shared views.
impl<H: Handle> Deref for Linear<'_, H> {
    type Target = H;

    fn deref(&self) -> &H {
        &self.handle
    }
}

impl<H: Handle + fmt::Debug> fmt::Debug for Linear<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Linear").field(&self.handle).finish()
    }
}

impl fmt::Debug for Spent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spent")
    }
}

impl<T: ?Sized + DeviceData, S: State> Handle for DevBox<T, S> {}
impl<T: ?Sized + DeviceData, S: State> sealed::Sealed for DevBox<T, S> {}

macro_rules! free_in {
    ($($state:ty),*) => {$(
        impl<T: ?Sized + DeviceData> Free for DevBox<T, $state> {}

        impl<T: ?Sized + DeviceData> sealed::Free for DevBox<T, $state> {
            fn free(self) -> Result<Freed, Error> {
                DevBox::<T, $state>::free(self)
            }
        }
    )*};
    (modules in $($state:ty),*) => {$(
        impl Handle for Module<$state> {}
        impl sealed::Sealed for Module<$state> {}
        impl Free for Module<$state> {}

        impl sealed::Free for Module<$state> {
            fn free(self) -> Result<Freed, Error> {
                Module::<$state>::free(self)
            }
        }
    )*};
}
free_in!(Uninit, Ready, Evicted);
free_in!(modules in Ready, Evicted);

macro_rules! bundle {
    ($($part:ident $at:tt),*) => {
        #[diagnostic::do_not_recommend]
        impl<$($part: Handle),*> Handle for ($($part,)*) {}

        #[diagnostic::do_not_recommend]
        impl<$($part: Handle),*> sealed::Sealed for ($($part,)*) {}

        #[diagnostic::do_not_recommend]
        impl<$($part: Free),*> Free for ($($part,)*) {}

        #[diagnostic::do_not_recommend]
        impl<$($part: Free),*> sealed::Free for ($($part,)*) {
            fn free(self) -> Result<Freed, Error> {
                // Every part is freed, whatever becomes of the others.
                let parts = [$(self.$at.free()),*];
                parts.into_iter().try_fold(Freed::Now { bytes: 0 }, |sum, part| Ok(sum.and(part?)))
            }
        }
    };
}
bundle!(A 0, B 1);
bundle!(A 0, B 1, C 2);
bundle!(A 0, B 1, C 2, D 3);
