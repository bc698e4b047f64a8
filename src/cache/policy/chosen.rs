//! The order that a cache's options ask for. A branch on each call, always the same way, instead of a type
//! parameter on every public type of the cache.

use crate::cache::policy::camp::Camp;
use crate::cache::policy::lru::Lru;
use crate::cache::policy::{Order, Policy, Rank, Weight};

pub(crate) enum Chosen {
    Lru(Lru),
    Camp(Box<Camp>),
}

impl From<Policy> for Chosen {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Lru => Chosen::Lru(Lru::default()),
            Policy::Camp => Chosen::Camp(Box::default()),
        }
    }
}

macro_rules! whichever {
    ($chosen:expr, $order:ident => $call:expr) => {
        match $chosen {
            Chosen::Lru($order) => $call,
            Chosen::Camp($order) => $call,
        }
    };
}

impl Order for Chosen {
    #[inline(always)]
    fn admit(&mut self, slot: u32, weight: Weight) {
        whichever!(self, order => order.admit(slot, weight));
    }

    #[inline(always)]
    fn touch(&mut self, slot: u32) {
        whichever!(self, order => order.touch(slot));
    }

    #[inline(always)]
    fn remove(&mut self, slot: u32) {
        whichever!(self, order => order.remove(slot));
    }

    #[inline(always)]
    fn first(&self) -> Option<(Rank, u32)> {
        whichever!(self, order => order.first())
    }

    fn detach(&mut self, slot: u32) -> Rank {
        whichever!(self, order => order.detach(slot))
    }

    fn rank(&self, slot: u32) -> Rank {
        whichever!(self, order => order.rank(slot))
    }

    #[inline(always)]
    fn evict(&mut self, slot: u32) {
        whichever!(self, order => order.evict(slot));
    }

    #[inline(always)]
    fn renumber(&mut self) -> bool {
        whichever!(self, order => order.renumber())
    }

    fn readmit(&mut self, slot: u32) {
        whichever!(self, order => order.readmit(slot));
    }

    fn attached(&self) -> Vec<(Rank, u32)> {
        whichever!(self, order => order.attached())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It takes a walk over all entries, which must stay rare; and without it *H* would outgrow its bits.
    #[test]
    fn camp_makes_its_numbers_small_every_256_evictions_of_the_dearest_and_lru_never() {
        let dearest = Weight { cost_ns: u64::MAX, bytes: 1 };
        let times = |policy| {
            let mut order = Chosen::from(policy);
            let evict = |_: &u32| {
                order.admit(0, dearest);
                order.evict(0);
                order.remove(0);
                order.renumber()
            };
            (0..1000).filter(evict).count()
        };
        assert_eq!((times(Policy::Camp), times(Policy::Lru)), (3, 0));
    }
}
