//! Relaxed mode: hits that do not take the lock. Joins what can be read without it: the table, the slots, the counts.
//!
//! The core under its lock stays the one authority. A lookup without the lock can only fail to find what is there; then it
//! asks the core. What it finds is resident at the moment at which its lease is counted.
#![expect(unsafe_code, reason = "reads an entry that it has leased, without the lock")]

pub(crate) mod pin;
pub(crate) mod published;
pub(crate) mod table;
mod tally;
pub(crate) mod words;

use crate::cache::count::{Count, Counts};
use crate::cache::front::table::Table;
use crate::cache::front::tally::Tally;
use crate::cache::front::words::Words;
use crate::cache::index::{Hit, Index};
use crate::cache::planted::{Bug, planted};
use crate::cache::policy::Order;
use crate::cache::slot::{Pages, Slot, Stored};
use crate::device::stream::StreamSet;
use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;

/// What a relaxed index reads without its lock, beside the counts.
pub(crate) struct Front<K, S> {
    words: Arc<Words>,
    pages: Arc<Pages<K, S>>,
    hits: Tally,
}

/// A lease that a lookup is not sure of yet.
struct Pinned<'a, K: Hash + Eq, S: Stored, P: Order> {
    index: &'a Index<K, S, P>,
    slot: u32,
    count: &'a Count,
}

impl<K, S> Front<K, S> {
    pub(crate) fn new() -> Self {
        Front { words: Arc::new(Words::new()), pages: Arc::default(), hits: Tally::new() }
    }

    /// For the core that it is in front of.
    pub(crate) fn table(&self) -> Table {
        Table::LockFree(self.words.clone())
    }

    pub(crate) fn pages(&self) -> Arc<Pages<K, S>> {
        self.pages.clone()
    }

    /// Hits that the core did not see.
    pub(crate) fn hits(&self) -> u64 {
        self.hits.sum()
    }

    /// A lease, if an open entry of the key is found.
    #[inline(always)]
    pub(crate) fn hit<'a, Q, P: Order>(
        &self,
        index: &'a Index<K, S, P>,
        counts: &'a Counts,
        hash: u32,
        key: &Q,
        stream: StreamSet,
    ) -> Option<Hit<'a, S::View>>
    where
        K: Borrow<Q> + Hash + Eq,
        Q: ?Sized + Eq,
        S: Stored,
    {
        for slot in self.words.slots(hash) {
            let cell = self.pages.cell(slot);
            cell.prefetch();
            let count = counts.at(slot);
            let open = count.pin();
            let pinned = Pinned { index, slot, count }; // gives the lease back, also if `K::eq` panics
            if !open {
                return None; // only the core knows
            }
            let view_of = |held: &Slot<K, S>| {
                let same = held.key().borrow() == key || planted(Bug::KeyUnchecked);
                same.then(|| held.value().view())
            };
            // SAFETY: a word of the table leads to the slot; `pinned` is a lease of it, taken while it was open.
            if let Some(view) = unsafe { cell.read_pinned(view_of) } {
                std::mem::forget(pinned);
                count.note(stream);
                self.hits.add_one();
                return Some(Hit { slot, count, view, write_pending: false });
            }
        }
        None
    }
}

impl<K: Hash + Eq, S: Stored, P: Order> Drop for Pinned<'_, K, S, P> {
    fn drop(&mut self) {
        self.index.release_counted(self.slot, self.count);
    }
}
