//! Best-fit suballocation of spans: offsets in, offsets out. No device, no memory, no locks.
//!
//! Free spans stand in two ordered sets, by offset (to merge neighbours at once) and by size (to find
//! the smallest that fits, the lowest first among equals). An allocation is refused only if no free
//! span can hold it. All operations are O(log n) in the number of free spans, except an allocation
//! whose alignment is coarser than its spans', which may look at every span that is large enough.
//!
//! Best fit with immediate coalescing: D. Knuth, The Art of Computer Programming 1, section 2.5.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default, Clone)]
pub(crate) struct Suballoc {
    by_offset: BTreeMap<u64, u64>,
    by_size: BTreeSet<(u64, u64)>,
    free_bytes: u64,
}

impl Suballoc {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Makes a span available: a new region, or one that was allocated. It merges with free
    /// neighbours, so regions that must stay apart are given with a gap between them.
    ///
    /// The span must be disjoint from every free span.
    pub(crate) fn free(&mut self, offset: u64, bytes: u64) {
        debug_assert!(bytes > 0);
        self.free_bytes += bytes;
        let (mut start, mut end) = (offset, offset + bytes);
        if let Some((&before, &before_bytes)) = self.by_offset.range(..offset).next_back() {
            debug_assert!(before + before_bytes <= offset, "freed twice");
            if before + before_bytes == offset {
                self.unlist(before, before_bytes);
                start = before;
            }
        }
        if let Some((&after, &after_bytes)) = self.by_offset.range(offset..).next() {
            debug_assert!(after >= end, "freed twice");
            if after == end {
                self.unlist(after, after_bytes);
                end = after + after_bytes;
            }
        }
        self.list(start, end - start);
    }

    /// The offset of `bytes` (more than 0) at a multiple of `align` (a power of two), or `None` if no
    /// free span holds them.
    pub(crate) fn alloc(&mut self, bytes: u64, align: u64) -> Option<u64> {
        debug_assert!(bytes > 0 && align.is_power_of_two());
        let (span_bytes, span, start) = self.by_size.range((bytes, 0)..).find_map(|&(span_bytes, span)| {
            let start = span.checked_next_multiple_of(align)?;
            (start - span + bytes <= span_bytes).then_some((span_bytes, span, start))
        })?;
        self.unlist(span, span_bytes);
        self.free_bytes -= bytes;
        if start > span {
            self.list(span, start - span);
        }
        let (end, span_end) = (start + bytes, span + span_bytes);
        if span_end > end {
            self.list(end, span_end - end);
        }
        Some(start)
    }

    /// Takes a region back out if all of it is free and nothing beside it is merged into its span.
    pub(crate) fn withdraw(&mut self, offset: u64, bytes: u64) -> bool {
        let whole = self.by_offset.get(&offset) == Some(&bytes);
        if whole {
            self.unlist(offset, bytes);
            self.free_bytes -= bytes;
        }
        whole
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        self.free_bytes
    }

    pub(crate) fn largest_free_bytes(&self) -> u64 {
        self.by_size.last().map_or(0, |&(bytes, _)| bytes)
    }

    /// Lowest first: offset and bytes.
    #[cfg(all(test, not(hapax_loom)))]
    pub(crate) fn free_spans(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.by_offset.iter().map(|(&offset, &bytes)| (offset, bytes))
    }

    /// Both sets hold the same spans, none touches its neighbour, and the total is theirs.
    pub(crate) fn validate(&self) {
        let mut end = None;
        let mut total = 0;
        for (&offset, &bytes) in &self.by_offset {
            assert!(bytes > 0, "empty free span at {offset}");
            assert!(end.is_none_or(|end| end < offset), "free spans touch at {offset}");
            assert!(self.by_size.contains(&(bytes, offset)), "span at {offset} is not listed by size");
            end = Some(offset + bytes);
            total += bytes;
        }
        assert_eq!(self.by_offset.len(), self.by_size.len());
        assert_eq!(total, self.free_bytes);
    }

    fn list(&mut self, offset: u64, bytes: u64) {
        self.by_offset.insert(offset, bytes);
        self.by_size.insert((bytes, offset));
    }

