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

#[cfg(all(test, not(hapax_loom)))]
mod tests {
    use super::*;
    use crate::cache::count::Counts;
    use crate::sync::AtomicU32;

    /// With leases, and the flags of a relaxed index beside.
    fn count(leases: u32, flags: u32) -> Count {
        let released = leases.wrapping_mul(ONE).wrapping_neg() | LOCK_FREE | flags;
        Count { taken: AtomicU32::new(0), released: AtomicU32::new(released) }
    }

    fn flags(count: &Count) -> u32 {
        count.released.load(Ordering::Relaxed) & FLAGS & !LOCK_FREE
    }

    fn release_all(count: &Count, leases: u32) {
        (0..leases).for_each(|_| _ = count.release());
        assert!(!count.is_leased());
    }

    #[test]
    fn a_count_begins_closed_and_unleased() {
        let counts = Counts::lock_free();
        counts.grow(0);
        assert!(counts.at(0).is_lock_free() && !counts.at(0).is_open() && !counts.at(0).is_leased());
    }

    #[test]
    fn who_leases_what_is_open_is_told_whether_it_is_marked() {
        let count = count(0, CLOSED | USED);
        count.open();
        assert!(count.is_open() && flags(&count) == 0);
        assert_eq!((count.pin(), count.pin(), flags(&count)), (Pin::Unmarked, Pin::Unmarked, 0));
        count.mark_used();
        assert_eq!((count.pin(), flags(&count)), (Pin::Open, USED));
        assert!(count.take_used() && !count.take_used());
        assert_eq!(count.pin(), Pin::Unmarked);
        release_all(&count, 4);
        assert!(count.is_open());
    }

    /// Used before or not: the mark has a way of its own through `pin`.
    #[test]
    fn what_is_closed_or_passed_is_not_leased_and_not_marked() {
        for refused in [CLOSED, PASSED, CLOSED | PASSED, CLOSED | RETIRED] {
            for used in [0, USED] {
                let count = count(1, refused | used);
                assert_eq!((count.pin(), flags(&count)), (Pin::Closed, refused | used));
                assert_eq!(count.is_open(), refused & CLOSED == 0);
                assert!(count.is_leased(), "the lease is owed back");
                release_all(&count, 2);
            }
        }
    }

    #[test]
    fn only_what_is_unleased_can_be_closed_and_closing_twice_changes_nothing() {
        let count = count(0, USED);
        assert!(count.close() && flags(&count) == USED | CLOSED);
        assert!(count.close() && flags(&count) == USED | CLOSED);
        count.reopen();
        assert!(count.is_open() && flags(&count) == USED);
        assert_eq!((count.pin(), count.close(), flags(&count)), (Pin::Open, false, USED));
        release_all(&count, 1);
        count.shut();
        assert!(!count.is_open() && flags(&count) == USED | CLOSED);
    }

    #[test]
    fn an_eviction_flags_what_is_leased_and_closes_what_is_not() {
        for (flag, then) in [(PASSED, PASSED), (RETIRED, RETIRED | CLOSED)] {
            let (leased, unleased) = (count(1, 0), count(0, 0));
            for _ in 0..2 {
                assert!(leased.flag_if_leased(flag) && flags(&leased) == then);
                assert!(!unleased.flag_if_leased(flag) && flags(&unleased) == CLOSED);
            }
            assert!(leased.release(), "the index must hear of it");
        }
    }

    #[test]
    fn each_stream_is_noted_and_notes_are_taken_once() {
        let count = count(0, 0);
        let streams = [1, 1 << 4, 1, (1 << 4) | 2].map(StreamSet::from_bits);
        streams.into_iter().for_each(|stream| count.note(stream));
        count.note(StreamSet::EMPTY);
        assert!(!count.is_leased());
        assert_eq!(count.take_notes(), StreamSet::from_bits(0b1_0011));
        assert_eq!(count.take_notes(), StreamSet::EMPTY);
    }

    #[test]
    fn in_exact_mode_closing_is_looking() {
        let counts = Counts::new();
        counts.grow(0);
        let count = counts.at(0);
        assert!(!count.is_lock_free() && !count.is_open() && count.close());
        count.take();
        assert!(!count.close());
        count.release();
        count.shut();
        assert!(count.close() && count.released.load(Ordering::Relaxed) == ONE, "no flag is set");
    }

    #[test]
    fn as_many_leases_as_can_be_counted_are_given_and_no_more() {
        for (used, open) in [(0, Pin::Unmarked), (USED, Pin::Open)] {
            let below = [0, 1, 100_000, MOST - 1];
            assert!(below.into_iter().all(|leases| count(leases, used).pin() == open));
            for leases in [MOST, MOST + 1, MOST + 100] {
                let count = count(leases, used);
                let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| count.pin()));
                assert!(refused.is_err(), "{leases} leases");
                assert_eq!(count.released.load(Ordering::Relaxed), self::count(leases, used).released.into_inner());
            }
        }
    }
}
