//! The concurrent index: one short lock around the core, lease counts beside it, waiting on fills.
//! Knows keys, slots and what they hold; no heaps, no streams but their marks, no driver calls.
//!
//! Invariant: no value and no key is dropped under the lock, and of the user's code only `K::eq` runs
//! there, before anything changes. (`rows` also clones keys there; it says so.)

#[cfg(feature = "testing")]
pub(crate) mod words;

use crate::cache::core::{Core, Counters, Place, Removed, Row, Sum};
use crate::cache::count::{Count, Counts};
use crate::cache::flight::{Flights, Gate, Patience, with_wait_graph_locked};
use crate::cache::front::Front;
use crate::cache::options::Mode;
use crate::cache::planted::{Bug, planted};
use crate::cache::policy::Order;
use crate::cache::policy::chosen::Chosen;
use crate::cache::slot::Stored;
use crate::device::stream::StreamSet;
use crate::error::Error;
use crate::sync::{BriefGuard, BriefMutex};
use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

#[cfg(not(hapax_loom))]
type Hasher = hashbrown::DefaultHashBuilder;
/// The same in every execution of a model: where a lookup without the lock goes depends on it.
#[cfg(hapax_loom)]
type Hasher = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

/// Aligned, so that the lock and what stands behind it share one cache line with nothing else.
#[repr(C, align(64))]
pub(crate) struct Index<K, S, P: Order = Chosen> {
    state: BriefMutex<State<K, S, P>>,
    counts: Counts,
    hasher: Hasher,
    /// In relaxed mode: hits without the lock.
    front: Option<Front<K, S>>,
}

#[repr(C)]
struct State<K, S, P: Order> {
    core: Core<K, S, P>,
    flights: Flights,
}

/// A lease as the index gives it out: one count on the slot, owed back by `release`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hit<'a, V> {
    pub(crate) slot: u32,
    /// The slot's, so that a release need not look for it.
    pub(crate) count: &'a Count,
    pub(crate) view: V,
    /// A write on another stream may still be pending.
    pub(crate) write_pending: bool,
}

/// What `lookup` found.
pub(crate) enum Found<'a, V> {
    Hit(Hit<'a, V>),
    /// The vacancy of this slot is the caller's to fill or close.
    Miss(u32),
    /// Another thread fills it.
    Busy,
}

/// Bytes and entries now, and what was counted so far.
pub(crate) struct Figures {
    pub(crate) resident: Sum,
    pub(crate) retired: Sum,
    pub(crate) reserved: Sum,
    pub(crate) leased_bytes: u64,
    pub(crate) budget_bytes: u64,
    pub(crate) counters: Counters,
}

/// What `remove` found.
pub(crate) enum Take<K, S> {
    Absent,
    Leased,
    Taken(K, S),
}

impl<K: Hash + Eq, S: Stored, P: Order> Index<K, S, P> {
    pub(crate) fn new(policy: P, budget_bytes: u64, max_entries: usize, granule_bytes: u64) -> Self {
        Index {
            state: BriefMutex::new(State {
                core: Core::new(policy, budget_bytes, max_entries, granule_bytes),
                flights: Flights::new(),
            }),
            counts: Counts::new(),
            hasher: Hasher::default(),
            front: None,
        }
    }

    pub(crate) fn in_mode(mode: Mode, policy: P, budget_bytes: u64, max_entries: usize, granule_bytes: u64) -> Self {
        match mode {
            Mode::Exact => Self::new(policy, budget_bytes, max_entries, granule_bytes),
            Mode::Relaxed => Self::relaxed(policy, budget_bytes, max_entries, granule_bytes),
        }
    }

    /// Where a hit does not take the lock, and the order is told of it when an eviction meets the entry.
    pub(crate) fn relaxed(policy: P, budget_bytes: u64, max_entries: usize, granule_bytes: u64) -> Self {
        let front = Front::new();
        Index {
            state: BriefMutex::new(State {
                core: Core::behind(Some(&front), policy, budget_bytes, max_entries, granule_bytes),
                flights: Flights::new(),
            }),
            counts: Counts::lock_free(),
            hasher: Hasher::default(),
            front: Some(front),
        }
    }

