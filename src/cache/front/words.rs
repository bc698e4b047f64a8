//! The table of a relaxed index: written under the lock, read without it. Knows hashes and slots; no keys.
//!
//! Buckets of one line of memory: seven words of hash and slot, a byte of each word's hash to find it by, and how many words
//! went on to a later bucket because this one was full. So a search that ends in its first bucket makes one access to memory, and
//! has no loop whose end the processor could guess wrongly. (A byte for each entry, and a count of those that overflowed, are
//! F14's: Bronson and Shi, "Open-sourcing F14 for faster, more memory-efficient hash tables", 2019.)
//!
//! A word does not move. A reader may meet one that has just gone, or miss one that is only now there, or that went to a larger
//! array. Neither does harm: what it meets it leases and compares before it believes it, and what it misses
//! it looks for again under the lock. So an array that was outgrown needs no notice: it is kept until the cache
//! goes, and all of those together are as large as the last at most.

use crate::cache::planted::{Bug, planted};
use crate::cache::published::Published;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

pub(crate) struct Words {
    array: Published<Array>,
    /// Under the lock.
    len: AtomicU32,
}

struct Array(Box<[Bucket]>);

/// Byte `i` of `tags` is of word `i`, and 0 if there is none; the last counts words that went on.
#[repr(align(64))]
struct Bucket {
    tags: AtomicU64,
    words: [AtomicU64; WIDTH],
}

const WIDTH: usize = 7;
const OVERFLOW: u32 = 8 * WIDTH as u32;
/// So many went on, or have at some time: it is not counted any more.
const MANY: u64 = 255;
/// 220 buckets are two thirds full with 1,024 entries; more are not put in.
const FIRST: usize = if cfg!(hapax_loom) { 1 } else { 220 };

impl Words {
    pub(crate) fn new() -> Self {
        Words { array: Published::new(Array::new(FIRST)), len: AtomicU32::new(0) }
    }

    /// Most often the only slot of `hash`. `None`: there is none, or `slots` has to look.
    #[inline(always)]
    pub(crate) fn likely(&self, hash: u32) -> Option<u32> {
        let buckets = &*self.array.get().0;
        let bucket = &buckets[home(buckets, hash)];
        let matches = matches(bucket.tags.load(Ordering::Acquire), tag(hash));
        if matches == 0 {
            return None;
        }
        let word = bucket.words[matches.trailing_zeros() as usize / 8].load(Ordering::Acquire);
        (hash_of(word) == hash && word != EMPTY).then(|| slot_of(word))
    }

    /// The slots of `hash`, and perhaps of others that have it. Without the lock, a slot may be another's by the time
    /// that it is looked at.
    #[inline]
    pub(crate) fn slots(&self, hash: u32) -> Slots<'_> {
        let buckets = &*self.array.get().0;
        let home = home(buckets, hash);
        let tags = buckets[home].tags.load(Ordering::Acquire);
        Slots { buckets, hash, home, at: home, tags, matches: matches(tags, tag(hash)) }
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed) as usize
    }

    /// Under the lock.
    pub(crate) fn insert(&self, hash: u32, slot: u32) {
        let len = self.len.load(Ordering::Relaxed) + 1;
        if len as usize > self.array.get().0.len() * WIDTH / 3 * 2 {
            self.grow();
        }
        self.array.get().put(word(hash, slot));
        self.len.store(len, Ordering::Relaxed);
    }

    /// Under the lock.
    pub(crate) fn remove(&self, hash: u32, slot: u32) {
        let buckets = &*self.array.get().0;
        let mut at = home(buckets, hash);
        loop {
            let bucket = &buckets[at];
            let tags = bucket.tags.load(Ordering::Relaxed);
            let is_it = |i: &usize| bucket.words[*i].load(Ordering::Relaxed) == word(hash, slot);
            if let Some(i) = (0..WIDTH).find(is_it) {
                bucket.tags.store(tags & !(0xFF << (8 * i)), Ordering::Release);
                bucket.words[i].store(EMPTY, Ordering::Release);
                break;
            }
            if tags >> OVERFLOW != MANY {
                bucket.tags.store(tags - (1 << OVERFLOW), Ordering::Release);
            }
            at = next(buckets, at);
        }
        self.len.fetch_sub(1, Ordering::Relaxed);
    }

    #[cold]
    fn grow(&self) {
        let old = self.array.get();
        let new = Array::new(2 * old.0.len());
        let words = old.0.iter().flat_map(|bucket| &bucket.words).map(|word| word.load(Ordering::Relaxed));
        words.filter(|&word| word != EMPTY).for_each(|word| new.put(word));
        let order = if planted(Bug::RelaxedGrowth) { Ordering::Relaxed } else { Ordering::Release };
        self.array.replace(new, order);
    }
}

