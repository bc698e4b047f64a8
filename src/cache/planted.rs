//! Concurrency bugs that the loom models must catch, planted in the real source. In every build but a
//! loom build `planted` is the constant `false`, and the branches are gone.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Bug {
    /// A hit raises the lease count after it has let go of the lock.
    LeaseOutsideLock = 1,
    /// An eviction does not look at lease counts.
    IgnoredLease,
    /// A release is not ordered before the eviction that sees it.
    RelaxedRelease,
    /// A retired entry is queued for collection by each of two late releases.
    DoubleReturn,
    /// A closed vacancy wakes nobody.
    LostWakeUp,
    /// The last release of a passed entry trusts its slot number after the entry may have changed.
    SlotReused,
    /// The lock is let go between making room and using it.
    BudgetRace,
    /// A closing vacancy takes the wait graph's lock before the index's.
    LockOrder,
    /// A lease is shared by a thread that may see a release but not the lease that it ended.
    RelaxedShare,
    /// The wait graph is let go between the look for a cycle and the entry.
    WaitRace,
    /// An eviction finds an entry unleased and closes it in a second step.
    ClosedInTwoSteps,
    /// A lookup without the lock believes what it leased without looking whether that was open.
    PinOfClosed,
    /// A lookup without the lock does not compare the key of what it leased.
    KeyUnchecked,
    /// What is written into a slot is not ordered before the step that opens it.
    RelaxedOpen,
    /// A lease taken without the lock is not ordered before what it reads.
    RelaxedPin,
    /// What is in a larger table is not ordered before the step that makes it the current one.
    RelaxedGrowth,
    /// What a refused call closed is opened before it is flagged as passed.
    OpenedBeforePassed,
    /// A lookup without the lock gives a lease back and does not tell who waits for its end.
    UntoldRelease,
}

#[cfg(not(hapax_loom))]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}

#[cfg(hapax_loom)]
pub(crate) use on::planted;

#[cfg(hapax_loom)]
pub(crate) mod on {
    use super::Bug;
    use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

    /// std's atomic on purpose: it must add no step to a model.
    static PLANTED: AtomicU8 = AtomicU8::new(0);

    pub(crate) fn planted(bug: Bug) -> bool {
        PLANTED.load(Relaxed) == bug as u8
    }

    #[cfg(test)]
    pub(crate) fn plant(bug: Option<Bug>) {
        PLANTED.store(bug.map_or(0, |bug| bug as u8), Relaxed);
    }
}
