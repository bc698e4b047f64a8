//! The table of a relaxed index: written under the lock, read without it. Knows hashes and slots; no keys.
//!
//! A word is 32 bits of hash and a slot, or nothing; it stands at the place that its hash says, or behind it with nothing in
//! between. A reader may meet a word that has just gone, or miss one that is being moved or that went to a larger array. Neither
//! does harm: what it meets it leases and compares before it believes it, and what it misses it looks for again
//! under the lock. So a table that was outgrown needs no notice: it is kept until the cache goes, and all of
//! those together are as large as the last at most.

use crate::cache::planted::{Bug, planted};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use std::sync::OnceLock;

pub(crate) struct Words {
    /// Array `a` has `FIRST << a` words.
    arrays: [OnceLock<Box<[AtomicU64]>>; 32],
    current: AtomicU32,
    /// Under the lock.
    len: AtomicU32,
}

/// With four fifths of the words in use the next array is due: 1,280 hold 1,024 entries, as much as the first chunk of counts.
const FIRST: usize = if cfg!(hapax_loom) { 5 } else { 1280 };
const EMPTY: u64 = 0;

/// The words of the array that was current when a search began.
#[derive(Clone, Copy)]
struct Array<'a>(&'a [AtomicU64]);

impl Words {
    pub(crate) fn new() -> Self {
        let words =
            Words { arrays: [const { OnceLock::new() }; 32], current: AtomicU32::new(0), len: AtomicU32::new(0) };
        words.make(0);
        words
    }

    /// The first slot of `hash` that is wanted. Without the lock, a slot may be another's by the time that it is asked for.
    #[inline]
    pub(crate) fn find(&self, hash: u32, mut wanted: impl FnMut(u32) -> bool) -> Option<u32> {
        let array = self.array();
        let mut at = array.home(hash);
        loop {
            let word = array.0[at].load(Ordering::Acquire);
            if word == EMPTY {
                return None;
            }
            if hash_of(word) == hash && wanted(slot_of(word)) {
                return Some(slot_of(word));
            }
            at = array.next(at);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed) as usize
    }

    /// Under the lock.
    pub(crate) fn insert(&self, hash: u32, slot: u32) {
        let len = self.len.load(Ordering::Relaxed) + 1;
        if len as usize > self.array().0.len() / 5 * 4 {
            self.grow();
        }
        self.array().put(u64::from(hash) << 32 | u64::from(slot + 1));
        self.len.store(len, Ordering::Relaxed);
    }

    /// Under the lock. The words behind close up, so that no search ends too early.
    pub(crate) fn remove(&self, hash: u32, slot: u32) {
        let array = self.array();
        let word = u64::from(hash) << 32 | u64::from(slot + 1);
        let mut hole = array.home(hash);
        while array.0[hole].load(Ordering::Relaxed) != word {
            hole = array.next(hole);
        }
        let mut at = array.next(hole);
        loop {
            let word = array.0[at].load(Ordering::Relaxed);
            if word == EMPTY {
                break;
            }
            // It may not stand before its home.
            if array.distance(array.home(hash_of(word)), at) >= array.distance(hole, at) {
                array.0[hole].store(word, Ordering::Release);
                hole = at;
            }
            at = array.next(at);
        }
        array.0[hole].store(EMPTY, Ordering::Release);
        self.len.fetch_sub(1, Ordering::Relaxed);
    }

    #[inline]
    fn array(&self) -> Array<'_> {
        let current = self.current.load(Ordering::Acquire);
        Array(self.arrays[current as usize].get().expect("made before it became the current one"))
    }

    #[cold]
    fn grow(&self) {
        let (old, next) = (self.array(), self.current.load(Ordering::Relaxed) + 1);
        let new = self.make(next);
        old.0
            .iter()
            .map(|word| word.load(Ordering::Relaxed))
            .filter(|&word| word != EMPTY)
            .for_each(|word| new.put(word));
        let order = if planted(Bug::RelaxedGrowth) { Ordering::Relaxed } else { Ordering::Release };
        self.current.store(next, order);
    }

    fn make(&self, array: u32) -> Array<'_> {
        let words = || (0..FIRST << array).map(|_| AtomicU64::new(EMPTY)).collect();
        Array(self.arrays[array as usize].get_or_init(words))
    }
}

impl Array<'_> {
    /// In the order of hashes.
    #[inline]
    fn home(self, hash: u32) -> usize {
        (u64::from(hash) * self.0.len() as u64 >> 32) as usize
    }

    #[inline]
    fn next(self, at: usize) -> usize {
        if at + 1 == self.0.len() { 0 } else { at + 1 }
    }

    fn distance(self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.0.len() - from }
    }

    fn put(self, word: u64) {
        let mut at = self.home(hash_of(word));
        while self.0[at].load(Ordering::Relaxed) != EMPTY {
            at = self.next(at);
        }
        self.0[at].store(word, Ordering::Release);
    }
}

fn hash_of(word: u64) -> u32 {
    (word >> 32) as u32
}

fn slot_of(word: u64) -> u32 {
    word as u32 - 1
}
