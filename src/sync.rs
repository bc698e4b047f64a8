//! The locks, atomics and thread identities that everything above uses. The only file that names
//! parking_lot or loom: under `--cfg hapax_loom` the same source runs inside loom's models.
//!
//! The shape is what both offer: no poisoning (parking_lot), and a condition variable that takes its
//! guard by value (loom). `Arc` is always std's, so that it can appear in public signatures.

// Under loom a model of its own: what it guards is then behind loom's lock.
#[cfg(any(not(hapax_loom), test))]
mod brief;
#[cfg(not(hapax_loom))]
mod raw;

#[cfg(not(hapax_loom))]
mod imp {
    pub(crate) use parking_lot::lock_api::{GuardNoSend, RawMutex};
    pub(crate) use parking_lot::{Mutex, MutexGuard};

    /// For sections of some tens of nanoseconds that many threads enter all the time.
    pub(crate) type BriefMutex<T> = parking_lot::lock_api::Mutex<crate::sync::brief::Brief, T>;
    pub(crate) type BriefGuard<'a, T> = parking_lot::lock_api::MutexGuard<'a, crate::sync::brief::Brief, T>;

    pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
    pub(crate) use std::thread::ThreadId;
    use std::time::Duration;

    /// Tells a model which accesses to follow: each counts as one when its pointer is made.
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) fn new(value: T) -> Self {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }

        #[inline]
        pub(crate) fn reading(&self) -> *const T {
            self.0.get()
        }

        #[inline]
        pub(crate) fn writing(&self) -> *mut T {
            self.0.get()
        }
    }

    pub(crate) fn current_thread() -> ThreadId {
        std::thread::current().id()
    }

    /// While another thread is waited for.
    pub(crate) fn pause() {
        std::hint::spin_loop();
    }

    pub(crate) struct Condvar(parking_lot::Condvar);

    impl Condvar {
        pub(crate) const fn new() -> Self {
            Condvar(parking_lot::Condvar::new())
        }

        pub(crate) fn wait<'a, T>(&self, mut guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            self.0.wait(&mut guard);
            guard
        }

        /// The flag says that the time ran out.
        pub(crate) fn wait_for<'a, T>(
            &self,
            mut guard: MutexGuard<'a, T>,
            time: Duration,
        ) -> (MutexGuard<'a, T>, bool) {
            let out = self.0.wait_for(&mut guard, time);
            (guard, out.timed_out())
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }
    }

    /// A process-wide value behind a lock.
    macro_rules! global {
        ($(#[$doc:meta])* $name:ident: $of:ty = $value:expr) => {
            $(#[$doc])*
            static $name: crate::sync::Mutex<$of> = crate::sync::Mutex::new($value);
        };
    }
    pub(crate) use global;
}

#[cfg(hapax_loom)]
mod imp {
    pub(crate) use loom::sync::MutexGuard;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
    pub(crate) use loom::thread::ThreadId;
    use std::time::Duration;

    pub(crate) struct UnsafeCell<T>(loom::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) fn new(value: T) -> Self {
            UnsafeCell(loom::cell::UnsafeCell::new(value))
        }

        pub(crate) fn reading(&self) -> *const T {
            self.0.with(|value| value)
        }

        pub(crate) fn writing(&self) -> *mut T {
            self.0.with_mut(|value| value)
        }
    }

    pub(crate) fn current_thread() -> ThreadId {
        loom::thread::current().id()
    }

    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    pub(crate) type BriefMutex<T> = Mutex<T>;
    pub(crate) type BriefGuard<'a, T> = MutexGuard<'a, T>;

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            // Poison carries nothing here: no code that can panic runs between two invariants.
            self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }

        pub(crate) fn get_mut(&mut self) -> &mut T {
            self.0.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner())
        }
    }

    // parking_lot's has it, too.
    #[cfg(feature = "persist")]
    impl<T: Default> Default for Mutex<T> {
        fn default() -> Self {
            Mutex::new(T::default())
        }
    }

    #[cfg(test)]
    pub(crate) fn pause() {
        loom::thread::yield_now();
    }

    pub(crate) struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Condvar(loom::sync::Condvar::new())
        }

        pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            self.0.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner())
        }

        /// loom has no time: a timed wait may end at once, and a model that needs a wake-up uses `wait`.
        pub(crate) fn wait_for<'a, T>(&self, guard: MutexGuard<'a, T>, _time: Duration) -> (MutexGuard<'a, T>, bool) {
            (guard, true)
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }

        #[cfg(test)]
        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }
    }

    macro_rules! global {
        ($(#[$doc:meta])* $name:ident: $of:ty = $value:expr) => {
            loom::lazy_static! {
                $(#[$doc])*
                static ref $name: crate::sync::Mutex<$of> = crate::sync::Mutex::new($value);
            }
        };
    }
    pub(crate) use global;
}

pub(crate) use imp::*;
