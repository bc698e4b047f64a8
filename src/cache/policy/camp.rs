//! CAMP: the order by cost per byte and recency, after Ghandeharizadeh, Irani, Lam and Yap, "CAMP: a cost
//! adaptive multi-queue eviction policy for key-value stores" (Middleware 2014). Integers only.
//!
//! Entries of one ratio stand in one queue. *H = L + r*, and neither *L* nor the order of uses ever runs back, so
//! that each queue is sorted by itself and the next victim is the least of the queues' heads.

use crate::cache::policy::heads::Heads;
use crate::cache::policy::{Order, Rank, Weight};

const NIL: u32 = u32::MAX;

/// Ratios are in 2^-16 ns per byte.
const RATIO_SHIFT: u32 = 16;
const RATIO_MAX: u64 = 1 << 44;
/// 39 hours. Shifted, it fits.
const COST_MAX_NS: u64 = (1 << 47) - 1;
/// Significant bits of a ratio that are kept.
const KEPT: u32 = 5;
/// Classes are ratios numbered without gaps; the greatest is that of `RATIO_MAX`.
pub(super) const CLASSES: usize = 657;
const CLASS_BITS: u32 = 10;
/// *L* at which every *H* is made small again: 2^8 turns of a cache full of the dearest there are.
const REBASE_AT: u64 = 1 << 52;

/// What CAMP keeps of a slot, in one piece, since every use needs all of it. The links are its neighbours, or the halves
/// of its passing number while it is detached.
#[derive(Clone, Copy)]
struct Entry {
    older: u32,
    newer: u32,
    standing: Standing,
}

/// *H*, class and whether it was used again, in one word: `H << 11 | class << 1 | again`. Without the last bit it
/// orders entries as CAMP does, lesser *H* first, then lesser ratio. *H* has 53 bits: no use puts it above
/// `REBASE_AT + 2 * RATIO_MAX`.
#[derive(Clone, Copy)]
struct Standing(u64);

pub(crate) struct Camp {
    entries: Vec<Entry>,
    /// The ends of each class's queue.
    queues: Box<[Ends; CLASSES]>,
    /// The place of each queue's head.
    heads: Heads,
    /// *L*.
    clock: u64,
    rebase_at: u64,
    passings: u64,
}

#[derive(Clone, Copy)]
struct Ends {
    oldest: u32,
    newest: u32,
}

impl Standing {
    fn new(h: u64, class: usize, again: bool) -> Self {
        debug_assert!(h < 1 << (63 - CLASS_BITS) && class < CLASSES);
        Standing((h << CLASS_BITS | class as u64) << 1 | u64::from(again))
    }

    /// *H* and class: what is compared.
    fn place(self) -> u64 {
        self.0 >> 1
    }

    fn h(self) -> u64 {
        self.place() >> CLASS_BITS
    }

    fn class(self) -> usize {
        class_of_place(self.place())
    }

    fn is_again(self) -> bool {
        self.0 & 1 == 1
    }
}

fn class_of_place(place: u64) -> usize {
    (place & ((1 << CLASS_BITS) - 1)) as usize
}

/// Cost per byte, cut to its leading bits.
fn ratio(weight: Weight) -> u64 {
    let exact = (weight.cost_ns.min(COST_MAX_NS) << RATIO_SHIFT) / weight.bytes.max(1);
    let ratio = exact.clamp(1, RATIO_MAX);
    let cut = (u64::BITS - ratio.leading_zeros()).saturating_sub(KEPT);
    ratio >> cut << cut
}

/// Exact below 32, then 16 to the octave.
fn class(ratio: u64) -> usize {
    let cut = (u64::BITS - ratio.leading_zeros()).saturating_sub(KEPT);
    (u64::from(cut) * 16 + (ratio >> cut)) as usize
}

/// The class of twice a class's ratio.
fn doubled(class: usize) -> usize {
    if class < 16 { 2 * class } else { (class + 16).min(CLASSES - 1) }
}

/// The ratio of a class.
fn ratio_of(class: usize) -> u64 {
    let class = class as u64;
    let cut = (class / 16).saturating_sub(1);
    (class - cut * 16) << cut
}

