//! Relaxed mode: hits that do not take the lock. Joins what can be read without it: the table, the slots, the counts.
//!
//! The core under its lock stays the one authority. A lookup without the lock can only fail to find what is there; then it
//! asks the core. What it finds is resident at the moment at which its lease is counted.
#![expect(unsafe_code, reason = "reads an entry that it has leased, without the lock")]

pub(crate) mod pin;
pub(crate) mod table;
mod tally;
pub(crate) mod words;

use crate::cache::count::{Count, CountPage, Counts};
use crate::cache::front::pin::Pin;
use crate::cache::front::table::Table;
use crate::cache::front::tally::Tally;
use crate::cache::front::words::Words;
use crate::cache::index::{Hit, Index};
use crate::cache::paged::{PAGE, Paged};
use crate::cache::planted::{Bug, planted};
use crate::cache::policy::Order;
use crate::cache::slot::{Chunk, Slot, Slots, Stored};
use crate::device::stream::StreamSet;
use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;

/// What a relaxed index reads without its lock.
pub(crate) struct Front<K, S> {
    words: Arc<Words>,
    pages: Arc<Paged<Page<K, S>>>,
    hits: Tally,
}

/// Slots and their counts.
pub(crate) struct Page<K, S> {
    chunk: Arc<Chunk<K, S>>,
    counts: CountPage,
}

/// A lease that a lookup is not sure of yet.
struct Pinned<'a, K: Hash + Eq, S: Stored, P: Order> {
    index: &'a Index<K, S, P>,
    slot: u32,
    count: &'a Count,
}

impl<K, S> Front<K, S> {
    pub(crate) fn new() -> Self {
        Front { words: Arc::new(Words::new()), pages: Arc::new(Paged::new()), hits: Tally::new() }
    }

    /// For the core that it is in front of.
    pub(crate) fn table(&self) -> Table {
        Table::LockFree(self.words.clone())
    }

    pub(crate) fn pages(&self) -> Arc<Paged<Page<K, S>>> {
        self.pages.clone()
    }

    /// A slot was made; before a key leads to it, its page is shown. Under the lock.
    #[inline]
    pub(crate) fn show(pages: &Paged<Page<K, S>>, slot: u32, counts: &Counts, slots: &Slots<K, S>) {
        if pages.page(slot as usize / PAGE).is_none() {
            pages.add(slot as usize / PAGE, Page { chunk: slots.chunk(slot).clone(), counts: counts.page(slot) });
        }
    }

    /// Hits that the core did not see.
    pub(crate) fn hits(&self) -> u64 {
        self.hits.sum()
    }

    /// A lease, if an open entry of the key is found at once. (To say that it is closed, so that `search` need not look again,
    /// costs every hit 0.5 ns.)
    #[inline(always)]
    pub(crate) fn hit<'a, Q, P: Order>(
        &'a self,
        index: &'a Index<K, S, P>,
        hash: u32,
        key: &Q,
        stream: StreamSet,
    ) -> Option<Hit<'a, S::View>>
    where
        K: Borrow<Q> + Hash + Eq,
        Q: ?Sized + Eq,
        S: Stored,
    {
        match self.lease(index, self.words.likely(hash)?, key, stream) {
            Leased::Hit(hit) => Some(hit),
            Leased::Closed | Leased::OtherKey => None,
        }
    }

    /// A lease, if an open entry of the key is found. Out of line, so that `hit` is short.
    #[inline(never)]
    pub(crate) fn search<'a, Q, P: Order>(
        &'a self,
        index: &'a Index<K, S, P>,
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
            match self.lease(index, slot, key, stream) {
                Leased::Hit(hit) => return Some(hit),
                Leased::Closed => return None, // only the core knows
                Leased::OtherKey => {}
            }
        }
        None
    }

    #[inline(always)]
    fn lease<'a, Q, P: Order>(
        &'a self,
        index: &'a Index<K, S, P>,
        slot: u32,
        key: &Q,
        stream: StreamSet,
    ) -> Leased<'a, S::View>
    where
        K: Borrow<Q> + Hash + Eq,
        Q: ?Sized + Eq,
        S: Stored,
    {
        let page = self.pages.of(slot);
        let (cell, count) = (&page.chunk[slot as usize % PAGE], page.counts.at(slot));
        cell.prefetch();
        let pin = count.pin();
        let pinned = Pinned { index, slot, count }; // gives the lease back, also if `K::eq` panics
        if pin == Pin::Closed {
            return Leased::Closed;
        }
        let view_of = |held: &Slot<K, S>| {
            let same = held.key().borrow() == key || planted(Bug::KeyUnchecked);
            same.then(|| held.value().view())
        };
        // SAFETY: `pinned` is a lease of the slot's entry, taken while it was open.
        let Some(view) = (unsafe { cell.read_pinned(view_of) }) else { return Leased::OtherKey };
        std::mem::forget(pinned);
        if pin == Pin::Unmarked {
            count.mark_used();
        }
        count.note(stream);
        self.hits.add_one();
        Leased::Hit(Hit { slot, count, view, write_pending: false })
    }
}

/// What came of a lease taken without the lock.
enum Leased<'a, V> {
    Hit(Hit<'a, V>),
    Closed,
    OtherKey,
}

/// The lease goes back.
impl<K: Hash + Eq, S: Stored, P: Order> Drop for Pinned<'_, K, S, P> {
    fn drop(&mut self) {
        if planted(Bug::UntoldRelease) {
            self.count.release();
            return;
        }
        self.index.release_counted(self.slot, self.count);
    }
}
