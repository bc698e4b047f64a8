//! The layer in memory: what is known, what of it the journal does not have yet, and the bound. Everything under `&mut
//! self`: no locks, no journal, no clock of its own.

use crate::hints::batch::Known;
use crate::hints::counts::{Compiled, Counts, Days, charge_bytes};
use crate::hints::report::Hint;
use crate::persist::fingerprint::Fingerprint;
use hashbrown::HashMap;

/// Records under a byte bound, the least recently used beyond it forgotten.
pub(crate) struct Table {
    slots: HashMap<Fingerprint, Slot>,
    /// The slots with a delta, each once.
    dirty: Vec<Fingerprint>,
    /// Deltas whose records were forgotten: the journal is still owed them.
    orphans: Vec<(Fingerprint, Counts)>,
    bytes: u64,
    budget_bytes: u64,
    latest_use_unix_ns: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) evictions: u64,
}

/// What is known of one compilation is the join of the two.
#[derive(Default)]
struct Slot {
    /// What the journal has, or was handed.
    saved: Counts,
    /// What came since.
    delta: Option<Box<Counts>>,
    bytes: u64,
}

impl Table {
    pub(crate) fn new(budget_bytes: u64) -> Table {
        Table {
            slots: HashMap::new(),
            dirty: Vec::new(),
            orphans: Vec::new(),
            bytes: 0,
            budget_bytes,
            latest_use_unix_ns: 0,
            hits: 0,
            misses: 0,
            evictions: 0,
        }
    }

    /// What is known under a name, as one. O(days).
    pub(crate) fn look_up(&mut self, fingerprint: &Fingerprint) -> Option<Hint> {
        let Some(slot) = self.slots.get(fingerprint) else {
            self.misses += 1;
            return None;
        };
        self.hits += 1;
        Some(slot.hint())
    }

    pub(crate) fn entry(&self, fingerprint: &Fingerprint) -> Option<Entry<'_>> {
        self.slots.get_key_value(fingerprint).map(|(fingerprint, slot)| Entry { fingerprint, slot })
    }

    /// Everything, in no particular order.
    pub(crate) fn records(&self) -> impl Iterator<Item = Entry<'_>> {
        self.slots.iter().map(|(fingerprint, slot)| Entry { fingerprint, slot })
    }

    /// Returns how many records were forgotten for it, as all that adds does.
    pub(crate) fn record_hit(&mut self, fingerprint: &Fingerprint, now_unix_ns: u64) -> u64 {
        self.record(fingerprint, now_unix_ns, |delta, used, day| delta.add_hit(used, day))
    }

    pub(crate) fn record_compile(&mut self, fingerprint: &Fingerprint, now_unix_ns: u64, one: &Compiled) -> u64 {
        self.record(fingerprint, now_unix_ns, |delta, used, day| delta.add_compile(used, day, one))
    }

    fn record(&mut self, fingerprint: &Fingerprint, now_unix_ns: u64, add: impl FnOnce(&mut Counts, u64, u32)) -> u64 {
        // Later than every use before it, also when the clock went back or did not move: the order of uses must hold.
        let used = now_unix_ns.max(self.latest_use_unix_ns.saturating_add(1));
        self.latest_use_unix_ns = used;
        let slot = self.slots.entry(*fingerprint).or_default();
        let day = slot.saved.days.kept_as(Days::day_of(now_unix_ns));
        let dirty = &mut self.dirty;
        let delta = slot.delta.get_or_insert_with(|| {
            dirty.push(*fingerprint);
            Box::default()
        });
        let days = delta.days.len();
        add(delta, used, day);
        if delta.days.len() == days && slot.bytes > 0 {
            return 0;
        }
        self.bytes += slot.recharge();
        self.evict()
    }

    /// Deltas that the journal does not have.
    pub(crate) fn pending(&self) -> usize {
        self.dirty.len() + self.orphans.len()
    }

    /// Of those, the ones whose records were forgotten.
    pub(crate) fn orphans(&self) -> usize {
        self.orphans.len()
    }

    /// Hands out the deltas; from now on they count as saved. O(deltas).
    pub(crate) fn take_deltas(&mut self) -> Vec<(Fingerprint, Counts)> {
        let mut deltas = std::mem::take(&mut self.orphans);
        for fingerprint in self.dirty.drain(..) {
            let slot = self.slots.get_mut(&fingerprint).expect("a dirty name has a slot");
            let delta = slot.delta.take().expect("a dirty slot has a delta");
            slot.saved.join(&delta);
            deltas.push((fingerprint, *delta));
        }
        deltas
    }

    /// Puts what the journal says in the place of what it said before; deltas stay. O(records).
    pub(crate) fn set_saved(&mut self, known: Known) -> u64 {
        for slot in self.slots.values_mut() {
            slot.saved = Counts::default();
        }
        self.slots.retain(|_, slot| slot.delta.is_some());
        for (fingerprint, counts) in known {
            self.latest_use_unix_ns = self.latest_use_unix_ns.max(counts.last_used_unix_ns);
            self.slots.entry(fingerprint).or_default().saved = counts;
        }
        self.bytes = 0;
        for slot in self.slots.values_mut() {
            slot.recharge();
            self.bytes += slot.bytes;
        }
        self.evict()
    }

    /// Forgets everything, what the journal is owed too.
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
        self.dirty.clear();
        self.orphans.clear();
        self.bytes = 0;
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Forgets the least recently used, an eighth of the bound at once: so the order costs nothing on each use, and
    /// sorting costs little on each insertion.
    fn evict(&mut self) -> u64 {
        if self.bytes <= self.budget_bytes {
            return 0;
        }
        let before = self.evictions;
        let mut by_use: Vec<(u64, Fingerprint)> =
            self.slots.iter().map(|(fingerprint, slot)| (slot.last_used_unix_ns(), *fingerprint)).collect();
        by_use.sort_unstable();
        let mark = self.budget_bytes - self.budget_bytes / 8;
        for (_, fingerprint) in by_use {
            if self.bytes <= mark {
                break;
            }
            let slot = self.slots.remove(&fingerprint).expect("it was listed just now");
            self.bytes -= slot.bytes;
            self.evictions += 1;
            if let Some(delta) = slot.delta {
                self.orphans.push((fingerprint, *delta));
            }
        }
        let slots = &self.slots;
        self.dirty.retain(|fingerprint| slots.contains_key(fingerprint));
        self.evictions - before
    }

    /// Panics if the books do not add up. For tests; O(records).
    pub(crate) fn validate(&self) {
        let mut charged = 0;
        for (fingerprint, slot) in &self.slots {
            let mut joined = slot.saved.clone();
            if let Some(delta) = &slot.delta {
                joined.join(delta);
                assert!(self.dirty.contains(fingerprint), "a delta that no flush would find");
            }
            assert_eq!(slot.bytes, charge_bytes(joined.days.len()));
            assert_eq!(slot.hint(), Hint::new(joined.compiled, joined.hits, joined.last_used_unix_ns));
            assert!(joined.last_used_unix_ns <= self.latest_use_unix_ns);
            charged += slot.bytes;
        }
        assert_eq!(charged, self.bytes);
        assert!(self.bytes <= self.budget_bytes);
        assert_eq!(self.dirty.len(), self.slots.values().filter(|slot| slot.delta.is_some()).count());
    }
}

