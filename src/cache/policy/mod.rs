//! The order in which entries are evicted. A policy knows slots; it knows no keys, no handles and no
//! leases.

pub(crate) mod lru;

/// An order over slots.
///
/// The index guarantees: a slot is admitted once before anything else is said of it; after `detach` only
/// `rank`, `readmit` and nothing else is called for it until it is readmitted or gone for good; after
/// `remove`, or the eviction of a detached slot, it is unknown again.
///
/// A policy guarantees: `first` is the next victim among the attached, and detached slots keep their
/// place: evicting always the least of all ranks, attached or detached, is the policy's own order.
pub(crate) trait Policy: Default {
    /// A place in the order; the least is evicted first. Unique among the detached.
    type Rank: Ord + Copy;

    /// A new entry, which counts as its first use.
    fn admit(&mut self, slot: u32);

    /// An attached entry was used again.
    fn touch(&mut self, slot: u32);

    /// An attached entry leaves.
    fn remove(&mut self, slot: u32);

    /// The next victim among the attached, and its rank.
    fn first(&self) -> Option<(Self::Rank, u32)>;

    /// An attached entry leaves the queue but keeps its rank, which is remembered in its links.
    fn detach(&mut self, slot: u32) -> Self::Rank;

    /// The rank of a detached entry.
    fn rank(&self, slot: u32) -> Self::Rank;

    /// A detached entry was used again: attached, as after `touch`.
    fn readmit(&mut self, slot: u32);

    /// The attached, next victim first, with their ranks.
    fn attached(&self) -> impl Iterator<Item = (Self::Rank, u32)> + '_;
}
