//! Making room: which entries leave so that something new fits. All of it happens before anything is admitted, and a
//! refusal changes nothing.

use crate::cache::core::relaxed::{CHANCES, let_used_stay};
use crate::cache::core::{Core, Removed, Sum};
use crate::cache::count::{Counts, PASSED, RETIRED};
use crate::cache::planted::{Bug, planted};
use crate::cache::policy::{Order, Rank};
use crate::cache::slot::{Slot, Stored};
use crate::error::Error;
use smallvec::SmallVec;

/// A victim found by a plan. Those of the queue are detached already.
struct Step {
    slot: u32,
    rank: Rank,
    aside: bool,
}

type Plan = SmallVec<[Step; 4]>;

impl<K: Eq, S: Stored, P: Order> Core<K, S, P> {
    /// Evicts the shortest prefix of the unleased that frees `bytes`, or all of them if they are fewer.
    pub(crate) fn evict_bytes(&mut self, bytes: u64, counts: &Counts, out: &mut Removed<K, S>) {
        let before = self.collectable_sum.bytes;
        self.collect(counts, out);
        let need = Sum { bytes: bytes.saturating_sub(before), entries: 0 };
        let (plan, _) = self.plan(need, None, &mut { CHANCES }, counts);
        self.evict(plan, None, counts, out);
    }

    /// What no eviction can free, as far as it is known without a walk.
    #[inline]
    fn known_held(&self) -> Sum {
        let mut held = self.fixed;
        held.add(self.passed);
        held
    }

    /// What no eviction can free. O(entries): for errors. Of a passed entry it believes what a refusal believed, that it is
    /// leased until its release is told, and not the count, which may know better by now.
    pub(super) fn held_bytes(&self, counts: &Counts) -> u64 {
        let not_passed = self.slots.iter().filter_map(|(slot, held)| match held {
            Slot::Resident { value, .. }
                if counts.at(slot).is_leased() && !counts.at(slot).is_flagged(PASSED | RETIRED) =>
            {
                Some(value.charge_bytes(self.granule_bytes))
            }
            _ => None,
        });
        self.known_held().bytes + not_passed.sum::<u64>()
    }

    /// Evicts until `new` fits beside what stays. The entry to be replaced leaves too, and is no victim.
    #[inline(always)]
    pub(super) fn make_room(
        &mut self,
        new: Sum,
        replaced: Option<u32>,
        counts: &Counts,
    ) -> Result<Removed<K, S>, Error> {
        let held = self.known_held();
        let oversize = new.bytes > self.budget_bytes; // asked first: beyond it the next sum may not fit 64 bits
        if oversize || new.bytes + held.bytes > self.budget_bytes || held.entries + new.entries > self.max_entries {
            return Err(self.refusal(new));
        }
        let mut after = new;
        after.add(self.resident);
        after.add(self.fixed);
        if let Some(slot) = replaced {
            after.sub(self.sum_of(slot));
        }
        let need = Sum {
            bytes: after.bytes.saturating_sub(self.budget_bytes),
            entries: after.entries.saturating_sub(self.max_entries),
        };
        if replaced.is_some() || !self.collectable.is_empty() {
            return self.evict_by_plan(new, need, replaced, CHANCES, counts);
        }
        if need == Sum::default() {
            return Ok(Removed::new());
        }
        let mut chances = CHANCES;
        self.let_used_stay(&mut chances, counts);
        if let Some((slot, sum)) = self.sole_victim(need, counts) {
            Ok(Removed::one(self.evict_one(slot, sum, counts)))
        } else {
            self.evict_by_plan(new, need, replaced, chances, counts)
        }
    }

    /// Why what is held leaves no room.
    #[cold]
    fn refusal(&self, new: Sum) -> Error {
        let (need_bytes, budget_bytes, held_bytes) = (new.bytes, self.budget_bytes, self.known_held().bytes);
        if need_bytes > budget_bytes {
            Error::Oversize { need_bytes, budget_bytes }
        } else if need_bytes + held_bytes > budget_bytes {
            Error::NoRoom { need_bytes, held_bytes, budget_bytes }
        } else {
            Error::NoEntry { max_entries: self.max_entries }
        }
    }

    /// The common case: the next victim is enough. It is closed.
    #[inline(always)]
    fn sole_victim(&self, need: Sum, counts: &Counts) -> Option<(u32, Sum)> {
        let (_, slot) = self.policy.first()?;
        let sum = self.sum_of(slot);
        (self.aside.is_empty() && sum.covers(need) && counts.at(slot).close()).then_some((slot, sum))
    }

