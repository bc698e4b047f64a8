//! Who touched which bytes last: byte ranges and the operations that no later one has been ordered after yet.
//! Knows no stream and no allocation; what "ordered" means is the caller's.

use crate::model::clock::Epoch;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// What made an access: a driver call, or a kernel that one launched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    pub call: &'static str,
    pub kernel: Option<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    pub epoch: Epoch,
    pub cause: Cause,
}

/// A new access met an old one that it is not ordered after; at least one of them writes.
#[derive(Debug, PartialEq, Eq)]
pub struct Conflict {
    pub range: Range<u64>,
    pub old: Access,
    pub old_wrote: bool,
}

/// The last write of each byte and the reads since.
#[derive(Default)]
pub struct Shadow(BTreeMap<u64, Cell>);

#[derive(Clone, PartialEq)]
struct Cell {
    end: u64,
    write: Option<Access>,
    reads: Vec<Access>,
}

impl Shadow {
    /// Notes that `new` reads or writes `range`, and returns what it is not `ordered` after. Costs
    /// O(log n + pieces of `range`).
    pub fn access(
        &mut self,
        range: Range<u64>,
        new: &Access,
        writes: bool,
        ordered: impl Fn(Epoch) -> bool,
    ) -> Vec<Conflict> {
        let mut conflicts = Vec::new();
        if range.is_empty() {
            return conflicts;
        }
        self.split(range.start);
        self.split(range.end);
        for (&start, cell) in self.0.range(range.clone()) {
            let met = cell.write.iter().map(|old| (old, true));
            let met = met.chain(cell.reads.iter().filter(|_| writes).map(|old| (old, false)));
            for (old, old_wrote) in met.filter(|(old, _)| !ordered(old.epoch)) {
                report(&mut conflicts, start..cell.end, old, old_wrote);
            }
        }
        if writes {
            // What follows this write follows, through it, all that it was ordered after; the rest is reported.
            self.forget(range.clone());
            self.0.insert(range.start, Cell { end: range.end, write: Some(new.clone()), reads: Vec::new() });
        } else {
            self.fill_gaps(range.clone());
            for (_, cell) in self.0.range_mut(range.clone()) {
                cell.reads.retain(|old| !ordered(old.epoch));
                cell.reads.push(new.clone());
            }
        }
        self.merge_around(range);
        conflicts
    }

    /// Whatever touched `range` and is not `known` to be over.
    pub fn unknown(&self, range: Range<u64>, known: impl Fn(Epoch) -> bool) -> Vec<Conflict> {
        let mut conflicts = Vec::new();
        let first = self.0.range(..=range.start).next_back().map_or(range.start, |(start, _)| *start);
        for (&start, cell) in self.0.range(first..range.end).filter(|(_, cell)| cell.end > range.start) {
            let met = cell.write.iter().map(|old| (old, true)).chain(cell.reads.iter().map(|old| (old, false)));
            for (old, wrote) in met.filter(|(old, _)| !known(old.epoch)) {
                report(&mut conflicts, start.max(range.start)..cell.end.min(range.end), old, wrote);
            }
        }
        conflicts
    }

    /// The memory is gone, or fresh.
    pub fn forget(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        self.split(range.start);
        self.split(range.end);
        let gone: Vec<u64> = self.0.range(range).map(|(start, _)| *start).collect();
        for start in gone {
            self.0.remove(&start);
        }
    }

