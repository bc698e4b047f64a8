//! Who fills what, and who waits for whom: one filler per key, and no cycle of waiting threads.
//! Knows slots and threads; no keys, no values.

use crate::cache::planted::{Bug, planted};
use crate::error::Error;
use crate::sync::{AtomicBool, BriefGuard, Condvar, Mutex, Ordering, ThreadId, current_thread, global};
use std::sync::Arc;
use std::time::Instant;

/// The open vacancies of one cache. Lives under its lock; there are few, one per filling thread at a time.
pub(crate) struct Flights(Vec<Flight>);

struct Flight {
    slot: u32,
    filler: ThreadId,
    /// Made by the first that waits.
    gate: Option<Arc<Gate>>,
}

/// Where threads wait for one vacancy to close.
pub(crate) struct Gate {
    filler: ThreadId,
    closed: AtomicBool,
    /// Whether the bell has rung: once, after it closed.
    rung: Mutex<bool>,
    bell: Condvar,
}

/// How long a lookup waits for another's fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    Never,
    Until(Instant),
    Forever,
}

global! {
    /// Which thread waits without a time limit at which gate, over all caches. Only waits that would
    /// close no cycle enter, so following it from anywhere ends.
    WAITING: Vec<(ThreadId, Arc<Gate>)> = Vec::new()
}

impl Flights {
    pub(crate) fn new() -> Self {
        Flights(Vec::new())
    }

    /// The calling thread fills the slot.
    pub(crate) fn open(&mut self, slot: u32) {
        self.0.push(Flight { slot, filler: current_thread(), gate: None });
    }

    /// The vacancy closed, filled or not. Whoever waits is woken by [`Gate::ring`] on what this returns,
    /// once the lock is free.
    pub(crate) fn close(&mut self, slot: u32) -> Option<Arc<Gate>> {
        let at = self.0.iter().position(|flight| flight.slot == slot).expect("an open vacancy has a flight");
        let gate = self.0.swap_remove(at).gate?;
        gate.closed.store(true, Ordering::Release);
        Some(gate)
    }

    pub(crate) fn gate(&mut self, slot: u32) -> Arc<Gate> {
        let flight = self.0.iter_mut().find(|flight| flight.slot == slot);
        let flight = flight.expect("an open vacancy has a flight");
        let filler = flight.filler;
        let new = || {
            let (closed, rung, bell) = (AtomicBool::new(false), Mutex::new(false), Condvar::new());
            Arc::new(Gate { filler, closed, rung, bell })
        };
        flight.gate.get_or_insert_with(new).clone()
    }
}

impl Gate {
    /// Lets go of the cache's lock and waits until the gate has closed. `false`: time ran out, and it had not.
    pub(crate) fn wait<T>(self: &Arc<Self>, guard: BriefGuard<'_, T>, patience: Patience) -> Result<bool, Error> {
        match patience {
            Patience::Never => Ok(false),
            Patience::Forever => {
                self.enter()?;
                drop(guard);
                let mut rung = self.rung.lock();
                while !*rung {
                    rung = self.bell.wait(rung);
                }
                drop(rung);
                leave();
                Ok(true)
            }
            Patience::Until(deadline) => {
                if self.leads_back(&WAITING.lock()) {
                    return Err(Error::WouldDeadlock);
                }
                drop(guard);
                let (mut rung, mut timed_out) = (self.rung.lock(), false);
                while !*rung && !timed_out {
                    let left = deadline.saturating_duration_since(Instant::now());
                    (rung, timed_out) = self.bell.wait_for(rung, left);
                }
                Ok(*rung || self.is_closed()) // also if it closed while the time ran out
            }
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn ring(&self) {
        if planted(Bug::LostWakeUp) {
            return;
        }
        *self.rung.lock() = true;
        self.bell.notify_all();
    }

    fn enter(self: &Arc<Self>) -> Result<(), Error> {
        let mut waiting = WAITING.lock();
        if self.leads_back(&waiting) {
            return Err(Error::WouldDeadlock);
        }
        if planted(Bug::WaitRace) {
            drop(waiting);
            waiting = WAITING.lock();
        }
        waiting.push((current_thread(), self.clone()));
        Ok(())
    }

    /// Whether the gate's filler waits, directly or through others, for the calling thread.
    fn leads_back(&self, waiting: &[(ThreadId, Arc<Gate>)]) -> bool {
        let me = current_thread();
        let mut gate = self;
        loop {
            if gate.is_closed() {
                return false; // its filler is done, whoever stands there is about to go on
            }
            if gate.filler == me {
                return true;
            }
            match waiting.iter().find(|(thread, _)| *thread == gate.filler) {
                Some((_, next)) => gate = next,
                None => return false,
            }
        }
    }
}

fn leave() {
    let me = current_thread();
    WAITING.lock().retain(|(thread, _)| *thread != me);
}

/// For the planted bug: the two locks in the wrong order.
pub(crate) fn with_wait_graph_locked<R>(then: impl FnOnce() -> R) -> R {
    let _waiting = WAITING.lock();
    then()
}
