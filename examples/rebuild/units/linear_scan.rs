//! Register allocation by linear scan: each value gets a register or a stack slot for its whole life.
//!
//! M. Poletto, V. Sarkar: Linear Scan Register Allocation (1999).

/// A value is live from the instruction that defines it to its last use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    pub value: u32,
    pub start: u32,
    pub end: u32,
    /// Uses, each weighted by how often its block runs: what is used least is spilled first.
    pub weight: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Register(u8),
    Stack(u32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// In the order in which the values start.
    pub places: Vec<(u32, Place)>,
    pub stack_slots: u32,
}

/// # Panics
/// If `registers` is 0, or more than 64.
pub fn allocate(intervals: &[Interval], registers: u8) -> Allocation {
    assert!((1..=64).contains(&registers), "one to 64 registers");
    let mut sorted = intervals.to_vec();
    sorted.sort_by_key(|interval| (interval.start, interval.value));
    let mut scan = Scan {
        free: u64::MAX >> (64 - u32::from(registers)),
        active: Vec::new(),
        slots_end: Vec::new(),
        places: vec![Place::Stack(0); sorted.len()],
    };
    for at in 0..sorted.len() {
        scan.expire(&sorted, sorted[at].start);
        scan.place(&sorted, at);
    }
    let places = sorted.iter().map(|interval| interval.value).zip(scan.places).collect();
    Allocation { places, stack_slots: scan.slots_end.len() as u32 }
}

/// How many values live at once, at most: with that many registers nothing is spilled.
pub fn pressure(intervals: &[Interval]) -> usize {
    // At one instruction, ends come first: an instruction may write the register that it reads.
    let starts = intervals.iter().map(|interval| (interval.start, 1));
    let mut changes: Vec<(u32, i32)> = starts.chain(intervals.iter().map(|interval| (interval.end, -1))).collect();
    changes.sort_unstable();
    let (mut live, mut most) = (0, 0);
    for (_, change) in changes {
        live += change;
        most = most.max(live);
    }
    most as usize
}

struct Scan {
    /// One bit for each free register.
    free: u64,
    /// Intervals in registers, by their place in the sorted list.
    active: Vec<(usize, u8)>,
    /// Where the last value in each stack slot ends.
    slots_end: Vec<u32>,
    places: Vec<Place>,
}

impl Scan {
    fn expire(&mut self, sorted: &[Interval], now: u32) {
        let free = &mut self.free;
        self.active.retain(|&(at, register)| {
            let alive = sorted[at].end > now;
            *free |= u64::from(!alive) << register;
            alive
        });
    }

    fn place(&mut self, sorted: &[Interval], at: usize) {
        if self.free != 0 {
            let register = self.free.trailing_zeros() as u8;
            self.free &= self.free - 1;
            self.put_in_register(at, register);
            return;
        }
        let lightest = (0..self.active.len()).min_by_key(|&i| spill_order(&sorted[self.active[i].0]));
        let lightest = lightest.expect("no register is free, so some are taken");
        let (victim, register) = self.active[lightest];
        if spill_order(&sorted[victim]) < spill_order(&sorted[at]) {
            self.active.swap_remove(lightest);
            self.put_on_stack(sorted, victim);
            self.put_in_register(at, register);
        } else {
            self.put_on_stack(sorted, at);
        }
    }

    fn put_in_register(&mut self, at: usize, register: u8) {
        self.places[at] = Place::Register(register);
        self.active.push((at, register));
    }

    fn put_on_stack(&mut self, sorted: &[Interval], at: usize) {
        let interval = &sorted[at];
        let slot = self.slots_end.iter().position(|&end| end <= interval.start);
        let slot = slot.unwrap_or_else(|| {
            self.slots_end.push(0);
            self.slots_end.len() - 1
        });
        self.slots_end[slot] = interval.end;
        self.places[at] = Place::Stack(slot as u32);
    }
}

/// The cheapest to keep in memory first; among equals the one that would hold a register longest.
fn spill_order(interval: &Interval) -> (u64, std::cmp::Reverse<u32>) {
    (interval.weight, std::cmp::Reverse(interval.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intervals(count: u32) -> Vec<Interval> {
        let one = |value: u32| {
            let mixed = value.wrapping_mul(2_654_435_761);
            let start = mixed >> 8 & 0xff;
            Interval { value, start, end: start + 1 + (mixed >> 20 & 31), weight: u64::from(mixed & 7) }
        };
        (0..count).map(one).collect()
    }

    fn overlap(a: &Interval, b: &Interval) -> bool {
        a.start < b.end && b.start < a.end
    }

    #[test]
    fn values_that_live_at_once_never_share_a_place() {
        for registers in [1, 3, 8, 64] {
            let intervals = intervals(200);
            let allocation = allocate(&intervals, registers);
            let placed: Vec<_> =
                allocation.places.iter().map(|&(value, place)| (&intervals[value as usize], place)).collect();
            for (i, (a, a_place)) in placed.iter().enumerate() {
                for (b, b_place) in &placed[i + 1..] {
                    assert!(!(overlap(a, b) && a_place == b_place), "{a:?} and {b:?} share {a_place:?}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_spilled_when_registers_suffice() {
        let intervals = intervals(100);
        let enough = u8::try_from(pressure(&intervals)).unwrap();
        assert_eq!(allocate(&intervals, enough).stack_slots, 0);
        assert!(allocate(&intervals, enough - 1).stack_slots > 0);
    }
}
