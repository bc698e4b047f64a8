//! The specification of a cache, as slow and as plain as it gets: one list in the order of eviction, in which the
//! leased are skipped where they stand. No links, no counters that could drift, no memory.

use crate::order::{Order, Place};
use crate::steps::Setup;
use hapax::Mode;

mod walk;

/// What left, in order: keys and contents.
pub type Left = Vec<(u32, Vec<u8>)>;

/// Why a call changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    Oversize,
    NoRoom { held_bytes: u64 },
    NoEntry,
    OverReservation,
    BudgetHeld { held_bytes: u64 },
    BadBudget,
    Leased,
    BeingFilled,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// The entry's number.
    Hit(u64),
    Miss,
    Busy,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Took {
    Absent,
    Leased,
    Taken(Vec<u8>),
}

/// A resident entry as `snapshot` shows it: key, charge, cost, whether it is leased.
pub type Row = (u32, u64, u64, bool);

#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
pub struct Figures {
    pub hits: u64,
    pub misses: u64,
    pub evictions: u64,
    pub rejections: u64,
    pub entries: usize,
    pub resident_bytes: u64,
    pub retired_bytes: u64,
    pub reserved_bytes: u64,
    pub leased_bytes: u64,
    pub budget_bytes: u64,
}

pub struct Oracle {
    mode: Mode,
    granule_bytes: u64,
    limit_bytes: u64,
    budget_bytes: u64,
    max_entries: usize,
    order: Order,
    /// Next victim first.
    resident: Vec<Entry>,
    /// Without a key, still leased.
    retired: Vec<Entry>,
    /// Retired and unleased since, in the order in which their last leases ended.
    collectable: Vec<Entry>,
    /// Keys being filled, with what is reserved for them.
    vacancies: Vec<(u32, Option<u64>)>,
    numbers: u64,
    counted: Figures,
}

struct Entry {
    number: u64,
    key: u32,
    contents: Vec<u8>,
    cost_ns: u64,
    leases: usize,
    place: Place,
    /// In relaxed mode: used, and no eviction has come by since; and leased when one did.
    used: bool,
    passed: bool,
}

impl Oracle {
    pub fn new(setup: &Setup, limit_bytes: u64) -> Self {
        let Setup { policy, mode, granule_bytes, budget_bytes, max_entries } = *setup;
        Oracle {
            mode,
            order: Order::new(policy),
            granule_bytes,
            limit_bytes,
            budget_bytes,
            max_entries: max_entries.unwrap_or(usize::MAX),
            resident: Vec::new(),
            retired: Vec::new(),
            collectable: Vec::new(),
            vacancies: Vec::new(),
            numbers: 0,
            counted: Figures::default(),
        }
    }

    pub fn insert(&mut self, key: u32, contents: &[u8], cost_ns: u64) -> Result<Left, Refusal> {
        let room = self.make_room_for(key, self.charge(contents.len()));
        let left = self.counting_refusals(room)?;
        self.admit(key, contents, cost_ns);
        Ok(left)
    }

    pub fn get(&mut self, key: u32) -> Found {
        match self.use_again(key) {
            Some(number) => Found::Hit(number),
            None => {
                self.counted.misses += 1;
                Found::Miss
            }
        }
    }

    /// A miss opens a vacancy.
    pub fn lookup(&mut self, key: u32) -> Found {
        if self.is_vacant(key) {
            return Found::Busy;
        }
        let found = self.get(key);
        if found == Found::Miss {
            self.vacancies.push((key, None));
        }
        found
    }

    pub fn reserve(&mut self, key: u32, bytes: usize) -> Result<Left, Refusal> {
        let charge = self.charge(bytes);
        let room = self.make_room(charge, None);
        let left = self.counting_refusals(room)?;
        *self.reserved(key) = Some(charge);
        Ok(left)
    }

    pub fn unreserve(&mut self, key: u32) {
        *self.reserved(key) = None;
    }

    pub fn make_more_room(&mut self, key: u32) -> Left {
        let mut bytes = self.reserved(key).unwrap();
        let mut left = self.collect();
        bytes = bytes.saturating_sub(left.iter().map(|(_, contents)| self.charge(contents.len())).sum());
        if self.mode == Mode::Relaxed {
            self.more_room_relaxed(bytes, &mut left);
            return left;
        }
        while bytes > 0 {
            let Some(victim) = self.resident.iter().position(|entry| entry.leases == 0) else { break };
            bytes = bytes.saturating_sub(self.charge(self.resident[victim].contents.len()));
            left.push(self.evict(victim));
        }
        left
    }

    /// The new entry's number; it is leased once.
    pub fn commit(&mut self, key: u32, contents: &[u8], cost_ns: u64) -> Result<u64, Refusal> {
        let reserved = self.reserved(key).unwrap();
        if self.charge(contents.len()) > reserved {
            return self.counting_refusals(Err(Refusal::OverReservation));
        }
        self.close(key);
        let entry = self.admit(key, contents, cost_ns);
        entry.leases = 1;
        Ok(entry.number)
    }