/// What [`Words::slots`] finds.
pub(crate) struct Slots<'a> {
    buckets: &'a [Bucket],
    hash: u32,
    home: usize,
    at: usize,
    tags: u64,
    matches: u64,
}

impl Iterator for Slots<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        loop {
            let bucket = &self.buckets[self.at];
            while self.matches != 0 {
                let word = bucket.words[self.matches.trailing_zeros() as usize / 8].load(Ordering::Acquire);
                self.matches &= self.matches - 1;
                if hash_of(word) == self.hash && word != EMPTY {
                    return Some(slot_of(word));
                }
            }
            let at = next(self.buckets, self.at);
            // Once around: with many hashes alike, words may have gone on from every bucket.
            if self.tags >> OVERFLOW == 0 || at == self.home {
                return None;
            }
            self.at = at;
            self.tags = self.buckets[self.at].tags.load(Ordering::Acquire);
            self.matches = matches(self.tags, tag(self.hash));
        }
    }
}

impl Array {
    fn new(buckets: usize) -> Self {
        let bucket = |_| Bucket { tags: AtomicU64::new(0), words: std::array::from_fn(|_| AtomicU64::new(EMPTY)) };
        Array((0..buckets).map(bucket).collect())
    }

    /// There is room, since a third is free.
    fn put(&self, word: u64) {
        let buckets = &*self.0;
        let mut at = home(buckets, hash_of(word));
        loop {
            let bucket = &buckets[at];
            let tags = bucket.tags.load(Ordering::Relaxed);
            let free = matches(tags, 0); // not of the count: it looks at words alone
            if free != 0 {
                let i = free.trailing_zeros() / 8;
                bucket.words[i as usize].store(word, Ordering::Release);
                bucket.tags.store(tags | tag(hash_of(word)) << (8 * i), Ordering::Release);
                return;
            }
            if tags >> OVERFLOW != MANY {
                bucket.tags.store(tags + (1 << OVERFLOW), Ordering::Release);
            }
            at = next(buckets, at);
        }
    }
}

const EMPTY: u64 = 0;

fn word(hash: u32, slot: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(slot + 1)
}

fn hash_of(word: u64) -> u32 {
    (word >> 32) as u32
}

fn slot_of(word: u64) -> u32 {
    word as u32 - 1
}

/// By the leading bits of the hash; tags are of the last ones.
#[inline]
fn home(buckets: &[Bucket], hash: u32) -> usize {
    ((u64::from(hash) * buckets.len() as u64) >> 32) as usize
}

#[inline]
fn next(buckets: &[Bucket], at: usize) -> usize {
    if at + 1 == buckets.len() { 0 } else { at + 1 }
}

/// Never 0, which is no word's.
#[inline]
fn tag(hash: u32) -> u64 {
    u64::from(hash & 0xFF).max(1)
}

/// The top bit of each of the seven bytes that are `tag`; the least is one, those above it may be mistaken.
#[inline]
fn matches(tags: u64, tag: u64) -> u64 {
    const ONES: u64 = 0x0001_0101_0101_0101;
    let other = tags ^ (tag * ONES);
    other.wrapping_sub(ONES) & !other & ONES << 7
}

