//! Leases taken without the lock: what a relaxed index does with its counts. Knows slots; no keys, no values, no order.
//!
//! `taken` is not needed there, since both sides add to `released`: a lease is one subtracted from it, as it is for one
//! that is shared. So `taken` holds the streams that leases were lent to.
//!
//! An entry is *open* while lookups may lease it without the lock. A lookup takes its lease first and then looks at the flags
//! that it found in the same atomic step; if the entry was not open, it gives the lease back and has read nothing. Whoever
//! takes an entry out closes it by one atomic step that also finds it unleased. So:
//!
//! **What is open is not changed, and neither is what was open until its last lease has ended.** This is what the
//! unsafe reads in `cache::slot` rest on.

use crate::cache::count::{Count, FLAGS, MOST, ONE, PASSED, RETIRED};
use crate::cache::planted::{Bug, planted};
use crate::device::stream::StreamSet;
use crate::sync::Ordering;

/// No lease may begin without the lock: nothing is there, it is on its way out, or a write to it is pending.
pub(crate) const CLOSED: u32 = 4;
/// Used, and the order has not been told.
pub(crate) const USED: u32 = 8;
/// Set for good in the counts of a relaxed index.
pub(crate) const LOCK_FREE: u32 = 16;

/// As many leases are told from none by the topmost bit.
const _: () = assert!(MOST.wrapping_mul(ONE) == 1 << 31);

/// What a lease taken without the lock found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pin {
    /// Open, and marked as used.
    Open,
    /// Open; who uses it marks it.
    Unmarked,
    /// The lease's holder may look at nothing, and owes it back like any other.
    Closed,
}

impl Count {
    /// One lease more, without the lock.
    #[inline]
    pub(crate) fn pin(&self) -> Pin {
        let order = if planted(Bug::RelaxedPin) { Ordering::Relaxed } else { Ordering::Acquire };
        let before = self.released.fetch_sub(ONE, order);
        if before & (CLOSED | PASSED | USED) == USED && (before & !FLAGS).wrapping_neg() < MOST * ONE {
            return Pin::Open;
        }
        self.pinned_otherwise(before)
    }

    #[cold]
    fn pinned_otherwise(&self, before: u32) -> Pin {
        if leases(before) >= MOST {
            self.released.fetch_add(ONE, Ordering::Relaxed);
            panic!("{MOST} leases of one entry: they are being forgotten");
        }
        let open = before & (CLOSED | PASSED) == 0 || planted(Bug::PinOfClosed);
        if open { Pin::Unmarked } else { Pin::Closed }
    }

    /// Of a leased entry that was open. An eviction that comes by takes the mark, and tells the order.
    #[cold]
    pub(crate) fn mark_used(&self) {
        self.released.fetch_or(USED, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn is_lock_free(&self) -> bool {
        self.released.load(Ordering::Relaxed) & LOCK_FREE != 0
    }

    /// Whether lookups may lease it without the lock, but for an eviction that passed it.
    pub(crate) fn is_open(&self) -> bool {
        self.released.load(Ordering::Relaxed) & (CLOSED | LOCK_FREE) == LOCK_FREE
    }

    /// Lets lookups lease the entry without the lock. Everything that they will read happened before. Under the lock.
    pub(crate) fn open(&self) {
        let order = if planted(Bug::RelaxedOpen) { Ordering::Relaxed } else { Ordering::Release };
        self.released.fetch_and(!(CLOSED | USED), order);
    }

    /// What was open stays after all. Under the lock.
    pub(crate) fn reopen(&self) {
        self.released.fetch_and(!CLOSED, Ordering::Release);
    }

    /// Closes an unleased entry, or finds it leased. In exact mode, where no lease begins without the lock, it is
    /// enough to look. Under the lock.
    #[inline]
    pub(crate) fn close(&self) -> bool {
        if self.is_lock_free() { !self.close_or(0) } else { !self.is_leased() }
    }

    /// Closes an entry that nobody can have leased: an eviction passed it, and its last lease has ended.
    pub(crate) fn shut(&self) {
        if self.is_lock_free() {
            self.released.fetch_or(CLOSED, Ordering::Relaxed);
        }
    }

    /// `true`: it is leased, and flagged so; else it is closed. One step, so that no lease begins in between.
    pub(crate) fn close_or(&self, flag: u32) -> bool {
        let mut before = self.released.load(Ordering::Acquire);
        loop {
            let leased = leases(before) != 0 && !planted(Bug::IgnoredLease);
            let closes = !leased || flag == RETIRED;
            if planted(Bug::ClosedInTwoSteps) && !leased {
                self.shut();
                return false;
            }
            let after = before | if leased { flag } else { 0 } | if closes { CLOSED } else { 0 };
            if after == before {
                return leased; // nothing to be beaten at by those who hit it meanwhile
            }
            match self.released.compare_exchange_weak(before, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return leased,
                Err(now) => before = now,
            }
        }
    }

    /// Whether it was used without the lock since this was last asked. Under the lock.
    pub(crate) fn take_used(&self) -> bool {
        let used = self.released.load(Ordering::Relaxed) & USED != 0;
        if used {
            self.released.fetch_and(!USED, Ordering::Relaxed);
        }
        used
    }

    /// A leased entry is lent to a stream. Its release is after this, so that whoever finds it unleased knows.
    #[inline]
    pub(crate) fn note(&self, stream: StreamSet) {
        if !stream.is_empty() && !StreamSet::from_bits(self.taken.load(Ordering::Relaxed)).contains(stream) {
            self.taken.fetch_or(stream.bits(), Ordering::Relaxed);
        }
    }

    /// The streams that a closed, unleased entry was lent to, for the entry to take along. In relaxed mode.
    pub(crate) fn take_notes(&self) -> StreamSet {
        let notes = StreamSet::from_bits(self.taken.load(Ordering::Relaxed));
        self.taken.store(0, Ordering::Relaxed);
        notes
    }
}

/// Of a count without `taken`.
fn leases(released: u32) -> u32 {
    (released & !FLAGS).wrapping_neg() / ONE
}