    #[inline(always)]
    fn evict_one(&mut self, slot: u32, sum: Sum, counts: &Counts) -> (K, S) {
        self.policy.evict(slot);
        self.policy.remove(slot);
        self.renumber();
        self.counters.evictions += 1;
        let next = self.policy.first().map(|(_, next)| (next, self.slots.hash(next)));
        let victim = self.take_charged(slot, sum, counts);
        self.ahead = next;
        victim
    }

    /// Everything else. Out of line, so that the common case need not carry it along.
    #[cold]
    fn evict_by_plan(
        &mut self,
        new: Sum,
        need: Sum,
        replaced: Option<u32>,
        mut chances: u32,
        counts: &Counts,
    ) -> Result<Removed<K, S>, Error> {
        let (plan, freed) = self.plan(need, replaced, &mut chances, counts);
        if !freed.covers(need) {
            self.set_aside(plan, counts);
            return Err(self.refusal(new)); // every leased entry is passed now
        }
        let mut out = Removed::new();
        self.collect(counts, &mut out);
        self.evict(plan, replaced, counts, &mut out);
        Ok(out)
    }

    /// Walks the order until enough is found: leased entries of the queue are passed, unleased ones detached and closed.
    fn plan(&mut self, need: Sum, replaced: Option<u32>, chances: &mut u32, counts: &Counts) -> (Plan, Sum) {
        let lock_free = self.table.is_lock_free();
        let Core { policy, slots, aside, passed, granule_bytes, .. } = self;
        let mut aside = aside.iter().peekable();
        let mut plan = Plan::new();
        let mut freed = Sum::default();
        while !freed.covers(need) {
            if lock_free {
                let_used_stay(policy, chances, counts);
            }
            let step = match (aside.peek(), policy.first()) {
                (None, None) => break,
                (Some((rank, _)), queued) if queued.is_none_or(|(first, _)| **rank <= first) => {
                    let (&rank, &slot) = aside.next().expect("peeked");
                    Step { slot, rank, aside: true }
                }
                (_, queued) => {
                    let slot = queued.expect("one of the two is there").1;
                    let rank = policy.detach(slot);
                    // The one to be replaced was found unleased, and closed.
                    if Some(slot) != replaced && counts.at(slot).flag_if_leased(PASSED) {
                        passed.add(Sum::one(slots.value(slot).charge_bytes(*granule_bytes)));
                        continue;
                    }
                    Step { slot, rank, aside: false }
                }
            };
            if Some(step.slot) != replaced {
                freed.add(Sum::one(slots.value(step.slot).charge_bytes(*granule_bytes)));
            }
            plan.push(step);
        }
        (plan, freed)
    }

    /// The plan does not suffice: what it detached keeps its rank aside, so that the order stays.
    fn set_aside(&mut self, plan: Plan, counts: &Counts) {
        for Step { slot, rank, .. } in plan.into_iter().filter(|step| !step.aside) {
            if planted(Bug::OpenedBeforePassed) {
                self.reopen_for_front(slot, counts);
            }
            counts.at(slot).flag(PASSED); // first: a hit that finds it open and not passed goes on without the core
            self.reopen_for_front(slot, counts);
            self.aside.insert(rank, slot);
            self.aside_sum.add(self.sum_of(slot));
        }
    }

    fn evict(&mut self, plan: Plan, replaced: Option<u32>, counts: &Counts, out: &mut Removed<K, S>) {
        if let Some(slot) = replaced {
            let detached = plan.iter().any(|step| step.slot == slot && !step.aside);
            let entry = if detached { self.take(slot, counts) } else { self.remove(slot, counts) };
            out.push(entry);
        }
        for Step { slot, aside, .. } in plan.into_iter().filter(|step| Some(step.slot) != replaced) {
            self.policy.evict(slot);
            let entry = if aside {
                counts.at(slot).shut();
                self.remove(slot, counts)
            } else {
                self.take(slot, counts)
            };
            self.counters.evictions += 1;
            out.push(entry);
        }
        self.renumber();
    }

    /// The order may have got new numbers; what is aside is filed under them.
    #[inline]
    fn renumber(&mut self) {
        if self.policy.renumber() {
            self.file_again();
        }
    }

    #[cold]
    fn file_again(&mut self) {
        let slots: Vec<u32> = std::mem::take(&mut self.aside).into_values().collect();
        self.aside = slots.into_iter().map(|slot| (self.policy.rank(slot), slot)).collect();
    }
}