#[cfg(all(test, not(hapax_loom)))]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_word_is_found_until_it_is_removed_through_growth_and_full_buckets() {
        let words = Words::new();
        let mut there: HashSet<(u32, u32)> = HashSet::new();
        let mut free = Vec::new();
        let mut random = 1u64;
        let mut next = |below: u32| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((u64::from((random >> 32) as u32) * u64::from(below)) >> 32) as u32
        };
        for step in 0..60_000u32 {
            // Few hashes, so that many go to one bucket; some of them in the last one.
            let hash = if next(2) == 0 { u32::MAX - next(40) } else { next(u32::MAX) };
            if next(3) > 0 {
                let slot = free.pop().unwrap_or(step);
                words.insert(hash, slot);
                there.insert((hash, slot));
            } else if let Some(&(hash, slot)) = there.iter().next() {
                words.remove(hash, slot);
                there.remove(&(hash, slot));
                free.push(slot);
                assert_eq!(words.slots(hash).find(|&found| found == slot), None);
            }
            assert_eq!(words.len(), there.len());
        }
        let left = words.array.get().0.iter().flat_map(|bucket| &bucket.words);
        let left = left.filter(|word| word.load(Ordering::Relaxed) != EMPTY);
        assert_eq!(left.count(), there.len(), "and no other");
        for (hash, slot) in there {
            assert_eq!(words.slots(hash).find(|&found| found == slot), Some(slot));
        }
    }

    /// Unlike those of the test above, spread as hashes are.
    fn hash(number: u32) -> u32 {
        (u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
    }

    fn buckets(words: &Words) -> usize {
        words.array.get().0.len()
    }

    #[test]
    fn the_likely_slot_is_most_often_the_one_and_never_of_another_hash() {
        let words = Words::new();
        let entries = 1000;
        (0..entries).for_each(|number| words.insert(hash(number), number));
        let found = (0..entries).filter(|&number| words.likely(hash(number)) == Some(number)).count();
        assert!(found > 850, "{found} of {entries}");
        for number in entries..100 * entries {
            assert_eq!((words.likely(hash(number)), words.slots(hash(number)).next()), (None, None));
        }
    }

    #[test]
    fn an_array_two_thirds_full_is_followed_by_one_of_twice_the_size() {
        let words = Words::new();
        for number in 0..4 * 1026 + 1 {
            assert_eq!(buckets(&words), FIRST * usize::max(1, words.len().div_ceil(1026).next_power_of_two()));
            words.insert(hash(number), number);
        }
    }

    /// What went on is counted off again: else every search of the bucket would go on for ever.
    #[test]
    fn what_is_removed_leaves_no_trace() {
        let words = Words::new();
        let crowd = |number: u32| if number % 3 == 0 { u32::MAX - number } else { hash(number) };
        (0..600).for_each(|number| words.insert(crowd(number), number));
        (0..600).for_each(|number| words.remove(crowd(number), number));
        for bucket in &words.array.get().0 {
            assert_eq!(bucket.tags.load(Ordering::Relaxed), 0);
            assert!(bucket.words.iter().all(|word| word.load(Ordering::Relaxed) == EMPTY));
        }
    }

    #[test]
    fn what_stays_is_found_though_more_went_on_than_can_be_counted_and_most_of_them_are_gone() {
        let words = Words::new();
        let crowd = 2 * MANY as u32;
        (0..crowd).for_each(|slot| words.insert(u32::MAX, slot));
        (0..crowd - 100).for_each(|slot| words.remove(u32::MAX, slot));
        assert!((crowd - 100..crowd).all(|slot| words.slots(u32::MAX).any(|found| found == slot)));
    }

    /// Whose hashes are alike, as a key's may be that hashes only a name.
    #[test]
    fn a_search_ends_though_words_went_on_from_every_bucket() {
        let words = Words::new();
        for group in 0..8u32 {
            let hash = group << 29;
            (0..1000).for_each(|slot| words.insert(hash, slot));
            (0..1000).for_each(|slot| words.remove(hash, slot));
        }
        assert_eq!(words.slots(1).take(10_000).count(), 0);
    }

    #[test]
    fn a_bucket_is_one_line_of_memory() {
        assert_eq!((size_of::<Bucket>(), align_of::<Bucket>()), (64, 64));
    }
}
