//! Relaxed mode, as one thread sees it: a hit only marks its entry, and an eviction that comes to a marked entry lets it stay, as
//! if it had been used then. An entry that an eviction met leased is *passed*: it keeps its place, and its next hit
//! counts at once.

use crate::oracle::{Left, Oracle, Refusal};

/// What the next eviction of one call has to free, and what it found.
struct Walk {
    bytes: u64,
    entries: usize,
    found: Vec<u64>,
}

impl Oracle {
    pub(super) fn hit_relaxed(&mut self, at: usize) -> u64 {
        let entry = &mut self.resident[at];
        if entry.passed {
            let number = entry.number;
            self.resident[at].passed = false;
            self.use_at(at);
            return number;
        }
        entry.leases += 1;
        entry.used = true;
        self.counted.hits += 1;
        entry.number
    }

    pub(super) fn make_room_relaxed(&mut self, charge: u64, replaced: Option<usize>) -> Result<Left, Refusal> {
        let replaced = replaced.map(|at| self.resident[at].number);
        if let Some(refusal) = self.refusal(charge, 1) {
            // Unless it knows without a look: each entry that it would have to leave alone was met before.
            if !self.is_known(charge, 1) {
                let need = self.need(charge, 1, replaced);
                let walk = self.walk(need, replaced);
                self.pass(walk);
            }
            return Err(refusal);
        }
        let need = self.need(charge, 1, replaced);
        let walk = if need == (0, 0) && replaced.is_none() { Walk::new(need) } else { self.walk(need, replaced) };
        let mut left = self.collect();
        if let Some(at) = replaced.and_then(|number| self.at(number)) {
            let entry = self.resident.remove(at);
            left.push((entry.key, entry.contents));
        }
        self.evict_found(walk, replaced, &mut left);
        Ok(left)
    }

    /// The budget was set already, and what is held fits.
    pub(super) fn shrink_relaxed(&mut self) -> Left {
        let need = self.need(0, 0, None);
        let walk = if need == (0, 0) { Walk::new(need) } else { self.walk(need, None) };
        let mut left = self.collect();
        self.evict_found(walk, None, &mut left);
        left
    }

    /// A refused shrink has walked, too.
    pub(super) fn refuse_shrink_relaxed(&mut self) {
        if !self.is_known(0, 0) {
            let need = self.need(0, 0, None);
            let walk = self.walk(need, None);
            self.pass(walk);
        }
    }

    pub(super) fn more_room_relaxed(&mut self, bytes: u64, left: &mut Left) {
        if bytes > 0 {
            let walk = self.walk((bytes, 0), None);
            self.evict_found(walk, None, left);
        }
    }

    fn walk(&mut self, need: (u64, usize), replaced: Option<u64>) -> Walk {
        let mut walk = Walk::new(need);
        while walk.bytes > 0 || walk.entries > 0 {
            self.let_used_stay(&walk);
            let may_leave = |entry: &super::Entry| !entry.passed || entry.leases == 0;
            let next = self.resident.iter().position(|entry| may_leave(entry) && !walk.found.contains(&entry.number));
            let Some(at) = next else { break };
            let charge = self.charge(self.resident[at].contents.len());
            let entry = &mut self.resident[at];
            if entry.leases > 0 {
                entry.passed = true;
                continue;
            }
            walk.found.push(entry.number);
            if Some(entry.number) != replaced {
                walk.bytes = walk.bytes.saturating_sub(charge);
                walk.entries = walk.entries.saturating_sub(1);
            }
        }
        walk
    }

    /// Those at the head of what was not passed.
    fn let_used_stay(&mut self, walk: &Walk) {
        loop {
            let found = |number| walk.found.contains(&number);
            let head = self.resident.iter().position(|entry| !entry.passed && !found(entry.number));
            let Some(at) = head.filter(|&at| self.resident[at].used) else { return };
            self.resident[at].used = false;
            self.touch(at);
        }
    }

    fn pass(&mut self, walk: Walk) {
        for entry in &mut self.resident {
            entry.passed |= walk.found.contains(&entry.number);
        }
    }

    fn evict_found(&mut self, walk: Walk, replaced: Option<u64>, left: &mut Left) {
        for number in walk.found.into_iter().filter(|&number| Some(number) != replaced) {
            let at = self.at(number).expect("what was found is there");
            left.push(self.evict(at));
        }
    }

    fn need(&self, charge: u64, entries: usize, replaced: Option<u64>) -> (u64, usize) {
        let now = self.figures();
        let mut bytes = now.resident_bytes + self.sum(&self.retired) + now.reserved_bytes + charge;
        let reservations = self.vacancies.iter().filter(|(_, reserved)| reserved.is_some()).count();
        let mut used = self.resident.len() + self.retired.len() + reservations + entries;
        if let Some(at) = replaced.and_then(|number| self.at(number)) {
            bytes -= self.charge(self.resident[at].contents.len());
            used -= 1;
        }
        (bytes.saturating_sub(self.budget_bytes), used.saturating_sub(self.max_entries))
    }

    fn is_known(&self, charge: u64, entries: usize) -> bool {
        let now = self.figures();
        let passed = || self.resident.iter().filter(|entry| entry.passed && entry.leases > 0);
        let bytes: u64 = passed().map(|entry| self.charge(entry.contents.len())).sum();
        let reservations = self.vacancies.iter().filter(|(_, reserved)| reserved.is_some()).count();
        let held_entries = passed().count() + self.retired.len() + reservations;
        charge + bytes + self.sum(&self.retired) + now.reserved_bytes > self.budget_bytes
            || held_entries + entries > self.max_entries
    }

    fn at(&self, number: u64) -> Option<usize> {
        self.resident.iter().position(|entry| entry.number == number)
    }
}

impl Walk {
    fn new((bytes, entries): (u64, usize)) -> Self {
        Walk { bytes, entries, found: Vec::new() }
    }
}