    fn unlist(&mut self, offset: u64, bytes: u64) {
        self.by_offset.remove(&offset);
        self.by_size.remove(&(bytes, offset));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena(bytes: u64) -> Suballoc {
        let mut arena = Suballoc::new();
        arena.free(0, bytes);
        arena
    }

    #[test]
    fn the_smallest_span_that_fits_is_taken_and_the_lowest_among_equals() {
        let mut arena = arena(100);
        let spans: Vec<u64> = [10, 5, 20, 5, 60].iter().map(|&n| arena.alloc(n, 1).unwrap()).collect();
        assert_eq!(spans, [0, 10, 15, 35, 40]);
        arena.free(15, 20);
        arena.free(0, 10);
        arena.validate();
        assert_eq!(arena.alloc(10, 1), Some(0), "the span of 10, not the one of 20");
        assert_eq!(arena.alloc(8, 1), Some(15));
        arena.validate();
    }

    #[test]
    fn freed_neighbours_merge_on_both_sides() {
        let mut arena = arena(30);
        for _ in 0..3 {
            arena.alloc(10, 1).unwrap();
        }
        assert_eq!(arena.alloc(1, 1), None);
        arena.free(0, 10);
        arena.free(20, 10);
        assert_eq!(arena.largest_free_bytes(), 10);
        arena.free(10, 10);
        arena.validate();
        assert_eq!(arena.largest_free_bytes(), 30);
    }

    #[test]
    fn alignment_leaves_its_padding_free() {
        let mut arena = arena(64);
        assert_eq!(arena.alloc(3, 1), Some(0));
        assert_eq!(arena.alloc(8, 16), Some(16));
        assert_eq!(arena.free_bytes(), 64 - 3 - 8);
        assert_eq!(arena.alloc(13, 1), Some(3), "the padding itself");
        arena.validate();
    }

    #[test]
    fn regions_given_apart_never_merge_and_can_be_withdrawn_whole() {
        let mut arena = arena(10);
        arena.free(11, 10);
        assert_eq!(arena.alloc(11, 1), None);
        let at = arena.alloc(10, 1).unwrap();
        assert!(!arena.withdraw(at, 10), "in use");
        assert!(arena.withdraw(11, 10));
        arena.free(at, 10);
        assert!(arena.withdraw(0, 10));
        assert_eq!((arena.free_bytes(), arena.largest_free_bytes()), (0, 0));
        arena.validate();
    }

    /// Tests lean on it, so it must not say yes to everything.
    #[test]
    #[should_panic(expected = "free spans touch")]
    fn validation_notices_neighbours_that_have_not_merged() {
        let mut arena = arena(10);
        arena.list(10, 5);
        arena.free_bytes += 5;
        arena.validate();
    }

    /// Against a bitmap: live spans never overlap, and a refusal means that no run of free units fits.
    #[test]
    fn random_steps_equal_a_bitmap() {
        const SIZE: u64 = 200;
        for seed in 1..60u64 {
            let mut random = seed;
            let mut next = |n: u64| {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (random >> 33) % n
            };
            let mut arena = arena(SIZE);
            let mut used = [false; SIZE as usize];
            let mut live: Vec<(u64, u64)> = Vec::new();
            for _ in 0..400 {
                if live.is_empty() || next(5) < 3 {
                    let (bytes, align) = (1 + next(24), 1 << next(4));
                    let fits = |&at: &u64| at % align == 0 && (at..at + bytes).all(|unit| !used[unit as usize]);
                    let any = (0..=SIZE - bytes).any(|at| fits(&at));
                    match arena.alloc(bytes, align) {
                        Some(at) => {
                            assert!(fits(&at), "seed {seed}: span {at}+{bytes} overlaps");
                            (at..at + bytes).for_each(|unit| used[unit as usize] = true);
                            live.push((at, bytes));
                        }
                        None => assert!(!any, "seed {seed}: refused {bytes} aligned {align} though a span fits"),
                    }
                } else {
                    let (at, bytes) = live.swap_remove(next(live.len() as u64) as usize);
                    arena.free(at, bytes);
                    (at..at + bytes).for_each(|unit| used[unit as usize] = false);
                }
                arena.validate();
                assert_eq!(arena.free_bytes(), used.iter().filter(|&&unit| !unit).count() as u64);
            }
        }
    }
}
