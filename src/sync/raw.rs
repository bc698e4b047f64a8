//! `Brief` as the crate `lock_api` wants a lock, which makes a mutex and its guard of it. Not in loom builds.
#![expect(unsafe_code, reason = "promises that one holder at a time gets in")]

use crate::sync::brief::Brief;
use crate::sync::{GuardNoSend, RawMutex};

// SAFETY: `held` goes from false to true in one exchange, so of those who find it false one gets in, and it becomes
// false only in `release`, which the holder calls. The exchange acquires what that store released.
unsafe impl RawMutex for Brief {
    const INIT: Brief = Brief::new();

    type GuardMarker = GuardNoSend;

    #[inline]
    fn lock(&self) {
        self.acquire();
    }

    #[inline]
    fn try_lock(&self) -> bool {
        self.try_acquire()
    }

    #[inline]
    unsafe fn unlock(&self) {
        self.release();
    }
}
