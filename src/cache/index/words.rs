//! The index around 64-bit words instead of handles, to measure what an entry takes beside its value.

use crate::cache::index::Index;
use crate::cache::policy::Policy;
use crate::cache::slot::Stored;
use crate::device::stream::StreamSet;

/// The very index of a [`Cache`](crate::Cache), with words of one byte's charge each for values. For measurements, and no
/// part of the stable interface: a handle takes 24 bytes of its slot, a word 8, so only with words can the index be
/// compared with caches of small values.
///
/// ```
/// use hapax::{Policy, WordIndex};
///
/// let index = WordIndex::new(Policy::Lru, 2);
/// (0..3).for_each(|key| assert!(index.insert(key, 7, 0)));
/// assert_eq!(index.len(), 2);
/// ```
#[doc(hidden)]
pub struct WordIndex(Index<u128, Word>);

struct Word(u64);

impl Stored for Word {
    type View = u64;

    fn charge_bytes(&self, _granule_bytes: u64) -> u64 {
        1
    }

    fn view(&self) -> u64 {
        self.0
    }

    fn lend(&mut self, _stream: StreamSet) -> bool {
        false
    }
}

impl WordIndex {
    /// With room for so many.
    pub fn new(policy: Policy, entries: u64) -> Self {
        WordIndex(Index::new(policy.into(), entries, usize::MAX, 1))
    }

    /// Whether it went in; what left for it is gone.
    pub fn insert(&self, key: u128, word: u64, cost_ns: u64) -> bool {
        self.0.insert(key, 1, cost_ns, || Word(word)).is_ok()
    }

    /// Entries in it.
    pub fn len(&self) -> usize {
        self.0.figures().resident.entries
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