    pub fn close(&mut self, key: u32) {
        assert!(self.is_vacant(key));
        self.vacancies.retain(|&(vacant, _)| vacant != key);
    }

    pub fn share(&mut self, number: u64) {
        self.leased(number).leases += 1;
    }

    pub fn release(&mut self, number: u64) {
        self.leased(number).leases -= 1;
        if let Some(at) = self.retired.iter().position(|entry| entry.leases == 0) {
            self.collectable.push(self.retired.remove(at));
        }
    }

    pub fn remove(&mut self, key: u32) -> Took {
        match self.position(key) {
            None => Took::Absent,
            Some(at) if self.resident[at].leases > 0 => Took::Leased,
            Some(at) => Took::Taken(self.resident.remove(at).contents),
        }
    }

    pub fn retire(&mut self, key: u32) -> Left {
        let mut left = self.collect();
        if let Some(at) = self.position(key) {
            self.retire_at(at, &mut left);
        }
        left
    }

    pub fn clear(&mut self) -> Left {
        let mut left = self.collect();
        while !self.resident.is_empty() {
            self.retire_at(0, &mut left);
        }
        left
    }

    pub fn collect(&mut self) -> Left {
        self.collectable.drain(..).map(|entry| (entry.key, entry.contents)).collect()
    }

    pub fn set_budget(&mut self, budget_bytes: u64) -> Result<Left, Refusal> {
        if budget_bytes == 0 || budget_bytes > self.limit_bytes {
            return Err(Refusal::BadBudget);
        }
        let held_bytes = self.held_bytes();
        if held_bytes > budget_bytes {
            if self.mode == Mode::Relaxed {
                let before = std::mem::replace(&mut self.budget_bytes, budget_bytes);
                self.refuse_shrink_relaxed();
                self.budget_bytes = before;
            }
            return Err(Refusal::BudgetHeld { held_bytes });
        }
        self.budget_bytes = budget_bytes;
        if self.mode == Mode::Relaxed {
            return Ok(self.shrink_relaxed());
        }
        let mut left = self.collect();
        self.evict_until_fit(0, 0, &mut left);
        Ok(left)
    }

    /// Ends the cache, which has no leases and no vacancies any more.
    pub fn into_all(mut self) -> Left {
        assert!(self.retired.is_empty() && self.vacancies.is_empty());
        let mut left = self.collect();
        left.extend(self.resident.into_iter().map(|entry| (entry.key, entry.contents)));
        left
    }

    pub fn rows(&self) -> Vec<Row> {
        self.resident.iter().map(|entry| self.row(entry)).collect()
    }

    pub fn peek(&self, key: u32) -> Option<Row> {
        self.position(key).map(|at| self.row(&self.resident[at]))
    }

    pub fn figures(&self) -> Figures {
        let leased = self.resident.iter().filter(|entry| entry.leases > 0);
        Figures {
            entries: self.resident.len(),
            resident_bytes: self.sum(&self.resident),
            retired_bytes: self.sum(&self.retired) + self.sum(&self.collectable),
            reserved_bytes: self.vacancies.iter().filter_map(|(_, reserved)| *reserved).sum(),
            leased_bytes: leased.map(|entry| self.charge(entry.contents.len())).sum(),
            budget_bytes: self.budget_bytes,
            ..self.counted
        }
    }

    /// How far the order's clock has run.
    pub fn clock(&self) -> u128 {
        self.order.clock
    }

    /// Everything that the cache holds, whether a key leads to it or not.
    pub fn contents(&self) -> impl Iterator<Item = &[u8]> {
        let held = self.resident.iter().chain(&self.retired).chain(&self.collectable);
        held.map(|entry| &*entry.contents)
    }

    pub fn contents_of(&mut self, number: u64) -> &[u8] {
        &self.leased(number).contents
    }

    pub fn charge(&self, bytes: usize) -> u64 {
        (bytes as u64).next_multiple_of(self.granule_bytes)
    }

    pub fn is_vacant(&self, key: u32) -> bool {
        self.vacancies.iter().any(|&(vacant, _)| vacant == key)
    }

    fn make_room_for(&mut self, key: u32, charge: u64) -> Result<Left, Refusal> {
        if self.is_vacant(key) {
            return Err(Refusal::BeingFilled);
        }
        let at = self.position(key);
        if at.is_some_and(|at| self.resident[at].leases > 0) {
            return Err(Refusal::Leased);
        }
        self.make_room(charge, at)
    }