    /// A lease if the key is resident. Waits for nothing. Both halves of what the cache calls one after the other.
    #[cfg(test)]
    pub(crate) fn get<Q>(&self, key: &Q, stream: StreamSet) -> Option<Hit<'_, S::View>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        match self.get_at_once(key, stream) {
            Ok(hit) => Some(hit),
            Err(hash) => self.get_hashed(hash, key, stream),
        }
    }

    /// In relaxed mode a lease, if that is all that it takes; else the key's hash, for `get_hashed`. Apart, so that the short
    /// way through both is nothing but the hit.
    #[inline(always)]
    pub(crate) fn get_at_once<Q>(&self, key: &Q, stream: StreamSet) -> Result<Hit<'_, S::View>, u32>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        let hash = self.hash(key);
        self.front.as_ref().and_then(|front| front.hit(self, hash, key, stream)).ok_or(hash)
    }

    #[inline]
    pub(crate) fn get_hashed<Q>(&self, hash: u32, key: &Q, stream: StreamSet) -> Option<Hit<'_, S::View>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq,
    {
        if let Some(front) = &self.front {
            if let Some(hit) = front.search(self, hash, key, stream) {
                return Some(hit);
            }
        }
        let mut state = self.state.lock();
        match state.core.find(hash, key) {
            Place::Resident(slot) => Some(self.hit(state, slot, stream)),
            Place::Absent | Place::Vacant(_) => {
                state.core.counters.misses += 1;
                None
            }
        }
    }

    /// A lease, or the key's vacancy, waiting for another's fill as long as `patience` lasts.
    pub(crate) fn lookup<Q>(&self, key: &Q, stream: StreamSet, patience: Patience) -> Result<Found<'_, S::View>, Error>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
    {
        let hash = self.hash(key);
        if let Some(front) = &self.front {
            let hit = front.hit(self, hash, key, stream);
            if let Some(hit) = hit.or_else(|| front.search(self, hash, key, stream)) {
                return Ok(Found::Hit(hit));
            }
        }
        let mut owned: Option<K> = None; // declared before the guard, so that it is dropped after it
        let mut state = self.state.lock();
        loop {
            match state.core.find(hash, key) {
                Place::Resident(slot) => return Ok(Found::Hit(self.hit(state, slot, stream))),
                Place::Vacant(_) if patience == Patience::Never => return Ok(Found::Busy),
                Place::Vacant(slot) => {
                    let gate = state.flights.gate(slot);
                    if !gate.wait(state, patience)? {
                        return Ok(Found::Busy);
                    }
                    state = self.state.lock();
                }
                Place::Absent => match owned.take() {
                    Some(key) => {
                        let State { core, flights } = &mut *state;
                        let slot = core.open(hash, key, &self.counts);
                        flights.open(slot);
                        return Ok(Found::Miss(slot));
                    }
                    None => {
                        drop(state);
                        owned = Some(key.to_owned());
                        state = self.state.lock();
                    }
                },
            }
        }
    }

    /// One lease more of a held one's entry.
    pub(crate) fn share(&self, slot: u32) {
        self.counts.at(slot).share();
    }

    /// Ends a lease. Takes the lock only if its entry was passed over or retired meanwhile.
    pub(crate) fn release(&self, slot: u32) {
        self.release_counted(slot, self.counts.at(slot));
    }

    /// As `release`, with the slot's count at hand.
    #[inline]
    pub(crate) fn release_counted(&self, slot: u32, count: &Count) {
        if count.release() {
            self.released(slot);
        }
    }

    #[cold]
    fn released(&self, slot: u32) {
        self.state.lock().core.released(slot, &self.counts);
    }

    pub(crate) fn reserve(&self, charge: u64) -> Result<Removed<K, S>, Error> {
        let mut state = self.state.lock();
        let reserved = state.core.reserve(charge, &self.counts);
        Self::counted(&mut state, reserved)
    }

    pub(crate) fn unreserve(&self, charge: u64) {
        self.state.lock().core.unreserve(charge);
    }

    /// Closes a vacancy that was not filled. The next waiter fills.
    pub(crate) fn close(&self, slot: u32) {
        let (key, gate) = if planted(Bug::LockOrder) {
            with_wait_graph_locked(|| self.close_locked(slot))
        } else {
            self.close_locked(slot)
        };
        ring(gate);
        drop(key); // outside of the lock: it is the user's code
    }

    fn close_locked(&self, slot: u32) -> (K, Option<Arc<Gate>>) {
        let mut state = self.state.lock();
        (state.core.close(slot), state.flights.close(slot))
    }

    /// Fills a vacancy whose reservation covers the value, and leases it.
    pub(crate) fn commit(
        &self,
        slot: u32,
        value: S,
        reserved_bytes: u64,
        cost_ns: u64,
        stream: StreamSet,
    ) -> Hit<'_, S::View> {
        let mut state = self.state.lock();
        let (view, write_pending) = state.core.commit(slot, value, reserved_bytes, cost_ns, &self.counts, stream);
        let gate = state.flights.close(slot);
        drop(state);
        ring(gate);
        Hit { slot, count: self.counts.at(slot), view, write_pending }
    }

    /// Puts an entry in, replacing an unleased one. The value is taken apart only when nothing can refuse it
    /// or panic any more, as `K::hash` and `K::eq` may.
    pub(crate) fn insert(
        &self,
        key: K,
        charge: u64,
        cost_ns: u64,
        value: impl FnOnce() -> S,
    ) -> Result<Removed<K, S>, (K, Error)> {
        let hash = self.hash(&key);
        let mut state = self.state.lock();
        let place = state.core.find(hash, &key);
        let room = state.core.make_room_for(place, charge, &self.counts);
        match Self::counted(&mut state, room) {
            Ok(out) => {
                if planted(Bug::BudgetRace) {
                    drop(state);
                    state = self.state.lock();
                }
                state.core.admit(hash, key, value(), cost_ns, &self.counts);
                Ok(out)
            }
            Err(error) => {
                drop(state);
                Err((key, error))
            }
        }
    }

    pub(crate) fn remove<Q>(&self, key: &Q) -> Take<K, S>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        let hash = self.hash(key);
        let mut state = self.state.lock();
        match state.core.find(hash, key) {
            Place::Absent | Place::Vacant(_) => Take::Absent,
            Place::Resident(slot) if !self.counts.at(slot).close() => Take::Leased,
            Place::Resident(slot) => {
                let (key, value) = state.core.remove(slot, &self.counts);
                Take::Taken(key, value)
            }
        }
    }

    pub(crate) fn retire<Q>(&self, key: &Q) -> Removed<K, S>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        let hash = self.hash(key);
        self.removing(|core, counts, out| {
            let place = core.find(hash, key);
            core.collect(counts, out);
            if let Place::Resident(slot) = place {
                core.retire(slot, counts, out);
            }
        })
    }

    pub(crate) fn collect(&self) -> Removed<K, S> {
        self.removing(Core::collect)
    }

    pub(crate) fn clear(&self) -> Removed<K, S> {
        self.removing(Core::clear)
    }

    /// Takes out all that has no lease.
    pub(crate) fn drain(&self) -> Removed<K, S> {
        self.removing(Core::drain)
    }

    pub(crate) fn evict_bytes(&self, bytes: u64) -> Removed<K, S> {
        self.removing(|core, counts, out| core.evict_bytes(bytes, counts, out))
    }

    pub(crate) fn set_budget_bytes(&self, budget_bytes: u64) -> Result<Removed<K, S>, Error> {
        self.state.lock().core.set_budget_bytes(budget_bytes, &self.counts)
    }

    /// What a key leads to: nothing, or its entry's charge, cost, and whether it is leased.
    pub(crate) fn peek<Q>(&self, key: &Q) -> Option<(u64, u64, bool)>
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        let hash = self.hash(key);
        let state = self.state.lock();
        match state.core.find(hash, key) {
            Place::Resident(slot) => {
                let leased = self.counts.at(slot).is_leased();
                Some((state.core.charge_bytes(slot), state.core.cost_ns(slot, &self.counts), leased))
            }
            Place::Absent | Place::Vacant(_) => None,
        }
    }

    /// The charge and cost of a leased slot. An entry that was retired meanwhile has no cost any more.
    pub(crate) fn weight(&self, slot: u32) -> (u64, u64) {
        let state = self.state.lock();
        (state.core.charge_bytes(slot), state.core.cost_ns(slot, &self.counts))
    }

    /// Whether a held lease is of `key`.
    pub(crate) fn is_key<Q>(&self, slot: u32, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        self.state.lock().core.is_key(slot, key)
    }

    /// Clones every key under the lock: `K::clone` must not come back to this cache.
    pub(crate) fn rows(&self) -> Vec<Row<K>>
    where
        K: Clone,
    {
        self.state.lock().core.rows(&self.counts)
    }

    pub(crate) fn figures(&self) -> Figures {
        let state = self.state.lock();
        let (resident, retired, reserved) = state.core.sums();
        let unseen = self.front.as_ref().map_or(0, Front::hits);
        Figures {
            resident,
            retired,
            reserved,
            leased_bytes: state.core.leased_bytes(&self.counts),
            budget_bytes: state.core.budget_bytes(),
            counters: Counters { hits: state.core.counters.hits + unseen, ..state.core.counters },
        }
    }

    /// What the budget leaves now. O(1).
    #[cfg(feature = "persist")]
    pub(crate) fn room_bytes(&self) -> u64 {
        let state = self.state.lock();
        let (resident, retired, reserved) = state.core.sums();
        state.core.budget_bytes() - (resident.bytes + retired.bytes + reserved.bytes)
    }

    /// Reads what a leased slot holds.
    pub(crate) fn with_value<R>(&self, slot: u32, read: impl FnOnce(&S) -> R) -> R {
        read(self.state.lock().core.value(slot))
    }

    /// Changes what a leased slot holds; in relaxed mode only while a write to it is pending.
    pub(crate) fn change_value(&self, slot: u32, change: impl FnOnce(&mut S)) {
        self.state.lock().core.change_pending(slot, &self.counts, change);
    }

    pub(crate) fn reject(&self) {
        self.state.lock().core.counters.rejections += 1;
    }

    pub(crate) fn validate(&self) {
        self.state.lock().core.validate(&self.counts);
    }

    #[inline(always)]
    fn hit(&self, mut state: BriefGuard<'_, State<K, S, P>>, slot: u32, stream: StreamSet) -> Hit<'_, S::View> {
        let count = self.counts.at(slot);
        let (view, write_pending) = state.core.hit(slot, count, stream);
        drop(state);
        if planted(Bug::LeaseOutsideLock) {
            count.take();
        }
        Hit { slot, count, view, write_pending }
    }

    fn removing(&self, remove: impl FnOnce(&mut Core<K, S, P>, &Counts, &mut Removed<K, S>)) -> Removed<K, S> {
        let mut out = Removed::new();
        remove(&mut self.state.lock().core, &self.counts, &mut out);
        out
    }

    fn counted<R>(state: &mut State<K, S, P>, result: Result<R, Error>) -> Result<R, Error> {
        state.core.counters.rejections += u64::from(result.is_err());
        result
    }

    fn hash<Q: ?Sized + Hash>(&self, key: &Q) -> u32 {
        spread(self.hasher.hash_one(key))
    }
}

/// The hasher is a quick one: with one of its seeds in twenty, keys that differ in their upper half alone come to lie close together.
#[inline(always)]
fn spread(hash: u64) -> u32 {
    (hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
}

fn ring(gate: Option<Arc<Gate>>) {
    if let Some(gate) = gate {
        gate.ring();
    }
}

#[cfg(all(test, not(hapax_loom)))]
mod tests;
