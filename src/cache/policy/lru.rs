//! Exact least recently used: a doubly linked queue over dense slot numbers. Every operation is O(1).

use crate::cache::policy::{Order, Rank, Weight};

const NIL: u32 = u32::MAX;

/// Links of a slot. While it is detached they hold its passing number, high and low half: passed entries
/// leave the queue at its old end, so the number orders them among each other and before the whole queue.
#[derive(Clone, Copy)]
struct Links {
    older: u32,
    newer: u32,
}

/// In this order since a use writes the ends, which the core keeps next to the lock.
#[repr(C)]
pub(crate) struct Lru {
    oldest: u32,
    newest: u32,
    links: Vec<Links>,
    passings: u64,
}

/// Everything attached is newer than everything detached.
const ATTACHED: Rank = Rank { place: 0, age: u64::MAX };

impl Default for Lru {
    fn default() -> Self {
        Lru { links: Vec::new(), oldest: NIL, newest: NIL, passings: 0 }
    }
}

impl Order for Lru {
    #[inline(always)]
    fn admit(&mut self, slot: u32, _: Weight) {
        if self.links.len() <= slot as usize {
            self.links.resize(slot as usize + 1, Links { older: NIL, newer: NIL });
        }
        self.push(slot);
    }

    #[inline(always)]
    fn touch(&mut self, slot: u32) {
        if self.newest != slot {
            self.unlink(slot);
            self.push(slot);
        }
    }

    #[inline(always)]
    fn remove(&mut self, slot: u32) {
        self.unlink(slot);
    }

    #[inline(always)]
    fn first(&self) -> Option<(Rank, u32)> {
        (self.oldest != NIL).then_some((ATTACHED, self.oldest))
    }

    fn detach(&mut self, slot: u32) -> Rank {
        debug_assert_eq!(slot, self.oldest, "the number orders only what leaves from the old end");
        self.unlink(slot);
        self.passings += 1;
        self.links[slot as usize] = Links { older: (self.passings >> 32) as u32, newer: self.passings as u32 };
        self.rank(slot)
    }

    fn rank(&self, slot: u32) -> Rank {
        let Links { older, newer } = self.links[slot as usize];
        Rank { place: 0, age: u64::from(older) << 32 | u64::from(newer) }
    }

    #[inline(always)]
    fn evict(&mut self, _: u32) {}

    #[inline(always)]
    fn renumber(&mut self) -> bool {
        false
    }

    fn readmit(&mut self, slot: u32) {
        self.push(slot);
    }

    fn attached(&self) -> Vec<(Rank, u32)> {
        let first = (self.oldest != NIL).then_some(self.oldest);
        let next = |&slot: &u32| Some(self.links[slot as usize].newer).filter(|&newer| newer != NIL);
        std::iter::successors(first, next).map(|slot| (ATTACHED, slot)).collect()
    }
}

impl Lru {
    #[inline(always)]
    fn push(&mut self, slot: u32) {
        self.links[slot as usize] = Links { older: self.newest, newer: NIL };
        match self.newest {
            NIL => self.oldest = slot,
            newest => self.links[newest as usize].newer = slot,
        }
        self.newest = slot;
    }

    #[inline(always)]
    fn unlink(&mut self, slot: u32) {
        let Links { older, newer } = self.links[slot as usize];
        match older {
            NIL => self.oldest = newer,
            older => self.links[older as usize].newer = newer,
        }
        match newer {
            NIL => self.newest = older,
            newer => self.links[newer as usize].older = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(lru: &Lru) -> Vec<u32> {
        lru.attached().into_iter().map(|(_, slot)| slot).collect()
    }

    #[test]
    fn the_queue_runs_from_the_least_to_the_most_recently_used() {
        let mut lru = Lru::default();
        (0..4).for_each(|slot| lru.admit(slot, Weight { cost_ns: 0, bytes: 1 }));
        lru.touch(1);
        lru.touch(1);
        assert_eq!(order(&lru), [0, 2, 3, 1]);
        lru.remove(2);
        assert_eq!(order(&lru), [0, 3, 1]);
        assert_eq!(lru.first().map(|(_, slot)| slot), Some(0));
    }

    #[test]
    fn detached_slots_rank_before_the_queue_in_the_order_they_left() {
        let mut lru = Lru::default();
        (0..3).for_each(|slot| lru.admit(slot, Weight { cost_ns: 0, bytes: 1 }));
        let (first, second) = (lru.detach(0), lru.detach(1));
        assert!(first < second && second < lru.first().unwrap().0);
        assert_eq!((lru.rank(0), lru.rank(1)), (first, second));
        lru.readmit(0);
        assert_eq!(order(&lru), [2, 0]);
    }

    #[test]
    fn passing_numbers_go_on_beyond_32_bits() {
        let mut lru = Lru { passings: u64::from(u32::MAX) - 1, ..Lru::default() };
        (0..3).for_each(|slot| lru.admit(slot, Weight { cost_ns: 0, bytes: 1 }));
        let ranks = [0, 1, 2].map(|slot| lru.detach(slot));
        assert!(ranks.is_sorted() && ranks[2].age > u64::from(u32::MAX));
        assert_eq!([0, 1, 2].map(|slot| lru.rank(slot)), ranks);
    }
}