    fn make_room(&mut self, charge: u64, replaced: Option<usize>) -> Result<Left, Refusal> {
        if charge > self.budget_bytes {
            return Err(Refusal::Oversize);
        }
        if self.mode == Mode::Relaxed {
            return self.make_room_relaxed(charge, replaced);
        }
        if let Some(refusal) = self.refusal(charge, 1) {
            return Err(refusal);
        }
        let mut left = self.collect();
        if let Some(at) = replaced {
            let entry = self.resident.remove(at);
            left.push((entry.key, entry.contents));
        }
        self.evict_until_fit(charge, 1, &mut left);
        Ok(left)
    }

    /// Whether what no eviction can free forbids it.
    fn refusal(&self, charge: u64, entries: usize) -> Option<Refusal> {
        let held_bytes = self.held_bytes();
        if charge + held_bytes > self.budget_bytes {
            return Some(Refusal::NoRoom { held_bytes });
        }
        (self.held_entries() + entries > self.max_entries).then_some(Refusal::NoEntry)
    }

    fn evict_until_fit(&mut self, charge: u64, entries: usize, left: &mut Left) {
        loop {
            let now = self.figures();
            let bytes = now.resident_bytes + now.retired_bytes + now.reserved_bytes + charge;
            let reservations = self.vacancies.iter().filter(|(_, reserved)| reserved.is_some()).count();
            let used = self.resident.len() + self.retired.len() + reservations + entries;
            if bytes <= self.budget_bytes && used <= self.max_entries {
                return;
            }
            let victim = self.resident.iter().position(|entry| entry.leases == 0);
            left.push(self.evict(victim.expect("what is held fits")));
        }
    }

    fn evict(&mut self, at: usize) -> (u32, Vec<u8>) {
        self.counted.evictions += 1;
        let entry = self.resident.remove(at);
        self.order.evicted(entry.place);
        (entry.key, entry.contents)
    }

    fn retire_at(&mut self, at: usize, left: &mut Left) {
        let entry = self.resident.remove(at);
        match entry.leases {
            0 => left.push((entry.key, entry.contents)),
            _ => self.retired.push(entry),
        }
    }

    fn admit(&mut self, key: u32, contents: &[u8], cost_ns: u64) -> &mut Entry {
        self.numbers += 1;
        let place = self.order.place(cost_ns, self.charge(contents.len()), false);
        self.enter(Entry {
            number: self.numbers,
            key,
            contents: contents.to_vec(),
            cost_ns,
            leases: 0,
            place,
            used: false,
            passed: false,
        })
    }

    fn use_again(&mut self, key: u32) -> Option<u64> {
        let at = self.position(key)?;
        Some(if self.mode == Mode::Relaxed { self.hit_relaxed(at) } else { self.use_at(at) })
    }

    fn use_at(&mut self, at: usize) -> u64 {
        self.counted.hits += 1;
        let entry = self.touch(at);
        entry.leases += 1;
        entry.number
    }

    /// As of now the entry was used again.
    fn touch(&mut self, at: usize) -> &mut Entry {
        let mut entry = self.resident.remove(at);
        entry.place = self.order.place(entry.cost_ns, self.charge(entry.contents.len()), true);
        self.enter(entry)
    }

    /// Behind all that leave before it and all that leave with it.
    fn enter(&mut self, entry: Entry) -> &mut Entry {
        let at = self.resident.iter().position(|other| other.place > entry.place).unwrap_or(self.resident.len());
        self.resident.insert(at, entry);
        &mut self.resident[at]
    }

    /// What no eviction can free: leased, retired and leased, reserved.
    fn held_bytes(&self) -> u64 {
        let now = self.figures();
        now.leased_bytes + self.sum(&self.retired) + now.reserved_bytes
    }

    fn held_entries(&self) -> usize {
        let leased = self.resident.iter().filter(|entry| entry.leases > 0).count();
        leased + self.retired.len() + self.vacancies.iter().filter(|(_, reserved)| reserved.is_some()).count()
    }

    fn counting_refusals<T>(&mut self, result: Result<T, Refusal>) -> Result<T, Refusal> {
        self.counted.rejections += u64::from(result.is_err());
        result
    }

    fn position(&self, key: u32) -> Option<usize> {
        self.resident.iter().position(|entry| entry.key == key)
    }

    fn leased(&mut self, number: u64) -> &mut Entry {
        let mut held = self.resident.iter_mut().chain(&mut self.retired);
        held.find(|entry| entry.number == number).expect("a leased entry stays")
    }

    fn reserved(&mut self, key: u32) -> &mut Option<u64> {
        &mut self.vacancies.iter_mut().find(|(vacant, _)| *vacant == key).expect("an open vacancy").1
    }

    fn sum(&self, entries: &[Entry]) -> u64 {
        entries.iter().map(|entry| self.charge(entry.contents.len())).sum()
    }

    fn row(&self, entry: &Entry) -> Row {
        (entry.key, self.charge(entry.contents.len()), entry.cost_ns, entry.leases > 0)
    }
}