    /// Drops accesses that everything to come is ordered after.
    pub fn prune(&mut self, known: impl Fn(Epoch) -> bool) {
        self.0.retain(|_, cell| {
            cell.reads.retain(|access| !known(access.epoch));
            if cell.write.as_ref().is_some_and(|access| known(access.epoch)) {
                cell.write = None;
            }
            cell.write.is_some() || !cell.reads.is_empty()
        });
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    fn split(&mut self, at: u64) {
        let Some((&start, cell)) = self.0.range_mut(..at).next_back() else { return };
        if cell.end > at && start < at {
            let tail = cell.clone();
            cell.end = at;
            self.0.insert(at, tail);
        }
    }

    fn fill_gaps(&mut self, range: Range<u64>) {
        let mut at = range.start;
        let mut gaps = Vec::new();
        for (&start, cell) in self.0.range(range.clone()) {
            if at < start {
                gaps.push(at..start);
            }
            at = cell.end;
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        for gap in gaps {
            self.0.insert(gap.start, Cell { end: gap.end, write: None, reads: Vec::new() });
        }
    }

    fn merge_around(&mut self, range: Range<u64>) {
        let before = self.0.range(..range.start).next_back().map(|(start, _)| *start);
        let from = before.unwrap_or(range.start);
        let starts: Vec<u64> = self.0.range(from..=range.end).map(|(start, _)| *start).collect();
        let mut left = None::<u64>;
        for start in starts {
            let cell = &self.0[&start];
            let (end, joins) = match left.map(|left| &self.0[&left]) {
                Some(l) => (cell.end, l.end == start && l.write == cell.write && l.reads == cell.reads),
                None => (cell.end, false),
            };
            match left {
                Some(l) if joins => {
                    self.0.remove(&start);
                    self.0.get_mut(&l).expect("the left neighbour stays").end = end;
                }
                _ => left = Some(start),
            }
        }
    }
}

fn report(conflicts: &mut Vec<Conflict>, range: Range<u64>, old: &Access, old_wrote: bool) {
    let same = conflicts.iter_mut().find(|c| c.old == *old && c.old_wrote == old_wrote);
    match same {
        Some(conflict) => {
            conflict.range.start = conflict.range.start.min(range.start);
            conflict.range.end = conflict.range.end.max(range.end);
        }
        None => conflicts.push(Conflict { range, old: old.clone(), old_wrote }),
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kernel {
            Some(kernel) => write!(f, "kernel {kernel} ({})", self.call),
            None => f.write_str(self.call),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(stream: u64, number: u64) -> Access {
        Access { epoch: Epoch { stream, number }, cause: Cause { call: "call", kernel: None } }
    }

    fn nothing(_: Epoch) -> bool {
        false
    }

    #[test]
    fn two_reads_never_conflict_and_a_write_conflicts_with_both() {
        let mut shadow = Shadow::default();
        assert!(shadow.access(0..10, &access(1, 1), false, nothing).is_empty());
        assert!(shadow.access(5..15, &access(2, 2), false, nothing).is_empty());
        let met = shadow.access(0..20, &access(3, 3), true, nothing);
        assert_eq!(
            met.iter().map(|c| (c.old.epoch.stream, c.range.clone())).collect::<Vec<_>>(),
            [(1, 0..10), (2, 5..15)]
        );
    }

    #[test]
    fn neighbouring_ranges_do_not_conflict() {
        let mut shadow = Shadow::default();
        shadow.access(0..256, &access(1, 1), true, nothing);
        assert!(shadow.access(256..512, &access(2, 2), true, nothing).is_empty());
        assert_eq!(shadow.access(255..256, &access(2, 3), true, nothing).len(), 1);
    }

    #[test]
    fn pieces_that_have_become_equal_are_one_again() {
        let mut shadow = Shadow::default();
        for at in 0..100 {
            shadow.access(at..at + 1, &access(1, 1), true, |_| true);
        }
        assert_eq!(shadow.len(), 1);
        shadow.access(10..20, &access(2, 2), false, |_| true);
        assert_eq!(shadow.len(), 3);
        shadow.prune(|epoch| epoch.stream == 2);
        shadow.access(0..100, &access(3, 3), false, |_| true);
        assert_eq!(shadow.len(), 1);
        shadow.prune(|_| true);
        assert_eq!(shadow.len(), 0);
    }

    /// Each byte on its own, against the ranges.
    #[test]
    fn ranges_agree_with_an_oracle_of_single_bytes() {
        let mut seed = 7_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let mut shadow = Shadow::default();
        let mut bytes: Vec<Vec<(Access, bool)>> = vec![Vec::new(); 64];
        for number in 1..5_000 {
            let start = random(60);
            let range = start..start + 1 + random(63 - start);
            let (new, writes) = (access(random(4), number), random(2) == 0);
            let blind = random(4);
            // A stream knows itself and all but one of the others, up to a moving horizon.
            let ordered = |e: Epoch| e.stream == new.epoch.stream || (e.stream != blind && e.number + 8 < number);
            let mut expected = Vec::new();
            for byte in range.clone() {
                let notes = &mut bytes[byte as usize];
                for (old, wrote) in notes.iter() {
                    if (*wrote || writes) && !ordered(old.epoch) && !expected.contains(&(old.epoch, *wrote)) {
                        expected.push((old.epoch, *wrote));
                    }
                }
                if writes {
                    notes.clear();
                } else {
                    notes.retain(|(old, wrote)| *wrote || !ordered(old.epoch));
                }
                notes.push((new.clone(), writes));
            }
            let met = shadow.access(range, &new, writes, ordered);
            let mut met: Vec<_> = met.iter().map(|c| (c.old.epoch, c.old_wrote)).collect();
            met.sort_by_key(|(epoch, wrote)| (epoch.number, *wrote));
            expected.sort_by_key(|(epoch, wrote)| (epoch.number, *wrote));
            assert_eq!(met, expected, "operation {number}");
        }
    }
}