/// One record, borrowed.
pub(crate) struct Entry<'a> {
    pub(crate) fingerprint: &'a Fingerprint,
    slot: &'a Slot,
}

impl<'a> Entry<'a> {
    pub(crate) fn days(&self) -> impl Iterator<Item = &'a Days> {
        self.slot.days()
    }

    pub(crate) fn hint(&self) -> Hint {
        self.slot.hint()
    }
}

impl Slot {
    fn hint(&self) -> Hint {
        let Some(delta) = &self.delta else {
            return Hint::new(self.saved.compiled, self.saved.hits, self.saved.last_used_unix_ns);
        };
        let compiled = match (self.saved.compiled, delta.compiled) {
            (Some(mut saved), Some(since)) => {
                saved.join(&since);
                Some(saved)
            }
            (saved, since) => saved.or(since),
        };
        Hint::new(compiled, self.saved.hits.saturating_add(delta.hits), self.last_used_unix_ns())
    }

    fn last_used_unix_ns(&self) -> u64 {
        let since = self.delta.as_ref().map_or(0, |delta| delta.last_used_unix_ns);
        self.saved.last_used_unix_ns.max(since)
    }

    fn days(&self) -> impl Iterator<Item = &Days> {
        [Some(&self.saved.days), self.delta.as_ref().map(|delta| &delta.days)].into_iter().flatten()
    }

    /// Brings the charge up to date; returns by how much it grew.
    fn recharge(&mut self) -> u64 {
        let days = match &self.delta {
            Some(delta) => self.saved.days.joined_len(&delta.days),
            None => self.saved.days.len(),
        };
        let bytes = charge_bytes(days);
        let grown = bytes - self.bytes.min(bytes);
        self.bytes = bytes;
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u64) -> Fingerprint {
        Fingerprint::of("table").part("number", number.to_le_bytes()).finish()
    }

    fn names(table: &Table, among: u64) -> Vec<u64> {
        (0..among).filter(|number| table.slots.contains_key(&name(*number))).collect()
    }

    #[test]
    fn the_least_recently_used_are_forgotten_and_their_deltas_are_not() {
        let mut table = Table::new(8 * charge_bytes(1));
        for number in 0..8 {
            table.record_hit(&name(number), 100);
        }
        table.record_hit(&name(0), 100);
        table.validate();
        assert_eq!(table.len(), 8);
        table.record_hit(&name(8), 100);
        table.validate();
        assert_eq!((names(&table, 9), table.evictions), (vec![0, 3, 4, 5, 6, 7, 8], 2));
        let deltas = table.take_deltas();
        table.validate();
        assert_eq!((deltas.len(), table.pending()), (9, 0));
    }

    #[test]
    fn the_order_of_uses_survives_a_clock_that_goes_back_or_stands() {
        let mut table = Table::new(4 * charge_bytes(1));
        for (number, now) in [(0, 1_000), (1, 1_000), (2, 5), (3, 5)] {
            table.record_hit(&name(number), now);
        }
        table.record_hit(&name(4), 1);
        assert_eq!(names(&table, 5), [2, 3, 4]);
        table.validate();
    }

    #[test]
    fn what_is_known_is_what_was_saved_and_what_came_since() {
        let mut table = Table::new(1 << 20);
        table.record_compile(&name(0), 50, &Compiled::once(50, 7, 100));
        let (_, first) = table.take_deltas().remove(0);
        table.record_compile(&name(0), 60, &Compiled::once(60, 9, 40));
        let known = |table: &mut Table| {
            let hint = table.look_up(&name(0)).unwrap();
            (hint.compile_count, hint.compile_ns, hint.compile_ns_min, hint.size_bytes, hint.last_used_unix_ns)
        };
        assert_eq!(known(&mut table), (2, 140, 40, 9, 60));
        // Another process doubled what was saved.
        let mut both = first.clone();
        both.join(&first);
        table.set_saved(Known::from_iter([(name(0), both)]));
        table.validate();
        assert_eq!(known(&mut table), (3, 240, 40, 9, 60));
        table.clear();
        table.validate();
        assert!(table.look_up(&name(0)).is_none());
    }
}
