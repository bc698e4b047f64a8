//! The least of one number for each class: a tournament. Knows no slots.

use crate::cache::policy::camp::CLASSES;

const NONE: u64 = u64::MAX;

/// Class `c` stands at `CLASSES + c`, and at each place below the lesser of the two that meet there, `2 * place` and
/// `2 * place + 1`: at 1 the least of all. A change plays again on its way down, at most ten games, and stops where it
/// changes nothing.
pub(super) struct Heads(Box<[u64; 2 * CLASSES]>);

impl Heads {
    pub(super) fn new() -> Self {
        Heads(Box::new([NONE; 2 * CLASSES]))
    }

    #[inline]
    pub(super) fn least(&self) -> Option<u64> {
        Some(self.0[1]).filter(|&least| least != NONE)
    }

    pub(super) fn set(&mut self, class: usize, number: u64) {
        let mut at = CLASSES + class;
        self.0[at] = number;
        while at > 1 {
            let winner = self.0[at].min(self.0[at ^ 1]);
            at /= 2;
            if self.0[at] == winner {
                return;
            }
            self.0[at] = winner;
        }
    }

    pub(super) fn clear(&mut self, class: usize) {
        self.set(class, NONE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_is_that_of_a_search_through_all() {
        let (mut heads, mut all) = (Heads::new(), [NONE; CLASSES]);
        let mut random = 1u64;
        for _ in 0..50_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let class = (random >> 33) as usize % CLASSES;
            // Half of them are cleared, so that now and then few are left.
            let number = if random >> 63 == 0 { NONE } else { (random >> 13) % 1000 };
            all[class] = number;
            if number == NONE {
                heads.clear(class)
            } else {
                heads.set(class, number)
            }
            assert_eq!(heads.least(), all.iter().copied().min().filter(|&least| least != NONE));
        }
        (0..CLASSES).for_each(|class| heads.clear(class));
        assert_eq!(heads.least(), None);
    }
}