impl Default for Camp {
    fn default() -> Self {
        Camp::rebasing_at(REBASE_AT)
    }
}

impl Order for Camp {
    #[inline(never)]
    fn admit(&mut self, slot: u32, weight: Weight) {
        let at = slot as usize;
        if self.entries.len() <= at {
            self.entries.resize(at + 1, Entry { older: NIL, newer: NIL, standing: Standing(0) });
        }
        let ratio = ratio(weight);
        self.push(slot, Standing::new(self.clock + ratio, class(ratio), false));
    }

    // Out of line, here and below: users of LRU should not carry it along.
    #[inline(never)]
    fn touch(&mut self, slot: u32) {
        self.unlink(slot);
        self.readmit(slot);
    }

    #[inline(never)]
    fn remove(&mut self, slot: u32) {
        self.unlink(slot);
    }

    #[inline(never)]
    fn first(&self) -> Option<(Rank, u32)> {
        let place = self.heads.least()?;
        Some((Rank { place, age: u64::MAX }, self.queues[class_of_place(place)].oldest))
    }

    fn detach(&mut self, slot: u32) -> Rank {
        debug_assert_eq!(self.first().map(|(_, first)| first), Some(slot), "passing numbers order only heads");
        self.unlink(slot);
        self.passings += 1;
        let entry = &mut self.entries[slot as usize];
        (entry.older, entry.newer) = ((self.passings >> 32) as u32, self.passings as u32);
        self.rank(slot)
    }

    fn rank(&self, slot: u32) -> Rank {
        let Entry { older, newer, standing } = self.entries[slot as usize];
        Rank { place: standing.place(), age: u64::from(older) << 32 | u64::from(newer) }
    }

    fn evict(&mut self, slot: u32) {
        self.clock = self.clock.max(self.entries[slot as usize].standing.h());
    }

    fn renumber(&mut self) -> bool {
        let due = self.clock >= self.rebase_at;
        if due {
            self.rebase();
        }
        due
    }

    #[inline(never)]
    fn readmit(&mut self, slot: u32) {
        let standing = self.entries[slot as usize].standing;
        let class = if standing.is_again() { standing.class() } else { doubled(standing.class()) };
        self.push(slot, Standing::new(self.clock + ratio_of(class), class, true));
    }

    fn attached(&self) -> Vec<(Rank, u32)> {
        let mut attached = Vec::new();
        for ends in self.queues.iter() {
            let mut slot = ends.oldest;
            while slot != NIL {
                let entry = self.entries[slot as usize];
                attached.push((Rank { place: entry.standing.place(), age: u64::MAX }, slot));
                slot = entry.newer;
            }
        }
        attached
    }
}

impl Camp {
    pub(crate) fn rebasing_at(clock: u64) -> Self {
        Camp {
            entries: Vec::new(),
            queues: Box::new([Ends { oldest: NIL, newest: NIL }; CLASSES]),
            heads: Heads::new(),
            clock: 0,
            rebase_at: clock,
            passings: 0,
        }
    }

    fn push(&mut self, slot: u32, standing: Standing) {
        let class = standing.class();
        let ends = &mut self.queues[class];
        self.entries[slot as usize] = Entry { older: ends.newest, newer: NIL, standing };
        match ends.newest {
            NIL => {
                ends.oldest = slot;
                self.heads.set(class, standing.place());
            }
            newest => self.entries[newest as usize].newer = slot,
        }
        ends.newest = slot;
    }

    fn unlink(&mut self, slot: u32) {
        let Entry { older, newer, standing } = self.entries[slot as usize];
        let class = standing.class();
        let ends = &mut self.queues[class];
        match newer {
            NIL => ends.newest = older,
            newer => self.entries[newer as usize].older = older,
        }
        match older {
            NIL => {
                ends.oldest = newer;
                match newer {
                    NIL => self.heads.clear(class),
                    newer => self.heads.set(class, self.entries[newer as usize].standing.place()),
                }
            }
            older => self.entries[older as usize].newer = newer,
        }
    }

    /// Every *H* less by nearly *L*, in the same order. Those below *L*, which leases kept, are numbered through from
    /// 0 and *L* comes after them. O(entries log entries).
    #[cold]
    fn rebase(&mut self) {
        let mut below: Vec<u64> =
            self.entries.iter().map(|entry| entry.standing.h()).filter(|&h| h < self.clock).collect();
        below.sort_unstable();
        below.dedup();
        let clock = below.len() as u64;
        for Entry { standing, .. } in &mut self.entries {
            let h = match standing.h().checked_sub(self.clock) {
                Some(above) => clock + above,
                None => below.partition_point(|&other| other < standing.h()) as u64,
            };
            *standing = Standing::new(h, standing.class(), standing.is_again());
        }
        self.clock = clock;
        for (class, ends) in self.queues.iter().enumerate().filter(|(_, ends)| ends.oldest != NIL) {
            self.heads.set(class, self.entries[ends.oldest as usize].standing.place());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(camp: &Camp) -> Vec<u32> {
        let mut attached = camp.attached();
        attached.sort_by_key(|&(rank, _)| rank);
        attached.into_iter().map(|(_, slot)| slot).collect()
    }

    fn costing(cost_ns: u64) -> Weight {
        Weight { cost_ns, bytes: 1 << RATIO_SHIFT }
    }

    fn evict_first(camp: &mut Camp) -> u32 {
        let slot = camp.first().unwrap().1;
        camp.evict(slot);
        camp.remove(slot);
        slot
    }

    #[test]
    fn a_ratio_keeps_five_leading_bits_between_its_bounds() {
        let of = |cost_ns, bytes| ratio(Weight { cost_ns, bytes });
        assert_eq!((of(0, 1), of(1, u64::MAX), of(u64::MAX, 1)), (1, 1, RATIO_MAX));
        assert_eq!((of(31, 1 << 16), of(33, 1 << 16), of(0b1011_1111, 1 << 16)), (31, 32, 0b1011_1000));
        assert_eq!(of(3, 0), 3 << 16, "an empty entry counts as one byte");
        assert_eq!((of(u64::MAX, 1 << 20), of(1 << 46, 1 << 20)), (31 << 38, 1 << 42), "a cost ends just below 2^47");
    }

    #[test]
    fn classes_number_all_ratios_in_their_order_without_gaps() {
        let ratios: Vec<u64> = (1..CLASSES).map(ratio_of).collect();
        assert!(ratios.windows(2).all(|pair| pair[0] < pair[1]) && *ratios.last().unwrap() == RATIO_MAX);
        for (class_number, &of_class) in (1..).zip(&ratios) {
            assert_eq!(class(of_class), class_number);
            assert_eq!(ratio(Weight { cost_ns: of_class, bytes: 1 << 16 }), of_class.min(COST_MAX_NS));
        }
    }

    #[test]
    fn twice_a_ratio_is_of_the_class_that_is_said_to_be() {
        for of_class in 1..CLASSES {
            assert_eq!(doubled(of_class), class((2 * ratio_of(of_class)).min(RATIO_MAX)), "class {of_class}");
        }
    }

    #[test]
    fn the_cheapest_leave_first_and_the_dear_age() {
        let mut camp = Camp::default();
        camp.admit(0, costing(20));
        (1..5).for_each(|slot| camp.admit(slot, costing(8)));
        assert_eq!(order(&camp), [1, 2, 3, 4, 0]);
        assert_eq!(evict_first(&mut camp), 1);
        camp.admit(1, costing(8)); // H = 8 + 8
        (2..5).for_each(|slot| assert_eq!(evict_first(&mut camp), slot));
        assert_eq!(evict_first(&mut camp), 1);
        camp.admit(1, costing(8)); // H = 16 + 8
        assert_eq!(order(&camp), [0, 1], "it has not been used while the clock went to 16");
    }

    #[test]
    fn a_second_use_doubles_the_ratio_and_a_third_does_not() {
        let mut camp = Camp::default();
        (0..3).for_each(|slot| camp.admit(slot, costing(10)));
        camp.touch(0);
        assert_eq!((camp.entries[0].standing.h(), order(&camp)), (20, vec![1, 2, 0]));
        camp.touch(0);
        assert_eq!(camp.entries[0].standing.h(), 20);
        camp.admit(3, Weight { cost_ns: u64::MAX, bytes: 1 });
        camp.touch(3);
        assert_eq!(camp.entries[3].standing.h(), RATIO_MAX);
    }

    #[test]
    fn of_equal_priority_the_lesser_ratio_leaves_first_then_the_older() {
        let mut camp = Camp::default();
        (0..2).for_each(|slot| camp.admit(slot, costing(5)));
        evict_first(&mut camp);
        camp.admit(0, costing(20)); // H = 25
        camp.admit(2, costing(10));
        camp.touch(2); // H = 25, of the same ratio, later
        camp.admit(3, costing(15)); // H = 20
        camp.touch(3);
        evict_first(&mut camp);
        assert_eq!(order(&camp), [0, 2, 3]);
    }

    #[test]
    fn detached_slots_rank_where_they_stood() {
        let mut camp = Camp::default();
        (0..3).for_each(|slot| camp.admit(slot, costing(8)));
        camp.admit(3, costing(4));
        let ranks = [3, 0, 1].map(|slot| camp.detach(slot));
        assert!(ranks.is_sorted() && ranks[2] < camp.first().unwrap().0);
        assert_eq!([3, 0, 1].map(|slot| camp.rank(slot)), ranks);
        camp.readmit(3);
        assert_eq!(order(&camp), [2, 3], "the clock did not move, so both stand at 8, and the older leads");
    }

    #[test]
    fn passing_numbers_go_on_beyond_32_bits() {
        let mut camp = Camp { passings: u64::from(u32::MAX) - 1, ..Camp::default() };
        (0..3).for_each(|slot| camp.admit(slot, costing(8)));
        let ranks = [0, 1, 2].map(|slot| camp.detach(slot));
        assert!(ranks.is_sorted() && ranks[2].age > u64::from(u32::MAX));
        assert_eq!([0, 1, 2].map(|slot| camp.rank(slot)), ranks);
    }

    /// Two orders get the same calls; one makes its numbers small all the time.
    #[test]
    fn rebasing_changes_no_order() {
        let (mut plain, mut rebased) = (Camp::default(), Camp::rebasing_at(50));
        let mut random = 1u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let (mut attached, mut detached): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
        let mut free: Vec<u32> = (0..40).collect();
        let mut rebases = 0;
        for _ in 0..20_000 {
            match next(8) {
                0..=2 if !free.is_empty() => {
                    let slot = free.swap_remove(next(free.len() as u64) as usize);
                    let weight = costing(1 + next(100));
                    plain.admit(slot, weight);
                    rebased.admit(slot, weight);
                    attached.push(slot);
                }
                3 | 4 if !attached.is_empty() => {
                    let slot = attached[next(attached.len() as u64) as usize];
                    plain.touch(slot);
                    rebased.touch(slot);
                }
                5 if !attached.is_empty() => {
                    let slot = plain.first().unwrap().1;
                    plain.detach(slot);
                    rebased.detach(slot);
                    attached.retain(|&other| other != slot);
                    detached.push(slot);
                }
                6 if !detached.is_empty() => {
                    let slot = detached.swap_remove(next(detached.len() as u64) as usize);
                    plain.readmit(slot);
                    rebased.readmit(slot);
                    attached.push(slot);
                }
                7 if !attached.is_empty() => {
                    let slot = evict_first(&mut plain);
                    assert_eq!(evict_first(&mut rebased), slot);
                    attached.retain(|&other| other != slot);
                    free.push(slot);
                    plain.renumber();
                    rebases += u32::from(rebased.renumber());
                }
                _ => continue,
            }
            assert_eq!(order(&rebased), order(&plain));
            assert_eq!(rebased.first().map(|(_, slot)| slot), order(&plain).first().copied());
            let ranked = |camp: &Camp| {
                let mut slots = detached.clone();
                slots.sort_by_key(|&slot| camp.rank(slot));
                slots
            };
            assert_eq!(ranked(&rebased), ranked(&plain));
        }
        assert!(rebases > 100, "{rebases} rebases");
    }
}
